//! A client of the file server: it sends one file, and says what became of it.
//!
//! How to run it stands in `file_server.rs`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::env;
use std::error::Error;
use std::path::PathBuf;

use bytes::Bytes;
use ports::config::Config;
use ports::{Inbox, Node, PortId, Reason};
use reactor::Reactor;
use reactor::task::AsyncFile;
use serde::{Deserialize, Serialize};

/// What the server is sent.
#[derive(Serialize, Deserialize)]
enum Upload {
    WriteFile { source: PortId, name: String },
    Data { source: PortId, bytes: Bytes },
}

/// What it says, and what the client tells itself.
#[derive(Serialize, Deserialize)]
enum Report {
    #[serde(skip)]
    Found {
        server: PortId,
    },
    Next,
    Written {
        len: u64,
    },
    Failed {
        why: String,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let path = args.next().ok_or("usage: file_client FILE [CONFIGURATION]")?;
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &Config::from_args(args)?.settings()?)?;
    let client = node.port_async(|inbox| send_file(inbox, path.into()));
    let end = reactor.block_on(&mut (), node.ended(&client))?;
    if end.is_normal() { Ok(()) } else { Err(end.to_string().into()) }
}

/// Sends a block whenever the server asks for one, and at the end one that is empty.
async fn send_file(mut inbox: Inbox<Report>, path: PathBuf) -> Result<(), Reason> {
    let (node, source) = (inbox.node().clone(), inbox.this().clone());
    let file = AsyncFile::open(node.reactor(), &path).await?;
    let server = find_server(&mut inbox).await?;
    // If the server ends, so does this.
    node.link(&server, &source).detach();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    node.send(&server, Upload::WriteFile { source: source.clone(), name });
    println!("waiting");
    let mut sent = 0;
    loop {
        match inbox.next().await {
            Report::Next => {
                let bytes = file.read_at(sent, BLOCK_LEN).await?;
                sent += bytes.len() as u64;
                node.send(&server, Upload::Data { source: source.clone(), bytes });
            }
            Report::Written { len } => {
                println!("{len} bytes are written");
                return Ok(());
            }
            Report::Failed { why } => return Err(Reason::new("failed", why)),
            Report::Found { .. } => {}
        }
    }
}

/// The first server that comes to be known.
async fn find_server(inbox: &mut Inbox<Report>) -> Result<PortId, Reason> {
    let client = inbox.this().clone();
    let _watch = inbox.node().grp_mon("eg_file_servers", move |node, change| {
        if let Some(server) = change.members.first().cloned() {
            node.send(&client, Report::Found { server });
        }
    })?;
    loop {
        if let Report::Found { server } = inbox.next().await {
            return Ok(server);
        }
    }
}

const BLOCK_LEN: usize = 64 * 1024;

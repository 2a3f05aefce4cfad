//! A file server: it writes what it is sent into files of one directory, one after the other.
//!
//! All nodes need one secret: `export PERL_ANYEVENT_MP_RC=/tmp/rc` in both terminals, and once
//! `cargo run -p ports --bin aemp -- gensecret`. Then, in one terminal,
//! `cargo run -p ports --example file_server -- /tmp/incoming binds 127.0.0.1:4040`, and in the other
//! `cargo run -p ports --example file_client -- README.md seeds 127.0.0.1:4040`.
//!
//! The server takes its messages in the order that suits it: while it writes a file, the other requests wait
//! in its queue. A client that says nothing for five seconds has had its chance.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::env;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ports::config::Config;
use ports::{ChildSpec, Inbox, Node, PortId, SupervisorSpec};
use reactor::Reactor;
use reactor::task::AsyncFile;
use serde::{Deserialize, Serialize};

/// What clients send.
#[derive(Serialize, Deserialize)]
enum Upload {
    /// `["write_file", source, name]`
    WriteFile { source: PortId, name: String },
    /// `["data", source, bytes]`; without bytes that was all.
    Data {
        source: PortId,
        #[serde(default)]
        bytes: Bytes,
    },
}

/// What they are told.
#[derive(Serialize, Deserialize)]
enum Report {
    /// It is time for more data.
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
    let directory = args.next().ok_or("usage: file_server DIRECTORY [CONFIGURATION]")?;
    let directory = PathBuf::from(directory);
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &Config::from_args(args)?.settings()?)?;
    let start = move |node: &Node| {
        let directory = directory.clone();
        let server = node.port_async(|inbox| serve(inbox, directory));
        node.monitor(&server, |_, reason| println!("the file server was killed: {reason}"))
            .detach();
        node.grp_reg("eg_file_servers", &server)?.detach();
        Ok(server.id())
    };
    let server = ChildSpec::new("file server", start);
    let supervisor = node.supervise(SupervisorSpec::one_for_one().child(server))?;
    println!("server ready");
    let end = reactor.block_on(&mut (), node.ended(supervisor.port()))?;
    Err(end.to_string().into())
}

async fn serve(mut inbox: Inbox<Upload>, directory: PathBuf) {
    loop {
        // Data can only be of a file that was given up.
        let Upload::WriteFile { source, name } = inbox.next().await else { continue };
        println!("writing {name:?}");
        let report = match write_file(&mut inbox, &source, &directory, &name).await {
            Ok(len) => {
                println!("{name:?} is written");
                Report::Written { len }
            }
            Err(error) => {
                println!("{name:?} failed: {error}");
                Report::Failed { why: error.to_string() }
            }
        };
        inbox.node().send(&source, report);
    }
}

async fn write_file(
    inbox: &mut Inbox<Upload>,
    source: &PortId,
    directory: &Path,
    name: &str,
) -> Result<u64, Box<dyn Error>> {
    let path = path_in(directory, name)?;
    let reactor = inbox.node().reactor().clone();
    // No file that is there is overwritten, and no link followed.
    let options = OpenOptions::new().write(true).create_new(true).clone();
    let file = AsyncFile::open_with(&reactor, &path, &options).await?;
    let result = fill(&file, inbox, source).await;
    if result.is_err() {
        reactor.unblock(|| fs::remove_file(path)).await??;
    }
    result
}

/// Where a file of that name is: in the directory and nowhere else.
fn path_in(directory: &Path, name: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(directory.join(name)),
        _ => Err(format!("{name:?} cannot be the name of a file here")),
    }
}

/// Writes what comes from one client, whatever comes from others meanwhile.
async fn fill(
    file: &AsyncFile,
    inbox: &mut Inbox<Upload>,
    source: &PortId,
) -> Result<u64, Box<dyn Error>> {
    let mut len = 0;
    loop {
        inbox.node().send(source, Report::Next);
        let data = |message: &Upload| match message {
            Upload::Data { source: from, bytes } if from == source => Some(bytes.clone()),
            Upload::Data { .. } | Upload::WriteFile { .. } => None,
        };
        let bytes = inbox.receive_map(Some(PATIENCE), data).await;
        let bytes = bytes.ok_or_else(|| format!("timeout waiting for data from {source}"))?;
        if bytes.is_empty() {
            return Ok(len);
        }
        let offset = len;
        len += bytes.len() as u64;
        file.write_at(offset, bytes).await?;
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

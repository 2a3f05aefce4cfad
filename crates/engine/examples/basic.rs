//! The smallest client: downloads a torrent into the folder it is started in, and ends when all is there.
//!
//! ```text
//! cargo run -p engine --example basic -- FILE.torrent
//! ```

use std::error::Error;
use std::time::Duration;

use engine::{AddOptions, EventKind, Session, SessionConfig};
use torrent::metainfo::Metainfo;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("name a torrent: basic FILE.torrent")?;
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    let mut config = SessionConfig::default();
    // `BIND=127.0.0.1` keeps it on this machine.
    config.listen.bind = std::env::var("BIND").ok().map(|ip| ip.parse()).transpose()?;
    let session = Session::start(config)?;
    let events = session.subscribe()?;
    session.add(metainfo, AddOptions { dir: ".".into(), ..AddOptions::default() })?;
    for event in events {
        match event.kind {
            EventKind::Completed => break,
            EventKind::DiskFailed(why) => return Err(why.into()),
            _ => {}
        }
    }
    session.shutdown(Duration::from_secs(3));
    Ok(())
}

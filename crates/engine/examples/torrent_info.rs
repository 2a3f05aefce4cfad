//! All that a torrent file says, then the path of each of its files on a line. Needs no session, and
//! touches nothing but that file.
//!
//! ```text
//! cargo run -p engine --example torrent_info -- FILE.torrent
//! ```

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;

use torrent::metainfo::Metainfo;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("name a torrent: torrent_info FILE.torrent")?;
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    println!("{metainfo:#}\n");
    for file in metainfo.layout().files() {
        println!("{file}");
    }
    Ok(())
}

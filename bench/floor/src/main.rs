//! The floor under every transfer: one thread sends a file over a bare socket in messages of 16 KiB,
//! one thread receives, hashes and writes it. No protocol, no choices, no other peers.
//!
//! ```text
//! floor send FILE ADDR [CONGESTION]     listens on ADDR, serves one connection
//! floor receive FILE ADDR PIECE_LEN     connects to ADDR, writes FILE, prints a hash over all pieces
//! ```
//!
//! Measured from outside, by wall clock, CPU seconds and resident memory.
#![expect(clippy::print_stdout, reason = "it prints one line, and is no part of the product")]

use std::error::Error;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;

use sha1::{Digest, Sha1};

const BLOCK_LEN: usize = 16 * 1024;
/// What a `piece` message has before its data.
const HEAD_LEN: usize = 13;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", file, addr] => send(file, addr, "cubic"),
        ["send", file, addr, congestion] => send(file, addr, congestion),
        ["receive", file, addr, piece_len] => receive(file, addr, piece_len.parse()?),
        _ => {
            Err("usage: floor send FILE ADDR [CONGESTION] | floor receive FILE ADDR PIECE_LEN"
                .into())
        }
    }
}

fn send(path: &str, addr: &str, congestion: &str) -> Result<(), Box<dyn Error>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let (mut stream, _) = TcpListener::bind(addr)?.accept()?;
    rustix::net::sockopt::set_tcp_congestion(&stream, congestion)?;
    stream.write_all(&len.to_be_bytes())?;
    let (head, mut block) = ([0; HEAD_LEN], vec![0; BLOCK_LEN]);
    let mut offset = 0;
    while offset < len {
        let count = file.read_at(&mut block, offset)?;
        write_all(&mut stream, &head, &block[..count])?;
        offset += count as u64;
    }
    Ok(())
}

fn write_all(stream: &mut TcpStream, head: &[u8], data: &[u8]) -> std::io::Result<()> {
    let sent = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(data)])?;
    match sent.checked_sub(head.len()) {
        Some(of_data) => stream.write_all(&data[of_data..]),
        None => {
            stream.write_all(&head[sent..])?;
            stream.write_all(data)
        }
    }
}

fn receive(path: &str, addr: &str, piece_len: usize) -> Result<(), Box<dyn Error>> {
    let file = File::create(path)?;
    let mut stream = TcpStream::connect(addr)?;
    let mut len = [0; 8];
    stream.read_exact(&mut len)?;
    let len = u64::from_be_bytes(len);
    let (mut piece, mut all) = (Sha1::new(), Sha1::new());
    let mut message = vec![0; HEAD_LEN + BLOCK_LEN];
    let mut offset = 0;
    while offset < len {
        let count = BLOCK_LEN.min(usize::try_from(len - offset)?);
        stream.read_exact(&mut message[..HEAD_LEN + count])?;
        let data = &message[HEAD_LEN..HEAD_LEN + count];
        piece.update(data);
        file.write_all_at(data, offset)?;
        offset += count as u64;
        if offset.is_multiple_of(piece_len as u64) || offset == len {
            all.update(piece.finalize_reset());
        }
    }
    let hash: String = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{len} bytes, {hash}");
    Ok(())
}

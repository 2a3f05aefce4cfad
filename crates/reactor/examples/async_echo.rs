//! Sends back whatever comes, a task for each connection, and says so of each that ends.
//!
//! `cargo run -p reactor --example async_echo -- 127.0.0.1:7000`, and then `nc 127.0.0.1 7000`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use futures_lite::io::copy;
use reactor::task::{AsyncListener, AsyncStream, Handle};
use reactor::{ListenOptions, Reactor};

/// The program's state: how many bytes went back.
type Total = u64;

fn run(addr: SocketAddr) -> io::Result<()> {
    let mut reactor = Reactor::<Total>::new()?;
    let listener = reactor.handle().listen(addr, &ListenOptions::default())?;
    println!("listening on {}", listener.local_addr().expect("bound to an address"));
    let serve = serve(listener, reactor.handle());
    reactor.block_on(&mut 0, serve)?
}

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let Ok(addr) = name.parse() else {
        eprintln!("usage: async_echo [IP:PORT]");
        return if name == "--help" { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    let Err(error) = run(addr) else { return ExitCode::SUCCESS };
    eprintln!("async_echo: cannot listen at {addr}: {error}");
    ExitCode::FAILURE
}

async fn serve(mut listener: AsyncListener, handle: Handle<Total>) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let own = handle.clone();
        handle.spawn(async move {
            let result = echo(&stream).await;
            own.with(move |total, _| tell(&peer.to_string(), result, total)).await
        });
    }
}

async fn echo(mut stream: &AsyncStream) -> io::Result<u64> {
    stream.set_idle_timeout(Some(Duration::from_secs(60)));
    let count = copy(stream, stream).await?;
    stream.close().await?;
    Ok(count)
}

fn tell(peer: &str, result: io::Result<u64>, total: &mut Total) {
    *total += result.as_ref().map_or(0, |count| *count);
    match result {
        Ok(count) => eprintln!("{peer}: {count} bytes went back, {total} in all"),
        Err(error) => eprintln!("{peer}: {error}"),
    }
}

//! Echo on tokio, current-thread: a task a connection, one read buffer shared by all.
//!
//! `poll_read` rather than `readable` and `try_read`: only the former knows that a read that fell
//! short has emptied the socket, and saves the call that would say so.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; peers::BUFFER_LEN]);
}

fn main() -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = peers::listen()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    })
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    while let Some(unsent) = read_and_send(&mut stream).await? {
        let mut sent = 0;
        while sent < unsent.len() {
            stream.writable().await?;
            sent += unblocked(stream.try_write(&unsent[sent..]))?;
        }
    }
    Ok(())
}

/// One read, sent back as far as the kernel takes it: what it does not, or `None` at the end.
async fn read_and_send(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            let data = buffer.filled();
            if data.is_empty() {
                return Ok(None).into();
            }
            let sent = unblocked(stream.try_write(data))?;
            Ok(Some(data[sent..].to_vec())).into()
        })
    })
    .await
}

fn unblocked(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

//! Echo on the reactor's tasks: a task a connection, one read buffer shared by all.
#![expect(clippy::print_stdout, reason = "it says where it listens, and is no part of the product")]

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use reactor::task::AsyncStream;
use reactor::{ListenOptions, Reactor};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_LEN]);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut reactor = Reactor::<()>::new()?;
    let handle = reactor.handle();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
    let mut listener = handle.listen(addr, &options)?;
    println!("listening {}", listener.local_addr().ok_or("it listens nowhere")?.port());
    reactor.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            handle.spawn(serve(stream));
        }
    });
    reactor.run(&mut ())?;
    Ok(())
}

async fn serve(mut stream: AsyncStream) -> io::Result<()> {
    while let Some(unsent) = read_and_send(&mut stream).await? {
        let mut sent = 0;
        while sent < unsent.len() {
            let write =
                poll_fn(|context| Pin::new(&mut stream).poll_write(context, &unsent[sent..]));
            sent += write.await?;
        }
    }
    Ok(())
}

/// One read, sent back as far as the kernel takes it: what it does not, or `None` at the end.
async fn read_and_send(stream: &mut AsyncStream) -> io::Result<Option<Vec<u8>>> {
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let len = ready!(Pin::new(&mut *stream).poll_read(context, buffer))?;
            if len == 0 {
                return Poll::Ready(Ok(None));
            }
            let sent = match Pin::new(&mut *stream).poll_write(context, &buffer[..len]) {
                Poll::Ready(result) => result?,
                Poll::Pending => 0,
            };
            Poll::Ready(Ok(Some(buffer[sent..len].to_vec())))
        })
    })
    .await
}

/// As the other servers of this measurement have it.
const BUFFER_LEN: usize = 16 * 1024;

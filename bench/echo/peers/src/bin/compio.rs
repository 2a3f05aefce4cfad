//! Echo on compio, io_uring: a task a connection, read buffers that the kernel picks from a pool only
//! when there is something to put into them.

use std::io;
use std::num::NonZero;

use compio::buf::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncReadManaged, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;

fn main() -> io::Result<()> {
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity(4096)
        .coop_taskrun(true)
        .single_issuer(true)
        .defer_taskrun(true)
        .buffer_pool_size(BUFFERS)
        .buffer_pool_buffer_len(peers::BUFFER_LEN);
    RuntimeBuilder::new().with_proactor(proactor).build()?.block_on(async {
        let listener = TcpListener::from_std(peers::listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            compio::runtime::spawn(serve(stream)).detach();
        }
    })
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    loop {
        match stream.read_managed(0).await {
            Ok(Some(buffer)) => stream.write_all(buffer).await.0?,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                // More of them have something to say than there are buffers in the pool.
                let BufResult(result, buffer) = stream.read(Vec::with_capacity(4096)).await;
                if result? == 0 {
                    return Ok(());
                }
                stream.write_all(buffer).await.0?;
            }
            Err(error) => return Err(error),
        }
    }
}

const BUFFERS: NonZero<u16> = NonZero::new(2048).expect("not zero");

//! TLS under the connections of tasks, on the real network and on a simulated one.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use futures_lite::future::zip;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use reactor::simulated::{World, WorldOptions};
use reactor::{ConnectOptions, ListenOptions, Reactor, Tls};
use rustls::version::TLS13;

use crate::stage::pair;

#[test]
fn tasks_talk_over_tls_and_end_one_way_and_then_the_other() {
    let (one, other) = pair(&TLS13);
    talk(Reactor::new().unwrap(), IpAddr::from([127, 0, 0, 1]), one, other);
    for seed in 0..10 {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let options = WorldOptions { partial_share: 0.5, ..WorldOptions::default() };
        let (one, other) = pair(&TLS13);
        talk(Reactor::simulated(World::new(seed, options).host(&[ip])), ip, one, other);
    }
}

fn talk(mut reactor: Reactor<()>, ip: IpAddr, client: Tls, server: Tls) {
    let handle = reactor.handle();
    let any = SocketAddr::new(ip, 0);
    let mut listener = handle.listen(any, &ListenOptions::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    reactor.spawn(async move {
        let client = async {
            let mut stream = handle.connect(addr, &ConnectOptions::default()).await?;
            stream.set_transport(Box::new(client));
            stream.write_all(&QUESTION).await?;
            stream.close().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            stream.set_transport(Box::new(server));
            let mut question = Vec::new();
            stream.read_to_end(&mut question).await?;
            stream.write_all(&question).await?;
            stream.flush().await?;
            stream.close().await
        };
        place.replace(Some(zip(client, server).await));
        handle.with(|(), reactor| reactor.stop()).await
    });
    reactor.run(&mut ()).unwrap();
    let (answer, served) = result.take().unwrap();
    served.unwrap();
    assert!(answer.unwrap() == QUESTION);
}

static QUESTION: [u8; 300_000] = [7; 300_000];

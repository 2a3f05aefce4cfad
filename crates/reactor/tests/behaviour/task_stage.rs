//! What the tests of tasks share.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use futures_lite::AsyncWriteExt;
use reactor::task::{AsyncListener, AsyncStream, Handle};
use reactor::{ConnectOptions, ListenOptions, Reactor};

use crate::stage::turn_until;

/// Turns until a task has ended, and returns what came of it.
pub(crate) fn finish<S: 'static, T: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    future: impl Future<Output = T> + 'static,
) -> T {
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    reactor.spawn(async move {
        let value = future.await;
        place.replace(Some(value));
    });
    turn_until(reactor, state, |_| result.borrow().is_some());
    result.take().unwrap()
}

pub(crate) fn listen<S: 'static>(reactor: &Reactor<S>, ip: IpAddr) -> (AsyncListener, SocketAddr) {
    let any = SocketAddr::new(ip, 0);
    let listener = reactor.handle().listen(any, &ListenOptions::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A server of tasks that sends back whatever comes.
pub(crate) fn serve_echo<S: 'static>(reactor: &Reactor<S>, ip: IpAddr) -> SocketAddr {
    let (mut listener, addr) = listen(reactor, ip);
    let handle = reactor.handle();
    reactor.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            handle.spawn(async move {
                futures_lite::io::copy(&stream, &stream).await?;
                (&stream).close().await
            });
        }
    });
    addr
}

pub(crate) async fn connect<S: 'static>(handle: &Handle<S>, addr: SocketAddr) -> AsyncStream {
    handle.connect(addr, &ConnectOptions::default()).await.unwrap()
}

//! Listeners, datagram sockets, and what is watched.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::{Owner, Reactor};
use crate::core::OtherKind;
use crate::guard::WatchGuard;
use crate::handler::{Acceptor, DatagramHandler};
use crate::{Address, Info, Interest, Interface, ListenOptions, Readiness, Token};

impl<S: 'static> Reactor<S> {
    /// Listens for connections.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn listen(
        &mut self,
        addr: impl Into<Address>,
        options: &ListenOptions,
        acceptor: Box<dyn Acceptor<S>>,
    ) -> io::Result<Token> {
        let token = self.core.borrow_mut().listen(&addr.into(), options)?;
        self.set_owner(token, Owner::Acceptor(acceptor));
        Ok(token)
    }

    /// Opens a datagram socket.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        handler: Box<dyn DatagramHandler<S>>,
    ) -> io::Result<Token> {
        let token = self.core.borrow_mut().bind_udp(addr, options)?;
        self.set_owner(token, Owner::Datagrams(handler));
        Ok(token)
    }

    /// The addresses of this machine on networks where a socket can join a [`Multicast`](crate::Multicast) group:
    /// those that are up, without the loopback. In a simulated world, its addresses.
    ///
    /// # Errors
    /// As the system says.
    pub fn interfaces(&self) -> io::Result<Vec<Interface>> {
        self.core.borrow().backend.interfaces()
    }

    /// Sends a datagram. One that finds no room is dropped, as the network does.
    ///
    /// # Errors
    /// As the system says, and if there is no such socket.
    pub fn send_to(&mut self, token: Token, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        self.core.borrow_mut().send_to(token, addr, data).map(drop)
    }

    /// Sends a datagram that routers shall not cut up, to find out whether it gets there whole; others are cut up
    /// where they have to be. Returns whether there was room for it. In a simulated world it is as any.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); `EMSGSIZE` if the system knows that it is too long.
    pub fn send_whole(&mut self, token: Token, addr: SocketAddr, data: &[u8]) -> io::Result<bool> {
        let send = self.core.borrow_mut().send_datagrams(token, |backend, source| {
            backend.send_whole(source, addr, data).map(|()| data.len())
        });
        send.map(|count| count > 0)
    }

    /// Sends `data` as datagrams of `segment_len` bytes each, the last perhaps shorter, in as few system
    /// calls as there can be. Returns how many bytes there was room for: whole datagrams. If that is
    /// not all, [`notify_writable`](Self::notify_writable) tells when to go on.
    ///
    /// # Errors
    /// As the system says, and if there is no such socket.
    pub fn send_segments(
        &mut self,
        token: Token,
        addr: SocketAddr,
        data: &[u8],
        segment_len: usize,
    ) -> io::Result<usize> {
        self.core.borrow_mut().send_datagrams(token, |backend, source| {
            backend.send_segments(source, addr, data, segment_len)
        })
    }

    /// Sends datagrams, in order, in as few system calls as there can be. Returns for how many there
    /// was room, as [`send_segments`](Self::send_segments) does.
    ///
    /// # Errors
    /// As the system says of the first, and if there is no such socket.
    pub fn send_many(
        &mut self,
        token: Token,
        datagrams: &[(SocketAddr, &[u8])],
    ) -> io::Result<usize> {
        self.core
            .borrow_mut()
            .send_datagrams(token, |backend, source| backend.send_many(source, datagrams))
    }

    /// Calls back whenever a descriptor is ready, until the guard is dropped. The descriptor stays its
    /// owner's: it is watched through a duplicate, and never closed. At most one call a turn; while it
    /// stays ready there is one each turn. After a hang-up with nothing left to read there are no more.
    ///
    /// # Errors
    /// If the system cannot wait for it, as for regular files; in a simulated world.
    pub fn watch(
        &mut self,
        fd: impl AsFd,
        interest: Interest,
        call: impl FnMut(Readiness, &mut S, &mut Self) + 'static,
    ) -> io::Result<WatchGuard> {
        let token = {
            let core = &mut *self.core.borrow_mut();
            let token = core.vacant();
            let source = core.backend.watch(fd.as_fd(), interest, token)?;
            core.add_other(token, source, OtherKind::Watch(interest));
            token
        };
        self.set_owner(token, Owner::Watcher(token.generation, Box::new(call)));
        Ok(WatchGuard::new(&self.core, token))
    }

    /// Calls back when the process gets a signal, such as [`SIGTERM`](crate::signal::SIGTERM), until the guard is dropped; after that, if nobody else
    /// waits for the signal, it does nothing. Signals that come in one turn are one call.
    ///
    /// # Errors
    /// For signals that cannot be caught.
    pub fn on_signal(
        &mut self,
        signal: i32,
        mut call: impl FnMut(&mut S, &mut Self) + 'static,
    ) -> io::Result<WatchGuard> {
        let token = {
            let core = &mut *self.core.borrow_mut();
            let token = core.vacant();
            let source = core.backend.watch_signal(signal, token)?;
            core.add_other(token, source, OtherKind::Signal(signal));
            token
        };
        let call = move |_: Readiness, state: &mut S, reactor: &mut Self| call(state, reactor);
        self.set_owner(token, Owner::Watcher(token.generation, Box::new(call)));
        Ok(WatchGuard::new(&self.core, token))
    }

    /// How many sockets there are, with what is watched.
    pub fn len(&self) -> usize {
        self.core.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sockets there are, by their slots.
    pub fn tokens(&self) -> Vec<Token> {
        self.core.borrow().tokens().collect()
    }

    /// Connections that are being [closed after a flush](Self::close_after_flush).
    pub fn closing(&self) -> Vec<Token> {
        let core = self.core.borrow();
        core.tokens().filter(|token| core.is_closing(*token)).collect()
    }

    /// What there is to say about a socket. `None` if it is over.
    pub fn info(&self, token: Token) -> Option<Info> {
        let core = self.core.borrow();
        let kind = match self.owners.get(token.slot as usize) {
            Some(Owner::Handler(handler)) => handler.kind(),
            Some(Owner::Acceptor(acceptor)) => acceptor.kind(),
            Some(Owner::Datagrams(handler)) => handler.kind(),
            Some(Owner::Watcher(..)) => "watch",
            Some(Owner::Nobody) | None => "task",
        };
        Info::of(&core, token, kind)
    }
}

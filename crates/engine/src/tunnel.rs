//! A connection through a proxy: a transport that first talks to the proxy, and then is not there.

use std::io::{self, IoSlice, IoSliceMut};

use bytes::{Buf, Bytes};
use reactor::{Transport, Wire};
use torrent::proxy::{Conversation, ProxyFault};

/// What lies between a connection and the socket that leads to a proxy. When the target has said something, the
/// tunnel is dug, and another transport may take its place: encryption begins with the target's words.
///
/// If the proxy does not let us through, the connection ends with an error that has a [`ProxyFault`] in it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// `None` once the proxy is out of the way.
    conversation: Option<Conversation>,
    /// Words to the proxy that did not fit into the socket.
    unsent: Bytes,
    /// What the target has said in one breath with the proxy.
    received: Bytes,
}

impl Tunnel {
    pub(crate) const fn new(conversation: Conversation) -> Self {
        let conversation = Some(conversation);
        Self { conversation, unsent: Bytes::new(), received: Bytes::new() }
    }

    /// Goes on with the conversation as far as it goes: all of it, or an error.
    fn dig(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while let Some(conversation) = &mut self.conversation {
            if let Some(words) = conversation.poll_transmit() {
                self.unsent = words.into();
            }
            while !self.unsent.is_empty() {
                match wire.write(&[IoSlice::new(&self.unsent)])? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    len => self.unsent.advance(len),
                }
            }
            if conversation.is_over() {
                self.conversation = None;
                break;
            }
            let mut answer = [0; ANSWER_LEN_USUAL];
            let len = wire.read(&mut [IoSliceMut::new(&mut answer)])?;
            if len == 0 {
                return Err(io::Error::other(ProxyFault::Ended));
            }
            let used = conversation.handle_bytes(&answer[..len]).map_err(io::Error::other)?;
            self.received = Bytes::copy_from_slice(&answer[used..len]);
        }
        Ok(())
    }
}

impl Transport for Tunnel {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.dig(wire)?;
        if self.received.is_empty() {
            return wire.read(slices);
        }
        let mut count = 0;
        for slice in slices {
            let len = slice.len().min(self.received.len());
            self.received.copy_to_slice(&mut slice[..len]);
            count += len;
        }
        Ok(count)
    }

    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.dig(wire)?;
        wire.write(slices)
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        match self.dig(wire) {
            // To wait for the proxy is not to have something left.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.unsent.is_empty() => {
                Ok(())
            }
            result => result,
        }
    }

    fn has_input(&self) -> bool {
        self.conversation.is_none() && !self.received.is_empty()
    }
}

/// An answer of SOCKS5 is shorter, one of HTTP as a rule.
const ANSWER_LEN_USUAL: usize = 512;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use torrent::proxy::Target;

    use super::*;

    /// A socket that takes a few bytes at a time.
    #[derive(Default)]
    struct Socket {
        arrived: VecDeque<u8>,
        sent: Vec<u8>,
        room: usize,
    }

    impl Wire for Socket {
        fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            let slice = &mut slices[0];
            let len = slice.len().min(self.arrived.len());
            for (to, from) in slice.iter_mut().zip(self.arrived.drain(..len)) {
                *to = from;
            }
            if len == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(len) }
        }

        fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let len = slices[0].len().min(std::mem::take(&mut self.room));
            self.sent.extend(&slices[0][..len]);
            if len == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(len) }
        }
    }

    fn tunnel(url: &str) -> Tunnel {
        let target = Target::new("192.0.2.1", 6881).expect("valid");
        Tunnel::new(Conversation::connect(&url.parse().expect("valid"), &target))
    }

    #[test]
    fn nothing_of_ours_is_sent_before_the_proxy_is_through_and_nothing_of_the_peers_is_lost() {
        let (mut tunnel, mut socket) = (tunnel("http://proxy"), Socket::default());
        let hello = [IoSlice::new(b"hello")];
        let would_block = |result: io::Result<usize>| {
            assert_eq!(result.expect_err("not yet").kind(), io::ErrorKind::WouldBlock);
        };
        assert_eq!(
            tunnel.flush(&mut socket).expect_err("no room").kind(),
            io::ErrorKind::WouldBlock
        );
        for _ in 0..200 {
            socket.room = 3;
            would_block(tunnel.write(&mut socket, &hello));
        }
        assert!(socket.sent.ends_with(b"\r\n\r\n") && !socket.sent.ends_with(b"hello"));
        tunnel.flush(&mut socket).expect("nothing is left to send");
        socket.arrived.extend(b"HTTP/1.1 200 OK\r\n\r\nfrom the peer");
        tunnel.flush(&mut socket).expect("through");
        assert!(tunnel.has_input());
        socket.room = 100;
        assert_eq!(tunnel.write(&mut socket, &hello).expect("room"), 5);
        assert!(socket.sent.ends_with(b"\r\n\r\nhello"));
        let (mut a, mut b) = ([0; 5], [0; 50]);
        let slices = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(tunnel.read(&mut socket, slices).expect("there"), 13);
        assert!(!tunnel.has_input());
        would_block(tunnel.read(&mut socket, &mut [IoSliceMut::new(&mut [0])]));
        assert_eq!((&a, &b[..8]), (b"from ", &b"the peer"[..]));
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let (mut tunnel, mut socket) = (tunnel("socks5://proxy"), Socket::default());
        socket.room = 100;
        socket.arrived.extend([5, 0xff]);
        let error = tunnel.flush(&mut socket).expect_err("refused");
        let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<ProxyFault>());
        assert_eq!(fault, Some(&ProxyFault::LoginWanted));
    }
}

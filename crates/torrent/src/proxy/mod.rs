//! Talking to a proxy: SOCKS5 ([RFC 1928], [RFC 1929]) and CONNECT of HTTP ([RFC 9110]).
//!
//! [`ProxyUrl`] says where the proxy is, and what it speaks. [`Conversation`] is what is said on a connection
//! to it before that is the peer's. [`datagram`] is the head of a datagram that goes through it.
//!
//! [RFC 1928]: https://www.rfc-editor.org/rfc/rfc1928
//! [RFC 1929]: https://www.rfc-editor.org/rfc/rfc1929
//! [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110#name-connect

mod connect;
pub mod datagram;
mod fault;
mod socks;
mod target;
mod url;

pub use fault::{ProxyFault, SocksReply};
pub use target::{Target, TargetError};
pub use url::{Login, ProxyKind, ProxyUrl, ProxyUrlError};

use connect::ConnectConversation;
use socks::{Command, SocksConversation};

/// What is said to a proxy until it lets us through.
///
/// Send what [`poll_transmit`](Self::poll_transmit) gives, hand what comes to
/// [`handle_bytes`](Self::handle_bytes), until [`is_over`](Self::is_over): from then on the connection is
/// the target's.
#[derive(Debug)]
pub struct Conversation(Kind);

#[derive(Debug)]
enum Kind {
    Socks(SocksConversation),
    Http(ConnectConversation),
}

impl Conversation {
    /// Asks for a connection to `target`.
    pub fn connect(proxy: &ProxyUrl, target: &Target) -> Self {
        Self(match proxy.kind {
            ProxyKind::Socks5 => {
                let login = proxy.login.clone();
                Kind::Socks(SocksConversation::new(Command::Connect, target, login))
            }
            ProxyKind::Http => Kind::Http(ConnectConversation::new(target, proxy.login.as_ref())),
        })
    }

    /// Asks for datagrams to be carried, for as long as this connection stands. `None` if the proxy's
    /// protocol has no such thing.
    pub fn associate(proxy: &ProxyUrl) -> Option<Self> {
        match proxy.kind {
            ProxyKind::Socks5 => {
                // Where ours will come from is not known behind a NAT: any address of ours may send them.
                let from = Target::Addr(([0, 0, 0, 0], 0).into());
                let login = proxy.login.clone();
                let conversation = SocksConversation::new(Command::Associate, &from, login);
                Some(Self(Kind::Socks(conversation)))
            }
            ProxyKind::Http => None,
        }
    }

    /// What is to be sent now, if anything.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        match &mut self.0 {
            Kind::Socks(socks) => socks.poll_transmit(),
            Kind::Http(http) => http.poll_transmit(),
        }
    }

    /// Something came. Returns how much of it was the proxy's: what follows is the target's.
    ///
    /// # Errors
    /// [`ProxyFault`]; the connection is of no use any more.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, ProxyFault> {
        match &mut self.0 {
            Kind::Socks(socks) => socks.handle_bytes(bytes),
            Kind::Http(http) => http.handle_bytes(bytes),
        }
    }

    /// Whether all is said.
    pub const fn is_over(&self) -> bool {
        match &self.0 {
            Kind::Socks(socks) => socks.bound().is_some(),
            Kind::Http(http) => http.is_over(),
        }
    }

    /// Where datagrams are to go to, once [over](Self::is_over). An unspecified address stands for the one
    /// that the proxy itself has.
    pub const fn relay(&self) -> Option<&Target> {
        match &self.0 {
            Kind::Socks(socks) => socks.bound(),
            Kind::Http(_) => None,
        }
    }
}

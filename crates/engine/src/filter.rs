//! Whom we do not talk to: a list of rules, and a function of the program's own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use reactor::{Reactor, Token};
use torrent::InfoHash;
use torrent::ip_filter::IpFilter;

use crate::engine::Engine;
use crate::event::{EventKind, FilterPoint};
use crate::parting::DisconnectReason;

/// A function that may keep the session from talking to an address. It is called on the session's own
/// thread: while it thinks, everything else waits, so it must be quick.
#[derive(Clone)]
pub struct FilterFn(Arc<dyn Fn(SocketAddr, FilterPoint) -> bool + Send + Sync>);

impl FilterFn {
    /// `may` says whether what is about to happen with the address may happen.
    pub fn new(may: impl Fn(SocketAddr, FilterPoint) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may))
    }
}

impl fmt::Debug for FilterFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterFn")
    }
}

impl Engine {
    /// Whether an address may be talked to. If not, whoever wants to hears of it.
    pub(crate) fn may_talk_to(
        &self,
        torrent: Option<InfoHash>,
        addr: SocketAddr,
        point: FilterPoint,
    ) -> bool {
        let rule = self.config.ip_filter.banned_by(addr.ip());
        let is_vetoed = || self.config.on_filter.as_ref().is_some_and(|may| !may.0(addr, point));
        if rule.is_none() && !is_vetoed() {
            return true;
        }
        let rule = rule.map(|rule| rule.text.to_owned());
        self.tell(torrent, &EventKind::IpFiltered { addr, point, rule });
        false
    }

    /// Whether anything is filtered at all.
    pub(crate) fn has_filter(&self) -> bool {
        !self.config.ip_filter.is_empty() || self.config.on_filter.is_some()
    }

    /// Takes other rules from now on; those who are connected and banned now have to go.
    pub(crate) fn set_ip_filter(&mut self, filter: IpFilter, reactor: &mut Reactor<Self>) {
        self.config.ip_filter = filter;
        let is_banned = |token: &Token| {
            let addr = reactor.peer_addr(*token);
            addr.is_some_and(|addr| self.config.ip_filter.is_banned(addr.ip()))
        };
        let banned: Vec<Token> = self.connections.iter().copied().filter(is_banned).collect();
        for token in banned {
            reactor.close(token, DisconnectReason::Filtered.words());
        }
    }
}

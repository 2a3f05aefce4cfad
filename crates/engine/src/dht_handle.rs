//! The session's node of the DHT as a handle: searches, items, samples, from any thread.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use reactor::{Reactor, Remote};
use torrent::InfoHash;
use torrent::dht::{
    Announce, Busy, Contact, Item, Node, NodeId, Output, Scrape, SearchId, Summary,
};

use crate::dht::DhtStatus;
use crate::engine::Engine;
use crate::session::{Gone, ask};

/// The session's node of the DHT; [`Session::dht`](crate::Session::dht) gives it.
///
/// A search begins with the nodes that are known. Until [`DhtStatus::is_bootstrapped`] there may be none, and it ends at
/// once.
#[derive(Clone, Debug)]
pub struct Dht {
    remote: Remote<Engine>,
}

/// Why the DHT cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhtError {
    /// The session takes no part in it.
    #[error("the DHT is off in this session")]
    Off,
    /// Nobody could reach a peer here: the session listens to nobody, or peers come through a proxy.
    #[error("this session cannot be announced: peers could not connect to it")]
    Unreachable,
    /// Too many searches are under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The session is over.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Peers of a torrent, as they are found: an iterator that waits for the next, and ends with the search.
/// Dropped, it ends the search.
#[derive(Debug)]
pub struct PeerSearch {
    outputs: Receiver<Output>,
    found: std::vec::IntoIter<SocketAddr>,
    summary: Option<Summary>,
}

/// Which torrents a node knows (BEP 51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The node.
    pub from: Contact,
    /// Some of its torrents.
    pub info_hashes: Vec<InfoHash>,
    /// How many it knows.
    pub total: u64,
    /// After how many seconds it may be asked again.
    pub interval_secs: u64,
}

impl Dht {
    pub(crate) const fn new(remote: Remote<Engine>) -> Self {
        Self { remote }
    }

    /// Searches for peers of a torrent.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn peers(&self, info_hash: InfoHash) -> Result<PeerSearch, DhtError> {
        self.search_peers(move |node, now| node.peers(now, info_hash))
    }

    /// Searches for peers of a torrent, and tells the nodes nearest to it that this session is one. It is told for about
    /// half an hour. A torrent of the session is announced without this.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn announce(&self, info_hash: InfoHash) -> Result<PeerSearch, DhtError> {
        self.announce_as(info_hash, self.announcement()?)
    }

    /// What [`announce`](Self::announce) tells of this session: at which port it is, and that it is no seed.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn announcement(&self) -> Result<Announce, DhtError> {
        let announce = ask(&self.remote, |engine, _| engine.dht_announce(false))?;
        announce.ok_or(DhtError::Unreachable)
    }

    /// The same for a seed, or for a peer on this machine that is no part of the session, at a port of its own.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn announce_as(
        &self,
        info_hash: InfoHash,
        announce: Announce,
    ) -> Result<PeerSearch, DhtError> {
        self.search_peers(move |node, now| node.announce(now, info_hash, announce))
    }

    /// Asks about how many peers a torrent has, and waits for the answers; `None` if no node knows any (BEP 33). Nodes
    /// that do not count, as many do not, know none.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn scrape(&self, info_hash: InfoHash) -> Result<Option<Scrape>, DhtError> {
        let outputs = self.begin(move |node, now| node.scrape(now, info_hash))?;
        Ok(outputs.iter().find_map(done).ok_or(Gone)?.scrape)
    }

    /// Searches for the value with this hash, and waits for it, for some seconds; `None` if there is none.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn get(&self, target: NodeId) -> Result<Option<Item>, DhtError> {
        self.last_item(move |node, now| node.get(now, target))
    }

    /// Searches for what the holder of a public key has signed last, and waits for it, for some seconds.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn get_signed(&self, key: &[u8; 32], salt: &[u8]) -> Result<Option<Item>, DhtError> {
        let (key, salt) = (*key, salt.to_vec());
        self.last_item(move |node, now| node.get_signed(now, &key, &salt))
    }

    /// Stores an item for some two hours, and waits until that is done. If `cas` is given, only where the number of
    /// what is there is that. Returns how many nodes have it.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn put(&self, item: Item, cas: Option<i64>) -> Result<usize, DhtError> {
        let outputs = self.begin(move |node, now| node.put(now, item, cas))?;
        Ok(outputs.iter().find_map(done).ok_or(Gone)?.stored)
    }

    /// Asks the nodes near a place which torrents they know, and waits for their answers.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn sample(&self, target: NodeId) -> Result<Vec<Sample>, DhtError> {
        let outputs = self.begin(move |node, now| node.sample(now, target))?;
        Ok(outputs.iter().filter_map(sample).collect())
    }

    /// Searches for the nodes nearest to a place, and waits until they are found.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn find_nodes(&self, target: NodeId) -> Result<Vec<Contact>, DhtError> {
        let outputs = self.begin(move |node, now| node.find_nodes(now, target))?;
        Ok(outputs.iter().find_map(done).ok_or(Gone)?.closest)
    }

    /// Has the node try an address.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn add_node(&self, addr: SocketAddr) -> Result<(), DhtError> {
        let added = ask(&self.remote, move |engine, reactor| {
            engine.add_dht_node(addr, reactor.now());
            engine.dht.is_some()
        })?;
        if added { Ok(()) } else { Err(DhtError::Off) }
    }

    /// The nodes that it knows.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn nodes(&self) -> Result<Vec<Contact>, DhtError> {
        let nodes = ask(&self.remote, |engine, _| {
            engine.dht.as_ref().map(|dht| dht.node.nodes().collect())
        })?;
        nodes.ok_or(DhtError::Off)
    }

    /// How it does.
    ///
    /// # Errors
    /// [`DhtError`].
    pub fn status(&self) -> Result<DhtStatus, DhtError> {
        let status = ask(&self.remote, |engine, reactor| {
            engine.dht.as_ref().map(|dht| dht.status(reactor.now()))
        })?;
        status.ok_or(DhtError::Off)
    }

    fn search_peers(
        &self,
        begin: impl FnOnce(&mut Node, Instant) -> Result<SearchId, Busy> + Send + 'static,
    ) -> Result<PeerSearch, DhtError> {
        let outputs = self.begin(begin)?;
        Ok(PeerSearch { outputs, found: Vec::new().into_iter(), summary: None })
    }

    fn last_item(
        &self,
        begin: impl FnOnce(&mut Node, Instant) -> Result<SearchId, Busy> + Send + 'static,
    ) -> Result<Option<Item>, DhtError> {
        let outputs = self.begin(begin)?;
        let mut items = outputs.iter().filter_map(|output| match output {
            Output::Item { item, .. } => Some(item),
            _ => None,
        });
        // Each is newer than the one before.
        Ok(items.by_ref().last())
    }

    fn begin(
        &self,
        begin: impl FnOnce(&mut Node, Instant) -> Result<SearchId, Busy> + Send + 'static,
    ) -> Result<Receiver<Output>, DhtError> {
        let (sender, outputs): (Sender<Output>, _) = channel();
        let begun =
            ask(&self.remote, move |engine: &mut Engine, reactor: &mut Reactor<Engine>| {
                engine.ask_dht(sender, begin, reactor)
            })?;
        begun.ok_or(DhtError::Off)??;
        Ok(outputs)
    }
}

impl PeerSearch {
    /// How it went, once it has ended.
    pub const fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
}

impl Iterator for PeerSearch {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        loop {
            if let Some(peer) = self.found.next() {
                return Some(peer);
            }
            match self.outputs.recv().ok()? {
                Output::Peers { peers, .. } => self.found = peers.into_iter(),
                output => self.summary = done(output),
            }
        }
    }
}

fn done(output: Output) -> Option<Summary> {
    match output {
        Output::Done { summary, .. } => Some(summary),
        _ => None,
    }
}

fn sample(output: Output) -> Option<Sample> {
    match output {
        Output::Samples { info_hashes, from, interval_secs, total, .. } => Some(Sample {
            from,
            info_hashes: info_hashes.iter().map(NodeId::info_hash).collect(),
            total: total.unsigned_abs(),
            interval_secs: interval_secs.unsigned_abs(),
        }),
        _ => None,
    }
}

//! Which torrents a stranger may name.

use std::collections::BTreeMap;

use super::{HASH_LEN, name_of};
use crate::InfoHash;

/// Finds the torrent that is meant among those that are here: they are hashed when they are added,
/// so that ten thousand of them cost a peer's arrival nothing.
#[derive(Clone, Debug, Default)]
pub struct SkeyTable {
    torrents: BTreeMap<[u8; HASH_LEN], InfoHash>,
}

impl SkeyTable {
    /// From now on it may be named.
    pub fn insert(&mut self, torrent: InfoHash) {
        self.torrents.insert(name_of(&torrent), torrent);
    }

    /// From now on it may not.
    pub fn remove(&mut self, torrent: &InfoHash) {
        self.torrents.remove(&name_of(torrent));
    }

    pub(super) fn find(&self, name: &[u8; HASH_LEN]) -> Option<InfoHash> {
        self.torrents.get(name).copied()
    }
}

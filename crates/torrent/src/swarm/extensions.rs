//! Messages of the extension protocol ([BEP 10]): which a peer may send us, and whose they are.
//!
//! We understand `lt_donthave` ([BEP 54]) and never send it: a piece is lost here only to a check or to a disk that
//! fails, and both close all connections first. Files that are no longer wanted keep what they have.
//!
//! [BEP 54]: https://www.bittorrent.org/beps/bep_0054.html
//! [BEP 10]: https://www.bittorrent.org/beps/bep_0010.html

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::peer::Peer;
use super::{Output, PeerKey, Swarm};
use crate::PeerFault;
use crate::wire::{ExtendedHandshake, Extension, Message};

impl Swarm {
    /// Those that we want to be sent, by the numbers that we give them.
    pub(super) fn extensions(&self) -> BTreeMap<Vec<u8>, u8> {
        let is_wanted = |extension: &Extension| match extension {
            Extension::Exchange | Extension::Holepunch => self.exchanges(),
            Extension::Metadata | Extension::DontHave | Extension::UploadOnly => true,
        };
        let known = Extension::ALL.into_iter().filter(is_wanted);
        known.map(|known| (known.name().as_bytes().to_vec(), known.number())).collect()
    }

    pub(super) fn handle_extended(
        &mut self,
        now: Instant,
        key: PeerKey,
        id: u8,
        payload: &Bytes,
    ) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if !peer.has_extensions {
            return Err(PeerFault::NotNegotiated);
        }
        if id == 0 {
            peer.spend_patience()?;
            let hello = ExtendedHandshake::decode(payload)?;
            if let Some(reqq) = hello.reqq {
                peer.pipeline.set_depth_max(reqq);
            }
            if let Some(ours) = hello.yourip {
                self.outputs.push_back(Output::SeenAs { by: peer.ip(), ours });
            }
            let before = peer.contact_of_incoming();
            // What it said before holds still, if this says nothing else.
            peer.extended.get_or_insert_default().update(hello);
            if let Some(contact) = before {
                self.known.left(contact);
            }
            if let Some(contact) = peer.contact_of_incoming() {
                self.known.came(contact);
            }
            self.metadata_told(now, key);
            self.close_if_both_done(key);
            return Ok(());
        }
        match Extension::of_number(id) {
            Some(extension) => self.handle_extension(now, key, extension, payload),
            None => peer.spend_patience(),
        }
    }

    /// Each kind is looked at where what it is about is.
    fn handle_extension(
        &mut self,
        now: Instant,
        key: PeerKey,
        extension: Extension,
        payload: &Bytes,
    ) -> Result<(), PeerFault> {
        match extension {
            Extension::Metadata => self.handle_metadata(now, key, payload),
            Extension::Holepunch => self.handle_holepunch(now, key, payload),
            Extension::Exchange => self.handle_exchange(now, key, payload),
            Extension::DontHave => self.handle_dont_have(key, payload),
            Extension::UploadOnly => self.handle_upload_only(key, payload),
        }
    }

    pub(super) fn spend_patience(&mut self, key: PeerKey) -> Result<(), PeerFault> {
        self.peers.get_mut(&key).map_or(Ok(()), Peer::spend_patience)
    }

    /// Sends a message by the number that the peer gave to its kind. Returns whether it wants any.
    pub(super) fn send_extension(
        &mut self,
        key: PeerKey,
        extension: Extension,
        payload: Vec<u8>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else { return false };
        let Some(id) = peer.number_of(extension) else { return false };
        peer.send(&Message::Extended { id, payload: payload.into() });
        self.dirty.push(key);
        true
    }
}

impl Peer {
    /// The number that it wants a kind of message to have; `None` if it wants none.
    pub(super) fn number_of(&self, extension: Extension) -> Option<u8> {
        let numbers = &self.extended.as_ref()?.m;
        numbers.get(extension.name().as_bytes()).copied().filter(|number| *number != 0)
    }
}

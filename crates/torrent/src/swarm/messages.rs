//! What each message of a peer does.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Output, PeerKey, Swarm};
use crate::wire::Message;
use crate::{Bitfield, Block, PeerFault, PieceIndex};

impl Swarm {
    /// Messages have come from a peer; the list is emptied.
    ///
    /// # Errors
    /// If the peer broke the protocol: close the connection, then [`remove_peer`](Self::remove_peer). If it
    /// did so with a request, that is left in the list.
    pub fn handle_messages(
        &mut self,
        now: Instant,
        key: PeerKey,
        messages: &mut Vec<Message>,
    ) -> Result<(), PeerFault> {
        let mut outcome = Ok(());
        let mut wrong = None;
        for message in messages.drain(..) {
            let request = match message {
                Message::Request(block) => Some(block),
                _ => None,
            };
            outcome = self.handle_message(now, key, message);
            if outcome.is_err() {
                wrong = request;
                break;
            }
        }
        messages.extend(wrong.map(Message::Request));
        outcome?;
        self.fill(now, key);
        Ok(())
    }

    fn handle_message(
        &mut self,
        now: Instant,
        key: PeerKey,
        message: Message,
    ) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.received_at = now;
        if peer.early.is_some() && self.note_early(key, &message)? {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        match message {
            Message::Piece { piece, offset, data } => {
                self.handle_block(now, key, piece, offset, data)
            }
            Message::Request(block) => self.handle_request(key, block),
            Message::Have(piece) => self.handle_have(now, key, piece),
            Message::Cancel(block) => self.handle_cancel(key, block),
            Message::KeepAlive => peer.spend_patience(),
            Message::Choke => self.handle_choke(key),
            Message::Unchoke => {
                peer.peer_choking = false;
                peer.is_snubbed = false;
                peer.starved_at = None;
                peer.block_at = now;
                peer.spend_patience()
            }
            Message::Interested => self.handle_interested(now, key),
            Message::NotInterested => {
                peer.peer_interested = false;
                peer.spend_patience()
            }
            Message::Bitfield(bytes) => {
                let bits = Bitfield::from_bytes(&bytes, self.layout.piece_count())
                    .ok_or(PeerFault::MalformedBitfield)?;
                self.handle_bitfield(key, bits)
            }
            Message::HaveAll | Message::HaveNone if !peer.has_fast => Err(PeerFault::NotNegotiated),
            Message::HaveAll => self.handle_bitfield(key, Bitfield::all(self.layout.piece_count())),
            Message::HaveNone => {
                self.handle_bitfield(key, Bitfield::none(self.layout.piece_count()))
            }
            Message::Suggest(_) | Message::AllowedFast(_) | Message::Reject(_)
                if !peer.has_fast =>
            {
                Err(PeerFault::NotNegotiated)
            }
            // Rarest first serves the swarm better than a peer's cache.
            Message::Suggest(_) => peer.spend_patience(),
            Message::AllowedFast(piece) => {
                if piece.0 < self.layout.piece_count()
                    && peer.allowed_to_us.len() < ALLOWED_FAST_MAX
                {
                    peer.allowed_to_us.push(piece);
                    peer.starved_at = None;
                }
                peer.spend_patience()
            }
            Message::Reject(block) => self.handle_reject(key, block),
            Message::Extended { id, payload } => self.handle_extended(now, key, id, &payload),
            Message::Port(port) => {
                let node = SocketAddr::new(peer.addr.ip(), port);
                peer.spend_patience()?;
                self.outputs.push_back(Output::DhtNode(node));
                Ok(())
            }
            Message::HashRequest(request) => self.handle_hash_request(key, request),
            Message::Hashes { request, hashes } => self.handle_hashes(now, key, &request, &hashes),
            Message::HashReject(request) => self.handle_hash_reject(now, key, &request),
            Message::Unknown(_) => peer.spend_patience(),
        }
    }

    fn handle_have(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: PieceIndex,
    ) -> Result<(), PeerFault> {
        if piece.0 >= self.layout.piece_count() {
            return Err(PeerFault::NoSuchPiece);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if !peer.bits.set(piece) {
            return peer.spend_patience();
        }
        self.picker.add_have(piece);
        if peer.bits.is_all() {
            self.picker.became_seed();
        }
        if self.picker.is_wanted(piece) {
            peer.interesting += 1;
            peer.starved_at = None;
        }
        self.update_interest(key);
        self.seen_at(now, key, piece);
        self.close_if_both_done(key);
        Ok(())
    }

    /// A piece is there no more ([BEP 54]): requests for it will not be answered.
    ///
    /// [BEP 54]: https://www.bittorrent.org/beps/bep_0054.html
    pub(super) fn handle_dont_have(
        &mut self,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), PeerFault> {
        let number = payload.try_into().ok().ok_or(PeerFault::MalformedMessage)?;
        let piece = PieceIndex(u32::from_be_bytes(number));
        if self.note_early_loss(key, piece)? {
            return Ok(());
        }
        if piece.0 >= self.layout.piece_count() {
            return Err(PeerFault::NoSuchPiece);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.spend_patience()?;
        if !peer.bits.has(piece) {
            return Ok(());
        }
        if peer.is_seed() {
            // Its pieces are counted one by one from now on.
            for _ in 0..BITFIELD_COST {
                peer.spend_patience()?;
            }
            self.picker.remove_peer(&peer.bits);
            peer.bits.clear(piece);
            self.picker.add_peer(&peer.bits);
        } else {
            peer.bits.clear(piece);
            self.picker.lost_have(piece);
        }
        if self.picker.is_wanted(piece) {
            peer.interesting = peer.interesting.saturating_sub(1);
        }
        peer.allowed_to_us.retain(|allowed| *allowed != piece);
        peer.current = peer.current.filter(|current| *current != piece);
        let (off, asked) = peer.asked.drain(..).partition(|asked| asked.block.piece == piece);
        peer.asked = asked;
        for asked in off {
            // With BEP 6 a reject follows.
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.forgive(asked.block);
            }
            self.release(key, asked);
        }
        self.update_interest(key);
        Ok(())
    }

    fn handle_bitfield(&mut self, key: PeerKey, bits: Bitfield) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        // Not only the first message: the handshake of BEP 10 often comes before, and aria2 sends a
        // new bitfield where many `have` messages would be longer. Each costs as much as all of these.
        for _ in 0..BITFIELD_COST {
            peer.spend_patience()?;
        }
        self.picker.remove_peer(&peer.bits);
        self.picker.add_peer(&bits);
        peer.bits = bits;
        self.recount_interesting(key);
        self.close_if_both_done(key);
        Ok(())
    }

    fn handle_choke(&mut self, key: PeerKey) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.peer_choking = true;
        peer.spend_patience()?;
        // With BEP 6 each request is answered, by the block or by a reject.
        if !peer.has_fast {
            self.forgive_all(key);
        }
        Ok(())
    }

    fn handle_interested(&mut self, now: Instant, key: PeerKey) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.peer_interested = true;
        peer.spend_patience()?;
        // While few are served there is nothing to weigh: no peer need wait for the next round.
        let is_choked = peer.am_choking;
        if is_choked
            && !self.is_paused
            && self.choker.is_open(now)
            && self.peers.values().filter(|peer| !peer.am_choking).count()
                < self.slots_free_for_all()
        {
            self.unchoke(now, key);
        }
        Ok(())
    }

    fn handle_reject(&mut self, key: PeerKey, block: Block) -> Result<(), PeerFault> {
        if block.piece.0 >= self.layout.piece_count() {
            return Err(PeerFault::RejectOfUnknownPiece);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        match peer.take_asked(block) {
            Some(asked) => {
                if peer.peer_choking {
                    peer.allowed_to_us.retain(|piece| *piece != block.piece);
                } else {
                    // One that serves us may be asked the same again, and reject it again. While it
                    // chokes us, or if we have cancelled, there are no more rejects than requests.
                    if !peer.forgiven.contains(&block) {
                        peer.spend_patience()?;
                    }
                    // It serves us, but not this: leave it to others for now.
                    peer.current = None;
                }
                self.release(key, asked);
                Ok(())
            }
            None if peer.take_forgiven(block) => Ok(()),
            None => Err(PeerFault::UnexpectedReject),
        }
    }

    /// Counts anew what `key` has for us, after much has changed.
    pub(super) fn recount_interesting(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.interesting = if peer.is_seed() {
            self.picker.wanted_missing()
        } else {
            peer.bits.iter().filter(|&piece| self.picker.is_wanted(piece)).count() as u32
        };
        peer.starved_at = None;
        self.update_interest(key);
    }

    pub(super) fn update_interest(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let wants = peer.interesting > 0;
        if wants == peer.am_interested {
            return;
        }
        peer.am_interested = wants;
        peer.send(&if wants { Message::Interested } else { Message::NotInterested });
        self.dirty.push(key);
    }

    /// Two peers that have everything have nothing to say to each other.
    pub(super) fn close_if_both_done(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else { return };
        if self.is_completed && peer.is_upload_only() {
            self.outputs.push_back(Output::Close { peer: key, reason: "both are seeds" });
        }
    }
}

const ALLOWED_FAST_MAX: usize = 100;

/// A bitfield counts as so many control messages.
pub(super) const BITFIELD_COST: u32 = 20;

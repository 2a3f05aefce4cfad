//! Cuts a stream of bytes into messages, wherever the reads happened to end.
//!
//! A message that arrives whole within one read is a slice of that read: nothing is copied. Only one
//! that is cut off by the end of a read gets a buffer of its own, of exactly its length, and the next
//! read goes there first.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Buf, Bytes};

use super::{Message, MessageLimits};
use crate::PeerFault;

/// What has arrived of a message that is not whole.
#[derive(Debug)]
pub struct Inbox {
    limits: MessageLimits,
    /// The message with its length prefix, at its full length as far as that is known: while the
    /// prefix itself is not whole, room for just the prefix. Empty between messages.
    partial: Vec<u8>,
    filled: usize,
}

impl Inbox {
    /// An inbox that holds nothing.
    pub const fn new(limits: MessageLimits) -> Self {
        Self { limits, partial: Vec::new(), filled: 0 }
    }

    /// Where the next bytes go first: the rest of a message that has begun. Empty if none has.
    pub fn pending_mut(&mut self) -> &mut [u8] {
        self.partial.get_mut(self.filled..).unwrap_or_default()
    }

    /// Bytes have arrived: the first `pending_count` of them were put into
    /// [`pending_mut`](Self::pending_mut), the others are `rest`. Whole messages go to `out`.
    ///
    /// # Errors
    /// If a message is too long for its kind or does not parse. Messages before it are in `out`.
    pub fn received(
        &mut self,
        pending_count: usize,
        mut rest: Bytes,
        out: &mut Vec<Message>,
    ) -> Result<(), PeerFault> {
        self.filled = self.filled.saturating_add(pending_count).min(self.partial.len());
        self.finish_partial(&mut rest, out)?;
        while let Some(&prefix) = rest.first_chunk() {
            let len = u32::from_be_bytes(prefix);
            self.limits.check(len, rest.get(PREFIX_LEN).copied())?;
            if rest.len().saturating_sub(PREFIX_LEN) < len as usize {
                break;
            }
            rest.advance(PREFIX_LEN);
            let body = rest.split_to(len as usize);
            out.push(Message::decode(&body)?);
        }
        self.begin_partial(&rest)
    }

    /// Completes the message that had begun, from what was read in place and from `rest`.
    fn finish_partial(
        &mut self,
        rest: &mut Bytes,
        out: &mut Vec<Message>,
    ) -> Result<(), PeerFault> {
        while !self.partial.is_empty() {
            let space = self.pending_mut();
            let count = space.len().min(rest.len());
            let (from, to) = (rest.split_to(count), space.split_at_mut(count).0);
            to.copy_from_slice(&from);
            self.filled = self.filled.saturating_add(count);
            if self.filled < self.partial.len() {
                return Ok(());
            }
            let Some(&prefix) = self.partial.first_chunk() else { return Ok(()) };
            let len = u32::from_be_bytes(prefix);
            let whole = (len as usize).saturating_add(PREFIX_LEN);
            if self.partial.len() < whole {
                // The prefix has just become whole.
                self.limits.check(len, rest.first().copied())?;
                self.partial.resize(whole, 0);
                continue;
            }
            let mut message = Bytes::from(std::mem::take(&mut self.partial));
            self.filled = 0;
            message.advance(PREFIX_LEN);
            self.limits.check(len, message.first().copied())?;
            out.push(Message::decode(&message)?);
        }
        Ok(())
    }

    /// Keeps the beginning of a message, with room for the rest of it.
    fn begin_partial(&mut self, rest: &[u8]) -> Result<(), PeerFault> {
        if rest.is_empty() || !self.partial.is_empty() {
            return Ok(());
        }
        let whole = match rest.first_chunk() {
            Some(&prefix) => {
                let len = u32::from_be_bytes(prefix);
                self.limits.check(len, rest.get(PREFIX_LEN).copied())?;
                (len as usize).saturating_add(PREFIX_LEN)
            }
            None => PREFIX_LEN,
        };
        self.partial = Vec::with_capacity(whole);
        self.partial.extend_from_slice(rest);
        self.partial.resize(whole, 0);
        self.filled = rest.len();
        Ok(())
    }
}

const PREFIX_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HashRequest;
    use crate::{Block, PieceIndex, Rng};

    fn one_of_each() -> Vec<Message> {
        let block = Block { piece: PieceIndex(3), offset: 16384, len: 16384 };
        let request = HashRequest { root: [7; 32], base: 1, index: 6, count: 2, proof_layers: 1 };
        vec![
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(PieceIndex(7)),
            Message::Bitfield(Bytes::from_static(&[0x80, 1])),
            Message::Request(block),
            Message::Piece { piece: PieceIndex(1), offset: 5, data: Bytes::from(vec![9; 300]) },
            Message::Piece { piece: PieceIndex(1), offset: 5, data: Bytes::new() },
            Message::Cancel(block),
            Message::Port(6881),
            Message::Suggest(PieceIndex(2)),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(block),
            Message::AllowedFast(PieceIndex(u32::MAX)),
            Message::Extended { id: 0, payload: Bytes::from_static(b"de") },
            Message::HashRequest(request),
            Message::Hashes { request, hashes: Bytes::from(vec![5; 32 * 3]) },
            Message::HashReject(request),
            Message::Unknown(99),
        ]
    }

    fn encoded(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        bytes
    }

    /// Feeds `stream` in reads of random length, as a driver would.
    fn feed(stream: &[u8], rng: &mut Rng) -> (Vec<Message>, Result<(), PeerFault>) {
        let mut inbox = Inbox::new(MessageLimits::default());
        let mut out = Vec::new();
        let mut stream = stream;
        while !stream.is_empty() {
            let (read, after) = stream.split_at(stream.len().min(rng.below(400).max(1)));
            stream = after;
            let pending = inbox.pending_mut();
            let (head, rest) = read.split_at(pending.len().min(read.len()));
            pending[..head.len()].copy_from_slice(head);
            if let Err(fault) = inbox.received(head.len(), Bytes::copy_from_slice(rest), &mut out) {
                return (out, Err(fault));
            }
        }
        (out, Ok(()))
    }

    #[test]
    fn the_reads_may_end_anywhere() {
        let messages: Vec<Message> = (0..20).flat_map(|_| one_of_each()).collect();
        let stream = encoded(&messages);
        for seed in 0..300 {
            assert_eq!(feed(&stream, &mut Rng::from_seed(seed)), (messages.clone(), Ok(())));
        }
    }

    #[test]
    fn a_message_whose_last_bytes_are_missing_waits_for_them() {
        for message in one_of_each() {
            let bytes = encoded(std::slice::from_ref(&message));
            for missing in 1..=bytes.len().min(8) {
                let (early, late) = bytes.split_at(bytes.len() - missing);
                let mut inbox = Inbox::new(MessageLimits::default());
                let mut out = Vec::new();
                inbox.received(0, Bytes::copy_from_slice(early), &mut out).expect("no fault yet");
                assert_eq!(out, [], "{missing} bytes missing");
                let pending = inbox.pending_mut();
                let (head, rest) = late.split_at(pending.len().min(late.len()));
                pending[..head.len()].copy_from_slice(head);
                let rest = Bytes::copy_from_slice(rest);
                inbox.received(head.len(), rest, &mut out).expect("valid");
                assert_eq!(out, std::slice::from_ref(&message), "{missing} bytes missing");
            }
        }
    }

    #[test]
    fn a_block_that_came_whole_is_not_copied() {
        let stream = Bytes::from(encoded(&one_of_each()));
        let mut out = Vec::new();
        Inbox::new(MessageLimits::default()).received(0, stream.clone(), &mut out).expect("valid");
        let Some(Message::Piece { data, .. }) = out.get(8) else { panic!("a block") };
        assert!(stream.as_ptr_range().contains(&data.as_ptr()));
    }

    #[test]
    fn an_idle_inbox_holds_nothing() {
        let mut inbox = Inbox::new(MessageLimits::default());
        inbox.received(0, encoded(&one_of_each()).into(), &mut Vec::new()).expect("valid");
        assert_eq!(inbox.partial.capacity(), 0);
    }

    #[test]
    fn an_oversize_message_is_seen_at_its_prefix() {
        for (len, kind) in [
            (2_u32, 0_u8),
            (6, 4),
            (14, 6),
            (9000, 5),
            (200_000, 7),
            (u32::MAX, 20),
            (50, 21),
            (300_000, 22),
            (50, 23),
            (100_000, 99),
        ] {
            let mut bytes = len.to_be_bytes().to_vec();
            bytes.push(kind);
            let (out, result) = feed(&bytes, &mut Rng::from_seed(1));
            assert_eq!((out, result), (Vec::new(), Err(PeerFault::OversizeMessage)), "kind {kind}");
        }
        let huge = u32::MAX.to_be_bytes();
        assert_eq!(feed(&huge, &mut Rng::from_seed(1)).1, Err(PeerFault::OversizeMessage));
    }

    #[test]
    fn a_read_may_end_behind_the_prefix_of_any_message_that_is_not_too_long() {
        let limits = MessageLimits::default();
        for kind in 0..25 {
            for len in (1..400_000_u32).step_by(9973) {
                let whole = [&len.to_be_bytes()[..], &[kind]].concat();
                let (prefix, first) = whole.split_at(PREFIX_LEN);
                let at_once = Inbox::new(limits).received(0, whole.clone().into(), &mut Vec::new());
                let mut inbox = Inbox::new(limits);
                let in_two = inbox
                    .received(0, Bytes::copy_from_slice(prefix), &mut Vec::new())
                    .and_then(|()| {
                        let pending = inbox.pending_mut();
                        pending[..1].copy_from_slice(first);
                        inbox.received(1, Bytes::new(), &mut Vec::new())
                    });
                // Too long for its kind alone is seen when all of it is here.
                if at_once.is_ok() && len > 1 {
                    assert_eq!(in_two, Ok(()), "kind {kind}, {len} bytes");
                }
            }
        }
    }

    #[test]
    fn a_short_message_is_malformed() {
        for bytes in [
            &[0, 0, 0, 1, 4][..],
            &[0, 0, 0, 5, 6, 0, 0, 0, 0],
            &[0, 0, 0, 2, 7, 0],
            &[0, 0, 0, 1, 20],
            &[0, 0, 0, 2, 21, 0],
            &[0, 0, 0, 2, 22, 0],
            &[0, 0, 0, 1, 23],
        ] {
            assert_eq!(feed(bytes, &mut Rng::from_seed(1)).1, Err(PeerFault::MalformedMessage));
        }
    }

    #[test]
    fn survives_noise() {
        let valid = encoded(&one_of_each());
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut stream: Vec<u8> = if seed % 2 == 0 {
                (0..rng.below(500)).map(|_| rng.u32() as u8).collect()
            } else {
                valid.clone()
            };
            for _ in 0..rng.below(5) {
                let at = rng.below(stream.len());
                if let Some(byte) = stream.get_mut(at) {
                    *byte = rng.u32() as u8;
                }
            }
            let (messages, _) = feed(&stream, &mut rng);
            assert!(encoded(&messages).len() <= stream.len() + 64 * 1024);
        }
    }
}

//! The peer wire: where the reads end changes nothing, and what was understood encodes and decodes.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use torrent::PeerFault;
use torrent::wire::{Handshake, Inbox, Message, MessageLimits};

fuzz_target!(|input: (u8, &[u8])| {
    let (step, stream) = input;
    if let Some(head) = stream.first_chunk() {
        // Whether it is one does not matter here.
        Handshake::decode(head).ok();
    }
    let (at_once, at_once_result) = feed(stream, |left| left);
    let mut turn = step;
    let (in_bits, in_bits_result) = feed(stream, |left| {
        turn = turn.wrapping_mul(7).wrapping_add(3);
        left.min(usize::from(turn % 23).max(1))
    });
    // A fault that only the last reads show is found later in small reads; the messages are the same.
    assert_eq!(at_once, in_bits);
    if in_bits_result.is_err() {
        assert!(at_once_result.is_err());
    }

    // What we do not know is skipped, so it cannot be written again as it was.
    let known: Vec<Message> =
        at_once.into_iter().filter(|message| !matches!(message, Message::Unknown(_))).collect();
    let mut bytes = Vec::new();
    known.iter().for_each(|message| message.encode(&mut bytes));
    assert_eq!(feed(&bytes, |left| left), (known, Ok(())));
});

/// Feeds `stream` as a driver would, in reads as long as `len_of_read` says when told what is left.
fn feed(
    mut stream: &[u8],
    mut len_of_read: impl FnMut(usize) -> usize,
) -> (Vec<Message>, Result<(), PeerFault>) {
    let mut inbox = Inbox::new(MessageLimits::default());
    let mut out = Vec::new();
    while !stream.is_empty() {
        let (read, after) = stream.split_at(len_of_read(stream.len()));
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

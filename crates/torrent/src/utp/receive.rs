//! What comes in: packets put in order, and what is told of them.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use super::packet::SELECTIVE_LEN_MAX;

/// Data in order, that waits to be read, and packets that came too early.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    /// The sequence number of the packet that is awaited.
    next: u16,
    ready: VecDeque<u8>,
    /// Packets by how far they are ahead of the awaited one. The first is not there, by definition; the
    /// last is.
    early: VecDeque<Option<Box<[u8]>>>,
    /// Bytes in `early`.
    early_bytes: usize,
    /// The number of the packet that ends the stream.
    end: Option<u16>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was the next, and nothing is missing behind it.
    InOrder,
    /// It closed a gap, or came before another.
    OutOfOrder,
    /// It was here already.
    Duplicate,
    /// There is no room for it, or it lies behind the end.
    Refused,
}

impl ReceiveQueue {
    pub(super) fn new(next: u16) -> Self {
        Self { next, ready: VecDeque::new(), early: VecDeque::new(), early_bytes: 0, end: None }
    }

    /// All packets up to this have come.
    pub(super) const fn acknowledged(&self) -> u16 {
        self.next.wrapping_sub(1)
    }

    /// Bytes that are here.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.early_bytes
    }

    /// Whether there is something to read, be it the end.
    pub(super) fn is_readable(&self) -> bool {
        !self.ready.is_empty() || self.has_ended()
    }

    /// Whether all packets up to the last have come.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| self.next == end.wrapping_add(1))
    }

    /// Whether packets are missing.
    pub(super) fn has_gaps(&self) -> bool {
        !self.early.is_empty()
    }

    /// A packet has come. At most `room` bytes may be here after it.
    pub(super) fn receive(
        &mut self,
        sequence: u16,
        payload: &[u8],
        is_end: bool,
        room: usize,
    ) -> Arrival {
        let ahead = usize::from(sequence.wrapping_sub(self.next));
        if ahead > usize::from(u16::MAX / 2) || self.has_ended() {
            return Arrival::Duplicate;
        }
        let is_behind_end = self.end.is_some_and(|end| sequence.wrapping_sub(end) as i16 > 0);
        // The awaited packet makes room for others: a little more than was allowed does no harm.
        let room = if ahead == 0 { room + FIRST_EXTRA } else { room };
        if ahead >= EARLY_MAX || is_behind_end || self.len() + payload.len() > room {
            return Arrival::Refused;
        }
        if is_end {
            if self.early.len() > ahead + 1 {
                return Arrival::Refused;
            }
            self.end = Some(sequence);
        }
        if ahead == 0 {
            self.ready.extend(payload);
            self.next = self.next.wrapping_add(1);
            if self.early.is_empty() {
                return Arrival::InOrder;
            }
            self.close_gap();
            return Arrival::OutOfOrder;
        }
        if self.early.len() <= ahead {
            self.early.resize(ahead + 1, None);
        }
        let Some(place @ None) = self.early.get_mut(ahead) else { return Arrival::Duplicate };
        *place = Some(payload.into());
        self.early_bytes += payload.len();
        Arrival::OutOfOrder
    }

    /// The awaited packet has come: those that waited for it follow.
    fn close_gap(&mut self) {
        self.early.pop_front();
        while let Some(next @ Some(_)) = self.early.front_mut() {
            let payload = next.take().unwrap_or_default();
            self.ready.extend(&payload[..]);
            self.early_bytes -= payload.len();
            self.next = self.next.wrapping_add(1);
            self.early.pop_front();
        }
    }

    /// Moves what is in order into `slices`. Returns how many bytes that were.
    pub(super) fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> usize {
        let mut count = 0;
        for slice in slices {
            let mut free: &mut [u8] = slice;
            while !free.is_empty() && !self.ready.is_empty() {
                let (front, _) = self.ready.as_slices();
                let len = front.len().min(free.len());
                let (place, rest) = free.split_at_mut(len);
                place.copy_from_slice(&front[..len]);
                self.ready.drain(..len);
                free = rest;
                count += len;
            }
        }
        if self.ready.is_empty() && self.ready.capacity() > RETAINED_MAX {
            self.ready.shrink_to(RETAINED_MAX);
        }
        count
    }

    /// Gives memory back that nothing is in.
    pub(super) fn shrink(&mut self) {
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        if self.early.is_empty() {
            self.early = VecDeque::new();
        }
    }

    /// The bits of packets that came early. Returns how many bytes of the mask say something: a multiple of
    /// 4, 0 if nothing is missing.
    pub(super) fn selective(&self, mask: &mut [u8; SELECTIVE_LEN_MAX]) -> usize {
        let len = (self.early.len().saturating_sub(1).div_ceil(32) * 4).min(mask.len());
        let Some(mask) = mask.get_mut(..len) else { return 0 };
        mask.fill(0);
        for (index, _) in self.early.iter().skip(1).enumerate().filter(|(_, early)| early.is_some())
        {
            if let Some(byte) = mask.get_mut(index / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        len
    }
}

/// Memory that is kept for what comes next, in bytes: one that waited for long had more, and others need it now.
const RETAINED_MAX: usize = 512 * 1024;
/// So far ahead of a missing packet others are kept.
const EARLY_MAX: usize = 2048;
/// The room for the awaited packet when there is no other.
const FIRST_EXTRA: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const ROOM: usize = 100_000;

    #[test]
    fn packets_are_read_in_order_however_they_came() {
        for seed in 0..200 {
            let mut rng = Rng::from_seed(seed);
            let start = rng.u32() as u16;
            let mut queue = ReceiveQueue::new(start);
            let mut packets: Vec<(u16, Vec<u8>)> = (0..50)
                .map(|at| (at, (0..rng.below(30)).map(|_| rng.u32() as u8).collect()))
                .collect();
            let expected: Vec<u8> = packets.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            packets.extend_from_within(..20);
            rng.shuffle(&mut packets);
            let mut read = Vec::new();
            for (at, bytes) in packets {
                let sequence = start.wrapping_add(at);
                assert_ne!(queue.receive(sequence, &bytes, at == 49, ROOM), Arrival::Refused);
                let (mut a, mut b) = ([0; 7], [0; 90]);
                let mut slices = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
                let count = queue.read(&mut slices);
                read.extend([&a[..], &b].concat()[..count].to_vec());
            }
            let mut rest = vec![0; ROOM];
            let count = queue.read(&mut [IoSliceMut::new(&mut rest)]);
            read.extend_from_slice(&rest[..count]);
            assert_eq!(read, expected);
            assert!(queue.has_ended() && !queue.has_gaps() && queue.len() == 0);
        }
    }

    #[test]
    fn says_which_packets_came_early() {
        let mut queue = ReceiveQueue::new(10);
        let mut mask = [0xff; SELECTIVE_LEN_MAX];
        assert_eq!(queue.selective(&mut mask), 0);
        for sequence in [11, 13, 18, 43] {
            assert_eq!(queue.receive(sequence, b"x", false, ROOM), Arrival::OutOfOrder);
        }
        assert_eq!(queue.selective(&mut mask), 8);
        assert_eq!(mask[..8], [0b1000_0101, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(queue.receive(10, b"x", false, ROOM), Arrival::OutOfOrder);
        assert_eq!(queue.acknowledged(), 11);
        assert_eq!(queue.receive(11, b"x", false, ROOM), Arrival::Duplicate);
    }

    #[test]
    fn what_lies_out_of_the_window_is_refused() {
        let mut queue = ReceiveQueue::new(0);
        assert_eq!(queue.receive(EARLY_MAX as u16, b"x", false, ROOM), Arrival::Refused);
        assert_eq!(queue.receive(u16::MAX, b"x", false, ROOM), Arrival::Duplicate);
        assert_eq!(queue.receive(1, &[0; 1000], false, 1000), Arrival::OutOfOrder);
        assert_eq!(queue.receive(2, b"x", false, 1000), Arrival::Refused);
        assert_eq!(queue.receive(0, &[0; 1000], false, 1000), Arrival::OutOfOrder);
        assert_eq!(queue.len(), 2000);
        assert_eq!(queue.receive(2, &[0; 1500], false, 1000), Arrival::Refused);
    }

    #[test]
    fn who_has_read_all_gives_memory_back() {
        let mut queue = ReceiveQueue::new(0);
        for sequence in 0..1500 {
            queue.receive(sequence, &[0; 1400], false, 3_000_000);
        }
        let mut bytes = vec![0; 3_000_000];
        assert_eq!(queue.read(&mut [IoSliceMut::new(&mut bytes)]), 1500 * 1400);
        assert!(queue.ready.capacity() <= 2 * RETAINED_MAX);
    }

    #[test]
    fn nothing_comes_behind_the_end_and_the_end_is_not_before_what_came() {
        let mut queue = ReceiveQueue::new(0);
        assert_eq!(queue.receive(3, b"x", false, ROOM), Arrival::OutOfOrder);
        assert_eq!(queue.receive(2, b"", true, ROOM), Arrival::Refused);
        assert_eq!(queue.receive(5, b"", true, ROOM), Arrival::OutOfOrder);
        assert_eq!(queue.receive(6, b"x", false, ROOM), Arrival::Refused);
    }
}

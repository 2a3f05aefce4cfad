//! What goes out: data cut into packets, kept until it is acknowledged.
//!
//! Data is copied once, when it is written, to where it goes out from: packets stand one after another in a
//! chunk of memory, each with room for its header before it. So many of them go to the system in
//! one call, and one that is lost goes out again from the same place.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use super::acknowledge::Acknowledged;
use super::packet::{Header, padding};

/// Packets that were not acknowledged, the oldest first.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pub(super) chunks: VecDeque<Vec<u8>>,
    /// The number of the first chunk: they are counted from the first there ever was.
    pub(super) first_chunk: u64,
    pub(super) segments: VecDeque<Segment>,
    /// The sequence number of the first segment; without any, that of the next.
    pub(super) first: u16,
    /// What that was at the beginning.
    start: u16,
    /// How many of the segments were sent before: all before this, none from it on.
    pub(super) sent: usize,
    /// How many of them are to be sent again.
    pub(super) lost: usize,
    /// Bytes that were sent, and neither acknowledged nor given up.
    pub(super) in_flight: usize,
    /// How many have arrived out of turn.
    pub(super) arrived: usize,
    /// Bytes of all segments.
    pub(super) queued: usize,
    /// The number of the next transmission.
    pub(super) order: u64,
    /// When the one before it was.
    last_sent_at: u64,
    /// The latest transmission that was acknowledged, counted from 1, 0 is none; and when that was.
    pub(super) latest_acknowledged: (u64, u64),
    /// The transmission that only asked what has arrived.
    pub(super) repeated_last: Option<u64>,
    /// How long the way there and back takes, at least and on average.
    pub(super) round_trip: Option<(u64, u64)>,
    pub(super) duplicates: u32,
    /// The last of the segments ends the stream.
    pub(super) has_end: bool,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) chunk: u64,
    /// Where its header begins.
    pub(super) at: u32,
    /// How many bytes of padding follow the header; and then, of data. Only a probe is padded, and only the first time:
    /// data keeps its sequence number, so that it cannot be cut up anew once it is known to be too long.
    pub(super) padding: u16,
    pub(super) len: u16,
    pub(super) fate: Fate,
    pub(super) transmissions: u8,
    pub(super) kind: SegmentKind,
    /// The number of its last transmission, and when that was.
    pub(super) order: u64,
    pub(super) sent_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was never sent.
    Waiting,
    InFlight,
    /// It is to be sent again.
    Lost,
    /// It was acknowledged out of turn.
    Arrived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentKind {
    Data,
    /// Data with so much padding that it may be too long for the path.
    Probe,
    /// The end of the stream.
    Fin,
}

/// Packets that go out together: they stand one after another, all of one length but the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    first: usize,
    count: usize,
    pub(super) kind: SegmentKind,
    /// It has been sent before.
    pub(super) is_repeated: bool,
}

impl Segment {
    /// How long the packet is.
    pub(super) const fn whole_len(&self) -> usize {
        Header::LEN + self.padding as usize + self.len as usize
    }

    /// Takes out the padding: the header stands right before the data from now on.
    const fn strip(&mut self) {
        self.at += self.padding as u32;
        self.padding = 0;
    }
}

impl SendQueue {
    pub(super) fn new(first: u16) -> Self {
        Self { first, start: first, ..Self::default() }
    }

    /// The sequence number of the next packet that was never sent.
    pub(super) fn next_sequence(&self) -> u16 {
        self.first.wrapping_add(self.sent as u16)
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes of data that are here.
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    /// The number that the next transmission will have.
    pub(super) const fn order(&self) -> u64 {
        self.order
    }

    /// Whether something is to be sent.
    pub(super) fn has_work(&self) -> bool {
        self.lost > 0 || self.sent < self.segments.len()
    }

    /// Whether the end of the stream was acknowledged, and all before it.
    pub(super) fn is_finished(&self) -> bool {
        self.has_end && self.segments.is_empty()
    }

    /// Whether the end of the stream was written.
    pub(super) const fn is_ended(&self) -> bool {
        self.has_end
    }

    /// How many packets were not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// When a packet went out last, new or again, if some are under way and none is known to be lost.
    pub(super) fn last_sent_at(&self) -> Option<u64> {
        (self.in_flight > 0 && self.lost == 0).then_some(self.last_sent_at)
    }

    /// Whether packets are under way.
    pub(super) const fn has_unanswered(&self) -> bool {
        self.in_flight > 0 || self.sent > 0
    }

    /// Takes what there is room for, in packets of `len` bytes, header and all. A `probe` is one that is padded to this
    /// length, before them, if there is enough to fill it. Returns how many bytes were taken, and whether a probe was
    /// made.
    pub(super) fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        room: usize,
        len: usize,
        probe: Option<usize>,
    ) -> (usize, bool) {
        if self.has_end {
            return (0, false);
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let total = total.min(room);
        let mut left = total;
        let probe = probe.filter(|_| left >= len - Header::LEN && self.has_space());
        let has_probe = probe.is_some();
        if let Some(probe) = probe {
            self.begin_segment(probe, probe, SegmentKind::Probe);
            self.pad(probe - len);
        }
        let mut is_probe = has_probe;
        for slice in slices {
            let (mut bytes, _) = slice.split_at(slice.len().min(left));
            while !bytes.is_empty() {
                let tail = self.tail_room(len - Header::LEN, is_probe);
                if tail == 0 {
                    if !self.has_space() {
                        return (total - left, has_probe);
                    }
                    is_probe = false;
                    self.begin_segment(len, left + Header::LEN, SegmentKind::Data);
                    continue;
                }
                let (now, later) = bytes.split_at(bytes.len().min(tail));
                self.fill(now);
                left -= now.len();
                bytes = later;
            }
        }
        (total, has_probe)
    }

    /// Ends the stream behind what was written.
    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.has_end, true) {
            self.begin_segment(Header::LEN, Header::LEN, SegmentKind::Fin);
        }
    }

    fn has_space(&self) -> bool {
        self.segments.len() < SEGMENTS_MAX
    }

    /// How many bytes more the last segment takes.
    fn tail_room(&self, segment_len: usize, is_probe: bool) -> usize {
        let Some(last) = self.segments.back().filter(|_| self.sent < self.segments.len()) else {
            return 0;
        };
        // What is written first goes alone. Transmission 3.00 takes it for the handshake, and what comes in the
        // same packet it looks at only when another comes.
        if self.first == self.start && self.segments.len() == 1 && last.len > 0 {
            return 0;
        }
        let kind = if is_probe { SegmentKind::Probe } else { SegmentKind::Data };
        let fits = last.kind == kind && last.fate == Fate::Waiting;
        if fits { segment_len.saturating_sub(usize::from(last.len)) } else { 0 }
    }

    /// Begins a packet of up to `len` bytes; `expected` more are to follow.
    fn begin_segment(&mut self, len: usize, expected: usize, kind: SegmentKind) {
        let fits = self.chunks.back().is_some_and(|chunk| chunk.len() + len <= chunk.capacity());
        if !fits {
            let count = expected.div_ceil(len.max(1)).clamp(1, CHUNK_LEN / len.max(1));
            self.chunks.push_back(Vec::with_capacity((count * len).max(CHUNK_LEN_MIN)));
        }
        let number = self.first_chunk + self.chunks.len() as u64 - 1;
        let Some(chunk) = self.chunks.back_mut() else { return };
        let segment = Segment {
            chunk: number,
            at: chunk.len() as u32,
            padding: 0,
            len: 0,
            fate: Fate::Waiting,
            transmissions: 0,
            kind,
            order: 0,
            sent_at: 0,
        };
        chunk.extend_from_slice(&[0; Header::LEN]);
        self.segments.push_back(segment);
    }

    /// Puts about as many bytes between the header and the data of the last packet, which has no data yet.
    fn pad(&mut self, len: usize) {
        if let (Some(chunk), Some(last)) = (self.chunks.back_mut(), self.segments.back_mut()) {
            let padding = padding(len);
            chunk.extend_from_slice(&padding);
            last.padding = padding.len() as u16;
        }
    }

    /// Puts bytes into the last packet, for which there is room.
    fn fill(&mut self, bytes: &[u8]) {
        let (Some(chunk), Some(last)) = (self.chunks.back_mut(), self.segments.back_mut()) else {
            return;
        };
        chunk.extend_from_slice(bytes);
        last.len += bytes.len() as u16;
        self.queued += bytes.len();
    }

    /// The next packets to send: what was lost, and then what is new. At least one packet, if there is one,
    /// however little `room` there is. While something is missing at the other end, nothing is sent that
    /// is so far ahead of it that others would not keep it.
    pub(super) fn next_run(&self, room: usize) -> Option<Run> {
        let first = if self.lost > 0 {
            self.segments.iter().position(|segment| segment.fate == Fate::Lost)?
        } else {
            self.sent
        };
        let has_gap = self.arrived > 0 || self.lost > 0;
        let ahead = if has_gap { AHEAD_MAX.saturating_sub(first) } else { usize::MAX };
        if ahead == 0 {
            return None;
        }
        let start = self.segments.get(first)?;
        let (mut count, mut bytes) = (1, usize::from(start.len));
        let mut end = start.at + Header::LEN as u32 + u32::from(start.len);
        let may_grow = start.kind == SegmentKind::Data;
        let most = RUN_MAX.min(ahead).min(RUN_BYTES_MAX / (Header::LEN + usize::from(start.len)));
        for next in self.segments.range(first + 1..).take_while(|_| may_grow) {
            bytes += usize::from(next.len);
            let fits = count < most
                && bytes <= room
                && next.fate == start.fate
                && next.kind == start.kind
                && next.chunk == start.chunk
                && next.at == end
                && next.len <= start.len;
            if !fits {
                break;
            }
            count += 1;
            end = next.at + Header::LEN as u32 + u32::from(next.len);
            if next.len < start.len {
                break;
            }
        }
        // One that the system refused was never sent.
        let is_repeated = start.transmissions > 0;
        Some(Run { first, count, kind: start.kind, is_repeated })
    }

    /// How long the first packet of a run is, header and all.
    pub(super) fn first_whole_len(&self, run: &Run) -> usize {
        self.segments.get(run.first).map_or(0, Segment::whole_len)
    }

    /// How many bytes of data the first packet of a run has.
    pub(super) fn first_len(&self, run: &Run) -> usize {
        self.segments.get(run.first).map_or(0, |segment| usize::from(segment.len))
    }

    /// Writes the headers of a run, which is under way from now on. Returns its chunk and where in that it
    /// stands, the length of one packet, and the bytes of data in all.
    pub(super) fn send(
        &mut self,
        run: &Run,
        now: u64,
        header: &Header,
    ) -> (usize, Range<usize>, usize, usize) {
        let mut header = *header;
        let (mut place, mut segment_len, mut data) = (0..0, 0, 0);
        let mut chunk_index = 0;
        for (index, segment) in self.segments.iter_mut().enumerate().skip(run.first).take(run.count)
        {
            header.sequence = self.first.wrapping_add(index as u16);
            chunk_index = (segment.chunk - self.first_chunk) as usize;
            if segment.transmissions > 0 {
                segment.strip();
            }
            let at = segment.at as usize;
            let end = at + segment.whole_len();
            let room = self.chunks.get_mut(chunk_index).and_then(|chunk| chunk.get_mut(at..));
            if let Some(room) = room.and_then(<[u8]>::first_chunk_mut) {
                if segment.padding > 0 {
                    header.write_padded_to(room);
                } else {
                    header.write_to(room);
                }
            }
            match segment.fate {
                Fate::Waiting => self.sent += 1,
                Fate::Lost => self.lost -= 1,
                Fate::InFlight | Fate::Arrived => {}
            }
            segment.fate = Fate::InFlight;
            segment.transmissions = segment.transmissions.saturating_add(1);
            (segment.order, segment.sent_at) = (self.order, now);
            self.last_sent_at = now;
            self.order += 1;
            self.in_flight += usize::from(segment.len);
            data += usize::from(segment.len);
            if segment_len == 0 {
                place.start = at;
                segment_len = end - at;
            }
            place.end = end;
        }
        (chunk_index, place, segment_len, data)
    }

    /// The bytes of a run that was sent.
    pub(super) fn bytes(&self, chunk_index: usize, place: Range<usize>) -> &[u8] {
        self.chunks.get(chunk_index).and_then(|chunk| chunk.get(place)).unwrap_or_default()
    }

    /// The system did not take packets of a run, from the given one on: they go out later.
    pub(super) fn refused(&mut self, run: &Run, taken: usize) {
        for index in run.first + taken..run.first + run.count {
            if self.segments.get(index).is_some_and(|segment| segment.fate == Fate::InFlight) {
                self.lose(index, &mut Acknowledged::default());
                let segment = &mut self.segments[index];
                segment.transmissions = segment.transmissions.saturating_sub(1);
            }
        }
    }

    /// A probe is longer than the system sends whole: it goes out later as any packet.
    pub(super) fn too_long(&mut self, run: &Run) {
        if let Some(segment) = self.segments.get_mut(run.first)
            && segment.kind == SegmentKind::Probe
        {
            segment.kind = SegmentKind::Data;
            segment.strip();
        }
        self.refused(run, 0);
    }

    pub(super) fn free_chunks(&mut self) {
        let needed = match self.segments.front() {
            Some(segment) => segment.chunk,
            None => self.first_chunk + self.chunks.len() as u64,
        };
        while self.first_chunk < needed && self.chunks.pop_front().is_some() {
            self.first_chunk += 1;
        }
    }
}

/// Sequence numbers have 16 bits: what is under way must stay below half of them.
pub(super) const SEGMENTS_MAX: usize = 8192;
/// Others keep so many packets behind a missing one, at least.
const AHEAD_MAX: usize = 500;
const CHUNK_LEN: usize = 64 * 1024;
const CHUNK_LEN_MIN: usize = 256;
/// What a system takes in one call.
const RUN_MAX: usize = 64;
const RUN_BYTES_MAX: usize = 65_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utp::packet::{Packet, PacketKind};

    const LEN: usize = 120;

    #[test]
    fn packets_go_out_in_runs_of_equal_length_with_their_headers() {
        let mut queue = SendQueue::new(u16::MAX);
        let bytes: Vec<u8> = (0..250).collect();
        assert_eq!(write(&mut queue, &bytes), 250);
        let run = queue.next_run(usize::MAX).unwrap();
        let (chunk, place, segment_len, data) = queue.send(&run, 5, &header());
        assert_eq!((segment_len, data, queue.in_flight()), (LEN, 250, 250));
        let packets: Vec<Packet<'_>> = queue
            .bytes(chunk, place)
            .chunks(segment_len)
            .map(|packet| Packet::decode(packet).unwrap())
            .collect();
        let sequences: Vec<u16> = packets.iter().map(|packet| packet.header.sequence).collect();
        assert_eq!(sequences, [u16::MAX, 0, 1]);
        assert_eq!(
            packets.iter().flat_map(|packet| packet.payload.to_vec()).collect::<Vec<_>>(),
            bytes
        );
        assert!(queue.next_run(usize::MAX).is_none());
    }

    #[test]
    fn little_writes_share_a_packet_until_it_is_sent_but_the_first_goes_alone() {
        let mut queue = SendQueue::new(u16::MAX);
        write(&mut queue, &[0; 68]);
        write(&mut queue, &[1; 30]);
        write(&mut queue, &[2; 30]);
        assert_eq!(send_all(&mut queue, 0), [(0xffff, 0x1_0001)]);
        assert!(queue.acknowledge(1, &[], false, 9).unwrap().is_new);
        write(&mut queue, &[3; 30]);
        assert_eq!(send_all(&mut queue, 0), [(1, 2)]);
        queue.finish();
        queue.finish();
        assert_eq!(write(&mut queue, &[4]), 0);
        assert_eq!(send_all(&mut queue, 0), [(2, 3)]);
        assert!(queue.acknowledge(3, &[], false, 9).unwrap().is_new);
        assert!(queue.is_finished() && queue.chunks.is_empty());
        assert_eq!((queue.in_flight(), queue.queued()), (0, 0));
    }

    #[test]
    fn what_is_missing_is_sent_again_once_three_later_ones_have_arrived() {
        let mut queue = sent(6);
        let two = queue.acknowledge(1, &[0b0000_0011, 0, 0, 0], true, 10).unwrap();
        assert_eq!((two.bytes, two.round_trip, two.lost), (300, Some(10), None));
        let three = queue.acknowledge(1, &[0b0000_0111, 0, 0, 0], true, 11).unwrap();
        assert_eq!((three.bytes, three.lost), (100, Some(1)));
        assert_eq!(send_all(&mut queue, 20), [(1, 2)]);
        // The same again tells nothing new.
        let again = queue.acknowledge(1, &[0b0000_0111, 0, 0, 0], true, 12).unwrap();
        assert_eq!(again, Acknowledged::default());
        let all = queue.acknowledge(6, &[], false, 30).unwrap();
        assert_eq!((all.bytes, queue.in_flight()), (200, 0));
    }

    #[test]
    fn a_packet_that_is_lost_twice_is_sent_a_third_time() {
        let mut queue = sent(6);
        queue.acknowledge(1, &[0b0001_1111 & 0b0000_0111, 0, 0, 0], true, 10).unwrap();
        send_all(&mut queue, 20);
        write(&mut queue, &[0; 400]);
        send_all(&mut queue, 21);
        let later = queue.acknowledge(1, &[0b1111_1111, 0, 0, 0], true, 30).unwrap();
        assert!(later.lost.is_some());
        assert_eq!(send_all(&mut queue, 31), [(1, 2)]);
    }

    #[test]
    fn without_a_mask_three_equal_acknowledgements_do() {
        let mut queue = sent(6);
        queue.acknowledge(1, &[], false, 1).unwrap();
        let lost: Vec<bool> =
            (0..6).map(|_| queue.acknowledge(1, &[], true, 1).unwrap().lost.is_some()).collect();
        assert_eq!(lost, [false, false, true, false, false, false]);
    }

    #[test]
    fn what_was_never_sent_cannot_be_acknowledged() {
        let mut queue = sent(3);
        write(&mut queue, &[0; 500]);
        for sequence in [4, 100, 20_000, 50_000] {
            assert_eq!(queue.acknowledge(sequence, &[], false, 1), None);
        }
        let lie = queue.acknowledge(0, &[0xff; 252], false, 1).unwrap();
        assert_eq!((lie.bytes, queue.in_flight()), (200, 100));
        let late = Some(Acknowledged { is_late: true, ..Acknowledged::default() });
        assert_eq!(queue.acknowledge(u16::MAX, &[], false, 1), late);
        assert_eq!(queue.acknowledge(3, &[], false, 1).unwrap().bytes, 100);
        assert_eq!(queue.acknowledge(2, &[], false, 1), late);
    }

    #[test]
    fn a_probe_goes_alone_and_its_loss_is_not_a_loss_of_the_path() {
        let mut queue = SendQueue::new(0);
        let slices = [IoSlice::new(&[7; 700])];
        assert_eq!(queue.write(&slices, usize::MAX, LEN, Some(220)), (700, true));
        assert_eq!(send_all(&mut queue, 0), [(0, 1), (1, 7)]);
        let ack = queue.acknowledge(0, &[0b111, 0, 0, 0], true, 1).unwrap();
        assert_eq!((ack.lost_probe, ack.lost), (Some(220), None));
    }

    #[test]
    fn what_a_lost_probe_carried_is_sent_again_in_a_packet_of_the_usual_length() {
        for (probe, long) in [(220, 220), (LEN + 1, LEN + 12), (LEN + 1000, LEN + 267)] {
            let mut queue = SendQueue::new(0);
            assert_eq!(
                queue.write(&[IoSlice::new(&[7; 800])], usize::MAX, LEN, Some(probe)).0,
                800
            );
            let send = |queue: &mut SendQueue| {
                let run = queue.next_run(usize::MAX).unwrap();
                let (chunk, place, _, _) = queue.send(&run, 0, &header());
                queue.bytes(chunk, place).to_vec()
            };
            let padded = send(&mut queue);
            assert_eq!(padded.len(), long);
            send_all(&mut queue, 0);
            queue.acknowledge(0, &[0b111, 0, 0, 0], true, 1).unwrap();
            let again = send(&mut queue);
            assert_eq!(again.len(), LEN);
            for packet in [padded, again] {
                assert_eq!(Packet::decode(&packet).unwrap().payload, [7; LEN - Header::LEN]);
            }
        }
    }

    #[test]
    fn what_the_system_does_not_take_goes_out_later_and_is_no_loss() {
        let mut queue = SendQueue::new(0);
        write(&mut queue, &[0; 500]);
        let run = queue.next_run(usize::MAX).unwrap();
        queue.send(&run, 0, &header());
        queue.refused(&run, 2);
        assert_eq!(queue.in_flight(), 200);
        assert_eq!(send_all(&mut queue, 3), [(2, 5)]);
        assert_eq!(queue.acknowledge(5, &[], false, 4).unwrap().round_trip, Some(1));
    }

    #[test]
    fn a_probe_that_the_system_does_not_take_stays_a_probe() {
        let mut queue = SendQueue::new(0);
        assert!(queue.write(&[IoSlice::new(&[7; 800])], usize::MAX, LEN, Some(220)).1);
        let probe = queue.next_run(usize::MAX).unwrap();
        queue.send(&probe, 0, &header());
        queue.refused(&probe, 0);
        let again = queue.next_run(usize::MAX).unwrap();
        assert_eq!((again.kind, again.is_repeated), (SegmentKind::Probe, false));
    }

    #[test]
    fn what_was_sent_long_before_one_that_arrived_is_lost_though_few_were_sent_since() {
        let mut queue = sent(3);
        queue.round_trip = Some((40_000, 40_000));
        let soon = queue.acknowledge(0, &[0b01], true, 40_000).unwrap();
        assert_eq!(soon.lost, None);
        write(&mut queue, &[0; 100]);
        send_all(&mut queue, 41_000);
        let late = queue.acknowledge(0, &[0b101], true, 82_000).unwrap();
        assert_eq!(late.lost, Some(2));
        assert_eq!(send_all(&mut queue, 83_000), [(0, 1), (2, 3)]);
    }

    #[test]
    fn the_last_is_repeated_and_what_was_missing_is_found_by_that() {
        for (arrived, missing) in [(3, vec![]), (2, vec![]), (0, vec![(0, 2)])] {
            let mut queue = sent(3);
            queue.round_trip = Some((40_000, 40_000));
            assert_eq!(queue.last_sent_at(), Some(0));
            assert_eq!(queue.repeat_last(), None);
            assert_eq!(queue.last_sent_at(), None);
            assert_eq!(send_all(&mut queue, 100_000), [(2, 3)]);
            let (sequence, selective, now) = match arrived {
                // It had arrived, and only the word of that was late.
                3 => (3, &[][..], 110_000),
                2 => (3, &[][..], 150_000),
                _ => (0, &[0b10][..], 150_000),
            };
            let answer = queue.acknowledge(sequence, selective, true, now).unwrap();
            assert_eq!(answer.lost.is_some(), arrived < 3);
            assert_eq!(send_all(&mut queue, 151_000), missing);
        }
    }

    #[test]
    fn a_run_stays_within_its_room_but_is_never_empty() {
        let mut queue = SendQueue::new(0);
        write(&mut queue, &[0; 1000]);
        assert_eq!(queue.next_run(0).unwrap().count, 1);
        assert_eq!(queue.next_run(399).unwrap().count, 3);
    }

    #[test]
    fn nothing_goes_out_far_ahead_of_what_is_missing() {
        let mut queue = sent(400);
        queue.acknowledge(1, &[0b111], true, 1).unwrap();
        write(&mut queue, &[0; 40_000]);
        let runs = send_all(&mut queue, 2);
        assert_eq!((runs[0], runs.last().unwrap().1), ((1, 2), 1 + AHEAD_MAX));
        queue.acknowledge(AHEAD_MAX as u16, &[], false, 3).unwrap();
        assert!(queue.next_run(usize::MAX).is_some());
    }

    fn write(queue: &mut SendQueue, bytes: &[u8]) -> usize {
        queue.write(&[IoSlice::new(bytes)], usize::MAX, LEN, None).0
    }

    /// A queue that begins at 0, with so many full packets under way.
    fn sent(count: usize) -> SendQueue {
        let mut queue = SendQueue::new(0);
        write(&mut queue, &vec![0; count * (LEN - Header::LEN)]);
        send_all(&mut queue, 0);
        assert_eq!(queue.sent, count);
        queue
    }

    /// Sends all there is. Returns where each run begins and ends.
    fn send_all(queue: &mut SendQueue, now: u64) -> Vec<(usize, usize)> {
        let mut runs = Vec::new();
        while let Some(run) = queue.next_run(usize::MAX) {
            let first = usize::from(queue.first) + run.first;
            queue.send(&run, now, &header());
            runs.push((first, first + run.count));
        }
        runs
    }

    fn header() -> Header {
        Header {
            kind: PacketKind::Data,
            connection_id: 1,
            timestamp: 0,
            timestamp_difference: 0,
            window: 0,
            sequence: 0,
            acknowledged: 0,
        }
    }
}

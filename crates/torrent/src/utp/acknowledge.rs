//! What the other end says has arrived, and what follows from that for the rest.

use super::send::{Fate, SEGMENTS_MAX, Segment, SegmentKind, SendQueue};

/// What came of an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Bytes that have newly arrived.
    pub(super) bytes: usize,
    /// Whether any packet has.
    pub(super) is_new: bool,
    /// How long the latest of them took.
    pub(super) round_trip: Option<u64>,
    /// The number of the latest transmission among packets that were found to be lost.
    pub(super) lost: Option<u64>,
    /// The length of the longest packet that arrived, and whether that was a probe.
    pub(super) longest: Option<(usize, bool)>,
    /// A probe of this length was lost.
    pub(super) lost_probe: Option<usize>,
    /// It was overtaken by others: what it tells was told before.
    pub(super) is_late: bool,
}

impl SendQueue {
    /// All packets before `sequence` have arrived, and those that the mask says. `None` if that cannot be:
    /// some were never sent.
    pub(super) fn acknowledge(
        &mut self,
        sequence: u16,
        selective: &[u8],
        is_duplicate: bool,
        now: u64,
    ) -> Option<Acknowledged> {
        let mut result = Acknowledged::default();
        let count = usize::from(sequence.wrapping_sub(self.first));
        if count > self.sent {
            // Late ones tell what was told before; others tell of what never was.
            let is_late = count > usize::from(u16::MAX) - LATE_MAX;
            return is_late.then_some(Acknowledged { is_late, ..result });
        }
        for _ in 0..count {
            let Some(segment) = self.segments.pop_front() else { break };
            self.arrived -= usize::from(segment.fate == Fate::Arrived);
            self.take_off(&segment, now, &mut result);
            self.queued -= usize::from(segment.len);
        }
        self.first = sequence;
        self.sent -= count;
        self.free_chunks();
        let mut highest = 0;
        for (byte, start) in selective.iter().zip((1..).step_by(8)) {
            for index in (0..8).filter(|bit| byte & (1 << bit) != 0).map(|bit| start + bit) {
                // Bits for what was never sent mean nothing.
                if index >= self.sent {
                    break;
                }
                highest = index;
                let segment = self.segments[index];
                if segment.fate != Fate::Arrived {
                    self.take_off(&segment, now, &mut result);
                    self.segments[index].fate = Fate::Arrived;
                    self.arrived += 1;
                }
            }
        }
        if result.is_new {
            self.duplicates = 0;
        } else if is_duplicate && self.sent > 0 {
            self.duplicates += 1;
        }
        if highest > 0 {
            self.find_lost(highest, &mut result);
        } else if self.duplicates == DUPLICATES {
            self.lose(0, &mut result);
        }
        Some(result)
    }

    /// A packet has arrived.
    fn take_off(&mut self, segment: &Segment, now: u64, result: &mut Acknowledged) {
        let len = usize::from(segment.len);
        match segment.fate {
            Fate::InFlight => self.in_flight -= len,
            Fate::Lost => self.lost -= 1,
            Fate::Arrived | Fate::Waiting => return,
        }
        result.bytes += len;
        result.is_new = true;
        let took = now.saturating_sub(segment.sent_at);
        // Else it may have been an earlier transmission that arrived.
        let is_first = segment.transmissions == 1;
        let is_latest = is_first || self.least_trip().is_some_and(|least| took >= least);
        if is_first {
            result.round_trip = Some(result.round_trip.map_or(took, |least| least.min(took)));
        }
        if is_latest {
            let latest = (segment.order + 1, segment.sent_at);
            self.latest_acknowledged = self.latest_acknowledged.max(latest);
        }
        if is_latest && self.repeated_last == Some(segment.order) {
            // So the one before it was lost.
            result.lost = result.lost.max(Some(segment.order));
        }
        let is_probe = segment.kind == SegmentKind::Probe && segment.transmissions == 1;
        let whole = (segment.whole_len(), is_probe);
        result.longest = result.longest.max(Some(whole));
    }

    /// Packets are lost if several that were sent after them have arrived, or one that was sent so much later that
    /// no packet is overtaken by that much ([RFC 8985](https://www.rfc-editor.org/rfc/rfc8985)).
    fn find_lost(&mut self, highest: usize, result: &mut Acknowledged) {
        let (latest, latest_at) = self.latest_acknowledged;
        let overtakes_by = self.round_trip.map(|(_, smoothed)| smoothed / 4);
        for index in 0..highest {
            let segment = &self.segments[index];
            let is_behind = segment.order + u64::from(DUPLICATES) < latest;
            let is_long_ago = segment.order < latest
                && overtakes_by.is_some_and(|by| segment.sent_at + by < latest_at);
            if segment.fate == Fate::InFlight && (is_behind || is_long_ago) {
                self.lose(index, result);
            }
        }
    }

    fn least_trip(&self) -> Option<u64> {
        self.round_trip.map(|(least, _)| least)
    }

    pub(super) fn lose(&mut self, index: usize, result: &mut Acknowledged) {
        let Some(segment) = self.segments.get_mut(index) else { return };
        if segment.fate != Fate::InFlight {
            return;
        }
        segment.fate = Fate::Lost;
        self.lost += 1;
        self.in_flight -= usize::from(segment.len);
        if segment.kind == SegmentKind::Probe && segment.transmissions == 1 {
            result.lost_probe = Some(segment.whole_len());
        } else {
            result.lost = result.lost.max(Some(segment.order));
        }
    }

    /// Nothing came for too long: all that is under way is taken to be lost. Returns the length of a probe that
    /// was among it.
    pub(super) fn lose_all(&mut self) -> Option<usize> {
        let mut result = Acknowledged::default();
        for index in 0..self.sent {
            self.lose(index, &mut result);
        }
        self.duplicates = 0;
        result.lost_probe
    }

    /// Nothing came for a while: the last packet goes out once more, though it may have arrived. What is
    /// said to that tells what else is missing. Returns the length of a probe, if it was one.
    pub(super) fn repeat_last(&mut self) -> Option<usize> {
        let mut result = Acknowledged::default();
        let is_under_way = |segment: &Segment| segment.fate == Fate::InFlight;
        let last = self.segments.range(..self.sent).rposition(is_under_way)?;
        self.lose(last, &mut result);
        // It goes out next, before all others.
        self.repeated_last = Some(self.order);
        result.lost_probe
    }
}

/// A packet is lost if so many that were sent after it have arrived.
const DUPLICATES: u32 = 3;
/// So far behind an acknowledgement may be late; one that is farther tells of what was never sent.
const LATE_MAX: usize = SEGMENTS_MAX;

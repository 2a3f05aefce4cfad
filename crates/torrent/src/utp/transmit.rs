//! What a connection has to say: requests, data, acknowledgements.

use std::ops::Range;

use super::Times;
use super::connection::{Ack, Connection, State};
use super::packet::{Header, Packet, PacketKind, SELECTIVE_LEN_MAX};
use super::send::{Run, SegmentKind};

/// What is to be sent, and where it stands.
#[derive(Clone, Debug)]
pub(super) enum Outgoing {
    /// In the scratch buffer.
    Single,
    /// In a chunk of the queue.
    Run { run: Run, chunk: usize, place: Range<usize>, segment_len: usize },
}

impl Connection {
    /// The next thing to send, if there is one.
    pub(super) fn poll(
        &mut self,
        times: Times,
        window_max: usize,
        scratch: &mut Vec<u8>,
    ) -> Option<Outgoing> {
        match &mut self.state {
            State::Closed(_) => {}
            State::Asking { sequence, attempts, asked_at, is_due } => {
                if !std::mem::take(is_due) {
                    return None;
                }
                (*attempts, *asked_at) = (*attempts + 1, times.now);
                let (sequence, attempts) = (*sequence, *attempts);
                self.give_up_at = Some(times.now + (ASK_PATIENCE << (attempts - 1)));
                let mut header = self.header(times, PacketKind::Syn, window_max);
                (header.connection_id, header.sequence) = (self.receive_id, sequence);
                header.acknowledged = 0;
                scratch.clear();
                Packet { header, selective: &[], payload: &[] }.encode(scratch);
                return Some(Outgoing::Single);
            }
            State::Open => {
                if let Some(run) = self.poll_data(times, window_max) {
                    return Some(run);
                }
            }
            State::Asked { .. } => {}
        }
        // One that is closed answers only who repeats its last word.
        if self.ack != Ack::Now {
            return None;
        }
        let mut mask = [0; SELECTIVE_LEN_MAX];
        let len = self.receive.selective(&mut mask);
        let header = self.header(times, PacketKind::State, window_max);
        self.acknowledged(times.now, &header);
        scratch.clear();
        let selective = mask.get(..len).unwrap_or_default();
        Packet { header, selective, payload: &[] }.encode(scratch);
        self.check_finished();
        Some(Outgoing::Single)
    }

    /// As many packets of data as may go out now.
    fn poll_data(&mut self, times: Times, window_max: usize) -> Option<Outgoing> {
        if !self.send.has_work() || self.pace_at.is_some_and(|at| at > times.now) {
            return None;
        }
        let in_flight = self.send.in_flight();
        let window = self.ledbat.window();
        let allowed = window.min(self.their_window);
        let mut room = allowed.saturating_sub(in_flight);
        let rate = self.rate();
        if let Some(rate) = rate {
            match self.pacer.allowance(times.now, rate) {
                Ok(credit) => room = room.min(credit.max(self.mtu.len())),
                Err(at) => {
                    self.pace_at = Some(at);
                    return None;
                }
            }
        }
        let run = self.send.next_run(room)?;
        let first_len = self.send.first_len(&run);
        let is_first = in_flight == 0 && (first_len <= self.their_window || self.tests_window);
        if first_len > allowed.saturating_sub(in_flight) && !is_first {
            if window <= self.their_window {
                self.limited_at = Some(times.now);
            }
            // Should what opens the window be lost, this finds out.
            let timeout = self.round_trip.timeout();
            self.give_up_at.get_or_insert(times.now + timeout);
            return None;
        }
        self.tests_window = false;
        let kind = match run.kind {
            SegmentKind::Data | SegmentKind::Probe => PacketKind::Data,
            SegmentKind::Fin => PacketKind::Fin,
        };
        let header = self.header(times, kind, window_max);
        let (chunk, place, segment_len, data) = self.send.send(&run, times.now, &header);
        self.pacer.spend(if rate.is_some() { data } else { 0 });
        if !self.receive.has_gaps() {
            self.acknowledged(times.now, &header);
        }
        self.sent_at = times.now;
        let timeout = self.round_trip.timeout();
        self.give_up_at.get_or_insert(times.now + timeout);
        self.await_the_last(times.now);
        Some(Outgoing::Run { run, chunk, place, segment_len })
    }

    /// Bytes a second, a little faster than the window gets around: the window is to be what limits.
    fn rate(&self) -> Option<u64> {
        let round_trip = self.round_trip.smoothed()?;
        let window = self.ledbat.window() as u64;
        let quicker = if self.ledbat.is_slow_start() { window * 2 } else { window * 5 / 4 };
        Some((quicker * 1_000_000 / round_trip).max(1))
    }

    fn header(&self, times: Times, kind: PacketKind, window_max: usize) -> Header {
        let room = window_max.saturating_sub(self.receive.len());
        Header {
            kind,
            connection_id: self.send_id,
            timestamp: times.stamp,
            timestamp_difference: self.difference,
            window: u32::try_from(room).unwrap_or(u32::MAX),
            sequence: self.send.next_sequence(),
            acknowledged: self.receive.acknowledged(),
        }
    }

    /// A packet with this header goes out: it acknowledges, too.
    fn acknowledged(&mut self, now: u64, header: &Header) {
        (self.ack, self.unanswered) = (Ack::Nothing, 0);
        self.told_window = header.window as usize;
        self.sent_at = now;
    }

    /// Where a run stands that was just polled.
    pub(super) fn bytes(&self, chunk: usize, place: Range<usize>) -> &[u8] {
        self.send.bytes(chunk, place)
    }

    /// The system took only so many packets of a run.
    pub(super) fn refused(&mut self, run: &Run, taken: usize) {
        self.send.refused(run, taken);
    }

    /// The system says that a packet is too long for the way.
    pub(super) fn too_long(&mut self, run: &Run) {
        if run.kind == SegmentKind::Probe && !run.is_repeated {
            self.mtu.refused(self.send.first_whole_len(run));
        }
        self.send.too_long(run);
    }
}

const ASK_PATIENCE: u64 = 1_000_000;

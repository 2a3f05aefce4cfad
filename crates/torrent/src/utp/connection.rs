//! One connection: what a packet does to it, and what it has to say.
//!
//! Times are in microseconds since the table of connections was made.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;

use super::acknowledge::Acknowledged;
use super::delay::DelayHistory;
use super::ledbat::{Feedback, Ledbat, WINDOW_MAX};
use super::mtu::PathMtu;
use super::pacer::Pacer;
use super::packet::{Header, Packet, PacketKind};
use super::receive::{Arrival, ReceiveQueue};
use super::rtt::RoundTrip;
use super::send::SendQueue;
use super::{CloseReason, Times};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) addr: SocketAddr,
    /// What packets to us are marked with, and those to the other end.
    pub(super) receive_id: u16,
    pub(super) send_id: u16,
    pub(super) state: State,
    /// Nobody has been told of it yet.
    pub(super) is_unclaimed: bool,
    /// Who had this one has let go of it: what is left goes out, until then.
    pub(super) lingers_until: Option<u64>,
    pub(super) send: SendQueue,
    pub(super) receive: ReceiveQueue,
    pub(super) ledbat: Ledbat,
    pub(super) round_trip: RoundTrip,
    pub(super) mtu: PathMtu,
    pub(super) pacer: Pacer,
    /// How long the other end's packets take: its changes tell how the clocks run apart.
    pub(super) their_delays: DelayHistory,
    /// What the last of their packets took, by the difference of the clocks.
    pub(super) difference: u32,
    /// Bytes that the other end has room for.
    pub(super) their_window: usize,
    /// The room that we told of last.
    pub(super) told_window: usize,
    pub(super) ack: Ack,
    /// Packets that came since we acknowledged last.
    pub(super) unanswered: u32,
    /// When everything under way counts as lost.
    pub(super) give_up_at: Option<u64>,
    /// When the last packet is sent once more, to learn what has arrived.
    pub(super) repeat_at: Option<u64>,
    /// That was done, and nothing new has come since.
    pub(super) has_repeated: bool,
    /// When the pacer lets the next packets out.
    pub(super) pace_at: Option<u64>,
    /// One packet may go out though the other end has no room: to learn when it has.
    pub(super) tests_window: bool,
    /// When the window was all used, last.
    pub(super) limited_at: Option<u64>,
    /// Losses of transmissions before this one have been answered.
    pub(super) recovered_at: u64,
    pub(super) sent_at: u64,
    /// What there is to tell who has this.
    pub(super) news: News,
    pub(super) wants_writable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// We asked so often; at `is_due` we ask again.
    Asking {
        sequence: u16,
        attempts: u32,
        asked_at: u64,
        is_due: bool,
    },
    /// We were asked, and said yes. Who asked has yet to show that it is where it says.
    Asked {
        since: u64,
    },
    Open,
    Closed(CloseReason),
}

/// Whether something is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    Nothing,
    /// By then at the latest.
    At(u64),
    Now,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) has_connected: bool,
    pub(super) was_accepted: bool,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    pub(super) closed: Option<CloseReason>,
}

impl Connection {
    /// One that asks for a connection.
    pub(super) fn asking(now: u64, addr: SocketAddr, receive_id: u16, sequence: u16) -> Self {
        let state = State::Asking { sequence, attempts: 0, asked_at: now, is_due: true };
        let ids = (receive_id, receive_id.wrapping_add(1));
        Self::new(now, addr, ids, sequence.wrapping_add(1), 0, state)
    }

    /// One that was asked for, with the packet `syn`.
    pub(super) fn asked(now: u64, addr: SocketAddr, syn: &Header, sequence: u16) -> Self {
        let ids = (syn.connection_id.wrapping_add(1), syn.connection_id);
        let next = syn.sequence.wrapping_add(1);
        let mut new = Self::new(now, addr, ids, sequence, next, State::Asked { since: now });
        new.their_window = syn.window as usize;
        new.ack = Ack::Now;
        new
    }

    fn new(
        now: u64,
        addr: SocketAddr,
        (receive_id, send_id): (u16, u16),
        sequence: u16,
        next: u16,
        state: State,
    ) -> Self {
        let mtu = PathMtu::new(addr.ip().to_canonical().is_ipv4());
        Self {
            addr,
            receive_id,
            send_id,
            state,
            is_unclaimed: matches!(state, State::Asked { .. }),
            lingers_until: None,
            send: SendQueue::new(sequence),
            receive: ReceiveQueue::new(next),
            ledbat: Ledbat::new(now, mtu.len() - Header::LEN),
            round_trip: RoundTrip::default(),
            mtu,
            pacer: Pacer::new(now),
            their_delays: DelayHistory::default(),
            difference: 0,
            their_window: 0,
            told_window: 0,
            ack: Ack::Nothing,
            unanswered: 0,
            give_up_at: None,
            repeat_at: None,
            has_repeated: false,
            pace_at: None,
            tests_window: false,
            limited_at: None,
            recovered_at: 0,
            sent_at: now,
            news: News::default(),
            wants_writable: false,
        }
    }

    /// Since when the other end has yet to show that it is where it says.
    pub(super) const fn half_open_since(&self) -> Option<u64> {
        match self.state {
            State::Asked { since } => Some(since),
            State::Asking { .. } | State::Open | State::Closed(_) => None,
        }
    }

    /// How asking for it ended.
    pub(super) fn connected(&self) -> io::Result<()> {
        match self.state {
            State::Asking { .. } => Err(io::ErrorKind::WouldBlock.into()),
            State::Asked { .. } | State::Open => Ok(()),
            State::Closed(reason) => Err(reason.into_error()),
        }
    }

    /// Whether the other end has yet to answer.
    pub(super) const fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Whether who had this has let go of it.
    pub(super) const fn is_lingering(&self) -> bool {
        self.lingers_until.is_some()
    }

    /// Whether nobody ever had this: it was asked for, and not used yet.
    pub(super) const fn was_never_told(&self) -> bool {
        self.is_unclaimed
    }

    /// The number of our next packet, and that of the last of theirs in order.
    pub(super) fn numbers(&self) -> (u16, u16) {
        (self.send.next_sequence(), self.receive.acknowledged())
    }

    /// Whether nothing is left to do for it.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Closed(_)) && self.lingers_until.is_some()
    }

    /// What packets of ours are marked with.
    pub(super) const fn send_id(&self) -> u16 {
        self.send_id
    }

    /// Bytes of received data that are here.
    pub(super) fn buffered(&self) -> usize {
        self.receive.len()
    }

    pub(super) const fn ledbat(&self) -> &Ledbat {
        &self.ledbat
    }

    pub(super) const fn round_trip(&self) -> Option<u64> {
        self.round_trip.smoothed()
    }

    pub(super) const fn packet_len(&self) -> usize {
        self.mtu.len()
    }

    /// A packet of this connection has come; `room` bytes may be here.
    pub(super) fn handle_packet(&mut self, times: Times, packet: &Packet<'_>, room: usize) {
        let header = &packet.header;
        match (self.state, header.kind) {
            // Our last word was lost.
            (State::Closed(CloseReason::Finished), PacketKind::Fin) => self.ack = Ack::Now,
            (State::Closed(_), _) => {}
            (_, PacketKind::Reset) => self.handle_reset(header),
            (State::Asking { sequence, attempts, asked_at, .. }, PacketKind::State) => {
                if header.acknowledged == sequence {
                    self.receive = ReceiveQueue::new(header.sequence);
                    self.their_window = header.window as usize;
                    if attempts == 1 {
                        self.round_trip.add(times.now.saturating_sub(asked_at));
                    }
                    self.measure(times, header);
                    self.state = State::Open;
                    self.give_up_at = None;
                    self.news.has_connected = true;
                    self.news.is_writable = true;
                }
            }
            (State::Asking { .. }, _) => {}
            // Our answer was lost.
            (State::Asked { .. } | State::Open, PacketKind::Syn) => self.ack = Ack::Now,
            (State::Asked { .. }, kind) => {
                let is_right = header.acknowledged.wrapping_add(1) == self.send.next_sequence();
                if is_right && kind == PacketKind::Data {
                    self.state = State::Open;
                    self.is_unclaimed = false;
                    self.news.was_accepted = true;
                    self.handle_open(times, packet, room);
                }
            }
            (State::Open, _) => self.handle_open(times, packet, room),
        }
    }

    /// Believed if it answers something that we may have sent.
    fn handle_reset(&mut self, header: &Header) {
        let (is_ours, reason) = match self.state {
            State::Asking { sequence, .. } => {
                (header.acknowledged == sequence, CloseReason::Refused)
            }
            State::Asked { .. } | State::Open | State::Closed(_) => {
                let behind = self.send.next_sequence().wrapping_sub(header.acknowledged);
                (usize::from(behind) <= self.send.len() + RESET_LATE_MAX, CloseReason::Reset)
            }
        };
        if is_ours {
            self.close_with(reason);
        }
    }

    fn handle_open(&mut self, times: Times, packet: &Packet<'_>, room: usize) {
        let header = &packet.header;
        let is_plain = header.kind == PacketKind::State && packet.payload.is_empty();
        let is_duplicate = is_plain && header.window as usize == self.their_window;
        let next = header.acknowledged.wrapping_add(1);
        let acknowledged = self.send.acknowledge(next, packet.selective, is_duplicate, times.now);
        // Who acknowledges what was never sent is not the other end.
        let Some(acknowledged) = acknowledged else { return };
        self.measure(times, header);
        if !acknowledged.is_late {
            self.their_window = header.window as usize;
        }
        // Who has no room for a packet says nothing new for as long as its program rests.
        if self.tests_window || self.their_window < self.mtu.len() {
            self.round_trip.answered();
        }
        self.handle_acknowledged(times.now, header, &acknowledged);
        if matches!(header.kind, PacketKind::Data | PacketKind::Fin) {
            self.handle_data(times.now, packet, room);
        }
        self.check_finished();
    }

    /// How long the packet took, if only by the difference of two clocks.
    fn measure(&mut self, times: Times, header: &Header) {
        // 0 says that nothing was measured.
        self.difference = times.stamp.wrapping_sub(header.timestamp).max(1);
        let lowered = self.their_delays.add(times.now, self.difference);
        if lowered > 0 {
            self.ledbat.clocks_drift(lowered);
        }
    }

    fn handle_acknowledged(&mut self, now: u64, header: &Header, acked: &Acknowledged) {
        if let Some((len, is_probe)) = acked.longest {
            self.mtu.arrived(len, is_probe);
        }
        if let Some(len) = acked.lost_probe {
            self.mtu.probe_lost(len);
        }
        self.ledbat.set_packet_len(self.mtu.len() - Header::LEN);
        if acked.is_new {
            self.round_trip.answered();
            if let Some(sample) = acked.round_trip {
                self.round_trip.add(sample);
                self.send.round_trip = self.round_trip.least_and_smoothed();
            }
            let smoothed = self.round_trip.smoothed().unwrap_or_default();
            let limited_for = self.limited_at.map(|at| now.saturating_sub(at));
            self.ledbat.handle_ack(
                now,
                Feedback {
                    acknowledged: acked.bytes,
                    delay: (header.timestamp_difference != 0)
                        .then_some(header.timestamp_difference),
                    round_trip: acked.round_trip.and_then(|sample| u32::try_from(sample).ok()),
                    is_limited: limited_for.is_some_and(|passed| passed <= 2 * smoothed),
                },
            );
            self.give_up_at = self.send.has_unanswered().then(|| now + self.round_trip.timeout());
            self.has_repeated = false;
            self.await_the_last(now);
            self.pace_at = None;
            if self.wants_writable && self.write_room() >= self.write_max() / 4 {
                self.wants_writable = false;
                self.news.is_writable = true;
            }
        }
        if acked.lost.is_some_and(|order| order >= self.recovered_at) {
            self.ledbat.handle_loss(now);
            self.recovered_at = self.send.order();
        }
    }

    /// Sets when the last packet is sent once more, should nothing come.
    pub(super) fn await_the_last(&mut self, now: u64) {
        let is_little = self.send.in_flight() < 2 * (self.mtu.len() - Header::LEN);
        let patience = self.round_trip.tail_patience(is_little);
        let last = self.send.last_sent_at().filter(|_| !self.has_repeated);
        self.repeat_at = last.zip(patience).map(|(at, patience)| (at + patience).max(now));
    }

    fn handle_data(&mut self, now: u64, packet: &Packet<'_>, room: usize) {
        // Who had this has let go of it: nobody will read that.
        if self.lingers_until.is_some() {
            return;
        }
        let was_readable = self.receive.is_readable();
        let is_end = packet.header.kind == PacketKind::Fin;
        let arrival = self.receive.receive(packet.header.sequence, packet.payload, is_end, room);
        self.unanswered += 1;
        let is_urgent = arrival != Arrival::InOrder || is_end || self.unanswered >= ACK_EVERY;
        self.ack = match self.ack {
            _ if is_urgent => Ack::Now,
            Ack::Nothing => Ack::At(now + ACK_PATIENCE),
            due @ (Ack::At(_) | Ack::Now) => due,
        };
        if !was_readable && self.receive.is_readable() || self.receive.has_ended() {
            self.news.is_readable = true;
        }
    }

    /// Both ends have said all, or ours has and nobody wants to hear the other.
    pub(super) fn check_finished(&mut self) {
        let has_heard_all = self.receive.has_ended() && self.ack == Ack::Nothing;
        if self.send.is_finished() && (has_heard_all || self.is_lingering()) {
            self.close_with(CloseReason::Finished);
        }
    }

    pub(super) fn close_with(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(reason);
            self.news.closed = Some(reason);
            // What is still said bears the right number: who gets another does not listen.
            self.send = SendQueue::new(self.send.next_sequence());
            (self.give_up_at, self.repeat_at, self.pace_at) = (None, None, None);
            self.ack = Ack::Nothing;
        }
    }

    /// How many bytes are taken to be sent, at most: twice what is under way, so that there always is more.
    fn write_max(&self) -> usize {
        (2 * self.ledbat.window()).clamp(WRITE_MIN, WINDOW_MAX)
    }

    fn write_room(&self) -> usize {
        self.write_max().saturating_sub(self.send.queued())
    }

    /// Takes what there is room for.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.state {
            State::Open => {}
            State::Closed(reason) => return Err(reason.into_error()),
            State::Asking { .. } | State::Asked { .. } => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        if self.send.is_ended() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let has_speed = self.ledbat.window() >= PROBE_FROM * self.mtu.len();
        let probe = self.mtu.probe_len().filter(|_| has_speed);
        let room = self.write_room();
        let (count, has_probe) = self.send.write(slices, room, self.mtu.len(), probe);
        if has_probe {
            self.mtu.probe_sent();
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        self.wants_writable |= count < wanted;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    /// Reads what is in order; 0 is the end.
    pub(super) fn read(
        &mut self,
        slices: &mut [IoSliceMut<'_>],
        window_max: usize,
    ) -> io::Result<usize> {
        let count = self.receive.read(slices);
        if count > 0 {
            let room = window_max.saturating_sub(self.receive.len());
            // Whoever waits for room hears of it once there is plenty.
            let is_open = matches!(self.state, State::Open);
            if is_open && self.told_window < window_max / 4 && room >= window_max / 2 {
                self.ack = Ack::Now;
            }
            return Ok(count);
        }
        match self.state {
            _ if self.receive.has_ended() => Ok(0),
            State::Closed(CloseReason::Finished) => Ok(0),
            State::Closed(reason) => Err(reason.into_error()),
            State::Asking { .. } | State::Asked { .. } | State::Open => {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self) {
        self.send.finish();
    }

    /// Lets go of it: what was written still goes out, for a while.
    pub(super) fn linger(&mut self, now: u64) {
        self.lingers_until = Some(now + LINGER_MAX);
        if self.state == State::Open {
            self.send.finish();
            self.check_finished();
        } else {
            self.close_with(CloseReason::Finished);
        }
    }
}

/// Packets are acknowledged at the latest after so many.
const ACK_EVERY: u32 = 2;
/// A single packet is acknowledged after this, should nothing else be sent meanwhile.
const ACK_PATIENCE: u64 = 20_000;
/// So long what was written before a close has to arrive.
const LINGER_MAX: u64 = 20_000_000;
/// The least that is taken to be sent.
const WRITE_MIN: usize = 128 * 1024;
/// A longer packet is tried when so many are under way that its loss is noticed by the others.
const PROBE_FROM: usize = 8;
/// So many packets ago a reset may be late.
const RESET_LATE_MAX: usize = 64;

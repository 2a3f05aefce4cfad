//! Two ends and the way between them, in virtual time: a link with a rate, a length and a queue that drops what it has
//! no room for; what goes wrong on networks; and somebody else who uses the link as TCP does.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::{CloseReason, Event, Mux, MuxConfig, StreamId};
use crate::Rng;

/// One direction of a link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Bytes a second.
    pub(super) rate: u64,
    /// How long light takes.
    pub(super) delay: Duration,
    /// Bytes that may wait.
    pub(super) queue_max: u64,
    /// Of a thousand packets so many are lost, come late, or come twice.
    pub(super) losses: usize,
    pub(super) late: usize,
    pub(super) twice: usize,
    /// Of the packets that are sent, counted from the first, these are lost.
    pub(super) lost: Range<u64>,
    pub(super) sent: u64,
    /// Packets that are longer are cut up, or lost if they do not allow that.
    pub(super) len_max: usize,
    /// Those that allow it are lost as well.
    pub(super) never_cuts: bool,
    /// When the last byte of the queue is out.
    pub(super) free_at: Option<Instant>,
    /// The longest that a packet had to wait, since that was asked.
    pub(super) waited_max: Duration,
}

impl Link {
    /// One that does nothing wrong, with a queue that takes so long to empty.
    pub(super) fn new(rate_mbit: u64, delay_ms: u64, queue_ms: u64) -> Self {
        let rate = rate_mbit * 1_000_000 / 8;
        Self {
            rate,
            delay: Duration::from_millis(delay_ms),
            queue_max: rate * queue_ms / 1000,
            losses: 0,
            late: 0,
            twice: 0,
            lost: 0..0,
            sent: 0,
            len_max: 1472,
            never_cuts: false,
            free_at: None,
            waited_max: Duration::ZERO,
        }
    }

    /// How long what is sent now has to wait.
    fn wait(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Sends a packet. Returns when it arrives, if it does, and perhaps when it does again.
    fn send(&mut self, now: Instant, len: usize, is_whole: bool, rng: &mut Rng) -> Vec<Instant> {
        let wait = self.wait(now);
        let waiting = (wait.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64;
        let len_on_wire = (len + 28) as u64;
        let is_too_long = len > self.len_max && (is_whole || self.never_cuts);
        if waiting + len_on_wire > self.queue_max || is_too_long {
            return Vec::new();
        }
        let out = now + wait + Duration::from_nanos(len_on_wire * 1_000_000_000 / self.rate);
        self.free_at = Some(out);
        self.waited_max = self.waited_max.max(wait);
        self.sent += 1;
        if self.lost.contains(&(self.sent - 1)) {
            return Vec::new();
        }
        let mut one_in_thousand = |count| rng.below(1000) < count;
        if one_in_thousand(self.losses) {
            return Vec::new();
        }
        let extra = if one_in_thousand(self.late) { self.delay / 4 } else { Duration::ZERO };
        let at = out + self.delay + extra;
        if one_in_thousand(self.twice) { vec![at, at + self.delay / 2] } else { vec![at] }
    }
}

/// One end, with a program that writes and reads.
#[derive(Debug)]
pub(super) struct End {
    pub(super) mux: Mux,
    pub(super) addr: SocketAddr,
    pub(super) stream: Option<StreamId>,
    /// Bytes that it shall write, and has written.
    pub(super) to_write: u64,
    pub(super) written: u64,
    pub(super) read: u64,
    pub(super) has_read_end: bool,
    pub(super) closed: Option<CloseReason>,
    /// How far its clock is ahead.
    pub(super) ahead: Duration,
    finishes: bool,
}

impl End {
    fn new(number: u8, now: Instant, config: MuxConfig, seed: u64) -> Self {
        Self {
            mux: Mux::new(now, config, Rng::from_seed(seed)),
            addr: SocketAddr::from(([10, 0, 0, number], 6881)),
            stream: None,
            to_write: 0,
            written: 0,
            read: 0,
            has_read_end: false,
            closed: None,
            ahead: Duration::ZERO,
            finishes: false,
        }
    }

    /// Writes so much, and says that this is all.
    pub(super) const fn write_and_finish(&mut self, len: u64) {
        (self.to_write, self.finishes) = (len, true);
    }

    fn run(&mut self, pattern: &[u8], buffer: &mut [u8]) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Accepted(stream, _) | Event::Connected(stream) => self.stream = Some(stream),
                Event::Readable(_) | Event::Writable(_) => {}
                Event::Closed(_, reason) => self.closed = Some(reason),
            }
        }
        let Some(stream) = self.stream else { return };
        while !self.has_read_end {
            let Ok(count) = self.mux.read(stream, &mut [IoSliceMut::new(buffer)]) else { break };
            self.has_read_end = count == 0;
            assert!(buffer[..count] == *content(pattern, self.read, count), "at {}", self.read);
            self.read += count as u64;
        }
        while self.written < self.to_write {
            let len = (self.to_write - self.written).min(16 * 1024) as usize;
            let bytes = content(pattern, self.written, len);
            match self.mux.write(stream, &[IoSlice::new(bytes)]) {
                Ok(count) => self.written += count as u64,
                Err(_) => break,
            }
        }
        if self.finishes && self.written == self.to_write {
            self.finishes = false;
            self.mux.finish(stream);
        }
    }
}

/// What stands at a place of the stream.
fn content(pattern: &[u8], at: u64, len: usize) -> &[u8] {
    let start = (at % PATTERN_LEN as u64) as usize;
    &pattern[start..start + len]
}

/// Somebody who uses the link as TCP does: additive increase, halving at a loss (Reno).
#[derive(Debug)]
pub(super) struct Reno {
    window: f64,
    threshold: f64,
    in_flight: u32,
    next: u64,
    recovered_at: u64,
    pub(super) is_on: bool,
    pub(super) delivered: u64,
}

#[derive(Debug)]
enum Arrival {
    Datagram { to: usize, bytes: Vec<u8> },
    RenoAck,
    RenoLoss(u64),
}

/// Two ends, the links there and back, and the other user of the first.
#[derive(Debug)]
pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) links: [Link; 2],
    pub(super) reno: Reno,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    next_arrival: u64,
    rng: Rng,
    /// What is written, over and over, and a buffer's length more.
    pattern: Vec<u8>,
    buffer: Vec<u8>,
}

impl World {
    /// Two ends that are `link` apart. The first has begun to connect to the second.
    pub(super) fn new(seed: u64, link: &Link) -> Self {
        Self::with_config(seed, link, &MuxConfig::default())
    }

    pub(super) fn with_config(seed: u64, link: &Link, config: &MuxConfig) -> Self {
        let now = epoch();
        let mut rng = Rng::from_seed(seed);
        let mut ends = [1, 2].map(|number| End::new(number, now, config.clone(), rng.u64()));
        let to = ends[1].addr;
        ends[0].stream = ends[0].mux.connect(now, to);
        let reno = Reno {
            window: 10.0,
            threshold: f64::MAX,
            in_flight: 0,
            next: 0,
            recovered_at: 0,
            is_on: false,
            delivered: 0,
        };
        Self {
            start: now,
            now,
            ends,
            links: [link.clone(), link.clone()],
            reno,
            arrivals: BTreeMap::new(),
            next_arrival: 0,
            pattern: (0..PATTERN_LEN + BUFFER_LEN)
                .map(|at| (((at % PATTERN_LEN) * 0x9e37) >> 7) as u8)
                .collect(),
            rng,
            buffer: vec![0; BUFFER_LEN],
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(|world| world.now >= end);
    }

    /// Goes on until something holds, or for a virtual hour.
    pub(super) fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(3600);
        loop {
            for at in 0..2 {
                self.drive(at);
            }
            self.run_reno();
            if is_done(self) {
                return;
            }
            let arrival = self.arrivals.first_key_value().map(|(&(at, _), _)| at);
            let timeouts = self.ends.iter().filter_map(|end| {
                end.mux.poll_timeout().map(|at| at.checked_sub(end.ahead).unwrap_or(self.now))
            });
            let Some(next) = timeouts.chain(arrival).min() else { return };
            assert!(next < end, "it takes for ever: {:?}", self.ends);
            self.now = self.now.max(next);
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        while let Some((&(at, _), _)) = self.arrivals.first_key_value()
            && at <= self.now
        {
            let Some((_, arrival)) = self.arrivals.pop_first() else { return };
            match arrival {
                Arrival::Datagram { to, bytes } => {
                    let from = self.ends[1 - to].addr;
                    let now = self.now + self.ends[to].ahead;
                    self.ends[to].mux.handle_datagram(now, from, &bytes);
                }
                Arrival::RenoAck => self.reno.acknowledged(),
                Arrival::RenoLoss(order) => self.reno.lost(order),
            }
        }
    }

    fn drive(&mut self, at: usize) {
        let Self { ends, links, arrivals, next_arrival, rng, pattern, buffer, now, .. } = self;
        let end = &mut ends[at];
        let here = *now + end.ahead;
        end.mux.handle_timeout(here);
        end.run(pattern, buffer);
        while let Some(transmit) = end.mux.poll_output(here) {
            for datagram in transmit.bytes.chunks(transmit.segment_len) {
                for time in links[at].send(*now, datagram.len(), transmit.is_probe, rng) {
                    let arrival = Arrival::Datagram { to: 1 - at, bytes: datagram.to_vec() };
                    arrivals.insert((time, *next_arrival), arrival);
                    *next_arrival += 1;
                }
            }
        }
    }

    fn run_reno(&mut self) {
        while self.reno.is_on && f64::from(self.reno.in_flight) < self.reno.window {
            let order = self.reno.next;
            self.reno.next += 1;
            self.reno.in_flight += 1;
            let link = &mut self.links[0];
            let later = self.now + link.wait(self.now) + link.delay;
            let (at, arrival) = match link.send(self.now, RENO_PACKET, false, &mut self.rng).first()
            {
                Some(&at) => (at, Arrival::RenoAck),
                None => (later, Arrival::RenoLoss(order)),
            };
            self.arrivals.insert((at + self.links[1].delay, self.next_arrival), arrival);
            self.next_arrival += 1;
        }
    }

    /// Gives one end's program a datagram that the other never sent.
    pub(super) fn inject(&mut self, to: usize, bytes: &[u8]) {
        let from = self.ends[1 - to].addr;
        self.ends[to].mux.handle_datagram(self.now, from, bytes);
    }

    /// What one end knows of the connection.
    pub(super) fn connection(&self, of: usize) -> &Connection {
        let end = &self.ends[of];
        let slot = end.mux.slot_of(end.stream.expect("a stream")).expect("it is there");
        end.mux.connection(slot).expect("it is there")
    }

    /// What goes from one end to the other and has not arrived.
    pub(super) fn under_way(&self, towards: usize) -> Vec<Vec<u8>> {
        let datagrams = self.arrivals.values().filter_map(|arrival| match arrival {
            Arrival::Datagram { to, bytes } if *to == towards => Some(bytes.clone()),
            Arrival::Datagram { .. } | Arrival::RenoAck | Arrival::RenoLoss(_) => None,
        });
        datagrams.collect()
    }
}

impl Reno {
    fn acknowledged(&mut self) {
        self.in_flight -= 1;
        self.delivered += RENO_PACKET as u64;
        self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
    }

    fn lost(&mut self, order: u64) {
        self.in_flight -= 1;
        if order >= self.recovered_at {
            self.window = (self.window / 2.0).max(2.0);
            self.threshold = self.window;
            self.recovered_at = self.next;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
pub(super) fn epoch() -> Instant {
    Instant::now()
}

const RENO_PACKET: usize = 1472;
/// No packet has a length that divides it.
const PATTERN_LEN: usize = 65_521;
const BUFFER_LEN: usize = 64 * 1024;

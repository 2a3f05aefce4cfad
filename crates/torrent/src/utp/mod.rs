//! uTP: connections over datagrams that give way to everything else on the link ([BEP 29]).
//!
//! [`Mux`] is all connections of one port. Datagrams, time and data to be sent go in;
//! [`poll_output`](Mux::poll_output) gives datagrams to send and [`poll_event`](Mux::poll_event) what has
//! become of which stream.
//!
//! `packet` reads and writes headers, `table` finds whose they are. A `connection` has a `send` queue, with
//! `acknowledge`, and a `receive` queue; `transmit` is what it has to say, `timeouts` what it does when
//! nothing comes. `ledbat` says how much may be under way, steered by the queueing that `delay` finds; `pacer` spreads that over the round trip,
//! which `rtt` knows; `mtu` looks for the longest packet that the path carries.
//!
//! [BEP 29]: https://www.bittorrent.org/beps/bep_0029.html

mod acknowledge;
mod connection;
mod delay;
mod ledbat;
#[cfg(test)]
mod link;
mod mtu;
mod pacer;
mod packet;
mod receive;
mod rtt;
mod send;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod timeouts;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use packet::{Header, Packet, PacketKind};
pub use stream::{CloseReason, Event, MuxConfig, StreamId, StreamInfo, Transmit};

use crate::Rng;
use connection::Connection;
use send::{Run, SegmentKind};
use transmit::Outgoing;

/// All uTP connections of one port.
///
/// Call [`handle_datagram`](Self::handle_datagram) for everything that has come, then take all that
/// [`poll_event`](Self::poll_event) and [`poll_output`](Self::poll_output) have: what came together is acknowledged
/// together. Then sleep until [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Mux {
    config: MuxConfig,
    rng: Rng,
    epoch: Instant,
    /// The time that was told last.
    now: u64,
    /// Where our clock begins, in what others see of it.
    stamp_offset: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: BTreeMap<(SocketAddr, u16), u32>,
    /// What was looked up last: datagrams come in batches.
    latest: Option<((SocketAddr, u16), u32)>,
    /// Slots that may have something to send, each once.
    ready: VecDeque<u32>,
    timers: BTreeSet<(u64, u32)>,
    events: VecDeque<Event>,
    /// Streams that were asked for by somebody who has yet to show where it is, and since when.
    half_open: BTreeSet<(u64, u32)>,
    /// Resets to be sent.
    resets: VecDeque<(SocketAddr, [u8; Header::LEN])>,
    /// How many more resets there may be, as of then.
    reset_credit: (u64, u64),
    /// Bytes of received data that wait to be read, in all streams.
    buffered: usize,
    scratch: Vec<u8>,
    /// What was polled last.
    polled: Option<(StreamId, Run)>,
    is_blocked: bool,
}

/// Now, by our clock and as others see it.
#[derive(Clone, Copy, Debug)]
struct Times {
    now: u64,
    stamp: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
    timer: Option<u64>,
    is_ready: bool,
}

impl Mux {
    /// One without streams.
    pub fn new(now: Instant, config: MuxConfig, mut rng: Rng) -> Self {
        Self {
            config,
            epoch: now,
            now: 0,
            stamp_offset: rng.u32(),
            rng,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            latest: None,
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            half_open: BTreeSet::new(),
            resets: VecDeque::new(),
            reset_credit: (RESETS_PER_SECOND, 0),
            buffered: 0,
            scratch: Vec::new(),
            polled: None,
            is_blocked: false,
        }
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Asks for a connection. `None` if there are too many.
    pub fn connect(&mut self, now: Instant, to: SocketAddr) -> Option<StreamId> {
        if self.by_id.len() >= self.config.streams_max {
            return None;
        }
        let is_free = |id: &u16| !self.by_id.contains_key(&(to, *id));
        let id = (0..ID_ATTEMPTS).map(|_| self.rng.u32() as u16).find(is_free)?;
        let now = self.times(now).now;
        let connection = Connection::asking(now, to, id, self.rng.u32() as u16);
        Some(self.add(connection))
    }

    /// A datagram has come, of which [`Packet::is_likely`] thought it may be one.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(packet) = Packet::decode(datagram) else { return };
        let times = self.times(now);
        let header = &packet.header;
        let id = match header.kind {
            PacketKind::Syn => header.connection_id.wrapping_add(1),
            _ => header.connection_id,
        };
        let found = match self.look_up(from, id) {
            None if header.kind == PacketKind::Reset => self.look_up_reset(from, id),
            found => found,
        };
        let Some(slot) = found else {
            return match header.kind {
                PacketKind::Syn => self.handle_syn(times, from, header),
                PacketKind::Reset => {}
                PacketKind::Data | PacketKind::Fin | PacketKind::State => {
                    self.refuse(times, from, header);
                }
            };
        };
        let window = self.window();
        self.with(slot, |connection| connection.handle_packet(times, &packet, window));
    }

    /// Somebody asks for a connection.
    fn handle_syn(&mut self, times: Times, from: SocketAddr, syn: &Header) {
        if !self.config.accepts {
            return self.refuse(times, from, syn);
        }
        let is_full = self.by_id.len() >= self.config.streams_max
            || self.half_open.len() >= self.config.half_open_max;
        if is_full {
            // The one that waits longest gives way: else a few who never come back, under false names, would keep
            // everyone out.
            let Some((_, longest)) = self.half_open.pop_first() else { return };
            self.forget(longest);
        }
        let sequence = self.rng.u32() as u16;
        let id = self.add(Connection::asked(times.now, from, syn, sequence));
        self.half_open.insert((times.now, id.slot));
    }

    /// Says that there is no such connection; not too often, since anyone can ask in anyone's name.
    fn refuse(&mut self, times: Times, to: SocketAddr, header: &Header) {
        let (credit, as_of) = self.reset_credit;
        let second = times.now / 1_000_000;
        let credit = if second == as_of { credit } else { RESETS_PER_SECOND };
        self.reset_credit = (credit.saturating_sub(1), second);
        if credit == 0 {
            return;
        }
        let sequence = self.rng.u32() as u16;
        self.push_reset(times, to, header.connection_id, sequence, header.sequence);
    }

    fn push_reset(
        &mut self,
        times: Times,
        to: SocketAddr,
        connection_id: u16,
        sequence: u16,
        acknowledged: u16,
    ) {
        if self.resets.len() >= RESETS_MAX {
            return;
        }
        let reset = Header {
            kind: PacketKind::Reset,
            connection_id,
            timestamp: times.stamp,
            timestamp_difference: 0,
            window: 0,
            sequence,
            acknowledged,
        };
        let mut bytes = [0; Header::LEN];
        reset.write_to(&mut bytes);
        self.resets.push_back((to, bytes));
    }

    /// The network says that nothing gets to this address: those that are being opened there are over. Those that
    /// are open find out themselves, since anyone can say such things.
    pub fn handle_unreachable(&mut self, addr: SocketAddr) {
        let range = (addr, 0)..=(addr, u16::MAX);
        let slots: Vec<u32> = self.by_id.range(range).map(|(_, &slot)| slot).collect();
        for slot in slots {
            self.with(slot, |connection| {
                if connection.is_asking() {
                    connection.close_with(CloseReason::Unreachable);
                }
            });
        }
    }

    /// How asking for a connection ended.
    ///
    /// # Errors
    /// `WouldBlock` if it has not; otherwise why it failed.
    pub fn connected(&self, id: StreamId) -> io::Result<()> {
        let slot = self.slot_of(id).ok_or(io::ErrorKind::NotConnected)?;
        self.connection(slot).ok_or(io::ErrorKind::NotConnected)?.connected()
    }

    /// Takes data to send; it is on its way after the next [`poll_output`](Self::poll_output).
    ///
    /// # Errors
    /// `WouldBlock` if there is no room, or the stream is not open yet; otherwise why it is over.
    pub fn write(&mut self, id: StreamId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slot = self.slot_of(id).ok_or(io::ErrorKind::NotConnected)?;
        self.with(slot, |connection| connection.write(slices))
            .unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Reads what has come; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; otherwise why the stream is over.
    pub fn read(&mut self, id: StreamId, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let slot = self.slot_of(id).ok_or(io::ErrorKind::NotConnected)?;
        let window = self.window();
        self.with(slot, |connection| connection.read(slices, window))
            .unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(slot) = self.slot_of(id) {
            self.with(slot, Connection::finish);
        }
    }

    /// Lets go of a stream. What was written still goes out, for a while.
    pub fn close(&mut self, id: StreamId) {
        let now = self.now;
        if let Some(slot) = self.slot_of(id) {
            self.with(slot, |connection| connection.linger(now));
        }
    }

    /// Ends a stream at once, and says so to the other end.
    pub fn reset(&mut self, now: Instant, id: StreamId) {
        if let Some(slot) = self.slot_of(id) {
            self.reset_slot(now, slot);
        }
    }

    fn reset_slot(&mut self, now: Instant, slot: u32) {
        let times = self.times(now);
        let Some(connection) = self.connection(slot) else { return };
        let (to, id) = (connection.addr, connection.send_id());
        let (sequence, acknowledged) = connection.numbers();
        self.push_reset(times, to, id, sequence, acknowledged);
        self.with(slot, |connection| {
            connection.close_with(CloseReason::Finished);
            connection.linger(times.now);
        });
    }

    /// Ends all streams at once, as [`reset`](Self::reset) does.
    pub fn reset_all(&mut self, now: Instant) {
        let slots: Vec<u32> = self.by_id.values().copied().collect();
        for slot in slots {
            self.reset_slot(now, slot);
        }
    }

    /// What there is to know of a stream.
    pub fn info(&self, id: StreamId) -> Option<StreamInfo> {
        let connection = self.connection(self.slot_of(id)?)?;
        Some(StreamInfo {
            addr: connection.addr,
            window: connection.ledbat().window(),
            queueing: Duration::from_micros(connection.ledbat().queueing().into()),
            round_trip: connection.round_trip().map(Duration::from_micros),
            packet_len: connection.packet_len(),
        })
    }

    /// The next thing that has happened, until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next datagrams to send, until there are none. Should the system not take them all, say
    /// [`refused`](Self::refused) before anything else.
    pub fn poll_output(&mut self, now: Instant) -> Option<Transmit<'_>> {
        self.polled = None;
        if self.is_blocked {
            return None;
        }
        if let Some((to, bytes)) = self.resets.pop_front() {
            self.scratch.clear();
            self.scratch.extend_from_slice(&bytes);
            return Some(self.single(to));
        }
        let times = self.times(now);
        let (slot, outgoing) = self.next_outgoing(times)?;
        let Slot { generation, connection, .. } = self.slots.get(slot as usize)?;
        let to = connection.as_ref()?.addr;
        let Outgoing::Run { run, chunk, place, segment_len } = outgoing else {
            return Some(self.single(to));
        };
        self.polled = Some((StreamId { slot, generation: *generation }, run));
        let bytes = connection.as_ref()?.bytes(chunk, place);
        let is_probe = run.kind == SegmentKind::Probe && !run.is_repeated;
        Some(Transmit { to, bytes, segment_len, is_probe })
    }

    fn next_outgoing(&mut self, times: Times) -> Option<(u32, Outgoing)> {
        while let Some(slot) = self.ready.pop_front() {
            let window = self.window();
            let mut scratch = std::mem::take(&mut self.scratch);
            let entry = self.slots.get_mut(slot as usize)?;
            entry.is_ready = false;
            let outgoing = entry
                .connection
                .as_mut()
                .and_then(|connection| connection.poll(times, window, &mut scratch));
            self.scratch = scratch;
            self.settle(slot, outgoing.is_some());
            if let Some(outgoing) = outgoing {
                return Some((slot, outgoing));
            }
        }
        None
    }

    fn single(&self, to: SocketAddr) -> Transmit<'_> {
        let bytes = &self.scratch[..];
        Transmit { to, bytes, segment_len: bytes.len(), is_probe: false }
    }

    /// The system had room for so many bytes only of what was polled last. Nothing more is given out until
    /// [`handle_writable`](Self::handle_writable).
    pub fn refused(&mut self, taken: usize) {
        self.is_blocked = true;
        let Some((id, run)) = self.polled.take() else { return };
        if let Some(slot) = self.slot_of(id) {
            self.with(slot, |connection| connection.refused(&run, taken));
        }
    }

    /// What was polled last is longer than the way, or our own system, takes whole.
    pub fn too_long(&mut self) {
        let Some((id, run)) = self.polled.take() else { return };
        if let Some(slot) = self.slot_of(id) {
            self.with(slot, |connection| connection.too_long(&run));
        }
    }

    /// The system has room again.
    pub const fn handle_writable(&mut self) {
        self.is_blocked = false;
    }

    /// Whether [`poll_output`](Self::poll_output) may have something.
    pub fn has_output(&self) -> bool {
        !self.is_blocked && (!self.ready.is_empty() || !self.resets.is_empty())
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let &(at, _) = self.timers.first()?;
        self.epoch.checked_add(Duration::from_micros(at))
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) gave has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.times(now).now;
        while let Some(&(at, slot)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(entry) = self.slots.get_mut(slot as usize) {
                entry.timer = None;
            }
            self.with(slot, |connection| connection.handle_timeout(now));
        }
    }
}

/// How many resets wait for the socket; beyond, the other end finds out itself.
const RESETS_MAX: usize = 2048;
/// How many resets there may be in a second.
const RESETS_PER_SECOND: u64 = 50;
/// How often a number for a connection is drawn that is not taken.
const ID_ATTEMPTS: usize = 16;

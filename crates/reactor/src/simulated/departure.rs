//! How things are put on their way, and when they will arrive.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::network::{Arrival, Network, Packet, Parcel, Wire};
use super::socket::Kind;
use super::stream::Phase;

impl Network {
    /// How long something takes from one host to another, once it has been sent.
    pub(super) fn travel_time(&mut self, from: usize, to: usize) -> Duration {
        if from == to {
            return LOOPBACK_LATENCY;
        }
        let latency = self.link(from, to).and_then(|link| link.latency);
        let jitter = self.chance.duration(self.options.jitter);
        latency.unwrap_or(self.options.latency) + jitter
    }

    /// When the last of `len` bytes leaves the host. What carries no data waits for nothing.
    pub(super) fn departure(&mut self, host: usize, len: usize) -> Duration {
        let (now, host) = (self.now, &mut self.hosts[host]);
        let Some(rate) = host.bytes_per_second.filter(|_| len > 0) else { return now };
        let micros = (len as u64).saturating_mul(1_000_000) / rate.max(1);
        host.busy_until = host.busy_until.max(now) + Duration::from_micros(micros);
        host.busy_until
    }

    /// Sends to the other end of a connection, behind what was sent there before.
    pub(super) fn send(&mut self, parcel: Parcel, to: u32, to_host: usize) {
        let len = if let Packet::Data(data) = &parcel.packet { data.len() } else { 0 };
        let arrival =
            self.departure(parcel.from_host, len) + self.travel_time(parcel.from_host, to_host);
        let wire = self.wires.entry(to).or_insert_with(|| Wire {
            to_host,
            parcels: VecDeque::new(),
            last_arrival: Duration::ZERO,
        });
        let at = arrival.max(wire.last_arrival);
        wire.last_arrival = at;
        wire.parcels.push_back(Parcel { at, ..parcel });
        self.plan(at, Arrival::Parcel { to });
    }

    /// Sends from one end of a connection to the other, if that is known.
    pub(super) fn send_to_peer(&mut self, from: u32, packet: Packet) {
        let Some((socket, stream)) = self.stream(from) else { return };
        let Some(to) = stream.peer else { return };
        let (from_host, from_addr, to_addr) = (socket.host, socket.local, stream.remote);
        let Some(to_host) = self.find_host(to_addr.ip(), from_host) else { return };
        let parcel = Parcel { at: self.now, from, from_host, from_addr, to_addr, packet };
        self.send(parcel, to, to_host);
    }

    /// Tells the other end that so many bytes have been read.
    pub(super) fn announce_room(&mut self, from: u32, len: usize) {
        let Some((socket, stream)) = self.stream(from) else { return };
        let Some(to) = stream.peer else { return };
        let from_host = socket.host;
        let Some(to_host) = self.find_host(stream.remote.ip(), from_host) else { return };
        let at = self.now + self.travel_time(from_host, to_host);
        self.plan(at, Arrival::Room { from_host, to, len });
    }

    /// Now and then a read or write gets less than it could.
    pub(super) fn perhaps_less(&mut self, len: usize) -> usize {
        let share = self.options.partial_share;
        if len > 1 && self.chance.happens(share) { 1 + self.chance.below(len - 1) } else { len }
    }

    pub(super) fn datagram_arrival(&mut self, host: usize, to: SocketAddr, len: usize) -> Duration {
        let to_host = self.find_host(to.ip(), host).unwrap_or(host);
        let at = self.departure(host, len) + self.travel_time(host, to_host);
        let share = self.options.datagram_delay_share;
        // Late enough for others to overtake it.
        if self.chance.happens(share) { at + self.options.latency * 2 } else { at }
    }

    pub(super) fn finish(&mut self, id: u32) {
        let Some(stream) = self.stream_mut(id) else { return };
        if stream.phase == Phase::Open && !stream.is_finished {
            stream.is_finished = true;
            self.send_to_peer(id, Packet::End);
            self.touch(id);
        }
    }

    pub(super) fn close(&mut self, id: u32) {
        let Some(socket) = self.sockets.get(&id) else { return };
        self.hosts[socket.host].descriptors -= 1;
        if let Kind::Stream(stream) = &socket.kind
            && stream.phase == Phase::Open
        {
            // What nobody will read any more, the system answers with a reset.
            if stream.received.is_empty() {
                self.finish(id);
            } else {
                self.send_to_peer(id, Packet::Reset);
            }
        }
        self.unbind(id);
        let Some(socket) = self.sockets.remove(&id) else { return };
        if self.wires.get(&id).is_some_and(|wire| wire.parcels.is_empty()) {
            self.wires.remove(&id);
        }
        if let Kind::Listener { waiting, .. } = socket.kind {
            waiting.into_iter().for_each(|id| self.turn_away(id));
        }
    }

    /// Gets rid of a connection that nobody accepted.
    pub(super) fn turn_away(&mut self, id: u32) {
        self.send_to_peer(id, Packet::Reset);
        self.sockets.remove(&id);
    }
}

const LOOPBACK_LATENCY: Duration = Duration::from_micros(20);

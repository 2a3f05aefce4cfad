//! What happens when something arrives.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::network::{Arrival, Network, Packet, Parcel};
use super::ports::Protocol;
use super::socket::Kind;
use super::stream::{Phase, Stream};
use super::trace::TraceKind;

impl Network {
    pub(super) fn deliver(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Connect { from, to } => self.connect_arrives(from, to),
            Arrival::Parcel { to } => self.parcels_arrive(to),
            Arrival::Room { from_host, to, len } => self.room_arrives(from_host, to, len),
            Arrival::Datagram { from_host, from, to, data } => {
                self.datagram_arrives(from_host, from, to, data);
            }
        }
    }

    fn connect_arrives(&mut self, from: u32, to: SocketAddr) {
        // Given up meanwhile.
        let Some((client, _)) = self.stream(from) else { return };
        let (from_host, from_addr, protocol) = (client.host, client.local, client.protocol());
        // As in the real world, nobody answers for an address that nobody has.
        let Some(to_host) = self.find_host(to.ip(), from_host) else { return };
        if self.is_cut(from_host, to_host) {
            self.plan(self.now + RETRY_AFTER, Arrival::Connect { from, to });
            return;
        }
        let answer = |packet, from| Parcel {
            at: Duration::ZERO,
            from,
            from_host: to_host,
            from_addr: to,
            to_addr: from_addr,
            packet,
        };
        let listener = self.find_bound(to_host, protocol, from_addr, to);
        let Some(listener_id) = listener else {
            self.note(TraceKind::Refuse, from_addr, to, 0);
            self.send(answer(Packet::Refusal, NOBODY), from, from_host);
            return;
        };
        let Some(Kind::Listener { waiting, backlog, .. }) =
            self.sockets.get(&listener_id).map(|socket| &socket.kind)
        else {
            return;
        };
        if waiting.len() >= *backlog {
            self.plan(self.now + RETRY_AFTER, Arrival::Connect { from, to });
            return;
        }
        let family = self.sockets[&listener_id].family;
        let stream = Stream::new(Phase::Open, from_addr, Some(from));
        let server = self.add_socket(to_host, to, family, None, Kind::Stream(stream));
        if let Some(Kind::Listener { waiting, .. }) =
            self.sockets.get_mut(&listener_id).map(|socket| &mut socket.kind)
        {
            waiting.push_back(server);
        }
        self.note(TraceKind::Accept, from_addr, to, 0);
        self.touch(listener_id);
        self.send(answer(Packet::Welcome, server), from, from_host);
    }

    /// Delivers what is due to one end of a connection. While the link is cut, it is tried again and
    /// again, and later parcels wait behind.
    fn parcels_arrive(&mut self, to: u32) {
        while let Some(wire) = self.wires.get_mut(&to) {
            let to_host = wire.to_host;
            let Some(first) = wire.parcels.front() else {
                if !self.sockets.contains_key(&to) {
                    self.wires.remove(&to);
                }
                return;
            };
            if first.at > self.now {
                return;
            }
            let from_host = first.from_host;
            if self.is_cut(from_host, to_host) {
                self.plan(self.now + RETRY_AFTER, Arrival::Parcel { to });
                return;
            }
            let parcel = self.wires.get_mut(&to).and_then(|wire| wire.parcels.pop_front());
            let Some(parcel) = parcel else { return };
            if self.sockets.contains_key(&to) {
                self.receive(to, parcel);
            } else {
                self.turn_down(to, to_host, parcel);
            }
        }
    }

    fn room_arrives(&mut self, from_host: usize, to: u32, len: usize) {
        // Closed meanwhile.
        let Some(socket) = self.sockets.get(&to) else { return };
        if self.is_cut(from_host, socket.host) {
            self.plan(self.now + RETRY_AFTER, Arrival::Room { from_host, to, len });
            return;
        }
        if let Some(stream) = self.stream_mut(to) {
            stream.outstanding = stream.outstanding.saturating_sub(len);
        }
        self.touch(to);
    }

    fn receive(&mut self, to: u32, parcel: Parcel) {
        let Parcel { from, from_addr, to_addr, packet, .. } = parcel;
        let resets = matches!(packet, Packet::Data(_)) && {
            let share = self.options.reset_share;
            self.chance.happens(share)
        };
        let Some(stream) = self.stream_mut(to) else { return };
        if matches!(stream.phase, Phase::Broken { .. }) {
            return;
        }
        match packet {
            Packet::Welcome => {
                (stream.phase, stream.peer) = (Phase::Open, Some(from));
                self.note(TraceKind::Connect, from_addr, to_addr, 0);
            }
            Packet::Refusal => stream.fail(io::ErrorKind::ConnectionRefused),
            Packet::Data(_) if resets => {
                self.send_to_peer(to, Packet::Reset);
                self.reset(to);
            }
            Packet::Data(data) => {
                let len = data.len();
                stream.received.push_back(data);
                self.note(TraceKind::Data, from_addr, to_addr, len);
            }
            Packet::End => {
                stream.has_end = true;
                self.note(TraceKind::End, from_addr, to_addr, 0);
            }
            Packet::Reset => self.reset(to),
        }
        self.touch(to);
    }

    /// Something came for a connection of which this end is closed.
    fn turn_down(&mut self, to: u32, to_host: usize, parcel: Parcel) {
        match parcel.packet {
            Packet::Data(_) | Packet::Welcome => {
                let reset = Parcel {
                    at: self.now,
                    from: to,
                    from_host: to_host,
                    from_addr: parcel.to_addr,
                    to_addr: parcel.from_addr,
                    packet: Packet::Reset,
                };
                self.send(reset, parcel.from, parcel.from_host);
            }
            Packet::Refusal | Packet::End | Packet::Reset => {}
        }
    }

    /// This end of a connection learns that it is over.
    pub(super) fn reset(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let local = socket.local;
        let Some(stream) = socket.stream_mut() else { return };
        if matches!(stream.phase, Phase::Broken { .. }) {
            return;
        }
        stream.fail(io::ErrorKind::ConnectionReset);
        let remote = stream.remote;
        self.note(TraceKind::Reset, remote, local, 0);
        self.touch(id);
    }

    fn datagram_arrives(
        &mut self,
        from_host: usize,
        from: SocketAddr,
        to: SocketAddr,
        data: Bytes,
    ) {
        let (len, buffer_len) = (data.len(), self.options.buffer_len);
        let taker = self
            .find_host(to.ip(), from_host)
            .filter(|to_host| !self.is_cut(from_host, *to_host))
            .and_then(|to_host| self.find_bound(to_host, Protocol::Udp, from, to));
        let socket = taker.and_then(|id| Some((id, self.sockets.get_mut(&id)?)));
        if let Some((id, socket)) = socket
            && let Kind::Datagrams { received, received_len, .. } = &mut socket.kind
            && *received_len + len <= buffer_len
        {
            received.push_back((from, data));
            *received_len += len;
            self.note(TraceKind::Datagram, from, to, len);
            self.touch(id);
        } else {
            self.note(TraceKind::Loss, from, to, len);
        }
    }
}

/// After how long something is sent again that met a cut or a full backlog.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// No socket: there are never so many.
const NOBODY: u32 = u32::MAX;

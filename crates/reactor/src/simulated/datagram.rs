//! Datagrams as their sender and receiver see them.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use rustix::io::Errno;

use super::network::{Arrival, Network};
use super::socket::{Family, Kind, Socket, canonical};
use super::trace::TraceKind;
use crate::DatagramBatch;

impl Network {
    pub(super) fn send_datagram(
        &mut self,
        id: u32,
        addr: SocketAddr,
        data: &[u8],
    ) -> io::Result<()> {
        let socket = self.socket_mut(id)?;
        if socket.family != Family::of(addr) || !matches!(socket.kind, Kind::Datagrams { .. }) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if data.len() > DATAGRAM_LEN_MAX {
            return Err(Errno::MSGSIZE.into());
        }
        let (host, mut from, to) = (socket.host, socket.local, canonical(addr));
        if from.ip().is_unspecified() {
            let ip = self.source_ip(host, to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?;
            from.set_ip(ip);
        }
        let members = self.members(to);
        if to.ip().is_multicast() {
            members.into_iter().for_each(|member| self.plan_datagram(host, from, member, data));
        } else {
            self.plan_datagram(host, from, to, data);
        }
        Ok(())
    }

    /// Where those are who have joined a group. Whoever shares a place in it gets it once.
    fn members(&self, group: SocketAddr) -> BTreeSet<SocketAddr> {
        let is_member = |socket: &&Socket| {
            matches!(socket.kind, Kind::Datagrams { group: Some(ip), .. } if ip == group.ip())
                && socket.local.port() == group.port()
        };
        self.sockets.values().filter(is_member).map(|socket| socket.local).collect()
    }

    fn plan_datagram(&mut self, host: usize, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let options = &self.options;
        if self.chance.happens(options.datagram_loss_share) {
            self.note(TraceKind::Loss, from, to, data.len());
            return;
        }
        let copies = 1 + usize::from(self.chance.happens(options.datagram_duplicate_share));
        for _ in 0..copies {
            let at = self.datagram_arrival(host, to, data.len());
            let data = Bytes::copy_from_slice(data);
            self.plan(at, Arrival::Datagram { from_host: host, from, to, data });
        }
    }

    /// Fills the batch, now and then less than it could.
    pub(super) fn receive_datagrams(
        &mut self,
        id: u32,
        batch: &mut DatagramBatch,
    ) -> io::Result<()> {
        let count_max = self.perhaps_less(DatagramBatch::BUFFERS);
        let socket = self.socket_mut(id)?;
        let Kind::Datagrams { received, received_len, .. } = &mut socket.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let count = received.len().min(count_max);
        let taken: Vec<(SocketAddr, Bytes)> = received.drain(..count).collect();
        *received_len -= taken.iter().map(|(_, data)| data.len()).sum::<usize>();
        if count < DatagramBatch::BUFFERS {
            socket.told.readable = false;
        }
        let buffers = batch.clear().chunks_mut(DatagramBatch::BUFFER_LEN);
        for (buffer, (_, data)) in buffers.zip(&taken) {
            buffer[..data.len()].copy_from_slice(data);
        }
        for (number, (from, data)) in taken.iter().enumerate() {
            batch.push(number, socket.shown(*from), data.len(), data.len());
        }
        self.touch(id);
        if taken.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

const DATAGRAM_LEN_MAX: usize = 65_507;

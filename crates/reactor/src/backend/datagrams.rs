//! Datagram sockets of the system: many datagrams a call.
//!
//! What arrives together comes with one `recvmmsg`, and datagrams of one sender and length that the
//! kernel has merged (`UDP_GRO`) as one buffer. What is sent goes with `sendmmsg`, or as one buffer that
//! the kernel or the network card takes apart (`UDP_SEGMENT`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::UdpGroSegment;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmsg, setsockopt,
};
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use socket2::{Domain, Type};

use super::DatagramBatch;
use super::streams::{bind, invalid, new_socket};
use crate::ListenOptions;
use crate::multicast::join;

#[derive(Debug)]
pub(super) struct DatagramSocket {
    fd: OwnedFd,
    is_ipv4: bool,
    /// The kernel, or the way there, does not take `UDP_SEGMENT`.
    refuses_segments: bool,
}

/// Room for what the kernel says of received datagrams, shared by all sockets.
#[derive(Debug, Default)]
pub(super) struct Headers(Option<MultiHeaders<SockaddrStorage>>);

impl DatagramSocket {
    pub(super) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        let socket = new_socket(Domain::for_address(addr), Type::DGRAM)?;
        // Two programs that share a port by accident would each get half of the datagrams. What is sent to a group all
        // get.
        let shared = options.multicast.is_some();
        let reuse_port = shared || options.reuse_port;
        bind(&socket, addr, &ListenOptions { reuse_addr: shared, reuse_port, ..options.clone() })?;
        if let Some(multicast) = &options.multicast {
            join(&socket, multicast)?;
        }
        // An old kernel does without: datagrams come unmerged.
        setsockopt(&socket, UdpGroSegment, &true).ok();
        // Room for what comes while the loop is elsewhere; the system gives what it allows.
        socket.set_recv_buffer_size(BUFFER_LEN).ok();
        socket.set_send_buffer_size(BUFFER_LEN).ok();
        let new = Self { fd: socket.into(), is_ipv4: addr.is_ipv4(), refuses_segments: false };
        // What is longer than the way takes arrives in parts, rather than not at all.
        new.set_whole(false).ok();
        Ok(new)
    }

    /// Whether datagrams are not to be cut up on their way.
    fn set_whole(&self, is_whole: bool) -> io::Result<()> {
        if self.is_ipv4 {
            let how =
                if is_whole { Ipv4PathMtuDiscovery::PROBE } else { Ipv4PathMtuDiscovery::DONT };
            sockopt::set_ip_mtu_discover(&self.fd, how)?;
        } else {
            let how =
                if is_whole { Ipv6PathMtuDiscovery::PROBE } else { Ipv6PathMtuDiscovery::DONT };
            sockopt::set_ipv6_mtu_discover(&self.fd, how)?;
        }
        Ok(())
    }

    pub(super) fn send_whole(&self, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        self.set_whole(true)?;
        let result = self.send_to(addr, data);
        self.set_whole(false)?;
        result
    }

    pub(super) fn send_to(&self, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        rustix::net::sendto(&self.fd, data, SendFlags::NOSIGNAL, &addr)?;
        Ok(())
    }

    pub(super) fn send_many(&self, datagrams: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
        let mut sent = 0;
        for chunk in datagrams.chunks(DATAGRAMS_PER_CALL) {
            match self.send_chunk(chunk) {
                Ok(count) if count < chunk.len() => return Ok(sent + count),
                Ok(count) => sent += count,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    fn send_chunk(&self, datagrams: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
        if let [(addr, data)] = datagrams {
            return self.send_to(*addr, data).map(|()| 1);
        }
        let addrs: Vec<SocketAddrAny> = datagrams.iter().map(|(addr, _)| addr.as_any()).collect();
        let slices: Vec<_> = datagrams.iter().map(|(_, data)| [IoSlice::new(data)]).collect();
        let mut controls: Vec<_> =
            datagrams.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<MMsgHdr<'_>> = addrs
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((addr, slice), control)| MMsgHdr::new_with_addr(addr, slice, control))
            .collect();
        Ok(rustix::net::sendmmsg(&self.fd, &mut messages, SendFlags::NOSIGNAL)?)
    }

    pub(super) fn send_segments(
        &mut self,
        addr: SocketAddr,
        data: &[u8],
        segment_len: usize,
    ) -> io::Result<usize> {
        if segment_len == 0 {
            return Err(invalid("segments need a length"));
        }
        let per_call = (BYTES_PER_CALL / segment_len).clamp(1, DATAGRAMS_PER_CALL);
        let mut sent = 0;
        for run in data.chunks(per_call * segment_len) {
            match self.send_run(addr, run, segment_len) {
                Ok(count) if count < run.len() => return Ok(sent + count),
                Ok(count) => sent += count,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Sends what fits into one call, in one call if that can be.
    fn send_run(&mut self, addr: SocketAddr, run: &[u8], segment_len: usize) -> io::Result<usize> {
        if run.len() <= segment_len {
            return self.send_to(addr, run).map(|()| run.len());
        }
        let mut is_refused = self.refuses_segments;
        if !is_refused {
            match self.send_merged(addr, run, segment_len) {
                // This one's segments are longer than the way there takes: they go in fragments.
                Err(Errno::EMSGSIZE) => {}
                Err(Errno::EIO | Errno::EINVAL | Errno::ENOPROTOOPT) => is_refused = true,
                result => return Ok(result?),
            }
        }
        let segments: Vec<_> = run.chunks(segment_len).map(|segment| (addr, segment)).collect();
        let count = self.send_many(&segments)?;
        // Known only now: an address that nothing can be sent to is refused in the same words.
        self.refuses_segments = is_refused;
        Ok(run.len().min(count * segment_len))
    }

    fn send_merged(&self, addr: SocketAddr, run: &[u8], segment_len: usize) -> nix::Result<usize> {
        let segment_len = u16::try_from(segment_len).map_err(|_too_long| Errno::EMSGSIZE)?;
        sendmsg(
            self.fd.as_raw_fd(),
            &[IoSlice::new(run)],
            &[ControlMessage::UdpGsoSegments(&segment_len)],
            MsgFlags::MSG_NOSIGNAL,
            Some(&SockaddrStorage::from(addr)),
        )
    }

    /// An error of an earlier datagram comes alone, before the datagrams: none is lost to it.
    pub(super) fn receive(
        &self,
        headers: &mut Headers,
        batch: &mut DatagramBatch,
    ) -> io::Result<()> {
        let mut buffers = batch.clear().chunks_mut(DatagramBatch::BUFFER_LEN);
        let mut slices: [_; DatagramBatch::BUFFERS] = std::array::from_fn(|_| {
            [IoSliceMut::new(buffers.next().expect("the batch has so many buffers"))]
        });
        let prepared = headers.prepare();
        let mut messages =
            recvmmsg(self.fd.as_raw_fd(), prepared, &mut slices, MsgFlags::empty(), None)?;
        let received: [_; DatagramBatch::BUFFERS] =
            std::array::from_fn(|_| messages.next().map(|message| describe(&message)));
        headers.spend();
        for (number, received) in received.into_iter().map_while(|received| received).enumerate() {
            if let (Some(from), len, segment_len) = received {
                batch.push(number, from, len, segment_len);
            }
        }
        Ok(())
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Headers {
    fn prepare(&mut self) -> &mut MultiHeaders<SockaddrStorage> {
        self.0.get_or_insert_with(|| {
            let control = nix::cmsg_space!(i32);
            MultiHeaders::preallocate(DatagramBatch::BUFFERS, Some(control))
        })
    }

    /// The kernel has written into them how little of their room it used; nothing resets that.
    fn spend(&mut self) {
        self.0 = None;
    }
}

/// Who sent a datagram, its length, and that of those it was merged from.
fn describe(message: &RecvMsg<'_, '_, SockaddrStorage>) -> (Option<SocketAddr>, usize, usize) {
    let from = message.address.and_then(|addr| match addr.as_sockaddr_in() {
        Some(v4) => Some(SocketAddr::from(*v4)),
        None => addr.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)),
    });
    let merged = message.cmsgs().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(len) => usize::try_from(len).ok(),
        _ => None,
    });
    (from, message.bytes, merged.unwrap_or(message.bytes))
}

const BUFFER_LEN: usize = 4 * 1024 * 1024;
/// What the kernel takes with `UDP_SEGMENT`, and a fair share for `sendmmsg`.
const DATAGRAMS_PER_CALL: usize = 64;
/// The longest that a datagram can be over IPv4, and so the sum of those that are sent as one.
const BYTES_PER_CALL: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_go_one_by_one_where_they_are_refused_together() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut socket = DatagramSocket::bind(local, &ListenOptions::default()).unwrap();
        socket.refuses_segments = true;
        let peer = std::net::UdpSocket::bind(local).unwrap();
        let data = b"aabbc";
        let sent = socket.send_segments(peer.local_addr().unwrap(), data, 2).unwrap();
        assert_eq!(sent, data.len());
        for expected in data.chunks(2) {
            let mut bytes = [0; 10];
            let len = peer.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], expected);
        }
    }

    #[test]
    fn an_address_that_nothing_can_be_sent_to_spoils_nothing_for_others() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut socket = DatagramSocket::bind(local, &ListenOptions::default()).unwrap();
        let error = socket.send_segments(local, b"aabbc", 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
        assert!(!socket.refuses_segments);
    }

    #[test]
    fn what_is_to_stay_whole_does_not_fit_where_others_are_cut_up() {
        for ip in [std::net::IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()] {
            let local = SocketAddr::new(ip, 0);
            let Ok(socket) = DatagramSocket::bind(local, &ListenOptions::default()) else {
                continue;
            };
            let peer = std::net::UdpSocket::bind(local).unwrap();
            let addr = peer.local_addr().unwrap();
            // As long as a loopback takes whole, with headers, and one byte less than any datagram.
            let short = vec![1; 60_000];
            socket.send_whole(addr, &short).unwrap();
            let mut bytes = vec![0; 70_000];
            assert_eq!(peer.recv(&mut bytes).unwrap(), short.len());
            socket.send_to(addr, &short).unwrap();
            assert_eq!(peer.recv(&mut bytes).unwrap(), short.len());
            let error = socket.send_whole(addr, &vec![1; 65_536]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::EMSGSIZE as i32));
        }
    }

    #[test]
    fn what_is_too_long_for_any_datagram_is_an_error_and_changes_nothing() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut socket = DatagramSocket::bind(local, &ListenOptions::default()).unwrap();
        let data = vec![0; 200_000];
        let error = socket.send_segments(local, &data, 100_000).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EMSGSIZE as i32));
        assert!(!socket.refuses_segments);
    }
}

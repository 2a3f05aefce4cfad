//! One end of a pretended connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use super::network::{Network, Packet};

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    pub(super) remote: SocketAddr,
    /// The socket at the other end, once it is known. It may be closed by now.
    pub(super) peer: Option<u32>,
    pub(super) received: VecDeque<Bytes>,
    /// Bytes that were written here and that the peer has not read, or we have not heard of it.
    pub(super) outstanding: usize,
    /// The peer's end has arrived.
    pub(super) has_end: bool,
    /// Our end has been sent.
    pub(super) is_finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    /// It never came to be, or was reset. The first call that asks is told why.
    Broken {
        error: Option<io::ErrorKind>,
    },
}

impl Stream {
    pub(super) const fn new(phase: Phase, remote: SocketAddr, peer: Option<u32>) -> Self {
        Self {
            phase,
            remote,
            peer,
            received: VecDeque::new(),
            outstanding: 0,
            has_end: false,
            is_finished: false,
        }
    }

    pub(super) const fn fail(&mut self, error: io::ErrorKind) {
        self.phase = Phase::Broken { error: Some(error) };
    }

    /// Why it broke, if nobody was told yet.
    pub(super) const fn take_error(&mut self) -> Option<io::ErrorKind> {
        match &mut self.phase {
            Phase::Broken { error } => error.take(),
            Phase::Connecting | Phase::Open => None,
        }
    }

    pub(super) fn finish_connect(&mut self) -> io::Result<()> {
        match self.phase {
            Phase::Connecting => Err(io::ErrorKind::WouldBlock.into()),
            Phase::Open => Ok(()),
            Phase::Broken { .. } => {
                Err(self.take_error().unwrap_or(io::ErrorKind::NotConnected).into())
            }
        }
    }

    /// How many more bytes may be written.
    fn room(&mut self, buffer_len: usize) -> io::Result<usize> {
        match self.phase {
            Phase::Connecting => Ok(0),
            Phase::Open if !self.is_finished => Ok(buffer_len.saturating_sub(self.outstanding)),
            Phase::Open | Phase::Broken { .. } => {
                Err(self.take_error().unwrap_or(io::ErrorKind::BrokenPipe).into())
            }
        }
    }

    /// Takes received bytes, at most `len_max` of them, into `slices` in turn.
    fn take(&mut self, slices: &mut [IoSliceMut<'_>], len_max: usize) -> usize {
        let mut taken = 0;
        for slice in slices {
            let mut filled = 0;
            while filled < slice.len() && taken < len_max {
                let Some(first) = self.received.front_mut() else { return taken };
                let len = first.len().min(slice.len() - filled).min(len_max - taken);
                slice[filled..filled + len].copy_from_slice(&first.split_to(len));
                if first.is_empty() {
                    self.received.pop_front();
                }
                filled += len;
                taken += len;
            }
        }
        taken
    }
}

impl Network {
    pub(super) fn read(&mut self, id: u32, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = slices.iter().map(|slice| slice.len()).sum();
        let len_max = self.perhaps_less(room);
        let socket = self.socket_mut(id)?;
        let stream = socket.stream_mut().ok_or(io::ErrorKind::InvalidInput)?;
        let count = stream.take(slices, len_max);
        if count == 0 && room > 0 {
            return match stream.phase {
                Phase::Broken { .. } => stream.take_error().map_or(Ok(0), |kind| Err(kind.into())),
                Phase::Open if stream.has_end => Ok(0),
                Phase::Open | Phase::Connecting => {
                    socket.told.readable = false;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        if count < room {
            socket.told.readable = false;
        }
        self.announce_room(id, count);
        self.touch(id);
        Ok(count)
    }

    pub(super) fn write(&mut self, id: u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let segment_len_max = self.options.segment_len_max.max(1);
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.room(id)?;
        if room == 0 && wanted > 0 {
            self.socket_mut(id)?.told.writable = false;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.perhaps_less(wanted.min(room));
        let mut data = gather(slices, count);
        while !data.is_empty() {
            let segment = data.split_to(segment_len_max.min(data.len()));
            self.send_to_peer(id, Packet::Data(segment));
        }
        let socket = self.socket_mut(id)?;
        if count < wanted {
            socket.told.writable = false;
        }
        if let Some(stream) = socket.stream_mut() {
            stream.outstanding += count;
        }
        self.touch(id);
        Ok(count)
    }

    pub(super) fn send_file(
        &mut self,
        id: u32,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        // Without room it is read all the same: the end of the file needs none.
        let mut data = vec![0; len.min(self.room(id)?.max(1))];
        let filled = file.read_at(&mut data, offset)?;
        if filled == 0 {
            return Ok(0);
        }
        let count = self.write(id, &[IoSlice::new(&data[..filled])])?;
        if count < len {
            self.socket_mut(id)?.told.writable = false;
            self.touch(id);
        }
        Ok(count)
    }

    fn room(&mut self, id: u32) -> io::Result<usize> {
        let buffer_len = self.options.buffer_len;
        let stream = self.socket_mut(id)?.stream_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.room(buffer_len)
    }
}

fn gather(slices: &[IoSlice<'_>], len: usize) -> Bytes {
    let mut data = BytesMut::with_capacity(len);
    for slice in slices {
        let part = slice.len().min(len - data.len());
        data.extend_from_slice(&slice[..part]);
    }
    data.freeze()
}

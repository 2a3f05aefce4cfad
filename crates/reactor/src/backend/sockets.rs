//! The sockets of a reactor: its backend's, and channels that a program made itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use super::{Backend, RawSocket, Source};
use crate::{Address, Channel};

/// A backend, and channels beside it that look like sockets of it.
///
/// What has to do with streams is asked here; everything else goes to the backend.
#[derive(Debug)]
pub(crate) struct Sockets {
    backend: Box<dyn Backend>,
    channels: BTreeMap<Source, Box<dyn Channel>>,
    next: u32,
}

impl Sockets {
    pub(crate) fn new(backend: Box<dyn Backend>) -> Self {
        Self { backend, channels: BTreeMap::new(), next: 0 }
    }

    /// Takes in a channel as if it were a socket.
    pub(crate) fn add(&mut self, channel: Box<dyn Channel>) -> Source {
        loop {
            let source = Source(CHANNELS + self.next);
            self.next = (self.next + 1) % COUNT_MAX;
            if let Entry::Vacant(vacant) = self.channels.entry(source) {
                vacant.insert(channel);
                return source;
            }
        }
    }

    fn channel(&mut self, source: Source) -> Option<&mut Box<dyn Channel>> {
        if source.0 < CHANNELS {
            return None;
        }
        self.channels.get_mut(&source)
    }

    pub(crate) fn read(
        &mut self,
        source: Source,
        slices: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        match self.channel(source) {
            Some(channel) => channel.read(slices),
            None => self.backend.read(source, slices),
        }
    }

    pub(crate) fn write(
        &mut self,
        source: Source,
        slices: &[IoSlice<'_>],
        more: bool,
    ) -> io::Result<usize> {
        match self.channel(source) {
            Some(channel) => channel.write(slices),
            None => self.backend.write(source, slices, more),
        }
    }

    pub(crate) fn send_file(
        &mut self,
        source: Source,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        match self.channel(source) {
            Some(channel) => {
                let mut bytes = vec![0; len.min(FILE_PIECE_LEN)];
                let count = file.read_at(&mut bytes, offset)?;
                if count == 0 { Ok(0) } else { channel.write(&[IoSlice::new(&bytes[..count])]) }
            }
            None => self.backend.send_file(source, file, offset, len),
        }
    }

    pub(crate) fn finish_connect(&mut self, source: Source) -> io::Result<()> {
        match self.channel(source) {
            Some(channel) => channel.finish_connect(),
            None => self.backend.finish_connect(source),
        }
    }

    pub(crate) fn set_cork(&mut self, source: Source, is_corked: bool) {
        if source.0 < CHANNELS {
            self.backend.set_cork(source, is_corked);
        }
    }

    pub(crate) fn shutdown_write(&mut self, source: Source) {
        match self.channel(source) {
            Some(channel) => channel.finish(),
            None => self.backend.shutdown_write(source),
        }
    }

    pub(crate) fn take_error(&mut self, source: Source) -> Option<io::Error> {
        if source.0 < CHANNELS { self.backend.take_error(source) } else { None }
    }

    /// A channel is dropped.
    pub(crate) fn close(&mut self, source: Source) {
        if self.channels.remove(&source).is_none() {
            self.backend.close(source);
        }
    }

    pub(crate) fn detach(&mut self, source: Source) -> io::Result<RawSocket> {
        if source.0 >= CHANNELS {
            let words = "a channel has no socket";
            return Err(io::Error::new(io::ErrorKind::Unsupported, words));
        }
        self.backend.detach(source)
    }

    pub(crate) fn local_addr(&self, source: Source) -> io::Result<Address> {
        if source.0 < CHANNELS {
            self.backend.local_addr(source)
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(crate) fn fd(&self, source: Source) -> Option<BorrowedFd<'_>> {
        if source.0 < CHANNELS { self.backend.fd(source) } else { None }
    }
}

impl Deref for Sockets {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

impl DerefMut for Sockets {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.backend
    }
}

/// Channels count from here on: no backend has so many sockets.
const CHANNELS: u32 = 1 << 31;
/// How much of a file goes through a channel at once, in bytes.
const FILE_PIECE_LEN: usize = 64 * 1024;
/// The last number stands for what has no socket.
const COUNT_MAX: u32 = CHANNELS - 1;

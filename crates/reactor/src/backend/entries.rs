//! What is behind each [`Source`] of the real world.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Source;
use super::datagrams::DatagramSocket;
use super::signals::SignalSocket;
use super::streams::Listener;
use super::watched::Watched;

/// All sources, by their number.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
}

/// What a source is. There is one for each connection, so what only few need is boxed.
#[derive(Debug)]
pub(super) enum Entry {
    Stream(Stream),
    Listener(Box<Listener>),
    Datagrams(DatagramSocket),
    Watched(Box<Watched>),
    Signal(Box<SignalSocket>),
}

const _: () = assert!(size_of::<Option<Entry>>() <= 16);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) fd: OwnedFd,
    /// Pipes and terminals are not.
    pub(super) is_socket: bool,
    /// Others may have duplicates of it.
    pub(super) is_adopted: bool,
}

impl Entries {
    pub(super) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn any(&self, source: Source) -> io::Result<&Entry> {
        self.slots.get(source.0 as usize).and_then(Option::as_ref).ok_or_else(no_such)
    }

    pub(super) fn stream(&self, source: Source) -> io::Result<&Stream> {
        match self.any(source)? {
            Entry::Stream(stream) => Ok(stream),
            _ => Err(no_such()),
        }
    }

    pub(super) fn listener(&self, source: Source) -> io::Result<&Listener> {
        match self.any(source)? {
            Entry::Listener(listener) => Ok(listener),
            _ => Err(no_such()),
        }
    }

    pub(super) fn datagrams(&mut self, source: Source) -> io::Result<&mut DatagramSocket> {
        match self.any_mut(source)? {
            Entry::Datagrams(socket) => Ok(socket),
            _ => Err(no_such()),
        }
    }

    pub(super) fn watched(&mut self, source: Source) -> io::Result<&mut Watched> {
        match self.any_mut(source)? {
            Entry::Watched(watched) => Ok(watched),
            _ => Err(no_such()),
        }
    }

    pub(super) fn keep(&mut self, entry: Entry) -> Source {
        match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(entry);
                Source(at)
            }
            None => {
                self.slots.push(Some(entry));
                Source(self.slots.len() as u32 - 1)
            }
        }
    }

    pub(super) fn take(&mut self, source: Source) -> Option<Entry> {
        let entry = self.slots.get_mut(source.0 as usize)?.take()?;
        self.free.push(source.0);
        Some(entry)
    }

    fn any_mut(&mut self, source: Source) -> io::Result<&mut Entry> {
        self.slots.get_mut(source.0 as usize).and_then(Option::as_mut).ok_or_else(no_such)
    }
}

impl Stream {
    pub(super) const fn new(fd: OwnedFd) -> Self {
        Self { fd, is_socket: true, is_adopted: false }
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(stream) => stream.fd.as_fd(),
            Self::Listener(listener) => listener.fd.as_fd(),
            Self::Datagrams(socket) => socket.as_fd(),
            Self::Watched(watched) => watched.as_fd(),
            Self::Signal(signal) => signal.as_fd(),
        }
    }
}

fn no_such() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

//! Descriptors that belong to others, watched by a duplicate.
//!
//! The duplicate has a number of its own: when the owner closes his, and the number comes to name
//! something else, what we take out of epoll is still the right one. It also keeps the file open: the
//! other end hears nothing of the owner's close before the watch ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionread};

use crate::{Interest, Token};

#[derive(Debug)]
pub(super) struct Watched {
    fd: OwnedFd,
    /// What it was last armed with, so that it can be found when it hangs up.
    pub(super) token: Token,
    /// An event has told that the other end is gone.
    pub(super) has_told_end: bool,
}

impl Watched {
    pub(super) fn new(fd: BorrowedFd<'_>, token: Token) -> io::Result<Self> {
        Ok(Self { fd: fcntl_dupfd_cloexec(fd, 0)?, token, has_told_end: false })
    }

    /// What to wait for next; `None` if that would only tell again of an end that was told.
    pub(super) fn next_flags(&mut self, interest: Interest) -> io::Result<Option<EventFlags>> {
        if !self.has_told_end {
            return Ok(Some(flags(interest)));
        }
        // It may be over: an error can have been fetched, and a named pipe have got a new writer.
        let asked = PollFlags::IN | PollFlags::RDHUP;
        let mut polled = [PollFd::new(&self.fd, asked)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let now = polled[0].revents();
        let has_more =
            now.contains(PollFlags::IN) && ioctl_fionread(&self.fd).is_ok_and(|count| count > 0);
        if now.intersects(PollFlags::HUP | PollFlags::ERR) {
            let is_worth_it = has_more && interest != Interest::Writable;
            return Ok(is_worth_it.then(|| flags(interest)));
        }
        if !now.contains(PollFlags::RDHUP) || has_more {
            self.has_told_end = now.contains(PollFlags::RDHUP);
            return Ok(Some(flags(interest)));
        }
        // Half of it is over.
        Ok((interest != Interest::Readable).then(|| flags(Interest::Writable)))
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One event and no more, with readiness as a level.
pub(super) fn flags(interest: Interest) -> EventFlags {
    let readable = EventFlags::IN | EventFlags::RDHUP;
    let flags = match interest {
        Interest::Readable => readable,
        Interest::Writable => EventFlags::OUT,
        Interest::Both => readable | EventFlags::OUT,
    };
    flags | EventFlags::ONESHOT
}

//! Waiting to the nanosecond. Not every kernel's epoll can (`epoll_pwait2` came with Linux 5.11, and
//! containers may forbid it): it counts whole milliseconds. What is left of a millisecond is waited for by
//! poll, on the descriptor of epoll itself.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits for events at most so long, or until a signal comes.
pub(super) fn wait(
    epoll: &OwnedFd,
    ready: &mut Vec<Event>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let Some((timeout, until)) = timeout.zip(until) else { return wait_whole(epoll, ready, None) };
    let part = Duration::from_nanos(u64::from(timeout.subsec_nanos() % NANOS_PER_MILLI));
    let whole = timeout - part;
    if part.is_zero() || !whole.is_zero() {
        wait_whole(epoll, ready, Some(whole))?;
    }
    let rest = until.saturating_duration_since(Instant::now());
    if !part.is_zero() && ready.is_empty() && !rest.is_zero() {
        let mut fds = [PollFd::new(epoll, PollFlags::IN)];
        uninterrupted(poll(&mut fds, Some(&timespec(rest))).map(drop))?;
        wait_whole(epoll, ready, Some(Duration::ZERO))?;
    }
    Ok(())
}

fn wait_whole(
    epoll: &OwnedFd,
    ready: &mut Vec<Event>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let timeout = timeout.map(timespec);
    uninterrupted(epoll::wait(epoll, spare_capacity(ready), timeout.as_ref()).map(drop))
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// An interrupted wait is one that ended early.
fn uninterrupted(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

const NANOS_PER_MILLI: u32 = 1_000_000;

//! A child process that is ended when nobody holds it any more, and never left behind as a zombie.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::rc::{Rc, Weak};
use std::thread;
use std::time::Duration;

use reactor::{Interest, Reactor, WatchGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::lines::Kind;
use crate::node::Shared;
use crate::{Node, PortId, Reason};

/// A process that was started and has not been waited for.
pub(super) struct Process {
    name: String,
    pid: Pid,
    /// `None` once it has been waited for.
    child: RefCell<Option<Running>>,
    patience: Duration,
    watch: RefCell<Option<WatchGuard>>,
    is_stopping: Cell<bool>,
    node: Weak<Shared>,
}

/// Where to read what a process says.
type Outputs = [(OwnedFd, Kind); 2];

struct Running {
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts a process, as the leader of a group. Its outputs come with it.
    pub(super) fn start(
        node: &Node,
        name: &str,
        command: &mut Command,
        patience: Duration,
    ) -> io::Result<(Rc<Self>, Outputs)> {
        let mut child = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        let outputs = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = outputs else { unreachable!("both are pipes") };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                signal(pid, Signal::KILL);
                child.wait()?;
                return Err(error.into());
            }
        };
        let process = Self {
            name: name.to_owned(),
            pid,
            child: RefCell::new(Some(Running { child, pidfd })),
            patience,
            watch: RefCell::new(None),
            is_stopping: Cell::new(false),
            node: Rc::downgrade(&node.shared),
        };
        let stdout = (OwnedFd::from(stdout), Kind::Output(name.to_owned()));
        let stderr = (OwnedFd::from(stderr), Kind::Error(name.to_owned()));
        Ok((Rc::new(process), [stdout, stderr]))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Ends the port when the process is over.
    pub(super) fn watch(
        self: &Rc<Self>,
        port: &PortId,
        reactor: &mut Reactor<()>,
    ) -> io::Result<()> {
        let (process, port) = (Rc::downgrade(self), port.clone());
        let guard = {
            let running = self.child.borrow();
            let Some(running) = &*running else { return Ok(()) };
            reactor.watch(&running.pidfd, Interest::Readable, move |_, (), _| {
                let Some(process) = process.upgrade() else { return };
                if let (Some(reason), Some(shared)) = (process.reap(), process.node.upgrade()) {
                    Node { shared }.kill(&port, reason);
                }
            })?
        };
        *self.watch.borrow_mut() = Some(guard);
        Ok(())
    }

    /// If it is over: why.
    fn reap(&self) -> Option<Reason> {
        let mut slot = self.child.borrow_mut();
        let running = slot.as_mut()?;
        // What it has started and left goes too. As long as nobody has waited for it, the group is its own.
        if !has_ended(&running.pidfd) {
            return None;
        }
        signal(self.pid, Signal::KILL);
        let reason = match running.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) if status.success() => Reason::NORMAL,
            Ok(Some(status)) => Reason::new("exit", format!("{}: {status}", self.name)),
            Err(error) => Reason::new("exit", format!("{}: {error}", self.name)),
        };
        *slot = None;
        Some(reason)
    }

    /// Asks it to end, and sees to it that it does.
    pub(super) fn stop(self: &Rc<Self>, node: &Node) {
        if self.is_stopping.replace(true) || self.child.borrow().is_none() {
            return;
        }
        signal(self.pid, Signal::TERM);
        let process = Rc::downgrade(self);
        node.after(self.patience, move |_| {
            if let Some(process) = process.upgrade()
                && process.child.borrow().is_some()
            {
                tracing::warn!("{} does not end, and is killed", process.name);
                signal(process.pid, Signal::KILL);
            }
        });
    }
}

/// Whoever drops it while the loop goes on must not wait, so that a thread does.
impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut running) = self.child.take() else { return };
        let (pid, patience) = (self.pid, self.patience);
        drop(running.child.stdin.take());
        signal(pid, Signal::TERM);
        let end = thread::Builder::new()
            .name("end of a program".to_owned())
            .spawn(move || end(running, pid, patience));
        match end {
            // Nothing goes on any more that could be kept waiting, and the process may be about to end.
            Ok(thread) if self.node.upgrade().is_none_or(|node| node.has_ended.get()) => {
                if thread.join().is_err() {
                    tracing::error!("{}: it may not have ended", self.name);
                }
            }
            Ok(_) => {}
            // The thread's work was dropped with it, but not the process.
            Err(_) => signal(pid, Signal::KILL),
        }
    }
}

/// Whether there is something to wait for that will not take time.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1))
}

/// Waits for the end, and makes it.
fn end(mut running: Running, pid: Pid, patience: Duration) {
    let timeout = Timespec::try_from(patience).ok();
    let mut fds = [PollFd::new(&running.pidfd, PollFlags::IN)];
    if let Err(error) = poll(&mut fds, timeout.as_ref()) {
        tracing::debug!("no wait for a program's end: {error}");
    }
    signal(pid, Signal::KILL);
    if let Err(error) = running.child.wait() {
        tracing::error!("a program may be left as a zombie: {error}");
    }
}

/// Only for a process that nobody has waited for: later its number may be another's.
fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(pid, signal) {
        tracing::debug!("signal for {pid:?}: {error}");
    }
}

//! Work for other threads that a task waits for.

use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Weak;
use std::{io, thread};

use async_task::Runnable;

use super::JoinError;
use crate::core::Core;
use crate::pools::Pool;

/// Has a thread do `job`. In a simulated world it is done at once.
pub(super) async fn unblock<T: Send + 'static>(
    core: &Weak<RefCell<Core>>,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    run(core, Pool::General, job).await
}

/// Looks up a host's addresses.
pub(super) async fn resolve(
    core: &Weak<RefCell<Core>>,
    host: &str,
    port: u16,
) -> io::Result<Vec<SocketAddr>> {
    let known = core.upgrade().and_then(|core| core.borrow_mut().look_up(host, port));
    if let Some(found) = known {
        return found;
    }
    let host = host.to_owned();
    let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
    run(core, Pool::Resolvers, look_up).await.map_err(io::Error::other)?
}

async fn run<T: Send + 'static>(
    core: &Weak<RefCell<Core>>,
    pool: Pool,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let guarded = move || catch_unwind(AssertUnwindSafe(job));
    let task = {
        let core = core.upgrade().ok_or(JoinError::Cancelled)?;
        let is_single_threaded = core.borrow().backend.is_single_threaded();
        if is_single_threaded {
            return told(guarded());
        }
        // A task that never waits: it is scheduled once, here.
        let job = async move { guarded() };
        let (runnable, task) = async_task::spawn(job, |runnable: Runnable| drop(runnable));
        core.borrow_mut().pools.run(pool, Box::new(move || _ = runnable.run()));
        task
    };
    // Nothing comes of it if the pool ends before it begins.
    task.fallible().await.map_or(Err(JoinError::Cancelled), told)
}

fn told<T>(result: thread::Result<T>) -> Result<T, JoinError> {
    result.map_err(|_panic| {
        tracing::error!("a job of a task panicked");
        JoinError::Panicked
    })
}

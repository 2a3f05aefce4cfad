//! Work for other threads, the results of which come back to the loop: look-ups, files, anything.

use std::any::Any;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use super::{Call, Finish, Reactor};
use crate::pools::{Pool, PoolKey};
use crate::remote::Post;
use crate::worker_pool::PoolOptions;

impl<S: 'static> Reactor<S> {
    /// Has a worker thread do `job`, then calls `done` with what came of it. If the job panics, that is
    /// logged and `done` is dropped.
    pub fn offload<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(T, &mut S, &mut Self) + 'static,
    ) {
        self.offload_to(Pool::General, job, done);
    }

    /// As [`offload`](Self::offload), but by the threads of a pool of its own, which is made with the
    /// default options if it is new: what hangs there holds up nobody else. There are 64 such pools at
    /// most; jobs for another are done by the threads of [`offload`](Self::offload).
    ///
    /// The pool's threads are made when there is work, and end after some seconds without. The
    /// reactor's end waits a few seconds for jobs that have begun, then leaves them behind.
    pub fn offload_on<T: Send + 'static>(
        &mut self,
        pool: PoolKey,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(T, &mut S, &mut Self) + 'static,
    ) {
        self.offload_to(Pool::Named(pool), job, done);
    }

    /// Sets how many threads a pool has, and their priority: threads that live already keep theirs
    /// until they have been without work for a while.
    pub fn set_pool(&mut self, pool: PoolKey, options: PoolOptions) {
        self.core.borrow_mut().pools.set_options(pool, options);
    }

    /// How many jobs are with the worker threads, or their results on the way back.
    pub fn offloaded_count(&self) -> usize {
        self.offloaded.len()
    }

    /// How many jobs may run at once. Default: 2.
    pub fn set_worker_threads(&mut self, count: usize) {
        self.core.borrow_mut().pools.general.set_threads_max(count);
    }

    /// Reads up to `len` bytes from `offset` of a file, on a worker thread: fewer only at its end.
    pub fn read_at(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        len: usize,
        done: impl FnOnce(io::Result<Bytes>, &mut S, &mut Self) + 'static,
    ) {
        let file = Arc::clone(file);
        self.offload(move || read_at(&file, offset, len), done);
    }

    /// Writes all of `bytes` at `offset` of a file, on a worker thread.
    pub fn write_at(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        bytes: impl Into<Bytes>,
        done: impl FnOnce(io::Result<()>, &mut S, &mut Self) + 'static,
    ) {
        let (file, bytes) = (Arc::clone(file), bytes.into());
        self.offload(move || file.write_all_at(&bytes, offset), done);
    }

    /// Looks up a host's addresses, on a thread of its own kind. An address is its own answer.
    pub fn resolve(
        &mut self,
        host: &str,
        port: u16,
        done: impl FnOnce(io::Result<Vec<SocketAddr>>, &mut S, &mut Self) + 'static,
    ) {
        let known = self.core.borrow_mut().look_up(host, port);
        if let Some(found) = known {
            let call: Call<S> = Box::new(move |state, reactor| done(found, state, reactor));
            self.calls.borrow_mut().push_back(call);
            return;
        }
        let host = host.to_owned();
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        self.offload_to(Pool::Resolvers, look_up, done);
    }

    fn offload_to<T: Send + 'static>(
        &mut self,
        pool: Pool,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(T, &mut S, &mut Self) + 'static,
    ) {
        if self.core.borrow().backend.is_single_threaded() {
            match catch_unwind(AssertUnwindSafe(job)) {
                Ok(result) => {
                    let call: Call<S> =
                        Box::new(move |state, reactor| done(result, state, reactor));
                    self.calls.borrow_mut().push_back(call);
                }
                Err(_panic) => tracing::error!("a job panicked: its result is lost"),
            }
            return;
        }
        let id = self.next_job;
        self.next_job += 1;
        let finish: Finish<S> = Box::new(move |result, state, reactor| match result.downcast() {
            Ok(result) => done(*result, state, reactor),
            Err(_) => tracing::error!("a job on a worker thread panicked: its result is lost"),
        });
        self.offloaded.insert(id, finish);
        let inbox = Arc::clone(&self.inbox);
        let job = move || {
            let result: Box<dyn Any + Send> = match catch_unwind(AssertUnwindSafe(job)) {
                Ok(result) => Box::new(result),
                Err(panic) => Box::new(Panicked(panic)),
            };
            if inbox.push(Post::Done(id, result)).is_err() {
                tracing::trace!("the loop ended before a job of it");
            }
        };
        self.core.borrow_mut().pools.run(pool, Box::new(job));
    }
}

impl crate::core::Core {
    /// What is known of a host without asking the system.
    pub(crate) fn look_up(&mut self, host: &str, port: u16) -> Option<io::Result<Vec<SocketAddr>>> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse() {
            return Some(Ok(vec![SocketAddr::new(ip, port)]));
        }
        let found = self.backend.look_up(host)?;
        Some(found.map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()))
    }
}

/// Up to `len` bytes: fewer only at the end of the file.
pub(crate) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let mut count = 0;
    while count < len {
        match file.read_at(&mut buffer[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(count);
    Ok(buffer.into())
}

/// In place of the result of a job that panicked.
struct Panicked(#[expect(dead_code, reason = "kept for whoever debugs")] Box<dyn Any + Send>);

//! Pools of threads by name, so that what hangs in one holds up nobody in another.

use std::collections::BTreeMap;

use crate::worker_pool::{Job, PoolOptions, WorkerPool};

/// The name of a pool of threads: the program numbers them as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey(pub u64);

/// The threads of a reactor.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) general: WorkerPool,
    pub(crate) resolvers: WorkerPool,
    named: BTreeMap<PoolKey, WorkerPool>,
}

/// Which threads a job is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pool {
    General,
    Resolvers,
    Named(PoolKey),
}

impl Pools {
    pub(crate) fn new() -> Self {
        Self {
            general: WorkerPool::new("worker", WORKERS),
            resolvers: WorkerPool::detached("resolver", RESOLVERS),
            named: BTreeMap::new(),
        }
    }

    pub(crate) fn set_options(&mut self, key: PoolKey, options: PoolOptions) {
        if let Some(pool) = self.named(key) {
            pool.set_options(options);
        }
    }

    pub(crate) fn run(&mut self, pool: Pool, job: Job) {
        let refused = match pool {
            Pool::General => Err(job),
            Pool::Resolvers => self.resolvers.run(job),
            Pool::Named(key) => match self.named(key) {
                Some(pool) => pool.run(job),
                None => Err(job),
            },
        };
        if let Err(job) = refused {
            assert!(self.general.run(job).is_ok(), "the system gives us at least one thread");
        }
    }

    /// The pool of that name, made if there is room for one more.
    fn named(&mut self, key: PoolKey) -> Option<&mut WorkerPool> {
        let has_room = self.named.len() < POOLS_MAX;
        if !has_room && !self.named.contains_key(&key) {
            return None;
        }
        let new = || WorkerPool::passing("pool", PoolOptions::default());
        Some(self.named.entry(key).or_insert_with(new))
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        // All at once, so that the patience with one is not added to that with the next.
        self.named.values().chain([&self.general, &self.resolvers]).for_each(WorkerPool::end);
    }
}

/// How many jobs run at once, unless the program wants otherwise.
const WORKERS: usize = 2;
const RESOLVERS: usize = 2;

/// Pools with a name, at most: jobs for more of them are the general pool's.
const POOLS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn past_the_maximum_jobs_are_the_general_pools() {
        let mut pools = Pools::new();
        let (tx, rx) = mpsc::channel();
        for key in 0..=POOLS_MAX as u64 {
            let tx = tx.clone();
            let name = move || std::thread::current().name().map(str::to_owned);
            pools.run(Pool::Named(PoolKey(key)), Box::new(move || tx.send(name()).unwrap()));
        }
        drop(tx);
        let names: Vec<_> = rx.iter().flatten().collect();
        let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
        assert_eq!((count("pool"), count("worker")), (POOLS_MAX, 1));
    }
}

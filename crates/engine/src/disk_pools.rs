//! Threads and open files of each disk: should one hang, others do not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reactor::{PoolKey, PoolOptions, Reactor};

use crate::check_queue::{DiskId, DiskTraits};
use crate::disk::{Crew, Disks, FilePool};
use crate::engine::Engine;

/// The disk that a torrent is on, and the threads for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskPools {
    /// For what peers send and ask for.
    pub(crate) data: PoolKey,
    /// For checks.
    pub(crate) check: PoolKey,
    pub(crate) traits: DiskTraits,
}

impl Engine {
    /// The disk that a folder is on, with threads of its own: should it hang, others do not.
    pub(crate) fn disk_of(&mut self, dir: &Path, reactor: &mut Reactor<Self>) -> DiskPools {
        let now = reactor.now();
        if now.saturating_duration_since(self.disks.1) >= MOUNTS_FRESH {
            self.disks = (Disks::now(), now);
        }
        let disk = self.disks.0.disk_of(dir);
        if let Some(&known) = self.disk_pools.get(&disk) {
            return known;
        }
        let number = disk.number();
        let check = &self.config.check;
        let threads = Crew::threads(check.threads);
        let pools = DiskPools {
            data: PoolKey(number << 1),
            check: PoolKey(number << 1 | 1),
            traits: DiskTraits {
                id: DiskId(number),
                is_rotational: disk.is_rotational(),
                batches_max: threads.saturating_mul(2),
            },
        };
        let data_threads = self.config.disk_threads.max(1);
        let data = PoolOptions {
            threads: data_threads,
            patience: DATA_PATIENCE,
            ..PoolOptions::default()
        };
        reactor.set_pool(pools.data, data);
        let nice = if check.low_priority { NICE_MAX } else { 0 };
        let idle_io = check.low_priority;
        // What it finds after the end nobody wants to know.
        let patience = Duration::ZERO;
        reactor.set_pool(pools.check, PoolOptions { threads, nice, idle_io, patience });
        self.disk_pools.insert(disk, pools);
        pools
    }

    /// The files that are open on a disk.
    pub(crate) fn files_of(&mut self, disk: DiskId) -> Arc<FilePool> {
        if let Some(files) = self.files.get(&disk) {
            return Arc::clone(files);
        }
        let first = self.files.values().next();
        let new =
            first.map_or_else(|| FilePool::new(self.config.open_files_max), |first| first.beside());
        let files = Arc::new(new);
        self.files.insert(disk, Arc::clone(&files));
        files
    }
}

/// So long what is mounted is taken to be as it was.
const MOUNTS_FRESH: Duration = Duration::from_secs(2);
const NICE_MAX: u8 = 19;
/// How long the end of a session waits for reads and writes that have begun. `shutdown` has waited by
/// then: what still runs hangs.
const DATA_PATIENCE: Duration = Duration::from_secs(1);

//! What is on disk looked at for peers' sake, while they stay: pieces that may be here, once their hashes have come,
//! and the hashes of blocks that peers ask for (BEP 52).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reactor::Reactor;
use torrent::PieceIndex;

use crate::check::{Batch, Found};
use crate::disk::{FileStamp, PieceState, batch_len};
use crate::engine::Engine;
use crate::hasher;
use crate::session::Gone;
use crate::task::{Stage, Task, TaskId};
use crate::torrent_handle::Torrent;

impl Torrent {
    /// Asks peers for the hashes of the blocks of these pieces (BEP 52): to know which 16 KiB of a damaged piece are
    /// wrong. When they have come, [`PieceLayers::blocks`](torrent::metainfo::PieceLayers::blocks) of its metainfo has
    /// them. Until then, or the session's end, the torrent counts as not complete. Of version 1 there are none.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn want_block_hashes(&self, pieces: &[PieceIndex]) -> Result<(), Gone> {
        let pieces = pieces.to_vec();
        self.tell(move |engine, id, reactor| {
            if let Some(task) = engine.tasks.get_mut(&id) {
                task.swarm.want_block_hashes(&pieces);
            }
            engine.drain(id, reactor);
            engine.wake(id);
            engine.dial(id, reactor);
        })
    }
}

impl Engine {
    /// Looks whether pieces are here whose hashes have just come. Nothing is written to them meanwhile, since they are
    /// not asked for yet.
    pub(crate) fn recheck(
        &mut self,
        id: TaskId,
        pieces: Vec<PieceIndex>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get(&id) else { return };
        let (storage, of_swarm) = (Arc::clone(&task.storage), task.swarms);
        self.offload_check(
            task.disk,
            move || storage.file_stamps(),
            move |stamps, engine, reactor| {
                engine.recheck_next(id, of_swarm, pieces, stamps.unwrap_or_default(), reactor);
            },
            reactor,
        );
    }

    /// Looks at the next of them. `stamps` says how the files looked before.
    fn recheck_next(
        &mut self,
        id: TaskId,
        of_swarm: u64,
        mut pieces: Vec<PieceIndex>,
        stamps: Vec<Option<FileStamp>>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(disk) = self.asking(id, of_swarm).map(|task| task.disk) else { return };
        let crew = self.crew_of(disk);
        let Some(task) = self.tasks.get(&id) else { return };
        let count = pieces.len().min(batch_len(task.metainfo.layout()));
        let rest = pieces.split_off(count);
        let len = pieces.iter().map(|&piece| u64::from(task.metainfo.layout().len_of(piece))).sum();
        let batch = Batch {
            number: 0,
            metainfo: Arc::clone(&task.metainfo),
            storage: Arc::clone(&task.storage),
            pieces: pieces.clone(),
            len,
            is_last: rest.is_empty(),
            is_over: Arc::new(AtomicBool::new(false)),
            crew,
        };
        self.offload_check(
            disk,
            move || batch.look(),
            move |found, engine, reactor| {
                let Some(task) = engine.asking(id, of_swarm) else { return };
                for &piece in &pieces {
                    let is_it = |found: &&Found| found.piece == piece;
                    let found = found.iter().flatten().find(is_it);
                    let is_here = found.is_some_and(|found| found.state == Ok(PieceState::Good));
                    task.swarm.handle_rechecked(piece, is_here);
                    let file = task.metainfo.layout().file_at(piece);
                    let stamp =
                        file.and_then(|file| Some((task.stamps.get_mut(file)?, stamps.get(file)?)));
                    if let Some((stamp, found)) = stamp {
                        *stamp = *found;
                    }
                }
                engine.drain(id, reactor);
                if !rest.is_empty() {
                    engine.recheck_next(id, of_swarm, rest, stamps, reactor);
                }
            },
            reactor,
        );
    }

    /// A disk thread hashes the blocks of pieces that peers ask about.
    pub(crate) fn hash_blocks(
        &mut self,
        id: TaskId,
        pieces: Vec<PieceIndex>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get(&id) else { return };
        let (storage, of_swarm) = (Arc::clone(&task.storage), task.swarms);
        reactor.offload_on(
            task.disk.data,
            move || hasher::block_hashes(&storage, &pieces),
            move |found, engine, reactor| {
                if let Some(task) = engine.asking(id, of_swarm) {
                    task.swarm.handle_block_hashes(found);
                    engine.drain(id, reactor);
                }
            },
        );
    }

    /// The torrent whose brain asked, if it still has that and nobody else looks at what is on disk.
    fn asking(&mut self, id: TaskId, of_swarm: u64) -> Option<&mut Task> {
        let task = self.tasks.get_mut(&id).filter(|task| task.swarms == of_swarm)?;
        (!matches!(task.stage, Stage::Checking(_) | Stage::Ended { .. })).then_some(task)
    }
}

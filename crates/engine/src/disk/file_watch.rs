//! Tells those who want to hear of it what is done with the files of one torrent, on whatever thread it
//! is done.

use std::path::Path;
use std::sync::Arc;

use torrent::InfoHash;

use super::DiskError;
use crate::event::{EventKind, EventMask, Subscribers};

/// Whom to tell, if anybody.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileWatch(Option<Arc<Watched>>);

#[derive(Debug)]
struct Watched {
    subscribers: Arc<Subscribers>,
    torrent: InfoHash,
}

/// A file that is open; when this is dropped, it is not any more.
#[derive(Debug)]
pub(super) struct WatchedFile {
    watch: FileWatch,
    file: usize,
}

impl FileWatch {
    pub(crate) fn new(subscribers: Arc<Subscribers>, torrent: InfoHash) -> Self {
        Self(Some(Arc::new(Watched { subscribers, torrent })))
    }

    pub(super) fn opened(&self, file: usize, is_writable: bool) -> WatchedFile {
        self.tell(EventMask::FILES, || EventKind::FileOpened { file, is_writable });
        WatchedFile { watch: self.clone(), file }
    }

    pub(super) fn read(&self, file: usize, len: u64) {
        self.tell(EventMask::FILES, || EventKind::FileRead { file, len });
    }

    pub(super) fn written(&self, file: usize, len: u64) {
        self.tell(EventMask::FILES, || EventKind::FileWritten { file, len });
    }

    /// Something is wrong with a file. That it is not there may be as it should be.
    pub(super) fn failed(&self, file: usize, path: &Path, error: &DiskError) {
        if !error.is_absence() {
            self.tell(EventMask::STATUS, || EventKind::FileFailed {
                file,
                path: path.to_owned(),
                error: error.to_string(),
            });
        }
    }

    fn tell(&self, group: EventMask, kind: impl FnOnce() -> EventKind) {
        if let Some(watched) = &self.0
            && watched.subscribers.wants(group)
        {
            watched.subscribers.publish(Some(watched.torrent), &kind());
        }
    }
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        let file = self.file;
        self.watch.tell(EventMask::FILES, || EventKind::FileClosed { file });
    }
}

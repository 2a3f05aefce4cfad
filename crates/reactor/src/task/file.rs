//! A file that tasks read and write, on worker threads.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Weak;
use std::sync::Arc;

use bytes::Bytes;

use super::{Handle, job};
use crate::core::Core;
use crate::reactor::read_at;

/// A file, read and written at offsets. In a simulated world it is a real one too, and nothing waits.
/// What is being written when its future is dropped may be written yet.
#[derive(Clone, Debug)]
pub struct AsyncFile {
    core: Weak<RefCell<Core>>,
    file: Arc<File>,
}

impl AsyncFile {
    /// Opens a file to be read.
    ///
    /// # Errors
    /// Here and below: as the system says, and if the reactor is gone.
    pub async fn open<S: 'static>(handle: &Handle<S>, path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(handle, path, OpenOptions::new().read(true)).await
    }

    /// Opens a file to be read and written, new or emptied.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn create<S: 'static>(
        handle: &Handle<S>,
        path: impl AsRef<Path>,
    ) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Self::open_with(handle, path, &options).await
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with<S: 'static>(
        handle: &Handle<S>,
        path: impl AsRef<Path>,
        options: &OpenOptions,
    ) -> io::Result<Self> {
        let (path, options) = (path.as_ref().to_owned(), options.clone());
        let file = run(handle.core(), move || options.open(path)).await?;
        Ok(Self { core: Weak::clone(handle.core()), file: Arc::new(file) })
    }

    /// Reads up to `len` bytes: fewer only at the end of the file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.run(move |file| read_at(file, offset, len)).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn write_at(&self, offset: u64, bytes: impl Into<Bytes>) -> io::Result<()> {
        let bytes = bytes.into();
        self.run(move |file| file.write_all_at(&bytes, offset)).await
    }

    /// How long it is, in bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn len(&self) -> io::Result<u64> {
        self.run(|file| file.metadata().map(|metadata| metadata.len())).await
    }

    /// Makes it so long: cut, or filled up with zeros.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(move |file| file.set_len(len)).await
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn sync(&self) -> io::Result<()> {
        self.run(File::sync_all).await
    }

    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.file);
        run(&self.core, move || act(&file)).await
    }
}

async fn run<T: Send + 'static>(
    core: &Weak<RefCell<Core>>,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    job::unblock(core, act).await.map_err(io::Error::other)?
}

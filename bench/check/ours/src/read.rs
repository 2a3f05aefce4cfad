//! The floor under every check: the same bytes, read and thrown away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Began, Outcome, print};

/// Reads everything at `path` with `pread`, each thread into one buffer that it uses again and again.
pub(crate) fn run(threads: usize, path: &Path) -> Outcome {
    let began = Began::now();
    let mut files = Vec::new();
    list(path, &mut files)?;
    let runs = files.iter().flat_map(|(path, len)| {
        let len = *len;
        (0..len).step_by(RUN_LEN).map(move |from| (path, from, len.min(from + RUN_LEN as u64)))
    });
    let runs = Mutex::new(runs);
    let work = || -> io::Result<u64> {
        let (mut buf, mut opened, mut total) = (vec![0; BUF_LEN], None, 0);
        loop {
            let next = runs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((path, mut from, end)) = next else { return Ok(total) };
            let file = match opened.take() {
                Some((of, file)) if of == path => file,
                _ => File::open(path)?,
            };
            while from < end {
                let len = buf.len().min((end - from) as usize);
                let count = file.read_at(&mut buf[..len], from)? as u64;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                from += count;
                total += count;
            }
            opened = Some((path, file));
        }
    };
    let total: io::Result<u64> = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    });
    print(&format!("{{\"bytes\": {}, {}}}", total?, began.fields()));
    Ok(())
}

/// All files at and below `path` with their lengths, in the order of their names.
fn list(path: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        files.push((path.to_owned(), found.len()));
        return Ok(());
    }
    let mut names =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    names.iter().try_for_each(|name| list(name, files))
}

const BUF_LEN: usize = 1024 * 1024;
/// What a thread takes at a time, so that a disk streams.
const RUN_LEN: usize = 4 * BUF_LEN;

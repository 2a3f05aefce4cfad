//! `flotilla verify`: compares files on disk with a torrent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engine::disk::{FilePool, PieceState, Storage, StorageOptions, check_pieces};
use torrent::PieceIndex;
use torrent::metainfo::FileLayout;

use super::hash_threads;
use crate::cli::Verify;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::load_file;
use crate::terminal::Terminal;
use crate::text::{bytes, count};

pub(crate) fn run(options: &Verify, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let metainfo = load_file(&options.file)?;
    std::fs::read_dir(&options.dir).map_err(|error| Failure::at(&options.dir, error))?;
    let layout = Arc::clone(metainfo.layout());
    let storage = Storage::new(
        Arc::clone(&layout),
        options.dir.clone(),
        Arc::new(FilePool::default()),
        StorageOptions {
            preallocate: false,
            wanted: vec![true; layout.files().len()],
            part_path: PathBuf::new(),
        },
    );
    let bar = terminal.bar("verifying", layout.total_len());
    let wrong = Mutex::new(BTreeMap::new());
    let pieces = (0..layout.piece_count()).map(PieceIndex);
    let threads = hash_threads(options.threads);
    let checked =
        check_pieces(&storage, &metainfo, pieces, threads, interrupt.flag(), |piece, state| {
            bar.inc(layout.len_of(piece).into());
            if state != PieceState::Good {
                wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(piece, state);
            }
        });
    bar.finish_and_clear();
    checked?;
    if interrupt.is_set() {
        return Err(Failure::Interrupted);
    }
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lens: Vec<Option<u64>> =
        storage.file_stamps().iter().map(|stamp| stamp.as_ref().map(|stamp| stamp.len)).collect();
    let damages = damages(&layout, &wrong, &lens);
    damages.iter().for_each(|line| terminal.line(line));
    let files = layout.files().iter().filter(|file| !file.is_pad).count() as u64;
    if damages.is_empty() {
        terminal.line(&format!("ok: {}, {}", count(files, "file"), bytes(layout.total_len())));
        return Ok(());
    }
    let damaged = damages.len() as u64;
    terminal.line(&format!(
        "{damaged} of {} not right; {} of {} good",
        count(files, "file"),
        u64::from(layout.piece_count()) - wrong.len() as u64,
        count(layout.piece_count(), "piece"),
    ));
    Err(Failure::Told)
}

/// A line for each file that is not as it should be.
fn damages(
    layout: &FileLayout,
    wrong: &BTreeMap<PieceIndex, PieceState>,
    lens: &[Option<u64>],
) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, file) in layout.files().iter().enumerate().filter(|(_, file)| !file.is_pad) {
        let path = file.path.to_path_buf();
        let pieces = layout.file_pieces(index);
        let bad = wrong.range(PieceIndex(pieces.start)..PieceIndex(pieces.end)).count() as u64;
        let line = match lens.get(index).copied().flatten() {
            None => "missing".to_owned(),
            Some(len) if len < file.len => format!("too short by {}", bytes(file.len - len)),
            Some(len) if len > file.len => format!("too long by {}", bytes(len - file.len)),
            Some(_) if bad > 0 => {
                format!("damaged in {bad} of {}", count(pieces.end - pieces.start, "piece"))
            }
            Some(_) => continue,
        };
        lines.push(format!("{}: {line}", path.display()));
    }
    lines
}

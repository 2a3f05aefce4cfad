//! `flotilla verify`: compares files on disk with a torrent.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::disk::{
    CheckReport, DiskError, FilePool, PieceState, Storage, StorageOptions, check_pieces,
    wrong_blocks,
};
use engine::{AddOptions, ListenConfig, NatConfig, Session, SessionConfig};
use torrent::metainfo::create::Format;
use torrent::metainfo::{FileLayout, Metainfo, PieceLayers};
use torrent::{BLOCK_LEN, PieceIndex};

use super::{all_addrs, check_options};
use crate::cli::Verify;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{data_dir, load_file};
use crate::terminal::Terminal;
use crate::text::{bytes, count};
use crate::ways;

pub(crate) fn run(options: &Verify, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    interrupt.insist()?;
    let metainfo = load_file(&options.file)?;
    let lacks = |layers: &Arc<PieceLayers>| metainfo.format() == Format::V2 && !layers.is_whole();
    if metainfo.layers().is_some_and(lacks) {
        let what =
            "it lacks the hashes of pieces (`piece layers`), which are needed to verify files";
        return Err(Failure::at(&options.file, what));
    }
    std::fs::metadata(&options.dir).map_err(|error| Failure::at(&options.dir, error))?;
    let dir = data_dir(&metainfo, std::slice::from_ref(&options.dir));
    let dir = dir.unwrap_or_else(|| options.dir.clone());
    let layout = Arc::clone(metainfo.layout());
    let storage = Storage::new(
        Arc::clone(&layout),
        dir,
        Arc::new(FilePool::default()),
        StorageOptions {
            preallocate: false,
            wanted: vec![true; layout.files().len()],
            part_path: PathBuf::new(),
        },
    );
    let bar = terminal.bar("verifying", layout.total_len());
    let wrong = Mutex::new(BTreeMap::new());
    let pieces: Vec<PieceIndex> = (0..layout.piece_count()).map(PieceIndex).collect();
    let check = check_options(options.threads, &options.reading);
    let checked =
        check_pieces(&storage, &metainfo, &pieces, &check, interrupt.flag(), |piece, state| {
            bar.inc(layout.len_of(piece).into());
            if state != PieceState::Good {
                wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(piece, state);
            }
        });
    bar.finish_and_clear();
    let report = checked?;
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lens: Vec<Option<u64>> =
        storage.file_stamps().iter().map(|stamp| stamp.as_ref().map(|stamp| stamp.len)).collect();
    if options.ask_peers {
        ask_peers(options, &metainfo, &wrong, &interrupt, terminal)?;
    }
    let blocks = wrong
        .keys()
        .filter_map(|&piece| Some((piece, wrong_blocks(&storage, metainfo.layers()?, piece)?)));
    let blocks: BTreeMap<PieceIndex, Vec<u32>> = blocks.collect();
    let findings = findings(&layout, metainfo.format(), &wrong, &blocks, &lens, &report);
    let mut counts = (0_u64, 0_u64);
    for (file, finding) in layout.files().iter().zip(&findings) {
        match finding {
            Finding::Good => continue,
            Finding::Wrong(_) => counts.0 += 1,
            Finding::Unclear { .. } => counts.1 += 1,
        }
        terminal.line(&format!("{}: {finding}", file.path.to_path_buf().display()));
    }
    let files = count(layout.files().iter().filter(|file| !file.is_pad).count() as u64, "file");
    if wrong.is_empty() && counts == (0, 0) {
        terminal.line(&format!("ok: {files}, {}", bytes(layout.total_len())));
        return Ok(());
    }
    let good = u64::from(layout.piece_count()) - wrong.len() as u64;
    let unclear = if counts.1 > 0 { format!(", {} unclear", counts.1) } else { String::new() };
    terminal.line(&format!(
        "{} of {files} not right{unclear}; {good} of {} good",
        counts.0,
        count(layout.piece_count(), "piece"),
    ));
    Err(Failure::Told)
}

/// Has peers say what the blocks of damaged pieces must be. What none of them says in time stays unknown.
fn ask_peers(
    options: &Verify,
    metainfo: &Metainfo,
    wrong: &BTreeMap<PieceIndex, PieceState>,
    interrupt: &Interrupt,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let Some(layers) = metainfo.layers() else {
        return Err(Failure::Usage(
            "--ask-peers: the torrent is of version 1 only, which has no hashes of less than a piece".to_owned(),
        ));
    };
    let is_unknown = |piece: &PieceIndex| layers.blocks(*piece).is_none();
    let damaged = wrong.iter().filter(|(_, state)| **state == PieceState::Bad);
    let pieces: Vec<PieceIndex> = damaged.map(|(&piece, _)| piece).filter(is_unknown).collect();
    if pieces.is_empty() {
        return Ok(());
    }
    let usual = ways::peering_config(&options.peering, &options.ways, terminal)?;
    let session = Session::start(SessionConfig {
        listen: ListenConfig { ports: vec![0..=0], ..usual.listen },
        // It asks, and is gone before others could come.
        nat: NatConfig::OFF,
        ..usual
    })?;
    // Nothing of it is wanted, and where it is said to be there is nothing: it neither reads nor writes.
    let add = AddOptions {
        peers: all_addrs(&options.peers, &options.ways)?,
        priorities: vec![0; metainfo.layout().files().len()],
        dir: "/nonexistent".into(),
        ..AddOptions::default()
    };
    let torrent = session.add(metainfo.clone(), add)?;
    torrent.want_block_hashes(&pieces)?;
    let end = Instant::now() + options.patience;
    let is_over = || interrupt.is_set() || terminal.is_gone();
    while pieces.iter().any(is_unknown) && Instant::now() < end && !is_over() {
        std::thread::sleep(TICK);
    }
    session.shutdown(LEAVING_PATIENCE);
    if is_over() {
        return Err(Failure::Interrupted);
    }
    let unknown = pieces.iter().filter(|&piece| is_unknown(piece)).count() as u64;
    if unknown > 0 {
        let pieces = count(unknown, "damaged piece");
        terminal.complain(&format!("no peer has said in time what the blocks of {pieces} must be"));
    }
    Ok(())
}

/// What can be said of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    Good,
    Wrong(String),
    /// Only pieces that it shares with a wrong file are wrong: it may well be good.
    Unclear {
        bad: u32,
        all: u32,
    },
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good => f.write_str("ok"),
            Self::Wrong(why) => f.write_str(why),
            Self::Unclear { bad, all } => {
                let all = count(*all, "piece");
                write!(f, "perhaps good: {bad} of {all} shared with a file that is not right")
            }
        }
    }
}

fn findings(
    layout: &FileLayout,
    format: Format,
    wrong: &BTreeMap<PieceIndex, PieceState>,
    blocks: &BTreeMap<PieceIndex, Vec<u32>>,
    lens: &[Option<u64>],
    report: &CheckReport,
) -> Vec<Finding> {
    let bad_pieces = |file: usize| {
        let pieces = layout.file_pieces(file);
        wrong.range(PieceIndex(pieces.start)..PieceIndex(pieces.end)).map(|(piece, _)| *piece)
    };
    let damaged = |file: usize| {
        let all = layout.file_pieces(file).len() as u64;
        let pieces: Vec<PieceIndex> = bad_pieces(file).collect();
        let told = format!("damaged in {} of {}", pieces.len(), count(all, "piece"));
        // Where each piece is of one file, it is known which bytes of that may be wrong.
        if format.has_v2() {
            format!("{told}: {}", in_bytes(layout, file, &pieces, blocks))
        } else {
            told
        }
    };
    // How many files have bytes in each wrong piece.
    let mut owners: BTreeMap<PieceIndex, u32> = BTreeMap::new();
    let real = |file: &usize| !layout.files()[*file].is_pad;
    for file in (0..lens.len()).filter(real) {
        bad_pieces(file).for_each(|piece| *owners.entry(piece).or_default() += 1);
    }
    let by_itself = |file: usize| {
        let (entry, pieces) = (&layout.files()[file], layout.file_pieces(file));
        let all = pieces.end - pieces.start;
        let bad = bad_pieces(file).count() as u32;
        let is_own = bad_pieces(file).any(|piece| owners.get(&piece) == Some(&1));
        if let Some((_, error)) = report.unreadable.get(&file) {
            let unread = bad_pieces(file).filter(|piece| wrong[piece] == PieceState::Unreadable);
            return Finding::Wrong(unreadable(error, &in_runs(unread)));
        }
        match lens[file] {
            _ if entry.is_pad => Finding::Good,
            None => Finding::Wrong("missing".to_owned()),
            Some(len) if len < entry.len => {
                Finding::Wrong(format!("too short by {}", bytes(entry.len - len)))
            }
            Some(len) if len > entry.len => {
                let by = bytes(len - entry.len);
                let within = if is_own { format!(", {}", damaged(file)) } else { String::new() };
                Finding::Wrong(format!("too long by {by}{within}"))
            }
            Some(_) if is_own => Finding::Wrong(damaged(file)),
            Some(_) if bad > 0 => Finding::Unclear { bad, all },
            Some(_) => Finding::Good,
        }
    };
    let mut found: Vec<Finding> = (0..lens.len()).map(by_itself).collect();
    let explained: BTreeSet<PieceIndex> = (0..lens.len())
        .filter(|&file| matches!(found[file], Finding::Wrong(_)))
        .flat_map(bad_pieces)
        .collect();
    for (file, finding) in found.iter_mut().enumerate() {
        if let Finding::Unclear { .. } = *finding
            && !bad_pieces(file).all(|piece| explained.contains(&piece))
        {
            *finding = Finding::Wrong(damaged(file));
        }
    }
    found
}

/// The bytes of a file that are wrong: `bytes 0 to 16383, 32768 to 40000`. All of a piece may be, unless it is known
/// which of its blocks are.
fn in_bytes(
    layout: &FileLayout,
    file: usize,
    pieces: &[PieceIndex],
    blocks: &BTreeMap<PieceIndex, Vec<u32>>,
) -> String {
    let start = layout.file_pieces(file).start;
    let len = u64::from(layout.piece_len());
    let mut runs: Vec<Range<u64>> = Vec::new();
    for piece in pieces {
        let from = u64::from(piece.0 - start) * len;
        let block = |&block: &u32| {
            let from = from + u64::from(block) * u64::from(BLOCK_LEN);
            from..from + u64::from(BLOCK_LEN)
        };
        let whole = from..from + len;
        let known = blocks.get(piece).filter(|blocks| !blocks.is_empty());
        let parts = known.map_or_else(|| vec![whole], |blocks| blocks.iter().map(block).collect());
        for part in parts {
            match runs.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => runs.push(part),
            }
        }
    }
    let file_len = layout.files()[file].len;
    let text = |run: &Range<u64>| format!("{} to {}", run.start, run.end.min(file_len) - 1);
    let told: Vec<String> = runs.iter().take(RUNS_MAX).map(text).collect();
    let more = if runs.len() > RUNS_MAX { " and others" } else { "" };
    format!("bytes {}{more}", told.join(", "))
}

fn unreadable(error: &DiskError, pieces: &str) -> String {
    match error {
        DiskError::Io { source, .. } => format!("cannot be read in {pieces}: {source}"),
        DiskError::Permission { .. } => "cannot be read: permission denied".to_owned(),
        // These name what is in the way, which need not be the file itself.
        other => other.to_string(),
    }
}

/// By number, those that follow one another in short: `pieces 4, 20 to 22`.
fn in_runs(pieces: impl Iterator<Item = PieceIndex>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for PieceIndex(piece) in pieces {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == piece => *last = piece,
            _ => runs.push((piece, piece)),
        }
    }
    let text = |&(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        _ => format!("{first} to {last}"),
    };
    let told: Vec<String> = runs.iter().take(RUNS_MAX).map(text).collect();
    let more = if runs.len() > RUNS_MAX { " and others" } else { "" };
    let is_one = matches!(runs[..], [(first, last)] if first == last);
    format!("{} {}{more}", if is_one { "piece" } else { "pieces" }, told.join(", "))
}

/// How long trackers may take to hear that we leave.
const LEAVING_PATIENCE: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_millis(50);
/// Runs of pieces that are told of a file that has holes everywhere.
const RUNS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_by_the_block_where_that_is_known() {
        let builder = torrent::metainfo::create::Builder {
            format: Format::V2,
            name: b"t".to_vec(),
            files: vec![(vec![b"a".to_vec()], 10), (vec![b"b".to_vec()], 250_000)],
            piece_len: Some(4 * BLOCK_LEN),
            ..Default::default()
        };
        let layout = builder.layout().expect("fits");
        let told = |pieces: &[u32], blocks: &[(u32, &[u32])]| {
            let pieces: Vec<PieceIndex> = pieces.iter().copied().map(PieceIndex).collect();
            let blocks = blocks.iter().map(|&(piece, blocks)| (PieceIndex(piece), blocks.to_vec()));
            in_bytes(&layout, 1, &pieces, &blocks.collect())
        };
        assert_eq!(told(&[1], &[]), "bytes 0 to 65535");
        assert_eq!(told(&[1, 2, 4], &[]), "bytes 0 to 131071, 196608 to 249999");
        assert_eq!(told(&[1, 2], &[(1, &[1, 3])]), "bytes 16384 to 32767, 49152 to 131071");
        assert_eq!(told(&[4], &[(4, &[3])]), "bytes 245760 to 249999");
    }

    #[test]
    fn pieces_that_follow_one_another_are_told_in_short() {
        let text = |pieces: &[u32]| in_runs(pieces.iter().copied().map(PieceIndex));
        assert_eq!(text(&[20]), "piece 20");
        assert_eq!(text(&[0, 4, 5, 6, 9]), "pieces 0, 4 to 6, 9");
        let scattered: Vec<u32> = (0..13).map(|number| number * 2).collect();
        assert!(text(&scattered).ends_with(", 22 and others"), "{}", text(&scattered));
    }
}

//! `flotilla create`: makes a torrent file.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::disk::hash_files_as;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::{Builder, NewFile, PieceHashes};

use super::check_options;
use crate::cli::Create;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{PIPE, USER_AGENT};
use crate::terminal::Terminal;
use crate::text::{bytes, count};
use crate::values::NameFilter;

pub(crate) fn run(options: &Create, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    interrupt.insist()?;
    let filter = NameFilter::new(&options.include, &options.exclude).map_err(Failure::Usage)?;
    // `.` and `..` have a name only once they are resolved.
    let path = options.path.canonicalize().map_err(|error| Failure::at(&options.path, error))?;
    let own_name = path.file_name().ok_or_else(|| Failure::at(&options.path, "it has no name"))?;
    let name = options.name.as_ref().map_or_else(|| own_name.as_bytes(), |name| name.as_bytes());
    let output = options.output.clone().unwrap_or_else(|| {
        let mut file = PathBuf::from(std::ffi::OsStr::from_bytes(name)).into_os_string();
        file.push(".torrent");
        file.into()
    });
    let is_piped = output == Path::new(PIPE);
    if is_piped && terminal.is_live() {
        let why = "-o -: standard output is a terminal, and a torrent file is no text; `./-` is a file of that name";
        return Err(Failure::Usage(why.to_owned()));
    }
    let output = if is_piped { output } else { writable_file(output, options.force)? };
    if name.contains(&b'/') {
        return Err(Failure::Usage("--name: a name has no `/`".to_owned()));
    }
    let mut found = Files {
        filter,
        files: Vec::new(),
        skipped: 0,
        first_skipped: None,
        root: name.to_vec(),
        ignored: if is_piped { None } else { output.canonicalize().ok() },
    };
    if path.is_dir() {
        found.walk(&path, &mut Vec::new())?;
    } else {
        let about = fs::metadata(&path).map_err(|error| Failure::at(&path, error))?;
        if !about.is_file() {
            return Err(Failure::at(&options.path, "neither a file nor a folder"));
        }
        found.files.push((Vec::new(), about.len()));
    }
    if let Some(first) = &found.first_skipped {
        terminal.complain(&format!(
            "left out {} (links, sockets and the like), the first is {}",
            count(found.skipped, "special file"),
            first.display(),
        ));
    }
    if found.files.is_empty() {
        return Err(Failure::at(&options.path, "no files to share"));
    }
    let builder = Builder {
        format: options.format.into(),
        name: name.to_vec(),
        files: found.files,
        piece_len: options.piece_size,
        is_private: options.private,
        trackers: options.trackers.clone(),
        web_seeds: options.web_seeds.clone(),
        comment: options.comment.clone(),
        source: options.source.clone(),
        similar: options.similar.clone(),
        collections: options.collections.clone(),
        update_url: options.update_url.clone(),
        created_by: Some(USER_AGENT.to_owned()),
        ..Builder::default()
    };
    let hashes = hash(&builder, &path, options, terminal, &interrupt)?;
    let torrent = builder.finish_as(&hashes)?;
    // What we made is read back as anyone would: nothing leaves this house that it would refuse.
    let metainfo = Metainfo::parse(&torrent)?;
    if is_piped {
        terminal.raw(&torrent);
        return Ok(());
    }
    write_atomically(&output, &torrent).map_err(|error| Failure::at(&output, error))?;
    let layout = metainfo.layout();
    terminal.line(&format!(
        "{}: {}, {} in {} of {}",
        output.display(),
        count(layout.files().iter().filter(|file| !file.is_pad).count() as u64, "file"),
        bytes(layout.total_len()),
        count(layout.piece_count(), "piece"),
        bytes(layout.piece_len().into()),
    ));
    let hashes = metainfo.info_hashes();
    if let Some(v1) = hashes.v1 {
        terminal.line(&format!("info hash {v1}"));
    }
    if let Some(v2) = hashes.v2 {
        terminal.line(&format!("info hash v2 {v2}"));
    }
    Ok(())
}

fn hash(
    builder: &Builder,
    path: &Path,
    options: &Create,
    terminal: &Terminal,
    interrupt: &Interrupt,
) -> Result<PieceHashes, Failure> {
    // The files are where they are, whatever the torrent will call them.
    let own_name = path.file_name().map_or_else(Vec::new, |name| name.as_bytes().to_vec());
    let on_disk = Builder { name: own_name, ..builder.clone() };
    builder.layout()?;
    let layout = Arc::new(on_disk.layout()?);
    let root = path.parent().unwrap_or_else(|| Path::new("/"));
    let bar = terminal.bar("hashing", layout.total_len());
    let check = check_options(options.threads, &options.reading);
    let advance = |len| bar.inc(len);
    let hashes = hash_files_as(builder.format, &layout, root, &check, interrupt.flag(), advance);
    bar.finish_and_clear();
    Ok(hashes?)
}

/// The files below a folder, in an order that depends on their names alone.
struct Files {
    filter: NameFilter,
    files: Vec<NewFile>,
    /// Links and other things that are neither file nor folder.
    skipped: u64,
    first_skipped: Option<PathBuf>,
    /// The name of the folder, as the torrent will have it.
    root: Vec<u8>,
    /// The torrent file itself, should it lie among them.
    ignored: Option<PathBuf>,
}

impl Files {
    fn walk(&mut self, dir: &Path, names: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| Failure::at(dir, error);
        let mut entries: Vec<fs::DirEntry> =
            fs::read_dir(dir).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| Failure::at(&path, error))?;
            names.push(entry.file_name().as_bytes().to_vec());
            if kind.is_dir() {
                self.walk(&path, names)?;
            } else if !kind.is_file() {
                self.skipped += 1;
                self.first_skipped.get_or_insert(path);
            } else if self.filter.matches(&shown(&self.root, names))
                && self.ignored.as_ref() != Some(&path)
            {
                let len = entry.metadata().map_err(|error| Failure::at(&path, error))?.len();
                self.files.push((names.clone(), len));
            }
            names.pop();
        }
        Ok(())
    }
}

/// The path as `show` prints it.
fn shown(root: &[u8], names: &[Vec<u8>]) -> PathBuf {
    let names = names.iter().map(Vec::as_slice);
    std::iter::once(root).chain(names).map(std::ffi::OsStr::from_bytes).collect()
}

/// Where a torrent file may be written: at the end of a link, and over nothing but a file.
fn writable_file(path: PathBuf, may_overwrite: bool) -> Result<PathBuf, Failure> {
    let Ok(about) = fs::metadata(&path) else { return Ok(path) };
    if !about.is_file() {
        return Err(Failure::at(&path, "it is no file; say a name for the torrent file"));
    }
    if !may_overwrite {
        return Err(Failure::at(&path, "it exists already; --force overwrites it"));
    }
    path.canonicalize().map_err(|error| Failure::at(&path, error))
}

/// The file is there whole or not at all.
fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let mut file = fs::File::create(&aside)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // The first error is the one to tell.
        fs::remove_file(&aside).ok();
    }
    written
}

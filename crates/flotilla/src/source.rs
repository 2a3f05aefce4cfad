//! Torrent files, from the disk or the web, and magnet links.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use engine::disk::DiskError;
use engine::http::{self, HttpError, HttpOptions};
use torrent::Magnet;
use torrent::metainfo::Metainfo;

use crate::failure::Failure;

/// A torrent, or all that is known of it.
pub(crate) enum Source {
    Torrent(Box<Metainfo>),
    Link(Box<Magnet>),
}

/// Reads what `source` names: a magnet link, a bare info hash unless there is such a file, or what
/// [`load`] reads.
pub(crate) fn find_source(source: &str, http: &HttpOptions) -> Result<Source, Failure> {
    if is_magnet(source) {
        let link = source.parse().map_err(|error| Failure::Usage(format!("{source}: {error}")))?;
        return Ok(Source::Link(Box::new(link)));
    }
    match Magnet::from_info_hash(source) {
        Some(link) if !Path::new(source).exists() => Ok(Source::Link(Box::new(link))),
        Some(_) | None => load(source, http).map(|metainfo| Source::Torrent(Box::new(metainfo))),
    }
}

/// What each of `sources` is, by its name; `-` is a torrent file or a list on standard input.
pub(crate) fn find_sources(
    sources: &[String],
    http: &HttpOptions,
) -> Vec<(String, Result<Source, Failure>)> {
    let mut found = Vec::new();
    for source in sources {
        if source != PIPE {
            found.push((source.clone(), find_source(source, http)));
            continue;
        }
        let told = STDIN_NAME.to_owned();
        match read_stdin() {
            Err(failure) => found.push((told, Err(failure))),
            Ok(bytes) if is_dictionary(&bytes) => {
                let metainfo = Metainfo::parse(&bytes);
                let metainfo = metainfo.map_err(|error| Failure::at(Path::new(STDIN_NAME), error));
                found.push((told, metainfo.map(|metainfo| Source::Torrent(Box::new(metainfo)))));
            }
            Ok(bytes) => {
                let before = found.len();
                let list = String::from_utf8_lossy(&bytes);
                let is_named = |line: &&str| !line.is_empty() && !line.starts_with('#');
                let lines = list.lines().map(str::trim).filter(is_named);
                found.extend(lines.map(|line| (line.to_owned(), find_line(line, http))));
                if found.len() == before {
                    let nothing = Failure::at(Path::new(STDIN_NAME), "it names no torrent");
                    found.push((told, Err(nothing)));
                }
            }
        }
    }
    found
}

/// Whether it is bencode as a torrent file is: a dictionary, whose first key is a text. An info hash or a path may begin
/// with `d` as well.
fn is_dictionary(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"d") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest.get(digits) == Some(&b':')
}

/// As [`find_source`], of a list: a bad line is the fault of whoever wrote it, and does not keep the others.
fn find_line(line: &str, http: &HttpOptions) -> Result<Source, Failure> {
    find_source(line, http).map_err(|failure| match failure {
        Failure::Usage(why) => Failure::Failed(why),
        failure => failure,
    })
}

/// Says so of a link that nobody can be asked about.
pub(crate) fn refuse_unfindable(
    source: &str,
    link: &Magnet,
    is_anyone_known: bool,
) -> Result<(), Failure> {
    if is_anyone_known || !link.trackers.is_empty() || !link.peers.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{source}: it names neither a tracker nor a peer, so there is nobody to ask while the ways to find some are off; --peer or --tracker names one"
    )))
}

fn is_magnet(source: &str) -> bool {
    source.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("magnet"))
}

/// Reads the torrent that `source` names: a path, or an http or https URL.
pub(crate) fn load(source: &str, options: &HttpOptions) -> Result<Metainfo, Failure> {
    let scheme = source.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") => {
            let wrong = |why: &dyn std::fmt::Display| Failure::Failed(format!("{source}: {why}"));
            let bytes =
                http::fetch(source, options, TORRENT_LEN_MAX).map_err(|error| match error {
                    HttpError::TooLong(_) => wrong(&"longer than 64 MiB: this is no torrent file"),
                    error => wrong(&error),
                })?;
            Metainfo::parse(&bytes).map_err(|error| wrong(&error))
        }
        Some(scheme) if source[scheme.len()..].starts_with("://") => Err(Failure::Usage(format!(
            "{source}: `{scheme}` addresses are not supported; http and https are"
        ))),
        _ => load_file(Path::new(source)),
    }
}

/// Reads a torrent file.
pub(crate) fn load_file(path: &Path) -> Result<Metainfo, Failure> {
    if path.to_str().is_some_and(is_magnet) {
        return Err(Failure::Usage(
            "the torrent file is wanted here; `flotilla show MAGNET --fetch --save FILE` gets it"
                .to_owned(),
        ));
    }
    let wrong = |error: std::io::Error| Failure::at(path, error);
    let (bytes, path) = if path == Path::new(PIPE) {
        (read_stdin()?, Path::new(STDIN_NAME))
    } else {
        let about = std::fs::metadata(path).map_err(wrong)?;
        if about.is_dir() {
            return Err(Failure::at(path, "a folder; a torrent file is wanted"));
        }
        (read_all(std::fs::File::open(path).map_err(wrong)?, path)?, path)
    };
    Metainfo::parse(&bytes).map_err(|error| Failure::at(path, error))
}

/// All of standard input, which can be had but once.
fn read_stdin() -> Result<Vec<u8>, Failure> {
    static IS_READ: AtomicBool = AtomicBool::new(false);
    if IS_READ.swap(true, Ordering::Relaxed) {
        let why = "`-` is named twice, but standard input can be read only once; a file of that name is `./-`";
        return Err(Failure::Usage(why.to_owned()));
    }
    read_all(std::io::stdin().lock(), Path::new(STDIN_NAME))
}

/// All that comes: a device or a pipe has no length to go by.
fn read_all(from: impl Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(TORRENT_LEN_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::at(path, error))?;
    if bytes.len() > TORRENT_LEN_MAX {
        return Err(Failure::at(path, "longer than 64 MiB: this is no torrent file"));
    }
    if bytes.is_empty() {
        return Err(Failure::at(path, "empty, so not a torrent file"));
    }
    Ok(bytes)
}

/// Makes a folder to download to, and sees that it can be written.
pub(crate) fn writable_dir(dir: &Path) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot download to {}: {error}", dir.display()))
    };
    if dir.exists() && !dir.is_dir() {
        return Err(wrong(&"it is a file, not a folder"));
    }
    std::fs::create_dir_all(dir).map_err(|error| wrong(&error))?;
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| wrong(&std::io::Error::from(error)))
}

/// The folder that a torrent's file or folder lies in: a path may name either.
pub(crate) fn data_dir(metainfo: &Metainfo, paths: &[PathBuf]) -> Option<PathBuf> {
    let name = root_name(metainfo)?;
    let is_named_so =
        |path: &&PathBuf| path.file_name() == Some(OsStr::new(&name)) && path.exists();
    let parent = |path: &PathBuf| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let holds_it = |path: &&PathBuf| path.join(&name).exists();
    let by_name = paths.iter().find(is_named_so).map(parent);
    by_name.or_else(|| paths.iter().find(holds_it).cloned())
}

/// What the torrent calls its file or folder.
pub(crate) fn root_name(metainfo: &Metainfo) -> Option<PathBuf> {
    let first = metainfo.layout().files().first()?.path.to_path_buf();
    first.components().next().map(|name| Path::new(name.as_os_str()).to_owned())
}

/// What is where a torrent's files are to be.
pub(crate) enum There {
    Nothing,
    /// Files with something in them.
    Something,
    /// A file that is longer than it should be.
    Longer(PathBuf),
    /// Something that is not a file where one is to be, or not a folder.
    InTheWay(DiskError),
}

/// Looks at the names and lengths of the files that have a priority.
pub(crate) fn find(metainfo: &Metainfo, priorities: &[u8], dir: &Path) -> There {
    let mut there = There::Nothing;
    let mut folders = BTreeSet::new();
    for (file, &priority) in metainfo.layout().files().iter().zip(priorities) {
        if priority == 0 || file.is_pad {
            continue;
        }
        let inside = file.path.to_path_buf();
        if let Some(error) = folder_in_the_way(dir, &inside, &mut folders) {
            return There::InTheWay(error);
        }
        let path = dir.join(inside);
        match path.symlink_metadata() {
            Ok(about) if about.is_symlink() => {
                return There::InTheWay(DiskError::UnsafePath { path });
            }
            Ok(about) if !about.is_file() => {
                return There::InTheWay(DiskError::InTheWay { path, wanted: "file" });
            }
            Ok(about) if about.len() > file.len => return There::Longer(path),
            Ok(about) if about.len() > 0 => there = There::Something,
            Ok(_) | Err(_) => {}
        }
    }
    there
}

/// What stands where the folders of a file are to be. Those that were looked at before are `known`.
fn folder_in_the_way(
    dir: &Path,
    inside: &Path,
    known: &mut BTreeSet<PathBuf>,
) -> Option<DiskError> {
    let mut path = dir.to_owned();
    for name in inside.parent()?.components() {
        path.push(name);
        if !known.insert(path.clone()) {
            continue;
        }
        match path.symlink_metadata() {
            Ok(about) if about.is_symlink() => return Some(DiskError::UnsafePath { path }),
            Ok(about) if !about.is_dir() => {
                return Some(DiskError::InTheWay { path, wanted: "folder" });
            }
            Ok(_) | Err(_) => {}
        }
    }
    None
}

/// Where state is kept, from what was asked for; nowhere if there is no home.
pub(crate) fn state_dir(wanted: Option<PathBuf>, is_none: bool) -> Option<PathBuf> {
    if is_none { None } else { wanted.or_else(engine::default_state_dir) }
}

pub(crate) const USER_AGENT: &str = concat!("Flotilla/", env!("CARGO_PKG_VERSION"));
/// What stands for standard input, and for standard output. A file of that name is `./-`.
pub(crate) const PIPE: &str = "-";
const STDIN_NAME: &str = "standard input";
const TORRENT_LEN_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_a_torrent_file_begins_nothing_that_can_be_named() {
        for (text, is_it) in [
            ("d8:announce", true),
            ("d4:infoi1ee", true),
            ("d984f67af9917b214cd8b6048ab5624c7df6a07a", false),
            ("debian.torrent", false),
            ("d:/x.torrent", false),
            ("d4", false),
            ("d", false),
            ("", false),
        ] {
            assert_eq!(is_dictionary(text.as_bytes()), is_it, "{text}");
        }
    }

    #[test]
    fn a_link_that_nobody_can_be_asked_about_is_refused() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let link = Magnet::from_info_hash(hash).expect("a hash");
        assert!(refuse_unfindable(hash, &link, false).is_err());
        assert_eq!(refuse_unfindable(hash, &link, true), Ok(()));
        let named = Magnet { peers: vec![("peer".to_owned(), 1)], ..link.clone() };
        assert_eq!(refuse_unfindable(hash, &named, false), Ok(()));
        let tracked = Magnet { trackers: vec![vec!["udp://t:1".to_owned()]], ..link };
        assert_eq!(refuse_unfindable(hash, &tracked, false), Ok(()));
    }
}

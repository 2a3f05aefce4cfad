//! Torrent files, from the disk or the web.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use engine::http::{self, HttpError};
use torrent::metainfo::Metainfo;

use crate::failure::Failure;

/// Reads the torrent that `source` names: a path, or an http or https URL.
pub(crate) fn load(source: &str) -> Result<Metainfo, Failure> {
    let scheme = source.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") => {
            let wrong = |why: &dyn std::fmt::Display| Failure::Failed(format!("{source}: {why}"));
            let bytes =
                http::fetch(source, USER_AGENT, TORRENT_LEN_MAX).map_err(|error| match error {
                    HttpError::TooLong(_) => wrong(&"longer than 64 MiB: this is no torrent file"),
                    error => wrong(&error),
                })?;
            Metainfo::parse(&bytes).map_err(|error| wrong(&error))
        }
        Some("magnet") => Err(Failure::Usage("magnet links are not supported yet".to_owned())),
        Some(scheme) if source[scheme.len()..].starts_with("://") => Err(Failure::Usage(format!(
            "{source}: `{scheme}` addresses are not supported; http and https are"
        ))),
        _ => load_file(Path::new(source)),
    }
}

/// Reads a torrent file.
pub(crate) fn load_file(path: &Path) -> Result<Metainfo, Failure> {
    let wrong = |error: std::io::Error| Failure::at(path, error);
    let about = std::fs::metadata(path).map_err(wrong)?;
    if about.is_dir() {
        return Err(Failure::at(path, "a folder; a torrent file is wanted"));
    }
    // A device or a pipe has no length to go by.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(TORRENT_LEN_MAX as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > TORRENT_LEN_MAX {
        return Err(Failure::at(path, "longer than 64 MiB: this is no torrent file"));
    }
    if bytes.is_empty() {
        return Err(Failure::at(path, "empty, so not a torrent file"));
    }
    Metainfo::parse(&bytes).map_err(|error| Failure::at(path, error))
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
fn root_name(metainfo: &Metainfo) -> Option<PathBuf> {
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
}

/// Looks at the names and lengths of the files that have a priority.
pub(crate) fn find(metainfo: &Metainfo, priorities: &[u8], dir: &Path) -> There {
    let mut there = There::Nothing;
    for (file, &priority) in metainfo.layout().files().iter().zip(priorities) {
        let path = dir.join(file.path.to_path_buf());
        match path.symlink_metadata() {
            Ok(about) if priority > 0 && about.is_file() && about.len() > 0 => {
                if about.len() > file.len {
                    return There::Longer(path);
                }
                there = There::Something;
            }
            Ok(_) | Err(_) => {}
        }
    }
    there
}

/// Where state is kept, from what was asked for; nowhere if there is no home.
pub(crate) fn state_dir(wanted: Option<PathBuf>, is_none: bool) -> Option<PathBuf> {
    if is_none { None } else { wanted.or_else(engine::default_state_dir) }
}

pub(crate) const USER_AGENT: &str = concat!("Flotilla/", env!("CARGO_PKG_VERSION"));
const TORRENT_LEN_MAX: usize = 64 * 1024 * 1024;

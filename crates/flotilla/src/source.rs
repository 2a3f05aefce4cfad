//! Torrent files, from the disk or the web.

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
    if about.len() > TORRENT_LEN_MAX as u64 {
        return Err(Failure::at(path, "longer than 64 MiB: this is no torrent file"));
    }
    let bytes = std::fs::read(path).map_err(wrong)?;
    Metainfo::parse(&bytes).map_err(|error| Failure::at(path, error))
}

/// Makes a folder to download to, and sees that it can be written.
pub(crate) fn writable_dir(dir: &Path) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot download to {}: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| wrong(&error))?;
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| wrong(&std::io::Error::from(error)))
}

/// Where state is kept, from what was asked for; nowhere if there is no home.
pub(crate) fn state_dir(wanted: Option<PathBuf>, is_none: bool) -> Option<PathBuf> {
    if is_none { None } else { wanted.or_else(engine::default_state_dir) }
}

pub(crate) const USER_AGENT: &str = concat!("Flotilla/", env!("CARGO_PKG_VERSION"));
const TORRENT_LEN_MAX: usize = 64 * 1024 * 1024;

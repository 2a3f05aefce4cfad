//! How a command can end other than well.

use std::path::Path;

/// Why a command did not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was asked for nonsense: exit status 2.
    Usage(String),
    /// It went wrong: exit status 1.
    Failed(String),
    /// It went wrong, and everything about it has been said: exit status 1.
    Told,
    /// It was interrupted before it was done: exit status 130.
    Interrupted,
}

impl Failure {
    /// Something about a file or folder.
    pub(crate) fn at(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }
}

impl From<engine::disk::DiskError> for Failure {
    fn from(error: engine::disk::DiskError) -> Self {
        match error {
            engine::disk::DiskError::Cancelled => Self::Interrupted,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<engine::SessionError> for Failure {
    fn from(error: engine::SessionError) -> Self {
        match error {
            engine::SessionError::State(error) => Self::Failed(format!(
                "{error}; --state-dir chooses another folder for it, --no-state does without"
            )),
            error => Self::Failed(error.to_string()),
        }
    }
}

macro_rules! failed_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Failed(error.to_string())
            }
        })*
    };
}

failed_from!(std::io::Error, engine::AddError, engine::Gone, torrent::metainfo::MetainfoError);

//! What can be wrong with a configuration.

use std::io;
use std::path::PathBuf;

use super::address::AddressError;
use crate::IdError;

/// What is wrong with a configuration. Each text names the file, profile and key, and no value of a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The system refuses something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `create`, …
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system tells nothing of itself that a node must know.
    #[error("cannot find out {what}: {source}")]
    Machine {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// There is no place to save to.
    #[error(
        "no file to save to: set PERL_ANYEVENT_MP_RC to its path, or HOME to the folder to keep it in"
    )]
    NoPath,
    /// Something else than a file is where the file should be.
    #[error("{} is no plain file: remove it, or set PERL_ANYEVENT_MP_RC to another path", .0.display())]
    NotAFile(PathBuf),
    /// More than anyone writes by hand.
    #[error("{} has more than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most it may have.
        max: usize,
    },
    /// The file is not JSON.
    #[error("{}:{line}:{column}: {problem}; mend it by hand, it was left as it is", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0 for the end of the line before.
        column: usize,
        /// What the parser says.
        problem: String,
    },
    /// A value is of a wrong type or out of range.
    #[error("{place}: key '{key}': expected {expected}, found {found}")]
    Value {
        /// The file and the profile, or the arguments.
        place: String,
        /// Which setting.
        key: String,
        /// What would do.
        expected: String,
        /// What stands there, without telling secrets.
        found: String,
    },
    /// An address among `binds` or `seeds` cannot be read.
    #[error("{place}: key '{key}': {source}")]
    Address {
        /// The file and the profile, or the arguments.
        place: String,
        /// Which setting.
        key: String,
        /// Which address.
        source: AddressError,
    },
    /// No setting has that name, or it cannot stand there.
    #[error("'{0}' is no setting that can be given here")]
    UnknownKey(String),
    /// A name that is no text, or a missing value.
    #[error("arguments are [PROFILE] KEY VALUE KEY VALUE …, and '{0}' stands where a text should")]
    Arguments(String),
    /// An argument begins like JSON and is none.
    #[error(
        "argument '{argument}': {problem} at column {column}; text that begins with [, {{ or \" goes in JSON quotes"
    )]
    Json {
        /// The argument, cut to a readable length.
        argument: String,
        /// In bytes, counted from 1.
        column: usize,
        /// What the parser says.
        problem: String,
    },
    /// A profile is its own ancestor.
    #[error("{place}: the parents of profiles go in a circle: {chain}")]
    ParentCircle {
        /// The file.
        place: String,
        /// `a -> b -> a`.
        chain: String,
    },
    /// The node cannot have that name.
    #[error("illegal node ID '{text}' (see AnyEvent::MP manpage for syntax): {source}")]
    NodeId {
        /// The name.
        text: String,
        /// What is wrong with it.
        source: IdError,
    },
}

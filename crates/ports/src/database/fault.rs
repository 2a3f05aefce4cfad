//! Faults: what the program, or another node, has done wrong.

use super::entry::NAME_LEN_MAX;

/// What a program cannot do to the database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Not the name of a family.
    #[error(
        "'{0}' is no family: take a letter, then letters, digits, '_' and ':', {NAME_LEN_MAX} bytes at most"
    )]
    Family(String),
    /// A key without a character.
    #[error("the key in family '{0}' is empty: a key needs at least one character")]
    EmptyKey(String),
    /// More than a node may have.
    #[error(transparent)]
    Limit(#[from] Limit),
}

/// What another node has done wrong. Nothing was changed. Its view of the database and ours may differ
/// from now on, so close the connection: with the next one both start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A message that is not what its tag says.
    #[error("a {tag} message without {expected}")]
    Shape {
        /// The tag.
        tag: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// A tag that is none of [`TAGS`](super::TAGS).
    #[error("a database message with an unknown tag")]
    UnknownTag,
    /// It asks this node, a slave, as if it were its master.
    #[error("a question for a global node, which this one is not")]
    NotGlobal,
    /// More than a node may have.
    #[error(transparent)]
    Limit(#[from] Limit),
}

/// There is too much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {what}: at most {max} are allowed")]
pub struct Limit {
    /// What there is too much of.
    pub what: &'static str,
    /// How much there may be.
    pub max: usize,
}

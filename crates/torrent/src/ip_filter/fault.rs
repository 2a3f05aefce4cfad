//! What can be wrong with a list of addresses, and where.

use std::fmt;

use super::RuleError;

/// Something in a list that is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct Fault {
    /// Where it is.
    pub place: Place,
    /// What is wrong there.
    pub kind: FaultKind,
}

/// A place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of text, counted from 1.
    Line(usize),
    /// A byte of a binary list, counted from 0.
    Byte(usize),
}

/// What is wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// A line that is neither `first - last , level , text` nor `text:first-last` nor `address/bits`.
    #[error("neither `first - last , level , text` nor `text:first-last` nor `address/bits`")]
    NotARule,
    /// The addresses make no range.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The list is packed.
    #[error("the list is compressed: unpack it first")]
    Compressed,
    /// A PeerGuardian list of a version that there is not.
    #[error("a P2B list of version {0}; 1, 2 and 3 are known")]
    Version(u8),
    /// A binary list ends within a rule.
    #[error("the list is cut off")]
    Truncated,
    /// A rule of a binary list has the number of a text that there is not.
    #[error("no text has this number")]
    NoSuchText,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Byte(offset) => write!(f, "byte {offset}"),
        }
    }
}

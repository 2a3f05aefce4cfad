//! A torrent's state as one number, as Net::BitTorrent has it: for those who want to compare, log or
//! send it.

use std::fmt;
use std::ops::BitOr;

/// A set of flags, each a bit. A torrent that is added is 193, checked 195, ready 201.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StatusWord(u8);

impl StatusWord {
    /// It takes part in its swarm, or will when the check is over.
    pub const STARTED: Self = Self(1);
    /// What is on disk is being hashed, or waits its turn to be.
    pub const CHECKING: Self = Self(2);
    /// It starts when the check is over, whether or not it was started before.
    pub const START_AFTER_CHECK: Self = Self(4);
    /// What is believed of its data has been checked.
    pub const CHECKED: Self = Self(8);
    /// The disk failed, and it does nothing until it is started.
    pub const ERROR: Self = Self(16);
    /// Its peers stay connected, and no data moves.
    pub const PAUSED: Self = Self(32);
    /// Its metadata is known.
    pub const LOADED: Self = Self(64);
    /// It belongs to a session.
    pub const QUEUED: Self = Self(128);

    /// The number.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of a number.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags, and those of `other`.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of these flags that are in `other`.
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These flags, but for those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for StatusWord {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

/// The number.
impl fmt::Display for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name);
        write!(f, "{}({})", self.0, set.collect::<Vec<_>>().join("|"))
    }
}

const NAMES: [(StatusWord, &str); 8] = [
    (StatusWord::STARTED, "STARTED"),
    (StatusWord::CHECKING, "CHECKING"),
    (StatusWord::START_AFTER_CHECK, "START_AFTER_CHECK"),
    (StatusWord::CHECKED, "CHECKED"),
    (StatusWord::ERROR, "ERROR"),
    (StatusWord::PAUSED, "PAUSED"),
    (StatusWord::LOADED, "LOADED"),
    (StatusWord::QUEUED, "QUEUED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_which_flags_it_has() {
        let word = StatusWord::QUEUED | StatusWord::LOADED | StatusWord::STARTED;
        assert_eq!((word.bits(), word.to_string().as_str()), (193, "193"));
        assert_eq!(format!("{word:?}"), "193(STARTED|LOADED|QUEUED)");
        assert!(word.contains(StatusWord::STARTED) && !word.contains(StatusWord::CHECKED));
        assert_eq!(word.without(StatusWord::STARTED).bits(), 192);
    }
}

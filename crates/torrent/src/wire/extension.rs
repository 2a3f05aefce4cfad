//! The messages of the extension protocol ([BEP 10]) that we know, and the numbers that we give them.
//!
//! [BEP 10]: https://www.bittorrent.org/beps/bep_0010.html

/// A kind of message that both ends have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// Pieces of the info dictionary (BEP 9).
    Metadata,
    /// Addresses of other peers (BEP 11).
    Exchange,
    /// A piece is here no more (BEP 54).
    DontHave,
    /// Two peers are to meet through a third (BEP 55).
    Holepunch,
    /// Whether anything is wanted still, said after the handshake (BEP 21, as libtorrent has it).
    UploadOnly,
}

impl Extension {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Metadata, Self::Exchange, Self::DontHave, Self::Holepunch, Self::UploadOnly];

    /// What it is called in a handshake.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "ut_metadata",
            Self::Exchange => "ut_pex",
            Self::DontHave => "lt_donthave",
            Self::Holepunch => "ut_holepunch",
            Self::UploadOnly => "upload_only",
        }
    }

    /// The number that peers are to send it to us by.
    pub const fn number(self) -> u8 {
        match self {
            Self::Metadata => 1,
            Self::Exchange => 2,
            Self::DontHave => 3,
            Self::Holepunch => 4,
            Self::UploadOnly => 5,
        }
    }

    /// The one that a peer means by a number of ours.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_back() {
        for extension in Extension::ALL {
            assert_eq!(Extension::of_number(extension.number()), Some(extension));
        }
        assert_eq!([0, 6, 255].map(Extension::of_number), [None; 3]);
    }
}

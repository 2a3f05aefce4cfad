//! What a watched descriptor is watched for.

/// Which readiness of a [watched](crate::Reactor::watch) descriptor is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Reading will not block.
    Readable,
    /// Writing will not block.
    Writable,
    /// Either.
    Both,
}

/// How a [watched](crate::Reactor::watch) descriptor became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Readiness {
    /// Reading will not block.
    pub readable: bool,
    /// Writing will not block.
    pub writable: bool,
    /// The other end is gone, or something is wrong. Told whatever the interest is.
    pub hung_up: bool,
}

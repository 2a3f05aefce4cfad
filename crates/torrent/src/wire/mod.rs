//! What peers say to each other ([BEP 3], [BEP 6], [BEP 10], [BEP 52]): bytes to messages and back.
//!
//! [`Handshake`] comes first; then an [`Inbox`] cuts what arrives into [`Message`]s.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 6]: https://www.bittorrent.org/beps/bep_0006.html
//! [BEP 10]: https://www.bittorrent.org/beps/bep_0010.html
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

mod allowed_fast;
mod extended;
mod extension;
mod handshake;
mod hash_request;
mod holepunch;
mod inbox;
mod message;
mod ut_metadata;
mod ut_pex;

pub use allowed_fast::allowed_fast_set;
pub use extended::ExtendedHandshake;
pub use extension::Extension;
pub use handshake::{Handshake, Reserved};
pub use hash_request::{HASHES_MAX, HashRequest};
pub use holepunch::{HolepunchError, HolepunchMessage};
pub use inbox::Inbox;
pub use message::{Message, MessageLimits};
pub use ut_metadata::{METADATA_PIECE_LEN, MetadataMessage};
pub use ut_pex::{ExchangeMessage, PeerFlags};

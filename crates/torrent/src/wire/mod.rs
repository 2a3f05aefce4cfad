//! What peers say to each other ([BEP 3], [BEP 6], [BEP 10]): bytes to messages and back.
//!
//! [`Handshake`] comes first; then an [`Inbox`] cuts what arrives into [`Message`]s.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 6]: https://www.bittorrent.org/beps/bep_0006.html
//! [BEP 10]: https://www.bittorrent.org/beps/bep_0010.html

mod allowed_fast;
mod extended;
mod handshake;
mod inbox;
mod message;

pub use allowed_fast::allowed_fast_set;
pub use extended::ExtendedHandshake;
pub use handshake::{Handshake, Reserved};
pub use inbox::Inbox;
pub use message::{Message, MessageLimits};

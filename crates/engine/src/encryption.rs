//! Connections that look like noise: whether we want them, the handshake that hides the others, and the
//! cipher between a connection and its socket. The protocol itself is [`torrent::mse`].
//!
//! A connection that comes is taken for an encrypted one as soon as a byte of it differs from how BitTorrent
//! begins. Those who then cannot name a torrent of ours learn nothing: they get the key that anybody gets,
//! and from there on are not read, until the time for a handshake is over, whatever they did wrong. So
//! neither an answer nor the time of one tells which torrents are here.
//!
//! A key costs the loop about 0.15 ms, which is less than handing it to a thread is worth; so many are made in
//! a tenth of a second, and other peers wait for the next.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{Closed, HandlerError, Reactor, Token, Transport, Wire};
use torrent::mse::{
    Ciphers, Established, Initiator, Method, MseFault, Output, Responder, SECRET_LEN, Secret,
};
use torrent::tracker::AnnouncedEncryption;
use torrent::wire::PeerFlags;
use torrent::{InfoHash, Rng};

use crate::dial::Road;
use crate::engine::Engine;

/// Whether connections to peers are encrypted.
///
/// Encryption hides from those on the way what a connection is for, in case they slow such connections
/// down. It does not make anybody safe: see [`torrent::mse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Never: encrypted connections are hung up on.
    Off,
    /// Where a peer or a network wants it. Peers are dialled without it, and once more with it if they hang up or
    /// say nothing for a few seconds; the other way round if other peers say that they like it, or if
    /// several in succession could be reached in no other way. What comes is taken as it is, and of those
    /// that leave it to us only the handshake is hidden.
    #[default]
    Allowed,
    /// Where a peer knows it. Peers are dialled with it, and once more without if they hang up or say nothing; what comes is
    /// taken as it is.
    Preferred,
    /// Always: others are neither dialled nor taken in, and all that is sent is encrypted.
    Required,
}

impl Encryption {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Off, Self::Allowed, Self::Preferred, Self::Required];

    /// What it is called: `off`, `allowed`, `preferred`, `required`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Allowed => "allowed",
            Self::Preferred => "preferred",
            Self::Required => "required",
        }
    }

    /// Whether a connection that comes may be as BitTorrent began.
    pub(crate) const fn takes_plain(self) -> bool {
        !matches!(self, Self::Required)
    }

    /// Whether a connection that comes may look like noise.
    pub(crate) const fn takes_encrypted(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether we would rather have connections encrypted.
    pub(crate) const fn is_preferred(self) -> bool {
        matches!(self, Self::Preferred | Self::Required)
    }

    /// What trackers are told of it.
    pub(crate) const fn announced(self) -> AnnouncedEncryption {
        match self {
            Self::Off => AnnouncedEncryption::None,
            Self::Allowed | Self::Preferred => AnnouncedEncryption::Supported,
            Self::Required => AnnouncedEncryption::Required,
        }
    }

    /// The roads to peers over TCP, the one to try first in front.
    pub(crate) const fn roads(self) -> &'static [Road] {
        match self {
            Self::Off => &[Road::Tcp],
            Self::Allowed => &[Road::Tcp, Road::TcpEncrypted],
            Self::Preferred => &[Road::TcpEncrypted, Road::Tcp],
            Self::Required => &[Road::TcpEncrypted],
        }
    }

    /// The roads to a peer of whom others tell how it likes its connections.
    pub(crate) const fn roads_to(self, flags: PeerFlags) -> &'static [Road] {
        match self {
            Self::Allowed if flags.contains(PeerFlags::ENCRYPTION) => Self::Preferred.roads(),
            Self::Off | Self::Allowed | Self::Preferred | Self::Required => self.roads(),
        }
    }

    /// What those may choose from whom we dial.
    const fn offers(self) -> &'static [Method] {
        match self {
            Self::Off | Self::Allowed => &[Method::Plaintext, Method::Rc4],
            Self::Preferred | Self::Required => &[Method::Rc4],
        }
    }

    /// What we choose from what others offer, the best first.
    const fn accepts(self) -> &'static [Method] {
        match self {
            Self::Off | Self::Allowed => &[Method::Plaintext, Method::Rc4],
            Self::Preferred => &[Method::Rc4, Method::Plaintext],
            Self::Required => &[Method::Rc4],
        }
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of an [`Encryption`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encryption is off, allowed, preferred or required")]
pub struct ParseEncryptionError;

impl FromStr for Encryption {
    type Err = ParseEncryptionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or(ParseEncryptionError)
    }
}

/// The handshake that hides the others, under way.
#[derive(Debug)]
pub(crate) enum Negotiation {
    /// We began.
    Ours(Initiator),
    /// The peer began. Whether it has got our key.
    Theirs { responder: Responder, is_answered: bool },
}

/// How far a handshake has come.
#[derive(Debug)]
pub(crate) enum Negotiated {
    /// The peer has to say more.
    Waiting,
    /// From here on it is a connection like others.
    Done { info_hash: InfoHash, is_encrypted: bool },
    /// It can become nothing, and the peer is not to learn of it.
    Hopeless(MseFault),
}

/// How many keys may be made now.
#[derive(Debug)]
pub(crate) struct KeyBudget {
    since: Instant,
    made: u32,
}

impl KeyBudget {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { since: now, made: 0 }
    }

    /// Whether another may be made; if not, when to ask again.
    fn check(&mut self, now: Instant) -> Result<(), Instant> {
        let ends_at = self.since + KEY_PERIOD;
        if now >= ends_at {
            *self = Self::new(now);
        }
        if self.made < KEYS_PER_PERIOD { Ok(()) } else { Err(ends_at) }
    }
}

impl Engine {
    /// Begins with a peer that we have dialled; `greeting` is the first that it reads when it knows us.
    ///
    /// # Errors
    /// If the connection is over.
    pub(crate) fn begin_encrypted(
        &mut self,
        token: Token,
        info_hash: InfoHash,
        greeting: Vec<u8>,
        reactor: &mut Reactor<Self>,
    ) -> Result<Negotiation, Closed> {
        let secret = draw_secret(reactor);
        let offers = self.config.encryption.offers();
        let mut ours = Initiator::new(secret, info_hash, offers, greeting, self.new_rng());
        while let Some(output) = ours.poll_output() {
            if let Output::Send(bytes) = output {
                reactor.write(token, Bytes::from(bytes))?;
            }
        }
        Ok(Negotiation::Ours(ours))
    }

    /// Answers a peer that begins with `bytes`.
    pub(crate) fn answer_encrypted(
        &mut self,
        bytes: &[u8],
        reactor: &mut Reactor<Self>,
    ) -> Result<Negotiation, MseFault> {
        let accepts = self.config.encryption.accepts();
        let mut responder = Responder::new(draw_secret(reactor), accepts, self.new_rng());
        responder.handle_bytes(bytes, &self.skeys)?;
        Ok(Negotiation::Theirs { responder, is_answered: false })
    }

    /// Whether bytes may be given to a handshake now. If not, the connection is read again later.
    pub(crate) fn may_negotiate(
        &mut self,
        token: Token,
        negotiation: &Negotiation,
        reactor: &mut Reactor<Self>,
    ) -> bool {
        let Negotiation::Theirs { is_answered: false, .. } = negotiation else { return true };
        let Err(later) = self.key_budget.check(reactor.now()) else { return true };
        reactor.pause(token);
        reactor.add_timer(later, move |_, reactor| reactor.resume(token));
        false
    }

    /// Goes on with what has come. When it is done, what the peer has said behind it is there to be read.
    ///
    /// # Errors
    /// If the connection is over, or the peer that knows a torrent of ours has broken the protocol.
    pub(crate) fn negotiate(
        &mut self,
        token: Token,
        negotiation: &mut Negotiation,
        bytes: &[u8],
        reactor: &mut Reactor<Self>,
    ) -> Result<Negotiated, HandlerError> {
        let result = match negotiation {
            Negotiation::Ours(initiator) => initiator.handle_bytes(bytes),
            Negotiation::Theirs { responder, .. } => responder.handle_bytes(bytes, &self.skeys),
        };
        while let Some(output) = negotiation.poll_output() {
            match output {
                Output::Send(bytes) => {
                    if let Negotiation::Theirs { is_answered, .. } = negotiation
                        && !std::mem::replace(is_answered, true)
                    {
                        self.key_budget.made += 1;
                    }
                    reactor.write(token, Bytes::from(bytes))?;
                }
                Output::Established(established) => {
                    return Ok(establish(token, established, reactor)?);
                }
            }
        }
        match (result, negotiation) {
            (Ok(()), _) => Ok(Negotiated::Waiting),
            (Err(fault), Negotiation::Theirs { .. }) if fault.is_of_stranger() => {
                Ok(Negotiated::Hopeless(fault))
            }
            (Err(fault), _) => Err(fault.into()),
        }
    }

    /// For padding, that nobody needs to guess.
    const fn new_rng(&mut self) -> Rng {
        Rng::from_seed(self.rng.u64())
    }
}

impl Negotiation {
    fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::Ours(initiator) => initiator.poll_output(),
            Self::Theirs { responder, .. } => responder.poll_output(),
        }
    }
}

/// Puts the cipher into the connection, if it is to be encrypted.
fn establish(
    token: Token,
    established: Established,
    reactor: &mut Reactor<Engine>,
) -> Result<Negotiated, Closed> {
    let Established { info_hash, ciphers, received } = established;
    let is_encrypted = ciphers.is_some();
    if let Some(ciphers) = ciphers {
        let transport = Rc4Transport::new(ciphers, reactor.queued(token));
        reactor.set_transport(token, Box::new(transport));
    }
    reactor.unread(token, received)?;
    Ok(Negotiated::Done { info_hash, is_encrypted })
}

/// Twenty bytes that nobody can guess; in a simulated world they follow from its seed.
fn draw_secret(reactor: &mut Reactor<Engine>) -> Secret {
    let mut bytes = [0; SECRET_LEN];
    if reactor.backend() == "simulated" || getrandom::fill(&mut bytes).is_err() {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&reactor.random().to_le_bytes()[..part.len()]);
        }
    }
    Secret::new(bytes)
}

/// RC4 between a connection and its socket.
///
/// What is received is decrypted where it lies. What is sent is copied once, as it must not be changed where
/// it lies: at most 64 KiB, which are given back when they are out.
#[derive(Debug)]
struct Rc4Transport {
    ciphers: Box<Ciphers>,
    /// What was queued before, words of the handshake, goes out as it is.
    ready_len: usize,
    unsent: Vec<u8>,
    /// How much of `unsent` is out.
    sent_len: usize,
}

impl Rc4Transport {
    const fn new(ciphers: Box<Ciphers>, ready_len: usize) -> Self {
        Self { ciphers, ready_len, unsent: Vec::new(), sent_len: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let (ready, rest) = bytes.split_at(self.ready_len.min(bytes.len()));
        self.unsent.extend_from_slice(ready);
        self.ready_len -= ready.len();
        self.ciphers.send.append(rest, &mut self.unsent);
    }
}

impl Transport for Rc4Transport {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = wire.read(slices)?;
        let mut left = count;
        for slice in slices {
            let len = left.min(slice.len());
            self.ciphers.receive.apply(&mut slice[..len]);
            left -= len;
        }
        Ok(count)
    }

    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(wire)?;
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = wanted.min(UNSENT_MAX);
        self.unsent.reserve_exact(taken);
        let mut left = taken;
        for slice in slices {
            let len = left.min(slice.len());
            self.take(&slice[..len]);
            left -= len;
        }
        match self.flush(wire) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(taken),
        }
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while self.sent_len < self.unsent.len() {
            match wire.write(&[IoSlice::new(&self.unsent[self.sent_len..])])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent_len += count,
            }
        }
        (self.unsent, self.sent_len) = (Vec::new(), 0);
        Ok(())
    }
}

/// What is read of a handshake at once, in bytes.
pub(crate) const NEGOTIATION_READ_LEN: usize = 1024;
/// What is encrypted and waits for the socket, in bytes.
const UNSENT_MAX: usize = 64 * 1024;
const KEY_PERIOD: Duration = Duration::from_millis(100);
/// At 0.15 ms each they take a thirtieth of the time.
const KEYS_PER_PERIOD: u32 = 24;

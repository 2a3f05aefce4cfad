//! How two nodes come to trust each other: the first three lines of a connection, without I/O.
//!
//! Both sides do the same, and neither waits for the other before it has said its first two lines: a
//! [greeting](greeting) and a nonce. Then TLS, if both have a certificate, and a line by which each
//! [proves](auth) that it belongs. What follows are messages in the framing that each has chosen.
//!
//! The nonce makes what was recorded worthless later: the proof covers both sides' lines.

mod auth;
mod error;
mod greeting;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::auth::AuthLine;
pub(crate) use self::auth::{Auth, Secret};
pub(crate) use self::error::HandshakeError;
use self::error::printable;
use self::greeting::unparsable;
pub(crate) use self::greeting::{Greeting, Protocol};
use crate::wire::Framing;
use crate::{NodeId, base64};

/// What a node brings to all of its handshakes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node: NodeId,
    pub(crate) secret: Option<Secret>,
    /// How we would prove ourselves.
    pub(crate) auth_offer: Vec<Auth>,
    /// How the peer may prove itself, best first.
    pub(crate) auth_accept: Vec<Auth>,
    /// What we read and write, best first.
    pub(crate) framings: Vec<Framing>,
    /// Whether there is a certificate, and so TLS with all peers that have one.
    pub(crate) has_tls: bool,
}

/// Why there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// We were called; the peer says for which protocol.
    Listen,
    /// We called a node.
    Dial,
    /// We called a node for the data connection of this name.
    DialData { id: String },
}

/// One handshake.
///
/// Tell it what arrives, and take everything [`poll_output`](Self::poll_output) has, also at the start.
/// How long it may take is for the driver to say.
#[derive(Debug)]
pub(crate) struct Handshake {
    settings: Arc<Settings>,
    opening: Opening,
    /// Our greeting and nonce.
    ours: Lines,
    state: State,
    /// The beginning of a line; at most [`LINE_MAX`].
    partial: Vec<u8>,
    outputs: VecDeque<Output>,
}

/// What the driver must do next.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send this.
    Send(Vec<u8>),
    /// This is who it is. [`accept`](Handshake::accept) it, or close; nothing is read before.
    Peer(Greeting),
    /// What follows goes through TLS, in both directions: bytes that were left included.
    StartTls(TlsRole),
    /// It is who it says. Bytes that were left are the first of its messages. No more output follows.
    Done(Established),
}

/// Which end of TLS we are; that has nothing to do with who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsRole {
    Client,
    Server,
}

/// What was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Established {
    pub(crate) peer: Greeting,
    /// How to write.
    pub(crate) framing_out: Framing,
    /// What the peer writes.
    pub(crate) framing_in: Framing,
    /// The peer has proved nothing beyond TLS.
    pub(crate) is_untrusted: bool,
}

#[derive(Debug)]
enum State {
    /// The peer's first line is to come.
    Greeting,
    /// The peer's second line is to come.
    Nonce { peer: Greeting, line: Vec<u8> },
    /// The driver is to decide about the peer.
    Introduced(Choice),
    /// The peer's proof is to come.
    Auth(Choice),
    /// All has been said, or something wrong.
    Finished,
}

/// What both greetings together have settled.
#[derive(Debug)]
struct Choice {
    peer: Greeting,
    /// None without TLS.
    tls_role: Option<TlsRole>,
    framing_out: Framing,
    /// Our third line, with its end.
    auth_line: String,
    /// What the peer's proof covers.
    proved: Vec<u8>,
}

/// A greeting and a nonce, without their ends.
#[derive(Debug)]
struct Lines {
    greeting: Vec<u8>,
    nonce: Vec<u8>,
}

impl Handshake {
    /// Begins with the peer at `peer_address`, which is told that. The nonce must be random, and new for
    /// each connection.
    pub(crate) fn new(
        settings: Arc<Settings>,
        opening: Opening,
        peer_address: &str,
        nonce: [u8; NONCE_LEN],
    ) -> Self {
        let greeting = settings.greeting(&opening, peer_address);
        Self::with_lines(settings, opening, &greeting, &base64::encode(&nonce))
    }

    fn with_lines(
        settings: Arc<Settings>,
        opening: Opening,
        greeting: &Greeting,
        nonce: &str,
    ) -> Self {
        let (greeting, nonce) = (greeting.line(), nonce.to_owned());
        let first = Output::Send(format!("{greeting}\n{nonce}\n").into_bytes());
        Self {
            settings,
            opening,
            ours: Lines { greeting: greeting.into_bytes(), nonce: nonce.into_bytes() },
            state: State::Greeting,
            partial: Vec::new(),
            outputs: VecDeque::from([first]),
        }
    }

    /// The next thing to do, until there is none.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Bytes have arrived, through TLS if that has started. Says how many were taken: what is left is to
    /// be given again after [`accept`](Self::accept), through TLS if that says so, or is no longer for us.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, HandshakeError> {
        let mut rest = bytes;
        while !rest.is_empty() && self.awaits_line() {
            let end = rest.iter().position(|&octet| octet == b'\n');
            let (head, tail) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            if self.partial.len() + head.len() > LINE_MAX {
                self.state = State::Finished;
                return Err(HandshakeError::LineTooLong);
            }
            self.partial.extend_from_slice(head);
            rest = tail;
            if end.is_some() {
                let line = std::mem::take(&mut self.partial);
                self.handle_line(without_end(&line))?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// The driver has nothing against the peer that [`Output::Peer`] named.
    pub(crate) fn accept(&mut self) {
        let State::Introduced(choice) = std::mem::replace(&mut self.state, State::Finished) else {
            panic!("a peer is accepted once, when it has been named");
        };
        self.outputs.extend(choice.tls_role.map(Output::StartTls));
        self.outputs.push_back(Output::Send(choice.auth_line.clone().into_bytes()));
        self.state = State::Auth(choice);
    }

    fn awaits_line(&self) -> bool {
        match self.state {
            State::Greeting | State::Nonce { .. } | State::Auth(_) => true,
            State::Introduced(_) | State::Finished => false,
        }
    }

    /// After an error it stays finished.
    fn handle_line(&mut self, line: &[u8]) -> Result<(), HandshakeError> {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Greeting => {
                let peer = self.handle_greeting(line)?;
                self.state = State::Nonce { peer, line: line.to_vec() };
            }
            State::Nonce { peer, line: greeting } => {
                let choice = self.choose(peer, &Lines { greeting, nonce: line.to_vec() })?;
                self.outputs.push_back(Output::Peer(choice.peer.clone()));
                self.state = State::Introduced(choice);
            }
            State::Auth(choice) => {
                let established = self.check(choice, line)?;
                self.outputs.push_back(Output::Done(established));
            }
            State::Introduced(_) | State::Finished => unreachable!("no line is awaited"),
        }
        Ok(())
    }

    fn handle_greeting(&self, line: &[u8]) -> Result<Greeting, HandshakeError> {
        let peer = Greeting::parse(line)?;
        match (&self.opening, &peer.protocol) {
            (Opening::Listen, _) | (_, Protocol::Aemp) => Ok(peer),
            // Who is called does not choose.
            (Opening::Dial | Opening::DialData { .. }, Protocol::DataConn { .. }) => {
                Err(unparsable("aemp-dataconn"))
            }
        }
    }

    /// Everything that can be said once both greetings and nonces are known.
    fn choose(&self, peer: Greeting, theirs: &Lines) -> Result<Choice, HandshakeError> {
        let settings = &*self.settings;
        // An honest peer cannot have our nonce, whatever its greeting: this is more than the echo of both
        // lines, and leaves no two ends of TLS that are the same.
        if theirs.nonce == self.ours.nonce {
            return Err(HandshakeError::Echo);
        }
        // Also of a data connection, or what we say on one connection would prove a stranger to be us on
        // another.
        if peer.node == settings.node {
            return Err(HandshakeError::Myself);
        }
        let is_tls = settings.has_tls && peer.has_tls();
        let tls_role = is_tls.then(|| {
            if self.ours.nonce < theirs.nonce { TlsRole::Client } else { TlsRole::Server }
        });
        if !is_tls && settings.secret.is_none() {
            return Err(HandshakeError::NoSecret);
        }
        let proving = transcript(&self.ours, theirs);
        let offered =
            |name: &String| Auth::from_name(name).filter(|auth| settings.auth_offer.contains(auth));
        let (auth, proof) = (peer.auths.iter().filter_map(offered))
            .find_map(|auth| Some((auth, auth.proof(is_tls, settings.secret.as_ref(), &proving)?)))
            .ok_or_else(|| HandshakeError::NoCommonAuth(printable(&peer.auths.join(","))))?;
        let framing_out = (peer.framings.iter())
            .find_map(|name| settings.framing(name))
            .ok_or_else(|| HandshakeError::NoCommonFraming(printable(&peer.framings.join(","))))?;
        let auth_line = format!("{};{proof};{}\n", auth.name(), framing_out.name());
        let proved = transcript(theirs, &self.ours);
        Ok(Choice { peer, tls_role, framing_out, auth_line, proved })
    }

    /// Whether the peer's third line is right.
    fn check(&self, choice: Choice, line: &[u8]) -> Result<Established, HandshakeError> {
        let settings = &*self.settings;
        let line = String::from_utf8_lossy(line);
        let line = AuthLine::parse(&line);
        let (auth, proof) = Auth::from_name(line.method)
            .filter(|auth| settings.auth_accept.contains(auth))
            .and_then(|auth| {
                let is_tls = choice.tls_role.is_some();
                Some((auth, auth.proof(is_tls, settings.secret.as_ref(), &choice.proved)?))
            })
            .ok_or_else(|| HandshakeError::AuthMethod(printable(line.method)))?;
        if !line.proves(&proof) {
            return Err(HandshakeError::Mismatch);
        }
        let framing_in = settings
            .framing(line.framing)
            .ok_or_else(|| HandshakeError::Framing(printable(line.framing)))?;
        Ok(Established {
            peer: choice.peer,
            framing_out: choice.framing_out,
            framing_in,
            is_untrusted: auth == Auth::TlsAnon,
        })
    }
}

impl Settings {
    /// What we say of ourselves to the peer at `peer_address`.
    fn greeting(&self, opening: &Opening, peer_address: &str) -> Greeting {
        let is_usable =
            |auth: &&Auth| auth.proof(self.has_tls, self.secret.as_ref(), b"").is_some();
        let auths = self.auth_accept.iter().filter(is_usable).map(|auth| auth.name().to_owned());
        let framings = self.framings.iter().map(|framing| framing.name().to_owned());
        let mut keys = vec![("provider", PROVIDER), ("peeraddr", peer_address)];
        if self.has_tls {
            keys.push(("tls", "1.0"));
        }
        keys.extend([("mproto", "1"), ("gproto", "1")]);
        Greeting {
            protocol: match opening {
                Opening::Listen | Opening::Dial => Protocol::Aemp,
                Opening::DialData { id } => Protocol::DataConn { id: id.clone() },
            },
            node: self.node.clone(),
            auths: auths.collect(),
            framings: framings.collect(),
            keys: keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    fn framing(&self, name: &str) -> Option<Framing> {
        Framing::from_name(name).filter(|framing| self.framings.contains(framing))
    }
}

/// What the proof of the side that is `first` covers.
fn transcript(first: &Lines, second: &Lines) -> Vec<u8> {
    [&first.greeting, &first.nonce, &second.greeting, &second.nonce]
        .into_iter()
        .flat_map(|line| [line.as_slice(), b"\n"])
        .collect::<Vec<_>>()
        .concat()
}

/// The line before its LF or CR LF.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The longest line that is read, in octets with its end. Ours stay far below.
pub(crate) const LINE_MAX: usize = 4096;
/// How many random octets make a nonce.
pub(crate) const NONCE_LEN: usize = 66;
const PROVIDER: &str = concat!("flotilla-", env!("CARGO_PKG_VERSION"));

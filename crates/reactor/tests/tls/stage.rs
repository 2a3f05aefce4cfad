//! Two ends of TLS and a wire between them that gives and takes as it likes, by a seed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, DnType, KeyPair};
use reactor::{Tls, Transport, Wire};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// One end of a wire that holds a little in each direction.
pub(crate) struct End {
    pub(crate) incoming: Rc<RefCell<Pipe>>,
    pub(crate) outgoing: Rc<RefCell<Pipe>>,
    seed: u64,
    /// The most that one call reads or writes.
    len_max: usize,
}

#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) has_ended: bool,
}

/// A wire whose calls move 1 to `len_max` bytes, and one in four of them nothing; with [`ALL`], what
/// there is.
pub(crate) fn wire(seed: u64, len_max: usize) -> (End, End) {
    let (there, back) = (Rc::<RefCell<Pipe>>::default(), Rc::<RefCell<Pipe>>::default());
    let end = |incoming: &Rc<_>, outgoing: &Rc<_>, seed| End {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        seed,
        len_max,
    };
    (end(&back, &there, 2 * seed + 1), end(&there, &back, 2 * seed + 2))
}

impl End {
    /// The peer's next call finds an end behind what was sent.
    pub(crate) fn close(&self) {
        self.outgoing.borrow_mut().has_ended = true;
    }

    pub(crate) fn is_readable(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.has_ended || !incoming.bytes.is_empty()
    }

    /// How much this call may move.
    fn allowance(&mut self) -> io::Result<usize> {
        if self.len_max == ALL {
            return Ok(ALL);
        }
        // The 64-bit step of Knuth's MMIX; its high bits are good.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let drawn = (self.seed >> 33) as usize;
        if drawn.is_multiple_of(4) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(1 + (drawn / 4) % self.len_max)
    }
}

impl Wire for End {
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let allowance = self.allowance()?;
        let mut incoming = self.incoming.borrow_mut();
        if incoming.bytes.is_empty() && !incoming.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = 0;
        for slice in slices {
            let len = slice.len().min(allowance - count);
            count += incoming.bytes.read(&mut slice[..len])?;
        }
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let allowance = self.allowance()?;
        let mut outgoing = self.outgoing.borrow_mut();
        let mut room = allowance.min(PIPE_MAX - outgoing.bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = room;
        for slice in slices {
            let len = slice.len().min(room);
            outgoing.bytes.extend(&slice[..len]);
            room -= len;
        }
        Ok(before - room)
    }
}

/// For a connection of rustls itself in the place of a [`Tls`].
impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Wire::read(self, &mut [IoSliceMut::new(buffer)])
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Wire::write(self, &[IoSlice::new(bytes)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection of a loop, that sends `sending`, says goodbye and reads until the peer's.
pub(crate) struct Connection {
    pub(crate) tls: Tls,
    pub(crate) wire: End,
    pub(crate) sending: Vec<u8>,
    pub(crate) received: Vec<u8>,
    /// How reading or anything else ended.
    pub(crate) ended: Option<io::Result<()>>,
    sent: usize,
}

impl Connection {
    pub(crate) fn new(tls: Tls, wire: End, sending: Vec<u8>) -> Self {
        Self { tls, wire, sending, received: Vec::new(), ended: None, sent: 0 }
    }

    /// What a loop does for it in a turn.
    pub(crate) fn turn(&mut self) {
        let is_readable = self.wire.is_readable();
        let result = self.turn_writing().and_then(|()| self.turn_reading(is_readable));
        if let Err(error) = result {
            self.ended = Some(Err(error));
        }
    }

    fn turn_writing(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.sent < self.sending.len() {
            let (head, tail) = self.sending[self.sent..].split_at(1);
            let slices = [IoSlice::new(&[]), IoSlice::new(head), IoSlice::new(tail)];
            self.sent += or_nothing(self.tls.write(&mut self.wire, &slices))?.unwrap_or(0);
        }
        if self.sent == self.sending.len() {
            self.tls.finish();
        }
        self.flush()
    }

    /// Only if the loop would know that there is something.
    fn turn_reading(&mut self, is_readable: bool) -> io::Result<()> {
        if self.ended.is_some() || !(is_readable || self.tls.has_input()) {
            return Ok(());
        }
        let (mut first, mut second) = ([0; 1000], [0; 30_000]);
        let mut slices =
            [IoSliceMut::new(&mut first), IoSliceMut::new(&mut []), IoSliceMut::new(&mut second)];
        if let Some(len) = or_nothing(self.tls.read(&mut self.wire, &mut slices))? {
            self.received.extend_from_slice(&first[..len.min(1000)]);
            self.received.extend_from_slice(&second[..len.saturating_sub(1000)]);
            if len == 0 {
                self.ended = Some(Ok(()));
            }
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        or_nothing(self.tls.flush(&mut self.wire)).map(|_| ())
    }
}

/// Takes turns until both have met an end.
pub(crate) fn play(one: &mut Connection, other: &mut Connection) {
    for _ in 0..TURNS_MAX {
        for connection in [&mut *one, other] {
            if !matches!(connection.ended, Some(Err(_))) {
                connection.turn();
            } else {
                connection.wire.close();
            }
        }
        if one.ended.is_some() && other.ended.is_some() {
            return;
        }
    }
    panic!("the two got stuck");
}

/// `WouldBlock` is none.
pub(crate) fn or_nothing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}

/// A client and a server that it trusts.
pub(crate) fn pair(version: &'static SupportedProtocolVersion) -> (Tls, Tls) {
    (client(client_config(version, &HOST.certificate)), server(server_config()))
}

pub(crate) fn client(config: ClientConfig) -> Tls {
    Tls::client(config.into(), name()).unwrap()
}

pub(crate) fn server(config: ServerConfig) -> Tls {
    Tls::server(config.into()).unwrap()
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

pub(crate) fn client_config(
    version: &'static SupportedProtocolVersion,
    trusted: &CertificateDer<'static>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) fn server_config() -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![HOST.certificate.clone()], HOST.key.clone_key())
        .unwrap()
}

/// A host and its certificate.
pub(crate) struct Host {
    pub(crate) certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Host {
    /// Its certificate is its own authority, of this name.
    pub(crate) fn new(authority: &str) -> Self {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, authority);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key: key.into() }
    }
}

pub(crate) static HOST: LazyLock<Host> = LazyLock::new(|| Host::new("the known one"));

pub(crate) const ALL: usize = usize::MAX;
/// What the wire holds in one direction.
pub(crate) const PIPE_MAX: usize = 100_000;
const TURNS_MAX: usize = 100_000;

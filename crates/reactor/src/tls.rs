//! TLS as a [`Transport`]: rustls between a connection's bytes and its socket.
//!
//! rustls holds the buffers and all of the protocol; this file decides when it reads, when it writes,
//! and what the caller hears. [RFC 8446](https://www.rfc-editor.org/rfc/rfc8446)

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::{Transport, Wire};

/// One end of a TLS connection.
///
/// Nothing is taken for the peer before the handshake is done. At most 64 KiB that were taken wait for
/// the socket; what a peer can make it hold is about 64 KiB too, a handshake message of the largest
/// size.
///
/// The peer's goodbye is the end of what it sends; an end without one is an error of the kind
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), for somebody may have cut the connection. What the
/// peer does wrong is an error of the kind [`InvalidData`](io::ErrorKind::InvalidData), as a rule with
/// the [`rustls::Error`] in it; the alert that names it is offered to the socket first, and what that
/// did not take is left for a last [`flush`](Transport::flush).
#[derive(Debug)]
pub struct Tls {
    connection: Connection,
    /// What the program has read from the socket before there was TLS.
    received: Bytes,
    /// What came behind bytes that have been read: the next read says it.
    behind: Option<io::Error>,
    /// A read ended because it had done its share; the socket may have more.
    is_cut_short: bool,
    /// The peer's goodbye has been told.
    has_ended: bool,
    /// We have nothing more to say. Said in the midst of a handshake, the goodbye waits for its end:
    /// until then the peer would take it for a failure.
    is_finished: bool,
}

impl Tls {
    /// The end that connects, to one that can prove to be `name`.
    ///
    /// # Errors
    /// If no connection can come of such a configuration.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        ClientConnection::new(config, name).map(|client| Self::new(client.into()))
    }

    /// The end that is connected to.
    ///
    /// # Errors
    /// If no connection can come of such a configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        ServerConnection::new(config).map(|server| Self::new(server.into()))
    }

    /// Begins with bytes of the peer's that were read before TLS was, as behind a line that asks for it.
    #[must_use]
    pub fn with_received(mut self, bytes: impl Into<Bytes>) -> Self {
        self.received = bytes.into();
        self
    }

    /// Whether the two have yet to agree.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(UNSENT_MAX));
        Self {
            connection,
            received: Bytes::new(),
            behind: None,
            is_cut_short: false,
            has_ended: false,
            is_finished: false,
        }
    }

    /// Goes on with the handshake as far as it goes. Nothing is read before our own words are out: a
    /// peer that makes us speak and does not listen waits.
    fn shake_hands(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.send(wire)?;
            self.receive(wire)?;
        }
        Ok(())
    }

    fn send(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Socket(wire))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Reads once from the wire; returns how much that was, 0 at its end.
    fn receive(&mut self, wire: &mut dyn Wire) -> io::Result<usize> {
        // After a failure rustls would only fill its buffers; this gives the failure again.
        self.connection.writer().flush()?;
        let len = if self.received.is_empty() {
            self.connection.read_tls(&mut Socket(wire))?
        } else {
            self.connection.read_tls(&mut (&mut self.received).reader())?
        };
        if let Err(error) = self.connection.process_new_packets() {
            // The peer should hear what was wrong; that it cannot is not what matters now.
            self.send(wire).ok();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if len == 0 && self.connection.is_handshaking() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, LEFT_IN_HANDSHAKE));
        }
        Ok(len)
    }

    /// Reads into one buffer, that has room: what there is, before any error behind it.
    fn read_some(&mut self, wire: &mut dyn Wire, buffer: &mut [u8]) -> io::Result<usize> {
        let mut fruitless = 0;
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TRUNCATED)),
                Ok(len) => return Ok(len),
            }
            if let Some(error) = self.behind.take() {
                return Err(error);
            }
            if fruitless > FRUITLESS_MAX {
                self.is_cut_short = true;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match self.receive(wire) {
                Ok(len) => fruitless += len,
                Err(error) => self.behind = Some(error),
            }
        }
    }
}

impl Transport for Tls {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.is_cut_short = false;
        self.shake_hands(wire)?;
        let mut count = 0;
        for slice in slices {
            let mut unfilled = &mut slice[..];
            while !unfilled.is_empty() {
                match self.read_some(wire, unfilled) {
                    Ok(0) => {
                        self.has_ended = count == 0;
                        return Ok(count);
                    }
                    Ok(len) => {
                        count += len;
                        unfilled = &mut unfilled[len..];
                    }
                    Err(error) if count == 0 => return Err(error),
                    Err(error) => {
                        if error.kind() != io::ErrorKind::WouldBlock {
                            self.behind = Some(error);
                        }
                        return Ok(count);
                    }
                }
            }
        }
        Ok(count)
    }

    /// Takes all it is given while the socket has room. What it takes goes into as few records as may
    /// be, so it takes nothing before those of the last call are out.
    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.shake_hands(wire)?;
        self.send(wire)?;
        let mut slices = slices.to_vec();
        let mut rest = &mut slices[..];
        let mut count = 0;
        loop {
            let taken = self.connection.writer().write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, taken);
            count += taken;
            match self.send(wire) {
                Ok(()) if taken > 0 && !rest.is_empty() => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(()) | Err(_) => return Ok(count),
            }
        }
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        match self.shake_hands(wire) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // To wait for the peer is not to have something left, except for a goodbye.
                let is_left = self.connection.wants_write() || self.is_finished;
                return if is_left { Err(error) } else { Ok(()) };
            }
            result => result?,
        }
        if self.is_finished {
            self.connection.send_close_notify();
        }
        self.send(wire)
    }

    fn finish(&mut self) {
        self.is_finished = true;
    }

    fn has_input(&self) -> bool {
        // With the handshake done, rustls wants to read unless there are bytes or a goodbye to be told.
        let has_some = !self.connection.is_handshaking()
            && (!self.connection.wants_read() || !self.received.is_empty());
        !self.has_ended && (has_some || self.behind.is_some() || self.is_cut_short)
    }
}

/// A wire, as rustls likes it.
struct Socket<'a>(&'a mut dyn Wire);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(&mut [IoSliceMut::new(buffer)])
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is taken and not yet sent, in bytes before they are encrypted: four records of the largest size.
const UNSENT_MAX: usize = 64 * 1024;
/// What one read takes from the wire without getting anything for its caller. A record is at most
/// 18 KiB; but a server may send session tickets without end.
const FRUITLESS_MAX: usize = 32 * 1024;

const TRUNCATED: &str = "the connection ended without a TLS close_notify: what came may not be all";
const LEFT_IN_HANDSHAKE: &str = "the connection ended in the TLS handshake";

//! A tracker's sockets: HTTP and UDP on a thread of their own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::{
    Accepted, Acceptor, DatagramHandler, Handler, HandlerError, ListenOptions, Reactor, Read,
    Remote, Token,
};
use torrent::Rng;
use torrent::tracker::server::{TableLimits, TrackerServer};

/// A tracker that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct TrackerHost {
    remote: Remote<Host>,
    thread: Option<JoinHandle<()>>,
    http: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
}

/// What the handlers share.
#[derive(Debug)]
struct Host {
    server: TrackerServer,
    connections: usize,
}

impl TrackerHost {
    /// Answers at these addresses. One of IPv6 `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// If an address cannot be had; it is named.
    pub(crate) fn start(
        http: &[SocketAddr],
        udp: &[SocketAddr],
        limits: TableLimits,
    ) -> Result<Self, String> {
        let (http, udp) = (http.to_vec(), udp.to_vec());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("tracker".to_owned()).spawn(move || {
            let (mut reactor, http, udp) = match open(&http, &udp) {
                Ok(open) => open,
                Err(why) => {
                    // Whoever started us waits for this.
                    ready.send(Err(why)).ok();
                    return;
                }
            };
            let rng = Rng::from_seed(reactor.random());
            let mut host = Host { server: TrackerServer::new(limits, rng), connections: 0 };
            if ready.send(Ok((reactor.remote(), http, udp))).is_ok()
                && let Err(error) = reactor.run(&mut host)
            {
                tracing::error!(%error, "the tracker's loop failed");
            }
        });
        let thread = thread.map_err(|error| error.to_string())?;
        let (remote, http, udp) =
            is_ready.recv().map_err(|_gone| "the tracker's thread died".to_owned())??;
        Ok(Self { remote, thread: Some(thread), http, udp })
    }

    /// Where it answers HTTP.
    pub(crate) fn http_addrs(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Where it answers UDP.
    pub(crate) fn udp_addrs(&self) -> &[SocketAddr] {
        &self.udp
    }

    /// Torrents and peers that it knows; nothing if it has died.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let (sender, receiver) = std::sync::mpsc::channel();
        let posted = self.remote.post(move |host: &mut Host, _: &mut Reactor<Host>| {
            let stats = host.server.stats();
            // We wait for it below.
            sender.send((stats.torrents, stats.peers)).ok();
        });
        posted.ok().and_then(|()| receiver.recv().ok()).unwrap_or_default()
    }
}

impl Drop for TrackerHost {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the tracker's thread panicked");
        }
    }
}

type Open = (Reactor<Host>, Vec<SocketAddr>, Vec<SocketAddr>);

fn open(http: &[SocketAddr], udp: &[SocketAddr]) -> Result<Open, String> {
    let mut reactor = Reactor::new().map_err(|error| error.to_string())?;
    let options = ListenOptions::default();
    let wrong = |kind: &str, addr: &SocketAddr, error: &io::Error| {
        format!("cannot answer {kind} at {addr}: {error}")
    };
    let mut http_at = Vec::new();
    for addr in http {
        let token = reactor.listen(*addr, &options, Box::new(Door));
        let token = token.map_err(|error| wrong("HTTP", addr, &error))?;
        http_at.extend(reactor.local_addr(token));
    }
    let mut udp_at = Vec::new();
    for addr in udp {
        let token = reactor.bind_udp(*addr, &options, Box::new(Datagrams));
        let token = token.map_err(|error| wrong("UDP", addr, &error))?;
        udp_at.extend(reactor.local_addr(token));
    }
    Ok((reactor, http_at, udp_at))
}

#[derive(Debug)]
struct Datagrams;

impl DatagramHandler<Host> for Datagrams {
    fn datagram(
        &mut self,
        token: Token,
        from: SocketAddr,
        data: &[u8],
        host: &mut Host,
        reactor: &mut Reactor<Host>,
    ) {
        let known_as = SocketAddr::new(from.ip().to_canonical(), from.port());
        if let Some(answer) = host.server.handle_udp(reactor.now(), known_as, data)
            && let Err(error) = reactor.send_to(token, from, &answer)
        {
            tracing::debug!(%from, %error, "an answer did not go out");
        }
    }
}

#[derive(Debug)]
struct Door;

impl Acceptor<Host> for Door {
    fn accepted(
        &mut self,
        _listener: Token,
        connection: Accepted,
        host: &mut Host,
        reactor: &mut Reactor<Host>,
    ) {
        if host.connections >= CONNECTIONS_MAX {
            return;
        }
        let Some(addr) = connection.peer.socket_addr() else { return };
        let client = Client { ip: addr.ip().to_canonical(), request: Vec::new() };
        match reactor.attach(connection, Box::new(client)) {
            Ok(token) => {
                host.connections += 1;
                reactor.set_deadline(token, Some(reactor.now() + PATIENCE));
            }
            Err(error) => tracing::debug!(%error, "cannot take in"),
        }
    }
}

/// Someone who asks by HTTP: one request, one answer.
#[derive(Debug)]
struct Client {
    ip: IpAddr,
    request: Vec<u8>,
}

impl Handler<Host> for Client {
    fn readable(
        &mut self,
        token: Token,
        host: &mut Host,
        reactor: &mut Reactor<Host>,
    ) -> Result<(), HandlerError> {
        let mut bytes = [0; 2048];
        match reactor.read(token, &mut bytes)? {
            Read::Data(count) => self.request.extend_from_slice(&bytes[..count]),
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                reactor.close(token, "it has asked nothing");
                return Ok(());
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let (status, body) = match request.parse(&self.request) {
            Ok(httparse::Status::Partial) if self.request.len() < REQUEST_LEN_MAX => return Ok(()),
            Ok(httparse::Status::Complete(_)) if request.method == Some("GET") => {
                let reply = host.server.handle_http(
                    reactor.now(),
                    request.path.unwrap_or_default(),
                    self.ip,
                );
                (reply.status, reply.body)
            }
            Ok(httparse::Status::Complete(_)) => (405, b"only GET\n".to_vec()),
            Ok(httparse::Status::Partial) => (431, b"too long\n".to_vec()),
            Err(error) => (400, format!("{error}\n").into_bytes()),
        };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            match status {
                200 => "OK",
                404 => "Not Found",
                405 => "Method Not Allowed",
                _ => "Bad Request",
            },
            body.len(),
        );
        reactor.write(token, [head.as_bytes(), &body].concat())?;
        reactor.pause(token);
        reactor.close_after_flush(token, PATIENCE);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: reactor::Reason, host: &mut Host, _: &mut Reactor<Host>) {
        host.connections -= 1;
    }
}

const CONNECTIONS_MAX: usize = 1000;
const REQUEST_LEN_MAX: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

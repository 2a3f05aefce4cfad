//! A tracker for whole swarms: the tracker of `torrent` behind sockets, for HTTP and UDP at once. It
//! remembers what it was told.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use torrent::Rng;
use torrent::tracker::server::{TableLimits, TrackerServer};

use super::LOCAL;

/// Answers on threads of its own, until the process ends.
pub(crate) struct TrackerHost {
    /// Where it is, over HTTP and over UDP.
    pub(crate) http: String,
    pub(crate) udp: String,
    heard: Arc<Mutex<Vec<Announce>>>,
}

/// What somebody said who listens on `port`.
#[derive(Clone, Debug)]
pub(crate) struct Announce {
    pub(crate) port: u16,
    /// "started", "completed", "stopped" or nothing.
    pub(crate) event: String,
    pub(crate) left: u64,
}

impl TrackerHost {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
        let http = format!("http://{}/announce", listener.local_addr().unwrap());
        let udp = format!("udp://{}", socket.local_addr().unwrap());
        let server = TrackerServer::new(TableLimits::default(), Rng::from_seed(7));
        let server = Arc::new(Mutex::new(server));
        let heard: Arc<Mutex<Vec<Announce>>> = Arc::default();
        let (same, by_http) = (Arc::clone(&server), Arc::clone(&heard));
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Who asked may have gone.
                stream.and_then(|stream| answer(stream, &same, &by_http)).ok();
            }
        });
        let by_udp = Arc::clone(&heard);
        thread::spawn(move || {
            let mut datagram = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut datagram) {
                let asked = &datagram[..len];
                let answer = server.lock().unwrap().handle_udp(Instant::now(), from, asked);
                by_udp.lock().unwrap().extend(announced_by_udp(asked));
                if let Some(answer) = answer {
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { http, udp, heard }
    }

    /// What it was told by who listens on this port, in order.
    pub(crate) fn heard_of(&self, port: u16) -> Vec<Announce> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|announce| announce.port == port).cloned().collect()
    }

    /// The events among it.
    pub(crate) fn events_of(&self, port: u16) -> Vec<String> {
        let events = self.heard_of(port).into_iter().map(|announce| announce.event);
        events.filter(|event| !event.is_empty()).collect()
    }
}

/// One request, one answer, which comes byte by byte: an answer need not come in one read.
fn answer(
    mut stream: TcpStream,
    server: &Mutex<TrackerServer>,
    heard: &Mutex<Vec<Announce>>,
) -> io::Result<()> {
    let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&bytes[..count]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split(' ').nth(1).unwrap_or_default();
    let from = stream.peer_addr()?.ip();
    let reply = server.lock().unwrap().handle_http(Instant::now(), target, from);
    heard.lock().unwrap().extend(announced_by_http(target));
    let (status, len) = (reply.status, reply.body.len());
    let head = format!("HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n");
    stream.set_nodelay(true)?;
    [head.as_bytes(), &reply.body].concat().iter().try_for_each(|&byte| stream.write_all(&[byte]))
}

fn announced_by_http(target: &str) -> Option<Announce> {
    let value = |key: &str| {
        let pairs = target.split(['?', '&']).filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next()
    };
    Some(Announce {
        port: value("port")?.parse().ok()?,
        event: value("event").unwrap_or_default(),
        left: value("left")?.parse().ok()?,
    })
}

/// Of a datagram as in BEP 15.
fn announced_by_udp(datagram: &[u8]) -> Option<Announce> {
    if datagram.len() < 98 || datagram[8..12] != [0, 0, 0, 1] {
        return None;
    }
    let event = ["", "completed", "started", "stopped"].get(usize::from(datagram[83]))?;
    Some(Announce {
        port: u16::from_be_bytes(datagram[96..98].try_into().unwrap()),
        event: (*event).to_owned(),
        left: u64::from_be_bytes(datagram[64..72].try_into().unwrap()),
    })
}

//! What the tests of whole sessions share: a payload, sessions, and a peer that is played by hand.

pub(crate) mod tracker_host;
pub(crate) mod web_host;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::disk::{self, hash_files_as};
use engine::{
    AddOptions, CheckOptions, DhtConfig, Encryption, EventKind, Events, ListenConfig, NatConfig,
    Session, SessionConfig, Torrent, TorrentState,
};
use tempfile::TempDir;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::{Builder, Format};
use torrent::wire::{Handshake, Inbox, Message, MessageLimits, Reserved};
use torrent::{Bitfield, Block, InfoHash, PeerId, Rng};

/// A piece across three files, an empty one, a name beyond ASCII, and a short last piece.
pub(crate) const FILES: [(&str, usize); 6] = [
    ("a.bin", 100_000),
    ("tiny", 10),
    ("empty", 0),
    ("ünï/cödé 漢字.dat", 700_001),
    ("b/c/d.bin", 1_500_000),
    ("z", 1),
];
pub(crate) const PIECE_LEN: u32 = 64 * 1024;

/// The session under test, those that mean well, and those that do not, by their addresses.
pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub(crate) const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A folder with a torrent's files in it.
pub(crate) struct Payload {
    pub(crate) dir: TempDir,
    pub(crate) metainfo: Metainfo,
    /// All files one after another.
    pub(crate) bytes: Vec<u8>,
}

impl Payload {
    pub(crate) fn new() -> Self {
        Self::with_seed(7)
    }

    /// Another torrent for each seed.
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self::of(&FILES, PIECE_LEN, seed)
    }

    /// One file of so many pieces.
    pub(crate) fn with_pieces(count: usize, piece_len: u32) -> Self {
        Self::of(&[("data.bin", count * piece_len as usize)], piece_len, 7)
    }

    pub(crate) fn of(files: &[(&str, usize)], piece_len: u32, seed: u64) -> Self {
        Self::in_format(Format::V1, files, piece_len, seed)
    }

    pub(crate) fn in_format(
        format: Format,
        files: &[(&str, usize)],
        piece_len: u32,
        seed: u64,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::from_seed(seed);
        let mut all = Vec::new();
        for (path, len) in files {
            let path = dir.path().join("payload").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let words: Vec<u8> =
                (0..len.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).collect();
            fs::write(path, &words[..*len]).unwrap();
            all.extend_from_slice(&words[..*len]);
        }
        let split = |path: &str| path.split('/').map(|name| name.as_bytes().to_vec()).collect();
        let files = files.iter().map(|&(path, len)| (split(path), len as u64)).collect();
        let builder = Builder {
            format,
            name: b"payload".to_vec(),
            files,
            piece_len: Some(piece_len),
            ..Builder::default()
        };
        let layout = Arc::new(builder.layout().unwrap());
        let never = AtomicBool::new(false);
        let check = disk::CheckOptions::default();
        let hashes = hash_files_as(format, &layout, dir.path(), &check, &never, |_| {}).unwrap();
        let metainfo = Metainfo::parse(&builder.finish_as(&hashes).unwrap()).unwrap();
        Self { dir, metainfo, bytes: all }
    }

    /// To add it where its files are.
    pub(crate) fn here(&self) -> AddOptions {
        AddOptions { dir: self.dir.path().into(), ..AddOptions::default() }
    }

    /// One of its files.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join("payload").join(path)
    }

    /// Changes a byte of a piece on disk, in a torrent of one file.
    pub(crate) fn flip(&self, piece: u32) {
        let path = self.file("data.bin");
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = u64::from(piece) * u64::from(self.metainfo.layout().piece_len());
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    pub(crate) fn piece_count(&self) -> u32 {
        self.metainfo.layout().piece_count()
    }

    /// The bits of a peer that has everything, with the spare ones clear.
    pub(crate) fn all_bits(&self) -> Message {
        let all = Bitfield::all(self.piece_count());
        Message::Bitfield(Bytes::copy_from_slice(all.as_bytes()))
    }

    /// What belongs in `block`.
    pub(crate) fn block(&self, block: Block) -> Bytes {
        let piece_len = self.metainfo.layout().piece_len() as usize;
        let from = block.piece.index() * piece_len + block.offset as usize;
        Bytes::copy_from_slice(&self.bytes[from..from + block.len as usize])
    }

    pub(crate) fn assert_equals(&self, dir: &Path) {
        for file in self.metainfo.layout().files().iter().filter(|file| !file.is_pad) {
            let path = file.path.to_path_buf();
            let ours = fs::read(self.dir.path().join(&path)).unwrap();
            assert!(ours == fs::read(dir.join(&path)).unwrap(), "{} differs", path.display());
        }
    }
}

pub(crate) fn config(ip: IpAddr) -> SessionConfig {
    SessionConfig {
        listen: ListenConfig { ports: vec![0..=0], bind: Some(ip) },
        lsd: false,
        // Peers that are played by hand begin plainly, or with noise that means nothing.
        encryption: Encryption::Off,
        nat: NatConfig::OFF,
        dht: DhtConfig::off(),
        utp: false,
        ..SessionConfig::default()
    }
}

pub(crate) fn session(ip: IpAddr) -> Session {
    Session::start(config(ip)).unwrap()
}

pub(crate) fn seed(session: &Session, payload: &Payload) -> Torrent {
    let events = session.subscribe().unwrap();
    let options = AddOptions { dir: payload.dir.path().into(), ..AddOptions::default() };
    let torrent = session.add(payload.metainfo.clone(), options).unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    torrent
}

/// A session that has everything, and where it is.
pub(crate) fn honest_seed(payload: &Payload) -> (Session, SocketAddr) {
    let seeder = session(HONEST);
    seed(&seeder, payload);
    let addr = seeder.listen_addrs()[0];
    (seeder, addr)
}

/// A session that downloads the payload, or will when it knows of a peer.
pub(crate) struct Leecher {
    pub(crate) session: Session,
    pub(crate) torrent: Torrent,
    pub(crate) events: Events,
    pub(crate) dir: TempDir,
}

impl Leecher {
    pub(crate) fn start(payload: &Payload, peers: &[SocketAddr]) -> Self {
        Self::with_options(payload, AddOptions { peers: peers.to_vec(), ..AddOptions::default() })
    }

    /// In a folder of its own, whatever the options say.
    pub(crate) fn with_options(payload: &Payload, options: AddOptions) -> Self {
        Self::of(session(LOCAL), payload, options)
    }

    pub(crate) fn of(session: Session, payload: &Payload, options: AddOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let events = session.subscribe().unwrap();
        let options = AddOptions { dir: dir.path().into(), ..options };
        let torrent = session.add(payload.metainfo.clone(), options).unwrap();
        wait_for_state(&events, &TorrentState::Downloading);
        Self { session, torrent, events, dir }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.session.listen_addrs()[0]
    }

    /// Waits until all is here and right. Returns the events until then.
    pub(crate) fn complete(&self, payload: &Payload) -> Vec<EventKind> {
        let events = wait_for(&self.events, |kind| matches!(kind, EventKind::Completed));
        payload.assert_equals(self.dir.path());
        events
    }
}

/// Reads events until one has what is looked for.
pub(crate) fn find<T>(events: &Events, pick: impl Fn(EventKind) -> Option<T>) -> T {
    loop {
        let event = events.recv_timeout(GUARD).expect("it did not happen");
        if let Some(found) = pick(event.kind) {
            return found;
        }
    }
}

/// Reads events until `is_it`; returns those before.
pub(crate) fn wait_for(events: &Events, is_it: impl Fn(&EventKind) -> bool) -> Vec<EventKind> {
    let mut before = Vec::new();
    loop {
        match events.recv_timeout(GUARD) {
            Ok(event) if is_it(&event.kind) => return before,
            Ok(event) => before.push(event.kind),
            Err(_) => panic!("it did not happen; before: {before:?}"),
        }
    }
}

pub(crate) fn wait_for_state(events: &Events, state: &TorrentState) -> Vec<EventKind> {
    wait_for(events, |kind| matches!(kind, EventKind::StateChanged(now) if now == state))
}

/// Waits until a torrent fails; returns why.
pub(crate) fn wait_for_failure(events: &Events) -> String {
    loop {
        let event = events.recv_timeout(GUARD).expect("a failure");
        if let EventKind::StateChanged(TorrentState::Failed(why)) = event.kind {
            return why;
        }
    }
}

/// Waits until a peer that had shaken hands is gone; returns why.
pub(crate) fn wait_for_parting(events: &Events, ip: IpAddr) -> String {
    loop {
        match events.recv_timeout(GUARD).expect("a peer that is gone").kind {
            EventKind::PeerDisconnected { addr, peer_id: Some(_), detail, .. }
                if addr.ip() == ip =>
            {
                return detail;
            }
            _ => {}
        }
    }
}

/// A check as by a slow disk. At one byte per second, two blocks are looked at and nothing more in hours.
pub(crate) fn at_rate(bytes_per_second: u64) -> CheckOptions {
    CheckOptions { rate: Some(bytes_per_second), ..CheckOptions::default() }
}

/// Asks again and again, until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + GUARD;
    while !is_so() {
        assert!(Instant::now() < give_up_at, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An honest peer gets everything from the session at `from`: it still does its work.
pub(crate) fn assert_serves(payload: &Payload, from: SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    let (leecher, _) = fetch(payload, from, config(HONEST), dir.path());
    payload.assert_equals(dir.path());
    leecher.shutdown(GUARD);
}

pub(crate) fn fetch(
    payload: &Payload,
    from: SocketAddr,
    config: SessionConfig,
    dir: &Path,
) -> (Session, Torrent) {
    let session = Session::start(config).unwrap();
    let events = session.subscribe().unwrap();
    let options = AddOptions { dir: dir.into(), peers: vec![from], ..AddOptions::default() };
    let torrent = session.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    (session, torrent)
}

/// One end of a connection, played by hand.
pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    inbox: Inbox,
    unread: VecDeque<Message>,
    /// Bytes that came after the handshake.
    pub(crate) received_len: usize,
}

impl RawPeer {
    /// Goes to a session and shakes hands.
    pub(crate) fn dial(addr: SocketAddr, info_hash: InfoHash, reserved: Reserved) -> Self {
        let mut peer = Self::new(TcpStream::connect(addr).unwrap());
        peer.stream.write_all(&handshake(info_hash, reserved)).unwrap();
        peer.stream.read_exact(&mut [0; Handshake::LEN]).unwrap();
        peer
    }

    /// Waits for a session to come, and shakes hands.
    pub(crate) fn accept(listener: &TcpListener, info_hash: InfoHash, reserved: Reserved) -> Self {
        let mut peer = Self::new(listener.accept().unwrap().0);
        peer.stream.read_exact(&mut [0; Handshake::LEN]).unwrap();
        peer.stream.write_all(&handshake(info_hash, reserved)).unwrap();
        peer
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        let inbox = Inbox::new(MessageLimits::default());
        Self { stream, inbox, unread: VecDeque::new(), received_len: 0 }
    }

    /// Sends what the session may no longer want to hear.
    pub(crate) fn send(&mut self, messages: &[Message]) -> io::Result<()> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.stream.write_all(&bytes)
    }

    /// The next message; `None` if the session has hung up.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        while self.unread.is_empty() {
            let mut bytes = vec![0; 64 * 1024];
            let count = match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("neither a message nor an end")
                }
                Err(_) => return None,
            };
            self.received_len += count;
            let mut messages = Vec::new();
            // Straight into the rest: what of it is pending is copied there.
            self.inbox.received(0, Bytes::from(bytes).slice(..count), &mut messages).unwrap();
            self.unread.extend(messages);
        }
        self.unread.pop_front()
    }

    /// The next block that it is asked for; `None` if the session has hung up.
    pub(crate) fn receive_request(&mut self) -> Option<Block> {
        loop {
            if let Message::Request(block) = self.receive()? {
                return Some(block);
            }
        }
    }
}

pub(crate) fn handshake(info_hash: InfoHash, reserved: Reserved) -> [u8; Handshake::LEN] {
    Handshake { reserved, info_hash, peer_id: PeerId(*b"-XX0000-played12hand") }.encode()
}

/// A web server. Each announce is `answer`ed by what follows from its first line.
pub(crate) fn tracker(mut answer: impl FnMut(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => request.extend_from_slice(&bytes[..count]),
                    Ok(0) | Err(_) => break,
                }
            }
            let body = answer(String::from_utf8(request).unwrap().lines().next().unwrap_or(""));
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // Whoever asked may be gone.
            stream.write_all(&[head.as_bytes(), &body].concat()).ok();
        }
    });
    url
}

/// What a tracker says that knows of these peers.
pub(crate) fn peers_answer(peers: &[SocketAddr]) -> Vec<u8> {
    let mut answer = format!("d8:intervali1800e5:peers{}:", peers.len() * 6).into_bytes();
    for peer in peers {
        let SocketAddr::V4(v4) = peer else { panic!("{peer}") };
        answer.extend(v4.ip().octets());
        answer.extend(v4.port().to_be_bytes());
    }
    answer.push(b'e');
    answer
}

/// Knows no extension.
pub(crate) const PLAIN: Reserved = Reserved([0; 8]);

/// A place where a session can be told to find a hostile peer.
pub(crate) fn hostile_door() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((HOSTILE, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Long enough for any machine; no test waits for it to pass.
pub(crate) const GUARD: Duration = Duration::from_secs(120);

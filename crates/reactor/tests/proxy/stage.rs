//! The proxy as a process, backends of threads, and clients: curl, wrk, and bare sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The example, which cargo builds beside the tests.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples").join("proxy");
    assert!(path.exists(), "{} is missing: cargo build --example proxy", path.display());
    path
}

/// Ends the process when it is dropped.
pub(crate) struct Proxy {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
    _stderr: BufReader<ChildStderr>,
}

impl Proxy {
    pub(crate) fn start(words: &[&str]) -> Self {
        let mut child = Command::new(program())
            .arg("127.0.0.1:0")
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://").expect(&line);
        Self { child, addr: addr.parse().unwrap(), _stderr: stderr }
    }

    pub(crate) fn before(backend: &Backend) -> Self {
        Self::start(&[&backend.addr.to_string()])
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// All that is answered to these bytes, until the proxy closes.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the proxy closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What curl prints.
    pub(crate) fn curl(&self, options: &[&str], path: &str) -> String {
        let output = self.curl_fallibly(options, path);
        assert!(output.status.success(), "curl {options:?} {path}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn curl_fallibly(&self, options: &[&str], path: &str) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "60", "--path-as-is"]).args(options);
        curl.arg(self.url(path)).output().expect("curl is installed: apt install curl")
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server that does by the path what a test asks for.
pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    /// How many connections have come, and requests.
    pub(crate) connections: Arc<AtomicU64>,
    pub(crate) requests: Arc<AtomicU64>,
    /// Bytes that went out for `/big/…`.
    pub(crate) sent: Arc<AtomicU64>,
    /// How many requests of `/hang` were given up.
    pub(crate) given_up: Arc<AtomicU64>,
}

impl Backend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let new = || Arc::new(AtomicU64::new(0));
        let addr = listener.local_addr().unwrap();
        let this = Self { addr, connections: new(), requests: new(), sent: new(), given_up: new() };
        let shared = Self {
            addr,
            connections: Arc::clone(&this.connections),
            requests: Arc::clone(&this.requests),
            sent: Arc::clone(&this.sent),
            given_up: Arc::clone(&this.given_up),
        };
        let shared = Arc::new(shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || shared.serve(stream.unwrap(), number));
            }
        });
        this
    }

    /// Until the connection ends, or breaks.
    fn serve(&self, stream: TcpStream, number: u64) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                (reader.read_line(&mut head).ok()? > 0).then_some(())?;
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
            let path = head.split(' ').nth(1)?.to_owned();
            let body = read_body(&head, &mut reader, &stream)?;
            let mut out = &stream;
            match path.split(['/', '?']).nth(1)? {
                _ if head.starts_with("HEAD ") => {
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n").ok()?;
                }
                "head" => say(out, head.as_bytes())?,
                "echo" => say(out, &body)?,
                "connection" => say(out, number.to_string().as_bytes())?,
                "slow" => {
                    std::thread::sleep(Duration::from_millis(500));
                    say(out, b"at last")?;
                }
                "empty" => out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?,
                "chunks" => out.write_all(CHUNKS).ok()?,
                "until-close" => {
                    out.write_all(b"HTTP/1.1 200 OK\r\n\r\nall there is").ok()?;
                    return stream.shutdown(Shutdown::Both).ok();
                }
                "die" => {
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").ok()?;
                    return stream.shutdown(Shutdown::Both).ok();
                }
                // It is answered, and closed just when the next one comes.
                "once" => {
                    say(out, b"once")?;
                    reader.fill_buf().ok()?;
                    return stream.shutdown(Shutdown::Both).ok();
                }
                "two-lengths" => {
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
                    out.write_all(head.as_bytes()).ok()?;
                }
                "hang" => {
                    reader.fill_buf().ok();
                    self.given_up.fetch_add(1, Ordering::SeqCst);
                    return None;
                }
                "big" => self.send_big(out, path.rsplit('/').next()?.parse().ok()?)?,
                _ => say(out, b"hello")?,
            }
        }
    }

    fn send_big(&self, mut out: &TcpStream, len: u64) -> Option<()> {
        out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes())
            .ok()?;
        for at in (0..len).step_by(BLOCK) {
            out.write_all(&block(at, len)).ok()?;
            self.sent.fetch_add(BLOCK as u64, Ordering::SeqCst);
        }
        Some(())
    }
}

fn say(mut out: &TcpStream, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    out.write_all(&[head.as_bytes(), body].concat()).ok()
}

fn read_body(
    head: &str,
    reader: &mut BufReader<TcpStream>,
    mut out: &TcpStream,
) -> Option<Vec<u8>> {
    let head = head.to_ascii_lowercase();
    if head.contains("expect: 100-continue") {
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = Vec::new();
    if let Some((_, rest)) = head.split_once("content-length: ") {
        body.resize(rest.lines().next()?.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16).ok()? + 2];
            reader.read_exact(&mut chunk).ok()?;
            if chunk.len() == 2 {
                break;
            }
            body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    }
    Some(body)
}

/// The part of a big body that begins at `at`.
pub(crate) fn block(at: u64, len: u64) -> Vec<u8> {
    let count = (len - at).min(BLOCK as u64);
    (at..at + count).map(|index| (index % 251) as u8).collect()
}

/// Waits until `is_true`, and gives up at last.
pub(crate) fn eventually(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_true() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never came: {what}");
}

/// An address where nobody listens.
pub(crate) fn nowhere() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub(crate) const BLOCK: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n1;with=extension\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: yes\r\n\r\n";

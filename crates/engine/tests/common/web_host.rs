//! A web server for tests: serves the files of a payload, or its pieces, and misbehaves when told to.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{LOCAL, Payload};

/// Answers on threads of its own, until the process ends.
pub(crate) struct WebHost {
    /// The folder that the torrent's file or folder is in, with a slash at its end.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The path, as it came.
    pub(crate) target: String,
    /// The path, decoded.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) user_agent: String,
}

/// How one request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// As it should be.
    Honest,
    /// Whole files, whatever part was asked for.
    Whole,
    /// This status line and headers, and this body.
    Plainly(&'static str, Vec<u8>),
    /// Somewhere else.
    Redirect(String),
    /// The honest answer up to so many bytes of the body, then nothing.
    Cut(usize),
    /// The honest answer, but for the last byte.
    Spoilt,
    /// A range that is not what was asked for.
    WrongRange,
    /// Nothing at all, for as long as somebody waits.
    Silence,
}

impl WebHost {
    /// A server that answers each request, counted from 0, as `choose` says.
    pub(crate) fn start(
        payload: &Payload,
        choose: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let taken = Arc::clone(&connections);
        let (dir, noted) = (payload.dir.path().to_owned(), Arc::clone(&asked));
        let (bytes, piece_len) =
            (Arc::new(payload.bytes.clone()), payload.metainfo.layout().piece_len() as usize);
        let choose = Arc::new(choose);
        thread::spawn(move || {
            for stream in listener.incoming() {
                taken.fetch_add(1, Ordering::Relaxed);
                let (dir, noted) = (dir.clone(), Arc::clone(&noted));
                let (bytes, choose) = (Arc::clone(&bytes), Arc::clone(&choose));
                thread::spawn(move || {
                    let Ok(stream) = stream else { return };
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(asked) = read(&mut reader) {
                        let number = {
                            let mut noted = noted.lock().unwrap();
                            noted.push(asked.clone());
                            noted.len() - 1
                        };
                        let answer = choose(number, &asked);
                        let document = document(&dir, &bytes, piece_len, &asked);
                        // Whoever asked may have seen enough.
                        if !send(&stream, &asked, answer, document) {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, asked, connections }
    }

    /// One that does all as it should be.
    pub(crate) fn honest(payload: &Payload) -> Self {
        Self::start(payload, |_, _| Answer::Honest)
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut asked = Asked {
        target: path.to_owned(),
        path: decode(path),
        query: query.to_owned(),
        range: None,
        user_agent: String::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(": ") else {
            return line.is_empty().then_some(asked);
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            "user-agent" => asked.user_agent = value.to_owned(),
            _ => {}
        }
    }
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A file, or a piece if one is asked for by its number.
fn document(dir: &Path, bytes: &[u8], piece_len: usize, asked: &Asked) -> Option<Vec<u8>> {
    let value = |name| asked.query.split('&').find_map(|pair| pair.strip_prefix(name));
    if let Some(piece) = value("piece=") {
        let start = piece.parse::<usize>().ok()? * piece_len;
        let piece = bytes.get(start..bytes.len().min(start + piece_len))?;
        return match value("ranges=") {
            Some(range) => {
                let (first, last) = range.split_once('-')?;
                Some(piece.get(first.parse().ok()?..=last.parse().ok()?)?.to_vec())
            }
            None => Some(piece.to_vec()),
        };
    }
    let path: PathBuf = dir.join(asked.path.trim_start_matches('/'));
    fs::read(path).ok()
}

/// Returns whether the connection may be used again.
fn send(stream: &TcpStream, asked: &Asked, answer: Answer, document: Option<Vec<u8>>) -> bool {
    let mut stream = stream;
    let Some(whole) = document else {
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(missing).is_ok();
    };
    let total = whole.len();
    let (first, last) = match (asked.range, &answer) {
        (Some(range), answer) if !matches!(answer, Answer::Whole) => range,
        _ => (0, total.wrapping_sub(1)),
    };
    let part = whole.get(first..=last).unwrap_or_default();
    let head = |first: usize| match asked.range {
        Some(_) if !matches!(answer, Answer::Whole) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {}\r\n\r\n",
            part.len()
        ),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"),
    };
    let (head, mut body) = match &answer {
        Answer::Honest | Answer::Whole | Answer::Cut(_) | Answer::Spoilt => {
            (head(first), part.to_vec())
        }
        Answer::WrongRange => (head(first + 1), part.to_vec()),
        Answer::Plainly(head, body) => {
            (format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()), body.clone())
        }
        Answer::Redirect(to) => (
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
            Vec::new(),
        ),
        Answer::Silence => {
            // Until the other side hangs up.
            (&mut stream).read_to_end(&mut Vec::new()).ok();
            return false;
        }
    };
    match answer {
        Answer::Cut(len) => body.truncate(len),
        Answer::Spoilt => body.last_mut().into_iter().for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let is_sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_ok();
    is_sent && !matches!(answer, Answer::Cut(_))
}

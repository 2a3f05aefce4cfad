//! Fetching pieces from a server that has the files ([BEP 19]) or knows the pieces ([BEP 17]).
//!
//! A [`WebSeed`] is the conversation with one server. [`Swarm::next_web_run`] says what to fetch, this
//! how: `request` makes URLs and ranges of a run, [`ContentRange`] and the status say what the answer is
//! worth, `assembler` cuts what comes into blocks, which go back to the swarm. The driver carries HTTP:
//! it takes each [`WebSeedOutput`], and follows no redirect by itself.
//!
//! A file that is not there, or is another, is not asked for again; a server that has none of them is
//! dropped, and so is one whose data are wrong. From all other trouble it recovers by itself.
//!
//! [BEP 17]: https://www.bittorrent.org/beps/bep_0017.html
//! [BEP 19]: https://www.bittorrent.org/beps/bep_0019.html
//! [`Swarm::next_web_run`]: crate::swarm::Swarm::next_web_run

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod assembler;
mod content_range;
mod request;
mod status;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use content_range::ContentRange;
pub use request::WebRequest;
pub use status::{WebSeedState, WebSeedStatus};

use crate::metainfo::FileLayout;
use crate::rate::RateMeter;
use crate::swarm::WebRun;
use crate::{Bitfield, Block, InfoHash, PieceIndex};
use assembler::Assembler;
use request::{Part, file_url, parts, piece_url};

/// What a server can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebSeedKind {
    /// Ranges of files: BEP 19, `url-list`.
    Files,
    /// Pieces, by info hash and number: BEP 17, `httpseeds`.
    Pieces,
}

/// One server of one torrent.
///
/// When [`wants`](Self::wants) says so, [`begin`](Self::begin) with a run of the swarm. Tell what comes
/// with the `handle_*` methods; after each, do all that [`poll_output`](Self::poll_output) has.
#[derive(Debug)]
pub struct WebSeed {
    url: String,
    kind: WebSeedKind,
    info_hash: InfoHash,
    layout: Arc<FileLayout>,
    state: State,
    /// The pieces that touch files which are not there.
    lacks: Option<Bitfield>,
    /// Where the file went that was asked for last.
    moved: Option<(usize, String)>,
    /// In a row.
    failures: u32,
    fault: Option<WebSeedFault>,
    /// How much to ask for at once, in bytes: what comes in several seconds.
    run_len: u64,
    down: RateMeter,
    downloaded: u64,
    outputs: VecDeque<WebSeedOutput>,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Not to be asked before.
    Waiting(Instant),
    Fetching(Fetch),
    /// Of no use any more.
    Dropped,
}

/// A run under way.
#[derive(Debug)]
struct Fetch {
    /// The first is what has been asked for.
    parts: VecDeque<Part>,
    assembler: Assembler,
    phase: Phase,
    began_at: Instant,
    progress_at: Instant,
    has_brought_any: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The head of the answer is awaited, after so many redirects.
    Asked { redirects: u32 },
    /// The answer comes: so many bytes to be passed over, then so many of ours. So many more of the part are
    /// not in it.
    Reading { skip: u64, left: u64, beyond: u64 },
    /// A server of pieces says how many seconds to wait, in digits.
    Refused { digits: String },
}

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSeedOutput {
    /// Get this. Whatever is under way for an earlier request is of no interest any more.
    Get(WebRequest),
    /// A block has come: [`Swarm::handle_web_block`](crate::swarm::Swarm::handle_web_block).
    Block(Block, Bytes),
    /// The run is over, whole or not: nothing that is under way is of interest;
    /// [`Swarm::end_web_run`](crate::swarm::Swarm::end_web_run).
    RunOver,
    /// It did not help; [`WebSeed::status`] says what follows from that.
    Failed(WebSeedFault),
}

/// The head of an answer over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebHead {
    /// The status.
    pub status: u16,
    /// How long the body is, if that is said.
    pub content_len: Option<u64>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `Location`, made absolute.
    pub location: Option<String>,
}

/// How a web seed can let us down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSeedFault {
    /// Its address is no http or https URL.
    #[error("not an http or https address")]
    BadUrl,
    /// No connection, or it may not be asked.
    #[error("{0}")]
    Unreachable(String),
    /// It brings nothing, or next to nothing.
    #[error("nothing comes")]
    Silent,
    /// The connection ended before all had come.
    #[error("the connection broke")]
    Cut,
    /// The server refused.
    #[error("the server answered {0}")]
    Status(u16),
    /// It sends us from one address to the next.
    #[error("too many redirects")]
    Redirects,
    /// It sends a whole file where a part was asked for.
    #[error("it sends no parts of files")]
    NoRanges,
    /// It sends bytes that were not asked for.
    #[error("it sent another part than was asked for")]
    WrongRange,
    /// A file there is longer or shorter than the torrent's.
    #[error("a file there has another length")]
    WrongLen,
    /// It sends something made of the file, not the file.
    #[error("it encodes what it sends")]
    Encoded,
    /// Its data were proven wrong.
    #[error("it sent wrong data")]
    Lied,
}

impl WebSeed {
    /// A server that nothing is known of yet.
    pub const fn new(
        now: Instant,
        kind: WebSeedKind,
        url: String,
        info_hash: InfoHash,
        layout: Arc<FileLayout>,
    ) -> Self {
        Self {
            url,
            kind,
            info_hash,
            layout,
            state: State::Idle,
            lacks: None,
            moved: None,
            failures: 0,
            fault: None,
            run_len: RUN_LEN_FIRST,
            down: RateMeter::new(now),
            downloaded: 0,
            outputs: VecDeque::new(),
        }
    }

    /// How much it may be asked for now, in bytes, if it may be asked at all.
    pub fn wants(&self, now: Instant) -> Option<u64> {
        match self.state {
            State::Idle => Some(self.run_len),
            State::Waiting(until) if until <= now => Some(self.run_len),
            State::Waiting(_) | State::Fetching(_) | State::Dropped => None,
        }
    }

    /// Whether it has all of a piece, as far as we know.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.lacks.as_ref().is_none_or(|lacks| !lacks.has(piece))
    }

    /// Fetches a run. It must begin where a block does.
    pub fn begin(&mut self, now: Instant, run: WebRun) {
        self.state = State::Fetching(Fetch {
            parts: parts(&self.layout, self.kind, run),
            assembler: Assembler::new(Arc::clone(&self.layout), run),
            phase: Phase::Asked { redirects: 0 },
            began_at: now,
            progress_at: now,
            has_brought_any: false,
        });
        self.ask(now);
    }

    /// Leaves the run that is under way, if there is one.
    pub fn stop(&mut self) {
        if matches!(self.state, State::Fetching(_)) {
            self.state = State::Idle;
            self.outputs.push_back(WebSeedOutput::RunOver);
        }
    }

    /// Its data were proven wrong: it is not asked again.
    pub fn handle_lie(&mut self) {
        self.drop_out(WebSeedFault::Lied);
    }

    /// The caller did not read for a while: that nothing came is no fault of the server.
    pub fn excuse(&mut self, now: Instant) {
        if let State::Fetching(fetch) = &mut self.state {
            fetch.progress_at = now;
        }
    }

    /// The answer begins.
    pub fn handle_head(&mut self, now: Instant, head: &WebHead) {
        let State::Fetching(fetch) = &self.state else { return };
        let (Phase::Asked { redirects }, Some(&part)) = (&fetch.phase, fetch.parts.front()) else {
            return;
        };
        let next = match (head.status, &head.location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) if *redirects < REDIRECTS_MAX => {
                return self.follow(location.clone(), part, redirects.saturating_add(1));
            }
            (301 | 302 | 303 | 307 | 308, Some(_)) => Err(WebSeedFault::Redirects),
            (429 | 503, _) if self.kind == WebSeedKind::Pieces && head.retry_after.is_none() => {
                Ok(Phase::Refused { digits: String::new() })
            }
            (429 | 503, _) => {
                let seconds = head.retry_after.as_deref().and_then(content_range::number);
                return self.wait(now, WebSeedFault::Status(head.status), seconds);
            }
            (200 | 206, _) => self.body_of(head, part),
            (status, _) => Err(WebSeedFault::Status(status)),
        };
        match (next, &mut self.state) {
            (Ok(phase), State::Fetching(fetch)) => {
                // One that gives a part bit by bit is measured by what it brings.
                if !matches!(phase, Phase::Reading { beyond: 1.., .. }) {
                    fetch.progress_at = now;
                }
                fetch.phase = phase;
            }
            (Err(fault), _) => self.fail(now, fault),
            (Ok(_), State::Idle | State::Waiting(_) | State::Dropped) => {}
        }
    }

    /// What of the body of an answer is ours.
    fn body_of(&self, head: &WebHead, part: Part) -> Result<Phase, WebSeedFault> {
        let encoding = head.content_encoding.as_deref().map(str::trim).unwrap_or_default();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err(WebSeedFault::Encoded);
        }
        let (file, offset, len) = match part {
            Part::File { file, offset, len } => (file, offset, len),
            Part::Pad { len } | Part::Piece { len, .. } => {
                let is_right = head.content_len.is_none_or(|given| given == len);
                return if is_right {
                    Ok(Phase::Reading { skip: 0, left: len, beyond: 0 })
                } else {
                    Err(WebSeedFault::WrongRange)
                };
            }
        };
        let file_len = self.layout.files().get(file).map_or(0, |file| file.len);
        if head.status == 206 {
            let range = head.content_range.as_deref().and_then(ContentRange::parse);
            let range = range.ok_or(WebSeedFault::WrongRange)?;
            if range.total.is_some_and(|total| total != file_len) {
                return Err(WebSeedFault::WrongLen);
            }
            // A shorter part is what the server can give at once; the rest is asked for again.
            let beyond = len.checked_sub(range.byte_count()).filter(|_| range.first == offset);
            return match beyond {
                Some(beyond) => Ok(Phase::Reading { skip: 0, left: range.byte_count(), beyond }),
                None => Err(WebSeedFault::WrongRange),
            };
        }
        if head.content_len.is_some_and(|given| given != file_len) {
            return Err(WebSeedFault::WrongLen);
        }
        if offset > SKIP_MAX {
            Err(WebSeedFault::NoRanges)
        } else {
            Ok(Phase::Reading { skip: offset, left: len, beyond: 0 })
        }
    }

    /// Some of the body has come.
    pub fn handle_body(&mut self, now: Instant, data: &[u8]) {
        let State::Fetching(fetch) = &mut self.state else { return };
        let (skip, left, beyond) = match &mut fetch.phase {
            Phase::Reading { skip, left, beyond } => (skip, left, *beyond),
            Phase::Refused { digits } => {
                let room = DIGITS_MAX.saturating_sub(digits.len());
                let text = data.iter().take(room).map(|&byte| char::from(byte));
                digits.extend(text.filter(char::is_ascii_digit));
                return;
            }
            Phase::Asked { .. } => return,
        };
        let passed = usize::try_from(*skip).unwrap_or(usize::MAX).min(data.len());
        *skip = skip.saturating_sub(passed as u64);
        let data = data.get(passed..).unwrap_or_default();
        let ours = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
        *left = left.saturating_sub(ours as u64);
        let is_whole = *left == 0;
        self.down.add(now, ours as u64);
        self.downloaded = self.downloaded.saturating_add(ours as u64);
        let had = self.outputs.len();
        let outputs = &mut self.outputs;
        fetch.assembler.push(data.get(..ours).unwrap_or_default(), |block, data| {
            outputs.push_back(WebSeedOutput::Block(block, data));
        });
        if outputs.len() > had {
            // Only a whole block counts: a trickle would hold up what others could bring.
            fetch.progress_at = now;
            fetch.has_brought_any = true;
        }
        if is_whole {
            let part = fetch.parts.pop_front();
            match part.and_then(|part| part.last(beyond)) {
                Some(rest) => fetch.parts.push_front(rest),
                None => fetch.progress_at = now,
            }
            self.ask(now);
        }
    }

    /// The body is over.
    pub fn handle_end(&mut self, now: Instant) {
        let State::Fetching(fetch) = &self.state else { return };
        match &fetch.phase {
            Phase::Refused { digits } => {
                let seconds = content_range::number(digits);
                self.wait(now, WebSeedFault::Status(503), seconds);
            }
            Phase::Asked { .. } | Phase::Reading { .. } => self.fail(now, WebSeedFault::Cut),
        }
    }

    /// There is no answer, or no more of it.
    pub fn handle_failure(&mut self, now: Instant, fault: WebSeedFault) {
        self.fail(now, fault);
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) gave has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Instant) {
        let State::Fetching(fetch) = &self.state else { return };
        if now.saturating_duration_since(fetch.progress_at) >= STALLED_AFTER {
            self.fail(now, WebSeedFault::Silent);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), or to look again whether it may be asked.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Fetching(fetch) => fetch.progress_at.checked_add(STALLED_AFTER),
            State::Waiting(until) => Some(*until),
            State::Idle | State::Dropped => None,
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<WebSeedOutput> {
        self.outputs.pop_front()
    }

    /// Asks for the next part of the run, or ends it.
    fn ask(&mut self, now: Instant) {
        let State::Fetching(fetch) = &mut self.state else { return };
        let outputs = &mut self.outputs;
        while let Some(&Part::Pad { len }) = fetch.parts.front() {
            fetch.parts.pop_front();
            fetch.assembler.push_zeros(len, |block, data| {
                outputs.push_back(WebSeedOutput::Block(block, data));
            });
        }
        let Some(&part) = fetch.parts.front() else { return self.finish(now) };
        fetch.phase = Phase::Asked { redirects: 0 };
        let moved = self.moved.as_ref().filter(|(moved, _)| Some(*moved) == file_of(part));
        let url = moved.map(|(_, url)| url.clone());
        let request = self.request(part, url);
        self.outputs.push_back(WebSeedOutput::Get(request));
    }

    /// What to ask for, at `url` if it was sent there.
    fn request(&self, part: Part, url: Option<String>) -> WebRequest {
        let is_redirected = url.is_some();
        match part {
            Part::File { file, offset, len } => {
                let is_whole = self.layout.files().get(file).is_some_and(|file| file.len == len);
                let last = offset.saturating_add(len).saturating_sub(1);
                WebRequest {
                    url: url.unwrap_or_else(|| file_url(&self.url, &self.layout, file)),
                    range: (!is_whole).then_some(offset..=last),
                    is_redirected,
                }
            }
            Part::Piece { piece, offset, len } => {
                let is_whole = u64::from(self.layout.len_of(piece)) == len;
                let first = u64::from(offset);
                let part = first..=first.saturating_add(len).saturating_sub(1);
                let part = (!is_whole).then_some(part);
                let own = || piece_url(&self.url, self.info_hash, piece, part);
                WebRequest { url: url.unwrap_or_else(own), range: None, is_redirected }
            }
            Part::Pad { .. } => WebRequest { url: self.url.clone(), range: None, is_redirected },
        }
    }

    fn follow(&mut self, url: String, part: Part, redirects: u32) {
        if let State::Fetching(fetch) = &mut self.state {
            fetch.phase = Phase::Asked { redirects };
        }
        self.moved = file_of(part).map(|file| (file, url.clone()));
        let request = self.request(part, Some(url));
        self.outputs.push_back(WebSeedOutput::Get(request));
    }

    /// All of the run is here. The next is as long as comes in several seconds.
    fn finish(&mut self, now: Instant) {
        let State::Fetching(fetch) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let took = now.saturating_duration_since(fetch.began_at);
        if took < RUN_MIN {
            self.run_len = self.run_len.saturating_mul(2).min(RUN_LEN_MAX);
        } else if took > RUN_MAX {
            self.run_len = self.run_len.checked_div(2).unwrap_or(0).max(RUN_LEN_FIRST);
        }
        self.failures = 0;
        self.fault = None;
        self.outputs.push_back(WebSeedOutput::RunOver);
    }

    /// The server wants to be left alone, for so many seconds if it says so.
    fn wait(&mut self, now: Instant, fault: WebSeedFault, seconds: Option<u64>) {
        self.failures = self.failures.saturating_add(1);
        let asked = seconds
            .map(|seconds| Duration::from_secs(seconds).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX));
        let time = asked.unwrap_or_else(|| patience(self.failures).max(RETRY_AFTER_UNKNOWN));
        self.give_up(now, fault, time);
    }

    fn fail(&mut self, now: Instant, fault: WebSeedFault) {
        let State::Fetching(fetch) = &self.state else { return };
        let (has_brought_any, part) = (fetch.has_brought_any, fetch.parts.front().copied());
        self.moved = None;
        let is_of_file = match &fault {
            WebSeedFault::BadUrl | WebSeedFault::Lied => return self.drop_out(fault),
            WebSeedFault::Status(401 | 403 | 404 | 410 | 416)
            | WebSeedFault::NoRanges
            | WebSeedFault::WrongLen
            | WebSeedFault::Encoded => true,
            WebSeedFault::Status(_)
            | WebSeedFault::Unreachable(_)
            | WebSeedFault::Silent
            | WebSeedFault::Cut
            | WebSeedFault::Redirects
            | WebSeedFault::WrongRange => false,
        };
        if is_of_file {
            match part.and_then(file_of) {
                Some(file) => self.mark_lacking(file),
                None => return self.drop_out(fault),
            }
            if self.lacks.as_ref().is_some_and(Bitfield::is_all) {
                return self.drop_out(fault);
            }
        }
        self.failures = if has_brought_any { 0 } else { self.failures.saturating_add(1) };
        let time = match self.failures {
            0 => RETRY_SOON,
            // One file less: there may be others.
            failures if is_of_file && failures <= MISSES_MAX => Duration::ZERO,
            failures => patience(failures),
        };
        self.give_up(now, fault, time);
    }

    fn mark_lacking(&mut self, file: usize) {
        let count = self.layout.piece_count();
        let lacks = self.lacks.get_or_insert_with(|| Bitfield::none(count));
        for piece in self.layout.file_pieces(file).map(PieceIndex) {
            lacks.set(piece);
        }
    }

    fn give_up(&mut self, now: Instant, fault: WebSeedFault, time: Duration) {
        self.state = State::Waiting(now.checked_add(time).unwrap_or(now));
        self.fault = Some(fault.clone());
        self.outputs.extend([WebSeedOutput::RunOver, WebSeedOutput::Failed(fault)]);
    }

    fn drop_out(&mut self, fault: WebSeedFault) {
        if matches!(self.state, State::Dropped) {
            return;
        }
        self.state = State::Dropped;
        self.fault = Some(fault.clone());
        self.outputs.extend([WebSeedOutput::RunOver, WebSeedOutput::Failed(fault)]);
    }
}

/// The file that is asked for.
const fn file_of(part: Part) -> Option<usize> {
    match part {
        Part::File { file, .. } => Some(file),
        Part::Piece { .. } | Part::Pad { .. } => None,
    }
}

/// How long to leave a server alone that has failed so often in a row: 5 s, 10 s, 20 s … 10 minutes.
fn patience(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    PATIENCE_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(PATIENCE_MAX)
}

const REDIRECTS_MAX: u32 = 5;
/// What is read for nothing at most, from a server that sends whole files only.
const SKIP_MAX: u64 = 1024 * 1024;
/// Digits of a number of seconds.
const DIGITS_MAX: usize = 8;
const RUN_LEN_FIRST: u64 = 1024 * 1024;
/// Long enough for the fastest server, and no more than that is kept from others.
const RUN_LEN_MAX: u64 = 64 * 1024 * 1024;
const RUN_MIN: Duration = Duration::from_secs(5);
const RUN_MAX: Duration = Duration::from_secs(20);
/// No whole block in so long.
const STALLED_AFTER: Duration = Duration::from_secs(30);
const RETRY_SOON: Duration = Duration::from_secs(1);
const PATIENCE_FIRST: Duration = Duration::from_secs(5);
const PATIENCE_MAX: Duration = Duration::from_secs(600);
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(60);
/// Files in a row that are missed without a pause.
const MISSES_MAX: u32 = 8;

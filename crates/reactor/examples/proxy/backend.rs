//! A backend's side: which one is asked, and how its answer goes to the client.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use httparse::{EMPTY_HEADER, Response, Status};
use reactor::{ConnectOptions, Handler, HandlerError, Read, Reason, Token};

use crate::client::{Answer, Asked, Client, Upload, part};
use crate::http::{
    Body, Chunked, FIELDS_MAX, Framing, HEAD_MAX, copy_fields, framing, head_end, is_persistent,
};
use crate::{Loop, Outcome, Proxy};

/// Those that answer.
pub(crate) struct Pool {
    backends: Vec<Backend>,
    /// Who is asked next among those that are equally busy.
    next: usize,
}

struct Backend {
    addr: SocketAddr,
    /// Connections that wait for a request, the latest last.
    idle: Vec<Token>,
    busy: usize,
    down_until: Option<Instant>,
}

impl Pool {
    pub(crate) fn new(addrs: Vec<SocketAddr>) -> Self {
        let backend = |addr| Backend { addr, idle: Vec::new(), busy: 0, down_until: None };
        Self { backends: addrs.into_iter().map(backend).collect(), next: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The least busy of those that are up.
    fn pick(&mut self, now: Instant) -> Option<usize> {
        let count = self.backends.len();
        let is_up = |index: &usize| self.backends[*index].down_until.is_none_or(|at| at <= now);
        let order = (self.next..self.next + count).map(|index| index % count);
        let picked = order.filter(is_up).min_by_key(|index| self.backends[*index].busy)?;
        self.next = picked + 1;
        Some(picked)
    }
}

/// A request and its answer; both sides have it.
pub(crate) struct Exchange {
    pub(crate) client: Token,
    /// The request's head, for the backend.
    pub(crate) head: Bytes,
    pub(crate) asked: Asked,
    /// It may be sent again if a connection turns out to be dead.
    pub(crate) is_repeatable: bool,
    /// What is left of the request.
    pub(crate) body: Cell<Body>,
    pub(crate) phase: Cell<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client has got nothing.
    Asked,
    /// It has got a head, perhaps more.
    Answering,
    /// All is said, or the client is gone.
    Over,
}

/// Sends a request to a backend that is up; if there is none, the answer is `otherwise`.
pub(crate) fn forward(
    exchange: &Rc<Exchange>,
    otherwise: Answer,
    state: &mut Proxy,
    reactor: &mut Loop,
) {
    while let Some(index) = state.pool.pick(reactor.now()) {
        let backend = &mut state.pool.backends[index];
        let mut fetch = Fetch {
            index,
            exchange: Rc::clone(exchange),
            stage: Stage::Connecting,
            is_reused: false,
            is_persistent: false,
        };
        let head = exchange.head.clone();
        let client = exchange.client;
        let token = if let Some(token) = backend.idle.pop() {
            if reactor.write(token, head).is_err() {
                continue;
            }
            (fetch.stage, fetch.is_reused) = (Stage::Head(Vec::new()), true);
            reactor.set_handler(token, Box::new(fetch));
            reactor.set_idle_timeout(token, Some(ANSWER_MAX));
            reactor.resume(client);
            token
        } else {
            let options = ConnectOptions { timeout: CONNECT_MAX, ..ConnectOptions::default() };
            let Ok(token) = reactor.connect(backend.addr, &options, Box::new(fetch)) else {
                backend.down_until = Some(reactor.now() + DOWN);
                continue;
            };
            reactor.set_water(token, 1, 0);
            reactor.write(token, head).ok();
            // Its body waits until it is known who takes it.
            reactor.pause(client);
            token
        };
        backend.busy += 1;
        // Longer than a backend's, so that the client hears of that.
        reactor.set_idle_timeout(client, Some(ANSWER_MAX + CONNECT_MAX));
        let exchange = Rc::clone(exchange);
        reactor.set_handler(client, Box::new(Upload { backend: token, exchange }));
        return;
    }
    fail(exchange, otherwise, reactor);
}

/// Answers in the backend's place, or breaks off the answer that it has begun.
pub(crate) fn fail(exchange: &Exchange, answer: Answer, reactor: &mut Loop) {
    let asked = Asked { is_persistent: false, ..exchange.asked };
    reactor.set_handler(exchange.client, Box::new(Client::default()));
    match exchange.phase.replace(Phase::Over) {
        Phase::Asked => answer.send(exchange.client, asked, reactor).unwrap_or_default(),
        Phase::Answering => part(exchange.client, reactor),
        Phase::Over => {}
    }
}

/// A backend's connection while it has a request.
struct Fetch {
    index: usize,
    exchange: Rc<Exchange>,
    stage: Stage,
    /// It has answered before.
    is_reused: bool,
    /// It goes on after this answer.
    is_persistent: bool,
}

enum Stage {
    Connecting,
    Head(Vec<u8>),
    Body(Body),
}

impl Fetch {
    /// Passes on the heads that have come and what of the body came with them. Returns how many bytes
    /// were too many.
    fn begin(
        &mut self,
        mut bytes: Bytes,
        state: &Proxy,
        reactor: &mut Loop,
    ) -> Result<usize, HandlerError> {
        let (client, mut asked) = (self.exchange.client, self.exchange.asked);
        while let Some(end) = head_end(&bytes)? {
            let head = bytes.split_to(end);
            let mut fields = [EMPTY_HEADER; FIELDS_MAX];
            let mut response = Response::new(&mut fields);
            let (Status::Complete(_), Some(code), Some(version)) =
                (response.parse(&head)?, response.code, response.version)
            else {
                return Err("its head is malformed".into());
            };
            let fields = &*response.headers;
            let framing = framing(fields)?;
            let is_interim = code < 200;
            let (body, framing) = match framing {
                // It was asked to change the protocol by nobody.
                _ if code == 101 => return Err("it speaks another protocol".into()),
                _ if is_interim || code == 204 => (Body::Length(0), Framing::Unsaid),
                framing if asked.is_head || code == 304 => (Body::Length(0), framing),
                Framing::Length(len) => (Body::Length(len), framing),
                Framing::Chunked => (Body::Chunked(Chunked::Size(None)), framing),
                Framing::Unsaid => (Body::UntilClose, framing),
            };
            let reason = response.reason.unwrap_or_default();
            let mut out = format!("HTTP/1.1 {code} {reason}\r\n").into_bytes();
            copy_fields(&mut out, fields, framing);
            if is_interim {
                if asked.minor_version == 1 {
                    out.extend(b"\r\n");
                    reactor.write(client, out)?;
                }
                continue;
            }
            self.is_persistent = is_persistent(version, fields);
            asked.is_persistent &= !state.is_stopping && !matches!(body, Body::UntilClose);
            out.extend(asked.connection().bytes());
            out.extend(b"\r\n");
            reactor.write(client, out)?;
            self.exchange.phase.set(Phase::Answering);
            let mut body = body;
            let taken = body.take(&bytes)?;
            let surplus = bytes.len() - taken;
            bytes.truncate(taken);
            reactor.write(client, bytes)?;
            self.stage = Stage::Body(body);
            return Ok(surplus);
        }
        if bytes.len() >= HEAD_MAX {
            return Err("its head is too long".into());
        }
        self.stage = Stage::Head(bytes.into());
        Ok(0)
    }

    /// The answer is complete.
    fn finish(&self, token: Token, is_clean: bool, state: &mut Proxy, reactor: &mut Loop) {
        let is_uploaded = self.exchange.body.get().is_done();
        self.exchange.phase.set(Phase::Over);
        let backend = &mut state.pool.backends[self.index];
        let is_kept = is_clean && self.is_persistent && is_uploaded && !state.is_stopping;
        if is_kept && backend.idle.len() < IDLE_MAX {
            backend.busy -= 1;
            backend.idle.push(token);
            reactor.set_idle_timeout(token, Some(IDLE));
            reactor.set_handler(token, Box::new(Idle { index: self.index }));
        } else {
            reactor.close(token, "the answer is complete");
        }
        let client = self.exchange.client;
        reactor.set_handler(client, Box::new(Client::default()));
        reactor.set_idle_timeout(client, Some(IDLE));
        let is_until_close = matches!(self.stage, Stage::Body(Body::UntilClose));
        let asked = self.exchange.asked;
        if !asked.is_persistent || !is_uploaded || is_until_close || state.is_stopping {
            part(client, reactor);
        } else if reactor.is_full(client) {
            reactor.pause(client);
        } else {
            reactor.resume(client);
        }
    }
}

impl Handler<Proxy> for Fetch {
    fn connected(&mut self, token: Token, _: &mut Proxy, reactor: &mut Loop) -> Outcome {
        self.stage = Stage::Head(Vec::new());
        reactor.set_idle_timeout(token, Some(ANSWER_MAX));
        reactor.resume(self.exchange.client);
        Ok(())
    }

    fn readable(&mut self, token: Token, state: &mut Proxy, reactor: &mut Loop) -> Outcome {
        let client = self.exchange.client;
        loop {
            let count = match reactor.read(token, &mut state.buffer)? {
                Read::Data(count) => count,
                Read::WouldBlock => return Ok(()),
                Read::Eof if matches!(self.stage, Stage::Body(Body::UntilClose)) => {
                    self.finish(token, false, state, reactor);
                    return Ok(());
                }
                Read::Eof => return Err("it ended before its answer did".into()),
            };
            let bytes = &state.buffer[..count];
            let surplus = match &mut self.stage {
                Stage::Body(body) => {
                    let taken = body.take(bytes)?;
                    reactor.write_now(client, &bytes[..taken])?;
                    count - taken
                }
                Stage::Head(head) => {
                    head.extend_from_slice(bytes);
                    let bytes = Bytes::from(std::mem::take(head));
                    self.begin(bytes, state, reactor)?
                }
                Stage::Connecting => return Err("it answers before it is there".into()),
            };
            if matches!(&self.stage, Stage::Body(body) if body.is_done()) {
                self.finish(token, surplus == 0, state, reactor);
                return Ok(());
            }
            if reactor.is_full(client) {
                // Until its queue has gone out, silence is the client's fault.
                reactor.set_idle_timeout(token, None);
                reactor.pause(token);
                return Ok(());
            }
            if count < state.buffer.len() {
                return Ok(());
            }
        }
    }

    fn drained(&mut self, _: Token, _: &mut Proxy, reactor: &mut Loop) -> Outcome {
        reactor.resume(self.exchange.client);
        Ok(())
    }

    fn closed(&mut self, _: Token, reason: Reason, state: &mut Proxy, reactor: &mut Loop) {
        let backend = &mut state.pool.backends[self.index];
        backend.busy -= 1;
        let exchange = &self.exchange;
        if exchange.phase.get() == Phase::Over {
            return;
        }
        let is_silent = matches!(&self.stage, Stage::Head(head) if head.is_empty());
        let is_connecting = matches!(self.stage, Stage::Connecting);
        let is_stale = is_silent && self.is_reused && !matches!(reason, Reason::Timeout);
        let answer = match reason {
            Reason::Timeout if is_connecting || exchange.body.get().is_done() => {
                Answer::text("504 Gateway Timeout", "the backend took too long")
            }
            Reason::Timeout => Answer::text("408 Request Timeout", "its body did not come"),
            reason => Answer::text("502 Bad Gateway", &format!("the backend failed: {reason}")),
        };
        if is_connecting {
            backend.down_until = Some(reactor.now() + DOWN);
            forward(exchange, answer, state, reactor);
        } else if is_stale && exchange.is_repeatable {
            // It was closed for being idle, just as we came.
            forward(exchange, answer, state, reactor);
        } else {
            fail(exchange, answer, reactor);
        }
    }
}

/// A backend's connection between requests.
struct Idle {
    index: usize,
}

impl Handler<Proxy> for Idle {
    fn readable(&mut self, token: Token, state: &mut Proxy, reactor: &mut Loop) -> Outcome {
        // Its end, or what nobody asked for; or nothing, if it was its latest answer that woke us.
        if reactor.read(token, &mut state.buffer)? != Read::WouldBlock {
            reactor.close(token, "it had nothing to say");
        }
        Ok(())
    }

    fn closed(&mut self, token: Token, _: Reason, state: &mut Proxy, _: &mut Loop) {
        state.pool.backends[self.index].idle.retain(|idle| *idle != token);
    }

    fn kind(&self) -> &'static str {
        IDLE_BACKEND
    }
}

pub(crate) const IDLE_BACKEND: &str = "idle backend";
/// How long a connection may be silent between requests.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How long one may be silent during a request.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For how long a backend that cannot be reached is left alone.
const DOWN: Duration = Duration::from_secs(2);
/// Connections to one backend that are kept for later; those beyond are closed.
const IDLE_MAX: usize = 256;

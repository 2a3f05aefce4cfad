//! A client's side: requests are read one after another, what follows one is put back until that is
//! answered.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use httparse::{EMPTY_HEADER, Request, Status};
use reactor::{Chunk, Closed, Handler, Read, Reason, Token};

use crate::backend::{Exchange, Phase, fail, forward};
use crate::http::{
    Body, FIELDS_MAX, Framing, HEAD_MAX, copy_fields, framing, head_end, is_persistent,
};
use crate::{Loop, Outcome, Proxy, files};

/// A client whose next request is awaited.
#[derive(Default)]
pub(crate) struct Client {
    head: Vec<u8>,
}

impl Handler<Proxy> for Client {
    fn readable(&mut self, token: Token, state: &mut Proxy, reactor: &mut Loop) -> Outcome {
        let room = HEAD_MAX - self.head.len();
        match reactor.read(token, &mut state.buffer[..room])? {
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                part(token, reactor);
                return Ok(());
            }
            Read::Data(count) => {
                if self.head.is_empty() {
                    reactor.set_deadline(token, Some(reactor.now() + REQUEST_MAX));
                }
                self.head.extend_from_slice(&state.buffer[..count]);
            }
        }
        let refusal = match head_end(&self.head) {
            Ok(Some(end)) => {
                let rest = self.head.split_off(end);
                reactor.unread(token, rest)?;
                reactor.set_deadline(token, None);
                let head = std::mem::take(&mut self.head);
                match serve(token, &head, state, reactor) {
                    Ok(()) => return Ok(()),
                    Err(refusal) => refusal,
                }
            }
            Ok(None) if self.head.len() < HEAD_MAX => return Ok(()),
            Ok(None) => Answer::text(TOO_LARGE, "16 KiB are enough"),
            Err(why) => Answer::text(BAD_REQUEST, why),
        };
        Ok(refusal.send(token, Asked::default(), reactor)?)
    }

    fn drained(&mut self, token: Token, _: &mut Proxy, reactor: &mut Loop) -> Outcome {
        reactor.resume(token);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, state: &mut Proxy, reactor: &mut Loop) {
        state.client_ended(reactor);
    }

    fn kind(&self) -> &'static str {
        if self.head.is_empty() { IDLE_CLIENT } else { "client" }
    }
}

/// What of a request decides how it is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) is_head: bool,
    /// The client wants to go on afterwards.
    pub(crate) is_persistent: bool,
    pub(crate) minor_version: u8,
}

impl Asked {
    /// The field that says whether the connection goes on, where that does not go without saying.
    pub(crate) const fn connection(self) -> &'static str {
        match (self.is_persistent, self.minor_version) {
            (true, 1) => "",
            (true, _) => "Connection: keep-alive\r\n",
            (false, _) => "Connection: close\r\n",
        }
    }
}

fn serve(token: Token, head: &[u8], state: &mut Proxy, reactor: &mut Loop) -> Result<(), Answer> {
    let bad = |why| Answer::text(BAD_REQUEST, why);
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(bad("it ends within a field")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Answer::text(TOO_LARGE, "100 fields are enough"));
        }
        Err(_) => return Err(bad("its head is malformed")),
    }
    let (Some(method), Some(target), Some(minor_version)) =
        (request.method, request.path, request.version)
    else {
        return Err(bad("its first line is malformed"));
    };
    let fields = &*request.headers;
    let framing = framing(fields).map_err(bad)?;
    let hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
    if hosts > 1 || hosts == 0 && minor_version == 1 {
        return Err(bad("it does not name one host"));
    }
    if minor_version == 0 && framing == Framing::Chunked {
        return Err(bad("HTTP/1.0 knows no chunks"));
    }
    if method == "CONNECT" {
        // What follows an answer to that is no message any more.
        return Err(bad("here is no way through"));
    }
    if !target.starts_with('/') && (method, target) != ("OPTIONS", "*") {
        return Err(bad("its target is not a path"));
    }
    let mut asked = Asked {
        is_head: method == "HEAD",
        is_persistent: is_persistent(minor_version, fields) && !state.is_stopping,
        minor_version,
    };
    let body = match framing {
        Framing::Unsaid => Body::Length(0),
        Framing::Length(len) => Body::Length(len),
        Framing::Chunked => Body::Chunked(crate::http::Chunked::Size(None)),
    };
    let path = target.split('?').next().unwrap_or_default();
    let file = if state.pool.is_empty() {
        Some(path)
    } else {
        path.strip_prefix("/static").filter(|path| path.starts_with('/'))
    };
    if let (Some(root), Some(path)) = (&state.root, file) {
        // A body that nobody wants is not waited for.
        asked.is_persistent &= body.is_done();
        let answer = files::answer(root, method, path, fields);
        return answer.send(token, asked, reactor).or(Ok(()));
    }
    let mut head = format!("{method} {target} HTTP/1.{minor_version}\r\n").into_bytes();
    copy_fields(&mut head, fields, framing);
    let known = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("x-forwarded-for"));
    head.extend(b"X-Forwarded-For: ");
    for field in known {
        head.extend(field.value);
        head.extend(b", ");
    }
    let peer = reactor.peer_addr(token).map(|addr| addr.ip().to_string());
    head.extend(peer.as_deref().unwrap_or("unknown").bytes());
    head.extend(b"\r\n\r\n");
    let exchange = Exchange {
        client: token,
        head: Bytes::from(head),
        asked,
        is_repeatable: body.is_done() && REPEATABLE.contains(&method),
        body: Cell::new(body),
        phase: Cell::new(Phase::Asked),
    };
    let otherwise = Answer::text("503 Service Unavailable", "no backend is up");
    forward(&Rc::new(exchange), otherwise, state, reactor);
    Ok(())
}

/// A client whose request is with a backend. It is read on, so that we hear if it goes away; as with
/// other proxies, one that says it will send nothing more counts as gone.
pub(crate) struct Upload {
    pub(crate) backend: Token,
    pub(crate) exchange: Rc<Exchange>,
}

impl Handler<Proxy> for Upload {
    fn readable(&mut self, token: Token, state: &mut Proxy, reactor: &mut Loop) -> Outcome {
        loop {
            let count = match reactor.read(token, &mut state.buffer)? {
                Read::Data(count) => count,
                Read::WouldBlock => return Ok(()),
                Read::Eof => {
                    reactor.close(token, "the client went away");
                    return Ok(());
                }
            };
            let bytes = &state.buffer[..count];
            let mut body = self.exchange.body.get();
            let taken = match body.take(bytes) {
                Ok(taken) => taken,
                Err(why) => {
                    fail(&self.exchange, Answer::text(BAD_REQUEST, why), reactor);
                    reactor.close(self.backend, "the request is malformed");
                    return Ok(());
                }
            };
            self.exchange.body.set(body);
            if taken > 0 {
                // A backend that is gone is told of elsewhere.
                reactor.write_now(self.backend, &bytes[..taken]).ok();
            }
            if taken < count {
                // The next request; it waits until this one is answered.
                reactor.unread(token, Bytes::copy_from_slice(&bytes[taken..]))?;
            }
            if taken < count || reactor.is_full(self.backend) {
                reactor.pause(token);
                return Ok(());
            }
            if count < state.buffer.len() {
                return Ok(());
            }
        }
    }

    fn drained(&mut self, _: Token, _: &mut Proxy, reactor: &mut Loop) -> Outcome {
        reactor.set_idle_timeout(self.backend, Some(crate::backend::ANSWER_MAX));
        reactor.resume(self.backend);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, state: &mut Proxy, reactor: &mut Loop) {
        self.exchange.phase.set(Phase::Over);
        reactor.close(self.backend, "the client went away");
        state.client_ended(reactor);
    }
}

/// An answer of our own.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    /// Lines, each with its end.
    pub(crate) fields: String,
    pub(crate) body: Chunk,
}

impl Answer {
    pub(crate) fn text(status: &'static str, why: &str) -> Self {
        let fields = "Content-Type: text/plain; charset=utf-8\r\n".into();
        Self { status, fields, body: format!("{status}: {why}\n").into() }
    }

    pub(crate) fn send(self, token: Token, asked: Asked, reactor: &mut Loop) -> Result<(), Closed> {
        let Self { status, fields, body } = self;
        let (date, connection) = (files::http_date(SystemTime::now()), asked.connection());
        let mut head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}{connection}");
        if !status.starts_with("304") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        reactor.write(token, head + "\r\n")?;
        if !asked.is_head {
            reactor.write(token, body)?;
        }
        if asked.is_persistent {
            // The next request is read when this answer has gone out.
            reactor.pause(token);
        } else {
            part(token, reactor);
        }
        Ok(())
    }
}

/// Says goodbye when all is written. How long that may take is left to the idle timeout.
pub(crate) fn part(token: Token, reactor: &mut Loop) {
    reactor.pause(token);
    reactor.close_after_flush(token, Duration::from_secs(86_400));
}

pub(crate) const IDLE_CLIENT: &str = "idle client";
pub(crate) const BAD_REQUEST: &str = "400 Bad Request";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";
/// Methods that may reach a backend twice (RFC 9110, section 9.2.2).
const REPEATABLE: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
/// How long a request's head may take from its first byte on.
const REQUEST_MAX: Duration = Duration::from_secs(20);

//! Takes announces to trackers and brings back what they say.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Reactor, TimerId};
use torrent::locality::is_local;
use torrent::proxy::Target;
use torrent::swarm::Source;
use torrent::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, AnnouncerOutput, RequestId, ScrapeEntry,
    TrackerFault, TrackerRequest, UdpOutput, UdpTracker, UdpUrl, http,
};
use torrent::{Rng, Witness};

use crate::engine::Engine;
use crate::event::{EventKind, EventMask, FilterPoint};
use crate::http::{Http, HttpError};
use crate::http_client::{Bounds, Family};
use crate::nat;
use crate::relay::no_datagrams;
use crate::task::{Task, TaskId};

/// A conversation with a UDP tracker.
#[derive(Debug)]
pub(crate) struct UdpExchange {
    number: u64,
    question: Question,
    /// A name only if the proxy looks it up.
    target: Target,
    core: UdpTracker,
    timer: Option<TimerId>,
}

/// What of which torrent an answer is for.
#[derive(Clone, Debug)]
struct Question {
    id: TaskId,
    url: String,
    /// `None` for a scrape.
    announce: Option<(RequestId, AnnounceEvent)>,
    /// It goes along with another that counts: the second name of a hybrid torrent, or the same over the other
    /// family of addresses, as BEP 7 has it. Of its answer the peers are taken, and nothing else.
    is_extra: bool,
}

/// What a tracker says.
#[derive(Debug)]
enum Answer {
    Announced(AnnounceReply),
    /// `None` if it knows no such torrent.
    Scraped(Option<ScrapeEntry>),
}

impl Engine {
    /// Sends what is due to the trackers of a torrent, and comes back when more is.
    pub(crate) fn drive_trackers(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let port = self.announced_port(nat::Family::V4);
        while let Some(task) = self.tasks.get_mut(&id) {
            let Some(output) = task.announcer.poll_output(now) else { break };
            match output {
                AnnouncerOutput::Announce { id: request, url, event, tracker_id, numwant } => {
                    let event = match event {
                        AnnounceEvent::None if task.is_partial_seed() => AnnounceEvent::Paused,
                        // It was so when it could not be told.
                        AnnounceEvent::Completed if task.left() > 0 => AnnounceEvent::None,
                        event => event,
                    };
                    let announce = AnnounceRequest {
                        info_hash: task.info_hash(),
                        peer_id: task.identity.peer_id,
                        port,
                        uploaded: task.this_run.1 + task.swarm.uploaded(),
                        downloaded: task.this_run.0 + task.swarm.downloaded(),
                        left: task.left(),
                        event,
                        numwant,
                        key: task.identity.key,
                        tracker_id,
                        encryption: self.config.encryption.announced(),
                    };
                    let second = task.metainfo.info_hashes().on_the_wire().nth(1);
                    let second = second.map(|info_hash| AnnounceRequest {
                        info_hash,
                        tracker_id: None,
                        ..announce.clone()
                    });
                    let question = Question {
                        id,
                        url: url.clone(),
                        announce: Some((request, event)),
                        is_extra: false,
                    };
                    let first = TrackerRequest::Announce(Box::new(announce));
                    self.ask_tracker(question, first, reactor);
                    if let Some(second) = second {
                        let question = Question { id, url, announce: None, is_extra: true };
                        let second = TrackerRequest::Announce(Box::new(second));
                        self.ask_tracker(question, second, reactor);
                    }
                }
                AnnouncerOutput::Scrape { url } => {
                    let request = TrackerRequest::Scrape(vec![task.info_hash()]);
                    let question = Question { id, url, announce: None, is_extra: false };
                    self.ask_tracker(question, request, reactor);
                }
                AnnouncerOutput::Peers(addrs) => {
                    self.add_addresses(id, &addrs, Source::Tracker, reactor);
                }
            }
        }
        self.note_activity(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.is_running() && !task.swarm.is_completed() && task.connections.is_empty() {
            // Nobody is there: sooner than its interval, as soon as the tracker allows.
            task.announcer.announce_now(now);
        }
        if let Some(before) = task.announce_timer.take() {
            reactor.cancel_timer(before);
        }
        task.announce_timer = task.announcer.poll_timeout().map(|at| {
            reactor.add_timer(at, move |engine, reactor| engine.drive_trackers(id, reactor))
        });
    }

    /// Asks by whatever the address says.
    fn ask_tracker(
        &mut self,
        question: Question,
        request: TrackerRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let scheme = question.url.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" if self.has_filter() && self.proxy_of_trackers().is_none() => {
                self.ask_by_http_if_allowed(question, request, reactor);
            }
            "http" | "https" => self.ask_by_http(question, request, reactor),
            "udp" => self.ask_by_udp(question, request, reactor),
            _ => self.answer_later(question, Err(TrackerFault::UnsupportedScheme), reactor),
        }
    }

    /// Looks first where the tracker is: none of its addresses may be filtered, since any of them may be
    /// the one that is used.
    fn ask_by_http_if_allowed(
        &mut self,
        question: Question,
        request: TrackerRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let Some((host, port)) = http_host(&question.url) else {
            let fault = TrackerFault::Unreachable("not a valid address".to_owned());
            return self.answer_later(question, Err(fault), reactor);
        };
        self.resolve(&host, port, reactor, move |found, engine, reactor| {
            let addrs = found.map_err(|error| TrackerFault::Unreachable(error.to_string()));
            let allowed = addrs.and_then(|addrs| {
                let is_allowed = addrs.iter().all(|&addr| engine.may_ask(&question, addr));
                is_allowed.then_some(()).ok_or_else(filtered)
            });
            match allowed {
                Ok(()) => engine.ask_by_http(question, request, reactor),
                Err(fault) => engine.tracker_answered(&question, Err(fault), reactor),
            }
        });
    }

    /// Whether the filter lets us ask a tracker at this address.
    fn may_ask(&self, question: &Question, addr: SocketAddr) -> bool {
        let torrent = self.tasks.get(&question.id).map(Task::info_hash);
        self.may_talk_to(torrent, addr, FilterPoint::Tracker)
    }

    fn ask_by_http(
        &mut self,
        question: Question,
        request: TrackerRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let is_announce = matches!(request, TrackerRequest::Announce(_));
        if is_announce && self.has_both_families() && self.proxy_of_trackers().is_none() {
            let extra = Question { is_extra: true, ..question.clone() };
            self.ask_by_http_over(Family::Second, extra, request.clone(), reactor);
        }
        self.ask_by_http_over(Family::First, question, request, reactor);
    }

    /// Whether we are to be reached over IPv4 and over IPv6.
    fn has_both_families(&self) -> bool {
        let has = |is_ipv4| self.udp.iter().any(|(local, _)| local.is_ipv4() == is_ipv4);
        has(true) && has(false)
    }

    fn ask_by_http_over(
        &mut self,
        family: Family,
        question: Question,
        request: TrackerRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let url = |request: &TrackerRequest| match request {
            TrackerRequest::Announce(announce) => Some(http::announce_url(&question.url, announce)),
            TrackerRequest::Scrape(hashes) => http::scrape_url(&question.url, hashes),
        };
        let is_running = |task: &Task| task.announcer.is_running();
        let is_farewell = matches!(request, TrackerRequest::Announce(_))
            && !self.tasks.get(&question.id).is_some_and(is_running);
        let patience = if is_farewell { FAREWELL_PATIENCE } else { PATIENCE };
        // Which family it is asked over shows when its name is looked up.
        let urls = url(&request).zip(url(&self.over_ipv6(request.clone())));
        let Some((url, url_v6)) = urls else {
            let fault = TrackerFault::Unreachable("its address allows no scrape".to_owned());
            return self.answer_later(question, Err(fault), reactor);
        };
        let (remote, asked) = (reactor.remote(), question.clone());
        let bounds = self.bounds(question.id, &question.url);
        let http = match self.http() {
            Ok(http) => http,
            Err(error) => return self.answer_later(question, Err(fault(error)), reactor),
        };
        http.get([&url, &url_v6], bounds, family, http::REPLY_LEN_MAX, patience, move |body| {
            let read_len = body.as_ref().ok().map(Vec::len);
            let answer = body.map_err(fault).and_then(|body| match &request {
                TrackerRequest::Announce(_) => http::parse_announce(&body).map(Answer::Announced),
                TrackerRequest::Scrape(hashes) => {
                    let counts = http::parse_scrape(&body)?;
                    let ours = counts.into_iter().find(|(hash, _)| hashes.contains(hash));
                    Ok(Answer::Scraped(ours.map(|(_, counts)| counts)))
                }
            });
            let posted = remote.post(move |engine: &mut Self, reactor: &mut Reactor<Self>| {
                if let Some(len) = read_len {
                    engine.tell_contact(&question, |url| EventKind::TrackerRead { url, len });
                }
                engine.tell_contact(&question, |url| EventKind::TrackerDisconnected { url });
                engine.tracker_answered(&question, answer, reactor);
            });
            if posted.is_err() {
                tracing::trace!("a tracker answered after the session ended");
            }
        });
        self.tell_asked(&asked, url.len());
    }

    /// What to ask over IPv6, where our port may be another.
    fn over_ipv6(&self, request: TrackerRequest) -> TrackerRequest {
        match request {
            TrackerRequest::Announce(announce) => {
                let port = self.announced_port(nat::Family::V6);
                TrackerRequest::Announce(Box::new(AnnounceRequest { port, ..*announce }))
            }
            scrape @ TrackerRequest::Scrape(_) => scrape,
        }
    }

    /// A tracker is being sent so many bytes.
    fn tell_asked(&self, question: &Question, len: usize) {
        let event = question.announce.map(|(_, event)| event);
        self.tell_contact(question, |url| EventKind::TrackerConnected { url, event });
        self.tell_contact(question, |url| EventKind::TrackerWritten { url, len });
    }

    /// Something came from a tracker or went there.
    fn tell_contact(&self, question: &Question, kind: impl FnOnce(String) -> EventKind) {
        if self.subscribers.wants(EventMask::TRACKER_TRANSFER) && !question.is_extra {
            self.publish(question.id, &kind(question.url.clone()));
        }
    }

    pub(crate) fn http(&mut self) -> Result<&Http, HttpError> {
        if self.http.is_none() {
            let http = Http::new(self.config.http_options());
            self.http = Some(http.map_err(|error| HttpError::Unreachable(error.to_string()))?);
        }
        Ok(self.http.as_ref().expect("just made"))
    }

    fn ask_by_udp(
        &mut self,
        question: Question,
        request: TrackerRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(UdpUrl { host, port, url_data }) = UdpUrl::parse(&question.url) else {
            let fault = TrackerFault::Unreachable("not a valid address".to_owned());
            return self.answer_later(question, Err(fault), reactor);
        };
        if self.proxy_of_trackers().is_some() && self.has_relay(reactor.now()) {
            return match Target::new(&host, port) {
                Ok(target) => self.begin_udp(question, request, target, url_data, reactor),
                Err(error) => {
                    let fault = TrackerFault::Unreachable(error.to_string());
                    self.answer_later(question, Err(fault), reactor);
                }
            };
        }
        if self.config.is_strictly_proxied() {
            let fault = TrackerFault::Unreachable(no_datagrams().to_string());
            return self.answer_later(question, Err(fault), reactor);
        }
        let bounds = self.bounds(question.id, &question.url);
        self.resolve(&host, port, reactor, move |found, engine, reactor| {
            let found = found.map_err(|error| TrackerFault::Unreachable(error.to_string()));
            let may_ask = |addr: SocketAddr| {
                if bounds == Bounds::World && is_local(addr.ip()) {
                    return Err(fault(HttpError::Local));
                }
                if engine.may_ask(&question, addr) { Ok(addr) } else { Err(filtered()) }
            };
            let reachable = found.and_then(|addrs| {
                let ours = |addr: &&SocketAddr| {
                    engine.udp.iter().any(|(local, _)| local.is_ipv4() == addr.is_ipv4())
                };
                let addr = addrs.iter().find(ours).copied();
                let addr = addr.ok_or_else(|| {
                    TrackerFault::Unreachable("no address of a family that we have".to_owned())
                })?;
                let is_other = |other: &&SocketAddr| other.is_ipv4() != addr.is_ipv4();
                let second = addrs.iter().filter(is_other).find(ours).copied();
                Ok((may_ask(addr)?, second.and_then(|second| may_ask(second).ok())))
            });
            match reachable {
                Ok((addr, second)) => {
                    let is_announce = matches!(request, TrackerRequest::Announce(_));
                    if let Some(second) = second.filter(|_| is_announce) {
                        let extra = Question { is_extra: true, ..question.clone() };
                        let (request, target) = (request.clone(), Target::Addr(second));
                        engine.begin_udp(extra, request, target, url_data.clone(), reactor);
                    }
                    engine.begin_udp(question, request, Target::Addr(addr), url_data, reactor);
                }
                Err(fault) => engine.tracker_answered(&question, Err(fault), reactor),
            }
        });
    }

    fn begin_udp(
        &mut self,
        question: Question,
        request: TrackerRequest,
        target: Target,
        url_data: Vec<u8>,
        reactor: &mut Reactor<Self>,
    ) {
        let rng = Rng::from_seed(self.rng.u64());
        let is_ipv6 = matches!(target, Target::Addr(addr) if addr.is_ipv6());
        let request = if is_ipv6 { self.over_ipv6(request) } else { request };
        let core = UdpTracker::new(reactor.now(), rng, request, is_ipv6, url_data);
        let number = self.rng.u64();
        self.udp_exchanges.push(UdpExchange { number, question, target, core, timer: None });
        self.drive_udp(self.udp_exchanges.len() - 1, reactor);
    }

    /// A datagram came from somewhere: if a tracker is expected to answer from there, it is for it.
    pub(crate) fn tracker_datagram(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) {
        for at in (0..self.udp_exchanges.len()).rev() {
            // Where the proxy found the name nobody knows; the transaction's number tells whose an answer is.
            let is_for_it = match &self.udp_exchanges[at].target {
                Target::Addr(addr) => *addr == from,
                Target::Name(..) => true,
            };
            if is_for_it {
                let len = data.len();
                let question = &self.udp_exchanges[at].question;
                self.tell_contact(question, |url| EventKind::TrackerRead { url, len });
                let exchange = &mut self.udp_exchanges[at];
                exchange.core.set_ipv6(from.is_ipv6());
                exchange.core.handle_datagram(reactor.now(), data);
                self.drive_udp(at, reactor);
            }
        }
    }

    /// Sends what a conversation has to say, and ends it when it is over.
    fn drive_udp(&mut self, at: usize, reactor: &mut Reactor<Self>) {
        let target = self.udp_exchanges[at].target.clone();
        let is_proxied = self.proxy_of_trackers().is_some();
        let (mut outcome, mut sent_lens) = (None, Vec::new());
        while let Some(output) = self.udp_exchanges[at].core.poll_output() {
            match output {
                UdpOutput::Transmit(datagram) => {
                    sent_lens.push(datagram.len());
                    let sent = self.send_to_target(&target, is_proxied, &datagram, reactor);
                    if let Err(error) = sent {
                        outcome = Some(Err(TrackerFault::Unreachable(error.to_string())));
                    }
                }
                UdpOutput::Announced(reply) => outcome = Some(Ok(Answer::Announced(reply))),
                UdpOutput::Scraped(counts) => {
                    outcome = Some(Ok(Answer::Scraped(counts.first().copied())));
                }
                UdpOutput::Failed(fault) => outcome = Some(Err(fault)),
            }
        }
        if let Some(before) = self.udp_exchanges[at].timer.take() {
            reactor.cancel_timer(before);
        }
        for len in sent_lens {
            self.tell_asked(&self.udp_exchanges[at].question, len);
        }
        let exchange = &mut self.udp_exchanges[at];
        match outcome {
            Some(reply) => {
                let question = self.udp_exchanges.swap_remove(at).question;
                self.tell_contact(&question, |url| EventKind::TrackerDisconnected { url });
                self.tracker_answered(&question, reply, reactor);
            }
            None => {
                let number = exchange.number;
                exchange.timer = exchange.core.poll_timeout().map(|at| {
                    reactor.add_timer(at, move |engine, reactor| {
                        engine.udp_timeout(number, reactor);
                    })
                });
            }
        }
    }

    fn udp_timeout(&mut self, number: u64, reactor: &mut Reactor<Self>) {
        let is_it = |exchange: &UdpExchange| exchange.number == number;
        let Some(at) = self.udp_exchanges.iter().position(is_it) else { return };
        self.udp_exchanges[at].core.handle_timeout(reactor.now());
        self.drive_udp(at, reactor);
    }

    /// The proxy that was to carry what trackers are asked carries nothing any more.
    pub(crate) fn fail_udp_exchanges(&mut self, reactor: &mut Reactor<Self>) {
        if self.proxy_of_trackers().is_none() {
            return;
        }
        for exchange in std::mem::take(&mut self.udp_exchanges) {
            if let Some(timer) = exchange.timer {
                reactor.cancel_timer(timer);
            }
            let fault = TrackerFault::Unreachable(no_datagrams().to_string());
            self.answer_later(exchange.question, Err(fault), reactor);
        }
    }

    /// In the next turn, so that no answer comes before its question is done.
    fn answer_later(
        &self,
        question: Question,
        answer: Result<Answer, TrackerFault>,
        reactor: &mut Reactor<Self>,
    ) {
        reactor.add_timer(reactor.now(), move |engine, reactor| {
            engine.tracker_answered(&question, answer, reactor);
        });
    }

    fn tracker_answered(
        &mut self,
        question: &Question,
        answer: Result<Answer, TrackerFault>,
        reactor: &mut Reactor<Self>,
    ) {
        let Question { id, url, announce, is_extra } = question;
        if *is_extra {
            if let Ok(Answer::Announced(reply)) = answer {
                self.add_addresses(*id, &reply.peers, Source::Tracker, reactor);
            }
            return;
        }
        let Some(task) = self.tasks.get_mut(id) else { return };
        let now = reactor.now();
        match (announce, answer) {
            (Some((request, _)), Ok(Answer::Announced(reply))) => {
                let answered = EventKind::TrackerAnswered {
                    url: url.clone(),
                    peers: reply.peers.len(),
                    complete: reply.complete,
                    incomplete: reply.incomplete,
                    interval: reply.interval,
                };
                let warning = reply.warning.clone();
                let seen_as = reply.external_ip;
                task.announcer.handle_reply(now, *request, Ok(reply));
                self.publish(*id, &answered);
                if let Some(warning) = warning {
                    self.publish(*id, &EventKind::TrackerWarned { url: url.clone(), warning });
                }
                if let (Some(ours), Some((host, _))) = (seen_as, http_host(url)) {
                    self.seen_as(Witness::Tracker(host), ours);
                }
            }
            (Some((request, _)), Err(fault)) => {
                let status_code = match fault {
                    TrackerFault::HttpStatus(status) => Some(status),
                    _ => None,
                };
                let error = fault.to_string();
                task.announcer.handle_reply(now, *request, Err(fault));
                let failures = task.announcer.failures(url);
                self.publish(
                    *id,
                    &EventKind::TrackerFailed {
                        url: url.clone(),
                        error,
                        times_in_row: failures,
                        status_code,
                    },
                );
            }
            // A tracker need not count.
            (None, Ok(Answer::Scraped(counts))) => {
                task.announcer.handle_scrape(url, Ok(counts.unwrap_or_default()));
            }
            (None, Err(fault)) => task.announcer.handle_scrape(url, Err(fault)),
            (None, Ok(Answer::Announced(_))) | (Some(_), Ok(Answer::Scraped(_))) => {}
        }
        self.wake(*id);
        self.drive_trackers(*id, reactor);
        self.forget_if_told(*id);
    }
}

/// The host and port of an http or https address.
pub(crate) fn http_host(url: &str) -> Option<(String, u16)> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?))
}

fn filtered() -> TrackerFault {
    TrackerFault::Unreachable("the filter of addresses does not let us ask it".to_owned())
}

fn fault(error: HttpError) -> TrackerFault {
    match error {
        error @ (HttpError::Local | HttpError::OneFamily) => {
            TrackerFault::Unreachable(error.to_string())
        }
        HttpError::BadUrl => TrackerFault::Unreachable("not a valid address".to_owned()),
        HttpError::Unreachable(why) => TrackerFault::Unreachable(why),
        HttpError::Silent => TrackerFault::Silent,
        HttpError::Status(status) => TrackerFault::HttpStatus(status),
        HttpError::TooLong(_) => TrackerFault::TooLong,
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
/// A tracker that is told that we stop has no time to think about it.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);

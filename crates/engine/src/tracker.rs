//! Takes announces to trackers and brings back what they say.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Reactor, TimerId};
use torrent::Rng;
use torrent::swarm::Source;
use torrent::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, AnnouncerOutput, RequestId, TrackerFault,
    UdpOutput, UdpRequest, UdpTracker, UdpUrl, http,
};

use crate::engine::Engine;
use crate::event::EventKind;
use crate::http::{Http, HttpError};
use crate::task::TaskId;

/// A conversation with a UDP tracker.
#[derive(Debug)]
pub(crate) struct UdpExchange {
    question: Question,
    addr: SocketAddr,
    core: UdpTracker,
    timer: Option<TimerId>,
}

/// Which announce of which torrent an answer is for.
#[derive(Clone, Debug)]
struct Question {
    id: TaskId,
    request: RequestId,
    url: String,
}

impl Engine {
    /// Sends what is due to the trackers of a torrent, and comes back when more is.
    pub(crate) fn drive_trackers(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        while let Some(task) = self.tasks.get_mut(&id) {
            let Some(output) = task.announcer.poll_output(now) else { break };
            match output {
                AnnouncerOutput::Announce { id: request, url, event, tracker_id, numwant } => {
                    let announce = AnnounceRequest {
                        info_hash: task.info_hash(),
                        peer_id: self.peer_id,
                        port: self.port.unwrap_or(0),
                        uploaded: task.swarm.uploaded(),
                        downloaded: task.swarm.downloaded(),
                        left: task.left(),
                        event,
                        numwant,
                        key: self.key,
                        tracker_id,
                    };
                    self.announce(Question { id, request, url }, announce, reactor);
                }
                AnnouncerOutput::Peers(addrs) => {
                    self.add_addresses(id, &addrs, Source::Tracker, reactor);
                }
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let Some(before) = task.announce_timer.take() {
            reactor.cancel_timer(before);
        }
        task.announce_timer = task.announcer.poll_timeout().map(|at| {
            reactor.add_timer(at, move |engine, reactor| engine.drive_trackers(id, reactor))
        });
    }

    /// Whether any tracker still has to hear of something.
    pub(crate) fn is_announcing(&self) -> bool {
        self.tasks.values().any(|task| task.announcer.is_busy())
    }

    fn announce(
        &mut self,
        question: Question,
        announce: AnnounceRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let scheme = question.url.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => self.announce_by_http(question, &announce, reactor),
            "udp" => self.announce_by_udp(question, announce, reactor),
            _ => self.answer_later(question, Err(TrackerFault::UnsupportedScheme), reactor),
        }
    }

    fn announce_by_http(
        &mut self,
        question: Question,
        announce: &AnnounceRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let patience = patience(announce.event);
        let url = http::announce_url(&question.url, announce);
        let remote = reactor.remote();
        let http = match self.http() {
            Ok(http) => http,
            Err(fault) => return self.answer_later(question, Err(fault), reactor),
        };
        http.get(&url, http::REPLY_LEN_MAX, patience, move |body| {
            let reply = body.map_err(fault).and_then(|body| http::parse_announce(&body));
            let posted = remote.post(move |engine: &mut Self, reactor: &mut Reactor<Self>| {
                engine.tracker_answered(&question, reply, reactor);
            });
            if posted.is_err() {
                tracing::trace!("a tracker answered after the session ended");
            }
        });
    }

    fn http(&mut self) -> Result<&Http, TrackerFault> {
        if self.http.is_none() {
            let http = Http::new(&self.config.user_agent, self.config.listen.bind);
            self.http = Some(http.map_err(|error| TrackerFault::Unreachable(error.to_string()))?);
        }
        Ok(self.http.as_ref().expect("just made"))
    }

    fn announce_by_udp(
        &mut self,
        question: Question,
        announce: AnnounceRequest,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(UdpUrl { host, port, url_data }) = UdpUrl::parse(&question.url) else {
            let fault = TrackerFault::Unreachable("not a valid address".to_owned());
            return self.answer_later(question, Err(fault), reactor);
        };
        reactor.resolve(&host, port, move |found, engine, reactor| {
            let found = found.map_err(|error| TrackerFault::Unreachable(error.to_string()));
            let reachable = found.and_then(|addrs| {
                let ours = |addr: &SocketAddr| {
                    engine.udp.iter().any(|(local, _)| local.is_ipv4() == addr.is_ipv4())
                };
                let addr = addrs.into_iter().find(ours);
                addr.ok_or_else(|| {
                    TrackerFault::Unreachable("no address of a family that we have".to_owned())
                })
            });
            match reachable {
                Ok(addr) => {
                    let now = reactor.now();
                    let rng = Rng::from_seed(engine.rng.u64());
                    let request = UdpRequest::Announce(Box::new(announce));
                    let core = UdpTracker::new(now, rng, request, addr.is_ipv6(), url_data);
                    engine.udp_exchanges.push(UdpExchange { question, addr, core, timer: None });
                    engine.drive_udp(engine.udp_exchanges.len() - 1, reactor);
                }
                Err(fault) => engine.tracker_answered(&question, Err(fault), reactor),
            }
        });
    }

    /// A datagram came from somewhere: if a tracker is expected to answer from there, it is for it.
    pub(crate) fn tracker_datagram(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        for at in (0..self.udp_exchanges.len()).rev() {
            let exchange = &mut self.udp_exchanges[at];
            if exchange.addr == from {
                exchange.core.handle_datagram(reactor.now(), data);
                self.drive_udp(at, reactor);
            }
        }
    }

    /// Sends what a conversation has to say, and ends it when it is over.
    fn drive_udp(&mut self, at: usize, reactor: &mut Reactor<Self>) {
        let exchange = &mut self.udp_exchanges[at];
        let addr = exchange.addr;
        let mut outcome = None;
        while let Some(output) = exchange.core.poll_output() {
            match output {
                UdpOutput::Transmit(datagram) => {
                    let socket =
                        self.udp.iter().find(|(local, _)| local.is_ipv4() == addr.is_ipv4());
                    let sent = socket.map(|(_, token)| reactor.send_to(*token, addr, &datagram));
                    if let Some(Err(error)) = sent {
                        outcome = Some(Err(TrackerFault::Unreachable(error.to_string())));
                    }
                }
                UdpOutput::Announced(reply) => outcome = Some(Ok(reply)),
                UdpOutput::Scraped(_) => {}
                UdpOutput::Failed(fault) => outcome = Some(Err(fault)),
            }
        }
        if let Some(before) = exchange.timer.take() {
            reactor.cancel_timer(before);
        }
        match outcome {
            Some(reply) => {
                let question = self.udp_exchanges.swap_remove(at).question;
                self.tracker_answered(&question, reply, reactor);
            }
            None => {
                let request = exchange.question.request;
                let id = exchange.question.id;
                exchange.timer = exchange.core.poll_timeout().map(|at| {
                    reactor.add_timer(at, move |engine, reactor| {
                        engine.udp_timeout(id, request, reactor);
                    })
                });
            }
        }
    }

    fn udp_timeout(&mut self, id: TaskId, request: RequestId, reactor: &mut Reactor<Self>) {
        let is_it = |exchange: &UdpExchange| {
            exchange.question.id == id && exchange.question.request == request
        };
        let Some(at) = self.udp_exchanges.iter().position(is_it) else { return };
        self.udp_exchanges[at].core.handle_timeout(reactor.now());
        self.drive_udp(at, reactor);
    }

    /// In the next turn, so that no answer comes before its question is done.
    fn answer_later(
        &self,
        question: Question,
        reply: Result<AnnounceReply, TrackerFault>,
        reactor: &mut Reactor<Self>,
    ) {
        reactor.add_timer(reactor.now(), move |engine, reactor| {
            engine.tracker_answered(&question, reply, reactor);
        });
    }

    fn tracker_answered(
        &mut self,
        question: &Question,
        reply: Result<AnnounceReply, TrackerFault>,
        reactor: &mut Reactor<Self>,
    ) {
        let Question { id, request, url } = question;
        let kind = match &reply {
            Ok(reply) => EventKind::TrackerAnswered { url: url.clone(), peers: reply.peers.len() },
            Err(fault) => EventKind::TrackerFailed { url: url.clone(), error: fault.to_string() },
        };
        self.publish(*id, &kind);
        if let Some(task) = self.tasks.get_mut(id) {
            task.announcer.handle_reply(reactor.now(), *request, reply);
        }
        self.drive_trackers(*id, reactor);
    }
}

/// A tracker that is told that we stop has no time to think about it.
const fn patience(event: AnnounceEvent) -> Duration {
    match event {
        AnnounceEvent::Stopped => Duration::from_secs(3),
        AnnounceEvent::None | AnnounceEvent::Started | AnnounceEvent::Completed => {
            Duration::from_secs(30)
        }
    }
}

fn fault(error: HttpError) -> TrackerFault {
    match error {
        HttpError::BadUrl => TrackerFault::Unreachable("not a valid address".to_owned()),
        HttpError::Unreachable(why) => TrackerFault::Unreachable(why),
        HttpError::Silent => TrackerFault::Silent,
        HttpError::Status(status) => TrackerFault::HttpStatus(status),
        HttpError::TooLong(_) => TrackerFault::TooLong,
    }
}

//! Carries bytes between web seeds and the brain of a torrent, and decides nothing.
//!
//! Each web seed that is at something has one document on its way ([`Http::stream`]). How much of it may
//! come is allowed bit by bit, as long as there is memory and the limits on rates permit.
//!
//! [`Http::stream`]: crate::http::Http::stream

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use reactor::Reactor;
use torrent::swarm::WebSeedKey;
use torrent::web_seed::{
    WebRequest, WebSeed, WebSeedFault, WebSeedKind, WebSeedOutput, WebSeedState,
};

use crate::engine::Engine;
use crate::event::{EventKind, FilterPoint};
use crate::http::{HttpError, Stream, Streamed};
use crate::swarm::READ_LEN_MIN;
use crate::task::{Task, TaskId};
use crate::tracker::http_host;

/// What concerns the web seeds of all torrents.
#[derive(Debug, Default)]
pub(crate) struct WebSeeds {
    /// Requests made so far.
    requests: u64,
    /// Those of which more would be read, were there memory and allowance.
    waiting: BTreeSet<(TaskId, WebSeedKey)>,
}

/// One web seed of a torrent.
#[derive(Debug)]
pub(crate) struct WebSource {
    pub(crate) core: WebSeed,
    /// The request under way: what comes for an earlier one does not count.
    request: u64,
    stream: Option<Stream>,
    /// What may come and has not, in bytes.
    allowed: u64,
    /// It answers from our own network: what all torrents together may use is not used up by it.
    is_exempt: bool,
    /// It has brought something since it last failed.
    has_helped: bool,
}

impl Engine {
    /// Makes those that a torrent names, and those that it was given beside, as if nothing were known of
    /// them: its brain is new.
    pub(crate) fn renew_web_seeds(&mut self, id: TaskId, reactor: &Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.web_seeds.clear();
        let of = |kind| move |url: &String| (kind, url.clone());
        let files = task.metainfo.web_seeds().iter().chain(&task.web_seed_urls);
        let pieces = task.metainfo.http_seeds().iter();
        let all: Vec<(WebSeedKind, String)> =
            files.map(of(WebSeedKind::Files)).chain(pieces.map(of(WebSeedKind::Pieces))).collect();
        for (kind, url) in all {
            task.add_web_seed(kind, url, reactor);
        }
    }

    /// Has the web seeds of a torrent do what is due.
    pub(crate) fn drive_web_seeds(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let keys: Vec<WebSeedKey> = task.web_seeds.keys().copied().collect();
        for key in keys {
            self.drive_web_seed(id, key, reactor);
        }
    }

    fn drive_web_seed(&mut self, id: TaskId, key: WebSeedKey, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_needed = task.needs_web_seeds() && task.swarm.needs_web_run(key);
        let Some(source) = task.web_seeds.get_mut(&key) else { return };
        source.core.handle_timeout(now);
        if !is_needed {
            source.core.stop();
        }
        loop {
            self.carry_out(id, key, reactor);
            let Some(task) = self.tasks.get_mut(&id).filter(|task| task.needs_web_seeds()) else {
                break;
            };
            let Task { web_seeds, swarm, .. } = task;
            let busy = web_seeds.values().filter(|source| source.core.is_fetching()).count();
            let Some(source) = web_seeds.get_mut(&key).filter(|_| busy < AT_ONCE_MAX) else {
                break;
            };
            let Some(len_max) = source.core.wants(now) else { break };
            let run = swarm.next_web_run(now, key, len_max, |piece| source.core.has(piece));
            let Some(run) = run else { break };
            source.core.begin(now, run);
        }
        self.allow_more(id, key, reactor);
        self.drain(id, reactor);
    }

    /// Does what a web seed's conversation asks for.
    fn carry_out(&mut self, id: TaskId, key: WebSeedKey, reactor: &mut Reactor<Self>) {
        while let Some(task) = self.tasks.get_mut(&id)
            && let Some(source) = task.web_seeds.get_mut(&key)
            && let Some(output) = source.core.poll_output()
        {
            match output {
                WebSeedOutput::Get(request) => self.get_part(id, key, request, reactor),
                WebSeedOutput::Block(block, data) => {
                    task.swarm.handle_web_block(reactor.now(), key, block, data);
                    if !std::mem::replace(&mut source.has_helped, true) {
                        let url = source.core.url().to_owned();
                        self.publish(id, &EventKind::WebSeedAnswered { url });
                    }
                }
                WebSeedOutput::RunOver => {
                    source.hang_up();
                    task.swarm.end_web_run(key);
                    self.web_seeds.waiting.remove(&(id, key));
                }
                WebSeedOutput::Failed(fault) => {
                    source.has_helped = false;
                    let status = source.core.status(reactor.now());
                    let status_code = match fault {
                        WebSeedFault::Status(status) => Some(status),
                        _ => None,
                    };
                    let kind = EventKind::WebSeedFailed {
                        url: status.url,
                        error: fault.to_string(),
                        times_in_row: status.failures,
                        status_code,
                        is_dropped: status.state == WebSeedState::Dropped,
                    };
                    self.publish(id, &kind);
                }
            }
        }
    }

    /// Asks for a part of the torrent, if its server may be talked to.
    fn get_part(
        &mut self,
        id: TaskId,
        key: WebSeedKey,
        request: WebRequest,
        reactor: &mut Reactor<Self>,
    ) {
        self.web_seeds.requests += 1;
        let number = self.web_seeds.requests;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let info_hash = task.info_hash();
        let Some(source) = task.web_seeds.get_mut(&key) else { return };
        source.hang_up();
        source.request = number;
        if !self.has_filter() || self.proxy_of_trackers().is_some() {
            return self.stream_part(id, key, number, request, reactor);
        }
        let Some((host, port)) = http_host(&request.url) else {
            let Some(source) = self.web_source(id, key, number) else { return };
            return source.core.handle_failure(reactor.now(), WebSeedFault::BadUrl);
        };
        self.resolve(&host, port, reactor, move |found, engine, reactor| {
            let failure = match found {
                Err(error) => Some(error.to_string()),
                Ok(addrs) => {
                    let may =
                        |&addr: &_| engine.may_talk_to(Some(info_hash), addr, FilterPoint::WebSeed);
                    (!addrs.iter().all(may)).then(|| FILTERED.to_owned())
                }
            };
            match failure {
                None => engine.stream_part(id, key, number, request, reactor),
                Some(why) => {
                    let failed = Streamed::Failed(HttpError::Unreachable(why));
                    engine.web_seed_heard(id, key, number, failed, reactor);
                }
            }
        });
    }

    fn stream_part(
        &mut self,
        id: TaskId,
        key: WebSeedKey,
        number: u64,
        request: WebRequest,
        reactor: &Reactor<Self>,
    ) {
        if self.web_source(id, key, number).is_none() {
            return;
        }
        let remote = reactor.remote();
        let tell = move |heard| {
            let posted = remote.post(move |engine: &mut Self, reactor: &mut Reactor<Self>| {
                engine.web_seed_heard(id, key, number, heard, reactor);
            });
            if posted.is_err() {
                tracing::trace!("a web seed answered after the session ended");
            }
        };
        let Some(source) = self.web_source(id, key, number) else { return };
        let seed = source.core.url().to_owned();
        let bounds = self.bounds_of_part(id, &seed, &request);
        let stream = self.http().map(|http| http.stream(request, bounds, tell));
        let Some(source) = self.web_source(id, key, number) else { return };
        match stream {
            Ok(stream) => source.stream = Some(stream),
            Err(error) => source.core.handle_failure(reactor.now(), fault(error)),
        }
    }

    fn web_seed_heard(
        &mut self,
        id: TaskId,
        key: WebSeedKey,
        number: u64,
        heard: Streamed,
        reactor: &mut Reactor<Self>,
    ) {
        let now = reactor.now();
        let is_exempt = match heard {
            Streamed::Head(_, Some(from)) => self.is_exempt(from, now),
            Streamed::Head(_, None) | Streamed::Data(_) | Streamed::End | Streamed::Failed(_) => {
                false
            }
        };
        let Some(source) = self.web_source(id, key, number) else { return };
        match heard {
            Streamed::Head(head, _) => {
                source.is_exempt = is_exempt;
                source.core.handle_head(now, &head);
            }
            Streamed::Data(data) => {
                source.allowed = source.allowed.saturating_sub(data.len() as u64);
                source.core.handle_body(now, &data);
                let is_limited = !source.is_exempt;
                self.spend_reading(id, is_limited, data.len(), reactor);
            }
            Streamed::End => source.core.handle_end(now),
            Streamed::Failed(error) => source.core.handle_failure(now, fault(error)),
        }
        self.wake(id);
        self.drive_web_seed(id, key, reactor);
    }

    /// The web seed that a request is of, if that is the one under way.
    fn web_source(&mut self, id: TaskId, key: WebSeedKey, number: u64) -> Option<&mut WebSource> {
        let source = self.tasks.get_mut(&id)?.web_seeds.get_mut(&key)?;
        (source.request == number).then_some(source)
    }

    /// Lets more come of what is on its way, as far as memory and limits permit.
    fn allow_more(&mut self, id: TaskId, key: WebSeedKey, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let is_memory_short = self.is_memory_short();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(source) = task.web_seeds.get_mut(&key) else { return };
        let in_all = if source.is_exempt { u64::MAX } else { self.down.available(now) };
        let allowance = in_all.min(task.down.available(now));
        let Some(stream) = source.stream.as_ref().filter(|_| source.allowed < WINDOW_LEN / 2)
        else {
            return;
        };
        if is_memory_short {
            self.web_seeds.waiting.insert((id, key));
            self.relieve(reactor);
        } else if allowance < READ_LEN_MIN {
            self.web_seeds.waiting.insert((id, key));
            self.start_throttle(reactor);
        } else {
            let more = allowance.min(WINDOW_LEN - source.allowed);
            source.allowed += more;
            stream.allow(more as usize);
        }
    }

    /// There may be memory or allowance again for those that were held up. That was no fault of theirs.
    pub(crate) fn resume_web_seeds(&mut self, reactor: &mut Reactor<Self>) {
        for (id, key) in std::mem::take(&mut self.web_seeds.waiting) {
            let task = self.tasks.get_mut(&id);
            if let Some(source) = task.and_then(|task| task.web_seeds.get_mut(&key)) {
                source.core.excuse(reactor.now());
            }
            self.allow_more(id, key, reactor);
        }
    }

    /// Leaves whatever the web seeds of a torrent are at.
    pub(crate) fn stop_web_seeds(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.web_seeds.values_mut().for_each(|source| source.core.stop());
        let keys: Vec<WebSeedKey> = task.web_seeds.keys().copied().collect();
        for key in keys {
            self.carry_out(id, key, reactor);
        }
    }

    /// A web seed sent wrong data.
    pub(crate) fn web_seed_lied(
        &mut self,
        id: TaskId,
        key: WebSeedKey,
        reactor: &mut Reactor<Self>,
    ) {
        let task = self.tasks.get_mut(&id);
        if let Some(source) = task.and_then(|task| task.web_seeds.get_mut(&key)) {
            source.core.handle_lie();
        }
        self.carry_out(id, key, reactor);
    }
}

impl Task {
    /// Takes in one more, unless it is here or there are too many.
    pub(crate) fn add_web_seed(
        &mut self,
        kind: WebSeedKind,
        url: String,
        reactor: &Reactor<Engine>,
    ) {
        let is_here = self.web_seeds.values().any(|source| source.core.url() == url);
        if is_here || self.web_seeds.len() >= WEB_SEEDS_MAX {
            return;
        }
        let last = self.web_seeds.last_key_value().map_or(0, |(key, _)| key.0 + 1);
        let key = WebSeedKey(last.max(self.web_seeds_ever));
        self.web_seeds_ever = key.0 + 1;
        let layout = Arc::clone(self.metainfo.layout());
        let core = WebSeed::new(reactor.now(), kind, url, self.info_hash(), layout);
        let new = WebSource {
            core,
            request: 0,
            stream: None,
            allowed: 0,
            is_exempt: false,
            has_helped: false,
        };
        self.web_seeds.insert(key, new);
    }

    /// Whether data may come from web seeds, and some are wanted.
    fn needs_web_seeds(&self) -> bool {
        self.is_moving() && !self.swarm.is_completed()
    }

    /// When to look at them again, if nothing else happens.
    pub(crate) fn web_seeds_at(&self) -> Option<Instant> {
        let all = self.web_seeds.values();
        all.filter_map(|source| source.core.poll_timeout()).min().filter(|_| self.needs_web_seeds())
    }

    /// The first complaint, if none of them works.
    pub(crate) fn web_seed_trouble(&self, now: Instant) -> Option<String> {
        let mut troubles = Vec::new();
        for source in self.web_seeds.values() {
            let status = source.core.status(now);
            troubles.push(format!("{}: {}", status.url, status.fault?));
        }
        troubles.into_iter().next()
    }

    /// How many bring something now.
    pub(crate) fn web_seeds_active(&self) -> usize {
        self.web_seeds.values().filter(|source| source.core.is_fetching()).count()
    }
}

impl WebSource {
    fn hang_up(&mut self) {
        self.stream = None;
        self.allowed = 0;
        self.is_exempt = false;
    }
}

/// Why a web seed of this name is not asked, if it is an HTTP error.
fn fault(error: HttpError) -> WebSeedFault {
    match error {
        HttpError::BadUrl => WebSeedFault::BadUrl,
        HttpError::Unreachable(why) => WebSeedFault::Unreachable(why),
        HttpError::Silent => WebSeedFault::Silent,
        HttpError::Status(status) => WebSeedFault::Status(status),
        error @ (HttpError::Local | HttpError::OneFamily | HttpError::TooLong(_)) => {
            WebSeedFault::Unreachable(error.to_string())
        }
    }
}

pub(crate) type WebSources = BTreeMap<WebSeedKey, WebSource>;

const FILTERED: &str = "the filter of addresses does not let us ask it";
/// Web seeds of one torrent; those past it are left out.
const WEB_SEEDS_MAX: usize = 64;
/// Of which so many are asked at once.
const AT_ONCE_MAX: usize = 4;
/// What may come from one before we have looked at it.
const WINDOW_LEN: u64 = 512 * 1024;

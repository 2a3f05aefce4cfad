//! Takes announces to trackers and brings back what they say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reactor::{Reactor, TimerId};
use torrent::Rng;
use torrent::swarm::Source;
use torrent::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, AnnouncerOutput, RequestId, TrackerFault, UdpOutput, UdpRequest,
    UdpTracker, http, udp,
};

use crate::engine::Engine;
use crate::event::EventKind;
use crate::http::{Http, HttpError};
use crate::task::{Task, TaskId};

/// A conversation with a UDP tracker.
#[derive(Debug)]
pub(crate) struct UdpExchange {
    id: TaskId,
    request: RequestId,
    addr: SocketAddr,
    core: UdpTracker,
    timer: Option<TimerId>,
}

impl Engine {
    /// Sends what is due to the trackers of a torrent.
    pub(crate) fn drive_trackers(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.announcer.handle_timeout(now);
        while let Some(task) = self.tasks.get_mut(&id) {
            let Some(output) = task.announcer.poll_output(now) else { break };
            match output {
                AnnouncerOutput::Announce { id: request, url, event, tracker_id, numwant } => {
                    let announce = self.announce_request(id, event, tracker_id, numwant);
                    self.announce(id, request, &url, announce, reactor);
                }
                AnnouncerOutput::Scrape { id: request, url } => self.scrape(id, request, &url, reactor),
                AnnouncerOutput::Peers(addrs) => self.add_addresses(id, &addrs, Source::Tracker, reactor),
            }
        }
    }
}

//! What others ask of us, and what we say.

use std::net::SocketAddr;
use std::time::Instant;

use super::krpc::{Body, ErrorCode, Filters, Message, Query, Question, Reply, Samples, Want};
use super::node_id::{Contact, NodeId};
use super::peer_store::SAMPLE_FOR;
use super::routing_table::K;
use super::{Item, Node, Output, item};

impl Node {
    pub(super) fn handle_query(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: &[u8],
        query: &Query<'_>,
        is_read_only: bool,
    ) {
        if self.config.is_read_only {
            return;
        }
        if !self.throttle.admits(now, from) {
            self.counts.dropped += 1;
            return;
        }
        if !is_read_only {
            self.heard_of(now, Contact { id: query.id, addr: from });
        }
        self.counts.answered += 1;
        let body = match self.answer(now, from, transaction, query) {
            Ok(()) => return,
            Err(code) => Body::Error { code: code as i64, text: code.text().as_bytes() },
        };
        self.send(from, transaction, body);
    }

    /// A question that makes no sense.
    pub(super) fn handle_malformed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: &[u8],
        code: ErrorCode,
    ) {
        if self.config.is_read_only {
            return;
        }
        if !self.throttle.admits(now, from) {
            self.counts.dropped += 1;
            return;
        }
        let body = Body::Error { code: code as i64, text: code.text().as_bytes() };
        self.send(from, transaction, body);
    }

    fn send(&mut self, to: SocketAddr, transaction: &[u8], body: Body<'_>) {
        let message = Message { transaction, body, is_read_only: false, external: Some(to) };
        self.outputs.push_back(Output::Send { to, bytes: message.encode() });
    }

    /// Answers, or tells why not.
    fn answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: &[u8],
        query: &Query<'_>,
    ) -> Result<(), ErrorCode> {
        let own = *self.family(from).ok_or(ErrorCode::Server)?.table.own();
        let mut reply = Reply::of(own);
        match &query.question {
            Question::Ping => self.send(from, transaction, Body::Reply(reply)),
            Question::FindNode { target } => {
                reply.nodes = self.nearest(from, query.want, target);
                self.send(from, transaction, Body::Reply(reply));
            }
            Question::GetPeers { info_hash, is_noseed, is_scrape } => {
                reply.nodes = self.nearest(from, query.want, info_hash);
                let is_wanted = |peer: SocketAddr, is_seed: bool| {
                    peer.is_ipv4() == from.is_ipv4() && !(*is_noseed && is_seed)
                };
                reply.peers = self.peers.peers(now, info_hash, is_wanted, &mut self.rng);
                let token = self.tokens.issue(now, from.ip(), info_hash);
                reply.token = Some(&token);
                let filters = is_scrape.then(|| self.peers.filters(now, info_hash)).flatten();
                if let Some([seeds, downloaders]) = filters.as_ref().map(|of| of.each_ref()) {
                    // So that it fits into a packet; who counts does not connect.
                    reply.peers.truncate(SCRAPE_PEERS_MAX);
                    let (seeds, downloaders) = (seeds.bytes(), downloaders.bytes());
                    reply.scrape = Some(Filters { seeds, downloaders });
                }
                self.send(from, transaction, Body::Reply(reply));
            }
            Question::AnnouncePeer { info_hash, port, is_implied, is_seed, token } => {
                if !self.tokens.is_valid(now, from.ip(), info_hash, token) {
                    return Err(ErrorCode::Protocol);
                }
                let port = if *is_implied { from.port() } else { *port };
                let peer = SocketAddr::new(from.ip(), port);
                self.peers.announce(now, *info_hash, peer, *is_seed);
                self.send(from, transaction, Body::Reply(reply));
            }
            Question::SampleInfohashes { target } => {
                reply.nodes = self.nearest(from, query.want, target);
                let (packed, total) = self.peers.sample(now, &mut self.rng);
                let interval_secs = SAMPLE_FOR.as_secs() as i64;
                let packed = packed.to_vec();
                reply.samples =
                    Some(Samples { interval_secs, total: total as i64, packed: &packed });
                self.send(from, transaction, Body::Reply(reply));
            }
            Question::Get { target, seq } => {
                reply.nodes = self.nearest(from, query.want, target);
                let token = self.tokens.issue(now, from.ip(), target);
                reply.token = Some(&token);
                let item = self.items.get(now, target).cloned();
                if let Some(item) = &item {
                    // A long value and so many nodes are more than a packet holds.
                    reply.nodes.retain(|node| node.addr.is_ipv4() == from.is_ipv4());
                    reply.nodes.truncate(K / 2);
                    reply.seq = item.seq();
                    if item.seq().is_none() || item.seq() > *seq {
                        reply.value = Some(item.value());
                        let signed = item.signed();
                        reply.key = signed.map(|signed| signed.key);
                        reply.signature = signed.map(|signed| signed.signature);
                    }
                }
                self.send(from, transaction, Body::Reply(reply));
            }
            Question::Put { token, value, signed, cas } => {
                // The cheap question first: signatures cost time.
                let target = item::target(value, signed.as_ref());
                if !self.tokens.is_valid(now, from.ip(), &target, token) {
                    return Err(ErrorCode::Protocol);
                }
                let item = match signed {
                    None => Item::immutable(value.to_vec()),
                    Some(signed) => Item::verify(value.to_vec(), signed),
                };
                let item = item.map_err(|error| error.code())?;
                self.items.put(now, item, *cas, from.ip())?;
                self.send(from, transaction, Body::Reply(reply));
            }
        }
        Ok(())
    }

    /// The nodes that we know nearest to a place, of the families that are wanted.
    fn nearest(&self, from: SocketAddr, want: Want, target: &NodeId) -> Vec<Contact> {
        let own = Want { v4: from.is_ipv4(), v6: from.is_ipv6() };
        let want = if want == Want::default() { own } else { want };
        let wanted = self.families.iter().zip([want.v4, want.v6]);
        let families =
            wanted.filter_map(|(family, is_wanted)| family.as_ref().filter(|_| is_wanted));
        families.flat_map(|family| family.table.closest(target, K)).collect()
    }
}

/// How many peers are told to who wants them counted, too.
const SCRAPE_PEERS_MAX: usize = 8;

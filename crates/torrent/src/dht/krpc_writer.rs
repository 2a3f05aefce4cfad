//! Messages to bytes. Keys are written in their order, so the functions read like the messages.

use std::net::{IpAddr, SocketAddr};

use super::krpc::{Body, Message, Query, Question, Reply, Want};
use super::node_id::Contact;

/// The bytes of a message.
pub(super) fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(512));
    out.open();
    match &message.body {
        Body::Query(query) => {
            out.key("a");
            out.arguments(query);
            out.external(message);
            out.text("q", method(&query.question));
        }
        Body::Reply(reply) => {
            out.external(message);
            out.key("r");
            out.reply(reply);
        }
        Body::Error { code, text } => {
            out.key("e");
            out.0.push(b'l');
            out.number(*code);
            out.string(text);
            out.close();
            out.external(message);
        }
    }
    if message.is_read_only {
        out.integer("ro", 1);
    }
    out.bytes("t", message.transaction);
    out.bytes("v", CLIENT);
    out.text("y", kind(&message.body));
    out.close();
    out.0
}

const fn kind(body: &Body<'_>) -> &'static str {
    match body {
        Body::Query(_) => "q",
        Body::Reply(_) => "r",
        Body::Error { .. } => "e",
    }
}

const fn method(question: &Question<'_>) -> &'static str {
    match question {
        Question::Ping => "ping",
        Question::FindNode { .. } => "find_node",
        Question::GetPeers { .. } => "get_peers",
        Question::AnnouncePeer { .. } => "announce_peer",
        Question::SampleInfohashes { .. } => "sample_infohashes",
        Question::Get { .. } => "get",
        Question::Put { .. } => "put",
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn open(&mut self) {
        self.0.push(b'd');
    }

    fn close(&mut self) {
        self.0.push(b'e');
    }

    fn decimal(&mut self, number: u64) {
        if number >= 10 {
            self.decimal(number / 10);
        }
        self.0.push(b'0' + (number % 10) as u8);
    }

    fn string(&mut self, bytes: &[u8]) {
        self.decimal(bytes.len() as u64);
        self.0.push(b':');
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, number: i64) {
        self.0.push(b'i');
        if number < 0 {
            self.0.push(b'-');
        }
        self.decimal(number.unsigned_abs());
        self.close();
    }

    fn key(&mut self, key: &str) {
        self.string(key.as_bytes());
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.string(bytes);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.bytes(key, text.as_bytes());
    }

    fn integer(&mut self, key: &str, number: i64) {
        self.key(key);
        self.number(number);
    }

    fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.0.extend_from_slice(value);
    }

    fn external(&mut self, message: &Message<'_>) {
        if let Some(addr) = message.external {
            self.key("ip");
            self.address(addr);
        }
    }

    fn address(&mut self, addr: SocketAddr) {
        match addr.ip() {
            IpAddr::V4(_) => self.0.extend_from_slice(b"6:"),
            IpAddr::V6(_) => self.0.extend_from_slice(b"18:"),
        }
        self.packed(addr);
    }

    fn packed(&mut self, addr: SocketAddr) {
        match addr.ip() {
            IpAddr::V4(ip) => self.0.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => self.0.extend_from_slice(&ip.octets()),
        }
        self.0.extend_from_slice(&addr.port().to_be_bytes());
    }

    fn arguments(&mut self, query: &Query<'_>) {
        self.open();
        if let Question::Put { cas: Some(cas), .. } = query.question {
            self.integer("cas", cas);
        }
        self.bytes("id", &query.id.0);
        match &query.question {
            Question::Ping => {}
            Question::FindNode { target } | Question::SampleInfohashes { target } => {
                self.bytes("target", &target.0);
            }
            Question::GetPeers { info_hash, is_noseed, is_scrape } => {
                self.bytes("info_hash", &info_hash.0);
                if *is_noseed {
                    self.integer("noseed", 1);
                }
                if *is_scrape {
                    self.integer("scrape", 1);
                }
            }
            Question::AnnouncePeer { info_hash, port, is_implied, is_seed, token } => {
                if *is_implied {
                    self.integer("implied_port", 1);
                }
                self.bytes("info_hash", &info_hash.0);
                self.integer("port", i64::from(*port));
                if *is_seed {
                    self.integer("seed", 1);
                }
                self.bytes("token", token);
            }
            Question::Get { target, seq } => {
                if let Some(seq) = seq {
                    self.integer("seq", *seq);
                }
                self.bytes("target", &target.0);
            }
            Question::Put { token, value, signed, .. } => {
                if let Some(signed) = signed {
                    self.bytes("k", signed.key);
                    if !signed.salt.is_empty() {
                        self.bytes("salt", signed.salt);
                    }
                    self.integer("seq", signed.seq);
                    self.bytes("sig", signed.signature);
                }
                self.bytes("token", token);
                self.raw("v", value);
            }
        }
        self.want(query.want);
        self.close();
    }

    fn want(&mut self, want: Want) {
        if want == Want::default() {
            return;
        }
        self.key("want");
        self.0.push(b'l');
        for (_, name) in [(want.v4, b"n4"), (want.v6, b"n6")].iter().filter(|(is, _)| *is) {
            self.string(*name);
        }
        self.close();
    }

    fn reply(&mut self, reply: &Reply<'_>) {
        self.open();
        if let Some(scrape) = reply.scrape {
            self.bytes("BFpe", scrape.downloaders);
            self.bytes("BFsd", scrape.seeds);
        }
        self.bytes("id", &reply.id.0);
        if let Some(samples) = reply.samples {
            self.integer("interval", samples.interval_secs);
        }
        if let Some(key) = reply.key {
            self.bytes("k", key);
        }
        self.nodes("nodes", reply.nodes.iter().filter(|node| node.addr.is_ipv4()), 26);
        self.nodes("nodes6", reply.nodes.iter().filter(|node| node.addr.is_ipv6()), 38);
        if let Some(samples) = reply.samples {
            self.integer("num", samples.total);
            self.bytes("samples", samples.packed);
        }
        if let Some(seq) = reply.seq {
            self.integer("seq", seq);
        }
        if let Some(signature) = reply.signature {
            self.bytes("sig", signature);
        }
        if let Some(token) = reply.token {
            self.bytes("token", token);
        }
        if let Some(value) = reply.value {
            self.raw("v", value);
        }
        if !reply.peers.is_empty() {
            self.key("values");
            self.0.push(b'l');
            reply.peers.iter().for_each(|peer| self.address(*peer));
            self.close();
        }
        self.close();
    }

    fn nodes<'a>(
        &mut self,
        key: &str,
        nodes: impl Iterator<Item = &'a Contact> + Clone,
        len: usize,
    ) {
        let count = nodes.clone().count();
        if count == 0 {
            return;
        }
        self.key(key);
        self.decimal((count * len) as u64);
        self.0.push(b':');
        for node in nodes {
            self.0.extend_from_slice(&node.id.0);
            self.packed(node.addr);
        }
    }
}

/// What we are, in each message: two letters and a version.
const CLIENT: &[u8; 4] = b"FT\0\x01";

//! `flotilla dht`: a node of the distributed hash table, or one question to it.

use std::collections::BTreeSet;
use std::io::Read;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::{
    Dht, DhtConfig, DhtError, DhtStatus, Gone, ListenConfig, NatConfig, PeerSearch, Session,
    SessionConfig,
};
use serde_json::json;
use torrent::InfoHash;
use torrent::bencode::{self, OwnedValue};
use torrent::dht::{Announce, Contact, Item, NodeId, Summary, public_key};

use crate::cli::{self, DhtQuestion};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::state_dir;
use crate::terminal::Terminal;
use crate::text::count;
use crate::ways;

pub(crate) fn run(options: cli::Dht, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::hasty()?;
    // Who is gone in a minute is no node for others to remember.
    let is_read_only = options.read_only || options.question.is_some();
    let mut config = DhtConfig { is_read_only, ..DhtConfig::default() };
    if options.no_boot || !options.boot.is_empty() {
        config.boot = options.boot;
    }
    let beginnings = beginnings(&config.boot);
    let usual = ways::session_config(&options.ways, terminal)?;
    interrupt.in_order();
    let session = Session::start(SessionConfig {
        listen: ListenConfig { ports: options.port.0, ..usual.listen },
        state_dir: state_dir(options.state_dir, options.no_state),
        dht: config,
        // Nobody asks who only has a question.
        nat: if options.question.is_some() { NatConfig::OFF } else { usual.nat },
        ..usual
    })?;
    let screen = Screen { terminal, interrupt, is_json: options.json, beginnings };
    let done = match options.question {
        None => screen.serve(&session),
        Some(question) => {
            // An answer may take a minute, and whoever waits for it sees no flag.
            screen.interrupt.insist()?;
            screen.answer(&session.dht(), question)
        }
    };
    session.shutdown(PATIENCE);
    done
}

/// Where things are told, and until when.
struct Screen<'a> {
    terminal: &'a Terminal,
    interrupt: Interrupt,
    is_json: bool,
    /// Where the network is to be found.
    beginnings: String,
}

impl Screen<'_> {
    /// Takes part until interrupted.
    fn serve(&self, session: &Session) -> Result<(), Failure> {
        for addr in session.listen_addrs() {
            let value = json!({ "event": "listening", "addr": addr.to_string() });
            self.tell(|| format!("listening on {addr}"), value);
        }
        let mut told = None;
        let mut told_at = Instant::now();
        while !self.is_over() {
            std::thread::sleep(LOOK_EVERY);
            let status = session.dht().status().map_err(failure)?;
            if self.terminal.is_live() && !self.is_json {
                self.terminal.show(&[line(&status)]);
            } else if told.as_ref() != Some(&status) && told_at.elapsed() >= TELL_EVERY {
                self.tell(|| line(&status), fields(&status));
                (told, told_at) = (Some(status), Instant::now());
            }
        }
        self.terminal.show(&[]);
        Ok(())
    }

    fn answer(&self, dht: &Dht, question: DhtQuestion) -> Result<(), Failure> {
        // What can be said without asking anyone comes first.
        let question = match question {
            DhtQuestion::Put { value, bencode, key, salt } => {
                let value = if bencode { value.into_bytes() } else { text(value.as_bytes()) };
                let secret = key.as_deref().map(secret_key).transpose()?;
                self.join(dht)?;
                return self.put(dht, value, secret, salt.as_bytes());
            }
            DhtQuestion::Get { target, salt } => {
                let target = Target::parse(&target).ok_or_else(|| {
                    Failure::Usage("a hash has 40 hexadecimal digits, a key 64".to_owned())
                })?;
                self.join(dht)?;
                return self.get(dht, &target, salt.as_bytes());
            }
            question @ (DhtQuestion::Peers { .. }
            | DhtQuestion::Scrape { .. }
            | DhtQuestion::Nodes { .. }
            | DhtQuestion::Sample { .. }) => question,
        };
        self.join(dht)?;
        match question {
            DhtQuestion::Peers { info_hash, announce: None, .. } => self.peers(dht, info_hash),
            DhtQuestion::Peers { info_hash, announce: Some(port), seed } => {
                self.announce(dht, info_hash, port, seed)
            }
            DhtQuestion::Scrape { info_hash } => self.scrape(dht, info_hash),
            DhtQuestion::Nodes { target } => self.nodes(dht, target),
            DhtQuestion::Sample { target } => self.sample(dht, target),
            DhtQuestion::Put { .. } | DhtQuestion::Get { .. } => Ok(()),
        }
    }

    /// Waits until the network has been found.
    fn join(&self, dht: &Dht) -> Result<(), Failure> {
        let (begun, from) = (Instant::now(), &self.beginnings);
        let mut is_told = false;
        loop {
            let status = dht.status().map_err(failure)?;
            if status.is_bootstrapped {
                return Ok(());
            }
            if self.is_over() {
                return Err(Failure::Interrupted);
            }
            let is_unheard = status.stats.good_nodes == [0, 0];
            if begun.elapsed() > if is_unheard { UNHEARD_PATIENCE } else { JOIN_PATIENCE } {
                return Err(Failure::Failed(if is_unheard {
                    format!(
                        "no node of the DHT answers, asked were {from}; \
                         see that datagrams get out of this network, or name another node by --boot HOST:PORT"
                    )
                } else {
                    format!(
                        "nodes of the DHT answer, but do not lead to others; asked first were {from}"
                    )
                }));
            }
            if !is_told && begun.elapsed() > TELL_EVERY {
                self.terminal.complain(&format!("waiting for an answer of {from}"));
                is_told = true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn peers(&self, dht: &Dht, info_hash: InfoHash) -> Result<(), Failure> {
        let summary = self.tell_peers(dht.peers(info_hash).map_err(failure)?)?;
        if summary.peers == 0 {
            let nodes = count(summary.replied as u64, "node");
            return Err(Failure::Failed(format!("no peer is known to the {nodes} that answered")));
        }
        Ok(())
    }

    fn announce(
        &self,
        dht: &Dht,
        info_hash: InfoHash,
        port: Option<NonZeroU16>,
        is_seed: bool,
    ) -> Result<(), Failure> {
        let announce = match port {
            Some(port) => Announce::at(port.get()),
            None => dht.announcement().map_err(failure)?,
        };
        let search = dht.announce_as(info_hash, Announce { is_seed, ..announce });
        let stored = self.tell_peers(search.map_err(failure)?)?.stored;
        if stored == 0 {
            return Err(Failure::Failed("no node has taken the announce".to_owned()));
        }
        let nodes = count(stored as u64, "node");
        self.tell(|| format!("announced to {nodes}"), json!({ "announced": stored }));
        Ok(())
    }

    /// Tells each peer as it is found. Returns how the search went.
    fn tell_peers(&self, mut search: PeerSearch) -> Result<Summary, Failure> {
        for peer in search.by_ref() {
            self.tell(|| peer.to_string(), json!({ "peer": peer.to_string() }));
            if self.is_over() {
                return Err(Failure::Interrupted);
            }
        }
        search.summary().cloned().ok_or_else(|| failure(DhtError::Gone(Gone)))
    }

    fn scrape(&self, dht: &Dht, info_hash: InfoHash) -> Result<(), Failure> {
        let scrape = dht.scrape(info_hash).map_err(failure)?;
        let scrape = scrape
            .ok_or_else(|| Failure::Failed("no node that counts peers knows any".to_owned()))?;
        let (seeds, downloaders) = (scrape.seeds, scrape.downloaders);
        let words =
            || format!("about {} and {}", count(seeds, "seed"), count(downloaders, "downloader"));
        self.tell(words, json!({ "seeds": seeds, "downloaders": downloaders }));
        Ok(())
    }

    fn nodes(&self, dht: &Dht, target: Option<InfoHash>) -> Result<(), Failure> {
        for Contact { id, addr } in dht.find_nodes(place(dht, target)?).map_err(failure)? {
            let value = json!({ "id": id.to_string(), "addr": addr.to_string() });
            self.tell(|| format!("{id} {addr}"), value);
        }
        Ok(())
    }

    fn sample(&self, dht: &Dht, target: Option<InfoHash>) -> Result<(), Failure> {
        let mut told = BTreeSet::new();
        for sample in dht.sample(place(dht, target)?).map_err(failure)? {
            for hash in sample.info_hashes {
                if !told.insert(hash) {
                    continue;
                }
                let value =
                    json!({ "info_hash": hash.to_string(), "from": sample.from.addr.to_string() });
                self.tell(|| hash.to_string(), value);
            }
        }
        Ok(())
    }

    fn get(&self, dht: &Dht, target: &Target, salt: &[u8]) -> Result<(), Failure> {
        let found = match target {
            Target::Hash(hash) => dht.get((*hash).into()),
            Target::Key(key) => dht.get_signed(key, salt),
        };
        let item = found.map_err(failure)?;
        let item = item.ok_or_else(|| Failure::Failed("nothing is stored there".to_owned()))?;
        let bytes = match bencode::decode(item.value()).ok().and_then(|value| value.as_bytes()) {
            Some(text) => text,
            None => item.value(),
        };
        let value = String::from_utf8_lossy(bytes);
        self.tell(|| value.clone().into_owned(), json!({ "value": value, "seq": item.seq() }));
        Ok(())
    }

    fn put(
        &self,
        dht: &Dht,
        value: Vec<u8>,
        secret: Option<[u8; 32]>,
        salt: &[u8],
    ) -> Result<(), Failure> {
        let (item, before, name) = match secret {
            None => {
                let item =
                    Item::immutable(value).map_err(|error| Failure::Usage(error.to_string()))?;
                let name = item.target().to_string();
                (item, None, name)
            }
            Some(secret) => {
                let key = public_key(&secret);
                let before =
                    dht.get_signed(&key, salt).map_err(failure)?.and_then(|item| item.seq());
                let seq = before.unwrap_or(0).saturating_add(1);
                let item = Item::sign(&secret, salt, seq, value);
                let item = item.map_err(|error| Failure::Usage(error.to_string()))?;
                (item, before, hex(&key))
            }
        };
        let seq = item.seq();
        let stored = dht.put(item, before).map_err(failure)?;
        if stored == 0 {
            return Err(Failure::Failed("no node has taken it".to_owned()));
        }
        self.tell(|| name.clone(), json!({ "target": name, "seq": seq, "nodes": stored }));
        Ok(())
    }

    fn tell(&self, words: impl FnOnce() -> String, value: serde_json::Value) {
        self.terminal.line(&if self.is_json { value.to_string() } else { words() });
    }

    fn is_over(&self) -> bool {
        self.interrupt.is_set() || self.terminal.is_gone()
    }
}

/// Where to begin, in words.
fn beginnings(boot: &[String]) -> String {
    let mut names = boot.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if boot.is_empty() {
        names.push_str("the nodes of the last run alone");
    } else if boot.len() > NAMES_MAX {
        names.push_str(" and others");
    }
    names
}

/// What an item is got by.
enum Target {
    Hash(InfoHash),
    Key([u8; 32]),
}

impl Target {
    fn parse(text: &str) -> Option<Self> {
        text.parse().map(Self::Hash).ok().or_else(|| key(text).map(Self::Key))
    }
}

/// A place to ask about: our own name is as random as any.
fn place(dht: &Dht, target: Option<InfoHash>) -> Result<NodeId, Failure> {
    let own = dht.status().map_err(failure)?.ids.into_iter().flatten().next();
    Ok(target.map(NodeId::from).or(own).unwrap_or(NodeId([0; 20])))
}

fn key(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

fn secret_key(file: &Path) -> Result<[u8; 32], Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(100).read_to_string(&mut text));
    read.map_err(|error| Failure::at(file, error))?;
    let help = "a secret key is 64 hexadecimal digits; `openssl rand -hex 32` makes one";
    key(text.trim()).ok_or_else(|| Failure::at(file, help))
}

fn text(bytes: &[u8]) -> Vec<u8> {
    bencode::encode(&OwnedValue::Bytes(bytes.to_vec()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failure(error: DhtError) -> Failure {
    Failure::Failed(error.to_string())
}

fn line(status: &DhtStatus) -> String {
    let [v4, v6] = status.stats.good_nodes;
    let stats = &status.stats;
    format!(
        "{}, {v6} of IPv6; of others {}, {}, {}; asked {}, answered {}",
        count(v4 as u64, "node"),
        count(stats.torrents as u64, "torrent"),
        count(stats.peers as u64, "peer"),
        count(stats.items as u64, "item"),
        stats.counts.asked,
        stats.counts.answered,
    )
}

fn fields(status: &DhtStatus) -> serde_json::Value {
    let stats = &status.stats;
    json!({
        "event": "status",
        "id": status.ids[0].map(|id| id.to_string()),
        "id6": status.ids[1].map(|id| id.to_string()),
        "bootstrapped": status.is_bootstrapped,
        "nodes": stats.nodes[0],
        "nodes6": stats.nodes[1],
        "good_nodes": stats.good_nodes[0],
        "good_nodes6": stats.good_nodes[1],
        "torrents": stats.torrents,
        "peers": stats.peers,
        "items": stats.items,
        "asked": stats.counts.asked,
        "unanswered": stats.counts.unanswered,
        "answered": stats.counts.answered,
        "dropped": stats.counts.dropped,
    })
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long somebody who answers may take to lead us into the network.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// Three times as long as it takes to ask again.
const UNHEARD_PATIENCE: Duration = Duration::from_secs(20);
/// Of nodes to begin with, in a sentence.
const NAMES_MAX: usize = 4;
/// How long the router may take to hear that we leave.
const PATIENCE: Duration = Duration::from_millis(700);

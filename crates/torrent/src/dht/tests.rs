//! Stories of whole networks in virtual time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::krpc::{Body, Message, Question, Reply};
use super::world::{MALICE, World, ask, wrong_peer};
use super::{Announce, Contact, Item, Node, NodeConfig, NodeId, Output, Scrape, State, Summary};
use crate::swarm::tests::epoch;
use crate::{InfoHash, Rng};

pub(super) fn summary(told: &[Output]) -> Summary {
    let done = told.iter().find_map(|output| match output {
        Output::Done { summary, .. } => Some(summary.clone()),
        _ => None,
    });
    done.expect("it has ended")
}

pub(super) fn peers(told: &[Output]) -> BTreeSet<SocketAddr> {
    let peers = told.iter().filter_map(|output| match output {
        Output::Peers { peers, .. } => Some(peers.clone()),
        _ => None,
    });
    peers.flatten().collect()
}

/// At the port that our datagrams come from.
pub(super) fn at_ours() -> Announce {
    Announce { is_port_implied: true, ..Announce::at(1000) }
}

/// Announces and searches `count` torrents by random nodes. Returns how many were found, and the most
/// hops and questions that it took.
fn find_torrents(world: &mut World, count: usize) -> (usize, u8, usize) {
    let honest = world.honest();
    let (mut found, mut hops, mut asked) = (0, 0, 0);
    for _ in 0..count {
        let hash = InfoHash(world.rng.bytes());
        let [seed, leech] = [0, 1].map(|_| honest[world.rng.below(honest.len())]);
        let told =
            world.search(seed, |node, now| node.announce(now, hash, at_ours()).expect("free"));
        let announced = summary(&told);
        assert!(announced.stored > 0, "nobody took it: {announced:?}");
        let told = world.search(leech, |node, now| node.peers(now, hash).expect("free"));
        found += usize::from(peers(&told).contains(&world.hosts[seed].addr));
        let searched = summary(&told);
        hops = hops.max(searched.hops).max(announced.hops);
        asked = asked.max(searched.asked).max(announced.asked);
    }
    (found, hops, asked)
}

#[test]
fn a_thousand_nodes_find_everything_in_few_hops() {
    let mut world = World::grown(1, 1000, 0);
    let known = |at: &usize| world.node(*at).stats(world.now).nodes[0];
    let mut known: Vec<usize> = world.honest().iter().map(known).collect();
    known.sort_unstable();
    // The last have only just come: they know their neighbourhood, and little else yet.
    assert!(known[0] >= 8 && known[500] >= 40, "{} at least, {} mostly", known[0], known[500]);
    let (found, hops, asked) = find_torrents(&mut world, 50);
    // The logarithm of a thousand is ten; a hop halves the distance three times.
    assert!(found == 50 && hops <= 6 && asked <= 40, "found {found}, {hops} hops, {asked} asked");
}

#[test]
fn a_thousand_nodes_find_most_when_a_fifth_of_them_are_hostile() {
    let mut world = World::grown(2, 1000, 20);
    world.loss = 2;
    let (found, hops, asked) = find_torrents(&mut world, 50);
    assert!(found >= 48 && hops <= 10 && asked <= 150, "found {found}, {hops} hops, {asked} asked");
    // However much was sent, what anyone remembers is bounded.
    for at in world.honest() {
        let stats = world.node(at).stats(world.now);
        assert!(stats.nodes[0] <= 160 && stats.queries < 200, "{stats:?}");
        assert_eq!(stats.searches, 0, "{stats:?}");
    }
}

/// A node alone, and what it sends to whom when it is sent something.
struct Alone {
    node: Node,
    now: Instant,
}

impl Alone {
    fn new(config: NodeConfig) -> Self {
        Self { node: Node::new(config, epoch(), Rng::from_seed(9), None), now: epoch() }
    }

    /// The answer to a datagram.
    fn tell(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        self.node.handle_datagram(self.now, from, datagram);
        let mut answer = None;
        while let Some(output) = self.node.poll_output() {
            let Output::Send { to, bytes } = output else { continue };
            assert_eq!(to, from);
            answer = Some(bytes);
        }
        answer
    }

    /// The token that `from` gets for a torrent.
    fn token(&mut self, from: SocketAddr, info_hash: NodeId) -> Vec<u8> {
        let question = ask(
            NodeId([9; 20]),
            Question::GetPeers { info_hash, is_noseed: false, is_scrape: false },
        );
        let answer = self.tell(from, &question).expect("an answer");
        let Ok(Message { body: Body::Reply(reply), .. }) = Message::decode(&answer) else {
            panic!("a reply")
        };
        reply.token.expect("a token").to_vec()
    }

    fn code(&mut self, from: SocketAddr, question: Question<'_>) -> Option<i64> {
        let answer = self.tell(from, &ask(NodeId([9; 20]), question)).expect("an answer");
        match Message::decode(&answer).expect("a message").body {
            Body::Error { code, .. } => Some(code),
            Body::Reply(_) => None,
            Body::Query(_) => panic!("a question"),
        }
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn only_who_shows_its_token_may_announce() {
    let mut alone = Alone::new(NodeConfig::default());
    let [honest, liar] = ["9.1.1.1:1", "9.2.2.2:2"].map(addr);
    let info_hash = NodeId([7; 20]);
    let token = alone.token(honest, info_hash);
    let announce = |token| Question::AnnouncePeer {
        info_hash,
        port: 0,
        is_implied: true,
        is_seed: false,
        token,
    };
    assert_eq!(alone.code(liar, announce(&token)), Some(203));
    assert_eq!(alone.code(honest, announce(b"")), Some(203));
    assert_eq!(alone.node.stats(alone.now).peers, 0);
    assert_eq!(alone.code(honest, announce(&token)), None);
    let search = alone.node.peers(alone.now, info_hash.info_hash()).expect("free");
    let told = std::iter::from_fn(|| alone.node.poll_output()).collect::<Vec<_>>();
    assert!(told.contains(&Output::Peers { search, peers: vec![honest] }), "the implied port");
    alone.now += Duration::from_secs(11 * 60);
    assert_eq!(alone.code(honest, announce(&token)), Some(203), "too old");
}

#[test]
fn several_nodes_on_one_machine_are_all_asked_back() {
    let mut alone = Alone::new(NodeConfig::default());
    let neighbours = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    for from in neighbours {
        let id = NodeId([from.port() as u8; 20]);
        alone.tell(from, &ask(id, Question::Ping));
    }
    alone.now += Duration::from_secs(10);
    alone.node.handle_timeout(alone.now);
    let asked = std::iter::from_fn(|| alone.node.poll_output());
    let asked = asked.filter_map(|output| match output {
        Output::Send { to, .. } => Some(to),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), neighbours);
}

#[test]
fn an_item_is_stored_with_a_token_and_a_signature_that_are_right() {
    let mut alone = Alone::new(NodeConfig::default());
    let from = addr("9.1.1.1:1");
    let item = Item::sign(&[3; 32], b"salt", 2, b"5:value".to_vec()).expect("fits");
    let token = alone.token(from, item.target());
    let put = |token, value, cas| Question::Put { token, value, signed: item.signed(), cas };
    assert_eq!(alone.code(from, put(b"no", b"5:value", None)), Some(203));
    assert_eq!(alone.code(from, put(&token, b"5:other", None)), Some(206));
    assert_eq!(alone.code(from, put(&token, b"5:value", None)), None);
    assert_eq!(alone.code(from, put(&token, b"5:value", Some(9))), Some(301));
    assert_eq!(alone.node.stats(alone.now).items, 1);
}

#[test]
fn answers_are_rationed_for_each_address_and_for_all() {
    let config = NodeConfig { answers_per_second: 50, ..NodeConfig::default() };
    let mut alone = Alone::new(config);
    let ping = ask(NodeId([9; 20]), Question::Ping);
    let from = addr("9.1.1.1:1");
    assert_eq!((0..100).filter(|_| alone.tell(from, &ping).is_some()).count(), 20);
    let others = (0..100_u8)
        .filter(|host| alone.tell(SocketAddr::from(([9, 2, *host, 1], 1)), &ping).is_some());
    assert_eq!(others.count(), 30);
    alone.now += Duration::from_secs(1);
    assert!(alone.tell(from, &ping).is_some());
    assert_eq!(alone.node.stats(alone.now).counts.dropped, 150);
}

#[test]
fn a_read_only_node_asks_and_says_so_and_answers_nothing() {
    let mut alone = Alone::new(NodeConfig { is_read_only: true, ..NodeConfig::default() });
    let from = addr("9.1.1.1:1");
    assert_eq!(alone.tell(from, &ask(NodeId([9; 20]), Question::Ping)), None);
    assert_eq!(alone.tell(from, b"d1:t2:aa1:y1:qe"), None);
    alone.node.add_node(alone.now, from);
    alone.node.handle_timeout(alone.now);
    let Some(Output::Send { bytes, .. }) = alone.node.poll_output() else { panic!("it asks") };
    assert!(Message::decode(&bytes).expect("a message").is_read_only);
    let mut world = World::grown(3, 30, 0);
    let silent = world.add_node(NodeConfig { is_read_only: true, ..NodeConfig::default() });
    world.run(Duration::from_secs(60));
    assert!(world.node(silent).stats(world.now).nodes[0] > 8);
    let addr = world.hosts[silent].addr;
    let knows = |at: usize| world.node(at).nodes().any(|node| node.addr == addr);
    assert!(!(0..30).any(knows), "nobody keeps it as a node");
}

#[test]
fn items_are_found_by_others_and_the_newest_wins() {
    let mut world = World::grown(4, 60, 0);
    let value = Item::immutable(b"l2:hi5:theree".to_vec()).expect("fits");
    let target = value.target();
    let told = world.search(7, |node, now| node.put(now, value.clone(), None).expect("free"));
    assert!(summary(&told).stored >= 4);
    let told = world.search(50, |node, now| node.get(now, target).expect("free"));
    assert!(told.iter().any(|told| matches!(told, Output::Item { item, .. } if *item == value)));
    for seq in [1, 2, 9] {
        let value = format!("i{seq}e").into_bytes();
        let item = Item::sign(&[5; 32], b"", seq, value).expect("fits");
        world.search(8, |node, now| node.put(now, item, None).expect("free"));
    }
    let key = super::public_key(&[5; 32]);
    let told = world.search(51, |node, now| node.get_signed(now, &key, b"").expect("free"));
    let mut seqs = told.iter().filter_map(|told| match told {
        Output::Item { item, .. } => item.seq(),
        _ => None,
    });
    assert_eq!(seqs.next_back(), Some(9));
}

#[test]
fn samples_tell_of_the_torrents_that_were_announced() {
    let mut world = World::grown(5, 60, 0);
    let hash = InfoHash([0x5a; 20]);
    world.search(3, |node, now| node.announce(now, hash, at_ours()).expect("free"));
    let told = world.search(30, |node, now| node.sample(now, hash.into()).expect("free"));
    let has = |told: &Output| matches!(told, Output::Samples { info_hashes, .. } if info_hashes.contains(&hash.into()));
    assert!(told.iter().any(has));
}

#[test]
fn peers_are_where_they_say_and_are_counted_without_being_told() {
    let mut world = World::grown(10, 60, 0);
    let hash = InfoHash([0x5b; 20]);
    let seed = Announce { is_seed: true, ..Announce::at(4242) };
    world.search(3, |node, now| node.announce(now, hash, seed).expect("free"));
    for downloader in 4..20 {
        world.search(downloader, |node, now| node.announce(now, hash, at_ours()).expect("free"));
    }
    let told = world.search(30, |node, now| node.peers(now, hash).expect("free"));
    let mut wanted: BTreeSet<_> = (4..20).map(|at| world.hosts[at].addr).collect();
    wanted.insert(SocketAddr::new(world.hosts[3].addr.ip(), 4242));
    assert_eq!((peers(&told), summary(&told).scrape), (wanted, None));
    let told = world.search(30, |node, now| node.scrape(now, hash).expect("free"));
    assert_eq!(summary(&told).scrape, Some(Scrape { seeds: 1, downloaders: 16 }));
    let told = world.search(30, |node, now| node.scrape(now, InfoHash([1; 20])).expect("free"));
    assert_eq!(summary(&told).scrape, None, "nobody knows it");
}

#[test]
fn nodes_of_ipv6_are_told_of_the_port_that_is_right_there() {
    let mut world = World::new(12);
    let v6 = || NodeConfig { v4: false, v6: true, ..NodeConfig::default() };
    for _ in 0..20 {
        world.add_node(v6());
        world.run(Duration::from_millis(60));
    }
    world.run(Duration::from_secs(60));
    let hash = InfoHash([0x5c; 20]);
    for (announcer, port_v6, is_port_implied, port) in
        [(3, Some(4343), false, 4343), (4, Some(4343), true, 4343), (5, None, false, 4242)]
    {
        let announce = Announce { port_v6, is_port_implied, ..Announce::at(4242) };
        world.search(announcer, |node, now| node.announce(now, hash, announce).expect("free"));
        let told = world.search(15, |node, now| node.peers(now, hash).expect("free"));
        let wanted = SocketAddr::new(world.hosts[announcer].addr.ip(), port);
        assert!(peers(&told).contains(&wanted), "{announcer}");
    }
}

#[test]
fn who_wants_no_seeds_is_told_of_the_others_alone() {
    let mut alone = Alone::new(NodeConfig::default());
    let info_hash = NodeId([3; 20]);
    for (host, is_seed) in [(1, true), (2, false), (3, true), (4, false)] {
        let from = SocketAddr::from(([9, host, 1, 1], 1));
        let token = alone.token(from, info_hash);
        let question = Question::AnnouncePeer {
            info_hash,
            port: 7,
            is_implied: false,
            is_seed,
            token: &token,
        };
        assert_eq!(alone.code(from, question), None);
    }
    for (noseed, wanted) in [("", 4), ("6:noseedi0e", 4), ("6:noseedi1e", 2)] {
        let [id, hash] = ["9", "\x03"].map(|letter| letter.repeat(20));
        let query =
            format!("d1:ad2:id20:{id}9:info_hash20:{hash}{noseed}e1:q9:get_peers1:t1:a1:y1:qe");
        let answer = alone.tell(addr("9.5.1.1:1"), query.as_bytes()).expect("an answer");
        let Ok(Message { body: Body::Reply(reply), .. }) = Message::decode(&answer) else {
            panic!("a reply")
        };
        assert_eq!(reply.peers.len(), wanted, "{noseed}");
    }
}

#[test]
fn takes_a_name_that_fits_its_address_once_enough_nodes_agree_on_that() {
    let mut world = World::grown(6, 40, 0);
    let newcomer = world.add_node(NodeConfig::default());
    world.run(Duration::from_secs(30));
    let ip = world.hosts[newcomer].addr.ip();
    assert!(world.node(newcomer).id(false).expect("on").fits(ip));
    assert!(world.hosts[newcomer].told.contains(&Output::ExternalAddress(ip)));
    assert!(world.hosts[newcomer].told.contains(&Output::Bootstrapped { is_v6: false }));
    // A handful of liars in one subnet does not change its mind.
    let id = world.node(newcomer).id(false);
    for host in 1..200 {
        let from = SocketAddr::from(([7, 7, 7, host], 1));
        world.with(newcomer, |node, _| node.vote(from, [8, 8, 8, 8].into()));
    }
    assert_eq!(world.node(newcomer).id(false), id);
}

#[test]
fn who_knows_nobody_of_ipv6_asks_for_both_families_and_tells_what_is_wanted() {
    let both = NodeConfig { v6: true, ..NodeConfig::default() };
    let mut alone = Alone::new(both);
    alone.node.add_node(alone.now, addr("9.1.1.1:1"));
    alone.node.handle_timeout(alone.now);
    let Some(Output::Send { bytes, .. }) = alone.node.poll_output() else { panic!("it asks") };
    let message = Message::decode(&bytes).expect("a message");
    let Body::Query(query) = &message.body else { panic!("a question") };
    assert!(query.want.v4 && query.want.v6);
    // The answer tells of a node of IPv6, which is asked next.
    let v6 = addr("[2001:db8::5]:6881");
    let nodes = vec![Contact { id: NodeId([1; 20]), addr: v6 }];
    let reply = Body::Reply(Reply { nodes, ..Reply::of(NodeId([2; 20])) });
    let transaction = message.transaction;
    let reply = Message { transaction, body: reply, is_read_only: false, external: None };
    alone.node.handle_datagram(alone.now, addr("9.1.1.1:1"), &reply.encode());
    let mut asked = Vec::new();
    for _ in 0..5 {
        alone.now = alone.node.poll_timeout().max(alone.now);
        alone.node.handle_timeout(alone.now);
        asked.extend(std::iter::from_fn(|| alone.node.poll_output()));
    }
    assert!(asked.iter().any(|told| matches!(told, Output::Send { to, .. } if *to == v6)));
    assert_eq!(alone.node.stats(alone.now).nodes, [1, 0]);
}

#[test]
fn the_next_run_begins_with_the_nodes_of_the_last() {
    let mut world = World::grown(8, 60, 0);
    let state = State::decode(&world.node(20).state(6881).encode()).expect("a state");
    assert!(state.nodes.len() > 10);
    let rng = Rng::from_seed(99);
    let again = Node::new(NodeConfig::default(), world.now, rng, Some(&state));
    assert_eq!(again.id(false), world.node(20).id(false));
    // It knows no boot node.
    world.replace(20, again);
    world.run(Duration::from_secs(30));
    assert!(world.node(20).stats(world.now).good_nodes[0] > 10);
}

#[test]
fn survives_any_datagram_from_anyone_at_any_time() {
    let mut world = World::grown(9, 20, 0);
    let templates: Vec<Vec<u8>> = [
        Question::FindNode { target: NodeId([1; 20]) },
        Question::GetPeers { info_hash: NodeId([2; 20]), is_noseed: false, is_scrape: true },
        Question::AnnouncePeer {
            info_hash: NodeId([2; 20]),
            port: 1,
            is_implied: false,
            is_seed: true,
            token: b"12345678",
        },
        Question::Put { token: b"12345678", value: b"i1e", signed: None, cas: Some(1) },
    ]
    .map(|question| ask(NodeId([3; 20]), question))
    .into();
    for round in 0..20_000 {
        let mut datagram = templates[round % templates.len()].clone();
        for _ in 0..world.rng.below(4) {
            let at = world.rng.below(datagram.len());
            datagram[at] = world.rng.u32() as u8;
        }
        let from = SocketAddr::from((world.rng.bytes::<4>(), world.rng.u32() as u16));
        world.with(0, |node, now| node.handle_datagram(now, from, &datagram));
        if round % 100 == 0 {
            world.run(Duration::from_millis(300));
        }
    }
    let stats = world.node(0).stats(world.now);
    assert!(stats.queries < 200 && stats.peers == 0 && stats.items == 0, "{stats:?}");
    assert!(stats.counts.answered > 1000 && stats.counts.stray > 100, "{stats:?}");
}

#[test]
fn each_kind_of_malice_alone_leaves_the_honest_able_to_find() {
    for (seed, malice) in MALICE.into_iter().enumerate() {
        let mut world = World::grown(20 + seed as u64, 60, 0);
        for _ in 0..25 {
            world.add_hostile(malice);
            world.run(Duration::from_millis(100));
        }
        world.run(Duration::from_secs(30));
        let (found, _, _) = find_torrents(&mut world, 10);
        assert!(found >= 9, "{malice:?}: {found}");
        let at = world.honest()[9];
        let told = world.search(at, |node, now| node.peers(now, InfoHash([1; 20])).expect("free"));
        let wrong = peers(&told);
        assert!(wrong.iter().all(|peer| *peer == wrong_peer()), "{wrong:?}");
    }
}

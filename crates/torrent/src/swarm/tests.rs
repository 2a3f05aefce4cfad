//! Stories of swarms that talk to each other.

use std::net::SocketAddr;

use bytes::Bytes;

pub(crate) use super::world::epoch;
use super::world::{World, plain};
use super::*;
use crate::wire::{Handshake, Reserved};
use crate::{Block, PeerFault, PeerId};

#[test]
fn a_leech_gets_everything_from_a_seed_and_they_part() {
    for reserved in [Reserved::ours(), plain()] {
        let mut world = World::new(1_000_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        world.connect_with(leech, seed, reserved);
        world.run(3);
        assert!(world.is_done(leech));
        assert_eq!(world.hosts[leech].closed, ["both are seeds"]);
        assert_eq!(world.hosts[leech].events.last().map(String::as_str), Some("completed"));
        assert_eq!(world.hosts[leech].swarm.wasted(), 0);
        assert_eq!(world.hosts[seed].swarm.uploaded(), 1_000_000);
        assert_eq!(world.hosts[leech].swarm.held_len(), 0);
    }
}

#[test]
fn leeches_trade_what_they_have_and_all_finish() {
    let mut world = World::new(3_000_000, 50_000);
    let seed = world.seed();
    let leeches: Vec<usize> = (0..5).map(|_| world.leech()).collect();
    // Two megabytes a second, as for everyone: too little to serve them all alone.
    world.hosts.iter_mut().for_each(|host| host.upload_per_step = 20_000);
    for (at, &leech) in leeches.iter().enumerate() {
        world.connect(leech, seed);
        leeches[..at].iter().for_each(|&other| world.connect(leech, other));
    }
    world.run(60);
    assert!(leeches.iter().all(|&leech| world.is_done(leech)));
    let from_seed = world.hosts[seed].swarm.uploaded();
    assert!(from_seed < 9_000_000, "the seed sent {from_seed} of 15,000,000");
}

#[test]
fn equal_worlds_run_equally() {
    let run = || {
        let mut world = World::new(500_000, 30_000);
        let (seed, a, b) = (world.seed(), world.leech(), world.leech());
        world.connect(a, seed);
        world.connect(b, seed);
        world.connect(a, b);
        world.run(20);
        (world.hosts[a].events.clone(), world.hosts[b].events.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn unwanted_pieces_are_not_asked_for() {
    let mut world = World::new(400_000, 100_000);
    let seed = world.seed();
    let leech = world.add_wanting(Bitfield::none(4), &[0, 4, 0, 7]);
    world.connect(leech, seed);
    world.run(3);
    assert_eq!(world.hosts[leech].events, ["verified 3", "verified 1", "completed"]);
    world.hosts[leech].swarm.set_priorities(&[4, 4, 4, 4]);
    world.connect_again(leech, seed);
    world.run(3);
    assert!(world.is_done(leech));
}

#[test]
fn a_lone_liar_is_banned_and_the_piece_comes_from_another() {
    let mut world = World::new(400_000, 100_000);
    let (liar, leech) = (world.seed(), world.leech());
    world.hosts[liar].lies_about = vec![PieceIndex(2)];
    world.connect(leech, liar);
    world.run(3);
    let events = &world.hosts[leech].events;
    assert!(
        events.contains(&"failed 2".to_owned()) && events.contains(&"banned 10.0.0.1".to_owned()),
        "{events:?}"
    );
    let honest = world.seed();
    world.connect(leech, honest);
    world.run(3);
    assert!(world.is_done(leech));
    let again = NewPeer {
        addr: World::addr(liar),
        direction: Direction::Incoming,
        peer_id: PeerId([77; 20]),
        reserved: Reserved::ours(),
        is_encrypted: false,
    };
    assert_eq!(world.hosts[leech].swarm.add_peer(world.now, &again), Err(Refused::Banned));
}

#[test]
fn of_several_senders_only_the_liar_is_banned() {
    let mut world = World::new(64 * 16384, 32 * 16384);
    let (liar, leech) = (world.seed(), world.leech());
    let honest: Vec<usize> = (0..3).map(|_| world.seed()).collect();
    world.hosts[liar].lies_about = vec![PieceIndex(0), PieceIndex(1)];
    world.connect(leech, liar);
    honest.iter().for_each(|&seed| world.connect(leech, seed));
    world.run(30);
    assert!(world.is_done(leech));
    let banned: Vec<&String> =
        world.hosts[leech].events.iter().filter(|event| event.starts_with("banned")).collect();
    assert!(banned.iter().all(|event| *event == "banned 10.0.0.1"), "{banned:?}");
}

#[test]
fn the_end_game_does_not_make_us_more_patient() {
    let mut world = World::new(10_000, 16_384);
    let (seed, leech) = (world.seed(), world.leech());
    world.hosts[seed].is_mute = true;
    world.connect(leech, seed);
    world.run(1);
    assert!(world.hosts[leech].swarm.is_endgame());
    for _ in 0..60 {
        world.inject(seed, leech, &vec![Message::KeepAlive; 40]);
        world.run(1);
    }
    assert_eq!(world.hosts[leech].faults, [PeerFault::ControlFlood]);
}

#[test]
fn a_mute_peer_is_snubbed_and_others_are_asked() {
    let mut world = World::new(300_000, 100_000);
    let (mute, leech, seed) = (world.seed(), world.leech(), world.seed());
    world.hosts[mute].is_mute = true;
    world.connect(leech, mute);
    world.run(5);
    let status = world.hosts[leech].swarm.peers(world.now).next().expect("connected").1;
    assert!(status.requests_outstanding > 0 && !status.is_snubbed);
    world.connect(leech, seed);
    world.run(20);
    assert!(world.is_done(leech));
}

#[test]
fn a_lost_peer_s_blocks_are_asked_of_others() {
    let mut world = World::new(2_000_000, 500_000);
    let (a, b, leech) = (world.seed(), world.seed(), world.leech());
    world.connect(leech, a);
    (0..5).for_each(|_| {
        if let Some((from, to, bytes)) = world.wires.pop_front() {
            world.deliver(from, to, bytes);
        }
    });
    world.disconnect(leech, a);
    world.connect(leech, b);
    world.run(5);
    assert!(world.is_done(leech));
}

#[test]
fn short_memory_sends_unfinished_pieces_to_disk() {
    let mut world = World::new(1_000_000, 1_000_000);
    let (seed, leech) = (world.seed(), world.leech());
    world.connect(leech, seed);
    while world.hosts[leech].swarm.held_len() < 200_000 {
        let (from, to, bytes) = world.wires.pop_front().expect("a transfer");
        world.deliver(from, to, bytes);
    }
    world.hosts[leech].swarm.relieve();
    world.drain(leech);
    assert_eq!(world.hosts[leech].swarm.held_len(), 0);
    world.run(5);
    assert!(world.is_done(leech));
    assert_eq!(world.hosts[leech].events, ["stored 0", "verified 0", "completed"]);
}

#[test]
fn faults_end_the_connection() {
    let block = |piece, offset, len| Block { piece: PieceIndex(piece), offset, len };
    let bits = |bytes: &'static [u8]| Message::Bitfield(Bytes::from_static(bytes));
    let cases: Vec<(Vec<Message>, PeerFault)> = vec![
        (vec![bits(&[0xff, 0])], PeerFault::MalformedBitfield),
        (vec![bits(&[0xff])], PeerFault::MalformedBitfield),
        (vec![bits(&[0xf0]); 1000], PeerFault::ControlFlood),
        (vec![Message::Have(PieceIndex(4))], PeerFault::NoSuchPiece),
        (vec![Message::Request(block(4, 0, 16384))], PeerFault::NoSuchPiece),
        (vec![Message::Request(block(0, 99_999, 2))], PeerFault::BadRequest),
        (vec![Message::Request(block(0, 0, 0))], PeerFault::BadRequest),
        (vec![Message::Request(block(0, 0, 131_073))], PeerFault::BadRequest),
        (vec![Message::Request(block(1, 0, 16384))], PeerFault::RequestForMissingPiece),
        (vec![Message::Reject(block(0, 0, 16384))], PeerFault::UnexpectedReject),
        (vec![Message::Choke; 1000], PeerFault::ControlFlood),
        (vec![Message::KeepAlive; 1000], PeerFault::ControlFlood),
        (
            (0..1000).map(|n| if n % 2 == 0 { Message::Unchoke } else { Message::Choke }).collect(),
            PeerFault::ControlFlood,
        ),
        (
            (0..1000)
                .map(|_| Message::Piece {
                    piece: PieceIndex(1),
                    offset: 0,
                    data: Bytes::from_static(&[1; 64]),
                })
                .collect(),
            PeerFault::UnrequestedData,
        ),
        (
            [Message::Interested]
                .into_iter()
                .chain(vec![Message::Request(block(0, 0, 1)); 30_000])
                .collect(),
            PeerFault::TooManyRequests,
        ),
    ];
    for (messages, fault) in cases {
        let mut world = World::new(400_000, 100_000);
        let mut have = Bitfield::none(4);
        have.set(PieceIndex(0));
        let (victim, hostile) = (world.add(have), world.leech());
        world.hosts[victim].is_mute = true;
        world.connect_with(hostile, victim, Reserved::ours());
        world.wires.clear();
        world.inject(hostile, victim, &messages);
        assert_eq!(world.hosts[victim].faults, [fault], "{:?}", messages.first());
        assert_eq!(world.hosts[victim].swarm.peer_count(), 0);
    }
}

#[test]
fn a_bitfield_may_come_late_and_again() {
    let mut world = World::new(400_000, 100_000);
    let (victim, other) = (world.leech(), world.leech());
    world.connect_with(other, victim, Reserved::ours());
    world.wires.clear();
    let extended = Message::Extended { id: 0, payload: Bytes::from_static(b"de") };
    let bits = |bits: &'static [u8]| Message::Bitfield(Bytes::from_static(bits));
    let have = Message::Have(PieceIndex(2));
    let messages = [extended, Message::HaveNone, have, bits(&[0xe0]), bits(&[0x80]), bits(&[0xf0])];
    world.inject(other, victim, &messages);
    assert_eq!(world.hosts[victim].faults, []);
    // It was believed: the victim asked for pieces, which the other does not have in truth.
    assert_eq!(world.hosts[other].faults, [PeerFault::RequestForMissingPiece]);
}

#[test]
fn fast_messages_need_the_fast_extension() {
    for message in [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest(PieceIndex(0)),
        Message::AllowedFast(PieceIndex(0)),
    ] {
        let mut world = World::new(400_000, 100_000);
        let (victim, hostile) = (world.leech(), world.leech());
        world.connect_with(hostile, victim, plain());
        world.wires.clear();
        world.inject(hostile, victim, &[message]);
        assert_eq!(world.hosts[victim].faults, [PeerFault::NotNegotiated]);
    }
}

#[test]
fn ourselves_and_twins_are_turned_away() {
    let mut world = World::new(100_000, 100_000);
    let (a, b) = (world.leech(), world.leech());
    world.connect(a, b);
    let new = |peer_id, port| NewPeer {
        addr: SocketAddr::from(([10, 9, 9, 9], port)),
        direction: Direction::Outgoing,
        peer_id,
        reserved: plain(),
        is_encrypted: false,
    };
    let (ours, theirs) = (world.hosts[a].swarm.config.peer_id, world.hosts[b].swarm.config.peer_id);
    world.hosts[a].swarm.known.add(SocketAddr::from(([10, 9, 9, 9], 1)), Source::Tracker);
    assert_eq!(world.hosts[a].swarm.add_peer(world.now, &new(ours, 1)), Err(Refused::Ourselves));
    assert_eq!(world.hosts[a].swarm.known.next_to_dial(world.now), None);
    assert_eq!(world.hosts[a].swarm.add_peer(world.now, &new(theirs, 2)), Err(Refused::Duplicate));
}

#[test]
fn of_two_who_dial_each_other_both_keep_the_same_connection() {
    let mut world = World::new(100_000, 100_000);
    let both = [world.leech(), world.leech()];
    // Each has its own connection first.
    for (at, other) in [(0, 1), (1, 0)] {
        let peer_id = world.hosts[both[other]].swarm.config.peer_id;
        let addr = World::addr(both[other]);
        let new = |direction, port| {
            let addr = SocketAddr::new(addr.ip(), port);
            NewPeer { addr, direction, peer_id, reserved: plain(), is_encrypted: false }
        };
        let (now, late) = (world.now, world.now + Duration::from_secs(6));
        let swarm = &mut world.hosts[both[at]].swarm;
        swarm.add_peer(now, &new(Direction::Outgoing, 6881)).expect("welcome");
        let second = new(Direction::Incoming, 50_000);
        assert_eq!(swarm.add_peer(late, &second), Err(Refused::Duplicate), "it is no longer new");
        // The second has the greater name.
        assert_eq!(swarm.add_peer(now, &second).is_ok(), at == 0);
    }
    world.drain(both[0]);
    world.drain(both[1]);
    let [one, two] = both.map(|at| world.hosts[at].closed.clone());
    assert_eq!((one, two), (vec!["already connected"], vec![]));
}

#[test]
fn a_silent_peer_is_closed_and_a_quiet_one_hears_keep_alives() {
    let mut world = World::new(100_000, 100_000);
    let (a, b) = (world.leech(), world.leech());
    world.connect(a, b);
    world.run(400);
    assert_eq!(world.hosts[a].swarm.peer_count(), 1, "keep-alives keep it");
    let key = *world.hosts[a].links.keys().next().expect("linked");
    world.hosts[a].links.remove(&key);
    world.run(400);
    assert!(
        world.hosts[b].closed.contains(&"silent for three minutes")
            || world.hosts[a].swarm.peer_count() == 0
    );
}

#[test]
fn who_neither_gives_nor_takes_is_the_first_to_make_room_after_a_minute() {
    let mut world = World::new(400_000, 65536);
    let (us, seed, first, second) = (world.leech(), world.seed(), world.leech(), world.leech());
    for other in [seed, first, second] {
        world.connect(us, other);
    }
    world.hosts[seed].is_mute = true;
    world.run(30);
    assert_eq!(world.hosts[us].swarm.least_useful(world.now), None);
    world.run(31);
    let key = world.hosts[us].swarm.least_useful(world.now).expect("one");
    assert_eq!(world.hosts[us].links[&key].0, first);
    for other in [first, second] {
        world.disconnect(us, other);
    }
    assert_eq!(world.hosts[us].swarm.least_useful(world.now), None, "it may yet send something");
    world.run(240);
    let key = world.hosts[us].swarm.least_useful(world.now).expect("it has not in five minutes");
    assert_eq!(world.hosts[us].links[&key].0, seed);
}

#[test]
fn allowed_fast_pieces_are_served_to_the_choked() {
    let mut world = World::new(400_000, 100_000);
    let (seed, leech) = (world.seed(), world.leech());
    world.connect(leech, seed);
    let key = *world.hosts[seed].links.keys().next().expect("linked");
    assert_eq!(world.hosts[seed].swarm.allowed_to(key).len(), 4);
    let block = Block { piece: PieceIndex(0), offset: 0, len: 100 };
    world.wires.clear();
    world.hosts[seed].is_mute = true;
    world.inject(leech, seed, &[Message::Request(block)]);
    assert!(world.hosts[seed].swarm.has_requests(key));
}

#[test]
fn a_peer_that_chokes_may_reject_all_that_it_was_asked_for() {
    // More blocks than a peer may send control messages at once.
    let mut world = World::new(2000 * 16_384, 50 * 16_384);
    let (leech, seed) = (world.leech(), world.seed());
    world.hosts[seed].is_mute = true;
    world.connect(leech, seed);
    world.run(1);
    let key = *world.hosts[leech].links.keys().next().expect("connected");
    let swarm = &mut world.hosts[leech].swarm;
    let asked = |swarm: &Swarm| -> Vec<Block> {
        swarm.peers[&key].asked.iter().map(|asked| asked.block).collect()
    };
    while asked(swarm).len() < 500 {
        let answers = asked(swarm).into_iter().take(100).map(|Block { piece, offset, len }| {
            Message::Piece { piece, offset, data: vec![0; len as usize].into() }
        });
        swarm.handle_messages(world.now, key, &mut answers.collect()).expect("asked for");
        swarm.peers.get_mut(&key).expect("connected").pipeline.set_depth_max(2000);
    }
    let rejects = asked(swarm).into_iter().map(Message::Reject);
    let mut messages: Vec<Message> = std::iter::once(Message::Choke).chain(rejects).collect();
    assert_eq!(swarm.handle_messages(world.now, key, &mut messages), Ok(()));
    let allowed = &swarm.peers[&key].allowed_to_us;
    assert!(asked(swarm).iter().all(|block| allowed.contains(&block.piece)));
}

#[test]
fn the_handshake_is_the_first_thing_said() {
    let hello = Handshake {
        reserved: Reserved::ours(),
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
    };
    assert_eq!(hello.encode().len(), Handshake::LEN);
}

#[test]
fn slots_and_timers_of_a_swarm_say_who_is_served_and_when() {
    let mut world = World::new(400_000, 100_000);
    world.choking.first_after = Duration::from_secs(10);
    let (seed, leech) = (world.seed(), world.leech());
    world.connect_with(leech, seed, plain());
    world.run(9);
    assert_eq!(world.hosts[seed].swarm.uploaded(), 0);
    world.hosts[seed].swarm.set_slots(Slots::Fixed(0));
    world.run(30);
    assert_eq!(world.hosts[seed].swarm.uploaded(), 0);
    world.hosts[seed].swarm.set_slots(Slots::Fixed(1));
    world.run(11);
    assert!(world.is_done(leech));
}

#[test]
fn so_many_blocks_that_were_never_asked_for_are_put_up_with_and_no_more() {
    let mut world = World::new(400_000, 100_000);
    let (victim, other) = (world.leech(), world.leech());
    world.connect(other, victim);
    let stray = Message::Piece {
        piece: PieceIndex(1),
        offset: 16_384,
        data: Bytes::from_static(&[1; 16_384]),
    };
    world.inject(other, victim, &vec![stray.clone(); 64]);
    assert_eq!(world.hosts[victim].faults, []);
    let swarm = &world.hosts[victim].swarm;
    assert_eq!((swarm.downloaded(), swarm.held_len(), swarm.wasted()), (0, 0, 64 * 16_384));
    world.inject(other, victim, &[stray]);
    assert_eq!(world.hosts[victim].faults, [PeerFault::UnrequestedData]);
}

#[test]
fn a_block_of_another_length_than_asked_for_is_not_what_was_asked_for() {
    let mut world = World::new(400_000, 100_000);
    let (victim, seed) = (world.leech(), world.seed());
    world.hosts[seed].is_mute = true;
    world.connect(victim, seed);
    world.run(1);
    let key = *world.hosts[victim].links.keys().next().expect("linked");
    let swarm = &world.hosts[victim].swarm;
    let asked: Vec<Block> = swarm.peer_requests(key).collect();
    let first = asked[0];
    let short = Bytes::from(vec![0; first.len as usize - 1]);
    let block = Message::Piece { piece: first.piece, offset: first.offset, data: short };
    world.inject(seed, victim, &[block]);
    let swarm = &world.hosts[victim].swarm;
    assert_eq!((swarm.downloaded(), swarm.held_len()), (0, 0));
    assert_eq!(swarm.peer_requests(key).collect::<Vec<_>>(), asked);
}

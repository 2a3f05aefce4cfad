//! One program, played again: equal seeds, equal lives.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::simulated::{Node, TraceKind, World, WorldOptions};
use reactor::{Accepted, Budgets, ConnectOptions, Direction, ListenOptions, Rate, Reactor, Remote};

use crate::parts::{HERE, THERE};
use crate::stage::{Door, Inbox, Script, noise, read, script};

/// What a node saw, in order.
type Diary = Vec<String>;

const DOOR: u16 = 80;

fn diarist(name: &'static str) -> Script<Diary> {
    script()
        .readable(move |token, diary: &mut Diary, reactor| {
            let bytes = read(token, reactor)?;
            diary.push(format!("{name} {token:?} read {}", bytes.len()));
            reactor.notify_writable(token);
            if reactor.random().is_multiple_of(50) {
                return Err("had enough".into());
            }
            reactor.write(token, bytes)?;
            Ok(())
        })
        .drained(move |token, diary, _| {
            diary.push(format!("{name} {token:?} drained"));
            Ok(())
        })
        .closed(move |token, reason, diary, _| {
            diary.push(format!("{name} {token:?} ended: {reason}"));
        })
}

/// A server that limits, times out, and gives every other connection to its neighbour.
fn serve(node: &mut Node<Diary>, neighbour: Remote<Diary>) {
    let group = node.reactor.rate_group(Rate::per_second(300_000));
    let door = Door(move |accepted: Accepted, diary: &mut Diary, reactor: &mut Reactor<Diary>| {
        diary.push(format!("{} came", accepted.peer));
        let token = reactor.attach(accepted, diarist("server").boxed()).unwrap();
        reactor.set_water(token, 10_000, 1000);
        reactor.join_rate_group(token, Direction::Read, &group);
        reactor.set_idle_timeout(token, Some(Duration::from_millis(300)));
        if reactor.random().is_multiple_of(2) {
            let connection = reactor.take(token).unwrap().connection;
            let adopt = move |_: &mut Diary, reactor: &mut Reactor<Diary>| {
                reactor.adopt(connection, diarist("neighbour").boxed()).unwrap();
            };
            neighbour.post(adopt).unwrap();
        }
    });
    let addr = SocketAddr::from((THERE, DOOR));
    node.reactor.listen(addr, &ListenOptions::default(), Box::new(door)).unwrap();
}

/// A client again and again, by timers that follow from chance; and datagrams.
fn visit(diary: &mut Diary, reactor: &mut Reactor<Diary>) {
    let timeout = Duration::from_millis(200);
    let options = ConnectOptions { timeout, ..ConnectOptions::default() };
    let client = diarist("client").connected(|token, _, reactor| {
        let len = reactor.random() as usize % 40_000;
        reactor.write(token, noise(len))?;
        reactor.set_deadline(token, Some(reactor.now() + Duration::from_secs(1)));
        Ok(())
    });
    if let Err(error) = reactor.connect(SocketAddr::from((THERE, DOOR)), &options, client.boxed()) {
        diary.push(format!("cannot connect: {:?}", error.kind()));
    }
    let after = Duration::from_micros(reactor.random() % 20_000);
    reactor.add_timer(reactor.now() + after, visit);
}

/// Five seconds in which everything goes wrong that can. How it went, in words and as a digest.
fn life(seed: u64) -> (Vec<Diary>, BTreeSet<TraceKind>, u64) {
    let options = WorldOptions {
        partial_share: 0.5,
        reset_share: 0.01,
        datagram_loss_share: 0.1,
        buffer_len: 20_000,
        descriptors_max: 25,
        ..WorldOptions::default()
    };
    let world = World::new(seed, options);
    let mut here = Node::new(world.host(&[HERE]), Diary::new());
    let mut there = Node::new(world.host(&[THERE]), Diary::new());
    let mut beside = Node::new(world.reactor_on(THERE), Diary::new());
    for node in [&mut here, &mut there, &mut beside] {
        let budgets = Budgets { read_bytes: 5000, accepts: 2, timers: 3, ..Budgets::default() };
        node.reactor.set_budgets(budgets);
    }
    serve(&mut there, beside.reactor.remote());
    let inbox = || {
        Box::new(Inbox(|_, from, data: &[u8], diary: &mut Diary, _: &mut Reactor<Diary>| {
            diary.push(format!("{} from {from}", data.len()));
        }))
    };
    let any = ListenOptions::default();
    there.reactor.bind_udp((THERE, 7).into(), &any, inbox()).unwrap();
    let socket = here.reactor.bind_udp((HERE, 0).into(), &any, inbox()).unwrap();
    let (soon, often) = (here.reactor.now(), Duration::from_millis(40));
    let sending = here.reactor.add_interval(soon, often, move |_, reactor| {
        reactor.send_segments(socket, (THERE, 7).into(), &noise(2500), 1000).unwrap();
    });
    sending.detach();
    here.with(visit);
    for round in 0..10 {
        if round == 4 {
            world.cut(HERE, THERE);
        } else if round == 5 {
            world.mend(HERE, THERE);
        }
        world.run_for(&mut [&mut here, &mut there, &mut beside], Duration::from_millis(500));
    }
    let kinds = world.take_trace().iter().map(|entry| entry.kind).collect();
    (vec![here.state, there.state, beside.state], kinds, world.trace_digest())
}

#[test]
fn a_program_lives_the_same_life_again_whatever_goes_wrong_in_it() {
    let mut digests = BTreeSet::new();
    for seed in 0..3 {
        let (diaries, kinds, digest) = life(seed);
        let all = diaries.concat().join("\n");
        for event in [
            "came",
            "had enough",
            "reset by the peer",
            "timed out",
            "cannot connect",
            "drained",
            "neighbour",
            "1000 from",
        ] {
            assert!(all.contains(event), "no {event} in seed {seed}");
        }
        assert!(kinds.len() >= 6, "{kinds:?}");
        let again = life(seed);
        assert!(again.0 == diaries, "seed {seed}");
        assert_eq!(again.2, digest);
        assert!(digests.insert(digest), "another seed, another life");
    }
}

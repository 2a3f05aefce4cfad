//! How fast connections go that may not go as fast as they can, in simulated time.

use std::time::Duration;

use reactor::simulated::{Node, World, WorldOptions};
use reactor::{Direction, Rate, Read, Token};

use crate::parts::{HERE, THERE, far_pair};
use crate::stage::{Script, noise, read, script};

/// Of the node that sends: nothing. Of the one that receives: how much each connection got.
type Received = Vec<usize>;

/// A sender here, a receiver there, and connections between them that always have something to send.
struct Road {
    world: World,
    here: Node<Received>,
    there: Node<Received>,
    /// The ends that send, and those that receive.
    ends: Vec<(Token, Token)>,
}

impl Road {
    fn new(seed: u64, connections: usize) -> Self {
        Self::with(seed, connections, |number| {
            script().readable(move |token, received: &mut Received, reactor| {
                received[number] += read(token, reactor)?.len();
                Ok(())
            })
        })
    }

    fn with(seed: u64, connections: usize, reader: impl Fn(usize) -> Script<Received>) -> Self {
        let options = WorldOptions { jitter: Duration::ZERO, ..WorldOptions::default() };
        let world = World::new(seed, options);
        let mut here = Node::new(world.host(&[HERE]), Vec::new());
        let mut there = Node::new(world.host(&[THERE]), vec![0; connections]);
        let ends = (0..connections).map(|number| {
            let writer = script().drained(|token, _, reactor| {
                reactor.write(token, noise(1_500_000))?;
                Ok(())
            });
            let handlers = (writer.boxed(), reader(number).boxed());
            far_pair(&world, (&mut here, &mut there), handlers)
        });
        let ends = ends.collect();
        Self { world, here, there, ends }
    }

    /// All begin to send.
    fn flood(&mut self) {
        for (sender, _) in &self.ends {
            self.here.reactor.write(*sender, noise(1_500_000)).unwrap();
        }
    }

    /// How much each of them got in so many seconds, after the first second's bursts and buffers.
    fn received_in(&mut self, seconds: u64) -> Vec<usize> {
        self.pass(1000);
        let before = self.there.state.clone();
        self.pass(seconds * 1000);
        self.there.state.iter().zip(&before).map(|(after, before)| after - before).collect()
    }

    fn pass(&mut self, millis: u64) {
        let nodes: &mut [&mut dyn reactor::simulated::Turn] =
            &mut [&mut self.here, &mut self.there];
        self.world.run_for(nodes, Duration::from_millis(millis));
    }
}

#[track_caller]
fn assert_near(value: usize, expected: usize, percent: usize) {
    let (low, high) = (expected * (100 - percent) / 100, expected * (100 + percent) / 100);
    assert!((low..=high).contains(&value), "{value} instead of {expected}");
}

#[test]
fn a_connection_keeps_to_its_limit_whichever_way_it_is_set() {
    for direction in [Direction::Write, Direction::Read] {
        for rate in [3_000, 100_000, 5_000_000] {
            let mut road = Road::new(rate, 2);
            let (sender, receiver) = road.ends[0];
            let limit = Some(Rate::per_second(rate));
            match direction {
                Direction::Write => road.here.reactor.set_rate(sender, direction, limit),
                Direction::Read => road.there.reactor.set_rate(receiver, direction, limit),
            }
            road.here.reactor.write(sender, noise(1_500_000)).unwrap();
            let received = road.received_in(10);
            assert_near(received[0], rate as usize * 10, 5);
        }
    }
}

#[test]
fn a_burst_goes_at_once_and_not_more() {
    let mut road = Road::new(1, 1);
    let rate = Rate { bytes_per_second: 1000, burst: 50_000 };
    road.here.reactor.set_rate(road.ends[0].0, Direction::Write, Some(rate));
    road.flood();
    road.pass(100);
    assert_near(road.there.state[0], 50_000, 2);
    road.pass(10_000);
    assert_near(road.there.state[0], 60_000, 2);
}

#[test]
fn those_of_a_group_go_no_faster_together_and_none_goes_ahead() {
    for direction in [Direction::Write, Direction::Read] {
        let mut road = Road::new(2, 4);
        let node = if direction == Direction::Write { &mut road.here } else { &mut road.there };
        let group = node.reactor.rate_group(Rate::per_second(200_000));
        for (sender, receiver) in &road.ends {
            let token = if direction == Direction::Write { *sender } else { *receiver };
            node.reactor.join_rate_group(token, direction, &group);
        }
        road.flood();
        let received = road.received_in(10);
        assert_near(received.iter().sum(), 2_000_000, 5);
        for share in received {
            assert_near(share, 500_000, 10);
        }
    }
}

#[test]
fn one_that_reads_until_nothing_is_left_goes_ahead_of_nobody_in_its_group() {
    let mut road = Road::with(3, 3, |number| {
        script().readable(move |token, received: &mut Received, reactor| {
            while let Read::Data(count) = reactor.read(token, &mut [0; 4096])? {
                received[number] += count;
            }
            Ok(())
        })
    });
    let group = road.there.reactor.rate_group(Rate::per_second(90_000));
    for (_, receiver) in &road.ends {
        road.there.reactor.join_rate_group(*receiver, Direction::Read, &group);
    }
    road.flood();
    for share in road.received_in(10) {
        assert_near(share, 300_000, 10);
    }
}

#[test]
fn what_the_others_of_a_group_leave_is_ones_own_and_so_is_what_those_had_that_went() {
    let mut road = Road::new(4, 3);
    let group = road.here.reactor.rate_group(Rate::per_second(100_000));
    for (sender, _) in &road.ends {
        road.here.reactor.join_rate_group(*sender, Direction::Write, &group);
    }
    road.here.reactor.write(road.ends[0].0, noise(1_500_000)).unwrap();
    assert_near(road.received_in(5)[0], 500_000, 5);
    road.here.reactor.write(road.ends[1].0, noise(1_500_000)).unwrap();
    let received = road.received_in(5);
    assert_near(received[0], 250_000, 10);
    assert_near(received[1], 250_000, 10);
    road.here.reactor.close(road.ends[0].0, "gone");
    assert_near(road.received_in(5)[1], 500_000, 5);
}

#[test]
fn the_stricter_of_two_limits_holds_and_leaves_the_rest_to_others() {
    let mut road = Road::new(5, 2);
    let group = road.here.reactor.rate_group(Rate::per_second(100_000));
    for (sender, _) in &road.ends {
        let own = Some(Rate::per_second(20_000)).filter(|_| *sender == road.ends[0].0);
        road.here.reactor.set_rate(*sender, Direction::Write, own);
        road.here.reactor.join_rate_group(*sender, Direction::Write, &group);
    }
    road.flood();
    let received = road.received_in(10);
    assert_near(received[0], 200_000, 10);
    assert_near(received[1], 800_000, 10);
}

#[test]
fn limits_change_while_they_hold() {
    let mut road = Road::new(6, 2);
    let group = road.here.reactor.rate_group(Rate::per_second(10_000));
    let (own, grouped) = (road.ends[0].0, road.ends[1].0);
    road.here.reactor.join_rate_group(grouped, Direction::Write, &group);
    road.flood_at(own, 10_000);
    road.here.reactor.write(grouped, noise(1_500_000)).unwrap();
    for rate in [10_000, 80_000, 20_000] {
        group.set_rate(Rate::per_second(rate));
        road.here.reactor.set_rate(own, Direction::Write, Some(Rate::per_second(rate)));
        for share in road.received_in(10) {
            assert_near(share, rate as usize * 10, 5);
        }
    }
    // One that waits for hours is not left to wait.
    group.set_rate(Rate::per_second(1));
    road.pass(10_000);
    group.set_rate(Rate::per_second(80_000));
    assert_near(road.received_in(10)[1], 800_000, 5);
}

#[test]
fn a_limit_that_is_lifted_holds_back_nothing() {
    for direction in [Direction::Write, Direction::Read] {
        let mut road = Road::new(7, 1);
        let (sender, receiver) = road.ends[0];
        let (node, token) = match direction {
            Direction::Write => (&mut road.here, sender),
            Direction::Read => (&mut road.there, receiver),
        };
        let group = node.reactor.rate_group(Rate::per_second(1000));
        node.reactor.set_rate(token, direction, Some(Rate::per_second(1000)));
        node.reactor.join_rate_group(token, direction, &group);
        road.flood();
        road.pass(5000);
        assert!(road.there.state[0] < 40_000, "{:?}", road.there.state);
        let node = if direction == Direction::Write { &mut road.here } else { &mut road.there };
        node.reactor.set_rate(token, direction, None);
        // 256 KiB at a time, for each of which the answer takes a round trip.
        road.pass(1000);
        assert!(road.there.state[0] > 3_000_000, "{:?}", road.there.state);
    }
}

#[test]
fn a_limit_lives_as_long_as_its_members_and_no_longer() {
    let mut road = Road::new(8, 1);
    let group = road.here.reactor.rate_group(Rate::per_second(50_000));
    road.here.reactor.join_rate_group(road.ends[0].0, Direction::Write, &group);
    drop(group);
    road.flood();
    assert_near(road.received_in(10)[0], 500_000, 5);
    road.here.reactor.close(road.ends[0].0, "over");
    road.pass(1000);
    assert_eq!((road.here.reactor.len(), road.here.reactor.next_wake()), (0, None));
}

impl Road {
    fn flood_at(&mut self, sender: Token, rate: u64) {
        let limit = Some(Rate::per_second(rate));
        self.here.reactor.set_rate(sender, Direction::Write, limit);
        self.here.reactor.write(sender, noise(1_500_000)).unwrap();
    }
}

//! Stories of nodes that vanish, and of a network that goes and comes back.

use std::time::Duration;

use super::tests::{at_ours, peers, summary};
use super::world::World;
use super::{Node, NodeConfig, Output, State};
use crate::{InfoHash, Rng};

const HASH: InfoHash = InfoHash([0x3c; 20]);

#[test]
fn who_was_cut_off_for_hours_knows_the_same_nodes_afterwards() {
    let mut world = World::grown(30, 100, 0);
    let at = 50;
    // Without anyone to begin with: boot nodes may be gone, or names not be resolved.
    let state = world.node(at).state(6881);
    let rng = Rng::from_seed(5);
    let node = Node::new(NodeConfig::default(), world.now, rng, Some(&state));
    world.replace(at, node);
    world.run(Duration::from_secs(120));
    let known = |world: &World| world.node(at).stats(world.now);
    let before = known(&world).nodes[0];
    assert!(before > 20, "{before}");
    let own = world.hosts[at].addr;
    world.absent.insert(own);
    for _ in 0..60 {
        // It goes on searching.
        let told = world.search(at, |node, now| node.peers(now, HASH).expect("free"));
        assert_eq!(summary(&told).replied, 0);
        world.run(Duration::from_secs(180));
    }
    assert_eq!(known(&world).good_nodes[0], 0);
    assert!(known(&world).nodes[0] * 10 >= before * 9, "{:?}", known(&world));
    world.absent.clear();
    world.run(Duration::from_secs(60));
    let told = world.search(at, |node, now| node.announce(now, HASH, at_ours()).expect("free"));
    assert!(summary(&told).stored >= 6, "{:?}", summary(&told));
    let told = world.search(7, |node, now| node.peers(now, HASH).expect("free"));
    assert!(peers(&told).contains(&own));
}

#[test]
fn a_node_whose_former_nodes_are_all_gone_asks_the_boot_nodes_soon() {
    let mut world = World::grown(31, 60, 0);
    let state = State::decode(&world.node(20).state(6881).encode()).expect("a state");
    for node in &state.nodes {
        world.absent.insert(node.addr);
    }
    let boot = world.add_node_at(NodeConfig::default(), ([99, 1, 1, 1], 6881).into());
    world.absent.remove(&world.hosts[boot].addr);
    let mut again = Node::new(NodeConfig::default(), world.now, Rng::from_seed(99), Some(&state));
    again.add_boot_nodes(world.now, &[world.hosts[boot].addr]);
    world.replace(20, again);
    world.hosts[20].told.clear();
    world.run(Duration::from_secs(60));
    let is_in = world.hosts[20].told.contains(&Output::Bootstrapped { is_v6: false });
    assert!(is_in, "{:?}", world.node(20).stats(world.now));
}

#[test]
fn what_was_announced_is_found_when_most_who_keep_it_have_vanished() {
    let mut world = World::grown(32, 100, 0);
    let told = world.search(10, |node, now| node.announce(now, HASH, at_ours()).expect("free"));
    let keepers = summary(&told).closest;
    for keeper in keepers.iter().take(6) {
        world.absent.insert(keeper.addr);
    }
    let honest = |world: &World, at: usize| !world.absent.contains(&world.hosts[at].addr);
    let leech = (60..100).find(|at| honest(&world, *at)).expect("someone");
    let told = world.search(leech, |node, now| node.peers(now, HASH).expect("free"));
    assert!(peers(&told).contains(&world.hosts[10].addr));
    // Announced again, it is with those who are nearest now.
    let told = world.search(10, |node, now| node.announce(now, HASH, at_ours()).expect("free"));
    assert!(summary(&told).stored >= 6);
    assert!(summary(&told).closest.iter().all(|node| !world.absent.contains(&node.addr)));
}

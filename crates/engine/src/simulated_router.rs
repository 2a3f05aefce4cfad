//! Routers in a simulated world. The libraries that speak with real ones have sockets and a clock of their own, so
//! they are stood in for; when a router is asked, and what follows from its answers, is as it is in the real world.

use std::cell::RefCell;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use reactor::simulated::{World, WorldOptions};

use crate::event::{EventKind, EventMask, EventSink, Events};
use crate::gateway::Gateway;
use crate::nat::{Done, Family, Router};
use crate::port_mapper::{Lease, MappedPorts, MappingProtocol};
use crate::settings::SessionConfig;
use crate::simulation::{Machine, PORT, Payload, quiet};

/// What a router of IPv4 knows, and has been asked.
#[derive(Debug)]
struct Table {
    /// `None`: there is no way to it.
    gateway: Option<Gateway>,
    /// The same over IPv6, where it lets through what comes for [`PORT_OPENED`].
    gateway_v6: Option<Gateway>,
    external_ip: IpAddr,
    /// What it gives in place of our port.
    external_port: u16,
    lifetime: Duration,
    mapped: bool,
    asked: Vec<&'static str>,
}

/// What it gives over IPv6.
const PORT_OPENED: u16 = PORT + 6;

#[derive(Clone, Debug)]
struct PretendedRouter(Rc<RefCell<Table>>);

impl PretendedRouter {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Table {
            gateway: Some(gateway(0)),
            gateway_v6: None,
            external_ip: IpAddr::from([203, 0, 113, 7]),
            external_port: PORT + 1,
            lifetime: Duration::from_secs(3600),
            mapped: false,
            asked: Vec::new(),
        })))
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.borrow_mut().asked)
    }
}

impl Router for PretendedRouter {
    fn find(&mut self, family: Family) -> Result<Gateway, String> {
        let table = self.0.borrow();
        let gateway = if family == Family::V6 { table.gateway_v6 } else { table.gateway };
        gateway.ok_or_else(|| "no router".to_owned())
    }

    fn map(&mut self, family: Family, _: Gateway, _: NonZeroU16, done: Done) {
        let mut table = self.0.borrow_mut();
        if family == Family::V6 {
            return done(Ok(table.lease(PORT_OPENED)));
        }
        table.asked.push("map");
        table.mapped = true;
        done(Ok(table.lease(table.external_port)));
    }

    fn renew(&mut self, _: Family, done: Done) {
        let mut table = self.0.borrow_mut();
        table.asked.push("renew");
        done(if table.mapped {
            Ok(table.lease(table.external_port))
        } else {
            Err("not known".to_owned())
        });
    }

    fn leave(&mut self) -> Receiver<()> {
        self.0.borrow_mut().asked.push("leave");
        channel().1
    }
}

impl Table {
    fn lease(&self, port: u16) -> Lease {
        let (tcp, udp) = (port, port);
        let external_ip = Some(self.external_ip);
        let ports = MappedPorts { by: MappingProtocol::NatPmp, external_ip, tcp, udp };
        Lease { ports, lifetime: self.lifetime }
    }
}

fn gateway(network: u8) -> Gateway {
    let ip = |host| IpAddr::from([192, 168, network, host]);
    Gateway { addr: ip(1), ours: ip(2), link: None }
}

fn machine(world: &World, router: &PretendedRouter) -> (Machine, Events) {
    let (sink, events) = EventSink::new(EventMask::LISTEN);
    let config = SessionConfig { events: Some(sink), ..quiet() };
    let mut machine = Machine::with_config(world, 1, None, config);
    let router = Box::new(router.clone());
    machine.node.with(|engine, reactor| engine.keep_mapped(router, reactor));
    (machine, events)
}

/// What peers are told of where we listen, over IPv4 and over IPv6.
fn ports(machine: &Machine) -> [u16; 2] {
    machine.node.state.own_ports(false).map(|ports| ports.listen.expect("it listens"))
}

/// The ports that were told of, 0 for none.
fn told(events: &Events) -> Vec<u16> {
    let port = |kind| match kind {
        EventKind::PortMapped { ports, .. } => Some(ports.tcp),
        EventKind::PortNotMapped { .. } => Some(0),
        _ => None,
    };
    events.try_iter().filter_map(|event| port(event.kind)).collect()
}

#[test]
fn what_a_router_maps_is_announced_renewed_and_given_back() {
    let world = World::new(1, WorldOptions::default());
    let router = PretendedRouter::new();
    let (mut machine, events) = machine(&world, &router);
    let run = |machine: &mut Machine, seconds| {
        world.run_for(&mut [&mut machine.node], Duration::from_secs(seconds));
    };
    run(&mut machine, 1);
    assert_eq!((told(&events), router.asked()), (vec![PORT + 1], vec!["map"]));
    assert_eq!(ports(&machine), [PORT + 1, PORT], "over IPv6 it maps nothing");
    assert_eq!(machine.node.state.external.v4(), Some([203, 0, 113, 7].into()));
    run(&mut machine, 3 * 1800);
    assert_eq!((told(&events), router.asked()), (vec![], vec!["renew"; 3]));
    machine.node.with(|engine, reactor| engine.end(reactor));
    assert_eq!(router.asked(), ["leave"]);
}

#[test]
fn over_each_family_the_port_is_told_that_is_right_there() {
    let world = World::new(1, WorldOptions::default());
    let router = PretendedRouter::new();
    router.0.borrow_mut().gateway_v6 = Some(gateway(6));
    let (mut machine, _events) = machine(&world, &router);
    world.run_for(&mut [&mut machine.node], Duration::from_secs(1));
    assert_eq!(ports(&machine), [PORT + 1, PORT_OPENED]);
    let engine = &machine.node.state;
    let announce = engine.dht_announce(false).expect("it can be reached");
    assert_eq!((announce.port, announce.port_v6), (PORT + 1, Some(PORT_OPENED)));
}

#[test]
fn peers_hear_of_a_change_of_the_port_that_we_are_to_be_found_at() {
    for (is_lost, port) in [(false, PORT + 1), (true, PORT)] {
        let payload = Payload::new(100_000);
        let world = World::new(1, WorldOptions::default());
        let mut machines = [Machine::new(&world, 1), Machine::new(&world, 2)];
        for (machine, peers) in machines.iter_mut().zip([&[2][..], &[]]) {
            let dir = machine.dir.path().to_owned();
            machine.add(&payload.metainfo, &dir, peers);
        }
        let [ours, other] = &mut machines;
        let run = |ours: &mut Machine, other: &mut Machine, seconds| {
            world.run_for(&mut [&mut ours.node, &mut other.node], Duration::from_secs(seconds));
        };
        run(ours, other, 5);
        let router = PretendedRouter::new();
        let asked = Box::new(router.clone());
        ours.node.with(|engine, reactor| engine.keep_mapped(asked, reactor));
        run(ours, other, 5);
        if is_lost {
            router.0.borrow_mut().gateway = None;
            run(ours, other, 1900);
        }
        let task = other.node.state.tasks.values_mut().next().expect("added");
        let (&key, _) = task.connections.iter().next().expect("connected");
        let listens_at = task.swarm.remove_peer(key).expect("it came and said where it listens");
        assert_eq!(listens_at.port(), port, "lost: {is_lost}");
    }
}

#[test]
fn a_router_that_forgot_all_is_asked_anew() {
    let world = World::new(1, WorldOptions::default());
    let router = PretendedRouter::new();
    let (mut machine, events) = machine(&world, &router);
    let run = |machine: &mut Machine, seconds| {
        world.run_for(&mut [&mut machine.node], Duration::from_secs(seconds));
    };
    run(&mut machine, 1);
    (router.0.borrow_mut().mapped, router.0.borrow_mut().external_port) = (false, PORT + 2);
    run(&mut machine, 1800);
    assert_eq!(router.asked(), ["map", "renew", "map"]);
    assert_eq!(told(&events), [PORT + 1, PORT + 2]);
    assert_eq!(ports(&machine), [PORT + 2, PORT]);
}

#[test]
fn a_machine_that_gets_about_asks_each_router_within_a_minute() {
    let world = World::new(1, WorldOptions::default());
    let router = PretendedRouter::new();
    let (mut machine, events) = machine(&world, &router);
    let run = |machine: &mut Machine, seconds| {
        world.run_for(&mut [&mut machine.node], Duration::from_secs(seconds));
    };
    run(&mut machine, 1);
    router.0.borrow_mut().gateway = Some(gateway(5));
    router.0.borrow_mut().external_port = 7;
    run(&mut machine, 61);
    assert_eq!((told(&events), router.asked()), (vec![PORT + 1, 7], vec!["map", "map"]));
    router.0.borrow_mut().gateway = None;
    run(&mut machine, 3600);
    assert_eq!((told(&events), router.asked()), (vec![0], vec![]));
    assert_eq!(ports(&machine), [PORT, PORT]);
    router.0.borrow_mut().gateway = Some(gateway(5));
    run(&mut machine, 61);
    assert_eq!((told(&events), router.asked()), (vec![7], vec!["map"]));
}

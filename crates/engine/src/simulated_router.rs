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
use crate::simulation::{Machine, PORT, quiet};

/// What a router of IPv4 knows, and has been asked.
#[derive(Debug)]
struct Table {
    /// `None`: there is no way to it.
    gateway: Option<Gateway>,
    external_ip: IpAddr,
    /// What it gives in place of our port.
    external_port: u16,
    lifetime: Duration,
    mapped: bool,
    asked: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct PretendedRouter(Rc<RefCell<Table>>);

impl PretendedRouter {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Table {
            gateway: Some(gateway(0)),
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
        let gateway = self.0.borrow().gateway.filter(|_| family == Family::V4);
        gateway.ok_or_else(|| "no router".to_owned())
    }

    fn map(&mut self, _: Family, _: Gateway, _: NonZeroU16, done: Done) {
        let mut table = self.0.borrow_mut();
        table.asked.push("map");
        table.mapped = true;
        done(Ok(table.lease()));
    }

    fn renew(&mut self, _: Family, done: Done) {
        let mut table = self.0.borrow_mut();
        table.asked.push("renew");
        done(if table.mapped { Ok(table.lease()) } else { Err("not known".to_owned()) });
    }

    fn leave(&mut self) -> Receiver<()> {
        self.0.borrow_mut().asked.push("leave");
        channel().1
    }
}

impl Table {
    fn lease(&self) -> Lease {
        let (tcp, udp) = (self.external_port, self.external_port);
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
    assert_eq!(machine.node.state.announced_port(), PORT + 1);
    assert_eq!(machine.node.state.announced_port_v6(), PORT, "over IPv6 it maps nothing");
    assert_eq!(machine.node.state.external.v4(), Some([203, 0, 113, 7].into()));
    run(&mut machine, 3 * 1800);
    assert_eq!((told(&events), router.asked()), (vec![], vec!["renew"; 3]));
    machine.node.with(|engine, reactor| engine.end(reactor));
    assert_eq!(router.asked(), ["leave"]);
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
    assert_eq!(machine.node.state.announced_port(), PORT + 2);
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
    assert_eq!(machine.node.state.announced_port(), PORT);
    router.0.borrow_mut().gateway = Some(gateway(5));
    run(&mut machine, 61);
    assert_eq!((told(&events), router.asked()), (vec![7], vec!["map"]));
}

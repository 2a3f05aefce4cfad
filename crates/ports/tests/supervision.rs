//! Supervisors, and ports that end together.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ports::config::{Config, Facts, RcFile, Settings};
use ports::{
    ChildSpec, Context, List, Node, PortId, Reason, Supervisor, SupervisorError, SupervisorSpec,
    Value,
};
use reactor::simulated::{self, Turn, World, WorldOptions};

/// A node in a pretended world, and what is written down there.
struct Here {
    world: World,
    sim: simulated::Node<()>,
    node: Node,
    log: Log,
}

#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn add(&self, text: impl Into<String>) {
        self.0.borrow_mut().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Writes down its port's end.
struct Tomb(Log, String);

impl Drop for Tomb {
    fn drop(&mut self) {
        self.0.add(format!("{} ends", self.1));
    }
}

impl Here {
    fn new() -> Self {
        let world = World::new(1, WorldOptions::default());
        let mut sim = simulated::Node::new(world.host(&[ip(1)]), ());
        let node = Node::alone(&mut sim.reactor);
        Self { world, sim, node, log: Log::default() }
    }

    /// A child that fails with what it is sent, and says when it begins and ends.
    fn child(&self, name: &str) -> ChildSpec {
        let (log, named) = (self.log.clone(), name.to_owned());
        ChildSpec::new(name, move |node| {
            log.add(format!("{named} begins"));
            let tomb = Tomb(log.clone(), named.clone());
            let port = node.port(move |_: &Context<'_>, reason: List| {
                let _alive = &tomb;
                Err::<(), _>(Reason::of(reason))
            });
            Ok(port.id())
        })
    }

    fn fail(&mut self, supervisor: &Supervisor, name: &str) -> Vec<String> {
        let port = supervisor.child(name).expect("it is there");
        self.node.send(&port, vec![Value::from("bad")]);
        self.pass(Duration::from_millis(10))
    }

    fn end(&mut self, supervisor: &Supervisor, name: &str, reason: Reason) -> Vec<String> {
        self.node.kill(supervisor.child(name).expect("it is there"), reason);
        self.pass(Duration::from_millis(10))
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.world.run_for(&mut [&mut self.sim], time);
        self.log.take()
    }

    fn three(&mut self, spec: SupervisorSpec) -> Supervisor {
        let spec = spec.child(self.child("a")).child(self.child("b")).child(self.child("c"));
        let supervisor = self.node.supervise(spec).expect("starts");
        assert_eq!(self.log.take(), ["a begins", "b begins", "c begins"]);
        supervisor
    }

    /// Writes down why a port ends.
    fn watch(&self, port: &PortId) {
        let log = self.log.clone();
        self.node.monitor(port, move |_, reason| log.add(format!("gone: {reason}"))).detach();
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

#[test]
fn one_for_one_starts_only_the_failed_again() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::one_for_one());
    let before = supervisor.child("b");
    assert_eq!(here.fail(&supervisor, "b"), ["b ends", "b begins"]);
    assert_ne!(supervisor.child("b"), before);
    let restarts: Vec<u64> =
        supervisor.children().iter().map(|child| child.restarts_count).collect();
    assert_eq!(restarts, [0, 1, 0]);
}

#[test]
fn one_for_all_ends_all_in_reverse_and_starts_them_in_order() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::one_for_all());
    assert_eq!(
        here.fail(&supervisor, "b"),
        ["b ends", "c ends", "a ends", "a begins", "b begins", "c begins"]
    );
}

#[test]
fn rest_for_one_leaves_those_before() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::rest_for_one());
    assert_eq!(here.fail(&supervisor, "b"), ["b ends", "c ends", "b begins", "c begins"]);
}

#[test]
fn a_permanent_child_comes_again_however_it_ends() {
    let mut here = Here::new();
    let spec = SupervisorSpec::one_for_one().child(here.child("a").permanent());
    let supervisor = here.node.supervise(spec).expect("starts");
    here.log.take();
    assert_eq!(here.end(&supervisor, "a", Reason::NORMAL), ["a ends", "a begins"]);
    assert_eq!(here.end(&supervisor, "a", Reason::die("x")), ["a ends", "a begins"]);
}

#[test]
fn a_transient_child_comes_again_only_if_it_failed() {
    let mut here = Here::new();
    let spec = SupervisorSpec::one_for_one()
        .child(here.child("a").transient())
        .child(here.child("b").transient());
    let supervisor = here.node.supervise(spec).expect("starts");
    here.log.take();
    assert_eq!(here.end(&supervisor, "a", Reason::die("x")), ["a ends", "a begins"]);
    assert_eq!(here.end(&supervisor, "a", Reason::NORMAL), ["a ends"]);
    assert_eq!(here.end(&supervisor, "b", Reason::new("shutdown", "")), ["b ends"]);
    assert_eq!(supervisor.children().len(), 2);
    assert_eq!(supervisor.child("a"), None);
}

#[test]
fn a_temporary_child_is_forgotten_when_it_ends() {
    let mut here = Here::new();
    let spec =
        SupervisorSpec::one_for_all().child(here.child("a")).child(here.child("b").temporary());
    let supervisor = here.node.supervise(spec).expect("starts");
    here.log.take();
    assert_eq!(here.fail(&supervisor, "a"), ["a ends", "b ends", "a begins"]);
    assert_eq!(supervisor.children().len(), 1);
}

#[test]
fn too_many_failures_end_all_and_say_why() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::one_for_one().restarts(2, Duration::from_secs(1)));
    here.watch(supervisor.port());
    here.fail(&supervisor, "a");
    here.fail(&supervisor, "b");
    assert_eq!(
        here.fail(&supervisor, "b"),
        [
            "b ends",
            "c ends",
            "a ends",
            "gone: restart_intensity more than 2 restarts within 1s, at last of b: bad"
        ]
    );
    assert!(supervisor.children().is_empty());
}

#[test]
fn failures_that_are_long_past_do_not_count() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::one_for_one().restarts(1, Duration::from_secs(1)));
    for _ in 0..5 {
        assert_eq!(here.fail(&supervisor, "a"), ["a ends", "a begins"]);
        here.pass(Duration::from_secs(1));
    }
}

#[test]
fn restarts_wait_longer_and_longer() {
    let mut here = Here::new();
    let second = Duration::from_secs(1);
    let spec =
        SupervisorSpec::one_for_one().restarts(10, 100 * second).back_off(second, 3 * second);
    let supervisor = here.three(spec);
    for wait in [1, 2, 3, 3] {
        assert_eq!(here.fail(&supervisor, "a"), ["a ends"]);
        assert!(here.pass(wait * second - Duration::from_millis(20)).is_empty());
        assert_eq!(here.pass(Duration::from_millis(20)), ["a begins"]);
    }
    here.pass(4 * second);
    assert_eq!(here.fail(&supervisor, "a"), ["a ends"]);
    assert_eq!(here.pass(second), ["a begins"], "it has lived long enough to begin anew");
}

#[test]
fn while_one_waits_the_others_come_again() {
    let mut here = Here::new();
    let spec = SupervisorSpec::one_for_one().restarts(10, Duration::from_secs(100));
    let supervisor = here.three(spec.back_off(Duration::from_secs(1), Duration::from_secs(60)));
    here.fail(&supervisor, "a");
    here.pass(Duration::from_millis(500));
    here.fail(&supervisor, "b");
    assert_eq!(here.pass(Duration::from_millis(600)), ["a begins"]);
    assert_eq!(here.pass(Duration::from_millis(500)), ["b begins"]);
    supervisor.stop();
    assert_eq!(here.pass(Duration::from_millis(10)), ["c ends", "b ends", "a ends"]);
}

#[test]
fn one_that_cannot_be_started_again_is_tried_until_it_is_too_much() {
    let mut here = Here::new();
    let log = here.log.clone();
    let first = RefCell::new(true);
    let child = ChildSpec::new("a", move |node| {
        log.add("tried");
        if first.replace(false) { Ok(node.bare_port()) } else { Err(Reason::die("no")) }
    });
    let supervisor =
        here.node.supervise(SupervisorSpec::one_for_one().child(child)).expect("starts");
    here.watch(supervisor.port());
    let seen = here.end(&supervisor, "a", Reason::NORMAL);
    assert_eq!(seen[..4], ["tried"; 4]);
    assert!(seen[4].ends_with("more than 3 restarts within 5s, at last of a: die no"), "{seen:?}");
}

#[test]
fn if_a_child_cannot_be_started_nor_is_the_supervisor() {
    let mut here = Here::new();
    let bad = |text: &'static str| {
        ChildSpec::new("bad", move |_| -> Result<PortId, Reason> { panic!("{text}") })
    };
    let spec = SupervisorSpec::one_for_one()
        .child(here.child("a"))
        .child(here.child("b"))
        .child(bad("oh"));
    let error = here.node.supervise(spec).expect_err("it cannot");
    assert_eq!(error.to_string(), "child bad: die oh");
    assert_eq!(here.pass(Duration::from_millis(10)), ["a begins", "b begins", "b ends", "a ends"]);
    assert_eq!(here.node.ports_count(), 0);
    let twice = SupervisorSpec::one_for_one().child(here.child("a")).child(here.child("a"));
    assert_eq!(
        here.node.supervise(twice).expect_err("twice"),
        SupervisorError::NameTaken("a".to_owned())
    );
}

#[test]
fn children_can_be_added_and_removed() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::rest_for_one());
    let log = here.log.clone();
    for name in ["d", "a"] {
        let log = log.clone();
        supervisor.add(&here.node, here.child(name), move |_, result| {
            log.add(result.map_or_else(|error| error.to_string(), |_| "added".to_owned()));
        });
    }
    let seen = here.pass(Duration::from_millis(10));
    assert_eq!(seen, ["d begins", "added", "child a: there is one of that name already"]);
    supervisor.remove("b");
    supervisor.remove("nobody");
    assert_eq!(here.pass(Duration::from_millis(10)), ["b ends"]);
    let names: Vec<String> = supervisor.children().into_iter().map(|child| child.name).collect();
    assert_eq!(names, ["a", "c", "d"]);
    supervisor.stop();
    assert_eq!(here.pass(Duration::from_millis(10)), ["d ends", "c ends", "a ends"]);
    let log = here.log.clone();
    supervisor.add(&here.node, here.child("e"), move |_, result| log.add(format!("{result:?}")));
    assert_eq!(here.pass(Duration::from_millis(10)), ["Err(Ended)"]);
}

#[test]
fn killing_a_supervisor_kills_its_children() {
    let mut here = Here::new();
    let supervisor = here.three(SupervisorSpec::one_for_one());
    here.node.kill(supervisor.port(), Reason::die("x"));
    assert_eq!(here.pass(Duration::from_millis(10)), ["c ends", "b ends", "a ends"]);
    assert_eq!(here.node.ports_count(), 0);
}

#[test]
fn supervisors_make_a_tree() {
    let mut here = Here::new();
    let (b, c) = (here.child("b"), here.child("c"));
    let inner = move || {
        SupervisorSpec::one_for_all()
            .restarts(1, Duration::from_secs(5))
            .child(b.clone())
            .child(c.clone())
    };
    let spec = SupervisorSpec::one_for_one()
        .child(here.child("a"))
        .child(ChildSpec::supervisor("inner", inner))
        .child(here.child("d"));
    let supervisor = here.node.supervise(spec).expect("starts");
    assert_eq!(here.log.take(), ["a begins", "b begins", "c begins", "d begins"]);
    let inner = supervisor.child("inner").expect("it is there");
    let children = |here: &mut Here, inner: &PortId| -> Vec<(String, Option<PortId>)> {
        let answer = Rc::new(RefCell::new(Vec::new()));
        let slot = Rc::clone(&answer);
        let ask = |reply: PortId| vec![Value::from("children"), Value::from(reply)];
        here.node.call(inner, ask, None, move |_, result| {
            *slot.borrow_mut() = result.expect("an answer");
        });
        here.pass(Duration::from_millis(10));
        answer.take()
    };
    for _ in 0..2 {
        let b = children(&mut here, &inner)[0].1.clone().expect("it is there");
        here.node.kill(b, Reason::die("x"));
        let seen = here.pass(Duration::from_millis(10));
        assert_eq!(seen, ["b ends", "c ends", "b begins", "c begins"]);
    }
    assert_ne!(supervisor.child("inner"), Some(inner), "its own supervisor has started it again");
    supervisor.stop();
    here.watch(supervisor.port());
    assert_eq!(
        here.pass(Duration::from_millis(10)),
        ["d ends", "c ends", "b ends", "a ends", "gone: normal"]
    );
}

#[test]
fn a_child_that_does_not_heed_the_message_is_killed() {
    let mut here = Here::new();
    let log = here.log.clone();
    let deaf = ChildSpec::new("deaf", move |node| {
        let (log, tomb) = (log.clone(), Tomb(log.clone(), "deaf".to_owned()));
        let port = node.port(move |_: &Context<'_>, list: List| {
            let _alive = &tomb;
            log.add(Value::List(list).to_string());
        });
        Ok(port.id())
    });
    let deaf = deaf.stop_by_message().patience(Duration::from_secs(2));
    let supervisor =
        here.node.supervise(SupervisorSpec::one_for_one().child(deaf)).expect("starts");
    supervisor.stop();
    assert_eq!(here.pass(Duration::from_millis(1990)), ["[\"stop\"]"]);
    assert_eq!(here.pass(Duration::from_millis(20)), ["deaf ends"]);
}

/// Two nodes of a pretended world.
struct Two {
    world: World,
    sims: Vec<simulated::Node<()>>,
    nodes: Vec<Node>,
    log: Log,
}

impl Two {
    fn new() -> Self {
        let world = World::new(7, WorldOptions::default());
        let mut two = Self { world, sims: Vec::new(), nodes: Vec::new(), log: Log::default() };
        two.start(1, None);
        two.start(2, Some(1));
        two.pass(Duration::from_secs(3));
        two
    }

    fn start(&mut self, number: u8, seed: Option<u8>) {
        let is_new = self.nodes.len() < usize::from(number);
        let host =
            if is_new { self.world.host(&[ip(number)]) } else { self.world.reactor_on(ip(number)) };
        let mut sim = simulated::Node::new(host, ());
        let node = Node::start(&mut sim.reactor, &settings(number, seed)).expect("starts");
        let log = self.log.clone();
        node.register("toy::make", move |context: &Context<'_>, (name,): (String,)| {
            log.add(format!("{name} begins"));
            let tomb = Tomb(log.clone(), name);
            context.receive(move |_: &Context<'_>, _: List| {
                let _alive = &tomb;
                Err::<(), _>(Reason::die("bad"))
            });
        });
        let log = self.log.clone();
        node.register_pair(
            "toy::pair",
            move |context: &Context<'_>, _: PortId, (name,): (String,)| {
                let tomb = Tomb(log.clone(), name);
                context.receive(move |_: &Context<'_>, _: List| {
                    let _alive = &tomb;
                    Err::<(), _>(Reason::die("bad"))
                });
            },
        );
        if is_new {
            self.sims.push(sim);
            self.nodes.push(node);
        } else {
            self.sims[usize::from(number) - 1] = sim;
            self.nodes[usize::from(number) - 1] = node;
        }
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        let mut turns: Vec<&mut dyn Turn> =
            self.sims.iter_mut().map(|sim| sim as &mut dyn Turn).collect();
        self.world.run_for(&mut turns, time);
        self.log.take()
    }

    /// A port here that is a pair with one there.
    fn pair(&mut self) -> (PortId, PortId) {
        let tomb = Tomb(self.log.clone(), "here".to_owned());
        let port = self.nodes[0].port(move |_: &Context<'_>, _: List| {
            let _alive = &tomb;
        });
        let there =
            self.nodes[0].spawn_pair(&port, self.nodes[1].id(), "toy::pair", ("there".to_owned(),));
        self.pass(Duration::from_secs(1));
        (port.id(), there.expect("a name of a function"))
    }
}

fn settings(number: u8, seed: Option<u8>) -> Settings {
    let address = |number: u8| SocketAddr::new(ip(number), 4040).to_string();
    let mut config =
        Config::new().norc().node_id(&format!("n{number}")).bind(&address(number)).secret("geheim");
    if let Some(seed) = seed {
        config = config.seed(&address(seed));
    }
    config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
}

#[test]
fn children_on_other_nodes_are_started_again() {
    let mut two = Two::new();
    let there = two.nodes[1].id().clone();
    let child = ChildSpec::spawned("far", there, "toy::make", ("far".to_owned(),));
    let supervisor =
        two.nodes[0].supervise(SupervisorSpec::one_for_one().child(child)).expect("starts");
    assert_eq!(two.pass(Duration::from_secs(1)), ["far begins"]);
    two.nodes[0].send(&supervisor.child("far").expect("it is there"), vec![Value::Null]);
    assert_eq!(two.pass(Duration::from_secs(1)), ["far ends", "far begins"]);
    supervisor.stop();
    assert_eq!(two.pass(Duration::from_secs(1)), ["far ends"]);
}

#[test]
fn a_child_comes_again_when_its_node_does() {
    let mut two = Two::new();
    let there = two.nodes[1].id().clone();
    let child = ChildSpec::spawned("far", there, "toy::make", ("far".to_owned(),));
    let minute = Duration::from_secs(60);
    let spec = SupervisorSpec::one_for_one()
        .restarts(100, minute)
        .back_off(Duration::from_secs(1), minute);
    let _supervisor = two.nodes[0].supervise(spec.child(child)).expect("starts");
    two.pass(Duration::from_secs(1));
    let other =
        std::mem::replace(&mut two.sims[1], simulated::Node::new(two.world.reactor_on(ip(2)), ()));
    drop(other);
    assert_eq!(two.log.take(), ["far ends"]);
    assert_eq!(two.pass(minute), [""; 0]);
    two.start(2, Some(1));
    assert_eq!(two.pass(2 * minute), ["far begins"]);
}

#[test]
fn of_a_pair_each_ends_with_the_other() {
    let mut two = Two::new();
    let (here, _) = two.pair();
    two.nodes[0].kill(&here, Reason::NORMAL);
    assert_eq!(two.pass(Duration::from_secs(1)), ["here ends", "there ends"]);
    let (_, there) = two.pair();
    two.nodes[0].send(&there, vec![Value::Null]);
    assert_eq!(two.pass(Duration::from_secs(1)), ["there ends", "here ends"]);
}

#[test]
fn when_the_connection_is_lost_both_of_a_pair_end() {
    let mut two = Two::new();
    two.pair();
    assert!(two.world.reset_between(ip(1), ip(2)) > 0);
    let mut seen = two.pass(Duration::from_secs(1));
    seen.sort();
    assert_eq!(seen, ["here ends", "there ends"]);
}

#[test]
fn two_ports_of_a_node_can_be_a_pair() {
    let mut here = Here::new();
    let (a, b) = (here.node.bare_port(), here.node.bare_port());
    here.node.pair(&a, &b);
    here.watch(&a);
    here.pass(Duration::ZERO);
    here.node.kill(&b, Reason::new("why", "not"));
    assert_eq!(here.pass(Duration::from_millis(1)), ["gone: why not"]);
}

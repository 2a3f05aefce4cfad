//! Services: programs that join as nodes, and functions that the configuration calls.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ports::config::{Config, Facts, RcFile, Settings};
use ports::{
    CallError, ChildSpec, Context, LogCatcher, LogTap, Node, PortId, ProgramSpec, Reason,
    SupervisorSpec, Value,
};
use reactor::Reactor;
use reactor::simulated::{self, Turn};
use tracing_subscriber::layer::SubscriberExt;

struct World {
    reactor: Reactor<()>,
    node: Node,
    directory: tempfile::TempDir,
}

impl World {
    fn new(config: Config) -> Self {
        let mut reactor = Reactor::new().expect("a loop");
        let node = Node::start(&mut reactor, &settings(config)).expect("starts");
        Self { reactor, node, directory: tempfile::tempdir().expect("a folder") }
    }

    /// Turns until it is done. The time is only there so that a test that fails ends.
    fn until(&mut self, mut is_done: impl FnMut(&Node) -> bool) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !is_done(&self.node) {
            assert!(Instant::now() < limit, "it takes too long");
            self.reactor.turn(&mut (), Some(Duration::from_millis(10))).expect("a turn");
        }
    }

    /// Why a port ends, once it has.
    fn end_of(&mut self, port: &PortId) -> Reason {
        let ended = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&ended);
        self.node.monitor(port, move |_, reason| *slot.borrow_mut() = Some(reason)).detach();
        self.until(|_| ended.borrow().is_some());
        ended.take().expect("it has ended")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn shell(&self, script: &str) -> ProgramSpec {
        let folder = self.directory.path().to_str().expect("a plain name");
        ProgramSpec::new("sh").arg("-c").arg(script).env("DIR", folder)
    }
}

fn settings(config: Config) -> Settings {
    let config = config.norc().node_id("parent").bind("127.0.0.1:0");
    config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
}

fn secret() -> Config {
    Config::new().secret("geheim")
}

fn worker() -> String {
    format!("{}/tests/programs/worker.py", env!("CARGO_MANIFEST_DIR"))
}

/// What stands in a file, once its last line is whole.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    if text.ends_with('\n') { text.lines().map(str::to_owned).collect() } else { Vec::new() }
}

/// Whether there is a process of that number, be it a zombie.
fn is_there(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[test]
fn a_program_joins_answers_crashes_and_comes_again() {
    let mut world = World::new(secret());
    let line = format!("exec:python3 '{}' workers", worker());
    let services = settings(secret().service(line.as_str())).services;
    world.node.start_services(&services).expect("it starts");
    let members = |node: &Node| node.grp_get("workers");
    world.until(|node| !members(node).is_empty());
    let first = members(&world.node).remove(0);
    assert!(first.as_str().starts_with("parent/python3/"), "{first}");

    let answer = Rc::new(Cell::new(None));
    let slot = Rc::clone(&answer);
    let double = |reply: PortId| vec!["double".into(), 21.into(), Value::from(reply)];
    world.node.call(&first, double, None, move |_, result: Result<(i64,), CallError>| {
        slot.set(Some(result.expect("an answer").0));
    });
    world.until(|_| answer.get().is_some());
    assert_eq!(answer.get(), Some(42));

    let lost = Rc::new(Cell::new(false));
    let slot = Rc::clone(&lost);
    world.node.monitor(first.node(), move |_, _| slot.set(true)).detach();
    world.node.send(&first, vec![Value::from("crash")]);
    world.until(|_| lost.get());
    world.until(|node| members(node).iter().any(|member| *member != first));
    world.node.shut_down();
    world.until(|node| node.ports_count() == 0);
}

#[test]
fn a_program_that_ends_ends_its_port() {
    let mut world = World::new(secret());
    for (script, reason) in [
        ("exit 0", Reason::NORMAL),
        ("exit 3", Reason::new("exit", "sh: exit status: 3")),
        ("kill -9 $$", Reason::new("exit", "sh: signal: 9 (SIGKILL)")),
    ] {
        let port = world.node.start_program(&world.shell(script)).expect("it starts");
        assert_eq!(world.end_of(&port), reason);
    }
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_that_names_it() {
    let world = World::new(secret());
    let services = settings(secret().service("exec:/no/such/program x")).services;
    let error = world.node.start_services(&services).expect_err("there is none").to_string();
    assert!(error.contains("cannot start /no/such/program: No such file"), "{error}");
}

#[test]
fn a_program_needs_a_secret_and_a_listener() {
    let mut reactor = Reactor::new().expect("a loop");
    let node = Node::alone(&mut reactor);
    let error = node.start_program(&ProgramSpec::new("true")).expect_err("no secret").to_string();
    assert!(error.starts_with("cannot start true: programs join by a shared secret"), "{error}");
}

#[test]
fn the_secret_is_in_the_environment_and_not_among_the_arguments() {
    let mut world = World::new(secret());
    let script = r#"tr '\0' '\n' </proc/$$/cmdline >"$DIR/args"; env >"$DIR/env""#;
    let port = world.node.start_program(&world.shell(script)).expect("it starts");
    world.end_of(&port);
    let read = |name| fs::read_to_string(world.path(name)).expect("it was written");
    assert!(!read("args").contains("geheim"));
    let env = read("env");
    let seed = format!("PORTS_SEED={}", world.node.listeners()[0]);
    for line in ["PORTS_SECRET=geheim", "PORTS_FRAMING=json", "PORTS_PARENT=parent", &seed] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    assert!(env.contains("\nPORTS_NODE=parent/sh/") || env.starts_with("PORTS_NODE=parent/sh/"));
}

#[test]
fn a_program_is_asked_to_end_and_has_time_for_it() {
    let mut world = World::new(secret());
    let script = r#"trap 'echo asked >>"$DIR/log"; exit 0' TERM; echo up >>"$DIR/log"; while :; do sleep 0.05; done"#;
    let spec = world.shell(script).patience(Duration::from_secs(60));
    let supervisor = SupervisorSpec::one_for_one().child(ChildSpec::program("sh", spec));
    let supervisor = world.node.supervise(supervisor).expect("it starts");
    let log = world.path("log");
    world.until(|_| lines(&log) == ["up"]);
    supervisor.stop();
    let port = supervisor.port().clone();
    assert_eq!(world.end_of(&port), Reason::NORMAL);
    assert_eq!(lines(&log), ["up", "asked"]);
}

#[test]
fn a_program_that_does_not_end_is_killed_with_all_that_it_started() {
    let mut world = World::new(secret());
    let script =
        r#"trap '' TERM; sleep 1000 & echo $! >"$DIR/pids"; echo $$ >>"$DIR/pids"; wait; wait"#;
    let spec = world.shell(script).patience(Duration::from_millis(100));
    let port = world.node.start_program(&spec).expect("it starts");
    let pids = world.path("pids");
    world.until(|_| lines(&pids).len() == 2);
    let stop: Vec<Value> = vec!["stop".into()];
    world.node.send(&port, stop);
    assert_eq!(world.end_of(&port), Reason::new("exit", "sh: signal: 9 (SIGKILL)"));
    let pids = lines(&pids);
    assert!(!is_there(&pids[1]), "it is no zombie");
    // Somebody else waits for what it has started.
    world.until(|_| !is_running(&pids[0]));
}

#[test]
fn when_the_port_is_killed_the_program_ends() {
    let mut world = World::new(secret());
    let port = world.node.start_program(&world.shell(r#"echo $$ >"$DIR/pid"; exec sleep 1000"#));
    let port = port.expect("it starts");
    let pid = world.path("pid");
    world.until(|_| !lines(&pid).is_empty());
    world.node.kill(&port, Reason::NORMAL);
    let pid = lines(&pid).remove(0);
    world.until(|_| !is_there(&pid));
}

#[test]
fn when_the_node_is_dropped_its_programs_have_ended() {
    for is_supervised in [false, true] {
        for is_loop_first in [false, true] {
            drop_with_a_program(is_supervised, is_loop_first);
        }
    }
}

fn drop_with_a_program(is_supervised: bool, is_loop_first: bool) {
    let mut world = World::new(secret());
    let catch = serde_json::json!(["AnyEvent::MP::LogCatcher::catch", 9]);
    world.node.start_services(&settings(secret().service(catch)).services).expect("it is built in");
    let spec = world.shell(r#"trap '' TERM; echo $$ >"$DIR/pid"; sleep 1000; sleep 1000"#);
    let spec = spec.patience(Duration::from_millis(50));
    if is_supervised {
        let supervisor = SupervisorSpec::one_for_one().child(ChildSpec::program("sh", spec));
        world.node.supervise(supervisor).expect("it starts");
    } else {
        world.node.start_program(&spec).expect("it starts");
    }
    let pid = world.path("pid");
    world.until(|_| !lines(&pid).is_empty());
    let pid = lines(&pid).remove(0);
    let World { reactor, node, directory } = world;
    if is_loop_first {
        drop(reactor);
        drop(node);
    } else {
        drop(node);
        drop(reactor);
    }
    assert!(!is_there(&pid), "{is_supervised} {is_loop_first}");
    drop(directory);
}

#[test]
fn a_program_sees_its_input_end_with_its_port() {
    let mut world = World::new(secret());
    // It would not be stopped by the signal, nor killed for a minute.
    let script = r#"trap '' TERM; echo $$ >"$DIR/pid"; cat >/dev/null"#;
    let spec = world.shell(script).patience(Duration::from_secs(60));
    let port = world.node.start_program(&spec).expect("it starts");
    let pid = world.path("pid");
    world.until(|_| !lines(&pid).is_empty());
    world.node.kill(&port, Reason::NORMAL);
    let pid = lines(&pid).remove(0);
    world.until(|_| !is_there(&pid));
}

#[test]
fn a_function_is_called_with_what_the_configuration_says() {
    let world = World::new(secret());
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let note = Rc::clone(&seen);
    world.node.register("toy::start", move |_: &Context<'_>, args: Vec<Value>| {
        note.borrow_mut().push(Value::List(args).to_string());
    });
    let services = settings(secret().service("toy::start")).services;
    world.node.start_services(&services).expect("it is there");
    assert_eq!(*seen.borrow(), ["[]"]);
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Two nodes in a pretended world, of which the first lets others catch what its tap gives.
struct Logs {
    world: simulated::World,
    sims: Vec<simulated::Node<()>>,
    nodes: Vec<Node>,
    tap: LogTap,
    caught: Rc<RefCell<Vec<String>>>,
}

impl Logs {
    fn new() -> Self {
        let world = simulated::World::new(5, simulated::WorldOptions::default());
        let tap = LogTap::new();
        let caught = Rc::default();
        let mut logs = Self { world, sims: Vec::new(), nodes: Vec::new(), tap, caught };
        for number in 1..=2 {
            let mut sim = simulated::Node::new(logs.world.host(&[ip(number)]), ());
            let node = Node::start(&mut sim.reactor, &logs.settings(number)).expect("starts");
            logs.sims.push(sim);
            logs.nodes.push(node);
        }
        logs.nodes[0].offer_log(&logs.tap);
        logs
    }

    fn settings(&self, number: u8) -> Settings {
        let address = |number: u8| format!("{}:4040", ip(number));
        let config = Config::new().norc().node_id(&format!("n{number}")).secret("geheim");
        let config = config.bind(&address(number));
        let config = if number > 1 { config.seed(&address(1)) } else { config };
        config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
    }

    /// Has the second node catch.
    fn catch(&self, level: u8) -> LogCatcher {
        let caught = Rc::clone(&self.caught);
        let catcher = self.nodes[1].catch_logs(level, move |log| {
            assert!((0.005..0.1).contains(&log.age), "{}", log.age);
            caught
                .borrow_mut()
                .push(format!("{} {} {} {}", log.node, log.level, log.title, log.text));
        });
        catcher.expect("not too many")
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        let mut turns: Vec<&mut dyn Turn> =
            self.sims.iter_mut().map(|sim| sim as &mut dyn Turn).collect();
        self.world.run_for(&mut turns, time);
        self.caught.take()
    }

    fn log(&mut self, level: u8, text: &str) -> Vec<String> {
        self.tap.log(level, "toy", text);
        self.pass(Duration::from_secs(1))
    }
}

fn ip(last: u8) -> std::net::IpAddr {
    std::net::IpAddr::from([10, 0, 0, last])
}

#[test]
fn logs_are_caught_from_the_level_that_was_asked_for() {
    let mut logs = Logs::new();
    let catcher = logs.catch(5);
    logs.pass(Duration::from_secs(5));
    assert_eq!(logs.log(5, "a \u{1b}warning"), ["n1 5 toy a \u{fffd}warning"]);
    assert_eq!(logs.log(1, "fatal"), ["n1 2 toy fatal"]);
    assert!(logs.log(6, "a note").is_empty());
    drop(catcher);
    logs.pass(Duration::from_secs(1));
    assert!(logs.log(4, "an error").is_empty());
    assert_eq!(format!("{:?}", logs.tap), "LogTap { sinks: 0, .. }");
}

#[test]
fn the_log_of_a_lost_node_is_caught_again() {
    let mut logs = Logs::new();
    let _catcher = logs.catch(9);
    logs.pass(Duration::from_secs(5));
    assert_eq!(logs.log(4, "one"), ["n1 4 toy one"]);
    logs.world.reset_between(ip(1), ip(2));
    logs.pass(Duration::from_secs(30));
    assert_eq!(logs.log(4, "two"), ["n1 4 toy two"]);
}

#[test]
fn what_is_caught_is_logged_and_not_passed_on() {
    let mut logs = Logs::new();
    // The second node catches, as a service, what it logs itself, too: if it passed on what it caught, so
    // would the first, and there would be no end.
    let second = LogTap::new();
    logs.nodes[1].offer_log(&second);
    let seen = Seen::default();
    let subscriber =
        tracing_subscriber::registry().with(logs.tap.clone()).with(second).with(seen.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    for (node, level) in [(0, 9), (1, 9)] {
        let service = serde_json::json!(["AnyEvent::MP::LogCatcher::catch", level]);
        let settings = settings(secret().service(service));
        logs.nodes[node].start_services(&settings.services).expect("it is built in");
    }
    logs.pass(Duration::from_secs(10));
    seen.0.lock().expect("nobody panicked").clear();
    tracing::warn!(target: "toy", cups = 3, "tea");
    logs.pass(Duration::from_secs(5));
    let mut seen = seen.0.lock().expect("nobody panicked").clone();
    seen.retain(|text| text.contains("tea"));
    let told =
        |node: &str| seen.iter().filter(|text| text.starts_with(&format!("[{node}+0.0"))).count();
    // Each node has told the other; the first of all was the record itself.
    assert_eq!((seen.len(), told("n1"), told("n2")), (3, 1, 1), "{seen:?}");
    assert!(seen[1].ends_with("s] toy: tea cups=3"), "{seen:?}");
}

#[test]
fn only_the_configuration_has_a_node_catch_logs() {
    let mut logs = Logs::new();
    logs.pass(Duration::from_secs(5));
    logs.nodes[1].send_to_function(logs.nodes[0].id(), "AnyEvent::MP::LogCatcher::catch", (9,));
    let port = logs.nodes[1].bare_port();
    logs.nodes[1].send_to_function(
        logs.nodes[0].id(),
        "AnyEvent::MP::LogCatcher::connect",
        (7, port, 9),
    );
    logs.pass(Duration::from_secs(5));
    assert_eq!(format!("{:?}", logs.tap), "LogTap { sinks: 0, .. }");
}

/// Messages that were logged.
#[derive(Clone, Default)]
struct Seen(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Seen {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().expect("nobody panicked").push(message.0);
    }
}

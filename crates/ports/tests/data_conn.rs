//! Data connections.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use ports::config::{Config, Facts, RcFile, Settings};
use ports::{Context, List, Node, NodeId, PortId, Reason};
use reactor::Reactor;
use reactor::simulated::{self, Turn, World, WorldOptions};
use reactor::task::AsyncStream;

const MINUTE: Duration = Duration::from_secs(60);

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

/// Two nodes of a pretended world: the second may have no listeners.
struct Two {
    world: World,
    sims: Vec<simulated::Node<()>>,
    nodes: Vec<Node>,
    log: Log,
}

impl Two {
    fn new(second_listens: bool) -> Self {
        let world = World::new(3, WorldOptions::default());
        let mut two = Self { world, sims: Vec::new(), nodes: Vec::new(), log: Log::default() };
        for (number, listens) in [(1, true), (2, second_listens)] {
            let mut sim = simulated::Node::new(two.world.host(&[ip(number)]), ());
            let node = Node::start(&mut sim.reactor, &settings(number, listens)).expect("starts");
            two.sims.push(sim);
            two.nodes.push(node);
        }
        echo(&two.nodes[1], &two.log);
        two.pass(Duration::from_secs(3));
        two
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        let mut turns: Vec<&mut dyn Turn> =
            self.sims.iter_mut().map(|sim| sim as &mut dyn Turn).collect();
        self.world.run_for(&mut turns, time);
        self.log.take()
    }

    /// A port that has a data connection say hello.
    fn ask(
        &self,
        from: usize,
        place: &NodeId,
        function: &'static str,
        timeout: Duration,
    ) -> PortId {
        let node = &self.nodes[from];
        let (port, place, log) = (node.bare_port(), place.clone(), self.log.clone());
        let ended = log.clone();
        node.monitor(&port, move |_, reason| ended.add(format!("gone: {reason}"))).detach();
        let asking = port.clone();
        // In a turn of the loop, so that its clock is right.
        node.soon(move |node| {
            node.run_in(&asking, |context| {
                let args = ("for".to_owned(), 7);
                context.data_connection(place, timeout, function, args, move |context, stream| {
                    talk(context.node(), stream, log);
                });
            });
        });
        port
    }
}

/// Says hello, and writes down what comes back.
fn talk(node: &Node, mut stream: AsyncStream, log: Log) {
    let name = node.id().clone();
    spawn(node, async move {
        stream.write_all(b"hello").await.expect("it goes");
        stream.close().await.expect("so does the end");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it comes");
        log.add(format!("{name} has read: {answer}"));
    });
}

/// Runs a future for a node, as the body of a port.
fn spawn(node: &Node, future: impl Future<Output = ()> + 'static) {
    node.port_async(move |_: ports::Inbox<List>| future);
}

/// Registers a function that sends back what it gets.
fn echo(node: &Node, log: &Log) {
    let log = log.clone();
    node.register_data(
        "toy::echo",
        move |context: &Context<'_>, (word, number): (String, u64), stream| {
            let from = context.from().map_or_else(|| "here".to_owned(), ToString::to_string);
            log.add(format!("{word} {number} from {from}"));
            let mut stream: AsyncStream = stream;
            spawn(context.node(), async move {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.expect("it comes");
                heard.extend(b", you");
                stream.write_all(&heard).await.expect("it goes");
                stream.close().await.expect("so does the end");
            });
        },
    );
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn settings(number: u8, listens: bool) -> Settings {
    let address = |number: u8| SocketAddr::new(ip(number), 4040).to_string();
    let config = Config::new().norc().node_id(&format!("n{number}")).secret("geheim");
    let config = if listens { config.bind(&address(number)) } else { config.no_binds() };
    let config = if number > 1 { config.seed(&address(1)) } else { config };
    config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
}

#[test]
fn bytes_go_both_ways_and_end_as_on_any_connection() {
    let mut two = Two::new(true);
    two.ask(0, &two.nodes[1].id().clone(), "toy::echo", MINUTE);
    assert_eq!(two.pass(Duration::from_secs(5)), ["for 7 from n1", "n1 has read: hello, you"]);
}

#[test]
fn a_slave_finds_the_way_too() {
    let mut two = Two::new(true);
    echo(&two.nodes[0], &two.log);
    two.ask(1, &two.nodes[0].id().clone(), "toy::echo", MINUTE);
    assert_eq!(two.pass(Duration::from_secs(5)), ["for 7 from n2", "n2 has read: hello, you"]);
}

#[test]
fn a_node_that_does_not_listen_dials_back() {
    let mut two = Two::new(false);
    two.ask(0, &two.nodes[1].id().clone(), "toy::echo", MINUTE);
    assert_eq!(two.pass(Duration::from_secs(5)), ["for 7 from n1", "n1 has read: hello, you"]);
}

#[test]
fn within_a_node_it_is_a_pipe() {
    let mut two = Two::new(true);
    two.ask(1, &two.nodes[1].id().clone(), "toy::echo", MINUTE);
    assert_eq!(two.pass(Duration::from_secs(1)), ["for 7 from here", "n2 has read: hello, you"]);
}

#[test]
fn a_port_ends_that_wants_what_is_not_there() {
    let mut two = Two::new(true);
    for place in [two.nodes[0].id().clone(), two.nodes[1].id().clone()] {
        two.ask(0, &place, "toy::none", MINUTE);
        assert_eq!(
            two.pass(Duration::from_secs(1)),
            ["gone: AnyEvent::MP::DataConn unable to resolve function 'toy::none'"]
        );
    }
}

#[test]
fn a_port_ends_when_it_takes_too_long() {
    let mut two = Two::new(true);
    two.world.cut(ip(1), ip(2));
    two.ask(0, &two.nodes[1].id().clone(), "toy::echo", Duration::from_secs(3));
    assert_eq!(two.pass(Duration::from_millis(2990)), [""; 0]);
    assert_eq!(
        two.pass(Duration::from_millis(20)),
        ["gone: AnyEvent::MP::DataConn n2: unable to establish connection within 3 seconds"]
    );
    two.world.mend(ip(1), ip(2));
    assert!(two.pass(MINUTE).is_empty(), "nor is anything called there");
}

#[test]
fn a_port_ends_when_the_node_is_lost() {
    let mut two = Two::new(true);
    two.world.cut(ip(1), ip(2));
    two.ask(0, &two.nodes[1].id().clone(), "toy::echo", MINUTE);
    two.pass(Duration::from_secs(1));
    two.world.reset_between(ip(1), ip(2));
    let seen = two.pass(Duration::from_secs(1));
    assert_eq!(seen, ["gone: AnyEvent::MP::DataConn n2: the node is lost"]);
}

#[test]
fn nothing_is_called_for_a_port_that_has_ended() {
    let mut two = Two::new(true);
    let port = two.ask(0, &two.nodes[1].id().clone(), "toy::echo", MINUTE);
    two.pass(Duration::from_millis(1));
    two.nodes[0].kill(&port, Reason::NORMAL);
    assert_eq!(two.pass(Duration::from_secs(5)), ["gone: normal"]);
}

#[test]
fn it_can_be_awaited() {
    let mut two = Two::new(true);
    let there = two.nodes[1].id().clone();
    let (node, log) = (two.nodes[0].clone(), two.log.clone());
    spawn(&two.nodes[0], async move {
        let failed = node.data_connection(&there, MINUTE, "toy::none", ("for".to_owned(), 7)).await;
        log.add(failed.expect_err("there is none").to_string());
        drop(node.data_connection(&there, MINUTE, "toy::echo", ("dropped".to_owned(), 7)));
        let stream = node.data_connection(&there, MINUTE, "toy::echo", ("for".to_owned(), 8)).await;
        talk(&node, stream.expect("it is there"), log);
    });
    assert_eq!(
        two.pass(Duration::from_secs(5)),
        ["unable to resolve function 'toy::none'", "for 8 from n1", "n1 has read: hello, you"]
    );
}

#[test]
fn much_goes_through() {
    let mut two = Two::new(true);
    let log = two.log.clone();
    two.nodes[1].register_data(
        "toy::count",
        move |context: &Context<'_>, (): (), stream: AsyncStream| {
            let (log, mut stream) = (log.clone(), stream);
            spawn(context.node(), async move {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.expect("it comes");
                let is_right = heard.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8);
                log.add(format!("{} {is_right}", heard.len()));
            });
        },
    );
    let (node, there) = (two.nodes[0].clone(), two.nodes[1].id().clone());
    spawn(&two.nodes[0], async move {
        let mut stream =
            node.data_connection(&there, MINUTE, "toy::count", ()).await.expect("it is there");
        let bytes: Vec<u8> = (0..3_000_000).map(|at| (at % 251) as u8).collect();
        stream.write_all(&bytes).await.expect("it goes");
        stream.close().await.expect("so does the end");
    });
    assert_eq!(two.pass(MINUTE), ["3000000 true"]);
}

/// Nodes in the real world.
struct Real {
    reactor: Reactor<()>,
    log: Log,
}

impl Real {
    fn start(&mut self, config: Config) -> Node {
        let settings = config.norc().bind("127.0.0.1:0");
        let settings = settings.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts"));
        Node::start(&mut self.reactor, &settings.expect("settings")).expect("starts")
    }

    fn until(&mut self, mut is_done: impl FnMut() -> bool) {
        let limit = Instant::now() + MINUTE;
        while !is_done() {
            assert!(Instant::now() < limit, "it takes too long");
            self.reactor.turn(&mut (), Some(Duration::from_millis(10))).expect("a turn");
        }
    }

    /// Waits until all of this was written down, in whatever order.
    fn says(&mut self, expected: &[&str]) {
        let log = self.log.clone();
        self.until(|| log.0.borrow().len() >= expected.len());
        let mut said = self.log.take();
        said.sort();
        assert_eq!(said, expected);
    }
}

fn real() -> Real {
    Real { reactor: Reactor::new().expect("a loop"), log: Log::default() }
}

#[test]
fn it_goes_through_tls_where_messages_do() {
    let mut real = real();
    let pem = ports::gencert().expect("a certificate");
    let first = real.start(Config::new().node_id("first").cert(&pem));
    let seed = first.listeners()[0].clone();
    let second = real.start(Config::new().node_id("second").cert(&pem).seed(&seed));
    let log = real.log.clone();
    echo(&second, &log);
    let place = second.id().clone();
    let node = first.clone();
    spawn(&first, async move {
        let stream = loop {
            // Until they have met.
            let args = ("for".to_owned(), 7);
            if let Ok(stream) = node.data_connection(&place, MINUTE, "toy::echo", args).await {
                break stream;
            }
        };
        talk(&node, stream, log);
    });
    real.says(&["first has read: hello, you", "for 7 from first"]);
}

#[test]
fn others_speak_the_same_language() {
    let mut real = real();
    let node = real.start(Config::new().node_id("first").secret("geheim"));
    let script = format!("{}/tests/programs/data_conn.py", env!("CARGO_MANIFEST_DIR"));
    let program =
        node.start_program(&ports::ProgramSpec::new("python3").arg(&script)).expect("starts");
    let log = real.log.clone();
    node.monitor(&program, move |_, reason| log.add(format!("python: {reason}"))).detach();
    let up = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&up);
    node.monitor_nodes(move |_, event| seen.borrow_mut().push(event.node.clone())).detach();
    real.until(|| !up.borrow().is_empty());
    let place = up.borrow()[0].clone();
    echo(&node, &real.log);
    let log = real.log.clone();
    let caller = node.clone();
    spawn(&node, async move {
        let args = (1, "zwei".to_owned());
        let stream = caller.data_connection(&place, MINUTE, "py::func", args).await;
        talk(&caller, stream.expect("it dials back"), log);
    });
    real.says(&["first has read: HELLO", "for 7 from python", "python: normal"]);
}

//! The delivery guarantee, in networks where everything happens that can: from the moment a monitor is set
//! on a port, messages to it arrive in order; or from the first lost one on, all are lost until the monitor
//! has fired, and it does fire.
//!
//! `PORTS_SEEDS=10000` tries so many networks, `PORTS_SEED=17` only that one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ports::config::Config;
use ports::{Context, Monitor, Node, Port, PortId, Reason};
use reactor::simulated::WorldOptions;

use crate::net::{Chance, Net, config};

/// Which sender and port, and the number of the message; what follows only fills.
type Numbered = (u64, u64, Vec<u8>);

/// What was sent from one run of a node to one port, and what came of it.
#[derive(Default)]
struct Stream {
    sent: u64,
    received: Vec<u64>,
    monitors: Vec<Watch>,
    /// The sender has crashed: nobody is left to be told.
    is_orphaned: bool,
}

/// A monitor, from when to when by the numbers of messages.
#[derive(Clone, Debug)]
struct Watch {
    begins: u64,
    fired: Option<u64>,
    fired_at: Option<Instant>,
    cancelled: Option<u64>,
    reason: Option<Reason>,
    fires: u32,
}

type Streams = Rc<RefCell<BTreeMap<u64, Stream>>>;

/// One way messages go, as the sender has it.
struct Way {
    number: u64,
    from: usize,
    to: PortId,
    /// The node of the port.
    home: usize,
    typed: Option<Port<Numbered>>,
    guards: Vec<(usize, Monitor)>,
}

struct Day {
    net: Net,
    chance: Chance,
    streams: Streams,
    ways: Vec<Way>,
    /// Where a port is, or was: messages to dead ones are part of the game.
    ports: Vec<(usize, PortId)>,
    names: Vec<String>,
    unsent_max: usize,
    cuts: Vec<(usize, usize)>,
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let options = WorldOptions {
            latency: Duration::from_millis(1 + chance.below(40) as u64),
            jitter: Duration::from_millis(chance.below(30) as u64),
            buffer_len: [2000, 20_000, 262_144][chance.below(3)],
            segment_len_max: [10, 300, 16_384][chance.below(3)],
            partial_share: [0.0, 0.1, 0.5][chance.below(3)],
            reset_share: [0.0, 0.0, 0.002][chance.below(3)],
            turn_takes: Duration::from_micros(50),
            trace_len_max: 16,
            ..WorldOptions::default()
        };
        let count = 2 + chance.below(6);
        let names = (0..count).map(|index| format!("{}-{index}", chance.below(100))).collect();
        let mut day = Self {
            net: Net::new(seed, options),
            streams: Rc::default(),
            ways: Vec::new(),
            ports: Vec::new(),
            names,
            unsent_max: [3000, 30_000, 64 << 20][chance.below(3)],
            cuts: Vec::new(),
            chance,
        };
        for index in 0..count {
            let config = day.config(index);
            day.net.add(config);
            day.settle_in(index);
        }
        day
    }

    fn config(&self, index: usize) -> Config {
        config(&self.names[index], &[0, 1])
            .monitor_timeout(Duration::from_secs(6))
            .connect_interval(Duration::from_secs(1))
    }

    /// A node that has just begun gets its ports.
    fn settle_in(&mut self, index: usize) {
        self.net.node(index).set_unsent_max(self.unsent_max);
        for _ in 0..2 {
            self.add_port(index);
        }
    }

    fn add_port(&mut self, index: usize) {
        let streams = Rc::clone(&self.streams);
        let port = self.net.node(index).port(move |_: &Context<'_>, message: Numbered| {
            let (stream, number, _) = message;
            streams.borrow_mut().get_mut(&stream).expect("it was sent").received.push(number);
        });
        self.ports.push((index, port.id()));
    }

    fn a_node(&mut self) -> Option<usize> {
        let index = self.chance.below(self.net.sites.len());
        self.net.sites[index].is_some().then_some(index)
    }

    fn two_nodes(&mut self) -> (usize, usize) {
        let a = self.chance.below(self.net.sites.len());
        let b = self.chance.below(self.net.sites.len() - 1);
        (a, if b >= a { b + 1 } else { b })
    }

    /// A way from some node to some port, an old one or a new one.
    fn a_way(&mut self) -> Option<usize> {
        let from = self.a_node()?;
        // Mostly to the latest ports, so that many live.
        let recent = self.ports.len().min(3 * self.net.sites.len());
        let port = self.ports.len() - 1 - self.chance.below(recent);
        let (home, to) = self.ports[port].clone();
        if home == from {
            return None;
        }
        let known = self.ways.iter().position(|way| way.from == from && way.to == to);
        Some(known.unwrap_or_else(|| {
            let number = self.streams.borrow().len() as u64;
            self.streams.borrow_mut().insert(number, Stream::default());
            let node = self.net.node(from);
            let typed = self.chance.is_one_in(2).then(|| Port::to(node, &to));
            self.ways.push(Way { number, from, to, home, typed, guards: Vec::new() });
            self.ways.len() - 1
        }))
    }

    fn send(&mut self) {
        let Some(way) = self.a_way() else { return };
        let len_max = [1, 30, 2000][self.chance.below(3)];
        for _ in 0..1 + self.chance.below(20) {
            let len = self.chance.below(len_max);
            let way = &self.ways[way];
            let node = self.net.node(way.from);
            send_one(node, &self.streams, way.number, &way.to, way.typed.as_ref(), len);
        }
    }

    /// Some of what is sent is on its way when the connection breaks, and some is not.
    fn send_into_a_reset(&mut self) {
        let Some(way) = self.a_way() else { return };
        self.net.run(Duration::from_millis(1 + self.chance.below(500) as u64));
        let Way { number, from, home, .. } = self.ways[way];
        let to = self.ways[way].to.clone();
        watch(self.net.node(from), &self.streams, number, &to, 0).1.detach();
        for is_last in [false, true] {
            for _ in 0..1 + self.chance.below(5) {
                send_one(self.net.node(from), &self.streams, number, &to, None, 10);
            }
            if !is_last {
                self.net.run(Duration::from_micros(200));
            }
        }
        self.net.reset(from, home);
    }

    fn watch(&mut self) {
        let Some(way) = self.a_way() else { return };
        let goes_on = self.chance.below(3);
        let way = &mut self.ways[way];
        let (index, guard) =
            watch(self.net.node(way.from), &self.streams, way.number, &way.to, goes_on);
        if self.chance.is_one_in(2) {
            way.guards.push((index, guard));
        } else {
            guard.detach();
        }
    }

    fn unwatch(&mut self) {
        let Some(way) = self.a_way() else { return };
        let way = &mut self.ways[way];
        let Some((index, guard)) = way.guards.pop() else { return };
        let streams = &mut *self.streams.borrow_mut();
        let stream = streams.get_mut(&way.number).expect("it is there");
        stream.monitors[index].cancelled = Some(stream.sent);
        drop(guard);
    }

    fn kill(&mut self) {
        let Some(killer) = self.a_node() else { return };
        let port = self.chance.below(self.ports.len());
        let (home, id) = self.ports[port].clone();
        self.net.node(killer).kill(id, Reason::new("why", "not"));
        if self.net.sites[home].is_some() {
            self.add_port(home);
        }
    }

    fn crash(&mut self) {
        let Some(index) = self.a_node() else { return };
        let (gone, ways) =
            std::mem::take(&mut self.ways).into_iter().partition(|way| way.from == index);
        self.ways = ways;
        let gone: Vec<Way> = gone;
        for way in &gone {
            self.streams.borrow_mut().get_mut(&way.number).expect("it is there").is_orphaned = true;
        }
        // As the kernel does, first the process ends, then its sockets.
        self.net.crash(index);
        drop(gone);
    }

    fn restart(&mut self) {
        let index = self.chance.below(self.net.sites.len());
        if self.net.sites[index].is_none() {
            let config = self.config(index);
            self.net.restart(index, config);
            self.settle_in(index);
        }
    }

    fn act(&mut self) {
        match self.chance.below(40) {
            0..12 => self.send(),
            12..17 => self.watch(),
            17 => self.unwatch(),
            18 => self.kill(),
            19 if self.chance.is_one_in(2) => self.crash(),
            20..22 => self.restart(),
            22 if self.chance.is_one_in(2) => {
                let pair = self.two_nodes();
                self.net.cut(pair.0, pair.1);
                self.cuts.push(pair);
            }
            23 | 24 => {
                if let Some((a, b)) = self.cuts.pop() {
                    self.net.mend(a, b);
                }
            }
            25 => self.send_into_a_reset(),
            29 if self.chance.is_one_in(2) => {
                let (a, b) = self.two_nodes();
                self.net.reset(a, b);
            }
            26 => {
                let index = self.chance.below(self.net.sites.len());
                self.net.stalled[index] = true;
            }
            27 | 28 => self.net.stalled.fill(false),
            _ => {
                let millis = [30, 300, 3000][self.chance.below(3)];
                let time = Duration::from_millis(1 + self.chance.below(millis) as u64);
                self.net.run(time);
            }
        }
    }

    /// All is mended, and there is time enough for whatever is to fire.
    fn calm_down(&mut self) {
        for (a, b) in std::mem::take(&mut self.cuts) {
            self.net.mend(a, b);
        }
        self.net.stalled.fill(false);
        self.net.run(Duration::from_secs(25));
    }
}

fn send_one(
    node: &Node,
    streams: &Streams,
    stream: u64,
    to: &PortId,
    typed: Option<&Port<Numbered>>,
    len: usize,
) {
    let number = {
        let streams = &mut *streams.borrow_mut();
        let stream = streams.get_mut(&stream).expect("it is there");
        stream.sent += 1;
        stream.sent - 1
    };
    let message = (stream, number, vec![7; len]);
    match typed {
        Some(port) => port.send(message),
        None => node.send(to, message),
    }
}

/// Sets a monitor; when it fires, sends and watches again so many times, as programs do.
fn watch(
    node: &Node,
    streams: &Streams,
    number: u64,
    to: &PortId,
    again: usize,
) -> (usize, Monitor) {
    let index = {
        let streams = &mut *streams.borrow_mut();
        let stream = streams.get_mut(&number).expect("it is there");
        let begins = stream.sent;
        stream.monitors.push(Watch {
            begins,
            fired: None,
            fired_at: None,
            cancelled: None,
            reason: None,
            fires: 0,
        });
        stream.monitors.len() - 1
    };
    let (shared, to_again) = (Rc::clone(streams), to.clone());
    let monitor = node.monitor(to, move |node, reason| {
        {
            let streams = &mut *shared.borrow_mut();
            let stream = streams.get_mut(&number).expect("it is there");
            // All monitors of a port fire in one step. What the first of them sends comes behind that step,
            // and so behind the others too.
            let now = Some(node.now());
            let first = stream.monitors.iter().find(|watch| watch.fired_at == now);
            let sent = first.and_then(|watch| watch.fired).unwrap_or(stream.sent);
            let watch = &mut stream.monitors[index];
            watch.fires += 1;
            watch.fired_at = now;
            watch.fired = Some(sent.max(watch.begins));
            watch.reason = Some(reason);
        }
        if again > 0 {
            watch(node, &shared, number, &to_again, again - 1).1.detach();
            send_one(node, &shared, number, &to_again, None, 5);
        }
    });
    (index, monitor)
}

impl Stream {
    fn check(&self) -> Result<(), String> {
        if !self.received.is_sorted_by(|a, b| a < b) {
            return Err(format!("twice, or out of order: {:?}", self.received));
        }
        self.monitors.iter().try_for_each(|watch| self.check_watch(watch))
    }

    fn check_watch(&self, watch: &Watch) -> Result<(), String> {
        if watch.fires > 1
            || (watch.fires > 0 && watch.cancelled.is_some_and(|at| Some(at) < watch.fired))
        {
            return Err(format!("{watch:?} fired too often"));
        }
        let ends = watch.fired.or(watch.cancelled).unwrap_or(self.sent);
        let of_it: Vec<u64> = self
            .received
            .iter()
            .copied()
            .filter(|number| (watch.begins..ends).contains(number))
            .collect();
        let is_prefix = of_it.iter().copied().eq((watch.begins..ends).take(of_it.len()));
        if !is_prefix {
            return Err(format!("a hole: {watch:?} of {} has {of_it:?}", self.sent));
        }
        let is_whole = of_it.len() as u64 == ends - watch.begins;
        let is_told = watch.fired.is_some() || watch.cancelled.is_some() || self.is_orphaned;
        if !is_whole && !is_told {
            return Err(format!(
                "a loss that nobody was told of: {watch:?} of {} has {of_it:?}",
                self.sent
            ));
        }
        Ok(())
    }
}

/// What a day was like.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    digest: u64,
    received: usize,
    lost: usize,
    fired: BTreeMap<String, usize>,
}

fn live(seed: u64) -> Result<Summary, String> {
    let mut day = Day::new(seed);
    if !day.chance.is_one_in(4) {
        day.net.run(Duration::from_secs(3));
    }
    for _ in 0..20 + day.chance.below(130) {
        day.act();
    }
    day.calm_down();
    let mut summary = Summary { digest: day.net.world.trace_digest(), ..Summary::default() };
    for (number, stream) in &*day.streams.borrow() {
        stream.check().map_err(|error| format!("PORTS_SEED={seed}: stream {number}: {error}"))?;
        summary.received += stream.received.len();
        summary.lost += stream.sent as usize - stream.received.len();
        for reason in stream.monitors.iter().filter_map(|watch| watch.reason.as_ref()) {
            let values = reason.values();
            let is_transport = values[0].as_str() == Some("transport_error");
            let text = values[if is_transport { 2 } else { 0 }].to_string();
            *summary.fired.entry(text).or_default() += 1;
        }
    }
    Ok(summary)
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn there_are_no_holes_and_every_loss_is_told() {
    let seeds = match number_of("PORTS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("PORTS_SEEDS").unwrap_or(200),
    };
    let mut all = Summary::default();
    let days = seeds.end - seeds.start;
    for seed in seeds {
        let day = live(seed).unwrap_or_else(|error| panic!("{error}"));
        all.received += day.received;
        all.lost += day.lost;
        for (text, count) in day.fired {
            *all.fired.entry(text).or_default() += count;
        }
    }
    // Else this would be a test of fair weather only.
    assert!(days < 100 || (all.received > 5000 && all.lost > 1000), "{all:?}");
    assert!(days < 100 || all.fired.len() >= 6, "{all:?}");
}

#[test]
fn equal_seeds_give_equal_days() {
    for seed in 0..5 {
        assert_eq!(live(seed), live(seed), "{seed}");
    }
}

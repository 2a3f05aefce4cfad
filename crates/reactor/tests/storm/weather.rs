//! What happens in a storm, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use reactor::{
    ConnectOptions, Direction, HandlerError, Interest, ListenOptions, Rate, Token, WatchGuard,
};

use crate::stage::{End, Fate, Harbour, Loop, Sailor, Storm, Veil};

/// How great a storm is.
pub(crate) struct Size {
    pub(crate) wires: usize,
    pub(crate) watches: usize,
    pub(crate) turns: usize,
    /// There are descriptors and signals from outside.
    pub(crate) is_real: bool,
}

/// Two reactors and what happens to them.
pub(crate) struct Weather {
    reactors: [Loop; 2],
    storm: Storm,
    size: Size,
    doors: [(Token, SocketAddr); 2],
    signals: Vec<WatchGuard>,
}

impl Weather {
    pub(crate) fn new(seed: u64, mut reactors: [Loop; 2], ip: IpAddr, size: Size) -> Self {
        let doors = [0, 1].map(|number: usize| {
            let reactor: &mut Loop = &mut reactors[number];
            let addr = SocketAddr::new(ip, 0);
            let door = reactor.listen(addr, &ListenOptions::default(), Box::new(Harbour)).unwrap();
            (door, reactor.local_addr(door).unwrap())
        });
        let mut signals = Vec::new();
        if size.is_real {
            let watch = |storm: &mut Storm, _: &mut Loop| storm.signals += 1;
            signals.extend(
                reactors.each_mut().map(|reactor| reactor.on_signal(SIGUSR1, watch).unwrap()),
            );
        }
        let mut storm = Storm::new(seed);
        storm.watches.resize_with(size.watches, || None);
        Self { reactors, storm, size, doors, signals }
    }

    /// The storm itself.
    pub(crate) fn rage(&mut self) {
        for _ in 0..self.size.turns {
            let room = self.size.wires.saturating_sub(self.storm.open_count() / 2).min(40);
            for _ in 0..room {
                self.open();
            }
            self.turn();
            for _ in 0..20 {
                self.gust();
            }
        }
        let [bytes, closed, moved, marks] = self.storm.counts;
        let least = self.size.turns as u64;
        assert!(
            bytes > least * 100 && closed > 20 && moved > 20 && marks > 20,
            "that was no storm"
        );
    }

    /// All say what they have to say and hear each other out. Returns how much happened.
    pub(crate) fn calm(mut self) -> [u64; 4] {
        self.storm.is_calm = true;
        self.storm.watches.clear();
        self.storm.guards.clear();
        self.land();
        for key in 0..self.storm.ends.len() {
            let End { token, home, is_closed, .. } = self.storm.ends[key];
            if let (Some(token), false) = (token, is_closed) {
                finish(key, token, &mut self.storm, &mut self.reactors[home]);
            }
        }
        let patience = self.reactors.each_ref().map(|reactor| reactor.now() + PATIENCE);
        while self.storm.open_count() > 0 {
            self.turn();
            let is_late = self.reactors[0].now() > patience[0];
            assert!(!is_late, "forgotten: {:?}", self.storm.ends.iter().find(|end| !end.is_closed));
        }
        self.signals.clear();
        for (reactor, (door, _)) in self.reactors.iter_mut().zip(self.doors) {
            reactor.close(door, "the storm is over");
            assert_eq!(reactor.len(), 0, "{:?}", reactor.tokens());
        }
        assert!(!self.size.is_real || self.storm.signals > 0);
        self.storm.counts
    }

    fn turn(&mut self) {
        for (number, reactor) in self.reactors.iter_mut().enumerate() {
            self.storm.here = number;
            reactor.turn(&mut self.storm, Some(Duration::from_micros(500))).unwrap();
            assert!(self.storm.faults.is_empty(), "{:#?}", self.storm.faults);
        }
        self.land();
    }

    /// Those that were on their way to the other reactor arrive.
    fn land(&mut self) {
        for (home, connection, veil, key) in std::mem::take(&mut self.storm.moving) {
            let sailor = Box::new(Sailor(key));
            let token = self.reactors[home].adopt(connection, sailor).unwrap();
            if let Some(veil) = veil {
                self.reactors[home].set_transport(token, veil);
            }
            let end = &mut self.storm.ends[key];
            (end.token, end.home) = (Some(token), home);
        }
    }

    /// One more connection, of whatever kind.
    fn open(&mut self) {
        let home = self.storm.below(2);
        let keys = [self.storm.ends.len(), self.storm.ends.len() + 1];
        let wire = self.storm.wires.len() as u32;
        let reactor = &mut self.reactors[home];
        let kind = self.storm.below(8);
        let tokens = if kind == 0 {
            let (a, b) = reactor.pipe(Box::new(Sailor(keys[0])), Box::new(Sailor(keys[1])));
            [Some(a), Some(b)]
        } else if kind < 4 && self.size.is_real {
            let (a, b) = UnixStream::pair().unwrap();
            let b = self.reactors[1 - home].register(b, Box::new(Sailor(keys[1]))).unwrap();
            let a = self.reactors[home].register(a, Box::new(Sailor(keys[0]))).unwrap();
            [Some(a), Some(b)]
        } else {
            let to = self.doors[self.storm.below(2)].1;
            let sailor = Box::new(Sailor(keys[0]));
            let a = reactor.connect(to, &ConnectOptions::default(), sailor).unwrap();
            reactor.write(a, wire.to_le_bytes().to_vec()).unwrap();
            [Some(a), None]
        };
        let homes = [home, if kind == 0 { home } else { 1 - home }];
        let mut ends = [None, None];
        for (side, token) in tokens.into_iter().enumerate() {
            let Some(token) = token else { continue };
            let name = Some((wire, side as u32));
            let end = End {
                token: Some(token),
                home: homes[side],
                name,
                is_pipe: kind == 0,
                ..End::default()
            };
            ends[side] = Some(self.storm.ends.len());
            self.storm.ends.push(end);
            self.reactors[homes[side]].set_water(token, 60_000, 20_000);
        }
        self.storm.wires.push(ends);
    }

    /// Something happens to whomever.
    fn gust(&mut self) {
        let key = self.storm.below(self.storm.ends.len());
        let End { token, home, is_closed, .. } = self.storm.ends[key];
        let (Some(token), false) = (token, is_closed) else { return };
        self.storm.here = home;
        blow(key, token, &mut self.storm, &mut self.reactors[home]).unwrap();
        if !self.storm.watches.is_empty() {
            self.watch(home);
        }
    }

    /// A pipe is watched no more, and another one is.
    fn watch(&mut self, home: usize) {
        let number = self.storm.below(self.storm.watches.len());
        let (mut from, mut to) = std::io::pipe().unwrap();
        to.write_all(b"now").unwrap();
        let mut left = 3;
        let guard = self.reactors[home].watch(from.try_clone().unwrap(), Interest::Readable, {
            move |readiness, storm: &mut Storm, _| {
                // Kept open by being here.
                let _to = &to;
                storm.expect(readiness.readable && left > 0, "nothing to read", 0);
                from.read_exact(&mut [0]).unwrap();
                left -= 1;
                if left == 0 {
                    storm.watches[number] = None;
                }
            }
        });
        self.storm.watches[number] = Some(guard.unwrap());
    }
}

/// Something happens to a connection.
pub(crate) fn blow(
    key: usize,
    token: Token,
    storm: &mut Storm,
    reactor: &mut Loop,
) -> Result<(), HandlerError> {
    if storm.is_calm {
        return Ok(());
    }
    let End { name, is_finished, is_pipe, has_veil, .. } = storm.ends[key];
    let may_write = name.is_some() && !is_finished;
    let after = Duration::from_micros(storm.below(5000) as u64);
    match storm.below(40) {
        0..8 if may_write => write(key, token, storm, reactor),
        8..14 if may_write => {
            let len = storm.below(600);
            let bytes = storm.bytes(key, len);
            if reactor.write_now(token, &bytes).is_ok() {
                storm.ends[key].written += len as u64;
            }
        }
        14..16 if may_write => {
            let then = move |storm: &mut Storm, reactor: &mut Loop| {
                storm.counts[3] += 1;
                let is_here = storm.ends[key].token == Some(token);
                storm.expect(is_here, "it was taken", key);
                if !storm.is_calm && !storm.ends[key].is_finished {
                    write(key, token, storm, reactor);
                }
            };
            reactor.write_then(token, then).ok();
        }
        16..18 => {
            reactor.kick(token).ok();
        }
        18..20 => {
            reactor.pause(token);
            if storm.below(2) == 0 {
                reactor.add_timer(reactor.now() + after, move |_, reactor| reactor.resume(token));
            }
        }
        20..22 => reactor.resume(token),
        22 if storm.below(3) == 0 => {
            storm.ends[key].is_finished = false;
            reactor.close(token, "on a whim");
        }
        23 if may_write && storm.below(2) == 0 => {
            storm.ends[key].is_finished = true;
            reactor.close_after_flush(token, PATIENCE);
        }
        24 if may_write && storm.below(2) == 0 => finish(key, token, storm, reactor),
        25..29 if !is_finished && !is_pipe => move_on(key, token, storm, reactor),
        29 => drop(reactor.set_handler(token, Box::new(Sailor(key)))),
        30..32 => reactor.notify_writable(token),
        32 => {
            let direction = [Direction::Read, Direction::Write][storm.below(2)];
            let rate = Rate { bytes_per_second: 1_000_000, burst: 2000 };
            let rate = (storm.below(2) == 0).then_some(rate);
            reactor.set_rate(token, direction, rate);
        }
        36 if !is_pipe && !has_veil && storm.below(2) == 0 => {
            storm.ends[key].has_veil = true;
            reactor.set_transport(token, Box::new(Veil::default()));
        }
        33 => reactor.set_deadline(token, Some(reactor.now() + PATIENCE)),
        34 => reactor.set_idle_timeout(token, Some(PATIENCE)),
        35 => drop(reactor.cork(token)),
        36.. => time(after, storm, reactor),
        _ => {}
    }
    Ok(())
}

fn write(key: usize, token: Token, storm: &mut Storm, reactor: &mut Loop) {
    let len = if storm.below(20) == 0 { storm.below(70_000) } else { storm.below(2000) };
    let bytes = storm.bytes(key, len);
    if !reactor.is_full(token) && reactor.write(token, bytes).is_ok() {
        storm.ends[key].written += len as u64;
    }
}

/// A connection says that this was all, and reads on.
pub(crate) fn finish(key: usize, token: Token, storm: &mut Storm, reactor: &mut Loop) {
    if storm.is_calm {
        reactor.resume(token);
        reactor.set_rate(token, Direction::Read, None);
        reactor.set_rate(token, Direction::Write, None);
    }
    if reactor.finish(token).is_ok() {
        storm.ends[key].is_finished = true;
    }
    if storm.ends[key].has_eof {
        reactor.close_after_flush(token, PATIENCE);
    }
}

/// A connection is taken out, and goes on here or in the other reactor.
fn move_on(key: usize, token: Token, storm: &mut Storm, reactor: &mut Loop) {
    let Ok(taken) = reactor.take(token) else { return };
    storm.counts[2] += 1;
    storm.ends[key].token = None;
    if storm.below(2) == 0 {
        storm.moving.push((1 - storm.here, taken.connection, taken.transport, key));
    } else {
        let sailor = taken.handler.unwrap_or_else(|| Box::new(Sailor(key)));
        let token = reactor.adopt(taken.connection, sailor).unwrap();
        if let Some(veil) = taken.transport {
            reactor.set_transport(token, veil);
        }
        storm.ends[key].token = Some(token);
    }
}

/// A timer is set, and perhaps one taken back.
fn time(after: Duration, storm: &mut Storm, reactor: &mut Loop) {
    let number = storm.fates.len();
    storm.fates.push(Fate::Waits);
    let at = reactor.now() + after;
    let fires = move |storm: &mut Storm, _: &mut Loop| {
        let before = std::mem::replace(&mut storm.fates[number], Fate::Fired);
        storm.expect(before == Fate::Waits, "a timer that was taken back", 0);
    };
    match storm.below(3) {
        0 => {
            let guard = reactor.guard_timer(at, fires);
            storm.guards.push((guard, number));
        }
        1 => {
            let timer = reactor.add_timer(at, fires);
            storm.timers.push((storm.here, timer, number));
        }
        _ if !storm.guards.is_empty() => {
            let chosen = storm.below(storm.guards.len());
            let (guard, number) = storm.guards.swap_remove(chosen);
            drop(guard);
            if storm.fates[number] == Fate::Waits {
                storm.fates[number] = Fate::Cancelled;
            }
        }
        _ => {}
    }
    if storm.below(2) == 0 && !storm.timers.is_empty() {
        let chosen = storm.below(storm.timers.len());
        let (home, timer, number) = storm.timers[chosen];
        if home == storm.here {
            let was_waiting = storm.fates[number] == Fate::Waits;
            let is_cancelled = reactor.cancel_timer(timer);
            storm.expect(is_cancelled == was_waiting, "a timer that is gone", 0);
            if was_waiting {
                storm.fates[number] = Fate::Cancelled;
            }
            storm.timers.swap_remove(chosen);
        }
    }
}

const SIGUSR1: i32 = 10;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

//! What is known of all connections of a storm, and the handler that they share.

use std::io::{self, IoSlice, IoSliceMut};

use reactor::{
    Accepted, Acceptor, Detached, Handler, HandlerError, Reactor, Read, Reason, TimerGuard,
    TimerId, Token, Transport, WatchGuard, Wire,
};

use crate::weather;

pub(crate) type Loop = Reactor<Storm>;
type Veiled = Option<Box<dyn Transport>>;
type Done = Result<(), HandlerError>;

/// The state that both reactors share.
pub(crate) struct Storm {
    word: u64,
    /// Whose handlers are being called: 0 or 1.
    pub(crate) here: usize,
    pub(crate) is_calm: bool,
    pub(crate) ends: Vec<End>,
    /// By their numbers; those of an accepted connection are known once it says so.
    pub(crate) wires: Vec<[Option<usize>; 2]>,
    /// On their way to the other reactor.
    pub(crate) moving: Vec<(usize, Detached, Veiled, usize)>,
    pub(crate) timers: Vec<(usize, TimerId, usize)>,
    pub(crate) guards: Vec<(TimerGuard, usize)>,
    pub(crate) watches: Vec<Option<WatchGuard>>,
    /// What became of each timer.
    pub(crate) fates: Vec<Fate>,
    pub(crate) signals: u64,
    /// What should not have been. A panic would only end the connection.
    pub(crate) faults: Vec<String>,
    /// How many bytes were read, ends closed, ends moved, and callbacks in queues called.
    pub(crate) counts: [u64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Waits,
    Cancelled,
    Fired,
}

/// One end of a connection, whichever token it has by now.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) token: Option<Token>,
    pub(crate) home: usize,
    /// The number of the connection and of the end; not known at first of one that was accepted.
    pub(crate) name: Option<(u32, u32)>,
    /// What came of the number so far.
    pub(crate) head: Vec<u8>,
    /// How many bytes were read, and how many were written.
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// It writes no more, and all that it wrote is to arrive.
    pub(crate) is_finished: bool,
    pub(crate) is_pipe: bool,
    pub(crate) has_veil: bool,
    pub(crate) has_eof: bool,
    pub(crate) is_closed: bool,
}

/// The handler of the end of this number.
pub(crate) struct Sailor(pub(crate) usize);

/// Changes nothing, but takes more than there is room for.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    held: Vec<u8>,
}

/// Takes in the other ends.
pub(crate) struct Harbour;

impl Storm {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            word: seed,
            here: 0,
            is_calm: false,
            ends: Vec::new(),
            wires: Vec::new(),
            moving: Vec::new(),
            timers: Vec::new(),
            guards: Vec::new(),
            watches: Vec::new(),
            fates: Vec::new(),
            signals: 0,
            faults: Vec::new(),
            counts: [0; 4],
        }
    }

    /// A number below `limit`, by SplitMix64.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.word = self.word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.word;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % limit as u64) as usize
    }

    /// Remembers a fault, unless all is well.
    pub(crate) fn expect(&mut self, is_well: bool, what: &str, key: usize) {
        if !is_well {
            self.faults.push(format!("{what}: end {key} is {:?}", self.ends[key]));
        }
    }

    /// How many ends there are.
    pub(crate) fn open_count(&self) -> usize {
        self.ends.len() - self.counts[1] as usize
    }

    /// The end at the far side, if it is known.
    fn other_end(&self, key: usize) -> Option<&End> {
        let (wire, side) = self.ends[key].name?;
        Some(&self.ends[self.wires[wire as usize][1 - side as usize]?])
    }

    /// The next bytes that this end is to write.
    pub(crate) fn bytes(&self, key: usize, len: usize) -> Vec<u8> {
        let end = &self.ends[key];
        let name = end.name.expect("it writes when it knows who it is");
        (end.written..end.written + len as u64).map(|at| byte(name, at)).collect()
    }

    /// These bytes have come to this end.
    fn check(&mut self, key: usize, mut bytes: &[u8]) {
        self.counts[0] += bytes.len() as u64;
        while self.ends[key].name.is_none() {
            let Some((first, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.ends[key].head.push(*first);
            if let Ok(wire) = <[u8; 4]>::try_from(&self.ends[key].head[..]) {
                let wire = u32::from_le_bytes(wire);
                let place = &mut self.wires[wire as usize][1];
                let is_first = place.replace(key).is_none();
                self.ends[key].name = Some((wire, 1));
                self.expect(is_first, "two have come for one", key);
            }
        }
        let end = &mut self.ends[key];
        let (wire, side) = end.name.expect("known by now");
        let from = end.read;
        end.read += bytes.len() as u64;
        let is_right = (from..).zip(bytes).all(|(at, found)| *found == byte((wire, 1 - side), at));
        self.expect(is_right, "other bytes than those that were written", key);
        let written = self.other_end(key).map(|other| other.written);
        let read = self.ends[key].read;
        self.expect(written.is_none_or(|written| read <= written), "more than was written", key);
    }

    /// The far side says that this was all.
    fn check_eof(&mut self, key: usize) {
        self.ends[key].has_eof = true;
        let read = self.ends[key].read;
        let other = self.other_end(key).filter(|other| other.is_finished);
        let is_all = other.is_none_or(|other| other.written == read);
        self.expect(is_all, "not all that was written was read", key);
    }

    fn check_token(&mut self, key: usize, token: Token) {
        let end = &self.ends[key];
        let is_right = (end.token, end.home) == (Some(token), self.here) && !end.is_closed;
        self.expect(is_right, "called for another, or after the end", key);
    }
}

impl Sailor {
    fn read(&self, token: Token, storm: &mut Storm, reactor: &mut Loop) -> Done {
        let mut buffer = [0; 4096];
        let len = if storm.is_calm { 4096 } else { 1 + storm.below(4096) };
        match reactor.read(token, &mut buffer[..len])? {
            Read::Data(count) => {
                let is_put_back = !storm.is_calm && storm.below(8) == 0;
                let back = if is_put_back { storm.below(count + 1) } else { 0 };
                storm.check(self.0, &buffer[..count - back]);
                reactor.unread(token, buffer[count - back..count].to_vec())?;
            }
            Read::WouldBlock => {}
            Read::Eof => {
                storm.check_eof(self.0);
                if storm.ends[self.0].is_finished {
                    reactor.close_after_flush(token, weather::PATIENCE);
                }
            }
        }
        Ok(())
    }
}

impl Handler<Storm> for Sailor {
    fn connected(&mut self, token: Token, storm: &mut Storm, reactor: &mut Loop) -> Done {
        storm.check_token(self.0, token);
        weather::blow(self.0, token, storm, reactor)
    }

    fn readable(&mut self, token: Token, storm: &mut Storm, reactor: &mut Loop) -> Done {
        storm.check_token(self.0, token);
        if storm.is_calm || storm.below(8) > 0 {
            self.read(token, storm, reactor)?;
        }
        if storm.below(4) == 0 { weather::blow(self.0, token, storm, reactor) } else { Ok(()) }
    }

    fn writable(&mut self, token: Token, storm: &mut Storm, reactor: &mut Loop) -> Done {
        storm.check_token(self.0, token);
        weather::blow(self.0, token, storm, reactor)
    }

    fn full(&mut self, token: Token, storm: &mut Storm, _: &mut Loop) -> Done {
        storm.check_token(self.0, token);
        Ok(())
    }

    fn drained(&mut self, token: Token, storm: &mut Storm, reactor: &mut Loop) -> Done {
        storm.check_token(self.0, token);
        weather::blow(self.0, token, storm, reactor)
    }

    fn closed(&mut self, token: Token, reason: Reason, storm: &mut Storm, _: &mut Loop) {
        storm.check_token(self.0, token);
        match reason {
            Reason::Timeout => storm.expect(false, "waited in vain", self.0),
            Reason::Handler(error) => storm.expect(false, &error.to_string(), self.0),
            Reason::Local(_) => {}
            // What it had still to write is not to arrive.
            Reason::Reset | Reason::Error(_) => storm.ends[self.0].is_finished = false,
        }
        storm.counts[1] += 1;
        storm.ends[self.0].is_closed = true;
    }
}

impl Transport for Veil {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        wire.read(slices)
    }

    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(wire)?;
        let first = slices.iter().find(|slice| !slice.is_empty()).expect("something to write");
        let taken = first.len().min(3000);
        self.held.extend_from_slice(&first[..taken]);
        Ok(taken)
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while !self.held.is_empty() {
            let sent = wire.write(&[IoSlice::new(&self.held)])?;
            self.held.drain(..sent);
        }
        Ok(())
    }
}

impl Acceptor<Storm> for Harbour {
    fn accepted(&mut self, _: Token, connection: Accepted, storm: &mut Storm, reactor: &mut Loop) {
        if !storm.is_calm && storm.below(50) == 0 {
            return;
        }
        let key = storm.ends.len();
        let token = reactor.attach(connection, Box::new(Sailor(key))).unwrap();
        storm.ends.push(End { token: Some(token), home: storm.here, ..End::default() });
        if storm.is_calm {
            weather::finish(key, token, storm, reactor);
        }
    }
}

/// What stands at this place of what this end writes.
fn byte((wire, side): (u32, u32), at: u64) -> u8 {
    let word = u64::from(wire * 2 + side) << 32 ^ at;
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

//! Layers between a connection and its socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::sync::Arc;
use std::time::Duration;

use reactor::{Budgets, Chunk, Progress, Reactor, Token, Transport, Wire};

use crate::parts::{count_turns, few_turns, pair};
use crate::stage::{Script, echo, everywhere, noise, read, script, turn_for, turn_until};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    endings: Vec<String>,
}

fn collector() -> Script<Log> {
    script()
        .readable(|token, log: &mut Log, reactor| {
            log.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(|_, reason, log, _| log.endings.push(reason.to_string()))
}

/// Takes as many bytes as the script says, write by write; 0 is none for now. It passes on what it takes.
#[derive(Debug)]
struct Scripted {
    takes: VecDeque<usize>,
}

impl Transport for Scripted {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        wire.read(slices)
    }

    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = self.takes.pop_front().unwrap_or(usize::MAX);
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let first = &slices[0][..len.min(slices[0].len())];
        wire.write(&[IoSlice::new(first)])
    }

    fn flush(&mut self, _: &mut dyn Wire) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_that_takes_little_at_a_time_loses_and_doubles_nothing() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = pair(&mut reactor, &mut log, ip, collector().boxed(), echo().boxed());
        reactor.set_transport(here, Box::new(Scripted { takes: [2, 0, 0, 1, 0].into() }));
        reactor.write(here, "abcdef").unwrap();
        reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        // It took two bytes, or one if there was room for no more, and then none.
        assert!((4..6).contains(&reactor.queued(here)));
        reactor.write(here, noise(1000)).unwrap();
        // It is asked again whenever something comes, as the echo does; and when the program says so.
        let expected = [b"abcdef".to_vec(), noise(1000)].concat();
        while log.received.len() < expected.len() {
            reactor.kick(here).unwrap();
            turn_for(&mut reactor, &mut log, Duration::from_millis(1));
        }
        assert!(log.received == expected);
    });
}

#[test]
fn a_kick_that_drains_the_queue_says_so() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let writer = script().drained(|_, log: &mut Log, _| {
            log.endings.push("drained".to_owned());
            Ok(())
        });
        let (here, _) = pair(&mut reactor, &mut log, ip, writer.boxed(), collector().boxed());
        reactor.set_transport(here, Box::new(Scripted { takes: [0].into() }));
        reactor.set_water(here, 1, 0);
        reactor.write(here, "x").unwrap();
        reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        assert!(log.endings.is_empty() && reactor.is_full(here));
        assert_eq!(reactor.kick(here), Ok(Progress::Sent));
        turn_until(&mut reactor, &mut log, |log| log.received == b"x" && !log.endings.is_empty());
        assert_eq!(log.endings, ["drained"]);
    });
}

/// Turns every byte, and gathers what it writes in blocks that it sends when they are full or flushed.
#[derive(Debug, Default)]
struct Turning {
    held: Vec<u8>,
    is_finished: bool,
}

impl Transport for Turning {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = wire.read(slices)?;
        for byte in slices.iter_mut().flat_map(|slice| slice.iter_mut()).take(count) {
            *byte = !*byte;
        }
        Ok(count)
    }

    fn write(&mut self, _: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = BLOCK_LEN - self.held.len();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter()).take(room);
        let before = self.held.len();
        self.held.extend(bytes.map(|byte| !byte));
        Ok(self.held.len() - before)
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while !self.held.is_empty() {
            let count = wire.write(&[IoSlice::new(&self.held)])?;
            self.held.drain(..count);
        }
        Ok(())
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_finished, true) {
            self.held.extend(b"goodbye".map(|byte| !byte));
        }
    }
}

fn turned_pair(reactor: &mut Reactor<Log>, log: &mut Log, ip: std::net::IpAddr) -> (Token, Token) {
    let ends = pair(reactor, log, ip, collector().boxed(), collector().boxed());
    for end in [ends.0, ends.1] {
        reactor.set_transport(end, Box::new(Turning::default()));
    }
    ends
}

#[test]
fn what_one_does_the_other_undoes_however_much_it_is() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) = turned_pair(&mut reactor, &mut log, ip);
        reactor.pause(there);
        reactor.write(here, noise(LEN)).unwrap();
        turn_for(&mut reactor, &mut log, Duration::from_millis(20));
        reactor.resume(there);
        turn_until(&mut reactor, &mut log, |log| log.received.len() >= LEN);
        assert!(log.received == noise(LEN));
        let turns = count_turns(&mut reactor, &mut log, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
    });
}

#[test]
fn parts_of_files_go_through_it_in_their_place_and_one_that_is_too_short_ends_it() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = turned_pair(&mut reactor, &mut log, ip);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&noise(LEN)).unwrap();
        let file = Arc::new(file);
        let part = |offset, len| Chunk::File { file: Arc::clone(&file), offset, len };
        reactor.write(here, "head").unwrap();
        reactor.write(here, part(10, LEN - 10)).unwrap();
        reactor.write(here, "tail").unwrap();
        let expected = [b"head", &noise(LEN)[10..], b"tail"].concat();
        turn_until(&mut reactor, &mut log, |log| log.received.len() >= expected.len());
        assert!(log.received == expected && log.endings.is_empty());
        reactor.write(here, part(LEN as u64 - 1, 2)).unwrap();
        turn_until(&mut reactor, &mut log, |log| !log.endings.is_empty());
        assert_eq!(log.endings[0], "the file ended early");
    });
}

#[test]
fn a_share_of_each_turn_is_enough_to_send_everything() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        reactor.set_budgets(Budgets { write_bytes: 1500, ..Budgets::default() });
        let (here, _) = turned_pair(&mut reactor, &mut log, ip);
        reactor.write(here, noise(50_000)).unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received.len() == 50_000);
        assert!(log.received == noise(50_000));
    });
}

#[test]
fn its_goodbye_goes_out_before_the_end() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = turned_pair(&mut reactor, &mut log, ip);
        reactor.write(here, "all, ").unwrap();
        reactor.close_after_flush(here, Duration::from_secs(9));
        turn_until(&mut reactor, &mut log, |log| log.endings.len() == 2);
        assert_eq!(log.received, b"all, goodbye");
    });
}

#[test]
fn one_may_come_between_later_and_what_was_put_back_stays_above_it() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let ends = pair(&mut reactor, &mut log, ip, collector().boxed(), collector().boxed());
        reactor.write(ends.1, "plain, ").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received == b"plain, ");
        reactor.unread(ends.0, "put back, ").unwrap();
        for end in [ends.0, ends.1] {
            reactor.set_transport(end, Box::new(Turning::default()));
        }
        reactor.write(ends.1, "turned twice").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received.ends_with(b"twice"));
        assert_eq!(log.received, b"plain, put back, turned twice");
    });
}

/// Fails at what it is told to.
#[derive(Debug)]
struct Faulty {
    fails_to_read: bool,
}

impl Transport for Faulty {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.fails_to_read { Err(io::Error::other("what a mess")) } else { wire.read(slices) }
    }

    fn write(&mut self, _: &mut dyn Wire, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::Error::other("what a mess"))
    }

    fn flush(&mut self, _: &mut dyn Wire) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn its_mistake_ends_its_connection() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        for fails_to_read in [true, false] {
            let mut log = Log::default();
            let (here, there) =
                pair(&mut reactor, &mut log, ip, collector().boxed(), script().boxed());
            reactor.set_transport(here, Box::new(Faulty { fails_to_read }));
            if fails_to_read {
                reactor.write(there, "hello").unwrap();
            } else {
                reactor.write(here, "hello").unwrap();
            }
            turn_until(&mut reactor, &mut log, |log| !log.endings.is_empty());
            assert_eq!(log.endings, ["what a mess"]);
        }
    });
}

const BLOCK_LEN: usize = 1000;
/// More than simulated buffers hold.
const LEN: usize = 1_000_000;
const A_WHILE: Duration = Duration::from_millis(300);

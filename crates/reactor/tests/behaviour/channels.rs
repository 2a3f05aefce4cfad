//! Connections over what the program made itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::{Channel, Chunk, Reactor, Token, Wire};

use crate::stage::{Script, everywhere, noise, read, script, turn_for, turn_until};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    events: Vec<String>,
}

fn collector() -> Script<Log> {
    script()
        .connected(|_, log: &mut Log, _| {
            log.events.push("connected".to_owned());
            Ok(())
        })
        .readable(|token, log: &mut Log, reactor| {
            log.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(|_, reason, log, _| log.events.push(reason.to_string()))
}

/// What both ends of a channel see.
#[derive(Debug, Default)]
struct Shared {
    to_program: VecDeque<u8>,
    to_peer: Vec<u8>,
    room: usize,
    has_peer_finished: bool,
    is_finished: bool,
    is_dropped: bool,
    outcome: Option<io::ErrorKind>,
}

#[derive(Debug)]
struct Made(Rc<RefCell<Shared>>);

impl Wire for Made {
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let shared = &mut *self.0.borrow_mut();
        if shared.to_program.is_empty() {
            let would_block = Err(io::ErrorKind::WouldBlock.into());
            return if shared.has_peer_finished { Ok(0) } else { would_block };
        }
        // Less than there is room for, as from the end of a ring.
        let count = shared.to_program.len().min(7).min(slices[0].len());
        slices[0][..count].fill_with(|| shared.to_program.pop_front().unwrap());
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let shared = &mut *self.0.borrow_mut();
        let count = shared.room.min(slices[0].len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        shared.room -= count;
        shared.to_peer.extend(&slices[0][..count]);
        Ok(count)
    }
}

impl Channel for Made {
    fn finish_connect(&mut self) -> io::Result<()> {
        self.0.borrow().outcome.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn finish(&mut self) {
        self.0.borrow_mut().is_finished = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.borrow_mut().is_dropped = true;
    }
}

fn open(
    reactor: &mut Reactor<Log>,
    ip: IpAddr,
    patience: Option<Duration>,
) -> (Token, Rc<RefCell<Shared>>) {
    let shared = Rc::new(RefCell::new(Shared { room: usize::MAX, ..Shared::default() }));
    let channel = Box::new(Made(Rc::clone(&shared)));
    let peer = SocketAddr::new(ip, 9);
    (reactor.attach_channel(channel, peer, patience, collector().boxed()), shared)
}

#[test]
fn what_comes_and_goes_is_whole_however_little_goes_at_once() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (mut log, sent) = (Log::default(), noise(1000));
        let (token, shared) = open(&mut reactor, ip, None);
        assert_eq!(reactor.peer_addr(token), Some(SocketAddr::new(ip, 9)));
        shared.borrow_mut().to_program.extend(&sent);
        reactor.channel_ready(token);
        turn_until(&mut reactor, &mut log, |log| log.received.len() == 1000);
        assert!(log.received == sent);

        shared.borrow_mut().room = 0;
        reactor.write(token, sent.clone()).unwrap();
        while !reactor.queued(token).eq(&0) {
            shared.borrow_mut().room = 11;
            reactor.channel_ready(token);
            reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        }
        assert!(shared.borrow().to_peer == sent);
    });
}

#[test]
fn a_part_of_a_file_goes_out_as_well() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (mut log, bytes) = (Log::default(), noise(100_000));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let (token, shared) = open(&mut reactor, ip, None);
        let file = Chunk::File { file: Arc::new(file), offset: 10, len: 90_000 };
        reactor.write(token, file).unwrap();
        while reactor.queued(token) > 0 {
            shared.borrow_mut().room = 40_000;
            reactor.channel_ready(token);
            reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        }
        assert!(shared.borrow().to_peer == bytes[10..90_010]);
    });
}

#[test]
fn it_connects_when_the_program_says_so_or_fails() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        for outcome in [None, Some(io::ErrorKind::ConnectionRefused)] {
            let mut log = Log::default();
            let (token, shared) = open(&mut reactor, ip, Some(Duration::from_secs(10)));
            shared.borrow_mut().outcome = Some(io::ErrorKind::WouldBlock);
            reactor.channel_ready(token);
            turn_for(&mut reactor, &mut log, Duration::from_millis(5));
            assert!(log.events.is_empty(), "{:?}", log.events);
            shared.borrow_mut().outcome = outcome;
            reactor.channel_ready(token);
            turn_until(&mut reactor, &mut log, |log| !log.events.is_empty());
            assert_eq!(log.events == ["connected"], outcome.is_none(), "{:?}", log.events);
            assert_eq!(shared.borrow().is_dropped, outcome.is_some());
        }
    });
}

#[test]
fn one_that_does_not_connect_in_time_is_dropped() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (_, shared) = open(&mut reactor, ip, Some(Duration::from_millis(20)));
        shared.borrow_mut().outcome = Some(io::ErrorKind::WouldBlock);
        turn_until(&mut reactor, &mut log, |log| !log.events.is_empty());
        assert!(shared.borrow().is_dropped);
    });
}

#[test]
fn its_end_goes_both_ways() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (token, shared) = open(&mut reactor, ip, None);
        reactor.write(token, "the last").unwrap();
        reactor.close_after_flush(token, Duration::from_secs(9));
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(
            (&*shared.borrow().to_peer, shared.borrow().is_finished),
            (&b"the last"[..], true)
        );
        shared.borrow_mut().has_peer_finished = true;
        reactor.channel_ready(token);
        turn_until(&mut reactor, &mut log, |log| !log.events.is_empty());
        assert!(shared.borrow().is_dropped);
        // Harmless, and harmless again for another that took its place.
        reactor.channel_ready(token);
    });
}

#[test]
fn what_a_channel_took_can_be_sent_on_in_the_same_turn() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (token, shared) = open(&mut reactor, ip, None);
        let seen = Rc::clone(&shared);
        let _hook = reactor.on_flushed(move |log: &mut Log, _| {
            let taken = std::mem::take(&mut seen.borrow_mut().to_peer);
            log.received.extend(taken);
        });
        let mut log = Log::default();
        reactor.write(token, "hello").unwrap();
        reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        assert_eq!(log.received, b"hello");
    });
}

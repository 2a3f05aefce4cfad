//! What once went wrong, and is not to again.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::task::Elapsed;
use reactor::{
    Budgets, ConnectOptions, Direction, Handler, Rate, Reactor, Read, Reason, TimerGuard, Token,
    Transport, Wire,
};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use socket2::SockRef;

use crate::stage::{
    Done, echo, everywhere, noise, on_the_real_network, read, script, serve, turn_for, turn_until,
};
use crate::task_stage::finish;

type Log = Vec<String>;

/// Reads everything, and notes every call of `writable` and of `closed`.
struct Noting(&'static str);

impl Handler<Log> for Noting {
    fn readable(&mut self, token: Token, _: &mut Log, reactor: &mut Reactor<Log>) -> Done {
        read(token, reactor).map(drop)
    }

    fn writable(&mut self, _: Token, log: &mut Log, _: &mut Reactor<Log>) -> Done {
        log.push(format!("{} is writable", self.0));
        Ok(())
    }

    fn closed(&mut self, _: Token, reason: Reason, log: &mut Log, _: &mut Reactor<Log>) {
        log.push(format!("{}: {reason}", self.0));
    }
}

/// As `Noting`, but goes into other hands as soon as something comes, or is closed.
struct Leaving {
    is_closed: bool,
}

impl Handler<Log> for Leaving {
    fn readable(&mut self, token: Token, _: &mut Log, reactor: &mut Reactor<Log>) -> Done {
        if self.is_closed {
            reactor.close(token, "enough");
            return Ok(());
        }
        let taken = reactor.take(token)?;
        let next = reactor.adopt(taken.connection, Box::new(Noting("the next")))?;
        assert_ne!(next, token);
        Ok(())
    }

    fn writable(&mut self, _: Token, log: &mut Log, _: &mut Reactor<Log>) -> Done {
        log.push("the first is writable".to_owned());
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut Log, _: &mut Reactor<Log>) {}
}

#[test]
fn nobody_is_called_for_the_one_before_it_in_its_slot_nor_after_being_closed() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        for is_closed in [false, true] {
            let addr = serve(&mut reactor, ip, || {
                script()
                    .connected(|_, _, _| Ok(()))
                    .readable(|token, _, reactor| read(token, reactor).map(drop))
            });
            let client = Box::new(Leaving { is_closed });
            let options = ConnectOptions::default();
            let token = reactor.connect(addr, &options, client).unwrap();
            let mut log = Vec::new();
            // When it stands and both are due at once.
            turn_for(&mut reactor, &mut log, Duration::from_millis(50));
            reactor.unread(token, "something").unwrap();
            reactor.notify_writable(token);
            turn_for(&mut reactor, &mut log, Duration::from_millis(5));
            assert_eq!(log, [""; 0]);
        }
    });
}

#[test]
fn what_came_before_an_end_in_good_order_waits_for_one_that_is_paused() {
    everywhere(|mut reactor: Reactor<(Vec<u8>, bool)>, _| {
        let reader = script().readable(|token, state: &mut (Vec<u8>, bool), reactor| {
            let mut bytes = [0; 100];
            match reactor.read(token, &mut bytes)? {
                Read::Data(count) => state.0.extend_from_slice(&bytes[..count]),
                Read::WouldBlock => {}
                Read::Eof => state.1 = true,
            }
            Ok(())
        });
        let (here, there) = reactor.pipe(script().boxed(), reader.boxed());
        reactor.pause(there);
        reactor.write(here, "all there is").unwrap();
        let mut state = (Vec::new(), false);
        turn_for(&mut reactor, &mut state, Duration::from_millis(5));
        reactor.close(here, "done");
        turn_for(&mut reactor, &mut state, Duration::from_millis(5));
        reactor.resume(there);
        turn_until(&mut reactor, &mut state, |state| state.1);
        assert_eq!(state.0, b"all there is");
    });
}

#[test]
fn a_limit_and_a_small_first_buffer_leave_nothing_unread() {
    everywhere(|mut reactor: Reactor<usize>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script().connected(|_, _, _| Ok(())).readable(|token, count: &mut usize, reactor| {
                let (mut head, mut body) = ([0; 10], [0; 100_000]);
                let slices = &mut [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
                let rate = Rate { bytes_per_second: 1_000_000_000, burst: 50_000 };
                reactor.set_rate(token, Direction::Read, Some(rate));
                if let Read::Data(more) = reactor.read_vectored(token, slices)? {
                    *count += more;
                }
                Ok(())
            })
        });
        let client = script().connected(|token, _, reactor| {
            reactor.write(token, noise(1000))?;
            Ok(())
        });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        turn_until(&mut reactor, &mut 0, |count| *count == 1000);
    });
}

#[test]
fn a_pipe_goes_on_after_its_share_of_a_turn() {
    everywhere(|mut reactor: Reactor<usize>, _| {
        reactor.set_budgets(Budgets { write_bytes: 1000, ..Budgets::default() });
        let reader = script().readable(|token, count: &mut usize, reactor| {
            *count += read(token, reactor)?.len();
            Ok(())
        });
        let (here, _) = reactor.pipe(script().boxed(), reader.boxed());
        for _ in 0..100 {
            reactor.write(here, noise(600)).unwrap();
        }
        turn_until(&mut reactor, &mut 0, |count| *count == 60_000);
    });
}

#[test]
fn callbacks_that_queue_callbacks_leave_the_turn_to_others() {
    fn again(token: Token, reactor: &mut Reactor<u32>) {
        let call = move |count: &mut u32, reactor: &mut Reactor<u32>| {
            *count += 1;
            if *count < 100_000 {
                again(token, reactor);
            }
        };
        reactor.write_then(token, call).unwrap();
    }
    everywhere(|mut reactor: Reactor<u32>, _| {
        let (here, _) = reactor.pipe(script().boxed(), script().boxed());
        again(here, &mut reactor);
        let mut count = 0;
        reactor.turn(&mut count, Some(Duration::ZERO)).unwrap();
        assert!((1..10_000).contains(&count), "{count}");
        turn_until(&mut reactor, &mut count, |count| *count == 100_000);
    });
}

#[test]
fn a_pipe_that_can_no_longer_be_written_to_ends() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let writer = script()
            .readable(|token, _, reactor| {
                // It may still want to write.
                reactor.read(token, &mut [0; 10])?;
                Ok(())
            })
            .closed(|_, reason, log: &mut Log, _| log.push(reason.to_string()));
        let (here, there) = reactor.pipe(writer.boxed(), script().boxed());
        reactor.pause(there);
        reactor.write(here, noise(200_000)).unwrap();
        let mut log = Vec::new();
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        reactor.close(there, "not interested");
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["reset by the peer"]);
        assert_eq!(reactor.len(), 0);
    });
}

#[test]
fn a_time_beyond_all_times_is_never() {
    everywhere(|mut reactor: Reactor<Vec<Token>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let client = script().connected(|token, state: &mut Vec<Token>, reactor| {
            state.push(token);
            reactor.set_idle_timeout(token, Some(Duration::MAX));
            Ok(())
        });
        let options = ConnectOptions { timeout: Duration::MAX, ..ConnectOptions::default() };
        reactor.connect(addr, &options, client.boxed()).unwrap();
        let count = Rc::new(RefCell::new(0));
        let shared = Rc::clone(&count);
        let now = reactor.now();
        let _interval = reactor.add_interval(now, Duration::MAX, move |_, _| {
            *shared.borrow_mut() += 1;
        });
        let mut state = Vec::new();
        turn_until(&mut reactor, &mut state, |state| !state.is_empty());
        reactor.close_after_flush(state[0], Duration::MAX);
        turn_for(&mut reactor, &mut state, Duration::from_millis(5));
        assert_eq!(*count.borrow(), 1);
    });
}

#[test]
fn an_interval_goes_on_after_a_panic() {
    everywhere(|mut reactor: Reactor<u32>, _| {
        let (first, every) = (reactor.now(), Duration::from_millis(1));
        let _interval = reactor.add_interval(first, every, |count, _| {
            *count += 1;
            if *count == 1 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        });
        turn_until(&mut reactor, &mut 0, |count| *count == 3);
    });
}

#[test]
fn a_deadline_that_was_set_before_a_connection_stood_holds() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let client = Box::new(Noting("it"));
        let token = reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
        reactor.set_deadline(token, Some(reactor.now() + Duration::from_millis(100)));
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["it: timed out"]);
    });
}

/// Passes everything on. Holds a guard, and panics when it is to.
#[derive(Debug, Default)]
struct Layer {
    _guard: Option<TimerGuard>,
    panics: bool,
    /// How often it has something left once it is to finish.
    left: Option<u32>,
    is_finished: bool,
}

impl Transport for Layer {
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        wire.read(slices)
    }

    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.panics {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        wire.write(slices)
    }

    fn flush(&mut self, _: &mut dyn Wire) -> io::Result<()> {
        match &mut self.left {
            Some(left) if self.is_finished && *left > 0 => {
                *left -= 1;
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) {
        assert!(!std::mem::replace(&mut self.is_finished, true), "it has finished");
    }
}

#[test]
fn a_transport_may_hold_a_guard() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let layer = |reactor: &mut Reactor<Log>| {
            let guard = reactor.guard_timer(reactor.now() + Duration::from_secs(9), |_, _| {});
            Box::new(Layer { _guard: Some(guard), ..Layer::default() })
        };
        for _ in 0..2 {
            let client = Box::new(Noting("it"));
            let token = reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
            let first = layer(&mut reactor);
            reactor.set_transport(token, first);
            let second = layer(&mut reactor);
            reactor.set_transport(token, second);
        }
        let mut log = Vec::new();
        turn_for(&mut reactor, &mut log, Duration::from_millis(30));
        let token = reactor.tokens()[1];
        reactor.close(token, "done");
        turn_until(&mut reactor, &mut log, |log| log.len() == 1);
        // The other goes with the reactor.
        drop(reactor);
    });
}

#[test]
fn a_transport_that_panics_ends_its_connection_and_nothing_else() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let options = ConnectOptions::default();
        let bad = reactor.connect(addr, &options, Box::new(Noting("bad"))).unwrap();
        reactor.set_transport(bad, Box::new(Layer { panics: true, ..Layer::default() }));
        reactor.write(bad, "boom").unwrap();
        let good = script()
            .readable(|token, log: &mut Log, reactor| {
                log.push(String::from_utf8(read(token, reactor)?)?);
                Ok(())
            })
            .boxed();
        let good = reactor.connect(addr, &options, good).unwrap();
        reactor.write(good, "hello").unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() > 1 && log.concat().contains("hello"));
        assert!(log.iter().any(|line| line.starts_with("bad: ")), "{log:?}");
    });
}

#[test]
fn the_end_is_told_when_a_transport_has_sent_what_it_had_left() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script().readable(|token, log: &mut Log, reactor| {
                match reactor.read(token, &mut [0; 100])? {
                    Read::Data(_) => {
                        // What wakes the other end's transport.
                        let at = reactor.now() + Duration::from_millis(50);
                        reactor.add_timer(at, move |_, reactor| {
                            reactor.write(token, "news").unwrap();
                        });
                    }
                    Read::WouldBlock => {}
                    Read::Eof => log.push("it has ended".to_owned()),
                }
                Ok(())
            })
        });
        let client = Box::new(Noting("it"));
        let token = reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
        reactor.set_transport(token, Box::new(Layer { left: Some(3), ..Layer::default() }));
        reactor.write(token, "something").unwrap();
        reactor.finish(token).unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["it has ended"]);
    });
}

#[test]
fn all_lines_of_a_terminal_are_read() {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&near).unwrap();
    let path = ptsname(&near, Vec::new()).unwrap();
    let far = File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
    File::from(near.try_clone().unwrap()).write_all(b"one\ntwo\nthree\n").unwrap();
    let mut reactor: Reactor<Vec<u8>> = Reactor::new().unwrap();
    let reader = script().readable(|token, lines: &mut Vec<u8>, reactor| {
        lines.extend(read(token, reactor)?);
        Ok(())
    });
    reactor.register(far, reader.boxed()).unwrap();
    turn_until(&mut reactor, &mut Vec::new(), |lines| lines == b"one\ntwo\nthree\n");
}

#[test]
fn what_was_queued_before_it_stood_is_sent_before_it_is_closed() {
    everywhere(|mut reactor: Reactor<(Vec<u8>, Vec<String>)>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script().readable(|token, state: &mut (Vec<u8>, _), reactor| {
                state.0.extend(read(token, reactor)?);
                Ok(())
            })
        });
        let client = script()
            .closed(|_, reason, state: &mut (_, Vec<String>), _| state.1.push(reason.to_string()));
        let options = ConnectOptions::default();
        let token = reactor.connect(addr, &options, client.boxed()).unwrap();
        reactor.write(token, "said before it stood").unwrap();
        reactor.close_after_flush(token, Duration::from_secs(10));
        let mut state = (Vec::new(), Vec::new());
        turn_until(&mut reactor, &mut state, |state| !state.1.is_empty());
        assert_eq!(
            (state.0.as_slice(), state.1),
            (b"said before it stood".as_slice(), vec!["flushed".to_owned()])
        );
    });
}

#[test]
fn a_turn_within_a_turn_is_refused() {
    everywhere(|mut reactor: Reactor<Option<String>>, _| {
        reactor.add_timer(reactor.now(), |state: &mut Option<String>, reactor| {
            let result = reactor.turn(&mut None, None);
            *state = Some(result.unwrap_err().to_string());
        });
        let mut state = None;
        turn_until(&mut reactor, &mut state, Option::is_some);
        assert!(state.unwrap().contains("within a turn"));
    });
}

#[test]
fn who_is_closed_may_ask_how_much_was_never_sent() {
    everywhere(|mut reactor: Reactor<Vec<usize>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let client = script()
            .connected(|token, _, reactor| {
                reactor.write(token, "never sent")?;
                reactor.close(token, "changed my mind");
                Ok(())
            })
            .closed(|_, _, log: &mut Vec<usize>, reactor| log.push(reactor.unsent()));
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, [10]);
    });
}

#[test]
fn what_follows_an_urgent_byte_is_read() {
    on_the_real_network(|mut reactor: Reactor<Vec<u8>>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script().readable(|token, heard: &mut Vec<u8>, reactor| {
                heard.extend(read(token, reactor)?);
                Ok(())
            })
        });
        let mut peer = TcpStream::connect(addr).unwrap();
        peer.write_all(b"before").unwrap();
        SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        peer.write_all(b"after").unwrap();
        turn_until(&mut reactor, &mut Vec::new(), |heard| heard == b"beforeafter");
    });
}

#[test]
fn a_time_too_long_to_be_counted_is_for_ever() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let (handle, now) = (reactor.handle(), reactor.now());
        finish(&mut reactor, &mut (), async move {
            assert_eq!(handle.timeout(Duration::MAX, async { 7 }).await, Ok(7));
            let mut interval = handle.interval(now, Duration::MAX);
            assert_eq!(interval.tick().await, now);
            let second = handle.timeout(Duration::from_millis(1), interval.tick()).await;
            assert_eq!(second, Err(Elapsed));
        });
    });
}

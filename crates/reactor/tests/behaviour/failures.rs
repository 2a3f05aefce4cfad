//! Mistakes, of every callback there is: each ends what it belongs to, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{
    Accepted, ConnectOptions, DatagramHandler, Handler, HandlerError, ListenOptions, Reactor,
    Reason, Token,
};

use crate::parts::pair;
use crate::stage::{Door, Script, everywhere, noise, read, script, serve, turn_for, turn_until};

/// What a connection is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Connected,
    Readable,
    Writable,
    Full,
    Drained,
}

const ALL: [When; 5] = [When::Connected, When::Readable, When::Writable, When::Full, When::Drained];

/// Fails at one of these, by an error or a panic.
struct Clumsy {
    fails_at: When,
    panics: bool,
}

type Endings = Vec<String>;

impl Clumsy {
    fn perhaps_fail(&self, now: When) -> Result<(), HandlerError> {
        match (self.fails_at == now, self.panics) {
            (true, true) => on_purpose(),
            (true, false) => Err(format!("{now:?} failed").into()),
            (false, _) => Ok(()),
        }
    }
}

impl Handler<Endings> for Clumsy {
    fn connected(
        &mut self,
        token: Token,
        _: &mut Endings,
        reactor: &mut Reactor<Endings>,
    ) -> Result<(), HandlerError> {
        // Whichever way it fails, there is occasion for all the others.
        reactor.set_water(token, 1000, 100);
        reactor.write(token, noise(5_000_000))?;
        self.perhaps_fail(When::Connected)
    }

    fn readable(
        &mut self,
        token: Token,
        _: &mut Endings,
        reactor: &mut Reactor<Endings>,
    ) -> Result<(), HandlerError> {
        read(token, reactor)?;
        self.perhaps_fail(When::Readable)
    }

    fn writable(
        &mut self,
        _: Token,
        _: &mut Endings,
        _: &mut Reactor<Endings>,
    ) -> Result<(), HandlerError> {
        self.perhaps_fail(When::Writable)
    }

    fn full(
        &mut self,
        _: Token,
        _: &mut Endings,
        _: &mut Reactor<Endings>,
    ) -> Result<(), HandlerError> {
        self.perhaps_fail(When::Full)
    }

    fn drained(
        &mut self,
        token: Token,
        _: &mut Endings,
        reactor: &mut Reactor<Endings>,
    ) -> Result<(), HandlerError> {
        reactor.notify_writable(token);
        self.perhaps_fail(When::Drained)
    }

    fn closed(
        &mut self,
        _: Token,
        reason: Reason,
        endings: &mut Endings,
        _: &mut Reactor<Endings>,
    ) {
        endings.push(format!("{:?}: {reason}", self.fails_at));
    }
}

fn on_purpose() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"));
}

#[test]
fn whatever_a_connection_fails_at_ends_it_and_no_other() {
    everywhere(|mut reactor: Reactor<Endings>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script().readable(|token, _: &mut Endings, reactor| {
                if !read(token, reactor)?.is_empty() && reactor.queued(token) == 0 {
                    reactor.write(token, "answer")?;
                }
                Ok(())
            })
        });
        let mut endings = Endings::new();
        for panics in [false, true] {
            for fails_at in ALL {
                let clumsy = Box::new(Clumsy { fails_at, panics });
                reactor.connect(addr, &ConnectOptions::default(), clumsy).unwrap();
            }
        }
        turn_until(&mut reactor, &mut endings, |endings| endings.len() == 10);
        endings.sort();
        let mut expected = Endings::new();
        for when in ALL {
            expected.push(format!("{when:?}: its handler panicked"));
            expected.push(format!("{when:?}: {when:?} failed"));
        }
        expected.sort();
        assert_eq!(endings, expected);
    });
}

#[test]
fn a_panic_in_the_last_call_of_all_costs_only_that_call() {
    everywhere(|mut reactor: Reactor<Endings>, ip| {
        let closing = |panics: bool| {
            script::<Endings>().closed(move |_, _, endings, _| {
                endings.push("closed".to_owned());
                if panics {
                    on_purpose();
                }
            })
        };
        let mut endings = Endings::new();
        let (here, there) =
            pair(&mut reactor, &mut endings, ip, closing(true).boxed(), closing(false).boxed());
        reactor.close(here, "over");
        reactor.close(there, "over");
        turn_for(&mut reactor, &mut endings, Duration::from_millis(5));
        assert_eq!((endings.len(), reactor.len()), (2, 0));
    });
}

#[test]
fn an_acceptor_that_panics_loses_that_connection_and_takes_the_next() {
    everywhere(|mut reactor: Reactor<Endings>, ip| {
        let mut count = 0;
        let door = Door(move |accepted: Accepted, _: &mut Endings, reactor: &mut Reactor<_>| {
            count += 1;
            if count % 2 == 1 {
                on_purpose();
            }
            let token = reactor.attach(accepted, script().boxed()).unwrap();
            reactor.write(token, "welcome").unwrap();
            if count % 4 == 0 {
                // It was attached, and stays.
                on_purpose();
            }
        });
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        let client = |name: &'static str| -> Script<Endings> {
            script()
                .readable(move |token, endings: &mut Endings, reactor| {
                    if !read(token, reactor)?.is_empty() {
                        endings.push(format!("{name} is welcome"));
                        reactor.pause(token);
                    }
                    Ok(())
                })
                .closed(move |_, _, endings, _| endings.push(format!("{name} is not")))
        };
        let mut endings = Endings::new();
        for (number, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
            let client = client(name).boxed();
            reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
            turn_until(&mut reactor, &mut endings, |endings| endings.len() > number);
        }
        assert_eq!(endings, ["one is not", "two is welcome", "three is not", "four is welcome"]);
    });
}

/// Panics whenever it is called.
struct Hopeless;

impl DatagramHandler<Endings> for Hopeless {
    fn datagram(
        &mut self,
        _: Token,
        _: SocketAddr,
        data: &[u8],
        endings: &mut Endings,
        _: &mut Reactor<Endings>,
    ) {
        endings.push(format!("{data:?}"));
        on_purpose();
    }

    fn writable(&mut self, _: Token, endings: &mut Endings, _: &mut Reactor<Endings>) {
        endings.push("writable".to_owned());
        on_purpose();
    }
}

#[test]
fn a_datagram_socket_goes_on_after_any_panic() {
    everywhere(|mut reactor: Reactor<Endings>, ip| {
        let options = ListenOptions::default();
        let token = reactor.bind_udp((ip, 0).into(), &options, Box::new(Hopeless)).unwrap();
        let addr = reactor.local_addr(token).unwrap();
        let mut endings = Endings::new();
        for number in 0..3 {
            reactor.notify_writable(token);
            reactor.send_to(token, addr, &[number]).unwrap();
            let expected = 2 * (usize::from(number) + 1);
            turn_until(&mut reactor, &mut endings, |endings| endings.len() == expected);
        }
        endings.sort();
        assert_eq!(endings, ["[0]", "[1]", "[2]", "writable", "writable", "writable"]);
    });
}

#[test]
fn hooks_intervals_posts_and_marks_go_on_after_a_panic_of_one_of_them() {
    everywhere(|mut reactor: Reactor<[u32; 5]>, ip| {
        let mut counts = [0; 5];
        let (here, _) = pair(&mut reactor, &mut counts, ip, script().boxed(), script().boxed());
        let count = |number: usize| {
            move |counts: &mut [u32; 5], _: &mut Reactor<[u32; 5]>| {
                counts[number] += 1;
                on_purpose();
            }
        };
        reactor.on_turn_end(count(0)).detach();
        reactor.on_turn_end(count(1)).detach();
        let soon = reactor.now();
        reactor.add_interval(soon, Duration::from_millis(1), count(2)).detach();
        for _ in 0..3 {
            reactor.remote().post(count(3)).unwrap();
            reactor.write_then(here, count(4)).unwrap();
            reactor.write(here, "between").unwrap();
        }
        turn_until(&mut reactor, &mut counts, |counts| counts.iter().all(|count| *count >= 3));
        assert_eq!((counts[0], counts[3], counts[4]), (counts[1], 3, 3));
        assert_eq!(reactor.info(here).unwrap().state, "open");
    });
}

#[test]
fn all_hooks_of_a_turn_are_called_whichever_of_them_stops_the_loop() {
    everywhere(|mut reactor: Reactor<Vec<u32>>, _| {
        for number in 0..3 {
            let hook = reactor.on_turn_end(move |log: &mut Vec<u32>, reactor| {
                log.push(number);
                if number == 0 {
                    reactor.stop();
                }
            });
            hook.detach();
        }
        let mut log = Vec::new();
        reactor.remote().post(|_, _| {}).unwrap();
        reactor.run(&mut log).unwrap();
        assert_eq!(log, [0, 1, 2]);
    });
}

#[test]
fn a_hook_that_takes_itself_back_is_called_no_more_and_the_others_are() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, _| {
        let guard = std::rc::Rc::new(std::cell::RefCell::new(None));
        let own = std::rc::Rc::clone(&guard);
        let hook = reactor.on_turn_end(move |log: &mut Vec<&str>, _| {
            log.push("once");
            drop(own.take());
        });
        guard.replace(Some(hook));
        reactor.on_turn_end(|log, _| log.push("each")).detach();
        let mut log = Vec::new();
        for _ in 0..3 {
            reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(log, ["once", "each", "each", "each"]);
    });
}

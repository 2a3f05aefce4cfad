//! The sockets of tasks, with handlers at the other end and without.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::{or, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use reactor::task::AsyncStream;
use reactor::{Budgets, ConnectOptions, Direction, ListenOptions, Rate, Reactor};

use crate::stage::{echo, everywhere, noise, read, script, serve, turn_for, turn_until};
use crate::task_stage::{connect, finish, listen, serve_echo};

#[test]
fn a_server_of_tasks_serves_a_handler() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let addr = serve_echo(&reactor, ip);
        let client = script()
            .connected(|token, _, reactor| {
                reactor.write(token, noise(500_000))?;
                Ok(())
            })
            .readable(|token, state: &mut Vec<u8>, reactor| {
                state.extend(read(token, reactor)?);
                Ok(())
            });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut state = Vec::new();
        turn_until(&mut reactor, &mut state, |state| state.len() == 500_000);
        assert!(state == noise(500_000));
    });
}

#[test]
fn a_server_of_handlers_serves_a_task() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let handle = reactor.handle();
        let answer = finish(&mut reactor, &mut (), async move {
            let stream = connect(&handle, addr).await;
            assert_eq!(stream.peer_addr(), Some(addr));
            let (bytes, mut answer) = (noise(500_000), vec![0; 500_000]);
            let (mut writer, mut reader) = (&stream, &stream);
            let (sent, got) = zip(writer.write_all(&bytes), reader.read_exact(&mut answer)).await;
            sent.and(got).map(|()| answer)
        });
        assert!(answer.unwrap() == noise(500_000));
    });
}

#[test]
fn a_connection_ends_one_way_and_then_the_other() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let (mut listener, addr) = listen(&reactor, ip);
        let server = reactor.spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut question = Vec::new();
            stream.read_to_end(&mut question).await?;
            // The end is told again to whoever asks again.
            assert_eq!(stream.read(&mut [0; 9]).await?, 0);
            stream.write_all(&noise(300_000)).await?;
            stream.close().await?;
            io::Result::Ok(question)
        });
        let handle = reactor.handle();
        let (question, answer) = finish(&mut reactor, &mut (), async move {
            let mut stream = connect(&handle, addr).await;
            stream.write_all(b"question").await.unwrap();
            stream.close().await.unwrap();
            assert!(stream.write_all(b"more").await.is_err());
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            (server.await.unwrap().unwrap(), answer)
        });
        assert_eq!(question, b"question");
        assert!(answer == noise(300_000));
        // The last task has ended, and with it its socket.
        turn_until(&mut reactor, &mut (), |()| true);
        assert_eq!((reactor.len(), reactor.tasks_count()), (0, 0));
    });
}

#[test]
fn of_two_that_race_the_loser_leaves_nothing_behind() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let (mut listener, addr) = listen(&reactor, ip);
        let handle = reactor.handle();
        finish(&mut reactor, &mut (), async move {
            let millis = |millis| handle.sleep(Duration::from_millis(millis));
            let accept = async { listener.accept().await.is_ok() };
            let sleep = async {
                millis(1).await;
                false
            };
            assert!(!or(accept, sleep).await);
            // The one that was dropped has taken nothing away.
            let (mut ours, theirs) = zip(connect(&handle, addr), listener.accept()).await;
            let (mut theirs, _) = theirs.unwrap();
            let mut buffer = [0; 5];
            for _ in 0..3 {
                let read = async { ours.read(&mut buffer).await.unwrap() };
                let sleep = async {
                    millis(1).await;
                    0
                };
                assert_eq!(or(read, sleep).await, 0);
            }
            theirs.write_all(b"hello").await.unwrap();
            ours.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"hello");
            // Nor does a connection stay that is given up before it stands.
            let given_up = async {
                connect(&handle, addr).await;
            };
            or(given_up, async {}).await;
        });
        turn_for(&mut reactor, &mut (), Duration::from_millis(5));
        assert_eq!(reactor.len(), 0);
    });
}

#[test]
fn whoever_is_refused_hears_why() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let (listener, addr) = listen(&reactor, ip);
        drop(listener);
        let handle = reactor.handle();
        let refused = finish(&mut reactor, &mut (), async move {
            handle.connect(addr, &ConnectOptions::default()).await
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(reactor.len(), 0);
    });
}

#[test]
fn a_reset_reaches_the_reader_and_the_writer() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve(&mut reactor, ip, || {
            // Closing with something unread is a reset.
            script().readable(|token, _, reactor| {
                reactor.close(token, "not interested");
                Ok(())
            })
        });
        let handle = reactor.handle();
        let (read, written) = finish(&mut reactor, &mut (), async move {
            let stream = connect(&handle, addr).await;
            let (mut reader, mut writer) = (&stream, &stream);
            let mut buffer = [0; 100];
            zip(reader.read(&mut buffer), async {
                loop {
                    if let Err(error) = writer.write(&[0; 100_000]).await {
                        return error;
                    }
                }
            })
            .await
        });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&written.kind()), "{written}");
    });
}

#[test]
fn one_that_is_silent_for_too_long_is_told_so() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve(&mut reactor, ip, script);
        let handle = reactor.handle();
        let read = finish(&mut reactor, &mut (), async move {
            let mut stream = connect(&handle, addr).await;
            stream.set_idle_timeout(Some(Duration::from_millis(5)));
            let error = stream.read(&mut [0; 9]).await.unwrap_err();
            assert_eq!(stream.write(b"x").await.unwrap_err().kind(), error.kind());
            error
        });
        assert_eq!(read.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_peer_that_floods_starves_neither_a_task_nor_a_handler() {
    everywhere(|mut reactor: Reactor<u32>, ip| {
        let (mut listener, addr) = listen(&reactor, ip);
        let handle = reactor.handle();
        for _ in 0..2 {
            let handle = handle.clone();
            reactor.spawn(async move {
                let mut stream = connect(&handle, addr).await;
                while stream.write_all(&[0; 100_000]).await.is_ok() {}
            });
        }
        reactor.spawn(async move {
            // Neither of them ever waits for anything but their peers.
            let (mut first, _) = listener.accept().await?;
            let (mut second, _) = listener.accept().await?;
            let drink = async |stream: &mut AsyncStream| {
                while stream.read(&mut [0; 1000]).await? > 0 {}
                io::Result::Ok(())
            };
            zip(drink(&mut first), drink(&mut second)).await.0
        });
        // One for which everything is always ready.
        let busy = reactor.handle();
        reactor.spawn(async move {
            loop {
                busy.sleep(Duration::ZERO).await;
            }
        });
        let calm = serve(&mut reactor, ip, echo);
        let rounds = Rc::new(Cell::new(0));
        let counted = Rc::clone(&rounds);
        reactor.spawn(async move {
            let mut stream = connect(&handle, calm).await;
            loop {
                stream.write_all(b"ping").await?;
                stream.read_exact(&mut [0; 4]).await?;
                counted.set(counted.get() + 1);
                if false {
                    return io::Result::Ok(());
                }
            }
        });
        let pinger = script()
            .connected(|token, _, reactor| {
                reactor.write(token, "ping")?;
                Ok(())
            })
            .readable(|token, state: &mut u32, reactor| {
                *state += 1;
                let bytes = read(token, reactor)?;
                reactor.write(token, bytes)?;
                Ok(())
            });
        reactor.connect(calm, &ConnectOptions::default(), pinger.boxed()).unwrap();
        turn_until(&mut reactor, &mut 0, |state| *state >= 10 && rounds.get() >= 10);
    });
}

#[test]
fn a_connection_goes_from_a_handler_to_a_task_and_back() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let options = ConnectOptions::default();
        let client = script()
            .connected(|token, _, reactor: &mut Reactor<Vec<u8>>| {
                // Still queued as it changes hands.
                reactor.write(token, noise(300_000))?;
                let mut stream = reactor.into_task(token)?;
                let handle = reactor.handle();
                reactor.spawn(async move {
                    let mut bytes = vec![0; 300_000];
                    stream.read_exact(&mut bytes).await.unwrap();
                    assert!(bytes == noise(300_000));
                    let back = handle.with(|_, reactor| {
                        let last = script()
                            .readable(|token, state: &mut Vec<u8>, reactor| {
                                state.extend(read(token, reactor)?);
                                Ok(())
                            })
                            .closed(|_, _, state, _| state.push(b'.'));
                        let token = stream.into_handler(reactor, last.boxed());
                        reactor.write(token, "back").unwrap();
                        token
                    });
                    let token = back.await.unwrap();
                    handle.sleep(Duration::from_millis(100)).await;
                    handle.with(move |_, reactor| reactor.close(token, "done")).await
                });
                Ok(())
            })
            .closed(|_, _, _, _| panic!("it is a task's"));
        reactor.connect(addr, &options, client.boxed()).unwrap();
        let mut state = Vec::new();
        turn_until(&mut reactor, &mut state, |state| state.ends_with(b"."));
        assert_eq!(state, b"back.");
    });
}

#[test]
fn datagrams_come_whole_and_one_by_one() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let (handle, any) = (reactor.handle(), SocketAddr::new(ip, 0));
        finish(&mut reactor, &mut (), async move {
            let here = handle.bind_udp(any, &ListenOptions::default()).unwrap();
            let there = handle.bind_udp(any, &ListenOptions::default()).unwrap();
            let (from, to) = (here.local_addr().unwrap(), there.local_addr().unwrap());
            let mut got = Vec::new();
            for data in ["one", "", "three"] {
                here.send_to(data.as_bytes(), to).await.unwrap();
            }
            let mut buffer = [0; 4];
            while got.len() < 3 {
                let (len, sender) = there.recv_from(&mut buffer).await.unwrap();
                assert_eq!(sender, from);
                got.push(buffer[..len].to_vec());
            }
            got.sort();
            assert_eq!(got, [b"".as_slice(), b"one", b"thre"]);
        });
    });
}

#[test]
fn a_rate_holds_a_task_back_and_no_longer_than_it_must() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve_echo(&reactor, ip);
        let handle = reactor.handle();
        let (start, end) = finish(&mut reactor, &mut (), async move {
            let stream = connect(&handle, addr).await;
            let rate = Rate { bytes_per_second: 1_000_000, burst: 10_000 };
            stream.set_rate(Direction::Write, Some(rate));
            stream.set_rate(Direction::Read, Some(rate));
            let (start, mut answer) = (handle.now(), vec![0; 40_000]);
            let (mut writer, mut reader) = (&stream, &stream);
            let bytes = noise(40_000);
            let (sent, got) = zip(writer.write_all(&bytes), reader.read_exact(&mut answer)).await;
            assert!(sent.and(got).is_ok() && answer == bytes);
            (start, handle.now())
        });
        assert!(end - start >= Duration::from_millis(30), "{:?}", end - start);
    });
}

#[test]
fn a_handler_closes_what_tasks_wait_for() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve(&mut reactor, ip, script);
        let handle = reactor.handle();
        let kinds = finish(&mut reactor, &mut (), async move {
            let (any, options) = (SocketAddr::new(ip, 0), ListenOptions::default());
            let mut listener = handle.listen(any, &options).unwrap();
            let udp = handle.bind_udp(any, &options).unwrap();
            let (mut hard, mut soft) = (connect(&handle, addr).await, connect(&handle, addr).await);
            let tokens = [listener.token(), udp.token(), hard.token()];
            let closing = soft.token();
            // Each by itself, so that each has to be woken.
            let tasks = [
                handle.spawn(async move { listener.accept().await.map(drop) }),
                handle.spawn(async move { udp.recv_from(&mut [0; 9]).await.map(drop) }),
                handle.spawn(async move { hard.read(&mut [0; 9]).await.map(drop) }),
                handle.spawn(async move { soft.read(&mut [0; 9]).await.map(drop) }),
            ];
            handle.sleep(Duration::from_millis(1)).await;
            let close = handle.with(move |(), reactor| {
                for token in tokens {
                    reactor.close(token, "enough");
                }
                reactor.close_after_flush(closing, Duration::from_secs(1));
            });
            close.await.unwrap();
            let mut kinds = Vec::new();
            for task in tasks {
                kinds.push(task.await.unwrap().unwrap_err().kind());
            }
            kinds
        });
        assert_eq!(kinds, [io::ErrorKind::NotConnected; 4]);
    });
}

#[test]
fn whoever_gets_the_place_of_a_dropped_stream_gets_nothing_else_of_it() {
    everywhere(|mut reactor: Reactor<bool>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let handle = reactor.handle();
        let stream = {
            let handle = handle.clone();
            finish(&mut reactor, &mut false, async move { connect(&handle, addr).await })
        };
        reactor.spawn(async move {
            let act = move |_: &mut bool, reactor: &mut Reactor<bool>| {
                reactor.close(stream.token(), "of one");
                drop(stream);
                let heir = script().connected(|_, state: &mut bool, _| {
                    *state = true;
                    Ok(())
                });
                reactor.connect(addr, &ConnectOptions::default(), heir.boxed()).map(drop)
            };
            handle.with(act).await
        });
        turn_until(&mut reactor, &mut false, |has_connected| *has_connected);
    });
}

#[test]
fn a_task_goes_on_when_its_share_of_a_turn_was_used_up() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        reactor.set_budgets(Budgets { read_bytes: 1000, ..Budgets::default() });
        let addr = serve(&mut reactor, ip, || {
            script().readable(|token, _, reactor| {
                // Once, even if that comes in two parts.
                if read(token, reactor)?.contains(&b'g') {
                    reactor.write(token, noise(100_000))?;
                }
                Ok(())
            })
        });
        let handle = reactor.handle();
        let got = finish(&mut reactor, &mut (), async move {
            let mut stream = connect(&handle, addr).await;
            stream.write_all(b"go").await?;
            // All of it is there, and nothing more comes that could wake us.
            handle.sleep(Duration::from_millis(200)).await;
            let (mut got, mut piece) = (Vec::new(), [0; 100]);
            while got.len() < 100_000 {
                let count = stream.read(&mut piece).await?;
                got.extend_from_slice(&piece[..count]);
            }
            io::Result::Ok(got)
        });
        assert!(got.unwrap() == noise(100_000));
    });
}

#[test]
fn what_a_task_writes_comes_after_what_the_handler_before_it_queued() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script().readable(|token, state: &mut Vec<u8>, reactor| {
                state.extend(read(token, reactor)?);
                Ok(())
            })
        });
        let client = script().connected(|token, _, reactor: &mut Reactor<Vec<u8>>| {
            reactor.write(token, "one ")?;
            reactor.write_then(token, |state: &mut Vec<u8>, _| state.push(b'!'))?;
            let mut stream = reactor.into_task(token)?;
            let flushed = reactor.handle();
            reactor.spawn(async move {
                stream.write_all(b"two").await?;
                stream.flush().await?;
                flushed.sleep(Duration::from_secs(100)).await;
                io::Result::Ok(())
            });
            Ok(())
        });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut state = Vec::new();
        turn_until(&mut reactor, &mut state, |state| state.ends_with(b"two"));
        assert_eq!(state, b"!one two");
    });
}

//! Tasks: futures on the loop, their beginnings, their ends, and what they wait for beside sockets.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::future::{or, yield_now, zip};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use reactor::simulated::{Node, World, WorldOptions};
use reactor::task::{AsyncFile, AsyncStream, Elapsed, JoinError, JoinHandle, Sleep};
use reactor::{ConnectOptions, Gone, Reactor, Token};

use crate::stage::{
    echo, everywhere, noise, on_the_real_network, script, serve, turn_for, turn_until,
};
use crate::task_stage::{connect, finish, serve_echo};

#[test]
fn sleeps_end_in_the_order_of_their_times() {
    everywhere(|mut reactor: Reactor<Vec<u64>>, _| {
        let (handle, start) = (reactor.handle(), reactor.now());
        for millis in [3, 1, 4, 0, 2] {
            let handle = handle.clone();
            reactor.spawn(async move {
                let time = Duration::from_millis(millis);
                handle.sleep_until(start + time).await;
                assert!(handle.now() >= start + time);
                handle.with(move |log, _| log.push(millis)).await
            });
        }
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 5);
        assert_eq!(log, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn an_interval_keeps_its_rhythm() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let (handle, first) = (reactor.handle(), reactor.now() + Duration::from_millis(1));
        let every = Duration::from_millis(2);
        let times = finish(&mut reactor, &mut (), async move {
            let mut interval = handle.interval(first, every);
            let mut times = Vec::new();
            for _ in 0..3 {
                times.push(interval.tick().await);
            }
            handle.sleep_until(first + every * 10).await;
            interval.tick().await;
            times.push(interval.tick().await);
            times
        });
        // A machine that is busy may miss some, but comes back to the rhythm.
        for time in &times {
            assert_eq!((*time - first).as_nanos() % every.as_nanos(), 0);
        }
        assert!(times[0] == first && times.is_sorted_by(|a, b| a < b));
        assert!(times[3] >= first + every * 10);
    });
}

#[test]
fn a_time_beyond_all_clocks_never_comes() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let handle = reactor.handle();
        finish(&mut reactor, &mut (), async move {
            assert_eq!(handle.timeout(Duration::MAX, yield_now()).await, Ok(()));
            let mut interval = handle.interval(handle.now(), Duration::MAX);
            interval.tick().await;
            let soon = handle.sleep(Duration::from_millis(1));
            let never = zip(handle.sleep(Duration::MAX), interval.tick());
            or(soon, async { assert!(never.await.1 < handle.now(), "it came") }).await;
        });
    });
}

#[test]
fn what_takes_too_long_is_dropped() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let handle = reactor.handle();
        let dropped = Rc::new(Cell::new(false));
        let guard = CallOnDrop(Some({
            let dropped = Rc::clone(&dropped);
            move || dropped.set(true)
        }));
        let results = finish(&mut reactor, &mut (), async move {
            let never = async move {
                let _guard = guard;
                pending::<()>().await;
            };
            let long = Duration::from_secs(100);
            (
                handle.timeout(Duration::from_millis(1), never).await,
                handle.timeout(long, async { 7 }).await,
            )
        });
        assert_eq!(results, (Err(Elapsed), Ok(7)));
        assert!(dropped.get());
    });
}

#[test]
fn a_task_ends_when_it_is_cancelled_and_not_when_its_handle_is_dropped() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, _| {
        let spawn = |name: &'static str| {
            let handle = reactor.handle();
            reactor.spawn(async move {
                handle.sleep(Duration::from_millis(1)).await;
                handle.with(move |log, _| log.push(name)).await.unwrap();
            })
        };
        drop(spawn("dropped"));
        spawn("cancelled").cancel();
        let mut log = Vec::new();
        turn_for(&mut reactor, &mut log, Duration::from_millis(10));
        assert_eq!((log, reactor.tasks_count()), (vec!["dropped"], 0));
    });
}

#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let handle = reactor.handle();
        let panicking = reactor.spawn(async move {
            // In whatever it awaits.
            handle.with(|(), _| std::panic::resume_unwind(Box::new("on purpose"))).await
        });
        let handle = reactor.handle();
        let fine = reactor.spawn(async move {
            handle.sleep(Duration::from_millis(1)).await;
            7
        });
        let dropping = reactor.spawn(async {
            let _guard = CallOnDrop(Some(|| std::panic::resume_unwind(Box::new("on purpose"))));
            pending::<()>().await;
        });
        let results = finish(&mut reactor, &mut (), async move {
            yield_now().await;
            dropping.cancel();
            (panicking.await, fine.await)
        });
        assert_eq!(results, (Err(JoinError::Panicked), Ok(7)));
    });
}

#[test]
fn a_task_reaches_the_state_and_the_reactor() {
    everywhere(|mut reactor: Reactor<Vec<Token>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let handle = reactor.handle();
        let mut state = Vec::new();
        let count = finish(&mut reactor, &mut state, async move {
            let act = move |state: &mut Vec<Token>, reactor: &mut Reactor<Vec<Token>>| {
                let options = ConnectOptions::default();
                state.push(reactor.connect(addr, &options, script().boxed()).unwrap());
                state.len()
            };
            // One that is dropped before its turn is not done.
            or(async { handle.with(act).await.map(|_| 0) }, async { Ok(7) }).await.unwrap();
            handle.with(act).await
        });
        assert_eq!((count, state.len()), (Ok(1), 1));
    });
}

#[test]
fn jobs_are_done_elsewhere_and_their_results_come_back() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let handle = reactor.handle();
        let path = tempfile::tempdir().unwrap().keep().join("file");
        let results = finish(&mut reactor, &mut (), async move {
            let file = AsyncFile::create(&handle, &path).await?;
            file.write_at(2, "hello").await?;
            file.sync().await?;
            assert_eq!(file.len().await?, 7);
            let again = AsyncFile::open(&handle, &path).await?;
            assert_eq!(again.read_at(2, 100).await?, "hello");
            assert!(again.write_at(0, "x").await.is_err());
            std::fs::remove_dir_all(path.parent().unwrap())?;
            assert!(AsyncFile::open(&handle, &path).await.is_err());
            let job =
                handle.unblock(|| -> () { std::panic::resume_unwind(Box::new("on purpose")) });
            assert_eq!(job.await, Err(JoinError::Panicked));
            assert_eq!(handle.resolve("::1", 5).await?, ["[::1]:5".parse().unwrap()]);
            io::Result::Ok(handle.unblock(|| 7).await)
        });
        assert_eq!(results.unwrap(), Ok(7));
    });
}

#[test]
fn another_thread_wakes_a_task() {
    on_the_real_network(|mut reactor: Reactor<()>, _| {
        for _ in 0..200 {
            let shared = Arc::new(Mutex::new((false, None::<Waker>)));
            let waited = Arc::clone(&shared);
            let handle = reactor.handle();
            reactor.spawn(async move {
                let is_set = poll_fn(|context| {
                    let shared = &mut *waited.lock().unwrap();
                    shared.1 = Some(context.waker().clone());
                    if shared.0 { Poll::Ready(()) } else { Poll::Pending }
                });
                is_set.await;
                handle.with(|(), reactor| reactor.stop()).await
            });
            let waker = thread::spawn(move || {
                shared.lock().unwrap().0 = true;
                let waker = shared.lock().unwrap().1.take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
            // With nothing else to wait for: a lost wake-up would be for ever.
            reactor.run(&mut ()).unwrap();
            waker.join().unwrap();
        }
    });
}

#[test]
fn a_thousand_tasks_have_their_turn() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve_echo(&reactor, ip);
        let handle = reactor.handle();
        let total = finish(&mut reactor, &mut (), async move {
            let ask = |number: u32| {
                let own = handle.clone();
                handle.spawn(async move {
                    own.sleep(Duration::from_micros((number % 7).into())).await;
                    if !number.is_multiple_of(20) {
                        return number;
                    }
                    let mut stream = connect(&own, addr).await;
                    stream.write_all(&number.to_be_bytes()).await.unwrap();
                    let mut answer = [0; 4];
                    stream.read_exact(&mut answer).await.unwrap();
                    u32::from_be_bytes(answer)
                })
            };
            let all: Vec<JoinHandle<u32>> = (0..1000).map(ask).collect();
            let mut total = 0;
            for one in all {
                total += one.await.unwrap();
            }
            total
        });
        assert_eq!(total, 999 * 1000 / 2);
    });
}

#[test]
fn tasks_end_with_their_reactor_and_what_is_left_of_it_says_so() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve_echo(&reactor, ip);
        let handle = reactor.handle();
        let (mut ours, kept) = finish(&mut reactor, &mut (), {
            let handle = handle.clone();
            async move { (connect(&handle, addr).await, connect(&handle, addr).await) }
        });
        let ended = Rc::new(Cell::new(0));
        let counted = Rc::clone(&ended);
        let own = handle.clone();
        let waiting = reactor.spawn(async move {
            let (stream, again) = (&kept, own.clone());
            let _guard = CallOnDrop(Some(move || {
                // It does what it likes, but no more than that comes of it.
                assert_eq!(stream.peer_addr(), Some(addr));
                let refused = again.spawn(pending::<()>());
                assert!(refused.is_finished());
                drop(again.sleep(Duration::ZERO));
                counted.set(counted.get() + 1);
            }));
            let mut buffer = [0; 9];
            let sleep = own.sleep(Duration::from_secs(1000));
            zip(async { (&kept).read(&mut buffer).await }, sleep).await.0
        });
        turn_for(&mut reactor, &mut (), Duration::from_millis(2));
        let mut sleep = Box::pin(handle.sleep(Duration::from_secs(1000)));
        let woken = Arc::new(Count(Mutex::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        drop(reactor);
        assert_eq!((ended.get(), *woken.0.lock().unwrap()), (1, 1));
        let kind = |result: io::Result<usize>| result.unwrap_err().kind();
        futures_lite::future::block_on(async {
            sleep.await;
            assert_eq!(waiting.await.unwrap_err(), JoinError::Cancelled);
            assert_eq!(kind(ours.write(b"x").await), io::ErrorKind::NotConnected);
            assert_eq!(kind(ours.read(&mut [0; 9]).await), io::ErrorKind::NotConnected);
            assert_eq!(handle.with(|(), _| ()).await, Err(Gone));
            assert_eq!(handle.spawn(async {}).await, Err(JoinError::Cancelled));
            assert_eq!(handle.unblock(|| ()).await, Err(JoinError::Cancelled));
            let connected = handle.connect(addr, &ConnectOptions::default()).await;
            assert_eq!(connected.unwrap_err().kind(), io::ErrorKind::NotConnected);
        });
    });
}

thread_local! {
    static STREAM: RefCell<Option<AsyncStream>> = const { RefCell::new(None) };
}

/// A waker that has to do with sockets whatever happens to it.
struct Nosy;

impl std::task::Wake for Nosy {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Nosy {
    fn drop(&mut self) {
        STREAM.with_borrow(|stream| {
            stream.as_ref().map(AsyncStream::local_addr);
        });
    }
}

#[test]
fn wakers_may_do_what_they_like_as_they_are_dropped() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve_echo(&reactor, ip);
        let handle = reactor.handle();
        let mut connect = || {
            let handle = handle.clone();
            finish(&mut reactor, &mut (), async move { connect(&handle, addr).await })
        };
        let (mut stream, mut other) = (connect(), connect());
        STREAM.set(Some(connect()));
        let poll = |stream: &mut AsyncStream, sleep: &mut Sleep| {
            let waker = Waker::from(Arc::new(Nosy));
            let mut context = Context::from_waker(&waker);
            assert!(Pin::new(&mut *stream).poll_read(&mut context, &mut [0; 9]).is_pending());
            assert!(Pin::new(sleep).poll(&mut context).is_pending());
        };
        let mut sleeps = [(); 3].map(|()| handle.sleep(Duration::from_secs(1000)));
        for sleep in &mut sleeps {
            poll(&mut stream, sleep);
            poll(&mut stream, sleep);
            poll(&mut other, sleep);
        }
        let [first, _second, _third] = sleeps;
        drop((first, stream));
        reactor.close(other.token(), "enough");
        turn_for(&mut reactor, &mut (), Duration::from_millis(1));
        drop(reactor);
        STREAM.take();
    });
}

#[test]
fn equal_seeds_give_equal_traces_with_tasks_too() {
    let play = |seed| {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let world = World::new(seed, WorldOptions::default());
        let mut reactor: Reactor<()> = Reactor::simulated(world.host(&[ip]));
        let addr = serve_echo(&reactor, ip);
        let handle = reactor.handle();
        finish(&mut reactor, &mut (), async move {
            for _ in 0..5 {
                let tasks = [(); 5].map(|()| {
                    let own = handle.clone();
                    handle.spawn(async move {
                        let mut stream = connect(&own, addr).await;
                        stream.write_all(&noise(5000)).await.unwrap();
                        own.sleep(Duration::from_millis(1)).await;
                        stream.read_exact(&mut [0; 5000]).await.unwrap();
                    })
                });
                for task in tasks {
                    task.await.unwrap();
                }
            }
        });
        world.trace_digest()
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2));
}

/// Calls back as it is dropped.
struct CallOnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for CallOnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

struct Count(Mutex<usize>);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn the_loop_runs_until_one_future_has_ended() {
    everywhere(|mut reactor: Reactor<u32>, _| {
        let handle = reactor.handle();
        let future = async move {
            handle.sleep(Duration::from_millis(3)).await;
            handle.with(|count, _| *count += 1).await.unwrap();
            "done"
        };
        let mut count = 0;
        assert_eq!((reactor.block_on(&mut count, future).unwrap(), count), ("done", 1));
        let panics = async { std::panic::resume_unwind(Box::new("on purpose")) };
        let error = reactor.block_on::<()>(&mut count, panics).unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        reactor.add_timer(reactor.now(), |_, reactor| reactor.stop());
        let error = reactor.block_on(&mut count, pending::<()>()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    });
}

#[test]
fn a_task_waits_for_a_signal() {
    let world = World::new(1, WorldOptions::default());
    let ip = IpAddr::from([10, 0, 0, 1]);
    let mut node = Node::new(world.host(&[ip]), Vec::new());
    let handle = node.reactor.handle();
    node.reactor.spawn(async move {
        let error = handle.signal(reactor::signal::SIGKILL).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        handle.signal(reactor::signal::SIGTERM).await.unwrap();
        handle.with(|log: &mut Vec<&str>, _| log.push("told to end")).await.unwrap();
    });
    world.run_for(&mut [&mut node], Duration::from_secs(1));
    assert!(node.state.is_empty());
    assert_eq!(world.raise(ip, reactor::signal::SIGTERM), 1);
    world.run_for(&mut [&mut node], Duration::from_secs(1));
    assert_eq!(
        (node.state.as_slice(), world.raise(ip, reactor::signal::SIGTERM)),
        (["told to end"].as_slice(), 0)
    );
}

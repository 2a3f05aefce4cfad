//! What other threads can do.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ports::{CallError, NodeHandle, PortHandle, PortId, Reason};

use super::harness::World;

/// A port that answers with twice the number.
fn doubler(world: &World) -> PortId {
    world.node.port(|context, (number, reply): (u64, PortId)| context.send(&reply, number * 2)).id()
}

/// Runs the loop until a thread has done something.
fn with_thread<T: Send + 'static>(
    world: &mut World,
    act: impl FnOnce() -> T + Send + 'static,
) -> T {
    let remote = world.reactor.remote();
    let thread = thread::spawn(move || {
        let result = act();
        remote.stop();
        result
    });
    world.reactor.run(&mut ()).expect("it runs");
    thread.join().expect("it did not panic")
}

#[test]
fn a_thread_sends_kills_watches_and_posts_in_order() {
    let mut world = World::new();
    let (port, node) = (world.listener(), world.node.handle());
    assert_eq!(node.id(), world.node.id());
    let (told, ends) = mpsc::channel();
    let end = with_thread(&mut world, move || {
        node.monitor(&port, move |reason| {
            told.send(reason.to_string()).expect("there is the test");
        })
        .expect("here");
        for n in 0..3u64 {
            node.send(&port, n).expect("here");
        }
        let other = port.clone();
        node.post(move |node| node.send(&other, 3u64)).expect("here");
        node.kill(&port, Reason::new("why", "not")).expect("here");
        node.send(&port, 4u64).expect("here");
        ends.recv().expect("the port ends")
    });
    assert_eq!(end, "why not");
    assert_eq!(world.settle(), ["[0]", "[1]", "[2]", "[3]"]);
}

#[test]
fn a_panic_of_what_was_posted_is_its_own() {
    let mut world = World::new();
    let (node, note) = (world.node.handle(), world.listener());
    with_thread(&mut world, move || {
        node.post(|_| panic!("a test panics")).expect("here");
        node.send(&note, 1u64).expect("here");
    });
    assert_eq!(world.settle(), ["[1]"]);
}

#[test]
fn a_thread_calls_and_waits() {
    let mut world = World::new();
    let (port, node) = (doubler(&world), world.node.handle());
    let nobody = PortId::of(world.node.id(), "nobody");
    let quiet = world.listener();
    let results: Vec<Result<u64, CallError>> = with_thread(&mut world, move || {
        let brief = Some(Duration::from_millis(5));
        vec![
            node.call_blocking(&port, |reply| (4u64, reply), None),
            node.call_blocking(&port, |reply| (5u64, reply), Some(Duration::from_secs(1000))),
            node.call_blocking(&quiet, |reply| (6u64, reply), brief),
            node.call_blocking(&nobody, |reply| (7u64, reply), None),
        ]
    });
    assert_eq!(results[..3], [Ok(8), Ok(10), Err(CallError::TimedOut)]);
    assert!(
        matches!(&results[3], Err(CallError::Ended(reason)) if reason.identifier() == Some("no_such_port"))
    );
    world.settle();
    assert_eq!(world.node.ports_count(), 2);
}

async fn calls(node: NodeHandle, port: PortId) -> u64 {
    let mut sum = 0;
    for n in 0..100u64 {
        let answer: Result<u64, _> = node.call(&port, move |reply| (n, reply), None).await;
        sum += answer.expect("an answer");
    }
    sum
}

#[test]
fn a_task_of_tokio_calls_on_one_thread_or_many() {
    let mut world = World::new();
    let (port, node) = (doubler(&world), world.node.handle());
    let sum = with_thread(&mut world, move || {
        let current =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let one = current.block_on(calls(node.clone(), port.clone()));
        let many = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .expect("a runtime");
        one + many.block_on(async {
            let tasks: Vec<_> =
                (0..20).map(|_| tokio::spawn(calls(node.clone(), port.clone()))).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.expect("it did not panic");
            }
            sum
        })
    });
    assert_eq!(sum, 21 * 9900);
    world.settle();
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn a_call_that_is_dropped_leaves_nothing() {
    let mut world = World::new();
    let (quiet, node) = (world.listener(), world.node.handle());
    with_thread(&mut world, move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            for _ in 0..10 {
                let call = node.call::<_, u64>(&quiet, |reply| (1u64, reply), None);
                let late = tokio::time::timeout(Duration::from_millis(1), call).await;
                assert!(late.is_err());
            }
        });
    });
    world.settle();
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn messages_of_each_thread_arrive_in_order_and_none_is_lost() {
    const THREADS: usize = 8;
    const EACH: u64 = 20_000;
    let mut world = World::new();
    let next = Rc::new(Cell::new([0; THREADS]));
    let expected = Rc::clone(&next);
    let port = world.node.port(move |_, (thread, n): (usize, u64)| {
        let mut all = expected.get();
        assert_eq!(all[thread], n);
        all[thread] += 1;
        expected.set(all);
    });
    let fast: PortHandle<(usize, u64)> = world.node.handle().port(&port.id());
    assert_eq!(fast.id(), &port.id());
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (fast, node, id) = (fast.clone(), world.node.handle(), port.id());
            thread::spawn(move || {
                for n in 0..EACH {
                    if thread % 2 == 0 {
                        fast.send((thread, n));
                    } else {
                        node.send(&id, (thread, n)).expect("the loop runs");
                    }
                }
            })
        })
        .collect();
    world.until_true(|| next.get() == [EACH; THREADS]);
    threads.into_iter().for_each(|thread| thread.join().expect("it did not panic"));
    assert_eq!(world.settle(), [""; 0]);
}

#[test]
fn a_message_that_cannot_be_sent_does_not_keep_back_others() {
    /// Cannot be put into bytes if it is one.
    #[derive(serde::Deserialize)]
    struct Picky(u64);
    impl serde::Serialize for Picky {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 1 {
                Err(serde::ser::Error::custom("a test fails"))
            } else {
                self.0.serialize(serializer)
            }
        }
    }
    let (mut world, other) = World::pair();
    let note = world.note();
    let port = other.port(move |_, n: u64| note(&n.to_string())).id();
    let fast: PortHandle<Picky> = world.node.handle().port(&port);
    with_thread(&mut world, move || (0..4).for_each(|n| fast.send(Picky(n))));
    assert_eq!(world.until(3), ["0", "2", "3"]);
}

/// Counts how many of it are there, on any thread.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }

    fn touch(&self) {
        assert_ne!(self.0.load(Ordering::SeqCst), 0);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_call_that_waits_ends_when_the_loop_does_wherever_it_is() {
    // It is either not begun, or the port that was asked is silent.
    for turns in [0, 30] {
        let mut world = World::new();
        let (quiet, node) = (world.listener(), world.node.handle());
        let count = Arc::default();
        let held = Counted::new(&count);
        let (begun, begins) = mpsc::channel();
        let thread = thread::spawn(move || {
            let ask = move |reply| {
                held.touch();
                (1u64, reply)
            };
            begun.send(()).expect("there is the test");
            node.call_blocking::<_, u64>(&quiet, ask, None)
        });
        begins.recv().expect("it begins");
        thread::sleep(Duration::from_millis(20));
        for _ in 0..turns {
            world.reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
        }
        drop(world);
        let result = thread.join().expect("it did not panic");
        assert!(
            matches!(&result, Err(CallError::Ended(reason)) if reason.identifier() == Some("gone")),
            "{result:?}"
        );
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn handles_of_a_node_that_is_gone_say_so_and_keep_nothing() {
    // Either the loop is gone, or only the node.
    for has_loop in [false, true] {
        let world = World::new();
        let (node, port) = (world.node.handle(), world.listener());
        let fast: PortHandle<(u64, String)> = node.port(&port);
        let count = Arc::default();
        let World { reactor, node: owner, .. } = world;
        let mut reactor = Some(reactor);
        drop(owner);
        if !has_loop {
            drop(reactor.take());
        }
        let held = Counted::new(&count);
        assert_eq!(node.post(move |_| held.touch()).is_ok(), has_loop);
        let held = Counted::new(&count);
        assert_eq!(node.monitor(&port, move |_| held.touch()).is_ok(), has_loop);
        assert_eq!(node.send(&port, 1u64).is_ok(), has_loop);
        fast.send((1, "x".to_owned()));
        fast.send((2, "x".to_owned()));
        let call = node.call::<_, u64>(&port, |reply| (1u64, reply), None);
        if let Some(reactor) = &mut reactor {
            for _ in 0..5 {
                reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
            }
        }
        let result = futures_lite::future::block_on(call);
        assert!(
            matches!(&result, Err(CallError::Ended(reason)) if reason.identifier() == Some("gone")),
            "{result:?}"
        );
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}

#[test]
#[should_panic(expected = "a node's own thread cannot wait for an answer")]
fn a_nodes_own_thread_does_not_wait_for_itself() {
    let world = World::new();
    let _never =
        world.node.handle().call_blocking::<_, u64>(&world.listener(), |reply| (1u64, reply), None);
}

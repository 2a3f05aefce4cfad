//! The local measurements, the same for all actor systems.
//!
//! A system brings its addresses and says how an actor is started, killed and watched. Messages are
//! `u64`, as small as they can be. Sending never waits: mailboxes have no limit.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::{Meter, Words, fail, memory};

/// Actors of one kind.
pub trait System: Sized + 'static {
    /// How to reach an actor.
    type Address: Clone + Send + Sync + 'static;

    fn send(to: &Self::Address, number: u64);

    fn kill(actor: &Self::Address);

    fn start(role: Role<Self>) -> impl Future<Output = Self::Address> + Send;

    /// That many idle actors, and one that is told of the end of each and then gives notice itself;
    /// without an answer if nobody can be told of an end.
    fn watched(
        count: u64,
        done: Arc<Notify>,
    ) -> impl Future<Output = Option<Vec<Self::Address>>> + Send;
}

/// What an actor does with a message.
pub enum Role<S: System> {
    /// Waits.
    Idle,
    /// Counts messages down, and gives notice at the last.
    Counter { left: u64, done: Arc<Notify> },
    /// Sends some messages, then lets others have their turn, as it goes on when it hears from itself.
    Sender { to: S::Address, left: u64, me: Arc<OnceLock<S::Address>> },
    /// Sends the number that comes, less one, to the next; gives notice at zero.
    Relay { next: Arc<OnceLock<S::Address>>, done: Arc<Notify> },
}

impl<S: System> Role<S> {
    pub fn receive(&mut self, number: u64) {
        match self {
            Self::Idle => {}
            Self::Counter { left, done } => {
                *left -= 1;
                if *left == 0 {
                    done.notify_one();
                }
            }
            Self::Sender { to, left, me } => {
                let turn = SENT_A_TURN.min(*left);
                for number in 0..turn {
                    S::send(to, number);
                }
                *left -= turn;
                if *left > 0 {
                    S::send(known(me), 0);
                }
            }
            Self::Relay { done, .. } if number == 0 => done.notify_one(),
            Self::Relay { next, .. } => S::send(known(next), number - 1),
        }
    }
}

/// In each actor that is to end: counts the ends.
pub struct Live;

impl Drop for Live {
    fn drop(&mut self) {
        if TO_END.fetch_sub(1, Ordering::AcqRel) == 1 {
            ENDED.notify_one();
        }
    }
}

/// Runs what the command line asks for, with `--workers N` on so many threads instead of one.
pub fn run_on_tokio<S: System>() {
    let mut words = Words::of_command_line();
    if words.flag("--workers") {
        let workers = words.next("the number of workers");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .build()
            .expect("a runtime");
        runtime
            .block_on(async { tokio::spawn(run::<S>(words)).await })
            .expect("a measurement does not panic");
    } else {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(run::<S>(words));
    }
    // All that still lives ends with the process.
    std::process::exit(0);
}

pub async fn run<S: System>(mut words: Words) {
    let test: String = words.next("the name of a test");
    match test.as_str() {
        "flood" => flood::<S>("flood", 1, words.next("N")).await,
        "fanin" => flood::<S>("fanin", words.next("SENDERS"), words.next("N")).await,
        "pingpong" => {
            let count: u64 = words.next("N");
            ring::<S>("pingpong", 2, 2 * count, count).await;
        }
        "ring" => {
            let actors = words.next("PORTS");
            let hops = words.next("HOPS");
            ring::<S>("ring", actors, hops, hops).await;
        }
        "idle" => idle::<S>(words.next("COUNT")).await,
        "churn" => churn::<S>(words.next("COUNT")).await,
        "monitors" => monitors::<S>(words.next("COUNT")).await,
        other => fail(format_args!("no test {other}")),
    }
}

async fn flood<S: System>(test: &str, senders: u64, count: u64) {
    let done = Arc::new(Notify::new());
    let each = count / senders;
    let counter = S::start(Role::Counter { left: each * senders, done: done.clone() }).await;
    let mut all = Vec::new();
    for _ in 0..senders {
        let me = Arc::new(OnceLock::new());
        let sender =
            S::start(Role::Sender { to: counter.clone(), left: each, me: me.clone() }).await;
        make_known(&me, sender.clone());
        all.push(sender);
    }
    let meter = Meter::start();
    for sender in &all {
        S::send(sender, 0);
    }
    done.notified().await;
    meter.finish(test, each * senders);
}

async fn ring<S: System>(test: &str, actors: u64, hops: u64, count: u64) {
    let done = Arc::new(Notify::new());
    let last_to_first = Arc::new(OnceLock::new());
    let mut next = last_to_first.clone();
    for _ in 0..actors {
        let actor = S::start(Role::Relay { next, done: done.clone() }).await;
        next = Arc::new(OnceLock::from(actor));
    }
    let first = known(&next).clone();
    make_known(&last_to_first, first.clone());
    let meter = Meter::start();
    S::send(&first, hops);
    done.notified().await;
    meter.finish(test, count);
}

async fn idle<S: System>(count: u64) {
    TO_END.store(count, Ordering::Release);
    let mut all = Vec::with_capacity(count as usize);
    let before = memory();
    let meter = Meter::start();
    for _ in 0..count {
        all.push(S::start(Role::Idle).await);
        if all.len() % STARTED_A_TURN == 0 {
            yield_now().await;
        }
    }
    yield_now().await;
    let each = memory().saturating_sub(before) / count;
    meter.finish_with("idle", count, &format!(", \"bytes_each\": {each}"));
    let meter = Meter::start();
    for actor in all {
        S::kill(&actor);
    }
    ENDED.notified().await;
    meter.finish("kill", count);
}

async fn churn<S: System>(count: u64) {
    TO_END.store(count, Ordering::Release);
    let meter = Meter::start();
    for index in 0..count as usize {
        S::kill(&S::start(Role::Idle).await);
        if index % STARTED_A_TURN == 0 {
            yield_now().await;
        }
    }
    ENDED.notified().await;
    meter.finish("churn", count);
}

async fn monitors<S: System>(count: u64) {
    let done = Arc::new(Notify::new());
    let Some(all) = S::watched(count, done.clone()).await else {
        fail("no actor is told of the end of others here");
    };
    let meter = Meter::start();
    for actor in all {
        S::kill(&actor);
    }
    done.notified().await;
    meter.finish("monitors", count);
}

fn known<A>(address: &OnceLock<A>) -> &A {
    address.get().expect("addresses are told before the first message")
}

fn make_known<A>(slot: &OnceLock<A>, address: A) {
    assert!(slot.set(address).is_ok(), "an address is told once");
}

const SENT_A_TURN: u64 = 1000;
const STARTED_A_TURN: usize = 100;

static TO_END: AtomicU64 = AtomicU64::new(0);
static ENDED: Notify = Notify::const_new();

//! A pool of workers that factor numbers, each in a thread of its own, with a supervisor.
//!
//! All nodes need one secret: `export PERL_ANYEVENT_MP_RC=/tmp/rc` in both terminals, and once
//! `cargo run -p ports --bin aemp -- gensecret`. Then, in one terminal,
//! `cargo run -p ports --example workers -- binds 127.0.0.1:4040`, and in the other
//! `cargo run -p ports --example workers_client -- 12,0,1000000007 seeds 127.0.0.1:4040`.
//!
//! The number 0 ends a worker, which is started again; the client hears of it. Start more pools, with
//! `seeds 127.0.0.1:4040`, and work goes to them too.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::env;
use std::error::Error;
use std::time::Duration;

use ports::config::Config;
use ports::{ChildSpec, Inbox, Node, PortId, Reason, SupervisorSpec};
use reactor::Reactor;
use serde::{Deserialize, Serialize};

/// What workers get: `["job", reply, number]`. The answer is a list of factors.
#[derive(Serialize, Deserialize)]
struct Job {
    reply: PortId,
    number: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let settings = Config::from_args(env::args().skip(1))?.settings()?;
    let node = Node::start(&mut reactor, &settings)?;
    let mut pool = SupervisorSpec::one_for_one().restarts(RESTARTS_MAX, Duration::from_secs(1));
    for number in 1..=WORKERS {
        let start = move |node: &Node| {
            let worker = node.port_async(work);
            node.grp_reg("eg_workers", &worker)?.detach();
            println!("worker {number} begins");
            let end = move |_: &Node, reason| println!("worker {number} has ended: {reason}");
            node.monitor(&worker, end).detach();
            Ok(worker.id())
        };
        pool = pool.child(ChildSpec::new(&format!("worker {number}"), start));
    }
    let pool = node.supervise(pool)?;
    let end = reactor.block_on(&mut (), node.ended(pool.port()))?;
    Err(end.to_string().into())
}

/// One job after the other.
async fn work(mut inbox: Inbox<Job>) -> Result<(), Reason> {
    loop {
        let Job { reply, number } = inbox.next().await;
        assert_ne!(number, 0, "everything is a factor of 0");
        let factors = inbox.node().reactor().unblock(move || factors(number)).await?;
        inbox.node().send(&reply, factors);
    }
}

fn factors(mut number: u64) -> Vec<u64> {
    let mut factors = Vec::new();
    let mut factor = 2;
    while factor <= number / factor {
        if number.is_multiple_of(factor) {
            factors.push(factor);
            number /= factor;
        } else {
            factor += 1;
        }
    }
    factors.push(number);
    factors
}

const WORKERS: usize = 3;
/// How many workers may fail in a second before the pool gives up.
const RESTARTS_MAX: usize = 20;

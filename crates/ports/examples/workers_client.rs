//! Has numbers factored by all workers that there are.
//!
//! A job whose worker ends goes to another one, but not for ever: it may be the job that does it. How to
//! run it stands in `workers.rs`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::cell::Cell;
use std::env;
use std::error::Error;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use ports::config::Config;
use ports::{CallError, Node, PortId};
use reactor::{Reactor, Remote};
use serde::{Deserialize, Serialize};

/// What workers get.
#[derive(Serialize, Deserialize)]
struct Job {
    reply: PortId,
    number: u64,
}

/// What is left to do.
struct Work {
    numbers_left: Cell<usize>,
    /// Whose turn it is.
    turn: Cell<usize>,
    remote: Remote<()>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let numbers = args.next().ok_or("usage: workers_client NUMBER,NUMBER… [CONFIGURATION]")?;
    let mut numbers = numbers.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &Config::from_args(args)?.settings()?)?;
    let numbers_left = Cell::new(numbers.len());
    let work = Rc::new(Work { numbers_left, turn: Cell::new(0), remote: reactor.remote() });
    // As soon as there are workers.
    let watch = node.grp_mon("eg_workers", move |node, _| {
        for number in mem::take(&mut numbers) {
            ask(node, Rc::clone(&work), number, ATTEMPTS);
        }
    })?;
    watch.detach();
    Ok(reactor.run(&mut ())?)
}

fn ask(node: &Node, work: Rc<Work>, number: u64, attempts: u32) {
    let workers = node.grp_get("eg_workers");
    let again = move |node: &Node, work, attempts| {
        node.after(Duration::from_secs(1), move |node| ask(node, work, number, attempts));
    };
    if workers.is_empty() {
        return again(node, work, attempts);
    }
    let worker = &workers[work.next_turn() % workers.len()];
    let job = |reply| Job { reply, number };
    node.call(worker, job, None, move |node, answer: Result<Vec<u64>, CallError>| match answer {
        Ok(factors) => work.is_done(&format!("{number} = {factors:?}")),
        Err(error) if attempts > 1 => {
            println!("{number}: {error}, once more");
            again(node, work, attempts - 1);
        }
        Err(error) => work.is_done(&format!("{number}: {error}")),
    });
}

impl Work {
    fn next_turn(&self) -> usize {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }

    fn is_done(&self, result: &str) {
        println!("{result}");
        self.numbers_left.set(self.numbers_left.get() - 1);
        if self.numbers_left.get() == 0 {
            self.remote.stop();
        }
    }
}

const ATTEMPTS: u32 = 3;

//! Ports of one node.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use ports::{Context, Node, Port, PortHandle, Reason};
use reactor::Reactor;
use serde::{Deserialize, Serialize};

use crate::{Began, Outcome, print, resident, run};

/// How much a sender sends before it lets others have their turn.
const BURST: u64 = 1000;

/// To a sender.
#[derive(Serialize, Deserialize)]
struct Go;

pub(crate) fn flood(senders: u64, count: u64, test: &str) -> Outcome {
    let mut reactor = Reactor::new()?;
    let node = Node::alone(&mut reactor);
    let each = count / senders;
    let (mut left, remote) = (each * senders, reactor.remote());
    let receiver: Port<u64> = node.port(move |_: &Context<'_>, _: u64| {
        left -= 1;
        if left == 0 {
            remote.stop();
        }
    });
    let mut all = Vec::new();
    for _ in 0..senders {
        let (to, mut left) = (receiver.clone(), each);
        let own: Rc<Cell<Option<Port<Go>>>> = Rc::default();
        let me = Rc::clone(&own);
        let sender = node.port(move |_: &Context<'_>, go: Go| {
            let burst = left.min(BURST);
            for number in 0..burst {
                to.send(number);
            }
            left -= burst;
            if left > 0 {
                let port = me.take().expect("it was set");
                port.send(go);
                me.set(Some(port));
            }
        });
        own.set(Some(sender.clone()));
        all.push(sender);
    }
    let began = Began::now();
    all.iter().for_each(|sender| sender.send(Go));
    run(&mut reactor)?;
    began.report(test, each * senders, "");
    Ok(())
}

/// A message with the hops that are left goes around.
pub(crate) fn ring(ports: usize, hops: u64, test: &str) -> Outcome {
    let mut reactor = Reactor::new()?;
    let node = Node::alone(&mut reactor);
    let first: Rc<Cell<Option<Port<u64>>>> = Rc::default();
    let mut next: Option<Port<u64>> = None;
    for index in 0..ports {
        let (to, remote, closing) = (next.take(), reactor.remote(), Rc::clone(&first));
        let mut to = to;
        let port = node.port(move |_: &Context<'_>, left: u64| {
            if left == 0 {
                return remote.stop();
            }
            let to = to.get_or_insert_with(|| closing.take().expect("the ring is closed"));
            to.send(left - 1);
        });
        if index + 1 == ports {
            first.set(Some(port.clone()));
        }
        next = Some(port);
    }
    let last = next.expect("a ring has ports");
    let began = Began::now();
    last.send(hops - 1);
    run(&mut reactor)?;
    let messages = if test == "pingpong" { hops / 2 } else { hops };
    began.report(test, messages, "");
    Ok(())
}

/// A port on another thread, and the thread.
type Far = (PortHandle<u64>, thread::JoinHandle<()>);

/// A node on a thread of its own, with a port; the thread ends when `count` messages have come.
fn receiver(count: u64, answer: Option<mpsc::Sender<()>>) -> Result<Far, mpsc::RecvError> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut reactor = Reactor::new().expect("a loop");
        let node = Node::alone(&mut reactor);
        let (mut left, remote) = (count, reactor.remote());
        let port = node.port(move |_: &Context<'_>, _: u64| {
            left -= 1;
            if let Some(answer) = &answer {
                answer.send(()).expect("the other waits");
            }
            if left == 0 {
                remote.stop();
            }
        });
        tell.send(node.handle().port(&port.id())).expect("the other waits");
        run(&mut reactor).expect("the loop runs");
    });
    Ok((told.recv()?, thread))
}

pub(crate) fn threads(count: u64) -> Outcome {
    let (port, thread) = receiver(count, None)?;
    let began = Began::now();
    for number in 0..count {
        port.send(number);
    }
    thread.join().map_err(|_panic| "the receiver panicked")?;
    began.report("threads", count, "");
    Ok(())
}

pub(crate) fn threads_pingpong(count: u64) -> Outcome {
    let (answer, answered) = mpsc::channel();
    let (port, thread) = receiver(count, Some(answer))?;
    let began = Began::now();
    for number in 0..count {
        port.send(number);
        answered.recv()?;
    }
    thread.join().map_err(|_panic| "the receiver panicked")?;
    began.report("threads-pingpong", count, "");
    Ok(())
}

pub(crate) fn idle(count: u64) -> Outcome {
    let mut reactor = Reactor::new()?;
    let node = Node::alone(&mut reactor);
    let before = resident();
    let mut all: Vec<Port<u64>> = Vec::with_capacity(usize::try_from(count)?);
    let began = Began::now();
    for _ in 0..count {
        all.push(node.port(|_: &Context<'_>, _: u64| {}));
    }
    let grown = resident().saturating_sub(before);
    began.report("idle", count, &format!(", \"bytes_each\": {:.1}", grown as f64 / count as f64));
    let began = Began::now();
    kill_all(&node, &all);
    reactor.run_until(&mut (), |_| node.ports_count() == 0)?;
    began.report("kill", count, "");
    Ok(())
}

fn kill_all(node: &Node, all: &[Port<u64>]) {
    for port in all {
        node.kill(port, Reason::NORMAL);
    }
}

pub(crate) fn churn(count: u64) -> Outcome {
    let mut reactor = Reactor::new()?;
    let node = Node::alone(&mut reactor);
    let began = Began::now();
    for number in 0..count {
        let port: Port<u64> = node.port(|_: &Context<'_>, _: u64| {});
        node.kill(&port, Reason::NORMAL);
        if number % 100 == 99 {
            reactor.run_until(&mut (), |_| node.ports_count() == 0)?;
        }
    }
    if node.ports_count() > 0 {
        reactor.run_until(&mut (), |_| node.ports_count() == 0)?;
    }
    began.report("churn", count, "");
    Ok(())
}

pub(crate) fn monitors(count: u64) -> Outcome {
    let mut reactor = Reactor::new()?;
    let node = Node::alone(&mut reactor);
    let (mut left, remote) = (count, reactor.remote());
    let watcher = node.port(move |_: &Context<'_>, _: u64| {
        left -= 1;
        if left == 0 {
            remote.stop();
        }
    });
    let mut all: Vec<Port<u64>> = Vec::new();
    for number in 0..count {
        let port = node.port(|_: &Context<'_>, _: u64| {});
        let to = watcher.clone();
        node.monitor(&port, move |_, _| to.send(number)).detach();
        all.push(port);
    }
    let began = Began::now();
    kill_all(&node, &all);
    run(&mut reactor)?;
    began.report("monitors", count, "");
    if node.ports_count() != 1 {
        print("some ports are left");
    }
    Ok(())
}

//! Two nodes in two processes, over loopback.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::time::Instant;

use ports::config::{Config, Facts, RcFile, Settings};
use ports::{Context, Node, Port, PortId};
use reactor::Reactor;
use reactor::bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Began, Outcome, print, run};

#[derive(Serialize, Deserialize)]
enum Ask {
    /// Answer when so many have come from now on.
    Count {
        count: u64,
        answer_to: PortId,
    },
    Data(Bytes),
    Ping {
        data: Bytes,
        answer_to: Port<Answer>,
    },
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Done,
    Pong(Bytes),
}

fn settings(
    name: &str,
    bind: &str,
    seed: Option<&str>,
    framing: &str,
) -> Result<Settings, Box<dyn Error>> {
    let mut config = Config::new()
        .norc()
        .node_id(name)
        .bind(bind)
        .secret("geheim")
        .set("framing_format", framing);
    if let Some(seed) = seed {
        config = config.seed(seed);
    }
    Ok(config.resolve(&RcFile::empty(), &Facts::of_machine()?)?)
}

pub(crate) fn serve(addr: &str) -> Outcome {
    let mut reactor = Reactor::new()?;
    let settings = settings("server", addr, None, "cbor,json")?;
    let node = Node::start(&mut reactor, &settings)?;
    let mut waited: Option<(u64, PortId)> = None;
    let port: Port<Ask> = node.port(move |context: &Context<'_>, ask: Ask| match ask {
        Ask::Count { count, answer_to } => waited = Some((count, answer_to)),
        Ask::Data(_) => {
            if let Some((left, answer_to)) = &mut waited {
                *left -= 1;
                if *left == 0 {
                    context.send(answer_to, Answer::Done);
                    waited = None;
                }
            }
        }
        Ask::Ping { data, answer_to } => answer_to.send(Answer::Pong(data)),
    });
    node.grp_reg("bench", &port)?.detach();
    print(&format!("listening {}", node.listeners()[0]));
    run(&mut reactor)
}

/// A loop with a node that is connected with the server, and the server's port.
type Met = (Reactor<()>, Node, Port<Ask>);

/// Connects with the server.
fn meet(addr: &str, framing: &str) -> Result<Met, Box<dyn Error>> {
    let mut reactor = Reactor::new()?;
    let settings = settings("client/%u", "127.0.0.1:0", Some(addr), framing)?;
    let node = Node::start(&mut reactor, &settings)?;
    let found: Rc<RefCell<Option<PortId>>> = Rc::default();
    let finder = Rc::clone(&found);
    let watch = node.grp_mon("bench", move |_, change| {
        *finder.borrow_mut() = change.members.first().cloned();
    })?;
    reactor.run_until(&mut (), |_| found.borrow().is_some())?;
    drop(watch);
    let port = Port::to(&node, &found.take().expect("found"));
    Ok((reactor, node, port))
}

/// How much may wait before the sender lets the loop send it.
const WAITING_BYTES: usize = 1 << 20;
const BURST: u64 = 4000;

pub(crate) fn flood(addr: &str, count: u64, size: usize, framing: &[&str]) -> Outcome {
    let framing = match framing {
        [] => "cbor",
        ["--framing", framing] => framing,
        _ => return Err("--framing cbor|json".into()),
    };
    let (mut reactor, node, port) = meet(addr, framing)?;
    let remote = reactor.remote();
    let answer = node.port(move |_: &Context<'_>, _: Answer| remote.stop());
    let data = Bytes::from(vec![b'x'; size]);
    let server = PortId::from(&port).node();
    let began = Began::now();
    port.send(Ask::Count { count, answer_to: answer.id() });
    let left = Rc::new(Cell::new(count));
    send_on(&node, port, server, data, left);
    run(&mut reactor)?;
    began.report("remote-flood", count, "");
    Ok(())
}

/// Sends a burst, and more when there is room for it.
fn send_on(node: &Node, port: Port<Ask>, server: ports::NodeId, data: Bytes, left: Rc<Cell<u64>>) {
    let burst = left.get().min(BURST);
    for _ in 0..burst {
        port.send(Ask::Data(data.clone()));
    }
    left.set(left.get() - burst);
    if left.get() == 0 {
        return;
    }
    if node.waiting_bytes(&server) < WAITING_BYTES {
        node.soon(move |node| send_on(node, port, server, data, left));
    } else {
        let to = server.clone();
        node.when_drained(&to, move |node| send_on(node, port, server, data, left));
    }
}

pub(crate) fn pingpong(addr: &str, count: u64, size: usize) -> Outcome {
    let (mut reactor, node, port) = meet(addr, "cbor")?;
    let data = Bytes::from(vec![b'x'; size]);
    let own: Rc<Cell<Option<Port<Answer>>>> = Rc::default();
    let times: Rc<RefCell<Vec<u32>>> =
        Rc::new(RefCell::new(Vec::with_capacity(usize::try_from(count)?)));
    let (me, all, remote) = (Rc::clone(&own), Rc::clone(&times), reactor.remote());
    let (to, mut left) = (port.clone(), count);
    let mut sent_at = Instant::now();
    let answer = node.port(move |_: &Context<'_>, answer: Answer| {
        let Answer::Pong(data) = answer else { return };
        let now = Instant::now();
        all.borrow_mut().push(u32::try_from((now - sent_at).as_nanos()).unwrap_or(u32::MAX));
        left -= 1;
        if left == 0 {
            return remote.stop();
        }
        let port = me.take().expect("it was set");
        sent_at = now;
        to.send(Ask::Ping { data, answer_to: port.clone() });
        me.set(Some(port));
    });
    own.set(Some(answer.clone()));
    let began = Began::now();
    port.send(Ask::Ping { data, answer_to: answer });
    run(&mut reactor)?;
    let mut times = times.take();
    times.sort_unstable();
    let at = |share: f64| f64::from(times[((times.len() - 1) as f64 * share) as usize]) / 1000.0;
    began.report(
        "remote-pingpong",
        count,
        &format!(", \"p50_us\": {:.2}, \"p99_us\": {:.2}", at(0.5), at(0.99)),
    );
    Ok(())
}

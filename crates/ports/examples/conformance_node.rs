//! A node that does what it is told, for tests that speak the wire protocol with it from outside.
//!
//! Arguments are those of a node, `KEY VALUE` in pairs; with `gencert` alone it prints a certificate. The
//! first line that it prints is JSON: `{"node":…,"listeners":[…],"echo":PORT}`. It ends with its standard
//! input. What it can be told are functions, called as `["","conformance::NAME",args…]`.

use std::cell::RefCell;
use std::error::Error;
use std::io::{Read, Write};
use std::rc::Rc;
use std::thread;

use ports::config::{Config, Facts, RcFile, json_argument};
use ports::{Context, Entry, FamilyWatch, List, Monitor, Node, PortId, Reason, Value};
use reactor::Reactor;
use serde_json::json;

/// What stays until it is taken back.
#[derive(Default)]
struct Kept {
    monitors: Vec<(PortId, Monitor)>,
    entries: Vec<Entry>,
    watches: Vec<FamilyWatch>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["gencert"] {
        std::io::stdout().write_all(ports::gencert()?.as_bytes())?;
        return Ok(());
    }
    let args = args.iter().map(|arg| json_argument(arg)).collect::<Result<Vec<_>, _>>()?;
    let settings =
        Config::from_args(args)?.resolve(&RcFile::of_environment()?, &Facts::of_machine()?)?;
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &settings)?;
    let kept = Rc::default();
    register_ports(&node);
    register_monitors(&node, &kept);
    register_database(&node, &kept);
    node.register_command("add", "NUMBER…: their sum", |_, args| {
        Ok(vec![args.iter().filter_map(Value::as_i64).sum::<i64>().into()])
    });
    node.start_services(&settings.services)?;
    let echo = node.port(echo).id();
    node.grp_reg("conformance", &echo)?.detach();
    let first = json!({ "node": node.id(), "listeners": node.listeners(), "echo": echo });
    writeln!(std::io::stdout(), "{first}")?;
    thread::spawn(|| {
        // Whoever started this holds the other end, also if it crashes.
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    reactor.run(&mut ())?;
    Ok(())
}

/// `[REPLY, values…]` goes to REPLY without it.
fn echo(context: &Context<'_>, mut list: List) -> Result<(), Reason> {
    let reply = list.first().and_then(Value::as_port);
    let reply = reply.ok_or_else(|| Reason::new("no_reply", "expected a port ID first"))?;
    list.remove(0);
    context.send(&reply, list);
    Ok(())
}

fn register_ports(node: &Node) {
    node.register("conformance::echo", |context, mut args: List| {
        context.receive(echo);
        args.insert(1.min(args.len()), "ready".into());
        echo(context, args)
    });
    node.register("conformance::nothing", |_, _: List| ());
    node.register("conformance::fails", |context, _: List| {
        context.receive(echo);
        Err(Reason::die("as it should"))
    });
    node.register("conformance::send", |context, (to, message): (PortId, List)| {
        context.send(&to, message);
    });
    node.register("conformance::kill", |context, (port, reason): (PortId, List)| {
        context.kill(port, Reason::of(reason));
    });
    node.register("conformance::spawn", |context, (place, name, args, reply): Spawn| {
        let port = context.spawn(place, &name, args)?;
        context.send(&reply, ("spawned".to_owned(), port));
        Ok(())
    });
    node.register("conformance::up_nodes", |context, (reply,): (PortId,)| {
        context.send(&reply, context.up_nodes());
    });
}

/// Where, which function, its arguments, and who is told the port.
type Spawn = (PortId, String, List, PortId);

/// `watch PORT REPLY`: when PORT ends, REPLY is sent `["died", PORT, reason…]`. `unwatch PORT` ends that.
fn register_monitors(node: &Node, kept: &Rc<RefCell<Kept>>) {
    let all = Rc::clone(kept);
    node.register("conformance::watch", move |context, (port, reply): (PortId, PortId)| {
        let died = port.clone();
        let monitor = context.monitor(&port, move |node, reason| {
            let mut message: List = vec!["died".into(), died.into()];
            message.extend_from_slice(reason.values());
            node.send(&reply, message);
        });
        all.borrow_mut().monitors.push((port, monitor));
    });
    let all = Rc::clone(kept);
    node.register("conformance::unwatch", move |_, (port,): (PortId,)| {
        all.borrow_mut().monitors.retain(|(watched, _)| *watched != port);
    });
}

/// `db_set FAMILY KEY VALUE`, `db_del FAMILY KEY`; `db_family FAMILY REPLY` asks once, and `db_mon FAMILY
/// REPLY` has REPLY sent `[family, added, changed, deleted]` at each change.
fn register_database(node: &Node, kept: &Rc<RefCell<Kept>>) {
    let all = Rc::clone(kept);
    node.register("conformance::db_set", move |context, (family, key, value): Setting| {
        let entry = context.db_set(&family, &key, value)?;
        all.borrow_mut().entries.push(entry);
        Ok(())
    });
    node.register("conformance::db_del", |context, (family, key): (String, String)| {
        Ok(context.db_del(&family, &[&key])?)
    });
    node.register("conformance::db_family", |context, (family, reply): (String, PortId)| {
        context.db_family(&family, move |node, answer| match answer {
            Ok(family) => node.send(&reply, vec![Value::Map(family)]),
            Err(refused) => node.send(&reply, vec![Value::from(refused.to_string())]),
        })?;
        Ok(())
    });
    let all = Rc::clone(kept);
    node.register("conformance::db_mon", move |context, (family, reply): (String, PortId)| {
        let name = family.clone();
        let watch = context.db_mon(&family, move |node, difference| {
            let all = node.db_look(&name, Clone::clone);
            let lists = [&difference.added, &difference.changed, &difference.deleted];
            let lists = lists.map(|keys| names(keys));
            node.send(&reply, [vec![Value::Map(all)], lists.into()].concat());
        })?;
        all.borrow_mut().watches.push(watch);
        Ok(())
    });
}

/// Family, key and value.
type Setting = (String, String, Value);

fn names(keys: &[String]) -> Value {
    Value::List(keys.iter().map(|key| key.as_str().into()).collect())
}

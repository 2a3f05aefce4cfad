//! The commands that nodes know by themselves.

use super::Node;
use crate::node::context::Context;
use crate::{List, PortId, Reason, Value};

/// An answer does not list more ports than this.
const PORTS_SHOWN_MAX: usize = 10_000;

/// How Perl's tool asks a node for those that it is connected with.
pub(crate) const UP_NODES: &str = "AnyEvent::MP::Kernel::up_nodes";

impl Node {
    /// Makes the commands known that do something here: `kill` and `send`. Nodes of the tool have them;
    /// others if they want to. Those that only look, as `help` and `statistics`, every node has that others
    /// can find.
    pub fn register_standard_commands(&self) {
        self.register_command("kill", "PORT REASON…: ends a port", |context, args| {
            let port = port_argument(context, &args, "kill PORT REASON…")?;
            context.kill(&port, Reason::of(args[1..].to_vec()));
            Ok(Vec::new())
        });
        self.register_command("send", "PORT VALUE…: sends a message", |context, args| {
            let port = port_argument(context, &args, "send PORT VALUE…")?;
            context.send(&port, args[1..].to_vec());
            Ok(Vec::new())
        });
    }

    /// Those that only look.
    pub(crate) fn register_looking_commands(&self) {
        let nodes = |context: &Context<'_>, _: List| Ok(texts(context.up_nodes()));
        self.register_command("nodes", "the nodes that are connected with this one", nodes);
        self.register_command(UP_NODES, "the same, as nodes in Perl are asked", nodes);
        self.register_command("ports", "the ports of this node", |context, _| {
            let ports = context.shared.ports.borrow();
            let ids = ports.all().filter_map(|port| port.head().id()).map(Value::from);
            Ok(ids.take(PORTS_SHOWN_MAX).collect())
        });
        self.register_command("functions", "what can be spawned and called here", |context, _| {
            Ok(texts(context.functions()))
        });
        let help = |context: &Context<'_>, _: List| {
            let line = |(name, help)| format!("{name}: {help}");
            Ok(texts(context.commands().into_iter().map(line)))
        };
        self.register_command("help", "all commands, with what they do", help);
        self.register_command("commands", "the names of all commands", |context, _| {
            Ok(texts(context.commands().into_iter().map(|(name, _)| name)))
        });
        self.register_command(
            "families",
            "the families of the database, with their sizes",
            |context, _| {
                let database = context.shared.mesh.database.borrow();
                let size = |(family, len): (&str, usize)| (family.to_owned(), (len as u64).into());
                Ok(vec![Value::Map(database.families().map(size).collect())])
            },
        );
        self.register_command(
            "family",
            "FAMILY: what it holds, as far as this node knows",
            |context, args| {
                let family = argument(&args, 0, "family FAMILY")?;
                Ok(vec![context.db_look(family, |entries| Value::Map(entries.clone()))])
            },
        );
        self.register_command("statistics", "all that there is to count", |context, _| {
            Ok(vec![(&context.statistics()).into()])
        });
        self.register_command("version", "what this node runs", |_, _| {
            Ok(vec![concat!("ports ", env!("CARGO_PKG_VERSION")).into()])
        });
        self.register_command("echo", "VALUE…: the same again", |_, args| Ok(args));
    }
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> List {
    all.into_iter().map(|text| text.to_string().into()).collect()
}

fn argument<'a>(args: &'a [Value], index: usize, usage: &str) -> Result<&'a str, Reason> {
    args.get(index).and_then(Value::as_str).ok_or_else(|| Reason::new("usage", usage))
}

/// A port by its ID, or one of this node by its name alone.
fn port_argument(context: &Context<'_>, args: &[Value], usage: &str) -> Result<PortId, Reason> {
    let text = argument(args, 0, usage)?;
    let port = match text.contains('#') {
        true => PortId::new(text)?,
        false => PortId::of(context.id(), text),
    };
    if port.is_node() {
        return Err(Reason::new("usage", "a node's own port is not for this"));
    }
    Ok(port)
}

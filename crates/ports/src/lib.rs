//! Message passing between ports on nodes: what AnyEvent::MP and Coro::MP do for Perl, for Rust, and with
//! nodes that talk to theirs.
//!
//! A [port](Node::port) is a mailbox with a handler. A [`Node`] is the process that ports live in, and
//! nodes find each other over the network, so that it makes no difference to a sender where a port is.
//! Who depends on a port watches it, and is told when it ends, for whatever reason.
//!
//! ```
//! use ports::{CallError, Node, PortId, Reason};
//! use reactor::Reactor;
//! use serde::{Deserialize, Serialize};
//!
//! /// What an account is told: `["deposit", 5]`, `["withdraw", 3]`, `["balance", "node#port"]`.
//! #[derive(Serialize, Deserialize)]
//! enum Account {
//!     Deposit(u64),
//!     Withdraw(u64),
//!     Balance { reply: PortId },
//! }
//!
//! let mut reactor = Reactor::new()?;
//! let node = Node::alone(&mut reactor);
//!
//! let mut balance = 0_u64;
//! let account = node.port(move |context, message| {
//!     match message {
//!         Account::Deposit(amount) => balance += amount,
//!         Account::Withdraw(amount) => {
//!             let left = balance.checked_sub(amount);
//!             balance = left.ok_or_else(|| Reason::new("overdrawn", amount))?;
//!         }
//!         Account::Balance { reply } => context.send(&reply, balance),
//!     }
//!     Ok(())
//! });
//!
//! let answers = reactor.block_on(&mut (), async move {
//!     let ask = || node.request(&account, |reply| Account::Balance { reply }, None);
//!     account.send(Account::Deposit(5));
//!     account.send(Account::Withdraw(3));
//!     let before = ask().await;
//!     account.send(Account::Withdraw(3));
//!     (before, ask().await)
//! })?;
//! let end = CallError::Ended(Reason::new("overdrawn", 3_u64));
//! assert_eq!(answers, (Ok(2), Err(end)));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The guide, `docs/ports.md`, goes the way of AnyEvent::MP's introduction, for someone who has never seen
//! it. What each of its functions is here stands in `docs/anyevent-mp.md`.
//!
//! # Ports
//!
//! [`Node::port`] makes a port of a closure, which owns what the port has to remember. Its messages are of
//! one type; [tags](Node::receive_tag) may have handlers of their own besides. It is called with a
//! [`Context`], which says which port this is and does all that a node can do. A port lives until somebody
//! ends it, however many handles of it are dropped. [`Port`] is such a handle, which knows the type and
//! stays on its thread; [`PortId`] is the name, `NODE#PORT`, which can be sent anywhere.
//!
//! What is to happen later in a port is done in its context, too: [`Context::after`], and [`Context::bind`]
//! for closures that others call. Everything with a guard, [`Monitor`], [`Timer`], [`Entry`] and the like, ends
//! when that is dropped; `detach` lets it stand, and [`Context::keep`] ties it to the port's life.
//!
//! # Messages
//!
//! A [`Message`] is any type that serde can write and read. Elsewhere it is a list of values: the variant of an
//! enum or the name of a struct, in small letters, then the fields. So `Deposit(5)` is `["deposit", 5]`, and
//! such a list becomes `Deposit(5)` where it is asked for. Who would rather see the values takes a
//! [`List`] of [`Value`]s. [`wire`] converts between all of these.
//!
//! # Sending
//!
//! [`send`](Node::send) never waits and never fails, and nothing is called before it returns. Messages of one
//! port to another arrive in order. Within a node they are moved, not copied. A message to a port that is not
//! there is dropped, and one that its port does not take ends that port, with a reason that says what was
//! expected.
//!
//! An answer is a message like any other, sent to a port that was part of the question. [`call`](Node::call)
//! makes such a port and a [`request`](Node::request) is the same as a future.
//!
//! # Ending
//!
//! A handler that returns an error or panics ends its port and nothing else. [`kill`](Node::kill) ends any
//! port, here or elsewhere, behind what was sent to it before. The [`Reason`] is a list of values; an empty one is
//! a normal end.
//!
//! # Monitors and the guarantee
//!
//! [`monitor`](Node::monitor) calls once when a port ends, or cannot be reached any more;
//! [`link`](Node::link) ends another port then, unless the end was a normal one; [`pair`](Node::pair) ends
//! both with each other; [`monitor_message`](Node::monitor_message) sends a message. A node is monitored by its
//! [own port](NodeId::port), and [`monitor_nodes`](Node::monitor_nodes) hears of all.
//!
//! From when a port is monitored, all messages to it arrive, in order; or from the first lost one on none does
//! until the monitor has been called. There are no holes. A loss that nobody monitors is not told to anyone. So:
//! monitor what you depend on, and let it monitor you.
//!
//! # Spawn
//!
//! [`spawn`](Node::spawn) makes a port on another node by calling a function there, which that node has
//! [registered](Node::register). Nothing else can be called from elsewhere. The name of the new port is known at
//! once, and may be sent to and monitored before the other node has heard of it.
//!
//! # Selective receive
//!
//! The body of a port can be an `async` function, which takes its messages from an [`Inbox`] in the order
//! that suits it: [`Node::port_async`]. What it does not take stays for later.
//!
//! # Supervision
//!
//! A [`Supervisor`] starts ports, and starts them again when they fail: [`Node::supervise`], with a
//! [`SupervisorSpec`] of [`ChildSpec`]s. It is a port itself, so supervisors supervise each other. Children may be
//! ports of other nodes, and [programs](ProgramSpec) in any language.
//!
//! # Nodes and configuration
//!
//! [`Node::alone`] is for one process. [`Node::start`] makes a node that others find, from
//! [`Settings`](config::Settings): a name, addresses to listen on, *seeds* to find the others at, a secret. They
//! come from the program ([`Config`](config::Config)) and from a file that whoever runs it keeps, and the
//! file wins. [Services](config::Service) in it are started by [`start_services`](Node::start_services). [`tool`] is
//! all of that as a program, `aemp`, and a program with services of its own can be one too.
//!
//! ```
//! use ports::Node;
//! use ports::config::Config;
//! use reactor::Reactor;
//!
//! let mut reactor = Reactor::new()?;
//! // Each in a process of its own, as a rule.
//! let config = |name| Config::new().norc().node_id(name).secret("we two").bind("127.0.0.1:0");
//! let first = Node::start(&mut reactor, &config("first").settings()?)?;
//! let second = config("second").seed(&first.listeners()[0]).settings()?;
//! let second = Node::start(&mut reactor, &second)?;
//!
//! let greeter = first.port(|context, (reply, name): (ports::PortId, String)| {
//!     context.send(&reply, format!("hello, {name}"));
//! });
//! let greeter = greeter.id();
//! let answer = second.request(&greeter, |reply| (reply, "second".to_owned()), None);
//! assert_eq!(reactor.block_on(&mut (), answer)?, Ok("hello, second".to_owned()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Database and groups
//!
//! All nodes share a [`database`] of families of keys with values. An entry belongs to the node that
//! [set](Node::db_set) it and goes with it. A [group](Node::grp_reg) is a family whose keys are ports: so a
//! program finds those it has never heard of, and [hears](Node::grp_mon) of those that come and go.
//!
//! What is too much for messages goes through a [data connection](Node::data_connection), a stream of its own. Logs of
//! other nodes can be [caught](Node::catch_logs).
//!
//! # Other threads
//!
//! A node and all its ports are one thread's, that of its [`Reactor`](reactor::Reactor). Other threads, and tasks
//! of other executors as tokio, have a [`NodeHandle`]: it sends, monitors and calls. A [`PortHandle`] is the fast way
//! to one port. Who wants to use several cores runs several nodes, or gives
//! long work to [`unblock`](reactor::task::Handle::unblock).
//!
//! # The wire
//!
//! Nodes speak AnyEvent::MP's protocol, version 2.x: a mutual proof that both know the secret, TLS if both have a
//! certificate ([`gencert`]), then lists in CBOR or JSON. What a turn of the loop has to send to a node goes out in
//! one write. What is malformed ends the connection. No other node can call anything that was not
//! [registered](Node::register), and with `secure` not even that.
//!
//! # Limits
//!
//! What strangers or slow nodes could fill is bounded: 4 KiB for each line of a handshake, 16 MiB and 64 levels
//! for a message, [64 MiB](Node::set_unsent_max) of messages that wait to go to one node (then the
//! connection counts as lost), 100,000 messages that wait for handlers (then nothing is read from other nodes),
//! [`INBOX_MAX`] that nobody asks for. Mailboxes have no bound for senders of the same node. The guide has them all.
//!
//! # Simulation
//!
//! In a [pretended world](reactor::simulated) nodes run in virtual time, over a network that fails by a seed; the
//! delivery guarantee is tested that way. A program does nothing for it but to ask the
//! node for the [time](Node::now).

mod base64;
mod certificate;
pub mod config;
mod data;
mod data_conn;
pub mod database;
mod exec;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod handshake;
mod id;
mod inbox;
mod log_catcher;
mod mesh;
mod message;
mod node;
mod pair;
mod port;
mod reason;
mod start;
mod supervisor;
pub mod tool;
mod value;
pub mod wire;

pub use certificate::{CertificateError, gencert};
pub use data::{Entry, Family, FamilyWatch, GroupChange};
pub use data_conn::DataConnError;
pub use exec::{ProgramError, ProgramSpec};
pub use handle::{NodeHandle, PortHandle};
pub use id::{IdError, NodeId, PORT_NAME_MAX, PortId};
pub use inbox::{INBOX_MAX, Inbox};
pub use log_catcher::{CaughtLog, LogCatcher, LogTap};
pub use mesh::{NodeEvent, NodeWatch};
pub use message::Message;
pub use node::context::Context;
pub use node::monitor::Monitor;
pub use node::outcome::Outcome;
pub use node::statistics::{PeerStatistics, Statistics};
pub use node::timer::Timer;
pub use node::{CallError, Node, ReceiveError, SpawnError};
pub use port::Port;
pub use reason::Reason;
pub use start::{ServiceError, StartError};
pub use supervisor::{ChildSpec, ChildStatus, Supervisor, SupervisorError, SupervisorSpec};
pub use value::{List, Value};

/// What the guide shows compiles, and runs where that is quick.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/ports.md")]
struct Guide;

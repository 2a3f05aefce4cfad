//! An event loop with buffered sockets: one thread, many connections, nothing that blocks.
//!
//! A [`Reactor`] owns sockets and timers and calls the program back. Each connection has a
//! [`Handler`]; all handlers share the program's state `S`, which every call gets as an argument.
//!
//! ```
//! use std::net::SocketAddr;
//! use reactor::{Accepted, Acceptor, Handler, HandlerError, ListenOptions, Reactor, Read, Reason, Token};
//!
//! /// Sends back whatever comes; the program's state counts the bytes.
//! struct Echo;
//!
//! impl Handler<usize> for Echo {
//!     fn readable(&mut self, token: Token, total: &mut usize, reactor: &mut Reactor<usize>) -> Result<(), HandlerError> {
//!         let mut bytes = [0; 4096];
//!         match reactor.read(token, &mut bytes)? {
//!             Read::Data(count) => {
//!                 *total += count;
//!                 reactor.write(token, bytes[..count].to_vec())?;
//!             }
//!             Read::WouldBlock => {}
//!             Read::Eof => reactor.close(token, "the peer is done"),
//!         }
//!         Ok(())
//!     }
//!     fn closed(&mut self, _: Token, _: Reason, _: &mut usize, reactor: &mut Reactor<usize>) {
//!         reactor.stop();
//!     }
//! }
//!
//! struct Door;
//!
//! impl Acceptor<usize> for Door {
//!     fn accepted(&mut self, _: Token, connection: Accepted, _: &mut usize, reactor: &mut Reactor<usize>) {
//!         reactor.attach(connection, Box::new(Echo)).expect("room for one more");
//!     }
//! }
//!
//! let mut reactor = Reactor::new()?;
//! let door = reactor.listen(SocketAddr::from(([127, 0, 0, 1], 0)), &ListenOptions::default(), Box::new(Door))?;
//! let addr = reactor.local_addr(door).expect("bound");
//! let client = std::thread::spawn(move || {
//!     use std::io::{Read, Write};
//!     let mut stream = std::net::TcpStream::connect(addr).expect("welcome");
//!     stream.write_all(b"hello").expect("sent");
//!     let mut answer = [0; 5];
//!     stream.read_exact(&mut answer).expect("answered");
//!     answer
//! });
//! let mut total = 0;
//! reactor.run(&mut total)?;
//! assert_eq!((total, &client.join().expect("no panic")), (5, b"hello"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Larger programs stand whole in [`examples`].
//!
//! # A turn
//!
//! The loop goes in *turns*: it waits for sockets, then each socket that is ready has its handler called
//! once, then due timers run, then what other threads [posted](Remote::post) and tasks that were woken,
//! then the [hooks](Reactor::on_turn_end); then everything that was written in this turn goes out,
//! gathered, and connections that ended hear of it; last come the [hooks](Reactor::on_flushed) of those who
//! make [channels](Channel). What a turn asks for is never forgotten in the wait
//! of the next: the loop sleeps only when nothing is left.
//!
//! # Tokens
//!
//! A [`Token`] names one connection, listener, or datagram socket, and never another: its slot may be
//! used again, with another generation. Whatever is done with the token of a connection that is over does
//! nothing or says so. A program keeps tokens where in other loops it would keep sockets.
//!
//! # Handlers
//!
//! A [`Handler`] is one connection's side of the program: `connected`, `readable`, `writable`, `full`,
//! `drained`, `closed`. There are an [`Acceptor`] for a listener and a [`DatagramHandler`] for a datagram
//! socket; timers, hooks, [signals](Reactor::on_signal) and [watched](Reactor::watch) descriptors call
//! closures. Each gets the state `S` and the reactor, so that a handler may open, write to and close any
//! connection. An error that a handler returns, or a panic, ends its connection and nothing else.
//!
//! Readiness is a level, not an edge: a handler that leaves bytes unread is called again next turn; one
//! that does not read at all, later and later, so that nothing spins.
//!
//! Who would rather write `async` code finds [`task`]: futures on the same loop, with the same sockets.
//! Both kinds mix in one program.
//!
//! # Budgets
//!
//! One turn does only so much for one: [`Budgets`] says how many bytes a connection may read and write,
//! how many connections a listener takes in, how many timers fire. A peer that floods gets one call a turn
//! like everyone else, and after a MiB its [`read`](Reactor::read) says `WouldBlock`. What is left is
//! done next turn, without a wait. How fast bytes may go at all is a [`Rate`], for one connection or for
//! a [group](RateGroup).
//!
//! # Back pressure
//!
//! Every connection has a write queue of bytes, parts of files, and callbacks, with a high and a low mark.
//! At the high one a write says [`Progress::Full`]; the queue takes what it is given all the same, so a
//! program that passes bytes on [pauses](Reactor::pause) their source then, and
//! [resumes](Reactor::resume) it when `drained` is called.
//!
//! # Closing
//!
//! [`close`](Reactor::close) is at once: what is queued is dropped. [`close_after_flush`](Reactor::close_after_flush)
//! is in good order: what is queued goes out first, the peer is told that this was all, and its last
//! words do no harm. [`finish`](Reactor::finish) ends our half only. However a connection ends,
//! `closed` is called once with the [`Reason`], at the end of the turn; a [timeout](Reactor::set_idle_timeout)
//! is a reason too. [`take`](Reactor::take) is the way out without an end.
//!
//! The loop itself ends with [`stop`](Reactor::stop). Signals do what they do in any program until
//! [`on_signal`](Reactor::on_signal) asks for them, so that Ctrl-C ends the process at once. A server that
//! would rather part in good order closes its listener on [`SIGTERM`](signal::SIGTERM), then its
//! connections with `close_after_flush`, and stops when the last of them is `closed`; `chat` among the
//! [`examples`] does.
//!
//! # Other threads
//!
//! A reactor is one thread's. Others hold a [`Remote`]: it posts closures to the loop, and stops it. What
//! blocks goes [to worker threads](Reactor::offload): look-ups, files, anything; what may hang, to a
//! [pool of its own](Reactor::offload_on). Several reactors in a
//! process share nothing, but a connection can be [handed over](Detached), and a port
//! [shared](ListenOptions::reuse_port).
//!
//! Every descriptor is closed when the process runs another program. After a fork without that, parent and
//! child would share what the kernel knows of the loop: a child makes a reactor of its own, and touches
//! the inherited one no more.
//!
//! # Simulation
//!
//! [`Reactor::simulated`] runs the same program in a [pretended world](simulated), where the network
//! misbehaves by a seed and time costs nothing: what a program does there it does again. Such a program
//! asks the reactor for the time and for random numbers, by [`now`](Reactor::now) and
//! [`random`](Reactor::random).
//!
//! # Coming from tokio or mio
//!
//! | there | here |
//! | --- | --- |
//! | `mio::Poll`, `Events`, `Interest` | [`Reactor`], which owns the sockets; a [`Handler`] instead of a match on tokens |
//! | edges: read until `WouldBlock` | a level: read once, and be called again |
//! | `Runtime`, `block_on` | [`Reactor::new`] and [`block_on`](Reactor::block_on), or [`spawn`](Reactor::spawn) and [`run`](Reactor::run) until somebody [stops](Reactor::stop) it; never on several threads |
//! | `tokio::spawn` | [`Handle::spawn`](task::Handle::spawn); nothing is global, so a task keeps a clone of the handle. Futures need not be `Send` |
//! | `Arc<Mutex<…>>` for what is shared | the state `S`, by [`Handle::with`](task::Handle::with); `Rc` and `RefCell` |
//! | `TcpStream`, `AsyncReadExt`, `split` | [`AsyncStream`](task::AsyncStream), which has the traits of `futures-io`; `futures-lite` brings their methods. `&AsyncStream` reads and writes too |
//! | `shutdown` | `close` of `AsyncWriteExt`: our half only, reading goes on |
//! | `abort` of a `JoinHandle` | [`cancel`](task::JoinHandle::cancel) |
//! | `sleep`, `timeout`, `interval` | [`Handle::sleep`](task::Handle::sleep) and so on; handlers have [`add_timer`](Reactor::add_timer) |
//! | `select!`, `join!` | `or` and `zip` of `futures-lite` |
//! | `spawn_blocking`, `tokio::fs` | [`unblock`](task::Handle::unblock), [`AsyncFile`](task::AsyncFile); [`offload`](Reactor::offload) |
//! | `ToSocketAddrs` | an [`Address`], of a `SocketAddr`, an address and a port, or a path; names: [`resolve`](Reactor::resolve) |
//! | `sync::mpsc` and the like | any channel that needs no runtime; from other threads [`Remote::post`] |
//! | `signal::ctrl_c` | [`Handle::signal`](task::Handle::signal); handlers have [`on_signal`](Reactor::on_signal) |
//! | `time::pause`, turmoil | a [simulated] world |
//!
//! # Features
//!
//! `tls` adds `Tls`, a [`Transport`] of rustls. It brings no cryptography: the program depends on rustls
//! too, with `ring` or another provider.

mod address;
mod backend;
mod core;
// The page of examples. A build leaves it out; doctests see to it that what it shows compiles.
#[cfg(any(doc, doctest))]
pub mod examples;
mod guard;
mod handler;
mod histogram;
mod inbox;
mod interest;
mod interface;
mod multicast;
mod options;
mod pools;
mod profile;
mod reactor;
mod remote;
pub mod simulated;
pub mod task;
mod timer_wheel;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod transport;
mod worker_pool;
mod write_queue;

pub use bytes;
#[cfg(feature = "tls")]
pub use rustls;
pub use signal_hook::consts::signal;

pub use address::Address;
pub use backend::{Backend, DatagramBatch, Event, RawSocket, Source, Wake, lower_priority};
pub use core::{Direction, Rate};
pub use guard::{Cork, HookGuard, IntervalGuard, RateGroup, TimerGuard, WatchGuard};
pub use handler::{
    Accepted, Acceptor, Closed, DatagramHandler, Handler, HandlerError, Progress, Read, Reason,
};
pub use histogram::Histogram;
pub use interest::{Interest, Readiness};
pub use interface::interface_addrs;
pub use multicast::{Interface, Multicast};
pub use options::{Budgets, ConnectOptions, ListenOptions};
pub use pools::PoolKey;
pub use profile::{Phase, Profile, ProfileRow, Slow};
pub use reactor::{Detached, Info, Reactor, Taken};
pub use remote::{Gone, Remote};
pub use timer_wheel::TimerId;
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use token::Token;
pub use transport::{Channel, Transport, Wire};
pub use worker_pool::PoolOptions;
pub use write_queue::Chunk;

/// What [`inbox`] is made of. Its test under loom has a module of the same name with loom's.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    /// Runs a test that loom would run in every order.
    #[cfg(test)]
    pub(crate) fn model(test: impl Fn()) {
        test();
    }
}

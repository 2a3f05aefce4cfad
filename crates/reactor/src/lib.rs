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
//! # A turn
//!
//! The loop goes in turns: due timers run, then the loop waits for sockets, then each ready
//! connection's handler is called once, then what other threads [posted](Remote::post) runs, then
//! everything written in this turn goes out, then connections that ended hear of it. What one turn
//! asks for is never forgotten in the wait of the next: the loop only sleeps when nothing is left.
//!
//! Readiness is a level, not an edge: a handler that leaves bytes unread is called again next turn.
//! A peer that floods gets one call a turn, like everyone else.
//!
//! # Simulation
//!
//! [`Reactor::simulated`] runs the same handlers in a [pretended world](simulated), where the network
//! misbehaves by a seed and time costs nothing: what a program does there it does again.
//!
//! # Tokens
//!
//! A [`Token`] names one connection and never another: its slot may be used again, with another
//! generation. Whatever is done with the token of a connection that is over does nothing or says so.

mod backend;
mod handler;
mod options;
mod reactor;
mod remote;
pub mod simulated;
mod stream;
mod timer;
mod token;
mod worker_pool;
mod write_queue;

pub use backend::{Backend, Event, Source, Wake};
pub use handler::{
    Accepted, Acceptor, Closed, DatagramHandler, Handler, HandlerError, Read, Reason,
};
pub use options::{ConnectOptions, ListenOptions};
pub use reactor::Reactor;
pub use remote::{Gone, Remote};
pub use timer::TimerId;
pub use token::Token;

//! Whole programs, as they stand in the crate's `examples` folder. Each runs by
//! `cargo run -p reactor --example NAME`, says where it listens, and ends with Ctrl-C; `--help` tells its
//! arguments.
//!
//! | example | shows |
//! | --- | --- |
//! | [`echo`](#echo) | a handler, back pressure, an end in good order |
//! | [`async_echo`](#async_echo) | the same with tasks, and how a task gets at the program's state |
//! | [`chat`](#chat) | a state that all connections share, lines, Unix sockets, signals, a graceful stop |
//! | [`lockd`](#lockd) | a protocol of requests and answers, socket options |
//! | [`proxy`](#proxy) | several kinds of handlers that take turns on one connection, files |
//!
//! # echo
//!
//! ```no_run
#![doc = include_str!("../examples/echo.rs")]
//! ```
//!
//! # async_echo
//!
//! ```no_run
#![doc = include_str!("../examples/async_echo.rs")]
//! ```
//!
//! # chat
//!
//! ```no_run
#![doc = include_str!("../examples/chat.rs")]
//! ```
//!
//! # lockd
//!
//! ```no_run
#![doc = include_str!("../examples/lockd.rs")]
//! ```
//!
//! # proxy
//!
//! A reverse proxy for HTTP/1.1 in several files, `examples/proxy`: a pool of backends whose connections
//! are used again, files that go from disk to socket by [`Chunk::File`](crate::Chunk::File), bodies that
//! go no faster than the slower side, timeouts everywhere, and a graceful stop. A connection is given
//! another handler ([`Reactor::set_handler`](crate::Reactor::set_handler)) as what it does changes.

//! The examples, run as a user runs them: as programs, each a node of one network.
//!
//! The network has a seed, a node of the test's own, as `aemp run profile seed` would be.

mod chat;
mod file;
mod irc;
mod receiver;
mod workers;
mod world;

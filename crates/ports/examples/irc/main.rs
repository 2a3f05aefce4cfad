//! A small server of the kind of IRC, as a service: all nodes that run it are one network.
//!
//! The program is `aemp` with a module `irc`, which a profile starts. With
//! `alias irc='cargo run -q -p ports --example irc --'` and `export PERL_ANYEVENT_MP_RC=/tmp/rc` in all
//! terminals, say once
//!
//! ```text
//! irc gensecret
//! irc profile ruth nodeid ruth binds 127.0.0.1:4040 services irc::
//! irc profile doom nodeid doom seeds 127.0.0.1:4040 services irc::
//! ```
//!
//! Then `irc run profile ruth` in one terminal, `IRC_LISTEN=127.0.0.1:6668 irc run profile doom` in another,
//! and `nc 127.0.0.1 6667` and `nc 127.0.0.1 6668` in two more, with lines like `NICK anna`, `JOIN #rust`,
//! `PRIVMSG #rust :hello`, `PART #rust`, `QUIT`. End one of the servers, and its users are gone on the other.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::process::ExitCode;

mod server;
mod user;

fn main() -> ExitCode {
    ports::tool::main(|node| node.register_module("irc", server::load))
}

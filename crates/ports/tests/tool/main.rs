//! The tool, as it is typed: `aemp` in a home of its own, with nodes on this machine.

mod home;
mod nodes;
mod settings;
mod terminal;

//! Ports of one node, and of two that meet: one file for each thing that a program can do.

mod calls;
mod context;
mod ends;
mod freeing;
mod harness;
mod monitors;
mod node_port;
mod receiving;
mod selective;
mod spawning;
mod threads;
mod turns;
mod types;

//! What the reactor promises, played on the real network and on simulated ones.

mod connections;
mod endings;
mod fairness;
mod simulation;
mod stage;
mod threads;
mod timers;
mod udp;
mod water;

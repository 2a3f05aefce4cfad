//! What the simulated backend promises to the loop above it, asked of it directly.

mod connections;
mod datagrams;
mod handing_over;
mod limits;
mod same_again;
mod stage;

//! The tool for nodes, as it comes: with no services of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    ports::tool::main(|_node| {})
}

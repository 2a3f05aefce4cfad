//! Moves big files between machines with BitTorrent: the program.

mod cli;
mod commands;
mod config;
mod failure;
mod interrupt;
mod json;
mod source;
mod terminal;
mod text;
mod tracker_host;
mod values;
mod watch;
mod ways;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::interrupt::INTERRUPTED;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    let terminal = Terminal::new();
    let done = config::parse(std::env::args_os()).and_then(|cli| {
        log_to_stderr(cli.verbose);
        commands::run(cli.command, &terminal)
    });
    match done {
        Ok(()) => match terminal.loss() {
            None => ExitCode::SUCCESS,
            Some(error) => {
                terminal.complain(&format!("cannot write the output: {error}"));
                ExitCode::FAILURE
            }
        },
        Err(Failure::Usage(why)) => {
            terminal.complain(&why);
            ExitCode::from(2)
        }
        Err(Failure::Failed(why)) => {
            terminal.complain(&why);
            ExitCode::FAILURE
        }
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Interrupted) => ExitCode::from(INTERRUPTED as u8),
    }
}

/// Errors only by default: what people should know is printed by the commands.
fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter =
        EnvFilter::try_from_env("FLOTILLA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

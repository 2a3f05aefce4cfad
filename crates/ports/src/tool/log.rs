//! What is logged, to the standard error.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::LogTap;

/// Logs as the environment says: `RUST_LOG` in that one's way, or `AE_VERBOSE` with a number from 0 to 9
/// as AnyEvent has them. Other nodes can catch from the tap whatever they like.
pub(super) fn begin(default: &str) -> LogTap {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let verbose = variable("PERL_ANYEVENT_VERBOSE").or_else(|| variable("AE_VERBOSE"));
    let asked = variable("RUST_LOG").and_then(|text| EnvFilter::try_new(text).ok());
    let filter = asked.unwrap_or_else(|| {
        let level = verbose.as_deref().and_then(level_of).unwrap_or(default);
        EnvFilter::new(format!("{level},ports::trace=info"))
    });
    let shown = fmt::layer()
        .with_writer(std::io::stderr)
        // Its complaint about a standard error that is gone would be a panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let tap = LogTap::new();
    // If the program has a log of its own, that is as good.
    drop(tracing_subscriber::registry().with(shown).with(tap.clone()).try_init());
    tap
}

/// The level that goes by a number, or a name and what comes behind, with AnyEvent.
fn level_of(verbose: &str) -> Option<&'static str> {
    let number: String = verbose.chars().take_while(char::is_ascii_digit).collect();
    match number.parse::<u32>().ok()? {
        0 => Some("off"),
        1..=4 => Some("error"),
        5 => Some("warn"),
        6..=7 => Some("info"),
        8 => Some("debug"),
        _ => Some("trace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_levels() {
        for (verbose, level) in [
            ("0", Some("off")),
            ("4", Some("error")),
            ("5", Some("warn")),
            ("7", Some("info")),
            ("8", Some("debug")),
            ("9", Some("trace")),
            ("19", Some("trace")),
            ("much", None),
        ] {
            assert_eq!(level_of(verbose), level, "{verbose}");
        }
    }
}

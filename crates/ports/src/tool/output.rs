//! Where the tool prints.
//!
//! A reader that has seen enough, as `head`, is no trouble: what is printed from then on goes nowhere.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints a line.
pub(super) fn line(text: &str) {
    text_as_it_is(&format!("{text}\n"));
}

/// Prints, and has it seen at once.
pub(super) fn text_as_it_is(text: &str) {
    if is_closed() {
        return;
    }
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        IS_CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Whether nobody reads any more what is printed.
pub(super) fn is_closed() -> bool {
    IS_CLOSED.load(Ordering::Relaxed)
}

/// Says what is wrong, where people see it who have sent the output elsewhere.
pub(super) fn complain(text: &str) {
    let mut err = io::stderr().lock();
    // If nobody hears it, nobody can be told that either.
    let _nobody_hears = writeln!(err, "{}", printable(text));
}

/// What others have sent, without what would move the cursor or ring the bell.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

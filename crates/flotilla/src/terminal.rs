//! The only place that prints. Whatever a stranger named is shown without control characters, and
//! nothing here panics when the reader of a pipe goes away.

use std::cell::{OnceCell, RefCell};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use torrent::text::Clean;

/// Standard output and standard error, and the lines at the bottom that change.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// `None` if standard output is a pipe or a file.
    live: Option<Live>,
    /// Why nothing can be printed any more.
    lost: OnceCell<io::Error>,
}

#[derive(Debug)]
struct Live {
    term: Term,
    lines: MultiProgress,
    bars: RefCell<Vec<ProgressBar>>,
    changes: Changes,
}

/// Whether there are lines at the bottom that change. Clones share it.
#[derive(Clone, Debug, Default)]
struct Changes(Arc<AtomicBool>);

impl Changes {
    fn set(&self, are_there: bool) {
        self.0.store(are_there, Ordering::Relaxed);
    }
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let live = io::stdout().is_terminal().then(|| {
            let changes = Changes::default();
            let screen = Screen { term: Term::buffered_stdout(), changes: changes.clone() };
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen), 10);
            let lines = MultiProgress::with_draw_target(target);
            Live { term: Term::stdout(), lines, bars: RefCell::default(), changes }
        });
        Self { live, lost: OnceCell::new() }
    }

    /// Whether a person looks at it.
    pub(crate) const fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Whether nothing can be printed any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Why something that was to be printed is lost, unless its reader wanted no more of it.
    pub(crate) fn loss(&self) -> Option<&io::Error> {
        self.lost.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    /// Rows and columns, as they are now.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.live.as_ref().map_or((24, 80), |live| live.term.size());
        (rows.into(), columns.into())
    }

    /// A line of result, on standard output.
    pub(crate) fn line(&self, text: &str) {
        let text = clean(text);
        match &self.live {
            Some(live) => self.check(live.lines.println(text)),
            None => self.check(writeln!(io::stdout(), "{text}")),
        }
    }

    /// A line for people about what went wrong, on standard error.
    pub(crate) fn complain(&self, text: &str) {
        let complaint = || writeln!(io::stderr(), "flotilla: {}", clean(text));
        let written = match &self.live {
            Some(live) => live.lines.suspend(complaint),
            None => complaint(),
        };
        // There is no one left to tell.
        written.ok();
    }

    /// Bytes as they are, on standard output.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout();
        self.check(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// Shows these lines at the bottom in place of those before. Nothing if nobody looks.
    pub(crate) fn show(&self, lines: &[String]) {
        let Some(live) = &self.live else { return };
        live.changes.set(!lines.is_empty());
        let mut bars = live.bars.borrow_mut();
        while bars.len() > lines.len() {
            if let Some(bar) = bars.pop() {
                live.lines.remove(&bar);
            }
        }
        if lines.is_empty() {
            // Were this to fail, a stale line would stay on the screen; no more.
            live.lines.clear().ok();
        }
        while bars.len() < lines.len() {
            let style = ProgressStyle::with_template("{msg}").expect("a valid template");
            bars.push(live.lines.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (bar, line) in bars.iter().zip(lines) {
            bar.set_message(clean(line));
        }
    }

    /// A bar for so many bytes of work; hidden if nobody looks.
    pub(crate) fn bar(&self, what: &str, len: u64) -> Bar {
        let Some(live) = &self.live else {
            return Bar { bar: ProgressBar::hidden(), changes: Changes::default() };
        };
        live.changes.set(true);
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar =
            live.lines.add(ProgressBar::new(len).with_style(style).with_prefix(what.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar, changes: live.changes.clone() }
    }

    fn check(&self, written: io::Result<()>) {
        if let Err(error) = written {
            // The first is the one to tell.
            self.lost.get_or_init(|| error);
        }
    }
}

/// How far some work is.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    changes: Changes,
}

impl Bar {
    pub(crate) fn inc(&self, len: u64) {
        self.bar.inc(len);
    }

    pub(crate) fn finish_and_clear(&self) {
        self.changes.set(false);
        self.bar.finish_and_clear();
    }
}

/// Standard output, whose cursor waits at the beginning of the last line that changes. It would wait behind its end,
/// and the `^C` that a terminal writes there would go on in another line: then those above are not found any
/// more, and stay.
#[derive(Debug)]
struct Screen {
    term: Term,
    changes: Changes,
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        TermLike::width(&self.term)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.term)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.term.move_cursor_up(count)
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.term.move_cursor_down(count)
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.term.move_cursor_right(count)
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.term.move_cursor_left(count)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.term.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        TermLike::write_str(&self.term, text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        if self.changes.0.load(Ordering::Relaxed) {
            TermLike::write_str(&self.term, "\r")?;
        }
        self.term.flush()
    }
}

/// Text without anything that a terminal obeys.
fn clean(text: &str) -> String {
    Clean(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_command_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\r\n\u{202e}c\u{9b}é漢"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}é漢"
        );
    }
}

//! What a program says, line by line, in the log.

use std::os::fd::OwnedFd;

use reactor::{Handler, HandlerError, Reactor, Read, Reason, Token};

/// Which of its outputs, and whose.
pub(super) enum Kind {
    Output(String),
    Error(String),
}

/// Takes an output to the log.
struct Lines {
    kind: Kind,
    /// The beginning of a line; at most [`LINE_LEN_MAX`].
    partial: Vec<u8>,
    /// The line was too long: what is left of it is dropped.
    is_cut: bool,
}

/// The most of a line that is logged, in bytes.
const LINE_LEN_MAX: usize = 8 << 10;

/// Logs what comes, until the end.
pub(super) fn log(output: OwnedFd, kind: Kind, reactor: &mut Reactor<()>) {
    let lines = Lines { kind, partial: Vec::new(), is_cut: false };
    if let Err(error) = reactor.register(output, Box::new(lines)) {
        tracing::error!("the output of a program cannot be read: {error}");
    }
}

impl Lines {
    fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(&Kind, &str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let line = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LINE_LEN_MAX - self.partial.len();
            self.is_cut |= line.len() > room;
            self.partial.extend_from_slice(&line[..line.len().min(room)]);
            if line.len() < piece.len() {
                self.end_line(&mut tell);
            }
        }
    }

    fn end_line(&mut self, tell: &mut impl FnMut(&Kind, &str)) {
        // Whoever reads the log has a terminal that a program must not command.
        let shown =
            |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
        let line = String::from_utf8_lossy(self.partial.trim_ascii_end());
        let mut line: String = line.chars().map(shown).collect();
        if std::mem::take(&mut self.is_cut) {
            line.push('…');
        }
        tell(&self.kind, &line);
        self.partial.clear();
    }

    /// A last line without its end is one too.
    fn finish(&mut self) {
        if !self.partial.is_empty() {
            self.end_line(&mut tell);
        }
    }
}

fn tell(kind: &Kind, line: &str) {
    match kind {
        Kind::Output(name) => tracing::info!("{name}: {line}"),
        Kind::Error(name) => tracing::warn!("{name}: {line}"),
    }
}

impl Handler<()> for Lines {
    fn readable(
        &mut self,
        token: Token,
        (): &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        let mut buffer = [0; 4096];
        match reactor.read(token, &mut buffer)? {
            Read::Data(count) => self.take(&buffer[..count], tell),
            Read::WouldBlock => {}
            Read::Eof => reactor.close(token, "the program has closed it"),
        }
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, (): &mut (), _: &mut Reactor<()>) {
        self.finish();
    }

    fn kind(&self) -> &'static str {
        "output of a program"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines =
            Lines { kind: Kind::Output(String::new()), partial: Vec::new(), is_cut: false };
        let mut told = Vec::new();
        for piece in pieces {
            lines.take(piece, |_, line| told.push(line.to_owned()));
        }
        told
    }

    #[test]
    fn lines_come_in_any_pieces() {
        assert_eq!(lines(&[b"a", b"b\nc", b"\n", b"\r\n", b"d"]), ["ab", "c", ""]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(lines(&[b"a\x1b[2Jb\tc\xff\n"]), ["a\u{fffd}[2Jb\tc\u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; 3 * LINE_LEN_MAX];
        let told = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!(told[0].len(), LINE_LEN_MAX + '…'.len_utf8());
        assert_eq!(told[1], "next");
    }

    #[test]
    fn any_bytes_in_any_pieces_are_the_same_lines() {
        for seed in 1..=1000_u64 {
            let mut state = seed;
            let mut next = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let bytes: Vec<u8> = (0..next(300))
                .map(|_| if next(8) == 0 { b'\n' } else { next(256) as u8 })
                .collect();
            let cut = next(bytes.len() as u64 + 1) as usize;
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(lines(&[head, tail]), lines(&[&bytes]), "seed {seed}");
        }
    }
}

//! JSON as Perl's tool reads it from its file: also with comments from `#` to the end of the line, commas
//! before a closing bracket, tabs within strings, and a byte order mark.
//!
//! These are blanked with spaces before the text goes to a strict parser, so that the lines and columns of its
//! complaints are those of the file.

use serde_json::Value as Json;

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) problem: String,
}

/// Reads one value and nothing after it.
pub(super) fn parse(bytes: &[u8]) -> Result<Json, Fault> {
    let strict = Strict::from_relaxed(bytes);
    serde_json::from_slice(&strict.text).map_err(|error| strict.fault(&error))
}

struct Strict {
    text: Vec<u8>,
    /// Where in `text` a byte stands that the original does not have: a tab takes one there and two here.
    added: Vec<usize>,
}

impl Strict {
    fn from_relaxed(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let mut strict = Self { text: Vec::with_capacity(bytes.len()), added: Vec::new() };
        let mut state = State::Outside;
        // The last byte outside of strings that is neither space nor comment.
        let mut previous = 0;
        // Where the comma stands that `previous` is, if it follows a value: it goes if a bracket closes next.
        let mut comma = None;
        for &byte in bytes {
            match (state, byte) {
                (State::Comment, b'\n' | b'\r') => state = State::Outside,
                (State::Comment, _) => {
                    strict.text.push(b' ');
                    continue;
                }
                (State::Escaped, _) => state = State::Text,
                (State::Text, b'\\') => state = State::Escaped,
                (State::Text, b'"') => state = State::Outside,
                (State::Text, b'\t') => {
                    strict.added.push(strict.text.len());
                    strict.text.extend(b"\\t");
                    continue;
                }
                (State::Text, _) => {}
                (State::Outside, b'#') => {
                    state = State::Comment;
                    strict.text.push(b' ');
                    continue;
                }
                (State::Outside, b' ' | b'\t' | b'\n' | b'\r') => {}
                (State::Outside, _) => {
                    if let (b']' | b'}', Some(at)) = (byte, comma)
                        && let Some(place) = strict.text.get_mut(at)
                    {
                        *place = b' ';
                    }
                    let follows_value = !matches!(previous, 0 | b'[' | b'{' | b',' | b':');
                    comma = (byte == b',' && follows_value).then_some(strict.text.len());
                    previous = byte;
                    if byte == b'"' {
                        state = State::Text;
                    }
                }
            }
            strict.text.push(byte);
        }
        strict
    }

    fn fault(&self, error: &serde_json::Error) -> Fault {
        let text = error.to_string();
        let problem =
            text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _place)| problem);
        let line_start: usize = self
            .text
            .split_inclusive(|&byte| byte == b'\n')
            .take(error.line().saturating_sub(1))
            .map(<[u8]>::len)
            .sum();
        let here = line_start..line_start.saturating_add(error.column());
        let added = self.added.iter().filter(|at| here.contains(at)).count();
        let column = error.column().saturating_sub(added);
        Fault { line: error.line(), column, problem: problem.to_owned() }
    }
}

#[derive(Clone, Copy)]
enum State {
    Outside,
    Comment,
    Text,
    Escaped,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_trailing_commas_tabs_and_a_byte_order_mark_are_let_pass() {
        let text = b"\xef\xbb\xbf{ # the file\r\n\"a\": [1, 2, # two\n ], # list\n \"b\": \"x # \\\" ,] \t\", } # end";
        assert_eq!(parse(text), Ok(json!({ "a": [1, 2], "b": "x # \" ,] \t" })));
    }

    #[test]
    fn a_comma_without_a_value_before_it_is_a_fault() {
        for text in ["[,]", "{,}", "[1,,]", "[1,,2]", "{\"a\":,}", ",", "[1],"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn faults_are_at_their_place_in_the_file_as_it_is() {
        let fault = parse(b"{ # one\n  \"a\": [1,], \"b\" 7\n}").expect_err("a colon is missing");
        assert_eq!((fault.line, fault.column), (2, 18));
        assert_eq!(fault.problem, "expected `:`");
        let fault = parse(b"[\n\"\t\", \"\t\" 7]").expect_err("a comma is missing");
        assert_eq!((fault.line, fault.column), (2, 10), "a tab is one byte");
    }

    #[test]
    fn text_that_is_not_utf8_is_a_fault_with_its_place() {
        let fault = parse(b"{\n\"a\": \"\xff\"}").expect_err("not UTF-8");
        assert_eq!(fault.line, 2);
    }

    #[test]
    fn deep_nesting_is_a_fault_and_not_the_end_of_the_stack() {
        assert!(parse(&vec![b'['; 1 << 20]).is_err());
    }
}

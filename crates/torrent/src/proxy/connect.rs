//! CONNECT of HTTP from the client's side: one request, and the head of one answer.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Login, ProxyFault, Target};

/// One connection to an HTTP proxy, until it lets us through.
#[derive(Debug)]
pub(super) struct ConnectConversation {
    transmit: Option<Vec<u8>>,
    /// The head of the answer as far as it has come.
    head: Vec<u8>,
    /// How long all heads were, at most [`HEAD_LEN_MAX`]: a proxy may say "wait" before it says what is.
    heads_len: usize,
    is_over: bool,
    has_login: bool,
}

impl ConnectConversation {
    pub(super) fn new(target: &Target, login: Option<&Login>) -> Self {
        // A target has no character that could begin another line.
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(login) = login {
            request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", login.basic()));
        }
        request.push_str("\r\n");
        Self {
            transmit: Some(request.into_bytes()),
            head: Vec::new(),
            heads_len: 0,
            is_over: false,
            has_login: login.is_some(),
        }
    }

    pub(super) const fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, ProxyFault> {
        let mut used: usize = 0;
        for &byte in bytes {
            if self.is_over {
                break;
            }
            if self.heads_len >= HEAD_LEN_MAX {
                return Err(ProxyFault::TooLong);
            }
            self.heads_len = self.heads_len.saturating_add(1);
            self.head.push(byte);
            used = used.saturating_add(1);
            let started = self.head.len().min(HTTP.len());
            if self.head.get(..started) != HTTP.get(..started) {
                return Err(ProxyFault::WrongProtocol);
            }
            if self.head.ends_with(b"\r\n\r\n") || self.head.ends_with(b"\n\n") {
                self.handle_head()?;
            }
        }
        Ok(used)
    }

    fn handle_head(&mut self) -> Result<(), ProxyFault> {
        match status(&self.head) {
            // Another head follows.
            Some(100..=199) => self.head.clear(),
            Some(200..=299) => {
                self.is_over = true;
                self.head = Vec::new();
            }
            Some(407) if self.has_login => return Err(ProxyFault::LoginRefused),
            Some(407) => return Err(ProxyFault::LoginWanted),
            Some(status) => return Err(ProxyFault::HttpStatus(status)),
            None => return Err(ProxyFault::WrongProtocol),
        }
        Ok(())
    }
}

/// The status of an answer: `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next()?;
    let status = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    (100..=599).contains(&status).then_some(status)
}

const HTTP: &[u8] = b"HTTP/1.";
/// Longer than the head of any proxy's answer.
const HEAD_LEN_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn conversation(login: Option<&Login>) -> ConnectConversation {
        ConnectConversation::new(&Target::new("2001:db8::1", 6881).expect("valid"), login)
    }

    #[test]
    fn connects_and_leaves_the_peers_bytes_alone() {
        let login = Login::new("Aladdin".to_owned(), "open sesame".to_owned()).expect("short");
        let mut http = conversation(Some(&login));
        let request = String::from_utf8(http.poll_transmit().expect("a request")).expect("text");
        assert_eq!(
            request,
            "CONNECT [2001:db8::1]:6881 HTTP/1.1\r\nHost: [2001:db8::1]:6881\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
        let answer = b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n\x13Bit";
        assert_eq!(http.handle_bytes(answer), Ok(answer.len() - 4));
        assert!(http.is_over());
        assert_eq!(http.handle_bytes(b"Torrent"), Ok(0));
    }

    #[test]
    fn tells_what_is_wrong() {
        let answered = |answer: &[u8]| conversation(None).handle_bytes(answer).err();
        assert_eq!(answered(b"HTTP/1.1 407 No\r\n\r\n"), Some(ProxyFault::LoginWanted));
        assert_eq!(answered(b"HTTP/1.1 403 No\n\n"), Some(ProxyFault::HttpStatus(403)));
        assert_eq!(answered(b"\x05\x00"), Some(ProxyFault::WrongProtocol));
        assert_eq!(answered(b"HTTP/1.1 OK\r\n\r\n"), Some(ProxyFault::WrongProtocol));
        let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
        endless.resize(HEAD_LEN_MAX + 1, b'x');
        assert_eq!(answered(&endless), Some(ProxyFault::TooLong));
        assert_eq!(answered(&endless[..HEAD_LEN_MAX]), None);
        let patient = b"HTTP/1.1 100 Wait\r\n\r\n".repeat(HEAD_LEN_MAX);
        assert_eq!(answered(&patient), Some(ProxyFault::TooLong));
    }

    #[test]
    fn survives_any_proxy() {
        for seed in 0..1000 {
            let mut noise = Rng::from_seed(seed);
            let mut http = conversation(None);
            http.handle_bytes(b"HTTP/1.").expect("so far it is right");
            let alphabet = b"0123 \r\n\n\nOK\xff";
            for _ in 0..20 {
                let bytes: Vec<u8> = (0..noise.u32() % 64)
                    .map(|_| alphabet[noise.u32() as usize % alphabet.len()])
                    .collect();
                if http.handle_bytes(&bytes).is_err() {
                    break;
                }
            }
        }
    }
}

//! Where a proxy is, as people write it: `socks5://user:password@host:1080`, `http://host:8080`.

use std::fmt;
use std::str::FromStr;

/// Where a proxy is, what it speaks, and who we are to it.
///
/// Read from `SCHEME://[USER:PASSWORD@]HOST[:PORT]`. The scheme is `socks5`, `socks5h` (the same: names are
/// always looked up by the proxy) or `http`; the port is 1080 or 8080 if there is none. In user and password
/// `%40` stands for `@`, and so on. As text it has no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUrl {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who we are to it.
    pub login: Option<Login>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS5: connections, and datagrams if it supports UDP ASSOCIATE.
    Socks5,
    /// HTTP: connections by CONNECT, and no datagrams.
    Http,
}

/// A user name and a password of at most 255 bytes each. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

/// Why a text is no proxy's address. It never has the text in it: there may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Another scheme, or none.
    #[error("it must begin with socks5://, socks5h:// or http://")]
    Scheme,
    /// No host, or one that cannot be.
    #[error("it names no host: it should look like socks5://HOST:PORT")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// A user name or password that cannot be sent.
    #[error("its user name and password must have 1 to 255 bytes each; write % as %25, @ as %40")]
    Login,
}

impl Login {
    /// # Errors
    /// If one of them is empty or longer than 255 bytes, or the name has a colon in it, which HTTP cannot say.
    pub fn new(user: String, password: String) -> Result<Self, ProxyUrlError> {
        let fits = |text: &str| (1..=255).contains(&text.len());
        let is_sound = fits(&user) && fits(&password) && !user.contains(':');
        if is_sound { Ok(Self { user, password }) } else { Err(ProxyUrlError::Login) }
    }

    /// The user name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// As SOCKS5 has it (RFC 1929).
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        for text in [&self.user, &self.password] {
            out.push(u8::try_from(text.len()).expect("a login is short"));
            out.extend(text.as_bytes());
        }
        out
    }

    /// As HTTP has it (RFC 7617).
    pub(super) fn basic(&self) -> String {
        base64(format!("{}:{}", self.user, self.password).as_bytes())
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(ProxyUrlError::Scheme)?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "http" => ProxyKind::Http,
            _ => return Err(ProxyUrlError::Scheme),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(self::login(login)?), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(ProxyUrlError::Port)?)),
            None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let usual = match kind {
            ProxyKind::Socks5 => 1080,
            ProxyKind::Http => 8080,
        };
        let port =
            port.map_or(Ok(usual), |port| port.parse().map_err(|_error| ProxyUrlError::Port))?;
        if port == 0 {
            return Err(ProxyUrlError::Port);
        }
        let is_host = !host.is_empty()
            && host.len() <= 255
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
        if !is_host {
            return Err(ProxyUrlError::Host);
        }
        Ok(Self { kind, host: host.to_owned(), port, login })
    }
}

impl ProxyUrl {
    /// The same with another login.
    #[must_use]
    pub fn with_login(self, login: Login) -> Self {
        Self { login: Some(login), ..self }
    }

    /// All of it, password and all, as HTTP libraries want it. Not for people.
    pub fn to_secret_url(&self) -> String {
        let scheme = match self.kind {
            // The letter has them leave names to the proxy.
            ProxyKind::Socks5 => "socks5h",
            ProxyKind::Http => "http",
        };
        let login = self.login.as_ref().map_or_else(String::new, |login| {
            format!("{}:{}@", escaped(&login.user), escaped(&login.password))
        });
        format!("{scheme}://{login}{}", self.place())
    }

    fn place(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Http => "http",
        };
        write!(f, "{scheme}://{}", self.place())
    }
}

fn login(text: &str) -> Result<Login, ProxyUrlError> {
    let (user, password) = text.split_once(':').ok_or(ProxyUrlError::Login)?;
    Login::new(unescaped(user)?, unescaped(password)?)
}

fn unescaped(text: &str) -> Result<String, ProxyUrlError> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(ProxyUrlError::Login) };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_error| ProxyUrlError::Login)
}

fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn parse(text: &str) -> Result<ProxyUrl, ProxyUrlError> {
        text.parse()
    }

    #[test]
    fn reads_what_people_write() {
        let url = parse("socks5://me:p%40s%3As@proxy.example:9050/").expect("valid");
        assert_eq!(
            (url.kind, url.host.as_str(), url.port),
            (ProxyKind::Socks5, "proxy.example", 9050)
        );
        let login = url.login.as_ref().expect("given");
        assert_eq!((login.user(), login.password()), ("me", "p@s:s"));
        assert_eq!(url.to_secret_url(), "socks5h://me:p%40s%3As@proxy.example:9050");
        assert_eq!(parse("SOCKS5H://10.0.0.1").expect("valid").port, 1080);
        let http = parse("http://[::1]:3128").expect("valid");
        assert_eq!((http.kind, http.host.as_str(), http.port), (ProxyKind::Http, "::1", 3128));
        assert_eq!(http.to_string(), "http://[::1]:3128");
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = parse("socks5://me:hidden@proxy.example").expect("valid");
        assert_eq!(url.to_string(), "socks5://proxy.example:1080");
        assert!(!format!("{url:?}").contains("hidden"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            ("proxy.example:1080", ProxyUrlError::Scheme),
            ("https://proxy.example", ProxyUrlError::Scheme),
            ("socks4://proxy.example", ProxyUrlError::Scheme),
            ("socks5://", ProxyUrlError::Host),
            ("socks5://a b", ProxyUrlError::Host),
            ("http://a/path", ProxyUrlError::Host),
            ("http://a:0", ProxyUrlError::Port),
            ("http://a:http", ProxyUrlError::Port),
            ("http://[::1]3128", ProxyUrlError::Port),
            ("socks5://me@a", ProxyUrlError::Login),
            ("socks5://me:%zz@a", ProxyUrlError::Login),
            ("socks5://:x@a", ProxyUrlError::Login),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn vectors_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn survives_any_text() {
        let alphabet = b"socks5h:/@%[].0a\xc3\xa4 ";
        for seed in 0..2000 {
            let mut noise = Rng::from_seed(seed);
            let bytes: Vec<u8> = (0..noise.u32() % 40)
                .map(|_| alphabet[noise.u32() as usize % alphabet.len()])
                .collect();
            let text = format!("socks5://{}", String::from_utf8_lossy(&bytes));
            if let Ok(url) = parse(&text) {
                assert_eq!(parse(&url.to_secret_url()), Ok(url));
            }
        }
    }
}

//! How a side proves that it belongs: the third line, `METHOD;DATA;FRAMING`.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use hmac::{Hmac, KeyInit, Mac};
use sha3::{Digest, Sha3_512};
use subtle::ConstantTimeEq;

/// A way to prove that one belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// TLS has proved it; a digest ties its session to the greetings.
    TlsSha3_512,
    /// A digest of the greetings that only those who know the secret can make.
    HmacSha3_512,
    /// Nothing, inside TLS. Such a peer is not trusted.
    TlsAnon,
    /// The secret itself, for whoever listens.
    Cleartext,
}

/// The secret that the nodes of a network share. It is not empty, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Box<[u8]>);

/// The third line, as it arrived.
#[derive(Debug)]
pub(super) struct AuthLine<'a> {
    pub(super) method: &'a str,
    pub(super) data: &'a str,
    pub(super) framing: &'a str,
}

impl Auth {
    const ALL: [Self; 4] = [Self::TlsSha3_512, Self::HmacSha3_512, Self::TlsAnon, Self::Cleartext];
    /// What is offered and accepted unless configured otherwise. Perl's nodes accept the other two as well.
    pub(crate) const DEFAULT: [Self; 2] = [Self::TlsSha3_512, Self::HmacSha3_512];

    /// What it is called on the wire and in settings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TlsSha3_512 => "tls_sha3_512",
            Self::HmacSha3_512 => "hmac_sha3_512",
            Self::TlsAnon => "tls_anon",
            Self::Cleartext => "cleartext",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|auth| auth.name() == name)
    }

    /// The DATA of whoever said what `message` begins with. None if it cannot be used: outside TLS, or
    /// without a secret.
    pub(super) fn proof(
        self,
        is_in_tls: bool,
        secret: Option<&Secret>,
        message: &[u8],
    ) -> Option<String> {
        match self {
            Self::TlsSha3_512 => is_in_tls.then(|| hex(&Sha3_512::digest(message))),
            Self::TlsAnon => is_in_tls.then(String::new),
            Self::HmacSha3_512 => secret.map(|secret| {
                let mut mac = Hmac::<Sha3_512>::new_from_slice(&secret.0)
                    .expect("a key of any length will do");
                mac.update(message);
                hex(&mac.finalize().into_bytes())
            }),
            Self::Cleartext => secret.map(|secret| hex(&secret.0)),
        }
    }
}

impl Secret {
    /// None if it is empty: that is no secret.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(secret.into()))
    }

    /// For the environment of a program that is to join.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'a> AuthLine<'a> {
    /// Fields that are not there are empty, and further ones are ignored.
    pub(super) fn parse(line: &'a str) -> Self {
        let mut fields = line.split(';');
        let mut field = || fields.next().unwrap_or_default();
        Self { method: field(), data: field(), framing: field() }
    }

    /// Whether it holds this proof; how long that takes tells nothing about it.
    pub(super) fn proves(&self, proof: &str) -> bool {
        self.data.as_bytes().ct_eq(proof.as_bytes()).into()
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for auth in Auth::ALL {
            assert_eq!(Auth::from_name(auth.name()), Some(auth));
        }
        assert_eq!(Auth::from_name("hmac_md6_64_256"), None);
    }

    #[test]
    fn no_proof_without_what_it_rests_on() {
        let secret = Secret::new(b"geheim");
        for auth in Auth::ALL {
            assert_eq!(auth.proof(false, None, b"x"), None, "{auth:?}");
        }
        assert_eq!(
            Auth::Cleartext.proof(false, secret.as_ref(), b"x").as_deref(),
            Some("67656865696d")
        );
        assert_eq!(Auth::TlsAnon.proof(true, None, b"x").as_deref(), Some(""));
        assert_eq!(Auth::TlsAnon.proof(false, secret.as_ref(), b"x"), None);
        assert_eq!(Auth::TlsSha3_512.proof(false, secret.as_ref(), b"x"), None);
        assert_eq!(Auth::HmacSha3_512.proof(true, None, b"x"), None);
    }

    #[test]
    fn digests_are_those_of_fips_202() {
        let abc = Auth::TlsSha3_512.proof(true, None, b"abc").expect("in TLS");
        assert_eq!(
            abc,
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e\
             10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0"
        );
    }

    #[test]
    fn an_empty_secret_is_none_and_no_secret_is_shown() {
        assert_eq!(Secret::new(b""), None);
        assert_eq!(format!("{:?}", Secret::new(b"geheim")), "Some(Secret(…))");
    }
}

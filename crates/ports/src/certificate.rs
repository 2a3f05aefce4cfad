//! A node's certificate: from PEM to both ends of TLS, and a new one.
//!
//! AnyEvent::MP gives one text to each node of a network: a private key, its certificate, and the
//! certificates of those who sign others'. Its tool makes one certificate for all nodes, which signs
//! itself. So a peer is let in if it has the key of a certificate in our own text, or of one that such a
//! certificate has signed. Names do not matter: the greetings say who is who.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reactor::Tls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ALL_VERSIONS, CertificateError as Refusal, ClientConfig, DigitallySignedStruct,
    DistinguishedName, Error, InconsistentKeys, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::base64;
use crate::handshake::TlsRole;

/// What a node proves itself with, and knows its peers by.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Why a text is no certificate for a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no PEM.
    #[error("the certificate's text is not proper PEM: {0}")]
    Pem(String),
    /// No private key.
    #[error("the certificate's text holds no private key: put its PRIVATE KEY section in front")]
    NoKey,
    /// More than one private key.
    #[error(
        "the certificate's text holds {0} private keys: leave only that of its first certificate"
    )]
    ManyKeys(usize),
    /// A passphrase would be needed.
    #[error(
        "the private key is encrypted: nodes start without passphrases, so store it without one"
    )]
    EncryptedKey,
    /// A key of an unknown kind.
    #[error("the private key cannot be used: {0}")]
    BadKey(String),
    /// No certificate.
    #[error("the certificate's text holds no CERTIFICATE section")]
    NoCertificate,
    /// Too many: all of them are sent to each peer.
    #[error(
        "the certificate's text holds {0} certificates: at most {CERTIFICATES_MAX} are allowed"
    )]
    ManyCertificates(usize),
    /// One that cannot be read.
    #[error("certificate {number} in the text cannot be used: {error}")]
    BadCertificate {
        /// Which, counted from 1.
        number: usize,
        /// What rustls says.
        error: String,
    },
    /// The key is that of another certificate.
    #[error("the private key is not that of the first certificate in the text")]
    KeyMismatch,
}

impl Certificate {
    /// Reads a private key (PKCS #8, PKCS #1 or SEC 1), its certificate, and the certificates of those
    /// who sign others'.
    pub(crate) fn from_pem(text: &str) -> Result<Self, CertificateError> {
        Self::of_versions(text, ALL_VERSIONS)
    }

    fn of_versions(
        text: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, CertificateError> {
        let (key, certificates) = sections(text)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = PeerVerifier::new(&certificates, &provider)?;
        let ours = certified_key(key, certificates, &provider)?;
        let ours = Arc::new(SingleCertAndKey::from(ours));

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider has suites for every version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<_>)
            .with_client_cert_resolver(Arc::clone(&ours) as Arc<_>);
        client.enable_sni = false;
        // Each connection is checked in full.
        client.resumption = Resumption::disabled();

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has suites for every version")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(ours);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// That end of a new connection.
    pub(crate) fn transport(&self, role: TlsRole) -> Result<Tls, Error> {
        match role {
            TlsRole::Client => Tls::client(Arc::clone(&self.client), no_name()),
            TlsRole::Server => Tls::server(Arc::clone(&self.server)),
        }
    }
}

/// A new private key and a certificate for it, as PEM, that serves a whole network for ten years.
///
/// AnyEvent::MP's tool makes an RSA key; this one is ECDSA on P-256, which its nodes read as well.
///
/// # Errors
/// If the system gives no randomness.
pub fn gencert() -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "AnyEvent::MP");
    // OpenSSL trusts what signs itself only if it may sign.
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // A clock before 1970 is as good as none.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + now;
    params.not_before = now - DAY;
    params.not_after = now + 3650 * DAY;
    let certificate = params.self_signed(&key)?;
    Ok(pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", certificate.der()))
}

type Sections = (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>);

fn sections(text: &str) -> Result<Sections, CertificateError> {
    if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
        return Err(CertificateError::EncryptedKey);
    }
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = section.map_err(|error| CertificateError::Pem(pem_fault(error)))?;
        if kind == SectionKind::Certificate {
            certificates.push(CertificateDer::from(der));
        } else {
            keys.extend(PrivateKeyDer::from_pem(kind, der));
        }
    }
    if certificates.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    if certificates.len() > CERTIFICATES_MAX {
        return Err(CertificateError::ManyCertificates(certificates.len()));
    }
    match (keys.len(), keys.pop()) {
        (1, Some(key)) => Ok((key, certificates)),
        (0, _) | (_, None) => Err(CertificateError::NoKey),
        (count, Some(_)) => Err(CertificateError::ManyKeys(count)),
    }
}

fn pem_fault(error: pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("its {} section has no END line", String::from_utf8_lossy(&end_marker).trim())
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("a section begins with {}", String::from_utf8_lossy(&line).trim())
        }
        other => other.to_string(),
    }
}

fn certified_key(
    key: PrivateKeyDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    CertifiedKey::from_der(certificates, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::KeyMismatch,
        Error::InvalidCertificate(error) => {
            CertificateError::BadCertificate { number: 1, error: error.to_string() }
        }
        other => CertificateError::BadKey(other.to_string()),
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // A line is 64 letters: 48 octets.
    for line in der.chunks(48) {
        text.push_str(&base64::encode(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// rustls wants to know whom it calls; nothing comes of that here.
fn no_name() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED))
}

/// Knows peers by the certificates in our own text.
struct PeerVerifier {
    ours: Vec<CertificateDer<'static>>,
    anchors: Arc<RootCertStore>,
    /// Follows the signatures from what a client shows to one of the anchors.
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    fn new(
        certificates: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, CertificateError> {
        let mut anchors = RootCertStore::empty();
        for (certificate, number) in certificates.iter().zip(1..) {
            anchors.add(certificate.clone()).map_err(|error| CertificateError::BadCertificate {
                number,
                error: error.to_string(),
            })?;
        }
        let anchors = Arc::new(anchors);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&anchors), Arc::clone(provider))
                .build()
                .expect("there is an anchor, and nothing to revoke");
        let algorithms = provider.signature_verification_algorithms;
        Ok(Arc::new(Self { ours: certificates.to_vec(), anchors, clients, algorithms }))
    }

    /// One of our own needs no signature by another, and may be one that signs, which webpki takes from
    /// nobody; but it must be within its time.
    fn or_ours(&self, shown: &CertificateDer<'_>, chain: Result<(), Error>) -> Result<(), Error> {
        match chain {
            Err(Error::InvalidCertificate(refusal)) if !is_about_time(&refusal) => {
                if self.ours.contains(shown) {
                    return Ok(());
                }
                // Among these is that it is one that signs. What counts is that we do not know it.
                let is_other = matches!(refusal, Refusal::Other(_));
                let refusal = if is_other { Refusal::UnknownIssuer } else { refusal };
                Err(Error::InvalidCertificate(refusal))
            }
            other => other,
        }
    }
}

fn is_about_time(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Expired
            | Refusal::ExpiredContext { .. }
            | Refusal::NotValidYet
            | Refusal::NotValidYetContext { .. }
    )
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.anchors,
            intermediates,
            now,
            self.algorithms.all,
        );
        self.or_ours(end_entity, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A client must show one: that is what rustls asks for unless told otherwise.
impl ClientCertVerifier for PeerVerifier {
    /// None: who calls has but one to show.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.clients.verify_client_cert(end_entity, intermediates, now).map(|_| ());
        self.or_ours(end_entity, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerVerifier({} certificates)", self.ours.len())
    }
}

/// How many certificates a text may hold.
const CERTIFICATES_MAX: usize = 32;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How PKCS #8 and the older forms say that a passphrase is needed.
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;

//! Who is let in and who is not, over two ends of TLS in memory.

use std::io::{Read, Write};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, Connection, ServerConnection};

use super::*;

/// Made as AnyEvent::MP's tool does, with OpenSSL: RSA of 2048 bits, signs itself and may sign others.
const OPENSSL_RSA: &str = include_str!("../fixtures/openssl_rsa.pem");

/// The two ends shake hands and exchange a word; the errors are what each end finds wrong.
fn connect(client: &Certificate, server: &Certificate) -> Result<(), Error> {
    let client = ClientConnection::new(Arc::clone(&client.client), no_name()).expect("a client");
    let server = ServerConnection::new(Arc::clone(&server.server)).expect("a server");
    let mut ends: [Connection; 2] = [client.into(), server.into()];
    for _round in 0..20 {
        for from in 0..2 {
            let mut bytes = Vec::new();
            while ends[from].wants_write() {
                ends[from].write_tls(&mut bytes).expect("room");
            }
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                ends[1 - from].read_tls(&mut bytes).expect("room");
                ends[1 - from].process_new_packets()?;
            }
        }
    }
    for from in 0..2 {
        assert!(!ends[from].is_handshaking());
        ends[from].writer().write_all(b"word").expect("room");
        let mut bytes = Vec::new();
        ends[from].write_tls(&mut bytes).expect("room");
        ends[1 - from].read_tls(&mut &bytes[..]).expect("room");
        ends[1 - from].process_new_packets()?;
        let mut word = [0; 4];
        ends[1 - from].reader().read_exact(&mut word).expect("a word");
        assert_eq!(&word, b"word");
    }
    Ok(())
}

/// One that could be anything, signed by `issuer` or itself.
fn issued(
    name: &str,
    issuer: Option<&(CertificateParams, KeyPair)>,
    is_ca: IsCa,
) -> (CertificateParams, KeyPair, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = is_ca;
    let certificate = match issuer {
        Some((by, by_key)) => params.signed_by(&key, &Issuer::from_params(by, by_key)),
        None => params.self_signed(&key),
    };
    let text = pem("CERTIFICATE", certificate.expect("a certificate").der());
    (params, key, text)
}

#[derive(Debug)]
struct NothingToShow;

impl rustls::client::ResolvesClientCert for NothingToShow {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn key_pem(key: &KeyPair) -> String {
    pem("PRIVATE KEY", &key.serialize_der())
}

fn read(text: &str) -> Certificate {
    Certificate::from_pem(text).expect("a certificate")
}

fn gencert_text() -> String {
    gencert().expect("a certificate")
}

#[test]
fn one_certificate_serves_all_nodes() {
    for text in [&gencert_text(), OPENSSL_RSA] {
        for version in [&TLS12, &TLS13] {
            let end = Certificate::of_versions(text, &[version]).expect("a certificate");
            assert_eq!(connect(&end, &read(text)), Ok(()));
            assert_eq!(connect(&read(text), &end), Ok(()));
        }
    }
}

#[test]
fn either_end_can_be_had_as_a_transport() {
    for role in [TlsRole::Client, TlsRole::Server] {
        assert!(read(OPENSSL_RSA).transport(role).expect("an end").is_handshaking());
    }
}

#[test]
fn nodes_know_each_other_by_who_signed_for_them() {
    let (ca, ca_key, ca_text) = issued("ca", None, IsCa::Ca(BasicConstraints::Unconstrained));
    let ca = (ca, ca_key);
    let node = || {
        let (_, key, text) = issued("node", Some(&ca), IsCa::NoCa);
        read(&(key_pem(&key) + &text + &ca_text))
    };
    assert_eq!(connect(&node(), &node()), Ok(()));
    let stranger = read(&gencert_text());
    assert!(connect(&stranger, &node()).is_err());
    assert!(connect(&node(), &stranger).is_err());
}

#[test]
fn a_stranger_is_refused_whichever_end_it_is() {
    let (ours, stranger) = (read(OPENSSL_RSA), read(&gencert_text()));
    // The stranger knows our certificate, as everybody does, but has not its key.
    let mut curious = stranger.clone();
    Arc::make_mut(&mut curious.client).dangerous().set_certificate_verifier(
        PeerVerifier::new(
            &sections(OPENSSL_RSA).expect("sections").1,
            &Arc::new(ring::default_provider()),
        )
        .expect("a verifier"),
    );
    let refused = Error::InvalidCertificate(Refusal::UnknownIssuer);
    assert_eq!(connect(&curious, &ours), Err(refused.clone()));
    assert_eq!(connect(&ours, &stranger), Err(refused));
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    for version in [&TLS12, &TLS13] {
        let ours = gencert_text();
        let certificates = sections(&ours).expect("sections").1;
        let other_key = sections(&gencert_text()).expect("sections").0;
        let other_key =
            ring::default_provider().key_provider.load_private_key(other_key).expect("a key");
        let stolen = Arc::new(SingleCertAndKey::from(CertifiedKey::new(certificates, other_key)));
        let ours = Certificate::of_versions(&ours, &[version]).expect("a certificate");
        let mut thief = ours.clone();
        Arc::make_mut(&mut thief.client).client_auth_cert_resolver = Arc::clone(&stolen) as Arc<_>;
        Arc::make_mut(&mut thief.server).cert_resolver = stolen;
        let refused = Err(Error::InvalidCertificate(Refusal::BadSignature));
        assert_eq!(connect(&thief, &ours), refused);
        assert_eq!(connect(&ours, &thief), refused);
    }
}

#[test]
fn a_client_that_shows_none_is_refused() {
    for version in [&TLS12, &TLS13] {
        let ours = Certificate::of_versions(OPENSSL_RSA, &[version]).expect("a certificate");
        let mut shy = ours.clone();
        Arc::make_mut(&mut shy.client).client_auth_cert_resolver = Arc::new(NothingToShow);
        assert_eq!(connect(&shy, &ours), Err(Error::NoCertificatesPresented));
    }
}

#[test]
fn time_passes_for_our_own_certificates_too() {
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        for (from, to) in [(2000, 2001), (4000, 4001)] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.is_ca = is_ca;
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let certificate = params.self_signed(&key).expect("a certificate");
            let old = read(&(key_pem(&key) + &pem("CERTIFICATE", certificate.der())));
            let Err(Error::InvalidCertificate(refusal)) = connect(&old, &old) else {
                panic!("accepted from {from} to {to}");
            };
            assert!(is_about_time(&refusal), "{refusal}");
        }
    }
}

#[test]
fn keys_are_read_in_their_older_forms_and_anywhere() {
    let (key, certificates) = sections(OPENSSL_RSA).expect("sections");
    // What PKCS #8 says before an RSA key of 2048 bits has a fixed length.
    let old_key = pem("RSA PRIVATE KEY", &key.secret_der()[26..]);
    let text = format!("Bag: x\n{}\n{old_key}", pem("CERTIFICATE", &certificates[0]))
        .replace('\n', "\r\n");
    assert_eq!(connect(&read(&text), &read(OPENSSL_RSA)), Ok(()));
}

#[test]
fn errors_name_what_is_wrong() {
    let text = gencert_text();
    let cut = text.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let (key, certificate) = text.split_at(cut);
    let error = |text: &str| Certificate::from_pem(text).expect_err("no certificate").to_string();
    assert_eq!(error(""), "the certificate's text holds no CERTIFICATE section");
    assert_eq!(error(key), "the certificate's text holds no CERTIFICATE section");
    assert_eq!(
        error(certificate),
        "the certificate's text holds no private key: put its PRIVATE KEY section in front"
    );
    assert_eq!(
        error(&(key.to_owned() + &text)),
        "the certificate's text holds 2 private keys: leave only that of its first certificate"
    );
    for mark in ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"] {
        assert_eq!(
            error(&format!("{mark}\n{certificate}")),
            "the private key is encrypted: nodes start without passphrases, so store it without one"
        );
    }
    let other = pem("CERTIFICATE", &sections(OPENSSL_RSA).expect("sections").1[0]);
    assert_eq!(
        error(&(key.to_owned() + &other)),
        "the private key is not that of the first certificate in the text"
    );
    assert_eq!(
        error(&(pem("PRIVATE KEY", b"no key") + certificate)),
        "the private key cannot be used: unexpected error: failed to parse private key as RSA, \
         ECDSA, or EdDSA"
    );
    assert_eq!(
        error(&(text.clone() + &pem("CERTIFICATE", b"none"))),
        "certificate 2 in the text cannot be used: invalid peer certificate: BadEncoding"
    );
    assert_eq!(
        error(&(key.to_owned() + &certificate.repeat(33))),
        "the certificate's text holds 33 certificates: at most 32 are allowed"
    );
    assert_eq!(
        error(text.trim_end().trim_end_matches('-')),
        "the certificate's text is not proper PEM: its CERTIFICATE section has no END line"
    );
    let broken = certificate.replacen("CERTIFICATE-----\n", "CERTIFICATE-----\n!", 1);
    assert!(
        error(&(key.to_owned() + &broken))
            .starts_with("the certificate's text is not proper PEM: ")
    );
}

#[test]
fn a_new_certificate_lasts_ten_years_and_is_another_each_time() {
    let (one, other) = (gencert_text(), gencert_text());
    assert_ne!(one, other);
    assert!(one.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(one.lines().all(|line| line.len() <= 64));
}

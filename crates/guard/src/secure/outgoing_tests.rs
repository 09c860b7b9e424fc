//! The client's end against our own server's end, in memory; and the errors of failed handshakes.

use std::fs;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;

use super::layer::TlsLayer;
use super::tests::Ca;
use super::{Authorities, Outgoing, OutgoingSettings, OwnCertificate, Pair, Secret, Server};
use forebay_runtime::seam::{Facts, Layer, LayerError, LayerFault};

const HOST: &str = "mqtt.example.org";

fn settings(ca: &Ca) -> OutgoingSettings {
    let ca = Authorities::File(ca.path("ca.pem"));
    OutgoingSettings { ca, identity: None, server_name: None, is_name_checked: true }
}

fn load(settings: &OutgoingSettings) -> Outgoing {
    Outgoing::load(settings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// One end of a wire.
struct Side {
    layer: Box<dyn Layer>,
    ready: Option<Facts>,
    plain: Vec<u8>,
    failed: Option<LayerError>,
}

impl Side {
    fn new(layer: Box<dyn Layer>) -> Self {
        Self { layer, ready: None, plain: Vec::new(), failed: None }
    }

    /// Takes bytes in pieces. Returns the answer.
    fn take(&mut self, wire: &[u8], split: usize) -> Vec<u8> {
        let mut answer = Vec::new();
        let pieces = if wire.is_empty() { vec![Vec::new()] } else { wire.chunks(split).map(<[u8]>::to_vec).collect() };
        for mut piece in pieces {
            if self.failed.is_some() {
                break;
            }
            match self.layer.open(&mut piece, &mut self.plain, &mut answer) {
                Ok(Some(facts)) => assert!(self.ready.replace(facts).is_none(), "ready once"),
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
        }
        answer
    }
}

/// Runs the handshake, and all that follows from it.
fn shake(client: Box<dyn Layer>, server: Box<dyn Layer>, split: usize) -> (Side, Side) {
    let (mut client, mut server) = (Side::new(client), Side::new(server));
    assert!(client.layer.is_costly());
    let mut to_server = client.take(&[], split);
    while !to_server.is_empty() {
        let to_client = server.take(&to_server, split);
        to_server = if to_client.is_empty() { Vec::new() } else { client.take(&to_client, split) };
    }
    (client, server)
}

fn server(ca: &Ca, with: impl FnOnce(&mut super::Settings)) -> Box<dyn Layer> {
    let mut settings = ca.settings();
    with(&mut settings);
    Server::load(&settings).unwrap_or_else(|problems| panic!("{problems:?}")).layer()
}

/// A server of this one version.
fn server_of(ca: &Ca, version: &'static rustls::SupportedProtocolVersion) -> Box<dyn Layer> {
    let pair = ca.issue("one-version", &[HOST], |_| {});
    let chain = CertificateDer::pem_file_iter(&pair.certificate).expect("PEM").map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    Box::new(TlsLayer::<UnbufferedServerConnection>::new(Arc::new(config)))
}

/// X60: every split of both flights, both versions; megabytes in records both ways; the end of the stream.
#[test]
fn both_ends_come_together_however_the_wire_is_cut() {
    let ca = Ca::new();
    let outgoing = load(&settings(&ca));
    for (version, is_newest) in [(&rustls::version::TLS13, true), (&rustls::version::TLS12, false)] {
        for split in [1, 2, 3, 5, 7, 64, 1_000, 100_000] {
            let (mut client, mut server) = shake(outgoing.layer(HOST), server_of(&ca, version), split);
            for side in [&client, &server] {
                assert_eq!(side.failed, None, "{split}");
                let facts = side.ready.as_ref().expect("ready");
                assert_eq!((facts.is_newest, facts.is_resumed), (is_newest, false));
                assert!(!side.layer.is_costly() && side.layer.held() == 0);
            }
            let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let mut wire = Vec::new();
            client.layer.seal(&bytes, &mut wire).expect("sealed");
            server.take(&wire, split.max(64));
            assert_eq!(server.plain, bytes);
            let mut wire = Vec::new();
            server.layer.seal(&bytes, &mut wire).expect("sealed");
            server.layer.close(&mut wire);
            client.take(&wire, split.max(64));
            assert_eq!(client.plain, bytes);
            assert!(client.layer.has_ended() && !server.layer.has_ended());
        }
    }
}

/// The client's error: fault, and words.
fn client_says(client: Box<dyn Layer>, server: Box<dyn Layer>) -> (LayerFault, String) {
    let (client, _) = shake(client, server, 1_000);
    let error = client.failed.expect("it fails");
    (error.fault, error.what.into_owned())
}

#[test]
fn a_broker_that_is_not_the_one_is_refused_and_why() {
    let (ca, other) = (Ca::new(), Ca::new());
    let outgoing = load(&settings(&ca));
    let of = |name: &'static str, names: &'static [&'static str], with: fn(&mut rcgen::CertificateParams)| {
        server(&ca, |settings| settings.certificates = vec![ca.issue(name, names, with)])
    };
    let expired: fn(&mut rcgen::CertificateParams) = |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let cases = [
        (server(&Ca::named("other CA"), |_| {}), LayerFault::CertificateInvalid, "not signed by a CA that is trusted"),
        (server(&other, |_| {}), LayerFault::CertificateInvalid, "not signed by a CA that is trusted: ca_file"),
        (
            of("b", &["broker.example"], |_| {}),
            LayerFault::CertificateInvalid,
            "not for the DNS name mqtt.example.org, it has the DNS name broker.example;",
        ),
        (of("e", &[HOST], expired), LayerFault::CertificateExpired, "its certificate has expired"),
    ];
    for (server, fault, words) in cases {
        let (found, said) = client_says(outgoing.layer(HOST), server);
        assert_eq!(found, fault, "{said}");
        assert!(said.contains(words), "{said}");
    }
    // Without a name, and with another name; but never without the CA or outside the time.
    let chain = load(&OutgoingSettings { is_name_checked: false, ..settings(&ca) });
    let named = load(&OutgoingSettings { server_name: Some("broker.example".to_owned()), ..settings(&ca) });
    for outgoing in [&chain, &named] {
        let (client, server) = shake(outgoing.layer("10.0.0.1"), of("b", &["broker.example"], |_| {}), 1_000);
        assert!(client.ready.is_some() && server.ready.is_some(), "{:?}", client.failed);
    }
    for server in [server(&other, |_| {}), of("e", &[HOST], expired)] {
        client_says(chain.layer(HOST), server);
    }
    // Finding K11: an address that the certificate has as a DNS name does not match.
    let as_name: fn(&mut rcgen::CertificateParams) = |params| {
        let name = "127.0.0.1".try_into().expect("text");
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
    };
    let (_, said) = client_says(outgoing.layer("127.0.0.1"), of("n", &[HOST], as_name));
    let words = "its certificate is not for the IP address 127.0.0.1, it has the DNS name 127.0.0.1;";
    assert!(said.starts_with(words), "{said}");
    // An address that the certificate has.
    let (client, _) = shake(outgoing.layer("127.0.0.1"), of("ip", &["127.0.0.1"], |_| {}), 1_000);
    assert!(client.ready.is_some(), "{:?}", client.failed);
    let (client, _) = shake(outgoing.layer("mqtt.example.org."), server(&ca, |_| {}), 1_000);
    assert!(client.ready.is_some(), "{:?}", client.failed);
    let (_, said) = client_says(outgoing.layer("not a name"), server(&ca, |_| {}));
    assert!(said.contains("cannot be the name in a certificate"), "{said}");
}

#[test]
fn certificates_of_our_own() {
    let (ca, other) = (Ca::new(), Ca::named("other CA"));
    let with = |identity: Option<Pair>| {
        let identity = identity.map(OwnCertificate::Files);
        load(&OutgoingSettings { identity, ..settings(&ca) }).layer(HOST)
    };
    let asking = || server(&ca, |settings| settings.clients = Some(ca.clients()));
    let (client, server) = shake(with(Some(ca.issue("forebay", &["forebay"], |_| {}))), asking(), 7);
    assert!(client.failed.is_none() && server.ready.is_some(), "{:?} {:?}", client.failed, server.failed);
    // With TLS 1.3 the server checks the certificate after the client has finished.
    let (client, server) = shake(with(None), asking(), 1_000);
    assert_eq!(server.failed.expect("refused").fault, LayerFault::CertificateMissing);
    let said = client.failed.expect("refused").what;
    assert!(said.contains("CertificateRequired: it may require a client certificate, which cert_file"), "{said}");
    let (client, _) = shake(with(Some(other.issue("x", &["x"], |_| {}))), asking(), 1_000);
    let said = client.failed.expect("refused").what;
    assert!(said.contains("does not accept our certificate"), "{said}");
}

#[test]
fn what_is_not_tls_is_said() {
    let ca = Ca::new();
    let mut client = Side::new(load(&settings(&ca)).layer(HOST));
    client.take(&[], 1);
    client.take(&[0, 0, 0, 20, 0, 0, 0, 0, 0, 35, 1, 2], 100);
    let said = client.failed.expect("no TLS").what;
    assert!(said.contains("this port may be one without TLS"), "{said}");
}

#[test]
fn files_that_cannot_be_used() {
    let ca = Ca::new();
    let problems = |settings: OutgoingSettings| Outgoing::load(&settings).expect_err("a problem").join("\n");
    let with_ca = |name: &str, bytes: &[u8]| {
        fs::write(ca.path(name), bytes).expect("written");
        OutgoingSettings { ca: Authorities::File(ca.path(name)), ..settings(&ca) }
    };
    assert!(problems(with_ca("a.jks", &[0xfe, 0xed, 0xfe, 0xed, 0, 2])).contains("keytool -importkeystore"));
    assert!(problems(with_ca("a.p12", &[0x30, 0x82, 1, 2])).contains("openssl pkcs12 -in FILE"));
    assert!(problems(with_ca("a.txt", b"hello")).contains("no certificate in it; ca_file names"));
    let (pair, other) = (ca.issue("one", &["a"], |_| {}), ca.issue("two", &["b"], |_| {}));
    let mixed = Pair { certificate: pair.certificate.clone(), key: other.key };
    let both = OutgoingSettings {
        identity: Some(OwnCertificate::Files(mixed)),
        server_name: Some("a b".to_owned()),
        ..settings(&ca)
    };
    let said = problems(both);
    assert!(said.contains("does not belong") && said.contains("cannot be the name"), "{said}");
    let text = fs::read_to_string(ca.path("ca.pem")).expect("PEM");
    let of_text = |text: String| OutgoingSettings { ca: Authorities::Text(text), ..settings(&ca) };
    load(&of_text(text));
    assert!(problems(of_text("x".to_owned())).contains("ca_certificates has no certificate"));
    // The certificate and its key in one file, as Java's PEM key stores have them.
    let store = ca.path("store.pem");
    let parts = [fs::read(&pair.key).expect("a key"), fs::read(&pair.certificate).expect("a certificate")];
    fs::write(&store, parts.concat()).expect("written");
    let store = OwnCertificate::Files(Pair { certificate: store.clone(), key: store });
    load(&OutgoingSettings { identity: Some(store), ..settings(&ca) });
    // Both as texts.
    let text = |file| fs::read_to_string(file).expect("PEM");
    let own = |certificate, key: String| {
        let own = OwnCertificate::Text { certificate: text(certificate), key: Secret::new(key.into_bytes()) };
        OutgoingSettings { identity: Some(own), ..settings(&ca) }
    };
    let two = ca.path("two.key");
    load(&own(&pair.certificate, text(&pair.key)));
    assert!(problems(own(&pair.certificate, text(&two))).contains("does not belong"));
    let said = problems(own(&pair.certificate, "hunter2".to_owned()));
    assert!(said.contains("no private key") && !said.contains("hunter2"), "{said}");
}

#[test]
fn the_same_files_are_the_same_and_others_are_not() {
    let ca = Ca::new();
    let pair = ca.issue("one", &["a"], |_| {});
    let with = OutgoingSettings { identity: Some(OwnCertificate::Files(pair)), ..settings(&ca) };
    assert_eq!(load(&with), load(&with));
    assert_ne!(load(&with), load(&settings(&ca)));
    let before = load(&with);
    ca.issue("one", &["a"], |_| {});
    assert_ne!(before, load(&with), "the file has changed");
    assert_eq!(before.expiries().len(), 2);
}

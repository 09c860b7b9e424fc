//! The layer against rustls' own client, in memory; certificates made for each test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Clients, Pair, Server, Settings};
use forebay_runtime::seam::{Facts, Layer, LayerError, LayerFault};

pub(super) struct Ca {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(super) fn new() -> Self {
        Self::named("test CA")
    }

    pub(super) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ca.pem"), ca.pem()).expect("written");
        Self { dir, ca }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Issues `NAME.pem` and `NAME.key`; `with` changes the parameters.
    pub(super) fn issue(&self, name: &str, names: &[&str], with: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        with(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        let pair = Pair { certificate: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        fs::write(&pair.certificate, certificate.pem()).expect("written");
        fs::write(&pair.key, key.serialize_pem()).expect("written");
        pair
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            certificates: vec![self.issue("server", &["mqtt.example.org"], |_| {})],
            is_1_2_allowed: true,
            alpn: Vec::new(),
            is_web: false,
            clients: None,
            tickets: true,
        }
    }

    pub(super) fn clients(&self) -> Clients {
        Clients { ca: self.path("ca.pem"), is_required: true, crl: None, is_expired_crl_refused: false }
    }

    fn client(&self, identity: Option<&Pair>) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, identity)
    }

    fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<&Pair>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).expect("a CA");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_file_iter(&pair.certificate).expect("PEM").map(Result::unwrap);
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                builder.with_client_auth_cert(chain.collect(), key).expect("a pair")
            }
        }
    }
}

fn load(settings: &Settings) -> Server {
    Server::load(settings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A client and a layer, connected by a wire that is cut into pieces.
struct Pipe {
    client: ClientConnection,
    layer: Box<dyn Layer>,
    split: usize,
    ready: Option<Facts>,
    /// The bytes that the shard has received.
    plain: Vec<u8>,
    /// The bytes that the client has received.
    heard: Vec<u8>,
    /// The client's error, if it failed.
    client_error: Option<rustls::Error>,
}

impl Pipe {
    fn new(server: &Server, client: &Arc<ClientConfig>, name: &str, split: usize) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let client = ClientConnection::new(Arc::clone(client), name).expect("a client");
        let layer = server.layer();
        Self { client, layer, split, ready: None, plain: Vec::new(), heard: Vec::new(), client_error: None }
    }

    fn client_hears(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            self.client.read_tls(&mut wire).expect("from memory");
            match self.client.process_new_packets() {
                Ok(state) => {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.client.reader().read_exact(&mut plain).expect("so many");
                    self.heard.extend_from_slice(&plain);
                }
                Err(error) => return self.client_error = Some(error),
            }
        }
    }

    /// Passes bytes both ways, until both sides are silent.
    fn run(&mut self) -> Result<(), LayerError> {
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).expect("into memory");
            }
            if wire.is_empty() {
                return Ok(());
            }
            for piece in wire.chunks_mut(self.split) {
                let mut answer = Vec::new();
                let opened = self.layer.open(piece, &mut self.plain, &mut answer);
                self.client_hears(&answer);
                let facts = opened?;
                assert!(facts.is_none() || self.ready.is_none(), "ready twice");
                self.ready = self.ready.take().or(facts);
            }
        }
    }

    fn seal(&mut self, plain: &[u8]) {
        let mut wire = Vec::new();
        self.layer.seal(plain, &mut wire).expect("sealed");
        self.client_hears(&wire);
    }
}

fn fault(pipe: &mut Pipe) -> LayerFault {
    pipe.run().expect_err("refused").fault
}

#[test]
fn bytes_in_both_directions_however_the_wire_is_cut() {
    let ca = Ca::new();
    let server = load(&ca.settings());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(ca.client_of(&[version], None));
        for split in [1, 2, 5, 100, 1_000, 1 << 20] {
            let mut pipe = Pipe::new(&server, &client, "mqtt.example.org", split);
            assert!(pipe.layer.is_costly() && pipe.layer.held() == 0);
            // The client's first bytes come with its last flight.
            pipe.client.writer().write_all(b"at once").expect("into memory");
            pipe.run().expect("it goes on");
            let facts = pipe.ready.take().expect("ready");
            assert_eq!(facts.is_newest, version.version == rustls::ProtocolVersion::TLSv1_3);
            assert!(!facts.took.is_zero() && !pipe.layer.is_costly());
            assert_eq!(pipe.plain, b"at once");
            let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
            pipe.seal(b"short");
            pipe.seal(&long);
            assert!(pipe.heard == [b"short".as_slice(), &long].concat());
            for piece in long.chunks(50_000) {
                pipe.client.writer().write_all(piece).expect("into memory");
                pipe.run().expect("it goes on");
            }
            assert!(pipe.plain == [b"at once".as_slice(), &long].concat());
            assert_eq!(pipe.layer.held(), 0, "nothing is kept when all has come");
            // X14: the end of the client's stream alone, and ours.
            pipe.client.send_close_notify();
            pipe.run().expect("it goes on");
            assert!(pipe.layer.has_ended());
            let mut wire = Vec::new();
            pipe.layer.close(&mut wire);
            pipe.layer.close(&mut wire);
            pipe.client.read_tls(&mut &wire[..]).expect("from memory");
            assert!(pipe.client.process_new_packets().expect("a proper end").peer_has_closed());
        }
    }
}

/// X9: one ticket, which resumes a session; and none where certificates are asked for.
#[test]
fn sessions_are_resumed_unless_certificates_are_asked_for() {
    let ca = Ca::new();
    let device = ca.issue("device", &["device-1"], |_| {});
    let plain = ca.settings();
    let mutual = Settings { clients: Some(ca.clients()), ..plain.clone() };
    let off = Settings { tickets: false, ..plain.clone() };
    for (settings, resumes) in [(plain, true), (mutual, false), (off, false)] {
        let server = load(&settings);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = Arc::new(ca.client_of(&[version], Some(&device)));
            for (connection, resumed) in [(1, false), (2, resumes)] {
                let mut pipe = Pipe::new(&server, &client, "mqtt.example.org", 1 << 20);
                pipe.run().expect("it goes on");
                assert_eq!(
                    pipe.ready.as_ref().expect("ready").is_resumed,
                    resumed,
                    "{connection} {:?}",
                    version.version
                );
            }
        }
    }
}

/// X8: an exact name before a wildcard of one label, otherwise the first.
#[test]
fn certificates_are_chosen_by_name() {
    let ca = Ca::new();
    let mut settings = ca.settings();
    settings.certificates.push(ca.issue("wild", &["*.wild.example.org"], |_| {}));
    settings.certificates.push(ca.issue("exact", &["a.wild.example.org", "second.example.org"], |_| {}));
    let server = load(&settings);
    for (name, file) in [
        ("mqtt.example.org", "server"),
        ("b.wild.example.org", "wild"),
        ("a.wild.example.org", "exact"),
        ("SECOND.example.org", "exact"),
        ("a.b.wild.example.org", "server"),
        ("wild.example.org", "server"),
        ("nobody.example.net", "server"),
        ("127.0.0.1", "server"),
    ] {
        let mut pipe = Pipe::new(&server, &Arc::new(ca.client(None)), name, 1 << 20);
        let (run, sent) = (pipe.run(), pipe.client.peer_certificates().map(|all| all[0].to_vec()));
        // A name that no certificate has: the client refuses the first certificate, which it is sent.
        let sent = sent.or_else(|| run.is_err().then(|| pem(&ca.path("server.pem"))));
        assert_eq!(sent, Some(pem(&ca.path(&format!("{file}.pem")))), "{name}");
    }
}

fn pem(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).expect("PEM").to_vec()
}

/// X8: the protocol of another kind is refused with its alert; none is fine.
#[test]
fn application_protocols() {
    let ca = Ca::new();
    let server = load(&Settings { alpn: vec!["x-amzn-mqtt-ca".to_owned()], ..ca.settings() });
    let offers: [(&[&str], bool); 5] =
        [(&[], true), (&["mqtt"], true), (&["x-amzn-mqtt-ca"], true), (&["h2", "mqtt"], true), (&["h2"], false)];
    for (offered, is_accepted) in offers {
        let mut client = ca.client(None);
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut pipe = Pipe::new(&server, &Arc::new(client), "mqtt.example.org", 7);
        if is_accepted {
            pipe.run().expect("it goes on");
            assert!(pipe.ready.is_some(), "{offered:?}");
        } else {
            assert_eq!(fault(&mut pipe), LayerFault::NothingInCommon);
            let alert = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
            assert_eq!(pipe.client_error, Some(alert));
        }
    }
    let newest = load(&Settings { is_1_2_allowed: false, ..ca.settings() });
    let old = Arc::new(ca.client_of(&[&rustls::version::TLS12], None));
    assert_eq!(fault(&mut Pipe::new(&newest, &old, "mqtt.example.org", 100)), LayerFault::NothingInCommon);
}

/// X10: chain, time and CRL of client certificates; the alert and the counter of each refusal.
#[test]
fn client_certificates() {
    let (ca, other) = (Ca::new(), Ca::new());
    let serial = SerialNumber::from(77_u64);
    let good = ca.issue("good", &["good"], |_| {});
    let revoked = ca.issue("revoked", &["revoked"], |params| params.serial_number = Some(serial.clone()));
    let expired = ca.issue("expired", &["expired"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let foreign = other.issue("foreign", &["foreign"], |_| {});
    let crl = |name: &str, until| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial.clone(),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = ca.path(name);
        fs::write(&path, params.signed_by(&ca.ca).expect("a CRL").pem().expect("PEM")).expect("written");
        Some(path)
    };
    let (fresh, stale) = (crl("fresh.crl", 4_000), crl("stale.crl", 2_021));
    let required = ca.clients();
    let optional = Clients { is_required: false, ..ca.clients() };
    let with_crl = Clients { crl: fresh, ..ca.clients() };
    let with_stale = Clients { crl: stale.clone(), ..ca.clients() };
    let refusing = Clients { crl: stale, is_expired_crl_refused: true, ..ca.clients() };
    let cases: [(&str, &Clients, Option<&Pair>, Option<LayerFault>); 13] = [
        ("none", &required, None, Some(LayerFault::CertificateMissing)),
        ("good", &required, Some(&good), None),
        ("expired", &required, Some(&expired), Some(LayerFault::CertificateExpired)),
        ("foreign", &required, Some(&foreign), Some(LayerFault::CertificateInvalid)),
        ("revoked, no CRL", &required, Some(&revoked), None),
        ("none, optional", &optional, None, None),
        ("good, optional", &optional, Some(&good), None),
        ("expired, optional", &optional, Some(&expired), Some(LayerFault::CertificateExpired)),
        ("good, CRL", &with_crl, Some(&good), None),
        ("revoked, CRL", &with_crl, Some(&revoked), Some(LayerFault::CertificateRevoked)),
        ("good, old CRL", &with_stale, Some(&good), None),
        ("revoked, old CRL", &with_stale, Some(&revoked), Some(LayerFault::CertificateRevoked)),
        ("good, old CRL refused", &refusing, Some(&good), Some(LayerFault::CertificateRevoked)),
    ];
    for (what, clients, identity, expected) in cases {
        let server = load(&Settings { clients: Some(clients.clone()), ..ca.settings() });
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = Arc::new(ca.client_of(&[version], identity));
            let mut pipe = Pipe::new(&server, &client, "mqtt.example.org", 1 << 20);
            let found = pipe.run().err().map(|error| error.fault);
            assert_eq!(found, expected, "{what} {:?}", version.version);
            assert_eq!(pipe.ready.is_some(), expected.is_none(), "{what}");
            if expected.is_some() {
                assert!(matches!(pipe.client_error, Some(rustls::Error::AlertReceived(_))), "{what}");
            }
        }
    }
    // A chain of too many certificates is refused before any of them is checked.
    let long = ca.path("long.pem");
    let certificate = fs::read_to_string(&good.certificate).expect("PEM");
    fs::write(&long, certificate.repeat(9)).expect("written");
    let long = Pair { certificate: long, key: good.key.clone() };
    let server = load(&Settings { clients: Some(required), ..ca.settings() });
    let mut pipe = Pipe::new(&server, &Arc::new(ca.client(Some(&long))), "mqtt.example.org", 1 << 20);
    assert_eq!(fault(&mut pipe), LayerFault::CertificateInvalid);
}

/// X3, X13: the first byte begins a handshake, else the connection ends without an answer.
#[test]
fn what_is_not_tls_is_named_and_gets_no_answer() {
    let ca = Ca::new();
    let server = load(&ca.settings());
    for (bytes, words) in [
        (b"\x10\x0f\x00\x04MQTT".as_slice(), "MQTT without TLS"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"PROXY TCP4 1.2.3.4", "PROXY"),
        (b"\x80", "not TLS"),
    ] {
        let mut answer = Vec::new();
        let error = server.layer().open(&mut bytes.to_vec(), &mut Vec::new(), &mut answer).expect_err("refused");
        assert_eq!((error.fault, answer.len()), (LayerFault::OtherProtocol, 0));
        assert!(error.what.contains(words), "{}", error.what);
    }
    // A handshake message other than ClientHello.
    let mut answer = Vec::new();
    let wire = b"\x16\x03\x01\x00\x04\x10\x00\x00\x00";
    let opened = server.layer().open(&mut wire.to_vec(), &mut Vec::new(), &mut answer);
    assert_eq!(opened.expect_err("refused").fault, LayerFault::Protocol);
    assert_eq!(answer.first(), Some(&0x15), "an alert");
}

/// X75: handshakes and records that are cut, changed, doubled and left out, with our own bytes between them. The outcome is a
/// refusal or a proper end.
#[test]
fn no_bytes_of_a_client_can_do_harm() {
    let ca = Ca::new();
    let device = ca.issue("device", &["device-1"], |_| {});
    let servers = [load(&ca.settings()), load(&Settings { clients: Some(ca.clients()), ..ca.settings() })];
    let mut refused = 0;
    for seed in 0..1_500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let version = if random.bool() { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let mut client = ca.client_of(&[version], random.bool().then_some(&device));
        client.max_fragment_size = Some(random.usize(32..600));
        let mut pipe = Pipe::new(random.choice(&servers).expect("two"), &Arc::new(client), "mqtt.example.org", 1 << 20);
        let bad_round = random.usize(0..5);
        for round in 0..6 {
            if pipe.ready.is_some() {
                pipe.client.writer().write_all(&[round as u8; 100]).expect("into memory");
            }
            let mut wire = Vec::new();
            while pipe.client.wants_write() {
                pipe.client.write_tls(&mut wire).expect("into memory");
            }
            if round == bad_round && !wire.is_empty() {
                let at = random.usize(..wire.len());
                match random.u8(..5) {
                    0 => wire[at] ^= 1 << random.u8(..8),
                    1 => wire.truncate(at),
                    2 => wire.extend_from_within(at..),
                    3 => drop(wire.drain(at..(at + random.usize(1..40)).min(wire.len()))),
                    _ => {
                        let junk: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
                        drop(wire.splice(at..at, junk));
                    }
                }
            }
            let mut failed = false;
            while !wire.is_empty() && !failed {
                let rest = wire.split_off(random.usize(1..=wire.len()));
                let mut answer = Vec::new();
                match pipe.layer.open(&mut wire, &mut pipe.plain, &mut answer) {
                    Ok(facts) => pipe.ready = pipe.ready.take().or(facts),
                    Err(_) => failed = true,
                }
                // A shard may send at any time before an end.
                if pipe.ready.is_some() && !failed && pipe.layer.seal(b"from us", &mut answer).is_err() {
                    failed = true;
                }
                assert!(pipe.layer.held() < 128 << 10);
                pipe.client_hears(&answer);
                wire = rest;
            }
            if failed {
                refused += 1;
                break;
            }
        }
        pipe.layer.close(&mut Vec::new());
    }
    assert!(refused > 500, "{refused}");
}

/// Each problem names its file, and all are found at once.
#[test]
fn problems_of_files_are_named() {
    let ca = Ca::new();
    let good = ca.settings();
    let problems = |settings: &Settings| Server::load(settings).expect_err("refused").join("\n");
    let write = |name: &str, text: &str| {
        fs::write(ca.path(name), text).expect("written");
        ca.path(name)
    };
    let own = good.certificates[0].clone();
    let other = ca.issue("other", &["other"], |_| {});
    let with =
        |certificate: PathBuf, key: PathBuf| Settings { certificates: vec![Pair { certificate, key }], ..good.clone() };
    let words = |settings: &Settings, expected: &[&str]| {
        let found = problems(settings);
        for word in expected {
            assert!(found.contains(word), "{word}: {found}");
        }
    };
    words(&with(ca.path("gone.pem"), ca.path("away.key")), &["gone.pem: No such file"]);
    words(&with(own.certificate.clone(), ca.path("away.key")), &["away.key: No such file", "key_file"]);
    words(&with(own.key.clone(), own.key.clone()), &["server.key: no certificate in it"]);
    words(&with(own.certificate.clone(), own.certificate.clone()), &["server.pem: no private key in it"]);
    words(&with(own.certificate.clone(), other.key), &["other.key: this key does not belong", "server.pem"]);
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    words(&with(own.certificate.clone(), write("locked.key", text)), &["locked.key: the key has a passphrase"]);
    words(&with(write("half.pem", "-----BEGIN CERTIFICATE-----\nAAAA"), own.key.clone()), &["half.pem: not PEM"]);
    let junk = write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    words(&with(junk.clone(), own.key.clone()), &["junk.pem: cannot be used"]);
    let clients = Clients { ca: junk, crl: Some(ca.path("no.crl")), ..ca.clients() };
    words(&Settings { clients: Some(clients), ..with(ca.path("gone.pem"), own.key) }, &["gone.pem", "junk.pem"]);
    let clients = Clients { crl: Some(ca.path("no.crl")), ..ca.clients() };
    words(&Settings { clients: Some(clients), ..good.clone() }, &["no.crl: No such file"]);
    let clients = Clients { crl: Some(ca.path("ca.pem")), ..ca.clients() };
    words(&Settings { clients: Some(clients), ..good }, &["ca.pem: no CRL"]);
}

#[test]
fn when_certificates_end_and_whether_they_are_the_same() {
    let ca = Ca::new();
    let mut settings = ca.settings();
    // Both forms of a date, and leap days.
    for (year, month, day, at) in [
        (2031, 2, 28, 1_930_003_200),
        (2032, 2, 29, 1_961_625_600),
        (2049, 12, 31, 2_524_521_600),
        (2050, 1, 1, 2_524_608_000),
        (2400, 3, 1, 13_574_649_600_i64),
    ] {
        settings.certificates[0] =
            ca.issue("server", &["x"], |params| params.not_after = date_time_ymd(year, month, day));
        let server = load(&settings);
        assert_eq!(server.expiries()[0].at, at, "{year}");
        assert!(server.is_same(&load(&settings)));
        let again = ca.issue("server", &["x"], |_| {});
        assert!(!server.is_same(&load(&Settings { certificates: vec![again], ..settings.clone() })));
    }
    assert_eq!(super::certificate::not_after(b"0\x82"), None);
    assert_eq!(super::certificate::not_after(b"0\x03\x30\x01\x00"), None);
}

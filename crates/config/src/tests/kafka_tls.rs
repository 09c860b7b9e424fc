//! Tests of `[kafka.NAME.tls]`.

use super::*;
use forebay_guard::secure::sasl::TokenFrom;
use forebay_guard::secure::{Authorities, OutgoingSettings, OwnCertificate, Pair};

fn with(tls: &str) -> String {
    format!("[kafka.main]\nbootstrap = 'k:1'\n{tls}\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n")
}

fn tls(text: &str) -> Option<OutgoingSettings> {
    good(&with(text)).clusters[0].tls.clone()
}

const SYSTEM: OutgoingSettings =
    OutgoingSettings { ca: Authorities::System, identity: None, server_name: None, is_name_checked: true };

#[test]
fn what_is_said_and_what_is_not() {
    assert_eq!(tls(""), None);
    assert_eq!(tls("[kafka.main.tls]"), Some(SYSTEM));
    let long = "[kafka.main.tls]\nca_file = 'ca'\ncert_file = 'c'\nkey_file = 'k'\nserver_name = 'n'";
    let pair = Pair { certificate: "c".into(), key: "k".into() };
    let expected = OutgoingSettings {
        ca: Authorities::File("ca".into()),
        identity: Some(OwnCertificate::Files(pair)),
        server_name: Some("n".to_owned()),
        is_name_checked: true,
    };
    assert_eq!(tls(long), Some(expected));
    assert_eq!(tls("tls = { verify = 'chain' }"), Some(OutgoingSettings { is_name_checked: false, ..SYSTEM }));
    let text = OutgoingSettings { ca: Authorities::Text("PEM".to_owned()), ..SYSTEM };
    assert_eq!(tls("tls.ca_certificates = 'PEM'"), Some(text));
    let variable = |name: &str, value: &str| {
        let variables = [(format!("FOREBAY_KAFKA_MAIN_TLS_{name}"), Some(value.to_owned()))];
        parse_all(&with(""), "f", &variables, None, &Overrides::default(), 2)
    };
    let config = variable("CA_FILE", "ca").unwrap_or_else(|all| panic!("{all}"));
    assert_eq!(config.clusters[0].tls.as_ref().map(|tls| &tls.ca), Some(&Authorities::File("ca".into())));
    let near = variable("CA_FIL", "ca").expect_err("no such key").to_string();
    assert!(near.contains("did you mean FOREBAY_KAFKA_MAIN_TLS_CA_FILE?"), "{near}");
}

#[test]
fn what_does_not_go_together() {
    for (text, expected) in [
        ("cert_file = 'c'", "kafka.main.tls.cert_file: has no effect without key_file"),
        ("key_file = 'c'", "kafka.main.tls.key_file: has no effect without cert_file"),
        ("ca_file = 'a'\nca_certificates = 'b'", "kafka.main.tls.ca_certificates: and ca_file are both set"),
        ("ca_file = ''", "kafka.main.tls.ca_file: "),
        ("verify = 'off'", "kafka.main.tls.verify: "),
    ] {
        let found = parse(&with(&format!("[kafka.main.tls]\n{text}")), "f").expect_err(text).to_string();
        assert!(found.contains(expected), "{text}: {found}");
    }
    let idle = good(&with("[kafka.main.tls]\nverify = 'chain'\nserver_name = 'n'")).warnings.to_string();
    assert!(idle.contains("kafka.main.tls.server_name: is not compared with anything"), "{idle}");
}

/// X61: a password is sent over TLS only.
#[test]
fn plain_needs_tls_or_insecure() {
    let login = |more: &str| with(&format!("[kafka.main.sasl]\nmechanism = 'OAUTHBEARER'\ntoken_file = 'f'\n{more}"));
    parse(&login(""), "f").expect_err("neither");
    good(&login("insecure = true"));
    assert!(good(&login("[kafka.main.tls]")).clusters[0].tls.is_some());
}

/// The keys of Kafka's Java clients, with quotes and without, and librdkafka's names.
#[test]
fn names_of_other_clients_say_the_same() {
    let pair = |file: &str| Some(OwnCertificate::Files(Pair { certificate: file.into(), key: file.into() }));
    let (ca, text) = (Authorities::File("/ca.pem".into()), Authorities::Text("PEM".to_owned()));
    for (text, expected) in [
        ("'security.protocol' = 'SSL'", SYSTEM),
        (
            "security.protocol = 'ssl'\nssl.truststore.location = '/ca.pem'",
            OutgoingSettings { ca: ca.clone(), ..SYSTEM },
        ),
        (
            "security_protocol = 'SSL'\n'ssl.truststore.type' = 'PEM'\n'ssl.truststore.certificates' = 'PEM'",
            OutgoingSettings { ca: text, ..SYSTEM },
        ),
        (
            "security.protocol = 'SSL'\nssl.keystore.type = 'PEM'\nssl.keystore.location = '/store.pem'",
            OutgoingSettings { identity: pair("/store.pem"), ..SYSTEM },
        ),
        (
            "'security.protocol' = 'SSL'\n'ssl.ca.location' = '/ca.pem'\n'ssl.certificate.location' = 'c'\n'ssl.key.location' = 'c'",
            OutgoingSettings { ca, identity: pair("c"), ..SYSTEM },
        ),
        (
            "'security.protocol' = 'SSL'\n'ssl.endpoint.identification.algorithm' = ''",
            OutgoingSettings { is_name_checked: false, ..SYSTEM },
        ),
    ] {
        assert_eq!(tls(text), Some(expected), "{text}");
    }
    assert_eq!(tls("security.protocol = 'PLAINTEXT'"), None);
    let login = |sasl: &str| good(&with(sasl)).clusters[0].sasl.clone().expect("a login");
    let bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required extension_a='b';";
    let sasl = login(&format!(
        "'security.protocol' = 'SASL_SSL'\n'sasl.mechanism' = 'OAUTHBEARER'\n'sasl.jaas.config' = \"{bearer}\"\nsasl.token_file = 't'"
    ));
    assert_eq!(sasl.credentials.extensions, [("a".to_owned(), "b".to_owned())]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "pw").expect("written");
    let fetched = [
        (
            "sasl.jaas.config = \"OAuthBearerLoginModule required;\"",
            "sasl.oauthbearer.client.credentials.client.id = 'f'\nsasl.oauthbearer.scope = 'kafka'",
        ),
        ("sasl.jaas.config = \"OAuthBearerLoginModule required clientId='f' scope='kafka';\"", ""),
    ];
    for (jaas, more) in fetched {
        let sasl = login(&format!(
            "security.protocol = 'SASL_SSL'\nsasl.mechanism = 'OAUTHBEARER'\n{jaas}\n{more}\n\
             sasl.oauthbearer.token.endpoint.url = 'https://id.example/token'\nsasl.client_secret_file = '{}'",
            file.path().display()
        ));
        let Some(TokenFrom::Endpoint(endpoint)) = &sasl.credentials.token else { panic!("{sasl:?}") };
        let asked = (endpoint.url.to_string(), endpoint.client_id.as_str(), endpoint.scope.as_deref());
        assert_eq!(asked, ("https://id.example/token".to_owned(), "f", Some("kafka")));
    }
    let scram = "ScramLoginModule required username='forebay';";
    let sasl = login(&format!(
        "security.protocol = 'SASL_PLAINTEXT'\nsasl.mechanism = 'SCRAM-SHA-512'\nsasl.jaas.config = \"{scram}\"\nsasl.password_file = '{}'",
        file.path().display()
    ));
    assert_eq!((&*sasl.credentials.user, sasl.credentials.mechanism.name()), ("forebay", "SCRAM-SHA-512"));
}

/// X60: there is no way to switch the check off.
#[test]
fn what_other_clients_take_and_we_do_not_has_its_cure() {
    let ssl = "'security.protocol' = 'SSL'";
    for (text, expected) in [
        ("'ssl.truststore.location' = 'a.pem'".to_owned(), "has no effect without security.protocol"),
        (format!("{ssl}\n'ssl.truststore.location' = '/a.jks'"), "only PEM can be read; `keytool -importkeystore"),
        (format!("{ssl}\n'ssl.keystore.type' = 'PKCS12'"), "openssl pkcs12"),
        (format!("{ssl}\n'ssl.keystore.password' = 's3cret'"), "a PEM file has no password; leave it out"),
        (format!("{ssl}\n'ssl.key.password' = 's3cret'"), "openssl pkey -in FILE"),
        (format!("{ssl}\n'ssl.keystore.key' = 's3cret'"), "does not belong in this file"),
        (format!("{ssl}\n'ssl.keystore.certificate.chain' = 'PEM'"), "name that as cert_file"),
        (format!("{ssl}\n'ssl.truststore.location' = 'a'\ntls.ca_file = 'b'"), "says the same as kafka.main.tls.ca_file"),
        (format!("{ssl}\n'ssl.endpoint.identification.algorithm' = 'x'"), "is no algorithm"),
        ("'security.protocol' = 'PLAINTEXT'\ntls.ca_file = 'b'".to_owned(), "is one without TLS"),
        ("'security.protocol' = 'SASL_SSL'".to_owned(), "needs a login"),
        (format!("{ssl}\nsasl.mechanism = 'PLAIN'"), "is one without a login"),
        ("'security.protocol' = 'TLS'".to_owned(), "is no protocol of Kafka"),
        (format!("{ssl}\n'ssl.cipher.suites' = 'x'"), "see [kafka.NAME.tls]"),
        (format!("{ssl}\nssl.cipher.suites = 'x'"), "see [kafka.NAME.tls]"),
        (
            "'sasl.oauthbearer.client.credentials.client.secret' = 's3cret'".to_owned(),
            "does not belong in this file; write it into a file of its own and name that as client_secret_file",
        ),
        (
            "'sasl.jaas.config' = \"OAuthBearerLoginModule required clientSecret='s3cret';\"".to_owned(),
            "clientSecret: a secret does not belong in this file; write it into a file of its own and name that as client_secret_file",
        ),
        ("'sasl.jaas.config' = 'x'".to_owned(), "no login module that is known; it is CLASS required"),
        (
            "'security.protocol' = 'SASL_SSL'\n'sasl.jaas.config' = \"PlainLoginModule required username='a' password='s3cret';\""
                .to_owned(),
            "kafka.main.sasl.password: a password does not belong in this file",
        ),
    ] {
        let found = parse(&with(&text), "f").expect_err(&text).to_string();
        assert!(found.contains(expected) && !found.contains("s3cret"), "{text}: {found}");
    }
}

#[test]
fn another_ca_is_a_change_that_is_applied() {
    let (none, one) = (good(&with("")), good(&with("[kafka.main.tls]\nca_file = 'a'")));
    for (old, new) in [(&none, &one), (&one, &none), (&one, &good(&with("[kafka.main.tls]\nca_file = 'b'")))] {
        let change = Change::between(old, new);
        assert_eq!((change.applied, change.waiting), (vec!["kafka main (changed: tls)".to_owned()], Vec::new()));
    }
}

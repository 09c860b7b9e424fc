//! Tests of `[listener.tls]`.

use std::path::PathBuf;

use super::*;
use crate::Transport;
use forebay_guard::secure::{Clients, Pair, Settings};

const LISTENER: &str = "[[listener]]\nbind = '127.0.0.1:8883'\ntransport = 'tls'\n";

fn problems(text: &str) -> String {
    parse(text, "test").expect_err(text).to_string()
}

#[test]
fn what_is_said_and_what_is_not() {
    let short = good(&format!("{LISTENER}[listener.tls]\ncert_file = 'c.pem'\nkey_file = 'c.key'"));
    assert_eq!(short.listeners[0].transport, Transport::Tls);
    let pair = |name: &str| Pair { certificate: format!("{name}.pem").into(), key: format!("{name}.key").into() };
    let expected = Settings {
        certificates: vec![pair("c")],
        is_1_2_allowed: true,
        alpn: Vec::new(),
        clients: None,
        tickets: true,
        is_web: false,
    };
    assert_eq!(short.listeners[0].tls, Some(expected));
    let long = good(&format!(
        "{LISTENER}[listener.tls]\ncert_file = 'c.pem'\nkey_file = 'c.key'\nmin_version = '1.3'\nalpn = ['a', 'b']\n\
         certificates = {{ 'd.pem' = 'd.key' }}\nclient_ca_file = 'ca'\nclient_certificate = 'optional'\n\
         crl_file = 'crl'\ncrl_expired = 'refuse'\ntickets = false"
    ));
    let clients = Clients {
        ca: PathBuf::from("ca"),
        is_required: false,
        crl: Some(PathBuf::from("crl")),
        is_expired_crl_refused: true,
    };
    let expected = Settings {
        certificates: vec![pair("c"), pair("d")],
        is_1_2_allowed: false,
        alpn: vec!["a".to_owned(), "b".to_owned()],
        clients: Some(clients),
        tickets: false,
        is_web: false,
    };
    assert_eq!(long.listeners[0].tls, Some(expected));
}

#[test]
fn what_does_not_go_together() {
    let tls = "[listener.tls]\ncert_file = 'c'\nkey_file = 'k'\n";
    for (text, expected) in [
        (LISTENER.to_owned(), "listener[0].transport: transport is \"tls\", and there is no [listener.tls]"),
        (format!("{LISTENER}tls = 1"), "listener[0].tls: expected a table, found the integer 1"),
        (
            format!("[[listener]]\nbind = '127.0.0.1:1'\n{tls}"),
            "listener[0].tls: has no effect: transport is not \"tls\" or \"wss\"",
        ),
        (format!("{LISTENER}[listener.tls]\nkey_file = 'k'"), "listener[0].tls.cert_file: is required"),
        (format!("{LISTENER}{tls}crl_file = 'x'"), "listener[0].tls.crl_file: has no effect without client_ca_file"),
        (format!("{LISTENER}{tls}min_version = '1.1'"), "listener[0].tls.min_version: "),
        (format!("{LISTENER}{tls}ca_file = 'x'"), "did you mean \"crl_file\"?"),
        (
            format!("{LISTENER}{tls}certificates = {{ a = 1 }}"),
            "listener[0].tls.certificates.a: expected the key's file",
        ),
        (format!("{LISTENER}{tls}alpn = ['']"), "listener[0].tls.alpn[0]: must have 1 to 255 bytes"),
    ] {
        let found = problems(&text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn variables_of_the_environment_reach_it() {
    let variables: Vec<_> = [("CERT_FILE", "c"), ("KEY_FILE", "k"), ("TICKETS", "false")]
        .map(|(name, value)| (format!("FOREBAY_LISTENER_0_TLS_{name}"), Some(value.to_owned())))
        .to_vec();
    let config =
        parse_all(LISTENER, "test", &variables, None, &Overrides::default(), 1).unwrap_or_else(|all| panic!("{all}"));
    let tls = config.listeners[0].tls.as_ref().expect("there");
    assert_eq!((tls.certificates[0].key.to_str(), tls.tickets), (Some("k"), false));
    let wrong = [("FOREBAY_LISTENER_0_TLS_TICKETS".to_owned(), Some("perhaps".to_owned()))];
    let found = parse_all(LISTENER, "test", &wrong, None, &Overrides::default(), 1).expect_err("wrong").to_string();
    assert!(found.contains("environment: FOREBAY_LISTENER_0_TLS_TICKETS: "), "{found}");
}

//! Tests of `[listener.ws]`.

use super::*;
use crate::Transport;
use forebay_listener::ws::Settings;

fn listener(transport: &str, more: &str) -> String {
    format!("[[listener]]\nbind = '127.0.0.1:8083'\ntransport = '{transport}'\n{more}\n")
}

const TLS: &str = "[listener.tls]\ncert_file = 'c'\nkey_file = 'k'\n";

#[test]
fn what_is_said_and_what_is_not() {
    let short = good(&listener("ws", ""));
    assert_eq!(short.listeners[0].transport, Transport::Ws);
    let expected = Settings { path: "/mqtt".to_owned(), origins: Vec::new(), any_origin: false, is_forwarded: false };
    assert_eq!(short.listeners[0].ws.as_deref(), Some(&expected));
    let keys = "[listener.ws]\npath = '/a/b'\norigins = ['https://a.example', 'http://b:1']\nforwarded = true";
    let long = good(&listener("wss", &format!("{TLS}{keys}")));
    let origins = vec!["https://a.example".to_owned(), "http://b:1".to_owned()];
    let expected = Settings { path: "/a/b".to_owned(), origins, any_origin: false, is_forwarded: true };
    assert_eq!(long.listeners[0].ws.as_deref(), Some(&expected));
    assert!(long.listeners[0].tls.as_ref().is_some_and(|tls| tls.is_web));
    assert_eq!(good(&listener("tls", TLS)).listeners[0].ws, None);
    let variables = [("FOREBAY_LISTENER_0_WS_PATH".to_owned(), Some("/x".to_owned()))];
    let config = parse_all(&listener("ws", ""), "f", &variables, None, &Overrides::default(), 1);
    assert_eq!(config.unwrap_or_else(|all| panic!("{all}")).listeners[0].ws.as_ref().map(|ws| &*ws.path), Some("/x"));
}

#[test]
fn what_does_not_go_together() {
    for (text, expected) in [
        (listener("wss", ""), "transport is \"wss\", and there is no [listener.tls]"),
        (listener("ws", TLS), "listener[0].tls: has no effect"),
        (listener("tcp", "[listener.ws]"), "listener[0].ws: has no effect: transport is not"),
        (listener("ws", "[listener.ws]\npath = 'mqtt'"), "listener[0].ws.path: is no path of a URL"),
        (listener("ws", "[listener.ws]\npath = '/a?b'"), "listener[0].ws.path: is no path of a URL"),
        (listener("ws", "[listener.ws]\norigins = ['a.example']"), "listener[0].ws.origins[0]: is no origin"),
        (listener("ws", "[listener.ws]\norigins = 'https://*.example'"), "listener[0].ws.origins: is no origin"),
        (listener("ws", "[listener.ws]\norigins = 'https://a.example/'"), "listener[0].ws.origins: is no origin"),
    ] {
        let found = parse(&text, "f").expect_err(&text).to_string();
        assert!(found.contains(expected), "{text}: {found}");
    }
}

/// A listener beyond loopback has to name the proxies that it believes about a device's address.
#[test]
fn finding_w4_a_proxy_beyond_loopback_is_named() {
    let text = |bind: &str, keys: &str| format!("[[listener]]\nbind = '{bind}:1'\nopen = true\n{keys}\n");
    let ws = |more: &str| format!("transport = 'ws'\n{more}\n[listener.ws]\nforwarded = true");
    for keys in ["proxy_protocol = 'any'".to_owned(), ws("")] {
        let found = parse(&text("0.0.0.0", &keys), "f").expect_err(&keys).to_string();
        assert!(found.contains("listener[0].proxy_from: is required"), "{found}");
        good(&text("127.0.0.1", &keys));
    }
    for keys in
        ["proxy_protocol = 'any'\nproxy_from = '10.0.0.0/8'".to_owned(), ws("proxy_from = ['10.0.0.7', '::/0']")]
    {
        assert!(!good(&text("0.0.0.0", &keys)).listeners[0].proxy_from.is_empty());
    }
    for (keys, expected) in [
        ("proxy_from = ['10.0.0.0/8']", "proxy_from: has no effect"),
        ("proxy_protocol = 'v1'\nproxy_from = ['10.0.0.1/8']", "proxy_from[0]: has bits behind the network's"),
        ("proxy_protocol = 'v1'\nproxy_from = ['proxy']", "proxy_from[0]: is no IP address"),
        ("proxy_protocol = 'v1'\nproxy_from = []", "is an empty list"),
    ] {
        let found = parse(&text("0.0.0.0", keys), "f").expect_err(keys).to_string();
        assert!(found.contains(expected), "{keys}: {found}");
    }
}

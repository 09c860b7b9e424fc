//! An `[auth.NAME]` that is removed, renamed or changed while clients are connected.

use std::fs;
use std::path::Path;

use forebay::mqtt::packet::{Connect, Version};
use forebay::mqtt::property::Property;
use serde_json::Value;

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, hello, properties};
use crate::process::until;
use crate::support::service::{Service, config_with};
use crate::support::temp_dir;

const SPOOL: &str = "[spool]\nbytes_max = \"64MiB\"\nsegment_bytes = \"4MiB\"\n";

fn start(dir: &Path) -> Service {
    passwd(&dir.join("passwords"), &["ada"], "lovelace");
    passwd(&dir.join("passwords"), &["bob"], "builder");
    Service::start(&with_auth(&config_with("shards = 2\n", &format!("{SPOOL}{}", auth(dir, "")))))
}

fn rewrite(service: &Service, from: &str, to: &str) {
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("a file");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&file, text.replace(from, to)).expect("written");
}

fn reload(service: &Service, query: &str) -> Value {
    let token = fs::read_to_string(service.token_file()).expect("a token");
    let header = format!("Authorization: Bearer {}", token.trim());
    let (head, body) = service.ask("POST", &format!("/api/v1/reload{query}"), &header, "").expect("an answer");
    assert!(head.contains(" 200 "), "{head} {body}");
    serde_json::from_str(&body).expect("JSON")
}

fn told(service: &Service, kind: &str) -> usize {
    let (_, page) = service.get(&format!("/api/v1/events?kind={kind}")).expect("an answer");
    serde_json::from_str::<Value>(&page).expect("JSON")["events"].as_array().expect("a list").len()
}

/// Connected with a session that is kept for an hour. Whether it was there.
fn connect(service: &Service, client_id: &str, [user, password]: [&str; 2]) -> (Device, bool) {
    let kept = properties([Property::SessionExpiryInterval(3_600)]);
    let connect = Connect {
        clean_start: false,
        username: Some(user),
        password: Some(password.as_bytes()),
        properties: kept.as_properties(),
        ..hello(Version::V5, client_id)
    };
    let (device, hello) = Device::connect_as(service.mqtt(), &connect);
    (device, hello.session_present)
}

const ADA: [&str; 2] = ["ada", "lovelace"];
const BOB: [&str; 2] = ["bob", "builder"];

#[test]
fn finding_f6_an_auth_that_is_gone_leaves_its_clients() {
    let dir = temp_dir();
    let service = start(dir.path());
    let (mut ada, _) = connect(&service, "a", ADA);
    rewrite(&service, "auth = \"devices\"\n", "");
    assert_eq!(reload(&service, "?dry_run=true")["disconnected_clients"], 0);
    reload(&service, "");
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let without: String = text
        .lines()
        .filter(|l| !l.contains("auth.devices") && !l.contains("password_file"))
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&file, without).expect("written");
    reload(&service, "");
    ada.deliver(1, "t", b"x");
    ada.ping();
    assert_eq!(told(&service, "access_revoked"), 0);
    // Others need nothing now.
    Device::connect(service.mqtt(), Version::V5, "anybody").leave();
}

#[test]
fn finding_f6_an_auth_with_another_name_is_the_same_one() {
    let dir = temp_dir();
    let mut service = start(dir.path());
    let (mut ada, _) = connect(&service, "a", ADA);
    let (bob, _) = connect(&service, "b", BOB);
    bob.leave();
    rewrite(&service, "auth = \"devices\"", "auth = \"fleet\"");
    rewrite(&service, "[auth.devices]", "[auth.fleet]");
    assert_eq!(reload(&service, "?dry_run=true")["disconnected_clients"], 0);
    reload(&service, "");
    ada.deliver(1, "t", b"x");
    let of = |id: &str| {
        serde_json::from_str::<Value>(&service.get(&format!("/api/v1/clients/{id}")).expect("an answer").1)
            .expect("JSON")
    };
    assert_eq!((&of("a")["auth"], &of("b")["auth"]), (&"fleet".into(), &"fleet".into()));
    assert_eq!((&of("a")["connected"], told(&service, "access_revoked")), (&true.into(), 0));
    let (bob, was_there) = connect(&service, "b", BOB);
    assert!(was_there, "his session is that of the new name");
    bob.leave();
    // And so it is written down.
    service.kill9();
    service.start_again();
    assert!(connect(&service, "a", ADA).1 && connect(&service, "b", BOB).1);
}

#[test]
fn finding_f6_a_dry_run_says_how_many_clients_would_go() {
    let dir = temp_dir();
    let service = start(dir.path());
    let (mut ada, _) = connect(&service, "a", ADA);
    let (_bob, _) = connect(&service, "b", BOB);
    let passwords = dir.path().join("passwords");
    let text = fs::read_to_string(&passwords).expect("a file");
    fs::write(&passwords, text.lines().filter(|line| !line.starts_with("bob:")).collect::<String>() + "\n")
        .expect("written");
    assert_eq!(reload(&service, "?dry_run=true")["disconnected_clients"], 1);
    assert_eq!(told(&service, "access_revoked"), 0, "nothing has changed");
    assert_eq!(reload(&service, "")["disconnected_clients"], 1);
    until("he is told of", || told(&service, "access_revoked") == 1);
    ada.ping();
}

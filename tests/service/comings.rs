//! Events of clients that come and go, of what they may not do, and of requests that were refused, as people look for them.

use std::fs;

use forebay::mqtt::packet::{QoS, Version};
use serde_json::Value;

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, hello};
use crate::process::{metric, until};
use crate::support::service::{Service, config, http, program};
use crate::support::temp_dir;

fn events(service: &Service, query: &str) -> Vec<Value> {
    let (status, body) = service.get(&format!("/api/v1/events?{query}")).expect("an answer");
    assert_eq!(status, 200, "{query}: {body}");
    let page: Value = serde_json::from_str(&body).expect("JSON");
    page["events"].as_array().expect("a list").clone()
}

/// Finding R5, with the auth of finding S12.
#[test]
fn finding_r5_a_takeover_is_told_of_with_both_addresses() {
    let dir = temp_dir();
    passwd(&dir.path().join("passwords"), &["ada"], "lovelace");
    let text = with_auth(&config(&auth(dir.path(), "chain = \"password\"")));
    let mut service = Service::start(&text);
    let connect = || {
        let mut connect = hello(Version::V5, "meter");
        (connect.username, connect.password) = (Some("ada"), Some(b"lovelace".as_slice()));
        Device::connect_as(service.mqtt(), &connect).0
    };
    let first = connect();
    let second = connect();
    let (first_at, second_at) = (first.address().to_string(), second.address().to_string());
    drop(first);
    second.leave();
    until("all to be told of", || events(&service, "client=meter").len() == 4);
    let all = events(&service, "client=meter&auth=devices");
    // The newest comes first.
    let kinds: Vec<_> = all.iter().map(|event| event["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["client_disconnected", "client_connected", "client_disconnected", "client_connected"]);
    let over = &all[2];
    assert_eq!((&over["peer"], &over["new_peer"]), (&first_at.into(), &second_at.clone().into()), "{over:#}");
    assert_eq!(over["reason"], "the same client id connected again");
    assert_eq!((&all[1]["peer"], &all[1]["user"]), (&second_at.into(), &"ada".into()), "{:#}", all[1]);
    assert_eq!((&all[0]["reason"], &all[0]["auth"]), (&"the client disconnected".into(), &"devices".into()));
    assert!(all[0]["connected_ms"].is_u64() && all[0].get("new_peer").is_none(), "{:#}", all[0]);
    assert!(events(&service, "").iter().all(|event| event["class"] != "connection"), "only where they are asked for");
    assert_eq!(events(&service, "class=connection&limit=1")[0]["kind"], "client_disconnected");

    let control = service.control().to_string();
    let print = |options: &[&str]| {
        let output = program().args(["events", "--control", &control]).args(options).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let lines = print(&["--client", "meter"]);
    assert!(
        lines.lines().count() == 4 && lines.lines().next().is_some_and(|line| line.contains("client_connected")),
        "{lines}"
    );
    assert_eq!(print(&["--limit", "1", "--class", "connection"]).lines().count(), 1);
    assert_eq!(print(&["--client", "meter", "--until", "1h"]), "");
    assert!(print(&["--from", "yesterday"]).contains("RFC 3339"));
    service.terminate();
    assert!(!service.log().contains("client_connected"), "they are not in the log by themselves");

    let mut service = Service::start_with(&text, &[], &[("FOREBAY_LOG", "info,forebay::connections=debug")]);
    let mut connect = hello(Version::V5, "meter");
    (connect.username, connect.password) = (Some("ada"), Some(b"lovelace".as_slice()));
    Device::connect_as(service.mqtt(), &connect).0.leave();
    service.terminate();
    let log = service.log();
    assert!(
        log.contains("client_connected") && log.contains("client_disconnected") && log.contains("auth=\"devices\""),
        "{log}"
    );
}

/// Finding F9: with filters, and what an administrator has done stays.
#[test]
fn finding_f9_denials_do_not_end_what_administrators_have_done() {
    let dir = temp_dir();
    fs::write(dir.path().join("acl"), "topic read mine/#\n").expect("written");
    let acl = format!("[auth.devices]\nchain = \"anonymous\"\nacl_file = \"{}/acl\"\n", dir.path().display());
    let service = Service::start(&with_auth(&config(&acl)));
    let token = fs::read_to_string(service.token_file()).expect("a token");
    let own = format!("Authorization: Bearer {}", token.trim());
    http(service.control(), "PUT", "/api/v1/log-level", &own, "{\"level\": \"info\"}").expect("an answer");
    let mut devices: Vec<_> =
        (0..2).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("device-{n}"))).collect();
    for round in 0..100 {
        devices[0].publish(QoS::AtMostOnce, 0, &format!("others/{round}"), b"x");
    }
    devices[0].ping();
    devices[1].publish(QoS::AtMostOnce, 0, "others/x", b"x");
    devices[1].ping();
    until("the last to be told of", || events(&service, "client=device-1&kind=acl_denied").len() == 1);
    let denied = events(&service, "client=device-0&kind=acl_denied");
    assert!((1..=12).contains(&denied.len()), "at most six within a minute: {}", denied.len());
    assert_eq!((&denied[0]["class"], &denied[0]["auth"]), (&"client".into(), &"devices".into()));
    // Finding Q37: the reason is what was denied.
    assert_eq!(devices[1].subscribe(&[("others/x", QoS::AtMostOnce)]), [0x87]);
    until("the subscription to be told of", || events(&service, "client=device-1&kind=acl_denied").len() == 2);
    let reasons: Vec<_> =
        events(&service, "client=device-1&kind=acl_denied").iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons, ["subscribe", "publish"], "the newest first");
    let changed = events(&service, "class=administration");
    assert_eq!((changed.len(), &changed[0]["kind"]), (1, &"admin_action".into()));
    assert!(events(&service, "severity=error").is_empty());
    let (status, body) = service.get("/api/v1/events?class=nothing").expect("an answer");
    assert!(status == 400 && body.contains("administration, lifecycle"), "{body}");
    assert_eq!(service.get("/api/v1/events?from=yesterday").expect("an answer").0, 400);
    assert!(events(&service, "from=2999-01-01T00:00:00Z").is_empty());
    let ids = |query: &str| {
        events(&service, query).iter().map(|event| event["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let all = ids("");
    assert!(all.is_sorted_by(|newer, older| newer > older) && all.len() > 3, "{all:?}");
    assert_eq!(ids(&format!("limit=2&before={}", all[0])), all[1..3]);
    assert!(ids("since=0").is_sorted());
}

/// Finding F10.
#[test]
fn finding_f10_wrong_tokens_are_counted_and_told_of_with_the_address() {
    let mut service = Service::start(&config(""));
    let refused = |reason: &str| metric(&service, &format!("control_requests_refused_total{{reason=\"{reason}\"}}"));
    let ask = |header: &str| {
        let (head, _) =
            http(service.control(), "PUT", "/api/v1/log-level", header, "{\"level\": \"info\"}").expect("an answer");
        head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).expect("a status")
    };
    assert_eq!((ask("X-None: 1"), refused("no_token")), (401, 1));
    assert!(events(&service, "kind=request_refused").is_empty(), "a browser asks so first");
    // One is looked at, and others once this address has waited: no more than four in the first seven seconds.
    let answers: Vec<u16> = (0..20).map(|guess| ask(&format!("Authorization: Bearer guess-{guess}"))).collect();
    assert!(answers[0] == 401 && answers.iter().all(|answer| [401, 429].contains(answer)), "{answers:?}");
    let looked_at = answers.iter().filter(|answer| **answer == 401).count() as u64;
    assert_eq!(refused("wrong_token"), looked_at);
    assert_eq!(metric(&service, "control_guesses_refused_total"), 20 - looked_at);
    assert_eq!(metric(&service, "control_guessing_addresses"), 1);
    // The right one does not wait.
    let token = std::fs::read_to_string(service.token_file()).expect("a token");
    assert_eq!(ask(&format!("Authorization: Bearer {}", token.trim())), 200);
    assert_eq!(ask("Authorization: Bearer x\r\nOrigin: http://elsewhere.example"), 403);
    assert_eq!(refused("foreign"), 1);
    let told = events(&service, "kind=request_refused");
    assert!((2..=12).contains(&told.len()), "of one address six within a minute: {}", told.len());
    let first = told.last().expect("one");
    assert!(first["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{first:#}");
    assert_eq!(first["action"], "PUT /api/v1/log-level");
    service.terminate();
    assert!(service.log().contains("request_refused") && !service.log().contains("guess-"), "{}", service.log());
}

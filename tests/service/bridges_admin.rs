//! Bridges by the admin API and the command line, with mosquitto as the remote: shown, created, changed, paused, removed.

use std::fs;

use forebay::mqtt::packet::{QoS, Version};
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::Device;
use crate::mosquitto::Mosquitto;
use crate::process::{metric, until};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config_with};
use crate::support::temp_dir;

/// It takes the messages of all clients.
const OPEN: &str = "allow_anonymous true";

fn plant(remote: &Mosquitto) -> String {
    format!(
        "# to the plant\n[bridge.plant]\nurl = \"mqtt://{}\" # where it is\ndescription = \"the plant\"\nreconnect_backoff_max = \"1s\"\n\
         [[bridge.plant.in]]\nname = \"values\"\nfilters = [\"plant/#\"]\nqos = 2\n\
         [[bridge.plant.out]]\nname = \"alarms\"\nfilters = [\"alarm/#\"]\ntopic = \"site/${{topic}}\"\n\
         [[sink]]\nname = \"values\"\nfilters = [\"plant/#\"]\ntopic = \"values\"\n",
        remote.addr
    )
}

fn state(service: &Service) -> Value {
    get(service, "bridges/plant")["state"].clone()
}

fn applied(answer: &(u16, Value)) -> Vec<&str> {
    answer.1["applied"].as_array().unwrap_or_else(|| panic!("{answer:?}")).iter().filter_map(Value::as_str).collect()
}

fn kinds(service: &Service) -> Vec<String> {
    let page = get(service, "events?limit=1000");
    let events = page["events"].as_array().expect("a list");
    events.iter().map(|event| event["kind"].as_str().expect("a kind").to_owned()).collect()
}

/// A bridge is shown with its remote, what that has granted, its filters and its numbers, and is no client.
#[test]
fn a_bridge_says_how_it_stands_and_what_it_has_done() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let service = Service::start(&config_with("shards = 2", &plant(&remote)));
    let filters = |of: &Value| of["in"][0]["filters"][0].clone();
    until("the remote to grant the filter", || filters(&get(&service, "bridges/plant"))["state"] == "granted");
    let mut there = Device::connect(remote.addr, Version::V5, "there");
    assert_eq!(there.subscribe(&[("site/#", QoS::AtLeastOnce)]), [1]);
    let mut here = Device::connect(service.mqtt(), Version::V5, "here");
    here.deliver(1, "alarm/1", b"hot");
    there.hear();
    there.deliver(1, "plant/1", b"21");
    until("the message to be counted", || get(&service, "bridges/plant")["received"] == 1);
    let shown = get(&service, "bridges/plant");
    for (key, value) in [
        ("name", json!("plant")),
        ("description", json!("the plant")),
        ("remote", json!(format!("mqtt://{}", remote.addr))),
        ("state", json!("connected")),
        ("reason", Value::Null),
        ("connects", json!(1)),
        ("unasked", json!(0)),
        ("queued_messages_max", json!(10_000)),
        ("out", json!([{ "name": "alarms", "filters": ["alarm/#"], "sent": 1 }])),
    ] {
        assert_eq!(shown[key], value, "{key} of {shown:#}");
    }
    assert_eq!((&shown["in"][0]["name"], &filters(&shown)["granted_qos"]), (&json!("values"), &json!(2)));
    assert_eq!((&shown["granted"]["protocol"], &shown["granted"]["maximum_qos"]), (&json!("5.0"), &json!(2)));
    assert!(shown["received_bytes"].as_u64() > Some(10), "{shown:#}");
    let list = get(&service, "bridges");
    assert_eq!((&list["bridges"][0]["name"], list["bridges"][0].get("granted")), (&json!("plant"), None));
    let status = get(&service, "status");
    assert_eq!(status["bridges"], json!([{ "name": "plant", "state": "connected", "reason": null }]));
    assert_eq!((&status["sessions"], &status["subscriptions"]), (&json!(1), &json!(0)), "clients alone");
    assert_eq!(get(&service, "clients")["clients"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(&service, "subscriptions")["subscriptions"], json!([]));
    assert_eq!(change(&service, "DELETE", "clients/bridge%2Fplant", &Value::Null).0, 404);
    assert_eq!(metric(&service, "bridge_connected"), 1);
    assert!(kinds(&service).contains(&"bridge_connected".to_owned()));
    assert_eq!(change(&service, "GET", "bridges/other", &Value::Null).0, 404);
    let (text, well) = forebay(&service, &["bridges"]);
    assert!(well && text.contains("plant   connected") && text.contains("the plant"), "{text}");
    let (text, well) = forebay(&service, &["bridges", "plant"]);
    assert!(well && text.contains("values  plant/#  granted") && text.contains("alarms  alarm/#"), "{text}");
    let (text, well) = forebay(&service, &["bridges", "plant", "--json"]);
    assert!(
        well && serde_json::from_str::<Value>(&text).is_ok_and(|json| json["granted"]["protocol"] == "5.0"),
        "{text}"
    );
    drop(remote);
    until("the bridge to be without a remote", || state(&service) == "unreachable");
    let away = get(&service, "bridges/plant");
    assert!(away["reason"].is_string() && away["last_trouble"]["reason"].is_string(), "{away:#}");
    assert_eq!((&away["granted"], &filters(&away)["state"]), (&Value::Null, &json!("open")));
    assert!(kinds(&service).contains(&"bridge_lost".to_owned()));
}

/// A login that the remote refuses.
#[test]
fn a_login_that_is_refused_is_shown() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let service = Service::start(&config_with("shards = 1", &plant(&remote)));
    until("the bridge to connect", || get(&service, "bridges/plant")["connects"] == 1);
    let closed = temp_dir();
    let closed_remote = Mosquitto::start(closed.path(), "allow_anonymous false");
    let keys = json!({ "url": format!("mqtt://{}", closed_remote.addr), "in": [{ "filters": ["plant/#"] }] });
    assert_eq!(change(&service, "PUT", "bridges/plant", &keys).0, 200);
    until("the remote to refuse the login", || state(&service) == "refused");
    let shown = get(&service, "bridges/plant");
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("Not authorized")), "{shown:#}");
    assert_eq!(get(&service, "status")["bridges"][0]["state"], "refused");
    assert!(kinds(&service).contains(&"bridge_refused".to_owned()));
}

/// A bridge is tried beside the one that runs, with other keys and before there is one: nothing of it changes.
#[test]
fn a_bridge_is_tried_before_it_is_made() {
    let (dir, closed) = (temp_dir(), temp_dir());
    let remote = Mosquitto::start(dir.path(), OPEN);
    let refuses = Mosquitto::start(closed.path(), "allow_anonymous false");
    let service = Service::start(&config_with("shards = 1", &plant(&remote)));
    until("the bridge to connect", || get(&service, "bridges/plant")["connects"] == 1);
    let tried = |name: &str, keys: &Value| change(&service, "POST", &format!("bridges/{name}/test"), keys);
    let texts = |of: &(u16, Value)| {
        let findings = of.1["findings"].as_array().unwrap_or_else(|| panic!("{of:?}"));
        findings.iter().map(|of| format!("{} {}", of["verdict"], of["text"])).collect::<Vec<_>>().join("\n")
    };
    let works = tried("plant", &json!({}));
    assert_eq!((works.0, &works.1["works"]), (200, &json!(true)), "{works:?}");
    assert!(texts(&works).contains("connected with MQTT 5.0"), "{works:?}");
    assert!(texts(&works).contains("in values: 1 filter granted at QoS 2"), "{works:?}");
    // The client ID is another one: the bridge keeps its connection.
    assert_eq!(get(&service, "bridges/plant")["connects"], 1);
    let url = |addr| json!({ "url": format!("mqtt://{addr}"), "in": [{ "filters": ["plant/#"] }] });
    let refused = tried("plant", &url(refuses.addr));
    assert_eq!((refused.0, &refused.1["works"]), (200, &json!(false)), "{refused:?}");
    assert!(texts(&refused).contains("\"problem\"") && texts(&refused).contains("Not authorized"), "{refused:?}");
    // One that does not exist yet.
    assert_eq!(tried("later", &url(remote.addr)).1["works"], true);
    let nobody = tried("later", &json!({ "url": "mqtt://127.0.0.1:1", "in": [{ "filters": ["plant/#"] }] }));
    assert!(nobody.1["works"] == false && texts(&nobody).starts_with("\"problem\""), "{nobody:?}");
    assert_eq!(tried("later", &json!({ "url": "http://x" })).0, 422);
    assert_eq!(tried("later", &json!({})).0, 404);
    assert_eq!(get(&service, "bridges")["bridges"].as_array().map(Vec::len), Some(1));
    let (text, well) = forebay(&service, &["bridges", "plant", "test"]);
    assert!(well && text.contains("ok       mqtt://") && text.contains("granted at QoS 2"), "{text}");
    drop(remote);
    let (text, well) = forebay(&service, &["bridges", "plant", "test"]);
    assert!(!well && text.contains("PROBLEM  mqtt://"), "{text}");
}

/// A bridge comes, is paused and resumed, and goes; what waits for its remote is not lost by mistake.
#[test]
fn a_bridge_comes_changes_and_goes() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), OPEN);
    let mut service =
        Service::start(&config_with("shards = 2", "[[sink]]\nname = \"v\"\nfilters = \"v\"\ntopic = \"v\"\n"));
    assert_eq!(get(&service, "bridges"), json!({ "bridges": [] }));
    let out = json!([{ "filters": ["alarm/#"], "topic": "site/${topic}" }]);
    let keys = json!({ "url": format!("mqtt://{}", remote.addr), "client_id": "forebay", "out": out });
    let tried = change(&service, "PUT", "bridges/plant?dry_run=true", &keys);
    assert_eq!((tried.0, applied(&tried)), (200, vec!["bridge plant (added)"]));
    assert_eq!(change(&service, "GET", "bridges/plant", &Value::Null).0, 404);
    let wrong = change(&service, "PUT", "bridges/plant", &json!({ "url": "http://x", "out": out }));
    assert_eq!(wrong.0, 422, "{wrong:?}");
    let made = change(&service, "PUT", "bridges/plant?persist=true", &keys);
    assert_eq!((made.0, applied(&made)), (201, vec!["bridge plant (added)"]));
    until("it to connect", || state(&service) == "connected");
    // What the configuration shows can be sent back.
    let shown = get(&service, "config")["bridge"]["plant"].clone();
    let same = change(&service, "PUT", "bridges/plant", &shown);
    assert_eq!((same.0, applied(&same)), (200, vec![]), "{shown:#}");

    let (text, well) = forebay(&service, &["bridges", "plant", "pause", "--persist"]);
    assert!(well && text.contains("applied: bridge plant (changed: paused)"), "{text}");
    assert_eq!(state(&service), "paused");
    let file = || fs::read_to_string(service.dir().join("forebay.toml")).expect("a file");
    assert!(file().contains("\n[bridge.plant]\n") && file().contains("paused = true"), "{}", file());
    let mut device = Device::connect(service.mqtt(), Version::V5, "d");
    device.deliver(1, "alarm/1", b"waits");
    until("it to wait", || get(&service, "bridges/plant")["queued_messages"] == 1);
    let refused = change(&service, "DELETE", "bridges/plant", &Value::Null);
    assert!(
        refused.0 == 409 && refused.1["detail"].as_str().is_some_and(|why| why.contains("1 message")),
        "{refused:?}"
    );

    let mut there = Device::connect(remote.addr, Version::V5, "there");
    there.subscribe(&[("site/#", QoS::AtLeastOnce)]);
    let resumed = change(&service, "POST", "bridges/plant/resume?persist=true", &Value::Null);
    assert_eq!((resumed.0, applied(&resumed)), (200, vec!["bridge plant (changed: paused)"]));
    there.hear();
    until("nothing to wait", || {
        let shown = get(&service, "bridges/plant");
        shown["queued_messages"] == 0 && shown["unacknowledged_messages"] == 0
    });
    assert!(!file().contains("paused = true"), "{}", file());

    drop(remote);
    until("it to be away", || state(&service) != "connected");
    device.deliver(2, "alarm/2", b"lost");
    until("it to wait", || get(&service, "bridges/plant")["queued_messages"] == 1);
    assert_eq!(change(&service, "DELETE", "bridges/plant?discard=false", &Value::Null).0, 409);
    let (text, well) = forebay(&service, &["bridges", "plant", "delete"]);
    assert!(!well && text.contains("discard=true"), "{text}");
    let (text, well) = forebay(&service, &["bridges", "plant", "delete", "--discard", "--persist"]);
    assert!(well && text.contains("applied: bridge plant (removed)"), "{text}");
    assert!(!file().contains("bridge.plant"), "{}", file());
    assert_eq!(change(&service, "DELETE", "bridges/plant", &Value::Null).0, 404);
    assert_eq!(get(&service, "bridges"), json!({ "bridges": [] }));
    let actions = get(&service, "events?kind=admin_action&limit=1000");
    let actions: Vec<_> = actions["events"].as_array().expect("events").iter().map(|of| of["action"].clone()).collect();
    for action in ["put_bridge", "pause_bridge", "resume_bridge", "delete_bridge"] {
        assert!(actions.contains(&json!(action)), "{actions:?}");
    }
    service.terminate();
}

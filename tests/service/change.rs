//! Sinks and clusters are created, changed and removed by the API.

use std::fs;

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::device::Device;
use crate::process::until;
use crate::records::{read_when, texts};
use crate::support::service::{Service, config, config_with};

/// Status and answer.
pub(crate) fn change(service: &Service, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (head, body) = service.ask(method, &format!("/api/v1/{path}"), "X-Test: 1", &body).expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

pub(crate) fn get(service: &Service, path: &str) -> Value {
    let (status, answer) = change(service, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{answer:#}");
    answer
}

fn names(service: &Service, path: &str) -> Vec<String> {
    let list = &get(service, path)[path];
    list.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

fn applied(answer: &(u16, Value)) -> Vec<&str> {
    answer.1["applied"].as_array().unwrap_or_else(|| panic!("{answer:?}")).iter().filter_map(Value::as_str).collect()
}

const ONE: &str = "# the first\n[[sink]]\nname = \"one\"\nfilters = [\"1/#\"] # its filters\ntopic = \"one\"\n";

#[test]
fn a_sink_comes_changes_and_goes() {
    let mut service = Service::start(&config_with("shards = 2", ONE));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let two = json!({ "filters": ["2/#"], "topic": "two", "headers": { "site": "berlin" } });
    // Shown, and nothing done.
    let shown = change(&service, "PUT", "sinks/two?dry_run=true", &two);
    assert_eq!((shown.0, applied(&shown)), (200, vec!["sink two (added)"]));
    assert_eq!(names(&service, "sinks"), ["one"]);
    let made = change(&service, "PUT", "sinks/two", &two);
    assert_eq!((made.0, applied(&made)), (201, vec!["sink two (added)"]));
    assert_eq!(made.1["not_in_file"], json!(["sink two"]));
    // It is in force when the answer comes.
    device.deliver(1, "2/x", b"x");
    let records = read_when(service.embedded(), "two", 1);
    assert_eq!(records[0].headers, [("site".to_owned(), "berlin".to_owned())]);

    // What the configuration shows can be sent back.
    let shown = get(&service, "config")["sink"][1].clone();
    assert_eq!(shown["filters"], json!(["2/#"]));
    let same = change(&service, "PUT", "sinks/two", &shown);
    assert_eq!((same.0, applied(&same)), (200, vec![]));
    let mut other = shown;
    other["filters"] = json!(["two/#"]);
    let changed = change(&service, "PUT", "sinks/two", &other);
    assert_eq!((changed.0, applied(&changed)), (200, vec!["sink two (changed: filters)"]));
    device.deliver(2, "two/x", b"y");
    read_when(service.embedded(), "two", 2);

    // A reload keeps it; it goes with the service, and what goes is not shown.
    let reloaded = change(&service, "POST", "reload", &Value::Null);
    assert_eq!((reloaded.0, applied(&reloaded)), (200, vec![]));
    assert_eq!(reloaded.1["not_in_file"], json!(["sink two"]));
    let gone = change(&service, "DELETE", "sinks/one", &Value::Null);
    assert_eq!((gone.0, applied(&gone)), (200, vec!["sink one (removed)"]));
    assert_eq!(gone.1["not_in_file"], json!(["sink two", "sink one (removed)"]));
    assert_eq!(names(&service, "sinks"), ["two"]);
    let config = get(&service, "config");
    assert_eq!(config["sink"].as_array().map(Vec::len), Some(1), "{config:#}");
    assert_eq!(change(&service, "GET", "sinks/one", &Value::Null).0, 404);
    assert_eq!(change(&service, "DELETE", "sinks/one", &Value::Null).0, 404);
    let events = get(&service, "events?kind=admin_action");
    let last = events["events"].as_array().and_then(|all| all.first()).expect("an event");
    assert_eq!((&last["action"], &last["sink"]), (&json!("delete_sink"), &json!("one")));
    assert!(service.terminate().success(), "{}", service.log());
    service.start_again();
    assert_eq!(names(&service, "sinks"), ["one"]);
}

/// What is written to the file is there after a restart, and the rest of the file is as it was.
#[test]
fn a_change_can_be_written_to_the_file() {
    let mut service = Service::start(&config(ONE));
    let file = service.dir().join("forebay.toml");
    let before = fs::read_to_string(&file).expect("the file");
    let two = json!({ "filters": ["2/#"], "topic": "two" });
    let three = json!({ "filters": ["3/#"], "topic": "three" });
    assert_eq!(change(&service, "PUT", "sinks/three", &three).0, 201);
    let made = change(&service, "PUT", "sinks/two?persist=true", &two);
    assert_eq!((made.0, &made.1["not_in_file"]), (201, &json!(["sink three"])));
    let after = fs::read_to_string(&file).expect("the file");
    assert_eq!(after, format!("{before}\n[[sink]]\nname = \"two\"\nfilters = [\"2/#\"]\ntopic = \"two\"\n"));
    // What somebody else has written meanwhile stays, and waits for a reload.
    fs::write(&file, after.replace("topic = \"one\"", "topic = \"other\"")).expect("written");
    let mut linger = two.clone();
    linger["linger"] = json!("9ms");
    let changed = change(&service, "PUT", "sinks/two?persist=true", &linger);
    assert_eq!((changed.0, applied(&changed)), (200, vec!["sink two (changed: linger)"]));
    let reloaded = change(&service, "POST", "reload", &Value::Null);
    assert_eq!(applied(&reloaded), ["sink one (changed: topic)"]);
    let text = fs::read_to_string(&file).expect("the file");
    assert!(text.contains("linger = \"9ms\"") && text.contains("# its filters\ntopic = \"other\""), "{text}");
    // A file that would be wrong is not written.
    fs::write(&file, "[[sink]]\nname = 7\n").expect("written");
    let refused = change(&service, "PUT", "sinks/two?persist=true", &two);
    assert!(refused.0 == 422 && refused.1["detail"].as_str().is_some_and(|why| why.contains("name")), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "[[sink]]\nname = 7\n");
    fs::write(&file, text).expect("written");
    assert!(service.terminate().success(), "{}", service.log());
    service.start_again();
    assert_eq!(names(&service, "sinks"), ["one", "two"]);
}

/// What `GET /config` shows of a part has every default in it: sent back with one change it writes that change, and leaves all else of the file as it is.
#[test]
fn what_is_shown_can_be_sent_back_and_only_its_change_is_written() {
    let two = "[[sink]]\nname = \"two\"\nfilters = [\n  '2/#', # the second\n]\ntopic = \"two\" # its topic\nlinger = \"5ms\"\n\n[sink.headers]\nsite = \"berlin\" # where\n";
    let service = Service::start(&config(&format!("{ONE}{two}")));
    let file = service.dir().join("forebay.toml");
    let read = || fs::read_to_string(&file).expect("the file");
    let before = read();
    let shown = || get(&service, "config")["sink"].as_array().expect("sinks")[1].clone();
    let mut keys = shown();
    assert!(keys.as_object().is_some_and(|keys| keys.len() > 20), "{keys:#}");
    let same = change(&service, "PUT", "sinks/two?persist=true", &keys);
    assert_eq!((same.0, applied(&same), read() == before), (200, vec![], true), "{}", read());
    keys["batch_bytes"] = "16KiB".into();
    keys["headers"]["who"] = "${clientid}".into();
    let changed = change(&service, "PUT", "sinks/two?persist=true", &keys);
    assert_eq!((changed.0, applied(&changed)), (200, vec!["sink two (changed: headers, batch_bytes)"]), "{changed:?}");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (lines(&before), read());
    let added: Vec<String> = lines(&new).into_iter().filter(|line| !old.contains(line)).collect();
    assert_eq!(added, ["batch_bytes = \"16KiB\"", "who = \"${clientid}\""], "{new}");
    assert!(old.iter().all(|line| new.contains(line)), "{new}");
    // A change that lasts until the restart is as short where it is written later.
    keys = shown();
    keys["linger"] = "9ms".into();
    assert_eq!(change(&service, "PUT", "sinks/two", &keys).0, 200);
    assert_eq!(change(&service, "POST", "sinks/two/pause?persist=true", &Value::Null).0, 200);
    let added: Vec<String> = lines(&read()).into_iter().filter(|line| !lines(&new).contains(line)).collect();
    assert_eq!(added, ["linger = \"9ms\"", "paused = true"], "{}", read());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let service = Service::start(&config(ONE));
    let before = get(&service, "config");
    for (method, path, body, status, word) in [
        ("PUT", "sinks/two", json!({ "filters": ["2/#/x"], "topic": "two", "linger": 3 }), 422, "filters[0]"),
        ("PUT", "sinks/two", json!({ "filters": ["2"], "topic": "two", "linger": 3 }), 422, "linger"),
        ("PUT", "sinks/two", json!({ "name": "three", "filters": ["2"], "topic": "two" }), 422, "three"),
        ("PUT", "sinks/two", json!(["2"]), 400, "body"),
        ("PUT", "sinks/one", json!({ "filters": ["1/#"], "topic": "one", "acknowledge": "leader" }), 409, "restart"),
        ("DELETE", "sinks/one", Value::Null, 422, "only one"),
        ("DELETE", "sinks/two", Value::Null, 404, "two"),
        ("PUT", "clusters/other", json!({}), 422, "bootstrap"),
        ("DELETE", "clusters/other", Value::Null, 404, "other"),
    ] {
        let answer = change(&service, method, path, &body);
        let detail = answer.1["detail"].as_str().unwrap_or_default();
        assert!(answer.0 == status && detail.contains(word), "{method} {path}: {answer:?}");
    }
    assert_eq!(get(&service, "config"), before);
}

/// A cluster comes beside the embedded log, is used, and goes again with its connections.
#[test]
fn a_cluster_comes_and_goes() {
    let log = Service::start(&config(ONE));
    let service = Service::start(&config(ONE));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let cluster = json!({ "bootstrap": [log.embedded().to_string()] });
    let made = change(&service, "PUT", "clusters/other", &cluster);
    assert_eq!((made.0, applied(&made)), (201, vec!["kafka other (added)"]), "{made:?}");
    let two = json!({ "filters": ["2/#"], "topic": "two", "kafka": "other" });
    assert_eq!(change(&service, "PUT", "sinks/two", &two).0, 201);
    device.deliver(1, "1/x", b"here");
    device.deliver(2, "2/x", b"there");
    assert_eq!(
        (texts(service.embedded(), "one"), texts(log.embedded(), "two")),
        (vec!["here".into()], vec!["there".into()])
    );
    assert_eq!(get(&service, "clusters/other")["reachable"], true);

    let used = change(&service, "DELETE", "clusters/other", &Value::Null);
    assert_eq!(used.0, 422, "{used:?}");
    assert_eq!(change(&service, "DELETE", "sinks/two", &Value::Null).0, 200);
    let gone = change(&service, "DELETE", "clusters/other", &Value::Null);
    assert_eq!((gone.0, applied(&gone)), (200, vec!["kafka other (removed)"]));
    assert_eq!(names(&service, "clusters"), ["embedded"]);
    // And then its series go, so no alert fires for it (findings U1, R3).
    until("its connections to be closed", || service.metric("forebay_kafka_connections{kafka=\"other\"}").is_none());
    assert_eq!(service.metric("forebay_kafka_reachable{kafka=\"other\"}"), None);

    // And again.
    assert_eq!(change(&service, "PUT", "clusters/other", &cluster).0, 201);
    assert_eq!(change(&service, "PUT", "sinks/two", &two).0, 201);
    device.deliver(3, "2/x", b"again");
    let mut all = texts(log.embedded(), "two");
    all.sort();
    assert_eq!(all, ["again", "there"]);
}

/// A paused sink takes messages and sends none; then all of them, once each. It stays paused through a reload, and through a
/// restart if that is written down.
#[test]
fn a_paused_sink_holds_what_it_takes() {
    let more = "buffer = \"disk\"\n[spool]\nbytes_max = \"512MiB\"\nsegment_bytes = \"16MiB\"\n[[sink]]\nname = \"two\"\nfilters = \"#\"\ntopic = \"two\"\n";
    let mut service = Service::start(&config_with("shards = 2", &format!("{ONE}{more}")));
    let mut devices: Vec<Device> =
        (0..4).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("device-{n}"))).collect();
    let mut id = 0;
    let mut all_deliver = |devices: &mut Vec<Device>| {
        id += 1;
        devices.iter_mut().for_each(|device| device.deliver(id, "1/x", id.to_string().as_bytes()));
    };
    all_deliver(&mut devices);
    read_when(service.embedded(), "one", 4);
    let paused = change(&service, "POST", "sinks/one/pause?persist=true", &Value::Null);
    assert_eq!((paused.0, applied(&paused)), (200, vec!["sink one (changed: paused)"]));
    assert_eq!(paused.1["not_in_file"], json!([]));
    for _ in 0..10 {
        all_deliver(&mut devices);
    }
    read_when(service.embedded(), "two", 44);
    assert_eq!(applied(&change(&service, "POST", "reload", &Value::Null)), Vec::<&str>::new());
    let sink = get(&service, "sinks/one");
    assert_eq!(
        (&sink["state"], &sink["buffered_records"], &sink["delivered"]),
        (&json!("paused"), &json!(40), &json!(4)),
        "{sink:#}"
    );
    assert_eq!(texts(service.embedded(), "one").len(), 4);
    assert!(service.terminate().success(), "{}", service.log());
    service.start_again();
    // A shard shows what it has taken up at the end of its first turn.
    until("both shards to show their records", || get(&service, "sinks/one")["buffered_records"] == 40);
    assert_eq!(get(&service, "sinks/one")["state"], "paused");
    let resumed = change(&service, "POST", "sinks/one/resume?persist=true", &Value::Null);
    assert_eq!((resumed.0, applied(&resumed)), (200, vec!["sink one (changed: paused)"]));
    let mut all: Vec<u32> = read_when(service.embedded(), "one", 44)
        .iter()
        .map(|record| String::from_utf8_lossy(&record.value).parse().expect("a number"))
        .collect();
    all.sort_unstable();
    let expected: Vec<u32> = (1..=11).flat_map(|n| [n; 4]).collect();
    assert_eq!(all, expected);
    let file = fs::read_to_string(service.dir().join("forebay.toml")).expect("the file");
    assert!(!file.contains("paused"), "{file}");
}

/// What is paused and resumed is as the file has it, and so is what is deleted and made again.
#[test]
fn what_is_taken_back_is_in_force_no_longer_beside_the_file() {
    let parts = "[[sink]]\nname = \"two\"\nfilters = \"2/#\"\ntopic = \"two\"\n[[sink]]\nname = \"fed\"\ntopic = \"fed\"\n[[source]]\nname = \"in\"\ntopic = \"in\"\nmqtt_topic = \"in/1\"\n\
                 [[rule]]\nname = \"hot\"\nsinks = [\"fed\"]\nsql = 'SELECT * FROM \"t/#\"'\n\
                 [bridge.far]\nurl = \"mqtt://127.0.0.1:1\"\n[[bridge.far.in]]\nfilters = \"f/#\"\n";
    let service = Service::start(&config(&format!("{ONE}{parts}")));
    let left = |method: &str, path: &str, body: &Value| {
        let answer = change(&service, method, path, body);
        assert!([200, 201].contains(&answer.0), "{path}: {answer:?}");
        answer.1["not_in_file"].clone()
    };
    let nothing = json!([]);
    for path in ["sinks/one", "sources/in", "rules/hot", "bridges/far"] {
        assert_ne!(left("POST", &format!("{path}/pause"), &Value::Null), nothing, "{path}");
        // Twice is once.
        left("POST", &format!("{path}/pause"), &Value::Null);
        assert_eq!(left("POST", &format!("{path}/resume"), &Value::Null), nothing, "{path}");
    }
    assert_ne!(left("DELETE", "sinks/two", &Value::Null), nothing);
    assert_eq!(left("PUT", "sinks/two", &json!({ "filters": "2/#", "topic": "two" })), nothing);
    // One that is made and changed by the API is one change; so is what goes with it.
    left("PUT", "sinks/three", &json!({ "filters": "3/#", "topic": "three" }));
    left("POST", "sinks/three/pause", &Value::Null);
    assert_eq!(left("POST", "sinks/three/resume", &Value::Null), json!(["sink three"]));
    assert_eq!(left("DELETE", "sinks/three", &Value::Null), nothing);
    assert_eq!(left("POST", "reload?dry_run=true", &Value::Null), nothing);
}

/// A default that no text has is written down before it is changed, which is no change of its own.
#[test]
fn a_default_sink_that_was_paused_is_a_default_again() {
    let service = Service::start(&config(""));
    let pause = change(&service, "POST", "sinks/default/pause", &Value::Null);
    assert_eq!(pause.1["not_in_file"], json!(["sink default"]), "{pause:?}");
    let resume = change(&service, "POST", "sinks/default/resume", &Value::Null);
    assert_eq!((resume.0, &resume.1["not_in_file"]), (200, &json!([])), "{resume:?}");
    assert_eq!(
        get(&service, "config/part?of=sink%20default")["keys"],
        json!({ "filters": "#", "topic": "mqtt-messages" })
    );
}

/// The keys of a part that are written, and no default; `put` takes them back.
#[test]
fn what_is_written_of_a_part_is_shown() {
    let rest = format!(
        "{ONE}[[listener]]\nbind = \"127.0.0.1:0\"\n[bridge.far]\nurl = \"mqtt://127.0.0.1:1\"\n[[bridge.far.in]]\nfilters = \"f/#\"\n"
    );
    let service = Service::start(&config(&rest));
    let keys = |part: &str, name: &str| get(&service, &format!("config/part?of={part}%20{name}"))["keys"].clone();
    let one = json!({ "filters": ["1/#"], "topic": "one" });
    assert_eq!(keys("sink", "one"), one);
    assert_eq!(keys("bridge", "far"), json!({ "url": "mqtt://127.0.0.1:1", "in": [{ "filters": "f/#" }] }));
    assert_eq!(keys("sink", "nobody"), Value::Null);
    let same = change(&service, "PUT", "sinks/one", &one);
    assert_eq!((same.0, applied(&same), &same.1["not_in_file"]), (200, vec![], &json!([])));
    // Those of the API are among them.
    change(&service, "POST", "sinks/one/pause", &Value::Null);
    assert_eq!(keys("sink", "one"), json!({ "filters": ["1/#"], "topic": "one", "paused": true }));
    let (text, _) = crate::sources_admin::forebay(&service, &["config", "part", "sink", "one"]);
    assert_eq!(text, "filters = [\"1/#\"]\ntopic = \"one\"\npaused = true\n");
    let (text, is_ok) = crate::sources_admin::forebay(&service, &["config", "part", "sink", "nobody"]);
    assert!(!is_ok && text.contains("there is no sink \"nobody\""), "{text}");
    assert_eq!(keys("nothing", "one"), Value::Null);
    let url = "/api/v1/config/part?of=sink%20one";
    let (head, _) = crate::support::service::http(service.control(), "GET", url, "X-Test: 1", "").expect("an answer");
    assert!(head.contains(" 401 "), "it may hold logins: {head}");
}

/// A change of one part comes with its own warnings, and not with those that the file has anyhow.
#[test]
fn a_change_has_the_warnings_that_it_brings() {
    let warned = "[[sink]]\nname = \"warned\"\nfilters = \"w/#\"\ntopic = \"w\"\nkey = \"{clientid}\"\n";
    let service = Service::start(&config(&format!("{ONE}{warned}")));
    let warnings = |answer: &(u16, Value)| answer.1["warnings"].as_array().map(Vec::len);
    let of_file = change(&service, "POST", "reload?dry_run=true", &Value::Null);
    assert_eq!(warnings(&of_file), Some(1), "{of_file:?}");
    let paused = change(&service, "POST", "sinks/one/pause", &Value::Null);
    assert_eq!((paused.0, warnings(&paused)), (200, Some(0)), "{paused:?}");
    let other = json!({ "filters": "o/#", "topic": "o", "key": "{clientid}" });
    let brings = change(&service, "PUT", "sinks/other?dry_run=true", &other);
    assert_eq!((brings.0, warnings(&brings)), (200, Some(1)), "{brings:?}");
    // What is known moves to another place where something before it goes.
    let gone = change(&service, "DELETE", "sinks/one", &Value::Null);
    assert_eq!((gone.0, warnings(&gone)), (200, Some(0)), "{gone:?}");
}

/// The lag of a sink is the age of its oldest record that Kafka does not have.
#[test]
fn a_sink_says_how_far_behind_it_is() {
    let service = Service::start(&config_with("shards = 2", ONE));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    assert_eq!(change(&service, "POST", "sinks/one/pause", &Value::Null).0, 200);
    device.publish(forebay::mqtt::packet::QoS::AtMostOnce, 0, "1/x", b"old");
    let lag = || service.metric("forebay_sink_lag_seconds{sink=\"one\"}").unwrap_or_default();
    until("it to be behind", || lag() > 2.0);
    device.publish(forebay::mqtt::packet::QoS::AtMostOnce, 0, "1/x", b"young");
    let shown = get(&service, "sinks/one")["lag_seconds"].as_f64().expect("a number");
    assert!((2.0..60.0).contains(&shown), "{shown}");
    assert_eq!(change(&service, "POST", "sinks/one/resume", &Value::Null).0, 200);
    read_when(service.embedded(), "one", 2);
    until("it to have caught up", || lag() == 0.0);
    assert_eq!(get(&service, "sinks/one")["lag_seconds"], 0.0);
}

/// How far a connection comes, of a cluster that is there and of one that might be.
#[test]
fn a_cluster_can_be_tried() {
    let service = Service::start(&config(ONE));
    let works = change(&service, "POST", "clusters/embedded/test", &json!({}));
    assert_eq!(
        (works.0, &works.1["works"], &works.1["brokers"][0]["failed"]),
        (200, &json!(true), &Value::Null),
        "{works:?}"
    );
    assert!(
        works.1["members"][0].as_str().is_some_and(|one| one.ends_with(&service.embedded().to_string())),
        "{works:?}"
    );
    // Nobody; something that is no Kafka; a name that is none.
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").to_string();
    let http = service.control().to_string();
    let brokers = json!({ "bootstrap": [nobody, http, "no-such-host.invalid:9092"], "request_timeout": "1s" });
    let tried = change(&service, "POST", "clusters/new/test", &brokers);
    let failed: Vec<_> =
        tried.1["brokers"].as_array().expect("brokers").iter().map(|one| one["failed"].clone()).collect();
    assert_eq!((tried.0, &tried.1["works"]), (200, &json!(false)));
    assert_eq!(failed, ["connect", "api_versions", "resolve"], "{tried:?}");
    assert_eq!(names(&service, "clusters"), ["embedded"], "nothing has changed");
    let (status, said) = change(&service, "POST", "clusters/new/test", &json!({}));
    assert_eq!(status, 404);
    assert!(said["detail"].to_string().contains("there is no Kafka cluster"), "{said}");
}

#[test]
fn a_sink_can_be_tried_on_a_message() {
    let templates = "[[sink]]\nname = \"t\"\nfilters = \"site/+/#\"\ntopic = \"s-${topic[1]}\"\nkey = \"${clientid}\"\nvalue = \"${payload.a}\"\nheaders = { who = \"${username}\" }\n";
    let service = Service::start(&config(templates));
    let message = json!({ "topic": "site/b/x", "payload": "{\"a\": 21.5}", "client_id": "dev", "username": "me",
        "user_properties": [["unit", "C"]] });
    let tried = change(&service, "POST", "sinks/t/test", &json!({ "message": message }));
    assert_eq!(tried.0, 200, "{tried:?}");
    for (key, value) in [
        ("matches", json!(true)),
        ("refused", Value::Null),
        ("topic", json!("s-b")),
        ("key", json!({ "text": "dev" })),
        ("value", json!({ "text": "21.5" })),
        (
            "headers",
            json!([{ "name": "who", "value": { "text": "me" } }, { "name": "unit", "value": { "text": "C" } }]),
        ),
    ] {
        assert_eq!(tried.1[key], value, "{key} of {:#}", tried.1);
    }
    // Finding Q43: numbers keep their digits, and objects the order of their members.
    for raw in ["2.50", "12345678901234567890123", "{\"z\": 1.0, \"a\": [1e3]}"] {
        let exact = json!({ "topic": "site/b/x", "payload": format!("{{\"a\": {raw}}}") });
        let tried = change(&service, "POST", "sinks/t/test", &json!({ "message": exact }));
        assert_eq!((&tried.1["refused"], &tried.1["value"]), (&Value::Null, &json!({ "text": raw })), "{tried:?}");
    }
    // As it would be with other keys; what is not text is base64.
    let binary = json!({ "topic": "elsewhere", "payload_base64": "/wA=" });
    let keys = json!({ "value": "${payload}", "topic": "${topic[5]}" });
    let tried = change(&service, "POST", "sinks/t/test", &json!({ "message": binary, "sink": keys }));
    assert_eq!((&tried.1["matches"], &tried.1["value"]), (&json!(false), &json!({ "base64": "/wA=" })), "{tried:?}");
    assert!(
        tried.1["refused"].as_str().is_some_and(|why| why.contains("not a valid Kafka topic: it is empty")),
        "{tried:?}"
    );
    let missing = json!({ "topic": "site/b", "payload": "{}" });
    let tried = change(&service, "POST", "sinks/t/test", &json!({ "message": missing }));
    assert!(tried.1["refused"].as_str().is_some_and(|why| why.starts_with("value asks for")), "{tried:?}");
    // Finding K15: what another sink takes does not go to one with `fallback`.
    let rest = json!({ "filters": "#", "topic": "r", "fallback": true, "timestamp": "${payload.ts}", "empty_payload": "null" });
    let at = |topic: &str, payload: &str| json!({ "message": { "topic": topic, "payload": payload }, "sink": rest });
    for (topic, payload, matches, timestamp, refused) in [
        ("site/b/x", "{\"ts\": 5}", false, json!(5), Value::Null),
        ("yard", "{\"ts\": 5}", true, json!(5), Value::Null),
        (
            "yard",
            "{\"ts\": []}",
            true,
            Value::Null,
            json!("timestamp is no number, before 1970, or more than an hour ahead"),
        ),
    ] {
        let (status, tried) = change(&service, "POST", "sinks/new/test", &at(topic, payload));
        assert_eq!((status, &tried["matches"]), (200, &json!(matches)), "{tried:?}");
        assert_eq!((&tried["timestamp"], &tried["refused"]), (&timestamp, &refused));
    }
    let (_, gone) = change(&service, "POST", "sinks/new/test", &at("yard", ""));
    assert_eq!((&gone["value"], &gone["refused"]), (&Value::Null, &Value::Null), "{gone:?}");
    assert!(gone["timestamp"].as_i64().is_some_and(|ms| ms > 1_600_000_000_000), "{gone:?}");
    let wrong = json!({ "message": missing, "sink": { "value": "${nothing}" } });
    assert_eq!(change(&service, "POST", "sinks/t/test", &wrong).0, 422);
    assert_eq!(change(&service, "POST", "sinks/u/test", &json!({ "message": missing })).0, 404);
}

//! The configuration file as text: by the API, and by `forebay config file` and `forebay config put`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::get;
use crate::device::{Device, Heard};
use crate::live::with_tokens;
use crate::records::read_when;
use crate::sources_admin::forebay;
use crate::support::service::{Service, config};

const SINK: &str = "# what machines say\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// Status and answer to a text.
fn send(service: &Service, method: &str, path: &str, text: &str) -> (u16, Value) {
    let (head, body) = service.ask(method, &format!("/api/v1/config/{path}"), "X-Test: 1", text).expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(&body).expect("JSON"))
}

fn put(service: &Service, etag: &Value, text: &str) -> (u16, Value) {
    send(service, "PUT", &format!("file?etag={}", etag.as_str().expect("a tag")), text)
}

fn check(service: &Service, text: &str) -> Value {
    let (status, answer) = send(service, "POST", "check", text);
    assert_eq!(status, 200, "{answer:#}");
    answer
}

fn detail(answer: &(u16, Value)) -> &str {
    answer.1["detail"].as_str().unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn a_text_is_checked_and_takes_the_place_of_the_file() {
    let second = "[[listener]] # the second\nbind = \"127.0.0.1:0\"\n";
    let service = Service::start(&config(&format!("{second}{SINK}")));
    let file = service.dir().join("forebay.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("permissions");
    let shown = get(&service, "config/file");
    let text = shown["text"].as_str().expect("a text").to_owned();
    assert_eq!(text, fs::read_to_string(&file).expect("the file"));
    assert_eq!((&shown["file"], &shown["previous"]), (&json!(file.display().to_string()), &Value::Null));

    // Mistakes have their place and the cure.
    let line = text.lines().count();
    let found = check(&service, &text.replace("topic = \"all\"", "topc = \"all\""))["mistakes"].take();
    let mistake =
        found.as_array().expect("mistakes").iter().find(|one| one["key"] == "sink[0].topc").expect("a mistake");
    assert_eq!((&mistake["line"], &mistake["column"]), (&json!(line), &json!(1)), "{mistake}");
    assert_eq!(mistake["hint"], "did you mean \"topic\"?");
    let found = check(&service, "a = = 1\n");
    assert_eq!((&found["mistakes"][0]["line"], &found["would"]), (&json!(1), &Value::Null), "{found}");

    // What it would do: now, with a restart, and to connections.
    let wanted = format!("{text}linger = \"9ms\"\nbuffer = \"memory\"\n[log]\nformat = \"json\"\n");
    let would = check(&service, &wanted)["would"].take();
    assert!(would["applied"].to_string().contains("sink all (changed: linger)"), "{would}");
    assert_eq!((&would["needs_restart"], &would["closes"]), (&json!(["log.format"]), &json!([])), "{would}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), text, "nothing is written");

    let done = put(&service, &shown["etag"], &wanted);
    assert_eq!(done.0, 200, "{done:?}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), wanted);
    assert_eq!(get(&service, "config")["sink"][0]["linger"], "9ms");
    let kept = service.dir().join("forebay.toml.bak");
    assert_eq!(fs::read_to_string(&kept).expect("the old one"), text);
    for path in [&file, &kept] {
        assert_eq!(fs::metadata(path).expect("it is there").permissions().mode() & 0o777, 0o640, "{path:?}");
    }
    let events = get(&service, "events?kind=admin_action");
    assert!(events.to_string().contains("put_config_file"), "{events}");

    // A tag holds for one content; the answer says what is there now.
    let late = put(&service, &shown["etag"], &text);
    assert_eq!(late.0, 412, "{late:?}");
    assert!(detail(&late).contains("\n- linger = \"9ms\"\n"), "{}", detail(&late));
    let now = get(&service, "config/file");
    assert_eq!(now["previous"], text.as_str());

    // A removed listener takes its clients along.
    let mut device = Device::connect(service.listeners()[1], Version::V5, "device");
    let without = wanted.replace(second, "");
    let would = check(&service, &without)["would"].take();
    assert_eq!(
        (&would["closes"], &would["disconnected_clients"]),
        (&json!(["clients of listener 127.0.0.1:0"]), &json!(1))
    );
    assert_eq!(put(&service, &now["etag"], &without).0, 200);
    assert_eq!(device.hear(), Heard::Disconnect(0x98));
}

/// W7, finding S2: what a stolen token could keep itself with, and files of others.
#[test]
fn some_of_it_is_changed_on_the_machine_only() {
    let (service, [writer, reader]) = with_tokens(SINK);
    let shown = get(&service, "config/file");
    let text = shown["text"].as_str().expect("a text");
    let of_machine = [
        text.replace("[control]\n", "[control]\norigins = [\"https://evil.example\"]\n"),
        format!("{text}[auth.evil]\npassword_file = \"/dev/null\"\n"),
        text.replace("[service]\n", "[service]\nsandbox = false\n"),
    ];
    for (wanted, section) in of_machine.iter().zip(["[control]", "[auth]", "[service]"]) {
        for answer in [put(&service, &shown["etag"], wanted), send(&service, "POST", "check", wanted)] {
            assert_eq!(answer.0, 409, "{answer:?}");
            assert!(
                detail(&answer).starts_with(section) && detail(&answer).contains("`forebay reload --config "),
                "{answer:?}"
            );
        }
    }
    let wanted = format!("{text}dead_letters_file = \"/etc/cron.d/x\"\n");
    let found = check(&service, &wanted);
    assert_eq!(found["mistakes"][0]["line"], wanted.lines().count(), "{found}");
    let refused = put(&service, &shown["etag"], &wanted);
    assert!(refused.0 == 422 && detail(&refused).contains("control.file_dirs"), "{refused:?}");
    assert_eq!(get(&service, "config/file")["text"], text);

    // Who may only read sees none of it.
    let as_reader = |method: &str, path: &str| {
        let header = format!("Authorization: Bearer {reader}");
        service.ask(method, &format!("/api/v1/config/{path}"), &header, text).expect("an answer").0
    };
    for (method, path) in [("GET", "file"), ("POST", "check"), ("PUT", "file?etag=x")] {
        assert!(as_reader(method, path).contains(" 403 "), "{method} {path}");
    }
    assert!(as_reader("GET", "schema").contains(" 200 "));
    let long = "#".repeat((1 << 20) + 1);
    assert_eq!(send(&service, "POST", "check", &long).0, 413);
    drop(writer);
}

/// A sink that the file gets by text writes to Kafka; one that the API made before, and that the file does not have, stays.
#[test]
fn changes_that_are_not_in_the_file_stay() {
    let service = Service::start(&config(SINK));
    let two = json!({ "filters": ["2/#"], "topic": "two" });
    assert_eq!(crate::change::change(&service, "PUT", "sinks/two", &two).0, 201);
    let shown = get(&service, "config/file");
    let three = format!(
        "{}[[sink]]\nname = \"three\"\nfilters = \"3/#\"\ntopic = \"three\"\n",
        shown["text"].as_str().expect("a text")
    );
    let done = put(&service, &shown["etag"], &three);
    assert_eq!((done.0, &done.1["not_in_file"]), (200, &json!(["sink two"])), "{done:?}");
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "2/x", b"x");
    device.deliver(2, "3/x", b"x");
    assert_eq!(read_when(service.embedded(), "two", 1).len(), 1);
    assert_eq!(read_when(service.embedded(), "three", 1).len(), 1);
}

#[test]
fn commands_read_and_replace_the_file() {
    let service = Service::start(&config(SINK));
    let (text, is_ok) = forebay(&service, &["config", "file"]);
    assert!(is_ok && text.contains("# what machines say"), "{text}");
    let shown = get(&service, "config/file");
    let (etag, now) = (shown["etag"].as_str().expect("a tag"), shown["text"].as_str().expect("a text"));
    let new = service.dir().join("new.toml");
    let name = new.display().to_string();
    fs::write(&new, now.replace("topic = \"all\"", "topc = \"all\"")).expect("a file");
    let (said, is_ok) = forebay(&service, &["config", "put", &name, "--dry-run"]);
    assert!(!is_ok && said.contains("sink[0].topc: unknown key; did you mean \"topic\"?"), "{said}");
    fs::write(&new, format!("{now}linger = \"7ms\"\n")).expect("a file");
    let (said, is_ok) = forebay(&service, &["config", "put", &name, "--dry-run"]);
    assert!(is_ok && said.contains("would be applied: sink all (changed: linger)"), "{said}");
    let (said, is_ok) = forebay(&service, &["config", "put", &name, "--etag", "none"]);
    assert!(!is_ok && said.contains("has changed since it was read"), "{said}");
    let (said, is_ok) = forebay(&service, &["config", "put", &name, "--etag", etag]);
    assert!(is_ok && said.contains("applied: sink all (changed: linger)"), "{said}");
    let (said, is_ok) = forebay(&service, &["config", "file", "--previous"]);
    assert!(is_ok && said.contains(now), "{said}");
    let (said, is_ok) = forebay(&service, &["clusters", "embedded", "test", "--topic", "nothing-of-that-name"]);
    assert!(!is_ok && said.contains("problem  topic nothing-of-that-name: it does not exist"), "{said}");
}

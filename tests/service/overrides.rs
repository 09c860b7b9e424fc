//! The API where variables of the environment and options of the command line have set something.

use std::fs;

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::Device;
use crate::records::texts;
use crate::support::service::{Service, config};

const AB: &str = "[[sink]]\nname = \"a\"\nfilters = \"a/#\"\ntopic = \"a\"\n[[sink]]\nname = \"b\"\nfilters = \"b/#\"\ntopic = \"b\"\n";

/// What is removed takes its variable with it; the next item does not get its settings.
#[test]
fn finding_f1_a_variable_goes_with_its_sink() {
    let service = Service::start_with(&config(AB), &[], &[("FOREBAY_SINK_0_TOPIC", "of-a")]);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "b/x", b"before");
    // The next start would take the variable for b.
    let refused = change(&service, "DELETE", "sinks/a?persist=true", &Value::Null);
    let detail = refused.1["detail"].as_str().unwrap_or_default();
    assert!(refused.0 == 409 && detail.contains("FOREBAY_SINK_0_TOPIC"), "{refused:?}");
    let gone = change(&service, "DELETE", "sinks/a", &Value::Null);
    assert_eq!((gone.0, &gone.1["applied"]), (200, &json!(["sink a (removed)"])), "{gone:?}");
    assert!(gone.1["warnings"].to_string().contains("FOREBAY_SINK_0_TOPIC: has no effect"), "{gone:?}");
    assert_eq!(get(&service, "config")["sink"][0]["topic"], "b");
    device.deliver(2, "b/x", b"after");
    let mut all = texts(service.embedded(), "b");
    all.sort_unstable();
    assert_eq!(all, ["after", "before"]);
    // The same by a reload.
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("the file");
    let (head, sinks) = text.split_once("[[sink]]").expect("sinks");
    let (_, b) = sinks.split_once("[[sink]]").expect("two");
    fs::write(&file, format!("{head}[[sink]]{b}")).expect("written");
    let reloaded = change(&service, "POST", "reload", &Value::Null);
    assert_eq!((reloaded.0, &reloaded.1["applied"]), (200, &json!([])), "{reloaded:?}");
    assert!(reloaded.1["warnings"].to_string().contains("it would be for sink b"), "{reloaded:?}");
    // One of another name in its place may be the same one: nobody guesses.
    fs::write(&file, text.replace("name = \"a\"", "name = \"other\"")).expect("written");
    let refused = change(&service, "POST", "reload", &Value::Null);
    assert!(refused.0 == 422 && refused.1["detail"].to_string().contains("restart"), "{refused:?}");
}

fn detail(answer: &(u16, Value)) -> &str {
    answer.1["detail"].as_str().unwrap_or_default()
}

/// A key that a variable or an option has set is not changed by a request, which says so.
#[test]
fn finding_f2_what_is_overridden_is_refused_by_name() {
    let service = Service::start_with(&config(AB), &[], &[("FOREBAY_SINK_0_TOPIC", "of-a")]);
    let a = |topic: &str| json!({ "filters": "a/#", "topic": topic });
    let refused = change(&service, "PUT", "sinks/a", &a("other"));
    assert!(refused.0 == 409 && detail(&refused).contains("FOREBAY_SINK_0_TOPIC"), "{refused:?}");
    // What the configuration shows can be sent back; another sink has nothing to do with it.
    let shown = get(&service, "config")["sink"][0].clone();
    let same = change(&service, "PUT", "sinks/a", &shown);
    assert_eq!((same.0, &same.1["applied"]), (200, &json!([])), "{same:?}");
    assert_eq!(change(&service, "PUT", "sinks/b", &json!({ "filters": "b/#", "topic": "other" })).0, 200);
    // A trial says nothing of another sink than the one that it was asked about.
    let message = json!({ "topic": "a/x" });
    let tried = change(&service, "POST", "sinks/a/test", &json!({ "message": message, "sink": { "topic": "other" } }));
    assert!(tried.0 == 409 && detail(&tried).contains("FOREBAY_SINK_0_TOPIC"), "{tried:?}");
}

#[test]
fn finding_f2_a_trial_of_a_cluster_is_of_the_brokers_that_it_names() {
    let log = Service::start(&config(AB));
    let text = "[[sink]]\nname = \"a\"\nfilters = \"a/#\"\ntopic = \"a\"\n[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n";
    let there = log.embedded().to_string();
    for (arguments, variables, word) in [
        (vec!["--kafka", &there], vec![], "--kafka"),
        (vec![], vec![("FOREBAY_KAFKA_MAIN_BOOTSTRAP", there.as_str())], "FOREBAY_KAFKA_MAIN_BOOTSTRAP"),
    ] {
        let service = Service::start_with(&config(text), &arguments, &variables);
        let other = json!({ "bootstrap": ["127.0.0.1:2"] });
        for (method, path) in [("POST", "clusters/main/test"), ("PUT", "clusters/main")] {
            let refused = change(&service, method, path, &other);
            assert!(refused.0 == 409 && detail(&refused).contains(word), "{method} {path}: {refused:?}");
        }
        let works = change(&service, "POST", "clusters/main/test", &json!({}));
        assert_eq!((works.0, &works.1["works"]), (200, &json!(true)), "{works:?}");
    }
}

/// What is listed can be addressed, or says where it comes from.
#[test]
fn finding_f2_what_is_in_no_file_can_be_changed_or_says_where_it_comes_from() {
    let service = Service::start(&config(""));
    let paused = change(&service, "POST", "sinks/default/pause", &Value::Null);
    assert_eq!((paused.0, &paused.1["applied"]), (200, &json!(["sink default (changed: paused)"])), "{paused:?}");
    let changed = change(&service, "PUT", "sinks/default", &json!({ "filters": "a/#", "topic": "a" }));
    assert_eq!(changed.0, 200, "{changed:?}");
    let unknown = change(&service, "DELETE", "clusters/embedded", &Value::Null);
    assert!(unknown.0 == 404 && detail(&unknown).contains("[embedded]"), "{unknown:?}");
    drop(service);

    let log = Service::start(&config(AB));
    let brokers = log.embedded().to_string();
    let more = [("FOREBAY_SINK_0_NAME", "all"), ("FOREBAY_SINK_0_FILTERS", "#"), ("FOREBAY_SINK_0_TOPIC", "t")];
    let variables = [more.as_slice(), &[("FOREBAY_KAFKA_MAIN_BOOTSTRAP", brokers.as_str())]].concat();
    let text = config("").replace("[embedded]\nbind = \"127.0.0.1:0\"\n", "");
    let service = Service::start_with(&text, &[], &variables);
    for (method, path, body, status) in [
        ("POST", "sinks/all/pause", Value::Null, 404),
        ("DELETE", "sinks/all", Value::Null, 404),
        ("PUT", "sinks/all", json!({ "filters": "#", "topic": "u" }), 409),
        ("DELETE", "clusters/main", Value::Null, 404),
    ] {
        let answer = change(&service, method, path, &body);
        assert!(answer.0 == status && detail(&answer).contains("FOREBAY_"), "{method} {path}: {answer:?}");
    }
    // Nothing is written that was not asked for.
    let file = service.dir().join("forebay.toml");
    let before = fs::read_to_string(&file).expect("the file");
    let made = change(&service, "PUT", "clusters/other?persist=true", &json!({ "bootstrap": [brokers] }));
    let after = fs::read_to_string(&file).expect("the file");
    let written = after.strip_prefix(&before).unwrap_or_else(|| panic!("{after}")).trim();
    let wanted = format!("[kafka.other]\nbootstrap = [\"{}\"]", log.embedded());
    assert!(if made.0 == 201 { written == wanted } else { written.is_empty() }, "{made:?}: {written}");
}

/// What is in force only while the file names nothing is not written along with something else.
#[test]
fn finding_f2_persist_writes_what_was_asked_and_nothing_else() {
    let service = Service::start(&config(""));
    let file = service.dir().join("forebay.toml");
    let before = fs::read_to_string(&file).expect("the file");
    let two = json!({ "filters": "2/#", "topic": "two" });
    let refused = change(&service, "PUT", "sinks/two?persist=true", &two);
    assert!(refused.0 == 409 && detail(&refused).contains("sink default"), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), before);
    assert_eq!(change(&service, "PUT", "sinks/two", &two).0, 201, "until a restart it stands beside the default");
    let default = json!({ "filters": "#", "topic": "mqtt-messages" });
    assert_eq!(change(&service, "PUT", "sinks/default?persist=true", &default).0, 200);
    assert_eq!(change(&service, "PUT", "sinks/two?persist=true", &two).0, 200);
    let after = fs::read_to_string(&file).expect("the file");
    assert!(after.starts_with(&before) && after.matches("[[sink]]").count() == 2, "{after}");
}

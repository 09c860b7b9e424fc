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

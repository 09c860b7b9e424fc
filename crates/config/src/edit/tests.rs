//! Edits of texts.

use super::*;

#[test]
fn a_bridge_is_added_changed_and_removed() {
    let out = serde_json::json!([{ "filters": ["alarm/#"], "topic": "site/${topic}" }]);
    let keys = serde_json::json!({ "out": out, "url": "mqtt://b" });
    let (with, met) = after(FILE, &[edit(Part::Bridge, "plant", entry(keys))]);
    let added =
        "\n[bridge.plant]\nurl = \"mqtt://b\"\nout = [{ filters = [\"alarm/#\"], topic = \"site/${topic}\" }]\n";
    assert!(met == Met::New && with.contains(added), "{with}");
    let paused = To::Keys([("paused".to_owned(), true.into())].into_iter().collect());
    let (text, met) = after(&with, &[edit(Part::Bridge, "plant", paused)]);
    assert!(met == Met::Known && text.contains("paused = true\n"), "{text}");
    let resumed = To::Keys([("paused".to_owned(), Json::Null)].into_iter().collect());
    assert_eq!(after(&text, &[edit(Part::Bridge, "plant", resumed)]).0, with);
    assert_eq!(after(&with, &[edit(Part::Bridge, "plant", To::Removed)]), (FILE.to_owned(), Met::Known));
    // A bridge with its lists in tables of their own.
    let tables = "[bridge.plant] # it\nurl = \"mqtt://b\"\n\n[[bridge.plant.out]]\nfilters = \"alarm/#\"\n";
    let given = serde_json::json!({ "url": "mqtt://c", "in": [{ "filters": "plant/#" }] });
    let (text, _) = after(tables, &[edit(Part::Bridge, "plant", entry(given))]);
    assert_eq!(text, "[bridge.plant] # it\nurl = \"mqtt://c\"\nin = [{ filters = \"plant/#\" }]\n");
}

const FILE: &str = "# a file\n[kafka.main]\nbootstrap = \"k:1\"\n\n# the first\n[[sink]]\nname = \"one\" # its name\nfilters = [\"1/#\"] # mine\ntopic = \"t\"\n\n[[sink]]\nname = \"two\"\nfilters = '2/#'\ntopic = \"t\"\n# the end\n";

fn text(text: &str) -> Text {
    Text { name: "test".to_owned(), text: text.to_owned() }
}

fn entry(json: Json) -> To {
    let Json::Object(keys) = json else { panic!("{json}") };
    To::Entry(keys)
}

fn edit(part: Part, name: &str, to: To) -> Edit {
    Edit { part, name: name.to_owned(), to }
}

fn after(file: &str, edits: &[Edit]) -> (String, Met) {
    let (text, met) = text_after(file, edits);
    super::super::parse(&text, "test").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    (text, met)
}

fn text_after(file: &str, edits: &[Edit]) -> (String, Met) {
    let (text, met) = text(file).edited(edits, &Beside::default()).expect("it can be edited");
    (text.text, met)
}

#[test]
fn what_is_not_changed_stays_as_it_is() {
    let same = serde_json::json!({ "name": "one", "filters": ["1/#"], "topic": "u", "linger": null });
    let (text, met) = after(FILE, &[edit(Part::Sink, "one", entry(same))]);
    assert_eq!((text, met), (FILE.replacen("topic = \"t\"", "topic = \"u\"", 1), Met::Known));
    let paused = To::Keys([("linger".to_owned(), "9ms".into())].into_iter().collect());
    let (text, _) = after(FILE, &[edit(Part::Sink, "two", paused)]);
    assert_eq!(text, FILE.replace("\n# the end", "\nlinger = \"9ms\"\n# the end"));
    let back = To::Keys([("linger".to_owned(), Json::Null)].into_iter().collect());
    assert_eq!(after(&text, &[edit(Part::Sink, "two", back)]).0, FILE);
}

/// Comments within a value stay with it as long as the value does, as do those beside keys of a table when another of its keys
/// changes.
#[test]
fn comments_within_what_does_not_change_stay() {
    let file = "[[sink]]\nname = 'one'\nfilters = [\n  'a/#', # the first\n  'b/#',\n]\ntopic = 't'\n\n[kafka.main]\nbootstrap = 'k:1'\n\n[kafka.main.sasl] # who\nmechanism = 'PLAIN' # plain\nusername = 'u'\npassword_file = '/p'\n";
    let keys = serde_json::json!({ "filters": ["a/#", "b/#"], "topic": "u" });
    let (text, _) = text_after(file, &[edit(Part::Sink, "one", entry(keys))]);
    assert_eq!(text, file.replace("topic = 't'", "topic = \"u\""));
    let sasl = serde_json::json!({ "mechanism": "PLAIN", "username": "v", "password_file": "/p" });
    let keys = serde_json::json!({ "bootstrap": "k:1", "sasl": sasl });
    let (text, _) = text_after(file, &[edit(Part::Cluster, "main", entry(keys))]);
    assert_eq!(text, file.replace("'u'", "\"v\""));
}

#[test]
fn what_is_new_comes_behind_its_kind_and_goes_again() {
    let three = serde_json::json!({ "filters": "3/#", "topic": "t", "headers": { "a.b": "${clientid}" } });
    let (text, met) = after(FILE, &[edit(Part::Sink, "three", entry(three))]);
    let added =
        "\n[[sink]]\nname = \"three\"\nfilters = \"3/#\"\ntopic = \"t\"\nheaders = { \"a.b\" = \"${clientid}\" }\n";
    assert_eq!(met, Met::New);
    assert!(text.starts_with(&FILE.replace("# the end\n", "")) && text.contains(added), "{text}");
    let (text, met) = after(&text, &[edit(Part::Sink, "three", To::Removed)]);
    assert_eq!((text.trim_end(), met), (FILE.trim_end(), Met::Known));
    assert_eq!(after(FILE, &[edit(Part::Sink, "three", To::Removed)]), (FILE.to_owned(), Met::New));
}

/// A second cluster leaves no sink without a target, and the defaults do not go away when something is added.
#[test]
fn what_held_without_a_word_still_holds() {
    let kafka = entry(serde_json::json!({ "bootstrap": ["k:2"] }));
    let (text, _) = after(FILE, &[edit(Part::Cluster, "other", kafka.clone())]);
    assert_eq!(text.matches("kafka = \"main\"").count(), 2, "{text}");
    assert!(text.contains("[kafka.other]\nbootstrap = [\"k:2\"]"), "{text}");
    for (part, name, to) in [
        (Part::Sink, "one", entry(serde_json::json!({ "filters": "1/#", "topic": "t" }))),
        (Part::Cluster, "main", kafka),
        (Part::Listener, "127.0.0.1:7", entry(serde_json::json!({ "receipts": true }))),
    ] {
        let (text, _) = after("", &[edit(part, name, to)]);
        let config = super::super::parse(&text, "test").expect("good");
        let default = super::super::Config::default_no_file();
        assert!(config.embedded.is_some(), "{text}");
        let sink = &config.sinks[0];
        assert_eq!((sink.name.as_str(), &sink.filters), ("default", &default.sinks[0].filters), "{text}");
        assert_eq!(config.clusters[sink.cluster].name, EMBEDDED, "{text}");
        assert_eq!(config.listeners[0].bind, default.listeners[0].bind, "{text}");
    }
}

/// One edit has the effect of several of a part, and edits that cancel each other have none.
#[test]
fn an_edit_after_another_is_one_edit() {
    let keys = |json: Json| match entry(json) {
        To::Entry(keys) => To::Keys(keys),
        to => to,
    };
    let of = |first: To, then: To| edit(Part::Sink, "one", then).after(&edit(Part::Sink, "one", first)).to;
    let (paused, resumed) = (keys(serde_json::json!({ "paused": true })), keys(serde_json::json!({ "paused": null })));
    let made = entry(serde_json::json!({ "filters": "a", "topic": "t" }));
    let other = keys(serde_json::json!({ "topic": "u", "paused": null }));
    assert_eq!(of(paused.clone(), resumed.clone()), resumed);
    assert_eq!(of(paused.clone(), other.clone()), other);
    assert_eq!(
        of(made.clone(), paused.clone()),
        entry(serde_json::json!({ "filters": "a", "topic": "t", "paused": true }))
    );
    assert_eq!(of(paused, made.clone()), made);
    assert_eq!(of(made.clone(), To::Removed), To::Removed);
    assert_eq!(of(To::Removed, made.clone()), made);
    for (first, then) in [(resumed.clone(), other), (made, resumed)] {
        let both = [edit(Part::Sink, "one", first.clone()), edit(Part::Sink, "one", then.clone())];
        assert_eq!(text_after(FILE, &both).0, text_after(FILE, &[edit(Part::Sink, "one", of(first, then))]).0);
    }
}

/// Sinks and sources that name their cluster before there is another one are named; so are defaults.
#[test]
fn what_an_edit_writes_elsewhere_is_named() {
    let kafka = edit(Part::Cluster, "other", entry(serde_json::json!({ "bootstrap": ["k:2"] })));
    let pins = |file: &str, of: &Edit| of.pins(&text(file), &Beside::default()).expect("it can be edited");
    assert_eq!(pins(FILE, &kafka), ["sink one (kafka = \"main\")", "sink two (kafka = \"main\")"]);
    assert_eq!(pins("", &kafka), ["sink default", "kafka embedded"]);
    let same = edit(Part::Cluster, "main", entry(serde_json::json!({ "bootstrap": ["k:2"] })));
    let paused = edit(Part::Sink, "one", To::Keys([("paused".to_owned(), true.into())].into_iter().collect()));
    assert!(pins(FILE, &same).is_empty() && pins(FILE, &paused).is_empty());
    let named = FILE.replace("topic = \"t\"", "topic = \"t\"\nkafka = \"main\"");
    assert!(pins(&named, &kafka).is_empty());
}

#[test]
fn the_only_one_stays() {
    let one = "[[sink]]\nname='one'\nfilters='#'\ntopic='t'\n";
    let error = text(one).edited(&[edit(Part::Sink, "one", To::Removed)], &Beside::default()).expect_err("refused");
    assert!(error.contains("sink one is the only one"), "{error}");
}

#[test]
fn a_source_comes_goes_and_names_its_cluster_before_there_is_another() {
    let keys = serde_json::json!({ "topic": "out", "mqtt_topic": "t/1", "qos": 0 });
    let (with, met) = after(FILE, &[edit(Part::Source, "default", entry(keys))]);
    assert_eq!(met, Met::New);
    assert!(
        with.contains("\n[[source]]\nname = \"default\"\ntopic = \"out\"\nmqtt_topic = \"t/1\"\nqos = 0\n"),
        "{with}"
    );
    assert_eq!(with.matches("[[sink]]").count(), 2, "{with}");
    let other = entry(serde_json::json!({ "bootstrap": ["k:2"] }));
    let (named, _) = after(&with, &[edit(Part::Cluster, "other", other)]);
    assert_eq!(named.matches("kafka = \"main\"").count(), 3, "{named}");
    let (without, met) = after(&with, &[edit(Part::Source, "default", To::Removed)]);
    assert_eq!((without.trim_end(), met), (FILE.trim_end(), Met::Known));
}

#[test]
fn lists_on_one_line_are_lists() {
    let file = "sink = [{ name = 'one', filters = '#', topic = 't' }]\n";
    let two = entry(serde_json::json!({ "filters": "2", "topic": "t" }));
    let (text, _) = after(file, &[edit(Part::Sink, "two", two)]);
    assert_eq!(super::super::parse(&text, "test").expect("good").sinks.len(), 2);
}

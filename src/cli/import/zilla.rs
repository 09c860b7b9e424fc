//! `forebay import zilla`: a binding `mqtt-kafka` of Zilla as a `[broker]`.

use std::path::Path;

use toml_edit::Array;

use super::draft::{Block, Draft};
use super::notes::Notes;
use super::{BOOTSTRAP_UNKNOWN, Imported};
use crate::cli::args::ImportZillaArgs;
use crate::cli::input::text_of;
use crate::config::yaml::{self, Node, Value};

/// Notes that hold for every configuration.
const EVERYWHERE: [&str; 3] = [
    "listeners, TLS, guards and vaults are not read: without a [[listener]] only this machine can connect",
    "records of Zilla's have headers of its own (zilla:qos, zilla:reply-to): in its place are mqtt-qos, mqtt-response-topic, mqtt-correlation-data",
    "kept sessions are in a topic of their own, of one instance at a time: see CLUSTER.md",
];
/// The name of the cluster.
const CLUSTER: &str = "main";

/// Reads a file and makes a configuration.
///
/// # Errors
/// The file cannot be read, is not YAML, has no such binding, or lacks what the binding requires.
pub fn zilla(options: &ImportZillaArgs) -> Result<Imported, String> {
    let file = &options.file;
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    convert(&name, &text_of(file)?)
}

/// The bindings of a file.
struct Bindings<'y>(&'y [(String, Node)]);

impl<'y> Bindings<'y> {
    /// The bindings of a whole configuration; or the file itself, if it is a single binding.
    fn of(root: &'y Node) -> Self {
        match (&root.get("bindings").unwrap_or(root).value, &root.value) {
            (Value::Map(entries), _) => Self(entries),
            _ => Self(&[]),
        }
    }

    fn find(&self, kind: &str) -> Option<(&'y str, &'y Node)> {
        let of_kind = self.0.iter().find(|(_, node)| node.text("type") == Some(kind));
        of_kind.map(|(name, node)| (name.as_str(), node))
    }

    /// The brokers of the binding that leads to Kafka.
    fn servers(&self) -> Vec<String> {
        let clients = self.0.iter().filter(|(_, node)| node.text("type") == Some("kafka"));
        let mut servers = Vec::new();
        for (_, node) in clients.filter(|(_, node)| node.text("kind") == Some("client")) {
            servers
                .extend(node.get("options").and_then(|options| options.get("servers")).map(texts).unwrap_or_default());
        }
        servers
    }
}

/// The texts of a list, or a single text.
fn texts(node: &Node) -> Vec<String> {
    let text = |node: &Node| if let Value::Text(text) = &node.value { Some(text.clone()) } else { None };
    text(node).map_or_else(|| node.items().iter().filter_map(text).collect(), |one| vec![one])
}

fn convert(file: &str, text: &str) -> Result<Imported, String> {
    let documents = yaml::documents(text).map_err(|(line, why)| format!("{file}:{line}: {why}"))?;
    let root = documents.first().ok_or_else(|| format!("{file}: there is nothing in it"))?;
    let bindings = Bindings::of(root);
    let (name, binding) = bindings
        .find("mqtt-kafka")
        .ok_or_else(|| format!("{file}: there is no binding with `type: mqtt-kafka` in it"))?;
    let wrong = |node: &Node, what: &str| format!("{file}:{}: {name}: {what}", node.line);
    match binding.text("kind") {
        Some("proxy") => {}
        Some(other) => return Err(wrong(binding, &format!("kind: {other:?} is not supported; it is `proxy`"))),
        None => return Err(wrong(binding, "kind is required; it is `proxy`")),
    }
    let notes = Notes::default();
    let about = format!("binding {name}");
    let options = binding.get("options").ok_or_else(|| wrong(binding, "options.topics is required"))?;
    let topics = options.get("topics").ok_or_else(|| wrong(options, "options.topics is required"))?;
    let topic = |key: &str| {
        topics.text(key).map(str::to_owned).ok_or_else(|| wrong(topics, &format!("options.topics.{key} is required")))
    };
    let (sessions, messages, retained) = (topic("sessions")?, topic("messages")?, topic("retained")?);
    notes.left_out(
        &about,
        "options.topics.sessions",
        format_args!("Zilla's records in {sessions} are not read; sessions are in {sessions}-forebay"),
    );
    if let Some(server) = options.text("server") {
        let why = format_args!("there is one instance, and no redirection to {server}");
        notes.left_out(&about, "options.server", why);
    }
    for (key, why) in [
        ("clients", "set partition_by = \"client\" in routes whose messages are to stay in order for each client"),
        ("publish", "a client's right to publish is in [auth.NAME]"),
    ] {
        if options.get(key).is_some() {
            notes.left_out(&about, &format!("options.{key}"), why);
        }
    }
    named(options, &["topics", "server", "clients", "publish"], |key| {
        notes.left_out(&about, &format!("options.{key}"), "it has no counterpart");
    });
    named(binding, &["type", "kind", "options", "routes", "exit", "catalog", "telemetry"], |key| {
        notes.left_out(&about, key, "it has no counterpart");
    });
    let mut cluster = Block::named(&["kafka", CLUSTER], "the way to Kafka");
    let servers = bindings.servers();
    if servers.is_empty() {
        notes.add("the way to Kafka", format_args!("no binding names its brokers: set bootstrap of [kafka.{CLUSTER}]"));
        cluster.set("bootstrap", BOOTSTRAP_UNKNOWN);
    } else {
        cluster.set("bootstrap", servers.into_iter().collect::<Array>());
    }
    let mut broker = Block::named(&["broker"], &about);
    broker.set("messages", messages);
    broker.set("retained", retained);
    // Records of another program are none of ours.
    broker.set("sessions", format!("{sessions}-forebay"));
    let mut blocks = vec![cluster, broker];
    let routes = binding.get("routes").map(Node::items).unwrap_or_default();
    blocks.extend(
        routes.iter().enumerate().filter_map(|(at, node)| route(&format!("{about}: routes[{at}]"), node, &notes)),
    );
    let text = Draft { blocks }.settle(&notes);
    EVERYWHERE.iter().for_each(|note| notes.add("everywhere", note));
    Ok(Imported { text, notes: notes.into_text() })
}

/// Calls `each` for members that are not in `known`.
fn named(node: &Node, known: &[&str], each: impl Fn(&str)) {
    if let Value::Map(entries) = &node.value {
        entries.iter().filter(|(key, _)| !known.contains(&key.as_str())).for_each(|(key, _)| each(key));
    }
}

/// A route with a topic of its own. Without one it does the same as the others.
fn route(about: &str, node: &Node, notes: &Notes) -> Option<Block> {
    named(node, &["when", "with", "exit", "guarded"], |key| notes.left_out(about, key, "it has no counterpart"));
    if node.get("guarded").is_some() {
        notes.left_out(about, "guarded", "roles are in [auth.NAME.role.ROLE]");
    }
    let Some(topic) = node.get("with").and_then(|with| with.text("messages")) else {
        notes.add(about, "left out: it has no `with.messages`, and goes to the topic of all others");
        return None;
    };
    if topic.contains("${") {
        notes.add(
            about,
            format_args!("left out: a topic that is made of the message, as {topic} is, cannot be subscribed to"),
        );
        return None;
    }
    let mut filters: Vec<String> = Vec::new();
    for when in node.get("when").map(Node::items).unwrap_or_default() {
        for side in ["publish", "subscribe"] {
            for topic in when.get(side).map(Node::items).unwrap_or_default().iter().filter_map(|of| of.text("topic")) {
                let filter = without_names(topic);
                if filter != topic {
                    notes.add(about, format_args!("{topic} is {filter}: names of levels have no meaning here"));
                }
                if !filters.contains(&filter) {
                    filters.push(filter);
                }
            }
        }
        named(when, &["publish", "subscribe"], |key| {
            notes.left_out(about, &format!("when.{key}"), "it is not of messages")
        });
    }
    if filters.is_empty() {
        notes.add(about, "left out: it is for no topic");
        return None;
    }
    let mut block = Block::listed("broker.route", about);
    block.set("filters", filters.into_iter().collect::<Array>());
    block.set("topic", topic);
    Some(block.part())
}

/// A filter with `+` for each named level, as in `place/{id}/#`.
fn without_names(topic: &str) -> String {
    let level = |level: &str| if level.starts_with('{') && level.ends_with('}') { "+" } else { level }.to_owned();
    topic.split('/').map(level).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The binding of Zilla's reference, as it is written there.
    const REFERENCE: &str = "mqtt_kafka_proxy:\n  type: mqtt-kafka\n  kind: proxy\n  options:\n    server: mqtt-1.example.com:1883\n    topics:\n      \
                             sessions: mqtt-sessions\n      messages: mqtt-messages\n      retained: mqtt-retained\n  exit: kafka_cache_client\n";

    /// Z1 to Z9: the example loads as it is written.
    #[test]
    fn the_binding_of_the_reference_is_a_broker() {
        let imported = convert("zilla.yaml", REFERENCE).expect("it is read");
        let config =
            config::parse(&imported.text, "made").unwrap_or_else(|problems| panic!("{problems}\n{}", imported.text));
        let broker = config.broker.expect("a broker");
        assert_eq!((&*broker.messages, &*broker.retained), ("mqtt-messages", "mqtt-retained"));
        for note in [
            "options.server: left out",
            "mqtt-1.example.com:1883",
            "options.topics.sessions: left out",
            "set bootstrap",
        ] {
            assert!(imported.notes.contains(note), "{note}\n{}", imported.notes);
        }
    }

    /// Z2, Z6 to Z8, Z11: missing keys are reported by name and line.
    #[test]
    fn what_is_missing_is_named() {
        let with = |from: &str, to: &str| convert("zilla.yaml", &REFERENCE.replace(from, to)).expect_err(from);
        for (line, wanted) in [
            ("  kind: proxy\n", "zilla.yaml:2: mqtt_kafka_proxy: kind is required"),
            ("      sessions: mqtt-sessions\n", "options.topics.sessions is required"),
            ("      messages: mqtt-messages\n", "options.topics.messages is required"),
            ("      retained: mqtt-retained\n", "options.topics.retained is required"),
        ] {
            assert!(with(line, "").contains(wanted), "{}", with(line, ""));
        }
        assert!(with("kind: proxy", "kind: server").contains("\"server\" is not supported"));
        assert!(with("type: mqtt-kafka", "type: mqtt").contains("no binding with `type: mqtt-kafka`"));
        assert!(convert("f", "a: [").expect_err("no YAML").starts_with("f:1: "));
    }

    /// Z10, Z30: conditional routes, before the exit, and the brokers of the binding that leads to Kafka.
    #[test]
    fn routes_are_routes() {
        let text = format!(
            "name: example\nbindings:\n  {}\n  routes:\n    - when:\n        - publish:\n            - topic: place/{{id}}/device/#\n        - subscribe:\n            \
             - topic: place/+/device/#\n            - topic: command/one\n      with:\n        messages: mqtt-devices\n      exit: kafka_cache_client\n    \
             - when:\n        - publish:\n            - topic: x/{{y}}\n      with:\n        messages: ${{params.y}}\n  kafka:\n    type: kafka\n    kind: client\n    options:\n      \
             servers:\n        - kafka-1.example:9092\n",
            REFERENCE.trim_end()
        );
        // The former top level of the file is in `bindings` now.
        let mut is_binding = false;
        let text: String = text
            .lines()
            .map(|line| {
                is_binding |= line.starts_with("  mqtt_kafka_proxy");
                is_binding &= line != "  kafka:";
                let indent = if is_binding && !line.starts_with("  mqtt_kafka_proxy") { "  " } else { "" };
                format!("{indent}{line}\n")
            })
            .collect();
        let imported = convert("zilla.yaml", &text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        let config =
            config::parse(&imported.text, "made").unwrap_or_else(|problems| panic!("{problems}\n{}", imported.text));
        assert_eq!(config.clusters[0].bootstrap, ["kafka-1.example:9092"]);
        let broker = config.broker.expect("a broker");
        let routes: Vec<_> = broker.routes.iter().map(|route| (&*route.topic, route.filters.join(" "))).collect();
        assert_eq!(routes, [("mqtt-devices", "place/+/device/# command/one".to_owned())]);
        assert!(imported.notes.contains("cannot be subscribed to"), "{}", imported.notes);
    }
}

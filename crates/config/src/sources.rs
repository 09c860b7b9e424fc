//! The sources, each checked against its cluster and the other sources.

use std::collections::{BTreeMap, HashMap};

use toml::de::DeValue;

use super::clusters::Target;
use super::keys::{Key, Section};
use super::problem::{Fault, did_you_mean};
use super::reader::{Spot, Table};
use super::resolve::Document;
use super::resolved::{Feed, OnBadRecord, Rule, Source, Topics};
use super::setting::{Settings as _, Words as _};
use super::units::ShowSize;
use super::{Overrides, circles, sinks, values};
use forebay_kafka::topic_name::kafka_topic;
use forebay_mqtt::topic::valid_name;
use forebay_rule::program::from_text;
use forebay_rule::record::RecordTemplate;
use forebay_rule::template::{Fixed, TemplateOf, Vocabulary};

/// The most Kafka topics of one source.
const TOPICS_MAX: usize = 1_000;
/// The prefix of the default names of consumer groups.
const GROUP_PREFIX: &str = "forebay-";

/// A Kafka topic that a source reads, and the position of its name in the file.
type Read = (String, Spot);

/// Reads the sources.
pub(super) fn resolve(
    document: &Document<'_>,
    overrides: &Overrides,
    targets: &[Target],
    to: circles::Destinations<'_>,
    fetch_memory: usize,
) -> Vec<Source> {
    let tables = document.tables(Section::Source);
    document.bound(Section::Source, &tables);
    let (mut names, mut topics, mut groups) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut sources = Vec::new();
    let mut places = Vec::new();
    for (place, table) in tables.iter().enumerate() {
        let name = sinks::unique_name(table, &mut names, "source");
        let names_it = |rule: &&Rule| name.as_ref().is_some_and(|name| rule.names(name));
        let rules: Vec<&Rule> = to.rules.iter().filter(names_it).collect();
        let (source, read) = source(table, &rules, (targets, &overrides.environment), fetch_memory);
        for (topic, spot) in read {
            let hint = "a topic belongs to one source: let one of them read it, and subscribers choose by MQTT topic";
            once(table, &mut topics, (source.cluster, topic), &spot, "is read by another source too", hint);
        }
        if !source.group.is_empty() {
            let hint = "give each source a group of its own, or let one source read a list of topics";
            let (key, spot) = ((source.cluster, source.group.clone()), table.spot("group"));
            once(table, &mut groups, key, &spot, "is the group of another source too", hint);
        }
        if let Some(name) = name {
            sources.push(Source { name, ..source });
            places.push(place);
        }
    }
    circles::check(document, &sources, &places, to);
    sources
}

/// Reports the second use of a name in a cluster.
fn once(
    table: &Table<'_>,
    seen: &mut HashMap<(usize, String), Spot>,
    key: (usize, String),
    spot: &Spot,
    what: &str,
    hint: &str,
) {
    let name = key.1.clone();
    if let Some(earlier) = seen.insert(key, spot.clone()) {
        let what = format!("\"{name}\" {what}, on {}", table.source.where_is(&earlier));
        table.source.report(spot, Fault::new(what).hint(hint));
    }
}

/// Reads a source. `rules`: those that name it in FROM.
fn source(
    table: &Table<'_>,
    rules: &[&Rule],
    (targets, environment): (&[Target], &BTreeMap<String, String>),
    fetch_memory: usize,
) -> (Source, Vec<Read>) {
    let fixed = Fixed { metadata: &[], environment };
    let template = |_: &Key, value: &DeValue<'_>| values::template_of(value, &fixed);
    let mut source = Source::read(table);
    let (topics, read) = topics(table, &fixed);
    source.mqtt_topic = table.find("mqtt_topic", template);
    if let Some(template) = &source.mqtt_topic {
        check_mqtt_topic(table, template, &table.spot("mqtt_topic"));
    }
    match (&topics, table.has("mqtt_topic")) {
        (Topics::Each(_), true) => {
            let fault = Fault::new("cannot be combined with a table of topics, which names an MQTT topic for each");
            table.source.report(&table.spot("mqtt_topic"), fault.hint("remove one of the two"));
        }
        (Topics::One(_), false) => without_mqtt_topic(table, rules),
        _ => {}
    }
    source.topics = topics;
    source.payload = table.read("payload", template);
    source.qos = table.read("qos", |key, value| values::qos(key, value, &fixed));
    source.retain = table.read("retain", |key, value| values::flag_or_template(key, value, &fixed));
    source.user_properties = user_properties(table, &fixed);
    source.feeds = feeds(table, &[Feed::Subscribers, Feed::Rules]);
    let group = table.find("group", values::text);
    source.group = group.unwrap_or_else(|| format!("{GROUP_PREFIX}{}", table.text("name").unwrap_or_default()));
    source.group_instance = table.find("group_instance", values::non_empty);
    if source.group.is_empty() && source.group_instance.is_some() {
        let fault = Fault::new("has no effect without a group").hint("remove it, or name a group");
        table.source.report(&table.spot("group_instance"), fault);
    }
    source.dead_letters_topic = dead_letters_topic(table, &source, &read);
    source.description = table.find("description", values::text);
    if source.fetch_bytes > fetch_memory {
        let what = format!("is more than fetch_memory in [delivery], {}", ShowSize(fetch_memory as u64));
        table.source.report(&table.spot("fetch_bytes"), Fault::new(what).hint("lower one or raise the other"));
    }
    source.cluster = sinks::target(table, targets).unwrap_or_default();
    (source, read)
}

/// Keys of the mapping of a record to a message.
const OF_MESSAGES: [&str; 6] = ["payload", "qos", "retain", "properties", "user_properties", "feeds"];
/// Keys for messages without a subscriber: those that rules make of a record, too.
const OF_WAITING: [&str; 2] = ["no_subscriber", "start_grace"];

/// Reports keys without use in a source with records that are no messages.
fn without_mqtt_topic(table: &Table<'_>, rules: &[&Rule]) {
    if rules.is_empty() {
        let fault = Fault::new("is missing, and no rule names the source: nothing is read");
        let from = from_text(table.text("name").unwrap_or("NAME"));
        let hint = format!(
            "name an MQTT topic, as in mqtt_topic = \"devices/${{key}}/commands\", or write a rule FROM \"{from}\""
        );
        table.source.warn(&table.spot("mqtt_topic"), fault.hint(hint));
    }
    let is_republished = rules.iter().any(|rule| !rule.republish.is_empty());
    let of_waiting = OF_WAITING.into_iter().filter(|_| !is_republished);
    for key in OF_MESSAGES.into_iter().chain(of_waiting).filter(|key| table.has(key)) {
        let fault = Fault::new("has no effect without mqtt_topic").hint("records go to the rules that name the source");
        table.source.warn(&table.spot(key), fault);
    }
}

/// Reads `dead_letters_topic`, which `on_bad_record = "dead-letter"` requires, and no other value uses. `read`: the source's own
/// topics.
fn dead_letters_topic(table: &Table<'_>, source: &Source, read: &[Read]) -> Option<String> {
    const KEY: &str = "dead_letters_topic";
    let topic = table.find(KEY, values::non_empty);
    let is_asked_for = source.on_bad_record == OnBadRecord::DeadLetter;
    let report = |key, fault| table.source.report(&table.spot(key), fault);
    match &topic {
        None if is_asked_for && !table.has(KEY) => {
            let fault = Fault::new("\"dead-letter\" needs a topic to write them to");
            report("on_bad_record", fault.hint("set dead_letters_topic"));
        }
        Some(_) if !is_asked_for => {
            let fault = Fault::new("has no effect without on_bad_record = \"dead-letter\"");
            table.source.warn(&table.spot(KEY), fault.hint("set on_bad_record, or remove it"));
        }
        Some(name) if read.iter().any(|(topic, _)| topic == name) => {
            let fault =
                Fault::new(format!("\"{name}\" is a topic that the source reads: its dead letters would come back"));
            report(KEY, fault.hint("use a separate topic for dead letters"));
        }
        Some(name) => {
            if let Err(error) = kafka_topic(name.as_bytes()) {
                report(KEY, Fault::new(format!("\"{name}\" is not a valid Kafka topic: it {error}")));
            }
        }
        None => {}
    }
    topic
}

/// Reads `topic`: the Kafka topics, each with its place.
fn topics(table: &Table<'_>, fixed: &Fixed<'_>) -> (Topics, Vec<Read>) {
    const KEY: &str = "topic";
    let mut read = Vec::new();
    let mut is_new = |topic: &str, spot: &Spot| {
        if let Err(error) = kafka_topic(topic.as_bytes()) {
            table.source.report(spot, Fault::new(format!("\"{topic}\" is not a valid Kafka topic: it {error}")));
        } else if read.iter().any(|(known, _)| known == topic) {
            let fault = Fault::new(format!("\"{topic}\" is in the list already")).hint("remove one of the two");
            table.source.report(spot, fault);
        } else {
            read.push((topic.to_owned(), spot.clone()));
        }
    };
    let topics = if table.is_table(KEY) {
        let mut each = Vec::new();
        for (kafka, value, spot) in table.entries(KEY) {
            match values::template_of(value, fixed) {
                Ok(template) => {
                    check_mqtt_topic(table, &template, &spot);
                    is_new(kafka, &spot);
                    each.push((kafka.to_owned(), template));
                }
                Err(fault) => table.source.report(&spot, fault.hint("quote a Kafka topic that contains dots")),
            }
        }
        if each.is_empty() && table.entries(KEY).is_empty() {
            let fault = Fault::new("is an empty table").hint("name at least one topic, as in { commands = \"t/1\" }");
            table.source.report(&table.spot(KEY), fault);
        }
        Topics::Each(each)
    } else {
        let texts = table.texts(KEY);
        texts.iter().for_each(|(topic, spot)| is_new(topic, spot));
        if texts.is_empty() { Topics::None } else { Topics::One(texts.into_iter().map(|(topic, _)| topic).collect()) }
    };
    if read.len() > TOPICS_MAX {
        let fault = Fault::new(format!("has {} topics; a source has at most {TOPICS_MAX}", read.len()));
        table.source.report(&table.spot(KEY), fault.hint("divide them between several sources"));
    }
    (topics, read)
}

/// Reports an MQTT topic that no message can have.
pub(super) fn check_mqtt_topic<V: Vocabulary>(table: &Table<'_>, template: &TemplateOf<V>, spot: &Spot) {
    let hint = "a topic has at least one character, and neither `+` nor `#`";
    if let Some(topic) = template.as_literal() {
        if !valid_name(topic) {
            table.source.report(spot, Fault::new(format!("\"{topic}\" is not a valid MQTT topic")).hint(hint));
        }
    } else if let Some(c) = template.texts().flat_map(str::chars).find(|c| matches!(c, '+' | '#' | '\0')) {
        table.source.report(spot, Fault::new(format!("`{c}` cannot be in an MQTT topic")).hint(hint));
    }
}

fn user_properties(table: &Table<'_>, fixed: &Fixed<'_>) -> Vec<(String, RecordTemplate)> {
    let mut properties = Vec::new();
    for (name, value, spot) in table.entries("user_properties") {
        let read = match value {
            DeValue::Table(_) => Err(values::wrong_type("a template", value).hint("quote a name that contains dots")),
            _ => values::template_of(value, fixed),
        };
        match read {
            Ok(_) if name.is_empty() => table.source.report(&spot, Fault::new("a user property needs a name")),
            Ok(_) if name.contains('\0') => {
                table.source.report(&spot, Fault::new("U+0000 cannot be in the name of a user property"));
            }
            Ok(template) => properties.push((name.to_owned(), template)),
            Err(fault) => table.source.report(&spot, fault),
        }
    }
    properties
}

/// Reads `feeds`, or takes the default.
pub(super) fn feeds(table: &Table<'_>, default: &[Feed]) -> Vec<Feed> {
    const KEY: &str = "feeds";
    if !table.has(KEY) {
        return default.to_vec();
    }
    let mut feeds = Vec::new();
    for (text, spot) in table.texts(KEY) {
        let found = Feed::WORDS.iter().find(|(word, _)| *word == text);
        match found {
            Some((_, feed)) if feeds.contains(feed) => {
                table.source.report(&spot, Fault::new(format!("\"{text}\" is in the list already")));
            }
            Some((_, feed)) => feeds.push(*feed),
            None => {
                let words = Feed::WORDS.iter().map(|(word, _)| *word);
                let hint = did_you_mean(&text, words)
                    .unwrap_or_else(|| "there are \"subscribers\", \"rules\" and \"sinks\"".to_owned());
                table.source.report(&spot, Fault::new(format!("\"{text}\" is not a valid value")).hint(hint));
            }
        }
    }
    feeds
}

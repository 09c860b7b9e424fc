//! Kafka consumers: `[[source]]`.

use toml_edit::{InlineTable, Value};

use super::collect::Thing;
use super::draft::Block;
use super::given::Given;
use super::names::Names;
use super::notes::Notes;
use super::template::translate;

/// The prefix of the default group's name.
const GROUP_PREFIX: &str = "emqx-kafka-consumer-";
const FETCH_BYTES: &str = "896KiB";
/// The policy that is the default here, too, as EMQX writes it.
const LATEST: [&str; 2] = ["latest", "lastest"];
/// The default payload of a mapping of topics.
const PAYLOAD: &str = "${.}";

/// Makes the sources of a consumer: one, or several if mappings of topics differ in QoS or payload. `kafka`: the cluster, and
/// whether its connector is enabled.
pub(super) fn sources(thing: &Thing<'_>, names: &mut Names, kafka: (&str, bool), notes: &Notes) -> Vec<Block> {
    let about = thing.about();
    let given = Given::new(about.clone(), thing.members, notes);
    given.pass_over(&["type", "name", "connector", "status", "status_reason", "node_status", "rules"]);
    given.pass_over(&["created_at", "last_modified_at"]);
    let (kafka, is_enabled) = (kafka.0, kafka.1 && given.flag("enable").unwrap_or(true));
    let description = given.text("description");
    let parameters = given.part("parameters");
    let topic = parameters.text("topic").unwrap_or_default();
    let mappings = mappings(&parameters).into_iter().map(Some);
    let mut mappings: Vec<Option<Mapping>> = mappings.collect();
    if mappings.is_empty() {
        mappings.push(None);
    }
    let mut blocks = Vec::new();
    for mapping in mappings {
        let mut block = Block::listed("source", &about);
        block.set("name", names.give(&thing.name, &about, notes));
        block.set_some("description", description);
        block.set("kafka", kafka);
        match mapping {
            Some(mapping) => mapping.set(&mut block),
            None => block.set("topic", topic),
        }
        settings(&mut block, &parameters, &thing.name);
        block.set_some("paused", (!is_enabled).then_some(true));
        blocks.push(block);
    }
    given.leave_out("tags", "there are none here");
    given.leave_out("resource_opts", "health checks are those of the cluster: health_check_interval");
    parameters.finish();
    given.finish();
    blocks
}

fn settings(block: &mut Block, given: &Given<'_>, name: &str) {
    for (theirs, ours) in [("key_encoding_mode", "key_encoding"), ("value_encoding_mode", "value_encoding")] {
        block.set_some(ours, given.text(theirs).filter(|mode| *mode != "none"));
    }
    let group = given.text("group_id").map_or_else(|| format!("{GROUP_PREFIX}{name}"), str::to_owned);
    block.set("group", group);
    block.set_some("offset_reset", given.text("offset_reset_policy").filter(|policy| !LATEST.contains(policy)));
    let interval = given.duration("offset_commit_interval_seconds", "s");
    block.set_some("commit_interval", interval.filter(|interval| interval != "5s"));
    block.set("fetch_bytes", given.size("max_batch_bytes").as_deref().unwrap_or(FETCH_BYTES));
    given.leave_out("max_wait_time", "it is fixed");
    given.leave_out("max_rejoin_attempts", "a group is joined again without a limit");
}

fn ours(template: &str) -> String {
    translate(template, |_| false).text
}

/// Topics that are published alike.
struct Mapping {
    topics: Vec<(String, String)>,
    payload: String,
    qos: i64,
}

impl Mapping {
    fn set(self, block: &mut Block) {
        let mut topics = InlineTable::new();
        for (kafka, mqtt) in &self.topics {
            topics.insert(kafka, mqtt.as_str().into());
        }
        block.set("topic", Value::from(topics));
        block.set_some("payload", Some(self.payload.as_str()).filter(|payload| *payload != PAYLOAD));
        block.set("qos", self.qos);
        block.set("properties", false);
    }
}

fn mappings(given: &Given<'_>) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for mapping in given.items("topic_mapping") {
        const TOPIC: &str = "kafka_topic";
        let (kafka, mqtt) = (mapping.text(TOPIC), mapping.text("mqtt_topic"));
        let payload = ours(mapping.text_or_empty("payload_template").unwrap_or(PAYLOAD));
        let qos = mapping.number("qos").and_then(|qos| i64::try_from(qos).ok()).unwrap_or(0);
        let is_there = |topic: &str| mappings.iter().any(|known| known.topics.iter().any(|(name, _)| name == topic));
        let topics = match (kafka, mqtt) {
            (Some(kafka), _) if is_there(kafka) => Err("it is mapped already"),
            (Some(kafka), Some(mqtt)) => Ok((kafka.to_owned(), ours(mqtt))),
            _ => Err("it has no mqtt_topic, or none of its own"),
        };
        let topics = match topics {
            Ok(topics) => topics,
            Err(why) => {
                mapping.left_out(TOPIC, why);
                continue;
            }
        };
        mapping.finish();
        match mappings.iter_mut().find(|known| known.payload == payload && known.qos == qos) {
            Some(known) => known.topics.push(topics),
            None => mappings.push(Mapping { topics: vec![topics], payload, qos }),
        }
    }
    mappings
}

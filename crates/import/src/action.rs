//! Actions that write to Kafka: `[[sink]]`.

use toml_edit::{InlineTable, Value};

use super::collect::Thing;
use super::draft::Block;
use super::given::Given;
use super::notes::Notes;
use super::rule::Feeder;
use super::template::translate;

/// EMQX's defaults.
const KEY: &str = "${.clientid}";
const VALUE: &str = "${.}";
const TIMESTAMP: &str = "${.timestamp}";
/// The template of all User Properties, which become headers.
const USER_PROPERTIES: &str = "${pub_props.'User-Property'}";
const BATCH_BYTES: &str = "896KiB";
/// The most batches in flight that Kafka keeps in order.
const IN_FLIGHT_MAX: u64 = 5;

/// EMQX's places for records until Kafka has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffer {
    Memory,
    Disk,
    Hybrid,
}

/// A sink, and its effects on the rest of the configuration.
pub(super) struct Sink {
    pub(super) block: Block,
    pub(super) is_on_disk: bool,
}

/// Members of an action that are not about Kafka.
pub(super) struct Head {
    pub(super) connector: Option<String>,
    pub(super) is_enabled: bool,
    /// A topic filter of messages that go to the action without a rule.
    pub(super) local_topic: Option<String>,
}

/// Reads the members of an action that other objects depend on.
pub(super) fn head(thing: &Thing<'_>) -> Head {
    let text = |key: &str| thing.members.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    Head {
        connector: text("connector"),
        is_enabled: thing.members.get("enable").and_then(serde_json::Value::as_bool).unwrap_or(true),
        local_topic: text("local_topic").filter(|topic| !topic.is_empty()),
    }
}

/// Makes the sink of an action. `feeders`: the rules that name it.
pub(super) fn sink(thing: &Thing<'_>, name: &str, kafka: &str, feeders: &[&Feeder], notes: &Notes) -> Sink {
    let about = thing.about();
    let given = Given::new(about.clone(), thing.members, notes);
    given.pass_over(&["type", "name", "connector", "enable", "local_topic", "status", "status_reason", "node_status"]);
    given.pass_over(&["created_at", "last_modified_at", "rules"]);
    let mut block = Block::listed("sink", &about);
    block.set("name", name);
    block.set_some("description", given.text("description"));
    block.set("kafka", kafka);
    let parameters = if given.get("parameters").is_some() { given.part("parameters") } else { given.part("kafka") };
    if let Some(topic) = parameters.text("topic") {
        block.set("topic", translate(topic, |_| false).text);
    }
    let templates = Templates { feeders, given: &parameters };
    templates.message(&mut block, parameters.part("message"));
    templates.headers(&mut block);
    let is_random = parameters.text("partition_strategy").unwrap_or("random") == "random";
    block.set("partitioner", if is_random { "random" } else { "key" });
    block.set_some("compression", parameters.text("compression").filter(|codec| *codec != "no_compression"));
    batches(&mut block, &parameters);
    let buffer = buffer(&mut block, &parameters);
    given.leave_out("tags", "there are none here");
    given.leave_out(
        "resource_opts",
        "buffers are those of the sink, and health checks those of its cluster: health_check_interval",
    );
    given.leave_out("fallback_actions", "refused records go to dead_letters_topic or dead_letters_file");
    parameters.finish();
    given.finish();
    Sink { block, is_on_disk: buffer != Buffer::Memory }
}

struct Templates<'t, 'j> {
    feeders: &'t [&'t Feeder],
    given: &'t Given<'j>,
}

impl Templates<'_, '_> {
    fn is_never(&self, column: &str) -> bool {
        !self.feeders.is_empty() && self.feeders.iter().all(|rule| !rule.has_column(column))
    }

    /// A template without the variables that no rule yields; these are noted.
    fn translated(&self, given: &Given<'_>, key: &str, template: &str) -> String {
        let translated = translate(template, |column| self.is_never(column));
        if !translated.left_out.is_empty() {
            let which = translated.left_out.join(", ");
            given.note(key, format_args!("{which} is empty with EMQX and left out here: no rule selects it"));
        }
        translated.text
    }

    fn message(&self, block: &mut Block, given: Given<'_>) {
        let key = given.text_or_empty("key").unwrap_or(KEY);
        block.set("key", self.translated(&given, "key", key));
        if key == KEY && !self.is_never("clientid") {
            given.note("key", "the client ID, as with EMQX; without `key` it is the MQTT topic");
        }
        let value = given.text_or_empty("value").unwrap_or(VALUE);
        if value != VALUE {
            block.set("value", self.translated(&given, "value", value));
        }
        let timestamp = given.text("timestamp").unwrap_or(TIMESTAMP);
        let is_receipt = timestamp == TIMESTAMP && !self.feeders.iter().any(|rule| rule.names_a_timestamp);
        if !is_receipt {
            let ours = self.translated(&given, "timestamp", timestamp);
            if ours.contains("${") {
                block.set("timestamp", ours);
                given
                    .note("timestamp", "an output without a number there is refused; EMQX takes the time of the clock");
            } else {
                given.left_out("timestamp", "it is the time of receipt");
            }
        }
        given.finish();
    }

    fn headers(&self, block: &mut Block) {
        let mut headers = InlineTable::new();
        let is_json = self.given.text("kafka_header_value_encode_mode") == Some("json");
        for pair in self.given.items("kafka_ext_headers") {
            const NAME: &str = "kafka_ext_header_key";
            const TEXT: &str = "kafka_ext_header_value";
            match (pair.text(NAME), pair.text_or_empty(TEXT)) {
                (Some(name), _) if name.contains("${") => {
                    pair.left_out(NAME, format_args!("\"{name}\": names of headers are no templates"));
                }
                (Some(name), Some(_)) if headers.contains_key(name) => {
                    pair.left_out(NAME, format_args!("\"{name}\" is there already"));
                }
                (Some(name), Some(text)) => {
                    headers.insert(name, self.translated(&pair, TEXT, text).into());
                }
                _ => pair.left_out(NAME, "it has no name, or no value"),
            }
            pair.finish();
        }
        if is_json && !headers.is_empty() {
            self.given.note("kafka_ext_headers", "their values are written as they are, EMQX puts them in quotes");
        }
        block.set_some("headers", (!headers.is_empty()).then_some(Value::from(headers)));
        let from = self.given.text("kafka_headers");
        if from.is_some_and(|from| translate(from, |_| false).text == USER_PROPERTIES) {
            self.given.left_out("kafka_headers", "user properties become headers without it");
        } else if let Some(from) = from {
            let from = self.translated(self.given, "kafka_headers", from);
            if !from.is_empty() {
                block.set("headers_from", from);
                block.set_some("headers_encode", is_json.then_some("json"));
            }
        }
        block.set("properties", false);
    }
}

fn batches(block: &mut Block, given: &Given<'_>) {
    block.set("batch_bytes", given.size("max_batch_bytes").as_deref().unwrap_or(BATCH_BYTES));
    block.set("linger", given.duration("max_linger_time", "ms").as_deref().unwrap_or("0s"));
    given.leave_out("max_linger_bytes", "a batch that is full is sent: batch_bytes");
    match given.number("max_inflight").unwrap_or(IN_FLIGHT_MAX) {
        many if many > IN_FLIGHT_MAX => {
            given.note(
                "max_inflight",
                format_args!("{many} becomes {IN_FLIGHT_MAX}: Kafka keeps no more batches of a partition in order"),
            );
        }
        few => block.set_some("max_inflight", i64::try_from(few).ok().filter(|few| *few < 5)),
    }
    let retries = given.get("max_retries").filter(|retries| retries.as_str() != Some("infinity"));
    block.set_some("retries", retries.and_then(|_| given.number("max_retries")).and_then(|n| i64::try_from(n).ok()));
    block.set_some("expire_after", given.duration("max_batch_age", "ms"));
    given.leave_out("reconnect_delay", "reconnect_backoff_min and reconnect_backoff_max of the cluster");
    let refresh = given.duration("partition_count_refresh_interval", "s").filter(|time| time != "1m");
    if refresh.is_some() {
        given.left_out("partition_count_refresh_interval", "it is metadata_max_age of the cluster");
    }
    let limit = given.get("partitions_limit").filter(|limit| limit.as_str() != Some("all_partitions"));
    if limit.is_some() {
        given.left_out("partitions_limit", "every partition of the topic is used");
    }
}

/// Sets the place of records, and the meaning of an acknowledgement.
fn buffer(block: &mut Block, given: &Given<'_>) -> Buffer {
    let part = given.part("buffer");
    let mode = match part.text("mode") {
        Some("disk") => Buffer::Disk,
        Some("hybrid") => Buffer::Hybrid,
        _ => Buffer::Memory,
    };
    let is_async = given.text("query_mode").unwrap_or("async") == "async";
    given.leave_out("sync_query_timeout", "it is answer_timeout of the listener");
    let acks = given.text("required_acks").unwrap_or("all_isr");
    let (acknowledge, acks) = match (mode, acks) {
        (Buffer::Disk, acks) => {
            if acks != "all_isr" {
                given.left_out("required_acks", "records on disk are sent with acks = \"all\"");
            }
            ("stored", None)
        }
        (_, "none") => ("received", Some("0")),
        (_, "leader_only") if is_async => ("received", Some("1")),
        (_, "leader_only") => ("leader", None),
        _ if is_async => ("received", None),
        _ => ("replicated", None),
    };
    match mode {
        Buffer::Memory => {}
        Buffer::Disk => block.set("buffer", "disk"),
        Buffer::Hybrid => block.set("buffer", "hybrid"),
    }
    block.set("acknowledge", acknowledge);
    block.set_some("acks", acks);
    match acknowledge {
        "received" => given.note(
            "query_mode",
            "acknowledge = \"received\": a device is answered before Kafka has its message, as with EMQX; leave acknowledge and acks out to \
             have it answered when Kafka has it",
        ),
        "stored" => part.note("mode", "a device is answered when its message is on this machine's disk"),
        _ => {}
    }
    if part.flag("memory_overload_protection") == Some(true) {
        if (mode, acknowledge) == (Buffer::Memory, "received") {
            block.set("memory_overload_protection", true);
        } else {
            part.left_out("memory_overload_protection", "records that publishers rely on are not dropped");
        }
    }
    for key in ["per_partition_limit", "segment_bytes"] {
        let ours = if key == "segment_bytes" { "segment_bytes" } else { "bytes_max" };
        match mode {
            Buffer::Memory if key == "segment_bytes" => part.pass_over(&[key]),
            Buffer::Memory => part.leave_out(key, "buffer_bytes of the cluster is one limit for all partitions"),
            _ => part.leave_out(key, format_args!("{ours} of [spool] is for all sinks")),
        }
    }
    part.finish();
    mode
}

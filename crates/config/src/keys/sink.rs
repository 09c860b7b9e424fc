//! Keys of sinks: MQTT to Kafka.

use std::time::Duration;

use super::{DAY, GIB, KIB, MIB, Word, s, us, word, yes};
use crate::resolved::{
    Acknowledge, Buffer, Compression, DeadLetters, Fed, OfBroker, OnRefuse, Partitioner, ValueFormat,
};
use crate::setting::{Words, settings};
use forebay_rule::members::{Encode, HeadersFrom};
use forebay_rule::template::Template;
use forebay_rule::time::{RecordTime, TimeUnit};

const QOS0_WHEN_FULL: &[Word] = &[yes("drop"), word("wait")];
const ACKS: &[Word] = &[word("0"), word("1"), word("all")];
const EMPTY_PAYLOAD: &[Word] = &[word("value"), yes("null")];

settings! {
    /// `[[sink]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Sink in Sink {
        apart name: String => Text, Required, shown "\"telemetry\"",
            "Unique name, used in metrics and events: letters, digits, `.`, `_`, `-`; at most 100 characters.";
        now description: Option<String> => Text, From("none"), shown "\"Telemetry of all devices\"",
            "What this sink is for, for people: shown by the API and by `forebay sinks`.";
        apart kafka = Text, From("the cluster, if there is only one"), shown "\"main\"",
            "NAME of a `[kafka.NAME]`, or `\"embedded\"`.";
        now filters: Vec<String> => TextList, From("none: rules feed the sink"), shown "[\"telemetry/#\"]",
            "MQTT topic filters, with the wildcards `+` and `#`.";
        now exclude: Vec<String> => Filters, From("none"), shown "[\"telemetry/debug/#\"]",
            "Topic filters, likewise: a message that one of them matches does not go to this sink.";
        now fallback: bool = Flag, Is("false"),
            "If true, the sink gets only messages that no other sink takes, those with `fallback = true` aside: see [below](#several-sinks).";
        /// The Kafka topic. A literal one is a valid name; one that a template renders has to be checked with
        /// [`forebay_kafka::topic_name::kafka_topic`].
        now topic: Template => Template, Required, shown "\"telemetry\"",
            "Kafka topic. In a sink that rules feed, this and all other templates are over the output of the rule: see [below](#rows-of-rules). A message for which the template yields an invalid topic name is refused, and one whose name begins with `_`, as topics of Kafka's own do (`__consumer_offsets`, `_schemas`), unless the template itself begins with it.";
        /// The template of the record's key. `None`: records have none.
        now key: Option<Template> => Template, Is("\"${topic}\""),
            "Record key; the default is the message's MQTT topic for rows of rules, too; messages of one client with the same key stay in order. `\"\"`: records without a key.";
        /// The template of the value, if `value_format` is [`ValueFormat::Raw`].
        now value: Template => Template, Is("\"${payload}\""),
            "Record value; without the key, rows of rules have `\"${.}\"`, the whole output as JSON. Cannot be combined with `value_format = \"json\"`.";
        now value_format: ValueFormat = Word(ValueFormat::NAMES), Is("\"raw\""),
            "`\"raw\"`: the record value is what `value` yields. `\"json\"`: it is the whole message as a JSON object, see below.";
        now empty_payload as empty_is_null: bool = Word(EMPTY_PAYLOAD), Is("\"value\""),
            "What the record value of an empty payload is. `\"value\"`: what `value` or `value_format` says. `\"null\"`: null, which deletes the \
             record's key from a compacted topic (a tombstone).";
        now timestamp: Option<RecordTime> => Template, From("the time of receipt"), shown "\"${payload.ts}\"",
            "The record's timestamp: a number, as in `\"${payload.ts}\"`. A message for which it yields no number is refused: see [below](#the-time-of-a-record).";
        apart timestamp_unit = Word(TimeUnit::NAMES), Is("\"ms\""),
            "What `timestamp` counts from 1970-01-01 UTC on: seconds, milliseconds, microseconds or nanoseconds.";
        /// Headers in the order of the file.
        now headers: Vec<(String, Template)> => TemplateTable, From("none"), shown "{ client = \"${clientid}\" }",
            "Record headers, in this order; the message's MQTT 5 user properties follow them.";
        now headers_from: Option<HeadersFrom> => Template, From("none"), shown "\"${payload.meta}\"",
            "More record headers: a JSON object, as in `\"${payload.meta}\"`, whose members become headers behind those of `headers`; or a list of \
             `{ \"key\": …, \"value\": … }`. If the message has nothing there, there are none; if it has something else there, it is refused. A name of \
             `headers` or of Forebay's own is left out; one that begins with `mqtt-` gets `mqtt-user-` in front.";
        apart headers_encode = Word(Encode::NAMES), Is("\"none\""),
            "What becomes of the values of `headers_from`. `\"none\"`: text is written as it is, and null as `null`; other values are left out and counted. \
             `\"json\"`: each is written as JSON, text in quotes.";
        now properties: bool = Flag, Is("true"),
            "Whether the message's other MQTT 5 properties become record headers `mqtt-...`, see below. User properties always become headers.";
        now user_property_prefix: String => Text, From("none"),
            "Prefix for the header names of user properties. A user property whose header would have the name of one in `headers`, or of one \
             that Forebay writes itself, is left out, so clients cannot forge headers.";
        now metadata: Vec<(String, String)> => TextTable, From("none"),
            "Constants that the sink's templates can use as `${metadata.NAME}`.";
        restart buffer: Buffer => Word(Buffer::NAMES), From("`\"disk\"` if there is a `[spool]` and `acknowledge` allows it, otherwise `\"memory\"`"), shown "\"disk\"",
            "Where records are kept until Kafka has them: see below.";
        /// Bytes in memory before rows spill; not with [`Buffer::Memory`]. A shard's part holds at least a full batch and the largest
        /// record.
        apart spill_after: u64 => Size { min: 64 * KIB, max: 1_024 * GIB }, From("a quarter of the cluster's `buffer_bytes`"), shown "\"64MiB\"",
            "Memory for the sink's records, across all shards; beyond it records are kept on disk only. Cannot be combined with \
             `buffer = \"memory\"`. The cluster's `buffer_bytes` remains the limit for all its sinks.";
        restart acknowledge: Acknowledge => Word(Acknowledge::NAMES), From("`\"stored\"` with `buffer = \"disk\"`, otherwise `\"replicated\"`"), shown "\"stored\"",
            "What an acknowledgement guarantees: see below.";
        /// The acknowledgements of Kafka: 0, 1 or −1 (all in-sync replicas).
        restart acks: i16 => Word(ACKS), From("`\"all\"`; with `acknowledge = \"leader\"` `\"1\"`"), shown "\"all\"",
            "Kafka's `acks`, for sinks with `acknowledge = \"received\"` only: the other levels imply it.";
        restart partitioner: Partitioner = Word(Partitioner::NAMES), Is("\"key\""),
            "How partitions are chosen, which also determines what stays in order: see below.";
        now compression: Compression = Word(Compression::NAMES), Is("\"none\""), shown "\"zstd\"",
            "Compression of record batches.";
        now compression_level: Option<i32> => Integer { min: 1, max: 19 }, From("gzip: `6`; zstd: `3`"), shown "3",
            "Compression level: 1 to 9 for gzip, 1 to 19 for zstd. The other codecs have none.";
        now linger: Duration = Duration { min: us(0), max: s(60) }, Is("\"2ms\""),
            "How long a record waits for others before its batch may be sent.";
        apart batch_bytes: usize = Size { min: KIB, max: 16 * MIB }, Is("\"256KiB\""),
            "Size at which a batch is full; the topic's `max.message.bytes` must allow it.";
        apart record_bytes_max: usize = Size { min: KIB, max: 64 * MIB }, Is("\"1000KiB\""),
            "Maximum size of a record (key, value and headers together); a larger message is refused. The default fits Kafka's default \
             `max.message.bytes`.";
        now max_inflight: usize = Integer { min: 1, max: 1_000 }, Is("5"),
            "Maximum number of batches in flight per partition. Any value preserves order, since the producer is idempotent. More than 5 is taken as 5, with \
             a warning: Kafka remembers five batches of a producer, and would store what is sent again twice, or in another order.";
        now retries: Option<u32> = Integer { min: 0, max: 2_147_483_647 }, From("no limit"), shown "10",
            "How often a batch is sent again after an error that may pass, before its records are refused: they go to the dead letters if there are any, else \
             their publishers are told. A batch that may be in Kafka's log all the same is refused only when the log has shown that it is not. Without \
             a limit no error that passes costs a record; while no broker can be reached nothing is sent, and nothing counts.";
        now expire_after: Option<Duration> = Duration { min: s(1), max: s(36_500 * DAY) }, From("never"),
            "A record that has waited this long and is not part of a batch in flight is dropped and counted, and its publisher gets an acknowledgement. \
             The message's own Message Expiry Interval applies too, whichever is shorter.";
        now unknown_topic_timeout: Duration = Duration { min: s(1), max: s(365 * DAY) }, Is("\"10m\""),
            "Where `topic` is a template: the time for which records of a topic that Kafka does not have wait for it to be created. \
             Then they are refused: they go to the dead letters if there are any, else their publisher is told. Records of a fixed topic, \
             and acknowledged records that would be lost, wait without a limit.";
        now paused: bool = Flag, Is("false"),
            "If true, nothing new is sent to Kafka: records wait in the buffer, and when it is full, the same happens as when Kafka cannot be \
             reached. What is on its way is finished.";
        now qos0_when_full as drops_qos0: bool = Word(QOS0_WHEN_FULL), Is("\"drop\""),
            "What to do with a message of QoS 0 for which the sink has no room. `\"drop\"`: it is dropped for this sink, counted and reported; all \
             other destinations have it. `\"wait\"`: its publisher is not read until there is room, as with QoS 1 and 2.";
        now memory_overload_protection: bool = Flag, Is("false"),
            "Whether the oldest records that are in no batch are dropped for new ones while the machine is short of memory (`memory_high_watermark`): the \
             sink then holds no more than when that began. They are counted. Only with `acknowledge = \"received\"` and `buffer = \"memory\"`: at the other \
             levels an acknowledged record is never dropped for want of memory. `buffer_bytes` limits memory in any case.";
        apart on_refuse: OnRefuse => Word(OnRefuse::NAMES), From("`\"dead-letter\"`; without dead letters `\"drop\"` at `acknowledge = \"received\"`, otherwise `\"reject\"` with a warning"),
            "What to do with a message that the sink will never take, because its topic, value or time cannot be made of it, it is too large, or Kafka forbids \
             the topic. `\"dead-letter\"`: it becomes a dead letter, and its publisher gets a success when the letter is safe. `\"reject\"`: the sink is a gate: \
             no destination gets the message, and its publisher is told. `\"drop\"`: the sink goes without it, counted. With `\"dead-letter\"` and `\"drop\"` all \
             other destinations have it, whatever its QoS, its protocol version and its publisher.";
        apart dead_letters_topic = Text, From("none"), shown "\"telemetry-dead\"",
            "Kafka topic on the same cluster for records that Kafka rejects permanently: see [DEAD_LETTERS.md](DEAD_LETTERS.md).";
        apart dead_letters_file = Text, From("`dead-letters.jsonl` in `data_dir`, if there is no topic"), shown "\"./forebay-data/telemetry-dead.jsonl\"",
            "File for the same, one JSON object per line; with a topic as well, for what the topic rejects. Each sink has its own file, except \
             for the default, which is shared: four files of 64 MiB. A relative path is relative to the working directory. `\"none\"`: no file.";
        apart dead_letters_file_bytes_max = Size { min: 64 * KIB, max: 64 * GIB }, Is("\"64MiB\""),
            "Size at which the file is renamed and a new one is started.";
        apart dead_letters_files_max = Integer { min: 1, max: 1_000 }, Is("8"),
            "Number of files that are kept, including the current one. The oldest is deleted, read or not.";
    }
    and {
        /// The role of a sink that `[broker]` has made; `None`: the sink is in the file.
        of_broker: Option<OfBroker>,
        /// The templates of rows that rules feed; `None`: no rule does.
        fed: Option<Box<Fed>>,
        /// Index into [`crate::Config::clusters`].
        cluster: usize,
        /// The place of dead letters; `None`: nowhere, or the file of [`crate::Config::share_dead_letters_file`].
        dead_letters: Option<DeadLetters>,
        /// Whether the sink wants no dead letters at all.
        no_dead_letters: bool,
        /// Whether the sink was removed while the service runs: it has no filters, and stays until the restart so that its rows get to
        /// Kafka.
        is_removed: bool,
    }
}

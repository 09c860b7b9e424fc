//! MQTT to Kafka.

use super::{DAY, GIB, KIB, Key, MIB, Word, s, us, word};

const ACKNOWLEDGE: &[Word] = &[word("received"), word("leader"), word("replicated"), word("stored")];
const BUFFER: &[Word] = &[word("memory"), word("disk"), word("hybrid"), word("hybrid-saved")];
const QOS0_WHEN_FULL: &[Word] = &[word("drop"), word("wait")];
const ACKS: &[Word] = &[word("0"), word("1"), word("all")];
const PARTITIONER: &[Word] = &[word("key"), word("client"), word("sticky"), word("random")];
const COMPRESSION: &[Word] = &[word("none"), word("gzip"), word("snappy"), word("lz4"), word("zstd")];
const HEADERS_ENCODE: &[Word] = &[word("none"), word("json")];
const VALUE_FORMAT: &[Word] = &[word("raw"), word("json")];
const TIMESTAMP_UNIT: &[Word] = &[word("s"), word("ms"), word("us"), word("ns")];
const EMPTY_PAYLOAD: &[Word] = &[word("value"), word("null")];

pub(super) const KEYS: &[Key] = keys! {
    Sink.name: Text, Required, shown "\"telemetry\"",
        "Unique name, used in metrics and events: letters, digits, `.`, `_`, `-`; at most 100 characters.";
    Sink.description: Text, From("none"), shown "\"Telemetry of all devices\"",
        "What this sink is for, for people: shown by the API and by `forebay sinks`.";
    Sink.kafka: Text, From("the cluster, if there is only one"), shown "\"main\"",
        "NAME of a `[kafka.NAME]`, or `\"embedded\"`.";
    Sink.filters: TextList, Required, shown "[\"telemetry/#\"]",
        "MQTT topic filters, with the wildcards `+` and `#`.";
    Sink.exclude: Filters, From("none"), shown "[\"telemetry/debug/#\"]",
        "Topic filters, likewise: a message that one of them matches does not go to this sink.";
    Sink.fallback: Flag, Is("false"),
        "If true, the sink gets only messages that no other sink takes, those with `fallback = true` aside: see [below](#several-sinks).";
    Sink.topic: Template, Required, shown "\"telemetry\"",
        "Kafka topic. A message for which the template yields an invalid topic name is refused, and one whose name begins with `_`, as topics of Kafka's own do (`__consumer_offsets`, `_schemas`), unless the template itself begins with it.";
    Sink.key: Template, Is("\"${topic}\""),
        "Record key; messages of one client with the same key stay in order. `\"\"`: records without a key.";
    Sink.value: Template, Is("\"${payload}\""),
        "Record value. Cannot be combined with `value_format = \"json\"`.";
    Sink.value_format: Word(VALUE_FORMAT), Is("\"raw\""),
        "`\"raw\"`: the record value is what `value` yields. `\"json\"`: it is the whole message as a JSON object, see below.";
    Sink.empty_payload: Word(EMPTY_PAYLOAD), Is("\"value\""),
        "What the record value of an empty payload is. `\"value\"`: what `value` or `value_format` says. `\"null\"`: null, which deletes the \
         record's key from a compacted topic (a tombstone).";
    Sink.timestamp: Template, From("the time of receipt"), shown "\"${payload.ts}\"",
        "The record's timestamp: a number, as in `\"${payload.ts}\"`. A message for which it yields no number is refused: see [below](#the-time-of-a-record).";
    Sink.timestamp_unit: Word(TIMESTAMP_UNIT), Is("\"ms\""),
        "What `timestamp` counts from 1970-01-01 UTC on: seconds, milliseconds, microseconds or nanoseconds.";
    Sink.headers: TemplateTable, From("none"), shown "{ client = \"${clientid}\" }",
        "Record headers, in this order; the message's MQTT 5 user properties follow them.";
    Sink.headers_from: Template, From("none"), shown "\"${payload.meta}\"",
        "More record headers: a JSON object, as in `\"${payload.meta}\"`, whose members become headers behind those of `headers`; or a list of \
         `{ \"key\": …, \"value\": … }`. If the message has nothing there, there are none; if it has something else there, it is refused. A name of \
         `headers` or of Forebay's own is left out; one that begins with `mqtt-` gets `mqtt-user-` in front.";
    Sink.headers_encode: Word(HEADERS_ENCODE), Is("\"none\""),
        "What becomes of the values of `headers_from`. `\"none\"`: text is written as it is, and null as `null`; other values are left out and counted. \
         `\"json\"`: each is written as JSON, text in quotes.";
    Sink.properties: Flag, Is("true"),
        "Whether the message's other MQTT 5 properties become record headers `mqtt-...`, see below. User properties always become headers.";
    Sink.user_property_prefix: Text, From("none"),
        "Prefix for the header names of user properties. A user property whose header would have the name of one in `headers`, or of one \
         that Forebay writes itself, is left out, so clients cannot forge headers.";
    Sink.metadata: TextTable, From("none"),
        "Constants that the sink's templates can use as `${metadata.NAME}`.";
    Sink.buffer: Word(BUFFER), From("`\"disk\"` if there is a `[spool]` and `acknowledge` allows it, otherwise `\"memory\"`"), shown "\"disk\"",
        "Where records are kept until Kafka has them: see below.";
    Sink.spill_after: Size { min: 64 * KIB, max: 1_024 * GIB }, From("a quarter of the cluster's `buffer_bytes`"), shown "\"64MiB\"",
        "Memory for the sink's records, across all shards; beyond it records are kept on disk only. Cannot be combined with \
         `buffer = \"memory\"`. The cluster's `buffer_bytes` remains the limit for all its sinks.";
    Sink.acknowledge: Word(ACKNOWLEDGE), From("`\"stored\"` with `buffer = \"disk\"`, otherwise `\"replicated\"`"), shown "\"stored\"",
        "What an acknowledgement guarantees: see below.";
    Sink.acks: Word(ACKS), From("`\"all\"`; with `acknowledge = \"leader\"` `\"1\"`"), shown "\"all\"",
        "Kafka's `acks`, for sinks with `acknowledge = \"received\"` only: the other levels imply it.";
    Sink.partitioner: Word(PARTITIONER), Is("\"key\""),
        "How partitions are chosen, which also determines what stays in order: see below.";
    Sink.compression: Word(COMPRESSION), Is("\"none\""), shown "\"zstd\"",
        "Compression of record batches.";
    Sink.compression_level: Integer { min: 1, max: 19 }, From("gzip: `6`; zstd: `3`"), shown "3",
        "Compression level: 1 to 9 for gzip, 1 to 19 for zstd. The other codecs have none.";
    Sink.linger: Duration { min: us(0), max: s(60) }, Is("\"2ms\""),
        "How long a record waits for others before its batch may be sent.";
    Sink.batch_bytes: Size { min: KIB, max: 16 * MIB }, Is("\"256KiB\""),
        "Size at which a batch is full; the topic's `max.message.bytes` must allow it.";
    Sink.record_bytes_max: Size { min: KIB, max: 64 * MIB }, Is("\"1000KiB\""),
        "Maximum size of a record (key, value and headers together); a larger message is refused. The default fits Kafka's default \
         `max.message.bytes`.";
    Sink.max_inflight: Integer { min: 1, max: 1_000 }, Is("5"),
        "Maximum number of batches in flight per partition. Any value preserves order, since the producer is idempotent. More than 5 is taken as 5, with \
         a warning: Kafka remembers five batches of a producer, and would store what is sent again twice, or in another order.";
    Sink.retries: Integer { min: 0, max: 2_147_483_647 }, From("no limit"), shown "10",
        "How often a batch is sent again after an error that may pass, before its records are refused: they go to the dead letters if there are any, else \
         their publishers are told. A batch that may be in Kafka's log all the same is refused only when the log has shown that it is not. Without \
         a limit no error that passes costs a record; while no broker can be reached nothing is sent, and nothing counts.";
    Sink.expire_after: Duration { min: s(1), max: s(36_500 * DAY) }, From("never"),
        "A record that has waited this long and is not part of a batch in flight is dropped and counted, and its publisher gets an acknowledgement. \
         The message's own Message Expiry Interval applies too, whichever is shorter.";
    Sink.unknown_topic_timeout: Duration { min: s(1), max: s(365 * DAY) }, Is("\"10m\""),
        "Where `topic` is a template: the time for which records of a topic that Kafka does not have wait for it to be created. \
         Then they are refused: they go to the dead letters if there are any, else their publisher is told. Records of a fixed topic, \
         and acknowledged records that would be lost, wait without a limit.";
    Sink.paused: Flag, Is("false"),
        "If true, nothing new is sent to Kafka: records wait in the buffer, and when it is full, the same happens as when Kafka cannot be \
         reached. What is on its way is finished.";
    Sink.qos0_when_full: Word(QOS0_WHEN_FULL), Is("\"drop\""),
        "What to do with a message of QoS 0 for which the sink has no room. `\"drop\"`: it is dropped for this sink, counted and reported; all \
         other destinations have it. `\"wait\"`: its publisher is not read until there is room, as with QoS 1 and 2.";
    Sink.memory_overload_protection: Flag, Is("false"),
        "Whether the oldest records that are in no batch are dropped for new ones while the machine is short of memory (`memory_high_watermark`): the \
         sink then holds no more than when that began. They are counted. Only with `acknowledge = \"received\"` and `buffer = \"memory\"`: at the other \
         levels an acknowledged record is never dropped for want of memory. `buffer_bytes` limits memory in any case.";
    Sink.dead_letters_topic: Text, From("none"), shown "\"telemetry-dead\"",
        "Kafka topic on the same cluster for records that Kafka rejects permanently: see [DEAD_LETTERS.md](DEAD_LETTERS.md).";
    Sink.dead_letters_file: Text, From("`dead-letters.jsonl` in `data_dir`, if there is no topic"), shown "\"./forebay-data/telemetry-dead.jsonl\"",
        "File for the same, one JSON object per line; with a topic as well, for what the topic rejects. Each sink has its own file, except \
         for the default, which is shared: four files of 64 MiB. A relative path is relative to the working directory. `\"none\"`: no file.";
    Sink.dead_letters_file_bytes_max: Size { min: 64 * KIB, max: 64 * GIB }, Is("\"64MiB\""),
        "Size at which the file is renamed and a new one is started.";
    Sink.dead_letters_files_max: Integer { min: 1, max: 1_000 }, Is("8"),
        "Number of files that are kept, including the current one. The oldest is deleted, read or not.";
};

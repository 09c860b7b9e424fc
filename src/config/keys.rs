//! Every key of the configuration in one table: what it takes, its bounds, its default and its meaning. The reader takes
//! types, bounds and defaults from here, the messages their "did you mean", and `docs/CONFIGURATION.md` its tables.

use std::fmt;
use std::time::Duration;

use super::units::{ShowDuration, ShowSize};

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Service,
    Control,
    Log,
    Mqtt,
    Listener,
    Kafka,
    Embedded,
    Spool,
    Sink,
}

impl Section {
    pub(super) const ALL: [Self; 9] = [
        Self::Service,
        Self::Control,
        Self::Log,
        Self::Mqtt,
        Self::Listener,
        Self::Kafka,
        Self::Embedded,
        Self::Spool,
        Self::Sink,
    ];

    /// The key at the top of the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Control => "control",
            Self::Log => "log",
            Self::Mqtt => "mqtt",
            Self::Listener => "listener",
            Self::Kafka => "kafka",
            Self::Embedded => "embedded",
            Self::Spool => "spool",
            Self::Sink => "sink",
        }
    }

    /// The header as it is written in the file.
    pub(super) fn header(self) -> String {
        match self {
            Self::Listener | Self::Sink => format!("[[{}]]", self.name()),
            Self::Kafka => "[kafka.NAME]".to_owned(),
            _ => format!("[{}]", self.name()),
        }
    }
}

impl Section {
    /// What it is about, for the documents.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Service => "The process.",
            Self::Control => "The control plane.",
            Self::Log => "What is written to standard error.",
            Self::Mqtt => "Limits of the protocol, for all listeners.",
            Self::Listener => "Where devices connect; one part for each. With none: `bind = \"127.0.0.1:1883\"`.",
            Self::Kafka => {
                "A Kafka cluster; NAME is yours, and sinks refer to it. With none, the embedded log takes its place."
            }
            Self::Embedded => {
                "The embedded log: a single-node Kafka-protocol log in this process, for a machine with no Kafka yet. It \
                 runs where there is no `[kafka.NAME]`, and where this part is there; sinks know it as `\"embedded\"`."
            }
            Self::Spool => {
                "The disk buffer: a log of segments for each shard below `spool` in `data_dir`. It is there where this part is \
                 there, if only as `[spool]` with no key; sinks then keep their rows on disk and answer at `\"stored\"`, \
                 unless they say otherwise: see [SPOOL.md](internals/SPOOL.md)."
            }
            Self::Sink => {
                "MQTT to Kafka. A message goes to every sink of which a filter matches, and is answered when each has met \
                 its level. With no sink and no `[kafka.NAME]` there is one that takes `#` to the Kafka topic \
                 `mqtt-messages`; with a `[kafka.NAME]` and no sink the configuration is refused."
            }
        }
    }
}

/// A word that a key may have as its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    /// Why it cannot be used yet, and what to use; `None`: it can.
    pub(super) later: Option<&'static str>,
}

const fn word(name: &'static str) -> Word {
    Word { name, later: None }
}

const fn later(name: &'static str, why: &'static str) -> Word {
    Word { name, later: Some(why) }
}

/// What a key takes. Bounds are inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Flag,
    Integer {
        min: u64,
        max: u64,
    },
    /// A part of a whole, from a hundredth to all of it.
    Share,
    Duration {
        min: Duration,
        max: Duration,
    },
    Size {
        min: u64,
        max: u64,
    },
    Word(&'static [Word]),
    Text,
    TextList,
    Address,
    AddressOrOff,
    Template,
    TemplateTable,
    TextTable,
}

impl Kind {
    /// Its bounds, if it has any, as messages and documents show them.
    pub(super) fn bounds(self) -> Option<(String, String)> {
        match self {
            Self::Integer { min, max } => Some((min.to_string(), max.to_string())),
            Self::Duration { min, max } => {
                Some((format!("\"{}\"", ShowDuration(min)), format!("\"{}\"", ShowDuration(max))))
            }
            Self::Share => Some(("0.01".to_owned(), "1".to_owned())),
            Self::Size { min, max } => Some((format!("\"{}\"", ShowSize(min)), format!("\"{}\"", ShowSize(max)))),
            _ => None,
        }
    }
}

/// With its article, for "expected …".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "true or false",
            Self::Integer { .. } => "an integer",
            Self::Share => "a number",
            Self::Duration { .. } => "a duration",
            Self::Size { .. } => "a size",
            Self::Word(_) => "a word",
            Self::Text => "a string",
            Self::TextList => "a string or a list of strings",
            Self::Address => "an address",
            Self::AddressOrOff => "an address or \"off\"",
            Self::Template => "a template",
            Self::TemplateTable => "a table of templates",
            Self::TextTable => "a table of strings",
        })
    }
}

/// What holds where a key is not given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// It must be given.
    Required,
    /// This, as it would be written.
    Is(&'static str),
    /// This, worked out; said for the documents.
    From(&'static str),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) section: Section,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Absent,
    pub(super) meaning: &'static str,
}

/// Keys that other documents speak of and that this version does not have: `section.key`, or a section; and what to do.
pub(super) const LATER: [(&str, &str); 9] = [
    ("source", "this version goes from MQTT to Kafka only: leave it out"),
    ("rule", "this version has filters and templates in [[sink]] only: leave it out"),
    ("bridge", "this version is a server only: leave it out"),
    ("listener.tls", "this version listens on plain TCP: put a TLS proxy in front"),
    ("kafka.tls", "this version speaks to Kafka without TLS"),
    ("kafka.sasl", "this version speaks to Kafka without SASL"),
    ("sink.topics_max", "it is topics_max in [kafka.NAME], for all sinks of the cluster"),
    (
        "sink.when_full",
        "it is when_full in [spool], for all sinks that keep rows on disk; full memory holds publishers back",
    ),
    ("sink.partition", "no record is given a partition by number: see partitioner"),
];

/// The key of that name; every name the code asks for is in the table, which the tests walk through.
pub(super) fn get(section: Section, name: &str) -> &'static Key {
    of(section).find(|key| key.name == name).expect("the code asks for keys of the table only")
}

/// The keys of a section.
pub(super) fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}
const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: u64 = 86_400;

const TRANSPORT: &[Word] = &[
    word("tcp"),
    later("tls", "this version listens on plain TCP: put a TLS proxy in front"),
    later("ws", "this version listens on plain TCP"),
    later("wss", "this version listens on plain TCP"),
];
const PROXY_PROTOCOL: &[Word] = &[word("off"), word("v1"), word("v2"), word("any")];
const ACKNOWLEDGE: &[Word] = &[word("received"), word("leader"), word("replicated"), word("stored")];
const BUFFER: &[Word] = &[word("memory"), word("disk"), word("hybrid"), word("hybrid-saved")];
const APPEND: &[Word] = &[word("written"), word("mapped")];
const WHEN_FULL: &[Word] = &[word("backpressure"), word("refuse"), word("drop-oldest")];
const ACKS: &[Word] = &[word("0"), word("1"), word("all")];
const PARTITIONER: &[Word] = &[word("key"), word("client"), word("sticky"), word("random")];
const COMPRESSION: &[Word] = &[word("none"), word("gzip"), word("snappy"), word("lz4"), word("zstd")];
const VALUE_FORMAT: &[Word] = &[word("raw"), word("json")];
const FORMAT: &[Word] = &[word("text"), word("json")];
const LEVEL: &[Word] = &[word("error"), word("warn"), word("info"), word("debug"), word("trace")];

macro_rules! keys {
    ($($section:ident . $name:ident : $kind:expr, $default:expr, $meaning:expr;)*) => {
        &[$(Key {
            section: Section::$section,
            name: stringify!($name),
            kind: { use Kind::*; $kind },
            default: { use Absent::*; $default },
            meaning: $meaning,
        }),*]
    };
}

/// The table.
pub(super) const KEYS: &[Key] = keys! {
    Service.shards: Integer { min: 0, max: 1_024 }, Is("0"),
        "Shards: threads that each own a part of the sessions. 0 takes one for each core that the process may use.";
    Service.pin: Flag, Is("true"),
        "Pins each shard to a core of its own. Off: the kernel places them, and there may be more shards than cores.";
    Service.data_dir: Text, Is("\"./forebay-data\""),
        "Directory for all that is kept on disk. A relative one starts at the working directory.";
    Service.data_dir_id: Text, From("any directory will do"),
        "The id of the data directory, which the first start with `[spool]` logs and `forebay check` shows. A start then \
         refuses any other directory, and an empty one: a volume that is not mounted.";
    Service.drain_grace: Duration { min: s(0), max: s(600) }, Is("\"10s\""),
        "How long SIGTERM waits at most for Kafka to take what a stop would lose. What is left then is reported.";

    Control.bind: AddressOrOff, Is("\"127.0.0.1:8080\""),
        "Address of `/healthz`, `/readyz`, `/metrics` and `/api/v1`; `\"off\"`: none.";
    Control.tokens_file: Text, From("`\"none\"`, if `bind` is a loopback address; otherwise required"),
        "File of tokens for `/api/v1`, one line `NAME ROLE HASH` each; `forebay token NAME` prints such a line. `\"none\"`: no tokens, and only this machine may use `/api/v1`.";

    Log.format: Word(FORMAT), Is("\"text\""),
        "Lines for people, or one JSON object a line.";
    Log.level: Word(LEVEL), Is("\"info\""),
        "The least severe level that is written.";

    Mqtt.packet_bytes_max: Size { min: KIB, max: 256 * MIB }, Is("\"1MiB\""),
        "The largest packet taken, whole; told to 5.0 clients as Maximum Packet Size.";
    Mqtt.receive_maximum: Integer { min: 1, max: 65_535 }, Is("1024"),
        "QoS 1 and 2 messages that a 5.0 client may have unanswered at a time.";
    Mqtt.qos2_inflight_3x: Integer { min: 1, max: 65_535 }, Is("1024"),
        "QoS 2 messages that a 3.x client may have open at a time, from PUBLISH to PUBREL; one more ends its connection. \
         For a 5.0 client `receive_maximum` is the bound.";
    Mqtt.topic_alias_maximum: Integer { min: 0, max: 1_024 }, Is("32"),
        "Topic aliases that a 5.0 client may set up. 0: none.";
    Mqtt.connect_timeout: Duration { min: ms(100), max: s(300) }, Is("\"10s\""),
        "A connection that has not sent its whole CONNECT by then is closed.";
    Mqtt.keep_alive_max: Duration { min: s(0), max: s(65_535) }, Is("\"0s\""),
        "The longest keep-alive: a 5.0 client that asks for more is told this instead. Whole seconds; `\"0s\"`: no bound. \
         A client may turn keep-alive off.";
    Mqtt.session_expiry_max: Duration { min: s(0), max: s(36_500 * DAY) }, Is("\"30d\""),
        "The longest time that a 5.0 client may have its session kept without a connection. Whole seconds; `\"0s\"`: \
         nothing is kept.";
    Mqtt.session_expiry_3x: Duration { min: s(0), max: s(36_500 * DAY) }, Is("\"1d\""),
        "How long the session of a 3.x client without clean session is kept, which the client cannot say. Whole seconds.";
    Mqtt.sessions_max: Integer { min: 1, max: 100_000_000 }, Is("1000000"),
        "Sessions at a time, all shards together, connected or kept.";
    Mqtt.evict_sessions: Flag, Is("true"),
        "Where there is no room for another session (`sessions_max`, or 256 MiB of client ids, user names and wills a shard), the \
         sessions that have been without a connection longest are ended, counted. Off, or where all are connected: the CONNECT is \
         refused, 5.0 with 0x97, 3.x with return code 3.";

    Listener.bind: Address, Required,
        "Address that devices connect to. Port 0 takes a free one, which the log names.";
    Listener.transport: Word(TRANSPORT), Is("\"tcp\""),
        "How bytes travel on it.";
    Listener.proxy_protocol: Word(PROXY_PROTOCOL), Is("\"off\""),
        "Which version of the PROXY protocol the TCP proxy in front speaks: its header must come before CONNECT, and the \
         address in it is the device's. `\"any\"`: either version. Where it is on, only the proxy may reach the port: see below.";
    Listener.answer_timeout: Duration { min: s(1), max: s(DAY) }, From("never"),
        "A connection that has been owed an answer for so long is closed, in 5.0 with DISCONNECT 0x89, its session kept: the \
         device comes back and sends again. Up to a quarter late.";
    Listener.receipts: Flag, Is("false"),
        "Tells 5.0 clients where their message is: the PUBACK or PUBREC of one that went to Kafka before it was answered \
         (`\"leader\"`, `\"replicated\"`) has the user properties `kafka-topic`, `kafka-partition` and `kafka-offset`: see below.";

    Kafka.bootstrap: TextList, Required,
        "Brokers to start from, `\"host:port\"`: a list, or one string with commas.";
    Kafka.client_id: Text, Is("\"forebay\""),
        "Name in the brokers' logs and quotas.";
    Kafka.connect_timeout: Duration { min: ms(100), max: s(120) }, Is("\"5s\""),
        "How long a connection to a broker may take to stand.";
    Kafka.request_timeout: Duration { min: s(1), max: s(600) }, Is("\"10s\""),
        "A broker that has not answered by then is taken for gone: the connection is closed and opened anew. That is the bound: the first times it is done after 1, 2, 4 s.";
    Kafka.metadata_max_age: Duration { min: s(1), max: s(DAY) }, Is("\"5m\""),
        "Metadata older than this is asked for again, though nothing went wrong.";
    Kafka.topics_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Kafka topics that a shard keeps in memory for this cluster. From seven eighths on, topics without a message for five minutes are \
         forgotten to make room; where none is, a message for one topic more is refused: 5.0 clients are told 0x97, 3.x connections are closed.";
    Kafka.reconnect_backoff_min: Duration { min: ms(1), max: s(60) }, Is("\"50ms\""),
        "Wait before the second attempt to reach a broker; it doubles with each.";
    Kafka.reconnect_backoff_max: Duration { min: ms(10), max: s(600) }, Is("\"1s\""),
        "The longest such wait.";
    Kafka.buffer_bytes: Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"),
        "Memory for records on their way to this cluster, all shards together. Where it is full, nothing is read from \
         publishing clients until there is room. Where several topics or sinks share it, one whose records do not leave fills \
         38 % at most, and stops only those who publish to it.";

    Embedded.bind: Address, Is("\"127.0.0.1:9092\""),
        "Address of the embedded log. Port 0 takes a free one, which the log names.";
    Embedded.dir: Text, From("`log` in `data_dir`"),
        "Directory of its files.";
    Embedded.advertised: Text, From("the address at which a client came in"),
        "`\"host:port\"` that Kafka clients are told to connect to, where translation of addresses makes it another one.";
    Embedded.partitions: Integer { min: 1, max: 1_000 }, Is("4"),
        "Partitions of a topic that is made by being used.";
    Embedded.segment_bytes: Size { min: MIB, max: GIB }, Is("\"64MiB\""),
        "A partition's file is followed by a new one when it is this long.";
    Embedded.auto_create_topics: Flag, Is("true"),
        "Whether a topic that is not there is made by being used. Off: `forebay topics create`, or any Kafka tool.";
    Embedded.retention: Duration { min: s(1), max: s(36_500 * DAY) }, From("none: records stay"),
        "Records older than this go (`log.retention.ms`), in whole segments; a topic's own `retention.ms` goes before it.";
    Embedded.retention_bytes: Size { min: MIB, max: 1_024 * 1_024 * GIB }, From("none: a partition grows"),
        "A partition longer than this loses its oldest segments (`log.retention.bytes`); a topic's own `retention.bytes` \
         goes before it.";
    Embedded.retention_interval: Duration { min: ms(100), max: s(DAY) }, Is("\"30s\""),
        "How often it looks for segments that may go (`log.retention.check.interval.ms`).";
    Embedded.connections_max: Integer { min: 1, max: 100_000 }, Is("1000"),
        "Kafka connections at a time; further ones are closed at once and counted.";
    Embedded.partitions_max: Integer { min: 1, max: 1_000_000 }, Is("20000"),
        "Partitions of all topics together; a topic that would pass it is not made.";
    Embedded.message_bytes_max: Size { min: 64 * KIB, max: 15 * MIB }, Is("1048588"),
        "The largest record batch taken, as `max.message.bytes` of a Kafka topic. Sinks must stay below it.";
    Embedded.buffer_bytes: Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"),
        "Memory for records on their way to it, as in `[kafka.NAME]`.";
    Embedded.topics_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Topics of it that a shard keeps in memory, as in `[kafka.NAME]`.";

    Spool.bytes_max: Size { min: 8 * MIB, max: 1_024 * 1_024 * GIB }, Is("\"8GiB\""),
        "Room on the disk, all shards together, in equal parts. The file system should have it free: see `forebay check`.";
    Spool.segment_bytes: Size { min: MIB, max: 4 * GIB }, From("`\"64MiB\"`; less where a shard has room for fewer than 16"),
        "Length of a segment's file. A shard's part holds at least eight, of which four are kept for what empties it; a \
         record or a batch takes an eighth of one at most.";
    Spool.append: Word(APPEND), Is("\"written\""),
        "How rows get into a segment's file. `\"written\"`: by writes. `\"mapped\"`: stored into the mapped file; a disk \
         that fails while they are stored may then end the process with SIGBUS, where a write gives an error: see \
         [SPOOL.md](internals/SPOOL.md#written-or-mapped).";
    Spool.when_full: Word(WHEN_FULL), Is("\"backpressure\""),
        "What happens to a message for which there is no room. `\"backpressure\"`: its publisher is not read until there is. \
         `\"refuse\"`: it is refused, 5.0 with 0x97. `\"drop-oldest\"`: the oldest rows on disk make room, counted.";
    Spool.spool_share: Share, From("`0.5`; `1` if only one sink keeps rows on disk"),
        "The part of the room that one sink may fill; past it `when_full` holds for that sink alone.";

    Sink.name: Text, Required,
        "Its name in metrics and messages: letters, digits, `.`, `_`, `-`, at most 100.";
    Sink.kafka: Text, From("the cluster, if there is only one"),
        "NAME of a `[kafka.NAME]`, or `\"embedded\"`.";
    Sink.filters: TextList, Required,
        "MQTT topic filters; `+` and `#` as in MQTT.";
    Sink.topic: Template, Required,
        "Kafka topic. A message for which it renders a name that Kafka does not take is refused.";
    Sink.key: Template, Is("\"${topic}\""),
        "Record key; messages of one client with the same key stay in order. `\"\"`: records without a key.";
    Sink.value: Template, Is("\"${payload}\""),
        "Record value. Not beside `value_format = \"json\"`.";
    Sink.value_format: Word(VALUE_FORMAT), Is("\"raw\""),
        "`\"json\"`: the record value is the message as a JSON object, see below. `\"raw\"`: it is what `value` gives.";
    Sink.headers: TemplateTable, From("none"),
        "Record headers, in the order of the file; MQTT 5 user properties follow them, but for those of the same name.";
    Sink.properties: Flag, Is("true"),
        "MQTT 5 properties of the message as record headers `mqtt-...`, see below. User properties become headers either way.";
    Sink.user_property_prefix: Text, From("none"),
        "Put in front of the name of each user property that becomes a header. A user property whose header would have the name of one in `headers`, or of one that Forebay writes, is left out: a client cannot forge them.";
    Sink.metadata: TextTable, From("none"),
        "Fixed texts, for its templates to name: `${metadata.NAME}`.";
    Sink.buffer: Word(BUFFER), From("`\"disk\"` where there is a `[spool]` and `acknowledge` allows it, else `\"memory\"`"),
        "Where rows are kept until Kafka has them: see below.";
    Sink.spill_after: Size { min: 64 * KIB, max: 1_024 * GIB }, From("a quarter of the cluster's `buffer_bytes`"),
        "Memory of its rows, all shards together, past which they are on the disk alone. Not beside `buffer = \"memory\"`. \
         The cluster's `buffer_bytes` bounds it all the same.";
    Sink.acknowledge: Word(ACKNOWLEDGE), From("`\"stored\"` with `buffer = \"disk\"`, else `\"replicated\"`"),
        "What an answered message can rely on: see below.";
    Sink.acks: Word(ACKS), From("`\"all\"`; with `acknowledge = \"leader\"` `\"1\"`"),
        "What brokers are asked to confirm, where nobody waits for it: only with `acknowledge = \"received\"`, as the other \
         levels say it themselves.";
    Sink.partitioner: Word(PARTITIONER), Is("\"key\""),
        "Which partition a record goes to, and with it what order is kept: see below.";
    Sink.compression: Word(COMPRESSION), Is("\"none\""),
        "Of record batches.";
    Sink.compression_level: Integer { min: 1, max: 19 }, From("gzip: `6`; zstd: `3`"),
        "How hard the codec tries: 1 to 9 with gzip, 1 to 19 with zstd. The others have no levels.";
    Sink.linger: Duration { min: us(0), max: s(60) }, Is("\"2ms\""),
        "How long a record waits for company before its batch may go.";
    Sink.batch_bytes: Size { min: KIB, max: 16 * MIB }, Is("\"256KiB\""),
        "A batch is full when it has this many bytes; the topic's `max.message.bytes` must allow it.";
    Sink.record_bytes_max: Size { min: KIB, max: 64 * MIB }, Is("\"1000KiB\""),
        "The largest record taken (key, value and headers together); a larger message is refused. The default fits the \
         1 MiB that a Kafka topic takes by default.";
    Sink.max_inflight: Integer { min: 1, max: 5 }, Is("5"),
        "Batches of a partition that may be unanswered at a time. Each value keeps order, as batches are numbered.";
    Sink.expire_after: Duration { min: s(1), max: s(36_500 * DAY) }, From("never"),
        "A record that has waited so long for Kafka, and is in no batch on its way, is dropped, counted, and its publisher \
         told success. A message's own Message Expiry Interval holds too: the shorter of both.";
    Sink.dead_letters_topic: Text, From("none"),
        "Kafka topic, on the same cluster, for what Kafka refuses this sink for good: see [DEAD_LETTERS.md](DEAD_LETTERS.md).";
    Sink.dead_letters_file: Text, From("`dead-letters.jsonl` in `data_dir`, if there is no topic"),
        "File for the same, one JSON object a line; beside a topic for what that refuses, too. Each sink has its own, but \
         for the default, which all sinks share: four files of 64 MiB. A relative one starts at the working directory. \
         `\"none\"`: no file.";
    Sink.dead_letters_file_bytes_max: Size { min: 64 * KIB, max: 64 * GIB }, Is("\"64MiB\""),
        "The file is renamed and followed by a new one when it has this many bytes.";
    Sink.dead_letters_files_max: Integer { min: 1, max: 1_000 }, Is("8"),
        "Such files that are kept, the one that is written among them. The oldest goes, whether it has been read or not.";
};

//! Keys of sources: Kafka to MQTT.

use std::time::Duration;

use super::{DAY, GIB, KIB, MIB, ms, s};
use crate::resolved::{Choice, Feed, Isolation, NoSubscriber, OffsetReset, OnBadBatch, OnBadRecord, Topics};
use crate::setting::{Words, settings};
use forebay_rule::record::{Encoding, RecordTemplate};

settings! {
    /// `[[source]]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Source in Source {
        apart name: String => Text, Required, shown "\"commands\"",
            "Unique name among the sources, used in metrics and events: letters, digits, `.`, `_`, `-`; at most 100 characters.";
        now description: Option<String> => Text, From("none"), shown "\"Commands to all devices\"",
            "What this source is for, for people: shown by the API.";
        apart kafka = Text, From("the cluster, if there is only one"), shown "\"main\"",
            "NAME of a `[kafka.NAME]`, or `\"embedded\"`.";
        now topic as topics: Topics => Topics, Required, shown "\"commands\"",
            "Kafka topics to read: one, a list, or a table KAFKA TOPIC = MQTT TOPIC, which then takes the place of `mqtt_topic`. A topic may be in one source \
             only.";
        now mqtt_topic: Option<RecordTemplate> => Template, From("none"), shown "\"devices/${key}/commands\"",
            "MQTT topic, made of the record. A record for which it yields no topic is a bad record. Without it, and without a table in `topic`, records are no messages: \
             they go to the [rules that name the source](SQL.md#records-of-a-source), and nowhere else.";
        now payload: RecordTemplate => Template, Is("\"${.}\""),
            "Payload. `\"${.}\"`: the whole record as a JSON object. `\"${value}\"`: its value, byte for byte. A record without a value (a tombstone) \
             has an empty payload, where the template asks for the value.";
        now key_encoding: Encoding = Word(Encoding::NAMES), Is("\"none\""),
            "How `${key}` and the key in `${.}` are written. `\"none\"`: as they are. `\"base64\"`: in base64.";
        now value_encoding: Encoding = Word(Encoding::NAMES), Is("\"none\""),
            "Likewise for `${value}` and the value in `${.}`.";
        now qos: Choice<u8> => QosTemplate, Is("1"),
            "QoS of the message, as in `1` or `\"${headers.mqtt-qos}\"`.";
        now retain: Choice<bool> => FlagTemplate, Is("false"),
            "Whether the message is retained, as in `true` or `\"${headers.mqtt-retain}\"`. With an empty payload it ends the one that is.";
        /// User properties in the order of the file.
        now user_properties: Vec<(String, RecordTemplate)> => TemplateTable, From("none"), shown "{ partition = \"${partition}\" }",
            "MQTT 5 user properties, in this order; those that are made of the record's headers follow. One for which the record has nothing is left out.";
        now properties: bool = Flag, Is("true"),
            "Whether the record's headers become MQTT 5 properties: those that sinks write what they were, and all others user properties.";
        now feeds: Vec<Feed> => Words(Feed::NAMES), From("`[\"subscribers\", \"rules\"]`"), shown "[\"subscribers\", \"sinks\"]",
            "Where the messages go. `\"subscribers\"`: to subscribers. `\"rules\"`: to rules with topic filters that match; a rule that names the source gets its records all the same. `\"sinks\"`: to sinks with filters that match, but never back to a topic that \
             the source reads.";
        now group: String => Text, From("`\"forebay-NAME\"`"), shown "\"forebay-commands\"",
            "Consumer group, whose members share the partitions. `\"\"`: no group; this instance reads all partitions, starts at `offset_reset` and commits \
             nothing.";
        now group_instance: Option<String> => Text, From("the name in `data_dir`"), shown "\"forebay-1\"",
            "Name of this instance in the group (`group.instance.id`), unique among its members: after a short absence it has its partitions again, and no others move. \
             The default is made once and kept in `data_dir` (`instance-name`), with `[broker]` it is the name of the instance; such a member leaves the group at an orderly stop: \
             see [SOURCES.md](SOURCES.md#the-group-and-where-it-starts).";
        now offset_reset: OffsetReset = OffsetReset, Is("\"latest\""),
            "Where to start a partition for which the group has no valid offset. `\"latest\"`: after the newest record. `\"earliest\"`: at the oldest. A time, \
             as in `\"2026-11-26T10:00:00Z\"`, or an age, as in `\"-1h\"`: at the first record that is not older.";
        now isolation: Isolation = Word(Isolation::NAMES), Is("\"committed\""),
            "Which records of transactions are read. `\"committed\"`: those that were committed. `\"all\"`: all.";
        now no_subscriber: NoSubscriber = Word(NoSubscriber::NAMES), Is("\"drop\""),
            "What to do with a message that no subscription matches, of a connected client or of a kept session, and with what a rule publishes of a record. \
             `\"drop\"`: it is counted, and the group moves on. `\"wait\"`: it waits for one, and holds back the group's offset.";
        now start_grace: Duration = Duration { min: ms(0), max: s(3_600) }, Is("\"30s\""),
            "For this long after the start `no_subscriber = \"drop\"` drops nothing: clients are still on their way.";
        now commit_interval: Duration = Duration { min: ms(100), max: s(600) }, Is("\"5s\""),
            "How often the group's offsets are committed. A crash repeats at most the messages of this time, and of the windows.";
        now window_messages: usize = Integer { min: 1, max: 1_000_000 }, Is("10000"),
            "Maximum number of messages of a partition that subscribers have not acknowledged. A partition with a full window is not read.";
        now window_bytes: usize = Size { min: 64 * KIB, max: GIB }, Is("\"8MiB\""),
            "Their maximum size. A message that is larger goes alone.";
        now fetch_bytes: usize = Size { min: KIB, max: 64 * MIB }, Is("\"1MiB\""),
            "Maximum size of what is read of a partition at a time. A batch that is larger is read all the same, alone.";
        now release_after: Option<Duration> = Duration { min: s(1), max: s(36_500 * DAY) }, From("never"), shown "\"1h\"",
            "A message that a subscriber has not acknowledged for so long, or that has waited so long for one, is counted as released, and the group moves on. \
             The subscriber gets it all the same.";
        now on_bad_record: OnBadRecord = Word(OnBadRecord::NAMES), Is("\"skip\""),
            "What to do with a record that cannot be a message: no valid topic, QoS or retain flag is made of it, it is too large, or it has been around too \
             often. `\"skip\"`: it is counted by reason, with an event. `\"stop\"`: its partition stops, with an event. `\"dead-letter\"`: it goes to \
             `dead_letters_topic`, with an event.";
        now dead_letters_topic: Option<String> => Text, From("none"), shown "\"commands-dead\"",
            "Kafka topic on the same cluster for bad records, with the reason: see [SOURCES.md](SOURCES.md#dead-letters). Only with \
             `on_bad_record = \"dead-letter\"`, which requires it.";
        now on_bad_batch: OnBadBatch = Word(OnBadBatch::NAMES), Is("\"stop\""),
            "What to do with a batch of records that cannot be read, after a second try. `\"stop\"`: its partition stops, with an event. `\"skip\"`: it is passed \
             over and counted, with an event.";
        now paused: bool = Flag, Is("false"),
            "If true, nothing is read; the group keeps its offsets.";
    }
    and {
        /// Whether `[broker]` has made the source: it reads clients' publishes.
        is_of_broker: bool,
        /// Index into [`crate::Config::clusters`].
        cluster: usize,
        /// Whether the source was removed while the service runs: it keeps its index until the restart, and reads nothing.
        is_removed: bool,
    }
}

impl Source {
    /// Each Kafka topic with the template of its MQTT topic, if it has one.
    pub fn routes(&self) -> impl Iterator<Item = (&str, Option<&RecordTemplate>)> {
        let (same, each) = match &self.topics {
            Topics::None => (&[][..], &[][..]),
            Topics::One(topics) => (&topics[..], &[][..]),
            Topics::Each(topics) => (&[][..], &topics[..]),
        };
        let same = same.iter().map(|kafka| (kafka.as_str(), self.mqtt_topic.as_ref()));
        same.chain(each.iter().map(|(kafka, mqtt)| (kafka.as_str(), Some(mqtt))))
    }

    /// Whether the source's records are messages. Otherwise they go only to the rules that name the source.
    #[must_use]
    pub fn has_mqtt_topic(&self) -> bool {
        self.mqtt_topic.is_some() || matches!(self.topics, Topics::Each(_))
    }

    /// Whether its messages go there.
    #[must_use]
    pub fn feeds(&self, to: Feed) -> bool {
        self.feeds.contains(&to)
    }
}

//! Keys of bridges: Forebay is a client of another MQTT broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{GIB, KIB, Key, ms, s, word, yes};
use crate::resolved::{BridgeIn, BridgeOut, DeadLetters, Feed};
use crate::setting::{Words, settings};
use forebay_bridge::{Retained, Url, Versions};
use forebay_dapr::Binding;
use forebay_guard::secure::{OutgoingSettings, Secret};

use super::Word;
use super::kafka::VERIFY;

const WHEN_FULL: &[Word] = &[word("drop-oldest"), yes("drop-newest")];

settings! {
    /// `[bridge.NAME]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Bridge in Bridge {
        now description: Option<String> => Text, From("none"), shown "\"The broker of the plant\"",
            "What this bridge is for, for people: shown by the API.";
        /// The remote. Its user name and password are in the keys below.
        now url: Url => Text, Required, shown "\"mqtts://broker.example:8883\"",
            "The remote broker: `mqtt://` or `tcp://` (port 1883), `mqtts://`, `tcps://`, `ssl://` or `tls://` (8883), `ws://` (80) or `wss://` (443), a host, maybe a \
             port, and for WebSocket maybe a path (otherwise `/mqtt`). It may have a user name and a password, percent-encoded: `mqtts://USER:PASSWORD@HOST`.";
        /// All placeholders but `{instance}` are filled in: see [`crate::Config::name_instances`].
        now client_id: String => Text, From("`\"forebay-NAME-{instance}\"`"), shown "\"forebay-plant\"",
            "Client ID at the remote, by which it knows the session. `{instance}` becomes eight digits that belong to the data directory, `{uuid}` a UUID that is \
             another one after each start, `{podName}`, `{namespace}` and `{appID}` the environment variables `POD_NAME`, `NAMESPACE` and `APP_ID`. `\"\"`: the \
             remote chooses one; only with `clean_start`.";
        now username: Option<String> => Text, From("that of `url`, or none"), shown "\"edge\"",
            "User name.";
        now password_file: Option<PathBuf> => Text, From("none"),
            "File that holds the password, and nothing else; a line end behind it is not part of it. It is read at the start and at each reload.";
        now password: Option<Secret> => Text, From("that of `url`, or none"),
            "The password, only as the environment variable `FOREBAY_BRIDGE_NAME_PASSWORD`: in the file it is an error.";
        now version: Versions = Word(Versions::NAMES), Is("\"5.0\""),
            "Version of MQTT. `\"auto\"`: 5.0, and 3.1.1 with a remote that refuses it.";
        now clean_start: bool = Flag, Is("false"),
            "If true, the remote forgets at each connection what it knows of the client, and messages that it keeps for us while there is no connection are lost.";
        now session_expiry: Duration = Duration { min: s(0), max: s(u32::MAX as u64) }, Is("\"7d\""),
            "For how long the remote keeps the session without a connection, and messages for us with it. Before 5.0 that is its own decision.";
        now keep_alive: Duration = Duration { min: s(0), max: s(u16::MAX as u64) }, Is("\"60s\""),
            "Keep-alive. A remote that is gone is noticed within this time. `\"0s\"`: off.";
        now connect_timeout: Duration = Duration { min: ms(100), max: s(120) }, Is("\"10s\""),
            "Time-out for each step of connecting: name lookup, TCP, TLS and WebSocket, answer of the remote.";
        now reconnect_backoff: Duration = Duration { min: ms(10), max: s(3_600) }, Is("\"1s\""),
            "Wait before the second attempt to connect; it doubles with each attempt.";
        now reconnect_backoff_max: Duration = Duration { min: ms(10), max: s(3_600) }, Is("\"30s\""),
            "Maximum wait between two attempts to connect, and the wait after a refusal that does not heal by itself, as of a password.";
        now receive_maximum: u16 = Integer { min: 1, max: 65_535 }, Is("1024"),
            "Maximum number of messages of QoS 1 and 2 that the remote has sent and that are not acknowledged. Only 5.0 says it to the remote.";
        now inflight_max: Option<u16> = Integer { min: 1, max: 1_024 }, From("as many as the remote takes, at most 1024; before 5.0: 20"), shown "20",
            "Maximum number of messages of QoS 1 and 2 on their way to the remote. Before 5.0 a remote cannot say how many it takes, and may close the connection when there \
             are more.";
        now try_private: bool = Flag, Is("true"),
            "Whether a remote before 5.0 is told that the client is a bridge, as mosquitto's `try_private`: it then sends nothing back that came from here, and \
             keeps RETAIN. One that refuses is asked without.";
        now via: bool = Flag, Is("true"),
            "Whether messages tell the remote which instances of Forebay they have come through (5.0, user property `forebay-via`), and one that has come through this \
             instance before is dropped: see [BRIDGES.md](BRIDGES.md#loops).";
        now queue_messages_max: usize = Integer { min: 1, max: 10_000_000 }, Is("10000"),
            "Maximum number of messages that wait for the remote.";
        now queue_bytes_max: usize = Size { min: 64 * KIB, max: 64 * GIB }, Is("\"64MiB\""),
            "Their maximum size.";
        now when_full as drops_newest: bool = Word(WHEN_FULL), Is("\"drop-oldest\""),
            "What is dropped when the queue is full, counted: `\"drop-oldest\"` or `\"drop-newest\"`. Publishers do not wait for the remote.";
        apart kafka = Text, From("the cluster, if there is only one"), shown "\"main\"",
            "NAME of a `[kafka.NAME]`, or `\"embedded\"`, for `dead_letters_topic`.";
        apart dead_letters_topic = Text, From("none"), shown "\"plant-dead\"",
            "Kafka topic for messages that the remote refuses: see [BRIDGES.md](BRIDGES.md#what-the-remote-refuses). Without it, and without `dead_letters_file`, they are \
             dropped, counted.";
        apart dead_letters_file = Text, From("none"), shown "\"./forebay-data/plant-dead.jsonl\"",
            "File for the same, one JSON object per line; with a topic as well, for what the topic rejects. Each bridge has its own file. A relative path is relative to the \
             working directory.";
        apart dead_letters_file_bytes_max = Size { min: 64 * KIB, max: 64 * GIB }, Is("\"64MiB\""),
            "Size at which the file is renamed and a new one is started.";
        apart dead_letters_files_max = Integer { min: 1, max: 1_000 }, Is("8"),
            "Number of files that are kept, including the current one. The oldest is deleted, read or not.";
        now paused: bool = Flag, Is("false"),
            "If true, there is no connection; messages for the remote wait.";
    }
    and {
        /// NAME.
        name: String,
        /// Eight digits that belong to the data directory: see [`crate::Config::name_instances`].
        instance: String,
        /// Index into [`crate::Config::clusters`], of the dead-letter topic.
        cluster: usize,
        /// Whether the password is in the text of the configuration, in `url`.
        is_password_written: bool,
        /// The destination of messages that the remote refuses; `None`: they are dropped.
        dead_letters: Option<DeadLetters>,
        /// TLS to the remote.
        tls: Option<OutgoingSettings>,
        /// The entries for messages from the remote, in the order of the file.
        ins: Vec<BridgeIn>,
        /// The entries for messages to the remote, in the order of the file.
        outs: Vec<BridgeOut>,
        /// The Dapr binding, if the bridge is one of Dapr's components; `None`: the bridge is in the file.
        binding: Option<Arc<Binding>>,
        /// Whether the bridge was removed while the service runs: it keeps its index until the restart, and does nothing.
        is_removed: bool,
    }
}

pub(super) const TLS: &[Key] = keys! {
    BridgeTls.ca_file: Text, From("the CAs of this machine"),
        "CAs of the remote's certificate, or that certificate, if it has signed itself.";
    BridgeTls.ca_certificates: Text, From("none"),
        "The same as text, in the place of `ca_file`: `-----BEGIN CERTIFICATE-----` and so on.";
    BridgeTls.cert_file: Text, From("none"),
        "Certificate chain that Forebay shows the remote (mutual TLS), its own certificate first.";
    BridgeTls.key_file: Text, From("none"),
        "Private key of that certificate, without a passphrase. It may be the same file.";
    BridgeTls.server_name: Text, From("the host of `url`"),
        "Name that the remote's certificate must have.";
    BridgeTls.verify: Word(VERIFY), Is("\"full\""),
        "What is checked of the remote's certificate. `\"full\"`: that a trusted CA has signed it, that it is valid today, and that it is for the host. \
         `\"chain\"`: not the host. The check cannot be turned off.";
};

pub(super) const IN: &[Key] = keys! {
    BridgeIn.name: Text, From("its place, from `\"0\"`"), shown "\"plant\"",
        "Unique name among those of the bridge, used in metrics: letters, digits, `.`, `_`, `-`; at most 100 characters.";
    BridgeIn.filters: TextList, Required, shown "[\"plant/#\"]",
        "Topic filters at the remote. A message goes to the first `in` with a filter that matches. At most 512 of a bridge.";
    BridgeIn.qos: Integer { min: 0, max: 2 }, Is("1"),
        "Maximum QoS at which the remote sends.";
    BridgeIn.share: Text, From("none"), shown "\"forebay\"",
        "Share of the subscriptions at the remote: with the name NAME they are `$share/NAME/FILTER`, and each message goes to one of those who subscribe so.";
    BridgeIn.topic: Template, Is("\"${topic}\""), shown "\"remote/${topic}\"",
        "MQTT topic here, made of the remote's message. A message for which it yields no valid topic is dropped, counted.";
    BridgeIn.retained: Word(Retained::NAMES), Is("\"new\""),
        "Retained messages that are taken. `\"all\"`: those of each connection. `\"new\"`: those of a subscription that the remote did not have yet. `\"none\"`: none.";
    BridgeIn.keep_retain: Flag, Is("false"),
        "Whether a message that comes with RETAIN is retained here, too.";
    BridgeIn.feeds: Words(Feed::NAMES), From("all three"), shown "[\"sinks\", \"rules\"]",
        "Where the messages go. `\"subscribers\"`: to subscribers. `\"rules\"`: to rules with topic filters that match. `\"sinks\"`: to sinks with filters \
         that match.";
};

pub(super) const OUT: &[Key] = keys! {
    BridgeOut.name: Text, From("its place, from `\"0\"`"), shown "\"alarms\"",
        "Unique name among those of the bridge, used in metrics: letters, digits, `.`, `_`, `-`; at most 100 characters.";
    BridgeOut.filters: TextList, Required, shown "[\"alarm/#\"]",
        "Topic filters of messages here, from every publisher but this bridge itself. A message goes by the first `out` with a filter that matches. At \
         most 512 of a bridge.";
    BridgeOut.topic: Template, Is("\"${topic}\""), shown "\"site-7/${topic}\"",
        "MQTT topic at the remote. This template and those below know of a message its topic, QoS, RETAIN, payload and user properties.";
    BridgeOut.qos: QosTemplate, Is("\"${qos}\""),
        "QoS, as in `1` or `\"${qos}\"`; never higher than that of the message, nor than the remote takes.";
    BridgeOut.retain: FlagTemplate, Is("\"${retain}\""),
        "Whether the message is retained at the remote, as in `true` or `\"${retain}\"`.";
    BridgeOut.payload: Template, Is("\"${payload}\""),
        "Payload.";
};

//! Every key of the configuration in one table: what it takes, its bounds, its default and its meaning. The reader takes
//! types, bounds and defaults from here, the messages their "did you mean", and `docs/CONFIGURATION.md` its tables.

use std::fmt;
use std::time::Duration;

use super::units::{ShowDuration, ShowSize};
use crate::limits::{PASSWORD_BYTES_MAX, SHARDS_MAX};

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Service,
    Control,
    ControlTls,
    Log,
    Telemetry,
    Mqtt,
    Listener,
    ListenerTls,
    ListenerWs,
    Auth,
    AuthJwt,
    AuthRole,
    AuthLimits,
    Kafka,
    KafkaTls,
    KafkaSasl,
    Embedded,
    Spool,
    Delivery,
    Retained,
    Sink,
}

impl Section {
    pub(super) const ALL: [Self; 21] = [
        Self::Service,
        Self::Control,
        Self::ControlTls,
        Self::Log,
        Self::Telemetry,
        Self::Mqtt,
        Self::Listener,
        Self::ListenerTls,
        Self::ListenerWs,
        Self::Auth,
        Self::AuthJwt,
        Self::AuthRole,
        Self::AuthLimits,
        Self::Kafka,
        Self::KafkaTls,
        Self::KafkaSasl,
        Self::Embedded,
        Self::Spool,
        Self::Delivery,
        Self::Retained,
        Self::Sink,
    ];

    /// The key at the top of the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Control => "control",
            Self::ControlTls => "control.tls",
            Self::Log => "log",
            Self::Telemetry => "telemetry",
            Self::Mqtt => "mqtt",
            Self::Listener => "listener",
            Self::ListenerTls => "listener.tls",
            Self::ListenerWs => "listener.ws",
            Self::Auth => "auth",
            Self::AuthJwt => "auth.jwt",
            Self::AuthRole => "auth.role",
            Self::AuthLimits => "auth.limits",
            Self::Kafka => "kafka",
            Self::KafkaTls => "kafka.tls",
            Self::KafkaSasl => "kafka.sasl",
            Self::Embedded => "embedded",
            Self::Spool => "spool",
            Self::Delivery => "delivery",
            Self::Retained => "retained",
            Self::Sink => "sink",
        }
    }

    /// The header as it is written in the file.
    pub(super) fn header(self) -> String {
        match self {
            Self::Listener | Self::Sink => format!("[[{}]]", self.name()),
            Self::Auth => "[auth.NAME]".to_owned(),
            Self::AuthJwt => "[auth.NAME.jwt]".to_owned(),
            Self::AuthRole => "[auth.NAME.role.ROLE]".to_owned(),
            Self::AuthLimits => "[auth.NAME.limits]".to_owned(),
            Self::Kafka => "[kafka.NAME]".to_owned(),
            Self::KafkaTls => "[kafka.NAME.tls]".to_owned(),
            Self::KafkaSasl => "[kafka.NAME.sasl]".to_owned(),
            _ => format!("[{}]", self.name()),
        }
    }
}

impl Section {
    /// The section that contains it, and its key there; `None`: it is at the top of the file.
    pub(super) fn parent(self) -> Option<(Self, &'static str)> {
        match self {
            Self::ControlTls => Some((Self::Control, "tls")),
            Self::ListenerTls => Some((Self::Listener, "tls")),
            Self::ListenerWs => Some((Self::Listener, "ws")),
            Self::AuthJwt => Some((Self::Auth, "jwt")),
            Self::AuthRole => Some((Self::Auth, "role")),
            Self::AuthLimits => Some((Self::Auth, "limits")),
            Self::KafkaTls => Some((Self::Kafka, "tls")),
            Self::KafkaSasl => Some((Self::Kafka, "sasl")),
            _ => None,
        }
    }

    /// The section at the top of the file that contains it, or itself.
    pub(super) fn root(self) -> Self {
        self.parent().map_or(self, |(parent, _)| parent)
    }

    /// Whether there may be several, each a table with a name: and one to show.
    pub(super) fn example_name(self) -> Option<&'static str> {
        match self {
            Self::Auth => Some("devices"),
            Self::Kafka => Some("main"),
            _ => None,
        }
    }

    /// Whether it is a part of which there may be several, each with a name.
    pub(super) fn is_named_part(self) -> bool {
        self == Self::AuthRole
    }

    /// The header with names to show.
    pub(super) fn example_header(self) -> String {
        let name = self.root().example_name().unwrap_or_default();
        self.header().replace("NAME", name).replace("ROLE", "sensor")
    }

    /// What it is about, for the documents.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Service => "The process.",
            Self::Control => "The control plane.",
            Self::ControlTls => {
                "TLS of the control plane: it is then served as `https` only. All files are PEM; changed ones are taken within a minute."
            }
            Self::Log => "The log on standard error.",
            Self::Telemetry => "OpenTelemetry: metrics, and traces of the control plane, by OTLP. Off without `otlp`.",
            Self::Mqtt => "Protocol limits, for all listeners.",
            Self::Listener => {
                "An address that devices connect to; may be repeated. Without any: `bind = \"127.0.0.1:1883\"`."
            }
            Self::ListenerTls => {
                "TLS of the `[[listener]]` above it, which needs `transport = \"tls\"` or `\"wss\"`; all files are PEM. See [TLS.md](TLS.md)."
            }
            Self::ListenerWs => {
                "WebSocket of the `[[listener]]` above it, with `transport = \"ws\"` or `\"wss\"`. See [WEBSOCKET.md](WEBSOCKET.md)."
            }
            Self::Auth => {
                "Who may connect to the listeners with `auth = \"NAME\"`, and what they may touch: see [AUTH.md](AUTH.md). Changed files are \
                 taken within a minute, and with a reload; clients whose user was removed or has another password are disconnected then."
            }
            Self::AuthJwt => {
                "Tokens that admit clients, with `\"jwt\"` in `chain`: see [AUTH.md](AUTH.md). Clients whose token has expired, or was signed with a key \
                 that is not there any more, are disconnected."
            }
            Self::AuthRole => {
                "What clients may touch whose token has ROLE in its `roles_claim`: see [AUTH.md](AUTH.md#roles). Any number of them; you choose ROLE. \
                 A change holds for clients that are connected, too. Not by variables of the environment."
            }
            Self::AuthLimits => {
                "What one user may hold, on all shards together; a client without a user name is counted by its client ID. See [AUTH.md](AUTH.md#limits). \
                 A change holds from the next connection on."
            }
            Self::Kafka => {
                "A Kafka cluster; you choose NAME, and sinks refer to it. Without any, the embedded log takes its place."
            }
            Self::KafkaTls => {
                "TLS to the brokers of a cluster; it is enabled by the presence of this section, even without keys. All files are PEM. See \
                 [KAFKA_SECURITY.md](KAFKA_SECURITY.md). A change, of the files as well, holds from the next connection on, and connections that \
                 were made before are replaced within a minute."
            }
            Self::KafkaSasl => {
                "How to log in to the brokers of a cluster by SASL: see [KAFKA_SECURITY.md](KAFKA_SECURITY.md). A change holds from the next \
                 login on, and connections that are logged in by what it replaces are replaced within a minute."
            }
            Self::Embedded => {
                "The embedded log: a single-node log with the Kafka protocol in this process, for a machine without Kafka. It \
                 runs if there is no `[kafka.NAME]`, or if this section is present; sinks refer to it as `\"embedded\"`."
            }
            Self::Spool => {
                "The disk buffer: a log of segments per shard in `spool` below `data_dir`. It is enabled by the presence of this \
                 section, even without keys; sinks then keep their records on disk and acknowledge at `\"stored\"`, unless \
                 configured otherwise: see [SPOOL.md](internals/SPOOL.md)."
            }
            Self::Delivery => "Messages to subscribers: see [SUBSCRIPTIONS.md](SUBSCRIPTIONS.md).",
            Self::Retained => {
                "Retained messages: see [SUBSCRIPTIONS.md](SUBSCRIPTIONS.md). A lower limit ends none of those that there are."
            }
            Self::Sink => {
                "MQTT to Kafka. A message goes to every sink with a matching filter, and is acknowledged when each of them has \
                 met its `acknowledge` level. Without any sink and without `[kafka.NAME]`, one sink writes `#` to the Kafka \
                 topic `mqtt-messages`; with a `[kafka.NAME]`, at least one sink is required."
            }
        }
    }
}

/// A word that a key may have as its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
}

const fn word(name: &'static str) -> Word {
    Word { name }
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
    /// Topic filters, maybe none.
    Filters,
    Address,
    AddressOrOff,
    Bind,
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
            Self::Filters => "a topic filter or a list of them",
            Self::Address => "an address",
            Self::AddressOrOff => "an address or \"off\"",
            Self::Bind => "an address or \"unix:/PATH\"",
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
pub(super) const LATER: [(&str, &str); 6] = [
    ("source", "this version goes from MQTT to Kafka only: leave it out"),
    ("rule", "this version has only filters and templates, in [[sink]]: leave it out"),
    ("bridge", "this version is a server only: leave it out"),
    ("sink.topics_max", "use topics_max in [kafka.NAME]: it applies to all sinks of the cluster"),
    (
        "sink.when_full",
        "use when_full in [spool]: it applies to all sinks that keep records on disk; when memory is full, publishers are paused",
    ),
    ("sink.partition", "records cannot be sent to a fixed partition: see partitioner"),
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

const TRANSPORT: &[Word] = &[word("tcp"), word("tls"), word("ws"), word("wss")];
const CERTIFICATE_IDENTITY: &[Word] =
    &[word("cn"), word("san-dns"), word("san-uri"), word("san-email"), word("fingerprint")];
const CLIENT_ID: &[Word] = &[word("any"), word("identity"), word("prefix")];
const FOREIGN_TAKEOVER: &[Word] = &[word("replace"), word("refuse")];
const DENIED_3X: &[Word] = &[word("close"), word("acknowledge")];
const DENIED_REASON: &[Word] = &[word("not-authorized"), word("unspecified")];
const TOKEN_FROM: &[Word] = &[word("password"), word("username")];
const MIN_VERSION: &[Word] = &[word("1.2"), word("1.3")];
const CLIENT_CERTIFICATE: &[Word] = &[word("required"), word("optional")];
const CRL_EXPIRED: &[Word] = &[word("use"), word("refuse")];
const PROXY_PROTOCOL: &[Word] = &[word("off"), word("v1"), word("v2"), word("any")];
const ACKNOWLEDGE: &[Word] = &[word("received"), word("leader"), word("replicated"), word("stored")];
const BUFFER: &[Word] = &[word("memory"), word("disk"), word("hybrid"), word("hybrid-saved")];
const APPEND: &[Word] = &[word("written"), word("mapped")];
const WHEN_FULL: &[Word] = &[word("backpressure"), word("refuse"), word("drop-oldest")];
const DELIVERED: &[Word] = &[word("stored"), word("received")];
const QUEUE_FULL: &[Word] = &[word("drop-oldest"), word("drop-newest")];
const SHARE_STRATEGY: &[Word] = &[word("round-robin"), word("least-inflight"), word("hash-client"), word("hash-topic")];
const ACKS: &[Word] = &[word("0"), word("1"), word("all")];
const PARTITIONER: &[Word] = &[word("key"), word("client"), word("sticky"), word("random")];
const COMPRESSION: &[Word] = &[word("none"), word("gzip"), word("snappy"), word("lz4"), word("zstd")];
const VALUE_FORMAT: &[Word] = &[word("raw"), word("json")];
const MECHANISM: &[Word] = &[word("PLAIN"), word("SCRAM-SHA-256"), word("SCRAM-SHA-512"), word("OAUTHBEARER")];
const VERIFY: &[Word] = &[word("full"), word("chain")];
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
    Service.shards: Integer { min: 0, max: SHARDS_MAX as u64 }, Is("0"),
        "Number of shards: threads that each own a part of the sessions. 0: one per available core, at most 63.";
    Service.pin: Flag, Is("true"),
        "Whether to pin each shard to its own core. If false, the kernel schedules the shards, and there may be more of them than cores.";
    Service.data_dir: Text, Is("\"./forebay-data\""),
        "Directory for everything that is stored on disk. A relative path is relative to the working directory.";
    Service.data_dir_id: Text, From("any directory is accepted"),
        "ID of the data directory. The first start with `[spool]` logs it, and `forebay check` shows it. If it is set, the service refuses \
         to start with any other directory or with an empty one, such as the mount point of a volume that is not mounted.";
    Service.drain_grace: Duration { min: s(0), max: s(600) }, Is("\"10s\""),
        "How long a stop (SIGTERM) waits for Kafka to take the records that would otherwise be lost. Records that are left after this time \
         are reported.";

    Service.verifiers: Integer { min: 0, max: 64 }, Is("0"),
        "Number of threads that compare passwords with their hashes, which takes tens of milliseconds each. 0: one for every four shards.";

    Service.sandbox: Flag, Is("true"),
        "Whether the service gives up what it does not need while it serves: writing outside its own directories, starting programs, and \
         system calls that only an intruder would make. What the kernel does not support, or a container's \
         seccomp profile does not allow, is left out, with a warning (`sandbox_incomplete`).";

    Control.bind: AddressOrOff, Is("\"127.0.0.1:8080\""),
        "Address of `/healthz`, `/readyz`, `/metrics` and `/api/v1`; `\"off\"` disables them.";
    Control.tokens_file: Text, From("`\"none\"`, if `bind` is a loopback address; otherwise required"),
        "File of tokens for `/api/v1`, one line `NAME ROLE HASH` each; `forebay token NAME` prints such a line. `\"none\"`: only \
         this machine may use `/api/v1`. There reading needs no token, messages excepted; changes need the one that the service writes to \
         `control-token` in `data_dir` at each start, which the command line sends by itself: see [API.md](API.md#access).";
    Control.file_dirs: TextList, From("none"),
        "Directories below which changes by the API may name files: certificates, keys, passwords, dead letters, Unix sockets. Without one the API may name \
         only files that the configuration names for the same purpose. The service may write there.";

    Log.format: Word(FORMAT), Is("\"text\""),
        "`\"text\"` for people; `\"json\"`: one JSON object per line.";
    Log.level: Word(LEVEL), Is("\"info\""),
        "Minimum level of log lines.";

    Telemetry.otlp: Text, From("off"),
        "URL of an OpenTelemetry Collector, `\"http://HOST:4318\"`: OTLP over HTTP, as JSON. `/v1/metrics` and `/v1/traces` are appended.";
    Telemetry.interval: Duration { min: s(1), max: s(3_600) }, Is("\"60s\""),
        "How often metrics are exported. Spans are sent within a second or two.";
    Telemetry.headers: TextTable, From("none"),
        "HTTP headers for the collector, such as an API key. Their values are never shown.";
    Telemetry.service_name: Text, Is("\"forebay\""),
        "`service.name` of what is exported.";

    Mqtt.packet_bytes_max: Size { min: KIB, max: 256 * MIB }, Is("\"1MiB\""),
        "Maximum size of an MQTT packet, including its header; sent to 5.0 clients as Maximum Packet Size, as `268435455` at most. Eight packets of this size may be half received on a shard, and 64 MiB of smaller ones.";
    Mqtt.receive_maximum: Integer { min: 1, max: 65_535 }, Is("1024"),
        "Maximum number of unacknowledged QoS 1 and 2 messages of a 5.0 client (Receive Maximum).";
    Mqtt.qos2_inflight_3x: Integer { min: 1, max: 65_535 }, Is("1024"),
        "Maximum number of QoS 2 messages of a 3.x client in flight, from PUBLISH to PUBREL; a client that exceeds it is disconnected. \
         For 5.0 clients `receive_maximum` is the limit.";
    Mqtt.topic_alias_maximum: Integer { min: 0, max: 1_024 }, Is("32"),
        "Maximum number of topic aliases of a 5.0 client. 0: none.";
    Mqtt.connect_timeout: Duration { min: ms(100), max: s(300) }, Is("\"10s\""),
        "Time a client has to send its complete CONNECT packet; after that the connection is closed.";
    Mqtt.keep_alive_max: Duration { min: s(0), max: s(65_535) }, Is("\"0s\""),
        "Maximum keep-alive. A 5.0 client that asks for more is given this value as Server Keep Alive. Whole seconds; `\"0s\"`: no limit. \
         A client may still turn keep-alive off.";
    Mqtt.session_expiry_max: Duration { min: s(0), max: s(36_500 * DAY) }, Is("\"30d\""),
        "Maximum Session Expiry Interval of a 5.0 client: how long its session is kept after it disconnects. Whole seconds; `\"0s\"`: \
         sessions end with their connections.";
    Mqtt.session_expiry_3x: Duration { min: s(0), max: s(36_500 * DAY) }, Is("\"1d\""),
        "How long the session of a 3.x client without clean session is kept after it disconnects; the protocol has no field for it. \
         Whole seconds.";
    Mqtt.unauthenticated_max: Integer { min: 16, max: 1_000_000 }, Is("4096"),
        "Maximum number of connections per shard that have not completed CONNECT. A further one closes an old one of the address that has most of them.";
    Mqtt.takeovers_max: Integer { min: 0, max: 1_000_000 }, Is("10"),
        "How often a client ID may be taken over by another connection within ten seconds; a further one is refused: 5.0 with 0x9F, 3.x with return \
         code 3. 0: no limit.";
    Mqtt.connections_per_address: Integer { min: 0, max: 100_000_000 }, Is("0"),
        "Maximum number of connections from one IPv4 address or IPv6 /64 network, across all shards; a further one is closed at once. Behind a proxy \
         the address is the one in its PROXY header. 0: no limit; a site may have one address for all its devices.";
    Mqtt.failures_per_address: Integer { min: 0, max: 1_000_000 }, From("`1000` if a listener can be reached from other machines, otherwise `0`"),
        "After this many failures to log in within a minute, further connections from the IPv4 address or IPv6 /64 network are closed at once, before TLS, \
         until the minute is over. Behind a proxy the address is the one in its PROXY header. 0: no limit; a site may have one address for all its devices.";
    Mqtt.sessions_max: Integer { min: 1, max: 100_000_000 }, Is("1000000"),
        "Maximum number of sessions, connected or not, across all shards.";
    Mqtt.evict_sessions: Flag, Is("true"),
        "What to do when there is no room for another session (`sessions_max`, or 256 MiB of client IDs, user names and wills per shard). \
         If true, the sessions that have been disconnected longest are ended and counted. If false, or if all sessions are connected, the \
         CONNECT is refused: 5.0 with 0x97, 3.x with return code 3.";

    Listener.bind: Bind, Required,
        "Address that devices connect to. Port 0 picks a free port, which the log names. `\"unix:/PATH\"`: a Unix socket, for processes of this \
         machine.";
    Listener.socket_mode: Text, Is("\"0660\""),
        "Permissions of the file of a Unix socket, in octal. A process may connect if it may write to that file.";
    Listener.transport: Word(TRANSPORT), Is("\"tcp\""),
        "Transport protocol. `\"tls\"` and `\"wss\"` need `[listener.tls]`; `\"ws\"` and `\"wss\"` are MQTT over WebSocket.";
    Listener.auth: Text, From("none: everyone may connect"),
        "NAME of the `[auth.NAME]` that says who may connect, and what they may touch.";
    Listener.open: Flag, Is("false"),
        "Whether everyone may connect to an address that other machines can reach. Without it, such a listener needs `auth`.";
    Listener.connections_max: Integer { min: 0, max: 100_000_000 }, Is("0"),
        "Maximum number of connections at this listener; a further one is closed at once. 0: no limit but the file descriptors of the process.";
    Listener.connect_rate: Integer { min: 0, max: 1_000_000 }, Is("0"),
        "Maximum number of connections that are accepted in a second, all shards together; a tenth of a second's worth at once. Further ones wait in \
         the kernel's queue (`net.core.somaxconn`). 0: no limit.";
    Listener.proxy_protocol: Word(PROXY_PROTOCOL), Is("\"off\""),
        "Version of the PROXY protocol that the TCP proxy in front of this listener speaks. Its header must precede CONNECT, and its source \
         address is taken as the device's. `\"any\"`: either version. If it is on, `proxy_from` says who the proxy is: see below.";
    Listener.proxy_from: TextList, From("none: required with `proxy_protocol` or `forwarded` beyond loopback"),
        "Addresses of the proxies that may connect, `\"10.0.0.0/8\"` or `\"10.0.0.7\"`: what they say of a device's address is believed. A connection \
         from elsewhere is closed at once. Without it everyone may who reaches the port. `[\"0.0.0.0/0\", \"::/0\"]` believes everyone.";
    Listener.answer_timeout: Duration { min: s(1), max: s(DAY) }, From("never"),
        "A connection that has waited this long for an acknowledgement is closed (5.0: DISCONNECT 0x89) and its session is kept, so that \
         the device reconnects and sends again. It may take up to a quarter longer.";
    Listener.receipts: Flag, Is("false"),
        "Whether PUBACK, PUBREC and PUBCOMP tell 5.0 clients where their record is, in the user properties `kafka-topic`, `kafka-partition` and \
         `kafka-offset`. For sinks with `acknowledge = \"leader\"` or `\"replicated\"`: see below.";

    ControlTls.cert_file: Text, Required,
        "Certificate chain of the server, its own certificate first. `forebay sinks` and the like accept this certificate and no other.";
    ControlTls.key_file: Text, Required,
        "Private key of that certificate, without a passphrase.";
    ControlTls.client_ca_file: Text, From("clients are not asked for a certificate"),
        "CAs of client certificates. If it is set, each client must have one, for `/metrics` and the probes as well.";

    ListenerTls.cert_file: Text, Required,
        "Certificate chain of the server, its own certificate first. For clients that name no server, or one that no certificate has.";
    ListenerTls.key_file: Text, Required,
        "Private key of that certificate, without a passphrase.";
    ListenerTls.certificates: TextTable, From("none"),
        "More certificates, chosen by the name that the client asks for (SNI): `{ \"CERT_FILE\" = \"KEY_FILE\" }`. An exact name is preferred to a wildcard.";
    ListenerTls.min_version: Word(MIN_VERSION), Is("\"1.2\""),
        "Lowest version of TLS that is accepted; the highest is 1.3.";
    ListenerTls.alpn: TextList, From("none"),
        "Application protocols (ALPN) that are accepted beside `mqtt`, or beside `http/1.1` with `\"wss\"`. A client that names none is accepted, one that names only others is refused.";
    ListenerTls.client_ca_file: Text, From("clients are not asked for a certificate"),
        "CAs of client certificates. Sessions are then not resumed with tickets, so that each connection is checked.";
    ListenerTls.client_certificate: Word(CLIENT_CERTIFICATE), Is("\"required\""),
        "With `client_ca_file`: whether a client must have a certificate. One that it has must be valid in either case.";
    ListenerTls.crl_file: Text, From("none"),
        "Certificate revocation lists (CRLs) for client certificates. A certificate whose issuer has no CRL in the file is refused; CRLs for intermediate CAs are not needed.";
    ListenerTls.crl_expired: Word(CRL_EXPIRED), Is("\"use\""),
        "What to do with a CRL whose Next Update has passed. `\"use\"`: use it. `\"refuse\"`: refuse the certificates of its issuer.";
    ListenerTls.tickets: Flag, Is("true"),
        "Whether clients get a ticket to resume their TLS session with. The key of the tickets changes every 6 hours and with a restart.";

    Auth.chain: TextList, Required,
        "Methods, tried in this order: `\"certificate\"` admits clients with a certificate, `\"jwt\"` those with a token, `\"scram\"` and `\"password\"` users of `password_file`, `\"anonymous\"` clients with neither user name nor password.";
    Auth.certificate_identity: Word(CERTIFICATE_IDENTITY), Is("\"cn\""),
        "With `\"certificate\"`: the field of a client certificate that is the client's identity: common name, a DNS name, URI or e-mail address among the \
         alternative names, or the SHA-256 fingerprint. A certificate that has it not exactly once is refused.";
    Auth.password_file: Text, From("none"),
        "File of users, one line `user:hash` each, as `mosquitto_passwd` and `forebay passwd` write it.";
    Auth.password_bytes_max: Size { min: 16, max: PASSWORD_BYTES_MAX as u64 }, Is("\"1KiB\""),
        "Longest password that is compared; a longer one is wrong. Passwords wait in memory while others are compared, also those of clients that \
         are not known. Tokens have a bound of their own.";
    Auth.acl_file: Text, From("everything is granted"),
        "Access control list, as mosquitto's `acl_file`. With it, only what it grants may be touched.";
    Auth.client_id: Word(CLIENT_ID), Is("\"any\""),
        "Client IDs that a user may connect with: `\"identity\"`: its user name, or what its certificate says; `\"prefix\"`: that, or that, `:` or `/`, and more.";
    Auth.foreign_takeover: Word(FOREIGN_TAKEOVER), Is("\"replace\""),
        "If a client ID already has a session of another user: `\"replace\"` ends that session, `\"refuse\"` refuses the new client.";
    Auth.denied_3x: Word(DENIED_3X), Is("\"close\""),
        "What an MQTT 3.x client gets for a QoS 1 or 2 publish that is denied, for which its protocol has no code: `\"close\"` closes the connection, \
         `\"acknowledge\"` acknowledges and drops the message.";
    Auth.denied_reason: Word(DENIED_REASON), Is("\"not-authorized\""),
        "Reason code that an MQTT 5 client gets for a publish, a subscription or a will that is denied: `\"not-authorized\"`: 0x87; `\"unspecified\"`: 0x80, \
         without a Reason String, so that it does not learn why.";

    AuthJwt.jwks_file: Text, From("none"),
        "Public keys that tokens are signed with: a JSON Web Key Set. This, `jwks_url` or `secret_file` is required.";
    AuthJwt.jwks_url: Text, From("none"),
        "Where the key set is fetched from: `https`, or `http` to this machine. Redirects are not followed.";
    AuthJwt.jwks_ca_file: Text, From("the CAs of this machine"),
        "With `jwks_url`: the CAs that its server's certificate may be signed by, PEM.";
    AuthJwt.refresh: Duration { min: s(30), max: s(DAY) }, Is("\"10m\""),
        "With `jwks_url`: how often the key set is fetched. A token with an unknown `kid` has it fetched earlier, at most once in 30 s.";
    AuthJwt.stale_max: Duration { min: s(60), max: s(30 * DAY) }, Is("\"24h\""),
        "With `jwks_url`: for how long the last key set is used when it cannot be fetched. Then every token is refused, and clients that \
         were admitted by one are disconnected.";
    AuthJwt.secret_file: Text, From("none"),
        "File with the secret of HS256, at least 32 bytes; a line end after it does not count.";
    AuthJwt.issuer: Text, From("any"),
        "What `iss` of a token must be.";
    AuthJwt.audience: TextList, From("any"),
        "One of these must be in `aud` of a token.";
    AuthJwt.algorithms: TextList, From("`RS256`, `ES256`, `EdDSA`; with `secret_file` `HS256`"),
        "Keys of other algorithms are not used.";
    AuthJwt.leeway: Duration { min: s(0), max: s(600) }, Is("\"30s\""),
        "How far the clocks of the issuer and of this machine may be apart: for so long after `exp` and before `nbf` a token is accepted.";
    AuthJwt.token_from: Word(TOKEN_FROM), Is("\"password\""),
        "Field of CONNECT that has the token.";
    AuthJwt.identity_claim: Text, Is("\"sub\""),
        "Claim that is the client's identity, the `${username}` of templates, events and the API.";
    AuthJwt.client_id_claim: Text, From("none"),
        "Claim that the client ID must be equal to.";
    AuthJwt.acl_claim: Text, Is("\"acl\""),
        "Claim that says what the client may touch, in EMQX's forms; a token without it says nothing of that.";
    AuthJwt.roles_claim: Text, From("none"),
        "Claim that names the client's roles, a string or a list of strings: `[auth.NAME.role.ROLE]`. A role that is not configured grants nothing.";
    AuthRole.publish: Filters, From("none"),
        "Topic filters that may be published to. `%c` and `%u` as whole levels are the client ID and the user name.";
    AuthRole.subscribe: Filters, From("none"),
        "Topic filters that may be subscribed to.";
    AuthLimits.connections: Integer { min: 0, max: 100_000_000 }, Is("0"),
        "Maximum number of connections of one user; a further one is refused (5.0: 0x97; 3.x: 3). 0: no limit.";
    AuthLimits.sessions: Integer { min: 0, max: 100_000_000 }, Is("0"),
        "Maximum number of sessions of one user that outlive their connections, connected or not. A CONNECT that would make one more is refused (5.0: 0x97; 3.x: 3). 0: no limit.";
    AuthLimits.messages_s: Integer { min: 0, max: 1_000_000_000 }, Is("0"),
        "Maximum number of publishes and wills of one user in a second, a second's worth at once; each filter of a SUBSCRIBE or UNSUBSCRIBE counts as one. Above it, its connections are not read until there is room; nothing is dropped. 0: no limit.";
    AuthLimits.connects_s: Integer { min: 0, max: 1_000_000_000 }, From("`messages_s`"),
        "Maximum number of CONNECTs of one user in a second; a second's worth, at least ten, may come at once. A further one is refused (5.0: 0x9F; 3.x: 3). 0: no limit.";
    AuthLimits.bytes_s: Size { min: 0, max: 1 << 40 }, Is("\"0B\""),
        "The same in bytes of packets. 0: no limit.";
    AuthLimits.session_bytes: Size { min: 0, max: 1 << 30 }, Is("\"0B\""),
        "Maximum size of what one session of a user keeps: client ID, user name, and will. A CONNECT that needs more is refused (5.0: 0x97; 3.x: 3). 0: no limit of its own.";
    AuthLimits.will_bytes: Size { min: 0, max: 1 << 30 }, Is("\"0B\""),
        "Maximum size of a will: topic, payload, and properties; likewise. 0: no limit of its own.";

    ListenerWs.path: Text, Is("\"/mqtt\""),
        "Path of the URL that clients connect to.";
    ListenerWs.origins: TextList, From("none, but pages of the address that they connect to"),
        "Origins of web pages that may connect, `\"https://app.example\"`, as their browsers send them. Without any, a page must come from the host that it \
         connects to, and that must be an IP address or `localhost`. Clients that are not browsers send no origin, and may always connect.";
    ListenerWs.forwarded: Flag, Is("false"),
        "Whether the last address in `X-Forwarded-For` is the device's. If it is on, `proxy_from` of the listener says who the proxy is.";

    Kafka.bootstrap: TextList, Required,
        "Bootstrap brokers, `\"host:port\"`: a list, or one comma-separated string.";
    Kafka.client_id: Text, Is("\"forebay\""),
        "Client ID, for the brokers' logs and quotas.";
    Kafka.connect_timeout: Duration { min: ms(100), max: s(120) }, Is("\"5s\""),
        "Time-out for each step of connecting to a broker: name lookup, TCP connection (for each address of the name), first response.";
    Kafka.request_timeout: Duration { min: s(1), max: s(600) }, Is("\"10s\""),
        "Maximum time to wait for a response; then the connection is closed and another is opened. The first attempts \
         time out earlier, after 1, 2 and 4 s.";
    Kafka.metadata_max_age: Duration { min: s(1), max: s(DAY) }, Is("\"5m\""),
        "Age at which metadata is refreshed even if nothing has changed.";
    Kafka.topics_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Maximum number of topics of this cluster that a shard keeps in memory. Above seven eighths of it, topics without a message for five \
         minutes are evicted, and when it is reached, the least recently used of those without one for 20 seconds. If none can be evicted, a message for another topic is refused: 5.0 clients get 0x97, 3.x clients are disconnected.";
    Kafka.reconnect_backoff_min: Duration { min: ms(1), max: s(60) }, Is("\"50ms\""),
        "Wait before the second attempt to connect to a broker; it doubles with each attempt.";
    Kafka.reconnect_backoff_max: Duration { min: ms(10), max: s(600) }, Is("\"1s\""),
        "Maximum wait between two attempts to connect.";
    Kafka.buffer_bytes: Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"),
        "Memory for records waiting for this cluster, across all shards. When it is full, publishers are not read until there is room. If \
         several topics or sinks share it, one that makes no progress uses at most 38 % of it, and blocks only its own publishers.";

    KafkaTls.ca_file: Text, From("the CAs of this machine"),
        "CAs of the brokers' certificates, or the certificate of a broker that has signed it itself.";
    KafkaTls.ca_certificates: Text, From("none"),
        "The same as text, in the place of `ca_file`: `-----BEGIN CERTIFICATE-----` and so on.";
    KafkaTls.cert_file: Text, From("none"),
        "Certificate chain that Forebay shows brokers which ask for one (mutual TLS), its own certificate first.";
    KafkaTls.key_file: Text, From("none"),
        "Private key of that certificate, without a passphrase. It may be the same file.";
    KafkaTls.server_name: Text, From("the host that is connected to"),
        "Name that the brokers' certificates must have. It is one for all brokers, so it is for certificates with a common name.";
    KafkaTls.verify: Word(VERIFY), Is("\"full\""),
        "What is checked of a broker's certificate. `\"full\"`: that a trusted CA has signed it, that it is valid today, and that it is for the host. \
         `\"chain\"`: not the host. The check cannot be turned off.";

    KafkaSasl.mechanism: Word(MECHANISM), From("none: no login"),
        "SASL mechanism. `\"PLAIN\"` and `\"OAUTHBEARER\"` send the password or token to the broker as it is, and need `[kafka.NAME.tls]` or `insecure`.";
    KafkaSasl.username: Text, From("none; required but for OAUTHBEARER"),
        "User name.";
    KafkaSasl.password_file: Text, From("none"),
        "File that holds the password, and nothing else; a line end behind it is not part of it. It is read at the start and at each reload.";
    KafkaSasl.password: Text, From("none"),
        "The password, only as the environment variable `FOREBAY_KAFKA_NAME_SASL_PASSWORD`: in the file it is an error.";
    KafkaSasl.token_url: Text, From("none"),
        "For OAUTHBEARER: where the token is fetched from (OAuth 2.0 client credentials): `https`, or `http` to this machine. Redirects are not followed.";
    KafkaSasl.client_id: Text, From("none; required with `token_url`"),
        "ID of this client at the identity provider.";
    KafkaSasl.client_secret_file: Text, From("none; required with `token_url`"),
        "File that holds the secret of this client; a line end behind it is not part of it. It is read at each fetch.";
    KafkaSasl.scope: Text, From("none"),
        "Scope of the token; several are separated by spaces.";
    KafkaSasl.token_ca_file: Text, From("the CAs of this machine"),
        "With `token_url`: the CAs that its server's certificate may be signed by, PEM.";
    KafkaSasl.token_file: Text, From("none; this or `token_url` is required for OAUTHBEARER"),
        "File that holds the token. It is read at each login, so that a token is renewed by writing it there.";
    KafkaSasl.extensions: TextTable, From("none"),
        "SASL extensions of OAUTHBEARER (KIP-342), as `logicalCluster` of Confluent Cloud.";
    KafkaSasl.insecure: Flag, Is("false"),
        "Whether the password or token may travel without encryption: for PLAIN and OAUTHBEARER without `[kafka.NAME.tls]`.";

    Embedded.bind: Address, Is("\"127.0.0.1:9092\""),
        "Address of the embedded log. Port 0 picks a free port, which the log names.";
    Embedded.dir: Text, From("`log` in `data_dir`"),
        "Directory of its files.";
    Embedded.advertised: Text, From("the address that the client connected to"),
        "`\"host:port\"` that Kafka clients are told to connect to, for use behind address translation.";
    Embedded.partitions: Integer { min: 1, max: 1_000 }, Is("4"),
        "Number of partitions of automatically created topics.";
    Embedded.segment_bytes: Size { min: MIB, max: GIB }, Is("\"64MiB\""),
        "Size at which a new segment of a partition is started.";
    Embedded.auto_create_topics: Flag, Is("true"),
        "Whether a missing topic is created on first use. If false, create topics with `forebay topics create` or any Kafka tool.";
    Embedded.retention: Duration { min: s(1), max: s(36_500 * DAY) }, From("none: records are kept"),
        "Age at which records are deleted, in whole segments (`log.retention.ms`). A topic's own `retention.ms` takes precedence.";
    Embedded.retention_bytes: Size { min: MIB, max: 1_024 * 1_024 * GIB }, From("none: no limit"),
        "Maximum size of a partition; its oldest segments are deleted (`log.retention.bytes`). A topic's own `retention.bytes` takes \
         precedence.";
    Embedded.retention_interval: Duration { min: ms(100), max: s(DAY) }, Is("\"30s\""),
        "How often retention is checked (`log.retention.check.interval.ms`).";
    Embedded.connections_max: Integer { min: 1, max: 100_000 }, Is("1000"),
        "Maximum number of Kafka connections; further ones are closed at once and counted.";
    Embedded.partitions_max: Integer { min: 1, max: 1_000_000 }, Is("20000"),
        "Maximum number of partitions across all topics; a topic that would exceed it is not created.";
    Embedded.message_bytes_max: Size { min: 64 * KIB, max: 15 * MIB }, Is("1048588"),
        "Maximum size of a record batch, as `max.message.bytes` of a Kafka topic. The batches of sinks must be smaller.";
    Embedded.buffer_bytes: Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"),
        "Memory for records waiting for it, as in `[kafka.NAME]`.";
    Embedded.topics_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Maximum number of its topics that a shard keeps in memory, as in `[kafka.NAME]`.";

    Spool.bytes_max: Size { min: 8 * MIB, max: 1_024 * 1_024 * GIB }, Is("\"8GiB\""),
        "Maximum size on disk, divided equally among the shards. The file system should have that much free: `forebay check` warns if not.";
    Spool.segment_bytes: Size { min: MIB, max: 4 * GIB }, From("`\"64MiB\"`; less where a shard has room for fewer than 16"),
        "Size of a segment file. A shard needs room for at least eight segments, of which four are reserved for moving records out; a record \
         or a batch takes at most an eighth of a segment.";
    Spool.append: Word(APPEND), Is("\"written\""),
        "How records are appended to a segment. `\"written\"`: with write operations. `\"mapped\"`: through a memory map. With a map, a disk \
         error can end the process with SIGBUS, where a write reports an error: see [SPOOL.md](internals/SPOOL.md#written-or-mapped).";
    Spool.sync_interval: Duration { min: us(0), max: s(1) }, Is("\"1ms\""),
        "How far apart a shard's syncs begin, rounded up to whole milliseconds: what comes in between is written and synced together, or as soon \
         as there are 64 KiB of it. A sync that takes longer makes the next one wait anyway. `\"0ms\"`: as soon as the one before it is done, \
         which saves up to a millisecond for each message and costs more CPU and disk operations.";
    Spool.when_full: Word(WHEN_FULL), Is("\"backpressure\""),
        "What to do with a message for which there is no room. `\"backpressure\"`: its publisher is not read until there is room. \
         `\"refuse\"`: it is refused (5.0: 0x97). `\"drop-oldest\"`: the oldest records on disk are dropped and counted.";
    Spool.spool_share: Share, From("`0.5`; `1` if only one sink keeps records on disk"),
        "Maximum share of the spool that one sink may use; beyond it `when_full` applies to that sink.";

    Delivery.acknowledge: Word(DELIVERED), From("`\"stored\"` if there is a `[spool]`, otherwise `\"received\"`"),
        "When a message is acknowledged to its publisher, as far as subscribers and retaining are concerned. `\"stored\"`: when it is on the disk of \
         every shard with kept sessions that get it, and of the one that retains it. `\"received\"`: at once; a crash may lose it for them. Sinks have \
         their own `acknowledge`.";
    Delivery.queue_messages_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Maximum number of messages of QoS 1 and 2 that wait for a session, beside those that its client has been sent.";
    Delivery.queue_bytes_max: Size { min: KIB, max: 64 * GIB }, Is("\"16MiB\""),
        "Their maximum size. A message that is larger waits alone.";
    Delivery.when_full: Word(QUEUE_FULL), Is("\"drop-oldest\""),
        "What to do with one more message. `\"drop-oldest\"`: the oldest that was not sent is dropped for it. `\"drop-newest\"`: it is dropped itself. \
         Either is counted, with an event.";
    Delivery.unread_bytes_max: Size { min: 64 * KIB, max: 64 * MIB }, Is("\"1MiB\""),
        "Messages at QoS 0 for a client that has not read so much are dropped and counted. All that clients of a shard have not read, beyond 64 KiB \
         each, may take a quarter of the 256 MiB for messages that wait. A client that has not read 1 MiB is not read itself until it has read half of that.";
    Delivery.share_strategy: Word(SHARE_STRATEGY), Is("\"round-robin\""),
        "Which member of a shared subscription gets a message. `\"round-robin\"`: the next one in turn that has room. `\"least-inflight\"`: of \
         those with room the one with the fewest unacknowledged messages. `\"hash-client\"`, `\"hash-topic\"`: the same one for all messages of a \
         publisher or of a topic, in order: see [SUBSCRIPTIONS.md](SUBSCRIPTIONS.md#strategies).";
    Delivery.share_ack_timeout: Duration { min: s(1), max: s(36_500 * DAY) }, Is("\"5m\""),
        "A member of a shared subscription that has not acknowledged a message for so long gets no more of it until it has, and other members get \
         what it was sent at QoS 1, if there are any. Whole seconds.";

    Retained.messages_max: Integer { min: 1, max: 100_000_000 }, Is("1000000"),
        "Maximum number of retained messages, in even parts for all shards. With a `[spool]` also what half of its state can keep track of. A message \
         for one more topic is delivered and not retained, which is counted, with an event. With `[auth.NAME]` one user has at most 38 % of it.";
    Retained.bytes_max: Size { min: MIB, max: 1_024 * GIB }, Is("\"256MiB\""),
        "Their maximum size with their topics, in even parts for all shards; they are in memory. With a `[spool]` at most a quarter of it. With `[auth.NAME]` one user has at most 38 % of it.";
    Retained.expire_after: Duration { min: s(1), max: s(36_500 * DAY) }, From("never"),
        "A message is not retained for longer than this. Its own Message Expiry Interval applies too, whichever is shorter. Whole seconds. It holds for \
         messages that come after a change.";

    Sink.name: Text, Required,
        "Unique name, used in metrics and events: letters, digits, `.`, `_`, `-`; at most 100 characters.";
    Sink.kafka: Text, From("the cluster, if there is only one"),
        "NAME of a `[kafka.NAME]`, or `\"embedded\"`.";
    Sink.filters: TextList, Required,
        "MQTT topic filters, with the wildcards `+` and `#`.";
    Sink.topic: Template, Required,
        "Kafka topic. A message for which the template yields an invalid topic name is refused, and one whose name begins with `_`, as topics of Kafka's own do (`__consumer_offsets`, `_schemas`), unless the template itself begins with it.";
    Sink.key: Template, Is("\"${topic}\""),
        "Record key; messages of one client with the same key stay in order. `\"\"`: records without a key.";
    Sink.value: Template, Is("\"${payload}\""),
        "Record value. Cannot be combined with `value_format = \"json\"`.";
    Sink.value_format: Word(VALUE_FORMAT), Is("\"raw\""),
        "`\"raw\"`: the record value is what `value` yields. `\"json\"`: it is the whole message as a JSON object, see below.";
    Sink.headers: TemplateTable, From("none"),
        "Record headers, in this order; the message's MQTT 5 user properties follow them.";
    Sink.properties: Flag, Is("true"),
        "Whether the message's other MQTT 5 properties become record headers `mqtt-...`, see below. User properties always become headers.";
    Sink.user_property_prefix: Text, From("none"),
        "Prefix for the header names of user properties. A user property whose header would have the name of one in `headers`, or of one \
         that Forebay writes itself, is left out, so clients cannot forge headers.";
    Sink.metadata: TextTable, From("none"),
        "Constants that the sink's templates can use as `${metadata.NAME}`.";
    Sink.buffer: Word(BUFFER), From("`\"disk\"` if there is a `[spool]` and `acknowledge` allows it, otherwise `\"memory\"`"),
        "Where records are kept until Kafka has them: see below.";
    Sink.spill_after: Size { min: 64 * KIB, max: 1_024 * GIB }, From("a quarter of the cluster's `buffer_bytes`"),
        "Memory for the sink's records, across all shards; beyond it records are kept on disk only. Cannot be combined with \
         `buffer = \"memory\"`. The cluster's `buffer_bytes` remains the limit for all its sinks.";
    Sink.acknowledge: Word(ACKNOWLEDGE), From("`\"stored\"` with `buffer = \"disk\"`, otherwise `\"replicated\"`"),
        "What an acknowledgement guarantees: see below.";
    Sink.acks: Word(ACKS), From("`\"all\"`; with `acknowledge = \"leader\"` `\"1\"`"),
        "Kafka's `acks`, for sinks with `acknowledge = \"received\"` only: the other levels imply it.";
    Sink.partitioner: Word(PARTITIONER), Is("\"key\""),
        "How partitions are chosen, which also determines what stays in order: see below.";
    Sink.compression: Word(COMPRESSION), Is("\"none\""),
        "Compression of record batches.";
    Sink.compression_level: Integer { min: 1, max: 19 }, From("gzip: `6`; zstd: `3`"),
        "Compression level: 1 to 9 for gzip, 1 to 19 for zstd. The other codecs have none.";
    Sink.linger: Duration { min: us(0), max: s(60) }, Is("\"2ms\""),
        "How long a record waits for others before its batch may be sent.";
    Sink.batch_bytes: Size { min: KIB, max: 16 * MIB }, Is("\"256KiB\""),
        "Size at which a batch is full; the topic's `max.message.bytes` must allow it.";
    Sink.record_bytes_max: Size { min: KIB, max: 64 * MIB }, Is("\"1000KiB\""),
        "Maximum size of a record (key, value and headers together); a larger message is refused. The default fits Kafka's default \
         `max.message.bytes`.";
    Sink.max_inflight: Integer { min: 1, max: 5 }, Is("5"),
        "Maximum number of batches in flight per partition. Any value preserves order, since the producer is idempotent.";
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
    Sink.dead_letters_topic: Text, From("none"),
        "Kafka topic on the same cluster for records that Kafka rejects permanently: see [DEAD_LETTERS.md](DEAD_LETTERS.md).";
    Sink.dead_letters_file: Text, From("`dead-letters.jsonl` in `data_dir`, if there is no topic"),
        "File for the same, one JSON object per line; with a topic as well, for what the topic rejects. Each sink has its own file, except \
         for the default, which is shared: four files of 64 MiB. A relative path is relative to the working directory. `\"none\"`: no file.";
    Sink.dead_letters_file_bytes_max: Size { min: 64 * KIB, max: 64 * GIB }, Is("\"64MiB\""),
        "Size at which the file is renamed and a new one is started.";
    Sink.dead_letters_files_max: Integer { min: 1, max: 1_000 }, Is("8"),
        "Number of files that are kept, including the current one. The oldest is deleted, read or not.";
};

//! The process, its control plane, its log and telemetry, and the limits of the protocol.

use super::{DAY, KIB, Key, MIB, Word, ms, s, word};
use crate::limits::SHARDS_MAX;

const FORMAT: &[Word] = &[word("text"), word("json")];
const LEVEL: &[Word] = &[word("error"), word("warn"), word("info"), word("debug"), word("trace")];

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
    Service.memory_high_watermark: Share, Is("0.7"),
        "Part of the machine's memory, or of the lowest limit of its control groups (a container's, systemd's `MemoryMax`), above which it is short of memory: for sinks with `memory_overload_protection`.";
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

    ControlTls.cert_file: Text, Required,
        "Certificate chain of the server, its own certificate first. `forebay sinks` and the like accept this certificate and no other.";
    ControlTls.key_file: Text, Required,
        "Private key of that certificate, without a passphrase.";
    ControlTls.client_ca_file: Text, From("clients are not asked for a certificate"),
        "CAs of client certificates. If it is set, each client must have one, for `/metrics` and the probes as well.";

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
};

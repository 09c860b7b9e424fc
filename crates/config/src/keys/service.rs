//! Keys of the process, its control plane, its log and telemetry, and the limits of the protocol.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{DAY, KIB, Key, MIB, ms, s};
use crate::data_dir_id::DataDirId;
use crate::resolved::{ApiAccess, LogFormat, LogLevel};
use crate::setting::{Words, settings};
use forebay_base::limits::SHARDS_MAX;
use forebay_guard::secure;
use forebay_service::service::preflight::IoChoice;

settings! {
    /// `[service]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Service in Service {
        restart shards: usize = Integer { min: 0, max: SHARDS_MAX as u64 }, Is("0"),
            "Number of shards: threads that each own a part of the sessions. 0: one per available core, at most 63.";
        restart pin: bool = Flag, Is("true"),
            "Whether to pin each shard to its own core. If false, the kernel schedules the shards, and there may be more of them than cores.";
        restart io: IoChoice = Word(IoChoice::NAMES), Is("\"auto\""),
            "How shards ask the kernel for input and output. `\"ring\"`: by io_uring, which takes the least CPU and needs Linux 6.1. `\"epoll\"`: by epoll, and by threads for the files \
             of `[spool]`: on Linux 4.18 or later, and where a container's seccomp profile forbids io_uring. `\"auto\"`: by io_uring, or by epoll with a warning where this machine has no io_uring for it.";
        restart data_dir: PathBuf = Text, Is("\"./forebay-data\""),
            "Directory for everything that is stored on disk. A relative path is relative to the working directory.";
        apart data_dir_id: Option<DataDirId> = Text, From("any directory is accepted"),
            "ID of the data directory. The first start with `[spool]` logs it, and `forebay check` shows it. If it is set, the service refuses \
             to start with any other directory or with an empty one, such as the mount point of a volume that is not mounted.";
        now drain_grace: Duration = Duration { min: s(0), max: s(600) }, Is("\"10s\""),
            "How long a stop (SIGTERM) waits for Kafka to take the records that would otherwise be lost. Records that are left after this time \
             are reported.";
        restart verifiers: usize = Integer { min: 0, max: 64 }, Is("0"),
            "Number of threads that compare passwords with their hashes, which takes tens of milliseconds each. 0: one for every four shards.";
        now memory_high_watermark: u64 = Share, Is("0.7"),
            "Part of the machine's memory, or of the lowest limit of its control groups (a container's, systemd's `MemoryMax`), above which it is short of memory: for sinks with `memory_overload_protection`.";
        restart sandbox: bool = Flag, Is("true"),
            "Whether the service gives up what it does not need while it serves: writing outside its own directories, starting programs, and \
             system calls that only an intruder would make. What the kernel does not support, or a container's \
             seccomp profile does not allow, is left out, with a warning (`sandbox_incomplete`).";
    }
    and {
        /// The name by which consumer groups know this instance, from the start on. Sources without a `group_instance` use it.
        instance_name: Option<String>,
        /// Eight digits that belong to the data directory: see [`crate::Config::name_instances`].
        instance: String,
    }
}

settings! {
    /// `[control]`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Control in Control {
        restart bind: Option<SocketAddr> => AddressOrOff, Is("\"127.0.0.1:8080\""),
            "Address of `/healthz`, `/readyz`, `/metrics`, `/api/v1` and the dashboard; `\"off\"` disables them.";
        now tokens_file as access: ApiAccess => Text, From("`\"none\"`, if `bind` is a loopback address; otherwise required"), shown "\"/etc/forebay/tokens\"",
            "File of tokens for `/api/v1`, one line `NAME ROLE HASH` each; `forebay token NAME` prints such a line. `\"none\"`: only \
             this machine may use `/api/v1`. There reading needs no token, messages excepted; changes need the one that the service writes to \
             `control-token` in `data_dir` at each start, which the command line sends by itself: see [API.md](API.md#access).";
        now file_dirs: Vec<PathBuf> => TextList, From("none"),
            "Directories below which changes by the API may name files: certificates, keys, passwords, dead letters, Unix sockets. Without one the API may name \
             only files that the configuration names for the same purpose, and passwords and keys only for the same part: see [API.md](API.md#what-no-token-allows). The service \
             may write there.";
        now dashboard: bool = Flag, Is("true"),
            "Whether the [dashboard](DASHBOARD.md) is served at `/ui/`.";
        now origins: Vec<String> => TextList, From("the `Host` of the request"), shown "[\"https://forebay.example\"]",
            "Where browsers have the dashboard from, if that is a [proxy](DASHBOARD.md#behind-a-proxy): scheme, host and port, as browsers send them in \
             `Origin`. Pages of other origins change nothing. It needs `tokens_file`: behind a proxy on the same machine everyone would be this machine.";
        now base_path: Option<String> => Text, From("none"), shown "\"/forebay\"",
            "Path of the dashboard and the API at that proxy. Logins hold below it alone, and requests with it in front of their path are served as those without.";
        now grafana_url: Option<String> => Text, From("none"), shown "\"https://grafana.example/d/forebay\"",
            "Address of the [Grafana dashboard](METRICS.md), for weeks and months: a link of the dashboard's navigation leads there.";
    }
    and {
        /// The option or key that changes the address, for the message that the port is taken.
        moved_by: String,
        /// `[control.tls]`; `None`: the control plane is served without TLS.
        tls: Option<secure::Settings>,
    }
}

pub(super) const CONTROL_TLS: &[Key] = keys! {
    ControlTls.cert_file: Text, Required, shown "\"/etc/forebay/control.pem\"",
        "Certificate chain of the server, its own certificate first. `forebay sinks` and the like accept this certificate and no other.";
    ControlTls.key_file: Text, Required, shown "\"/etc/forebay/control.key\"",
        "Private key of that certificate, without a passphrase.";
    ControlTls.client_ca_file: Text, From("clients are not asked for a certificate"), shown "\"/etc/forebay/operators.pem\"",
        "CAs of client certificates. If it is set, each client must have one, for `/metrics` and the probes as well.";
};

settings! {
    /// `[log]`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Log in Log {
        restart format: LogFormat = Word(LogFormat::NAMES), Is("\"text\""),
            "`\"text\"` for people; `\"json\"`: one JSON object per line.";
        now level: LogLevel = Word(LogLevel::NAMES), Is("\"info\""),
            "Minimum level of log lines.";
        restart payloads: bool = Flag, Is("false"),
            "Whether log lines may have what is in messages: outputs of rules with `console`.";
    }
}

pub(super) const TELEMETRY: &[Key] = keys! {
    Telemetry.otlp: Text, From("off"), shown "\"http://127.0.0.1:4318\"",
        "URL of an OpenTelemetry Collector, `\"http://HOST:4318\"`: OTLP over HTTP, as JSON. `/v1/metrics` and `/v1/traces` are appended.";
    Telemetry.interval: Duration { min: s(1), max: s(3_600) }, Is("\"60s\""),
        "How often metrics are exported. Spans are sent within a second or two.";
    Telemetry.headers: TextTable, From("none"), shown "{ x-api-key = \"secret\" }",
        "HTTP headers for the collector, such as an API key. Their values are never shown.";
    Telemetry.service_name: Text, Is("\"forebay\""),
        "`service.name` of what is exported.";
};

settings! {
    /// `[mqtt]`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mqtt in Mqtt {
        restart packet_bytes_max: u32 = Size { min: KIB, max: 256 * MIB }, Is("\"1MiB\""),
            "Maximum size of an MQTT packet, including its header; sent to 5.0 clients as Maximum Packet Size, as `268435455` at most. Eight packets of this size may be half received on a shard, and 64 MiB of smaller ones.";
        now receive_maximum: u16 = Integer { min: 1, max: 65_535 }, Is("1024"),
            "Maximum number of unacknowledged QoS 1 and 2 messages of a 5.0 client (Receive Maximum).";
        now qos2_inflight_3x: u16 = Integer { min: 1, max: 65_535 }, Is("1024"),
            "Maximum number of QoS 2 messages of a 3.x client in flight, from PUBLISH to PUBREL; a client that exceeds it is disconnected. \
             For 5.0 clients `receive_maximum` is the limit.";
        now topic_alias_maximum: u16 = Integer { min: 0, max: 1_024 }, Is("32"),
            "Maximum number of topic aliases of a 5.0 client. 0: none.";
        now connect_timeout: Duration = Duration { min: ms(100), max: s(300) }, Is("\"10s\""),
            "Time a client has to send its complete CONNECT packet; after that the connection is closed. With `[broker]` CONNACK waits for Kafka no longer than that.";
        now keep_alive_max as keep_alive_max_s: Option<u16> => Duration { min: s(0), max: s(65_535) }, Is("\"0s\""),
            "Maximum keep-alive. A 5.0 client that asks for more is given this value as Server Keep Alive. Whole seconds; `\"0s\"`: no limit. \
             A client may still turn keep-alive off.";
        now session_expiry_max as session_expiry_max_s: u32 = Duration { min: s(0), max: s(36_500 * DAY) }, Is("\"30d\""),
            "Maximum Session Expiry Interval of a 5.0 client: how long its session is kept after it disconnects. Whole seconds; `\"0s\"`: \
             sessions end with their connections.";
        now session_expiry_3x as session_expiry_3x_s: u32 = Duration { min: s(0), max: s(36_500 * DAY) }, Is("\"1d\""),
            "How long the session of a 3.x client without clean session is kept after it disconnects; the protocol has no field for it. \
             Whole seconds.";
        now unauthenticated_max: usize = Integer { min: 16, max: 1_000_000 }, Is("4096"),
            "Maximum number of connections per shard that have not completed CONNECT. A further one closes an old one of the address that has most of them.";
        now takeovers_max: u32 = Integer { min: 0, max: 1_000_000 }, Is("10"),
            "How often a client ID may be taken over by another connection within ten seconds; a further one is refused: 5.0 with 0x9F, 3.x with return \
             code 3. 0: no limit.";
        now connections_per_address: u32 = Integer { min: 0, max: 100_000_000 }, Is("0"),
            "Maximum number of connections from one IPv4 address or IPv6 /64 network, across all shards; a further one is closed at once. Behind a proxy \
             the address is the one in its PROXY header. 0: no limit; a site may have one address for all its devices.";
        now failures_per_address: u32 => Integer { min: 0, max: 1_000_000 }, From("`1000` if a listener can be reached from other machines, otherwise `0`"),
            "After this many failures to log in within a minute, further connections from the IPv4 address or IPv6 /64 network are closed at once, before TLS, \
             until the minute is over. Behind a proxy the address is the one in its PROXY header. 0: no limit; a site may have one address for all its devices.";
        now sessions_max: usize = Integer { min: 1, max: 100_000_000 }, Is("1000000"),
            "Maximum number of sessions, connected or not, across all shards.";
        now evict_sessions: bool = Flag, Is("true"),
            "What to do when there is no room for another session (`sessions_max`, or 256 MiB of client IDs, user names and wills per shard). \
             If true, the sessions that have been disconnected longest are ended and counted. If false, or if all sessions are connected, the \
             CONNECT is refused: 5.0 with 0x97, 3.x with return code 3.";
    }
}

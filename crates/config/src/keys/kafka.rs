//! Keys of Kafka clusters, and of the embedded log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{DAY, GIB, KIB, Key, MIB, Word, ms, s, word};
use crate::resolved::{Sasl, Times};
use crate::setting::settings;
use forebay_guard::secure::OutgoingSettings;
use forebay_runtime::seam::{KeepAlive, SocketOptions};

const MECHANISM: &[Word] = &[word("PLAIN"), word("SCRAM-SHA-256"), word("SCRAM-SHA-512"), word("OAUTHBEARER")];
pub(super) const VERIFY: &[Word] = &[word("full"), word("chain")];

settings! {
    /// `[kafka.NAME]`, or the way to the embedded log.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Cluster in Kafka {
        now description: Option<String> => Text, From("none"), shown "\"The cluster of the plant\"",
            "What this cluster is for, for people: shown by the API.";
        /// The bootstrap brokers. For the embedded log its address as configured: a port 0 is replaced by the real one once the log
        /// runs.
        now bootstrap: Vec<String> => TextList, Required, shown "[\"kafka-1.example:9092\", \"kafka-2.example:9092\"]",
            "Bootstrap brokers, `\"host:port\"`: a list, or one comma-separated string.";
        now client_id: String = Text, Is("\"forebay\""),
            "Client ID, for the brokers' logs and quotas.";
        now connect_timeout as times.connect_timeout: Duration = Duration { min: ms(100), max: s(120) }, Is("\"5s\""),
            "Time-out for connecting to a broker: name lookup, TCP, TLS, first response and login, all together. If the name has several addresses, each \
             gets an equal part of what is left.";
        now request_timeout as times.request_timeout: Duration = Duration { min: s(1), max: s(600) }, Is("\"10s\""),
            "Maximum time to wait for a response; then the connection is closed and another is opened. The first attempts \
             time out earlier, after 1, 2 and 4 s.";
        now metadata_max_age as times.metadata_max_age: Duration = Duration { min: s(1), max: s(DAY) }, Is("\"60s\""),
            "Age at which metadata is refreshed even if nothing has changed.";
        now metadata_min_age as times.metadata_min_age: Duration = Duration { min: ms(10), max: s(60) }, Is("\"100ms\""),
            "Age below which metadata of a topic is not asked for again, whatever has happened meanwhile. While a topic has no leader the wait doubles, up to a \
             second. A longer one keeps records waiting: for a leader that has moved, and for a topic that is just being created.";
        now health_check_interval as times.health_check_interval: Duration = Duration { min: s(1), max: s(DAY) }, Is("\"15s\""),
            "While nothing else is asked, a broker is asked this often whether it answers. One that does not is seen by `forebay_kafka_reachable`, \
             `/readyz` and the event `kafka_unreachable`.";
        now topics_max: usize = Integer { min: 1, max: 10_000_000 }, Is("10000"),
            "Maximum number of topics of this cluster that a shard keeps in memory. Above seven eighths of it, topics without a message for five \
             minutes are evicted, and when it is reached, the least recently used of those without one for 20 seconds. If none can be evicted, a message for another topic is refused: 5.0 clients get 0x97, 3.x clients are disconnected.";
        now reconnect_backoff_min as times.reconnect_backoff_min: Duration = Duration { min: ms(1), max: s(60) }, Is("\"50ms\""),
            "Wait before the second attempt to connect to a broker; it doubles with each attempt.";
        now reconnect_backoff_max as times.reconnect_backoff_max: Duration = Duration { min: ms(10), max: s(600) }, Is("\"1s\""),
            "Maximum wait between two attempts to connect.";
        now socket_send_buffer as sockets.send_buffer: Option<u32> = Size { min: 4 * KIB, max: GIB }, From("the kernel sizes it"), shown "\"1MiB\"",
            "Size of the send buffer of a connection (`SO_SNDBUF`); the kernel caps it at `net.core.wmem_max`.";
        now socket_receive_buffer as sockets.receive_buffer: Option<u32> = Size { min: 4 * KIB, max: GIB }, From("the kernel sizes it"), shown "\"1MiB\"",
            "Size of the receive buffer of a connection (`SO_RCVBUF`); the kernel caps it at `net.core.rmem_max`.";
        now tcp_keepalive as sockets.keep_alive: Option<KeepAlive> => Text, Is("\"60,15,4\""),
            "TCP keep-alive of a connection, `\"IDLE,INTERVAL,PROBES\"`: seconds of silence before the first probe, seconds between two, and the number \
             of unanswered ones after which it is closed. `\"none\"`: off.";
        /// The properties in the order of the file. Their values have been moved to the keys of the same meaning.
        now other_properties: Vec<(String, String)> => TextTable, From("none"), shown "{ \"linger.ms\" = \"5\" }",
            "Properties of Kafka's Java producer, `{ \"linger.ms\" = \"5\" }`. Each sets the key that means the same, in this section or in the sinks of the \
             cluster that do not set it themselves: see [below](#kafkas-producer-properties). `forebay check` names those that change nothing.";
        /// A shard's part holds at least the largest record and a full batch of every sink of this cluster.
        apart buffer_bytes: u64 => Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"), shown "\"256MiB\"",
            "Memory for records waiting for this cluster, across all shards. New records leave a part to what frees memory: three to four of a shard's \
             largest batches, rounded up to a power of two (`forebay check` says how much). When the rest is full, publishers are not read until there is room. If \
             several topics or sinks share it, one that makes no progress uses at most 38 % of it, and blocks only its own publishers.";
    }
    and {
        /// NAME; [`crate::EMBEDDED`] for the embedded log.
        name: String,
        /// The times of connections and questions.
        times: Times,
        /// Options of the sockets of its connections.
        sockets: SocketOptions,
        /// TLS to its brokers; `None`: connections are plain.
        tls: Option<OutgoingSettings>,
        /// The login to its brokers; `None`: without SASL.
        sasl: Option<Sasl>,
        /// Whether the cluster is no longer in the file: it keeps its index until the process ends. See [`crate::change`].
        is_removed: bool,
    }
}

pub(super) const TLS: &[Key] = keys! {
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
};

pub(super) const SASL: &[Key] = keys! {
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
};

settings! {
    /// `[embedded]`: the single-node log inside the binary.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Embedded in Embedded {
        restart bind: SocketAddr = Address, Is("\"127.0.0.1:9092\""),
            "Address of the embedded log. Port 0 picks a free port, which the log names.";
        restart dir: PathBuf => Text, From("`log` in `data_dir`"), shown "\"./forebay-data/log\"",
            "Directory of its files.";
        restart advertised: Option<(String, u16)> => Text, From("the address that the client connected to"), shown "\"gateway.example:9092\"",
            "`\"host:port\"` that Kafka clients are told to connect to, for use behind address translation.";
        restart partitions: u32 = Integer { min: 1, max: 1_000 }, Is("4"),
            "Number of partitions of automatically created topics.";
        restart segment_bytes: u64 = Size { min: MIB, max: GIB }, Is("\"64MiB\""),
            "Size at which a new segment of a partition is started.";
        restart auto_create_topics: bool = Flag, Is("true"),
            "Whether a missing topic is created on first use. If false, create topics with `forebay topics create` or any Kafka tool.";
        restart retention: Option<Duration> = Duration { min: s(1), max: s(36_500 * DAY) }, From("none: records are kept"), shown "\"7d\"",
            "Age at which records are deleted, in whole segments (`log.retention.ms`). A topic's own `retention.ms` takes precedence.";
        restart retention_bytes: Option<u64> = Size { min: MIB, max: 1_024 * 1_024 * GIB }, From("none: no limit"), shown "\"10GiB\"",
            "Maximum size of a partition; its oldest segments are deleted (`log.retention.bytes`). A topic's own `retention.bytes` takes \
             precedence.";
        restart retention_interval: Duration = Duration { min: ms(100), max: s(DAY) }, Is("\"30s\""),
            "How often retention is checked (`log.retention.check.interval.ms`).";
        restart connections_max: usize = Integer { min: 1, max: 100_000 }, Is("1000"),
            "Maximum number of Kafka connections; further ones are closed at once and counted.";
        restart partitions_max: usize = Integer { min: 1, max: 1_000_000 }, Is("20000"),
            "Maximum number of partitions across all topics; a topic that would exceed it is not created.";
        restart message_bytes_max: usize = Size { min: 64 * KIB, max: 15 * MIB }, Is("1048588"),
            "Maximum size of a record batch, as `max.message.bytes` of a Kafka topic. The batches of sinks must be smaller.";
        apart buffer_bytes = Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"), shown "\"256MiB\"",
            "Memory for records waiting for it, as in `[kafka.NAME]`.";
        apart topics_max = Integer { min: 1, max: 10_000_000 }, Is("10000"),
            "Maximum number of its topics that a shard keeps in memory, as in `[kafka.NAME]`.";
    }
    and {
        /// The option or key that changes the address, for the message that the port is taken.
        moved_by: String,
    }
}

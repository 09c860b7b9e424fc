//! Kafka clusters, and the embedded log.

use super::{DAY, GIB, KIB, Key, MIB, Word, ms, s, word};

const MECHANISM: &[Word] = &[word("PLAIN"), word("SCRAM-SHA-256"), word("SCRAM-SHA-512"), word("OAUTHBEARER")];
const VERIFY: &[Word] = &[word("full"), word("chain")];

pub(super) const KEYS: &[Key] = keys! {
    Kafka.description: Text, From("none"), shown "\"The cluster of the plant\"",
        "What this cluster is for, for people: shown by the API.";
    Kafka.bootstrap: TextList, Required, shown "[\"kafka-1.example:9092\", \"kafka-2.example:9092\"]",
        "Bootstrap brokers, `\"host:port\"`: a list, or one comma-separated string.";
    Kafka.client_id: Text, Is("\"forebay\""),
        "Client ID, for the brokers' logs and quotas.";
    Kafka.connect_timeout: Duration { min: ms(100), max: s(120) }, Is("\"5s\""),
        "Time-out for connecting to a broker: name lookup, TCP, TLS, first response and login, all together. If the name has several addresses, each \
         gets an equal part of what is left.";
    Kafka.request_timeout: Duration { min: s(1), max: s(600) }, Is("\"10s\""),
        "Maximum time to wait for a response; then the connection is closed and another is opened. The first attempts \
         time out earlier, after 1, 2 and 4 s.";
    Kafka.metadata_max_age: Duration { min: s(1), max: s(DAY) }, Is("\"60s\""),
        "Age at which metadata is refreshed even if nothing has changed.";
    Kafka.metadata_min_age: Duration { min: ms(10), max: s(60) }, Is("\"100ms\""),
        "Age below which metadata of a topic is not asked for again, whatever has happened meanwhile. While a topic has no leader the wait doubles, up to a \
         second. A longer one keeps records waiting: for a leader that has moved, and for a topic that is just being created.";
    Kafka.health_check_interval: Duration { min: s(1), max: s(DAY) }, Is("\"15s\""),
        "While nothing else is asked, a broker is asked this often whether it answers. One that does not is seen by `forebay_kafka_reachable`, \
         `/readyz` and the event `kafka_unreachable`.";
    Kafka.topics_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Maximum number of topics of this cluster that a shard keeps in memory. Above seven eighths of it, topics without a message for five \
         minutes are evicted, and when it is reached, the least recently used of those without one for 20 seconds. If none can be evicted, a message for another topic is refused: 5.0 clients get 0x97, 3.x clients are disconnected.";
    Kafka.reconnect_backoff_min: Duration { min: ms(1), max: s(60) }, Is("\"50ms\""),
        "Wait before the second attempt to connect to a broker; it doubles with each attempt.";
    Kafka.reconnect_backoff_max: Duration { min: ms(10), max: s(600) }, Is("\"1s\""),
        "Maximum wait between two attempts to connect.";
    Kafka.socket_send_buffer: Size { min: 4 * KIB, max: GIB }, From("the kernel sizes it"), shown "\"1MiB\"",
        "Size of the send buffer of a connection (`SO_SNDBUF`); the kernel caps it at `net.core.wmem_max`.";
    Kafka.socket_receive_buffer: Size { min: 4 * KIB, max: GIB }, From("the kernel sizes it"), shown "\"1MiB\"",
        "Size of the receive buffer of a connection (`SO_RCVBUF`); the kernel caps it at `net.core.rmem_max`.";
    Kafka.tcp_keepalive: Text, Is("\"60,15,4\""),
        "TCP keep-alive of a connection, `\"IDLE,INTERVAL,PROBES\"`: seconds of silence before the first probe, seconds between two, and the number \
         of unanswered ones after which it is closed. `\"none\"`: off.";
    Kafka.other_properties: TextTable, From("none"), shown "{ \"linger.ms\" = \"5\" }",
        "Properties of Kafka's Java producer, `{ \"linger.ms\" = \"5\" }`. Each sets the key that means the same, in this section or in the sinks of the \
         cluster that do not set it themselves: see [below](#kafkas-producer-properties). `forebay check` names those that change nothing.";
    Kafka.buffer_bytes: Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"), shown "\"256MiB\"",
        "Memory for records waiting for this cluster, across all shards. New records leave a part to what frees memory: three to four of a shard's \
         largest batches, rounded up to a power of two (`forebay check` says how much). When the rest is full, publishers are not read until there is room. If \
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
    Embedded.dir: Text, From("`log` in `data_dir`"), shown "\"./forebay-data/log\"",
        "Directory of its files.";
    Embedded.advertised: Text, From("the address that the client connected to"), shown "\"gateway.example:9092\"",
        "`\"host:port\"` that Kafka clients are told to connect to, for use behind address translation.";
    Embedded.partitions: Integer { min: 1, max: 1_000 }, Is("4"),
        "Number of partitions of automatically created topics.";
    Embedded.segment_bytes: Size { min: MIB, max: GIB }, Is("\"64MiB\""),
        "Size at which a new segment of a partition is started.";
    Embedded.auto_create_topics: Flag, Is("true"),
        "Whether a missing topic is created on first use. If false, create topics with `forebay topics create` or any Kafka tool.";
    Embedded.retention: Duration { min: s(1), max: s(36_500 * DAY) }, From("none: records are kept"), shown "\"7d\"",
        "Age at which records are deleted, in whole segments (`log.retention.ms`). A topic's own `retention.ms` takes precedence.";
    Embedded.retention_bytes: Size { min: MIB, max: 1_024 * 1_024 * GIB }, From("none: no limit"), shown "\"10GiB\"",
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
    Embedded.buffer_bytes: Size { min: MIB, max: 1_024 * GIB }, From("`\"256MiB\"`, at least 4 MiB a shard"), shown "\"256MiB\"",
        "Memory for records waiting for it, as in `[kafka.NAME]`.";
    Embedded.topics_max: Integer { min: 1, max: 10_000_000 }, Is("10000"),
        "Maximum number of its topics that a shard keeps in memory, as in `[kafka.NAME]`.";
};

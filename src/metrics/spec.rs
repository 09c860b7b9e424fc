//! Every metric: its name, what it counts, and its place on the board. The one table that `/metrics` is made from.

/// What a number means to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric of a table.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name without the `forebay_` prefix (and without `_total`, which Prometheus adds to counters).
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
}

macro_rules! table {
    ($(#[$doc:meta])* $enum:ident, $table:ident, [$($variant:ident, $kind:ident, $name:literal, $help:literal;)*]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $enum {
            $(#[doc = $help] $variant,)*
        }

        impl $enum {
            /// How many there are.
            pub const COUNT: usize = [$($enum::$variant),*].len();
        }

        $(#[$doc])*
        pub const $table: [Spec; $enum::COUNT] = [
            $(Spec { name: $name, help: $help, kind: Kind::$kind },)*
        ];
    };
}

table!(
    /// Numbers of a shard.
    ShardMetric, SHARD, [
    ConnectionsOpen, Gauge, "connections_open", "Device connections that stand.";
    ConnectionsAccepted, Counter, "connections_accepted", "Sockets accepted on this shard.";
    ConnectionsMoved, Counter, "connections_moved", "Connections handed to the shard that owns their client id.";
    ConnectionsMoveRefused, Counter, "connections_move_refused", "Connections closed because the owner's mailbox was full.";
    ConnectTimeouts, Counter, "connect_timeouts", "Connections closed because no CONNECT came in time.";
    KeepAliveTimeouts, Counter, "keep_alive_timeouts", "Connections closed after 1.5 times their keep-alive without a packet.";
    AnswerTimeouts, Counter, "answer_timeouts", "Connections closed because an answer was held for longer than answer_timeout.";
    ConnectsAccepted, Counter, "connects_accepted", "CONNECT packets answered with success.";
    ConnectsRefused, Counter, "connects_refused", "CONNECT packets answered with a refusal.";
    ProxyHeadersRefused, Counter, "proxy_headers_refused", "Connections closed because what came before CONNECT was no PROXY header that their listener takes.";
    Takeovers, Counter, "takeovers", "Connections closed because their client id connected again.";
    MalformedPackets, Counter, "malformed_packets", "Connections ended because a packet broke the standard.";
    PartialQuotaCloses, Counter, "partial_quota_closes", "Connections closed because half-received packets filled their memory bound.";
    Sessions, Gauge, "sessions", "Sessions held, connected or kept.";
    BytesReceived, Counter, "mqtt_received_bytes", "Bytes read from devices.";
    PublishesQos0, Counter, "publishes_qos0", "PUBLISH packets received at QoS 0.";
    PublishesQos1, Counter, "publishes_qos1", "PUBLISH packets received at QoS 1.";
    PublishesQos2, Counter, "publishes_qos2", "PUBLISH packets received at QoS 2, repeats not counted.";
    PublishesRepeated, Counter, "publishes_repeated", "QoS 2 PUBLISH packets recognised as repeats and not taken again.";
    PublishesUnmatched, Counter, "publishes_unmatched", "Publishes that no sink's filter matched.";
    PublishesRefused, Counter, "publishes_refused", "Publishes refused before any sink took them.";
    Wills, Counter, "wills", "Wills published because a client went away without taking its leave.";
    Answers, Counter, "answers", "PUBACK and PUBREC packets sent.";
    Stalls, Counter, "stalls", "Times a connection was left unread because the memory bound was reached.";
    StalledConnections, Gauge, "stalled_connections", "Connections that are left unread now.";
    PartialBytes, Gauge, "partial_bytes", "Bytes of packets that have not arrived whole.";
    DeadLettersInFlight, Gauge, "dead_letters_in_flight", "Dead letters that are not safe yet, in a topic or a file.";
    DeadLettersQueued, Gauge, "dead_letters_queued", "Dead letters on their way to files.";
    DeadLettersQueuedBytes, Gauge, "dead_letters_queued_bytes", "Bytes of these.";
    DeadLettersQueuedBytesMax, Gauge, "dead_letters_queued_bytes_max", "The bound of that, for all files; one letter may go beyond it.";
    Turns, Counter, "turns", "Turns of the shard's loop.";
    PublishesMatched, Counter, "publishes_matched", "Publishes and wills that at least one sink took.";
    SessionsKept, Gauge, "sessions_kept", "Sessions on the disk: a start finds them again.";
    HeldBytes, Gauge, "held_bytes", "Bytes that devices are to be told once records of their sessions are on the disk.";
    SpoolBytes, Gauge, "spool_bytes", "Bytes of the spool's segments on the disk.";
    SpoolBytesMax, Gauge, "spool_bytes_max", "The bound of that.";
    SpoolLiveBytes, Gauge, "spool_live_bytes", "Bytes of rows in them that Kafka does not have yet.";
    SpoolSegments, Gauge, "spool_segments", "Segments on the disk.";
    SpoolRowsWritten, Counter, "spool_rows_written", "Messages written to the spool.";
    SpoolGroupBytes, Counter, "spool_written_bytes", "Bytes written to the spool.";
    SpoolMovedBytes, Counter, "spool_moved_bytes", "Bytes of them that were moved out of old segments.";
    SpoolGroups, Counter, "spool_groups", "Groups that are on the disk; `spool_rows_written / spool_groups`: messages for one sync.";
    SpoolSyncs, Counter, "spool_syncs", "Syncs that have ended.";
    SpoolSyncUs, Counter, "spool_sync_us", "Microseconds that they took, added up.";
    SpoolFailures, Counter, "spool_failures", "Writes and syncs that failed.";
    SpoolStuck, Gauge, "spool_stuck", "1 while the spool cannot write: nothing is answered at `stored`.";
    SpoolFull, Gauge, "spool_full", "1 while there is no room for another message.";
    SpoolRot, Counter, "spool_rot", "Damaged places found in segments at the start and since.";
    SpoolTornBytes, Counter, "spool_torn_bytes", "Bytes behind the last whole group at the start: answered to nobody, cut off.";
    EventsSuppressed, Counter, "events_suppressed", "Events left out because many of their kind came within a second.";
]);

table!(
    /// Numbers of a listener on a shard. `received = matched + unmatched + refused` at every snapshot; wills came in
    /// with their CONNECT and are in none of them.
    ListenerMetric, LISTENER, [
    Open, Gauge, "listener_connections_open", "Device connections that stand.";
    Received, Counter, "listener_publishes_received", "PUBLISH packets received, repeats of QoS 2 not counted.";
    Matched, Counter, "listener_publishes_matched", "Those of them that at least one sink took.";
    Unmatched, Counter, "listener_publishes_unmatched", "Those that no sink's filter matched.";
    Refused, Counter, "listener_publishes_refused", "Those refused before any sink took them.";
]);

table!(
    /// Numbers of a sink on a shard. What goes in is what comes out, at every snapshot: [`SinkMetric::IN`], [`SinkMetric::OUT`].
    SinkMetric, SINK, [
    Matched, Counter, "sink_matched", "Messages this sink took.";
    Delivered, Counter, "sink_delivered", "Messages Kafka has, at the sink's level.";
    Refused, Counter, "sink_refused", "Messages Kafka refused for good.";
    DeadLettered, Counter, "sink_dead_lettered", "Messages that are in the sink's dead letters, topic and file together.";
    DeadLetteredInFile, Counter, "sink_dead_lettered_in_file", "Those of them that are in the file.";
    Expired, Counter, "sink_expired", "Messages dropped because their Message Expiry Interval, or the sink's expire_after, was over before they could be sent.";
    Recovered, Counter, "sink_recovered", "Messages that an earlier run took and that the start found in the spool.";
    DroppedOldest, Counter, "sink_dropped_oldest", "Messages dropped because the spool was full and `when_full` is `drop-oldest`.";
    DroppedRotten, Counter, "sink_dropped_rotten", "Messages whose bytes on the disk could not be read any more.";
    SpooledRows, Gauge, "sink_spooled_rows", "Messages that are in the spool.";
    SpilledRows, Gauge, "sink_spilled_rows", "Those of them that are not in memory too.";
    SpoolBytes, Gauge, "sink_spool_bytes", "Bytes of the spool that they take.";
    SpoolBytesMax, Gauge, "sink_spool_bytes_max", "The bound of that: its `spool_share`.";
    BufferedRows, Gauge, "sink_buffered_rows", "Messages taken and not yet settled.";
    BufferedBytes, Gauge, "sink_buffered_bytes", "Memory they hold.";
    Batches, Counter, "sink_batches", "Record batches cut.";
    Retries, Counter, "sink_retries", "Batches sent again.";
    Timeless, Counter, "sink_timeless", "Messages written without a timestamp because Kafka did not take theirs.";
    TopicsMadeAnew, Counter, "sink_topics_made_anew", "Times that a Kafka topic was found deleted and made anew.";
    PlacedAnew, Counter, "sink_placed_anew", "Messages that got another partition because theirs went when the topic was made anew.";
    Asked, Counter, "sink_asked", "Times that Kafka was asked what a partition's log holds.";
    OutcomeUnknown, Counter, "sink_outcome_unknown", "Messages sent again although Kafka may have them: they may be there twice.";
    AcknowledgedLost, Counter, "sink_acknowledged_lost", "Times that a partition turned out to lack what it had acknowledged.";
    AcknowledgedLostRecords, Counter, "sink_acknowledged_lost_records", "Messages among that: counted are those whose offsets are remembered (the last runs of each partition) and that the log lacks. Where brokers tell leader epochs the new leader says exactly which; a lower bound where they do not, where runs were forgotten, or at acks=all.";
    BatchRecords, Counter, "sink_batch_records", "Records in the batches cut: divided by `sink_batches`, records a batch.";
    BatchBytes, Counter, "sink_batch_bytes", "Bytes of the batches cut, after compression.";
    ProduceRequests, Counter, "sink_produce_requests", "Produce requests, each counted for the sink of its first batch.";
    KafkaErrors, Counter, "sink_kafka_errors", "Batches answered with a Kafka error; `kafka_errors` has the codes.";
    BatchesUnanswered, Counter, "sink_batches_unanswered", "Batches whose request got no answer: connection lost, time-out, never sent.";
    Splits, Counter, "sink_splits", "Batches split in two because Kafka refused them whole.";
    EpochsRaised, Counter, "sink_epochs_raised", "Times that a partition went on under a new producer epoch.";
    Topics, Gauge, "sink_topics", "Kafka topics held in memory for this sink.";
]);

table!(
    /// Numbers of a Kafka cluster on a shard.
    ClusterMetric, CLUSTER, [
    Reachable, Gauge, "kafka_reachable", "1 while a broker of the cluster answers.";
    Requests, Counter, "kafka_produce_requests", "Produce requests sent.";
    BufferBytes, Gauge, "kafka_buffer_bytes", "Memory held by messages on their way to this cluster.";
    BufferBytesMax, Gauge, "kafka_buffer_bytes_max", "The bound of that memory.";
    LinkFailures, Counter, "kafka_connection_failures", "Connections to brokers that failed, were silent for too long, or said what could not be read.";
    Malformed, Counter, "kafka_malformed_answers", "Answers of brokers that could not be read.";
    Throttles, Counter, "kafka_throttles", "Answers in which a broker asked to be left alone for a while.";
    Links, Gauge, "kafka_connections", "Connections to the cluster's brokers.";
    RequestsInFlight, Gauge, "kafka_requests_in_flight", "Produce requests without an answer.";
    RequestsUnanswered, Counter, "kafka_requests_unanswered", "Produce requests that got no answer.";
    ThrottleMs, Counter, "kafka_throttle_ms", "Milliseconds for which brokers asked us to send nothing, added up.";
    SentBytes, Counter, "kafka_sent_bytes", "Bytes given to connections to the brokers.";
    ReceivedBytes, Counter, "kafka_received_bytes", "Bytes read from them.";
    ConnectionsMade, Counter, "kafka_connections_begun", "Connections to the brokers begun.";
    TopicsUnknown, Counter, "kafka_topics_unknown", "Times that Kafka did not know a topic and rows began to wait for it.";
    TopicsRefused, Counter, "kafka_topics_refused", "Times that Kafka refused a topic: forbidden, or no name for one.";
    LinksReplaced, Counter, "kafka_connections_replaced", "Connections to brokers closed because nothing came in time.";
    SlowPartitions, Gauge, "kafka_slow_partitions", "Partitions whose followers are slow: they use a second connection to their broker.";
]);

table!(
    /// Answers of a Kafka cluster with an error, by code: values of the label `error` of [`ERRORS_NAME`]. What has no row
    /// of its own is counted in the last.
    KafkaError, ERRORS, [
    CorruptMessage, Counter, "CORRUPT_MESSAGE", "2: damaged under way; sent again.";
    UnknownTopic, Counter, "UNKNOWN_TOPIC_OR_PARTITION", "3: not there, or not there yet; held.";
    LeaderNotAvailable, Counter, "LEADER_NOT_AVAILABLE", "5: no leader now; held.";
    NotLeader, Counter, "NOT_LEADER_OR_FOLLOWER", "6: the leader has moved; sent to the new one.";
    RequestTimedOut, Counter, "REQUEST_TIMED_OUT", "7: followers were slow; sent again over a second connection.";
    MessageTooLarge, Counter, "MESSAGE_TOO_LARGE", "10: split, and refused if it is one record.";
    InvalidTopic, Counter, "INVALID_TOPIC_EXCEPTION", "17: no name for a topic; refused.";
    RecordListTooLarge, Counter, "RECORD_LIST_TOO_LARGE", "18: as 10.";
    NotEnoughReplicas, Counter, "NOT_ENOUGH_REPLICAS", "19: below `min.insync.replicas`; held.";
    NotEnoughReplicasAfter, Counter, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "20: likewise, after it was written; sent again.";
    TopicForbidden, Counter, "TOPIC_AUTHORIZATION_FAILED", "29: we may not write there; refused.";
    InvalidTimestamp, Counter, "INVALID_TIMESTAMP", "32: the topic does not take this time; cut anew without timestamps.";
    PolicyViolation, Counter, "POLICY_VIOLATION", "44: refused.";
    OutOfOrderSequence, Counter, "OUT_OF_ORDER_SEQUENCE_NUMBER", "45: not the sequence that the partition expects; sent again in order, and where that settles nothing Kafka is asked.";
    InvalidProducerEpoch, Counter, "INVALID_PRODUCER_EPOCH", "47: Kafka is asked what its log holds; the rest is sent again.";
    StorageError, Counter, "KAFKA_STORAGE_ERROR", "56: the broker's disk; held.";
    UnknownProducerId, Counter, "UNKNOWN_PRODUCER_ID", "59: forgotten; as 47.";
    InvalidRecord, Counter, "INVALID_RECORD", "87: split, and refused if it is one record.";
    QuotaExceeded, Counter, "THROTTLING_QUOTA_EXCEEDED", "89: held.";
    ProducerFenced, Counter, "PRODUCER_FENCED", "90: as 47.";
    UnknownTopicId, Counter, "UNKNOWN_TOPIC_ID", "100: as 3.";
    Other, Counter, "other", "Any other code.";
]);

/// The family of [`ERRORS`], label `error`.
pub const ERRORS_NAME: &str = "kafka_errors";
/// Its help.
pub const ERRORS_HELP: &str = "Batches that the cluster answered with an error, by code.";

impl KafkaError {
    const CODES: [(i16, Self); Self::COUNT - 1] = [
        (2, Self::CorruptMessage),
        (3, Self::UnknownTopic),
        (5, Self::LeaderNotAvailable),
        (6, Self::NotLeader),
        (7, Self::RequestTimedOut),
        (10, Self::MessageTooLarge),
        (17, Self::InvalidTopic),
        (18, Self::RecordListTooLarge),
        (19, Self::NotEnoughReplicas),
        (20, Self::NotEnoughReplicasAfter),
        (29, Self::TopicForbidden),
        (32, Self::InvalidTimestamp),
        (44, Self::PolicyViolation),
        (45, Self::OutOfOrderSequence),
        (47, Self::InvalidProducerEpoch),
        (56, Self::StorageError),
        (59, Self::UnknownProducerId),
        (87, Self::InvalidRecord),
        (89, Self::QuotaExceeded),
        (90, Self::ProducerFenced),
        (100, Self::UnknownTopicId),
    ];

    /// The row of a Kafka error code.
    #[must_use]
    pub fn of(code: i16) -> Self {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or(Self::Other, |(_, row)| *row)
    }

    /// Kafka's name of a code, or `other`.
    #[must_use]
    pub fn name(code: i16) -> &'static str {
        ERRORS[Self::of(code) as usize].name
    }
}

impl SinkMetric {
    /// One side of a sink's ledger.
    pub const IN: [Self; 2] = [Self::Matched, Self::Recovered];
    /// The other: what was taken is delivered, or has failed, or waits. A new end of a row joins [`Self::FAILED`].
    pub const OUT: [Self; 7] = [
        Self::Delivered,
        Self::Refused,
        Self::Expired,
        Self::DeadLettered,
        Self::DroppedOldest,
        Self::DroppedRotten,
        Self::BufferedRows,
    ];
    /// Ends that are not Kafka.
    pub const FAILED: [Self; 5] =
        [Self::Refused, Self::Expired, Self::DeadLettered, Self::DroppedOldest, Self::DroppedRotten];
}

/// Where things stand on a board: the shard's numbers, then each sink's, each cluster's, each listener's, and each
/// cluster's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many sinks.
    pub sinks: usize,
    /// How many clusters.
    pub clusters: usize,
    /// How many listeners.
    pub listeners: usize,
}

impl Layout {
    /// Length of the board.
    #[must_use]
    pub const fn len(self) -> usize {
        self.first_error() + self.clusters * KafkaError::COUNT
    }

    /// Never: a shard always has numbers.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Place of the first sink's first number.
    #[must_use]
    pub const fn first_sink(self) -> usize {
        ShardMetric::COUNT
    }

    /// Place of the first cluster's first number.
    #[must_use]
    pub const fn first_cluster(self) -> usize {
        self.first_sink() + self.sinks * SinkMetric::COUNT
    }

    /// Place of the first listener's first number.
    #[must_use]
    pub const fn first_listener(self) -> usize {
        self.first_cluster() + self.clusters * ClusterMetric::COUNT
    }

    /// Place of the first cluster's first error.
    #[must_use]
    pub const fn first_error(self) -> usize {
        self.first_listener() + self.listeners * ListenerMetric::COUNT
    }

    /// Place of a sink's number.
    #[must_use]
    pub const fn sink(self, sink: usize, metric: SinkMetric) -> usize {
        self.first_sink() + sink * SinkMetric::COUNT + metric as usize
    }

    /// Place of a cluster's number.
    #[must_use]
    pub const fn cluster(self, cluster: usize, metric: ClusterMetric) -> usize {
        self.first_cluster() + cluster * ClusterMetric::COUNT + metric as usize
    }

    /// Place of a listener's number.
    #[must_use]
    pub const fn listener(self, listener: usize, metric: ListenerMetric) -> usize {
        self.first_listener() + listener * ListenerMetric::COUNT + metric as usize
    }

    /// Place of a cluster's count of an error.
    #[must_use]
    pub const fn error(self, cluster: usize, error: KafkaError) -> usize {
        self.first_error() + cluster * KafkaError::COUNT + error as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_places_do_not_overlap() {
        let tables = SHARD.iter().chain(&LISTENER).chain(&SINK).chain(&CLUSTER);
        let mut names: Vec<_> = tables.map(|s| s.name).chain([ERRORS_NAME]).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        let layout = Layout { sinks: 3, clusters: 2, listeners: 2 };
        let mut places: Vec<usize> = (0..ShardMetric::COUNT).collect();
        for (first, each, count) in [
            (layout.sink(0, SinkMetric::Matched), SinkMetric::COUNT, layout.sinks),
            (layout.cluster(0, ClusterMetric::Reachable), ClusterMetric::COUNT, layout.clusters),
            (layout.listener(0, ListenerMetric::Open), ListenerMetric::COUNT, layout.listeners),
            (layout.error(0, KafkaError::CorruptMessage), KafkaError::COUNT, layout.clusters),
        ] {
            places.extend(first..first + each * count);
        }
        assert_eq!(places, (0..layout.len()).collect::<Vec<_>>());
        assert_eq!(layout.error(1, KafkaError::Other) + 1, layout.len());
    }

    #[test]
    fn an_error_code_has_its_row_and_says_its_number() {
        for (code, row) in KafkaError::CODES {
            assert_eq!(KafkaError::of(code), row);
            assert!(ERRORS[row as usize].help.starts_with(&format!("{code}: ")), "{code}");
        }
        assert_eq!([KafkaError::of(-1), KafkaError::of(9_999)], [KafkaError::Other; 2]);
        assert_eq!((KafkaError::name(29), KafkaError::name(-1)), ("TOPIC_AUTHORIZATION_FAILED", "other"));
    }
}

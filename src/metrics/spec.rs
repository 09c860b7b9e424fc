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
    ConnectsAccepted, Counter, "connects_accepted", "CONNECT packets answered with success.";
    ConnectsRefused, Counter, "connects_refused", "CONNECT packets answered with a refusal.";
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
    Turns, Counter, "turns", "Turns of the shard's loop.";
]);

table!(
    /// Numbers of a sink on a shard. `matched = delivered + refused + expired + buffered` at every snapshot.
    SinkMetric, SINK, [
    Matched, Counter, "sink_matched", "Messages this sink took.";
    Delivered, Counter, "sink_delivered", "Messages Kafka has, at the sink's level.";
    Refused, Counter, "sink_refused", "Messages Kafka refused for good.";
    Expired, Counter, "sink_expired", "Messages dropped because their Message Expiry Interval was over before they could be sent.";
    BufferedRows, Gauge, "sink_buffered_rows", "Messages taken and not yet settled.";
    BufferedBytes, Gauge, "sink_buffered_bytes", "Memory they hold.";
    Batches, Counter, "sink_batches", "Record batches cut.";
    Retries, Counter, "sink_retries", "Batches sent again.";
    Asked, Counter, "sink_asked", "Times that Kafka was asked what a partition's log holds.";
    OutcomeUnknown, Counter, "sink_outcome_unknown", "Batches sent again although Kafka may have them.";
    AcknowledgedLost, Counter, "sink_acknowledged_lost", "Times that a partition turned out to lack what it had acknowledged.";
]);

table!(
    /// Numbers of a Kafka cluster on a shard.
    ClusterMetric, CLUSTER, [
    Reachable, Gauge, "kafka_reachable", "1 while a broker of the cluster answers.";
    Requests, Counter, "kafka_produce_requests", "Produce requests sent.";
    BufferBytes, Gauge, "kafka_buffer_bytes", "Memory held by messages on their way to this cluster.";
    BufferBytesMax, Gauge, "kafka_buffer_bytes_max", "The bound of that memory.";
    Links, Gauge, "kafka_connections", "Connections to the cluster's brokers.";
]);

/// Where things stand on a board: the shard's numbers, then each sink's, then each cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many sinks.
    pub sinks: usize,
    /// How many clusters.
    pub clusters: usize,
}

impl Layout {
    /// Length of the board.
    #[must_use]
    pub const fn len(self) -> usize {
        ShardMetric::COUNT + self.sinks * SinkMetric::COUNT + self.clusters * ClusterMetric::COUNT
    }

    /// Never: a shard always has numbers.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Place of a sink's number.
    #[must_use]
    pub const fn sink(self, sink: usize, metric: SinkMetric) -> usize {
        ShardMetric::COUNT + sink * SinkMetric::COUNT + metric as usize
    }

    /// Place of a cluster's number.
    #[must_use]
    pub const fn cluster(self, cluster: usize, metric: ClusterMetric) -> usize {
        ShardMetric::COUNT + self.sinks * SinkMetric::COUNT + cluster * ClusterMetric::COUNT + metric as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_places_do_not_overlap() {
        let mut names: Vec<_> = SHARD.iter().chain(&SINK).chain(&CLUSTER).map(|s| s.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        let layout = Layout { sinks: 3, clusters: 2 };
        assert_eq!(layout.sink(0, SinkMetric::Matched), ShardMetric::COUNT);
        assert_eq!(layout.sink(2, SinkMetric::AcknowledgedLost) + 1, layout.cluster(0, ClusterMetric::Reachable));
        assert_eq!(layout.cluster(1, ClusterMetric::Links) + 1, layout.len());
    }
}

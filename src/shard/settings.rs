//! From what the configuration means for the whole process to what each room of a shard is told.

use crate::config::{self, Acknowledge, Cluster, Compression, Config, Sink};
use crate::kafka::compression::Codec;
use crate::kafka::producer::{AnsweredOn, Partitioner, SinkSettings};
use crate::kafka::{client, producer};
use crate::session;

/// The wire client of a cluster.
pub(super) fn client(cluster: &Cluster) -> client::Settings {
    client::Settings {
        bootstrap: cluster.bootstrap.clone(),
        client_id: cluster.client_id.clone(),
        request_timeout: cluster.request_timeout,
        connect_timeout: cluster.connect_timeout,
        metadata_max_age: cluster.metadata_max_age,
        reconnect_backoff_min: cluster.reconnect_backoff_min,
        reconnect_backoff_max: cluster.reconnect_backoff_max,
        ..client::Settings::default()
    }
}

/// The producer of a cluster on one shard, with its share of the memory.
pub(super) fn producer(config: &Config, cluster: usize, seed: u64) -> producer::Settings {
    let sinks = config.sinks.iter().filter(|sink| sink.cluster == cluster).map(sink).collect();
    let share = config.clusters[cluster].buffer_bytes / config.service.shards.max(1) as u64;
    producer::Settings {
        buffer_bytes: usize::try_from(share).unwrap_or(usize::MAX),
        seed,
        sinks,
        ..producer::Settings::default()
    }
}

fn sink(sink: &Sink) -> SinkSettings {
    SinkSettings {
        linger: sink.linger,
        batch_bytes: sink.batch_bytes,
        acks: sink.acks,
        partitioner: match sink.partitioner {
            config::Partitioner::Key => Partitioner::Key,
            config::Partitioner::Client => Partitioner::Hash,
            config::Partitioner::Sticky => Partitioner::Sticky,
            config::Partitioner::Random => Partitioner::Random,
        },
        fixed_topic: sink.topic.as_literal().is_some(),
        compression: match sink.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        compression_level: sink.compression_level,
        record_bytes_max: sink.record_bytes_max,
        expire_after: sink.expire_after,
        max_inflight: sink.max_inflight,
        answered_on: match sink.acknowledge {
            Acknowledge::Received => AnsweredOn::Append,
            Acknowledge::Leader | Acknowledge::Replicated => AnsweredOn::Replicated,
        },
    }
}

/// The sessions of one shard, with their share of the number.
pub(super) fn sessions(config: &Config) -> session::Settings {
    let mqtt = &config.mqtt;
    session::Settings {
        sessions_max: mqtt.sessions_max.div_ceil(config.service.shards.max(1)),
        session_expiry_max_s: mqtt.session_expiry_max_s,
        session_expiry_3x_s: mqtt.session_expiry_3x_s,
        keep_alive_max_s: mqtt.keep_alive_max_s,
        receive_maximum: mqtt.receive_maximum,
        topic_alias_maximum: mqtt.topic_alias_maximum,
        packet_size_max: Some(mqtt.packet_bytes_max),
        ..session::Settings::default()
    }
}

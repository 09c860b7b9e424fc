//! Settings for each part of a shard, made of the configuration of the whole process.

use std::sync::Arc;

use forebay_base::rules::Rules;
use forebay_buffer::{self as buffer, SinkTerms};
use forebay_config::{self as config, Acknowledge, Broker, Buffer, Config, OfBroker, Sink, Spool, WhenFull};
use forebay_guard::edge::Edge;
use forebay_guard::outward;
use forebay_kafka::producer::{AnsweredOn, Keep, Partitioner, SinkSettings};
use forebay_kafka::{client, consumer, producer};
use forebay_spool as spool;

use super::dead_letters::HEADERS_BYTES_MAX;
use super::members::{Members, Role};

/// The largest bad record that becomes a dead letter, unless `fetch_bytes` of its source is more: Kafka's default bound. Bytes.
const BAD_RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The wire client of a cluster.
pub(super) fn client(config: &Config, index: usize, edge: &Edge) -> client::Settings {
    let cluster = &config.clusters[index];
    let times = cluster.times;
    client::Settings {
        outward: outward::Settings {
            connect_timeout: times.connect_timeout,
            backoff_min: times.reconnect_backoff_min,
            backoff_max: times.reconnect_backoff_max,
            tls: edge.kafka(index).cloned(),
            ..outward::Settings::default()
        },
        bootstrap: cluster.bootstrap.clone(),
        client_id: cluster.client_id.clone(),
        request_timeout: times.request_timeout,
        metadata_min_age: times.metadata_min_age,
        metadata_max_age: times.metadata_max_age,
        health_check_interval: times.health_check_interval,
        sasl: cluster.sasl.as_ref().map(|sasl| Arc::clone(&sasl.credentials)),
        ..client::Settings::default()
    }
}

/// The consumer of a cluster on one shard.
pub(super) fn consumer(config: &Config) -> consumer::Settings {
    consumer::Settings { fetch_memory: config.delivery.fetch_memory, ..consumer::Settings::default() }
}

/// The producer of a cluster on one shard, with its share of the memory.
pub(super) fn producer(config: &Config, cluster: usize, rules: &'static dyn Rules, seed: u64) -> producer::Settings {
    let sinks = Members::of(config, cluster).roles().map(|role| member(config, role)).collect();
    producer::Settings {
        buffer_bytes: buffer_bytes(config, cluster),
        topics_max: config.clusters[cluster].topics_max,
        request_timeout: config.clusters[cluster].times.request_timeout,
        receipts: config.listeners.iter().any(|listener| listener.receipts),
        seed,
        rules,
        sinks,
        ..producer::Settings::default()
    }
}

/// A shard's memory for a cluster, and the part of it above which records leave room for work that gives memory back. Bytes.
pub fn memory_of_shard(config: &Config, cluster: usize) -> (usize, usize) {
    producer(config, cluster, &forebay_base::rules::KEPT, 0).buffer()
}

/// A shard's share of a cluster's memory.
pub(super) fn buffer_bytes(config: &Config, cluster: usize) -> usize {
    let share = config.clusters[cluster].buffer_bytes / config.service.shards.max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// A sink of a producer.
pub(super) fn member(config: &Config, role: Role) -> SinkSettings {
    match role {
        Role::Own(index) => {
            let of = &config.sinks[index];
            SinkSettings { keep_rejected: of.dead_letters.is_some(), ..sink(of, config.service.shards) }
        }
        Role::DeadLetters(index) => dead_letters_sink(&config.sinks[index]),
        Role::BadRecords(index) => letters_sink(config.sources[index].fetch_bytes.max(BAD_RECORD_BYTES_MAX)),
        Role::Refused(_) => letters_sink(config.mqtt.packet_bytes_max as usize),
    }
}

/// The sink that writes the dead-letter topic of a source or bridge. Records wait for the topic and for Kafka; a record that Kafka refuses for good is
/// answered as such. `bytes_max`: that of the letters' contents.
fn letters_sink(bytes_max: usize) -> SinkSettings {
    SinkSettings {
        acks: -1,
        partitioner: Partitioner::Key,
        fixed_topic: true,
        record_bytes_max: bytes_max + HEADERS_BYTES_MAX,
        answered_on: AnsweredOn::Replicated,
        reserved: true,
        keep: Keep::Memory,
        ..SinkSettings::default()
    }
}

/// The sink that writes a dead-letter topic. Its records are the sink's with a few headers more. Records that the topic refuses go to the file, if there is
/// one.
fn dead_letters_sink(of: &Sink) -> SinkSettings {
    let file = of.dead_letters.as_ref().is_some_and(|dead| dead.file.is_some());
    SinkSettings {
        acks: -1,
        partitioner: Partitioner::Key,
        fixed_topic: true,
        record_bytes_max: dead_record_bytes_max(of),
        answered_on: AnsweredOn::Replicated,
        // Rows that were refused end with their letters: nothing may drop these.
        expire_after: None,
        retries: None,
        // Letters may not be dropped either because an operator has yet to create the topic: they wait, whatever the sink's own rows do.
        unknown_topic_timeout: None,
        // The letters are of rows that were sent before.
        paused: false,
        sheds: false,
        keep_rejected: file,
        reserved: true,
        keep: Keep::Memory,
        ..sink(of, 1)
    }
}

/// The largest dead letter of a sink that goes to a topic.
pub(super) fn dead_record_bytes_max(sink: &Sink) -> usize {
    sink.record_bytes_max + HEADERS_BYTES_MAX
}

fn sink(sink: &Sink, shards: usize) -> SinkSettings {
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
        compression: sink.compression.codec(),
        compression_level: sink.compression_level,
        record_bytes_max: sink.record_bytes_max,
        retries: sink.retries,
        expire_after: sink.expire_after,
        unknown_topic_timeout: unknown_topic_timeout(sink),
        paused: sink.paused,
        sheds: sink.memory_overload_protection,
        max_inflight: sink.max_inflight,
        answered_on: match sink.acknowledge {
            Acknowledge::Received => AnsweredOn::Append,
            Acknowledge::Leader | Acknowledge::Replicated => AnsweredOn::Replicated,
            Acknowledge::Stored => AnsweredOn::Stored,
        },
        keep: match sink.buffer {
            Buffer::Memory => Keep::Memory,
            Buffer::Disk => Keep::Disk,
            Buffer::Hybrid => Keep::Hybrid,
            Buffer::HybridSaved => Keep::HybridSaved,
        },
        spill_after: usize::try_from(sink.spill_after / shards.max(1) as u64).unwrap_or(usize::MAX),
        ..SinkSettings::default()
    }
}

/// The time for which rows wait for a topic that Kafka does not have. No limit if all go to one topic, which an operator has yet to create, and if they were
/// acknowledged and only memory would remember them.
fn unknown_topic_timeout(sink: &Sink) -> Option<std::time::Duration> {
    let is_told = matches!(sink.acknowledge, Acknowledge::Leader | Acknowledge::Replicated);
    let ends_well = sink.dead_letters.is_some() || is_told;
    (sink.topic.as_literal().is_none() && ends_well).then_some(sink.unknown_topic_timeout)
}

/// The most bytes of the disk buffer that each sink may hold.
fn share(spool: &Spool, rules: &dyn Rules) -> u64 {
    rules.share_of_sink(spool.sink_bytes_max, spool.segment_bytes * spool.segments_max)
}

/// Sets the settings of the disk buffer that can change while it runs.
pub(super) fn set_spool(buffer: &mut buffer::Buffer, spool: &Spool, rules: &dyn Rules) {
    buffer.set_share(share(spool, rules), spool.share_is_computed);
    buffer.set_sync_interval(spool.sync_interval);
    buffer.drop_oldest_when_full(spool.when_full == WhenFull::DropOldest);
}

/// The terms of a sink for the disk buffer.
pub(super) fn terms(of: &Sink, shards: usize) -> SinkTerms {
    let SinkSettings { keep, answered_on, .. } = sink(of, shards);
    SinkTerms { name: of.name.as_str().into(), keep, answered_on }
}

/// The disk buffer of one shard, if there is one.
pub(super) fn buffer(config: &Config, shard: usize, rules: &dyn Rules, seed: u64) -> Option<buffer::Settings> {
    let spool = config.spool?;
    let terms = |of: &Sink| terms(of, config.service.shards);
    let sinks = |cluster| config.sinks.iter().filter(move |sink| sink.cluster == cluster).map(terms).collect();
    Some(buffer::Settings {
        log: spool::Settings {
            shard: u32::try_from(shard).unwrap_or(u32::MAX),
            segment_bytes: spool.segment_bytes,
            segments_max: spool.segments_max,
            // The computed share is set later: a sink that holds more by then had the whole before.
            sink_bytes_max: if spool.share_is_computed { spool.room() } else { share(&spool, rules) },
            data_dir_id: config.service.data_dir_id.map_or(0, |id| id.number()),
            seed,
        },
        clusters: (0..config.clusters.len()).map(sinks).collect(),
        takes_up_others: false,
    })
}

/// The sinks of the broker's routes, with their places in the configuration.
pub(super) fn routes(config: &Config) -> impl Iterator<Item = (usize, &Sink)> {
    config.sinks.iter().enumerate().filter(|(_, sink)| sink.of_broker == Some(OfBroker::Route))
}

/// The time for which rows of a route that is gone wait for a topic that Kafka does not have.
const UNKNOWN_TOPIC_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);

/// The most bytes around a record in a log's block of rows.
const AROUND_RECORD: usize = 512;

/// The producer of a slot, one of `slots`, for rows that its log has: its sinks are the routes, in their order, and routes that are gone, so that there are
/// `sinks` at least. A record has to fit into a block of the log, an eighth of a segment; of a batch half of that is what its records have beside them.
pub(super) fn slot_rows(
    config: &Config,
    broker: &Broker,
    (slots, sinks): (usize, usize),
    (rules, seed): (&'static dyn Rules, u64),
) -> producer::Settings {
    let block = usize::try_from(broker.session_log(slots).segment_bytes / 8).unwrap_or(usize::MAX);
    let of_slot = |(_, of): (usize, &Sink)| {
        let of = sink(of, config.service.shards);
        SinkSettings {
            // A row and its batch are then in one group of the log.
            linger: std::time::Duration::ZERO,
            batch_bytes: of.batch_bytes.min(block / 2),
            record_bytes_max: of.record_bytes_max.min(block.saturating_sub(AROUND_RECORD)),
            answered_on: AnsweredOn::Stored,
            keep: Keep::Disk,
            ..of
        }
    };
    let mut all: Vec<SinkSettings> = routes(config).map(of_slot).collect();
    let gone = all.last().map(|last| SinkSettings {
        // Somebody may have deleted the topic: its rows end after a while.
        unknown_topic_timeout: Some(UNKNOWN_TOPIC_TIMEOUT),
        ..last.clone()
    });
    let missing = sinks.saturating_sub(all.len());
    all.extend(gone.into_iter().cycle().take(missing));
    producer::Settings {
        // The least that the routes need: what there is more is in the log alone.
        buffer_bytes: 0,
        requests_per_node_max: 1,
        request_timeout: config.clusters[broker.cluster].times.request_timeout,
        seed,
        rules,
        sinks: all,
        ..producer::Settings::default()
    }
}

/// The log of a slot, one of `slots`, in Kafka. Half of its room is for rows of routes, in equal parts; sessions and their messages have the rest.
pub(super) fn session_log(
    config: &Config,
    broker: &Broker,
    (slot, slots): (u16, usize),
    seed: u64,
) -> buffer::Settings {
    let of_route = |(_, of): (usize, &Sink)| SinkTerms {
        name: of.name.as_str().into(),
        keep: Keep::Disk,
        answered_on: AnsweredOn::Stored,
    };
    let routes: Vec<SinkTerms> = routes(config).map(of_route).collect();
    let log = broker.session_log(slots);
    buffer::Settings {
        log: spool::Settings {
            shard: slot.into(),
            segment_bytes: log.segment_bytes,
            segments_max: log.segments_max,
            sink_bytes_max: (log.room() / 2 / routes.len().max(1) as u64).max(log.segment_bytes / 4),
            data_dir_id: super::session_log::DIRECTORY,
            seed,
        },
        clusters: vec![routes],
        takes_up_others: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_wait_for_their_topic_without_a_limit() {
        let text = r##"
            [kafka.main]
            bootstrap = "127.0.0.1:9092"
            [[sink]]
            name = "all"
            kafka = "main"
            filters = ["#"]
            topic = "${topic[1]}"
            dead_letters_topic = "letters"
            dead_letters_file = "/var/lib/forebay/letters.jsonl"
        "##;
        let config = config::parse(text, "test").expect("a valid configuration");
        assert!(member(&config, Role::Own(0)).unknown_topic_timeout.is_some());
        assert_eq!(member(&config, Role::DeadLetters(0)).unknown_topic_timeout, None);
    }
}

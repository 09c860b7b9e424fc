//! The log of kept sessions in Kafka, before a shard has it: creates and checks its topic, and takes over a partition of it
//! ([`crate::replica`]). Blocking, with the client of `forebay check`.

use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::messages::{
    BrokerId, InitProducerIdRequest, MetadataResponse, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::broker::{Coordinates, coordinator};
use super::check::{UNKNOWN_TOPIC, address};
use super::log_reader::{EARLIEST, fetch, offset_at};
use super::log_writer::{self, NotWritten};
use super::topics::{self, CLEANUP_POLICY, COMPACT, Shape, new_topic};
use crate::config::Cluster;
use crate::replica::{BATCH_BYTES_MAX, Names, Step, Store, TakeOver, TakeOverError, Taken};

/// The last version of InitProducerId without two-phase commit.
const INIT_VERSION_MAX: i16 = 5;
/// The transaction timeout that Kafka requires; there are no transactions.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// The longest wait of a broker for followers.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest takeover of a log: half of the time for which tombstones are kept, so that none is missed.
const TAKE_OVER_MAX: Duration = Duration::from_secs(300);
/// The time for which a deleted key's tombstone is kept, in ms.
const TOMBSTONES_MS: u64 = 600_000;

/// Partitions of the topic in versions without slots.
const PARTITIONS_BEFORE: usize = 127;

const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const LOG_APPEND_TIME: &str = "LogAppendTime";
const MESSAGE_BYTES: &str = "max.message.bytes";
const TOMBSTONES: &str = "delete.retention.ms";
const IN_SYNC_MIN: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// The beginning of the reason why a client without the right to write under a transactional id gets no producer ID.
pub(super) const TRANSACTIONS_FORBIDDEN: &str = "this client is not authorized to write as transactional id";

/// A log to take over.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The topic.
    pub topic: &'a str,
    /// The log's partition.
    pub log: u16,
    /// The instance's name, for messages.
    pub instance: &'a str,
}

/// Creates the topic of logs if it is missing and `create` allows it, and checks its settings. Returns a warning for the
/// operator, in words.
///
/// # Errors
/// The obstacle, with the command that removes it. It may pass: the topic is being created.
pub fn prepare_topic(
    cluster: &Cluster,
    topic: &str,
    logs: u16,
    replicas: u16,
    create: bool,
) -> Result<Vec<String>, String> {
    let mut admin = Admin::reach(cluster)?;
    let metadata = admin.metadata(&[topic]).map_err(|why| admin.sasl_missing(cluster, why))?;
    let found = metadata.topics.first().ok_or("the cluster says nothing of it")?;
    let has = found.partitions.len();
    match found.error_code {
        0 if has == usize::from(logs) => {}
        0 if has == PARTITIONS_BEFORE => {
            return Err(format!(
                "topic {topic} has {has} partitions, as an earlier version has made it; the sessions there cannot be taken over. For a new one: \
                 kafka-topics.sh --delete --topic {topic}, then forebay topics create"
            ));
        }
        0 => {
            return Err(format!(
                "topic {topic} has {has} partitions, and must have {logs}: their number decides which one has a client's session. For a new one: \
                 kafka-topics.sh --delete --topic {topic}, then forebay topics create"
            ));
        }
        UNKNOWN_TOPIC if create => {
            make(cluster, topic, logs, replicas, metadata.brokers.len())?;
            return Err(format!("topic {topic} is being created"));
        }
        UNKNOWN_TOPIC => return Err(format!("topic {topic} is missing; create_topics in [broker] is false")),
        error => return Err(format!("topic {topic}: error {error}")),
    }
    check(&mut admin, topic, found.partitions.first().map_or(1, |partition| partition.replica_nodes.len()))
}

/// Creates the topic, with replicas on at most all brokers.
///
/// # Errors
/// Why the cluster does not create it.
pub(super) fn make(cluster: &Cluster, topic: &str, logs: u16, replicas: u16, brokers: usize) -> Result<(), String> {
    let replicas = replicas.min(u16::try_from(brokers).unwrap_or(replicas)).max(1);
    let in_sync = replicas.saturating_sub(1).max(1).to_string();
    let shape = Shape { partitions: Some(logs.into()), replication_factor: i16::try_from(replicas).ok() };
    let mut wanted = new_topic(topic, shape, true);
    let tombstones = TOMBSTONES_MS.to_string();
    let settings = [
        (TIMESTAMP_TYPE, LOG_APPEND_TIME),
        (TOMBSTONES, tombstones.as_str()),
        ("segment.ms", tombstones.as_str()),
        ("segment.bytes", "67108864"),
        (IN_SYNC_MIN, in_sync.as_str()),
        (UNCLEAN, "false"),
    ];
    wanted.configs.extend(settings.map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from(value.to_owned())))
    }));
    let created = topics::request(cluster, vec![wanted], false)?;
    match created.iter().find_map(topics::Created::refused) {
        Some(why) => Err(format!("topic {topic} cannot be created: {why}")),
        None => Ok(()),
    }
}

/// Checks the settings of the topic, as far as the cluster returns them.
fn check(admin: &mut Admin, topic: &str, replicas: usize) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let mut setting = |name: &'static str| admin.topic_text(topic, name);
    let mut needs = |name: &str, value: String, is_right: bool| {
        if !is_right {
            wrong.push(format!("{name}={value}"));
        }
    };
    let policy = setting(CLEANUP_POLICY);
    needs(CLEANUP_POLICY, COMPACT.to_owned(), policy.as_ref().is_none_or(|policy| policy == COMPACT));
    let kind = setting(TIMESTAMP_TYPE);
    needs(TIMESTAMP_TYPE, LOG_APPEND_TIME.to_owned(), kind.is_none_or(|kind| kind == LOG_APPEND_TIME));
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
    let bytes = number(setting(MESSAGE_BYTES));
    needs(MESSAGE_BYTES, (1 << 20).to_string(), bytes.is_none_or(|bytes| bytes >= BATCH_BYTES_MAX as u64));
    let kept = number(setting(TOMBSTONES));
    needs(TOMBSTONES, TOMBSTONES_MS.to_string(), kept.is_none_or(|kept| kept >= TOMBSTONES_MS));
    let (in_sync, unclean) = (number(setting(IN_SYNC_MIN)), setting(UNCLEAN));
    if !wrong.is_empty() {
        return Err(format!(
            "topic {topic} has other settings than the log of sessions needs: kafka-configs.sh --alter --entity-type topics --entity-name \
             {topic} --add-config {}",
            wrong.join(",")
        ));
    }
    let mut told = Vec::new();
    if policy.is_none() {
        told.push(format!("topic {topic}: its settings cannot be seen (DESCRIBE_CONFIGS); it must be compacted"));
    }
    if replicas > 1 && in_sync == Some(1) {
        told.push(format!("topic {topic}: min.insync.replicas is 1: what is acknowledged may be on one broker alone"));
    }
    if unclean.is_some_and(|unclean| unclean == "true") {
        told.push(format!(
            "topic {topic}: unclean.leader.election.enable is true: Kafka may lose what it has acknowledged"
        ));
    }
    Ok(told)
}

/// Why a log was not taken over, in words.
#[derive(Debug)]
pub enum NotTaken {
    /// The obstacle may pass.
    ForNow(String),
    /// The log has what this version of Forebay does not read.
    Unreadable(String),
}

impl NotTaken {
    fn of(why: &TakeOverError, words: String) -> Self {
        match why {
            TakeOverError::Version { .. } | TakeOverError::Unreadable { .. } => Self::Unreadable(words),
            _ => Self::ForNow(words),
        }
    }

    /// The reason in words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::ForNow(why) | Self::Unreadable(why) => why,
        }
    }
}

impl From<String> for NotTaken {
    fn from(why: String) -> Self {
        Self::ForNow(why)
    }
}

/// Takes a log over: no earlier owner can write it any more. Its segments, and the note beside them, are written to `store`,
/// which is empty before.
///
/// # Errors
/// The obstacle, in words. The store has to be replaced.
pub fn take_over(wanted: &Wanted<'_>, store: impl Store) -> Result<Taken, NotTaken> {
    let Wanted { cluster, topic, log, instance } = *wanted;
    let (partition, began) = (i32::from(log), Instant::now());
    let failed = |why: String| format!("topic {topic}, partition {log}: {why}");
    let stopped = |why: TakeOverError| NotTaken::of(&why, failed(shown(topic, partition, &why)));
    let mut admin = Admin::reach(cluster)?;
    let metadata = admin.metadata(&[topic]).map_err(|why| admin.sasl_missing(cluster, why))?;
    let (mut leader, topic_id) = leader(cluster, &metadata, partition).map_err(failed)?;
    let name = TopicName(StrBytes::from(topic.to_owned()));
    let names = Names { topic: topic.to_owned(), topic_id, partition, instance: instance.to_owned() };
    let transactional_id = names.transactional_id();
    let first = offset_at(&mut leader, &name, partition, EARLIEST)?;
    let mut coordinator = coordinator(cluster, &transactional_id, Coordinates::Transactions, &mut admin)?;
    let mut taking = TakeOver::new(names, store, first);
    loop {
        if began.elapsed() > TAKE_OVER_MAX {
            return Err(failed(format!("reading it takes longer than {} s", TAKE_OVER_MAX.as_secs())).into());
        }
        match taking.step() {
            Step::Identify => {
                let (producer_id, epoch) = identity(&mut coordinator, &transactional_id)?;
                taking.identified(producer_id, epoch);
            }
            Step::Write(batch) => {
                let (error, base_offset) = produce(&mut leader, &name, partition, batch)?;
                taking.written(error, base_offset).map_err(stopped)?;
            }
            Step::Read(from) => {
                let told = fetch(&mut leader, (&name, partition), from, false)?;
                if told.error_code != 0 {
                    return Err(failed(format!("Fetch was answered with error {}", told.error_code)).into());
                }
                taking.read(&told.records.unwrap_or_default()).map_err(stopped)?;
            }
            Step::Done => return taking.finish().map_err(stopped),
        }
    }
}

/// An obstacle in words, with the command that shows the record which stands in the way, if one does.
fn shown(topic: &str, partition: i32, why: &TakeOverError) -> String {
    match why {
        TakeOverError::Version { offset, .. } | TakeOverError::Unreadable { offset, .. } => format!(
            "{why}; kafka-console-consumer.sh --topic {topic} --partition {partition} --offset {offset} --max-messages 1 shows it"
        ),
        _ => why.to_string(),
    }
}

/// A connection to the leader of the log, and the topic's ID.
fn leader(cluster: &Cluster, metadata: &MetadataResponse, partition: i32) -> Result<(Admin, u128), String> {
    let found = metadata.topics.first().ok_or("the cluster says nothing of the topic")?;
    if found.error_code != 0 {
        return Err(format!("Metadata was answered with error {}", found.error_code));
    }
    let place = found.partitions.iter().find(|place| place.partition_index == partition);
    let leader: BrokerId = place.ok_or("there is no such partition")?.leader_id;
    let broker = metadata.brokers.iter().find(|broker| broker.node_id == leader);
    let broker = broker.ok_or("the partition has no leader")?;
    Ok((Admin::connect_to(cluster, &address(broker))?, found.topic_id.as_u128()))
}

/// Sends InitProducerId with a transactional ID. Returns its producer ID, and the next epoch.
pub(super) fn identity(coordinator: &mut Admin, transactional_id: &str) -> Result<(i64, i16), String> {
    let version = coordinator.needs::<InitProducerIdRequest>((0, INIT_VERSION_MAX), "InitProducerId")?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from(transactional_id.to_owned()))))
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let answer = coordinator.ask_at(&request, version)?;
    match answer.error_code {
        0 if answer.producer_id.0 >= 0 && answer.producer_epoch >= 0 => {
            Ok((answer.producer_id.0, answer.producer_epoch))
        }
        0 => Err(format!("{}: InitProducerId was answered with no identity", coordinator.broker)),
        // INVALID_TRANSACTION_TIMEOUT.
        50 => Err(format!(
            "the brokers allow no transaction time-out of {TRANSACTION_TIMEOUT_MS} ms, which is asked for although there are no transactions: raise their \
             `transaction.max.timeout.ms`"
        )),
        // TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
        53 => Err(format!("{TRANSACTIONS_FORBIDDEN} {transactional_id}")),
        error => Err(format!("transactional id {transactional_id}: InitProducerId was answered with error {error}")),
    }
}

/// Writes a batch with acks=all. Returns the error code, and the offset of the first record.
fn produce(leader: &mut Admin, topic: &TopicName, partition: i32, batch: Vec<u8>) -> Result<(i16, i64), String> {
    let told = log_writer::write(leader, topic, partition, batch, PRODUCE_TIMEOUT).map_err(NotWritten::why)?;
    Ok((told.error_code, told.base_offset))
}

//! Records of a Kafka topic, read once and without a group, for trials.

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::check::{TOPIC_FORBIDDEN, UNKNOWN_TOPIC, address};
use crate::config::Cluster;
use crate::kafka::consumer::{Batches, Record};

/// Times of ListOffsets for the first record, and for the next one.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;
/// The bytes of records that are requested from one partition, and the longest wait of a broker for them.
const FETCH_BYTES: i32 = 1 << 20;
const FETCH_WAIT_MS: i32 = 500;
/// The last version of Fetch that names topics.
const FETCH_VERSION_MAX: i16 = 12;

/// The place at which reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The wanted number of records before the end.
    Newest,
    /// The first record of the partition.
    Earliest,
    /// The first record with this timestamp, in ms, or a later one.
    Time(i64),
}

/// The wanted records.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) topic: &'a str,
    pub(super) since: Since,
    /// The most records in all, shared among the partitions.
    pub(super) limit: u64,
}

/// Receives records.
pub(super) trait Taker {
    /// Whether more are wanted.
    fn goes_on(&mut self) -> bool;
    /// Receives a record.
    fn take(&mut self, partition: i32, record: &Record<'_>);
}

/// A partition, and the wanted offsets: those that existed when reading began, or some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) partition: i32,
    pub(super) first: i64,
    /// The offset after the last.
    pub(super) end: i64,
}

impl Part {
    fn len(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.first)).unwrap_or(0)
    }
}

/// Gives a topic's records to `taker`, partition by partition. Returns the number of partitions. Records that are written
/// meanwhile are not read.
///
/// # Errors
/// Why the records cannot be read, in words.
pub(super) fn read(wanted: &Wanted<'_>, taker: &mut impl Taker) -> Result<usize, String> {
    let Wanted { cluster, topic, since, limit } = *wanted;
    let mut log = Log::open(cluster, topic)?;
    let partitions: Vec<i32> = log.partitions().collect();
    let mut parts = Vec::new();
    for partition in &partitions {
        if !taker.goes_on() {
            return Ok(partitions.len());
        }
        parts.push(log.part(*partition, since)?);
    }
    for (part, quota) in shared_out(parts, limit) {
        let newest = part.end.saturating_sub(i64::try_from(quota).unwrap_or(i64::MAX));
        let first = if since == Since::Newest { part.first.max(newest) } else { part.first };
        log.read(Part { first, ..part }, quota, taker)?;
    }
    Ok(partitions.len())
}

/// Why a topic cannot be used, in words.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The cluster has no such topic.
    Missing(String),
    /// The cluster cannot be asked, or does not permit it.
    Failed(String),
}

impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<Unusable> for String {
    fn from(of: Unusable) -> Self {
        match of {
            Unusable::Missing(why) | Unusable::Failed(why) => why,
        }
    }
}

/// A topic for reading and writing, over one connection to each broker that leads some of its partitions.
pub(super) struct Log<'a> {
    cluster: &'a Cluster,
    name: TopicName,
    /// The topic's ID, as 32 hexadecimal digits; all zeros: the brokers do not report it.
    pub(super) id: String,
    brokers: Brokers,
    leaders: BTreeMap<i32, BrokerId>,
    connections: BTreeMap<BrokerId, Admin>,
}

impl<'a> Log<'a> {
    /// Finds the partitions of a topic and their leaders.
    ///
    /// # Errors
    /// The topic cannot be used.
    pub(super) fn open(cluster: &'a Cluster, topic: &str) -> Result<Self, Unusable> {
        let (brokers, leaders, id) = places(cluster, topic)?;
        let name = TopicName(StrBytes::from(topic.to_owned()));
        Ok(Self { cluster, name, id, brokers, leaders, connections: BTreeMap::new() })
    }

    /// The numbers of the topic's partitions.
    pub(super) fn partitions(&self) -> impl ExactSizeIterator<Item = i32> + '_ {
        self.leaders.keys().copied()
    }

    /// The connection to the leader of a partition.
    ///
    /// # Errors
    /// There is no such partition, or its leader cannot be reached.
    pub(super) fn leader(&mut self, partition: i32) -> Result<(&mut Admin, &TopicName), String> {
        let leader = self.leaders.get(&partition);
        let leader = *leader.ok_or_else(|| format!("topic {} has no partition {partition}", self.name.0))?;
        connected(&mut self.connections, self.cluster, &self.brokers, leader).map(|admin| (admin, &self.name))
    }

    /// Closes the connection to the leader of a partition, which is of no more use.
    pub(super) fn disconnect(&mut self, partition: i32) {
        self.leaders.get(&partition).and_then(|leader| self.connections.remove(leader));
    }

    /// The offsets of a partition from `since` on.
    ///
    /// # Errors
    /// The leader does not return them.
    pub(super) fn part(&mut self, partition: i32, since: Since) -> Result<Part, String> {
        let (admin, name) = self.leader(partition)?;
        let mut at = |time| offset_at(admin, name, partition, time);
        let (earliest, end) = (at(EARLIEST)?, at(LATEST)?);
        let first = match since {
            Since::Newest | Since::Earliest => earliest,
            // No record is that late.
            Since::Time(ms) => Some(at(ms)?).filter(|first| *first >= 0).unwrap_or(end),
        };
        Ok(Part { partition, first, end })
    }

    /// Gives at most `quota` records of a part to `taker`.
    ///
    /// # Errors
    /// Why they cannot be read, in words.
    pub(super) fn read(&mut self, part: Part, quota: u64, taker: &mut impl Taker) -> Result<(), String> {
        let (admin, name) = self.leader(part.partition)?;
        read_part(admin, name, part, quota, taker)
    }
}

/// Partitions, each with its share of the records: small partitions leave more to the others.
fn shared_out(mut parts: Vec<Part>, limit: u64) -> Vec<(Part, u64)> {
    parts.sort_by_key(|part| (part.len(), part.partition));
    let (mut left, mut others) = (limit, parts.len() as u64);
    let quota = |part: Part| {
        let quota = part.len().min(left.div_ceil(others));
        (left, others) = (left - quota, others - 1);
        (part, quota)
    };
    let mut shared: Vec<_> = parts.into_iter().map(quota).filter(|(_, quota)| *quota > 0).collect();
    shared.sort_by_key(|(part, _)| part.partition);
    shared
}

/// The addresses of the brokers, each partition with its leader, and the topic's ID.
fn places(cluster: &Cluster, topic: &str) -> Result<(Brokers, BTreeMap<i32, BrokerId>, String), Unusable> {
    let named = &cluster.name;
    let mut admin =
        Admin::connect(cluster).map_err(|why| format!("cannot connect to kafka.{named}: {}", why.join("; ")))?;
    let metadata = admin.metadata(&[topic]).map_err(|why| admin.sasl_missing(cluster, why))?;
    let told = metadata.topics.first().ok_or_else(|| format!("kafka.{named} says nothing of topic {topic}"))?;
    match told.error_code {
        0 => {}
        UNKNOWN_TOPIC => return Err(Unusable::Missing(format!("there is no topic {topic} on kafka.{named}"))),
        TOPIC_FORBIDDEN => {
            return Err(Unusable::Failed(format!(
                "topic {topic}: this client is not authorized to describe it; grant it DESCRIBE and READ"
            )));
        }
        error => return Err(Unusable::Failed(format!("topic {topic}: the cluster answered with error {error}"))),
    }
    let leaders = told.partitions.iter().map(|partition| (partition.partition_index, partition.leader_id));
    let leaders: BTreeMap<_, _> = leaders.collect();
    match leaders.iter().find(|(_, leader)| leader.0 < 0) {
        Some((partition, _)) => Err(Unusable::Failed(format!("partition {partition} of {topic} has no leader"))),
        None => Ok((brokers(&metadata), leaders, told.topic_id.simple().to_string())),
    }
}

type Brokers = BTreeMap<BrokerId, String>;

fn brokers(metadata: &MetadataResponse) -> Brokers {
    metadata.brokers.iter().map(|broker| (broker.node_id, address(broker))).collect()
}

/// The connection to a broker: one for all of its partitions.
fn connected<'c>(
    connections: &'c mut BTreeMap<BrokerId, Admin>,
    cluster: &Cluster,
    brokers: &Brokers,
    broker: BrokerId,
) -> Result<&'c mut Admin, String> {
    if let std::collections::btree_map::Entry::Vacant(place) = connections.entry(broker) {
        let address =
            brokers.get(&broker).ok_or_else(|| format!("the cluster does not say where broker {} is", broker.0))?;
        place.insert(Admin::connect_to(cluster, address)?);
    }
    connections.get_mut(&broker).ok_or_else(|| "no connection".to_owned())
}

/// Gives at most `quota` records of a partition to `taker`. Records of aborted transactions are skipped.
fn read_part(
    admin: &mut Admin,
    topic: &TopicName,
    part: Part,
    quota: u64,
    taker: &mut impl Taker,
) -> Result<(), String> {
    let (mut from, mut left) = (part.first, quota);
    let named = format!("partition {} of {}", part.partition, topic.0);
    while from < part.end && left > 0 && taker.goes_on() {
        let told = fetch(admin, (topic, part.partition), from, true)?;
        if told.error_code != 0 {
            return Err(format!("{named}: the cluster answered with error {}", told.error_code));
        }
        let aborted = told.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect();
        let mut batches = Batches::new(told.records.unwrap_or_default().to_vec(), from, aborted, true);
        while left > 0 {
            let record = batches.take().map_err(|bad| format!("{named} has a batch that cannot be read: {bad}"))?;
            let Some(record) = record.filter(|record| record.offset < part.end) else { break };
            if !taker.goes_on() {
                return Ok(());
            }
            taker.take(part.partition, &record);
            left -= 1;
        }
        let next = batches.next_offset();
        // No record after the start of an open transaction is returned.
        if next <= from {
            break;
        }
        from = next;
    }
    Ok(())
}

/// The offset at a time, [`EARLIEST`] or [`LATEST`]; -1: no record is as late.
pub(super) fn offset_at(admin: &mut Admin, topic: &TopicName, partition: i32, at: i64) -> Result<i64, String> {
    let version = admin.needs::<ListOffsetsRequest>((1, 5), "ListOffsets")?;
    let asked = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_timestamp(at)
        .with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = admin.ask_at(&request, version)?;
    let told = answer.topics.first().and_then(|topic| topic.partitions.first());
    match told {
        Some(told) if told.error_code == 0 => Ok(told.offset),
        Some(told) => Err(format!("{}: ListOffsets was answered with error {}", admin.broker, told.error_code)),
        None => Err(format!("{}: ListOffsets was answered with nothing", admin.broker)),
    }
}

/// Records of a partition from an offset on.
pub(super) fn fetch(
    admin: &mut Admin,
    (topic, partition): (&TopicName, i32),
    from: i64,
    is_committed: bool,
) -> Result<PartitionData, String> {
    let version = admin.needs::<FetchRequest>((4, FETCH_VERSION_MAX), "Fetch")?;
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(from)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(FETCH_BYTES);
    let topic = FetchTopic::default().with_topic(topic.clone()).with_partitions(vec![asked]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(FETCH_WAIT_MS)
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES)
        .with_isolation_level(i8::from(is_committed))
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let answer = admin.ask_at(&request, version)?;
    if answer.error_code != 0 {
        return Err(format!("{}: Fetch was answered with error {}", admin.broker, answer.error_code));
    }
    let told = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    told.ok_or_else(|| format!("{}: Fetch was answered with nothing", admin.broker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_with_few_records_leave_more_to_the_others() {
        let shared = |lens: &[i64], limit| -> Vec<(i32, u64)> {
            let part = |(partition, len): (i32, &i64)| Part { partition, first: 10, end: 10 + len };
            let parts = (0..).zip(lens).map(part).collect();
            shared_out(parts, limit).into_iter().map(|(part, quota)| (part.partition, quota)).collect()
        };
        assert_eq!(shared(&[100, 100, 100], 30), [(0, 10), (1, 10), (2, 10)]);
        assert_eq!(shared(&[100, 2, 0, -1, 50], 52), [(0, 25), (1, 2), (4, 25)]);
        assert_eq!(shared(&[3, 2], 100), [(0, 3), (1, 2)]);
        assert_eq!(shared(&[9, 9, 9], 2), [(0, 1), (1, 1)]);
        assert_eq!(shared(&[], 2), []);
    }
}

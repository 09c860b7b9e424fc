//! Preparations of `[broker]` in Kafka before clients are accepted: its topics, committed offsets in each of their partitions,
//! and retained messages.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, LeaveGroupRequest, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::check::{UNKNOWN_TOPIC, address};
use super::log_reader::{EARLIEST, LATEST, Since, Taker, Wanted, offset_at, read};
use super::session_logs;
use super::topics::{self, CLEANUP_POLICY, COMPACT, Shape, new_topic};
use crate::broker::mail::RetainedOfShard;
use crate::config::{self, Broker, Cluster, Config};
use crate::control::Obstacles;
use crate::kafka::consumer::Record;
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::session::PartitionKey;
use crate::shard::sources::{FirstRead, RetainedMessages, first_read, partition_key};

/// The last versions of these requests that name a topic, and a group without members.
const OFFSET_FETCH_VERSION_MAX: i16 = 7;
const OFFSET_COMMIT_VERSION_MAX: i16 = 8;
const DESCRIBE_GROUPS_VERSION_MAX: i16 = 5;
/// The end of an error in words that means GROUP_AUTHORIZATION_FAILED.
const FORBIDDEN: &str = "error 30";
/// The error of OffsetCommit for a group with members, if the request names none.
const UNKNOWN_MEMBER_ID: i16 = 25;

/// The time for which a topic keeps records, and the least that passes without a warning.
const RETENTION_MS: &str = "retention.ms";
const RETENTION_MIN_MS: u64 = 3_600_000;

/// The wait before Kafka is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The result of the preparations, for each shard.
pub(super) struct Prepared {
    /// Retained messages, as packets.
    pub(super) retained: Vec<RetainedOfShard>,
    /// The committed offset of each partition of the routes.
    pub(super) begins: Arc<BTreeMap<PartitionKey, i64>>,
    /// The logs of the sessions of all slots, without `[broker.link]`.
    pub(super) logs: session_logs::Logs,
}

/// Prepares until that succeeds, then calls `done` with the result. Each obstacle is reported once.
pub(super) fn prepare_until_done(
    config: &Config,
    (journal, obstacles): (&Journal, &Obstacles),
    done: impl FnOnce(Prepared) -> bool,
) {
    let Some(broker) = &config.broker else { return };
    let (mut said, mut first) = (String::new(), FirstRead::new());
    let prepared = loop {
        match prepare(config, broker, journal, &mut first) {
            Ok(prepared) => break prepared,
            Err(why) => {
                if said != why {
                    let event = Event::now(Kind::SourceTrouble).with(Field::Source, config::BROKER);
                    journal.say(event.with(Field::Group, broker.group()).with(Field::Reason, why.as_str()));
                    obstacles.set(None, Some(why.clone()));
                    said = why;
                }
                std::thread::sleep(AGAIN);
            }
        }
    };
    obstacles.set(None, None);
    // The service may have ended by then.
    let _ = done(prepared);
}

/// Creates missing topics, takes over the logs of sessions, reads retained messages, and commits first offsets of the group. `first`: the partitions in which
/// the group had no offset before the first attempt.
///
/// # Errors
/// The obstacle, in words: it may pass.
fn prepare(config: &Config, broker: &Broker, journal: &Journal, first: &mut FirstRead) -> Result<Prepared, String> {
    let cluster = &config.clusters[broker.cluster];
    let mut admin = Admin::reach(cluster)?;
    let names: Vec<&str> = broker.topics().map(|(topic, _)| topic).chain([broker.retained.as_str()]).collect();
    let metadata = admin.metadata(&names).map_err(|why| admin.sasl_missing(cluster, why))?;
    let sessions = session_logs::prepare(cluster, broker);
    let missing: Vec<&str> =
        metadata.topics.iter().filter(|topic| topic.error_code == UNKNOWN_TOPIC).filter_map(name).collect();
    if !missing.is_empty() {
        create(cluster, broker, &missing, metadata.brokers.len())?;
        // The brokers learn of the new topics one after the other.
        return Err(format!("topics are being created: {}", missing.join(", ")));
    }
    sessions?;
    if let Some(topic) = metadata.topics.iter().find(|topic| topic.error_code != 0) {
        return Err(format!("topic {}: error {}", name(topic).unwrap_or_default(), topic.error_code));
    }
    let policy = admin.topic_text(&broker.retained, CLEANUP_POLICY);
    if let Some(why) = not_compacted(&broker.retained, policy.as_deref()) {
        return Err(why);
    }
    if broker.link.is_none() {
        is_alone(cluster, broker, &mut admin)?;
    }
    // The earlier owner of the logs ends, and copies no more retained messages. With `[broker.link]` the instance gets its logs
    // from the group instead.
    let logs = if broker.link.is_some() {
        session_logs::Logs::default()
    } else {
        session_logs::take_over(config, broker, journal)?
    };
    let of_retained = metadata.topics.iter().find(|topic| name(topic) == Some(&broker.retained));
    let partitions = of_retained.map_or(0, |topic| topic.partitions.len());
    let mut retained = Loading(RetainedMessages::new(config, broker).of_partitions(partitions));
    read(&Wanted { cluster, topic: &broker.retained, since: Since::Earliest, limit: u64::MAX }, &mut retained)?;
    let begins = begin(cluster, broker, &mut admin, &metadata, &retained.0.copied_to(), first)?;
    tell_left((cluster, broker), &mut admin, journal)
        .unwrap_or_else(|why| tracing::debug!("topics of no route: {why}"));
    risks(&mut admin, broker).iter().for_each(|risk| tracing::warn!("{risk}"));
    Ok(Prepared { retained: retained.0.of_shards(first), begins: Arc::new(begins), logs })
}

/// Why a topic with this policy cannot have retained messages, if the cluster tells the policy: a topic that is compacted and deleted from loses them.
pub(super) fn not_compacted(topic: &str, policy: Option<&str>) -> Option<String> {
    let policy = policy.filter(|policy| *policy != COMPACT)?;
    Some(format!(
        "topic {topic} has cleanup.policy={policy}, and must be compacted alone: kafka-configs.sh --alter --entity-type topics --entity-name {topic} \
         --add-config {CLEANUP_POLICY}={COMPACT}"
    ))
}

/// Settings of the topics of routes by which messages may be gone before they are delivered, as far as the cluster tells settings.
pub(super) fn risks(admin: &mut Admin, broker: &Broker) -> Vec<String> {
    let mut risks = Vec::new();
    for (topic, _) in broker.topics() {
        let Some(policy) = admin.topic_text(topic, CLEANUP_POLICY) else { continue };
        let has = |word: &str| policy.split(',').any(|of| of.trim() == word);
        if has(COMPACT) {
            risks.push(format!(
                "topic {topic} has cleanup.policy={policy}: of the messages of an MQTT topic that wait in Kafka only the last may be left"
            ));
        }
        let kept = admin.topic_setting(topic, RETENTION_MS).filter(|ms| has("delete") && *ms < RETENTION_MIN_MS);
        if let Some(ms) = kept {
            risks.push(format!(
                "topic {topic} has {RETENTION_MS}={ms}: what is older is gone for clients that are away for longer, and for an instance that is"
            ));
        }
    }
    risks
}

fn name(topic: &MetadataResponseTopic) -> Option<&str> {
    topic.name.as_ref().map(|name| &*name.0)
}

/// Takes the records of the topic of retained messages.
struct Loading(RetainedMessages);

impl Taker for Loading {
    fn goes_on(&mut self) -> bool {
        true
    }

    fn take(&mut self, partition: i32, record: &Record<'_>) {
        self.0.take(partition, record);
    }
}

fn create(cluster: &Cluster, broker: &Broker, missing: &[&str], brokers: usize) -> Result<(), String> {
    if !broker.create_topics {
        return Err(format!("missing topics: {}; create_topics in [broker] is false", missing.join(", ")));
    }
    let replicas = i16::try_from(usize::from(broker.replicas).min(brokers.max(1))).unwrap_or(i16::MAX);
    let shape = Shape { partitions: Some(broker.partitions.into()), replication_factor: Some(replicas) };
    let topic = |name: &&str| new_topic(name, shape, **name == broker.retained);
    let failed: Vec<String> = topics::request(cluster, missing.iter().map(topic).collect(), false)?
        .into_iter()
        .filter_map(|created| created.refused().map(|why| format!("topic {}: {why}", created.topic)))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("topics cannot be created: {}", failed.join("; "))) }
}

/// Commits where the group begins in each partition of a topic in which it has no committed offset at all ([`first_read`]). Partitions that
/// were added later begin at their first record. Returns the offset from which clients get each partition's records, where the group is new its end: earlier
/// messages have no subscribers.
fn begin(
    cluster: &Cluster,
    broker: &Broker,
    admin: &mut Admin,
    metadata: &MetadataResponse,
    copied_to: &BTreeMap<PartitionKey, i64>,
    first: &mut FirstRead,
) -> Result<BTreeMap<PartitionKey, i64>, String> {
    let group = broker.group();
    let mut coordinator = coordinator(cluster, &group, Coordinates::Group, admin)?;
    let topics: Vec<&MetadataResponseTopic> =
        metadata.topics.iter().filter(|topic| name(topic) != Some(&broker.retained)).collect();
    let known = known(&mut coordinator, &group, &topics)?;
    let is_whole = topics.iter().filter_map(|topic| name(topic)).all(|topic| known.contains_key(topic));
    let earlier = if is_whole { Commits::new() } else { earlier(cluster, broker, admin, &topics)? };
    let (mut begins, mut places, mut leaders) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for topic in &topics {
        let Some(of) = topic.name.clone() else { continue };
        let key = |partition: i32| partition_key(&of, topic.topic_id.as_u128(), partition);
        if let Some(known) = known.get(&*of.0) {
            let all = topic.partitions.iter().map(|partition| partition.partition_index);
            begins.extend(all.map(|partition| (key(partition), known.get(&partition).copied().unwrap_or(0))));
            continue;
        }
        let mut partitions = Vec::new();
        let earlier = earlier.get(&*of.0);
        for partition in &topic.partitions {
            if let Some(earlier) = earlier {
                let index = partition.partition_index;
                let offset = earlier.get(&index).copied().unwrap_or(0);
                begins.insert(key(index), offset);
                partitions.push(place(index, offset));
                continue;
            }
            let node = metadata.brokers.iter().find(|broker| broker.node_id == partition.leader_id);
            let node = node.ok_or_else(|| format!("topic {}: a partition has no leader", of.0))?;
            let leader = match leaders.entry(node.node_id.0) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(Admin::connect_to(cluster, &address(node))?),
            };
            let start = offset_at(leader, &of, partition.partition_index, EARLIEST)?;
            let end = offset_at(leader, &of, partition.partition_index, LATEST)?;
            let of_partition = key(partition.partition_index);
            let read = first_read(start..end, copied_to.get(&of_partition));
            partitions.push(place(partition.partition_index, read.start));
            first.insert(of_partition, read);
        }
        places.push(OffsetCommitRequestTopic::default().with_name(of).with_partitions(partitions));
    }
    begins.extend(first.iter().map(|(of, read)| (*of, read.end)));
    if places.is_empty() {
        return Ok(begins);
    }
    let version = coordinator.needs::<OffsetCommitRequest>((0, OFFSET_COMMIT_VERSION_MAX), "OffsetCommit")?;
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from(group.clone())))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(places);
    let mut answer = coordinator.ask_at(&request, version)?;
    if refusal(&answer) == Some(UNKNOWN_MEMBER_ID) {
        end_member(&mut coordinator, &group, &broker.name)?;
        answer = coordinator.ask_at(&request, version)?;
    }
    match refusal(&answer) {
        Some(error) => Err(format!("group {group}: OffsetCommit was answered with error {error}")),
        None => Ok(begins),
    }
}

fn place(partition: i32, offset: i64) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(StrBytes::default()))
}

/// The offsets in the group of earlier versions, which did not have the topic of sessions in its name. None where this client may not read it.
fn earlier(
    cluster: &Cluster,
    broker: &Broker,
    admin: &mut Admin,
    topics: &[&MetadataResponseTopic],
) -> Result<Commits, String> {
    let group = broker.group_of_name();
    if group == broker.group() {
        return Ok(Commits::new());
    }
    let found = coordinator(cluster, &group, Coordinates::Group, admin)
        .and_then(|mut coordinator| known(&mut coordinator, &group, topics));
    found.or_else(|why| if why.ends_with(FORBIDDEN) { Ok(Commits::new()) } else { Err(why) })
}

/// Refuses to take over the sessions of running instances where the configuration has no other instance.
///
/// # Errors
/// There are such instances, in words.
fn is_alone(cluster: &Cluster, broker: &Broker, admin: &mut Admin) -> Result<(), String> {
    let group = broker.group_of_instances();
    let mut coordinator = match coordinator(cluster, &group, Coordinates::Group, admin) {
        Ok(coordinator) => coordinator,
        // Without a right on the group nobody has been an instance with this user.
        Err(why) if why.ends_with(FORBIDDEN) => return Ok(()),
        Err(why) => return Err(why),
    };
    let version = coordinator.needs::<DescribeGroupsRequest>((0, DESCRIBE_GROUPS_VERSION_MAX), "DescribeGroups")?;
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(StrBytes::from(group.clone()))]);
    let answer = coordinator.ask_at(&request, version)?;
    match answer.groups.iter().map(|of| of.members.len()).sum::<usize>() {
        0 => Ok(()),
        count => Err(format!(
            "instances of this broker run (group {group} has {count} members), and this one has no [broker.link]: it would take their sessions \
             over. Add [broker.link], or stop them"
        )),
    }
}

fn refusal(answer: &OffsetCommitResponse) -> Option<i16> {
    let errors = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    errors.into_iter().find(|error| *error != 0)
}

/// Removes the instance's old member from the group, which this process replaces: a killed member stays until its session times
/// out. LeaveGroup names a static member by its instance ID alone (KIP-345, version 3).
fn end_member(coordinator: &mut Admin, group: &str, instance: &str) -> Result<(), String> {
    let version = coordinator.needs::<LeaveGroupRequest>((3, i16::MAX), "LeaveGroup 3")?;
    let member =
        MemberIdentity::default().with_group_instance_id(Some(StrBytes::from(instance.to_owned()))).with_reason(None);
    let group = GroupId(StrBytes::from(group.to_owned()));
    let request = LeaveGroupRequest::default().with_group_id(group).with_members(vec![member]);
    // The error code for the member does not matter: the next OffsetCommit shows whether the member is gone.
    coordinator.ask_at(&request, version).map(drop)
}

/// The kind of a coordinator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coordinates {
    /// Coordinates a consumer group.
    Group = 0,
    /// Coordinates a transactional ID.
    Transactions = 1,
}

/// A connection to the coordinator of a group, or of a transactional ID.
pub(super) fn coordinator(cluster: &Cluster, key: &str, of: Coordinates, admin: &mut Admin) -> Result<Admin, String> {
    let version = admin.needs::<FindCoordinatorRequest>((of as i16, 3), "FindCoordinator")?;
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from(key.to_owned())).with_key_type(of as i8);
    let answer = admin.ask_at(&request, version)?;
    if answer.error_code != 0 {
        return Err(format!("coordinator of {key}: FindCoordinator was answered with error {}", answer.error_code));
    }
    let host = answer.host.as_str();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Admin::connect_to(cluster, &format!("{host}:{}", answer.port))
}

/// The committed offsets of partitions, by topic.
type Commits = BTreeMap<String, BTreeMap<i32, i64>>;

/// Reports topics of which the group has not had all records, and which no route names any more: nobody gets the rest.
fn tell_left((cluster, broker): (&Cluster, &Broker), admin: &mut Admin, journal: &Journal) -> Result<(), String> {
    let group = broker.group();
    let mut coordinator = coordinator(cluster, &group, Coordinates::Group, admin)?;
    let mut committed = committed(&mut coordinator, &group, None)?;
    committed.retain(|topic, _| broker.topics().all(|(named, _)| named != topic));
    if committed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = committed.keys().map(String::as_str).collect();
    let metadata = admin.metadata(&names)?;
    for topic in metadata.topics.iter().filter(|topic| topic.error_code == 0) {
        let Some((of, known)) = topic.name.as_ref().and_then(|of| Some((of, committed.get(&*of.0)?))) else { continue };
        let mut left = 0;
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let node = metadata.brokers.iter().find(|broker| broker.node_id == partition.leader_id);
            let mut leader = Admin::connect_to(cluster, &address(node.ok_or("a partition has no leader")?))?;
            let start = offset_at(&mut leader, of, index, EARLIEST)?.max(known.get(&index).copied().unwrap_or(0));
            left += offset_at(&mut leader, of, index, LATEST)?.saturating_sub(start).max(0).unsigned_abs();
        }
        if left > 0 {
            let event = Event::now(Kind::TopicLeft).with(Field::Topic, of.0.as_str());
            journal.say(event.with(Field::Records, left));
        }
    }
    Ok(())
}

/// The committed offsets of the group in the topics in which it has some.
fn known(coordinator: &mut Admin, group: &str, topics: &[&MetadataResponseTopic]) -> Result<Commits, String> {
    committed(coordinator, group, Some(topics))
}

/// The committed offsets of the group in these topics, or in all.
fn committed(
    coordinator: &mut Admin,
    group: &str,
    topics: Option<&[&MetadataResponseTopic]>,
) -> Result<Commits, String> {
    let version = coordinator.needs::<OffsetFetchRequest>((2, OFFSET_FETCH_VERSION_MAX), "OffsetFetch")?;
    let of_topic = |topic: &&MetadataResponseTopic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        OffsetFetchRequestTopic::default()
            .with_name(topic.name.clone().unwrap_or_default())
            .with_partition_indexes(partitions)
    };
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from(group.to_owned())))
        .with_topics(topics.map(|topics| topics.iter().map(of_topic).collect()));
    let answer = coordinator.ask_at(&request, version)?;
    let each = || answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    if let Some(error) = [answer.error_code].into_iter().chain(each()).find(|error| *error != 0) {
        return Err(format!("group {group}: OffsetFetch was answered with error {error}"));
    }
    let mut known = Commits::new();
    for topic in answer.topics {
        let committed = topic.partitions.iter().filter(|of| of.committed_offset >= 0);
        let offsets: BTreeMap<i32, i64> = committed.map(|of| (of.partition_index, of.committed_offset)).collect();
        if !offsets.is_empty() {
            known.insert(topic.name.0.to_string(), offsets);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_q12_only_a_topic_that_is_compacted_alone_keeps_retained_messages() {
        assert_eq!(not_compacted("kept", Some("compact")), None);
        assert_eq!(not_compacted("kept", None), None, "the cluster does not tell it");
        for policy in ["delete", "compact,delete", "delete,compact"] {
            let why = not_compacted("kept", Some(policy)).expect(policy);
            let fault = format!("topic kept has cleanup.policy={policy}, and must be compacted alone: ");
            assert!(why.starts_with(&fault), "{why}");
            assert!(why.ends_with(" --entity-name kept --add-config cleanup.policy=compact"), "{why}");
        }
    }
}

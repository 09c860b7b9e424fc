//! Trials of a source: its topics, its rights, its group, and the messages of the newest records. `forebay check` and
//! `POST /api/v1/sources/NAME/test` run them; they change nothing.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeRequest, ConsumerProtocolSubscription, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, MetadataResponse, TopicName, consumer_group_describe_response,
};
use kafka_protocol::protocol::{Decodable as _, StrBytes};

use super::admin::Admin;
use super::check::{NOT_TOLD, TOPIC_FORBIDDEN, UNKNOWN_TOPIC, Verdict, address};
use super::log_reader::{EARLIEST, LATEST, fetch, offset_at};
use crate::config::{BROKER, Cluster, Config, Isolation, Source};
use crate::kafka::consumer::Batches;
use crate::metrics::time::now_ms;
use crate::runtime::seam::WallMs;
use crate::shard::sources::{RecordTrial, try_records};

/// Bits of authorized operations: by Kafka's numbers of its ACL operations.
pub(super) const READ: i32 = 1 << 3;
/// Kafka error codes.
pub(super) const GROUP_FORBIDDEN: i16 = 30;
pub(super) const GROUP_UNKNOWN: i16 = 69;

/// The most partitions that are read; and the number of the newest offsets of each.
const PARTITIONS_MAX: usize = 32;
const RECORDS_MAX: i64 = 5;
/// The first version of DescribeGroups that has the allowed operations.
pub(super) const GROUP_OPERATIONS_SINCE: i16 = 3;
/// The protocol type of consumer groups, and the assignor of this program.
const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";

/// The findings.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lines: Vec<(Verdict, String)>,
    /// Topic and number of a partition, and the outcome of one of its newest records.
    pub(super) records: Vec<(String, i32, RecordTrial)>,
}

impl Found {
    fn add(&mut self, verdict: Verdict, text: impl Into<String>) {
        self.lines.push((verdict, text.into()));
    }
}

/// Examines a source over a new connection to its cluster.
pub(super) fn try_source(config: &Config, source: &Source) -> Found {
    let cluster = &config.clusters[source.cluster];
    let mut found = Found::default();
    match Admin::connect(cluster) {
        Ok(mut admin) => {
            if let Err(why) = look(config, source, &mut admin, &mut found) {
                found.add(Verdict::Problem, admin.sasl_missing(cluster, why));
            }
        }
        Err(why) => {
            found.add(Verdict::Problem, format!("cannot connect to kafka.{}: {}", cluster.name, why.join("; ")))
        }
    }
    found
}

/// Examines everything over this connection.
///
/// # Errors
/// The connection is unusable.
fn look(config: &Config, source: &Source, admin: &mut Admin, found: &mut Found) -> Result<(), String> {
    let mut topics: Vec<&str> = source.routes().map(|(kafka, _)| kafka).collect();
    topics.sort_unstable();
    let metadata = admin.metadata(&topics)?;
    for topic in &topics {
        let told = metadata.topics.iter().find(|told| told.name.as_ref().is_some_and(|name| *name.0 == **topic));
        let is_made = source.name == BROKER && config.broker.as_ref().is_some_and(|broker| broker.makes(topic));
        let (verdict, text) = of_topic(topic, told, is_made);
        found.add(verdict, text);
    }
    of_group((&config.clusters[source.cluster], source), admin, found)?;
    of_records(config, source, &metadata, found);
    Ok(())
}

/// Examines a topic. `is_made`: the service creates it when it starts.
fn of_topic(topic: &str, told: Option<&MetadataResponseTopic>, is_made: bool) -> (Verdict, String) {
    let named = format!("topic {topic}");
    let Some(told) = told else {
        return (Verdict::Warning, format!("{named}: the cluster did not report it"));
    };
    let grant = |operations: &str| {
        format!(
            "grant it {operations}, as in kafka-acls.sh --add --allow-principal User:… --consumer --group … --topic {topic}"
        )
    };
    match told.error_code {
        0 => {}
        UNKNOWN_TOPIC if is_made => return (Verdict::Ok, format!("{named} is missing; the start creates it")),
        UNKNOWN_TOPIC => {
            let text = format!("{named} is missing, and the source waits for it; `forebay topics create` creates it");
            return (Verdict::Problem, text);
        }
        TOPIC_FORBIDDEN => {
            let text = format!("{named}: this client is not authorized to describe it; {}", grant("DESCRIBE and READ"));
            return (Verdict::Problem, text);
        }
        error => return (Verdict::Problem, format!("{named}: the cluster answered with error {error}")),
    }
    let operations = told.topic_authorized_operations;
    if operations != NOT_TOLD && operations & READ == 0 {
        return (Verdict::Problem, format!("{named}: this client is not authorized to read it; {}", grant("READ")));
    }
    let partitions = told.partitions.len();
    let leaderless = told.partitions.iter().filter(|partition| partition.leader_id.0 < 0).count();
    if leaderless > 0 {
        return (Verdict::Problem, format!("{named}: {leaderless} of {partitions} partitions have no leader"));
    }
    let read = if operations == NOT_TOLD { "read authorization unknown" } else { "readable" };
    (Verdict::Ok, format!("{named}: partitions {partitions}, {read}"))
}

/// Examines the group: whether this client may use it, and its members.
fn of_group((cluster, source): (&Cluster, &Source), admin: &mut Admin, found: &mut Found) -> Result<(), String> {
    let group = &source.group;
    if group.is_empty() {
        found.add(Verdict::Ok, "no group: all partitions are read, and nothing is committed");
        return Ok(());
    }
    let name = StrBytes::from(group.clone());
    let Some(version) = admin.version::<FindCoordinatorRequest>(3) else {
        return Err(format!("{}: it does not support consumer groups", admin.broker));
    };
    let answer = admin.ask_at(&FindCoordinatorRequest::default().with_key(name.clone()), version)?;
    match answer.error_code {
        0 => {}
        GROUP_FORBIDDEN => {
            found.add(Verdict::Problem, forbidden(group));
            return Ok(());
        }
        error => {
            let text = format!("group {group}: the cluster has no coordinator for it at the moment (error {error})");
            found.add(Verdict::Warning, text);
            return Ok(());
        }
    }
    let host = answer.host.as_str();
    let coordinator =
        if host.contains(':') { format!("[{host}]:{}", answer.port) } else { format!("{host}:{}", answer.port) };
    let mut other;
    let coordinator = if coordinator == admin.broker {
        admin
    } else {
        match Admin::connect_to(cluster, &coordinator) {
            Ok(connected) => {
                other = connected;
                &mut other
            }
            Err(why) => {
                found.add(Verdict::Problem, format!("group {group}: its coordinator cannot be reached: {why}"));
                return Ok(());
            }
        }
    };
    let Some(version) = coordinator.version::<DescribeGroupsRequest>(i16::MAX) else { return Ok(()) };
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![GroupId(name)])
        .with_include_authorized_operations(version >= GROUP_OPERATIONS_SINCE);
    let answer = coordinator.ask_at(&request, version)?;
    if let Some(described) = answer.groups.first() {
        let is_free = described.members.is_empty() && described.protocol_type.is_empty();
        // Members of the consumer protocol (KIP-848), and those of groups with both kinds, are returned by another request.
        let newer = match coordinator.version::<ConsumerGroupDescribeRequest>(i16::MAX).filter(|_| is_free) {
            Some(version) => {
                let request =
                    ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(group.clone().into())]);
                coordinator.ask_at(&request, version)?.groups.into_iter().next()
            }
            None => None,
        };
        let newer = newer.filter(|newer| newer.error_code == 0 && !newer.members.is_empty());
        let (verdict, text) = newer.map_or_else(|| of_members(source, described), |newer| of_newer(source, &newer));
        found.add(verdict, text);
    }
    Ok(())
}

fn forbidden(group: &str) -> String {
    format!(
        "group {group}: this client is not authorized to read it; grant it READ, as in kafka-acls.sh --add --allow-principal User:… --consumer --group {group} --topic …"
    )
}

fn of_members(source: &Source, described: &DescribedGroup) -> (Verdict, String) {
    let group = &source.group;
    let operations = described.authorized_operations;
    if described.error_code == GROUP_FORBIDDEN
        || (operations != NOT_TOLD && described.error_code == 0 && operations & READ == 0)
    {
        return (Verdict::Problem, forbidden(group));
    }
    if described.error_code != 0 && described.error_code != GROUP_UNKNOWN {
        return (Verdict::Warning, format!("group {group}: the cluster answered with error {}", described.error_code));
    }
    let (kind, assignor, members) =
        (described.protocol_type.as_str(), described.protocol_data.as_str(), described.members.len());
    if !kind.is_empty() && kind != PROTOCOL_TYPE {
        let text = format!(
            "group {group} is used by members of another kind ({kind:?}), and cannot be joined; name another group"
        );
        return (Verdict::Problem, text);
    }
    if members == 0 {
        return (Verdict::Ok, format!("group {group}: no members"));
    }
    if !assignor.is_empty() && assignor != ASSIGNOR {
        let text = format!(
            "group {group}: its {members} members use the assignor {assignor:?} and may not have {ASSIGNOR:?} in common with this one; name \
             another group, or add {ASSIGNOR:?} to partition.assignment.strategy of theirs"
        );
        return (Verdict::Warning, text);
    }
    let mut topics: Vec<String> = Vec::new();
    for member in &described.members {
        let mut bytes = member.member_metadata.clone();
        if bytes.len() < 2 {
            continue;
        }
        let version = bytes::Buf::get_i16(&mut bytes).clamp(0, 3);
        let Ok(subscription) = ConsumerProtocolSubscription::decode(&mut bytes, version) else { continue };
        topics.extend(subscription.topics.iter().map(ToString::to_string));
    }
    of_topics(source, members, topics)
}

/// Looks at a group with members of the consumer protocol, which chooses the partitions of all.
fn of_newer(source: &Source, described: &consumer_group_describe_response::DescribedGroup) -> (Verdict, String) {
    let topics = described.members.iter().flat_map(|member| &member.subscribed_topic_names);
    of_topics(source, described.members.len(), topics.map(|topic| topic.0.to_string()))
}

/// Examines the topics that the members of a group read.
fn of_topics(source: &Source, members: usize, topics: impl IntoIterator<Item = String>) -> (Verdict, String) {
    let group = &source.group;
    let read: BTreeSet<&str> = source.routes().map(|(kafka, _)| kafka).collect();
    let others: BTreeSet<String> = topics.into_iter().filter(|topic| !read.contains(&**topic)).collect();
    if others.is_empty() {
        return (Verdict::Ok, format!("group {group}: members {members}, which share the partitions"));
    }
    let others: Vec<String> = others.into_iter().take(3).collect();
    let text = format!(
        "group {group} has {members} members that read other topics too ({}): each change of one makes the others pause; a group for each \
         purpose is better",
        others.join(", ")
    );
    (Verdict::Warning, text)
}

/// Makes messages of the newest records of partitions.
fn of_records(config: &Config, source: &Source, metadata: &MetadataResponse, found: &mut Found) {
    let cluster = &config.clusters[source.cluster];
    let mut by_leader: BTreeMap<BrokerId, Vec<(&TopicName, i32)>> = BTreeMap::new();
    let there = metadata.topics.iter().filter(|topic| topic.error_code == 0);
    let partitions =
        there.flat_map(|topic| topic.partitions.iter().filter_map(|partition| Some((topic.name.as_ref()?, partition))));
    let mut count = 0;
    for (topic, partition) in partitions.filter(|(_, partition)| partition.leader_id.0 >= 0) {
        count += 1;
        if count <= PARTITIONS_MAX {
            by_leader.entry(partition.leader_id).or_default().push((topic, partition.partition_index));
        }
    }
    let mut troubles = Vec::new();
    for (leader, partitions) in by_leader {
        let Some(broker) = metadata.brokers.iter().find(|broker| broker.node_id == leader) else { continue };
        let looked = look_at(config, (cluster, source), &address(broker), &partitions, found);
        troubles.extend(looked.err());
    }
    for why in troubles {
        found.add(Verdict::Problem, format!("records cannot be read: {why}"));
    }
    if count == 0 {
        return;
    }
    found.records.sort_by(|one, other| (&one.0, one.1, one.2.offset).cmp(&(&other.0, other.1, other.2.offset)));
    let refused: Vec<_> = found.records.iter().filter(|(.., record)| record.message.is_err()).collect();
    let looked_at = if count > PARTITIONS_MAX {
        format!("the first {PARTITIONS_MAX} partitions")
    } else {
        "each partition".to_owned()
    };
    let records = found.records.len();
    match refused.last() {
        None if records == 0 => found.add(Verdict::Ok, "no records to try the mapping on"),
        None => {
            found.add(Verdict::Ok, format!("mapping: the newest records of {looked_at} ({records}) become messages"))
        }
        Some((topic, partition, RecordTrial { offset, message })) => {
            let why = message.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "mapping: {} of the newest {records} records of {looked_at} cannot be messages; the one at offset {offset} of partition \
                 {partition} of {topic}: {why}",
                refused.len()
            );
            found.add(Verdict::Warning, text);
        }
    }
}

/// Reads the newest records of partitions that a broker leads.
fn look_at(
    config: &Config,
    (cluster, source): (&Cluster, &Source),
    broker: &str,
    partitions: &[(&TopicName, i32)],
    found: &mut Found,
) -> Result<(), String> {
    let mut admin = Admin::connect_to(cluster, broker)?;
    let is_committed = source.isolation == Isolation::Committed;
    for (topic, partition) in partitions {
        let (first, end) =
            (offset_at(&mut admin, topic, *partition, EARLIEST)?, offset_at(&mut admin, topic, *partition, LATEST)?);
        let from = (end - RECORDS_MAX).max(first);
        if from < 0 || from >= end {
            continue;
        }
        let named = format!("partition {partition} of {}", topic.0);
        let told = fetch(&mut admin, (topic, *partition), from, is_committed)?;
        if told.error_code != 0 {
            return Err(format!("{named}: the cluster answered with error {}", told.error_code));
        }
        let aborted = told.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect();
        let batches = Batches::new(told.records.unwrap_or_default().to_vec(), from, aborted, is_committed);
        let (tried, bad) =
            try_records((config, source), (&topic.0, *partition), batches, WallMs(now_ms()), RECORDS_MAX as usize);
        found.records.extend(tried.into_iter().map(|record| (topic.0.to_string(), *partition, record)));
        if let Some(bad) = bad {
            found.add(
                Verdict::Problem,
                format!("{named} has a batch that cannot be read: {bad}; on_bad_batch says what becomes of it"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut as _, BytesMut};
    use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
    use kafka_protocol::protocol::Encodable as _;

    fn source() -> Source {
        let file = "[[source]]\nname = 's'\ntopic = 't'\nmqtt_topic = 't'\ngroup = 'g'";
        crate::config::parse(file, "t").expect("good").sources.remove(0)
    }

    fn group(kind: &'static str, assignor: &'static str, topics: &[&'static str]) -> DescribedGroup {
        let member = |topic: &&'static str| {
            let mut bytes = BytesMut::new();
            bytes.put_i16(0);
            let topics = vec![StrBytes::from_static_str(topic)];
            ConsumerProtocolSubscription::default().with_topics(topics).encode(&mut bytes, 0).expect("encoded");
            DescribedGroupMember::default().with_member_metadata(bytes.freeze())
        };
        DescribedGroup::default()
            .with_protocol_type(StrBytes::from_static_str(kind))
            .with_protocol_data(StrBytes::from_static_str(assignor))
            .with_members(topics.iter().map(member).collect())
            .with_authorized_operations(NOT_TOLD)
    }

    #[test]
    fn who_else_is_in_the_group_decides() {
        let said = |group: &DescribedGroup| of_members(&source(), group);
        assert_eq!(said(&group("", "", &[])).0, Verdict::Ok);
        assert_eq!(said(&group("consumer", "range", &["t", "t"])).0, Verdict::Ok);
        let connect = said(&group("connect", "sessioned", &["t"]));
        assert!(connect.0 == Verdict::Problem && connect.1.contains("\"connect\""), "{connect:?}");
        let sticky = said(&group("consumer", "cooperative-sticky", &["t"]));
        assert!(sticky.0 == Verdict::Warning && sticky.1.contains("partition.assignment.strategy"), "{sticky:?}");
        let others = said(&group("consumer", "range", &["t", "u"]));
        assert!(others.0 == Verdict::Warning && others.1.contains("(u)"), "{others:?}");
        let forbidden = said(&group("consumer", "range", &["t"]).with_error_code(GROUP_FORBIDDEN));
        assert!(forbidden.0 == Verdict::Problem && forbidden.1.contains("grant it READ"), "{forbidden:?}");
        assert_eq!(said(&group("consumer", "range", &["t"]).with_authorized_operations(1 << 8)).0, Verdict::Problem);
    }

    #[test]
    fn a_topic_says_what_is_in_the_way() {
        let topic = |error, operations| {
            MetadataResponseTopic::default().with_error_code(error).with_topic_authorized_operations(operations)
        };
        let said = |told: MetadataResponseTopic| of_topic("t", Some(&told), false);
        assert_eq!(said(topic(0, NOT_TOLD)).0, Verdict::Ok);
        assert_eq!(said(topic(0, READ)).0, Verdict::Ok);
        for (told, words) in [
            (topic(0, 1 << 8), "grant it READ"),
            (topic(UNKNOWN_TOPIC, NOT_TOLD), "forebay topics create"),
            (topic(TOPIC_FORBIDDEN, NOT_TOLD), "DESCRIBE and READ"),
            (topic(17, NOT_TOLD), "error 17"),
        ] {
            let (verdict, text) = said(told);
            assert!(verdict == Verdict::Problem && text.contains(words), "{text}");
        }
    }
}

//! The answers to Metadata and InitProducerId, read in place, bounded by their own bytes.

use std::rc::Rc;

use super::wire::{Malformed, Read, Reader};
use crate::types::{INVALID_PARTITIONS, NodeId, TopicMetadata};
use forebay_base::limits::{PARTITIONS_OF_CLUSTER_MAX, PARTITIONS_OF_TOPIC_MAX};

/// LEADER_NOT_AVAILABLE.
pub(super) const LEADER_NOT_AVAILABLE: i16 = 5;

/// The maximum number of brokers accepted: no cluster has more.
const BROKERS_MAX: usize = 10_000;

/// A broker as metadata advertises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Node id.
    pub(super) node: NodeId,
    /// Name or literal address.
    pub(super) host: Rc<str>,
    /// TCP port.
    pub(super) port: u16,
}

/// A Metadata answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The pause requested of the client, in ms.
    pub(super) throttle_ms: i32,
    /// The live brokers, by node id. A broker with an invalid address is left out.
    pub(super) brokers: Vec<Advertised>,
    /// The cluster's id, if it has one.
    pub(super) cluster: Option<Rc<str>>,
    /// Metadata of each requested topic, in the order requested; `None` for a topic that the answer does not have.
    pub(super) topics: Vec<Option<TopicMetadata>>,
}

/// An InitProducerId answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerIdAnswer {
    /// The pause requested of the client, in ms.
    pub(super) throttle_ms: i32,
    /// Error code.
    pub(super) error: i16,
    /// The producer id.
    pub(super) id: i64,
    /// The producer epoch.
    pub(super) epoch: i16,
}

/// Reads an InitProducerId answer, header already read.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_producer_id(reader: &mut Reader<'_>) -> Read<ProducerIdAnswer> {
    let answer =
        ProducerIdAnswer { throttle_ms: reader.i32()?, error: reader.i16()?, id: reader.i64()?, epoch: reader.i16()? };
    reader.tags()?;
    reader.end();
    if answer.error == 0 && (answer.id < 0 || answer.epoch < 0) {
        return Err(Malformed("negative producer id"));
    }
    Ok(answer)
}

/// Reads a Metadata answer, header already read. `asked` is sorted; topics that are not in it are skipped.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_metadata(reader: &mut Reader<'_>, version: i16, asked: &[Rc<str>]) -> Read<Metadata> {
    let throttle_ms = if version >= 3 { reader.i32()? } else { 0 };
    let brokers = read_brokers(reader)?;
    let cluster = if version >= 2 { reader.nullable_string()? } else { None };
    let cluster = cluster.and_then(|id| std::str::from_utf8(id).ok()).map(Rc::from);
    reader.i32()?; // controller id
    let mut topics = vec![None; asked.len()];
    let mut left = PARTITIONS_OF_CLUSTER_MAX;
    for _ in 0..reader.array(8)? {
        let (name, topic) = read_topic(reader, version, &brokers, asked, &mut left)?;
        if let Some(i) = name
            && let Some(place) = topics.get_mut(i)
        {
            place.get_or_insert(topic);
        }
    }
    if (8..=10).contains(&version) {
        reader.i32()?; // cluster authorized operations
    }
    reader.tags()?;
    reader.end();
    Ok(Metadata { throttle_ms, brokers, cluster, topics })
}

fn read_brokers(reader: &mut Reader<'_>) -> Read<Vec<Advertised>> {
    let count = reader.array(10)?;
    if count > BROKERS_MAX {
        return Err(Malformed("more brokers than a cluster has"));
    }
    let mut brokers = Vec::with_capacity(count);
    for _ in 0..count {
        let (node, host, port) = (NodeId(reader.i32()?), reader.string()?, reader.i32()?);
        reader.nullable_string()?; // rack
        reader.tags()?;
        if let (Ok(host), Ok(port)) = (std::str::from_utf8(host), u16::try_from(port))
            && !host.is_empty()
            && port != 0
            && node.0 >= 0
        {
            brokers.push(Advertised { node, host: Rc::from(host), port });
        }
    }
    brokers.sort_by_key(|broker| broker.node);
    brokers.dedup_by_key(|broker| broker.node);
    Ok(brokers)
}

/// Reads one topic; returns it with its index in `asked`. `left`: the remaining limit of partitions of all topics; a topic with more counts
/// as unusable.
fn read_topic(
    reader: &mut Reader<'_>,
    version: i16,
    brokers: &[Advertised],
    asked: &[Rc<str>],
    left: &mut usize,
) -> Read<(Option<usize>, TopicMetadata)> {
    let mut error = reader.i16()?;
    let name = reader.nullable_string()?.unwrap_or_default();
    let asked_at = asked.binary_search_by(|topic| topic.as_bytes().cmp(name)).ok();
    let id = if version >= 10 { reader.u128()? } else { 0 };
    reader.u8()?; // is internal
    let told = reader.array(18)?;
    let is_beyond = told > PARTITIONS_OF_TOPIC_MAX.min(*left);
    let count = if is_beyond { 0 } else { told };
    *left -= count;
    let (mut leaders, mut replicas, mut named) = (vec![None; count], vec![Box::default(); count], 0usize);
    let (mut seen, mut leader_epochs) = (vec![false; count], vec![-1; count]);
    for _ in 0..told {
        let (index, leader, epoch, holders) = read_partition(reader, version)?;
        // A leader can be reached only if it is alive.
        let leader = brokers.binary_search_by_key(&leader, |broker| broker.node).is_ok().then_some(leader);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(first) = seen.get_mut(index)
            && !std::mem::replace(first, true)
        {
            (leaders[index], replicas[index], named) = (leader, holders, named + 1);
            leader_epochs[index] = epoch;
        }
    }
    if version >= 8 {
        reader.i32()?; // topic authorized operations
    }
    reader.tags()?;
    if error == 0 && is_beyond {
        error = INVALID_PARTITIONS;
    }
    // A topic that is being created may report only some of its partitions, and one without partitions has no place for a row: by that count
    // keys would get other partitions than a moment later.
    if error == 0 && (count == 0 || named < count) {
        error = LEADER_NOT_AVAILABLE;
    }
    if error != 0 {
        (leaders, replicas) = (Vec::new(), Vec::new());
    }
    if error != 0 || leader_epochs.iter().all(|epoch| *epoch < 0) {
        leader_epochs = Vec::new();
    }
    let name = asked_at.and_then(|i| asked.get(i)).cloned().unwrap_or_else(|| Rc::from(""));
    Ok((asked_at, TopicMetadata { name, id, error, leaders, leader_epochs, replicas }))
}

/// Reads one partition: index, leader (a negative node id for none), its epoch (-1: not given), and the nodes with a replica.
fn read_partition(reader: &mut Reader<'_>, version: i16) -> Read<(i32, NodeId, i32, Box<[NodeId]>)> {
    reader.i16()?; // error code: the leader reports it as well
    let (index, leader) = (reader.i32()?, NodeId(reader.i32()?));
    let epoch = if version >= 7 { reader.i32()? } else { -1 };
    let replicas = reader.i32s()?.map(NodeId).collect();
    let _in_sync = reader.i32s()?;
    if version >= 5 {
        let _offline = reader.i32s()?;
    }
    reader.tags()?;
    Ok((index, leader, epoch, replicas))
}

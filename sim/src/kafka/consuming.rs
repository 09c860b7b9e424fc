//! Requests of consumers: Fetch, with sessions (KIP-227) or without, which waits for a record; the ends of logs, and of leader epochs.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use super::coordinator::Groups;
use super::front::{From, OUT_OF_RANGE, Reply, UNKNOWN_TOPIC_ID, framed, response_header};
use super::waiting::Waiting;
use super::{Cluster, Partition};
use crate::time::MS;

const SESSION_NOT_FOUND: i16 = 70;
const SESSION_EPOCH: i16 = 71;
const FENCED_EPOCH: i16 = 74;
const UNKNOWN_EPOCH: i16 = 75;

/// A cluster's state for consumers.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    pub(crate) groups: Groups,
    pub(crate) fetching: Sessions,
}

/// Fetch sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Whether brokers offer sessions.
    pub(crate) are_offered: bool,
    by_id: BTreeMap<i32, Session>,
    next: i32,
}

/// A topic by id or name, and a partition.
type Place = (u128, String, i32);

#[derive(Debug, Default)]
struct Session {
    node: i32,
    /// The epoch of the next request.
    epoch: i32,
    /// Requested offset and leader epoch.
    table: BTreeMap<Place, (i64, i32)>,
    /// The last reported high watermark.
    told: BTreeMap<Place, i64>,
}

impl Sessions {
    /// Forgets the sessions of a broker that has started again.
    pub(super) fn forget(&mut self, node: i32) {
        self.by_id.retain(|_, session| session.node != node);
    }
}

/// A Fetch that waits for a record.
#[derive(Debug)]
pub(crate) struct Fetching {
    node: i32,
    deadline: u64,
    version: i16,
    correlation: i32,
    session: i32,
    /// Whether the answer has only new information.
    is_incremental: bool,
    wanted: Vec<(Place, (i64, i32))>,
}

impl Fetching {
    pub(super) const fn deadline(&self) -> u64 {
        self.deadline
    }
}

fn places(topics: &[FetchTopic], version: i16) -> Vec<(Place, (i64, i32))> {
    let of_topic = |topic: &FetchTopic| {
        let (id, name) = match version {
            13.. => (topic.topic_id.as_u128(), String::new()),
            _ => (0, topic.topic.to_string()),
        };
        let place = move |partition: &kafka_protocol::messages::fetch_request::FetchPartition| {
            let at = (partition.fetch_offset, partition.current_leader_epoch);
            ((id, name.clone(), partition.partition), at)
        };
        topic.partitions.iter().map(place).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

impl Cluster {
    /// A partition that this broker leads, for a reader that knows this leader epoch.
    fn led_here(&self, name: &str, index: i32, (node, epoch): (i32, i32)) -> Result<&Partition, i16> {
        let (_, partition) = self.partition_led_by(name, index, node)?;
        match epoch {
            0.. if self.modern && epoch < partition.leader_epoch => Err(FENCED_EPOCH),
            0.. if self.modern && epoch > partition.leader_epoch => Err(UNKNOWN_EPOCH),
            _ => Ok(partition),
        }
    }

    pub(super) fn consumer_offsets(&self, asked: &ListOffsetsRequest, from: From) -> ListOffsetsResponse {
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let index = asked.partition_index;
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
                match self.led_here(topic.name.as_str(), index, (from.node, asked.current_leader_epoch)) {
                    Err(code) => answer.with_error_code(code).with_offset(-1),
                    Ok(partition) => {
                        let begin = partition.start_offset(&self.entries);
                        answer.with_offset(if asked.timestamp == -2 { begin } else { partition.high })
                    }
                }
            });
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    pub(super) fn epoch_ends(&self, asked: &OffsetForLeaderEpochRequest, from: From) -> OffsetForLeaderEpochResponse {
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let answer = EpochEndOffset::default().with_partition(asked.partition);
                match self.led_here(topic.topic.as_str(), asked.partition, (from.node, asked.current_leader_epoch)) {
                    Err(code) => answer.with_error_code(code).with_leader_epoch(-1).with_end_offset(-1),
                    Ok(partition) => {
                        let (epoch, end) = partition.epoch_end(asked.leader_epoch);
                        answer.with_leader_epoch(epoch).with_end_offset(end)
                    }
                }
            });
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    /// Handles a Fetch of a consumer.
    pub(super) fn consumer_fetch(
        &mut self,
        asked: &FetchRequest,
        (version, correlation): (i16, i32),
        from: From,
    ) -> Reply {
        let (id, epoch) = (asked.session_id, asked.session_epoch);
        let new = places(&asked.topics, version);
        let Some(sessions) = self.consumers.as_mut().map(|consumers| &mut consumers.fetching) else {
            return Reply::Nothing;
        };
        let mut fetching = Fetching {
            node: from.node,
            deadline: from.time + u64::from(asked.max_wait_ms.max(0).cast_unsigned()) * MS,
            version,
            correlation,
            session: 0,
            is_incremental: false,
            wanted: new.clone(),
        };
        if version >= 7 && epoch >= 0 && sessions.are_offered {
            if epoch == 0 {
                sessions.by_id.remove(&id);
                sessions.next += 1;
                fetching.session = sessions.next;
                let session =
                    Session { node: from.node, epoch: 1, table: new.into_iter().collect(), ..Session::default() };
                sessions.by_id.insert(fetching.session, session);
            } else {
                let error = match sessions.by_id.get_mut(&id).filter(|session| session.node == from.node) {
                    None => SESSION_NOT_FOUND,
                    Some(session) if session.epoch != epoch => SESSION_EPOCH,
                    Some(session) => {
                        session.epoch += 1;
                        session.table.extend(new);
                        for topic in &asked.forgotten_topics_data {
                            let (of, name) = (topic.topic_id.as_u128(), topic.topic.to_string());
                            for index in &topic.partitions {
                                let place =
                                    if version >= 13 { (of, String::new(), *index) } else { (0, name.clone(), *index) };
                                session.table.remove(&place);
                                session.told.remove(&place);
                            }
                        }
                        fetching.wanted = session.table.iter().map(|(place, at)| (place.clone(), *at)).collect();
                        0
                    }
                };
                if error != 0 {
                    let answer = FetchResponse::default().with_error_code(error);
                    return Reply::Bytes(answer_of(&answer, (version, correlation)));
                }
                (fetching.session, fetching.is_incremental) = (id, true);
            }
        }
        match self.settle_fetch(&mut fetching, from.time) {
            Some(bytes) => Reply::Bytes(bytes),
            None => Reply::Wait(Box::new(Waiting::Fetch(fetching))),
        }
    }

    /// Answers a Fetch if there is a record, an error, or no time left.
    pub(super) fn settle_fetch(&mut self, fetching: &mut Fetching, time: u64) -> Option<Vec<u8>> {
        let mut is_due = time >= fetching.deadline;
        let mut told = Vec::new();
        for (place, (offset, epoch)) in &fetching.wanted {
            let (id, name, index) = place;
            let name = if *id > 0 { self.name_of(*id).map(str::to_owned) } else { Some(name.clone()) };
            let read = name.ok_or(UNKNOWN_TOPIC_ID);
            let read = read.and_then(|name| self.read_on(&name, *index, *offset, (fetching.node, *epoch)));
            is_due |= read.as_ref().map_or(true, |(.., records)| !records.is_empty());
            told.push((place, read));
        }
        if !is_due {
            return None;
        }
        let session = self.consumers.as_mut().and_then(|all| all.fetching.by_id.get_mut(&fetching.session));
        let mut known = session.map(|session| &mut session.told);
        let mut topics: Vec<FetchableTopicResponse> = Vec::new();
        for (place, read) in told {
            let (id, name, index) = place;
            let data = PartitionData::default().with_partition_index(*index);
            let data = match read {
                Err(code) => data.with_error_code(code).with_high_watermark(-1).with_records(Some(Bytes::new())),
                Ok((start, high, records)) => {
                    let before = known.as_mut().and_then(|known| known.insert(place.clone(), high));
                    if fetching.is_incremental && records.is_empty() && before == Some(high) {
                        continue;
                    }
                    let data = data.with_high_watermark(high).with_last_stable_offset(high);
                    let data = data.with_records(Some(records));
                    if fetching.version >= 5 { data.with_log_start_offset(start) } else { data }
                }
            };
            let is_same = |topic: &FetchableTopicResponse| {
                if *id > 0 { topic.topic_id.as_u128() == *id } else { topic.topic.as_str() == name }
            };
            match topics.iter_mut().find(|topic| is_same(topic)) {
                Some(topic) => topic.partitions.push(data),
                None => {
                    let topic = FetchableTopicResponse::default().with_partitions(vec![data]);
                    topics.push(if *id > 0 {
                        topic.with_topic_id(Uuid::from_u128(*id))
                    } else {
                        topic.with_topic(TopicName(StrBytes::from_string(name.clone())))
                    });
                }
            }
        }
        let answer = FetchResponse::default().with_responses(topics);
        let answer = if fetching.version >= 7 { answer.with_session_id(fetching.session) } else { answer };
        Some(answer_of(&answer, (fetching.version, fetching.correlation)))
    }

    /// Start of the log, high watermark, and batches from `offset` on.
    fn read_on(&self, name: &str, index: i32, offset: i64, by: (i32, i32)) -> Result<(i64, i64, Bytes), i16> {
        let partition = self.led_here(name, index, by)?;
        let start = partition.start_offset(&self.entries);
        if offset > partition.end() || offset < start {
            return Err(OUT_OF_RANGE);
        }
        let mut records = BytesMut::new();
        let from = partition.entries.partition_point(|place| self.entries[*place].end() <= offset);
        let visible = partition.entries[from.max(partition.start)..].iter().map(|place| &self.entries[*place]);
        let visible = visible.take_while(|entry| entry.end() <= partition.high);
        visible.take(4).for_each(|entry| records.put_slice(&entry.bytes));
        Ok((start, partition.high, records.freeze()))
    }
}

fn answer_of(answer: &FetchResponse, (version, correlation): (i16, i32)) -> Vec<u8> {
    let mut body = response_header(correlation, ApiKey::Fetch, version);
    answer.encode(&mut body, version).expect("encoded");
    framed(&body)
}

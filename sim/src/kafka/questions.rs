//! A producer's questions about logs (P5), each about one partition.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProducerId,
};

use super::front::{FORBIDDEN, From, NOT_LEADER, OUT_OF_RANGE, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID};
use super::{Cluster, Partition, Topic};

impl Cluster {
    fn readable(&mut self, name: &str, index: i32, node: i32) -> Result<(&Topic, &Partition), i16> {
        self.asked += 1;
        self.partition_led_by(name, index, node)
    }

    /// A partition that this broker leads, if reading is allowed.
    pub(super) fn partition_led_by(&self, name: &str, index: i32, node: i32) -> Result<(&Topic, &Partition), i16> {
        let topic = self.topics.get(name).ok_or(UNKNOWN_TOPIC)?;
        if topic.reading_forbidden {
            return Err(FORBIDDEN);
        }
        let partition = topic.partitions.get(index as usize).ok_or(UNKNOWN_TOPIC)?;
        if partition.leader != Some(node) {
            return Err(NOT_LEADER);
        }
        Ok((topic, partition))
    }

    pub(super) fn describe_producers(
        &mut self,
        asked: &DescribeProducersRequest,
        from: From,
    ) -> DescribeProducersResponse {
        let topic = &asked.topics[0];
        let index = topic.partition_indexes[0];
        let answer = PartitionResponse::default().with_partition_index(index);
        let answer = match self.readable(topic.name.as_str(), index, from.node) {
            Err(code) => answer.with_error_code(code),
            Ok((_, partition)) => {
                let state = |(id, epoch, last): (i64, i16, i32)| {
                    let state = ProducerState::default().with_producer_id(ProducerId(id)).with_last_sequence(last);
                    state.with_producer_epoch(i32::from(epoch))
                };
                answer.with_active_producers(partition.producers.described().map(state).collect())
            }
        };
        let topic = TopicResponse::default().with_name(topic.name.clone()).with_partitions(vec![answer]);
        DescribeProducersResponse::default().with_topics(vec![topic])
    }

    pub(super) fn list_offsets(&mut self, asked: &ListOffsetsRequest, from: From) -> ListOffsetsResponse {
        let topic = &asked.topics[0];
        let (index, wanted) = (topic.partitions[0].partition_index, topic.partitions[0].timestamp);
        let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
        let found = self
            .readable(topic.name.as_str(), index, from.node)
            .map(|(_, p)| (p.start, p.high, p.entries.clone(), p.end()));
        let answer = match found {
            Err(code) => answer.with_error_code(code).with_offset(-1),
            Ok((start, high, entries, end)) => {
                let begin = entries.get(start).map_or(end, |place| self.entries[*place].base_offset);
                answer.with_offset(if wanted == -2 { begin } else { high })
            }
        };
        let topic = ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(vec![answer]);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    pub(super) fn epoch_end(
        &mut self,
        asked: &OffsetForLeaderEpochRequest,
        from: From,
    ) -> OffsetForLeaderEpochResponse {
        let topic = &asked.topics[0];
        let (index, epoch) = (topic.partitions[0].partition, topic.partitions[0].leader_epoch);
        let answer = EpochEndOffset::default().with_partition(index);
        let answer = match self.readable(topic.topic.as_str(), index, from.node) {
            Err(code) => answer.with_error_code(code).with_leader_epoch(-1).with_end_offset(-1),
            Ok((_, partition)) => {
                let (epoch, end) = partition.epoch_end(epoch);
                answer.with_leader_epoch(epoch).with_end_offset(end)
            }
        };
        let topic = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(vec![answer]);
        OffsetForLeaderEpochResponse::default().with_topics(vec![topic])
    }

    pub(super) fn fetch(&mut self, asked: &FetchRequest, (version, from): (i16, From)) -> FetchResponse {
        let topic = &asked.topics[0];
        let (index, offset) = (topic.partitions[0].partition, topic.partitions[0].fetch_offset);
        let id = topic.topic_id.as_u128();
        let name = if version >= 13 { self.name_of(id).map(str::to_owned) } else { Some(topic.topic.to_string()) };
        let answer = PartitionData::default().with_partition_index(index);
        let read = match name {
            None => Err(UNKNOWN_TOPIC_ID),
            Some(name) => self.read(&name, index, offset, from),
        };
        let answer = match read {
            Err(code) => answer.with_error_code(code).with_high_watermark(-1),
            Ok((start, high, records)) => answer
                .with_high_watermark(high)
                .with_last_stable_offset(high)
                .with_log_start_offset(start)
                .with_records(Some(records)),
        };
        let response = FetchableTopicResponse::default().with_partitions(vec![answer]);
        let response = if version >= 13 {
            response.with_topic_id(topic.topic_id)
        } else {
            response.with_topic(topic.topic.clone())
        };
        FetchResponse::default().with_responses(vec![response])
    }

    /// Start of the log, high watermark, and batches from `offset` on.
    fn read(&mut self, name: &str, index: i32, offset: i64, from: From) -> Result<(i64, i64, Bytes), i16> {
        let (_, partition) = self.readable(name, index, from.node)?;
        let (high, first, end, places) = (partition.high, partition.start, partition.end(), partition.entries.clone());
        let start = places.get(first).map_or(end, |place| self.entries[*place].base_offset);
        if offset > end || offset < start {
            return Err(OUT_OF_RANGE);
        }
        let mut records = BytesMut::new();
        let entries = places[first..].iter().map(|place| &self.entries[*place]);
        let visible = entries.filter(|entry| entry.end() > offset && entry.end() <= high);
        visible.take(3).for_each(|entry| records.put_slice(&entry.bytes));
        Ok((start, high, records.freeze()))
    }
}

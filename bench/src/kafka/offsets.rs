//! The committed offsets of a consumer group, from its coordinator (FindCoordinator, OffsetFetch), also while brokers come and go.

use std::time::Duration;

use anyhow::{Context, bail};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::reader::{Connection, name};

// Versions that Kafka 2.1 to 4 speak.
const FIND_COORDINATOR: i16 = 2;
const OFFSET_FETCH: i16 = 5;
/// The longest wait for an answer: a frozen broker gives none, and the next one is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks for one group's offsets in one topic.
pub(crate) struct Offsets {
    bootstrap: Vec<String>,
    group: String,
    topic: String,
    partitions: usize,
    coordinator: Option<Connection>,
    /// The next broker to ask for the coordinator.
    next: usize,
}

impl Offsets {
    pub(crate) fn new(bootstrap: &str, group: &str, topic: &str, partitions: usize) -> Self {
        let bootstrap = bootstrap.split(',').map(str::to_owned).collect();
        Self { bootstrap, group: group.to_owned(), topic: topic.to_owned(), partitions, coordinator: None, next: 0 }
    }

    /// The committed offsets by partition; -1: none.
    ///
    /// # Errors
    /// The coordinator is away, or does not answer within a second; the next call finds it again.
    pub(crate) fn committed(&mut self) -> anyhow::Result<Vec<i64>> {
        let mut coordinator = match self.coordinator.take() {
            Some(coordinator) => coordinator,
            None => self.find()?,
        };
        let found = self.fetch(&mut coordinator)?;
        self.coordinator = Some(coordinator);
        Ok(found)
    }

    fn find(&mut self) -> anyhow::Result<Connection> {
        self.next += 1;
        let broker = &self.bootstrap[self.next % self.bootstrap.len()];
        let key = StrBytes::from_string(self.group.clone());
        let request = FindCoordinatorRequest::default().with_key(key).with_key_type(0);
        let mut broker = Connection::within(broker, PATIENCE)?;
        let found: FindCoordinatorResponse = broker.call(ApiKey::FindCoordinator, FIND_COORDINATOR, &request)?;
        if found.error_code != 0 {
            bail!("the coordinator of {}: error {}", self.group, found.error_code);
        }
        Connection::within(&format!("{}:{}", found.host, found.port), PATIENCE)
    }

    fn fetch(&self, coordinator: &mut Connection) -> anyhow::Result<Vec<i64>> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(name(&self.topic))
            .with_partition_indexes((0..self.partitions as i32).collect());
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.group.clone())))
            .with_topics(Some(vec![topic]));
        let answer: OffsetFetchResponse = coordinator.call(ApiKey::OffsetFetch, OFFSET_FETCH, &request)?;
        if answer.error_code != 0 {
            bail!("offsets of {}: error {}", self.group, answer.error_code);
        }
        let mut found = vec![-1; self.partitions];
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                bail!("offsets of {}: error {}", self.group, partition.error_code);
            }
            *found.get_mut(partition.partition_index as usize).context("OffsetFetch")? = partition.committed_offset;
        }
        Ok(found)
    }
}

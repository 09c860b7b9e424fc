//! The requests that the embedded log answers, one file each, and their dispatch.

mod configs;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe;
mod fetch;
mod find_coordinator;
mod group_admin;
mod group_offsets;
mod groups;
mod list_offsets;
mod metadata;
mod produce;
mod producer_id;
mod versions;

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::guard::{self, Head, Malformed, Shape};
use super::places::Place;
use super::shapes;
use super::store::Store;

/// The id of the only node.
pub(crate) const NODE_ID: i32 = 1;
/// The only leader epoch.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// The context of a request's handler.
pub(crate) struct Context<'a> {
    /// The log.
    pub(crate) store: &'a Store,
    /// The address at which this client reached the log.
    pub(crate) local: SocketAddr,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The connection's place.
    pub(crate) place: &'a Place,
    /// Becomes `true` when the log stops, which ends long polls.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Context<'_> {
    /// Host and port for the client to connect to.
    fn advertised(&self) -> (String, u16) {
        match &self.store.settings.advertised {
            Some((host, port)) => (host.clone(), *port),
            None => (self.local.ip().to_canonical().to_string(), self.local.port()),
        }
    }
}

/// The result of a request.
pub(crate) enum Reply {
    /// An answer, length included; its memory permit is released after it is sent.
    Answer(BytesMut, Option<OwnedSemaphorePermit>),
    /// No answer (Produce with acks=0).
    Nothing,
}

/// Why a connection is closed instead of answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Close {
    /// The bytes are not a valid request.
    #[error("malformed: {0}")]
    Malformed(String),
    /// ApiVersions does not list the request in this version.
    #[error("request {0} version {1} is not served here")]
    Unsupported(i16, i16),
    /// A Produce with acks=0 failed, which can only be reported by closing the connection.
    #[error("a batch sent with acks=0 was refused with {0}")]
    Unanswerable(i16),
    /// A test's script requires it.
    #[error("the script says so")]
    Scripted,
    /// An answer could not be encoded: a fault of this program.
    #[error("answer not encoded: {0}")]
    Encode(String),
}

impl From<Malformed> for Close {
    fn from(error: Malformed) -> Close {
        Close::Malformed(error.0.to_owned())
    }
}

/// First and last supported version of each request, and its schema.
const APIS: [(ApiKey, i16, i16, Shape); 24] = [
    (ApiKey::Produce, 3, 13, guard::PRODUCE),
    (ApiKey::Fetch, 4, 17, guard::FETCH),
    (ApiKey::ListOffsets, 1, 10, guard::LIST_OFFSETS),
    (ApiKey::Metadata, 0, 13, guard::METADATA),
    (ApiKey::FindCoordinator, 0, 5, guard::FIND_COORDINATOR),
    (ApiKey::OffsetCommit, 2, 6, shapes::OFFSET_COMMIT),
    (ApiKey::OffsetFetch, 1, 9, shapes::OFFSET_FETCH),
    (ApiKey::JoinGroup, 0, 4, shapes::JOIN_GROUP),
    (ApiKey::Heartbeat, 0, 2, shapes::HEARTBEAT),
    (ApiKey::LeaveGroup, 0, 2, shapes::LEAVE_GROUP),
    (ApiKey::SyncGroup, 0, 2, shapes::SYNC_GROUP),
    (ApiKey::DescribeGroups, 0, 5, shapes::DESCRIBE_GROUPS),
    (ApiKey::ListGroups, 0, 5, shapes::LIST_GROUPS),
    (ApiKey::DeleteGroups, 0, 2, shapes::DELETE_GROUPS),
    (ApiKey::ApiVersions, 0, 3, guard::API_VERSIONS),
    (ApiKey::CreateTopics, 2, 7, guard::CREATE_TOPICS),
    (ApiKey::DeleteTopics, 1, 6, shapes::DELETE_TOPICS),
    (ApiKey::InitProducerId, 0, 5, guard::INIT_PRODUCER_ID),
    (ApiKey::DescribeConfigs, 1, 4, shapes::DESCRIBE_CONFIGS),
    (ApiKey::AlterConfigs, 0, 2, shapes::ALTER_CONFIGS),
    (ApiKey::CreatePartitions, 0, 3, shapes::CREATE_PARTITIONS),
    (ApiKey::IncrementalAlterConfigs, 0, 1, shapes::INCREMENTAL_ALTER_CONFIGS),
    (ApiKey::DescribeCluster, 0, 2, shapes::DESCRIBE_CLUSTER),
    (ApiKey::DescribeProducers, 0, 0, shapes::DESCRIBE_PRODUCERS),
];

/// Answers one request. `frame` is the request without its length.
pub(crate) async fn answer(context: &Context<'_>, frame: Bytes) -> Result<Reply, Close> {
    let head = Head::read(&frame)?;
    let unsupported = Close::Unsupported(head.api_key, head.version);
    let Some((key, first, last, shape)) = APIS.iter().find(|(key, ..)| *key as i16 == head.api_key) else {
        return Err(unsupported);
    };
    if !(*first..=*last).contains(&head.version) {
        // ApiVersions is the only request with a version that clients cannot know in advance: it is answered in version
        // 0 (KIP-511).
        return if *key == ApiKey::ApiVersions { versions::unsupported(head) } else { Err(unsupported) };
    }
    let body_at = guard::check(&frame, shape, head.version)?;
    let body = frame.slice(body_at..);
    match key {
        ApiKey::Produce => produce::answer(context, head, decode(body, head)?).await,
        ApiKey::Fetch => fetch::answer(context, head, decode(body, head)?).await,
        ApiKey::ListOffsets => list_offsets::answer(context, head, decode(body, head)?).await,
        ApiKey::Metadata => metadata::answer(context, head, decode(body, head)?).await,
        ApiKey::CreateTopics => create_topics::answer(context, head, decode(body, head)?).await,
        ApiKey::DeleteTopics => delete_topics::answer(context, head, decode(body, head)?).await,
        ApiKey::CreatePartitions => create_partitions::answer(context, head, decode(body, head)?).await,
        ApiKey::DescribeConfigs => configs::describe(context, head, decode(body, head)?),
        ApiKey::AlterConfigs => configs::alter(context, head, decode(body, head)?).await,
        ApiKey::IncrementalAlterConfigs => configs::alter_incrementally(context, head, decode(body, head)?).await,
        ApiKey::DescribeCluster => describe::cluster(context, head, decode(body, head)?),
        ApiKey::DescribeProducers => describe::producers(context, head, decode(body, head)?),
        ApiKey::JoinGroup => groups::join(context, head, guard::client_id(&frame), decode(body, head)?).await,
        ApiKey::SyncGroup => groups::sync(context, head, decode(body, head)?).await,
        ApiKey::Heartbeat => groups::heartbeat(context, head, decode(body, head)?),
        ApiKey::LeaveGroup => groups::leave(context, head, decode(body, head)?),
        ApiKey::OffsetCommit => group_offsets::commit(context, head, decode(body, head)?).await,
        ApiKey::OffsetFetch => group_offsets::fetch(context, head, decode(body, head)?),
        ApiKey::ListGroups => group_admin::list(context, head, decode(body, head)?),
        ApiKey::DescribeGroups => group_admin::describe(context, head, decode(body, head)?),
        ApiKey::DeleteGroups => group_admin::delete(context, head, decode(body, head)?).await,
        ApiKey::InitProducerId => producer_id::answer(context, head, decode(body, head)?).await,
        ApiKey::FindCoordinator => find_coordinator::answer(context, head, decode(body, head)?),
        _ => versions::answer(head),
    }
}

fn decode<T: Decodable>(mut body: Bytes, head: Head) -> Result<T, Close> {
    T::decode(&mut body, head.version).map_err(|error| Close::Malformed(error.to_string()))
}

/// Encodes an answer: length, correlation id, tagged fields if the version has them, body.
fn encode<T: Encodable + HeaderVersion>(head: Head, body: &T) -> Result<Reply, Close> {
    let ours = |error: &dyn std::fmt::Display| Close::Encode(error.to_string());
    let size = body.compute_size(head.version).map_err(|error| ours(&error))?;
    let mut frame = BytesMut::with_capacity(size + 9);
    frame.put_i32(0);
    frame.put_i32(head.correlation_id);
    if T::header_version(head.version) >= 1 {
        frame.put_u8(0);
    }
    body.encode(&mut frame, head.version).map_err(|error| ours(&error))?;
    let length = i32::try_from(frame.len() - 4).map_err(|error| ours(&error))?;
    frame[0..4].copy_from_slice(&length.to_be_bytes());
    Ok(Reply::Answer(frame, None))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

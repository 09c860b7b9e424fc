//! What a start finds in the log, sorted by who has to know it.

use super::settings::Settings;
use crate::kafka::producer::row_log::{RestoredCut, RestoredLane};
use crate::kafka::types::SinkId;
use crate::spool::RecoverError;

/// Why a spool cannot be taken up. Nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The log's own reasons.
    #[error(transparent)]
    Unreadable(#[from] RecoverError),
    /// It has rows of a sink that the configuration does not have.
    #[error(
        "{rows} messages of sink \"{sink}\" wait here, and the configuration has no such sink. Put the sink back until \
         they are in Kafka (its filters may match nothing), or give up what is in this folder by moving it away"
    )]
    UnknownSink {
        /// The sink.
        sink: Box<str>,
        /// Its live rows.
        rows: u64,
    },
    /// It has rows of a sink that is kept in memory now.
    #[error(
        "{rows} messages of sink \"{sink}\" wait here, and its buffer is \"memory\" now. Give it buffer = \"disk\" until they \
         are in Kafka, or give up what is in this folder by moving it away"
    )]
    NotKept {
        /// The sink.
        sink: Box<str>,
        /// Its live rows.
        rows: u64,
    },
}

/// Everything that an earlier start has left.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// By cluster: for its producer.
    pub clusters: Vec<RestoredCluster>,
    /// Kept sessions, by number.
    pub sessions: Vec<RestoredSession>,
    /// For the operator.
    pub report: Report,
}

/// What a cluster's producer takes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredCluster {
    /// Lanes with live rows.
    pub lanes: Vec<RestoredLane>,
    /// Cuts that may or may not be in Kafka, oldest first.
    pub cuts: Vec<RestoredCut>,
}

/// A kept session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSession {
    /// Its number.
    pub number: u64,
    /// What was kept of it.
    pub payload: Vec<u8>,
    /// Its open packet ids.
    pub open: Vec<RestoredId>,
}

/// An open packet id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredId {
    /// The id.
    pub packet_id: u16,
    /// The sinks that have its row.
    pub rows: Vec<RestoredRow>,
}

/// A sink that has the row of an open packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredRow {
    /// Index of the cluster.
    pub cluster: usize,
    /// The sink's number there.
    pub sink: SinkId,
    /// Whether the row is still to come to Kafka. If not it is done: the sink owes nothing for it.
    pub is_live: bool,
    /// Whether the sink's answer is owed while the row is live: its level is Kafka's, not the log's.
    pub is_owed: bool,
}

/// What the operator should know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live rows found: they go to Kafka.
    pub rows: u64,
    /// Cuts that may or may not be in Kafka.
    pub cuts: u64,
    /// Rows that were given up because their sink's buffer does not outlive the process.
    pub given_up: u64,
    /// Places with damage below what was durable.
    pub rot: u64,
    /// Bytes of these.
    pub rot_bytes: u64,
    /// Live rows whose segment is gone.
    pub missing: u64,
    /// Kept sessions whose bytes are damaged.
    pub sessions_lost: u64,
    /// Damage may have hit what became of rows: some may be in Kafka already.
    pub fate_open: bool,
    /// Bytes of groups that were never whole: they were answered to nobody.
    pub torn_bytes: u64,
}

impl Settings {
    /// Cluster and sink of a lane's name; the lane has so many live rows.
    ///
    /// # Errors
    /// The configuration has no place for them.
    pub(super) fn place(&self, name: &str, rows: u64) -> Result<Option<(usize, SinkId)>, OpenError> {
        use crate::kafka::producer::Keep;
        match self.find(name) {
            None if rows > 0 => Err(OpenError::UnknownSink { sink: name.into(), rows }),
            None => Ok(None),
            Some((cluster, sink)) if rows > 0 && self.clusters[cluster][sink].keep == Keep::Memory => {
                Err(OpenError::NotKept { sink: name.into(), rows })
            }
            Some((cluster, sink)) => Ok(u16::try_from(sink).ok().map(|sink| (cluster, SinkId(sink)))),
        }
    }
}

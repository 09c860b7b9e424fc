//! What a start finds in the log, sorted by who has to know it.

use std::collections::BTreeMap;

use super::settings::Settings;
use crate::kafka::producer::row_log::{RestoredCut, RestoredLane};
use crate::kafka::producer::{AnsweredOn, Keep};
use crate::kafka::types::SinkId;
use crate::spool::{Disk, ReadError, RecoverError, Recovered, Rot, State};

/// Why a spool cannot be taken up. Nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The log's own reasons.
    #[error(transparent)]
    Unreadable(#[from] RecoverError),
    /// A kept session cannot be read.
    #[error("kept session {number}: {error}")]
    Session {
        /// Its number.
        number: u64,
        /// The cause.
        error: ReadError,
    },
    /// Rows that are not to outlive the process that wrote them cannot be ended.
    #[error("records of hybrid buffers that an earlier process wrote cannot be removed")]
    Discard,
    /// It has rows of a sink that the configuration does not have.
    #[error(
        "{rows} records of sink \"{sink}\" are stored here, and the configuration has no such sink. Restore the sink until they are in Kafka (its filters may match nothing), or discard them by moving this directory away"
    )]
    UnknownSink {
        /// The sink.
        sink: Box<str>,
        /// Its live rows.
        rows: u64,
    },
    /// It has rows of a sink that is kept in memory now.
    #[error(
        "{rows} records of sink \"{sink}\" are stored here, and its buffer is now \"memory\". Set buffer = \"disk\" until they are in Kafka, or discard them by moving this directory away"
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
    /// By sink, live rows whose segment is gone.
    pub lost: Vec<(SinkId, u64)>,
    /// By sink, live rows that may be in Kafka already and that no cut says so of any more: they are sent again.
    pub unknown: Vec<(SinkId, u64)>,
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
    /// Rows that were given up because their sink's buffer was not to outlive the process that wrote them.
    pub given_up: u64,
    /// Kept sessions.
    pub sessions: u64,
    /// Places with damage below what was durable.
    pub rot: Vec<Rot>,
    /// Live rows whose segment is gone.
    pub missing: u64,
    /// Cuts that are void because some of their rows are gone.
    pub voided: u64,
    /// Kept sessions whose bytes are damaged.
    pub sessions_lost: u64,
    /// Damage may have hit what became of rows: some may be in Kafka already.
    pub fate_open: bool,
    /// Bytes of groups that were never whole: they were answered to nobody.
    pub torn_bytes: u64,
}

impl Report {
    /// What recovery says.
    pub(super) fn of(recovered: &Recovered) -> Self {
        Self {
            rot: recovered.rot.clone(),
            missing: recovered.missing.iter().map(|(_, run)| run.count).sum(),
            voided: recovered.voided.len() as u64,
            fate_open: recovered.fate_open,
            torn_bytes: recovered.torn_bytes,
            ..Self::default()
        }
    }
}

impl Report {
    /// Whether something that was durable is not there any more.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.rot.is_empty() || self.fate_open || self.missing + self.sessions_lost + self.voided > 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: u64 = self.rot.iter().map(|rot| rot.bytes).sum();
        write!(f, "{bytes} bytes in {} places", self.rot.len())?;
        if let Some(first) = self.rot.first() {
            write!(f, ", the first in segment {} at {}", first.segment, first.position)?;
        }
        if self.missing + self.sessions_lost > 0 {
            write!(f, "; {} records and {} sessions are lost", self.missing, self.sessions_lost)?;
        }
        if self.fate_open || self.voided > 0 {
            f.write_str("; some records that Kafka already has may be sent again")?;
        }
        Ok(())
    }
}

impl Settings {
    /// Whether every sink that has live rows or open cuts has a place in the configuration.
    ///
    /// # Errors
    /// The first that has none.
    pub(super) fn check(&self, state: &State) -> Result<(), OpenError> {
        let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, lane) in state.lasting_lanes().filter(|(_, lane)| lane.rows() > 0) {
            *rows.entry(&lane.sink).or_default() += lane.rows();
        }
        for (name, rows) in rows {
            match self.find(name).map(|(cluster, sink)| self.clusters[cluster][usize::from(sink.0)].keep) {
                None => return Err(OpenError::UnknownSink { sink: name.into(), rows }),
                Some(Keep::Memory) => return Err(OpenError::NotKept { sink: name.into(), rows }),
                Some(Keep::Disk | Keep::Hybrid | Keep::HybridSaved) => {}
            }
        }
        Ok(())
    }

    /// What the log has for each cluster; volatile lanes are left out.
    pub(super) fn restored(&self, recovered: &Recovered, report: &mut Report) -> Restored {
        let state = &recovered.state;
        let mut clusters = vec![RestoredCluster::default(); self.clusters.len()];
        // Where fates are open, these are counted with their lanes.
        for (name, rows) in recovered.voided.iter().filter(|_| !recovered.fate_open) {
            if let Some((cluster, sink)) = self.find(name) {
                clusters[cluster].unknown.push((sink, *rows));
            }
        }
        for (number, lane) in state.lasting_lanes() {
            let (Some((cluster, sink)), Some((first, end))) = (self.find(&lane.sink), lane.bounds()) else { continue };
            let (topic, partition) = (lane.topic.as_ref().to_owned(), lane.partition);
            let start = lane.spans().next().map(|span| (span.segment, span.position));
            let order = start.map_or(0, |(segment, position)| segment * self.log.segment_bytes + position);
            let of = state.incarnation_of(&lane.sink, &lane.topic).filter(|_| partition >= 0);
            let open = lane.open_rows();
            if open > 0 {
                clusters[cluster].unknown.push((sink, open));
            }
            clusters[cluster].lanes.push(RestoredLane {
                sink,
                topic,
                partition,
                cluster: of.map_or_else(String::new, |of| of.cluster.as_ref().to_owned()),
                topic_id: of.map_or(0, |of| of.topic_id),
                partitions: of.map_or(0, |of| of.partitions),
                landed: Some(lane.landed).filter(|offset| *offset >= 0),
                lane: number,
                first,
                end,
                rows: lane.rows(),
                order,
            });
        }
        for cut in state.cuts() {
            let head = cut.head;
            let lane = state.lane(head.lane).filter(|lane| !lane.volatile);
            let Some((cluster, _)) = lane.and_then(|lane| self.find(&lane.sink)) else { continue };
            let of = state.incarnation(head.incarnation);
            clusters[cluster].cuts.push(RestoredCut {
                cut: head.cut,
                cluster: of.map_or_else(String::new, |of| of.cluster.as_ref().to_owned()),
                topic_id: of.map_or(0, |of| of.topic_id),
                partition: head.partition,
                producer_id: head.producer_id,
                epoch: head.epoch,
                sequence: head.sequence,
                timeless: head.timeless,
                lane: head.lane,
                rows: cut.rows.to_vec(),
            });
        }
        report.rows = clusters.iter().flat_map(|cluster| &cluster.lanes).map(|lane| lane.rows).sum();
        report.cuts = clusters.iter().map(|cluster| cluster.cuts.len() as u64).sum();
        Restored { clusters, ..Restored::default() }
    }

    /// Rows whose segment is gone, for the counters of their sinks.
    pub(super) fn lost(&self, recovered: &Recovered, restored: &mut Restored) {
        for (lane, run) in &recovered.missing {
            let sink = recovered.state.lane(*lane).and_then(|lane| self.find(&lane.sink));
            if let Some((cluster, sink)) = sink {
                restored.clusters[cluster].lost.push((sink, run.count));
            }
        }
    }

    /// Kept sessions with their bytes, and the numbers of those that are lost.
    ///
    /// # Errors
    /// [`OpenError::Session`].
    pub(super) fn sessions<D: Disk>(
        &self,
        disk: &D,
        recovered: &Recovered,
        report: &mut Report,
    ) -> Result<(Vec<RestoredSession>, Vec<u64>), OpenError> {
        let (mut sessions, mut lost) = (Vec::new(), Vec::new());
        let mut reader = recovered.reader();
        for number in recovered.state.sessions() {
            let open = self.open_ids(&recovered.state, number);
            match reader.session(disk, number) {
                Ok(Some(payload)) => sessions.push(RestoredSession { number, payload: payload.to_vec(), open }),
                // Damaged, or its segment is gone (S7): its client hears that there is no session, the rest goes on.
                Ok(None) | Err(ReadError::Missing) => lost.push(number),
                Err(error) => return Err(OpenError::Session { number, error }),
            }
        }
        report.sessions = sessions.len() as u64;
        report.sessions_lost += lost.len() as u64;
        Ok((sessions, lost))
    }

    /// A kept session's open packet ids.
    pub(super) fn open_ids(&self, state: &State, session: u64) -> Vec<RestoredId> {
        let row = |(lane, number): &(u64, u64)| {
            let lane = state.lane(*lane)?;
            let (cluster, sink) = self.find(&lane.sink)?;
            let terms = &self.clusters[cluster][usize::from(sink.0)];
            let is_live = lane.lives(*number);
            // Its rows are given up: a sink that has not written it to Kafka does not have it.
            if is_live && lane.volatile {
                return None;
            }
            let is_owed = is_live && terms.answered_on == AnsweredOn::Replicated;
            Some(RestoredRow { cluster, sink, is_live, is_owed })
        };
        let id = |(packet_id, rows): (u16, &[_])| RestoredId { packet_id, rows: rows.iter().filter_map(row).collect() };
        state.open_ids_of(session).map(id).collect()
    }
}

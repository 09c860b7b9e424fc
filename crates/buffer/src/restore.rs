//! The contents of a recovered log, sorted by their recipients.

use std::collections::BTreeMap;

use super::report::Report;
use super::settings::Settings;
use forebay_base::limits::PARTITIONS_OF_TOPIC_MAX;
use forebay_kafka::producer::row_log::{RestoredCut, RestoredLane};
use forebay_kafka::producer::{AnsweredOn, Keep};
use forebay_kafka::types::SinkId;
use forebay_spool::{Disk, LostRecord, RecoverError, Recovered, State, UNPLACED};

/// Why a spool cannot be opened. Nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be recovered.
    #[error(transparent)]
    Unreadable(#[from] RecoverError),
    /// Rows that must not outlive the process that wrote them cannot be ended.
    #[error("records of hybrid buffers that an earlier process wrote cannot be removed")]
    Discard,
    /// The log has rows of a sink that the configuration does not have.
    #[error(
        "{rows} records of sink \"{sink}\" are stored here, and the configuration has no such sink. Restore the sink until they are in Kafka (its filters may match nothing), or discard them by moving this directory away"
    )]
    UnknownSink {
        /// The sink.
        sink: Box<str>,
        /// The sink's live rows.
        rows: u64,
    },
    /// The log has rows of a sink with a buffer in memory.
    #[error(
        "{rows} records of sink \"{sink}\" are stored here, and its buffer is now \"memory\". Set buffer = \"disk\" until they are in Kafka, or discard them by moving this directory away"
    )]
    NotKept {
        /// The sink.
        sink: Box<str>,
        /// The sink's live rows.
        rows: u64,
    },
}

/// Everything that earlier processes left in the log.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The state for each cluster's producer.
    pub clusters: Vec<RestoredCluster>,
    /// Kept sessions and other kept items, by number.
    pub sessions: Vec<RestoredSession>,
    /// Kept records that cannot be read.
    pub lost: Vec<LostRecord>,
    /// The report for the operator.
    pub report: Report,
}

/// The state that a cluster's producer continues with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredCluster {
    /// Lanes with live rows.
    pub lanes: Vec<RestoredLane>,
    /// Cuts that may or may not be in Kafka, oldest first.
    pub cuts: Vec<RestoredCut>,
    /// By sink, the number of live rows that are lost with their segment.
    pub lost: Vec<(SinkId, u64)>,
    /// By sink, the number of live rows that may be in Kafka already although no cut says so any more: they are sent
    /// again.
    pub unknown: Vec<(SinkId, u64)>,
}

/// A kept session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSession {
    /// The session's number.
    pub number: u64,
    /// The session's kept payload.
    pub payload: Vec<u8>,
    /// The session's open packet ids.
    pub open: Vec<RestoredId>,
}

/// An open packet id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredId {
    /// The id.
    pub packet_id: u16,
    /// The sinks that have the message's row.
    pub rows: Vec<RestoredRow>,
}

/// A sink that has the row of an open packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredRow {
    /// Index of the cluster.
    pub cluster: usize,
    /// The sink's number in its cluster.
    pub sink: SinkId,
    /// Whether the row is not in Kafka yet. Otherwise it is done, and the sink has nothing more to acknowledge.
    pub is_live: bool,
    /// Whether the acknowledgement is pending while the row is live, because the sink's level is Kafka's and not the
    /// log's.
    pub is_owed: bool,
}

impl Settings {
    /// Checks that every sink with live rows or open cuts is in the configuration.
    ///
    /// # Errors
    /// The first sink that is not.
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

    /// The log's contents for each cluster, without volatile lanes.
    pub(super) fn restored(&self, recovered: &Recovered, report: &mut Report) -> Restored {
        let state = &recovered.state;
        let mut clusters = vec![RestoredCluster::default(); self.clusters.len()];
        // If fates are open, these rows are counted with their lanes.
        for (name, rows) in recovered.voided.iter().filter(|_| !recovered.fate_open) {
            if let Some((cluster, sink)) = self.find(name) {
                clusters[cluster].unknown.push((sink, *rows));
            }
        }
        for (number, lane) in state.lasting_lanes() {
            let (Some((cluster, sink)), Some((first, end))) = (self.find(&lane.sink), lane.bounds()) else { continue };
            let topic = lane.topic.as_ref().to_owned();
            // No Kafka has such a partition: the rows get another one.
            let is_one = usize::try_from(lane.partition).is_ok_and(|partition| partition < PARTITIONS_OF_TOPIC_MAX);
            let partition = if is_one { lane.partition } else { UNPLACED };
            let start = lane.spans().next().map(|span| (span.segment, span.position));
            let order = start.map_or(0, |(segment, position)| {
                segment.saturating_mul(self.log.segment_bytes).saturating_add(position)
            });
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

    /// Counts, for each sink, the rows that are lost with their segment.
    pub(super) fn lost(&self, recovered: &Recovered, restored: &mut Restored) {
        for (lane, run) in &recovered.missing {
            let sink = recovered.state.lane(*lane).and_then(|lane| self.find(&lane.sink));
            if let Some((cluster, sink)) = sink {
                restored.clusters[cluster].lost.push((sink, run.count));
            }
        }
    }

    /// Kept sessions with their payloads, and lost records.
    ///
    /// # Errors
    /// The disk cannot read a record now, but may later.
    pub(super) fn sessions<D: Disk>(
        &self,
        disk: &D,
        recovered: &Recovered,
        restored: &mut Restored,
    ) -> Result<(), RecoverError> {
        recovered.records(disk, |number, payload| match payload {
            Ok(payload) => {
                let open = self.open_ids(&recovered.state, number);
                restored.sessions.push(RestoredSession { number, payload: payload.to_vec(), open });
            }
            Err(lost) => restored.lost.push(lost),
        })
    }

    /// A kept session's open packet ids.
    pub(super) fn open_ids(&self, state: &State, session: u64) -> Vec<RestoredId> {
        let row = |(lane, number): &(u64, u64)| {
            let lane = state.lane(*lane)?;
            let (cluster, sink) = self.find(&lane.sink)?;
            let terms = &self.clusters[cluster][usize::from(sink.0)];
            let is_live = lane.lives(*number);
            // The sink's rows are given up: if it has not written the row to Kafka, it does not have it.
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

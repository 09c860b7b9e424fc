//! The Fetch in flight to one broker for one purpose, and its fetch session (KIP-227).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::fetch::{Fetch, FetchFrom};
use forebay_guard::outward::Backoff;
use forebay_runtime::seam::Monotonic;

/// A partition as it was requested from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The id of the partition's assignment.
    pub(super) id: u32,
    pub(super) incarnation: u32,
    pub(super) topic_id: u128,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    /// Bytes of records requested.
    pub(super) bytes: usize,
}

/// Partitions by topic and index.
pub(super) type Table = BTreeMap<(Rc<str>, i32), Sent>;

/// A fetch session.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    is_by_id: bool,
    /// The partitions requested from the broker; with a session, they stay requested.
    table: Table,
}

impl Session {
    /// The request for these partitions: the changes in the session, or all of them, beginning with another one each `turn`, because
    /// brokers fill an answer from the first partition on. `bytes_max`: the most that is requested of one partition.
    pub(super) fn request(&mut self, wanted: Table, turn: usize, bytes_max: usize) -> Fetch {
        let is_by_id = wanted.values().all(|sent| sent.topic_id != 0);
        // A topic with another id is another topic. And a session reports only once how far a log goes: a reader from another place, or for
        // another assignment, may not have received it.
        let is_other = |(place, sent): (&(Rc<str>, i32), &Sent)| {
            let of = |sent: &Sent| (sent.topic_id, sent.id, sent.incarnation);
            self.table.get(place).is_some_and(|known| of(known) != of(sent))
        };
        if self.id == 0 || is_by_id != self.is_by_id || wanted.iter().any(is_other) {
            *self = Self { is_by_id, ..Self::default() };
        }
        let is_new = |(place, sent): &(&(Rc<str>, i32), &Sent)| {
            let known = self.table.get(*place).map(|known| (known.offset, known.leader_epoch, known.bytes));
            known != Some((sent.offset, sent.leader_epoch, sent.bytes))
        };
        let from = |((topic, partition), sent): (&(Rc<str>, i32), &Sent)| FetchFrom {
            topic: Rc::clone(topic),
            topic_id: sent.topic_id,
            partition: *partition,
            leader_epoch: sent.leader_epoch,
            offset: sent.offset,
            bytes_max: i32::try_from(sent.bytes.min(bytes_max)).unwrap_or(i32::MAX),
        };
        let mut partitions: Vec<FetchFrom> = wanted.iter().filter(is_new).map(from).collect();
        if self.id == 0 && !partitions.is_empty() {
            let first = turn % partitions.len();
            partitions.rotate_left(first);
        }
        let gone = self.table.iter().filter(|(place, _)| !wanted.contains_key(*place));
        let forgotten = gone.map(|((topic, partition), sent)| (Rc::clone(topic), sent.topic_id, *partition)).collect();
        self.table = wanted;
        let session = (self.id, self.epoch);
        Fetch { session, is_by_id, max_wait_ms: 0, bytes_max: 0, answer_bytes_max: 0, partitions, forgotten }
    }

    /// Takes the session that an answer belongs to; 0: the broker has none for this consumer, and each request has all partitions.
    pub(super) fn answered(&mut self, id: i32) {
        let table = std::mem::take(&mut self.table);
        *self = match (id, self.id) {
            (0, _) => Self { table, ..Self::default() },
            (id, 0) => Self { id, epoch: 1, table, is_by_id: self.is_by_id },
            (id, known) if id == known => {
                let epoch = self.epoch.checked_add(1).unwrap_or(1);
                Self { id, epoch, table, is_by_id: self.is_by_id }
            }
            // The answer is of another session than the request.
            _ => Self { table, ..Self::default() },
        };
    }

    /// The last request for a partition.
    pub(super) fn sent(&self, place: &(Rc<str>, i32)) -> Option<Sent> {
        self.table.get(place).copied()
    }

    /// The ids of the requested assignments.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.table.values().map(|sent| sent.id)
    }

    /// Ends the session: the next request begins another.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The state of fetching from one broker for one purpose.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    /// The number of the request in flight.
    pub(super) under_way: Option<u64>,
    pub(super) session: Session,
    /// Bytes reserved for the answer in flight.
    pub(super) reserved: usize,
    /// Bytes of an answer that was too large: one batch may be larger than the request allows.
    pub(super) largest: usize,
    /// Partitions to fetch one at a time: one of them has a batch that is too large, or that never arrives whole.
    pub(super) alone: VecDeque<u32>,
    /// Whether the next request uses a new connection.
    pub(super) is_fresh: bool,
    pub(super) retry_at: Monotonic,
    pub(super) backoff: Backoff,
    /// Counter of requests.
    pub(super) turn: usize,
}

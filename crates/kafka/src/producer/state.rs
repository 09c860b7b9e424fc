//! Parts of a producer's state, grouped.

use std::collections::VecDeque;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::landed::Place;
use super::lost::End;
use super::tickets::Tickets;
use super::timers::Timers;
use super::{Key, News, Want};
use crate::types::Outcome;
use forebay_runtime::seam::Monotonic;

/// Questions to Kafka's logs.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Questions of partitions in flight, by token.
    pub(super) asking: HashMap<u64, Key, RandomState>,
    /// Number of questions of either kind so far; the last token.
    pub(super) asked: u64,
    /// Questions about the ends of logs, by token; and those that are asked again, with the time.
    pub(super) ends: HashMap<u64, End, RandomState>,
    pub(super) ends_again: VecDeque<(Monotonic, End)>,
}

/// The known state of the cluster.
#[derive(Debug)]
pub(super) struct ClusterView {
    /// The cluster's id; empty: not known.
    pub(super) id: Rc<str>,
    pub(super) reachable: bool,
    /// Topics that an earlier process had rows for, with the id of its cluster.
    pub(super) elsewhere: Vec<(u32, Rc<str>)>,
    /// Maximum size of batches, since the cluster's brokers take no larger requests (`oversized`).
    pub(super) batch_bytes_max: usize,
}

impl Default for ClusterView {
    fn default() -> Self {
        Self { id: Rc::from(""), reachable: true, elsewhere: Vec::new(), batch_bytes_max: usize::MAX }
    }
}

impl ClusterView {
    /// Sets the cluster's id. Returns the topics that were of another cluster, each with that cluster's id.
    pub(super) fn set_id(&mut self, id: &str) -> impl Iterator<Item = (u32, Rc<str>)> + use<> {
        if *self.id != *id {
            self.id = Rc::from(id);
        }
        let here = Rc::clone(&self.id);
        std::mem::take(&mut self.elsewhere).into_iter().filter(move |(_, cluster)| *cluster != here)
    }
}

/// Work of the next poll, and when it is due.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    pub(super) timers: Timers,
    /// Partitions with work.
    pub(super) ready: Vec<Key>,
    /// The partitions that the current poll is looking at.
    pub(super) due: Vec<Key>,
    /// Topics with rows without a partition that can be placed.
    pub(super) placing: Vec<u32>,
    /// When sinks with a disk are next looked at ([`super::pacer`]).
    pub(super) pace_at: Monotonic,
    /// Whether the last poll left work because it had done enough for one turn.
    pub(super) behind: bool,
}

/// Rows and cuts that are in the log and not in memory.
#[derive(Debug, Default)]
pub(super) struct Loader {
    /// Topics and partitions ([`UNPLACED`](forebay_record::stored::UNPLACED)) that have such rows or cuts.
    pub(super) spooling: Vec<(u32, i32)>,
    /// The partition with a partly loaded cut.
    pub(super) loading: Option<Key>,
}

/// Results for the owner to fetch.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) finished: Vec<Finished>,
    pub(super) wants: Vec<Want>,
    pub(super) news: Vec<News>,
    /// Whether fresh metadata is wanted ([`Want::Refresh`]).
    pub(super) refresh: bool,
}

/// Tickets with a known outcome.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) tickets: Tickets,
    pub(super) outcome: Outcome,
    /// Whether the tickets are of no batch: they are answered when their rows are appended, and more may join.
    pub(super) at_once: bool,
    /// The place of the rows in Kafka, if that is wanted.
    pub(super) landed: Option<Place>,
}

impl Finished {
    /// Tickets without a place in Kafka's log.
    pub(super) fn new(tickets: Tickets, outcome: Outcome, at_once: bool) -> Self {
        Self { tickets, outcome, at_once, landed: None }
    }
}

//! Parts of a producer's state that belong together.

use std::collections::VecDeque;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::landed::Place;
use super::lost::End;
use super::tickets::Tickets;
use super::timers::Timers;
use super::{Key, News, Want};
use crate::kafka::types::Outcome;
use crate::runtime::seam::Monotonic;

/// What Kafka's logs are asked for.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Those of partitions on their way, by token.
    pub(super) asking: HashMap<u64, Key, RandomState>,
    /// How many there were of either kind.
    pub(super) asked: u64,
    /// About the ends of logs, by token; and those to be asked again, when.
    pub(super) ends: HashMap<u64, End, RandomState>,
    pub(super) ends_again: VecDeque<(Monotonic, End)>,
}

/// What is known of the cluster.
#[derive(Debug)]
pub(super) struct ClusterView {
    /// Its id; empty: not known.
    pub(super) id: Rc<str>,
    pub(super) reachable: bool,
    /// Topics that an earlier process had rows for, with the id of its cluster.
    pub(super) elsewhere: Vec<(u32, Rc<str>)>,
    /// Batches gather no more than this, since its brokers take no larger requests (`oversized`).
    pub(super) batch_bytes_max: usize,
}

impl Default for ClusterView {
    fn default() -> Self {
        Self { id: Rc::from(""), reachable: true, elsewhere: Vec::new(), batch_bytes_max: usize::MAX }
    }
}

impl ClusterView {
    /// It has this id. Topics that were of another one, each with the id of that.
    pub(super) fn set_id(&mut self, id: &str) -> impl Iterator<Item = (u32, Rc<str>)> + use<> {
        if *self.id != *id {
            self.id = Rc::from(id);
        }
        let here = Rc::clone(&self.id);
        std::mem::take(&mut self.elsewhere).into_iter().filter(move |(_, cluster)| *cluster != here)
    }
}

/// What the next poll looks at, and when it is due.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    pub(super) timers: Timers,
    /// Partitions.
    pub(super) ready: Vec<Key>,
    /// The same, while they are being looked at.
    pub(super) due: Vec<Key>,
    /// Topics with rows without a partition that can be placed.
    pub(super) placing: Vec<u32>,
    /// When sinks with a disk are looked at next ([`super::pacer`]).
    pub(super) pace_at: Monotonic,
    /// The last poll left work that it could have done: it only had done enough.
    pub(super) behind: bool,
}

/// What is in the log and not in memory.
#[derive(Debug, Default)]
pub(super) struct Loader {
    /// Topics and partitions ([`UNPLACED`](crate::record::stored::UNPLACED)) that have some.
    pub(super) spooling: Vec<(u32, i32)>,
    /// The partition with a restored cut that is half read.
    pub(super) loading: Option<Key>,
}

/// What waits for the owner to fetch it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) finished: Vec<Finished>,
    pub(super) wants: Vec<Want>,
    pub(super) news: Vec<News>,
    /// Fresh metadata is wanted ([`Want::Refresh`]).
    pub(super) refresh: bool,
}

/// Tickets with a known outcome.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) tickets: Tickets,
    pub(super) outcome: Outcome,
    /// Not of a batch: answered when they were appended, and more may join.
    pub(super) at_once: bool,
    /// Where their rows are in Kafka, if that is asked for.
    pub(super) landed: Option<Place>,
}

impl Finished {
    /// Without a place in Kafka's log.
    pub(super) fn new(tickets: Tickets, outcome: Outcome, at_once: bool) -> Self {
        Self { tickets, outcome, at_once, landed: None }
    }
}

//! Distribution of batches to requests and brokers: due batches of all partitions of a broker share a request (P8), at most one
//! of each partition (P7); each channel of a broker has a limit. No rows, no windows: sizes and names in, requests out.

mod node;

use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::node::{End, Node};
use super::error::TIMED_OUT;
use super::{Key, Settings};
use crate::types::{NodeId, ProduceBatch, ProduceRequest, ProduceResult};
use forebay_base::rules::Rules;
use forebay_runtime::seam::Monotonic;

/// Maximum number of unused lists of entries.
const SPARE_MAX: usize = 1024;

/// A batch in a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) serial: u64,
    /// Whether the batch had been sent before.
    pub(super) again: bool,
    /// The life of the topic that the batch was sent to (see `Topic::life`).
    pub(super) life: u32,
    /// The leader's epoch as known then; -1: not known.
    pub(super) leader_epoch: i32,
}

/// An unanswered request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) node: NodeId,
    /// Patience of all its partitions (see `patience`).
    pub(super) patience: u8,
    pub(super) entries: Vec<Entry>,
    /// Whether a broker ended the connection while this was its oldest unanswered request.
    pub(super) hung_up: bool,
}

/// The way of a request, with its patience: batches of different patience wait differently, so they are in different requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) node: NodeId,
    pub(super) patience: u8,
}

impl Route {
    const fn is_slow(self) -> bool {
        self.patience > 0
    }
}

/// Common terms of all batches of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestTerms {
    pub(super) route: Route,
    pub(super) acks: i16,
    /// The sink, if its topic is also another sink's.
    pub(super) only: Option<usize>,
}

/// A request that batches are added to.
#[derive(Clone, Copy, Debug)]
struct Load {
    terms: RequestTerms,
    /// Index among the requests of this poll.
    out: usize,
    bytes: usize,
}

/// A request that is over.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) request: Request,
    /// Whether it was answered within the time that the first channel expects.
    pub(super) in_time: bool,
    /// The end of the pause that the broker asked for.
    pub(super) throttled_until: Option<Monotonic>,
}

/// Maximum throttle time honored: an absurd one must not silence a broker for weeks.
const THROTTLE_MAX: Duration = Duration::from_secs(300);

/// The requests to all brokers: due batches, waiting partitions, and unanswered requests.
#[derive(Debug)]
pub(super) struct Dispatcher {
    rules: &'static dyn Rules,
    acks_timeout: Duration,
    requests_per_node_max: usize,
    request_bytes_max: usize,
    nodes: Vec<Node>,
    requests: HashMap<u64, Request, RandomState>,
    begun: u64,
    /// Partitions that use the second channel.
    pub(super) slow_partitions: u64,
    /// Requests that batches are added to in this wave.
    loads: Vec<Load>,
    spare: Vec<Vec<Entry>>,
}

impl Dispatcher {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            rules: settings.rules,
            acks_timeout: settings.acks_timeout,
            requests_per_node_max: settings.requests_per_node_max,
            request_bytes_max: settings.request_bytes_max,
            nodes: Vec::new(),
            requests: HashMap::default(),
            begun: 0,
            slow_partitions: 0,
            loads: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The number of unanswered requests.
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Notes that a broker ended the connection while this was its oldest unanswered request.
    pub(super) fn hung_up(&mut self, id: u64) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.hung_up = true;
        }
    }

    /// Lowers the maximum size, in bytes, of requests with several batches.
    pub(super) fn narrow(&mut self, bytes: usize) {
        self.request_bytes_max = self.request_bytes_max.min(bytes);
    }

    /// Begins a poll, with new requests.
    pub(super) fn begin(&mut self) {
        self.loads.clear();
    }

    /// Begins a wave: each partition may add a batch, and requests that have one of it take no more.
    pub(super) fn begin_wave(&mut self) {
        if self.rules.takes_one_batch_per_partition() {
            self.loads.clear();
        }
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.id == id)
    }

    /// Whether a broker has room for a request.
    pub(super) fn has_room(&self, route: Route, now: Monotonic) -> bool {
        let node = self.nodes.iter().find(|node| node.id == route.node);
        node.is_none_or(|node| node.has_room(route.is_slow(), self.requests_per_node_max, now))
    }

    /// The request of this wave that a batch goes into. `None`: the broker has no room.
    pub(super) fn request_for(
        &mut self,
        terms: RequestTerms,
        bytes: usize,
        now: Monotonic,
        out: &mut Vec<ProduceRequest>,
    ) -> Option<usize> {
        let (rules, bytes_max) = (self.rules, self.request_bytes_max);
        let fits = |load: &Load| load.terms == terms && rules.shares_request(load.bytes, bytes, bytes_max);
        if let Some(index) = self.loads.iter().position(fits) {
            return Some(index);
        }
        let Route { node, patience } = terms.route;
        let (slow, base) = (terms.route.is_slow(), self.acks_timeout);
        let index = self.nodes.iter().position(|known| known.id == node).unwrap_or_else(|| {
            self.nodes.push(Node::new(node, base));
            self.nodes.len() - 1
        });
        let broker = &mut self.nodes[index];
        if !broker.has_room(slow, self.requests_per_node_max, now) {
            return None;
        }
        let timeout = broker.acks_timeout(patience, base);
        broker.sent(slow, now);
        self.begun += 1;
        let entries = self.spare.pop().unwrap_or_default();
        self.requests.insert(self.begun, Request { node, patience, entries, hung_up: false });
        self.loads.push(Load { terms, out: out.len(), bytes: 0 });
        let (acks, timeout_ms) = (terms.acks, i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
        out.push(ProduceRequest { id: self.begun, node, slow, acks, timeout_ms, batches: Vec::new() });
        Some(self.loads.len() - 1)
    }

    /// Adds a batch to a request of this wave. Returns whether it is the first one there.
    pub(super) fn add(&mut self, load: usize, entry: Entry, batch: ProduceBatch, out: &mut [ProduceRequest]) -> bool {
        let load = &mut self.loads[load];
        load.bytes += batch.bytes.len();
        let request = &mut out[load.out];
        if let Some(entered) = self.requests.get_mut(&request.id) {
            entered.entries.push(entry);
        }
        request.batches.push(batch);
        request.batches.len() == 1
    }

    /// Leaves a partition waiting for room on its channel. `false`: there is no such broker.
    pub(super) fn wait(&mut self, route: Route, key: Key) -> bool {
        let Some(node) = self.node_mut(route.node) else { return false };
        node.channels[usize::from(route.is_slow())].waiting.push(key);
        true
    }

    /// Ends a request: its channel has room for another, and the partitions that wait for it are moved to `ready`. `answer`: its
    /// results and `throttle_ms`, if there was one.
    pub(super) fn over(
        &mut self,
        id: u64,
        answer: Option<(&[ProduceResult], i32)>,
        now: Monotonic,
        ready: &mut Vec<Key>,
    ) -> Option<Over> {
        let request = self.requests.remove(&id)?;
        let slow = request.patience > 0;
        let end = match answer {
            Some((results, _)) if results.iter().any(|result| result.error == TIMED_OUT) => End::Held,
            Some(_) if !request.entries.iter().any(|entry| entry.again) => End::Taken,
            _ => End::Other,
        };
        let (mut in_time, mut throttled_until) = (false, None);
        if let Some(node) = self.node_mut(request.node) {
            in_time = node.over(slow, end, now);
            if let Ok(throttle @ 1..) = u64::try_from(answer.map_or(0, |(_, throttle_ms)| throttle_ms)) {
                node.throttled_until = now.after(Duration::from_millis(throttle).min(THROTTLE_MAX));
                throttled_until = Some(node.throttled_until);
            }
            ready.append(&mut node.channels[usize::from(slow)].waiting);
        }
        Some(Over { request, in_time, throttled_until })
    }

    /// Handles the end of a throttle pause: the partitions that waited for it are moved to `ready`.
    pub(super) fn wake(&mut self, id: NodeId, ready: &mut Vec<Key>) {
        if let Some(node) = self.node_mut(id) {
            node.channels.iter_mut().for_each(|channel| ready.append(&mut channel.waiting));
        }
    }

    /// Keeps the entry list of an ended request for reuse.
    pub(super) fn keep(&mut self, mut entries: Vec<Entry>) {
        entries.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(entries);
        }
    }
}

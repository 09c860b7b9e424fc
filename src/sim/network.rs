//! The network between producer and brokers: two connections to each broker (its lanes), each with requests and answers in order, cut at random. Requests in
//! flight on a connection that was cut stay alive: they reach the broker later, in order, or never.

use std::collections::VecDeque;
use std::time::Duration;

use super::kafka::{Appended, Cluster, Wait};
use super::plan::{Fault, NODES, Plan};
use crate::kafka::types::{NodeId, ProduceBatch, ProduceRequest, ProduceResult};
use crate::runtime::seam::Monotonic;

/// An answer or a failure on its way to the producer.
#[derive(Debug)]
pub(super) enum Back {
    Produced(u64, Vec<ProduceResult>, i32),
    Failed(u64, bool),
}

/// A request that a broker has begun. The broker answers all of it at once, and begins no other on that connection
/// before.
#[derive(Debug)]
struct Begun {
    request: ProduceRequest,
    parts: Vec<Appended>,
    until: Monotonic,
}

#[derive(Debug, Default)]
struct Connection {
    sent: VecDeque<ProduceRequest>,
    begun: Option<Begun>,
    answers: VecDeque<Back>,
}

/// The network between producer and brokers.
#[derive(Debug)]
pub(super) struct Network {
    /// Connections by [`way`].
    connections: Vec<Connection>,
    /// Remaining requests of connections that were cut.
    old: Vec<(NodeId, VecDeque<ProduceRequest>)>,
}

/// Number of connections.
pub(super) const WAYS: usize = 2 * NODES;

/// The connection to a broker over its first or second lane.
pub(super) const fn way(node: usize, slow: bool) -> usize {
    2 * node + slow as usize
}

/// The surroundings of a broker at work.
pub(super) struct Place<'a> {
    pub(super) kafka: &'a mut Cluster,
    pub(super) plan: &'a Plan,
    pub(super) rng: &'a mut fastrand::Rng,
    pub(super) now: Monotonic,
    pub(super) wall_ms: i64,
    /// Whether faults happen.
    pub(super) rough: bool,
}

impl Place<'_> {
    fn draws(&mut self, fault: Fault) -> bool {
        self.rough && self.plan.draws(fault, self.rng)
    }

    fn produce(&mut self, request: &ProduceRequest, batch: &ProduceBatch, late: bool) -> Appended {
        // P7: two batches of a partition in one request.
        let twin = |other: &&ProduceBatch| other.topic == batch.topic && other.partition == batch.partition;
        if request.batches.iter().filter(twin).count() > 1 {
            return Appended::Answer(87, -1);
        }
        // Batches without a topic id make the whole request go by name.
        let named = request.batches.iter().any(|batch| batch.topic_id == 0);
        if !named && self.kafka.is_other(&batch.topic, batch.topic_id) {
            return Appended::Answer(100, -1);
        }
        if self.draws(Fault::Before) {
            let codes: [i16; 7] = [2, 3, 5, 19, 56, 74, 89];
            return Appended::Answer(codes[self.rng.usize(..codes.len())], -1);
        }
        let appended = self.kafka.produce(request.node, batch, request.acks, (self.wall_ms, late));
        match appended {
            Appended::Answer(0, _) if self.draws(Fault::After) => {
                let codes: [i16; 4] = [6, 7, 20, -1];
                Appended::Answer(codes[self.rng.usize(..codes.len())], -1)
            }
            other => other,
        }
    }
}

impl Network {
    pub(super) fn new() -> Self {
        Self { connections: (0..WAYS).map(|_| Connection::default()).collect(), old: Vec::new() }
    }

    pub(super) fn send(&mut self, request: ProduceRequest) {
        let connection = &mut self.connections[way(request.node.0 as usize, request.slow)];
        if request.acks == 0 {
            // The request counts as written, and there is no other answer to it.
            connection.answers.push_back(Back::Produced(request.id, results(&request, |_| (0, -1)), 0));
        }
        connection.sent.push_back(request);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.connections.iter().all(|at| at.sent.is_empty() && at.begun.is_none() && at.answers.is_empty())
    }

    /// Lets a broker continue with the requests of its connection.
    pub(super) fn handle(&mut self, way: usize, place: &mut Place<'_>) {
        let connection = &mut self.connections[way];
        if connection.begun.is_none()
            && let Some(request) = connection.sent.pop_front()
        {
            let parts = request.batches.iter().map(|batch| place.produce(&request, batch, false)).collect();
            let until = place.now.after(Duration::from_millis(request.timeout_ms as u64));
            connection.begun = Some(Begun { request, parts, until });
        }
        let Some(begun) = connection.begun.as_mut() else { return };
        let over = begun.until <= place.now;
        for part in &mut begun.parts {
            if let Appended::Wait(wait) = *part
                && let Some((code, offset)) = waited(place.kafka, begun.request.node, wait, over)
            {
                *part = Appended::Answer(code, offset);
            }
        }
        if begun.parts.iter().any(|part| matches!(part, Appended::Wait(_))) {
            return;
        }
        let Some(Begun { request, parts, .. }) = connection.begun.take() else { return };
        if request.acks == 0 {
            return;
        }
        let mut results =
            results(&request, |i| if let Appended::Answer(code, at) = parts[i] { (code, at) } else { (7, -1) });
        if place.draws(Fault::Jumbled) {
            if place.rng.bool() {
                results.pop();
            }
            place.rng.shuffle(&mut results);
        }
        let throttle_ms = if place.draws(Fault::Throttle) { place.rng.i32(1..200) } else { 0 };
        connection.answers.push_back(Back::Produced(request.id, results, throttle_ms));
    }

    /// The deadline of the broker that stops waiting for followers first.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.connections.iter().filter_map(|at| at.begun.as_ref()).map(|begun| begun.until).min()
    }

    /// Takes the next answer for the producer.
    pub(super) fn receive(&mut self, way: usize) -> Option<Back> {
        self.connections[way].answers.pop_front()
    }

    /// Cuts a connection: everything on it fails, oldest first. Requests that the broker already has are carried out
    /// late.
    pub(super) fn cut(&mut self, way: usize, rng: &mut fastrand::Rng) -> Vec<Back> {
        let Connection { mut sent, begun, answers } = std::mem::take(&mut self.connections[way]);
        let failed = |back| match back {
            Back::Produced(id, ..) | Back::Failed(id, _) => Back::Failed(id, true),
        };
        let mut backs: Vec<_> = answers.into_iter().map(failed).collect();
        backs.extend(begun.filter(|begun| begun.request.acks != 0).map(|begun| Back::Failed(begun.request.id, true)));
        let written = rng.usize(..=sent.len());
        let numbered = sent.iter().enumerate().filter(|(_, request)| request.acks != 0);
        backs.extend(numbered.map(|(i, request)| Back::Failed(request.id, i < written)));
        sent.truncate(rng.usize(..=written));
        if !sent.is_empty() {
            self.old.push((NodeId((way / 2) as i32), sent));
        }
        backs
    }

    /// Carries out the next request of a connection that was cut. Returns its number.
    pub(super) fn carry_out_late(&mut self, place: &mut Place<'_>) -> Option<u64> {
        if self.old.is_empty() {
            return None;
        }
        let index = place.rng.usize(..self.old.len());
        let late = self.old[index].1.pop_front();
        if self.old[index].1.is_empty() {
            self.old.swap_remove(index);
        }
        let request = late?;
        for batch in &request.batches {
            place.produce(&request, batch, true);
        }
        Some(request.id)
    }

    /// Drops the requests that a stopping broker has not begun.
    pub(super) fn stop(&mut self, node: usize) {
        self.old.retain(|(of, _)| of.0 as usize != node);
    }
}

fn waited(kafka: &Cluster, node: NodeId, wait: Wait, over: bool) -> Option<(i16, i64)> {
    kafka.waited(node, wait).or(if over { Some((7, -1)) } else { None })
}

fn results(request: &ProduceRequest, answer: impl Fn(usize) -> (i16, i64)) -> Vec<ProduceResult> {
    let one = |(i, batch): (usize, &ProduceBatch)| {
        let (error, base_offset) = answer(i);
        ProduceResult { topic: batch.topic.clone(), partition: batch.partition, error, base_offset }
    };
    request.batches.iter().enumerate().map(one).collect()
}

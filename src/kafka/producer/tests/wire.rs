//! The wire of the simulation: one connection for each broker, requests and answers in order, cut at will. What was
//! under way when it was cut may still reach the broker, later, or never.

use std::collections::VecDeque;

use super::kafka::Kafka;
use crate::kafka::types::{NodeId, ProduceRequest, ProduceResult};

/// What the faults of a schedule do, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// A batch gets a retriable error before it is appended.
    pub(super) before: u32,
    /// A batch is appended and answered 7 or 20.
    pub(super) after: u32,
}

#[derive(Debug, Default)]
struct Connection {
    sent: VecDeque<ProduceRequest>,
    answers: VecDeque<(u64, Vec<ProduceResult>)>,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Wire {
    connections: Vec<Connection>,
    /// Requests of connections that are gone.
    ghosts: Vec<ProduceRequest>,
}

/// What comes back.
#[derive(Debug)]
pub(super) enum Back {
    Produced(u64, Vec<ProduceResult>),
    Failed(u64, bool),
}

impl Wire {
    pub(super) fn new(nodes: usize) -> Self {
        Self { connections: (0..nodes).map(|_| Connection::default()).collect(), ghosts: Vec::new() }
    }

    pub(super) fn send(&mut self, request: ProduceRequest) {
        // P7, and what the client is promised about topics.
        let mut seen: Vec<(&str, i32)> = Vec::new();
        for (i, batch) in request.batches.iter().enumerate() {
            let place = (&*batch.topic, batch.partition);
            assert!(!seen.contains(&place), "two batches of {place:?} in one request");
            let together = i == 0 || seen[i - 1].0 == place.0 || seen.iter().all(|(topic, _)| *topic != place.0);
            assert!(together, "batches of a topic stand together");
            seen.push(place);
        }
        assert!(!request.batches.is_empty());
        self.connections[request.node.0 as usize].sent.push_back(request);
    }

    /// A broker takes the next request and queues its answer.
    pub(super) fn handle(&mut self, node: usize, kafka: &mut Kafka, faults: Faults, rng: &mut fastrand::Rng) {
        if let Some(request) = self.connections[node].sent.pop_front() {
            let results = answer(&request, kafka, faults, rng);
            self.connections[node].answers.push_back((request.id, results));
        }
    }

    /// A request of a cut connection reaches its broker after all.
    pub(super) fn ghost(&mut self, kafka: &mut Kafka, faults: Faults, rng: &mut fastrand::Rng) {
        if !self.ghosts.is_empty() {
            let ghost = self.ghosts.remove(rng.usize(..self.ghosts.len()));
            answer(&ghost, kafka, faults, rng);
        }
    }

    pub(super) fn receive(&mut self, node: usize) -> Option<Back> {
        let (id, results) = self.connections[node].answers.pop_front()?;
        Some(Back::Produced(id, results))
    }

    /// Cuts a connection: everything on it fails, in order.
    pub(super) fn cut(&mut self, node: usize, rng: &mut fastrand::Rng) -> Vec<Back> {
        let connection = std::mem::take(&mut self.connections[node]);
        let mut back: Vec<_> = connection.answers.iter().map(|(id, _)| Back::Failed(*id, true)).collect();
        for request in connection.sent {
            let sent = rng.bool();
            back.push(Back::Failed(request.id, sent));
            if sent && rng.bool() {
                self.ghosts.push(request);
            }
        }
        back
    }

    /// A broker that stops takes with it what it has not handled.
    pub(super) fn lay_ghosts(&mut self, node: NodeId) {
        self.ghosts.retain(|ghost| ghost.node != node);
    }
}

fn answer(request: &ProduceRequest, kafka: &mut Kafka, faults: Faults, rng: &mut fastrand::Rng) -> Vec<ProduceResult> {
    let mut one = |batch: &crate::kafka::types::ProduceBatch| {
        let (error, base_offset) = if rng.u32(..100) < faults.before {
            (*rng.choice(&[2, 3, 5, 19, 56]).expect("one"), -1)
        } else {
            let (error, offset) = kafka.produce(request.node, &batch.topic, batch.partition, &batch.bytes);
            let late = error == 0 && rng.u32(..100) < faults.after;
            if late { (*rng.choice(&[6, 7, 20, -1]).expect("one"), -1) } else { (error, offset) }
        };
        ProduceResult { topic: batch.topic.clone(), partition: batch.partition, error, base_offset }
    };
    request.batches.iter().map(&mut one).collect()
}

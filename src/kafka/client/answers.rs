//! What an answer changes: the versions of its connection, the brokers, the topics, and what the producer is told.

use std::collections::btree_map::Entry;

use super::answer::Metadata;
use super::api::Negotiated;
use super::connection::{Answer, Asked};
use super::lane::{Owner, Way};
use super::{Client, Effect};
use crate::kafka::types::{ClientEvent, ProduceRequest, TopicMetadata};
use crate::outward::Endpoint;
use crate::runtime::seam::Monotonic;

impl Client {
    /// A whole answer came.
    ///
    /// # Errors
    /// Why the connection is of no more use.
    pub(super) fn on_answer(&mut self, owner: Owner, frame: &[u8], now: Monotonic) -> Result<(), String> {
        let Some((lane, _)) = self.lane(owner) else { return Ok(()) };
        let Some(connection) = lane.connection() else { return Ok(()) };
        let (answer, extra) = match connection.read(frame) {
            Ok(read) => read,
            Err(malformed) => {
                if let Owner::Ask(node) = owner {
                    self.unreadable(node);
                }
                return Err(malformed.to_string());
            }
        };
        let asked = connection.answered(&answer, now);
        self.hands.stats.throttles += u64::from(answer.throttle_ms() > 0);
        self.hands.stats.with_extra += u64::from(extra > 0);
        match (answer, asked) {
            (Answer::ApiVersions(negotiated), _) => self.on_versions(owner, negotiated, now),
            (Answer::Metadata(metadata), Some(Asked::Metadata(_))) if owner != Owner::Metadata => {
                self.on_introduced(owner, metadata.cluster, now);
                Ok(())
            }
            (Answer::Metadata(metadata), Some(Asked::Metadata(topics))) => {
                if metadata.brokers.is_empty() {
                    self.topics.unanswered(&topics, now);
                    return Err("it knows no brokers".to_owned());
                }
                self.topics.answered(&topics, &metadata.topics, &self.hands.settings, &mut self.hands.rng, now);
                self.on_metadata(metadata, now);
                Ok(())
            }
            (Answer::ProducerId(answer), Some(Asked::ProducerId(token))) => {
                if answer.error != 0 {
                    let bounds = self.hands.settings.retry();
                    if self.producer_ids.refused(token, bounds, &mut self.hands.rng, now) {
                        tracing::debug!(error = answer.error, "Kafka gave no producer id yet");
                    }
                } else if self.producer_ids.granted(token) {
                    self.hands.event(ClientEvent::ProducerId { token, id: answer.id, epoch: answer.epoch });
                }
                Ok(())
            }
            (Answer::Produced(results, throttle_ms), Some(Asked::Produce(id, _))) => {
                if let Some((lane, hands)) = self.lane(owner) {
                    lane.works(hands);
                }
                self.hands.event(ClientEvent::Produced { id, results, throttle_ms });
                Ok(())
            }
            (Answer::Log(answer, _), Some(Asked::Log(search))) => {
                if let Owner::Ask(node) = owner {
                    self.on_log(node, search, answer, now);
                }
                Ok(())
            }
            (Answer::SaslHandshake(error, mechanisms), Some(Asked::SaslHandshake)) => {
                self.on_handshake(owner, error, &mechanisms, now);
                Ok(())
            }
            (Answer::SaslAuthenticate(answer), Some(Asked::SaslAuthenticate)) => {
                self.on_authenticated(owner, answer, now);
                Ok(())
            }
            // `read` answers in the kind that was asked.
            _ => Err("answer of another kind".to_owned()),
        }
    }

    fn on_versions(&mut self, owner: Owner, negotiated: Negotiated, now: Monotonic) -> Result<(), String> {
        let Some((lane, hands)) = self.lane(owner) else { return Ok(()) };
        match negotiated {
            Negotiated::Settled(versions, _) => {
                lane.settled(versions);
                self.log_in(owner, now)
            }
            Negotiated::AskV0 => {
                let settings = &hands.settings;
                let asked = lane
                    .connection()
                    .is_some_and(|connection| connection.ask_versions(0, settings, now, &mut hands.effects));
                if asked { Ok(()) } else { Err("ApiVersions cannot be asked".to_owned()) }
            }
            Negotiated::Refused(error) => Err(format!("ApiVersions was refused with error {error}")),
            Negotiated::NothingCommon(api) => Err(format!("it supports no version of {api:?} that Forebay supports")),
        }
    }

    fn on_metadata(&mut self, metadata: Metadata, now: Monotonic) {
        self.metadata.works(&mut self.hands);
        self.tried = 0;
        if let Some(id) = metadata.cluster.filter(|id| self.cluster.as_ref() != Some(id)) {
            self.begin_cluster(id, now);
        }
        self.brokers = metadata
            .brokers
            .into_iter()
            .map(|broker| (broker.node, Endpoint { host: broker.host, port: broker.port }))
            .collect();
        let (brokers, bootstrap) = (&self.brokers, &self.bootstrap);
        self.hands.trouble_over(|gone| !bootstrap.contains(gone) && !brokers.values().any(|broker| broker == gone));
        let topics: Vec<TopicMetadata> = metadata.topics.into_iter().flatten().collect();
        // The news stands before the requests that it gives back: the producer should know where to send them.
        let place = self.hands.effects.len();
        for way in self.ways() {
            self.follow(way, &topics, now);
        }
        if !topics.is_empty() {
            self.hands.effects.insert(place, Effect::Event(ClientEvent::Metadata(topics)));
        }
    }

    /// A produce lane after fresh metadata: its broker may be gone or elsewhere, and what waits may belong to another.
    fn follow(&mut self, way: Way, topics: &[TopicMetadata], now: Monotonic) {
        let Entry::Occupied(mut entry) = self.lanes.entry(way) else { return };
        let lane = entry.get_mut();
        let Some(endpoint) = self.brokers.get(&way.node) else {
            let queue = std::mem::take(&mut lane.queue);
            // A connection that stands may still bring answers; it goes when it has none to bring.
            if lane.lane.ready_ref().is_none_or(|connection| connection.in_flight() == 0) {
                entry.remove().lane.down(now, &mut self.hands);
            }
            self.give_back(queue.into_iter());
            return;
        };
        let moved = lane.lane.endpoint != *endpoint;
        lane.lane.endpoint.clone_from(endpoint);
        if moved && lane.lane.ready_ref().is_none() {
            // Nothing was sent on it: what waits stays, and goes the new way.
            lane.lane.down(now, &mut self.hands);
            lane.lane.backoff.reset();
        }
        if lane.queue.iter().any(|request| is_misplaced(request, topics)) {
            // All of it goes back, or what is behind would overtake.
            let queue = std::mem::take(&mut lane.queue);
            self.give_back(queue.into_iter());
        }
        self.pump_produce(way, now);
    }
}

/// Whether fresh metadata names another leader (or none) for any of its batches.
fn is_misplaced(request: &ProduceRequest, topics: &[TopicMetadata]) -> bool {
    request.batches.iter().any(|batch| {
        let Ok(at) = topics.binary_search_by(|topic| topic.name.cmp(&batch.topic)) else { return false };
        let topic = &topics[at];
        let leader = usize::try_from(batch.partition).ok().and_then(|partition| topic.leaders.get(partition));
        topic.error == 0 && leader.is_none_or(|leader| *leader != Some(request.node))
    })
}

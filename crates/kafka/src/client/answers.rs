//! Answers and their effects: on the versions of the connection, the brokers, the topics, and the producer.

use std::collections::btree_map::Entry;

use super::answer::Metadata;
use super::api::Negotiated;
use super::connection::{Answer, Asked};
use super::frame::Frame;
use super::{Client, Effect, Owner, Way};
use crate::fetch::FetchFailure;
use crate::types::{ClientEvent, ProduceRequest, TopicMetadata};
use forebay_guard::outward::Endpoint;
use forebay_runtime::seam::Monotonic;

impl Client {
    /// Takes a complete answer.
    ///
    /// # Errors
    /// The reason why the connection cannot be used any more.
    pub(super) fn on_answer(&mut self, owner: Owner, frame: Frame<'_>, now: Monotonic) -> Result<(), String> {
        let Some((channel, _)) = self.channel(owner) else { return Ok(()) };
        let Some(connection) = channel.connection() else { return Ok(()) };
        let (answer, extra) = match connection.read(&frame) {
            Ok(read) => read,
            Err(malformed) => {
                if let Owner::Ask(node) = owner {
                    self.unreadable(node);
                }
                if let Owner::Fetch(way) = owner {
                    self.fetch_unusable(way, FetchFailure::Malformed);
                }
                return Err(malformed.to_string());
            }
        };
        let asked = connection.answered(&answer, now);
        self.shared.stats.throttles += u64::from(answer.throttle_ms() > 0);
        self.shared.stats.with_extra += u64::from(extra > 0);
        match (answer, asked) {
            (Answer::ApiVersions(negotiated), _) => return self.on_versions(owner, negotiated, now),
            (Answer::Metadata(metadata), Some(Asked::Metadata(_))) if owner != Owner::Metadata => {
                self.on_introduced(owner, metadata.cluster, now);
            }
            (Answer::Metadata(metadata), Some(Asked::Metadata(topics))) => {
                if metadata.brokers.is_empty() {
                    self.topics.unanswered(&topics, now);
                    return Err("it knows no brokers".to_owned());
                }
                self.topics.answered(&topics, &metadata.topics, &self.shared.settings, &mut self.shared.rng, now);
                self.on_metadata(metadata, now);
            }
            (Answer::ProducerId(answer), Some(Asked::ProducerId(token))) => {
                if answer.error != 0 {
                    let bounds = self.shared.settings.retry();
                    if self.producer_ids.refused(token, bounds, &mut self.shared.rng, now) {
                        tracing::debug!(error = answer.error, "Kafka gave no producer id yet");
                    }
                } else if self.producer_ids.granted(token) {
                    self.shared.event(ClientEvent::ProducerId { token, id: answer.id, epoch: answer.epoch });
                }
            }
            (Answer::Produced(results, throttle_ms), Some(Asked::Produce(id, _))) => {
                if let Some((channel, shared)) = self.channel(owner) {
                    channel.works(shared);
                }
                self.shared.event(ClientEvent::Produced { id, results, throttle_ms });
            }
            (Answer::Log(answer, _), Some(Asked::Log(search))) => {
                if let Owner::Ask(node) = owner {
                    self.on_log(node, search, answer, now);
                }
            }
            (Answer::Member(told), Some(Asked::Member(request))) => self.on_member(owner, &request, told, now),
            (Answer::Fetch(answer, _), Some(Asked::Fetch(call))) => {
                if let Owner::Fetch(way) = owner {
                    self.on_fetch(way, call.id, answer, frame, now);
                }
            }
            (Answer::SaslHandshake(error, mechanisms), _) => self.on_handshake(owner, error, &mechanisms, now),
            (Answer::SaslAuthenticate(answer), _) => self.on_authenticated(owner, answer, now),
            // `read` returns the kind that was requested.
            _ => return Err("answer of another kind".to_owned()),
        }
        Ok(())
    }

    fn on_versions(&mut self, owner: Owner, negotiated: Negotiated, now: Monotonic) -> Result<(), String> {
        let Some((channel, shared)) = self.channel(owner) else { return Ok(()) };
        let Some(connection) = channel.connection() else { return Ok(()) };
        match negotiated {
            Negotiated::Settled(versions, _) => {
                connection.versions = Some(versions);
                self.log_in(owner, now)
            }
            Negotiated::AskV0 => connection.ask_versions(0, shared, now),
            Negotiated::Refused(error) => Err(format!("ApiVersions was refused with error {error}")),
            Negotiated::NothingCommon(api) => Err(format!("it supports no version of {api:?} that Forebay supports")),
        }
    }

    fn on_metadata(&mut self, metadata: Metadata, now: Monotonic) {
        self.metadata.works(&mut self.shared);
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
        self.shared.trouble_over(|gone| !bootstrap.contains(gone) && !brokers.values().any(|broker| broker == gone));
        let topics: Vec<TopicMetadata> = metadata.topics.into_iter().flatten().collect();
        // The event precedes the requests that it gives back: the producer should know the new leaders.
        let place = self.shared.effects.len();
        for way in self.ways() {
            self.follow(way, &topics, now);
        }
        if !topics.is_empty() {
            self.shared.effects.insert(place, Effect::Event(ClientEvent::Metadata(topics)));
        }
    }

    /// Moves a produce channel after fresh metadata: its broker may be gone or elsewhere, and waiting requests may belong to another.
    fn follow(&mut self, way: Way, topics: &[TopicMetadata], now: Monotonic) {
        let Entry::Occupied(mut entry) = self.channels.entry(way) else { return };
        let channel = entry.get_mut();
        let Some(endpoint) = self.brokers.get(&way.node) else {
            let queue = std::mem::take(&mut channel.queue);
            // An established connection may still deliver answers; it is closed when none is pending.
            if channel.channel.ready_ref().is_none_or(|connection| connection.in_flight() == 0) {
                entry.remove().channel.down(now, &mut self.shared);
            }
            self.give_back(queue.into_iter());
            return;
        };
        let moved = channel.channel.endpoint != *endpoint;
        channel.channel.endpoint.clone_from(endpoint);
        if moved && channel.channel.ready_ref().is_none() {
            // Nothing was sent on the connection: waiting requests stay, and use the new one.
            channel.channel.down(now, &mut self.shared);
            channel.channel.backoff.reset();
        }
        if channel.queue.iter().any(|request| is_misplaced(request, topics)) {
            // All requests are given back: otherwise later ones would overtake.
            let queue = std::mem::take(&mut channel.queue);
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

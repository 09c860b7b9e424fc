//! The sending of slots' rows to Kafka: the producers of slots write to the logs of their slots and share the cluster's connections. IDs of their requests
//! and questions identify the producer.

use std::collections::BTreeMap;

use forebay_broker::logs::Kept;
use forebay_broker::numbers::Numbers;
use forebay_broker::words::Owner;
use forebay_kafka::client::Client;
use forebay_kafka::producer::Want;
use forebay_kafka::types::{ClientEvent, Outcome, SinkId};
use forebay_metrics::spec::ClusterMetric;
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_session::{Reason, SessionKey, Sessions};

use super::super::kafka_disk::KafkaDisk;
use super::{Sender, SlotRows, route_of};

/// The highest bits of IDs of these producers. Those of logs of sessions have the highest bit, others neither.
const OURS: u64 = 1 << 62;
/// The bits of an id below the number of its producer.
const ID_BITS: u32 = 40;
/// The count after which numbers of producers wrap.
const NUMBERS: u64 = 1 << (62 - ID_BITS);

/// The ID of a request outside of its producer.
const fn outside(sender: u64, id: u64) -> u64 {
    OURS | ((sender % NUMBERS) << ID_BITS) | (id & ((1 << ID_BITS) - 1))
}

/// The number of the producer of an ID, and the producer's own ID. `None`: the ID is of no such producer.
const fn inside(id: u64) -> Option<(u64, u64)> {
    if id >> 62 == 1 { Some(((id >> ID_BITS) & (NUMBERS - 1), id & ((1 << ID_BITS) - 1))) } else { None }
}

/// The sessions that answers are for.
pub(crate) struct Answered<'a> {
    pub(crate) sessions: &'a mut Sessions,
    /// Sessions that may have answers for their clients.
    pub(crate) touched: &'a mut Vec<SessionKey>,
}

impl Sender {
    /// Passes the producer's requests to the client. Returns whether there were any.
    fn hand_over(&mut self, client: &mut Client, now: Monotonic) -> bool {
        let (number, mut any) = (self.number, false);
        self.producer.drain_wants(|want| {
            any = true;
            match want {
                Want::Metadata(topic) => client.want_metadata(&topic, now),
                // Other producers write there.
                Want::Forget(_) => {}
                Want::ProducerId(token) => client.want_producer_id(outside(number, token), now),
                Want::Refresh => client.refresh_metadata(now),
                Want::Ask(mut question) => {
                    question.token = outside(number, question.token);
                    client.ask(question, now);
                }
            }
        });
        any
    }

    /// Gives sessions the answers that are due: the log has their messages.
    fn settle(&mut self, answered: &mut Answered<'_>) {
        self.producer.drain_landed(|run, outcome, _| {
            let Owner::Session(key) = Owner::of(run.session) else { return };
            let Some(session) = answered.sessions.get_mut(key) else { return };
            let reason = match outcome {
                Outcome::Delivered | Outcome::DeadLettered => Reason::Success,
                Outcome::LOST => Reason::RecordLost,
                Outcome::Refused(_) => Reason::KafkaRejected,
            };
            session.complete(run.first, run.count, reason);
            if answered.touched.last() != Some(&key) {
                answered.touched.push(key);
            }
        });
    }
}

impl SlotRows {
    /// Calls `give` with the producer of this number, if it still exists.
    fn with(&mut self, number: u64, give: impl FnOnce(&mut Sender)) {
        if let Some(sender) = self.senders.values_mut().find(|sender| sender.number % NUMBERS == number) {
            sender.is_busy = true;
            give(sender);
        }
    }

    /// Takes an event of a cluster's client. `true`: it was for one of these producers alone.
    pub(crate) fn takes(
        &mut self,
        (cluster, event): (usize, &ClientEvent),
        numbers: &mut Numbers,
        now: Monotonic,
    ) -> bool {
        if cluster != self.cluster {
            return false;
        }
        match event {
            ClientEvent::Produced { id, results, throttle_ms } => {
                let Some((number, id)) = inside(*id) else { return false };
                numbers.count_produced(cluster, results, *throttle_ms);
                self.with(number, |of| of.producer.on_produced(id, results, *throttle_ms, now));
            }
            ClientEvent::ProduceFailed { id, sent } => {
                let Some((number, id)) = inside(*id) else { return false };
                numbers.count_cluster(cluster, ClusterMetric::RequestsUnanswered, 1);
                self.with(number, |of| of.producer.on_failed(id, *sent, now));
            }
            ClientEvent::HungUp { id } => {
                let Some((number, id)) = inside(*id) else { return false };
                self.with(number, |of| of.producer.on_hung_up(id));
            }
            ClientEvent::ProducerId { token, id, epoch } => {
                let Some((number, token)) = inside(*token) else { return false };
                self.with(number, |of| of.producer.on_producer_id(token, *id, *epoch));
            }
            ClientEvent::Asked { token, says } => {
                let Some((number, token)) = inside(*token) else { return false };
                self.with(number, |of| of.producer.on_asked(token, *says, now));
            }
            ClientEvent::Cluster(id) => {
                self.cluster_id = Some(id.clone());
                self.each(|sender| sender.producer.on_cluster(id, now));
                return false;
            }
            ClientEvent::Metadata(topics) => {
                self.each(|sender| sender.producer.on_metadata(topics, now));
                return false;
            }
            _ => return false,
        }
        true
    }

    fn each(&mut self, mut of: impl FnMut(&mut Sender)) {
        for sender in self.senders.values_mut() {
            sender.is_busy = true;
            of(sender);
        }
    }
}

impl SlotRows {
    /// Does the work of the slots' producers: rows go into the logs of their slots, and those with a durable batch to the cluster. `number_of`: the number of
    /// a sink of the configuration in the cluster's producer. Returns whether the client has new requests.
    pub(crate) fn send(
        &mut self,
        kept: &mut Kept,
        (disks, client): (&mut BTreeMap<u16, KafkaDisk>, &mut Client),
        mut answered: Answered<'_>,
        number_of: impl Fn(usize) -> Option<SinkId>,
        (now, wall): (Monotonic, WallMs),
    ) -> bool {
        let Kept::OfSlots(buffers) = kept else { return false };
        let Self { senders, routes, changed, news, requests, .. } = self;
        let (is_connected, mut has_asked) = (client.is_connected(), false);
        for (slot, sender) in senders {
            let has_changed = std::mem::replace(&mut sender.is_connected, is_connected) != is_connected;
            if has_changed {
                sender.producer.on_reachable(is_connected);
            }
            if !(std::mem::take(&mut sender.is_busy) || has_changed || sender.producer.next_deadline() <= now) {
                continue;
            }
            let (Some(buffer), Some(disk)) = (buffers.get_mut(slot), disks.get_mut(slot)) else { continue };
            sender.producer.poll_with(now, wall, &mut buffer.view(disk, 0, now, wall), requests);
            for mut request in requests.drain(..) {
                request.id = outside(sender.number, request.id);
                client.produce(request, now);
                has_asked = true;
            }
            has_asked |= sender.hand_over(client, now);
            sender.settle(&mut answered);
            let place_of = |sink: SinkId| routes.get(route_of(&routes[..], sink)).copied().map(usize::from);
            while let Some(route) = sender.producer.take_changed() {
                changed.extend(place_of(route));
            }
            sender.producer.drain_news(|mut told| {
                let route = told.sink_mut();
                if let Some(number) = place_of(*route).and_then(&number_of) {
                    *route = number;
                    news.push(told);
                }
            });
        }
        has_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_producer_and_no_other_one() {
        for (number, id) in [(1, 0), (1, 7), (NUMBERS - 1, (1 << ID_BITS) - 1)] {
            assert_eq!(inside(outside(number, id)), Some((number, id)));
        }
        for other in [0, 7, (1 << ID_BITS) + 1, forebay_fleet::replica::REQUEST, forebay_fleet::replica::REQUEST | 7] {
            assert_eq!(inside(other), None, "{other:x}");
        }
    }
}

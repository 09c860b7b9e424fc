//! A run: messages of a client that follow one of its own in the same read, with the same first byte and topic and no properties. The receivers found for the
//! first one hold for all, as nothing else happens on the shard in between. Only room is asked for each.

use forebay_broker::delivery::PublishedBy;
use forebay_broker::numbers::Routed;
use forebay_broker::words::Owner;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::decode::Again;
use forebay_mqtt::packet::{Publish, QoS};

use super::Publishing;
use super::client::{RunTo, message};
use crate::ring::Ring;
use crate::words::{Source, Used};

impl Publishing<'_> {
    /// Takes the messages at the front of `bytes` that continue the run begun by `publish` ([`super::client::Published::On`]), `first` its first byte, up to
    /// one that needs a closer look: another packet, a malformed one, one without room.
    #[inline]
    pub(crate) fn publish_run(
        &mut self,
        io: &mut Ring<'_>,
        (from, to): (Source, RunTo),
        (first, publish): (u8, &Publish<'_>),
        bytes: &[u8],
    ) -> Used {
        let (here, broker, outlets) = (&mut *self.here, &mut *self.broker, &mut *self.outlets);
        let (now, wall) = (io.now(), io.wall());
        let packet_bytes_max = here.config.mqtt.packet_bytes_max;
        let again = Again::of(from.peer.version, first, publish, packet_bytes_max);
        let mut used = Used { bytes: 0, is_cut: false };
        let Some(mut run) = broker.sessions.run(from.session, publish.qos) else { return used };
        let mut next_message = message(publish.topic, run.client_id, run.username, publish, wall);
        let (mut count, mut payload_bytes) = (0, 0);
        while run.is_open()
            && !used.is_cut
            && let Some(next) = again.next(&bytes[used.bytes..])
        {
            (next_message.packet_id, next_message.payload) = (next.packet_id, next.payload);
            let ticket = run.number().map(|number| Owner::Session(from.session).ticket(number));
            let published = || Publish { packet_id: next.packet_id, payload: next.payload, ..publish.clone() };
            if let Some(route) = to.subscribers
                && broker.delivery.find_room_again((&broker.retained, &broker.queues), route, &published()).is_err()
            {
                break;
            }
            let owed = if to.sinks {
                outlets.take_again(&mut broker.logs, &next_message, ticket, (now, wall))
            } else {
                Some(0)
            };
            let Some(owed) = owed else { break };
            run.take(next.packet_id, owed);
            count += 1;
            payload_bytes += next.payload.len();
            used.bytes += next.len;
            used.is_cut = !io.spend(1) && used.bytes < bytes.len();
            if let Some(route) = to.subscribers {
                let by = PublishedBy { session: Some(from.session), ..PublishedBy::default() };
                broker.deliver(io, here, route, &published(), by, ticket);
                let Some(again) = broker.sessions.run(from.session, publish.qos) else { break };
                run = again;
                next_message = message(publish.topic, run.client_id, run.username, publish, wall);
            }
        }
        if count > 0 {
            let of_qos = if publish.qos == QoS::AtMostOnce { M::PublishesQos0 } else { M::PublishesQos1 };
            here.numbers.raise(of_qos, count);
            here.numbers.raise(M::PublishBytes, payload_bytes as u64);
            here.numbers.count_routed(Some(from.listener), Routed::Matched, count);
        }
        used
    }
}

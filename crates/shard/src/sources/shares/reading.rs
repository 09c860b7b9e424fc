//! Records of a share's partitions, on their way to its members.

use std::sync::Arc;

use forebay_broker::Broker;
use forebay_broker::delivery::{packet_bytes, publish_of, put_packet};
use forebay_broker::here::Here;

use super::super::super::mail::Place;
use super::super::reader::Memory;
use super::super::records::{mapped_record, publish};
use super::super::window::{Parked, Window};
use super::share::GroupShare;
use super::{Context, RETRY};
use crate::ring::Ring;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::filter;
use forebay_mqtt::topic::split_shared;
use forebay_record::names::CLIENT_ID;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Claimed, is_expired};
use forebay_source::{Mapping, Scratch};

/// The state for making messages of records.
pub(super) struct Making<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) scratch: &'a mut Scratch,
}

impl GroupShare {
    /// Hands records to members as long as these have room, and the turn has time. False: the turn is over.
    pub(super) fn read(
        &mut self,
        io: &mut Ring<'_>,
        broker: &mut Broker,
        here: &mut Here,
        (context, memory): (&Context<'_>, &mut Memory),
        making: Making<'_>,
        count: &mut usize,
    ) -> bool {
        let text = Arc::clone(self.share.text());
        let Some((_, wanted)) = split_shared(&text) else { return true };
        if self.stopping.is_some() || self.parts.is_empty() || !self.share.is_present() {
            return true;
        }
        let (now, wall, rules) = (context.now, io.wall(), context.rules);
        if self.retry_at.is_some_and(|at| at <= now) && !self.offer_again(io, broker, here, now) {
            return true;
        }
        for (id, part) in self.parts.iter_mut().filter(|(_, part)| part.is_paused) {
            if part.window.as_ref().is_none_or(|window| memory.has_room_again(window, context.source)) {
                part.is_paused = false;
                self.consumer.resume(*id);
            }
        }
        while let Some(record) = self.consumer.peek() {
            let id = record.id;
            let Some(part) = self.parts.get_mut(&id) else {
                self.consumer.advance();
                continue;
            };
            let at = Place { offset: record.offset, leader_epoch: record.leader_epoch };
            let window = part.window.get_or_insert_with(|| Window::new(at));
            let number = window.next_number();
            let of = mapped_record(&part.at.topic, part.at.partition, &record);
            // Records that cannot be a message are counted by the source of the routes.
            let message = making.mapping.message(&of, wall, making.scratch);
            match message.ok().filter(|message| filter::matches(wanted, message.topic)) {
                None => {
                    window.take_up(at, 0, now);
                    window.owes(number, 0, None);
                }
                Some(message) => {
                    let (hops, publish) = (message.hops, publish(&message));
                    let client = of.header(CLIENT_ID.as_bytes()).and_then(|client| std::str::from_utf8(client).ok());
                    let claimed = Claimed { shard: here.index, reader: id, number };
                    let given =
                        broker.give_record(io, here, &self.share, &publish, (claimed, client.unwrap_or_default()));
                    let Some(owed) = given else {
                        self.retry_at.get_or_insert(now.after(RETRY));
                        return true;
                    };
                    let mut packet = Vec::new();
                    put_packet(&publish, &mut packet);
                    let held = 2 * packet_bytes(publish.topic, &publish);
                    window.take_up(at, held, now);
                    memory.used += held;
                    let parked = Parked { packet, time_ms: record.timestamp, hops, grown: 0 };
                    window.owes(number, owed, Some(Box::new(parked)));
                    here.numbers.count(M::ShareRecords);
                }
            }
            let is_full = memory.is_full(window, context.source, rules);
            self.consumer.advance();
            if is_full {
                part.is_paused = true;
                self.consumer.pause(id);
            }
            *count += 1;
            if io.is_over_after(*count) {
                return false;
            }
        }
        true
    }

    /// Offers messages again that no member has in the end. False: there is no room for them.
    fn offer_again(&mut self, io: &mut Ring<'_>, broker: &mut Broker, here: &mut Here, now: Monotonic) -> bool {
        self.retry_at = None;
        for (id, part) in &mut self.parts {
            let Some(window) = part.window.as_mut().filter(|window| window.parked() > 0) else { continue };
            let mut from = window.first();
            while let Some(number) = window.parked_from(from) {
                from = Claimed::after(number);
                let Some((parked, since)) = window.unpark(number) else { continue };
                let waited_s = u32::try_from(now.since(since).as_secs()).unwrap_or(u32::MAX);
                let Some(publish) = publish_of(&parked.packet).filter(|publish| !is_expired(publish, waited_s)) else {
                    window.owes(number, 0, None);
                    continue;
                };
                let claimed = Claimed { shard: here.index, reader: *id, number };
                let given = broker.give_record(io, here, &self.share, &publish, (claimed, ""));
                match given {
                    Some(owed) => window.owes(number, owed, Some(parked)),
                    None => {
                        window.park(number, parked);
                        self.retry_at = Some(now.after(RETRY));
                        return false;
                    }
                }
            }
        }
        true
    }
}

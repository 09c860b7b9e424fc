//! A message of QoS 2 on its way into the log of its client's slot: room is asked for before the session numbers it, and the row is taken after that.

use smallvec::SmallVec;

use forebay_broker::logs::{Kept, slot_of};
use forebay_broker::words::Stall;
use forebay_kafka::producer::row_log::Origin;
use forebay_kafka::producer::{Refusal, Row, Target, Terms, TopicId};
use forebay_kafka::types::{SinkId, Ticket};
use forebay_record::timestamp_at;
use forebay_runtime::seam::{Monotonic, WallMs};

use super::super::outlets::Outlets;
use super::super::sinks::{Message, Plan};
use super::{Sender, SlotRows};

/// The destination of an exchange's message that matches a route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ForSlot {
    /// The log of its slot, which has room.
    Row(SlotRow),
    /// The route's sink, as at QoS 1, past the log, which never takes a message that large.
    TooLarge,
    /// That of any other message: there is no log, or no route.
    Elsewhere,
    /// The message waits, and no receiver has got it.
    Waits(Stall),
}

/// The row of a message for which a slot's log has room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRow {
    slot: u16,
    route: u16,
    /// The upper bound of its bytes.
    bytes: usize,
    known: Option<TopicId>,
}

impl Sender {
    fn has_rows(&self) -> bool {
        self.producer.buffered_rows() > 0
    }

    fn has_room(&self, sink: SinkId, (known, hash): (Option<TopicId>, Option<u32>), bytes: usize) -> bool {
        self.producer.share(sink, known, bytes).is_ok()
            && self.producer.share_of_partition(known, hash, bytes).is_ok()
            && self.producer.has_room(bytes)
    }
}

/// The key of a message's record.
fn key<'a>(plan: &'a Plan, message: &Message<'a>, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    plan.key.as_ref().and_then(|key| key.value(message, scratch).ok())
}

impl Outlets {
    /// Asks the log of a slot for room for a message of an exchange, by the number of its session. `waits`: a message of the session that went past the log is
    /// not in Kafka yet.
    pub(crate) fn ask_slot(&mut self, kept: &Kept, message: &Message<'_>, session: u64, waits: bool) -> ForSlot {
        let slot = slot_of(session);
        let (Kept::OfSlots(logs), Some(rows)) = (kept, &mut self.slot_rows) else {
            return ForSlot::Elsewhere;
        };
        let SlotRows { routes, senders, cluster, .. } = &mut **rows;
        let (Some(log), Some(sender)) = (logs.get(&slot), senders.get_mut(&slot)) else { return ForSlot::Elsewhere };
        let mut matched = SmallVec::new();
        self.router.matches(message.topic, &mut matched);
        let Some(route) = routes.iter().position(|sink| matched.contains(sink)) else { return ForSlot::Elsewhere };
        let (plan, sink) = (&self.plans[usize::from(routes[route])], SinkId::of(route));
        let topic = plan.topic.as_literal().unwrap_or_default();
        let Ok(mut bytes) = plan.row_bytes_max(message) else { return ForSlot::Elsewhere };
        let mut known = sender.producer.check(sink, topic, bytes);
        if known == Err(Refusal::TooLarge) {
            let Ok(exact) = plan.row_bytes(message, &mut Vec::new()) else { return ForSlot::Elsewhere };
            bytes = exact;
            known = sender.producer.check(sink, topic, bytes);
        }
        let waits_for_rows = sender.has_rows();
        let known = match known {
            // The route, or its topic, refuses the message: the publisher is notified.
            Err(Refusal::TooLarge) if !self.upstreams[*cluster].producer.may_take(plan.sink, bytes) => {
                return ForSlot::Elsewhere;
            }
            // The message would overtake the rows of its client.
            Err(Refusal::TooLarge) if waits_for_rows => {
                sender.drains = true;
                return ForSlot::Waits(Stall::Slot(slot));
            }
            Err(Refusal::TooLarge) => {
                sender.drains = false;
                return ForSlot::TooLarge;
            }
            Err(_) => return ForSlot::Elsewhere,
            Ok(known) => known,
        };
        sender.drains &= waits_for_rows;
        if waits {
            return ForSlot::Waits(Stall::Answers);
        }
        let mut scratch = Vec::new();
        let hash = plan.hash(message, key(plan, message, &mut scratch));
        let has_room = log.admit(0, sink, bytes).is_ok() && sender.has_room(sink, (known, hash), bytes);
        if sender.drains || !has_room {
            return ForSlot::Waits(Stall::Slot(slot));
        }
        // There are fewer sinks than numbers.
        ForSlot::Row(SlotRow { slot, route: route as u16, bytes, known })
    }

    /// Whether a message that waits for a slot may find room by now.
    pub(crate) fn slot_may_go_on(&self, slot: u16) -> bool {
        let sender = self.slot_rows.as_ref().and_then(|rows| rows.senders.get(&slot));
        sender.is_none_or(|sender| !(sender.drains && sender.has_rows()))
    }

    /// Takes the row for which [`Outlets::ask_slot`] has found room. `ticket` is answered when the log has it.
    pub(crate) fn take_slot_row(
        &mut self,
        kept: &mut Kept,
        row: SlotRow,
        message: &Message<'_>,
        (ticket, origin): (Ticket, Origin),
        (now, wall): (Monotonic, WallMs),
    ) {
        let (Kept::OfSlots(logs), Some(rows)) = (kept, &mut self.slot_rows) else { return };
        let SlotRows { routes, senders, cluster, headers, .. } = &mut **rows;
        let (Some(log), Some(sender)) = (logs.get_mut(&row.slot), senders.get_mut(&row.slot)) else { return };
        let index = usize::from(routes[usize::from(row.route)]);
        let (plan, sink) = (&self.plans[index], SinkId(row.route));
        let (mut key_made, mut value_made) = (Vec::new(), Vec::new());
        let key = key(plan, message, &mut key_made);
        // Room was asked for the message: it can be rendered.
        let value = plan.value(message, &mut value_made).unwrap_or(Some(&[]));
        headers.clear();
        let ranges = plan.render_headers(message, headers);
        self.headers_left_out[index] += ranges.left_out;
        let hash = plan.hash(message, key);
        let expiry = message.properties.message_expiry_interval_s();
        let expires = expiry.map_or(Monotonic::NEVER, |s| now.after(std::time::Duration::from_secs(s.into())));
        let terms = Terms { expires, hash: hash.filter(|_| plan.by_client), origin: Some(origin) };
        let topic = plan.topic.as_literal().unwrap_or_default();
        let target = Target { sink, topic, known: row.known, hash };
        let timestamp = timestamp_at(wall, self.clock_set_after);
        let row_of = Row { key, value, headers: plan.headers(message, headers, &ranges), timestamp };
        log.promise(0, sink, row.bytes);
        let mut promise = sender.producer.promise(row.bytes).unwrap_or_default();
        sender.producer.take(&target, row_of, Some(ticket), terms, (&mut promise, now));
        sender.is_busy = true;
        self.upstreams[*cluster].busy = true;
    }
}

//! Requests to one sink after the other for a message: the destination of its row, the row's memory, and whether there is room.

use forebay_base::rules::{KEPT, Rules as Guarantees};
use forebay_broker::words::Wait;
use forebay_buffer::SpoolFull;
use forebay_config::{OnRefuse, WhenFull};
use forebay_kafka::producer::{Full, Producer, Refusal, TopicId};
use forebay_kafka::types::SinkId;
use forebay_metrics::spec::RefusalReason;

use super::super::dead_letters::message::Place;
use super::super::rules::RULE;
use super::super::sinks::{Message, Plan};
use super::super::words::Objection;
use super::rows::Before;
use super::{Asked, Asking, Fed, Reservation, Reserved, Text, To, Told, Unreserved};

/// The handling of a message that a sink will never take.
enum Fate {
    /// No destination takes the message, and its publisher is notified if possible.
    Rejected,
    /// The message becomes a dead letter. `alone`: no other destination takes it.
    Letter { place: Place, alone: bool },
    /// The sink goes without the message.
    Dropped,
}

/// Whether a sink's part of the memory, its topic's and its partition's have room for a row.
#[inline]
pub(super) fn has_room(producer: &Producer, sink: SinkId, asked: &Asked, hash: Option<u32>) -> Result<(), Full> {
    if producer.is_plenty(asked.bytes) {
        return Ok(());
    }
    producer.share(sink, asked.known, asked.bytes)?;
    producer.share_of_partition(asked.known, hash, asked.bytes)
}

impl Reservation<'_> {
    pub(super) fn ask_all(&mut self, message: &Message<'_>, asking: &Asking<'_>) -> Result<(), Unreserved> {
        self.outlets.workspace.needs.resize(self.outlets.upstreams.len(), 0);
        let mut waits = None;
        let mut is_settled = message.properties.is_empty();
        for place in 0..self.outlets.workspace.matched.len() {
            let sink = self.outlets.workspace.matched[place];
            if sink & RULE != 0 {
                // Rules come after all sinks.
                is_settled = false;
                self.ask_rules(place, message, asking, &mut waits)?;
                break;
            }
            let (mut to, mut bytes, room) = self.ask(sink, message, asking.told, Before::default(), None)?;
            if place < self.outlets.workspace.copies
                && self.outlets.workspace.copies > 1
                && let To::Topic { hash, .. } = &mut to
            {
                // Each row has a batch and a partition of its own.
                *hash = u32::try_from(place).ok();
                bytes += Producer::BATCH_ROOM;
                is_settled = false;
            }
            let plan = &self.outlets.plans[usize::from(sink)];
            let is_known = matches!(to, To::Topic { asked: Asked { known: Some(_), .. }, .. });
            is_settled &= plan.is_settled_by_topic && is_known;
            self.push(Reserved { sink, of: 0, to, bytes }, bytes, room, &mut waits);
            if self.is_refused {
                break;
            }
        }
        self.outlets.workspace.is_settled = is_settled && waits.is_none();
        waits.map_or(Ok(()), |wait| Err(Unreserved::Full(wait)))
    }

    /// Adds a sink's part, with its memory. A part that refuses the message for all destinations replaces all others. `need`: the room that it waits for, if
    /// it does.
    #[inline]
    pub(super) fn push(&mut self, reserved: Reserved, need: usize, room: Result<(), Full>, waits: &mut Option<Wait>) {
        if self.is_refused {
            self.take_back(waits);
        }
        let work = &mut self.outlets.workspace;
        let cluster = self.outlets.plans[usize::from(reserved.sink)].cluster;
        if let Err(full) = room {
            // Another sink may still refuse it for good.
            *waits = waits.or(Some(Wait { cluster, full, bytes: need }));
        }
        work.needs[cluster] += reserved.bytes;
        work.sinks.push(reserved);
    }

    /// Takes back the parts of all destinations of the message being asked about, and the messages and rows that rules have made of it.
    #[cold]
    pub(super) fn take_back(&mut self, waits: &mut Option<Wait>) {
        let work = &mut self.outlets.workspace;
        if self.of == 0 {
            work.sinks.clear();
            work.needs.fill(0);
            work.republished.clear();
            *waits = None;
            return;
        }
        let (of, before) = (self.of, self.before);
        let is_gone = |reserved: &Reserved| reserved.of == of || reserved.of > before;
        for reserved in work.sinks.iter().filter(|reserved| is_gone(reserved)) {
            work.needs[self.outlets.plans[usize::from(reserved.sink)].cluster] -= reserved.bytes;
        }
        work.sinks.retain(|reserved| !is_gone(reserved));
        work.republished.truncate(usize::from(before));
    }

    /// Asks one sink: the destination of its row, the row's memory, and whether there is room. `before`: the memory of the message's earlier rows. `made`:
    /// the row of a rule.
    pub(super) fn ask(
        &mut self,
        sink: u16,
        message: &Message<'_>,
        told: Told,
        before: Before,
        made: Option<Fed<'_>>,
    ) -> Result<(To, usize, Result<(), Full>), Unreserved> {
        let outlets = &mut *self.outlets;
        let work = &mut outlets.workspace;
        let plan = made.as_ref().map_or(&outlets.plans[usize::from(sink)], |fed| fed.plan);
        let upstream = &mut outlets.upstreams[plan.cluster];
        let check = |topic: &str, bytes| {
            let checked = upstream.producer.check(plan.sink, topic, bytes);
            // The end of this turn finds topics to forget.
            upstream.busy |= checked == Err(Refusal::TooManyTopics);
            checked
        };
        let (mut asked, row) = match made {
            None => (asked(plan, message, (&mut work.rendered, &mut work.value), check), None),
            Some(Fed { row: Ok((bytes, topic, row)), .. }) => {
                (asked_of_row(plan, message, &work.rendered, (bytes, topic), check), Some(row))
            }
            Some(Fed { row: Err(objection), .. }) => (Err(objection), None),
        };
        let (mut spool, mut passes) = (Ok(()), false);
        let buffer = self.logs.rows_mut().filter(|buffer| buffer.keeps(plan.cluster, plan.sink));
        let is_spooled = buffer.is_some();
        if let (Some(buffer), Ok(Asked { bytes, .. })) = (buffer, &asked) {
            let room = buffer.admit(plan.cluster, plan.sink, before.spool + *bytes);
            spool = room.map_err(|full| match full {
                SpoolFull::Whole | SpoolFull::Turn => Full::Spool,
                SpoolFull::Sink => Full::SpoolShare(plan.sink),
            });
            // The next group has room, or dropping the oldest rows makes some.
            passes = room == Err(SpoolFull::Turn) || room.is_err() && outlets.when_full == WhenFull::DropOldest;
            if let Err(full @ (SpoolFull::Whole | SpoolFull::Sink)) = room {
                outlets.full.note(full, usize::from(sink), *bytes, outlets.when_full);
                if outlets.when_full == WhenFull::Refuse && !self.is_repeat {
                    // The message is refused without a wait, as if it could never be taken. A repeat waits: other sinks have it.
                    asked = Err(Objection::SpoolFull);
                }
            }
        }
        match asked {
            Ok(asked @ Asked { bytes, .. }) => {
                let key = match row {
                    Some(row) => {
                        work.rows[row as usize].key.map_or(Text::Absent, |(from, to)| Text::Rendered(from, to))
                    }
                    None => {
                        let key = plan.key.as_ref().map(|key| Text::of(key, message, &mut work.rendered));
                        key.and_then(Result::ok).unwrap_or(Text::Absent)
                    }
                };
                let bytes_of_key = plan.key.as_ref().and_then(|of| key.bytes(of, message, &work.rendered));
                let hash = plan.hash(message, bytes_of_key);
                let with_others = Asked { bytes: before.share + bytes, ..asked };
                let room = spool.and_then(|()| has_room(&upstream.producer, plan.sink, &with_others, hash));
                passes |= room == Err(Full::Sink(plan.sink)) && upstream.producer.is_held_back(plan.sink);
                if room.is_err() && !passes && plan.goes_without(message.qos) {
                    return Ok((To::Nowhere(RefusalReason::NoRoom), 0, Ok(())));
                }
                Ok((To::Topic { asked, key, hash, is_spooled, made: row }, bytes, room))
            }
            Err(objection) => {
                // A letter has the original message, by the sink's own templates.
                let (plan, message) = (&outlets.plans[usize::from(sink)], &Message { output: None, ..*message });
                let told = if objection.is_lack_of_room() { self.told } else { told };
                let (place, alone) = match fate(plan, objection, message, (told, self.is_repeat)) {
                    Fate::Letter { place, alone } => (place, alone),
                    Fate::Rejected => return Err(Unreserved::Rejected(sink, objection)),
                    Fate::Dropped => return Ok((To::Nowhere(objection.reason()), 0, Ok(()))),
                };
                self.is_refused = alone;
                let room = place.room(&outlets.letters, &upstream.producer, sink);
                if room.is_err() && alone && plan.goes_without(message.qos) {
                    return Err(Unreserved::Rejected(sink, objection));
                }
                if room.is_err() && plan.goes_without(message.qos) {
                    return Ok((To::Nowhere(RefusalReason::NoRoom), 0, Ok(())));
                }
                Ok((To::DeadLetters(objection, place), place.bytes(), room))
            }
        }
    }

    /// Leaves out the rows of sinks that have had all of theirs since before a crash. A sink that has had only some of its rows, as the disk had not taken
    /// the others, gets all of them again, so that none is missing. Dead letters are written again; whether they were durable is not known.
    pub(super) fn leave_out(&mut self, already_taken_by: &[u16]) {
        let guarantees = self.outlets.rules.as_ref().map_or(&KEPT as &dyn Guarantees, |rules| rules.guarantees);
        let work = &mut self.outlets.workspace;
        for (at, sink) in already_taken_by.iter().enumerate() {
            if already_taken_by[..at].contains(sink) {
                continue;
            }
            let is_row = |of: &Reserved| of.sink == *sink && matches!(of.to, To::Topic { .. });
            let had = already_taken_by.iter().filter(|other| *other == sink).count();
            if !guarantees.has_all(had, work.sinks.iter().filter(|of| is_row(of)).count()) {
                continue;
            }
            let cluster = self.outlets.plans[usize::from(*sink)].cluster;
            work.needs[cluster] -= work.sinks.iter().filter(|of| is_row(of)).map(|of| of.bytes).sum::<usize>();
            work.sinks.retain(|of| !is_row(of));
        }
    }
}

/// The fate of a message at a sink that has this objection.
#[cold]
fn fate(plan: &Plan, objection: Objection, message: &Message<'_>, (told, is_repeat): (Told, bool)) -> Fate {
    let letter = |alone| plan.place(message).map(|place| Fate::Letter { place, alone });
    if is_repeat && plan.on_refuse != OnRefuse::Drop {
        return letter(false).unwrap_or(Fate::Rejected);
    }
    // A notified publisher sends the message again when there is room: no destination may have it by then.
    if objection.is_lack_of_room() && told != Told::Not {
        return Fate::Rejected;
    }
    match plan.on_refuse {
        OnRefuse::Drop => Fate::Dropped,
        // A dead letter that fits nowhere is a message that would be lost.
        OnRefuse::DeadLetter => letter(false).unwrap_or(Fate::Rejected),
        OnRefuse::Reject if objection.is_lack_of_room() => letter(false).unwrap_or(Fate::Dropped),
        OnRefuse::Reject if told == Told::Code => Fate::Rejected,
        OnRefuse::Reject => letter(true).unwrap_or(Fate::Rejected),
    }
}

/// The bound of a sink's row of a message, and its topic, looked up; or the reason why the sink will never take it.
fn asked(
    plan: &Plan,
    message: &Message<'_>,
    (rendered, scratch): (&mut Vec<u8>, &mut Vec<u8>),
    mut check: impl FnMut(&str, usize) -> Result<Option<TopicId>, Refusal>,
) -> Result<Asked, Objection> {
    let mut bytes = plan.row_bytes_max(message).map_err(Objection::Absent)?;
    let topic = Text::of(&plan.topic, message, rendered).map_err(Objection::Absent)?;
    let name = match plan.topic.as_literal() {
        Some(fixed) => fixed,
        None => plan.topic_name(topic.bytes(&plan.topic, message, rendered).unwrap_or_default())?,
    };
    let mut known = check(name, bytes);
    if known == Err(Refusal::TooLarge) {
        // The row is too large only if its rendered parts are, and not its bound alone.
        bytes = plan.row_bytes(message, scratch).map_err(Objection::Absent)?;
        known = check(name, bytes);
    }
    let known = known.map_err(Objection::Refusal)?;
    Ok(Asked { bytes, topic, known })
}

/// The topic of a row that a rule has made, looked up; or the reason why the sink will never take it.
fn asked_of_row(
    plan: &Plan,
    message: &Message<'_>,
    rendered: &[u8],
    (bytes, topic): (usize, Text),
    check: impl FnOnce(&str, usize) -> Result<Option<TopicId>, Refusal>,
) -> Result<Asked, Objection> {
    let name = match plan.topic.as_literal() {
        Some(fixed) => fixed,
        None => plan.topic_name(topic.bytes(&plan.topic, message, rendered).unwrap_or_default())?,
    };
    let known = check(name, bytes).map_err(Objection::Refusal)?;
    Ok(Asked { bytes, topic, known })
}

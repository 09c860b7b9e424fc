//! Messages that rules publish of their outputs. They are in a list after the original message, in the order in which they go out. Room is asked for each as
//! for a message of its own, and its rules may make more of them. Nothing is taken before there is room for all.

use smallvec::SmallVec;

use forebay_broker::words::Wait;
use forebay_config::{MessageProperty, Republish};
use forebay_kafka::producer::Producer;
use forebay_kafka::producer::row_log::Origin;
use forebay_kafka::types::Ticket;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::property::{Property, PropertyBuf, VIA};
use forebay_mqtt::topic::{is_of_service, valid_name};
use forebay_rule::column::Row as Output;
use forebay_rule::failure::{Clause, Code, Failure, Reason};
use forebay_rule::template::Template;
use forebay_runtime::seam::{Monotonic, WallMs};

use super::super::outlets::Outlets;
use super::super::rules::{RULE, Rules};
use super::super::sinks::Message;
use super::super::words::Objection;
use super::rows::{Given, Matched, Most, RENDERED_MAX, Stop, TOO_MUCH_RENDERED, limit};
use super::{Asking, Reservation, Reserved, To, Told, Unreserved};

/// The most messages that rules may make of one.
const REPUBLISHED_MAX: usize = 64;
/// The most rules that a message may come from, one after the other.
const GENERATIONS_MAX: usize = 8;

/// A message that a rule has made of another one.
#[derive(Debug, Default)]
pub(crate) struct Republished {
    topic: String,
    payload: Vec<u8>,
    properties: PropertyBuf,
    pub(super) qos: QoS,
    retain: bool,
    /// Whether the message goes to neither sinks nor rules.
    is_direct: bool,
    /// The rules that it comes from, the latest one last.
    ancestry: SmallVec<[u16; 4]>,
    /// The number of the message that it was made of: 0 is the first.
    of: u8,
    /// Whether sinks have it, themselves or as a row of a rule.
    is_in_sinks: bool,
    /// Whether sinks or rules match it.
    pub(crate) is_matched: bool,
    /// Whether a sink or a rule refuses it for all destinations.
    pub(crate) is_refused: bool,
}

impl Republished {
    /// The message for sinks and rules, with the client of the original message.
    fn message<'a>(&'a self, of: &Message<'a>) -> Message<'a> {
        Message {
            topic: &self.topic,
            qos: self.qos as u8,
            retain: self.retain,
            dup: false,
            packet_id: 0,
            payload: &self.payload,
            properties: self.properties.as_properties(),
            output: None,
            ..*of
        }
    }

    /// The message for subscribers, and the shard that retains it.
    pub(crate) fn publish(&self) -> Publish<'_> {
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: u16::from(self.qos > QoS::AtMostOnce),
            properties: self.properties.as_properties(),
            payload: &self.payload,
        }
    }

    /// The number of the message that it was made of: 0 is the first.
    pub(crate) const fn of(&self) -> u8 {
        self.of
    }

    /// Whether sinks have it, themselves or as a row of a rule.
    pub(crate) const fn is_in_sinks(&self) -> bool {
        self.is_in_sinks
    }

    /// The rule that has made it.
    pub(crate) fn rule(&self) -> u16 {
        self.ancestry.last().copied().unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_properties().raw().len()
    }

    /// Renders the message that a rule makes of an output.
    pub(crate) fn render(made: &Republish, of: &Message<'_>, output: &Output<'_, '_>) -> Result<Self, Failure> {
        let rendered = Self::of_templates(made, of);
        // A value that the output could not write is the reason.
        output.failure().map_or(rendered, Err)
    }

    fn of_templates(made: &Republish, of: &Message<'_>) -> Result<Self, Failure> {
        let text = |template: &Template| {
            let mut out = Vec::new();
            template.render(of, &mut out).ok().map(|()| out)
        };
        let topic = text(&made.topic).ok_or_else(|| domain("there is no topic to publish to"))?;
        let topic = String::from_utf8(topic).ok().filter(|topic| valid_name(topic));
        let topic = topic.ok_or_else(|| domain("the topic to publish to is no topic name"))?;
        if is_of_service(&topic) || topic.starts_with('$') && !made.topic.begins_with("$") {
            return Err(domain("the topic to publish to begins with `$`"));
        }
        let qos = match text(&made.qos).as_deref() {
            Some(b"0") => QoS::AtMostOnce,
            Some(b"1") => QoS::AtLeastOnce,
            Some(b"2") => QoS::ExactlyOnce,
            _ => QoS::from_bits(of.qos).unwrap_or_default(),
        };
        let mut properties = PropertyBuf::new();
        for (property, template) in &made.properties {
            if let Some(value) = text(template) {
                push(*property, &value, &mut properties)?;
            }
        }
        match &made.user_properties {
            None => properties
                .extend(of.properties.user_properties().map(|(name, value)| Property::UserProperty(name, value))),
            Some(from) => {
                from.bound(of).map_err(|_| domain("user_properties are neither an object nor a list of pairs"))?;
                let pushed = |name: &str, value: &str| properties.extend([Property::UserProperty(name, value)]);
                let mut pushed = pushed;
                from.each(of, |name, value| {
                    if name != VIA {
                        pushed(name, value)
                    }
                });
                // The instances that the message has come through do not depend on a rule's selection.
                of.properties
                    .user_properties()
                    .filter(|(name, _)| *name == VIA)
                    .for_each(|(name, value)| pushed(name, value));
            }
        }
        Ok(Self {
            topic,
            payload: text(&made.payload).unwrap_or_default(),
            properties,
            qos,
            retain: text(&made.retain).as_deref() == Some(b"true"),
            is_direct: made.is_direct,
            ..Self::default()
        })
    }
}

/// Appends a property of a message that is no user property.
fn push(property: MessageProperty, value: &[u8], out: &mut PropertyBuf) -> Result<(), Failure> {
    let text = std::str::from_utf8(value).ok();
    let property = match property {
        MessageProperty::PayloadFormatIndicator => match value {
            b"0" => Some(Property::PayloadFormatIndicator(0)),
            b"1" => Some(Property::PayloadFormatIndicator(1)),
            _ => None,
        },
        MessageProperty::MessageExpiryInterval => {
            text.and_then(|text| text.parse().ok()).map(Property::MessageExpiryInterval)
        }
        MessageProperty::ContentType => text.map(Property::ContentType),
        MessageProperty::ResponseTopic => text.filter(|text| valid_name(text)).map(Property::ResponseTopic),
        MessageProperty::CorrelationData => Some(Property::CorrelationData(value)),
    };
    if property.is_some_and(|property| out.push(property)) {
        Ok(())
    } else {
        Err(domain("a property of the message to publish is not what it has to be"))
    }
}

const fn domain(what: &'static str) -> Failure {
    Failure { reason: Reason { code: Code::Domain, what, found: None }, clause: Clause::Output, ..limit(what) }
}

impl Reservation<'_> {
    /// Whether rules have made messages of this one.
    #[inline]
    pub(crate) fn has_republished(&self) -> bool {
        !self.outlets.workspace.republished.is_empty()
    }

    /// The messages that rules have made of this one, and of one another.
    pub(crate) fn republished(&mut self) -> &mut [Republished] {
        &mut self.outlets.workspace.republished
    }

    /// Notes which of these messages sinks have.
    pub(crate) fn note_sinks(&mut self) {
        let work = &mut self.outlets.workspace;
        for reserved in &work.sinks {
            let made = usize::from(reserved.of).checked_sub(1).and_then(|at| work.republished.get_mut(at));
            if let Some(made) = made {
                made.is_in_sinks = true;
            }
        }
    }

    /// Drops the outcomes of rules for a message that is asked about again: they are evaluated again.
    pub(crate) fn give_up(&mut self) {
        self.outlets.forget_outcomes();
    }

    /// Adds a message that a rule has made of an output, and asks the sinks that match it for room.
    pub(super) fn republish(
        &mut self,
        (rule, made): (u16, &Republish),
        (of, output): (&Message<'_>, &Output<'_, '_>),
        (given, most): (&Given<'_>, &Most<'_>),
        waits: &mut Option<Wait>,
    ) -> Result<(), Stop> {
        let work = &mut self.outlets.workspace;
        if given.ancestry.len() >= GENERATIONS_MAX {
            work.looped.push(rule);
            return Ok(());
        }
        if work.republished.len() >= REPUBLISHED_MAX {
            return Err(Stop::Failed(limit("the rules publish more messages than they may make of one")));
        }
        let mut made = Republished::render(made, of, output).map_err(Stop::Failed)?;
        if work.rendered_bytes() + made.bytes() > RENDERED_MAX {
            return Err(Stop::Failed(TOO_MUCH_RENDERED));
        }
        // Routing it costs as much as a packet.
        work.cost += 1;
        made.ancestry = given.ancestry.iter().copied().chain([rule]).collect();
        // There are at most `REPUBLISHED_MAX`.
        made.of = self.of as u8;
        work.republished.push(Republished::default());
        let place = work.republished.len();
        let outer = (self.of, self.before);
        (self.of, self.before) = (place as u16, place as u16);
        let asked = if made.is_direct { Ok(()) } else { self.ask_sinks(&mut made, given, most, waits) };
        (self.of, self.before) = outer;
        self.outlets.workspace.republished[place - 1] = made;
        asked
    }

    /// Asks the sinks that match a message of a rule. A sink that refuses it for all destinations affects no other message.
    fn ask_sinks(
        &mut self,
        made: &mut Republished,
        given: &Given<'_>,
        most: &Most<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Stop> {
        let mut matched = Matched::new();
        self.outlets.router.matches(&made.topic, &mut matched);
        made.is_matched = !matched.is_empty();
        let of = self.of;
        for sink in matched.into_iter().filter(|number| *number & RULE == 0) {
            let message = made.message(given.message);
            let plan = &self.outlets.plans[usize::from(sink)];
            let (cluster, number, keeps_packet_ids) = (plan.cluster, plan.sink, plan.keeps_packet_ids);
            self.outlets.workspace.has_room_for_row()?;
            let (at, before) = self.sum_of((sink, cluster, number));
            let (to, bytes, room) = match self.ask(sink, &message, Told::Not, before, None) {
                Ok(asked) => asked,
                Err(why) if self.is_told_of(&why) => return Err(Stop::Ended(Err(why))),
                Err(why) => {
                    self.refuse(&why, waits);
                    made.is_refused = true;
                    return Ok(());
                }
            };
            let is_row = matches!(to, To::Topic { .. });
            self.add_row(at, bytes, most, is_row && given.is_exchange && keeps_packet_ids)?;
            let beside = if is_row { Producer::BATCH_ROOM } else { 0 };
            self.push(Reserved { sink, of, to, bytes: bytes + beside }, before.share + bytes, room, waits);
            if std::mem::take(&mut self.is_refused) {
                made.is_refused = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the publisher of the original message is notified: there is no room, and it sends that one again.
    fn is_told_of(&self, why: &Unreserved) -> bool {
        self.told != Told::Not && matches!(why, Unreserved::Rejected(_, objection) if objection.is_lack_of_room())
    }

    /// Takes a message of a rule from all of its destinations, as one of them refuses it and has no dead letters.
    fn refuse(&mut self, why: &Unreserved, waits: &mut Option<Wait>) {
        self.take_back(waits);
        if let Unreserved::Rejected(sink, objection) = *why {
            let to = To::Nowhere(Objection::reason(objection));
            self.push(Reserved { sink, of: self.of, to, bytes: 0 }, 0, Ok(()), waits);
        }
    }

    /// Evaluates the rules that match messages of rules, in the order of the list, which grows meanwhile. A rule is not evaluated for messages that come from
    /// it.
    pub(super) fn ask_republished(
        &mut self,
        rules: &mut Rules,
        first: &Message<'_>,
        asking: &Asking<'_>,
        waits: &mut Option<Wait>,
    ) -> Result<(), Unreserved> {
        // The publisher cannot be notified, as it does not know of the message.
        let asking = Asking { told: Told::Not, ..*asking };
        let mut matched = Matched::new();
        let mut at = 0;
        while let Some(made) = self.outlets.workspace.republished.get_mut(at) {
            let mut made = std::mem::take(made);
            at += 1;
            if !made.is_direct && !made.is_refused {
                self.outlets.router.matches(&made.topic, &mut matched);
                matched.retain(|number| *number & RULE != 0 && !made.ancestry.contains(&(*number & !RULE)));
            } else {
                matched.clear();
            }
            if !matched.is_empty() {
                (self.of, self.before) = (at as u16, self.outlets.workspace.republished.len() as u16);
                let (message, is_exchange) = (made.message(first), first.qos == 2);
                let given = Given { message: &message, matched: &matched, ancestry: &made.ancestry, is_exchange };
                let asked = self.evaluate(rules, &given, &asking, waits);
                made.is_refused = std::mem::take(&mut self.is_refused) || asked.is_err();
                match asked {
                    Err(why) if self.is_told_of(&why) => return Err(why),
                    Err(why) => self.refuse(&why, waits),
                    Ok(()) => {}
                }
            }
            self.outlets.workspace.republished[at - 1] = made;
        }
        (self.of, self.before) = (0, 0);
        Ok(())
    }

    /// Writes the rows of a message and of those that rules have made of it, one message after the other.
    #[inline(never)]
    pub(super) fn take_all(
        mut self,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        origin: Option<Origin>,
        (now, wall): (Monotonic, WallMs),
    ) -> u16 {
        let work = &mut self.outlets.workspace;
        work.sinks.sort_by_key(|reserved| reserved.of);
        let made = std::mem::take(&mut work.republished);
        let (mut from, mut owed) = (0, 0);
        for of in 0..=made.len() {
            let sinks = &self.outlets.workspace.sinks;
            let to = from + sinks[from..].iter().take_while(|reserved| usize::from(reserved.of) == of).count();
            let republished = of.checked_sub(1).and_then(|at| made.get(at));
            let of = republished.map_or(*message, |republished| republished.message(message));
            owed += self.take_rows::<true>(from..to, &of, ticket, origin, (now, wall));
            from = to;
        }
        self.outlets.workspace.republished = made;
        owed
    }
}

impl Outlets {
    /// The messages that rules have made of the one that was taken last.
    pub(crate) fn republished(&mut self) -> &mut Vec<Republished> {
        &mut self.workspace.republished
    }
}

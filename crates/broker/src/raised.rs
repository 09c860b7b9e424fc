//! `RuleEvents` are the events of a turn that rules name, each with its fields: noted where they happen, evaluated at the end of the turn. An event does not wait
//! for room: if there is none, it is dropped and counted.

use std::fmt::Display;
use std::io::Write as _;

use smallvec::SmallVec;

use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::Publish;
use forebay_mqtt::property::{Properties, Property};
use forebay_mqtt::reason::ReasonCode;
use forebay_rule::envelope::string;
use forebay_rule::event::{Event, EventSet, NO_SUBSCRIBERS};
use forebay_rule::field::Field;
use forebay_rule::value::Value;
use forebay_runtime::seam::{ConnId, WallMs};
use forebay_session::ClientKey;

use super::out::Out;

/// The most events of a turn that are evaluated.
const EVENTS_OF_TURN_MAX: usize = 1_024;

/// The most bytes of texts and payloads that the events of a turn have.
const EVENT_BYTES_OF_TURN_MAX: usize = 8 << 20;

/// The events of a turn that rules name.
#[derive(Debug, Default)]
pub struct RuleEvents {
    wanted: EventSet,
    waiting: Vec<Raised>,
    /// The bytes of the texts of these events.
    bytes: usize,
}

/// An event with its fields.
#[derive(Debug)]
pub struct Raised {
    event: Event,
    /// The time of the event. `None` until the end of its turn, if that is near enough.
    at: Option<WallMs>,
    fields: SmallVec<[(Field, Stored); 16]>,
    /// The texts of the fields, one after the other.
    texts: Vec<u8>,
}

/// The value of a field. Texts are ranges of the event's texts.
#[derive(Clone, Copy, Debug)]
enum Stored {
    Absent,
    Bool(bool),
    Int(i64),
    Text(usize, usize),
    Json(usize, usize),
}

impl RuleEvents {
    /// Sets the events that rules name from now on.
    pub const fn want(&mut self, wanted: EventSet) {
        self.wanted = wanted;
    }

    /// Whether a rule names an event.
    #[inline]
    pub const fn wants(&self, event: Event) -> bool {
        self.wanted.has(event)
    }

    /// Notes an event. `false`: it is beyond the bound of a turn, and dropped.
    pub(crate) fn note(&mut self, raised: Raised) -> bool {
        let bytes = self.bytes.saturating_add(raised.texts.len());
        let has_room = self.waiting.len() < EVENTS_OF_TURN_MAX && bytes <= EVENT_BYTES_OF_TURN_MAX;
        if has_room {
            self.bytes = bytes;
            self.waiting.push(raised);
        }
        has_room
    }

    /// Whether no event waits.
    pub const fn are_none(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the events of the turn.
    pub fn take(&mut self) -> Vec<Raised> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Takes back the memory of events that were evaluated, unless others wait by now.
    pub fn use_again(&mut self, memory: Vec<Raised>) {
        if self.waiting.is_empty() {
            self.waiting = memory;
        }
    }
}

impl Raised {
    /// An event without fields. `at`: the time at which it happened. `None`: in this turn.
    pub fn new(event: Event, at: impl Into<Option<WallMs>>) -> Self {
        let raised = Self { event, at: at.into(), fields: SmallVec::new(), texts: Vec::new() };
        raised.text(Field::Event, event.value())
    }

    /// Sets the event's time. Returns both.
    pub fn timed(self, now: WallMs) -> (Self, WallMs) {
        let at = self.at.unwrap_or(now);
        (self.int(Field::Timestamp, at.0), at)
    }

    /// Adds a field with a text.
    pub fn text(self, field: Field, text: &str) -> Self {
        self.shown(field, Some(text))
    }

    /// Adds a field with the displayed value, which is absent if there is none.
    pub fn shown(mut self, field: Field, text: Option<impl Display>) -> Self {
        let from = self.texts.len();
        let stored = text.map_or(Stored::Absent, |text| {
            // Writing to a Vec cannot fail.
            let _ = write!(self.texts, "{text}");
            Stored::Text(from, self.texts.len())
        });
        self.fields.push((field, stored));
        self
    }

    /// Adds a field with a text that may be any bytes.
    pub(crate) fn bytes(mut self, field: Field, bytes: &[u8]) -> Self {
        let from = self.texts.len();
        self.texts.extend_from_slice(bytes);
        self.fields.push((field, Stored::Text(from, self.texts.len())));
        self
    }

    /// Adds a field with a number.
    pub fn int(mut self, field: Field, number: i64) -> Self {
        self.fields.push((field, Stored::Int(number)));
        self
    }

    /// Adds a field that is true or false.
    pub fn flag(mut self, field: Field, is_set: bool) -> Self {
        self.fields.push((field, Stored::Bool(is_set)));
        self
    }

    /// Adds a field with a JSON object.
    pub fn json(mut self, field: Field, text: &str) -> Self {
        let from = self.texts.len();
        self.texts.extend_from_slice(text.as_bytes());
        self.fields.push((field, Stored::Json(from, self.texts.len())));
        self
    }

    /// Adds a field with properties, as a JSON object.
    pub fn properties(self, field: Field, properties: Properties<'_>) -> Self {
        let text = properties_json(properties);
        self.json(field, &text)
    }

    /// The event's kind.
    pub const fn event(&self) -> Event {
        self.event
    }

    /// The fields with their values.
    pub fn values(&self) -> impl Iterator<Item = (Field, Value<'_>)> {
        self.fields.iter().map(|(field, stored)| (*field, self.value(*stored)))
    }

    fn value(&self, stored: Stored) -> Value<'_> {
        let text = |from: usize, to: usize| self.texts.get(from..to).unwrap_or_default();
        let json = |from, to| std::str::from_utf8(text(from, to)).unwrap_or("null");
        match stored {
            Stored::Absent => Value::Absent,
            Stored::Bool(is_set) => Value::Bool(is_set),
            Stored::Int(number) => Value::Int(number),
            Stored::Text(from, to) => Value::Text(text(from, to)),
            Stored::Json(from, to) => Value::Raw(json(from, to)),
        }
    }

    /// The client of the event, if it has one.
    pub fn client_id(&self) -> Option<&str> {
        let (_, stored) = self.fields.iter().find(|(field, _)| *field == Field::Clientid)?;
        match *stored {
            Stored::Text(from, to) => std::str::from_utf8(self.texts.get(from..to)?).ok(),
            _ => None,
        }
    }

    /// The payload of the event's message, if it has one: rules are most likely to read it.
    pub fn payload_of_message(&self) -> &[u8] {
        match self.fields.iter().find(|(field, _)| *field == Field::Payload) {
            Some((_, Stored::Text(from, to))) => self.texts.get(*from..*to).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The payload of a dead letter: the fields, as a JSON object.
    pub fn payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * self.texts.len());
        for (field, stored) in &self.fields {
            out.push(if out.is_empty() { b'{' } else { b',' });
            string(field.as_str(), &mut out);
            out.push(b':');
            match self.value(*stored) {
                Value::Bool(is_set) => out.extend_from_slice(if is_set { b"true" } else { b"false" }),
                Value::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
                Value::Text(text) => string(&String::from_utf8_lossy(text), &mut out),
                Value::Raw(text) => out.extend_from_slice(text.as_bytes()),
                _ => out.extend_from_slice(b"null"),
            }
        }
        out.push(b'}');
        out
    }
}

/// The name of a reason code, as EMQX has it.
pub fn reason_name(code: ReasonCode) -> String {
    code.name().to_lowercase().replace(' ', "_").replace("user_name", "username").replace("keep_alive", "keepalive")
}

/// Properties as a JSON object, by the standard's names with hyphens; of equal user properties the last. Authentication data is left out.
fn properties_json(properties: Properties<'_>) -> String {
    let mut out = Vec::new();
    let begin = |out: &mut Vec<u8>, name: &str| {
        out.push(if out.is_empty() { b'{' } else { b',' });
        string(name, out);
        out.push(b':');
    };
    let put = |name, text: &str, out: &mut Vec<u8>| {
        begin(out, name);
        string(text, out);
    };
    let flag = |is_set: bool| i64::from(is_set);
    for property in properties.iter() {
        let (name, number) = match property {
            Property::SessionExpiryInterval(seconds) => ("Session-Expiry-Interval", seconds.into()),
            Property::ReceiveMaximum(most) => ("Receive-Maximum", most.into()),
            Property::MaximumPacketSize(bytes) => ("Maximum-Packet-Size", bytes.into()),
            Property::TopicAliasMaximum(most) => ("Topic-Alias-Maximum", most.into()),
            Property::SubscriptionIdentifier(id) => ("Subscription-Identifier", id.into()),
            Property::RequestResponseInformation(is_set) => ("Request-Response-Information", flag(is_set)),
            Property::RequestProblemInformation(is_set) => ("Request-Problem-Information", flag(is_set)),
            Property::MessageExpiryInterval(seconds) => ("Message-Expiry-Interval", seconds.into()),
            Property::PayloadFormatIndicator(is_text) => ("Payload-Format-Indicator", i64::from(is_text)),
            Property::AuthenticationMethod(text) => {
                put("Authentication-Method", text, &mut out);
                continue;
            }
            Property::ContentType(text) => {
                put("Content-Type", text, &mut out);
                continue;
            }
            Property::ResponseTopic(text) => {
                put("Response-Topic", text, &mut out);
                continue;
            }
            Property::CorrelationData(data) => {
                put("Correlation-Data", &String::from_utf8_lossy(data), &mut out);
                continue;
            }
            _ => continue,
        };
        begin(&mut out, name);
        out.extend_from_slice(number.to_string().as_bytes());
    }
    begin(&mut out, "User-Property");
    let users: Vec<_> = properties.user_properties().collect();
    out.push(b'{');
    let mut is_first = true;
    for (at, (name, value)) in users.iter().enumerate() {
        if users[at + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        string(name, &mut out);
        out.push(b':');
        string(value, &mut out);
    }
    out.extend_from_slice(b"}}");
    String::from_utf8(out).unwrap_or_default()
}

fn of_message(raised: Raised, publish: &Publish<'_>) -> Raised {
    let flags = format!("{{\"dup\":{},\"retain\":{}}}", publish.dup, publish.retain);
    let raised = raised.text(Field::Topic, publish.topic).int(Field::Qos, (publish.qos as u8).into());
    let raised = raised.bytes(Field::Payload, publish.payload).json(Field::Flags, &flags);
    raised.properties(Field::PubProps, publish.properties).json(Field::ClientAttrs, "{}")
}

/// The event of a message without a receiver. `from`: its publisher, and its time.
#[cold]
pub fn unwanted(
    io: &dyn Out,
    (conn, client, username): (Option<ConnId>, ClientKey<'_>, Option<&str>),
    publish: &Publish<'_>,
    received_at: WallMs,
) -> Raised {
    let peer = conn.and_then(|conn| io.peer(conn));
    let raised = Raised::new(Event::MessageDropped, io.wall()).text(Field::Clientid, client.client_id);
    let raised = raised.shown(Field::Username, username);
    let raised = raised.shown(Field::Peername, peer).shown(Field::Peerhost, peer.map(|peer| peer.ip()));
    let raised = of_message(raised, publish).int(Field::PublishReceivedAt, received_at.0);
    raised.text(Field::Reason, NO_SUBSCRIBERS)
}

/// The event of a dropped copy of a message. `client`: its subscriber, with the user name.
#[cold]
pub(crate) fn delivery_dropped(
    (client, username): (Option<&str>, Option<&str>),
    publish: &Publish<'_>,
    reason: &str,
) -> Raised {
    let raised = Raised::new(Event::DeliveryDropped, None);
    let raised = raised.shown(Field::Clientid, client).shown(Field::Username, username);
    of_message(raised, publish).text(Field::Reason, reason)
}

/// The metric that counts a dropped event.
pub const fn dropped(event: Event) -> M {
    match event {
        Event::ClientConnected => M::RuleEventsConnected,
        Event::ClientDisconnected => M::RuleEventsDisconnected,
        Event::ClientConnack => M::RuleEventsConnack,
        Event::ClientCheckAuthnComplete => M::RuleEventsAuthn,
        Event::SessionSubscribed => M::RuleEventsSubscribed,
        Event::SessionUnsubscribed => M::RuleEventsUnsubscribed,
        Event::MessageDropped => M::RuleEventsMessageDropped,
        Event::DeliveryDropped => M::RuleEventsDeliveryDropped,
        Event::ClientPing => M::RuleEventsPing,
    }
}

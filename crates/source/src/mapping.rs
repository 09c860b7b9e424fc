//! A record as an MQTT message, by the templates of its source. Only valid MQTT is published: a record without a valid topic, QoS or retain flag, or one that
//! is too large, has a [`Reason`].

use std::fmt;

use super::properties;
use forebay_base::limits::{PACKET_BYTES_MAX, RECORD_HEADERS_MAX, RECORD_HOPS_MAX};
use forebay_config::{Choice, Config, Source};
use forebay_mqtt::packet::QoS;
use forebay_mqtt::property::{Properties, PropertyBuf};
use forebay_mqtt::topic::valid_name;
use forebay_record::names::{CLIENT_ID, COPY_OF, OUR_PREFIX};
use forebay_rule::program::from_text;
use forebay_rule::record::{Encoded, Encoding, Field, Record, RecordTemplate};
use forebay_runtime::seam::WallMs;

/// Bytes of a buffer that are kept from one record to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// The most bytes of a PUBLISH besides topic, properties and payload: its first byte, its lengths, and the packet identifier.
const PUBLISH_OVERHEAD: usize = 1 + 4 + 2 + 2 + 4;

/// The reason why a record is no message. Each is counted under its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The source does not read the record's topic.
    Unmapped,
    /// The record lacks a field that the MQTT topic is made of.
    TopicAbsent,
    /// The result is no MQTT topic: it is empty, too long, no UTF-8, has a wildcard or U+0000 in it, or begins with a `$` from the record.
    TopicInvalid,
    /// The result is no QoS.
    QosInvalid,
    /// The result is no retain flag.
    RetainInvalid,
    /// The message is larger than `packet_bytes_max`.
    TooLarge,
    /// The record has more headers than [`RECORD_HEADERS_MAX`].
    Headers,
    /// The message of the record has expired.
    Expired,
    /// The record has gone round too often: see [`RECORD_HOPS_MAX`].
    Loop,
}

impl Reason {
    /// All reasons, in the order of the documents.
    pub const ALL: [Self; 9] = [
        Self::Unmapped,
        Self::TopicAbsent,
        Self::TopicInvalid,
        Self::QosInvalid,
        Self::RetainInvalid,
        Self::TooLarge,
        Self::Headers,
        Self::Expired,
        Self::Loop,
    ];

    /// The label in metrics, events and dead letters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::TopicAbsent => "topic_absent",
            Self::TopicInvalid => "topic_invalid",
            Self::QosInvalid => "qos_invalid",
            Self::RetainInvalid => "retain_invalid",
            Self::TooLarge => "too_large",
            Self::Headers => "headers",
            Self::Expired => "expired",
            Self::Loop => "loop",
        }
    }

    /// Whether `on_bad_record` decides about it. Expiry is no fault: an expired record is settled, as MQTT asks for.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        !matches!(self, Self::Expired)
    }
}

/// The reason in a sentence about the record.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped => f.write_str("its topic is not one of the source"),
            Self::TopicAbsent => f.write_str("it does not have what mqtt_topic is made of"),
            Self::TopicInvalid => f.write_str("what mqtt_topic makes of it is not a valid MQTT topic"),
            Self::QosInvalid => f.write_str("what qos makes of it is not 0, 1 or 2"),
            Self::RetainInvalid => f.write_str("what retain makes of it is not true or false"),
            Self::TooLarge => f.write_str("its message is larger than mqtt.packet_bytes_max"),
            Self::Headers => write!(f, "it has more than {RECORD_HEADERS_MAX} headers"),
            Self::Expired => f.write_str("its message has expired"),
            Self::Loop => write!(f, "it has been through Kafka and back {RECORD_HOPS_MAX} times"),
        }
    }
}

/// A record's message. Everything is borrowed: from the record, the templates or the [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message<'a> {
    /// A valid topic name.
    pub topic: &'a str,
    /// The payload. With the template `${value}` it is the record's value itself, so that it can be shared and not copied.
    pub payload: &'a [u8],
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// MQTT 5 properties, those that a PUBLISH may have.
    pub properties: Properties<'a>,
    /// The number of times that the message has been a record: a row that a sink makes of it carries one more.
    pub hops: u8,
    /// The number of headers that MQTT cannot represent: the name is no text, or name or value is longer than 65,535 bytes.
    pub left_out: u32,
}

/// Buffers for generated values. One for each shard is enough.
#[derive(Debug, Default)]
pub struct Scratch {
    topic: Vec<u8>,
    payload: Vec<u8>,
    pub(super) text: Vec<u8>,
    pub(super) encoded: Vec<u8>,
    pub(super) properties: PropertyBuf,
}

/// The templates of a source, made ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// Kafka topics, in order, each with the template of its MQTT topic, if it has one.
    routes: Box<[(Box<str>, Option<RecordTemplate>)]>,
    /// The name of the source in rules: the topic of records that are no messages.
    from: Box<str>,
    payload: RecordTemplate,
    /// Whether the payload uses the value, or a part of it.
    reads_value: bool,
    /// Whether the whole value is in the payload.
    has_value: bool,
    key: Encoding,
    value: Encoding,
    qos: Choice<u8>,
    retain: Choice<bool>,
    pub(super) user_properties: Box<[(Box<str>, RecordTemplate)]>,
    /// Whether headers become properties.
    pub(super) has_properties: bool,
    /// Headers that determine the message, and are not properties of it.
    pub(super) taken: Box<[Box<str>]>,
    /// Whether its messages may become records again.
    feeds_kafka: bool,
    packet_bytes_max: usize,
}

impl Mapping {
    /// Makes the templates of a source ready. The configuration has checked them, so nothing can be wrong with them.
    #[must_use]
    pub fn new(config: &Config, source: &Source) -> Self {
        let mut routes: Box<[_]> = source.routes().map(|(kafka, mqtt)| (kafka.into(), mqtt.cloned())).collect();
        routes.sort_by(|(one, _): &(Box<str>, Option<RecordTemplate>), (other, _)| one.cmp(other));
        let user_properties = source.user_properties.iter();
        Self {
            routes,
            from: from_text(&source.name).into(),
            reads_value: source.payload.variables().any(Field::reads_value),
            has_value: source.payload.variables().any(|field| matches!(field, Field::Whole | Field::Value)),
            payload: source.payload.clone(),
            key: source.key_encoding,
            value: source.value_encoding,
            qos: source.qos.clone(),
            retain: source.retain.clone(),
            user_properties: user_properties.map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
            has_properties: source.properties,
            taken: taken(source),
            feeds_kafka: config.is_fed_back(source),
            packet_bytes_max: config.mqtt.packet_bytes_max.min(PACKET_BYTES_MAX) as usize,
        }
    }

    /// A record with the encodings of the source.
    #[must_use]
    pub const fn encoded<'a>(&self, record: &'a Record<'a>) -> Encoded<'a> {
        Encoded { record, key: self.key, value: self.value }
    }

    /// Makes a message of each record of a topic as it may once have been written by a sink: the value is the payload, headers are properties.
    #[must_use]
    pub fn of_values(config: &Config, topic: &str, mqtt_topic: RecordTemplate) -> Self {
        Self {
            taken: names(mqtt_topic.variables()),
            routes: Box::new([(topic.into(), Some(mqtt_topic))]),
            from: Box::default(),
            payload: RecordTemplate::from(Field::Value),
            reads_value: true,
            has_value: true,
            key: Encoding::None,
            value: Encoding::None,
            qos: Choice::Fixed(0),
            retain: Choice::Fixed(false),
            user_properties: Box::default(),
            has_properties: true,
            feeds_kafka: false,
            packet_bytes_max: config.mqtt.packet_bytes_max.min(PACKET_BYTES_MAX) as usize,
        }
    }

    /// The message of a record. Without an MQTT topic it is one for rules alone. `now` is for the Message Expiry Interval, which counts from the record's
    /// timestamp.
    ///
    /// # Errors
    /// The first reason for which the record is no message.
    pub fn message<'a>(
        &'a self,
        record: &Record<'a>,
        now: WallMs,
        scratch: &'a mut Scratch,
    ) -> Result<Message<'a>, Reason> {
        let Ok(place) = self.routes.binary_search_by(|(topic, _)| (**topic).cmp(record.topic)) else {
            return Err(Reason::Unmapped);
        };
        if record.headers.clone().nth(RECORD_HEADERS_MAX).is_some() {
            return Err(Reason::Headers);
        }
        let hops = properties::hops(record);
        if self.feeds_kafka && hops >= RECORD_HOPS_MAX {
            return Err(Reason::Loop);
        }
        let Some(mqtt) = &self.routes[place].1 else {
            let payload = record.value.unwrap_or_default();
            let properties = Properties::EMPTY;
            return Ok(Message {
                topic: &self.from,
                payload,
                qos: QoS::AtLeastOnce,
                retain: false,
                properties,
                hops,
                left_out: 0,
            });
        };
        if self.has_value && record.value.is_some_and(|value| value.len() > self.packet_bytes_max) {
            return Err(Reason::TooLarge);
        }
        let of = self.encoded(record);
        scratch.forget();
        let qos = self.qos(&of, scratch)?;
        let retain = self.retain(&of, scratch)?;
        let is_value = self.value == Encoding::None && self.payload.as_single() == Some(&Field::Value);
        let left_out = properties::write(self, &of, is_value, now, scratch)?;
        let Scratch { topic, payload, properties, .. } = scratch;
        let topic = topic_of(mqtt, &of, topic)?;
        let payload = self.payload_of(record, &of, is_value, payload);
        let properties = properties.as_properties();
        if PUBLISH_OVERHEAD + topic.len() + properties.raw().len() + payload.len() > self.packet_bytes_max {
            return Err(Reason::TooLarge);
        }
        Ok(Message { topic, payload, qos, retain, properties, hops, left_out })
    }

    fn qos(&self, of: &Encoded<'_>, scratch: &mut Scratch) -> Result<QoS, Reason> {
        let bits = match &self.qos {
            Choice::Fixed(bits) => *bits,
            Choice::Either(template, other) if scratch.made(template, of).is_none() => *other,
            Choice::Of(template) | Choice::Either(template, _) => match scratch.made(template, of) {
                Some(b"0") => 0,
                Some(b"1") => 1,
                Some(b"2") => 2,
                _ => return Err(Reason::QosInvalid),
            },
        };
        QoS::from_bits(bits).ok_or(Reason::QosInvalid)
    }

    fn retain(&self, of: &Encoded<'_>, scratch: &mut Scratch) -> Result<bool, Reason> {
        match &self.retain {
            Choice::Fixed(retain) => Ok(*retain),
            Choice::Either(template, other) if scratch.made(template, of).is_none() => Ok(*other),
            Choice::Of(template) | Choice::Either(template, _) => match scratch.made(template, of) {
                Some(b"true" | b"1") => Ok(true),
                Some(b"false" | b"0") => Ok(false),
                _ => Err(Reason::RetainInvalid),
            },
        }
    }

    /// The payload. Fields that the record lacks are empty in it; a record without a value has an empty one.
    fn payload_of<'a>(
        &'a self,
        record: &Record<'a>,
        of: &Encoded<'_>,
        is_value: bool,
        made: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        match record.value {
            None if self.reads_value => &[],
            Some(value) if is_value => value,
            _ => match self.payload.as_literal() {
                Some(text) => text.as_bytes(),
                None => {
                    self.payload.render_all(of, made);
                    made
                }
            },
        }
    }
}

impl Scratch {
    /// Empties the buffers, and releases those that a large record has grown.
    fn forget(&mut self) {
        for buffer in [&mut self.topic, &mut self.payload, &mut self.text, &mut self.encoded] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
        if self.properties.as_properties().raw().len() > KEPT_BYTES_MAX {
            self.properties = PropertyBuf::new();
        }
        self.properties.clear();
    }

    /// The result of a template. `None`: the record lacks a field that it uses.
    pub(super) fn made(&mut self, template: &RecordTemplate, of: &Encoded<'_>) -> Option<&[u8]> {
        self.text.clear();
        template.render(of, &mut self.text).ok()?;
        Some(&self.text)
    }
}

/// Names of Forebay's kind, `mqtt-…`, of headers that topic, QoS and retain flag are made of: a sink with such `headers` writes what a source
/// reads back.
fn taken(source: &Source) -> Box<[Box<str>]> {
    let template = |template: &RecordTemplate| template.variables().cloned().collect::<Vec<_>>();
    let mut fields: Vec<Field> = source.routes().filter_map(|(_, mqtt)| mqtt).flat_map(template).collect();
    if let Choice::Of(qos) | Choice::Either(qos, _) = &source.qos {
        fields.extend(template(qos));
    }
    if let Choice::Of(retain) | Choice::Either(retain, _) = &source.retain {
        fields.extend(template(retain));
    }
    let of_broker = [CLIENT_ID, COPY_OF].map(|name| Field::Header(name.into()));
    fields.extend(of_broker.into_iter().filter(|_| source.is_of_broker));
    names(fields.iter())
}

fn names<'a>(fields: impl Iterator<Item = &'a Field>) -> Box<[Box<str>]> {
    let names = fields.filter_map(|field| match field {
        Field::Header(name) if name.starts_with(OUR_PREFIX) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

fn topic_of<'a>(template: &'a RecordTemplate, of: &Encoded<'_>, made: &'a mut Vec<u8>) -> Result<&'a str, Reason> {
    // The configuration has checked the template.
    if let Some(topic) = template.as_literal() {
        return Ok(topic);
    }
    template.render(of, made).map_err(|_| Reason::TopicAbsent)?;
    let topic = std::str::from_utf8(made).map_err(|_| Reason::TopicInvalid)?;
    // Producers of records may not write the server's own topics.
    let is_own = topic.starts_with('$') && !template.begins_with("$");
    if is_own || !valid_name(topic) { Err(Reason::TopicInvalid) } else { Ok(topic) }
}

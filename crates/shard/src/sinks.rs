//! A sink as a shard uses it: its templates, its producer, and the bound of its rows.

use std::io::Write as _;

use smallvec::SmallVec;

use forebay_config::{Acknowledge, Broker, Buffer, Config, Fed, OfBroker, OnRefuse, Partitioner, Sink, ValueFormat};
use forebay_kafka::producer::{RECEIVED_MS, Refusal, row_bytes_max};
use forebay_kafka::types::SinkId;
use forebay_metrics::histogram::Level;
use forebay_mqtt::property::{Property, VIA};
use forebay_record::murmur2::murmur2;
use forebay_record::names::{
    CONTENT_TYPE, COPY_OF, CORRELATION_DATA, EXPIRY, FORMAT, HOPS, OUR_PREFIX, RESPONSE_TOPIC, USER_PREFIX,
};
use forebay_record::varint;
use forebay_rule::envelope::Envelope;
use forebay_rule::members::{Bound, HeadersFrom};
use forebay_rule::template::{Absent, MessageContext, Template, Variable};
use forebay_rule::time::RecordTime;
use forebay_runtime::seam::WallMs;

use super::dead_letters::DeadPlan;
use super::members::{Members, Role};
use super::words::Objection;

/// Bytes of the lengths of a header's name and value, at most.
const HEADER_LENGTHS_MAX: usize = 10;
/// The longest Message Expiry Interval in digits.
const EXPIRY_DIGITS: &[u8] = b"4294967295";
/// The number of property headers. Each is in a PUBLISH at most once.
const PROPERTY_HEADERS_MAX: usize = 5;

/// Values of [`HOPS`].
const HOPS_VALUES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// All headers made of properties.
const PROPERTY_HEADERS: [&str; PROPERTY_HEADERS_MAX] = [CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, EXPIRY, FORMAT];

/// An application message on its way to the sinks.
pub(super) type Message<'a> = MessageContext<'a>;

/// A sink, ready for messages.
#[derive(Debug)]
pub(super) struct Plan {
    /// Index of the sink's cluster.
    pub(super) cluster: usize,
    /// The sink's number within that cluster's producer.
    pub(super) sink: SinkId,
    /// Whether a message is answered only when Kafka has it.
    pub(super) owes_answer: bool,
    /// Whether a new process finds each of the sink's rows again, so that a row can stand for the packet identifier of a QoS 2 message. Rows that a `hybrid`
    /// sink has written down are given up by the next process: a repeat has to go to it as a new message. So are rows beside `[broker]`: sessions have a log
    /// of their own, and the spool may be another machine's.
    pub(super) keeps_packet_ids: bool,
    /// The level that an answer waits for, as the histogram of answers names it.
    pub(super) level: Level,
    /// Whether a record's partition follows from its key.
    by_key: bool,
    /// Whether a record's partition follows from its client.
    pub(super) by_client: bool,
    /// Whether rows keep the hash that decides their partition, as it may be another one than their key's.
    pub(super) keeps_hash: bool,
    pub(super) topic: Template,
    pub(super) key: Option<Template>,
    value: Value,
    /// The time of the sink's records, if it is not that of receipt.
    time: Option<Box<RecordTime>>,
    pub(super) headers: Vec<(String, Template)>,
    /// More headers, with names from the message.
    pub(super) headers_from: Option<HeadersFrom>,
    /// Whether MQTT 5 properties other than user properties become headers.
    properties: bool,
    /// Prefix of the header names of user properties.
    prefix: Box<str>,
    /// Whether messages of one client, topic, QoS and flags, without properties, all go to the same place.
    pub(super) is_settled_by_topic: bool,
    /// Whether a message of QoS 0 that finds no room goes to all other destinations, and not here.
    drops_qos0: bool,
    pub(super) on_refuse: OnRefuse,
    /// Whether `[broker]` has created the sink, and its purpose.
    pub(super) of_broker: Option<OfBroker>,
    pub(super) dead: Option<DeadPlan>,
}

/// The value of a record.
#[derive(Debug)]
struct Value {
    template: Template,
    /// The envelope, instead of the template: the message as a JSON object.
    envelope: Option<Envelope>,
    /// Whether the value of an empty payload is null, whatever else is said.
    empty_is_null: bool,
}

impl Value {
    fn is_null(&self, message: &Message<'_>) -> bool {
        self.empty_is_null && message.payload.is_empty()
    }
}

impl Plan {
    /// A plan from the configuration; `sink` is its number within its cluster.
    pub(super) fn new(sink: &Sink, number: SinkId, dead: Option<DeadPlan>) -> Self {
        Self {
            cluster: sink.cluster,
            sink: number,
            owes_answer: sink.acknowledge != Acknowledge::Received,
            keeps_packet_ids: matches!(sink.buffer, Buffer::Disk | Buffer::HybridSaved),
            level: match sink.acknowledge {
                Acknowledge::Received => Level::Received,
                Acknowledge::Stored => Level::Stored,
                Acknowledge::Leader => Level::Leader,
                Acknowledge::Replicated => Level::Replicated,
            },
            by_key: sink.partitioner == Partitioner::Key,
            by_client: sink.partitioner == Partitioner::Client,
            keeps_hash: sink.partitioner == Partitioner::Client || sink.of_broker == Some(OfBroker::Retained),
            topic: sink.topic.clone(),
            key: sink.key.clone(),
            value: Value {
                template: sink.value.clone(),
                envelope: (sink.value_format == ValueFormat::Json).then(|| Envelope::new(&sink.metadata)),
                empty_is_null: sink.empty_is_null,
            },
            time: sink.timestamp.clone().map(Box::new),
            headers: sink.headers.clone(),
            headers_from: sink.headers_from.clone(),
            properties: sink.properties,
            prefix: sink.user_property_prefix.as_str().into(),
            is_settled_by_topic: !sink.topic.differs_within_topic()
                && !sink.key.as_ref().is_some_and(Template::differs_within_topic),
            drops_qos0: sink.drops_qos0,
            on_refuse: sink.on_refuse,
            of_broker: sink.of_broker,
            dead,
        }
    }

    /// This plan beside `[broker]`.
    fn beside(self, broker: Option<&Broker>) -> Self {
        Self { keeps_packet_ids: self.keeps_packet_ids && broker.is_none(), ..self }
    }

    /// This plan for rows that rules feed.
    pub(super) fn fed(self, sink: &Sink, fed: &Fed) -> Self {
        Self {
            topic: fed.topic.clone(),
            key: fed.key.clone(),
            value: Value { template: fed.value.clone(), envelope: None, empty_is_null: sink.empty_is_null },
            time: fed.timestamp.clone().map(Box::new),
            headers: fed.headers.clone(),
            headers_from: fed.headers_from.clone(),
            ..self
        }
    }

    /// Whether rows that rules feed have the default key: their own templates are over columns.
    pub(super) fn has_default_key(&self) -> bool {
        self.key.as_ref().and_then(Template::as_single) == Some(&Variable::Topic)
    }

    /// Whether the sink goes without a message of this QoS if it has no room for it.
    pub(super) const fn goes_without(&self, qos: u8) -> bool {
        self.drops_qos0 && qos == 0
    }

    /// Whether a topic that the template has made is one that only its own text may name: topics that begin with `_` are Kafka's own
    /// (`__consumer_offsets`) and those of tools (`_schemas`), and a device's messages must not reach them.
    pub(super) fn is_internal(&self, topic: &[u8]) -> bool {
        topic.first() == Some(&b'_') && !self.topic.begins_with("_")
    }

    /// The Kafka topic of these bytes, which the template has made of a message.
    ///
    /// # Errors
    /// The bytes are no text, or name a topic that devices must not reach.
    pub(super) fn topic_name<'a>(&self, made: &'a [u8]) -> Result<&'a str, Objection> {
        let invalid = Objection::Refusal(Refusal::TopicInvalid);
        if self.is_internal(made) { Err(invalid) } else { std::str::from_utf8(made).map_err(|_| invalid) }
    }

    /// An upper bound of the memory that this sink's row of a message takes, without rendering anything.
    ///
    /// # Errors
    /// The field that the value or the time uses and the message lacks, or the value found in the place of headers.
    #[inline]
    pub(super) fn row_bytes_max(&self, message: &Message<'_>) -> Result<usize, Absent> {
        if self.time.is_none() && self.is_bare(message) {
            let key = self.key.as_ref().map_or(0, |key| key.bytes_max(message).unwrap_or(0));
            return self.value_bytes_max(message).map(|value| row_bytes_max(key, value, 0, 0));
        }
        self.row_bytes_with_headers(message)
    }

    fn row_bytes_with_headers(&self, message: &Message<'_>) -> Result<usize, Absent> {
        if let Some(time) = &self.time {
            self.time_of(time, message)?;
        }
        let from = self.headers_from.as_ref().map_or(Ok(Bound::default()), |from| from.bound(message))?;
        self.value_bytes_max(message).map(|value| self.row_bytes_of(message, value, from))
    }

    pub(super) fn value_bytes_max(&self, message: &Message<'_>) -> Result<usize, Absent> {
        match &self.value {
            value if value.is_null(message) => Ok(0),
            Value { envelope: None, template, .. } => template.bytes_max(message),
            Value { envelope: Some(envelope), .. } => Ok(envelope.bytes_max(message)),
        }
    }

    /// The time of a message's record, given by the message. `None`: it is that of receipt.
    ///
    /// # Errors
    /// The field that the time uses and the message lacks.
    #[inline]
    pub(super) fn time(&self, message: &Message<'_>) -> Result<Option<WallMs>, Absent> {
        self.time.as_ref().map_or(Ok(None), |time| self.time_of(time, message))
    }

    #[inline(never)]
    fn time_of(&self, time: &RecordTime, message: &Message<'_>) -> Result<Option<WallMs>, Absent> {
        match time.of(message) {
            Ok(ms) => Ok(Some(WallMs(ms))),
            // A message that ends a value need not have a time.
            Err(_) if self.value.is_null(message) => Ok(None),
            Err(absent) => Err(absent),
        }
    }

    /// An upper bound of the row's memory with a value of a known length.
    pub(super) fn row_bytes_with(&self, message: &Message<'_>, value: usize) -> usize {
        let from = self.headers_from.as_ref().and_then(|from| from.bound(message).ok()).unwrap_or_default();
        self.row_bytes_of(message, value, from)
    }

    /// An upper bound of the row's memory with the headers of `headers_from` measured.
    fn row_bytes_of(&self, message: &Message<'_>, value: usize, from: Bound) -> usize {
        // A template without its variable makes no key, and no header.
        let optional = |template: &Template| template.bytes_max(message).unwrap_or(0);
        let key = self.key.as_ref().map_or(0, optional);
        let configured = self.headers.iter().map(|(name, value)| header_bytes(name.len(), optional(value)));
        let hops = hops_header(message).map_or(0, |(name, value)| header_bytes(name.len(), value.len()));
        let headers = configured.sum::<usize>() + self.device_headers_bytes(message) + hops;
        let from = from.bytes + from.count * (USER_PREFIX.len() + HEADER_LENGTHS_MAX);
        row_bytes_max(key, value, headers + from, 0)
    }

    /// The memory of the row, which is rendered for that: bounds of templates and of escaping are far above it.
    ///
    /// # Errors
    /// Like [`Plan::row_bytes_max`].
    pub(super) fn row_bytes(&self, message: &Message<'_>, scratch: &mut Vec<u8>) -> Result<usize, Absent> {
        scratch.clear();
        let key = self.key.as_ref().is_some_and(|key| key.render(message, scratch).is_ok());
        let key = if key { scratch.len() } else { 0 };
        let value = self.value(message, scratch)?.map_or(0, <[u8]>::len);
        scratch.clear();
        let ranges = self.render_headers(message, scratch);
        let headers =
            self.headers(message, scratch, &ranges).map(|(name, value)| header_bytes(name.len(), value.len()));
        Ok(row_bytes_max(key, value, headers.sum(), 0))
    }

    /// Bytes of the headers for a message's properties, and of properties that are left out for their name.
    fn device_headers_bytes(&self, message: &Message<'_>) -> usize {
        if message.properties.is_empty() {
            return 0;
        }
        let bytes = |property: Property<'_>| match property {
            Property::UserProperty(name, value) => {
                let in_front = self.in_front_of(name).len();
                header_bytes(in_front + name.len(), value.len())
            }
            other => device_header(other, self.properties, EXPIRY_DIGITS)
                .map_or(0, |(name, value)| header_bytes(name.len(), value.len())),
        };
        message.properties.iter().map(bytes).sum()
    }

    /// The prefix of a user property's name.
    fn in_front_of(&self, name: &str) -> &str {
        if self.prefix.is_empty() && is_like_ours(name) { USER_PREFIX } else { &self.prefix }
    }

    /// Whether some name of a user property gets a prefix.
    fn names_change(&self, message: &Message<'_>) -> bool {
        let is_like_ours =
            |property: Property<'_>| matches!(property, Property::UserProperty(name, _) if is_like_ours(name));
        !self.prefix.is_empty() || message.properties.iter().any(is_like_ours)
    }

    /// The hash that decides a record's partition, if the message has the parts for it.
    pub(super) fn hash(&self, message: &Message<'_>, key: Option<&[u8]>) -> Option<u32> {
        let hashed = if self.by_client { Some(message.client_id.as_bytes()) } else { key.filter(|_| self.by_key) };
        hashed.map(|bytes| murmur2(bytes).cast_unsigned())
    }

    /// The record's value, borrowed if the message has it, else rendered into `scratch`. `None` is Kafka's null.
    ///
    /// # Errors
    /// The field that the value uses and the message lacks.
    pub(super) fn value<'a>(
        &'a self,
        message: &Message<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, Absent> {
        if self.value.is_null(message) {
            return Ok(None);
        }
        let Some(envelope) = &self.value.envelope else { return self.value.template.value(message, scratch).map(Some) };
        scratch.clear();
        envelope.write(message, scratch);
        Ok(Some(scratch))
    }

    /// Appends the value of a row that a rule feeds. `false`: it is Kafka's null.
    ///
    /// # Errors
    /// The output could not be written.
    pub(super) fn write_value(&self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<bool, Absent> {
        let start = out.len();
        self.value.template.render(message, out)?;
        Ok(!(self.value.empty_is_null && out.len() == start))
    }

    /// Whether the record of a message has no headers: most have none.
    pub(super) fn is_bare(&self, message: &Message<'_>) -> bool {
        self.headers.is_empty() && self.headers_from.is_none() && message.properties.is_empty() && message.hops == 0
    }

    /// Renders the headers that need it into `scratch`.
    pub(super) fn render_headers(&self, message: &Message<'_>, scratch: &mut Vec<u8>) -> Ranges {
        let mut configured = SmallVec::new();
        for (_, value) in &self.headers {
            let start = scratch.len();
            configured.push(value.render(message, scratch).is_ok().then_some((start, scratch.len())));
        }
        let mut from = SmallVec::new();
        let mut left_out = 0;
        if let Some(of) = &self.headers_from {
            left_out = of.each(message, |name, value| {
                let start = scratch.len();
                if is_like_ours(name) {
                    scratch.extend_from_slice(USER_PREFIX.as_bytes());
                }
                scratch.extend_from_slice(name.as_bytes());
                let middle = scratch.len();
                scratch.extend_from_slice(value.as_bytes());
                if !self.is_ours(&scratch[start..middle]) {
                    from.push((start, middle, scratch.len()));
                }
            });
        }
        let start = scratch.len();
        if self.properties
            && !message.properties.is_empty()
            && let Some(seconds) = message.properties.message_expiry_interval_s()
        {
            let _ = write!(scratch, "{seconds}");
        }
        let expiry = (start, scratch.len());
        let mut user = SmallVec::new();
        if !message.properties.is_empty() && self.names_change(message) {
            for property in message.properties.iter() {
                let Property::UserProperty(name, _) = property else { continue };
                let start = scratch.len();
                scratch.extend_from_slice(self.in_front_of(name).as_bytes());
                scratch.extend_from_slice(name.as_bytes());
                let is_left_out = name == VIA && self.of_broker.is_none();
                user.push((!is_left_out && !self.is_ours(&scratch[start..])).then_some((start, scratch.len())));
            }
        }
        Ranges { configured, from, left_out, expiry, user }
    }

    /// Whether a header of this name is one that the sink or Forebay writes. A client's header of that name is left out: consumers could not tell them apart,
    /// and most take the last one.
    fn is_ours(&self, name: &[u8]) -> bool {
        name == RECEIVED_MS
            || self.headers.iter().any(|(ours, _)| ours.as_bytes() == name)
            || name == HOPS.as_bytes()
            // A property passed on to subscribers is passed on to bridges, too.
            || name == VIA.as_bytes() && self.of_broker.is_none()
            || PROPERTY_HEADERS.iter().any(|ours| ours.as_bytes() == name)
    }

    /// The headers of a record: the sink's own in the order of the configuration, those of `headers_from`, then the device's in the
    /// order sent.
    pub(super) fn headers<'a>(
        &'a self,
        message: &Message<'a>,
        rendered: &'a [u8],
        ranges: &'a Ranges,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let bytes = |(from, to): (usize, usize)| &rendered[from..to];
        let expiry = bytes(ranges.expiry);
        let configured = self.headers.iter().zip(&ranges.configured);
        let configured = configured.filter_map(move |((name, _), range)| Some((name.as_bytes(), bytes((*range)?))));
        let from =
            ranges.from.iter().map(move |(start, middle, end)| (bytes((*start, *middle)), bytes((*middle, *end))));
        let properties = self.properties;
        let mut place = 0;
        let from_device = message.properties.iter().filter_map(move |property| {
            let Property::UserProperty(name, value) = property else {
                return device_header(property, properties, expiry);
            };
            let name = if ranges.user.is_empty() {
                Some(name.as_bytes()).filter(|name| !self.is_ours(name))
            } else {
                ranges.user.get(place).copied().flatten().map(bytes)
            };
            place += 1;
            Some((name?, value.as_bytes()))
        });
        let copy_of = message.copy_of.filter(|_| self.of_broker == Some(OfBroker::Retained));
        let copy_of = copy_of.map(|place| (COPY_OF.as_bytes(), place.as_bytes()));
        configured.chain(from).chain(from_device).chain(hops_header(message)).chain(copy_of)
    }
}

/// The header of a message that was made of a record.
fn hops_header<'a>(message: &Message<'_>) -> Option<(&'a [u8], &'a [u8])> {
    if message.hops == 0 {
        return None;
    }
    let value = HOPS_VALUES[usize::from(message.hops).min(HOPS_VALUES.len() - 1)];
    Some((HOPS.as_bytes(), value.as_bytes()))
}

/// Bytes of a header in a record: name and value, and the length of each.
pub(super) const fn header_bytes(name: usize, value: usize) -> usize {
    varint::len(name as i64) + name + varint::len(value as i64) + value
}

/// Whether a user property has a name like those of Forebay's own headers. Such a name gets [`USER_PREFIX`] in front, so that no client can name a header
/// that begins with `mqtt-` and not with that prefix.
fn is_like_ours(name: &str) -> bool {
    name.starts_with(OUR_PREFIX)
}

/// A property of a PUBLISH, other than a user property, as a record header; `expiry` is the Message Expiry Interval in digits.
fn device_header<'a>(property: Property<'a>, all: bool, expiry: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (name, value) = match property {
        _ if !all => return None,
        Property::ContentType(text) => (CONTENT_TYPE, text.as_bytes()),
        Property::ResponseTopic(text) => (RESPONSE_TOPIC, text.as_bytes()),
        Property::CorrelationData(bytes) => (CORRELATION_DATA, bytes),
        Property::MessageExpiryInterval(_) => (EXPIRY, expiry),
        Property::PayloadFormatIndicator(0) => (FORMAT, &b"0"[..]),
        Property::PayloadFormatIndicator(_) => (FORMAT, &b"1"[..]),
        _ => return None,
    };
    Some((name.as_bytes(), value))
}

/// The sinks of a configuration, each with its number within its cluster's producer.
pub(super) fn plans<'a>(config: &Config, members: impl Fn(usize) -> &'a Members) -> Vec<Plan> {
    let plan = |(index, sink): (usize, &Sink)| {
        let members = members(sink.cluster);
        // Every sink is a member of its cluster.
        let number = members.number(Role::Own(index)).unwrap_or(SinkId(u16::MAX));
        let letters = members.number(Role::DeadLetters(index));
        let dead = sink.dead_letters.as_ref().map(|dead| DeadPlan::new(sink, dead, letters));
        Plan::new(sink, number, dead).beside(config.broker.as_ref())
    };
    config.sinks.iter().enumerate().map(plan).collect()
}

/// The plans for rows that rules feed, by the sinks' indexes in the configuration. `None`: no rule feeds the sink.
pub(super) fn fed_plans<'a>(config: &Config, members: impl Fn(usize) -> &'a Members) -> Vec<Option<Plan>> {
    let plan = |(index, sink): (usize, &Sink)| {
        let fed = sink.fed.as_deref()?;
        let members = members(sink.cluster);
        let number = members.number(Role::Own(index)).unwrap_or(SinkId(u16::MAX));
        let letters = members.number(Role::DeadLetters(index));
        let dead = sink.dead_letters.as_ref().map(|dead| DeadPlan::new(sink, dead, letters));
        Some(Plan::new(sink, number, dead).fed(sink, fed).beside(config.broker.as_ref()))
    };
    config.sinks.iter().enumerate().map(plan).collect()
}

/// The ranges of the rendered headers in the scratch.
pub(super) struct Ranges {
    /// Configured headers, in order. `None`: the message lacks a field that the header uses.
    configured: SmallVec<[Option<(usize, usize)>; 8]>,
    /// Headers of `headers_from`: the offsets where a name begins, where its value does, and where that ends.
    from: SmallVec<[(usize, usize, usize); 4]>,
    /// The number of values of `headers_from` that cannot be a header.
    pub(super) left_out: u64,
    /// The Message Expiry Interval in digits.
    expiry: (usize, usize),
    /// Names of user properties with their prefix, in the order sent. `None`: left out. Empty if no property has one.
    user: SmallVec<[Option<(usize, usize)>; 8]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_config as config;
    use forebay_mqtt::property::{Properties, PropertyBuf};

    fn plan(keys: &str) -> Plan {
        let text = format!("[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n{keys}");
        let config = config::parse(&text, "test.toml").expect("a configuration");
        let members = Members::of(&config, 0);
        plans(&config, |_| &members).remove(0)
    }

    impl Plan {
        fn with_topic(mut self, template: &str) -> Self {
            self.topic = Template::parse(template).expect("a template");
            self
        }
    }

    fn message(properties: Properties<'_>) -> Message<'_> {
        Message {
            topic: "a/b",
            client_id: "dev",
            username: None,
            qos: 1,
            retain: false,
            dup: false,
            packet_id: 7,
            payload: b"21.5",
            timestamp_ms: 1,
            properties,
            hops: 0,
            copy_of: None,
            output: None,
        }
    }

    /// The headers of a message's record. Checks that the bound holds for it.
    fn headers(plan: &Plan, message: &Message<'_>) -> Vec<(String, String)> {
        let mut rendered = Vec::new();
        let ranges = plan.render_headers(message, &mut rendered);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<_> = plan.headers(message, &rendered, &ranges).collect();
        let bytes = headers.iter().map(|(name, value)| header_bytes(name.len(), value.len())).sum();
        let key = plan.key.as_ref().map_or(0, |key| key.bytes_max(message).unwrap_or(0));
        let exact = row_bytes_max(key, message.payload.len(), bytes, 0);
        assert_eq!(plan.row_bytes(message, &mut Vec::new()), Ok(exact), "{headers:?}");
        assert!(plan.row_bytes_max(message).unwrap() >= exact, "{headers:?}");
        headers.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn properties_become_headers_in_the_order_sent() {
        let mut sent = PropertyBuf::new();
        sent.extend([
            Property::PayloadFormatIndicator(1),
            Property::UserProperty("unit", "C"),
            Property::MessageExpiryInterval(u32::MAX),
            Property::ContentType(""),
            Property::TopicAlias(3),
            Property::ResponseTopic("answers/dev"),
            Property::CorrelationData(b"42"),
            Property::UserProperty("unit", "K"),
        ]);
        let message = message(sent.as_properties());
        let want = [
            ("site", "berlin"),
            ("mqtt-payload-format", "1"),
            ("unit", "C"),
            ("mqtt-message-expiry-s", "4294967295"),
            ("mqtt-content-type", ""),
            ("mqtt-response-topic", "answers/dev"),
            ("mqtt-correlation-data", "42"),
            ("unit", "K"),
        ];
        assert_eq!(headers(&plan("headers = { site = 'berlin' }"), &message), owned(&want));
        let without = [want[0], want[2], want[7]];
        assert_eq!(headers(&plan("headers = { site = 'berlin' }\nproperties = false"), &message), owned(&without));
    }

    #[test]
    fn a_client_cannot_forge_a_header() {
        let mut sent = PropertyBuf::new();
        let names = ["site", "unit", "mqtt-content-type", "mqtt-received-ms", "Site", ""];
        sent.extend(names.map(|name| Property::UserProperty(name, "x")));
        let message = message(sent.as_properties());
        let berlin = ("site", "berlin");
        let keys = "headers = { site = 'berlin' }";
        // Finding W2: names that begin like Forebay's get a prefix, whether or not Forebay writes those.
        let ours = [("mqtt-user-mqtt-content-type", "x"), ("mqtt-user-mqtt-received-ms", "x")];
        let want = [berlin, ("unit", "x"), ours[0], ours[1], ("Site", "x"), ("", "x")];
        assert_eq!(headers(&plan(keys), &message), owned(&want));
        assert_eq!(headers(&plan(&format!("{keys}\nproperties = false")), &message), owned(&want));
        // An operator's prefix does not make a name one of Forebay's either.
        let forged = "user_property_prefix = 'mqtt-content-'\nproperties = false";
        let mut sent = PropertyBuf::new();
        sent.extend(["type", "other"].map(|name| Property::UserProperty(name, "x")));
        let short = super::tests::message(sent.as_properties());
        assert_eq!(headers(&plan(forged), &short), owned(&[("mqtt-content-other", "x")]));
        // With a prefix they are apart, but for names that begin with it.
        let prefixed = "headers = { site = 'berlin', u-unit = 'K' }\nuser_property_prefix = 'u-'";
        let want = [berlin, ("u-unit", "K"), ("u-site", "x"), ("u-mqtt-content-type", "x")];
        let rest = [("u-mqtt-received-ms", "x"), ("u-Site", "x"), ("u-", "x")];
        assert_eq!(headers(&plan(prefixed), &message), owned(&[&want[..], &rest[..]].concat()));
    }

    #[test]
    fn where_a_message_has_come_through_is_no_header() {
        let mut sent = PropertyBuf::new();
        sent.extend([Property::UserProperty(VIA, "x"), Property::UserProperty("unit", "C")]);
        let message = message(sent.as_properties());
        assert_eq!(headers(&plan(""), &message), owned(&[("unit", "C")]));
        assert_eq!(headers(&plan("user_property_prefix = 'u-'"), &message), owned(&[("u-unit", "C")]));
    }

    #[test]
    fn finding_w2_as_many_names_like_ours_as_a_packet_has_are_within_the_bound() {
        let mut sent = PropertyBuf::new();
        sent.extend((0..500).map(|_| Property::UserProperty("mqtt-", "")));
        assert_eq!(headers(&plan(""), &message(sent.as_properties())).len(), 500);
    }

    #[test]
    fn finding_w1_topics_of_kafkas_own_are_reached_by_the_text_of_a_template_alone() {
        let internal = |template: &str, topic: &str| {
            let plan = plan("").with_topic(template);
            let mut scratch = Vec::new();
            let message = Message { topic, ..message(Properties::EMPTY) };
            super::super::outlets::topic(&plan, &message, &mut scratch).map(str::to_owned).ok()
        };
        assert_eq!(internal("${topic}", "_schemas"), None);
        assert_eq!(internal("${topic}", "__consumer_offsets"), None);
        assert_eq!(internal("${topic}", "a_b").as_deref(), Some("a_b"));
        assert_eq!(internal("x${topic}", "_schemas").as_deref(), Some("x_schemas"));
        assert_eq!(internal("_${topic}", "own").as_deref(), Some("_own"));
        assert_eq!(internal("_own", "a").as_deref(), Some("_own"));
    }

    /// The smallest properties on the wire are the largest as headers.
    #[test]
    fn the_bound_holds_for_every_property_alone() {
        for property in [
            Property::PayloadFormatIndicator(0),
            Property::MessageExpiryInterval(u32::MAX),
            Property::ContentType(""),
            Property::ResponseTopic("a"),
            Property::CorrelationData(b""),
            Property::UserProperty("", ""),
        ] {
            let mut sent = PropertyBuf::new();
            sent.push(property);
            assert_eq!(headers(&plan(""), &message(sent.as_properties())).len(), 1);
            let prefixed = plan("user_property_prefix = 'a-prefix-that-is-longer-than-the-name-'");
            assert_eq!(headers(&prefixed, &message(sent.as_properties())).len(), 1);
        }
        assert!(headers(&plan(""), &message(Properties::EMPTY)).is_empty());
    }

    #[test]
    fn finding_k15_an_empty_payload_may_be_null_and_a_time_may_come_from_the_message() {
        let keys = "value = '${payload.v}'\nempty_payload = 'null'\ntimestamp = '${payload.ts}'\ntimestamp_unit = 's'";
        let (of, mut scratch) = (plan(keys), Vec::new());
        let empty = Message { payload: b"", ..message(Properties::EMPTY) };
        assert_eq!(of.value(&empty, &mut scratch), Ok(None));
        assert_eq!((of.value_bytes_max(&empty), of.time(&empty)), (Ok(0), Ok(None)));
        assert!(of.row_bytes_max(&empty).is_ok());
        let full = Message { payload: br#"{"v":5,"ts":7}"#, ..empty };
        assert_eq!(of.value(&full, &mut scratch), Ok(Some(&b"5"[..])));
        assert_eq!(of.time(&full), Ok(Some(WallMs(7_000))));
        let bad = Message { payload: br#"{"v":5,"ts":"x"}"#, ..empty };
        assert_eq!(of.row_bytes_max(&bad), Err(Absent::Time { in_payload: true }));
        let json = plan("value_format = 'json'\nempty_payload = 'null'");
        assert_eq!((json.value(&empty, &mut scratch), json.value_bytes_max(&empty)), (Ok(None), Ok(0)));
        let plain = plan("");
        assert_eq!((plain.value(&empty, &mut scratch), plain.time(&full)), (Ok(Some(&b""[..])), Ok(None)));
    }

    #[test]
    fn what_is_absent_leaves_out_the_header_and_the_key_and_refuses_the_value() {
        let plan_of = plan("key = '${user_properties.id}'\nheaders = { a = 'x${user_properties.id}', b = '${qos}' }");
        let bare = message(Properties::EMPTY);
        assert_eq!(headers(&plan_of, &bare), owned(&[("b", "1")]));
        let mut scratch = Vec::new();
        assert!(plan_of.key.as_ref().unwrap().value(&bare, &mut scratch).is_err());
        let value = plan("value = '${user_properties.id}'");
        assert_eq!(value.row_bytes_max(&bare), Err(Absent::UserProperty));
        let mut sent = PropertyBuf::new();
        sent.push(Property::UserProperty("id", "9"));
        let full = message(sent.as_properties());
        assert_eq!(headers(&plan_of, &full), owned(&[("a", "x9"), ("b", "1"), ("id", "9")]));
        assert!(value.row_bytes_max(&full).is_ok());
    }
}

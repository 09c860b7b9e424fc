//! A sink as a shard uses it: its templates, where its producer is, and how large a row of it can get.

use std::io::Write as _;

use smallvec::SmallVec;

use crate::config::{Acknowledge, Buffer, Config, Partitioner, Sink, ValueFormat};
use crate::kafka::producer::{RECEIVED_MS, row_bytes_max};
use crate::kafka::types::SinkId;
use crate::metrics::histogram::Level;
use crate::mqtt::property::Property;
use crate::record::murmur2::murmur2;
use crate::rule::envelope::Envelope;
use crate::rule::members::{Bound, HeadersFrom};
use crate::rule::template::{Absent, MessageContext, Template};

use super::dead_letters::DeadPlan;
use super::members::{Members, Role};

/// What the headers of MQTT 5 properties other than user properties have beyond the wire's bytes, all together: their
/// names, and the expiry's digits.
const PROPERTY_HEADERS_BYTES_MAX: usize = {
    let names = CONTENT_TYPE.len() + RESPONSE_TOPIC.len() + CORRELATION_DATA.len() + EXPIRY.len() + FORMAT.len();
    names + U32_DIGITS
};
const U32_DIGITS: usize = 10;
/// How many they are; each stands in a PUBLISH once at most.
const PROPERTY_HEADERS_MAX: usize = 5;

const CONTENT_TYPE: &str = "mqtt-content-type";
const RESPONSE_TOPIC: &str = "mqtt-response-topic";
const CORRELATION_DATA: &str = "mqtt-correlation-data";
const EXPIRY: &str = "mqtt-message-expiry-s";
const FORMAT: &str = "mqtt-payload-format";
/// What names of Forebay's own headers begin with.
const OUR_PREFIX: &str = "mqtt-";
/// What a user property's name gets in front that begins in the same way.
const USER_PREFIX: &str = "mqtt-user-";
/// All of them.
const PROPERTY_HEADERS: [&str; PROPERTY_HEADERS_MAX] = [CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, EXPIRY, FORMAT];

/// An application message on its way to the sinks.
pub(super) type Message<'a> = MessageContext<'a>;

/// A sink, ready for messages.
#[derive(Debug)]
pub(super) struct Plan {
    /// Index of its cluster.
    pub(super) cluster: usize,
    /// Its number within that cluster's producer.
    pub(super) sink: SinkId,
    /// Whether a message is answered only when Kafka has it.
    pub(super) owes_answer: bool,
    /// Whether a start finds each of its rows again, so that a row can stand for the packet id of a QoS 2 message. What a
    /// `hybrid` sink has written down is given up by the next start: a repeat has to go to it as a new message.
    pub(super) keeps_packet_ids: bool,
    /// What its answer waits for, as the histogram of answers names it.
    pub(super) level: Level,
    /// Whether a record's partition is that of its key.
    by_key: bool,
    /// Whether it is that of its client.
    pub(super) by_client: bool,
    pub(super) topic: Template,
    pub(super) key: Option<Template>,
    value: Template,
    /// In the place of `value`: the message as a JSON object.
    envelope: Option<Envelope>,
    pub(super) headers: Vec<(String, Template)>,
    /// More of them, with names of the message's own.
    headers_from: Option<HeadersFrom>,
    /// Whether MQTT 5 properties other than user properties become headers.
    properties: bool,
    /// Prefix of the header names of user properties.
    prefix: Box<str>,
    /// Whether messages of one client, topic, QoS and flags, without properties, all go to the same place.
    pub(super) is_settled_by_topic: bool,
    pub(super) dead: Option<DeadPlan>,
}

impl Plan {
    /// From the configuration; `sink` is its number within its cluster.
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
            topic: sink.topic.clone(),
            key: sink.key.clone(),
            value: sink.value.clone(),
            envelope: (sink.value_format == ValueFormat::Json).then(|| Envelope::new(&sink.metadata)),
            headers: sink.headers.clone(),
            headers_from: sink.headers_from.clone(),
            properties: sink.properties,
            prefix: sink.user_property_prefix.as_str().into(),
            is_settled_by_topic: !sink.topic.differs_within_topic()
                && !sink.key.as_ref().is_some_and(Template::differs_within_topic),
            dead,
        }
    }

    /// Whether a topic that the template has made is one that only its text may name: those that begin with `_` are Kafka's own
    /// (`__consumer_offsets`) and those of tools (`_schemas`), and what a device sends must not reach them.
    pub(super) fn is_internal(&self, topic: &[u8]) -> bool {
        topic.first() == Some(&b'_') && !self.topic.begins_with("_")
    }

    /// An upper bound of the memory that this sink's row of a message takes, without rendering anything.
    ///
    /// # Errors
    /// What the value asks for and the message does not have, or what is in the place of headers.
    pub(super) fn row_bytes_max(&self, message: &Message<'_>) -> Result<usize, Absent> {
        if let Some(from) = &self.headers_from {
            from.bound(message)?;
        }
        self.value_bytes_max(message).map(|value| self.row_bytes_with(message, value))
    }

    pub(super) fn value_bytes_max(&self, message: &Message<'_>) -> Result<usize, Absent> {
        match &self.envelope {
            None => self.value.bytes_max(message),
            Some(envelope) => Ok(envelope.bytes_max(message)),
        }
    }

    /// The same for a value of a known length.
    pub(super) fn row_bytes_with(&self, message: &Message<'_>, value: usize) -> usize {
        // Without its variable there is no key, and no header.
        let optional = |template: &Template| template.bytes_max(message).unwrap_or(0);
        let key = self.key.as_ref().map_or(0, optional);
        let from_device = message.properties.raw().len();
        let mut header_bytes = from_device;
        for (name, value) in &self.headers {
            header_bytes += name.len() + optional(value);
        }
        // A user property takes at least five bytes on the wire, so this bounds their number.
        let mut header_count = self.headers.len() + from_device / 5;
        header_bytes += self.prefix.len() * (from_device / 5) + self.user_prefixes_bytes(message);
        if let Some(from) = &self.headers_from {
            let Bound { count, bytes } = from.bound(message).unwrap_or_default();
            header_count += count;
            header_bytes += bytes + count * USER_PREFIX.len();
        }
        if self.properties && from_device > 0 {
            header_bytes += PROPERTY_HEADERS_BYTES_MAX;
            header_count += PROPERTY_HEADERS_MAX;
        }
        row_bytes_max(key, value, header_bytes, header_count)
    }

    /// What names of user properties get in front, beside the configured prefix, all together.
    fn user_prefixes_bytes(&self, message: &Message<'_>) -> usize {
        if !self.prefix.is_empty() || message.properties.is_empty() {
            return 0;
        }
        let is_like_ours =
            |property: &Property<'_>| matches!(property, Property::UserProperty(name, _) if is_like_ours(name));
        message.properties.iter().filter(is_like_ours).count() * USER_PREFIX.len()
    }

    /// The hash that says a record's partition, where the message has what it is made of.
    pub(super) fn hash(&self, message: &Message<'_>, key: Option<&[u8]>) -> Option<u32> {
        let hashed = if self.by_client { Some(message.client_id.as_bytes()) } else { key.filter(|_| self.by_key) };
        hashed.map(|bytes| murmur2(bytes).cast_unsigned())
    }

    /// The record's value, lent where it is there already, else made in `scratch`.
    ///
    /// # Errors
    /// What it asks for and the message does not have.
    pub(super) fn value<'a>(&'a self, message: &Message<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Absent> {
        let Some(envelope) = &self.envelope else { return self.value.value(message, scratch) };
        scratch.clear();
        envelope.write(message, scratch);
        Ok(scratch)
    }

    /// Whether the record of a message has no headers: most have none.
    pub(super) fn is_bare(&self, message: &Message<'_>) -> bool {
        self.headers.is_empty() && self.headers_from.is_none() && message.properties.is_empty()
    }

    /// Renders what headers need rendering into `scratch`.
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
        if !self.prefix.is_empty() || self.user_prefixes_bytes(message) > 0 {
            for property in message.properties.iter() {
                let Property::UserProperty(name, _) = property else { continue };
                let start = scratch.len();
                let prefix = if self.prefix.is_empty() && is_like_ours(name) { USER_PREFIX } else { &self.prefix };
                scratch.extend_from_slice(prefix.as_bytes());
                scratch.extend_from_slice(name.as_bytes());
                user.push((!self.is_ours(&scratch[start..])).then_some((start, scratch.len())));
            }
        }
        Ranges { configured, from, left_out, expiry, user }
    }

    /// Whether a header of this name is one that the sink or Forebay writes. A client's is left out: consumers could not
    /// tell them apart, and most take the last one.
    fn is_ours(&self, name: &[u8]) -> bool {
        name == RECEIVED_MS
            || self.headers.iter().any(|(ours, _)| ours.as_bytes() == name)
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
        configured.chain(from).chain(from_device)
    }
}

/// Whether a user property is named as Forebay's own headers are. It gets [`USER_PREFIX`] in front, so that a header that begins
/// with `mqtt-`, and not with that, was never named by a client.
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
        Plan::new(sink, number, sink.dead_letters.as_ref().map(|dead| DeadPlan::new(sink, dead, letters)))
    };
    config.sinks.iter().enumerate().map(plan).collect()
}

/// Where the rendered headers stand in the scratch.
pub(super) struct Ranges {
    /// In the order of the configuration; `None`: the message does not have what it asks for.
    configured: SmallVec<[Option<(usize, usize)>; 8]>,
    /// Of `headers_from`: where a name begins, where its value does, and where that ends.
    from: SmallVec<[(usize, usize, usize); 4]>,
    /// Values of `headers_from` that are none for a header.
    pub(super) left_out: u64,
    /// The Message Expiry Interval in digits.
    expiry: (usize, usize),
    /// Names of user properties with their prefix, in the order sent; `None`: left out. Empty where none has one.
    user: SmallVec<[Option<(usize, usize)>; 8]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::mqtt::property::{Properties, PropertyBuf};

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
        }
    }

    /// The headers of a message's record; sees that the bound holds for it.
    fn headers(plan: &Plan, message: &Message<'_>) -> Vec<(String, String)> {
        let mut rendered = Vec::new();
        let ranges = plan.render_headers(message, &mut rendered);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<_> = plan.headers(message, &rendered, &ranges).collect();
        let bytes = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let least = row_bytes_max(message.topic.len(), message.payload.len(), bytes, headers.len());
        assert!(plan.row_bytes_max(message).unwrap() >= least, "{headers:?}");
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
        // Finding W2: names that begin as ours do get something in front, whether or not we write those.
        let ours = [("mqtt-user-mqtt-content-type", "x"), ("mqtt-user-mqtt-received-ms", "x")];
        let want = [berlin, ("unit", "x"), ours[0], ours[1], ("Site", "x"), ("", "x")];
        assert_eq!(headers(&plan(keys), &message), owned(&want));
        assert_eq!(headers(&plan(&format!("{keys}\nproperties = false")), &message), owned(&want));
        // A prefix of the operator's does not make one of ours either.
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

    /// The smallest on the wire are the largest beside it.
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

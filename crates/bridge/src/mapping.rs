//! Mapping of messages that pass through a bridge: the entry of the configuration that takes a message, and the topic, QoS, retain
//! flag and payload that it gets. Nothing is passed on that MQTT, or the other end, does not accept.

use super::granted::Granted;
use forebay_mqtt::packet::{QoS, Version};
use forebay_mqtt::topic;
use forebay_rule::template::{MessageContext, Template};

/// Bytes of a buffer that are kept from one message to the next.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// The retained messages that an `in` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// The retained messages after each SUBSCRIBE.
    All,
    /// The retained messages of a subscription that is new to the remote.
    New,
    /// No retained messages.
    None,
}

impl Retained {
    /// Retain Handling of the subscription (section 3.8.3.1).
    #[must_use]
    pub const fn handling(self) -> u8 {
        match self {
            Self::All => 0,
            Self::New => 1,
            Self::None => 2,
        }
    }

    /// Whether a message with RETAIN is dropped, as the remote could not be asked to leave it out: before 5.0 it sends all retained
    /// messages after each SUBSCRIBE. A live message has RETAIN there only for a bridge. `is_settled`: the retained messages have
    /// arrived.
    #[must_use]
    pub fn drops(self, granted: &Granted, is_settled: bool) -> bool {
        let may_be_live = granted.is_bridge && is_settled;
        match self {
            _ if granted.version == Version::V5 || may_be_live => false,
            Self::All => false,
            Self::New => granted.session_present,
            Self::None => true,
        }
    }
}

/// The reason why a message goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// No filter matches the message's topic: the message was not asked for.
    Unasked,
    /// The message has come through this instance, or from this remote, before; or through too many.
    Loop,
    /// The message comes again and again, and tells nobody where it has come from: see [`Rounds`](super::Rounds).
    Repeated,
    /// The packet is longer than any is taken, by its length in bytes.
    TooLong(usize),
    /// The message lacks what the template of the topic needs.
    TopicAbsent,
    /// The resulting topic is invalid, or one of the server's own.
    TopicInvalid,
    /// The resulting QoS is invalid.
    QosInvalid,
    /// The resulting retain flag is invalid.
    RetainInvalid,
    /// The message lacks what the template of the payload needs.
    PayloadAbsent,
}

impl Unfit {
    /// The label in metrics and events.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Loop => "loop",
            Self::Repeated => "repeated",
            Self::TooLong(_) => "too_long",
            Self::TopicAbsent => "topic_absent",
            Self::TopicInvalid => "topic_invalid",
            Self::QosInvalid => "qos_invalid",
            Self::RetainInvalid => "retain_invalid",
            Self::PayloadAbsent => "payload_absent",
        }
    }
}

/// `In` takes messages of the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct In {
    /// Filters, without `$share/NAME/`.
    pub filters: Vec<Box<str>>,
    /// The topic here.
    pub topic: Template,
    /// Retained messages that are taken.
    pub retained: Retained,
    /// Whether a message that is retained there is retained here.
    pub keeps_retain: bool,
}

/// `Out` takes messages for the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// The topic there.
    pub topic: Template,
    /// The QoS, which is lowered to that of the message and to the remote's maximum.
    pub qos: Template,
    /// The retain flag, if the remote has one.
    pub retain: Template,
    /// The payload.
    pub payload: Template,
}

/// `Passed` is a message as the bridge passes it on. Everything is borrowed: from the message, the templates or the [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed<'a> {
    /// A valid topic name.
    pub topic: &'a str,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The payload.
    pub payload: &'a [u8],
}

/// Buffers for rendered topics and payloads. One per shard is enough.
#[derive(Debug, Default)]
pub struct Scratch {
    topic: Vec<u8>,
    payload: Vec<u8>,
    text: Vec<u8>,
}

impl Scratch {
    /// Gives back the buffers that a large message has made large.
    fn forget(&mut self) {
        for buffer in [&mut self.topic, &mut self.payload, &mut self.text] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
    }
}

/// The place of the first `in` that takes messages of a topic.
///
/// # Errors
/// [`Unfit::Unasked`].
pub fn taker<'a>(all: impl IntoIterator<Item = &'a In>, topic: &str) -> Result<usize, Unfit> {
    let takes = |of: &In| of.filters.iter().any(|filter| topic::matches(filter, topic));
    all.into_iter().position(takes).ok_or(Unfit::Unasked)
}

impl In {
    /// Maps a message of the remote. The result has no topic that begins with `$`, unless the template says so: such topics are not
    /// for publishers of the remote, and the service's own topics are for nobody.
    ///
    /// # Errors
    /// The reason why the message goes no further.
    pub fn pass<'a>(&'a self, of: &MessageContext<'a>, scratch: &'a mut Scratch) -> Result<Passed<'a>, Unfit> {
        scratch.forget();
        let name = topic_of(&self.topic, of, &mut scratch.topic)?;
        let is_own = name.starts_with('$') && !self.topic.begins_with("$");
        if is_own || name.starts_with("$SYS/") || topic::is_shared(name) {
            return Err(Unfit::TopicInvalid);
        }
        let qos = QoS::from_bits(of.qos).ok_or(Unfit::QosInvalid)?;
        Ok(Passed { topic: name, qos, retain: of.retain && self.keeps_retain, payload: of.payload })
    }
}

impl Out {
    /// Maps a message for a remote with these grants.
    ///
    /// # Errors
    /// The reason why the message goes no further.
    pub fn pass<'a>(
        &'a self,
        of: &MessageContext<'a>,
        granted: &Granted,
        scratch: &'a mut Scratch,
    ) -> Result<Passed<'a>, Unfit> {
        scratch.forget();
        let qos = match made(&self.qos, of, &mut scratch.text) {
            Some(b"0") => QoS::AtMostOnce,
            Some(b"1") => QoS::AtLeastOnce,
            Some(b"2") => QoS::ExactlyOnce,
            _ => return Err(Unfit::QosInvalid),
        };
        let of_message = QoS::from_bits(of.qos).ok_or(Unfit::QosInvalid)?;
        let retain = match made(&self.retain, of, &mut scratch.text) {
            Some(b"true" | b"1") => granted.retain_available,
            Some(b"false" | b"0") => false,
            _ => return Err(Unfit::RetainInvalid),
        };
        let topic = topic_of(&self.topic, of, &mut scratch.topic)?;
        let payload = self.payload.value(of, &mut scratch.payload).map_err(|_| Unfit::PayloadAbsent)?;
        Ok(Passed { topic, qos: qos.min(of_message).min(granted.maximum_qos), retain, payload })
    }
}

fn made<'a>(template: &'a Template, of: &MessageContext<'a>, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    template.value(of, scratch).ok()
}

fn topic_of<'a>(template: &'a Template, of: &MessageContext<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a str, Unfit> {
    let made = template.value(of, scratch).map_err(|_| Unfit::TopicAbsent)?;
    let name = std::str::from_utf8(made).map_err(|_| Unfit::TopicInvalid)?;
    if topic::valid_name(name) { Ok(name) } else { Err(Unfit::TopicInvalid) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_mqtt::property::{Properties, Property, PropertyBuf};

    fn template(text: &str) -> Template {
        Template::parse(text).expect("well-formed")
    }

    fn message<'a>(topic: &'a str, qos: u8, retain: bool, payload: &'a [u8]) -> MessageContext<'a> {
        MessageContext {
            topic,
            client_id: "c",
            username: None,
            qos,
            retain,
            dup: false,
            packet_id: 7,
            payload,
            timestamp_ms: 0,
            properties: Properties::EMPTY,
            hops: 0,
            copy_of: None,
            output: None,
        }
    }

    fn granted(version: Version) -> Granted {
        Granted {
            version,
            is_bridge: false,
            session_present: false,
            keep_alive_s: 0,
            in_flight_max: 1,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            packet_size_max: u32::MAX,
            topic_alias_maximum: 0,
            session_expiry_s: 0,
            wildcards_available: true,
            shared_available: true,
            instance: None,
        }
    }

    fn one_in(filters: &[&str], topic: &str) -> In {
        let filters = filters.iter().map(|filter| (*filter).into()).collect();
        In { filters, topic: template(topic), retained: Retained::All, keeps_retain: false }
    }

    /// G6.
    #[test]
    fn the_first_that_matches_takes_it() {
        let all = [one_in(&["a/+", "b"], "x"), one_in(&["a/#"], "y")];
        assert_eq!([taker(&all, "a/1"), taker(&all, "b"), taker(&all, "a/1/2")], [Ok(0), Ok(0), Ok(1)]);
        assert_eq!([taker(&all, "c"), taker(&all, "$SYS/a")], [Err(Unfit::Unasked); 2]);
        assert_eq!(taker(&[one_in(&["#"], "x")], "$SYS/a"), Err(Unfit::Unasked), "[MQTT-4.7.2-1]");
    }

    #[test]
    fn what_comes_in() {
        let mut scratch = Scratch::default();
        let all = one_in(&["#"], "plant/${topic}");
        let passed = all.pass(&message("a/b", 2, true, b"p"), &mut scratch).expect("fit");
        let expected = Passed { topic: "plant/a/b", qos: QoS::ExactlyOnce, retain: false, payload: b"p" };
        assert_eq!(passed, expected);
        let keeps = In { keeps_retain: true, ..one_in(&["#"], "${topic}") };
        for retain in [false, true] {
            let passed = keeps.pass(&message("a", 0, retain, b""), &mut scratch).expect("fit");
            assert_eq!((passed.topic, passed.retain), ("a", retain));
        }
        for (template, topic) in [
            ("${topic}", "$aws/things"),
            ("${topic}", "$SYS/broker"),
            ("$SYS/${topic}", "a"),
            ("$share/${topic}", "g/a"),
            ("${topic[5]}", "a"),
            ("${payload}", "a"),
        ] {
            let of = one_in(&["#"], template);
            let message = message(topic, 1, false, b"a/#");
            assert_eq!(of.pass(&message, &mut scratch), Err(Unfit::TopicInvalid), "{template} of {topic}");
        }
        let own = one_in(&["$aws/#"], "$edge/${topic[1]}");
        assert_eq!(own.pass(&message("$aws/x", 0, false, b""), &mut scratch).expect("fit").topic, "$edge/x");
        let absent = one_in(&["#"], "${user_properties.unit}");
        assert_eq!(absent.pass(&message("a", 0, false, b""), &mut scratch), Err(Unfit::TopicAbsent));
        let mut properties = PropertyBuf::new();
        properties.push(Property::UserProperty("unit", "9"));
        let with = MessageContext { properties: properties.as_properties(), ..message("a", 0, false, b"") };
        assert_eq!(absent.pass(&with, &mut scratch).expect("fit").topic, "9");
    }

    fn out(topic: &str, qos: &str, retain: &str, payload: &str) -> Out {
        let [topic, qos, retain, payload] = [topic, qos, retain, payload].map(template);
        Out { topic, qos, retain, payload }
    }

    #[test]
    fn what_goes_out() {
        let (mut scratch, granted) = (Scratch::default(), granted(Version::V5));
        let usual = out("site-7/${topic}", "${qos}", "${retain}", "${payload}");
        for (qos, bits) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
            for retain in [false, true] {
                let passed = usual.pass(&message("a", bits, retain, b"\xff"), &granted, &mut scratch).expect("fit");
                assert_eq!(passed, Passed { topic: "site-7/a", qos, retain, payload: b"\xff" });
            }
        }
        // The lowest of three.
        for (qos, of, maximum, goes) in
            [("2", 1, QoS::ExactlyOnce, 1), ("0", 2, QoS::ExactlyOnce, 0), ("2", 2, QoS::AtLeastOnce, 1)]
        {
            let granted = Granted { maximum_qos: maximum, retain_available: false, ..granted.clone() };
            let of_qos = out("t", qos, "true", "x");
            let passed = of_qos.pass(&message("a", of, true, b""), &granted, &mut scratch).expect("fit");
            assert_eq!((passed.qos as u8, passed.retain, passed.payload), (goes, false, &b"x"[..]));
        }
        for (of, why) in [
            (out("t", "3", "true", "x"), Unfit::QosInvalid),
            (out("t", "${payload.q}", "true", "x"), Unfit::QosInvalid),
            (out("t", "1", "yes", "x"), Unfit::RetainInvalid),
            (out("${payload}", "1", "1", "x"), Unfit::TopicInvalid),
            (out("${user_properties.a}", "1", "1", "x"), Unfit::TopicAbsent),
            (out("t", "1", "1", "${payload.x}"), Unfit::PayloadAbsent),
        ] {
            assert_eq!(of.pass(&message("a", 1, false, b"#"), &granted, &mut scratch), Err(why), "{of:?}");
        }
    }

    /// G11.
    #[test]
    fn retained_messages_before_5() {
        use Retained::{All, New, None};
        assert_eq!([All, New, None].map(Retained::handling), [0, 1, 2]);
        let drops = |granted: &Granted, is_settled| [All, New, None].map(|of| of.drops(granted, is_settled));
        let v5 = granted(Version::V5);
        assert_eq!(drops(&v5, false), [false; 3], "the remote has been asked");
        let v311 = granted(Version::V311);
        assert_eq!(drops(&v311, false), [false, false, true]);
        assert_eq!(drops(&v311, true), [false, false, true], "a live message has no RETAIN");
        let present = Granted { session_present: true, ..v311.clone() };
        assert_eq!(drops(&present, false), [false, true, true], "it had the subscriptions");
        let bridge = Granted { is_bridge: true, ..present };
        assert_eq!(drops(&bridge, false), [false, true, true]);
        assert_eq!(drops(&bridge, true), [false; 3], "a live one may have it");
    }

    #[test]
    fn a_large_message_leaves_no_large_buffers() {
        let (mut scratch, granted) = (Scratch::default(), granted(Version::V5));
        let large = vec![b'x'; 1 << 20];
        let of = out("t", "1", "0", "<${payload}>");
        assert_eq!(
            of.pass(&message("a", 1, false, &large), &granted, &mut scratch).expect("fit").payload.len(),
            (1 << 20) + 2
        );
        assert_eq!(of.pass(&message("a", 1, false, b"y"), &granted, &mut scratch).expect("fit").payload, b"<y>");
        assert!(scratch.payload.capacity() <= KEPT_BYTES_MAX);
    }
}

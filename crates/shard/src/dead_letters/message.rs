//! Messages that a sink will never take, of publishers that cannot be notified (MQTT 3.x, QoS 0, wills): if the sink has dead letters, they become one there.
//! The message's other sinks take it as usual.

use forebay_config::{self as config, Sink};
use forebay_kafka::producer::{Full, Producer, Row};
use forebay_kafka::topic_name::KAFKA_TOPIC_BYTES_MAX;
use forebay_kafka::types::{SinkId, Ticket};
use forebay_record::timestamp_at;
use forebay_runtime::seam::{Monotonic, WallMs};

use super::DeadLetterQueue;
use super::header::{
    CLIENT_ID_HEADER, CUT_HEADER, CUT_VALUE_BYTES, HEADER_PREFIX, HEADERS_BYTES_MAX, MQTT_TOPIC_HEADER, QOS_HEADER,
    REASON_HEADER, RECEIVED_HEADER, RULE_HEADER, SINK_HEADER, TOPIC_HEADER,
};
use super::line::Line;
use crate::outlets::{Outlets, topic};
use crate::settings;
use crate::sinks::{Message, Plan};
use crate::words::Objection;

/// A sink's dead letters, as its shard uses them.
#[derive(Debug)]
pub(crate) struct DeadPlan {
    sink: String,
    /// The sink that writes the topic, and the topic.
    topic: Option<(SinkId, String)>,
    file: bool,
    record_bytes_max: usize,
}

/// The place of a message that its sink will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The topic, with the value or the beginning of it; `bytes` of memory.
    Topic { hidden: SinkId, bytes: usize, cut: bool },
    /// The file.
    File,
}

impl DeadPlan {
    pub(crate) fn new(sink: &Sink, dead: &config::DeadLetters, letters: Option<SinkId>) -> Self {
        Self {
            sink: sink.name.clone(),
            topic: letters.zip(dead.topic.clone()),
            file: dead.file.is_some(),
            record_bytes_max: settings::dead_record_bytes_max(sink),
        }
    }
}

impl Plan {
    /// The place for a message. `None`: there are no dead letters that could take it.
    pub(crate) fn place(&self, message: &Message<'_>) -> Option<Place> {
        let dead = self.dead.as_ref()?;
        if let Some((hidden, _)) = &dead.topic {
            let value = self.value_bytes_max(message).unwrap_or(message.payload.len());
            let more = HEADERS_BYTES_MAX + message.topic.len() + message.client_id.len();
            for (value, cut) in [(value, false), (value.min(CUT_VALUE_BYTES), true)] {
                let bytes = self.row_bytes_with(message, value) + more;
                if bytes <= dead.record_bytes_max {
                    return Some(Place::Topic { hidden: *hidden, bytes, cut });
                }
                if dead.file {
                    break;
                }
            }
        }
        dead.file.then_some(Place::File)
    }
}

impl Place {
    /// Memory of the sink's cluster that the letter takes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Topic { bytes, .. } => bytes,
            Self::File => 0,
        }
    }

    /// Whether there is room now; `index` is the sink's number in the configuration.
    pub(crate) fn room(self, letters: &DeadLetterQueue, producer: &Producer, index: u16) -> Result<(), Full> {
        match self {
            Self::Topic { .. } if !letters.has_places(usize::from(index)) => Err(Full::Letters(index)),
            Self::Topic { hidden, bytes, .. } => producer.share(hidden, None, bytes),
            Self::File if letters.has_room(usize::from(index)) => Ok(()),
            Self::File => Err(Full::Letters(index)),
        }
    }
}

impl Outlets {
    /// Writes the message to the dead letters of a sink that will never take it, if room was found for it. Returns the number of answers pending for it.
    pub(crate) fn write_off(
        &mut self,
        (index, objection, place): (u16, Objection, Place),
        message: &Message<'_>,
        ticket: Option<Ticket>,
        (now, wall): (Monotonic, WallMs),
    ) -> u16 {
        let (plan, scratch) = (&self.plans[usize::from(index)], &mut self.workspace);
        let Some(dead) = &plan.dead else { return 0 };
        let (mut name, mut key) = (Vec::new(), Vec::new());
        let upstream = &mut self.upstreams[plan.cluster];
        upstream.busy = true;
        scratch.headers.clear();
        let topic = topic(plan, message, &mut name).ok();
        // A value that cannot be rendered is written as received.
        let value = plan.value(message, &mut scratch.value).unwrap_or(Some(message.payload));
        let bytes = value.map_or(0, <[u8]>::len);
        let key = plan.key.as_ref().and_then(|template| template.value(message, &mut key).ok());
        let kept = if matches!(place, Place::Topic { cut: true, .. }) { bytes.min(CUT_VALUE_BYTES) } else { bytes };
        let (received, whole, qos) = (message.timestamp_ms.to_string(), bytes.to_string(), message.qos.to_string());
        let ranges = plan.render_headers(message, &mut scratch.headers);
        let headers = plan.headers(message, &scratch.headers, &ranges);
        let rule = match objection {
            Objection::RuleFailed(rule) => self.rules.as_ref().and_then(|rules| rules.name(rule)),
            _ => None,
        };
        self.letters.note(usize::from(index), objection.name(), topic, Some(message.topic));
        let Place::Topic { hidden, .. } = place else {
            let line = Line {
                time_ms: wall.0,
                sink: &dead.sink,
                reason: objection.name(),
                rule,
                mqtt_topic: Some(message.topic),
                client_id: Some(message.client_id),
                qos: Some(i64::from(message.qos)),
                kafka_topic: topic,
                received_ms: message.timestamp_ms,
                key,
                value,
                ..Line::default()
            };
            self.letters.message_to_file(usize::from(index), ticket, line.write(headers));
            return u16::from(plan.owes_answer);
        };
        let why = [
            (SINK_HEADER, Some(dead.sink.as_str())),
            (REASON_HEADER, Some(objection.name())),
            (RULE_HEADER, rule),
            // A topic that Kafka would not take may be of any length.
            (TOPIC_HEADER, topic.filter(|topic| topic.len() <= KAFKA_TOPIC_BYTES_MAX)),
            (RECEIVED_HEADER, Some(received.as_str())),
            (CUT_HEADER, (kept < bytes).then_some(whole.as_str())),
            (MQTT_TOPIC_HEADER, Some(message.topic)),
            (CLIENT_ID_HEADER, Some(message.client_id)),
            (QOS_HEADER, Some(qos.as_str())),
        ];
        let why = why.iter().filter_map(|(name, value)| Some((name.as_bytes(), (*value)?.as_bytes())));
        // Names of our own headers are ours: a device cannot forge them.
        let headers = headers.filter(|(name, _)| !name.starts_with(HEADER_PREFIX.as_bytes()));
        let timestamp = timestamp_at(wall, self.clock_set_after);
        let row = Row { key, value: value.map(|value| &value[..kept]), headers: headers.chain(why), timestamp };
        let dead_topic = dead.topic.as_ref().map_or("", |(_, topic)| topic);
        let ticket = self.letters.message(usize::from(index), ticket);
        upstream.producer.append(hidden, dead_topic, row, Some(ticket), now);
        u16::from(plan.owes_answer)
    }
}

//! Retained messages as the control plane reports them.

use forebay_metrics::inspect::{LOOKED_AT_MAX, Part, Retained as Row, Told};
use forebay_mqtt::route::topics::{TopicKey, Walk};
use forebay_mqtt::topic::valid_filter;
use forebay_runtime::seam::Monotonic;

use super::super::Broker;
use super::super::delivery::publish_of;
use super::Value;
use crate::out::Out;

impl Value {
    fn row(&self, now: Monotonic, with_payload: bool) -> Option<Row> {
        if self.until.is_some_and(|until| until <= now) {
            return None;
        }
        let publish = publish_of(&self.packet)?;
        Some(Row {
            topic: publish.topic.to_owned(),
            qos: publish.qos as u8,
            payload_bytes: publish.payload.len(),
            payload: with_payload.then(|| publish.payload.to_vec()),
            age_s: now.since(self.since).as_secs(),
            expires_in_s: self.until.map(|until| until.since(now).as_secs()),
            stored: self.number.is_some(),
        })
    }
}

impl Broker {
    /// Retained messages with topics that match a filter, if it is valid, from topic `from` on.
    pub fn retained_messages(&self, io: &dyn Out, filter: &str, from: &str, limit: usize) -> Told {
        if !valid_filter(filter) {
            return Told::Done(false);
        }
        let mut rows = Vec::new();
        let next = self.retained.topics.walk(filter, &TopicKey::new(from), LOOKED_AT_MAX, |_, value| {
            if rows.len() == limit {
                return Walk::Stop;
            }
            rows.extend(value.row(io.now(), false));
            Walk::On
        });
        Told::Retained(Part { rows, next: next.map(|next| next.topic()) })
    }

    /// The retained message of a topic.
    pub fn retained_message(&self, io: &dyn Out, topic: &str) -> Option<Row> {
        self.retained.topics.get(&TopicKey::new(topic)).and_then(|value| value.row(io.now(), true))
    }

    /// Ends the retained message of a topic. False: there is none. Subscribers are not notified.
    pub fn end_retained(&mut self, topic: &str) -> bool {
        let topic = TopicKey::new(topic);
        let Some(value) = self.retained.take(&topic) else { return false };
        self.forget_retained(&topic, value.number);
        true
    }
}

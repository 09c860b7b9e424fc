//! A sink as a shard uses it: its templates, where its producer is, and how large a row of it can get.

use smallvec::SmallVec;

use crate::config::{Acknowledge, Config, Sink};
use crate::kafka::producer::row_bytes_max;
use crate::kafka::types::SinkId;
use crate::mqtt::property::Properties;
use crate::rule::template::{MessageContext, Template};

/// An application message on its way to the sinks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// What templates see.
    pub(super) context: MessageContext<'a>,
    /// 5.0 properties; the user properties among them become record headers.
    pub(super) properties: Properties<'a>,
}

/// A sink, ready for messages.
#[derive(Debug)]
pub(super) struct Plan {
    /// Index of its cluster.
    pub(super) cluster: usize,
    /// Its number within that cluster's producer.
    pub(super) sink: SinkId,
    /// Whether a message is answered only when Kafka has it.
    pub(super) owes_answer: bool,
    pub(super) topic: Template,
    pub(super) key: Option<Template>,
    pub(super) value: Template,
    pub(super) headers: Vec<(String, Template)>,
}

impl Plan {
    /// From the configuration; `sink` is its number within its cluster.
    pub(super) fn new(sink: &Sink, number: SinkId) -> Self {
        Self {
            cluster: sink.cluster,
            sink: number,
            owes_answer: sink.acknowledge != Acknowledge::Received,
            topic: sink.topic.clone(),
            key: sink.key.clone(),
            value: sink.value.clone(),
            headers: sink.headers.clone(),
        }
    }

    /// An upper bound of the memory that this sink's row of a message takes, without rendering anything.
    pub(super) fn row_bytes_max(&self, message: &Message<'_>) -> usize {
        let context = &message.context;
        let key = self.key.as_ref().map_or(0, |key| key.bytes_max(context));
        let mut header_bytes = message.properties.raw().len();
        for (name, value) in &self.headers {
            header_bytes += name.len() + value.bytes_max(context);
        }
        // A user property takes at least five bytes on the wire, so this bounds their number.
        let header_count = self.headers.len() + message.properties.raw().len() / 5;
        row_bytes_max(key, self.value.bytes_max(context), header_bytes, header_count)
    }

    /// Renders the configured headers into `scratch`; the ranges stand in the order of the configuration.
    pub(super) fn render_headers(&self, context: &MessageContext<'_>, scratch: &mut Vec<u8>) -> Ranges {
        let mut ranges = Ranges::new();
        for (_, value) in &self.headers {
            let start = scratch.len();
            value.render(context, scratch);
            ranges.push((start, scratch.len()));
        }
        ranges
    }
}

/// The sinks of a configuration, each with its number within its cluster's producer.
pub(super) fn plans(config: &Config) -> Vec<Plan> {
    let mut next = vec![0u16; config.clusters.len()];
    let number = |sink: &Sink| {
        let number = next[sink.cluster];
        next[sink.cluster] += 1;
        Plan::new(sink, SinkId(number))
    };
    config.sinks.iter().map(number).collect()
}

/// Where the rendered headers stand in the scratch.
pub(super) type Ranges = SmallVec<[(usize, usize); 8]>;

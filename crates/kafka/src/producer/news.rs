//! News of topics for the operator, once when a condition begins. Rare: not on the path of a row.

use std::rc::Rc;

use super::Producer;
use crate::types::SinkId;
use forebay_base::limits::NEWS_MAX;

/// Consecutive metadata errors before a topic is reported unknown: creation on request takes a moment.
pub(super) const UNKNOWN_AFTER: u32 = 3;

/// News about a topic of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Kafka has not known the topic (or has no leader for it) several times in a row; rows wait.
    Unknown {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// Kafka's error code.
        code: i16,
    },
    /// Kafka takes nothing for the topic: rows are refused for a while.
    Refused {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// Kafka's error code.
        code: i16,
    },
    /// A topic that was unknown exists now.
    Known {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
    },
    /// The topic has more partitions.
    Grown {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// Partitions before.
        from: usize,
        /// Partitions now.
        to: usize,
    },
    /// The topic was deleted and recreated.
    Recreated {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// Partitions before.
        from: usize,
        /// Partitions now.
        to: usize,
    },
    /// The sink goes to another cluster than before, or than when an earlier process wrote its rows to the log.
    OtherCluster {
        /// The sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// The id of the cluster before.
        from: Rc<str>,
        /// The id of the new cluster.
        to: Rc<str>,
    },
    /// A partition lacks records that it had acknowledged.
    Lost {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// The partition.
        partition: u32,
        /// The minimum number of lost records; 0: not known yet.
        records: u64,
    },
    /// Brokers end the connection on requests of this size.
    TooLarge {
        /// The sink of the request, or of one of its batches.
        sink: SinkId,
        /// The topic of that batch.
        topic: Rc<str>,
        /// Bytes of the batches in the request.
        bytes: usize,
        /// Whether requests are smaller from now on: this one had more than one record.
        can_be_smaller: bool,
    },
    /// Rows were sent again although Kafka may have them.
    Unclear {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// The partition.
        partition: u32,
        /// The number of records.
        records: u64,
    },
}

impl News {
    /// The sink of the news.
    pub const fn sink_mut(&mut self) -> &mut SinkId {
        match self {
            Self::Unknown { sink, .. }
            | Self::Refused { sink, .. }
            | Self::Known { sink, .. }
            | Self::Grown { sink, .. }
            | Self::Recreated { sink, .. }
            | Self::OtherCluster { sink, .. }
            | Self::Lost { sink, .. }
            | Self::TooLarge { sink, .. }
            | Self::Unclear { sink, .. } => sink,
        }
    }
}

impl Producer {
    /// Drains the news.
    pub fn drain_news(&mut self, f: impl FnMut(News)) {
        self.outbox.news.drain(..).for_each(f);
    }

    /// Adds news about a topic.
    pub(super) fn tell(&mut self, topic: u32, news: impl FnOnce(SinkId, Rc<str>) -> News) {
        if self.outbox.news.len() < NEWS_MAX {
            let topic = &self.topics[topic];
            let sink = SinkId::of(topic.sink);
            self.outbox.news.push(news(sink, Rc::clone(&topic.name)));
        }
    }
}

//! What an operator wants to be told of topics, once when it begins. Rare: nothing here is on the way of a row.

use std::rc::Rc;

use super::Producer;
use crate::kafka::types::SinkId;
use crate::limits::NEWS_MAX;

/// Metadata errors in a row before a topic is called unknown: one that is made when it is asked for takes a moment.
pub(super) const UNKNOWN_AFTER: u32 = 3;

/// Something about a topic of a sink.
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
    /// A topic that was unknown is there.
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
    /// The sink goes to another cluster than before, or than when an earlier process wrote its rows down.
    OtherCluster {
        /// The sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// The id of the cluster before.
        from: Rc<str>,
        /// The id of this one.
        to: Rc<str>,
    },
    /// A partition lacks what it had acknowledged.
    Lost {
        /// The topic's sink.
        sink: SinkId,
        /// The topic.
        topic: Rc<str>,
        /// The partition.
        partition: u32,
        /// The records that are lost at least; 0: not known yet.
        records: u64,
    },
    /// Brokers end the connection on requests of this size.
    TooLarge {
        /// Its sink, or that of one of its batches.
        sink: SinkId,
        /// The topic of that.
        topic: Rc<str>,
        /// Bytes of the batches in the request.
        bytes: usize,
        /// Whether requests are smaller from now on: it was more than one record.
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
    /// The sink.
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
    /// News since the last time.
    pub fn drain_news(&mut self, f: impl FnMut(News)) {
        self.outbox.news.drain(..).for_each(f);
    }

    /// Notes something about a topic.
    pub(super) fn tell(&mut self, topic: u32, news: impl FnOnce(SinkId, Rc<str>) -> News) {
        if self.outbox.news.len() < NEWS_MAX {
            let topic = &self.topics[topic];
            let sink = SinkId::of(topic.sink);
            self.outbox.news.push(news(sink, Rc::clone(&topic.name)));
        }
    }
}

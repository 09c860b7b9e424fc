//! Retained messages as the topic of `[broker]` has them, for the shards that retain them.

use super::records::{mapped_record, publish};
use crate::config::{Broker, Config};
use crate::kafka::consumer;
use crate::metrics::time::now_ms;
use crate::runtime::seam::WallMs;
use crate::shard::broker::delivery::put_packet;
use crate::shard::router;
use crate::source::{Mapping, Scratch};

/// Makes messages of the records of the topic, in their order.
#[derive(Debug)]
pub struct RetainedMessages {
    topic: String,
    mapping: Mapping,
    scratch: Scratch,
    /// Packets of the messages of each shard.
    packets: Vec<Vec<u8>>,
}

impl RetainedMessages {
    /// For the records of the broker's topic.
    #[must_use]
    pub fn new(config: &Config, broker: &Broker) -> Self {
        Self {
            topic: broker.retained.clone(),
            mapping: Mapping::new(config, &broker.source_of_retained()),
            scratch: Scratch::default(),
            packets: vec![Vec::new(); config.service.shards],
        }
    }

    /// Takes a record. One that cannot be a message, or has expired, is passed over.
    pub fn take(&mut self, partition: i32, record: &consumer::Record<'_>) {
        let mapped = mapped_record(&self.topic, partition, record);
        if let Ok(message) = self.mapping.message(&mapped, WallMs(now_ms()), &mut self.scratch) {
            let shard = router::owner(message.topic, self.packets.len());
            put_packet(&publish(&message), &mut self.packets[shard]);
        }
    }

    /// The messages of each shard, for [`crate::shard::mail::Mail::TakeRetained`].
    #[must_use]
    pub fn of_shards(self) -> Vec<Vec<u8>> {
        self.packets
    }
}

//! A partition of Kafka and its coordinator, as far as a log knows them: the simulator's model (`crates/kafka/src/model.rs`), without brokers and bytes on
//! wires, with a clock of its own and a log that is cut.

use std::collections::BTreeMap;

use forebay_kafka::consumer::Batches;
use forebay_kafka::model::{Dirty, Identities, Producers, Sent, clean, stored};
use forebay_record::{BatchHeader, BatchView};
use forebay_runtime::seam::Monotonic;

/// A batch in the log, and the time at which the cleaner first passed it.
type Stored = (Vec<u8>, Option<i64>);

/// The partition, and the transactional id's state.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    log: Vec<Stored>,
    producers: Producers,
    pub end: i64,
    identities: Identities,
    next_id: i64,
    /// A wrong body: a record under the last epoch does not close its producer id.
    pub closes_nothing: bool,
    /// `message.timestamp.type=CreateTime`.
    pub is_create_time: bool,
}

fn ms(now: Monotonic) -> i64 {
    (now.0 / 1_000_000) as i64
}

fn sent((bytes, _): &Stored) -> Sent {
    let header = BatchHeader::read(bytes).expect("a batch");
    Sent {
        producer: header.producer_id,
        epoch: header.producer_epoch,
        first: header.base_sequence,
        last: header.last_sequence(),
        base_offset: header.base_offset,
        newest_ms: header.max_timestamp,
        is_stray: false,
    }
}

fn last((bytes, _): &Stored) -> i64 {
    BatchHeader::read(bytes).expect("a batch").last_offset()
}

impl Partition {
    /// InitProducerId with the transactional id.
    pub fn identify(&mut self) -> (i64, i16) {
        self.identities.identify("", &mut self.next_id)
    }

    /// The coordinator forgets the transactional id (`transactional.id.expiration.ms`).
    pub fn forget_identity(&mut self) {
        self.identities.forget();
    }

    /// Produce: error code and offset.
    pub fn append(&mut self, bytes: &[u8], now: Monotonic) -> (i16, i64) {
        self.producers.forget(ms(now));
        let header = BatchHeader::read(bytes).expect("a batch");
        assert!(header.crc_matches(bytes), "a batch with its checksum");
        let (first, last) = (header.base_sequence, header.last_sequence());
        match self.producers.check(header.producer_id, header.producer_epoch, first, last) {
            Err(error) => return (error, -1),
            Ok(Some(offset)) => return (0, offset),
            Ok(None) => {}
        }
        let offset = self.end;
        self.end += i64::from(header.records_count);
        let batch = (stored(bytes, (offset, 0), (!self.is_create_time).then(|| ms(now))), None);
        if !(self.closes_nothing && header.producer_epoch == i16::MAX) {
            self.producers.remember(&Sent { newest_ms: ms(now), ..sent(&batch) });
        }
        self.log.push(batch);
        (0, offset)
    }

    /// Fetch: a few batches from an offset on.
    pub fn fetch(&self, from: i64, batches: usize) -> Vec<u8> {
        let first = self.log.partition_point(|batch| last(batch) < from);
        // Beats of many hours are read at once.
        let wanted = self.log[first..].iter().take(batches * (1 + self.log.len() / 50));
        wanted.flat_map(|(bytes, _)| bytes.iter().copied()).collect()
    }

    /// The cleaner goes over everything before an offset.
    pub fn compact(&mut self, before: i64, now: Monotonic) {
        let log: Vec<_> = self.log.iter().map(|(bytes, cleaned_ms)| Dirty { bytes, cleaned_ms: *cleaned_ms }).collect();
        let cleaned = clean(&log, before, ms(now));
        for (batch, new) in self.log.iter_mut().zip(cleaned) {
            if last(batch) < before {
                batch.1.get_or_insert(ms(now));
            }
            if let Some(bytes) = new {
                batch.0 = bytes;
            }
        }
        self.log.retain(|(bytes, _)| !bytes.is_empty());
    }

    /// Bytes of the last record of each key, those of ended keys left out: what stays when all is cleaned, each record in a batch of its own
    /// (`scripts/perf.d/sessions.py` counts like this).
    pub fn stays(&self) -> u64 {
        let mut last = BTreeMap::new();
        for (bytes, _) in &self.log {
            let (view, _) = BatchView::parse(bytes).expect("a batch");
            let mut batches = Batches::new(bytes.clone(), view.header().base_offset, Vec::new(), false);
            while let Some(record) = batches.take().expect("a record") {
                let key = record.key.expect("a key").to_vec();
                let bytes = record.value.map(|value| (key.len() + value.len() + 61 + 20) as u64);
                last.insert(key, bytes);
            }
        }
        last.into_values().flatten().sum()
    }

    /// An unclean election: the new leader lacks the last batches. Returns where the log ends now.
    pub fn cut(&mut self, batches: usize) -> i64 {
        let keep = self.log.len().saturating_sub(batches);
        for batch in self.log.drain(keep..) {
            self.end = self.end.min(sent(&batch).base_offset);
        }
        self.producers = Producers::default();
        self.log.iter().for_each(|batch| self.producers.remember(&sent(batch)));
        self.end
    }
}

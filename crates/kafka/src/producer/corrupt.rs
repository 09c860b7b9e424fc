//! CORRUPT_MESSAGE (2): the broker found a batch's checksum wrong. The producer's own check shows whether the batch was damaged
//! here, which is final, or in transit, where the next attempt may succeed; but a path that damages it each time is final as well.
//! Brokers before Kafka 2.4 answer the same for a batch with a record that they do not take (one without key, for a compacted
//! topic): a batch that is intact here is split as for INVALID_RECORD.

use super::Producer;
use super::batch::Batch;
use super::dispatch::Entry;
use super::error::{CORRUPT, Verdict, verdict};
use forebay_record::BatchView;

/// Attempts after which a batch that is intact here is rejected.
pub(super) const CORRUPT_MAX: u8 = 20;
/// Attempts after which a batch of several records is split. The halves count on from there.
pub(super) const CORRUPT_WHOLE_MAX: u8 = 3;

impl Producer {
    /// The batch of an entry, while it is undone.
    pub(super) fn batch_mut(&mut self, entry: Entry) -> Option<&mut Batch> {
        let partition = &mut self.topics[entry.key];
        let place = partition.window.place_of(entry.serial)?;
        partition.work.as_mut()?.queue.get_mut(place)
    }

    /// The verdict of a code on the batch that it answers.
    pub(super) fn verdict_of(&mut self, entry: Entry, code: i16) -> Verdict {
        let Some(batch) = self.batch_mut(entry) else { return verdict(code) };
        batch.hung_up = 0;
        if code != CORRUPT {
            return verdict(code);
        }
        batch.corrupt = batch.corrupt.saturating_add(1);
        let most = if batch.count > 1 { CORRUPT_WHOLE_MAX } else { CORRUPT_MAX };
        if is_whole(batch) && batch.corrupt < most { verdict(code) } else { Verdict::Refused(CORRUPT) }
    }
}

/// Whether a closed batch is unchanged.
pub(super) fn is_whole(batch: &Batch) -> bool {
    let view = batch.bytes().and_then(|bytes| BatchView::parse(bytes).ok());
    view.is_some_and(|(view, _)| view.check_crc().is_ok())
}

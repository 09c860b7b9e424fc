//! CORRUPT_MESSAGE (2): the broker found a batch's checksum wrong. Our own tells whether the batch was damaged here, which
//! is final, or on the way, which the next attempt may not be; but a way that damages it each time is final as well.

use super::Producer;
use super::dispatch::Entry;
use super::error::{CORRUPT, Verdict, verdict};
use crate::record::BatchView;

/// Attempts after which a batch that is whole here is rejected.
pub(super) const CORRUPT_MAX: u8 = 20;

impl Producer {
    /// What a code says of the batch that it answers.
    pub(super) fn verdict_of(&mut self, entry: Entry, code: i16) -> Verdict {
        if code != CORRUPT {
            return verdict(code);
        }
        let partition = &mut self.topics[entry.key];
        let place = partition.window.place_of(entry.serial);
        let Some((work, place)) = partition.work.as_mut().zip(place) else { return verdict(code) };
        let batch = &mut work.queue[place];
        batch.corrupt = batch.corrupt.saturating_add(1);
        let whole = batch.bytes().and_then(|bytes| BatchView::parse(bytes).ok());
        let whole = whole.is_some_and(|(view, _)| view.check_crc().is_ok());
        if whole && batch.corrupt < CORRUPT_MAX { verdict(code) } else { Verdict::Refused(CORRUPT) }
    }
}

//! The number of retries that a sink allows ([`super::SinkSettings::retries`]). A batch that was sent once more than that is
//! refused with its last error, as if Kafka had refused it permanently, but only once its log has shown that no attempt
//! is in it (P6). A batch that was never sent, as no broker could be reached, has used no retry.

use super::Producer;
use super::dispatch::Entry;
use super::error::Verdict;

/// The `tries` of a batch that has been given up once. If the log did not show whether it is there, it is sent again without a
/// limit: giving it up again would only store it once more each time.
const GIVEN_UP: u32 = u32::MAX;

impl Producer {
    /// The verdict, or [`Verdict::GivenUp`] after the last retry. Batches end in order, the oldest first.
    pub(super) fn within_retries(&mut self, entry: Entry, verdict: Verdict, code: i16) -> Verdict {
        let maybe_there = match verdict {
            Verdict::Again { maybe_there, .. } => maybe_there,
            Verdict::NoTopic => true,
            _ => return verdict,
        };
        let Some(retries) = self.sinks[self.topics[entry.key.topic].sink].settings.retries else { return verdict };
        let is_oldest = self.topics[entry.key].window.place_of(entry.serial) == Some(0);
        let Some(batch) = self.batch_mut(entry).filter(|batch| batch.tries != GIVEN_UP) else { return verdict };
        batch.tries = batch.tries.saturating_add(1).min(GIVEN_UP - 1);
        if !is_oldest || batch.tries <= retries {
            return verdict;
        }
        batch.tries = GIVEN_UP;
        Verdict::GivenUp { code, maybe_there }
    }
}

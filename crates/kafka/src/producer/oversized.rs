//! Requests that are larger than a broker takes (`socket.request.max.bytes`): it ends the connection at their first bytes, without
//! an answer. If it does so several times in a row with the same batch in its oldest unanswered request, requests are made smaller:
//! half as large if several batches share one; a batch that has one to itself is split as for MESSAGE_TOO_LARGE. Later batches
//! gather no more than that, until the process ends.
//!
//! The cause is a guess, so no record is given up for it: one that has a request to itself is sent again and again.

use super::batch::Batch;
use super::dispatch::Request;
use super::news::News;
use super::{Key, Producer};

/// Consecutive ends of the connection after which a request is considered too large.
const HUNG_UP_MAX: u8 = 3;

/// Minimum size of requests and batches, in bytes; no broker refuses requests this small.
const BYTES_MIN: usize = 4096;

impl Producer {
    /// Notes that a broker ended the connection while this was its oldest unanswered request: [`Producer::on_failed`] follows.
    pub fn on_hung_up(&mut self, id: u64) {
        self.dispatcher.hung_up(id);
    }

    /// Whether the only batch of a request must be split, since brokers do not take it. Requests of several are smaller from
    /// now on, and so are later batches.
    pub(super) fn is_too_large(&mut self, request: &Request) -> bool {
        let (mut bytes, mut plain_len, mut count, mut most) = (0, 0, 0, 0);
        for entry in &request.entries {
            let Some(batch) = self.batch_mut(*entry) else { continue };
            batch.hung_up = batch.hung_up.saturating_add(1);
            bytes += batch.bytes().map_or(0, |bytes| bytes.len());
            (plain_len, count, most) = (plain_len + batch.plain_len, count + batch.count, most.max(batch.hung_up));
        }
        let Some(first) = request.entries.first().filter(|_| most >= HUNG_UP_MAX && bytes > BYTES_MIN) else {
            return false;
        };
        let (is_alone, can_be_smaller) = (request.entries.len() == 1, count > 1);
        // For a single record this is reported once.
        if !can_be_smaller && most > HUNG_UP_MAX {
            return false;
        }
        for entry in request.entries.iter().filter(|_| can_be_smaller) {
            if let Some(batch) = self.batch_mut(*entry) {
                batch.hung_up = 0;
            }
        }
        if can_be_smaller {
            self.dispatcher.narrow((bytes / 2).max(BYTES_MIN));
        }
        if is_alone && can_be_smaller {
            let most = self.cluster.batch_bytes_max.min((plain_len / 2).max(BYTES_MIN));
            self.cluster.batch_bytes_max = most;
            self.sinks.iter_unlisted().for_each(|sink| sink.settings.batch_bytes = sink.settings.batch_bytes.min(most));
        }
        self.tell(first.key.topic, |sink, topic| News::TooLarge { sink, topic, bytes, can_be_smaller });
        is_alone && can_be_smaller
    }

    /// Splits a partition's next batch if it was gathered before the brokers' limit was known. `false`: undone batches go first.
    pub(super) fn split_oversized(&mut self, key: Key) -> bool {
        let most = self.cluster.batch_bytes_max;
        let is_oversized = |batch: &Batch| batch.plain_len > most && batch.count > 1;
        while self.topics[key].uncut().is_some_and(is_oversized) {
            if !self.topics[key].window.is_empty() {
                return false;
            }
            // While memory is short the batch is cut unchanged, and split when it is refused.
            let fits = self.topics[key].uncut().is_some_and(|batch| self.can_split(batch));
            if !fits || !self.split(key) {
                return true;
            }
        }
        true
    }
}

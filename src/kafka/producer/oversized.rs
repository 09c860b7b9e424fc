//! Requests that are larger than a broker takes (`socket.request.max.bytes`): it ends the connection at their first bytes, without
//! a word. Where it does so several times in a row with the same batch before it, requests are made smaller: half as large if
//! several batches share one, and a batch that has one to itself is split as for MESSAGE_TOO_LARGE. What follows gathers no more
//! than that, until the process ends.
//!
//! It is a guess, so nothing is given up for it: a record that has a request to itself is sent again and again.

use super::batch::Batch;
use super::dispatch::Request;
use super::news::News;
use super::{Key, Producer};

/// Ends in a row after which a request is taken to be too large.
const HUNG_UP_MAX: u8 = 3;

/// No broker refuses so little: requests and batches are made no smaller than this, in bytes.
const BYTES_MIN: usize = 4096;

impl Producer {
    /// A broker has ended the connection with this request before it: [`Producer::on_failed`] follows.
    pub fn on_hung_up(&mut self, id: u64) {
        self.dispatcher.hung_up(id);
    }

    /// Whether the only batch of a request must be split, since brokers do not take it. Requests of several are smaller from
    /// now on, and so are batches to come.
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
        // Of a single record that is told once.
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

    /// Splits what would be cut next of a partition, gathered before it was known that brokers do not take as much. `false`: what
    /// is undone goes first.
    pub(super) fn split_oversized(&mut self, key: Key) -> bool {
        let most = self.cluster.batch_bytes_max;
        let is_oversized = |batch: &Batch| batch.plain_len > most && batch.count > 1;
        while self.topics[key].uncut().is_some_and(is_oversized) {
            if !self.topics[key].window.is_empty() {
                return false;
            }
            // Where memory is short it is cut as it is, and split when it is refused.
            let fits = self.topics[key].uncut().is_some_and(|batch| self.can_split(batch));
            if !fits || !self.split(key) {
                return true;
            }
        }
        true
    }
}

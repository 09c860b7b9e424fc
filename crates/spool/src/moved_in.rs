//! Takes over open packet ids of a kept session from another log after their rows have ended, in Kafka or otherwise.

use super::checkpoint::OPENED;
use super::entry::Entry;
use super::lists::Listed;
use super::log::Log;
use super::terms::Refused;

/// The row that represents a row of the other log: the first of its lane, which has ended.
const GONE: u64 = 0;

impl Log {
    /// Records that a packet id of a session is open; each of these sinks, topics and partitions has had its row, which
    /// has ended.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn opened(
        &mut self,
        session: u64,
        packet_id: u16,
        already_taken_by: &[(usize, &str, i32)],
    ) -> Result<(), Refused> {
        let mut rows = Vec::with_capacity(already_taken_by.len());
        for (sink, topic, partition) in already_taken_by {
            rows.push((self.lane_with_a_row_gone(*sink, topic, *partition)?, GONE));
        }
        self.account_for(OPENED, 4)?;
        self.put(&Entry::Opened { session, packet_id, rows: Listed::new(&rows) }, 2)?;
        self.waiting.account += OPENED;
        Ok(())
    }

    /// Like [`Log::lane`], for a log that has no rows yet: the lane's first number is taken.
    fn lane_with_a_row_gone(&mut self, sink: usize, topic: &str, partition: i32) -> Result<u64, Refused> {
        if let Some(lane) = self.ahead.find(sink, topic, partition, false) {
            return Ok(lane);
        }
        self.new_lane(sink, topic, partition, GONE + 1, false)
    }
}

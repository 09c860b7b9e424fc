//! The way in for what another log has held: a kept session's packet ids whose rows are in Kafka and gone from the log.

use super::entry::Entry;
use super::log::Log;
use super::terms::{Refused, Ticket};

impl Log {
    /// A packet id of a session is open, and these lanes have had its row.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn opened(&mut self, session: u64, packet_id: u16, lanes: &[u32]) -> Result<Ticket, Refused> {
        self.account()?;
        self.put(&Entry::Opened { session, packet_id, lanes: lanes.to_vec() }, true)
    }
}

//! The log's entry points for kept sessions and their packet ids.

use super::checkpoint::SESSION;
use super::entry::Entry;
use super::lists::Runs;
use super::log::Log;
use super::terms::{Refused, SEGMENTS_RESERVED};

impl Log {
    /// Keeps a session (`None`: a new one), or changes a kept one. Returns its number, which is never assigned twice; the session is
    /// durable with [`Log::group`].
    ///
    /// # Errors
    /// [`Refused`]. A change of a kept session may use the room reserved for moves, and adds nothing to the state: a log with a full state takes it.
    pub fn session(&mut self, number: Option<u64>, payload: &[u8]) -> Result<u64, Refused> {
        let session = number.unwrap_or(self.ahead.next_session);
        let spare = SEGMENTS_RESERVED - u64::from(number.is_some());
        let len = super::format::entry_len(8 + payload.len()) as u64;
        let account = if session < self.ahead.next_session { 0 } else { SESSION };
        if account > 0 {
            self.account_for(account, 4)?;
        }
        if len <= self.settings.segment_bytes / 8 && len > self.capacity(spare) {
            return Err(Refused::Full);
        }
        self.put(&Entry::Session { session, payload }, 2)?;
        self.waiting.account += account;
        self.waiting.pins = true;
        self.ahead.next_session = self.ahead.next_session.max(session + 1);
        Ok(session)
    }

    /// Whether entries of `bytes` fit into the group that is being gathered; `None`: no group is large enough for
    /// them.
    #[must_use]
    pub fn has_place(&self, bytes: u64) -> Option<bool> {
        let most = self.settings.segment_bytes / 8;
        (bytes <= most).then(|| self.pending.len() as u64 + bytes <= most)
    }

    /// Ends a session with its packet ids.
    ///
    /// # Errors
    /// [`Refused::Busy`].
    pub fn session_ended(&mut self, session: u64) -> Result<(), Refused> {
        self.put(&Entry::SessionEnded { session }, 1)
    }

    /// Has the group being gathered written even if it contains nothing else, and returns its number: once that group is durable, this
    /// process still owned the log after the call.
    pub fn beat(&mut self) -> u64 {
        if self.pending.is_empty() {
            Entry::LanesForgotten { lanes: Runs::new(&[]) }.put(&mut self.pending);
        }
        self.gathering
    }

    /// Marks a session's segment as damaged, because the session or part of it is invalid: the file is kept for inspection when the segment
    /// is freed.
    pub fn set_aside(&mut self, session: u64) {
        self.damaged.extend(self.state.place_of(session).map(|(segment, _)| segment));
    }

    /// Releases a packet id. PUBCOMP waits for the group.
    ///
    /// # Errors
    /// [`Refused::Busy`].
    pub fn released(&mut self, session: u64, packet_id: u16) -> Result<(), Refused> {
        self.put(&Entry::Released { session, packet_id }, 1)
    }
}

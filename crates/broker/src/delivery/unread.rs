//! Bytes that clients leave unread at QoS 0: a client may pause for a moment and lose nothing ([`unread_bytes_max`]), as long as the unread bytes of all
//! clients of a shard have room beside the messages that sessions have to remember (decision 0176).
//!
//! A connection counts with its unsent bytes beyond [`SENT_AHEAD_BYTES_MAX`], from the message that first exceeds them until the runtime reports that half of
//! that bound is left, or the connection is closed. Between two messages it may have less unsent than it counts with.
//!
//! [`unread_bytes_max`]: forebay_config::Delivery::unread_bytes_max

use std::collections::HashMap;

use forebay_base::limits::SENT_AHEAD_BYTES_MAX;
use forebay_runtime::seam::ConnId;

use crate::here::Here;
use crate::out::Out;

use super::super::Broker;

/// The part of the room for messages that sessions have to remember which may be left unread at QoS 0.
const PART: usize = 4;

/// The bytes that each connection counts with. The sum is in [`Remembered`](forebay_session::Remembered).
#[derive(Debug, Default)]
pub(super) struct Unread(HashMap<ConnId, usize>);

impl Broker {
    /// Whether a client with `unsent` bytes is sent a message of QoS 0 of `bytes` bytes.
    pub(crate) fn may_leave_unread(
        &mut self,
        io: &mut dyn Out,
        here: &Here,
        conn: ConnId,
        unsent: usize,
        bytes: usize,
    ) -> bool {
        let behind = (unsent + bytes).saturating_sub(SENT_AHEAD_BYTES_MAX);
        if behind == 0 {
            if !self.delivery.unread.0.is_empty() {
                self.has_read(conn);
            }
            return true;
        }
        let room = self.queues.bytes_max();
        let (of, remembered) = (&mut self.delivery.unread.0, self.delivery.copies.remembered());
        let others = remembered.unread() - of.get(&conn).copied().unwrap_or(0);
        let all = others + behind;
        let has_room = all <= room / PART && remembered.bytes() + all <= room / 16 * 15;
        let is_within = unsent <= here.config.delivery.unread_bytes_max;
        // A client that reads takes a message of any size.
        let is_granted = unsent <= SENT_AHEAD_BYTES_MAX || is_within && has_room;
        let counts = if is_granted { behind } else { unsent.saturating_sub(SENT_AHEAD_BYTES_MAX) };
        of.insert(conn, counts);
        remembered.set_unread(others + counts);
        io.tell_writable(conn);
        is_granted
    }

    /// Ends the count of a connection that has little unsent, or is gone.
    pub fn has_read(&mut self, conn: ConnId) {
        if let Some(counts) = self.delivery.unread.0.remove(&conn) {
            let remembered = self.delivery.copies.remembered();
            remembered.set_unread(remembered.unread() - counts);
        }
    }
}

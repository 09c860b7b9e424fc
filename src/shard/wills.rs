//! Wills that are due, published to the sinks as any message is. Nobody is owed an answer, and there is no socket to leave
//! one in: a will that finds no room waits in [`crate::session::Sessions`], within the bytes that all sessions may hold.

use crate::metrics::spec::ShardMetric as M;
use crate::runtime::seam::{Monotonic, WallMs};
use crate::session::DueWill;

use super::Core;
use super::device::message;
use super::reservation::Unreserved;

/// Wills offered again at a time, each time that room has come free: the others have their turn the next time.
const OFFERED_AGAIN_MAX: usize = 64;

impl Core {
    /// Publishes the wills that are due, and those that waited if there may be room for them now.
    pub(super) fn publish_wills(&mut self, now: Monotonic, wall: WallMs) {
        if self.sessions.wills_waiting() > 0 {
            let freed = self.outlets.freed();
            if std::mem::replace(&mut self.wills_offered_at, freed) != freed {
                self.sessions.offer_wills_again(OFFERED_AGAIN_MAX);
            }
        }
        while let Some(due) = self.sessions.next_will() {
            self.publish_will(due, now, wall);
        }
        self.numbers.set(M::WillsWaiting, self.sessions.wills_waiting() as u64);
    }

    fn publish_will(&mut self, due: DueWill, now: Monotonic, wall: WallMs) {
        let publish = due.publish();
        let message = message(publish.topic, &due.client_id, due.username.as_deref(), &publish, wall);
        match self.outlets.reserve(&message, false, &[]) {
            Ok(reservation) => {
                self.numbers.count(M::PublishesMatched);
                let _nobody_waits = reservation.take(&message, None, None, now, wall);
            }
            Err(Unreserved::Unmatched) => self.numbers.count(M::PublishesUnmatched),
            Err(Unreserved::Rejected(sink, objection)) => {
                self.numbers.count(M::PublishesRefused);
                self.numbers.count_refusal(usize::from(sink), objection.reason());
            }
            Err(Unreserved::Full(_)) => return self.sessions.keep_will(due),
        }
        self.numbers.count(M::Wills);
    }
}

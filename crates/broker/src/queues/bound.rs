//! Records in the logs of several slots: a message for a share that is bound to a member of another slot, and the pending writes of a slot.

use smallvec::SmallVec;

use forebay_buffer::StoredSession;
use forebay_session::{Body, Session, SessionKey, Sessions};

use super::super::Broker;
use super::Queues;
use crate::logs::slot_of;

impl Queues {
    /// Whether a session of this slot has changes to write down.
    pub fn is_writing(&self, sessions: &Sessions, slot: u16) -> bool {
        let number = |key: &SessionKey| sessions.get(*key).and_then(Session::number);
        let is_of = |key: &SessionKey| number(key).is_some_and(|number| slot_of(number) == slot);
        self.changed.iter().chain(&self.received).any(is_of) || self.left.is_waiting_in(slot)
    }

    /// Notes the record of a message's copies. A message that the log had for whichever member of a share gets it is this record from now on, or ends when
    /// this one is durable: a crash in between leaves both.
    pub(super) fn bound(&mut self, body: &Body, kept: StoredSession) {
        match body.for_share() {
            Some(number) if number == kept.number => _ = body.take_for_share(),
            was => {
                body.end_for_share();
                was.into_iter().for_each(|number| self.bound.push(kept.group, number));
                body.stored_as(kept.number);
            }
        }
    }
}

impl Broker {
    /// Ends messages for shares in the log where they have waited, once the log of their member has them.
    pub(super) fn end_bound(&mut self) {
        let kept = &self.logs.kept;
        let durable: SmallVec<[u64; 4]> =
            std::iter::from_fn(|| self.queues.bound.pop(|group| group <= kept.durable(group))).collect();
        for number in durable {
            self.logs.kept.end(number);
            self.queues.wrote = true;
        }
    }
}

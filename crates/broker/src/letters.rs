//! Letters of other shards' brokers, and timers: each for the part of this one that it concerns.

use super::Broker;
use crate::here::Here;
use crate::mail::ToBroker;
use crate::out::{Due, Out};

impl Broker {
    /// Takes a letter.
    pub fn take_letter(&mut self, io: &mut dyn Out, here: &mut Here, letter: ToBroker) {
        match letter {
            ToBroker::Parcel { from, packets, has_retained } => {
                if has_retained {
                    self.retain_received(here, io.now(), from, &packets);
                }
                self.parcel(from, packets, io.now());
            }
            ToBroker::ParcelReturned { by, buffer } => self.parcel_returned(by, buffer),
            ToBroker::RetainedWritten { by, count } => self.retained_written(here, by, count),
            ToBroker::CopiesDurable { by, count } => self.copies_durable(here, by, count),
            ToBroker::Release { from, ids } => self.release_for(from, &ids),
            ToBroker::Released { by, count } => self.released_by(by, count),
            ToBroker::Exchanges { by, open, held } => self.exchanges_known(here, io.now(), by, open, held),
            ToBroker::ExchangesOver { from, sessions } => self.exchanges_over(from, &sessions),
            ToBroker::Pass { from } => self.pass(here, from),
            ToBroker::Passed { by, passes } => self.passed(io, here, by, passes),
            ToBroker::Replay { to, question, filter, behind, except, from } => {
                self.replay_asked(io, here, to, question, (&filter, &behind, &except), &from);
            }
            ToBroker::Replayed { question, answered } => self.replayed(io.now(), question, answered),
            ToBroker::SharedMessages { from, share, messages } => self.shared_messages(io, here, from, share, messages),
            ToBroker::SharedMessagesTaken { by, count } => self.shared_taken(io, here, by, count),
            ToBroker::SharedMessagesGiven { from } => self.shared_given(io, here, from),
        }
    }

    /// Does what a timer was set for.
    pub fn on_time(&mut self, io: &mut dyn Out, here: &mut Here, due: Due) {
        match due {
            Due::Delivery => self.delivery_time(),
            Due::Queues => self.queues_time(),
            Due::Shares => self.shares_time(io, here),
            Due::Retained => self.retained_time(),
            Due::LateMembers => self.late_members_time(io, here),
        }
    }
}

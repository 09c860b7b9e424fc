//! Passes, which precede the answer to a subscription from the homes. After a pass, every message that was published before the subscription could be found
//! is with its home, and every message that found the subscription has been delivered, or is known as such. The subscription's shard asks every shard, which
//! answers when everything that it had gathered for others until then is sent. Mailboxes keep the order of letters across all senders, so the homes have
//! those messages before they are asked for them.

use super::super::Broker;
use super::replay::AskedToPass;
use crate::here::Here;
use crate::mail::{Letter, ToBroker};
use crate::out::Out;

impl Broker {
    /// Begins a pass, if some subscriptions need one, none is in progress, and reading is not behind the shard's slots.
    pub(super) fn begin_pass(&mut self, io: &mut dyn Out, here: &Here) {
        if !self.retained.replays.need_pass() {
            return;
        }
        if let Some(until) = self.keeping.given.behind_until(io.now()) {
            return self.delivery.want_turn_at(io, until);
        }
        self.retained.replays.begin_pass();
        for shard in (0..here.config.service.shards).filter(|shard| *shard != here.index) {
            self.letters.push_back((shard, Letter::Broker(ToBroker::Pass { from: here.index })));
        }
        self.retained.heard_of_pass(here.index);
        self.pass(here, here.index);
        self.answer_passes(io, here);
    }

    /// Notes that a shard asks for a report when all messages gathered here now are sent. A mark in its parcel shows which messages were taken before.
    pub(crate) fn pass(&mut self, here: &Here, from: usize) {
        if from != here.index {
            self.delivery.mark(from);
        }
        let gathered = self.delivery.gathered();
        self.retained.replays.note_pass(from, gathered);
    }

    /// Answers the passes with all messages sent.
    pub fn answer_passes(&mut self, io: &mut dyn Out, here: &Here) {
        let sent = |asked: &mut AskedToPass| self.delivery.has_sent(&asked.gathered);
        let over: Vec<_> = self.retained.replays.asked_to_pass.extract_if(.., sent).collect();
        for AskedToPass { from, passes, .. } in over {
            if from == here.index {
                self.passed(io, here, from, passes);
            } else {
                self.letters.push_back((from, Letter::Broker(ToBroker::Passed { by: here.index, passes })));
            }
        }
    }

    /// Takes the answer of a shard, which had been asked for `passes` passes by then. After the last answer the subscriptions may be served, once all
    /// messages received before are delivered.
    pub(crate) fn passed(&mut self, io: &mut dyn Out, here: &Here, by: usize, passes: u64) {
        if !self.retained.replays.passed((by, passes), here.rules) {
        } else if self.delivery.is_idle() {
            self.pass_over();
        } else {
            self.delivery.mark_passed(io);
        }
    }
}

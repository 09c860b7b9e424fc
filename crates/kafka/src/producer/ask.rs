//! Questions to Kafka's log (P5, P6): the window decides why they are asked and what follows (`window/question.rs`); here they are
//! sent, and the answers dispatched.

use super::acked::Acked;
use super::partition::Partition;
use super::restore::rows_of;
use super::timers::Timer;
use super::window::{Asked, Identity, Resolution, sequence_after};
use super::{Keep, Key, Producer, Want};
use crate::types::{LogSays, Question, WhyNot};
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Whether a partition waits for its log's answer; sends the question if that has not been done.
    pub(super) fn waits_for_log(&mut self, key: Key, now: Monotonic) -> bool {
        let Some(asked) = self.topics[key].window.asking(now) else { return false };
        match asked {
            Asked::Waits => {}
            // No answer at all counts as "not now".
            Asked::Lost(token) => self.on_asked(token, LogSays::Again, now),
            Asked::Due => self.ask_log(key, now),
        }
        true
    }

    fn ask_log(&mut self, key: Key, now: Monotonic) {
        let topic = &self.topics[key.topic];
        let partition = &topic.partitions[key.partition as usize];
        let Some(node) = partition.leader else { return self.ask_metadata(key.topic, now) };
        let (sink, name) = (topic.sink, topic.name.clone());
        let from = partition.window.older_from().or(partition.log_next);
        let topic_id = topic.view.id;
        let Some((identity, first_sequence, mut last_sequences)) = partition.window.question() else { return };
        // An earlier process's cuts that are not loaded yet count too: the log may end with one of them.
        last_sequences.extend(partition.unloaded(identity));
        let any_unloaded = last_sequences.len() > partition.window.len();
        // An earlier process may have kept the sink's younger batches in memory alone: the leader may know one of those.
        let is_old = any_unloaded || partition.window.count_old() > 0;
        let is_read = is_old || partition.window.is_in_doubt_of_leader(self.settings.rules, self.wall);
        let question = Question {
            token: self.questions.asked + 1,
            node,
            topic: name,
            topic_id,
            partition: key.partition as i32,
            producer_id: identity.id,
            epoch: identity.epoch,
            first_sequence,
            last_sequences,
            from,
            replicated: self.sinks[sink].settings.acks == -1,
            is_read,
            leader_epoch: -1,
        };
        self.questions.asked += 1;
        self.questions.asking.insert(self.questions.asked, key);
        self.sinks[sink].stats.asked += 1;
        // Resolution, connection and each step of the search have timeouts of their own; this one is for a lost answer.
        let until = now.after(self.settings.ask_again * 12);
        self.agenda.timers.set(until, Timer::Partition(key));
        let token = self.questions.asked;
        self.topics[key].window.asked(token, until);
        self.outbox.wants.push(Want::Ask(question));
    }

    /// Takes the answer to [`Want::Ask`]; one without a waiting question is ignored.
    pub fn on_asked(&mut self, token: u64, mut says: LogSays, now: Monotonic) {
        if self.on_end(token, says, now) {
            return;
        }
        let Some(key) = self.questions.asking.remove(&token) else { return };
        if !self.topics[key].window.waits_for(token) {
            return;
        }
        if says == LogSays::Lost {
            if self.is_half_known(key) {
                // The last batch there may have been in memory alone, after the ones asked for.
                says = LogSays::CannotTell(WhyNot::OtherLog);
            } else {
                self.lacks(key);
            }
        }
        let (rules, topic) = (self.settings.rules, &mut self.topics[key.topic]);
        let acks = self.sinks[topic.sink].settings.acks;
        let partition = &mut topic.partitions[key.partition as usize];
        let behind = matches!(says, LogSays::There { last_sequence } if partition.is_unloaded(last_sequence));
        let resolution = partition.window.log_said(says, behind, now, (acks, rules));
        if let Resolution::Settle(_) = resolution {
            // The offset is not known; but from now on the log has a record before any batch asked for.
            partition.log_next.get_or_insert(0);
        }
        let again = resolution == Resolution::AskAgain;
        self.carry_out(key, resolution, now);
        if !again {
            self.go_on(key, now);
        }
    }

    /// Whether the partition has batches of an earlier process, which may have cut younger ones that the log does not
    /// know because the sink keeps only some of its rows there.
    fn is_half_known(&self, key: Key) -> bool {
        let topic = &self.topics[key.topic];
        self.sinks[topic.sink].settings.keep != Keep::Disk
            && topic.partitions[key.partition as usize].window.count_old() > 0
    }
}

impl Partition {
    /// Begins with another log: known offsets are the old one's.
    pub(super) fn begin_other_log(&mut self) {
        self.log_next = Some(0);
        self.window.began_other_log();
        (self.acked, self.leader_epoch) = (Acked::default(), None);
    }

    /// The last sequences of an earlier process's batches of this identity that have not been loaded yet.
    fn unloaded(&self, own: Identity) -> impl Iterator<Item = i32> {
        let cuts = self.spooled.as_ref().map(|spooled| spooled.cuts.iter()).into_iter().flatten();
        let same = cuts.take_while(move |cut| (cut.producer_id, cut.epoch) == (own.id, own.epoch));
        same.map(|cut| {
            let last = rows_of(&cut.rows).saturating_sub(1);
            sequence_after(cut.sequence, u32::try_from(last).unwrap_or(u32::MAX))
        })
    }

    /// Whether one of those batches ends with this sequence.
    fn is_unloaded(&self, last: i32) -> bool {
        self.window.identity().is_some_and(|own| self.unloaded(own).any(|sequence| sequence == last))
    }
}

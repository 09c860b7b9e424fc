//! Acknowledged records that Kafka's log has lost: detected by the offset of an answer, by an answer about the log, and by
//! the end of a new leader's log; counted, and reported.
//!
//! Offsets only grow: an answer 0 with a base offset below the known end of the log comes from a log that was cut back (an
//! unclean election, a leader lost at `acks` 1) or from another log (a topic recreated).
//! The window decides what happens to the undone batches (`window/divergence.rs`).

use std::rc::Rc;
use std::time::Duration;

use super::acked::{Acknowledged, LATELY, RUNS_MAX};
use super::dispatch::Entry;
use super::news::News;
use super::timers::Timer;
use super::{Key, Producer, Want};
use crate::types::{LogSays, NodeId, Question};
use forebay_base::limits::LOG_END_QUESTIONS_MAX;
use forebay_runtime::seam::Monotonic;

/// A new leader that does not know its end yet is asked up to [`END_TRIES`] times, [`END_AGAIN`] apart.
const END_TRIES: u8 = 20;
const END_AGAIN: Duration = Duration::from_millis(500);
/// Time after which no answer is expected any more.
const END_LOST: Duration = Duration::from_secs(300);

/// A question about the end of a log.
#[derive(Clone, Debug)]
pub(super) struct End {
    key: Key,
    /// The topic's name, since keys are reused.
    name: Rc<str>,
    life: u32,
    /// The known end of the log.
    next: i64,
    /// The leader asked, and its epoch; -1: not known.
    node: NodeId,
    leader_epoch: i32,
    /// Number of acknowledgements when the question was asked.
    acked: u64,
    tries: u8,
    until: Monotonic,
}

impl Producer {
    /// Takes the offset of an acknowledged batch: whether the log is the known one, and where it ends now.
    pub(super) fn note_offset(&mut self, entry: Entry, base_offset: i64, node: NodeId, now: Monotonic) {
        let topic = &mut self.topics[entry.key.topic];
        let other = entry.life != topic.view.life;
        let leader_only = self.sinks[topic.sink].settings.acks == 1;
        let partition = &mut topic.partitions[entry.key.partition as usize];
        let place = partition.window.place_of(entry.serial);
        let Some((work, place)) = partition.work.as_mut().zip(place) else { return };
        let count = work.queue[place].count;
        work.queue[place].in_log.base_offset = base_offset;
        if other {
            // The request precedes the recreation: the answer is the old topic's or the new one's.
            return partition.window.diverged(place);
        }
        if base_offset < 0 {
            return;
        }
        let before = partition.log_next;
        let behind = before.is_some_and(|next| base_offset < next);
        if behind && partition.window.is_apart() {
            // The log has the batch anyway, before the younger one.
            return;
        }
        // The answer of a leader that is deposed by now: its log is not the one that goes on.
        let deposed = leader_only
            && partition.leader.is_some_and(|leader| leader != node)
            && partition.leader_epoch.is_some_and(|epoch| entry.leader_epoch < epoch);
        if behind {
            partition.window.diverged(place);
        }
        if behind && !deposed {
            self.lost(entry.key, Some(base_offset));
        } else if partition.acked.lacking && !deposed {
            // Other producers' records have taken the offsets: at least one record, or nothing would have shown.
            partition.acked.guessed += 1;
            self.lost_records(entry.key, 1);
        }
        let partition = &mut self.topics[entry.key];
        let to = base_offset.saturating_add(i64::from(count));
        let acked = &mut partition.acked;
        if !(behind && deposed) {
            partition.window.answered_over(place, before.map_or(0, |before| before.min(base_offset)));
            partition.log_next = Some(to);
            acked.last = Some((now, node));
        }
        let run = Acknowledged { from: base_offset, to, leader_epoch: entry.leader_epoch, node, at: now, number: 0 };
        if !leader_only {
            (acked.lacking, acked.ended) = (false, false);
            return acked.note(Acknowledged { leader_epoch: -1, node: NodeId(-1), ..run }, 1);
        }
        acked.note(run, RUNS_MAX);
        if deposed {
            return self.ask_for_end(entry.key, 0, now);
        }
        (acked.lacking, acked.ended) = (false, false);
    }

    /// Handles a log that has none of the undone batches and does not expect them either: it lacks records that it had acknowledged.
    /// Unless an earlier process may have got that acknowledgement, or the window is apart: then a younger batch
    /// may have come to this log first.
    pub(super) fn lacks(&mut self, key: Key) {
        let partition = &mut self.topics[key];
        if !partition.window.is_apart() && !partition.oldest_undone().is_some_and(|first| first.in_log.begins) {
            self.lost(key, None);
        }
    }

    /// Handles a log that lacks acknowledged records. `from`: all of them from this offset on; `None`: not known from where.
    pub(super) fn lost(&mut self, key: Key, from: Option<i64>) {
        let partition = &mut self.topics[key];
        let acked = &mut partition.acked;
        // One loss for each change of leaders, if epochs distinguish them.
        let told = acked.counted_under.is_some() && acked.counted_under == partition.leader_epoch;
        let counted = told || acked.lacking || (acked.ended && from.is_none());
        acked.lacking = from.is_none() && !acked.ended && !told;
        acked.ended |= from.is_some();
        let records = from.map_or(0, |from| {
            partition.log_next = Some(from);
            partition.acked.cut(from, |_| true)
        });
        if !counted {
            self.count_lost(key);
        }
        if records > 0 {
            self.lost_records(key, records);
        } else if !counted {
            self.tell_lost(key, 0);
        }
    }

    fn count_lost(&mut self, key: Key) {
        let partition = &mut self.topics[key];
        (partition.acked.counted_under, partition.acked.guessed) = (partition.leader_epoch, 0);
        let sink = self.topics[key.topic].sink;
        self.sinks[sink].stats.acknowledged_lost += 1;
    }

    /// Takes the offset at which a leader's epoch begins: records that earlier leaders acknowledged from there on are not in its
    /// log. Those acknowledged after the question are left to the next question: the earlier leaders might have led again by then.
    fn epoch_begins(&mut self, end: &End, at: i64) {
        let partition = &mut self.topics[end.key];
        let earlier = |run: &Acknowledged| run.is_before(end.node, end.leader_epoch) && run.number <= end.acked;
        let records = partition.acked.cut(at, earlier);
        if records == 0 {
            return;
        }
        if partition.log_next == Some(end.next) && at < end.next {
            partition.log_next = Some(at);
            partition.acked.ended = true;
        }
        partition.acked.lacking = false;
        if partition.acked.counted_under.is_none_or(|epoch| epoch < end.leader_epoch) {
            self.count_lost(end.key);
            self.topics[end.key].acked.counted_under = Some(end.leader_epoch);
        }
        let guessed = &mut self.topics[end.key].acked.guessed;
        let before = (*guessed).min(records);
        *guessed -= before;
        if records > before {
            self.lost_records(end.key, records - before);
        }
    }

    fn lost_records(&mut self, key: Key, records: u64) {
        let sink = self.topics[key.topic].sink;
        self.sinks[sink].stats.acknowledged_lost_records += records;
        self.tell_lost(key, records);
    }

    fn tell_lost(&mut self, key: Key, records: u64) {
        let partition = key.partition;
        self.tell(key.topic, |sink, topic| News::Lost { sink, topic, partition, records });
    }

    /// Counts and reports records that may be there twice.
    pub(super) fn unknown(&mut self, key: Key, records: u64) {
        if records > 0 {
            let (sink, partition) = (self.topics[key.topic].sink, key.partition);
            self.sinks[sink].stats.outcome_unknown += records;
            self.tell(key.topic, |sink, topic| News::Unclear { sink, topic, partition, records });
        }
    }

    /// Asks a new leader for the end of its log: at `acks` 1, its log may lack records that the last leader acknowledged. A partition
    /// without more rows would never notice.
    pub(super) fn ask_for_end(&mut self, key: Key, tries: u8, now: Monotonic) {
        let topic = &self.topics[key.topic];
        let partition = &topic.partitions[key.partition as usize];
        let (Some(node), Some(next), Some((at, by))) = (partition.leader, partition.log_next, partition.acked.last)
        else {
            return;
        };
        let (sink, life, name, topic_id) = (topic.sink, topic.view.life, Rc::clone(&topic.name), topic.view.id);
        let leader_epoch = partition.leader_epoch.unwrap_or(-1);
        if self.sinks[sink].settings.acks != 1 || now.since(at) > LATELY {
            return;
        }
        // A broker's own high watermark may be lower than what it acknowledged, and the broker may have become leader again before
        // metadata reported it.
        let acked = &mut self.topics[key].acked;
        if !(if leader_epoch < 0 { by != node } else { acked.has_before(node, leader_epoch) }) {
            return;
        }
        if acked.open.is_some_and(|(epoch, until)| epoch == leader_epoch && now < until) {
            acked.ask_again = true;
            return;
        }
        if self.questions.ends.len() >= LOG_END_QUESTIONS_MAX {
            self.questions.ends.retain(|_, end| now < end.until);
            if self.questions.ends.len() >= LOG_END_QUESTIONS_MAX {
                return;
            }
        }
        self.questions.asked += 1;
        let token = self.questions.asked;
        self.sinks[sink].stats.asked += 1;
        let until = now.after(END_LOST);
        let acked = self.topics[key].acked.count;
        if leader_epoch >= 0 {
            self.topics[key].acked.open = Some((leader_epoch, until));
        }
        let end = End { key, name: Rc::clone(&name), life, next, node, leader_epoch, acked, tries, until };
        self.questions.ends.insert(token, end);
        self.outbox.wants.push(Want::Ask(Question {
            token,
            node,
            topic: name,
            topic_id,
            partition: key.partition as i32,
            producer_id: -1,
            epoch: -1,
            first_sequence: -1,
            last_sequences: Vec::new(),
            from: Some(next),
            replicated: false,
            is_read: false,
            leader_epoch,
        }));
    }

    /// Takes the answer to that question. `false`: the token is another question's.
    pub(super) fn on_end(&mut self, token: u64, says: LogSays, now: Monotonic) -> bool {
        let Some(end) = self.questions.ends.remove(&token) else { return false };
        let ask_again = self.close(&end);
        match says {
            LogSays::Ends { at } if end.leader_epoch >= 0 && self.is_there(&end) => {
                self.epoch_begins(&end, at);
                if ask_again {
                    self.ask_for_end(end.key, 0, now);
                }
            }
            LogSays::Ends { at } if at < end.next && self.is_still(&end) => self.lost(end.key, Some(at)),
            LogSays::Again if end.tries < END_TRIES && self.questions.ends_again.len() < LOG_END_QUESTIONS_MAX => {
                let at = now.after(END_AGAIN);
                self.questions.ends_again.push_back((at, end));
                self.agenda.timers.set(at, Timer::Ends);
            }
            _ => {}
        }
        true
    }

    /// Repeats the questions that could not be answered.
    pub(super) fn ask_for_ends_again(&mut self, now: Monotonic) {
        while let Some((_, end)) = self.questions.ends_again.pop_front_if(|(at, _)| *at <= now) {
            if self.is_still(&end) || (end.leader_epoch >= 0 && self.is_there(&end)) {
                self.ask_for_end(end.key, end.tries + 1, now);
            }
        }
    }

    /// Whether nothing was acknowledged since the question, which would have shown the loss.
    fn is_still(&self, end: &End) -> bool {
        if !self.is_there(end) {
            return false;
        }
        let partition = &self.topics[end.key];
        // Another log may have reached the same offset.
        partition.log_next == Some(end.next) && partition.acked.count == end.acked
    }

    /// Whether the topic is still the one that was asked about.
    fn is_there(&self, end: &End) -> bool {
        let topic = &self.topics[end.key.topic];
        let some = topic.partitions.len() > end.key.partition as usize;
        some && Rc::ptr_eq(&topic.name, &end.name) && topic.view.life == end.life
    }

    /// Closes the question. Returns whether it must be repeated, since something was acknowledged meanwhile.
    fn close(&mut self, end: &End) -> bool {
        if !self.is_there(end) {
            return false;
        }
        let acked = &mut self.topics[end.key].acked;
        if acked.open.is_none_or(|(epoch, _)| epoch != end.leader_epoch) {
            return false;
        }
        acked.open = None;
        std::mem::take(&mut acked.ask_again)
    }
}

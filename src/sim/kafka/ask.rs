//! The answer of a partition that is asked which batches its log has: DescribeProducers first, then the log from the last known place up
//! to the high watermark. The wire client combines the two in the same way (`kafka::client`) and has tests of its own.

use super::{Cluster, Log};
use crate::kafka::types::{LogSays, Question, WhyNot};

impl Cluster {
    /// The answer to a question.
    pub(in crate::sim) fn says(&mut self, question: &Question) -> LogSays {
        let says = self.said(question);
        let log = self.topics[self.find(&question.topic)].logs.get(question.partition as usize);
        if let (Some(log), LogSays::Next { .. } | LogSays::Lost) = (log, says) {
            self.hidden.extend(log.hidden(question));
        }
        says
    }

    fn said(&self, question: &Question) -> LogSays {
        let topic = &self.topics[self.find(&question.topic)];
        if topic.reading_forbidden {
            return LogSays::CannotTell(WhyNot::Forbidden);
        }
        match topic.logs.get(question.partition as usize) {
            Some(log) if log.leader != Some(question.node) => LogSays::Again,
            // The end that a new leader shows at first is all that it had when it became the leader (KIP-207).
            Some(log) if question.last_sequences.is_empty() => LogSays::Ends { at: log.high },
            Some(log) => log.says(question, self.is_other(&question.topic, question.topic_id)),
            None => LogSays::Again,
        }
    }
}

impl Log {
    /// Rows of the question that are above the high watermark, where no client can read them.
    fn hidden(&self, question: &Question) -> Vec<u32> {
        let ours = |entry: &&super::Entry| (entry.producer, entry.epoch) == (question.producer_id, question.epoch);
        let above = self.entries.iter().filter(|entry| entry.end() > self.high).filter(ours);
        let asked = above.filter(|entry| question.last_sequences.contains(&entry.last));
        asked.flat_map(|entry| entry.rows.iter().copied()).collect()
    }

    /// `other`: the log is not the one that the question means, which shows when it is read.
    fn says(&self, question: &Question, other: bool) -> LogSays {
        let ours = question.epoch;
        let described = self.described(question.producer_id);
        let (mut at_the_leader, mut not_there) = (false, None);
        match described {
            None => {}
            Some((epoch, last)) if epoch == ours && question.last_sequences.contains(&last) => {
                if !question.replicated {
                    return LogSays::There { last_sequence: last };
                }
                at_the_leader = true;
            }
            Some((epoch, last)) if epoch == ours && last == question.first_sequence.wrapping_sub(1) & i32::MAX => {
                not_there = Some(LogSays::Next { known: true });
            }
            Some((epoch, _)) if epoch < ours && question.first_sequence == 0 => {
                not_there = Some(LogSays::Next { known: true });
            }
            Some((epoch, _)) if epoch <= ours => not_there = Some(LogSays::Lost),
            Some(_) => {}
        }
        // The broker may have forgotten the producer and know of a late request only: then the log is read.
        if let Some(says) = not_there.filter(|_| !question.is_read) {
            return says;
        }
        if other {
            return LogSays::Again;
        }
        let (start, from) = (self.start_offset(), question.from);
        let behind = from.is_some_and(|from| from > self.end());
        let outside = behind || from.is_some_and(|from| from < start);
        let holes = start > from.unwrap_or(0);
        let from = if outside { start } else { from.unwrap_or(start) };
        let ours_in = |entry: &&super::Entry| {
            entry.base_offset >= from
                && entry.end() <= self.high
                && (entry.producer, entry.epoch) == (question.producer_id, question.epoch)
                && question.last_sequences.contains(&entry.last)
        };
        if let Some(entry) = self.entries[self.start..].iter().rev().find(ours_in) {
            // P4 holds within one log.
            let sure = !behind || question.last_sequences.first() == Some(&entry.last);
            let other = LogSays::CannotTell(WhyNot::OtherLog);
            return if sure { LogSays::There { last_sequence: entry.last } } else { other };
        }
        match described {
            _ if at_the_leader => LogSays::Again,
            _ if !behind && question.from.is_some_and(|from| self.high < from) => LogSays::Again,
            _ if let Some(says) = not_there => says,
            _ if holes => LogSays::CannotTell(WhyNot::Retained),
            Some((epoch, _)) => LogSays::Fenced { epoch },
            None if behind => LogSays::Lost,
            None if question.from.is_none() && question.first_sequence != 0 => LogSays::Lost,
            None => LogSays::Next { known: false },
        }
    }

    fn start_offset(&self) -> i64 {
        self.entries.get(self.start).map_or_else(|| self.end(), |entry| entry.base_offset)
    }
}

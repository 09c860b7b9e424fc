//! A topic's metadata as Kafka last reported it: number of partitions, id, whether Kafka takes records for it, and when it is
//! requested again.

use std::ops::Range;
use std::time::Duration;

use super::without_timestamp;
use forebay_runtime::seam::Monotonic;

/// Maximum number of consecutive metadata errors that lengthen the wait for the next request.
const ATTEMPTS_MAX: u32 = 16;

/// A topic's metadata as Kafka last reported it.
#[derive(Debug, Default)]
pub(super) struct TopicView {
    /// Partitions that rows are spread over; 0: not known yet.
    pub(super) count: usize,
    /// The next number of partitions, which applies once all placed rows are done.
    pub(super) growth: Option<usize>,
    /// Kafka's id of the topic; 0: not known.
    pub(super) id: u128,
    /// How often the topic was found recreated.
    pub(super) life: u32,
    /// Partitions that were lost when the topic was recreated and have not come back.
    gone: Option<Range<usize>>,
    /// The time since which Kafka has reported that there is no such topic.
    unknown_since: Option<Monotonic>,
    /// The error for which Kafka temporarily takes no records here (17, 29; 3 if the topic has not existed for
    /// `unknown_topic_timeout`).
    pub(super) refused: Option<i16>,
    /// The end of the refusal.
    refused_until: Monotonic,
    /// The time of the timer for the end of the refusal; at most one is set.
    refused_timer: Monotonic,
    /// Kafka's recent report that the records' timestamps are too far from its clock.
    pub(super) timestamps_refused: Option<without_timestamp::Refused>,
    /// The earliest time to request metadata again, after a request or a failure.
    asked_until: Option<Monotonic>,
    /// Consecutive metadata errors.
    attempts: u32,
}

/// The meaning of an answer with an id and a number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// The topic is the one that was known.
    Same,
    /// The answer is older than what is known: partitions of one topic never get fewer.
    Stale,
    /// The topic has fewer partitions than an earlier process left rows for.
    Fewer,
    /// The topic was recreated; `by_id`: its id shows that, not only its number of partitions.
    Recreated { by_id: bool },
}

impl TopicView {
    /// Takes Kafka's answer that the topic has `count` partitions and this id (0: the broker gives none). `left`: the number of
    /// partitions that an earlier process left rows for.
    pub(super) fn learn(&mut self, id: u128, count: usize, left: usize) -> Learned {
        let known = self.id;
        let most = self.growth.unwrap_or(self.count);
        let named = id != 0 && known != 0;
        if named && id == known && count < most {
            return Learned::Stale;
        }
        self.id = if id == 0 { known } else { id };
        self.gone = self.gone.take().map(|gone| gone.start.max(count)..gone.end).filter(|gone| !gone.is_empty());
        // For a topic that only an earlier process knew, the partitions that it left rows for count.
        let most = if self.count == 0 { left } else { most };
        match (named, id == known) {
            (true, true) if count < most => Learned::Fewer,
            (true, false) if most > 0 => Learned::Recreated { by_id: true },
            (false, _) if count < most => Learned::Recreated { by_id: false },
            _ => Learned::Same,
        }
    }

    /// Sets the number of partitions, from now on, or once the placed rows are done. Returns the number
    /// before, if it has just grown.
    pub(super) fn set_count(&mut self, count: usize) -> Option<usize> {
        if self.count == 0 {
            self.count = count;
            return None;
        }
        let before = std::mem::replace(&mut self.growth, (count != self.count).then_some(count));
        (count > self.count && self.growth != before).then_some(self.count)
    }

    /// Applies the next number of partitions, if there is one.
    pub(super) fn grow(&mut self) {
        self.count = self.growth.take().unwrap_or(self.count);
    }

    /// Marks the topic as recreated: it had `before` partitions and has `count`.
    pub(super) fn recreated(&mut self, before: usize, count: usize) {
        self.lose_partitions(count..before);
        self.life = self.life.wrapping_add(1);
    }

    /// Marks these partitions as gone, if there are any.
    pub(super) fn lose_partitions(&mut self, these: Range<usize>) {
        let end = self.gone.as_ref().map_or(0, |gone| gone.end).max(these.end);
        self.gone = Some(these.start..end).filter(|gone| !gone.is_empty());
    }

    /// Whether a partition is gone.
    pub(super) fn is_gone(&self, partition: u32) -> bool {
        self.gone.as_ref().is_some_and(|gone| partition as usize >= gone.start)
    }

    /// Whether all rows get their partitions by one count.
    pub(super) const fn is_settled(&self) -> bool {
        self.growth.is_none() && self.gone.is_none()
    }

    /// Forgets the topic's metadata, which was of another cluster.
    pub(super) fn begin_other_cluster(&mut self) {
        (self.id, self.count, self.growth, self.gone) = (0, 0, None, None);
    }

    /// Moves the topic to another cluster, where its number of partitions may differ and refusals do not apply. Until metadata
    /// arrives, rows get partitions by the known number.
    pub(super) fn leave_cluster(&mut self) {
        self.id = 0;
        self.life = self.life.wrapping_add(1);
        (self.unknown_since, self.refused, self.timestamps_refused) = (None, None, None);
        (self.asked_until, self.attempts) = (None, 0);
    }

    /// Marks the topic as existing.
    pub(super) const fn found(&mut self) {
        self.unknown_since = None;
    }

    /// Notes that Kafka has no such topic. Returns whether that has lasted for the sink's timeout, and the topic was never known.
    pub(super) fn is_unknown_for(&mut self, timeout: Option<Duration>, now: Monotonic) -> bool {
        let since = *self.unknown_since.get_or_insert(now);
        self.count == 0 && timeout.is_some_and(|timeout| since.after(timeout) <= now)
    }

    /// Marks the topic as refused until a time. Returns whether the refusal is new.
    pub(super) fn refuse(&mut self, code: i16, until: Monotonic) -> bool {
        self.refused_until = until;
        self.refused.replace(code).is_none()
    }

    /// Ends the refusal if its time is over.
    pub(super) fn end_refusal(&mut self, now: Monotonic) {
        self.refused = self.refused.filter(|_| self.refused_until > now);
    }

    /// The time for a new timer for the end of the refusal, unless one is set. Each refused batch moves the end; only when
    /// the timer fires, it is set to the end by then.
    pub(super) fn refusal_timer(&mut self, now: Monotonic) -> Option<Monotonic> {
        let sets = self.refused.is_some() && self.refused_timer <= now;
        sets.then(|| {
            self.refused_timer = self.refused_until;
            self.refused_until
        })
    }

    /// The error for which its rows get no partitions: Kafka takes no records, and the number of partitions was never known.
    pub(super) fn refuses(&self) -> Option<i16> {
        self.refused.filter(|_| self.count == 0)
    }

    /// Marks metadata as requested, and not again before `until`. `false`: it was requested already, not long enough ago.
    pub(super) fn ask(&mut self, until: Monotonic) -> bool {
        let may = self.asked_until.is_none();
        self.asked_until.get_or_insert(until);
        may
    }

    /// Whether the requested metadata has not arrived in time, or may be requested again.
    pub(super) fn may_ask_again(&mut self, now: Monotonic) -> bool {
        self.asked_until.take_if(|until| *until <= now).is_some()
    }

    /// Marks the metadata as received.
    pub(super) const fn answered(&mut self) {
        self.asked_until = None;
    }

    /// Schedules another attempt after an unusable answer, later with each attempt. Returns its time, and the number of attempts.
    pub(super) fn retry_at(
        &mut self,
        (min, max): (Duration, Duration),
        jitter: f64,
        now: Monotonic,
    ) -> (Monotonic, u32) {
        self.attempts = (self.attempts + 1).min(ATTEMPTS_MAX);
        let until = now.after(min.saturating_mul(1 << self.attempts).min(max).mul_f64(jitter));
        self.asked_until = Some(until);
        (until, self.attempts)
    }

    /// Takes a usable answer. Returns how many attempts it took.
    pub(super) const fn reset_attempts(&mut self) -> u32 {
        std::mem::replace(&mut self.attempts, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_stale_or_of_a_recreated_topic_by_its_id_and_else_by_its_count() {
        use Learned::{Fewer, Recreated, Same, Stale};
        let (by_id, by_count) = (Recreated { by_id: true }, Recreated { by_id: false });
        // Known: id, count and growth; heard: id and count; partitions that an earlier process left rows for.
        let cases = [
            ((0, 0, None), (7, 3), 0, Same, 7),
            ((7, 3, None), (7, 3), 0, Same, 7),
            ((7, 3, None), (7, 5), 0, Same, 7),
            ((7, 3, None), (7, 2), 0, Stale, 7),
            ((7, 3, Some(5)), (7, 4), 0, Stale, 7),
            ((7, 3, None), (8, 3), 0, by_id, 8),
            ((7, 3, None), (8, 5), 0, by_id, 8),
            ((7, 3, None), (0, 2), 0, by_count, 7),
            ((0, 3, None), (8, 2), 0, by_count, 8),
            ((0, 3, None), (8, 3), 0, Same, 8),
            ((7, 0, None), (7, 2), 4, Fewer, 7),
            ((7, 0, None), (8, 2), 4, by_id, 8),
            ((7, 0, None), (8, 2), 0, Same, 8),
            ((0, 0, None), (0, 2), 4, by_count, 0),
        ];
        for ((id, count, growth), (heard, partitions), left, expected, id_then) in cases {
            let mut view = TopicView { id, count, growth, ..TopicView::default() };
            let learned = view.learn(heard, partitions, left);
            assert_eq!(
                (learned, view.id),
                (expected, id_then),
                "{id} {count} {growth:?}: {heard} {partitions}, {left}"
            );
        }
    }

    #[test]
    fn a_new_count_holds_when_the_topic_may_grow_and_is_told_once() {
        let mut view = TopicView::default();
        assert_eq!((view.set_count(3), view.count), (None, 3));
        assert_eq!((view.set_count(5), view.count), (Some(3), 3));
        assert_eq!(view.set_count(5), None, "once");
        assert!(!view.is_settled());
        view.grow();
        assert!(view.count == 5 && view.is_settled());
        view.grow();
        assert_eq!(view.count, 5);
        view.recreated(5, 2);
        assert!(view.is_gone(2) && !view.is_gone(1) && !view.is_settled());
        view.learn(0, 4, 0);
        assert!(!view.is_gone(3) && view.is_gone(4) && !view.is_settled(), "it has two of them again");
        view.learn(0, 5, 0);
        assert!(!view.is_gone(4) && view.is_settled(), "it has all of them again");
    }

    #[test]
    fn a_refusal_ends_at_its_latest_time_and_has_one_timer() {
        let (mut view, at) = (TopicView::default(), Monotonic);
        assert_eq!(view.refusal_timer(at(1)), None);
        assert!(view.refuse(29, at(10)) && !view.refuse(17, at(20)));
        assert_eq!((view.refusal_timer(at(1)), view.refusal_timer(at(2))), (Some(at(20)), None));
        view.refuse(17, at(30));
        view.end_refusal(at(20));
        assert_eq!((view.refuses(), view.refusal_timer(at(20))), (Some(17), Some(at(30))));
        view.end_refusal(at(30));
        assert_eq!(view.refused, None);
    }
}

//! What Kafka has said of a topic: how many partitions it has and under which id, whether it takes anything, and when it is
//! asked again.

use std::ops::Range;
use std::time::Duration;

use super::without_timestamp;
use crate::runtime::seam::Monotonic;

/// Metadata errors in a row that make the next question wait longer than the one before, at most.
const ATTEMPTS_MAX: u32 = 16;

/// What Kafka has said of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicView {
    /// Partitions that rows are spread over; 0: not known yet.
    pub(super) count: usize,
    /// Another count, which holds when all placed rows are done.
    pub(super) growth: Option<usize>,
    /// Its id by Kafka; 0: not known.
    pub(super) id: u128,
    /// How often it was found recreated.
    pub(super) life: u32,
    /// Partitions that went when it was recreated, and have not come back.
    gone: Option<Range<usize>>,
    /// Since when Kafka has said that there is no such topic.
    unknown_since: Option<Monotonic>,
    /// Why Kafka will take nothing here (17, 29; 3, if there has been no such topic for `unknown_topic_timeout`), for
    /// a while.
    pub(super) refused: Option<i16>,
    /// When that ends.
    refused_until: Monotonic,
    /// When the timer for that fires; one is set at most.
    refused_timer: Monotonic,
    /// Kafka's word that records are too far from its clock, for a while.
    pub(super) timestamps_refused: Option<without_timestamp::Refused>,
    /// Metadata has been asked for, or failed: ask no sooner than this.
    asked_until: Option<Monotonic>,
    /// Metadata errors in a row.
    attempts: u32,
}

/// What an answer with an id and a number of partitions means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// It is the topic that was known.
    Same,
    /// The answer is older than what is known: partitions of one topic never get fewer.
    Stale,
    /// It has fewer partitions than an earlier process has left rows for.
    Fewer,
    /// It is another one; `by_id`: its id says so, not its number of partitions alone.
    Recreated { by_id: bool },
}

impl TopicView {
    /// Kafka says that the topic has `count` partitions and this id (0: the broker gives none). `left`: partitions that an
    /// earlier start has left rows for.
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

    /// Sets its number of partitions, from now on, or once the rows that have one are done. Returns the number
    /// before, where it has just grown.
    pub(super) fn set_count(&mut self, count: usize) -> Option<usize> {
        if self.count == 0 {
            self.count = count;
            return None;
        }
        let before = std::mem::replace(&mut self.growth, (count != self.count).then_some(count));
        (count > self.count && self.growth != before).then_some(self.count)
    }

    /// The other count holds from now on, if there is one.
    pub(super) fn grow(&mut self) {
        self.count = self.growth.take().unwrap_or(self.count);
    }

    /// It was recreated: it had `before` partitions and has `count`.
    pub(super) fn recreated(&mut self, before: usize, count: usize) {
        self.lose_partitions(count..before);
        self.life = self.life.wrapping_add(1);
    }

    /// These partitions are no more, if there are any.
    pub(super) fn lose_partitions(&mut self, these: Range<usize>) {
        let end = self.gone.as_ref().map_or(0, |gone| gone.end).max(these.end);
        self.gone = Some(these.start..end).filter(|gone| !gone.is_empty());
    }

    /// Whether a partition is no more.
    pub(super) fn is_gone(&self, partition: u32) -> bool {
        self.gone.as_ref().is_some_and(|gone| partition as usize >= gone.start)
    }

    /// Whether all rows get their partitions by one count.
    pub(super) const fn is_settled(&self) -> bool {
        self.growth.is_none() && self.gone.is_none()
    }

    /// What was known is of a topic in another cluster.
    pub(super) fn begin_other_cluster(&mut self) {
        (self.id, self.count, self.growth, self.gone) = (0, 0, None, None);
    }

    /// The topic is of another cluster from now on, in which it may have another number of partitions, and take what it did
    /// not take before. Rows have partitions by the number that was known until metadata comes.
    pub(super) fn leave_cluster(&mut self) {
        self.id = 0;
        self.life = self.life.wrapping_add(1);
        (self.unknown_since, self.refused, self.timestamps_refused) = (None, None, None);
        (self.asked_until, self.attempts) = (None, 0);
    }

    /// Kafka has such a topic.
    pub(super) const fn found(&mut self) {
        self.unknown_since = None;
    }

    /// Kafka has no such topic, and never had: whether that has been so for as long as its sink waits.
    pub(super) fn is_unknown_for(&mut self, timeout: Option<Duration>, now: Monotonic) -> bool {
        let since = *self.unknown_since.get_or_insert(now);
        self.count == 0 && timeout.is_some_and(|timeout| since.after(timeout) <= now)
    }

    /// Kafka takes nothing here until then. Whether that is new.
    pub(super) fn refuse(&mut self, code: i16, until: Monotonic) -> bool {
        self.refused_until = until;
        self.refused.replace(code).is_none()
    }

    /// A row may try again, if it is time.
    pub(super) fn end_refusal(&mut self, now: Monotonic) {
        self.refused = self.refused.filter(|_| self.refused_until > now);
    }

    /// The time to set a timer for the end of its refusal, unless one is set: each batch refused moves that end, and
    /// only when the timer fires it is set to where the end is by then.
    pub(super) fn refusal_timer(&mut self, now: Monotonic) -> Option<Monotonic> {
        let sets = self.refused.is_some() && self.refused_timer <= now;
        sets.then(|| {
            self.refused_timer = self.refused_until;
            self.refused_until
        })
    }

    /// Why its rows will not get partitions, if Kafka takes none of them and has never said how many there are.
    pub(super) fn refuses(&self) -> Option<i16> {
        self.refused.filter(|_| self.count == 0)
    }

    /// Metadata is asked for, and not again before then. `false`: that has been done, and not been too long ago.
    pub(super) fn ask(&mut self, until: Monotonic) -> bool {
        let may = self.asked_until.is_none();
        self.asked_until.get_or_insert(until);
        may
    }

    /// Whether what was asked for has not come in time, or may be asked for again.
    pub(super) fn may_ask_again(&mut self, now: Monotonic) -> bool {
        self.asked_until.take_if(|until| *until <= now).is_some()
    }

    /// Metadata has come.
    pub(super) const fn answered(&mut self) {
        self.asked_until = None;
    }

    /// What has come does not do: one more attempt is due, the later the more there were. When, and how many by now.
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

    /// What has come does: how many attempts it took.
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

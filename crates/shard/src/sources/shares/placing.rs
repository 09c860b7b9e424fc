//! The topics of a share, and its place in them. The topics are those that messages of its filter go to, and those in which its group has a place: the routes
//! may have been others, and records of that time are the share's as well.
//!
//! The place from which on messages of a new share are its own is the end of each partition at the SUBSCRIBE, committed before that is answered, and before
//! this instance joins the group. So the place is known to whichever instance the group assigns the partition. Earlier commits of the group stay. A group
//! that has members refuses the commit, as they have committed their own places.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use forebay_kafka::consumer::{Consumer, Place, Start};
use forebay_kafka::coordination::{Answer, Ask, Identity, Offset, Request, Says, TopicPartition};
use forebay_kafka::group;
use forebay_runtime::seam::Monotonic;

/// The wait after a failure.
const AGAIN: Duration = Duration::from_millis(250);

/// The wait after a refusal that an operator has to resolve.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);

/// The time after which transient failures that persist are reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first token of these requests. A member's tokens begin at 0.
const TOKENS: u64 = 1 << 62;

/// UNKNOWN_TOPIC_OR_PARTITION.
const UNKNOWN_TOPIC: i16 = 3;

/// ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS: the group has members.
const HAS_MEMBERS: [i16; 3] = [22, 25, 27];

const NO_ANSWER: &str = "Kafka does not say where the shared subscription begins: no coordinator of its group answers";

/// The step of finding a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The group's coordinator.
    Coordinator,
    /// The number of partitions of the topics.
    Count,
    /// The places that the group has committed.
    Committed,
    /// The ends of the other partitions.
    Ends,
    /// The commit of these ends.
    Commit,
    Done,
}

impl Step {
    /// The request of this step.
    const fn call(self) -> &'static str {
        match self {
            Self::Coordinator => "FindCoordinator",
            Self::Count => "Metadata",
            Self::Committed => "OffsetFetch",
            Self::Ends | Self::Commit | Self::Done => "OffsetCommit",
        }
    }
}

/// The rights that these groups need.
const GRANT: &str = " (READ and DELETE on groups with the prefix forebay-share-)";

/// The error code of an answer that is no success.
fn code_of(says: &Says) -> Option<i16> {
    match says {
        Says::Refused(code) => Some(*code),
        Says::Partitions(counts) => counts.iter().find_map(|count| count.err()),
        Says::Offsets(offsets) => offsets.iter().find_map(|offset| offset.err()),
        Says::Committed(codes) => codes.iter().copied().find(|code| *code != 0),
        _ => None,
    }
}

/// The topics of `[broker]`, sorted.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) all: Rc<[Rc<str>]>,
    /// Topics that messages of the share's filter go to.
    pub(super) meant: Vec<Rc<str>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Placing {
    step: Step,
    number: u32,
    group: Rc<str>,
    /// All topics of `[broker]`, sorted.
    topics: Rc<[Rc<str>]>,
    /// Topics that messages of the filter go to.
    meant: Vec<Rc<str>>,
    /// Whether the share is new: its place is its end in partitions without a commit.
    is_new: bool,
    /// Partitions without a commit, sorted; each with its end, once that is known.
    missing: BTreeMap<TopicPartition, Option<i64>>,
    /// Earlier commits: another instance may delete the group before this one is in it.
    committed: Vec<Offset>,
    asked: Option<u64>,
    token: u64,
    not_before: Monotonic,
    /// The refusal of Kafka, in words, if an operator has to resolve it.
    refused: Option<String>,
    failing_since: Option<Monotonic>,
}

impl Placing {
    pub(super) fn new(number: u32, group: &Rc<str>, topics: &Topics, is_new: bool, now: Monotonic) -> Self {
        Self {
            step: Step::Coordinator,
            number,
            group: Rc::clone(group),
            topics: Rc::clone(&topics.all),
            meant: topics.meant.clone(),
            is_new,
            missing: BTreeMap::new(),
            committed: Vec::new(),
            asked: None,
            token: TOKENS,
            not_before: now,
            refused: None,
            failing_since: None,
        }
    }

    /// Whether Kafka has refused a request, and an operator has to resolve that.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether the members of the share wait for its place.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The topics of the share, sorted.
    pub(super) fn topics(&self) -> Vec<Rc<str>> {
        let has_place = |topic: &&Rc<str>| self.committed.iter().any(|committed| committed.at.topic == **topic);
        self.topics.iter().filter(|topic| self.meant.contains(topic) || has_place(topic)).cloned().collect()
    }

    /// The reason why the place is not found, in words, if the failure persists.
    pub(super) fn trouble(&self, now: Monotonic) -> Option<String> {
        let lasts = self.failing_since.is_some_and(|since| now.since(since) >= PATIENCE);
        self.refused.clone().or_else(|| lasts.then(|| NO_ANSWER.to_owned()))
    }

    /// The time of the next request.
    pub(super) fn next_deadline(&self) -> Monotonic {
        let waits = self.asked.is_some() || matches!(self.step, Step::Ends | Step::Done);
        if waits { Monotonic::NEVER } else { self.not_before }
    }

    pub(super) fn take_request(&mut self, now: Monotonic) -> Option<Request> {
        if self.next_deadline() > now {
            return None;
        }
        let ask = match self.step {
            Step::Coordinator => Ask::Coordinator,
            Step::Count => Ask::Partitions(Rc::clone(&self.topics)),
            Step::Committed => Ask::Offsets(self.missing.keys().cloned().collect()),
            Step::Commit => Ask::Commit(self.ends()),
            Step::Ends | Step::Done => return None,
        };
        self.token += 1;
        self.asked = Some(self.token);
        Some(request(self.number, self.token, &self.group, ask))
    }

    /// Takes an answer.
    pub(super) fn on_answer(&mut self, answer: &Answer, now: Monotonic) {
        if self.asked != Some(answer.token) {
            return;
        }
        self.asked = None;
        self.step = match (self.step, &answer.says) {
            (Step::Coordinator, Says::Coordinator) => Step::Count,
            (Step::Count, Says::Partitions(counts)) if self.are_counted(counts) => {
                let all = self.topics.iter().zip(counts).flat_map(|(topic, count)| {
                    let partitions = 0..i32::try_from(count.unwrap_or(0)).unwrap_or(i32::MAX);
                    partitions.map(|partition| TopicPartition { topic: Rc::clone(topic), partition })
                });
                self.missing = all.map(|at| (at, None)).collect();
                Step::Committed
            }
            (Step::Committed, Says::Offsets(offsets)) if offsets.iter().all(Result::is_ok) => {
                let known = self.missing.keys().zip(offsets).filter_map(|(at, offset)| {
                    let committed = (*offset).ok()??;
                    Some(Offset { at: at.clone(), offset: committed.offset, leader_epoch: committed.leader_epoch })
                });
                self.committed = known.collect();
                self.missing.retain(|at, _| {
                    self.meant.contains(&at.topic) && self.committed.iter().all(|committed| committed.at != *at)
                });
                if self.missing.is_empty() || !self.is_new { self.others() } else { Step::Ends }
            }
            (Step::Commit, Says::Committed(codes)) if codes.iter().all(|code| *code == 0) => Step::Done,
            (Step::Commit, Says::Committed(codes)) if codes.iter().any(|code| HAS_MEMBERS.contains(code)) => {
                self.others()
            }
            (Step::Commit, Says::Refused(code)) if HAS_MEMBERS.contains(code) => self.others(),
            (step, says) => {
                let refusal = code_of(says).and_then(group::refusal);
                self.refused = refusal.map(|why| format!("{} was answered with {why}{GRANT}", step.call()));
                self.failing_since.get_or_insert(now);
                self.not_before = now.after(if self.is_refused() { REFUSED_AGAIN } else { AGAIN });
                return self.step = Step::Coordinator;
            }
        };
        if self.step == Step::Done {
            (self.refused, self.failing_since) = (None, None);
        }
    }

    /// Whether the partitions are counted. A topic that messages of the filter do not go to may be gone.
    fn are_counted(&self, counts: &[Result<u32, i16>]) -> bool {
        let mut each = self.topics.iter().zip(counts);
        each.all(|(topic, count)| count.is_ok() || *count == Err(UNKNOWN_TOPIC) && !self.meant.contains(topic))
    }

    /// Handles a share that has its place: a partition without a commit is new, and the members' from its first record on.
    fn others(&mut self) -> Step {
        self.missing.clear();
        Step::Done
    }

    /// Partitions without a known end.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &TopicPartition> {
        let wanted = self.missing.iter().filter(|(_, end)| self.step == Step::Ends && end.is_none());
        wanted.map(|(at, _)| at)
    }

    /// Notes the end of a partition.
    pub(super) fn found(&mut self, at: &TopicPartition, offset: i64) {
        if let Some(end) = self.missing.get_mut(at).filter(|_| self.step == Step::Ends) {
            *end = Some(offset);
            if self.missing.values().all(Option::is_some) {
                self.step = Step::Commit;
            }
        }
    }

    /// The committed places once all are: the ends found, and earlier commits. `None`: not yet.
    pub(super) fn is_done(&self) -> Option<Vec<Offset>> {
        (self.step == Step::Done).then(|| [self.ends(), self.committed.clone()].concat())
    }

    fn ends(&self) -> Vec<Offset> {
        let known = self.missing.iter().filter_map(|(at, end)| Some((at, (*end)?)));
        known.map(|(at, offset)| Offset { at: at.clone(), offset, leader_epoch: -1 }).collect()
    }
}

/// A request from outside of the group's members.
pub(super) fn request(member: u32, token: u64, group: &Rc<str>, ask: Ask) -> Request {
    let identity = Identity { group: Rc::clone(group), member_id: Rc::from(""), instance: None, generation: -1 };
    Request { member, token, identity, ask }
}

/// Has a consumer find the ends of partitions, under these IDs.
pub(super) fn find_ends(
    placing: &Placing,
    consumer: &mut Consumer,
    ids: &mut BTreeMap<u32, TopicPartition>,
    mut next_id: impl FnMut() -> u32,
    assignment: impl Fn(&TopicPartition, (Start, Place)) -> forebay_kafka::consumer::Assignment,
) {
    for at in placing.wanted() {
        if !ids.values().any(|known| known == at) {
            let id = next_id();
            consumer.assign(id, assignment(at, (Start::At(Place::Latest), Place::Latest)));
            ids.insert(id, at.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_kafka::coordination::Committed;

    const NOW: Monotonic = Monotonic(1);

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: Rc::from("t"), partition }
    }

    fn placing() -> Placing {
        of(&["t"], true)
    }

    /// A share of `t`, where `[broker]` has these topics.
    fn of(all: &[&str], is_new: bool) -> Placing {
        let topics = Topics { all: all.iter().map(|topic| Rc::from(*topic)).collect(), meant: vec![Rc::from("t")] };
        Placing::new(7, &Rc::from("g"), &topics, is_new, NOW)
    }

    /// Answers the next request, and returns what it asked.
    fn answer(placing: &mut Placing, now: Monotonic, says: Says) -> Ask {
        let request = placing.take_request(now).expect("a request");
        assert_eq!((request.member, request.identity.generation, &*request.identity.member_id), (7, -1, ""));
        assert!(placing.take_request(now).is_none(), "one at a time");
        placing.on_answer(&Answer { member: 7, token: request.token, says }, now);
        request.ask
    }

    fn up_to_commits(committed: Vec<Result<Option<Committed>, i16>>) -> Placing {
        let mut placing = placing();
        answer(&mut placing, NOW, Says::Coordinator);
        answer(&mut placing, NOW, Says::Partitions(vec![Ok(2)]));
        answer(&mut placing, NOW, Says::Offsets(committed));
        placing
    }

    #[test]
    fn a_new_share_begins_at_the_ends_and_they_are_committed_first() {
        let mut placing = up_to_commits(vec![Ok(None), Ok(None)]);
        assert!(placing.wanted().eq([&at(0), &at(1)]) && placing.take_request(NOW).is_none());
        placing.found(&at(1), 5);
        assert!(placing.take_request(NOW).is_none(), "one is not known");
        placing.found(&at(0), 3);
        assert!(placing.is_done().is_none());
        let Ask::Commit(places) = answer(&mut placing, NOW, Says::Committed(vec![0, 0])) else { panic!() };
        assert_eq!(places.iter().map(|place| place.offset).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(placing.is_done(), Some(places));
    }

    #[test]
    fn what_the_group_has_committed_stays() {
        let known = Ok(Some(Committed { offset: 9, leader_epoch: 0 }));
        let place = |partition| Offset { at: at(partition), offset: 9, leader_epoch: 0 };
        // The earlier commit is known here, too: another instance may be about to delete the group.
        assert_eq!(up_to_commits(vec![known, known]).is_done(), Some(vec![place(0), place(1)]));
        let mut placing = up_to_commits(vec![Ok(None), known]);
        assert!(placing.wanted().eq([&at(0)]), "one that is new");
        placing.found(&at(0), 3);
        // The group has members: they have committed their own places, and a new partition is theirs from its first record on.
        answer(&mut placing, NOW, Says::Committed(vec![25]));
        assert_eq!(placing.is_done(), Some(vec![place(1)]));
    }

    /// Messages of the share's filter went to `s` when there were other routes, and never to `r`.
    #[test]
    fn topics_in_which_the_group_has_a_place_are_its_own() {
        let place = Committed { offset: 9, leader_epoch: 0 };
        for is_new in [false, true] {
            let mut placing = of(&["r", "s", "t"], is_new);
            answer(&mut placing, NOW, Says::Coordinator);
            answer(&mut placing, NOW, Says::Partitions(vec![Ok(1), Ok(2), Ok(1)]));
            let Ask::Offsets(asked) =
                answer(&mut placing, NOW, Says::Offsets(vec![Ok(None), Ok(None), Ok(Some(place)), Ok(None)]))
            else {
                panic!()
            };
            assert_eq!(asked.len(), 4);
            assert!(placing.topics().iter().map(|topic| &**topic).eq(["s", "t"]));
            if is_new {
                assert!(placing.wanted().eq([&at(0)]), "the end of its own topic");
            } else {
                let known = TopicPartition { topic: Rc::from("s"), partition: 1 };
                let known = Offset { at: known, offset: 9, leader_epoch: 0 };
                assert_eq!(placing.is_done(), Some(vec![known]), "a new partition begins with its first record");
            }
        }
    }

    #[test]
    fn a_right_that_is_missing_is_told_and_asked_for_less_often() {
        let mut placing = placing();
        answer(&mut placing, NOW, Says::Coordinator);
        answer(&mut placing, NOW, Says::Partitions(vec![Ok(2)]));
        answer(&mut placing, NOW, Says::Refused(30));
        let why = placing.trouble(NOW).expect("at once");
        assert!(placing.is_refused() && why.contains("OffsetFetch") && why.contains("prefix forebay-share-"), "{why}");
        assert_eq!(placing.next_deadline(), NOW.after(REFUSED_AGAIN));
        let later = NOW.after(REFUSED_AGAIN);
        answer(&mut placing, later, Says::Coordinator);
        answer(&mut placing, later, Says::Partitions(vec![Ok(2)]));
        assert!(placing.is_refused(), "it is not known yet");
        let place = Ok(Some(Committed { offset: 9, leader_epoch: 0 }));
        answer(&mut placing, later, Says::Offsets(vec![place, place]));
        assert!(!placing.is_refused() && placing.trouble(later).is_none());
    }

    #[test]
    fn a_coordinator_that_does_not_answer_is_told_after_a_while() {
        let mut placing = placing();
        answer(&mut placing, NOW, Says::Refused(15));
        assert!(placing.trouble(NOW).is_none() && !placing.is_refused());
        let later = NOW.after(PATIENCE);
        answer(&mut placing, later, Says::NoAnswer);
        assert_eq!(placing.trouble(later).as_deref(), Some(NO_ANSWER));
    }

    #[test]
    fn it_begins_again_after_a_failure() {
        let failures = [Says::NoAnswer, Says::Refused(15), Says::Offsets(vec![Err(14), Ok(None)])];
        for failure in failures {
            let mut placing = placing();
            answer(&mut placing, NOW, Says::Coordinator);
            answer(&mut placing, NOW, Says::Partitions(vec![Ok(2)]));
            answer(&mut placing, NOW, failure);
            assert!(placing.take_request(NOW).is_none() && placing.next_deadline() == NOW.after(AGAIN));
            assert!(matches!(answer(&mut placing, NOW.after(AGAIN), Says::Coordinator), Ask::Coordinator));
        }
        let mut placing = up_to_commits(vec![Ok(None), Ok(None)]);
        [0, 1].iter().for_each(|partition| placing.found(&at(*partition), 1));
        answer(&mut placing, NOW, Says::Committed(vec![16, 16]));
        assert!(placing.is_done().is_none() && placing.next_deadline() > NOW);
    }
}

//! The way of a member: counting its topics' partitions, JoinGroup, counting all members' where it leads, SyncGroup, the committed offsets, and
//! from there back to the first one, or out.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::verdict::Verdict;
use super::{Assigned, Committed, Lost, Member, News, range};
use crate::kafka::coordination::{Ask, Assignment, GroupMember, Joined, Says, TopicPartition};
use crate::runtime::seam::Monotonic;

/// The only assignor that Forebay offers: every Kafka client has it.
pub(crate) const RANGE: &str = "range";

/// Where a member is.
#[derive(Debug)]
pub(super) enum Step {
    /// It counts partitions before it joins: it sees what changes after that.
    Look,
    /// It joins.
    Join,
    /// It leads, and counts partitions before it assigns.
    Count(Vec<GroupMember>),
    /// It waits for its assignment; the leader's own for all members.
    Sync(Rc<[(Rc<str>, Assignment)]>),
    /// It asks what is committed.
    Offsets,
    /// It has its partitions.
    Stable,
    /// It waits for its owner to give them back, until then at the latest.
    Revoking { until: Monotonic, is_done: bool },
    /// It makes its last commits and leaves, until then at the latest. `says_so`: the coordinator is told.
    Leaving { until: Monotonic, says_so: bool },
    /// It is over.
    Ended,
}

impl Member {
    /// Does what needs no answer.
    pub(super) fn advance(&mut self, now: Monotonic) {
        match self.step {
            Step::Revoking { until, is_done } if until <= now || (is_done && self.commits.is_idle()) => self.join(now),
            Step::Stable if self.me.topics[..] != self.settings.topics[..] => self.rebalance(now),
            Step::Leaving { until, .. } if until <= now => self.end(),
            Step::Leaving { says_so, .. } if self.commits.is_idle() && !(says_so && self.is_known()) => self.end(),
            _ => {}
        }
    }

    /// Whether the coordinator knows the member, so that leaving means something.
    fn is_known(&self) -> bool {
        !self.me.id.is_empty() || self.settings.instance.is_some()
    }

    pub(super) fn step_deadline(&self) -> Monotonic {
        match self.step {
            Step::Revoking { until, .. } | Step::Leaving { until, .. } => until,
            _ => Monotonic::NEVER,
        }
    }

    pub(super) fn step_due(&self) -> Monotonic {
        let needed = match self.step {
            Step::Look | Step::Join | Step::Count(_) | Step::Sync(_) => true,
            Step::Offsets => self.commits.is_idle(),
            Step::Leaving { says_so, .. } => says_so && self.commits.is_idle(),
            Step::Stable | Step::Revoking { .. } | Step::Ended => false,
        };
        if needed && self.asked.is_none() { self.not_before } else { Monotonic::NEVER }
    }

    pub(super) fn take_step(&mut self, token: u64, now: Monotonic) -> Option<Ask> {
        if self.step_due() > now {
            return None;
        }
        let rebalance_timeout = self.settings.rebalance_timeout;
        let ask = match &self.step {
            Step::Look => {
                self.me.topics = Rc::from(&self.settings.topics[..]);
                self.counts.topics = Rc::clone(&self.me.topics);
                Ask::Partitions(Rc::clone(&self.counts.topics))
            }
            Step::Join => {
                let topics = Rc::clone(&self.me.topics);
                let fingerprint = self.counts.fingerprint(&topics);
                let session_timeout = self.settings.session_timeout;
                Ask::Join { session_timeout, rebalance_timeout, topics, fingerprint }
            }
            Step::Count(_) => Ask::Partitions(Rc::clone(&self.counts.topics)),
            Step::Sync(assignments) => Ask::Sync { assignments: Rc::clone(assignments), rebalance_timeout },
            Step::Offsets => Ask::Offsets(Rc::clone(&self.owned.partitions)),
            Step::Leaving { .. } => Ask::Leave,
            Step::Stable | Step::Revoking { .. } | Step::Ended => return None,
        };
        self.asked = Some(token);
        Some(ask)
    }

    /// Takes the answer to the step's request.
    pub(super) fn on_step(&mut self, token: u64, says: &Says, now: Monotonic) {
        match (std::mem::replace(&mut self.step, Step::Join), says) {
            (Step::Look, Says::Partitions(counts)) => {
                self.counted(counts, now);
            }
            (step, Says::Refused(code)) => self.on_refused(token, step, *code, now),
            (Step::Leaving { .. }, Says::Left) => self.end(),
            (Step::Join, Says::MemberId(id)) => {
                if !self.me.id.is_empty() {
                    self.wait(now);
                }
                self.me.id = Rc::clone(id);
            }
            (Step::Join, Says::Joined(joined)) => self.on_joined(joined, now),
            (Step::Count(members), Says::Partitions(counts)) => {
                self.counted(counts, now);
                self.step = Step::Sync(Rc::from(range::assign(&members, |topic| self.counts.of(topic))));
            }
            (Step::Sync(_), Says::Assignment(assignment)) => self.on_assignment(assignment),
            (Step::Offsets, Says::Offsets(offsets)) => {
                self.step = Step::Offsets;
                self.on_offsets(token, offsets, now);
            }
            (step, Says::NotSpoken(call)) => {
                self.step = step;
                self.not_spoken(call, now);
            }
            (step, _) => {
                self.step = step;
                self.wait(now);
                self.coordinator_lost(token, now);
            }
        }
    }

    fn on_refused(&mut self, token: u64, step: Step, code: i16, now: Monotonic) {
        let call = match step {
            Step::Join => "JoinGroup",
            Step::Sync(_) => "SyncGroup",
            Step::Offsets => "OffsetFetch",
            _ => "LeaveGroup",
        };
        let is_join = matches!(step, Step::Join);
        self.step = step;
        match Verdict::of(code) {
            Verdict::Over(why) => self.lost(why, now),
            Verdict::Rejoin if !is_join && !matches!(self.step, Step::Leaving { .. }) => {
                self.join(now);
                self.wait(now);
            }
            verdict => {
                let wait = self.wait_after(verdict, code, call, now);
                self.not_before = now.after(wait);
                if verdict == Verdict::Elsewhere {
                    self.coordinator_lost(token, now);
                }
            }
        }
    }

    fn on_joined(&mut self, joined: &Joined, now: Monotonic) {
        if &*joined.protocol != RANGE {
            self.told
                .trouble(format!("the group uses the assignor {:?}, which Forebay did not offer", joined.protocol));
            self.not_before = now.after(self.settings.refused_backoff);
            return;
        }
        self.told.stats.rebalances += 1;
        self.me.id = Rc::clone(&joined.member_id);
        self.me.generation = joined.generation;
        self.me.knows_static = joined.knows_static;
        self.me.leads = joined.leader == joined.member_id;
        self.heartbeat.due = now.after(self.settings.heartbeat());
        self.counts.returned_to.clear();
        if self.me.leads && !joined.members.is_empty() {
            let all: BTreeSet<&Rc<str>> = joined.members.iter().flat_map(|member| &member.topics).collect();
            self.counts.topics = all.into_iter().cloned().collect();
        }
        self.step = if self.me.leads && !joined.skip_assignment {
            Step::Count(joined.members.clone())
        } else {
            if self.me.leads {
                self.counts.returned_to.clone_from(&joined.members);
            }
            self.count_soon(now);
            Step::Sync(Rc::from([]))
        };
    }

    fn on_assignment(&mut self, assignment: &Assignment) {
        let mut partitions = BTreeSet::new();
        for (topic, indexes) in assignment {
            // A leader that gives what was not asked for leaves those partitions to nobody, until it knows better.
            let Ok(i) = self.me.topics.binary_search(topic) else {
                tracing::warn!(group = %self.settings.group, %topic, "the group's leader gave partitions of a topic that was not asked for");
                continue;
            };
            for partition in indexes.iter().copied().filter(|index| *index >= 0) {
                partitions.insert(TopicPartition { topic: Rc::clone(&self.me.topics[i]), partition });
            }
        }
        self.owned.partitions = partitions.into_iter().collect();
        self.told.stats.dropped += self.commits.keep(&self.owned.partitions);
        self.step = Step::Offsets;
        if self.owned.partitions.is_empty() {
            self.assigned(Vec::new());
        }
    }

    /// Takes what is committed: all of it, or none.
    fn on_offsets(&mut self, token: u64, offsets: &[Result<Option<(i64, i32)>, i16>], now: Monotonic) {
        if let Some(code) = offsets.iter().find_map(|offset| offset.err()) {
            return self.on_refused(token, Step::Offsets, code, now);
        }
        if offsets.len() < self.owned.partitions.len() {
            self.wait(now);
            return self.coordinator_lost(token, now);
        }
        type Found = Result<Option<(i64, i32)>, i16>;
        let assigned = |(at, offset): (&TopicPartition, &Found)| Assigned {
            at: at.clone(),
            committed: offset.ok().flatten().map(|(offset, leader_epoch)| Committed { offset, leader_epoch }),
        };
        let assigned = self.owned.partitions.iter().zip(offsets).map(assigned).collect();
        self.assigned(assigned);
    }

    fn assigned(&mut self, assigned: Vec<Assigned>) {
        self.backoff.reset();
        self.step = Step::Stable;
        self.owned.is_told = true;
        self.told.news.push_back(News::Assigned(assigned));
        self.well();
    }

    /// Joins again as the group begins a rebalance, or has to. Partitions that the owner knows of are given back first.
    pub(super) fn rebalance(&mut self, now: Monotonic) {
        match self.step {
            Step::Stable if !self.owned.partitions.is_empty() => {
                self.step = Step::Revoking { until: now.after(self.settings.revocation()), is_done: false };
                self.counts.forget_question();
                self.told.news.push_back(News::Revoked(self.owned.partitions.to_vec()));
            }
            Step::Stable | Step::Count(_) | Step::Sync(_) | Step::Offsets => self.join(now),
            Step::Look | Step::Join | Step::Revoking { .. } | Step::Leaving { .. } | Step::Ended => {}
        }
    }

    fn join(&mut self, now: Monotonic) {
        self.owned.partitions = Rc::from([]);
        self.owned.is_told = false;
        (self.step, self.asked, self.not_before) = (Step::Look, None, now);
        self.heartbeat.asked = None;
        self.counts.forget_question();
    }

    /// Has the next step wait, longer each time until the member has its partitions: no answer makes it ask at once for ever.
    fn wait(&mut self, now: Monotonic) {
        self.not_before = now.after(self.backoff.next(self.settings.retry(), &mut self.rng));
    }

    /// Ends the membership, and begins another one, unless the member was fenced or leaves.
    pub(super) fn lost(&mut self, why: Lost, now: Monotonic) {
        self.told.stats.lost += u64::from(self.me.generation >= 0);
        self.told.stats.dropped += self.commits.drop_all();
        self.me.generation = -1;
        self.me.leads = false;
        if why != Lost::Generation {
            self.me.id = Rc::from("");
        }
        if self.owned.is_told || why == Lost::Fenced {
            self.told.news.push_back(News::Lost(why));
        }
        let leaves = matches!(self.step, Step::Leaving { .. });
        self.join(now);
        self.wait(now);
        if leaves {
            self.end();
        } else if why == Lost::Fenced {
            self.step = Step::Ended;
        }
    }

    /// Begins to leave.
    pub(super) fn go(&mut self, says_so: bool, now: Monotonic) {
        match self.step {
            Step::Leaving { .. } => return,
            Step::Ended => return self.end(),
            _ => {}
        }
        if !self.owned.is_told {
            // These wait for a rebalance to end, which is not waited for.
            self.told.stats.dropped += self.commits.drop_all();
        }
        self.step = Step::Leaving { until: now.after(self.settings.leave_timeout), says_so };
        (self.asked, self.heartbeat.asked, self.not_before) = (None, None, now);
        self.counts.forget_question();
        self.advance(now);
    }

    fn end(&mut self) {
        self.told.stats.dropped += self.commits.drop_all();
        self.step = Step::Ended;
        self.told.news.push_back(News::Left);
    }
}

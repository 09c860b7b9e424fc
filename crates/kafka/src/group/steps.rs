//! The steps of a member: counting its topics' partitions, JoinGroup, counting all members' if it leads, SyncGroup, the committed offsets,
//! and from there back to the first step, or out.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::verdict::Verdict;
use super::{Assigned, Assignment, Lead, Lost, Member, News, Protocol};
use crate::coordination::{Ask, Committed, Given, GroupMember, Joined, Says, TopicPartition};
use forebay_runtime::seam::Monotonic;

/// The step that a member is at.
#[derive(Debug)]
pub(super) enum Step {
    /// The member counts the partitions of its topics before it joins, so that it sees every later change.
    Look,
    /// JoinGroup is due or in flight.
    Join,
    /// The member leads, and counts the partitions of all members' topics before it assigns.
    Count(Vec<GroupMember>),
    /// SyncGroup is due or in flight, with the assignments of all members if the member leads.
    Sync(Rc<[Given]>),
    /// OffsetFetch is due or in flight, after commits that a rebalance overtook.
    Offsets,
    /// The member has its partitions.
    Stable,
    /// The owner gives the partitions back, `until` at the latest.
    Revoking { until: Monotonic, is_done: bool },
    /// The member makes its last commits and leaves, `until` at the latest. `says_so`: it sends a LeaveGroup.
    Leaving { until: Monotonic, says_so: bool },
    /// The member is over.
    Ended,
}

impl<P: Protocol> Member<P> {
    /// Goes on to the next step if that needs no answer.
    pub(super) fn advance(&mut self, now: Monotonic) {
        match self.step {
            Step::Revoking { until, is_done } if until <= now || (is_done && self.commits.is_idle()) => self.join(now),
            Step::Stable if self.me.topics[..] != self.settings.topics[..] => self.rebalance(now),
            Step::Leaving { until, .. } if until <= now => self.end(),
            Step::Leaving { says_so, .. } if self.commits.is_idle() && !(says_so && self.is_known()) => self.end(),
            _ => {}
        }
    }

    /// Whether the coordinator knows the member, so that leaving has an effect.
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
                let metadata = self.protocol.metadata(&topics, fingerprint);
                Ask::Join { session_timeout, rebalance_timeout, names: P::NAMES, metadata }
            }
            Step::Count(_) => Ask::Partitions(Rc::clone(&self.counts.topics)),
            Step::Sync(assignments) => {
                Ask::Sync { names: P::NAMES, assignments: Rc::clone(assignments), rebalance_timeout }
            }
            Step::Offsets => Ask::Offsets(Rc::clone(&self.owned.partitions)),
            Step::Leaving { .. } => Ask::Leave,
            Step::Stable | Step::Revoking { .. } | Step::Ended => return None,
        };
        (self.asked, self.asked_at) = (Some(token), now);
        Some(ask)
    }

    /// Handles the answer to the step's request.
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
                self.assign(&members, Duration::ZERO, now);
            }
            (Step::Sync(assignments), Says::Assignment(bytes)) => match self.protocol.assigned(bytes) {
                Some(assignment) => self.on_assignment(&assignment),
                None => {
                    self.step = Step::Sync(assignments);
                    self.told.failing("the group's leader gave an assignment that cannot be read", now);
                    self.wait(now);
                }
            },
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
        if &*joined.protocol != P::NAMES.protocol {
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
            self.counts.topics = self.protocol.topics(&joined.members).into_iter().collect();
        }
        if self.me.leads && !joined.skip_assignment {
            if self.counts.topics.is_empty() {
                return self.assign(&joined.members, now.since(self.asked_at), now);
            }
            self.step = Step::Count(joined.members.clone());
            return;
        }
        if self.me.leads {
            self.counts.returned_to.clone_from(&joined.members);
        }
        self.count_soon(now);
        self.step = Step::Sync(Rc::from([]));
    }

    /// Assigns as the leader. `waited`: how long JoinGroup was in flight.
    fn assign(&mut self, members: &[GroupMember], waited: Duration, now: Monotonic) {
        let lead = Lead { members, generation: self.me.generation, waited, now };
        let counts = &self.counts;
        self.step = Step::Sync(Rc::from(self.protocol.assign(&lead, &|topic| counts.of(topic))));
    }

    fn on_assignment(&mut self, assignment: &Assignment) {
        let mut partitions = BTreeSet::new();
        for (topic, indexes) in assignment {
            // No member reads such a partition until the leader assigns again.
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

    /// Takes the committed offsets. If any of them is an error, the request is repeated.
    fn on_offsets(&mut self, token: u64, offsets: &[Result<Option<Committed>, i16>], now: Monotonic) {
        if let Some(code) = offsets.iter().find_map(|offset| offset.err()) {
            return self.on_refused(token, Step::Offsets, code, now);
        }
        if offsets.len() < self.owned.partitions.len() {
            self.wait(now);
            return self.coordinator_lost(token, now);
        }
        let committed = offsets.iter().map(|offset| offset.ok().flatten());
        let each = self.owned.partitions.iter().cloned().zip(committed);
        let assigned = each.map(|(at, committed)| Assigned { at, committed }).collect();
        self.assigned(assigned);
    }

    fn assigned(&mut self, assigned: Vec<Assigned>) {
        self.backoff.reset();
        self.step = Step::Stable;
        self.owned.is_told = true;
        self.told.news.push_back(News::Assigned(assigned));
        self.well();
    }

    /// Joins again when the group begins a rebalance, or must begin one. Partitions reported to the owner are given back first.
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
        self.owned.is_told &= P::KEEPS;
        let step = if self.settings.topics.is_empty() {
            // There is nothing to count, so the member joins at once.
            self.me.topics = Rc::from([]);
            self.counts.topics = Rc::clone(&self.me.topics);
            Step::Join
        } else {
            Step::Look
        };
        (self.step, self.asked, self.not_before) = (step, None, now);
        self.heartbeat.asked = None;
        self.counts.forget_question();
    }

    /// Delays the next step, longer each time until the member has its partitions, so that no answer can cause an endless tight loop.
    fn wait(&mut self, now: Monotonic) {
        self.not_before = now.after(self.backoff.next(self.settings.retry(), &mut self.rng));
    }

    /// Ends the membership, and begins another one, unless the member was fenced for good or leaves. A member that is fenced before it has
    /// its partitions need not have met another process: a coordinator that takes over the group may know the member by its previous id, if
    /// no newer one was written down, and the member's own request over a lost connection may be carried out late.
    pub(super) fn lost(&mut self, why: Lost, now: Monotonic) {
        self.told.stats.lost += u64::from(self.me.generation >= 0);
        self.told.stats.dropped += self.commits.drop_all();
        self.me.generation = -1;
        self.me.leads = false;
        if why != Lost::Generation {
            self.me.id = Rc::from("");
        }
        let is_over = why == Lost::Fenced && self.owned.is_told && !self.settings.comes_back;
        // A member that keeps its assignment says so when it joins the generation that it missed.
        if self.owned.is_told && !(P::KEEPS && why == Lost::Generation) {
            self.owned.is_told = false;
            self.told.news.push_back(News::Lost(why));
        }
        let leaves = matches!(self.step, Step::Leaving { .. });
        self.join(now);
        self.wait(now);
        if leaves {
            self.end();
        } else if is_over {
            self.step = Step::Ended;
        } else if why == Lost::Fenced {
            self.told.failing("another process joins the group with the same instance id", now);
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
            // Commits that wait for the end of a rebalance are dropped: leaving does not wait for it.
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

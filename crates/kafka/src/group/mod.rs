//! One member of a classic consumer group, sans-I/O: answers and `now` in, requests and [`News`] out.
//!
//! The owner hands each [`Member::take_request`] to [`crate::client::Client::ask_coordinator`], each
//! [`crate::types::ClientEvent::Member`] to [`Member::on_answer`], calls [`Member::on_time`] when [`Member::next_deadline`] is reached,
//! and takes [`Member::take_news`] after each of these. The member finds its coordinator, joins, assigns if it
//! leads, sends heartbeats, commits, and joins again whenever the group or its topics change. It promises:
//!
//! - **Eager.** Partitions are the member's from [`News::Assigned`] until [`News::Revoked`] (all of them) or [`News::Lost`]. It joins again
//!   when the owner has called [`Member::revoked_done`] and all commits are answered, or when the rebalance waits no longer.
//! - **Commits in order.** One OffsetCommit is in flight; later commits wait, the newest place of each partition. Only partitions that the
//!   member has are committed, under the generation that assigned them. A commit that a rebalance overtakes is made after it if the
//!   partition is still the member's.
//! - **No waiting forever.** Requests are repeated with backoff after temporary failures, and the coordinator is looked up if it may have
//!   moved. Requests are repeated less often after failures that an operator has to fix: [`News::Trouble`] has the cure.
//! - **Growth.** A member counts the partitions of its topics, the leader those of all members' topics, and joins again when counts change
//!   ([0193](../../../docs/decisions/0193-members-tell-what-they-counted.md)).
//!
//! The members' data are defined by a [`Protocol`]: [`Range`] is that of Kafka's consumers. A group of another protocol need not have
//! topics: then nothing is counted, no offsets are read, and [`News::Assigned`] reports that the protocol has an assignment.
//!
//! Files: `steps` is the sequence from JoinGroup to the offsets, `commits` OffsetCommit, `counts` partitions, `protocol` the trait,
//! `subscription` and `range` the protocol of consumers and its assignor, `verdict` the meaning of error codes.

mod commits;
mod counts;
mod news;
mod protocol;
mod range;
mod settings;
mod steps;
mod subscription;
mod verdict;

#[cfg(test)]
mod tests;

use std::rc::Rc;

pub use self::news::{Assigned, Lost, News, Standing, Stats};
pub use self::protocol::{Assignment, Fingerprint, Lead, Protocol};
pub use self::settings::Settings;
pub use self::subscription::{Partaking, Range};
pub use self::verdict::refusal;
pub use crate::coordination::Committed;

use self::commits::Commits;
use self::counts::Counts;
use self::steps::Step;
use self::verdict::{Told, Verdict};
use crate::coordination::{Answer, Ask, Identity, Offset, Request, Says, TopicPartition};
use forebay_guard::outward::Backoff;
use forebay_runtime::seam::Monotonic;

/// The broker that coordinates the group.
#[derive(Debug)]
struct Coordinator {
    state: Found,
    /// Token of the last FindCoordinator: an older request that is lost says nothing about the coordinator found since.
    since: u64,
    backoff: Backoff,
}

/// Whether the coordinator is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The coordinator is not known; FindCoordinator is due at this time.
    No(Monotonic),
    /// FindCoordinator is in flight.
    Asked,
    Yes,
}

/// The membership, as the coordinator has granted it.
#[derive(Debug)]
struct Me {
    /// Member id; empty: none.
    id: Rc<str>,
    /// Generation; -1: none.
    generation: i32,
    /// Topics that the member has joined with, sorted.
    topics: Rc<[Rc<str>]>,
    /// Whether the member leads, and watches all members' topics.
    leads: bool,
    /// Whether its broker is known to support static members.
    knows_static: bool,
}

/// Heartbeats.
#[derive(Debug)]
struct Heartbeat {
    due: Monotonic,
    asked: Option<u64>,
}

/// The partitions of the member.
#[derive(Debug)]
struct Owned {
    /// The partitions, sorted.
    partitions: Rc<[TopicPartition]>,
    /// Whether the assignment was reported to the owner.
    is_told: bool,
}

/// A member of a group.
#[derive(Debug)]
pub struct Member<P = Range> {
    protocol: P,
    settings: Settings,
    me: Me,
    step: Step,
    /// Token of the step's request in flight.
    asked: Option<u64>,
    /// When the step's last request was taken.
    asked_at: Monotonic,
    /// When the step's request may be sent.
    not_before: Monotonic,
    /// Backoff for consecutive failures of steps.
    backoff: Backoff,
    coordinator: Coordinator,
    heartbeat: Heartbeat,
    commits: Commits,
    counts: Counts,
    owned: Owned,
    told: Told,
    next_token: u64,
    rng: fastrand::Rng,
}

impl Member {
    /// A consumer that begins to join at once. `seed` is for its jitter; members should differ.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Monotonic) -> Self {
        Self::of(Range, settings, seed, now)
    }
}

impl<P: Protocol> Member<P> {
    /// A member that begins to join at once. `seed` is for its jitter; members should differ.
    #[must_use]
    pub fn of(protocol: P, settings: Settings, seed: u64, now: Monotonic) -> Self {
        let nothing: Rc<[TopicPartition]> = Rc::from([]);
        let step = if settings.topics.is_empty() { Step::Join } else { Step::Look };
        let mut member = Self {
            protocol,
            me: Me { id: Rc::from(""), generation: -1, topics: Rc::from([]), leads: false, knows_static: true },
            settings,
            step,
            asked: None,
            asked_at: now,
            not_before: now,
            backoff: Backoff::default(),
            coordinator: Coordinator { state: Found::No(now), since: 0, backoff: Backoff::default() },
            heartbeat: Heartbeat { due: now, asked: None },
            commits: Commits::default(),
            counts: Counts::default(),
            owned: Owned { partitions: nothing, is_told: false },
            told: Told::default(),
            next_token: 0,
            rng: fastrand::Rng::with_seed(seed),
        };
        member.sort_topics();
        member
    }

    /// The next request for the client of the member's cluster. Call it until there is none.
    pub fn take_request(&mut self, now: Monotonic) -> Option<Request> {
        let token = self.next_token;
        let ask = match self.coordinator.state {
            _ if matches!(self.step, Step::Ended) => return None,
            Found::No(due) if due <= now => {
                (self.coordinator.state, self.coordinator.since) = (Found::Asked, token);
                Ask::Coordinator
            }
            Found::No(_) | Found::Asked => return None,
            Found::Yes => {
                let ask = self.take_heartbeat(token, now).or_else(|| self.take_commit(token, now));
                ask.or_else(|| self.take_step(token, now)).or_else(|| self.take_count(token, now))?
            }
        };
        Some(self.request(ask))
    }

    fn request(&mut self, ask: Ask) -> Request {
        let token = self.next_token;
        self.next_token += 1;
        Request { member: self.settings.number, token, identity: self.identity(), ask }
    }

    /// Handles the answer to a request. A late answer is ignored.
    pub fn on_answer(&mut self, answer: &Answer, now: Monotonic) {
        let (token, says) = (answer.token, &answer.says);
        if matches!(self.step, Step::Ended) {
            return;
        }
        if !matches!(says, Says::NoAnswer | Says::Refused(_) | Says::Coordinator) {
            self.coordinator.backoff.reset();
        }
        if self.coordinator.state == Found::Asked && self.coordinator.since == token {
            self.on_found(says, now);
        } else if self.heartbeat.asked == Some(token) {
            self.heartbeat.asked = None;
            self.on_heartbeat(token, says, now);
        } else if self.commits.is_asked(token) {
            self.on_commit(token, says, now);
        } else if self.counts.is_asked(token) {
            self.on_count(token, says, now);
        } else if self.asked == Some(token) {
            self.asked = None;
            self.on_step(token, says, now);
        }
        self.advance(now);
    }

    /// Handles everything that is due by now; cheap when nothing is. Requests may become due.
    pub fn on_time(&mut self, now: Monotonic) {
        self.advance(now);
    }

    /// When [`Member::on_time`] has something to do, or a request becomes due.
    #[must_use]
    pub fn next_deadline(&self) -> Monotonic {
        if matches!(self.step, Step::Ended) {
            return Monotonic::NEVER;
        }
        let request = match self.coordinator.state {
            Found::No(due) => due,
            Found::Asked => Monotonic::NEVER,
            Found::Yes => self.heartbeat_due().min(self.commit_due()).min(self.step_due()).min(self.count_due()),
        };
        request.min(self.step_deadline())
    }

    /// The next news. Call it until there are none.
    pub fn take_news(&mut self) -> Option<News> {
        self.told.news.pop_front()
    }

    /// Commits places, the newest of each partition. Places of partitions that the member does not have are dropped and counted.
    pub fn commit(&mut self, offsets: &[Offset], now: Monotonic) {
        let has = self.owned.is_told && !matches!(self.step, Step::Ended);
        for offset in offsets {
            if has && self.owned.partitions.binary_search(&offset.at).is_ok() {
                self.commits.add(offset);
            } else {
                self.told.stats.dropped += 1;
            }
        }
        self.advance(now);
    }

    /// Notes that the owner has stopped all revoked partitions, and made its last commits.
    pub fn revoked_done(&mut self, now: Monotonic) {
        if let Step::Revoking { is_done, .. } = &mut self.step {
            *is_done = true;
        }
        self.advance(now);
    }

    /// Wants partitions of these topics from now on; joins again if the topics have changed.
    pub fn subscribe(&mut self, topics: Vec<Rc<str>>, now: Monotonic) {
        self.settings.topics = topics;
        self.sort_topics();
        self.advance(now);
    }

    /// The group's protocol.
    #[must_use]
    pub const fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The group's protocol, mutable: the next JoinGroup uses its state at that time.
    pub const fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// Joins again although nothing is wrong: the subscription has changed, or the member leads and will reassign.
    pub fn rejoin(&mut self, now: Monotonic) {
        if matches!(self.step, Step::Stable) {
            self.rebalance(now);
        }
    }

    /// A request that removes another static member after the end of its process. The answer is ignored: the group rebalances, or does not.
    pub fn evict(&mut self, member_id: &Rc<str>, instance: &Rc<str>) -> Option<Request> {
        if self.coordinator.state != Found::Yes || matches!(self.step, Step::Ended) {
            return None;
        }
        let ask = Ask::Evict { member_id: Rc::clone(member_id), instance: Rc::clone(instance) };
        Some(self.request(ask))
    }

    /// Leaves the group for good, after the pending commits: its partitions go to others at once. [`News::Left`] ends it.
    pub fn leave(&mut self, now: Monotonic) {
        self.go(true, now);
    }

    /// Ends the member in a process that stops: a static member keeps its place in the group for `session_timeout`, any other member
    /// leaves. [`News::Left`] ends it.
    pub fn stop(&mut self, now: Monotonic) {
        let is_static = self.settings.instance.is_some() && self.me.knows_static;
        self.go(!is_static, now);
    }

    /// Counts so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.told.stats
    }

    /// The member's state.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.step {
            Step::Look | Step::Join | Step::Count(_) | Step::Sync(_) | Step::Offsets => Standing::Joining,
            Step::Stable => Standing::Stable,
            Step::Revoking { .. } => Standing::Revoking,
            Step::Leaving { .. } => Standing::Leaving,
            Step::Ended => Standing::Ended,
        }
    }

    /// The member as its coordinator knows it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            group: Rc::clone(&self.settings.group),
            member_id: Rc::clone(&self.me.id),
            instance: self.settings.instance.clone(),
            generation: self.me.generation,
        }
    }

    /// Whether the member leads its group.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.me.leads
    }

    fn sort_topics(&mut self) {
        self.settings.topics.sort_unstable();
        self.settings.topics.dedup();
    }

    fn on_found(&mut self, says: &Says, now: Monotonic) {
        match says {
            Says::Coordinator => self.coordinator.state = Found::Yes,
            Says::NotSpoken(call) => self.not_spoken(call, now),
            Says::Refused(code) => {
                let wait = self.wait_after(Verdict::of(*code), *code, "FindCoordinator", now);
                self.coordinator.state = Found::No(now.after(wait));
            }
            _ => {
                self.coordinator.state = Found::Yes;
                self.coordinator_lost(self.coordinator.since, now);
            }
        }
    }

    /// Looks for the coordinator again, after a request that it did not answer or answered with NOT_COORDINATOR.
    fn coordinator_lost(&mut self, token: u64, now: Monotonic) {
        if self.coordinator.state == Found::Yes && token >= self.coordinator.since {
            let wait = self.coordinator.backoff.next(self.settings.retry(), &mut self.rng);
            self.coordinator.state = Found::No(now.after(wait));
            self.told.failing("the group's coordinator does not answer", now);
        }
    }

    fn take_heartbeat(&mut self, token: u64, now: Monotonic) -> Option<Ask> {
        if self.heartbeat_due() > now {
            return None;
        }
        (self.heartbeat.asked, self.heartbeat.due) = (Some(token), now.after(self.settings.heartbeat()));
        Some(Ask::Heartbeat)
    }

    /// When the next heartbeat is due. JoinGroup and SyncGroup waiting at the coordinator count as heartbeats.
    fn heartbeat_due(&self) -> Monotonic {
        let needed = matches!(self.step, Step::Count(_) | Step::Offsets | Step::Stable | Step::Revoking { .. });
        if needed && self.heartbeat.asked.is_none() { self.heartbeat.due } else { Monotonic::NEVER }
    }

    fn on_heartbeat(&mut self, token: u64, says: &Says, now: Monotonic) {
        match says {
            Says::Alive => {
                if matches!(self.step, Step::Stable) {
                    self.well();
                }
            }
            Says::Refused(code) => match Verdict::of(*code) {
                Verdict::Rejoin => self.rebalance(now),
                Verdict::Over(why) => self.lost(why, now),
                verdict => {
                    let wait = self.wait_after(verdict, *code, "Heartbeat", now);
                    self.heartbeat.due = now.after(wait);
                    if verdict == Verdict::Elsewhere {
                        self.coordinator_lost(token, now);
                    }
                }
            },
            Says::NotSpoken(call) => self.not_spoken(call, now),
            _ => {
                self.heartbeat.due = now;
                self.coordinator_lost(token, now);
            }
        }
    }
}

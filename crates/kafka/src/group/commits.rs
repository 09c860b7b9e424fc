//! Commits: those that wait, the newest of each partition, and those in flight.

use std::collections::BTreeMap;

use super::verdict::{Verdict, words};
use super::{Lost, Member, News, Protocol, Step};
use crate::coordination::{Ask, Committed, Offset, Says, TopicPartition};
use forebay_runtime::seam::Monotonic;

/// The most places in one OffsetCommit; further ones go into the next.
const PLACES_MAX: usize = 10_000;

/// The commits of a member.
#[derive(Debug)]
pub(super) struct Commits {
    /// Commits that wait: at most one for each partition of the member.
    waiting: BTreeMap<TopicPartition, Committed>,
    /// The request in flight.
    sent: Option<Sent>,
    /// The earliest time of the next request.
    not_before: Monotonic,
}

/// An OffsetCommit in flight.
#[derive(Debug)]
struct Sent {
    token: u64,
    /// The generation under which it was made.
    generation: i32,
    places: Vec<Offset>,
}

impl Default for Commits {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), sent: None, not_before: Monotonic(0) }
    }
}

impl Commits {
    /// Adds a place, replacing an older one of its partition.
    pub(super) fn add(&mut self, offset: &Offset) {
        let committed = Committed { offset: offset.offset, leader_epoch: offset.leader_epoch };
        match self.waiting.get_mut(&offset.at) {
            Some(older) => *older = committed,
            None => drop(self.waiting.insert(offset.at.clone(), committed)),
        }
    }

    /// Whether this token is that of the request in flight.
    pub(super) fn is_asked(&self, token: u64) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.token == token)
    }

    /// Whether nothing waits, and nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_none()
    }

    /// Drops waiting places of all partitions but these, which are sorted. Returns the number dropped.
    pub(super) fn keep(&mut self, partitions: &[TopicPartition]) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|at, _| partitions.binary_search(at).is_ok());
        (before - self.waiting.len()) as u64
    }

    /// Drops all places, including those of the request in flight. Returns the number dropped.
    pub(super) fn drop_all(&mut self) -> u64 {
        let sent = self.sent.take().map_or(0, |sent| sent.places.len());
        (sent + std::mem::take(&mut self.waiting).len()) as u64
    }

    /// Takes the places of the next request.
    fn take(&mut self, token: u64, generation: i32) -> Vec<Offset> {
        let mut places = Vec::with_capacity(self.waiting.len().min(PLACES_MAX));
        while places.len() < PLACES_MAX
            && let Some((at, Committed { offset, leader_epoch })) = self.waiting.pop_first()
        {
            places.push(Offset { at, offset, leader_epoch });
        }
        self.sent = Some(Sent { token, generation, places: places.clone() });
        places
    }

    /// Puts back a place that has to be sent again, unless a newer one waits.
    fn put_back(&mut self, place: Offset) {
        let Offset { at, offset, leader_epoch } = place;
        self.waiting.entry(at).or_insert(Committed { offset, leader_epoch });
    }
}

impl<P: Protocol> Member<P> {
    pub(super) fn take_commit(&mut self, token: u64, now: Monotonic) -> Option<Ask> {
        if self.commit_due() > now {
            return None;
        }
        Some(Ask::Commit(self.commits.take(token, self.me.generation)))
    }

    pub(super) fn commit_due(&self) -> Monotonic {
        let may = match self.step {
            Step::Offsets | Step::Stable | Step::Revoking { .. } => true,
            Step::Leaving { .. } => self.me.generation >= 0,
            _ => false,
        };
        let has = may && self.commits.sent.is_none() && !self.commits.waiting.is_empty();
        if has { self.commits.not_before } else { Monotonic::NEVER }
    }

    /// Handles the answer to OffsetCommit.
    pub(super) fn on_commit(&mut self, token: u64, says: &Says, now: Monotonic) {
        let Some(Sent { generation, places, .. }) = self.commits.sent.take() else { return };
        let codes: &[i16] = match says {
            Says::Committed(codes) => codes,
            Says::Refused(code) => &vec![*code; places.len()],
            Says::NotSpoken(call) => {
                self.not_spoken(call, now);
                return self.put_back(places);
            }
            _ => {
                self.put_back(places);
                return self.coordinator_lost(token, now);
            }
        };
        let (mut committed, mut refused, mut again) = (Vec::new(), BTreeMap::<i16, Vec<Offset>>::new(), Vec::new());
        let mut worst: Option<(Verdict, i16)> = None;
        for (place, code) in places.into_iter().zip(codes.iter().copied().chain(std::iter::repeat(-1))) {
            match judged(code) {
                None => committed.push(place),
                Some(Verdict::Refused) => refused.entry(code).or_default().push(place),
                // The member has joined again since: the place is committed under the new generation.
                Some(Verdict::Rejoin | Verdict::Over(Lost::Generation)) if generation != self.me.generation => {
                    again.push(place);
                }
                Some(verdict) => {
                    // A code that ends the membership applies to all places.
                    if worst.is_none_or(|(worst, _)| !matches!(worst, Verdict::Over(_))) {
                        worst = Some((verdict, code));
                    }
                    again.push(place);
                }
            }
        }
        self.put_back(again);
        if !committed.is_empty() {
            self.told.stats.committed += committed.len() as u64;
            self.backoff.reset();
            self.told.news.push_back(News::Committed(committed));
        }
        for (code, offsets) in refused {
            self.told.stats.refused += offsets.len() as u64;
            let why = format!("OffsetCommit was answered with {}", words(code));
            self.told.news.push_back(News::CommitFailed { offsets, why });
        }
        match worst {
            None => {}
            Some((Verdict::Over(why), _)) => self.lost(why, now),
            Some((verdict, code)) => {
                let wait = self.wait_after(verdict, code, "OffsetCommit", now);
                self.commits.not_before = now.after(wait);
                match verdict {
                    Verdict::Elsewhere => self.coordinator_lost(token, now),
                    // A place that is not committed before the rebalance is committed after it, if the partition is still the
                    // member's.
                    Verdict::Rejoin => self.rebalance(now),
                    _ => {}
                }
            }
        }
    }

    /// Puts back places that have to be sent again.
    fn put_back(&mut self, places: Vec<Offset>) {
        places.into_iter().for_each(|place| self.commits.put_back(place));
        // After a rebalance a partition may belong to another member. During a rebalance its member is not known yet.
        if !matches!(self.step, Step::Look | Step::Join | Step::Count(_) | Step::Sync(_)) {
            self.told.stats.dropped += self.commits.keep(&self.owned.partitions);
        }
    }
}

/// The reaction to a place with this code; `None`: it is committed.
const fn judged(code: i16) -> Option<Verdict> {
    Some(match code {
        0 => return None,
        // UNKNOWN_TOPIC_OR_PARTITION, OFFSET_METADATA_TOO_LARGE, INVALID_COMMIT_OFFSET_SIZE, UNKNOWN_TOPIC_ID: a later commit may
        // succeed.
        3 | 12 | 28 | 100 => Verdict::Refused,
        22 => Verdict::Over(Lost::Generation),
        _ => Verdict::of(code),
    })
}

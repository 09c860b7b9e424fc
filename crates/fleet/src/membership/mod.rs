//! The instances of one broker, and which of them serves which slot. A consumer group of Kafka decides this (protocol type `forebay`,
//! static members). Only speed depends on it: the fence of each log decides what a process may write ([`crate::replica`]). Sans-I/O:
//! answers and time in, requests and [`News`] out.
//!
//! The driver of a [`Membership`] hands each [`Membership::take_request`] to the client of its cluster, each answer to [`Membership::on_answer`], calls
//! [`Membership::on_time`] when [`Membership::next_deadline`] is reached, and takes [`Membership::take_news`] after each of these.
//!
//! - [`News::Take`]: take over these slots. They are this instance's until [`News::Release`] or [`News::Lost`].
//! - [`News::Release`]: give these slots back, and call [`Membership::released`]. Only then does another instance get them.
//! - [`News::Table`]: which instance serves each slot, including slots of other instances.
//! - [`News::Silent`]: the group may have gone on without this process. The process makes no promise that another instance could break: no
//!   CONNACK, no rows of routes, until an answer arrives.
//!
//! Files: `table` is the data that all members know, `format` its encoding and that of members' metadata, `assign` the assignment of slots,
//! `protocol` the group's protocol, `slots` sets, `own_slots` the handling of slots that the group assigns and revokes.

mod assign;
mod format;
mod own_slots;
mod protocol;
mod slots;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::format::Terms;
pub use self::own_slots::{Do, GIVE_UP_WITHIN, LEAVE_WITHIN, Leave, Leaving, OwnSlots};
pub use self::slots::SlotSet;
pub use self::table::{Instance, Table};

use self::format::Peer;
use self::protocol::{GATHERING, Slots};
use forebay_kafka::coordination::{Answer, Ask, Request, Says};
use forebay_kafka::group::{self, Member, Standing};
use forebay_runtime::seam::Monotonic;

/// How long the member waits for further slots being given back before it reports those that are.
const RELEASING: Duration = Duration::from_secs(5);

/// Interval at which a member that is not in the table as it should be joins again.
const SAID_AGAIN: Duration = Duration::from_secs(1);

/// The most pending requests that are tracked to know when the group last answered; the oldest are forgotten.
const SENT_MAX: usize = 64;

/// The minimum interval between two removals of a peer.
const EVICTED_AGAIN: Duration = Duration::from_secs(60);

/// When only this much of the session time-out is left, the process becomes silent.
const MARGIN: Duration = Duration::from_secs(1);

/// The settings of a membership.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The member's number at the client of its cluster.
    pub number: u32,
    /// The group's name.
    pub group: Rc<str>,
    /// This instance. Its member id is empty: the coordinator assigns it.
    pub instance: Instance,
    /// Number of shards of the instance.
    pub shards: u16,
    /// The terms that the instance must have in common with the other serving ones.
    pub terms: Terms,
    /// Time after which Kafka removes a silent instance. At least 3 s.
    pub session_timeout: Duration,
}

/// News of a membership, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A new table.
    Table(Arc<Table>),
    /// These slots are no longer assigned to this instance: give them back.
    Release(SlotSet),
    /// The table gives these slots to this instance: take them over.
    Take(SlotSet),
    /// These slots belong to others already, because the group has gone on without this instance. Stop serving them at once.
    Lost(SlotSet),
    /// Whether the instance is silent, because the group has not answered for too long.
    Silent(bool),
    /// Another process has joined with the same name. This membership is over.
    Fenced,
    /// The instance cannot take part. It keeps trying; each reason is reported once.
    Trouble(String),
    /// The reported trouble is over.
    TroubleOver,
    /// The membership is over, as requested.
    Left,
}

/// An instance's part in its group.
#[derive(Debug)]
pub struct Membership {
    member: Member<Slots>,
    news: VecDeque<News>,
    silence: Silence,
    /// The time since which slots are being given back.
    releasing_since: Option<Monotonic>,
    /// Whether the member's metadata has changed since the group last got it.
    wants_rejoin: bool,
    /// When the member joins again because of a wrong table.
    rejoin_at: Monotonic,
    /// Peers that were removed, and when.
    evicted: BTreeMap<Arc<str>, Monotonic>,
    /// Requests to remove peers.
    evictions: VecDeque<Request>,
    /// Whether the own terms differ from those of the table.
    is_alone: bool,
}

/// When the group last answered (C4). `now` is the time passed to [`Membership::on_time`], of a clock that runs while the machine sleeps.
#[derive(Debug)]
struct Silence {
    /// Heartbeats and SyncGroups in flight, by token, and when each was sent.
    sent: BTreeMap<u64, Monotonic>,
    /// When the newest answered request was sent.
    heard: Option<Monotonic>,
    after: Duration,
    is_silent: bool,
}

impl Silence {
    fn until(&self) -> Monotonic {
        self.heard.filter(|_| !self.is_silent).map_or(Monotonic::NEVER, |heard| heard.after(self.after))
    }

    fn is_over(&self, now: Monotonic) -> bool {
        self.heard.is_some_and(|heard| now < heard.after(self.after))
    }
}

impl Membership {
    /// A membership that begins to join at once. `seed` is for its jitter. `now` is of a clock that runs while the machine sleeps
    /// (CLOCK_BOOTTIME).
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Monotonic) -> Self {
        let Settings { number, group, instance, shards, terms, session_timeout } = settings;
        let of_member = group::Settings {
            number,
            group,
            instance: Some(Rc::from(&*instance.name)),
            topics: Vec::new(),
            session_timeout,
            // A waiting JoinGroup has no heartbeats beside it, so it must end well before the session does.
            rebalance_timeout: session_timeout / 2,
            heartbeat_interval: Duration::from_millis(500),
            retry_backoff_max: Duration::from_millis(500),
            leave_timeout: Duration::from_secs(2),
            ..group::Settings::default()
        };
        let (held, leaving) = (SlotSet::default(), SlotSet::default());
        let own = Peer { instance, weight: shards, terms, generation: -1, wishes: 0, held, leaving };
        Self {
            member: Member::of(Slots::new(own), of_member, seed, now),
            news: VecDeque::new(),
            silence: Silence {
                sent: BTreeMap::new(),
                heard: None,
                after: session_timeout.saturating_sub(MARGIN),
                is_silent: true,
            },
            releasing_since: None,
            wants_rejoin: false,
            rejoin_at: Monotonic::NEVER,
            evicted: BTreeMap::new(),
            evictions: VecDeque::new(),
            is_alone: false,
        }
    }

    /// The next request for the client of the cluster. Call it until there is none.
    pub fn take_request(&mut self, now: Monotonic) -> Option<Request> {
        if let Some(request) = self.evictions.pop_front() {
            return Some(request);
        }
        let request = self.member.take_request(now)?;
        if matches!(request.ask, Ask::Heartbeat | Ask::Sync { .. }) {
            self.silence.sent.insert(request.token, now);
            if self.silence.sent.len() > SENT_MAX {
                self.silence.sent.pop_first();
            }
        }
        Some(request)
    }

    /// Handles the answer to a request.
    pub fn on_answer(&mut self, answer: &Answer, now: Monotonic) {
        // Both answers show that the group, when the request was sent, had not gone on from the table that this member has then.
        // JoinGroup's answer does not, nor does a refusal.
        if let Some(sent) = self.silence.sent.remove(&answer.token)
            && matches!(answer.says, Says::Alive | Says::Assignment(_))
        {
            self.silence.heard = self.silence.heard.max(Some(sent));
        }
        self.member.on_answer(answer, now);
        self.advance(now);
    }

    /// Handles everything that is due by now.
    pub fn on_time(&mut self, now: Monotonic) {
        self.member.on_time(now);
        self.advance(now);
    }

    /// When [`Membership::on_time`] has something to do, or a request becomes due.
    #[must_use]
    pub fn next_deadline(&self) -> Monotonic {
        if !self.evictions.is_empty() {
            return Monotonic(0);
        }
        let releasing = self.releasing_since.map_or(Monotonic::NEVER, |since| since.after(RELEASING));
        let rejoin = if self.is_stable() { self.rejoin_at } else { Monotonic::NEVER };
        self.member.next_deadline().min(releasing).min(rejoin).min(self.silence.until())
    }

    /// The next news. Call it until there are none.
    pub fn take_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Notes that these slots are not served here any more: they were given back, or other processes have their logs.
    pub fn released(&mut self, slots: &SlotSet, now: Monotonic) {
        let own = &mut self.member.protocol_mut().own;
        if own.held.without(slots) == own.held {
            return;
        }
        own.held = own.held.without(slots);
        own.leaving = own.leaving.without(slots);
        if own.leaving.is_empty() {
            self.releasing_since = None;
            self.wants_rejoin = true;
        }
        self.advance(now);
    }

    /// Gives all slots away, a few at a time, and gets none: the instance is about to stop, or was drained. [`Membership::held`] is empty
    /// at the end.
    pub fn give_up(&mut self, now: Monotonic) {
        let own = &mut self.member.protocol_mut().own;
        self.wants_rejoin |= std::mem::take(&mut own.weight) > 0;
        self.advance(now);
    }

    /// Takes slots again, with this number of shards, after [`Membership::give_up`].
    pub fn take_part(&mut self, shards: u16, now: Monotonic) {
        let own = &mut self.member.protocol_mut().own;
        self.wants_rejoin |= std::mem::replace(&mut own.weight, shards) != shards;
        self.advance(now);
    }

    /// Notes that the process of a peer is gone: its connections were reset, and new ones are refused. The group is asked to remove it, at
    /// most once a minute, so that its slots do not wait for the end of its session. A peer that has come back is not removed, because it
    /// has another member id. Returns whether the group is asked.
    pub fn peer_is_gone(&mut self, name: &str, incarnation: u128, now: Monotonic) -> bool {
        let table = Arc::clone(&self.member.protocol().table);
        let Some(peer) = table.index(name).and_then(|index| table.instance(index)) else { return false };
        let is_own = *peer.name == *self.member.protocol().own.instance.name;
        let is_soon = self.evicted.get(name).is_some_and(|at| now.since(*at) < EVICTED_AGAIN);
        if is_own || is_soon || peer.incarnation != incarnation {
            return false;
        }
        let Some(request) = self.member.evict(&Rc::from(&*peer.member_id), &Rc::from(name)) else { return false };
        self.evicted.retain(|_, at| now.since(*at) < EVICTED_AGAIN);
        self.evicted.insert(Arc::clone(&peer.name), now);
        self.evictions.push_back(request);
        true
    }

    /// Ends the membership of a process that stops: its slots wait for its return for `session_timeout`. [`News::Left`] ends it.
    pub fn stop(&mut self, now: Monotonic) {
        self.member.stop(now);
        self.advance(now);
    }

    /// Leaves the group for good: others get its slots at once. [`News::Left`] ends it.
    pub fn leave(&mut self, now: Monotonic) {
        self.member.leave(now);
        self.advance(now);
    }

    /// Slots that this instance serves, or is about to serve.
    #[must_use]
    pub fn held(&self) -> SlotSet {
        self.member.protocol().own.held
    }

    /// The newest table; one of generation -1, and empty, if there is none yet.
    #[must_use]
    pub const fn table(&self) -> &Arc<Table> {
        &self.member.protocol().table
    }

    /// The time until which the instance may speak, unless the group answers before (C4).
    #[must_use]
    pub fn speaks_until(&self) -> Monotonic {
        self.silence.heard.map_or(Monotonic(0), |heard| heard.after(self.silence.after))
    }

    /// Makes the instance silent until the group answers a request that is sent from now on: the process has stood still, and another one of its name may
    /// have its slots. Call [`Membership::on_time`] after it.
    pub fn stood_still(&mut self, now: Monotonic) {
        let Silence { sent, heard, after, .. } = &mut self.silence;
        sent.clear();
        *heard = heard.map(|heard| heard.min(now.before(*after)));
    }

    /// Whether the instance is silent (C4).
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.silence.is_silent
    }

    /// Whether this instance leads the group.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.member.leads()
    }

    /// Counts of the member.
    #[must_use]
    pub fn stats(&self) -> group::Stats {
        self.member.stats()
    }

    fn is_stable(&self) -> bool {
        self.member.standing() == Standing::Stable
    }

    fn advance(&mut self, now: Monotonic) {
        while let Some(news) = self.member.take_news() {
            self.hear(news, now);
        }
        if self.releasing_since.is_some_and(|since| now.since(since) >= RELEASING) {
            // Other instances need not wait for the slowest slot.
            self.releasing_since = Some(now);
            self.wants_rejoin = true;
        }
        if self.is_stable() && (self.wants_rejoin || self.rejoin_at <= now) {
            self.wants_rejoin = false;
            self.rejoin_at = Monotonic::NEVER;
            let own = &mut self.member.protocol_mut().own;
            own.wishes = own.wishes.wrapping_add(1);
            self.member.rejoin(now);
        }
        let is_silent = !self.silence.is_over(now);
        if is_silent != self.silence.is_silent {
            self.silence.is_silent = is_silent;
            self.news.push_back(News::Silent(is_silent));
        }
    }

    fn hear(&mut self, news: group::News, now: Monotonic) {
        match news {
            group::News::Assigned(_) => self.assigned(now),
            group::News::Lost(group::Lost::Fenced) => self.news.push_back(News::Fenced),
            group::News::Lost(_) => {
                let own = &mut self.member.protocol_mut().own;
                // The generation stays: the member holds nothing any more of the slots that the table assigned to it.
                let held = std::mem::take(&mut own.held);
                own.leaving = SlotSet::default();
                (self.releasing_since, self.rejoin_at) = (None, Monotonic::NEVER);
                if !held.is_empty() {
                    self.news.push_back(News::Lost(held));
                }
            }
            group::News::Trouble(words) => self.news.push_back(News::Trouble(words)),
            group::News::TroubleOver => self.news.push_back(News::TroubleOver),
            group::News::Left => self.news.push_back(News::Left),
            // This news is about partitions, and an instance has none.
            group::News::Revoked(_) | group::News::Committed(_) | group::News::CommitFailed { .. } => {}
        }
    }

    fn assigned(&mut self, now: Monotonic) {
        let (identity, leads) = (self.member.identity(), self.member.leads());
        let Slots { own, table, .. } = self.member.protocol_mut();
        let table = Arc::clone(table);
        own.generation = table.generation;
        own.instance.member_id = Arc::from(&*identity.member_id);
        let index = table.index(&own.instance.name);
        let mine: SlotSet = index.into_iter().flat_map(|index| table.slots_of(index)).collect();
        let take = mine.without(&own.held);
        let lost: SlotSet = own.held.without(&mine).iter().filter(|slot| table.owner(*slot).is_some()).collect();
        own.held = own.held.without(&lost).with(&take);
        own.leaving = own.leaving.without(&lost);
        let release = own.held.without(&mine).without(&own.leaving);
        own.leaving = own.leaving.with(&release);
        // A process that replaces an earlier one of the same instance is in the table as the earlier one.
        let is_told = index.and_then(|index| table.instance(index)) == Some(&own.instance);
        let agrees = (table.owners.len(), table.routes) == (own.terms.slots.into(), own.terms.routes);
        let slots = own.terms.slots;
        let has_all = table.owners.iter().all(Option::is_some);
        self.rejoin_at = match () {
            () if !is_told => now.after(SAID_AGAIN),
            () if leads && !has_all => now.after(GATHERING),
            () => Monotonic::NEVER,
        };
        if !agrees && !self.is_alone {
            self.news.push_back(News::Trouble(format!(
                "the other instances have other routes, another cluster or another number of slots ({} there, {slots} here): this one serves no clients until they agree",
                table.owners.len()
            )));
        } else if agrees && self.is_alone {
            self.news.push_back(News::TroubleOver);
        }
        self.is_alone = !agrees;
        self.news.push_back(News::Table(table));
        if !lost.is_empty() {
            self.news.push_back(News::Lost(lost));
        }
        if !release.is_empty() {
            self.releasing_since = Some(now);
            self.news.push_back(News::Release(release));
        }
        if !take.is_empty() {
            self.news.push_back(News::Take(take));
        }
    }
}

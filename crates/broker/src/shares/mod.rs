//! Shared subscriptions (section 4.8): each message goes to one member of each share that matches it.
//!
//! The publisher's shard chooses the serving shard, by the number of online members on each ([`Share::choose`]). There a message is bound to a member when it
//! is sent to it: to the next in turn that has room, or to the least busy of a few. A message without such a member waits in the share's part on that shard
//! ([`Part`]) for a member that acknowledges or connects, or, after [`SHARE_WAIT`], for the members of other shards ([`moves`]). With a strategy that goes by
//! keys, the key names shard and member, and messages that do not fit there wait for that member alone ([`keyed`]). Messages sent at QoS 1 to a client that
//! leaves without acknowledging them, or does not acknowledge them in time ([`late`]), go back to the front.

mod groups;
mod handed;
mod inspect;
mod keyed;
mod late;
mod line;
mod members;
mod moves;
mod part;
mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use forebay_base::limits::SHARES_OF_INSTANCE_MAX;
use forebay_config::ShareStrategy;
use forebay_kafka::producer::row_log::Origin;
use forebay_mqtt::route::shares::{Choice, KnownShares, ShareNumber, ToShare, TooManyShares, key_of, mark_of_share};
use forebay_runtime::seam::Monotonic;
use forebay_session::SessionKey;

use self::groups::ByGroups;
use self::handed::Handed;
use self::late::Late;
use self::part::Part;
use crate::mail::Marks;

/// Shares that match a message, each with the shard that serves it.
pub(crate) type Chosen = SmallVec<[(ToShare, usize); 4]>;

/// The shares of the process, and this shard's parts of them.
#[derive(Debug)]
pub struct Shares {
    known: KnownShares,
    strategy: ShareStrategy,
    /// This shard's part of each share.
    parts: HashMap<ShareNumber, Part>,
    /// The shares of each session.
    of: HashMap<SessionKey, SmallVec<[ShareNumber; 2]>>,
    /// The number of memberships of all sessions.
    members: usize,
    /// The shares that match the message at hand, each with the shard that serves it.
    chosen: Chosen,
    /// The number of messages for shares published here: shards serve them in turn.
    turn: u64,
    /// The cost of finding the shares of the message at hand.
    looks: usize,
    to_serve: ToServe,
    /// Messages in flight from shard to shard.
    handed: Handed,
    /// Exchanges of this shard's publishers from before the process began, with the marks of the shares that have had their messages on some shard.
    repeats: BTreeMap<Origin, Marks>,
    late: Late,
    by_groups: ByGroups,
}

/// Parts and sessions to look at again.
#[derive(Debug, Default)]
struct ToServe {
    /// Parts with messages that wait, or members that had no room.
    waiting: BTreeSet<ShareNumber>,
    /// Shares with members that may have room again.
    ripe: BTreeSet<ShareNumber>,
    /// Sessions that may have room again since this turn.
    with_room: Vec<SessionKey>,
    has_timer: bool,
}

impl Shares {
    /// A shard's shares, without members.
    pub(crate) fn new(known: KnownShares, strategy: ShareStrategy) -> Self {
        Self {
            known,
            strategy,
            parts: HashMap::new(),
            of: HashMap::new(),
            members: 0,
            chosen: SmallVec::new(),
            turn: 0,
            looks: 0,
            to_serve: ToServe::default(),
            handed: Handed::default(),
            repeats: BTreeMap::new(),
            late: Late::default(),
            by_groups: ByGroups::default(),
        }
    }

    /// Whether the process has no shares.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.known.are_none()
    }

    /// Sets the strategy in force, which may be unchanged.
    pub fn set_strategy(&mut self, strategy: ShareStrategy, now: Monotonic) {
        if std::mem::replace(&mut self.strategy, strategy) == strategy {
            return;
        }
        for (number, part) in &mut self.parts {
            part.set_keyed(strategy.is_keyed(), now);
            self.to_serve.ripe.insert(*number);
        }
    }

    /// Chooses a shard for each share that a topic is for: [`Shares::chosen`], until the next call. Returns these shards, as bits. `None`: the topic is for
    /// no share. `publisher`: its client identifier. `origin`: the message's exchange: shares that have had it do not get it again.
    pub(crate) fn choose(&mut self, topic: &str, publisher: &str, origin: Option<Origin>) -> Option<u64> {
        let key = self.key(topic, publisher);
        let choice = if self.strategy.is_keyed() { Choice::Key(key) } else { Choice::Turn(self.turn) };
        let chosen = &mut self.chosen;
        chosen.clear();
        let had = origin.and_then(|origin| self.repeats.get(&origin)).cloned().unwrap_or_default();
        let mut has_had = false;
        self.looks = self.known.matching(topic, |share| {
            if had.contains(&mark_of_share(share.text())) {
                has_had = true;
                return;
            }
            let to = ToShare { share: share.number(), key };
            chosen.extend(share.choose(choice).map(|shard| (to, shard)));
        });
        let is_any = has_had || !chosen.is_empty();
        self.turn += u64::from(is_any);
        is_any.then(|| chosen.iter().fold(0, |shards, (_, shard)| shards | 1 << shard))
    }

    /// The key by which a message goes to a member, with the strategy in force.
    fn key(&self, topic: &str, publisher: &str) -> u32 {
        match self.strategy {
            ShareStrategy::RoundRobin | ShareStrategy::LeastInflight => 0,
            ShareStrategy::HashClient => key_of(publisher),
            ShareStrategy::HashTopic => key_of(topic),
        }
    }

    /// Notes that shares with these marks have had the message of an exchange since before a crash.
    pub(crate) fn have_had(&mut self, origin: Origin, shares: &[u64]) {
        if !shares.is_empty() {
            self.repeats.entry(origin).or_default().extend_from_slice(shares);
        }
    }

    /// Forgets an exchange that is over.
    pub(crate) fn forget_repeat(&mut self, origin: Origin) {
        if !self.repeats.is_empty() {
            self.repeats.remove(&origin);
        }
    }

    /// Forgets the exchanges of a session that has ended.
    pub(crate) fn forget_repeats_of(&mut self, session: u64) {
        self.repeats.retain(|origin, _| origin.session != session);
    }

    /// The mark of a share, if it has not ended.
    pub(crate) fn mark(&self, number: ShareNumber) -> Option<u64> {
        self.parts.get(&number).map(|part| mark_of_share(part.share.text()))
    }

    /// The number of shares with members or messages here.
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Messages that wait here, and their bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let queued = self.to_serve.waiting.iter().filter_map(|number| self.parts.get(number)).map(Part::queued);
        let queued = queued.chain([self.handed.not_given()]);
        queued.fold((0, 0), |(messages, bytes), (more, of)| (messages + more, bytes + of))
    }

    /// Messages that other shards were sent and have not taken.
    pub(crate) fn on_their_way(&self) -> usize {
        self.handed.on_their_way()
    }

    /// The text of a share that has members or messages here.
    pub(crate) fn text(&self, number: ShareNumber) -> Option<Arc<str>> {
        self.parts.get(&number).map(|part| Arc::clone(part.share.text()))
    }

    /// The cost of the last lookup: that of [`KnownShares::matching`], and one for each share found.
    pub(crate) fn looks(&self) -> usize {
        self.looks + self.chosen.len()
    }

    /// The shares that [`Shares::choose`] has found, each with the shard that serves it.
    pub(crate) fn chosen(&self) -> &[(ToShare, usize)] {
        &self.chosen
    }

    /// Restores the shares chosen for an earlier message.
    pub(crate) fn choose_again(&mut self, chosen: Chosen) {
        self.chosen = chosen;
    }

    /// The number of memberships of this shard's sessions.
    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// The text of a share with messages that survive a crash. `None`: the share's messages do not, or it has ended.
    pub(crate) fn kept(&self, number: ShareNumber) -> Option<Arc<str>> {
        let share = self.parts.get(&number).map(|part| &part.share).filter(|share| share.is_kept())?;
        Some(Arc::clone(share.text()))
    }

    /// Whether there is room for a share with this filter.
    pub(crate) fn has_room(&mut self, filter: &str) -> bool {
        self.known.has_room(filter)
    }

    /// Whether there is room for a share of this text, and, with several instances, for one more group.
    pub(crate) fn may_join(&self, text: &str) -> bool {
        !self.are_by_groups() || self.known.may_join(text, SHARES_OF_INSTANCE_MAX)
    }

    /// This shard's part of the share of this text, created if there is none.
    fn part_of(&mut self, shard: usize, text: &str) -> Result<&mut Part, TooManyShares> {
        let share = self.known.join(text)?;
        if self.parts.contains_key(&share.number()) {
            // The shard has used the share before.
            self.known.leave(&share);
        }
        let is_keyed = self.strategy.is_keyed();
        Ok(self.parts.entry(share.number()).or_insert_with(|| Part::new(shard, share, is_keyed)))
    }

    /// This shard's part of a share. `None`: the share has ended.
    fn part(&mut self, shard: usize, number: ShareNumber) -> Option<&mut Part> {
        if !self.parts.contains_key(&number) {
            let share = self.known.join_again(number)?;
            self.parts.insert(number, Part::new(shard, share, self.strategy.is_keyed()));
        }
        self.parts.get_mut(&number)
    }

    /// This shard's part of a share.
    pub(crate) fn part_mut(&mut self, number: ShareNumber) -> Option<&mut Part> {
        self.parts.get_mut(&number)
    }

    /// The level at which a part is listed. 0: there is no such part.
    pub(crate) fn listed(&self, number: ShareNumber) -> u8 {
        self.parts.get(&number).map_or(0, Part::listed)
    }

    /// Notes that a client has acknowledged something, or its socket has room again.
    pub fn has_room_again(&mut self, key: SessionKey) {
        if self.of.contains_key(&key) {
            self.to_serve.with_room.push(key);
        }
    }

    /// Sessions noted by [`Self::has_room_again`] since the last call.
    fn have_room_again(&mut self) -> Vec<SessionKey> {
        let mut keys = std::mem::take(&mut self.to_serve.with_room);
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Has all parts with waiting messages checked.
    fn ripen(&mut self) {
        self.to_serve.ripe.extend(&self.to_serve.waiting);
    }

    /// Whether a share has served members with a connection besides this session.
    fn has_others(&self, number: ShareNumber, key: SessionKey) -> bool {
        self.parts.get(&number).map_or_else(|| self.known.is_served(number), |part| part.has_others(key))
    }

    /// Ends the membership of a session in a share.
    fn leave(&mut self, key: SessionKey, number: ShareNumber) {
        if self.parts.get_mut(&number).is_some_and(|part| part.leave(key)) {
            self.members -= 1;
        }
        self.note_members(number);
        self.settle(number);
    }

    /// Settles a part that has changed: the part is checked again if needed, and removed when it has neither members nor messages.
    pub(crate) fn settle(&mut self, number: ShareNumber) {
        let Some(part) = self.parts.get(&number) else { return };
        let (queued, _) = part.queued();
        // A client of QoS 0 does not report when it has room again.
        if queued > 0 || part.ready() < part.online() {
            self.to_serve.waiting.insert(number);
        } else {
            self.to_serve.waiting.remove(&number);
        }
        if part.is_empty()
            && let Some(part) = self.parts.remove(&number)
        {
            self.known.leave(&part.share);
        }
    }
}

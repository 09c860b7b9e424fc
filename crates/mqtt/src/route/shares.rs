//! Shared subscriptions (section 4.8): those of the process, and the shards on which each has members.
//!
//! A share is a name and a filter. It is added to the list of all before its first member is answered. Each shard has a copy of the
//! list to look topics up in ([`KnownShares`]); every publish checks whether the list has grown, which is one load. The share
//! itself has the number of members on each shard. The lock is taken when a share is added or ends on a shard, and to read new
//! shares.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::interest::Interest;
use super::shape::Topic;
use super::subscriptions::{FilterId, Subscriber, Subscriptions};
use crate::packet::SubscriptionOptions;
use crate::topic::split_shared;
use forebay_base::limits::SHARES_MAX;

/// The number of a share of the process, which is never reused.
pub type ShareNumber = NonZeroU32;

/// A share that a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToShare {
    /// The share.
    pub share: ShareNumber,
    /// The key that selects the member; 0 if the strategy does not use keys.
    pub key: u32,
}

/// The choice of the shard that a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The shards with members online in turn, each as often as it has members. The number grows by one with each message.
    Turn(u64),
    /// The same shard for the same key, while no shard has more or fewer members online. A shard that gains members takes keys from
    /// others, and one that loses members leaves keys to others: no other key moves.
    Key(u32),
}

/// The key of a topic or client identifier.
#[must_use]
pub fn key_of(text: &str) -> u32 {
    (xxh3_64(text.as_bytes()) >> 32) as u32
}

/// The mark of a client: the same at each connection.
#[must_use]
pub fn mark_of(client_id: &str) -> u64 {
    xxh3_64(client_id.as_bytes())
}

/// The mark of a share: the same after a restart.
#[must_use]
pub fn mark_of_share(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// The rank of a member for a key: the key names the member with the largest one (rendezvous hashing).
#[must_use]
pub fn rank(mark: u64, key: u32) -> u64 {
    let mixed = mark ^ u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ mixed >> 32
}

/// A shared subscription: a share name and a filter.
#[derive(Debug)]
pub struct Share {
    number: ShareNumber,
    /// `$share/NAME/FILTER`.
    text: Arc<str>,
    /// The members of each shard.
    members: Box<[Members]>,
    is_gone: AtomicBool,
    /// With several instances: the offsets from which the share's messages begin are known.
    is_placed: AtomicBool,
    /// The share's group lacks the rights in Kafka that a place takes.
    is_refused: AtomicBool,
    /// Whether members have gone to another instance with their slot.
    has_moved: AtomicBool,
    /// Records that its home has read under this number as a reader, or an earlier one, are not handed on any more; the number and one, 0: there are none.
    stopped: AtomicU64,
}

/// The members of one shard.
#[derive(Debug, Default)]
struct Members {
    /// Members that are connected and served.
    online: AtomicU32,
    /// Like `online`, but including members for which messages have waited too long.
    present: AtomicU32,
    all: AtomicU32,
    /// Members with sessions that survive a crash, for which messages of QoS 1 and 2 wait.
    kept: AtomicU32,
}

impl Members {
    fn are_present(&self) -> bool {
        self.present.load(Ordering::Acquire) > 0
    }
}

impl Share {
    fn new(number: ShareNumber, text: &str, shards: usize) -> Arc<Self> {
        let members = (0..shards).map(|_| Members::default()).collect();
        let [is_gone, is_placed, is_refused, has_moved] = std::array::from_fn(|_| AtomicBool::new(false));
        let (text, stopped) = (text.into(), AtomicU64::new(0));
        Arc::new(Self { number, text, members, is_gone, is_placed, is_refused, has_moved, stopped })
    }

    /// The number of the share.
    #[must_use]
    pub fn number(&self) -> ShareNumber {
        self.number
    }

    /// `$share/NAME/FILTER`.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Sets the number of a shard's members, and of those that are connected and served.
    pub fn set_members(&self, shard: usize, online: usize, all: usize) {
        self.members[shard].all.store(clamp(all), Ordering::Release);
        self.members[shard].online.store(clamp(online), Ordering::Release);
    }

    /// Sets how many members of a shard are connected and not late, however long messages wait for them.
    pub fn set_present(&self, shard: usize, present: usize) {
        self.members[shard].present.store(clamp(present), Ordering::Release);
    }

    /// Sets how many members with a session that survives a crash a shard has.
    pub fn set_kept(&self, shard: usize, kept: usize) {
        self.members[shard].kept.store(clamp(kept), Ordering::Release);
    }

    /// Whether its messages must survive a crash: a member on some shard has a session that does.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.members.iter().any(|members| members.kept.load(Ordering::Acquire) > 0)
    }

    /// Whether it has members on any shard.
    #[must_use]
    pub fn has_members(&self) -> bool {
        self.members.iter().any(|members| members.all.load(Ordering::Acquire) > 0)
    }

    /// Whether members are connected on any shard.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.members.iter().any(Members::are_present)
    }

    /// Notes that messages of all partitions are its own from some place on: its members may be answered.
    pub fn set_placed(&self) {
        self.is_placed.store(true, Ordering::Release);
    }

    /// Whether that was noted.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.is_placed.load(Ordering::Acquire)
    }

    /// Notes that Kafka refuses the share's group the rights that a place takes: subscribers that wait for the place are refused.
    pub fn set_refused(&self) {
        self.is_refused.store(true, Ordering::Release);
    }

    /// Whether that was noted, and the share has had no place since.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire) && !self.is_placed()
    }

    /// Notes that other instances have the partitions which the share's home has read under these numbers: records that are still
    /// under way from there go to no member here.
    pub fn set_stopped(&self, reader: u32) {
        self.stopped.store(u64::from(reader) + 1, Ordering::Release);
    }

    /// Whether that holds for records that were read under this number. Numbers wrap.
    #[must_use]
    pub fn has_stopped(&self, reader: u32) -> bool {
        let stopped = self.stopped.load(Ordering::Acquire).checked_sub(1);
        stopped.is_some_and(|stopped| (stopped as u32).wrapping_sub(reader) < u32::MAX / 2)
    }

    /// Notes that members have gone to another instance with their slot.
    pub fn set_moved(&self) {
        self.has_moved.store(true, Ordering::Release);
    }

    /// Whether members have gone to another instance: it may have members, though none is known here.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Acquire)
    }

    /// Whether another shard than this one has members online.
    #[must_use]
    pub fn is_served_but_by(&self, shard: usize) -> bool {
        let online = |(at, members): (usize, &Members)| at != shard && members.online.load(Ordering::Acquire) > 0;
        self.members.iter().enumerate().any(online)
    }

    /// The shard that a message goes to: one with members online, or if there are none the first one with any. `None`: the share
    /// has no members.
    #[must_use]
    pub fn choose(&self, choice: Choice) -> Option<usize> {
        self.online(choice, None).or_else(|| self.first_with_members(None))
    }

    /// A better shard than `shard` for messages that wait there: another one with members online or, if `shard` has no members at
    /// all, another one with any. `None`: there is none.
    #[must_use]
    pub fn choose_other(&self, choice: Choice, shard: usize) -> Option<usize> {
        let has_none = self.members[shard].all.load(Ordering::Acquire) == 0;
        self.online(choice, Some(shard)).or_else(|| self.first_with_members(Some(shard)).filter(|_| has_none))
    }

    /// The shard that a message goes to, among those with connected members.
    #[must_use]
    pub fn choose_present(&self, choice: Choice) -> Option<usize> {
        self.online(choice, None).or_else(|| self.members.iter().position(Members::are_present))
    }

    fn online(&self, choice: Choice, but: Option<usize>) -> Option<usize> {
        let online = |(shard, members): (usize, &Members)| {
            if Some(shard) == but { 0 } else { members.online.load(Ordering::Acquire) }
        };
        let online: SmallVec<[u32; 8]> = self.members.iter().enumerate().map(online).collect();
        match choice {
            Choice::Turn(turn) => in_turn(&online, turn),
            Choice::Key(key) => named(&online, key),
        }
    }

    fn first_with_members(&self, but: Option<usize>) -> Option<usize> {
        let has_some = |shard: &usize| Some(*shard) != but && self.members[*shard].all.load(Ordering::Acquire) > 0;
        (0..self.members.len()).find(has_some)
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn in_turn(online: &[u32], turn: u64) -> Option<usize> {
    let mut at = turn.checked_rem(online.iter().copied().map(u64::from).sum())?;
    online.iter().position(|members| {
        let is_it = at < u64::from(*members);
        at = at.wrapping_sub(u64::from(*members));
        is_it
    })
}

/// Rendezvous hashing with weights: a shard has the largest -w / ln u, with u even in 0 to 1, in proportion to its members, and a
/// change of the members of one shard does not affect the order of the others.
fn named(online: &[u32], key: u32) -> Option<usize> {
    const RANKS: f64 = 4_294_967_296.0;
    let score = |(shard, members): (usize, &u32)| {
        let even = (f64::from((rank(shard as u64, key) >> 32) as u32) + 0.5) / RANKS;
        (-f64::from(*members) / even.ln(), shard)
    };
    let scores = online.iter().enumerate().filter(|(_, members)| **members > 0).map(score);
    scores.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, shard)| shard)
}

/// The shares of a process. See the module.
#[derive(Debug, Default)]
pub struct Shares {
    all: Mutex<All>,
    /// The number of the latest.
    latest: AtomicU32,
    /// The number of shares.
    count: AtomicUsize,
    /// Bounds the shapes of their filters.
    interest: Arc<Interest>,
}

#[derive(Debug, Default)]
struct All {
    by_text: HashMap<Arc<str>, ShareNumber>,
    /// The shares, each with the number of shards that use it.
    shares: BTreeMap<ShareNumber, (Arc<Share>, usize)>,
}

/// The process has [`SHARES_MAX`] other shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyShares;

impl Shares {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of shares.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.count() == 0
    }
}

/// The shares of the process as one shard knows them.
#[derive(Debug)]
pub struct KnownShares {
    shards: usize,
    of: Arc<Shares>,
    /// The number of the latest that is known here.
    latest: u32,
    index: Subscriptions<ShareNumber>,
    /// Shares as last read; some may have ended since.
    known: HashMap<ShareNumber, Arc<Share>>,
    found: SmallVec<[FilterId; 4]>,
}

impl KnownShares {
    /// The view of shard `shard` of `shards` on the shares in `of`.
    #[must_use]
    pub fn new(shard: usize, shards: usize, of: Arc<Shares>) -> Self {
        let index = Subscriptions::new(shard, Arc::clone(&of.interest));
        Self { shards, of, latest: 0, index, known: HashMap::new(), found: SmallVec::new() }
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.of.are_none()
    }

    /// Passes the shares that match a topic to `each`. Returns the cost of the look: [`Subscriptions::matching`].
    pub fn matching(&mut self, topic: &str, mut each: impl FnMut(&Share)) -> usize {
        self.catch_up();
        let cut = Topic::new(topic, self.index.interest().seed());
        self.found.clear();
        let looks = self.index.matching(topic, &cut, &mut self.found);
        let numbers = self.found.iter().flat_map(|filter| self.index.subscribers(*filter));
        let shares = numbers.filter_map(|found| self.known.get(&found.session));
        shares.filter(|share| !share.is_gone.load(Ordering::Acquire)).for_each(|share| each(share));
        looks
    }

    /// The share of this text, `$share/NAME/FILTER`, which is created if it does not exist. The shard uses it from now on, and has
    /// to [`KnownShares::leave`] it.
    ///
    /// # Errors
    /// The bound of shares is reached.
    pub fn join(&mut self, text: &str) -> Result<Arc<Share>, TooManyShares> {
        let of = Arc::clone(&self.of);
        let mut all = of.all();
        self.read(&all);
        if let Some(number) = all.by_text.get(text).copied()
            && let Some((share, users)) = all.shares.get_mut(&number)
        {
            *users += 1;
            return Ok(Arc::clone(share));
        }
        let number = self.latest.checked_add(1).and_then(NonZeroU32::new);
        let number = number.filter(|_| all.shares.len() < SHARES_MAX).ok_or(TooManyShares)?;
        let share = Share::new(number, text, self.shards);
        self.enter(&share);
        all.by_text.insert(Arc::clone(share.text()), number);
        all.shares.insert(number, (Arc::clone(&share), 1));
        self.latest = number.get();
        of.count.store(all.shares.len(), Ordering::Release);
        of.latest.store(number.get(), Ordering::Release);
        Ok(share)
    }

    /// Whether there is a share of this text, or there are fewer than `most`.
    #[must_use]
    pub fn may_join(&self, text: &str, most: usize) -> bool {
        self.of.count() < most || self.of.all().by_text.contains_key(text)
    }

    /// Whether there is room for shares with this filter: [`Subscriptions::has_room`].
    pub fn has_room(&mut self, filter: &str) -> bool {
        self.catch_up();
        self.index.has_room(filter)
    }

    /// The share of this number, for which there are messages. The shard uses it from now on, and has to [`KnownShares::leave`] it.
    /// `None`: the share has ended.
    pub fn join_again(&mut self, number: ShareNumber) -> Option<Arc<Share>> {
        let mut all = self.of.all();
        let (share, users) = all.shares.get_mut(&number)?;
        *users += 1;
        Some(Arc::clone(share))
    }

    /// Whether the share of this number has members that are connected and served.
    #[must_use]
    pub fn is_served(&self, number: ShareNumber) -> bool {
        self.of.all().shares.get(&number).is_some_and(|(share, _)| share.is_present())
    }

    /// Ends the shard's use of a share: it has neither members nor messages there. The last shard ends the share.
    pub fn leave(&mut self, share: &Share) {
        let of = Arc::clone(&self.of);
        let mut all = of.all();
        let Some((_, users)) = all.shares.get_mut(&share.number) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        share.is_gone.store(true, Ordering::Release);
        all.by_text.remove(share.text());
        all.shares.remove(&share.number);
        of.count.store(all.shares.len(), Ordering::Release);
        drop(all);
        self.forget(share.number);
    }

    fn catch_up(&mut self) {
        if self.of.latest.load(Ordering::Acquire) != self.latest {
            let of = Arc::clone(&self.of);
            self.read(&of.all());
        }
    }

    /// Reads new shares of the list.
    fn read(&mut self, all: &All) {
        let known = NonZeroU32::new(self.latest).map_or(Bound::Unbounded, Bound::Excluded);
        for (share, _) in all.shares.range((known, Bound::Unbounded)).map(|(_, entry)| entry) {
            self.enter(share);
        }
        self.latest = self.of.latest.load(Ordering::Acquire);
        // Ended shares are removed, so that they are not more than the existing ones.
        if self.known.len() > 2 * all.shares.len() + 64 {
            let gone: Vec<_> = self.known.keys().filter(|number| !all.shares.contains_key(number)).copied().collect();
            gone.into_iter().for_each(|number| self.forget(number));
        }
    }

    fn enter(&mut self, share: &Arc<Share>) {
        let (_, filter) = split_shared(&share.text).unwrap_or(("", &share.text));
        let options = SubscriptionOptions::default();
        let entry = Subscriber { session: share.number, options, identifier: 0, is_checked: false, gate: 0 };
        self.index.subscribe(filter, entry);
        self.known.insert(share.number, Arc::clone(share));
    }

    fn forget(&mut self, number: ShareNumber) {
        self.index.forget(number);
        self.known.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(shards: usize) -> Vec<KnownShares> {
        let all = Arc::<Shares>::default();
        (0..shards).map(|shard| KnownShares::new(shard, shards, Arc::clone(&all))).collect()
    }

    fn found(known: &mut KnownShares, topic: &str) -> Vec<String> {
        let mut all = Vec::new();
        known.matching(topic, |share| all.push(share.text().to_string()));
        all.sort();
        all
    }

    #[test]
    fn a_share_is_found_on_every_shard_from_its_first_member_to_its_last() {
        let mut shards = world(3);
        assert!(shards.iter().all(KnownShares::are_none));
        let first = shards[0].join("$share/g/a/+").expect("there is room");
        let again = shards[1].join("$share/g/a/+").expect("there is room");
        let other = shards[1].join("$share/h/a/+").expect("there is room");
        assert!(Arc::ptr_eq(&first, &again) && first.number() != other.number());
        for known in &mut shards {
            assert_eq!(found(known, "a/b"), ["$share/g/a/+", "$share/h/a/+"]);
            assert!(found(known, "b").is_empty());
        }
        shards[0].leave(&first);
        assert_eq!(found(&mut shards[2], "a/b").len(), 2, "the other shard uses it");
        shards[1].leave(&again);
        for known in &mut shards {
            assert_eq!(found(known, "a/b"), ["$share/h/a/+"]);
            assert!(known.join_again(first.number()).is_none());
        }
        let again = shards[2].join("$share/g/a/+").expect("there is room");
        assert_ne!(again.number(), first.number());
        assert_eq!(found(&mut shards[0], "a/b").len(), 2);
    }

    #[test]
    fn there_is_a_bound_and_those_that_end_make_room() {
        let mut shards = world(2);
        let join = |known: &mut KnownShares, number: usize| known.join(&format!("$share/{number}/a"));
        let all: Vec<_> = (0..SHARES_MAX).map(|number| join(&mut shards[0], number).expect("there is room")).collect();
        assert_eq!(join(&mut shards[1], SHARES_MAX).err(), Some(TooManyShares));
        join(&mut shards[1], 7).expect("one that is there");
        assert_eq!(found(&mut shards[1], "a").len(), SHARES_MAX);
        all.iter().for_each(|share| shards[0].leave(share));
        assert_eq!(found(&mut shards[1], "a"), ["$share/7/a"]);
        join(&mut shards[1], SHARES_MAX).expect("there is room again");
        assert!(shards[1].known.len() <= 2 * 2 + 64, "those that have ended are forgotten");
    }

    #[test]
    fn shards_take_turns_by_how_many_members_they_have_online() {
        let mut shards = world(3);
        let share = shards[0].join("$share/g/a").expect("there is room");
        assert_eq!(share.choose(Choice::Turn(0)), None);
        share.set_members(2, 0, 1);
        assert_eq!(
            [share.choose(Choice::Turn(0)), share.choose(Choice::Turn(5))],
            [Some(2); 2],
            "it waits with members that are away"
        );
        assert_eq!(share.choose_other(Choice::Turn(0), 2), None);
        assert_eq!(share.choose_other(Choice::Turn(0), 0), Some(2), "no members there");
        share.set_members(0, 1, 1);
        share.set_members(1, 3, 3);
        let chosen: Vec<_> = (0..8).filter_map(|turn| share.choose(Choice::Turn(turn))).collect();
        assert_eq!(chosen, [0, 1, 1, 1, 0, 1, 1, 1]);
        assert_eq!(share.choose_other(Choice::Turn(0), 2), Some(0), "online there");
        assert_eq!(share.choose_other(Choice::Turn(0), 1), Some(0));
        assert!(share.has_members());
    }

    #[test]
    fn records_of_readers_that_have_stopped_go_to_nobody() {
        let mut shards = world(1);
        let share = shards[0].join("$share/g/a").expect("there is room");
        assert!(![0, 1, u32::MAX].into_iter().any(|reader| share.has_stopped(reader)), "none has stopped");
        share.set_stopped(7);
        assert_eq!([0, 6, 7, 8, 100].map(|reader| share.has_stopped(reader)), [true, true, true, false, false]);
        share.set_stopped(1);
        assert_eq!([u32::MAX, 0, 1, 2].map(|reader| share.has_stopped(reader)), [true, true, true, false], "they wrap");
    }

    #[test]
    fn a_key_names_one_shard_as_often_as_that_has_members_and_moves_only_with_them() {
        const KEYS: u32 = 20_000;
        let mut shards = world(4);
        let share = shards[0].join("$share/g/#").expect("there is room");
        let chosen = || -> Vec<_> {
            let keys = (0..KEYS).map(|number| key_of(&format!("plant/{number}/temp")));
            keys.map(|key| share.choose(Choice::Key(key))).collect()
        };
        assert!(chosen().iter().all(Option::is_none));
        share.set_members(3, 0, 1);
        assert!(chosen().iter().all(|shard| *shard == Some(3)), "it waits with members that are away");
        for (shard, members) in [(0, 1), (1, 2), (2, 5)] {
            share.set_members(shard, members, members);
        }
        let before = chosen();
        let of = |shard| before.iter().filter(|of| **of == Some(shard)).count();
        for (shard, wanted) in [(0, KEYS / 8), (1, KEYS / 4), (2, KEYS * 5 / 8), (3, 0)] {
            let wanted = wanted as usize;
            assert!(of(shard).abs_diff(wanted) <= wanted / 10, "{shard}: {} of {wanted}", of(shard));
        }
        share.set_members(0, 3, 3);
        let after = chosen();
        assert!(before.iter().zip(&after).all(|(was, is)| was == is || *is == Some(0)), "only its own come");
        assert!(after.iter().filter(|shard| **shard == Some(0)).count() > of(0) * 2);
        share.set_members(0, 1, 3);
        assert_eq!(chosen(), before, "and go");
        let key = Choice::Key(key_of("plant/7/temp"));
        let named = share.choose(key).expect("one is online");
        share.set_members(named, 0, 1);
        assert_eq!(share.choose_other(key, named), share.choose(key), "what waits there follows it");
    }
}

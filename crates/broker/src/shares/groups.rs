//! Shares of several instances. A Kafka consumer group assigns partitions to each instance that has members. The share's home, the shard that its text
//! chooses, reads these ([`crate::sources`]). The home is notified here of members that come and go, and hands each record to a shard with members.
//! Records stay open until a member has them, so the log has nothing of such a share except copies of QoS 2 sent to members with kept sessions.

use std::sync::Arc;

use smallvec::SmallVec;

use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Publish, Subscribe, SubscriptionOptions};
use forebay_mqtt::route::shares::{Choice, Share, ShareNumber, ToShare};
use forebay_mqtt::topic::is_shared;
use forebay_session::{Body, Claimed, SessionKey, SubscriptionRefused, Wish};

use super::super::Broker;
use super::super::delivery::PublishedBy;
use super::Shares;
use super::part::Part;
use crate::here::Here;
use crate::mail::{Letter, ToReaders};
use crate::out::Out;
use crate::router;
use crate::words::ticket_of;

/// News for the homes of shares.
#[derive(Debug, Default)]
pub(super) struct ByGroups {
    /// Whether groups of Kafka give the messages of shares to instances.
    is_on: bool,
    /// Shares with a change of members. True: a new member waits until the share has a place.
    news: Vec<(Arc<Share>, bool)>,
}

impl Shares {
    /// Lets groups of Kafka assign the messages of shares to instances.
    pub(crate) fn use_groups(&mut self) {
        self.by_groups.is_on = true;
    }

    /// Whether groups of Kafka assign the messages of shares to instances.
    pub(crate) fn are_by_groups(&self) -> bool {
        self.by_groups.is_on
    }

    /// Notes that the members of a share have changed.
    pub(super) fn note_members(&mut self, number: ShareNumber) {
        if let Some(part) = self.parts.get(&number).filter(|_| self.by_groups.is_on) {
            self.by_groups.news.push((Arc::clone(&part.share), false));
        }
    }

    /// A share of this text without a place from which on its messages are its own. `text`: of any filter, shared or not.
    fn without_place(&self, text: &str) -> Option<&Share> {
        if !self.by_groups.is_on || !is_shared(text) {
            return None;
        }
        let mut shares = self.parts.values().map(|part| &*part.share);
        shares.find(|share| **share.text() == *text && !share.is_placed())
    }

    /// Whether a kept session is written down with a subscription to this filter. A subscription to a share without a place is not: it has not been answered,
    /// and on the session's next owner the share would begin with everything that Kafka has.
    pub(crate) fn are_kept_with(&self, text: &str) -> bool {
        self.without_place(text).is_none()
    }

    /// Whether a share has its place, cannot have one, or has ended.
    pub fn is_placed_or_refused(&self, number: ShareNumber) -> bool {
        self.parts.get(&number).is_none_or(|part| part.share.is_placed() || part.share.is_refused())
    }

    /// Has a share's home find its place, for a member that has just joined.
    pub(crate) fn ask_for_place(&mut self, text: &str) {
        if !self.by_groups.is_on {
            return;
        }
        for (share, asks) in self.by_groups.news.iter_mut().filter(|(share, _)| **share.text() == *text) {
            *asks = !share.is_placed();
        }
    }

    /// Moves the memberships of a session away with its slot: the offsets that their groups have committed stay.
    pub fn moves(&self, key: SessionKey) {
        let of = self.of.get(&key).into_iter().flatten();
        of.filter_map(|number| self.parts.get(number)).for_each(|part| part.share.set_moved());
    }

    /// Chooses a shard with members online for a message of this share. `None`: there is none.
    pub(crate) fn choose_for(&mut self, share: &Share, topic: &str, publisher: &str) -> Option<usize> {
        let key = self.key(topic, publisher);
        self.turn += 1;
        let choice = if self.strategy.is_keyed() { Choice::Key(key) } else { Choice::Turn(self.turn) };
        let shard = share.choose_present(choice)?;
        self.chosen.clear();
        self.chosen.push((ToShare { share: share.number(), key }, shard));
        Some(shard)
    }
}

impl Part {
    /// Removes the messages for which `is_it` is true, and drops them. Returns how many there were.
    fn withdraw(&mut self, is_it: impl Fn(&Body) -> bool) -> u64 {
        let lines = self.members.values_mut().map(|member| &mut member.line);
        let taken: Vec<_> = lines.chain([&mut self.line]).map(|line| line.take_if(&is_it)).collect();
        let mut count = 0;
        for body in taken.into_iter().flatten() {
            self.waiting.remove(&body);
            count += 1;
        }
        count
    }
}

impl Broker {
    /// Handles a share that was subscribed to and has no place yet: a message published once the SUBSCRIBE is answered would not be its own. Memberships of
    /// shares that cannot have a place end, as refused.
    pub fn without_place(
        &mut self,
        here: &Here,
        key: SessionKey,
        subscribe: &Subscribe<'_>,
        outcomes: &mut [Result<SubscriptionOptions, SubscriptionRefused>],
    ) -> Option<ShareNumber> {
        let shares = &self.delivery.shares;
        let granted = Wish::all(subscribe).zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
        let waiting = granted.filter_map(|(wish, of)| Some((wish.filter, of, shares.without_place(wish.filter)?)));
        let mut refused = SmallVec::<[&str; 1]>::new();
        for (filter, outcome, share) in waiting {
            if !share.is_refused() {
                return Some(share.number());
            }
            *outcome = Err(SubscriptionRefused::SHARE_WITHOUT_RIGHT);
            refused.push(filter);
        }
        for filter in refused {
            self.unsubscribe_from(here, key, filter);
        }
        if Wish::all(subscribe).any(|wish| is_shared(wish.filter)) && self.delivery.shares.are_by_groups() {
            // The session may have been written down without these subscriptions.
            self.sessions.note_kept(key);
        }
        None
    }

    /// Notifies the homes of shares of members that have come or gone.
    pub(super) fn tell_homes(&mut self, here: &Here) {
        let shards = here.config.service.shards;
        for (share, asks) in std::mem::take(&mut self.delivery.shares.by_groups.news) {
            let home = router::owner(share.text(), shards);
            self.letters.push_back((home, Letter::Readers(ToReaders::Share { share, asks })));
        }
    }

    /// Has all shards withdraw messages of a share that wait for members: these readers are stopped.
    pub fn withdraw_everywhere(&mut self, here: &Here, share: &Share, readers: impl Iterator<Item = u32>) {
        let (readers, home): (Arc<[u32]>, usize) = (readers.collect(), here.index);
        let letter = |shard| {
            let (share, readers) = (share.number(), Arc::clone(&readers));
            (shard, Letter::Readers(ToReaders::ShareStopped { share, home, readers }))
        };
        self.letters.extend((0..here.config.service.shards).map(letter));
    }

    /// Has all shards check again the SUBSCRIBE packets that wait for the place of a share.
    pub fn tell_placed(&mut self, here: &Here) {
        let shards = 0..here.config.service.shards;
        self.letters.extend(shards.map(|shard| (shard, Letter::Readers(ToReaders::SharePlaced))));
    }

    /// Hands a record to a member of a share. Returns the number of answers pending for it. `None`: no member is online, or there is no room on the way.
    pub fn give_record(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        share: &Share,
        publish: &Publish<'_>,
        (claimed, publisher): (Claimed, &str),
    ) -> Option<u32> {
        let route = self.delivery.route_to_share(share, publish.topic, publisher)?;
        self.delivery.find_room_again((&self.retained, &self.queues), route, publish).ok()?;
        let shards = self.delivery.shards_of(route);
        let owed = 1 + u32::from(self.answers_of(here, route, shards, publish.qos));
        let from = PublishedBy { claimed: Some(claimed), ..PublishedBy::default() };
        self.deliver(io, here, route, publish, from, Some(ticket_of(claimed)));
        Some(owed)
    }

    /// Withdraws messages of a share that wait for members: the partitions, which that shard read under these numbers, are other instances' now.
    pub fn withdraw_from_share(&mut self, here: &mut Here, share: ShareNumber, home: usize, readers: &[u32]) {
        let Some(part) = self.delivery.shares.parts.get_mut(&share) else { return };
        let count = part.withdraw(|body| {
            let of = body.claim().map(|claim| claim.of());
            of.is_some_and(|of| of.shard == home && readers.contains(&of.reader))
        });
        part.is_served();
        here.numbers.raise(M::CopiesMoved, count);
        self.delivery.shares.settle(share);
    }
}

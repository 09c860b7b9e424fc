//! The part of a share on one shard: its members there, and the messages that wait for one of them to have room.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use forebay_mqtt::packet::QoS;
use forebay_mqtt::route::shares::Share;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Fill, Gone, QueueBounds, SessionKey, Waiting};

use super::line::Line;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) subscriber: Subscriber<SessionKey>,
    /// A mark that stays the same for one client. Keys are compared with it.
    pub(super) mark: u64,
    /// Whether the member has a connection, and is not set aside.
    pub(super) is_online: bool,
    /// Whether the client is late with acknowledging: other members are served until it has done so.
    is_aside: bool,
    /// Whether the session survives a crash.
    is_kept: bool,
    /// The member's index among the members that are offered messages.
    place: Option<usize>,
    /// Messages that wait for the member alone.
    pub(super) line: Line,
}

/// The members of a share on one shard, and the messages that wait for them.
#[derive(Debug)]
pub(crate) struct Part {
    shard: usize,
    pub(super) share: Arc<Share>,
    /// Whether messages go to the member that their key names, while any is online.
    pub(super) is_keyed: bool,
    pub(super) members: BTreeMap<SessionKey, Member>,
    online: usize,
    /// The number of members of QoS 1 or 2: messages wait for them.
    keeping: usize,
    /// The number of members of QoS 1 or 2 with sessions that survive a crash.
    kept: usize,
    /// Members that may have room, in no order.
    ready: Vec<SessionKey>,
    /// The index in `ready` of the next member.
    turn: usize,
    /// Messages that wait for any member.
    pub(super) line: Line,
    /// The number of waiting messages, for any member and for single ones.
    pub(super) waiting: Waiting,
    /// The time at which the first message that waits for any member became the first.
    waits_since: Monotonic,
    /// Whether a message has waited too long and no member has had room since: other shards' members are better served.
    is_stuck: bool,
    /// The level at which the waiting messages are listed ([`Fill`]).
    listed: u8,
}

impl Part {
    /// A part without members. `is_keyed`: see [`Part`].
    pub(super) fn new(shard: usize, share: Arc<Share>, is_keyed: bool) -> Self {
        Self {
            shard,
            share,
            is_keyed,
            members: BTreeMap::new(),
            online: 0,
            keeping: 0,
            kept: 0,
            ready: Vec::new(),
            turn: 0,
            line: Line::default(),
            waiting: Waiting::default(),
            waits_since: Monotonic::NEVER,
            is_stuck: false,
            listed: 0,
        }
    }

    /// The level of the waiting messages.
    pub(crate) fn fill(&self, bounds: QueueBounds) -> u8 {
        Fill::level(self.waiting.bounded(), bounds)
    }

    /// The level to list the part at, if its queue has grown to a higher one ([`Fill::grown`]).
    pub(super) fn grown(&mut self, bounds: QueueBounds) -> Option<u8> {
        let level = self.fill(bounds);
        Fill::grown(&mut self.listed, level)
    }

    /// The level at which the part is listed.
    pub(crate) fn listed(&self) -> u8 {
        self.listed
    }

    /// The level to list the part at again ([`Fill::again`]).
    pub(crate) fn list_again(&mut self, bounds: QueueBounds) -> Option<u8> {
        let level = self.fill(bounds);
        Fill::again(&mut self.listed, level)
    }

    /// Drops up to `most` waiting messages, oldest first: for any member, or for the one with most of them.
    pub(crate) fn drop_oldest(&mut self, most: usize, now: Monotonic) -> Gone {
        let longest = || self.members.iter().max_by_key(|(_, member)| member.line.bounded()).map(|(key, _)| *key);
        let of = if self.line.bounded() == 0 { longest() } else { None };
        let mut dropped = Gone::default();
        (0..most).map_while(|_| self.remove_oldest(of, now)).for_each(|body| dropped.push(Some(&body)));
        dropped
    }

    /// Whether there are neither members nor messages.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.waiting.all().0 == 0
    }

    pub(super) fn online(&self) -> usize {
        self.online
    }

    /// The number of members with sessions that survive a crash for which messages of QoS 1 and 2 wait.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Messages that wait, and their bytes.
    pub(super) fn queued(&self) -> (usize, usize) {
        self.waiting.all()
    }

    /// Whether messages of QoS 1 and 2 wait for this member, or for any, even if there is none, as other shards may have some.
    pub(super) fn keeps(&self, member: Option<SessionKey>) -> bool {
        match member.and_then(|member| self.members.get(&member)) {
            Some(member) => member.keeps(),
            None => self.keeping > 0 || self.members.is_empty(),
        }
    }

    /// Makes a session a member, with these options from now on. `mark`: see [`Member`]. True: it was no member before.
    pub(super) fn enter(&mut self, subscriber: Subscriber<SessionKey>, mark: u64, is_online: bool) -> bool {
        let session = subscriber.session;
        let old = self.members.remove(&session);
        let is_new = old.is_none();
        self.online -= usize::from(old.as_ref().is_some_and(|old| old.is_online));
        self.keeping -= usize::from(old.as_ref().is_some_and(Member::keeps));
        self.kept -= usize::from(old.as_ref().is_some_and(Member::is_kept));
        let (place, line, is_kept) = old.map(|old| (old.place, old.line, old.is_kept)).unwrap_or_default();
        let member = Member { subscriber, mark, is_online, is_aside: false, is_kept, place, line };
        self.online += usize::from(is_online);
        self.keeping += usize::from(member.keeps());
        self.kept += usize::from(member.is_kept());
        self.members.insert(session, member);
        self.moved(session, is_online);
        is_new
    }

    /// Ends the membership of a session. False: it was no member.
    pub(super) fn leave(&mut self, session: SessionKey) -> bool {
        self.set_ready(session, false);
        let Some(member) = self.members.remove(&session) else { return false };
        self.online -= usize::from(member.is_online);
        self.keeping -= usize::from(member.keeps());
        self.kept -= usize::from(member.is_kept());
        self.name_again(member.line);
        self.tell();
        true
    }

    /// Notes that a member's connection has come or gone.
    pub(super) fn set_online(&mut self, session: SessionKey, is_online: bool) {
        let Some(member) = self.members.get_mut(&session) else { return };
        self.online -= usize::from(member.is_online);
        self.online += usize::from(is_online);
        (member.is_online, member.is_aside) = (is_online, false);
        self.moved(session, is_online);
    }

    /// Whether members with a connection other than this one are served, on any shard.
    pub(super) fn has_others(&self, session: SessionKey) -> bool {
        let is_one = self.members.get(&session).is_some_and(|member| member.is_online);
        self.online > usize::from(is_one) || self.share.is_served_but_by(self.shard)
    }

    /// Sets a member aside, as its client is late: the member counts as offline. True: it did not before.
    pub(super) fn set_aside(&mut self, session: SessionKey) -> bool {
        if !self.members.get(&session).is_some_and(|member| member.is_online) {
            return false;
        }
        self.set_online(session, false);
        self.members.get_mut(&session).into_iter().for_each(|member| member.is_aside = true);
        true
    }

    /// Takes a member back that is no longer late.
    pub(super) fn take_back(&mut self, session: SessionKey) {
        if self.is_aside(session) {
            self.set_online(session, true);
        }
    }

    /// Whether a member is set aside.
    pub(super) fn is_aside(&self, session: SessionKey) -> bool {
        self.members.get(&session).is_some_and(|member| member.is_aside)
    }

    /// Sets whether a member's session survives a crash.
    pub(super) fn set_kept(&mut self, session: SessionKey, is_kept: bool) {
        let Some(member) = self.members.get_mut(&session) else { return };
        self.kept -= usize::from(member.is_kept());
        member.is_kept = is_kept;
        self.kept += usize::from(member.is_kept());
        self.tell();
    }

    /// Gives waiting messages to the members that their keys name now, after a member has come online or gone.
    fn moved(&mut self, session: SessionKey, is_online: bool) {
        self.set_ready(session, is_online);
        if is_online {
            self.gather_for(session);
        } else if let Some(member) = self.members.get_mut(&session) {
            let line = std::mem::take(&mut member.line);
            self.name_again(line);
        }
        self.is_stuck &= !(is_online && self.line.is_empty());
        self.tell();
    }

    /// Sets whether a member may have room.
    pub(super) fn set_ready(&mut self, session: SessionKey, is_ready: bool) {
        let Some(member) = self.members.get_mut(&session) else { return };
        match (member.place, is_ready && member.is_online) {
            (None, true) => {
                member.place = Some(self.ready.len());
                self.ready.push(session);
            }
            (Some(place), false) => {
                member.place = None;
                self.ready.swap_remove(place);
                if let Some(moved) = self.ready.get(place).and_then(|moved| self.members.get_mut(moved)) {
                    moved.place = Some(place);
                }
            }
            _ => {}
        }
    }

    /// Marks all members with a connection as having room.
    pub(super) fn set_all_ready(&mut self) {
        let unready = self.members.iter().filter(|(_, member)| member.is_online && member.place.is_none());
        let unready: Vec<_> = unready.map(|(session, _)| *session).collect();
        unready.into_iter().for_each(|session| self.set_ready(session, true));
    }

    /// The number of members that may have room.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The member with the least load among the next `looks` in turn that may have room. Among equal ones, the first.
    pub(super) fn next(&self, looks: usize, load: impl Fn(SessionKey) -> usize) -> Option<Subscriber<SessionKey>> {
        let ready = self.ready.len();
        let in_turn = (0..looks.min(ready)).map(|at| self.ready[(self.turn + at) % ready]);
        let session = in_turn.min_by_key(|session| load(*session))?;
        self.members.get(&session).map(|member| member.subscriber)
    }

    /// Ends the turn of the next member.
    pub(super) fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.ready.len().max(1);
    }

    pub(super) fn line_of(&mut self, member: Option<SessionKey>) -> &mut Line {
        match member.and_then(|member| self.members.get_mut(&member)) {
            Some(member) => &mut member.line,
            None => &mut self.line,
        }
    }

    /// Queues a message for this member, or for any, after all others. Returns the oldest messages that were dropped for it.
    pub(super) fn push(
        &mut self,
        body: Rc<Body>,
        now: Monotonic,
        bounds: QueueBounds,
        member: Option<SessionKey>,
    ) -> Gone {
        if member.is_none() && self.line.is_empty() {
            self.waits_since = now;
        }
        let mut dropped = Gone::default();
        while self.line_of(member).is_full(&body, bounds)
            && let Some(oldest) = self.remove_oldest(member, now)
        {
            dropped.push(Some(&oldest));
        }
        self.waiting.add(&body);
        self.line_of(member).push_back(body);
        dropped
    }

    /// Queues a message that was sent to a member and not acknowledged, ahead of all others.
    pub(super) fn push_front(&mut self, body: Rc<Body>, now: Monotonic) {
        self.waits_since = now;
        self.waiting.add(&body);
        let member = self.named(body.key());
        self.line_of(member).push_front(body);
    }

    /// Queues a message that waited for another member for this one, or for any.
    pub(super) fn put_back(&mut self, body: Rc<Body>, member: Option<SessionKey>) {
        self.waiting.add(&body);
        self.line_of(member).push_back(body);
    }

    /// The message at this place in the line of this member, or of any.
    pub(super) fn get(&self, member: Option<SessionKey>, at: usize) -> Option<&Rc<Body>> {
        match member {
            Some(member) => self.members.get(&member)?.line.get(at),
            None => self.line.get(at),
        }
    }

    /// Removes the oldest message that may be dropped from a line.
    fn remove_oldest(&mut self, member: Option<SessionKey>, now: Monotonic) -> Option<Rc<Body>> {
        let at = self.line_of(member).oldest_to_go()?;
        self.remove(member, at, now)
    }

    /// Removes a message from a line.
    pub(super) fn remove(&mut self, member: Option<SessionKey>, at: usize, now: Monotonic) -> Option<Rc<Body>> {
        let body = self.line_of(member).remove(at)?;
        self.waiting.remove(&body);
        if at == 0 && member.is_none() {
            self.waits_since = now;
        }
        Some(body)
    }

    /// Notes that a member has room, or has taken a message. If no message waits any more, this shard is chosen as before.
    pub(super) fn is_served(&mut self) {
        if self.line.is_empty() && std::mem::take(&mut self.is_stuck) {
            self.tell();
        }
    }

    /// The time at which the first message that waits for any member became the first.
    pub(super) fn waits_since(&self) -> Monotonic {
        self.waits_since
    }

    /// Has other shards preferred to this one until its members have room for all waiting messages ([`Part::is_served`]).
    pub(super) fn set_stuck(&mut self) {
        if !self.is_stuck {
            self.is_stuck = true;
            self.tell();
        }
    }

    /// Puts another strategy into force.
    pub(super) fn set_keyed(&mut self, is_keyed: bool, now: Monotonic) {
        (self.is_keyed, self.waits_since) = (is_keyed, now);
        let lines: Vec<_> = self.members.values_mut().map(|member| std::mem::take(&mut member.line)).collect();
        let any = std::mem::take(&mut self.line);
        std::iter::once(any).chain(lines).for_each(|line| self.name_again(line));
        self.is_stuck = false;
        self.tell();
    }

    /// Publishes the numbers by which the publishers' shards choose.
    fn tell(&self) {
        let online = if self.is_stuck { 0 } else { self.online };
        self.share.set_members(self.shard, online, self.members.len());
        self.share.set_present(self.shard, self.online);
        self.share.set_kept(self.shard, self.kept);
    }
}

impl Member {
    fn keeps(&self) -> bool {
        self.subscriber.options.qos > QoS::AtMostOnce
    }

    /// Whether messages wait for this member through a crash.
    fn is_kept(&self) -> bool {
        self.is_kept && self.keeps()
    }

    /// Whether the member may have room.
    pub(super) fn is_ready(&self) -> bool {
        self.place.is_some()
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use forebay_mqtt::packet::SubscriptionOptions;
    use forebay_mqtt::route::shares::{Choice, KnownShares};

    fn member(number: u64, qos: QoS) -> Subscriber<SessionKey> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        Subscriber { session: key(number), options, identifier: 0, is_checked: false, gate: 0 }
    }

    fn key(number: u64) -> SessionKey {
        SessionKey::from_bits(1 << 32 | number)
    }

    fn part() -> Part {
        let mut known = KnownShares::new(0, 2, Arc::default());
        Part::new(0, known.join("$share/g/a").expect("there is room"), false)
    }

    fn turns(part: &mut Part, count: usize) -> Vec<SessionKey> {
        let turn = |part: &mut Part| {
            let next = part.next(1, |_| 0).expect("one has room").session;
            part.pass_on();
            next
        };
        (0..count).map(|_| turn(part)).collect()
    }

    #[test]
    fn those_with_room_take_turns() {
        let mut part = part();
        for number in 1..=4 {
            assert!(part.enter(member(number, QoS::AtLeastOnce), number, number != 4));
        }
        assert!(!part.enter(member(2, QoS::AtMostOnce), 2, true), "it was there");
        assert_eq!(turns(&mut part, 6), [1, 2, 3, 1, 2, 3].map(key));
        part.set_ready(key(1), false);
        assert_eq!((part.ready(), part.online(), part.members.len()), (2, 3, 4));
        let mut all = turns(&mut part, 4);
        all.sort();
        assert_eq!(all, [2, 2, 3, 3].map(key));
        part.set_ready(key(4), true);
        assert_eq!(part.ready(), 2, "it is away");
        part.set_online(key(4), true);
        part.set_all_ready();
        assert_eq!(part.ready(), 4);
        assert!(part.leave(key(3)) && !part.leave(key(3)));
        let mut all = turns(&mut part, 3);
        all.sort();
        assert_eq!(all, [1, 2, 4].map(key));
        assert!([1, 4].iter().all(|number| part.leave(key(*number))));
        assert!(!part.keeps(None), "the last has QoS 0");
        assert!(part.leave(key(2)) && part.is_empty() && part.next(1, |_| 0).is_none());
    }

    #[test]
    fn the_least_busy_one_of_the_next_few_is_chosen_and_of_equal_ones_the_first() {
        let mut part = part();
        for number in 1..=4 {
            part.enter(member(number, QoS::AtLeastOnce), number, true);
        }
        let next = |part: &Part, looks, loads: [usize; 4]| {
            let load = |of: SessionKey| loads[(1..=4).position(|number| key(number) == of).expect("a member")];
            part.next(looks, load).expect("one has room").session
        };
        assert_eq!(next(&part, 32, [3, 2, 1, 2]), key(3));
        assert_eq!(next(&part, 2, [3, 2, 1, 2]), key(2), "of two");
        part.pass_on();
        assert_eq!(next(&part, 32, [1, 1, 1, 1]), key(2), "as in turn");
        assert_eq!(next(&part, 32, [0, 1, 1, 1]), key(1));
        part.set_ready(key(1), false);
        assert_eq!(next(&part, 32, [0, 1, 2, 3]), key(2), "it has no room");
    }

    #[test]
    fn a_part_where_something_waits_for_long_comes_after_those_of_other_shards() {
        let (mut part, held) = (part(), Rc::<forebay_session::Remembered>::default());
        let bounds = QueueBounds::default();
        part.enter(member(1, QoS::AtLeastOnce), 1, true);
        part.share.set_members(1, 1, 1);
        assert_eq!([part.share.choose(Choice::Turn(0)), part.share.choose(Choice::Turn(1))], [Some(0), Some(1)]);
        assert_eq!(part.push(Body::new(vec![1; 100], Monotonic(1), 0, &held), Monotonic(1), bounds, None).count, 0);
        part.set_stuck();
        assert_eq!([part.share.choose(Choice::Turn(0)), part.share.choose(Choice::Turn(1))], [Some(1); 2]);
        assert!(part.remove(None, 0, Monotonic(2)).is_some());
        assert_eq!(
            [part.share.choose(Choice::Turn(0)), part.share.choose(Choice::Turn(1))],
            [Some(1); 2],
            "it was handed over"
        );
        part.is_served();
        assert_eq!([part.share.choose(Choice::Turn(0)), part.share.choose(Choice::Turn(1))], [Some(0), Some(1)]);
        // The line holds at most these bytes. A larger message waits alone.
        for _ in 0..2 {
            part.push(Body::new(vec![1; bounds.bytes], Monotonic(1), 0, &held), Monotonic(1), bounds, None);
        }
        assert_eq!(part.queued(), (1, bounds.bytes));
    }
}

//! What one shard has of a share: its members there, and the messages that wait for one of them to have room.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::mqtt::packet::QoS;
use crate::route::shares::Share;
use crate::route::subscriptions::Subscriber;
use crate::runtime::seam::Monotonic;
use crate::session::{Body, QueueBounds, SessionKey};

#[derive(Debug)]
struct Member {
    subscriber: Subscriber<SessionKey>,
    /// It has a connection.
    is_online: bool,
    /// Its place among those that are offered messages.
    place: Option<usize>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Part {
    shard: usize,
    pub(super) share: Arc<Share>,
    members: HashMap<SessionKey, Member>,
    online: usize,
    /// Members of QoS 1 or 2: messages wait for them.
    keeping: usize,
    /// Those that may have room, in no order.
    ready: Vec<SessionKey>,
    /// Which of them is next.
    turn: usize,
    queue: VecDeque<Rc<Body>>,
    queued_bytes: usize,
    /// Since when the first that waits is the first.
    waits_since: Monotonic,
    /// Something has waited for long, and no member has had room since: other shards' members are better served.
    is_stuck: bool,
}

impl Part {
    pub(super) fn new(shard: usize, share: Arc<Share>) -> Self {
        Self {
            shard,
            share,
            members: HashMap::new(),
            online: 0,
            keeping: 0,
            ready: Vec::new(),
            turn: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            waits_since: Monotonic::NEVER,
            is_stuck: false,
        }
    }

    /// Neither members nor messages.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.queue.is_empty()
    }

    pub(super) fn online(&self) -> usize {
        self.online
    }

    /// Messages that wait, and their bytes.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queued_bytes)
    }

    /// Whether messages of QoS 1 and 2 wait for its members; also if it has none, as other shards may have some.
    pub(super) fn keeps(&self) -> bool {
        self.keeping > 0 || self.members.is_empty()
    }

    /// A session is a member, with these options from now on. True: it was none.
    pub(super) fn enter(&mut self, subscriber: Subscriber<SessionKey>, is_online: bool) -> bool {
        let old = self.members.remove(&subscriber.session);
        let place = old.as_ref().and_then(|old| old.place);
        self.online -= usize::from(old.as_ref().is_some_and(|old| old.is_online));
        self.keeping -= usize::from(old.as_ref().is_some_and(Member::keeps));
        let member = Member { subscriber, is_online, place };
        self.online += usize::from(is_online);
        self.keeping += usize::from(member.keeps());
        self.members.insert(subscriber.session, member);
        self.set_ready(subscriber.session, is_online);
        self.is_stuck &= !(is_online && self.queue.is_empty());
        self.tell();
        old.is_none()
    }

    /// A session is a member no more. False: it was none.
    pub(super) fn leave(&mut self, session: SessionKey) -> bool {
        self.set_ready(session, false);
        let Some(member) = self.members.remove(&session) else { return false };
        self.online -= usize::from(member.is_online);
        self.keeping -= usize::from(member.keeps());
        self.tell();
        true
    }

    /// A member's connection has come or gone.
    pub(super) fn set_online(&mut self, session: SessionKey, is_online: bool) {
        let Some(member) = self.members.get_mut(&session) else { return };
        self.online -= usize::from(member.is_online);
        self.online += usize::from(is_online);
        member.is_online = is_online;
        self.set_ready(session, is_online);
        self.is_stuck &= !(is_online && self.queue.is_empty());
        self.tell();
    }

    /// A member may have room now, or has none.
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

    /// All that have a connection may have room.
    pub(super) fn set_all_ready(&mut self) {
        let unready = self.members.iter().filter(|(_, member)| member.is_online && member.place.is_none());
        let unready: Vec<_> = unready.map(|(session, _)| *session).collect();
        unready.into_iter().for_each(|session| self.set_ready(session, true));
    }

    /// Members that may have room.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The member that is next, if any may have room.
    pub(super) fn next(&self) -> Option<Subscriber<SessionKey>> {
        let session = self.ready.get(self.turn.checked_rem(self.ready.len())?)?;
        self.members.get(session).map(|member| member.subscriber)
    }

    /// It had its turn.
    pub(super) fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.ready.len().max(1);
    }

    /// A message waits behind all others. True: the oldest had to go for it.
    pub(super) fn push(&mut self, body: Rc<Body>, now: Monotonic, bounds: QueueBounds) -> bool {
        let bytes = body.packet().len();
        let mut is_full = self.queue.len() >= bounds.messages;
        is_full |= !self.queue.is_empty() && self.queued_bytes + bytes > bounds.bytes;
        if is_full {
            self.remove(0, now);
        } else if self.queue.is_empty() {
            self.waits_since = now;
        }
        self.queued_bytes += bytes;
        self.queue.push_back(body);
        is_full
    }

    /// One that was sent to a member and not acknowledged waits before all others.
    pub(super) fn push_front(&mut self, body: Rc<Body>, now: Monotonic) {
        self.waits_since = now;
        self.queued_bytes += body.packet().len();
        self.queue.push_front(body);
    }

    pub(super) fn get(&self, at: usize) -> Option<&Rc<Body>> {
        self.queue.get(at)
    }

    /// One waits no longer.
    pub(super) fn remove(&mut self, at: usize, now: Monotonic) -> Option<Rc<Body>> {
        let body = self.queue.remove(at)?;
        self.queued_bytes -= body.packet().len();
        if at == 0 {
            self.waits_since = now;
        }
        Some(body)
    }

    /// A member has room, or has taken something: with nothing left that waits, this shard is chosen as before.
    pub(super) fn is_served(&mut self) {
        if self.queue.is_empty() && std::mem::take(&mut self.is_stuck) {
            self.tell();
        }
    }

    /// Since when the first that waits is the first.
    pub(super) fn waits_since(&self) -> Monotonic {
        self.waits_since
    }

    /// Other shards are chosen before this one until its members have room for all that waits ([`Part::is_served`]).
    pub(super) fn set_stuck(&mut self) {
        if !self.is_stuck {
            self.is_stuck = true;
            self.tell();
        }
    }

    /// What the publishers' shards go by.
    fn tell(&self) {
        let online = if self.is_stuck { 0 } else { self.online };
        self.share.set_members(self.shard, online, self.members.len());
    }
}

impl Member {
    fn keeps(&self) -> bool {
        self.subscriber.options.qos > QoS::AtMostOnce
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::mqtt::packet::SubscriptionOptions;
    use crate::route::shares::KnownShares;

    fn member(number: u64, qos: QoS) -> Subscriber<SessionKey> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        Subscriber { session: key(number), options, identifier: 0, is_checked: false }
    }

    fn key(number: u64) -> SessionKey {
        SessionKey::from_bits(1 << 32 | number)
    }

    fn part() -> Part {
        let mut known = KnownShares::new(0, 2, Arc::default());
        Part::new(0, known.join("$share/g/a").expect("there is room"))
    }

    fn turns(part: &mut Part, count: usize) -> Vec<SessionKey> {
        let turn = |part: &mut Part| {
            let next = part.next().expect("one has room").session;
            part.pass_on();
            next
        };
        (0..count).map(|_| turn(part)).collect()
    }

    #[test]
    fn those_with_room_take_turns() {
        let mut part = part();
        for number in 1..=4 {
            assert!(part.enter(member(number, QoS::AtLeastOnce), number != 4));
        }
        assert!(!part.enter(member(2, QoS::AtMostOnce), true), "it was there");
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
        assert!(!part.keeps(), "the last has QoS 0");
        assert!(part.leave(key(2)) && part.is_empty() && part.next().is_none());
    }

    #[test]
    fn a_part_where_something_waits_for_long_comes_after_those_of_other_shards() {
        let (mut part, held) = (part(), Rc::<crate::session::Remembered>::default());
        let bounds = QueueBounds::default();
        part.enter(member(1, QoS::AtLeastOnce), true);
        part.share.set_members(1, 1, 1);
        assert_eq!([part.share.choose(0), part.share.choose(1)], [Some(0), Some(1)]);
        assert!(!part.push(Body::new(vec![1; 100], Monotonic(1), &held), Monotonic(1), bounds));
        part.set_stuck();
        assert_eq!([part.share.choose(0), part.share.choose(1)], [Some(1); 2]);
        assert!(part.remove(0, Monotonic(2)).is_some());
        assert_eq!([part.share.choose(0), part.share.choose(1)], [Some(1); 2], "it was handed over");
        part.is_served();
        assert_eq!([part.share.choose(0), part.share.choose(1)], [Some(0), Some(1)]);
        // As many bytes as may wait; one that is larger waits alone.
        for _ in 0..2 {
            part.push(Body::new(vec![1; bounds.bytes], Monotonic(1), &held), Monotonic(1), bounds);
        }
        assert_eq!(part.queued(), (1, bounds.bytes));
    }
}

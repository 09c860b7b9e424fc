//! Members named by keys, and the messages that wait for one member alone. Messages with the same key go to the same member, in order, while the set of
//! online members stays the same (rendezvous hashing: a new member takes keys from others, a leaving member leaves its own to them, and no other key moves).

use std::collections::BinaryHeap;
use std::rc::Rc;

use forebay_mqtt::route::shares::rank;
use forebay_session::{Body, SessionKey};

use super::line::Line;
use super::part::Part;

impl Part {
    /// Online members, each with its rank for a key.
    fn ranked(&self, key: u32) -> impl Iterator<Item = (u64, SessionKey)> {
        let online = self.members.iter().filter(|(_, member)| member.is_online);
        online.map(move |(session, member)| (rank(member.mark, key), *session))
    }

    /// The member that a key names. `None`: none is online, or the strategy does not go by keys.
    pub(super) fn named(&self, key: u32) -> Option<SessionKey> {
        self.ranked(key).filter(|_| self.is_keyed).max().map(|(_, session)| session)
    }

    /// The members that a key names one after the other, in case earlier ones cannot take its message, starting from this member, if one is given.
    pub(super) fn all_named(&self, key: u32, from: Option<SessionKey>) -> impl Iterator<Item = SessionKey> + use<> {
        let rank_of = |session: &SessionKey| self.members.get(session).map(|member| (rank(member.mark, key), *session));
        let from = from.as_ref().and_then(rank_of);
        let mut ranked: BinaryHeap<_> = self.ranked(key).filter(|of| from.is_none_or(|from| *of <= from)).collect();
        std::iter::from_fn(move || ranked.pop().map(|(_, session)| session))
    }

    /// The first message that keeps its record open, in the line for any member or in a single member's: the member, the message's place, and the message.
    pub(crate) fn first_claiming(&self) -> Option<(Option<SessionKey>, usize, Rc<Body>)> {
        let lines = self.members.iter().map(|(key, member)| (Some(*key), &member.line));
        let mut all = std::iter::once((None, &self.line)).chain(lines);
        all.find_map(|(member, line)| {
            let at = line.first_claiming()?;
            Some((member, at, Rc::clone(line.get(at)?)))
        })
    }

    /// Replaces a waiting message's body by another one of the same message.
    pub(crate) fn replace(&mut self, member: Option<SessionKey>, at: usize, body: Rc<Body>) {
        if let Some(before) = self.line_of(member).get(at).map(Rc::clone) {
            self.waiting.add(&body);
            self.waiting.remove(&before);
            self.line_of(member).replace(at, body);
        }
    }

    /// Members that may have room for messages of their own lines.
    pub(super) fn served_lines(&self) -> Vec<SessionKey> {
        let lines = self.members.iter().filter(|(_, member)| member.is_ready() && !member.line.is_empty());
        lines.map(|(session, _)| *session).collect()
    }

    /// Queues the messages in `line` for the members that their keys name now.
    pub(super) fn name_again(&mut self, line: Line) {
        for body in line {
            let member = self.named(body.key());
            self.line_of(member).push_back(body);
        }
    }

    /// Gathers the messages for a member that has come online: those with keys that name the member.
    pub(super) fn gather_for(&mut self, session: SessionKey) {
        let Some(mark) = self.members.get(&session).filter(|_| self.is_keyed).map(|member| member.mark) else { return };
        if self.queued().0 == 0 {
            return;
        }
        let mut taken = Vec::new();
        for (other, member) in self.members.iter_mut().filter(|(other, _)| **other != session) {
            let is_its_own = |key| (rank(mark, key), session) > (rank(member.mark, key), *other);
            taken.push(member.line.take_if(|body| is_its_own(body.key())));
        }
        let any = std::mem::take(&mut self.line);
        taken.into_iter().flatten().for_each(|body| self.line_of(Some(session)).push_back(body));
        self.name_again(any);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;
    use forebay_mqtt::packet::{QoS, SubscriptionOptions};
    use forebay_mqtt::route::shares::{KnownShares, mark_of};
    use forebay_mqtt::route::subscriptions::Subscriber;
    use forebay_runtime::seam::Monotonic;
    use forebay_session::{Body, QueueBounds, Remembered};

    const NOW: Monotonic = Monotonic(1);
    const KEYS: u32 = 300;

    fn key(number: u64) -> SessionKey {
        SessionKey::from_bits(1 << 32 | number)
    }

    fn part() -> Part {
        let mut known = KnownShares::new(0, 2, std::sync::Arc::default());
        Part::new(0, known.join("$share/g/a").expect("there is room"), true)
    }

    fn enter(part: &mut Part, number: u64, is_online: bool) {
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        let subscriber = Subscriber { session: key(number), options, identifier: 0, is_checked: false, gate: 0 };
        part.enter(subscriber, mark_of(&format!("worker-{number}")), is_online);
    }

    /// Two messages for each key wait, in order.
    fn fill(part: &mut Part) {
        let held = Rc::<Remembered>::default();
        for (order, of) in [1, 2].into_iter().flat_map(|order| (0..KEYS).map(move |of| (order, of))) {
            let member = part.named(of);
            let dropped = part.push(Body::new(vec![order], NOW, of, &held), NOW, QueueBounds::default(), member);
            assert_eq!(dropped.count, 0);
        }
    }

    /// The member that each key's messages wait for: all of them for the member that the key names, in order.
    fn waits(part: &Part) -> BTreeMap<u32, Option<SessionKey>> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for member in part.members.keys().copied().map(Some).chain([None]) {
            for body in (0..).map_while(|at| part.get(member, at)) {
                all.entry(body.key()).or_default().push((member, body.packet()[0]));
            }
        }
        assert_eq!(all.values().map(Vec::len).sum::<usize>(), part.queued().0);
        assert_eq!(part.queued().0, part.queued().1, "a byte for each");
        let of = |(of, waits): (u32, Vec<_>)| {
            let member = part.named(of);
            assert_eq!(waits, [(member, 1), (member, 2)], "{of}");
            (of, member)
        };
        all.into_iter().map(of).collect()
    }

    #[test]
    fn what_waits_follows_its_key_when_members_come_and_go() {
        let mut part = part();
        enter(&mut part, 1, false);
        fill(&mut part);
        assert!(waits(&part).values().all(Option::is_none), "none is online");
        enter(&mut part, 2, true);
        assert!(waits(&part).values().all(|member| *member == Some(key(2))));
        (3..=6).for_each(|number| enter(&mut part, number, true));
        let five = waits(&part);
        let of = |number| five.values().filter(|member| **member == Some(key(number))).count();
        assert!((2..=6).all(|number| (30..=95).contains(&of(number))), "{five:?}");
        part.set_online(key(1), true);
        let six = waits(&part);
        assert!(five.iter().all(|(of, member)| six[of] == *member || six[of] == Some(key(1))), "only its own come");
        part.set_online(key(1), false);
        assert_eq!(waits(&part), five, "and go");
        assert!(part.leave(key(4)));
        let four = waits(&part);
        assert!(five.iter().all(|(of, member)| four[of] == *member || *member == Some(key(4))));
        [2, 3, 5, 6].into_iter().for_each(|number| part.set_online(key(number), false));
        assert!(waits(&part).values().all(Option::is_none));
        assert_eq!(part.queued().0, 2 * KEYS as usize, "nothing is dropped");
        enter(&mut part, 7, true);
        part.set_keyed(false, NOW);
        assert_eq!(part.line.len(), 2 * KEYS as usize, "another strategy");
        part.set_keyed(true, NOW);
        assert!(waits(&part).values().all(|member| *member == Some(key(7))));
    }

    #[test]
    fn those_that_a_key_names_come_one_after_the_other() {
        let mut part = part();
        (1..=5).for_each(|number| enter(&mut part, number, number != 3));
        let all: Vec<_> = part.all_named(77, None).collect();
        assert_eq!((all.first().copied(), all.len()), (part.named(77), 4));
        assert!(part.all_named(77, Some(all[2])).eq(all[2..].iter().copied()));
        assert!(part.leave(all[0]));
        assert_eq!(part.named(77), Some(all[1]), "the next one is named when it goes");
    }

    #[test]
    fn what_comes_back_waits_before_all_others_and_each_line_has_its_own_bound() {
        let (mut part, held) = (part(), Rc::<Remembered>::default());
        (1..=2).for_each(|number| enter(&mut part, number, true));
        let bounds = QueueBounds { messages: 2, ..QueueBounds::default() };
        let of = |member| (0..).find(|of| part.named(*of) == Some(member)).expect("one of them");
        let (one, other) = (of(key(1)), of(key(2)));
        let mut push = |of, what| {
            let member = part.named(of);
            part.push(Body::new(vec![what], NOW, of, &held), NOW, bounds, member).count
        };
        assert_eq!([push(one, 1), push(one, 2), push(other, 3), push(one, 4)], [0, 0, 0, 1]);
        part.push_front(Body::new(vec![0], NOW, one, &held), NOW);
        let line = |part: &Part, member| -> Vec<u8> {
            (0..).map_while(|at| part.get(Some(member), at)).map(|body| body.packet()[0]).collect()
        };
        assert_eq!((line(&part, key(1)), line(&part, key(2))), (vec![0, 2, 4], vec![3]));
        assert_eq!(part.queued(), (4, 4));
    }
}

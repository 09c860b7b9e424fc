//! QoS 2 exchanges of publishers: from the PUBLISH to PUBREL, in the log of every shard that has written the message down for kept sessions. A publisher with
//! a kept session repeats messages that were not answered before a crash. A shard that knows the exchange passes over the repeat, for all its subscribers,
//! and confirms it.
//!
//! The packet identifier may be another message's as soon as the publisher has PUBCOMP, or a refusal. Before that, every shard that may know the exchange
//! forgets it, and reports when that is durable. When the publisher's session ends, so do its exchanges, after its messages in flight. The shards of a new
//! process report to each other which exchanges they know; until all have done so, PUBLISH at QoS 2 and PUBREL of kept sessions wait.

use std::collections::HashMap;

use smallvec::SmallVec;

use forebay_base::limits::COPIES_UNCONFIRMED_MAX;
use forebay_kafka::producer::row_log::Origin;
use forebay_mqtt::route::shape::bits;
use forebay_mqtt::route::shares::ToShare;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Reason, ReleaseFirst, SessionKey, Unanswered};

use super::super::Broker;
use super::super::confirm::Confirmations;
use super::super::delivery::Message;
use super::super::delivery::packet_bytes;
use super::MESSAGE_BYTES;
use super::saved;
use super::saved::Recipient;
use crate::here::Here;
use crate::mail::{Known, Letter, Marks, ToBroker};
use crate::words::{Flow, Stall};

/// A session of some shard, by its number in that shard's log.
type Publisher = (usize, u64);

/// An answer that waits until a shard has forgotten an exchange.
#[derive(Clone, Copy, Debug)]
enum Waits {
    /// PUBCOMP.
    PubComp(SessionKey, u16),
    /// A refusal.
    Refusal(SessionKey, u32),
}

/// A report of a shard: its index, the exchanges that it knows, and the messages that it holds.
type Early = (usize, Vec<Known>, Vec<u64>);

/// An exchange in the log of this shard.
#[derive(Debug)]
struct Open {
    packet_id: u16,
    /// The exchange's number in the log.
    number: u64,
    shares: Marks,
}

/// The QoS 2 exchanges that this shard knows, and those that others have to forget.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// The exchanges that this shard knows.
    open: HashMap<Publisher, SmallVec<[Open; 2]>>,
    count: usize,
    releases: Confirmations<Waits>,
    /// Exchanges for each shard to release, sent at the end of the turn.
    gathered: Vec<Vec<Origin>>,
    /// Ended sessions of this shard for each other one, with the number of messages that it has confirmed once it knows all of the
    /// session's.
    over: Vec<Vec<(u64, u64)>>,
    /// Shards that have not yet reported the exchanges that they know to this process, as bits.
    silent: u64,
    /// Sessions of the previous process by number, until all shards have reported.
    sessions: HashMap<u64, SessionKey>,
    /// Reports of shards received before this one had read its log. `None`: it has read it.
    early: Option<Vec<Early>>,
}

impl Exchanges {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            open: HashMap::new(),
            count: 0,
            releases: Confirmations::new(shards),
            gathered: (0..shards).map(|_| Vec::new()).collect(),
            over: (0..shards).map(|_| Vec::new()).collect(),
            silent: 0,
            sessions: HashMap::new(),
            early: Some(Vec::new()),
        }
    }

    /// The number of exchanges that this shard knows.
    pub(super) fn open(&self) -> usize {
        self.count
    }

    /// Whether all shards have reported to this process which exchanges of this one's publishers they know.
    pub(super) fn have_all_told(&self) -> bool {
        self.silent == 0
    }

    /// Whether `shard` may be asked for one more release.
    pub(super) fn has_room(&self, shard: usize) -> bool {
        self.releases.unconfirmed_by(shard) < COPIES_UNCONFIRMED_MAX
    }

    fn known(&self, publisher: Publisher, packet_id: u16) -> Option<&Open> {
        self.open.get(&publisher)?.iter().find(|open| open.packet_id == packet_id)
    }

    fn insert(&mut self, publisher: Publisher, open: Open) {
        self.remove(publisher, open.packet_id);
        self.open.entry(publisher).or_default().push(open);
        self.count += 1;
    }

    /// Removes an exchange and returns its number in the log.
    fn remove(&mut self, publisher: Publisher, packet_id: u16) -> Option<u64> {
        let ids = self.open.get_mut(&publisher)?;
        let at = ids.iter().position(|open| open.packet_id == packet_id)?;
        let number = ids.swap_remove(at).number;
        if ids.is_empty() {
            self.open.remove(&publisher);
        }
        self.count -= 1;
        Some(number)
    }
}

impl Broker {
    /// The marks of the shares that have had the message, if it repeats one that this shard's subscribers have had since before a crash.
    pub(crate) fn is_repeated(&self, message: Message<'_>) -> Option<Marks> {
        let exchanges = &self.queues.exchanges;
        if exchanges.count == 0 {
            return None;
        }
        let Origin { session, packet_id } = message.origin?;
        exchanges.known((message.from, session), packet_id).map(|open| open.shares.clone())
    }

    /// Keeps this shard's record of a message and of its exchange together in one group of the log. `recipients`: sessions that may get the message, without
    /// members of these shares.
    pub(crate) fn keep_with_exchange(&mut self, message: Message<'_>, shares: &[ToShare], recipients: usize) {
        let (Some(_), Some(buffer)) = (message.origin, self.logs.kept.first_mut()) else { return };
        let all = &self.delivery.shares;
        let names: usize = shares.iter().filter_map(|to| all.kept(to.share)).map(|name| name.len()).sum();
        let packet = packet_bytes(message.publish.topic, message.publish);
        let payloads = (1 + shares.len()) * (packet + MESSAGE_BYTES) + names + recipients * Recipient::BYTES_MAX;
        // The exchange names each share.
        buffer.keep_together(2 + shares.len(), payloads + MESSAGE_BYTES + shares.len() * size_of::<u64>());
    }

    /// Writes down the exchange of a message that is in the log for sessions of this shard, and for these shares. Returns the group. 0: the log has no room,
    /// and a repeat is a second message.
    pub(crate) fn know_exchange(&mut self, from: usize, origin: Origin, mut shares: Marks) -> u64 {
        let Some(buffer) = self.logs.kept.first_mut() else { return 0 };
        let (publisher, packet_id) = ((from, origin.session), origin.packet_id);
        let before = self.queues.exchanges.known(publisher, packet_id);
        shares.extend(before.iter().flat_map(|open| open.shares.iter().copied()));
        let number = before.map(|open| open.number);
        let payload = &mut self.queues.payload;
        payload.clear();
        saved::encode_exchange(from, origin, &shares, payload);
        let Ok(kept) = buffer.keep_session(number, payload) else { return 0 };
        self.queues.exchanges.insert(publisher, Open { packet_id, number: kept.number, shares });
        kept.group
    }

    /// Has other logs forget an exchange at PUBREL, if some know it: PUBCOMP follows.
    pub fn release_elsewhere(&mut self, here: &Here, key: SessionKey, packet_id: u16) -> Option<Flow> {
        let session = self.sessions.get_mut(key)?;
        let number = session.number()?;
        let exchanges = &self.queues.exchanges;
        if !exchanges.have_all_told() {
            return Some(Flow::Stall(Stall::Subscribers(here.index)));
        }
        let shards = match session.release_first(packet_id) {
            ReleaseFirst::Nowhere => return None,
            ReleaseFirst::Awaited => {
                session.releases_again(packet_id);
                return Some(Flow::On);
            }
            ReleaseFirst::On(shards) => shards,
        };
        if let Some(full) = bits(shards).find(|shard| !exchanges.has_room(*shard)) {
            return Some(Flow::Stall(Stall::Subscribers(full)));
        }
        session.releases(packet_id, u16::try_from(shards.count_ones()).unwrap_or(u16::MAX));
        self.release_on(here, shards, Origin { session: number, packet_id }, Waits::PubComp(key, packet_id));
        Some(Flow::On)
    }

    /// Has other logs forget the exchange of a refusal, which frees the packet identifier, too.
    pub fn release_refused(&mut self, here: &Here, key: SessionKey, unanswered: Unanswered) {
        let Unanswered { number, packet_id, shards } = unanswered;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(of) = session.number() else { return };
        session.refuses_later(number, u16::try_from(shards.count_ones()).unwrap_or(u16::MAX));
        self.release_on(here, shards, Origin { session: of, packet_id }, Waits::Refusal(key, number));
    }

    fn release_on(&mut self, here: &Here, shards: u64, origin: Origin, waits: Waits) {
        self.delivery.shares.forget_repeat(origin);
        for shard in bits(shards) {
            self.queues.exchanges.releases.expect(shard, Some(waits));
            if shard == here.index {
                self.release_for(shard, &[origin]);
            } else {
                self.queues.exchanges.gathered[shard].push(origin);
            }
        }
    }

    /// Reports the exchanges that this shard's publishers have released to the other shards, at the end of a turn.
    pub fn send_releases(&mut self, here: &Here) {
        let from = here.index;
        for (shard, gathered) in self.queues.exchanges.gathered.iter_mut().enumerate() {
            if !gathered.is_empty() {
                self.letters
                    .push_back((shard, Letter::Broker(ToBroker::Release { from, ids: std::mem::take(gathered) })));
            }
        }
    }

    /// Forgets exchanges that publishers of another shard have released.
    pub(crate) fn release_for(&mut self, from: usize, ids: &[Origin]) {
        for origin in ids {
            let number = self.queues.exchanges.remove((from, origin.session), origin.packet_id);
            let group = number.map_or(0, |number| self.end_exchange(number));
            self.queues.exchanges.releases.wait(from, group);
        }
    }

    fn end_exchange(&mut self, number: u64) -> u64 {
        self.queues.wrote = true;
        self.logs.kept.end(number).unwrap_or(0)
    }

    /// Reports durable releases to the shards that asked for them. True: some are of this shard.
    pub(super) fn confirm_releases(&mut self, here: &Here) -> bool {
        let letter = |by, count| Letter::Broker(ToBroker::Released { by, count });
        self.tell_durable(
            here,
            |core| &mut core.queues.exchanges.releases,
            |broker, _, by, count| broker.released_by(by, count),
            letter,
        )
    }

    /// Sends the answers that waited for a shard to forget `count` exchanges of this one's publishers.
    pub(crate) fn released_by(&mut self, by: usize, count: u64) {
        let released: Vec<Waits> = self.queues.exchanges.releases.confirmed(by, count).collect();
        for waits in released {
            let key = match waits {
                Waits::PubComp(key, _) | Waits::Refusal(key, _) => key,
            };
            let Some(session) = self.sessions.get_mut(key) else { continue };
            match waits {
                Waits::PubComp(_, packet_id) => session.released(packet_id),
                Waits::Refusal(_, number) => session.complete(number, 1, Reason::Success),
            }
            self.touch(key);
        }
        self.delivery.has_freed();
    }

    /// Has the exchanges of an ended session forgotten by the shards in `known_to`, as bits, once they have all its messages.
    pub(crate) fn forget_exchanges_of(&mut self, here: &Here, number: u64, known_to: u64) {
        self.delivery.shares.forget_repeats_of(number);
        for shard in bits(known_to | self.queues.exchanges.silent) {
            self.forget_exchanges_on(here, shard, &[number]);
        }
    }

    /// Has one shard forget the exchanges of ended sessions, after their messages in flight to it, which may be repeats.
    fn forget_exchanges_on(&mut self, here: &Here, shard: usize, sessions: &[u64]) {
        let (_, all) = self.queues.confirmations.told_by(shard);
        self.queues.exchanges.over[shard].extend(sessions.iter().map(|number| (all, *number)));
        self.tell_sessions_over(here, shard);
    }

    /// Reports ended sessions to a shard once it has all their messages.
    pub(super) fn tell_sessions_over(&mut self, here: &Here, shard: usize) {
        let (told, _) = self.queues.confirmations.told_by(shard);
        let over = &mut self.queues.exchanges.over[shard];
        let sessions: Vec<u64> = over.extract_if(.., |(all, _)| *all <= told).map(|(_, number)| number).collect();
        if sessions.is_empty() {
            return;
        }
        if shard == here.index {
            self.exchanges_over(shard, &sessions);
        } else {
            self.letters.push_back((shard, Letter::Broker(ToBroker::ExchangesOver { from: here.index, sessions })));
        }
    }

    /// Forgets the exchanges of a shard's sessions that have ended.
    pub(crate) fn exchanges_over(&mut self, from: usize, sessions: &[u64]) {
        for number in sessions {
            let ids = self.queues.exchanges.open.remove(&(from, *number)).unwrap_or_default();
            self.queues.exchanges.count -= ids.len();
            for open in ids {
                self.end_exchange(open.number);
            }
        }
    }

    /// Takes up an exchange of the previous process. `sessions`: this shard's sessions, by their numbers in the log.
    pub(super) fn restore_exchange(
        &mut self,
        here: &Here,
        number: u64,
        from: usize,
        (origin, shares): Known,
        sessions: &HashMap<u64, SessionKey>,
    ) {
        if from == here.index {
            let session = sessions.get(&origin.session).and_then(|key| self.sessions.get_mut(*key));
            let Some(session) = session else {
                self.end_exchange(number);
                return;
            };
            session.sent_to_shards(origin.packet_id, 1 << from);
            self.delivery.shares.have_had(origin, &shares);
        }
        let packet_id = origin.packet_id;
        self.queues.exchanges.insert((from, origin.session), Open { packet_id, number, shares });
    }

    /// Reports to the other shards which of their exchanges this one knows. `sessions`: those that the previous process has left here.
    pub fn tell_exchanges(&mut self, here: &mut Here, now: Monotonic, sessions: &HashMap<u64, SessionKey>) {
        let shards = self.queues.confirmations.shards();
        let mut of: Vec<Vec<Known>> = (0..shards).map(|_| Vec::new()).collect();
        for ((from, session), ids) in &self.queues.exchanges.open {
            // An exchange of a shard that no longer exists is of no use.
            let Some(of) = of.get_mut(*from) else { continue };
            let origin = |open: &Open| Origin { session: *session, packet_id: open.packet_id };
            of.extend(ids.iter().map(|open| (origin(open), open.shares.clone())));
        }
        let by = here.index;
        self.held_here(here);
        let others = of.into_iter().enumerate().filter(|(shard, _)| *shard != by);
        for (shard, open) in others {
            let held = self.held_of(shard);
            self.letters.push_back((shard, Letter::Broker(ToBroker::Exchanges { by, open, held })));
        }
        let exchanges = &mut self.queues.exchanges;
        exchanges.silent = (0..shards).filter(|shard| *shard != by).fold(0, |all, shard| all | 1 << shard);
        if exchanges.silent != 0 {
            exchanges.sessions.clone_from(sessions);
        }
        let early = exchanges.early.take().unwrap_or_default();
        if exchanges.silent == 0 {
            self.release_restored(here, now);
        }
        for (by, open, held) in early {
            self.exchanges_known(here, now, by, open, held);
        }
    }

    /// Takes a report of a shard: the exchanges of this one's publishers that it knows, and the messages for shares that it holds and this one has handed
    /// over. The report is kept until the sessions concerned are taken up.
    pub(crate) fn exchanges_known(
        &mut self,
        here: &mut Here,
        now: Monotonic,
        by: usize,
        open: Vec<Known>,
        held: Vec<u64>,
    ) {
        if let Some(early) = &mut self.queues.exchanges.early {
            return early.push((by, open, held));
        }
        self.held_elsewhere(here, by, &held);
        let mut over = Vec::new();
        for (origin, shares) in &open {
            let key = self.queues.exchanges.sessions.get(&origin.session);
            let session = key.and_then(|key| self.sessions.get_mut(*key));
            match session.filter(|session| session.number() == Some(origin.session)) {
                Some(session) => {
                    session.sent_to_shards(origin.packet_id, 1 << by);
                    self.delivery.shares.have_had(*origin, shares);
                }
                None => over.push(origin.session),
            }
        }
        over.dedup();
        self.forget_exchanges_on(here, by, &over);
        let exchanges = &mut self.queues.exchanges;
        exchanges.silent &= !(1 << by);
        if exchanges.silent == 0 {
            exchanges.sessions = HashMap::new();
            self.release_restored(here, now);
            // Publishers have waited for the last report.
            self.delivery.has_freed();
        }
    }
}

//! Messages of QoS 1 and 2 for a client: those sent and not acknowledged, and those that wait after them.
//!
//! Each copy has a number, in order; its packet identifier follows from that. A client is sent at most its send quota (section
//! 4.9) at a time; nothing else waits for that [MQTT-3.3.4-10] [MQTT-4.9.0-3]. When its connection is gone and it returns, what is
//! open is sent again in order, PUBLISH with DUP or PUBREL, then the rest [MQTT-4.4.0-1].

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use super::body::{Body, Copy, Gone, Place, Remembered, is_expired, properties};
use super::fill::Fill;
use super::item::{Finishing, IDS, Item, State, looks_at_one, packet_id, second};
use super::peer::Peer;
use super::queue::{Changed, Unsaved};
use super::remote::Passes;
use super::settings::QueueBounds;
use super::state::Session;
use super::waiting::Waiting;
use forebay_base::limits::{SENT_AHEAD_BYTES_MAX, UNLOGGED_NOTED_MAX};
use forebay_mqtt::encode;
use forebay_mqtt::packet::{PacketType, Publish, QoS, Version};
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::Monotonic;

/// Remembered bytes in flight to a client past which further copies wait for acknowledgements.
const OPEN_BYTES_MAX: usize = 4 << 20;
/// The most messages and bytes in flight to a client while [`Remembered::is_tight`].
const OPEN_TIGHT_MAX: (usize, usize) = (16, 64 << 10);
/// The most copies that one look at the waiting ones drops, for any reason: the next turn goes on.
const DROPPED_AT_ONCE_MAX: u64 = 256;

/// The result of a look at the copies that wait.
#[derive(Clone, Debug, Default)]
pub struct Pumped {
    /// Copies sent for the first time.
    pub sent: usize,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Dropped: their Message Expiry Interval was over.
    pub expired: Gone,
    /// Dropped: larger than the client takes.
    pub too_large: Gone,
    /// Dropped: the client may not read its topic any more.
    pub denied: Gone,
    /// Dropped: the bridge's mapping yields nothing that the remote accepts.
    pub unfit: Gone,
    /// Whether the look was cut short to serve others first.
    pub is_cut: bool,
    /// Whether the next one waits for the log ([`Session::next_for_log`]).
    pub waits_for_log: bool,
}

impl Pumped {
    /// The count of copies that were not written for this reason.
    pub(super) fn of(&mut self, why: Written) -> &mut Gone {
        match why {
            Written::Denied => &mut self.denied,
            Written::TooLarge => &mut self.too_large,
            Written::Unfit => &mut self.unfit,
            Written::Expired | Written::Yes(_) => &mut self.expired,
        }
    }

    fn dropped(&self) -> u64 {
        self.expired.count + self.too_large.count + self.denied.count + self.unfit.count
    }
}

/// The queue of one client.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The counts of copies.
    pub(super) all: Rc<Remembered>,
    /// Copies refused, or dropped for another one, since the last call of [`Session::take_dropped`].
    pub(super) dropped: Gone,
    /// Oldest first.
    pub(super) items: VecDeque<Item>,
    /// The number of copies at the front that are in flight on the present connection.
    pub(super) open: usize,
    /// Bytes of those that are remembered.
    pub(super) open_bytes: usize,
    /// The copies after those.
    pub(super) waiting: Waiting,
    /// Waiting copies with numbers below this one may not be dropped.
    stay_below: u64,
    /// The waiting copies with numbers below this one may be of topics that the client may not read any more.
    unchecked_below: u64,
    pub(super) finishing: Finishing,
    /// The number of the next copy.
    pub(super) next: u64,
    /// The number in the log of the queue's record.
    pub(super) record: Option<u64>,
    pub(super) changed: Changed,
    /// Changes since the record was written.
    pub(super) unsaved: Unsaved,
    /// The copies of QoS 2 in memory alone with numbers below this one are written down.
    pub(super) noted: u64,
    /// The level at which the queue is listed ([`super::Fill`]).
    pub(super) listed: u8,
}

impl Outgoing {
    fn new(next: u64, all: &Rc<Remembered>) -> Self {
        Self::restored(VecDeque::new(), next, None, all)
    }

    /// The number of copies in flight, and of those that wait.
    fn copies(&self) -> (usize, usize) {
        (self.open, self.items.len() - self.open)
    }

    /// Whether one more may be on its way [MQTT-4.9.0-2].
    fn has_quota(&self, quota: u16) -> bool {
        let (tight, tight_bytes) = OPEN_TIGHT_MAX;
        self.open < usize::from(quota)
            && self.open_bytes < OPEN_BYTES_MAX
            && (self.open < tight && self.open_bytes < tight_bytes || self.open_bytes == 0 || !self.all.is_tight())
    }

    /// Whether the next copy can be sent at once.
    fn is_caught_up(&self, quota: u16) -> bool {
        self.open == self.items.len()
            && self.has_quota(quota)
            && self.is_near(self.next + 1)
            && self.unsaved < Unsaved::First
    }

    /// Whether the packet identifier of this number is not that of a copy which is open still [MQTT-2.2.1-4] [MQTT-4.3.2-1]
    /// [MQTT-4.3.3-1].
    fn is_near(&self, number: u64) -> bool {
        self.items.front().is_none_or(|oldest| number - oldest.number < IDS)
    }

    /// Takes the number of a new copy. No copy has the last packet identifier, which a bridge subscribes with.
    fn number(&mut self) -> u64 {
        let number = self.next + u64::from(packet_id(self.next) == u16::MAX);
        self.next = number + 1;
        number
    }

    /// The queue that an earlier process has left.
    pub(super) fn restored(items: VecDeque<Item>, next: u64, record: Option<u64>, all: &Rc<Remembered>) -> Self {
        let (waiting, finishing) = (bodies(&items).collect(), Finishing::of(&items));
        items.iter().for_each(|item| all.moves(item.bytes(), None, item.state.place()));
        let (all, dropped, changed) = (Rc::clone(all), Gone::default(), Changed::No);
        Self {
            all,
            dropped,
            items,
            open: 0,
            open_bytes: 0,
            waiting,
            stay_below: 0,
            unchecked_below: 0,
            finishing,
            next,
            record,
            changed,
            unsaved: Unsaved::Nothing,
            noted: 0,
            listed: 0,
        }
    }

    /// Drops a copy that waits and may be dropped. If others have its message, that is known by now: later it may be held.
    pub(super) fn drop_queued(&mut self, at: usize) -> Option<Item> {
        let gone = self.items.remove(at)?;
        gone.left_no_more(&self.all);
        gone.body.iter().for_each(|body| self.waiting.remove(body));
        self.all.moves(gone.bytes(), gone.state.place(), None);
        self.note_end(&gone);
        if gone.is_logged() {
            // The next process must not send the copy after younger ones that the client got.
            self.unsaved = Unsaved::First;
        }
        Some(gone)
    }

    /// Drops copies that were not sent and may be dropped, oldest first, as long as more have to go: [`Session::take_dropped`].
    /// Returns their number. `more`: called before each with the number dropped so far.
    fn drop_while(&mut self, more: impl Fn(&Self, usize) -> bool) -> usize {
        // Most copies find room: no search for the first copy that may be dropped is needed then.
        if !more(self, 0) {
            return 0;
        }
        let stay = self.items.partition_point(|item| item.number < self.stay_below);
        let (mut dropped, mut at) = (0, self.open.max(stay));
        while at < self.items.len() && more(self, dropped) {
            looks_at_one();
            if !self.items[at].may_go() {
                self.stay_below = self.items[at].number + 1;
                at += 1;
            } else if let Some(gone) = self.drop_queued(at) {
                // The copy is counted: its record need not wait for another session.
                gone.body.iter().for_each(|body| body.meets());
                self.dropped.push(gone.body.as_ref());
                dropped += 1;
            }
        }
        dropped
    }

    /// Drops at most this many of the oldest copies.
    pub(super) fn drop_oldest(&mut self, most: usize) -> usize {
        self.drop_while(|_, dropped| dropped < most)
    }

    /// Drops the copies that only memory has, and that keep records open.
    pub(super) fn drop_unlogged(&mut self) {
        let mut at = self.open;
        while at < self.items.len() {
            looks_at_one();
            if !self.items[at].may_go_unlogged() {
                at += 1;
            } else if let Some(gone) = self.drop_queued(at) {
                gone.body.iter().for_each(|body| body.meets());
                self.dropped.push(gone.body.as_ref());
            }
        }
    }

    /// The level of the copies that wait.
    pub(super) fn fill(&self, bounds: QueueBounds) -> u8 {
        let (messages, bytes) = self.waiting.bounded();
        Fill::level((messages + self.without_message(), bytes), bounds)
    }

    fn note_end(&mut self, gone: &Item) {
        if gone.shares_message() || (gone.state == State::Received && self.record.is_some()) {
            self.note(Changed::Ended);
        }
    }

    fn note(&mut self, changed: Changed) {
        self.changed = self.changed.max(changed);
        self.unsaved = self.unsaved.max(Unsaved::Repeats);
    }

    /// Has the queue written down before another copy is sent.
    pub(super) fn note_first(&mut self) {
        (self.changed, self.unsaved) = (Changed::Received, Unsaved::First);
    }

    /// The numbers of copies of QoS 2 that only memory has, and that the client has or gets from there.
    pub(super) fn unlogged(&self) -> impl Iterator<Item = u64> {
        self.in_memory().filter(|item| !self.waits_for_log(item)).map(|item| item.number)
    }

    /// The number below which a record that is written now notes all copies.
    pub(super) fn noted_below(&self) -> u64 {
        let mut all = self.in_memory().enumerate();
        let first = all.find(|(before, item)| *before == UNLOGGED_NOTED_MAX || self.waits_for_log(item));
        first.map_or(self.next, |(_, item)| item.number).max(self.noted)
    }

    /// Copies of QoS 2 that only memory has.
    fn in_memory(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.copy.qos == QoS::ExactlyOnce && item.is_unlogged())
    }

    /// Whether a copy is not sent before the log has it: no record notes it, unless all such copies are sent from memory ([`Outgoing::note_first`]).
    fn waits_for_log(&self, item: &Item) -> bool {
        self.unsaved != Unsaved::First && item.is_unnoted(self.noted) && item.is_for_log()
    }

    /// Whether there may be any.
    pub(super) fn has_unlogged(&self) -> bool {
        // A copy that is too large for the log keeps no record open, and is noted before it is sent.
        self.unsaved == Unsaved::First
            || self.waiting.has_windowed()
            || self.items.front().is_some_and(|first| first.number < self.noted)
    }

    /// Puts a copy at the end of the queue, if there is room. `is_away`: the bounds of the queue apply to all copies.
    fn queue(&mut self, copy: Copy, body: Rc<Body>, (bounds, is_away): (QueueBounds, bool)) -> Handed {
        let bytes = body.packet().len();
        let is_bounded = is_away || !body.is_windowed();
        let is_full = |outgoing: &Self| is_bounded && outgoing.is_full(bytes, bounds);
        if bounds.drops_newest && is_full(self) {
            return Handed::Dropped;
        }
        let number = self.number();
        let dropped = self.drop_while(|outgoing, _| is_full(outgoing));
        self.waiting.add(&body);
        self.all.moves(bytes, None, Some(Place::Queued));
        self.items.push_back(Item { number, state: State::Queued, sent_s: 0, refusals: 0, copy, body: Some(body) });
        if dropped > 0 { Handed::DroppedOldest(dropped) } else { Handed::Queued }
    }

    /// Whether the bounds leave no room for a message of this size.
    fn is_full(&self, bytes: usize, bounds: QueueBounds) -> bool {
        self.waiting.is_full(bytes, self.without_message(), bounds)
    }

    /// Number of waiting exchanges without a message.
    fn without_message(&self) -> usize {
        self.copies().1 - self.waiting.all().0
    }

    /// The length of the run from this copy on with consecutive numbers: a copy that ends leaves a gap.
    pub(super) fn run_from(&self, at: usize) -> usize {
        let first = self.items[at].number;
        let (mut run, mut behind) = (1, self.items.len() - at);
        while run < behind {
            looks_at_one();
            let middle = run + (behind - run) / 2;
            if self.items[at + middle].number - first == middle as u64 { run = middle + 1 } else { behind = middle }
        }
        run
    }

    /// The index of a copy in flight.
    pub(super) fn find(&self, id: u16) -> Option<usize> {
        (0..self.open).find(|at| self.items[*at].packet_id() == id)
    }

    /// Ends a copy in flight. Returns its message, if that is still remembered.
    pub(super) fn end(&mut self, at: usize) -> Option<Rc<Body>> {
        self.open -= 1;
        let gone = self.items.remove(at)?;
        self.open_bytes -= gone.bytes();
        self.all.moves(gone.bytes(), gone.state.place(), None);
        self.finishing.count(gone.state, -1);
        self.note_end(&gone);
        gone.body
    }

    /// Makes all copies wait again, as the connection is gone. `releases`: the session is kept in memory alone, so no record stays
    /// open for a client that may never reconnect. If the log has the session, a record stays open until the log has its copy
    /// ([`Session::next_unlogged`]); if the session ends with its connection, the reader of the record learns that no session has
    /// it.
    fn rewind(&mut self, releases: bool) {
        self.items.range(..self.open).for_each(|item| item.leaves(&self.all));
        // Copies that other members of a share get, or that the log has, are handled separately.
        let is_own = |item: &&mut Item| item.copy.share.is_none() || item.copy.qos == QoS::ExactlyOnce;
        for body in self.items.iter_mut().filter(is_own).filter_map(|item| item.body.as_mut()) {
            if releases {
                *body = body.released();
            }
        }
        (self.open, self.open_bytes, self.stay_below) = (0, 0, 0);
        self.waiting = bodies(&self.items).collect();
    }

    /// Gives a copy, which may be in flight, another body of the same message.
    pub(super) fn is_logged_as(&mut self, number: u64, body: Rc<Body>) {
        match self.items.binary_search_by_key(&number, |item| item.number) {
            Ok(at) if at < self.open => self.items[at].body = Some(body),
            _ => self.waits_as(number, body),
        }
    }

    /// Gives a waiting copy another body of the same message.
    pub(super) fn waits_as(&mut self, number: u64, body: Rc<Body>) {
        let Ok(at) = self.items.binary_search_by_key(&number, |item| item.number) else { return };
        debug_assert!(at >= self.open, "it waits");
        self.waiting.add(&body);
        if let Some(before) = self.items[at].body.replace(body) {
            self.waiting.remove(&before);
        }
        // The copy may be dropped now.
        self.stay_below = self.stay_below.min(number);
    }

    /// Gives up a waiting copy. Returns its message, and whether the item stays: a QoS 2 exchange that may have begun is finished,
    /// as the receiver would take a later message under the same packet identifier for a repeat.
    pub(super) fn give_up(&mut self, item: &mut Item) -> (Option<Rc<Body>>, bool) {
        let bytes = item.bytes();
        item.body.iter().for_each(|body| body.meets());
        self.all.moves(bytes, item.state.place(), None);
        item.body.iter().for_each(|body| self.waiting.remove(body));
        if item.copy.qos == QoS::AtLeastOnce || item.state == State::Queued {
            self.note_end(item);
            return (item.body.take(), false);
        }
        let body = item.body.clone();
        if self.finishing.has_it(item) {
            item.body.iter().for_each(|body| self.waiting.add(body));
            self.note(Changed::Received);
        }
        (body, true)
    }

    /// Ends the queue with its session: returns the copies that the client has not acknowledged.
    fn into_gone(self) -> Gone {
        let mut gone = Gone::default();
        self.items.range(self.open..).for_each(|item| item.left_no_more(&self.all));
        for item in self.items.iter().filter(|item| item.state.place().is_some()) {
            self.all.moves(item.bytes(), item.state.place(), None);
            gone.push(item.body.as_ref());
        }
        gone
    }

    /// Ends a copy in flight, as the client has accepted or refused it.
    pub(super) fn end_answered(&mut self, at: usize, is_error: bool) {
        let is_first = self.items[at].state.place().is_some();
        let body = self.end(at);
        if is_first {
            // A refusal is an answer, too: the record need not go to another session.
            body.iter().for_each(|body| body.meets());
        }
        if is_first && is_error {
            self.dropped.push(body.as_ref());
        } else if is_first {
            self.all.acknowledges();
        }
    }

    /// Notes that changes are written down, or do not have to be: sends the PUBRELs that waited for that. Returns whether there are
    /// any to send, now or on the next connection.
    pub(super) fn written(&mut self, version: Version, out: &mut Vec<u8>) -> bool {
        let has_pubrel = self.finishing.unwritten > 0;
        let unwritten = self.items.iter_mut().enumerate().filter(|(_, item)| item.state == State::Unwritten);
        for (at, item) in unwritten.take(self.finishing.unwritten) {
            if at < self.open {
                encode::ack(version, PacketType::PubRel, item.packet_id(), ReasonCode::SUCCESS, out);
                self.open_bytes -= item.bytes();
            } else {
                item.body.iter().for_each(|body| self.waiting.remove(body));
            }
            (item.state, item.body) = (State::Received, None);
        }
        self.finishing.unwritten = 0;
        // In an empty queue `First` stays: this record may not be durable when the next copy arrives, which then waits for another
        // one.
        if self.unsaved < Unsaved::First || self.open < self.items.len() {
            self.unsaved = Unsaved::Nothing;
        }
        has_pubrel
    }

    /// Makes all copies unsent, as the other end has forgotten them. Exchanges without a message are over. Returns the number of
    /// copies of QoS 2 that may arrive there twice.
    fn begin_anew(&mut self) -> usize {
        debug_assert_eq!(self.open, 0, "there is no connection");
        let (all, mut may_double) = (Rc::clone(&self.all), 0);
        let was_sent =
            |item: &&mut Item| !matches!(item.state, State::Queued | State::Refused) && item.state.place().is_some();
        for item in self.items.iter_mut().filter(was_sent) {
            item.left_no_more(&all);
            all.moves(item.bytes(), item.state.place(), Some(Place::Queued));
            may_double += usize::from(item.copy.qos == QoS::ExactlyOnce);
            item.state = State::Queued;
        }
        let (over, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.items).into_iter().partition(|item| item.state.place().is_none());
        self.items = rest;
        for item in over {
            self.finishing.count(item.state, -1);
            self.note(Changed::Ended);
        }
        self.waiting = bodies(&self.items).collect();
        may_double
    }

    /// Takes out copies of shared subscriptions that other members may get, as none is in flight: those of QoS 1. A copy of QoS 2
    /// stays with its session, and ends with it [MQTT-4.8.2-4] [MQTT-4.8.2-5]. Copies that others have are over.
    fn take_shared(&mut self) -> Vec<(NonZeroU32, Rc<Body>)> {
        let (mut taken, waiting, all) = (Vec::new(), &mut self.waiting, &self.all);
        self.items.retain(|item| {
            if item.state == State::GivenUp {
                return false;
            }
            let share = item.copy.share.filter(|_| item.copy.qos == QoS::AtLeastOnce);
            let Some((share, body)) = share.zip(item.body.as_ref()) else { return true };
            waiting.remove(body);
            item.left_no_more(all);
            all.moves(item.bytes(), item.state.place(), None);
            taken.push((share, Rc::clone(body)));
            false
        });
        taken
    }

    /// Whether the client has to acknowledge copies of shared subscriptions first: one was sent before this, or others have it.
    fn is_late(&self, sent_before_s: u32) -> bool {
        let mut open = self.items.range(..self.open);
        open.any(|item| item.state == State::GivenUp || item.is_late(sent_before_s))
    }

    /// Gives copies of QoS 1 that were sent before this to other members, if their shares have any.
    fn give_up_late(
        &mut self,
        sent_before_s: u32,
        has_others: impl Fn(NonZeroU32) -> bool,
    ) -> Vec<(NonZeroU32, Rc<Body>)> {
        let mut given = Vec::new();
        for item in self.items.range_mut(..self.open) {
            let of = item.copy.share.filter(|share| item.copy.qos == QoS::AtLeastOnce && has_others(*share));
            if let Some(share) = of.filter(|_| item.is_late(sent_before_s)) {
                let bytes = item.bytes();
                self.all.moves(bytes, item.state.place(), None);
                self.open_bytes -= bytes;
                item.state = State::GivenUp;
                given.extend(item.body.take().map(|body| (share, body)));
            }
        }
        given
    }

    /// Releases the records of copies of QoS 2 that were sent before this, and that only memory has. Returns the share of each.
    fn release_late(&mut self, sent_before_s: u32) -> Vec<NonZeroU32> {
        let is_late = |item: &&Item| item.copy.qos == QoS::ExactlyOnce && item.is_late(sent_before_s);
        let late = self.items.range(..self.open).filter(is_late);
        let claiming = late.filter_map(|item| item.copy.share.zip(item.body.as_ref().filter(|of| of.is_claiming())));
        let released = claiming.map(|(share, body)| {
            body.meets();
            drop(body.take_claim());
            share
        });
        released.collect()
    }

    /// Makes a copy of a share its client's own; `body`: a separate body of the same message.
    pub(super) fn goes_as_own(&mut self, number: u64, body: Option<Rc<Body>>) {
        let Ok(at) = self.items.binary_search_by_key(&number, |item| item.number) else { return };
        self.items[at].copy.share = None;
        match body {
            Some(body) if at < self.open => self.items[at].body = Some(body),
            Some(body) => self.waits_as(number, body),
            None => {}
        }
    }

    /// Whether the next that waits may be sent. PUBREL waits for no quota [MQTT-3.3.4-10].
    fn has_next(&self, quota: u16) -> bool {
        self.items.get(self.open).is_some_and(|item| self.has_quota(quota) || item.is_finishing())
    }

    /// Appends waiting copies. `is_kept`: the session outlives its connection; otherwise nothing is sent again, except to other
    /// members of a share. `is_logged`: the log has the session.
    fn pump(
        &mut self,
        (peer, quota, is_kept, is_logged): (Peer, u16, bool, bool),
        now: Monotonic,
        unsent: usize,
        (out, passes): (&mut Vec<u8>, Option<&dyn Passes>),
        may_receive: impl Fn(&Publish<'_>) -> bool,
    ) -> Pumped {
        let (mut pumped, from) = (Pumped::default(), out.len());
        while self.has_next(quota) && unsent + (out.len() - from) <= SENT_AHEAD_BYTES_MAX {
            if pumped.dropped() >= DROPPED_AT_ONCE_MAX {
                pumped.is_cut = true;
                break;
            }
            if !self.is_near(self.items[self.open].number) {
                break;
            }
            let item = &mut self.items[self.open];
            if item.state == State::Received {
                encode::ack(peer.version, PacketType::PubRel, item.packet_id(), ReasonCode::SUCCESS, out);
                self.open += 1;
                continue;
            }
            if matches!(item.state, State::Unwritten | State::Refused) {
                item.body.iter().for_each(|body| self.waiting.remove(body));
                self.open_bytes += item.bytes();
                self.open += 1;
                continue;
            }
            let is_unnoted = is_logged && item.is_unnoted(self.noted);
            let waits_for_log = is_unnoted && item.is_for_log();
            if is_unnoted && !waits_for_log || self.unsaved == Unsaved::First {
                self.note_first();
                break;
            }
            if waits_for_log {
                pumped.waits_for_log = true;
                break;
            }
            let is_checked = item.number >= self.unchecked_below;
            match write(item, (peer, passes), now, out, |publish| is_checked || may_receive(publish)) {
                Written::Yes(payload) => {
                    item.body.iter().for_each(|body| self.waiting.remove(body));
                    item.left_no_more(&self.all);
                    if item.state != State::Sent {
                        pumped.sent += 1;
                        pumped.sent_bytes += payload as u64;
                        item.body.take_if(|body| !is_kept && item.copy.share.is_none() && !body.is_claiming());
                        self.all.moves(item.bytes(), item.state.place(), Some(Place::InFlight));
                        item.state = State::Sent;
                    }
                    item.sent_s = second(now);
                    self.open_bytes += item.bytes();
                    self.open += 1;
                    if item.copy.qos == QoS::AtMostOnce {
                        // The remote accepts no other QoS, so no answer follows.
                        self.end_answered(self.open - 1, false);
                    }
                    continue;
                }
                why => {
                    let gone = pumped.of(why);
                    let Some(mut item) = self.items.remove(self.open) else { break };
                    let (body, stays) = self.give_up(&mut item);
                    gone.push(body.as_ref());
                    if stays {
                        self.items.insert(self.open, item);
                    }
                }
            }
        }
        pumped
    }
}

/// The messages of copies, where they are remembered.
fn bodies(items: &VecDeque<Item>) -> impl Iterator<Item = &Rc<Body>> {
    items.iter().filter_map(|item| item.body.as_ref())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Written, with a payload of this size.
    Yes(usize),
    Expired,
    TooLarge,
    Denied,
    Unfit,
}

/// Writes a copy. `passes`: the mapping for a remote. `may_receive`: checked for copies that were never sent.
pub(super) fn write(
    item: &mut Item,
    (peer, passes): (Peer, Option<&dyn Passes>),
    now: Monotonic,
    out: &mut Vec<u8>,
    may_receive: impl Fn(&Publish<'_>) -> bool,
) -> Written {
    let Some(body) = &item.body else { return Written::Expired };
    let Some(publish) = body.publish() else { return Written::Expired };
    let waited_s = body.waited_s(now);
    // DUP does not depend on the publisher's flag [MQTT-3.3.1-1] [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2].
    let dup = item.state != State::Queued;
    // The message had expired before it was restored: the remaining time is rounded up.
    let was_over = item.state == State::Restored && publish.properties.message_expiry_interval_s() == Some(0);
    // A copy that was sent once does not expire [MQTT-4.3.3-7].
    if was_over || item.state != State::Sent && is_expired(&publish, waited_s) {
        return Written::Expired;
    }
    if item.state != State::Sent && !may_receive(&publish) {
        return Written::Denied;
    }
    // A client sends none [MQTT-3.3.4-6].
    let identifiers: &[u32] = if peer.is_remote { &[] } else { &item.copy.identifiers };
    let properties = properties(&publish, peer.version, waited_s, identifiers);
    let Copy { qos, retain, .. } = item.copy;
    let packet_id = item.packet_id();
    let copy = Publish { dup, qos, retain, packet_id, properties: properties.as_properties(), ..publish };
    let from = out.len();
    let mut encode = |copy: &Publish<'_>| {
        let is_written = encode::publish(peer.version, copy, out).is_ok();
        if is_written && out.len() - from <= peer.packet_size_max as usize {
            return Written::Yes(copy.payload.len());
        }
        out.truncate(from);
        Written::TooLarge // [MQTT-3.1.2-25]
    };
    let Some(passes) = passes else { return encode(&copy) };
    let made = now.before(Duration::from_secs(waited_s.into()));
    let (mut written, mut qos) = (Written::Unfit, qos);
    passes.pass(&copy, &item.copy.identifiers, made, &mut |passed: &Publish<'_>| {
        // The remote knows this packet identifier with the QoS of the first sending.
        qos = if item.state == State::Sent { qos } else { passed.qos };
        let is_open = qos > QoS::AtMostOnce;
        written = encode(&Publish {
            qos,
            dup: dup && is_open,
            packet_id: if is_open { packet_id } else { 0 },
            ..passed.clone()
        });
        matches!(written, Written::Yes(_))
    });
    item.copy.qos = qos;
    written
}

/// The result of a new copy at QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The copy must be written now, under this packet identifier.
    Now(u16),
    /// The copy waits.
    Queued,
    /// The copy waits, and this many of the oldest waiting copies were dropped for it: [`Session::take_dropped`].
    DroppedOldest(usize),
    /// There is no room for the copy.
    Dropped,
}

impl Session {
    /// Whether [`Session::hand`] would return [`Handed::Now`]; not for a remote, as its mapping is not known by then. `unsent`:
    /// bytes on their way to the client.
    #[must_use]
    pub fn sends_at_once(&self, unsent: usize) -> bool {
        let is_ready = |outgoing: &Outgoing| outgoing.is_caught_up(self.terms.send_maximum);
        self.conn.is_some()
            && !self.terms.is_remote()
            && unsent <= SENT_AHEAD_BYTES_MAX
            && self.outgoing.as_deref().is_none_or(is_ready)
    }

    /// Hands the session a copy of a message that its client may be sent. `is_stored`: the log will have the copy; one of QoS 2
    /// waits for that. `is_claimed`: a record stays open until the client has acknowledged the copy. `all`: the counts of copies.
    pub fn hand(
        &mut self,
        copy: Copy,
        (unsent, now): (usize, Monotonic),
        (is_stored, is_claimed): (bool, bool),
        (bounds, all): (QueueBounds, &Rc<Remembered>),
        body: impl FnOnce() -> Rc<Body>,
    ) -> Handed {
        let is_ready = self.sends_at_once(unsent);
        let is_logged = self.number().is_some();
        let waits = copy.qos == QoS::ExactlyOnce && (is_stored || is_logged);
        let is_kept = self.expiry_s > 0;
        let next = self.kept.as_ref().map_or(0, |kept| kept.next_copy);
        let outgoing = self.outgoing.get_or_insert_with(|| Box::new(Outgoing::new(next, all)));
        if outgoing.unsaved == Unsaved::First && outgoing.open == outgoing.items.len() {
            outgoing.note_first();
        }
        if is_ready && !waits {
            let number = outgoing.number();
            // Without a kept session nothing is sent again, except to other members of a share.
            let body = (is_kept || is_claimed || copy.share.is_some()).then(body);
            let item = Item { number, state: State::Sent, sent_s: second(now), refusals: 0, copy, body };
            let bytes = item.bytes();
            outgoing.open_bytes += bytes;
            outgoing.items.push_back(item);
            outgoing.open += 1;
            all.moves(bytes, None, Some(Place::InFlight));
            return Handed::Now(packet_id(number));
        }
        let body = body();
        if waits && is_ready && !is_stored && !body.is_for_log() {
            outgoing.note_first();
        }
        outgoing.queue(copy, body, (bounds, self.conn.is_none()))
    }

    /// Whether its queue has no room for a message of this size.
    #[must_use]
    pub fn is_queue_full(&self, bytes: usize, bounds: QueueBounds) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| {
            let sent = if bounds.counts_sent { outgoing.open_bytes } else { 0 };
            let is_over = || sent > 0 && sent + outgoing.waiting.bounded().1 + bytes > bounds.bytes;
            outgoing.is_full(bytes, bounds) || is_over()
        })
    }

    /// Whether a copy waits that the queue had no room for, and that keeps its record open.
    #[must_use]
    pub fn has_windowed(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.waiting.has_windowed())
    }

    /// Whether any copy waits that may be sent.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_next(self.terms.send_maximum))
    }

    /// Whether any copy waits, for any reason.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.open < outgoing.items.len())
    }

    /// Appends the waiting copies, as far as the client may be sent them. `unsent`: bytes on their way to the client already.
    /// `passes`: the mapping, if the client is a remote.
    pub fn pump(&mut self, now: Monotonic, unsent: usize, out: &mut Vec<u8>, passes: Option<&dyn Passes>) -> Pumped {
        let to = (self.peer(), self.terms.send_maximum, self.expiry_s > 0, self.number().is_some());
        let Some(mut outgoing) = self.outgoing.take() else { return Pumped::default() };
        let pumped = outgoing.pump(to, now, unsent, (out, passes), |publish| {
            looks_at_one();
            self.may_receive(publish.topic, publish.qos, publish.retain)
        });
        self.outgoing = Some(outgoing);
        pumped
    }

    /// Notes that the permissions may have changed since waiting copies were queued: each is checked before it is sent
    /// ([`Self::pump`]), as a check of all of them at once would take too long.
    pub fn check_what_waits(&mut self) {
        if self.access.is_some()
            && let Some(outgoing) = &mut self.outgoing
        {
            outgoing.unchecked_below = outgoing.next;
        }
    }

    /// Copies that its client has been sent and not acknowledged, and those that wait.
    #[must_use]
    pub fn copies(&self) -> (usize, usize) {
        self.outgoing.as_deref().map(Outgoing::copies).unwrap_or_default()
    }

    /// Like [`Session::copies`], without unfinished exchanges of QoS 2 with messages that the client has.
    #[must_use]
    pub fn undelivered(&self) -> (usize, usize) {
        let Some(outgoing) = self.outgoing.as_deref() else { return (0, 0) };
        let (open, waiting) = outgoing.copies();
        let finishing = |from, to| outgoing.items.range(from..to).filter(|item| item.is_finishing()).count();
        if outgoing.finishing.all == 0 {
            return (open, waiting);
        }
        let of_open = finishing(0, open);
        (open - of_open, waiting - (outgoing.finishing.all - of_open))
    }

    /// The arrival of the oldest copy in flight, and of the oldest that waits. A session that ends with its connection does not
    /// remember the former.
    #[must_use]
    pub fn oldest_copies(&self) -> (Option<Monotonic>, Option<Monotonic>) {
        let Some(outgoing) = self.outgoing.as_deref() else { return (None, None) };
        let first = |from, to| outgoing.items.range(from..to).find_map(|item| Some(item.body.as_ref()?.since()));
        (first(0, outgoing.open), first(outgoing.open, outgoing.items.len()))
    }

    /// Copies in flight to the client, and the bytes of those that are remembered.
    #[must_use]
    pub fn on_its_way(&self) -> (usize, usize) {
        self.outgoing.as_deref().map_or((0, 0), |outgoing| (outgoing.open, outgoing.open_bytes))
    }

    /// The most copies that the client may be sent before it has acknowledged any.
    #[must_use]
    pub fn send_maximum(&self) -> usize {
        self.terms.send_maximum.into()
    }

    /// Bytes of the copies that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outgoing.as_deref().map_or(0, |outgoing| outgoing.waiting.all().1)
    }

    /// Takes out the copies that the client has refused, or that were dropped for another one, since the last call.
    pub fn take_dropped(&mut self) -> Gone {
        self.outgoing.as_mut().map(|outgoing| std::mem::take(&mut outgoing.dropped)).unwrap_or_default()
    }

    /// Drops the copies that the client has not acknowledged, as the session has ended.
    pub(super) fn discard_copies(&mut self) -> Gone {
        let is_bound = |item: &&Item| item.copy.share.is_some() && item.copy.qos == QoS::ExactlyOnce;
        let bound = self.outgoing.iter().flat_map(|outgoing| &outgoing.items).filter(is_bound);
        // No other member of the share may get the message [MQTT-4.8.2-5].
        bound.filter_map(|item| item.body.as_ref()).for_each(|body| body.meets());
        self.let_go_of_copies()
    }

    /// Lets go of the copies of a session that moves to another instance with its log. A message of a share that only memory has is
    /// offered to another member.
    pub(super) fn let_go_of_copies(&mut self) -> Gone {
        self.outgoing.take().map(|outgoing| outgoing.into_gone()).unwrap_or_default()
    }

    /// Handles PUBACK: the client has accepted or refused a message of QoS 1; until then it is unacknowledged [MQTT-4.3.2-3], and
    /// in either case it is not sent again, nor to another member of a share [MQTT-4.4.0-2] [MQTT-4.8.2-6]. A PUBACK for another
    /// QoS, or for no message, is ignored.
    pub(super) fn puback(&mut self, id: u16, is_error: bool) {
        let Some(outgoing) = &mut self.outgoing else { return };
        if let Some(at) = outgoing.find(id).filter(|at| outgoing.items[*at].is_open_at(QoS::AtLeastOnce)) {
            outgoing.end_answered(at, is_error);
        }
    }

    /// Handles PUBREC: the client has accepted or refused a message of QoS 2; until then it is unacknowledged [MQTT-4.3.3-3]. After
    /// that PUBREL is unacknowledged [MQTT-4.3.3-4], and the message is not sent again [MQTT-4.3.3-6]. PUBREL waits if the log has
    /// the message: after a crash it would be sent again to a client that has released its packet identifier.
    pub(super) fn pubrec(&mut self, id: u16, is_error: bool, out: &mut Vec<u8>) {
        let version = self.terms.version;
        let found = self.outgoing.as_mut().and_then(|outgoing| {
            let at = outgoing.find(id).filter(|at| outgoing.items[*at].is_open_at(QoS::ExactlyOnce))?;
            Some((outgoing, at))
        });
        let code = match found {
            // An error code ends the exchange (section 4.3.3).
            Some((outgoing, at)) if is_error => return outgoing.end_answered(at, true),
            Some((outgoing, at)) => {
                let item = &mut outgoing.items[at];
                let bytes = item.bytes();
                outgoing.all.moves(bytes, item.state.place(), None);
                if !item.is_finishing() {
                    outgoing.all.acknowledges();
                    item.body.iter().for_each(|body| body.meets());
                }
                if outgoing.finishing.has_it(item) {
                    return outgoing.note(Changed::Received);
                }
                outgoing.open_bytes -= bytes;
                ReasonCode::SUCCESS
            }
            None if is_error => return,
            // The client may finish an exchange that it knows of (section 3.6.2.1).
            None => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        encode::ack(version, PacketType::PubRel, id, code, out);
    }

    /// Handles PUBCOMP: the exchange is over [MQTT-4.3.3-5].
    pub(super) fn pubcomp(&mut self, id: u16) {
        let Some(outgoing) = &mut self.outgoing else { return };
        if let Some(at) = outgoing.find(id).filter(|at| outgoing.items[*at].state == State::Received) {
            let _ = outgoing.end(at);
        }
    }

    /// See [`Outgoing::begin_anew`].
    pub(super) fn begin_outgoing_anew(&mut self) -> usize {
        self.outgoing.as_mut().map_or(0, |outgoing| outgoing.begin_anew())
    }

    /// Takes copies of shared subscriptions that other members may get, as the connection is gone.
    pub(super) fn take_shared(&mut self) -> Vec<(NonZeroU32, Rc<Body>)> {
        self.outgoing.as_mut().map(|outgoing| outgoing.take_shared()).unwrap_or_default()
    }

    /// Whether the client is late in acknowledging a share's messages: [`crate::config::Delivery::share_ack_timeout`].
    #[must_use]
    pub fn is_late(&self, sent_before: Monotonic) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_late(second(sent_before)))
    }

    /// Gives up messages of shares that the client was sent at QoS 1 before `sent_before` and has not acknowledged, oldest first:
    /// other members get them. The client may still acknowledge them; until then, they count as in flight. `has_others`: the share
    /// has other members to get them.
    pub fn give_up_late(
        &mut self,
        sent_before: Monotonic,
        has_others: impl Fn(NonZeroU32) -> bool,
    ) -> Vec<(NonZeroU32, Rc<Body>)> {
        let outgoing = self.outgoing.as_mut();
        outgoing.map(|outgoing| outgoing.give_up_late(second(sent_before), has_others)).unwrap_or_default()
    }

    /// Releases the records of messages of shares that the client was sent at QoS 2 before `sent_before` and has not answered, if
    /// they end with its connection: no other session may have them [MQTT-4.8.2-5], so that nothing waits for them. Returns the
    /// share of each.
    pub fn release_late(&mut self, sent_before: Monotonic) -> Vec<NonZeroU32> {
        let outgoing = self.outgoing.as_mut().filter(|_| self.expiry_s == 0);
        outgoing.map(|outgoing| outgoing.release_late(second(sent_before))).unwrap_or_default()
    }

    /// Whether the client has unanswered messages of shares.
    #[must_use]
    pub fn has_shared(&self) -> bool {
        let mut items = self.outgoing.iter().flat_map(|outgoing| outgoing.items.range(..outgoing.open));
        items.any(|item| item.copy.share.is_some())
    }

    /// The messages of a share that the client was sent at QoS 1 and has not acknowledged, with the numbers of the copies.
    #[must_use]
    pub fn shared_of(&self, share: NonZeroU32) -> Vec<(u64, Copy, Rc<Body>)> {
        let items = self.outgoing.iter().flat_map(|outgoing| &outgoing.items);
        let of_share = items.filter(|item| item.copy.share == Some(share) && item.copy.qos == QoS::AtLeastOnce);
        of_share.filter_map(|item| Some((item.number, item.copy.clone(), Rc::clone(item.body.as_ref()?)))).collect()
    }

    /// Handles the end of the connection.
    pub(super) fn rewind_outgoing(&mut self) {
        let releases = self.expiry_s > 0 && self.number().is_none();
        match &mut self.outgoing {
            Some(outgoing) if !outgoing.items.is_empty() => outgoing.rewind(releases),
            // The queue's record refers to its numbers: they continue.
            Some(outgoing) if outgoing.record.is_some() || outgoing.unsaved > Unsaved::Nothing => {}
            // The log may still have copies that are over: the next process must not take later ones for earlier.
            queue => {
                if let (Some(outgoing), Some(kept)) = (queue.take(), &mut self.kept) {
                    kept.next_copy = outgoing.next;
                }
            }
        }
    }
}

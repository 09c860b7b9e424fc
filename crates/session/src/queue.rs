//! The part of a session's queue that must survive a crash besides the messages, which are in the log with the numbers of their
//! copies: the copies that are over, and those of QoS 2 that the client has.
//!
//! As bytes: the session's number in the log u64, the number of its next copy u64, the number below which all copies are over u64,
//! the number of runs above it that are over u32, each with its first number u64 and its length u32, and then the numbers of copies
//! that the client has and has not released, u64 each. All big-endian. A run of length 0 is a copy of QoS 2 that the client may
//! have, and that only memory had: the next process has the client release its packet identifier.

use std::collections::VecDeque;
use std::rc::Rc;

use super::body::{Body, Copy, Remembered};
use super::claim::RecordPlace;
use super::item::{Item, State};
use super::outgoing::Outgoing;
use super::state::Session;
use super::store::{SessionKey, Sessions};
use forebay_base::limits::UNLOGGED_NOTED_MAX;
use forebay_mqtt::packet::QoS;

/// Greater than the numbers of all copies that a session ever gets.
pub const COPY_NUMBER_MAX: u64 = 1 << 60;

/// The reason why a queue differs from its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// The record is up to date.
    #[default]
    No,
    /// A copy is over, of a message that others wait for. If this change is lost, the client gets the copy again.
    Ended,
    /// The client has a message of QoS 2: PUBREL waits until that is written down.
    Received,
}

/// Changes of a queue that the log does not have yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsaved {
    /// No changes.
    #[default]
    Nothing,
    /// Changes that may wait: without them the next process repeats some copies.
    Repeats,
    /// Changes that must be durable before the client is sent another copy.
    First,
}

/// The record of a session's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedQueue {
    /// The session's number in the log.
    pub session: u64,
    /// The number of the session's next copy.
    pub next: u64,
    first: u64,
    /// Runs of copies above `first` that are over: first number and length, ascending. A run of length 0 is a copy of QoS 2 that
    /// only memory had, and that the client may have.
    over: Vec<(u64, u32)>,
    received: Vec<u64>,
}

impl SavedQueue {
    fn new(session: u64, outgoing: &Outgoing) -> Self {
        let first = outgoing.items.front().map_or(outgoing.next, |oldest| oldest.number);
        let mut saved = Self { session, next: outgoing.next, first, ..Self::default() };
        let (mut expected, mut at) = (first, 0);
        while at < outgoing.items.len() {
            let number = outgoing.items[at].number;
            saved.over_between(expected, number);
            let run = outgoing.run_from(at);
            (expected, at) = (number + run as u64, at + run);
        }
        saved.over_between(expected, outgoing.next);
        if outgoing.has_unlogged() {
            saved.over.extend(outgoing.unlogged().take(UNLOGGED_NOTED_MAX).map(|number| (number, 0)));
            saved.over.sort_unstable();
        }
        let finishing = outgoing.items.iter().filter(|item| item.is_finishing());
        saved.received.extend(finishing.take(outgoing.finishing.all).map(|item| item.number));
        saved
    }

    fn over_between(&mut self, from: u64, to: u64) {
        if from < to {
            self.over.push((from, u32::try_from(to - from).unwrap_or(u32::MAX)));
        }
    }

    /// The record for a session with another number.
    #[must_use]
    pub fn of(self, session: u64) -> Self {
        Self { session, ..self }
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.session, self.next, self.first] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.over.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (from, count) in &self.over {
            out.extend_from_slice(&from.to_be_bytes());
            out.extend_from_slice(&count.to_be_bytes());
        }
        for number in &self.received {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Decodes all of the bytes. `None`: they are damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<24>()?;
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[at * 8 + byte]));
        let (count, rest) = rest.split_first_chunk()?;
        let (over, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*count)).ok()?.checked_mul(12)?)?;
        let run = |run: &[u8]| {
            let (from, count) = run.split_first_chunk()?;
            Some((u64::from_be_bytes(*from), u32::from_be_bytes(count.try_into().ok()?)))
        };
        let (received, rest) = rest.as_chunks::<8>();
        let saved = Self {
            session: number(0),
            next: number(1),
            first: number(2),
            over: over.chunks_exact(12).map(run).collect::<Option<_>>()?,
            received: received.iter().map(|number| u64::from_be_bytes(*number)).collect(),
        };
        let runs = saved.over.iter().map(|(from, _)| from);
        let numbers = [&saved.next, &saved.first].into_iter().chain(runs).chain(&saved.received);
        let are_sound = numbers.copied().all(|number| number < COPY_NUMBER_MAX);
        (rest.is_empty() && are_sound).then_some(saved)
    }

    /// Whether a copy of a message in the log is over.
    #[must_use]
    pub fn is_over(&self, number: u64) -> bool {
        let runs = self.over.partition_point(|(from, _)| *from <= number);
        let in_run = |(from, count): &(u64, u32)| number - from < u64::from(*count);
        number < self.first
            || runs.checked_sub(1).is_some_and(|at| in_run(&self.over[at]))
            || self.received.binary_search(&number).is_ok()
    }
}

impl Session {
    /// Changes since the last call that require writing the queue's record again.
    pub fn take_queue_change(&mut self) -> Changed {
        self.outgoing.as_mut().map_or(Changed::No, |outgoing| std::mem::take(&mut outgoing.changed))
    }

    /// The record to write of its queue, and the number in the log of the last one. `None`: the session is not kept
    /// there.
    #[must_use]
    pub fn save_queue(&self) -> Option<(SavedQueue, Option<u64>)> {
        let (number, outgoing) = (self.number()?, self.outgoing.as_ref()?);
        Some((SavedQueue::new(number, outgoing), outgoing.record))
    }

    /// The number of the queue's record in the log.
    pub(super) fn queue_record(&self) -> Option<u64> {
        self.outgoing.as_ref().and_then(|outgoing| outgoing.record)
    }

    /// Notes that the queue is written down under this number; `None`: it need not be, as the session is not kept in the log.
    /// Appends PUBREL for the copies that waited for that. Returns whether some PUBREL must be sent, now or later, when that is
    /// durable.
    pub fn queue_saved(&mut self, number: Option<u64>, out: &mut Vec<u8>) -> bool {
        let version = self.terms.version;
        self.outgoing.as_mut().is_some_and(|outgoing| {
            outgoing.record = number.or(outgoing.record);
            if number.is_some() && outgoing.has_unlogged() {
                outgoing.noted = outgoing.noted_below();
            }
            outgoing.written(version, out)
        })
    }

    /// Whether copies wait for a record of its queue to be durable.
    #[must_use]
    pub fn sends_after_record(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.unsaved == Unsaved::First)
    }

    /// The number of the latest copy.
    #[must_use]
    pub fn last_copy(&self) -> u64 {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.next.saturating_sub(1))
    }

    /// The first copy with this number or a later one that only memory has, and that keeps its record open: its number, and the
    /// copy and message for the log.
    #[must_use]
    pub fn next_unlogged(&self, from: u64) -> Option<(u64, &Copy, &Rc<Body>)> {
        let items = &self.outgoing.as_ref()?.items;
        let mut later = items.range(items.partition_point(|item| item.number < from)..);
        later.find_map(|item| Some((item.number, &item.copy, item.body.as_ref().filter(|body| body.is_claiming())?)))
    }

    /// The places of the records that only memory has for the session, as its log had no room for their copies.
    pub fn unlogged_places(&self) -> impl Iterator<Item = RecordPlace> {
        let items = self.outgoing.iter().flat_map(|outgoing| &outgoing.items);
        let bodies =
            items.filter(|item| item.copy.share.is_none() && item.is_unlogged()).filter_map(|item| item.body.as_ref());
        bodies.filter_map(|body| Some(body.claim()?.place()?.place))
    }

    /// The client's next copy if it waits for the log ([`super::Pumped::waits_for_log`]): its number, and the body for the log.
    #[must_use]
    pub fn next_for_log(&self) -> Option<(u64, &Copy, &Rc<Body>)> {
        let outgoing = self.outgoing.as_ref()?;
        let item = outgoing.items.get(outgoing.open).filter(|item| item.is_for_log())?;
        Some((item.number, &item.copy, item.body.as_ref()?))
    }

    /// Sends copies that wait for the log from memory, once their numbers are written down.
    pub fn sends_from_memory(&mut self) {
        self.outgoing.as_mut().into_iter().for_each(|outgoing| outgoing.note_first());
    }

    /// Whether a copy of QoS 2 waits for the log: the client has not been sent it, and no record notes it.
    #[must_use]
    pub fn waits_unnoted(&self, number: u64) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| {
            let at = outgoing.items.binary_search_by_key(&number, |item| item.number);
            at.is_ok_and(|at| at >= outgoing.open && outgoing.items[at].is_unnoted(outgoing.noted))
        })
    }

    /// Gives a copy, which the client may have been sent, a separate body of the same message, for which no record stays open.
    pub fn is_logged_as(&mut self, number: u64, body: Rc<Body>) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.is_logged_as(number, body);
        }
    }

    /// Gives a waiting copy a separate body of the same message, for which no record stays open.
    pub fn waits_as(&mut self, number: u64, body: Rc<Body>) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.waits_as(number, body);
        }
    }

    /// Makes a copy of a share the client's own, which no other member gets; `body`: a separate body of the same message.
    pub fn goes_as_own(&mut self, number: u64, body: Option<Rc<Body>>) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.goes_as_own(number, body);
        }
    }

    /// Takes back the latest copy, for which the log has no room. True: it is gone; false: the client has been sent it.
    pub fn take_back(&mut self, number: u64) -> bool {
        let Some(outgoing) = &mut self.outgoing else { return false };
        let at = outgoing.items.iter().rposition(|item| item.number == number && item.state == State::Queued);
        at.is_some_and(|at| outgoing.drop_queued(at).is_some())
    }
}

impl Sessions {
    /// Takes up the queue of a restored session: copies of messages in the log with their numbers, ascending, and the queue's
    /// record with its number. It is not known which of the copies the client was sent. Returns the number of copies.
    pub fn restore_queue(
        &mut self,
        key: SessionKey,
        copies: impl IntoIterator<Item = (u64, Copy, Rc<Body>)>,
        saved: Option<(u64, SavedQueue)>,
        all: &Rc<Remembered>,
    ) -> usize {
        let Some(session) = self.sessions.get_mut(key) else { return 0 };
        let (record, saved) = saved.map_or_else(Default::default, |(record, saved)| (Some(record), saved));
        let copies = copies.into_iter().map(|(number, copy, body)| Item {
            number,
            state: State::Restored,
            sent_s: 0,
            refusals: 0,
            copy,
            body: Some(body),
        });
        let from_memory = saved.over.iter().filter(|(_, count)| *count == 0).map(|(number, _)| number);
        let received = saved.received.iter().chain(from_memory).map(|number| Item {
            number: *number,
            state: State::Received,
            sent_s: 0,
            refusals: 0,
            copy: Copy { qos: QoS::ExactlyOnce, retain: false, identifiers: Box::default(), share: None },
            body: None,
        });
        let mut items: VecDeque<Item> = copies.chain(received).collect();
        // A copy that only memory had may have been logged after the queue was written down: then it is like any other copy.
        items.make_contiguous().sort_by_key(|item| (item.number, item.state != State::Restored));
        let mut last = None;
        items.retain(|item| last.replace(item.number) != Some(item.number));
        let behind = items.back().map_or(0, |item| item.number + 1);
        let copies = items.iter().filter(|item| item.state == State::Restored).count();
        session.outgoing = Some(Box::new(Outgoing::restored(items, saved.next.max(behind), record, all)));
        copies
    }
}

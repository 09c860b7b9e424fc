//! A copy in a client's queue, and the number of exchanges that are not finished yet.

use std::collections::VecDeque;
use std::rc::Rc;

use super::body::{Body, Copy, Place, Remembered};
use forebay_mqtt::packet::QoS;
use forebay_runtime::seam::Monotonic;

/// The number of packet identifiers.
pub(super) const IDS: u64 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The client has not been sent the copy.
    Queued,
    /// The copy was restored from the log: its client may have been sent it.
    Restored,
    /// The client may have the copy.
    Sent,
    /// QoS 2: the client has confirmed the copy, or will not get it any more. PUBREL waits until that is written down.
    Unwritten,
    /// Like [`State::Unwritten`], and PUBREL may be sent.
    Received,
    /// QoS 1: other members of the share get the message, as the client has not acknowledged it in time. Its packet identifier is
    /// in use until the client does.
    GivenUp,
    /// A remote has refused the copy: it keeps its place until it is sent again, or becomes a dead letter.
    Refused,
}

impl State {
    /// The place of the copy; `None`: the copy is over, and its exchange is not.
    pub(super) const fn place(self) -> Option<Place> {
        match self {
            Self::Queued | Self::Restored => Some(Place::Queued),
            Self::Sent | Self::Refused => Some(Place::InFlight),
            Self::Unwritten | Self::Received | Self::GivenUp => None,
        }
    }

    const fn is_finishing(self) -> bool {
        matches!(self, Self::Unwritten | Self::Received)
    }
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) state: State,
    /// The time of sending on the present connection, in whole seconds ([`second`]).
    pub(super) sent_s: u32,
    /// The number of refusals by a remote.
    pub(super) refusals: u8,
    pub(super) copy: Copy,
    /// The message; `None`: the copy will not be sent again.
    pub(super) body: Option<Rc<Body>>,
}

impl Item {
    pub(super) fn packet_id(&self) -> u16 {
        packet_id(self.number)
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.packet().len())
    }

    /// Whether the copy may be dropped if it is not in flight on the present connection: a copy of QoS 2 that the client may have
    /// been sent has left its packet identifier there, and a window bounds the copies of records that stay open.
    pub(super) fn may_go(&self) -> bool {
        !self.body.as_ref().is_some_and(|body| body.is_windowed()) && self.may_end()
    }

    /// Whether only memory has the copy, its record stays open, and its client, which is away, can do without it.
    pub(super) fn may_go_unlogged(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.is_claiming() && !body.is_stored()) && self.may_end()
    }

    fn may_end(&self) -> bool {
        match self.state {
            State::Queued => true,
            State::Restored | State::Sent => self.copy.qos == QoS::AtLeastOnce,
            State::Unwritten | State::Received | State::GivenUp | State::Refused => false,
        }
    }

    /// Whether the copy may be dropped although it was sent, if its client is away.
    fn may_be_left(&self) -> bool {
        self.state == State::Sent && self.copy.qos == QoS::AtLeastOnce && self.body.is_some()
    }

    /// Whether the client may answer the copy as one of this QoS.
    pub(super) fn is_open_at(&self, qos: QoS) -> bool {
        self.copy.qos == qos && self.state != State::Refused
    }

    /// Notes that the client is away.
    pub(super) fn leaves(&self, all: &Remembered) {
        if self.may_be_left() {
            all.leaves(self.bytes());
        }
    }

    /// Ends [`Item::leaves`]: the copy of an absent client is over, or the client has reconnected and is sent it again.
    pub(super) fn left_no_more(&self, all: &Remembered) {
        if self.may_be_left() {
            all.left_no_more(self.bytes());
        }
    }

    /// Whether the copy is over, but its exchange of QoS 2 is not.
    pub(super) fn is_finishing(&self) -> bool {
        self.state.is_finishing()
    }

    /// Whether the copy is of a shared subscription, was sent before this time, and is not acknowledged.
    pub(super) fn is_late(&self, sent_before_s: u32) -> bool {
        self.state == State::Sent && self.copy.share.is_some() && self.sent_s < sent_before_s
    }

    /// Whether the log has its message.
    pub(super) fn is_logged(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.is_stored())
    }

    /// Whether only memory has its message.
    pub(super) fn is_unlogged(&self) -> bool {
        self.body.as_ref().is_some_and(|body| !body.is_stored())
    }

    /// Whether the copy is of QoS 2, only memory has it, the client has not been sent it, and no record notes it, as copies below `noted` are.
    pub(super) fn is_unnoted(&self, noted: u64) -> bool {
        let is_new = self.copy.qos == QoS::ExactlyOnce && self.state == State::Queued;
        self.number >= noted && is_new && self.is_unlogged()
    }

    /// Whether the message goes to the log before it is sent to the client.
    pub(super) fn is_for_log(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.is_for_log())
    }

    /// Whether the log has the message for other sessions, too: the end of the copy has to be written down then.
    pub(super) fn shares_message(&self) -> bool {
        self.is_logged() && self.body.as_ref().is_some_and(|body| Rc::strong_count(body) > 1)
    }
}

/// The number of unfinished exchanges, and of those among them that must be written down first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finishing {
    pub(super) all: usize,
    pub(super) unwritten: usize,
}

impl Finishing {
    pub(super) fn of(items: &VecDeque<Item>) -> Self {
        let mut finishing = Self::default();
        items.iter().for_each(|item| finishing.count(item.state, 1));
        finishing
    }

    pub(super) fn count(&mut self, state: State, more: isize) {
        if state.is_finishing() {
            self.all = self.all.wrapping_add_signed(more);
        }
        if state == State::Unwritten {
            self.unwritten = self.unwritten.wrapping_add_signed(more);
        }
    }

    fn mark(&mut self, item: &mut Item, state: State) {
        self.count(item.state, -1);
        self.count(state, 1);
        item.state = state;
    }

    /// Notes that the client has a copy of QoS 2, or will not get it any more. True: this has to be written down before PUBREL is
    /// sent.
    pub(super) fn has_it(&mut self, item: &mut Item) -> bool {
        let is_stored = item.body.as_ref().is_some_and(|body| body.is_stored());
        if is_stored {
            self.mark(item, State::Unwritten);
        } else {
            self.mark(item, State::Received);
            item.body = None;
        }
        is_stored
    }
}

/// Whole seconds of a time.
pub(super) fn second(now: Monotonic) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX)
}

/// The packet identifier of a copy with this number.
pub(super) fn packet_id(number: u64) -> u16 {
    // 1 to 65,535.
    (number % IDS) as u16 + 1
}

#[cfg(test)]
thread_local! {
    /// Copies that were looked at.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts, in tests, the cost of a long queue.
#[inline]
pub(super) fn looks_at_one() {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + 1);
}

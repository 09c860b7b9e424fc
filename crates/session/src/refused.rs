//! Copies that a remote has refused. Each keeps its place in the window until it is sent again, is given up, or its dead letter is
//! safe: a refused copy takes no memory beyond that of a copy in flight.

use std::rc::Rc;

use super::body::{Body, Place};
use super::item::{State, second};
use super::outgoing::{Outgoing, Pumped, Written, write};
use super::peer::Peer;
use super::remote::Passes;
use super::state::Session;
use forebay_mqtt::packet::QoS;
use forebay_runtime::seam::Monotonic;

/// `RefusedCopy` is a copy that a remote has refused just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedCopy {
    /// The copy's number in the session.
    pub number: u64,
    /// The number of refusals, this one included.
    pub times: u8,
}

impl Outgoing {
    /// The place of a refused copy.
    fn refused(&self, number: u64) -> Option<usize> {
        let at = self.items.binary_search_by_key(&number, |item| item.number).ok()?;
        (self.items[at].state == State::Refused).then_some(at)
    }

    fn refuse(&mut self, id: u16, qos: QoS) -> Option<RefusedCopy> {
        let at = self.find(id).filter(|at| self.items[*at].is_open_at(qos) && self.items[*at].state == State::Sent)?;
        let item = &mut self.items[at];
        item.state = State::Refused;
        item.refusals = item.refusals.saturating_add(1);
        Some(RefusedCopy { number: item.number, times: item.refusals })
    }

    fn refuse_sent(&mut self, number: u64) -> bool {
        let Ok(at) = self.items.binary_search_by_key(&number, |item| item.number) else { return false };
        let was_sent = self.items[at].state == State::Sent;
        if was_sent {
            self.items[at].state = State::Refused;
        }
        was_sent
    }

    fn send_again(
        &mut self,
        number: u64,
        (peer, passes): (Peer, Option<&dyn Passes>),
        now: Monotonic,
        out: &mut Vec<u8>,
    ) -> Pumped {
        let mut pumped = Pumped::default();
        let Some(at) = self.refused(number) else { return pumped };
        let item = &mut self.items[at];
        self.all.moves(item.bytes(), item.state.place(), Some(Place::Queued));
        // The refusal has freed the packet identifier (section 4.3): the copy is sent as a new one.
        item.state = State::Queued;
        if at >= self.open {
            // The copy is sent in its order in the queue.
            return pumped;
        }
        match write(item, (peer, passes), now, out, |_| true) {
            Written::Yes(payload) => {
                (pumped.sent, pumped.sent_bytes) = (1, payload as u64);
                self.all.moves(item.bytes(), item.state.place(), Some(Place::InFlight));
                (item.state, item.sent_s) = (State::Sent, second(now));
                if item.copy.qos == QoS::AtMostOnce {
                    self.end_answered(at, false);
                }
            }
            why => {
                self.open -= 1;
                self.open_bytes -= item.bytes();
                if let Some(mut item) = self.items.remove(at) {
                    item.body.iter().for_each(|body| self.waiting.add(body));
                    let (body, _) = self.give_up(&mut item);
                    pumped.of(why).push(body.as_ref());
                }
            }
        }
        pumped
    }

    fn end_refused(&mut self, number: u64) -> bool {
        let Some(at) = self.refused(number) else { return false };
        if at >= self.open {
            let Some(gone) = self.drop_queued(at) else { return false };
            gone.body.iter().for_each(|body| body.meets());
        } else {
            self.end(at).iter().for_each(|body| body.meets());
        }
        true
    }

    fn take_refused_up(&mut self) {
        let all = Rc::clone(&self.all);
        for item in self.items.iter_mut().filter(|item| item.state == State::Refused) {
            all.moves(item.bytes(), item.state.place(), Some(Place::Queued));
            item.state = State::Queued;
        }
    }
}

impl Session {
    /// Handles a refusal, by PUBACK or PUBREC, of the copy that the remote was sent under this packet identifier. `None`: no such
    /// copy is in flight.
    pub fn refuse(&mut self, id: u16, qos: QoS) -> Option<RefusedCopy> {
        self.outgoing.as_mut()?.refuse(id, qos)
    }

    /// Handles a refusal without words of the copy with this number. Returns whether the remote was sent it and has not answered.
    pub fn refuse_sent(&mut self, number: u64) -> bool {
        self.outgoing.as_mut().is_some_and(|outgoing| outgoing.refuse_sent(number))
    }

    /// The message of a refused copy. `None`: the copy is refused no more.
    #[must_use]
    pub fn refused(&self, number: u64) -> Option<&Rc<Body>> {
        let outgoing = self.outgoing.as_ref()?;
        outgoing.items[outgoing.refused(number)?].body.as_ref()
    }

    /// Sends a refused copy again, as a new one. Without a connection it is sent in its order in the queue.
    pub fn send_again(
        &mut self,
        number: u64,
        now: Monotonic,
        out: &mut Vec<u8>,
        passes: Option<&dyn Passes>,
    ) -> Pumped {
        let peer = self.peer();
        self.outgoing.as_mut().map(|outgoing| outgoing.send_again(number, (peer, passes), now, out)).unwrap_or_default()
    }

    /// Ends a refused copy. Returns whether it was still refused.
    pub fn end_refused(&mut self, number: u64) -> bool {
        self.outgoing.as_mut().is_some_and(|outgoing| outgoing.end_refused(number))
    }

    /// Has refused copies sent again, as their refusals are remembered nowhere any more. There is no connection.
    pub fn take_refused_up(&mut self) {
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.take_refused_up());
    }
}

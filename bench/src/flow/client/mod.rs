//! One publisher: bytes in, bytes out, no socket. It keeps to the standard on retransmission, its order, and the server's Receive
//! Maximum (`send`); a violation by the server is an error (`hear`).

mod hear;
mod send;

use super::plan::Plan;
use super::tally::Tally;
use super::told::Told;
use super::wire;

/// The behaviour of all clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Sessions outlive connections.
    pub(crate) kept: bool,
    pub(crate) keep_alive_s: u16,
    /// Most messages of QoS 1 and 2 unanswered.
    pub(crate) window: usize,
    /// Messages in each write.
    pub(crate) per_write: usize,
    /// Whether the service's sessions outlive its process.
    pub(crate) spooled: bool,
    /// Whether open messages of a forgotten session are sent once more.
    pub(crate) insist: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no connection.
    Down,
    /// CONNECT is sent.
    Greeting,
    Open,
    /// All messages are answered; a last PINGRESP is awaited, which proves that QoS 0 was read too.
    Ending,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Free,
    /// PUBACK or PUBREC is pending.
    Published,
    /// PUBCOMP is pending.
    Released,
}

/// A packet id and its message.
struct Slot {
    hold: Hold,
    qos: u8,
    /// Whether it was sent on the present connection.
    on_wire: bool,
    /// Whether its session was forgotten: it is sent again as a new message.
    anew: bool,
    number: u64,
    sent_ns: u64,
    /// Order of PUBLISH and PUBREL packets, in which they are sent again.
    order: u64,
}

/// See the module.
pub(crate) struct Client {
    pub(crate) index: u32,
    pub(crate) v5: bool,
    pub(crate) state: State,
    pub(crate) told: Told,
    /// Bytes for the socket, from `written` on.
    pub(crate) out: Vec<u8>,
    pub(crate) written: usize,
    /// The number below which messages are due.
    pub(crate) due: u64,
    /// The start of the service that the present connection goes to, counted from 0.
    pub(crate) generation: u32,
    /// Session expiry of the last CONNECT, and of the last CONNACK.
    asked: Option<u32>,
    known: Option<u32>,
    /// Time of the last packet, and of the PINGREQ without an answer; nanoseconds of the run.
    last_out_ns: u64,
    ping_ns: Option<u64>,
    manner: Manner,
    topics: Vec<String>,
    total: u64,
    input: Vec<u8>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Slots to be sent again, oldest last.
    again: Vec<u16>,
    limit: usize,
    on_wire: usize,
    order: u64,
    /// Whether an earlier CONNECT to this process of the service was not answered.
    asked_before: bool,
    /// First messages sent on this connection, their number at which it breaks off, and whether with a DISCONNECT.
    sent_here: u64,
    break_after: Option<(u64, bool)>,
}

impl Client {
    pub(crate) fn new(index: u32, plan: &Plan, manner: Manner) -> Self {
        let total = plan.messages_of(index);
        let told = Told { marks: Vec::with_capacity(total.min(1 << 20) as usize), ..Told::default() };
        Self {
            index,
            v5: plan.is_v5(index),
            state: State::Down,
            told,
            out: Vec::new(),
            written: 0,
            due: 0,
            generation: 0,
            asked: None,
            known: None,
            last_out_ns: 0,
            ping_ns: None,
            manner,
            topics: (0..plan.topics).map(|topic| plan.topic_name(index, topic)).collect(),
            total,
            input: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
            limit: 0,
            on_wire: 0,
            order: 0,
            asked_before: false,
            sent_here: 0,
            break_after: None,
        }
    }

    /// Messages that were sent once at least.
    pub(crate) fn next(&self) -> u64 {
        self.told.marks.len() as u64
    }

    /// The connection is made: sends CONNECT.
    pub(crate) fn greet(&mut self, plan: &Plan, now_ns: u64) {
        let id = format!("flow-{:08x}-{}", plan.run, self.index);
        wire::connect(&mut self.out, self.v5, &id, self.manner.kept, self.known.is_none(), self.manner.keep_alive_s);
        self.asked_before = self.asked == Some(self.generation) && self.known != self.asked;
        self.asked = Some(self.generation);
        self.state = State::Greeting;
        self.last_out_ns = now_ns;
    }

    /// Sends nothing new from now on.
    pub(crate) fn end(&mut self) {
        self.total = self.next();
    }

    /// The connection is lost.
    pub(crate) fn down(&mut self) {
        self.state = State::Down;
        self.out.clear();
        self.written = 0;
        self.input.clear();
        self.on_wire = 0;
        self.ping_ns = None;
        self.slots.iter_mut().for_each(|slot| slot.on_wire = false);
    }

    /// When the PINGREQ without an answer was written.
    pub(crate) fn pinged_ns(&self) -> Option<u64> {
        self.ping_ns
    }

    /// Puts a PINGREQ if nothing was sent for half the keep-alive, or nothing heard since `heard_ns`.
    pub(crate) fn keep_alive(&mut self, now_ns: u64, heard_ns: u64, tally: &mut Tally) {
        let half_ns = u64::from(self.manner.keep_alive_s) * 500_000_000;
        let silent = half_ns > 0 && now_ns.saturating_sub(self.last_out_ns.min(heard_ns)) >= half_ns;
        if silent && self.state == State::Open && self.ping_ns.is_none() {
            self.ping(now_ns, tally);
        }
    }

    fn ping(&mut self, now_ns: u64, tally: &mut Tally) {
        self.out.extend_from_slice(&wire::PING);
        (self.ping_ns, self.last_out_ns) = (Some(now_ns), now_ns);
        tally.pings += 1;
    }

    /// Whether this connection has to be broken off now; `true` in it: with a DISCONNECT.
    pub(crate) fn wants_break(&self) -> Option<bool> {
        let (after, orderly) = self.break_after?;
        (self.state == State::Open && self.sent_here >= after && self.next() < self.total).then_some(orderly)
    }
}

#[cfg(test)]
mod tests;

//! One publisher: bytes in, bytes out, no socket. It keeps to the standard on what is sent again, in which order, and on
//! the server's Receive Maximum; what a server says against the standard is an error.

use anyhow::{anyhow, bail};

use super::payload::{self, Header};
use super::plan::Plan;
use super::tally::Tally;
use super::told::{ABANDONED, ANSWERED, REFUSED, RESENT, Told};
use super::wire::{self, Heard};

/// How clients behave; the same for all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Sessions outlive connections.
    pub(crate) kept: bool,
    pub(crate) keep_alive_s: u16,
    /// Most messages of QoS 1 and 2 unanswered.
    pub(crate) window: usize,
    /// Messages in each write.
    pub(crate) per_write: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Without a connection.
    Down,
    /// CONNECT is sent.
    Greeting,
    Open,
    /// All is answered; a last PINGRESP is awaited, which says that QoS 0 was read too.
    Ending,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Free,
    /// PUBACK or PUBREC is owed.
    Published,
    /// PUBCOMP is owed.
    Released,
}

/// A packet id and its message.
struct Slot {
    hold: Hold,
    qos: u8,
    /// Sent on the present connection.
    on_wire: bool,
    number: u64,
    sent_ns: u64,
    /// Order of PUBLISH and PUBREL packets: the order in which they are sent again.
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
    /// Messages that may be sent by now: those below this number.
    pub(crate) due: u64,
    /// Time of the last packet, and of the PINGREQ that waits for its answer; nanoseconds of the run.
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
    greeted: bool,
    /// First messages sent on this connection, after how many it breaks off, and whether with a DISCONNECT.
    sent_here: u64,
    break_after: Option<(u64, bool)>,
}

impl Client {
    pub(crate) fn new(index: u32, plan: &Plan, manner: Manner) -> Self {
        let total = plan.messages_of(index);
        let told = Told { marks: Vec::with_capacity(total as usize), ..Told::default() };
        Self {
            index,
            v5: plan.is_v5(index),
            state: State::Down,
            told,
            out: Vec::new(),
            written: 0,
            due: 0,
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
            greeted: false,
            sent_here: 0,
            break_after: None,
        }
    }

    /// Messages that were sent once at least.
    pub(crate) fn next(&self) -> u64 {
        self.told.marks.len() as u64
    }

    /// The connection stands: CONNECT.
    pub(crate) fn greet(&mut self, plan: &Plan, now_ns: u64) {
        let id = format!("flow-{:08x}-{}", plan.run, self.index);
        wire::connect(&mut self.out, self.v5, &id, self.manner.kept, !self.greeted, self.manner.keep_alive_s);
        self.state = State::Greeting;
        self.last_out_ns = now_ns;
    }

    /// The connection is gone.
    pub(crate) fn down(&mut self) {
        self.state = State::Down;
        self.out.clear();
        self.written = 0;
        self.input.clear();
        self.on_wire = 0;
        self.ping_ns = None;
        self.slots.iter_mut().for_each(|slot| slot.on_wire = false);
    }

    /// Takes bytes from the socket.
    ///
    /// # Errors
    /// What the standard forbids a server to say, and a refused CONNECT: the connection must be closed.
    pub(crate) fn hear(&mut self, bytes: &[u8], now_ns: u64, plan: &Plan, tally: &mut Tally) -> anyhow::Result<()> {
        if self.input.is_empty() {
            let used = self.hear_all(bytes, now_ns, plan, tally)?;
            self.input.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.hear_all(&input, now_ns, plan, tally)?;
        input.drain(..used);
        self.input = input;
        Ok(())
    }

    fn hear_all(&mut self, bytes: &[u8], now_ns: u64, plan: &Plan, tally: &mut Tally) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some((heard, length)) = wire::next(&bytes[used..], self.v5)? {
            used += length;
            match heard {
                Heard::Connected { code, session_present, receive_maximum } => {
                    self.connected(code, session_present, receive_maximum, plan, tally)?;
                }
                Heard::Answer { kind, packet_id, code } => self.answer(kind, packet_id, code, now_ns, tally)?,
                Heard::Pong => self.pong(now_ns, tally)?,
                Heard::Disconnect { code } => *tally.disconnects.entry(code).or_default() += 1,
            }
        }
        Ok(used)
    }

    fn connected(
        &mut self,
        code: u8,
        present: bool,
        maximum: u16,
        plan: &Plan,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        if self.state != State::Greeting {
            bail!("a second CONNACK");
        }
        if code != 0 {
            *tally.connack_refused.entry(code).or_default() += 1;
            return Ok(());
        }
        self.state = State::Open;
        self.limit = self.manner.window.min(usize::from(maximum));
        self.sent_here = 0;
        self.break_after = plan.break_after(self.index, self.told.connections);
        self.told.connections += 1;
        if self.greeted && !present {
            self.told.forgotten += u64::from(self.manner.kept);
            self.forget(tally);
        }
        self.greeted = true;
        let busy = self.slots.iter().enumerate().filter(|(_, slot)| slot.hold != Hold::Free);
        self.again = busy.map(|(index, _)| index as u16).collect();
        self.again.sort_unstable_by_key(|&index| std::cmp::Reverse(self.slots[usize::from(index)].order));
        Ok(())
    }

    /// [MQTT-3.2.2-5] No session: what was under way is thrown away.
    fn forget(&mut self, tally: &mut Tally) {
        for slot in self.slots.drain(..).filter(|slot| slot.hold != Hold::Free) {
            if slot.hold == Hold::Published {
                self.told.mark(slot.number, ABANDONED);
                tally.abandoned += 1;
            }
            tally.settled += 1;
        }
        self.free.clear();
    }

    fn answer(&mut self, kind: u8, packet_id: u16, code: u8, now_ns: u64, tally: &mut Tally) -> anyhow::Result<()> {
        let index = packet_id.wrapping_sub(1);
        let slot = self.slots.get_mut(usize::from(index)).filter(|slot| slot.on_wire);
        let slot =
            slot.ok_or_else(|| anyhow!("an answer of type {kind} to packet id {packet_id}, which is not in use"))?;
        let waited_ns = now_ns.saturating_sub(slot.sent_ns);
        match (kind, slot.qos, slot.hold) {
            (4, 1, Hold::Published) | (5, 2, Hold::Published) => {
                let number = slot.number;
                tally.answer(kind, waited_ns);
                tally.unmatched += u64::from(code == 0x10);
                if code >= 0x80 {
                    *tally.refused.entry(code).or_default() += 1;
                } else if kind == 5 {
                    slot.hold = Hold::Released;
                    slot.order = self.order;
                    self.order += 1;
                    wire::release(&mut self.out, packet_id);
                }
                self.told.mark(number, if code >= 0x80 { REFUSED } else { ANSWERED });
                if kind == 4 || code >= 0x80 {
                    self.release(index, tally);
                }
            }
            (5, 2, Hold::Released) => wire::release(&mut self.out, packet_id),
            (7, 2, Hold::Released) => {
                tally.answer(kind, waited_ns);
                // 0x92: the PUBCOMP before was lost with its connection.
                tally.releases_unknown += u64::from(code >= 0x80);
                self.release(index, tally);
            }
            (kind, qos, hold) => bail!("an answer of type {kind} to packet id {packet_id}: QoS {qos}, {hold:?}"),
        }
        Ok(())
    }

    fn release(&mut self, index: u16, tally: &mut Tally) {
        let slot = &mut self.slots[usize::from(index)];
        (slot.hold, slot.on_wire) = (Hold::Free, false);
        self.on_wire -= 1;
        self.free.push(index);
        tally.settled += 1;
    }

    fn pong(&mut self, now_ns: u64, tally: &mut Tally) -> anyhow::Result<()> {
        let asked_ns = self.ping_ns.take().ok_or_else(|| anyhow!("a PINGRESP that nobody asked for"))?;
        tally.pongs += 1;
        tally.pong_us_max = tally.pong_us_max.max(now_ns.saturating_sub(asked_ns) / 1_000);
        if self.state == State::Ending {
            let farewell: &[u8] = if self.v5 { &[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0] } else { &wire::DISCONNECT };
            self.out.extend_from_slice(farewell);
            self.state = State::Done;
            self.told.finished = true;
        }
        Ok(())
    }

    /// Puts a PINGREQ if the connection was silent for half its keep-alive.
    pub(crate) fn keep_alive(&mut self, now_ns: u64, tally: &mut Tally) {
        let half_ns = u64::from(self.manner.keep_alive_s) * 500_000_000;
        let silent = half_ns > 0 && now_ns.saturating_sub(self.last_out_ns) >= half_ns;
        if silent && self.state == State::Open && self.ping_ns.is_none() {
            self.ping(now_ns, tally);
        }
    }

    fn ping(&mut self, now_ns: u64, tally: &mut Tally) {
        self.out.extend_from_slice(&wire::PING);
        (self.ping_ns, self.last_out_ns) = (Some(now_ns), now_ns);
        tally.pings += 1;
    }

    /// Must this connection be broken off now? `true` in it: with a DISCONNECT.
    pub(crate) fn wants_break(&self) -> Option<bool> {
        let (after, orderly) = self.break_after?;
        (self.state == State::Open && self.sent_here >= after && self.next() < self.total).then_some(orderly)
    }

    /// Puts the packets of one write: what is to be sent again first. Returns how many.
    pub(crate) fn fill(&mut self, now_ns: u64, plan: &Plan, tally: &mut Tally) -> usize {
        if self.state != State::Open {
            return 0;
        }
        let mut count = self.send_again(plan, tally);
        if self.again.is_empty() {
            count += self.send_new(now_ns, plan, tally);
            if count == 0 && self.next() == self.total && self.on_wire == 0 && self.ping_ns.is_none() {
                self.state = State::Ending;
                self.ping(now_ns, tally);
                count = 1;
            }
        }
        if count > 0 {
            self.last_out_ns = now_ns;
        }
        count
    }

    fn send_again(&mut self, plan: &Plan, tally: &mut Tally) -> usize {
        let mut count = 0;
        while self.on_wire < self.limit {
            let Some(index) = self.again.pop() else { break };
            let slot = &mut self.slots[usize::from(index)];
            slot.on_wire = true;
            self.on_wire += 1;
            count += 1;
            if slot.hold == Hold::Released {
                wire::release(&mut self.out, index + 1);
                tally.releases_again += 1;
                continue;
            }
            let (qos, number, sent_ns) = (slot.qos, slot.number, slot.sent_ns);
            self.put(plan, true, qos, number, index + 1, sent_ns);
            self.told.mark(number, RESENT);
            tally.publishes_again += 1;
        }
        count
    }

    fn send_new(&mut self, now_ns: u64, plan: &Plan, tally: &mut Tally) -> usize {
        let ready = self.due.min(self.total) - self.next();
        let want = ready.min(self.manner.per_write as u64) as usize;
        // Whole writes: not one message for each answer that comes.
        if want == 0 || self.limit - self.on_wire < want.min(self.limit) {
            return 0;
        }
        for sent in 0..want {
            let number = self.next();
            let qos = plan.qos(self.index, number);
            let mut packet_id = 0;
            if qos > 0 {
                if self.on_wire == self.limit {
                    return sent;
                }
                packet_id = self.hold(qos, number, now_ns);
            }
            self.put(plan, false, qos, number, packet_id, now_ns);
            self.told.marks.push(0);
            self.sent_here += 1;
            tally.sent[usize::from(qos)] += 1;
            tally.settled += u64::from(qos == 0);
        }
        want
    }

    /// Takes a packet id for a message.
    fn hold(&mut self, qos: u8, number: u64, sent_ns: u64) -> u16 {
        let slot = Slot { hold: Hold::Published, qos, on_wire: true, number, sent_ns, order: self.order };
        self.order += 1;
        self.on_wire += 1;
        if let Some(index) = self.free.pop() {
            self.slots[usize::from(index)] = slot;
            return index + 1;
        }
        self.slots.push(slot);
        self.slots.len() as u16
    }

    fn put(&mut self, plan: &Plan, dup: bool, qos: u8, number: u64, packet_id: u16, sent_ns: u64) {
        let topic = &self.topics[plan.topic_number(self.index, number) as usize];
        wire::publish(&mut self.out, self.v5, dup, qos, topic, packet_id, plan.payload_bytes);
        let header = Header { run: plan.run, client: self.index, qos, number, sent_ns };
        payload::write(&mut self.out, &header, plan.payload_bytes);
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

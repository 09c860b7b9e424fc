//! Packets of a client: first those to send again, then new ones.

use super::super::events::Kind;
use super::super::payload::{self, Header};
use super::super::plan::Plan;
use super::super::tally::Tally;
use super::super::told::{ANEW, Again, RESENT};
use super::super::wire;
use super::{Client, Hold, Slot, State};

impl Client {
    /// Writes the packets of one write: those to send again first. Returns their number.
    pub(crate) fn fill(&mut self, now_ns: u64, plan: &Plan, tally: &mut Tally) -> usize {
        if self.state != State::Open {
            return 0;
        }
        let mut count = self.send_again(now_ns, plan, tally);
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

    fn send_again(&mut self, now_ns: u64, plan: &Plan, tally: &mut Tally) -> usize {
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
                tally.events.put(now_ns, self.index, Kind::Pubrel, 1, slot.number);
                continue;
            }
            let (qos, number, sent_ns) = (slot.qos, slot.number, slot.sent_ns);
            let anew = std::mem::take(&mut slot.anew);
            self.put(plan, !anew, qos, number, index + 1, sent_ns);
            self.told.mark(number, if anew { RESENT | ANEW } else { RESENT });
            self.told.again.insert(number, Again { newest: self.next(), answered_ns: 0 });
            tally.events.put(now_ns, self.index, Kind::Publish, qos | 8, number);
            tally.publishes_again += 1;
        }
        count
    }

    fn send_new(&mut self, now_ns: u64, plan: &Plan, tally: &mut Tally) -> usize {
        let ready = self.due.min(self.total) - self.next();
        let want = ready.min(self.manner.per_write as u64) as usize;
        // Only whole writes: not one message for each answer.
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
            tally.events.put(now_ns, self.index, Kind::Publish, qos, number);
            self.told.marks.push(0);
            self.sent_here += 1;
            tally.sent[usize::from(qos)] += 1;
            tally.settled += u64::from(qos == 0);
        }
        want
    }

    /// Takes a packet id for a message.
    fn hold(&mut self, qos: u8, number: u64, sent_ns: u64) -> u16 {
        let slot = Slot { hold: Hold::Published, qos, on_wire: true, anew: false, number, sent_ns, order: self.order };
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

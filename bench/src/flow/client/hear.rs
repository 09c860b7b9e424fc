//! Packets of a server, and their effects.

use anyhow::{anyhow, bail};

use super::super::events::Kind;
use super::super::plan::Plan;
use super::super::tally::Tally;
use super::super::told::{ABANDONED, ANSWERED, REFUSED};
use super::super::wire::{self, Heard};
use super::{Client, Hold, State};

impl Client {
    /// Takes bytes from the socket.
    ///
    /// # Errors
    /// A violation of the protocol by the server, or a refused CONNECT: the connection must be closed.
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
                    self.connected(code, session_present, receive_maximum, now_ns, plan, tally)?;
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
        now_ns: u64,
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
        tally.events.put(now_ns, self.index, Kind::Connected, u8::from(present), u64::from(self.generation));
        self.judge_session(present);
        if self.known.is_some() && !present {
            self.told.forgotten += u64::from(self.manner.kept);
            self.forget(tally);
        }
        self.known = Some(self.generation);
        let busy = self.slots.iter().enumerate().filter(|(_, slot)| slot.hold != Hold::Free);
        self.again = busy.map(|(index, _)| index as u16).collect();
        self.again.sort_unstable_by_key(|&index| std::cmp::Reverse(self.slots[usize::from(index)].order));
        Ok(())
    }

    /// Judges `session_present`. A kept session lasts as long as the process, and longer only with a spool.
    fn judge_session(&mut self, present: bool) {
        let Some(known) = self.known.filter(|_| self.manner.kept) else { return };
        let promised = known == self.generation || self.manner.spooled;
        self.told.sessions_lost += u64::from(promised && !present);
        self.told.sessions_claimed += u64::from(!promised && present && !self.asked_before);
    }

    /// [MQTT-3.2.2-5] There is no session: messages in flight are given up, or sent anew.
    fn forget(&mut self, tally: &mut Tally) {
        if self.manner.insist {
            for index in 0..self.slots.len() as u16 {
                let slot = &mut self.slots[usize::from(index)];
                match slot.hold {
                    Hold::Free => {}
                    Hold::Published => slot.anew = true,
                    Hold::Released => {
                        slot.hold = Hold::Free;
                        self.free.push(index);
                        tally.settled += 1;
                    }
                }
            }
            return;
        }
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
        tally.events.put(now_ns, self.index, Kind::of_answer(kind), code, slot.number);
        match (kind, slot.qos, slot.hold) {
            (4, 1, Hold::Published) | (5, 2, Hold::Published) => {
                let number = slot.number;
                tally.answer(kind, waited_ns);
                tally.marks.answer(now_ns, waited_ns, self.index, self.generation);
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
                self.told.again.get_mut(&number).into_iter().for_each(|again| again.answered_ns = now_ns);
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
}

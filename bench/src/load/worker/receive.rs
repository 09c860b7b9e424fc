//! Packets of the server: answers, deliveries, and the ends of handshakes.

use super::Worker;
use crate::flow::payload;
use crate::flow::told::{ANSWERED, REFUSED};
use crate::load::client::{Client, Io, State};
use crate::load::packet;
use crate::load::scenario::{Contents, Role};
use crate::load::shared::{Phase, Shared};
use crate::load::stats::Stats;

/// Consecutive answers to messages that became due together: one entry in the histogram for all.
struct Run {
    since_ns: u64,
    count: u64,
}

/// The effects of a batch of packets on the loop.
#[derive(Default)]
struct Asks {
    answered: bool,
    opened: bool,
    ended: bool,
    subscribe: bool,
    close: bool,
}

impl Worker<'_> {
    /// Reads until the socket has no more.
    pub(super) fn receive(&mut self, index: u32) {
        loop {
            let mut input = std::mem::take(&mut self.input);
            let client = &mut self.clients[index as usize];
            let io = client.read(&mut input);
            let asks = match io {
                Io::Done(count) => self.take(index, &input[..count]),
                Io::Blocked | Io::Closed => Ok(Asks::default()),
            };
            let full = io == Io::Done(input.len());
            self.input = input;
            match asks {
                Ok(asks) if io != Io::Closed && !asks.close => self.follow(index, &asks),
                Ok(_) => return self.closed(index),
                Err(error) => {
                    self.stats.error(|| error.to_string());
                    return self.lost(index);
                }
            }
            // A short read emptied the socket; later bytes cause a new event.
            if !full || !self.clients[index as usize].has_socket() {
                return;
            }
        }
    }

    fn closed(&mut self, index: u32) {
        if self.phase == Phase::Stopped {
            self.clients[index as usize].close();
        } else {
            self.lost(index);
        }
    }

    fn take(&mut self, index: u32, bytes: &[u8]) -> anyhow::Result<Asks> {
        let client = &mut self.clients[index as usize];
        let mut reply = std::mem::take(&mut self.output);
        reply.clear();
        let mut parse = Parse {
            shared: self.shared,
            stats: &mut self.stats,
            compare: &mut self.compare,
            reply: &mut reply,
            measure_ns: self.measure_ns,
            now_ns: self.shared.now_ns(),
            run: Run { since_ns: 0, count: 0 },
            asks: Asks::default(),
        };
        let asks = parse.bytes(client, bytes);
        let sent = if reply.is_empty() { Io::Done(0) } else { client.send(&reply) };
        self.output = reply;
        let asks = asks?;
        Ok(if sent == Io::Closed { Asks { close: true, ..asks } } else { asks })
    }

    fn follow(&mut self, index: u32, asks: &Asks) {
        if asks.subscribe {
            let client = &mut self.clients[index as usize];
            let prepared = &self.shared.groups[usize::from(client.group)];
            let mut out = Vec::new();
            let qos = (0..3).rev().find(|&qos| prepared.weights.has(usize::from(qos))).unwrap_or(0);
            packet::subscribe(&mut out, prepared.group.version == 5, &prepared.group.topic_of(client.index), qos);
            if client.send(&out) == Io::Closed {
                return self.lost(index);
            }
        }
        if asks.opened {
            self.connecting -= 1;
            let client = &mut self.clients[index as usize];
            let role = self.shared.groups[usize::from(client.group)].group.role;
            if role == Role::Connect {
                return self.reconnect(index);
            }
            self.connected += 1;
            self.queue(index);
        }
        if asks.ended {
            self.unfinished -= 1;
        }
        if asks.answered {
            self.answered(index);
        }
    }

    /// A connecting client has its CONNACK: it disconnects, and connects again when it is due.
    fn reconnect(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.send(&crate::flow::wire::DISCONNECT);
        client.close();
        client.number += 1;
        let open_loop = self.shared.groups[usize::from(client.group)].schedule.is_some();
        self.behind -= u64::from(open_loop);
        if (!open_loop || client.due > client.number) && self.shared.now_ns() < self.end_ns {
            client.queued = true;
            self.to_connect.push_back(index);
        }
    }
}

struct Parse<'a> {
    shared: &'a Shared,
    stats: &'a mut Stats,
    compare: &'a mut Vec<u8>,
    reply: &'a mut Vec<u8>,
    measure_ns: u64,
    now_ns: u64,
    run: Run,
    asks: Asks,
}

impl Parse<'_> {
    fn bytes(&mut self, client: &mut Client, bytes: &[u8]) -> anyhow::Result<Asks> {
        let this = self;
        if client.layer.is_some() {
            if client.decode(bytes)? == Io::Closed {
                this.asks.close = true;
            }
        } else if client.tail.is_empty() {
            let used = this.packets(client, bytes)?;
            client.tail.extend_from_slice(&bytes[used..]);
            return Ok(this.end());
        } else {
            client.tail.extend_from_slice(bytes);
        }
        let mut tail = std::mem::take(&mut client.tail);
        let used = this.packets(client, &tail)?;
        tail.drain(..used);
        client.tail = tail;
        Ok(this.end())
    }

    fn end(&mut self) -> Asks {
        self.note(u64::MAX, 0);
        std::mem::take(&mut self.asks)
    }

    fn packets(&mut self, client: &mut Client, bytes: &[u8]) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some((first, body, length)) = packet::next(&bytes[used..])? {
            used += length;
            self.packet(client, first, body)?;
        }
        Ok(used)
    }

    fn packet(&mut self, client: &mut Client, first: u8, body: &[u8]) -> anyhow::Result<()> {
        match (first >> 4, body) {
            (4, [high, low, rest @ ..]) => self.answer(client, id(*high, *low), rest.first().copied().unwrap_or(0)),
            (3, body) => self.delivery(client, first, body),
            (5, [high, low, rest @ ..]) => match rest.first() {
                Some(code) if *code >= 0x80 => self.answer(client, id(*high, *low), *code),
                _ => self.reply.extend_from_slice(&[0x62, 2, *high, *low]),
            },
            (6, [high, low, ..]) => self.reply.extend_from_slice(&[0x70, 2, *high, *low]),
            (7, [high, low, rest @ ..]) => self.answer(client, id(*high, *low), rest.first().copied().unwrap_or(0)),
            (2, [_, code, ..]) => self.connected(client, *code)?,
            (9, body) => self.subscribed(client, body),
            (13, []) if client.state == State::Ending => {
                client.state = State::Done;
                if let Some(told) = &mut client.told {
                    told.finished = true;
                }
                self.asks.ended = true;
            }
            (13, []) => {}
            (14, body) => {
                let code = body.first().copied().unwrap_or(0);
                self.stats.error(|| format!("the server sent DISCONNECT with code {code:#04x}"));
                self.asks.close = true;
            }
            (kind, _) => anyhow::bail!("unexpected packet of type {kind}"),
        }
        Ok(())
    }

    #[inline]
    fn answer(&mut self, client: &mut Client, id: u16, code: u8) {
        let Some(slot) = client.free_id(id) else {
            self.stats.unmatched += 1;
            return;
        };
        if code >= 0x80 {
            self.stats.refused += 1;
        } else {
            self.stats.answered += 1;
        }
        if let Some(told) = &mut client.told {
            told.mark(slot.number, if code >= 0x80 { REFUSED } else { ANSWERED });
        }
        let qos2 = self.shared.groups[usize::from(client.group)].qos_of(client.index, slot.number) == 2;
        self.asks.answered = true;
        if qos2 {
            self.pubcomp(slot.since_ns);
        } else {
            self.note(slot.since_ns, 1);
        }
    }

    fn pubcomp(&mut self, since_ns: u64) {
        if since_ns >= self.measure_ns {
            let us = self.now_ns.saturating_sub(since_ns) / 1_000;
            self.stats.latencies.pubcomp.saturating_record(us);
            self.stats.lately.saturating_record(us);
        }
    }

    /// Adds answers to the run, or ends it.
    #[inline]
    fn note(&mut self, since_ns: u64, count: u64) {
        if since_ns == self.run.since_ns {
            self.run.count += count;
            return;
        }
        let run = std::mem::replace(&mut self.run, Run { since_ns, count });
        if run.count > 0 && run.since_ns >= self.measure_ns {
            let us = self.now_ns.saturating_sub(run.since_ns) / 1_000;
            self.stats.latencies.puback.saturating_record_n(us, run.count);
            self.stats.lately.saturating_record_n(us, run.count);
        }
    }

    fn delivery(&mut self, client: &mut Client, first: u8, body: &[u8]) {
        let v5 = self.shared.groups[usize::from(client.group)].group.version == 5;
        let Some((packet_id, bytes)) = packet::delivered(first, body, v5) else {
            return self.stats.error(|| "a malformed PUBLISH".to_owned());
        };
        let [high, low] = packet_id.to_be_bytes();
        match first >> 1 & 3 {
            0 => {}
            1 => self.reply.extend_from_slice(&[0x40, 2, high, low]),
            _ => self.reply.extend_from_slice(&[0x50, 2, high, low]),
        }
        self.stats.received += 1;
        let Some(streams) = &mut client.streams else { return };
        // The run's mark identifies the group that sent it, and so its length.
        let run = bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let group = run.wrapping_sub(self.shared.run) as usize;
        let Some(sender) = self.shared.groups.get(group).filter(|g| g.group.contents == Contents::Numbered) else {
            self.stats.foreign += 1;
            return;
        };
        match payload::read(bytes, run, sender.group.payload, self.compare) {
            Err(payload::Wrong::Foreign) => self.stats.foreign += 1,
            Err(payload::Wrong::Altered) => self.stats.altered += 1,
            Ok(header) => {
                let publisher = self.shared.publishers.find(run, header.client);
                if !publisher.is_some_and(|(number, _)| streams.take(number, header.qos, header.number)) {
                    self.stats.altered += 1;
                }
                if header.sent_ns >= self.measure_ns {
                    let us = self.now_ns.saturating_sub(header.sent_ns) / 1_000;
                    self.stats.latencies.delivery.saturating_record(us);
                    self.stats.lately.saturating_record(us);
                }
            }
        }
    }

    fn connected(&mut self, client: &mut Client, code: u8) -> anyhow::Result<()> {
        if code != 0 {
            anyhow::bail!("CONNACK with code {code:#04x}");
        }
        self.stats.connects += 1;
        if let Some(told) = &mut client.told {
            told.connections += 1;
        }
        let group = &self.shared.groups[usize::from(client.group)].group;
        let us = self.now_ns.saturating_sub(client.connect_ns) / 1_000;
        if group.role != Role::Connect || client.connect_ns >= self.measure_ns {
            self.stats.latencies.connect.saturating_record(us);
        }
        if group.role == Role::Subscribe {
            client.state = State::Subscribing;
            self.asks.subscribe = true;
        } else {
            client.state = State::Open;
            self.asks.opened = true;
        }
        Ok(())
    }

    fn subscribed(&mut self, client: &mut Client, body: &[u8]) {
        if body.last().is_none_or(|code| *code >= 0x80) {
            self.stats.subscriptions_refused += 1;
        }
        if client.state == State::Subscribing {
            client.state = State::Open;
            self.asks.opened = true;
        }
    }
}

fn id(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

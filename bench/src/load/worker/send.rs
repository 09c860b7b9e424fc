//! Publishing: the messages that a client may send now, built from its template and written in one go.

use std::cmp::Reverse;

use super::Worker;
use crate::flow::told::Told;
use crate::flow::wire;
use crate::load::client::{Client, Io, State};
use crate::load::scenario::Role;
use crate::load::shared::{Phase, Prepared};

/// Writes of one client before the others have their turn.
const WRITES_A_TURN: usize = 16;

impl Worker<'_> {
    /// Writes the messages that a client may send.
    pub(super) fn pump(&mut self, index: u32) {
        for _ in 0..WRITES_A_TURN {
            let client = &mut self.clients[index as usize];
            if client.state != State::Open || self.phase != Phase::Running || !client.writable || !client.is_flushed() {
                return;
            }
            let prepared = &self.shared.groups[usize::from(client.group)];
            if prepared.group.role != Role::Publish {
                return;
            }
            let now_ns = self.shared.now_ns();
            if now_ns < self.shared.start_ns() {
                self.later.push(Reverse((self.shared.start_ns(), index)));
                return;
            }
            let over = now_ns >= self.end_ns;
            let Some(count) = sendable(client, prepared, now_ns, over) else {
                if over || client.number == client.limit {
                    self.finish(index, now_ns);
                }
                return;
            };
            if count == 0 {
                // The client is thinking.
                self.later.push(Reverse((client.not_before_ns, index)));
                return;
            }
            let since_ns = match prepared.schedule {
                Some(schedule) => {
                    let write = client.number / u64::from(prepared.group.per_write);
                    let turn = write * u64::from(prepared.group.clients) + u64::from(client.index);
                    self.shared.start_ns() + schedule.at_ns(turn)
                }
                None => now_ns,
            };
            self.output.clear();
            let put = put(client, prepared, &mut self.output, count, since_ns, &mut self.stats.sent);
            if prepared.schedule.is_some() {
                self.behind -= put;
            }
            client.last_out_ns = now_ns;
            if prepared.group.think.ns() > 0 {
                client.not_before_ns = u64::MAX;
            }
            if client.send(&self.output) == Io::Closed {
                return self.lost(index);
            }
            if put == 0 {
                return;
            }
        }
        self.queue(index);
    }

    /// The client has nothing more to send: once all messages are answered, a PINGREQ checks that all were read.
    fn finish(&mut self, index: u32, now_ns: u64) {
        let client = &mut self.clients[index as usize];
        if client.open > 0 || client.state != State::Open {
            return;
        }
        client.state = State::Ending;
        client.last_out_ns = now_ns;
        if client.send(&wire::PING) == Io::Closed {
            self.lost(index);
        }
    }

    /// An answer came: a client with think time thinks from now on.
    pub(super) fn answered(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let think_ns = self.shared.groups[usize::from(client.group)].group.think.ns();
        if think_ns > 0 && client.open == 0 && client.not_before_ns == u64::MAX {
            client.not_before_ns = self.shared.now_ns() + think_ns;
        }
        self.queue(index);
    }
}

/// Messages that a client may send in its next write; `None`: none for now, 0: it is thinking.
fn sendable(client: &mut Client, prepared: &Prepared, now_ns: u64, over: bool) -> Option<u64> {
    let group = &prepared.group;
    let left = match prepared.schedule {
        Some(_) => client.due - client.number,
        None if over => 0,
        None => client.limit - client.number,
    };
    let count = left.min(u64::from(group.per_write));
    if count == 0 || (prepared.qos != Some(0) && u64::from(client.open) + count > u64::from(group.window)) {
        return None;
    }
    if group.think.ns() > 0 && client.not_before_ns > now_ns {
        if client.not_before_ns == u64::MAX && prepared.qos == Some(0) {
            client.not_before_ns = now_ns + group.think.ns();
        }
        return if client.not_before_ns == u64::MAX { None } else { Some(0) };
    }
    Some(count)
}

/// Appends `count` messages, fewer if packet ids run out. Returns their number.
fn put(
    client: &mut Client,
    prepared: &Prepared,
    out: &mut Vec<u8>,
    count: u64,
    since_ns: u64,
    sent: &mut [u64; 3],
) -> u64 {
    let Some(template) = client.template.take() else { return 0 };
    let mut put = 0;
    while put < count {
        let number = client.number;
        let qos = prepared.qos_of(client.index, number);
        let mut id = 0;
        if qos > 0 {
            let Some(taken) = client.take_id(since_ns, number) else { break };
            id = taken;
        }
        template.put(out, qos, id, number, since_ns);
        sent[usize::from(qos)] += 1;
        client.number += 1;
        put += 1;
        if let Some(told) = &mut client.told {
            Told::sent(told);
        }
    }
    client.template = Some(template);
    put
}

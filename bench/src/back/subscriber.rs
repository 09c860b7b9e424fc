//! One subscriber: bytes in, bytes out, no socket. It remembers its QoS 2 packet identifiers over the connections of a session,
//! and acknowledges messages in the order of their arrival, each after a pause of its own.

use std::collections::{HashMap, VecDeque};

use anyhow::{bail, ensure};

use super::ledger::{Copy, Heard, fingerprint};
use crate::flow::plan::mix;
use crate::flow::wire;

/// The behaviour of a subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// Client identifier.
    pub(crate) name: String,
    /// Index of the log that its filter matches.
    pub(crate) log: usize,
    pub(crate) v5: bool,
    pub(crate) kept: bool,
    pub(crate) qos: u8,
    pub(crate) filter: String,
    /// Longest pause before an acknowledgement, milliseconds.
    pub(crate) slow_ms: u64,
    /// Mean time after which it breaks its connection, in milliseconds; 0: never.
    pub(crate) breaks_ms: u64,
    /// Longest absence after that, in milliseconds.
    pub(crate) away_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Greeting,
    Subscribing,
    Open,
}

/// A pending acknowledgement.
struct Due {
    at_ns: u64,
    /// The first byte: PUBACK or PUBREC.
    first: u8,
    id: u16,
    copy: usize,
}

/// See the module.
pub(crate) struct Subscriber {
    pub(crate) manner: Manner,
    pub(crate) state: State,
    pub(crate) heard: Heard,
    /// Whether SUBACK has arrived.
    pub(crate) subscribed: bool,
    /// Bytes for the socket.
    pub(crate) out: Vec<u8>,
    input: Vec<u8>,
    due: VecDeque<Due>,
    /// QoS 2: identifiers of messages that were delivered and not released, with the indexes of their copies.
    held: HashMap<u16, usize>,
    drawn: u64,
}

impl Subscriber {
    pub(crate) fn new(manner: Manner, seed: u64) -> Self {
        let Manner { name, log, filter, qos, kept, .. } = manner.clone();
        let heard = Heard { name, log, filter, qos, kept, ..Heard::default() };
        Self {
            drawn: mix(seed ^ fingerprint(manner.name.as_bytes(), b"")),
            manner,
            state: State::Greeting,
            heard,
            subscribed: false,
            out: Vec::new(),
            input: Vec::new(),
            due: VecDeque::new(),
            held: HashMap::new(),
        }
    }

    /// A pseudo-random number below `bound`, or 0; the same in each run.
    pub(crate) fn draw(&mut self, bound: u64) -> u64 {
        self.drawn = mix(self.drawn);
        self.drawn.checked_rem(bound).unwrap_or(0)
    }

    /// The connection is made: sends CONNECT.
    pub(crate) fn greet(&mut self) {
        let Manner { v5, kept, name, .. } = &self.manner;
        wire::connect(&mut self.out, *v5, name, *kept, !self.subscribed, 0);
        self.state = State::Greeting;
    }

    /// The connection is lost.
    pub(crate) fn down(&mut self, now_ns: u64) {
        self.heard.ends_ns.push(now_ns);
        self.out.clear();
        self.input.clear();
        self.due.clear();
        self.state = State::Greeting;
    }

    /// Takes bytes from the socket.
    ///
    /// # Errors
    /// A violation of the protocol by the server: the connection must be closed.
    pub(crate) fn hear(&mut self, bytes: &[u8], now_ns: u64) -> anyhow::Result<()> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((first, body, length)) = packet(rest)? {
            self.packet(first, body, now_ns)?;
            rest = &rest[length..];
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn packet(&mut self, first: u8, body: &[u8], now_ns: u64) -> anyhow::Result<()> {
        match (first >> 4, body) {
            (2, [flags, code, ..]) => self.connected(*flags, *code),
            (3, body) => self.publish(first, body, now_ns),
            (6, [high, low, ..]) => {
                self.held.remove(&u16::from_be_bytes([*high, *low]));
                self.out.extend_from_slice(&[0x70, 2, *high, *low]);
                Ok(())
            }
            (9, [.., code]) => {
                ensure!(*code == self.manner.qos, "SUBACK with code {code:#04x}");
                (self.state, self.subscribed) = (State::Open, true);
                Ok(())
            }
            (14, body) => bail!("DISCONNECT with code {:#04x}", body.first().copied().unwrap_or(0)),
            (kind, _) => bail!("unexpected packet of type {kind}"),
        }
    }

    fn connected(&mut self, flags: u8, code: u8) -> anyhow::Result<()> {
        ensure!(self.state == State::Greeting, "a second CONNACK");
        ensure!(code == 0, "CONNACK with code {code:#04x}");
        let is_present = flags & 1 == 1;
        let is_owed = self.manner.kept && self.subscribed;
        self.heard.sessions_lost += u64::from(is_owed && !is_present);
        self.heard.sessions_claimed += u64::from(!self.manner.kept && is_present);
        if !is_present {
            self.held.clear();
        }
        if is_owed && is_present {
            self.state = State::Open;
            return Ok(());
        }
        self.state = State::Subscribing;
        let filter = self.manner.filter.as_bytes();
        self.out.push(0x82);
        wire::variable(&mut self.out, 2 + usize::from(self.manner.v5) + 2 + filter.len() + 1);
        self.out.extend_from_slice(&[0, 1]);
        self.out.extend_from_slice(&[0][..usize::from(self.manner.v5)]);
        self.out.extend_from_slice(&(filter.len() as u16).to_be_bytes());
        self.out.extend_from_slice(filter);
        self.out.push(self.manner.qos);
        Ok(())
    }

    fn publish(&mut self, first: u8, body: &[u8], now_ns: u64) -> anyhow::Result<()> {
        let (qos, dup) = (first >> 1 & 3, first & 8 != 0);
        let (topic, rest) = text(body)?;
        let (id, rest) = match rest {
            [high, low, rest @ ..] if qos > 0 => (u16::from_be_bytes([*high, *low]), rest),
            rest => (0, rest),
        };
        let payload = if self.manner.v5 {
            let Some((length, used)) = wire::read_variable(rest)? else { bail!("a PUBLISH that is cut off") };
            rest.get(used + length..).ok_or_else(|| anyhow::anyhow!("a PUBLISH that is cut off"))?
        } else {
            rest
        };
        let copy = match self.held.get(&id) {
            Some(&copy) if qos == 2 => {
                if !dup {
                    self.heard.violations.push(format!("packet identifier {id} is held, and came without DUP"));
                }
                self.heard.held_again += 1;
                copy
            }
            _ => {
                let place = place(topic).unwrap_or((u32::MAX, -1));
                self.heard.copies.push(Copy {
                    partition: place.0,
                    offset: place.1,
                    qos,
                    dup,
                    fingerprint: fingerprint(topic, payload),
                    connection: self.heard.ends_ns.len() as u32,
                    at_ns: now_ns,
                    acknowledged_ns: None,
                });
                self.heard.copies.len() - 1
            }
        };
        if qos > 0 {
            let pause_ns = self.draw(self.manner.slow_ms * 1_000_000 + 1);
            let at_ns = self.due.back().map_or(0, |due| due.at_ns).max(now_ns + pause_ns);
            let first = if qos == 1 { 0x40 } else { 0x50 };
            self.due.push_back(Due { at_ns, first, id, copy });
        }
        if qos == 2 {
            self.held.insert(id, copy);
        }
        Ok(())
    }

    /// Writes the acknowledgements that are due; the caller has to send them at once. Returns their number.
    pub(crate) fn acknowledge(&mut self, now_ns: u64) -> u64 {
        let before = self.due.len();
        while let Some(due) = self.due.pop_front_if(|due| due.at_ns <= now_ns) {
            let [high, low] = due.id.to_be_bytes();
            self.out.extend_from_slice(&[due.first, 2, high, low]);
            self.heard.copies[due.copy].acknowledged_ns.get_or_insert(now_ns);
        }
        (before - self.due.len()) as u64
    }
}

/// Partition and offset at the end of a topic.
fn place(topic: &[u8]) -> Option<(u32, i64)> {
    let mut levels = std::str::from_utf8(topic).ok()?.rsplit('/');
    let offset = levels.next()?.parse().ok()?;
    Some((levels.next()?.parse().ok()?, offset))
}

fn text(bytes: &[u8]) -> anyhow::Result<(&[u8], &[u8])> {
    let found =
        bytes.split_first_chunk().and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
    found.ok_or_else(|| anyhow::anyhow!("a PUBLISH that is cut off"))
}

/// The first packet of `bytes`: its first byte, its body, and its whole length. `None`: the packet is not whole.
fn packet(bytes: &[u8]) -> anyhow::Result<Option<(u8, &[u8], usize)>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, used)) = wire::read_variable(rest)? else { return Ok(None) };
    Ok(rest.get(used..used + length).map(|body| (first, body, 1 + used + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(qos: u8, kept: bool, v5: bool) -> Subscriber {
        let manner = Manner {
            name: "s".to_owned(),
            log: 0,
            v5,
            kept,
            qos,
            filter: "kept/#".to_owned(),
            slow_ms: 0,
            breaks_ms: 0,
            away_ms: 0,
        };
        Subscriber::new(manner, 1)
    }

    fn publish(qos: u8, dup: bool, id: u16, v5: bool) -> Vec<u8> {
        let mut out = Vec::new();
        wire::publish(&mut out, v5, dup, qos, "kept/k1/3/2/17", id, 2);
        out.extend_from_slice(b"ab");
        out
    }

    /// A subscriber that is connected and has subscribed.
    fn open(qos: u8, kept: bool, v5: bool) -> Subscriber {
        let mut subscriber = subscriber(qos, kept, v5);
        subscriber.greet();
        subscriber.out.clear();
        subscriber.hear(if v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] }, 1).unwrap();
        let properties = &[0][..usize::from(v5)];
        let expected = [&[0x82, 11 + u8::from(v5), 0, 1], properties, &[0, 6], b"kept/#", &[qos]].concat();
        assert_eq!(subscriber.out, expected);
        subscriber.out.clear();
        subscriber.hear(&[&[0x90, 3 + u8::from(v5), 0, 1], properties, &[qos]].concat(), 1).unwrap();
        assert_eq!(subscriber.state, State::Open);
        subscriber
    }

    #[test]
    fn a_message_is_noted_and_acknowledged_however_its_bytes_come() {
        for v5 in [false, true] {
            let mut subscriber = open(1, true, v5);
            for byte in publish(1, false, 9, v5) {
                subscriber.hear(&[byte], 5).unwrap();
            }
            assert_eq!(subscriber.due.len(), 1);
            subscriber.acknowledge(6);
            assert_eq!(subscriber.out, [0x40, 2, 0, 9]);
            let copy = Copy {
                partition: 2,
                offset: 17,
                qos: 1,
                dup: false,
                fingerprint: fingerprint(b"kept/k1/3/2/17", b"ab"),
                connection: 0,
                at_ns: 5,
                acknowledged_ns: Some(6),
            };
            assert_eq!(subscriber.heard.copies, [copy]);
        }
    }

    #[test]
    fn qos_2_is_handed_on_once_while_its_identifier_is_held_over_connections_too() {
        let mut subscriber = open(2, true, true);
        subscriber.hear(&publish(2, false, 9, true), 5).unwrap();
        subscriber.down(6);
        subscriber.greet();
        subscriber.hear(&[0x20, 3, 1, 0, 0], 7).unwrap();
        assert_eq!(subscriber.state, State::Open, "the session is there");
        subscriber.hear(&publish(2, true, 9, true), 8).unwrap();
        subscriber.out.clear();
        subscriber.acknowledge(9);
        assert_eq!(subscriber.out, [0x50, 2, 0, 9]);
        assert_eq!((subscriber.heard.copies.len(), subscriber.heard.held_again), (1, 1));
        assert_eq!(subscriber.heard.copies[0].acknowledged_ns, Some(9));
        subscriber.hear(&[0x62, 2, 0, 9], 10).unwrap();
        assert_eq!(subscriber.out[4..], [0x70, 2, 0, 9]);
        subscriber.hear(&publish(2, false, 9, true), 11).unwrap();
        assert_eq!((subscriber.heard.copies.len(), subscriber.heard.copies[1].connection), (2, 1));
        assert!(subscriber.heard.violations.is_empty());
        subscriber.hear(&publish(2, false, 9, true), 12).unwrap();
        assert_eq!(subscriber.heard.violations.len(), 1, "held, and without DUP");
    }

    #[test]
    fn sessions_are_there_if_they_are_kept_and_only_then() {
        for (kept, present, lost, claimed) in [(true, 0, 1, 0), (true, 1, 0, 0), (false, 1, 0, 1), (false, 0, 0, 0)] {
            let mut subscriber = open(1, kept, false);
            subscriber.down(2);
            subscriber.greet();
            subscriber.hear(&[0x20, 2, present, 0], 3).unwrap();
            assert_eq!((subscriber.heard.sessions_lost, subscriber.heard.sessions_claimed), (lost, claimed), "{kept}");
        }
    }
}

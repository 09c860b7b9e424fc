//! A device as the standard wants it: packet ids in use until they are free, unanswered messages sent again in order
//! after a reconnect, and an eye on every answer it gets.

use std::collections::VecDeque;

use forebay::runtime::seam::ConnId;

use super::kafka::POISON;

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Sent, no answer.
    Sent,
    /// QoS 2, PUBREC received.
    Received,
    /// Answered to the end with success, or QoS 0 and sent.
    Done,
    /// Answered with 0x80 or more.
    Refused,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) qos: u8,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) state: State,
    id: u16,
}

/// What a device is told that the judge should look into.
pub(crate) enum News {
    /// The message with this index has been answered (PUBACK, PUBREC), with success or not, and where it stands.
    Answered(usize, bool, Vec<Receipt>),
}

/// What an answer says of where a sink's row stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) topic: String,
    pub(crate) partition: usize,
    pub(crate) offset: Option<usize>,
}

pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) v5: bool,
    /// Its session outlives its connections.
    pub(crate) kept: bool,
    /// The sinks have dead letters, so it may be refused whatever its protocol.
    pub(crate) dead_letters: bool,
    pub(crate) messages: Vec<Message>,
    /// Messages it is to send in all.
    pub(crate) quota: usize,
    pub(crate) conn: Option<ConnId>,
    /// It came in on a listener with receipts.
    pub(crate) receipts: bool,
    /// Bytes on their way to the shard.
    pub(crate) socket: VecDeque<u8>,
    /// Bytes from the shard that are no whole packet yet.
    inbox: Vec<u8>,
    /// The answers owed on this connection, in order: first byte of the packet, id.
    expected: VecDeque<(u8, u16)>,
    greeted: bool,
    known: bool,
    next_id: u16,
}

impl Device {
    pub(crate) fn new(index: usize, rng: &mut fastrand::Rng, quota: usize) -> Self {
        Self {
            name: format!("d{index}"),
            v5: rng.bool(),
            kept: rng.u8(..3) > 0,
            dead_letters: false,
            messages: Vec::new(),
            quota,
            conn: None,
            receipts: false,
            socket: VecDeque::new(),
            inbox: Vec::new(),
            expected: VecDeque::new(),
            greeted: false,
            known: false,
            next_id: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.messages.len() == self.quota && self.open().next().is_none() && self.socket.is_empty()
    }

    fn open(&self) -> impl Iterator<Item = usize> {
        let is_open = |message: &Message| matches!(message.state, State::Sent | State::Received);
        self.messages.iter().enumerate().filter(move |(_, message)| is_open(message)).map(|(index, _)| index)
    }

    /// A new connection: CONNECT, and right behind it, as the standard allows, what is unanswered.
    pub(crate) fn connect(&mut self, conn: ConnId) {
        self.conn = Some(conn);
        self.socket.clear();
        self.inbox.clear();
        self.expected.clear();
        self.greeted = false;
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if self.v5 { 5 } else { 4 }];
        body.push(if !self.kept || (self.v5 && !self.known) { 2 } else { 0 });
        body.extend_from_slice(&[0, 0]);
        match (self.v5, self.kept) {
            (true, true) => body.extend_from_slice(&[5, 0x11, 0, 0, 0x0e, 0x10]),
            (true, false) => body.push(0),
            (false, _) => {}
        }
        string(&self.name, &mut body);
        self.packet(0x10, &body);
        if !self.kept {
            // The session that had received them is gone, and with it the exchange.
            for message in self.messages.iter_mut().filter(|m| m.state == State::Received) {
                message.state = State::Done;
            }
        }
        for index in self.open().collect::<Vec<_>>() {
            match self.messages[index].state {
                State::Received => self.release(index),
                _ => self.send(index, self.kept),
            }
        }
    }

    /// Something new, if the window of packet ids has room.
    pub(crate) fn publish(&mut self, rng: &mut fastrand::Rng, window: usize) {
        if self.conn.is_none() || self.messages.len() == self.quota || self.open().count() >= window {
            return;
        }
        let index = self.messages.len();
        let qos = rng.u8(..3);
        let poison = (self.dead_letters || (self.v5 && qos > 0)) && rng.u8(..40) == 0;
        let mut payload = if poison { POISON.to_vec() } else { Vec::new() };
        payload.extend_from_slice(format!("{} {index} ", self.name).as_bytes());
        payload.resize(payload.len() + rng.usize(..700), b'.');
        let topic = format!("{}/{}", self.name, ["even", "odd"][rng.usize(..2)]);
        let id = self.free_id();
        self.messages.push(Message { qos, topic, payload, state: State::Sent, id });
        self.send(index, false);
        if qos == 0 {
            self.messages[index].state = State::Done;
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            // Few ids, so that they come round again soon.
            self.next_id = self.next_id % 40 + 1;
            let id = self.next_id;
            if !self.open().any(|index| self.messages[index].id == id) {
                return id;
            }
        }
    }

    fn send(&mut self, index: usize, again: bool) {
        let Message { qos, topic, payload, id, .. } = self.messages[index].clone();
        let mut body = Vec::new();
        string(&topic, &mut body);
        if qos > 0 {
            body.extend_from_slice(&id.to_be_bytes());
            self.expected.push_back((if qos == 1 { 0x40 } else { 0x50 }, id));
        }
        if self.v5 {
            body.push(0);
        }
        body.extend_from_slice(&payload);
        self.packet(0x30 | qos << 1 | u8::from(again) << 3, &body);
    }

    fn release(&mut self, index: usize) {
        self.packet(0x62, &self.messages[index].id.to_be_bytes());
    }

    fn packet(&mut self, first: u8, body: &[u8]) {
        self.socket.push_back(first);
        let mut rest = body.len();
        loop {
            let more = rest > 127;
            self.socket.push_back((rest & 127) as u8 | if more { 128 } else { 0 });
            rest >>= 7;
            if !more {
                break;
            }
        }
        self.socket.extend(body);
    }

    /// Bytes of the shard.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<News> {
        self.inbox.extend_from_slice(bytes);
        let mut news = Vec::new();
        while let Some((head, len)) = length(&self.inbox).filter(|(head, len)| self.inbox.len() >= head + len) {
            let packet: Vec<u8> = self.inbox.drain(..head + len).collect();
            news.extend(self.packet_read(packet[0], &packet[head..]));
        }
        news
    }

    fn packet_read(&mut self, first: u8, body: &[u8]) -> Option<News> {
        let name = &self.name;
        if first == 0x20 {
            assert_eq!(body[1], 0, "{name}: CONNACK");
            assert_eq!(body[0] == 1, self.kept && self.known, "{name}: session present");
            (self.greeted, self.known) = (true, true);
            return None;
        }
        assert!(self.greeted, "{name}: {first:#x} before CONNACK");
        if first == 0xe0 {
            return None;
        }
        let id = u16::from_be_bytes([body[0], body[1]]);
        let success = body.get(2).is_none_or(|code| *code < 0x80);
        let index = self.open().find(|index| self.messages[*index].id == id);
        let index = index.unwrap_or_else(|| panic!("{name}: {first:#x} for id {id}, which is not in use"));
        let message = &mut self.messages[index];
        if first == 0x70 {
            // 0x92: the PUBCOMP before was lost with its connection.
            assert!(success || body[2] == 0x92, "{name}: PUBCOMP {body:?}");
            assert_eq!(message.state, State::Received, "{name}: PUBCOMP");
            message.state = State::Done;
            return None;
        }
        assert_eq!(self.expected.pop_front(), Some((first, id)), "{name}: answers in the order of the publishes");
        assert_eq!(message.state, State::Sent, "{name}: answered twice");
        message.state = match (success, first) {
            (false, _) => State::Refused,
            (true, 0x40) => State::Done,
            (true, _) => State::Received,
        };
        if message.state == State::Received {
            self.release(index);
        }
        Some(News::Answered(index, success, receipts(&body[2..])))
    }
}

/// Length of a packet's fixed header, and what remains behind it.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let [low, high] = [*bytes.get(1)?, bytes.get(2).copied().unwrap_or(0)];
    if low < 128 {
        return Some((2, usize::from(low)));
    }
    assert!(high < 128, "only short packets come back");
    (bytes.len() > 2).then(|| (3, usize::from(low & 127) | usize::from(high) << 7))
}

/// The receipts of a PUBACK or PUBREC from its reason code on.
pub(crate) fn receipts(rest: &[u8]) -> Vec<Receipt> {
    let mut found: Vec<Receipt> = Vec::new();
    let [_, len, rest @ ..] = rest else { return found };
    let (len, mut rest) = if *len < 128 {
        (usize::from(*len), rest)
    } else {
        (usize::from(len & 127) | usize::from(rest[0]) << 7, &rest[1..])
    };
    assert_eq!(rest.len(), len, "nothing but properties");
    if let [0x1f, more @ ..] = rest {
        // Reason String.
        rest = text(more).1;
    }
    while let [0x26, more @ ..] = rest {
        let (name, more) = text(more);
        let (value, more) = text(more);
        rest = more;
        match (name, found.last_mut()) {
            ("kafka-topic", _) => found.push(Receipt { topic: value.to_owned(), ..Receipt::default() }),
            ("kafka-partition", Some(last)) => last.partition = value.parse().expect("a number"),
            ("kafka-offset", Some(last)) => last.offset = Some(value.parse().expect("a number")),
            other => panic!("{other:?}"),
        }
    }
    assert!(rest.is_empty(), "{rest:?}");
    found
}

fn text(bytes: &[u8]) -> (&str, &[u8]) {
    let (text, rest) = bytes[2..].split_at(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    (std::str::from_utf8(text).expect("text"), rest)
}

fn string(text: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

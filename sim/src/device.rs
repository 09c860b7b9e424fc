//! An MQTT client as the standard requires it: packet ids stay in use until they are free, unanswered packets are sent
//! again in order after a reconnect, and every answer is checked.

use std::collections::VecDeque;

use crate::connection::{Connection, string};
use crate::kafka::front::POISON;
use crate::plan::NO_SINK;
use crate::receipts::Receipt;

/// State of a message, as its device knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, and not answered.
    Sent,
    /// QoS 2, PUBREC received.
    Received,
    /// Answered completely with success; or QoS 0 and sent.
    Done,
    /// Answered with 0x80 or more.
    Refused,
}

/// A message, numbered by its index in the list of all.
#[derive(Clone, Debug)]
pub struct Message {
    /// Index of its device.
    pub device: usize,
    /// Quality of service.
    pub qos: u8,
    /// MQTT topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// State of the message.
    pub state: State,
    id: u16,
    /// Number of PUBLISH packets that carried the message.
    pub sends: u32,
    /// Session and process of each of these packets, each pair once.
    pub attempts: Vec<(u32, u32)>,
    /// Time of the first answer with success, and the process that gave it.
    pub answered: Option<(u64, u32)>,
    /// Reason code of a refusal.
    pub refused_as: Option<u8>,
    /// Whether the message is the will of a connection.
    pub is_will: bool,
    /// Whether the message has RETAIN.
    pub retain: bool,
    /// Time of the first PUBLISH.
    pub sent_at: u64,
    /// Message Expiry Interval, seconds.
    pub expiry_s: Option<u32>,
}

impl Message {
    /// Whether Kafka refuses the message.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        self.payload.starts_with(POISON)
    }

    /// Whether the message has this packet identifier.
    pub(crate) const fn is_under(&self, id: u16) -> bool {
        self.qos > 0 && self.id == id
    }

    /// The packet identifier; 0 at QoS 0.
    pub(crate) const fn packet_id(&self) -> u16 {
        self.id
    }

    /// Whether subscribers with a matching subscription must get the message: it was answered at QoS 1 or 2, and does
    /// not expire.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        self.answered.is_some() && self.qos > 0 && !self.is_will && self.expiry_s.is_none()
    }

    /// Whether the device still waits for an answer.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Sent | State::Received)
    }
}

/// An observation of a device.
#[derive(Debug)]
pub enum News {
    /// A message was answered (PUBACK, PUBREC).
    Answered {
        /// The message's number.
        message: u32,
        /// Whether the reason code is below 0x80.
        success: bool,
        /// Places in Kafka that the answer reports.
        receipts: Vec<Receipt>,
    },
    /// A device got an impossible answer.
    Wrong(String),
}

/// Whether the server has a session of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It cannot have a session.
    No,
    /// It must have a session.
    Yes,
    /// The last CONNECT or the last process ended before the client could know.
    Maybe,
}

/// A device: an MQTT client that publishes.
#[derive(Debug)]
pub struct Device {
    index: usize,
    /// Client id.
    pub name: String,
    v5: bool,
    /// Whether the session outlives its connections.
    pub kept: bool,
    has_will: bool,
    /// Whether unanswered packets are sent again right after CONNECT, before CONNACK.
    eager: bool,
    /// Whether Kafka may refuse the device's messages.
    pub may_poison: bool,
    /// Last levels of the device's topics.
    pub levels: &'static [&'static str],
    /// Whether messages of QoS 1 for subscribers alone have RETAIN.
    pub retains: bool,
    /// Random stream of messages that expire, where there are any.
    pub expiry_rng: Option<fastrand::Rng>,
    /// Numbers of the device's messages, in the order of sending.
    pub messages: Vec<u32>,
    /// Number of messages to send in all.
    pub quota: usize,
    /// Bound on unanswered messages.
    pub window: usize,
    payload_max: usize,
    /// The connection's socket.
    pub socket: Option<u64>,
    /// The device's end of the connection.
    pub(crate) connection: Connection,
    /// Due answers on this connection, in order: first byte and packet id.
    expected: VecDeque<(u8, u16)>,
    greeted: bool,
    /// Time of the connection's CONNACK.
    pub greeted_at: u64,
    /// Whether the device came in on a listener with receipts.
    pub has_receipts: bool,
    /// Whether the server has a session of the client.
    pub known: Known,
    session: u32,
    before_greeting: Vec<u32>,
    /// Whether this connection has sent what was open, before CONNACK.
    has_sent_open: bool,
    next_id: u16,
    /// Number of packet ids in use, after which they start over.
    ids: u16,
    rng: fastrand::Rng,
    /// Time of the next connection attempt.
    pub reconnect_at: u64,
    unsure_connect: bool,
    /// The instance that the Server Reference of a refusal has named, by index.
    pub(crate) sent_to: Option<usize>,
    /// Will Delay Interval of 5.0 clients with a kept session, in seconds.
    pub(crate) will_delay_s: u32,
    /// Wills of the connections, from the first on.
    pub(crate) wills: Vec<WillSeen>,
}

/// A device's knowledge of the will of one of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WillSeen {
    /// Number of the will's message.
    pub(crate) message: u32,
    /// Whether the connection's CONNACK has come.
    pub(crate) was_greeted: bool,
    /// Time when the connection was lost.
    pub(crate) lost_at: Option<u64>,
    /// The socket of a connection that the device has left in silence. There is no keep-alive, so the server only hears of it by the next CONNECT.
    pub(crate) left: Option<u64>,
    /// Time of the next connection's CONNACK, and whether it has the same session.
    pub(crate) back_at: Option<(u64, bool)>,
}

impl Device {
    /// A device of a run. Its actions come from its own random stream.
    #[must_use]
    pub fn new(index: usize, quota: usize, payload_max: usize, mut rng: fastrand::Rng) -> Self {
        Self {
            index,
            name: format!("d{index}"),
            v5: rng.bool(),
            kept: rng.u8(..3) > 0,
            has_will: rng.u8(..4) == 0,
            eager: rng.bool(),
            may_poison: false,
            levels: &["even", "odd"],
            retains: false,
            expiry_rng: None,
            messages: Vec::new(),
            quota,
            window: rng.usize(1..24),
            payload_max,
            socket: None,
            connection: Connection::default(),
            expected: VecDeque::new(),
            greeted: false,
            greeted_at: 0,
            has_receipts: false,
            known: Known::No,
            session: 0,
            before_greeting: Vec::new(),
            has_sent_open: false,
            next_id: 0,
            ids: if rng.bool() { 30 } else { 1_000 },
            rng,
            reconnect_at: 0,
            unsure_connect: false,
            sent_to: None,
            will_delay_s: 0,
            wills: Vec::new(),
        }
    }

    /// Whether all messages are sent and answered.
    #[must_use]
    pub fn is_done(&self, all: &[Message]) -> bool {
        self.messages.len() >= self.quota && self.connection.has_sent() && self.open(all).next().is_none()
    }

    /// Messages that are not done, in order.
    pub fn open<'a>(&'a self, all: &'a [Message]) -> impl Iterator<Item = u32> + 'a {
        self.messages.iter().copied().filter(|number| all[*number as usize].is_open())
    }

    /// Session and process of each attempt to send a message, including one on a connection without a CONNACK so far.
    pub(crate) fn attempts(&self, number: u32, all: &[Message], life: u32) -> Vec<(u32, u32)> {
        let mut attempts = all[number as usize].attempts.clone();
        if self.before_greeting.contains(&number) && !attempts.contains(&(self.session, life)) {
            attempts.push((self.session, life));
        }
        attempts
    }

    /// Whether the session outlives its connections.
    pub(crate) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// Whether the connection has had its CONNACK.
    #[must_use]
    pub const fn is_greeted(&self) -> bool {
        self.socket.is_some() && self.greeted
    }

    /// A device that acts only on request: with this protocol version, a kept session or not, and no will.
    #[must_use]
    pub fn plain(index: usize, v5: bool, kept: bool) -> Self {
        let rng = fastrand::Rng::with_seed(index as u64);
        let device = Self::new(index, usize::MAX, 1, rng);
        Self { v5, kept, has_will: false, eager: false, window: 10_000, ids: 20_000, ..device }
    }

    /// Sets the protocol: 5.0, or 3.1.1.
    #[must_use]
    pub const fn is_v5(&self) -> bool {
        self.v5
    }

    /// Begins a new connection: CONNECT.
    pub fn connect(&mut self, socket: u64, all: &mut Vec<Message>, (time, life): (u64, u32)) {
        self.socket = Some(socket);
        self.connection.begin();
        self.expected.clear();
        self.greeted = false;
        self.before_greeting.clear();
        let clean = !self.kept || (self.v5 && self.known == Known::No);
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if self.v5 { 5 } else { 4 }];
        body.push(if clean { 2 } else { 0 } | if self.has_will { 4 | 1 << 3 } else { 0 });
        body.extend_from_slice(&[0, 0]);
        match (self.v5, self.kept) {
            // Session Expiry Interval: a day.
            (true, true) => body.extend_from_slice(&[5, 0x11, 0, 1, 0x51, 0x80]),
            (true, false) => body.push(0),
            (false, _) => {}
        }
        string(self.name.as_bytes(), &mut body);
        if self.has_will {
            let number = all.len() as u32;
            let topic = format!("{}/even", self.name);
            let payload = format!("m{number} will of {}", self.name).into_bytes();
            match (self.v5, self.will_delay_s) {
                (false, _) => {}
                (true, 0) => body.push(0),
                (true, seconds) => {
                    body.extend_from_slice(&[5, 0x18]);
                    body.extend_from_slice(&seconds.to_be_bytes());
                }
            }
            self.wills.push(WillSeen { message: number, was_greeted: false, lost_at: None, left: None, back_at: None });
            string(topic.as_bytes(), &mut body);
            string(&payload, &mut body);
            all.push(Message {
                device: self.index,
                qos: 1,
                topic,
                payload,
                state: State::Done,
                id: 0,
                sends: 1,
                attempts: vec![(0, life)],
                answered: None,
                refused_as: None,
                is_will: true,
                retain: false,
                sent_at: time,
                expiry_s: None,
            });
        }
        self.connection.packet(0x10, &body);
        if clean {
            self.session += 1;
            self.forget_received(all);
        }
        if clean || self.known != Known::Yes {
            self.unsure_connect = true;
        }
        self.has_sent_open = self.eager && self.known != Known::Maybe;
        if self.has_sent_open {
            self.send_open(all, life);
        }
    }

    /// Marks messages that had reached PUBREC in a lost session as done [MQTT-3.2.2-5].
    fn forget_received(&self, all: &mut [Message]) {
        for number in &self.messages {
            let message = &mut all[*number as usize];
            if message.state == State::Received {
                message.state = State::Done;
            }
        }
    }

    fn send_open(&mut self, all: &mut [Message], life: u32) {
        for number in self.open(all).collect::<Vec<_>>() {
            match all[number as usize].state {
                State::Received => self.connection.packet(0x62, &all[number as usize].id.to_be_bytes()),
                _ => self.send(number, all, (true, life)),
            }
        }
    }

    /// Notes the time when the connection was lost.
    pub(crate) fn note_lost(&mut self, time: u64) {
        if let Some(will) = self.wills.last_mut() {
            will.lost_at.get_or_insert(time);
        }
    }

    /// Ends the connection: the device notices at once, or finds out later.
    pub fn lost(&mut self, all: &mut [Message], life: u32) {
        self.socket = None;
        self.connection.end();
        if !self.greeted {
            if self.unsure_connect && self.kept {
                self.known = Known::Maybe;
            }
            let session = if self.kept && self.known == Known::Yes { self.session } else { self.session + 1 };
            for number in std::mem::take(&mut self.before_greeting) {
                attempted(&mut all[number as usize], (session, life));
            }
            self.session = session;
        }
        self.unsure_connect = false;
    }

    /// Publishes a new message, if the window of packet ids has room.
    pub fn publish(&mut self, all: &mut Vec<Message>, now: (u64, u32)) {
        let open = self.open(all).count();
        if !self.is_greeted() || self.messages.len() >= self.quota || open >= self.window {
            return;
        }
        let qos = self.rng.u8(..3);
        let poison = self.rng.u8(..30) == 0 && self.may_poison;
        let level = self.levels[self.rng.usize(..self.levels.len())];
        let length = self.rng.usize(..self.payload_max);
        self.publish_this((level, qos, length, poison), all, now);
    }

    /// Publishes a message to `<client id>/<level>` at this quality of service, with a filler of `length` bytes.
    pub fn publish_this(
        &mut self,
        (level, qos, length, poison): (&str, u8, usize, bool),
        all: &mut Vec<Message>,
        (time, life): (u64, u32),
    ) {
        let number = all.len() as u32;
        let topic = format!("{}/{level}", self.name);
        let mut payload = format!("m{number} {} ", self.name).into_bytes();
        if poison {
            payload.splice(..0, POISON.iter().copied().chain(*b" "));
        }
        payload.resize(payload.len() + length, b'.');
        let id = if qos == 0 { 0 } else { self.free_id(all) };
        let state = if qos == 0 { State::Done } else { State::Sent };
        let retain = self.retains && level == NO_SINK && qos == 1;
        all.push(Message {
            device: self.index,
            qos,
            topic,
            payload,
            state,
            id,
            sends: 0,
            attempts: Vec::new(),
            answered: None,
            refused_as: None,
            is_will: false,
            retain,
            sent_at: time,
            expiry_s: self.draws_expiry(level),
        });
        self.messages.push(number);
        self.send(number, all, (false, life));
    }

    /// Draws a message's lifetime: a few seconds for one of three messages for subscribers alone. A message for a sink would
    /// expire there, too.
    fn draws_expiry(&mut self, level: &str) -> Option<u32> {
        let rng = self.expiry_rng.as_mut().filter(|_| self.v5 && level == NO_SINK)?;
        (rng.u8(..3) == 0).then(|| rng.u32(1..5))
    }

    fn free_id(&mut self, all: &[Message]) -> u16 {
        loop {
            self.next_id = self.next_id % self.ids + 1;
            let id = self.next_id;
            if !self.open(all).any(|number| all[number as usize].id == id) {
                return id;
            }
        }
    }

    fn send(&mut self, number: u32, all: &mut [Message], (again, life): (bool, u32)) {
        let message = &mut all[number as usize];
        let mut body = Vec::with_capacity(message.payload.len() + 32);
        string(message.topic.as_bytes(), &mut body);
        if message.qos > 0 {
            body.extend_from_slice(&message.id.to_be_bytes());
            self.expected.push_back((if message.qos == 1 { 0x40 } else { 0x50 }, message.id));
        }
        if let Some(expiry_s) = message.expiry_s {
            body.extend_from_slice(&[5, 2]);
            body.extend_from_slice(&expiry_s.to_be_bytes());
        } else if self.v5 {
            body.push(0);
        }
        body.extend_from_slice(&message.payload);
        message.sends += 1;
        if self.greeted {
            attempted(message, (self.session, life));
        } else {
            self.before_greeting.push(number);
        }
        let first = 0x30 | message.qos << 1 | u8::from(again && self.kept) << 3 | u8::from(message.retain);
        self.connection.packet(first, &body);
    }

    /// Handles bytes of the shard.
    pub fn read(&mut self, bytes: &[u8], all: &mut [Message], (time, life): (u64, u32)) -> Vec<News> {
        let mut news = Vec::new();
        let failed = self.connection.receive(bytes);
        news.extend(failed.map(|what| News::Wrong(format!("{}: {what}", self.name))));
        while let Some((packet, head)) = self.connection.next_packet() {
            match self.packet_read((packet[0], &packet[head..]), all, (time, life)) {
                Ok(Some(one)) => news.push(one),
                Ok(None) => {}
                Err(what) => news.push(News::Wrong(format!("{}: {what}", self.name))),
            }
        }
        news
    }

    fn packet_read(
        &mut self,
        (first, body): (u8, &[u8]),
        all: &mut [Message],
        (time, life): (u64, u32),
    ) -> Result<Option<News>, String> {
        match first {
            0x20 => return self.greeted(body, all, (time, life)).map(|()| None),
            0xe0 => return Ok(None),
            _ if !self.greeted => return Err(format!("{first:#x} before CONNACK")),
            0x40 | 0x50 | 0x70 if body.len() >= 2 => {}
            other => return Err(format!("unexpected packet {other:#x}")),
        }
        let id = u16::from_be_bytes([body[0], body[1]]);
        let success = body.get(2).is_none_or(|code| *code < 0x80);
        let open = self.open(all).find(|number| all[*number as usize].id == id);
        let Some(number) = open else { return Err(format!("{first:#x} for id {id}, which is not in use")) };
        let message = &mut all[number as usize];
        if first == 0x70 {
            // 0x92: the previous PUBCOMP was lost with its connection.
            if !(success || body[2] == 0x92) || message.state != State::Received {
                return Err(format!("PUBCOMP {body:?} for message {number}, {:?}", message.state));
            }
            message.state = State::Done;
            return Ok(None);
        }
        if self.expected.pop_front() != Some((first, id)) {
            return Err(format!("{first:#x} for id {id} out of order"));
        }
        if message.state != State::Sent {
            return Err(format!("message {number} answered twice"));
        }
        message.state = match (success, first) {
            (false, _) => State::Refused,
            (true, 0x40) => State::Done,
            (true, _) => State::Received,
        };
        if success {
            message.answered = Some((time, life));
        } else {
            message.refused_as = body.get(2).copied();
        }
        if message.state == State::Received {
            self.connection.packet(0x62, &id.to_be_bytes());
        }
        let receipts = if self.v5 { crate::receipts::parse(&body[2..])? } else { Vec::new() };
        Ok(Some(News::Answered { message: number, success, receipts }))
    }

    fn greeted(&mut self, body: &[u8], all: &mut [Message], (time, life): (u64, u32)) -> Result<(), String> {
        if body[1] != 0 {
            // The connection was refused, and the device connects again.
            self.sent_to = crate::instances::named_in(body);
            return if matches!(body[1], 0x97 | 0x88 | 0x89 | 0x9c | 0x9f | 3) {
                Ok(())
            } else {
                Err(format!("CONNACK {body:?}"))
            };
        }
        let present = body[0] == 1;
        let (last, earlier) = self.wills.split_last_mut().map_or((None, &mut [][..]), |(last, all)| (Some(last), all));
        if let Some(will) = last {
            will.was_greeted = true;
        }
        earlier.iter_mut().for_each(|will| _ = will.back_at.get_or_insert((time, present)));
        let expected = self.known;
        if !self.kept && present {
            return Err("session present for a clean session".to_owned());
        }
        if self.kept && expected == Known::Yes && !present {
            return Err("its session is gone".to_owned());
        }
        if self.kept && expected == Known::No && present {
            return Err("a session is present that it ended".to_owned());
        }
        if !present && expected == Known::Maybe {
            self.session += 1;
            self.forget_received(all);
        }
        (self.greeted, self.greeted_at, self.unsure_connect) = (true, time, false);
        self.known = if self.kept { Known::Yes } else { Known::No };
        let sent = std::mem::take(&mut self.before_greeting);
        let session = self.session;
        sent.iter().for_each(|number| attempted(&mut all[*number as usize], (session, life)));
        if sent.is_empty() && self.expected.is_empty() && !self.has_sent_open {
            self.send_open(all, life);
        }
        Ok(())
    }

    /// Notes the end of the process: without a disk for sessions, sessions have ended as well.
    pub fn process_ended(&mut self, sessions_kept: bool) {
        if !sessions_kept {
            self.known = Known::No;
        }
    }
}

fn attempted(message: &mut Message, attempt: (u32, u32)) {
    if !message.attempts.contains(&attempt) {
        message.attempts.push(attempt);
    }
}

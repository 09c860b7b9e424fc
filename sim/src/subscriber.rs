//! An MQTT client that subscribes, as the standard requires: it remembers its packet identifiers of QoS 2 across
//! connections, acknowledges in order, sooner or later, and notes everything that no server may do to one client (J4,
//! session present). `judge/subscribers.rs` judges the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use forebay::mqtt::decode::decode;
use forebay::mqtt::frame::Frame;
use forebay::mqtt::packet::{Packet, Publish, Sender, Version};
use forebay::mqtt::property::Property;
use forebay::route::filter::matches;

use crate::connection::{Connection, string};
use crate::device::Known;
use crate::judge::subscribers::Ledger;
use crate::kafka::front::message_number;
use crate::plan::NO_SINK;

/// Bound on the unacknowledged messages of a client before 5.0 (docs/SUBSCRIPTIONS.md).
const BEFORE_5_MAX: usize = 64;

/// State of a subscription, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Not subscribed.
    Never,
    /// SUBSCRIBE was sent, perhaps on a connection that is gone.
    Subscribing,
    /// SUBACK was read, at this time.
    Has(u64),
    /// UNSUBSCRIBE was sent; SUBACK was read at this time.
    Leaving(u64),
    /// UNSUBACK was read, at this time.
    Gone(u64),
    /// The last SUBSCRIBE was refused, because the disk had no room. The subscription may exist nevertheless, from an
    /// earlier SUBSCRIBE with a lost SUBACK.
    Refused,
}

/// A filter that the client subscribes to at times.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Topic filter; for a shared subscription the part after the share name.
    pub filter: String,
    /// Requested quality of service.
    pub qos: u8,
    /// State of the subscription in this session.
    pub asked: Asked,
}

impl Wish {
    /// Whether the SUBACK had been read before this time, and there was no UNSUBSCRIBE since.
    pub(crate) fn had(&self, time: u64) -> bool {
        matches!(self.asked, Asked::Has(since) if since < time)
    }
}

/// A PUBLISH that was received.
#[derive(Debug)]
pub struct Copy {
    /// Number of the message.
    pub message: u32,
    /// Topic, resolved if it came as an alias.
    pub topic: String,
    /// Payload of the message.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// DUP.
    pub dup: bool,
    /// RETAIN: the message was retained when the client subscribed.
    pub retain: bool,
    /// Whether the packet identifier is a new one to the client, so that the message is handed on.
    pub is_handed_on: bool,
    /// Subscription Identifiers.
    pub identifiers: Vec<u32>,
    /// Message Expiry Interval.
    pub expiry_s: Option<u32>,
    /// State of the first subscription when the PUBLISH came.
    pub asked: Asked,
}

/// An MQTT client that subscribes.
#[derive(Debug)]
pub struct Subscriber {
    /// Client id.
    pub name: String,
    version: Version,
    /// The shared subscription that the client is a member of, by number. A member has no other filter.
    pub share: Option<usize>,
    /// Whether the session outlives its connections.
    pub kept: bool,
    receive_maximum: u16,
    aliases_max: u16,
    /// Whether subscriptions have identifiers.
    pub has_identifiers: bool,
    /// The client answers one packet in this many steps.
    lazy: u8,
    /// Filters that the client subscribes to at times.
    pub wishes: Vec<Wish>,
    /// The client's end of the connection.
    pub(crate) connection: Connection,
    /// The connection's socket.
    pub socket: Option<u64>,
    /// Time of the next connection attempt.
    pub back_at: u64,
    greeted: bool,
    /// Time of the connection's CONNACK.
    pub greeted_at: u64,
    /// Number of connections so far.
    pub connections: u32,
    /// Number of sessions so far. The next field: time when the last session but this one had ended for certain.
    pub sessions: u32,
    pub(crate) ended_at: u64,
    known: Known,
    wants_new: bool,
    /// Processes that ran when the log's records of the session were damaged: later processes may lack the session, or
    /// have it as it was before.
    doubted_in: BTreeSet<u32>,
    /// Time before which packets were sent that may come again or late, for the same reason.
    pub doubted_until: u64,
    /// Packet identifiers of QoS 2 without a PUBREL so far, with their messages.
    held: BTreeMap<u16, u32>,
    /// Identifiers of `held` with damaged records, so that their PUBREL may never come.
    unreleased: BTreeSet<u16>,
    /// Packet identifiers that are not completely acknowledged on this connection.
    open: BTreeMap<u16, u32>,
    /// Due acknowledgements: first byte and packet identifier, in order.
    owed: VecDeque<(u8, u16)>,
    aliases: HashMap<u16, String>,
    /// The instance that the Server Reference of a refusal has named, by index.
    pub(crate) sent_to: Option<usize>,
    /// The messages that this session has got.
    pub ledger: Ledger,
    pub(crate) rng: fastrand::Rng,
}

impl Subscriber {
    /// A subscriber of a run with this many devices. Its choices come from its own random stream.
    #[must_use]
    pub fn new(index: usize, devices: usize, mut rng: fastrand::Rng) -> Self {
        let is_v5 = rng.bool();
        let count = rng.usize(1..4);
        let wishes = (0..count).map(|_| Wish {
            filter: filter(devices, &mut rng),
            qos: [0, 1, 1, 2, 2, 2][rng.usize(..6)],
            asked: Asked::Never,
        });
        let mut wishes: Vec<Wish> = wishes.collect();
        wishes.sort_by(|one, other| one.filter.cmp(&other.filter));
        wishes.dedup_by(|one, other| one.filter == other.filter);
        Self {
            name: format!("s{index}"),
            share: None,
            version: if is_v5 { Version::V5 } else { Version::V311 },
            kept: rng.u8(..4) > 0,
            receive_maximum: [1, 2, 7, 100, 65_535][rng.usize(..5)],
            aliases_max: if rng.bool() { rng.u16(1..8) } else { 0 },
            has_identifiers: is_v5 && rng.bool(),
            lazy: rng.u8(1..6),
            wishes,
            connection: Connection::default(),
            socket: None,
            back_at: 0,
            greeted: false,
            greeted_at: 0,
            connections: 0,
            sessions: 0,
            ended_at: 0,
            known: Known::No,
            wants_new: is_v5,
            doubted_in: BTreeSet::new(),
            doubted_until: 0,
            held: BTreeMap::new(),
            unreleased: BTreeSet::new(),
            open: BTreeMap::new(),
            owed: VecDeque::new(),
            aliases: HashMap::new(),
            sent_to: None,
            ledger: Ledger::default(),
            rng,
        }
    }

    /// A subscriber that is a member of a shared subscription. A session that is not kept loses its messages of QoS 2 with its
    /// connection, so its member asks for QoS 1.
    pub(crate) fn member(index: usize, (share, filter): (usize, &str), rng: fastrand::Rng) -> Self {
        let mut member = Self { share: Some(share), ..Self::new(index, 1, rng) };
        let qos = if member.kept { member.rng.u8(1..3) } else { 1 };
        member.wishes = vec![Wish { filter: filter.to_owned(), qos, asked: Asked::Never }];
        member
    }

    /// A subscriber to everything, at QoS 1, with a kept session.
    pub(crate) fn of_all(index: usize, rng: fastrand::Rng) -> Self {
        let wishes = vec![Wish { filter: "#".to_owned(), qos: 1, asked: Asked::Never }];
        Self { kept: true, wishes, ..Self::new(index, 1, rng) }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// Bound on the client's unacknowledged messages.
    fn open_max(&self) -> usize {
        if self.is_v5() { self.receive_maximum.into() } else { BEFORE_5_MAX }
    }

    /// Whether the connection has had its CONNACK.
    #[must_use]
    pub const fn is_greeted(&self) -> bool {
        self.socket.is_some() && self.greeted
    }

    /// Whether the client is connected, and neither owes nor awaits an answer.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let waits = self.wishes.iter().any(|wish| matches!(wish.asked, Asked::Subscribing | Asked::Leaving(_)));
        let holds = self.held.keys().any(|id| !self.unreleased.contains(id));
        self.is_greeted() && !waits && self.owed.is_empty() && !holds && self.connection.has_sent()
    }

    /// The state in words, for a run that does not end.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { name, socket, greeted, wishes, held, open, owed, .. } = self;
        format!("{name} socket {socket:?} greeted {greeted} {wishes:?} held {held:?} open {open:?} owed {owed:?}")
    }

    // ---- packets to the server ----

    /// Begins a new connection: CONNECT.
    pub(crate) fn connect(&mut self, socket: u64) {
        self.socket = Some(socket);
        self.connection.begin();
        self.connections += 1;
        self.greeted = false;
        (self.open, self.owed, self.aliases) = Default::default();
        self.ledger.connection_begins();
        if self.wants_new || !self.kept {
            self.session_begins();
        }
        let is_clean = self.wants_new || !self.kept;
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if self.is_v5() { 5 } else { 4 }];
        body.extend_from_slice(&[if is_clean { 2 } else { 0 }, 0, 0]);
        if self.is_v5() {
            let mut properties = vec![0x21];
            properties.extend_from_slice(&self.receive_maximum.to_be_bytes());
            properties.push(0x22);
            properties.extend_from_slice(&self.aliases_max.to_be_bytes());
            if self.kept {
                // Session Expiry Interval: a day.
                properties.extend_from_slice(&[0x11, 0, 1, 0x51, 0x80]);
            }
            body.push(properties.len() as u8);
            body.extend_from_slice(&properties);
        }
        string(self.name.as_bytes(), &mut body);
        self.connection.packet(0x10, &body);
    }

    /// Begins a new session, without the state of the previous one.
    fn session_begins(&mut self) {
        self.held.clear();
        self.unreleased.clear();
        self.ledger = Ledger::default();
        self.sessions += 1;
        self.wishes.iter_mut().for_each(|wish| wish.asked = Asked::Never);
    }

    /// Makes the next CONNECT ask for a new session.
    pub(crate) fn forget(&mut self) {
        self.wants_new |= self.kept && self.is_v5();
    }

    /// Sends SUBSCRIBE, or UNSUBSCRIBE for a filter that the client has subscribed to.
    pub(crate) fn toggle(&mut self, which: usize) {
        let wish = &mut self.wishes[which];
        wish.asked = match wish.asked {
            Asked::Never | Asked::Gone(_) | Asked::Refused => Asked::Subscribing,
            Asked::Has(since) => Asked::Leaving(since),
            Asked::Subscribing | Asked::Leaving(_) => return,
        };
        self.ask(which);
    }

    /// Sends SUBSCRIBE for all filters, including those already subscribed to.
    pub(crate) fn ask_again(&mut self) {
        for which in 0..self.wishes.len() {
            self.wishes[which].asked = Asked::Subscribing;
            self.ask(which);
        }
    }

    /// Sends the packet for a filter with a pending request. Packet identifiers and Subscription Identifiers follow from
    /// its index.
    fn ask(&mut self, which: usize) {
        let Wish { filter, qos, asked } = &self.wishes[which];
        let is_subscribe = match asked {
            Asked::Subscribing => true,
            Asked::Leaving(_) => false,
            _ => return,
        };
        let mut body = (which as u16 + 1).to_be_bytes().to_vec();
        if self.is_v5() {
            let identifier = [2, 0x0b, which as u8 + 1];
            body.extend_from_slice(if is_subscribe && self.has_identifiers { &identifier } else { &[0] });
        }
        match self.share {
            Some(share) => string(format!("$share/{share}/{filter}").as_bytes(), &mut body),
            None => string(filter.as_bytes(), &mut body),
        }
        if is_subscribe {
            body.push(*qos);
        }
        self.connection.packet(if is_subscribe { 0x82 } else { 0xa2 }, &body);
    }

    /// Acknowledges at most `most` packets, the oldest first. Returns the messages that the client has from now on.
    pub(crate) fn answer(&mut self, most: usize) -> Vec<u32> {
        let mut answered = Vec::new();
        for _ in 0..most.min(self.owed.len()) {
            let Some((first, id)) = self.owed.pop_front() else { break };
            self.connection.packet(first, &id.to_be_bytes());
            answered.extend(self.open.get(&id));
            if first != 0x50 {
                self.open.remove(&id);
            }
        }
        answered
    }

    /// Draws the number of packets to answer in this step.
    pub(crate) fn draws_answers(&mut self) -> usize {
        if self.rng.u8(..self.lazy) == 0 { self.rng.usize(..12) } else { 0 }
    }

    /// Ends the connection: the client notices at once, or finds out later.
    pub(crate) fn lost(&mut self) {
        self.socket = None;
        self.connection.end();
        if !self.greeted && self.kept && self.known == Known::No {
            self.known = Known::Maybe;
        }
    }

    /// Notes the end of the process: without a disk for sessions, sessions have ended as well.
    pub(crate) fn process_ended(&mut self, sessions_kept: bool) {
        if !sessions_kept {
            self.known = Known::No;
        } else if self.kept && !self.doubted_in.is_empty() {
            self.known = Known::Maybe;
        }
    }

    /// Messages of QoS 2 without a PUBREL so far.
    pub(crate) fn held(&self) -> impl Iterator<Item = u32> {
        self.held.values().copied()
    }

    /// Time up to which packets to the client are in doubt, as of now.
    pub(crate) fn doubts_from(&self, time: u64) -> u64 {
        if self.doubted_in.is_empty() { self.doubted_until } else { time }
    }

    /// Marks the doubtful ones of the held messages: the server may have forgotten them, or forgotten that the client
    /// has them.
    pub(crate) fn may_not_be_told(&mut self, is_doubtful: impl Fn(u32) -> bool) {
        self.unreleased = self.held.iter().filter(|(_, message)| is_doubtful(**message)).map(|(id, _)| *id).collect();
    }

    /// Notes that the log's records of the session are damaged.
    pub(crate) fn doubt(&mut self, life: u32) {
        self.doubted_in.insert(life);
    }

    // ---- packets from the server ----

    /// Handles bytes of the shard. Returns copies and errors.
    pub(crate) fn read(&mut self, bytes: &[u8], time: u64, life: u32) -> Vec<Result<Copy, String>> {
        let mut heard = Vec::new();
        heard.extend(self.connection.receive(bytes).map(Err));
        while let Some((packet, head)) = self.connection.next_packet() {
            let frame = Frame { first: packet[0], body: &packet[head..], len: packet.len() };
            let result = match decode(self.version, Sender::Server, frame) {
                Ok(packet) => self.take(&packet, (time, life)),
                Err(why) => Err(format!("malformed: {why:?}")),
            };
            heard.extend(result.transpose());
        }
        heard
    }

    fn take(&mut self, packet: &Packet<'_>, (time, life): (u64, u32)) -> Result<Option<Copy>, String> {
        if !self.greeted && !matches!(packet, Packet::ConnAck(_)) {
            return Err(format!("{packet:?} before CONNACK"));
        }
        match packet {
            Packet::ConnAck(connack) if connack.reason.is_error() => {
                let mut properties = connack.properties.iter();
                self.sent_to = properties.find_map(|property| match property {
                    Property::ServerReference(server) => crate::instances::named_in(server.as_bytes()),
                    _ => None,
                });
                if !matches!(connack.reason.0, 0x97 | 0x88 | 0x89 | 0x9c | 0x9f | 3) {
                    return Err(format!("{connack:?}"));
                }
            }
            Packet::ConnAck(connack) => self.greeted(connack.session_present, (time, life))?,
            Packet::Publish(publish) => return self.published(publish).map(Some),
            Packet::PubRel(ack) => {
                self.held.remove(&ack.packet_id);
                self.unreleased.remove(&ack.packet_id);
                self.owed.push_back((0x70, ack.packet_id));
            }
            Packet::SubAck(ack) => self.subscribed((ack.packet_id, ack.codes), time)?,
            Packet::UnsubAck(ack) => match self.wish(ack.packet_id).map(|wish| &mut wish.asked) {
                Some(asked @ Asked::Leaving(_)) => *asked = Asked::Gone(time),
                _ => return Err(format!("unexpected {ack:?}")),
            },
            Packet::Disconnect(_) => {}
            other => return Err(format!("unexpected {other:?}")),
        }
        Ok(None)
    }

    fn wish(&mut self, id: u16) -> Option<&mut Wish> {
        self.wishes.get_mut(usize::from(id).checked_sub(1)?)
    }

    fn greeted(&mut self, is_present: bool, (time, life): (u64, u32)) -> Result<(), String> {
        let is_expected = match (self.kept && !self.wants_new, self.known) {
            (false, _) | (_, Known::No) => Some(false),
            (_, Known::Yes) => Some(true),
            (_, Known::Maybe) => None,
        };
        if is_expected.is_some_and(|expected| expected != is_present) {
            return Err(format!("session present {is_present}"));
        }
        if !is_present {
            self.session_begins();
            self.ended_at = time;
        }
        (self.greeted, self.greeted_at, self.wants_new) = (true, time, false);
        self.known = if self.kept { Known::Yes } else { Known::No };
        let mut is_new = self.wishes.iter().all(|wish| matches!(wish.asked, Asked::Never | Asked::Refused));
        let of_now = self.doubted_in.split_off(&life);
        if !std::mem::replace(&mut self.doubted_in, of_now).is_empty() && is_present {
            // The server's subscriptions may differ from the acknowledged ones: the client asks for all again.
            (self.doubted_until, is_new) = (time, true);
        }
        for which in 0..self.wishes.len() {
            if is_new {
                self.wishes[which].asked = Asked::Subscribing;
            }
            self.ask(which);
        }
        Ok(())
    }

    fn subscribed(&mut self, (id, codes): (u16, &[u8]), time: u64) -> Result<(), String> {
        let wish = self.wish(id).filter(|wish| wish.asked == Asked::Subscribing);
        let Some(wish) = wish else { return Err(format!("SUBACK {id} {codes:?}, which nothing waits for")) };
        wish.asked = match codes {
            [granted] if *granted == wish.qos => Asked::Has(time),
            // The disk has no room.
            [0x97 | 0x80] => Asked::Refused,
            _ => return Err(format!("SUBACK {id} {codes:?} for QoS {}", wish.qos)),
        };
        Ok(())
    }

    fn published(&mut self, publish: &Publish<'_>) -> Result<Copy, String> {
        let (id, dup, retain, qos) = (publish.packet_id, publish.dup, publish.retain, publish.qos as u8);
        let message = message_number(publish.payload).ok_or_else(|| format!("a message of nobody: {publish:?}"))?;
        let (topic, identifiers, expiry_s) = self.properties(publish)?;
        let mut is_handed_on = true;
        if qos > 0 {
            if let Some(other) = self.open.insert(id, message) {
                return Err(format!("J4: packet identifier {id} of message {other}, which is open, for {message}"));
            }
            if self.open.len() > self.open_max() {
                return Err(format!("J4: {} unacknowledged, {} are allowed", self.open.len(), self.open_max()));
            }
            self.owed.push_back((if qos == 1 { 0x40 } else { 0x50 }, id));
        }
        if qos == 2
            && let Some(held) = self.held.insert(id, message)
        {
            // A server that has forgotten the exchange may give the identifier to another message. One that repeats the held
            // message knows of it: a process that has not noticed that its log was cut.
            let may_be_forgotten = self.unreleased.remove(&id);
            let is_repeated = held == message && dup;
            is_handed_on = may_be_forgotten && !is_repeated;
            if !may_be_forgotten && !is_repeated {
                return Err(format!("J4: {id} of message {held} is not released: message {message}, DUP {dup}"));
            }
        }
        let payload = publish.payload.to_vec();
        let asked = self.wishes[0].asked;
        Ok(Copy { message, topic, payload, qos, dup, retain, is_handed_on, identifiers, expiry_s, asked })
    }

    fn properties(&mut self, publish: &Publish<'_>) -> Result<(String, Vec<u32>, Option<u32>), String> {
        let (mut topic, mut identifiers, mut expiry_s) = (publish.topic.to_owned(), Vec::new(), None);
        for property in publish.properties.iter() {
            match property {
                Property::SubscriptionIdentifier(identifier) => identifiers.push(identifier),
                Property::MessageExpiryInterval(seconds) => expiry_s = Some(seconds),
                Property::TopicAlias(alias) if (1..=self.aliases_max).contains(&alias) => {
                    if topic.is_empty() {
                        topic = self.aliases.get(&alias).ok_or(format!("alias {alias} has no topic"))?.clone();
                    } else {
                        self.aliases.insert(alias, topic.clone());
                    }
                }
                other => return Err(format!("PUBLISH with {other:?}")),
            }
        }
        Ok((topic, identifiers, expiry_s))
    }

    /// Filters of the client that match a topic.
    pub(crate) fn matching<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = (usize, &'a Wish)> {
        self.wishes.iter().enumerate().filter(move |(_, wish)| matches(&wish.filter, topic))
    }
}

/// A random filter of topics of this many devices.
pub(crate) fn filter(devices: usize, rng: &mut fastrand::Rng) -> String {
    let device = rng.usize(..devices);
    let level = ["even", "odd", NO_SINK, NO_SINK][rng.usize(..4)];
    match rng.u8(..6) {
        0 => "#".to_owned(),
        1 | 2 => format!("+/{level}"),
        3 => format!("d{device}/#"),
        _ => format!("d{device}/{level}"),
    }
}

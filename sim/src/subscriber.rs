//! An MQTT client that subscribes, as the standard wants it: it keeps which packet identifiers of QoS 2 it has, over its
//! connections, acknowledges in order, sooner or later, and notes what no server may do to one client (J4, session present).
//! `judge/subscribers.rs` judges the rest.

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

/// Messages that a client before 5.0 has unacknowledged at most (docs/SUBSCRIPTIONS.md).
const BEFORE_5_MAX: usize = 64;

/// How far a subscription has come, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There is none.
    Never,
    /// SUBSCRIBE is on its way, perhaps on a connection that is gone.
    Subscribing,
    /// SUBACK was read, at this time.
    Has(u64),
    /// UNSUBSCRIBE is on its way; SUBACK was read at this time.
    Leaving(u64),
    /// UNSUBACK was read, at this time.
    Gone(u64),
    /// The last SUBSCRIBE was refused, as the disk had no room. It may be there all the same, from an earlier one
    /// with a lost SUBACK.
    Refused,
}

/// A filter that it subscribes to, now and then.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Topic filter; of a shared subscription the part behind its name.
    pub filter: String,
    /// Quality of service that it asks for.
    pub qos: u8,
    /// What has become of it in this session.
    pub asked: Asked,
}

impl Wish {
    /// Whether its SUBACK had been read before this time, and it has not been left since.
    pub(crate) fn had(&self, time: u64) -> bool {
        matches!(self.asked, Asked::Has(since) if since < time)
    }
}

/// A PUBLISH that came.
#[derive(Debug)]
pub struct Copy {
    /// The number of its message.
    pub message: u32,
    /// Its topic, also if an alias says it.
    pub topic: String,
    /// The contents of the message.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// DUP.
    pub dup: bool,
    /// RETAIN: it was retained when the client subscribed.
    pub retain: bool,
    /// Not one under a packet identifier that the client has.
    pub is_handed_on: bool,
    /// Subscription Identifiers.
    pub identifiers: Vec<u32>,
    /// Message Expiry Interval.
    pub expiry_s: Option<u32>,
    /// How far the first subscription had come when it came.
    pub asked: Asked,
}

/// An MQTT client that subscribes.
#[derive(Debug)]
pub struct Subscriber {
    /// Its client id.
    pub name: String,
    version: Version,
    /// The shared subscription that it is a member of, by number. It has no other filter then.
    pub share: Option<usize>,
    /// Its session outlives its connections.
    pub kept: bool,
    receive_maximum: u16,
    aliases_max: u16,
    /// Its subscriptions have identifiers.
    pub has_identifiers: bool,
    /// It answers one packet in this many steps of its own.
    lazy: u8,
    /// The filters that it subscribes to, now and then.
    pub wishes: Vec<Wish>,
    /// Its end of the connection.
    pub(crate) connection: Connection,
    /// Its connection's socket.
    pub socket: Option<u64>,
    /// When it is to connect next.
    pub back_at: u64,
    greeted: bool,
    /// Since when it has been connected.
    pub greeted_at: u64,
    /// Connections that it has had.
    pub connections: u32,
    /// Sessions that it has had, and when the last one but this had ended for certain.
    pub sessions: u32,
    pub(crate) ended_at: u64,
    known: Known,
    wants_new: bool,
    /// The processes that ran when the log's records of its session were damaged: the next ones may not have the
    /// session, or have it as it was before.
    doubted_in: BTreeSet<u32>,
    /// What was sent before this may come again, or late, for the same reason.
    pub doubted_until: u64,
    /// Packet identifiers of QoS 2 that it has not been told to release, and their messages.
    held: BTreeMap<u16, u32>,
    /// Those of them with damaged records, so that PUBREL for them may never come.
    unreleased: BTreeSet<u16>,
    /// Packet identifiers that it has not acknowledged to the end on this connection.
    open: BTreeMap<u16, u32>,
    /// What it has to answer: first byte and packet identifier, in order.
    owed: VecDeque<(u8, u16)>,
    aliases: HashMap<u16, String>,
    /// The instance that it was told to connect to, by index.
    pub(crate) sent_to: Option<usize>,
    /// What this session has got.
    pub ledger: Ledger,
    pub(crate) rng: fastrand::Rng,
}

impl Subscriber {
    /// A subscriber of a run with this many devices; its choices come from its own stream of chance.
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

    /// The same, as a member of a shared subscription. What a session that is not kept has at QoS 2 ends with its connection: such ones
    /// ask for QoS 1.
    pub(crate) fn member(index: usize, (share, filter): (usize, &str), rng: fastrand::Rng) -> Self {
        let mut member = Self { share: Some(share), ..Self::new(index, 1, rng) };
        let qos = if member.kept { member.rng.u8(1..3) } else { 1 };
        member.wishes = vec![Wish { filter: filter.to_owned(), qos, asked: Asked::Never }];
        member
    }

    /// One that wants everything, at QoS 1, and keeps it.
    pub(crate) fn of_all(index: usize, rng: fastrand::Rng) -> Self {
        let wishes = vec![Wish { filter: "#".to_owned(), qos: 1, asked: Asked::Never }];
        Self { kept: true, wishes, ..Self::new(index, 1, rng) }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// Messages that it may have unacknowledged.
    fn open_max(&self) -> usize {
        if self.is_v5() { self.receive_maximum.into() } else { BEFORE_5_MAX }
    }

    /// Whether it has had its CONNACK.
    #[must_use]
    pub const fn is_greeted(&self) -> bool {
        self.socket.is_some() && self.greeted
    }

    /// Whether it is connected, and neither owes nor waits for an answer.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let waits = self.wishes.iter().any(|wish| matches!(wish.asked, Asked::Subscribing | Asked::Leaving(_)));
        let holds = self.held.keys().any(|id| !self.unreleased.contains(id));
        self.is_greeted() && !waits && self.owed.is_empty() && !holds && self.connection.has_sent()
    }

    /// In words, for a run that does not end.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { name, socket, greeted, wishes, held, open, owed, .. } = self;
        format!("{name} socket {socket:?} greeted {greeted} {wishes:?} held {held:?} open {open:?} owed {owed:?}")
    }

    // ---- what it says ----

    /// A new connection: CONNECT.
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

    /// What it had in another session is over.
    fn session_begins(&mut self) {
        self.held.clear();
        self.unreleased.clear();
        self.ledger = Ledger::default();
        self.sessions += 1;
        self.wishes.iter_mut().for_each(|wish| wish.asked = Asked::Never);
    }

    /// It asks for a new session the next time.
    pub(crate) fn forget(&mut self) {
        self.wants_new |= self.kept && self.is_v5();
    }

    /// SUBSCRIBE, or UNSUBSCRIBE for a filter that it has.
    pub(crate) fn toggle(&mut self, which: usize) {
        let wish = &mut self.wishes[which];
        wish.asked = match wish.asked {
            Asked::Never | Asked::Gone(_) | Asked::Refused => Asked::Subscribing,
            Asked::Has(since) => Asked::Leaving(since),
            Asked::Subscribing | Asked::Leaving(_) => return,
        };
        self.ask(which);
    }

    /// SUBSCRIBE for all its filters, also for those that it has.
    pub(crate) fn ask_again(&mut self) {
        for which in 0..self.wishes.len() {
            self.wishes[which].asked = Asked::Subscribing;
            self.ask(which);
        }
    }

    /// The packet for a filter that it waits for. Packet identifiers and Subscription Identifiers follow from its place.
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

    /// Acknowledges packets, the oldest first, `most` at most. The messages that its client has from now on.
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

    /// How many it answers in this step.
    pub(crate) fn draws_answers(&mut self) -> usize {
        if self.rng.u8(..self.lazy) == 0 { self.rng.usize(..12) } else { 0 }
    }

    /// Its connection is gone; it knows, or finds out.
    pub(crate) fn lost(&mut self) {
        self.socket = None;
        self.connection.end();
        if !self.greeted && self.kept && self.known == Known::No {
            self.known = Known::Maybe;
        }
    }

    /// The process has ended: without a disk for sessions, so have they.
    pub(crate) fn process_ended(&mut self, sessions_kept: bool) {
        if !sessions_kept {
            self.known = Known::No;
        } else if self.kept && !self.doubted_in.is_empty() {
            self.known = Known::Maybe;
        }
    }

    /// Messages under packet identifiers that it has not been told to release.
    pub(crate) fn held(&self) -> impl Iterator<Item = u32> {
        self.held.values().copied()
    }

    /// Up to when what was sent to it is in doubt, at this time.
    pub(crate) fn doubts_from(&self, time: u64) -> u64 {
        if self.doubted_in.is_empty() { self.doubted_until } else { time }
    }

    /// Messages that it holds may be gone, which these are; so may be that it has them.
    pub(crate) fn may_not_be_told(&mut self, is_doubtful: impl Fn(u32) -> bool) {
        self.unreleased = self.held.iter().filter(|(_, message)| is_doubtful(**message)).map(|(id, _)| *id).collect();
    }

    /// What the log has of its session is damaged.
    pub(crate) fn doubt(&mut self, life: u32) {
        self.doubted_in.insert(life);
    }

    // ---- what it hears ----

    /// Bytes of the shard: copies, and what was wrong.
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
            // Its subscriptions may be others than it was told: it asks for all of them.
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
            // No room on the disk.
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
            && !self.unreleased.remove(&id)
        {
            is_handed_on = false;
            if held != message || !dup {
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

    /// Its filters that match a topic.
    pub(crate) fn matching<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = (usize, &'a Wish)> {
        self.wishes.iter().enumerate().filter(move |(_, wish)| matches(&wish.filter, topic))
    }
}

/// A filter of topics of this many devices.
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

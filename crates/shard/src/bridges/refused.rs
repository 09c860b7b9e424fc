//! Messages that a remote refuses. A message that the remote has no room for is sent again, a few times; any other becomes a dead letter, or is dropped if
//! the bridge has none. The copy keeps its place in the session's window until that is over, so a crash loses none: it is sent again then.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::words::{Flow, Owner, clipped};
use forebay_config::Bridge;
use forebay_kafka::types::Outcome;
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Ack, QoS};
use forebay_mqtt::property::Property;
use forebay_mqtt::reason::ReasonCode;
use forebay_record::{Row, timestamp_at};
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_session::{Body, Passes, RefusedCopy, SessionKey};

use super::super::Core;
use super::super::dead_letters::{
    BRIDGE_HEADER, FileQueue, HEADER_PREFIX, Line, MQTT_TOPIC_HEADER, QOS_HEADER, REASON_HEADER, RECEIVED_HEADER,
};
use super::super::members::Role;
use super::super::outlets::Outlets;
use super::super::ring::Ring;
use super::super::words::Source;
use super::Bridges;
use super::told::tell;

/// The number of times that a message is sent again that the remote had no room for.
const AGAIN_MAX: u8 = 5;
/// The delay before a dead letter that found no room is tried again.
const ROOM_AFTER: Duration = Duration::from_millis(200);

/// The number of connections in a row that a remote before 5.0 ends with the same message on its way, after which that is sent alone.
const ALONE_AFTER: u8 = 3;
/// The number of these after which the remote has refused the message.
const CLOSES_MAX: u8 = 10;
/// The reason for such a message, which the remote cannot say.
const UNSAID: ReasonCode = ReasonCode::UNSPECIFIED_ERROR;

/// The message that may be why a remote before 5.0 ends its connections: it may be too large, or not permitted.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// The number of the copy.
    copy: u64,
    closes: u8,
}

/// The next step for a refused copy.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The copy is sent again.
    Again,
    /// The dead letter has found no room.
    Letter(ReasonCode),
}

/// A dead letter in flight.
#[derive(Clone, Copy, Debug)]
struct Letter {
    /// The number of the copy.
    copy: u64,
    reason: ReasonCode,
}

/// The refusals of a bridge's remote, at most as many as messages may be in flight to it.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The next step for each copy, by due time and copy number.
    due: BTreeMap<(Monotonic, u64), Then>,
    letters: HashMap<u32, Letter>,
    /// Answered letters. `None`: the letter is durable; otherwise Kafka's error code.
    answered: Vec<(u32, Option<i16>)>,
    /// The number of the file's use, and the bridge's file.
    file: Option<(usize, FileQueue)>,
    suspect: Option<Suspect>,
}

impl Refusals {
    pub(super) fn new(file: Option<(usize, FileQueue)>) -> Self {
        Self { file, ..Self::default() }
    }

    pub(super) fn next_deadline(&self) -> Monotonic {
        self.due.keys().next().map_or(Monotonic::NEVER, |(at, _)| *at)
    }

    /// Whether the remote is sent one message at a time.
    pub(super) fn is_one_alone(&self) -> bool {
        self.suspect.is_some_and(|suspect| suspect.closes >= ALONE_AFTER)
    }

    /// Forgets the suspect. Returns whether the remote was sent that alone.
    pub(super) fn acquit(&mut self) -> bool {
        let was_alone = self.is_one_alone();
        self.suspect = None;
        was_alone
    }

    fn take_due(&mut self, now: Monotonic) -> Option<(u64, Then)> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, copy), then) = entry.remove_entry();
        Some((copy, then))
    }
}

/// The reason why a dead letter is not written.
enum Unwritten {
    /// The place has no room at the moment.
    NoRoom,
    /// There is no place for it, or the place will never take it.
    Nowhere,
}

/// Whether the remote may take the message later.
fn may_heal(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::QUOTA_EXCEEDED | ReasonCode::PACKET_IDENTIFIER_IN_USE)
}

/// A reason as dead letters write it.
fn label(reason: ReasonCode) -> String {
    reason.name().to_uppercase().replace(' ', "_")
}

/// The wait before a message is sent for the `times`th time again.
fn wait(bridge: &Bridge, times: u8) -> Duration {
    let doubled = bridge.reconnect_backoff.saturating_mul(1 << u32::from(times.saturating_sub(1)).min(16));
    doubled.min(bridge.reconnect_backoff_max)
}

impl Bridges {
    /// Whether dead letters were answered since the last turn.
    pub(crate) fn has_answers(&self) -> bool {
        self.has_answers
    }
}

impl Core {
    /// The queue to a bridge's file, if it has one.
    pub(super) fn file_of_bridge(&mut self, index: usize) -> Option<(usize, FileQueue)> {
        let to = self.around.dead_letters.bridges.get(index)?.clone()?;
        self.bridges.files_used += 1;
        let number = self.bridges.files_used;
        Some((number, FileQueue::new(self.here.index, number, to)))
    }

    /// Takes a refusal of the remote.
    pub(super) fn refused_by_remote(&mut self, io: &mut Ring<'_>, from: Source, (ack, qos): (&Ack<'_>, QoS)) -> Flow {
        let Some(session) = self.broker.sessions.get_mut(from.session) else { return Flow::Ended };
        // A copy that is not in flight is refused already, or was never sent.
        let Some(RefusedCopy { number, times }) = session.refuse(ack.packet_id, qos) else { return Flow::On };
        let Some((index, running)) = self.bridges.of(from.session) else { return Flow::On };
        running.busy = true;
        if may_heal(ack.reason) && times <= AGAIN_MAX {
            let at = io.now().after(wait(&self.here.config.bridges[index], times));
            running.refusals.due.insert((at, number), Then::Again);
            return Flow::On;
        }
        self.refused_for_good(io, index, number, ack.reason);
        Flow::On
    }

    /// Counts the end of a connection by a remote before 5.0 against the oldest message on its way. With the last of [`CLOSES_MAX`] in a row the remote has
    /// refused it: it would be sent with each connection for ever.
    pub(super) fn suspect_oldest(&mut self, now: Monotonic, index: usize) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let Some(session) = self.broker.sessions.get_mut(running.session) else { return };
        let refusals = &mut running.refusals;
        let before = refusals.suspect.take();
        let Some(copy) = session.oldest_sent_number() else { return };
        let closes = before.filter(|before| before.copy == copy).map_or(0, |before| before.closes) + 1;
        if closes < CLOSES_MAX || !session.refuse_sent(copy) {
            refusals.suspect = Some(Suspect { copy, closes });
            return;
        }
        // The session has left the connection by then.
        refusals.due.insert((now.after(ROOM_AFTER), copy), Then::Letter(UNSAID));
        running.busy = true;
        self.tell_bridge_refused(now, index, copy, UNSAID);
    }

    /// Does the steps that are due for refused messages of all bridges.
    pub(super) fn settle_refusals(&mut self, io: &mut Ring<'_>) {
        if !std::mem::take(&mut self.bridges.has_answers) {
            return;
        }
        self.bridges.is_shown = false;
        for index in self.bridges.all.keys().copied().collect::<Vec<_>>() {
            let Some(running) = self.bridges.all.get_mut(&index) else { continue };
            for (letter, refusal) in std::mem::take(&mut running.refusals.answered) {
                self.settle_letter(io, index, letter, refusal);
            }
            while let Some((copy, then)) =
                self.bridges.all.get_mut(&index).and_then(|running| running.refusals.take_due(io.now()))
            {
                match then {
                    Then::Again => self.send_refused_again(io, index, copy),
                    Then::Letter(reason) => self.write_letter(io, index, copy, reason),
                }
            }
        }
    }

    fn send_refused_again(&mut self, io: &mut Ring<'_>, index: usize, copy: u64) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        (running.busy, running.counts.sent_again) = (true, running.counts.sent_again + 1);
        let (key, now, mut nothing) = (running.session, io.now(), Vec::new());
        let passes = self.broker.delivery.remotes.passes(key);
        let Some(session) = self.broker.sessions.get_mut(key) else { return };
        let conn = session.conn().filter(|_| passes.is_some());
        let out = match conn {
            Some(conn) => self.broker.keeping.holds.out(io, conn),
            None => &mut nothing,
        };
        let (from, before) = (out.len(), self.broker.delivery.remembered().acknowledged());
        let pumped = session.send_again(copy, now, out, passes.as_deref().map(|passes| passes as &dyn Passes));
        if let Some(conn) = conn {
            self.broker.hold(io, &self.here, conn, key, from);
        }
        let over = self.broker.delivery.remembered().acknowledged() - before;
        self.broker.delivery.remotes.delivers(key, over);
        self.broker.count_pumped(&mut self.here, now, key, &pumped);
        self.broker.write_down(&mut self.here, key);
    }

    /// Ends a message that the remote will not take: its dead letter is durable, or there is none.
    fn end_refused(&mut self, io: &mut Ring<'_>, key: SessionKey, copy: u64, count: M) {
        let ended = self.broker.sessions.get_mut(key).is_some_and(|session| session.end_refused(copy));
        if ended {
            self.here.numbers.count(count);
            if count == M::CopiesRefused {
                self.broker.delivery.remotes.drops(key, 1);
            }
            self.broker.write_down(&mut self.here, key);
            self.broker.note_queue(io.now(), key);
            self.broker.pump_session(io, &mut self.here, key);
        }
    }

    fn refused_for_good(&mut self, io: &mut Ring<'_>, index: usize, copy: u64, reason: ReasonCode) {
        self.tell_bridge_refused(io.now(), index, copy, reason);
        self.write_letter(io, index, copy, reason);
    }

    fn tell_bridge_refused(&mut self, now: Monotonic, index: usize, copy: u64, reason: ReasonCode) {
        let Some((_, body)) = self.refused_copy(index, copy) else { return };
        let config = Arc::clone(&self.here.config);
        let dead = config.bridges[index].dead_letters.as_ref();
        tell(&mut self.here, Kind::BridgeRefusedMessage, now, index, |event| {
            let event = event.maybe(Field::MqttTopic, body.publish().map(|publish| clipped(publish.topic)));
            let event = event.with(Field::Reason, reason.name());
            let event = event.maybe(Field::LettersTopic, dead.and_then(|dead| dead.topic.as_deref()));
            let file = dead.and_then(|dead| dead.file.as_ref());
            event.shown(Field::File, file.map(|file| file.path.display()))
        });
    }

    /// The session of a bridge, and a copy there that is still refused.
    fn refused_copy(&self, index: usize, copy: u64) -> Option<(SessionKey, Rc<Body>)> {
        let key = self.bridges.all.get(&index)?.session;
        Some((key, Rc::clone(self.broker.sessions.get(key)?.refused(copy)?)))
    }

    /// Writes the dead letter of a refused message, if there is a place for it.
    fn write_letter(&mut self, io: &mut Ring<'_>, index: usize, copy: u64, reason: ReasonCode) {
        let Some((key, body)) = self.refused_copy(index, copy) else { return };
        let written = match self.letter_to_topic(io, (index, copy), &body, reason) {
            Err(Unwritten::Nowhere) => self.letter_to_file(io, (index, copy), &body, (reason, None)),
            other => other,
        };
        self.letter_goes(io, (index, key, copy), reason, written);
    }

    fn letter_goes(
        &mut self,
        io: &mut Ring<'_>,
        (index, key, copy): (usize, SessionKey, u64),
        reason: ReasonCode,
        written: Result<(), Unwritten>,
    ) {
        match written {
            Ok(()) => {}
            Err(Unwritten::NoRoom) => {
                let at = io.now().after(ROOM_AFTER);
                if let Some(running) = self.bridges.all.get_mut(&index) {
                    running.refusals.due.insert((at, copy), Then::Letter(reason));
                    running.busy = true;
                }
            }
            Err(Unwritten::Nowhere) => self.end_refused(io, key, copy, M::CopiesRefused),
        }
    }

    fn letter_to_topic(
        &mut self,
        io: &Ring<'_>,
        (index, copy): (usize, u64),
        body: &Body,
        reason: ReasonCode,
    ) -> Result<(), Unwritten> {
        let config = Arc::clone(&self.here.config);
        let bridge = &config.bridges[index];
        let topic = bridge.dead_letters.as_ref().and_then(|dead| dead.topic.as_deref()).ok_or(Unwritten::Nowhere)?;
        let publish = body.publish().ok_or(Unwritten::Nowhere)?;
        let Outlets { upstreams, clock_set_after, .. } = &mut self.outlets;
        let upstream = &mut upstreams[bridge.cluster];
        let to = upstream.members.number(Role::Refused(index)).ok_or(Unwritten::Nowhere)?;
        let (label, qos, received) = (label(reason), (publish.qos as u8).to_string(), received(io, body).to_string());
        let why = [
            (BRIDGE_HEADER, bridge.name.as_str()),
            (REASON_HEADER, &label),
            (MQTT_TOPIC_HEADER, publish.topic),
            (QOS_HEADER, &qos),
            (RECEIVED_HEADER, &received),
        ];
        let why = why.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let timestamp = timestamp_at(io.wall(), *clock_set_after);
        let headers = user_properties(&publish.properties).chain(why);
        let letter = Row { key: Some(publish.topic.as_bytes()), value: Some(publish.payload), headers, timestamp };
        let bytes = letter.measure().len;
        if upstream.producer.check(to, topic, bytes).is_err() {
            return Err(Unwritten::Nowhere);
        }
        if !upstream.producer.has_reserve(to, bytes) {
            return Err(Unwritten::NoRoom);
        }
        let number = self.bridges.begin_letter(index, Letter { copy, reason });
        let owner = Owner::Refused(u32::try_from(index).unwrap_or(u32::MAX - 1));
        upstream.producer.append(to, topic, letter, Some(owner.ticket(number)), io.now());
        upstream.busy = true;
        Ok(())
    }

    /// Writes a letter to the bridge's file. `topic_refused`: the reason why Kafka does not take it.
    fn letter_to_file(
        &mut self,
        io: &Ring<'_>,
        (index, copy): (usize, u64),
        body: &Body,
        (reason, topic_refused): (ReasonCode, Option<&str>),
    ) -> Result<(), Unwritten> {
        let publish = body.publish().ok_or(Unwritten::Nowhere)?;
        let running = self.bridges.all.get_mut(&index).ok_or(Unwritten::Nowhere)?;
        let (_, file) = running.refusals.file.as_ref().ok_or(Unwritten::Nowhere)?;
        if !file.has_room() {
            return Err(Unwritten::NoRoom);
        }
        let label = label(reason);
        let line = Line {
            time_ms: io.wall().0,
            bridge: Some(&self.here.config.bridges[index].name),
            reason: &label,
            topic_refused,
            mqtt_topic: Some(publish.topic),
            qos: Some(i64::from(publish.qos as u8)),
            received_ms: received(io, body),
            value: Some(publish.payload),
            ..Line::default()
        };
        let line = line.write(user_properties(&publish.properties));
        let number = self.bridges.begin_letter(index, Letter { copy, reason });
        if let Some((_, file)) = self.bridges.all.get_mut(&index).and_then(|running| running.refusals.file.as_mut()) {
            file.send(number, line);
        }
        Ok(())
    }

    fn settle_letter(&mut self, io: &mut Ring<'_>, index: usize, number: u32, refusal: Option<i16>) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        // The letter of a bridge that was changed since then is not known any more.
        let Some(Letter { copy, reason }) = running.refusals.letters.remove(&number) else { return };
        let Some(code) = refusal else {
            running.counts.dead_lettered += 1;
            let key = running.session;
            return self.end_refused(io, key, copy, M::CopiesDeadLettered);
        };
        let Some((key, body)) = self.refused_copy(index, copy) else { return };
        let why = super::super::dead_letters::reason(code);
        let written = self.letter_to_file(io, (index, copy), &body, (reason, Some(why)));
        self.letter_goes(io, (index, key, copy), reason, written);
    }

    /// Takes Kafka's answer for a dead letter of a bridge.
    pub(crate) fn letter_of_bridge_answered(&mut self, index: usize, number: u32, outcome: Outcome) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let refusal = if let Outcome::Refused(code) = outcome { Some(code) } else { None };
        running.refusals.answered.push((number, refusal));
        self.bridges.has_answers = true;
    }

    /// Notes that the oldest letters of a bridge's file are on the disk. `number`: that of the file's use.
    pub(crate) fn letters_of_bridge_written(&mut self, index: usize, number: usize, count: u32) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let Some((_, file)) = running.refusals.file.as_mut().filter(|(used, _)| *used == number) else { return };
        let written = (0..count).map_while(|_| file.written());
        running.refusals.answered.extend(written.map(|letter| (letter, None)));
        self.bridges.has_answers = true;
    }
}

impl Bridges {
    fn begin_letter(&mut self, index: usize, letter: Letter) -> u32 {
        let number = self.letters_begun;
        self.letters_begun = number.wrapping_add(1);
        if let Some(running) = self.all.get_mut(&index) {
            running.refusals.letters.insert(number, letter);
        }
        number
    }
}

/// The time at which a message was received, in milliseconds since 1970.
fn received(io: &Ring<'_>, body: &Body) -> i64 {
    let WallMs(wall) = io.wall();
    wall - i64::try_from(io.now().since(body.since()).as_millis()).unwrap_or(0)
}

/// User properties as headers. Names of Forebay's headers are left out: nobody can forge them.
fn user_properties<'a>(
    properties: &forebay_mqtt::property::Properties<'a>,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
    let user = properties.iter().filter_map(|property| match property {
        Property::UserProperty(name, value) => Some((name, value)),
        _ => None,
    });
    user.filter(|(name, _)| !name.starts_with(HEADER_PREFIX)).map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

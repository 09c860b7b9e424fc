//! Bridges that are bindings: messages of applications for the remote, and messages of the remote for the application.
//!
//! An application's message waits here until the remote can be sent it, and is a copy of the session from then on. Unsent messages can be withdrawn; sent
//! ones are answered by PUBACK, PUBREC, or the time-out.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use forebay_base::limits::CALL_BYTES_MAX;
use forebay_broker::words::{Flow, Owner};
use forebay_config::Bridge;
use forebay_dapr::{Answer, Ask, Call, Create, Outcome};
use forebay_kafka::types::Ticket;
use forebay_metrics::event::{Field, Kind};
use forebay_mqtt::packet::{Ack, Publish, QoS};
use forebay_mqtt::property::Properties;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{Body, Reason, Session, SessionKey};

use super::super::Core;
use super::super::publishing::client::Published;
use super::super::ring::Ring;
use super::super::words::Source;
use super::messages::{Became, take_for};
use super::told::tell;
use super::wanted;

/// The bytes that a call counts for besides its message.
const CALL_BYTES: usize = 256;
/// The bytes that a call with a message counts for.
fn call_bytes(publish: &Publish<'_>) -> usize {
    publish.topic.len() + publish.payload.len() + CALL_BYTES
}

/// The name of the `out` for messages of applications.
const CREATE: &str = "create";

/// State of a binding that other bridges do not have.
#[derive(Default)]
pub(super) struct Binding {
    /// Messages that could not be sent to the remote yet.
    waiting: VecDeque<Create>,
    /// Messages that the session has.
    sent: Vec<(Rc<Body>, u64, Answer)>,
    /// Messages of QoS 0, with their connection.
    written: Vec<(u64, ConnId, Answer)>,
    /// Bytes of the application's pending and queued calls.
    calls: usize,
    /// Messages of the present connection that are not acknowledged for good (`onFailure: keep`).
    kept: usize,
    /// Whether the application wants the messages of the remote.
    pub(super) is_wanted: bool,
}

/// The most kept messages before a warning about the binding: mosquitto sends 20 without an acknowledgement.
const KEPT_MAX: usize = 16;

impl Binding {
    /// Notes that the remote forgets what it has sent without an acknowledgement: it sends that again.
    pub(super) fn begins_anew(&mut self) {
        self.kept = 0;
    }
}

impl Core {
    /// Handles a letter of the thread of bindings.
    #[cold]
    pub(crate) fn binding_asks(&mut self, io: &mut Ring<'_>, ask: Ask) {
        let Some(running) = self.bridges.all.get_mut(&ask.bridge()) else {
            return if let Ask::Create(create) = ask {
                create.answer.say(Outcome::Failed("the binding was removed".to_owned()));
            };
        };
        let (index, binding) = (ask.bridge(), &mut running.binding);
        match ask {
            Ask::Create(create) => {
                binding.waiting.push_back(create);
                self.send_created(io, index);
            }
            Ask::Withdraw { number, .. } => self.withdraw(index, number),
            Ask::Called { ticket, bytes, is_over, .. } => {
                binding.calls = binding.calls.saturating_sub(bytes);
                match ticket {
                    Some((session, number)) if is_over => {
                        self.broker.answered(&self.here, Ticket { session, number }, Reason::Success);
                    }
                    Some((session, number)) => self.keeps(io.now(), index, Ticket { session, number }),
                    None => {}
                }
            }
            Ask::Wanted { .. } => {
                if std::mem::replace(&mut binding.is_wanted, true) {
                    return;
                }
                let config = Arc::clone(&self.here.config);
                running.client.wants(wanted(&config.bridges[index], true), io.now());
                running.busy = true;
            }
        }
    }

    /// Notes that a message is never acknowledged, and warns before there are too many of them.
    fn keeps(&mut self, now: Monotonic, index: usize, ticket: Ticket) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        // A message of an earlier connection is not among those that the remote waits for.
        let session = self.broker.sessions.get(running.session);
        let (oldest, next) = session.map(Session::owed_numbers).unwrap_or_default();
        if ticket.number.wrapping_sub(oldest) >= next.wrapping_sub(oldest) {
            return;
        }
        running.binding.kept += 1;
        let kept = running.binding.kept;
        let of = self.here.config.bridges[index].binding.as_ref().and_then(|of| of.takes.as_ref());
        let concurrency = of.map_or(1, |takes| takes.concurrency.get());
        if kept == (concurrency * 4 / 5).clamp(1, KEPT_MAX) {
            tell(&mut self.here, Kind::BindingKeeps, now, index, |event| event.with(Field::Total, kept as u64));
        }
    }

    /// Sends waiting messages to the remote, as far as it can be sent them.
    fn send_created(&mut self, io: &mut Ring<'_>, index: usize) {
        loop {
            let Some(running) = self.bridges.all.get_mut(&index) else { return };
            let (key, at) = (running.session, running.at);
            let Some(first) = running.binding.waiting.front() else { return };
            let granted = running.client.standing().map(|(granted, _)| granted.maximum_qos);
            let (Some(maximum_qos), Some((_, conn))) = (granted, at) else { return };
            if self.broker.delivery.remotes.passes(key).is_none() {
                return;
            }
            let Some(session) = self.broker.sessions.get(key) else { return };
            let qos = QoS::from_bits(first.qos).unwrap_or(QoS::AtMostOnce).min(maximum_qos);
            let (open, queued) = session.copies();
            if qos > QoS::AtMostOnce && (queued > 0 || open >= session.send_maximum()) {
                return;
            }
            let Some(create) = running.binding.waiting.pop_front() else { return };
            let packet_id = u16::from(qos > QoS::AtMostOnce);
            let publish = Publish {
                dup: false,
                qos,
                retain: create.retain,
                topic: &create.topic,
                packet_id,
                properties: Properties::EMPTY,
                payload: &create.payload,
            };
            let given = self.broker.give_to_remote(io, &mut self.here, key, &publish, Bridge::identifier(CREATE));
            let Some(running) = self.bridges.all.get_mut(&index) else { return };
            let binding = &mut running.binding;
            match given {
                Ok(Some(body)) => binding.sent.push((body, create.number, create.answer)),
                Ok(None) => binding.written.push((create.number, conn, create.answer)),
                Err(why) => create.answer.say(Outcome::Failed(why.to_owned())),
            }
        }
    }

    /// Takes the bindings a step on.
    pub(super) fn work_on_binding(&mut self, io: &mut Ring<'_>, index: usize) {
        self.send_created(io, index);
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let (at, binding) = (running.at.map(|(_, conn)| conn), &mut running.binding);
        for place in (0..binding.written.len()).rev() {
            let (_, conn, _) = binding.written[place];
            let is_there = at == Some(conn);
            if is_there && self.broker.keeping.holds.unsent(io, conn) > 0 {
                continue;
            }
            let (_, _, answer) = binding.written.remove(place);
            answer.say(match is_there {
                true => Outcome::Done,
                false => Outcome::Unknown("outcome unknown: the connection to the remote was lost".to_owned()),
            });
        }
        // A body that no other holder has was dropped by the session.
        for place in (0..binding.sent.len()).rev() {
            if Rc::strong_count(&binding.sent[place].0) == 1 {
                let (_, _, answer) = binding.sent.remove(place);
                answer.say(Outcome::Failed("the remote does not take a message of this size".to_owned()));
            }
        }
    }

    fn withdraw(&mut self, index: usize, number: u64) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let is_connected = running.at.is_some();
        let why = running.client.trouble().map(|trouble| trouble.why.clone());
        let binding = &mut running.binding;
        if let Some(place) = binding.waiting.iter().position(|create| create.number == number) {
            let what = match (is_connected, why) {
                (true, _) => "the remote has not acknowledged earlier messages within 10 s".to_owned(),
                (false, Some(why)) => format!("the remote is not connected: {why}"),
                (false, None) => "the remote is not connected".to_owned(),
            };
            if let Some(create) = binding.waiting.remove(place) {
                create.answer.say(Outcome::Failed(format!("{what}; the message was not sent")));
            }
            return;
        }
        let unknown = "outcome unknown: the remote has not acknowledged the message within 10 s".to_owned();
        let answer = if let Some(place) = binding.sent.iter().position(|(_, of, _)| *of == number) {
            binding.sent.remove(place).2
        } else if let Some(place) = binding.written.iter().position(|(of, ..)| *of == number) {
            binding.written.remove(place).2
        } else {
            return;
        };
        answer.say(Outcome::Unknown(unknown));
    }

    /// Reports the remote's answer to the application that published the message. Returns whether the remote refuses a message of an application: only the
    /// application is notified then.
    pub(super) fn is_created_refused(&mut self, session: SessionKey, ack: &Ack<'_>) -> bool {
        let Some((index, running)) = self.bridges.of(session) else { return false };
        let is_binding = self.here.config.bridges[index].binding.is_some();
        if !is_binding {
            return false;
        }
        let is_refused = ack.reason.is_error();
        let body = self.broker.sessions.get(session).and_then(|session| session.sent_message(ack.packet_id));
        let sent = &mut running.binding.sent;
        let Some(place) = body.and_then(|body| sent.iter().position(|(of, ..)| Rc::ptr_eq(of, &body))) else {
            return is_refused;
        };
        let (_, _, answer) = sent.remove(place);
        answer.say(match is_refused {
            true => Outcome::Failed(format!("the remote refuses the message: {}", ack.reason.name())),
            false => Outcome::Done,
        });
        is_refused
    }

    /// Whether there is room for a call of the application with a message of the remote.
    pub(super) fn has_room_for_call(&self, index: usize, publish: &Publish<'_>) -> bool {
        let Some(running) = self.bridges.all.get(&index) else { return false };
        running.binding.calls == 0 || running.binding.calls + call_bytes(publish) <= CALL_BYTES_MAX
    }

    /// Has the application called with a message of the remote, which is acknowledged when it has taken it.
    /// `too_long`: the length of the packet, if it is longer than any is taken.
    pub(super) fn call_app(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        publish: &Publish<'_>,
        (index, too_long): (usize, Option<usize>),
    ) -> Flow {
        let (published, number) = take_for(&mut self.broker, from.session, publish, io.now(), 1);
        if let (Published::On { .. }, Some(number)) = (&published, number) {
            self.count_of_remote(from.session, publish.qos, Became::Taken);
            self.send_call(from.session, publish, (index, number, too_long));
        }
        self.flow_of(io, from, published)
    }

    /// Has the application called with a message of the remote that is published here as well: it is acknowledged when both have it.
    pub(super) fn call_app_beside(&mut self, session: SessionKey, publish: &Publish<'_>, index: usize) {
        let next = self.broker.next_number(session);
        let number = (publish.qos > QoS::AtMostOnce).then(|| next.wrapping_sub(1));
        if let (Some(number), Some(session)) = (number, self.broker.sessions.get_mut(session)) {
            session.owes_one_more(number);
        }
        self.send_call(session, publish, (index, number, None));
    }

    /// Sends a call. `number`: that of the message in its session; a message of QoS 0 has none.
    fn send_call(
        &mut self,
        session: SessionKey,
        publish: &Publish<'_>,
        (index, number, too_long): (usize, Option<u32>, Option<usize>),
    ) {
        let bridge = &self.here.config.bridges[index];
        let (name, Some(of)) = (bridge.name.clone(), &bridge.binding) else { return };
        let bytes = call_bytes(publish);
        let ticket = number.map(|number| Owner::Session(session).ticket(number));
        let call = Call {
            bridge: index,
            name,
            binding: Arc::clone(of),
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            too_long,
            ticket: ticket.map(|ticket| (ticket.session, ticket.number)),
            bytes,
        };
        if let Some(running) = self.bridges.all.get_mut(&index) {
            running.binding.calls += bytes;
        }
        // A service that is stopping acknowledges nothing: the remote sends it again.
        let _ = self.around.app.as_ref().is_some_and(|app| app.call(call));
    }
}

//! Clients with kept sessions: they publish at QoS 1 and 2, lose their connections, reconnect and repeat unanswered messages, as MQTT
//! requires. `server` has the shard's work for them.

mod server;

use std::collections::VecDeque;

use crate::mqtt::decode::decode;
use crate::mqtt::frame;
use crate::mqtt::packet::{Packet, Sender, Version};
use crate::runtime::seam::ConnId;
use crate::session::{SessionKey, Sessions, Settings};

use super::plan::SINKS;

/// Number of clients in a run.
const CLIENTS: usize = 4;

/// A message that a client has to bring to Kafka, and its state as the client knows it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) exactly_once: bool,
    /// Sinks of the message.
    pub(super) sinks: Vec<usize>,
    pub(super) topic: usize,
    /// Rows of the message, those of repeats included.
    pub(super) rows: Vec<u32>,
    /// Whether PUBACK or PUBREC has come: the server is responsible for the message.
    pub(super) answered: bool,
    /// Whether the answer was a refusal.
    pub(super) refused: bool,
}

/// A packet of a client.
#[derive(Clone, Copy, Debug)]
enum Up {
    Connect { clean: bool },
    Publish { id: u16, message: usize, dup: bool },
    Release { id: u16 },
}

/// A publish with an exchange that is not over.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: u16,
    message: usize,
    /// Whether PUBREC has come.
    received: bool,
}

#[derive(Debug)]
struct Connection {
    id: ConnId,
    key: Option<SessionKey>,
    up: VecDeque<Up>,
    /// Bytes for the client, each with the group that has to be durable first.
    held: VecDeque<(u64, Vec<u8>)>,
    down: Vec<u8>,
    accepted: bool,
}

#[derive(Debug, Default)]
struct Client {
    name: String,
    connection: Option<Connection>,
    open: Vec<Open>,
    last_id: u16,
    /// Whether a CONNACK has come, so that the session must survive.
    kept: bool,
    /// Whether the last CONNECT asked for a clean start and its CONNACK has not come.
    clean: bool,
}

/// The clients of a run.
pub(super) struct Clients {
    clients: Vec<Client>,
    pub(super) messages: Vec<Message>,
    sessions: Sessions,
    settings: Settings,
    connections: u32,
    window: usize,
    wrong: Option<String>,
}

impl Clients {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        let client = |index| Client { name: format!("client {index}"), ..Client::default() };
        let window = rng.usize(1..12);
        let mut sessions = Sessions::new();
        sessions.keep();
        Self {
            clients: (0..CLIENTS).map(client).collect(),
            messages: Vec::new(),
            sessions,
            settings: Settings { receive_maximum: window as u16, ..Settings::default() },
            connections: 0,
            window,
            wrong: None,
        }
    }

    pub(super) fn wrong(&mut self) -> Option<String> {
        self.wrong.take()
    }

    /// Whether every exchange is over.
    pub(super) fn rest(&self) -> bool {
        self.clients.iter().all(|client| client.open.is_empty())
    }

    /// The exchanges that are not over, in words.
    pub(super) fn open(&self) -> String {
        let open = |client: &Client| format!("{}: {:?}", client.name, client.open);
        self.clients.iter().map(open).collect::<Vec<_>>().join("; ")
    }

    /// Lets one client do one thing. `more`: it may publish something new.
    pub(super) fn go_on(&mut self, more: bool, rng: &mut fastrand::Rng) {
        let index = rng.usize(..self.clients.len());
        let client = &mut self.clients[index];
        let Some(connection) = &mut client.connection else {
            let id = ConnId { slot: index as u32, generation: self.connections };
            self.connections += 1;
            // Clean starts are rare, and spare a session with exchanges that are judged.
            client.clean = client.open.is_empty() && rng.u32(..6) == 0;
            let (held, down) = (VecDeque::new(), Vec::new());
            let up = [Up::Connect { clean: client.clean }].into();
            client.connection = Some(Connection { id, key: None, up, held, down, accepted: false });
            return;
        };
        if let Some(len) = frame::next(&connection.down, u32::MAX).expect("a packet").map(|frame| frame.len) {
            let bytes: Vec<u8> = connection.down.drain(..len).collect();
            let frame = frame::next(&bytes, u32::MAX).expect("a packet").expect("whole");
            let packet = decode(Version::V5, Sender::Server, frame).expect("a packet");
            if let Err(text) = client.hear(&packet, &mut self.messages) {
                self.wrong.get_or_insert(format!("{}: {text}", client.name));
            }
            return;
        }
        if more && connection.accepted && client.open.len() < self.window {
            let number = self.messages.len();
            let sinks = (0..SINKS).filter(|sink| number % 3 == 2 || number % 3 == *sink).collect();
            let exactly_once = rng.u32(..3) > 0;
            let (topic, rows) = (rng.usize(..super::plan::DEAD), Vec::new());
            self.messages.push(Message { exactly_once, sinks, topic, rows, answered: false, refused: false });
            // The ids are few, so that each is used again soon.
            let next = (1..=16).map(|step| (client.last_id + step) % 16 + 1);
            let id = next.into_iter().find(|id| client.open.iter().all(|open| open.id != *id)).expect("a free id");
            client.last_id = id;
            client.open.push(Open { id, message: number, received: false });
            connection.up.push_back(Up::Publish { id, message: number, dup: false });
        }
    }
}

impl Client {
    /// Handles a packet that has come.
    fn hear(&mut self, packet: &Packet<'_>, messages: &mut [Message]) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match packet {
            Packet::ConnAck(ack) if ack.reason.is_error() => self.connection = None,
            Packet::ConnAck(ack) => {
                connection.accepted = true;
                let expected = self.kept && !self.clean;
                if self.clean && ack.session_present || expected && !ack.session_present {
                    return Err(format!(
                        "session present {}, kept {}, clean {}",
                        ack.session_present, self.kept, self.clean
                    ));
                }
                self.kept = true;
                // Packets are repeated in the order in which they were first sent [MQTT-4.4.0-1].
                connection.up.extend(self.open.iter().map(|open| match *open {
                    Open { id, received: true, .. } => Up::Release { id },
                    Open { id, message, .. } => Up::Publish { id, message, dup: true },
                }));
            }
            Packet::PubAck(ack) | Packet::PubRec(ack) => {
                let is_first = matches!(packet, Packet::PubRec(_));
                let Some(place) = self.open.iter().position(|open| open.id == ack.packet_id) else {
                    return Err(format!("{packet:?} answers nothing"));
                };
                let open = &mut self.open[place];
                let message = &mut messages[open.message];
                if message.exactly_once != is_first {
                    return Err(format!("{packet:?} answers {message:?}"));
                }
                (message.answered, message.refused) = (true, ack.reason.is_error());
                open.received = true;
                if is_first && !ack.reason.is_error() {
                    connection.up.push_back(Up::Release { id: ack.packet_id });
                } else {
                    self.open.remove(place);
                }
            }
            Packet::PubComp(ack) => {
                let place = self.open.iter().position(|open| open.id == ack.packet_id && open.received);
                // A PUBREL that was sent twice is answered twice.
                place.map(|place| self.open.remove(place));
            }
            Packet::Disconnect(_) => self.connection = None,
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }
}

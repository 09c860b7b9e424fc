//! Publishes numbered messages with rumqttc, several clients in one thread: `rumqttc_publisher JOB`.
//!
//! An example target, so that the service itself does not depend on rumqttc; `tests/clients.rs` and `tests/python/flow.py` start it. The job
//! file, the messages and the words of the logs are those of `tests/python/publisher.py`, `message.py` and `checker.py`.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

const LEVELS: u64 = 3;
/// Messages handed to the library and not yet acknowledged.
const WINDOW: u32 = 200;
/// What the library itself keeps unacknowledged on the wire.
const INFLIGHT: u16 = 50;
const PATIENCE: Duration = Duration::from_secs(600);

/// One client of the job file.
#[derive(Clone)]
struct Spec {
    id: String,
    host: String,
    port: u16,
    qos: u8,
    messages: u64,
    kept: bool,
}

/// A client's log and the messages that it still owes an answer for, in the order of sending.
struct Book {
    log: BufWriter<File>,
    /// Handed over, not yet on the wire (counters).
    handed: VecDeque<u64>,
    /// On the wire, not yet acknowledged (packet id → counter).
    on_wire: HashMap<u16, u64>,
    /// So many of `handed` the library took back when the connection was lost, to send them on the next one.
    taken_back: usize,
    connects: u32,
}

impl Book {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.log, "{text}").expect("the log can be written");
    }

    fn hand(&mut self, counter: u64) {
        self.line(format_args!("s {counter}"));
        self.handed.push_back(counter);
    }

    /// Returns how many messages will never be answered: without a session at the other end the library throws away what it holds.
    fn connected(&mut self, session_present: bool) -> usize {
        self.line(format_args!("c"));
        self.connects += 1;
        if session_present {
            return 0;
        }
        let given_up = self.on_wire.len() + self.taken_back;
        self.on_wire.clear();
        self.handed.drain(..self.taken_back);
        given_up
    }

    fn lost(&mut self, why: std::fmt::Arguments<'_>) {
        self.line(format_args!("x {why}"));
        self.taken_back = self.handed.len();
    }

    /// The library put a PUBLISH on the wire. With a packet id that is still open it is the repetition after a new connection.
    /// Returns true when the message is thereby done, as QoS 0 is.
    fn sent(&mut self, packet_id: u16) -> bool {
        if packet_id == 0 {
            self.taken_back = self.taken_back.saturating_sub(1);
            return self.handed.pop_front().is_some();
        }
        if let std::collections::hash_map::Entry::Vacant(place) = self.on_wire.entry(packet_id)
            && let Some(counter) = self.handed.pop_front()
        {
            place.insert(counter);
            self.taken_back = self.taken_back.saturating_sub(1);
        }
        false
    }

    /// PUBACK or PUBCOMP. Returns true when it ends a message.
    fn acknowledged(&mut self, packet_id: u16, refusal: Option<String>) -> bool {
        match (self.on_wire.remove(&packet_id), refusal) {
            (Some(counter), None) => self.line(format_args!("a {counter}")),
            (Some(counter), Some(why)) => self.line(format_args!("e message {counter} answered {why}")),
            // After a new connection the same PUBREL may be answered twice.
            (None, _) if self.connects > 1 => return false,
            (None, _) => {
                self.line(format_args!("e acknowledgement of packet {packet_id}, which is not open"));
                return false;
            }
        }
        true
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut crc, mut bit) = (n as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize])
}

fn payload_of(client: &str, counter: u64, qos: u8, level: u64) -> String {
    let body = format!("{client} {counter} {qos} {level} {}", ".".repeat((counter * 7 % 64) as usize));
    let crc = crc32(body.as_bytes());
    format!("{body} {crc:08x}")
}

/// rumqttc's two protocol versions are two sets of types of the same shape: one text serves both.
macro_rules! publish_with {
    ($spec:ident, $book:ident, $client:ident, $events:ident, $qos:path, $event:path, $packet:ident, $ack_failure:expr, $comp_failure:expr) => {{
        use $event as Event;
        use $qos as QoS;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from($spec.qos)];
        let room = Semaphore::new(WINDOW as usize);
        let send = async {
            for counter in 0..$spec.messages {
                room.acquire().await.expect("never closed").forget();
                $book.borrow_mut().hand(counter);
                let level = counter % LEVELS;
                let topic = format!("flow/{}/{level}", $spec.id);
                let payload = payload_of(&$spec.id, counter, $spec.qos, level);
                $client.publish(topic, qos, false, payload).await.expect("the event loop lives as long as this");
            }
            let _all = room.acquire_many(WINDOW).await.expect("never closed");
            $client.disconnect().await.expect("the event loop lives as long as this");
        };
        let receive = async {
            let mut leaving = false;
            loop {
                let done = match $events.poll().await {
                    Ok(Event::Incoming($packet::ConnAck(answer))) => {
                        let given_up = $book.borrow_mut().connected(answer.session_present);
                        room.add_permits(given_up);
                        false
                    }
                    Ok(Event::Incoming($packet::PubAck(ack))) => {
                        $book.borrow_mut().acknowledged(ack.pkid, $ack_failure(&ack))
                    }
                    Ok(Event::Incoming($packet::PubComp(ack))) => {
                        $book.borrow_mut().acknowledged(ack.pkid, $comp_failure(&ack))
                    }
                    Ok(Event::Outgoing(rumqttc::Outgoing::Publish(packet_id))) => $book.borrow_mut().sent(packet_id),
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => {
                        leaving = true; // and wait for the service to close: what was sent is read by then
                        false
                    }
                    Ok(_) => false,
                    Err(_) if leaving => break,
                    Err(error) => {
                        $book.borrow_mut().lost(format_args!("{error}"));
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        false
                    }
                };
                if done {
                    room.add_permits(1);
                }
            }
        };
        tokio::join!(send, receive);
    }};
}

async fn publish_v4(spec: &Spec, book: &RefCell<Book>) {
    let mut options = rumqttc::MqttOptions::new(&spec.id, &spec.host, spec.port);
    options.set_keep_alive(Duration::from_secs(30)).set_clean_session(!spec.kept).set_inflight(INFLIGHT);
    let (client, mut events) = rumqttc::AsyncClient::new(options, 16);
    let mut network = events.network_options();
    network.set_connection_timeout(PATIENCE.as_secs()); // also how long a write may take: a service may hold its hand
    events.set_network_options(network);
    use rumqttc::Packet;
    publish_with!(spec, book, client, events, rumqttc::QoS, rumqttc::Event, Packet, |_: &_| None, |_: &_| None);
}

async fn publish_v5(spec: &Spec, book: &RefCell<Book>) {
    use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason, PubComp, PubCompReason};
    let mut options = rumqttc::v5::MqttOptions::new(&spec.id, &spec.host, spec.port);
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_clean_start(!spec.kept)
        .set_session_expiry_interval(Some(if spec.kept { 3600 } else { 0 }))
        .set_connection_timeout(PATIENCE.as_secs())
        .set_outgoing_inflight_upper_limit(INFLIGHT);
    let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 16);
    let ack = |ack: &PubAck| {
        let taken = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
        (!taken).then(|| format!("{:?}", ack.reason))
    };
    let comp = |ack: &PubComp| (ack.reason != PubCompReason::Success).then(|| format!("{:?}", ack.reason));
    publish_with!(spec, book, client, events, rumqttc::v5::mqttbytes::QoS, rumqttc::v5::Event, Packet, ack, comp);
}

async fn publish(spec: Spec, version: String, log: File) {
    let book = Rc::new(RefCell::new(Book {
        log: BufWriter::new(log),
        handed: VecDeque::new(),
        on_wire: HashMap::new(),
        taken_back: 0,
        connects: 0,
    }));
    let flushed = Rc::clone(&book);
    let flushing = tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await; // so that a run that hangs can be read
            flushed.borrow_mut().log.flush().expect("the log can be written");
        }
    });
    match version.as_str() {
        "5.0" => publish_v5(&spec, &book).await,
        "3.1.1" => publish_v4(&spec, &book).await,
        other => book.borrow_mut().line(format_args!("e rumqttc does not speak MQTT {other}")),
    }
    flushing.abort();
    let mut book = book.borrow_mut();
    book.line(format_args!("end"));
    book.log.flush().expect("the log can be written");
}

fn main() {
    let path = std::env::args().nth(1).expect("usage: rumqttc_publisher JOB");
    let job: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("the job file can be read")).expect("the job file is JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let number = |value: &Value| value.as_u64().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    for client in job["clients"].as_array().expect("a list of clients") {
        let spec = Spec {
            id: text(&client["id"]),
            host: text(&job["host"]),
            port: number(&job["port"]) as u16,
            qos: number(&client["qos"]) as u8,
            messages: number(&client["messages"]),
            kept: client["kept"].as_bool().expect("true or false"),
        };
        let log = File::create(format!("{}/{}.log", text(&job["logs"]), spec.id)).expect("the log can be created");
        tasks.spawn_local(publish(spec, text(&client["version"]), log));
    }
    runtime.block_on(tasks);
}

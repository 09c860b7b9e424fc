//! The participants of rumqttc in the matrix of clients: `rumqttc_participant JOB`.
//!
//! `tests/python/matrix.py` starts it, and says what job, input and output are. An example target, so that the service itself does not depend
//! on rumqttc.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::BufRead as _;
use std::rc::Rc;
use std::time::Duration;

use rumqttc::Transport;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

const HOST: &str = "127.0.0.1";
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests that a client keeps for its event loop.
const REQUESTS: usize = 16;

/// What a participant is told to publish.
struct Message {
    topic: String,
    qos: usize,
    payload: String,
}

/// One client of the job.
struct Participant {
    name: String,
    /// Over WebSocket; otherwise over TCP.
    is_ws: bool,
    port: u16,
    filters: Vec<(String, usize)>,
    orders: mpsc::UnboundedReceiver<Message>,
    /// Participants that have not subscribed yet.
    missing: Rc<Cell<usize>>,
}

impl Participant {
    /// rumqttc's address: over WebSocket a URL.
    fn address(&self) -> String {
        if self.is_ws { format!("ws://{HOST}:{}/mqtt", self.port) } else { HOST.to_owned() }
    }

    fn transport(&self) -> Transport {
        if self.is_ws { Transport::Ws } else { Transport::Tcp }
    }

    fn subscribed(&self) {
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 {
            println!("ready");
        }
    }
}

/// rumqttc's two protocol versions are two sets of types of the same shape: one text serves both.
macro_rules! take_part_with {
    ($participant:ident, $client:ident, $events:ident, $qos:path, $event:path, $packet:path) => {{
        use $event as Event;
        use $packet as Packet;
        use $qos as QoS;
        const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        let (name, filters) = ($participant.name.clone(), $participant.filters.clone());
        let (mut orders, acknowledged) =
            (std::mem::replace(&mut $participant.orders, mpsc::unbounded_channel().1), Semaphore::new(0));
        let send = async {
            for (filter, qos) in &filters {
                $client.subscribe(filter, LEVELS[*qos]).await.expect("the event loop lives as long as this");
            }
            let mut owed = 0;
            while let Some(message) = orders.recv().await {
                owed += u32::from(message.qos > 0);
                let sent = $client.publish(message.topic, LEVELS[message.qos], false, message.payload).await;
                sent.expect("the event loop lives as long as this");
            }
            let _all = acknowledged.acquire_many(owed).await.expect("never closed");
            $client.disconnect().await.expect("the event loop lives as long as this");
        };
        let receive = async {
            let mut subscribing = filters.len();
            loop {
                match $events.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        subscribing -= 1;
                        if subscribing == 0 {
                            $participant.subscribed();
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let topic = String::from_utf8_lossy(message.topic.as_ref());
                        let payload = String::from_utf8_lossy(&message.payload);
                        println!("{name} {topic} {} {payload}", message.qos as u8);
                    }
                    Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => acknowledged.add_permits(1),
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => break,
                    Ok(_) => {}
                    Err(error) => {
                        println!("{name} lost its connection: {error}");
                        std::process::exit(1);
                    }
                }
            }
        };
        tokio::join!(send, receive);
    }};
}

async fn take_part_v4(mut participant: Participant) {
    let mut options = rumqttc::MqttOptions::new(&participant.name, participant.address(), participant.port);
    options.set_transport(participant.transport()).set_keep_alive(KEEP_ALIVE);
    let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS);
    take_part_with!(participant, client, events, rumqttc::QoS, rumqttc::Event, rumqttc::Packet);
}

async fn take_part_v5(mut participant: Participant) {
    use rumqttc::v5;
    let mut options = v5::MqttOptions::new(&participant.name, participant.address(), participant.port);
    // No topic aliases: it hands on what came under an alias alone without a topic.
    options.set_transport(participant.transport()).set_keep_alive(KEEP_ALIVE);
    let (client, mut events) = v5::AsyncClient::new(options, REQUESTS);
    take_part_with!(participant, client, events, v5::mqttbytes::QoS, v5::Event, v5::mqttbytes::v5::Packet);
}

/// Reads what is to be published, in a thread of its own: `given` gets participant and message, a line each.
fn read_input(given: &HashMap<String, mpsc::UnboundedSender<Message>>) {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the input can be read");
        let words: Vec<&str> = line.split(' ').collect();
        let [name, topic, qos, payload] = words[..] else { panic!("not a message: {line}") };
        let qos = qos.parse().expect("a number");
        let message = Message { topic: topic.to_owned(), qos, payload: payload.to_owned() };
        given[name].send(message).expect("the participant lives as long as this");
    }
}

fn main() {
    let job = std::env::args().nth(1).expect("usage: rumqttc_participant JOB");
    let job: Value = serde_json::from_str(&job).expect("the job is JSON");
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let filters = job["filters"].as_object().expect("filters").iter();
    let filters: Vec<(String, usize)> = filters.map(|(filter, qos)| (filter.clone(), number(qos))).collect();
    let clients = job["clients"].as_array().expect("a list of clients");
    let missing = Rc::new(Cell::new(clients.len()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    let mut given = HashMap::new();
    for client in clients {
        let (orders_to, orders) = mpsc::unbounded_channel();
        let name = text(&client["name"]);
        given.insert(name.clone(), orders_to);
        let (filters, missing) = (filters.clone(), Rc::clone(&missing));
        let is_ws = match client["transport"].as_str() {
            Some("tcp") => false,
            Some("ws") => true,
            other => panic!("rumqttc does not speak over {other:?}"),
        };
        let port = number(&client["port"]) as u16;
        let participant = Participant { name, is_ws, port, filters, orders, missing };
        match client["version"].as_str() {
            Some("3.1.1") => tasks.spawn_local(take_part_v4(participant)),
            Some("5.0") => tasks.spawn_local(take_part_v5(participant)),
            other => panic!("rumqttc does not speak MQTT {other:?}"),
        };
    }
    std::thread::spawn(move || read_input(&given));
    runtime.block_on(tasks);
}

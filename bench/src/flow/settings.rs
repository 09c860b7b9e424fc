//! The command line of `flow`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;

use super::client::Manner;
use super::fates::PARTS;
use super::judge::{Key, Rules};
use super::payload::BYTES_MIN;
use super::plan::{Plan, Weights};
use super::read::Kafka;

fn three(text: &str) -> Result<Weights, String> {
    Weights::parse(text, 3)
}

fn two(text: &str) -> Result<Weights, String> {
    Weights::parse(text, 2)
}

/// The load, and what is judged.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    target: SocketAddr,
    /// Another instance of the same server; may be given several times. Each connection of a client goes to one of them by chance.
    #[arg(long)]
    also: Vec<SocketAddr>,
    /// Messages in all.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Clients.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Weights of QoS 0, 1 and 2 among the messages.
    #[arg(long, default_value = "1:2:1", value_parser = three)]
    qos: Weights,
    /// Weights of MQTT 3.1.1 and 5.0 among the clients.
    #[arg(long, default_value = "1:1", value_parser = two)]
    versions: Weights,
    /// Most messages of QoS 1 and 2 that a client has unanswered (5.0: or the server's Receive Maximum).
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Messages in each write.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    per_write: u16,
    /// Messages a second, all clients together; 0: as fast as the windows allow.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Payload in bytes, 40 at least.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// MQTT topics of each client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// A topic's name; {client} and {topic} are replaced by numbers.
    #[arg(long, default_value = "flow/{client}/{topic}")]
    topic: String,
    /// Clean sessions: what is under way when a connection ends is given up.
    #[arg(long)]
    clean: bool,
    /// A client breaks its connection after so many messages on average, every other time without DISCONNECT; 0: never.
    #[arg(long, default_value_t = 0)]
    reconnect_every: u64,
    /// Keep-alive in seconds; 0: none.
    #[arg(long, default_value_t = 30)]
    keep_alive: u16,
    /// A client closes a connection on which CONNACK or PINGRESP has not come within this many seconds, and sends PINGREQ also when it has received nothing
    /// for half its keep-alive; 0: it waits for ever.
    #[arg(long, default_value_t = 0)]
    silence: u64,
    /// Decides every draw.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Marks client ids and payloads of this run (default: the time).
    #[arg(long)]
    run: Option<u32>,
    /// Seconds after which the run ends, done or not.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Kafka's bootstrap servers; without them nothing is read and judged.
    #[arg(long)]
    kafka: Option<String>,
    /// Kafka topic in which the messages must be; may be given several times.
    #[arg(long = "kafka-topic", requires = "kafka")]
    pub(crate) kafka_topics: Vec<String>,
    /// The rules of tests/faults/rules.py are at work: what each makes of a message is in topics of its own, whose names begin with that of the only
    /// `--kafka-topic`.
    #[arg(long, requires = "kafka_topics")]
    pub(crate) ruled: bool,
    /// The key that records must have.
    #[arg(long, value_enum, default_value = "topic")]
    key: Key,
    /// Count what was answered and is not there, and do not judge it: levels that may lose.
    #[arg(long)]
    may_lose: bool,
    /// Count doubles and do not judge them: the service is killed during the run.
    #[arg(long)]
    may_double: bool,
    /// Messages of one QoS have an order, and those of another one may overtake them.
    #[arg(long)]
    order_by_qos: bool,
    /// The service has a spool: sessions and QoS 2 outlive its kill -9, and CONNACK has to say so.
    #[arg(long)]
    spooled: bool,
    /// What the service forgot with its session is sent once more, as a new message; its doubles are counted.
    #[arg(long)]
    insist: bool,
    /// Takes orders on standard input, a line each: `target ADDRESS` (the service was started there anew), `mark NAME`
    /// (answers are counted from here), `end` (nothing new is sent). Kafka is read when the input is closed after that.
    #[arg(long)]
    pub(crate) control: bool,
    /// Seconds after `end` in which all has to be answered.
    #[arg(long, default_value_t = 600)]
    pub(crate) patience: u64,
    /// Writes every send and every answer there, 24 bytes each (`events.rs`).
    #[arg(long)]
    pub(crate) events: Option<PathBuf>,
    /// Seconds in which nothing more may come before Kafka is read.
    #[arg(long, default_value_t = 2)]
    pub(crate) settle: u64,
    /// The program that reads Kafka.
    #[arg(long, default_value = "kcat")]
    kcat: String,
    /// Process whose CPU, memory and switches are taken: PID or NAME=PID; may be given several times.
    #[arg(long)]
    pub(crate) pid: Vec<String>,
    /// Writes the report there as well.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Writes a JSON line each second there.
    #[arg(long)]
    pub(crate) timeline: Option<PathBuf>,
}

impl Settings {
    /// The plan of the messages.
    ///
    /// # Errors
    /// Impossible settings.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        if self.payload < BYTES_MIN {
            bail!("--payload: {BYTES_MIN} bytes at least, for what the judge needs");
        }
        if self.kafka.is_some() && self.kafka_topics.is_empty() {
            bail!("--kafka: say with --kafka-topic which topics to read");
        }
        if self.topic.len() > 60_000 {
            bail!("--topic: too long");
        }
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(Plan {
            seed: self.seed,
            run: self.run.unwrap_or(super::plan::mix(time.as_nanos() as u64) as u32),
            messages: self.messages,
            clients: self.clients,
            qos: self.qos.clone(),
            versions: self.versions.clone(),
            payload_bytes: self.payload,
            topics: self.topics,
            topic: self.topic.clone(),
            reconnect_every: self.reconnect_every,
        })
    }

    /// All Kafka topics in which messages must be.
    pub(crate) fn topics(&self) -> Vec<String> {
        if !self.ruled {
            return self.kafka_topics.clone();
        }
        let of_parts = PARTS.iter().flat_map(|part| part.topics);
        of_parts.map(|rest| format!("{}{rest}", self.kafka_topics.first().map_or("", String::as_str))).collect()
    }

    pub(crate) fn manner(&self) -> Manner {
        Manner {
            kept: !self.clean,
            keep_alive_s: self.keep_alive,
            window: usize::from(self.window),
            per_write: usize::from(self.per_write),
            spooled: self.spooled,
            insist: self.insist,
        }
    }

    pub(crate) fn pace(&self) -> super::pace::Pace {
        super::pace::Pace::new(self.rate, usize::from(self.per_write))
    }

    pub(crate) fn rules(&self) -> Rules {
        let window = u64::from(self.window);
        let (may_lose, may_double, by_qos) = (self.may_lose, self.may_double, self.order_by_qos);
        Rules { may_lose, may_double, key: self.key, by_qos, window, part: None }
    }

    /// The addresses of the server.
    pub(crate) fn targets(&self) -> Vec<SocketAddr> {
        std::iter::once(self.target).chain(self.also.iter().copied()).collect()
    }

    /// The longest wait for an answer to CONNECT or PINGREQ.
    pub(crate) fn silence(&self) -> Option<Duration> {
        (self.silence > 0).then(|| Duration::from_secs(self.silence))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    pub(crate) fn kafka(&self) -> Option<Kafka> {
        let bootstrap = self.kafka.clone()?;
        Some(Kafka { kcat: self.kcat.clone(), bootstrap, patience: Duration::from_secs(60) })
    }
}

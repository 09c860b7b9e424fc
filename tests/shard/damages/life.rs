//! A process on a data directory of real files: its shards, their clients, one Kafka for all of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use forebay::config::{self, Config};
use forebay::data_dir;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::journal::{Filter, Journal};
use forebay::mqtt::packet::{Packet, Version};
use forebay::runtime::seam::{ConnId, Shard as _};
use forebay::shard::Surroundings;
use forebay::shard::mail::Notice;

use super::super::broker::Broker;
use super::super::process::{Of, Process, packets};
use super::super::subscribe::{PLAIN, bytes_of, subscribe_packet};
use super::super::world::{edge, surroundings};

/// Bytes of a segment: small, so that there are several.
const SEGMENT: u64 = 128 << 10;

/// The configuration, as `forebay check` reads it. No Kafka listens at its port.
pub(super) fn text(data_dir: &Path, shards: usize) -> String {
    format!(
        r##"
[service]
shards = {shards}
pin = false
data_dir = '{}'
[kafka.main]
bootstrap = "127.0.0.1:1"
buffer_bytes = "16MiB"
[spool]
bytes_max = "64MiB"
segment_bytes = "1MiB"
sync_interval = "0ms"
[[sink]]
name = "all"
kafka = "main"
filters = ["to/kafka/#"]
topic = "all"
batch_bytes = "64KiB"
record_bytes_max = "64KiB"
spill_after = "1MiB"
acknowledge = "stored"
[[sink]]
name = "each"
kafka = "main"
filters = ["to/each/#"]
topic = "each-${{topic[2]}}"
batch_bytes = "64KiB"
record_bytes_max = "64KiB"
spill_after = "1MiB"
acknowledge = "stored"
"##,
        data_dir.display()
    )
}

/// Links of a shard to Kafka, each with the bytes that are no whole request yet.
type Links = Vec<(ConnId, Vec<u8>)>;

/// See the module.
pub(super) struct Life {
    pub(super) process: Process,
    pub(super) broker: Broker,
    /// Whether Kafka can be reached.
    pub(super) kafka_up: bool,
    links: Vec<Links>,
    journal: Arc<Journal>,
    #[allow(dead_code, reason = "held, not read: the data directory's lock is in it")]
    data_dir: data_dir::DataDir,
    /// Events that tell of damage which the start said before any shard ran.
    pub(super) mended: usize,
}

impl Life {
    /// A start.
    ///
    /// # Errors
    /// Why there is none, in words for a person.
    pub(super) fn start(data_dir: &Path, shards: usize, broker: Broker) -> Result<Self, String> {
        let mut config = config::parse(&text(data_dir, shards), "test.toml").unwrap_or_else(|why| panic!("{why}"));
        if let Some(spool) = &mut config.spool {
            spool.segment_bytes = SEGMENT;
        }
        let mut prepared = data_dir::prepare(&mut config)?;
        let (lost_before, said) = (prepared.lost, std::mem::take(&mut prepared.said));
        let mended = said.iter().filter(|said| said.kind == EventKind::SpoolDamaged).count();
        let (tell, notices) = channel();
        let config: Arc<Config> = Arc::new(config);
        let around = Surroundings { edge: edge(&config), notices: tell, lost_before, ..surroundings(&config) };
        let journal = Arc::clone(&around.journal);
        let process =
            Process::on_files(around).map_err(|error| format!("a shard cannot open its segments: {error}"))?;
        let links = process.shards.iter().map(|_| Links::new()).collect();
        let mut life = Self { process, broker, kafka_up: true, links, journal, data_dir: prepared, mended };
        failed(&notices)?;
        life.run(1);
        failed(&notices)?;
        Ok(life)
    }

    /// So many rounds of all shards, with 10 ms between them, and Kafka's answers.
    pub(super) fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for shard in 0..self.process.shards.len() {
                self.process.read_mail(shard, usize::MAX);
                self.process.turn(shard, Duration::from_millis(10));
                if self.kafka_up {
                    self.kafka(shard);
                }
            }
        }
    }

    /// Until Kafka has been asked nothing for a while.
    pub(super) fn drain(&mut self) {
        let (mut quiet, mut records) = (0, 0);
        for _ in 0..200 {
            self.run(5);
            let now = self.broker.records.len();
            quiet = if now == records { quiet + 1 } else { 0 };
            records = now;
            if quiet > 6 {
                return;
            }
        }
    }

    fn kafka(&mut self, shard: usize) {
        let Of { core, table, .. } = &mut self.process.shards[shard];
        let links = &mut self.links[shard];
        for slot in 0..table.wires.len() {
            let conn = table.id(slot);
            let wire = &mut table.wires[slot];
            if wire.outgoing.is_none() || wire.closed {
                continue;
            }
            let Some((_, pending)) = links.iter_mut().find(|(of, _)| *of == conn) else {
                links.push((conn, Vec::new()));
                core.on_connect(table, conn);
                continue;
            };
            pending.append(&mut wire.out);
            let answers = self.broker.answer(pending);
            if !answers.is_empty() {
                let _ = core.on_bytes(table, conn, &answers);
            }
        }
    }

    /// Events of damage that shards have told.
    pub(super) fn told(&self) -> usize {
        self.journal.collect();
        let events = self.journal.page(&Filter::default()).events;
        events.iter().filter(|(_, event)| event.kind == EventKind::SpoolDamaged).count()
    }

    /// A client comes whose session is kept: whether there was one, and the payloads that came at once.
    pub(super) fn connect(&mut self, client: &str) -> (usize, ConnId, bool, Vec<String>) {
        let (shard, conn) = self.process.open(client, false);
        self.run(20);
        let heard = self.process.heard(shard, conn);
        assert_eq!((heard.first(), heard.get(3)), (Some(&0x20), Some(&0)), "CONNACK for {client}: {heard:?}");
        let behind = &heard[2 + usize::from(heard[1])..];
        (shard, conn, heard[2] & 1 == 1, payloads(behind))
    }

    /// What is retained below a filter, by topic.
    pub(super) fn retained(&mut self, filter: &str) -> Vec<(String, String)> {
        let (shard, conn) = self.process.open("looks", true);
        self.run(5);
        self.process.bytes(shard, conn, &subscribe_packet(Version::V5, 0, &[(filter, PLAIN)]));
        self.run(20);
        let heard = self.process.heard(shard, conn);
        let found = packets(&heard).filter_map(|packet| match packet {
            Packet::Publish(publish) => Some((publish.topic.to_owned(), words(publish.payload))),
            _ => None,
        });
        found.collect()
    }

    /// A client sends packets; how many answers with a packet id came.
    pub(super) fn send(&mut self, (shard, conn): (usize, ConnId), all: &[Packet<'_>]) -> usize {
        for packet in all {
            self.process.bytes(shard, conn, &bytes_of(Version::V5, packet));
        }
        self.run(8);
        let heard = self.process.heard(shard, conn);
        packets(&heard).filter(|packet| matches!(packet, Packet::PubAck(_) | Packet::PubRec(_))).count()
    }
}

fn failed(notices: &Receiver<Notice>) -> Result<(), String> {
    notices.try_iter().try_for_each(|notice| match notice {
        Notice::Failed { why, .. } => Err(why),
        _ => Ok(()),
    })
}

fn words(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    text.split_once(' ').map_or(&*text, |(word, _)| word).to_owned()
}

/// The first words of the messages among some packets.
pub(super) fn payloads(bytes: &[u8]) -> Vec<String> {
    let found = packets(bytes).filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(words(publish.payload)),
        _ => None,
    });
    found.collect()
}

/// The first words of the records that Kafka has.
pub(super) fn in_kafka(broker: &Broker) -> Vec<String> {
    broker.records.iter().map(|(_, _, _, value)| words(value)).collect()
}

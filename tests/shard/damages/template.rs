//! The data directory that is damaged: two shards, several segments each, with everything that a spool keeps, and what of it was
//! acknowledged. Its files are kept in memory, as they were at its end and at an earlier time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use forebay::broker::router::owner;
use forebay::data_dir;
use forebay::mqtt::packet::{Ack, Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::mqtt::property::Properties;
use forebay::mqtt::reason::ReasonCode;

use super::super::broker::Broker;
use super::super::subscribe::{PLAIN, message, subscribe_packet};
use super::life::{Life, in_kafka};

pub(super) const SHARDS: usize = 2;
/// Sessions that wait for messages.
pub(super) const WAITING: usize = 6;

/// Bytes of files, by their paths below the data directory.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What was acknowledged and must be there, or be told.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// By client: what its session waits for.
    pub(super) waiting: BTreeMap<String, BTreeSet<String>>,
    /// What the first of them has acknowledged, and must not get again.
    pub(super) over: BTreeSet<String>,
    pub(super) retained: BTreeMap<String, String>,
    pub(super) shared: BTreeSet<String>,
    /// Records for Kafka.
    pub(super) rows: BTreeSet<String>,
}

/// See the module.
pub(super) struct Template {
    pub(super) files: Files,
    /// The same at an earlier time.
    pub(super) older: Files,
    pub(super) expected: Expected,
    pub(super) broker: Broker,
}

fn client_on(shard: usize, name: &str) -> String {
    (0..).map(|number| format!("{name}-{number}")).find(|name| owner(name, SHARDS) == shard).expect("one of them")
}

/// Clients of sessions that wait: the same number on each shard.
fn waiting() -> Vec<String> {
    (0..WAITING).map(|number| client_on(number % SHARDS, &format!("waits-{number}"))).collect()
}

pub(super) const MEMBER: &str = "member";
const QOS_1: SubscriptionOptions = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };

/// A publisher on each shard.
struct Publishers {
    conns: Vec<(usize, forebay::runtime::seam::ConnId)>,
    next_id: u16,
}

impl Publishers {
    fn connect(life: &mut Life) -> Self {
        let conns = (0..SHARDS).map(|shard| {
            let (shard, conn, ..) = life.connect(&client_on(shard, "publisher"));
            (shard, conn)
        });
        Self { conns: conns.collect(), next_id: 1 }
    }

    /// Each sends these, and all are acknowledged.
    fn say(&mut self, life: &mut Life, shard: usize, all: &[(String, String)], retain: bool) {
        for some in all.chunks(10) {
            let packets: Vec<_> = some
                .iter()
                .map(|(topic, payload)| {
                    self.next_id = self.next_id % 60_000 + 1;
                    let (qos, packet_id) = (QoS::AtLeastOnce, self.next_id);
                    Packet::Publish(Publish { qos, packet_id, retain, ..message(topic, payload) })
                })
                .collect();
            assert_eq!(life.send(self.conns[shard], &packets), packets.len(), "each is acknowledged");
        }
    }
}

fn padded(name: &str, bytes: usize) -> String {
    format!("{name} {}", "~".repeat(bytes))
}

impl Template {
    /// With records for Kafka that wait, or with none.
    pub(super) fn make(rows: bool) -> Self {
        let dir = super::super::damages::temp_dir();
        let mut expected = Expected::default();
        let mut life = Life::start(dir.path(), SHARDS, Broker { keep: true, ..Broker::default() }).expect("a start");
        let clients = waiting();
        for client in &clients {
            let (shard, conn, ..) = life.connect(client);
            life.process.bytes(shard, conn, &subscribe_packet(Version::V5, 0, &[("q/#", QOS_1)]));
            life.run(8);
        }
        let (shard, conn, ..) = life.connect(MEMBER);
        life.process.bytes(shard, conn, &subscribe_packet(Version::V5, 0, &[("$share/g/s/#", QOS_1)]));
        life.run(8);
        life.process.lose(shard, conn);
        let mut publishers = Publishers::connect(&mut life);
        // Others are away: these wait for them. The first one takes them.
        let mut queued = BTreeSet::new();
        for shard in 0..SHARDS {
            let name = format!("early-{shard}");
            publishers.say(&mut life, shard, &[("q/1".to_owned(), padded(&name, 40))], false);
            queued.insert(name);
        }
        for client in &clients {
            let (shard, conn, _, got) = life.connect(client);
            assert_eq!(got.len(), SHARDS, "{client}: {got:?}");
            if *client == clients[0] {
                for packet_id in 1..=SHARDS as u16 {
                    let ack = Ack { packet_id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY };
                    life.send((shard, conn), &[Packet::PubAck(ack)]);
                }
                expected.over.clone_from(&queued);
            } else {
                expected.waiting.insert(client.clone(), queued.clone());
            }
            life.process.lose(shard, conn);
        }
        expected.waiting.insert(clients[0].clone(), BTreeSet::new());
        for (shard, topic) in (0..6).map(|number| (number % SHARDS, format!("r/{number}"))) {
            let name = format!("retained-{topic}").replace('/', "-");
            publishers.say(&mut life, shard, &[(topic.clone(), padded(&name, 60))], true);
            expected.retained.insert(topic, name);
        }
        let row = |number: usize, bytes| {
            let topic = match number % 3 {
                0 => format!("to/each/{}", number % 7),
                _ => format!("to/kafka/{}", number % 11),
            };
            (topic, padded(&format!("row-{number}"), bytes))
        };
        let mut send_rows = |life: &mut Life, publishers: &mut Publishers, numbers: std::ops::Range<usize>, bytes| {
            for shard in 0..SHARDS {
                let rows: Vec<_> = numbers
                    .clone()
                    .filter(|number| number % SHARDS == shard)
                    .map(|number| row(number, bytes))
                    .collect();
                publishers.say(life, shard, &rows, false);
            }
            expected.rows.extend(numbers.map(|number| format!("row-{number}")));
        };
        send_rows(&mut life, &mut publishers, 0..60, 700);
        life.drain();
        let broker = life.broker.clone();
        drop(life);
        let older = read(dir.path());

        let mut life = Life::start(dir.path(), SHARDS, broker).expect("a start");
        let mut publishers = Publishers::connect(&mut life);
        if rows {
            // Kafka has these, and has not said so.
            life.broker.silent = true;
            send_rows(&mut life, &mut publishers, 60..100, 500);
            life.run(20);
            life.kafka_up = false;
        }
        for shard in 0..SHARDS {
            for number in 0..3 {
                let name = format!("late-{shard}-{number}");
                publishers.say(&mut life, shard, &[(format!("q/{number}"), padded(&name, 50))], false);
                expected.waiting.values_mut().for_each(|waiting| _ = waiting.insert(name.clone()));
                let name = format!("shared-{shard}-{number}");
                publishers.say(&mut life, shard, &[(format!("s/{number}"), padded(&name, 50))], false);
                expected.shared.insert(name);
            }
            // An open exchange.
            let publish = Publish { qos: QoS::ExactlyOnce, packet_id: 65_000, ..message("q/open", "once once") };
            if shard == 0 {
                assert_eq!(life.send(publishers.conns[shard], &[Packet::Publish(publish)]), 1);
                expected.waiting.values_mut().for_each(|waiting| _ = waiting.insert("once".to_owned()));
            }
        }
        send_rows(&mut life, &mut publishers, 100..320, 1_200);
        for number in 0..3 {
            let (topic, name) = (format!("r/{number}"), format!("again-r-{number}"));
            publishers.say(&mut life, number % SHARDS, &[(topic.clone(), padded(&name, 60))], true);
            expected.retained.insert(topic, name);
        }
        life.run(100);
        if !rows {
            life.drain();
            let found: BTreeSet<_> = in_kafka(&life.broker).into_iter().collect();
            assert!(expected.rows.is_subset(&found), "all are in Kafka");
        }
        for shard in 0..SHARDS {
            let name = format!("row-last-{shard}");
            let row = (format!("to/kafka/{shard}"), padded(&name, 90));
            publishers.say(&mut life, shard, &[row], false);
            expected.rows.insert(name);
        }
        life.run(50);
        if !rows {
            life.drain();
        }
        // A note beside the segments says where they end: up to five seconds behind, but nothing is damaged as soon.
        life.run(600);
        let mut broker = life.broker.clone();
        drop(life);
        broker.silent = false;
        let files = read(dir.path());
        let root = dir.path().join("spool");
        let reports = data_dir::look(&root).expect("a start");
        assert!(reports.iter().all(|(_, report)| !report.is_damaged()), "{reports:?}");
        assert_eq!(reports.iter().any(|(_, report)| report.rows > 0), rows);
        let segments = |shard: &str| files.keys().filter(|path| path.starts_with(format!("spool/{shard}"))).count();
        assert!(segments("0") >= 4 && segments("1") >= 4, "{:?}", files.keys());
        Self { files, older, expected, broker }
    }
}

/// All files below a data directory but its lock.
fn read(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                folders.push(path);
            } else if entry.file_name() != "lock" {
                files.insert(path, fs::read(entry.path()).expect("a file"));
            }
        }
    }
    files
}

/// Writes files into a directory; what is zero is a hole.
pub(super) fn write(files: &Files, dir: &Path) {
    const PIECE: usize = 4 << 10;
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let file = File::create(&path).expect("a file");
        file.set_len(bytes.len() as u64).expect("room");
        for (at, piece) in bytes.chunks(PIECE).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)) {
            file.write_all_at(piece, (at * PIECE) as u64).expect("room");
        }
    }
}

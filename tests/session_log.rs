//! The log of sessions in a partition of a real Kafka (`FOREBAY_TEST_KAFKA`): owners in turn, a partition with many records, and one that the cleaner has
//! been over.

#[allow(dead_code, reason = "of other tests")]
#[path = "support/kafka_driver.rs"]
mod kafka_driver;
mod support;

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::cli::session_log::{NotTaken, Wanted, prepare_topic, take_over};
use forebay::config::Config;
use forebay::kafka::client::Settings;
use forebay::kafka::types::ClientEvent;
use forebay::replica::{Lost, Outcome, Read, Replica, Store, Taken, Wire};
use kafka_driver::Driver;

const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster, and a topic of the test's own.
struct Place {
    config: Config,
    bootstrap: String,
    topic: String,
    owners: u32,
    /// The note that the last owner has found.
    note: Option<Vec<u8>>,
}

/// An owner on real sockets.
struct Owner {
    driver: Driver,
    replica: Replica,
    wire: Wire,
    token: u64,
}

impl Place {
    fn new(what: &str) -> Self {
        let bootstrap = support::kafka::shared();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let topic = format!("session-log-{what}-{}-{since}", std::process::id());
        let text = format!(
            "[kafka.main]\nbootstrap = \"{bootstrap}\"\n[[sink]]\nname = \"s\"\nfilters = [\"x\"]\ntopic = \"unused\"\n"
        );
        let config = forebay::config::parse(&text, "test").expect("a configuration");
        Self { config, bootstrap, topic, owners: 0, note: None }
    }

    fn tool(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(support::root().join("scripts/kafka"));
        command
            .args(["tool"])
            .args(arguments)
            .args(["--bootstrap-server", &self.bootstrap])
            .env("KAFKA_VERSION", "4.3.1");
        support::run(command.stdin(Stdio::null()))
    }

    fn configure(&self, settings: &str) {
        let of = ["--alter", "--entity-type", "topics", "--entity-name", &self.topic, "--add-config", settings];
        self.tool(&[&["kafka.admin.ConfigCommand"][..], &of].concat());
    }

    fn prepare(&self, create: bool) -> Result<Vec<String>, String> {
        prepare_topic(&self.config.clusters[0], &self.topic, 2, 1, create)
    }

    fn prepared(&self) {
        let end = Instant::now() + PATIENCE;
        while let Err(why) = self.prepare(true) {
            assert!(why.contains("is being created") && Instant::now() < end, "{why}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The log, or why it is not to be had, with its segments. A coordinator that was never asked has to make itself ready first.
    fn taken(&mut self) -> (Result<Taken, String>, Files) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.owners += 1;
            let (cluster, topic) = (&self.config.clusters[0], &*self.topic);
            let wanted = Wanted { cluster, topic, log: 1, instance: "test" };
            let mut files = Files::default();
            match take_over(&wanted, &mut files).map_err(NotTaken::words) {
                Err(why) if why.contains("was answered with error 1") && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                taken => return (taken, files),
            }
        }
    }

    /// The next owner, the segments that it has found, and what it has read for that.
    fn take_over(&mut self) -> (Owner, BTreeMap<u64, Vec<u8>>, Read) {
        let (taken, mut files) = self.taken();
        let (taken, topic) = (taken.expect("taken over"), &*self.topic);
        let read = taken.read;
        self.note = files.1.take();
        let bootstrap = self.bootstrap.split(',').map(str::to_owned).collect();
        let mut driver = Driver::start(Settings { bootstrap, ..Settings::default() }, self.owners.into());
        let now = driver.now();
        driver.client.watch_metadata(&Rc::from(topic), now);
        (Owner { driver, replica: Replica::new(taken, 1), wire: Wire::default(), token: 0 }, files.0, read)
    }
}

/// Segments in memory.
#[derive(Default)]
struct Files(BTreeMap<u64, Vec<u8>>, Option<Vec<u8>>);

impl Store for &mut Files {
    fn write(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (file, at) = (self.0.entry(segment).or_default(), usize::try_from(at).expect("small"));
        file.resize(file.len().max(at + bytes.len()), 0);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).expect("small");
        into.copy_from_slice(&self.0[&segment][at..at + into.len()]);
        Ok(())
    }

    fn set_len(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        self.0.entry(segment).or_default().resize(usize::try_from(bytes).expect("small"), 0);
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.0.remove(&segment);
        Ok(())
    }

    fn write_note(&mut self, note: &[u8]) -> io::Result<()> {
        self.1 = Some(note.to_vec());
        Ok(())
    }
}

impl Owner {
    /// Syncs what was appended.
    fn sync(&mut self) -> Result<(), Lost> {
        self.token += 1;
        self.replica.sync(self.token);
        self.until(|outcome, token| outcome == Outcome::Synced(token))
    }

    fn until(&mut self, is_it: impl Fn(Outcome, u64) -> bool) -> Result<(), Lost> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let now = self.driver.now();
            while let Some(event) = self.driver.events.pop_front() {
                if let ClientEvent::Metadata(topics) = &event {
                    self.replica.metadata(topics);
                }
                for (_, batch, answer) in self.wire.answers(&event).unwrap_or_default() {
                    match self.replica.answered(batch, answer, now) {
                        Outcome::Lost(why) => return Err(why),
                        Outcome::Retry(_) => self.driver.client.refresh_metadata(now),
                        outcome if is_it(outcome, self.token) => return Ok(()),
                        _ => {}
                    }
                }
            }
            for request in self.wire.requests(std::iter::once(&mut self.replica), now) {
                self.driver.client.produce(request, now);
            }
            let wait =
                self.wire.due(std::iter::once(&self.replica)).since(self.driver.now()).min(Duration::from_millis(100));
            self.driver.turn(wait);
        }
        panic!("not within {PATIENCE:?}: {:?}", self.replica.numbers());
    }
}

#[test]
fn two_owners_in_turn_lose_nothing_that_was_acknowledged() {
    let mut place = Place::new("turn");
    let missing = place.prepare(false).expect_err("missing");
    assert!(missing.contains("create_topics in [broker] is false"), "{missing}");
    place.prepared();
    let mut expected: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut first, found, _) = place.take_over();
    assert!(found.is_empty());
    for turn in 0..100u64 {
        let (segment, bytes) = (turn / 40, [turn as u8; 300]);
        let file = expected.entry(segment).or_default();
        first.replica.append(segment, file.len() as u64, &bytes);
        file.extend_from_slice(&bytes);
        first.sync().expect("acknowledged");
    }
    first.replica.write_note(b"a note");
    first.replica.free(0);
    expected.remove(&0);
    // More than one batch.
    let large = vec![7; 3_000_000];
    first.replica.append(9, 0, &large);
    expected.insert(9, large);
    first.sync().expect("acknowledged");

    let (mut second, found, read) = place.take_over();
    assert!(found == expected, "{:?} in the place of {:?}", found.keys(), expected.keys());
    assert_eq!(read.passed_over, 0);
    assert_eq!(place.note.as_deref(), Some(&b"a note"[..]));
    // The first one has lost it, and is told with its next batch.
    first.replica.append(2, 90_000, b"late");
    assert_eq!(first.sync(), Err(Lost::Fenced(47)));
    second.replica.append(10, 0, b"second");
    expected.insert(10, b"second".to_vec());
    second.sync().expect("acknowledged");
    // A connection that ends makes no difference.
    second.replica.append(10, 6, b" again");
    expected.insert(10, b"second again".to_vec());
    second.driver.cut();
    second.sync().expect("acknowledged");
    let (third, found, read) = place.take_over();
    assert!(found == expected);
    assert_eq!((read.passed_over, third.replica.numbers().term), (0, 3));
}

#[test]
fn a_topic_with_other_settings_is_refused_with_the_command_that_mends_it() {
    let mut place = Place::new("settings");
    place.prepared();
    place.configure("message.timestamp.type=CreateTime,cleanup.policy=delete");
    let end = Instant::now() + PATIENCE;
    let refused = loop {
        match place.prepare(true) {
            Err(why) => break why,
            Ok(_) => assert!(Instant::now() < end, "the broker does not know yet"),
        }
    };
    assert!(refused.contains("--add-config cleanup.policy=compact,message.timestamp.type=LogAppendTime"), "{refused}");
    // Who may not see the settings sees it by the records.
    let refused = place.taken().0.expect_err("refused");
    assert!(refused.contains("message.timestamp.type=LogAppendTime"), "{refused}");
}

#[test]
fn a_topic_with_another_number_of_partitions_is_refused_with_the_command_that_makes_a_new_one() {
    let place = Place::new("partitions");
    place.prepared();
    let prepare = || prepare_topic(&place.config.clusters[0], &place.topic, 64, 1, true);
    let refused = prepare().expect_err("refused");
    let command = format!("kafka-topics.sh --delete --topic {}", place.topic);
    assert!(refused.contains("has 2 partitions, and must have 64") && refused.contains(&command), "{refused}");
    // As an earlier version has made it.
    place.tool(&["org.apache.kafka.tools.TopicCommand", "--alter", "--topic", &place.topic, "--partitions", "127"]);
    let end = Instant::now() + PATIENCE;
    loop {
        let refused = prepare().expect_err("refused");
        if refused.contains("as an earlier version has made it") {
            assert!(refused.contains(&command), "{refused}");
            return;
        }
        assert!(Instant::now() < end, "{refused}");
    }
}

#[test]
fn a_hundred_thousand_records_are_read_and_the_cleaner_takes_those_that_are_over() {
    let mut place = Place::new("many");
    place.prepared();
    let (mut owner, ..) = place.take_over();
    let mut expected: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut number = 0u32;
    for group in 0..100u64 {
        let segment = group / 10;
        for _ in 0..1000 {
            let mut bytes = [1; 330];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            number += 1;
            let file = expected.entry(segment).or_default();
            owner.replica.append(segment, file.len() as u64, &bytes);
            file.extend_from_slice(&bytes);
        }
        owner.sync().expect("acknowledged");
    }
    let began = Instant::now();
    let (mut owner, found, read) = place.take_over();
    println!("{} records, {} bytes, {} batches in {:?}", read.records, read.bytes, read.batches, began.elapsed());
    assert!(found == expected);
    assert_eq!((read.records, owner.replica.held().1), (100_000, 100_000));

    for segment in 0..9 {
        owner.replica.free(segment);
        expected.remove(&segment);
    }
    owner.sync().expect("acknowledged");
    place.configure("segment.ms=100,min.cleanable.dirty.ratio=0.01");
    let end = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let (mut next, found, read) = place.take_over();
        assert!(found == expected, "{:?}", found.keys());
        next.replica.append(100, 0, b"x");
        expected.insert(100, b"x".to_vec());
        next.sync().expect("acknowledged");
        if read.records < 110_000 {
            assert_eq!(owner.sync(), Err(Lost::Fenced(47)), "after the cleaner too");
            println!("the cleaner has left {} records", read.records);
            return;
        }
        next.replica.free(100);
        expected.remove(&100);
        next.sync().expect("acknowledged");
        assert!(Instant::now() < end, "the cleaner has not come: {read:?}");
    }
}

//! Members of consumer groups: against a real Kafka (`FOREBAY_TEST_KAFKA`), alone, beside each other and beside Java's and librdkafka's;
//! and against the embedded log.

#[path = "support/kafka_driver.rs"]
mod kafka_driver;
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::embedded::EmbeddedLog;
use forebay::kafka::client;
use forebay::kafka::coordination::{Committed, Offset, TopicPartition};
use forebay::kafka::group::{Lost, Member, News, Settings};
use forebay::kafka::types::ClientEvent;
use kafka_driver::Driver;

const PATIENCE: Duration = Duration::from_secs(90);

/// The version of Java's tools and consumers, whatever brokers they are used with.
const JAVA: &str = "4.3.1";

/// What a member of ours knows of its partitions: what is committed for each.
type Partitions = BTreeMap<i32, Option<Committed>>;

/// A member of ours on real sockets, of one topic. It gives back what is revoked at once.
struct Ours {
    driver: Driver,
    member: Member,
    topic: Rc<str>,
    /// `None`: nothing was assigned, or it was revoked.
    has: Option<Partitions>,
    news: Vec<News>,
}

/// A place to test at: a cluster, a group and a topic of its own.
struct Place {
    bootstrap: String,
    group: String,
    topic: String,
}

impl Place {
    fn new(bootstrap: String, what: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let name = format!("group-{what}-{}-{since}", std::process::id());
        Self { bootstrap, group: name.clone(), topic: name }
    }

    fn real(what: &str, partitions: u32) -> Self {
        let place = Self::new(support::kafka::shared(), what);
        place.topics(&["--create", "--partitions", &partitions.to_string()]);
        place
    }

    fn tool(&self, class: &str) -> Command {
        let mut command = Command::new(support::root().join("scripts/kafka"));
        command.args(["tool", class, "--bootstrap-server", &self.bootstrap]).env("KAFKA_VERSION", JAVA);
        command.stdin(Stdio::null());
        command
    }

    fn topics(&self, arguments: &[&str]) {
        support::run(self.tool("org.apache.kafka.tools.TopicCommand").args(["--topic", &self.topic]).args(arguments));
    }

    /// What kafka-consumer-groups says of each partition: committed offset, member id and client id of who has it.
    fn described(&self) -> BTreeMap<i32, [String; 3]> {
        let mut tool = self.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        let told = support::run(tool.args(["--describe", "--group", &self.group]));
        let mut lines = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let head = lines.find(|line| line.contains(&"PARTITION")).unwrap_or_else(|| panic!("no table: {told}"));
        let at = |name: &str| head.iter().position(|column| *column == name).expect("a column");
        let columns = [at("CURRENT-OFFSET"), at("CONSUMER-ID"), at("CLIENT-ID")];
        let rows = lines.filter(|line| line.len() == head.len());
        rows.map(|line| (line[at("PARTITION")].parse().expect("a number"), columns.map(|i| line[i].to_owned())))
            .collect()
    }

    fn join(&self, seed: u64, change: impl FnOnce(&mut Settings)) -> Ours {
        let bootstrap = self.bootstrap.split(',').map(str::to_owned).collect();
        let driver = Driver::start(
            client::Settings { bootstrap, client_id: format!("ours-{seed}"), ..Default::default() },
            seed,
        );
        let topic: Rc<str> = Rc::from(self.topic.as_str());
        let mut settings = Settings {
            group: Rc::from(self.group.as_str()),
            topics: vec![Rc::clone(&topic)],
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(300),
            metadata_max_age: Duration::from_secs(2),
            ..Settings::default()
        };
        change(&mut settings);
        let member = Member::new(settings, seed, driver.now());
        Ours { driver, member, topic, has: None, news: Vec::new() }
    }
}

impl Ours {
    fn turn(&mut self, patience: Duration) {
        while let Some(request) = self.member.take_request(self.driver.now()) {
            self.driver.client.ask_coordinator(request, self.driver.now());
        }
        let due = self.member.next_deadline().since(self.driver.now());
        self.driver.turn(patience.min(due));
        while let Some(event) = self.driver.events.pop_front() {
            if let ClientEvent::Member(answer) = event {
                self.member.on_answer(&answer, self.driver.now());
            }
        }
        self.member.on_time(self.driver.now());
        while let Some(news) = self.member.take_news() {
            match &news {
                News::Assigned(assigned) => {
                    let wrong = assigned.iter().find(|assigned| assigned.at.topic != self.topic);
                    assert_eq!(wrong, None, "of another topic");
                    self.has = Some(assigned.iter().map(|of| (of.at.partition, of.committed)).collect());
                }
                News::Revoked(_) => {
                    self.has = None;
                    self.member.revoked_done(self.driver.now());
                }
                News::Lost(_) => self.has = None,
                _ => {}
            }
            self.news.push(news);
        }
    }

    fn partitions(&self) -> Vec<i32> {
        self.has.iter().flatten().map(|(partition, _)| *partition).collect()
    }

    fn commit(&mut self, places: &[(i32, i64)]) {
        let place = |(partition, offset): &(i32, i64)| Offset {
            at: TopicPartition { topic: Rc::clone(&self.topic), partition: *partition },
            offset: *offset,
            leader_epoch: -1,
        };
        let places: Vec<Offset> = places.iter().map(place).collect();
        self.member.commit(&places, self.driver.now());
    }

    fn leave(mut self) {
        self.member.leave(self.driver.now());
        until(&mut [&mut self], "left", |all| all[0].news.contains(&News::Left));
    }
}

/// Turns all members until something is so.
fn until(members: &mut [&mut Ours], what: &str, is: impl Fn(&[&mut Ours]) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is(members) {
        assert!(Instant::now() < end, "{what}: {:?}", members.iter().map(|ours| &ours.news).collect::<Vec<_>>());
        members.iter_mut().for_each(|ours| ours.turn(Duration::from_millis(10)));
    }
}

/// Turns all members while something else runs: a tool on a busy machine takes longer than a session.
fn meanwhile<T: Send>(members: &mut [&mut Ours], run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let running = scope.spawn(run);
        while !running.is_finished() {
            members.iter_mut().for_each(|ours| ours.turn(Duration::from_millis(10)));
        }
        running.join().expect("it runs to its end")
    })
}

/// Whether the members have these partitions, one after the other.
fn have(members: &[&mut Ours], expected: &[&[i32]]) -> bool {
    members.iter().zip(expected).all(|(ours, expected)| ours.has.is_some() && ours.partitions() == *expected)
}

fn first_is_first(a: &Ours, b: &Ours) -> bool {
    a.member.identity().member_id < b.member.identity().member_id
}

/// Two members come, commit and go; what one has committed the other finds.
fn two_members(place: &Place, partitions: i32) {
    let all: Vec<i32> = (0..partitions).collect();
    let mut a = place.join(1, |_| {});
    until(&mut [&mut a], "one member has all", |of| have(of, &[&all]));
    assert!(a.has.iter().flatten().all(|(_, committed)| committed.is_none()), "nothing is committed yet");
    a.commit(&[(0, 5), (1, 20)]);
    a.commit(&[(0, 10), (99, 1)]);
    assert_eq!(a.member.stats().dropped, 1, "of a partition that it does not have");
    until(&mut [&mut a], "committed", |of| of[0].member.stats().committed >= 2);

    let mut b = place.join(2, |_| {});
    until(&mut [&mut a, &mut b], "two share", |of| {
        of.iter().all(|ours| ours.has.as_ref().is_some_and(|has| has.len() < all.len()))
    });
    assert!(a.news.iter().any(|news| matches!(news, News::Revoked(of) if of.len() == all.len())), "{:?}", a.news);
    let (first, second) = if first_is_first(&a, &b) { (&a, &b) } else { (&b, &a) };
    let half = (partitions + 1) / 2;
    assert_eq!(first.partitions(), all[..half as usize], "the first by member id gets one more");
    assert_eq!(second.partitions(), all[half as usize..]);
    let found: Partitions = a.has.iter().chain(&b.has).flatten().map(|(at, committed)| (*at, *committed)).collect();
    let offsets: Vec<Option<i64>> = found.values().map(|committed| committed.map(|of| of.offset)).collect();
    assert_eq!(offsets[..3], [Some(10), Some(20), None]);
    assert_eq!(a.member.identity().generation, b.member.identity().generation);

    a.leave();
    until(&mut [&mut b], "the other one has all", |of| have(of, &[&all]));
    b.commit(&[(2, 7)]);
    b.leave();
    let mut c = place.join(3, |_| {});
    until(&mut [&mut c], "a third one has all", |of| have(of, &[&all]));
    let offsets: Vec<Option<i64>> = c.has.iter().flatten().map(|(_, of)| of.map(|of| of.offset)).collect();
    assert_eq!(offsets[..3], [Some(10), Some(20), Some(7)], "made on leaving too");
    c.leave();
}

#[test]
fn two_members_share_a_topic_and_find_each_others_commits() {
    let place = Place::real("two", 5);
    two_members(&place, 5);
    let described = place.described();
    assert_eq!([0, 1, 2].map(|partition| described[&partition][0].as_str()), ["10", "20", "7"]);
}

#[test]
fn the_same_at_the_embedded_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = forebay::embedded::Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), dir.path());
    settings.partitions_default = 4;
    let log = EmbeddedLog::start(settings).expect("a log");
    let place = Place::new(log.local_addr().to_string(), "embedded");
    let mut maker = place.join(9, |settings| settings.topics.clear());
    maker.driver.client.want_metadata(&maker.topic, maker.driver.now());
    let is_there = maker.driver.wait(PATIENCE, |event| match event {
        ClientEvent::Metadata(topics) => topics.iter().find(|topic| topic.error == 0).map(drop),
        _ => None,
    });
    assert_eq!(is_there, Some(()), "the topic is made");
    two_members(&place, 4);
    // Static membership is not there: the member is an ordinary one, and leaves when its process stops.
    let mut a = place.join(4, |settings| settings.instance = Some(Rc::from("one")));
    until(&mut [&mut a], "it has all", |of| have(of, &[&[0, 1, 2, 3]]));
    a.member.stop(a.driver.now());
    until(&mut [&mut a], "left", |of| of[0].news.contains(&News::Left));
    let begun = Instant::now();
    let mut b = place.join(5, |_| {});
    until(&mut [&mut b], "the next one has all", |of| have(of, &[&[0, 1, 2, 3]]));
    assert!(begun.elapsed() < Duration::from_secs(5), "before the session of the first one is over");
    b.leave();
    drop(log);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_until_it_is_removed() {
    let place = Place::real("static", 4);
    let named = |name: &'static str| move |settings: &mut Settings| settings.instance = Some(Rc::from(name));
    let mut a = place.join(1, named("a"));
    until(&mut [&mut a], "one member has all", |of| have(of, &[&[0, 1, 2, 3]]));
    let mut b = place.join(2, named("b"));
    until(&mut [&mut a, &mut b], "two share", |of| have(of, &[&[0, 1], &[2, 3]]));
    let generation = b.member.identity().generation;
    let heard = b.news.len();
    // Both the leader and the other one, in order and all of a sudden.
    for in_order in [true, false] {
        if in_order {
            a.member.stop(a.driver.now());
            until(&mut [&mut a], "stopped", |of| of[0].news.contains(&News::Left));
            drop(a);
            a = place.join(3, named("a"));
            until(&mut [&mut a, &mut b], "it is back", |of| have(of, &[&[0, 1], &[2, 3]]));
        } else {
            let mut older = std::mem::replace(&mut a, place.join(4, named("a")));
            until(&mut [&mut a, &mut b], "another process is it", |of| have(of, &[&[0, 1], &[2, 3]]));
            until(&mut [&mut older], "the older one is fenced", |of| of[0].news.contains(&News::Lost(Lost::Fenced)));
        }
        assert_eq!(b.member.identity().generation, generation, "no rebalance");
        assert_eq!(a.member.identity().generation, generation);
        assert_eq!(b.news.len(), heard, "{:?}", b.news);
    }
    // The topic grows while the leader is away: its successor has counted nothing, and sees what the group was given.
    a.member.stop(a.driver.now());
    until(&mut [&mut a], "stopped", |of| of[0].news.contains(&News::Left));
    meanwhile(&mut [&mut b], || place.topics(&["--alter", "--partitions", "6"]));
    a = place.join(5, named("a"));
    until(&mut [&mut a, &mut b], "new partitions are shared", |of| have(of, &[&[0, 1, 2], &[3, 4, 5]]));
    a.leave();
    until(&mut [&mut b], "a removed member leaves", |of| have(of, &[&[0, 1, 2, 3, 4, 5]]));
    b.leave();
}

/// The broker that coordinates a group dies: another one does from then on, and the members stay as they are.
#[test]
fn a_coordinator_that_dies_costs_no_rebalance() {
    let kafka = support::kafka::Kafka::start(&["--brokers", "3"]);
    let place = Place::new(kafka.bootstrap().to_owned(), "failover");
    place.topics(&["--create", "--partitions", "3"]);
    let mut ours = place.join(1, |settings| settings.session_timeout = Duration::from_secs(30));
    until(&mut [&mut ours], "alone", |of| have(of, &[&[0, 1, 2]]));
    let (heard, generation) = (ours.news.len(), ours.member.identity().generation);
    let mut tool = place.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
    let told =
        meanwhile(&mut [&mut ours], || support::run(tool.args(["--describe", "--state", "--group", &place.group])));
    // `127.0.0.1:9092 (1)`, and in the line above it the word `(ID)`.
    let broker = told.split(['(', ')']).find(|id| id.parse::<i32>().is_ok());
    let broker = broker.unwrap_or_else(|| panic!("no coordinator: {told}"));
    meanwhile(&mut [&mut ours], || kafka.command(&["kill9", broker]));
    ours.commit(&[(0, 11), (2, 13)]);
    until(&mut [&mut ours], "committed", |of| of[0].member.stats().committed >= 2);
    let later = Instant::now() + Duration::from_secs(5);
    until(&mut [&mut ours], "it stays", |_| Instant::now() > later);
    assert_eq!(ours.member.identity().generation, generation);
    let news: Vec<&News> =
        ours.news[heard..].iter().filter(|news| matches!(news, News::Revoked(_) | News::Lost(_))).collect();
    assert!(news.is_empty(), "{:?}", ours.news);
    let described = meanwhile(&mut [&mut ours], || place.described());
    assert_eq!([0, 1, 2].map(|partition| described[&partition][0].as_str()), ["11", "-", "13"]);
    ours.leave();
}

/// A program that is killed when it is dropped.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a program"))
    }

    /// Lets it end as it wants to.
    fn stop(mut self) {
        let stopped = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(stopped.is_ok_and(|status| status.success()));
        self.0.wait().expect("its end");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Properties of a consumer of the classic protocol.
const CLASSIC: [&str; 3] = ["group.protocol=classic", "session.timeout.ms=6000", "heartbeat.interval.ms=500"];

/// kafka-console-consumer, as a process of its own that can be killed.
fn console_consumer(place: &Place, properties: &[&str]) -> Program {
    let mut java = Command::new("java");
    java.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    java.arg(support::cache().join("kafka").join(JAVA).join("lib/*"));
    java.arg("org.apache.kafka.tools.consumer.ConsoleConsumer").args(["--bootstrap-server", &place.bootstrap]);
    java.args(["--topic", &place.topic, "--group", &place.group]);
    for property in properties {
        java.args(["--consumer-property", property]);
    }
    Program::start(&mut java)
}

/// Turns our member until its group is shared by this many, by `range`: in the order of the member ids, whoever leads.
fn until_shared(place: &Place, ours: &mut Ours, members: usize, partitions: i32) {
    let end = Instant::now() + PATIENCE;
    loop {
        let later = Instant::now() + Duration::from_millis(500);
        until(&mut [ours], "turned", |_| Instant::now() > later);
        let described = meanwhile(&mut [&mut *ours], || place.described());
        let mut ids: Vec<&String> = described.values().map(|row| &row[1]).collect();
        ids.sort();
        ids.dedup();
        let by_range: Vec<&String> = (0..)
            .zip(&ids)
            .flat_map(|(n, id)| {
                let count = partitions / ids.len() as i32 + i32::from(n < partitions % ids.len() as i32);
                std::iter::repeat_n(*id, count as usize)
            })
            .collect();
        if ids.len() == members && described.values().map(|row| &row[1]).eq(by_range) {
            return;
        }
        assert!(Instant::now() < end, "not {members} members by range: {described:?}, {:?}", ours.news);
    }
}

/// Ours beside Java's and librdkafka's, each leading once; they come, leave and are killed.
#[test]
fn members_of_other_clients_come_and_go() {
    let place = Place::real("others", 7);
    let all: Vec<i32> = (0..7).collect();
    let mut ours = place.join(1, |_| {});
    until(&mut [&mut ours], "alone", |of| have(of, &[&all]));
    ours.commit(&(0..7).map(|partition| (partition, 0)).collect::<Vec<_>>());
    until(&mut [&mut ours], "committed", |of| of[0].member.stats().committed == 7);
    // We lead.
    assert!(ours.member.leads());
    let java = console_consumer(&place, &CLASSIC);
    until_shared(&place, &mut ours, 2, 7);
    let mut python = Command::new(support::cache().join("venv/bin/python"));
    python.arg(support::root().join("tests/python/group_member.py")).args([
        &place.bootstrap,
        &place.group,
        &place.topic,
    ]);
    let librdkafka = Program::start(&mut python);
    until_shared(&place, &mut ours, 3, 7);
    java.stop();
    until_shared(&place, &mut ours, 2, 7);
    drop(librdkafka);
    until(&mut [&mut ours], "librdkafka's is killed", |of| have(of, &[&all]));
    // Java leads.
    let java = console_consumer(&place, &CLASSIC);
    until_shared(&place, &mut ours, 2, 7);
    ours.leave();
    let mut ours = place.join(2, |_| {});
    until_shared(&place, &mut ours, 2, 7);
    assert!(!ours.member.leads());
    // The leader counts when it likes; ours sees that there are more partitions.
    let before = ours.member.stats().rebalances;
    meanwhile(&mut [&mut ours], || place.topics(&["--alter", "--partitions", "12"]));
    until(&mut [&mut ours], "the group begins anew", |of| of[0].member.stats().rebalances > before);
    drop(java);
    until(&mut [&mut ours], "Java's is killed", |of| of[0].partitions().len() == 12);
    ours.leave();
}

/// A group of the newer protocol (KIP-848) takes members of the classic one in, beside its own.
#[test]
fn members_of_the_newer_protocol_share_with_ours() {
    let place = Place::real("newer", 4);
    let all = [0, 1, 2, 3, 4, 5];
    let mut ours = place.join(1, |_| {});
    until(&mut [&mut ours], "alone", |of| have(of, &[&all[..4]]));
    meanwhile(&mut [&mut ours], || place.topics(&["--alter", "--partitions", "6"]));
    until(&mut [&mut ours], "it has told what it counted", |of| have(of, &[&all]));
    let newer = console_consumer(&place, &["group.protocol=consumer"]);
    until(&mut [&mut ours], "beside a newer one", |of| of[0].partitions().len() == 3);
    let later = Instant::now() + Duration::from_secs(8);
    until(&mut [&mut ours], "it stays", |_| Instant::now() > later);
    assert_eq!(ours.partitions().len(), 3, "longer than a session: {:?}", ours.news);
    let places: Vec<(i32, i64)> = ours.partitions().iter().map(|partition| (*partition, 3)).collect();
    ours.commit(&places);
    until(&mut [&mut ours], "committed", |of| of[0].member.stats().committed == 3);
    drop(newer);
    until(&mut [&mut ours], "the newer one is killed", |of| have(of, &[&all]));
    ours.leave();
}

//! Instances of one broker in their group, against a real Kafka (`FOREBAY_TEST_KAFKA`): they come, go, die, freeze and come back, and the coordinator moves.

#[allow(dead_code, reason = "of other tests")]
#[path = "support/kafka_driver.rs"]
mod kafka_driver;
mod support;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::kafka::client;
use forebay::kafka::types::ClientEvent;
use forebay::membership::{Instance, Membership, News, Settings, SlotSet, Terms};
use kafka_driver::Driver;

const PATIENCE: Duration = Duration::from_secs(60);
const SLOTS: u16 = 64;
const NUMBER: u32 = 9;

/// Kafka's `group.min.session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(6);

/// An instance that serves what it is told to, and gives it back at once.
struct Process {
    name: &'static str,
    driver: Driver,
    membership: Membership,
    serves: SlotSet,
    news: Vec<News>,
}

struct Place {
    bootstrap: String,
    group: String,
    begun: u128,
}

impl Place {
    fn new(bootstrap: String, what: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self { bootstrap, group: format!("forebay-test-{what}-{}-{since}", std::process::id()), begun: 0 }
    }

    fn start(&mut self, name: &'static str) -> Process {
        self.begun += 1;
        let bootstrap = self.bootstrap.split(',').map(str::to_owned).collect();
        let seed = u64::try_from(self.begun).unwrap_or(0);
        let driver = Driver::start(client::Settings { bootstrap, client_id: name.into(), ..Default::default() }, seed);
        let instance = Instance {
            name: Arc::from(name),
            incarnation: self.begun,
            link: Arc::from(format!("{name}.example:1885")),
            server: Arc::from(""),
            member_id: Arc::from(""),
        };
        let settings = Settings {
            number: NUMBER,
            group: Rc::from(self.group.as_str()),
            instance,
            shards: 1,
            terms: Terms { slots: SLOTS, routes: 1 },
            session_timeout: SESSION,
        };
        let membership = Membership::new(settings, seed, driver.now());
        Process { name, driver, membership, serves: SlotSet::default(), news: Vec::new() }
    }
}

impl Process {
    fn turn(&mut self, patience: Duration) {
        while let Some(request) = self.membership.take_request(self.driver.now()) {
            self.driver.client.ask_coordinator(request, self.driver.now());
        }
        let due = self.membership.next_deadline().since(self.driver.now());
        self.driver.turn(patience.min(due));
        while let Some(event) = self.driver.events.pop_front() {
            if let ClientEvent::Member(answer) = event {
                self.membership.on_answer(&answer, self.driver.now());
            }
        }
        self.membership.on_time(self.driver.now());
        while let Some(news) = self.membership.take_news() {
            match &news {
                News::Take(slots) => self.serves = self.serves.with(slots),
                News::Release(slots) => {
                    self.serves = self.serves.without(slots);
                    self.membership.released(slots, self.driver.now());
                }
                News::Lost(slots) => self.serves = self.serves.without(slots),
                _ => {}
            }
            self.news.push(news);
        }
    }

    fn owner_in_table(&self, slot: u16) -> Option<String> {
        self.membership.table().owner(slot).map(|owner| owner.name.to_string())
    }
}

/// How the instances stand, for people.
fn told(processes: &[&mut Process]) -> Vec<String> {
    processes.iter().map(|of| format!("{} serves {}: {:?}", of.name, of.serves.len(), of.news)).collect()
}

/// Turns all instances until something is so; no slot is ever served by two.
fn until(processes: &mut [&mut Process], what: &str, is: impl Fn(&[&mut Process]) -> bool) -> Duration {
    let begun = Instant::now();
    while !is(processes) {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:#?}", told(processes));
        processes.iter_mut().for_each(|of| of.turn(Duration::from_millis(5)));
        let mut served = SlotSet::default();
        for process in processes.iter().filter(|of| !of.membership.is_silent()) {
            let twice: Vec<u16> = served.iter().filter(|slot| process.serves.contains(*slot)).collect();
            assert!(twice.is_empty(), "{what}: {twice:?} are served twice: {:#?}", told(processes));
            served = served.with(&process.serves);
        }
    }
    begun.elapsed()
}

/// Whether the instances serve as many slots as these, and all of them know so.
fn serve(processes: &[&mut Process], counts: &[usize]) -> bool {
    let all = processes.iter().fold(SlotSet::default(), |all, of| all.with(&of.serves));
    all.len() == usize::from(SLOTS)
        && processes.iter().zip(counts).all(|(of, count)| of.serves.len() == *count)
        && processes.iter().all(|knows| {
            processes
                .iter()
                .all(|of| of.serves.iter().all(|slot| knows.owner_in_table(slot).as_deref() == Some(of.name)))
        })
}

fn rest(processes: &mut [&mut Process], time: Duration) {
    let end = Instant::now() + time;
    until(processes, "rest", |_| Instant::now() > end);
}

fn leave(mut process: Process) {
    process.membership.leave(process.driver.now());
    until(&mut [&mut process], "left", |all| all[0].news.contains(&News::Left));
}

#[test]
fn instances_come_and_go() {
    let mut place = Place::new(support::kafka::shared(), "come");
    let (mut a, mut b) = (place.start("a"), place.start("b"));
    let took = until(&mut [&mut a, &mut b], "two share", |all| serve(all, &[32, 32]));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let before = [a.serves, b.serves];
    // A third one gets its part, eight slots of each at a time, and nothing goes from one of the others to the other.
    let mut c = place.start("c");
    let grown = until(&mut [&mut a, &mut b, &mut c], "three share", |all| serve(all, &[22, 21, 21]));
    println!("growth took {grown:?}");
    assert_eq!((a.serves.without(&before[0]), b.serves.without(&before[1])), (SlotSet::default(), SlotSet::default()));
    let most = a.news.iter().filter_map(|news| if let News::Release(of) = news { Some(of.len()) } else { None }).max();
    assert_eq!(most, Some(8));

    // One is killed: its peers see that its connections are refused, and have it removed.
    let (name, incarnation) = (c.name, 3);
    let had = c.serves;
    drop(c);
    a.membership.peer_is_gone(name, incarnation, a.driver.now());
    b.membership.peer_is_gone(name, incarnation, b.driver.now());
    let took = until(&mut [&mut a, &mut b], "two have all", |all| serve(all, &[32, 32]));
    println!("a death that peers see took {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}: without waiting for the session's end");
    assert_eq!(had.without(&a.serves).without(&b.serves), SlotSet::default());
    // An instance that is back before its session ends has its slots again, and the others see no change.
    let had = b.serves;
    drop(b);
    let mut b = place.start("b");
    until(&mut [&mut a, &mut b], "it is back", |all| serve(all, &[32, 32]));
    assert_eq!(b.serves, had);
    rest(&mut [&mut a, &mut b], Duration::from_secs(2));
    // The table names the process that is there, so that its peers can have it removed.
    let known = a.membership.table().instances.iter().find(|of| *of.name == *"b").cloned();
    assert_eq!(known.map(|of| of.incarnation), Some(4));
    a.membership.peer_is_gone("b", 2, a.driver.now());
    rest(&mut [&mut a, &mut b], Duration::from_secs(2));
    assert!(b.news.iter().all(|news| !matches!(news, News::Lost(_))), "it was an earlier process that is gone");

    // An orderly end: the slots go first, a few at a time.
    b.membership.give_up(b.driver.now());
    until(&mut [&mut a, &mut b], "one gives up", |all| serve(all, &[64, 0]));
    leave(b);
    rest(&mut [&mut a], Duration::from_secs(2));
    assert_eq!(a.serves.len(), 64);
    leave(a);
}

#[test]
fn a_frozen_instance_is_silent_before_it_is_removed() {
    let mut place = Place::new(support::kafka::shared(), "frozen");
    let (mut a, mut b) = (place.start("a"), place.start("b"));
    until(&mut [&mut a, &mut b], "two share", |all| serve(all, &[32, 32]));
    // For less than its session it is as it was.
    rest(&mut [&mut a], Duration::from_secs(3));
    rest(&mut [&mut a, &mut b], Duration::from_secs(3));
    assert!(b.news.iter().all(|news| !matches!(news, News::Lost(_) | News::Silent(true))), "{:?}", b.news);
    // For longer: it says nothing any more when it thaws, loses what it had, and gets a part again.
    let took = until(&mut [&mut a], "frozen", |all| all[0].serves.len() == 64);
    println!("a freeze took {took:?}");
    assert!(took > SESSION - Duration::from_secs(2), "{took:?}");
    b.membership.on_time(b.driver.now());
    assert!(b.membership.is_silent());
    until(&mut [&mut a, &mut b], "two share again", |all| serve(all, &[32, 32]));
    assert!(b.news.iter().any(|news| matches!(news, News::Lost(of) if of.len() == 32)), "{:?}", b.news);
    assert!(!b.membership.is_silent());
    leave(b);
    leave(a);
}

#[test]
fn a_second_process_with_the_same_name_ends_the_first() {
    let mut place = Place::new(support::kafka::shared(), "twice");
    let mut first = place.start("a");
    until(&mut [&mut first], "alone", |all| serve(all, &[64]));
    let mut second = place.start("a");
    until(&mut [&mut second], "in its place", |all| serve(all, &[64]));
    let end = Instant::now() + PATIENCE;
    while !first.news.contains(&News::Fenced) {
        assert!(Instant::now() < end, "{:?}", first.news);
        first.turn(Duration::from_millis(20));
    }
    leave(second);
}

/// The broker that has the group: Kafka's tool shows it for groups of consumers only, but it leads the partition of the group's name.
fn coordinator(place: &Place) -> String {
    let mut tool = std::process::Command::new(support::root().join("scripts/kafka"));
    tool.args(["tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", &place.bootstrap]);
    tool.args(["--describe", "--topic", "__consumer_offsets"]).env("KAFKA_VERSION", "4.3.1");
    let told = support::run(&mut tool);
    let after = |line: &str, word: &str| {
        let mut words = line.split_whitespace().skip_while(|of| *of != word);
        words.nth(1).map(str::to_owned)
    };
    let leaders: Vec<String> =
        told.lines().filter(|line| line.contains("Partition: ")).filter_map(|line| after(line, "Leader:")).collect();
    assert!(!leaders.is_empty(), "{told}");
    let hash = place.group.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    leaders[(hash & i32::MAX) as usize % leaders.len()].clone()
}

#[test]
fn a_coordinator_that_dies_moves_no_slot() {
    let kafka = support::kafka::Kafka::start(&["--brokers", "3"]);
    let mut place = Place::new(kafka.bootstrap().to_owned(), "moved");
    let (mut a, mut b) = (place.start("a"), place.start("b"));
    until(&mut [&mut a, &mut b], "two share", |all| serve(all, &[32, 32]));
    let had = [a.serves, b.serves];
    kafka.command(&["kill9", &coordinator(&place)]);
    rest(&mut [&mut a, &mut b], Duration::from_secs(25));
    let told: Vec<_> = a.news.iter().chain(&b.news).filter(|news| matches!(news, News::Silent(_))).collect();
    println!("while the coordinator was away: {told:?}");
    assert_eq!([a.serves, b.serves], had);
    assert!(!a.membership.is_silent() && !b.membership.is_silent());
}

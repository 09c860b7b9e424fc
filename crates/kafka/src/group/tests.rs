//! Tests of a member with a scripted coordinator: each step, each error code of each call, and a storm of all of them.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::{Assigned, Assignment, Lost, Member, News, Protocol as _, Range, Settings, Standing, subscription};
use crate::coordination::{Answer, Ask, Committed, GroupMember, Joined, Offset, Request, Says, TopicPartition};
use forebay_runtime::seam::Monotonic;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Find,
    Join,
    Count,
    Sync,
    Heartbeat,
    Fetch,
    Commit,
    Leave,
}

fn kind(ask: &Ask) -> Kind {
    match ask {
        Ask::Coordinator => Kind::Find,
        Ask::Join { .. } => Kind::Join,
        Ask::Partitions(_) => Kind::Count,
        Ask::Sync { .. } => Kind::Sync,
        Ask::Heartbeat => Kind::Heartbeat,
        Ask::Offsets(_) => Kind::Fetch,
        Ask::Commit(_) => Kind::Commit,
        Ask::Leave | Ask::Evict { .. } | Ask::Delete => Kind::Leave,
    }
}

/// A member and its coordinator, which answers at once as Kafka does unless scripted otherwise.
struct World {
    member: Member,
    now: Monotonic,
    seen: Vec<(Monotonic, Request)>,
    /// The answers to the next requests of a kind.
    faults: VecDeque<(Kind, Says)>,
    /// Requests of these kinds are not answered.
    silent: Vec<Kind>,
    generation: i32,
    others: Vec<GroupMember>,
    /// The leader, if it is another member, and what it assigns.
    led_by_other: Option<Assignment>,
    counts: BTreeMap<&'static str, u32>,
    committed: BTreeMap<TopicPartition, (i64, i32)>,
    news: Vec<News>,
}

fn topic(name: &str) -> Rc<str> {
    Rc::from(name)
}

fn at(name: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(name), partition }
}

fn place(name: &str, partition: i32, offset: i64) -> Offset {
    Offset { at: at(name, partition), offset, leader_epoch: 3 }
}

fn other(id: &str, topics: &[&str]) -> GroupMember {
    let topics: Vec<Rc<str>> = topics.iter().map(|name| topic(name)).collect();
    GroupMember { id: Rc::from(id), instance: None, metadata: Range.metadata(&topics, None) }
}

/// A member of group `g` for topic `t`, which has two partitions.
fn world() -> World {
    world_of(|_| {})
}

fn world_of(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = Settings { number: 4, group: Rc::from("g"), topics: vec![topic("t")], ..Settings::default() };
    change(&mut settings);
    let now = Monotonic(1_000_000_000);
    World {
        member: Member::new(settings, 5, now),
        now,
        seen: Vec::new(),
        faults: VecDeque::new(),
        silent: Vec::new(),
        generation: 0,
        others: Vec::new(),
        led_by_other: None,
        counts: BTreeMap::from([("t", 2)]),
        committed: BTreeMap::new(),
        news: Vec::new(),
    }
}

impl World {
    /// The world once its member has its partitions; earlier requests are forgotten.
    fn up(mut self) -> Self {
        self.settle();
        assert_eq!(self.member.standing(), Standing::Stable, "{:?}", self.news);
        self.forget();
        self
    }

    fn forget(&mut self) {
        self.news.clear();
        self.seen.clear();
    }

    fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    fn kinds(&self) -> Vec<Kind> {
        self.seen.iter().map(|(_, request)| kind(&request.ask)).collect()
    }

    fn last(&self, of: Kind) -> &Request {
        let found = self.seen.iter().rev().map(|(_, request)| request).find(|request| kind(&request.ask) == of);
        found.unwrap_or_else(|| panic!("{of:?} was not asked: {:?}", self.kinds()))
    }

    fn answer(&mut self, token: u64, says: Says) {
        self.member.on_answer(&Answer { member: 4, token, says }, self.now);
    }

    /// Answers until there are no more requests.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            while let Some(news) = self.member.take_news() {
                self.news.push(news);
            }
            let Some(request) = self.member.take_request(self.now) else { return };
            assert_eq!(request.member, 4);
            self.seen.push((self.now, request.clone()));
            let kind = kind(&request.ask);
            let fault = self.faults.iter().position(|(of, _)| *of == kind).and_then(|at| self.faults.remove(at));
            if fault.is_none() && self.silent.contains(&kind) {
                continue;
            }
            let says = fault.map_or_else(|| self.says(&request), |(_, says)| says);
            self.answer(request.token, says);
        }
        panic!("the member never comes to rest");
    }

    /// Advances the time, stopping at each deadline of the member.
    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.settle();
        while self.member.next_deadline() <= end {
            self.now = self.now.max(self.member.next_deadline());
            self.member.on_time(self.now);
            self.settle();
            assert!(self.member.next_deadline() > self.now, "spins at {:?}", self.now);
        }
        self.now = end;
    }

    /// Advances the time until there is news.
    fn run_to_news(&mut self, most: Duration) {
        let end = self.now.after(most);
        while self.news.is_empty() && self.now < end {
            self.run(Duration::from_millis(100));
        }
    }

    fn says(&mut self, request: &Request) -> Says {
        match &request.ask {
            Ask::Coordinator => Says::Coordinator,
            Ask::Join { metadata, .. } => {
                self.generation += 1;
                let me = GroupMember { id: Rc::from("m"), instance: None, metadata: Rc::clone(metadata) };
                let leader = Rc::from(if self.led_by_other.is_some() { "a" } else { "m" });
                let members = if self.led_by_other.is_some() { vec![] } else { [&[me], &self.others[..]].concat() };
                let (generation, protocol, member_id) = (self.generation, Rc::from("range"), Rc::from("m"));
                let joined = Joined { generation, protocol, leader, member_id, members, ..Joined::default() };
                Says::Joined(Joined { knows_static: true, ..joined })
            }
            Ask::Partitions(topics) => {
                let count = |topic: &Rc<str>| self.counts.get(&**topic).copied().ok_or(3);
                Says::Partitions(topics.iter().map(count).collect())
            }
            Ask::Sync { assignments, .. } => {
                let own = assignments.iter().find(|(id, _)| **id == *"m").map(|(_, assignment)| Rc::clone(assignment));
                let given = self.led_by_other.as_deref().map(subscription::encode);
                Says::Assignment(given.or(own).unwrap_or_default())
            }
            Ask::Heartbeat => Says::Alive,
            Ask::Offsets(of) => {
                let committed = |at: &TopicPartition| {
                    let (offset, leader_epoch) = *self.committed.get(at)?;
                    Some(Committed { offset, leader_epoch })
                };
                Says::Offsets(of.iter().map(|at| Ok(committed(at))).collect())
            }
            Ask::Commit(places) => {
                for place in places {
                    self.committed.insert(place.at.clone(), (place.offset, place.leader_epoch));
                }
                Says::Committed(vec![0; places.len()])
            }
            Ask::Leave | Ask::Evict { .. } => Says::Left,
            Ask::Delete => Says::Deleted,
        }
    }
}

fn assigned(partitions: &[(TopicPartition, Option<i64>)]) -> News {
    let assigned = |(at, offset): &(TopicPartition, Option<i64>)| Assigned {
        at: at.clone(),
        committed: offset.map(|offset| Committed { offset, leader_epoch: 3 }),
    };
    News::Assigned(partitions.iter().map(assigned).collect())
}

fn assigned_new() -> News {
    assigned(&[(at("t", 0), None), (at("t", 1), None)])
}

#[test]
fn a_member_finds_joins_counts_assigns_and_reads_what_is_committed() {
    let mut world = world();
    world.committed.insert(at("t", 1), (42, 3));
    world.settle();
    assert_eq!(world.kinds(), [Kind::Find, Kind::Count, Kind::Join, Kind::Count, Kind::Sync, Kind::Fetch]);
    assert_eq!(world.take_news(), [assigned(&[(at("t", 0), None), (at("t", 1), Some(42))])]);
    assert!(world.member.leads());
    let Ask::Join { session_timeout, rebalance_timeout, .. } = &world.last(Kind::Join).ask else { panic!() };
    assert_eq!((session_timeout.as_secs(), rebalance_timeout.as_secs()), (45, 60));
    assert_eq!(world.last(Kind::Join).identity.generation, -1);
    assert_eq!(world.last(Kind::Sync).identity.generation, 1);
    // Heartbeats follow every 3 s, and counts about every minute.
    world.forget();
    world.run(Duration::from_secs(120));
    let count = |of: Kind| world.kinds().iter().filter(|kind| **kind == of).count();
    assert_eq!(count(Kind::Heartbeat), 40);
    assert!((1..=3).contains(&count(Kind::Count)), "{}", count(Kind::Count));
    assert_eq!(count(Kind::Heartbeat) + count(Kind::Count), world.seen.len());
    assert_eq!(world.take_news(), []);
}

#[test]
fn a_member_id_that_is_given_first_is_joined_with() {
    let mut world = world();
    world.faults.push_back((Kind::Join, Says::MemberId(Rc::from("given"))));
    world.settle();
    assert_eq!(world.kinds()[..4], [Kind::Find, Kind::Count, Kind::Join, Kind::Join]);
    assert_eq!(&*world.last(Kind::Join).identity.member_id, "given");
    assert_eq!(world.take_news(), [assigned_new()]);
}

#[test]
fn a_rebalance_revokes_all_and_waits_for_the_last_commits() {
    let mut world = world().up();
    world.faults.push_back((Kind::Heartbeat, Says::Refused(27)));
    world.run(Duration::from_secs(4));
    assert_eq!(world.take_news(), [News::Revoked(vec![at("t", 0), at("t", 1)])]);
    assert_eq!(world.member.standing(), Standing::Revoking);
    // The coordinator repeats the code with each heartbeat, which shows that the member lives.
    world.faults.push_back((Kind::Heartbeat, Says::Refused(27)));
    world.run(Duration::from_secs(3));
    assert_eq!(world.take_news(), []);
    assert!(!world.kinds().contains(&Kind::Join));
    // The member waits for a commit in flight, which is made under the generation that assigned the partition.
    world.silent = vec![Kind::Commit];
    world.member.commit(&[place("t", 0, 7)], world.now);
    world.member.revoked_done(world.now);
    world.settle();
    assert!(!world.kinds().contains(&Kind::Join));
    let commit = world.last(Kind::Commit).clone();
    assert_eq!(commit.identity.generation, 1);
    world.silent.clear();
    world.committed.insert(at("t", 0), (7, 3));
    world.answer(commit.token, Says::Committed(vec![0]));
    world.settle();
    let expected = assigned(&[(at("t", 0), Some(7)), (at("t", 1), None)]);
    assert_eq!(world.take_news(), [News::Committed(vec![place("t", 0, 7)]), expected]);
    assert_eq!(&*world.last(Kind::Join).identity.member_id, "m", "the same member");
}

#[test]
fn a_rebalance_does_not_wait_for_ever() {
    let mut world = world().up();
    world.faults.push_back((Kind::Heartbeat, Says::Refused(27)));
    world.run(Duration::from_secs(4));
    let begun = world.now;
    world.run(Duration::from_secs(70));
    let joined = world.seen.iter().find(|(_, request)| kind(&request.ask) == Kind::Join).expect("it joins").0;
    let waited = joined.since(begun).as_secs();
    assert!((50..60).contains(&waited), "{waited} s: before the coordinator waits no longer");
    assert_eq!(world.take_news().last(), Some(&assigned_new()));
}

#[test]
fn a_member_without_partitions_revokes_nothing() {
    let mut world = world();
    world.counts.clear();
    world.settle();
    assert_eq!(world.take_news(), [assigned(&[])]);
    world.faults.push_back((Kind::Heartbeat, Says::Refused(27)));
    world.run(Duration::from_secs(4));
    assert_eq!(world.take_news(), [assigned(&[])]);
}

#[test]
fn memberships_that_end_are_told_and_begun_again() {
    for (code, why) in
        [(22, Lost::Generation), (25, Lost::Unknown), (69, Lost::Unknown), (110, Lost::Epoch), (113, Lost::Epoch)]
    {
        let mut world = world().up();
        world.silent = vec![Kind::Commit];
        world.member.commit(&[place("t", 0, 7)], world.now);
        world.settle();
        world.member.commit(&[place("t", 1, 7)], world.now);
        world.faults.push_back((Kind::Heartbeat, Says::Refused(code)));
        let commit = world.last(Kind::Commit).token;
        world.run(Duration::from_secs(4));
        assert_eq!(world.take_news(), [News::Lost(why), assigned_new()], "{code}");
        assert_eq!(world.member.stats().dropped, 2, "{code}: others may have gone on there");
        let join = world.last(Kind::Join);
        assert_eq!(&*join.identity.member_id, if code == 22 { "m" } else { "" }, "{code}");
        // The answer to the old commit is ignored.
        world.answer(commit, Says::Committed(vec![25]));
        world.settle();
        assert_eq!(world.take_news(), []);
    }
    // The membership may also end while partitions are given back.
    let mut world = world().up();
    world.faults.extend([(Kind::Heartbeat, Says::Refused(27)), (Kind::Heartbeat, Says::Refused(25))]);
    world.run(Duration::from_secs(7));
    assert_eq!(world.take_news()[1..], [News::Lost(Lost::Unknown), assigned_new()]);
}

#[test]
fn a_fenced_member_is_over() {
    for of in [Kind::Heartbeat, Kind::Commit] {
        let mut world = world_of(|settings| settings.instance = Some(Rc::from("one"))).up();
        let says = if of == Kind::Commit { Says::Committed(vec![82]) } else { Says::Refused(82) };
        world.faults.push_back((of, says));
        if of == Kind::Commit {
            world.member.commit(&[place("t", 0, 7)], world.now);
        }
        world.run(Duration::from_secs(600));
        assert_eq!(world.take_news(), [News::Lost(Lost::Fenced)], "{of:?}");
        assert_eq!(world.member.standing(), Standing::Ended);
        assert_eq!(world.member.next_deadline(), Monotonic::NEVER);
        world.forget();
        world.member.stop(world.now);
        world.settle();
        assert_eq!((world.kinds(), world.take_news()), (vec![], vec![News::Left]));
    }
    // The member is fenced while it leaves.
    let mut world = world_of(|settings| settings.instance = Some(Rc::from("one"))).up();
    world.faults.push_back((Kind::Leave, Says::Refused(82)));
    world.member.leave(world.now);
    world.settle();
    assert_eq!(world.take_news(), [News::Lost(Lost::Fenced), News::Left]);
}

/// If something else decides which of two processes goes on, the fenced member joins again.
#[test]
fn a_fenced_member_that_comes_back_joins_again() {
    let mut world = world_of(|settings| {
        settings.instance = Some(Rc::from("one"));
        settings.comes_back = true;
    })
    .up();
    world.faults.push_back((Kind::Heartbeat, Says::Refused(82)));
    world.run(Duration::from_secs(10));
    assert_eq!(world.take_news(), [News::Lost(Lost::Fenced), assigned_new()]);
    assert_eq!(world.member.standing(), Standing::Stable);
}

/// A coordinator that takes over the group may know a static member by its previous id.
#[test]
fn a_member_that_is_fenced_before_it_has_partitions_joins_again() {
    for of in [Kind::Join, Kind::Sync, Kind::Fetch] {
        let mut world = world_of(|settings| settings.instance = Some(Rc::from("one")));
        world.faults.push_back((of, Says::Refused(82)));
        world.run(Duration::from_secs(5));
        assert_eq!(world.take_news(), [assigned_new()], "{of:?}");
        assert_eq!(world.member.standing(), Standing::Stable, "{of:?}");
    }
}

/// Each error of each call before the group is stable: the member still joins, and reports those errors that an operator has to fix.
#[test]
fn every_error_of_every_step_passes() {
    let passing = [14, 15, 16, 7, -1, 99];
    let mending = [23, 24, 26, 30, 81, 29];
    let again = |of: Kind, code: i16| {
        let mut world = world();
        world.faults.push_back((of, Says::Refused(code)));
        world.run(Duration::from_secs(15));
        (world.take_news(), world.kinds())
    };
    for of in [Kind::Find, Kind::Join, Kind::Sync, Kind::Fetch] {
        for code in passing {
            let (news, kinds) = again(of, code);
            assert_eq!(news, [assigned_new()], "{of:?} {code}");
            let found = kinds.iter().filter(|kind| **kind == Kind::Find).count();
            let elsewhere = matches!(code, 7 | 15 | 16) || of == Kind::Find;
            assert_eq!(
                found,
                1 + usize::from(elsewhere),
                "{of:?} {code}: the coordinator is looked for where it may have moved"
            );
        }
        for code in mending {
            let (news, _) = again(of, code);
            let [News::Trouble(words), News::Assigned(_), News::TroubleOver] = &news[..] else {
                panic!("{of:?} {code}: {news:?}")
            };
            assert!(words.contains(&format!("error {code}, ")), "{words}");
        }
    }
    // The member is removed, or there is a rebalance, before anything was assigned: the owner gets no report.
    for (of, code) in
        [(Kind::Join, 25), (Kind::Sync, 22), (Kind::Sync, 25), (Kind::Sync, 27), (Kind::Fetch, 22), (Kind::Fetch, 25)]
    {
        let (news, kinds) = again(of, code);
        assert_eq!(news, [assigned_new()], "{of:?} {code}");
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Join).count(), 2, "{of:?} {code}");
    }
    // The group has an open transaction.
    let mut world = world();
    let unstable = || Says::Offsets(vec![Ok(None), Err(88)]);
    world.faults.extend([(Kind::Fetch, unstable()), (Kind::Fetch, unstable())]);
    world.run(Duration::from_secs(5));
    assert_eq!(world.take_news(), [assigned_new()]);
    assert_eq!(world.kinds().iter().filter(|kind| **kind == Kind::Fetch).count(), 3);
}

#[test]
fn errors_of_heartbeats_keep_the_membership() {
    for code in [14, 15, 16, -1, 30] {
        let mut world = world().up();
        world.faults.push_back((Kind::Heartbeat, Says::Refused(code)));
        world.run(Duration::from_secs(30));
        let news = world.take_news();
        if code == 30 {
            assert!(matches!(&news[..], [News::Trouble(_), News::TroubleOver]), "{news:?}");
        } else {
            assert_eq!(news, [], "{code}");
        }
        let joins = world.kinds().iter().filter(|kind| **kind == Kind::Join).count();
        assert_eq!(joins, 0, "{code}");
        assert_eq!(world.kinds().contains(&Kind::Find), matches!(code, 15 | 16), "{code}");
    }
}

/// A coordinator that always gives the same answer is asked every second.
#[test]
fn no_answer_is_asked_for_without_end() {
    let same = [
        (Kind::Find, Says::Refused(15)),
        (Kind::Find, Says::Refused(30)),
        (Kind::Join, Says::MemberId(Rc::from("given"))),
        (Kind::Join, Says::Refused(25)),
        (Kind::Join, Says::Refused(27)),
        (Kind::Join, Says::Joined(Joined { protocol: Rc::from("sticky"), ..Joined::default() })),
        (Kind::Sync, Says::Refused(27)),
        (Kind::Sync, Says::Refused(22)),
        (Kind::Sync, Says::Left),
        (Kind::Fetch, Says::Refused(27)),
        (Kind::Fetch, Says::Offsets(vec![])),
        (Kind::Count, Says::NoAnswer),
    ];
    for (of, says) in same {
        let mut world = world();
        world.faults.extend((0..1_000).map(|_| (of, says.clone())));
        world.run(Duration::from_secs(100));
        assert!(world.seen.len() < 1_000, "{of:?} {says:?}: {} requests in 100 s", world.seen.len());
        assert!(world.faults.len() < 1_000 && world.take_news().iter().all(|news| matches!(news, News::Trouble(_))));
        world.faults.clear();
        world.run(Duration::from_secs(20));
        assert_eq!(world.member.standing(), Standing::Stable, "{of:?} {says:?}");
    }
}

#[test]
fn a_lost_connection_costs_no_rebalance() {
    let mut world = world().up();
    for of in [Kind::Heartbeat, Kind::Commit, Kind::Count] {
        world.faults.push_back((of, Says::NoAnswer));
    }
    world.member.commit(&[place("t", 0, 7)], world.now);
    world.run(Duration::from_secs(100));
    assert_eq!(world.take_news(), [News::Committed(vec![place("t", 0, 7)])]);
    assert!(!world.kinds().contains(&Kind::Join));
    // Before the member is stable, each step is repeated after a lost answer.
    for of in [Kind::Join, Kind::Count, Kind::Sync, Kind::Fetch] {
        let mut world = self::world();
        world.faults.push_back((of, Says::NoAnswer));
        world.run(Duration::from_secs(2));
        let kinds = world.kinds();
        let place = kinds.iter().position(|kind| *kind == of).expect("asked");
        assert_eq!(kinds[place + 1..place + 3], [Kind::Find, of]);
        assert_eq!(world.take_news(), [assigned_new()]);
    }
    // A coordinator that stays unreachable is reported once.
    let mut world = self::world().up();
    world.faults.extend((0..100).map(|_| (Kind::Heartbeat, Says::NoAnswer)));
    world.run(Duration::from_secs(40));
    let news = world.take_news();
    assert!(matches!(&news[..], [News::Trouble(words)] if words.contains("does not answer")), "{news:?}");
    let finds = world.kinds().iter().filter(|kind| **kind == Kind::Find).count();
    assert!((30..100).contains(&finds), "{finds} in 40 s: with backoff");
    world.faults.clear();
    world.run(Duration::from_secs(10));
    assert_eq!(world.take_news(), [News::TroubleOver]);
    // An older request that is lost says nothing about a coordinator found since.
    let mut world = self::world().up();
    world.silent = vec![Kind::Commit];
    world.member.commit(&[place("t", 0, 7)], world.now);
    world.settle();
    let commit = world.last(Kind::Commit).token;
    world.faults.push_back((Kind::Heartbeat, Says::Refused(16)));
    world.run(Duration::from_secs(4));
    world.forget();
    world.silent.clear();
    world.answer(commit, Says::NoAnswer);
    world.settle();
    assert_eq!(world.kinds(), [Kind::Commit]);
}

#[test]
fn a_broker_that_is_too_old_is_told() {
    let mut world = world();
    world.faults.push_back((Kind::Join, Says::NotSpoken("JoinGroup")));
    world.run(Duration::from_secs(15));
    let news = world.take_news();
    assert!(matches!(&news[0], News::Trouble(words) if words.contains("JoinGroup")), "{news:?}");
    assert_eq!(news[1..], [assigned_new(), News::TroubleOver]);
}

#[test]
fn one_commit_is_under_way_and_the_newest_place_is_next() {
    let mut world = world().up();
    world.silent = vec![Kind::Commit];
    for offset in 1..=5 {
        world.member.commit(&[place("t", 0, offset)], world.now);
        world.settle();
    }
    world.member.commit(&[place("t", 1, 9), place("t", 2, 1), place("other", 0, 1)], world.now);
    world.settle();
    assert_eq!(world.kinds(), [Kind::Commit]);
    assert_eq!(world.member.stats().dropped, 2, "not the member's");
    let first = world.last(Kind::Commit).clone();
    assert!(matches!(&first.ask, Ask::Commit(places) if *places == [place("t", 0, 1)]));
    // The commit fails and a newer offset has overtaken it: the newer offset is sent.
    world.silent.clear();
    world.answer(first.token, Says::Committed(vec![14]));
    world.run(Duration::from_secs(1));
    let expected = vec![place("t", 0, 5), place("t", 1, 9)];
    assert!(matches!(&world.last(Kind::Commit).ask, Ask::Commit(places) if *places == expected));
    assert_eq!(world.take_news(), [News::Committed(expected)]);
    assert_eq!(world.member.stats().committed, 2);
}

#[test]
fn every_error_of_a_commit() {
    // After these codes the commit is repeated.
    for code in [14, 15, 16, 7, -1] {
        let mut world = world().up();
        world.faults.push_back((Kind::Commit, Says::Committed(vec![code, 0])));
        world.member.commit(&[place("t", 0, 7), place("t", 1, 8)], world.now);
        world.run(Duration::from_secs(2));
        let each = [News::Committed(vec![place("t", 1, 8)]), News::Committed(vec![place("t", 0, 7)])];
        assert_eq!(world.take_news(), each, "{code}");
        assert_eq!(world.kinds().contains(&Kind::Find), matches!(code, 7 | 15 | 16), "{code}");
    }
    // After these codes the commit is not repeated, and the member stays.
    for code in [3, 12, 28, 29, 30] {
        let mut world = world().up();
        world.faults.push_back((Kind::Commit, Says::Committed(vec![code, 0])));
        world.member.commit(&[place("t", 0, 7), place("t", 1, 8)], world.now);
        world.run(Duration::from_secs(2));
        let news = world.take_news();
        let [News::Committed(done), News::CommitFailed { offsets, why }] = &news[..] else {
            panic!("{code}: {news:?}")
        };
        assert_eq!((&done[..], &offsets[..]), (&[place("t", 1, 8)][..], &[place("t", 0, 7)][..]));
        assert!(why.contains(&format!("error {code}, ")), "{why}");
        assert_eq!((world.member.stats().refused, world.member.standing()), (1, Standing::Stable));
        // The next commit is tried.
        world.member.commit(&[place("t", 0, 9)], world.now);
        world.settle();
        assert_eq!(world.take_news(), [News::Committed(vec![place("t", 0, 9)])]);
    }
    // After these codes the membership ends.
    for (code, why) in [(22, Lost::Generation), (25, Lost::Unknown), (110, Lost::Epoch)] {
        let mut world = world().up();
        world.faults.push_back((Kind::Commit, Says::Committed(vec![code, code])));
        world.member.commit(&[place("t", 0, 7), place("t", 1, 8)], world.now);
        world.run(Duration::from_secs(1));
        assert_eq!(world.take_news(), [News::Lost(why), assigned_new()], "{code}");
        assert_eq!(world.member.stats().dropped, 2);
    }
}

#[test]
fn a_commit_that_a_rebalance_overtakes_is_made_after_it() {
    let mut world = world().up();
    world.faults.push_back((Kind::Commit, Says::Committed(vec![27, 27])));
    world.member.commit(&[place("t", 0, 7), place("t", 1, 8)], world.now);
    world.settle();
    assert!(matches!(world.take_news()[..], [News::Revoked(_)]));
    assert_eq!(world.kinds(), [Kind::Commit], "again after a while, not at once");
    world.member.revoked_done(world.now);
    world.run(Duration::from_secs(1));
    assert_eq!(world.last(Kind::Commit).identity.generation, 1, "before it joins, if that is taken");
    assert_eq!(world.take_news()[0], News::Committed(vec![place("t", 0, 7), place("t", 1, 8)]));
    // Otherwise the member commits the places of its remaining partitions after the rebalance, and then reads the committed offsets.
    for code in [27, 22] {
        let mut world = self::world().up();
        world.others = vec![other("n", &["t"])];
        world.faults.push_back((Kind::Commit, Says::Committed(vec![27, 27])));
        world.silent = vec![Kind::Commit];
        world.member.commit(&[place("t", 0, 7), place("t", 1, 8)], world.now);
        world.member.revoked_done(world.now);
        world.run(Duration::from_secs(1));
        let held = world.last(Kind::Commit).token;
        world.run(Duration::from_secs(56));
        world.forget();
        world.silent.clear();
        world.answer(held, Says::Committed(vec![code, code]));
        world.run(Duration::from_secs(1));
        assert_eq!(world.kinds(), [Kind::Commit, Kind::Fetch]);
        assert_eq!(world.last(Kind::Commit).identity.generation, 2);
        let news = world.take_news();
        assert_eq!(news, [News::Committed(vec![place("t", 0, 7)]), assigned(&[(at("t", 0), Some(7))])]);
        assert_eq!(world.member.stats().dropped, 1, "what is another's now");
    }
}

#[test]
fn a_leader_assigns_to_others_what_they_want_and_sees_it_grow() {
    let mut world = world();
    world.others = vec![other("n", &["t", "u"]), other("z", &["nowhere"])];
    world.counts.insert("u", 3);
    world.settle();
    assert!(
        matches!(&world.last(Kind::Count).ask, Ask::Partitions(of) if of[..] == [topic("nowhere"), topic("t"), topic("u")])
    );
    let Ask::Sync { assignments, .. } = &world.last(Kind::Sync).ask else { panic!() };
    let shown: Vec<String> =
        assignments.iter().map(|(id, of)| format!("{id} {:?}", Range.assigned(of).expect("an assignment"))).collect();
    assert_eq!(shown, [r#"m [("t", [0])]"#, r#"n [("t", [1]), ("u", [0, 1, 2])]"#, "z []"]);
    assert_eq!(world.take_news(), [assigned(&[(at("t", 0), None)])]);
    // A topic that only other members have grows; a missing topic is created.
    for (name, count) in [("u", 4), ("nowhere", 1)] {
        world.counts.insert(name, count);
        world.run_to_news(Duration::from_secs(80));
        assert_eq!(world.take_news(), [News::Revoked(vec![at("t", 0)])], "{name}");
        world.member.revoked_done(world.now);
        world.settle();
        assert_eq!(world.take_news(), [assigned(&[(at("t", 0), None)])], "{name}");
    }
    // A leader that may not read a topic's metadata reports that, and goes on with the other topics.
    world.faults.push_back((Kind::Count, Says::Partitions(vec![Err(29), Ok(2), Ok(4)])));
    world.run_to_news(Duration::from_secs(80));
    let news = world.take_news();
    assert!(matches!(&news[..], [News::Trouble(words)] if words.contains("nowhere")), "{news:?}");
    world.run(Duration::from_secs(80));
    assert_eq!(world.take_news(), [News::TroubleOver]);
    // A topic is deleted.
    world.counts.remove("u");
    world.run_to_news(Duration::from_secs(80));
    assert!(matches!(world.take_news()[..], [News::Revoked(_)]));
}

#[test]
fn a_follower_sees_its_topics_grow_and_tells() {
    let metadata = |count: u32| {
        let mut counting = world();
        counting.counts.insert("t", count);
        counting.settle();
        Range.metadata(&[topic("t")], counting.member.counts.fingerprint(&[topic("t")]))
    };
    let mut world = world();
    world.led_by_other = Some(vec![(topic("t"), vec![0])]);
    let mut world = world.up();
    assert!(!world.member.leads());
    world.run(Duration::from_secs(300));
    assert_eq!(world.take_news(), []);
    world.counts.insert("t", 3);
    world.run_to_news(Duration::from_secs(80));
    assert!(matches!(world.take_news()[..], [News::Revoked(_)]));
    world.member.revoked_done(world.now);
    world.run(Duration::from_secs(300));
    assert_eq!(world.take_news(), [assigned(&[(at("t", 0), None)])], "once");
    let Ask::Join { metadata: told, .. } = &world.last(Kind::Join).ask else { panic!() };
    assert_eq!(*told, metadata(3), "so that the coordinator begins a rebalance");
    assert_ne!(*told, metadata(2));
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let mut world = world();
    let topics = vec![(topic("t"), vec![1, -1, 1]), (topic("strange"), vec![0])];
    world.led_by_other = Some(topics);
    world.settle();
    assert_eq!(world.take_news(), [assigned(&[(at("t", 1), None)])]);
}

#[test]
fn a_leader_that_comes_back_assigns_nothing_unless_its_topics_have_grown() {
    for (partitions, is_same) in [(2, true), (3, false)] {
        let mut world = world_of(|settings| settings.instance = Some(Rc::from("one")));
        let members = vec![other("m", &["t"]), other("n", &["u"])];
        let (protocol, leader, member_id) = (Rc::from("range"), Rc::from("m"), Rc::from("m"));
        let (skip_assignment, knows_static) = (true, true);
        let joined = Joined { generation: 7, protocol, leader, member_id, skip_assignment, knows_static, members };
        world.faults.push_back((Kind::Join, Says::Joined(joined)));
        world.faults.push_back((Kind::Sync, Says::Assignment(subscription::encode(&[(topic("t"), vec![0, 1])]))));
        world.counts.insert("t", partitions);
        world.settle();
        assert_eq!(world.kinds(), [Kind::Find, Kind::Count, Kind::Join, Kind::Sync, Kind::Fetch]);
        assert!(matches!(&world.last(Kind::Sync).ask, Ask::Sync { assignments, .. } if assignments.is_empty()));
        assert_eq!(world.take_news(), [assigned_new()]);
        world.run(Duration::from_secs(10));
        assert!(matches!(&world.last(Kind::Count).ask, Ask::Partitions(of) if of[..] == [topic("t"), topic("u")]));
        let news = world.take_news();
        assert_eq!(news, if is_same { vec![] } else { vec![News::Revoked(vec![at("t", 0), at("t", 1)])] });
    }
}

#[test]
fn other_topics_are_joined_for() {
    let mut world = world().up();
    world.counts.insert("u", 1);
    world.member.subscribe(vec![topic("u"), topic("t"), topic("u")], world.now);
    world.settle();
    assert!(matches!(world.take_news()[..], [News::Revoked(_)]));
    world.member.revoked_done(world.now);
    world.settle();
    assert_eq!(world.take_news(), [assigned(&[(at("t", 0), None), (at("t", 1), None), (at("u", 0), None)])]);
    world.forget();
    world.member.subscribe(vec![topic("t"), topic("u")], world.now);
    world.settle();
    assert_eq!(world.kinds(), [], "the same as before");
    // The subscription changes while the member joins.
    let mut world = self::world();
    world.silent = vec![Kind::Join];
    world.settle();
    world.member.subscribe(vec![topic("u")], world.now);
    world.silent.clear();
    let join = world.last(Kind::Join).clone();
    let says = world.says(&join);
    world.counts.insert("u", 1);
    world.answer(join.token, says);
    world.settle();
    world.member.revoked_done(world.now);
    world.settle();
    assert_eq!(world.take_news().last(), Some(&assigned(&[(at("u", 0), None)])));
}

/// A member that wants no partitions any more stays in its group without any, and may want some again.
#[test]
fn a_member_may_want_nothing() {
    let mut world = world().up();
    world.member.subscribe(Vec::new(), world.now);
    world.settle();
    assert!(matches!(world.take_news()[..], [News::Revoked(_)]));
    world.member.revoked_done(world.now);
    world.settle();
    assert_eq!((world.take_news(), world.member.standing()), (vec![assigned(&[])], Standing::Stable));
    world.forget();
    world.member.on_time(world.now);
    world.settle();
    assert_eq!(world.kinds(), [], "it joins once");
    world.member.subscribe(vec![topic("t")], world.now);
    world.settle();
    assert_eq!(world.take_news(), [assigned_new()]);
    // This member has never wanted any partitions.
    let mut world = world_of(|settings| settings.topics.clear());
    world.settle();
    assert_eq!((world.take_news(), world.member.standing()), (vec![assigned(&[])], Standing::Stable));
}

#[test]
fn leaving_commits_first_and_says_so() {
    let mut world = world().up();
    world.silent = vec![Kind::Commit];
    world.member.commit(&[place("t", 0, 7)], world.now);
    world.member.leave(world.now);
    world.settle();
    assert_eq!(world.kinds(), [Kind::Commit]);
    world.silent.clear();
    world.answer(world.last(Kind::Commit).token, Says::Committed(vec![0]));
    world.settle();
    assert_eq!(world.kinds(), [Kind::Commit, Kind::Leave]);
    assert_eq!(world.take_news(), [News::Committed(vec![place("t", 0, 7)]), News::Left]);
    assert_eq!(world.member.next_deadline(), Monotonic::NEVER);
    // A static member sends no LeaveGroup when its process stops, but does when it is removed.
    for (stops, kinds) in [(true, &[][..]), (false, &[Kind::Leave][..])] {
        let mut world = world_of(|settings| settings.instance = Some(Rc::from("one"))).up();
        if stops {
            world.member.stop(world.now)
        } else {
            world.member.leave(world.now)
        }
        world.settle();
        assert_eq!((world.kinds(), world.take_news()), (kinds.to_vec(), vec![News::Left]));
    }
    // Any other member sends it in both cases.
    let mut world = self::world().up();
    world.member.stop(world.now);
    world.settle();
    assert_eq!((world.kinds(), world.take_news()), (vec![Kind::Leave], vec![News::Left]));
}

#[test]
fn leaving_waits_for_nothing_for_ever() {
    // The member joins at a coordinator that waits for the others.
    let mut world = world();
    world.faults.push_back((Kind::Join, Says::MemberId(Rc::from("given"))));
    world.silent = vec![Kind::Join];
    world.settle();
    world.member.leave(world.now);
    world.settle();
    assert_eq!(world.kinds(), [Kind::Find, Kind::Count, Kind::Join, Kind::Join, Kind::Leave]);
    assert_eq!(world.take_news(), [News::Left]);
    // A static member keeps its place when its process stops, even before it has joined.
    let mut world = world_of(|settings| settings.instance = Some(Rc::from("one")));
    world.silent = vec![Kind::Join];
    world.settle();
    world.forget();
    world.member.stop(world.now);
    world.settle();
    assert_eq!((world.kinds(), world.take_news()), (vec![], vec![News::Left]));
    // The coordinator does not know the member yet.
    let mut world = self::world();
    world.silent = vec![Kind::Find];
    world.settle();
    world.member.leave(world.now);
    world.settle();
    assert_eq!(world.take_news(), [News::Left]);
    // There is no answer; or the coordinator has moved, or has removed the member already.
    for (says, seconds) in
        [(None, 5), (Some(Says::Refused(16)), 1), (Some(Says::NoAnswer), 1), (Some(Says::Refused(25)), 0)]
    {
        let mut world = self::world().up();
        world.member.commit(&[place("t", 0, 7)], world.now);
        world.settle();
        world.take_news();
        match says {
            None => world.silent = vec![Kind::Leave],
            Some(says) => world.faults.push_back((Kind::Leave, says)),
        }
        world.member.leave(world.now);
        world.run(Duration::from_secs(seconds));
        assert_eq!(world.take_news().last(), Some(&News::Left), "{seconds}");
    }
}

/// Any answer to anything, in any order, late or never: no panic, no busy loop, no partition reported twice; afterwards the group is
/// stable.
#[test]
fn a_storm_of_answers_ends_in_a_stable_group() {
    const CODES: [i16; 20] = [-1, 0, 3, 7, 12, 14, 15, 16, 22, 23, 25, 26, 27, 28, 29, 30, 79, 81, 88, 110];
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = world_of(|settings| settings.instance = rng.bool().then(|| Rc::from("one")));
        let (mut has, mut open, mut told) = (false, Vec::<Request>::new(), Vec::new());
        for _ in 0..400 {
            while let Some(request) = world.member.take_request(world.now) {
                open.push(request);
            }
            assert!(open.len() < 200);
            if !open.is_empty() && rng.u8(..4) > 0 {
                let request = open.swap_remove(rng.usize(..open.len()));
                let says = match rng.u8(..10) {
                    0 => Says::NoAnswer,
                    1 => Says::Refused(CODES[rng.usize(..CODES.len())]),
                    2 => Says::Committed(vec![CODES[rng.usize(..CODES.len())]]),
                    3 => Says::Offsets(vec![Err(CODES[rng.usize(..CODES.len())])]),
                    4 => Says::MemberId(Rc::from("given")),
                    5 if rng.bool() => Says::Assignment(subscription::encode(&[(topic("t"), vec![0, 5])])),
                    5 => Says::Assignment(Rc::from(&b"\0\0\0\0\0\x09"[..])),
                    _ => world.says(&request),
                };
                world.answer(request.token, says);
            }
            match rng.u8(..20) {
                0 => world.member.revoked_done(world.now),
                1..=4 => world.member.commit(&[place("t", rng.i32(..3), rng.i64(..100))], world.now),
                5 => world.member.subscribe(vec![topic(if rng.bool() { "t" } else { "u" })], world.now),
                _ => {}
            }
            world.now = world.now.after(Duration::from_millis(rng.u64(..2_000)));
            world.member.on_time(world.now);
            while let Some(news) = world.member.take_news() {
                told.push((world.now, world.member.standing(), format!("{news:?}")));
                match news {
                    News::Assigned(_) => assert!(!std::mem::replace(&mut has, true), "twice in {seed}: {told:#?}"),
                    News::Revoked(_) => assert!(has, "revoked and not had in {seed}"),
                    News::Lost(_) => has = false,
                    _ => {}
                }
            }
            has &= world.member.standing() != Standing::Joining;
        }
        if world.member.standing() == Standing::Ended {
            continue;
        }
        // Open requests are never answered; their connection ends.
        for request in open {
            world.answer(request.token, Says::NoAnswer);
        }
        world.member.subscribe(vec![topic("t")], world.now);
        world.run(Duration::from_secs(200));
        assert_eq!(world.member.standing(), Standing::Stable, "{seed}");
    }
}

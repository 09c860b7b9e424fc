//! Sessions that survive a crash: the notes, their order, and the sessions that a new process restores from them.

use super::*;
use ReasonCode as R;
use forebay_mqtt::packet::SubscriptionOptions;
use forebay_runtime::seam::WallMs;

/// The log's side: a number for each session, a group for each record, in memory.
pub(super) struct Kept {
    pub(super) shard: Shard,
    numbers: u64,
    group: u64,
    /// Payloads by number.
    log: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl Kept {
    pub(super) fn new() -> Self {
        let mut shard = Shard::default();
        shard.sessions.keep();
        shard.sessions.set_room(usize::MAX);
        Self { shard, numbers: 10, group: 0, log: std::collections::BTreeMap::new() }
    }

    /// Writes the notes down, each record in a group of its own. Returns them in words.
    pub(super) fn write(&mut self) -> Vec<String> {
        let sessions = &mut self.shard.sessions;
        let mut said = Vec::new();
        while let Some(note) = sessions.next_note() {
            self.group += 1;
            match note {
                Note::Kept(key) => {
                    let mut payload = Vec::new();
                    let Some(number) = sessions.payload(key, |_| true, &mut payload) else { continue };
                    let number = number.unwrap_or_else(|| {
                        self.numbers += 1;
                        self.numbers
                    });
                    said.push(format!("kept {number}"));
                    self.log.insert(number, payload);
                    sessions.kept(key, number, self.group);
                    let is_kept = sessions.get(key).is_some_and(|session| session.number().is_some());
                    assert_eq!(sessions.written(key), if is_kept { self.group } else { 0 });
                }
                Note::Ended { number, .. } => {
                    said.push(format!("ended {number}"));
                    self.log.remove(&number);
                }
                Note::WillOver { number } => {
                    said.push(format!("will over {number}"));
                    self.log.remove(&number);
                }
                Note::Released { session, number, packet_id } => {
                    said.push(format!("released {number} {packet_id}"));
                    sessions.waits_for(session, self.group);
                    assert!(sessions.get(session).is_none() || sessions.written(session) == self.group);
                }
            }
        }
        said
    }

    pub(super) fn connect(&mut self, client_id: &str, clean: bool, expiry_s: u32) -> Client {
        let asked = properties(&[Property::SessionExpiryInterval(expiry_s)]);
        self.shard.connect(&Connect { properties: asked.as_properties(), ..connect(Version::V5, client_id, clean) })
    }

    /// Publishes the wills that are due.
    fn publish_wills(&mut self) {
        while let Some(due) = self.shard.sessions.next_will() {
            self.shard.sessions.will_is_over(due.session, due.record);
        }
    }

    fn connect_with_will(&mut self, client_id: &str, delay_s: u32) -> Client {
        let asked = properties(&[Property::SessionExpiryInterval(100)]);
        let of_will = properties(&[Property::WillDelayInterval(delay_s)]);
        let will = Some(will("w", of_will.as_properties()));
        self.shard.connect(&Connect {
            will,
            properties: asked.as_properties(),
            ..connect(Version::V5, client_id, false)
        })
    }

    pub(super) fn packet(&mut self, client: Client, packet: &Packet<'_>) -> Next {
        let next = self.shard.packet(client, packet);
        self.shard.sessions.collect(client.key);
        next
    }

    pub(super) fn answers(&mut self, client: Client) -> Vec<String> {
        let said = self.shard.answers(client);
        self.shard.sessions.collect(client.key);
        said
    }

    /// The process dies, and another takes up the records. `open`: ids of session 11, each with the sinks that have its row.
    pub(super) fn crash(&mut self, open: &[OpenId<'_>]) -> Vec<(u16, u32)> {
        let mut owed = Vec::new();
        self.shard = Shard { now: self.shard.now, settings: self.shard.settings.clone(), ..Shard::default() };
        let sessions = &mut self.shard.sessions;
        sessions.keep();
        sessions.set_room(usize::MAX);
        for (number, payload) in &self.log {
            let open = if *number == 11 { open } else { &[] };
            let note = |id, number| owed.push((id, number));
            sessions.restore(*number, payload, open, &self.shard.settings, self.shard.now, note).expect("written here");
        }
        assert_eq!(sessions.bytes(), sessions.weigh());
        owed
    }
}

/// The clocks of a process that begins now, as Kafka's logs of slots have them.
fn with_clocks(k: &mut Kept, wall_s: u64) {
    let wall = WallMs(1_800_000_000_000 + i64::try_from(wall_s * 1_000).expect("soon"));
    k.shard.sessions.set_clocks(Some((k.shard.now, wall)));
}

/// A crash, and another process with a monotonic clock that has begun a second ago.
fn moves(k: &mut Kept, wall_s: u64) {
    k.shard.now = Monotonic(1_000_000_000);
    let log = std::mem::take(&mut k.log);
    k.crash(&[]);
    with_clocks(k, wall_s);
    for (number, payload) in &log {
        let (sessions, now) = (&mut k.shard.sessions, k.shard.now);
        sessions.restore(*number, payload, &[], &k.shard.settings, now, |_, _| {}).expect("written here");
    }
    k.log = log;
}

#[test]
fn finding_q62_expiry_and_will_delay_count_from_the_leaving() {
    let mut k = Kept::new();
    with_clocks(&mut k, 0);
    let c = k.connect_with_will("c", 50);
    assert_eq!(k.write(), ["kept 11"]);
    k.shard.end(c, End::Lost);
    k.shard.pass(4 * S);
    assert_eq!(k.write(), [""; 0], "a client that is soon back costs no record");
    k.shard.pass(S);
    assert_eq!(k.write(), ["kept 11"], "a tenth of the delay");
    // Taken up 20 seconds later, and again 20 seconds after that: the will is due in 5 seconds, and the session ends in 55.
    moves(&mut k, 25);
    moves(&mut k, 45);
    k.shard.pass(4 * S);
    assert!(!k.shard.sessions.has_due_wills());
    k.shard.pass(S);
    assert!(k.shard.sessions.has_due_wills());
    k.publish_wills();
    assert_eq!(k.write(), ["kept 11"]);
    k.shard.pass(49 * S);
    assert_eq!(k.write(), [""; 0]);
    k.shard.pass(S);
    assert_eq!(k.write(), ["ended 11"]);
    assert_eq!(k.shard.sessions.next_expiry(), None, "nothing is left of its times");
}

#[test]
fn finding_q62_a_session_that_has_expired_meanwhile_is_ended() {
    let mut k = Kept::new();
    with_clocks(&mut k, 0);
    let c = k.connect("c", false, 100);
    k.write();
    k.shard.end(c, End::Lost);
    k.shard.pass(10 * S);
    assert_eq!(k.write(), ["kept 11"]);
    moves(&mut k, 1_000);
    k.shard.pass(Duration::ZERO);
    assert_eq!(k.write(), ["ended 11"]);
}

#[test]
fn finding_q62_a_client_that_is_back_is_not_away() {
    let mut k = Kept::new();
    with_clocks(&mut k, 0);
    let c = k.connect("c", false, 100);
    k.write();
    k.shard.end(c, End::Lost);
    k.shard.pass(10 * S);
    assert_eq!(k.write(), ["kept 11"]);
    let c = k.connect("c", false, 100);
    assert!(c.session_present && k.shard.sessions.has_only_returned(c.key));
    assert_eq!(k.write(), ["kept 11"]);
    moves(&mut k, 1_000);
    k.shard.pass(99 * S);
    assert!(k.connect("c", false, 100).session_present, "its interval begins with the crash");
    // A log without room keeps no time of leaving, and the interval starts over.
    let c = k.connect("d", false, 100);
    k.write();
    k.shard.end(c, End::Lost);
    k.shard.pass(10 * S);
    assert!(!k.shard.sessions.not_kept(c.key) && !k.shard.sessions.is_unwritten(c.key));
    // A clock that is not set says nothing.
    k.shard.sessions.set_clocks(None);
    let c = k.connect("e", false, 100);
    k.write();
    k.shard.end(c, End::Lost);
    k.shard.pass(50 * S);
    assert!(!k.write().contains(&"kept 13".to_owned()));
}

#[test]
fn without_a_log_nothing_is_noted() {
    let mut shard = Shard::default();
    let asked = properties(&[Property::SessionExpiryInterval(100)]);
    let c = shard.connect(&Connect { properties: asked.as_properties(), ..connect(Version::V5, "c", false) });
    shard.sessions.collect(c.key);
    assert_eq!((shard.sessions.next_note(), shard.sessions.written(c.key)), (None, 0));
    assert_eq!(shard.session(c).number(), None);
}

#[test]
fn a_session_is_noted_when_it_is_new_or_another() {
    let mut k = Kept::new();
    let c = k.connect("c", false, 100);
    assert_eq!(k.write(), ["kept 11"]);
    assert_eq!(k.shard.session(c).number(), Some(11));
    k.shard.end(c, End::Lost);
    let c = k.connect("c", false, 100);
    assert_eq!(k.write(), [""; 0], "as it was written");
    k.shard.end(c, End::Lost);
    k.connect("c", false, 200);
    assert_eq!(k.write(), ["kept 11"], "taken over with another expiry");
    k.connect("c", true, 200);
    assert_eq!(k.write(), ["ended 11", "kept 12"], "a clean start is another session");
    k.connect("c", false, 0);
    assert_eq!(k.write(), ["ended 12"], "it ends with this connection");
    k.connect("c", true, 0);
    assert_eq!(k.write(), [""; 0], "never kept");
}

#[test]
fn the_expiry_of_a_disconnect_is_noted() {
    let mut k = Kept::new();
    for (expiry_s, noted) in [(50, vec!["kept 11"]), (50, vec![]), (0, vec!["ended 11"])] {
        let c = k.connect("c", false, 50);
        k.write();
        let asked = properties(&[Property::SessionExpiryInterval(expiry_s + u32::from(noted == ["kept 11"]))]);
        let Next::End(end) = k.packet(c, &goodbye(R::SUCCESS, asked.as_properties())) else { panic!("goes on") };
        k.shard.end(c, end);
        assert_eq!(k.write(), noted);
    }
}

#[test]
fn a_session_that_expires_ends_in_the_log() {
    let mut k = Kept::new();
    let c = k.connect("c", false, 100);
    k.write();
    k.shard.end(c, End::Lost);
    k.shard.pass(101 * S);
    assert_eq!(k.write(), ["ended 11"]);
}

#[test]
fn a_will_is_noted_until_it_is_sent_or_forgotten() {
    let mut k = Kept::new();
    let c = k.connect_with_will("c", 10);
    k.write();
    k.shard.end(c, End::Lost);
    assert_eq!(k.write(), [""; 0], "its delay runs");
    k.crash(&[]);
    k.shard.pass(9 * S);
    assert!(k.shard.wills().is_empty(), "a restart counts as a disconnect");
    k.shard.pass(S);
    assert_eq!(k.shard.wills(), ["w"]);
    assert_eq!(k.write(), [""; 0], "it has not found room yet");
    k.crash(&[]);
    k.shard.pass(10 * S);
    let due = k.shard.sessions.next_will().expect("again");
    assert!(due.session.is_some(), "its session is kept");
    k.shard.sessions.will_is_over(due.session, due.record);
    assert_eq!(k.write(), ["kept 11"]);
    k.crash(&[]);
    k.shard.pass(60 * S);
    assert!(k.shard.wills().is_empty(), "sent once");
    let c = k.connect_with_will("c", 0);
    k.write();
    k.shard.end(c, End::Left);
    assert_eq!(k.write(), ["kept 11"]);
    k.crash(&[]);
    assert!(k.shard.wills().is_empty(), "[MQTT-3.1.2-10]");
    k.connect_with_will("c", 0);
    k.write();
    k.crash(&[]);
    k.shard.pass(Duration::ZERO);
    assert_eq!(k.shard.wills(), ["w"], "its connection went with the process");
}

/// The will alone is in the log: the session is none of those that survive, and its client does not wait for the record.
#[test]
fn finding_q45_a_will_of_a_session_that_ends_with_its_connection_survives_a_crash() {
    let mut k = Kept::new();
    let of_will = properties(&[Property::WillDelayInterval(10)]);
    let hello = || Connect { will: Some(will("w", of_will.as_properties())), ..connect(Version::V5, "c", true) };
    let c = k.shard.connect(&hello());
    assert_eq!(k.write(), ["kept 11"]);
    assert_eq!((k.shard.session(c).number(), k.shard.sessions.written(c.key)), (None, 0));
    for _ in 0..2 {
        k.crash(&[]);
        assert!(k.shard.sessions.is_empty() && k.shard.sessions.has_due_wills(), "until it is published");
    }
    k.publish_wills();
    assert_eq!(k.write(), ["will over 11"]);
    // The will of a living process ends when it is published; DISCONNECT ends it at once.
    let c = k.shard.connect(&hello());
    assert_eq!(k.write(), ["kept 12"]);
    k.shard.end(c, End::Lost);
    assert_eq!(k.write(), [""; 0], "it has not found room yet");
    k.publish_wills();
    assert_eq!(k.write(), ["will over 12"]);
    let c = k.shard.connect(&hello());
    k.write();
    k.shard.end(c, End::Left);
    assert_eq!(k.write(), ["will over 13"]);
    // The log has no room: memory alone has the will.
    let c = k.shard.connect(&hello());
    assert_eq!(k.shard.sessions.next_note(), Some(Note::Kept(c.key)));
    assert!(k.shard.sessions.not_kept(c.key) && !k.shard.sessions.is_unwritten(c.key));
    k.shard.end(c, End::Lost);
    assert_eq!((k.write(), k.shard.wills()), (Vec::new(), vec!["w".to_owned()]));
}

#[test]
fn a_session_is_there_after_a_crash_for_as_long_as_it_would_be_after_a_disconnect() {
    let mut k = Kept::new();
    k.connect("c", false, 100);
    k.connect("lost", false, 100);
    k.write();
    k.crash(&[]);
    k.shard.pass(99 * S);
    let c = k.connect("c", false, 100);
    assert!(c.session_present);
    assert_eq!(k.write(), [""; 0], "what is written is what it is");
    assert!(!k.connect("other", false, 100).session_present);
    k.shard.pass(2 * S);
    assert_eq!(k.write(), ["kept 13", "ended 12"], "nobody came back");
}

#[test]
fn an_id_whose_row_stands_in_the_log_is_released_there() {
    let mut k = Kept::new();
    let c = k.connect("c", false, 100);
    k.write();
    for (packet_id, logged) in [(1, true), (2, false)] {
        let number = k.shard.open(c, &publish(QoS::ExactlyOnce, packet_id), 1);
        if logged {
            k.shard.session(c).logged(packet_id);
        }
        k.shard.complete(c, number, Reason::Success);
        k.answers(c);
        assert_eq!(k.write(), [""; 0]);
        k.packet(c, &Packet::PubRel(ack(packet_id)));
        assert_eq!(k.write().len(), usize::from(logged), "the log never had it");
    }
    let group = k.group;
    k.packet(c, &Packet::PubRel(ack(1)));
    assert_eq!(k.write(), [""; 0], "known to be free");
    assert_eq!(k.shard.sessions.written(c.key), group, "but its PUBCOMP waits for the release all the same");
}

#[test]
fn a_refusal_frees_the_id_in_the_log_also_if_nobody_hears_it() {
    for is_there in [true, false] {
        let mut k = Kept::new();
        let c = k.connect("c", false, 100);
        k.write();
        let number = k.shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
        k.shard.session(c).logged(7);
        if !is_there {
            k.shard.end(c, End::Lost);
        }
        k.shard.complete(c, number, Reason::KafkaRejected);
        if is_there {
            assert_eq!(k.answers(c), ["pubrec 7 0x80"]);
        }
        k.shard.sessions.collect(c.key);
        assert_eq!(k.write(), ["released 11 7"]);
    }
}

#[test]
fn a_connect_without_room_is_refused_and_changes_nothing() {
    let mut k = Kept::new();
    let c = k.connect("c", false, 100);
    k.write();
    k.shard.sessions.set_room(40);
    let asked = properties(&[Property::SessionExpiryInterval(100)]);
    let hundred =
        |client_id, clean| Connect { properties: asked.as_properties(), ..connect(Version::V5, client_id, clean) };
    let (_, refused) = k.shard.try_connect(&hundred("d", false));
    assert_eq!(refused, Err(Refused { violation: Violation::SPOOL_FULL }));
    let (_, refused) = k.shard.try_connect(&hundred("c", true));
    assert_eq!(refused, Err(Refused { violation: Violation::SPOOL_FULL }));
    assert_eq!(k.shard.session(c).conn(), Some(c.conn), "not even taken over");
    let (_, resumed) = k.shard.try_connect(&hundred("c", false));
    assert!(resumed.expect("nothing to write").session_present);
    k.shard.connect(&connect(Version::V5, "clean", true));
}

#[test]
fn what_finds_no_room_later_is_tried_again() {
    let mut k = Kept::new();
    let c = k.connect_with_will("c", 0);
    k.write();
    k.shard.end(c, End::Left);
    assert_eq!(k.shard.sessions.next_note(), Some(Note::Kept(c.key)));
    k.shard.sessions.not_kept(c.key);
    assert!(k.shard.sessions.has_unwritten() && k.shard.sessions.next_note().is_none());
    k.shard.sessions.try_again();
    assert!(!k.shard.sessions.has_unwritten());
    assert_eq!(k.write(), ["kept 11"]);
    k.connect("d", false, 100);
    assert!(matches!(k.shard.sessions.next_note(), Some(Note::Kept(_))));
}

#[test]
fn a_connect_that_is_taken_back_leaves_nothing() {
    let mut k = Kept::new();
    let c = k.connect_with_will("c", 0);
    let Some(Note::Kept(key)) = k.shard.sessions.next_note() else { panic!("not noted") };
    k.shard.sessions.not_kept(key);
    k.shard.sessions.withdraw(key, c.conn, k.shard.now);
    assert!(k.shard.sessions.is_empty() && k.shard.wills().is_empty());
    k.shard.sessions.try_again();
    assert_eq!(k.write(), [""; 0]);
}

#[test]
fn of_two_sessions_of_one_client_the_later_counts() {
    let mut k = Kept::new();
    k.connect_with_will("c", 0);
    k.write();
    let payload = k.log[&11].clone();
    k.log.insert(12, payload);
    k.crash(&[]);
    assert_eq!(k.write(), ["ended 11"]);
    k.shard.pass(Duration::ZERO);
    assert_eq!(k.shard.wills().len(), 1);
    assert_eq!(k.shard.sessions.len(), 1);
}

/// Finding D1: a session that its client does not ask to keep when it reconnects has no record any more, also if its will was taken
/// back in the same CONNECT.
#[test]
fn finding_d1_a_session_that_is_kept_no_more_is_not_written() {
    for (delay_s, end) in [(500, Some(End::Lost)), (0, None), (500, None)] {
        let mut k = Kept::new();
        let c = k.connect_with_will("c", delay_s);
        assert_eq!(k.write(), ["kept 11"]);
        if let Some(end) = end {
            k.shard.end(c, end);
        }
        let c = k.connect("c", false, 0);
        assert_eq!(k.write(), ["ended 11"], "will delay {delay_s}");
        k.shard.end(c, End::Left);
        assert_eq!(k.write(), [""; 0]);
        assert!(k.log.is_empty());
        k.crash(&[]);
    }
    // An operator ends a session: no record of it is written while its connection closes.
    let mut k = Kept::new();
    let c = k.connect("c", false, 100);
    k.write();
    assert_eq!(k.shard.sessions.forget(c.key), Some(c.conn));
    subscribe(&mut k, c, "a");
    assert_eq!(k.write(), [""; 0], "a crash would find a session without an interval");
    k.crash(&[]);
}

/// Finding U5: a kept session that an operator ends while its client is away leaves no timer.
#[test]
fn finding_u5_a_session_that_is_deleted_while_away_leaves_no_timer() {
    let mut shard = Shard::default();
    let asked = properties(&[Property::SessionExpiryInterval(100)]);
    let c = shard.connect(&Connect { properties: asked.as_properties(), ..connect(Version::V5, "c", false) });
    shard.end(c, End::Lost);
    assert!(shard.sessions.next_expiry().is_some());
    assert_eq!(shard.sessions.forget(c.key), None);
    assert!(shard.sessions.is_empty());
    assert_eq!(shard.sessions.next_expiry(), None, "it would wait for its interval");
}

fn subscribe(k: &mut Kept, client: Client, filter: &str) {
    let options = SubscriptionOptions::from_byte(1).expect("QoS 1");
    k.shard.sessions.subscribed(client.key, Subscription { filter: filter.into(), options, identifier: 0 });
}

/// Findings D1, U2, U5: whatever clients and operators do, the log has exactly the sessions that must be kept, and those with a will, each as recovery
/// reads it, and in the end neither log nor timers have anything.
#[test]
fn finding_d1_the_log_has_the_kept_sessions_and_no_others() {
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut k = Kept::new();
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..random.usize(1..40) {
            one_step(&mut k, &mut clients, &mut random);
            if random.u8(..3) > 0 {
                continue;
            }
            k.publish_wills();
            k.write();
            let kept = |session: &Session| session.expiry_s > 0 || session.will.is_some();
            let expected = k.shard.sessions.sessions.values().filter(|session| kept(session)).count();
            assert_eq!(k.log.len(), expected, "seed {seed}");
            for payload in k.log.values() {
                client_id(payload).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            }
            if random.u8(..8) == 0 {
                k.crash(&[]);
                clients.clear();
                k.write();
            }
        }
        for client in clients {
            k.shard.end(client, End::Lost);
        }
        k.shard.pass(200 * S);
        k.publish_wills();
        k.write();
        assert!(k.shard.sessions.is_empty() && k.log.is_empty(), "seed {seed}: {:?}", k.log);
        assert_eq!(k.shard.sessions.next_expiry(), None, "seed {seed}");
    }
}

/// Something that a client, its connection, an operator or the clock does.
fn one_step(k: &mut Kept, clients: &mut Vec<Client>, random: &mut fastrand::Rng) {
    let name = ["a", "b", "c"][random.usize(..3)];
    let expiry_s = [0, 50, 100][random.usize(..3)];
    let asked = properties(&[Property::SessionExpiryInterval(expiry_s)]);
    let picked = (!clients.is_empty()).then(|| random.usize(..clients.len()));
    let of = picked.map(|at| clients[at]).filter(|client| {
        let session = k.shard.sessions.get(client.key);
        session.is_some_and(|session| session.conn() == Some(client.conn))
    });
    match (random.u8(..10), of) {
        (0..=2, _) => clients.push(k.connect(name, random.bool(), expiry_s)),
        (3 | 4, _) => {
            let of_will = properties(&[Property::WillDelayInterval([0, 20, 500][random.usize(..3)])]);
            let will = Some(will("w", of_will.as_properties()));
            let client = connect(Version::V5, name, random.bool());
            clients.push(k.shard.connect(&Connect { will, properties: asked.as_properties(), ..client }));
        }
        (5, Some(client)) => k.shard.end(client, End::Lost),
        (6, Some(client)) => {
            if let Next::End(end) = k.packet(client, &goodbye(R::SUCCESS, asked.as_properties())) {
                k.shard.end(client, end);
            }
        }
        (7, Some(client)) => subscribe(k, client, name),
        (8, _) => {
            if let Some(key) = k.shard.sessions.find(ClientKey::without_auth(name))
                && let Some(conn) = k.shard.sessions.forget(key)
            {
                k.shard.sessions.disconnected(key, conn, End::Administrative, k.shard.now);
            }
        }
        (9, _) => k.shard.pass(random.u32(..60) * S),
        _ => {}
    }
    k.publish_wills();
}

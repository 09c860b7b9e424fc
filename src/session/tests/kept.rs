//! Sessions that survive a crash: what is noted, in what order, and what a start makes of it.

use super::*;
use ReasonCode as R;

/// The log's side: a number for each session, a group for each record, in memory.
struct Kept {
    shard: Shard,
    numbers: u64,
    group: u64,
    /// Payloads by number.
    log: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl Kept {
    fn new() -> Self {
        let mut shard = Shard::default();
        shard.sessions.keep();
        shard.sessions.set_room(usize::MAX);
        Self { shard, numbers: 10, group: 0, log: std::collections::BTreeMap::new() }
    }

    /// Writes down what is noted; each record in a group of its own. In words.
    fn write(&mut self) -> Vec<String> {
        let sessions = &mut self.shard.sessions;
        let mut said = Vec::new();
        while let Some(note) = sessions.next_note() {
            self.group += 1;
            match note {
                Note::Kept(key) => {
                    let mut payload = Vec::new();
                    let Some(number) = sessions.payload(key, &mut payload) else { continue };
                    let number = number.unwrap_or_else(|| {
                        self.numbers += 1;
                        self.numbers
                    });
                    said.push(format!("kept {number}"));
                    self.log.insert(number, payload);
                    sessions.kept(key, number, self.group);
                    assert_eq!(sessions.written(key), self.group);
                }
                Note::Ended { number } => {
                    said.push(format!("ended {number}"));
                    self.log.remove(&number);
                }
                Note::Released { session, number, packet_id } => {
                    said.push(format!("released {number} {packet_id}"));
                    sessions.released(session, self.group);
                    assert!(sessions.get(session).is_none() || sessions.written(session) == self.group);
                }
            }
        }
        said
    }

    fn connect(&mut self, client_id: &str, clean: bool, expiry_s: u32) -> Client {
        let asked = properties(&[Property::SessionExpiryInterval(expiry_s)]);
        self.shard.connect(&Connect { properties: asked.as_properties(), ..connect(Version::V5, client_id, clean) })
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

    fn packet(&mut self, client: Client, packet: &Packet<'_>) -> Next {
        let next = self.shard.packet(client, packet);
        self.shard.sessions.collect(client.key);
        next
    }

    fn answers(&mut self, client: Client) -> Vec<String> {
        let said = self.shard.answers(client);
        self.shard.sessions.collect(client.key);
        said
    }

    /// The process dies, and another takes up what was written. `open`: ids of session 11, with who has their rows.
    fn crash(&mut self, open: &[OpenId<'_>]) -> Vec<(u16, u32)> {
        let mut owed = Vec::new();
        self.shard = Shard { now: self.shard.now, ..Shard::default() };
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

const DISK: HadBy = HadBy { sink: 0, owes: false };
const OWES: HadBy = HadBy { sink: 3, owes: true };

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
        k.shard.complete(c, number, R::SUCCESS);
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
        k.shard.complete(c, number, R::UNSPECIFIED_ERROR);
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
fn a_repeat_after_a_crash_goes_to_the_sinks_that_do_not_have_it() {
    let mut k = Kept::new();
    k.connect("c", false, 100);
    k.write();
    let owed = k.crash(&[OpenId { packet_id: 7, had_by: &[DISK, OWES] }, OpenId { packet_id: 8, had_by: &[DISK] }]);
    let [(7, before)] = owed[..] else { panic!("{owed:?}") };
    let c = k.connect("c", false, 100);
    assert!(c.session_present);
    assert_eq!(k.shard.session(c).had_by(7), [0, 3]);
    let repeat = |id| Publish { dup: true, ..publish(QoS::ExactlyOnce, id) };
    // A third sink, in memory, takes 7; the one at `replicated` still owes its answer.
    let Some(Taken::Rest { number, owed, .. }) = k.shard.sessions.publish(c.key, &repeat(7), k.shard.now) else {
        panic!("not the rest")
    };
    assert_eq!(owed, 1);
    k.shard.session(c).opened(number, 1 + owed, R::SUCCESS);
    assert!(k.shard.session(c).had_by(7).is_empty());
    k.shard.repeat(c, 7);
    k.shard.complete(c, number, R::SUCCESS);
    assert_eq!(k.answers(c), [""; 0], "Kafka has not confirmed the row of before the crash");
    k.shard.complete(c, before, R::SUCCESS);
    assert_eq!(k.answers(c), ["pubrec 7"]);
    // 8 is done: nobody else matches, and its PUBREC goes out.
    let Some(Taken::Rest { number, owed: 0, .. }) = k.shard.sessions.publish(c.key, &repeat(8), k.shard.now) else {
        panic!("not the rest")
    };
    k.shard.session(c).opened(number, 0, R::SUCCESS);
    assert_eq!(k.answers(c), ["pubrec 8"]);
    for id in [7, 8] {
        k.packet(c, &Packet::PubRel(ack(id)));
        assert_eq!(k.write(), [format!("released 11 {id}")]);
    }
}

#[test]
fn the_row_of_before_the_crash_may_be_confirmed_at_any_time() {
    // Before the client is back; on the connection of the repeat; on the one after it.
    for when in 0..3 {
        let mut k = Kept::new();
        k.connect("c", false, 100);
        k.write();
        let [(7, before)] = k.crash(&[OpenId { packet_id: 7, had_by: &[OWES] }])[..] else { panic!("not owed") };
        let key = k.shard.sessions.find("c").expect("restored");
        let at = Receipt { sink: 3, topic: "t".into(), partition: 0, offset: Some(5) };
        let confirm = |k: &mut Kept, step| {
            if step == when {
                let session = k.shard.sessions.get_mut(key).expect("lives");
                session.landed(before, 1, &at);
                session.complete(before, 1, R::SUCCESS);
            }
        };
        confirm(&mut k, 0);
        let mut c = k.connect("c", false, 100);
        k.shard.session(c).want_receipts(true);
        let Some(Taken::Rest { number, owed, .. }) =
            k.shard.sessions.publish(c.key, &publish(QoS::ExactlyOnce, 7), k.shard.now)
        else {
            panic!("not the rest")
        };
        k.shard.session(c).opened(number, owed, R::SUCCESS);
        confirm(&mut k, 1);
        if when == 2 {
            assert_eq!(k.answers(c), [""; 0]);
            k.shard.end(c, End::Lost);
            c = k.connect("c", false, 100);
            k.shard.session(c).want_receipts(true);
            k.shard.repeat(c, 7);
        }
        confirm(&mut k, 2);
        // Before anybody was there it was not known who would ask where the row stands.
        assert_eq!(k.answers(c), [if when == 0 { "pubrec 7" } else { "pubrec 7 t/0@5" }], "{when}");
        k.packet(c, &Packet::PubRel(ack(7)));
        assert_eq!(k.shard.session(c).open_packet_ids(), 0);
    }
}

/// Kafka's answer and the PUBREC came before the crash, the log's own word of it did not.
#[test]
fn a_pubrel_after_a_crash_is_answered_though_the_row_seems_to_live() {
    for had_by in [OWES, DISK] {
        let mut k = Kept::new();
        k.connect("c", false, 100);
        k.write();
        let owed = k.crash(&[OpenId { packet_id: 7, had_by: &[had_by] }]);
        let c = k.connect("c", false, 100);
        assert_eq!(k.packet(c, &Packet::PubRel(ack(7))), Next::Go);
        assert_eq!(k.shard.heard(c.conn), ["pubcomp 7"]);
        assert_eq!(k.write(), ["released 11 7"]);
        let number = k.shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
        for (_, before) in owed {
            k.shard.complete(c, before, R::SUCCESS);
        }
        assert_eq!(k.answers(c), [""; 0], "that was the other message 7");
        k.shard.complete(c, number, R::SUCCESS);
        assert_eq!(k.answers(c), ["pubrec 7"]);
    }
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

//! X24, X77: who is admitted is found out on other threads. Their verdicts come late, out of order, never, behind a reload, or
//! when no client waits for them any more; and no client gets CONNACK before its own.

use std::time::Duration;

use forebay::auth::password::scram_of;
use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Version};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};
use forebay::service::verifier::{Task, Verifiers, Waiting};
use forebay::shard::mail::{Mail, ToDoor, ToShard};

use super::queues;
use super::small;
use super::world::{World, publish};

/// CONNACK of 3.1.1: accepted; the server is busy; a wrong password.
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
const BUSY: [u8; 4] = [0x20, 2, 0, 3];
const WRONG: [u8; 4] = [0x20, 2, 0, 4];

/// A world with this password file, and the questions of its shard, of which so many find room.
struct Asking {
    world: World,
    asked: Verifiers,
    dir: tempfile::TempDir,
}

/// A line of the file. The hash is one that a shard does not compute by itself.
fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", scram_of(password.as_bytes()).expect("random numbers"))
}

impl Asking {
    fn new(lines: &str, room: usize) -> Self {
        Self::with(lines, room, &small())
    }

    fn with(lines: &str, room: usize, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("passwords");
        std::fs::write(&file, lines).expect("written");
        let auth = "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'password'\n";
        let text = format!("{auth}password_file = '{}'\n{more}", file.display());
        let (world, asked) = World::asking(&text, room);
        Self { world, asked, dir }
    }

    /// The password file is another one now.
    fn reload(&mut self, lines: &str) {
        std::fs::write(self.dir.path().join("passwords"), lines).expect("written");
        self.world.reload();
    }

    /// A connection with its CONNECT sent, and the bytes behind it.
    fn connect(&mut self, user: &str, password: &str, behind: &[u8]) -> ConnId {
        let client_id = format!("of {user} {password}");
        self.connect_as(user, password, crate::hello::hello(Version::V311, &client_id), behind)
    }

    fn connect_as(&mut self, user: &str, password: &str, connect: Connect<'_>, behind: &[u8]) -> ConnId {
        let connect = Connect { username: Some(user), password: Some(password.as_bytes()), ..connect };
        let mut bytes = Vec::new();
        encode::packet(Version::V311, &Packet::Connect(connect), &mut bytes).expect("encoded");
        bytes.extend_from_slice(behind);
        let conn = self.world.accept();
        self.world.bytes(conn, &bytes);
        conn
    }

    fn task(&self) -> Task {
        self.asked.next().expect("a question")
    }

    /// The answer to a question, for this connection.
    fn judge(&mut self, conn: ConnId, task: Task) {
        let answer = Some(task.question.answer());
        self.world.core.on_mail(&mut self.world.table, Mail::Door(ToDoor::Judged { conn, answer }));
        self.world.turn();
    }

    fn close(&mut self, conn: ConnId) {
        self.world.core.on_close(&mut self.world.table, conn, Closed::Peer);
        self.world.table.release(conn);
        self.world.turn();
    }

    fn waiting(&self) -> u64 {
        self.world.number(ShardMetric::AuthWaiting)
    }
}

/// [3.1.1 MQTT-3.2.0-1]
#[test]
fn connack_waits_for_the_verdict_and_so_do_the_bytes_behind_connect() {
    let mut asking = Asking::new(&line("ada", "secret"), 8);
    let mut behind = Vec::new();
    publish("t", 7, b"behind", &mut behind);
    let conn = asking.connect("ada", "secret", &behind);
    asking.world.advance(Duration::from_secs(3));
    assert!(asking.world.sent(conn).is_empty() && asking.world.broker.records.is_empty());
    assert!(asking.world.table.wire(conn).paused);
    assert_eq!(asking.waiting(), 1);
    let task = asking.task();
    asking.judge(conn, task);
    asking.world.advance(Duration::from_millis(100));
    assert_eq!(asking.world.sent(conn), [&ACCEPTED[..], &[0x40, 2, 0, 7]].concat());
    assert_eq!((asking.world.broker.records.len(), asking.waiting()), (1, 0));
    assert!(!asking.world.table.wire(conn).paused);
}

/// The slot of a connection that has gone has another one by then: the verdict names a generation.
#[test]
fn a_verdict_for_a_closed_connection_is_dropped() {
    let mut asking = Asking::new(&line("ada", "secret"), 8);
    let gone = asking.connect("ada", "secret", &[]);
    let right = asking.task();
    asking.close(gone);
    let conn = asking.connect("ada", "guess", &[]);
    assert_eq!((conn.slot, asking.waiting()), (gone.slot, 1));
    asking.judge(gone, right);
    assert!(asking.world.sent(conn).is_empty() && !asking.world.table.wire(conn).closed, "let in by another's verdict");
    assert_eq!((asking.waiting(), asking.world.number(ShardMetric::ConnectsAccepted)), (1, 0));
    let wrong = asking.task();
    asking.judge(conn, wrong);
    assert_eq!(asking.world.sent(conn), WRONG);
    assert_eq!(asking.waiting(), 0);
}

/// The client has given up the connection whose verdict comes late.
#[test]
fn a_connect_with_a_late_verdict_does_not_take_over_from_a_later_one() {
    let mut asking = Asking::with(&line("ada", "secret"), 8, &queues::config());
    let kept = || Connect { clean_start: false, ..crate::hello::hello(Version::V311, "c") };
    let old = asking.connect_as("ada", "secret", kept(), &[]);
    let late = asking.task();
    asking.world.advance(Duration::from_secs(1));
    let new = asking.connect_as("ada", "secret", kept(), &[]);
    let task = asking.task();
    asking.judge(new, task);
    asking.world.advance(Duration::from_millis(100));
    assert_eq!(asking.world.sent(new), ACCEPTED);
    asking.judge(old, late);
    asking.world.advance(Duration::from_millis(100));
    assert_eq!((asking.world.sent(old), asking.world.table.wire(new).closed), (BUSY.to_vec(), false));
}

#[test]
fn verdicts_out_of_order_reach_their_own() {
    let mut asking = Asking::new(&line("ada", "secret"), 8);
    let passwords = ["secret", "guess", "secret", "other"];
    let conns = passwords.map(|password| asking.connect("ada", password, &[]));
    let mut tasks = passwords.map(|_| Some(asking.task()));
    for place in [3, 0, 2, 1] {
        let task = tasks[place].take().expect("asked once");
        asking.judge(conns[place], task);
        let expected = if passwords[place] == "secret" { ACCEPTED } else { WRONG };
        assert_eq!(asking.world.sent(conns[place]), expected, "{place}");
    }
    assert_eq!(asking.waiting(), 0);
}

#[test]
fn a_verdict_that_never_comes_or_comes_too_late_admits_no_client() {
    let mut asking = Asking::new(&line("ada", "secret"), 8);
    let conn = asking.connect("ada", "secret", &[]);
    let task = asking.task();
    asking.world.advance(Duration::from_millis(9_900));
    assert!(asking.world.sent(conn).is_empty());
    asking.world.advance(Duration::from_millis(200));
    assert_eq!(asking.world.sent(conn), BUSY);
    assert!(asking.world.table.wire(conn).closed);
    assert_eq!((asking.waiting(), asking.world.number(ShardMetric::AuthBusy)), (0, 1));
    asking.judge(conn, task);
    assert!(asking.world.sent(conn).is_empty());
    assert_eq!(asking.world.number(ShardMetric::ConnectsAccepted), 0);
}

/// Finding S5: one more question than there is room for is refused at once, and a question goes with its connection.
#[test]
fn finding_s5_a_question_goes_with_its_connection_and_too_many_are_refused() {
    let mut asking = Asking::new(&line("ada", "secret"), 3);
    let conns = ["secret", "guess", "other"].map(|password| asking.connect("ada", password, &[]));
    assert_eq!(asking.asked.waiting(), Waiting { questions: 3, bytes: 6 + 5 + 5 });
    let refused = asking.connect("ada", "fourth", &[]);
    assert_eq!(asking.world.sent(refused), BUSY);
    assert_eq!((asking.waiting(), asking.world.number(ShardMetric::AuthBusy)), (3, 1));
    asking.close(conns[1]);
    assert_eq!(asking.asked.waiting(), Waiting { questions: 2, bytes: 6 + 5 });
    let conn = asking.connect("ada", "secret", &[]);
    for (conn, expected) in [(conns[0], ACCEPTED), (conns[2], WRONG), (conn, ACCEPTED)] {
        let task = asking.task();
        asking.judge(conn, task);
        assert_eq!(asking.world.sent(conn), expected);
    }
    assert!(asking.asked.next().is_none());
    assert_eq!((asking.waiting(), asking.asked.waiting()), (0, Waiting::default()));
}

/// Finding S5: a password that is longer than any may be is not kept, and its client hears what others hear.
#[test]
fn finding_s5_a_long_password_is_wrong_after_the_same_work() {
    let long = "x".repeat(1_025);
    let mut asking = Asking::new(&line("ada", &long), 8);
    let fits = asking.connect("ada", &long[1..], &[]);
    assert_eq!(asking.asked.waiting(), Waiting { questions: 1, bytes: 1_024 });
    let conn = asking.connect("ada", &long, &[]);
    assert_eq!(asking.asked.waiting(), Waiting { questions: 2, bytes: 1_024 });
    for conn in [fits, conn] {
        let task = asking.task();
        asking.judge(conn, task);
        assert_eq!(asking.world.sent(conn), WRONG);
    }
    assert_eq!(asking.world.number(ShardMetric::AuthRefused), 2);
}

/// The verdict is that of the files of the question; the files of today have the last word.
#[test]
fn a_reload_between_question_and_verdict() {
    let (ada, eve) = (line("ada", "secret"), line("eve", "other"));
    for (lines, expected) in [
        (format!("{ada}{eve}"), ACCEPTED),
        (eve.clone(), WRONG),
        (line("ada", "secret"), WRONG),
        (line("ada", "changed"), WRONG),
    ] {
        let mut asking = Asking::new(&ada, 8);
        let conn = asking.connect("ada", "secret", &[]);
        let task = asking.task();
        asking.reload(&lines);
        assert!(asking.world.sent(conn).is_empty());
        asking.judge(conn, task);
        assert_eq!(asking.world.sent(conn), expected, "{lines}");
        assert_eq!(asking.waiting(), 0);
    }
}

/// Who waits when the service ends is told to come again.
#[test]
fn a_drain_does_not_wait_for_verdicts() {
    let mut asking = Asking::new(&line("ada", "secret"), 8);
    let conn = asking.connect("ada", "secret", &[]);
    let task = asking.task();
    asking.world.core.on_mail(&mut asking.world.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(5) }));
    asking.world.turn();
    asking.judge(conn, task);
    let said = asking.world.sent(conn);
    assert!(said.is_empty() || said == BUSY, "{said:?}");
    assert_eq!(asking.world.number(ShardMetric::ConnectsAccepted), 0);
}

/// [MQTT-3.1.2-24] [MQTT-3.2.2-19]
#[test]
fn a_refusal_is_not_larger_than_its_client_takes() {
    let mut asking = Asking::new(&line("ada", "lovelace"), 1);
    for (packet_size_max, is_told) in [(20, false), (200, true)] {
        let conn = asking.world.accept();
        // No credentials; Maximum Packet Size.
        let connect =
            [&[0x10, 19, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 5, 0x27, 0, 0, 0, packet_size_max, 0, 1, b'c'][..]];
        asking.world.bytes(conn, &connect.concat());
        let connack = asking.world.sent(conn);
        assert_eq!((connack[0], connack[3]), (0x20, 0x87));
        assert!(connack.len() <= usize::from(packet_size_max));
        assert_eq!(connack.len() > 5, is_told, "{connack:?}");
    }
}

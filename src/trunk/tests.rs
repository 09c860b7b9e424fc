//! Two sides of a trunk, and bytes between them that are cut anywhere.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::stream::Phase;
use super::*;
use crate::limits::{
    SENT_AHEAD_BYTES_MAX, STREAM_OUT_BYTES_MAX, STREAM_WINDOW_BYTES, TRUNK_AHEAD_BYTES_MAX, TRUNK_FRAME_BYTES_MAX,
};
use crate::runtime::seam::{Chunk, Detached, Io, SocketOptions, TimerId, WallMs, seeds};

/// The only connection that there is.
const TRUNK: ConnId = ConnId { slot: 0, generation: 0 };

/// The runtime below a trunk.
#[derive(Default)]
struct Below {
    now: Monotonic,
    out: Vec<u8>,
    is_told: bool,
    closed: Option<&'static str>,
}

impl Io<()> for Below {
    fn now(&self) -> Monotonic {
        self.now
    }
    fn wall(&self) -> WallMs {
        WallMs(7)
    }
    fn shard(&self) -> usize {
        0
    }
    fn shards(&self) -> usize {
        1
    }
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        assert_eq!(conn, TRUNK);
        &mut self.out
    }
    fn send(&mut self, _conn: ConnId, _chunks: &mut Vec<Chunk>) {}
    fn unsent(&self, _conn: ConnId) -> usize {
        self.out.len()
    }
    fn unacked(&self, conn: ConnId) -> usize {
        self.unsent(conn)
    }
    fn tell_writable(&mut self, _conn: ConnId) {
        self.is_told = true;
    }
    fn stream(&mut self, _conn: ConnId) {}
    fn pause(&mut self, _conn: ConnId) {
        unreachable!("a trunk is always read")
    }
    fn resume(&mut self, _conn: ConnId) {}
    fn close(&mut self, _conn: ConnId) {
        self.closed.get_or_insert("close");
    }
    fn abort(&mut self, _conn: ConnId) {
        self.closed.get_or_insert("abort");
    }
    fn connect(&mut self, _to: SocketAddr, _socket: SocketOptions) -> ConnId {
        TRUNK
    }
    fn detach(&mut self, _conn: ConnId) -> Option<Detached> {
        None
    }
    fn adopt(&mut self, _moved: Detached) -> ConnId {
        TRUNK
    }
    fn peer(&self, _conn: ConnId) -> Option<SocketAddr> {
        None
    }
    fn set_peer(&mut self, _conn: ConnId, _peer: SocketAddr) {}
    fn start_accepting(&mut self) {}
    fn stop_accepting(&mut self) {}
    fn set_timer(&mut self, _at: Monotonic, _token: u64) -> TimerId {
        TimerId { slot: 0, generation: 0 }
    }
    fn cancel_timer(&mut self, _timer: TimerId) {}
    fn mail(&mut self, _to: usize, letter: ()) -> Result<(), ()> {
        Err(letter)
    }
    fn stop(&mut self) {}
}

/// A side, with what its shard has of each stream.
#[derive(Default)]
struct Side {
    trunks: Trunks,
    io: Below,
    /// Streams that the other side has made, the first one first.
    accepted: Vec<ConnId>,
    heard: BTreeMap<ConnId, Vec<u8>>,
    ended: BTreeMap<ConnId, String>,
    elsewhere: Vec<Reason>,
    writable: Vec<ConnId>,
    /// The shard takes as many bytes of a stream at a time.
    takes: Option<usize>,
}

fn word(why: &Closed) -> String {
    match why {
        Closed::Error(error) => format!("{:?}", error.kind()),
        other => format!("{other:?}"),
    }
}

impl Side {
    fn hear(&mut self, conn: ConnId, bytes: &[u8]) {
        let taken = self.takes.unwrap_or(usize::MAX).min(bytes.len());
        self.heard.entry(conn).or_default().extend_from_slice(&bytes[..taken]);
        self.trunks.taken(conn, bytes, taken);
    }

    fn end(&mut self, conn: ConnId, why: &Closed) {
        assert!(self.ended.insert(conn, word(why)).is_none(), "told twice");
        self.trunks.release(conn);
    }

    fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while let Some(arrival) = self.trunks.receive(TRUNK, &mut bytes, (false, self.io.now))? {
            match arrival {
                Arrival::Accepted(conn) => self.accepted.push(conn),
                Arrival::Bytes(conn, data) => self.hear(conn, data),
                Arrival::Closed(conn, why) => self.end(conn, &why),
                Arrival::Elsewhere(conn, reason) => {
                    self.elsewhere.push(reason);
                    self.trunks.release(conn);
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self) {
        for _ in 0..self.trunks.news() {
            match self.trunks.next_news() {
                Some(News::Unread(conn)) => {
                    let unread = self.trunks.take_unread(conn);
                    self.hear(conn, &unread);
                }
                Some(News::Writable(conn)) => self.writable.push(conn),
                Some(News::Closed(conn, why)) => self.end(conn, &why),
                None => break,
            }
        }
        self.trunks.gather(&mut self.io);
    }

    fn turn_and_send(&mut self, other: &mut Self, cut: &mut impl FnMut(usize) -> usize) -> bool {
        let before = self.trunks.news();
        self.turn();
        let count = cut(self.io.out.len()).min(self.io.out.len());
        let bytes: Vec<u8> = self.io.out.drain(..count).collect();
        let is_told = std::mem::take(&mut self.io.is_told);
        if is_told {
            self.trunks.has_room(TRUNK);
        }
        other.receive(&bytes).expect("well formed");
        is_told || count > 0 || before > 0 || self.trunks.news() > 0
    }

    fn later(&mut self, by: Duration) {
        self.io.now = self.io.now.after(by);
        self.trunks.pass_time(&mut self.io);
        self.turn();
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        self.trunks.out(conn).extend_from_slice(bytes);
    }

    fn heard(&self, conn: ConnId) -> &[u8] {
        self.heard.get(&conn).map(Vec::as_slice).unwrap_or_default()
    }
}

fn destination(shard: u16) -> Destination {
    Destination { name: "eu-1".into(), incarnation: 1, to: SocketAddr::from(([10, 0, 0, 1], 1885)), shard }
}

/// A front and an owner with a trunk between them, established.
struct Pair {
    front: Side,
    owner: Side,
}

impl Pair {
    fn new() -> Self {
        let (mut front, mut owner) = (Side::default(), Side::default());
        front.trunks.dial(TRUNK, destination(0), 0, Monotonic(10_000_000_000));
        front.trunks.opened(TRUNK);
        owner.trunks.accept(TRUNK, 0);
        Self { front, owner }
    }

    /// A stream, as both sides know it.
    fn stream(&mut self) -> (ConnId, ConnId) {
        let conn = self.front.trunks.open(TRUNK).expect("a trunk");
        self.settle();
        (conn, *self.owner.accepted.last().expect("it has come"))
    }

    /// Turns of both sides, until nothing moves. All bytes come at once.
    fn settle(&mut self) {
        while self.step(|_| usize::MAX) {}
    }

    /// A turn of each side, and as many bytes from each to the other. Whether anything has moved.
    fn step(&mut self, mut cut: impl FnMut(usize) -> usize) -> bool {
        let one = self.front.turn_and_send(&mut self.owner, &mut cut);
        self.owner.turn_and_send(&mut self.front, &mut cut) | one
    }
}

#[test]
fn each_stream_has_its_bytes_in_order_and_its_end_after_them() {
    for seed in seeds(200) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new();
        pair.owner.takes = random.bool().then(|| random.usize(1..5_000));
        let mut said: Vec<(ConnId, Vec<u8>)> = Vec::new();
        let mut closed = 0;
        for _ in 0..random.usize(1..60) {
            match random.u8(..10) {
                0 | 1 => said.push((pair.front.trunks.open(TRUNK).expect("a trunk"), Vec::new())),
                2 if !said.is_empty() => {
                    let (conn, _) = said[random.usize(..said.len())];
                    pair.front.trunks.close(conn);
                    closed += 1;
                }
                3 if !pair.owner.accepted.is_empty() => {
                    let conn = pair.owner.accepted[random.usize(..pair.owner.accepted.len())];
                    if random.bool() {
                        pair.owner.trunks.pause(conn, pair.owner.io.now);
                    } else {
                        pair.owner.trunks.resume(conn);
                    }
                }
                _ if !said.is_empty() => {
                    let at = random.usize(..said.len());
                    let (conn, bytes) = &mut said[at];
                    if pair.front.trunks.peek(*conn).is_some_and(|stream| stream.phase == Phase::Open) {
                        let from = bytes.len();
                        bytes.resize(from + random.usize(1..60_000), 0);
                        bytes[from..].iter_mut().for_each(|byte| *byte = random.u8(..));
                        pair.front.say(*conn, &bytes[from..]);
                    }
                }
                _ => {}
            }
            if random.bool() {
                pair.step(|most| random.usize(..=most));
            }
        }
        for conn in pair.owner.accepted.clone() {
            pair.owner.trunks.resume(conn);
        }
        pair.settle();
        for conn in pair.owner.accepted.clone() {
            pair.owner.trunks.resume(conn);
        }
        pair.settle();
        // Those that were closed before their turn have never been heard of.
        let heard: Vec<&[u8]> = pair.owner.accepted.iter().map(|conn| pair.owner.heard(*conn)).collect();
        let expected: Vec<&[u8]> = said.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert!(heard == expected, "seed {seed}");
        let ended = pair.front.ended.values().filter(|why| *why == "Local").count();
        assert!(ended <= closed && ended == pair.owner.ended.len(), "seed {seed}: {ended} of {closed}");
        assert!(pair.owner.ended.values().all(|why| why == "Peer"), "seed {seed}");
        assert_eq!(pair.owner.trunks.held_bytes(), 0, "seed {seed}");
    }
}

#[test]
fn a_stream_that_is_not_read_holds_up_no_other() {
    let mut pair = Pair::new();
    let ((deaf, deaf_there), (other, other_there)) = (pair.stream(), pair.stream());
    pair.owner.trunks.pause(deaf_there, Monotonic(0));
    pair.front.say(deaf, &vec![1; 3 * STREAM_WINDOW_BYTES]);
    pair.front.trunks.tell_writable(deaf);
    for round in 1..=40 {
        pair.front.say(other, &[2; 10_000]);
        pair.settle();
        assert_eq!(pair.owner.heard(other_there).len(), round * 10_000, "credit comes back");
    }
    assert!(pair.owner.heard(deaf_there).is_empty());
    assert_eq!(pair.owner.trunks.held_bytes(), STREAM_WINDOW_BYTES);
    assert_eq!((pair.front.trunks.unsent(deaf), pair.front.trunks.unsent(other)), (2 * STREAM_WINDOW_BYTES, 0));
    assert!(pair.front.writable.is_empty());
    pair.owner.trunks.resume(deaf_there);
    pair.settle();
    assert_eq!(pair.owner.heard(deaf_there).len(), 3 * STREAM_WINDOW_BYTES);
    assert_eq!((pair.owner.trunks.held_bytes(), &pair.front.writable[..]), (0, &[deaf][..]));
}

#[test]
fn a_shard_that_takes_a_part_is_given_the_rest() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.owner.takes = Some(3);
    pair.front.say(conn, b"0123456789");
    pair.front.trunks.close(conn);
    pair.settle();
    assert_eq!((pair.owner.heard(there), pair.owner.ended[&there].as_str()), (&b"0123456789"[..], "Peer"));
}

/// A turn that has had its time takes what was read all the same, and the shard has it in the next one.
#[test]
fn bytes_wait_for_a_turn_with_time() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    for bytes in [&b"first"[..], b"second"] {
        pair.front.say(conn, bytes);
        pair.front.turn();
        let bytes = std::mem::take(&mut pair.front.io.out);
        let found = pair.owner.trunks.receive(TRUNK, &mut &bytes[..], (true, Monotonic(0)));
        assert!(matches!(found, Ok(None)));
    }
    assert_eq!((pair.owner.heard(there), pair.owner.trunks.held_bytes()), (&b""[..], 11));
    // What comes now does not overtake it.
    pair.front.say(conn, b"third");
    pair.front.turn();
    let bytes = std::mem::take(&mut pair.front.io.out);
    pair.owner.receive(&bytes).expect("well formed");
    pair.owner.turn();
    assert_eq!((pair.owner.heard(there), pair.owner.trunks.held_bytes()), (&b"firstsecondthird"[..], 0));
}

#[test]
fn a_busy_stream_leaves_others_their_turn() {
    let mut pair = Pair::new();
    let ((busy, _), (other, _)) = (pair.stream(), pair.stream());
    pair.front.say(busy, &[1; STREAM_WINDOW_BYTES]);
    pair.front.say(other, &[2; 10]);
    pair.front.turn();
    let out = &pair.front.io.out;
    let at =
        out.iter().position(|byte| *byte == 2 && out.len() > 0).map(|_| out.windows(10).position(|w| w == [2; 10]));
    assert_eq!(at.flatten(), Some(8 + TRUNK_FRAME_BYTES_MAX + 8));
}

#[test]
fn a_trunk_that_takes_nothing_has_little_to_take() {
    let mut pair = Pair::new();
    let all: Vec<ConnId> = (0..40).map(|_| pair.stream().0).collect();
    all.iter().for_each(|conn| pair.front.say(*conn, &[1; STREAM_WINDOW_BYTES]));
    for _ in 0..5 {
        pair.front.turn();
    }
    assert!(pair.front.io.is_told && pair.front.io.out.len() < TRUNK_AHEAD_BYTES_MAX + TRUNK_FRAME_BYTES_MAX + 100);
    let unsent: usize = all.iter().map(|conn| pair.front.trunks.unsent(*conn)).sum();
    assert!(unsent >= 40 * STREAM_WINDOW_BYTES - TRUNK_AHEAD_BYTES_MAX - TRUNK_FRAME_BYTES_MAX);
    pair.settle();
    assert!(pair.owner.accepted.iter().all(|conn| pair.owner.heard(*conn).len() == STREAM_WINDOW_BYTES));
}

/// As a client of this instance that does not read is not read either.
#[test]
fn a_client_elsewhere_that_does_not_read_is_not_read() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.front.trunks.pause(conn, Monotonic(0));
    pair.owner.say(there, &vec![1; STREAM_OUT_BYTES_MAX + STREAM_WINDOW_BYTES + 1]);
    pair.settle();
    pair.front.say(conn, b"not now");
    pair.settle();
    assert!(pair.owner.heard(there).is_empty());
    pair.front.trunks.resume(conn);
    pair.settle();
    assert_eq!(pair.owner.heard(there), b"not now");
    assert_eq!(pair.front.heard(conn).len(), STREAM_OUT_BYTES_MAX + STREAM_WINDOW_BYTES + 1);
}

#[test]
fn ends_of_each_kind() {
    // Closed after bytes, in both directions at once: what the one says after the other's end is of no interest.
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.front.say(conn, b"bye");
    pair.front.trunks.close(conn);
    pair.owner.say(there, b"bye");
    pair.owner.trunks.close(there);
    pair.settle();
    assert_eq!((&pair.front.ended[&conn][..], &pair.owner.ended[&there][..]), ("Local", "Local"));
    // Aborted: what was not sent is dropped.
    let (conn, there) = pair.stream();
    pair.front.say(conn, b"dropped");
    pair.front.trunks.abort(conn);
    pair.settle();
    assert_eq!((&pair.front.ended[&conn][..], &pair.owner.ended[&there][..]), ("Local", "ConnectionReset"));
    assert!(pair.owner.heard(there).is_empty());
    // An id of it means nothing now.
    pair.front.say(conn, b"nobody");
    pair.front.trunks.close(conn);
    pair.settle();
    assert!(pair.front.trunks.unsent(conn) == 0 && pair.front.ended.len() == 2);
    // Turned to another shard.
    let (_, there) = pair.stream();
    pair.owner.trunks.reset(there, Reason::OtherShard(3));
    pair.settle();
    assert_eq!(pair.front.elsewhere, [Reason::OtherShard(3)]);
    assert_eq!(&pair.owner.ended[&there], "Local");
    // The number of a stream is not used again.
    let (_, there) = pair.stream();
    assert_eq!(pair.owner.trunks.peek(there).map(|stream| stream.number), Some(3));
}

#[test]
fn a_stream_that_is_closed_before_its_trunk_stands_was_never_there() {
    let (mut front, mut owner) = (Side::default(), Side::default());
    front.trunks.dial(TRUNK, destination(0), 0, Monotonic(10_000_000_000));
    let [gone, kept] = [(); 2].map(|()| front.trunks.open(TRUNK).expect("a trunk"));
    front.say(gone, b"gone");
    front.say(kept, b"kept");
    front.turn();
    assert!(front.io.out.is_empty());
    front.trunks.close(gone);
    front.trunks.opened(TRUNK);
    front.turn();
    owner.trunks.accept(TRUNK, 0);
    owner.receive(&front.io.out).expect("well formed");
    assert_eq!((owner.accepted.len(), owner.heard(owner.accepted[0])), (1, &b"kept"[..]));
    assert_eq!(&front.ended[&gone], "Local");
}

#[test]
fn a_trunk_that_breaks_ends_its_streams_after_their_bytes() {
    let mut pair = Pair::new();
    let all: Vec<(ConnId, ConnId)> = (0..3).map(|_| pair.stream()).collect();
    let (_, paused) = all[1];
    pair.owner.trunks.pause(paused, Monotonic(0));
    all.iter().for_each(|(conn, _)| pair.front.say(*conn, b"last"));
    pair.settle();
    pair.front.trunks.broke(TRUNK, &Closed::Error(ErrorKind::ConnectionRefused.into()), Monotonic(0));
    pair.owner.trunks.broke(TRUNK, &Closed::Peer, Monotonic(0));
    pair.front.turn();
    pair.owner.turn();
    assert!(all.iter().all(|(conn, _)| pair.front.ended[conn] == "ConnectionRefused"));
    assert_eq!((pair.owner.ended.len(), pair.owner.heard(paused)), (2, &b""[..]));
    pair.owner.trunks.resume(paused);
    pair.owner.turn();
    pair.owner.turn();
    assert_eq!((pair.owner.heard(paused), &pair.owner.ended[&paused][..]), (&b"last"[..], "Peer"));
    assert!(pair.owner.trunks.is_empty() && pair.front.trunks.find(&destination(0), 0, Monotonic(0)).is_none());
    // A trunk that does not get through.
    pair.front.trunks.dial(TRUNK, destination(0), 0, Monotonic(10_000_000_000));
    let conn = pair.front.trunks.open(TRUNK).expect("a trunk");
    pair.front.later(Duration::from_millis(9_999));
    assert_eq!(pair.front.io.closed, None);
    pair.front.later(Duration::from_millis(2));
    assert_eq!(pair.front.io.closed, Some("abort"));
    pair.front.trunks.broke(TRUNK, &Closed::Local, Monotonic(0));
    pair.front.turn();
    assert_eq!(&pair.front.ended[&conn], "TimedOut");
}

#[test]
fn what_is_not_read_to_its_end_ends_all_the_same() {
    let mut pair = Pair::new();
    let ((conn, there), (late, late_there)) = (pair.stream(), pair.stream());
    pair.owner.trunks.pause(there, Monotonic(0));
    pair.front.say(conn, b"unread");
    pair.front.trunks.close(conn);
    pair.settle();
    // One whose bytes wait for a turn, and which is paused then.
    pair.owner.takes = Some(1);
    pair.front.say(late, b"unread");
    pair.front.trunks.close(late);
    pair.front.turn();
    let bytes = std::mem::take(&mut pair.front.io.out);
    pair.owner.receive(&bytes).expect("well formed");
    pair.owner.trunks.pause(late_there, Monotonic(0));
    pair.owner.later(Duration::from_millis(4_999));
    assert!(pair.owner.ended.is_empty());
    pair.owner.later(Duration::from_millis(2));
    pair.owner.turn();
    assert_eq!((pair.owner.ended.len(), pair.owner.trunks.held_bytes()), (2, 0));
    // One that is closed while the other side takes nothing.
    let (conn, there) = pair.stream();
    pair.front.trunks.pause(conn, Monotonic(0));
    pair.owner.say(there, &vec![1; 2 * STREAM_WINDOW_BYTES]);
    pair.owner.trunks.close(there);
    pair.settle();
    pair.owner.later(Duration::from_millis(9_999));
    assert!(!pair.owner.ended.contains_key(&there));
    pair.owner.later(Duration::from_millis(2));
    pair.settle();
    assert_eq!(&pair.owner.ended[&there], "Local");
    pair.front.trunks.resume(conn);
    pair.settle();
    assert_eq!((pair.front.heard(conn).len(), &pair.front.ended[&conn][..]), (STREAM_WINDOW_BYTES, "ConnectionReset"));
}

#[test]
fn violations_are_found() {
    let frames = |all: &[(u32, frame::Frame)]| {
        let mut bytes = Vec::new();
        all.iter().for_each(|(stream, frame)| frame.put(*stream, &mut bytes));
        bytes
    };
    use frame::Frame::{Credit, Data, Open};
    let mut pair = Pair::new();
    let (_, there) = pair.stream();
    assert!(pair.front.receive(&frames(&[(9, Open)])).is_err(), "only the front opens streams");
    assert!(pair.owner.receive(&frames(&[(0, Open)])).is_err(), "it is there");
    pair.owner.trunks.pause(there, Monotonic(0));
    let full = TRUNK_FRAME_BYTES_MAX as u32;
    let chunk = |bytes: u32| [frames(&[(0, Data(bytes))]), vec![0; bytes as usize]].concat();
    for _ in 0..STREAM_WINDOW_BYTES / TRUNK_FRAME_BYTES_MAX {
        assert!(pair.owner.receive(&chunk(full)).is_ok());
    }
    assert!(pair.owner.receive(&chunk(1)).is_err(), "there was no credit");
    let mut pair = Pair::new();
    pair.stream();
    assert!(pair.owner.receive(&frames(&[(0, Credit((1 << 24) - 1)), (0, Credit((1 << 24) - 1))])).is_err());
    assert!(pair.owner.receive(&frames(&[(7, Credit(1))])).is_ok(), "it may have ended here");
}

#[test]
fn a_trunk_is_found_while_it_answers_and_closed_when_it_is_idle() {
    let mut pair = Pair::new();
    let find = |side: &Side, mark| side.trunks.find(&destination(0), mark, side.io.now);
    assert_eq!((find(&pair.front, 0), find(&pair.front, 1)), (Some(TRUNK), None));
    assert_eq!(pair.front.trunks.find(&destination(1), 0, Monotonic(0)), None);
    let later = Destination { incarnation: 2, ..destination(0) };
    assert_eq!(pair.front.trunks.find(&later, 0, Monotonic(0)), None, "another process has its place");
    let conn = pair.front.trunks.open(TRUNK).expect("a trunk");
    pair.front.turn();
    pair.front.later(Duration::from_millis(1_999));
    assert!(find(&pair.front, 0).is_some());
    pair.front.later(Duration::from_millis(2));
    assert!(find(&pair.front, 0).is_none(), "it has not answered");
    pair.settle();
    pair.owner.say(pair.owner.accepted[0], b"answer");
    pair.settle();
    assert!(find(&pair.front, 0).is_some());
    pair.front.later(Duration::from_secs(60));
    assert_eq!(pair.front.io.closed, None, "it has a stream");
    pair.front.trunks.close(conn);
    pair.settle();
    pair.front.later(Duration::from_secs(9));
    let (conn, _) = pair.stream();
    pair.front.trunks.close(conn);
    pair.settle();
    pair.front.later(Duration::from_secs(9));
    assert!(pair.front.io.closed.is_none() && find(&pair.front, 0).is_some());
    pair.front.later(Duration::from_secs(1));
    assert_eq!((pair.front.io.closed, find(&pair.front, 0)), (Some("close"), None));
    assert_eq!(pair.owner.io.closed, None, "its front closes it");
}

#[test]
fn a_trunk_that_is_wound_up_is_closed_after_its_streams() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    assert_eq!(pair.owner.trunks.wind_up(&mut pair.owner.io), [TRUNK]);
    pair.settle();
    assert_eq!(pair.owner.io.closed, None);
    pair.owner.say(there, b"goodbye");
    pair.owner.trunks.close(there);
    pair.owner.turn();
    assert_eq!(pair.owner.io.closed, Some("close"));
    let bytes = std::mem::take(&mut pair.owner.io.out);
    pair.front.receive(&bytes).expect("well formed");
    assert_eq!((pair.front.heard(conn), &pair.front.ended[&conn][..]), (&b"goodbye"[..], "Peer"));
    // One that a changed certificate retires.
    let mut pair = Pair::new();
    let (conn, _) = pair.stream();
    pair.front.trunks.retire(TRUNK);
    assert!(pair.front.trunks.find(&destination(0), 0, Monotonic(0)).is_none());
    pair.settle();
    assert_eq!(pair.front.io.closed, None);
    pair.front.trunks.close(conn);
    pair.settle();
    assert_eq!(pair.front.io.closed, Some("close"));
}

#[test]
fn what_a_traced_stream_is_sent_is_copied() {
    let mut pair = Pair::new();
    let (_, there) = pair.stream();
    pair.owner.trunks.trace(there, true);
    pair.owner.say(there, b"seen");
    pair.settle();
    let traced = pair.owner.trunks.take_traced();
    assert_eq!((traced.len(), traced[0].conn, &traced[0].bytes[..]), (1, there, &b"seen"[..]));
    assert!(pair.owner.trunks.take_traced().is_empty());
}

#[test]
fn room_is_told_once_it_is_there() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.owner.trunks.pause(there, Monotonic(0));
    pair.front.say(conn, &vec![1; STREAM_WINDOW_BYTES + SENT_AHEAD_BYTES_MAX / 2 + 1]);
    pair.front.trunks.tell_writable(conn);
    pair.settle();
    assert!(pair.front.writable.is_empty());
    pair.owner.trunks.resume(there);
    pair.settle();
    assert_eq!(pair.front.writable, [conn]);
}

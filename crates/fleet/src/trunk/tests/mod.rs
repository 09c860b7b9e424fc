//! Two sides of a trunk, and bytes between them that are cut anywhere.

mod ends;
mod streams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use forebay_runtime::seam::{Chunk, Detached, Io, SocketOptions, TimerId, WallMs};

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
        front.trunks.dial(TRUNK, destination(0), 0, (Monotonic(0), Monotonic(10_000_000_000)));
        front.trunks.opened(TRUNK);
        owner.trunks.accept(TRUNK, 0, Monotonic(0));
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

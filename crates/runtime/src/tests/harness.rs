//! A shard that is written as a closure over events, and the threads around it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::seam::{Closed, ConnId, Facts, Io, ListenerId, SegmentEvent, Shard};
use crate::{IoDriver, Listeners, Post, Settings, ShardThread, mailboxes, spawn};

/// The calls of a shard, as data.
pub(super) enum Event<'a, M> {
    Start,
    Accept(ConnId, ListenerId, SocketAddr),
    Connect(ConnId),
    Ready,
    Bytes(ConnId, &'a [u8]),
    Writable(ConnId),
    Close(ConnId, Closed),
    Segment(SegmentEvent),
    Mail(M),
    Timer(u64),
    TurnEnd,
}

/// A closure that answers events.
pub(super) trait Script<M>: FnMut(&mut dyn Io<M>, Event<'_, M>) {}
impl<M, F: FnMut(&mut dyn Io<M>, Event<'_, M>)> Script<M> for F {}

pub(super) struct Scripted<M, F> {
    script: F,
    _mail: std::marker::PhantomData<M>,
}

impl<M: Send + 'static, F: Script<M>> Shard for Scripted<M, F> {
    type Mail = M;

    fn on_start(&mut self, io: &mut dyn Io<M>) {
        (self.script)(io, Event::Start);
        io.start_accepting();
    }
    fn on_accept(&mut self, io: &mut dyn Io<M>, conn: ConnId, listener: ListenerId) {
        let peer = io.peer(conn);
        (self.script)(io, Event::Accept(conn, listener, peer.expect("an address")));
    }
    fn on_connect(&mut self, io: &mut dyn Io<M>, conn: ConnId) {
        (self.script)(io, Event::Connect(conn));
    }
    fn on_ready(&mut self, io: &mut dyn Io<M>, _conn: ConnId, _facts: Facts) {
        (self.script)(io, Event::Ready);
    }
    fn on_bytes(&mut self, io: &mut dyn Io<M>, conn: ConnId, bytes: &[u8]) -> usize {
        let mut taken = 0;
        let packet_bytes = PACKETS.with_borrow(|packets| packets.get(&conn).copied().unwrap_or(usize::MAX));
        for packet in bytes.chunks(packet_bytes) {
            (self.script)(io, Event::Bytes(conn, packet));
            taken += packet.len();
            if !io.spend(1) {
                break;
            }
        }
        taken
    }
    fn on_writable(&mut self, io: &mut dyn Io<M>, conn: ConnId) {
        (self.script)(io, Event::Writable(conn));
    }
    fn on_close(&mut self, io: &mut dyn Io<M>, conn: ConnId, why: Closed) {
        (self.script)(io, Event::Close(conn, why));
    }
    fn on_segment(&mut self, io: &mut dyn Io<M>, event: SegmentEvent) {
        (self.script)(io, Event::Segment(event));
    }
    fn on_mail(&mut self, io: &mut dyn Io<M>, letter: M) {
        (self.script)(io, Event::Mail(letter));
    }
    fn on_timer(&mut self, io: &mut dyn Io<M>, token: u64) {
        (self.script)(io, Event::Timer(token));
    }
    fn on_turn_end(&mut self, io: &mut dyn Io<M>) {
        (self.script)(io, Event::TurnEnd);
    }
}

thread_local! {
    /// The bytes that the shard of this thread takes as one packet, by connection. On other connections it takes all bytes.
    static PACKETS: RefCell<HashMap<ConnId, usize>> = RefCell::default();
}

/// The shard of this thread takes that many bytes of a connection for a packet from now on.
pub(super) fn take_for_a_packet(conn: ConnId, bytes: usize) {
    PACKETS.with_borrow_mut(|packets| packets.insert(conn, bytes));
}

/// A shard that does nothing.
pub(super) type Silent = Scripted<(), fn(&mut dyn Io<()>, Event<'_, ()>)>;

/// The driver that this suite runs over.
pub(super) fn driver() -> IoDriver {
    if module_path!().contains("over_epoll") { IoDriver::Epoll } else { IoDriver::Ring }
}

/// Small rings: many shards run at the same time in one test process.
pub(super) fn small(shards: usize) -> Settings {
    Settings { shards, io: driver(), ring_entries: 256, receive_buffers: 64, ..Settings::default() }
}

/// Running shards.
pub(super) struct House<M: Send> {
    pub(super) addr: SocketAddr,
    pub(super) post: Post<M>,
    pub(super) threads: Vec<ShardThread>,
}

/// Starts shards with one listener on a free port; `script` makes each one's closure on its own thread.
pub(super) fn house<M, F, G>(settings: &Settings, script: G) -> House<M>
where
    M: Send + 'static,
    F: Script<M> + 'static,
    G: Fn(usize) -> F + Clone + Send + 'static,
{
    let (post, mail) = mailboxes(settings.shards, settings.mailbox_capacity).unwrap();
    let listeners = Listeners::bind(&[(SocketAddr::from(([127, 0, 0, 1], 0)).into(), 0)], settings.shards).unwrap();
    let addr = listeners.local_addrs()[0];
    let threads = mail
        .into_iter()
        .zip(listeners.into_shards())
        .map(|(mailbox, listeners)| {
            let script = script.clone();
            let make = move |index| Scripted { script: script(index), _mail: std::marker::PhantomData };
            spawn(mailbox.index(), settings, listeners, mailbox, make).unwrap()
        })
        .collect();
    House { addr, post, threads }
}

/// Starts one shard; its closure also gets a channel to the test.
pub(super) fn shard<M, R, F, G>(settings: &Settings, script: G) -> (House<M>, Receiver<R>)
where
    M: Send + 'static,
    R: Send + 'static,
    F: Script<M> + 'static,
    G: FnOnce(Sender<R>) -> F + Clone + Send + 'static,
{
    let (report, reports) = channel();
    let house = house(settings, move |_| (script.clone())(report.clone()));
    (house, reports)
}

impl<M: Send> House<M> {
    /// Sends each shard a letter that stops it, and waits for all.
    pub(super) fn stop(self, letter: impl Fn() -> M) {
        for index in 0..self.threads.len() {
            assert!(self.post.send(index, letter()).is_ok());
        }
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Long enough for any loaded machine; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a report.
pub(super) fn next<R>(reports: &Receiver<R>) -> R {
    reports.recv_timeout(PATIENCE).expect("a report from the shard")
}

/// Waits until `holds`.
pub(super) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

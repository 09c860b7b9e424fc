//! Bytes in bulk: moves between shards, timers and disk beside them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::connections::Ask;
use super::harness::{Event, House, PATIENCE, house, next, shard, small, take_for_a_packet};
use crate::seam::{ConnId, Detached, Io, TimerId};

enum Letter {
    Moved(Detached),
    Stop,
}

/// Takes bytes of a stream of 32-bit counters, and answers each complete one; panics if one is missing or out of order.
#[derive(Default)]
struct Stream {
    next: u32,
    partial: Vec<u8>,
}

impl Stream {
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let whole = self.partial.len() / 4 * 4;
        for counter in self.partial[..whole].chunks_exact(4) {
            assert_eq!(u32::from_be_bytes(counter.try_into().unwrap()), self.next);
            self.next += 1;
            out.extend_from_slice(counter);
        }
        self.partial.drain(..whole);
    }
}

/// Two shards that move each new connection to one another `hops` times, with its unread bytes, before the last one keeps it.
/// Packets have `packet_bytes` bytes.
fn movers(hops: u8, packet_bytes: usize) -> House<Letter> {
    house(&small(2), move |_| {
        let mut streams: HashMap<ConnId, Stream> = HashMap::new();
        move |io: &mut dyn Io<Letter>, event: Event<'_, Letter>| match event {
            Event::Bytes(conn, bytes) => match streams.get_mut(&conn) {
                Some(stream) => stream.take(bytes, io.out(conn)),
                None => {
                    let moved = io.detach(conn).unwrap();
                    // The count of hops travels in front, as the first byte that the peer sent.
                    let letter = Letter::Moved(Detached { unread: bytes.to_vec(), ..moved });
                    assert!(io.mail(1 - io.shard(), letter).is_ok());
                }
            },
            Event::Mail(Letter::Moved(mut moved)) if moved.unread[0] < hops => {
                moved.unread[0] += 1;
                assert!(io.mail(1 - io.shard(), Letter::Moved(moved)).is_ok());
            }
            Event::Mail(Letter::Moved(mut moved)) => {
                let unread = std::mem::take(&mut moved.unread);
                let conn = io.adopt(moved);
                take_for_a_packet(conn, packet_bytes);
                let stream = streams.entry(conn).or_default();
                stream.take(&unread[1..], io.out(conn));
                io.stream(conn);
            }
            Event::Mail(Letter::Stop) => io.stop(),
            Event::Close(conn, _) => _ = streams.remove(&conn),
            _ => {}
        }
    })
}

#[test]
fn moves_between_shards_under_load_lose_nothing() {
    const COUNTERS: u32 = 30_000;
    // With packets of four bytes a buffer has more than a connection's quantum.
    for (hops, packet_bytes) in [(0, usize::MAX), (3, usize::MAX), (0, 4), (3, 4)] {
        let house = movers(hops, packet_bytes);
        let peers: Vec<_> = (0..24)
            .map(|_| {
                let mut peer = TcpStream::connect(house.addr).unwrap();
                let mut reader = peer.try_clone().unwrap();
                let writing = thread::spawn(move || {
                    // The load is under way from the first byte, before and while the socket moves.
                    peer.write_all(&[0]).unwrap();
                    for start in (0..COUNTERS).step_by(100) {
                        let bytes: Vec<u8> = (start..start + 100).flat_map(u32::to_be_bytes).collect();
                        peer.write_all(&bytes).unwrap();
                    }
                    peer.shutdown(Shutdown::Write).unwrap();
                });
                let reading = thread::spawn(move || {
                    reader.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut all = Vec::new();
                    reader.read_to_end(&mut all).unwrap();
                    assert_eq!(all.len(), COUNTERS as usize * 4);
                    let counters = all.chunks_exact(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
                    assert!(counters.eq(0..COUNTERS));
                });
                (writing, reading)
            })
            .collect();
        for (writing, reading) in peers {
            writing.join().unwrap();
            reading.join().unwrap();
        }
        house.stop(|| Letter::Stop);
    }
}

/// Timers fire in order, never before their time, and not at all once cancelled, on a sleeping shard and a busy one.
#[test]
fn timers_fire_in_order_and_never_early() {
    let (house, told) = shard(&small(1), |report: Sender<(u64, bool)>| {
        let mut due = HashMap::new();
        let mut cancelled: Option<TimerId> = None;
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Mail(Ask::Stop) => io.stop(),
            Event::Mail(_) => {
                for token in [40, 0, 7, 120, 13] {
                    let at = io.now().after(Duration::from_millis(token));
                    io.set_timer(at, token);
                    due.insert(token, at);
                }
                let late = io.now().after(Duration::from_millis(60));
                cancelled = Some(io.set_timer(late, 60));
            }
            Event::Timer(token) => {
                if let Some(timer) = cancelled.take() {
                    io.cancel_timer(timer);
                    io.cancel_timer(timer);
                }
                report.send((token, io.now() >= due[&token])).unwrap();
            }
            Event::Bytes(conn, bytes) => io.out(conn).extend_from_slice(bytes),
            _ => {}
        }
    });
    for busy in [false, true] {
        let (addr, (stop, stopped)) = (house.addr, std::sync::mpsc::channel::<()>());
        let load = busy.then(|| {
            thread::spawn(move || {
                let mut peer = TcpStream::connect(addr).unwrap();
                while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    peer.write_all(b"x").unwrap();
                    peer.read_exact(&mut [0]).unwrap();
                }
            })
        });
        assert!(house.post.send(0, Ask::Report).is_ok());
        for token in [0, 7, 13, 40, 120] {
            assert_eq!(next(&told), (token, true));
        }
        drop(stop);
        load.map(thread::JoinHandle::join).transpose().unwrap();
    }
    house.stop(|| Ask::Stop);
    assert!(told.recv().is_err(), "the cancelled one never fired");
}

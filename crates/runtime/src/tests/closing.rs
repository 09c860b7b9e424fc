//! The ends of connections: gentle, hard, half, and all at once.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::Sender;

use super::connections::Ask;
use super::harness::{Event, eventually, next, shard, small};
use crate::Settings;
use crate::seam::{Chunk, Closed, Io, ListenerId};

/// Reads on however much is unsent.
fn uncapped() -> Settings {
    Settings { out_bytes_max: usize::MAX, ..small(1) }
}

/// A shard that answers `g` with 4 MB and a gentle close, `s` with 64 MB, `a` with as much again and an abort.
fn closer(report: Sender<String>) -> impl FnMut(&mut dyn Io<Ask>, Event<'_, Ask>) {
    move |io, event| match event {
        Event::Bytes(conn, bytes) if bytes[0] == b'g' => {
            io.out(conn).extend_from_slice(&[1; 1000]);
            io.send(conn, &mut vec![Chunk::Shared(Rc::new(vec![2; 2_000_000])), Chunk::Owned(vec![3; 2_000_000])]);
            io.out(conn).extend_from_slice(&[4; 1000]);
            assert_eq!(io.unsent(conn), 4_002_000);
            io.close(conn);
            io.out(conn).extend_from_slice(b"after the close: nobody's");
            io.close(conn);
        }
        Event::Bytes(conn, bytes) => {
            io.send(conn, &mut vec![Chunk::Owned(vec![5; 64_000_000])]);
            if bytes[0] == b's' {
                return;
            }
            io.abort(conn);
            assert_eq!(io.unsent(conn), 0, "dead");
        }
        Event::Close(_, why) => report.send(format!("{why:?}")).unwrap(),
        Event::Mail(_) => io.stop(),
        _ => {}
    }
}

#[test]
fn close_sends_what_is_queued_and_abort_does_not() {
    let (house, told) = shard(&uncapped(), closer);
    let heartbeat = house.threads[0].heartbeat();
    let mut peer = TcpStream::connect(house.addr).unwrap();
    // Unread bytes must not turn the close into a reset.
    peer.write_all(b"g").unwrap();
    peer.write_all(&[9; 10_000]).unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(next(&told), "Local");
    let expected = [vec![1; 1000], vec![2; 2_000_000], vec![3; 2_000_000], vec![4; 1000]].concat();
    assert!(all == expected, "{} bytes of {}", all.len(), expected.len());
    drop(peer);

    // Once before anything was sent, once while the kernel is sending.
    for under_way in [false, true] {
        let mut peer = TcpStream::connect(house.addr).unwrap();
        if under_way {
            peer.write_all(b"s").unwrap();
            peer.read_exact(&mut [0; 100_000]).unwrap();
        }
        peer.write_all(b"a").unwrap();
        assert_eq!(next(&told), "Local");
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest);
        assert!(rest.len() < 64_000_000);
    }
    eventually("all slots are free", || heartbeat.connections() == 0);
    assert_eq!(heartbeat.out_buffers(), 0);
    house.stop(|| Ask::Stop);
}

/// Only a send is with the kernel when the connection is given up: its answer frees the slot.
#[test]
fn a_send_under_way_does_not_keep_an_aborted_connection() {
    let (house, told) = shard(&uncapped(), |report: Sender<usize>| {
        let mut id = None;
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, _) => {
                io.send(conn, &mut vec![Chunk::Owned(vec![5; 64_000_000])]);
                io.pause(conn);
                id = Some(conn);
            }
            Event::Mail(Ask::Report) => report.send(io.unsent(id.unwrap())).unwrap(),
            Event::Mail(Ask::Resume) => io.abort(id.unwrap()),
            Event::Close(..) => report.send(0).unwrap(),
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    peer.write_all(b"x").unwrap();
    peer.read_exact(&mut [0]).unwrap();
    // Each question is a turn: after some of them, submissions that did not fit have been made again, and the operation waits for
    // room.
    for _ in 0..10 {
        assert!(house.post.send(0, Ask::Report).is_ok());
        assert!(next(&told) > 0);
    }
    assert!(house.post.send(0, Ask::Resume).is_ok());
    assert_eq!(next(&told), 0);
    let heartbeat = house.threads[0].heartbeat();
    eventually("the slot is free", || heartbeat.connections() == 0);
    drop(peer);
    house.stop(|| Ask::Stop);
}

/// The peer has closed its sending side and reads on: it gets its answer, and then the end.
#[test]
fn a_half_closed_peer_gets_its_answer() {
    let (house, told) = shard(&uncapped(), |report: Sender<String>| {
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) if bytes == b"?" => io.send(conn, &mut vec![Chunk::Owned(vec![6; 30_000_000])]),
            Event::Close(_, why) => report.send(format!("{why:?}")).unwrap(),
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    peer.write_all(b"?").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&told), "Peer");
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 30_000_000);
    let heartbeat = house.threads[0].heartbeat();
    eventually("the slot is free", || heartbeat.connections() == 0);
    house.stop(|| Ask::Stop);
}

/// Stopping closes every socket, also those with bytes on the way in both directions, and the port is free.
#[test]
fn stop_tears_everything_down() {
    let (house, up) = shard(&small(1), |report: Sender<()>| {
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, _) => {
                io.stream(conn);
                io.send(conn, &mut vec![Chunk::Owned(vec![1; 8_000_000])]);
                io.set_timer(crate::seam::Monotonic::NEVER, 1);
                report.send(()).unwrap();
            }
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let addr = house.addr;
    let mut peers: Vec<_> = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for peer in &mut peers {
        peer.write_all(b"x").unwrap();
        next(&up);
    }
    house.stop(|| Ask::Stop);
    for mut peer in peers {
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest);
        assert!(rest.len() < 8_000_000);
    }
    assert!(TcpStream::connect(addr).is_err());
}

/// After `stop_accepting` no connection is accepted; established ones stay.
#[test]
fn a_drain_keeps_those_who_are_in() {
    let (house, done) = shard(&small(1), |report: Sender<()>| {
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Accept(conn, listener, peer) => {
                assert_eq!((listener, peer.ip().is_loopback(), io.unsent(conn)), (ListenerId(0), true, 0));
            }
            Event::Bytes(conn, bytes) => io.out(conn).extend_from_slice(bytes),
            Event::Mail(Ask::Report) => {
                io.stop_accepting();
                report.send(()).unwrap();
            }
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    let mut echo = || {
        peer.write_all(b"still").unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
    };
    echo();
    assert!(house.post.send(0, Ask::Report).is_ok());
    next(&done);
    eventually("the port is closed", || TcpStream::connect(house.addr).is_err());
    echo();
    house.stop(|| Ask::Stop);
}

/// X57: a connection that is not read ends once its peer has gone; one that is read again soon enough gets the bytes that were sent
/// first, and its end in order.
#[test]
fn who_hangs_up_unread_is_noticed() {
    let (house, told) = shard(&small(1), |report: Sender<(&str, usize)>| {
        let mut unread = None;
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                if bytes.ends_with(b"pause") {
                    io.pause(conn);
                    unread = Some(conn);
                }
                report.send(("bytes", bytes.len())).unwrap();
            }
            Event::Close(_, Closed::Peer) => report.send(("peer", 0)).unwrap(),
            Event::Close(..) => report.send(("other", 0)).unwrap(),
            Event::Mail(Ask::Resume) => io.resume(unread.unwrap()),
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let heartbeat = house.threads[0].heartbeat();
    let hang_up = || {
        let mut peer = TcpStream::connect(house.addr).unwrap();
        peer.write_all(b"pause").unwrap();
        assert_eq!(next(&told), ("bytes", 5));
        peer.write_all(b"the rest").unwrap();
    };
    hang_up();
    assert_eq!(next(&told), ("peer", 0), "the rest is nobody's");
    eventually("its slot is free", || heartbeat.connections() == 0);
    hang_up();
    assert!(house.post.send(0, Ask::Resume).is_ok());
    assert_eq!(next(&told), ("bytes", 8));
    assert_eq!(next(&told), ("peer", 0));
    eventually("its slot is free", || heartbeat.connections() == 0);
    house.stop(|| Ask::Stop);
}

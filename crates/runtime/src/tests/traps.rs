//! The traps that a prototype of this runtime fell into, each with a test of its own. (The fourth, the port that stays bound after
//! a kill, is tested in `listen`.)

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::connections::Ask;
use super::harness::{Event, driver, eventually, next, shard, small};
use crate::buffers::{BUFFER_BYTES, Buffers};
use crate::driver::{Completion, Driver, Kind, Tag};
use crate::epoll::Epoll;
use crate::ring::Ring;
use crate::seam::{Detached, Io, ListenerId, Monotonic};
use crate::{IoDriver, Settings};
use forebay_base::limits::SENT_AHEAD_BYTES_MAX;

const RECEIVE: Tag = Tag::of(Kind::Receive);

fn answer(ring: &mut impl Driver) -> Completion {
    let mut answers = Vec::new();
    while answers.is_empty() {
        ring.submit(1).unwrap();
        ring.reap(&mut answers, 1);
    }
    answers[0]
}

/// The kernel's behaviour: out of buffers, it reports that and disarms; returned buffers help only once they are published.
#[test]
fn trap_1_only_published_buffers_help() {
    match driver() {
        IoDriver::Ring => only_published_buffers_help::<Ring>(),
        IoDriver::Epoll => only_published_buffers_help::<Epoll>(),
    }
}

fn only_published_buffers_help<D: Driver>() {
    let mut ring = D::new(8).unwrap();
    let mut buffers = Buffers::new(&mut ring, 2).unwrap();
    let (receiver, mut sender) = UnixStream::pair().unwrap();
    for piece in 1..=3 {
        sender.write_all(&[piece; BUFFER_BYTES]).unwrap();
    }
    ring.receive_always(receiver.as_fd(), RECEIVE);
    for piece in 1..=2 {
        let full = answer(&mut ring);
        assert_eq!(full.result as usize, BUFFER_BYTES);
        assert_eq!(buffers.bytes(full.buffer().unwrap(), BUFFER_BYTES), [piece; BUFFER_BYTES]);
    }
    let out = answer(&mut ring);
    assert_eq!((out.result, out.more()), (-libc::ENOBUFS, false));
    buffers.give_back(0);
    ring.receive_always(receiver.as_fd(), RECEIVE);
    assert_eq!(answer(&mut ring).result, -libc::ENOBUFS, "came back, but not published");
    buffers.publish();
    ring.receive_always(receiver.as_fd(), RECEIVE);
    let full = answer(&mut ring);
    assert_eq!((full.buffer(), full.result as usize), (Some(0), BUFFER_BYTES));
    drop(sender);
    while ring.in_flight() > 0 {
        answer(&mut ring);
    }
}

/// Four buffers for sixteen connections that all send at once: everything arrives, in order.
#[test]
fn trap_1_running_out_of_buffers_loses_nothing() {
    let settings = Settings { receive_buffers: 4, ..small(1) };
    let (house, _) = shard(&settings, |_: Sender<()>| {
        |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                io.out(conn).extend_from_slice(bytes);
            }
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut peer = TcpStream::connect(house.addr).unwrap();
                let mut reader = peer.try_clone().unwrap();
                scope.spawn({
                    let content = &content;
                    move || peer.write_all(content).unwrap()
                });
                let mut back = vec![0; content.len()];
                reader.read_exact(&mut back).unwrap();
                assert!(back == content);
            });
        }
    });
    house.stop(|| Ask::Stop);
}

/// A pause that is revoked before its cancellation has arrived: the receive ends all the same, and that is no error; it is armed
/// again.
#[test]
fn trap_2_a_pause_taken_back_at_once_stops_nothing() {
    let (house, told) = shard(&small(1), |report: Sender<String>| {
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                io.out(conn).extend_from_slice(bytes);
                io.pause(conn);
                io.resume(conn);
                if bytes[0] % 2 == 0 {
                    io.pause(conn);
                    assert!(io.mail(0, Ask::Resume).is_ok());
                    io.resume(conn);
                }
            }
            Event::Close(_, why) => report.send(format!("{why:?}")).unwrap(),
            Event::Mail(Ask::Stop) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    for round in 0..2000_u32 {
        peer.write_all(&round.to_le_bytes()).unwrap();
        let mut answer = [0; 4];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(u32::from_le_bytes(answer), round);
    }
    drop(peer);
    assert_eq!(next(&told), "Peer", "and never an error before");
    house.stop(|| Ask::Stop);
}

/// Bytes written outside completions (by a letter, a timer, a move, the end of the turn) leave before the shard sleeps.
#[test]
fn trap_3_what_no_completion_made_is_sent_before_the_wait() {
    enum Letter {
        Say,
        Adopt(Detached),
        Stop,
    }
    let (house, ready) = shard(&small(1), |report: Sender<()>| {
        let (mut first, mut at_turn_end) = (None, false);
        move |io: &mut dyn Io<Letter>, event: Event<'_, Letter>| match event {
            Event::Accept(conn, ..) => {
                first = Some(conn);
                report.send(()).unwrap();
            }
            Event::Mail(Letter::Say) => {
                io.out(first.unwrap()).extend_from_slice(b"letter ");
                let soon = io.now().after(Duration::from_millis(30));
                io.set_timer(soon, 0);
            }
            Event::Timer(_) => {
                io.out(first.unwrap()).extend_from_slice(b"timer ");
                at_turn_end = true;
            }
            Event::TurnEnd if std::mem::take(&mut at_turn_end) => io.out(first.unwrap()).extend_from_slice(b"turn end"),
            Event::Mail(Letter::Adopt(moved)) => {
                let unread = moved.unread.clone();
                let conn = io.adopt(moved);
                io.stream(conn);
                io.out(conn).extend_from_slice(&unread);
            }
            Event::Mail(Letter::Stop) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    next(&ready);
    for _ in 0..5 {
        assert!(house.post.send(0, Letter::Say).is_ok());
        let mut heard = [0; 21];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"letter timer turn end");
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let (fd, addr) = server.accept().unwrap();
    let moved = Detached {
        fd: fd.into(),
        peer: Some(addr),
        listener: ListenerId(0),
        layer: None,
        unsent: Vec::new(),
        unread: b"came along".to_vec(),
        deadline: Monotonic::NEVER,
        came: None,
    };
    assert!(house.post.send(0, Letter::Adopt(moved)).is_ok());
    let mut heard = [0; 10];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"came along");
    house.stop(|| Letter::Stop);
}

/// Buffers are returned in any order: the completion names the one that was filled, and nothing else is assumed. (That is why
/// bundles are not used.)
#[test]
fn trap_5_buffers_may_come_back_in_any_order() {
    match driver() {
        IoDriver::Ring => buffers_may_come_back_in_any_order::<Ring>(),
        IoDriver::Epoll => buffers_may_come_back_in_any_order::<Epoll>(),
    }
}

fn buffers_may_come_back_in_any_order<D: Driver>() {
    let mut ring = D::new(8).unwrap();
    let mut buffers = Buffers::new(&mut ring, 4).unwrap();
    let (receiver, mut sender) = UnixStream::pair().unwrap();
    ring.receive_always(receiver.as_fd(), RECEIVE);
    let mut held = Vec::new();
    for piece in 0..40_u8 {
        sender.write_all(&[piece; 100]).unwrap();
        let full = answer(&mut ring);
        assert!(full.more());
        held.push(full.buffer().unwrap());
        assert_eq!(buffers.bytes(held[held.len() - 1], 100), [piece; 100]);
        if held.len() == 3 {
            let middle = held.remove(1);
            held.drain(..).rev().chain([middle]).for_each(|id| buffers.give_back(id));
            buffers.publish();
        }
    }
    drop(sender);
    while ring.in_flight() > 0 {
        answer(&mut ring);
    }
}

/// A peer that asks and asks and does not read: the answers for it stay bounded, it is not read from, and once it reads, every
/// answer arrives, in order.
#[test]
fn trap_6_a_peer_that_does_not_read_is_capped() {
    const CAP: usize = 100_000;
    const QUESTION: usize = 1024;
    const ANSWER: usize = 16 * 1024;
    const QUESTIONS: u32 = 3000;
    /// The cap, and the answers to bytes that the kernel had read already when it was reached: all receive buffers.
    const WORST: usize = CAP + 64 * BUFFER_BYTES / QUESTION * ANSWER;
    let settings = Settings { out_bytes_max: CAP, ..small(1) };
    let (house, told) = shard(&settings, |report: Sender<(usize, usize, u32)>| {
        let (mut conn, mut most, mut read, mut answered, mut writable) = (None, 0, 0, 0_u32, 0);
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(id, bytes) => {
                conn = Some(id);
                io.stream(id);
                read += bytes.len();
                io.tell_writable(id);
                while (answered as usize + 1) * QUESTION <= read {
                    let out = io.out(id);
                    out.extend_from_slice(&answered.to_be_bytes());
                    out.resize(out.len() + ANSWER - 4, 0);
                    answered += 1;
                }
            }
            Event::Writable(id) => {
                assert!(io.unsent(id) <= SENT_AHEAD_BYTES_MAX / 2);
                writable += 1;
            }
            Event::TurnEnd => most = most.max(conn.map_or(0, |id| io.unsent(id))),
            Event::Mail(Ask::Report) => report.send((most, read, writable)).unwrap(),
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let report = || {
        assert!(house.post.send(0, Ask::Report).is_ok());
        next(&told)
    };
    let mut peer = TcpStream::connect(house.addr).unwrap();
    let mut asking = peer.try_clone().unwrap();
    let asker = thread::spawn(move || asking.write_all(&vec![0; QUESTIONS as usize * QUESTION]).unwrap());
    eventually("it reads no more", || {
        let before = report();
        thread::sleep(Duration::from_millis(200));
        before.1 > 0 && before == report()
    });
    assert!(report().1 < QUESTIONS as usize * QUESTION);
    let mut answer = vec![0; ANSWER];
    for question in 0..QUESTIONS {
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], question.to_be_bytes());
    }
    asker.join().unwrap();
    let (most, _, writable) = report();
    assert!(most > CAP && most <= WORST, "{most}");
    assert!(writable > 0, "it is told, as it has asked");
    house.stop(|| Ask::Stop);
}

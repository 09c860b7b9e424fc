//! Behaviour of the driver without a ring that a ring leaves to the kernel.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use crate::buffers::{BUFFER_BYTES, Buffers};
use crate::driver::{Completion, Driver, Kind, Tag};
use crate::epoll::Epoll;

fn tag(kind: Kind) -> Tag {
    Tag { kind, slot: 3, generation: 5 }
}

/// The operations that are answered without waiting.
fn answers(driver: &mut Epoll) -> Vec<Completion> {
    let mut answers = VecDeque::new();
    driver.submit(0).unwrap();
    driver.reap(&mut answers, 1000);
    answers.into()
}

fn driver(buffers: u16) -> (Epoll, Buffers) {
    let mut driver = Epoll::new(8).unwrap();
    let buffers = Buffers::new(&mut driver, buffers).unwrap();
    (driver, buffers)
}

/// A pair of connected sockets of TCP.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, peer)
}

/// The end of a peer is reported only to operations that ask for it, and does not keep the loop awake: the socket leaves the set
/// with the first event that no operation wants, and a later receive puts it back.
#[test]
fn what_nobody_wants_to_hear_is_said_once() {
    let (mut driver, _buffers) = driver(8);
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(b"x").unwrap();
    driver.receive_once(ours.as_fd(), tag(Kind::Receive));
    assert_eq!(answers(&mut driver).len(), 1);
    drop(peer);
    assert_eq!(driver.events(), 1, "the socket is still watched: another receive usually follows");
    assert_eq!(answers(&mut driver).len(), 0);
    assert_eq!(driver.events(), 0, "it would wake the loop again and again");
    driver.receive_once(ours.as_fd(), tag(Kind::Receive));
    let end = answers(&mut driver);
    assert_eq!((end[0].result, end[0].more(), driver.in_flight()), (0, false, 0));
    driver.forget(ours.as_fd(), tag(Kind::Receive));
}

/// A send takes the bytes that fit at once; the caller has the rest. A send without room waits for it, and is answered once.
#[test]
fn a_send_without_room_waits_for_it() {
    const BYTES: usize = 8 << 20;
    let (mut driver, _buffers) = driver(8);
    let (ours, mut peer) = pair();
    let bytes = vec![7_u8; BYTES];
    let (mut sent, mut waited) = (0, false);
    while sent < BYTES {
        // SAFETY: the bytes outlive the answer, which is waited for below.
        unsafe { driver.send(ours.as_fd(), bytes[sent..].as_ptr(), (BYTES - sent) as u32, tag(Kind::Send)) };
        let mut answered = answers(&mut driver);
        if answered.is_empty() {
            waited = true;
            assert_eq!(driver.in_flight(), 1);
            peer.read_exact(&mut vec![0; sent]).unwrap();
            while answered.is_empty() {
                driver.submit(1).unwrap();
                let mut more = Vec::new();
                driver.reap(&mut more, 8);
                answered.append(&mut more);
            }
            assert!(answered[0].result > 0);
            break;
        }
        sent += answered[0].count().unwrap();
    }
    assert!(waited && driver.in_flight() == 0);
}

/// The bytes that a peer has sent before it broke the connection off are delivered before the failure of a send.
#[test]
fn bytes_come_before_the_failure_of_a_send() {
    let (mut driver, buffers) = driver(8);
    let (ours, mut peer) = pair();
    driver.receive_always(ours.as_fd(), tag(Kind::Receive));
    peer.write_all(b"last words").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let bytes = b"x";
    // SAFETY: a static.
    unsafe { driver.send(ours.as_fd(), bytes.as_ptr(), 1, tag(Kind::Send)) };
    let mut heard = VecDeque::new();
    driver.reap(&mut heard, 8);
    let kinds: Vec<_> = heard.iter().map(|answer| (answer.tag.kind, answer.result)).collect();
    assert_eq!(kinds, [(Kind::Receive, 10), (Kind::Send, -libc::EPIPE)]);
    assert_eq!(buffers.bytes(heard[0].buffer().unwrap(), 10), b"last words");
}

/// After a socket was forgotten another driver may have it, also while a second descriptor of it is open here.
#[test]
fn a_socket_that_has_left_is_not_heard_of() {
    let ((mut first, _), (mut second, _buffers)) = (driver(8), driver(8));
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let copy = ours.try_clone().unwrap();
    first.receive_once(ours.as_fd(), tag(Kind::Receive));
    first.cancel(tag(Kind::Receive), tag(Kind::CancelReceive));
    let cancelled: Vec<_> = answers(&mut first).iter().map(|answer| (answer.tag.kind, answer.result)).collect();
    assert_eq!(cancelled, [(Kind::Receive, -libc::ECANCELED), (Kind::CancelReceive, 0)]);
    first.forget(ours.as_fd(), tag(Kind::Receive));
    drop(ours);
    second.receive_once(copy.as_fd(), tag(Kind::Receive));
    peer.write_all(b"x").unwrap();
    assert_eq!((first.events(), second.events()), (0, 1));
    assert_eq!((answers(&mut first).len(), answers(&mut second).len()), (0, 1));
    first.cancel(tag(Kind::Receive), tag(Kind::Ignored));
    assert_eq!(answers(&mut first)[0].result, -libc::ENOENT, "there is nothing to cancel");
}

/// One wait delivers as much as it may of one socket, the next one the rest: level-triggered, nothing is lost.
#[test]
fn a_flood_is_received_in_parts() {
    const PIECES: usize = 40;
    let (mut driver, mut buffers) = driver(64);
    let (ours, mut peer) = pair();
    socket2::SockRef::from(&ours).set_recv_buffer_size(4 << 20).unwrap();
    peer.write_all(&[9; PIECES * BUFFER_BYTES]).unwrap();
    driver.receive_always(ours.as_fd(), tag(Kind::Receive));
    let mut received = 0;
    while received < PIECES * BUFFER_BYTES {
        let heard = answers(&mut driver);
        assert!(heard.len() <= 16, "{}", heard.len());
        for answer in &heard {
            received += answer.count().unwrap();
            buffers.give_back(answer.buffer().unwrap());
        }
        buffers.publish();
    }
    assert_eq!(received, PIECES * BUFFER_BYTES);
}

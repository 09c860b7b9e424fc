//! A layer over a connection that the shard makes.

use std::io::Write as _;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::harness::{Event, PATIENCE, next, shard, small};
use super::layers::Peer;
use super::toy::{DATA, END, FINISHED, FLIGHT, HELLO, Opener, RECORD_MAX, Sealer, Toy};
use crate::seam::{Chunk, Io, SocketOptions};

fn counted() -> Vec<u8> {
    (0..400_000_u32).map(|n| n.to_le_bytes()[0]).collect()
}

/// X60: over an outgoing connection the layer sends first, earlier bytes wait for it, and chunks are sealed in whole records. The
/// shard writes in `on_connect`, and sends the rest in each turn.
#[test]
fn a_layer_over_a_connection_that_we_make() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listening.local_addr().unwrap();
    let batch = counted();
    let expected = [&[1; 10], &batch[..], &[2; 10], &batch[..], &[3; 100]].concat();
    let (house, said) = shard(&small(1), move |report: Sender<&str>| {
        let batch = Rc::new(counted());
        move |io: &mut dyn Io<()>, event: Event<'_, ()>| match event {
            Event::Start => {
                let conn = io.connect(to, SocketOptions::default());
                io.put_layer(conn, Box::new(Toy::client()), &[]);
                // Written before the connection is open.
                let chunks = [Chunk::Owned(vec![1; 10]), Chunk::Shared(Rc::clone(&batch)), Chunk::Owned(vec![2; 10])];
                io.send(conn, &mut chunks.into());
            }
            Event::Connect(conn) => {
                report.send("connected").unwrap();
                io.send(conn, &mut vec![Chunk::Shared(Rc::clone(&batch))]);
                io.out(conn).extend_from_slice(&[3; 100]);
            }
            Event::Ready => report.send("ready").unwrap(),
            Event::Bytes(conn, bytes) => {
                io.out(conn).extend_from_slice(bytes);
                io.close(conn);
            }
            Event::Mail(()) => io.stop(),
            _ => {}
        }
    });
    let (socket, _) = listening.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peer = Peer { socket, open: Opener::default(), seal: Sealer::default() };
    let hello = peer.next();
    assert_eq!(hello.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [HELLO], "nothing before the handshake");
    assert_eq!(next(&said), "connected");
    // The shard has had enough turns to send bytes that it should not.
    thread::sleep(Duration::from_millis(50));
    let mut wire = Vec::new();
    peer.seal.record(FLIGHT, &[9; 3_000], &mut wire);
    peer.socket.write_all(&wire).unwrap();
    let (mut all, mut sizes, mut finished) = (Vec::new(), Vec::new(), false);
    while all.len() < expected.len() {
        for (kind, bytes) in peer.next() {
            finished |= kind == FINISHED;
            if kind == DATA {
                assert!(finished, "the handshake ends first");
                sizes.push(bytes.len());
                all.extend_from_slice(&bytes);
            }
        }
    }
    assert!(all == expected);
    assert_eq!(next(&said), "ready");
    // No record for ten bytes: a record that is not full ends 16 KiB, or a send.
    let short = sizes.iter().filter(|size| **size < RECORD_MAX).count();
    let sends = expected.len() / (128 << 10) + 2;
    let of_16_kib = expected.len() / (16 << 10) + 1;
    assert!(short <= of_16_kib + sends && !sizes.contains(&10), "{short} of {} are short", sizes.len());
    peer.data(b"end");
    let (rest, last) = peer.rest();
    assert_eq!((&rest[..], last), (&b"end"[..], Some(END)));
    house.stop(|| ());
}

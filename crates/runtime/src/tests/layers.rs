//! Layers over real sockets: the toy of [`super::toy`].

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::connections::Ask;
use super::harness::{Event, PATIENCE, house, next, shard, small, take_for_a_packet};
use super::toy::{ALERT, DATA, END, FINISHED, FLIGHT, HEADER, HELLO, Opener, Sealer, TICKET, Toy};
use crate::Settings;
use crate::seam::{Chunk, Closed, ConnId, Detached, Facts, Io, Layer, LayerError, LayerFault};

/// The client's end, on a socket that blocks.
pub(super) struct Peer {
    pub(super) socket: TcpStream,
    pub(super) open: Opener,
    pub(super) seal: Sealer,
}

impl Peer {
    /// Connects and completes the handshake. `split`: flights are sent in pieces of this many bytes.
    fn connect(addr: std::net::SocketAddr, first: &[u8], split: usize) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self { socket, open: Opener::default(), seal: Sealer::default() };
        let mut wire = Vec::new();
        peer.seal.record(HELLO, &[7; 300], &mut wire);
        wire.chunks(split).for_each(|piece| peer.socket.write_all(piece).unwrap());
        assert_eq!(peer.next()[0].0, FLIGHT);
        let mut wire = Vec::new();
        peer.seal.record(FINISHED, &[7; 30], &mut wire);
        // The first bytes arrive with the end of the handshake, as a CONNECT may.
        if !first.is_empty() {
            peer.seal.record(DATA, first, &mut wire);
        }
        wire.chunks(split).for_each(|piece| peer.socket.write_all(piece).unwrap());
        peer
    }

    /// The next records; none at the end of the socket.
    pub(super) fn next(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut buffer = [0; 8_192];
        loop {
            let count = self.socket.read(&mut buffer).unwrap();
            let records = self.open.records(&buffer[..count]).unwrap();
            if !records.is_empty() || count == 0 {
                return records;
            }
        }
    }

    /// Reads all data until the end of the stream, and the type of the record that ended it.
    pub(super) fn rest(&mut self) -> (Vec<u8>, Option<u8>) {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let records = self.next();
            if records.is_empty() {
                assert!(self.open.tail.is_empty(), "half a record");
                return (all, last);
            }
            for (kind, bytes) in records {
                match kind {
                    DATA => all.extend_from_slice(&bytes),
                    TICKET => {}
                    kind => last = Some(kind),
                }
            }
        }
    }

    pub(super) fn data(&mut self, bytes: &[u8]) {
        let mut wire = Vec::new();
        self.seal.record(DATA, bytes, &mut wire);
        self.socket.write_all(&wire).unwrap();
    }

    fn end(&mut self) {
        let mut wire = Vec::new();
        self.seal.record(END, &[], &mut wire);
        self.socket.write_all(&wire).unwrap();
    }
}

enum Letter {
    Moved(Detached),
    Stop,
}

/// Two shards: the accepting one moves a connection to the other as soon as possible after its first byte. Later bytes are echoed.
fn movers(cost: Duration, packet_bytes: usize) -> super::harness::House<Letter> {
    house(&small(2), move |_| {
        let mut streams: HashMap<ConnId, ()> = HashMap::new();
        let mut leaving: Vec<(ConnId, Vec<u8>)> = Vec::new();
        move |io: &mut dyn Io<Letter>, event: Event<'_, Letter>| match event {
            Event::Accept(conn, ..) => io.put_layer(conn, Box::new(Toy::default().costing(cost, true)), &[]),
            Event::Bytes(conn, bytes) if streams.contains_key(&conn) => io.out(conn).extend_from_slice(bytes),
            Event::Bytes(conn, bytes) => match leaving.iter_mut().find(|(leaves, _)| *leaves == conn) {
                Some((_, unread)) => unread.extend_from_slice(bytes),
                None => {
                    leaving.push((conn, bytes.to_vec()));
                    io.pause(conn);
                }
            },
            Event::TurnEnd => leaving.retain_mut(|(conn, unread)| {
                let Some(moved) = io.detach(*conn) else { return true };
                let letter = Letter::Moved(Detached { unread: std::mem::take(unread), ..moved });
                assert!(io.mail(1 - io.shard(), letter).is_ok());
                false
            }),
            Event::Mail(Letter::Moved(mut moved)) => {
                let unread = std::mem::take(&mut moved.unread);
                let conn = io.adopt(moved);
                take_for_a_packet(conn, packet_bytes);
                streams.insert(conn, ());
                io.out(conn).extend_from_slice(&unread[1..]);
                io.stream(conn);
            }
            Event::Mail(Letter::Stop) => io.stop(),
            Event::Close(conn, _) => _ = streams.remove(&conn),
            _ => {}
        }
    })
}

/// X1, X2, X4, X6: handshakes in the queue, moves with unsent bytes, and a stream in both directions at the same time.
#[test]
fn layers_move_and_lose_nothing() {
    move_and_lose_nothing(usize::MAX);
}

/// A layer opens more packets at once than a connection's quantum.
#[test]
fn finding_s3_layers_lose_nothing_where_quanta_end() {
    move_and_lose_nothing(4);
}

fn move_and_lose_nothing(packet_bytes: usize) {
    const COUNTERS: u32 = 20_000;
    // Each flight takes more than a turn's budget: the other handshakes wait in the queue.
    let house = movers(Duration::from_micros(700), packet_bytes);
    let addr = house.addr;
    let peers: Vec<_> = (0..24_usize)
        .map(|number| {
            thread::spawn(move || {
                let mut peer = Peer::connect(addr, &[0], [1_000_000, 1, 7, 100][number % 4]);
                let mut socket = peer.socket.try_clone().unwrap();
                let mut seal = std::mem::take(&mut peer.seal);
                let writing = thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(number as u64);
                    let counters: Vec<u8> = (0..COUNTERS).flat_map(u32::to_be_bytes).collect();
                    let (mut rest, mut wire) = (&counters[..], Vec::new());
                    while !rest.is_empty() {
                        let (piece, more) = rest.split_at(random.usize(1..2_000).min(rest.len()));
                        seal.record(DATA, piece, &mut wire);
                        rest = more;
                    }
                    // The end of the stream within the layer, and not of the socket.
                    seal.record(END, &[], &mut wire);
                    // Records in pieces, and pieces of several records.
                    let mut rest = &wire[..];
                    while !rest.is_empty() {
                        let (piece, more) = rest.split_at(random.usize(1..5_000).min(rest.len()));
                        socket.write_all(piece).unwrap();
                        rest = more;
                    }
                });
                let (all, last) = peer.rest();
                writing.join().unwrap();
                assert_eq!(last, Some(END), "our stream is ended as well");
                let counters: Vec<u32> =
                    all.chunks_exact(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap())).collect();
                assert!(counters.into_iter().eq(0..COUNTERS), "{} bytes", all.len());
            })
        })
        .collect();
    peers.into_iter().for_each(|peer| peer.join().unwrap());
    house.stop(|| Letter::Stop);
}

/// Opens one byte, and fails after it.
#[derive(Debug, Default)]
struct Failing(bool);

impl Layer for Failing {
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        if std::mem::replace(&mut self.0, true) {
            plain.extend_from_slice(wire);
            return Ok(None);
        }
        plain.extend_from_slice(&wire[..1]);
        answer.extend_from_slice(b"alert");
        Err(LayerError { fault: LayerFault::Protocol, what: "bad".into() })
    }
    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError> {
        wire.extend_from_slice(plain);
        Ok(())
    }
    fn close(&mut self, _wire: &mut Vec<u8>) {}
    fn has_ended(&self) -> bool {
        false
    }
    fn is_costly(&self) -> bool {
        false
    }
    fn held(&self) -> usize {
        0
    }
}

/// X6, X18: bytes that a shard has read just before its layer failed move nothing: the connection ends on its shard.
#[test]
fn a_layer_that_has_failed_does_not_move() {
    let house = house(&small(2), |_| {
        |io: &mut dyn Io<Letter>, event: Event<'_, Letter>| match event {
            Event::Accept(conn, ..) => io.put_layer(conn, Box::<Failing>::default(), &[]),
            Event::Bytes(conn, _) => {
                if let Some(moved) = io.detach(conn) {
                    assert!(io.mail(1 - io.shard(), Letter::Moved(moved)).is_ok());
                }
            }
            Event::Mail(Letter::Moved(moved)) => {
                let conn = io.adopt(moved);
                io.out(conn).extend_from_slice(b"welcome");
                io.stream(conn);
            }
            Event::Mail(Letter::Stop) => io.stop(),
            _ => {}
        }
    });
    let mut socket = TcpStream::connect(house.addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"!?").unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"alert");
    house.stop(|| Letter::Stop);
}

/// A shard that puts a layer over a connection after a first plain byte, echoes, and reports its events. `p` pauses until a letter
/// arrives, `n` is answered with the number of bytes sent so far, `g` is answered with chunks and a gentle close.
fn echo(report: Sender<String>) -> impl FnMut(&mut dyn Io<Ask>, Event<'_, Ask>) {
    let mut paused = None;
    let mut plain: Vec<ConnId> = Vec::new();
    move |io, event| match event {
        Event::Accept(conn, ..) => plain.push(conn),
        Event::Bytes(conn, bytes) if plain.contains(&conn) => {
            plain.retain(|other| *other != conn);
            io.put_layer(conn, Box::<Toy>::default(), &bytes[1..]);
        }
        Event::Ready => report.send("ready".to_owned()).unwrap(),
        Event::Bytes(conn, b"g") => {
            io.out(conn).extend_from_slice(&[1; 1_000]);
            io.send(conn, &mut vec![Chunk::Shared(Rc::new(vec![2; 500_000])), Chunk::Owned(vec![3; 70_000])]);
            io.out(conn).extend_from_slice(&[4; 1_000]);
            assert_eq!(io.unsent(conn), 572_000);
            io.close(conn);
        }
        Event::Bytes(conn, b"n") => {
            let sent = io.sent_bytes().to_string();
            io.out(conn).extend_from_slice(sent.as_bytes());
        }
        Event::Bytes(conn, bytes) => {
            io.stream(conn);
            io.out(conn).extend_from_slice(bytes);
            if bytes == b"p" {
                io.pause(conn);
                paused = Some(conn);
            }
        }
        Event::Mail(Ask::Report) => {
            report.send("resumed".to_owned()).unwrap();
            io.resume(paused.unwrap());
        }
        Event::Mail(_) => io.stop(),
        Event::Close(_, Closed::Layer(error)) => report.send(format!("layer: {}", error.what)).unwrap(),
        Event::Close(_, why) => report.send(format!("{why:?}")).unwrap(),
        _ => {}
    }
}

fn layered(addr: std::net::SocketAddr) -> Peer {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peer = Peer { socket, open: Opener::default(), seal: Sealer::default() };
    // A plain byte, then the layer's bytes in the same send.
    let mut wire = b"!".to_vec();
    peer.seal.record(HELLO, &[], &mut wire);
    peer.socket.write_all(&wire).unwrap();
    assert_eq!(peer.next()[0].0, FLIGHT);
    let mut wire = Vec::new();
    peer.seal.record(FINISHED, &[], &mut wire);
    peer.socket.write_all(&wire).unwrap();
    assert_eq!(peer.next()[0].0, TICKET);
    peer
}

#[test]
fn bytes_are_counted_as_the_layer_gets_them() {
    let (house, told) = shard(&small(1), echo);
    let mut peer = layered(house.addr);
    assert_eq!(next(&told), "ready");
    for (data, answer) in [("twelve bytes", "twelve bytes"), ("n", "12"), ("n", "14")] {
        peer.data(data.as_bytes());
        assert_eq!(peer.next(), [(DATA, answer.as_bytes().to_vec())]);
    }
    house.stop(|| Ask::Stop);
}

#[test]
fn ends_of_a_layered_connection() {
    let uncapped = Settings { out_bytes_max: usize::MAX, ..small(1) };
    let (house, told) = shard(&uncapped, echo);
    // A gentle close sends everything, the end of the stream last.
    let mut peer = layered(house.addr);
    assert_eq!(next(&told), "ready");
    peer.data(b"g");
    let (all, last) = peer.rest();
    assert_eq!(last, Some(END));
    assert!(all == [vec![1; 1_000], vec![2; 500_000], vec![3; 70_000], vec![4; 1_000]].concat(), "{}", all.len());
    assert_eq!(next(&told), "Local");

    // Bytes that cannot be opened end the connection; the peer gets the reason, though it had sent more, and nothing after it.
    let mut peer = layered(house.addr);
    assert_eq!(next(&told), "ready");
    peer.seal.0 += 1;
    peer.data(&[5; 900]);
    peer.data(&[5; 900]);
    let (all, last) = peer.rest();
    assert_eq!((all.len(), last), (0, Some(ALERT)));
    assert_eq!(next(&told), "layer: record 3 where 2 was due");

    // X14: the end within the layer is delivered in order, after unread bytes, and without the socket's end.
    for shut in [false, true] {
        let mut peer = layered(house.addr);
        assert_eq!(next(&told), "ready");
        peer.data(b"p");
        assert_eq!(peer.next(), [(DATA, b"p".to_vec())]);
        peer.end();
        if shut {
            peer.socket.shutdown(Shutdown::Write).unwrap();
        }
        assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "paused: not told yet");
        assert!(house.post.send(0, Ask::Report).is_ok());
        assert_eq!(next(&told), "resumed");
        assert_eq!(next(&told), "Peer");
    }
    let heartbeat = house.threads[0].heartbeat();
    super::harness::eventually("all slots are free", || heartbeat.connections() == 0);
    assert_eq!(heartbeat.out_buffers(), 0);
    house.stop(|| Ask::Stop);
}

/// X5: bytes of incomplete packets have a bound; the connection that holds most is closed.
#[test]
fn records_that_never_end_have_a_bound() {
    let (house, told) = shard(&small(1), echo);
    let mut modest = layered(house.addr);
    assert_eq!(next(&told), "ready");
    let mut greedy: Vec<Peer> = (0..3)
        .map(|_| {
            let peer = layered(house.addr);
            assert_eq!(next(&told), "ready");
            peer
        })
        .collect();
    let mut header = 16_000_000_u32.to_be_bytes().to_vec();
    header.resize(HEADER, 0);
    for peer in &mut greedy {
        let _ = peer.socket.write_all(&header);
        let _ = peer.socket.write_all(&vec![0; 7_000_000]);
    }
    assert!(next(&told).starts_with("layer: records that had not arrived"));
    modest.data(b"still served");
    assert_eq!(modest.next(), [(DATA, b"still served".to_vec())]);
    assert!(told.try_recv().is_err(), "one was enough");
    house.stop(|| Ask::Stop);
}

//! The life of a connection: accepted, read, written to, paused, moved. (How it ends: `closing`.)

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::harness::{Event, Silent, eventually, next, shard, small};
use crate::seam::{Chunk, Closed, ConnId, Io, SocketOptions};
use crate::{Settings, mailboxes, spawn};
use forebay_base::limits::SENT_AHEAD_BYTES_MAX;

/// A test's request to its shard.
pub(super) enum Ask {
    Stop,
    Report,
    Pause,
    Resume,
}

/// Finding S3, D2: a connection that waits for room in its socket is woken once, when its peer has read.
#[test]
fn finding_s3_d2_a_shard_is_told_of_room_as_often_as_it_asks() {
    const PIECE: usize = 200_000;
    const PIECES: usize = 100;
    let (house, told) = shard(&Settings { out_bytes_max: usize::MAX, ..small(1) }, |report: Sender<usize>| {
        let mut written = 0;
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, _) => {
                io.stream(conn);
                io.out(conn).resize(PIECE, 0);
                written = 1;
                // Requested twice, reported once.
                io.tell_writable(conn);
                io.tell_writable(conn);
            }
            Event::Writable(conn) => {
                assert!(io.unsent(conn) <= SENT_AHEAD_BYTES_MAX / 2);
                io.out(conn).resize(PIECE, 0);
                written += 1;
                if written < PIECES {
                    io.tell_writable(conn);
                }
            }
            Event::Mail(Ask::Report) => report.send(written).unwrap(),
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let report = || {
        assert!(house.post.send(0, Ask::Report).is_ok());
        next(&told)
    };
    let mut peer = TcpStream::connect(house.addr).unwrap();
    peer.write_all(b"!").unwrap();
    eventually("the sockets are full", || {
        let before = report();
        std::thread::sleep(std::time::Duration::from_millis(200));
        before > 0 && before == report()
    });
    assert!(report() < PIECES, "the peer has read nothing");
    let mut all = vec![0; PIECE * PIECES];
    peer.read_exact(&mut all).unwrap();
    eventually("all is written", || report() == PIECES);
    peer.write_all(b"!").unwrap();
    peer.read_exact(&mut all).unwrap();
    house.stop(|| Ask::Stop);
}

#[test]
fn echoes_across_pauses_and_resumes() {
    let (house, seen) = shard(&small(1), |report: Sender<(ConnId, usize)>| {
        let (mut total, mut id) = (0, None);
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                (total, id) = (total + bytes.len(), Some(conn));
                io.out(conn).extend_from_slice(bytes);
            }
            Event::Mail(Ask::Stop) => io.stop(),
            Event::Mail(ask) => {
                let id = id.unwrap();
                match ask {
                    Ask::Pause => io.pause(id),
                    Ask::Resume => io.resume(id),
                    _ => {}
                }
                report.send((id, total)).unwrap();
            }
            _ => {}
        }
    });
    let ask = |ask| {
        assert!(house.post.send(0, ask).is_ok());
        next(&seen).1
    };
    let mut peer = TcpStream::connect(house.addr).unwrap();
    let mut answer = [0; 4];
    for round in 0..30_u32 {
        peer.write_all(&round.to_be_bytes()).unwrap();
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, round.to_be_bytes());
        if round % 3 == 0 {
            // A turn or more after the pause, no bytes arrive: each question is a turn of its own.
            let paused = ask(Ask::Pause);
            ask(Ask::Report);
            peer.write_all(b"more").unwrap();
            for _ in 0..20 {
                assert_eq!(ask(Ask::Report), paused);
            }
            ask(Ask::Resume);
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"more");
        }
    }
    house.stop(|| Ask::Stop);
}

/// A peer that sends its last bytes and leaves at once: bytes and end are delivered together, the shard pauses at the bytes, and is
/// told of the end only when it reads again. Bytes that it put aside until then are still from an open connection.
#[test]
fn the_end_of_the_stream_waits_while_paused() {
    let (house, told) = shard(&small(1), |report: Sender<String>| {
        let mut id = None;
        move |io: &mut dyn Io<Farewell>, event: Event<'_, Farewell>| match event {
            Event::Bytes(conn, b"hello") => {
                io.stream(conn);
                id = Some(conn);
                io.out(conn).extend_from_slice(b"hello");
            }
            Event::Bytes(conn, bytes) => {
                io.pause(conn);
                report.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            }
            Event::Close(_, why) => report.send(format!("{why:?}")).unwrap(),
            Event::Mail(Farewell::Wait(until)) => {
                report.send("waits".to_owned()).unwrap();
                until.recv().unwrap();
            }
            Event::Mail(Farewell::Report) => report.send("still there".to_owned()).unwrap(),
            Event::Mail(Farewell::Resume) => io.resume(id.unwrap()),
            Event::Mail(Farewell::Stop) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    peer.write_all(b"hello").unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
    // Bytes and end arrive while the shard is blocked; it finds both when it looks.
    let (gone, until) = channel();
    assert!(house.post.send(0, Farewell::Wait(until)).is_ok());
    assert_eq!(next(&told), "waits");
    peer.write_all(b"last words").unwrap();
    drop(peer);
    gone.send(()).unwrap();
    assert_eq!(next(&told), "last words");
    for _ in 0..20 {
        assert!(house.post.send(0, Farewell::Report).is_ok());
        assert_eq!(next(&told), "still there");
    }
    assert!(house.post.send(0, Farewell::Resume).is_ok());
    assert_eq!(next(&told), "Peer");
    house.stop(|| Farewell::Stop);
}

/// The requests of [`the_end_of_the_stream_waits_while_paused`] to its shard.
enum Farewell {
    Wait(Receiver<()>),
    Report,
    Resume,
    Stop,
}

/// Until `stream`, one read per turn, and the socket can be taken off in `on_bytes`; afterwards it cannot.
#[test]
fn reads_are_one_shot_until_stream() {
    #[derive(Debug, PartialEq)]
    enum Saw {
        OnceATurn(u32),
        Streaming,
        Detached(Vec<u8>),
    }
    let (house, saw) = shard(&small(1), |report: Sender<Saw>| {
        let (mut pieces, mut this_turn, mut most) = (0, 0, 0);
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, b"stream") => {
                io.stream(conn);
                assert!(io.detach(conn).is_none());
                report.send(Saw::Streaming).unwrap();
            }
            Event::Bytes(conn, b"detach") => {
                let fd = io.detach(conn).unwrap().fd;
                assert!(io.detach(conn).is_none(), "the id is dead");
                let mut socket = TcpStream::from(fd);
                socket.write_all(b"by hand").unwrap();
                let mut rest = Vec::new();
                socket.read_to_end(&mut rest).unwrap();
                report.send(Saw::Detached(rest)).unwrap();
            }
            Event::Bytes(_, _) => (pieces, this_turn) = (pieces + 1, this_turn + 1),
            Event::TurnEnd => (most, this_turn) = (most.max(this_turn), 0),
            Event::Mail(Ask::Report) => report.send(Saw::OnceATurn(if pieces > 9 { most } else { 0 })).unwrap(),
            Event::Mail(Ask::Stop) => io.stop(),
            Event::Close(..) => panic!("a detached connection is not closed, it is gone"),
            _ => {}
        }
    });
    let mut flood = TcpStream::connect(house.addr).unwrap();
    flood.write_all(&[7; 100_000]).unwrap();
    eventually("the flood is read once a turn", || {
        assert!(house.post.send(0, Ask::Report).is_ok());
        next(&saw) == Saw::OnceATurn(1)
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    peer.write_all(b"stream").unwrap();
    assert_eq!(next(&saw), Saw::Streaming);
    let mut mover = TcpStream::connect(house.addr).unwrap();
    mover.write_all(b"detach").unwrap();
    let mut answer = [0; 7];
    mover.read_exact(&mut answer).unwrap();
    mover.write_all(b"rest").unwrap();
    mover.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&saw), Saw::Detached(b"rest".to_vec()));
    house.stop(|| Ask::Stop);
}

/// A slot is used again; the old id must not touch the new connection.
#[test]
fn a_stale_id_is_ignored_by_every_call() {
    let (house, seen) = shard(&small(1), |report: Sender<ConnId>| {
        let mut first = None;
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                let stale = *first.get_or_insert(conn);
                io.out(conn).extend_from_slice(bytes);
                if stale != conn {
                    io.out(stale).extend_from_slice(b"for nobody");
                    io.send(stale, &mut vec![Chunk::Owned(vec![1; 100])]);
                    assert_eq!(io.unsent(stale), 0);
                    io.pause(stale);
                    io.stream(stale);
                    assert!(io.detach(stale).is_none());
                    io.close(stale);
                    io.abort(stale);
                }
                report.send(conn).unwrap();
            }
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let heartbeat = house.threads[0].heartbeat();
    let echo = |peer: &mut TcpStream| {
        peer.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        next(&seen)
    };
    let first = echo(&mut TcpStream::connect(house.addr).unwrap());
    eventually("the slot is free", || heartbeat.connections() == 0);
    let mut peer = TcpStream::connect(house.addr).unwrap();
    let second = echo(&mut peer);
    assert_eq!(first.slot, second.slot);
    assert_ne!(first.generation, second.generation);
    assert_eq!(echo(&mut peer), second);
    house.stop(|| Ask::Stop);
}

#[test]
fn connects_out_and_is_refused() {
    enum Call {
        To(SocketAddr),
        Stop,
    }
    let (house, told) = shard(&small(1), |report: Sender<String>| {
        let mut names = HashMap::new();
        move |io: &mut dyn Io<Call>, event: Event<'_, Call>| match event {
            Event::Mail(Call::To(addr)) => {
                let id = io.connect(addr, SocketOptions::default());
                // Bytes written before the connection is open are sent when it is.
                io.out(id).extend_from_slice(b"early ");
                names.insert(id, addr);
            }
            Event::Connect(id) => io.out(id).extend_from_slice(b"bird"),
            Event::Bytes(id, bytes) => {
                report.send(format!("{} said {}", names[&id], String::from_utf8_lossy(bytes))).unwrap();
                io.close(id);
            }
            Event::Close(id, Closed::Error(error)) => {
                report.send(format!("{} {:?}", names[&id], error.kind())).unwrap()
            }
            Event::Close(..) => report.send("closed".into()).unwrap(),
            Event::Mail(Call::Stop) => io.stop(),
            _ => {}
        }
    });
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    assert!(house.post.send(0, Call::To(addr)).is_ok());
    let (mut peer, _) = server.accept().unwrap();
    let mut heard = [0; 10];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"early bird");
    peer.write_all(b"worm").unwrap();
    assert_eq!(next(&told), format!("{addr} said worm"));
    assert_eq!(next(&told), "closed");
    assert_eq!(peer.read(&mut heard).unwrap(), 0);

    drop((server, peer));
    assert!(house.post.send(0, Call::To(addr)).is_ok());
    assert_eq!(next(&told), format!("{addr} ConnectionRefused"));
    let heartbeat = house.threads[0].heartbeat();
    eventually("the slots are free", || heartbeat.connections() == 0);
    house.stop(|| Call::Stop);
}

/// 5,000 connections, 500 at a time, leave no slot, no buffer and no descriptor in use.
#[test]
fn five_thousand_connections_leave_nothing_behind() {
    let (house, _) = shard(&small(1), |_: Sender<()>| {
        |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                io.out(conn).extend_from_slice(bytes);
                if bytes[0] % 3 == 0 {
                    io.close(conn);
                }
            }
            Event::Mail(_) => io.stop(),
            _ => {}
        }
    });
    let heartbeat = house.threads[0].heartbeat();
    for _ in 0..10 {
        let mut peers: Vec<_> = (0..500).map(|_| TcpStream::connect(house.addr).unwrap()).collect();
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&[index as u8; 10]).unwrap();
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            let mut answer = [0; 10];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [index as u8; 10]);
        }
        eventually("connections that have drained hold no buffer", || heartbeat.out_buffers() == 0);
        assert!(heartbeat.connections() > 300);
        drop(peers);
        eventually("all slots are free", || heartbeat.connections() == 0);
    }
    house.stop(|| Ask::Stop);
}

#[test]
fn a_panic_of_the_shard_is_an_error_of_its_thread() {
    let (house, _) = shard(&small(1), |_: Sender<()>| {
        |_: &mut dyn Io<Ask>, event: Event<'_, Ask>| {
            if let Event::Mail(_) = event {
                panic!("on purpose");
            }
        }
    });
    let peer = TcpStream::connect(house.addr).unwrap();
    assert!(house.post.send(0, Ask::Stop).is_ok());
    let error = house.threads.into_iter().next().unwrap().join().unwrap_err();
    assert_eq!(error.to_string(), "the shard panicked");
    drop(peer);
}

/// A pin that is impossible is an error of `spawn`, not of a thread that is never looked at.
#[test]
fn a_cpu_that_is_not_there_is_an_error() {
    for pin in [vec![], vec![9999]] {
        let settings = Settings { pin: Some(pin), ..small(1) };
        let (_, mut mail) = mailboxes::<()>(1, 1).unwrap();
        let never = |_| -> Silent { unreachable!() };
        assert!(spawn(0, &settings, Vec::new(), mail.remove(0), never).is_err());
    }
}

/// An outgoing connection is read however many bytes wait for sending: a broker on a slow line answers the first request long
/// before the last has been sent, and must not seem silent.
#[test]
fn what_we_have_to_send_does_not_keep_us_from_reading_an_answer() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = broker.local_addr().unwrap();
    let (house, answers) = shard(&small(1), move |report: Sender<Vec<u8>>| {
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Start => drop(io.connect(to, SocketOptions::default())),
            Event::Connect(conn) => io.send(conn, &mut vec![Chunk::Owned(vec![7; 64 << 20])]),
            Event::Bytes(_, bytes) => report.send(bytes.to_vec()).unwrap(),
            Event::Mail(Ask::Stop) => io.stop(),
            _ => {}
        }
    });
    let (mut socket, _) = broker.accept().unwrap();
    // Reads next to nothing, and answers.
    socket.read_exact(&mut [0; 1024]).unwrap();
    socket.write_all(b"answer").unwrap();
    assert_eq!(next(&answers), b"answer");
    house.stop(|| Ask::Stop);
}

//! The quantum of a connection: however many bytes one sends, others are served in between.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::harness::{Event, PATIENCE, next, shard, small, take_for_a_packet};
use crate::Settings;
use crate::buffers::BUFFERS_AT_FIRST;
use crate::seam::{ConnId, Io};
use forebay_base::limits::{QUANTUM_BYTES, QUANTUM_PACKETS, READS_WAITING_MAX};

/// Bytes of the flood: more than the shard's receive buffers hold.
const FLOOD_BYTES: usize = 512 << 10;

enum Ask {
    /// Tells the test that the turn is blocked, and waits for it before the turn goes on.
    Hold(Sender<()>, Receiver<()>),
    Stop,
}

/// Floods with packets of `packet_bytes` each; a second connection sends a byte when all of that is in the kernel. Returns the
/// number of bytes of the flood that the shard had before that byte. The shard has read from both before it blocks, so that both
/// reads are with the kernel.
fn served_before_the_other(packet_bytes: usize) -> usize {
    let settings = Settings { receive_buffers: 128, ..small(1) };
    let (house, told) = shard(&settings, move |report: Sender<usize>| {
        let mut flooding: Option<ConnId> = None;
        let mut taken = 0;
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Accept(conn, ..) => {
                take_for_a_packet(conn, packet_bytes);
                io.stream(conn);
            }
            Event::Bytes(conn, _) if flooding.is_none() => {
                flooding = Some(conn);
                report.send(0).unwrap();
            }
            Event::Bytes(conn, bytes) if flooding == Some(conn) => taken += bytes.len(),
            Event::Bytes(..) => report.send(taken).unwrap(),
            Event::Mail(Ask::Hold(holds, go)) => {
                holds.send(()).unwrap();
                go.recv_timeout(PATIENCE).unwrap();
            }
            Event::Mail(Ask::Stop) => io.stop(),
            _ => {}
        }
    });
    let connect = || {
        let peer = TcpStream::connect(house.addr).unwrap();
        // All bytes have to find room in the kernel.
        socket2::SockRef::from(&peer).set_send_buffer_size(4 << 20).unwrap();
        peer
    };
    let (mut flood, mut other) = (connect(), connect());
    for peer in [&mut flood, &mut other] {
        peer.write_all(b"x").unwrap();
        assert_eq!(next(&told), 0);
    }
    let ((go, held), (holds, still)) = (channel(), channel());
    assert!(house.post.send(0, Ask::Hold(holds, held)).is_ok());
    still.recv_timeout(PATIENCE).unwrap();
    flood.write_all(&vec![b'x'; FLOOD_BYTES]).unwrap();
    other.write_all(b"y").unwrap();
    go.send(()).unwrap();
    let taken = next(&told);
    house.stop(|| Ask::Stop);
    taken
}

#[test]
fn finding_s3_a_flood_of_small_packets_leaves_others_their_turn() {
    let taken = served_before_the_other(16);
    // The blocked turn, and the one in which both connections have bytes.
    let most = 2 * QUANTUM_PACKETS as usize * 16;
    assert!(taken <= most, "{taken} bytes, not {most}, before the byte of another connection");
}

#[test]
fn finding_s3_a_flood_of_large_packets_leaves_others_their_turn() {
    let taken = served_before_the_other(4096);
    let most = 2 * (QUANTUM_BYTES + 4096);
    assert!(taken <= most, "{taken} bytes, not {most}, before the byte of another connection");
    const { assert!(READS_WAITING_MAX * 4096 > QUANTUM_BYTES) };
}

/// A shard that reads little uses few of its buffers, and so has little memory; one that gets many bytes at once uses more.
#[test]
fn buffers_come_into_use_when_they_run_out() {
    let settings = Settings { receive_buffers: 1024, ..small(1) };
    let (house, told) = shard(&settings, |report: Sender<(usize, usize)>| {
        let mut places = HashSet::new();
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Accept(conn, ..) => io.stream(conn),
            Event::Bytes(_, bytes) => {
                places.insert(bytes.as_ptr().addr());
                report.send((places.len(), bytes.len())).unwrap();
            }
            Event::Mail(Ask::Hold(holds, go)) => {
                holds.send(()).unwrap();
                go.recv_timeout(PATIENCE).unwrap();
            }
            Event::Mail(Ask::Stop) => io.stop(),
            _ => {}
        }
    });
    let mut peers: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(house.addr).unwrap()).collect();
    let one_by_one = |peers: &mut [TcpStream]| {
        let each = (0..3_000).map(|round| {
            peers[round % 20].write_all(b"x").unwrap();
            next(&told).0
        });
        each.last().unwrap()
    };
    assert_eq!(one_by_one(&mut peers), usize::from(BUFFERS_AT_FIRST), "they are used in turn");
    // More bytes in one turn than all buffers hold.
    const BURST_BYTES: usize = 100 << 10;
    let ((go, held), (holds, still)) = (channel(), channel());
    assert!(house.post.send(0, Ask::Hold(holds, held)).is_ok());
    still.recv_timeout(PATIENCE).unwrap();
    peers.iter_mut().for_each(|peer| peer.write_all(&vec![b'y'; BURST_BYTES]).unwrap());
    go.send(()).unwrap();
    let mut left = 20 * BURST_BYTES;
    while left > 0 {
        left -= next(&told).1;
    }
    let used = one_by_one(&mut peers);
    assert!(used > usize::from(BUFFERS_AT_FIRST), "{used}");
    house.stop(|| Ask::Stop);
}

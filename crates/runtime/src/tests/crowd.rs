//! More connections with something to send than a turn writes to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;

use super::connections::Ask;
use super::harness::{Event, PATIENCE, next, shard, small};
use crate::seam::{ConnId, Io};
use forebay_base::limits::WRITES_PER_TURN;

const CROWD: usize = 8 * WRITES_PER_TURN;

/// Writes one byte for each of a crowd, and then one for the connection that has asked for it. Returns how many of the crowd had
/// not been written to when that one had been, and whether the last one had. `late`: the crowd's bytes may wait, but not the last
/// one's.
fn waiting(late: bool) -> (usize, bool) {
    let (house, told) = shard(&small(1), move |report: Sender<(usize, bool)>| {
        let (mut crowd, mut asked): (Vec<ConnId>, Option<ConnId>) = (Vec::new(), None);
        move |io: &mut dyn Io<Ask>, event: Event<'_, Ask>| match event {
            Event::Accept(conn, ..) => {
                io.stream(conn);
                crowd.push(conn);
            }
            Event::Bytes(conn, _) => {
                for other in crowd.iter().filter(|other| **other != conn) {
                    if late {
                        io.send_late(*other);
                    }
                    io.out(*other).push(b'x');
                }
                io.send_soon(crowd[CROWD - 1]);
                io.out(conn).push(b'!');
                asked = Some(conn);
            }
            // Bytes that were written in this turn have not been sent yet.
            Event::TurnEnd => {
                if let Some(conn) = asked.filter(|conn| io.unsent(*conn) == 0) {
                    let left = crowd.iter().filter(|other| io.unsent(**other) > 0).count();
                    report.send((left, io.unsent(crowd[CROWD - 1]) > 0)).unwrap();
                    asked = asked.filter(|asked| *asked != conn);
                }
            }
            Event::Mail(Ask::Stop) => io.stop(),
            _ => {}
        }
    });
    let connect = || {
        let peer = TcpStream::connect(house.addr).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer
    };
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect()).collect();
    // The connection is accepted after the others.
    let mut one = connect();
    one.write_all(b"?").unwrap();
    let mut byte = [0];
    one.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"!");
    let left = next(&told);
    for peer in &mut crowd {
        peer.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
    house.stop(|| Ask::Stop);
    left
}

#[test]
fn what_may_wait_is_sent_behind_what_may_not() {
    let (left, is_last_left) = waiting(true);
    assert!(left >= CROWD - 3 * WRITES_PER_TURN, "{left} of {CROWD} were still to be written to");
    assert!(!is_last_left, "it may not wait any more");
}

#[test]
fn a_turn_writes_to_so_many_and_to_all_in_the_end() {
    let (left, _) = waiting(false);
    assert!(left < WRITES_PER_TURN, "{left}: they come in their order");
}

//! The life of a connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::harness::{Event, next, shard, small};
use crate::runtime::seam::Io;

#[test]
fn echoes() {
    let (house, _) = shard(&small(1), |_: std::sync::mpsc::Sender<()>| {
        |io: &mut dyn Io<()>, event: Event<'_, ()>| match event {
            Event::Bytes(conn, bytes) => {
                io.stream(conn);
                io.out(conn).extend_from_slice(bytes);
            }
            Event::Mail(()) => io.stop(),
            _ => {}
        }
    });
    let mut peer = TcpStream::connect(house.addr).unwrap();
    for round in 0..100_u32 {
        peer.write_all(&round.to_be_bytes()).unwrap();
        let mut answer = [0; 4];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, round.to_be_bytes());
    }
    house.stop(|| ());
}

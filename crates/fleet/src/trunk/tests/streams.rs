//! Bytes of many streams: order, windows, turns.

use super::super::stream::Phase;
use super::*;
use forebay_base::limits::{
    SENT_AHEAD_BYTES_MAX, STREAM_OUT_BYTES_MAX, STREAM_WINDOW_BYTES, TRUNK_AHEAD_BYTES_MAX, TRUNK_FRAME_BYTES_MAX,
};
use forebay_runtime::seam::seeds;

#[test]
fn each_stream_has_its_bytes_in_order_and_its_end_after_them() {
    for seed in seeds(200) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new();
        pair.owner.takes = random.bool().then(|| random.usize(1..5_000));
        let mut said: Vec<(ConnId, Vec<u8>)> = Vec::new();
        let mut closed = 0;
        for _ in 0..random.usize(1..60) {
            match random.u8(..10) {
                0 | 1 => said.push((pair.front.trunks.open(TRUNK).expect("a trunk"), Vec::new())),
                2 if !said.is_empty() => {
                    let (conn, _) = said[random.usize(..said.len())];
                    pair.front.trunks.close(conn);
                    closed += 1;
                }
                3 if !pair.owner.accepted.is_empty() => {
                    let conn = pair.owner.accepted[random.usize(..pair.owner.accepted.len())];
                    if random.bool() {
                        pair.owner.trunks.pause(conn, pair.owner.io.now);
                    } else {
                        pair.owner.trunks.resume(conn);
                    }
                }
                _ if !said.is_empty() => {
                    let at = random.usize(..said.len());
                    let (conn, bytes) = &mut said[at];
                    if pair.front.trunks.peek(*conn).is_some_and(|stream| stream.phase == Phase::Open) {
                        let from = bytes.len();
                        bytes.resize(from + random.usize(1..60_000), 0);
                        bytes[from..].iter_mut().for_each(|byte| *byte = random.u8(..));
                        pair.front.say(*conn, &bytes[from..]);
                    }
                }
                _ => {}
            }
            if random.bool() {
                pair.step(|most| random.usize(..=most));
            }
        }
        for conn in pair.owner.accepted.clone() {
            pair.owner.trunks.resume(conn);
        }
        pair.settle();
        for conn in pair.owner.accepted.clone() {
            pair.owner.trunks.resume(conn);
        }
        pair.settle();
        // Streams are announced in the order in which they were opened.
        let heard: Vec<&[u8]> = pair.owner.accepted.iter().map(|conn| pair.owner.heard(*conn)).collect();
        let expected: Vec<&[u8]> = said.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert!(heard == expected, "seed {seed}");
        let ended = pair.front.ended.values().filter(|why| *why == "Local").count();
        assert!(ended <= closed && ended == pair.owner.ended.len(), "seed {seed}: {ended} of {closed}");
        assert!(pair.owner.ended.values().all(|why| why == "Peer"), "seed {seed}");
        assert_eq!(pair.owner.trunks.held_bytes(), 0, "seed {seed}");
    }
}

#[test]
fn a_stream_that_is_not_read_holds_up_no_other() {
    let mut pair = Pair::new();
    let ((deaf, deaf_there), (other, other_there)) = (pair.stream(), pair.stream());
    pair.owner.trunks.pause(deaf_there, Monotonic(0));
    pair.front.say(deaf, &vec![1; 3 * STREAM_WINDOW_BYTES]);
    pair.front.trunks.tell_writable(deaf);
    for round in 1..=40 {
        pair.front.say(other, &[2; 10_000]);
        pair.settle();
        assert_eq!(pair.owner.heard(other_there).len(), round * 10_000, "credit comes back");
    }
    assert!(pair.owner.heard(deaf_there).is_empty());
    assert_eq!(pair.owner.trunks.held_bytes(), STREAM_WINDOW_BYTES);
    assert_eq!((pair.front.trunks.unsent(deaf), pair.front.trunks.unsent(other)), (2 * STREAM_WINDOW_BYTES, 0));
    assert!(pair.front.writable.is_empty());
    pair.owner.trunks.resume(deaf_there);
    pair.settle();
    assert_eq!(pair.owner.heard(deaf_there).len(), 3 * STREAM_WINDOW_BYTES);
    assert_eq!((pair.owner.trunks.held_bytes(), &pair.front.writable[..]), (0, &[deaf][..]));
}

#[test]
fn a_shard_that_takes_a_part_is_given_the_rest() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.owner.takes = Some(3);
    pair.front.say(conn, b"0123456789");
    pair.front.trunks.close(conn);
    pair.settle();
    assert_eq!((pair.owner.heard(there), pair.owner.ended[&there].as_str()), (&b"0123456789"[..], "Peer"));
}

/// A turn that has had its time takes what was read all the same, and the shard has it in the next one.
#[test]
fn bytes_wait_for_a_turn_with_time() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    for bytes in [&b"first"[..], b"second"] {
        pair.front.say(conn, bytes);
        pair.front.turn();
        let bytes = std::mem::take(&mut pair.front.io.out);
        let found = pair.owner.trunks.receive(TRUNK, &mut &bytes[..], (true, Monotonic(0)));
        assert!(matches!(found, Ok(None)));
    }
    assert_eq!((pair.owner.heard(there), pair.owner.trunks.held_bytes()), (&b""[..], 11));
    // Later bytes do not overtake these.
    pair.front.say(conn, b"third");
    pair.front.turn();
    let bytes = std::mem::take(&mut pair.front.io.out);
    pair.owner.receive(&bytes).expect("well formed");
    pair.owner.turn();
    assert_eq!((pair.owner.heard(there), pair.owner.trunks.held_bytes()), (&b"firstsecondthird"[..], 0));
}

#[test]
fn a_busy_stream_leaves_others_their_turn() {
    let mut pair = Pair::new();
    let ((busy, _), (other, _)) = (pair.stream(), pair.stream());
    pair.front.say(busy, &[1; STREAM_WINDOW_BYTES]);
    pair.front.say(other, &[2; 10]);
    pair.front.turn();
    let at = pair.front.io.out.windows(10).position(|bytes| bytes == [2; 10]);
    assert_eq!(at, Some(8 + TRUNK_FRAME_BYTES_MAX + 8));
}

#[test]
fn a_trunk_that_takes_nothing_has_little_to_take() {
    let mut pair = Pair::new();
    let all: Vec<ConnId> = (0..40).map(|_| pair.stream().0).collect();
    all.iter().for_each(|conn| pair.front.say(*conn, &[1; STREAM_WINDOW_BYTES]));
    for _ in 0..5 {
        pair.front.turn();
    }
    assert!(pair.front.io.is_told && pair.front.io.out.len() < TRUNK_AHEAD_BYTES_MAX + TRUNK_FRAME_BYTES_MAX + 100);
    let unsent: usize = all.iter().map(|conn| pair.front.trunks.unsent(*conn)).sum();
    assert!(unsent >= 40 * STREAM_WINDOW_BYTES - TRUNK_AHEAD_BYTES_MAX - TRUNK_FRAME_BYTES_MAX);
    pair.settle();
    assert!(pair.owner.accepted.iter().all(|conn| pair.owner.heard(*conn).len() == STREAM_WINDOW_BYTES));
}

/// A client of this instance that does not read is not read either.
#[test]
fn a_client_elsewhere_that_does_not_read_is_not_read() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.front.trunks.pause(conn, Monotonic(0));
    pair.owner.say(there, &vec![1; STREAM_OUT_BYTES_MAX + STREAM_WINDOW_BYTES + 1]);
    pair.settle();
    pair.front.say(conn, b"not now");
    pair.settle();
    assert!(pair.owner.heard(there).is_empty());
    pair.front.trunks.resume(conn);
    pair.settle();
    assert_eq!(pair.owner.heard(there), b"not now");
    assert_eq!(pair.front.heard(conn).len(), STREAM_OUT_BYTES_MAX + STREAM_WINDOW_BYTES + 1);
}

#[test]
fn violations_are_found() {
    let frames = |all: &[(u32, frame::Frame)]| {
        let mut bytes = Vec::new();
        all.iter().for_each(|(stream, frame)| frame.put(*stream, &mut bytes));
        bytes
    };
    use frame::Frame::{Credit, Data, Open};
    let mut pair = Pair::new();
    let (_, there) = pair.stream();
    assert!(pair.front.receive(&frames(&[(9, Open)])).is_err(), "only the front opens streams");
    assert!(pair.owner.receive(&frames(&[(0, Open)])).is_err(), "it is there");
    pair.owner.trunks.pause(there, Monotonic(0));
    let full = TRUNK_FRAME_BYTES_MAX as u32;
    let chunk = |bytes: u32| [frames(&[(0, Data(bytes))]), vec![0; bytes as usize]].concat();
    for _ in 0..STREAM_WINDOW_BYTES / TRUNK_FRAME_BYTES_MAX {
        assert!(pair.owner.receive(&chunk(full)).is_ok());
    }
    assert!(pair.owner.receive(&chunk(1)).is_err(), "there was no credit");
    let mut pair = Pair::new();
    pair.stream();
    assert!(pair.owner.receive(&frames(&[(0, Credit((1 << 24) - 1)), (0, Credit((1 << 24) - 1))])).is_err());
    assert!(pair.owner.receive(&frames(&[(7, Credit(1))])).is_ok(), "it may have ended here");
}

#[test]
fn what_a_traced_stream_is_sent_is_copied() {
    let mut pair = Pair::new();
    let (_, there) = pair.stream();
    pair.owner.trunks.trace(there, true);
    pair.owner.say(there, b"seen");
    pair.settle();
    let traced = pair.owner.trunks.take_traced();
    assert_eq!((traced.len(), traced[0].conn, &traced[0].bytes[..]), (1, there, &b"seen"[..]));
    assert!(pair.owner.trunks.take_traced().is_empty());
}

#[test]
fn room_is_told_once_it_is_there() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.owner.trunks.pause(there, Monotonic(0));
    pair.front.say(conn, &vec![1; STREAM_WINDOW_BYTES + SENT_AHEAD_BYTES_MAX / 2 + 1]);
    pair.front.trunks.tell_writable(conn);
    pair.settle();
    assert!(pair.front.writable.is_empty());
    pair.owner.trunks.resume(there);
    pair.settle();
    assert_eq!(pair.front.writable, [conn]);
}

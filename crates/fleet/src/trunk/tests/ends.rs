//! Ends of streams, and of trunks.

use std::io::ErrorKind;
use std::time::Duration;

use super::*;
use crate::trunk::ending::STAMPED_EVERY;
use forebay_base::limits::{STREAM_WINDOW_BYTES, TRUNK_STREAMS_MAX, TRUNK_STREAMS_OPENED};

#[test]
fn ends_of_each_kind() {
    // Closed after bytes, in both directions at once: what the one says after the other's end is of no interest.
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    pair.front.say(conn, b"bye");
    pair.front.trunks.close(conn);
    pair.owner.say(there, b"bye");
    pair.owner.trunks.close(there);
    pair.settle();
    assert_eq!((&pair.front.ended[&conn][..], &pair.owner.ended[&there][..]), ("Local", "Local"));
    // Aborted: what was not sent is dropped.
    let (conn, there) = pair.stream();
    pair.front.say(conn, b"dropped");
    pair.front.trunks.abort(conn);
    pair.settle();
    assert_eq!((&pair.front.ended[&conn][..], &pair.owner.ended[&there][..]), ("Local", "ConnectionReset"));
    assert!(pair.owner.heard(there).is_empty());
    // An id of it means nothing now.
    pair.front.say(conn, b"nobody");
    pair.front.trunks.close(conn);
    pair.settle();
    assert!(pair.front.trunks.unsent(conn) == 0 && pair.front.ended.len() == 2);
    // Turned to another shard.
    let (_, there) = pair.stream();
    pair.owner.trunks.reset(there, Reason::OtherShard(3));
    pair.settle();
    assert_eq!(pair.front.elsewhere, [Reason::OtherShard(3)]);
    assert_eq!(&pair.owner.ended[&there], "Local");
    // The number of a stream is not used again.
    let (_, there) = pair.stream();
    assert_eq!(pair.owner.trunks.peek(there).map(|stream| stream.number), Some(3));
}

#[test]
fn a_stream_that_is_closed_before_its_trunk_stands_was_never_there() {
    let (mut front, mut owner) = (Side::default(), Side::default());
    front.trunks.dial(TRUNK, destination(0), 0, (Monotonic(0), Monotonic(10_000_000_000)));
    let [gone, kept] = [(); 2].map(|()| front.trunks.open(TRUNK).expect("a trunk"));
    front.say(gone, b"gone");
    front.say(kept, b"kept");
    front.turn();
    assert!(front.io.out.is_empty());
    front.trunks.close(gone);
    front.trunks.opened(TRUNK);
    front.turn();
    owner.trunks.accept(TRUNK, 0, Monotonic(0));
    owner.receive(&front.io.out).expect("well formed");
    assert_eq!((owner.accepted.len(), owner.heard(owner.accepted[0])), (1, &b"kept"[..]));
    assert_eq!(&front.ended[&gone], "Local");
}

#[test]
fn a_trunk_that_breaks_ends_its_streams_after_their_bytes() {
    let mut pair = Pair::new();
    let all: Vec<(ConnId, ConnId)> = (0..3).map(|_| pair.stream()).collect();
    let (_, paused) = all[1];
    pair.owner.trunks.pause(paused, Monotonic(0));
    all.iter().for_each(|(conn, _)| pair.front.say(*conn, b"last"));
    pair.settle();
    pair.front.trunks.broke(TRUNK, &Closed::Error(ErrorKind::ConnectionRefused.into()), Monotonic(0));
    pair.owner.trunks.broke(TRUNK, &Closed::Peer, Monotonic(0));
    pair.front.turn();
    pair.owner.turn();
    assert!(all.iter().all(|(conn, _)| pair.front.ended[conn] == "ConnectionRefused"));
    assert_eq!((pair.owner.ended.len(), pair.owner.heard(paused)), (2, &b""[..]));
    pair.owner.trunks.resume(paused);
    pair.owner.turn();
    pair.owner.turn();
    assert_eq!((pair.owner.heard(paused), &pair.owner.ended[&paused][..]), (&b"last"[..], "Peer"));
    assert!(pair.owner.trunks.is_empty() && pair.front.trunks.find(&destination(0), 0, Monotonic(0)).is_none());
    // A trunk that does not get through.
    pair.front.trunks.dial(TRUNK, destination(0), 0, (Monotonic(0), Monotonic(10_000_000_000)));
    let conn = pair.front.trunks.open(TRUNK).expect("a trunk");
    pair.front.later(Duration::from_millis(1_999));
    assert!(pair.front.trunks.find(&destination(0), 0, pair.front.io.now).is_some());
    pair.front.later(Duration::from_millis(8_000));
    assert!(pair.front.trunks.find(&destination(0), 0, pair.front.io.now).is_none(), "another one may get through");
    assert_eq!(pair.front.io.closed, None);
    pair.front.later(Duration::from_millis(2));
    assert_eq!(pair.front.io.closed, Some("abort"));
    pair.front.trunks.broke(TRUNK, &Closed::Local, Monotonic(0));
    pair.front.turn();
    assert_eq!(&pair.front.ended[&conn], "TimedOut");
}

#[test]
fn what_is_not_read_to_its_end_ends_all_the_same() {
    let mut pair = Pair::new();
    let ((conn, there), (late, late_there)) = (pair.stream(), pair.stream());
    pair.owner.trunks.pause(there, Monotonic(0));
    pair.front.say(conn, b"unread");
    pair.front.trunks.close(conn);
    pair.settle();
    // A stream with bytes that wait for a turn, and that is paused then.
    pair.owner.takes = Some(1);
    pair.front.say(late, b"unread");
    pair.front.trunks.close(late);
    pair.front.turn();
    let bytes = std::mem::take(&mut pair.front.io.out);
    pair.owner.receive(&bytes).expect("well formed");
    pair.owner.trunks.pause(late_there, Monotonic(0));
    pair.owner.later(Duration::from_millis(4_999));
    assert!(pair.owner.ended.is_empty());
    pair.owner.later(Duration::from_millis(2));
    pair.owner.turn();
    assert_eq!((pair.owner.ended.len(), pair.owner.trunks.held_bytes()), (2, 0));
    // A stream that is closed while the other side takes nothing.
    let (conn, there) = pair.stream();
    pair.front.trunks.pause(conn, Monotonic(0));
    pair.owner.say(there, &vec![1; 2 * STREAM_WINDOW_BYTES]);
    pair.owner.trunks.close(there);
    pair.settle();
    pair.owner.later(Duration::from_millis(9_999));
    assert!(!pair.owner.ended.contains_key(&there));
    pair.owner.later(Duration::from_millis(2));
    pair.settle();
    assert_eq!(&pair.owner.ended[&there], "Local");
    pair.front.trunks.resume(conn);
    pair.settle();
    assert_eq!((pair.front.heard(conn).len(), &pair.front.ended[&conn][..]), (STREAM_WINDOW_BYTES, "ConnectionReset"));
}

#[test]
fn a_trunk_is_found_while_it_answers_and_closed_when_it_is_idle() {
    let mut pair = Pair::new();
    let find = |side: &Side, mark| side.trunks.find(&destination(0), mark, side.io.now);
    assert_eq!((find(&pair.front, 0), find(&pair.front, 1)), (Some(TRUNK), None));
    assert_eq!(pair.front.trunks.find(&destination(1), 0, Monotonic(0)), None);
    let later = Destination { incarnation: 2, ..destination(0) };
    assert_eq!(pair.front.trunks.find(&later, 0, Monotonic(0)), None, "another process has its place");
    let conn = pair.front.trunks.open(TRUNK).expect("a trunk");
    pair.front.turn();
    pair.front.later(Duration::from_millis(1_999));
    assert!(find(&pair.front, 0).is_some());
    pair.front.later(Duration::from_millis(2));
    assert!(find(&pair.front, 0).is_none(), "it has not answered");
    pair.settle();
    pair.owner.say(pair.owner.accepted[0], b"answer");
    pair.settle();
    assert!(find(&pair.front, 0).is_some());
    pair.front.later(Duration::from_secs(60));
    assert_eq!(pair.front.io.closed, None, "it has a stream");
    pair.front.trunks.close(conn);
    pair.settle();
    pair.front.later(Duration::from_secs(9));
    let (conn, _) = pair.stream();
    pair.front.trunks.close(conn);
    pair.settle();
    pair.front.later(Duration::from_secs(9));
    assert!(pair.front.io.closed.is_none() && find(&pair.front, 0).is_some());
    pair.front.later(Duration::from_secs(1));
    assert_eq!((pair.front.io.closed, find(&pair.front, 0)), (Some("close"), None));
    assert_eq!(pair.owner.io.closed, None, "its front closes it");
}

#[test]
fn a_trunk_that_is_wound_up_is_closed_after_its_streams() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    assert_eq!(pair.owner.trunks.wind_up(&mut pair.owner.io), [TRUNK]);
    pair.settle();
    assert_eq!(pair.owner.io.closed, None);
    pair.owner.say(there, b"goodbye");
    pair.owner.trunks.close(there);
    pair.owner.turn();
    assert_eq!(pair.owner.io.closed, Some("close"));
    let bytes = std::mem::take(&mut pair.owner.io.out);
    pair.front.receive(&bytes).expect("well formed");
    assert_eq!((pair.front.heard(conn), &pair.front.ended[&conn][..]), (&b"goodbye"[..], "Peer"));
    // A trunk that a changed certificate retires.
    let mut pair = Pair::new();
    let (conn, _) = pair.stream();
    pair.front.trunks.retire(TRUNK);
    assert!(pair.front.trunks.find(&destination(0), 0, Monotonic(0)).is_none());
    pair.settle();
    assert_eq!(pair.front.io.closed, None);
    pair.front.trunks.close(conn);
    pair.settle();
    assert_eq!(pair.front.io.closed, Some("close"));
}

#[test]
fn a_front_has_the_last_stamp_of_its_owner() {
    let mut pair = Pair::new();
    let (conn, there) = pair.stream();
    assert_eq!(pair.front.trunks.stamp_of(conn), None);
    pair.owner.later(Duration::ZERO);
    pair.settle();
    assert_eq!(pair.front.trunks.stamp_of(conn), Some(1), "0 is no credit");
    for ms in [500, 1_000] {
        pair.owner.later(STAMPED_EVERY);
        pair.settle();
        assert_eq!(pair.front.trunks.stamp_of(conn), Some(ms));
    }
    pair.owner.later(STAMPED_EVERY - Duration::from_millis(1));
    pair.settle();
    assert_eq!((pair.front.trunks.stamp_of(conn), pair.owner.trunks.stamp_of(there)), (Some(1_000), None));
    // Stamps begin again after 4.6 hours.
    let after = |ms: u64| Monotonic(ms * 1_000_000);
    assert_eq!(since_stamp(1_000, after(3_500)), Duration::from_millis(2_500));
    assert_eq!(since_stamp((1 << 24) - 100, after((1 << 24) + 200)), Duration::from_millis(300));
}

/// One side makes another trunk, and the other side ends one with more streams.
#[test]
fn finding_q65_a_trunk_has_so_many_streams() {
    let mut pair = Pair::new();
    let find = |pair: &Pair| pair.front.trunks.find(&destination(0), 0, Monotonic(0));
    for _ in 0..TRUNK_STREAMS_OPENED {
        assert_eq!(find(&pair), Some(TRUNK));
        pair.front.trunks.open(TRUNK).expect("a trunk");
    }
    assert_eq!((find(&pair), pair.front.trunks.streams()), (None, TRUNK_STREAMS_OPENED));
    let open = |number: u32| [&[1, 0, 0, 0][..], &number.to_be_bytes()].concat();
    let all: Vec<u8> = (0..).take(TRUNK_STREAMS_MAX).flat_map(open).collect();
    assert_eq!(pair.owner.receive(&all), Ok(()));
    assert_eq!(pair.owner.trunks.streams(), TRUNK_STREAMS_MAX);
    assert_eq!(pair.owner.receive(&open(1 << 20)), Err(Malformed("more streams than a trunk may have")));
    // Streams that have ended leave room.
    let mut pair = Pair::new();
    pair.owner.receive(&all).expect("as many");
    pair.owner.trunks.abort(pair.owner.accepted[0]);
    assert_eq!(pair.owner.receive(&open(1 << 20)), Ok(()));
}

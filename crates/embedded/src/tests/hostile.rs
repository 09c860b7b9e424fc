//! Hostile peers: false counts, lengths, versions, tags.

use std::io::Write;
use std::sync::atomic::Ordering::SeqCst;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::client::{Batch, Client, produce_request, request_frame};
use super::support::{log, settings};
use crate::EmbeddedLog;
use crate::guard::{self, Head, Shape};

/// A frame with a header of the classic or the flexible kind, and a body.
fn frame(api_key: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    if flexible {
        frame.put_u8(0);
    }
    frame.extend_from_slice(body);
    frame
}

fn send_raw(client: &mut Client, frame: &[u8]) {
    client.stream.write_all(&(frame.len() as i32).to_be_bytes()).unwrap();
    client.stream.write_all(frame).unwrap();
}

#[test]
fn counts_beyond_the_bytes_are_refused() {
    let huge = i32::MAX.to_be_bytes();
    let varint = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let produce = |count: &[u8]| [&[0xff, 0xff, 0, 1, 0, 0, 0, 0], count].concat();
    let fetch = |count: &[u8]| [&[0u8; 17][..], count].concat();
    let cases: &[(i16, i16, bool, Vec<u8>, Shape)] = &[
        (0, 3, false, produce(&huge), guard::PRODUCE),
        (0, 9, true, [&[0u8, 0, 1, 0, 0, 0, 0][..], &varint].concat(), guard::PRODUCE),
        (1, 4, false, fetch(&huge), guard::FETCH),
        (2, 1, false, [&[0u8; 4][..], &huge].concat(), guard::LIST_OFFSETS),
        (3, 1, false, huge.to_vec(), guard::METADATA),
        (3, 9, true, varint.to_vec(), guard::METADATA),
        (19, 2, false, huge.to_vec(), guard::CREATE_TOPICS),
        // The most tagged fields that a varint can state.
        (18, 3, true, [&[1u8, 1][..], &varint].concat(), guard::API_VERSIONS),
    ];
    let (log, _dir) = log();
    for (key, version, flexible, body, shape) in cases {
        let bytes = frame(*key, *version, *flexible, body);
        assert!(guard::check(&bytes, shape, *version).is_err(), "key {key} version {version}");
        let mut client = Client::connect(log.local_addr());
        send_raw(&mut client, &bytes);
        assert!(client.is_closed(), "key {key} version {version}");
    }
    assert_eq!(log.counters().requests_malformed.load(SeqCst), cases.len() as u64);
    assert_eq!(Client::connect(log.local_addr()).metadata(&[]).brokers.len(), 1, "it goes on");
}

#[test]
fn elements_are_bounded_even_if_they_are_there() {
    let mut body = BytesMut::new();
    body.put_i32(guard::ELEMENTS_MAX as i32 + 1);
    body.put_bytes(0, 2 * (guard::ELEMENTS_MAX + 1));
    assert!(guard::check(&frame(3, 1, false, &body), &guard::METADATA, 1).is_err());
    body[0..4].copy_from_slice(&(guard::ELEMENTS_MAX as i32).to_be_bytes());
    body.truncate(4 + 2 * guard::ELEMENTS_MAX);
    assert!(guard::check(&frame(3, 1, false, &body), &guard::METADATA, 1).is_ok());
}

#[test]
fn a_tag_that_the_decoder_reads_by_itself_does_not_pass() {
    // Fetch 12, tag 0 (cluster id) with a stated size of 0: decoder and walk would diverge after it.
    let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    body.extend_from_slice(&[1, 1, 1]);
    body.extend_from_slice(&[1, 0, 0]);
    assert!(guard::check(&frame(1, 12, true, &body), &guard::FETCH, 12).is_err());
    let unknown = body.len() - 2;
    body[unknown] = 9;
    assert!(guard::check(&frame(1, 12, true, &body), &guard::FETCH, 12).is_ok());
}

#[test]
fn unknown_requests_and_versions_close_the_connection() {
    let (log, _dir) = log();
    for (key, version) in [(0, 2), (0, 14), (1, 3), (1, 18), (3, 14), (3, -1), (11, 0), (999, 0), (-1, 0)] {
        let mut client = Client::connect(log.local_addr());
        send_raw(&mut client, &frame(key, version, false, &[]));
        assert!(client.is_closed(), "key {key} version {version}");
    }
}

#[test]
fn lengths_that_cannot_be_close_the_connection_before_anything_is_read() {
    let (log, _dir) = log();
    for length in [-1, 0, 7, i32::MAX, (16 << 20) + 1] {
        let mut client = Client::connect(log.local_addr());
        client.stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(client.is_closed(), "length {length}");
    }
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let request = produce_request(-1, &[("t", 0, &Batch::counted(2).bytes())]);
    for byte in request_frame(&request, 9, 2) {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.receive_frame().unwrap()[0..4], 2i32.to_be_bytes());
    assert_eq!(client.read_all("t", 0, 0).len(), 2);
}

/// A connection that was answered.
fn served(log: &EmbeddedLog) -> Option<Client> {
    let mut client = Client::connect(log.local_addr());
    let request = request_frame(&kafka_protocol::messages::ApiVersionsRequest::default(), 0, 1);
    let answer = client.stream.write_all(&request).and_then(|()| client.receive_frame());
    answer.is_ok().then_some(client)
}

fn is_served(log: &EmbeddedLog) -> bool {
    served(log).is_some()
}

#[test]
fn finding_s10_connections_that_only_stand_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.connections_max = 3;
    let log = EmbeddedLog::start(settings).unwrap();
    let mut asked: Vec<_> = (0..2).map(|_| Client::connect(log.local_addr())).collect();
    asked.iter_mut().for_each(|client| drop(client.metadata(&["t"])));
    let mut silent = Client::connect(log.local_addr());
    assert!(is_served(&log), "the place of the one that has never asked for anything");
    assert!(silent.is_closed());
    // The place of a closed connection is free, or becomes so.
    let newcomers = (0..2).map(|_| {
        let mut client = Client::connect(log.local_addr());
        client.metadata(&[]);
        client
    });
    let newcomers: Vec<_> = newcomers.collect();
    assert!(asked[0].is_closed(), "it has waited for longest");
    let closed = log.counters().connections_replaced.load(SeqCst);
    assert!((2..=3).contains(&closed), "{closed}");
    assert_eq!(log.counters().connections_refused.load(SeqCst), 0);
    drop(newcomers);
}

/// Waiting for records counts as waiting, too.
#[test]
fn finding_s10_connections_that_wait_for_records_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.connections_max = 3;
    let log = EmbeddedLog::start(settings).unwrap();
    let mut polling: Vec<_> = (0..3).map(|_| Client::connect(log.local_addr())).collect();
    for client in &mut polling {
        client.metadata(&["t"]);
        let request = super::client::fetch_request("t", 0, 0).with_max_wait_ms(30_000).with_min_bytes(1);
        client.send(&request, 12);
    }
    (0..20).for_each(|_| assert!(is_served(&log)));
    assert_eq!(log.counters().connections_refused.load(SeqCst), 0);
}

#[test]
fn finding_s10_a_connection_that_asks_for_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.first_request_timeout = std::time::Duration::from_millis(50);
    let log = EmbeddedLog::start(settings).unwrap();
    let mut asked = loop {
        if let Some(client) = served(&log) {
            break client;
        }
    };
    assert!(Client::connect(log.local_addr()).is_closed());
    asked.metadata(&[]);
}

#[test]
fn a_stalled_request_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.stall_timeout = std::time::Duration::from_millis(50);
    let log = EmbeddedLog::start(settings).unwrap();
    let mut client = Client::connect(log.local_addr());
    client.stream.write_all(&[0, 0, 1, 0, 0, 3]).unwrap();
    assert!(client.is_closed());
    // Finding S10: the bound also applies within the length field.
    let mut client = Client::connect(log.local_addr());
    client.stream.write_all(&[0, 0]).unwrap();
    assert!(client.is_closed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Every request that passes the walk decodes without a panic and without an absurd reservation.
    #[test]
    fn what_passes_the_guard_is_harmless(
        which in 0usize..8, version in 0i16..14, body in prop::collection::vec(prop_oneof![4 => Just(0u8), 2 => 1u8..9, 1 => any::<u8>()], 0..80),
    ) {
        let (key, shape, first, last) = [
            (0, guard::PRODUCE, 3, 13), (1, guard::FETCH, 4, 17), (2, guard::LIST_OFFSETS, 1, 10),
            (3, guard::METADATA, 0, 13), (10, guard::FIND_COORDINATOR, 0, 3), (18, guard::API_VERSIONS, 0, 3),
            (19, guard::CREATE_TOPICS, 2, 7), (22, guard::INIT_PRODUCER_ID, 0, 5),
        ][which];
        let version = version.clamp(first, last);
        let bytes = frame(key, version, version >= shape.flexible_from, &body);
        prop_assert!(Head::read(&bytes).is_ok());
        if let Ok(at) = guard::check(&bytes, &shape, version) {
            let left = decode(key, version, bytes[at..].to_vec().into());
            // The decoder may be stricter (UTF-8, nulls), but if both succeed they have read the same bytes.
            let expected = guard::walk(&bytes, &shape, version).map(|(_, left)| left);
            prop_assert!(left.is_none_or(|left| Ok(left) == expected), "{left:?} bytes left of {body:?}, key {key} version {version}");
        }
    }
}

fn decode(key: i16, version: i16, mut body: bytes::Bytes) -> Option<usize> {
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Decodable;
    let body = &mut body;
    let ok = match key {
        0 => ProduceRequest::decode(body, version).is_ok(),
        1 => FetchRequest::decode(body, version).is_ok(),
        2 => ListOffsetsRequest::decode(body, version).is_ok(),
        3 => MetadataRequest::decode(body, version).is_ok(),
        10 => FindCoordinatorRequest::decode(body, version).is_ok(),
        18 => ApiVersionsRequest::decode(body, version).is_ok(),
        19 => CreateTopicsRequest::decode(body, version).is_ok(),
        _ => InitProducerIdRequest::decode(body, version).is_ok(),
    };
    ok.then_some(body.len())
}

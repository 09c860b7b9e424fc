//! Requests to Kafka cut at every byte. What Kafka did not get whole it does not carry out; it is sent again on the
//! next connection, once.

use std::time::Duration;

use super::ONE_SINK;
use super::world::{World, publish};

/// Three rounds of messages with the link cut at this byte, counted from the start; whether there was such a byte.
fn cut_at(at: usize) -> bool {
    let mut world = World::with_cut(ONE_SINK, at);
    let device = world.device("device", 0);
    for round in 0..3_u16 {
        let mut bytes = Vec::new();
        (1..=4).for_each(|id| publish("t", id, &[round as u8, id as u8], &mut bytes));
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(5));
        let answers: Vec<u8> = (1..=4).flat_map(|id| [0x40, 2, 0, id]).collect();
        assert_eq!(world.sent(device), answers, "cut at {at}, round {round}");
    }
    let values: Vec<_> = world.broker.records.iter().map(|(.., value)| value.clone()).collect();
    let expected: Vec<_> = (0..3).flat_map(|round| (1..=4).map(move |id| vec![round, id])).collect();
    assert_eq!(values, expected, "cut at {at}");
    world.cut_at.is_none()
}

#[test]
fn requests_cut_at_every_byte() {
    let cuts = (0..).take_while(|at| cut_at(*at)).count();
    assert!(cuts > 500, "ApiVersions twice, Metadata, InitProducerId, Produce three times: {cuts} bytes");
}

//! `Producers` tests the table row by row; here the same rows are requested over the wire, with a restart in between.

use super::client::{Batch, Client, produce_request};
use super::support::{log, settings};
use crate::EmbeddedLog;

fn batch(epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
    Batch::counted(count).by(4_711, epoch, sequence).bytes()
}

fn answer(client: &mut Client, batch: &[u8]) -> (i16, i64) {
    let response = client.produce("t", 0, batch);
    (response.error_code, response.base_offset)
}

#[test]
fn the_table_over_the_wire_and_over_a_restart() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    // An id that was never assigned, with any first sequence.
    for n in 0..6 {
        assert_eq!(answer(&mut client, &batch(0, 1_000 + n * 10, 10)), (0, i64::from(n) * 10));
    }
    let same = |client: &mut Client| {
        for n in 1..6 {
            assert_eq!(answer(client, &batch(0, 1_000 + n * 10, 10)), (0, i64::from(n) * 10), "again {n}");
        }
        assert_eq!(answer(client, &batch(0, 1_000, 10)), (45, -1), "the sixth last");
        assert_eq!(answer(client, &batch(0, 1_050, 5)), (45, -1), "fewer records");
        assert_eq!(answer(client, &batch(0, 1_055, 10)), (45, -1), "overlap");
        assert_eq!(answer(client, &batch(0, 1_070, 10)), (45, -1), "gap");
    };
    same(&mut client);
    log.stop();
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    same(&mut client);
    drop(log);
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    same(&mut client);
    assert_eq!(answer(&mut client, &batch(0, 1_060, 10)), (0, 60), "the next one");
    assert_eq!(answer(&mut client, &batch(1, 0, 10)), (0, 70), "epoch + 1");
    assert_eq!(answer(&mut client, &batch(0, 1_070, 10)), (47, -1), "the old epoch");
    assert_eq!(client.read_all("t", 0, 0).len(), 80);
}

#[test]
fn checks_of_the_batch_come_before_duplicates_and_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let small = |max| {
        let mut settings = settings(dir.path());
        settings.message_bytes_max = max;
        EmbeddedLog::start(settings).unwrap()
    };
    let log = small(10_000);
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let large = Batch::of(&[&[1; 5_000]]).by(1, 0, 0).bytes();
    assert_eq!(answer(&mut client, &large), (0, 0));
    assert_eq!(answer(&mut client, &large), (0, 0));
    log.stop();
    let log = small(1_000);
    assert_eq!(answer(&mut Client::connect(log.local_addr()), &large), (10, -1));
}

#[test]
fn two_batches_of_a_partition_in_one_request_are_both_refused() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let (first, second) = (batch(0, 0, 10), batch(0, 10, 10));
    let response = client.call(&produce_request(-1, &[("t", 0, &first), ("t", 0, &second)]), 9);
    let codes: Vec<_> = response.responses.iter().map(|topic| topic.partition_responses[0].error_code).collect();
    assert_eq!(codes, [87, 87]);
    assert_eq!(answer(&mut client, &[first, second].concat()), (87, -1));
    assert_eq!(client.list_offset("t", 0, -1), (0, -1, 0));
}

#[test]
fn acks_0_and_1_know_duplicates_too() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let first = batch(0, 0, 10);
    for _ in 0..3 {
        client.send(&produce_request(0, &[("t", 0, &first)]), 9);
    }
    let response = client.call(&produce_request(1, &[("t", 0, &first)]), 9);
    let response = &response.responses[0].partition_responses[0];
    assert_eq!((response.error_code, response.base_offset), (0, 0));
    assert_eq!(client.list_offset("t", 0, -1), (0, -1, 10));
    // With acks=0, closing the connection is the only way to refuse.
    client.send(&produce_request(0, &[("t", 0, &batch(0, 50, 10))]), 9);
    assert!(client.is_closed());
}

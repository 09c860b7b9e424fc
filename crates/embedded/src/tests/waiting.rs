//! Fetch: minimum bytes and waiting times.

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;

use super::client::{Batch, Client, fetch_request};
use super::support::{log, settings};
use crate::EmbeddedLog;

const LONG: Duration = Duration::from_secs(20);

fn poll(min_bytes: i32) -> FetchRequest {
    fetch_request("t", 0, 0).with_max_wait_ms(LONG.as_millis() as i32).with_min_bytes(min_bytes)
}

#[test]
fn a_long_poll_ends_with_the_data_it_waits_for() {
    let (log, _dir) = log();
    let mut reader = Client::connect(log.local_addr());
    let mut producer = Client::connect(log.local_addr());
    producer.metadata(&["t"]);
    let batch = Batch::of(&[&[5; 100]]).bytes();
    let enough = batch.len() as i32 * 3;
    let start = Instant::now();
    reader.send(&poll(enough), 12);
    for offset in 0..3 {
        // Two batches are not enough: the answer would have to arrive before the third is even sent.
        reader.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        assert!(reader.stream.peek(&mut [0]).is_err(), "answered after {offset} batches");
        assert_eq!(producer.produce("t", 0, &batch).base_offset, offset);
    }
    reader.stream.set_read_timeout(Some(LONG * 2)).unwrap();
    let response = reader.receive::<FetchRequest>(12);
    assert!(start.elapsed() < LONG);
    assert_eq!(response.responses[0].partitions[0].records.as_ref().unwrap().len(), batch.len() * 3);
}

#[test]
fn a_long_poll_ends_with_its_time() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let start = Instant::now();
    let data = client.fetch_with("t", 0, 0, |request| request.with_max_wait_ms(80).with_min_bytes(1));
    assert!(start.elapsed() >= Duration::from_millis(80));
    assert_eq!((data.error_code, data.records.unwrap().len()), (0, 0));
    // The available batch is sent then, though it is smaller than requested.
    let batch = Batch::counted(1).bytes();
    client.produce("t", 0, &batch);
    let data = client.fetch_with("t", 0, 0, |request| request.with_max_wait_ms(10).with_min_bytes(10_000));
    assert_eq!(data.records.unwrap().len(), batch.len());
}

#[test]
fn an_error_or_the_end_of_the_log_ends_a_long_poll() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let wait = |request: FetchRequest| request.with_max_wait_ms(LONG.as_millis() as i32).with_min_bytes(1);
    let start = Instant::now();
    assert_eq!(client.fetch_with("t", 0, 5, wait).error_code, 1);
    assert_eq!(client.fetch_with("t", 7, 0, wait).error_code, 3);
    assert_eq!(client.fetch_with("nope", 0, 0, wait).error_code, 3);
    client.send(&poll(1), 12);
    // Another client's poll ends by its time-out: by then the first poll has been read, too.
    Client::connect(log.local_addr()).fetch_with("t", 0, 0, |request| request.with_max_wait_ms(50).with_min_bytes(1));
    let stop = std::thread::spawn(move || log.stop());
    let response = client.receive::<FetchRequest>(12);
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    stop.join().unwrap();
    assert!(start.elapsed() < LONG);
}

#[test]
fn bounds_hold_but_the_first_batch_always_goes_out() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let batch = Batch::of(&[&[5; 1_000]]).bytes();
    for _ in 0..10 {
        client.produce("t", 0, &batch);
    }
    let size = batch.len();
    let taken = |client: &mut Client, max_bytes: usize, partition_max: usize| {
        let data = client.fetch_with("t", 0, 3, |mut request| {
            request.topics[0].partitions[0].partition_max_bytes = partition_max as i32;
            request.with_max_bytes(max_bytes as i32).with_min_bytes(1).with_max_wait_ms(20_000)
        });
        data.records.unwrap().len()
    };
    assert_eq!(taken(&mut client, size * 2 + 10, 1 << 20), size * 2);
    assert_eq!(taken(&mut client, 1 << 20, size * 3), size * 3);
    assert_eq!(taken(&mut client, 10, 1 << 20), size);
    assert_eq!(taken(&mut client, 1 << 20, 0), size);
    assert_eq!(taken(&mut client, 0, 1 << 20), size);
    assert_eq!(taken(&mut client, 1 << 20, 1 << 20), size * 7);
}

#[test]
fn max_bytes_are_shared_by_the_partitions_of_a_request() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["a", "b"]);
    let batch = Batch::of(&[&[5; 1_000]]).bytes();
    for topic in ["a", "b"] {
        for _ in 0..4 {
            client.produce(topic, 0, &batch);
        }
    }
    let mut request = fetch_request("a", 0, 0);
    request.topics.extend(fetch_request("b", 0, 0).topics);
    let response = client.call(&request.with_max_bytes(batch.len() as i32 * 5), 12);
    let sizes: Vec<_> =
        response.responses.iter().map(|topic| topic.partitions[0].records.as_ref().unwrap().len()).collect();
    assert_eq!(sizes, [batch.len() * 4, batch.len()]);
}

#[test]
fn more_partitions_than_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.open_files_max = 3;
    settings.partitions_default = 12;
    settings.segment_bytes = 400;
    let log = EmbeddedLog::start(settings).unwrap();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    for n in 0..5 {
        for partition in 0..12 {
            assert_eq!(client.produce("t", partition, &Batch::counted(3).bytes()).base_offset, n * 3);
        }
    }
    let open =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let open = open.filter(|path| path.starts_with(dir.path().join("partitions"))).count();
    assert!(open <= 4, "{open} files open");
    for partition in 0..12 {
        assert_eq!(client.read_all("t", partition, 0).len(), 15);
    }
}

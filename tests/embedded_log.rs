//! The embedded log through its public door: a socket, a directory, a start and a stop.

#[path = "../crates/embedded/src/tests/client.rs"]
mod client;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use client::{Batch, Client, produce_request};
use forebay::embedded::{EmbeddedLog, Settings, StartError};

fn start(dir: &Path) -> EmbeddedLog {
    let mut settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), dir);
    settings.partitions_default = 2;
    settings.segment_bytes = 4_000;
    EmbeddedLog::start(settings).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut paths: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Segments last: a note of what is synced stands beside no older segment after any crash.
    paths.sort_by_key(|path| path.extension().is_some_and(|of| of == "segment"));
    for path in paths {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

fn batch(sequence: i32) -> Vec<u8> {
    let values: Vec<_> = (0..3).map(|n| format!("record {}", sequence + n).into_bytes()).collect();
    Batch::of(&values.iter().map(Vec::as_slice).collect::<Vec<_>>()).by(1, 0, sequence).bytes()
}

fn expected(count: usize) -> Vec<(i64, Vec<u8>)> {
    (0..count).map(|n| (n as i64, format!("record {n}").into_bytes())).collect()
}

#[test]
fn what_was_answered_is_there_after_a_stop_and_after_a_sudden_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut sequence = 0;
    for round in 0..6 {
        let log = start(dir.path());
        let mut client = Client::connect(log.local_addr());
        assert_eq!(client.metadata(&["t"]).topics[0].partitions.len(), 2);
        assert_eq!(client.read_all("t", 1, 0), expected(sequence as usize));
        for _ in 0..20 {
            let answer = client.produce("t", 1, &batch(sequence));
            assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
            sequence += 3;
        }
        if round % 2 == 0 { log.stop() } else { drop(log) }
    }
    let log = start(dir.path());
    let mut client = Client::connect(log.local_addr());
    assert_eq!(client.read_all("t", 1, 0), expected(360));
    assert_eq!(client.read_all("t", 0, 0), []);
    assert_eq!(client.list_offset("t", 1, -1), (0, -1, 360));
    assert!(fs::read_dir(dir.path().join("partitions/t-1")).unwrap().count() > 3, "over several segments");
}

/// A copy of the directory taken while producers write is what a crash may leave: parts of batches, and nothing beyond.
#[test]
fn a_copy_taken_in_mid_flight_starts_and_holds_all_that_was_answered_before() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    let address = log.local_addr();
    Client::connect(address).metadata(&["t"]);
    let writer = thread::spawn(move || {
        let mut client = Client::connect(address);
        for n in 0..400 {
            assert_eq!(client.produce("t", 0, &batch(n * 3)).error_code, 0);
        }
    });
    for _ in 0..10 {
        let answered = Client::connect(address).list_offset("t", 0, -1).2 as usize;
        let crashed = tempfile::tempdir().unwrap();
        copy(dir.path(), crashed.path());
        let log = start(crashed.path());
        let mut client = Client::connect(log.local_addr());
        let all = client.read_all("t", 0, 0);
        assert!(all.len() >= answered, "{} of {answered}", all.len());
        assert_eq!(all, expected(all.len()), "in order, none twice, none torn");
        let again = client.produce("t", 0, &batch(all.len() as i32));
        assert_eq!((again.error_code, again.base_offset), (0, all.len() as i64), "the producer goes on");
        assert_eq!(log.counters().recovery_holes.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
    writer.join().unwrap();
    assert_eq!(Client::connect(address).read_all("t", 0, 0), expected(1_200));
}

#[test]
fn many_clients_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path());
    let address = log.local_addr();
    let clients: Vec<_> = (0..16)
        .map(|id| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                client.metadata(&["a", "b"]);
                for n in 0..20 {
                    let batch = Batch::counted(5).by(id, 0, n * 5).bytes();
                    let request = produce_request(-1, &[("a", 0, &batch), ("b", 1, &batch)]);
                    for topic in client.call(&request, 9).responses {
                        assert_eq!(topic.partition_responses[0].error_code, 0);
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let mut client = Client::connect(address);
    assert_eq!(client.metadata(&[]).brokers.len(), 1);
    assert_eq!(client.read_all("a", 0, 0).len(), 16 * 20 * 5);
    assert_eq!(client.read_all("b", 1, 0).len(), 16 * 20 * 5);
    log.stop();
}

#[test]
fn a_start_that_cannot_be_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = EmbeddedLog::start(Settings::new(taken.local_addr().unwrap(), dir.path())).unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }));
    assert!(error.to_string().contains("embedded.bind"), "{error}");

    let running = start(dir.path());
    let error = EmbeddedLog::start(Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), dir.path())).unwrap_err();
    assert!(matches!(error, StartError::Locked(_)));
    assert!(error.to_string().contains("service.data_dir"), "{error}");
    let address = running.local_addr();
    running.stop();
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens after a stop");
    drop(start(dir.path()));

    fs::write(dir.path().join("node.json"), r#"{"format":2,"cluster_id":"x"}"#).unwrap();
    let error = EmbeddedLog::start(Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), dir.path())).unwrap_err();
    assert!(error.to_string().contains("node.json"), "{error}");
    // What cannot be read at all stops no start.
    fs::write(dir.path().join("node.json"), "{").unwrap();
    drop(start(dir.path()));
    assert_eq!(fs::read_to_string(dir.path().join("node.json.damaged")).unwrap(), "{");
}

//! The end in the middle of the work: what has been acknowledged is there afterwards, every time; after a SIGTERM that
//! and nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use forebay::mqtt::packet::{PacketType, QoS};

use crate::device::{Device, Heard, VERSIONS};
use crate::process::until;
use crate::records::read;
use crate::support::service::{Service, config_with};
use crate::support::{run, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nlinger = \"1ms\"\n";
const CLIENTS: usize = 4;

/// By client and cycle.
type By<T> = HashMap<(String, usize), T>;

/// Publishes numbers, ten at a time, until the connection ends; gives the last number that was answered.
fn publish_to_the_end(to: SocketAddr, client: usize, cycle: usize, answered: &AtomicUsize) -> usize {
    let name = format!("client {client}");
    let mut device = Device::connect(to, VERSIONS[client % 3], &name);
    let (mut sent, mut heard) = (0, 0);
    loop {
        while sent < heard + 10 {
            sent += 1;
            let text = format!("{cycle} {sent}");
            device.try_publish(QoS::AtLeastOnce, sent as u16, &name, text.as_bytes());
        }
        match device.hear() {
            Heard::Answer(PacketType::PubAck, id, 0) => {
                heard += 1;
                assert_eq!(usize::from(id), heard, "in the order of receipt");
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Heard::Disconnect(0x8B) => {}
            Heard::Closed => return heard,
            other => panic!("{other:?}"),
        }
    }
}

/// Lets clients publish, ends the service in the middle of it, and gives how many messages of each were answered.
fn cycle(service: &mut Service, cycle: usize, end: impl Fn(&mut Service)) -> By<usize> {
    let (to, answered) = (service.mqtt(), Arc::new(AtomicUsize::new(0)));
    let client = |client| {
        let answered = Arc::clone(&answered);
        std::thread::spawn(move || publish_to_the_end(to, client, cycle, &answered))
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    until("enough to be acknowledged", || answered.load(Ordering::Relaxed) >= 200 + 100 * cycle);
    end(service);
    let answered = |(client, thread): (usize, JoinHandle<usize>)| {
        ((format!("client {client}"), cycle), thread.join().expect("a client"))
    };
    clients.into_iter().enumerate().map(answered).collect()
}

/// The numbers of each in Kafka, from 1 without a gap and each once.
fn recorded(service: &Service) -> By<usize> {
    let mut counts: By<usize> = HashMap::new();
    for record in read(service.embedded(), "all") {
        let (cycle, number) = record.text().split_once(' ').expect("two numbers");
        let whose = (record.key.clone(), cycle.parse().expect("a cycle"));
        let count = counts.entry(whose).or_default();
        *count += 1;
        assert_eq!(number.parse(), Ok(*count), "in order, each once: {record:?}");
    }
    counts
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let mut service = Service::start(&config_with("shards = 2", SINK));
    let mut acknowledged: By<usize> = HashMap::new();
    for n in 0..4 {
        acknowledged.extend(cycle(&mut service, n, Service::kill9));
        service.start_again();
        let recorded = recorded(&service);
        for (whose, count) in &acknowledged {
            let there = recorded.get(whose).copied().unwrap_or(0);
            assert!(there >= *count, "{whose:?}: {count} acknowledged, {there} there");
        }
    }
    assert!(service.terminate().success());
}

#[test]
fn exactly_what_was_acknowledged_is_there_after_every_drain() {
    let mut service = Service::start(&config_with("shards = 2", SINK));
    let mut acknowledged: By<usize> = HashMap::new();
    for n in 0..4 {
        let drain = |service: &mut Service| assert!(service.terminate().success(), "{}", service.log());
        acknowledged.extend(cycle(&mut service, n, drain));
        service.start_again();
        assert_eq!(recorded(&service), acknowledged);
    }
}

/// At `stored` the disk answers, not Kafka: what it has of a process that was killed comes to Kafka from the next one, each
/// message once, in order.
#[test]
fn what_was_stored_comes_to_kafka_after_every_kill() {
    assert!(stored_and_killed(4).terminate().success());
}

/// A service that was killed that often, and runs again.
pub(crate) fn stored_and_killed(kills: usize) -> Service {
    let sink = format!("[spool]\nbytes_max = \"256MiB\"\n{SINK}");
    let mut service = Service::start(&config_with("shards = 2", &sink));
    let mut acknowledged: By<usize> = HashMap::new();
    for n in 0..kills {
        acknowledged.extend(cycle(&mut service, n, Service::kill9));
        service.start_again();
        until("all that was answered to be in Kafka", || {
            let recorded = recorded(&service);
            acknowledged.iter().all(|(whose, count)| recorded.get(whose).is_some_and(|there| there >= count))
        });
    }
    service
}

/// Keys and passwords do not get to a disk with the memory of a process that ends.
#[test]
fn finding_w6_a_process_that_aborts_leaves_no_core() {
    // With the sandbox, or without the limit, there would be none anyway.
    let mut service = Service::start(&config_with("sandbox = false", SINK));
    let limit = format!("--pid={}", service.pid());
    run(tool("prlimit").args([limit.as_str(), "--core=unlimited"]));
    service.signal("ABRT");
    let status = service.wait();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{status}");
}

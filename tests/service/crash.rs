//! kill -9: what has been acknowledged is there afterwards, every time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::mqtt::packet::{PacketType, QoS};

use crate::device::{Device, Heard, VERSIONS};
use crate::process::until;
use crate::records::read;
use crate::support::service::{Service, config_with};

/// Publishes numbers, ten at a time, until the connection breaks; gives the last number that was answered.
fn publish_until_killed(to: SocketAddr, client: usize, cycle: usize, answered: &AtomicUsize) -> usize {
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
            Heard::Closed => return heard,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    const CLIENTS: usize = 4;
    let mut service = Service::start(&config_with(
        "shards = 2",
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nlinger = \"1ms\"\n",
    ));
    let mut acknowledged: HashMap<(String, usize), usize> = HashMap::new();
    for cycle in 0..4 {
        let (to, answered) = (service.mqtt(), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let answered = Arc::clone(&answered);
                std::thread::spawn(move || publish_until_killed(to, client, cycle, &answered))
            })
            .collect();
        until("enough to be acknowledged", || answered.load(Ordering::Relaxed) >= 200 + 100 * cycle);
        service.kill9();
        for (client, thread) in clients.into_iter().enumerate() {
            acknowledged.insert((format!("client {client}"), cycle), thread.join().expect("a client"));
        }
        service.start_again();
        let mut recorded: HashMap<(String, usize), Vec<usize>> = HashMap::new();
        for record in read(service.embedded(), "all") {
            let (cycle, number) = record.text().split_once(' ').expect("two numbers");
            let (cycle, number) = (cycle.parse().expect("a cycle"), number.parse().expect("a number"));
            recorded.entry((record.key, cycle)).or_default().push(number);
        }
        for (whose, count) in &acknowledged {
            let numbers = recorded.get(whose).map_or(&[][..], Vec::as_slice);
            assert!(numbers.len() >= *count, "{whose:?}: {count} acknowledged, {} there", numbers.len());
            assert!(numbers.iter().copied().eq(1..=numbers.len()), "{whose:?}: in order, each once");
        }
    }
    assert!(service.terminate().success());
}

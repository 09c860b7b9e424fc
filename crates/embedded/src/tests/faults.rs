//! Tests that each scripted fault happens to the requests that its step names, and to no others.

use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, ProduceRequest};

use super::client::{Batch, Client, produce_request};
use super::support::settings;
use crate::EmbeddedLog;
use crate::faults::{Fault, Script, Step};

struct Rig {
    script: Script,
    client: Client,
    log: EmbeddedLog,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// A log with topic `t` and an empty script.
    fn new() -> Rig {
        let (script, dir) = (Script::new(), tempfile::tempdir().unwrap());
        let mut settings = settings(dir.path());
        settings.partitions_default = 2;
        settings.faults = Some(script.clone());
        let log = EmbeddedLog::start(settings).unwrap();
        let mut client = Client::connect(log.local_addr());
        client.metadata(&["t", "u"]);
        Rig { script, client, log, _dir: dir }
    }

    fn produce(&mut self) -> i16 {
        self.client.produce("t", 0, &Batch::of(&[b"x"]).bytes()).error_code
    }

    /// Number of values in `t`.
    fn stored(&self) -> usize {
        Client::connect(self.log.local_addr()).read_all("t", 0, 0).len()
    }
}

#[test]
fn steps_are_used_in_order_and_then_all_is_well() {
    let mut rig = Rig::new();
    rig.script.add(Step::new(ApiKey::Produce, Fault::Error(6)).times(2));
    rig.script.add(Step::new(ApiKey::Produce, Fault::ErrorAfter(20)).spare(1));
    let codes: Vec<i16> = (0..5).map(|_| rig.produce()).collect();
    assert_eq!(codes, [6, 6, 0, 20, 0]);
    assert_eq!((rig.script.left(), rig.script.done(), rig.script.seen(ApiKey::Produce)), (0, 3, 5));
    assert_eq!(rig.stored(), 3, "what was answered with 20 is there");
    rig.script.add(Step::new(ApiKey::Produce, Fault::Error(19)).always());
    assert_eq!([rig.produce(), rig.produce()], [19, 19]);
    rig.script.clear();
    assert_eq!(rig.produce(), 0);
}

#[test]
fn an_error_is_for_the_partition_that_it_names() {
    let mut rig = Rig::new();
    rig.script.add(Step::new(ApiKey::Produce, Fault::Error(7)).of_topic("t").of_partition(1).always());
    let one = Batch::of(&[b"x"]).bytes();
    let request = produce_request(-1, &[("t", 0, &one), ("t", 1, &one), ("u", 1, &one)]);
    let answer = rig.client.call::<ProduceRequest>(&request, 9);
    let mut codes: Vec<_> = answer
        .responses
        .iter()
        .flat_map(|topic| {
            topic.partition_responses.iter().map(|data| (topic.name.to_string(), data.index, data.error_code))
        })
        .collect();
    codes.sort();
    assert_eq!(codes, [("t".into(), 0, 0), ("t".into(), 1, 7), ("u".into(), 1, 0)]);
    assert_eq!(rig.stored(), 1);
    let one = Batch::of(&[b"x"]).bytes();
    assert_eq!(rig.client.produce("t", 1, &one).error_code, 7);
}

#[test]
fn answers_are_cut_where_it_says_and_what_was_asked_is_done() {
    let mut rig = Rig::new();
    assert_eq!(rig.produce(), 0);
    let len = rig.script.answer_bytes(ApiKey::Produce);
    for cut in [0, 1, 4, 7, len - 1] {
        rig.script.add(Step::new(ApiKey::Produce, Fault::CutAnswer(cut)));
        rig.client.send(&produce_request(-1, &[("t", 0, &Batch::of(&[b"x"]).bytes())]), 9);
        assert!(rig.client.receive_frame().is_err(), "{cut}");
        rig.client = Client::connect(rig.log.local_addr());
    }
    assert_eq!(rig.stored(), 6);
    rig.script.add(Step::new(ApiKey::Produce, Fault::Close));
    rig.client.send(&produce_request(-1, &[("t", 0, &Batch::of(&[b"x"]).bytes())]), 9);
    assert!(rig.client.is_closed());
    assert_eq!(rig.stored(), 6, "closed before");
}

#[test]
fn answers_lie_as_they_are_told() {
    let mut rig = Rig::new();
    let mut raw = |fault: Fault| {
        rig.script.add(Step::new(ApiKey::InitProducerId, fault));
        rig.client.send(&InitProducerIdRequest::default(), 4);
        rig.client.receive_frame().unwrap()
    };
    let right = raw(Fault::Throttle(0));
    let wrong = raw(Fault::Correlation(5));
    let id = |frame: &[u8]| i32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(id(&wrong), id(&right) + 1 + 5);
    assert_eq!(&raw(Fault::Garbage(vec![9, 9]))[4..], [9, 9]);
    assert_eq!(raw(Fault::Throttle(300))[5..9], 300i32.to_be_bytes());
    assert_eq!(raw(Fault::Error(14))[9..11], 14i16.to_be_bytes());
    rig.script.add(Step::new(ApiKey::Metadata, Fault::Broker("elsewhere".into(), 7)));
    let answer = rig.client.metadata(&["t"]);
    assert_eq!((answer.brokers[0].host.as_str(), answer.brokers[0].port), ("elsewhere", 7));
    rig.script.add(Step::new(ApiKey::Metadata, Fault::NoLeader));
    assert_eq!(rig.client.metadata(&["t"]).topics[0].partitions[0].leader_id.0, -1);
    rig.script.add(Step::new(ApiKey::Metadata, Fault::Error(29)).of_topic("t"));
    let answer = rig.client.metadata(&["t", "u"]);
    assert_eq!(answer.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [29, 0]);
}

#[test]
fn what_is_late_is_done_although_nobody_waits() {
    let mut rig = Rig::new();
    rig.script.add(Step::new(ApiKey::Produce, Fault::Late(Duration::from_millis(50))));
    rig.client.send(&produce_request(-1, &[("t", 0, &Batch::of(&[b"x"]).bytes())]), 9);
    let begun = Instant::now();
    while rig.script.done() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    rig.client = Client::connect(rig.log.local_addr());
    while rig.stored() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
}

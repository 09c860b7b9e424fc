//! Faults that hard use of sources has found.

use forebay::mqtt::packet::{Connect, QoS, Version};
use serde_json::json;

use crate::change::{change, get};
use crate::device::{Device, Heard};
use crate::kafka_client::Client;
use crate::process::{metric, until, until_metric};
use crate::sources::{committed, make_topic, next, source, subscriber, write, write_when_there};
use crate::support::kafka::shared;
use crate::support::service::{Service, config};

const GROUP: &str = "forebay-commands";

/// Parked messages go to a new member of an existing share, even if it joins at the moment when the last member leaves.
#[test]
fn members_of_a_share_that_is_there_get_what_waits() {
    const ROUNDS: usize = 60;
    let service = Service::start(&config(&source("no_subscriber = \"wait\"\nwindow_messages = 40")));
    let member = || {
        let mut device = Device::connect(service.mqtt(), Version::V5, "");
        assert_eq!(device.subscribe(&[("$share/g/t/1", QoS::AtLeastOnce)]), [1]);
        device
    };
    let mut before = member();
    write_when_there(&service, &["0"]);
    for round in 1..=ROUNDS {
        // What the one has not acknowledged is for the other, which comes at about the moment at which the first one goes.
        assert!(matches!(before.hear(), Heard::Message(..)), "{round}");
        let going = std::thread::spawn(move || before.vanish());
        let mut after = member();
        going.join().expect("it goes");
        assert_eq!(next(&mut after), (round - 1).to_string());
        write(service.embedded(), "commands", &[&round.to_string()]);
        before = after;
    }
    assert_eq!(next(&mut before), ROUNDS.to_string());
    until("all to be committed", || committed(service.embedded(), GROUP) == ROUNDS as i64 + 1);
    assert_eq!(metric(&service, "source_messages_lost_total"), 0, "what waits is not lost");
}

/// The place that a reset leads to is the group's at once, and not with the next record: a process that starts before one comes goes on there.
#[test]
fn the_place_after_a_reset_is_committed() {
    let latest = source("").replace("\"earliest\"", "\"latest\"");
    let service = Service::start(&config(&latest));
    make_topic(&service);
    let mut device = subscriber(&service, Version::V5, "");
    until_metric(&service, "source_assigned_partitions", 4);
    until("the start to be committed", || committed(service.embedded(), GROUP) == 0);
    write(service.embedded(), "commands", &["a", "b", "c"]);
    assert_eq!([(); 3].map(|()| next(&mut device)), ["a", "b", "c"]);
    until("all to be committed", || committed(service.embedded(), GROUP) == 3);
    let beyond = json!({ "to": 99_999, "partition": 0 });
    assert_eq!(change(&service, "POST", "sources/commands/seek", &beyond).0, 200);
    until_metric(&service, "source_resets_total", 1);
    until("the place to be committed", || committed(service.embedded(), GROUP) == 3);
}

/// A place that an operator has asked for is the group's, though the service stops before it is found.
#[test]
fn a_seek_before_a_stop_is_committed() {
    let mut service = Service::start(&config(&source("no_subscriber = \"wait\"")));
    write_when_there(&service, &["a"]);
    for _ in 0..6 {
        let mut device = subscriber(&service, Version::V5, "");
        assert_eq!(next(&mut device), "a");
        until("it to be committed", || committed(service.embedded(), GROUP) == 1);
        drop(device);
        assert_eq!(change(&service, "POST", "sources/commands/seek", &json!({ "to": "earliest" })).0, 200);
        service.signal("TERM");
        assert!(service.wait().success());
        service.start_again();
        // Nobody has subscribed yet: what is read from there on waits.
        until_metric(&service, "source_parked_messages", 1);
    }
}

/// The state of a fenced source is `trouble`, with the reason.
#[test]
fn a_source_that_was_fenced_says_why_it_reads_nothing() {
    let kafka = shared();
    let address = kafka.split(',').next().expect("an address").parse().expect("an address");
    until("the topic to be there", || Client::connect(address).metadata(&["testtopic-out"]).topics[0].error_code == 0);
    let group = format!("fenced-{}", std::process::id());
    let text = format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"commands\"\ntopic = \"testtopic-out\"\nmqtt_topic = \"t/1\"\ngroup = \"{group}\"\n\
         group_instance = \"one\"\n"
    );
    let first = Service::start(&config(&text));
    until("its partitions to be read", || metric(&first, "source_assigned_partitions") > 0);
    let _second = Service::start(&config(&text));
    until_metric(&first, "source_group_trouble", 1);
    let shown = get(&first, "sources/commands");
    assert_eq!(shown["state"], "trouble", "{shown:#}");
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("`group_instance`")), "{shown:#}");
}

/// How far a log goes is known of a partition that is not read as well: that is when it matters.
#[test]
fn the_lag_of_a_partition_that_stands_grows() {
    let service = Service::start(&config(&source("window_messages = 10\nno_subscriber = \"wait\"")));
    let values: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    write_when_there(&service, &values);
    until_metric(&service, "source_lag_records", 10);
    for _ in 0..5 {
        write(service.embedded(), "commands", &values);
    }
    until_metric(&service, "source_lag_records", 110);
}

/// A kept session that is away is somebody: nothing is parked for another.
#[test]
fn what_a_member_that_is_away_keeps_is_not_lost() {
    let service = Service::start(&config(&source("no_subscriber = \"wait\"")));
    let kept = || Connect { clean_start: false, ..crate::device::hello(Version::V311, "kept") };
    let mut device = Device::connect_as(service.mqtt(), &kept()).0;
    assert_eq!(device.subscribe(&[("t/1", QoS::AtLeastOnce)]), [1]);
    device.vanish();
    write_when_there(&service, &["a"]);
    until("it to be committed or open", || metric(&service, "source_records_total") == 1);
    let mut device = Device::connect_as(service.mqtt(), &kept()).0;
    assert_eq!(next(&mut device), "a");
    assert_eq!(metric(&service, "source_messages_lost_total"), 0);
}

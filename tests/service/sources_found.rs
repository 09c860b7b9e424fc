//! Faults that hard use of sources has found.

use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Connect, QoS, Version};
use kafka_protocol::messages::DeleteTopicsRequest;
use serde_json::json;

use crate::change::{change, get};
use crate::device::{Device, Heard};
use crate::kafka_client::Client;
use crate::process::{metric, until, until_metric};
use crate::sources::{committed, make_topic, next, source, subscriber, write, write_when_there};
use crate::sources_admin::forebay;
use crate::support::kafka::shared;
use crate::support::service::{Service, config};

const GROUP: &str = "forebay-commands";

/// A share that has only what its last member left is there all the same: a new member gets that, and what was parked meanwhile.
#[test]
fn a_new_member_of_a_share_gets_what_was_parked_while_it_had_none() {
    let service = Service::start(&config(&source("no_subscriber = \"wait\"")));
    let member = || {
        let mut device = Device::connect(service.mqtt(), Version::V5, "");
        assert_eq!(device.subscribe(&[("$share/g/t/1", QoS::AtLeastOnce)]), [1]);
        device
    };
    let mut first = member();
    write_when_there(&service, &["a"]);
    assert!(matches!(first.hear(), Heard::Message(..)));
    first.vanish();
    until_metric(&service, "subscriptions", 0);
    write(service.embedded(), "commands", &["b"]);
    until_metric(&service, "source_records_total", 2);
    let mut second = member();
    let mut heard = [next(&mut second), next(&mut second)];
    heard.sort();
    assert_eq!(heard, ["a", "b"]);
    until("all to be committed", || committed(service.embedded(), GROUP) == 2);
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
    let event = get(&first, "events?kind=source_group_lost")["events"][0].clone();
    assert_eq!(event["reason"], shown["reason"], "the same words");
}

/// A source is a static member by default: after each of several kills its records come at once, not after the group's session timeout.
/// An orderly stop leaves the group: another process has the partitions at once.
#[test]
fn finding_q9_a_source_reads_at_once_after_a_kill() {
    let kafka = shared();
    let address = kafka.split(',').next().expect("an address").parse().expect("an address");
    let topic = format!("killed-{}", std::process::id());
    until("the topic to be there", || Client::connect(address).metadata(&[&*topic]).topics[0].error_code == 0);
    let text = config(&format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"{topic}\"\ntopic = \"{topic}\"\nmqtt_topic = \"t/1\"\n\
         payload = \"${{value}}\"\noffset_reset = \"earliest\"\nno_subscriber = \"wait\"\ncommit_interval = \"100ms\"\n"
    ));
    let mut service = Service::start(&text);
    let hears = |service: &Service, value: &str| {
        let begun = Instant::now();
        let mut device = subscriber(service, Version::V5, "");
        while next(&mut device) != value {}
        println!("{value} after {:?}", begun.elapsed());
        // Three seconds, and what a busy machine takes. The session timeout is 45 s.
        assert!(begun.elapsed() < Duration::from_secs(12), "{value} came after {:?}", begun.elapsed());
    };
    write(address, &topic, &["0"]);
    hears(&service, "0");
    for kill in 1..4 {
        service.kill9();
        let value = kill.to_string();
        write(address, &topic, &[&value]);
        service.start_again();
        hears(&service, &value);
    }
    service.signal("TERM");
    assert!(service.wait().success());
    write(address, &topic, &["last"]);
    hears(&Service::start(&text), "last");
}

/// Records that had no subscriber are in a column, with the reason, and an event.
#[test]
fn finding_q33_records_without_a_subscriber_are_shown() {
    let service = Service::start(&config(&source("start_grace = \"0s\"")));
    write_when_there(&service, &["a", "b", "c"]);
    until_metric(&service, "source_messages_total{result=\"no_subscriber\"}", 3);
    until("an event", || {
        let events = get(&service, "events?kind=source_messages_dropped")["events"].clone();
        let reason = events[0]["reason"].as_str().unwrap_or_default().to_owned();
        events[0]["source"] == "commands" && reason.contains("had no subscriber")
    });
    let (text, works) = forebay(&service, &["sources"]);
    assert!(works && text.contains("DROPPED"), "{text}");
    assert!(text.contains("commands: dropped: 3 had no subscriber"), "{text}");
}

/// Damage in an older segment of the embedded log, and a newest segment that is gone, are events, and a source goes on behind them.
#[test]
fn finding_q17_a_source_goes_on_behind_damage_of_the_embedded_log() {
    let text = config(&format!("segment_bytes = \"1MiB\"\n{}", source("no_subscriber = \"wait\"\ngroup = \"\"")));
    let mut service = Service::start(&text);
    make_topic(&service);
    let value = |number: u32| format!("{number:05}{}", "x".repeat(50_000));
    for number in 0..80 {
        write(service.embedded(), "commands", &[&value(number)]);
    }
    service.signal("TERM");
    assert!(service.wait().success());
    let dir = service.dir().join("data/log/partitions/commands-0");
    let mut segments: Vec<_> =
        std::fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|is| is == "segment"));
    segments.sort();
    assert!(segments.len() > 3, "{segments:?}");
    // Within the payload of the second record.
    let mut bytes = std::fs::read(&segments[0]).expect("a segment");
    let record = bytes.windows(5).position(|five| five == b"00001").expect("the second record");
    bytes[record + 100..record + 4_100].fill(0);
    std::fs::write(&segments[0], bytes).expect("it can be written");
    std::fs::remove_file(segments.last().expect("a segment")).expect("it can be removed");
    service.start_again();
    let events = |service: &Service| {
        let all = get(service, "events?kind=embedded_log_damaged")["events"].clone();
        all.as_array().map_or(0, Vec::len)
    };
    // The source may have read the first segment by now.
    assert!((1..=2).contains(&events(&service)), "the newest segment is gone");
    write(service.embedded(), "commands", &["last"]);
    let mut device = subscriber(&service, Version::V5, "");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "last") {
        heard.push(next(&mut device).chars().take(5).collect::<String>());
    }
    assert_eq!(heard[..2], ["00000", "00002"]);
    assert!(heard.len() > 40, "{heard:?}");
    assert_eq!(events(&service), 2);
    assert_eq!(metric(&service, "embedded_read_holes_total"), 1);
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

/// Without a spool a kept session that is away has its messages in memory: the group moves on, and nothing is parked for another.
#[test]
fn what_a_session_that_is_away_keeps_in_memory_is_over() {
    let service = Service::start(&config(&source("no_subscriber = \"wait\"")));
    let kept = || Connect { clean_start: false, ..crate::device::hello(Version::V311, "kept") };
    let mut device = Device::connect_as(service.mqtt(), &kept()).0;
    assert_eq!(device.subscribe(&[("t/1", QoS::AtLeastOnce)]), [1]);
    device.vanish();
    write_when_there(&service, &["a"]);
    until("it to be committed", || committed(service.embedded(), GROUP) == 1);
    let mut device = Device::connect_as(service.mqtt(), &kept()).0;
    assert_eq!(next(&mut device), "a");
    assert_eq!(metric(&service, "source_messages_lost_total"), 0);
}

/// A topic that is deleted is shown as missing as soon as Kafka says so, and goes on where it comes back.
#[test]
fn a_topic_that_was_deleted_is_shown_as_missing() {
    let service = Service::start(&config(&source("group = \"\"")));
    write_when_there(&service, &["a"]);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!(next(&mut device), "a");
    let state = || {
        let partition = get(&service, "sources/commands")["partitions"][0].clone();
        (partition["state"].clone(), partition["reason"].clone())
    };
    until("it to be read", || state() == (json!("reading"), json!(null)));
    let topics = vec![crate::kafka_client::name("commands")];
    let request = DeleteTopicsRequest::default().with_topic_names(topics).with_timeout_ms(10_000);
    assert_eq!(Client::connect(service.embedded()).call(&request, 1).responses[0].error_code, 0);
    until("it to be missing", || {
        let (state, reason) = state();
        assert_ne!(state, "stopped", "{reason}");
        state == "topic_missing" && reason.as_str().is_some_and(|why| why.contains("does not know the topic"))
    });
    write_when_there(&service, &["b"]);
    assert_eq!(next(&mut device), "b");
    until("it to be read", || state() == (json!("reading"), json!(null)));
}

//! Wills: published when a connection ends without its client's leave, and only then.

use forebay::mqtt::packet::{Connect, Disconnect, Packet, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;

use crate::device::{Device, VERSIONS, hello, properties};
use crate::drain::warm;
use crate::process::{metric, until_metric};
use crate::records::{read, read_when, texts};
use crate::support::service::{Service, config, config_with};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n\
                    headers = { from = \"${clientid} ${username} ${qos} ${retain}\" }\n";

fn will(payload: &str) -> Will<'_> {
    Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "will/t",
        payload: payload.as_bytes(),
        properties: Properties::EMPTY,
    }
}

/// A connected device with a will that says `text`.
fn with_will(service: &Service, version: Version, text: &str) -> Device {
    let connect = Connect { will: Some(will(text)), username: Some("user"), ..hello(version, text) };
    Device::connect_as(service.mqtt(), &connect).0
}

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-22] [3.1.1 MQTT-3.1.2-8] [3.1.1 MQTT-3.1.2-24]
#[test]
fn every_end_without_leave_sends_the_will() {
    let service = Service::start(&config(SINK));
    for version in VERSIONS {
        with_will(&service, version, &format!("{version:?} lost")).vanish();
        let mut malformed = with_will(&service, version, &format!("{version:?} malformed"));
        malformed.say_bytes(&[0xC1, 0]);
        let mut silent = Device::open(service.mqtt(), version);
        let text = format!("{version:?} silent");
        silent.say(&Packet::Connect(Connect { keep_alive_s: 1, will: Some(will(&text)), ..hello(version, &text) }));
        silent.welcome();
        let mut old = with_will(&service, version, &format!("{version:?} taken over"));
        let new = Device::connect(service.mqtt(), version, &format!("{version:?} taken over"));
        old.until_closed();
        silent.until_closed();
        new.leave();
    }
    let mut on_purpose = with_will(&service, Version::V5, "V5 on purpose");
    let reason = ReasonCode::DISCONNECT_WITH_WILL_MESSAGE;
    on_purpose.say(&Packet::Disconnect(Disconnect { reason, properties: Properties::EMPTY }));
    let mut expected: Vec<_> = VERSIONS
        .iter()
        .flat_map(|version| ["lost", "malformed", "silent", "taken over"].map(|end| format!("{version:?} {end}")))
        .chain(["V5 on purpose".to_owned()])
        .collect();
    expected.sort();
    let records = read_when(service.embedded(), "all", expected.len());
    assert_eq!(texts(service.embedded(), "all"), expected);
    for record in records {
        let user = if record.text().ends_with("silent") { "" } else { "user" };
        assert_eq!(record.key, "will/t");
        assert_eq!(record.headers, [("from".to_owned(), format!("{} {user} 1 true", record.text()))]);
    }
    assert_eq!(metric(&service, "wills_published_total"), 13);
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3] [3.1.1 MQTT-3.1.2-10] [3.1.1 MQTT-3.14.4-3]
#[test]
fn who_takes_leave_takes_the_will_along() {
    let service = Service::start(&config(SINK));
    for version in VERSIONS {
        with_will(&service, version, "gone").leave();
    }
    until_metric(&service, "connections", 0);
    assert_eq!((metric(&service, "wills_published_total"), read(service.embedded(), "all").len()), (0, 0));
}

/// [MQTT-3.1.3-9]: back within the delay, and nothing is sent; the end of the session sends it sooner than the delay.
#[test]
fn a_delayed_will_waits_for_its_client() {
    let service = Service::start(&config(SINK));
    let (hour, second) = (properties([Property::WillDelayInterval(3600)]), expiry(1));
    let delayed = |text, expiry: &PropertyBuf, clean_start| {
        let will = Will { properties: hour.as_properties(), ..will(text) };
        let properties = expiry.as_properties();
        let connect = Connect { clean_start, will: Some(will), properties, ..hello(Version::V5, text) };
        Device::connect_as(service.mqtt(), &connect).0
    };
    delayed("back in time", &expiry(7200), true).vanish();
    until_metric(&service, "connections", 0);
    delayed("back in time", &expiry(7200), false).leave();
    delayed("session over", &second, true).vanish();
    delayed("started clean", &expiry(7200), true).vanish();
    until_metric(&service, "connections", 0);
    Device::connect(service.mqtt(), Version::V5, "started clean").leave();
    read_when(service.embedded(), "all", 2);
    assert_eq!(texts(service.embedded(), "all"), ["session over", "started clean"]);
}

fn expiry(seconds: u32) -> PropertyBuf {
    properties([Property::SessionExpiryInterval(seconds)])
}

/// The service's own end is no leave of the client's; the will waits for no linger, and for no later turn.
#[test]
fn the_wills_of_all_who_are_connected_are_in_kafka_after_a_drain() {
    let mut service = Service::start(&config_with("shards = 2", &format!("{SINK}linger = \"60s\"\n")));
    warm(&service);
    let _devices: Vec<_> = (0..20).map(|n| with_will(&service, VERSIONS[n % 3], &format!("drained {n:02}"))).collect();
    assert!(service.terminate().success(), "{}", service.log());
    service.start_again();
    let mut expected: Vec<_> = (0..20).map(|n| format!("drained {n:02}")).collect();
    expected.extend(["warm".to_owned(), "warm".to_owned()]);
    assert_eq!(texts(service.embedded(), "all"), expected);
}

//! Messages of mosquitto that come in by a bridge while Kafka is frozen: the remote keeps what is not answered, the bridge keeps its connection, and all are
//! there once. `scripts/faults bridges-frozen` freezes a real Kafka for a minute; here it is the embedded log of another process, for some seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::mqtt::packet::{PacketType, QoS, Version};

use crate::change::get;
use crate::device::{Device, Heard};
use crate::mosquitto::Mosquitto;
use crate::process::{metric, until};
use crate::records::read;
use crate::support::service::{Service, config, config_with};
use crate::support::temp_dir;

const MESSAGES: u16 = 200;
/// With this many bytes each they are more than the least memory for records.
const BYTES: usize = 32 << 10;
/// Longer than mosquitto waits for a client with this keep-alive.
const KEEP_ALIVE_S: u64 = 8;
const FROZEN: Duration = Duration::from_secs(KEEP_ALIVE_S + KEEP_ALIVE_S / 2 + 2);

/// Neither of mosquitto's bounds is met.
const REMOTE: &str = "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0";

/// Publishes at the remote, by turns at QoS 1 and 2.
fn publish(remote: &Mosquitto) {
    let mut device = Device::connect(remote.addr, Version::V311, "device");
    for id in 1..=MESSAGES {
        let mut payload = format!("{id:05}").into_bytes();
        payload.resize(BYTES, b'.');
        if id % 2 == 0 {
            device.deliver(id, "plant/1", &payload);
            continue;
        }
        device.publish(QoS::ExactlyOnce, id, "plant/1", &payload);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, id, 0));
        device.release(id);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, id, 0));
    }
}

/// `keys`: of the cluster, and what follows it. `meanwhile`: what is waited for while Kafka is frozen.
fn is_there_once(version: &str, keys: &str, meanwhile: impl Fn(&Service)) {
    let (kafka, dir) = (Service::start(&config("")), temp_dir());
    let remote = Mosquitto::start(dir.path(), REMOTE);
    let service = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\n{keys}\
             [bridge.plant]\nurl = \"mqtt://{}\"\nversion = \"{version}\"\nkeep_alive = \"{KEEP_ALIVE_S}s\"\n\
             [[bridge.plant.in]]\nfilters = \"plant/#\"\nqos = 2\n\
             [[sink]]\nname = \"values\"\nfilters = \"plant/#\"\ntopic = \"values\"\n",
            kafka.embedded(),
            remote.addr
        ),
    ));
    until("the remote to grant the filter", || {
        get(&service, "bridges/plant")["in"][0]["filters"][0]["state"] == "granted"
    });
    let mut first = Device::connect(remote.addr, Version::V311, "first");
    first.deliver(1, "plant/1", b"first");
    let delivered = || metric(&service, "sink_records_out_total{result=\"delivered\"}");
    until("the topic to be known", || delivered() == 1);
    kafka.signal("STOP");
    publish(&remote);
    meanwhile(&service);
    std::thread::sleep(FROZEN);
    kafka.signal("CONT");
    until("all to be in Kafka", || delivered() == u64::from(MESSAGES) + 1);
    until("all to be answered", || metric(&service, "bridge_unsettled_messages") == 0);
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for record in read(kafka.embedded(), "values") {
        *found.entry(record.text()[..5].to_owned()).or_default() += 1;
    }
    let expected = (1..=MESSAGES).map(|id| format!("{id:05}")).chain(["first".to_owned()]).map(|text| (text, 1));
    assert_eq!(found, expected.collect());
    let shown = get(&service, "bridges/plant");
    assert_eq!((&shown["connects"], &shown["state"]), (&1.into(), &"connected".into()), "{shown:#}");
}

/// G5, G9: there is no room for more, so the connection is not read; the remote hears PINGREQ nevertheless, and PINGRESP is waited for by nobody.
#[test]
fn without_a_spool_the_remote_keeps_what_is_not_answered() {
    is_there_once("5.0", "buffer_bytes = \"4MiB\"\n", |service| {
        until("the connection not to be read", || metric(service, "connections_paused") == 1);
    });
}

/// G9: the remote is answered from the disk.
#[test]
fn with_a_spool_the_remote_is_answered() {
    is_there_once("3.1.1", "[spool]\n", |service| {
        until("all to be answered from the disk", || {
            let taken = metric(service, "bridge_messages_total{result=\"taken\"}");
            taken == u64::from(MESSAGES) + 1 && metric(service, "bridge_unsettled_messages") == 0
        });
        assert_eq!(metric(service, "sink_records_out_total{result=\"delivered\"}"), 1, "Kafka is frozen");
    });
}

//! Bridges of 3.1.1 to a mosquitto with the defaults of both ends.

use forebay::mqtt::packet::{Packet, QoS, Version};
use serde_json::Value;

use crate::change::{change, get};
use crate::device::{Device, bytes, publish};
use crate::mosquitto::Mosquitto;
use crate::process::until;
use crate::support::service::{Service, config_with};
use crate::support::temp_dir;

/// Finding Q42: mosquitto ends a connection with more than 20 messages of QoS 2 on their way, and before 5.0 it cannot say so.
#[test]
fn finding_q42_a_burst_of_qos_2_comes_to_mosquitto() {
    const MESSAGES: u16 = 400;
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), "allow_anonymous true");
    let service = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[[sink]]\nname = \"none\"\nfilters = \"none/#\"\ntopic = \"none\"\n[bridge.plant]\npaused = true\nurl = \"mqtt://{}\"\nversion = \"3.1.1\"\n[[bridge.plant.out]]\nfilters = [\"out/#\"]\n",
            remote.addr
        ),
    ));
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    let message = |id| bytes(Version::V311, &Packet::Publish(publish(QoS::ExactlyOnce, id, "out/1", b"x")));
    let all: Vec<u8> = (1..=MESSAGES).flat_map(message).collect();
    device.say_bytes(&all);
    (0..MESSAGES).for_each(|_| drop(device.hear()));
    (1..=MESSAGES).for_each(|id| device.release(id));
    // All of them wait, and go at once.
    assert_eq!(change(&service, "POST", "bridges/plant/resume", &Value::Null).0, 200);
    let delivered =
        || service.metric("forebay_bridge_out_messages_total{result=\"delivered\"}") == Some(f64::from(MESSAGES));
    until("the remote to have all", delivered);
    for kind in ["bridge_lost", "bridge_overrun", "bridge_taken_over"] {
        let events = get(&service, &format!("events?kind={kind}"));
        assert_eq!(events["events"].as_array().map(Vec::len), Some(0), "{events:#}");
    }
}

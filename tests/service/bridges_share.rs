//! Shared subscriptions of bridges at real remotes: each message of the remote goes to one of the instances.

use forebay::mqtt::packet::{QoS, Version};
use serde_json::json;

use crate::change::get;
use crate::device::Device;
use crate::mosquitto::Mosquitto;
use crate::process::until;
use crate::support::service::{Service, config_with};
use crate::support::temp_dir;

const MESSAGES: u16 = 40;

fn member(remote: std::net::SocketAddr) -> Service {
    let text = format!(
        "[bridge.plant]\nurl = \"mqtt://{remote}\"\n[[bridge.plant.in]]\nfilters = [\"plant/#\"]\nqos = 2\nshare = \"forebay\"\n\
         [[sink]]\nname = \"values\"\nfilters = [\"plant/#\"]\ntopic = \"values\"\n"
    );
    Service::start(&config_with("shards = 1", &text))
}

/// Two instances of one share; every message is with one of them, and both get some.
fn is_shared(remote: std::net::SocketAddr) {
    let members = [member(remote), member(remote)];
    for member in &members {
        until("the remote to grant the share", || {
            let filter = get(member, "bridges/plant")["in"][0]["filters"][0].clone();
            filter["state"] == "granted" && filter["filter"] == "$share/forebay/plant/#"
        });
    }
    let mut there = Device::connect(remote, Version::V5, "there");
    for id in 1..=MESSAGES {
        there.deliver(id, &format!("plant/{id}"), b"x");
    }
    let received = || members.each_ref().map(|member| get(member, "bridges/plant")["received"].as_u64().unwrap_or(0));
    until("all messages to be there", || received().iter().sum::<u64>() >= u64::from(MESSAGES));
    // None comes twice: what one has, the other has not.
    there.deliver(MESSAGES + 1, "plant/last", b"x");
    until("the last one", || received().iter().sum::<u64>() > u64::from(MESSAGES));
    let received = received();
    assert_eq!(received.iter().sum::<u64>(), u64::from(MESSAGES) + 1, "{received:?}");
    assert!(received.iter().all(|count| *count > 0), "{received:?}");
    assert_eq!(get(&members[0], "bridges/plant")["unasked"], json!(0));
}

#[test]
fn a_share_at_mosquitto() {
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), "allow_anonymous true");
    is_shared(remote.addr);
}

#[test]
fn a_share_at_another_instance() {
    let remote = Service::start(&config_with("shards = 2", ""));
    is_shared(remote.mqtt());
}

/// What goes out of one instance by a bridge, and comes back by a bridge of the other, ends there.
#[test]
fn a_circle_of_two_instances_ends() {
    let first = Service::start(&config_with("shards = 1", ""));
    let second = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[bridge.first]\nurl = \"mqtt://{}\"\n[[bridge.first.in]]\nfilters = [\"t/#\"]\n[[bridge.first.out]]\nfilters = [\"t/#\"]\n\
             [bridge.again]\nurl = \"mqtt://{}\"\nclient_id = \"again\"\n[[bridge.again.in]]\nfilters = [\"t/#\"]\ntopic = \"t/${{topic}}\"\n",
            first.mqtt(),
            first.mqtt()
        ),
    ));
    for bridge in ["first", "again"] {
        let filter = || get(&second, &format!("bridges/{bridge}"))["in"][0]["filters"][0]["state"].clone();
        until("the filter to be granted", || filter() == "granted");
    }
    let mut listener = Device::connect(second.mqtt(), Version::V5, "listener");
    assert_eq!(listener.subscribe(&[("t/#", QoS::AtLeastOnce)]), [1]);
    let mut device = Device::connect(second.mqtt(), Version::V5, "device");
    device.deliver(1, "t/1", b"x");
    // It goes to the first instance, from there into `again`, and is dropped there.
    until("the copy that has come back to be dropped", || get(&second, "bridges/again")["looped"] == json!(1));
    listener.hear();
    let taken = ["first", "again"].map(|bridge| get(&second, &format!("bridges/{bridge}"))["received"].clone());
    assert_eq!(taken, [json!(0), json!(0)], "and nobody has it twice");
}

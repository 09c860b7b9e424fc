//! Roles of tokens (`[auth.NAME.role.ROLE]`, `roles_claim`): what they grant to clients that are connected, and what
//! `forebay access` says of them.

use std::fs;

use forebay::mqtt::packet::{PacketType, QoS, Version};
use serde_json::{Value, json};

use crate::device::{Device, Heard};
use crate::process::until;
use crate::support::service::{Service, config_with, program};
use crate::support::{run, temp_dir};
use crate::tokens::{NOT_AUTHORIZED, claims, key, refused, sign, with_token, write_set};

const ROLES: &str =
    "[auth.devices.role.sensor]\npublish = [\"plant/%c/#\"]\n[auth.devices.role.meter]\npublish = \"meters/%u\"\n";
const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

fn config(dir: &std::path::Path, roles: &str) -> String {
    let dir = dir.display();
    let auth = format!(
        "[log]\nlevel = \"debug\"\n[auth.devices]\nchain = [\"jwt\"]\nacl_file = \"{dir}/acl\"\n[auth.devices.jwt]\n\
         jwks_file = \"{dir}/jwks.json\"\naudience = \"mqtt\"\nroles_claim = \"roles\"\n{roles}{SINK}"
    );
    let config = config_with("shards = 2", &auth);
    config.replacen("transport = \"tcp\"\n", "transport = \"tcp\"\nauth = \"devices\"\n", 1)
}

fn with_roles(roles: Value) -> Value {
    let mut claims = claims("ada", 600);
    claims["roles"] = roles;
    claims
}

/// Publishes to each, and expects to be granted or denied.
fn tries(device: &mut Device, topics: &[(&str, bool)]) {
    for (id, (topic, granted)) in (1..).zip(topics) {
        device.publish(QoS::AtLeastOnce, id, topic, b"x");
        let code = if *granted { 0 } else { NOT_AUTHORIZED };
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, id, code), "{topic}");
    }
}

#[test]
fn a_role_grants_to_those_whose_token_names_it() {
    let dir = temp_dir();
    let dir = dir.path();
    write_set(dir, &[&key(dir, "EdDSA", "k")]);
    fs::write(dir.join("acl"), "pattern write listed\n").expect("written");
    let service = Service::start(&config(dir, ROLES));
    let to = service.mqtt();
    let all = [
        with_roles(json!("sensor")),
        with_roles(json!(["unknown", "meter", "sensor"])),
        with_roles(json!([])),
        claims("ada", 600),
        with_roles(json!({ "sensor": true })),
        with_roles(json!(["sensor", 1])),
    ];
    let tokens = sign(dir, "EdDSA", "k", &all);
    let expected = [[true, false, false], [true, false, true], [false; 3], [false; 3]];
    for (token, expected) in tokens.iter().zip(expected) {
        let (mut device, _) = Device::connect_as(to, &with_token(Version::V5, "c1", token));
        let [own, other, meter] = expected;
        tries(
            &mut device,
            &[("plant/c1/x", own), ("plant/c2/x", other), ("meters/ada", meter), ("listed", true), ("y", false)],
        );
    }
    for token in &tokens[4..] {
        assert_eq!(refused(to, &with_token(Version::V5, "c1", token)), NOT_AUTHORIZED);
    }
    assert!(service.get("/api/v1/events?limit=100").expect("events").1.contains("the claim of roles (roles_claim)"));
    let unknown = |line: &str| line.contains("client connected") && line.contains("unknown_roles=\"unknown\"");
    assert_eq!(service.log().lines().filter(|line| unknown(line)).count(), 1, "{}", service.log());

    // A role that is changed holds for a client that is connected, and has been granted the topic before.
    let (mut device, _) = Device::connect_as(to, &with_token(Version::V5, "c1", &tokens[0]));
    tries(&mut device, &[("plant/c1/x", true), ("plant/new", false)]);
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("a file").replace("plant/%c/#", "plant/new");
    fs::write(&file, text).expect("written");
    service.signal("HUP");
    until("the reload", || service.log().contains("event=\"reloaded\""));
    tries(&mut device, &[("plant/c1/x", false), ("plant/new", true)]);
    let said =
        run(program().args(["access", "--config"]).arg(&file).args(["--role", "sensor", "publish", "plant/new"]));
    assert!(said.starts_with("granted by role sensor: publish plant/new "), "{said}");
}

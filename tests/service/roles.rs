//! Roles of tokens (`[auth.NAME.role.ROLE]`, `roles_claim`): what they grant to clients that are connected, and what
//! `forebay access` says of them.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

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

/// X40: roles in the running service.
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

/// X46: the token's own permissions decide, or it is refused as at a CONNECT. Finding F13: 0 is granted, 1 denied, 2 neither.
#[test]
fn access_by_token_says_what_decides() {
    let dir = temp_dir();
    let dir = dir.path();
    write_set(dir, &[&key(dir, "EdDSA", "k")]);
    fs::write(dir.join("acl"), "pattern write listed\n").expect("written");
    let file = dir.join("forebay.toml");
    let text =
        config(dir, &format!("client_id_claim = \"device\"\n{ROLES}")).replace("$DIR", &dir.display().to_string());
    fs::write(&file, text).expect("written");
    let token = |expires_in: i64, acl: Value| {
        let exp = i64::try_from(crate::tokens::now_s()).expect("small") + expires_in;
        let claims =
            json!({ "sub": "ada", "aud": "mqtt", "exp": exp, "device": "d1", "roles": ["sensor"], "acl": acl });
        sign(dir, "EdDSA", "k", &[claims]).remove(0)
    };
    let rule = json!([{ "permission": "deny", "action": "publish", "topic": "plant/d1/keys" }]);
    let good = token(600, rule);
    let forged = format!("{}.AAAA", good.rsplit_once('.').expect("three parts").0);
    let ask = |token: &str, more: &[&str]| {
        fs::write(dir.join("token"), format!("{token}\n")).expect("written");
        let mut command = program();
        command.arg("access").arg("--config").arg(&file).arg("--token").arg(dir.join("token")).args(more);
        let output = command.output().expect("it runs");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(!said.contains(token), "{said}");
        (output.status.code(), said)
    };
    let who = "(user \"ada\", client ID \"d1\", roles sensor)";
    for (token, more, said) in [
        (&good, &["publish", "plant/d1/x"][..], format!("granted by role sensor: publish plant/%c/# {who}")),
        (&good, &["publish", "plant/d1/keys"], format!("denied by rule 1 of the token's claim of permissions {who}")),
        (&good, &["publish", "listed"], format!("acl:1: pattern write listed {who}")),
        (&good, &["subscribe", "plant/#"], "denied: no topic".to_owned()),
        (&good, &["--client", "d2", "publish", "x"], "refused: this token is not for the client ID \"d2\"".to_owned()),
        (&token(-60, json!([])), &["publish", "x"], "refused: token: it has expired".to_owned()),
        (&token(600, json!(1)), &["publish", "x"], "refused: token: the claim of permissions (acl_claim)".to_owned()),
        (&forged, &["publish", "x"], "refused: token: the signature is wrong".to_owned()),
        (&"secret".to_owned(), &["publish", "x"], "that is no token".to_owned()),
        (&good, &["--user", "bob", "publish", "x"], "cannot be used with".to_owned()),
    ] {
        let (code, answer) = ask(token, more);
        assert!(answer.contains(&said), "{answer} has {said}");
        let of_answer = match answer.split(' ').next() {
            Some("granted") => 0,
            Some("denied" | "denied:" | "refused:") => 1,
            _ => 2,
        };
        assert_eq!(code, Some(of_answer), "{answer}");
    }
    let mut command = program();
    command.args(["access", "--token", "-", "publish", "plant/d1/x", "--config"]).arg(&file);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(good.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stdout.starts_with(b"granted by role sensor"));
    fs::write(&file, "").expect("written");
    let output = program().args(["access", "publish", "x", "--config"]).arg(&file).output().expect("it runs");
    assert!(output.status.success() && output.stdout.starts_with(b"granted: "), "no auth: everything is granted");
}

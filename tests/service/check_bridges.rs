//! `forebay check` asks the remotes of bridges: real mosquittos, over TCP and TLS; our own broker over WebSocket.

use std::fs;
use std::path::Path;

use crate::mosquitto::Mosquitto;
use crate::support::certificates::{certificates, listener};
use crate::support::service::{Service, config, program};
use crate::support::{temp_dir, tool};

/// Exit status and lines of `check` about bridges.
fn checked(dir: &Path, bridge: &str) -> (Option<i32>, Vec<String>) {
    let file = dir.join("forebay.toml");
    let text = format!(
        "[service]\nshards = 1\npin = false\ndata_dir = \"{}\"\n[control]\nbind = \"127.0.0.1:0\"\n[embedded]\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nbind = \"127.0.0.1:0\"\n{bridge}",
        dir.join("data").display()
    );
    fs::write(&file, text).expect("written");
    let output = program().arg("check").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let about = |line: &&str| line.contains(" bridge plant: ") || line.contains("bridge.plant");
    (output.status.code(), said.lines().filter(about).map(str::to_owned).collect())
}

fn bridge(url: &str, more: &str) -> String {
    format!(
        "[bridge.plant]\nurl = \"{url}\"\n{more}\n[[bridge.plant.in]]\nfilters = [\"plant/#\", \"x\"]\n[[bridge.plant.in]]\nname = \"shared\"\n\
         filters = \"plant/#\"\nshare = \"g\"\nqos = 2\n[[bridge.plant.out]]\nfilters = \"alarm/#\"\n"
    )
}

/// Checks with each version.
fn granted(dir: &Path, url: &str, more: &str, limits: &str) {
    for (version, says) in [("5.0", "MQTT 5.0; "), ("3.1.1", "MQTT 3.1.1 as a bridge"), ("auto", "MQTT 5.0; ")] {
        let (code, lines) = checked(dir, &bridge(url, &format!("version = \"{version}\"\n{more}")));
        let said = lines.join("\n");
        assert_eq!(code, Some(0), "{said}");
        assert!(lines.iter().all(|line| line.starts_with("ok ")), "{said}");
        assert!(said.contains(&format!("connected with {says}")), "{url} {version}: {said}");
        assert!(said.contains("in 0: 2 filters granted at QoS 1"), "{said}");
        assert!(said.contains("in shared: 1 filter granted at QoS 2"), "{said}");
        if version == "5.0" {
            assert!(said.contains(&format!("Maximum QoS 2, up to {limits} messages on their way, retained")), "{said}");
            assert!(said.contains("shared subscriptions, keep-alive 60 s"), "{said}");
        }
    }
}

/// [MQTT-6.0.0-3]
#[test]
fn a_remote_behind_a_websocket_is_asked() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let plain = "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"tcp\"\n";
    for scheme in ["ws", "wss"] {
        let remote = Service::start(&config(&listener(scheme, dir, "")).replace(plain, ""));
        let port = remote.mqtt().port();
        let ca =
            if scheme == "wss" { format!("tls = {{ ca_file = \"{}/ca.pem\" }}", dir.display()) } else { String::new() };
        granted(dir, &format!("{scheme}://localhost:{port}"), &ca, "1024");
        let (code, lines) = checked(dir, &bridge(&format!("{scheme}://localhost:{port}/other"), &ca));
        let said = lines.join("\n");
        assert!(
            code == Some(1) && said.contains("answered with 404 Not Found; the URL may need another path"),
            "{said}"
        );
    }
}

/// Finding Q41: an `in` that takes what an `out` sends is warned of where the remote is Forebay, or cannot be told where a message has come from.
#[test]
fn finding_q41_filters_that_may_make_a_ring_are_warned_of() {
    let (dir, remote) = (temp_dir(), Service::start(&config("")));
    let bridge = |version: &str, out: &str| {
        format!(
            "[bridge.plant]\nurl = \"mqtt://{}\"\nversion = \"{version}\"\n[[bridge.plant.in]]\nfilters = \"a/+/t\"\n\
             [[bridge.plant.out]]\nfilters = \"{out}\"\ntopic = \"a/${{topic}}\"\n",
            remote.mqtt()
        )
    };
    for (version, out, warned) in [
        ("5.0", "b/#", Some("the remote is Forebay (instance ")),
        ("3.1.1", "+/t", Some("before MQTT 5.0 a message does not tell where it has come from")),
        ("5.0", "b/c", None),
        ("3.1.1", "b/t/c", None),
    ] {
        let (code, lines) = checked(dir.path(), &bridge(version, out));
        let said = lines.join("\n");
        let is_warned =
            lines.iter().any(|line| line.contains(&format!("in takes \"a/+/t\" of what out sends of \"{out}\"")));
        assert_eq!((code, is_warned), (Some(0), warned.is_some()), "{said}");
        assert!(warned.is_none_or(|warned| said.contains(warned)), "{said}");
    }
}

/// TCP and TLS with a client certificate, and what mosquitto grants.
#[test]
fn what_a_remote_grants_is_told() {
    let (dir, plain) = (temp_dir(), "allow_anonymous true");
    let dir = dir.path();
    certificates(dir);
    let keys = dir.display();
    let tls = format!(
        "{plain}\ncafile {keys}/ca.pem\ncertfile {keys}/server.pem\nkeyfile {keys}/server.key\nrequire_certificate true\nuse_identity_as_username false"
    );
    let own = format!(
        "tls = {{ ca_file = \"{keys}/ca.pem\", cert_file = \"{keys}/device-1.pem\", key_file = \"{keys}/device-1.key\" }}"
    );
    for (scheme, lines, more) in [("mqtt", plain, ""), ("mqtts", &*tls, &*own)] {
        let place = dir.join(scheme);
        fs::create_dir(&place).expect("a folder");
        let remote = Mosquitto::start(&place, lines);
        // One that is retained is not taken: the check ends at once, and well.
        if scheme == "mqtt" {
            let port = remote.addr.port().to_string();
            let mut publish = tool("mosquitto_pub");
            let done =
                publish.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", "plant/1", "-m", "x"]).status();
            assert!(done.expect("it runs").success());
        }
        let url = format!("{scheme}://localhost:{}", remote.addr.port());
        granted(dir, &url, more, "20");
        if scheme == "mqtts" {
            let (code, lines) = checked(dir, &bridge(&url, ""));
            let said = lines.join("\n");
            assert!(
                code == Some(1) && said.contains("TLS: its certificate is not signed by a CA that is trusted"),
                "{said}"
            );
            assert!(said.contains("[bridge.plant.tls] has CAs, certificate and names"), "{said}");
        }
    }
}

/// The check reports why a remote cannot be used and which keys to look at, and never a password.
#[test]
fn why_a_remote_cannot_be_used_is_told() {
    let dir = temp_dir();
    let dir = dir.path();
    let passwords = dir.join("passwords");
    fs::write(&passwords, "").expect("written");
    let mut mosquitto = tool("mosquitto_passwd");
    assert!(mosquitto.arg("-b").arg(&passwords).args(["edge", "s3cret"]).status().expect("it runs").success());
    let acl = dir.join("acl");
    fs::write(&acl, "user edge\ntopic plant/#\ntopic x\n").expect("written");
    let lines = format!(
        "allow_anonymous false\npassword_file {}\nacl_file {}\nmax_qos 1\nretain_available false\nmax_inflight_messages 7",
        passwords.display(),
        acl.display()
    );
    let remote = Mosquitto::start(dir, &lines);
    let port = remote.addr.port();
    let (code, lines) = checked(dir, &bridge(&format!("mqtt://edge:wrong-s3cret@localhost:{port}"), ""));
    let said = lines.join("\n");
    assert!(code == Some(1) && said.contains("refused: ") && said.contains("username, password_file"), "{said}");
    assert!(said.contains("ends with \"-check\"") && !said.contains("s3cret"), "{said}");
    let (code, lines) = checked(dir, &bridge(&format!("mqtt://edge:s3cret@localhost:{port}"), ""));
    let said = lines.join("\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Maximum QoS 1, up to 7 messages on their way, no retained messages"), "{said}");
    assert!(said.contains("warning  bridge plant: takes messages at QoS 1 at most"), "{said}");
    assert!(said.contains("warning  bridge plant: takes no RETAIN"), "{said}");
    assert!(said.contains("warning  bridge plant: in shared: \"plant/#\" is granted at QoS 1, not 2"), "{said}");
    assert!(said.contains("has a password, and this file is shown") && !said.contains("s3cret"), "{said}");
    let (code, lines) = checked(dir, &bridge(&format!("ws://localhost:{port}"), ""));
    let said = lines.join("\n");
    assert!(code == Some(1) && lines[0].starts_with("PROBLEM"), "{said}");
    drop(remote);
    let (code, lines) = checked(dir, &bridge(&format!("mqtt://localhost:{port}"), ""));
    let said = lines.join("\n");
    assert!(code == Some(1) && said.contains(&format!("PROBLEM  bridge plant: mqtt://localhost:{port}: ")), "{said}");
    assert!(said.contains("refused"), "the connection: {said}");
    let (code, lines) = checked(dir, &bridge("mqtt://no-such-host.invalid", ""));
    let said = lines.join("\n");
    assert!(code == Some(1) && said.contains("no-such-host.invalid: "), "{said}");
    let (code, lines) = checked(dir, &bridge(&format!("mqtt://localhost:{port}"), "paused = true"));
    let said = lines.join("\n");
    assert!(code == Some(0) && said.contains("is paused, and was not connected"), "{said}");
}

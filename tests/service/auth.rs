//! Who may connect, with real parts: the page docs/AUTH.md followed, files of `mosquitto_passwd`, mosquitto's clients; files that
//! change while clients are connected; slow passwords that delay no other client.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use forebay::mqtt::packet::{Connect, Packet, PacketType, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property};

use crate::device::{Device, Heard, hello, properties, puback};
use crate::process::{metric, until, until_metric};
use crate::records::{read_when, texts};
use crate::support::certificates::{blocks, certificates, shell};
use crate::support::service::{Service, config_with, program};
use crate::support::{temp_dir, tool};
use crate::tls;

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nkey = \"${username}\"\n";
const PAGE: &str = include_str!("../../docs/AUTH.md");
const NOT_AUTHORIZED: u8 = 0x87;
const BAD_PASSWORD: u8 = 0x86;

/// `forebay passwd` with this on its standard input.
pub(crate) fn passwd(file: &Path, options: &[&str], password: &str) -> String {
    let mut command = program();
    command.arg("passwd").args(&options[..options.len() - 1]).arg(file).arg(options[options.len() - 1]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program");
    // With `--generate` it may have ended without reading: its exit status says whether all is well.
    let _ = child.stdin.take().expect("a pipe").write_all(format!("{password}\n").as_bytes());
    let output = child.wait_with_output().expect("the program");
    assert!(output.status.success(), "{options:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Files with the users `ada` (argon2id), `bob` (of mosquitto_passwd) and `device-1`, whose random password is returned.
fn users(dir: &Path) -> (PathBuf, String) {
    let file = dir.join("passwords");
    passwd(&file, &["ada"], "lovelace");
    let said = passwd(&file, &["--generate", "device-1"], "");
    let random = said.lines().next().and_then(|line| line.strip_prefix("password: ")).expect("a password").to_owned();
    let mut mosquitto = tool("mosquitto_passwd");
    assert!(mosquitto.arg("-b").arg(&file).args(["bob", "builder"]).status().expect("it runs").success());
    (file, random)
}

pub(crate) fn auth(dir: &Path, more: &str) -> String {
    let dir = dir.display();
    format!("[auth.devices]\npassword_file = \"{dir}/passwords\"\n{more}\n")
}

/// The same configuration with `auth` at its first listener.
pub(crate) fn with_auth(config: &str) -> String {
    config.replacen("transport = \"tcp\"\n", "transport = \"tcp\"\nauth = \"devices\"\n", 1)
}

/// A service of two shards whose first listener has `auth`.
fn service(dir: &Path, chain: &str, more: &str) -> Service {
    let config = config_with("shards = 2", &format!("{}chain = {chain}\n{SINK}", auth(dir, more)));
    Service::start(&with_auth(&config))
}

fn named<'a>(version: Version, id: &'a str, user: &'a str, password: &'a str) -> Connect<'a> {
    Connect { username: Some(user), password: Some(password.as_bytes()), ..hello(version, id) }
}

/// The code of the CONNACK that refuses it.
fn refused(to: SocketAddr, connect: &Connect<'_>) -> u8 {
    let mut device = Device::open(to, connect.version);
    device.say(&Packet::Connect(connect.clone()));
    match device.hear() {
        Heard::ConnAck(hello) => {
            assert_eq!(device.hear(), Heard::Closed);
            hello.code
        }
        other => panic!("{other:?}"),
    }
}

fn mosquitto_pub(to: SocketAddr, options: &[&str]) -> Output {
    let mut command: Command = tool("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &to.port().to_string(), "-q", "1", "-m", "x"]).args(options);
    command.output().expect("it runs")
}

#[test]
fn the_page_with_mosquittos_clients() {
    let dir = temp_dir();
    let (_, random) = users(dir.path());
    let block = |language: &str| {
        let start = PAGE.find(&format!("```{language}\n# Clients")).expect("the access control list of the page");
        PAGE[start..].lines().skip(1).take_while(|line| *line != "```").collect::<Vec<_>>().join("\n")
    };
    let acl = block("");
    fs::write(dir.path().join("acl"), format!("{acl}\nuser bob\ntopic write plant/#\n")).expect("written");
    let acl_file = format!("acl_file = \"{}/acl\"", dir.path().display());
    let service = service(dir.path(), "[\"password\", \"anonymous\"]", &acl_file);
    let to = service.mqtt();
    for version in ["mqttv311", "mqttv5"] {
        for (user, password, topic, ends_well) in [
            ("ada", "lovelace", "plant/1/temp", true),
            ("bob", "builder", "plant/1/temp", true),
            ("device-1", &*random, "dev/d1/up", true),
            ("bob", "lovelace", "plant/1/temp", false),
            ("carol", "builder", "plant/1/temp", false),
        ] {
            let options = ["-V", version, "-i", "d1", "-u", user, "-P", password, "-t", topic];
            let output = mosquitto_pub(to, &options);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), ends_well, "{options:?}: {said}");
        }
    }
    // mosquitto_pub ends well though its publish was refused; what counts is that nothing arrives.
    mosquitto_pub(to, &["-V", "mqttv5", "-u", "ada", "-P", "lovelace", "-t", "plant/1/keys"]);
    mosquitto_pub(to, &["-V", "mqttv5", "-i", "d2", "-t", "dev/d1/up"]);
    assert!(mosquitto_pub(to, &["-V", "mqttv5", "-i", "d2", "-t", "dev/d2/up"]).status.success());
    let records = read_when(service.embedded(), "all", 7);
    assert_eq!(records.len(), 7);
    // Of an anonymous client there is no name.
    let keys: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(
        (keys.iter().filter(|key| **key == "bob").count(), keys.iter().filter(|key| key.is_empty()).count()),
        (2, 1)
    );
    assert_eq!(metric(&service, "acl_denied_total{operation=\"publish\"}"), 2);
    assert_eq!(metric(&service, "authentications_total{result=\"refused\"}"), 4);
    let events = service.get("/api/v1/events?limit=100").expect("events").1;
    assert!(events.contains("\"auth_refused\"") && events.contains("\"acl_denied\""), "{events}");
    for secret in ["lovelace", "builder", &random] {
        assert!(!events.contains(secret) && !service.log().contains(secret), "{secret} is shown");
    }
    let config = dir.path().join("forebay.toml");
    fs::write(
        &config,
        format!(
            "[[listener]]\nbind = \"127.0.0.1:1\"\nauth = \"devices\"\n{}chain = \"password\"\n",
            auth(dir.path(), &acl_file)
        ),
    )
    .expect("written");
    let asked = program()
        .arg("access")
        .arg("--config")
        .arg(&config)
        .args(["--user", "ada", "--client", "d1", "publish", "plant/1/keys"])
        .output();
    let said = String::from_utf8(asked.expect("it runs").stdout).expect("text");
    assert!(PAGE.contains(&said.trim().replace(&dir.path().display().to_string(), "/etc/forebay")), "{said}");
    let checked = program().arg("check").arg(&config).output().expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("3 users") && said.contains("5 rules"), "{said}");
}

/// X27: the codes of refusals.
/// [MQTT-3.1.3-8] [MQTT-3.1.4-2] [MQTT-3.2.2-7] [3.1.1 MQTT-3.1.3-9] [3.1.1 MQTT-3.2.2-5]
#[test]
fn every_refusal_has_its_code_and_looks_like_any_other() {
    let dir = temp_dir();
    users(dir.path());
    let service = service(dir.path(), "\"password\"", "client_id = \"prefix\"");
    let to = service.mqtt();
    for (version, bad, none, id) in
        [(Version::V311, 4, 5, 2), (Version::V31, 4, 5, 2), (Version::V5, BAD_PASSWORD, NOT_AUTHORIZED, 0x85)]
    {
        assert_eq!(refused(to, &named(version, "ada", "ada", "wrong")), bad);
        assert_eq!(refused(to, &named(version, "carol", "carol", "wrong")), bad);
        assert_eq!(refused(to, &Connect { password: None, ..named(version, "ada", "ada", "") }), bad);
        assert_eq!(refused(to, &hello(version, "ada")), none);
        assert_eq!(refused(to, &named(version, "bob", "ada", "lovelace")), id);
        Device::connect_as(to, &named(version, "ada:1", "ada", "lovelace"));
    }
    // A client without a client id is given the only one that would do, whichever shard owns it.
    for (user, password) in [("ada", "lovelace"), ("bob", "builder")] {
        let (mut device, hello) = Device::connect_as(to, &named(Version::V5, "", user, password));
        let given = hello.properties.as_properties().iter().find_map(|property| match property {
            Property::AssignedClientIdentifier(id) => Some(id.to_owned()),
            _ => None,
        });
        assert_eq!(given.as_deref(), Some(user));
        device.deliver(1, "t", b"x");
    }
}

/// Of eight client ids some live on the other shard: what stood behind CONNECT arrives there, in order.
#[test]
fn what_comes_behind_a_connect_that_waits_is_taken_after_it() {
    let dir = temp_dir();
    users(dir.path());
    let service = service(dir.path(), "\"password\"", "");
    let mut wanted = Vec::new();
    for client in 0..8 {
        let id = format!("client-{client}");
        let mut device = Device::open(service.mqtt(), Version::V5);
        let mut bytes = crate::device::bytes(Version::V5, &Packet::Connect(named(Version::V5, &id, "ada", "lovelace")));
        for number in 1..=3 {
            let payload = format!("{id} {number}");
            let publish = crate::device::publish(QoS::AtLeastOnce, number, "t", payload.as_bytes());
            bytes.extend(crate::device::bytes(Version::V5, &Packet::Publish(publish)));
            wanted.push(payload);
        }
        if client % 2 == 0 {
            device.say_bytes(&bytes);
        } else {
            device.dribble(&bytes);
        }
        device.welcome();
        (1..=3).for_each(|number| assert_eq!(device.hear(), puback(number)));
    }
    let mut found = texts(service.embedded(), "all");
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(metric(&service, "authentications_waiting"), 0);
    // The password was compared once: then it was known.
    assert_eq!(metric(&service, "authentications_total{result=\"accepted\"}"), 8);
}

/// X25: argon2id is compared on other threads.
#[test]
fn guesses_of_slow_passwords_hold_up_nobody() {
    let dir = temp_dir();
    users(dir.path());
    let service = service(dir.path(), "\"password\"", "");
    let to = service.mqtt();
    let (mut device, _) = Device::connect_as(to, &named(Version::V5, "before", "ada", "lovelace"));
    let mut guessers: Vec<Device> = (0..400)
        .map(|number| {
            let mut guesser = Device::open(to, Version::V5);
            let id = format!("guess-{number}");
            guesser.say(&Packet::Connect(named(Version::V5, &id, "ada", &format!("guess {number}"))));
            guesser
        })
        .collect();
    until("guesses wait", || metric(&service, "authentications_waiting") > 32);
    // One that is connected publishes, and one that is known connects, while they wait.
    device.deliver(1, "t", b"meanwhile");
    Device::connect_as(to, &named(Version::V5, "known", "ada", "lovelace"));
    let waiting = metric(&service, "authentications_waiting");
    assert!(waiting > 0, "all guesses had been compared before a known client connected");
    // Of one address 64 wait; the others are told so at once.
    let codes: Vec<u8> = guessers
        .iter_mut()
        .map(|guesser| match guesser.hear() {
            Heard::ConnAck(hello) => hello.code,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(codes.iter().all(|code| [BAD_PASSWORD, 0x89].contains(code)), "{codes:?}");
    assert!(codes.contains(&BAD_PASSWORD) && codes.contains(&0x89));
    until_metric(&service, "authentications_waiting", 0);
}

#[test]
fn who_goes_while_its_password_is_compared_is_forgotten() {
    let dir = temp_dir();
    users(dir.path());
    let service = service(dir.path(), "\"password\"", "");
    for number in 0..40 {
        let mut device = Device::open(service.mqtt(), Version::V5);
        let id = format!("gone-{number}");
        device.say(&Packet::Connect(named(Version::V5, &id, "ada", &format!("guess {number}"))));
        drop(device);
    }
    until_metric(&service, "authentications_waiting", 0);
    until_metric(&service, "connections", 0);
    Device::connect_as(service.mqtt(), &named(Version::V5, "gone-1", "ada", "lovelace")).0.deliver(1, "t", b"x");
}

/// X34: revocation reaches connected clients.
#[test]
fn changed_files_reach_those_who_are_connected_and_nobody_else() {
    let dir = temp_dir();
    let (file, _) = users(dir.path());
    let acl = dir.path().join("acl");
    fs::write(&acl, "pattern write t/#\n").expect("written");
    let service = service(dir.path(), "[\"password\", \"anonymous\"]", &format!("acl_file = \"{}\"", acl.display()));
    let to = service.mqtt();
    let (mut ada, _) = Device::connect_as(to, &named(Version::V5, "a", "ada", "lovelace"));
    let (mut bob, _) = Device::connect_as(to, &named(Version::V5, "b", "bob", "builder"));
    let mut anonymous = Device::connect(to, Version::V5, "n");
    for device in [&mut ada, &mut bob, &mut anonymous] {
        device.deliver(1, "t/1", b"x");
    }
    // A file that is wrong changes nothing.
    let before = fs::read_to_string(&file).expect("there");
    fs::write(&file, "ada:lovelace\n").expect("written");
    service.signal("HUP");
    until("the reload", || service.log().contains("line 1 is no hash"));
    ada.deliver(2, "t/1", b"x");
    fs::write(&file, before).expect("written");
    passwd(&file, &["ada"], "another");
    fs::write(&acl, "pattern write t/2\n").expect("written");
    service.signal("HUP");
    assert_eq!(ada.hear(), Heard::Disconnect(NOT_AUTHORIZED));
    assert_eq!(ada.hear(), Heard::Closed);
    // The others stay, and may no more what they might: remembered or not.
    for device in [&mut bob, &mut anonymous] {
        device.publish(QoS::AtLeastOnce, 3, "t/1", b"denied");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 3, NOT_AUTHORIZED));
        device.deliver(4, "t/2", b"granted");
    }
    assert_eq!(refused(to, &named(Version::V5, "a", "ada", "lovelace")), BAD_PASSWORD);
    Device::connect_as(to, &named(Version::V5, "a", "ada", "another"));
    assert_eq!(metric(&service, "access_revoked_total"), 1);
    assert!(!texts(service.embedded(), "all").contains(&"denied".to_owned()));
}

/// X12: contents are compared every 30 s.
#[test]
fn changed_files_are_taken_without_a_reload() {
    let dir = temp_dir();
    let (file, _) = users(dir.path());
    let service = service(dir.path(), "\"password\"", "");
    let (mut bob, _) = Device::connect_as(service.mqtt(), &named(Version::V5, "b", "bob", "builder"));
    passwd(&file, &["--delete", "bob"], "");
    // They are looked at every 30 seconds, and taken when they stay the same for two.
    std::thread::sleep(Duration::from_secs(10));
    until("the look at the files", || service.log().contains("auth devices (changed: files)"));
    assert_eq!(bob.hear(), Heard::Disconnect(NOT_AUTHORIZED));
}

/// X41: 0x87, closed, or `denied_3x`.
/// [3.1.1 MQTT-3.3.5-2]
#[test]
fn a_denied_publish_has_the_answer_that_its_version_allows() {
    let dir = temp_dir();
    users(dir.path());
    fs::write(dir.path().join("acl"), "pattern write ok\n").expect("written");
    let acl = format!("acl_file = \"{}/acl\"", dir.path().display());
    for (more, code_3x) in [("", None), ("\ndenied_3x = \"acknowledge\"", Some(0))] {
        let service = service(dir.path(), "[\"password\", \"anonymous\"]", &format!("{acl}{more}"));
        for version in [Version::V311, Version::V5] {
            let code = if version == Version::V5 { Some(NOT_AUTHORIZED) } else { code_3x };
            for (qos, kind) in [(QoS::AtLeastOnce, PacketType::PubAck), (QoS::ExactlyOnce, PacketType::PubRec)] {
                let mut device = Device::connect(service.mqtt(), version, "c");
                device.publish(QoS::AtMostOnce, 0, "no", b"dropped");
                device.deliver(1, "ok", b"kept");
                device.publish(qos, 2, "no", b"dropped");
                match code {
                    Some(code) => assert_eq!(device.hear(), Heard::Answer(kind, 2, code)),
                    None => assert_eq!(device.hear(), Heard::Closed),
                }
            }
        }
        assert_eq!(texts(service.embedded(), "all"), ["kept"; 4]);
    }
}

/// X44: at CONNECT and when it is sent.
#[test]
fn a_will_is_asked_for_when_it_is_left_and_when_it_is_sent() {
    let dir = temp_dir();
    users(dir.path());
    let acl = dir.path().join("acl");
    fs::write(&acl, "user bob\ntopic write gone/#\n").expect("written");
    let service = service(dir.path(), "\"password\"", &format!("acl_file = \"{}\"", acl.display()));
    let to = service.mqtt();
    let will = |topic| {
        Some(Will { qos: QoS::AtLeastOnce, retain: false, topic, payload: b"will", properties: Properties::EMPTY })
    };
    let bob = |topic| Connect { will: will(topic), ..named(Version::V5, "b", "bob", "builder") };
    assert_eq!(refused(to, &bob("elsewhere")), NOT_AUTHORIZED);
    drop(Device::connect_as(to, &bob("gone/1")));
    until_metric(&service, "wills_published_total", 1);
    let (device, _) = Device::connect_as(to, &bob("gone/2"));
    fs::write(&acl, "user bob\ntopic write other\n").expect("written");
    service.signal("HUP");
    until("the reload", || service.log().contains("configuration reloaded"));
    drop(device);
    until_metric(&service, "acl_denied_total{operation=\"will\"}", 1);
    // Finding Q37: the reason is what was denied.
    until("the denial to be told of", || {
        let events = service.get("/api/v1/events?kind=acl_denied").expect("events").1;
        events.contains("\"reason\":\"will\"")
    });
    assert_eq!(read_when(service.embedded(), "all", 1)[0].text(), "will");
}

#[test]
fn a_kept_session_belongs_to_its_user_after_a_crash_as_well() {
    let dir = temp_dir();
    users(dir.path());
    let more = "[spool]\nbytes_max = \"256MiB\"\nsegment_bytes = \"16MiB\"\n";
    let config = config_with("shards = 1", &format!("{}chain = \"password\"\n{more}{SINK}", auth(dir.path(), "")));
    let mut service = Service::start(&with_auth(&config));
    let expiry = properties([Property::SessionExpiryInterval(3_600)]);
    let kept = |user, password| Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        ..named(Version::V5, "c", user, password)
    };
    let (mut ada, first) = Device::connect_as(service.mqtt(), &kept("ada", "lovelace"));
    assert!(!first.session_present);
    ada.deliver(1, "t", b"x");
    for (user, password, present) in [("ada", "lovelace", true), ("bob", "builder", false), ("ada", "lovelace", false)]
    {
        service.kill9();
        service.start_again();
        let (_, hello) = Device::connect_as(service.mqtt(), &kept(user, password));
        assert_eq!(hello.session_present, present, "{user}");
    }
}

/// docs/INTERNET.md from its first command to what must fail.
#[test]
fn the_page_put_it_on_the_internet() {
    const PAGE: &str = include_str!("../../docs/INTERNET.md");
    let block = |start: &str| {
        let found = PAGE.split("```").skip(1).step_by(2).find(|block| block.contains(start));
        found.unwrap_or_else(|| panic!("{start} in the page")).split_once('\n').expect("a block").1.to_owned()
    };
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let there = |text: String| text.replace("/etc/forebay", &dir.display().to_string());
    let mut random = String::new();
    for command in there(block("forebay passwd --generate")).lines() {
        let words: Vec<&str> = command.split_whitespace().collect();
        let [.., file, user] = words[..] else { panic!("{command}") };
        let options: &[&str] = if words.contains(&"--generate") { &["--generate", user] } else { &[user] };
        let said = passwd(Path::new(file), options, "lovelace");
        random.push_str(said.lines().find_map(|line| line.strip_prefix("password: ")).unwrap_or_default());
    }
    fs::write(dir.join("acl"), block("pattern write device")).expect("written");
    let config = there(block("[[listener]]")).replace("0.0.0.0:8883", "127.0.0.1:0");
    // The embedded log in the place of the page's clusters.
    let (before, sink) = config.split_once("[kafka.main]").expect("a cluster");
    let sink = sink.split_once("[[sink]]").expect("a sink").1;
    let service = tls::service_without_sink(&format!("{before}[[sink]]{sink}"));
    let command = block("mosquitto_pub")
        .replace("mqtt.example.org", "localhost")
        .replace("8883", &service.mqtt().port().to_string());
    let run = |command: &str| Command::new("sh").args(["-c", command]).current_dir(dir).output().expect("a shell");
    let good = command.replace("PASSWORD", &random);
    assert!(run(&good).status.success(), "{:?}", run(&good));
    for bad in [command.clone(), good.replace("-i device-1", "-i device-2"), good.replace("--cafile ca.pem", "")] {
        assert!(!run(&bad).status.success(), "{bad}");
    }
    run(&good.replace("device/device-1", "device/device-2").replace("mosquitto_pub", "mosquitto_pub -V 5"));
    until_metric(&service, "acl_denied_total{operation=\"publish\"}", 1);
    let records = read_when(service.embedded(), "mqtt-messages", 1);
    assert_eq!((records[0].key.as_str(), records[0].text()), ("device-1", "21.5"));
}

/// X10, X11, X34: a client with a certificate is who that says, whatever user name it sends; once it is revoked its
/// connection ends, and no other.
#[test]
fn a_certificate_is_an_identity_and_ends_when_it_is_revoked() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    fs::write(dir.join("acl"), "pattern write device/%u/#\n").expect("written");
    let block = tls::listener(dir, "").replace("transport = \"tls\"", "transport = \"tls\"\nauth = \"devices\"");
    let auth = "[auth.devices]\nchain = \"certificate\"\nclient_id = \"prefix\"\n";
    let service = tls::service(&format!("{block}{auth}acl_file = \"{}/acl\"\n", dir.display()));
    let publish = |device: &str, topic: &str, more: &[&str]| {
        let (cert, key) = (format!("{device}.pem"), format!("{device}.key"));
        let certificate = ["--cert", &cert, "--key", &key, "-V", "mqttv5", "-m", topic, "-t", topic];
        tls::publish(&service, dir, &[&certificate[..], more].concat()).status.success()
    };
    assert!(publish("device-1", "device/device-1/up", &["-i", "device-1"]));
    assert!(publish("device-1", "device/device-1/as", &["-i", "device-1:2", "-u", "device-2", "-P", "x"]));
    assert!(!publish("device-1", "device/device-1/id", &["-i", "device-2"]), "not its client id");
    publish("device-1", "device/device-2/up", &["-i", "device-1"]);
    assert_eq!(texts(service.embedded(), "all"), ["device/device-1/as", "device/device-1/up"]);
    assert_eq!(metric(&service, "acl_denied_total{operation=\"publish\"}"), 1);

    let mut living: Vec<_> = ["device-1", "device-2"].map(|device| Living::connect(&service, dir, device)).into();
    living.iter_mut().for_each(|device| device.publish(1));
    read_when(service.embedded(), "all", 4);
    for block in blocks("Revoke a certificate", "sh") {
        shell(dir, &block);
    }
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    let ca = format!("client_ca_file = \"{}/ca.pem\"", dir.display());
    fs::write(&file, text.replace(&ca, &format!("{ca}\ncrl_file = \"{}/devices.crl\"", dir.display())))
        .expect("written");
    service.signal("HUP");
    until_metric(&service, "access_revoked_total", 1);
    // The other client stays connected, and this one is not admitted again.
    living.iter_mut().for_each(|device| device.publish(2));
    read_when(service.embedded(), "all", 5);
    assert!(!publish("device-1", "device/device-1/up", &["-i", "device-1"]));
    let events = service.get("/api/v1/events?limit=100").expect("events").1;
    assert!(events.contains("\"access_revoked\"") && events.contains("\"device-1\""), "{events}");
}

/// `mosquitto_pub` that stays connected and publishes what is written to it.
struct Living {
    child: std::process::Child,
    lines: std::process::ChildStdin,
}

impl Living {
    fn connect(service: &Service, dir: &Path, device: &str) -> Self {
        let port = service.mqtt().port().to_string();
        let mut command = tool("mosquitto_pub");
        command.current_dir(dir).args(["-h", "localhost", "-p", &port, "--cafile", "ca.pem", "-q", "1", "-l"]);
        command.args(["-V", "mqttv5", "-i", device, "-t", &format!("device/{device}/living")]);
        command.args(["--cert", &format!("{device}.pem"), "--key", &format!("{device}.key")]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it runs");
        let lines = child.stdin.take().expect("a pipe");
        Self { child, lines }
    }

    fn publish(&mut self, number: u32) {
        writeln!(self.lines, "living {number}").expect("it reads");
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// X22: beyond loopback `auth`, certificates or `open = true`.
#[test]
fn a_listener_that_others_reach_is_not_open_by_mistake() {
    let run = |args: &[&str]| {
        let output = program().args(args).env("FOREBAY_CONFIG", "/dev/null").output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (ends_well, said) = run(&["--listen", "0.0.0.0:0"]);
    assert!(!ends_well && said.contains("can be reached from other machines") && said.contains("--open"), "{said}");
    let dir = temp_dir();
    let file = dir.path().join("forebay.toml");
    let check = |listener: &str| {
        fs::write(&file, format!("[[listener]]\nbind = \"0.0.0.0:0\"\n{listener}")).expect("written");
        run(&["check", "--offline", &file.display().to_string()])
    };
    assert!(!check("").0);
    assert!(check("open = true\n").0);
    assert!(!check("auth = \"x\"\n").0, "there is no such auth");
}

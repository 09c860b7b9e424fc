//! Bans: who may not connect, by the API and by the command line, and what they outlive.

use forebay::mqtt::packet::{Connect, Version};
use forebay::mqtt::property::Property;
use serde_json::{Value, json};

use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until};
use crate::sources_admin::forebay;
use crate::support::certificates::certificates;
use crate::support::service::{Service, config, http};
use crate::support::temp_dir;
use crate::{tls, tokens};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

fn ask(service: &Service, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let token = std::fs::read_to_string(service.token_file()).expect("a token");
    let header = format!("Authorization: Bearer {}", token.trim());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (head, answer) =
        http(service.control(), method, &format!("/api/v1/{path}"), &header, &body).expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

/// The code of the CONNACK that a client gets.
fn code(service: &Service, connect: &Connect<'_>) -> u8 {
    let mut device = Device::open(service.mqtt(), connect.version);
    device.say(&forebay::mqtt::packet::Packet::Connect(connect.clone()));
    match device.hear() {
        Heard::ConnAck(hello) => hello.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_banned_is_disconnected_and_stays_out_until_the_ban_ends() {
    let mut service = Service::start(&config(SINK));
    let own = properties([Property::SessionExpiryInterval(3_600)]);
    let of = |id: &'static str, user: Option<&'static str>, version| Connect {
        username: user,
        properties: if version == Version::V5 { own.as_properties() } else { Default::default() },
        ..hello(version, id)
    };
    let (meter, ada) = (of("meter", None, Version::V5), of("other", Some("ada"), Version::V5));
    let mut first = Device::connect_as(service.mqtt(), &meter).0;
    let mut second = Device::connect_as(service.mqtt(), &ada).0;
    let (status, made) = ask(&service, "POST", "bans", &json!({ "client_id": "meter", "reason": "it floods" }));
    assert_eq!(
        (status, &made["disconnected"], &made["ban"]["reason"]),
        (201, &json!(1), &json!("it floods")),
        "{made}"
    );
    assert_eq!(first.hear(), Heard::Disconnect(0x98));
    second.ping();
    assert_eq!((code(&service, &meter), code(&service, &of("meter", None, Version::V311))), (0x8a, 5));
    assert_eq!(metric(&service, "connects_banned_total"), 2);
    // Its session stays.
    assert_eq!(ask(&service, "GET", "clients/meter", &Value::Null).1["connected"], false);
    assert_eq!(ask(&service, "POST", "bans", &json!({ "username": "ada", "seconds": 3_600 })).1["disconnected"], 1);
    assert_eq!(second.hear(), Heard::Disconnect(0x98));
    assert_eq!(code(&service, &ada), 0x8a);
    // They survive a restart.
    service.terminate();
    service.start_again();
    assert_eq!((code(&service, &meter), code(&service, &ada)), (0x8a, 0x8a));
    let (_, listed) = ask(&service, "GET", "bans", &Value::Null);
    let [one, other] = &listed["bans"].as_array().expect("bans")[..] else { panic!("two: {listed}") };
    assert_eq!((&one["client_id"], &one["until"], &other["username"]), (&json!("meter"), &Value::Null, &json!("ada")));
    assert!(other["until"].is_string());
    for ban in [one, other] {
        assert_eq!(ask(&service, "DELETE", &format!("bans/{}", ban["id"]), &Value::Null).0, 204);
    }
    assert_eq!((code(&service, &meter), code(&service, &ada)), (0, 0));
    assert_eq!(ask(&service, "DELETE", &format!("bans/{}", one["id"]), &Value::Null).0, 404);
    // An address, for a second.
    assert_eq!(ask(&service, "POST", "bans", &json!({ "address": "127.0.0.0/8", "seconds": 1 })).0, 201);
    until("the ban to be over", || code(&service, &of("third", None, Version::V5)) == 0);
    assert_eq!(ask(&service, "GET", "bans", &Value::Null).1["bans"], json!([]));
    for wrong in [
        json!({}),
        json!({ "client_id": "a", "username": "b" }),
        json!({ "client_id": "" }),
        json!({ "address": "10.0.0.0/40" }),
        json!({ "client_id": "a", "seconds": 0 }),
        json!({ "client_id": "a", "reason": "x".repeat(2_000) }),
    ] {
        assert_eq!(ask(&service, "POST", "bans", &wrong).0, 400, "{wrong}");
    }
}

/// A user is known by what admits it, whatever name it sends: a token's subject, a certificate's common name.
#[test]
fn users_by_token_and_certificate_are_banned_by_who_they_are() {
    let dir = temp_dir();
    let keys = tokens::key(dir.path(), "ES256", "1");
    tokens::write_set(dir.path(), &[&keys]);
    let service = tokens::service(dir.path(), "chain = [\"jwt\"]", "");
    let all = tokens::sign(dir.path(), "ES256", "1", &[tokens::claims("ada", 3_600), tokens::claims("bob", 3_600)]);
    let [ada, bob] = [0, 1].map(|at| tokens::with_token(Version::V5, ["a", "b"][at], &all[at]));
    let mut first = Device::connect_as(service.mqtt(), &ada).0;
    let mut second = Device::connect_as(service.mqtt(), &bob).0;
    // The name that both send is nobody's: a ban of it refuses them before their tokens are looked at, and ends no connection.
    let (_, made) = ask(&service, "POST", "bans", &json!({ "username": "device" }));
    assert_eq!(made["disconnected"], 0, "{made}");
    assert_eq!(code(&service, &ada), 0x8a);
    assert_eq!(ask(&service, "DELETE", &format!("bans/{}", made["ban"]["id"]), &Value::Null).0, 204);
    let (_, made) = ask(&service, "POST", "bans", &json!({ "username": "ada" }));
    assert_eq!(made["disconnected"], 1, "{made}");
    assert_eq!(first.hear(), Heard::Disconnect(0x98));
    second.ping();
    assert_eq!((code(&service, &ada), metric(&service, "connects_banned_total")), (0x8a, 2));

    certificates(dir.path());
    let block = tls::listener(dir.path(), "").replace("transport = \"tls\"", "transport = \"tls\"\nauth = \"devices\"");
    let service = tls::service(&format!("{block}[auth.devices]\nchain = \"certificate\"\n"));
    let publish = |device: &str| {
        let (cert, key) = (format!("{device}.pem"), format!("{device}.key"));
        let more = ["--cert", &cert, "--key", &key, "-V", "mqttv5", "-u", "nobody", "-m", "x", "-t", "t"];
        tls::publish(&service, dir.path(), &more).status.success()
    };
    assert!(publish("device-1") && publish("device-2"));
    assert_eq!(ask(&service, "POST", "bans", &json!({ "username": "device-1" })).0, 201);
    assert!(!publish("device-1") && publish("device-2"));
    assert_eq!(metric(&service, "connects_banned_total"), 1);
}

#[test]
fn the_command_makes_bans_lists_and_ends_them() {
    let service = Service::start(&config(SINK));
    let mut device = Device::connect(service.mqtt(), Version::V5, "meter");
    let said = |arguments: &[&str]| forebay(&service, arguments);
    let (text, is_ok) = said(&["bans", "--client", "meter", "--reason", "it floods", "--seconds", "600"]);
    assert!(is_ok && text == "banned, as number 1; 1 client was disconnected\n", "{text}");
    assert_eq!(device.hear(), Heard::Disconnect(0x98));
    let (text, _) = said(&["bans"]);
    assert!(text.contains("meter") && text.contains("it floods"), "{text}");
    let (text, is_ok) = said(&["bans", "--address", "nowhere"]);
    assert!(!is_ok && text.contains("address"), "{text}");
    assert!(!said(&["bans", "--client", "a", "--user", "b"]).1);
    assert_eq!(said(&["bans", "--remove", "1"]), ("removed\n".to_owned(), true));
    let (text, is_ok) = said(&["bans", "--remove", "1"]);
    assert!(!is_ok && text.contains("no ban \"1\""), "{text}");
    Device::connect(service.mqtt(), Version::V5, "meter").ping();
}

/// Finding Q22: at a listener of `[::]` addresses of IPv4 are shown and banned as such, and a ban of a mapped one holds them.
#[test]
fn finding_q22_mapped_addresses_are_banned() {
    // A listener of `[::]` has IPv4 as well, unless another one has its port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let both = config(&format!("[[listener]]\nbind = \"[::]:0\"\nopen = true\n{SINK}"));
    let one = format!("[[listener]]\nbind = \"{free}\"\ntransport");
    let service = Service::start(&both.replace("[[listener]]\nbind = \"127.0.0.1:0\"\ntransport", &one));
    let log = service.log();
    let port = log.lines().find_map(|line| line.strip_prefix("mqtt listening on [::]:")).expect("a port");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    for banned in ["::ffff:127.0.0.1", "::ffff:127.0.0.0/104", "::ffff:0:0/96", "127.0.0.1"] {
        let mut device = Device::connect(address, Version::V5, "meter");
        let (_, shown) = ask(&service, "GET", "clients/meter", &Value::Null);
        assert!(shown["address"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{shown}");
        let (status, made) = ask(&service, "POST", "bans", &json!({ "address": banned }));
        assert_eq!((status, &made["disconnected"]), (201, &json!(1)), "{banned}: {made}");
        assert!(!made["ban"]["address"].as_str().is_none_or(|shown| shown.contains("ffff")), "{made}");
        assert_eq!(device.hear(), Heard::Disconnect(0x98));
        let mut device = Device::open(address, Version::V5);
        device.say(&forebay::mqtt::packet::Packet::Connect(hello(Version::V5, "meter")));
        assert!(matches!(device.hear(), Heard::ConnAck(hello) if hello.code == 0x8a), "{banned}");
        assert_eq!(ask(&service, "DELETE", &format!("bans/{}", made["ban"]["id"]), &Value::Null).0, 204);
    }
}

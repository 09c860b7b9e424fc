//! Tokens (JWT) with real parts: keys and tokens that PyJWT makes, mosquitto's clients with a token as their password; keys
//! that are rotated, and tokens that expire, while clients are connected.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property};
use serde_json::{Value, json};

use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until, until_metric};
use crate::records::read_when;
use crate::support::certificates::certificates;
use crate::support::service::{Service, config_with, program};
use crate::support::{python, run, temp_dir, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nkey = \"${username}\"\n";
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
const MAXIMUM_CONNECT_TIME: u8 = 0xa0;
const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A key pair, its private half in the folder; the public one.
pub(crate) fn key(dir: &Path, algorithm: &str, kid: &str) -> Value {
    let public = run(python("tokens.py").arg("key").arg(dir.join(kid)).args([algorithm, kid]));
    serde_json::from_str(&public).expect("a JWK")
}

/// Tokens with these claims.
pub(crate) fn sign(dir: &Path, algorithm: &str, kid: &str, claims: &[Value]) -> Vec<String> {
    let mut command = python("tokens.py");
    command.arg("sign").arg(dir.join(kid)).args([algorithm, kid]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut lines = child.stdin.take().expect("a pipe");
    claims.iter().for_each(|claims| writeln!(lines, "{claims}").expect("it reads"));
    drop(lines);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

pub(crate) fn write_set(dir: &Path, keys: &[&Value]) {
    fs::write(dir.join("jwks.json"), json!({ "keys": keys }).to_string()).expect("written");
}

/// A service of two shards whose listener admits tokens.
pub(crate) fn service(dir: &Path, auth: &str, jwt: &str) -> Service {
    let keys = format!("jwks_file = \"{}/jwks.json\"\naudience = \"mqtt\"\n", dir.display());
    let config = config_with("shards = 2", &format!("[auth.devices]\n{auth}\n[auth.devices.jwt]\n{keys}{jwt}\n{SINK}"));
    Service::start(&config.replacen("transport = \"tcp\"\n", "transport = \"tcp\"\nauth = \"devices\"\n", 1))
}

pub(crate) fn claims(sub: &str, expires_in_s: u64) -> Value {
    json!({ "sub": sub, "aud": "mqtt", "exp": now_s() + expires_in_s })
}

pub(crate) fn with_token<'a>(version: Version, id: &'a str, token: &'a str) -> Connect<'a> {
    Connect { username: Some("device"), password: Some(token.as_bytes()), ..hello(version, id) }
}

pub(crate) fn refused(to: SocketAddr, connect: &Connect<'_>) -> u8 {
    let mut device = Device::open(to, connect.version);
    device.say(&forebay::mqtt::packet::Packet::Connect(connect.clone()));
    match device.hear() {
        Heard::ConnAck(hello) => hello.code,
        other => panic!("{other:?}"),
    }
}

fn mosquitto_pub(to: SocketAddr, version: &str, id: &str, token: &str) -> Output {
    let mut command = tool("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &to.port().to_string(), "-V", version, "-q", "1", "-t", "t", "-m", "x"]);
    command.args(["-i", id, "-u", "device", "-P", token]).output().expect("it runs")
}

#[test]
fn mosquittos_client_with_tokens_of_pyjwt() {
    let dir = temp_dir();
    let dir = dir.path();
    let keys: Vec<Value> = ALGORITHMS.iter().map(|algorithm| key(dir, algorithm, algorithm)).collect();
    write_set(dir, &keys.iter().collect::<Vec<_>>());
    let file = dir.join("passwords");
    let mut passwords = tool("mosquitto_passwd");
    assert!(passwords.args(["-c", "-b"]).arg(&file).args(["bob", "builder"]).status().expect("it runs").success());
    let users = format!("chain = [\"jwt\", \"password\"]\npassword_file = \"{}\"", file.display());
    let service = service(dir, &users, "");
    let to = service.mqtt();
    let mut secrets = Vec::new();
    for algorithm in ALGORITHMS {
        let all = [
            claims(algorithm, 3_600),
            claims(algorithm, 0),
            json!({ "sub": algorithm, "aud": "mqtt" }),
            json!({ "sub": algorithm, "exp": now_s() + 60 }),
            json!({ "sub": algorithm, "aud": "web", "exp": now_s() + 60 }),
            json!({ "aud": "mqtt", "exp": now_s() + 60 }),
            // Expired for longer than the leeway.
            json!({ "sub": algorithm, "aud": "mqtt", "exp": now_s() - 31 }),
            json!({ "sub": algorithm, "aud": "mqtt", "exp": now_s() + 60, "nbf": now_s() + 90 }),
        ];
        let tokens = sign(dir, algorithm, algorithm, &all);
        for version in ["mqttv311", "mqttv5"] {
            assert!(mosquitto_pub(to, version, "d1", &tokens[0]).status.success(), "{algorithm}");
        }
        for version in [Version::V31, Version::V311, Version::V5] {
            let code = if version == Version::V5 { NOT_AUTHORIZED } else { 5 };
            // The second is within its leeway.
            Device::connect_as(to, &with_token(version, "d1", &tokens[1]));
            for (token, claims) in tokens[2..].iter().zip(&all[2..]) {
                assert_eq!(refused(to, &with_token(version, "d1", token)), code, "{claims}");
            }
            let (message, signature) = tokens[0].rsplit_once('.').expect("three parts");
            let other = signature.chars().rev().collect::<String>();
            for forged in [format!("{message}."), format!("{message}.{other}"), "e30.e30.".to_owned()] {
                assert_eq!(refused(to, &with_token(version, "d1", &forged)), code, "{forged}");
            }
        }
        secrets.extend(tokens);
    }
    // A user of the file is admitted as before.
    Device::connect_as(to, &Connect { password: Some(b"builder"), username: Some("bob"), ..hello(Version::V5, "b") });
    let records = read_when(service.embedded(), "all", 6);
    let mut names: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ES256", "ES256", "EdDSA", "EdDSA", "RS256", "RS256"], "the identity is that of the token");
    let events = service.get("/api/v1/events?limit=1000").expect("events").1;
    for said in
        ["token: it has expired", "token: for another audience", "token: the signature is wrong", "token: no exp"]
    {
        assert!(events.contains(said), "{said}: {events}");
    }
    for token in &secrets {
        let signature = token.rsplit_once('.').expect("three parts").1;
        assert!(!events.contains(signature) && !service.log().contains(signature), "a token is shown");
    }
    assert_eq!(metric(&service, "authentications_waiting"), 0);
    let checked = program().arg("check").arg(service.dir().join("forebay.toml")).output().expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("jwks.json: 3 keys"), "{said}");
}

/// X34: a key that is gone from the set.
#[test]
fn a_key_that_goes_ends_those_who_came_by_it() {
    let dir = temp_dir();
    let dir = dir.path();
    let (old, new) = (key(dir, "ES256", "old"), key(dir, "ES256", "new"));
    write_set(dir, &[&old]);
    let service = service(dir, "chain = \"jwt\"", "");
    let to = service.mqtt();
    let by_old = sign(dir, "ES256", "old", &[claims("ada", 600), claims("bob", 600)]);
    let by_new = sign(dir, "ES256", "new", &[claims("carol", 600)]).remove(0);
    let (mut ada, _) = Device::connect_as(to, &with_token(Version::V5, "a", &by_old[0]));
    assert_eq!(refused(to, &with_token(Version::V5, "c", &by_new)), NOT_AUTHORIZED);
    // A set that holds a private key is not taken.
    let mut leaked = old.clone();
    leaked["d"] = json!("AQAB");
    write_set(dir, &[&leaked, &new]);
    service.signal("HUP");
    until("the reload", || service.log().contains("private key or a secret"));
    ada.deliver(1, "t", b"x");
    write_set(dir, &[&old, &new]);
    service.signal("HUP");
    until("the reload", || service.log().contains("auth devices (changed: files)"));
    let (mut carol, _) = Device::connect_as(to, &with_token(Version::V5, "c", &by_new));
    ada.deliver(2, "t", b"x");
    write_set(dir, &[&new]);
    service.signal("HUP");
    assert_eq!(ada.hear(), Heard::Disconnect(NOT_AUTHORIZED));
    carol.deliver(1, "t", b"x");
    assert_eq!(refused(to, &with_token(Version::V5, "b", &by_old[1])), NOT_AUTHORIZED);
    assert_eq!(refused(to, &with_token(Version::V5, "a", &by_old[0])), NOT_AUTHORIZED, "remembered, and of an old key");
    assert_eq!(metric(&service, "access_revoked_total"), 1);
    assert!(service.get("/api/v1/events?limit=100").expect("events").1.contains("no key has its kid"));
}

/// X33: 0xA0, and the session is kept.
#[test]
fn a_token_ends_its_connection_and_no_other() {
    let dir = temp_dir();
    let dir = dir.path();
    write_set(dir, &[&key(dir, "EdDSA", "k")]);
    let service = service(dir, "chain = \"jwt\"\nclient_id = \"identity\"", "leeway = \"0s\"");
    let to = service.mqtt();
    let tokens = sign(dir, "EdDSA", "k", &[claims("short", 4), claims("long", 600), claims("old", 4)]);
    let (mut short, _) = Device::connect_as(to, &with_token(Version::V5, "short", &tokens[0]));
    let (mut long, _) = Device::connect_as(to, &with_token(Version::V5, "", &tokens[1]));
    let (mut old, _) = Device::connect_as(to, &with_token(Version::V311, "old", &tokens[2]));
    assert_eq!(refused(to, &with_token(Version::V5, "other", &tokens[1])), 0x85, "not its client id");
    short.deliver(1, "t", b"x");
    assert_eq!(short.hear(), Heard::Disconnect(MAXIMUM_CONNECT_TIME));
    assert_eq!(old.hear(), Heard::Closed);
    until_metric(&service, "access_expired_total", 2);
    long.deliver(1, "t", b"x");
    assert_eq!(refused(to, &with_token(Version::V5, "short", &tokens[0])), NOT_AUTHORIZED);
    let events = || service.get("/api/v1/events?limit=100").expect("events").1;
    assert!(events().contains("\"access_expired\""), "{}", events());
    until("the refusal among the events", || events().contains("token: it has expired"));
    assert!(service.log().contains("its token has expired"));
}

/// X40: grants are those of the token that the connection was made with, not of one before, of the same user and
/// session.
#[test]
fn a_token_grants_what_it_says_to_its_connection() {
    let dir = temp_dir();
    let dir = dir.path();
    write_set(dir, &[&key(dir, "EdDSA", "k")]);
    fs::write(dir.join("acl"), "pattern write file\n").expect("written");
    let service = service(dir, &format!("chain = \"jwt\"\nacl_file = \"{}/acl\"", dir.display()), "");
    let to = service.mqtt();
    let granting = |acl: Value| {
        let mut claims = claims("ada", 600);
        claims["acl"] = acl;
        claims
    };
    let deny = json!({ "permission": "deny", "action": "publish", "topic": "a/secret" });
    let allow = json!({ "permission": "allow", "action": "publish", "topic": "a/#" });
    let all = [
        granting(json!({ "pub": ["dev/${clientid}"] })),
        granting(json!([deny, allow])),
        granting(json!({ "pub": [] })),
        claims("ada", 600),
        granting(json!([{ "permission": "allow", "action": "publish", "topic": "a", "ipaddr": "::1" }])),
    ];
    let tokens = sign(dir, "EdDSA", "k", &all);
    let expiry = properties([Property::SessionExpiryInterval(600)]);
    let will = |topic| {
        Some(Will { qos: QoS::AtLeastOnce, retain: false, topic, payload: b"will", properties: Properties::EMPTY })
    };
    let mut id = 0;
    for (token, topics) in tokens.iter().zip([
        [("dev/c", true), ("dev/d", false), ("a/1", false), ("file", false)],
        [("dev/c", false), ("a/secret", false), ("a/1", true), ("file", true)],
        [("dev/c", false), ("a/secret", false), ("a/1", false), ("file", false)],
        [("dev/c", false), ("a/secret", false), ("a/1", false), ("file", true)],
    ]) {
        let connect =
            Connect { clean_start: false, properties: expiry.as_properties(), ..with_token(Version::V5, "c", token) };
        let (mut device, _) = Device::connect_as(to, &connect);
        for (topic, granted) in topics {
            id += 1;
            device.publish(QoS::AtLeastOnce, id, topic, topic.as_bytes());
            let code = if granted { 0 } else { NOT_AUTHORIZED };
            assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, id, code), "{topic}");
            if !granted {
                assert_eq!(refused(to, &Connect { will: will(topic), ..connect.clone() }), NOT_AUTHORIZED, "{topic}");
            }
        }
    }
    assert_eq!(refused(to, &with_token(Version::V5, "c", &tokens[4])), NOT_AUTHORIZED, "a condition that is unknown");
    // What the token grants holds for its will as well, which is published after its connection has ended.
    let left = Connect { will: will("a/gone"), ..with_token(Version::V5, "w", &tokens[1]) };
    drop(Device::connect_as(to, &left));
    until_metric(&service, "wills_published_total", 1);
    assert_eq!(metric(&service, "acl_denied_total{operation=\"will\"}"), 0);
}

/// X70: a token in the user name.
#[test]
fn a_user_name_that_is_a_token_is_shown_nowhere() {
    let dir = temp_dir();
    let dir = dir.path();
    write_set(dir, &[&key(dir, "EdDSA", "k")]);
    let service = service(dir, "chain = \"jwt\"", "token_from = \"username\"\nclient_id_claim = \"mqtt\"");
    let mut good = claims("ada", 600);
    good["mqtt"] = json!("c1");
    let tokens = sign(dir, "EdDSA", "k", &[good, claims("ada", 600)]);
    let named = |id, token| Connect { username: Some(token), password: None, ..hello(Version::V5, id) };
    let (mut device, _) = Device::connect_as(service.mqtt(), &named("c1", &tokens[0]));
    device.deliver(1, "t", b"x");
    let (mut device, _) = Device::connect_as(service.mqtt(), &named("", &tokens[0]));
    device.deliver(2, "t", b"x");
    assert_eq!(refused(service.mqtt(), &named("c2", &tokens[0])), 0x85);
    assert_eq!(refused(service.mqtt(), &named("c1", &tokens[1])), NOT_AUTHORIZED);
    std::thread::sleep(Duration::from_millis(100));
    let shown = [
        service.log(),
        service.get("/api/v1/events?limit=100").expect("events").1,
        service.get("/api/v1/clients").expect("clients").1,
        service.get("/metrics").expect("metrics").1,
    ];
    assert!(shown[1].contains("client_id_claim") && shown[2].contains("\"ada\""), "{} {}", shown[1], shown[2]);
    for token in tokens {
        let part = &token[..40];
        assert!(!shown.iter().any(|text| text.contains(part)), "a token is shown");
    }
}

/// `openssl s_server` that serves the files of a folder over TLS.
struct KeyServer(std::process::Child);

impl KeyServer {
    fn start(dir: &Path, port: u16) -> Self {
        let mut command = tool("openssl");
        command.current_dir(dir).args(["s_server", "-WWW", "-quiet", "-cert", "server.pem", "-key", "server.key"]);
        command.args(["-accept", &format!("127.0.0.1:{port}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("openssl");
        until("the key server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self(child)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// X32: a key server that goes away.
#[test]
fn keys_are_fetched_by_url_and_outlive_their_server() {
    let dir = temp_dir();
    let dir = dir.path();
    certificates(dir);
    let first = key(dir, "ES256", "one");
    write_set(dir, &[&first]);
    let token = sign(dir, "ES256", "one", &[claims("ada", 3_600)]).remove(0);
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let keys = format!(
        "jwks_url = \"https://localhost:{port}/jwks.json\"\njwks_ca_file = \"{}/ca.pem\"\naudience = \"mqtt\"\n",
        dir.display()
    );
    let config =
        config_with("shards = 2", &format!("[auth.devices]\nchain = [\"jwt\"]\n[auth.devices.jwt]\n{keys}{SINK}"));
    let config = config.replacen("transport = \"tcp\"\n", "transport = \"tcp\"\nauth = \"devices\"\n", 1);
    // The server is away: the service starts, says so, and refuses.
    let mut service = Service::start(&config);
    until("the event", || service.log().contains("key_set_unreachable"));
    assert_eq!(refused(service.mqtt(), &with_token(Version::V5, "d1", &token)), NOT_AUTHORIZED);
    let server = KeyServer::start(dir, port);
    let admitted = |service: &Service| mosquitto_pub(service.mqtt(), "mqttv5", "d1", &token).status.success();
    until("the key", || admitted(&service));
    let age = service.metric("forebay_key_set_age_seconds{auth=\"devices\"}").expect("the metric");
    assert!((0.0..600.0).contains(&age), "{age}");

    // A restart needs no server.
    drop(server);
    service.kill9();
    service.start_again();
    assert!(admitted(&service), "{}", service.log());

    // A set that does not have the key any more ends those who came by it.
    let second = key(dir, "ES256", "two");
    write_set(dir, &[&second]);
    let mut device = Device::open(service.mqtt(), Version::V5);
    device.say(&forebay::mqtt::packet::Packet::Connect(with_token(Version::V5, "d2", &token)));
    assert!(matches!(device.hear(), Heard::ConnAck(hello) if hello.code == 0));
    let _server = KeyServer::start(dir, port);
    until("the end", || service.log().contains("access_revoked"));
    let newer = sign(dir, "ES256", "two", &[claims("ada", 3_600)]).remove(0);
    assert!(mosquitto_pub(service.mqtt(), "mqttv5", "d3", &newer).status.success());
    assert_eq!(refused(service.mqtt(), &with_token(Version::V5, "d1", &token)), NOT_AUTHORIZED);
    assert!(!service.log().contains(&token));
}

//! The admin API: clients, topics, the stream of events, the log's level, tokens, its own description.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use forebay::mqtt::packet::{Connect, Version};
use forebay::mqtt::property::Property;
use serde_json::{Value, json};

use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config, config_with, http, program};
use crate::support::{python, run, temp_dir};

const SINK: &str =
    "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"t-${topic[0]}\"\nrecord_bytes_max = \"1KiB\"\n";

/// Status and JSON body.
pub(crate) fn ask(service: &Service, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (head, body) = service.ask(method, path, "X-Test: 1", body).expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let json = if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap_or(Value::Null) };
    (status, json)
}

fn events(service: &Service, kind: &str) -> Vec<Value> {
    let (_, page) = ask(service, "GET", &format!("/api/v1/events?kind={kind}"), "");
    page["events"].as_array().cloned().unwrap_or_default()
}

/// The description is valid, and the service does as it says.
#[test]
fn the_api_is_as_described() {
    let source = "[[source]]\nname = \"commands\"\ntopic = \"commands\"\nmqtt_topic = \"t/1\"\n";
    // It fails for the messages below.
    let rule = "[[rule]]\nname = \"r\"\nsql = 'SELECT payload.x FROM \"#\"'\n";
    // Nobody is there.
    let bridge = "[bridge.plant]\nurl = \"mqtt://127.0.0.1:9\"\n[[bridge.plant.in]]\nfilters = [\"plant/#\"]\n";
    let text = format!("[spool]\nbytes_max = \"256MiB\"\n{SINK}{source}{rule}{bridge}");
    let service = Service::start(&config_with("shards = 2", &text));
    let mut devices: Vec<_> =
        (0..3).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("a/b {n}"))).collect();
    devices.iter_mut().for_each(|device| device.deliver(1, "x", b"x"));
    let token = std::fs::read_to_string(service.token_file()).expect("a token");
    run(python("openapi.py").arg(format!("http://{}", service.control())).arg(token.trim()));
}

#[test]
fn clients_are_listed_searched_shown_disconnected_and_forgotten() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let names: Vec<String> = (0..25).map(|n| format!("client-{n}")).collect();
    let mut devices: Vec<_> = names.iter().map(|name| Device::connect(service.mqtt(), Version::V5, name)).collect();
    // Page by page, each client once.
    let (mut seen, mut path) = (Vec::new(), "/api/v1/clients?limit=4".to_owned());
    loop {
        let (status, page) = ask(&service, "GET", &path, "");
        assert_eq!(status, 200, "{page:#}");
        let rows = page["clients"].as_array().expect("a list");
        assert!(rows.len() <= 4);
        seen.extend(rows.iter().map(|row| row["client_id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/clients?limit=4&cursor={next}");
    }
    let mut expected = names.clone();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    let found = |query: &str| {
        let (_, page) = ask(&service, "GET", &format!("/api/v1/clients?{query}"), "");
        page["clients"].as_array().map(Vec::len)
    };
    assert_eq!(
        (found("search=client-1"), found("connected=false"), found("search=none")),
        (Some(11), Some(0), Some(0))
    );
    let (_, client) = ask(&service, "GET", "/api/v1/clients/client-7", "");
    assert_eq!((&client["protocol"], &client["connected"]), (&"5.0".into(), &true.into()), "{client:#}");
    assert_eq!(client["listener"], service.mqtt().to_string());
    assert!(client["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{client:#}");
    assert_eq!(ask(&service, "GET", "/api/v1/clients/nobody", "").0, 404);
    // 5.0 hears why: Administrative action.
    assert_eq!(ask(&service, "POST", "/api/v1/clients/client-7/disconnect", "").0, 204);
    assert_eq!(devices[7].hear(), Heard::Disconnect(0x98));
    until("it is gone", || ask(&service, "GET", "/api/v1/clients/client-7", "").0 == 404);
    assert_eq!(ask(&service, "POST", "/api/v1/clients/client-7/disconnect", "").0, 404);
    // A kept session outlives its connection, until it is forgotten.
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let connect = Connect { properties: hour.as_properties(), ..hello(Version::V5, "kept") };
    drop(Device::connect_as(service.mqtt(), &connect));
    until("it is away", || ask(&service, "GET", "/api/v1/clients/kept", "").1["connected"] == false);
    assert_eq!(ask(&service, "DELETE", "/api/v1/clients/kept", "").0, 204);
    assert_eq!(ask(&service, "GET", "/api/v1/clients/kept", "").0, 404);
    assert_eq!(ask(&service, "DELETE", "/api/v1/clients/client-3", "").0, 204, "a connected one, too");
    assert_eq!(devices[3].hear(), Heard::Disconnect(0x98));
    until("the changes are events", || events(&service, "admin_action").len() == 3);
    let actions: Vec<Value> = events(&service, "admin_action").iter().map(|event| event["action"].clone()).collect();
    assert_eq!(actions, ["forget", "forget", "disconnect"], "the newest first");
    assert_eq!(metric(&service, "sessions"), 23);
}

/// Clients of one listener, by the API and the command line. Those that are away are of none.
#[test]
fn clients_are_listed_by_listener() {
    let service = Service::start(&config_with("shards = 2", &format!("[[listener]]\nbind = \"127.0.0.1:0\"\n{SINK}")));
    let [one, other] = [service.listeners()[0], service.listeners()[1]];
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let connect = |at, name: &str| {
        Device::connect_as(at, &Connect { properties: hour.as_properties(), ..hello(Version::V5, name) })
    };
    let _here: Vec<_> = (0..5).map(|n| connect(one, &format!("here-{n}"))).collect();
    let _there: Vec<_> = (0..3).map(|n| connect(other, &format!("there-{n}"))).collect();
    drop(connect(other, "away"));
    until("it is away", || ask(&service, "GET", "/api/v1/clients/away", "").1["connected"] == false);
    let found = |query: &str| {
        let (status, page) = ask(&service, "GET", &format!("/api/v1/clients?{query}"), "");
        let rows = page["clients"].as_array().into_iter().flatten();
        let mut names: Vec<String> = rows.map(|row| row["client_id"].as_str().expect("an id").to_owned()).collect();
        names.sort();
        (status, names)
    };
    let there: Vec<String> = (0..3).map(|n| format!("there-{n}")).collect();
    assert_eq!(found(&format!("listener={other}")), (200, there));
    assert_eq!(found(&format!("listener={one}")).1.len(), 5);
    assert_eq!(found(&format!("listener={other}&search=-2")).1, ["there-2"]);
    assert_eq!(found(&format!("listener={other}&connected=false")).1.len(), 0);
    assert_eq!(found("listener=127.0.0.1:1").0, 400);
    let (text, well) = forebay(&service, &["clients", "--listener", &other.to_string()]);
    assert!(well && text.lines().count() == 4 && text.contains("there-1"), "{text}");
    let (text, well) = forebay(&service, &["clients", "--connected", "false"]);
    assert!(well && text.lines().count() == 2 && text.contains("away"), "{text}");
    let (text, well) = forebay(&service, &["clients", "--listener", "127.0.0.1:1"]);
    assert!(!well && text.contains("`forebay listeners` lists them"), "{text}");
}

#[test]
fn topics_spool_status_and_configuration_are_shown() {
    let spool = "[spool]\nbytes_max = \"128MiB\"\n";
    let service = Service::start(&config_with(
        "shards = 2",
        &format!("{spool}{SINK}headers = {{ site = \"${{env.SITE}}\" }}\n").replace("${env.SITE}", "berlin"),
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=3).for_each(|n| device.deliver(n, &format!("{n}/x"), b"x"));
    until("topics are known", || {
        let (_, page) = ask(&service, "GET", "/api/v1/topics?sink=all", "");
        let mut names: Vec<String> = page["topics"].as_array().map_or(Vec::new(), |rows| {
            rows.iter()
                .filter(|row| row["partitions"] == 4)
                .map(|row| row["topic"].as_str().unwrap_or("").to_owned())
                .collect()
        });
        names.sort();
        names == ["t-1", "t-2", "t-3"]
    });
    let (_, spool) = ask(&service, "GET", "/api/v1/spool", "");
    assert_eq!((&spool["configured"], &spool["records_written"]), (&true.into(), &3.into()), "{spool:#}");
    // Each shard, and all of them together.
    let shards = spool["shards"].as_array().expect("shards");
    let sum = |of: &str| shards.iter().filter_map(|shard| shard[of].as_u64()).sum::<u64>();
    assert_eq!(shards.iter().map(|shard| &shard["shard"]).collect::<Vec<_>>(), [&json!(0), &json!(1)]);
    for of in ["records_written", "segments", "bytes_max"] {
        assert_eq!(Some(sum(of)), spool[of].as_u64(), "{of} of {spool:#}");
    }
    let (text, well) = forebay(&service, &["spool", "status"]);
    assert!(
        well && text.lines().count() == 4 && text.lines().last().is_some_and(|line| line.starts_with("all ")),
        "{text}"
    );
    let (_, status) = ask(&service, "GET", "/api/v1/status", "");
    assert_eq!((&status["ready"], &status["healthy"], &status["connections"]), (&true.into(), &true.into(), &1.into()));
    assert!(status["started_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{status:#}");
    let (_, shown) = ask(&service, "GET", "/api/v1/config", "");
    let sink = &shown["sink"][0];
    assert_eq!((&sink["topic"], &sink["record_bytes_max"]), (&"t-${topic[0]}".into(), &1024.into()), "{shown:#}");
    assert_eq!((&sink["linger"], &sink["headers"]["site"]), (&"2ms".into(), &"berlin".into()));
}

#[test]
fn the_level_of_the_log_changes_and_connects_are_logged_at_debug() {
    let service = Service::start(&config(SINK));
    drop(Device::connect(service.mqtt(), Version::V5, "quiet"));
    // Its end is noticed after it, which may be at the other level.
    until("its end", || metric(&service, "connections") == 0);
    assert_eq!(ask(&service, "GET", "/api/v1/log-level", "").1["level"], "info");
    assert_eq!(ask(&service, "PUT", "/api/v1/log-level", "{\"level\": \"debug\"}").1["level"], "debug");
    let refused = ask(&service, "PUT", "/api/v1/log-level", "{\"level\": \"forebay=loud\"}");
    assert!(refused.0 == 400 && refused.1["detail"].as_str().is_some_and(|why| why.contains("loud")), "{refused:?}");
    drop(Device::connect(service.mqtt(), Version::V5, "noisy"));
    until("both lines", || {
        let log = service.log();
        let line = |words: &str| log.lines().any(|line| line.contains(words) && line.contains("noisy"));
        line("client_connected") && line("client_disconnected")
    });
    assert!(!service.log().contains("quiet"), "{}", service.log());
}

/// Events as they happen, behind the one that was seen last.
#[test]
fn events_are_streamed() {
    let service = Service::start(&config(SINK));
    let mut socket = TcpStream::connect(service.control()).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    write!(socket, "GET /api/v1/events/stream?kind=admin_action HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("ask");
    let mut heard = String::new();
    let mut until_heard = |words: &str| {
        let mut bytes = [0; 4_096];
        while !heard.contains(words) {
            let n = socket.read(&mut bytes).expect("it goes on");
            assert!(n > 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        heard.clone()
    };
    until_heard("text/event-stream");
    for level in ["warn", "info"] {
        assert_eq!(ask(&service, "PUT", "/api/v1/log-level", &format!("{{\"level\": \"{level}\"}}")).0, 200);
        let heard = until_heard(&format!("\"level\":\"{level}\""));
        assert!(heard.contains("event: admin_action") && heard.contains("id: "), "{heard}");
    }
}

/// X67, X68: tokens and what each role may do.
#[test]
fn tokens_are_asked_for_where_they_are_configured() {
    let made = |name: &str, role: &str| {
        let output = program().args(["token", name, "--role", role]).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let token = text.lines().next().and_then(|line| line.strip_prefix("token: ")).expect("a token").to_owned();
        (token, text.lines().last().expect("a line").to_owned())
    };
    let ((reader, read_line), (writer, write_line)) = (made("reader", "read"), made("writer", "write"));
    let dir = temp_dir();
    let file = dir.path().join("tokens");
    std::fs::write(&file, format!("# tokens\n{read_line}\n{write_line}\n")).expect("written");
    let text = config(SINK).replace("[control]\n", &format!("[control]\ntokens_file = \"{}\"\n", file.display()));
    let service = Service::start(&text);
    let status = |method: &str, path: &str, header: &str| -> (u16, String) {
        let (head, body) = http(service.control(), method, path, header, "").expect("an answer");
        assert!(head.contains("401") || !head.contains("www-authenticate"), "{head}");
        (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body)
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    assert_eq!(status("GET", "/metrics", "X-Test: 1").0, 200, "scraping and probes need none");
    assert_eq!(status("GET", "/api/v1/sinks", "X-Test: 1").0, 401);
    assert_eq!(status("GET", "/api/v1/sinks", &bearer("guess")).0, 401);
    assert_eq!(status("GET", "/api/v1/sinks", &bearer(&reader)).0, 200);
    let (code, body) = status("POST", "/api/v1/clients/x/disconnect", &bearer(&reader));
    assert!(code == 403 && body.contains("role read"), "{code} {body}");
    let device = Device::connect(service.mqtt(), Version::V5, "x");
    assert_eq!(status("POST", "/api/v1/clients/x/disconnect", &bearer(&writer)).0, 204);
    drop(device);
    let event =
        http(service.control(), "GET", "/api/v1/events?kind=admin_action", &bearer(&reader), "").expect("events").1;
    assert!(event.contains("\"token\":\"writer\""), "{event}");
    assert!(!service.log().contains(&writer) && !service.log().contains("argon2id"), "no secret in the log");
}

/// X67: an address that other machines reach: with tokens, or for this machine only in so many words.
#[test]
fn an_address_beyond_loopback_needs_tokens() {
    let dir = temp_dir();
    let file = dir.path().join("forebay.toml");
    let open = "[control]\nbind = \"0.0.0.0:0\"\n";
    let text = config(SINK).replace("[control]\nbind = \"127.0.0.1:0\"\n", open);
    std::fs::write(&file, text.replace("$DIR", &dir.path().display().to_string())).expect("written");
    for command in [&["run"][..], &["check", "--offline"]] {
        let output = program().args(command).arg("--config").arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("control.bind") && said.contains("forebay token"), "{said}");
    }
    let service = Service::start(&text.replace(open, &format!("{open}tokens_file = \"none\"\n")));
    let near = SocketAddr::from(([127, 0, 0, 1], service.control().port()));
    let status = |address, path| {
        let (head, body) = http(address, "GET", path, "X-Test: 1", "").expect("an answer");
        (head.split(' ').nth(1).map(str::to_owned).expect("a status"), body)
    };
    assert_eq!(status(near, "/api/v1/sinks").0, "200");
    // Another address of this machine plays another machine: connections to it come from it.
    let Some(far) = own_address() else { return };
    let far = SocketAddr::new(far, near.port());
    assert_eq!(status(far, "/metrics").0, "200");
    let (code, body) = status(far, "/api/v1/sinks");
    assert!(code == "403" && body.contains("control.tokens_file"), "{code} {body}");
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// `forebay events --follow` prints what happened and then what happens, and ends with the service.
#[test]
fn events_are_followed_on_the_command_line() {
    let mut service = Service::start(&config(SINK));
    let address = service.control().to_string();
    let mut follow = program();
    follow.args(["events", "--follow", "--control", &address]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = follow.spawn().expect("it runs");
    let (tell, lines) = std::sync::mpsc::channel();
    let output = BufReader::new(child.stdout.take().expect("its output")).lines();
    std::thread::spawn(move || output.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let until_line = |words: &str| loop {
        let line = lines.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("no line with {words}"));
        if line.contains(words) {
            return line;
        }
    };
    until_line("started: Forebay started shards=1 version=");
    assert_eq!(ask(&service, "PUT", "/api/v1/log-level", "{\"level\": \"warn\"}").0, 200);
    assert!(until_line("admin_action").contains("action=log-level level=warn"));
    service.terminate();
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let wrong = program().args(["events", "-f", "--kind", "x", "--control", &address]).output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(1));
}

/// X67: a page of another site must not reach the service through a browser of this machine.
#[test]
fn a_foreign_host_or_origin_is_refused() {
    let service = Service::start(&config(SINK));
    let mut socket = TcpStream::connect(service.control()).expect("connect");
    write!(socket, "GET /api/v1/sinks HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("application/problem+json"), "{answer}");
    let (head, _) =
        service.ask("PUT", "/api/v1/log-level", "Origin: https://evil.example", "{\"level\":\"debug\"}").expect("x");
    assert!(head.contains("403"), "{head}");
}

/// Finding Q21: what a client has chosen reaches no terminal as it is, by whichever command, as text and as JSON.
#[test]
fn finding_q21_commands_print_no_raw_text_of_clients() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"));
    let id = "a\u{1b}[2J\u{202e}\u{200b}\u{9b}\u{7}z";
    let mut device = crate::device::Device::connect(service.mqtt(), forebay::mqtt::packet::Version::V311, id);
    device.ping();
    let is_raw = |c: char| c != '\n' && c.is_control() || matches!(c, '\u{202e}' | '\u{200b}');
    for command in [
        &["events", "--kind", "client_connected"][..],
        &["events", "--kind", "client_connected", "--json"],
        &["clients"],
        &["clients", "--json"],
        &["bans", "--client", id],
        &["bans"],
        &["events"],
    ] {
        let (text, _) = crate::sources_admin::forebay(&service, command);
        assert!(!text.chars().any(is_raw), "{command:?}: {text:?}");
        assert!(text.contains('z') || command == ["bans", "--client", id], "{command:?}: {text:?}");
    }
}

//! What the dashboard asks of the API: logins, the live stream, the history, partitions, and the headers of all answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::Version;
use serde_json::Value;

use crate::device::Device;
use crate::process::{metric, until};
use crate::support::service::{Service, config, http, program};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
const BROWSER: &str = "X-Forebay: 1";

/// Tokens `ops` (write) and `grafana` (read), and a service that takes them.
pub(super) fn with_tokens(rest: &str) -> (Service, [String; 2]) {
    with_tokens_and("", rest)
}

/// The same with more keys of `[control]`.
pub(super) fn with_tokens_and(keys: &str, rest: &str) -> (Service, [String; 2]) {
    with_tokens_in(keys, rest, &[])
}

/// The same with variables of the environment.
pub(super) fn with_tokens_in(keys: &str, rest: &str, variables: &[(&str, &str)]) -> (Service, [String; 2]) {
    let made = |name: &str, role: &str| {
        let output = program().args(["token", name, "--role", role]).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let token = text.lines().next().and_then(|line| line.strip_prefix("token: ")).expect("a token").to_owned();
        (token, text.lines().last().expect("a line").to_owned())
    };
    let (ops, grafana) = (made("ops", "write"), made("grafana", "read"));
    let dir = crate::support::temp_dir().keep();
    let file = dir.join("tokens");
    std::fs::write(&file, format!("{}\n{}\n", ops.1, grafana.1)).expect("written");
    let text = config(rest);
    let text = if keys.starts_with("bind") {
        text.replace("[control]\nbind = \"127.0.0.1:0\"\n", "[control]\n")
    } else {
        text
    };
    let text = text.replace("[control]\n", &format!("[control]\ntokens_file = {file:?}\n{keys}"));
    (Service::start_with(&text, &[], variables), [ops.0, grafana.0])
}

/// Status, head and body of a request without any token but what `header` has.
fn ask(service: &Service, method: &str, path: &str, header: &str) -> (u16, String, String) {
    let (head, body) = http(service.control(), method, path, header, "").expect("an answer");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), head, body)
}

/// The two halves of a login, as a request has them.
pub(super) fn log_in(service: &Service, token: &str) -> String {
    let (status, head, body) = ask(service, "POST", "/api/v1/session", &format!("Authorization: Bearer {token}"));
    assert_eq!(status, 200, "{body}");
    let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(line.contains(part), "{line}");
    }
    let cookie = line.split(';').next().expect("a cookie");
    assert!(cookie.starts_with(&format!("forebay-{}=", service.control().port())), "{cookie}");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    format!("X-Forebay: {}\r\nCookie: {cookie}", status["x_forebay"].as_str().expect("the other half"))
}

/// Events of a stream: their kinds and data.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(service: &Service, header: &str) -> Self {
        Self::of(service, "live", header)
    }

    fn of(service: &Service, path: &str, header: &str) -> Self {
        let mut socket = TcpStream::connect(service.control()).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let host = service.control();
        // A connection that stays after a refusal would end with its idle time, a minute later.
        write!(socket, "GET /api/v1/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\r\n\r\n")
            .expect("ask");
        Self(BufReader::new(socket))
    }

    /// `None`: the stream has ended.
    fn next(&mut self) -> Option<(String, Value)> {
        let (mut kind, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim() == "0" {
                return None;
            }
            // What keeps the connection: whoever waits for the end looks at the time then.
            if line.starts_with(':') && kind.is_empty() {
                return Some(("comment".to_owned(), Value::Null));
            }
            if let Some(name) = line.trim().strip_prefix("event: ") {
                name.clone_into(&mut kind);
            } else if let Some(data) = line.trim().strip_prefix("data: ") {
                return Some((kind, serde_json::from_str(data).expect("JSON")));
            }
        }
    }

    fn of_kind(&mut self, wanted: &str) -> Value {
        loop {
            let (kind, data) = self.next().expect("the stream goes on");
            if kind == wanted {
                return data;
            }
        }
    }
}

/// The place of a value in frames.
fn place(layout: &Value, kind: &str, name: &str, series: &str) -> usize {
    let mut first = 0;
    for object in layout["objects"].as_array().expect("objects") {
        let of = object["kind"].as_str().expect("a kind");
        if of == kind && object["name"] == name {
            let all = layout["kinds"][kind]["series"].as_array().expect("series");
            return first + all.iter().position(|one| one == series).expect("the series");
        }
        first += layout["kinds"][of]["width"].as_u64().expect("a width") as usize;
    }
    panic!("no {kind} {name} in {layout:#}");
}

#[test]
fn a_browser_logs_in_once_and_its_cookie_counts_for_its_own_pages_alone() {
    let (service, [ops, grafana]) = with_tokens_and("grafana_url = \"https://grafana.example/d/x\"\n", SINK);
    let status = |method, path, header: &str| ask(&service, method, path, header).0;
    let (pause, sinks) = ("/api/v1/sinks/all/pause?dry_run=true", "/api/v1/sinks");
    // A request without a token is told so, and is no error.
    let nobody: Value = serde_json::from_str(&ask(&service, "GET", "/api/v1/session", BROWSER).2).expect("JSON");
    assert_eq!(
        (&nobody["role"], &nobody["name"], &nobody["grafana_url"]),
        (&"none".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(status("POST", "/api/v1/session", "Authorization: Bearer wrong"), 401);
    assert_eq!(status("POST", "/api/v1/session", BROWSER), 401);

    let (writer, reader) = (log_in(&service, &ops), log_in(&service, &grafana));
    let who = |header: &str| -> Value {
        serde_json::from_str(&ask(&service, "GET", "/api/v1/session", header).2).expect("JSON")
    };
    assert_eq!((&who(&writer)["name"], &who(&writer)["role"]), (&"ops".into(), &"write".into()));
    assert_eq!((&who(&reader)["name"], &who(&reader)["role"]), (&"grafana".into(), &"read".into()));
    assert_eq!(who(&reader)["grafana_url"], "https://grafana.example/d/x");
    assert!(who(&writer)["expires_in_seconds"].as_u64().is_some_and(|left| (43_000..=43_200).contains(&left)));
    assert_eq!((status("GET", sinks, &writer), status("POST", pause, &writer)), (200, 200));
    assert_eq!((status("GET", sinks, &reader), status("POST", pause, &reader)), (200, 403), "its role is looked up");

    // Not without the header that pages of others cannot send, nor with their origin.
    assert_eq!(status("GET", sinks, writer.split_once("\r\n").expect("two headers").1), 401);
    let own = format!("{writer}\r\nOrigin: http://{}", service.control());
    assert_eq!((status("POST", pause, &own), status("GET", sinks, &own)), (200, 200));
    for origin in ["https://evil.example", "http://127.0.0.1:1", "null"] {
        let foreign = format!("{writer}\r\nOrigin: {origin}");
        assert_eq!((status("POST", pause, &foreign), status("GET", sinks, &foreign)), (403, 403), "{origin}");
    }
    for site in ["cross-site", "same-site"] {
        let foreign = format!("{writer}\r\nSec-Fetch-Site: {site}");
        assert_eq!(status("GET", sinks, &foreign), 403, "{site}");
        assert_eq!(status("GET", "/metrics", &foreign), 200, "{site}: links lead there");
    }
    // What it did has the token's name.
    assert_eq!(status("POST", "/api/v1/reload?dry_run=true", &writer), 200);
    assert_eq!(status("DELETE", "/api/v1/session", &writer), 204);
    assert_eq!((status("GET", sinks, &writer), status("GET", sinks, &reader)), (401, 200));
}

/// Browsers send the cookie to whoever listens on another port of the host. Alone it is of no use there, nor is the other half.
#[test]
fn finding_q23_a_login_has_a_half_that_other_ports_do_not_get() {
    let (service, [ops, _]) = with_tokens(SINK);
    let status = |header: &str| ask(&service, "GET", "/api/v1/sinks", header).0;
    let login = log_in(&service, &ops);
    let (half, cookie) = login.split_once("\r\n").expect("two headers");
    assert_eq!(status(&login), 200);
    for header in [cookie.to_owned(), format!("{BROWSER}\r\n{cookie}"), half.to_owned()] {
        assert_eq!(status(&header), 401, "{header}");
    }
    let other = log_in(&service, &ops);
    let other = other.split_once("\r\n").expect("two headers").0;
    assert_eq!(status(&format!("{other}\r\n{cookie}")), 401, "that of another login");
    // No later answer has it.
    let (_, head, body) = ask(&service, "GET", "/api/v1/session", &login);
    assert!(!body.contains("x_forebay") && !head.to_lowercase().contains("set-cookie"), "{head}{body}");
}

#[test]
fn a_login_and_its_stream_end_with_their_token() {
    let (service, [ops, grafana]) = with_tokens(SINK);
    let cookie = log_in(&service, &ops);
    let bearer = format!("Authorization: Bearer {ops}");
    let mut streams = [
        Stream::open(&service, &cookie),
        Stream::of(&service, "events/stream", &cookie),
        Stream::of(&service, "events/stream", &bearer),
    ];
    streams.iter_mut().for_each(|stream| drop(stream.next().expect("it has begun")));
    let text = std::fs::read_to_string(service.dir().join("forebay.toml")).expect("the configuration");
    let line = text.lines().find(|line| line.starts_with("tokens_file")).expect("the file");
    let file = line.split('"').nth(1).expect("its name");
    let tokens = std::fs::read_to_string(file).expect("tokens");
    // The same name, another token.
    let other = format!("ops write sha256:{}", "0".repeat(64));
    let rest: Vec<_> = tokens.lines().filter(|line| !line.starts_with("ops ")).chain([other.as_str()]).collect();
    std::fs::write(file, rest.join("\n")).expect("written");
    // Nobody says that the file has changed.
    until("the login to end", || ask(&service, "GET", "/api/v1/sinks", &cookie).0 == 401);
    let end = Instant::now() + Duration::from_secs(60);
    for (place, stream) in streams.iter_mut().enumerate() {
        while stream.next().is_some() {
            assert!(Instant::now() < end, "stream {place} goes on without its token");
        }
    }
    // What cannot be used changes nothing, and is an event.
    let reader = format!("Authorization: Bearer {grafana}");
    std::fs::write(file, "no token").expect("written");
    let failed = || ask(&service, "GET", "/api/v1/events?kind=reload_failed", &reader);
    until("an event", || failed().2.contains("line 1: a line is"));
    assert_eq!(failed().0, 200);
}

/// W5: who has sent a wrong token waits before another one is looked at; who has a right one does not.
#[test]
fn guessing_tokens_is_slow_and_keeps_nobody_out() {
    let (service, [ops, _]) = with_tokens(SINK);
    let cookie = log_in(&service, &ops);
    let guess = |n: u32| ask(&service, "POST", "/api/v1/session", &format!("Authorization: Bearer wrong-{n}"));
    let begin = Instant::now();
    let answers: Vec<_> = (0..200).map(guess).collect();
    let looked_at = answers.iter().filter(|(status, ..)| *status == 401).count();
    // After 1 s, 3 s, 7 s …
    let at_most = 1 + (begin.elapsed().as_secs() + 1).ilog2() as usize;
    assert!((1..=at_most).contains(&looked_at), "{looked_at} of {at_most}");
    let (status, head, body) = answers.iter().rfind(|(status, ..)| *status == 429).expect("some have to wait");
    assert_eq!(*status, 429);
    assert!(head.contains("retry-after: ") && body.contains("wrong tokens came from this address"), "{head}\n{body}");
    assert_eq!(ask(&service, "GET", "/api/v1/sinks", &format!("Authorization: Bearer {ops}")).0, 200);
    assert_eq!(ask(&service, "GET", "/api/v1/sinks", &cookie).0, 200);
    log_in(&service, &ops);
}

/// Numbers are those of /metrics, and what is not told in a frame has not changed.
#[test]
fn the_live_stream_says_what_the_metrics_say() {
    let service = Service::start(&config(SINK));
    let mut stream = Stream::open(&service, BROWSER);
    let layout = stream.of_kind("layout");
    let states = &layout["states"]["sink"];
    let [delivered, received, connections, state] = [
        place(&layout, "sink", "all", "delivered"),
        place(&layout, "totals", "", "received_per_second"),
        place(&layout, "totals", "", "connections"),
        place(&layout, "sink", "all", "state"),
    ];
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=50).for_each(|n| device.deliver(n, "t", b"x"));
    let (mut values, mut rates) = (Vec::new(), 0.0);
    let mut frames = 0;
    loop {
        let frame = stream.of_kind("data");
        if let Some(whole) = frame["values"].as_array() {
            if !values.is_empty() {
                let differ = |(told, known): (&Value, &Value)| told != known && !told.is_null();
                assert!(!whole.is_empty() && whole.iter().zip(&values).filter(|pair| differ(*pair)).count() < 40);
            }
            values.clone_from(whole);
        }
        for change in frame["changes"].as_array().map_or(&[][..], Vec::as_slice).chunks_exact(2) {
            values[change[0].as_u64().expect("a place") as usize] = change[1].clone();
        }
        assert!(values[delivered].as_u64() <= Some(50) && values[connections].as_u64() <= Some(1), "{frame}");
        frames += 1;
        rates += values[received].as_f64().unwrap_or(0.0);
        if values[delivered] == 50 && frames >= 12 {
            break;
        }
        assert!(frames < 60, "{values:?}");
    }
    assert_eq!(metric(&service, "sink_records_out_total{result=\"delivered\"}"), 50);
    assert_eq!(
        (&values[connections], &states[values[state].as_u64().expect("a state") as usize]),
        (&1.into(), &"running".into())
    );
    assert!(rates > 20.0, "50 messages, some of them before the first frame: {rates}");
    // What happens is told, too.
    let (status, _, _) = ask(&service, "GET", "/api/v1/log-level", BROWSER);
    assert_eq!(status, 200);
    service.ask("PUT", "/api/v1/log-level", "X-Test: 1", "{\"level\":\"info\"}").expect("an answer");
    let event = stream.of_kind("event");
    assert_eq!((&event["kind"], &event["action"]), (&"admin_action".into(), &"log-level".into()));
}

#[test]
fn live_streams_have_bounds() {
    let service = Service::start(&config(SINK));
    let mut streams: Vec<_> = (0..8).map(|_| Stream::open(&service, BROWSER)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.of_kind("data")));
    // The answer is a problem, and no stream.
    assert!(Stream::open(&service, BROWSER).next().is_none(), "a ninth stream");
    streams.pop();
    // Its place is free with the next frame that does not get there.
    until("a place to be free", || {
        let mut stream = Stream::open(&service, BROWSER);
        stream.next().is_some()
    });
}

#[test]
fn the_history_has_what_was_live() {
    let service = Service::start(&config(SINK));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=50).for_each(|n| device.deliver(n, "t", b"x"));
    let get = |path: &str| -> Value {
        let (status, _, body) = ask(&service, "GET", path, BROWSER);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let sum = |values: &Value| values.as_array().expect("values").iter().filter_map(Value::as_f64).sum::<f64>();
    let of_sink = "/api/v1/history?sink=all&metric=records_in_per_second,waiting_records";
    // Each value is a rate over the second before it: their sum is the number of records, but for how exact seconds are.
    until("all to be in the history", || sum(&get(of_sink)["values"]["records_in_per_second"]) > 40.0);
    let found = get(of_sink);
    let at = found["at"].as_array().expect("times");
    assert!(!at.is_empty() && found["values"]["waiting_records"].as_array().map(Vec::len) == Some(at.len()));
    let last = at.last().and_then(Value::as_i64).expect("a time");
    assert_eq!(get(&format!("{of_sink}&since={}", last + 600_000))["at"], Value::Array(Vec::new()));
    let buckets = get("/api/v1/history?kafka=embedded&metric=produce_buckets");
    let buckets = buckets["values"]["produce_buckets"].as_array().expect("buckets");
    assert_eq!(buckets.len(), 19);
    assert!(buckets.iter().map(sum).sum::<f64>() > 0.0);
    let all = get("/api/v1/history");
    assert!(all["values"].as_object().is_some_and(|all| all.len() > 20 && all.contains_key("ack_p99_seconds")));
    for wrong in ["metric=delivered", "sink=nobody", "by=hour", "kafka=x", "source=x", "rule=x", "limit=3"] {
        assert_eq!(ask(&service, "GET", &format!("/api/v1/history?{wrong}"), BROWSER).0, 400, "{wrong}");
    }
}

#[test]
fn partitions_show_what_waits_and_what_was_acknowledged() {
    let service = Service::start(&config(SINK));
    let partitions = || -> Vec<Value> {
        let (status, _, body) = ask(&service, "GET", "/api/v1/sinks/all/partitions", BROWSER);
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["next"], Value::Null);
        body["partitions"].as_array().expect("rows").clone()
    };
    assert!(partitions().is_empty());
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let delivered = || metric(&service, "sink_records_out_total{result=\"delivered\"}");
    device.deliver(1, "t", b"x");
    until("Kafka to have one", || delivered() == 1);
    let numbers: Vec<_> = partitions().iter().filter_map(|row| row["partition"].as_u64()).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "those without a record too");
    (2..=20).for_each(|n| device.deliver(n, "t", b"x"));
    until("Kafka to have them", || delivered() == 20);
    let rows = partitions();
    let acknowledged: i64 =
        rows.iter().filter_map(|row| row["acknowledged_offset"].as_i64()).map(|last| last + 1).sum();
    assert_eq!(acknowledged, 20, "{rows:#?}");
    for row in &rows {
        assert_eq!((&row["topic"], &row["state"], &row["waiting_records"]), (&"all".into(), &"idle".into(), &0.into()));
        assert_eq!(row["leader_address"], service.embedded().to_string());
    }
    // Paused: they wait, and are seen.
    let (head, body) = service.ask("POST", "/api/v1/sinks/all/pause", "X-Test: 1", "").expect("an answer");
    assert!(head.contains(" 200 "), "{head}\n{body}");
    let mut other = Device::connect(service.mqtt(), Version::V5, "other");
    (1..=5).for_each(|n| other.publish(forebay::mqtt::packet::QoS::AtLeastOnce, n, "t", b"x"));
    until("five to wait", || partitions().iter().filter_map(|row| row["waiting_records"].as_u64()).sum::<u64>() == 5);
    let waiting: Vec<_> = partitions().into_iter().filter(|row| row["waiting_records"] != 0).collect();
    assert!(waiting.iter().all(|row| row["oldest_seconds"].as_f64().is_some_and(|age| age < 600.0)), "{waiting:#?}");
    assert_eq!(ask(&service, "GET", "/api/v1/sinks/nobody/partitions", BROWSER).0, 404);
}

#[test]
fn every_answer_has_its_headers_and_files_are_asked_for_once() {
    let service = Service::start(&config(SINK));
    for path in ["/", "/ui/", "/ui/app.js", "/ui/nothing.js", "/metrics", "/api/v1/status", "/api/v1/nothing"] {
        let (_, head, _) = ask(&service, "GET", path, BROWSER);
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "permissions-policy: ",
        ] {
            assert!(head.contains(line), "{path}: {line}\n{head}");
        }
        // Browsers complain of it where they do not trust the origin, and send this header where they do.
        assert!(!head.contains("cross-origin-opener-policy"), "{path}: {head}");
        let (_, trusted, _) = ask(&service, "GET", path, "Sec-Fetch-Site: none");
        assert!(trusted.contains("cross-origin-opener-policy: same-origin"), "{path}: {trusted}");
        assert_eq!(head.contains("cache-control: no-store"), path.starts_with("/api/"), "{path}");
    }
    let (status, head, body) = ask(&service, "GET", "/ui/", BROWSER);
    assert!(status == 200 && head.contains("text/html") && body.contains("app.js"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
    assert_eq!(ask(&service, "GET", "/ui/", &format!("If-None-Match: {tag}")).0, 304);
    assert_eq!(ask(&service, "GET", "/ui/index.html", "If-None-Match: \"x\"").0, 200);
    let compressed = TcpStream::connect(service.control()).map(|mut socket| {
        write!(socket, "GET /ui/app.css HTTP/1.0\r\nHost: {}\r\nAccept-Encoding: gzip\r\n\r\n", service.control())
            .expect("ask");
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut socket, &mut answer).expect("an answer");
        answer
    });
    let compressed = compressed.expect("connect");
    assert!(String::from_utf8_lossy(&compressed).contains("content-encoding: gzip"));
    for path in ["/ui/../Cargo.toml", "/ui/%2e%2e/Cargo.toml", "/ui//etc/passwd"] {
        assert_eq!(ask(&service, "GET", path, BROWSER).0, 404, "{path}");
    }
    assert_eq!(ask(&service, "GET", "/ui", BROWSER).0, 308);
}

#[test]
fn the_dashboard_can_be_turned_off() {
    let off = config(SINK).replace("[control]\n", "[control]\ndashboard = false\n");
    let service = Service::start(&off);
    let (status, _, body) = ask(&service, "GET", "/ui/", BROWSER);
    assert!(status == 404 && body.contains("control.dashboard"), "{body}");
    assert_eq!(ask(&service, "GET", "/api/v1/session", BROWSER).0, 200);
    let file = service.dir().join("forebay.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace("dashboard = false\n", "")).expect("written");
    service.signal("HUP");
    until("it to be there", || ask(&service, "GET", "/ui/", BROWSER).0 == 200);
}

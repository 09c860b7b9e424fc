//! Who may use the API of a service without `control.tokens_file`: reading needs nothing, all else needs the token that the
//! service has made; and what no change by the API may name.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::channel;
use std::time::Duration;

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::change;
use crate::device::Device;
use crate::support::service::{Service, config, http, program};
use crate::support::temp_dir;

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"t\"\n";

/// Status and body of a request with one header.
fn ask(service: &Service, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
    let (head, body) = http(service.control(), method, path, header, body).expect("an answer");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body)
}

/// Finding S2: whoever is on the machine may look at the service, and neither change it, try something nor read messages.
#[test]
fn finding_s2_without_the_token_nothing_is_changed() {
    let mut service = Service::start(&config(SINK));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "kept", b"x");
    let file = fs::metadata(service.token_file()).expect("the token's file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(service.token_file()).expect("a token").trim().to_owned();
    let (none, own) = ("X-Test: 1", format!("Authorization: Bearer {token}"));
    let wrong = format!("Authorization: Bearer {}", "0".repeat(token.len()));

    let (_, described) = ask(&service, "GET", "/api/v1/openapi.json", none, "");
    let described: Value = serde_json::from_str(&described).expect("the description");
    let (mut read, mut kept) = (0, 0);
    for (path, operations) in described["paths"].as_object().expect("paths") {
        let path = path
            .replace("clients/{client_id}", "clients/nobody")
            .replace("retained/{topic}", "retained/kept")
            .replace("{address}", "127.0.0.1:1")
            .replace("{name}", "nothing");
        for method in operations.as_object().expect("operations").keys().filter(|method| *method != "parameters") {
            if path.ends_with("/stream") || path.ends_with("/live") {
                continue;
            }
            let method = method.to_uppercase();
            // What is in messages, and the file, which may have logins.
            let is_for_writers =
                ["retained/kept", "sql/past/", "dead-letters/", "config/file", "nothing/users", "nothing/permissions"];
            let is_free = method == "GET" && !is_for_writers.iter().any(|part| path.contains(part));
            let status = |header: &str| ask(&service, &method, &path, header, "{}").0;
            if is_free {
                // 400: a parameter of the query is missing.
                assert!([200, 400, 404].contains(&status(none)), "{method} {path}: {}", status(none));
                read += 1;
            } else {
                assert_eq!(status(none), 401, "{method} {path}");
                // After the first wrong one this machine waits before another one is looked at.
                assert!([401, 429].contains(&status(&wrong)), "{method} {path}");
                assert_ne!(status(&own), 401, "{method} {path}");
                kept += 1;
            }
        }
    }
    assert!(read > 12 && kept > 12, "{read} {kept}");
    let (_, said) = ask(&service, "PUT", "/api/v1/log-level", none, "{}");
    assert!(said.contains("control-token") && said.contains("Bearer"), "{said}");

    // A page of another port is another site.
    let with_origin = |origin: &str| format!("{own}\r\nOrigin: {origin}");
    let level = |header: &str| ask(&service, "PUT", "/api/v1/log-level", header, "{\"level\": \"info\"}").0;
    assert_eq!(level(&with_origin(&format!("http://{}", service.control()))), 200);
    assert_eq!(level(&with_origin("http://127.0.0.1:1")), 403);
    assert_eq!(level(&with_origin("null")), 403);
    assert_eq!(level(&own), 200);
    let (_, events) = ask(&service, "GET", "/api/v1/events?kind=admin_action", none, "");
    assert!(events.contains("\"token\":\"control-token\"") && !events.contains(&token), "{events}");

    // Each start makes another one.
    service.terminate();
    assert!(!service.log().contains(&token));
    service.start_again();
    assert_eq!(ask(&service, "PUT", "/api/v1/log-level", &own, "{\"level\": \"info\"}").0, 401);
}

/// Finding S2: the command line reads the token by itself, and says what it needs where it cannot.
#[test]
fn finding_s2_the_command_line_has_the_token() {
    let service = Service::start(&config(SINK));
    let file = service.dir().join("forebay.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    fs::write(
        &file,
        text.replace(
            "bind = \"127.0.0.1:0\"\n[[listener]]",
            &format!("bind = \"{}\"\n[[listener]]", service.control()),
        ),
    )
    .expect("written");
    let reload = || {
        let output = program().args(["reload", "--dry-run", "--config"]).arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = reload();
    assert_eq!(code, Some(0), "{said}");
    fs::remove_file(service.token_file()).expect("removed");
    let (code, said) = reload();
    assert!(code == Some(1) && said.contains("FOREBAY_TOKEN") && said.contains("control-token"), "{said}");
}

/// Finding S2: a change or trial by the API names no file that the configuration does not name, so that it neither reads nor
/// probes one, and turns no check off.
#[test]
fn finding_s2_the_api_opens_no_files_of_its_own() {
    let dir = crate::support::temp_dir();
    let secret = dir.path().join("secret");
    fs::write(&secret, "of the machine").expect("written");
    let below = dir.path().join("below");
    fs::create_dir(&below).expect("made");
    fs::write(below.join("password"), "of the cluster").expect("written");
    let mine = dir.path().join("mine");
    fs::write(&mine, "mine").expect("written");
    // A server on this address would get the password.
    let thief = TcpListener::bind("127.0.0.1:0").expect("bound");
    let bootstrap = thief.local_addr().expect("its address").to_string();
    let (tell, connected) = channel();
    std::thread::spawn(move || thief.incoming().try_for_each(|stream| tell.send(stream.is_ok())));
    let text = config(&format!(
        "[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n[kafka.main.sasl]\nmechanism = \"PLAIN\"\nusername = \"forebay\"\npassword_file = \"{}\"\n\
         insecure = true\n{SINK}",
        mine.display()
    ));
    let text = text.replace("[control]\n", &format!("[control]\nfile_dirs = [\"{}\"]\n", below.display()));
    let service = Service::start(&text);
    let sasl = |file: &str, insecure: bool| {
        json!({ "bootstrap": [&bootstrap], "sasl":
            { "mechanism": "SCRAM-SHA-256", "username": "a", "password_file": file, "insecure": insecure } })
    };
    let secret = secret.display().to_string();
    let absent = format!("{secret}-absent");
    let listener = |key: &str, file: &str| {
        let mut tls = json!({ "cert_file": "/x", "key_file": "/x" });
        tls[key] = file.into();
        json!({ "transport": "tls", "tls": tls, "open": true })
    };
    let sink = |file: &str| json!({ "filters": "#", "topic": "t", "dead_letters_file": file });
    let refused = |method: &str, path: &str, body: &dyn Fn(&str) -> Value| {
        let [there, not_there] = [&secret, &absent].map(|file| {
            let (status, answer) = change(&service, method, path, &body(file));
            assert_eq!(status, 422, "{path}: {answer}");
            let said = answer["detail"].as_str().expect("why").to_owned();
            assert!(said.contains("control.file_dirs"), "{path}: {said}");
            said.replace(file.as_str(), "FILE")
        });
        assert_eq!(there, not_there, "it does not say whether there is such a file");
    };
    for path in ["clusters/new", "clusters/main"] {
        refused("PUT", path, &|file| sasl(file, false));
        refused("POST", &format!("{path}/test"), &|file| sasl(file, false));
        refused("PUT", path, &|file| json!({ "bootstrap": "k:1", "tls": { "ca_file": file } }));
        refused(
            "POST",
            &format!("{path}/test"),
            &|file| json!({ "bootstrap": "k:1", "security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": file }),
        );
        refused(
            "POST",
            &format!("{path}/test"),
            &|file| json!({ "bootstrap": "k:1", "security": { "protocol": "SSL" }, "ssl": { "truststore": { "location": file } } }),
        );
    }
    for key in ["cert_file", "key_file", "client_ca_file", "crl_file"] {
        refused("PUT", "listeners/127.0.0.1:0", &|file| listener(key, file));
    }
    refused(
        "PUT",
        "listeners/127.0.0.1:0",
        &|file| json!({ "transport": "tls", "open": true, "tls": { "certificates": { "/x": file } } }),
    );
    refused("PUT", "sinks/all", &sink);
    refused("POST", "sinks/all/test", &|file| json!({ "message": { "topic": "t" }, "sink": sink(file) }));
    let socket =
        format!("listeners/unix:%2F{}", below.display().to_string().trim_start_matches('/').replace('/', "%2F"));
    let outside = change(&service, "PUT", &socket.replace("below", "outside%2Fx"), &json!({}));
    assert!(outside.0 == 422 && outside.1["detail"].to_string().contains("control.file_dirs"), "{outside:?}");
    // The right name of another kind, and a way out of the directory.
    let other_kind = json!({ "bootstrap": "k:1", "tls": { "ca_file": mine } });
    assert_eq!(change(&service, "PUT", "clusters/new", &other_kind).0, 422);
    let out = format!("{}/../secret", below.display());
    assert_eq!(change(&service, "PUT", "clusters/new", &sasl(&out, false)).0, 422);

    // Never without encryption, if the file does not say so; and then to nobody else.
    for (path, file) in [("clusters/new/test", below.join("password")), ("clusters/main/test", mine.clone())] {
        let (status, answer) = change(&service, "POST", path, &sasl(&file.display().to_string(), true));
        assert!(status == 422 && answer["detail"].to_string().contains("insecure"), "{path}: {answer}");
    }
    let (status, answer) = change(&service, "POST", "clusters/main/test", &json!({ "bootstrap": bootstrap }));
    assert!(status == 422 && answer["detail"].to_string().contains("insecure"), "{answer}");
    assert!(connected.try_recv().is_err(), "nobody has connected");

    // What stands in the configuration, and what is below the directory.
    let shown = change(&service, "GET", "config", &Value::Null).1;
    for (path, body) in [("clusters/main", &shown["kafka"]["main"]), ("sinks/all", &shown["sink"][0])] {
        let (status, answer) = change(&service, "PUT", path, body);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let (status, answer) =
        change(&service, "POST", "clusters/new/test", &sasl(&below.join("password").display().to_string(), false));
    assert_eq!(status, 200, "{answer}");
    connected.recv_timeout(Duration::from_secs(30)).expect("it was tried");
    let (status, answer) = change(&service, "PUT", &format!("{socket}%2Fsocket"), &json!({}));
    assert_eq!(status, 201, "{answer}");
}

/// A token whose hash is slow has to wait behind those who guess: `forebay check` names it, and how to renew it.
#[test]
fn finding_s6_check_says_how_to_renew_a_slow_token() {
    let dir = temp_dir();
    let slow = format!("ops write $argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg${}\n", "A".repeat(43));
    let quick = format!("grafana read sha256:{}\n", "0".repeat(64));
    fs::write(dir.path().join("tokens"), slow + &quick).expect("written");
    let text = format!(
        "[service]\nshards = 1\npin = false\ndata_dir = \"{0}/data\"\n[control]\nbind = \"127.0.0.1:0\"\ntokens_file = \"{0}/tokens\"\n\
         [[listener]]\nbind = \"127.0.0.1:0\"\n[embedded]\nbind = \"127.0.0.1:0\"\n",
        dir.path().display()
    );
    let file = dir.path().join("forebay.toml");
    fs::write(&file, text).expect("written");
    let checked = program().arg("check").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("ops has an argon2id hash") && said.contains("`forebay token ops`"), "{said}");
    assert!(!said.contains("grafana has"), "{said}");
}

/// Without `control.tokens_file` a login with a wrong token is refused in these words, counted, and an event.
#[test]
fn a_login_with_a_wrong_token_is_called_wrong() {
    let service = Service::start(&config(SINK));
    let refused = |reason: &str| {
        let metric = format!("forebay_control_requests_refused_total{{reason=\"{reason}\"}}");
        service.metric(&metric).unwrap_or_else(|| panic!("{metric}"))
    };
    let login = |header: &str| ask(&service, "POST", "/api/v1/session", header, "");
    let (status, said) = login("X-Forebay: 1");
    assert!(status == 401 && said.contains("this needs a token"), "{said}");
    assert_eq!((refused("no_token"), refused("wrong_token")), (1.0, 0.0));
    let (status, said) = login("Authorization: Bearer wrong");
    assert!(status == 401 && said.contains("this token is not that of") && said.contains("control-token"), "{said}");
    assert_eq!((refused("no_token"), refused("wrong_token")), (1.0, 1.0));
    let (_, events) = ask(&service, "GET", "/api/v1/events?kind=request_refused", "X-Test: 1", "");
    assert!(events.contains("POST /api/v1/session"), "{events}");
    assert_eq!(login("Authorization: Bearer wrong again").0, 429);
    let own = fs::read_to_string(service.token_file()).expect("a token");
    assert_eq!(login(&format!("Authorization: Bearer {}", own.trim())).0, 200);
}

/// A request with a wrong token is refused in these words, and not as one without a token.
#[test]
fn a_wrong_token_is_called_wrong() {
    let (service, [writer, _]) = crate::live::with_tokens(SINK);
    let control = service.control().to_string();
    // There is no token of the machine in it.
    let elsewhere = temp_dir();
    let status = |token: Option<&str>| {
        let mut command = program();
        command.args(["status", "--control", &control]).current_dir(elsewhere.path());
        if let Some(token) = token {
            command.env("FOREBAY_TOKEN", token);
        }
        let output = command.output().expect("it runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(status(Some(&writer)), "");
    let wrong = status(Some("wrong"));
    assert!(wrong.contains("the token in FOREBAY_TOKEN is none that this service takes"), "{wrong}");
    let none = status(None);
    assert!(none.contains("this needs a token"), "{none}");
}

//! The secrets of the machine, and a client of the API with the role `write`: whatever it asks for, none of them is sent to a server
//! that the configuration does not name.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::support::service::{Service, config};
use crate::support::temp_dir;

/// Names of files, each with the secret `secret-of-NAME`.
const FILES: [&str; 8] = ["one", "main", "scram", "client", "api/four", "api/users", "api/sasl", "api/unused"];

/// A server that keeps what it is sent, with TLS where its client begins that.
struct Thief {
    port: u16,
    certificate: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Thief {
    fn start() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let own = params.self_signed(&key).expect("a certificate");
        let (certificate, der) = (own.pem(), own.der().clone());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![der], key)
            .expect("a server");
        let (config, heard) = (Arc::new(config), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let of_all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, heard) = (Arc::clone(&config), Arc::clone(&of_all));
                std::thread::spawn(move || listen(socket, config, &heard));
            }
        });
        Self { port, certificate, heard }
    }

    fn has(&self, secret: &str) -> bool {
        let heard = self.heard.lock().expect("a lock");
        heard.windows(secret.len()).any(|part| part == secret.as_bytes())
    }
}

fn listen(mut socket: TcpStream, config: Arc<rustls::ServerConfig>, heard: &Mutex<Vec<u8>>) {
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time");
    let mut first = [0];
    let mut bytes = [0; 4_096];
    let read = match socket.peek(&mut first) {
        Ok(1) if first == [0x16] => {
            let tls = rustls::ServerConnection::new(config).expect("a connection");
            rustls::StreamOwned::new(tls, socket).read(&mut bytes)
        }
        _ => socket.read(&mut bytes),
    };
    heard.lock().expect("a lock").extend(&bytes[..read.unwrap_or_default()]);
}

/// Finding Q20: requests that name files, servers and logins of other parts. A login of the API's own, from a file below
/// `control.file_dirs` that no part has, is the only one that is sent.
#[test]
fn finding_q20_no_secret_leaves() {
    let dir = temp_dir();
    fs::create_dir(dir.path().join("api")).expect("made");
    let file = |name: &str| dir.path().join(name).display().to_string();
    for name in FILES {
        fs::write(file(name), format!("secret-of-{}\n", name.trim_start_matches("api/"))).expect("written");
    }
    std::os::unix::fs::symlink(file("api/four"), file("api/link")).expect("a link");
    let thief = Thief::start();
    let text = format!(
        "[bridge.one]\nurl = \"mqtts://127.0.0.1:1\"\nusername = \"u\"\npassword_file = \"{one}\"\n\
         [bridge.two]\nurl = \"mqtts://u:secret-of-two@127.0.0.1:1\"\n\
         [bridge.three]\nurl = \"mqtts://127.0.0.1:1\"\nusername = \"u\"\n\
         [bridge.four]\nurl = \"mqtts://127.0.0.1:1\"\nusername = \"u\"\npassword_file = \"{four}\"\n\
         [kafka.main]\nbootstrap = \"127.0.0.1:1\"\n[kafka.main.tls]\n\
         [kafka.main.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword_file = \"{main}\"\n\
         [kafka.scram]\nbootstrap = \"127.0.0.1:1\"\n\
         [kafka.scram.sasl]\nmechanism = \"SCRAM-SHA-256\"\nusername = \"u\"\npassword_file = \"{scram}\"\n\
         [kafka.tokens]\nbootstrap = \"127.0.0.1:1\"\n[kafka.tokens.tls]\n\
         [kafka.tokens.sasl]\nmechanism = \"OAUTHBEARER\"\ntoken_url = \"https://127.0.0.1:1/token\"\nclient_id = \"u\"\n\
         client_secret_file = \"{client}\"\n\
         [auth.users]\nchain = [\"jwt\"]\n[auth.users.jwt]\nsecret_file = \"{users}\"\n\
         [[sink]]\nname = \"all\"\nkafka = \"main\"\nfilters = [\"#\"]\ntopic = \"t\"\n",
        one = file("one"),
        four = file("api/four"),
        main = file("main"),
        scram = file("scram"),
        client = file("client"),
        users = file("api/users"),
    );
    fs::write(file("api/users"), format!("secret-of-users{}", "x".repeat(32))).expect("written");
    let text = config(&text).replace("[control]\n", &format!("[control]\nfile_dirs = [\"{}\"]\n", file("api")));
    let service = Service::start_with(&text, &[], &[("FOREBAY_BRIDGE_THREE_PASSWORD", "secret-of-three")]);
    let secrets: Vec<String> =
        ["one", "two", "three", "four", "main", "scram", "users"].map(|name| format!("secret-of-{name}")).to_vec();
    let basic = STANDARD.encode("u:secret-of-client");
    let nothing_left = |what: &str| {
        let left: Vec<_> = secrets.iter().chain([&basic]).filter(|secret| thief.has(secret)).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    };

    let mut count = 0;
    let mut ask = |method: &str, path: &str, body: &Value| {
        count += 1;
        let (status, answer) = change(&service, method, path, body);
        nothing_left(&format!("{method} {path} {body}: {status} {answer}"));
        status
    };
    let host = |scheme: &str| format!("{scheme}://127.0.0.1:{}", thief.port);
    let trust = json!({ "ca_certificates": thief.certificate });
    let files: Vec<String> =
        FILES.iter().map(|name| file(name)).chain([file("api/link"), file("api/../one")]).collect();
    // Bridges: each name with each file, with and without TLS.
    for name in ["one", "two", "three", "four", "new"] {
        for scheme in ["mqtt", "mqtts", "ws", "wss"] {
            for password in files.iter().map(Some).chain([None]) {
                let mut keys = json!({ "url": host(scheme), "username": "u", "connect_timeout": "2s" });
                if scheme.ends_with('s') && scheme != "ws" {
                    keys["tls"] = trust.clone();
                }
                if let Some(password) = password {
                    keys["password_file"] = password.as_str().into();
                }
                let status = ask("POST", &format!("bridges/{name}/test"), &keys);
                let is_free = match password {
                    // A bridge that is tried keeps what is not in the request.
                    None => name == "two" || name == "new",
                    Some(file) => {
                        let is_free = file.ends_with("/sasl") || file.ends_with("/unused");
                        is_free && keys["tls"].is_object() && name != "three"
                    }
                };
                assert_eq!(status == 200, is_free, "{name} {keys}");
            }
        }
    }
    // The same bridges, with another server, other CAs, or without TLS.
    for (name, keys) in [
        ("one", json!({ "url": host("mqtts") })),
        ("one", json!({ "url": "mqtt://127.0.0.1:1" })),
        ("one", json!({ "tls": trust })),
        ("one", json!({ "tls": { "verify": "chain" } })),
        ("one", json!({ "tls": { "server_name": "localhost" } })),
        ("two", json!({ "tls": trust })),
        ("three", json!({ "url": host("mqtts") })),
        ("four", json!({ "url": host("mqtts"), "tls": trust })),
    ] {
        assert_eq!(ask("POST", &format!("bridges/{name}/test"), &keys), 422, "{name} {keys}");
        let mut whole = json!({ "url": "mqtts://127.0.0.1:1", "username": "u" });
        if name == "one" {
            whole["password_file"] = file(name).into();
        }
        if name == "one" || name == "three" {
            whole.as_object_mut().expect("keys").extend(keys.as_object().expect("keys").clone());
            for query in ["", "?dry_run=true", "?persist=true"] {
                assert_eq!(ask("PUT", &format!("bridges/{name}{query}"), &whole), 422, "{name} {whole}");
            }
        }
    }
    // Clusters: each name with each file, by each way of logging in.
    for name in ["main", "scram", "tokens", "new"] {
        for secret in &files {
            let bootstrap = format!("127.0.0.1:{}", thief.port);
            for sasl in [
                json!({ "mechanism": "PLAIN", "username": "u", "password_file": secret }),
                json!({ "mechanism": "SCRAM-SHA-512", "username": "u", "password_file": secret }),
                json!({ "mechanism": "OAUTHBEARER", "token_file": secret }),
                json!({ "mechanism": "OAUTHBEARER", "token_url": format!("{}/token", host("https")), "client_id": "u",
                        "client_secret_file": secret }),
                json!({ "mechanism": "OAUTHBEARER", "token_url": format!("{}/token", host("http")), "client_id": "u",
                        "client_secret_file": secret }),
            ] {
                let keys = json!({ "bootstrap": bootstrap, "tls": trust, "sasl": sasl, "request_timeout": "1s" });
                let is_plain = sasl["token_url"].as_str().is_some_and(|url| url.starts_with("http:"));
                let is_free = !is_plain && (secret.ends_with("/sasl") || secret.ends_with("/unused"));
                assert_eq!(ask("POST", &format!("clusters/{name}/test"), &keys) == 200, is_free, "{name} {keys}");
                if !is_free {
                    assert_eq!(ask("PUT", &format!("clusters/{name}"), &keys), 422, "{name} {keys}");
                }
            }
        }
    }
    for (name, keys) in [
        ("main", json!({ "bootstrap": format!("127.0.0.1:1,127.0.0.1:{}", thief.port) })),
        ("main", json!({ "tls": trust })),
        (
            "main",
            json!({ "tls": null, "sasl": { "mechanism": "PLAIN", "username": "u", "password_file": file("main"),
                                                 "insecure": true } }),
        ),
        (
            "scram",
            json!({ "sasl": { "mechanism": "PLAIN", "username": "u", "password_file": file("scram"),
                                     "insecure": true } }),
        ),
        (
            "tokens",
            json!({ "sasl": { "mechanism": "OAUTHBEARER", "token_url": format!("{}/t", host("https")),
                                      "client_id": "u", "client_secret_file": file("client") } }),
        ),
    ] {
        assert_eq!(ask("POST", &format!("clusters/{name}/test"), &keys), 422, "{name} {keys}");
    }
    // Step by step: without the login, removed and made anew, and with the whole text.
    let elsewhere = json!({ "url": host("mqtt"), "username": "u" });
    assert_eq!(ask("PUT", "bridges/one", &elsewhere), 200);
    let with = json!({ "url": host("mqtt"), "username": "u", "password_file": file("one") });
    assert_eq!(ask("PUT", "bridges/one", &with), 422);
    for name in ["one", "four"] {
        assert_eq!(ask("DELETE", &format!("bridges/{name}"), &Value::Null), 200);
        for own in [name, "new"] {
            let with = json!({ "url": host("mqtts"), "tls": trust, "username": "u",
                "password_file": if name == "one" { file("one") } else { file("api/four") } });
            assert_eq!(ask("PUT", &format!("bridges/{own}"), &with), 422, "{own}");
        }
    }
    // What the file names may be made again.
    let as_before = json!({ "url": "mqtts://127.0.0.1:1", "username": "u", "password_file": file("api/four") });
    assert!(ask("PUT", "bridges/four", &as_before) < 300);
    let shown = get(&service, "config/file");
    let (text, etag) = (shown["text"].as_str().expect("a text"), shown["etag"].as_str().expect("a tag"));
    let pem = thief.certificate.replace('\n', "\\n");
    for wanted in [
        text.replace(
            "[bridge.one]\nurl = \"mqtts://127.0.0.1:1\"",
            &format!("[bridge.one]\nurl = \"{}\"", host("mqtt")),
        ),
        text.replace(
            "[bridge.three]\nurl = \"mqtts://127.0.0.1:1\"",
            &format!("[bridge.three]\nurl = \"{}\"", host("mqtt")),
        ),
        text.replace("[bridge.four]", &format!("[bridge.four]\ntls = {{ ca_certificates = \"{pem}\" }}")),
        text.replace("[bridge.two]\n", &format!("[bridge.two]\npassword_file = \"{}\"\n", file("one")))
            .replace("u:secret-of-two@", "u@"),
        text.replace(&file("one"), &file("scram")),
        text.replace(
            "[kafka.main]\nbootstrap = \"127.0.0.1:1\"",
            &format!("[kafka.main]\nbootstrap = \"127.0.0.1:{}\"", thief.port),
        ),
        format!(
            "{text}[bridge.new]\nurl = \"{}\"\nusername = \"u\"\npassword_file = \"{}\"\n",
            host("mqtt"),
            file("one")
        ),
        format!(
            "{text}[bridge.new]\nurl = \"{}\"\nusername = \"u\"\npassword_file = \"{}\"\n",
            host("mqtt"),
            file("api/users")
        ),
    ] {
        assert_ne!(wanted, text);
        for (method, path) in [("POST", "check".to_owned()), ("PUT", format!("file?etag={etag}"))] {
            let (head, answer) =
                service.ask(method, &format!("/api/v1/config/{path}"), "X-Test: 1", &wanted).expect("an answer");
            let is_refused = if method == "PUT" { head.contains(" 422 ") } else { answer.contains("\"would\":null") };
            assert!(is_refused, "{wanted}: {head} {answer}");
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    nothing_left("at the end");
    assert!(count >= 200, "{count}");
    // A login of the API's own was sent, so that this test would see another.
    assert!(thief.has("secret-of-unused"));
}

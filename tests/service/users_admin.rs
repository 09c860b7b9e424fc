//! Users and permissions by the API and the command line: files of `[auth.NAME]` that change while clients are connected.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use forebay::mqtt::packet::{Connect, Packet, QoS, Version};
use serde_json::{Value, json};

use crate::auth::{passwd, with_auth};
use crate::change::{change, get};
use crate::device::{Device, Heard, hello};
use crate::live::with_tokens;
use crate::sources_admin::forebay;
use crate::support::service::{Service, config_with, http, program};
use crate::support::temp_dir;

const RULES: &str = "# of the plant\nuser ada\ntopic readwrite plant/#\n";
const USERS: &str = "auth/devices/users";
const PERMISSIONS: &str = "auth/devices/permissions";

struct Files {
    service: Service,
    dir: tempfile::TempDir,
}

impl Files {
    /// The user `ada` with the password `lovelace`, in a file that others may read.
    fn new() -> Self {
        let dir = temp_dir();
        let (users, rules) = (dir.path().join("passwords"), dir.path().join("acl"));
        passwd(&users, &["ada"], "lovelace");
        fs::set_permissions(&users, fs::Permissions::from_mode(0o640)).expect("permissions");
        fs::write(&rules, RULES).expect("written");
        let text = format!(
            "[auth.devices]\nchain = [\"password\"]\npassword_file = {users:?}\nacl_file = {rules:?}\n\
             [[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"
        );
        Self { service: Service::start(&with_auth(&config_with("shards = 2", &text))), dir }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).expect("the file")
    }

    /// The code of the CONNACK, and the connection.
    fn connect(&self, user: &str, password: &str) -> (u8, Device) {
        let mut device = Device::open(self.service.mqtt(), Version::V5);
        let connect = Connect { username: Some(user), password: Some(password.as_bytes()), ..hello(Version::V5, user) };
        device.say(&Packet::Connect(connect));
        match device.hear() {
            Heard::ConnAck(hello) => (hello.code, device),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn users_are_added_changed_and_removed_while_clients_are_connected() {
    let files = Files::new();
    let service = &files.service;
    let auth = &get(service, "auth")["auth"][0];
    assert_eq!((&auth["name"], auth["password_file"].is_string()), (&json!("devices"), true), "{auth}");
    let listed = get(service, USERS);
    assert_eq!((&listed["users"], &listed["total"]), (&json!([{ "name": "ada", "hash": "argon2id" }]), &json!(1)));
    assert!(!listed.to_string().contains("$argon2id$"), "{listed}");

    // One more, in the form that the file uses; in force when it is answered.
    let put = |user: &str, body: Value| change(service, "PUT", &format!("{USERS}/{user}"), &body);
    let (status, made) = put("bob", json!({ "password": "builder" }));
    assert_eq!((status, &made["hash"], &made["not_in_force"]), (201, &json!("argon2id"), &Value::Null), "{made:#}");
    assert_eq!(made["reloaded"]["applied"], json!(["auth devices (changed: files)"]));
    assert_eq!(made["etag"], get(service, USERS)["etag"]);
    let (code, mut bob) = files.connect("bob", "builder");
    assert_eq!((code, files.connect("bob", "wrong").0), (0, 0x86));
    let (_, mut ada) = files.connect("ada", "lovelace");
    // Another password: clients connected with the old one are disconnected, and no others.
    let (status, changed) = put("bob", json!({ "password": "another", "hash": "pbkdf2" }));
    assert_eq!(
        (status, &changed["hash"], &changed["reloaded"]["disconnected_clients"]),
        (200, &json!("pbkdf2"), &json!(1))
    );
    assert_eq!(bob.hear(), Heard::Disconnect(0x87));
    assert_eq!((files.connect("bob", "builder").0, files.connect("bob", "another").0), (0x86, 0));
    ada.ping();
    // The file is as it was but for the user's line, and keeps its permissions.
    let text = files.read("passwords");
    assert!(text.starts_with("ada:$argon2id$") && text.lines().count() == 2 && text.contains("\nbob:$7$"), "{text}");
    let mode = fs::metadata(files.dir.path().join("passwords")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(!files.dir.path().join("passwords.bak").exists(), "no copy of old hashes");

    // A tag is of one content.
    let old = listed["etag"].as_str().expect("a tag");
    let (status, answer) = change(service, "DELETE", &format!("{USERS}/bob?etag={old}"), &Value::Null);
    assert!(status == 412 && !answer.to_string().contains("$7$"), "{answer}");
    let (status, answer) = change(service, "PUT", &format!("{USERS}/eve?etag={old}"), &json!({ "password": "x" }));
    assert_eq!(status, 412, "{answer}");
    let now = get(service, USERS)["etag"].as_str().expect("a tag").to_owned();
    let (_, mut bob) = files.connect("bob", "another");
    let (status, removed) = change(service, "DELETE", &format!("{USERS}/bob?etag={now}"), &Value::Null);
    assert_eq!((status, &removed["reloaded"]["disconnected_clients"]), (200, &json!(1)), "{removed:#}");
    assert_eq!(bob.hear(), Heard::Disconnect(0x87));
    assert_eq!(files.connect("bob", "another").0, 0x86);
    assert_eq!(change(service, "DELETE", &format!("{USERS}/bob"), &Value::Null).0, 404);

    let events = get(service, "events?kind=admin_action");
    for action in ["put_user", "remove_user"] {
        let is_it = |one: &Value| one["action"] == action && one["user"] == "bob" && one["auth"] == "devices";
        assert!(events["events"].as_array().expect("events").iter().any(is_it), "{action}: {events:#}");
    }
}

/// The password appears nowhere but in the request, whatever is wrong with that.
#[test]
fn what_cannot_be_a_user_is_refused_and_no_password_is_shown() {
    let files = Files::new();
    let service = &files.service;
    let before = files.read("passwords");
    let put = |user: &str, body: &str| {
        let (head, answer) =
            service.ask("PUT", &format!("/api/v1/{USERS}/{user}"), "X-Test: 1", body).expect("an answer");
        (head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).expect("a status"), answer)
    };
    for (user, body, status) in [
        ("bob", r#"{"password":"hunter2 hunter2","hash":"md5"}"#, 422),
        ("bob", r#"{"password":"hunter2 hunter2","hash":"sha512"}"#, 422),
        ("bob", r#"{"password":""}"#, 422),
        ("bob", r#"{"password":["hunter2 hunter2"]}"#, 400),
        ("bob", r#"{"password":"hunter2 hunter2","role":"x"}"#, 400),
        ("bob", r#"{"hunter2 hunter2":1}"#, 400),
        ("a%3Ab", r#"{"password":"hunter2 hunter2"}"#, 422),
        ("%23a", r#"{"password":"hunter2 hunter2"}"#, 422),
        ("a%0Ab", r#"{"password":"hunter2 hunter2"}"#, 422),
    ] {
        let (found, answer) = put(user, body);
        assert_eq!(found, status, "{user} {body}: {answer}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    let scram = put("bob", &json!({ "password": "hunter2 pässword", "hash": "scram" }).to_string());
    assert!(scram.0 == 422 && scram.1.contains("printable ASCII") && !scram.1.contains("hunter2"), "{scram:?}");
    let long = put("bob", &json!({ "password": "hunter2".repeat(200) }).to_string());
    assert!(long.0 == 422 && long.1.contains("password_bytes_max") && !long.1.contains("hunter2"), "{long:?}");
    assert_eq!(files.read("passwords"), before);
    // One that is taken is not there either.
    assert_eq!(put("bob", r#"{"password":"hunter2 hunter2"}"#).0, 201);
    assert_eq!(files.connect("bob", "hunter2 hunter2").0, 0);
    for text in
        [service.log(), get(service, "events").to_string(), get(service, USERS).to_string(), files.read("passwords")]
    {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // A file with a line that is wrong is named, and changed by nobody.
    fs::write(files.dir.path().join("passwords"), format!("{before}broken\n")).expect("written");
    let listed = get(service, USERS);
    assert_eq!((&listed["mistakes"], listed["total"].as_u64()), (&json!(["line 2 is not `user:hash`"]), Some(1)));
    let (status, answer) = put("eve", r#"{"password":"hunter2 hunter2"}"#);
    assert!(status == 422 && answer.contains("passwords:2:1: is not `user:hash`"), "{answer}");
    assert!(files.read("passwords").ends_with("broken\n"));
}

#[test]
fn permissions_are_checked_and_changed_as_text() {
    let files = Files::new();
    let service = &files.service;
    let send = |method: &str, path: &str, text: &str| {
        let (head, body) =
            service.ask(method, &format!("/api/v1/{PERMISSIONS}{path}"), "X-Test: 1", text).expect("an answer");
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, serde_json::from_str::<Value>(&body).expect("JSON"))
    };
    let shown = get(service, PERMISSIONS);
    assert_eq!((&shown["text"], &shown["previous"]), (&json!(RULES), &Value::Null));
    let etag = shown["etag"].as_str().expect("a tag");
    // Mistakes at their line; nothing is written.
    let wrong = format!("{RULES}topic reed x\ntopic read a/#/b\n");
    let (_, checked) = send("POST", "/check", &wrong);
    let lines: Vec<_> =
        checked["mistakes"].as_array().expect("mistakes").iter().map(|one| one["line"].as_u64()).collect();
    assert_eq!(lines, [Some(4), Some(5)], "{checked:#}");
    let (status, refused) = send("PUT", &format!("?etag={etag}"), &wrong);
    assert!(
        status == 422 && refused["detail"].as_str().is_some_and(|why| why.contains("acl:4:1: has the access \"reed\"")),
        "{refused}"
    );
    // What it would do.
    let wanted = "# of the plant\nuser ada\ntopic read plant/#\nuser eve\ntopic read x\n";
    let (_, checked) = send("POST", "/check?topic=plant/1&user=ada", wanted);
    assert_eq!(checked["mistakes"], json!([]));
    assert_eq!(checked["says_now"], "granted by line 3: topic readwrite plant/#");
    assert_eq!(checked["would_say"], "denied: no rule grants it");
    assert!(checked["warnings"].to_string().contains("does not have: \\\"eve\\\""), "{checked:#}");
    assert!(
        checked["difference"]
            .as_str()
            .is_some_and(|text| text.contains("- topic readwrite plant/#\n+ topic read plant/#")),
        "{checked:#}"
    );
    let (_, checked) = send("POST", "/check?topic=plant/%23&user=ada&action=subscribe", wanted);
    assert_eq!((&checked["says_now"], &checked["would_say"]), (&json!("granted"), &json!("granted")));
    let with = format!("{wanted}user ada\ntopic replay plant/1\n");
    let (_, checked) = send("POST", "/check?topic=plant/%23&user=ada&action=replay", &with);
    let part = "granted in part: each message is looked at";
    assert_eq!((&checked["says_now"], &checked["would_say"]), (&json!("denied"), &json!(part)));
    assert_eq!(
        (send("POST", "/check?topic=a/%23", wanted).0, send("POST", "/check?topic=a&action=x", wanted).0),
        (422, 400)
    );
    assert_eq!(files.read("acl"), RULES);
    // It holds for who is connected.
    let (_, mut ada) = files.connect("ada", "lovelace");
    ada.deliver(1, "plant/1", b"x");
    let (status, done) = send("PUT", &format!("?etag={etag}"), wanted);
    assert_eq!((status, &done["reloaded"]["applied"]), (200, &json!(["auth devices (changed: files)"])), "{done:#}");
    ada.publish(QoS::AtLeastOnce, 2, "plant/1", b"x");
    assert_eq!(ada.hear(), Heard::Answer(forebay::mqtt::packet::PacketType::PubAck, 2, 0x87));
    assert_eq!((files.read("acl"), files.read("acl.bak")), (wanted.to_owned(), RULES.to_owned()));
    let (status, late) = send("PUT", &format!("?etag={etag}"), RULES);
    assert!(
        status == 412 && late["detail"].as_str().is_some_and(|text| text.contains("- topic read plant/#")),
        "{late}"
    );
    assert_eq!(get(service, PERMISSIONS)["previous"], RULES);
}

#[test]
fn the_role_read_sees_neither_users_nor_permissions() {
    let dir = temp_dir();
    let users = dir.path().join("passwords");
    passwd(&users, &["ada"], "lovelace");
    let text = format!(
        "[auth.devices]\nchain = [\"password\"]\npassword_file = {users:?}\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"
    );
    let (service, [_, reader]) = with_tokens(&text);
    let as_reader = |method: &str, path: &str| {
        let header = format!("Authorization: Bearer {reader}");
        http(service.control(), method, &format!("/api/v1/{path}"), &header, r#"{"password":"x"}"#)
            .expect("an answer")
            .0
    };
    for (method, path) in [
        ("GET", USERS),
        ("PUT", "auth/devices/users/bob"),
        ("DELETE", "auth/devices/users/ada"),
        ("GET", PERMISSIONS),
        ("POST", "auth/devices/permissions/check"),
        ("PUT", "auth/devices/permissions?etag=x"),
    ] {
        assert!(as_reader(method, path).contains(" 403 "), "{method} {path}");
    }
    assert!(as_reader("GET", "auth").contains(" 200 "));
    // Without an acl_file there is nothing to show.
    assert_eq!(change(&service, "GET", PERMISSIONS, &Value::Null).0, 404);
    assert_eq!(change(&service, "GET", "auth/other/users", &Value::Null).0, 404);
}

#[test]
fn commands_change_users_and_permissions() {
    let files = Files::new();
    let service = &files.service;
    let (text, is_ok) = forebay(service, &["users", "list"]);
    assert!(is_ok && text.contains("devices") && text.contains("passwords"), "{text}");
    let put = |arguments: &[&str], password: &str| {
        let token = fs::read_to_string(service.token_file()).expect("a token");
        let mut command = program();
        command.args(["users", "put", "devices"]).args(arguments).args(["--control", &service.control().to_string()]);
        command.env("FOREBAY_TOKEN", token.trim()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let _ = child.stdin.take().expect("a pipe").write_all(format!("{password}\n").as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, output.status.success())
    };
    let (text, is_ok) = put(&["bob"], "builder");
    assert!(is_ok && text.contains("stored as argon2id") && !text.contains("builder"), "{text}");
    assert_eq!(files.connect("bob", "builder").0, 0);
    let (text, is_ok) = put(&["meter", "--generate"], "");
    let password = text.lines().next().and_then(|line| line.strip_prefix("password: ")).expect("a password").to_owned();
    assert!(is_ok && text.contains("stored as sha512"), "{text}");
    assert_eq!(files.connect("meter", &password).0, 0);
    let (text, is_ok) = put(&["bob", "--etag", "none"], "x");
    assert!(!is_ok && text.contains("has changed since it was read"), "{text}");
    let (text, _) = forebay(service, &["users", "list", "devices", "--search", "b"]);
    assert!(text.contains("bob   argon2id") && !text.contains("ada"), "{text}");
    let (text, is_ok) = forebay(service, &["users", "remove", "devices", "bob"]);
    assert!(is_ok && text.starts_with("removed\n"), "{text}");
    assert_eq!(files.connect("bob", "builder").0, 0x86);

    let (text, is_ok) = forebay(service, &["permissions", "show", "devices"]);
    assert!(is_ok && text.starts_with(RULES) && text.contains("its tag is "), "{text}");
    let etag = text.trim_end().rsplit(' ').next().expect("a tag").to_owned();
    let new = files.dir.path().join("new");
    let name = new.display().to_string();
    fs::write(&new, "topik x\n").expect("written");
    let (text, is_ok) = forebay(service, &["permissions", "put", "devices", &name, "--dry-run"]);
    assert!(!is_ok && text.contains("acl:1:1: begins with \"topik\""), "{text}");
    fs::write(&new, "pattern write dev/%c/up\n").expect("written");
    let dry = ["permissions", "put", "devices", &name, "--dry-run", "--publish", "dev/d1/up", "--client", "d1"];
    let (text, is_ok) = forebay(service, &dry);
    assert!(is_ok && text.contains("with this text: granted by line 1: pattern write dev/%c/up"), "{text}");
    let (text, is_ok) = forebay(service, &["permissions", "put", "devices", &name, "--etag", &etag]);
    assert!(is_ok && text.contains("applied: auth devices (changed: files)"), "{text}");
    let (text, _) = forebay(service, &["permissions", "show", "devices", "--previous"]);
    assert_eq!(text, RULES);
}

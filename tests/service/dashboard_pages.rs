//! The dashboard in Chromium: `tests/node/dashboard.mjs` uses it as a person does. And what its files are: their sizes, hashes and licences.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use forebay::mqtt::packet::Version;
use serde_json::Value;

use crate::auth::passwd;
use crate::device::Device;
use crate::letters_sent_again;
use crate::live::{with_tokens, with_tokens_and, with_tokens_in};
use crate::mosquitto::Mosquitto;
use crate::process::{metric, until};
use crate::rule_past::make_topic;
use crate::support::kafka::shared;
use crate::support::service::{Service, http};
use crate::support::{cache, root, run, temp_dir, tool};

/// A client ID that would run a script, and turn text around, if it were more than text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}gpj";

#[test]
fn the_pages_work_in_a_browser_by_mouse_and_keyboard_and_let_nothing_in() {
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n\
                [[sink]]\nname = \"second\"\nfilters = [\"second/#\"]\ntopic = \"second-${topic[1]}\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    let mut device = Device::connect(service.mqtt(), Version::V5, HOSTILE);
    (1..=200).for_each(|n| device.deliver(n, "plant/7", b"x"));
    until("Kafka to have them", || metric(&service, "sink_records_out_total{result=\"delivered\"}") == 200);
    let pictures = std::env::var("DASHBOARD_PICTURES").unwrap_or_default();
    let text = fs::read_to_string(service.dir().join("forebay.toml")).expect("the configuration");
    let file = text.lines().find_map(|line| line.strip_prefix("tokens_file = ")).expect("the file").trim_matches('"');
    browse("dashboard.mjs", &service, [&writer, &reader], &[file, &pictures]);
}

/// Runs a test in the browser.
fn browse(file: &str, service: &Service, tokens: [&str; 2], arguments: &[&str]) {
    browse_with(file, service, tokens, arguments, Stdio::null());
}

fn browse_with(file: &str, service: &Service, tokens: [&str; 2], arguments: &[&str], input: Stdio) {
    let node = std::env::var_os("FOREBAY_NODE").map_or_else(|| cache().join("node"), PathBuf::from);
    assert!(node.join("node_modules/playwright-core").exists(), "playwright-core is missing: run scripts/test install");
    let mut command = tool("node");
    command.arg(root().join("tests/node").join(file)).env("FOREBAY_NODE", node);
    command.arg(service.control().to_string()).args(tokens).args(arguments).stdin(input);
    let said = run(&mut command);
    assert!(said.ends_with("done\n"), "{said}");
}

/// W6, W11: through a proxy with another `Host` and a path of its own; nobody else.
#[test]
fn behind_a_proxy_it_works_below_a_path_and_for_its_origin_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
    let keys = format!(
        "origins = [\"http://127.0.0.1:{port}\"]\nbase_path = \"/forebay\"\ngrafana_url = \"https://grafana.example/d/x?orgId=1\"\n"
    );
    let (service, [writer, reader]) = with_tokens_and(&keys, rest);
    // The proxy gets the socket itself: nobody else takes the port meanwhile.
    browse_with(
        "dashboard_proxy.mjs",
        &service,
        [&writer, &reader],
        &[&port.to_string()],
        OwnedFd::from(socket).into(),
    );
}

/// W7: made, changed, tried and deleted as text; dead letters.
#[test]
fn sinks_are_edited_as_text_with_mistakes_at_their_line() {
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\nexclude = [\"dead/#\", \"made/#\"]\ntopic = \"all\"\n\
                [[sink]]\nname = \"bad\"\nfilters = [\"dead/#\"]\ntopic = \"bad\"\nvalue = \"${payload.x}\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    let file = service.dir().join("forebay.toml").display().to_string();
    browse("dashboard_edit.mjs", &service, [&writer, &reader], &[&service.mqtt().to_string(), &file]);
}

/// The configuration file: mistakes, what a change does, the change, and the way back.
#[test]
fn the_configuration_file_is_edited_as_text() {
    let rest = "[[listener]] # the second\nbind = \"127.0.0.1:0\"\n# what machines say\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    let file = service.dir().join("forebay.toml").display().to_string();
    let second = service.listeners()[1].to_string();
    browse("dashboard_config.mjs", &service, [&writer, &reader], &[&file, &second]);
}

/// T5 to T10, T30, T31, E18 to E23, E29 to E31, E40 to E42: by forms.
#[test]
fn sinks_and_clusters_are_made_by_forms() {
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"other/#\"]\ntopic = \"all\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    let file = service.dir().join("forebay.toml").display().to_string();
    let (mqtt, kafka) = (service.mqtt().to_string(), shared());
    browse("dashboard_forms.mjs", &service, [&writer, &reader], &[&mqtt, &file, &kafka]);
}

/// T29 to T31, W10: published in the page, and in Kafka; reason codes, properties, and the access control of the listener.
#[test]
fn the_page_has_an_mqtt_client() {
    let dir = temp_dir();
    let acl = dir.path().join("acl");
    fs::write(&acl, "user dashboard/ops\ntopic readwrite tbmq/#\n").expect("a file");
    let rest = format!(
        "[auth.devices]\nchain = [\"anonymous\"]\nacl_file = {acl:?}\n\
         [[sink]]\nname = \"tbmq\"\nfilters = [\"tbmq/#\"]\ntopic = \"tbmq.messages\"\nvalue_format = \"json\"\n"
    );
    let (service, [writer, reader]) = with_tokens(&rest);
    browse("dashboard_client.mjs", &service, [&writer, &reader], &[&service.embedded().to_string()]);
}

#[test]
fn clients_subscriptions_messages_and_what_they_go_through() {
    let rest = "[[listener]]\nbind = \"127.0.0.1:0\"\n[spool]\nbytes_max = \"256MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    let [one, other] = [0, 1].map(|number| service.listeners()[number].to_string());
    browse("dashboard_lists.mjs", &service, [&writer, &reader], &[&one, &other]);
}

/// The events of a client's page go on while it is open, those of its connections as well.
#[test]
fn finding_q31_a_clients_page_shows_what_happens_while_it_is_open() {
    let (service, [writer, reader]) = with_tokens("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n");
    browse("dashboard_happens.mjs", &service, [&writer, &reader], &[&service.mqtt().to_string()]);
}

/// W13, W14: who publishes most, traces, a message by hand, and bans.
#[test]
fn top_traces_messages_by_hand_and_bans() {
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"plant/#\"]\ntopic = \"all\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    browse("dashboard_operating.mjs", &service, [&writer, &reader], &[&service.mqtt().to_string()]);
}

/// E13, E14, E27, E29 to E31, E41, E42, E47, E56: statements and rules, on a message, on past records, and in force.
#[test]
fn statements_are_tried_compared_and_put_into_rules() {
    let kafka = shared();
    let all = format!("sqlpage-{}", std::process::id());
    let rest = format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n\
         [[sink]]\nname = \"all\"\nfilters = [\"t/#\"]\nkafka = \"main\"\ntopic = \"{all}\"\nkey = \"${{topic}}\"\n\
         [[sink]]\nname = \"alarms\"\nkafka = \"main\"\ntopic = \"{all}-alarms\"\n\
         [[rule]]\nname = \"hot\"\ndescription = \"{HOSTILE}\"\nsinks = [\"alarms\"]\n\
         sql = '''\nSELECT payload.temp AS temp, payload.room AS room\nFROM \"t/#\"\nWHERE temp > 30'''\n"
    );
    let (service, [writer, reader]) = with_tokens_in("", &rest, &[("EMQXVAR_KAFKA_TOPIC", "from-the-environment")]);
    let file = service.dir().join("forebay.toml").display().to_string();
    let mqtt = service.mqtt().to_string();
    browse("dashboard_sql.mjs", &service, [&writer, &reader], &[&mqtt, &file, &kafka, &all]);
}

/// E13, E14, E61, E62, E65, E80, E81: sources and bridges by forms, and what they do.
#[test]
fn sources_and_bridges_are_made_by_forms_and_operated() {
    let kafka = shared();
    let topic = format!("sqlpage-in-{}", std::process::id());
    make_topic(&kafka, &topic, 1);
    let dir = temp_dir();
    let remote = Mosquitto::start(dir.path(), "allow_anonymous true");
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"other/#\"]\ntopic = \"all\"\n";
    let (service, [writer, reader]) = with_tokens(rest);
    let file = service.dir().join("forebay.toml").display().to_string();
    let (mqtt, far) = (service.mqtt().to_string(), remote.addr.to_string());
    browse("dashboard_sources.mjs", &service, [&writer, &reader], &[&mqtt, &file, &kafka, &topic, &far]);
}

/// W15: dead letters in topics are seen and sent again.
#[test]
fn dead_letters_are_seen_and_sent_again() {
    let (service, [writer, reader]) = with_tokens(letters_sent_again::LATER);
    letters_sent_again::fill(&service, HOSTILE);
    browse("dashboard_letters.mjs", &service, [&writer, &reader], &[]);
}

/// W7: the contents of the files that `[auth.NAME]` names.
#[test]
fn users_and_permissions_are_changed() {
    let dir = temp_dir();
    let (users, rules) = (dir.path().join("passwords"), dir.path().join("acl"));
    passwd(&users, &["ada"], "lovelace");
    fs::write(&rules, "# of the plant\nuser ada\ntopic readwrite plant/#\n").expect("written");
    let rest = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nauth = \"devices\"\n\
         [auth.devices]\nchain = [\"password\"]\npassword_file = {users:?}\nacl_file = {rules:?}\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"
    );
    let (service, [writer, reader]) = with_tokens(&rest);
    let arguments = [service.listeners()[1].to_string(), dir.path().display().to_string()];
    browse("dashboard_users.mjs", &service, [&writer, &reader], &[&arguments[0], &arguments[1]]);
}

/// Each dialog that is asked for comes, and stays until it is closed, however soon it follows another one.
#[test]
fn dialogs_follow_one_another() {
    let (service, [writer, reader]) = with_tokens("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n");
    browse("dashboard_dialogs.mjs", &service, [&writer, &reader], &[]);
}

/// Eight tabs over plain HTTP from what is no loopback to the browser, where one address has six connections; and text that was typed before a login ended.
#[test]
fn tabs_share_a_stream_and_keep_what_was_typed() {
    let rest = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
    let (service, [writer, reader]) = with_tokens_and("bind = \"0.0.0.0:0\"\n", rest);
    browse("dashboard_tabs.mjs", &service, [&writer, &reader], &[]);
}

/// Without a configuration file and without tokens: what is said of both, and the login.
#[test]
fn a_service_without_a_file_has_pages() {
    let free = "127.0.0.1:0";
    let options = ["--listen", free, "--control", free, "--embedded", free, "--shards", "1", "--no-pin"];
    let service = Service::start_with("", &options, &[]);
    let token = fs::read_to_string(service.token_file()).expect("a token");
    browse("dashboard_bare.mjs", &service, [token.trim(), ""], &[]);
}

/// Each page of the navigation, and the page of one thing where there is one, is looked at by `looks` of `tests/node/browser.mjs`: in both themes,
/// on a desktop, on a phone and at 200 %, with axe, and nothing in the console.
#[test]
fn every_page_is_looked_at() {
    let app = fs::read_to_string(root().join("dashboard/app.js")).expect("the shell");
    let pages = app.split_once("const PAGES = {\n").and_then(|(_, rest)| rest.split_once("\n};")).expect("the pages").0;
    let tests = files(&root().join("tests/node"))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dashboard")));
    let looked: Vec<String> = tests.map(|path| fs::read_to_string(path).expect("a test")).collect();
    let looked =
        looked.iter().flat_map(|text| text.split("await looks({").skip(1)).filter_map(|rest| rest.split("})").next());
    let looked: Vec<&str> = looked.flat_map(|asked| asked.split([' ', '\n', '\'', '`', '['])).collect();
    let mut count = 0;
    for line in pages.lines() {
        let name = line.trim().split(':').next().expect("a name");
        let is_it =
            |word: &&&str| **word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', '?']));
        assert!(looked.iter().any(|word| is_it(&word)), "no test looks at #/{name}");
        let one = format!("{name}/");
        assert!(
            !line.contains("one:") || looked.iter().any(|word| word.starts_with(&one)),
            "no test looks at #/{one}…"
        );
        count += 1;
    }
    assert!(count > 20, "{count} pages");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Bytes of a file on its way to a browser, without the head of the answer.
fn size(service: &crate::support::service::Service, path: &str) -> usize {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(service.control()).expect("connect");
    let host = service.control();
    write!(socket, "GET /ui/{path} HTTP/1.0\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n").expect("ask");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{path}");
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    answer.len() - head - 4
}

/// What the first page needs, and all of it.
#[test]
fn the_files_are_small() {
    let service = crate::support::service::Service::start(&crate::support::service::config(""));
    let root = root().join("dashboard");
    let all = files(&root);
    let name = |path: &Path| path.strip_prefix(&root).expect("below it").display().to_string();
    let sizes: Vec<(String, usize)> = all.iter().map(|path| (name(path), size(&service, &name(path)))).collect();
    let total: usize = sizes.iter().map(|(_, size)| size).sum();
    assert!(total <= 380 << 10, "{total} bytes: {sizes:?}");
    const LATER: &[&str] = &[
        "login.js",
        "sinks.js",
        "edit.js",
        "editor.js",
        "try.js",
        "form.js",
        "config.js",
        "flow.js",
        "fields.js",
        "mqtt.js",
        "client.js",
        "diff.js",
        "json.js",
        "paged.js",
        "clients.js",
        "messages.js",
        "infrastructure.js",
        "top.js",
        "traces.js",
        "publish.js",
        "bans.js",
        "letters.js",
        "users.js",
        "change.js",
        "about.js",
        "choose.js",
        "offers.js",
        "tree.js",
        "sql.js",
        "sql_past.js",
        "sql_sample.js",
        "rules.js",
        "sources.js",
        "trial.js",
        "bridges.js",
        "actions.js",
        "file_text.js",
        "LICENSES.txt",
        "vendor.json",
    ];
    let is_first = |name: &str| !LATER.iter().any(|later| name.ends_with(later));
    let first: usize = sizes.iter().filter(|(name, _)| is_first(name)).map(|(_, size)| size).sum();
    assert!(first <= 60 << 10, "{first} bytes: {sizes:?}");
    println!("{first} bytes for the first page, {total} in all");
    let index = http(service.control(), "GET", "/ui/", "X-Test: 1", "").expect("an answer").1;
    // All are named there, so that none waits for another to be read.
    for (file, _) in sizes.iter().filter(|(name, _)| is_first(name) && *name != "index.html") {
        assert!(index.contains(&format!("=\"{file}\"")), "{file} is not linked");
    }
}

/// Without network: each library is the one that `vendor.json` names, under a licence that may be shipped.
#[test]
fn libraries_are_what_they_are_said_to_be() {
    let folder = root().join("dashboard/vendor");
    let read = |name: &str| fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let vendor: Value = serde_json::from_slice(&read("vendor.json")).expect("JSON");
    let lock = fs::read(root().join("scripts/dashboard.d/package-lock.json")).expect("a lock file");
    let lock: Value = serde_json::from_slice(&lock).expect("JSON");
    let licences = String::from_utf8(read("LICENSES.txt")).expect("text");
    let listed = vendor["files"].as_array().expect("files");
    for file in listed {
        let name = file["file"].as_str().expect("a name");
        let digest = ring::digest::digest(&ring::digest::SHA256, &read(name));
        let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(file["sha256"], digits, "{name} is not what scripts/dashboard vendor has made");
        for package in file["packages"].as_array().expect("packages") {
            let of = package["name"].as_str().expect("a name");
            let locked = &lock["packages"][format!("node_modules/{of}")];
            assert_eq!(
                (&package["version"], &package["integrity"]),
                (&locked["version"], &locked["integrity"]),
                "{of}"
            );
            let licence = package["license"].as_str().expect("a licence");
            assert!(["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "0BSD"].contains(&licence), "{of}: {licence}");
            assert!(licences.contains(&format!("{of}\n===")), "the licence of {of}");
        }
    }
    let known = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        ["vendor.json", "LICENSES.txt"].contains(&name.as_str()) || listed.iter().any(|file| file["file"] == name)
    };
    assert!(files(&folder).iter().all(known), "a file that vendor.json does not have");
}

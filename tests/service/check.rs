//! `forebay check` says beforehand what a start would refuse, and what it would not work with.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use forebay::mqtt::property::Property;

use crate::auth::passwd;
use crate::broker::Names;
use crate::broker_sessions::subscribe;
use crate::broker_trouble::configure;
use crate::device::{Device, Heard, hello, properties};
use crate::process::until;
use crate::support::kafka::Kafka;
use crate::support::service::{Service, config, program};
use crate::support::temp_dir;

/// Exit status and lines of `check` and then of a start, with this configuration. Ports are the kernel's, and what would serve has no host to ask.
fn checked(dir: &Path, text: &str) -> (Option<i32>, String) {
    let file = dir.join("forebay.toml");
    let data = dir.join("data");
    let text = text.replace("$DIR", &dir.display().to_string());
    let service = format!("[service]\nshards = 1\npin = false\ndata_dir = \"{}\"\n", data.display());
    fs::write(&file, text.replacen("[service]\n", &service, 1)).expect("written");
    let output = program().arg("check").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!data.join("spool").exists(), "check makes nothing");
    (output.status.code(), said)
}

const BASE: &str = "[service]\n[control]\nbind = \"127.0.0.1:0\"\n[embedded]\nbind = \"127.0.0.1:0\"\n";

fn listener(more: &str) -> String {
    format!("{BASE}[[listener]]\nbind = \"127.0.0.1:0\"\n{more}")
}

/// The problem of a check, and that the start ends with the same words.
fn refused(dir: &Path, text: &str, why: &str) {
    let (code, said) = checked(dir, text);
    let problem = said.lines().find(|line| line.starts_with("PROBLEM") && line.contains(why));
    assert!(code == Some(1) && problem.is_some(), "{said}");
    let output = program().args(["run", "--config"]).arg(dir.join("forebay.toml")).output().expect("it ends");
    let started = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && started.contains(why), "{started}");
}

#[test]
fn finding_f7_a_wrong_tokens_file_is_found() {
    let dir = temp_dir();
    let dir = dir.path();
    let text = listener("").replace("[embedded]", "tokens_file = \"$DIR/tokens\"\n[embedded]");
    refused(dir, &text, "control.tokens_file");
    fs::write(dir.join("tokens"), "ops write secret\n").expect("written");
    refused(dir, &text, "line 1: neither sha256:");
    fs::write(dir.join("tokens"), format!("ops write sha256:{}\n", "0".repeat(64))).expect("written");
    let (code, said) = checked(dir, &text);
    assert!(code == Some(0) && said.contains("tokens: 1 token"), "{said}");
}

#[test]
fn finding_f7_an_empty_data_directory_is_found_where_one_is_named() {
    let dir = temp_dir();
    let id = "data_dir_id = \"0123456789abcdef0123456789abcdef\"\n";
    for spool in ["[spool]\nbytes_max = \"256MiB\"\n", ""] {
        let text = listener(spool).replacen("[service]\n", &format!("[service]\n{id}"), 1);
        refused(dir.path(), &text, "service.data_dir_id");
    }
}

#[test]
fn finding_f7_an_embedded_log_that_cannot_listen_is_found() {
    let dir = temp_dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let _held = TcpListener::bind(taken).expect("bound");
    let text = listener("").replace("[embedded]\nbind = \"127.0.0.1:0\"", &format!("[embedded]\nbind = \"{taken}\""));
    let (_, said) = checked(dir.path(), &text);
    assert!(said.contains(&format!("warning  embedded log {taken}: is in use")), "{said}");
}

#[test]
fn finding_f7_what_works_and_serves_nobody_is_told() {
    let dir = temp_dir();
    let dir = dir.path();
    passwd(&dir.join("passwords"), &["ada"], "lovelace");
    fs::write(dir.join("acl"), "user ada\ntopic a/#\nuser bob\ntopic b/#\n").expect("written");
    let auth =
        "auth = \"a\"\n[auth.a]\nchain = \"password\"\npassword_file = \"$DIR/passwords\"\nacl_file = \"$DIR/acl\"\n";
    let (code, said) = checked(dir, &listener(auth));
    assert!(code == Some(0) && said.contains("does not have: \"bob\"") && !said.contains("\"ada\""), "{said}");
    let keys = "auth = \"a\"\n[auth.a]\nchain = \"jwt\"\n[auth.a.jwt]\njwks_url = \"http://127.0.0.1:1/keys\"\naudience = \"mqtt\"\n";
    let (code, said) = checked(dir, &listener(keys));
    assert!(code == Some(1) && said.contains("http://127.0.0.1:1/keys: cannot be fetched"), "{said}");
    let (code, said) = checked(dir, &listener("").replace("[embedded]\n", "[embedded]\nbuffer_bytes = \"1TiB\"\n"));
    assert!(code == Some(0) && said.contains("warning  memory: ") && said.contains(" may take 1048832 MiB"), "{said}");
}

/// The group of instances: who may not join it, and a session that the brokers do not allow, are problems; with a real Kafka that has an authorizer.
#[test]
fn the_group_of_instances_is_looked_at() {
    let kafka = Kafka::start(&[
        "--config",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "--config",
        "allow.everyone.if.no.acl.found=true",
        "--config",
        "group.max.session.timeout.ms=60000",
    ]);
    let dir = temp_dir();
    let text = |more: &str| {
        format!(
            "[service]\n[control]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka.main]\nbootstrap = \"{}\"\n\
             [broker]\nname = \"a\"\n{more}[broker.link]\nbind = \"127.0.0.1:0\"\n",
            kafka.bootstrap()
        )
    };
    let check_line = |about: &str, more: &str, verdict: &str, words: &[&str]| {
        // A group has no coordinator at first.
        until(&format!("{verdict}: {words:?}"), || {
            let (_, said) = checked(dir.path(), &text(more));
            let line = said.lines().find(|line| line.contains(about)).unwrap_or_else(|| panic!("{said}"));
            line.starts_with(verdict) && words.iter().all(|word| line.contains(word))
        });
    };
    let check = |more: &str, verdict: &str, words: &[&str]| check_line("broker.link: ", more, verdict, words);
    let shares = |verdict: &str, word: &str| check_line("groups of shared subscriptions", "", verdict, &[word]);
    check(
        "",
        "ok",
        &["group forebay-mqtt-sessions: no instances", "session_timeout 12s is what the brokers allow (6s to 60s)"],
    );
    check("session_timeout = \"61s\"\n", "PROBLEM", &["session_timeout 61s is more than group.max.session.timeout.ms"]);
    kafka.add_group_acl("--deny-principal", "Read", "forebay-mqtt-sessions");
    check("", "PROBLEM", &["not authorized to read it", "--operation Read --group forebay-mqtt-sessions"]);
    shares("ok", "this client may read and delete them");
    kafka.add_groups_acl("--allow-principal", "Read", "forebay-share-");
    shares("warning", "grant it --operation Delete --group forebay-share- --resource-pattern-type prefixed");
    kafka.add_groups_acl("--deny-principal", "Read", "forebay-share-");
    shares("PROBLEM", "grant it --operation Read --operation Delete --group forebay-share-");
}

/// Makes the topics of a configuration.
fn make_topics(dir: &Path, text: &str) {
    let file = dir.join("topics.toml");
    fs::write(&file, text).expect("written");
    until("the topics to be there", || {
        program().args(["topics", "create", "--config"]).arg(&file).status().is_ok_and(|of| of.success())
    });
}

/// Checks again and again until a line has the verdict and the words; `code`: the exit status then. Returns all lines.
fn until_said(dir: &Path, text: &str, (code, verdict): (i32, &str), words: &str) -> String {
    let mut last = String::new();
    until(&format!("{verdict}: {words}"), || {
        let (exit, said) = checked(dir, text);
        last = said;
        exit == Some(code) && last.lines().any(|line| line.starts_with(verdict) && line.contains(words))
    });
    last
}

/// Settings of the topics of `[broker]` with which a start is refused, or messages are lost, are told.
#[test]
fn finding_q12_settings_by_which_the_topics_of_the_broker_lose_messages_are_told() {
    let names = Names::new("settings");
    let dir = temp_dir();
    let head = "[service]\n[control]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n";
    let text = format!("{head}{}", names.config(""));
    make_topics(dir.path(), &text);
    let Names { messages, retained, devices, .. } = &names;
    let says = |code: i32, verdict: &str, words: &str| until_said(dir.path(), &text, (code, verdict), words);
    let said = says(0, "ok", "broker.sessions: this client may write under transactional ids that begin with forebay-");
    assert!(!said.contains("has cleanup.policy=") && !said.contains("has retention.ms="), "{said}");
    for (setting, policy) in [("delete", "delete"), ("[compact,delete]", "compact,delete")] {
        configure(&names, retained, &format!("cleanup.policy={setting}"));
        says(1, "PROBLEM", &format!("topic {retained} has cleanup.policy={policy}, and must be compacted alone"));
    }
    configure(&names, retained, "cleanup.policy=compact");
    configure(&names, messages, "cleanup.policy=compact");
    let only_the_last = format!("topic {messages} has cleanup.policy=compact: of the messages of an MQTT topic");
    says(0, "warning", &only_the_last);
    configure(&names, devices, "retention.ms=10000");
    let said = says(0, "warning", &format!("topic {devices} has retention.ms=10000: what is older is gone"));
    assert!(said.contains(&only_the_last), "{said}");
}

/// Takes back what [`Kafka::add_acl`] or [`Kafka::add_transactions_acl`] has denied.
fn deny_no_more(kafka: &Kafka, operation: &str, of: &[&str]) {
    let tool = ["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", kafka.bootstrap()];
    let denied = ["--remove", "--force", "--deny-principal", "User:ANONYMOUS", "--operation", operation];
    kafka.command(&[&tool[..], &denied, of].concat());
}

/// An instance loses the right to write its topics while it runs. It says so, is not ready, and refuses what it cannot write; once the right is back it goes on.
fn writes_again_once_it_may(kafka: &Kafka) {
    const TOPICS: [&str; 2] = ["mqtt-messages", "mqtt-sessions"];
    let text = format!("[kafka.main]\nbootstrap = \"{}\"\n[broker]\n", kafka.bootstrap());
    let service = Service::start(&config(&text));
    let expiry = properties([Property::SessionExpiryInterval(3_600)]);
    let kept = |id| Connect { clean_start: false, properties: expiry.as_properties(), ..hello(Version::V5, id) };
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept("kept"));
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    let mut packet_id = 0;
    let mut code = || {
        packet_id += 1;
        publisher.publish(QoS::AtLeastOnce, packet_id, "a", b"x");
        match publisher.hear() {
            Heard::Answer(PacketType::PubAck, of, code) if of == packet_id => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code(), 0);
    for topic in TOPICS {
        kafka.add_acl("--allow-principal", "All", topic);
        kafka.add_acl("--deny-principal", "Write", topic);
    }
    until("a publish to be refused", || code() >= 0x80);
    // A SUBSCRIBE may still be written before the broker knows that it is denied.
    let (mut last, mut number) = (Instant::now(), 0);
    let cure = "kafka-acls.sh --add --allow-principal User:… --operation Write --topic mqtt-sessions";
    until(&format!("/readyz to say {cure}"), || {
        if number == 0 || last.elapsed() > Duration::from_secs(3) {
            device.try_say_bytes(&subscribe(&format!("b/{number}")));
            (last, number) = (Instant::now(), number + 1);
        }
        service.get("/readyz").is_ok_and(|(status, text)| status == 503 && text.contains(cure))
    });
    let told = || service.log().lines().filter(|line| line.contains(cure)).count();
    until("the log to say it", || told() > 0);
    for topic in TOPICS {
        deny_no_more(kafka, "Write", &["--topic", topic]);
    }
    until("it to be ready again", || service.get("/readyz").is_ok_and(|(status, _)| status == 200));
    until("a publish to be taken again", || code() == 0);
    Device::connect_as(service.mqtt(), &kept("new")).0.leave();
    assert_eq!(told(), 1, "{}", service.log());
}

/// Each right on the topics of `[broker]` that is missing is named, with the command that grants it; with a real Kafka that has an authorizer.
#[test]
fn finding_q6_each_right_of_the_broker_is_tried() {
    let kafka = Kafka::start(&[
        "--config",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "--config",
        "allow.everyone.if.no.acl.found=true",
    ]);
    let dir = temp_dir();
    let text = format!(
        "[service]\n[control]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka.main]\nbootstrap = \"{}\"\n[broker]\n",
        kafka.bootstrap()
    );
    make_topics(dir.path(), &text);
    writes_again_once_it_may(&kafka);
    let says = |code: i32, verdict: &str, words: &str| until_said(dir.path(), &text, (code, verdict), words);
    let said = says(0, "ok", "broker.sessions: this client may write under transactional ids that begin with forebay-");
    assert!(!said.contains("PROBLEM"), "{said}");
    for topic in ["mqtt-retained", "mqtt-sessions"] {
        kafka.add_acl("--allow-principal", "All", topic);
        kafka.add_acl("--deny-principal", "DescribeConfigs", topic);
        says(0, "warning", &format!("--operation DescribeConfigs --topic {topic}"));
    }
    for (operation, topic) in [("Read", "mqtt-retained"), ("Write", "mqtt-sessions"), ("Read", "mqtt-sessions")] {
        kafka.add_acl("--deny-principal", operation, topic);
        says(1, "PROBLEM", &format!("--operation {operation} --topic {topic}"));
    }
    // DESCRIBE alone, then WRITE alone.
    let cure = "--operation Write --operation Describe --transactional-id forebay-";
    kafka.add_transactions_acl("--allow-principal", "All", "forebay-");
    kafka.add_transactions_acl("--deny-principal", "Describe", "forebay-");
    let said = says(1, "PROBLEM", cure);
    assert!(said.contains("FindCoordinator was answered with error 53: no log of sessions"), "{said}");
    deny_no_more(&kafka, "Describe", &["--transactional-id", "forebay-", "--resource-pattern-type", "prefixed"]);
    says(1, "ok", "broker.sessions: this client may write under transactional ids that begin with forebay-");
    kafka.add_transactions_acl("--deny-principal", "Write", "forebay-");
    let said = says(1, "PROBLEM", cure);
    assert!(said.contains("this client is not authorized to write as transactional id forebay-"), "{said}");
}

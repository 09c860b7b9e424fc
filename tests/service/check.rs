//! `forebay check` says beforehand what a start would refuse, and what it would not work with.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::auth::passwd;
use crate::process::until;
use crate::support::kafka::Kafka;
use crate::support::service::program;
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
    let file = dir.path().join("topics.toml");
    std::fs::write(&file, &text).expect("it can be written");
    until("the topics to be there", || {
        program().args(["topics", "create", "--config"]).arg(&file).status().is_ok_and(|of| of.success())
    });
    let says = |code: i32, verdict: &str, words: &str| {
        let mut last = String::new();
        until(&format!("{verdict}: {words}"), || {
            let (exit, said) = checked(dir.path(), &text);
            last = said;
            exit == Some(code) && last.lines().any(|line| line.starts_with(verdict) && line.contains(words))
        });
        last
    };
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
    kafka.add_transactions_acl("--deny-principal", "Write", "forebay-");
    says(1, "PROBLEM", "--operation Write --operation Describe --transactional-id forebay-");
}

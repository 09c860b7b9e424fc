//! What a running service has given up.

use std::fs;

use crate::process::until;
use crate::support::service::{Service, config, config_with};

/// `Seccomp` and `NoNewPrivs` of each thread.
fn restrictions(service: &Service) -> Vec<[String; 2]> {
    let threads = fs::read_dir(format!("/proc/{}/task", service.pid())).expect("the process runs");
    let status = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("status")).expect("a thread's status");
    let value = |status: &str, key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.expect("known since Linux 4.10").trim().to_owned()
    };
    let both = |status: String| ["Seccomp:", "NoNewPrivs:"].map(|key| value(&status, key));
    threads.map(|thread| both(status(thread.expect("a thread")))).collect()
}

/// X72: every thread of the service.
#[test]
fn no_thread_of_a_service_is_without_the_sandbox() {
    let sink = "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n";
    let service = Service::start(&config_with("shards = 2", sink));
    // The addresses are printed before.
    until("the sandbox", || service.log().contains("sandboxed"));
    let threads = restrictions(&service);
    assert!(threads.len() > 5, "{threads:?}");
    assert!(threads.iter().all(|both| both == &["2", "1"]), "{threads:?}");
    assert!(service.log().contains("calls=\"full\""), "{}", service.log());
    drop(service);

    let service = Service::start(&config_with("sandbox = false", sink));
    until("the start", || service.log().contains("Forebay started"));
    assert!(restrictions(&service).iter().all(|both| both == &["0", "0"]));
    assert!(!service.log().contains("sandboxed"));
}

#[test]
fn a_folder_that_a_reload_names_needs_a_restart() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let sink = |name: &str, file: &str| {
        format!("[[sink]]\nname = \"{name}\"\nfilters = \"{name}\"\ntopic = \"t\"\ndead_letters_file = \"{file}\"\n")
    };
    let mut service = Service::start(&config(&sink("one", "$DIR/dead/one.jsonl")));
    let file = elsewhere.path().join("two.jsonl").display().to_string();
    let text = config(&[sink("one", "$DIR/dead/one.jsonl"), sink("two", &file)].concat());
    let text = text.replace("$DIR", &service.dir().display().to_string());
    fs::write(service.dir().join("forebay.toml"), text).expect("the configuration can be written");
    service.signal("HUP");
    until("the reload to be refused", || service.log().contains("the sandbox allows writing only to folders"));
    assert!(service.log().contains(&file), "{}", service.log());
    service.terminate();
    service.start_again();
    assert!(elsewhere.path().join("two.jsonl").exists());
}

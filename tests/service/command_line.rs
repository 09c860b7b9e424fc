//! The program by its command line: help, exit status, ports that are taken, files that are wrong.

use std::net::{SocketAddr, TcpListener};
use std::process::Output;

use crate::support;
use crate::support::service::{Service, config, config_with, program};

fn forebay(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program().args(arguments).output().expect("the program runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

#[test]
fn help_version_and_wrong_usage() {
    let (status, help) = forebay(&["--help"]);
    assert_eq!(status, Some(0));
    for taught in ["forebay --kafka", "kcat", "Exit status:", "SIGTERM", "docs/CONFIGURATION.md"] {
        assert!(help.contains(taught), "{taught}\n{help}");
    }
    assert_eq!(forebay(&["run", "--help"]).0, Some(0));
    let (status, version) = forebay(&["--version"]);
    assert_eq!(status, Some(0));
    assert!(version.starts_with(&format!("forebay {} (", env!("CARGO_PKG_VERSION"))), "{version}");
    for (wrong, named) in [
        (&["--confg", "x"][..], "--config"),
        (&["walk"], "walk"),
        (&["--listen", "localhost"], "localhost"),
        (&["--config", "/no/such/file.toml"], "/no/such/file.toml"),
    ] {
        let (status, said) = forebay(wrong);
        assert!(status == Some(2) && said.contains(named), "{wrong:?}: {status:?} {said}");
    }
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_with_its_line() {
    let dir = support::temp_dir();
    let file = dir.path().join("wrong.toml");
    let text = "[service]\n\
                shrads = 2\n\
                [[listener]]\n\
                bind = \"everywhere\"\n\
                [mqtt]\n\
                receive_maximum = 0\n\
                [[sink]]\n\
                name = \"all\"\n\
                filters = [\"a/#/b\"]\n\
                topic = \"t-${topik}\"\n\
                linger = 5\n";
    std::fs::write(&file, text).expect("the file is written");
    let (status, said) = forebay(&["run", "--config", file.to_str().expect("text")]);
    assert_eq!(status, Some(2), "{said}");
    let name = file.display();
    for (line, key) in [
        (2, "service.shrads"),
        (4, "listener[0].bind"),
        (6, "mqtt.receive_maximum"),
        (9, "sink[0].filters"),
        (10, "sink[0].topic"),
        (11, "sink[0].linger"),
    ] {
        let start = format!("{name}:{line}:");
        let found = said.lines().find(|said| said.starts_with(&start));
        assert!(found.is_some_and(|found| found.contains(key)), "{line} {key}:\n{said}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with(&format!("{name}:"))).count(), 6, "{said}");
    assert!(said.contains("did you mean \"shards\"?") && !dir.path().join("forebay-data").exists(), "{said}");
}

/// Arguments for a service beside one that runs, on free ports but for what the test takes away.
fn beside(dir: &std::path::Path, listen: SocketAddr, control: SocketAddr, embedded: SocketAddr) -> Vec<String> {
    let data = dir.join("data").display().to_string();
    let address = |address: SocketAddr| address.to_string();
    ["--no-pin", "--shards", "2", "--data-dir", &data, "--listen", &address(listen), "--control", &address(control)]
        .into_iter()
        .chain(["--embedded", &address(embedded)])
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_port_that_is_taken_is_named_with_what_moves_it() {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = Service::start(&config_with("shards = 2", ""));
    let dir = support::temp_dir();
    let taken = TcpListener::bind(free).expect("a port");
    let other = taken.local_addr().expect("an address");
    for (arguments, address, option) in [
        // Another instance shares its port among its shards, and with nobody else.
        (beside(dir.path(), first.mqtt(), free, free), first.mqtt(), "--listen"),
        (beside(dir.path(), other, free, free), other, "--listen"),
        (beside(dir.path(), free, first.control(), free), first.control(), "--control"),
        (beside(dir.path(), free, free, first.embedded()), first.embedded(), "--embedded"),
    ] {
        let (status, said) = forebay(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&address.to_string()) && said.contains(option), "{address} {option}: {said}");
    }
    // From a file it is the key.
    let file = dir.path().join("second.toml");
    let text = config("").replace("$DIR", &dir.path().display().to_string());
    let text =
        text.replace("[[listener]]\nbind = \"127.0.0.1:0\"", &format!("[[listener]]\nbind = \"{}\"", first.mqtt()));
    std::fs::write(&file, text).expect("the file is written");
    let (status, said) = forebay(&["run", "--config", file.to_str().expect("text")]);
    assert!(status == Some(1) && said.contains("listener[0].bind"), "{said}");
    assert_eq!(first.get("/readyz").expect("an answer").0, 200, "and the first goes on");
}

#[test]
fn a_data_directory_belongs_to_one_service() {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = Service::start(&config(""));
    let arguments = beside(first.dir(), free, free, free);
    let (status, said) = forebay(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(status == Some(1) && said.contains(&first.dir().join("data").display().to_string()), "{said}");
    let (status, said) = forebay(&["--data-dir", "/proc/no-such-place", "--listen", "127.0.0.1:0", "--control", "off"]);
    assert!(status == Some(1) && said.contains("--data-dir") && said.contains("/proc/no-such-place"), "{said}");
}

/// Finding L8: standard output on a full disk stops no start.
#[test]
fn finding_l8_output_that_cannot_be_written_stops_no_start() {
    use std::process::Stdio;
    let dir = support::temp_dir();
    let log = dir.path().join("log");
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("every Linux has it");
    let mut child = program()
        .args(["--listen", "127.0.0.1:0", "--control", "off", "--data-dir"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(full())
        .stderr(std::fs::File::create(&log).expect("the log"))
        .spawn()
        .expect("it starts");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let started = std::time::Instant::now();
    while !said().contains("started") && started.elapsed() < std::time::Duration::from_secs(60) {
        assert!(child.try_wait().expect("its state").is_none(), "it has ended: {}", said());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(said().contains("started"), "{}", said());
    let terminated = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(terminated.expect("kill runs").success());
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}: {}", said());
}

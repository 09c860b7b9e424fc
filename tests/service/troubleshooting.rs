//! `docs/TROUBLESHOOTING.md` is tried: each message that it quotes for a service that does not start, and for the command
//! line, comes from the built program when its cause is there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::device::Device;
use crate::support::service::{Service, config, program};
use crate::support::{root, temp_dir};
use forebay::mqtt::packet::Version;

/// Causes that a test cannot make here: root may bind any port, and read and write anywhere, and the rest needs another kernel.
const NOT_HERE: [&str; 7] = [
    "this kernel is 4.4.0, and Forebay is made for 4.18 and later",
    "cannot listen on …: Permission denied",
    "io_uring is not available",
    "data directory …: Permission denied",
    "….segment: … the file cannot be opened",
    "… KiB of locked memory are allowed",
    "shard … cannot start",
];

/// What the first column of a section quotes.
fn quoted(section: &str) -> Vec<String> {
    let document = fs::read_to_string(root().join("docs/TROUBLESHOOTING.md")).expect("the document");
    let text = document.split("\n## ").find(|part| part.starts_with(section)).expect("the section").to_owned();
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect()
}

/// Whether the program has said it; `…` matches anything.
fn is_said(said: &str, quote: &str) -> bool {
    let mut rest = said;
    quote.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Its output, until it ends by itself.
fn said(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(!output.status.success(), "{command:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn run(dir: &Path, text: &str) -> Command {
    let file = dir.join("forebay.toml");
    fs::write(&file, text.replace("$DIR", &dir.display().to_string())).expect("written");
    let mut command = program();
    command.args(["run", "--config"]).arg(file);
    command
}

fn sink(name: &str) -> String {
    format!("[[sink]]\nname = \"{name}\"\nfilters = [\"#\"]\ntopic = \"t\"\n")
}

/// The segments of a shard, and its note of the newest one.
fn files_of(shard: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(shard).expect("a folder").map(|file| file.expect("a file").path());
    let files = files.filter(|file| file.ends_with("newest") || file.extension().is_some_and(|end| end == "segment"));
    files.map(|file| (file.clone(), fs::read(file).expect("it can be read"))).collect()
}

/// A segment whose header a later version has written, in each of its places ([`forebay::spool`] has the format).
fn of_later_version(mut segment: Vec<u8>) -> Vec<u8> {
    const HEADER_BYTES: usize = 128;
    let places = (0..=segment.len() - HEADER_BYTES).step_by(8).filter(|at| segment[*at..].starts_with(b"FBSPOOL\n"));
    for at in places.collect::<Vec<_>>() {
        let header = &mut segment[at..at + HEADER_BYTES];
        header[8..10].copy_from_slice(&9_u16.to_be_bytes());
        let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
    }
    segment
}

#[test]
fn the_service_does_not_start() {
    let dir = temp_dir();
    let plain = config("");
    let mut all = String::new();
    all += &said(&mut run(dir.path(), &plain.replace("pin = false", "pin = 7")));
    all += &said(run(dir.path(), &plain).env("FOREBAY_SERVICE_SHARD", "1"));
    all += &said(run(dir.path(), &plain).env("FOREBAY_LOG", "loud"));
    let mqtt = TcpListener::bind("127.0.0.1:1883").ok();
    all += &said(run(dir.path(), &plain).args(["--listen", "127.0.0.1:1883"]));
    drop(mqtt);
    all += &said(run(dir.path(), &plain).args(["--listen", "192.0.2.1:1883", "--open"]));
    // A second instance in the same directory.
    let with = |names: &[&str]| {
        let sinks: String = names.iter().map(|name| sink(name)).collect();
        config(&format!("[spool]\nbytes_max = \"128MiB\"\n[kafka.away]\nbootstrap = \"127.0.0.1:9\"\n{sinks}"))
    };
    let mut service = Service::start(&with(&["one"]));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "x", b"x");
    let place = service.dir().to_owned();
    all += &said(&mut run(&place, &with(&["one"])));
    service.terminate();
    // Its record has no sink any more.
    all += &said(&mut run(&place, &with(&["two"])));
    let shard = place.join("data/spool/0");
    let files = files_of(&shard);
    files.iter().for_each(|(file, bytes)| fs::write(file, of_later_version(bytes.clone())).expect("written"));
    all += &said(&mut run(&place, &with(&["one"])));
    files.iter().for_each(|(file, bytes)| fs::write(file, bytes).expect("written"));
    fs::rename(&shard, place.join("aside")).expect("renamed");
    all += &said(&mut run(&place, &with(&["one"])));
    for quote in quoted("The service does not start") {
        let known = quote.replace("FILE:LINE:COLUMN: KEY: …", "forebay.toml:…: service.pin: …");
        assert!(is_said(&all, &known) || NOT_HERE.contains(&&*quote), "{quote}\nis not in\n{all}");
    }
}

#[test]
fn commands_that_get_no_answer() {
    let mut all = said(program().args(["sinks", "--control", "127.0.0.1:9"]));
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut socket, _) = other.accept().expect("a connection");
        let _ = socket.read(&mut [0; 1_024]);
        let _ = socket.write_all(b"HTTP/1.0 200 OK\r\n\r\n<html>");
    });
    all += &said(program().args(["sinks", "--control", &address]));
    server.join().expect("it ends");
    for quote in quoted("Command line").iter().filter(|quote| *quote != "check") {
        assert!(is_said(&all, quote), "{quote}\nis not in\n{all}");
    }
}

//! A spool that is not empty meets another configuration: what the program says and does before anything runs.

use std::fs;
use std::path::Path;

use forebay::mqtt::packet::{Connect, Packet, QoS, Version};

use crate::device::{Device, hello};
use crate::process::until_metric;
use crate::support::service::{Service, config_with, program};

/// Kafka is away: what is answered is on the disk and nowhere else.
const AWAY: &str = "[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n";
const SPOOL: &str = "[spool]\nbytes_max = \"64MiB\"\nsegment_bytes = \"1MiB\"\n";

fn sink(name: &str) -> String {
    format!(
        "[[sink]]\nname = \"{name}\"\nfilters = [\"#\"]\ntopic = \"{name}-topic\"\nbatch_bytes = \"64KiB\"\n\
         record_bytes_max = \"64KiB\"\n"
    )
}

/// Another configuration in the place of the service's own.
fn write(dir: &Path, shards: usize, rest: &str) {
    let text = config_with(&format!("shards = {shards}"), rest).replace("$DIR", &dir.display().to_string());
    fs::write(dir.join("forebay.toml"), text).expect("the configuration can be written");
}

/// What the program says when it does not start.
fn refused(dir: &Path) -> String {
    let output = program().arg("run").arg("--config").arg(dir.join("forebay.toml")).output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn discard(service: &Service, arguments: &[&str]) -> (Option<i32>, String) {
    let root = service.dir().join("data/spool");
    let output = program().args(["spool", "discard"]).arg(root).args(arguments).output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn rows_in_the_spool_hold_sinks_and_shards_where_they_were() {
    let both = format!("{AWAY}{SPOOL}{}", sink("a"));
    let mut service = Service::start(&config_with("shards = 2", &both));
    for n in 0..10 {
        let mut device = Device::connect(service.mqtt(), Version::V5, &format!("device {n}"));
        device.deliver(1, "t", b"one");
        device.deliver(2, "t", b"two");
    }
    let (status, said) = discard(&service, &["--sink", "a", "--yes"]);
    assert!(status == Some(1) && said.contains("in use by another process"), "{said}");
    service.kill9();

    let dir = service.dir().to_owned();
    for (rest, why) in [
        (format!("{AWAY}{SPOOL}{}", sink("b")), "the [[sink]] is no longer configured"),
        (format!("{AWAY}{SPOOL}{}buffer = \"memory\"\n", sink("a")), "its buffer is now \"memory\""),
        (format!("{AWAY}{}", sink("a")), "[spool] is no longer configured"),
    ] {
        write(&dir, 2, &rest);
        let said = refused(&dir);
        assert!(said.contains(&format!("sink \"a\", topic \"a-topic\": 20 messages; {why}")), "{said}");
        assert!(said.contains("forebay spool discard") && said.contains("--sink a --yes"), "{said}");
    }

    // Twice as many shards, under another cluster's name: taken up all the same, by as many as there were.
    write(&dir, 4, &format!("[kafka.other]\nbootstrap = \"127.0.0.1:1\"\n{SPOOL}{}", sink("a")));
    service.start_again();
    until_metric(&service, "sink_records_in_total{source=\"recovery\"}", 20);
    until_metric(&service, "sink_buffered_records", 20);
    assert!(service.log().contains("shards_kept"), "{}", service.log());
    let (_, shards) = service.get("/metrics").expect("an answer");
    assert!(shards.contains("shard=\"1\"") && !shards.contains("shard=\"2\""));
    service.kill9();

    let (status, said) = discard(&service, &["--sink", "a"]);
    assert!(status == Some(1) && said.contains("20 messages would be deleted"), "{said}");
    let (status, said) = discard(&service, &["--sink", "a", "--yes"]);
    assert!(status == Some(0) && said.contains("20 messages deleted"), "{said}");
    write(&dir, 4, &format!("{AWAY}{SPOOL}{}", sink("b")));
    service.start_again();
    assert!(service.log().contains("sessions_moved"), "{}", service.log());
    let (_, shards) = service.get("/metrics").expect("an answer");
    assert!(shards.contains("shard=\"3\""));
    Device::connect(service.mqtt(), Version::V5, "device 3").deliver(1, "t", b"three");
    assert!(service.terminate().success(), "{}", service.log());
}

/// Stores ten messages on two shards while Kafka is away, and kills the service.
fn with_backlog() -> (Service, String) {
    let rest = format!("{AWAY}{SPOOL}{}", sink("a"));
    let mut service = Service::start(&config_with("shards = 2", &rest));
    for n in 0..10 {
        Device::connect(service.mqtt(), Version::V5, &format!("device {n}")).deliver(1, "t", b"one");
    }
    service.kill9();
    (service, rest)
}

/// The folders are what the manifest says, or the start is refused, changes nothing, and says what cures it.
#[test]
fn a_folder_missing_or_one_too_many_is_refused() {
    let (mut service, _) = with_backlog();
    let (dir, root) = (service.dir().to_owned(), service.dir().join("data/spool"));
    let aside = dir.join("aside");
    fs::rename(root.join("1"), &aside).expect("renamed");
    let said = refused(&dir);
    assert!(said.contains("folder of shard 1 is missing") && said.contains("mount the volume"), "{said}");
    fs::create_dir(root.join("1")).expect("a mount point without its volume");
    let said = refused(&dir);
    assert!(said.contains("folder of shard 1 has no shard.json") && said.contains("mount the volume"), "{said}");
    fs::remove_dir(root.join("1")).expect("still empty");
    fs::rename(&aside, root.join("1")).expect("renamed");
    fs::create_dir(root.join("2")).expect("made");
    let said = refused(&dir);
    assert!(said.contains("folder 2 is one too many"), "{said}");
    fs::remove_dir(root.join("2")).expect("still empty");
    fs::rename(root.join("manifest.json"), &aside).expect("renamed");
    let said = refused(&dir);
    assert!(said.contains("there is no manifest.json"), "{said}");
    fs::rename(&aside, root.join("manifest.json")).expect("renamed");
    service.start_again();
    until_metric(&service, "sink_records_in_total{source=\"recovery\"}", 10);
}

/// A volume that is not mounted looks like an empty data directory.
#[test]
fn the_data_directory_that_is_named_and_no_other() {
    let (mut service, rest) = with_backlog();
    let dir = service.dir().to_owned();
    let manifest = fs::read_to_string(dir.join("data/spool/manifest.json")).expect("a manifest");
    let id = manifest.split("\"directory\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let named = format!("shards = 2\ndata_dir_id = \"{id}\"");
    let text = config_with(&named, &rest).replace("$DIR", &dir.display().to_string());
    fs::write(dir.join("forebay.toml"), text).expect("the configuration can be written");
    fs::rename(dir.join("data"), dir.join("volume")).expect("unmounted");
    let said = refused(&dir);
    assert!(said.contains("has no spool") && said.contains("is its volume mounted?"), "{said}");
    assert!(!dir.join("data/spool").exists(), "nothing is made in its place");
    fs::remove_dir_all(dir.join("data")).expect("it has a lock at most");
    fs::rename(dir.join("volume"), dir.join("data")).expect("mounted");
    service.start_again();
    until_metric(&service, "sink_records_in_total{source=\"recovery\"}", 10);
}

/// Other bounds, with a backlog: taken up, or refused with words.
#[test]
fn other_bounds_take_up_what_is_there() {
    let (mut service, _) = with_backlog();
    let dir = service.dir().to_owned();
    for spool in
        ["bytes_max = \"128MiB\"\nsegment_bytes = \"2MiB\"\n", "bytes_max = \"16MiB\"\nsegment_bytes = \"1MiB\"\n"]
    {
        write(&dir, 2, &format!("{AWAY}[spool]\n{spool}{}", sink("a")));
        service.start_again();
        until_metric(&service, "sink_records_in_total{source=\"recovery\"}", 10);
        service.kill9();
    }
    write(&dir, 2, &format!("{AWAY}[spool]\nappend = \"mapped\"\n{}{}", &SPOOL["[spool]\n".len()..], sink("a")));
    service.start_again();
    until_metric(&service, "sink_records_in_total{source=\"recovery\"}", 10);
    Device::connect(service.mqtt(), Version::V5, "device").deliver(1, "t", b"stored through a map");
    service.kill9();
    write(&dir, 2, &format!("{AWAY}{SPOOL}{}", sink("a")));
    service.start_again();
    until_metric(&service, "sink_records_in_total{source=\"recovery\"}", 11);
    service.kill9();
}

/// A session with messages that wait for it is one session, and lanes without records are not listed.
#[test]
fn finding_f8_inspect_tells_what_is_there_by_kind() {
    let config = format!("{SPOOL}{}", sink("a").replace("\"#\"", "\"to/kafka\""));
    let mut service = Service::start(&config_with("shards = 1", &config));
    let mut kept = Device::open(service.mqtt(), Version::V311);
    let connect = Connect { clean_start: false, ..hello(Version::V311, "kept") };
    kept.say(&Packet::Connect(connect));
    kept.welcome();
    kept.subscribe(&[("for/it", QoS::AtLeastOnce)]);
    kept.leave();
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    (1..=20).for_each(|id| device.deliver(id, "for/it", b"x"));
    device.deliver(21, "to/kafka", b"x");
    until_metric(&service, "sink_records_out_total{result=\"delivered\"}", 1);
    device.leave();
    assert!(service.terminate().success(), "{}", service.log());
    let output = program().args(["spool", "inspect"]).arg(service.dir().join("data/spool")).output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("find 0 records not known to be in Kafka, and 1 session, 20 messages for kept sessions"),
        "{said}"
    );
    assert!(!said.contains("- sink a"), "{said}");
}

//! A spool that is not empty meets another configuration: what the program says and does before anything runs.

use std::fs;
use std::path::Path;

use forebay::mqtt::packet::Version;

use crate::device::Device;
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
        (format!("{AWAY}{SPOOL}{}", sink("b")), "there is no such [[sink]] any more"),
        (format!("{AWAY}{SPOOL}{}buffer = \"memory\"\n", sink("a")), "its buffer is \"memory\" now"),
        (format!("{AWAY}{}", sink("a")), "there is no [spool] any more"),
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
    assert!(status == Some(1) && said.contains("20 messages would be thrown away"), "{said}");
    let (status, said) = discard(&service, &["--sink", "a", "--yes"]);
    assert!(status == Some(0) && said.contains("20 messages thrown away"), "{said}");
    write(&dir, 4, &format!("{AWAY}{SPOOL}{}", sink("b")));
    service.start_again();
    assert!(service.log().contains("sessions_moved"), "{}", service.log());
    let (_, shards) = service.get("/metrics").expect("an answer");
    assert!(shards.contains("shard=\"3\""));
    Device::connect(service.mqtt(), Version::V5, "device 3").deliver(1, "t", b"three");
    assert!(service.terminate().success(), "{}", service.log());
}

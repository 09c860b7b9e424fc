//! Where the fuzz targets begin: the malformed packets, and well-formed ones of every type. `scripts/fuzz` has them
//! written; they are not kept in the repository.

use crate::malformed;
use crate::packets::any_sent;
use forebay::mqtt::packet::{PacketType, Sender, Version};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::{fs, path::Path};

/// The byte that stands for version and sender at the head of an input, as `fuzz/src/lib.rs` reads it.
fn head(version: Version, sender: Sender) -> u8 {
    let version = match version {
        Version::V31 => 0,
        Version::V311 => 1,
        Version::V5 => 2,
    };
    version | if sender == Sender::Client { 0 } else { 4 }
}

#[test]
#[ignore = "writes fuzz/corpus; scripts/fuzz runs it"]
fn write_the_corpus() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = any_sent();
    let mut seeds: Vec<(Version, Sender, Vec<u8>)> =
        malformed::all().into_iter().map(|case| (case.version, case.sender, case.bytes)).collect();
    seeds.extend((0..500).map(|_| {
        let sent = strategy.new_tree(&mut runner).expect("a packet").current();
        (sent.version, sent.sender, sent.bytes())
    }));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in ["mqtt_decode", "mqtt_round_trip", "mqtt_connect"] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (at, (version, sender, bytes)) in seeds.iter().enumerate() {
            if target == "mqtt_connect" {
                if PacketType::of(bytes[0]) == Some(PacketType::Connect) {
                    fs::write(folder.join(format!("seed-{at}")), bytes).expect("a seed");
                }
            } else {
                let input = [&[head(*version, *sender)], &bytes[..]].concat();
                fs::write(folder.join(format!("seed-{at}")), input).expect("a seed");
            }
        }
    }
}

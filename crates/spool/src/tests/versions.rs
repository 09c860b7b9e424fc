//! Data of other programs: folders of each format version (`data/`), and features and kinds unknown to this version.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::faults::groups;
use super::support::{
    SEGMENT, cut_to, drain_state, lane, log, normal, placeless, put, put_with, recovered, settings, settle,
};
use crate::simulated::SimDisk;
use crate::{Deadline, HEADER_BYTES, Header, Log, Origin, Reason, VERSION, recover};

/// The folder of a version, as a program of that version wrote it.
fn folder(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/data").join(version.to_string())
}

fn read(version: u16) -> SimDisk {
    let mut files = BTreeMap::new();
    for file in fs::read_dir(folder(version)).expect("a folder") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "segment") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("a number");
            files.insert(number, fs::read(&path).expect("bytes"));
        }
    }
    SimDisk::of(files)
}

/// The result of recovery, in words.
fn found(disk: &SimDisk) -> Result<String, String> {
    let found = recover(disk, 3, &disk.found()).map_err(|error| error.to_string())?;
    let mut out = String::new();
    let (rows, rotten) = drain_state(&found.state, disk);
    for (number, lane) in found.state.lanes() {
        let _ = writeln!(out, "lane {number}: {} {} {} next {}", lane.sink, lane.topic, lane.partition, lane.next);
    }
    for ((lane, number), value) in &rows {
        let _ = writeln!(out, "row {lane} {number}: {:?}", String::from_utf8_lossy(value));
    }
    (found.state.incarnations.values()).for_each(|known| writeln!(out, "{known:?}").expect("text"));
    found.state.cuts().for_each(|cut| writeln!(out, "{cut:?}").expect("text"));
    let session = |session, payload: Result<&[u8], _>| {
        let payload = payload.ok().map(String::from_utf8_lossy).map(String::from);
        let _ = writeln!(out, "session {session}: {payload:?}");
    };
    found.records(disk, session).expect("read");
    found.state.open_ids().for_each(|open| writeln!(out, "open {open:?}").expect("text"));
    let _ = writeln!(out, "rotten {rotten:?} rot {:?} last group {}", found.rot, found.group);
    Ok(out)
}

#[test]
fn folders_of_each_version_are_read_or_refused_with_words() {
    let refused = "segment 0: format version 1 is not supported by this version of Forebay";
    let kept = fs::read_to_string(folder(2).join("found.txt")).expect("what was found");
    let versions: [(u16, Result<&str, &str>); VERSION as usize] = [(1, Err(refused)), (2, Ok(&kept))];
    for (version, expected) in versions {
        let mut disk = read(version);
        let before = disk.clone();
        assert_eq!(found(&disk).as_deref().map_err(String::as_str), expected, "version {version}");
        assert!(disk.found().keys().all(|segment| disk.bytes(*segment) == before.clone().bytes(*segment)));
    }
}

/// Rewrites the folder of this version. Run it only if the format changes before its release.
#[test]
#[ignore = "writes test data"]
fn write_the_folder_of_this_version() {
    let (mut log, mut disk) = log(14);
    let value = |text: &str| text.as_bytes().to_vec();
    log.session(None, b"the first session").expect("room");
    let gone = log.session(None, b"one that ends").expect("room");
    let readings = lane(&mut log, "telemetry", "readings", 0);
    let holding = lane(&mut log, "telemetry", "readings", -1);
    let other = lane(&mut log, "archive", "alles", 7);
    let origins = [(1, Origin { session: 0, packet_id: 9 })];
    let deadlines = [(0, Deadline { wall_ms: 1_900_000_000_000, left_ms: 60_000 })];
    let first = put_with(&mut log, readings, &[value("a"), value("b")], &origins, &deadlines).expect("room");
    let second = put(&mut log, readings, &[value("c"), value("d"), value("e")]).expect("room");
    let expired = put(&mut log, holding, &[value("expires"), value("stays")]).expect("room");
    put(&mut log, other, &[value("another sink's")]).expect("room");
    settle(&mut log, &mut disk);
    let (done, _) = cut_to(&mut log, readings, 0, 1, &[first]).expect("a cut");
    cut_to(&mut log, readings, 0, 1, &[second]).expect("a cut");
    settle(&mut log, &mut disk);
    log.done(done, readings, &[first], 40).expect("done");
    log.end_rows(holding, &[crate::RowRun { count: 1, ..expired }], Reason::Expired).expect("ended");
    log.session_ended(gone).expect("ended");
    settle(&mut log, &mut disk);
    // A second segment, and a last group after its checkpoint.
    while log.chain.complete[1].is_none() {
        let run = put(&mut log, other, &[vec![b'x'; 900]]).expect("room");
        settle(&mut log, &mut disk);
        log.end_rows(other, &[run], Reason::Expired).expect("ended");
        settle(&mut log, &mut disk);
    }
    put(&mut log, holding, &[value("the last one")]).expect("room");
    settle(&mut log, &mut disk);
    fs::create_dir_all(folder(VERSION)).expect("a folder");
    for segment in disk.found().into_keys() {
        fs::write(folder(VERSION).join(format!("{segment}.segment")), disk.bytes(segment)).expect("written");
    }
    fs::write(folder(VERSION).join("found.txt"), found(&disk).expect("it reads its own")).expect("written");
}

#[test]
fn foreign_folders_are_refused() {
    let (_, disk, _) = groups(2);
    assert!(recover(&disk, 4, &disk.found()).is_err(), "another shard");
    // Later versions may change anything in their headers except the magic, the version and the header's length.
    for header_bytes in [HEADER_BYTES, 4 * HEADER_BYTES] {
        let mut newer = disk.clone();
        for at in [0, SEGMENT as usize - HEADER_BYTES] {
            let bytes = newer.bytes(0);
            bytes[at + 9] = 3;
            bytes[at + 10..at + 12].copy_from_slice(&(header_bytes as u16).to_be_bytes());
            let crc = crc32c::crc32c(&bytes[at..at + HEADER_BYTES - 4]).to_be_bytes();
            bytes[at + HEADER_BYTES - 4..at + HEADER_BYTES].copy_from_slice(&crc);
        }
        let error = recover(&newer, 3, &newer.found()).expect_err("another version");
        assert!(error.to_string().contains("version 3"), "{error}");
    }
}

/// Sets features in both copies of a segment's header.
fn with_features(disk: &SimDisk, segment: u64, features: u32, optional_features: u32) -> SimDisk {
    let mut disk = disk.clone();
    let header = Header::decode(disk.bytes(segment)).expect("a header");
    let bytes = Header { features, optional_features, ..header }.encode();
    for at in [0, SEGMENT as usize - HEADER_BYTES] {
        disk.bytes(segment)[at..at + HEADER_BYTES].copy_from_slice(&bytes);
    }
    disk
}

#[test]
fn features_that_have_to_be_known_refuse_the_start_and_others_do_not() {
    let (log, disk, _) = groups(3);
    let found = recovered(&with_features(&disk, 0, 0, 1 << 30));
    assert_eq!(normal(&found.state), normal(log.state()));
    let other = with_features(&disk, 0, 1 << 3, 0);
    let error = recover(&other, 3, &other.found()).expect_err("a feature");
    assert!(error.to_string().contains("0x8"), "{error}");
}

#[test]
fn a_kind_that_may_be_skipped_is_skipped_and_any_other_refuses_the_start() {
    for (number, skipped) in [(0x80, true), (0xfe, true), (0, false), (17, false), (0x7f, false)] {
        let (mut log, mut disk, _) = groups(2);
        // An entry of a later program precedes an entry of this one in its group.
        put(&mut log, 0, &[vec![9; 30]]).expect("room");
        let mut other = Vec::new();
        crate::format::put(&mut other, crate::Kind::Released, |out| out.extend_from_slice(&[7; 21]));
        other[4] = number;
        log.pending.splice(0..0, other);
        settle(&mut log, &mut disk);
        let expected = normal(log.state());
        match recover(&disk, 3, &disk.found()) {
            Ok(found) => {
                assert!(skipped && found.rot.is_empty(), "kind {number}");
                assert_eq!(normal(&found.state), expected, "kind {number}");
                // The entry is in the last group, which recovery writes again.
                let mut again = Log::new(settings(14, 2), found);
                settle(&mut again, &mut disk);
                let again = placeless(&recovered(&disk).state);
                assert_eq!(again, placeless(log.state()), "kind {number}, written again");
            }
            Err(error) => assert!(!skipped && error.to_string().contains(&format!("kind {number} ")), "{error}"),
        }
    }
}

//! Tests of a real log over real files, whole and damaged.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::super::ask::text;
use super::*;
use crate::record::{Builder, HEADER_LEN, Row};
use crate::runtime::seam::{Monotonic, WallMs};
use crate::runtime::{self, segment_path};
use crate::spool::{
    AppendError, BATCH_AT, Completion, Disk, Log, NewCut, NewRows, ReadError, Recovered, RowRun, Settings,
    batch_header, put_batch, seal_batch,
};

const BYTES: u64 = 16 << 10;

/// Files in a folder; every call is complete when it returns.
struct Files<'a>(&'a Path, Vec<Completion>);

impl Disk for Files<'_> {
    fn create(&mut self, segment: u64, bytes: u64) {
        fs::write(segment_path(self.0, segment), vec![0; bytes as usize]).unwrap();
        self.1.push(Completion::Created { segment, ok: true });
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let file = OpenOptions::new().write(true).open(segment_path(self.0, segment)).unwrap();
        file.write_all_at(bytes, at).map_err(|_| AppendError::Gone)
    }

    fn sync(&mut self, token: u64, _: &[u64]) {
        self.1.push(Completion::Synced { token, ok: true });
    }

    fn free(&mut self, segment: u64) {
        fs::remove_file(segment_path(self.0, segment)).unwrap();
        self.1.push(Completion::Freed { segment });
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        runtime::read_note(self.0)
    }

    fn write_note(&mut self, note: &[u8]) {
        runtime::write_note(self.0, note).unwrap();
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        data_dir::Files::new(self.0).read(segment, at, into)
    }
}

/// The record of a 3.1.1 session.
fn kept_session(client_id: &str) -> Vec<u8> {
    let mut connect = vec![0x10, 12 + client_id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0];
    connect.push(client_id.len() as u8);
    [&[1, 0, 0, 0, 100, 0, 0, 0, 0][..], &connect, client_id.as_bytes()].concat()
}

fn settle(log: &mut Log, disk: &mut Files<'_>) {
    loop {
        log.flush(disk, Monotonic(0), WallMs(1_763_640_000_000));
        if disk.1.is_empty() {
            return;
        }
        for completion in std::mem::take(&mut disk.1) {
            log.complete(disk, completion);
        }
    }
}

/// Two lanes, some groups of rows, an open cut and a session.
fn write(folder: &Path) {
    let settings = Settings {
        shard: 3,
        segment_bytes: BYTES,
        segments_max: 14,
        sink_bytes_max: BYTES * 14,
        data_dir_id: 0,
        seed: 1,
    };
    let (mut log, mut disk) = (Log::new(settings, Recovered::default()), Files(folder, Vec::new()));
    for turn in 0..4u8 {
        let sink = log.sink("telemetry");
        let lane = log.lane(sink, "readings", i32::from(turn % 2), false).unwrap();
        let mut builder = Builder::new(Vec::new());
        for _ in 0..3 {
            let headers = std::iter::empty::<(&[u8], &[u8])>();
            let row = Row { key: None, value: Some(&[turn; 40][..]), headers, timestamp: WallMs(1_000) };
            builder.append(&row, row.measure());
        }
        let batch = builder.close(None);
        let (origins, deadlines, hashes) = (&[], &[], &[]);
        let (records, base_timestamp, count) = (&batch[HEADER_LEN..], 1_000, 3);
        let first =
            log.rows(&NewRows { lane, records, base_timestamp, count, origins, deadlines, hashes, from: 0 }).unwrap();
        if turn == 0 {
            let (incarnation, partition, producer_id, epoch, sequence) = (0, 0, 4_000, 2, 7);
            let rows = &[RowRun { first, count: 3 }];
            let timeless = false;
            log.cut(&NewCut { lane, incarnation, partition, producer_id, epoch, sequence, timeless, rows }).unwrap();
            log.session(Some(5), &kept_session("client")).unwrap();
        }
        settle(&mut log, &mut disk);
    }
}

fn look(folder: &Path, entries: bool) -> (Value, bool) {
    let options = InspectArgs { folder: folder.to_owned(), json: true, entries };
    let (text, sound) = inspect(&options).unwrap();
    (serde_json::from_str(&text).unwrap(), sound)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_folder_is_told_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let file = segment_path(dir.path(), 0);
    let before = fs::read(&file).unwrap();
    let (report, sound) = look(dir.path(), true);
    let segment = &report["segments"][0];
    assert!(sound, "{report:#}");
    assert_eq!((&segment["shard"], &segment["groups"]), (&json!(3), &json!(4)));
    assert_eq!(segment["rows"], json!([{ "sink": "telemetry", "topic": "readings", "rows": 12 }]));
    assert_eq!((&segment["cuts_open"][0]["producer_id"], &segment["kept_records"]), (&json!(4_000), &json!([5])));
    let counted: u64 = segment["kinds"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(segment["entries"].as_array().unwrap().len() as u64, counted);
    assert_eq!(report["start"]["cuts_uncertain"], segment["cuts_open"]);
    assert_eq!(report["start"]["lanes"][0]["uncut"], json!(3), "six, three of them in the cut");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(!dir.path().join("lock").exists());
    let options = InspectArgs { folder: dir.path().to_owned(), ..InspectArgs::default() };
    let (human, _) = inspect(&options).unwrap();
    let waiting = "- sink telemetry, topic readings, partition 0: 6 records, 3 of them never sent";
    for words in ["12 records not known to be in Kafka, and 1 session.", waiting, "producer ID 4000, epoch 2"] {
        assert!(human.contains(words), "{words}: {human}");
    }
    assert!(human.ends_with("\nNo damage found.\n"), "{human}");
    // Words that are not for operators.
    for word in ["uncut", "fate", "lane", "rot", "torn", "cut", "partition=-1"] {
        assert!(!human.contains(word), "{word}: {human}");
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let file = segment_path(dir.path(), 0);
    let (report, _) = look(dir.path(), true);
    let lines: Vec<String> = report["segments"][0]["entries"].as_array().unwrap().iter().map(text).collect();
    let rows = lines.iter().find(|line| line.contains(" rows: ")).unwrap();
    let position: usize = rows.split(' ').next().unwrap().parse().unwrap();
    flip(&file, position + 60);
    let (report, sound) = look(dir.path(), false);
    assert!(!sound);
    assert_eq!(report["segments"][0]["damage"][0]["position"], json!(position));
    assert_eq!(report["start"]["damage"][0]["position"], json!(position));
    flip(&file, position + 60);
    flip(&file, 20);
    let (report, sound) = look(dir.path(), false);
    assert!(!sound && report["segments"][0]["damage"][0]["what"] == "header", "one copy is left: {report:#}");
    flip(&file, BYTES as usize - 20);
    fs::remove_file(runtime::note_path(dir.path())).unwrap();
    let (report, sound) = look(dir.path(), false);
    assert!(!sound && report["start"]["damage"][0]["what"] == "unreadable", "{report:#}");
    assert_eq!(report["start"]["lost"]["record"], json!(12), "{report:#}");
    assert_eq!(report["segments"][0]["damage"].as_array().unwrap().len(), 2);
}

#[test]
fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let lock = FolderLock::take(dir.path()).unwrap();
    let options = InspectArgs { folder: dir.path().to_owned(), ..InspectArgs::default() };
    assert!(inspect(&options).unwrap_err().contains("it is in use by a running service"));
    drop(lock);
    assert!(inspect(&options).unwrap().1);
    let nowhere = InspectArgs { folder: dir.path().join("nowhere"), ..InspectArgs::default() };
    assert!(inspect(&nowhere).is_err());
}

/// `/etc` is refused: it is not a spool. The data directory is nearly one.
#[test]
fn what_is_not_a_spool_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let inspect = |folder: &Path| inspect(&InspectArgs { folder: folder.to_owned(), ..InspectArgs::default() });
    let said = inspect(dir.path()).unwrap_err();
    assert!(said.contains("is not a spool; the spool is the directory `spool` in service.data_dir"), "{said}");
    assert!(inspect(&dir.path().join("none")).unwrap_err().contains("there is no such directory"));
    let spool = dir.path().join("spool");
    fs::create_dir_all(spool.join("0")).unwrap();
    fs::write(spool.join(crate::data_dir::MANIFEST), "{}").unwrap();
    let said = inspect(dir.path()).unwrap_err();
    assert!(said.ends_with(&format!("did you mean {}?", spool.display())), "{said}");
    // The shard has written nothing yet.
    let (text, sound) = inspect(&spool.join("0")).unwrap();
    assert!(sound && text.contains("There are no segments."), "{text}");
}

/// A folder of the embedded log: its batches and offsets; a torn tail is no damage, a bad byte amid batches is.
#[test]
fn a_partition_of_the_embedded_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = batch_header(2, 40, 7, 1_763_640_000_000).encode().to_vec();
    let mut starts = Vec::new();
    for n in 0..3i64 {
        let mut builder = Builder::new(Vec::new());
        let headers = std::iter::empty::<(&[u8], &[u8])>();
        let row = Row { key: None, value: Some(b"x"), headers, timestamp: WallMs(1_000) };
        builder.append(&row, row.measure());
        let (mut entry, position) = (Vec::new(), bytes.len());
        put_batch(&builder.close(None), &mut entry);
        entry[BATCH_AT..BATCH_AT + 8].copy_from_slice(&(40 + n).to_be_bytes());
        seal_batch(&mut entry, 7, position as u64);
        bytes.extend_from_slice(&entry);
        starts.push(position);
    }
    let whole = bytes.len();
    bytes.extend_from_slice(&[9; 100]);
    let path = segment_path(dir.path(), 40);
    fs::write(&path, &bytes).unwrap();
    let options = InspectArgs { folder: dir.path().to_owned(), entries: true, json: true };
    let report = |sound: bool| {
        let (text, found) = inspect(&options).unwrap();
        assert_eq!(found, sound, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let read = report(true);
    let expected = json!({ "batches": 3, "records": 3, "first_offset": 40, "next_offset": 43, "torn_bytes": 100 });
    assert_eq!(read["start"], expected);
    assert_eq!((&read["segments"][0]["shard"], &read["segments"][0]["synced"]), (&json!(2), &json!(whole)));
    let line = read["segments"][0]["entries"][1].as_str().unwrap();
    assert!(line.contains("batch: base_offset=41 records=1"), "{line}");
    bytes[starts[1] + 40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let read = report(false);
    assert_eq!((&read["start"]["batches"], &read["start"]["next_offset"]), (&json!(2), &json!(43)));
    assert_eq!(read["segments"][0]["damage"][0]["position"], json!(starts[1]));
}

//! Recovery after a crash, or with rot.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::client::{Batch, Client};
use super::support::settings;
use crate::EmbeddedLog;
use crate::batch::{BatchHeader, check, place};
use crate::damage::Teller;
use crate::disk::KernelDisk;
use crate::partition::{Bounds, Findings, Partition};
use forebay_metrics::event::Kind;
use forebay_metrics::journal::{Filter, Journal};
use forebay_spool::{BATCH_AT, HEADER_BYTES, put_batch, seal_batch};

const BOUNDS: Bounds = Bounds { segment_bytes: 1 << 20, producers_max: 100 };

fn open(dir: &Path) -> (Partition, Findings) {
    open_with(dir, BOUNDS)
}

fn open_with(dir: &Path, bounds: Bounds) -> (Partition, Findings) {
    Partition::open(&KernelDisk, "t-0".into(), dir.into(), bounds, &Teller::default()).unwrap()
}

fn rules() -> crate::batch::Rules {
    crate::batch::Rules { size_max: 100_000, version: 9, now_ms: 2_000_000 }
}

fn append(partition: &mut Partition, bounds: Bounds, batch: &Batch) -> Result<i64, i16> {
    let bytes = batch.bytes();
    let header = check(&bytes, rules()).unwrap();
    let appended = partition.append(&KernelDisk, bounds, &bytes, &header, &mut Vec::new())?;
    if let Some(unsynced) = partition.leave_sync_queue() {
        partition.synced(&unsynced);
    }
    Ok(appended.base_offset)
}

/// Three batches of 2, 3 and 4 records in one segment; returns its path and the start of each entry.
fn three_batches(dir: &Path) -> (PathBuf, Vec<usize>) {
    let (mut partition, _) = open(dir);
    let mut starts = vec![HEADER_BYTES];
    for (n, count) in [2usize, 3, 4].into_iter().enumerate() {
        let sequence = [0, 2, 5][n];
        append(&mut partition, BOUNDS, &Batch::counted(count).by(9, 0, sequence)).unwrap();
        starts.push(fs::metadata(dir.join("00000000000000000000.segment")).unwrap().len() as usize);
    }
    (dir.join("00000000000000000000.segment"), starts)
}

/// Offsets of the batches that a reader gets, from an offset on, read after read.
fn batches_from(partition: &Partition, from: i64) -> Vec<i64> {
    let mut offset = from;
    let mut bases = Vec::new();
    while let Some(plan) = partition.plan_read(offset).unwrap() {
        let read = plan.run(1, true).unwrap();
        let header = BatchHeader::read(&read.bytes).unwrap();
        assert_eq!(read.bytes.len(), header.size);
        bases.push(header.base_offset);
        offset = header.last_offset() + 1;
    }
    assert_eq!(offset, partition.high_watermark().max(from));
    bases
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_the_last_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (path, starts) = three_batches(dir.path());
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        // A torn tail was never synced: no note of the end knows it.
        let _ = fs::remove_file(dir.path().join(crate::note::FILE));
        // A header that was cut short is written again.
        let kept = starts.iter().filter(|start| **start <= cut).max().unwrap_or(&HEADER_BYTES);
        let next = [0, 2, 5, 9][starts.iter().position(|start| start == kept).unwrap()];
        let (mut partition, findings) = open(dir.path());
        assert_eq!(partition.next_offset(), next, "cut at {cut}");
        let torn = if cut < HEADER_BYTES { cut } else { cut - kept };
        assert_eq!(findings.bytes_cut, torn as u64, "cut at {cut}");
        assert_eq!(findings.holes, 0);
        assert_eq!(fs::metadata(&path).unwrap().len(), *kept as u64);
        // The partition goes on from there, and new batches are read.
        append(&mut partition, BOUNDS, &Batch::counted(1)).unwrap();
        assert_eq!(batches_from(&open(dir.path()).0, next), [next]);
    }
}

#[test]
fn a_tail_of_zeros_or_garbage_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = three_batches(dir.path());
    let whole = fs::read(&path).unwrap();
    for tail in [vec![0; 5_000], vec![0xff; 5_000], (0..5_000u32).map(|n| (n * 7) as u8).collect()] {
        fs::write(&path, [whole.clone(), tail].concat()).unwrap();
        let (partition, findings) = open(dir.path());
        assert_eq!((partition.next_offset(), findings.bytes_cut), (9, 5_000));
    }
}

#[test]
fn any_bad_byte_in_the_middle_costs_its_batch_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (path, starts) = three_batches(dir.path());
    let whole = fs::read(&path).unwrap();
    for at in starts[1]..starts[2] {
        let mut rotten = whole.clone();
        rotten[at] ^= 0x55;
        fs::write(&path, &rotten).unwrap();
        let (partition, findings) = open(dir.path());
        assert_eq!(partition.next_offset(), 9, "byte {at}");
        assert_eq!((findings.holes, findings.bytes_cut), (1, 0), "byte {at}");
        assert_eq!(batches_from(&partition, 0), [0, 5], "byte {at}");
        for inside in 2..5 {
            assert_eq!(batches_from(&partition, inside), [5], "byte {at}");
        }
        assert_eq!(fs::read(&path).unwrap(), rotten, "nothing is thrown away");
    }
}

#[test]
fn an_entry_inside_a_torn_payload_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, starts) = three_batches(dir.path());
    let mut forged = Vec::new();
    put_batch(&Batch::counted(5).bytes(), &mut forged);
    // The offset is exactly the one after the surrounding batch; a publisher does not know the salt.
    place(&mut forged[BATCH_AT..], 10);
    for salt in [0, 1, u64::MAX] {
        seal_batch(&mut forged, salt, starts[3] as u64 + 80);
        let (mut partition, _) = open(dir.path());
        append(&mut partition, BOUNDS, &Batch::of(&[&forged, &[7; 3_000]])).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in (starts[3] + BATCH_AT + 61 + forged.len() + 20..whole.len()).step_by(61) {
            fs::write(&path, &whole[..cut]).unwrap();
            let (partition, findings) = open(dir.path());
            assert_eq!((partition.next_offset(), findings.holes), (9, 0), "cut at {cut}");
        }
        // The file has its full length, but not the bytes.
        let zeroed = [&whole[..whole.len() - 1_000], &[0; 1_000]].concat();
        fs::write(&path, zeroed).unwrap();
        assert_eq!(open(dir.path()).0.next_offset(), 9);
    }
}

#[test]
fn segments_roll_and_are_read_across() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { segment_bytes: 300, ..BOUNDS };
    let (mut partition, _) = open_with(dir.path(), bounds);
    let bases: Vec<i64> = (0..40).map(|_| append(&mut partition, bounds, &Batch::counted(3)).unwrap()).collect();
    assert!(fs::read_dir(dir.path()).unwrap().count() > 10);
    assert_eq!(batches_from(&partition, 0), bases);
    let (partition, findings) = open_with(dir.path(), bounds);
    assert_eq!(findings.holes, 0);
    assert_eq!(batches_from(&partition, 0), bases);
    assert_eq!(batches_from(&partition, 61), bases[20..]);
    assert_eq!(partition.plan_read(121).unwrap_err(), 1);
    assert_eq!(partition.plan_read(-1).unwrap_err(), 1);
}

/// Thirty batches of three records over several segments, then bytes of the first one are overwritten.
fn with_rot(bad: std::ops::Range<usize>) -> (tempfile::TempDir, Partition, Findings, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { segment_bytes: 500, ..BOUNDS };
    let (mut partition, _) = open_with(dir.path(), bounds);
    for _ in 0..30 {
        append(&mut partition, bounds, &Batch::counted(3)).unwrap();
    }
    let path = dir.path().join("00000000000000000000.segment");
    let mut bytes = fs::read(&path).unwrap();
    bytes[bad].fill(0xee);
    fs::write(&path, bytes).unwrap();
    let (partition, findings) = open_with(dir.path(), bounds);
    (dir, partition, findings, path)
}

#[test]
fn rot_in_a_closed_segment_is_stepped_over() {
    let (_dir, partition, findings, _) = with_rot(HEADER_BYTES..HEADER_BYTES + BATCH_AT + 61);
    assert_eq!((findings.holes, partition.next_offset()), (1, 90));
    assert_eq!(batches_from(&partition, 0), (1..30).map(|n| n * 3).collect::<Vec<_>>());
}

/// Without the header the salt is not known: batches have checksums of their own.
#[test]
fn a_segment_without_its_header_is_read_all_the_same() {
    let (dir, partition, findings, path) = with_rot(0..HEADER_BYTES);
    assert_eq!((findings.holes, partition.next_offset()), (1, 90));
    assert_eq!(batches_from(&partition, 0), (0..30).map(|n| n * 3).collect::<Vec<_>>());
    // With a bad batch after the header as well, the search continues to the next batch.
    let (_dir, partition, findings, _) = with_rot(0..HEADER_BYTES + 100);
    assert_eq!((findings.holes, partition.next_offset()), (2, 90));
    assert_eq!(batches_from(&partition, 0), (1..30).map(|n| n * 3).collect::<Vec<_>>());
    // In the last segment, the bytes stay, and the next batch goes into a new file.
    let alone = tempfile::tempdir().unwrap();
    fs::copy(&path, alone.path().join("00000000000000000000.segment")).unwrap();
    drop((dir, partition));
    let (mut partition, _) = open(alone.path());
    let next = partition.next_offset();
    assert!(next > 0 && next % 3 == 0);
    assert_eq!(append(&mut partition, BOUNDS, &Batch::counted(3)), Ok(next));
    assert_eq!(segments_of(alone.path()).len(), 2);
    assert_eq!(batches_from(&open(alone.path()).0, next), [next]);
}

#[test]
fn producers_are_known_again_with_their_last_five_batches() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { segment_bytes: 300, ..BOUNDS };
    let (mut partition, _) = open_with(dir.path(), bounds);
    let batch = |n: i32| Batch::counted(10).by(77, 2, n * 10);
    for n in 0..7 {
        append(&mut partition, bounds, &batch(n)).unwrap();
    }
    let (mut partition, _) = open_with(dir.path(), bounds);
    for n in 2..7 {
        assert_eq!(append(&mut partition, bounds, &batch(n)), Ok(i64::from(n) * 10));
    }
    assert_eq!(append(&mut partition, bounds, &batch(1)), Err(45));
    assert_eq!(append(&mut partition, bounds, &Batch::counted(10).by(77, 1, 70)), Err(47));
    assert_eq!(append(&mut partition, bounds, &batch(7)), Ok(70));
    assert_eq!(partition.next_offset(), 80);
}

#[test]
fn an_index_finds_every_offset_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut partition, _) = open(dir.path());
    for n in 0..200i64 {
        let value = vec![n as u8; 700];
        append(&mut partition, BOUNDS, &Batch::of(&[&value, &value]).at(&[n * 10, n * 10 + 5])).unwrap();
    }
    for partition in [partition, open(dir.path()).0] {
        for offset in 0..400i64 {
            let plan = partition.plan_read(offset).unwrap().unwrap();
            let read = plan.run(2_000, false).unwrap();
            assert_eq!(BatchHeader::read(&read.bytes).unwrap().base_offset, offset / 2 * 2, "offset {offset}");
        }
        for time in 0..1_995i64 {
            let found = partition.plan_time(time).iter().find_map(|plan| plan.run().unwrap()).unwrap();
            assert_eq!(found.offset, (time + 4) / 5, "time {time}");
            assert_eq!(found.timestamp, (time + 4) / 5 * 5);
        }
        assert!(partition.plan_time(1_996).is_empty());
        let newest = partition.plan_newest().unwrap().run().unwrap().unwrap();
        assert_eq!((newest.timestamp, newest.offset), (1_995, 399));
    }
}

#[test]
fn a_directory_of_the_format_before_this_one_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node.json");
    fs::write(&node, br#"{"format":1,"cluster_id":"x"}"#).unwrap();
    let error = EmbeddedLog::start(settings(dir.path())).err().unwrap().to_string();
    for words in ["node.json", "`format` is 1", "set another", "service.data_dir"] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(fs::read(&node).unwrap(), br#"{"format":1,"cluster_id":"x"}"#);
}

/// Ids of producers that are known by their batches are not assigned again, whatever happened to the file.
#[test]
fn finding_l1_producer_ids_of_the_log_are_not_given_out_again() {
    use kafka_protocol::messages::InitProducerIdRequest;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("producer-ids.json");
    let id = |client: &mut Client| {
        client.call(&InitProducerIdRequest::default().with_transactional_id(None), 4).producer_id.0
    };
    let mut given = Vec::new();
    let first = {
        let log = EmbeddedLog::start(settings(dir.path())).unwrap();
        let old = fs::read(&file).unwrap();
        let mut client = Client::connect(log.local_addr());
        client.metadata(&["t"]);
        for _ in 0..3 {
            given.push(id(&mut client));
        }
        let batch = Batch::counted(2).by(given[2], 0, 0).bytes();
        assert_eq!(client.produce("t", 0, &batch).error_code, 0);
        old
    };
    for content in [Some(first), None, Some(b"{".to_vec())] {
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let log = EmbeddedLog::start(settings(dir.path())).unwrap();
        let mut client = Client::connect(log.local_addr());
        let next = id(&mut client);
        assert!(next > given[given.len() - 1], "{next} after {given:?}");
        // The new producer's batch is appended: it is not taken for another producer's.
        let before = client.list_offset("t", 0, -1).2;
        let answer = client.produce("t", 0, &Batch::counted(2).by(next, 0, 0).bytes());
        assert_eq!((answer.error_code, answer.base_offset), (0, before));
        given.push(next);
    }
}

fn segments_of(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    paths.sort();
    paths
}

/// Thirty batches of three records over several segments.
fn several(dir: &Path) -> (Vec<i64>, Vec<PathBuf>) {
    let bounds = Bounds { segment_bytes: 500, ..BOUNDS };
    let (mut partition, _) = open_with(dir, bounds);
    let offsets = (0..30).map(|_| append(&mut partition, bounds, &Batch::counted(3)).unwrap()).collect();
    (offsets, segments_of(dir))
}

/// Whatever names segments have, each gets its own back, and no data is lost.
#[test]
fn finding_l8_segments_under_other_names_are_renamed_and_nothing_is_erased() {
    let count = several(tempfile::tempdir().unwrap().path()).1.len();
    for one in 0..count {
        for other in 0..count {
            let dir = tempfile::tempdir().unwrap();
            let (offsets, paths) = several(dir.path());
            let before: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
            let third = dir.path().join("third");
            fs::rename(&paths[one], &third).unwrap();
            if one != other {
                fs::rename(&paths[other], &paths[one]).unwrap();
                fs::rename(&third, &paths[other]).unwrap();
            } else {
                fs::rename(&third, dir.path().join("00000000000000077777.segment")).unwrap();
            }
            let (partition, findings) = open(dir.path());
            assert_eq!((findings.files, findings.holes, findings.bytes_cut), (1, 0, 0), "{one} {other}");
            assert_eq!(batches_from(&partition, 0), offsets, "{one} {other}");
            let after: Vec<_> = segments_of(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
            assert!(before == after, "{one} {other}");
        }
    }
}

#[test]
fn finding_l8_a_copy_of_a_segment_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (offsets, paths) = several(dir.path());
    let copy = dir.path().join("00000000000000077777.segment");
    fs::copy(&paths[0], &copy).unwrap();
    let (partition, findings) = open(dir.path());
    assert_eq!((findings.files, batches_from(&partition, 0)), (1, offsets));
    assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(copy.with_extension("segment.copy")).unwrap());
}

#[test]
fn finding_l8_missing_segments_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (offsets, paths) = several(dir.path());
    fs::remove_file(&paths[1]).unwrap();
    let (partition, findings) = open(dir.path());
    assert_eq!((findings.files, findings.holes), (1, 0));
    let left = batches_from(&partition, 0);
    assert!(left.len() < offsets.len() && left.iter().all(|offset| offsets.contains(offset)), "{left:?}");
    assert_eq!(open(dir.path()).1.files, 1, "at each start");
}

/// The last segment with a damaged header and nothing readable after it keeps its bytes; one of zeros has none to keep.
#[test]
fn finding_l8_a_last_segment_that_cannot_be_read_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = three_batches(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&path, &bytes).unwrap();
    let (mut partition, findings) = open(dir.path());
    assert_eq!((findings.files, findings.bytes_cut, partition.next_offset()), (1, 0, 0));
    assert_eq!(fs::read(path.with_extension("segment.damaged")).unwrap(), bytes);
    append(&mut partition, BOUNDS, &Batch::counted(1)).unwrap();
    fs::write(&path, vec![0; bytes.len()]).unwrap();
    let (_, findings) = open(dir.path());
    assert_eq!((findings.files, findings.bytes_cut), (0, bytes.len() as u64));
}

/// Lengths that a file claims and does not have cost no memory; only regular files are segments.
#[test]
fn finding_l10_lengths_are_not_believed_and_only_files_are_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (path, starts) = three_batches(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[starts[1]] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1 << 31).unwrap();
    let fifo = dir.path().join("00000000000000077777.segment");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let (partition, findings) = open(dir.path());
    assert_eq!((findings.holes, findings.bytes_cut), (1, (1 << 31) - bytes.len() as u64));
    assert_eq!(batches_from(&partition, 0), [0, 5]);
}

type Wrong = Box<dyn FnOnce(&Path)>;

/// Starts a log after `wrong` was applied; returns the number of reported files.
fn started_with(wrong: impl FnOnce(&Path)) -> (EmbeddedLog, u64, tempfile::TempDir) {
    use std::sync::atomic::Ordering::SeqCst;
    let dir = tempfile::tempdir().unwrap();
    {
        let log = EmbeddedLog::start(settings(dir.path())).unwrap();
        let mut client = Client::connect(log.local_addr());
        client.metadata(&["t", "other"]);
        client.produce("t", 0, &Batch::counted(2).bytes());
        client.produce("other", 0, &Batch::counted(3).bytes());
        assert_eq!(super::groups::commit(&mut client, "g", "t", 1, 6), 0);
    }
    wrong(dir.path());
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let told = log.counters().recovery_files_damaged.load(SeqCst);
    (log, told, dir)
}

#[test]
fn finding_l8_a_topic_file_that_is_damaged_or_gone_costs_no_records_and_no_offsets() {
    let write = |text: &'static [u8]| move |dir: &Path| fs::write(dir.join("topics/t.json"), text).unwrap();
    let wrongs: [Wrong; 6] = [
        Box::new(write(b"")),
        Box::new(write(b"{\"format\":3}")),
        Box::new(write(
            b"{\"format\":3,\"name\":\"t\",\"id\":\"67e55044-10b1-426f-9247-bb680e5fe0c8\",\"partitions\":2000000000}",
        )),
        Box::new(write(&[0xff; 100_000])),
        Box::new(|dir| fs::remove_file(dir.join("topics/t.json")).unwrap()),
        Box::new(|dir| {
            let file = dir.join("topics/t.json");
            fs::remove_file(&file).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        }),
    ];
    for (case, wrong) in wrongs.into_iter().enumerate() {
        let (log, told, dir) = started_with(wrong);
        let mut client = Client::connect(log.local_addr());
        assert_eq!(client.read_all("t", 0, 0).len(), 2, "case {case}");
        assert_eq!(client.read_all("other", 0, 0).len(), 3, "case {case}");
        assert_eq!(super::groups::committed(&mut client, "g", "t"), 1, "case {case}");
        assert_eq!(told, if case == 4 { 1 } else { 2 }, "case {case}: the file, and the topic that is made again");
        assert!(dir.path().join("topics/t.json").is_file());
    }
}

#[test]
fn finding_l8_a_missing_partition_or_cluster_id_stops_nothing() {
    let (log, told, _dir) = started_with(|dir| {
        fs::remove_dir_all(dir.join("partitions/t-0")).unwrap();
        fs::write(dir.join("node.json"), b"{").unwrap();
    });
    let mut client = Client::connect(log.local_addr());
    assert_eq!((client.read_all("t", 0, 0).len(), client.read_all("other", 0, 0).len()), (0, 3));
    assert_eq!(told, 1);
    assert_eq!(client.produce("t", 0, &Batch::counted(1).bytes()).error_code, 0);
}

/// Sixty records of 5 kB in the topic `t`, one a batch and several segments, as a log that was stopped leaves them; and the segments.
fn sixty(dir: &Path) -> Vec<PathBuf> {
    let log = EmbeddedLog::start(small_segments(dir, None)).unwrap();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    for n in 0..60u8 {
        let batch = Batch::of(&[&[n; 5_000]]).at(&[i64::from(n) * 1_000]).bytes();
        assert_eq!(client.produce("t", 0, &batch).error_code, 0);
    }
    log.stop();
    segments_of(&dir.join("partitions/t-0"))
}

fn small_segments(dir: &Path, journal: Option<&Arc<Journal>>) -> crate::Settings {
    let teller = Teller(journal.cloned());
    crate::Settings { segment_bytes: 64 << 10, teller, ..settings(dir) }
}

fn events(journal: &Journal) -> usize {
    journal.page(&Filter { kind: Some(Kind::EmbeddedLogDamaged), limit: Some(100), ..Filter::default() }).events.len()
}

fn zero(path: &Path, at: u64, bytes: usize) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; bytes], at).unwrap();
}

/// A start looks at older segments by the heads of their batches alone. What is damaged beneath them is found by the first read, told, and
/// stepped over; so is damage that comes while the log runs, at the end of a segment as well.
#[test]
fn finding_q17_damage_in_an_older_segment_is_told_and_stepped_over() {
    use std::sync::atomic::Ordering::SeqCst;
    let dir = tempfile::tempdir().unwrap();
    let paths = sixty(dir.path());
    assert!(paths.len() > 4);
    // The third batch of the first segment: its head stays.
    let entry = forebay_spool::batch_entry_bytes(Batch::of(&[&[0; 5_000]]).at(&[0]).bytes().len()) as u64;
    zero(&paths[0], HEADER_BYTES as u64 + 2 * entry + 800, 4_096);
    let journal = Arc::new(Journal::default());
    let log = EmbeddedLog::start(small_segments(dir.path(), Some(&journal))).unwrap();
    let counters = log.counters();
    assert_eq!(counters.recovery_holes.load(SeqCst), 0, "the heads are whole");
    let mut client = Client::connect(log.local_addr());
    let offsets = |client: &mut Client| -> Vec<i64> {
        client.read_all("t", 0, 0).into_iter().map(|(offset, _)| offset).collect()
    };
    let without = |gone: &[i64]| -> Vec<i64> { (0..60).filter(|offset| !gone.contains(offset)).collect() };
    assert_eq!(offsets(&mut client), without(&[2]));
    assert_eq!((counters.read_holes.load(SeqCst), events(&journal)), (1, 1));
    assert_eq!(offsets(&mut client), without(&[2]));
    assert_eq!((counters.read_holes.load(SeqCst), events(&journal)), (1, 1), "once");
    // Heads and contents alike, in the middle of the next segment and at the end of the one after it, while the log runs.
    let first_of = |path: &Path| crate::segment::base_offset_of(path.file_name().unwrap().to_str().unwrap());
    let (second, third, fourth) =
        (first_of(&paths[1]).unwrap(), first_of(&paths[2]).unwrap(), first_of(&paths[3]).unwrap());
    zero(&paths[1], HEADER_BYTES as u64 + entry, entry as usize);
    let end = fs::metadata(&paths[2]).unwrap().len();
    zero(&paths[2], end - entry, entry as usize);
    let gone = [2, second + 1, fourth - 1];
    assert_eq!(offsets(&mut client), without(&gone), "{third}");
    assert_eq!((counters.read_holes.load(SeqCst), events(&journal)), (3, 3));
    for offset in gone {
        assert_eq!(client.list_offset("t", 0, offset * 1_000), (0, (offset + 1) * 1_000, offset + 1));
    }
    // The last segment takes batches after damage at its end.
    let last = paths.last().unwrap();
    let end = fs::metadata(last).unwrap().len();
    zero(last, end - entry, entry as usize);
    assert_eq!(client.produce("t", 0, &Batch::counted(1).bytes()).base_offset, 60);
    let left: Vec<i64> = without(&[&gone[..], &[59]].concat()).into_iter().chain([60]).collect();
    assert_eq!(offsets(&mut client), left);
    assert_eq!((counters.read_holes.load(SeqCst), events(&journal)), (4, 4));
}

/// The note of the end tells of a newest segment that is gone, was emptied, or has lost its end. No offset is used again.
#[test]
fn finding_q17_records_that_are_missing_at_the_end_are_told() {
    use std::sync::atomic::Ordering::SeqCst;
    type Damages = fn(&Path);
    let damages: [Damages; 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| {
            let len = fs::metadata(path).unwrap().len();
            zero(path, len - 9_000, 9_000);
        },
        |path| {
            let len = fs::metadata(path).unwrap().len();
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len - 100).unwrap();
        },
    ];
    for (case, damage) in damages.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let paths = sixty(dir.path());
        {
            let log = EmbeddedLog::start(small_segments(dir.path(), None)).unwrap();
            assert_eq!(log.counters().recovery_files_damaged.load(SeqCst), 0, "nothing is wrong yet");
        }
        damage(paths.last().unwrap());
        let journal = Arc::new(Journal::default());
        let log = EmbeddedLog::start(small_segments(dir.path(), Some(&journal))).unwrap();
        assert_eq!(log.counters().recovery_files_damaged.load(SeqCst), 1, "case {case}");
        assert!(events(&journal) >= 1, "case {case}");
        let mut client = Client::connect(log.local_addr());
        assert_eq!(client.produce("t", 0, &Batch::counted(1).bytes()).base_offset, 60, "case {case}");
        let left: Vec<i64> = client.read_all("t", 0, 0).into_iter().map(|(offset, _)| offset).collect();
        let kept = left.len() as i64 - 1;
        assert!(
            kept < 60 && left[..left.len() - 1].iter().copied().eq(0..kept) && left.last() == Some(&60),
            "{left:?}"
        );
        drop(log);
        // The next start goes on there.
        let log = EmbeddedLog::start(small_segments(dir.path(), None)).unwrap();
        let mut client = Client::connect(log.local_addr());
        assert_eq!(client.produce("t", 0, &Batch::counted(1).bytes()).base_offset, 61, "case {case}");
    }
}

/// Lost committed offsets are reported, once; a log without any, and one after all were deleted, has lost none.
#[test]
fn finding_q17_committed_offsets_that_are_gone_are_told() {
    use crate::disk::KernelDisk;
    use crate::groups::offsets::{Committed, Offsets, Place, open};
    use std::sync::atomic::Ordering::SeqCst;
    let dir = tempfile::tempdir().unwrap();
    assert!(sixty(dir.path()).len() > 4);
    let start = || {
        let journal = Arc::new(Journal::default());
        let log = EmbeddedLog::start(small_segments(dir.path(), Some(&journal))).unwrap();
        (log.counters().recovery_files_damaged.load(SeqCst), events(&journal))
    };
    let path = dir.path().join("offsets.log");
    fs::remove_file(&path).unwrap();
    assert_eq!(start(), (0, 0), "no group had committed anything");
    let damages: [fn(&Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| fs::write(path, [0; 100]).unwrap(),
    ];
    for (case, damage) in damages.into_iter().enumerate() {
        let (mut file, ..) = open(&KernelDisk, dir.path()).unwrap();
        let place = Place { group: "g".into(), topic: "t".into(), partition: 0 };
        let committed = Committed { offset: 7, leader_epoch: 0, metadata: String::new() };
        file.append(&KernelDisk, &[(place, Some(committed))]).unwrap();
        drop(file);
        assert_eq!(start(), (0, 0), "case {case}");
        damage(&path);
        assert_eq!(start(), (1, 1), "case {case}");
        assert_eq!(start(), (0, 0), "case {case}: once");
    }
    let (mut file, ..) = open(&KernelDisk, dir.path()).unwrap();
    let place = Place { group: "g".into(), topic: "t".into(), partition: 0 };
    file.append(&KernelDisk, &[(place, None)]).unwrap();
    file.compact(&KernelDisk, &Offsets::new()).unwrap();
    drop(file);
    assert_eq!(start(), (0, 0));
}

//! Startup on real folders: recovered, moved, refused, and ended at each step.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

use super::*;
use crate::broker::router::owner;
use crate::record::{Builder, HEADER_LEN, Row};
use crate::runtime::seam::WallMs;
use crate::spool::{HEADER_BYTES, Log, NewCut, NewRows, Origin, Recovered, RowRun, Settings};

thread_local! {
    /// Number of steps before the process ends.
    static STEPS: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub(super) fn step(name: &'static str) {
    STEPS.with(|steps| match steps.get() {
        usize::MAX => {}
        0 => panic_any(name),
        left => steps.set(left - 1),
    });
}

const SPOOL: &str = "[spool]\nbytes_max = '64MiB'\nsegment_bytes = '1MiB'\n";

fn config(data_dir: &Path, shards: usize, rest: &str) -> Config {
    let text =
        format!("[service]\nshards = {shards}\npin = false\ndata_dir = '{}'\n{rest}", data_dir.join("data").display());
    let config = crate::config::parse(&text, "test").unwrap_or_else(|problems| panic!("{problems}"));
    fs::create_dir_all(&config.service.data_dir).unwrap();
    config
}

fn sink(name: &str, keys: &str) -> String {
    format!(
        "[[sink]]\nname = '{name}'\nfilters = '#'\ntopic = 't'\nbatch_bytes = '64KiB'\nrecord_bytes_max = '64KiB'\n{keys}\n"
    )
}

/// The record of a 3.1.1 session.
fn kept_session(client_id: &str) -> Vec<u8> {
    let mut connect = vec![0x10, 12 + client_id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0];
    connect.push(client_id.len() as u8);
    [&[1, 0, 0, 0, 100, 0, 0, 0, 0][..], &connect, client_id.as_bytes()].concat()
}

fn start(config: &mut Config) -> Result<DataDir, String> {
    prepare(config)
}

/// Runs work on a shard's log.
fn shard(config: &Config, shard: usize, work: impl FnOnce(&mut Log)) {
    let mut files = Files::new(&config.spool_dir().join(shard.to_string()));
    let settings = Settings {
        shard: shard as u32,
        segment_bytes: 1 << 20,
        segments_max: 16,
        sink_bytes_max: u64::MAX,
        data_dir_id: 0,
        seed: 7 + shard as u64,
    };
    let recovered =
        if files.found().unwrap().is_empty() { Recovered::default() } else { files.recovered(shard).unwrap() };
    let mut log = Log::new(settings, recovered);
    work(&mut log);
    files.settle(&mut log).unwrap();
}

/// Rows in one block, with an open packet id if they have an origin.
fn rows(log: &mut Log, sink: &str, topic: &str, count: u32, origin: Option<(u64, u16)>) -> (u64, RowRun) {
    let volatile = sink == "h";
    let sink = log.sink(sink);
    let lane = log.lane(sink, topic, 2, volatile).unwrap();
    let mut builder = Builder::new(Vec::new());
    for _ in 0..count {
        let headers = std::iter::empty::<(&[u8], &[u8])>();
        let row = Row { key: None, value: Some(&b"x"[..]), headers, timestamp: WallMs(1_000) };
        builder.append(&row, row.measure());
    }
    let batch = builder.close(None);
    let origins: Vec<(u32, Origin)> =
        origin.iter().map(|(session, packet_id)| (0, Origin { session: *session, packet_id: *packet_id })).collect();
    let (records, base_timestamp, origins) = (&batch[HEADER_LEN..], 1_000, &origins[..]);
    let new = NewRows { lane, records, base_timestamp, count, origins, deadlines: &[], hashes: &[], from: 0 };
    (lane, RowRun { first: log.rows(&new).unwrap(), count: u64::from(count) })
}

/// Clients by shard: their open packet ids, with the sinks, topics and partitions that have had each.
type Homes = BTreeMap<(usize, String), rehome::OpenIds>;

fn homes(config: &Config) -> Homes {
    let mut homes = Homes::new();
    for found in Found::look(&config.spool_dir()).unwrap().shards {
        let each = |session, payload: &[u8]| {
            let id = rehome::client(payload).unwrap().to_owned();
            homes.insert((found.shard, id), rehome::open_ids(&found.recovered.state, session));
        };
        found.records(each).unwrap();
    }
    homes
}

/// Sessions of 40 clients on `shards` shards, some with an open packet id of a row that is in Kafka.
fn keep_sessions(config: &Config, shards: usize) {
    for at in 0..shards {
        shard(config, at, |log| {
            let clients = (0..40).map(|n| format!("client-{n}")).filter(|id| owner(id, shards) == at);
            for (number, id) in (0u64..).zip(clients) {
                log.session(Some(number), &kept_session(&id)).unwrap();
                if number % 3 == 0 {
                    for (sink, topic) in [("a", "t"), ("b", "u")] {
                        let (lane, run) = rows(log, sink, topic, 1, Some((number, 7)));
                        log.end_rows(lane, &[run], crate::spool::Reason::Expired).unwrap();
                    }
                }
            }
        });
    }
}

#[test]
fn a_set_of_folders_is_made_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), 3, &format!("{SPOOL}{}", sink("a", "")));
    let first = start(&mut config).unwrap();
    assert_eq!((of_shards(&config.spool_dir()).unwrap().len(), first.said.len()), (3, 0));
    let begin = std::time::Instant::now();
    let again = start(&mut config).map(drop).unwrap_err();
    assert!(again.contains("another process") && again.contains("service.data_dir"), "{again}");
    // A killed instance may hold its lock for a moment.
    assert!(begin.elapsed() >= std::time::Duration::from_millis(900), "{:?}", begin.elapsed());
    drop(first);
    shard(&config, 1, |log| {
        let _ = rows(log, "a", "t", 5, None);
    });
    let before = files_of(&config.service.data_dir);
    assert!(start(&mut config).unwrap().said.is_empty());
    assert_eq!(files_of(&config.service.data_dir), before, "nothing is changed");
}

/// The message of startup on a spool of two shards after `harm`; nothing is changed then.
fn harmed(harm: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), 2, &format!("{SPOOL}{}", sink("a", "")));
    drop(start(&mut config).unwrap());
    shard(&config, 1, |log| {
        let _ = rows(log, "a", "t", 5, None);
    });
    harm(&config.spool_dir());
    let before = files_of(&config.service.data_dir);
    let said = start(&mut config).map(drop).unwrap_err();
    assert_eq!(files_of(&config.service.data_dir), before, "nothing is changed");
    said
}

#[test]
fn folders_that_the_manifest_does_not_name_are_refused() {
    let said = harmed(|root| fs::remove_dir_all(root.join("1")).unwrap());
    assert!(said.contains("folder of shard 1 is missing") && said.contains("mount the volume or restore"), "{said}");
    let said = harmed(|root| fs::remove_dir_all(root.join("0")).unwrap());
    assert!(said.contains("folder of shard 0 is missing"), "{said}");
    // A mount point without its volume.
    let said = harmed(|root| {
        fs::remove_dir_all(root.join("1")).unwrap();
        fs::create_dir(root.join("1")).unwrap();
    });
    assert!(said.contains("folder of shard 1 has no shard.json") && said.contains("mount the volume"), "{said}");
    let said = harmed(|root| fs::create_dir(root.join("2")).unwrap());
    assert!(said.contains("folder 2 is one too many"), "{said}");
    let said = harmed(|root| {
        fs::rename(root.join("0"), root.join("x")).unwrap();
        fs::rename(root.join("1"), root.join("0")).unwrap();
        fs::rename(root.join("x"), root.join("1")).unwrap();
    });
    assert!(said.contains("is the folder of shard 1 of the data directory"), "{said}");
    let other = tempfile::tempdir().unwrap();
    let mut foreign = config(other.path(), 2, &format!("{SPOOL}{}", sink("a", "")));
    drop(start(&mut foreign).unwrap());
    let said = harmed(|root| {
        fs::rename(root.join("1"), root.join("../lost")).unwrap();
        fs::rename(foreign.spool_dir().join("1"), root.join("1")).unwrap();
    });
    assert!(said.contains("put each folder back"), "{said}");
}

#[test]
fn a_spool_without_its_manifest_is_refused() {
    let said = harmed(|root| fs::remove_file(root.join("manifest.json")).unwrap());
    assert!(said.contains("there is no manifest.json") && said.contains("copy manifest.json too"), "{said}");
    let said = harmed(|root| fs::write(root.join("manifest.json"), b"{\"format\":2}").unwrap());
    assert!(said.contains("format 2 belongs to a later version"), "{said}");
}

/// Folders in which nothing was ever stored are allowed, because people may create them in advance. Other programs' files are not
/// touched.
#[test]
fn empty_folders_are_taken_and_foreign_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), 2, &format!("{SPOOL}{}", sink("a", "")));
    let root = config.spool_dir();
    fs::create_dir_all(root.join("0")).unwrap();
    drop(start(&mut config).unwrap());
    assert_eq!(of_shards(&root).unwrap().len(), 2);
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir_all(&root).unwrap();
    config.service.data_dir_id = None;
    fs::write(root.join("letter.txt"), b"x").unwrap();
    let said = start(&mut config).map(drop).unwrap_err();
    assert!(said.contains("letter.txt: not part of a spool"), "{said}");
    assert!(root.join("letter.txt").exists());
}

#[test]
fn the_data_directory_that_is_asked_for_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("{SPOOL}{}", sink("a", ""));
    let mut first = config(dir.path(), 1, &rest);
    drop(start(&mut first).unwrap());
    let id = first.service.data_dir_id.unwrap();
    let with = |id: DataDirId, dir: &Path, shards| {
        let mut config = config(dir, shards, &rest);
        config.service.data_dir_id = Some(id);
        start(&mut config).map(|_| config.service.data_dir_id.unwrap())
    };
    assert_eq!(with(id, dir.path(), 1), Ok(id));
    assert_eq!(with(id, dir.path(), 3), Ok(id), "it keeps its id with another number of shards");
    let said = with(DataDirId::random(), dir.path(), 3).unwrap_err();
    assert!(said.contains(&format!("has the id {id}")), "{said}");
    let empty = tempfile::tempdir().unwrap();
    let said = with(id, empty.path(), 1).unwrap_err();
    assert!(said.contains("is its volume mounted?"), "{said}");
    assert!(!empty.path().join("data/spool").exists());
}

/// All files below the folder, with their contents.
fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files_of(&path)),
            path => drop(found.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    found
}

#[test]
fn with_rows_the_spools_number_of_shards_holds_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("{SPOOL}{}{}", sink("a", ""), sink("h", "buffer = 'hybrid'"));
    let mut first = config(dir.path(), 2, &rest);
    drop(start(&mut first).unwrap());
    shard(&first, 0, |log| {
        let _ = rows(log, "h", "t", 3, None);
    });
    shard(&first, 1, |log| {
        let _ = rows(log, "a", "t", 5, None);
    });
    let mut other = config(dir.path(), 4, &rest);
    let prepared = start(&mut other).unwrap();
    assert_eq!(other.service.shards, 2);
    assert_eq!(other.spool, first.spool, "its room is shared out anew");
    let said = &prepared.said[0];
    assert_eq!(said.kind, Kind::ShardsKept);
    let number = |field| said.number(field).unwrap();
    assert_eq!([number(Field::Shards), number(Field::Configured), number(Field::Records)], [2, 4, 5]);
    drop(prepared);
    // Rows of a hybrid buffer do not outlive the process, so they delay nothing.
    shard(&first, 1, |log| {
        let sink = log.sink("a");
        let (lane, run) = (log.lane(sink, "t", 2, false).unwrap(), RowRun { first: 0, count: 5 });
        log.end_rows(lane, &[run], crate::spool::Reason::Dropped).unwrap();
    });
    let mut other = config(dir.path(), 4, &rest);
    let prepared = start(&mut other).unwrap();
    assert_eq!((other.service.shards, prepared.said[0].kind), (4, Kind::SessionsMoved));
    assert_eq!(of_shards(&other.spool_dir()).unwrap().len(), 4);
}

#[test]
fn sessions_move_with_their_open_ids() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("{SPOOL}{}", sink("a", ""));
    let mut first = config(dir.path(), 3, &rest);
    drop(start(&mut first).unwrap());
    keep_sessions(&first, 3);
    let before = homes(&first);
    for shards in [5, 1, 3] {
        let mut other = config(dir.path(), shards, &rest);
        let prepared = start(&mut other).unwrap();
        assert_eq!(prepared.said[0].number(Field::Sessions), Some(40));
        let after = homes(&other);
        assert_eq!(after.len(), 40);
        assert!(after.keys().all(|(shard, id)| owner(id, shards) == *shard), "each with its shard");
        let by_client = |homes: &Homes| -> BTreeMap<_, _> {
            homes.iter().map(|((_, id), open)| (id.clone(), open.clone())).collect()
        };
        assert_eq!(by_client(&after), by_client(&before), "with their open packet ids, and who has had the rows");
        for ((at, _), _) in after.iter().filter(|(_, open)| !open.is_empty()) {
            let mut next = 0;
            shard(&other, *at, |log| next = rows(log, "a", "t", 1, None).1.first);
            assert!(next > 0, "a new row is none of those that the open ids have had");
            shard(&other, *at, |log| {
                let sink = log.sink("a");
                log.discard_sink(sink).unwrap();
            });
        }
        assert!(
            before.values().any(|open| open == &[(7, vec![("a".into(), "t".into(), 2), ("b".into(), "u".into(), 2)])])
        );
    }
}

/// The process ends before each step in turn: the next one has all sessions, each on its shard.
#[test]
fn an_end_at_any_step_loses_no_session() {
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let rest = format!("{SPOOL}{}", sink("a", ""));
        let mut first = config(dir.path(), 3, &rest);
        drop(start(&mut first).unwrap());
        keep_sessions(&first, 3);
        let mut wanted = config(dir.path(), 2, &rest);
        STEPS.with(|left| left.set(steps));
        let ended = catch_unwind(AssertUnwindSafe(|| start(&mut wanted).map(drop)));
        STEPS.with(|left| left.set(usize::MAX));
        let again = start(&mut wanted).unwrap_or_else(|error| panic!("after step {steps}, {ended:?}: {error}"));
        let homes = homes(&wanted);
        assert_eq!(homes.len(), 40, "after step {steps}, {ended:?}");
        assert!(homes.keys().all(|(shard, id)| owner(id, 2) == *shard), "after step {steps}");
        assert!(homes.values().any(|open| !open.is_empty()));
        for left in [NEW, OLD] {
            assert!(!wanted.service.data_dir.join(left).exists(), "{left} after step {steps}");
        }
        drop(again);
        if ended.is_ok() {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 6, "two folders, made, synced, old away, new in place");
}

/// Findings D1, L4 and L7: unreadable records do not prevent a change of the number of shards either: the others are moved, and the
/// damage is reported, counted by kind and set aside.
#[test]
fn finding_l4_records_that_cannot_be_read_do_not_stop_a_move_to_other_shards() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("{SPOOL}{}", sink("a", ""));
    let mut first = config(dir.path(), 1, &rest);
    drop(start(&mut first).unwrap());
    keep_sessions(&first, 1);
    shard(&first, 0, |log| {
        for payload in [&[0xff, 1][..], &[0x80], &[0x81, 2, 3], &[0x84], &[2, 7], &[]] {
            let _ = log.session(None, payload).unwrap();
        }
    });
    let told = look(&first.spool_dir()).unwrap().remove(0).1;
    let mut other = config(dir.path(), 2, &rest);
    let prepared = start(&mut other).unwrap();
    let number = |said: &Said, field| said.number(field).unwrap_or_default();
    let [moved, damaged] = &prepared.said[..] else { panic!("{:?}", prepared.said) };
    assert_eq!((moved.kind, number(moved, Field::Sessions)), (Kind::SessionsMoved, 40));
    let fields = [Field::Sessions, Field::Retained, Field::Queued, Field::Shared];
    assert_eq!((damaged.kind, fields.map(|field| number(damaged, field))), (Kind::SpoolDamaged, [1, 1, 1, 1]));
    assert!(damaged.text(Field::File).unwrap().ends_with(".segment"), "{damaged:?}");
    assert_eq!((prepared.lost, prepared.lost.total()), (told.lost, 6), "as it was told beforehand");
    assert_eq!(homes(&other).len(), 40);
    let aside: Vec<_> = fs::read_dir(other.service.data_dir.join("spool.damaged")).unwrap().collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    drop(prepared);
    assert!(!look(&other.spool_dir()).unwrap().iter().any(|(_, report)| report.is_damaged()));
}

#[test]
fn rows_without_a_place_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = config(dir.path(), 2, &format!("{SPOOL}{}{}", sink("a", ""), sink("b", "")));
    drop(start(&mut first).unwrap());
    shard(&first, 0, |log| {
        let (lane, run) = rows(log, "a", "t", 5, None);
        let (partition, producer_id, epoch, sequence) = (2, 4, 2, 7);
        let (incarnation, timeless) = (0, false);
        log.cut(&NewCut { lane, incarnation, partition, producer_id, epoch, sequence, timeless, rows: &[run] })
            .unwrap();
        rows(log, "b", "u", 2, None);
    });
    shard(&first, 1, |log| {
        let _ = rows(log, "a", "t", 3, None);
    });
    let before = files_of(&first.spool_dir());
    let none = sink("c", "");
    for (rest, why) in [
        (format!("{SPOOL}{}", sink("b", "")), "the [[sink]] is no longer configured"),
        (format!("{SPOOL}{}{}", sink("a", "buffer = 'memory'"), sink("b", "")), "its buffer is now \"memory\""),
        (sink("a", ""), "[spool] is no longer configured"),
        (format!("{SPOOL}{none}"), "the [[sink]] is no longer configured"),
    ] {
        let mut config = config(dir.path(), 2, &rest);
        let said = start(&mut config).map(drop).unwrap_err();
        assert!(said.contains("sink \"a\", topic \"t\": 8 messages") && said.contains(why), "{said}");
        assert!(said.contains("forebay spool discard") && said.contains("--sink a --yes"), "{said}");
        assert_eq!(said.contains("sink \"b\""), rest.contains("'c'") || !rest.contains("[spool]"), "{said}");
        assert_eq!(files_of(&first.spool_dir()), before, "nothing was changed");
    }
    // A sink with another cluster is still the same sink.
    let moved = format!(
        "{SPOOL}[kafka.new]\nbootstrap = 'k:1'\n{}{}",
        sink("a", "kafka = 'new'"),
        sink("b", "kafka = 'new'\nbuffer = 'hybrid-saved'\nacknowledge = 'replicated'")
    );
    start(&mut config(dir.path(), 2, &moved)).map(drop).unwrap();
    discarding(&first.spool_dir());
    start(&mut config(dir.path(), 2, &format!("{SPOOL}{}", sink("b", "")))).map(drop).unwrap();
}

fn discarding(root: &Path) {
    let nobody = discard(root, "z", true).unwrap_err();
    assert!(nobody.contains("\"a\" (8), \"b\" (2)"), "{nobody}");
    let before = files_of(root);
    let (said, done) = discard(root, "a", false).unwrap();
    assert!(said.contains("8 messages would be deleted") && said.contains("--yes") && !done, "{said}");
    assert_eq!(files_of(root), before);
    let (said, done) = discard(root, "a", true).unwrap();
    assert_eq!((said.as_str(), done), ("sink \"a\", topic \"t\": 8 messages deleted\n", true));
    assert!(discard(root, "a", true).is_err(), "it is gone");
}

#[test]
fn without_a_spool_an_empty_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = config(dir.path(), 2, &format!("{SPOOL}{}", sink("a", "")));
    drop(start(&mut first).unwrap());
    keep_sessions(&first, 2);
    drop(start(&mut config(dir.path(), 2, &sink("a", ""))).unwrap());
    assert!(!first.spool_dir().exists(), "nobody keeps these sessions up to date");
}

#[test]
fn a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = config(dir.path(), 1, &format!("{SPOOL}{}", sink("a", "")));
    drop(start(&mut first).unwrap());
    shard(&first, 0, |log| {
        let _ = rows(log, "a", "t", 5, None);
    });
    let path = crate::runtime::segment_path(&first.spool_dir().join("0"), 0);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - HEADER_BYTES;
    for at in [0, end] {
        bytes[at + 9] = 9;
        let sum = at + HEADER_BYTES - 4;
        let crc = crc32c::crc32c(&bytes[at..sum]).to_be_bytes();
        bytes[sum..sum + 4].copy_from_slice(&crc);
    }
    fs::write(&path, bytes).unwrap();
    let before = files_of(&first.spool_dir());
    for rest in [format!("{SPOOL}{}", sink("a", "")), sink("a", "")] {
        let said = start(&mut config(dir.path(), 2, &rest)).map(drop).unwrap_err();
        assert!(said.contains("version 9") && said.contains("nothing was changed"), "{said}");
        assert!(
            said.contains("00000000000000000000.segment") && said.contains("let the version that wrote it"),
            "{said}"
        );
        assert_eq!(files_of(&first.spool_dir()), before);
    }
}

/// Finding L9: a folder's description file with any damaged bit is written again: the other files and the segments have the same data.
#[test]
fn finding_l9_damaged_manifests_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!("{SPOOL}{}", sink("a", ""));
    let mut first = config(dir.path(), 2, &rest);
    drop(start(&mut first).unwrap());
    shard(&first, 1, |log| {
        let _ = rows(log, "a", "t", 5, None);
    });
    let root = first.spool_dir();
    let id = first.service.data_dir_id;
    let whole = files_of(&root);
    for name in ["manifest.json", "0/shard.json", "1/shard.json"] {
        let path = root.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut harms: Vec<Vec<u8>> = (0..bytes.len() * 8)
            .step_by(19)
            .map(|bit| {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            })
            .collect();
        harms.extend([Vec::new(), bytes[..bytes.len() / 2].to_vec(), vec![0; 100_000]]);
        for (number, harm) in harms.into_iter().enumerate() {
            fs::write(&path, harm).unwrap();
            let mut again = config(dir.path(), 2, &rest);
            let prepared = start(&mut again).unwrap_or_else(|why| panic!("{name}, harm {number}: {why}"));
            assert_eq!(again.service.data_dir_id, id, "{name}, harm {number}");
            // A changed bit without effect on the contents, such as in the line's end, is no damage.
            let told = prepared.said.iter().any(|said| said.kind == Kind::SpoolDamaged);
            drop(prepared);
            if told {
                assert_eq!(files_of(&root), whole, "{name}, harm {number}");
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
    // All files are damaged, and only the segments have the data.
    for name in ["manifest.json", "0/shard.json", "1/shard.json"] {
        fs::write(root.join(name), b"{").unwrap();
    }
    let mut again = config(dir.path(), 2, &rest);
    drop(start(&mut again).unwrap());
    assert_eq!(look(&root).unwrap().iter().map(|(_, report)| report.rows).sum::<u64>(), 5);
}

/// Finding L8: a spool that a person has set aside is left where it is.
#[test]
fn finding_l8_a_spool_that_was_put_aside_by_hand_is_not_deleted() {
    for name in ["spool.old", "spool.new"] {
        let dir = tempfile::tempdir().unwrap();
        let rest = format!("{SPOOL}{}", sink("a", ""));
        let mut first = config(dir.path(), 2, &rest);
        drop(start(&mut first).unwrap());
        shard(&first, 1, |log| {
            let _ = rows(log, "a", "t", 5, None);
        });
        let aside = first.service.data_dir.join(name);
        fs::rename(first.spool_dir(), &aside).unwrap();
        let before = files_of(&aside);
        for shards in [2, 3, 1] {
            drop(start(&mut config(dir.path(), shards, &rest)).unwrap());
            assert_eq!(files_of(&aside), before, "{name}");
        }
        drop(start(&mut config(dir.path(), 2, &sink("a", ""))).unwrap());
        assert_eq!(files_of(&aside), before, "{name}, without [spool]");
        fs::rename(&aside, first.spool_dir()).unwrap();
        assert_eq!(look(&first.spool_dir()).unwrap().iter().map(|(_, report)| report.rows).sum::<u64>(), 5);
    }
}

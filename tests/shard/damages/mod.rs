//! A fuzzer of data directories: any damage of any file stops no start but where a rule says so, and what is lost by it is told. Each
//! seed is a case: a directory with all that a spool keeps, damage, what `check` and `spool inspect` say, a start, and a judge of what
//! clients and Kafka get.
//!
//! `FOREBAY_SHARD_SEEDS=0..5000` runs more (`scripts/test damages`).

mod damage;
mod judge;
mod life;
mod template;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use damage::Done;
use fastrand::Rng;
use judge::Verdict;
use template::{SHARDS, Template};

/// A case that takes longer hangs. Most take a tenth of a second.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// More memory than the process had before the first case. Files of 1 GiB are among those that are read.
const MEMORY_KIB_MAX: u64 = 512 << 10;

/// A directory of a test, in memory if there is such a file system: nothing here asks what a power failure leaves.
fn temp_dir() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("forebay-damages.");
    match (std::env::var_os("FOREBAY_TEST_DIR"), shm.is_dir()) {
        (Some(dir), _) => builder.tempdir_in(dir),
        (None, true) => builder.tempdir_in(shm),
        (None, false) => builder.tempdir(),
    }
    .expect("a temporary directory")
}

/// Ends the process with the seed of a case that hangs: its thread cannot be ended.
struct Watchdog(Sender<u64>);

impl Watchdog {
    fn new(name: &'static str) -> Self {
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut seed = 0;
            loop {
                match told.recv_timeout(HANGS_AFTER) {
                    Ok(next) => seed = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("{name}, seed {seed}: it hangs");
                        std::process::abort();
                    }
                }
            }
        });
        Self(tell)
    }
}

/// Memory of this process at most so far, KiB.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

type Damage = fn(&Template, &Path, &mut Rng) -> Done;

/// One case: what was done, and how it ended.
fn case(templates: &[Template; 2], seed: u64, damage: Damage) -> (Vec<Done>, Result<Verdict, String>) {
    let mut random = Rng::with_seed(seed);
    let settled = random.u8(..4) == 0;
    let template = &templates[usize::from(settled)];
    // Without records that wait for Kafka there may be another number of shards.
    let shards = if settled && random.bool() { SHARDS + 1 } else { SHARDS };
    let dir = temp_dir();
    template::write(&template.files, dir.path());
    let times = [1, 1, 1, 1, 1, 1, 1, 2, 2, 3][random.usize(..10)];
    let done: Vec<_> = (0..times).map(|_| damage(template, dir.path(), &mut random)).collect();
    let again = random.u8(..4) == 0;
    let judged = catch_unwind(AssertUnwindSafe(|| judge::judge(template, dir.path(), shards, &done, again)));
    let judged = judged.unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().cloned().or_else(|| why.downcast_ref::<&str>().map(|&why| why.into()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    (done, judged)
}

/// All seeds, with a table of how they ended by what was done first.
fn run(name: &'static str, seeds: std::ops::Range<u64>, damage: Damage) {
    let templates = [Template::make(true), Template::make(false)];
    let watchdog = Watchdog::new(name);
    let (mut table, mut wrong) = (BTreeMap::<&str, [u64; Verdict::ALL.len() + 1]>::new(), Vec::new());
    let before = memory_peak();
    for seed in seeds {
        let _ = watchdog.0.send(seed);
        let (done, judged) = case(&templates, seed, damage);
        let row = table.entry(done[0].kind).or_default();
        match judged {
            Ok(verdict) => row[verdict as usize] += 1,
            Err(why) => {
                row[Verdict::ALL.len()] += 1;
                let what: Vec<_> = done.iter().map(|done| format!("{}: {}", done.kind, done.what)).collect();
                wrong.push(format!("{name}, seed {seed}: {}\n    {why}", what.join("; ")));
            }
        }
    }
    let grown = memory_peak() - before;
    println!(
        "\n| {name} | whole | told | counted | told, not counted | refused | wrong |\n|---|---|---|---|---|---|---|"
    );
    for (kind, row) in &table {
        println!("| {kind} | {} |", row.map(|count| count.to_string()).join(" | "));
    }
    println!("memory: {grown} KiB more at most");
    assert!(wrong.is_empty(), "{} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB");
}

/// Issue 40: bits, ranges, lengths, names and kinds of files.
#[test]
fn random_damage_stops_no_start_and_goes_not_unsaid() {
    run("random damage", super::seeds(0..140), damage::random);
}

/// Issue 40: records, entries, headers and manifests that another program might have written, with right checksums.
#[test]
fn crafted_damage_stops_no_start_and_goes_not_unsaid() {
    run("crafted damage", super::seeds(0..60), damage::crafted);
}

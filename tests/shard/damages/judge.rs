//! What a start over a damaged directory must do: what was said beforehand happens, it goes on unless a rule says that it may not, and
//! what was acknowledged is there, counted as lost, or told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forebay::broker::router::owner;
use forebay::buffer::{RecordKind, Report};
use forebay::cli::{CheckArgs, FromArgs, InspectArgs, check, spool};
use forebay::data_dir;
use forebay::metrics::spec::{ShardMetric as M, SinkMetric};
use serde_json::Value;

use super::damage::Done;
use super::life::{Life, in_kafka, text};
use super::template::{Expected, MEMBER, SHARDS, Template};

/// How a case ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// All is there, and nothing was said.
    Whole,
    /// All is there, and damage was told.
    Told,
    /// Something is gone, and counted by its kind.
    Counted,
    /// More is gone than could be counted, and damage that may lose something was told.
    Uncounted,
    /// The start was refused as a rule says.
    Refused,
}

impl Verdict {
    pub(super) const ALL: [Self; 5] = [Self::Whole, Self::Told, Self::Counted, Self::Uncounted, Self::Refused];
}

/// Refusals that the rule allows: going on would destroy more, or what is in the way may pass.
const ALLOWED: [&str; 17] = [
    // Another version.
    "is not supported by this version",
    "are not supported by this version",
    "belongs to a later version",
    // Another data directory, another shard.
    "belongs to shard",
    "is the folder of shard",
    "belong to another data directory",
    "is one too many",
    // A volume that is not mounted.
    "the folder of shard",
    "but there is no manifest.json",
    // What may pass; the file is named.
    "Permission denied",
    "No such file or directory",
    "Too many levels of symbolic links",
    "Not a directory",
    "Is a directory",
    "not a regular file",
    "No such device or address",
    "a symbolic link",
];

/// What is said before the start.
struct Before {
    /// By shard, or why it would be refused.
    reports: Result<Vec<(PathBuf, Report)>, String>,
    inspect: Result<(Value, bool), String>,
    check: String,
}

impl Before {
    fn ask(dir: &Path, shards: usize) -> Self {
        let root = dir.join("spool");
        let asked = InspectArgs { folder: root.clone(), json: true, entries: false };
        let inspect = spool::inspect(&asked)
            .map(|(text, sound)| (serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}")), sound));
        let file = dir.join("config.toml");
        std::fs::write(&file, text(dir, shards)).expect("written");
        let from = FromArgs { config: Some(file.clone()), ..FromArgs::default() };
        let checked = check::run(&CheckArgs { file: None, from, ..CheckArgs::default() }).text;
        std::fs::remove_file(file).expect("removed");
        let of_spool = checked.lines().filter(|line| line.contains(" spool: ") || line.starts_with(' '));
        Self { reports: data_dir::look(&root), inspect, check: of_spool.map(|line| format!("{line}\n")).collect() }
    }
}

/// What is wrong with a case, in words.
pub(super) type Wrong = String;

/// Starts a process on a damaged directory, and judges it.
///
/// # Errors
/// What it must not do.
pub(super) fn judge(
    template: &Template,
    dir: &Path,
    shards: usize,
    damages: &[Done],
    again: bool,
) -> Result<Verdict, Wrong> {
    let before = Before::ask(dir, shards);
    let started = Life::start(dir, shards, template.broker.clone());
    let mut life = match started {
        Ok(life) => life,
        Err(why) => return refused(&before, &why),
    };
    agreed(&before, &life)?;
    let reports = before.reports.as_ref().expect("it has started");
    let judged = lost(&template.expected, &mut life, reports);
    drop(life);
    if again {
        second(template, dir, shards)?;
    }
    let verdict = match judged {
        Ok(verdict) => verdict,
        // Whole entries say so: nobody can tell that they are forged.
        Err(_) if damages.iter().any(|done| done.is_forged) => Verdict::Told,
        Err(wrong) => return Err(wrong),
    };
    let may_lose = damages.iter().any(|done| !done.is_harmless);
    if !may_lose && !matches!(verdict, Verdict::Whole | Verdict::Told) {
        return Err(format!("nothing was damaged, and the verdict is {verdict:?}"));
    }
    Ok(verdict)
}

/// It does not start. So it was said beforehand, and a rule says so.
fn refused(before: &Before, why: &str) -> Result<Verdict, Wrong> {
    if !ALLOWED.iter().any(|allowed| why.contains(allowed)) {
        return Err(format!("the start was stopped: {why}"));
    }
    if !why.contains('/') {
        return Err(format!("the refusal names no file: {why}"));
    }
    match &before.reports {
        Err(_) => {}
        // In the files beside the spool there is nothing to look at beforehand.
        Ok(_) if why.contains("/lock") || why.contains(".spool.") => return Ok(Verdict::Refused),
        Ok(_) => return Err(format!("refused, and nobody had said so: {why}")),
    }
    if !before.check.contains("PROBLEM  spool") {
        return Err(format!("refused ({why}), and check says: {}", before.check));
    }
    match &before.inspect {
        Ok((said, sound)) if *sound || (said["error"].is_null() && !said.to_string().contains("\"error\"")) => {
            Err(format!("refused ({why}), and inspect says: {said:#}"))
        }
        _ => Ok(Verdict::Refused),
    }
}

/// What was said beforehand is what the start says.
fn agreed(before: &Before, life: &Life) -> Result<(), Wrong> {
    let reports = match &before.reports {
        Ok(reports) => reports,
        Err(why) => return Err(format!("it starts, and was said not to: {why}")),
    };
    if before.check.contains("PROBLEM  spool") {
        return Err(format!("it starts, and check says: {}", before.check));
    }
    let damaged = reports.iter().filter(|(_, report)| report.is_damaged()).count();
    let told = life.told() + life.mended;
    let files = before.check.matches("; the start writes it again").count();
    if told != damaged + files {
        return Err(format!("{told} events of damage, {damaged} damaged folders and {files} files said beforehand"));
    }
    let warned = before.check.contains(" is damaged");
    if warned != (told > 0) {
        return Err(format!("{told} events of damage, and check says: {}", before.check));
    }
    match &before.inspect {
        Ok((said, true)) if damaged > 0 => return Err(format!("damaged, and inspect says: {said:#}")),
        Err(why) => return Err(format!("it starts, and inspect says: {why}")),
        _ => {}
    }
    for (kind, metric) in [
        (RecordKind::Session, M::LostSessions),
        (RecordKind::Retained, M::LostRetained),
        (RecordKind::Queued, M::LostQueued),
        (RecordKind::Shared, M::LostShared),
        (RecordKind::Queue, M::LostQueues),
        (RecordKind::Exchange, M::LostExchanges),
        (RecordKind::Unknown, M::LostUnknown),
    ] {
        let said: u64 = reports.iter().map(|(_, report)| report.lost.of(kind)).sum();
        let counted = life.process.number(metric);
        if said != counted {
            return Err(format!("{said} of {kind:?} said to be lost beforehand, {counted} counted"));
        }
        let inspected = before.inspect.as_ref().map(|(said, _)| in_inspect(said, kind.name()));
        if inspected != Ok(said) {
            return Err(format!("{said} of {kind:?} lost, and inspect says {inspected:?}"));
        }
    }
    Ok(())
}

fn in_inspect(said: &Value, kind: &str) -> u64 {
    let shards = said["shards"].as_array().into_iter().flatten();
    shards.filter_map(|shard| shard["start"]["lost"][kind].as_u64()).sum()
}

/// What is gone, by kind.
#[derive(Debug, Default)]
struct Gone {
    by_kind: BTreeMap<RecordKind, u64>,
    rows: BTreeSet<String>,
    /// What came that was over, or came twice.
    again: Vec<String>,
}

fn lost(expected: &Expected, life: &mut Life, reports: &[(PathBuf, Report)]) -> Result<Verdict, Wrong> {
    let gone = gone(expected, life)?;
    let counted = |kind: RecordKind| reports.iter().map(|(_, report)| report.lost.of(kind)).sum::<u64>();
    let unknown = counted(RecordKind::Unknown);
    let may_lose = reports.iter().any(|(_, report)| {
        report.fate_open || report.lost_rows() > 0 || report.damage.iter().any(|damage| damage.may_lose())
    });
    let is_told = reports.iter().any(|(_, report)| report.is_damaged());
    if !gone.again.is_empty() && !may_lose && !is_told && life.process.sink_number(0, SinkMetric::OutcomeUnknown) == 0 {
        return Err(format!("what was over is back, and nothing says why: {:?}", gone.again));
    }
    let rotten = (0..2).map(|sink| life.process.sink_number(sink, SinkMetric::DroppedCorrupt)).sum::<u64>();
    let rows_counted = rotten + life.process.number(M::LostRows);
    let (rows, kinds) = (gone.rows.len() as u64, gone.by_kind.values().sum::<u64>());
    if rows + kinds == 0 {
        return Ok(if is_told || life.mended > 0 || rotten > 0 { Verdict::Told } else { Verdict::Whole });
    }
    let uncounted: u64 = gone.by_kind.iter().map(|(kind, count)| count.saturating_sub(counted(*kind))).sum();
    if uncounted <= unknown && rows <= rows_counted {
        return if is_told || rotten > 0 { Ok(Verdict::Counted) } else { Err(format!("counted, not told: {gone:?}")) };
    }
    if may_lose {
        return Ok(Verdict::Uncounted);
    }
    Err(format!("neither counted nor told: {:?}, {rows} rows; {rows_counted} rows counted; {reports:?}", gone.by_kind))
}

fn gone(expected: &Expected, life: &mut Life) -> Result<Gone, Wrong> {
    let mut gone = Gone::default();
    let mut miss = |kind: RecordKind, count: usize| *gone.by_kind.entry(kind).or_default() += count as u64;
    // A message has one record on each shard, which counts once if its bytes no longer say for whom it is.
    let mut queued = BTreeSet::new();
    for (client, waiting) in &expected.waiting {
        let (_, _, was_there, got) = life.connect(client);
        let found: BTreeSet<_> = got.iter().cloned().collect();
        miss(RecordKind::Session, usize::from(!was_there));
        let shard = owner(client, SHARDS);
        queued.extend(waiting.difference(&found).map(|name| (shard, name.clone())));
        let over = found.iter().filter(|name| expected.over.contains(*name) && !waiting.contains(*name));
        gone.again.extend(over.cloned());
        if found.len() != got.len() {
            gone.again.push(format!("{client}: {got:?}"));
        }
        if let Some(other) = found.iter().find(|name| !waiting.contains(*name) && !expected.over.contains(*name)) {
            return Err(format!("{client} got {other}, which it never waited for"));
        }
    }
    miss(RecordKind::Queued, queued.len());
    let (_, _, was_there, got) = life.connect(MEMBER);
    let found: BTreeSet<_> = got.into_iter().collect();
    miss(RecordKind::Session, usize::from(!was_there));
    // Without its session nobody is there to take them.
    if was_there {
        miss(RecordKind::Shared, expected.shared.difference(&found).count());
    }
    let retained: BTreeMap<_, _> = life.retained("r/#").into_iter().collect();
    miss(
        RecordKind::Retained,
        expected.retained.iter().filter(|(topic, name)| retained.get(*topic) != Some(name)).count(),
    );
    life.drain();
    let mut times = BTreeMap::<String, usize>::new();
    in_kafka(&life.broker).into_iter().for_each(|name| *times.entry(name).or_default() += 1);
    gone.rows = expected.rows.iter().filter(|name| !times.contains_key(*name)).cloned().collect();
    gone.again.extend(times.into_iter().filter(|(_, times)| *times > 1).map(|(name, _)| name));
    gone.by_kind.retain(|_, count| *count > 0);
    Ok(gone)
}

/// The next start takes up what this one has left, and finds no new damage.
fn second(template: &Template, dir: &Path, shards: usize) -> Result<(), Wrong> {
    let mut life = Life::start(dir, shards, template.broker.clone())
        .map_err(|why| format!("the start goes on, and the next one does not: {why}"))?;
    let lost = life.process.number(M::LostSessions) + life.process.number(M::LostRetained);
    if lost > 0 {
        return Err(format!("{lost} sessions and retained messages are lost again at the next start"));
    }
    life.connect(MEMBER);
    Ok(())
}

//! `back`: numbered records through Kafka and the service's sources to subscribers, and a verdict on the copies of the
//! subscribers and on the committed offsets of the groups.
//!
//! settings (subscribers) → produce (kcat) → subscriber, crowd (MQTT, a thread each) → offsets (OffsetFetch) → read (kcat) →
//! judge → report. None of this shares code with the service: a mistake there is not repeated here.

mod crowd;
mod judge;
mod ledger;
mod orders;
mod produce;
mod settings;
mod subscriber;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::flow::{judge::Verdict, report};
use crate::kafka::offsets::Offsets;
use crowd::Shared;
use ledger::{Fact, Heard, Hurt, Ledger, Log, Member, Sample, fingerprint};
use orders::Order;
use produce::{Producer, To};
pub(crate) use settings::Settings;
use settings::Source;

const KNOWN_WITHIN: Duration = Duration::from_secs(30);
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(60);
/// The time between two samples of a group's committed offsets.
const SAMPLE_EVERY: Duration = Duration::from_millis(40);
/// The silence that ends a run.
const STILL: Duration = Duration::from_secs(2);

/// Runs the job. `false`: the verdict is bad.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<(Value, bool)> {
    let sources = settings.sources();
    let reader = settings.reader();
    let mut begins = Vec::new();
    for source in &sources {
        // Not every broker knows a new topic yet.
        let since = Instant::now();
        let mut ends = reader.ends(&source.topic)?;
        while ends.is_empty() {
            if since.elapsed() > KNOWN_WITHIN {
                bail!("there is no Kafka topic {}", source.topic);
            }
            std::thread::sleep(Duration::from_millis(200));
            ends = reader.ends(&source.topic)?;
        }
        begins.push(ends);
    }
    let shared = Shared::new(settings.target);
    let samples = Mutex::new(Vec::new());
    let mut run =
        Run { settings, sources: &sources, begins, shared: &shared, samples: &samples, noted: Ledger::default() };
    let outcome = std::thread::scope(|scope| {
        for index in 0..sources.len() {
            let (offsets, shared, samples) = (run.offsets(index), &shared, &samples);
            std::thread::Builder::new().name("offsets".into()).spawn_scoped(scope, move || {
                sample(index, offsets, shared, samples);
            })?;
        }
        let mut threads = Vec::new();
        for manner in settings.manners() {
            let (shared, seed) = (&shared, settings.seed);
            let thread = std::thread::Builder::new().name(manner.name.clone());
            threads.push(thread.spawn_scoped(scope, move || crowd::live(manner, seed, shared))?);
        }
        let outcome = run.drive(threads.len());
        shared.over.store(true, Ordering::Relaxed);
        for thread in threads {
            run.noted.heard.push(thread.join().map_err(|_| anyhow::anyhow!("a subscriber panicked"))?);
        }
        outcome
    });
    let wall_s = shared.start.elapsed().as_secs_f64();
    let left = outcome?;
    let Run { noted: mut ledger, begins, .. } = run;
    ledger.samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (index, source) in sources.iter().enumerate() {
        read(settings, source, index, &begins[index], &mut ledger)?;
    }
    if let Some(path) = &settings.output.copies {
        write_copies(path, &ledger.heard).with_context(|| path.display().to_string())?;
    }
    let mut verdict = judge::judge(&ledger);
    if let Some(left) = left {
        verdict.fault("K7: not at rest", || left);
    }
    let report = of_run(&ledger, &verdict, wall_s);
    if let Some(path) = &settings.output.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    eprintln!("{}", report::text(&verdict, true));
    Ok((report, verdict.passed()))
}

/// A run in progress.
struct Run<'a> {
    settings: &'a Settings,
    sources: &'a [Source],
    /// The ends of the topic before the run, by source and partition.
    begins: Vec<Vec<i64>>,
    shared: &'a Shared,
    samples: &'a Mutex<Vec<Sample>>,
    noted: Ledger,
}

impl Run<'_> {
    fn offsets(&self, index: usize) -> Offsets {
        let source = &self.sources[index];
        Offsets::new(&self.settings.kafka, &source.group, &source.topic, self.begins[index].len())
    }

    /// Works from the first subscription until no more copies come. Returns the missing rest, in words, if the patience ends before.
    fn drive(&mut self, subscribers: usize) -> anyhow::Result<Option<String>> {
        let begin = Instant::now();
        while self.shared.subscribed.load(Ordering::Relaxed) < subscribers {
            if begin.elapsed() > SUBSCRIBED_WITHIN {
                bail!("not all of {subscribers} have subscribed within {} s", SUBSCRIBED_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut producers = Vec::new();
        for source in self.sources {
            let Settings { kcat, kafka, run, payload, .. } = self.settings;
            let to = To { kcat, bootstrap: kafka, topic: &source.topic };
            let (classes, bytes) = (source.classes.clone(), *payload as usize);
            producers.push(Producer::new(source.name, *run, classes, bytes, &to)?);
        }
        self.write(&mut producers)?;
        self.shared.calm.store(true, Ordering::Relaxed);
        for (source, mut producer) in self.sources.iter().zip(producers) {
            producer.end()?;
            let (name, window) = (source.name.to_owned(), self.settings.window);
            self.noted.logs.push(Log { name, window, written: producer.written, partitions: Vec::new() });
        }
        self.wait_still()
    }

    /// Writes at the rate until the time is over, or the end is ordered.
    fn write(&mut self, producers: &mut [Producer]) -> anyhow::Result<()> {
        let orders = self.settings.control.then(orders::listen).transpose()?;
        let mut timeline =
            self.settings.output.timeline.as_ref().map(File::create).transpose().context("--timeline")?;
        let (begin, mut seconds, mut written, mut before) = (Instant::now(), 0, 0, 0);
        loop {
            let now = begin.elapsed();
            match &orders {
                Some(orders) if !self.follow(orders)? => return Ok(()),
                None if now.as_secs() >= self.settings.seconds => return Ok(()),
                _ => {}
            }
            let due = (now.as_millis() as u64 * self.settings.rate / 1_000 - written) / producers.len() as u64;
            for producer in &mut *producers {
                producer.write(due)?;
                written += due;
            }
            if now.as_secs() > seconds {
                seconds = now.as_secs();
                let copies = self.shared.copies.load(Ordering::Relaxed);
                if let Some(file) = &mut timeline {
                    let settled = self.shared.acknowledged.load(Ordering::Relaxed);
                    let answers = copies - std::mem::replace(&mut before, copies);
                    writeln!(
                        file,
                        "{}",
                        json!({ "s": seconds, "sent": written, "settled": settled, "answers": answers })
                    )?;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Carries out the orders. `false`: the end was ordered.
    fn follow(&mut self, orders: &Receiver<anyhow::Result<Order>>) -> anyhow::Result<bool> {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order?,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            };
            let now_ns = self.shared.now_ns();
            match order {
                Order::Target(target) => {
                    *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
                }
                Order::Hurt(name) => {
                    self.end_hurt(now_ns);
                    self.noted.hurts.push(Hurt { name, from_ns: now_ns, to_ns: u64::MAX });
                }
                Order::Well => self.end_hurt(now_ns),
                Order::Member(name, file) => {
                    let log = self.sources.iter().position(|source| source.name == name);
                    let log = log.with_context(|| format!("member of {name}, which is no source"))?;
                    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                    let printed = orders::printed(&text);
                    self.noted.members.push(Member { log, printed, ended_ns: now_ns });
                }
                Order::End => {
                    self.end_hurt(now_ns);
                    return Ok(false);
                }
            }
        }
    }

    fn end_hurt(&mut self, now_ns: u64) {
        if let Some(hurt) = self.noted.hurts.last_mut() {
            hurt.to_ns = hurt.to_ns.min(now_ns);
        }
    }

    /// Waits until the groups have committed the ends of the logs, and no more copies have come for a while.
    fn wait_still(&self) -> anyhow::Result<Option<String>> {
        let topics: Vec<&str> = self.sources.iter().map(|source| source.topic.as_str()).collect();
        let ends = self.settings.reader().settled_ends(&topics, Duration::from_millis(500))?;
        let begin = Instant::now();
        let (mut copies, mut since) = (0, begin);
        loop {
            let now = self.shared.copies.load(Ordering::Relaxed);
            if now != copies {
                (copies, since) = (now, Instant::now());
            }
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            let last = |log: usize| samples.iter().rev().find(|sample| sample.log == log).map(|sample| &sample.offsets);
            let committed: Vec<_> = (0..ends.len()).map(|log| last(log).cloned().unwrap_or_default()).collect();
            drop(samples);
            if committed == ends && since.elapsed() > STILL {
                return Ok(None);
            }
            if begin.elapsed() > Duration::from_secs(self.settings.patience) {
                let (patience, still) = (self.settings.patience, since.elapsed().as_secs());
                let text = format!("after {patience} s: committed {committed:?} of {ends:?}, last copy {still} s ago");
                return Ok((committed != ends || since.elapsed() <= STILL).then_some(text));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Asks for the committed offsets again and again.
fn sample(log: usize, mut offsets: Offsets, shared: &Shared, samples: &Mutex<Vec<Sample>>) {
    while !shared.is_over() {
        if let Ok(offsets) = offsets.committed() {
            let sample = Sample { log, at_ns: shared.now_ns(), offsets };
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
        std::thread::sleep(SAMPLE_EVERY);
    }
}

/// Reads the records of a source's topic, from its end before the run on.
fn read(settings: &Settings, source: &Source, index: usize, begins: &[i64], ledger: &mut Ledger) -> anyhow::Result<()> {
    let log = &mut ledger.logs[index];
    log.partitions = begins.iter().map(|begin| (*begin, Vec::new())).collect();
    let mut wrong = Vec::new();
    settings.reader().records(&source.topic, index, |record| {
        let (partition, offset) = (record.partition, record.offset);
        let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
        let topic = log.topic(&key, partition, offset);
        let Some((begin, facts)) = log.partitions.get_mut(partition as usize) else {
            return wrong.push(format!("partition {partition}"));
        };
        if offset < *begin {
            return;
        }
        let number = produce::number(record.value, source.name, settings.run, &key, settings.payload as usize);
        if offset != *begin + facts.len() as i64 || number.is_none() {
            wrong.push(format!("partition {partition} offset {offset}"));
        }
        let fingerprint = fingerprint(topic.as_bytes(), record.value);
        facts.push(Fact { key, number: number.unwrap_or(u64::MAX - 1), fingerprint });
    })?;
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            bail!("{}: {} records are not what was written, the first at {first}", source.topic, wrong.len())
        }
    }
}

fn write_copies(path: &Path, heard: &[Heard]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for heard in heard {
        for copy in &heard.copies {
            let line = json!({
                "subscriber": heard.name, "connection": copy.connection, "partition": copy.partition, "offset": copy.offset,
                "dup": copy.dup, "at_ms": copy.at_ns / 1_000_000, "acknowledged_ms": copy.acknowledged_ns.map(|ns| ns / 1_000_000),
            });
            writeln!(file, "{line}")?;
        }
        let ends: Vec<u64> = heard.ends_ns.iter().map(|ns| ns / 1_000_000).collect();
        writeln!(file, "{}", json!({ "subscriber": heard.name, "connections_ended_ms": ends }))?;
    }
    Ok(file.flush()?)
}

/// The report of a run, in the form of `flow`'s report.
fn of_run(ledger: &Ledger, verdict: &Verdict, wall_s: f64) -> Value {
    let sum = |value: fn(&Heard) -> u64| ledger.heard.iter().map(value).sum::<u64>();
    let written: u64 = ledger.logs.iter().map(|log| log.written).sum();
    let acknowledged = verdict.counts.get("copies acknowledged").copied().unwrap_or(0);
    let connections = sum(|heard| heard.ends_ns.len() as u64);
    let broken = sum(|heard| heard.broken);
    let hurts: Vec<Value> = (ledger.hurts.iter())
        .map(|hurt| json!({ "name": hurt.name, "from_s": hurt.from_ns as f64 / 1e9, "to_s": hurt.to_ns as f64 / 1e9 }))
        .collect();
    let mut report = json!({
        "job": "back",
        "subscribers": ledger.heard.len(),
        "sent": { "all": written },
        "settled": acknowledged,
        "held_again": sum(|heard| heard.held_again),
        "wall_s": wall_s,
        "connections": {
            "accepted": connections, "broken_by_clients": broken,
            "lost": connections.saturating_sub(broken + ledger.heard.len() as u64),
            "attempts_failed": sum(|heard| heard.connects_failed),
        },
        "hurts": hurts,
    });
    report::add_verdict(&mut report, verdict, true);
    report
}

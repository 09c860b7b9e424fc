//! Kafka from a judge's view: the time until a message can be read, and whether each is there. Built on the crate kafka-protocol,
//! independent of the service's own reading and writing of records.

pub(crate) mod offsets;
pub(crate) mod producer;
mod reader;
pub(crate) mod sink;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;

use crate::flow::judge::{Judge, Key, Log, Rules};
use crate::flow::payload;
use crate::flow::plan::{Plan, SEED, Weights};
use crate::load::scenario::{Contents, Group, Role, Scenario};
use crate::load::{Finished, Terms};
use crate::outcome::Latency;
use reader::Reader;

/// Where the messages are to be found.
// clap names a group after its struct, and `run` has Settings of its own.
#[derive(Args, Clone, Debug)]
#[group(id = "kafka-reading")]
pub(crate) struct Settings {
    /// Kafka's bootstrap server: measure the time until a message can be read there, and judge what arrived.
    #[arg(long, value_name = "HOST:PORT", requires = "kafka_topics")]
    kafka: Option<String>,
    /// Kafka topic in which the messages must be; may be given several times.
    #[arg(long = "kafka-topic", requires = "kafka", value_name = "TOPIC")]
    kafka_topics: Vec<String>,
    /// The key that records must have.
    #[arg(long, value_enum, default_value = "topic")]
    kafka_key: Key,
}

/// Reads Kafka beside a run.
pub(crate) struct Judging {
    settings: Settings,
    logs: Vec<Log>,
    run: u32,
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<Histogram<u64>>>,
}

impl Judging {
    /// Finds the ends of the topics, and starts to read from there. `None`: no Kafka was named.
    ///
    /// # Errors
    /// A scenario that cannot be judged; the errors of Kafka.
    pub(crate) fn begin(settings: &Settings, scenario: &Scenario, terms: &mut Terms) -> anyhow::Result<Option<Self>> {
        let Some(bootstrap) = &settings.kafka else { return Ok(None) };
        publishers(scenario)?;
        let mut reader = Reader::connect(bootstrap)?;
        let mut logs = Vec::new();
        for topic in &settings.kafka_topics {
            let ranges = reader.ends(topic)?.into_iter().map(|end| end..end).collect();
            logs.push(Log { topic: topic.clone(), ranges });
        }
        let (sender, epoch) = channel();
        terms.told = true;
        terms.epoch = Some(sender);
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let follow = Follow {
            reader,
            logs: logs.clone(),
            epoch,
            warmup: scenario.warmup.0,
            run: terms.run + publishers(scenario)?.0 as u32,
            stop: stop.clone(),
            seen: seen.clone(),
        };
        let run = follow.run;
        let thread = std::thread::Builder::new().name("kafka-reader".into()).spawn(move || follow.run())?;
        Ok(Some(Self { settings: settings.clone(), logs, run, stop, seen, thread }))
    }

    /// Waits for the acknowledged messages, adds the latencies, and has the judge of `flow` read all records.
    ///
    /// # Errors
    /// The errors of Kafka.
    pub(crate) fn end(mut self, scenario: &Scenario, finished: &mut Finished) -> anyhow::Result<()> {
        let (_, group) = publishers(scenario)?;
        let totals = &finished.outcome.totals;
        let owed = totals.answered + totals.sent_qos0;
        let (mut before, mut quiet) = (self.seen.load(Ordering::Relaxed), Instant::now());
        while before < owed && quiet.elapsed() < Duration::from_secs(5) && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            let now = self.seen.load(Ordering::Relaxed);
            if now != before {
                (before, quiet) = (now, Instant::now());
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        let histogram = self.thread.join().map_err(|_| anyhow::anyhow!("the Kafka reader panicked"))??;
        if let Some(latency) = Latency::of(&histogram) {
            finished.outcome.latency.insert("kafka_readable".to_owned(), latency);
        }
        let mut reader = Reader::connect(self.settings.kafka.as_deref().context("--kafka")?)?;
        for log in &mut self.logs {
            let begin = |partition: usize| log.ranges.get(partition).map_or(0, |range| range.start);
            log.ranges = reader.ends(&log.topic)?.into_iter().enumerate().map(|(p, end)| begin(p)..end).collect();
        }
        let plan = plan(group, self.run)?;
        let mut told: Vec<_> =
            finished.clients.iter_mut().filter_map(|client| client.told.take()).map(|told| *told).collect();
        // Client numbers run through the threads; the judge takes them in order.
        let mut indices: Vec<u32> = Vec::new();
        for client in finished.clients.iter().filter(|client| client.template.is_some()) {
            indices.push(client.index);
        }
        let mut ordered: Vec<(u32, _)> = indices.into_iter().zip(told.drain(..)).collect();
        ordered.sort_by_key(|(index, _)| *index);
        let mut told: Vec<_> = ordered.into_iter().map(|(_, told)| told).collect();
        let window = u64::from(group.window);
        let (key, may) = (self.settings.kafka_key, false);
        let rules = Rules { may_lose: may, may_double: may, key, by_qos: false, window, part: None };
        let mut judge = Judge::new(&plan, rules, &mut told, &self.logs);
        for (index, log) in self.logs.iter().enumerate() {
            reader.records(log, index, |record| judge.record(record))?;
        }
        let judged = judge.end();
        let verdict = &mut finished.outcome.verdict;
        if !judged.passed() {
            let faults: Vec<String> =
                judged.faults.iter().map(|(kind, fault)| format!("{} x {kind}", fault.count)).collect();
            let before = if verdict.passed { "FAILED: ".to_owned() } else { format!("{}, ", verdict.headline) };
            verdict.headline = format!("{before}Kafka: {}", faults.join(", "));
            verdict.passed = false;
        }
        let faults: serde_json::Map<_, _> = judged
            .faults
            .iter()
            .map(|(kind, fault)| (kind.clone(), json!({ "count": fault.count, "examples": fault.examples })))
            .collect();
        verdict.kafka = Some(json!({ "counts": judged.counts, "faults": faults }));
        Ok(())
    }
}

/// The one group that publishes, and its place.
fn publishers(scenario: &Scenario) -> anyhow::Result<(usize, &Group)> {
    let mut found = scenario.groups.iter().enumerate().filter(|(_, group)| group.role == Role::Publish);
    match (found.next(), found.next()) {
        (Some((index, group)), None) if group.contents == Contents::Numbered => Ok((index, group)),
        _ => bail!("--kafka: the scenario needs exactly one publishing group, with numbered payloads"),
    }
}

/// The group's plan for the judge.
fn plan(group: &Group, run: u32) -> anyhow::Result<Plan> {
    Ok(Plan {
        seed: SEED,
        run,
        messages: group.messages,
        clients: group.clients,
        qos: group.qos.weights().map_err(anyhow::Error::msg)?,
        versions: Weights::only(0, 2),
        payload_bytes: group.payload,
        topics: 1,
        topic: group.topic.clone(),
        reconnect_every: 0,
    })
}

/// Follows the topics while the load runs, for latencies.
struct Follow {
    reader: Reader,
    logs: Vec<Log>,
    epoch: Receiver<(Instant, u64)>,
    warmup: Duration,
    run: u32,
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
}

impl Follow {
    fn run(mut self) -> anyhow::Result<Histogram<u64>> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
        // Nothing is sent before the epoch is known; without one the run has failed.
        let Ok((epoch, start_ns)) = self.epoch.recv() else { return Ok(histogram) };
        let measure_ns = start_ns + self.warmup.as_nanos() as u64;
        let (run, seen) = (self.run, self.seen.clone());
        let mut positions: Vec<Vec<i64>> =
            self.logs.iter().map(|log| log.ranges.iter().map(|range| range.start).collect()).collect();
        while !self.stop.load(Ordering::Relaxed) {
            for (log, positions) in self.logs.iter().zip(&mut positions) {
                self.reader.follow(&log.topic, positions, |value| {
                    let now_ns = epoch.elapsed().as_nanos() as u64;
                    if let Some(sent_ns) = payload::sent_ns(value, run) {
                        seen.fetch_add(1, Ordering::Relaxed);
                        if sent_ns >= measure_ns {
                            histogram.saturating_record(now_ns.saturating_sub(sent_ns) / 1_000);
                        }
                    }
                })?;
            }
        }
        Ok(histogram)
    }
}

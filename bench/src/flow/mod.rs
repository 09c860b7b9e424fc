//! `flow`: numbered messages through the service into Kafka, and a verdict on what arrived.
//!
//! plan (messages) → client (MQTT) → drive (sockets, one thread) → read (Kafka, by kcat) → judge → report. None of this shares
//! code with the service: a mistake there is not repeated here.

mod client;
mod control;
mod drive;
mod events;
mod fates;
pub(crate) mod judge;
mod link;
mod marks;
mod murmur2;
mod pace;
pub(crate) mod payload;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod report;
mod settings;
mod tally;
mod timeline;
pub(crate) mod told;
pub(crate) mod wire;

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use control::Control;
use events::Events;
use fates::Forms;
use judge::{Judge, Log, Rules, Verdict};
use plan::Plan;
use read::Kafka;
pub(crate) use settings::Settings;
use timeline::{Timeline, Watched};
use told::Told;

/// Runs the job. `false`: the verdict is bad.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<(Value, bool)> {
    let plan = settings.plan()?;
    let kafka = settings.kafka();
    let mut logs = Vec::new();
    for topic in settings.topics() {
        let ends = kafka.as_ref().map_or(Ok(Vec::new()), |kafka| kafka.ends(&topic))?;
        logs.push(Log { ranges: ends.into_iter().map(|end| end..end).collect(), topic });
    }
    let watched = settings.pid.iter().map(|text| Watched::parse(text)).collect::<anyhow::Result<_>>()?;
    let mut timeline = Timeline::new(settings.timeline.as_deref(), watched)?;
    let terms = drive::Terms {
        targets: settings.targets(),
        silence: settings.silence(),
        pace: settings.pace(),
        timeout: settings.timeout(),
        patience: Duration::from_secs(settings.patience),
        control: settings.control.then(Control::new).transpose()?,
        events: Events::to(settings.events.as_deref())?,
    };
    let mut outcome = drive::run(&plan, settings.manner(), terms, &mut timeline)?;
    outcome.control.take().map_or(Ok(()), Control::wait_closed)?;
    let processes = timeline.processes(outcome.tally.sent_all());
    let mut report = report::of_run(&outcome, processes);
    let mut clients: Vec<_> = outcome.clients.into_iter().map(|client| client.told).collect();
    let mut verdict = match &kafka {
        Some(kafka) => {
            find_ends(kafka, &mut logs, Duration::from_secs(settings.settle))?;
            if settings.ruled {
                judge_parts(kafka, (&plan, settings.rules()), &clients, &logs)?
            } else {
                let faults_ns = outcome.tally.marks.times_ns();
                let mut judge = Judge::new(&plan, settings.rules(), &mut clients, &logs).with_faults(faults_ns);
                for (index, log) in logs.iter().enumerate() {
                    kafka.records(&log.topic, index, |record| judge.record(record))?;
                }
                judge.end()
            }
        }
        None => unread(&mut clients),
    };
    report::violations(&outcome.tally, &mut verdict);
    report::add_verdict(&mut report, &verdict, kafka.is_some());
    if let Some(path) = &settings.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    eprintln!("{}", report::text(&verdict, kafka.is_some()));
    Ok((report, verdict.passed()))
}

/// Judges each part by itself. The verdict has the faults of all parts, and the counts of the first alone.
fn judge_parts(
    kafka: &Kafka,
    (plan, rules): (&Plan, Rules),
    clients: &[Told],
    logs: &[Log],
) -> anyhow::Result<Verdict> {
    let (mut forms, mut all, mut rest) = (Forms::new(plan), Verdict::default(), logs);
    for (place, part) in fates::PARTS.into_iter().enumerate() {
        let (logs, others) = rest.split_at(part.topics.len().min(rest.len()));
        rest = others;
        let mut clients = clients.to_vec();
        let rules = Rules { part: Some(part), may_double: rules.may_double || part.may_double, ..rules };
        let mut judge = Judge::new(plan, rules, &mut clients, logs);
        for (index, log) in logs.iter().enumerate() {
            kafka.records(&log.topic, index, |record| {
                forms.record(place, record);
                judge.record(record);
            })?;
        }
        let verdict = judge.end();
        if place == 0 {
            all.counts = verdict.counts;
        } else {
            all.count(&format!("records, {}", part.name), verdict.counts.get("records").copied().unwrap_or(0));
        }
        all.faults.extend(verdict.faults.into_iter().map(|(kind, fault)| (format!("{kind}, {}", part.name), fault)));
    }
    forms.end(&mut all);
    Ok(all)
}

/// Finds the end of this run's records.
fn find_ends(kafka: &Kafka, logs: &mut [Log], still: Duration) -> anyhow::Result<()> {
    let topics: Vec<&str> = logs.iter().map(|log| log.topic.as_str()).collect();
    let ends = kafka.settled_ends(&topics, still)?;
    for (log, ends) in logs.iter_mut().zip(ends) {
        // A topic, or partitions of it, may have been created meanwhile.
        let begin = |partition| log.ranges.get(partition).map_or(0, |range: &std::ops::Range<i64>| range.start);
        log.ranges = ends.into_iter().enumerate().map(|(partition, end)| begin(partition)..end).collect();
    }
    Ok(())
}

/// The verdict without Kafka: sessions alone.
fn unread(clients: &mut [told::Told]) -> Verdict {
    let mut verdict = Verdict::default();
    judge::sessions(clients, &mut verdict);
    for (index, told) in clients.iter().enumerate().filter(|(_, told)| !told.finished) {
        verdict.fault("client did not finish", || format!("client {index}: {} sent", told.marks.len()));
    }
    verdict
}

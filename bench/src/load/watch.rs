//! Watches the processes and the generator during a run: samples for the timeline, progress for people.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use super::Terms;
use super::shared::Shared;
use crate::outcome::{Process, Sample};
use crate::process::{self, Reading, SystemCalls};

const SAMPLE: Duration = Duration::from_millis(500);

struct Watched {
    name: String,
    pid: u32,
    /// The reading before the first connection.
    before: Reading,
    /// The readings at the beginning and the end of the load.
    first: Reading,
    end: Reading,
    last: Reading,
    rss_bytes_max: u64,
    calls: Option<SystemCalls>,
    counted: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    sent: u64,
    answered: u64,
    received: u64,
    connects: u64,
}

impl Counts {
    fn of(shared: &Shared) -> Self {
        Self {
            sent: shared.sum(|c| &c.sent),
            answered: shared.sum(|c| &c.answered),
            received: shared.sum(|c| &c.received),
            connects: shared.sum(|c| &c.connects),
        }
    }
}

/// See the module.
pub(crate) struct Watch {
    watched: Vec<Watched>,
    system_calls: bool,
    samples: Vec<Sample>,
    start_ns: Option<u64>,
    last: Instant,
    counts: Counts,
    lately: Histogram<u64>,
    bar: ProgressBar,
}

impl Watch {
    pub(crate) fn new(terms: &Terms) -> anyhow::Result<Self> {
        let mut watched = Vec::new();
        for (name, pid) in &terms.watched {
            let before = process::read(*pid)?;
            let (name, rss_bytes_max) = (name.clone(), before.rss_bytes);
            let (first, end, last) = (before, before, before);
            watched.push(Watched {
                name,
                pid: *pid,
                before,
                first,
                end,
                last,
                rss_bytes_max,
                calls: None,
                counted: None,
            });
        }
        let bar = if terms.progress { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}")?);
        Ok(Self {
            watched,
            system_calls: terms.system_calls,
            samples: Vec::new(),
            start_ns: None,
            last: Instant::now(),
            counts: Counts::default(),
            lately: Histogram::new_with_bounds(1, 3_600_000_000, 2)?,
            bar,
        })
    }

    /// Notes that all connections are made; system calls are counted from here.
    pub(crate) fn connected(&mut self) -> anyhow::Result<()> {
        for watched in &mut self.watched {
            if self.system_calls {
                watched.calls = SystemCalls::of(watched.pid);
            }
            watched.first = process::read(watched.pid)?;
            watched.end = watched.first;
            watched.last = watched.first;
        }
        Ok(())
    }

    pub(crate) fn begin(&mut self, shared: &Shared, start_ns: u64) {
        self.start_ns = Some(start_ns);
        self.last = Instant::now();
        self.counts = Counts::of(shared);
    }

    /// Takes a sample if one is due.
    pub(crate) fn sample(&mut self, shared: &Shared, lately: &Receiver<Histogram<u64>>) {
        if self.last.elapsed() >= SAMPLE {
            self.take(shared, lately);
        }
    }

    /// Notes that the load has ended.
    pub(crate) fn end(&mut self, shared: &Shared, lately: &Receiver<Histogram<u64>>) {
        for watched in &mut self.watched {
            watched.counted = watched.calls.take().and_then(SystemCalls::end);
        }
        if self.last.elapsed() >= SAMPLE / 5 || self.samples.is_empty() {
            self.take(shared, lately);
        }
        for watched in &mut self.watched {
            watched.end = process::read(watched.pid).unwrap_or(watched.last);
        }
        self.bar.finish_and_clear();
    }

    fn take(&mut self, shared: &Shared, lately: &Receiver<Histogram<u64>>) {
        let passed_s = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        self.lately.reset();
        for part in lately.try_iter() {
            let _ = self.lately.add(&part);
        }
        let now = Counts::of(shared);
        let before = std::mem::replace(&mut self.counts, now);
        let (mut cpu, mut rss_bytes) = (Vec::new(), Vec::new());
        for watched in &mut self.watched {
            // A process that is gone keeps its last figures.
            let reading = process::read(watched.pid).unwrap_or(watched.last);
            cpu.push((reading.cpu_s - watched.last.cpu_s) / passed_s);
            rss_bytes.push(reading.rss_bytes);
            watched.rss_bytes_max = watched.rss_bytes_max.max(reading.rss_bytes);
            watched.last = reading;
        }
        let rate = |now: u64, before: u64| (now - before) as f64 / passed_s;
        let at_ns = shared.now_ns() as f64 - self.start_ns.unwrap_or_else(|| shared.now_ns()) as f64;
        let sample = Sample {
            s: if self.start_ns.is_some() { at_ns / 1e9 } else { -1.0 },
            connected: shared.sum(|c| &c.connected),
            sent_per_s: rate(now.sent, before.sent),
            answered_per_s: rate(now.answered, before.answered),
            received_per_s: rate(now.received, before.received),
            connects_per_s: rate(now.connects, before.connects),
            behind: shared.sum(|c| &c.behind),
            p50_us: self.lately.value_at_quantile(0.5),
            p99_us: self.lately.value_at_quantile(0.99),
            max_us: self.lately.max(),
            cpu,
            rss_bytes,
        };
        self.bar.set_message(line(&sample));
        self.bar.tick();
        // The time of connecting is in the histogram of connects; the timeline shows the load.
        if self.start_ns.is_some() {
            self.samples.push(sample);
        }
    }

    pub(crate) fn processes(&self, messages: u64) -> Vec<Process> {
        let per = messages.max(1) as f64;
        let of = |watched: &Watched| {
            let (first, end) = (&watched.first, &watched.end);
            Process {
                name: watched.name.clone(),
                pid: watched.pid,
                cpu_s: end.cpu_s - first.cpu_s,
                user_s: end.user_s - first.user_s,
                system_s: (end.cpu_s - end.user_s) - (first.cpu_s - first.user_s),
                cpu_us_per_message: (end.cpu_s - first.cpu_s) * 1e6 / per,
                rss_bytes_before: watched.before.rss_bytes,
                rss_bytes_max: watched.rss_bytes_max,
                rss_bytes_end: end.rss_bytes,
                voluntary_switches: end.voluntary_switches.saturating_sub(first.voluntary_switches),
                involuntary_switches: end.involuntary_switches.saturating_sub(first.involuntary_switches),
                system_calls: watched.counted,
                system_calls_per_message: watched.counted.map(|count| count as f64 / per),
            }
        };
        self.watched.iter().map(of).collect()
    }

    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

fn line(sample: &Sample) -> String {
    let count = |value: f64| crate::text::count(value);
    format!(
        "{} connected  sent {}/s  answered {}/s  delivered {}/s  p50 {}  p99 {}{}",
        sample.connected,
        count(sample.sent_per_s),
        count(sample.answered_per_s),
        count(sample.received_per_s),
        crate::text::time_us(sample.p50_us),
        crate::text::time_us(sample.p99_us),
        if sample.behind > 0 { format!("  {} overdue", sample.behind) } else { String::new() },
    )
}

//! A run over time: one JSON line a second, and the most memory of each watched process.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::tally::Tally;
use crate::process::{self, Reading};

const SAMPLE_NS: u64 = 200_000_000;
const LINE_NS: u64 = 1_000_000_000;

/// A watched process.
pub(crate) struct Watched {
    name: String,
    pid: u32,
    first: Reading,
    last: Reading,
    rss_bytes_max: u64,
}

impl Watched {
    /// Parses `PID` or `NAME=PID`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, pid) = text.split_once('=').unwrap_or(("server", text));
        let pid = pid.parse().with_context(|| format!("--pid {text}: expected PID or NAME=PID"))?;
        let first = process::read(pid)?;
        Ok(Self { name: name.to_owned(), pid, first, last: first, rss_bytes_max: first.rss_bytes })
    }

    /// Samples the process. One that is gone, or that came back under another id, keeps its last figures.
    fn sample(&mut self) {
        if let Ok(reading) = process::read(self.pid) {
            self.last = reading;
            self.rss_bytes_max = self.rss_bytes_max.max(reading.rss_bytes);
        }
    }

    fn report(&self, messages: u64) -> Value {
        let cpu_s = self.last.cpu_s - self.first.cpu_s;
        json!({
            "name": self.name, "pid": self.pid, "cpu_s": cpu_s, "cpu_us_per_message": cpu_s * 1e6 / messages.max(1) as f64,
            "rss_bytes_max": self.rss_bytes_max,
            "voluntary_switches": self.last.voluntary_switches.saturating_sub(self.first.voluntary_switches),
        })
    }
}

/// See the module.
pub(crate) struct Timeline {
    file: Option<BufWriter<File>>,
    watched: Vec<Watched>,
    sample_ns: u64,
    line_ns: u64,
}

impl Timeline {
    pub(crate) fn new(file: Option<&Path>, watched: Vec<Watched>) -> anyhow::Result<Self> {
        let open = |path: &Path| File::create(path).with_context(|| format!("--timeline {}", path.display()));
        Ok(Self { file: file.map(open).transpose()?.map(BufWriter::new), watched, sample_ns: 0, line_ns: LINE_NS })
    }

    /// Whether [`Self::note`] is due.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.sample_ns
    }

    pub(crate) fn note(&mut self, now_ns: u64, connected: usize, behind: u64, tally: &mut Tally) -> anyhow::Result<()> {
        self.sample_ns = now_ns + SAMPLE_NS;
        self.watched.iter_mut().for_each(Watched::sample);
        if now_ns < self.line_ns {
            return Ok(());
        }
        self.line_ns = now_ns + LINE_NS;
        if let Some(file) = &mut self.file {
            let processes = self.watched.iter();
            let processes: serde_json::Map<_, _> = processes
                .map(|w| (w.name.clone(), json!({ "cpu_s": w.last.cpu_s, "rss_bytes": w.last.rss_bytes })))
                .collect();
            let lately = &tally.lately;
            let line = json!({
                "s": now_ns as f64 / 1e9, "connected": connected, "sent": tally.sent_all(), "settled": tally.settled,
                "behind": behind, "answers": lately.len(), "p50_us": lately.value_at_quantile(0.5),
                "p99_us": lately.value_at_quantile(0.99), "max_us": lately.max(),
                "pings": tally.pings, "pongs": tally.pongs, "processes": processes,
            });
            writeln!(file, "{line}")?;
            file.flush()?;
        }
        tally.lately.reset();
        Ok(())
    }

    /// The cost of the processes so far.
    pub(crate) fn processes(&mut self, messages: u64) -> Vec<Value> {
        self.watched.iter_mut().for_each(Watched::sample);
        self.watched.iter().map(|watched| watched.report(messages)).collect()
    }
}

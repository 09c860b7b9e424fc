//! What an earlier run has left in the spool, and whether the configuration has a place for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Buffer, Config};

use super::super::spool_files::Files;

/// Sinks and topics that are named in a refusal; the rest is counted.
const NAMED_MAX: usize = 20;

/// What the folders hold.
#[derive(Debug, Default)]
pub(in crate::cli) struct Found {
    shards: usize,
    /// Live rows by sink and topic.
    rows: BTreeMap<(String, String), u64>,
    sessions: u64,
}

impl Found {
    /// Reads what a start would read; changes nothing.
    ///
    /// # Errors
    /// What cannot be read, in words for a person.
    pub(in crate::cli) fn look(root: &Path) -> Result<Self, String> {
        let folders = of_shards(root)?;
        let mut found = Self { shards: folders.len(), ..Self::default() };
        for (shard, folder) in folders.iter().enumerate() {
            let recovered = Files::new(folder).recovered(shard)?;
            for (_, lane) in recovered.state.lanes() {
                let rows = lane.rows();
                if rows > 0 {
                    *found.rows.entry((lane.sink.to_string(), lane.topic.to_string())).or_default() += rows;
                }
            }
            found.sessions += recovered.state.sessions().count() as u64;
        }
        Ok(found)
    }

    /// How many shards it was made for; 0: there is none.
    pub(in crate::cli) const fn shards(&self) -> usize {
        self.shards
    }

    /// Kept sessions.
    pub(in crate::cli) const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Rows that go on: those of sinks whose rows outlive the process.
    pub(in crate::cli) fn live_rows(&self, config: &Config) -> u64 {
        let goes_on = |sink: &str| buffer(config, sink).is_some_and(Buffer::outlives_process);
        self.rows.iter().filter(|((sink, _), _)| goes_on(sink)).map(|(_, rows)| rows).sum()
    }

    /// Refuses rows that the configuration has no place for, naming each and what can be done.
    ///
    /// # Errors
    /// That, in words for a person.
    pub(in crate::cli) fn refuse_homeless(&self, config: &Config, root: &Path) -> Result<(), String> {
        let why = |sink: &str| match buffer(config, sink) {
            _ if config.spool.is_none() => Some("there is no [spool] any more"),
            None => Some("there is no such [[sink]] any more"),
            Some(Buffer::Memory) => Some("its buffer is \"memory\" now"),
            Some(_) => None,
        };
        let homeless: Vec<_> =
            self.rows.iter().filter_map(|((sink, topic), rows)| Some((sink, topic, rows, why(sink)?))).collect();
        let Some((first, ..)) = homeless.first() else { return Ok(()) };
        let root = root.display();
        let mut text = format!(
            "the spool in {root} has messages that are not in Kafka, and the configuration has no place for them:"
        );
        for (sink, topic, rows, why) in homeless.iter().take(NAMED_MAX) {
            let _ = write!(text, "\n  sink \"{sink}\", topic \"{topic}\": {rows} messages; {why}");
        }
        if homeless.len() > NAMED_MAX {
            let rows: u64 = homeless[NAMED_MAX..].iter().map(|(_, _, rows, _)| **rows).sum();
            let _ = write!(text, "\n  and {rows} messages of {} more topics", homeless.len() - NAMED_MAX);
        }
        let back = if config.spool.is_none() { "[spool]" } else { "the sink under its name, with buffer = \"disk\"" };
        let _ = write!(
            text,
            "\nNothing was changed. Give back {back}, until they are in Kafka (its cluster may be another, its filters may \
             match nothing); or throw them away: forebay spool discard {root} --sink {first} --yes"
        );
        Err(text)
    }
}

fn buffer(config: &Config, sink: &str) -> Option<Buffer> {
    config.sinks.iter().find(|known| known.name == sink).map(|sink| sink.buffer)
}

/// The folders of shards, by number, none missing. Empty: there is no spool.
///
/// # Errors
/// In words for a person.
pub(in crate::cli) fn of_shards(root: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: io::Error| format!("spool in {}: {error}", root.display());
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.parse::<usize>().ok().filter(|number| number.to_string() == name && path.is_dir()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    if let Some(missing) = (0..numbers.len()).find(|at| numbers[*at] != *at) {
        return Err(format!(
            "spool in {}: the folder of shard {missing} is missing, that of shard {} is there; put it back, or make an empty \
             one if what it had is gone for good",
            root.display(),
            numbers[missing]
        ));
    }
    Ok(numbers.iter().map(|number| root.join(number.to_string())).collect())
}

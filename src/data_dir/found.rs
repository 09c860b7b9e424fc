//! What an earlier run has left in the spool, and whether the configuration has a place for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::config::{Buffer, Config, DataDirId};

use super::files::Files;
use super::manifest::{Manifest, of_shards};

/// Sinks and topics that are named in a refusal; the rest is counted.
const NAMED_MAX: usize = 20;

/// What the folders hold.
#[derive(Debug, Default)]
pub(crate) struct Found {
    directory: Option<DataDirId>,
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
    pub(crate) fn look(root: &Path) -> Result<Self, String> {
        let folders = of_shards(root)?;
        let directory = Manifest::read(root)?.map(|manifest| manifest.directory);
        let mut found = Self { directory, shards: folders.len(), ..Self::default() };
        for (shard, folder) in folders.iter().enumerate() {
            let recovered = Files::new(folder).recovered(shard)?;
            let (named, ours) = (recovered.data_dir_id, directory.map_or(0, DataDirId::number));
            if named != 0 && ours != 0 && named != ours {
                return Err(format!(
                    "{}: its segments belong to another data directory than {} names; nothing was changed",
                    folder.display(),
                    root.join("manifest.json").display()
                ));
            }
            // The next start gives up what is volatile.
            for (_, lane) in recovered.state.lasting_lanes() {
                let rows = lane.rows();
                if rows > 0 {
                    *found.rows.entry((lane.sink.to_string(), lane.topic.to_string())).or_default() += rows;
                }
            }
            found.sessions += recovered.state.sessions().count() as u64;
        }
        Ok(found)
    }

    /// The data directory's id; `None`: it has no spool.
    pub(crate) const fn directory(&self) -> Option<DataDirId> {
        self.directory
    }

    /// How many shards it was made for; 0: there is none.
    pub(crate) const fn shards(&self) -> usize {
        self.shards
    }

    /// Kept sessions.
    pub(crate) const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Rows that go on: all but those that the next start gives up.
    pub(crate) fn live_rows(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Where the configuration names a data directory, no other will do, and no empty one either: its volume may not be
    /// mounted.
    ///
    /// # Errors
    /// That, for an operator.
    pub(crate) fn refuse_other_directory(&self, config: &Config) -> Result<(), String> {
        let Some(wanted) = config.service.data_dir_id else { return Ok(()) };
        let data_dir = config.service.data_dir.display();
        match self.directory {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(format!(
                "data directory {data_dir} has the id {found}, but service.data_dir_id is {wanted}: is another volume \
                 mounted there? Nothing was changed"
            )),
            None => Err(format!(
                "data directory {data_dir} has no spool, but service.data_dir_id is {wanted}: is its volume mounted? To \
                 begin a new spool, leave data_dir_id out at the first start, which logs the new id"
            )),
        }
    }

    /// Refuses rows that the configuration has no place for, naming each and what can be done.
    ///
    /// # Errors
    /// That, in words for a person.
    pub(crate) fn refuse_homeless(&self, config: &Config, root: &Path) -> Result<(), String> {
        let why = |sink: &str| match buffer(config, sink) {
            _ if config.spool.is_none() => Some("[spool] is no longer configured"),
            None => Some("the [[sink]] is no longer configured"),
            Some(Buffer::Memory) => Some("its buffer is now \"memory\""),
            Some(_) => None,
        };
        let homeless: Vec<_> =
            self.rows.iter().filter_map(|((sink, topic), rows)| Some((sink, topic, rows, why(sink)?))).collect();
        let Some((first, ..)) = homeless.first() else { return Ok(()) };
        let root = root.display();
        let mut text = format!(
            "the spool in {root} holds records that are not in Kafka yet, and the configuration no longer has a sink for them:"
        );
        for (sink, topic, rows, why) in homeless.iter().take(NAMED_MAX) {
            let _ = write!(text, "\n  sink \"{sink}\", topic \"{topic}\": {rows} messages; {why}");
        }
        if homeless.len() > NAMED_MAX {
            let rows: u64 = homeless[NAMED_MAX..].iter().map(|(_, _, rows, _)| **rows).sum();
            let _ = write!(text, "\n  and {rows} records of {} more topics", homeless.len() - NAMED_MAX);
        }
        let back = if config.spool.is_none() { "[spool]" } else { "the sink under its name, with buffer = \"disk\"" };
        let _ = write!(
            text,
            "\nNothing was changed. Restore {back}, until they are in Kafka (the cluster may be another one, and the filters need not \
             match anything); or delete them: forebay spool discard {root} --sink {first} --yes"
        );
        Err(text)
    }
}

fn buffer(config: &Config, sink: &str) -> Option<Buffer> {
    config.sinks.iter().find(|known| known.name == sink).map(|sink| sink.buffer)
}

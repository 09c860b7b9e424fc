//! The spool that earlier processes left, and whether the configuration has a place for it. Startup checks this before it changes
//! anything, and `forebay check` and `forebay spool inspect` use the same code, so that they report what startup will find.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::broker::sorted::{Sorted, Sorter};
use crate::buffer::Report;
use crate::config::{Buffer, Config, DataDirId};
use crate::spool::Recovered;

use super::files::Files;
use super::manifest::{Manifest, Mended};

/// Sinks and topics named in a refusal, at most; further ones are counted.
const NAMED_MAX: usize = 20;

/// The contents of one shard's folder, as startup would find them.
#[derive(Debug)]
pub(crate) struct FoundShard {
    pub(crate) folder: PathBuf,
    pub(crate) shard: usize,
    pub(crate) files: Files,
    /// Segments and their bytes.
    pub(crate) segments: BTreeMap<u64, u64>,
    /// Names in the folder that look like segments and are not.
    pub(crate) others: Vec<String>,
    pub(crate) recovered: Recovered,
}

impl FoundShard {
    /// Reads what startup would read before it accepts clients, except the records of sessions and messages; changes nothing.
    ///
    /// # Errors
    /// Why startup would fail, and the cure, in words for people.
    pub(crate) fn look(folder: &Path, shard: usize) -> Result<Self, String> {
        let files = Files::new(folder);
        let listed = files.listed()?;
        let recovered = files.recovered(shard)?;
        let segments = listed.segments.into_iter().collect();
        Ok(Self { folder: folder.to_owned(), shard, files, segments, others: listed.others, recovered })
    }

    /// Calls `each` with every undamaged record.
    ///
    /// # Errors
    /// Like [`FoundShard::look`].
    pub(super) fn records(&self, mut each: impl FnMut(u64, &[u8])) -> Result<(), String> {
        let whole = |number, found: Result<&[u8], _>| found.map_or((), |payload| each(number, payload));
        self.recovered.records(&self.files, whole).map_err(|error| self.files.refused(&error))
    }

    /// Sorts the records into those that startup would keep and those that it would not.
    ///
    /// # Errors
    /// Like [`FoundShard::look`].
    pub(super) fn sorted(&self) -> Result<Sorted, String> {
        let mut sorter = Sorter::default();
        let add = |number, found: Result<&[u8], _>| sorter.add(number, found, self.recovered.state.place_of(number));
        self.recovered.records(&self.files, add).map_err(|error| self.files.refused(&error))?;
        Ok(sorter.sorted(self.recovered.fate_open))
    }

    /// The whole report of startup on the folder.
    ///
    /// # Errors
    /// Like [`FoundShard::look`].
    pub(crate) fn report(&self) -> Result<Report, String> {
        Ok(self.report_of(self.sorted()?))
    }

    pub(super) fn report_of(&self, sorted: Sorted) -> Report {
        let mut report = Report::of(&self.recovered);
        report.rows = self.recovered.state.lasting_lanes().map(|(_, lane)| lane.rows()).sum();
        report.cuts = self.recovered.state.cuts().count() as u64;
        report.add_records(sorted.kept, sorted.unread);
        report
    }
}

/// The contents of all shards' folders.
#[derive(Debug, Default)]
pub(crate) struct Found {
    directory: Option<DataDirId>,
    pub(crate) shards: Vec<FoundShard>,
    /// Damaged description files of the folders that can be written again.
    pub(crate) mended: Mended,
    /// Live rows by sink and topic.
    rows: BTreeMap<(String, String), u64>,
}

impl Found {
    /// Reads what startup would read; changes nothing.
    ///
    /// # Errors
    /// Why startup would fail, and the cure, in words for people.
    pub(crate) fn look(root: &Path) -> Result<Self, String> {
        let Some((manifest, mut mended)) = Manifest::read(root)? else { return Ok(Self::default()) };
        let mut found = Self::default();
        for shard in 0..manifest.shards {
            found.shards.push(FoundShard::look(&root.join(shard.to_string()), shard)?);
        }
        let named = found.shards.iter().map(|shard| (shard.folder.as_path(), shard.recovered.data_dir_id));
        found.directory = Some(mended.settle(root, manifest.directory, named)?);
        found.mended = mended;
        for shard in &found.shards {
            // The next process gives up volatile rows.
            for (_, lane) in shard.recovered.state.lasting_lanes() {
                let rows = lane.rows();
                if rows > 0 {
                    *found.rows.entry((lane.sink.to_string(), lane.topic.to_string())).or_default() += rows;
                }
            }
        }
        Ok(found)
    }

    /// The whole report of startup on each folder.
    ///
    /// # Errors
    /// Like [`Found::look`].
    pub(crate) fn reports(&self) -> Result<Vec<(&FoundShard, Report)>, String> {
        self.shards.iter().map(|shard| Ok((shard, shard.report()?))).collect()
    }

    /// The data directory's id; `None`: there is no spool.
    pub(crate) const fn directory(&self) -> Option<DataDirId> {
        self.directory
    }

    /// Number of rows that will be sent: all except those that the next process gives up.
    pub(crate) fn live_rows(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Refuses any data directory other than the configured one, if one is configured, even an empty one: its volume may not be
    /// mounted.
    ///
    /// # Errors
    /// The refusal, for an operator.
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

    /// Refuses rows that the configuration has no place for; names each sink and topic, and the cure.
    ///
    /// # Errors
    /// The refusal, in words for people.
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

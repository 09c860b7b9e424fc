//! The spool: a log of segments for each shard, which has rows before they are acknowledged.
//!
//! Sans-I/O: `log` takes lanes and rows, `cuts` cuts and their ends, `sessions` sessions, and gathers them; `room`
//! computes how much more the log takes, `segments` the reason to keep each segment; `group` writes everything since
//! the last sync as one group with one sync; `due` decides when a checkpoint begins; `moving` empties old segments,
//! `together` says when though there is room;
//! `read` reads rows back. Recovery: `way` goes back from the newest segment, `look` reads each, `parts` its
//! checkpoints, `newest` the note beside them; `replay` builds the state from them, `recovery` is the result, and
//! `damage` lists its damage. `disk` is the interface to the code that writes files. `format`, `entry`, `lists` and
//! `payload` define the bytes, `segment` is their only reader; `state`, `spans` and `checkpoint` are the fold over
//! entries that the running log and recovery share. `batches` is what the embedded log needs to keep its partitions in
//! the same files. `docs/internals/SPOOL.md` has the format.

#![forbid(unsafe_code)]

mod batches;
mod checkpoint;
mod codec;
mod cuts;
mod damage;
mod disk;
mod due;
mod entry;
mod format;
mod group;
mod incarnations;
mod lists;
mod log;
mod look;
mod moved_in;
mod moving;
mod newest;
mod parts;
mod payload;
mod read;
mod recovery;
mod replay;
mod room;
mod salvage;
mod segment;
mod segments;
mod sessions;
#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs)]
pub mod simulated;
mod spans;
mod state;
mod survey;
mod terms;
#[cfg(test)]
mod tests;
mod together;
mod way;

pub use batches::{BATCH_AT, batch_entry_bytes, batch_header, claims_batch, is_whole, put_batch, seal_batch};
pub use damage::{Damage, What};
pub use disk::{AppendError, Completion, Disk, ReadError};
pub use entry::{Cut, CutHead, Deadline, Entry, Kind, Reason, Rows, RunList, Span};
pub use forebay_record::stored::{Known, NO_BATCH, Origin, RowRun, RowSet, UNPLACED};
pub use format::{ALIGN, HEADER_BYTES, Header, HeaderError, VERSION};
pub use group::Trouble;
pub use incarnations::Incarnation;
pub use lists::{Listed, Runs, Spans};
pub use log::Log;
pub use read::{Block, Read, RowBack};
pub use recovery::{FoundReader, LostRecord, RecoverError, Recovered, recover};
pub use room::sessions_max;
pub use segment::{Rot, Scan, entry_at, scan};
pub use state::{Held, Lane, State};
pub use survey::{Surveyed, survey};
pub use terms::{CUTS_OPEN_MAX, NewCut, NewRows, ROWS_OVERHEAD, Refused, SEGMENTS_RESERVED, Settings};

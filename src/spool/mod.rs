//! The spool: a log of segments for each shard, that rows stand in before they are answered.
//!
//! Sans-I/O: `log` takes rows, cuts, dones, ends and sessions and gathers them; `group` writes what came since the last
//! sync as one group and one sync; `moving` empties old segments; `recovery` reads it all back. `disk` is the seam to
//! whoever writes the files. `format` and `entry` are what the bytes mean, `segment` the one reader of them, `state`
//! the fold over entries that the running log and recovery share. `docs/SPOOL.md` has the format.

mod codec;
mod disk;
mod entry;
mod format;
mod group;
mod log;
mod moving;
mod payload;
mod read;
mod recovery;
mod segment;
#[cfg(test)]
pub(crate) mod simulated;
mod state;
mod survey;
mod terms;
#[cfg(test)]
mod tests;

pub use disk::{AppendError, Completion, Disk, ReadError};
pub use entry::{Cut, Deadline, Entry, Kind, Origin, Reason, Rows, Run, Span, UNPLACED};
pub use format::{HEADER_BYTES, Header, HeaderError, VERSION};
pub use log::Log;
pub use read::{Block, Read};
pub use recovery::{RecoverError, Recovered, recover};
pub use segment::{Rot, Scan, entry_at, scan};
pub use state::{Held, Lane, State};
pub use survey::{Surveyed, survey};
pub use terms::{CUTS_OPEN_MAX, NewCut, Refused, SEGMENTS_RESERVED, Settings, StagedCut, SyncedCut, Ticket};

//! An answer to Fetch that may be any bytes. The fuzz target `kafka_fetch` uses it.

use super::{fetched, wire};
use crate::fetch::Fetched;

/// Reads the body of an answer to a Fetch of this version.
pub fn answer(bytes: &[u8], version: i16) -> Option<Fetched> {
    let mut reader = wire::Reader::new(bytes, version >= 12);
    let (fetched, _) = fetched::read_fetch(&mut reader, version, bytes.len()).ok()?;
    Some(fetched)
}

//! Reading a partition's directory at the start: which batches stand, where a torn tail is cut, what is rot.
//!
//! The last two segments are read whole, every CRC checked: a segment is only closed when the one before it is synced,
//! so whatever a crash can have torn is in those two. Older segments are walked by their headers. What cannot be read
//! is a torn tail if nothing readable follows it in the last segment: it is cut off, and nothing in it was ever
//! answered. If something readable follows, it is rot: it stays in the file, is reported, and readers step over it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::batch::{BatchHeader, HEADER_LEN};
use super::disk::Disk;
use super::read::Window;
use super::segment::{Segment, base_offset_of};

/// Segments whose every CRC is checked, counted from the last.
const VERIFIED_SEGMENTS: usize = 2;

/// A partition as its directory tells it.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Its segments by offset; none if nothing was ever written.
    pub(crate) segments: Vec<Segment>,
    /// Bytes cut off the end.
    pub(crate) bytes_cut: u64,
    /// Unreadable stretches that were left where they are.
    pub(crate) holes: usize,
}

/// Reads a partition's directory. `on_batch` sees every batch header in order. `size_max`: no batch is larger.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    size_max: usize,
    mut on_batch: impl FnMut(&BatchHeader),
) -> io::Result<Recovered> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        match name.to_str().and_then(base_offset_of) {
            Some(base) => bases.push(base),
            None => tracing::warn!(dir = %dir.display(), ?name, "not a segment, left alone"),
        }
    }
    bases.sort_unstable();
    let mut recovered = Recovered { segments: Vec::new(), bytes_cut: 0, holes: 0 };
    for (at, &base) in bases.iter().enumerate() {
        let verify = at + VERIFIED_SEGMENTS >= bases.len();
        let last = at + 1 == bases.len();
        let segment = recover_segment(disk, dir, base, Mode { verify, last, size_max }, &mut recovered, &mut on_batch)?;
        recovered.segments.push(segment);
    }
    if !bases.is_empty() {
        disk.sync_dir(dir)?;
    }
    Ok(recovered)
}

#[derive(Clone, Copy)]
struct Mode {
    verify: bool,
    last: bool,
    size_max: usize,
}

fn recover_segment(
    disk: &dyn Disk,
    dir: &Path,
    base: i64,
    mode: Mode,
    totals: &mut Recovered,
    on_batch: &mut impl FnMut(&BatchHeader),
) -> io::Result<Segment> {
    let mut segment = Segment::empty(dir, base);
    let path = segment.source().path().to_owned();
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let file_len = file.metadata()?.len();
    scan(&file, file_len, mode, &mut segment, on_batch)?;
    for hole in segment.holes() {
        totals.holes += 1;
        let (from, to) = (hole.first_offset, hole.next_offset);
        tracing::error!(file = %path.display(), position = hole.start, bytes = hole.end - hole.start, offset = from,
            next_offset = to, "unreadable bytes amid good batches: left in place, readers skip these offsets");
    }
    let rest = file_len - segment.len();
    if rest > 0 && mode.last {
        tracing::warn!(file = %path.display(), bytes = rest, next_offset = segment.next_offset(),
            "torn tail cut off: it was not synced, so nothing in it was answered");
        file.set_len(segment.len())?;
        totals.bytes_cut += rest;
    } else if rest > 0 {
        totals.holes += 1;
        tracing::error!(file = %path.display(), position = segment.len(), bytes = rest,
            offset = segment.next_offset(), "unreadable end of a closed segment: left in place");
    }
    if mode.verify {
        // A process that was killed leaves batches in the page cache that were never synced. They are about to be
        // shown to readers and answered to producers that send again: make them last first.
        disk.sync_file(&file)?;
    }
    segment.synced(segment.len());
    Ok(segment)
}

/// Enters every batch into `segment`; its length ends at the last good one.
fn scan(
    file: &File,
    file_len: u64,
    mode: Mode,
    segment: &mut Segment,
    on_batch: &mut impl FnMut(&BatchHeader),
) -> io::Result<()> {
    // Whole batches are read in large steps; for headers alone a page is enough.
    let mut window = Window::new(file, file_len, if mode.verify { 1 << 20 } else { 4 << 10 });
    let mut position = 0;
    let mut amid_bad = false;
    while position < file_len {
        let header = window.get(position, HEADER_LEN)?.and_then(|bytes| BatchHeader::read(bytes).ok());
        let fits = header.filter(|header| is_here(header, segment, amid_bad, position, file_len));
        let good = match fits {
            Some(header) if mode.verify || amid_bad => {
                let batch = window.get(position, header.size)?;
                batch.is_some_and(|batch| header.crc_matches(batch)).then_some(header)
            }
            other => other,
        };
        match good {
            Some(header) => {
                segment.note(&header, position);
                on_batch(&header);
                position += header.size as u64;
                amid_bad = false;
            }
            None => {
                amid_bad = true;
                position += step_over(&mut window, header, segment, position, file_len, mode.size_max)?;
            }
        }
    }
    Ok(())
}

/// Whether a header is one that can stand at this place.
fn is_here(header: &BatchHeader, segment: &Segment, amid_bad: bool, position: u64, file_len: u64) -> bool {
    let expected = segment.next_offset();
    let offset_fits = if amid_bad {
        // What a hole swallowed is not known; but offsets do not leap.
        header.base_offset - expected <= i64::from(i32::MAX)
    } else {
        header.base_offset == expected
    };
    let is_plausible = header.magic == 2 && header.last_offset_delta >= 0 && header.base_offset >= expected;
    is_plausible && offset_fits && position + header.size as u64 <= file_len
}

/// How far it is from bad bytes to the next place to try. A header that is clearly ours keeps what it covers to itself:
/// payloads are chosen by strangers and may hold bytes that look like a batch. Otherwise every byte is tried.
fn step_over(
    window: &mut Window<'_>,
    header: Option<BatchHeader>,
    segment: &Segment,
    position: u64,
    end: u64,
    size_max: usize,
) -> io::Result<u64> {
    let is_ours = |header: &BatchHeader| {
        header.magic == 2
            && header.base_offset == segment.next_offset()
            && header.last_offset_delta == header.records_count - 1
            && header.size <= size_max
    };
    let Some(header) = header.filter(is_ours) else { return Ok(1) };
    let true_size = size_by_crc(window, &header, position, end.min(position + size_max as u64))?;
    Ok(true_size.unwrap_or(header.size as u64))
}

/// The length of a batch is not under its CRC. If it is the length that is bad, the batch ends where its CRC says and
/// the next one begins: that is where to go on, not where the length points.
fn size_by_crc(window: &mut Window<'_>, header: &BatchHeader, position: u64, end: u64) -> io::Result<Option<u64>> {
    let mut next = position + HEADER_LEN as u64;
    while let Some(bytes) = window.get(next, HEADER_LEN)?.filter(|_| next < end) {
        let follows = BatchHeader::read(bytes)
            .is_ok_and(|follower| follower.magic == 2 && follower.base_offset == header.last_offset() + 1);
        let size = next - position;
        if follows && window.get(position, size as usize)?.is_some_and(|batch| header.crc_matches(batch)) {
            return Ok(Some(size));
        }
        next += 1;
    }
    Ok(None)
}

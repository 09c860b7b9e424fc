//! Recovery of a partition's directory: finds the valid batches, the torn tail to cut, and the rot.
//!
//! The last two segments are read whole, with every checksum verified: a segment is only closed when the previous one is
//! synced, so a crash can only have torn these two. Older segments are walked by the heads of their entries: a read verifies
//! their checksums, and has a segment with damage read again ([`read_again`]). If the walk stops
//! at damage, the spool's reader scans the whole segment. Unreadable bytes are a torn tail if nothing readable follows them
//! in the last segment, and the note of the partition's end does not say that more was synced: they are cut off, and nothing
//! in them was ever answered. Otherwise they are rot: they stay in the file, are reported, and readers step over them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::aside;
use super::batch::{BatchHeader, HEADER_LEN};
use super::damage::{Damage, Teller};
use super::disk::Disk;
use super::note;
use super::read::{Window, stands};
use super::segment::{FIRST, Hole, Segment, Source, base_offset_of, file_name, fresh_salt, header_bytes};
use forebay_spool::{ALIGN, BATCH_AT, Header, HeaderError, claims_batch, scan};

/// The number of segments, counted from the last, in which recovery verifies every CRC.
const VERIFIED_SEGMENTS: usize = 2;
/// The largest size of a segment: `segment_bytes` is at most a gibibyte, and one batch may exceed it.
const SEGMENT_BYTES_MAX: u64 = (1 << 30) + (32 << 20);

/// A partition as recovered from its directory.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The segments by offset; empty if nothing was ever written.
    pub(crate) segments: Vec<Segment>,
    /// Bytes cut off the end.
    pub(crate) bytes_cut: u64,
    /// Number of unreadable ranges left in place.
    pub(crate) holes: usize,
    /// Number of files that were misnamed, are missing, or cannot be read at all.
    pub(crate) files: u64,
}

/// Reads the directory of a partition. `on_batch` gets every batch header in order. Misnamed segments get their own names
/// back. Where records are missing at the end, the next ones follow after them: their offsets are not used again.
///
/// # Errors
/// The disk's errors, and a segment of another version.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    partition: u32,
    teller: &Teller,
    mut on_batch: impl FnMut(&BatchHeader),
) -> io::Result<Recovered> {
    let noted = note::read(dir);
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == note::FILE {
            continue;
        }
        match name.to_str().and_then(base_offset_of) {
            // Links are followed. Opening a FIFO would block forever.
            Some(base) if std::fs::metadata(entry.path())?.is_file() => bases.push(base),
            _ => tracing::warn!(dir = %dir.display(), ?name, "not a segment; ignored"),
        }
    }
    let files = restore_names(dir, &mut bases, teller)?;
    bases.sort_unstable();
    let mut recovered = Recovered { segments: Vec::new(), bytes_cut: 0, holes: 0, files };
    let mut whole_to = None;
    for (at, &base) in bases.iter().enumerate() {
        let verify = at + VERIFIED_SEGMENTS >= bases.len();
        let last = at + 1 == bases.len();
        let holes = recovered.holes;
        let mode = Mode { verify, last, partition, noted: noted.unwrap_or(0) };
        let segment = recover_segment(disk, dir, base, mode, (&mut recovered, teller), &mut on_batch)?;
        if let Some((before, _)) = recovered.segments.last().zip(whole_to).filter(|(_, to)| *to < base) {
            recovered.files += 1;
            let reason = "segments are missing between two others; readers skip these offsets";
            teller.tell(&Damage { file: dir, offsets: Some((before.next_offset(), base)), reason });
        }
        // After damage offsets are missing too, which was reported.
        whole_to = (recovered.holes == holes).then(|| segment.next_offset());
        recovered.segments.push(segment);
    }
    let end = recovered.segments.last().map_or(0, Segment::next_offset);
    let missing = noted.filter(|noted| *noted > end);
    if let Some(noted) = missing {
        recovered.files += 1;
        let reason = "records that were on the disk are missing at the end of a partition: its newest segment is gone, was emptied or is \
                      damaged; readers skip these offsets";
        teller.tell(&Damage { file: dir, offsets: Some((end, noted)), reason });
        let mut next = Segment::create(disk, dir, partition, noted)?;
        next.synced(next.len());
        next.close();
        recovered.segments.push(next);
    }
    if !recovered.segments.is_empty() {
        disk.sync_dir(dir)?;
    }
    if noted.unwrap_or(0) < end {
        // All that was found is on the disk now. Without the note a later start notices less.
        let _ = note::make(dir).and_then(|()| note::write(dir, end));
    }
    Ok(recovered)
}

/// Reads a segment's synced bytes again, each of them: a read has met damage there. Offsets of the result count from `base`.
pub(crate) fn read_again(source: &Source, base: i64, synced_len: u64) -> io::Result<Segment> {
    let file = source.open()?;
    let len = file.metadata()?.len().min(synced_len);
    let dir = source.path().parent().unwrap_or(Path::new("."));
    let mut segment = Segment::empty(dir, base, source.salt());
    walk(&file, len, true, &mut segment, &mut |_: &BatchHeader| {})?;
    Ok(segment)
}

/// Renames segments that have another segment's name according to their headers, and returns their number.
fn restore_names(dir: &Path, bases: &mut Vec<i64>, teller: &Teller) -> io::Result<u64> {
    let (mut renamed, mut at) = (0, 0);
    while let Some(base) = bases.get(at).copied() {
        let path = dir.join(file_name(base));
        let Some(own) = own_base(&path)?.filter(|own| *own != base) else {
            at += 1;
            continue;
        };
        let place = dir.join(file_name(own));
        let tell = |file: &Path, reason: &str| teller.tell(&Damage { file, offsets: None, reason });
        renamed += 1;
        if !bases.contains(&own) {
            aside::rename(&path, &place)?;
            bases[at] = own;
            tell(&place, "a segment had another name than its header says; it was renamed");
        } else if own_base(&place)? == Some(own) {
            let to = aside::set_aside(&path, "copy")?;
            bases.swap_remove(at);
            tell(&to, "a segment was there twice; the other one is kept under this name");
        } else {
            // The segment that has come to this name is checked next.
            aside::exchange(&path, &place)?;
            tell(&path, "two segments had changed names; they were changed back");
        }
    }
    Ok(renamed)
}

/// The base offset in a segment's header; `None`: the header is damaged.
fn own_base(path: &Path) -> io::Result<Option<i64>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; file.metadata()?.len().min(FIRST) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Header::decode(&bytes).ok().and_then(|header| i64::try_from(header.segment).ok()))
}

#[derive(Clone, Copy)]
struct Mode {
    verify: bool,
    last: bool,
    partition: u32,
    /// All records before this offset were on the disk.
    noted: i64,
}

fn recover_segment(
    disk: &dyn Disk,
    dir: &Path,
    base: i64,
    mode: Mode,
    (totals, teller): (&mut Recovered, &Teller),
    on_batch: &mut impl FnMut(&BatchHeader),
) -> io::Result<Segment> {
    let path = Segment::empty(dir, base, None).source().path().to_owned();
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let file_len = file.metadata()?.len();
    let salt = salt(&file, file_len, base)?;
    let mut segment = Segment::empty(dir, base, salt);
    walk(&file, file_len, mode.verify, &mut segment, on_batch)?;
    let tell = |file: &Path, offsets, reason: &str| teller.tell(&Damage { file, offsets, reason });
    for hole in segment.holes() {
        totals.holes += 1;
        tell(&path, Some((hole.first_offset, hole.next_offset)), &unreadable(hole));
    }
    if salt.is_none() && segment.is_empty() && mode.last && file_len > FIRST && end_of_data(&file, file_len)? > 0 {
        drop(file);
        let to = aside::set_aside(&path, "damaged")?;
        totals.files += 1;
        tell(&to, None, "nothing of the last segment can be read; it is kept under this name");
        return Segment::create(disk, dir, mode.partition, base);
    }
    if salt.is_none() && segment.is_empty() && mode.last {
        // The file was cut short at creation: there was never a batch in it.
        segment = Segment::empty(dir, base, Some(fresh_salt()));
        file.set_len(0)?;
        disk.write(&file, &header_bytes(mode.partition, base, segment.source().salt().unwrap_or_default()), 0)?;
        totals.bytes_cut += file_len;
    } else if salt.is_none() {
        totals.holes += 1;
        tell(
            &path,
            None,
            "the segment's header is damaged; it is left in place, batches are verified by their own checksums",
        );
    }
    let rest = file.metadata()?.len().saturating_sub(segment.len());
    if rest > 0 && mode.last && segment.next_offset() >= mode.noted {
        tracing::warn!(file = %path.display(), bytes = rest, next_offset = segment.next_offset(),
            "truncated an incomplete write at the end; nothing in it had been acknowledged");
        file.set_len(segment.len())?;
        totals.bytes_cut += rest;
    } else if rest > 0 {
        totals.holes += 1;
        let reason = format!(
            "{rest} bytes at the end, from position {} on, cannot be read; they are left in place",
            segment.len()
        );
        tell(&path, Some((segment.next_offset(), segment.next_offset())), &reason);
    }
    if mode.verify {
        // A killed process leaves batches in the page cache that were never synced. They are about to be shown to readers
        // and answered to producers that repeat them, so they are made durable first.
        disk.sync_file(&file)?;
    }
    segment.synced(segment.len());
    Ok(segment)
}

/// A hole in words.
pub(crate) fn unreadable(hole: &Hole) -> String {
    let (start, bytes) = (hole.start, hole.end - hole.start);
    format!("{bytes} bytes at position {start} cannot be read; they are left in place, readers skip these offsets")
}

/// The salt in the header; `None`: the header is damaged.
fn salt(file: &File, file_len: u64, base: i64) -> io::Result<Option<u64>> {
    let mut bytes = vec![0; file_len.min(FIRST) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    match Header::decode(&bytes) {
        Ok(header) if header.segment == base.unsigned_abs() => Ok(Some(header.salt)),
        Err(error @ (HeaderError::Version(_) | HeaderError::Features(_))) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Ok(_) | Err(HeaderError::Damaged) => Ok(None),
    }
}

/// Adds every batch to `segment`; its length ends at the last valid one.
fn walk(
    file: &File,
    file_len: u64,
    verify: bool,
    segment: &mut Segment,
    on_batch: &mut impl FnMut(&BatchHeader),
) -> io::Result<()> {
    // Whole batches are read in large steps; for heads alone a page is enough.
    let mut window = Window::new(file, file_len, if verify { 1 << 20 } else { 4 << 10 });
    let salt = segment.source().salt();
    let mut position = FIRST;
    while position < file_len {
        let head = window.get(position, BATCH_AT + HEADER_LEN)?.unwrap_or_default();
        let header = head.get(BATCH_AT..).and_then(|batch| BatchHeader::read(batch).ok());
        let header = header.filter(|header| claims_batch(head, salt).is_some_and(|(batch, _)| batch == header.size));
        let Some((header, len)) = header.zip(claims_batch(head, salt).map(|(_, len)| len)) else { break };
        if !is_next(&header, segment, false) || position + len as u64 > file_len {
            break;
        }
        if verify || salt.is_none() {
            let entry = window.get(position, len)?;
            if !entry.is_some_and(|entry| stands(entry, salt, position)) {
                break;
            }
        }
        segment.note(&header, position);
        on_batch(&header);
        position += len as u64;
    }
    if position < file_len { search(file, file_len, position, segment, on_batch) } else { Ok(()) }
}

/// Continues after unreadable bytes, entry by entry, as the spool's own recovery does.
fn search(
    file: &File,
    file_len: u64,
    from: u64,
    segment: &mut Segment,
    on_batch: &mut impl FnMut(&BatchHeader),
) -> io::Result<()> {
    // A file may claim any length.
    let end = end_of_data(file, file_len)?.next_multiple_of(ALIGN as u64).min(file_len).min(SEGMENT_BYTES_MAX);
    let mut bytes = vec![0; end as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let salt = segment.source().salt();
    let found = match salt {
        Some(salt) => scan(&bytes, segment.base_offset().unsigned_abs(), salt, Some(end)).entries,
        None => unsalted(&bytes),
    };
    for position in found.into_iter().filter(|position| *position >= from) {
        let entry = bytes.get(position as usize..).unwrap_or_default();
        let Some((batch, _)) = claims_batch(entry, salt) else { continue };
        let header = entry.get(BATCH_AT..).and_then(|batch| BatchHeader::read(batch).ok());
        if let Some(header) = header.filter(|header| header.size == batch && is_next(header, segment, true)) {
            segment.note(&header, position);
            on_batch(&header);
        }
    }
    Ok(())
}

/// The end of the last nonzero byte.
fn end_of_data(file: &File, file_len: u64) -> io::Result<u64> {
    let mut piece = vec![0; 64 << 10];
    let mut end = file_len;
    while end > 0 {
        let from = end.saturating_sub(piece.len() as u64);
        let piece = &mut piece[..(end - from) as usize];
        file.read_exact_at(piece, from)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

/// Positions of batches in a segment with a damaged header: those with a correct checksum of their own.
fn unsalted(bytes: &[u8]) -> Vec<u64> {
    let (mut found, mut at) = (Vec::new(), FIRST as usize);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let whole = claims_batch(rest, None).and_then(|(_, len)| rest.get(..len));
        match whole.filter(|entry| stands(entry, None, at as u64)) {
            Some(entry) => {
                found.push(at as u64);
                at += entry.len();
            }
            None => at += ALIGN,
        }
    }
    found
}

/// Whether a batch is valid at this point.
fn is_next(header: &BatchHeader, segment: &Segment, behind_damage: bool) -> bool {
    let expected = segment.next_offset();
    let offset_fits = if behind_damage {
        // The number of lost offsets is not known, but offsets do not leap.
        header.base_offset >= expected && header.base_offset - expected <= i64::from(i32::MAX)
    } else {
        header.base_offset == expected
    };
    header.magic == 2 && header.last_offset_delta >= 0 && offset_fits
}

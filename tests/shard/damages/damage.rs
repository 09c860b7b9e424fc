//! Damage to a data directory: what disks, file systems, copies and hands do to files, and what only a program writes, with right
//! checksums.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use forebay::spool::{ALIGN, Entry, HEADER_BYTES, Header, entry_at, scan};
use serde_json::{Value, json};

use super::template::{SHARDS, Template};

/// What was done, in a few words: the kind, and the file.
pub(super) struct Done {
    pub(super) kind: &'static str,
    pub(super) what: String,
    /// Nothing may be lost by it.
    pub(super) is_harmless: bool,
    /// Checksums are right, so nobody can tell that something else stood there: what is gone by that is not judged.
    pub(super) is_forged: bool,
}

impl Done {
    fn of(kind: &'static str, path: &Path) -> Self {
        Self { kind, what: path.display().to_string(), is_harmless: false, is_forged: false }
    }
}

const RANDOM: [&str; 18] = [
    "bits flipped",
    "bits flipped",
    "a range zeroed",
    "a range overwritten",
    "cut short",
    "emptied",
    "grown, sparse",
    "removed",
    "renamed",
    "another number too",
    "two exchanged",
    "an older copy",
    "a pipe instead",
    "a directory instead",
    "a link to it instead",
    "a link to nowhere instead",
    "bytes put in or taken out",
    "left over or foreign",
];

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "segment")
}

/// A file to damage: mostly a segment.
fn choose(template: &Template, random: &mut Rng) -> PathBuf {
    let segments = random.u8(..10) < 7;
    let files: Vec<_> = template.files.keys().filter(|path| is_segment(path) == segments).collect();
    files[random.usize(..files.len())].clone()
}

/// Where what was written ends.
fn written(bytes: &[u8]) -> usize {
    let content = bytes.len().saturating_sub(HEADER_BYTES);
    bytes[..content].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn mkfifo(path: &Path) {
    let done = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(done.success(), "{}", path.display());
}

/// One random damage of a directory that the template was written to.
pub(super) fn random(template: &Template, dir: &Path, random: &mut Rng) -> Done {
    let kind = RANDOM[random.usize(..RANDOM.len())];
    let of = choose(template, random);
    let path = dir.join(&of);
    let mut done = Done::of(kind, &of);
    // An earlier damage of the same case may have made something else of it.
    let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 30);
    let Some(mut bytes) = is_file.then(|| fs::read(&path).expect("a file")) else { return done };
    let mut places = |bytes: &[u8]| {
        let end = if random.u8(..8) == 0 { bytes.len() } else { written(bytes).max(bytes.len().min(HEADER_BYTES)) };
        random.usize(..end.max(1))
    };
    let at = places(&bytes);
    let put = |bytes: &[u8]| fs::write(&path, bytes).expect("written");
    match kind {
        "bits flipped" if !bytes.is_empty() => {
            let mut at = at;
            for _ in 0..=random.u8(..3) {
                bytes[at] ^= 1 << random.u8(..8);
                at = (at + random.usize(..40)).min(bytes.len() - 1);
            }
            put(&bytes);
        }
        "a range zeroed" | "a range overwritten" => {
            let end = (at + random.usize(1..16 << 10)).min(bytes.len());
            let is_zeroed = kind == "a range zeroed";
            bytes[at.min(end)..end].iter_mut().for_each(|byte| *byte = if is_zeroed { 0 } else { random.u8(..) });
            put(&bytes);
        }
        "cut short" => {
            OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(at as u64)).unwrap_or(())
        }
        "emptied" => put(&[]),
        "grown, sparse" => {
            let more = [1, 511, 64 << 10, 8 << 20, 1 << 30][random.usize(..5)];
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|file| file.set_len(bytes.len() as u64 + more)).unwrap_or(());
            done.is_harmless = is_segment(&of);
        }
        "removed" => gone(&path),
        "renamed" | "another number too" => {
            let number = random.u64(..12);
            let to = match random.u8(..6) {
                0 => path.with_extension("segment.bak"),
                _ => path.with_file_name(format!("{number:020}.segment")),
            };
            if is_segment(&of) && !to.exists() {
                fs::copy(&path, &to).map(drop).unwrap_or(());
                if kind == "renamed" {
                    gone(&path);
                }
            }
        }
        "two exchanged" => {
            let other = dir.join(choose(template, random));
            let aside = dir.join("aside");
            if other != path && other.exists() && path.exists() {
                fs::rename(&path, &aside).expect("renamed");
                fs::rename(&other, &path).expect("renamed");
                fs::rename(&aside, &other).expect("renamed");
            }
        }
        "an older copy" => match template.older.get(&of) {
            Some(older) => put(older),
            None => gone(&path),
        },
        "a pipe instead" => {
            gone(&path);
            mkfifo(&path);
        }
        "a directory instead" => {
            gone(&path);
            fs::create_dir(&path).expect("made");
        }
        "a link to it instead" => {
            let to = dir.join(format!("elsewhere-{}", random.u32(..)));
            fs::rename(&path, &to).expect("renamed");
            symlink(&to, &path).expect("linked");
            done.is_harmless = true;
        }
        "a link to nowhere instead" => {
            gone(&path);
            symlink(dir.join("nowhere"), &path).expect("linked");
        }
        "bytes put in or taken out" => {
            let some = random.usize(1..600);
            if random.bool() {
                let end = (at + some).min(bytes.len());
                bytes.drain(at.min(end)..end);
            } else {
                let more: Vec<u8> = (0..some).map(|_| random.u8(..)).collect();
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), more);
            }
            put(&bytes);
        }
        "left over or foreign" => {
            let (name, what) = left_over(dir, random);
            (done.what, done.is_harmless) = (format!("{name} ({what})"), true);
        }
        _ => {}
    }
    done
}

fn gone(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

/// Something beside what belongs there: what a crash has left, or what somebody has put there.
fn left_over(dir: &Path, random: &mut Rng) -> (&'static str, &'static str) {
    const NAMES: [&str; 11] = [
        "spool/0/newest.new",
        "spool/1/newest.new",
        "spool/0/shard.new",
        "spool/manifest.new",
        "lock",
        "spool/0/00000000000000000000.damaged",
        "spool/0/99999999999999999999.segment",
        "spool/1/notes.txt",
        ".spool.making",
        ".spool.replaced",
        "spool.damaged",
    ];
    let name = NAMES[random.usize(..NAMES.len())];
    let path = dir.join(name);
    if fs::symlink_metadata(&path).is_ok() {
        return (name, "there already");
    }
    let what = ["an empty file", "a file", "a pipe", "a directory", "a link to nowhere"][random.usize(..5)];
    match what {
        "an empty file" => fs::write(&path, b"").expect("written"),
        "a file" => fs::write(&path, [random.u8(..); 100]).expect("written"),
        "a pipe" => mkfifo(&path),
        "a directory" => fs::create_dir(&path).expect("made"),
        _ => symlink(dir.join("nowhere"), &path).expect("linked"),
    }
    (name, what)
}

const CRAFTED: [&str; 12] = [
    "a record with another body",
    "a record with another body",
    "a record cut off",
    "a record cut off",
    "an entry with other numbers",
    "an entry with other numbers",
    "an entry of an unknown kind",
    "a length that cannot be",
    "a header with other numbers",
    "a note with other numbers",
    "a manifest that says something else",
    "a record appended",
];

/// Entries of a segment, and what is needed to seal others.
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Header,
    entries: Vec<u64>,
    end: u64,
    group: u64,
}

impl Segment {
    fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let header = Header::decode(&bytes).ok()?;
        let content = bytes.len().checked_sub(HEADER_BYTES)?;
        let scan = scan(&bytes[..content], header.segment, header.salt, None);
        let (entries, end, group) = (scan.entries, scan.end, scan.group);
        Some(Self { path: path.to_owned(), bytes, header, entries, end, group })
    }

    fn kind(&self, position: u64) -> u8 {
        self.bytes[position as usize + 4]
    }

    /// Entries of records, with some payload.
    fn records(&self) -> Vec<u64> {
        self.entries.iter().copied().filter(|at| self.kind(*at) == 8).collect()
    }

    /// Seals the entry at a place after its payload was changed, and the group that it is of.
    fn seal(&mut self, position: u64) {
        seal_one(&mut self.bytes, self.header.salt, position);
        let is_behind = |at: &&u64| **at >= position && self.kind(**at) == 13;
        let Some(commit) = self.entries.iter().find(is_behind).copied() else { return };
        let Some((Entry::Commit { start, .. }, _)) = entry_at(&self.bytes, self.header.salt, commit) else { return };
        let (mut sum, mut count) = (0, 0u32);
        for at in self.entries.iter().filter(|at| (start..commit).contains(at)) {
            let crc = &self.bytes[*at as usize + 8..][..4];
            (sum, count) = (crc32c::crc32c_append(sum, crc), count + 1);
        }
        let at = commit as usize + 12 + 24;
        self.bytes[at..at + 4].copy_from_slice(&count.to_be_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&sum.to_be_bytes());
        seal_one(&mut self.bytes, self.header.salt, commit);
    }

    /// A group with this entry behind all others.
    fn append(&mut self, kind: u8, payload: &[u8]) {
        let start = self.end as usize;
        let mut entry = |at: usize, kind: u8, payload: &[u8], salt: u64| {
            let len = (12 + payload.len()).next_multiple_of(ALIGN);
            self.bytes[at..at + len].fill(0);
            self.bytes[at..at + 4].copy_from_slice(&(payload.len() as u32).to_be_bytes());
            self.bytes[at + 4] = kind;
            self.bytes[at + 5..at + 8].copy_from_slice(&mark(salt));
            self.bytes[at + 12..at + 12 + payload.len()].copy_from_slice(payload);
            seal_one(&mut self.bytes, salt, at as u64);
            at + len
        };
        let commit = entry(start, kind, payload, self.header.salt);
        let crc = crc32c::crc32c_append(0, &self.bytes[start + 8..start + 12]);
        let mut said = Vec::new();
        said.extend_from_slice(&(self.group + 1).to_be_bytes());
        said.extend_from_slice(&(start as u64).to_be_bytes());
        said.extend_from_slice(&1_790_000_000_000i64.to_be_bytes());
        said.extend_from_slice(&1u32.to_be_bytes());
        said.extend_from_slice(&crc.to_be_bytes());
        let mut entry = |at: usize, kind: u8, payload: &[u8], salt: u64| {
            self.bytes[at..at + 12 + payload.len()].fill(0);
            self.bytes[at..at + 4].copy_from_slice(&(payload.len() as u32).to_be_bytes());
            self.bytes[at + 4] = kind;
            self.bytes[at + 5..at + 8].copy_from_slice(&mark(salt));
            self.bytes[at + 12..at + 12 + payload.len()].copy_from_slice(payload);
            seal_one(&mut self.bytes, salt, at as u64);
        };
        entry(commit, 13, &said, self.header.salt);
    }

    fn put(&self) {
        fs::write(&self.path, &self.bytes).expect("written");
    }
}

fn mark(salt: u64) -> [u8; 3] {
    let [_, a, b, c, ..] = salt.to_be_bytes();
    [a | 1, b, c]
}

/// The checksum of an entry, as `docs/internals/SPOOL.md` has it.
fn seal_one(bytes: &mut [u8], salt: u64, position: u64) {
    let at = position as usize;
    let len = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    let whole = (12 + len).next_multiple_of(ALIGN);
    let Some(entry) = bytes.get(at..at + whole) else { return };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_be_bytes()), &position.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &entry[..8]), &entry[12..]);
    bytes[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
}

/// Numbers that break what does not look at them.
fn number(random: &mut Rng) -> u64 {
    let most = [
        0,
        1,
        u64::from(u32::MAX),
        50_000_000,
        1 << 50,
        (1 << 60) - 1,
        1 << 60,
        i64::MAX as u64,
        u64::MAX - 1,
        u64::MAX,
    ];
    if random.bool() { most[random.usize(..most.len())] } else { random.u64(..200_000) }
}

/// Other bytes in a payload of the same length.
fn change(payload: &mut [u8], random: &mut Rng) {
    if payload.is_empty() {
        return;
    }
    for _ in 0..=random.u8(..3) {
        let at = random.usize(..payload.len());
        match random.u8(..4) {
            0 => payload[at] = random.u8(..),
            1 => payload[at] = [0, 0x7f, 0x80, 0xff][random.usize(..4)],
            2 => {
                let more = number(random).to_be_bytes();
                payload[at..].iter_mut().zip(more).for_each(|(byte, to)| *byte = to);
            }
            _ => payload[at..].iter_mut().take(random.usize(1..40)).for_each(|byte| *byte = random.u8(..)),
        }
    }
}

/// One crafted damage of a directory that the template was written to.
pub(super) fn crafted(template: &Template, dir: &Path, random: &mut Rng) -> Done {
    let kind = CRAFTED[random.usize(..CRAFTED.len())];
    let segments: Vec<_> = template.files.keys().filter(|path| is_segment(path)).collect();
    let of = segments[random.usize(..segments.len())];
    let mut done = Done::of(kind, of);
    done.is_forged = true;
    match kind {
        "a header with other numbers" => {
            done.what += &header(&dir.join(of), random);
            return done;
        }
        "a note with other numbers" => {
            let shard = random.usize(..SHARDS);
            done.what = format!("spool/{shard}/newest");
            note(&dir.join(&done.what), random);
            return done;
        }
        "a manifest that says something else" => {
            let names = ["spool/manifest.json", "spool/0/shard.json", "spool/1/shard.json"];
            done.what = names[random.usize(..3)].to_owned();
            done.what += &manifest(&dir.join(&done.what), random);
            return done;
        }
        _ => {}
    }
    let Some(mut segment) = Segment::read(&dir.join(of)) else { return done };
    let records = segment.records();
    let any: Vec<u64> = segment.entries.iter().copied().filter(|at| segment.kind(*at) != 13).collect();
    let from = if kind.starts_with("a record") { &records } else { &any };
    if from.is_empty() {
        return done;
    }
    let at = from[random.usize(..from.len())];
    let place = at as usize;
    let len = u32::from_be_bytes(segment.bytes[place..place + 4].try_into().expect("four")) as usize;
    done.what += &format!(" at {at}, kind {}", segment.kind(at));
    match kind {
        // Behind the number, which says whose it is.
        "a record with another body" => change(&mut segment.bytes[place + 20..place + 12 + len], random),
        "a record cut off" => {
            // The rest of its place is an entry that may be skipped.
            let keep = 8 + random.usize(..(len - 8).max(1));
            let whole = (12 + len).next_multiple_of(ALIGN);
            let first = (12 + keep).next_multiple_of(ALIGN);
            segment.bytes[place..place + 4].copy_from_slice(&(keep as u32).to_be_bytes());
            segment.bytes[place + 12 + keep..place + whole].fill(0);
            if whole - first >= 12 {
                let (filler, salt) = (place + first, segment.header.salt);
                segment.bytes[filler..filler + 4].copy_from_slice(&((whole - first - 12) as u32).to_be_bytes());
                segment.bytes[filler + 4] = 200;
                segment.bytes[filler + 5..filler + 8].copy_from_slice(&mark(salt));
                seal_one(&mut segment.bytes, salt, filler as u64);
                let index = segment.entries.iter().position(|known| *known == at).expect("one of them");
                segment.entries.insert(index + 1, filler as u64);
            }
        }
        "an entry with other numbers" => change(&mut segment.bytes[place + 12..place + 12 + len], random),
        "an entry of an unknown kind" => {
            segment.bytes[place + 4] = [0, 15, 17, 18, 19, 28, 60, 127, 128, 200, 255][random.usize(..11)];
        }
        "a length that cannot be" => {
            let to = number(random) as u32;
            segment.bytes[place..place + 4].copy_from_slice(&to.to_be_bytes());
            done.is_forged = false;
        }
        _ => {
            let number = if random.bool() { at } else { number(random) };
            let mut payload = number.to_be_bytes().to_vec();
            payload.extend_from_slice(&segment.bytes[place + 20..place + 12 + len]);
            if random.bool() {
                change(&mut payload[8..], random);
            }
            if segment.end as usize + payload.len() + 200 < segment.bytes.len() {
                segment.append(8, &payload);
            }
        }
    }
    if kind != "a record appended" {
        segment.seal(at);
    }
    segment.put();
    done
}

/// A header with right checksums that says something else, in one copy or both.
fn header(path: &Path, random: &mut Rng) -> String {
    let Some(Segment { mut bytes, mut header, .. }) = Segment::read(path) else { return String::new() };
    let what = ["version", "features", "shard", "number", "previous", "checkpoints", "bytes", "directory", "optional"];
    let what = what[random.usize(..what.len())];
    match what {
        "features" => header.features = 1 << random.u8(..32),
        "optional" => header.optional_features = random.u32(..),
        "shard" => header.shard = number(random) as u32,
        "number" => header.segment = number(random),
        "previous" => (header.previous, header.previous_end) = (number(random), number(random)),
        "checkpoints" => header.checkpoints = [(number(random), number(random)), (number(random), number(random))],
        "bytes" => header.bytes = number(random),
        "directory" => header.data_dir_id = random.u128(..),
        _ => {}
    }
    let mut encoded = header.encode();
    if what == "version" {
        encoded[8..10].copy_from_slice(&[3u16, 0, 1, u16::MAX][random.usize(..4)].to_be_bytes());
        let crc = crc32c::crc32c(&encoded[..HEADER_BYTES - 4]);
        encoded[HEADER_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
    }
    let copies = random.u8(1..4);
    if copies & 1 != 0 {
        bytes[..HEADER_BYTES].copy_from_slice(&encoded);
    }
    if copies & 2 != 0 {
        let at = bytes.len() - HEADER_BYTES;
        bytes[at..].copy_from_slice(&encoded);
    }
    fs::write(path, bytes).expect("written");
    format!(": {what}, copies {copies}")
}

fn note(path: &Path, random: &mut Rng) {
    let Ok(mut bytes) = fs::read(path) else { return };
    let Some(body) = bytes.len().checked_sub(4) else { return };
    if random.bool() {
        bytes[body - 8..body].copy_from_slice(&number(random).to_be_bytes());
    } else if let Ok(mut header) = Header::decode(&bytes) {
        match random.u8(..3) {
            0 => header.segment = number(random),
            1 => (header.previous, header.previous_end) = (number(random), number(random)),
            _ => header.salt = number(random),
        }
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    }
    let crc = crc32c::crc32c(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_be_bytes());
    fs::write(path, bytes).expect("written");
}

fn manifest(path: &Path, random: &mut Rng) -> String {
    let Some(mut said) = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
        return String::new();
    };
    let key = ["format", "directory", "shards", "shard", "more"][random.usize(..5)];
    let to = match random.u8(..6) {
        0 => json!("text"),
        1 => Value::Null,
        2 => json!(format!("{:032x}", random.u128(..))),
        3 => json!(-1),
        _ => json!(number(random)),
    };
    let told = format!(": {key} {to}");
    said[key] = to;
    if let Some(all) = said.as_object_mut() {
        all.remove("crc32c");
    }
    if random.u8(..4) > 0 {
        said["crc32c"] = crc32c::crc32c(said.to_string().as_bytes()).into();
    }
    File::create(path).and_then(|file| file.write_all_at(said.to_string().as_bytes(), 0)).expect("written");
    told
}

//! Segment files of one shard, with separate contents in the process, in the page cache and on the platter. A kill
//! loses the first, a power cut the first two, and only a sync moves bytes to the platter.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use forebay::runtime::seam::{SegmentEvent, Segments};

/// The segments of a shard, by number and bytes, and the note beside them.
pub type Folder = (Vec<(u64, Vec<u8>)>, Option<Vec<u8>>);

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
/// Bytes fetched by one read.
const WINDOW: u64 = 4 * PAGE;
const UNREADABLE_AGAIN: u64 = forebay::limits::UNREADABLE_AGAIN.as_nanos() as u64;

/// The bytes of a file. Pages that were never written are zeroes.
#[derive(Clone, Debug, Default)]
struct Image {
    pages: BTreeMap<u64, Rc<Vec<u8>>>,
}

impl Image {
    fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (page, offset) = (at / PAGE, (at % PAGE) as usize);
            let part = bytes.len().min(PAGE as usize - offset);
            let page = self.pages.entry(page).or_insert_with(|| Rc::new(vec![0; PAGE as usize]));
            Rc::make_mut(page)[offset..offset + part].copy_from_slice(&bytes[..part]);
            (at, bytes) = (at + part as u64, &bytes[part..]);
        }
    }

    fn read(&self, mut at: u64, mut into: &mut [u8]) {
        while !into.is_empty() {
            let (page, offset) = (at / PAGE, (at % PAGE) as usize);
            let part = into.len().min(PAGE as usize - offset);
            match self.pages.get(&page) {
                Some(page) => into[..part].copy_from_slice(&page[offset..offset + part]),
                None => into[..part].fill(0),
            }
            at += part as u64;
            into = &mut into[part..];
        }
    }
}

/// A write: offset and bytes.
type Write = (u64, Rc<Vec<u8>>);

#[derive(Clone, Debug, Default)]
struct File {
    bytes: u64,
    /// Contents after a power cut.
    durable: Image,
    /// Contents as the operating system shows them.
    cache: Image,
    /// Contents as this process reads them.
    view: Image,
    /// Writes in the process alone.
    pending: Vec<Write>,
    /// Writes in the kernel, with a sync under way.
    flying: Vec<Write>,
    /// Writes in the page cache, and not on the platter.
    dirty: Vec<Write>,
    /// Whether the process has got the answer that the segment can be used.
    made: bool,
    /// Whether the file is of an earlier process or of a failed sync, and takes no more writes.
    closed: bool,
    /// Sectors that cannot be read.
    bad: BTreeSet<u64>,
}

#[derive(Debug)]
enum Due {
    Created(u64, bool),
    Synced(u64, Vec<u64>, bool),
    Freed(u64),
    Read(u64, u64),
}

/// A part of a segment that the process has asked for. As in the runtime, the part is fetched once for all who ask;
/// sectors that cannot be read stay so for a second; fetched bytes stay at least until the process has had all the
/// answers that it waits for.
#[derive(Clone, Debug)]
enum Window {
    Wanted,
    Loading,
    Ready { unreadable: Vec<u64>, damaged: bool, at: u64 },
}

/// Windows by segment and offset.
type Windows = BTreeMap<(u64, u64), Window>;

/// The faults of a disk, and its speed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Whether syncs fail.
    pub syncs_fail: bool,
    /// Whether segments cannot be created.
    pub creates_fail: bool,
    /// Whether the disk answers nothing.
    pub hangs: bool,
    /// Whether every read fails.
    pub reads_fail: bool,
    /// Bytes that segments may take in all; the rest is taken by other files.
    pub room: Option<u64>,
    /// The longest time to an answer, in nanoseconds.
    pub slowest: u64,
    /// Reads that are answered later, in hundredths.
    pub reads_later: u8,
    /// Whether a kill keeps all written bytes, and a power cut keeps no byte that was not synced.
    pub strict: bool,
}

/// The segment files of one shard.
#[derive(Debug)]
pub struct Disk {
    files: BTreeMap<u64, File>,
    due: BTreeMap<(u64, u64), Due>,
    next_due: u64,
    /// The note beside the segments. The next field: the note that a crash may bring back, as of the last request for a
    /// segment.
    note: Option<Vec<u8>>,
    earlier_note: Option<Vec<u8>>,
    windows: RefCell<Windows>,
    /// Faults and speed of the disk.
    pub health: Health,
    rng: RefCell<fastrand::Rng>,
    /// Simulated time.
    pub time: u64,
    /// Whether the process has started, so that reads no longer block.
    pub started: bool,
    /// Number of successful syncs.
    pub synced: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(rng: fastrand::Rng) -> Self {
        Self {
            files: BTreeMap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            note: None,
            earlier_note: None,
            windows: RefCell::default(),
            health: Health::default(),
            rng: RefCell::new(rng),
            time: 0,
            started: false,
            synced: 0,
        }
    }

    /// A disk with these segments and this note, all on the platter.
    #[must_use]
    pub fn with((segments, note): Folder, rng: fastrand::Rng) -> Self {
        let mut disk = Self::new(rng);
        (disk.earlier_note, disk.note) = (note.clone(), note);
        for (segment, bytes) in segments {
            let mut image = Image::default();
            for (page, part) in bytes.chunks(PAGE as usize).enumerate().filter(|(_, part)| part.iter().any(|b| *b != 0))
            {
                image.write(page as u64 * PAGE, part);
            }
            let (durable, cache) = (image.clone(), image.clone());
            let len = bytes.len() as u64;
            let file = File { bytes: len, durable, cache, view: image, made: true, closed: true, ..File::default() };
            disk.files.insert(segment, file);
        }
        disk
    }

    fn answer_later(&mut self, due: Due) {
        let wait = self.rng.get_mut().u64(..=self.health.slowest);
        self.next_due += 1;
        self.due.insert((self.time + wait, self.next_due), due);
    }

    /// The time of the next answer.
    #[must_use]
    pub fn next_answer_at(&self) -> Option<u64> {
        let first = self.due.first_key_value().map(|((at, _), _)| *at);
        if self.health.hangs { None } else { first }
    }

    /// Schedules the reads that the process has asked for in this turn.
    pub fn turn_ended(&mut self) {
        let windows = self.windows.get_mut();
        let waits = windows.values().any(|window| !matches!(window, Window::Ready { .. }));
        if !waits && !windows.is_empty() && self.rng.get_mut().u8(..3) == 0 {
            windows.retain(|_, window| matches!(window, Window::Ready { unreadable, .. } if !unreadable.is_empty()));
        }
        let mut wanted = Vec::new();
        for (place, window) in windows.iter_mut().filter(|(_, window)| matches!(window, Window::Wanted)) {
            *window = Window::Loading;
            wanted.push(*place);
        }
        for (segment, index) in wanted {
            self.answer_later(Due::Read(segment, index));
        }
    }

    /// The next answer, if it is due.
    pub fn answer(&mut self) -> Option<SegmentEvent> {
        let at = self.next_answer_at().filter(|at| *at <= self.time)?;
        let (_, due) = self.due.pop_first().filter(|((first, _), _)| *first == at)?;
        Some(match due {
            Due::Created(segment, ok) => {
                if let Some(file) = self.files.get_mut(&segment).filter(|_| ok) {
                    file.made = true;
                }
                SegmentEvent::Created {
                    segment,
                    result: if ok { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) },
                }
            }
            Due::Freed(segment) => {
                self.files.remove(&segment);
                SegmentEvent::Freed { segment, result: Ok(()) }
            }
            Due::Read(segment, index) => {
                let sectors = index * WINDOW / SECTOR..(index + 1) * WINDOW / SECTOR;
                let unreadable = match self.files.get(&segment) {
                    Some(_) if self.health.reads_fail => sectors.collect(),
                    Some(file) => file.bad.range(sectors).copied().collect(),
                    None => Vec::new(),
                };
                let (damaged, at) = (!self.health.reads_fail, self.time);
                self.windows.get_mut().insert((segment, index), Window::Ready { unreadable, damaged, at });
                SegmentEvent::Read { segment, at: index * WINDOW }
            }
            Due::Synced(token, segments, ok) => {
                for segment in segments {
                    let Some(file) = self.files.get_mut(&segment) else { continue };
                    for (at, bytes) in std::mem::take(&mut file.flying) {
                        file.cache.write(at, &bytes);
                        if ok {
                            file.durable.write(at, &bytes);
                        } else {
                            file.dirty.push((at, bytes));
                        }
                    }
                    file.closed |= !ok;
                    if ok {
                        for (at, bytes) in std::mem::take(&mut file.dirty) {
                            file.durable.write(at, &bytes);
                        }
                    }
                }
                self.synced += u64::from(ok);
                SegmentEvent::Synced { token, result: if ok { Ok(()) } else { Err(io::Error::other("a bad disk")) } }
            }
        })
    }

    /// Ends the process, while the machine goes on: the kernel has some of the pending writes, and shows its contents,
    /// whether or not they are on the platter.
    pub fn kill(&mut self, rng: &mut fastrand::Rng) {
        self.process_ends(rng);
        for file in self.files.values_mut() {
            let flying = std::mem::take(&mut file.flying);
            let written = if self.health.strict { flying.len() } else { rng.usize(..=flying.len()) };
            for (at, bytes) in flying.into_iter().take(written) {
                file.cache.write(at, &bytes);
                file.dirty.push((at, bytes));
            }
            file.view = file.cache.clone();
        }
    }

    /// Cuts the power: of the bytes that were not synced any sectors are there, some of them torn.
    pub fn power_cut(&mut self, rng: &mut fastrand::Rng) {
        self.process_ends(rng);
        self.files.retain(|_, file| file.made || rng.bool());
        let style = if self.health.strict { 0 } else { rng.u8(..5) };
        for file in self.files.values_mut() {
            let unsynced = std::mem::take(&mut file.dirty).into_iter().chain(std::mem::take(&mut file.flying));
            for (at, bytes) in unsynced.collect::<Vec<_>>() {
                let mut from = 0;
                while from < bytes.len() {
                    let sector = (SECTOR - (at + from as u64) % SECTOR).min((bytes.len() - from) as u64) as usize;
                    let kept = match style {
                        0 | 1 => 0,
                        2 => sector,
                        3 => {
                            if rng.bool() {
                                sector
                            } else {
                                0
                            }
                        }
                        _ => {
                            if rng.u8(..8) == 0 {
                                rng.usize(..=sector)
                            } else {
                                sector
                            }
                        }
                    };
                    file.durable.write(at + from as u64, &bytes[from..from + kept]);
                    from += sector;
                }
            }
            file.cache = file.durable.clone();
            file.view = file.durable.clone();
        }
    }

    fn process_ends(&mut self, rng: &mut fastrand::Rng) {
        for (_, due) in std::mem::take(&mut self.due) {
            if let Due::Freed(segment) = due
                && rng.bool()
            {
                self.files.remove(&segment);
            }
        }
        self.windows.get_mut().clear();
        self.started = false;
        // Drawn from a clone of the stream, so that a note changes no other crash.
        if !self.health.strict && rng.clone().u8(..4) == 0 {
            self.note.clone_from(&self.earlier_note);
        }
        self.earlier_note.clone_from(&self.note);
        for file in self.files.values_mut() {
            file.pending.clear();
            file.closed = true;
        }
    }

    /// Writes back the page cache, as the kernel does within half a minute.
    pub fn write_back(&mut self) {
        for file in self.files.values_mut() {
            for (at, bytes) in std::mem::take(&mut file.dirty) {
                file.durable.write(at, &bytes);
            }
        }
    }

    /// The segments in words, each with its number of written bytes.
    #[must_use]
    pub fn describe(&self) -> String {
        let segments = self.files.keys().map(|segment| format!("{segment}: {}", self.written(*segment)));
        segments.collect::<Vec<_>>().join(", ")
    }

    /// Numbers of the segments.
    #[must_use]
    pub fn segments(&self) -> Vec<u64> {
        self.files.keys().copied().collect()
    }

    /// Numbers of the segments, with the lengths of their files.
    #[must_use]
    pub fn lengths(&self) -> Vec<(u64, u64)> {
        self.files.iter().map(|(segment, file)| (*segment, file.bytes)).collect()
    }

    /// The bytes of a segment as the operating system shows them, up to the last byte that is not zero.
    #[must_use]
    pub fn bytes(&self, segment: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.written(segment) as usize];
        if let Some(file) = self.files.get(&segment) {
            file.cache.read(0, &mut bytes);
        }
        bytes
    }

    /// A part of a segment, as the operating system shows it, or as a power cut would leave it.
    #[must_use]
    pub fn part(&self, segment: u64, at: u64, count: usize, on_platter: bool) -> Vec<u8> {
        let mut bytes = vec![0; count];
        if let Some(file) = self.files.get(&segment) {
            if on_platter { &file.durable } else { &file.cache }.read(at, &mut bytes);
        }
        bytes
    }

    /// Bytes that the segments take.
    #[must_use]
    pub fn bytes_taken(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// Removes a segment without a request.
    pub fn lose(&mut self, segment: u64) {
        self.files.remove(&segment);
    }

    /// The offset after the last byte of a segment that is not zero.
    #[must_use]
    pub fn written(&self, segment: u64) -> u64 {
        let Some(file) = self.files.get(&segment) else { return 0 };
        let last = file.cache.pages.iter().rev().find_map(|(page, bytes)| {
            bytes.iter().rposition(|byte| *byte != 0).map(|place| page * PAGE + place as u64 + 1)
        });
        last.unwrap_or(0)
    }

    /// Makes a sector of a segment unreadable.
    pub fn damage(&mut self, segment: u64, sector: u64) {
        if let Some(file) = self.files.get_mut(&segment) {
            file.bad.insert(sector);
        }
    }

    /// Makes a sector readable again.
    pub fn repair(&mut self) {
        self.files.values_mut().for_each(|file| file.bad.clear());
    }

    /// Flips bits of a byte, on the platter and in the cache.
    pub fn rot(&mut self, segment: u64, at: u64) {
        if let Some(file) = self.files.get_mut(&segment) {
            let mut byte = [0];
            file.cache.read(at, &mut byte);
            byte[0] ^= 0x55;
            file.cache.write(at, &byte);
            file.durable.write(at, &byte);
            file.view.write(at, &byte);
        }
    }
}

/// The error of a read: the disk gave other bytes at the same time (`damaged`), or none.
fn unreadable(damaged: bool) -> io::Error {
    if damaged { io::ErrorKind::InvalidData.into() } else { io::Error::from_raw_os_error(5) }
}

impl Segments for Disk {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.earlier_note.clone_from(&self.note);
        let room = self.health.room.is_none_or(|room| self.bytes_taken() + bytes <= room);
        let ok = !self.health.creates_fail && room;
        if ok {
            let old = self.files.insert(segment, File { bytes, ..File::default() });
            assert!(old.is_none(), "segment {segment} created twice");
        }
        self.answer_later(Due::Created(segment, ok));
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        if file.closed || !file.made {
            return Err(io::Error::other("the segment cannot be written"));
        }
        if at + bytes.len() as u64 > file.bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.view.write(at, bytes);
        file.pending.push((at, Rc::new(bytes.to_vec())));
        Ok(())
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        let mut ok = !self.health.syncs_fail;
        for segment in segments {
            let Some(file) = self.files.get_mut(segment) else { continue };
            if file.closed {
                ok = false;
                continue;
            }
            let pending = std::mem::take(&mut file.pending);
            file.flying.extend(pending);
        }
        self.answer_later(Due::Synced(token, segments.to_vec(), ok));
    }

    fn free(&mut self, segment: u64) {
        self.answer_later(Due::Freed(segment));
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.note.clone()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.note = Some(note.to_vec());
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.files.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        let end = at + into.len() as u64;
        if end > file.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if into.is_empty() {
            return Ok(());
        }
        let sectors = at / SECTOR..=(end - 1) / SECTOR;
        if !self.started {
            if self.health.reads_fail || file.bad.range(sectors).next().is_some() {
                return Err(unreadable(!self.health.reads_fail));
            }
            file.view.read(at, into);
            return Ok(());
        }
        let mut windows = self.windows.borrow_mut();
        let mut missing = false;
        for index in at / WINDOW..=(end - 1) / WINDOW {
            match windows.get_mut(&(segment, index)) {
                Some(Window::Ready { unreadable: bad, damaged, at }) if bad.iter().any(|bad| sectors.contains(bad)) => {
                    if self.time - *at < UNREADABLE_AGAIN {
                        return Err(unreadable(*damaged));
                    }
                }
                Some(Window::Ready { .. }) => continue,
                Some(Window::Wanted | Window::Loading) => {
                    missing = true;
                    continue;
                }
                None => {
                    let bad = self.health.reads_fail || file.bad.range(sectors.clone()).next().is_some();
                    if !bad && self.rng.borrow_mut().u8(..100) >= self.health.reads_later {
                        continue;
                    }
                }
            }
            windows.insert((segment, index), Window::Wanted);
            missing = true;
        }
        if missing {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        file.view.read(at, into);
        Ok(())
    }

    fn existing(&self) -> Vec<(u64, u64)> {
        self.lengths()
    }
}

//! Segment files of a shard: made ready ahead and deleted by a helper thread (`preparer`), appended to on the shard,
//! synced on its ring (`disk`). A shard that never asked for them has none of this: no thread, no file, no submission.
//!
//! **Written**: an append is copied into the segment's pending bytes, and a sync is one write of them with its `fdatasync`, linked,
//! so the page cache is filled off the core. Reads see bytes that are pending or under way. **Mapped**: an append is a store, a
//! sync is the `fdatasync` alone.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;

use slab::Slab;

use super::disk::{Disk, Owner};
use super::driver::Driver;
use super::evidence;
use super::faults::DiskFaults;
use super::faults_file;
use super::fetch::Fetches;
use super::folder::read_note;
use super::preparer::{Done, Job, Preparer, open_existing};
use super::seam::{Append, Monotonic, SegmentEvent, SegmentSettings, Segments};
use super::segment::{GAP_MAX, Group, Segment};
use super::windows::{Fetch, Windows, length_of, start_of};

/// Group buffers that are kept for the next group, and how large each may be.
const SPARE_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 4 << 20;

/// A requested sync: complete when all its segments are.
struct Sync {
    token: u64,
    left: usize,
    error: Option<io::Error>,
}

pub(super) struct SegmentTable {
    append: Append,
    faults: Option<std::sync::Arc<DiskFaults>>,
    preparer: Preparer,
    /// The note that the start has found.
    note: Option<Vec<u8>>,
    segments: HashMap<u64, Segment>,
    syncs: Slab<Sync>,
    /// Segments to be synced at the end of this turn, and for which sync.
    wanted: Vec<(u64, usize)>,
    /// A fault: writes are held until this time.
    held_until: Option<Monotonic>,
    /// Segments that were freed while the ring has a sync or a read of them.
    dying: Vec<(u64, Segment)>,
    spare: Vec<Rc<Vec<u8>>>,
    /// Bytes that were read recently. Reading is a shared call.
    windows: RefCell<Windows>,
    /// The shard has started: from now on reads do not wait for the disk.
    started: bool,
    /// Events for the shard, and delayed events with their times.
    events: VecDeque<SegmentEvent>,
    delayed: VecDeque<(Monotonic, SegmentEvent)>,
}

impl SegmentTable {
    /// Opens the segments in the folder and starts the helper. Waits for the disk: for the start of a shard.
    pub(super) fn open(shard: usize, settings: SegmentSettings, wake: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let SegmentSettings { folder, append, zeroed, faults } = settings;
        let faults = match faults {
            Some(faults) => Some(faults),
            None => faults_file::of_environment()?,
        };
        let (mut segments, mut seconds) = (HashMap::new(), HashMap::new());
        for (segment, bytes, file, second) in open_existing(&folder)? {
            // Segments of an earlier process are read and freed; the log continues in a new segment.
            let known = Segment { broken: true, settled: bytes, ..Segment::ready(file, None, bytes) };
            segments.insert(segment, known);
            seconds.insert(segment, second);
        }
        let note = read_note(&folder);
        let name = format!("segments-{shard}");
        let preparer = Preparer::start(name, folder, (append, zeroed), faults.clone(), seconds, wake)?;
        Ok(Self {
            append,
            faults,
            preparer,
            note,
            segments,
            syncs: Slab::new(),
            wanted: Vec::new(),
            held_until: None,
            dying: Vec::new(),
            spare: Vec::new(),
            windows: RefCell::default(),
            started: false,
            events: VecDeque::new(),
            delayed: VecDeque::new(),
        })
    }

    /// Whether the helper has done something, or an event for the shard is due.
    pub(super) fn has_news(&self, now: Monotonic) -> bool {
        let due = self.delayed.front().is_some_and(|(at, _)| *at <= now);
        due || self.preparer.has_done() || !self.events.is_empty()
    }

    /// The time of the next delayed answer.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.delayed.front().map(|(at, _)| *at).into_iter().chain(self.held_until).min()
    }

    /// The next thing to tell the shard.
    pub(super) fn next_event(&mut self, now: Monotonic) -> Option<SegmentEvent> {
        self.windows.get_mut().turn_begins(now);
        while let Some(done) = self.preparer.take() {
            self.prepared(done);
        }
        if self.delayed.front().is_some_and(|(at, _)| *at <= now) {
            return self.delayed.pop_front().map(|(_, event)| event);
        }
        let event = self.events.pop_front()?;
        if let SegmentEvent::Read { segment, at } = &event {
            self.windows.get_mut().told(*segment, *at);
        }
        Some(event)
    }

    /// Notes that the shard has started.
    pub(super) fn started(&mut self) {
        self.started = true;
    }

    fn prepared(&mut self, done: Done) {
        match done {
            Done::Created { segment, result: Ok((file, map)) } => {
                if let Some(known) = self.segments.get_mut(&segment) {
                    *known = Segment::ready(file, map, known.bytes);
                }
                self.events.push_back(SegmentEvent::Created { segment, result: Ok(()) });
            }
            Done::Created { segment, result: Err(error) } => {
                self.segments.remove(&segment);
                self.events.push_back(SegmentEvent::Created { segment, result: Err(error) });
            }
            Done::Deleted { segment, result } => self.events.push_back(SegmentEvent::Freed { segment, result }),
        }
    }

    /// Gives this turn's syncs to the ring. A segment with a sync under way waits for its end.
    pub(super) fn submit(&mut self, driver: &mut impl Driver, disk: &mut Disk, now: Monotonic) {
        if self.is_held(now) {
            return;
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.retain(|&(number, sync)| {
            let Some(segment) = self.segments.get_mut(&number) else {
                // The segment has been freed since: its bytes need not survive.
                self.finish(sync, Ok(()), Monotonic::default());
                return false;
            };
            let Some(file) = segment.file.clone().filter(|_| !segment.broken) else {
                self.finish(sync, Err(io::Error::other("the segment cannot be written")), Monotonic::default());
                return false;
            };
            if segment.syncing {
                return true;
            }
            segment.syncing = true;
            let group = std::mem::take(&mut segment.pending);
            let (at, bytes) = (group.at, Rc::clone(&group.bytes));
            segment.flying = Some(group);
            disk.start(driver, file, at, bytes, self.faults.as_deref(), Owner { number, sync });
            false
        });
        self.wanted = wanted;
    }

    fn is_held(&mut self, now: Monotonic) -> bool {
        let hold = self.faults.as_ref().map(|faults| faults.hold());
        match hold.filter(|hold| !hold.is_zero() && !self.wanted.is_empty()) {
            Some(hold) if *self.held_until.get_or_insert(now.after(hold)) > now => return true,
            _ => self.held_until = None,
        }
        false
    }

    /// Handles the ring's answer to a sync of one segment.
    pub(super) fn synced(&mut self, number: u64, sync: usize, result: io::Result<()>, now: Monotonic) {
        let result = match (&self.faults, result) {
            (Some(faults), Ok(())) => faults.sync(),
            (_, result) => result,
        };
        let group = self.known_or_dying(number).and_then(|segment| {
            segment.syncing = false;
            segment.broken |= result.is_err();
            let group = segment.flying.take();
            let end = group.as_ref().map_or(0, |group| group.at + group.bytes.len() as u64);
            segment.settled = segment.settled.max(end);
            group
        });
        self.bury(number);
        self.keep(group);
        self.finish(sync, result, now);
    }

    /// Gives the reads of this turn to the ring.
    pub(super) fn fetch(&mut self, driver: &mut impl Driver, fetches: &mut Fetches) {
        self.windows.get_mut().turn_ended();
        while let Some(fetch) = self.windows.get_mut().next() {
            let Some(segment) = self.segments.get_mut(&fetch.segment) else { continue };
            let Some(file) = segment.file.clone() else { continue };
            segment.fetching += 1;
            let length = length_of(fetch.index, segment.settled);
            fetches.start(driver, file, fetch, length, self.faults.clone());
        }
    }

    /// Handles the ring's answer to a read.
    pub(super) fn fetched(&mut self, fetch: Fetch) {
        let (number, at) = (fetch.segment, start_of(fetch.index));
        if let Some(segment) = self.known_or_dying(number) {
            segment.fetching -= 1;
        }
        self.bury(number);
        if self.windows.get_mut().fetched(fetch) {
            self.events.push_back(SegmentEvent::Read { segment: number, at });
        }
    }

    fn known_or_dying(&mut self, number: u64) -> Option<&mut Segment> {
        if let Some(segment) = self.segments.get_mut(&number) {
            return Some(segment);
        }
        self.dying.iter_mut().find(|(dying, _)| *dying == number).map(|(_, segment)| segment)
    }

    /// Counts a segment's answer; the last one ends the sync.
    fn finish(&mut self, sync: usize, result: io::Result<()>, now: Monotonic) {
        let Some(open) = self.syncs.get_mut(sync) else { return };
        open.left -= 1;
        if let Err(error) = result {
            open.error.get_or_insert(error);
        }
        if open.left > 0 {
            return;
        }
        let Sync { token, error, .. } = self.syncs.remove(sync);
        let event = SegmentEvent::Synced { token, result: error.map_or(Ok(()), Err) };
        match self.faults.as_ref().map(|faults| faults.delay()).filter(|delay| !delay.is_zero()) {
            Some(delay) => self.delayed.push_back((now.after(delay), event)),
            None => self.events.push_back(event),
        }
    }

    /// Passes a freed segment to the helper once the ring has nothing of it any more.
    fn bury(&mut self, number: u64) {
        let over = |(dying, segment): &(u64, Segment)| *dying == number && segment.is_idle();
        if let Some(index) = self.dying.iter().position(over) {
            let (_, segment) = self.dying.swap_remove(index);
            self.delete(number, segment);
        }
    }

    fn delete(&mut self, number: u64, segment: Segment) {
        let Segment { file, map, .. } = segment;
        drop(file);
        if !self.preparer.ask(Job::Delete { segment: number, map }) {
            let result = Err(io::Error::other("the helper thread has ended"));
            self.events.push_back(SegmentEvent::Freed { segment: number, result });
        }
    }

    /// Keeps a group's buffer for a later one.
    fn keep(&mut self, group: Option<Group>) {
        let Some(Group { mut bytes, .. }) = group else { return };
        if self.spare.len() < SPARE_MAX
            && let Some(buffer) = Rc::get_mut(&mut bytes).filter(|buffer| buffer.capacity() > 0)
            && buffer.capacity() <= SPARE_BYTES_MAX
        {
            buffer.clear();
            self.spare.push(bytes);
        }
    }
}

impl Segments for SegmentTable {
    fn create(&mut self, segment: u64, bytes: u64) {
        if self.segments.contains_key(&segment) || bytes == 0 {
            let result = Err(io::ErrorKind::AlreadyExists.into());
            return self.events.push_back(SegmentEvent::Created { segment, result });
        }
        self.segments.insert(segment, Segment::unborn(bytes));
        if !self.preparer.ask(Job::Create { segment, bytes }) {
            self.segments.remove(&segment);
            let result = Err(io::Error::other("the helper thread has ended"));
            self.events.push_back(SegmentEvent::Created { segment, result });
        }
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        let segment = self.segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        if segment.broken || segment.file.is_none() {
            return Err(io::Error::other("the segment cannot be written"));
        }
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > segment.bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let failing = self.faults.as_ref().map_or(Ok(()), |faults| faults.append());
        let taken = failing.and_then(|()| match (self.append, &mut segment.map) {
            (Append::Written, _) => match segment.put_far(at, bytes) {
                Ok(false) => segment.gather(at, bytes, &mut self.spare),
                far => far.map(drop),
            },
            (Append::Mapped, Some(map)) => {
                // A position far after the rest does not move `settled`: reads would take the bytes before it for written.
                if at.saturating_sub(segment.settled) <= GAP_MAX {
                    segment.settled = segment.settled.max(at + bytes.len() as u64);
                }
                map.store(at, bytes)
            }
            (Append::Mapped, None) => Err(io::ErrorKind::InvalidInput.into()),
        });
        segment.broken |= taken.is_err();
        taken
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        let sync = self.syncs.insert(Sync { token, left: segments.len().max(1), error: None });
        if segments.is_empty() {
            return self.finish(sync, Ok(()), Monotonic::default());
        }
        for segment in segments {
            match self.segments.contains_key(segment) {
                true => self.wanted.push((*segment, sync)),
                false => self.finish(sync, Err(io::ErrorKind::NotFound.into()), Monotonic::default()),
            }
        }
    }

    fn set_aside(&mut self, segment: u64) {
        if self.segments.contains_key(&segment) {
            self.preparer.ask(Job::SetAside { segment });
        }
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.note.clone()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.preparer.ask(Job::Note(note.to_vec()));
    }

    fn free(&mut self, segment: u64) {
        for index in self.windows.get_mut().forget(segment) {
            self.events.push_back(SegmentEvent::Read { segment, at: start_of(index) });
        }
        match self.segments.remove(&segment) {
            None => self.events.push_back(SegmentEvent::Freed { segment, result: Ok(()) }),
            Some(known) if known.is_idle() => self.delete(segment, known),
            Some(known) => self.dying.push((segment, known)),
        }
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        let known = self.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        let file = known.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        known.read(at, into, |into| match self.started {
            true => self.windows.borrow_mut().read(segment, at, into, known.settled),
            false => evidence::read(file, into, at, self.faults.as_deref()),
        })
    }

    fn existing(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self.segments.iter().map(|(number, segment)| (*number, segment.bytes)).collect();
        all.sort_unstable();
        all
    }
}

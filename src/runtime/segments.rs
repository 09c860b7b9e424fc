//! Segment files of a shard: made ready ahead and deleted by a helper thread (`preparer`), appended to on the shard,
//! synced on its ring (`disk`). A shard that never asked for them has none of this: no thread, no file, no submission.
//!
//! **Written**: an append is copied into the segment's pending bytes, and a sync is one write of them with its
//! `fdatasync`, linked, so the page cache is filled off the core. What is pending or under way is laid over what is read.
//! **Mapped**: an append is a store, a sync is the `fdatasync` alone.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use slab::Slab;

use super::disk::{Disk, Owner};
use super::faults::DiskFaults;
use super::faults_file;
use super::map::Map;
use super::preparer::{Done, Job, Preparer, open_existing};
use super::ring::Ring;
use super::seam::{Append, Monotonic, SegmentEvent, SegmentSettings, Segments};

/// Group buffers that are kept for the next group, and how large each may be.
const SPARE_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 4 << 20;

/// Bytes and where they belong.
#[derive(Default)]
struct Group {
    at: u64,
    bytes: Rc<Vec<u8>>,
}

struct Segment {
    file: Option<Rc<File>>,
    map: Option<Map>,
    bytes: u64,
    /// Appended, not yet given to the kernel. Only where appends are written.
    pending: Group,
    /// With the kernel.
    flying: Option<Group>,
    syncing: bool,
    /// A sync or an append failed: nothing more goes in.
    broken: bool,
}

/// A sync that was asked for: done when all its segments are.
struct Sync {
    token: u64,
    left: usize,
    error: Option<io::Error>,
}

pub(super) struct SegmentTable {
    append: Append,
    faults: Option<std::sync::Arc<DiskFaults>>,
    preparer: Preparer,
    segments: HashMap<u64, Segment>,
    syncs: Slab<Sync>,
    /// Segments to be synced at the end of this turn, and for which sync.
    wanted: Vec<(u64, usize)>,
    /// A fault: not before then.
    held_until: Option<Monotonic>,
    /// Freed while a sync is under way.
    dying: Vec<(u64, Segment)>,
    spare: RefCell<Vec<Rc<Vec<u8>>>>,
    /// What the shard is to be told; some of it not before its time.
    events: VecDeque<SegmentEvent>,
    delayed: VecDeque<(Monotonic, SegmentEvent)>,
}

impl SegmentTable {
    /// Opens what lies in the folder and starts the helper. Waits for the disk: for the start of a shard.
    pub(super) fn open(shard: usize, settings: SegmentSettings, wake: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let SegmentSettings { folder, append, zeroed, faults } = settings;
        let faults = match faults {
            Some(faults) => Some(faults),
            None => faults_file::of_environment()?,
        };
        let (mut segments, mut seconds) = (HashMap::new(), HashMap::new());
        for (segment, bytes, file, second) in open_existing(&folder)? {
            // What an earlier life wrote is read and freed; its log goes on in a segment of its own.
            segments.insert(segment, Segment { broken: true, ..Segment::ready(file, None, bytes) });
            seconds.insert(segment, second);
        }
        let name = format!("segments-{shard}");
        let preparer = Preparer::start(name, folder, (append, zeroed), faults.clone(), seconds, wake)?;
        Ok(Self {
            append,
            faults,
            preparer,
            segments,
            syncs: Slab::new(),
            wanted: Vec::new(),
            held_until: None,
            dying: Vec::new(),
            spare: RefCell::default(),
            events: VecDeque::new(),
            delayed: VecDeque::new(),
        })
    }

    /// Whether the helper has done something, or the shard is to be told something now.
    pub(super) fn has_news(&self, now: Monotonic) -> bool {
        let due = self.delayed.front().is_some_and(|(at, _)| *at <= now);
        due || self.preparer.has_done() || !self.events.is_empty()
    }

    /// When the next delayed answer is due.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.delayed.front().map(|(at, _)| *at).into_iter().chain(self.held_until).min()
    }

    /// The next thing to tell the shard.
    pub(super) fn next_event(&mut self, now: Monotonic) -> Option<SegmentEvent> {
        while let Some(done) = self.preparer.take() {
            self.prepared(done);
        }
        if self.delayed.front().is_some_and(|(at, _)| *at <= now) {
            return self.delayed.pop_front().map(|(_, event)| event);
        }
        self.events.pop_front()
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
            Done::Deleted { segment } => self.events.push_back(SegmentEvent::Freed { segment }),
        }
    }

    /// Gives this turn's syncs to the ring. A segment whose last sync is still under way waits for it.
    pub(super) fn submit(&mut self, ring: &mut Ring, disk: &mut Disk, now: Monotonic) {
        if self.is_held(now) {
            return;
        }
        let write_max = self.faults.as_ref().map_or(usize::MAX, |faults| faults.write_max());
        let mut waiting = Vec::new();
        for (number, sync) in std::mem::take(&mut self.wanted) {
            let Some(segment) = self.segments.get_mut(&number) else {
                self.finish(sync, Err(io::ErrorKind::NotFound.into()), Monotonic::default());
                continue;
            };
            let Some(file) = segment.file.clone().filter(|_| !segment.broken) else {
                self.finish(sync, Err(io::Error::other("the segment cannot be written")), Monotonic::default());
                continue;
            };
            if segment.syncing {
                waiting.push((number, sync));
                continue;
            }
            segment.syncing = true;
            let group = std::mem::take(&mut segment.pending);
            let (at, bytes) = (group.at, Rc::clone(&group.bytes));
            segment.flying = Some(group);
            disk.start(ring, file, at, bytes, write_max, Owner::Segment { number, sync });
        }
        self.wanted = waiting;
    }

    fn is_held(&mut self, now: Monotonic) -> bool {
        let hold = self.faults.as_ref().map(|faults| faults.hold());
        match hold.filter(|hold| !hold.is_zero() && !self.wanted.is_empty()) {
            Some(hold) if *self.held_until.get_or_insert(now.after(hold)) > now => return true,
            _ => self.held_until = None,
        }
        false
    }

    /// Takes in what the ring answered to a sync of one segment.
    pub(super) fn synced(&mut self, number: u64, sync: usize, result: io::Result<u32>, now: Monotonic) {
        let result = match (&self.faults, result) {
            (Some(faults), Ok(_)) => faults.sync(),
            (_, result) => result.map(|_| ()),
        };
        let group = match self.segments.get_mut(&number) {
            Some(segment) => {
                segment.syncing = false;
                segment.broken |= result.is_err();
                segment.flying.take()
            }
            None => self.bury(number),
        };
        self.keep(group);
        self.finish(sync, result, now);
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

    /// A freed segment whose last sync has answered goes to the helper.
    fn bury(&mut self, number: u64) -> Option<Group> {
        let index = self.dying.iter().position(|(dying, _)| *dying == number)?;
        let (_, mut segment) = self.dying.swap_remove(index);
        let group = segment.flying.take();
        self.delete(number, segment);
        group
    }

    fn delete(&mut self, number: u64, segment: Segment) {
        let Segment { file, map, .. } = segment;
        drop(file);
        if !self.preparer.ask(Job::Delete { segment: number, map }) {
            self.events.push_back(SegmentEvent::Freed { segment: number });
        }
    }

    /// Keeps a group's buffer for a later one.
    fn keep(&mut self, group: Option<Group>) {
        let Some(Group { mut bytes, .. }) = group else { return };
        let spare = self.spare.get_mut();
        if spare.len() < SPARE_MAX
            && let Some(buffer) = Rc::get_mut(&mut bytes).filter(|buffer| buffer.capacity() > 0)
            && buffer.capacity() <= SPARE_BYTES_MAX
        {
            buffer.clear();
            spare.push(bytes);
        }
    }
}

impl Segment {
    fn ready(file: File, map: Option<Map>, bytes: u64) -> Self {
        Self { file: Some(Rc::new(file)), map, ..Self::unborn(bytes) }
    }

    fn unborn(bytes: u64) -> Self {
        Self { file: None, map: None, bytes, pending: Group::default(), flying: None, syncing: false, broken: false }
    }

    /// Puts bytes behind what is pending; a gap reads as zeroes.
    fn gather(&mut self, at: u64, bytes: &[u8], spare: &mut Vec<Rc<Vec<u8>>>) -> io::Result<()> {
        if self.pending.bytes.is_empty() {
            let buffer = spare.pop().unwrap_or_default();
            self.pending = Group { at, bytes: buffer };
        }
        let pending = Rc::get_mut(&mut self.pending.bytes).ok_or(io::ErrorKind::ResourceBusy)?;
        let place = at.checked_sub(self.pending.at).and_then(|place| usize::try_from(place).ok());
        match place.filter(|place| *place >= pending.len()) {
            Some(place) => pending.resize(place, 0),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        }
        pending.extend_from_slice(bytes);
        Ok(())
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
            (Append::Written, _) => segment.gather(at, bytes, self.spare.get_mut()),
            (Append::Mapped, Some(map)) => map.store(at, bytes),
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
        self.wanted.extend(segments.iter().map(|segment| (*segment, sync)));
    }

    fn free(&mut self, segment: u64) {
        match self.segments.remove(&segment) {
            None => self.events.push_back(SegmentEvent::Freed { segment }),
            Some(known) if known.syncing => self.dying.push((segment, known)),
            Some(known) => self.delete(segment, known),
        }
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        let segment = self.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        let file = segment.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(into, at)?;
        for group in segment.flying.iter().chain([&segment.pending]) {
            overlay(group, at, into);
        }
        Ok(())
    }

    fn existing(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self.segments.iter().map(|(number, segment)| (*number, segment.bytes)).collect();
        all.sort_unstable();
        all
    }
}

/// Lays a group over what was read from position `at`.
fn overlay(group: &Group, at: u64, into: &mut [u8]) {
    let (from, to) = (at.max(group.at), (at + into.len() as u64).min(group.at + group.bytes.len() as u64));
    if from < to {
        let length = (to - from) as usize;
        let (source, target) = ((from - group.at) as usize, (from - at) as usize);
        into[target..target + length].copy_from_slice(&group.bytes[source..source + length]);
    }
}

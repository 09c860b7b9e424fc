//! Recently read parts of segments, in windows of one size, so that a read does not wait for the disk on the shard's thread:
//! missing windows are queued, the ring fetches them when the turn ends, and the shard tries again. Nothing here knows a ring or a
//! file.
//!
//! A reader that waits makes progress whatever others do: the windows of its request stay from their arrival until the end of the
//! turn in which the reader is told of the last one.
//!
//! A window may hold bytes that the disk cannot read. Only requests for those fail, and their error says whether they are damaged;
//! they are read again, with the rest of their window, when a reader asks for them some time later.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use super::seam::Monotonic;
use forebay_base::limits::{SEGMENT_WINDOW_BYTES as BYTES, SEGMENT_WINDOWS_MAX as KEPT_MAX, UNREADABLE_AGAIN};

/// The most queued windows. Past the limit a reader waits for windows of others, and tries again then.
const QUEUED_MAX: usize = 2 * KEPT_MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Loading,
    Ready,
}

/// Bytes of a window that the disk cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Positions in the window.
    pub(super) from: usize,
    pub(super) to: usize,
    /// The error of the disk; `None`: the file ends before.
    pub(super) errno: Option<i32>,
}

impl Unreadable {
    fn error(self, damaged: bool) -> io::Error {
        if damaged && self.errno.is_some() {
            return super::evidence::damaged();
        }
        self.errno.map_or_else(|| io::ErrorKind::UnexpectedEof.into(), io::Error::from_raw_os_error)
    }
}

/// Whether a reader waits for a window, and so for all windows of its request.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    first: u64,
    last: u64,
    /// The reader is told of the window in this turn.
    told: bool,
}

struct Window {
    segment: u64,
    /// The window's index in the segment.
    index: u64,
    /// The first bytes of the window: as many as were in the file when it was read.
    bytes: Vec<u8>,
    /// Parts of these bytes that cannot be read, ascending.
    unreadable: Vec<Unreadable>,
    /// Whether these are damaged: the disk has read others in the meantime.
    damaged: bool,
    /// The time at which these were found.
    failed_at: Monotonic,
    state: State,
    asked: Option<Asked>,
    /// The time of the fetch, or of the last use.
    last: u64,
    /// Whether the window was read from.
    used: bool,
}

/// A window to fetch: its bytes so far, and their position.
pub(super) struct Fetch {
    pub(super) segment: u64,
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) unreadable: Vec<Unreadable>,
    /// Whether the unreadable bytes are damaged: the disk has read others in the meantime.
    pub(super) damaged: bool,
}

#[derive(Default)]
pub(super) struct Windows {
    all: VecDeque<Window>,
    spare: Vec<Vec<u8>>,
    clock: u64,
    now: Monotonic,
}

/// The first byte of a window.
pub(super) fn start_of(index: u64) -> u64 {
    index * BYTES as u64
}

/// The bytes that a window has of a segment with its first `end` bytes in its file.
pub(super) fn length_of(index: u64, end: u64) -> usize {
    end.saturating_sub(start_of(index)).min(BYTES as u64) as usize
}

impl Windows {
    /// Copies from position `at`. `end`: the bytes of the segment that are in its file; the request ends before it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: a window is missing, and now queued. Others: the disk's errors.
    pub(super) fn read(&mut self, segment: u64, at: u64, into: &mut [u8], end: u64) -> io::Result<()> {
        let Some(length) = (into.len() as u64).checked_sub(1) else { return Ok(()) };
        let (first, last) = (at / BYTES as u64, (at + length) / BYTES as u64);
        let mut missing = false;
        for index in first..=last {
            let needed =
                at.saturating_sub(start_of(index)) as usize..length_of(index, (at + into.len() as u64).min(end));
            missing |= self.lacks(segment, index, needed, Asked { first, last, told: false })?;
        }
        if missing {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for index in first..=last {
            let (from, to) = (at.max(start_of(index)), (at + into.len() as u64).min(start_of(index + 1)));
            self.copy(segment, index, from, &mut into[(from - at) as usize..(to - at) as usize], end);
        }
        Ok(())
    }

    fn find(&mut self, segment: u64, index: u64) -> Option<&mut Window> {
        self.all.iter_mut().find(|window| window.segment == segment && window.index == index)
    }

    /// Whether some of these bytes of a window are missing; they are queued then.
    ///
    /// # Errors
    /// The disk has failed to read some of them a short while ago.
    fn lacks(&mut self, segment: u64, index: u64, needed: Range<usize>, asked: Asked) -> io::Result<bool> {
        let (now, clock) = (self.now, self.clock);
        let Some(window) = self.find(segment, index) else {
            self.want(segment, index, Some(asked));
            return Ok(true);
        };
        if window.state == State::Ready {
            let among = |part: &&Unreadable| part.from < needed.end && part.to > needed.start;
            if let Some(part) = window.unreadable.iter().find(among) {
                if now.since(window.failed_at) < UNREADABLE_AGAIN {
                    window.last = clock;
                    return Err(part.error(window.damaged));
                }
                window.bytes.clear();
                window.unreadable.clear();
            }
            if window.bytes.len() >= needed.end {
                return Ok(false);
            }
            // More has been written to the file since then, or the window is read again.
            window.state = State::Queued;
        }
        let earlier = window.asked.unwrap_or(asked);
        let (first, last) = (earlier.first.min(asked.first), earlier.last.max(asked.last));
        window.asked = Some(Asked { first, last, told: false });
        Ok(true)
    }

    fn want(&mut self, segment: u64, index: u64, asked: Option<Asked>) {
        let queued = self.all.iter().filter(|window| window.state == State::Queued).count();
        if queued < QUEUED_MAX {
            self.all.push_back(Window {
                segment,
                index,
                bytes: Vec::new(),
                unreadable: Vec::new(),
                damaged: false,
                failed_at: Monotonic::default(),
                state: State::Queued,
                asked,
                last: 0,
                used: false,
            });
        }
    }

    /// Copies out of a window in memory. A reader that goes on from one window to the next gets the one after that ahead.
    fn copy(&mut self, segment: u64, index: u64, from: u64, into: &mut [u8], end: u64) {
        self.clock += 1;
        let clock = self.clock;
        let Some(window) = self.find(segment, index) else { return };
        let place = (from - start_of(index)) as usize;
        into.copy_from_slice(&window.bytes[place..place + into.len()]);
        window.last = clock;
        let new = !std::mem::replace(&mut window.used, true);
        let follows = new && index > 0 && self.find(segment, index - 1).is_some_and(|before| before.used);
        if follows && length_of(index + 1, end) > 0 && self.find(segment, index + 1).is_none() {
            self.want(segment, index + 1, None);
        }
    }

    /// A turn has begun.
    pub(super) fn turn_begins(&mut self, now: Monotonic) {
        self.now = now;
    }

    /// Ends a turn: the connections that were told have had the time to read.
    pub(super) fn turn_ended(&mut self) {
        for window in &mut self.all {
            window.asked = window.asked.filter(|asked| !asked.told);
        }
        while self.held() > KEPT_MAX && self.evict() {}
    }

    /// The next window to fetch. Requested windows come first, in order.
    pub(super) fn next(&mut self) -> Option<Fetch> {
        let queued = |window: &Window| window.state == State::Queued;
        let asked = self.all.iter().position(|window| queued(window) && window.asked.is_some());
        let place = asked.or_else(|| self.all.iter().position(queued))?;
        let (room, fresh) = (self.held() < KEPT_MAX, self.all.get(place)?.bytes.capacity() == 0);
        let name = |window: &Window| (window.segment, window.index);
        let wanted = self.all.get(place).map(name)?;
        if fresh && !room && !self.evict() {
            let loading = self.all.iter().any(|window| window.state == State::Loading);
            if asked.is_none() {
                // No reader waits for the window.
                self.all.remove(place);
                return None;
            }
            // If every window waits for another one, one window beyond the bound lets a reader go on.
            if loading {
                return None;
            }
        }
        let spare = if fresh { self.spare.pop() } else { None };
        let window = self.find(wanted.0, wanted.1)?;
        window.state = State::Loading;
        let mut bytes = std::mem::take(&mut window.bytes);
        let unreadable = std::mem::take(&mut window.unreadable);
        if fresh {
            bytes = spare.unwrap_or_else(|| Vec::with_capacity(BYTES));
        }
        Some(Fetch { segment: wanted.0, index: wanted.1, bytes, unreadable, damaged: false })
    }

    /// Windows that hold a buffer, or have lent it to the kernel.
    fn held(&self) -> usize {
        self.all.iter().filter(|window| window.bytes.capacity() > 0 || window.state == State::Loading).count()
    }

    /// Gives up the least recently used window that no reader waits for. False: there is none.
    fn evict(&mut self) -> bool {
        let waited_for = |window: &Window| {
            let span = |other: &Window| other.asked.filter(|_| other.segment == window.segment);
            self.all.iter().filter_map(span).any(|asked| (asked.first..=asked.last).contains(&window.index))
        };
        let idle = |window: &Window| window.state == State::Ready && !waited_for(window);
        let oldest =
            self.all.iter().enumerate().filter(|(_, window)| idle(window)).min_by_key(|(_, window)| window.last);
        let Some(place) = oldest.map(|(place, _)| place) else { return false };
        if let Some(window) = self.all.remove(place) {
            self.keep(window.bytes);
        }
        true
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() > 0 && self.held() + self.spare.len() < KEPT_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Handles the end of a fetch. True: a reader waits for the window.
    pub(super) fn fetched(&mut self, fetch: Fetch) -> bool {
        self.clock += 1;
        let (clock, now) = (self.clock, self.now);
        let Some(window) = self.find(fetch.segment, fetch.index) else {
            self.keep(fetch.bytes);
            return false;
        };
        (window.bytes, window.unreadable, window.damaged) = (fetch.bytes, fetch.unreadable, fetch.damaged);
        (window.state, window.last, window.failed_at) = (State::Ready, clock, now);
        window.asked.is_some()
    }

    /// Notes that the shard is being told of a window.
    pub(super) fn told(&mut self, segment: u64, at: u64) {
        if let Some(asked) = self.find(segment, at / BYTES as u64).and_then(|window| window.asked.as_mut()) {
            asked.told = true;
        }
    }

    /// Forgets a segment. Returns its windows that a reader waits for.
    pub(super) fn forget(&mut self, segment: u64) -> Vec<u64> {
        let of = |window: &&Window| window.segment == segment && window.asked.is_some();
        let waited = self.all.iter().filter(of).map(|window| window.index).collect();
        while let Some(place) = self.all.iter().position(|window| window.segment == segment) {
            if let Some(window) = self.all.remove(place) {
                self.keep(window.bytes);
            }
        }
        waited
    }
}

//! Where room for messages that wait is taken from when a shard runs short of it: from the sessions and shares with the longest queues, as
//! parts of what each may hold, the oldest messages first. So one that is away or slow costs itself, and not those whose queues are short.
//!
//! Queues are listed by the power of two of that part, and only where it grows: entries are right, or too high, and are looked at when they
//! come first.

use std::collections::VecDeque;

use crate::limits::{REMEMBERED_BYTES_MAX, ROOM_DROPS_AT_ONCE, ROOM_DROPS_PER_TURN};
use crate::route::shares::ShareNumber;
use crate::runtime::seam::Monotonic;
use crate::session::{Fill, Gone, SessionKey};

use super::super::Core;
use super::super::delivery::Whose;

/// Whose queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Holder {
    Session(SessionKey),
    Share(ShareNumber),
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Fullest {
    listed: [VecDeque<Holder>; Fill::LEVELS],
    /// What waits comes near one of the bounds.
    is_short: bool,
}

impl Fullest {
    /// A queue has grown to this level, and stood at a lower one.
    pub(in crate::shard) fn note(&mut self, level: u8, holder: Holder) {
        self.listed[usize::from(level)].push_back(holder);
    }

    /// The first of those that stand highest.
    fn pop(&mut self) -> Option<(u8, Holder)> {
        let (level, listed) = self.listed.iter_mut().enumerate().rev().find(|(_, listed)| !listed.is_empty())?;
        Some((level as u8, listed.pop_front()?))
    }
}

/// What may wait on a shard, all queues together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Messages in the log.
    pub(super) messages: usize,
    /// Bytes in memory, and with a log half of what that has on the disk.
    pub(super) bytes: usize,
}

impl Bounds {
    pub(super) fn new(messages: usize, log_bytes: Option<u64>) -> Self {
        let half = log_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX));
        Self { messages, bytes: half.min(REMEMBERED_BYTES_MAX) }
    }
}

impl Core {
    /// Whether one more message may wait in memory.
    pub(in crate::shard) fn remembers_more(&mut self) -> bool {
        let bytes = self.delivery.remembered().bytes();
        let Bounds { bytes: most, .. } = self.queues.bounds;
        self.queues.fullest.is_short |= bytes > most / 16 * 15;
        bytes <= most
    }

    /// Whether one more message that waits may be in the log.
    pub(super) fn stores_more(&mut self) -> bool {
        let stored = self.delivery.remembered().stored();
        let Bounds { messages: most, .. } = self.queues.bounds;
        self.queues.fullest.is_short |= stored > most / 16 * 15;
        stored < most
    }

    /// At the end of a turn: if what waits comes near a bound, the longest queues lose their oldest messages.
    pub(in crate::shard) fn make_room(&mut self, now: Monotonic) {
        if !std::mem::take(&mut self.queues.fullest.is_short) {
            return;
        }
        let Bounds { messages, bytes } = self.queues.bounds;
        let mut looks = ROOM_DROPS_PER_TURN;
        while looks > 0 {
            let remembered = self.delivery.remembered();
            let has_log = self.outlets.buffer.is_some();
            let is_low = |now: usize, most: usize| now <= most / 16 * 15 - most / 64;
            if is_low(remembered.bytes(), bytes) && (!has_log || is_low(remembered.stored(), messages)) {
                return;
            }
            let Some((level, holder)) = self.queues.fullest.pop() else { return };
            looks -= self.shorten(now, level, holder).clamp(1, looks);
        }
    }

    /// Drops the oldest messages of a queue that was listed at this level, if it is as long as that. How many.
    fn shorten(&mut self, now: Monotonic, level: u8, holder: Holder) -> usize {
        let bounds = self.session_settings.queue;
        let (gone, listed) = match holder {
            Holder::Session(key) => {
                let Some(session) = self.sessions.get_mut(key) else { return 0 };
                let dropped = if session.fill(bounds) < level { 0 } else { session.drop_oldest(ROOM_DROPS_AT_ONCE) };
                (session.take_dropped(), session.list_again(bounds, dropped > 0 || session.fill(bounds) < level))
            }
            Holder::Share(number) => {
                let Some(part) = self.delivery.shares.part_mut(number) else { return 0 };
                let has_grown = part.fill(bounds) >= level;
                let gone = if has_grown { part.drop_oldest(ROOM_DROPS_AT_ONCE, now) } else { Gone::default() };
                (gone, part.list_again(bounds))
            }
        };
        if let Some(level) = listed {
            self.queues.fullest.note(level, holder);
        }
        if gone.count > 0 {
            self.tell_shortened(now, holder, &gone);
        }
        usize::try_from(gone.count).unwrap_or(usize::MAX)
    }

    fn tell_shortened(&mut self, now: Monotonic, holder: Holder, gone: &Gone) {
        match holder {
            Holder::Session(key) => {
                self.note_queue_later(now, key);
                self.dropped_for_room(now, Whose::Session(key), gone);
            }
            Holder::Share(number) => {
                let text = self.delivery.shares.text(number);
                self.delivery.shares.settle(number);
                self.dropped_for_room(now, Whose::Share(text.as_deref().unwrap_or("")), gone);
            }
        }
    }
}

//! Room for waiting messages when a shard runs short of it. The room is taken from the sessions and shares with the longest queues, relative to their own
//! bounds, oldest messages first. So a client that is offline or slow costs only itself, and not clients with short queues.
//!
//! Queues are listed by the power of two of that part, and only when it grows: an entry is right, or too high, or of a queue that is gone, and is checked
//! when its turn comes. When there are twice as many entries as were right, the wrong ones are removed.

use std::collections::{HashSet, VecDeque};

use forebay_base::limits::{REMEMBERED_BYTES_MAX, ROOM_DROPS_AT_ONCE, ROOM_DROPS_PER_TURN};
use forebay_mqtt::route::shares::ShareNumber;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Fill, Gone, Session, SessionKey};

use super::super::Broker;
use crate::here::Here;
use crate::words::Whose;

/// The holder of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Session(SessionKey),
    Share(ShareNumber),
}

/// The queues by level, the fullest first.
#[derive(Debug, Default)]
pub(crate) struct Fullest {
    listed: [VecDeque<Holder>; Fill::LEVELS],
    /// The number of entries, and the number that were right when all were last checked.
    entries: usize,
    right: usize,
    /// Whether the waiting messages are near one of the bounds.
    is_short: bool,
    /// Whether the waiting messages take more than half of one bound.
    is_half: bool,
}

/// `NO_ROOM` is the reason in the event of a dropped message.
const NO_ROOM: &str = "the shard has no room for more waiting messages: the oldest of a long queue go";

/// The number of entries beyond twice the right ones at which all are checked.
const ENTRIES_MORE: usize = 1_024;

impl Fullest {
    /// Lists a queue at this level, if it has one.
    pub(crate) fn note(&mut self, level: Option<u8>, holder: Holder) {
        if let Some(level) = level {
            self.listed[usize::from(level)].push_back(holder);
            self.entries += 1;
        }
    }

    /// Sessions with listed queues, some more than once.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionKey> {
        let holders = self.listed.iter().flatten();
        holders.filter_map(|holder| if let Holder::Session(key) = holder { Some(*key) } else { None })
    }

    /// The first queue of the highest level.
    fn pop(&mut self) -> Option<(u8, Holder)> {
        let (level, listed) = self.listed.iter_mut().enumerate().rev().find(|(_, listed)| !listed.is_empty())?;
        self.entries -= 1;
        Some((level as u8, listed.pop_front()?))
    }

    /// Removes entries that are wrong, and duplicates. `listed`: the level at which a queue is listed.
    fn look_through(&mut self, listed: impl Fn(Holder) -> u8) {
        let mut seen = HashSet::new();
        for (level, entries) in self.listed.iter_mut().enumerate() {
            entries.retain(|holder| usize::from(listed(*holder)) == level && seen.insert(*holder));
            entries.shrink_to(2 * entries.len());
        }
        (self.entries, self.right) = (seen.len(), seen.len());
    }
}

/// The bounds of waiting messages on a shard, all queues together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Messages in the log.
    pub(super) messages: usize,
    /// Bytes in memory, and with a log half of its size on the disk.
    pub(super) bytes: usize,
}

impl Bounds {
    pub(super) fn new(messages: usize, log_bytes: Option<u64>) -> Self {
        let half = log_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX));
        Self { messages, bytes: half.min(REMEMBERED_BYTES_MAX) }
    }
}

impl Broker {
    /// Whether one more message may wait in memory.
    pub(crate) fn remembers_more(&mut self) -> bool {
        let bytes = self.delivery.remembered().bytes();
        let Bounds { bytes: most, .. } = self.queues.bounds;
        let all = bytes + self.delivery.remembered().unread();
        self.queues.fullest.is_half |= bytes > most / 2;
        self.queues.fullest.is_short |= all > most / 16 * 15;
        all <= most
    }

    /// Whether one more waiting message may be in the log.
    pub(super) fn stores_more(&mut self) -> bool {
        let stored = self.delivery.remembered().stored();
        let Bounds { messages: most, .. } = self.queues.bounds;
        self.queues.fullest.is_half |= stored > most / 2;
        self.queues.fullest.is_short |= stored > most / 16 * 15;
        stored < most
    }

    /// Limits the messages sent to clients when unacknowledged messages, which may not be dropped, take half of the bounds: each client is then sent little
    /// more, later messages may be dropped, and the other half is left for clients that do acknowledge. Called before a copy is made: its right to be sent
    /// holds until it is made.
    pub(crate) fn limit_what_is_sent(&mut self) {
        if !std::mem::take(&mut self.queues.fullest.is_half) {
            return;
        }
        let (remembered, Bounds { messages, bytes }) = (self.delivery.remembered(), self.queues.bounds);
        let has_log = self.logs.kept.is_there();
        let (bound, bound_bytes) = remembered.bound();
        let by_bytes = remembered.bytes().min(bound_bytes) > bytes / 2;
        let by_messages = remembered.stored().min(bound) > messages / 2;
        remembered.set_tight(by_bytes || has_log && by_messages);
    }

    /// Lists a client's queue again when its connection is lost: the messages it had been sent wait again.
    pub(crate) fn list_again(&mut self, key: SessionKey) {
        let bounds = self.queue_bounds(key);
        let level = self.sessions.get_mut(key).and_then(|session| session.grown(bounds));
        if level.is_some() {
            self.queues.fullest.note(level, Holder::Session(key));
            let _ = (self.remembers_more(), self.logs.kept.is_there() && self.stores_more());
        }
    }

    /// Drops the oldest messages of the longest queues at the end of a turn, if waiting messages are near a bound.
    pub fn make_room(&mut self, here: &mut Here, now: Monotonic) {
        self.queues.fullest.is_half |= self.delivery.remembered().is_tight();
        self.limit_what_is_sent();
        let (fullest, sessions, shares) = (&mut self.queues.fullest, &self.sessions, &self.delivery.shares);
        if fullest.entries > 2 * fullest.right + ENTRIES_MORE {
            fullest.look_through(|holder| match holder {
                Holder::Session(key) => sessions.get(key).map_or(0, Session::listed),
                Holder::Share(number) => shares.listed(number),
            });
        }
        if !std::mem::take(&mut self.queues.fullest.is_short) {
            return;
        }
        let Bounds { messages, bytes } = self.queues.bounds;
        let mut looks = ROOM_DROPS_PER_TURN;
        while looks > 0 {
            let remembered = self.delivery.remembered();
            let has_log = self.logs.kept.is_there();
            let is_low = |now: usize, most: usize| now <= most / 16 * 15 - most / 64;
            if is_low(remembered.bytes() + remembered.unread(), bytes)
                && (!has_log || is_low(remembered.stored(), messages))
            {
                return;
            }
            let Some((level, holder)) = self.queues.fullest.pop() else { return };
            looks -= self.shorten(here, now, level, holder).clamp(1, looks);
        }
    }

    /// Drops the oldest messages of a queue listed at this level, if it is that long. Returns how many.
    fn shorten(&mut self, here: &mut Here, now: Monotonic, level: u8, holder: Holder) -> usize {
        let bounds = match holder {
            Holder::Session(key) => self.queue_bounds(key),
            Holder::Share(_) => self.keeping.settings.queue,
        };
        let (gone, listed) = match holder {
            Holder::Session(key) => {
                let Some(session) = self.sessions.get_mut(key).filter(|session| session.listed() == level) else {
                    return 0;
                };
                let dropped = if session.fill(bounds) < level { 0 } else { session.drop_oldest(ROOM_DROPS_AT_ONCE) };
                (session.take_dropped(), session.list_again(bounds, dropped > 0 || session.fill(bounds) < level))
            }
            Holder::Share(number) => {
                let Some(part) = self.delivery.shares.part_mut(number).filter(|part| part.listed() == level) else {
                    return 0;
                };
                let has_grown = part.fill(bounds) >= level;
                let gone = if has_grown { part.drop_oldest(ROOM_DROPS_AT_ONCE, now) } else { Gone::default() };
                (gone, part.list_again(bounds))
            }
        };
        self.queues.fullest.note(listed, holder);
        if gone.count > 0 {
            self.tell_shortened(here, now, holder, &gone);
        }
        usize::try_from(gone.count).unwrap_or(usize::MAX)
    }

    fn tell_shortened(&mut self, here: &mut Here, now: Monotonic, holder: Holder, gone: &Gone) {
        match holder {
            Holder::Session(key) => {
                self.note_queue_later(now, key);
                self.retained.note_dropped(key);
                self.dropped_for_room(here, now, Whose::Session(key), (gone, NO_ROOM));
            }
            Holder::Share(number) => {
                let text = self.delivery.shares.text(number);
                self.delivery.shares.settle(number);
                self.dropped_for_room(here, now, Whose::Share(text.as_deref().unwrap_or("")), (gone, NO_ROOM));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn entries_of_queues_that_have_changed_or_gone_do_not_stay() {
        let mut fullest = Fullest::default();
        let holder = |number: u32| Holder::Share(NonZeroU32::new(number).expect("not 0"));
        for number in 1..=100 {
            for level in [1, 4, 4] {
                fullest.note(Some(level), holder(number));
            }
        }
        // Half of the queues are where their last entries say.
        fullest.look_through(|of| {
            if let Holder::Share(number) = of
                && number.get() <= 50
            {
                4
            } else {
                0
            }
        });
        assert_eq!((fullest.entries, fullest.right, fullest.listed[1].len(), fullest.listed[4].len()), (50, 50, 0, 50));
        assert_eq!((fullest.pop(), fullest.entries), (Some((4, holder(1))), 49));
    }
}

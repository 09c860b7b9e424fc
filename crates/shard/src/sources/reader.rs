//! A partition of a source, on the shard that reads it.

use std::rc::Rc;
use std::sync::Arc;

use super::positions::OfRoute;
use super::window::{Answered, Window};
use super::{STOPPING, Sources, home};
use crate::Core;
use crate::mail::{Given, Mail, Place, Progress, Reached, ToSources};
use crate::ring::Ring;
use forebay_base::rules::Rules;
use forebay_config::{Config, Isolation, NoSubscriber, OffsetReset, OnBadBatch, Source};
use forebay_kafka::consumer::{self, Assignment, Consumer, Start};
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_session::Settled;

/// The reason why a partition is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The window is full.
    Window,
    /// The next record finds no room with its receivers.
    Room,
    /// A bad record, and `on_bad_record = "stop"`; or Kafka refuses its dead letter for good.
    Bad,
    /// The partition is one of `[broker]`'s, and not all shards have reported their slots' needs.
    Start,
    /// Another source still reads the partition and has not been stopped here yet: a topic has moved between sources in a reload.
    Taken,
}

/// A partition.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: usize,
    pub(super) cluster: usize,
    pub(super) generation: u64,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The topic's index among those of `[broker]`, if it is one.
    pub(super) of_broker: Option<u16>,
    /// The window. `None`: no record has been read yet, and the first offset is not known.
    pub(super) window: Option<Window>,
    pub(super) pause: Option<Pause>,
    /// The parked record that is tried next, while all are tried again. Nothing that may overtake one is read until then.
    pub(super) trying: Option<u32>,
    /// Whether all are tried once more after that.
    pub(super) again: bool,
    /// The count of subscriptions when a message was offered that was reported as unwanted since the last try.
    pub(super) unmet: Option<u64>,
    /// Whether reading continues at a place that is being found.
    pub(super) is_sought: bool,
    /// The reason why the partition is not read, or not for now.
    pub(super) trouble: Option<String>,
    /// The place last reported to the membership.
    reported: Option<Place>,
    /// The time of the next report to the membership.
    pub(super) report_at: Monotonic,
    /// The time until which open records are waited for, if reading has stopped.
    stopping: Option<Monotonic>,
    /// The state for partitions of `[broker]`, once the shards were notified how the partition is read.
    pub(super) of_route: Option<OfRoute>,
}

/// The memory for open records of all windows of a shard. Once `fetch_memory` is in use, each window has an equal part of it, so that full ones do not keep
/// the others from being read. All together hold at most twice as much, and one record each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Bytes that windows hold.
    pub(super) used: usize,
    most: usize,
    readers: usize,
}

impl Memory {
    pub(super) fn new(used: usize, most: usize, readers: usize) -> Self {
        Self { used, most, readers }
    }

    /// Bytes that a window of this source may hold.
    fn of_window(self, of: &Source) -> usize {
        if self.used < self.most { of.window_bytes } else { of.window_bytes.min(self.most / self.readers.max(1)) }
    }

    /// Whether a window is full.
    pub(super) fn is_full(self, window: &Window, of: &Source, rules: &dyn Rules) -> bool {
        rules.is_window_full(window.len(), of.window_messages) || window.bytes() >= self.of_window(of)
    }

    /// Whether a window that was full has room again.
    pub(super) fn has_room_again(self, window: &Window, of: &Source) -> bool {
        window.len() <= of.window_messages / 4 * 3 && window.bytes() <= self.of_window(of) / 4 * 3
    }
}

/// The assignment of a partition for the consumer.
fn assignment(of: &Source, reader: &Reader, wall: WallMs) -> Assignment {
    let reset = match of.offset_reset {
        OffsetReset::Latest => consumer::Place::Latest,
        OffsetReset::Earliest => consumer::Place::Earliest,
        OffsetReset::At(ms) => consumer::Place::Time(ms),
        OffsetReset::Ago(age) => {
            consumer::Place::Time(wall.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
        }
    };
    let start = match reader.reported {
        Some(Place { offset, leader_epoch }) => Start::Offset { offset, leader_epoch },
        None => Start::At(reset),
    };
    assigned(of, ((&*reader.topic).into(), reader.partition), (start, reset))
}

/// A source's partition for a consumer: the place where it begins, and the one where it continues if the first is not in the log.
pub(super) fn assigned(
    of: &Source,
    (topic, partition): (Rc<str>, i32),
    (start, reset): (Start, consumer::Place),
) -> Assignment {
    Assignment {
        topic,
        partition,
        start,
        bytes: of.fetch_bytes,
        reset,
        committed: of.isolation == Isolation::Committed,
        on_bad_batch: match of.on_bad_batch {
            OnBadBatch::Stop => consumer::OnBadBatch::Stop,
            OnBadBatch::Skip => consumer::OnBadBatch::Skip,
        },
    }
}

impl Reader {
    pub(super) fn new((source, of): (usize, &Source), generation: u64, given: Given, now: Monotonic) -> Self {
        let Given { topic, partition, committed } = given;
        let index = of.routes().position(|(name, _)| *name == *topic).filter(|_| of.is_of_broker);
        Self {
            source,
            cluster: of.cluster,
            generation,
            topic,
            partition,
            of_broker: index.and_then(|index| u16::try_from(index).ok()),
            window: committed.map(Window::new),
            pause: None,
            trying: None,
            again: false,
            unmet: None,
            is_sought: false,
            trouble: None,
            reported: committed,
            report_at: now,
            stopping: None,
            of_route: None,
        }
    }

    /// Whether messages of the partition wait for a subscriber.
    pub(super) fn is_parking(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.parked() > 0)
    }

    /// Pauses the partition for this reason.
    pub(super) fn pauses(&mut self, consumer: &mut Consumer, id: u32, why: Pause) {
        self.pause = Some(why);
        consumer.pause(id);
    }

    /// Stops the partition at a bad record.
    pub(super) fn stops_at_bad(&mut self, consumer: &mut Consumer, id: u32, (offset, why): (i64, &str)) {
        self.trouble = Some(format!("the record at offset {offset} cannot be a message: {why}"));
        self.pauses(consumer, id, Pause::Bad);
    }

    /// Reads the partition again.
    pub(super) fn resumes(&mut self, consumer: &mut Consumer, id: u32) {
        self.pause = None;
        consumer.resume(id);
    }

    /// Whether reading has stopped for good.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The place to report, if it has changed.
    fn news(&self, rules: &dyn Rules) -> Option<Place> {
        let low = self.window.as_ref().map(|window| window.low(rules));
        low.filter(|low| Some(*low) != self.reported)
    }

    fn reached(&self, is_stopped: bool, rules: &dyn Rules) -> Reached {
        let at = self.window.as_ref().map(|window| window.low(rules));
        Reached { topic: Arc::clone(&self.topic), partition: self.partition, at, is_stopped }
    }

    /// Whether a stopped partition waits for nothing more.
    fn is_done(&self, now: Monotonic) -> bool {
        let is_over = !self.is_sought && self.window.as_ref().is_none_or(Window::waits_for_nothing);
        self.stopping.is_some_and(|until| is_over || now >= until)
    }
}

impl Sources {
    /// Has the consumer read a partition. If another source still reads it, the call is repeated when that source stops.
    pub(super) fn assign(&mut self, config: &Config, id: u32, wall: WallMs) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        let assignment = assignment(&config.sources[reader.source], reader, wall);
        let is_taken = !self.consumers[reader.cluster].assign(id, assignment);
        reader.pause = is_taken.then_some(Pause::Taken);
        if !is_taken && reader.of_broker.is_some() && reader.of_route.is_none() {
            reader.pauses(&mut self.consumers[reader.cluster], id, Pause::Start);
        }
    }

    /// Takes one of the answers that a record waits for.
    pub(super) fn settle(&mut self, settled: Settled, rules: &dyn Rules) {
        let Settled { record, is_met } = settled;
        // A partition that is no longer read commits nothing more.
        let Some(reader) = self.readers.get_mut(&record.reader) else { return self.shares.settle(settled, rules) };
        if let Some(window) = &mut reader.window {
            let settled = window.settle(record.number, is_met, rules);
            self.report_at = self.report_at.min(reader.report_at);
            match settled {
                // The record is parked.
                Answered::Unmet(Some(grown)) => reader.unmet = Some(grown),
                Answered::Unmet(None) => self.unmet.push(reader.source),
                Answered::Met | Answered::Open => {}
            }
        }
    }

    /// Resumes partitions with windows that have room again, and, after room was freed (`is_freed`), those that found none with the receivers of their next
    /// record.
    pub(super) fn resume_with_room(&mut self, config: &Config, is_freed: bool) {
        let windows = self.readers.values().filter_map(|reader| reader.window.as_ref());
        let used = windows.map(Window::bytes).sum();
        let memory = Memory::new(used, config.delivery.fetch_memory, self.readers.len());
        self.memory = memory;
        for (id, reader) in &mut self.readers {
            let has_room = match (reader.pause, &reader.window) {
                (Some(Pause::Window), Some(window)) => memory.has_room_again(window, &config.sources[reader.source]),
                (Some(Pause::Window), None) => true,
                (Some(Pause::Room), _) => is_freed,
                (Some(Pause::Bad | Pause::Start | Pause::Taken) | None, _) => false,
            };
            if has_room {
                reader.resumes(&mut self.consumers[reader.cluster], *id);
            }
        }
    }

    /// The time at which a reader has to be checked even if nothing happens, to stop, or to release records that were not acknowledged in time.
    pub(super) fn next_look(&self, config: &Config) -> Monotonic {
        let look = |reader: &Reader| {
            // A stopping partition releases and drops nothing any more.
            if let Some(until) = reader.stopping {
                return until;
            }
            let release = config.sources[reader.source].release_after;
            let oldest = reader.window.as_ref().and_then(Window::oldest);
            let release = release.zip(oldest).map_or(Monotonic::NEVER, |(after, oldest)| oldest.after(after));
            let grace = self
                .grace_over(config, reader)
                .filter(|_| reader.is_parking())
                // Records being tried already wait for room, which comes with a turn of its own.
                .filter(|_| reader.trying.is_none());
            release.min(grace.unwrap_or(Monotonic::NEVER))
        };
        self.readers.values().map(look).min().unwrap_or(Monotonic::NEVER)
    }

    /// The time from which on a reader's records may be dropped for want of a subscriber. `None`: never.
    pub(super) fn grace_over(&self, config: &Config, reader: &Reader) -> Option<Monotonic> {
        let of = &config.sources[reader.source];
        let opened_at = self.opened_at.filter(|_| of.no_subscriber == NoSubscriber::Drop)?;
        Some(opened_at.after(of.start_grace))
    }
}

impl Core {
    /// Stops the partitions of an assignment. Sources that wait for them begin.
    pub(super) fn stop_reading(
        &mut self,
        (source, generation): (usize, u64),
        is_lost: bool,
        (now, wall): (Monotonic, WallMs),
    ) {
        let config = Arc::clone(&self.here.config);
        let sources = &mut self.sources;
        let of_it = |reader: &Reader| reader.source == source && reader.generation <= generation;
        for (id, reader) in sources.readers.iter_mut().filter(|(_, reader)| of_it(reader)) {
            if !reader.is_stopping() {
                sources.needs.leaves(reader);
            }
            let consumer = &mut sources.consumers[reader.cluster];
            // A requested place is found, and committed, before the partition stops.
            if reader.is_sought && !is_lost {
                consumer.pause(*id)
            } else {
                consumer.unassign(*id)
            }
            reader.stopping.get_or_insert(now.after(STOPPING));
        }
        if is_lost {
            sources.readers.retain(|_, reader| !of_it(reader));
        }
        let waits = |reader: &Reader| reader.pause == Some(Pause::Taken) && !reader.is_stopping();
        let waiting: Vec<u32> = sources.readers.iter().filter(|(_, reader)| waits(reader)).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| sources.assign(&config, id, wall));
        sources.report_at = now;
    }

    /// Reports the progress of partitions to their memberships.
    pub(super) fn report_progress(&mut self, io: &mut Ring<'_>) {
        let now = io.now();
        let config = Arc::clone(&self.here.config);
        let (sources, letters) = (&mut self.sources, self.around.letters(&mut self.broker));
        let rules = self.here.rules;
        let is_any_done = sources.readers.values().any(|reader| reader.is_done(now));
        if sources.report_at > now && !is_any_done {
            return;
        }
        sources.report_at = Monotonic::NEVER;
        let mut reached: Vec<(usize, u64, Reached)> = Vec::new();
        for (id, reader) in &mut sources.readers {
            let is_done = reader.is_done(now);
            // Offsets in between have no records: they were of aborted transactions, or compacted.
            if let (Some(window), Some(position)) =
                (&mut reader.window, sources.consumers[reader.cluster].position(*id))
            {
                window.passes_to(position.offset);
            }
            if is_done {
                reached.push((reader.source, reader.generation, reader.reached(true, rules)));
            } else if let Some(place) = reader.news(rules) {
                if reader.report_at <= now {
                    reached.push((reader.source, reader.generation, reader.reached(false, rules)));
                    reader.reported = Some(place);
                    reader.report_at = now.after(config.sources[reader.source].commit_interval / 2);
                } else {
                    sources.report_at = sources.report_at.min(reader.report_at);
                }
            }
        }
        if is_any_done {
            for (id, reader) in sources.readers.extract_if(.., |_, reader| reader.is_done(now)) {
                sources.consumers[reader.cluster].unassign(id);
            }
            sources.show_soon(now);
        }
        reached.sort_by_key(|(source, generation, _)| (*source, *generation));
        for some in reached.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let (source, generation, _) = some[0];
            let places = some.iter().map(|(.., reached)| reached.clone()).collect();
            let to = home(&config.sources[source], config.service.shards);
            letters.push_back((to, Mail::Sources(ToSources::Progress(Progress { source, generation, places }))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::rules::KEPT;

    /// Many full windows leave room for others, and take no more than twice what there is.
    #[test]
    fn full_windows_leave_room_for_others() {
        let text = "[kafka.main]\nbootstrap = 'k:1'\n[[source]]\nname = 's'\ntopic = 't'\nmqtt_topic = 'm'\nwindow_bytes = '8MiB'\n";
        let of = forebay_config::parse(text, "test").expect("a configuration").sources.remove(0);
        let (most, readers, record) = (64 << 20, 100, 100 << 10);
        let mut windows: Vec<Window> =
            (0..readers).map(|_| Window::new(Place { offset: 0, leader_epoch: 0 })).collect();
        let fill = |windows: &mut [Window], which: std::ops::Range<usize>| {
            let sum = |windows: &[Window]| windows.iter().map(Window::bytes).sum();
            for at in which {
                let mut memory = Memory { used: sum(windows), most, readers };
                while !memory.is_full(&windows[at], &of, &KEPT) {
                    let number = windows[at].next_number();
                    let offset = i64::from(number);
                    windows[at].take_up(Place { offset, leader_epoch: 0 }, record, Monotonic(1));
                    windows[at].owes(number, 1, None);
                    memory.used += record;
                }
            }
            sum(windows)
        };
        let of_slow: usize = fill(&mut windows, 0..50);
        assert!(of_slow >= most && windows[49].bytes() > 0, "{of_slow}");
        let all: usize = fill(&mut windows, 50..readers);
        assert!(windows[50..].iter().all(|window| window.bytes() >= record), "each is read");
        assert!(all <= 2 * most + readers * record, "{all}");
        let memory = Memory { used: all, most, readers };
        assert!(!memory.has_room_again(&windows[0], &of) && !memory.has_room_again(&windows[99], &of));
        let number = windows[99].first();
        (0..4).for_each(|at| assert_eq!(windows[99].settle(number + at, true, &KEPT), Answered::Met));
        assert!(memory.has_room_again(&windows[99], &of));
    }
}

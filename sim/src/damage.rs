//! Damage to durable bytes on a disk, and hanging files of dead letters. The program cannot undo damage: its possible cost is
//! named message by message, and everything else is judged as usual.

use std::collections::BTreeSet;

use forebay::spool::{HEADER_BYTES, Header};

use crate::device::Known;
use crate::disk::Disk;
use crate::records::{self, Record, Said};
use crate::subscriber::Subscriber;
use crate::time::{MS, S, stream};
use crate::world::{Event, World};

/// Bound on the time for which a file of dead letters takes nothing.
const FILES_HANG: u64 = 6 * S;

/// A segment with this much written has more than one group.
const LARGE: u64 = 16 << 10;

/// Random streams of the kinds of damage, one for each.
#[derive(Debug)]
pub(crate) struct Damage {
    rot: fastrand::Rng,
    missing: fastrand::Rng,
    files: fastrand::Rng,
}

impl Damage {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rot: stream(seed, "rot draws"),
            missing: stream(seed, "missing draws"),
            files: stream(seed, "file draws"),
        }
    }
}

/// The end of a segment's groups. The segment's headers, one at either end, do not tell it.
fn groups_end(disk: &Disk, segment: u64, length: u64) -> u64 {
    let mut bytes = disk.bytes(segment);
    bytes.truncate((length as usize).saturating_sub(HEADER_BYTES));
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Segments with groups in them, in order, each with the end of its groups.
fn written(disk: &Disk) -> Vec<(u64, u64)> {
    let ends = disk.lengths().into_iter().map(|(segment, length)| (segment, groups_end(disk, segment, length)));
    ends.filter(|(_, end)| *end > HEADER_BYTES as u64).collect()
}

/// Whether a segment has its header at either end; with `on_platter`, whether a power cut leaves it there.
fn has_header(disk: &Disk, segment: u64, on_platter: bool) -> bool {
    let length = disk.lengths().into_iter().find(|(of, _)| *of == segment).map_or(0, |(_, length)| length);
    [0, length.saturating_sub(HEADER_BYTES as u64)].into_iter().any(|at| {
        let bytes = disk.part(segment, at, HEADER_BYTES, on_platter);
        let header = bytes.first_chunk::<HEADER_BYTES>().and_then(|bytes| Header::decode(bytes).ok());
        header.is_some_and(|header| header.segment == segment)
    })
}

/// Numbers of the messages with payloads in these bytes.
pub(crate) fn messages_in(bytes: &[u8]) -> BTreeSet<u32> {
    let places = bytes.windows(2).enumerate().filter(|(_, two)| two[0] == b'm' && two[1].is_ascii_digit());
    places.filter_map(|(at, _)| crate::kafka::front::message_number(&bytes[at..])).collect()
}

impl World {
    /// Changes a byte of a segment.
    pub(crate) fn rot(&mut self) {
        let Some(mean) = self.plan.hostile.rot.filter(|_| !self.storm_over) else { return };
        let mut rng = self.damage.rot.clone();
        let shard = rng.usize(..self.shards());
        let drawn = self.disk_mut(shard).and_then(|disk| {
            let segments = written(disk);
            let newest = segments.last().copied()?;
            let (segment, end) = rng.choice(segments)?;
            // In the last group of the newest segment, damage looks like a torn tail.
            Some((
                segment,
                if segment != newest.0 {
                    end
                } else if end > LARGE {
                    end / 2
                } else {
                    0
                },
            ))
        });
        if let Some((segment, end)) = drawn.filter(|(_, end)| *end > 0) {
            let at = rng.u64(..end);
            self.note(|| format!("byte {at} of segment {segment} of disk {shard} rots"));
            self.damaged(shard, segment);
            if let Some(disk) = self.disk_mut(shard) {
                disk.rot(segment, at);
            }
        }
        self.schedule(self.time + rng.u64(..mean * 2), Event::Rot);
        self.damage.rot = rng;
    }

    /// In one case of three, removes a segment before the next process starts.
    pub(crate) fn segments_go_missing(&mut self) {
        if !self.plan.hostile.loses_segments || self.storm_over {
            return;
        }
        let mut rng = self.damage.missing.clone();
        if rng.u8(..3) == 0 && !self.disks.is_empty() {
            let shard = rng.usize(..self.disks.len());
            // The newest segment cannot be missed: no other segment says that it was there. Nor can the one before it, if the power cut
            // has taken the header of the newest one, which says which segment it continues, or may still take it. The latter is checked
            // only where there are subscribers, so that the other hostile seeds stay as they were.
            let on_platter = !self.subscribers.is_empty();
            let mut segments = written(&self.disks[shard]);
            while let Some((segment, _)) = segments.pop()
                && !has_header(&self.disks[shard], segment, on_platter)
            {}
            if let Some((segment, _)) = rng.choice(segments) {
                self.note(|| format!("segment {segment} of disk {shard} is gone"));
                self.damaged(shard, segment);
                self.disks[shard].lose(segment);
            }
        }
        self.damage.missing = rng;
    }

    /// Notes that the unknown contents of a segment may be lost.
    pub(crate) fn damaged(&mut self, shard: usize, segment: u64) {
        self.damaged = true;
        let Some(disk) = self.disk_mut(shard) else { return };
        let bytes = disk.bytes(segment);
        self.judge.excused.extend(messages_in(&bytes));
        if !self.subscribers.is_empty() {
            self.subscriptions_damaged(shard, segment);
        }
        if self.process.is_none() {
            self.sessions_may_be_gone();
            self.subscribers_may_not_be_told();
        }
    }

    /// Notes that the sessions, their queued messages and the exchanges in the segment may be gone, or be again as they
    /// were before.
    fn subscriptions_damaged(&mut self, shard: usize, segment: u64) {
        let Some(disk) = self.disk_mut(shard) else { return };
        let (said, all) = (records::said(disk, segment), records::all(disk));
        for one in said {
            let (payload, is_over) = match &one {
                Said::Is(_, payload) => (Some(payload), false),
                Said::Ended(number) => (all.get(number), true),
            };
            let Some(payload) = payload else { continue };
            match Record::of(payload) {
                Record::Session => self.session_in_doubt(payload),
                Record::Queue(session) => {
                    self.judge.again.extend(records::waiting(&all, session));
                    let of = all.get(&session).into_iter();
                    let name =
                        of.flat_map(|payload| self.subscribers.iter().filter(|one| records::is_of(payload, &one.name)));
                    let held: Vec<u32> = name.flat_map(Subscriber::held).collect();
                    self.judge.again.extend(held);
                }
                Record::Exchange(id) => self.exchange_in_doubt(id, is_over),
                Record::Message(_) | Record::Other if is_over => self.judge.again.extend(messages_in(payload)),
                // The contents of these records are excused.
                Record::Message(_) | Record::Other => {}
            }
        }
    }

    /// Notes that the record of a subscriber's session may be gone, or that an older one may count.
    fn session_in_doubt(&mut self, payload: &[u8]) {
        let (life, is_down) = (self.life, self.process.is_none());
        for subscriber in &mut self.subscribers {
            if records::is_of(payload, &subscriber.name) {
                subscriber.doubt(life);
                if is_down {
                    subscriber.process_ended(true);
                }
            }
        }
    }

    /// Notes that a publisher's exchange, or its end, may be forgotten: a repeat may be given to subscribers again, and a message may
    /// be taken for a repeat.
    fn exchange_in_doubt(&mut self, id: u16, is_over: bool) {
        if is_over {
            self.judge.exchanges_in_doubt.insert(id);
        }
        let open = self.devices.iter().flat_map(|device| device.open(&self.messages));
        let again = open.filter(|number| self.messages[*number as usize].is_under(id));
        self.judge.again.extend(again);
    }

    /// Notes that damaged bytes may have contained sessions, or their ends.
    pub(crate) fn sessions_may_be_gone(&mut self) {
        for device in self.devices.iter_mut().filter(|device| device.kept) {
            device.known = Known::Maybe;
        }
    }

    /// Notes that Kafka has lost a part of a log of sessions: all that it may have contained is in doubt.
    pub(crate) fn sessions_in_doubt(&mut self) {
        self.damaged = true;
        self.judge.excused.extend(0..self.messages.len() as u32);
        self.sessions_may_be_gone();
        // A process that is starting reads the log as it is now.
        let life = match &self.process {
            Some(process) if process.has_started() => self.life,
            Some(_) => self.life.saturating_sub(1),
            None => self.broker.last_life(),
        };
        for subscriber in &mut self.subscribers {
            subscriber.doubt(life);
            subscriber.process_ended(true);
        }
        self.subscribers_may_not_be_told();
        let open: Vec<u32> = self.devices.iter().flat_map(|device| device.open(&self.messages)).collect();
        self.judge.again.extend(open);
    }

    /// Notes that the spool was moved away, with all state of subscribers.
    pub(crate) fn subscriptions_gone(&mut self) {
        // No client had its CONNACK from the refused process.
        let life = self.life.saturating_sub(1);
        for subscriber in &mut self.subscribers {
            subscriber.doubt(life);
            subscriber.process_ended(true);
        }
    }

    /// Hangs the files of dead letters for a while.
    pub(crate) fn files_hang(&mut self) {
        let Some(mean) = self.plan.hostile.files_hang.filter(|_| !self.storm_over) else { return };
        let rng = &mut self.damage.files;
        let (until, wait) = (self.time + rng.u64(10 * MS..FILES_HANG), rng.u64(..mean * 2));
        let ms = (until - self.time) / MS;
        self.note(|| format!("files of dead letters take nothing for {ms} ms"));
        for sink in 0..self.settings.sinks.len() {
            let clear = self.judge.file_clear.entry(sink).or_default();
            *clear = until.max(*clear);
        }
        self.schedule(until + wait, Event::FilesHang);
    }
}

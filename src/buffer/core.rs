//! The buffer of one shard: the log, and what is known beside it.

use std::collections::{BTreeMap, HashMap};

use super::clock::Clock;
use super::restore::{OpenError, Restored, RestoredCluster};
use super::room::Room;
use super::sessions::{Record, Waiting};
use super::settings::{Settings, SinkTerms};
use super::view::View;
use crate::kafka::producer::row_log::Origin;
use crate::kafka::types::{SinkId, Ticket};
use crate::runtime::seam::{Monotonic, WallMs};
use crate::spool::{Completion, Disk, Log, recover};

/// See the module.
#[derive(Debug)]
pub struct Buffer {
    pub(super) settings: Settings,
    pub(super) log: Log,
    pub(super) clock: Clock,
    pub(super) room: Room,
    pub(super) waiting: Waiting,
    pub(super) next_session: u64,
    /// Whose answer waits for rows of an earlier start.
    pub(super) tickets: HashMap<Origin, Ticket>,
    pub(super) numbers: Numbers,
    /// When the group under way was handed to the disk.
    flying: Option<Monotonic>,
}

/// Numbers of a buffer. Counters count from this start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Bytes on the disk: segments there are.
    pub bytes: u64,
    /// The bound of that.
    pub bytes_max: u64,
    /// Segments there are.
    pub segments: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// What they took, together, in microseconds.
    pub sync_us: u64,
    /// The longest of them.
    pub sync_max_us: u64,
    /// Groups that are durable.
    pub groups: u64,
    /// Bytes in them.
    pub group_bytes: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    /// 1 while nothing can be written: a group waits, and no segment can be made.
    pub stuck: u64,
    /// Bytes copied out of old segments.
    pub moved_bytes: u64,
    /// Rows written.
    pub rows: u64,
    /// Rows whose bytes could not be read any more.
    pub rotten_rows: u64,
}

impl Buffer {
    /// Takes up what lies on the disk: segments by number, with their bytes. Reads, and changes nothing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open<D: Disk>(
        disk: &D,
        settings: Settings,
        found: &BTreeMap<u64, u64>,
        now: Monotonic,
        wall: WallMs,
    ) -> Result<(Self, Restored), OpenError> {
        let recovered = recover(disk, settings.log.shard, found)?;
        let clusters = vec![RestoredCluster::default(); settings.clusters.len()];
        let restored = Restored { clusters, ..Restored::default() };
        let mut buffer = Self {
            room: Room::new(settings.clusters.iter().map(Vec::len)),
            clock: Clock::new(now, wall),
            waiting: Waiting::default(),
            next_session: recovered.next_session(),
            tickets: HashMap::new(),
            numbers: Numbers::default(),
            flying: None,
            log: Log::new(settings.log.clone(), recovered),
            settings,
        };
        buffer.look_at_room();
        Ok((buffer, restored))
    }

    /// The buffer as a cluster's producer sees it, for one poll.
    pub fn view<'a, D: Disk>(
        &'a mut self,
        disk: &'a mut D,
        cluster: usize,
        now: Monotonic,
        wall: WallMs,
    ) -> View<'a, D> {
        self.clock.turn(now, wall);
        View { buffer: self, disk, cluster }
    }

    /// Once a turn, after all that it has to keep: starts a group, if there is one and none is under way.
    pub fn flush<D: Disk>(&mut self, disk: &mut D, now: Monotonic, wall: WallMs) {
        self.clock.turn(now, wall);
        let group = self.group();
        self.log.flush(disk, wall.0);
        if self.group() != group {
            self.put_waiting();
        }
        if self.flying.is_none() && !self.log.is_idle() {
            self.flying = Some(now);
        }
        self.look_at_room();
    }

    /// Takes what the disk reports. Whether something has become durable: answers and cuts may be due.
    pub fn complete<D: Disk>(&mut self, disk: &mut D, completion: Completion, now: Monotonic) -> bool {
        let before = self.durable();
        self.log.complete(disk, completion);
        if let Completion::Synced { .. } = completion
            && let Some(begun) = self.flying.take()
        {
            let took = u64::try_from(now.since(begun).as_micros()).unwrap_or(u64::MAX);
            self.numbers.sync_us += took;
            self.numbers.sync_max_us = self.numbers.sync_max_us.max(took);
        }
        self.look_at_room();
        self.durable() != before
    }

    /// The group that is being gathered: what is kept now stands in it.
    #[must_use]
    pub const fn group(&self) -> u64 {
        self.log.group()
    }

    /// All groups up to this one are durable.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.log.durable()
    }

    /// Whether everything that was kept is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    /// The numbers.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        Numbers { failures: self.log.failures(), ..self.numbers }
    }

    /// Live bytes of a sink.
    #[must_use]
    pub fn sink_bytes(&self, cluster: usize, sink: SinkId) -> u64 {
        self.terms(cluster, sink).map_or(0, |terms| self.log.state().sink_bytes(&terms.name))
    }

    pub(super) fn terms(&self, cluster: usize, sink: SinkId) -> Option<&SinkTerms> {
        self.settings.clusters.get(cluster)?.get(usize::from(sink.0))
    }

    pub(super) fn put_record(&mut self, record: &Record) -> bool {
        let put = match record {
            Record::Kept { number, payload } => self.log.session(*number, payload),
            Record::Ended { number } => self.log.session_ended(*number),
            Record::Released { number, packet_id } => self.log.released(*number, *packet_id),
        };
        put.is_ok()
    }

    pub(super) fn has_room_for_session(&self, bytes: u64) -> bool {
        bytes <= self.log.room()
    }
}

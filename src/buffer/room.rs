//! Whether the spool has room for a row, asked before it is taken, so that what was taken fits. The log's figures are read
//! once a turn; what has been promised since counts from them. Against cuts, ends and moves of the turns in which a row
//! waits for its group nothing is set aside: what these take comes back with older rows, which it does not hold up.

use super::core::Buffer;
use super::sessions::RECORD_BYTES;
use crate::kafka::producer::Keep;
use crate::kafka::producer::row_log::RowSet;
use crate::kafka::types::SinkId;

/// What a row costs in the log beside its record, if it stands in a block of its own.
pub const ROW_COST: u64 = 192;

/// Why the spool cannot take a row now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpoolFull {
    /// It is full, for all sinks.
    Whole,
    /// The sink holds its share of it.
    Sink,
    /// There is room, but this turn's rows are as many as a group takes: again when they are on their way.
    Turn,
}

/// What is promised and not yet in the log: rows and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promised {
    rows: u64,
    bytes: u64,
}

impl Promised {
    fn add(&mut self, bytes: u64) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// Takes back the promise of `rows` rows that are in the log with `bytes` bytes, which may be less than they were
    /// promised. The promise of the others stays, whatever their sizes.
    fn kept(&mut self, rows: u64, bytes: u64) -> u64 {
        let rows = rows.min(self.rows);
        let part = if rows == self.rows { self.bytes } else { (bytes + rows * ROW_COST).min(self.bytes) };
        self.rows -= rows;
        self.bytes -= part;
        part
    }
}

/// Room, as of the last look at the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    whole: u64,
    /// Of that, what rows may take at once.
    turn: u64,
    /// The log could not keep account of more, when it was last given rows: those of this cluster, which wait.
    pub(super) too_many: Option<usize>,
    promised: u64,
    /// By cluster and sink: what it may still take, what it is promised.
    sinks: Vec<Vec<(u64, Promised)>>,
    /// Changes whenever room has come free.
    pub(super) freed: u64,
}

impl Room {
    pub(super) fn new(sinks: impl Iterator<Item = usize>) -> Self {
        Self { sinks: sinks.map(|count| vec![(0, Promised::default()); count]).collect(), ..Self::default() }
    }

    /// Makes room for the figures of this many sinks of a cluster.
    pub(super) fn grow(&mut self, cluster: usize, sinks: usize) {
        if self.sinks.len() <= cluster {
            self.sinks.resize_with(cluster + 1, Vec::new);
        }
        self.sinks[cluster].resize(sinks, (0, Promised::default()));
    }

    /// Rows of a cluster that were promised room and have not been written never will be: they have ended before.
    pub(super) fn all_written(&mut self, cluster: usize) {
        let mut freed = self.too_many.take_if(|of| *of == cluster).is_some();
        for (_, promised) in self.sinks.get_mut(cluster).into_iter().flatten().filter(|(_, sink)| sink.rows > 0) {
            freed = true;
            self.promised = self.promised.saturating_sub(promised.bytes);
            *promised = Promised::default();
        }
        self.freed += u64::from(freed);
    }

    /// Whether such a row may be taken in this turn: one always may, however large.
    const fn fits(&self, need: u64) -> bool {
        self.promised == 0 || self.promised + need <= self.turn
    }

    /// So many rows of a sink have been written.
    pub(super) fn kept(&mut self, cluster: usize, sink: usize, rows: u64, bytes: u64) {
        if let Some((left, promised)) = self.sinks.get_mut(cluster).and_then(|sinks| sinks.get_mut(sink)) {
            // Until the log's figures are read again its room is the row's, and no longer promised.
            let bytes = promised.kept(rows, bytes);
            self.promised = self.promised.saturating_sub(bytes);
            self.whole = self.whole.saturating_sub(bytes);
            self.turn = self.turn.saturating_sub(bytes);
            *left = left.saturating_sub(bytes);
        }
    }
}

impl Buffer {
    /// Whether rows of a sink with `row_bytes` bytes in total may be taken now.
    ///
    /// # Errors
    /// What is full.
    pub fn admit(&self, cluster: usize, sink: SinkId, row_bytes: usize) -> Result<(), SpoolFull> {
        if !self.keeps(cluster, sink) {
            return Ok(());
        }
        let need = row_bytes as u64 + ROW_COST;
        let room = &self.room;
        if room.too_many.is_some() || room.promised + need > room.whole {
            return Err(SpoolFull::Whole);
        }
        let left = room.sinks.get(cluster).and_then(|sinks| sinks.get(usize::from(sink.0)));
        match left {
            Some((left, promised)) if promised.bytes + need > *left => Err(SpoolFull::Sink),
            _ if room.fits(need) => Ok(()),
            _ => Err(SpoolFull::Turn),
        }
    }

    /// A row has been taken after [`Buffer::admit`]: its room is its own until it is written.
    pub fn promise(&mut self, cluster: usize, sink: SinkId, row_bytes: usize) {
        if !self.keeps(cluster, sink) {
            return;
        }
        let need = row_bytes as u64 + ROW_COST;
        if let Some((_, promised)) = self.room.sinks.get_mut(cluster).and_then(|c| c.get_mut(usize::from(sink.0))) {
            promised.add(need);
            self.room.promised += need;
        }
    }

    /// Whether a sink's rows go to the log.
    #[must_use]
    pub fn keeps(&self, cluster: usize, sink: SinkId) -> bool {
        self.terms(cluster, sink).is_some_and(|terms| terms.keep != Keep::Memory)
    }

    /// Whether there is room for `bytes` bytes of any sink.
    #[must_use]
    pub const fn has_room(&self, bytes: usize) -> bool {
        let need = bytes as u64 + ROW_COST;
        self.room.too_many.is_none() && self.room.promised + need <= self.room.whole && self.room.fits(need)
    }

    /// The largest payload of a kept session that there is room for now, beside the rows that are promised theirs.
    #[must_use]
    pub fn session_room(&self) -> usize {
        let (sessions, bytes) = self.waiting.sessions();
        let room = self.log.room_of_session(sessions).saturating_sub(self.room.promised + bytes + RECORD_BYTES);
        if self.room.too_many.is_some() { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) }
    }

    /// Whether what lives takes more than half of what the log can hold.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.log.is_half_full()
    }

    /// How many records have to end in a log that has no room, for it to have some.
    #[must_use]
    pub fn records_to_end(&self) -> usize {
        usize::try_from(self.log.records_to_end()).unwrap_or(usize::MAX)
    }

    /// Changes whenever room has come free: as long as it is the same, nobody who waits has to be asked again.
    #[must_use]
    pub const fn freed(&self) -> u64 {
        self.room.freed
    }

    /// Whether there will be more room without anything being done.
    #[must_use]
    pub fn is_freeing(&self) -> bool {
        self.log.is_freeing()
    }

    /// `drop-oldest`: ends the oldest of these rows ([`crate::kafka::producer::Producer::droppable`]). Returns which.
    pub fn drop_oldest(&mut self, allowed: &RowSet) -> RowSet {
        self.log.drop_oldest(allowed).unwrap_or_default()
    }

    /// Reads the log's figures. Rows of sinks that go to memory first may never come: what they were promised is over.
    pub(super) fn look_at_room(&mut self) {
        let room = &mut self.room;
        let (whole, turn) = (self.log.space(), self.log.room());
        let mut freed = whole > room.whole || turn > room.turn;
        (room.whole, room.turn) = (whole, turn);
        room.promised = 0;
        for (cluster, sinks) in self.settings.clusters.iter().enumerate() {
            for (sink, terms) in sinks.iter().enumerate().filter(|(_, terms)| terms.keep != Keep::Memory) {
                let (left, promised) = &mut room.sinks[cluster][sink];
                let now = self.log.sink_room(self.logged[cluster][sink]);
                freed |= now > *left;
                *left = now;
                if terms.keep != Keep::Disk {
                    *promised = Promised::default();
                }
                room.promised += promised.bytes;
            }
        }
        room.freed += u64::from(freed);
    }
}

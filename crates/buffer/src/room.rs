//! Whether the spool has room for a row, checked before the row is taken, so that every row taken fits. The log's figures
//! are read once a turn; promises made since then are subtracted. Nothing is set aside for cuts, ends and moves of the
//! turns in which a row waits for its group: their bytes come back with older rows, which the row does not delay.

use super::core::Buffer;
use super::sessions::RECORD_BYTES;
use forebay_kafka::producer::Keep;
use forebay_kafka::producer::row_log::RowSet;
use forebay_kafka::types::SinkId;

/// Bytes that a row takes in the log besides its record, if it is in a block of its own.
pub const ROW_COST: u64 = 192;

/// Why the spool cannot take a row now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpoolFull {
    /// The spool is full, for all sinks.
    Whole,
    /// The sink has used its share of the spool.
    Sink,
    /// There is room, but this turn's rows fill a group already: try again when they are in flight.
    Turn,
}

/// Rows promised room that are not in the log yet, and their bytes.
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

    /// Takes back the promise of `rows` rows that are in the log with `bytes` bytes, which may be less than promised. The
    /// promise of the other rows stays, whatever their sizes.
    fn kept(&mut self, rows: u64, bytes: u64) -> u64 {
        let rows = rows.min(self.rows);
        let part = if rows == self.rows { self.bytes } else { (bytes + rows * ROW_COST).min(self.bytes) };
        self.rows -= rows;
        self.bytes -= part;
        part
    }
}

/// Room as of the last reading of the log's figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    whole: u64,
    /// The part of `whole` that rows may take at once.
    turn: u64,
    /// The cluster that waits because the log could not keep account of more when it was last given this cluster's rows.
    pub(super) too_many: Option<usize>,
    promised: u64,
    /// By cluster and sink: the bytes that it may still take, and its promises.
    sinks: Vec<Vec<(u64, Promised)>>,
    /// A counter that changes whenever room becomes free.
    pub(super) freed: u64,
}

impl Room {
    pub(super) fn new(sinks: impl Iterator<Item = usize>) -> Self {
        Self { sinks: sinks.map(|count| vec![(0, Promised::default()); count]).collect(), ..Self::default() }
    }

    /// Makes space for the figures of `sinks` sinks of a cluster.
    pub(super) fn grow(&mut self, cluster: usize, sinks: usize) {
        if self.sinks.len() <= cluster {
            self.sinks.resize_with(cluster + 1, Vec::new);
        }
        self.sinks[cluster].resize(sinks, (0, Promised::default()));
    }

    /// Takes back all promises of a cluster: rows without a write by now have ended before and are never written.
    pub(super) fn all_written(&mut self, cluster: usize) {
        let mut freed = self.too_many.take_if(|of| *of == cluster).is_some();
        for (_, promised) in self.sinks.get_mut(cluster).into_iter().flatten().filter(|(_, sink)| sink.rows > 0) {
            freed = true;
            self.promised = self.promised.saturating_sub(promised.bytes);
            *promised = Promised::default();
        }
        self.freed += u64::from(freed);
    }

    /// Whether a row of this size may be taken in this turn. One row always may, however large.
    const fn fits(&self, need: u64) -> bool {
        self.promised == 0 || self.promised + need <= self.turn
    }

    /// Accounts for `rows` rows of a sink that were written.
    pub(super) fn kept(&mut self, cluster: usize, sink: usize, rows: u64, bytes: u64) {
        if let Some((left, promised)) = self.sinks.get_mut(cluster).and_then(|sinks| sinks.get_mut(sink)) {
            // Until the log's figures are read again, the room is used by the row, and no longer promised.
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
    /// [`SpoolFull`] says what is full.
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

    /// Reserves room for a row that was taken after [`Buffer::admit`], until the row is written.
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

    /// The largest payload of a kept session that there is room for now, besides the rows promised room.
    #[must_use]
    pub fn session_room(&self) -> usize {
        let (sessions, _) = self.waiting.sessions();
        if self.room.too_many.is_some() { 0 } else { self.payload_of(self.log.room_of_session(sessions)) }
    }

    /// The largest payload of a new record of progress that there is room for now.
    #[must_use]
    pub(super) fn progress_room(&self) -> usize {
        let (sessions, _) = self.waiting.sessions();
        if self.room.too_many.is_some() { 0 } else { self.payload_of(self.log.room_of_progress(sessions)) }
    }

    /// The largest payload of a changed record that there is room for: changes may use a segment that is reserved for moves, as they replace records of the log.
    #[must_use]
    pub(super) fn change_room(&self) -> usize {
        self.payload_of(self.log.room_of_change())
    }

    /// The largest payload for this room of the log, besides promised rows and waiting records.
    fn payload_of(&self, room: u64) -> usize {
        let (_, bytes) = self.waiting.sessions();
        let room = room.saturating_sub(self.room.promised + bytes + RECORD_BYTES);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Whether live data takes more than half of what the log can hold.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.log.is_half_full()
    }

    /// The number of records that have to end in a full log for it to have room.
    #[must_use]
    pub fn records_to_end(&self) -> usize {
        usize::try_from(self.log.records_to_end()).unwrap_or(usize::MAX)
    }

    /// A counter that changes whenever room becomes free: while it is unchanged, nothing that waits for room has to be
    /// tried again.
    #[must_use]
    pub const fn freed(&self) -> u64 {
        self.room.freed
    }

    /// Whether room will become free without further drops.
    #[must_use]
    pub fn is_freeing(&self) -> bool {
        self.log.is_freeing()
    }

    /// `drop-oldest`: ends the oldest of these rows ([`forebay_kafka::producer::Producer::droppable`]). Returns the dropped
    /// rows.
    pub fn drop_oldest(&mut self, allowed: &RowSet) -> RowSet {
        self.log.drop_oldest(allowed).unwrap_or_default()
    }

    /// Reads the log's figures. Promises to sinks that write to memory first end, because their rows may never be written.
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

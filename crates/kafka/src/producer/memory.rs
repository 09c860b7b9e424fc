//! Memory of a producer: the memory in use, its bounds, and unused buffers.

use super::Settings;
use super::partition::SpareWork;
use super::pool::{BATCH_COST, Pool};
use super::settings::{Keep, SinkSettings};
use forebay_record::compression::Codecs;

/// The memory of a producer: bytes in use, their bounds, and buffers kept for reuse.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) pool: Pool,
    pub(super) ceilings: Ceilings,
    pub(super) codecs: Codecs,
    /// State for partitions that become busy.
    pub(super) spare: SpareWork,
    /// Whether a timer to check the pool's unused buffers is set.
    pub(super) watched: bool,
}

impl Memory {
    pub(super) fn new(settings: &Settings) -> Self {
        let codecs = settings.codecs();
        let ceilings = Ceilings::of(settings, &codecs, 0);
        let mut pool = Pool::new(ceilings.limit);
        pool.charge(codecs.memory());
        Self { pool, ceilings, codecs, spare: SpareWork::default(), watched: false }
    }

    /// Updates encoders and ceilings to other settings.
    pub(super) fn change(&mut self, settings: &Settings) {
        self.pool.refund(self.codecs.memory());
        self.codecs = settings.codecs();
        self.ceilings = Ceilings::of(settings, &self.codecs, self.ceilings.limit);
        self.pool.raise_limit(self.ceilings.limit);
        self.pool.charge(self.codecs.memory());
    }

    /// Whether rows with these bytes may be taken.
    pub(super) const fn may_take(&self, bytes: usize) -> bool {
        self.pool.used() + bytes <= self.ceilings.append
    }

    /// Bytes that rows may still take.
    pub(super) const fn free(&self) -> usize {
        self.ceilings.append.saturating_sub(self.pool.used())
    }

    /// Whether rows with these bytes may be placed, or read back into a partition.
    pub(super) const fn may_place(&self, bytes: usize) -> bool {
        self.pool.used() + bytes <= self.ceilings.place
    }

    /// Memory in use up to which rows are read back. `placed`: the rows have a partition, and leave memory by being sent. Others
    /// leave it by being placed, and so leave room for that.
    pub(super) const fn load_ceiling(&self, placed: bool) -> usize {
        if placed { self.ceilings.place } else { self.ceilings.load }
    }

    /// Whether the memory in use, and these bytes, may stay until Kafka has them, for a sink within `spill_after` or one
    /// beyond it: new rows have room beside them, on their way to the log.
    pub(super) const fn may_stay(&self, bytes: usize, within: bool) -> bool {
        self.pool.used() + bytes <= if within { self.ceilings.stay } else { self.ceilings.stay_beyond }
    }

    /// The excess of the memory in use over the amount that may stay.
    pub(super) const fn beyond_stay(&self) -> usize {
        self.pool.used().saturating_sub(self.ceilings.stay)
    }

    /// Whether these bytes fit into the memory as a whole: asked for work that frees more than it takes.
    pub(super) const fn fits(&self, bytes: usize) -> bool {
        self.pool.used() + bytes <= self.ceilings.limit
    }
}

/// Bounds of the memory that follow from the settings of all sinks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    pub(super) limit: usize,
    /// Memory of the largest batch.
    pub(super) batch: usize,
    /// Memory in use up to which rows are taken; `load`: up to which those without a partition are read back; `place`: up to which they
    /// are placed. Each is a batch above the one before, if there is a log to read from.
    pub(super) append: usize,
    pub(super) load: usize,
    pub(super) place: usize,
    /// Memory in use up to which rows of a sink with a reserve are taken.
    pub(super) reserve: usize,
    /// Memory in use up to which rows of sinks with a log stay in memory: the largest record may be taken beside that.
    /// `stay_beyond`: the same for sinks beyond their `spill_after`: each of the others has a batch, and a quarter is left for other sinks.
    pub(super) stay: usize,
    pub(super) stay_beyond: usize,
    /// Maximum `spill_after` of a sink that writes its rows to the log.
    pub(super) spill_after_max: usize,
    /// Whether there is only one sink with one topic: no other needs a share.
    pub(super) undivided: bool,
    /// Whether there are several sinks: each has its share.
    pub(super) several: bool,
}

impl Settings {
    /// The bound of the memory, and the part of it that rows leave free for work that frees memory.
    #[must_use]
    pub fn buffer(&self) -> (usize, usize) {
        let ceilings = Ceilings::of(self, &self.codecs(), 0);
        (ceilings.limit, ceilings.limit - ceilings.append)
    }
}

impl Ceilings {
    /// The ceilings for these settings. `limit_min`: the limit so far, which never decreases.
    pub(super) fn of(settings: &Settings, codecs: &Codecs, limit_min: usize) -> Self {
        let largest = settings.batch_capacity_max();
        let limit = settings.buffer_bytes.max(settings.buffer_bytes_min_with(codecs)).max(limit_min);
        // Splitting a batch needs twice its room, and once more if it is compressed; placing needs one batch.
        let reserve = limit - largest * if codecs.is_empty() { 2 } else { 3 } - 4 * BATCH_COST;
        let (reserved, others): (Vec<_>, Vec<_>) = settings.sinks.iter().partition(|sink| sink.reserved);
        // One batch fits while everything else is full: the others may free their memory only then.
        let place = reserve - if reserved.is_empty() { 0 } else { largest + BATCH_COST };
        let batch = largest + BATCH_COST;
        let logged = settings.sinks.iter().filter(|sink| sink.keep != Keep::Memory).count();
        let load = if logged > 0 { place - batch } else { place };
        let append = load - batch;
        let stay = if logged > 0 { append - batch } else { append };
        Self {
            limit,
            batch,
            append,
            load,
            place,
            reserve,
            stay,
            stay_beyond: (append / 4 * 3).min(append - logged * batch),
            // Rows beyond it are in the log alone before memory is full; the encoders' memory is set aside.
            spill_after_max: append.saturating_sub(codecs.memory()) / (2 * logged.max(1)),
            undivided: matches!(*others, [only] if only.fixed_topic),
            several: others.len() > 1,
        }
    }

    /// A sink's settings, limited to the ceilings.
    pub(super) fn of_sink(&self, sink: &SinkSettings) -> SinkSettings {
        SinkSettings { spill_after: sink.spill_after.min(self.spill_after_max), ..sink.clone() }
    }
}

//! The buffer over the log, on a disk that can lose its power.

mod disk;
mod restart;
mod room;
mod sessions;

use std::collections::BTreeMap;

use self::disk::FakeDisk;
use super::{Buffer, OpenError, Restored, Settings, SinkTerms};
use forebay_kafka::producer::row_log::{
    Known, LoggedRow, NewCut, NewRows, NotNow, Origin, ReadBack, RowLog, RowRun, TakenCut,
};
use forebay_kafka::producer::{AnsweredOn, Keep};
use forebay_kafka::types::{SinkId, Ticket};
use forebay_record::{Builder, HEADER_LEN, Row};
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_spool as spool;

const WALL: i64 = 1_800_000_000_000;

/// One cluster with a sink at `stored`, one at `replicated`, a hybrid and one in memory.
fn settings() -> Settings {
    let terms = |name: &str, keep, answered_on| SinkTerms { name: name.into(), keep, answered_on };
    Settings {
        log: spool::Settings {
            shard: 0,
            segment_bytes: 1 << 20,
            segments_max: 12,
            sink_bytes_max: 4 << 20,
            data_dir_id: 0,
            seed: 7,
        },
        takes_up_others: false,
        clusters: vec![vec![
            terms("stored", Keep::Disk, AnsweredOn::Stored),
            terms("replicated", Keep::Disk, AnsweredOn::Replicated),
            terms("hybrid", Keep::Hybrid, AnsweredOn::Replicated),
            terms("memory", Keep::Memory, AnsweredOn::Replicated),
        ]],
    }
}

const STORED: SinkId = SinkId(0);
const REPLICATED: SinkId = SinkId(1);
const HYBRID: SinkId = SinkId(2);
const MEMORY: SinkId = SinkId(3);

/// A buffer, its disk and its clock.
struct House {
    buffer: Buffer,
    disk: FakeDisk,
    now: Monotonic,
    wall: WallMs,
}

/// The attributes of a row besides its record.
#[derive(Clone, Debug, Default)]
struct Beside<'a> {
    origins: &'a [(u32, Origin)],
    deadlines: &'a [(u32, Monotonic)],
    hashes: &'a [(u32, u32)],
}

impl House {
    fn new() -> Self {
        Self::open(FakeDisk::default(), settings()).expect("nothing is there").0
    }

    fn open(disk: FakeDisk, settings: Settings) -> Result<(Self, Restored), OpenError> {
        let (now, wall) = (Monotonic(5_000_000_000), WallMs(WALL));
        let found: BTreeMap<u64, u64> = disk.found();
        let buffer = Buffer::open(&disk, settings, &found, now, wall)?;
        let mut house = Self { buffer, disk, now, wall };
        house.settle();
        let restored = house.buffer.opened().expect("the disk works");
        Ok((house, restored))
    }

    /// Cuts the power, and recovers the durable state.
    fn power_cut(self, settings: Settings) -> Result<(Self, Restored), OpenError> {
        let mut disk = self.disk;
        disk.power_cut();
        Self::open(disk, settings)
    }

    /// Runs one turn: a flush, and the disk's completions.
    fn turn(&mut self) {
        self.buffer.flush(&mut self.disk, self.now, self.wall);
        while let Some(completion) = self.disk.answer() {
            self.buffer.complete(&mut self.disk, completion, self.now);
        }
    }

    /// Runs turns until nothing is pending.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.turn();
        }
    }

    fn log(&mut self) -> super::View<'_, FakeDisk> {
        self.buffer.view(&mut self.disk, 0, self.now, self.wall)
    }

    fn write(&mut self, sink: SinkId, partition: i32, values: &[&[u8]]) -> Result<(u64, u64), NotNow> {
        self.write_with(sink, partition, values, Beside::default())
    }

    fn write_with(
        &mut self,
        sink: SinkId,
        partition: i32,
        values: &[&[u8]],
        beside: Beside<'_>,
    ) -> Result<(u64, u64), NotNow> {
        let mut builder = Builder::new(Vec::new());
        for value in values {
            let row = Row { key: None, value: Some(value), headers: std::iter::empty(), timestamp: WallMs(WALL) };
            builder.append(&row, row.measure());
        }
        let batch = builder.close(None);
        let mut log = self.log();
        let lane = log.lane(sink, "topic", partition, Known::default())?;
        let Beside { origins, deadlines, hashes } = beside;
        let count = u32::try_from(values.len()).unwrap();
        let records = &batch[HEADER_LEN..];
        let rows = NewRows { lane, records, base_timestamp: WALL, count, origins, deadlines, hashes, from: 0 };
        Ok((lane, log.rows(&rows)?))
    }

    fn cut(&mut self, sink: SinkId, lane: u64, rows: RowRun) -> TakenCut {
        let cut = NewCut {
            sink,
            topic: "topic",
            of: Known { topic_id: 9, ..Known::default() },
            partition: 3,
            producer_id: 77,
            epoch: 2,
            sequence: 40,
            timeless: true,
            lane,
            rows: &[rows],
        };
        self.log().cut(&cut).expect("room")
    }

    /// The result of reading a lane, and the rows handed over: number, value, deadline, hash, ticket.
    fn read(&mut self, lane: u64, from: u64, end: u64) -> (ReadBack, Vec<Back>) {
        let mut rows = Vec::new();
        let said = self.log().read(lane, from, end, &mut |row: LoggedRow<'_>| {
            rows.push(Back {
                number: row.number,
                value: row.record.value.unwrap_or_default().to_vec(),
                expires: row.expires,
                hash: row.hash,
                ticket: row.ticket,
            });
            true
        });
        (said, rows)
    }
}

/// A row read back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Back {
    number: u64,
    value: Vec<u8>,
    expires: Monotonic,
    hash: Option<u32>,
    ticket: Option<Ticket>,
}

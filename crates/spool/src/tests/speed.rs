//! CPU time per group. Not for every run, and only ratios count: `cargo test --lib spool::tests::speed -- --ignored
//! --nocapture`.

use std::time::Instant;

use super::support::{cut_to, lane, records};
use crate::{AppendError, Completion, Disk, Log, NewRows, ReadError, Recovered, RowRun, Settings};
use forebay_runtime::seam::{Monotonic, WallMs};

/// A disk that completes every request at once and keeps nothing.
#[derive(Default)]
struct Nowhere(Vec<Completion>);

impl Disk for Nowhere {
    fn create(&mut self, segment: u64, _: u64) {
        self.0.push(Completion::Created { segment, ok: true });
    }

    fn append(&mut self, _: u64, _: u64, _: &[u8]) -> Result<(), AppendError> {
        Ok(())
    }

    fn sync(&mut self, token: u64, _: &[u64]) {
        self.0.push(Completion::Synced { token, ok: true });
    }

    fn free(&mut self, segment: u64) {
        self.0.push(Completion::Freed { segment });
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        None
    }

    fn write_note(&mut self, _: &[u8]) {}

    fn read(&self, _: u64, _: u64, _: &mut [u8]) -> Result<(), ReadError> {
        Err(ReadError::Missing)
    }
}

#[test]
#[ignore = "a measurement"]
fn a_group_of_rows_a_cut_and_a_done() {
    let bytes = 64 << 20;
    let settings = Settings {
        shard: 0,
        segment_bytes: bytes,
        segments_max: 16,
        sink_bytes_max: bytes * 16,
        data_dir_id: 0,
        seed: 1,
    };
    let (mut log, mut disk) = (Log::new(settings, Recovered::default()), Nowhere::default());
    let lanes: Vec<u64> = (0..8).map(|partition| lane(&mut log, "sink", "topic", partition)).collect();
    for rows in [1, 16, 256] {
        let records = records(&vec![vec![7; 100]; rows]);
        let (base_timestamp, count, origins, deadlines, hashes) = (0, rows as u32, &[][..], &[][..], &[][..]);
        let (mut spent, mut done, groups) = ([0; 3], 0, 20_000);
        for _ in 0..groups {
            let mut cuts = Vec::new();
            let start = Instant::now();
            for (partition, lane) in lanes.iter().copied().enumerate() {
                let new =
                    NewRows { lane, records: &records, base_timestamp, count, origins, deadlines, hashes, from: 0 };
                let run = [RowRun { first: log.rows(&new).expect("room"), count: rows as u64 }];
                let (cut, _) = cut_to(&mut log, lane, partition as i32, 0, &run).expect("a cut");
                cuts.push((cut, lane, run));
                done += rows;
            }
            spent[0] += start.elapsed().as_nanos();
            for (cut, lane, run) in &cuts {
                // The dones go into the next group, as in a running log; the window is five.
                log.done(*cut, *lane, run, 1).expect("taken");
            }
            let start = Instant::now();
            log.flush(&mut disk, Monotonic(0), WallMs(0));
            spent[1] += start.elapsed().as_nanos();
            let start = Instant::now();
            for completion in std::mem::take(&mut disk.0) {
                log.complete(&mut disk, completion);
            }
            spent[2] += start.elapsed().as_nanos();
        }
        let each = spent.map(|nanos| nanos / groups);
        println!(
            "{rows} rows of 100 B in each of 8 lanes: ns a group: put {} write {} apply {}; ns a row {}",
            each[0],
            each[1],
            each[2],
            spent.iter().sum::<u128>() / done as u128
        );
    }
}

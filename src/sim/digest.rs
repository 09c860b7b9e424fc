//! Digests of runs, for changes that must not change behaviour: each partition's requests, each lane's calls of the log
//! and each ticket's completion, each in its order and with its time. Two builds with the same behaviour print the same
//! digests.
//!
//! ```text
//! FOREBAY_SIM_SEEDS=0..5000 FOREBAY_SIM_DIGEST=before.txt cargo test --lib sim::digest -- --ignored   # then after.txt, then diff
//! FOREBAY_SIM_DISK=1, FOREBAY_SIM_LASTING=1: with a disk, with lasting faults
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::Scope;
use crate::kafka::producer::row_log::{Ended, NewCut, NewRows};
use crate::kafka::types::{Outcome, ProduceRequest, Run};
use crate::runtime::seam::Monotonic;

/// A key within which events keep their order. Events of different keys may be reordered by a change that changes no
/// behaviour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Partition(String, i32),
    Lane(u64),
    Ticket(u64, u32),
}

thread_local! {
    static RUN: RefCell<Option<BTreeMap<Order, DefaultHasher>>> = const { RefCell::new(None) };
}

fn note(order: impl FnOnce() -> Order, what: impl Hash) {
    RUN.with_borrow_mut(|run| {
        if let Some(run) = run {
            what.hash(run.entry(order()).or_default());
        }
    });
}

pub(super) fn request(request: &ProduceRequest, now: Monotonic) {
    for batch in &request.batches {
        let how = (request.node.0, request.acks, request.slow, now.0);
        note(|| Order::Partition(batch.topic.to_string(), batch.partition), (how, &batch.bytes[..]));
    }
}

pub(super) fn rows(rows: &NewRows<'_>, now: Monotonic) {
    let origins: Vec<_> = rows.origins.iter().map(|(row, at)| (row, at.session, at.packet_id)).collect();
    let deadlines: Vec<_> = rows.deadlines.iter().map(|(row, at)| (row, at.0)).collect();
    let fields = (rows.records, rows.base_timestamp, rows.count, origins, deadlines, rows.hashes, rows.from);
    note(|| Order::Lane(rows.lane), (0, fields, now.0));
}

pub(super) fn cut(cut: &NewCut<'_>, now: Monotonic) {
    let identity = (cut.sink, cut.topic, cut.partition, cut.producer_id, cut.epoch, cut.sequence);
    let rows: Vec<(u64, u64)> = cut.rows.iter().map(|run| (run.first, run.count)).collect();
    note(|| Order::Lane(cut.lane), (1, identity, rows, now.0));
}

pub(super) fn ended(ended: &Ended<'_>, now: Monotonic) {
    let rows: Vec<(u64, u64)> = ended.rows.iter().map(|run| (run.first, run.count)).collect();
    note(|| Order::Lane(ended.lane), (2, ended.cut, rows, std::mem::discriminant(&ended.fate), now.0));
}

pub(super) fn completed(run: Run, outcome: Outcome, now: Monotonic) {
    let code = match outcome {
        Outcome::Delivered => -1,
        Outcome::DeadLettered => -2,
        Outcome::Refused(code) => i32::from(code),
    };
    for number in (0..run.count).map(|index| run.first.wrapping_add(index)) {
        note(|| Order::Ticket(run.session, number), (code, now.0));
    }
}

/// The digest of one run.
fn of(scope: &Scope) -> String {
    RUN.set(Some(BTreeMap::new()));
    let result = catch_unwind(AssertUnwindSafe(|| super::run::run(scope)));
    let orders = RUN.take().expect("it was set");
    let mut all = DefaultHasher::new();
    for (order, hasher) in &orders {
        (format!("{order:?}"), hasher.finish()).hash(&mut all);
    }
    let verdict = match result {
        Ok(Ok(_)) => "passed".to_owned(),
        Ok(Err(failure)) => format!("{:?}", failure.what),
        Err(_) => "panic".to_owned(),
    };
    format!("{} {:016x} {} orders, {verdict}", scope.seed, all.finish(), orders.len())
}

#[test]
#[ignore = "a tool: see the module"]
fn digests() {
    let Ok(path) = std::env::var("FOREBAY_SIM_DIGEST") else { return };
    let lasting = std::env::var_os("FOREBAY_SIM_LASTING").is_some();
    let disk = lasting || std::env::var_os("FOREBAY_SIM_DISK").is_some();
    let seeds = super::tests::seeds();
    let (next, lines) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let line = of(&Scope { disk, lasting, ..Scope::new(seed) });
                    lines.lock().expect("no panic while held").insert(seed, line);
                }
            });
        }
    });
    let lines = lines.into_inner().expect("no panic while held");
    let text: String = lines.into_values().map(|line| line + "\n").collect();
    std::fs::write(path, text).expect("a file to write");
}

/// A seed has one digest, however often it runs; two seeds have two.
#[test]
fn a_seed_has_one_digest() {
    for scope in [Scope::new(1), Scope::with_disk(1), Scope::with_lasting(1)] {
        assert_eq!(of(&scope), of(&scope));
    }
    let without_seed = |seed| of(&Scope::new(seed)).split_once(' ').expect("a number first").1.to_owned();
    assert_ne!(without_seed(1), without_seed(2));
}

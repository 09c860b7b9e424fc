//! The table of interest's entries under every order of two or three threads that the memory model allows (loom). Rule B2: a publish that
//! begins after a SUBACK finds its shard.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[allow(unreachable_pub, reason = "public in the crate that it is a part of")]
#[path = "../crates/mqtt/src/route/slot.rs"]
mod slot;

use slot::{Slot, TAKEN, enter};

const KEY: u64 = 7;
const OTHER: u64 = 8;

/// A bucket of two.
#[derive(Default)]
struct Bucket([Slot; 2]);

impl Bucket {
    fn shards(&self, key: u64) -> u64 {
        self.0.iter().map(|slot| slot.shards_of(key)).fold(0, |all, of| all | of) & !TAKEN
    }

    fn leave(&self, key: u64, bit: u64) {
        self.0.iter().for_each(|slot| slot.leave(key, bit));
    }
}

fn in_every_order(run: impl Fn(Arc<Bucket>) + Sync + Send + 'static) {
    with_preemptions(None, run);
}

/// Only orders in which threads are interrupted so often.
fn with_preemptions(most: Option<usize>, run: impl Fn(Arc<Bucket>) + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = most;
    model.check(move || run(Arc::new(Bucket::default())));
}

#[test]
fn two_shards_enter_one_key() {
    in_every_order(|bucket| {
        let other = Arc::clone(&bucket);
        let second = thread::spawn(move || {
            assert!(enter(&other.0, KEY, 2), "a slot for each");
            assert_eq!(other.shards(KEY) & 2, 2, "the second does not find itself");
        });
        assert!(enter(&bucket.0, KEY, 1), "a slot for each");
        assert_eq!(bucket.shards(KEY) & 1, 1, "the first does not find itself");
        second.join().unwrap();
        assert_eq!(bucket.shards(KEY), 3);
    });
}

#[test]
fn an_entry_is_taken_by_another_key_while_a_third_shard_joins_it() {
    in_every_order(|bucket| {
        assert!(enter(&bucket.0, KEY, 1), "it is empty");
        let (leaves, joins) = (Arc::clone(&bucket), Arc::clone(&bucket));
        let first = thread::spawn(move || {
            leaves.leave(KEY, 1);
            assert!(enter(&leaves.0, OTHER, 1), "there is room");
            assert_eq!(leaves.shards(OTHER) & 1, 1, "the first does not find itself");
        });
        assert!(enter(&joins.0, KEY, 2), "there is room");
        assert_eq!(joins.shards(KEY) & 2, 2, "the second does not find itself");
        first.join().unwrap();
        assert_eq!(bucket.shards(KEY), 2, "what has left is left");
        assert_eq!(bucket.shards(OTHER), 1, "a join that came too late is taken back");
    });
}

#[test]
fn who_has_left_and_entered_again_is_found_while_others_do_the_same() {
    // All orders take a minute.
    with_preemptions(Some(3), |bucket| {
        let other = Arc::clone(&bucket);
        let second = thread::spawn(move || {
            assert!(enter(&other.0, KEY, 2), "there is room");
            other.leave(KEY, 2);
        });
        assert!(enter(&bucket.0, KEY, 1), "there is room");
        bucket.leave(KEY, 1);
        assert!(enter(&bucket.0, KEY, 1), "its own slot");
        assert_eq!(bucket.shards(KEY) & 1, 1, "the first does not find itself");
        second.join().unwrap();
        assert_eq!(bucket.shards(KEY), 1);
    });
}

/// Another thread learns of the entry as a publisher's shard learns of a SUBACK.
#[test]
fn a_publish_behind_the_answer_finds_the_shard() {
    in_every_order(|bucket| {
        let answered = Arc::new(AtomicBool::new(false));
        let (table, answer) = (Arc::clone(&bucket), Arc::clone(&answered));
        let subscribes = thread::spawn(move || {
            assert!(enter(&table.0, KEY, 1), "there is room");
            answer.store(true, Ordering::Release);
        });
        let disturbs = Arc::clone(&bucket);
        let third = thread::spawn(move || {
            assert!(enter(&disturbs.0, OTHER, 4), "there is room");
            disturbs.leave(OTHER, 4);
        });
        if answered.load(Ordering::Acquire) {
            assert_eq!(bucket.shards(KEY), 1, "the answer was there first");
        }
        subscribes.join().unwrap();
        third.join().unwrap();
    });
}

//! The steady state allocates nothing per message: sixteen QoS 1 publishes a read, their records, their answers.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::ONE_SINK;
use super::world::{World, publish};
use forebay::runtime::seam::Shard;

/// The system's allocator, counting what the thread that asks for it allocates.
pub(crate) struct Counting;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get().map(|c| c + 1)));
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Allocations made by `work` on this thread.
pub(crate) fn counted(work: impl FnOnce()) -> u64 {
    COUNT.with(|count| count.set(Some(0)));
    work();
    COUNT.with(|count| count.take()).expect("counted")
}

#[test]
fn a_publish_allocates_nothing_in_the_steady_state() {
    for options in [
        "",
        "dead_letters_topic = 'dead'",
        "dead_letters_file = 'dead'",
        "expire_after = '1h'",
        "partitioner = 'client'",
        "max_inflight = 1",
    ] {
        let (allocations, _, messages) = steady_state(&format!("{ONE_SINK}{options}\n"));
        assert!(allocations * 1_000 < messages, "{options}: {allocations} allocations for {messages} messages");
    }
    let receipts = "[[listener]]\nbind = '127.0.0.1:1883'\nreceipts = true\n";
    let (allocations, _, messages) = steady_state(&format!("{receipts}{ONE_SINK}"));
    assert!(allocations * 1_000 < messages, "receipts: {allocations} allocations for {messages} messages");
}

/// With a disk buffer: nothing while messages come in, a few at the end of a turn, for its group and its batches, however
/// many messages are in them.
#[test]
fn a_publish_that_goes_to_the_disk_allocates_nothing_either() {
    let spool = "[spool]\nbytes_max = '64MiB'\nsegment_bytes = '4MiB'\n";
    let small = "batch_bytes = '256KiB'\nrecord_bytes_max = '64KiB'\n";
    let (allocations, at_end, messages) = steady_state(&format!("{spool}{ONE_SINK}{small}"));
    assert!(allocations * 1_000 < messages, "{allocations} allocations for {messages} messages");
    // A turn has 128 messages.
    assert!(at_end * 32 < messages, "{at_end} allocations at the ends of turns with {messages} messages");
}

/// Allocations while messages come in and at the ends of those turns, and messages, of a sink with these options, once it
/// is warm.
fn steady_state(config: &str) -> (u64, u64, u64) {
    const PER_READ: u16 = 16;
    const DEVICES: usize = 8;
    let mut world = World::new(config);
    world.broker.keep = false;
    let devices: Vec<_> = (0..DEVICES).map(|i| world.device(&format!("d{i}"), 0)).collect();
    let reads: Vec<Vec<u8>> = (0..DEVICES)
        .map(|i| {
            let mut read = Vec::new();
            for id in 1..=PER_READ {
                publish(&format!("dev/{i}/telemetry"), id, &[b'x'; 100], &mut read);
            }
            read
        })
        .collect();
    let (mut allocations, mut at_end) = (0, 0);
    const ROUNDS: usize = 400;
    const WARM: usize = 100;
    for round in 0..ROUNDS {
        let shard = |world: &mut World| {
            for (device, read) in devices.iter().zip(&reads) {
                world.core.on_bytes(&mut world.table, *device, read);
            }
        };
        let made = counted(|| shard(&mut world));
        allocations += if round >= WARM { made } else { 0 };
        let made = counted(|| world.core.on_turn_end(&mut world.table));
        at_end += if round >= WARM { made } else { 0 };
        world.advance(std::time::Duration::from_millis(5));
        for device in &devices {
            assert_eq!(world.table.wire(*device).out.len(), 4 * usize::from(PER_READ), "round {round}: PUBACKs");
            world.table.wire(*device).out.clear();
        }
    }
    (allocations, at_end, ((ROUNDS - WARM) * DEVICES * usize::from(PER_READ)) as u64)
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| drop(Box::new(1))), 1);
    assert_eq!(counted(|| ()), 0);
}

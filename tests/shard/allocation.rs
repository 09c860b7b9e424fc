//! The steady state allocates nothing per message: sixteen QoS 1 publishes a read, their records, their answers.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::world::{ONE_SINK, World, publish};
use forebay::runtime::seam::Shard;

/// The system's allocator, counting what the thread that asks for it allocates.
pub(crate) struct Counting;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn held(bytes: i64) {
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

/// Bytes that this thread has allocated and not given back; what another one gives back counts as held.
pub(crate) fn live() -> i64 {
    LIVE.with(Cell::get)
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get().map(|c| c + 1)));
        held(layout.size() as i64);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        held(-(layout.size() as i64));
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
        let Steady { allocations, messages, .. } = steady_state(&format!("{ONE_SINK}{options}\n"));
        assert!(allocations * 1_000 < messages, "{options}: {allocations} allocations for {messages} messages");
    }
    let receipts = "[[listener]]\nbind = '127.0.0.1:1883'\nreceipts = true\n";
    let Steady { allocations, messages, .. } = steady_state(&format!("{receipts}{ONE_SINK}"));
    assert!(allocations * 1_000 < messages, "receipts: {allocations} allocations for {messages} messages");
}

/// With a disk buffer: nothing while messages come in, a few at the end of a turn, for its group and its batches, however
/// many messages are in them. Nothing more for what follows than without: batches are cut by way of the log, synced, and
/// their ends go there.
#[test]
fn a_publish_that_goes_to_the_disk_allocates_nothing_either() {
    let spool = "[spool]\nbytes_max = '64MiB'\nsegment_bytes = '4MiB'\n";
    let small = "batch_bytes = '256KiB'\nrecord_bytes_max = '64KiB'\n";
    let memory = steady_state(&format!("{ONE_SINK}{small}"));
    for level in ["stored", "replicated"] {
        let disk = steady_state(&format!("{spool}{ONE_SINK}{small}acknowledge = '{level}'\n"));
        let Steady { allocations, at_end, turns, messages, .. } = disk;
        assert!(allocations * 1_000 < messages, "{level}: {allocations} allocations for {messages} messages");
        assert!(at_end <= 4 * turns, "{level}: {at_end} allocations at the ends of {turns} turns");
        let (most, made) = (memory.at_end + memory.meanwhile, disk.at_end + disk.meanwhile);
        assert!(made <= most + turns / 10, "{level}: {made} allocations, {most} without a disk, in {turns} turns");
    }
}

/// What a shard allocates once it is warm.
struct Steady {
    /// While messages come in.
    allocations: u64,
    /// At the ends of those turns.
    at_end: u64,
    /// Until they are settled: syncs, timers, cuts, Kafka's answers, ends.
    meanwhile: u64,
    turns: u64,
    messages: u64,
}

/// Of a shard with this configuration.
fn steady_state(config: &str) -> Steady {
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
    const ROUNDS: u64 = 400;
    const WARM: u64 = 100;
    let turns = ROUNDS - WARM;
    let messages = turns * DEVICES as u64 * u64::from(PER_READ);
    let mut steady = Steady { allocations: 0, at_end: 0, meanwhile: 0, turns, messages };
    for round in 0..ROUNDS {
        let came = counted(|| {
            for (device, read) in devices.iter().zip(&reads) {
                world.core.on_bytes(&mut world.table, *device, read);
            }
        });
        let at_end = counted(|| world.core.on_turn_end(&mut world.table));
        world.allocations = 0;
        world.advance(std::time::Duration::from_millis(5));
        if round >= WARM {
            steady.allocations += came;
            steady.at_end += at_end;
            steady.meanwhile += world.allocations;
        }
        for device in &devices {
            assert_eq!(world.table.wire(*device).out.len(), 4 * usize::from(PER_READ), "round {round}: PUBACKs");
            world.table.wire(*device).out.clear();
        }
    }
    steady
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(counted(|| ()), 0);
}

/// A rule that filters a message, or reads texts with escapes on the way, allocates nothing once its arena is warm.
#[test]
fn a_rule_allocates_nothing_in_the_steady_state() {
    use forebay::mqtt::property::PropertyBuf;
    use forebay::rule::arena::Arena;
    use forebay::rule::around::{Around, Environment};
    use forebay::rule::message::{Given, Id, Message};
    use forebay::rule::program::{Input, Outcome, Program};
    use forebay::rule::template::MessageContext;

    const PASSING: &str = r#"{"device":"m\u00e4t-42","temp":21.5,"tags":["a\n","b"],"pos":{"lat":52.5}}"#;
    const FILTERED: &str = r#"{"device":"m\u00e4t-42","temp":19.5,"tags":["a\n","b"],"pos":{"lat":52.5}}"#;
    let (properties, environment, zone) = (PropertyBuf::new(), Environment::default(), jiff::tz::TimeZone::UTC);
    let mut arena = Arena::new();
    let mut out = Vec::with_capacity(4096);
    for (sql, passes) in [
        ("SELECT * FROM \"t/#\" WHERE payload.temp > 20", true),
        ("SELECT upper(payload.device) + topic AS d, payload.temp * 2 AS t FROM \"t/#\" WHERE t > 40", true),
        ("FOREACH payload.tags AS tag DO tag, clientid FROM \"t/#\" WHERE payload.temp > 20", true),
        ("SELECT * FROM \"t/#\" WHERE payload.device = 'x'", false),
    ] {
        let program = Program::compile(sql, "r").expect("a rule");
        for (payload, passes) in [(PASSING, passes), (FILTERED, false)] {
            let context = MessageContext {
                topic: "t/1",
                client_id: "c1",
                username: None,
                qos: 1,
                retain: false,
                dup: false,
                packet_id: 1,
                payload: payload.as_bytes(),
                timestamp_ms: 1,
                properties: properties.as_properties(),
                hops: 0,
                copy_of: None,
                output: None,
            };
            let message = Message {
                context,
                id: Id::Number(1),
                peerhost: None,
                peername: None,
                node: "n",
                given: Given::default(),
            };
            let around = Around { now_ns: 1, zone: &zone, environment: &environment, seed: 1 };
            let mut evaluate = || {
                out.clear();
                let mut input = Input::new(&message, &around, &mut arena);
                let outcome = program.evaluate(&mut input, |output| output.write(&mut out)).expect("it does not fail");
                assert_eq!(outcome != Outcome::Filtered, passes, "{sql} {payload}");
            };
            evaluate();
            evaluate();
            assert_eq!(counted(|| (0..100).for_each(|_| evaluate())), 0, "{sql} {payload}");
        }
    }
}

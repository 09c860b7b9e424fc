//! Exact costs of the hot path's pieces, for `forebay-bench gate`: instructions and locked instructions when run under
//! callgrind, and allocations, which this program counts by itself. Neither depends on how busy the machine is.
//!
//! `instructions list` names the pieces, `instructions run NAME CALLS` calls one within [`measured_region`] (callgrind's
//! `--toggle-collect`), `instructions allocations` prints what each allocates in 10,000 calls.

// The shard's tests bring more than is used here.
#![allow(dead_code, unused_imports)]

#[path = "../tests/shard/allocation.rs"]
mod allocation;
#[path = "../tests/shard/broker.rs"]
mod broker;
mod cases;
#[path = "../tests/shard/folder.rs"]
mod folder;
#[path = "../sim/src/layers.rs"]
mod layers;
#[path = "../tests/shard/ring.rs"]
mod ring;
#[path = "../tests/shard/segments.rs"]
mod segments;
#[path = "../src/runtime/tests/toy.rs"]
mod toy;
#[path = "../tests/shard/world.rs"]
mod world;

use std::process::ExitCode;

use forebay::runtime::seam;

#[global_allocator]
static COUNTING: allocation::Counting = allocation::Counting;

/// The whole way of a message through a shard: a read of sixteen QoS 1 PUBLISHes, and the end of the turn.
const PUBLISH: &str = "publish";
/// Messages in a read.
const PER_READ: u64 = 16;
/// Calls before anything is counted: buffers get their sizes.
const WARM: u64 = 20_000;

/// What callgrind collects in.
#[inline(never)]
fn measured_region(work: &mut dyn FnMut()) {
    work();
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => names().for_each(|name| println!("{name}")),
        ["run", name, calls] => {
            let calls = calls.parse().expect("a number of calls");
            run(name, calls, |work| measured_region(work));
        }
        ["allocations"] => {
            for name in names() {
                let mut sum = 0;
                run(name, 10_000, |work| sum += allocation::counted(work));
                println!("{name} {sum}");
            }
        }
        _ => {
            eprintln!("instructions list | run NAME CALLS | allocations");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn names() -> impl Iterator<Item = &'static str> {
    cases::NAMES.into_iter().chain([PUBLISH])
}

/// Warms a piece up and calls it `calls` times within `measure`.
fn run(name: &str, calls: u64, mut measure: impl FnMut(&mut dyn FnMut())) {
    if name == PUBLISH {
        return publish(calls, measure);
    }
    let mut work = cases::case(name).expect("a piece");
    work(WARM);
    measure(&mut || work(calls));
}

fn publish(messages: u64, mut measure: impl FnMut(&mut dyn FnMut())) {
    const DEVICES: u64 = 8;
    let mut world = world::World::new(world::ONE_SINK);
    world.broker.keep = false;
    let devices: Vec<_> = (0..DEVICES).map(|device| world.device(&format!("d{device}"), 0)).collect();
    let reads: Vec<Vec<u8>> = (0..DEVICES)
        .map(|device| {
            let mut read = Vec::new();
            for id in 1..=PER_READ {
                world::publish(&format!("dev/{device}/telemetry"), id as u16, &[b'x'; 100], &mut read);
            }
            read
        })
        .collect();
    let turn = DEVICES * PER_READ;
    for round in 0..(WARM + messages).div_ceil(turn) {
        use forebay::runtime::seam::Shard;
        let mut work = || {
            for (device, read) in devices.iter().zip(&reads) {
                world.core.on_bytes(&mut world.table, *device, read);
            }
        };
        if round * turn < WARM {
            work()
        } else {
            measure(&mut work)
        }
        world.core.on_turn_end(&mut world.table);
        world.advance(std::time::Duration::from_millis(5));
        for device in &devices {
            assert_eq!(world.table.wire(*device).out.len(), 4 * PER_READ as usize, "PUBACKs");
            world.table.wire(*device).out.clear();
        }
    }
}

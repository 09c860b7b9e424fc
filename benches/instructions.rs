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
#[path = "../tests/shard/coordinator.rs"]
mod coordinator;
#[path = "../tests/shard/folder.rs"]
mod folder;
#[path = "../sim/src/layers.rs"]
mod layers;
#[path = "../tests/shard/ring.rs"]
mod ring;
#[path = "../tests/shard/segments.rs"]
mod segments;
#[path = "cases/steps.rs"]
mod steps;
#[path = "../crates/runtime/src/tests/toy.rs"]
mod toy;
#[path = "../tests/shard/world.rs"]
mod world;

use std::process::ExitCode;

use forebay::runtime::seam;

#[global_allocator]
static COUNTING: allocation::Counting = allocation::Counting;

/// A whole way of messages through a shard: reads of QoS 1 PUBLISHes.
struct Way {
    name: &'static str,
    config: fn() -> String,
    payload: &'static [u8],
    /// Messages in a read.
    per_read: u64,
    /// Whether the ends of turns are measured, too.
    with_end: bool,
}

impl Way {
    const fn of(name: &'static str, config: fn() -> String) -> Self {
        Self { name, config, payload: &[b'x'; 100], per_read: PER_READ, with_end: false }
    }
}

const WAYS: [Way; 8] = [
    Way::of("publish", one_sink),
    // Filters and rules that do not match cost the same.
    Way::of("publish_beside_1000_filters", beside_filters),
    Way::of("publish_beside_1000_rules", beside_rules),
    Way { per_read: 1, ..Way::of("publish_alone", one_sink) },
    Way { payload: COLD, ..Way::of("rule_filtered", fed) },
    Way { payload: HOT, ..Way::of("rule_passed", fed) },
    // The end of the turn without a source, and with one that has nothing to read.
    Way { with_end: true, ..Way::of("turn", one_sink) },
    Way { with_end: true, ..Way::of("turn_beside_a_source", beside_a_source) },
];

fn one_sink() -> String {
    world::ONE_SINK.to_owned()
}

/// A message of 203 bytes that [`fed`]'s rule filters.
const COLD: &[u8] = br#"{"ts":1795000000123,"site":"berlin","device":{"id":"pump-0017","model":"PX-200","fw":"3.4.1"},"temp":19.5,"hum":40.25,"pressure":1013.2,"state":"running","alarms":[],"position":{"lat":52.52,"lon":13.40}}"#;
/// The same of a message that passes.
const HOT: &[u8] = br#"{"ts":1795000000123,"site":"berlin","device":{"id":"pump-0017","model":"PX-200","fw":"3.4.1"},"temp":29.5,"hum":40.25,"pressure":1013.2,"state":"running","alarms":[],"position":{"lat":52.52,"lon":13.40}}"#;

/// A sink that one rule feeds with whole messages.
fn fed() -> String {
    let sink = world::ONE_SINK.replace("filters = [\"#\"]\n", "");
    format!("{sink}\n[[rule]]\nname = 'r'\nsql = 'SELECT * FROM \"dev/#\" WHERE payload.temp > 20'\nsinks = ['all']\n")
}

/// A thousand filters of a sink that match nothing here.
fn beside_filters() -> String {
    let filters: Vec<String> = (0..1_000).map(|n| format!("'other/{n}/+'")).collect();
    format!(
        "{}\n[[sink]]\nname = 'other'\nkafka = 'main'\ntopic = 'other'\nfilters = [{}]\n",
        world::ONE_SINK,
        filters.join(", ")
    )
}

/// The same filters, of a thousand rules.
fn beside_rules() -> String {
    let rule = |n| format!("[[rule]]\nname = 'r{n}'\nsql = 'SELECT * FROM \"other/{n}/+\"'\nsinks = ['other']\n");
    let rules: String = (0..1_000).map(rule).collect();
    format!("{}\n[[sink]]\nname = 'other'\nkafka = 'main'\ntopic = 'other'\n{rules}", world::ONE_SINK)
}

fn beside_a_source() -> String {
    format!("{}{IDLE_SOURCE}", world::ONE_SINK)
}

const IDLE_SOURCE: &str = r#"
[[source]]
name = "commands"
kafka = "main"
topic = "commands"
mqtt_topic = "t/1"
group = ""
"#;

/// Messages in a read, where there are several.
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
        ["steps"] => steps::print(None),
        ["steps", only] => steps::print(Some(only)),
        _ => {
            eprintln!("instructions steps [PART] | list | run NAME CALLS | allocations");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn names() -> impl Iterator<Item = &'static str> {
    cases::NAMES.into_iter().chain(WAYS.iter().map(|way| way.name))
}

/// Warms a piece up and calls it `calls` times within `measure`.
fn run(name: &str, calls: u64, mut measure: impl FnMut(&mut dyn FnMut())) {
    if let Some(way) = WAYS.iter().find(|way| way.name == name) {
        return publish(way, calls, measure);
    }
    let mut work = cases::case(name).expect("a piece");
    work(WARM);
    measure(&mut || work(calls));
}

/// Publishes `messages` messages, 128 in each turn.
fn publish(way: &Way, messages: u64, mut measure: impl FnMut(&mut dyn FnMut())) {
    const TURN: u64 = 8 * PER_READ;
    let devices = TURN / way.per_read;
    let mut world = world::World::new(&(way.config)());
    world.broker.keep = false;
    // A source reads from when clients are accepted.
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    world.mail(forebay::shard::mail::Mail::Shard(forebay::shard::mail::ToShard::Accept));
    while let Some(letters) = world.table.posted.replace(Vec::new()).filter(|letters| !letters.is_empty()) {
        letters.into_iter().for_each(|(_, letter)| world.mail(letter));
    }
    let devices: Vec<_> = (0..devices).map(|device| world.device(&format!("d{device}"), 0)).collect();
    let reads: Vec<Vec<u8>> = (0..devices.len())
        .map(|device| {
            let mut read = Vec::new();
            for id in 1..=way.per_read {
                world::publish(&format!("dev/{device}/telemetry"), id as u16, way.payload, &mut read);
            }
            read
        })
        .collect();
    for round in 0..(WARM + messages).div_ceil(TURN) {
        use forebay::runtime::seam::Shard;
        let mut work = || {
            for (device, read) in devices.iter().zip(&reads) {
                world.core.on_bytes(&mut world.table, *device, read);
            }
            if way.with_end {
                world.core.on_turn_end(&mut world.table);
            }
        };
        if round * TURN < WARM {
            work()
        } else {
            measure(&mut work)
        }
        world.core.on_turn_end(&mut world.table);
        world.advance(std::time::Duration::from_millis(5));
        for device in &devices {
            assert_eq!(world.table.wire(*device).out.len(), 4 * way.per_read as usize, "PUBACKs");
            world.table.wire(*device).out.clear();
        }
    }
}

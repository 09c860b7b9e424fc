//! A whole shard on a simulated clock: no socket, no kernel, a Kafka in memory. What is shown here is exact where a
//! real clock could only be approximate.

mod access;
mod allocation;
mod answer_timeout;
mod bindings;
mod bridges;
mod broker;
mod conformance;
mod conformance_flow;
mod connections;
mod contract;
mod coordinator;
mod costs;
mod cut;
mod damaged;
mod damages;
mod dead_letters;
mod departures;
mod device;
mod drain;
mod dropped;
mod dropped_order;
mod events;
mod exchanges;
mod fair;
mod folder;
mod frozen;
mod gauges;
mod hand_over;
#[path = "../support/hello.rs"]
mod hello;
mod hostile;
mod isolation;
mod kafka;
mod keep_alive;
mod kept;
#[allow(dead_code)]
#[path = "../../sim/src/layers.rs"]
mod layers;
#[path = "../support/link.rs"]
mod link;
#[path = "../malformed/mod.rs"]
mod malformed;
mod mapping;
mod no_room;
mod oldest;
mod owners;
mod paced;
mod positions;
mod process;
mod queue_rules;
mod queues;
mod queues_across;
mod reads;
mod receipts;
mod record_replays;
mod relay;
mod remotes;
mod remotes_3x;
mod remotes_hops;
mod remotes_hostile;
mod remotes_ledger;
mod remotes_refusals;
mod remotes_shown;
mod replays;
mod republish;
mod retained;
mod ring;
mod routes;
mod runs;
mod segments;
mod several;
mod shapes;
mod share_strategies;
mod shares;
mod shares_crash;
mod shares_instances;
mod shares_several;
mod shares_stored;
mod silent;
mod sinks;
mod slot_full;
mod slot_full_order;
mod slot_full_qos2;
mod slot_rows;
mod slots;
mod sources;
mod sources_left;
mod sources_ruled;
mod spool;
mod sql_rules;
mod stalls;
mod starting;
mod stop;
mod storm;
mod subscribe;
mod sys_topics;
mod tokens;
#[allow(dead_code)]
#[path = "../../crates/runtime/src/tests/toy.rs"]
mod toy;
mod turns;
mod unread;
mod verdicts;
mod wills;
mod world;

use allocation::Counting;
use forebay::runtime::seam;
use process::spooled;
use world::ONE_SINK;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The seeds to run: these, or those of `FOREBAY_SHARD_SEEDS=FROM..TO`.
fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    std::env::var("FOREBAY_SHARD_SEEDS").map_or(default, |text| {
        let (from, to) = text.split_once("..").expect("a range");
        from.parse().expect("a seed")..to.parse().expect("a seed")
    })
}

/// As [`ONE_SINK`], with little memory.
fn small() -> String {
    ONE_SINK.replace("[kafka.main]", "[kafka.main]\nbuffer_bytes = \"16MiB\"")
}

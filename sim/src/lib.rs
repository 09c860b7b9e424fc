//! The simulator: whole shards (`forebay::shard::Core`) against models of everything outside the process.
//!
//! One seed is one run: the same seed gives the same run, on any machine. See `docs/SIMULATION.md`.
//!
//! | module | models |
//! |---|---|
//! | [`ring`] | the runtime: connections, timers, mail, clocks |
//! | [`disk`] | segment files: page cache, power cuts, read errors, slow and failing syncs |
//! | [`kafka`] | clusters of brokers that speak Kafka's protocol |
//! | [`link`] | connections to brokers: latency, cuts, late requests |
//! | [`connection`], `clients` | the clients' end of their connections |
//! | [`device`] | MQTT clients that publish |
//! | [`subscriber`], `subscribers` | MQTT clients that subscribe |
//! | `layers` | TLS: a toy layer between the bytes of connections and the bytes of their ends |
//! | [`plan`], [`faults`] | the draws of a seed; faults and their times |
//! | [`damage`], `records` | rot, missing segments, files of dead letters that hang; the records of subscribers in a segment |
//! | [`process`], `ends` | process starts, crashes, power cuts, orderly stops, configuration changes |
//! | `broker` | starts with `[broker]`, and processes beside each other |
//! | `instances` | several instances of one broker: their slots, links between them, how they start and end |
//! | [`sources`] | records of other programs, and the messages made of them |
//! | [`shards`] | starts with another number of shards |
//! | [`judge`], [`receipts`] | the checks |
//! | [`world`], [`run`] | one run; many |
//! | [`scenarios`] | scripts that show known faults |
//! | [`wrong`] | rules taken out, one at a time |
//! | [`expected`] | known faults that are not fixed |

mod broker;
mod clients;
pub mod connection;
pub mod damage;
pub mod device;
mod digest;
pub mod disk;
mod ends;
pub mod expected;
pub mod faults;
mod instances;
pub mod judge;
pub mod kafka;
mod layers;
pub mod link;
pub mod plan;
pub mod process;
pub mod receipts;
mod records;
pub mod ring;
pub mod run;
pub mod scenarios;
pub mod shards;
pub mod sources;
pub mod subscriber;
mod subscribers;
pub mod time;
pub mod world;
pub mod wrong;

/// The toy layer, shared with the runtime's tests.
#[allow(dead_code)]
#[path = "../../crates/runtime/src/tests/toy.rs"]
mod toy;

use forebay::runtime::seam;

#[cfg(test)]
mod tests;

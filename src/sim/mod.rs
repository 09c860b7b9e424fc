//! The simulator: parts of the program, driven by seeds, on a clock that passes only when the schedule says so, against models of what
//! lies outside. A seed is one run, and a run that fails can be had again. `docs/internals/SIMULATION.md` says what is modelled and judged.
//!
//! Its first room is the producer against a model of Kafka. What joins it later (spool, session, disk) is one more part of the [`world`],
//! with its own faults in [`plan`] and [`faults`], and its own questions to the [`judge`].

mod clients;
mod clock;
mod crash;
mod digest;
mod faults;
mod judge;
mod kafka;
mod landed;
mod lost;
mod network;
mod plan;
mod row;
mod run;
mod stop;
mod store;
mod trace;
mod world;
mod wrong;

#[cfg(test)]
mod tests;

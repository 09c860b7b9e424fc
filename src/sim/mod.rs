//! The simulator: parts of the program, driven by seeds, on a clock that passes only as the schedule says, against models of everything
//! outside. A seed is one run, and a failed run can be repeated. `docs/internals/SIMULATION.md` says what is modelled and judged.
//!
//! The first part is the producer against a model of Kafka. Each further part (spool, session, disk) is one more part of the [`world`],
//! with its own faults in [`plan`] and [`faults`], and its own checks in the [`judge`].

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

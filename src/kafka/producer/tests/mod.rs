//! Tests of the producer: rule by rule against hand-written answers (`rules`, `refusals`, `topics`, `memory`), and against a model of Kafka
//! under seeded schedules of faults (`schedule`).

mod hand;
mod kafka;
mod levels;
mod memory;
mod refusals;
mod rules;
mod schedule;
mod topics;
mod wire;

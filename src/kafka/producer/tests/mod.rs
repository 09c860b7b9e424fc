//! Tests of the producer: rule by rule against hand-written answers (`rules`, `memory`), and against a model of Kafka
//! under seeded schedules of faults (`schedule`).

mod hand;
mod kafka;
mod memory;
mod rules;
mod schedule;
mod wire;

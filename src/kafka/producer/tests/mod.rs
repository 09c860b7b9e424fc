//! Tests of the producer: rule by rule against hand-written answers (`rules`, `refusals`, `topics`, `memory`, `shares`), and against a model of Kafka
//! under seeded schedules of faults (`schedule`).

mod dead;
mod expire;
mod hand;
mod kafka;
mod levels;
mod memory;
mod refusals;
mod rules;
mod schedule;
mod shares;
mod topics;
mod wire;

//! Tests of the producer: rule by rule against hand-written answers (`rules`, `refusals`, `topics`, `memory`, `shares`), and against a model of Kafka
//! under seeded schedules of faults (`schedule`).

mod anew;
mod ask;
mod dead;
mod expire;
mod hand;
mod kafka;
mod lanes;
mod levels;
mod lost;
mod memory;
mod news;
mod partitioner;
mod refusals;
mod rules;
mod schedule;
mod shares;
mod timeless;
mod topics;
mod window;
mod wire;

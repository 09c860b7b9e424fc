//! Tests of the producer, rule by rule against hand-written answers. Against a model of Kafka, under seeded faults, it is tested by the
//! simulator (`sim/`).

mod ask;
mod expire;
mod hand;
mod levels;
mod memory;
mod refusals;
mod rules;
mod shares;
mod topics;

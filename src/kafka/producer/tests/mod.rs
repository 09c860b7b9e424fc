//! Tests of the producer, rule by rule against hand-written answers. Against a model of Kafka, under seeded faults, it is tested by the
//! simulator (`sim/`).

mod anew;
mod anew_logged;
mod ask;
mod contract;
mod crashes;
mod dead;
mod expire;
mod frozen;
mod full;
mod hand;
mod hand_log;
mod landed;
mod lanes;
mod levels;
mod lives;
mod logged;
mod lost;
mod memory;
mod news;
mod partitioner;
mod refusals;
mod restored;
mod rules;
mod saved;
mod shares;
mod spilled;
mod timeless;
mod topics;
mod voided;
mod window;

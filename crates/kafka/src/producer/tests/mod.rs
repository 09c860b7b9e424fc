//! Tests of the producer, rule by rule against hand-written answers. Against a model of Kafka, under seeded faults, it is tested by the
//! simulator (`sim/`).

mod ask;
mod away;
mod cluster;
mod contract;
mod crashes;
mod expire;
mod frozen;
mod full;
mod landed;
mod lanes;
mod levels;
mod lives;
mod logged;
mod lost;
mod many;
mod memory;
mod news;
mod paced;
mod partitioner;
mod paused;
mod recreated;
mod recreated_logged;
mod refusals;
mod restored;
mod retries;
mod rules;
mod saved;
mod settings;
mod shares;
mod spilled;
mod topics;
mod voided;
mod window;
mod without_timestamp;

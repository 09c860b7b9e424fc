//! Tests of the consumer against brokers that answer at once, on a clock that only the test moves.

mod bad;
mod bytes;
mod memory;
mod places;
mod reading;
mod sessions;
mod storm;
mod topics;
mod world;

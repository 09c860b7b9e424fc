//! Tests of the consumer with brokers that answer at once, on a clock that only the test advances.

mod bad;
mod bytes;
mod memory;
mod places;
mod reading;
mod sessions;
mod storm;
mod topics;
mod world;

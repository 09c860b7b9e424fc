//! Tests of the client against the fake cluster, on a clock that only the test advances.

mod ask;
mod bytes;
mod change;
mod coordinator;
mod failures;
mod fetching;
mod flow;
mod frozen;
mod login;
mod relogin;
mod settings;
mod storm;
mod world;

//! Tests of the group of instances: assignments by themselves, and members over a model of the coordinator.

mod assigned;
mod coordinator;
mod model;
mod world;

//! Tests of the group of instances: assignments alone, and members with a model of the coordinator.

mod assigned;
mod coordinator;
mod model;
mod silence;
mod world;

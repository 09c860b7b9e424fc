//! A model of Kafka: what a cluster does with record batches, producer ids and sequences, as tried on 4.3.1 byte by byte. Nothing of the
//! producer is used but the batch reader. `log` is one partition, `cluster` the rest.

mod ask;
mod cluster;
mod log;

pub(super) use cluster::{Appended, Cluster, Wait};
pub(super) use log::{Entry, Log};

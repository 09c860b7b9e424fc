//! A model of Kafka: what a cluster does with record batches, producer ids and sequences, as observed byte by byte on 4.3.1. The batch
//! reader is the only code of the producer that it uses. `log` is one partition, `cluster` the rest.

mod ask;
mod cluster;
mod log;

pub(super) use cluster::{Appended, Cluster, Wait};
pub(super) use log::{Entry, Log};

//! Messages and services of gRPC, from the definitions beside this file. `proto/` of the repository generates them, and its test compares.

#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    reason = "generated; the definitions say what things are"
)]

pub(in crate::dapr) mod runtime {
    include!("dapr.proto.runtime.v1.rs");
}

//! Messages and services of gRPC, from the definitions beside this file. `proto/` of the repository generates them, and its test compares.

#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    reason = "generated; the definitions say what things are"
)]

pub(crate) mod runtime {
    include!("dapr.proto.runtime.v1.rs");
}

pub(crate) mod components {
    include!("dapr.proto.components.v1.rs");
}

/// The definitions of `components`, as gRPC's reflection has them.
pub(crate) const COMPONENTS: &[u8] = include_bytes!("components.bin");

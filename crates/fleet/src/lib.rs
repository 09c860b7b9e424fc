//! Several instances: slots and their owners, membership, links and trunks.

#![forbid(unsafe_code)]

pub mod link;
pub mod membership;
pub mod replica;
pub mod trunk;

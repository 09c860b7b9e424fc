//! Tests of the embedded log that need more than one of its files.

pub(crate) mod support;

//! JSON: values out of a text, and texts out of values.

pub(super) mod index;
mod path;
pub(super) mod write;

pub(super) use path::{JsonPath, quoted_len};

//! The ground floor: addresses, files, limits, text on a terminal, and the rules that promises rest on.

#![forbid(unsafe_code)]

pub mod address;
pub mod files;
pub mod in_use;
pub mod limits;
pub mod rules;
pub mod shown;

//! Tests of the whole walk: the meaning of the defaults and of a full file, and the problems of a wrong one.

mod bridges;
mod broker;
mod change;
mod document;
mod jwt;
mod kafka_tls;
mod meaning;
mod problems;
mod republish;
mod sasl;
mod sources;
mod spool;
mod surface;
mod table;
mod tls;
mod ws;

use super::*;

/// Reads a text for a machine with two cores.
fn read(text: &str) -> Result<Config, Problems> {
    parse_with(text, "forebay.toml", &Overrides::default(), 2)
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

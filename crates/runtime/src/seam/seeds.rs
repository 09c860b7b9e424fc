//! Seeds of random tests: `FOREBAY_SEEDS=0..5000` sets them, else a test uses its usual number.

use std::ops::Range;

/// The seeds that the environment names, or `0..usual`.
pub fn seeds(usual: u64) -> Range<u64> {
    let given = std::env::var("FOREBAY_SEEDS").ok();
    let range = given
        .as_deref()
        .and_then(|text| text.split_once(".."))
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or(0..usual)
}

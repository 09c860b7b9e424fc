//! Another instance, on a trunk: its preface, and frames that are cut anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8], &[u8])| {
    // Half of them get over the first bytes, which a fuzzer finds only slowly.
    let (signed, cuts, bytes) = input;
    let start: &[u8] = if signed { b"forebay trunk\0\x01" } else { b"" };
    forebay_fuzz::trunk::preface(&[start, bytes].concat());
    forebay_fuzz::trunk::frames(cuts, bytes);
});

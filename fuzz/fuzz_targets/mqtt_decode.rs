//! A stream of packets of one version from one end, cut and decoded until the first refusal. The first byte of the
//! input says which version and which end.
#![no_main]

use forebay_fuzz::{ask, connection, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&first, mut stream)) = input.split_first() else { return };
    let (version, sender) = connection(first);
    while let Some((packet, len)) = read(version, sender, stream) {
        ask(&packet);
        stream = &stream[len..];
    }
});

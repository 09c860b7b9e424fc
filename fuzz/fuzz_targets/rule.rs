//! Rules: see `rule_input`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8], &[u8])| {
    let (is_text, text, payload) = input;
    forebay_fuzz::rule_input::check(is_text, text, payload);
});

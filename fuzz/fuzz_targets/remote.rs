//! The remote of a bridge, which may say anything: what it grants is kept to, and what it may not say ends it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<&str>, &[u8])| {
    let (form, filters, bytes) = input;
    forebay_fuzz::remote::answers(form, &filters, bytes);
});

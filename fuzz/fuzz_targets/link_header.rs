//! What a front says of a client that it relays: a header of the PROXY protocol with fields of Forebay's own.
#![no_main]

use forebay_fuzz::proxy::V2_SIGNATURE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (form, rest) = input;
    let mut bytes = Vec::new();
    // Most of them get over the signature, and half of these over the PROXY protocol: the rest is fields.
    if form & 3 > 0 {
        bytes.extend_from_slice(V2_SIGNATURE);
    }
    if form & 2 > 0 && rest.len() < 60_000 {
        let field = [&[0xe0][..], &(rest.len() as u16 + 1).to_be_bytes(), &[1], rest].concat();
        bytes.extend_from_slice(&[0x21, 0x11]);
        bytes.extend_from_slice(&(field.len() as u16 + 12).to_be_bytes());
        bytes.extend_from_slice(&[127, 0, 0, 1, 127, 0, 0, 1, 4, 0, 7, 0]);
        bytes.extend_from_slice(&field);
    } else {
        bytes.extend_from_slice(rest);
    }
    forebay_fuzz::trunk::header(&bytes);
});

//! Both messages of a client that logs in by SCRAM: whatever they are, nobody is admitted without the key.
#![no_main]

use forebay_fuzz::secure::scram::server::{KEY_BYTES, Opening, Record};
use libfuzzer_sys::fuzz_target;

/// The hash of no key that is known.
const RECORD: Record<'_> =
    Record { salt: b"salt", iterations: 4_096, stored: &[1; KEY_BYTES], server: &[2; KEY_BYTES] };
const NONCE: &str = "server";

fuzz_target!(|input: (&[u8], &[u8])| {
    let (first, last) = input;
    let message = Opening::parse(first).map(|opening| (opening.user().to_owned(), opening.challenge(RECORD, NONCE)));
    let Ok((user, (exchange, message))) = message else {
        // The last message alone, in an exchange that stands.
        let opening = Opening::parse(b"n,,n=user,r=x").expect("valid");
        assert!(opening.challenge(RECORD, NONCE).1.starts_with("r=xserver,"));
        assert!(opening.challenge(RECORD, NONCE).0.answer(last).is_err());
        return;
    };
    assert!(!user.is_empty() && !user.contains('\0'));
    // What the client sees: its nonce, extended, and three fields whatever it has sent.
    assert_eq!(message.split(',').count(), 3);
    assert!(message.split(',').next().is_some_and(|nonce| nonce.starts_with("r=") && nonce.ends_with(NONCE)));
    assert!(exchange.answer(last).is_err());
});

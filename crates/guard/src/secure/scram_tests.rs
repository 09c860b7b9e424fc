//! SCRAM against the RFCs' examples, and against servers that lie.

use super::*;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

fn first(hash: Hash) -> First {
    First::new(hash, "user", NONCE.to_owned()).0
}

fn password() -> Secret {
    Secret::new(b"pencil".to_vec())
}

/// RFC 7677, section 3.
#[test]
fn the_example_of_the_standard() {
    let (first, message) = First::new(Hash::Sha256, "user", NONCE.to_owned());
    assert_eq!(message, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let challenge = first.server_first(SERVER_FIRST.as_bytes()).expect("as in the RFC");
    let keys = challenge.derivation(&password()).keys();
    let (expected, message) = challenge.answer(&keys);
    assert_eq!(
        message,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    expected.server_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("as in the RFC");
}

/// No RFC has an example for SHA-512: these values are made with Python's hashlib, by the same script that gives those of RFC 7677.
#[test]
fn sha_512_by_another_implementation() {
    let challenge = first(Hash::Sha512).server_first(SERVER_FIRST.as_bytes()).expect("taken");
    let keys = challenge.derivation(&password()).keys();
    let (expected, message) = challenge.answer(&keys);
    let proof = "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";
    assert!(message.ends_with(&format!(",p={proof}")), "{message}");
    let signature = "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";
    expected.server_final(format!("v={signature}").as_bytes()).expect("the same");
}

#[test]
fn names_are_escaped() {
    assert_eq!(First::new(Hash::Sha256, "a=b,c", "n".to_owned()).1, "n,,n=a=3Db=2Cc,r=n");
}

/// X62: iterations, nonce and signature of the server.
#[test]
fn a_server_that_lies_is_found_out() {
    let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
    let long = "A".repeat(8_000);
    for (said, why) in [
        (format!("r=other%hv,{salt},i=4096"), "nonce"),
        (format!("r={NONCE},{salt},i=4096"), "nonce"),
        (format!("r={NONCE}x,{salt},i=4095"), "\"4095\" SCRAM iterations"),
        (format!("r={NONCE}x,{salt},i=200001"), "iterations"),
        (format!("r={NONCE}x,{salt},i=4294967295"), "iterations"),
        (format!("r={NONCE}x,{salt},i=99999999999999999999"), "iterations"),
        (format!("r={NONCE}x,{salt},i=-4096"), "iterations"),
        (format!("r={NONCE}x,{salt},i="), "iterations"),
        (format!("r={NONCE}x,s=,i=4096"), "salt"),
        (format!("r={NONCE}x,s=!!,i=4096"), "salt"),
        (format!("r={NONCE}x,s={long},i=4096"), "cannot be read"),
        (format!("m=x,r={NONCE}x,{salt},i=4096"), "has no `r`"),
        (format!("r={NONCE}x,{salt}"), "has no `i`"),
        (format!("r={NONCE}x"), "has no `s`"),
        (String::new(), "has no `r`"),
        ("e=unknown-user".to_owned(), "has no `r`"),
    ] {
        let found = first(Hash::Sha256).server_first(said.as_bytes()).expect_err(&said);
        assert!(found.contains(why), "{said}: {found}");
    }
    assert!(first(Hash::Sha256).server_first(b"r=\xff").is_err());
    for end in 0..SERVER_FIRST.len() - 4 {
        assert!(first(Hash::Sha256).server_first(&SERVER_FIRST.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

/// X62: the server has to prove that it knows the password.
#[test]
fn only_the_right_signature_is_taken() {
    let challenge = first(Hash::Sha256).server_first(SERVER_FIRST.as_bytes()).expect("taken");
    let keys = challenge.derivation(&password()).keys();
    let (expected, _) = challenge.answer(&keys);
    let right = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert!(expected.server_final(format!("{right},x=y").as_bytes()).is_ok(), "extensions are passed over");
    for wrong in ["v=", "v=6rri", "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "", "e=other-error", "x=y", "v=!"] {
        assert!(expected.server_final(wrong.as_bytes()).is_err(), "{wrong}");
    }
    for end in 0..right.len() - 1 {
        assert!(expected.server_final(&right.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn nothing_shows_a_password_or_a_key() {
    let challenge = first(Hash::Sha256).server_first(SERVER_FIRST.as_bytes()).expect("taken");
    let derivation = challenge.derivation(&password());
    let shown = format!("{derivation:?} {:?} {challenge:?}", derivation.keys());
    assert!(!shown.contains("pencil"), "{shown}");
}

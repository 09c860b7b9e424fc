//! A JSON Web Key Set: within its bounds, no private keys, and keys of any form verify nothing that they have not signed.
#![no_main]

use forebay_fuzz::auth::jwt::{Algorithm, Keys};
use forebay_fuzz::edits::edited;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const VALID: &str = r#"{"keys":[
{"kty":"EC","crv":"P-256","kid":"a","use":"sig","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
{"kty":"OKP","crv":"Ed25519","kid":"b","key_ops":["verify"],"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
{"kty":"RSA","kid":"c","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}"#;
const WORDS: &[&[u8]] = &[
    b"\"d\":\"AA\",",
    b"\"k\":\"AA\",",
    b"\"kid\":",
    b"\"kty\":\"oct\",",
    b"\"keys\":",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"null",
    b"\"x\":\"\",",
    b"\"n\":\"AA\",",
    b"\"alg\":\"none\",",
    b"\"use\":\"enc\",",
    b"\"crv\":\"P-384\",",
];

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let json = if first % 4 == 0 { rest.to_vec() } else { edited(VALID.as_bytes(), rest, WORDS) };
    let Ok(keys) = Keys::parse(&json, &Algorithm::PUBLIC) else { return };
    assert!((1..=256).contains(&keys.len()) && !keys.is_empty());
    let set: Value = serde_json::from_slice(&json).expect("what is read is JSON");
    let list = set["keys"].as_array().expect("a list");
    assert!(keys.len() <= list.len());
    assert!(list.iter().all(|key| key.get("d").is_none() && key.get("k").is_none()), "a secret was read");
    let only = Keys::parse(&json, &[Algorithm::Es256]);
    assert!(only.map_or(0, |keys| keys.len()) <= keys.len());
});

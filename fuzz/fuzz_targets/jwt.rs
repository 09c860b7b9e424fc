//! A token: none is accepted that was not signed with the key, or is over; what is accepted says who its bearer is.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_fuzz::auth::jwt::{Algorithm, Bearer, Fault, Field, Settings, Source, Token, Tokens};
use forebay_fuzz::edits::edited;
use forebay_fuzz::secure::is_identity;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use serde_json::{Map, Value};

const SECRET: &[u8] = b"a secret of 32 bytes, and no less";
const NOW_S: u64 = 1_800_000_000;
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &[u8] = br#"{"sub":"ada","exp":1800000060,"nbf":1700000000,"iss":"us","aud":["a","mqtt"],"cid":"c1","acl":{"pub":["a/#"],"sub":["b/+"],"all":["c"]}}"#;
const WORDS: &[&[u8]] = &[
    b"\"none\"",
    b"\"RS256\"",
    b"\"crit\":[],",
    b"\"jku\":\"\",",
    b"\"kid\":\"a\",",
    b"\"exp\":1e300,",
    b"\"exp\":-1,",
    b"null",
    b"\"aud\":\"mqtt\",",
    b"\"acl\":[{\"permission\":\"allow\",\"action\":\"all\",\"topic\":\"#\"}],",
    b"1800000000",
    b"1799999999",
    b"\"sub\":\"\\n\",",
    b"{",
    b"}",
    b",",
    b"[",
    b"]",
    b"\"",
    b"\\u0000",
];

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let settings = Settings {
        keys: Source::SecretFile("/nowhere".into()),
        issuer: Some("us".to_owned()),
        audience: vec!["mqtt".to_owned()],
        algorithms: vec![Algorithm::Hs256],
        leeway: Duration::ZERO,
        from: Field::Password,
        identity_claim: "sub".to_owned(),
        client_id_claim: Some("cid".to_owned()),
        acl_claim: "acl".to_owned(),
        roles_claim: None,
    };
    Tokens::new(&settings, SECRET).expect("a secret")
});

fn judged(bytes: &[u8]) -> Option<Result<Bearer, Fault>> {
    let token = Token::read(bytes)?;
    assert_eq!(token.bytes(), bytes);
    let judged = TOKENS.keys_for(&token).and_then(|keys| TOKENS.judge(&token, &keys, false, NOW_S as i64 * 1_000));
    Some(judged.map(|(bearer, _)| bearer))
}

fuzz_target!(|input: (bool, &[u8], &[u8], &[u8])| {
    let (is_signed, header, claims, wrong) = input;
    // A password that may be one.
    assert!(!matches!(judged(wrong), Some(Ok(_))), "this was not signed");
    let (header, claims) = (edited(HEADER, header, WORDS), edited(CLAIMS, claims, WORDS));
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    let tag = if is_signed { tag.as_ref() } else { wrong };
    let Some(Ok(bearer)) = judged(format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag)).as_bytes()) else { return };
    assert!(is_signed, "the signature is not looked at");
    let header: Map<String, Value> = serde_json::from_slice(&header).expect("a header");
    assert!(header["alg"] == "HS256" && ["crit", "jku", "x5u"].iter().all(|name| !header.contains_key(*name)));
    let claims: Map<String, Value> = serde_json::from_slice(&claims).expect("claims");
    assert!(is_identity(&bearer.identity) && claims["sub"] == *bearer.identity);
    assert!(bearer.client_id.as_deref().is_some_and(|id| !id.is_empty() && claims["cid"] == *id));
    assert!(bearer.expires_s > NOW_S && claims["exp"].as_f64().is_some_and(|exp| exp >= NOW_S as f64));
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_f64().is_some_and(|nbf| nbf < NOW_S as f64 + 1.0)));
    assert!(claims["iss"] == "us");
    assert_eq!(bearer.grants.is_some(), claims.contains_key("acl"));
});

use std::path::PathBuf;

use serde_json::{Value, json};

use super::signer::{Signer, base64url, set};
use super::*;

/// 2026-11-21, in seconds.
const NOW: u64 = 1_795_219_200;

fn settings() -> Settings {
    Settings {
        keys: Source::JwksFile(PathBuf::new()),
        issuer: None,
        audience: Vec::new(),
        algorithms: Algorithm::PUBLIC.to_vec(),
        leeway: Duration::from_secs(30),
        from: Field::Password,
        identity_claim: "sub".to_owned(),
        client_id_claim: None,
        acl_claim: "acl".to_owned(),
        roles_claim: None,
    }
}

fn with_secret() -> Settings {
    Settings { keys: Source::SecretFile(PathBuf::new()), algorithms: vec![Algorithm::Hs256], ..settings() }
}

fn tokens(settings: &Settings, keys: &[Value]) -> Tokens {
    Tokens::new(settings, &set(keys)).unwrap()
}

/// The judgement of a password; `None`: it is no token.
fn judged(tokens: &Tokens, password: &str) -> Option<Result<(), Fault>> {
    bearer(tokens, password).map(|judged| judged.map(|_| ()))
}

fn bearer(tokens: &Tokens, password: &str) -> Option<Result<Bearer, Fault>> {
    let token = tokens.find(None, Some(password.as_bytes()))?;
    let keys = match tokens.keys_for(&token) {
        Ok(keys) => keys,
        Err(fault) => return Some(Err(fault)),
    };
    let judged = tokens.judge(&token, &keys, false, i64::try_from(NOW).unwrap() * 1_000);
    Some(judged.map(|(bearer, key)| {
        assert!(tokens.keys().has(key));
        bearer
    }))
}

fn ada() -> Value {
    json!({ "sub": "ada", "exp": NOW + 60 })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = ada();
    claims[name] = value.into();
    claims
}

/// The judgement of these claims, the rest being right.
fn claimed(settings: &Settings, claims: &Value) -> Result<Bearer, Fault> {
    let signer = Signer::eddsa();
    let tokens = tokens(settings, &[signer.jwk(None)]);
    bearer(&tokens, &signer.sign(&json!({ "alg": "EdDSA" }), claims)).unwrap()
}

#[test]
fn the_examples_of_the_rfcs() {
    // RFC 7515, A.1 to A.3: the same claims, signed by each algorithm.
    const CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-\
        SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg6\
        65xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const RSA_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGb\
        ds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--x\
        i12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let rsa = json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB" });
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let secret = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret).unwrap();
    let public = tokens(&settings(), &[rsa, ec]);
    let shared = Tokens::new(&with_secret(), &secret).unwrap();
    for (tokens, header, signature) in [
        (&shared, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        (&public, "eyJhbGciOiJSUzI1NiJ9", RSA_SIGNATURE),
        (
            &public,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let token = format!("{header}.{CLAIMS}.{signature}");
        assert_eq!(judged(tokens, &token), Some(Err(Fault::Expired)), "since 2011");
        let forged = token.replace("eyJpc3MiOiJqb2Ui", "eyJpc3MiOiJqb2Ii");
        assert_eq!(judged(tokens, &forged), Some(Err(Fault::Signature)));
    }
    // RFC 8037, A.4: the payload is not JSON.
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4i\
        ylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(judged(&tokens(&settings(), &[ed]), token), Some(Err(Fault::Claims)));
}

/// X23: a password that is no token.
#[test]
fn what_is_no_token_is_left_to_others() {
    let signer = Signer::es256();
    let tokens = tokens(&settings(), &[signer.jwk(None)]);
    let header = base64url(r#"{"alg":"ES256"}"#);
    for password in
        ["", "secret", "a.b", "a.b.c", "..", &format!("{header}.a"), &format!("{header}.a.b.c"), "e30.a.b c"]
    {
        assert_eq!(judged(&tokens, password), None, "{password:?}");
    }
    assert_eq!(judged(&tokens, &format!("{}.e30.x", base64url("[]"))), None, "its header is no object");
    assert_eq!(tokens.find(None, None).map(|_| ()), None);
    // These are tokens, but not valid.
    assert_eq!(judged(&tokens, "e30.."), Some(Err(Fault::Header)));
    assert_eq!(judged(&tokens, &format!("{header}..")), Some(Err(Fault::Signature)));
    // The other field of CONNECT is not searched.
    let token = signer.sign(&json!({ "alg": "ES256" }), &ada());
    assert!(tokens.find(Some(&token), None).is_none());
    let by_name = Settings { from: Field::Username, ..settings() };
    let by_name = super::tests::tokens(&by_name, &[signer.jwk(None)]);
    assert!(by_name.find(Some(&token), Some(b"x")).is_some() && by_name.are_usernames());
}

/// X31: `none` never, HS256 only with a shared secret.
#[test]
fn the_key_decides_the_algorithm() {
    let (ec, ed) = (Signer::es256(), Signer::eddsa());
    let both = tokens(&settings(), &[ec.jwk(Some("ec")), ed.jwk(Some("ed"))]);
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
    assert_eq!(judged(&both, &ec.sign(&header("ES256", "ec"), &ada())), Some(Ok(())));
    assert_eq!(judged(&both, &ed.sign(&header("EdDSA", "ed"), &ada())), Some(Ok(())));
    assert_eq!(judged(&both, &ed.sign(&header("ES256", "ed"), &ada())), Some(Err(Fault::Algorithm)));
    assert_eq!(judged(&both, &ed.sign(&header("EdDSA", "ec"), &ada())), Some(Err(Fault::Algorithm)));
    assert_eq!(judged(&both, &ed.sign(&header("EdDSA", "eddy"), &ada())), Some(Err(Fault::UnknownKey)));
    // The classic attack: the public key, which everybody knows, as the secret of an HMAC.
    let text = ec.jwk(Some("ec")).to_string().into_bytes();
    let public =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, ec.jwk(None)["x"].as_str().unwrap());
    for secret in [text, public.unwrap()] {
        let forged = Signer::Hs256(secret).sign(&header("HS256", "ec"), &ada());
        assert_eq!(judged(&both, &forged), Some(Err(Fault::Algorithm)));
    }
    for alg in ["none", "None", "NONE", "", "es256", "HS256", "RS256", "PS256"] {
        let unsigned = format!("{}.{}.", base64url(header(alg, "ec").to_string()), base64url(ada().to_string()));
        assert_eq!(judged(&both, &unsigned), Some(Err(Fault::Algorithm)), "{alg}");
    }
    // A key of an algorithm that is not configured counts as absent.
    let only = Settings { algorithms: vec![Algorithm::EdDsa], ..settings() };
    let only = tokens(&only, &[ec.jwk(Some("ec")), ed.jwk(Some("ed"))]);
    assert_eq!(judged(&only, &ec.sign(&header("ES256", "ec"), &ada())), Some(Err(Fault::UnknownKey)));
}

/// X31: `crit`, `jku`, `x5u`.
#[test]
fn what_the_header_brings_along_is_not_used() {
    let (ours, theirs) = (Signer::eddsa(), Signer::eddsa());
    let tokens = tokens(&settings(), &[ours.jwk(None)]);
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(null)),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
    ] {
        let header = json!({ "alg": "EdDSA", name: value });
        assert_eq!(judged(&tokens, &ours.sign(&header, &ada())), Some(Err(Fault::Extension)), "{name}");
    }
    let header = json!({ "alg": "EdDSA", "jwk": theirs.jwk(None) });
    assert_eq!(judged(&tokens, &theirs.sign(&header, &ada())), Some(Err(Fault::Signature)));
    for header in [json!({}), json!({ "alg": 5 }), json!({ "alg": "EdDSA", "kid": 5 })] {
        assert_eq!(judged(&tokens, &ours.sign(&header, &ada())), Some(Err(Fault::Header)), "{header}");
    }
}

/// X31: bounds of a token.
#[test]
fn four_keys_are_tried_where_none_is_named_and_tokens_are_8_kib_at_most() {
    let signers: Vec<_> = (0..5).map(|_| Signer::eddsa()).collect();
    let keys: Vec<_> = (0..).zip(&signers).map(|(at, signer)| signer.jwk(Some(&format!("k{at}")))).collect();
    let anonymous = signers[3].sign(&json!({ "alg": "EdDSA" }), &ada());
    assert!(judged(&tokens(&settings(), &keys[..4]), &anonymous).unwrap().is_ok());
    let all = tokens(&settings(), &keys);
    assert_eq!(judged(&all, &anonymous), Some(Err(Fault::ManyKeys)));
    let named = json!({ "alg": "EdDSA", "kid": "k3" });
    assert!(judged(&all, &signers[3].sign(&named, &ada())).unwrap().is_ok());
    assert_eq!(judged(&all, &signers[2].sign(&named, &ada())), Some(Err(Fault::Signature)));
    for (padding, fits) in [(5_800, true), (6_200, false), (60_000, false)] {
        let token = signers[3].sign(&named, &with("x", "x".repeat(padding)));
        assert_eq!(token.len() <= TOKEN_BYTES_MAX, fits);
        let judged = judged(&all, &token).unwrap();
        assert_eq!(judged.is_ok(), fits);
        assert!(fits || judged == Err(Fault::TooLong));
    }
    let long = signers[3].sign(&json!({ "alg": "EdDSA", "kid": "k".repeat(60_000) }), &ada());
    assert_eq!(judged(&all, &long), Some(Err(Fault::TooLong)));
}

/// X31: `exp`, `nbf` and the leeway.
#[test]
fn the_time_is_over_half_a_minute_late() {
    for (name, value, fault) in [
        ("exp", json!(NOW - 29), None),
        ("exp", json!(NOW - 30), Some(Fault::Expired)),
        ("exp", json!(NOW as f64 + 0.5), None),
        ("exp", json!(u64::MAX), None),
        ("exp", json!(1e300), None),
        ("exp", json!(-1), Some(Fault::Claims)),
        ("exp", json!((NOW + 60).to_string()), Some(Fault::Claims)),
        ("exp", json!(null), Some(Fault::Claims)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!(NOW + 31), Some(Fault::NotYet)),
        ("nbf", json!("never"), Some(Fault::Claims)),
        // The issue time is not checked.
        ("iat", json!("yesterday"), None),
    ] {
        assert_eq!(claimed(&settings(), &with(name, value.clone())).err(), fault, "{name} {value}");
    }
    assert_eq!(claimed(&settings(), &json!({ "sub": "ada" })).err(), Some(Fault::NoExpiry));
    let expires = |leeway| claimed(&Settings { leeway, ..settings() }, &ada()).unwrap().expires_s;
    assert_eq!((expires(Duration::ZERO), expires(Duration::from_secs(30))), (NOW + 60, NOW + 90));
    // A machine without the time judges no token.
    let signer = Signer::eddsa();
    let tokens = tokens(&settings(), &[signer.jwk(None)]);
    let token = signer.sign(&json!({ "alg": "EdDSA" }), &ada());
    let token = Token::read(token.as_bytes()).unwrap();
    let keys = tokens.keys_for(&token).unwrap();
    for wall_ms in [i64::MIN, -1, 0, CLOCK_SET_AFTER_MS - 1] {
        assert_eq!(tokens.judge(&token, &keys, false, wall_ms).err(), Some(Fault::Clock));
    }
    assert!(tokens.judge(&token, &keys, false, CLOCK_SET_AFTER_MS).is_ok());
}

/// X31: `iss` and `aud`.
#[test]
fn who_has_signed_it_and_for_whom() {
    let both = Settings { issuer: Some("id".to_owned()), audience: vec!["mqtt".into(), "iot".into()], ..settings() };
    for (issuer, audience, fault) in [
        (json!("id"), json!("mqtt"), None),
        (json!("id"), json!(["web", "iot"]), None),
        (json!("id"), json!(null), Some(Fault::Audience)),
        (json!("id"), json!([]), Some(Fault::Audience)),
        (json!("id"), json!("mqt"), Some(Fault::Audience)),
        (json!("id"), json!({ "mqtt": 1 }), Some(Fault::Audience)),
        (json!("ID"), json!("mqtt"), Some(Fault::Issuer)),
        (json!(["id"]), json!("mqtt"), Some(Fault::Issuer)),
        (json!(null), json!("mqtt"), Some(Fault::Issuer)),
    ] {
        let mut claims = with("iss", issuer);
        claims["aud"] = audience;
        assert_eq!(claimed(&both, &claims).err(), fault, "{claims}");
        assert!(claimed(&settings(), &claims).is_ok(), "no claim is required");
    }
    assert_eq!(claimed(&both, &ada()).err(), Some(Fault::Issuer));
    assert_eq!(claimed(&Settings { issuer: None, ..both }, &ada()).err(), Some(Fault::Audience), "no aud is not ours");
}

#[test]
fn the_identity_and_the_client_id() {
    let long = "x".repeat(257);
    for name in [json!(""), json!("a\nb"), json!(long), json!(5), json!(null), json!(["ada"])] {
        assert_eq!(claimed(&settings(), &with("sub", name.clone())).err(), Some(Fault::Identity), "{name}");
    }
    let other =
        Settings { identity_claim: "device".to_owned(), client_id_claim: Some("mqtt".to_owned()), ..settings() };
    assert_eq!(claimed(&other, &ada()).err(), Some(Fault::Identity));
    assert_eq!(claimed(&other, &with("device", "d1")).err(), Some(Fault::ClientId));
    let mut claims = with("device", "d1");
    for id in [json!(""), json!(7)] {
        claims["mqtt"] = id;
        assert_eq!(claimed(&other, &claims).err(), Some(Fault::ClientId));
    }
    claims["mqtt"] = "c1".into();
    let bearer = claimed(&other, &claims).unwrap();
    assert_eq!((&*bearer.identity, bearer.client_id.as_deref()), ("d1", Some("c1")));
}

/// X32: what a key set may hold.
#[test]
fn a_set_of_keys_is_taken_or_says_what_is_wrong() {
    let (ec, ed) = (Signer::es256(), Signer::eddsa());
    let parse = |keys: &[Value]| Keys::parse(&set(keys), &Algorithm::PUBLIC);
    let changed = |name: &str, value: Value| {
        let mut key = ec.jwk(Some("a"));
        key[name] = value;
        key
    };
    // Keys of other uses, or of newer kinds, are skipped.
    let passed = [
        changed("use", json!("enc")),
        changed("alg", json!("ECDH-ES")),
        changed("key_ops", json!(["sign"])),
        changed("crv", json!("P-521")),
        changed("kty", json!("AKP")),
        json!({}),
    ];
    for key in passed {
        assert_eq!(parse(&[key.clone(), ed.jwk(None)]).unwrap().len(), 1, "{key}");
        assert!(parse(std::slice::from_ref(&key)).unwrap_err().contains("no key for RS256, ES256, EdDSA"), "{key}");
    }
    let named = [changed("use", json!("sig")), changed("alg", json!("ES256")), changed("key_ops", json!(["verify"]))];
    assert_eq!(parse(&named).unwrap().len(), 3);
    for (key, said) in [
        (changed("d", json!("AQAB")), "keys[0] is a private key or a secret (`d`)"),
        (Signer::Hs256(vec![1; 32]).jwk(None), "is a private key or a secret (`k`)"),
        (changed("x", json!("?")), "has no `x`"),
        (changed("x", json!("AQAB")), "has 3 bytes in `x`, not 32"),
        (json!({ "kty": "RSA", "n": base64url([255; 128]), "e": "AQAB" }), "is an RSA key of 1024 bits"),
        (json!({ "kty": "RSA", "n": base64url([255; 2048]), "e": "AQAB" }), "is an RSA key of 16384 bits"),
        (json!("key"), "keys[0] is not an object"),
    ] {
        let why = parse(std::slice::from_ref(&key)).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
    let many: Vec<_> = (0..257).map(|_| ec.jwk(None)).collect();
    assert_eq!(parse(&many[1..]).unwrap().len(), 256);
    assert_eq!(parse(&many).unwrap_err(), "has 257 keys, and may have 256");
    for (text, said) in
        [("", "is no JSON"), ("[]", "is no JSON"), ("{}", "no list `keys`"), ("{\"keys\":1}", "no list")]
    {
        let why = Keys::parse(text.as_bytes(), &Algorithm::PUBLIC).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
    assert_eq!(Keys::secret(&[b'x'; 31]).unwrap_err(), "the secret has 31 bytes, and must have 32");
    let (one, two) = ([b'x'; 32], [&[b'x'; 32][..], b"\r\n"].concat());
    assert_eq!(Keys::secret(&one).unwrap().all_prints(), Keys::secret(&two).unwrap().all_prints());
}

#[test]
fn finding_q58_roles_are_a_string_or_a_list_of_strings() {
    let settings = Settings { roles_claim: Some("roles".to_owned()), ..settings() };
    let roles = |claims: &Value| {
        claimed(&settings, claims).map(|bearer| {
            // A token without the claim has no roles, and is not granted everything because there is no list.
            let grants = bearer.grants.expect("roles");
            grants.roles().map(str::to_owned).collect::<Vec<_>>()
        })
    };
    assert_eq!(roles(&with("roles", "a")), Ok(vec!["a".to_owned()]));
    assert_eq!(roles(&with("roles", json!(["b", "a b"]))), Ok(vec!["b".to_owned(), "a b".to_owned()]));
    // Finding Q58: as in `scope`.
    let scope = roles(&with("roles", "mqtt:publish  b"));
    assert_eq!(scope, Ok(vec!["mqtt:publish".to_owned(), "b".to_owned()]));
    assert_eq!(roles(&with("roles", "")), Ok(Vec::new()));
    assert_eq!(roles(&with("roles", "a ".repeat(257))), Err(Fault::Roles));
    assert_eq!(roles(&ada()), Ok(Vec::new()));
    assert_eq!(roles(&with("roles", json!(vec!["a"; 256]))).map(|all| all.len()), Ok(256));
    for bad in [json!(null), json!(1), json!({ "a": true }), json!(["a", 1]), json!(vec!["a"; 257])] {
        assert_eq!(roles(&with("roles", bad.clone())), Err(Fault::Roles), "{bad}");
    }
    let without = Settings { roles_claim: None, ..settings.clone() };
    assert!(claimed(&without, &with("roles", "a")).unwrap().grants.is_none(), "nothing was asked for");
}

/// Expired keys are not accepted, even if they have not been removed yet; a fetch that brings the same ones renews them.
#[test]
fn finding_s7_keys_that_are_too_old_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::eddsa();
    let file = dir.path().join("keys.json");
    std::fs::write(&file, set(&[signer.jwk(None)])).unwrap();
    let fetched = |at_s: u64| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at_s);
        std::fs::File::options().append(true).open(&file).unwrap().set_modified(at).unwrap();
    };
    let remote = Remote {
        url: crate::secure::Url::parse("https://example.org/keys").unwrap(),
        ca_file: None,
        refresh: Duration::from_secs(600),
        stale_max: Duration::from_secs(3_600),
        file: file.clone(),
    };
    let tokens = tokens(&Settings { keys: Source::JwksUrl(remote), ..settings() }, &[signer.jwk(None)]);
    let mut claims = ada();
    claims["exp"] = (NOW + 86_400).into();
    let text = signer.sign(&json!({ "alg": "EdDSA" }), &claims);
    let token = tokens.find(None, Some(text.as_bytes())).unwrap();
    let keys = tokens.keys_for(&token).unwrap();
    let at = |at_s: u64| tokens.judge(&token, &keys, false, i64::try_from(at_s * 1_000).unwrap()).map(drop);
    fetched(NOW);
    assert_eq!((at(NOW), at(NOW + 3_599)), (Ok(()), Ok(())));
    assert_eq!(at(NOW + 3_600), Err(Fault::StaleKeys));
    fetched(NOW + 3_600);
    assert_eq!((at(NOW + 3_600), at(NOW + 7_199)), (Ok(()), Ok(())));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(at(NOW + 7_200), Err(Fault::StaleKeys));
}

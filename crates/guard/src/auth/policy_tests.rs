use std::time::{Duration, Instant};

use serde_json::json;

use super::super::acl::{Action, Wanted};
use super::super::jwt::signer::{Signer, set};
use super::super::{Access, Proofs, password};
use super::*;
use forebay_mqtt::packet::QoS;

const SLOW: &str =
    "$7$101$MavqqpE2gfo1n4VR$mFZAp2VWQiGPhWi5JVfWIO8jRCut00T8eF251/SdScO4dk/xcz7flBXITHlVto72EjtnJqkUjxLraPTZd3WTaA==";

fn settings(chain: &[Method]) -> Settings {
    Settings::new("devices", chain)
}

/// A policy with a file of `quick`, with password `one`, and `slow`, with password `secret`.
fn policy(dir: &Path, chain: &[Method]) -> Arc<Policy> {
    let file = dir.join("passwords");
    std::fs::write(&file, format!("quick:{}\nslow:{SLOW}\n", password::sha512_of(b"one").unwrap())).unwrap();
    Arc::new(Policy::load(&Settings { password_file: Some(file), ..settings(chain) }).unwrap())
}

/// The identity in the end, and whether a question had to be asked.
fn judged(
    policy: &Arc<Policy>,
    username: Option<&str>,
    password: Option<&str>,
) -> (Result<Option<Box<str>>, Refusal>, bool) {
    match policy.judge(Claim { username, password: password.map(str::as_bytes), ..Claim::default() }) {
        Judgement::Admit(admission) => (Ok(admission.identity), false),
        Judgement::Refuse(refusal) => (Err(refusal), false),
        Judgement::Ask(question) => (question.answer().map(|admission| admission.identity), true),
    }
}

/// X22, X23: the first method that says yes or no decides; the end of the chain is no.
#[test]
fn a_chain_ends_with_the_first_yes_or_no() {
    use Refusal::{Credentials, NoCredentials};
    let dir = tempfile::tempdir().unwrap();
    let both = policy(dir.path(), &[Method::Password, Method::Anonymous]);
    let password = policy(dir.path(), &[Method::Password]);
    for (user, pass, with_both, with_password) in [
        (Some("quick"), Some("one"), Ok(Some("quick")), Ok(Some("quick"))),
        (Some("quick"), Some("two"), Err(Credentials), Err(Credentials)),
        (Some("slow"), Some("secret"), Ok(Some("slow")), Ok(Some("slow"))),
        (Some("slow"), Some("one"), Err(Credentials), Err(Credentials)),
        (Some("quick"), None, Err(Credentials), Err(Credentials)),
        // A user that was removed from the file is not admitted as an anonymous client.
        (Some("carol"), Some("one"), Err(Credentials), Err(Credentials)),
        (Some("carol"), None, Err(Credentials), Err(Credentials)),
        (None, Some("one"), Err(NoCredentials), Err(NoCredentials)),
        (None, None, Ok(None), Err(NoCredentials)),
    ] {
        for (policy, wanted) in [(&both, with_both), (&password, with_password)] {
            let (said, _) = judged(policy, user, pass);
            assert_eq!(said.as_ref().map(Option::as_deref).map_err(|why| *why), wanted, "{user:?} {pass:?}");
        }
    }
}

/// X27: an unknown user costs as much as a known one, and gets the same answer.
#[test]
fn an_unknown_user_is_refused_after_the_same_work() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy(dir.path(), &[Method::Password]);
    std::fs::write(dir.path().join("passwords"), format!("a:{SLOW}\nb:{SLOW}\n")).unwrap();
    let slow = Arc::new(Policy::load(policy.settings()).unwrap());
    let (said, was_asked) = judged(&slow, Some("carol"), Some("secret"));
    assert_eq!((said, was_asked), (Err(Refusal::Credentials), true));
}

/// X11: a certificate without a usable field is refused with the reason.
#[test]
fn a_certificate_says_who_its_client_is_or_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.self_signed(&key).unwrap().der().to_vec()
    };
    let policy = policy(dir.path(), &[Method::Certificate, Method::Password]);
    let judge = |certificate: Option<&[u8]>| {
        policy.judge(Claim { username: Some("quick"), password: Some(b"one"), certificate, wall_ms: 0 })
    };
    let (known, nameless) = (certificate("device-1"), certificate(""));
    match judge(Some(&known)) {
        Judgement::Admit(Admission { identity, by, .. }) => {
            assert_eq!(identity.as_deref(), Some("device-1"), "not the user name");
            assert!(policy.still_admits(identity.as_deref(), &by));
            let other = Policy::load(&Settings { chain: vec![Method::Password], ..policy.settings().clone() }).unwrap();
            assert!(!other.still_admits(identity.as_deref(), &by));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(judge(Some(&nameless)), Judgement::Refuse(Refusal::Certificate(_))), "its password does not help");
    assert!(matches!(judge(None), Judgement::Admit(Admission { by: By::Line(_), .. })));
}

#[test]
fn files_are_named_where_they_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (users, acl) = (dir.path().join("users"), dir.path().join("acl"));
    std::fs::write(&users, "a:b\n").unwrap();
    let wrong = Settings { password_file: Some(users), acl_file: Some(acl), ..settings(&[Method::Password]) };
    let problems = Policy::load(&wrong).expect_err("both");
    assert!(problems[0].contains("users: line 1 is no hash"), "{problems:?}");
    assert!(problems[1].contains("acl: No such file"), "{problems:?}");
}

/// X34: clients with a removed or changed line are found; other clients are not affected.
#[test]
fn a_reload_tells_what_is_new_and_who_would_not_be_admitted_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let before = policy(dir.path(), &[Method::Password, Method::Anonymous]);
    let record = before.users().unwrap().get("quick").unwrap().print;
    let again = Policy::load(before.settings()).unwrap();
    assert!(
        before.is_same(&again)
            && again.still_admits(Some("quick"), &By::Line(record))
            && again.still_admits(None, &By::Nothing)
    );
    // The user gets another password, then is removed.
    let after = policy(dir.path(), &[Method::Password]);
    assert!(!before.is_same(&after) && !after.still_admits(Some("quick"), &By::Line(record)));
    assert!(after.still_admits(Some("slow"), &By::Line(after.users().unwrap().get("slow").unwrap().print)));
    assert!(!after.still_admits(None, &By::Nothing) && !after.still_admits(Some("carol"), &By::Line(1)));
}

/// Finding S3, S11: a user that was removed from the file is found. A user never seen in it may have logged in by another method.
#[test]
fn finding_s3_s11_a_user_that_the_file_had_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let of = |chain: &[Method]| policy(dir.path(), chain);
    let line = By::Line(1);
    for (chain, identity, by, removed) in [
        (&[Method::Password][..], Some("quick"), Some(&line), false),
        (&[Method::Password], Some("carol"), Some(&line), true),
        (&[Method::Password], Some("carol"), Some(&By::Scram(1)), true),
        (&[Method::Password], Some("quick"), None, false),
        (&[Method::Password], Some("carol"), None, true),
        (&[Method::Password, Method::Certificate], Some("carol"), None, false),
        (&[Method::Password, Method::Certificate], Some("carol"), Some(&line), true),
        (&[Method::Password], Some("carol"), Some(&By::Token(1)), false),
        (&[Method::Password], None, Some(&By::Nothing), false),
        // Another method is in force: that removes no user.
        (&[Method::Certificate], Some("carol"), Some(&line), false),
        (&[Method::Anonymous], None, None, false),
    ] {
        assert_eq!(of(chain).has_removed(identity, by), removed, "{chain:?} {identity:?} {by:?}");
    }
}

/// X35: which client IDs an identity may use.
#[test]
fn client_ids_of_an_identity() {
    let policy = |client_ids| Policy::load(&Settings { client_ids, ..settings(&[Method::Anonymous]) }).unwrap();
    let (any, identity, prefix) = (policy(ClientIds::Any), policy(ClientIds::Identity), policy(ClientIds::Prefix));
    for (who, id, by_identity, by_prefix) in [
        (Some("a"), "a", true, true),
        (Some("a"), "a:1", false, true),
        (Some("a"), "a/1", false, true),
        (Some("a"), "ab", false, false),
        (Some("a"), "b", false, false),
        // The client identifier would be within `a`.
        (Some("a:b"), "a:b", true, false),
        (None, "a", false, false),
    ] {
        assert!(any.allows_client_id(who, id));
        assert_eq!(
            (identity.allows_client_id(who, id), prefix.allows_client_id(who, id)),
            (by_identity, by_prefix),
            "{who:?} {id}"
        );
    }
    assert_eq!(
        (any.client_id_of(Some("a")), prefix.client_id_of(Some("a")), identity.client_id_of(None)),
        (None, Some("a"), None)
    );
}

/// X26: what a remembered proof is good for.
#[test]
fn a_proof_is_for_one_auth_one_hash_and_one_password() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |name: &str, hash: &str, password: &str| {
        let file = dir.path().join("passwords");
        std::fs::write(&file, format!("a:{hash}\n")).unwrap();
        let of = Settings { name: name.into(), password_file: Some(file), ..settings(&[Method::Password]) };
        let policy = Arc::new(Policy::load(&of).unwrap());
        match policy.judge(Claim { username: Some("a"), password: Some(password.as_bytes()), ..Claim::default() }) {
            Judgement::Ask(question) => question,
            other => panic!("{other:?}"),
        }
    };
    let now = Instant::now();
    let mut proofs = Proofs::new(now).unwrap();
    let known = proofs.of(&ask("devices", SLOW, "secret"));
    proofs.add(known, now);
    assert!(proofs.knows(&known, now));
    let other = SLOW.replace("$7$101$M", "$7$101$N");
    for (name, hash, password) in
        [("others", SLOW, "secret"), ("devices", &*other, "secret"), ("devices", SLOW, "secret2")]
    {
        let proof = proofs.of(&ask(name, hash, password));
        assert!(!proofs.knows(&proof, now), "{name} {password}");
    }
    // A proof is forgotten when it has not been used for a day.
    let hours = |hours: u64| now + Duration::from_secs(hours * 3600 + 1);
    assert!(proofs.knows(&known, hours(12)), "the old ones become young by being used");
    assert!(proofs.knows(&known, hours(24)));
    assert!(!proofs.knows(&known, hours(49)) && proofs.is_empty());
    for (proof, at) in [(1, 49), (2, 62), (3, 75)] {
        proofs.add([proof; 32], hours(at));
    }
    assert!(!proofs.knows(&[1; 32], hours(75)) && proofs.knows(&[2; 32], hours(75)));
}

/// X41, X45: the last grant is remembered, for as long as the rules are the same.
#[test]
fn what_was_granted_is_remembered_until_the_rules_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("acl");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Arc::new(Policy::load(&Settings { acl_file: Some(file.clone()), ..settings(&[Method::Anonymous]) }).unwrap())
    };
    let publish = |topic| Wanted { action: Action::Publish, topic, qos: QoS::AtLeastOnce, retain: false };
    let policy = load("topic write a\ntopic write b\n");
    let mut access = Access::new(&Admission::anonymous(policy));
    for _ in 0..2 {
        assert!(access.may_publish(None, "c", publish("a")) && access.may_publish(None, "c", publish("b")));
        assert!(!access.may_publish(None, "c", publish("c")));
    }
    assert!(access.may_publish(None, "c", publish("a")));
    access.renew(&load("topic write b\n"));
    assert!(!access.may_publish(None, "c", publish("a")), "remembered, and not granted any more");
    // A session that has not connected since the start may do nothing.
    assert!(!Access::restored("devices").may_publish(None, "c", publish("b")));
}

/// 2026-11-21.
const WALL_MS: i64 = 1_795_219_200_000;

/// A policy with these keys, and `quick` and `slow` in a password file.
fn with_tokens(dir: &Path, chain: &[Method], keys: &[serde_json::Value]) -> Arc<Policy> {
    let file = dir.join("jwks.json");
    std::fs::write(&file, set(keys)).unwrap();
    let users = policy(dir, &[Method::Password]).settings().password_file.clone();
    let jwt = jwt::Settings {
        keys: jwt::Source::JwksFile(file),
        issuer: None,
        audience: Vec::new(),
        algorithms: jwt::Algorithm::PUBLIC.to_vec(),
        leeway: Duration::ZERO,
        from: jwt::Field::Password,
        identity_claim: "sub".to_owned(),
        client_id_claim: None,
        acl_claim: "acl".to_owned(),
        roles_claim: None,
    };
    let settings = Settings { jwt: Some(jwt), password_file: users, ..settings(chain) };
    Arc::new(Policy::load(&settings).unwrap())
}

fn with_token<'a>(username: &'a str, token: &'a str, wall_ms: i64) -> Claim<'a> {
    Claim { username: Some(username), password: Some(token.as_bytes()), certificate: None, wall_ms }
}

/// X23: which credentials each method leaves to the next one.
#[test]
fn a_token_decides_before_the_password_file_and_a_password_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::es256();
    let key = [signer.jwk(None)];
    let chain = [Method::Jwt, Method::Password];
    let policy = with_tokens(dir.path(), &chain, &key);
    let token = signer.sign(&json!({ "alg": "ES256" }), &json!({ "sub": "ada", "exp": WALL_MS / 1_000 + 10 }));
    let Judgement::Ask(question) = policy.judge(with_token("quick", &token, WALL_MS)) else { panic!("it takes long") };
    let admission = question.answer().unwrap();
    assert_eq!(admission.identity.as_deref(), Some("ada"), "not the user name");
    assert_eq!(admission.expires_s, Some(1_795_219_210));
    assert!(policy.still_admits(Some("ada"), &admission.by));
    assert!(matches!(policy.judge(with_token("quick", "one", WALL_MS)), Judgement::Admit(_)));
    // An invalid token is not tried as a password.
    let unsigned = token.rsplit_once('.').unwrap().0.to_owned() + ".";
    let refused = match policy.judge(with_token("quick", &unsigned, WALL_MS)) {
        Judgement::Ask(question) => question.answer().map(|_| ()),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused, Err(Refusal::Token(jwt::Fault::Signature)));
    // With other keys, clients admitted by the old key are not admitted any more.
    let turned = with_tokens(dir.path(), &chain, &[Signer::es256().jwk(None)]);
    assert!(!turned.is_same(&policy) && !turned.still_admits(Some("ada"), &admission.by));
    let both = with_tokens(dir.path(), &chain, &[Signer::es256().jwk(None), signer.jwk(None)]);
    assert!(both.still_admits(Some("ada"), &admission.by));
    let without = with_tokens(dir.path(), &[Method::Password], &key);
    assert!(!without.still_admits(Some("ada"), &admission.by));
}

/// X26: a token's proof is remembered; its time is checked each time.
#[test]
fn a_signature_that_is_known_is_not_computed_again_and_the_time_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::eddsa();
    let policy = with_tokens(dir.path(), &[Method::Jwt], &[signer.jwk(None)]);
    let sign = |sub: &str| signer.sign(&json!({ "alg": "EdDSA" }), &json!({ "sub": sub, "exp": WALL_MS / 1_000 + 10 }));
    let (token, other) = (sign("ada"), sign("bob"));
    let ask = |policy: &Arc<Policy>, token: &str, wall_ms| match policy.judge(with_token("x", token, wall_ms)) {
        Judgement::Ask(question) => question,
        other => panic!("{other:?}"),
    };
    let now = Instant::now();
    let mut proofs = Proofs::new(now).unwrap();
    let known = proofs.of(&ask(&policy, &token, WALL_MS));
    proofs.add(known, now);
    let mut knows = |policy: &Arc<Policy>, token: &str, wall_ms| {
        let proof = proofs.of(&ask(policy, token, wall_ms));
        proofs.knows(&proof, now)
    };
    assert!(knows(&policy, &token, WALL_MS + 5_000) && !knows(&policy, &other, WALL_MS));
    // Another key, then another auth.
    let turned = with_tokens(dir.path(), &[Method::Jwt], &[Signer::eddsa().jwk(None)]);
    assert!(!knows(&turned, &token, WALL_MS));
    let renamed = Settings { name: "others".to_owned(), ..policy.settings().clone() };
    let renamed = Arc::new(Policy::load(&renamed).unwrap());
    assert!(!knows(&renamed, &token, WALL_MS));
    // A known token is taken without its signature; not when it has expired.
    let forged = format!("{}.AAAA", token.rsplit_once('.').unwrap().0);
    assert!(ask(&policy, &forged, WALL_MS).answer().is_err());
    assert_eq!(ask(&policy, &forged, WALL_MS).answer_known().unwrap().identity.as_deref(), Some("ada"));
    let late = ask(&policy, &token, WALL_MS + 10_000).answer_known();
    assert_eq!(late.map(|_| ()), Err(Refusal::Token(jwt::Fault::Expired)));
    // Where several keys match, the signature is computed again.
    let two = with_tokens(dir.path(), &[Method::Jwt], &[signer.jwk(None), Signer::eddsa().jwk(None)]);
    assert!(ask(&two, &forged, WALL_MS).answer_known().is_err());
    assert!(ask(&two, &token, WALL_MS).answer_known().is_ok());
}

/// X40: a token's claim comes first, then the file; without a file the token alone decides.
#[test]
fn a_token_says_what_its_bearer_may_touch() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::eddsa();
    let acl = dir.path().join("acl");
    std::fs::write(&acl, "topic write none\nuser ada\ntopic write file\n").unwrap();
    let without = with_tokens(dir.path(), &[Method::Jwt], &[signer.jwk(None)]);
    let with = Settings { acl_file: Some(acl), ..without.settings().clone() };
    let with = Arc::new(Policy::load(&with).unwrap());
    let lists = json!({ "pub": ["own/${clientid}"] });
    let rules = json!([
        { "permission": "allow", "action": "publish", "topic": "own/${clientid}" },
        { "permission": "deny", "action": "publish", "topic": "file", "qos": [0] },
    ]);
    let access = |policy: &Arc<Policy>, acl: Option<&serde_json::Value>| {
        let mut claims = json!({ "sub": "ada", "exp": WALL_MS / 1_000 + 10 });
        if let Some(acl) = acl {
            claims["acl"] = acl.clone();
        }
        let token = signer.sign(&json!({ "alg": "EdDSA" }), &claims);
        let Judgement::Ask(question) = policy.judge(with_token("x", &token, WALL_MS)) else { panic!("it takes long") };
        Access::new(&question.answer().unwrap())
    };
    let wanted = |topic, qos| Wanted { action: Action::Publish, topic, qos, retain: false };
    for (policy, acl, [own, file, other]) in [
        (&without, None, [true, true, true]),
        (&with, None, [false, true, false]),
        (&without, Some(&lists), [true, false, false]),
        (&with, Some(&lists), [true, false, false]),
        (&without, Some(&rules), [true, false, false]),
        (&with, Some(&rules), [true, true, false]),
    ] {
        let mut access = access(policy, acl);
        for (topic, granted) in [("own/c", own), ("file", file), ("other", other), ("own/c", own)] {
            let said = access.may_publish(Some("ada"), "c", wanted(topic, QoS::AtLeastOnce));
            assert_eq!(said, granted, "{topic} {acl:?}");
        }
    }
    // The condition is checked each time, remembered topic or not.
    let mut conditional = access(&with, Some(&rules));
    for qos in [QoS::AtLeastOnce, QoS::AtMostOnce, QoS::AtLeastOnce] {
        assert_eq!(conditional.may_publish(Some("ada"), "c", wanted("file", qos)), qos == QoS::AtLeastOnce);
    }
    let claims = json!({ "sub": "ada", "exp": WALL_MS / 1_000 + 10, "acl": [{ "topic": "a" }] });
    let token = signer.sign(&json!({ "alg": "EdDSA" }), &claims);
    let Judgement::Ask(question) = with.judge(with_token("x", &token, WALL_MS)) else { panic!("it takes long") };
    assert_eq!(question.answer().map(|_| ()), Err(Refusal::Token(jwt::Fault::Acl)));
}

/// A damaged copy of a key set counts as none: startup goes on, and the next fetch brings another one.
#[test]
fn finding_l5_a_damaged_copy_of_a_key_set_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::eddsa();
    let with_file = with_tokens(dir.path(), &[Method::Jwt], &[signer.jwk(None)]);
    let remote = jwt::Remote {
        url: crate::secure::Url::parse("https://example.org/keys").unwrap(),
        ca_file: None,
        refresh: Duration::from_secs(600),
        stale_max: Duration::from_secs(3_600),
        file: dir.path().join("copy.json"),
    };
    let mut settings = with_file.settings().clone();
    settings.jwt.as_mut().unwrap().keys = jwt::Source::JwksUrl(remote.clone());
    let keys = || {
        let policy = Policy::load(&settings).unwrap_or_else(|problems| panic!("{problems:?}"));
        policy.tokens().unwrap().keys().len()
    };
    let good = set(&[signer.jwk(None)]);
    assert_eq!(keys(), 0, "not fetched yet");
    for damaged in [&good[..good.len() / 2], b"", b"{}", &[0; 64], b"\xff"] {
        std::fs::write(&remote.file, damaged).unwrap();
        assert_eq!(keys(), 0);
    }
    std::fs::write(&remote.file, vec![b' '; 20 << 20]).unwrap();
    assert_eq!(keys(), 0, "too long");
    std::fs::write(&remote.file, &good).unwrap();
    assert_eq!(keys(), 1);
    // A damaged file that the configuration names is a mistake in the configuration.
    settings.jwt.as_mut().unwrap().keys = jwt::Source::JwksFile(remote.file.clone());
    std::fs::write(&remote.file, "{}").unwrap();
    assert!(Policy::load(&settings).is_err());
}

/// Unknown users take as long as known ones do: some one time, some the other, and each always the same.
#[test]
fn finding_s13_an_unknown_user_of_a_mixed_file_may_take_long() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "a key").unwrap();
    let without = policy(dir.path(), &[Method::Password]);
    let settings = Settings { decoy_key: Some(dir.path().join("key")), ..without.settings().clone() };
    let policy = Arc::new(Policy::load(&settings).unwrap());
    let takes_long = |name: &str| {
        let (outcome, was_asked) = judged(&policy, Some(name), Some("one"));
        assert_eq!(outcome, Err(Refusal::Credentials));
        was_asked
    };
    let all: Vec<bool> = (0..40).map(|n| takes_long(&format!("user-{n}"))).collect();
    assert!(all.contains(&true) && all.contains(&false), "{all:?}");
    assert_eq!(all, (0..40).map(|n| takes_long(&format!("user-{n}"))).collect::<Vec<_>>());
}

use std::time::{Duration, Instant};

use super::super::{Access, Proofs, password};
use super::*;

const SLOW: &str =
    "$7$101$MavqqpE2gfo1n4VR$mFZAp2VWQiGPhWi5JVfWIO8jRCut00T8eF251/SdScO4dk/xcz7flBXITHlVto72EjtnJqkUjxLraPTZd3WTaA==";

fn settings(chain: &[Method]) -> Settings {
    Settings::new("devices", chain)
}

/// With a file of `quick`, whose password is `one`, and `slow`, whose password is `secret`.
fn policy(dir: &Path, chain: &[Method]) -> Arc<Policy> {
    let file = dir.join("passwords");
    std::fs::write(&file, format!("quick:{}\nslow:{SLOW}\n", password::sha512_of(b"one").unwrap())).unwrap();
    Arc::new(Policy::load(&Settings { password_file: Some(file), ..settings(chain) }).unwrap())
}

/// Who it is in the end, and whether it had to be asked for.
fn judged(
    policy: &Arc<Policy>,
    username: Option<&str>,
    password: Option<&str>,
) -> (Result<Option<Box<str>>, Refusal>, bool) {
    match policy.judge(Claim { username, password: password.map(str::as_bytes), certificate: None }) {
        Judgement::Admit(admission) => (Ok(admission.identity), false),
        Judgement::Refuse(refusal) => (Err(refusal), false),
        Judgement::Ask(question) => (question.answer().map(|admission| admission.identity), true),
    }
}

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
        // Removed from the file, it is not admitted as an anonymous client.
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

#[test]
fn an_unknown_user_is_refused_after_the_same_work() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy(dir.path(), &[Method::Password]);
    std::fs::write(dir.path().join("passwords"), format!("a:{SLOW}\nb:{SLOW}\n")).unwrap();
    let slow = Arc::new(Policy::load(policy.settings()).unwrap());
    let (said, was_asked) = judged(&slow, Some("carol"), Some("secret"));
    assert_eq!((said, was_asked), (Err(Refusal::Credentials), true));
}

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
        policy.judge(Claim { username: Some("quick"), password: Some(b"one"), certificate })
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
    // Another password, then no such user.
    let after = policy(dir.path(), &[Method::Password]);
    assert!(!before.is_same(&after) && !after.still_admits(Some("quick"), &By::Line(record)));
    assert!(after.still_admits(Some("slow"), &By::Line(after.users().unwrap().get("slow").unwrap().print)));
    assert!(!after.still_admits(None, &By::Nothing) && !after.still_admits(Some("carol"), &By::Line(1)));
}

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
        // Would be within `a`.
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

#[test]
fn a_proof_is_for_one_auth_one_hash_and_one_password() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |name: &str, hash: &str, password: &str| {
        let file = dir.path().join("passwords");
        std::fs::write(&file, format!("a:{hash}\n")).unwrap();
        let of = Settings { name: name.into(), password_file: Some(file), ..settings(&[Method::Password]) };
        let policy = Arc::new(Policy::load(&of).unwrap());
        match policy.judge(Claim { username: Some("a"), password: Some(password.as_bytes()), certificate: None }) {
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
    // It is forgotten when it has not been used for a day.
    let hours = |hours: u64| now + Duration::from_secs(hours * 3600 + 1);
    assert!(proofs.knows(&known, hours(12)), "the old ones become young by being used");
    assert!(proofs.knows(&known, hours(24)));
    assert!(!proofs.knows(&known, hours(49)) && proofs.is_empty());
    for (proof, at) in [(1, 49), (2, 62), (3, 75)] {
        proofs.add([proof; 32], hours(at));
    }
    assert!(!proofs.knows(&[1; 32], hours(75)) && proofs.knows(&[2; 32], hours(75)));
}

#[test]
fn what_was_granted_is_remembered_until_the_rules_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("acl");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Arc::new(Policy::load(&Settings { acl_file: Some(file.clone()), ..settings(&[Method::Anonymous]) }).unwrap())
    };
    let policy = load("topic write a\ntopic write b\n");
    let mut access = Access::new(&Admission { policy, identity: None, by: By::Nothing, data: None });
    for _ in 0..2 {
        assert!(access.may_publish(None, "c", "a") && access.may_publish(None, "c", "b"));
        assert!(!access.may_publish(None, "c", "c"));
    }
    assert!(access.may_publish(None, "c", "a"));
    access.renew(&load("topic write b\n"));
    assert!(!access.may_publish(None, "c", "a"), "remembered, and not granted any more");
    // One that has not connected since the start may do nothing.
    assert!(!Access::restored("devices").may_publish(None, "c", "b"));
}

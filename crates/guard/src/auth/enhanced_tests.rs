use std::path::Path;

use proptest::prelude::*;

use super::super::Settings;
use super::*;
use crate::secure::Secret;
use crate::secure::scram::{First, Hash};

/// Ada and Bob can log in by SCRAM, Carol only by password; all with the password `secret`.
fn policy(dir: &Path, chain: &[Method]) -> Arc<Policy> {
    let file = dir.join("passwords");
    if !file.exists() {
        let (ada, bob) = (password::scram_of(b"secret").unwrap(), password::scram_of(b"secret").unwrap());
        let carol = password::sha512_of(b"secret").unwrap();
        std::fs::write(&file, format!("ada:{ada}\nbob:{bob}\ncarol:{carol}\n")).unwrap();
    }
    std::fs::write(dir.join("key"), dir.display().to_string()).unwrap();
    let decoy_key = Some(dir.join("key"));
    let settings = Settings { password_file: Some(file), decoy_key, ..Settings::new("devices", chain) };
    Arc::new(Policy::load(&settings).unwrap())
}

/// The server's first message, and the outcome of the whole exchange.
fn exchange(policy: &Arc<Policy>, user: &str, password: &str) -> (String, Result<Admission, Refusal>) {
    let (first, message) = First::new(Hash::Sha256, user, "nonce".to_owned());
    let (exchange, told) = policy.begin(SCRAM, Some(message.as_bytes())).unwrap();
    let challenge = first.server_first(&told).unwrap();
    let keys = challenge.derivation(&Secret::new(password.as_bytes().to_vec())).keys();
    let (expected, message) = challenge.answer(&keys);
    let result = exchange.finish(Some(message.as_bytes()));
    if let Ok(admission) = &result {
        expected.server_final(admission.data.as_deref().unwrap()).unwrap();
    }
    (String::from_utf8(told).unwrap(), result)
}

/// The salt and iterations that are sent for a name.
fn told(policy: &Arc<Policy>, user: &str) -> String {
    let (told, _) = exchange(policy, user, "guess");
    told.split_once(',').unwrap().1.to_owned()
}

/// X30: SCRAM admits a client with the password, and no other.
#[test]
fn only_a_client_with_the_password_is_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy(dir.path(), &[Method::Scram]);
    let admission = exchange(&policy, "ada", "secret").1.unwrap();
    assert_eq!(admission.identity.as_deref(), Some("ada"));
    assert_eq!(admission.by.authentication_method(), Some(SCRAM));
    assert!(policy.still_admits(Some("ada"), &admission.by) && !policy.still_admits(Some("bob"), &admission.by));
    for (user, password) in [("ada", "guess"), ("dave", "secret"), ("carol", "secret"), ("ADA", "secret")] {
        assert_eq!(exchange(&policy, user, password).1.map(|_| ()), Err(Refusal::Credentials), "{user} {password}");
    }
    // With another password the line has another print.
    std::fs::write(dir.path().join("passwords"), format!("ada:{}\n", password::scram_of(b"secret").unwrap())).unwrap();
    let changed = self::policy(dir.path(), &[Method::Scram]);
    assert!(!changed.still_admits(Some("ada"), &admission.by));
}

/// X30: 0x8C.
#[test]
fn a_method_that_is_not_in_the_chain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (with, without) =
        (policy(dir.path(), &[Method::Password, Method::Scram]), policy(dir.path(), &[Method::Password]));
    let message = Some(&b"n,,n=ada,r=x"[..]);
    assert!(with.begin(SCRAM, message).is_ok());
    for method in ["SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS", "", "PLAIN"] {
        assert!(matches!(with.begin(method, message), Err(Refusal::Method)), "{method}");
    }
    assert!(matches!(without.begin(SCRAM, message), Err(Refusal::Method)));
    assert!(matches!(with.begin(SCRAM, None), Err(Refusal::Exchange(_))));
    let (exchange, _) = with.begin(SCRAM, message).unwrap();
    assert!(matches!(exchange.finish(None), Err(Refusal::Exchange(_))));
}

/// X30: an unknown user gets a salt, the same each time.
#[test]
fn an_unknown_user_is_told_what_a_known_one_could_be_and_always_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy(dir.path(), &[Method::Scram]);
    let before = told(&policy, "dave");
    let known = told(&policy, "ada");
    assert!(before.starts_with("s=") && before.len() == known.len() && before.ends_with(",i=4096"), "{before} {known}");
    assert_eq!(told(&policy, "dave"), before);
    assert_ne!(told(&policy, "eve"), before);
    // A user with a hash of another form cannot log in by SCRAM.
    assert!(told(&policy, "carol").ends_with(",i=4096"));
    // The terms are the same after a restart, and when users are added, as by `forebay passwd`, or removed.
    let file = dir.path().join("passwords");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}frank:{}\n", password::scram_of(b"x").unwrap())).unwrap();
    assert_eq!(told(&self::policy(dir.path(), &[Method::Scram]), "dave"), before);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(told(&self::policy(other.path(), &[Method::Scram]), "dave"), before, "another file, another key");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No random last message is a proof: only a client with the keys is admitted.
    #[test]
    fn no_bytes_are_a_proof(last in prop::collection::vec(any::<u8>(), 0..120), name in "ada|bob|dave") {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy(dir.path(), &[Method::Scram]);
        let (exchange, told) = policy.begin(SCRAM, Some(format!("n,,n={name},r=x").as_bytes())).unwrap();
        let nonce = std::str::from_utf8(&told).unwrap().split(',').next().unwrap();
        let proof = base64::engine::general_purpose::STANDARD.encode(last.iter().copied().cycle().chain([0; 32]).take(32).collect::<Vec<_>>());
        let valid = format!("c=biws,{nonce},p={proof}");
        prop_assert_eq!(exchange.finish(Some(valid.as_bytes())).map(|_| ()), Err(Refusal::Credentials));
        let (exchange, _) = policy.begin(SCRAM, Some(format!("n,,n={name},r=x").as_bytes())).unwrap();
        prop_assert!(exchange.finish(Some(&last)).is_err());
    }
}

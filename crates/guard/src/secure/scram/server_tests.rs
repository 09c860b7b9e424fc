//! The server's part against the RFC's example, against our own client, and against clients that lie.

use proptest::prelude::*;

use super::super::{Derivation, First, Hash};
use super::*;
use crate::secure::Secret;

const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

/// A server's record of a password, with owned contents.
struct Kept {
    salt: Vec<u8>,
    iterations: u32,
    stored: [u8; KEY_BYTES],
    server: [u8; KEY_BYTES],
}

impl Kept {
    fn of(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let derivation = Derivation::new(Hash::Sha256, Secret::new(password.to_vec()), salt.to_vec(), iterations);
        let (stored, server) = derivation.keys().kept();
        Self { salt: salt.to_vec(), iterations, stored, server }
    }

    fn record(&self) -> Record<'_> {
        Record { salt: &self.salt, iterations: self.iterations, stored: &self.stored, server: &self.server }
    }
}

fn pencil() -> Kept {
    Kept::of(b"pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4_096)
}

fn begun() -> Exchange {
    Opening::parse(CLIENT_FIRST.as_bytes()).unwrap().challenge(pencil().record(), NONCE).0
}

/// RFC 7677, section 3.
#[test]
fn the_example_of_the_standard() {
    let opening = Opening::parse(CLIENT_FIRST.as_bytes()).unwrap();
    assert_eq!(opening.user(), "user");
    let (exchange, message) = opening.challenge(pencil().record(), NONCE);
    assert_eq!(message, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    assert_eq!(
        exchange.answer(CLIENT_FINAL.as_bytes()).as_deref(),
        Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    );
}

#[test]
fn first_messages() {
    let user = |message: &str| Opening::parse(message.as_bytes()).map(|opening| opening.user().to_owned());
    for (message, name) in [
        ("n,,n=user,r=x", "user"),
        ("y,,n=user,r=x", "user"),
        ("n,a=user,n=user,r=x", "user"),
        ("n,,n=a=3Db=2Cc,r=x", "a=b,c"),
        ("n,,n=user,r=x,ext=1", "user"),
        ("n,,n=ü,r=x", "ü"),
    ] {
        assert_eq!(user(message).as_deref(), Ok(name), "{message}");
    }
    for (message, why) in [
        ("p=tls-exporter,,n=user,r=x", "channel binding"),
        ("n,a=admin,n=user,r=x", "authorization identity"),
        ("n,,m=ext,n=user,r=x", "mandatory"),
        ("", "not valid"),
        ("n", "not valid"),
        ("n,,", "not valid"),
        ("n,,n=,r=x", "not valid"),
        ("n,,n=user", "not valid"),
        ("n,,n=user,r=", "not valid"),
        ("n,,n=user,r=a\u{e9}", "not valid"),
        ("n,,n=a=b,r=x", "not valid"),
        ("n,,n=a=2,r=x", "not valid"),
        ("n,,n=a=2c,r=x", "not valid"),
        ("n,,r=x,n=user", "not valid"),
        ("q,,n=user,r=x", "not valid"),
        (&*format!("n,,n={},r=x", "u".repeat(5_000)), "cannot be read"),
    ] {
        match user(message) {
            Err(Failure::Malformed(what)) => assert!(what.contains(why), "{message}: {what}"),
            other => panic!("{message}: {other:?}"),
        }
    }
    assert!(Opening::parse(b"n,,n=\xff,r=x").is_err());
}

/// X30: the nonce and the header of the first message.
#[test]
fn a_last_message_belongs_to_its_exchange() {
    let (without_proof, proof) = CLIENT_FINAL.rsplit_once(",p=").unwrap();
    let mut other = BASE64.decode(proof).unwrap();
    other[31] ^= 1;
    for (message, why) in [
        (CLIENT_FINAL.replace("c=biws", "c=eSws"), Some("another header")),
        (CLIENT_FINAL.replace("$k0,", "$k1,"), Some("another nonce")),
        (CLIENT_FINAL.replace("r=rOpr", "r=xOpr"), Some("another nonce")),
        (format!("c=biws,r={NONCE},p={proof}"), Some("another nonce")),
        (format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={proof}"), Some("another nonce")),
        (without_proof.to_owned(), Some("not valid")),
        (format!("{without_proof},p="), Some("not valid")),
        (format!("{without_proof},p={proof}x"), Some("not valid")),
        (format!("{without_proof},p={}", &proof[4..]), Some("not valid")),
        (String::new(), Some("not valid")),
        (format!("{without_proof},p={}", BASE64.encode(&other)), None),
        (format!("{without_proof},p={}", BASE64.encode([0; 32])), None),
        // The signature covers all of the message.
        (format!("{without_proof},x=1,p={proof}"), None),
    ] {
        match (begun().answer(message.as_bytes()), why) {
            (Err(Failure::Malformed(what)), Some(why)) => assert!(what.contains(why), "{message}: {what}"),
            (Err(Failure::WrongProof), None) => {}
            (other, _) => panic!("{message}: {other:?}"),
        }
    }
}

/// X30: the password file alone admits no client.
#[test]
fn the_keys_that_a_server_keeps_open_nothing() {
    let kept = pencil();
    let (without_proof, _) = CLIENT_FINAL.rsplit_once(",p=").unwrap();
    for key in [kept.stored, kept.server] {
        let message = format!("{without_proof},p={}", BASE64.encode(key));
        assert_eq!(begun().answer(message.as_bytes()), Err(Failure::WrongProof));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Our client, which is held against Kafka, and our server agree for the right password, and for no other.
    #[test]
    fn client_and_server_agree(
        user in "[^\0]{1,40}", nonce in "[!-+\\--~]{1,30}", own in "[!-+\\--~]{1,30}",
        salt in prop::collection::vec(any::<u8>(), 1..40), password in prop::collection::vec(any::<u8>(), 1..20),
        other in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        // The client accepts no fewer iterations.
        let kept = Kept::of(&password, &salt, super::super::ITERATIONS_MIN);
        let exchange = |password: &[u8]| {
            let (first, message) = First::new(Hash::Sha256, &user, nonce.clone());
            let opening = Opening::parse(message.as_bytes()).unwrap();
            assert_eq!(opening.user(), user);
            let (exchange, message) = opening.challenge(kept.record(), &own);
            let challenge = first.server_first(message.as_bytes()).unwrap();
            let keys = challenge.derivation(&Secret::new(password.to_vec())).keys();
            let (expected, message) = challenge.answer(&keys);
            (expected, exchange.answer(message.as_bytes()))
        };
        let (expected, answer) = exchange(&password);
        prop_assert_eq!(expected.server_final(answer.unwrap().as_bytes()), Ok(()));
        if other != password {
            prop_assert_eq!(exchange(&other).1, Err(Failure::WrongProof));
        }
    }

    #[test]
    fn no_bytes_do_harm(first in prop::collection::vec(any::<u8>(), 0..80), last in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Opening::parse(&first);
        prop_assert!(begun().answer(&last).is_err());
    }
}

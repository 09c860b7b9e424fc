//! Tests of `[auth.NAME.jwt]`.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use forebay_guard::auth::jwt::{Algorithm, Field, Settings, Source};

const AUTH: &str = "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'jwt'\n";

fn settings(text: &str) -> Settings {
    good(&format!("{AUTH}[auth.a.jwt]\n{text}")).auth[0].jwt.clone().expect("it is there")
}

fn problems(text: &str) -> String {
    parse(text, "test").expect_err(text).to_string()
}

#[test]
fn what_is_said_and_what_is_not() {
    let expected = Settings {
        keys: Source::JwksFile(PathBuf::from("k")),
        issuer: None,
        audience: Vec::new(),
        algorithms: Algorithm::PUBLIC.to_vec(),
        leeway: Duration::from_secs(30),
        from: Field::Password,
        identity_claim: "sub".to_owned(),
        client_id_claim: None,
        acl_claim: "acl".to_owned(),
        roles_claim: None,
    };
    assert_eq!(settings("jwks_file = 'k'"), expected);
    let long = "secret_file = 's'\nissuer = 'i'\naudience = ['a', 'b']\nalgorithms = 'HS256'\nleeway = '0s'\n\
                token_from = 'username'\nidentity_claim = 'name'\nclient_id_claim = 'device'\nacl_claim = 'may'\n\
                roles_claim = 'groups'";
    let expected = Settings {
        keys: Source::SecretFile(PathBuf::from("s")),
        issuer: Some("i".to_owned()),
        audience: vec!["a".to_owned(), "b".to_owned()],
        algorithms: vec![Algorithm::Hs256],
        leeway: Duration::ZERO,
        from: Field::Username,
        identity_claim: "name".to_owned(),
        client_id_claim: Some("device".to_owned()),
        acl_claim: "may".to_owned(),
        roles_claim: Some("groups".to_owned()),
    };
    assert_eq!(settings(long), expected);
    assert_eq!(settings("secret_file = 's'").algorithms, [Algorithm::Hs256]);
    assert_eq!(settings("jwks_file = 'k'\nalgorithms = ['EdDSA']").algorithms, [Algorithm::EdDsa]);
}

#[test]
fn what_does_not_go_together() {
    let jwt = format!("{AUTH}[auth.a.jwt]\n");
    for (text, expected) in [
        (AUTH.to_owned(), "auth.a.chain: has \"jwt\", and there is no [auth.NAME.jwt]"),
        (format!("{}[auth.a.jwt]\njwks_file = 'k'", AUTH.replace("jwt", "anonymous")), "auth.a.jwt: has no effect"),
        (jwt.clone(), "auth.a.jwt.jwks_file: is required"),
        (format!("{jwt}jwks_file = 'k'\nsecret_file = 's'"), "auth.a.jwt.secret_file: and jwks_file are both set"),
        // HS256 would use a public key, which everyone knows, as a secret.
        (format!("{jwt}jwks_file = 'k'\nalgorithms = ['ES256', 'HS256']"), "\"HS256\" is no algorithm for public keys"),
        (format!("{jwt}jwks_file = 'k'\nalgorithms = 'none'"), "\"none\" is no algorithm for public keys"),
        (format!("{jwt}secret_file = 'k'\nalgorithms = 'RS256'"), "\"RS256\" is no algorithm for secret_file"),
    ] {
        let said = problems(&text);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn tokens_for_other_services_are_warned_of() {
    let warned = |text: &str| good(&format!("{AUTH}[auth.a.jwt]\n{text}")).warnings.to_string();
    assert!(warned("jwks_file = 'k'").contains("signed for other services"));
    for text in ["secret_file = 's'", "jwks_file = 'k'\nissuer = 'i'", "jwks_file = 'k'\naudience = 'i'"] {
        assert!(!warned(text).contains("signed for other services"), "{text}");
    }
}

#[test]
fn keys_by_url() {
    let text = "jwks_url = 'https://id.example/keys'\njwks_ca_file = 'ca'\nrefresh = '1m'\nstale_max = '2h'";
    let Source::JwksUrl(remote) = settings(text).keys else { panic!("a URL") };
    assert_eq!(remote.url.to_string(), "https://id.example/keys");
    assert_eq!((remote.ca_file, remote.refresh.as_secs(), remote.stale_max.as_secs()), (Some("ca".into()), 60, 7_200));
    let Source::JwksUrl(other) = settings("jwks_url = 'https://id.example/others'").keys else { panic!("a URL") };
    assert!(remote.file.starts_with("./forebay-data/keys") && other.file.starts_with("./forebay-data/keys"));
    assert_ne!(remote.file, other.file, "of another URL nothing is taken over");
    assert_eq!((other.refresh.as_secs(), other.stale_max.as_secs()), (600, 86_400));
    let jwt = format!("{AUTH}[auth.a.jwt]\n");
    for (text, problem) in [
        ("jwks_url = 'http://id.example/'", "must be https"),
        ("jwks_url = 'https://id.example/'\njwks_file = 'k'", "jwks_url: and jwks_file are both set"),
        ("jwks_file = 'k'\nrefresh = '1m'", "refresh: has no effect without jwks_url"),
    ] {
        let said = problems(&format!("{jwt}{text}"));
        assert!(said.contains(problem), "{said}");
    }
}

#[test]
fn roles() {
    let jwt = "jwks_file = 'k'\naudience = 'i'\nroles_claim = 'roles'\n";
    let with = |text: &str| format!("{AUTH}[auth.a.jwt]\n{text}");
    let role = "[auth.a.role.'mqtt:x']\npublish = 'x'\n[auth.a.role.plant-1]\npublish = ['plant/%c/#', 'user/%u']\nsubscribe = []\n[auth.a.role.b]\nsubscribe = 'b'\nreplay = 'b/#'\n";
    let config = good(&with(&format!("{jwt}{role}")));
    assert!(config.warnings.0.is_empty(), "{}", config.warnings);
    let [scope, plant, b] = &config.auth[0].roles[..] else { panic!("three roles") };
    assert_eq!(scope.name, "mqtt:x");
    assert_eq!((plant.name.as_str(), plant.publish.len(), plant.subscribe.len()), ("plant-1", 2, 0));
    assert_eq!((b.name.as_str(), &b.publish[..], &b.subscribe[..]), ("b", &[][..], &["b".to_owned()][..]));
    assert_eq!((plant.replay.len(), &b.replay[..]), (0, &["b/#".to_owned()][..]));
    let warned = |text: String| good(&text).warnings.to_string();
    let nobody = warned(with(&format!("{}{role}", jwt.replace("roles_claim = 'roles'", ""))));
    assert!(nobody.contains("auth.a.role.plant-1: no client can have it"), "{nobody}");
    assert!(warned(with(jwt)).contains("roles_claim grants nothing: there is no role"));
    for (text, problem) in [
        ("[auth.a.role]\nx = 1", "auth.a.role.x: expected a table"),
        ("[auth.a.role.x]\npublish = 'a/#/b'", "auth.a.role.x.publish: has \"a/#/b\", which is no valid topic filter"),
        (
            "[auth.a.role.x]\nsubscribe = ['a', 'dev-%c']",
            "auth.a.role.x.subscribe[1]: has a %c or %u that is only a part",
        ),
        ("[auth.a.role.x]\ndeny = 'a'", "auth.a.role.x.deny: unknown key"),
        ("[auth.a.role.'x y']\npublish = 'a'", "auth.a.role.x y"),
    ] {
        let said = problems(&with(&format!("{jwt}{text}")));
        assert!(said.contains(problem), "{said}");
    }
}

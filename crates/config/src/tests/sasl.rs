//! Tests of `[kafka.NAME.sasl]`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use forebay_guard::secure::Secret;

const PASSWORD: &str = "s3cret-of-the-test";

fn with(sasl: &str) -> String {
    format!(
        "[kafka.main]\nbootstrap = 'k:1'\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n[kafka.main.sasl]\n{sasl}"
    )
}

fn file(mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(mode)).expect("mode");
    file
}

fn by_env(text: &str, name: &str, value: &str) -> Result<Config, Problems> {
    parse_all(text, "forebay.toml", &[(name.to_owned(), Some(value.to_owned()))], None, &Overrides::default(), 2)
}

/// X69: the sources of secrets.
#[test]
fn a_password_comes_from_a_file_or_from_the_environment() {
    let file = file(0o600);
    let scram = "mechanism = 'SCRAM-SHA-512'\nusername = 'forebay'\n";
    let by_file = good(&with(&format!("{scram}password_file = '{}'", file.path().display())));
    let sasl = by_file.clusters[0].sasl.clone().expect("a login");
    assert_eq!((sasl.credentials.mechanism.name(), &*sasl.credentials.user), ("SCRAM-SHA-512", "forebay"));
    assert_eq!(sasl.credentials.password, Secret::new(PASSWORD.into()), "without the line end");
    assert!(by_file.warnings.0.is_empty(), "{}", by_file.warnings);
    let by_env = by_env(&with(scram), "FOREBAY_KAFKA_MAIN_SASL_PASSWORD", PASSWORD).expect("good");
    assert_eq!(by_env.clusters[0].sasl.clone().expect("a login").credentials, sasl.credentials);
    assert!(!format!("{by_file:?} {by_env:?}").contains(PASSWORD));
}

#[test]
fn other_keys_come_from_the_environment_too() {
    let file = file(0o600);
    let text = with(&format!("mechanism = 'PLAIN'\npassword_file = '{}'", file.path().display()));
    let variables = [("FOREBAY_KAFKA_MAIN_SASL_USERNAME", "device"), ("FOREBAY_KAFKA_MAIN_SASL_INSECURE", "true")];
    let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into();
    let config = parse_all(&text, "forebay.toml", &variables, None, &Overrides::default(), 2).expect("good");
    assert_eq!(config.clusters[0].sasl.as_ref().expect("a login").credentials.user, "device");
    let near = by_env(&text, "FOREBAY_KAFKA_MAIN_SASL_USERNAM", "x").expect_err("no such key").to_string();
    assert!(near.contains("did you mean FOREBAY_KAFKA_MAIN_SASL_USERNAME?"), "{near}");
}

/// X69: a file that others may read.
#[test]
fn a_file_that_others_may_read_is_a_warning() {
    let file = file(0o644);
    let text = format!("mechanism = 'SCRAM-SHA-256'\nusername = 'a'\npassword_file = '{}'", file.path().display());
    let config = good(&with(&text));
    assert!(config.warnings.to_string().contains("every user of this machine may read"), "{}", config.warnings);
}

#[test]
fn an_empty_table_is_no_login() {
    assert_eq!(good(&with("")).clusters[0].sasl, None);
}

#[test]
fn what_is_wrong_is_said_and_no_password_with_it() {
    let file = file(0o600);
    let path = file.path().display();
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let scram = "mechanism = 'SCRAM-SHA-256'\nusername = 'a'\n";
    let bearer = format!("mechanism = 'OAUTHBEARER'\ninsecure = true\ntoken_file = '{path}'\n");
    let fetched = "mechanism = 'OAUTHBEARER'\ninsecure = true\ntoken_url = 'https://id.example/token'\n";
    for (text, key, want) in [
        (format!("{scram}password = '{PASSWORD}'"), "password", "does not belong in this file; write it into a file"),
        (format!("{scram}password = ['{PASSWORD}']"), "password", "does not belong in this file"),
        (scram.to_owned(), "password_file", "is required by this mechanism"),
        ("mechanism = 'SCRAM-SHA-256'\n".to_owned(), "username", "is required by this mechanism"),
        (format!("{scram}password_file = '/no/such/file'"), "password_file", "/no/such/file cannot be read"),
        (format!("{scram}password_file = '{}'", empty.path().display()), "password_file", "is empty"),
        (format!("username = 'a'\npassword_file = '{path}'"), "mechanism", "is required"),
        ("mechanism = 'GSSAPI'".to_owned(), "mechanism", "is not a valid value"),
        (
            format!("mechanism = 'PLAIN'\nusername = 'a'\npassword_file = '{path}'"),
            "mechanism",
            "has no TLS; add [kafka.NAME.tls]",
        ),
        (format!("{scram}password_file = '{path}'\ntoken_file = 'x'"), "token_file", "does not go with SCRAM-SHA-256"),
        (format!("{bearer}username = 'x'"), "username", "does not go with OAUTHBEARER"),
        ("mechanism = 'OAUTHBEARER'\ninsecure = true".to_owned(), "token_file", "is required by this mechanism"),
        (format!("{bearer}token_url = 'https://id.example/'"), "token_file", "and token_url are both set"),
        (format!("{bearer}client_id = 'x'"), "client_id", "has no effect without token_url"),
        (
            format!("{scram}password_file = '{path}'\ntoken_url = 'https://id.example/'"),
            "token_url",
            "does not go with",
        ),
        (fetched.to_owned(), "client_id", "is required by this mechanism"),
        (fetched.to_owned(), "client_secret_file", "is required by this mechanism"),
        (format!("{fetched}client_id = 'x'\nclient_secret_file = '/no/such'"), "client_secret_file", "cannot be read"),
        (format!("{fetched}client_secret_file = '{}'", empty.path().display()), "client_secret_file", "is empty"),
        (fetched.replace("https", "http"), "token_url", "must be https"),
        (format!("{bearer}extensions = {{ auth = 'x' }}"), "extensions.auth", "is no SASL extension"),
        (format!("{bearer}extensions = {{ a-b = 'x' }}"), "extensions.a-b", "is no SASL extension"),
        (format!("{bearer}extensions = {{ a = \"\\u0001\" }}"), "extensions.a", "is no SASL extension"),
    ] {
        let problems = parse(&with(&text), "f").expect_err(&text).to_string();
        assert!(
            problems.contains(&format!("kafka.main.sasl.{key}: ")) && problems.contains(want),
            "{text}\n{problems}"
        );
        assert!(!problems.contains(PASSWORD), "{problems}");
    }
    let not_a_table =
        parse("[kafka.main]\nbootstrap = 'k:1'\nsasl = 'PLAIN'\n", "f").expect_err("no table").to_string();
    assert!(not_a_table.contains("write [kafka.NAME.sasl] above its keys"), "{not_a_table}");
}

#[test]
fn another_password_is_a_change_that_is_applied() {
    let (one, other) = (file(0o600), file(0o600));
    fs::write(&other, "another").expect("written");
    let config = |file: &tempfile::NamedTempFile| {
        good(&with(&format!(
            "mechanism = 'SCRAM-SHA-256'\nusername = 'a'\npassword_file = '{}'",
            file.path().display()
        )))
    };
    let change = Change::between(&config(&one), &config(&other));
    assert_eq!((change.applied, change.waiting), (vec!["kafka main (changed: sasl)".to_owned()], Vec::new()));
    let same = config(&one);
    assert!(Change::between(&same, &config(&one)).is_empty());
}

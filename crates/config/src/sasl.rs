//! `[kafka.NAME.sasl]`: the login to a cluster.

use std::sync::Arc;

use super::keys::{self, Section};
use super::password::{self, Reported};
use super::problem::Fault;
use super::reader::Table;
use super::resolved::Sasl;
use super::values;
use forebay_guard::secure::sasl::{Credentials, Mechanism, TokenFrom};
use forebay_guard::secure::{Secret, TokenEndpoint};

/// The longest user name, in bytes.
const USER_BYTES_MAX: usize = 255;
/// Keys that go with a token alone, and those that go with a password alone.
const OF_TOKENS: [&str; 7] =
    ["token_file", "extensions", "token_url", "client_id", "client_secret_file", "scope", "token_ca_file"];
const OF_PASSWORDS: [&str; 3] = ["username", "password", "password_file"];
/// Keys that go with `token_url` alone.
const OF_ENDPOINTS: [&str; 4] = ["client_id", "client_secret_file", "scope", "token_ca_file"];

/// Reads the section, if it exists and has a mechanism.
pub(super) fn resolve(cluster: &Table<'_>) -> Option<Sasl> {
    let table = cluster.part(Section::KafkaSasl)?;
    let name = table.find("mechanism", values::word);
    let Some(mechanism) = name.and_then(Mechanism::named) else {
        let idle = keys::all().filter(|key| key.section == Section::KafkaSasl && key.name != "insecure");
        if name.is_none() && !table.has("mechanism") && idle.into_iter().any(|key| table.has(key.name)) {
            report(&table, "mechanism", Fault::new("is required").hint("set it, as in mechanism = \"SCRAM-SHA-512\""));
        }
        return None;
    };
    let insecure = table.read("insecure", values::flag);
    if mechanism.shows_the_secret() && !insecure && !cluster.has("tls") {
        let what =
            format!("{} sends the secret to the broker as it is, and the connection has no TLS", mechanism.name());
        let hint =
            "add [kafka.NAME.tls], or use SCRAM-SHA-512; or set insecure = true if the network between is trusted";
        report(&table, "mechanism", Fault::new(what).hint(hint));
    }
    let by_token = mechanism == Mechanism::OauthBearer;
    let foreign: &[_] = if by_token { &OF_PASSWORDS } else { &OF_TOKENS };
    for key in foreign.iter().filter(|key| table.has(key)) {
        report(&table, key, Fault::new(format!("does not go with {}", mechanism.name())).hint("leave it out"));
    }
    let (user, password, token) = if by_token {
        (Some(String::new()), Some((Secret::new(Vec::new()), None)), Some(token(&table)?))
    } else {
        (user(&table), password(&table), None)
    };
    let (user, (password, password_file), extensions) = (user?, password?, extensions(&table)?);
    let credentials = Arc::new(Credentials { mechanism, user, password, token, extensions });
    Some(Sasl { credentials, password_file, insecure })
}

fn report(table: &Table<'_>, key: &str, fault: Fault) {
    table.source.report(&table.spot(key), fault);
}

fn missing(table: &Table<'_>, key: &str, hint: &str) {
    report(table, key, Fault::new("is required by this mechanism").hint(hint));
}

fn user(table: &Table<'_>) -> Option<String> {
    if !table.has("username") {
        missing(table, "username", "set the user that the brokers know");
        return None;
    }
    let user = table.find("username", values::non_empty)?;
    if user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        report(table, "username", Fault::new("is no user name: at most 255 bytes, without control characters"));
        return None;
    }
    Some(user)
}

/// The password, and its file, if it has one.
fn password(table: &Table<'_>) -> Option<(Secret, Option<std::path::PathBuf>)> {
    match password::read(table) {
        Ok(Some(given)) => Some((given.password, given.file)),
        Ok(None) => {
            missing(table, "password_file", "name the file that holds the password");
            None
        }
        Err(Reported) => None,
    }
}

/// The origin of the token.
fn token(table: &Table<'_>) -> Option<TokenFrom> {
    if !table.has("token_url") {
        for key in OF_ENDPOINTS.iter().filter(|key| table.has(key)) {
            report(table, key, Fault::new("has no effect without token_url").hint("leave it out"));
        }
        if !table.has("token_file") {
            missing(table, "token_file", "name the file, or set token_url, where the token is fetched from");
            return None;
        }
        return path(table, "token_file").map(TokenFrom::File);
    }
    if table.has("token_file") {
        report(table, "token_file", Fault::new("and token_url are both set").hint("leave one out"));
        return None;
    }
    let url = table.find("token_url", values::url);
    if !table.has("client_id") {
        missing(table, "client_id", "set the ID of this client at the identity provider");
    }
    let (client_id, scope) = (table.find("client_id", values::non_empty), table.find("scope", values::non_empty));
    let secret_file = path(table, "client_secret_file")?;
    if password::of_file(table, "client_secret_file", &secret_file)?.expose().is_empty() {
        report(table, "client_secret_file", Fault::new("the secret is empty"));
        return None;
    }
    let ca_file = table.find("token_ca_file", values::non_empty).map(std::path::PathBuf::from);
    let endpoint = TokenEndpoint { url: url?, client_id: client_id?, secret_file, scope, ca_file };
    Some(TokenFrom::Endpoint(Arc::new(endpoint)))
}

fn path(table: &Table<'_>, key: &'static str) -> Option<std::path::PathBuf> {
    if !table.has(key) {
        missing(table, key, "name the file");
        return None;
    }
    password::path(table, key)
}

/// KIP-342: names are letters; values have no control characters but line ends.
fn extensions(table: &Table<'_>) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, value, spot) in table.entries("extensions") {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()) && name != "auth";
        let value =
            value.as_str().filter(|value| value.bytes().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~')));
        let Some(value) = value.filter(|value| is_name && !value.is_empty()) else {
            let hint = "names are letters and not \"auth\", values are strings of printable ASCII";
            table.source.report(&spot, Fault::new("is no SASL extension").hint(hint));
            return None;
        };
        all.push((name.to_owned(), value.to_owned()));
    }
    Some(all)
}

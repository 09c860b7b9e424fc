//! `[auth.NAME.jwt]`: the tokens that admit clients.

use std::path::{Path, PathBuf};

use super::keys::Section;
use super::problem::Fault;
use super::reader::Table;
use super::{password, values};
use forebay_guard::auth::jwt::{Algorithm, Field, Remote, Settings, Source};

/// Reads the section, if it exists.
pub(super) fn resolve(auth: &Table<'_>, name: &str, data_dir: &Path) -> Option<Settings> {
    let table = auth.part(Section::AuthJwt)?;
    let report = |name: &str, fault| table.source.report(&table.spot(name), fault);
    let file = |name| table.find(name, values::non_empty).map(PathBuf::from);
    let url = table.find("jwks_url", values::url);
    let names = ["jwks_file", "jwks_url", "secret_file"].map(|name| table.has(name).then_some(name));
    let mut set = names.into_iter().flatten();
    match (set.next(), set.next()) {
        (None, _) => {
            let fault = Fault::new("is required");
            let hint = "it names a file of public keys, jwks_url where they are fetched from, or secret_file a file with a secret";
            report("jwks_file", fault.hint(hint));
        }
        (Some(first), Some(second)) => {
            report(second, Fault::new(format!("and {first} are both set")).hint("leave one out"));
        }
        _ => {}
    }
    for name in ["jwks_ca_file", "refresh", "stale_max"] {
        if table.has(name) && !table.has("jwks_url") {
            report(name, Fault::new("has no effect without jwks_url").hint("leave it out"));
        }
    }
    let (ca_file, refresh) = (file("jwks_ca_file"), table.read("refresh", values::duration));
    let stale_max = table.read("stale_max", values::duration);
    let keys = match (file("jwks_file"), url, file("secret_file")) {
        (Some(jwks), ..) => Some(Source::JwksFile(jwks)),
        (_, Some(url), _) => {
            // A file of keys from another URL is not reused.
            let file = format!("{name}-{:016x}.json", xxhash_rust::xxh3::xxh3_64(url.to_string().as_bytes()));
            Some(Source::JwksUrl(Remote { url, ca_file, refresh, stale_max, file: data_dir.join("keys").join(file) }))
        }
        (.., Some(secret)) => {
            password::warn_of_readers(&table, &table.spot("secret_file"), &secret);
            Some(Source::SecretFile(secret))
        }
        _ => None,
    };
    let has_secret = matches!(keys, Some(Source::SecretFile(_)));
    let known = if has_secret { &[Algorithm::Hs256][..] } else { &Algorithm::PUBLIC[..] };
    let mut algorithms = Vec::new();
    for (name, spot) in if table.has("algorithms") { table.texts("algorithms") } else { Vec::new() } {
        match known.iter().find(|algorithm| algorithm.name() == name) {
            Some(algorithm) => algorithms.push(*algorithm),
            None => {
                let names: Vec<_> = known.iter().map(|algorithm| algorithm.name()).collect();
                let with = if has_secret { "secret_file" } else { "public keys" };
                let fault = Fault::new(format!("\"{name}\" is no algorithm for {with}"));
                table.source.report(&spot, fault.hint(format!("known are {}", names.join(", "))));
            }
        }
    }
    if !table.has("algorithms") {
        algorithms = known.to_vec();
    }
    let audience = if table.has("audience") { table.texts("audience") } else { Vec::new() };
    if !has_secret && !table.has("issuer") && !table.has("audience") {
        let fault = Fault::new("accepts tokens that the same issuer has signed for other services");
        table.source.warn(&table.spot, fault.hint("set audience, or issuer if it has one for this service alone"));
    }
    Some(Settings {
        keys: keys?,
        issuer: table.find("issuer", values::non_empty),
        audience: audience.into_iter().map(|(audience, _)| audience).collect(),
        algorithms,
        leeway: table.read("leeway", values::duration),
        from: match table.read("token_from", values::word) {
            "username" => Field::Username,
            _ => Field::Password,
        },
        identity_claim: table.read("identity_claim", values::non_empty),
        client_id_claim: table.find("client_id_claim", values::non_empty),
        acl_claim: table.read("acl_claim", values::non_empty),
        roles_claim: table.find("roles_claim", values::non_empty),
    })
}

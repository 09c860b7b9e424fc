//! `[auth.NAME.jwt]`: whose tokens admit clients.

use std::path::PathBuf;

use super::keys::Section;
use super::problem::Fault;
use super::reader::Table;
use super::{sasl, values};
use crate::auth::jwt::{Algorithm, Field, Settings, Source};

/// Reads it, if it is there.
pub(super) fn resolve(auth: &Table<'_>) -> Option<Settings> {
    let table = auth.part(Section::AuthJwt)?;
    let report = |name: &str, fault| table.source.report(&table.spot(name), fault);
    let file = |name| table.find(name, values::non_empty).map(PathBuf::from);
    let keys = match (file("jwks_file"), file("secret_file")) {
        (Some(jwks), None) => Some(Source::JwksFile(jwks)),
        (None, Some(secret)) => {
            sasl::warn_of_readers(&table, &table.spot("secret_file"), &secret);
            Some(Source::SecretFile(secret))
        }
        (Some(_), Some(_)) => {
            report("secret_file", Fault::new("and jwks_file are both set").hint("leave one out"));
            None
        }
        (None, None) => {
            if !table.has("jwks_file") && !table.has("secret_file") {
                let fault = Fault::new("is required");
                report("jwks_file", fault.hint("it names a file of public keys, or secret_file one with a secret"));
            }
            None
        }
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
    })
}

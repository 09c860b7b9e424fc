//! The claims of a token with a valid signature.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Fault, Settings};
use crate::auth::acl::Grants;
use crate::secure::is_identity;

/// The most roles in one token.
const ROLES_MAX: usize = 256;

/// The bearer of a token.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Its identity.
    pub identity: Box<str>,
    /// The client identifier that the token is for, if the configuration asks for one.
    pub client_id: Option<Box<str>>,
    /// The time at which the token expires, in seconds since 1970.
    pub expires_s: u64,
    /// The token's grants, if it has any.
    pub grants: Option<Arc<Grants>>,
}

/// Checks the claims. `now_s`: seconds since 1970.
pub(super) fn check(claims: &Map<String, Value>, settings: &Settings, now_s: u64) -> Result<Bearer, Fault> {
    let leeway_s = settings.leeway.as_secs();
    let expires_s = time(claims, "exp")?.ok_or(Fault::NoExpiry)?.saturating_add(leeway_s);
    if expires_s <= now_s {
        return Err(Fault::Expired);
    }
    if time(claims, "nbf")?.is_some_and(|from_s| from_s > now_s.saturating_add(leeway_s)) {
        return Err(Fault::NotYet);
    }
    let is_issuer = |issuer: &str| claims.get("iss").and_then(Value::as_str) == Some(issuer);
    if !settings.issuer.as_deref().is_none_or(is_issuer) {
        return Err(Fault::Issuer);
    }
    if !settings.audience.is_empty() && !settings.audience.iter().any(|audience| is_for(claims, audience)) {
        return Err(Fault::Audience);
    }
    let identity = text(claims, &settings.identity_claim).filter(|name| is_identity(name)).ok_or(Fault::Identity)?;
    let client_id = match &settings.client_id_claim {
        None => None,
        Some(claim) => Some(text(claims, claim).filter(|id| !id.is_empty()).ok_or(Fault::ClientId)?.into()),
    };
    let acl = claims.get(&settings.acl_claim);
    let mut grants = acl.map(|acl| Grants::read(acl).ok_or(Fault::Acl)).transpose()?;
    if let Some(claim) = &settings.roles_claim {
        // Without the claim the bearer has no roles, and only roles grant.
        let roles = claims.get(claim).map_or_else(|| Some(Vec::new()), roles).ok_or(Fault::Roles)?;
        grants = Some(grants.unwrap_or_default().with_roles(roles));
    }
    Ok(Bearer { identity: identity.into(), client_id, expires_s, grants: grants.map(Arc::new) })
}

/// The role names in a claim, a list or a text with spaces between them as in `scope` (RFC 8693, 4.2); `None`: it is not understood.
fn roles(claim: &Value) -> Option<Vec<Box<str>>> {
    match claim {
        Value::String(text) => {
            let roles: Vec<Box<str>> = text.split(' ').filter(|role| !role.is_empty()).map(Into::into).collect();
            (roles.len() <= ROLES_MAX).then_some(roles)
        }
        Value::Array(all) if all.len() <= ROLES_MAX => all.iter().map(|one| Some(one.as_str()?.into())).collect(),
        _ => None,
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// `aud` is a string, or a list of them (RFC 7519, 4.1.3).
fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// A NumericDate: seconds, maybe with a fraction.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| {
        let fraction = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
        // The cast saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(fraction as u64)
    });
    seconds.map(Some).ok_or(Fault::Claims)
}

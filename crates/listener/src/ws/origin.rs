//! Web pages that may connect. Only browsers send an origin, so a request without one passes.

use std::net::IpAddr;

/// Splits an origin into scheme, host and port, or a `Host` field into host and port.
fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    (!scheme.is_empty() && !rest.is_empty()).then_some((scheme, rest))
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let is_host = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    (is_port && is_host && !host.is_empty()).then_some(host)
}

/// Whether a page of this origin may connect. Without a list: pages of the host that they connect to, if that is an address or
/// `localhost`. Other names do not count, as their owner can point them here (DNS rebinding).
pub(super) fn is_allowed(origin: &str, of_request: Option<&str>, list: &[String]) -> bool {
    let Some((_, authority)) = split(origin) else { return false };
    if !list.is_empty() {
        return list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
    }
    let (Some(page), Some(here)) = (host(authority), of_request.and_then(host)) else { return false };
    let is_fixed = here.eq_ignore_ascii_case("localhost") || here.parse::<IpAddr>().is_ok();
    is_fixed && page.eq_ignore_ascii_case(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X20.
    #[test]
    fn which_pages_may_connect() {
        let list = ["https://app.example".to_owned(), "http://10.0.0.1:3000".to_owned()];
        for (origin, here, list, expected) in [
            ("http://localhost:3000", Some("localhost:8083"), &[][..], true),
            ("http://10.0.0.1", Some("10.0.0.1:8083"), &[], true),
            ("https://[::1]:9", Some("[::1]:8083"), &[], true),
            ("http://evil.example", Some("10.0.0.1:8083"), &[], false),
            // DNS rebinding: the page's own name resolves to this host.
            ("http://evil.example:8083", Some("evil.example:8083"), &[], false),
            ("http://localhost", None, &[], false),
            ("null", Some("localhost"), &[], false),
            ("", Some("localhost"), &[], false),
            ("http://", Some("localhost"), &[], false),
            ("http://localhost:x", Some("localhost"), &[], false),
            ("http://localhost@evil.example", Some("localhost"), &[], false),
            ("https://app.example", Some("x"), &list, true),
            ("HTTPS://APP.example", Some("x"), &list, true),
            ("https://app.example:8443", Some("x"), &list, false),
            ("http://app.example", Some("x"), &list, false),
            ("https://app.example.evil", Some("x"), &list, false),
            ("http://10.0.0.1:3000", None, &list, true),
            ("http://localhost", Some("localhost"), &list, false),
            ("null", Some("x"), &list, false),
        ] {
            assert_eq!(is_allowed(origin, here, list), expected, "{origin} to {here:?}");
        }
    }
}

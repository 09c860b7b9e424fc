//! `[auth.NAME]`: the clients that may connect to the listeners that name it, and the topics that they may use.

use std::net::SocketAddr;
use std::path::Path;

use super::keys::Section;
use super::problem::Fault;
use super::reader::Table;
use super::resolve::Document;
use super::setting::{Setting as _, Settings as _, Words as _};
use super::{Listener, jwt, values};
use forebay_guard::auth::acl::check_filter;
use forebay_guard::auth::{DECOY_KEY_FILE, Limits, Method, Role, Settings};
use forebay_guard::secure;
use forebay_runtime::Bind;

/// The settings of all auths, in the order of the file.
pub(super) fn resolve(document: &Document<'_>, data_dir: &Path) -> Vec<Settings> {
    let tables = document.named_tables(Section::Auth, values::check_name);
    document.bound(Section::Auth, &tables);
    tables.iter().map(|table| one(table, data_dir)).collect()
}

/// The NAME in the header of a table.
fn name_of<'t>(table: &'t Table<'_>) -> &'t str {
    table.spot.path.strip_prefix("auth.").unwrap_or_default()
}

fn one(table: &Table<'_>, data_dir: &Path) -> Settings {
    let mut settings = Settings::read(table);
    let mut chain = Vec::new();
    for (name, spot) in table.texts("chain") {
        match Method::WORDS.iter().find(|(known, _)| *known == name) {
            Some((_, method)) if chain.contains(method) => {
                table.source.report(&spot, Fault::new(format!("\"{name}\" is in it twice")));
            }
            Some((_, method)) => chain.push(*method),
            None => {
                let fault = Fault::new(format!("\"{name}\" is not a method"))
                    .hint("methods are \"certificate\", \"jwt\", \"scram\", \"password\" and \"anonymous\"");
                table.source.report(&spot, fault);
            }
        }
    }
    let of_file = |method: &Method| matches!(method, Method::Password | Method::Scram);
    match (chain.iter().find(|method| of_file(method)), &settings.password_file) {
        (Some(method), None) if !table.has("password_file") => {
            let name = Method::WORDS.iter().find(|(_, of)| of == method).map_or("", |(name, _)| *name);
            let fault = Fault::new(format!("has \"{name}\", and there is no password_file"));
            table.source.report(&table.spot("chain"), fault.hint("`forebay passwd FILE USER` writes one"));
        }
        (None, Some(_)) => {
            let fault = Fault::new("has no effect: chain has neither \"password\" nor \"scram\"");
            table.source.report(&table.spot("password_file"), fault.hint("add it to chain, or remove password_file"));
        }
        _ => {}
    }
    let jwt = jwt::resolve(table, name_of(table), data_dir);
    match (chain.contains(&Method::Jwt), table.has("jwt")) {
        (true, false) => {
            let fault = Fault::new("has \"jwt\", and there is no [auth.NAME.jwt]");
            table.source.report(&table.spot("chain"), fault.hint("write it, with jwks_file or secret_file"));
        }
        (false, true) => {
            let fault = Fault::new("has no effect: chain does not have \"jwt\"");
            table.source.report(&table.spot("jwt"), fault.hint("add it to chain, or remove [auth.NAME.jwt]"));
        }
        _ => {}
    }
    settings.name = name_of(table).to_owned();
    settings.chain = chain;
    settings.decoy_key = Some(data_dir.join(DECOY_KEY_FILE));
    settings.roles = roles(table, jwt.as_ref());
    settings.jwt = jwt;
    settings.limits = table.part(Section::AuthLimits).map(|table| limits(&table)).unwrap_or_default();
    settings
}

/// The roles of an auth: `[auth.NAME.role.ROLE]`.
fn roles(table: &Table<'_>, jwt: Option<&forebay_guard::auth::jwt::Settings>) -> Vec<Role> {
    let parts = table.named_parts(Section::AuthRole);
    let has_claim = jwt.is_some_and(|jwt| jwt.roles_claim.is_some());
    if has_claim && parts.is_empty() {
        let fault = Fault::new("roles_claim grants nothing: there is no role");
        table.source.warn(&table.spot("jwt"), fault.hint("write [auth.NAME.role.ROLE]"));
    }
    let filters = |table: &Table<'_>, name| {
        let all = if table.has(name) { table.texts(name) } else { Vec::new() };
        for (filter, spot) in &all {
            if let Err(why) = check_filter(filter) {
                table.source.report(spot, Fault::new(why));
            }
        }
        all.into_iter().map(|(filter, _)| filter).collect()
    };
    let one = |(name, table): (&str, Table<'_>)| {
        if !is_role(name) {
            let fault = Fault::new(format!("\"{name}\" is not a valid name of a role"));
            let hint = "use at most 100 characters of a scope (RFC 6749): printable ASCII without space, `\"` and `\\`";
            table.source.report(&table.spot, fault.hint(hint));
        }
        if !has_claim {
            let fault = Fault::new("no client can have it: tokens have no claim that names roles");
            table.source.warn(&table.spot, fault.hint("set roles_claim in [auth.NAME.jwt]"));
        }
        let [publish, subscribe, replay] = ["publish", "subscribe", "replay"].map(|key| filters(&table, key));
        Role { name: name.to_owned(), publish, subscribe, replay }
    };
    parts.into_iter().map(one).collect()
}

/// Whether a text can be a role: identity providers name them as scopes, as in `mqtt:publish`.
fn is_role(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (1..=100).contains(&name.len()) && name.bytes().all(is_legal)
}

fn limits(table: &Table<'_>) -> Limits {
    let read = Limits::read(table);
    Limits { connects_s: table.find("connects_s", u32::of).unwrap_or(read.messages_s), ..read }
}

/// The `auth` of a listener, which has to be one of `all`. Beyond loopback a listener has an `auth`, asks for certificates, or is
/// configured as open.
pub(super) fn of_listener(
    table: &Table<'_>,
    bind: Option<&Bind>,
    tls: Option<&secure::Settings>,
    all: &[Settings],
) -> (Option<String>, bool) {
    let (name, is_open) = (table.find("auth", values::non_empty), table.read("open", values::flag));
    if let Some(name) = name.as_deref().filter(|name| !all.iter().any(|auth| auth.name == *name)) {
        let names: Vec<_> = all.iter().map(|auth| auth.name.as_str()).collect();
        let hint = match names[..] {
            [] => format!("write [auth.{name}] with chain = [\"password\"] and password_file"),
            _ => format!("the file has {}", names.join(", ")),
        };
        table.source.report(&table.spot("auth"), Fault::new(format!("there is no [auth.{name}]")).hint(hint));
    }
    let of_listener = all.iter().find(|auth| Some(&auth.name) == name.as_ref());
    let asks = tls.is_some_and(|tls| tls.clients.is_some());
    if of_listener.is_some_and(|auth| auth.chain.contains(&Method::Certificate)) && !asks {
        let fault = Fault::new("its chain has \"certificate\", and this listener asks for none");
        table
            .source
            .report(&table.spot("auth"), fault.hint("set transport = \"tls\" and client_ca_file in [listener.tls]"));
    }
    if name.is_some() && is_open {
        let fault =
            Fault::new("and auth exclude each other").hint("chain = [\"password\", \"anonymous\"] accepts both");
        table.source.report(&table.spot("open"), fault);
    }
    let is_certified = tls.and_then(|tls| tls.clients.as_ref()).is_some_and(|clients| clients.is_required);
    let is_decided = table.has("auth") || is_open || is_certified;
    if let Some(bind) = bind.filter(|bind| !bind.is_local()).and_then(Bind::tcp) {
        if !is_decided {
            table.source.report(&table.spot("bind"), reachable(bind));
        } else if is_open {
            let what = format!("everyone who can reach {bind} may connect and publish");
            table.source.warn(&table.spot("open"), Fault::new(what).hint("auth = \"NAME\" asks for passwords"));
        }
    }
    (name, is_open)
}

/// Whether no client is admitted without a password or a token, which a browser does not add by itself.
pub(super) fn requires_password(name: Option<&str>, all: &[Settings]) -> bool {
    let asks = |method: &Method| matches!(method, Method::Jwt | Method::Password | Method::Scram);
    let of_listener = all.iter().find(|auth| Some(auth.name.as_str()) == name);
    of_listener.is_some_and(|auth| !auth.chain.is_empty() && auth.chain.iter().all(asks))
}

/// The problem of a listener that is open to everyone on the network without a key that allows it.
pub(super) fn reachable(bind: SocketAddr) -> Fault {
    let what = format!("{bind} can be reached from other machines, and anyone there could publish");
    Fault::new(what).hint("auth = \"NAME\" asks for passwords, see [auth.NAME]; open = true (--open) accepts everyone")
}

/// Warns of auths that no listener uses.
pub(super) fn warn_of_unused(document: &Document<'_>, all: &[Settings], listeners: &[Listener]) {
    for auth in all {
        if !listeners.iter().any(|listener| listener.auth.as_deref() == Some(auth.name.as_str())) {
            let fault =
                Fault::new("no listener uses it").hint(format!("set auth = \"{}\" in a [[listener]]", auth.name));
            document.source.warn(&document.spot_of(Section::Auth, &auth.name), fault);
        }
    }
}

//! Files that changes and trials by the API may name: those that the configuration names for the same purpose, and those below
//! `control.file_dirs`. A client that may change the configuration by the API may not read any other file that the service can
//! read, or learn whether it exists. The check precedes opening a file.
//!
//! The API also takes a whole text. The sections that grant access to the configuration stay as they are then.

use std::path::{Component, Path};

use serde_json::{Map, Value};

use super::Text;
use super::edit::{Edit, Part, To};
use super::kafka_names::plain;
use super::keys::Section;
use super::resolved::{Cluster, Config};
use crate::runtime::Bind;
use crate::secure::sasl::TokenFrom;
use crate::secure::{self, Authorities, OwnCertificate};

/// The purpose of a file. A file that is named as a password file is not allowed as a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Authorities,
    Certificate,
    Key,
    Revoked,
    Password,
    Token,
    ClientSecret,
    DeadLetters,
    Socket,
    Directory,
    Components,
}

/// Ends of the names of keys that take files: our own, then those of Kafka's clients as [`plain`] has them.
const KEYS: [(&str, Purpose); 13] = [
    ("ca_file", Purpose::Authorities),
    ("cert_file", Purpose::Certificate),
    ("key_file", Purpose::Key),
    ("crl_file", Purpose::Revoked),
    ("password_file", Purpose::Password),
    ("client_secret_file", Purpose::ClientSecret),
    ("token_file", Purpose::Token),
    ("dead_letters_file", Purpose::DeadLetters),
    ("truststore_location", Purpose::Authorities),
    ("ca_location", Purpose::Authorities),
    ("keystore_location", Purpose::Key),
    ("certificate_location", Purpose::Certificate),
    ("key_location", Purpose::Key),
];
/// The table of certificates by their keys in `[listener.tls]`.
const CERTIFICATES: &str = "tls_certificates";
/// Tables with names of a user's own.
const OTHERS_NAMES: [&str; 3] = ["headers", "metadata", "sasl_extensions"];
/// The value that means no file.
const NO_FILE: &str = "none";

/// The allowed files, for messages.
const ALLOWED: &str = "the API may name a file if the configuration names it for the same purpose, or if it is below a directory of \
                       control.file_dirs";

/// A file and its purpose.
type Named = (Purpose, String);

/// The files that an edit names and may not, a line each; empty: all is well. `running`: the configuration in force.
pub(crate) fn not_allowed(edit: &Edit, running: &Config) -> Vec<String> {
    let mut named = Vec::new();
    if let (Part::Listener, Some(path)) = (edit.part, edit.name.strip_prefix(crate::runtime::UNIX)) {
        named.push((Purpose::Socket, path.to_owned()));
    }
    if let To::Entry(keys) | To::Keys(keys) = &edit.to {
        collect(keys, "", &mut named);
    }
    let known = known(running);
    named.retain(|file| !known.contains(file) && !is_below(&file.1, running));
    let line = |(_, path): Named| format!("{} {}: {path:?}: {ALLOWED}", edit.part, edit.name);
    named.into_iter().map(line).collect()
}

/// Sections that are changed on the machine only: a stolen token must not be able to keep itself.
const OF_MACHINE: [Section; 3] = [Section::Control, Section::Auth, Section::Service];

/// A section that differs between two texts and is changed on the machine only. `None`: there is none, or a text is not TOML.
pub(crate) fn of_machine(now: &Text, wanted: &Text) -> Option<&'static str> {
    let (now, wanted) = (tables(now)?, tables(wanted)?);
    OF_MACHINE.into_iter().map(Section::name).find(|name| now.get(*name) != wanted.get(*name))
}

/// The files that a text names and may not, each with its line; a file that `now`, the content of the configuration file, names is
/// allowed. A text that is not TOML names none.
pub(crate) fn not_allowed_in(now: &Text, wanted: &Text, running: &Config) -> Vec<(usize, String)> {
    let allowed: Vec<Named> = named_in(now).into_iter().chain(known(running)).collect();
    let mut named = named_in(wanted);
    named.retain(|file| !allowed.contains(file) && !is_below(&file.1, running));
    let line = |(_, path): Named| {
        let place = wanted.text.lines().position(|line| line.contains(&path)).map_or(0, |place| place + 1);
        (place, format!("{path:?}: {ALLOWED}"))
    };
    named.into_iter().map(line).collect()
}

fn tables(text: &Text) -> Option<Map<String, Value>> {
    toml::from_str(&text.text).ok()
}

/// The files that the text of a configuration names, `[control]`, `[auth.NAME]` and `[service]` aside.
fn named_in(text: &Text) -> Vec<Named> {
    let mut named = Vec::new();
    for (section, value) in tables(text).unwrap_or_default() {
        let is_one = |one: Section| section == one.name();
        if OF_MACHINE.into_iter().any(is_one) {
            continue;
        }
        let tables: Vec<&Map<String, Value>> = match &value {
            Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
            Value::Object(named) if is_one(Section::Kafka) || is_one(Section::Bridge) => {
                named.values().filter_map(Value::as_object).collect()
            }
            Value::Object(table) => vec![table],
            _ => continue,
        };
        for table in tables {
            let text = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
            let bind = text("bind").and_then(|bind| bind.strip_prefix(crate::runtime::UNIX).map(str::to_owned));
            named.extend(bind.map(|path| (Purpose::Socket, path)));
            if is_one(Section::Embedded) || is_one(Section::Dapr) {
                let directories = ["dir", "secrets_dir", "sockets"].into_iter().filter_map(text);
                named.extend(directories.map(|path| (Purpose::Directory, path)));
                named.extend(text("components").map(|path| (Purpose::Components, path)));
            }
            collect(table, "", &mut named);
        }
    }
    named
}

/// A cluster that would get a password or token without encryption, and does not get it now; in words. `wanted`: the new
/// configuration.
pub(crate) fn exposes_a_login(running: &Config, wanted: &Config) -> Option<String> {
    let is_insecure = |cluster: &&Cluster| cluster.sasl.as_ref().is_some_and(|sasl| sasl.insecure);
    let mut exposed = wanted.clusters.iter().filter(is_insecure).filter(|cluster| {
        let known = running.clusters.iter().filter(is_insecure).find(|known| known.name == cluster.name);
        known.is_none_or(|known| known.bootstrap != cluster.bootstrap)
    });
    exposed.next().map(|cluster| {
        format!(
            "kafka {}: `insecure` sends its password or token without encryption: only the configuration file can allow that, \
             and for the brokers that it names",
            cluster.name
        )
    })
}

/// The files that keys name. `prefix`: the names of the tables that they are in.
fn collect(keys: &Map<String, Value>, prefix: &str, named: &mut Vec<Named>) {
    for (key, value) in keys {
        let whole = format!("{prefix}{}", plain(key));
        match value {
            Value::Object(pairs) if whole == CERTIFICATES => {
                for (certificate, key) in pairs {
                    named.push((Purpose::Certificate, certificate.clone()));
                    named.extend(key.as_str().map(|key| (Purpose::Key, key.to_owned())));
                }
            }
            Value::Object(inner) if !OTHERS_NAMES.contains(&whole.as_str()) => {
                collect(inner, &format!("{whole}_"), named);
            }
            Value::String(path) if path != NO_FILE => {
                let purpose = KEYS.iter().find(|(end, _)| whole.ends_with(end)).map(|(_, purpose)| *purpose);
                named.extend(purpose.map(|purpose| (purpose, path.clone())));
            }
            _ => {}
        }
    }
}

/// The files of a configuration.
fn known(config: &Config) -> Vec<Named> {
    let mut known = Vec::new();
    let mut add = |purpose, path: &Path| known.push((purpose, path.display().to_string()));
    for listener in &config.listeners {
        if let Bind::Unix(path) = &listener.bind {
            add(Purpose::Socket, path);
        }
        listener.tls.iter().for_each(|tls| of_tls(tls, &mut add));
    }
    config.control.tls.iter().for_each(|tls| of_tls(tls, &mut add));
    for tls in config.clusters.iter().map(|of| &of.tls).chain(config.bridges.iter().map(|of| &of.tls)).flatten() {
        if let Authorities::File(file) = &tls.ca {
            add(Purpose::Authorities, file);
        }
        if let Some(pair) = tls.identity.as_ref().and_then(OwnCertificate::files) {
            add(Purpose::Certificate, &pair.certificate);
            add(Purpose::Key, &pair.key);
        }
    }
    config.bridges.iter().filter_map(|of| of.password_file.as_ref()).for_each(|file| add(Purpose::Password, file));
    for cluster in &config.clusters {
        let Some(sasl) = &cluster.sasl else { continue };
        sasl.password_file.iter().for_each(|file| add(Purpose::Password, file));
        match &sasl.credentials.token {
            None => {}
            Some(TokenFrom::File(file)) => add(Purpose::Token, Path::new(file)),
            Some(TokenFrom::Endpoint(endpoint)) => {
                add(Purpose::ClientSecret, &endpoint.secret_file);
                endpoint.ca_file.iter().for_each(|file| add(Purpose::Authorities, file));
            }
        }
    }
    config.dead_letter_files().for_each(|file| add(Purpose::DeadLetters, &file.path));
    known
}

fn of_tls(tls: &secure::Settings, add: &mut impl FnMut(Purpose, &Path)) {
    for pair in &tls.certificates {
        add(Purpose::Certificate, &pair.certificate);
        add(Purpose::Key, &pair.key);
    }
    if let Some(clients) = &tls.clients {
        add(Purpose::Authorities, &clients.ca);
        clients.crl.iter().for_each(|file| add(Purpose::Revoked, file));
    }
}

/// Whether a path is below a directory of `control.file_dirs`, and does not leave it by `..`.
fn is_below(path: &str, config: &Config) -> bool {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    is_plain && config.control.file_dirs.iter().any(|dir| path.starts_with(dir) && path != dir)
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    /// Finding S2: a property of Kafka's Java client may not name a file either.
    #[test]
    fn finding_s2_files_of_other_properties_are_known() {
        let Value::Object(keys) =
            serde_json::json!({ "other_properties": { "ssl.truststore.location": "/etc/shadow" } })
        else {
            unreachable!("it is an object")
        };
        let mut named = Vec::new();
        collect(&keys, "", &mut named);
        assert_eq!(named, [(Purpose::Authorities, "/etc/shadow".to_owned())]);
    }

    /// Finding S2: a whole text may not name other files either, in any form of its tables.
    #[test]
    fn finding_s2_a_text_names_no_other_files() {
        let text = |text: &str| Text { name: "test".to_owned(), text: text.to_owned() };
        let running = super::super::parse("[control]\nfile_dirs = \"/etc/forebay\"\n", "test").expect("good");
        let now = text("[kafka.a.tls]\nca_file = \"/ca.pem\"\n[auth.x]\npassword_file = \"/users\"\n");
        for allowed in [
            "[kafka.b.tls]\nca_file = \"/ca.pem\"",
            "[kafka]\nb = { tls = { ca_file = \"/etc/forebay/b.pem\" } }",
            "not = = toml",
            "[[sink]]\nheaders = { ca_file = \"/x\" }",
        ] {
            assert_eq!(not_allowed_in(&now, &text(allowed), &running), [], "{allowed}");
        }
        for (refused, line) in [
            ("[kafka.b.tls]\n\nca_file = \"/etc/shadow\"", 3),
            ("[kafka.b.tls]\nca_file = \"/etc/forebay/../shadow\"", 2),
            ("[kafka.b.sasl]\npassword_file = \"/ca.pem\"", 2),
            ("[kafka.b.sasl]\npassword_file = \"/users\"", 2),
            ("kafka = { b = { tls = { ca_file = \"/etc/shadow\" } } }", 1),
            ("sink = [{ dead_letters_file = \"/etc/cron.d/x\" }]", 1),
            ("[[listener]]\nbind = \"unix:/run/docker.sock\"", 2),
            ("[[listener]]\ntls.certificates = { \"/a\" = \"/b\" }", 2),
            ("[bridge.x]\npassword_file = \"/etc/shadow\"", 2),
            ("[embedded]\ndir = \"/etc\"", 2),
            ("[dapr]\ncomponents = \"/etc\"", 2),
            ("[dapr]\nsecrets_dir = \"/etc\"", 2),
            ("[dapr]\napi_token_file = \"/etc/shadow\"", 2),
            ("[telemetry]\nca_file = \"/etc/shadow\"", 2),
        ] {
            let found = not_allowed_in(&now, &text(refused), &running);
            assert!(found.first().is_some_and(|(at, _)| *at == line), "{refused}: {found:?}");
        }
    }

    /// W7: these sections are compared by their meaning, not by their text.
    #[test]
    fn sections_of_the_machine_stay_as_they_are() {
        let text = |text: &str| Text { name: "test".to_owned(), text: text.to_owned() };
        let now = text("[control]\nbind = \"off\"\n[auth.a]\nacl_file = \"/a\"\n[log]\nlevel = \"info\"\n");
        let differs = |wanted: &str| of_machine(&now, &text(wanted));
        assert_eq!(differs("auth = { a = { acl_file = '/a' } } # the same\ncontrol.bind = 'off'\n"), None);
        assert_eq!(differs("[auth.a]\nacl_file = \"/a\""), Some("control"));
        assert_eq!(differs("auth.a.acl_file = '/b'\ncontrol.bind = 'off'"), Some("auth"));
        assert_eq!(differs("auth.a.acl_file = '/a'\nservice.shards = 2\ncontrol.bind = 'off'"), Some("service"));
    }

    /// Finding S2: a key that names a file and is not listed here could name any.
    #[test]
    fn finding_s2_every_key_that_names_a_file_is_known() {
        let parts = ["listener", "kafka", "sink", "bridge"];
        let of_parts = keys::all().filter(|key| parts.contains(&key.section.root().name()));
        let mut count = 0;
        for key in of_parts.filter(|key| key.name.ends_with("_file") || key.name.contains("_file_")) {
            // This key is a size, not a file.
            if key.name == "dead_letters_file_bytes_max" {
                continue;
            }
            assert!(KEYS.iter().any(|(end, _)| key.name.ends_with(end)), "{}", key.name);
            count += 1;
        }
        assert!(count >= 15, "{count}");
        for name in super::super::java::NAMES.iter().filter(|name| name.ends_with("_location")) {
            assert!(KEYS.iter().any(|(end, _)| name.ends_with(end)), "{name}");
        }
    }
}

//! Files that changes and trials by the API may name: those that the configuration names for the same purpose, and those below
//! `control.file_dirs` that it does not name. A file with a secret (password, token, key of a client's certificate) may only be named
//! for the part that has it. A client that may change the configuration by the API may not read any other file that the service can
//! read, or learn whether it exists. The check precedes opening a file. Where the secrets may be sent: [`super::logins`].
//!
//! The API also takes a whole text. The sections that grant access to the configuration stay as they are then.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::Text;
use super::edit::{Edit, Part, To};
use super::kafka_names::plain;
use super::keys::Section;
use super::logins::Logins;
use super::resolved::{ApiAccess, Config};
use forebay_guard::secure::sasl::TokenFrom;
use forebay_guard::secure::{self, Authorities, OwnCertificate};
use forebay_runtime::Bind;

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
    /// A file that grants access to the service: the API names none of them.
    Access,
}

impl Purpose {
    /// Whether the file is sent to a server, or logs in there.
    fn is_login(self) -> bool {
        matches!(self, Self::Password | Self::Token | Self::ClientSecret | Self::Key)
    }

    /// Whether everybody may know what is in the file.
    fn is_public(self) -> bool {
        matches!(self, Self::Authorities | Self::Certificate | Self::Revoked)
    }
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
const ALLOWED: &str = "the API may name a file if the configuration names it for the same purpose (a password, token or key: for the same \
                       part), or if it is below a directory of control.file_dirs, and the configuration does not name it for something else";

/// A file, its purpose and the part that names it. Keys of listeners belong to all of them: they are sent to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    purpose: Purpose,
    part: String,
    path: PathBuf,
}

impl File {
    /// Whether who may name `other` may name `self`.
    fn is_like(&self, other: &Self) -> bool {
        self.purpose == other.purpose
            && self.path == other.path
            && (!self.purpose.is_login() || self.part == other.part)
    }
}

/// The files and logins that the machine's configurations have named since the start of the process. A part that the API has removed
/// keeps its secrets.
#[derive(Clone, Debug, Default)]
pub struct Named {
    files: Vec<File>,
    logins: Logins,
}

impl Named {
    /// Adds what a configuration of the machine names.
    pub fn add(&mut self, config: &Config) {
        let files = known(config).into_iter().chain(of_access(config));
        for file in files {
            if !self.files.contains(&file) {
                self.files.push(file);
            }
        }
        self.logins.add(config);
    }

    /// A login that a configuration made by the API would send elsewhere or with less protection than now, in words.
    pub fn exposed(&self, running: &Config, wanted: &Config) -> Option<String> {
        // Any part may have a password that none has.
        let is_free = |path: &Path| {
            let file = File { purpose: Purpose::Password, part: String::new(), path: absolute(path) };
            self.is_free(&file, wanted)
        };
        self.logins.exposed(running, wanted, is_free)
    }

    /// Whether a file is below a directory of `control.file_dirs`, and nothing else has it.
    fn is_free(&self, file: &File, running: &Config) -> bool {
        // Of the files beside the directories of `data_dir` some grant access.
        let is_of_service = || file.path.parent() == Some(&absolute(&running.service.data_dir));
        if !is_below(&file.path, running) || file.purpose.is_login() && is_of_service() {
            return false;
        }
        let may_share = |known: &File| {
            file.is_like(known)
                || file.purpose.is_public() && known.purpose.is_public()
                || !is_same(&known.path, &file.path)
        };
        self.files.iter().all(may_share)
    }
}

/// The files that an edit names and may not, a line each; empty: all is well. `running`: the configuration in force. `of_machine`: what
/// the machine's configurations have named.
pub fn not_allowed(edit: &Edit, running: &Config, of_machine: &Named) -> Vec<String> {
    let mut named = Vec::new();
    if let (Part::Listener, Some(path)) = (edit.part, edit.name.strip_prefix(forebay_runtime::UNIX)) {
        named.push((Purpose::Socket, path.to_owned()));
    }
    if let To::Entry(keys) | To::Keys(keys) = &edit.to {
        collect(keys, "", &mut named);
    }
    let part = if edit.part.is_table() { format!("{} {}", edit.part, edit.name) } else { edit.part.to_string() };
    let known = known(running);
    let is_refused = |(purpose, path): &(Purpose, String)| {
        let file = File { purpose: *purpose, part: part.clone(), path: absolute(Path::new(path)) };
        !known.iter().any(|known| file.is_like(known)) && !of_machine.is_free(&file, running)
    };
    let line = |(_, path): (Purpose, String)| format!("{} {}: {path:?}: {ALLOWED}", edit.part, edit.name);
    named.into_iter().filter(is_refused).map(line).collect()
}

/// Sections that are changed on the machine only: a stolen token must not be able to keep itself.
const OF_MACHINE: [Section; 3] = [Section::Control, Section::Auth, Section::Service];

/// A section that differs between two texts and is changed on the machine only. `None`: there is none, or a text is not TOML.
pub fn of_machine(now: &Text, wanted: &Text) -> Option<&'static str> {
    let (now, wanted) = (tables(now)?, tables(wanted)?);
    OF_MACHINE.into_iter().map(Section::name).find(|name| now.get(*name) != wanted.get(*name))
}

/// The files that a text names and may not, each with its line; a file that `now`, the content of the configuration file, names is
/// allowed. A text that is not TOML names none.
pub fn not_allowed_in(now: &Text, wanted: &Text, running: &Config, of_machine: &Named) -> Vec<(usize, String)> {
    let allowed: Vec<File> = named_in(now).into_iter().map(|(file, _)| file).chain(known(running)).collect();
    let mut of_machine = of_machine.clone();
    of_machine.files.extend(allowed.iter().cloned());
    let is_allowed = |file: &File| allowed.iter().any(|known| file.is_like(known)) || of_machine.is_free(file, running);
    let line = |(_, path): (File, String)| {
        let place = wanted.text.lines().position(|line| line.contains(&path)).map_or(0, |place| place + 1);
        (place, format!("{path:?}: {ALLOWED}"))
    };
    named_in(wanted).into_iter().filter(|(file, _)| !is_allowed(file)).map(line).collect()
}

fn tables(text: &Text) -> Option<Map<String, Value>> {
    toml::from_str(&text.text).ok()
}

/// The files that the text of a configuration names, `[control]`, `[auth.NAME]` and `[service]` aside; each with its path as written.
fn named_in(text: &Text) -> Vec<(File, String)> {
    let mut all = Vec::new();
    for (section, value) in tables(text).unwrap_or_default() {
        let is_one = |one: Section| section == one.name();
        if OF_MACHINE.into_iter().any(is_one) {
            continue;
        }
        let tables: Vec<(String, &Map<String, Value>)> = match &value {
            Value::Array(items) => items.iter().filter_map(|item| Some((section.clone(), item.as_object()?))).collect(),
            Value::Object(named) if is_one(Section::Kafka) || is_one(Section::Bridge) => {
                named.iter().filter_map(|(name, of)| Some((format!("{section} {name}"), of.as_object()?))).collect()
            }
            Value::Object(table) => vec![(section.clone(), table)],
            _ => continue,
        };
        for (part, table) in tables {
            let mut named = Vec::new();
            let text = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
            let bind = text("bind").and_then(|bind| bind.strip_prefix(forebay_runtime::UNIX).map(str::to_owned));
            named.extend(bind.map(|path| (Purpose::Socket, path)));
            if is_one(Section::Embedded) || is_one(Section::Dapr) {
                let directories = ["dir", "secrets_dir", "sockets"].into_iter().filter_map(text);
                named.extend(directories.map(|path| (Purpose::Directory, path)));
                named.extend(text("components").map(|path| (Purpose::Components, path)));
            }
            collect(table, "", &mut named);
            let file = |(purpose, path): (Purpose, String)| {
                (File { purpose, part: part.clone(), path: absolute(Path::new(&path)) }, path)
            };
            all.extend(named.into_iter().map(file));
        }
    }
    all
}

/// The files that keys name. `prefix`: the names of the tables that they are in.
fn collect(keys: &Map<String, Value>, prefix: &str, named: &mut Vec<(Purpose, String)>) {
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
fn known(config: &Config) -> Vec<File> {
    let mut known = Vec::new();
    let mut add = |part: &str, purpose, path: &Path| {
        known.push(File { purpose, part: part.to_owned(), path: absolute(path) });
    };
    for listener in &config.listeners {
        if let Bind::Unix(path) = &listener.bind {
            add(LISTENER, Purpose::Socket, path);
        }
        listener.tls.iter().for_each(|tls| of_tls(tls, &mut add));
    }
    config.control.tls.iter().for_each(|tls| of_tls(tls, &mut add));
    let clusters = config.clusters.iter().map(|of| (format!("{} {}", Part::Cluster, of.name), &of.tls));
    let bridges = config.bridges.iter().map(|of| (format!("{} {}", Part::Bridge, of.name), &of.tls));
    for (part, tls) in clusters.chain(bridges) {
        let Some(tls) = tls else { continue };
        if let Authorities::File(file) = &tls.ca {
            add(&part, Purpose::Authorities, file);
        }
        if let Some(pair) = tls.identity.as_ref().and_then(OwnCertificate::files) {
            add(&part, Purpose::Certificate, &pair.certificate);
            add(&part, Purpose::Key, &pair.key);
        }
    }
    for bridge in &config.bridges {
        let part = format!("{} {}", Part::Bridge, bridge.name);
        bridge.password_file.iter().for_each(|file| add(&part, Purpose::Password, file));
    }
    for cluster in &config.clusters {
        let Some(sasl) = &cluster.sasl else { continue };
        let part = format!("{} {}", Part::Cluster, cluster.name);
        sasl.password_file.iter().for_each(|file| add(&part, Purpose::Password, file));
        match &sasl.credentials.token {
            None => {}
            Some(TokenFrom::File(file)) => add(&part, Purpose::Token, file),
            Some(TokenFrom::Endpoint(endpoint)) => {
                add(&part, Purpose::ClientSecret, &endpoint.secret_file);
                endpoint.ca_file.iter().for_each(|file| add(&part, Purpose::Authorities, file));
            }
        }
    }
    config.dead_letter_files().for_each(|file| add("", Purpose::DeadLetters, &file.path));
    known
}

/// The part of keys of listeners, and of the control port.
const LISTENER: &str = "listener";

fn of_tls(tls: &secure::Settings, add: &mut impl FnMut(&str, Purpose, &Path)) {
    for pair in &tls.certificates {
        add(LISTENER, Purpose::Certificate, &pair.certificate);
        add(LISTENER, Purpose::Key, &pair.key);
    }
    if let Some(clients) = &tls.clients {
        add(LISTENER, Purpose::Authorities, &clients.ca);
        clients.crl.iter().for_each(|file| add(LISTENER, Purpose::Revoked, file));
    }
}

/// The files of a configuration that the API names under no purpose.
fn of_access(config: &Config) -> Vec<File> {
    let mut paths: Vec<&Path> = Vec::new();
    for auth in &config.auth {
        paths.extend(auth.password_file.as_deref());
        paths.extend(auth.acl_file.as_deref());
        paths.extend(auth.jwt.as_ref().map(|jwt| jwt.keys.file()));
    }
    if let ApiAccess::Tokens(file) = &config.control.access {
        paths.push(file);
    }
    if let Some(dapr) = &config.dapr {
        paths.extend(dapr.api_token_file.as_deref());
        paths.extend(dapr.app_token_file.as_deref());
    }
    if let Some(files) = config.broker.as_ref().and_then(|broker| broker.link.as_ref()?.tls.as_ref()) {
        paths.push(&files.own.key);
    }
    let file = |path: &Path| File { purpose: Purpose::Access, part: String::new(), path: absolute(path) };
    paths.into_iter().map(file).collect()
}

/// A path from the root on. The file is not looked at.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether two paths are of one file, by whichever links.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    one == other || id(one).is_some_and(|file| id(other) == Some(file))
}

/// Whether a path is below a directory of `control.file_dirs`, and does not leave it by `..`.
fn is_below(path: &Path, config: &Config) -> bool {
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
            assert_eq!(not_allowed_in(&now, &text(allowed), &running, &Named::default()), [], "{allowed}");
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
            let found = not_allowed_in(&now, &text(refused), &running, &Named::default());
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

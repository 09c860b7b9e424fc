//! TLS and logins in the notation of Kafka's Java clients, in `[kafka.NAME]`: `security.protocol`, `ssl.…`, `sasl.mechanism` and
//! `sasl.jaas.config`, and librdkafka's names for the same files. Their values are put into the tables `tls` and `sasl` before
//! anything is checked, so that a configuration that works elsewhere can be copied.
//!
//! Passwords and keys must not be in this file under any name: they are errors that name the file to put them into.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::jaas;
use super::kafka_names::{plain, without_meaning};
use super::keys::Section;
use super::problem::Fault;
use super::reader::{Source, Spot, table_in};

/// The names, in the form of [`plain`].
pub(super) const NAMES: [&str; 21] = [
    "security_protocol",
    "ssl_truststore_location",
    "ssl_truststore_type",
    "ssl_truststore_certificates",
    "ssl_truststore_password",
    "ssl_keystore_location",
    "ssl_keystore_type",
    "ssl_keystore_password",
    "ssl_keystore_key",
    "ssl_keystore_certificate_chain",
    "ssl_key_password",
    "ssl_endpoint_identification_algorithm",
    "ssl_ca_location",
    "ssl_certificate_location",
    "ssl_key_location",
    "sasl_mechanism",
    "sasl_jaas_config",
    "sasl_oauthbearer_token_endpoint_url",
    "sasl_oauthbearer_client_credentials_client_id",
    "sasl_oauthbearer_client_credentials_client_secret",
    "sasl_oauthbearer_scope",
];

/// The cure for the secret of an identity provider, under both of its names.
const SECRET_IN_FILE: &str = "write it into a file of its own and name that as client_secret_file in [kafka.NAME.sasl]";

const TO_PEM: &str = "`keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12` makes JKS \
                      PKCS #12, `openssl pkcs12 -in NEW.p12 -nodes -out NEW.pem` makes that PEM";

/// A property with its place.
struct Given {
    /// The property's name, one of [`NAMES`].
    name: &'static str,
    text: String,
    spot: Spot,
}

/// Puts these properties of all clusters into the keys of the tables.
pub(super) fn translate(root: &mut DeTable<'_>, source: &Source<'_>) {
    let Some(DeValue::Table(clusters)) = root.get_mut(Section::Kafka.name()).map(Spanned::get_mut) else { return };
    let names: Vec<String> = clusters.keys().map(|key| key.get_ref().to_string()).collect();
    for name in names {
        if let Some(DeValue::Table(cluster)) = clusters.get_mut(name.as_str()).map(Spanned::get_mut) {
            leave_out(cluster, &format!("kafka.{name}"), "", source);
            let given = take(cluster, &format!("kafka.{name}"), "");
            Translation { cluster, source, path: format!("kafka.{name}") }.all(&given);
        }
    }
}

/// Removes the properties of Java's clients from a table that need nothing here: each is a warning. Only names with dots are
/// Java's.
fn leave_out(table: &mut DeTable<'_>, path: &str, prefix: &str, source: &Source<'_>) {
    let keys: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in keys {
        let (whole, path) = (format!("{prefix}{}", plain(&key)), format!("{path}.{key}"));
        let is_gone = match table.get_mut(key.as_str()).map(Spanned::get_mut) {
            Some(DeValue::Table(inner)) => {
                if without_meaning().any(|(name, _)| name.starts_with(&format!("{whole}_"))) {
                    leave_out(inner, &path, &format!("{whole}_"), source);
                    inner.is_empty()
                } else {
                    false
                }
            }
            Some(DeValue::Array(_)) | None => false,
            Some(_) => (key.contains('.') || !prefix.is_empty()) && without_meaning().any(|(name, _)| name == whole),
        };
        let removed = if is_gone { table.remove(key.as_str()) } else { None };
        if let (Some(value), Some((_, why))) = (removed, without_meaning().find(|(name, _)| *name == whole)) {
            let fault = Fault::new("has no meaning here").hint(format!("it may be left out: {why}"));
            source.warn(&Spot { path, span: value.span() }, fault);
        }
    }
}

/// Takes the properties out of a table: those with one name, and those that TOML without quotes makes tables in tables.
fn take(table: &mut DeTable<'_>, path: &str, prefix: &str) -> Vec<Given> {
    let mut given = Vec::new();
    let keys: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in keys {
        let whole = format!("{prefix}{}", plain(&key));
        let known = NAMES.iter().find(|name| **name == whole);
        let is_taken = match (table.get_mut(key.as_str()).map(Spanned::get_mut), known) {
            // `sasl.mechanism` without quotes is our own key.
            (Some(DeValue::String(_)), Some(_)) => whole != "sasl_mechanism" || prefix.is_empty(),
            (Some(DeValue::Table(inner)), None) if NAMES.iter().any(|name| name.starts_with(&format!("{whole}_"))) => {
                given.extend(take(inner, &format!("{path}.{key}"), &format!("{whole}_")));
                inner.is_empty() && whole != "sasl"
            }
            _ => false,
        };
        let removed = if is_taken { table.remove(key.as_str()) } else { None };
        if let (Some(name), Some(value)) = (known, removed) {
            let spot = Spot { path: format!("{path}.{key}"), span: value.span() };
            let text = value.get_ref().as_str().unwrap_or_default().to_owned();
            given.push(Given { name, text, spot });
        }
    }
    given
}

struct Translation<'t, 'a, 's> {
    cluster: &'t mut DeTable<'a>,
    source: &'s Source<'s>,
    path: String,
}

impl<'a> Translation<'_, 'a, '_> {
    fn all(&mut self, given: &[Given]) {
        let had_tls = self.cluster.contains_key("tls");
        let find = |name| given.iter().find(|given| given.name == name);
        // An explicit mechanism takes precedence over that of a login module.
        let (logins, others): (Vec<_>, Vec<_>) = given.iter().partition(|one| one.name == "sasl_jaas_config");
        for one in others.into_iter().chain(logins) {
            self.one(one);
        }
        match (find("security_protocol"), given.iter().find(|one| one.name.starts_with("ssl_"))) {
            (Some(protocol), _) => self.protocol(protocol),
            // Java would silently connect without TLS.
            (None, Some(one)) if !had_tls => {
                let fault = Fault::new("has no effect without security.protocol");
                self.source.report(&one.spot, fault.hint("set security.protocol to \"SSL\" or \"SASL_SSL\""));
            }
            _ => {}
        }
    }

    fn one(&mut self, given: &Given) {
        let report = |what: &str, hint: &str| self.source.report(&given.spot, Fault::new(what).hint(hint));
        match given.name {
            "ssl_truststore_location" => self.store(given, "tls", &["ca_file"]),
            // Certificate and key are in one file there.
            "ssl_keystore_location" => self.store(given, "tls", &["cert_file", "key_file"]),
            "ssl_truststore_certificates" => self.put(given, "tls", "ca_certificates", &given.text),
            "ssl_ca_location" => self.put(given, "tls", "ca_file", &given.text),
            "ssl_certificate_location" => self.put(given, "tls", "cert_file", &given.text),
            "ssl_key_location" => self.put(given, "tls", "key_file", &given.text),
            "ssl_truststore_type" | "ssl_keystore_type" if !given.text.eq_ignore_ascii_case("PEM") => {
                report("only PEM can be read", TO_PEM);
            }
            "ssl_truststore_password" | "ssl_keystore_password" => {
                report("a PEM file has no password", "leave it out");
            }
            "ssl_key_password" => report(
                "a key with a passphrase cannot be read",
                "`openssl pkey -in FILE -out NEW` writes it without one; protect the file instead, and leave this out",
            ),
            "ssl_keystore_key" => {
                report(
                    "a private key does not belong in this file",
                    "write it into a file of its own and name that as key_file in [kafka.NAME.tls]",
                );
            }
            "ssl_keystore_certificate_chain" => {
                report("is not read from here", "write it into a file, and name that as cert_file in [kafka.NAME.tls]");
            }
            "ssl_endpoint_identification_algorithm" => match given.text.to_ascii_lowercase().as_str() {
                "https" => self.put(given, "tls", "verify", "full"),
                "" => self.put(given, "tls", "verify", "chain"),
                _ => report("is no algorithm that is known", "leave it out, or set it to \"https\" or \"\""),
            },
            "sasl_mechanism" => self.put(given, "sasl", "mechanism", &given.text),
            "sasl_jaas_config" => self.jaas(given),
            "sasl_oauthbearer_token_endpoint_url" => self.put(given, "sasl", "token_url", &given.text),
            "sasl_oauthbearer_client_credentials_client_id" => self.put(given, "sasl", "client_id", &given.text),
            "sasl_oauthbearer_scope" => self.put(given, "sasl", "scope", &given.text),
            "sasl_oauthbearer_client_credentials_client_secret" => {
                report("a secret does not belong in this file", SECRET_IN_FILE);
            }
            _ => {}
        }
    }

    /// Adds a key store or a trust store, of type PEM unless another type is given or implied.
    fn store(&mut self, given: &Given, part: &str, keys: &[&str]) {
        const OTHERS: [&str; 5] = [".jks", ".p12", ".pfx", ".keystore", ".truststore"];
        if OTHERS.iter().any(|end| given.text.to_ascii_lowercase().ends_with(end)) {
            return self.source.report(&given.spot, Fault::new("only PEM can be read").hint(TO_PEM));
        }
        keys.iter().for_each(|key| self.put(given, part, key, &given.text));
    }

    fn jaas(&mut self, given: &Given) {
        let login = match jaas::read(&given.text) {
            Ok(login) => login,
            Err(why) => {
                let hint = "it is CLASS required username=\"…\"; write the password into a file and name that as password_file in \
                            [kafka.NAME.sasl]";
                return self.source.report(&given.spot, Fault::new(why).hint(hint));
            }
        };
        if let Some(mechanism) = login.mechanism
            && !self.has("sasl", "mechanism")
        {
            self.put(given, "sasl", "mechanism", mechanism);
        }
        if login.has_client_secret {
            let fault = Fault::new("clientSecret: a secret does not belong in this file");
            self.source.report(&given.spot, fault.hint(SECRET_IN_FILE));
        }
        for (key, value) in &login.keys {
            self.put(given, "sasl", key, value);
        }
        if !login.extensions.is_empty() {
            let entry = |(name, value): &(String, String)| {
                let span = given.spot.span.clone();
                (
                    Spanned::new(span.clone(), name.clone().into()),
                    Spanned::new(span, DeValue::String(value.clone().into())),
                )
            };
            let table = login.extensions.iter().map(entry).collect();
            self.put_value(given, "sasl", "extensions", DeValue::Table(table));
        }
    }

    fn protocol(&mut self, given: &Given) {
        let (tls, sasl) = match given.text.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                let hint = "it is one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL";
                return self.source.report(&given.spot, Fault::new("is no protocol of Kafka").hint(hint));
            }
        };
        let report = |what: &str, hint: &str| self.source.report(&given.spot, Fault::new(what).hint(hint));
        if tls {
            table_in(self.cluster, "tls", &given.spot.span);
        } else if self.cluster.contains_key("tls") {
            report(
                "is one without TLS, and there are settings of TLS",
                "set it to SSL or SASL_SSL, or leave these out",
            );
        }
        match (sasl, self.cluster.contains_key("sasl")) {
            (true, false) => report("needs a login", "add sasl.mechanism and sasl.jaas.config, or [kafka.NAME.sasl]"),
            (false, true) => report("is one without a login, and there is one", "set it to SASL_SSL or SASL_PLAINTEXT"),
            _ => {}
        }
    }

    fn put(&mut self, given: &Given, part: &str, key: &str, text: &str) {
        self.put_value(given, part, key, DeValue::String(text.to_owned().into()));
    }

    fn put_value(&mut self, given: &Given, part: &str, key: &str, value: DeValue<'a>) {
        let span = given.spot.span.clone();
        let path = format!("{}.{part}.{key}", self.path);
        let Some(table) = table_in(self.cluster, part, &span) else { return };
        if table.contains_key(key) {
            let fault = Fault::new(format!("says the same as {path}, which is set as well")).hint("leave one out");
            return self.source.report(&given.spot, fault);
        }
        table.insert(Spanned::new(span.clone(), key.to_owned().into()), Spanned::new(span, value));
    }

    fn has(&self, part: &str, key: &str) -> bool {
        let table = self.cluster.get(part).and_then(|value| value.get_ref().as_table());
        table.is_some_and(|table| table.contains_key(key))
    }
}

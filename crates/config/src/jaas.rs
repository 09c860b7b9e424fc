//! `sasl.jaas.config` of Kafka's Java clients: `CLASS required username="…" password="…";`.

/// The content of a `sasl.jaas.config`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// The mechanism, where the class has one.
    pub(super) mechanism: Option<&'static str>,
    /// Keys of `[kafka.NAME.sasl]`.
    pub(super) keys: Vec<(&'static str, String)>,
    /// Whether the text has the secret of an identity provider.
    pub(super) has_client_secret: bool,
    /// Extensions of OAUTHBEARER (KIP-342).
    pub(super) extensions: Vec<(String, String)>,
}

/// Reads a `sasl.jaas.config`.
///
/// # Errors
/// The fault; no value of the text is in these words.
pub(super) fn read(text: &str) -> Result<Login, String> {
    let mut words = Words(text.trim());
    let class = words.next()?.ok_or("is empty")?;
    let class = class.rsplit('.').next().unwrap_or_default().to_owned();
    let mut login = Login::default();
    let is_token = match class.as_str() {
        "PlainLoginModule" => {
            login.mechanism = Some("PLAIN");
            false
        }
        "ScramLoginModule" => false,
        "OAuthBearerLoginModule" => {
            login.mechanism = Some("OAUTHBEARER");
            true
        }
        "Krb5LoginModule" => return Err("Kerberos is not supported".to_owned()),
        _ => return Err("is no login module that is known".to_owned()),
    };
    if !matches!(words.next()?.as_deref(), Some("required" | "requisite" | "sufficient" | "optional")) {
        return Err("has no `required` behind its class".to_owned());
    }
    loop {
        let name = words.next()?.ok_or("does not end with `;`")?;
        if name == ";" {
            break;
        }
        if words.next()?.as_deref() != Some("=") {
            return Err(format!("has no value behind {}", shown(&name)));
        }
        let value =
            words.next()?.filter(|value| value != ";").ok_or_else(|| format!("has no value for {}", shown(&name)))?;
        match (name.as_str(), is_token) {
            ("username", false) => login.keys.push(("username", value)),
            ("password", false) => login.keys.push(("password", value)),
            (name, true) if name.starts_with("extension_") => {
                login.extensions.push((name["extension_".len()..].to_owned(), value));
            }
            ("clientId", true) => login.keys.push(("client_id", value)),
            ("scope", true) => login.keys.push(("scope", value)),
            ("clientSecret", true) => login.has_client_secret = true,
            _ => return Err(format!("{} is not supported", shown(&name))),
        }
    }
    match words.next()? {
        None => Ok(login),
        Some(_) => Err("has more than one login".to_owned()),
    }
}

/// The name of an option for display.
fn shown(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect()
}

/// A reader of words: quoted ones by their value, `=` and `;`.
struct Words<'t>(&'t str);

impl Words<'_> {
    fn next(&mut self) -> Result<Option<String>, String> {
        self.0 = self.0.trim_start();
        let Some(first) = self.0.chars().next() else { return Ok(None) };
        if matches!(first, '=' | ';') {
            self.0 = &self.0[1..];
            return Ok(Some(first.to_string()));
        }
        if !matches!(first, '"' | '\'') {
            let end = self.0.find(|c: char| c.is_whitespace() || matches!(c, '=' | ';')).unwrap_or(self.0.len());
            let (word, rest) = self.0.split_at(end);
            self.0 = rest;
            return Ok(Some(word.to_owned()));
        }
        let (mut word, mut escaped) = (String::new(), false);
        for (at, c) in self.0.char_indices().skip(1) {
            match c {
                _ if escaped => {
                    word.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                c if c == first => {
                    self.0 = &self.0[at + 1..];
                    return Ok(Some(word));
                }
                c => word.push(c),
            }
        }
        Err("has a quote without its end".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
    const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";
    const BEARER: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";

    #[test]
    fn what_documents_show() {
        let login = read(
            &format!("{PLAIN} required \\n username=\"$ConnectionString\" password=\"a;b=\\\"c\\\\\";")
                .replace("\\n", "\n"),
        );
        let keys = vec![("username", "$ConnectionString".to_owned()), ("password", "a;b=\"c\\".to_owned())];
        assert_eq!(login, Ok(Login { mechanism: Some("PLAIN"), keys, ..Login::default() }));
        let login = read(&format!("{SCRAM} required username='forebay' ;")).expect("a login");
        assert_eq!((login.mechanism, login.keys), (None, vec![("username", "forebay".to_owned())]));
        let login = read(&format!("{BEARER} required extension_logicalCluster='lkc-1';")).expect("a login");
        assert_eq!(login.extensions, [("logicalCluster".to_owned(), "lkc-1".to_owned())]);
        assert_eq!(login.mechanism, Some("OAUTHBEARER"));
        let login = read(&format!("{BEARER} required clientId='forebay' clientSecret='s3cret' scope='kafka';"));
        let login = login.expect("a login");
        assert_eq!(login.keys, [("client_id", "forebay".to_owned()), ("scope", "kafka".to_owned())]);
        assert!(login.has_client_secret && !format!("{login:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_is_said_and_no_secret_with_it() {
        for (text, words) in [
            (String::new(), "is empty"),
            ("x".to_owned(), "no login module"),
            ("com.sun.security.auth.module.Krb5LoginModule required;".to_owned(), "Kerberos"),
            (format!("{PLAIN} username=\"a\";"), "no `required`"),
            (format!("{PLAIN} required username=\"a\" password=\"s3cret\""), "does not end with `;`"),
            (format!("{PLAIN} required password=\"s3cret"), "a quote without its end"),
            (format!("{PLAIN} required password \"s3cret\";"), "has no value behind password"),
            (format!("{PLAIN} required password=;"), "has no value for password"),
            (format!("{SCRAM} required tokenauth=\"true\";"), "tokenauth is not supported"),
            (format!("{BEARER} required unsecuredLoginStringClaim_sub=\"s3cret\";"), "is not supported"),
            (format!("{PLAIN} required username=\"a\"; {PLAIN} required;"), "more than one login"),
        ] {
            let why = read(&text).expect_err(&text);
            assert!(why.contains(words) && !why.contains("s3cret"), "{text}: {why}");
        }
    }
}

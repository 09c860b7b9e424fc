//! Secrets that documents of Dapr refer to. A document names its store: `auth.secretStore`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Metadata, no_such};
use crate::yaml::Node;

/// The longest file of a secret, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// `Store` is a secret store among the documents.
#[derive(Debug)]
pub(super) enum Store {
    /// `secretstores.local.file`: names with their values, nested ones joined.
    File { path: PathBuf, separator: String, values: BTreeMap<String, String> },
    /// `secretstores.local.env`, with the prefix of each name.
    Environment { prefix: String },
}

/// `Secrets` are those that documents may refer to.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pub(super) stores: BTreeMap<String, Store>,
    /// `secrets_dir`
    pub(super) dir: Option<PathBuf>,
}

impl Store {
    /// The store of a document, or the error in it. `None`: a store of another type.
    pub(super) fn read(kind: &str, document: &Node) -> Option<Result<Self, (usize, String)>> {
        let metadata = Metadata::of(document);
        match kind {
            "secretstores.local.env" => {
                Some(Ok(Self::Environment { prefix: metadata.plain("prefix").unwrap_or_default().to_owned() }))
            }
            "secretstores.local.file" => Some(Self::file(&metadata).map_err(|why| (document.line, why))),
            _ => None,
        }
    }

    fn file(metadata: &Metadata<'_>) -> Result<Self, String> {
        let path = PathBuf::from(metadata.plain("secretsFile").ok_or("secretsFile is missing")?);
        let separator = metadata.plain("nestedSeparator").filter(|text| !text.is_empty()).unwrap_or(":").to_owned();
        let whole: serde_json::Value = serde_json::from_slice(&read(&path)?)
            // Serde's error may contain a part of a secret.
            .map_err(|error| format!("{} is not JSON, from line {} on", path.display(), error.line()))?;
        let mut values = BTreeMap::new();
        flatten("", &whole, &separator, &mut values);
        Ok(Self::File { path, separator, values })
    }

    fn find(&self, name: &str, key: &str) -> Result<String, String> {
        match self {
            Self::File { path, separator, values } => {
                let whole = if key == name { None } else { Some(format!("{name}{separator}{key}")) };
                let wanted = whole.as_deref().unwrap_or(name);
                values.get(wanted).cloned().ok_or_else(|| format!("{wanted:?} is not in {}", path.display()))
            }
            Self::Environment { prefix } => variable(&format!("{prefix}{key}")),
        }
    }
}

/// Texts of a value of JSON, each under the path to it.
fn flatten(path: &str, value: &serde_json::Value, separator: &str, into: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}{separator}{name}") };
    match value {
        Value::Object(entries) => {
            entries.iter().for_each(|(name, value)| flatten(&below(name), value, separator, into));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(at, value)| flatten(&below(&at.to_string()), value, separator, into));
        }
        Value::Null => {}
        Value::String(text) => drop(into.insert(path.to_owned(), text.clone())),
        other => drop(into.insert(path.to_owned(), other.to_string())),
    }
}

impl Secrets {
    /// The value of a key of a secret. `store`: the store that the document names.
    ///
    /// # Errors
    /// The places that were searched, and why they do not have it.
    pub(super) fn find(&self, store: Option<&str>, name: &str, key: &str) -> Result<String, String> {
        if let Some(store) = store.and_then(|name| self.stores.get(name)) {
            return store.find(name, key);
        }
        let Some(dir) = &self.dir else {
            let stores = self.stores.keys().map(String::as_str);
            let named = store
                .map(|store| format!("secret store {store:?} is not among the documents{}", no_such(store, stores)));
            let named = named.unwrap_or_else(|| "the document names no `auth.secretStore`".to_owned());
            return Err(format!("{named}, and there is no secrets_dir in [dapr]"));
        };
        for part in [name, key] {
            if part.is_empty() || matches!(part, "." | "..") || part.contains(['/', '\0']) {
                return Err(format!("{part:?} cannot be the name of a file in {}", dir.display()));
            }
        }
        let (nested, plain) = (dir.join(name).join(key), dir.join(name));
        let path = if nested.is_file() || !plain.is_file() { nested } else { plain };
        let text = String::from_utf8(read(&path)?).map_err(|_| format!("{} is not UTF-8", path.display()))?;
        Ok(text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
    }
}

/// The value of an environment variable.
///
/// # Errors
/// The variable is not set.
pub(super) fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = match std::fs::metadata(path) {
        Ok(file) if file.len() > BYTES_MAX => Err("it is larger than 1 MiB".to_owned()),
        Ok(_) => std::fs::read(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|why| format!("{} cannot be read: {why}", path.display()))
}

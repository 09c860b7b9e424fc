//! `[dapr]`, and the documents of Dapr's components: bindings to MQTT become bridges.
//!
//! | file | |
//! |---|---|
//! | `yaml` | the text of documents |
//! | `secrets` | the secrets that they refer to |
//! | `binding` | the meaning of a component |

mod binding;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::binding::{Maker, TYPES};
use self::secrets::{Secrets, Store};
use super::binds::Binds;
use super::keys::Section;
use super::password;
use super::problem::{Fault, nearest};
use super::reader::{Source, Table};
use super::resolve::Document;
use super::resolved::{Bridge, Dapr};
use super::setting::Settings as _;
use super::{BRIDGES_MAX, Overrides, values};
use crate::yaml::{self, BYTES_MAX, Node, Value};
use forebay_dapr::{Brought, HAS_GRPC};
use forebay_guard::secure::Secret;

/// The most files that are read of a directory.
const FILES_MAX: usize = 256;

/// A document of a file, or a component that a sidecar has passed on.
struct Component {
    file: String,
    document: Node,
    /// Whether the component came from a sidecar: its values are final, and all of them may be secret.
    is_brought: bool,
}

/// The position of the metadata of a sidecar, in messages.
const INIT: &str = "Init";

impl From<&Brought> for Component {
    fn from(of: &Brought) -> Self {
        let node = |value| Node { line: 0, value };
        let text = |text: &str| node(Value::Text(text.to_owned()));
        let map = |entries: Vec<(&str, Node)>| {
            node(Value::Map(entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect()))
        };
        let property = |(name, value): (&String, &Secret)| {
            map(vec![("name", text(name)), ("value", text(&String::from_utf8_lossy(value.expose())))])
        };
        let metadata = node(Value::List(of.properties.iter().map(property).collect()));
        let spec = map(vec![("type", text(of.kind)), ("metadata", metadata)]);
        let named = map(vec![("name", text(&of.component))]);
        let document = map(vec![("kind", text("Component")), ("metadata", named), ("spec", spec)]);
        Self { file: INIT.to_owned(), document, is_brought: true }
    }
}

impl Component {
    fn name(&self) -> &str {
        self.document.get("metadata").and_then(|of| of.text("name")).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.document.get("spec").and_then(|of| of.text("type")).unwrap_or_default()
    }
}

/// `Metadata` are the names and values of a component.
struct Metadata<'d>(Vec<(&'d str, &'d Node)>);

impl<'d> Metadata<'d> {
    fn of(document: &'d Node) -> Self {
        let items = document.get("spec").and_then(|of| of.get("metadata")).map(Node::items).unwrap_or_default();
        Self(items.iter().filter_map(|item| Some((item.text("name")?, item))).collect())
    }

    /// The entry of a name, in any case.
    fn find(&self, name: &str) -> Option<&'d Node> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, item)| *item)
    }

    /// A value that is in the document itself.
    fn plain(&self, name: &str) -> Option<&'d str> {
        self.find(name)?.text("value")
    }
}

/// `, did you mean …`, or nothing.
fn no_such<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, known).map(|known| format!(" (did you mean {known:?}?)")).unwrap_or_default()
}

/// Reads the section and the documents that it names. Their bridges are added to the others.
pub(super) fn resolve(
    document: &Document<'_>,
    overrides: &Overrides,
    bridges: &mut Vec<Bridge>,
    binds: &mut Binds,
) -> Option<Dapr> {
    if !document.has(Section::Dapr) && overrides.components.is_none() {
        return None;
    }
    let table = document.table(Section::Dapr);
    let mut dapr = Dapr::read(&table);
    dapr.app_id = table.find("app_id", values::non_empty).or_else(|| overrides.identity.variables[2].clone());
    for (key, address) in [("http", &mut dapr.http), ("grpc", &mut dapr.grpc)] {
        *address = table.read(key, values::address_or_off);
    }
    if dapr.sockets.is_some() && !table.has("http") {
        dapr.http = None;
    }
    let without = |key: &'static str| {
        let fault = Fault::new("this build has no gRPC").hint("build it with --features grpc, or take a package");
        table.source.report(&table.spot(key), fault);
    };
    dapr.app = table.find("app", |key, value| {
        let url = values::non_empty(key, value)?;
        let address = forebay_dapr::Address::parse(&url).map_err(Fault::new)?;
        if address.is_grpc && !HAS_GRPC {
            without("app");
        }
        Ok(url.trim_end_matches('/').to_owned())
    });
    if dapr.grpc.is_some() && !HAS_GRPC {
        without("grpc");
    }
    if dapr.sockets.is_some() && !HAS_GRPC {
        without("sockets");
    }
    (dapr.api_token_file, dapr.api_token) = token(&table, "api_token_file").unzip();
    (dapr.app_token_file, dapr.app_token) = token(&table, "app_token_file").unzip();
    for (key, address) in [("http", dapr.http), ("grpc", dapr.grpc)] {
        let Some(address) = address else { continue };
        binds.take(address, table.spot(key));
        if !address.ip().is_loopback() && !table.has("api_token_file") {
            let fault =
                Fault::new(format!("{address} can be reached from other machines, and there is no api_token_file"));
            table.source.report(&table.spot(key), fault.hint("set api_token_file, or a loopback address"));
        }
    }
    let components = table.find("components", values::non_empty).map(PathBuf::from);
    dapr.components = overrides.components.clone().or(components);
    dapr.secrets_dir = table.find("secrets_dir", values::non_empty).map(PathBuf::from);
    // With an application, the components are probably named on the command line.
    if dapr.components.is_none() && dapr.sockets.is_none() && dapr.app.is_none() {
        let fault = Fault::new("has no bindings: none of `components`, `sockets` and `app` is set");
        document.source.warn(&document.spot(Section::Dapr), fault.hint("set one, run with --components, or remove it"));
    }
    let found = dapr.components.as_ref().map_or(Ok(Vec::new()), |path| {
        read(path).map_err(|why| Fault::new(format!("{} cannot be read: {why}", path.display())))
    });
    let found = found.unwrap_or_else(|fault| {
        match overrides.components {
            Some(_) => table.source.report_option("--components", fault),
            None => table.source.report(&table.spot("components"), fault),
        }
        Vec::new()
    });
    make((&table, &dapr), overrides, &found, bridges);
    Some(dapr)
}

fn token(table: &Table<'_>, key: &'static str) -> Option<(PathBuf, Secret)> {
    let path = password::path(table, key)?;
    let token = password::of_file(table, key, &path)?;
    let is_sendable = token.expose().iter().all(u8::is_ascii_graphic);
    if token.expose().is_empty() || !is_sendable {
        let fault = Fault::new(format!("{} has no token: printable ASCII, without spaces", path.display()));
        table.source.report(&table.spot(key), fault);
    }
    Some((path, token))
}

/// The texts of a file, or of all YAML files of a directory, with their names.
fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|error| error.to_string())? {
            let file = entry.map_err(|error| error.to_string())?.path();
            let is_yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
            // Kubernetes mounts files as links.
            if is_yaml && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        if files.len() > FILES_MAX {
            return Err(format!("it has {} files; at most {FILES_MAX} are read", files.len()));
        }
    } else {
        files.push(path.to_owned());
    }
    let text = |file: PathBuf| {
        let shown = file.display().to_string();
        let size = std::fs::metadata(&file).map_err(|error| format!("{shown}: {error}"))?.len();
        if size > BYTES_MAX as u64 {
            return Err(format!("{shown} is larger than 1 MiB"));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{shown}: {error}"))?;
        Ok((shown, text))
    };
    files.into_iter().map(text).collect()
}

/// Makes bridges of all documents that are bindings to MQTT.
fn make(
    (table, dapr): (&Table<'_>, &Dapr),
    overrides: &Overrides,
    files: &[(String, String)],
    bridges: &mut Vec<Bridge>,
) {
    let source = table.source;
    let mut components = Vec::new();
    for (file, text) in files {
        match yaml::documents(text) {
            Ok(documents) => {
                let of_file = |document| Component { file: file.clone(), document, is_brought: false };
                components.extend(documents.into_iter().map(of_file));
            }
            Err((line, what)) => source.report_in(file, (line, "document"), Fault::new(what)),
        }
    }
    let mut secrets = Secrets { stores: BTreeMap::new(), dir: dapr.secrets_dir.clone() };
    components.retain(|component| {
        let Some(store) = Store::read(component.kind(), &component.document) else { return true };
        match store {
            Ok(store) => drop(secrets.stores.insert(component.name().to_owned(), store)),
            Err((line, why)) => source.report_in(&component.file, (line, component.name()), Fault::new(why)),
        }
        false
    });
    components.extend(overrides.brought.iter().map(Component::from));
    let maker = Maker { source, dapr, secrets: &secrets, overrides };
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for component in &components {
        let (line, name) = (component.document.line, component.name());
        if !is_mine(source, component, dapr, overrides) {
            continue;
        }
        let place = if component.is_brought { INIT.to_owned() } else { format!("{}, line {line}", component.file) };
        if let Err(fault) = values::check_name(name) {
            source.report_in(&component.file, (line, "metadata.name"), fault);
        } else if let Some(other) = places.insert(name.to_owned(), place) {
            let what = format!("is the name of another component, in {other}");
            source.report_in(&component.file, (line, name), Fault::new(what).hint("give it a name of its own"));
        } else {
            for bridge in maker.bridges(component) {
                if bridges.iter().any(|known| known.name == bridge.name) {
                    let fault = Fault::new(format!("there is a bridge {:?} already", bridge.name));
                    source.report_in(&component.file, (line, name), fault.hint("rename one of the two"));
                }
                let is_same = |known: &&Bridge| {
                    known.client_id == bridge.client_id && known.url.endpoint() == bridge.url.endpoint()
                };
                if let Some(known) = bridges.iter().find(is_same).filter(|_| !bridge.url.host.is_empty()) {
                    let what = format!(
                        "bridge {:?} has the same client ID at the same remote, where one would end the other's connection",
                        known.name
                    );
                    let fault = Fault::new(what).hint("give each a consumerID of its own, as in \"{appID}-{uuid}\"");
                    source.report_in(&component.file, (line, &format!("{name}: consumerID")), fault);
                }
                bridges.push(bridge);
            }
        }
    }
    if bridges.len() > BRIDGES_MAX {
        let fault = Fault::new(format!("at most {BRIDGES_MAX} bridges, those of components among them"));
        source.report(&table.spot("components"), fault);
    }
}

/// Whether a document is a binding to MQTT, for this application. A document that is skipped is reported.
fn is_mine(source: &Source<'_>, component: &Component, dapr: &Dapr, overrides: &Overrides) -> bool {
    let (document, file) = (&component.document, &component.file);
    let passed_over = |what: String| {
        source.warn_in(file, (document.line, component.name()), Fault::new(format!("is passed over: {what}")));
        false
    };
    match (document.text("kind"), component.kind()) {
        (Some("Component"), kind) if TYPES.contains(&kind) => {}
        (Some("Component"), kind) => {
            let like = no_such(kind, TYPES);
            return passed_over(format!("its type is {kind:?}, and here are bindings.mqtt and bindings.mqtt3{like}"));
        }
        (kind, _) => return passed_over(format!("its kind is {:?} and not \"Component\"", kind.unwrap_or_default())),
    }
    let namespace = document.get("metadata").and_then(|of| of.text("namespace"));
    if let (Some(own), Some(other)) = (&overrides.identity.variables[1], namespace)
        && own != other
    {
        return passed_over(format!("its namespace is {other:?}, and NAMESPACE is {own:?}"));
    }
    let scopes: Vec<_> = document.get("scopes").map(Node::items).unwrap_or_default().iter().collect();
    let is_named =
        |scope: &&Node| matches!((&scope.value, &dapr.app_id), (Value::Text(scope), Some(id)) if scope == id);
    if !scopes.is_empty() && !scopes.iter().any(is_named) {
        return passed_over("its scopes do not have the app_id of [dapr]".to_owned());
    }
    let version = document.get("spec").and_then(|of| of.text("version")).unwrap_or_default();
    if !matches!(version, "" | "v1") {
        let fault = Fault::new(format!("{version:?} is no version of this type")).hint("write v1, or leave it out");
        source.report_in(file, (document.line, &format!("{}: version", component.name())), fault);
    }
    true
}

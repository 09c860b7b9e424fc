//! Overridden keys: those of sinks, sources, clusters and listeners that environment variables and options of the command line set.
//! A request to change one, which would have no effect, is refused, with the name of the variable or option to change.

use serde_json::{Map, Value};
use toml::de::DeTable;

use super::edit::{Edit, Part, To};
use super::environment::{self, Home, Variable};
use super::keys::{Key, Section};
use super::resolved::Config;
use super::{Bindings, EMBEDDED, Overrides, Text, cores, parse_all};

/// The option that names the brokers of the only cluster.
const KAFKA_OPTION: &str = "--kafka";
/// The cluster of that option, where the file has none.
const KAFKA_OPTION_CLUSTER: &str = "main";

/// The parts of the configuration beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    variables: Vec<Variable>,
    overrides: Overrides,
    bindings: Bindings,
}

impl Beside {
    /// The parts beside `text`, with which this process began.
    #[must_use]
    pub fn of(text: &Text, overrides: Overrides) -> Self {
        Self { variables: environment::read(), overrides, bindings: text.bindings() }
    }

    /// The meaning of indexes of variables.
    #[must_use]
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Whether there are sinks, or listeners, that are in no text.
    pub(super) fn adds(&self, part: Part) -> bool {
        let is_of = |name: &String| environment::index(name).is_some_and(|(section, _)| section == part.table());
        let is_option = part == Part::Listener && !self.overrides.listen.is_empty();
        is_option || self.variables.iter().any(|(name, _)| is_of(name))
    }

    /// Whether an option names the brokers of the only cluster.
    pub(super) fn has_kafka_option(&self) -> bool {
        self.overrides.kafka.is_some()
    }

    /// The clusters that exist whatever the text says, and those of the text.
    pub(super) fn clusters(&self, mut known: Vec<String>) -> Vec<String> {
        let mut names: Vec<String> = self
            .variables
            .iter()
            .filter_map(|(variable, _)| match environment::place(variable, (Section::Kafka, &known)) {
                Some((Home::Named(name), key)) if key.section.root() == Section::Kafka => Some(name),
                Some((Home::Table, key)) if key.section.root() == Section::Embedded => Some(EMBEDDED.to_owned()),
                _ => None,
            })
            .collect();
        if self.has_kafka_option() && names.is_empty() && known.is_empty() {
            names.push(KAFKA_OPTION_CLUSTER.to_owned());
        }
        names.extend(self.overrides.embedded.map(|_| EMBEDDED.to_owned()));
        names.append(&mut known);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The origin of a part that is in force but not in the text; `None`: the part is not in force, or its origin is unknown.
    #[must_use]
    pub fn origin(&self, part: Part, name: &str) -> Option<String> {
        let gives = |(variable, value): &&Variable| match environment::place(variable, (part.table(), &[]))? {
            (Home::Item(_), key) => {
                let is_name = key.section == part.table() && key.name == part.name_key();
                Some(is_name && value.as_deref().map(str::trim) == Some(name))
            }
            (Home::Named(named), key) => Some(part.is_table() && key.section.root() == part.table() && named == name),
            (Home::Table, _) => None,
        };
        if let Some((variable, _)) = self.variables.iter().find(|variable| gives(variable) == Some(true)) {
            return Some(format!(
                "{part} {name} comes from the environment: {variable} has to change, and the service to be restarted"
            ));
        }
        match part {
            Part::Cluster if name == EMBEDDED => {
                Some("the embedded log is no [kafka.NAME]: [embedded] configures it, or its absence".to_owned())
            }
            Part::Cluster if self.overrides.kafka.is_some() => {
                Some(format!("{part} {name} comes from {KAFKA_OPTION} on the command line"))
            }
            _ => None,
        }
    }

    /// The reason why a key of an edit would have no effect. `edited`: the text with the edit.
    #[must_use]
    pub fn contradicts(&self, edit: &Edit, edited: &Text) -> Option<String> {
        let (To::Entry(keys) | To::Keys(keys)) = &edit.to else { return None };
        let known = if edit.part.is_table() { names(edited, edit.part) } else { Vec::new() };
        let meant = |variable: &Variable| {
            let (place, key) = environment::place(&variable.0, (edit.part.table(), &known))?;
            let is_it = match place {
                Home::Item(at) => {
                    key.section.root() == edit.part.table() && self.bindings.name(edit.part, at) == Some(&edit.name)
                }
                Home::Named(name) => {
                    edit.part.is_table() && key.section.root() == edit.part.table() && name == edit.name
                }
                Home::Table => false,
            };
            (is_it && has(keys, key)).then_some(key)
        };
        let has_option = edit.part == Part::Cluster
            && self.overrides.kafka.is_some()
            && !keys.get("bootstrap").is_none_or(Value::is_null);
        let meant: Vec<_> = self.variables.iter().filter_map(|variable| Some((variable, meant(variable)?))).collect();
        if !has_option && meant.is_empty() {
            return None;
        }
        let with = self.resolve(edited, None, &self.overrides)?;
        let said = |what: &str, key: &str| {
            format!("{} {}: {key} is set by {what}: the request would not change it", edit.part, edit.name)
        };
        for (variable, key) in meant {
            let without = self.resolve(edited, Some(&variable.0), &self.overrides);
            if without.is_none_or(|without| !is_same(edit, edited, &with, &without)) {
                return Some(said(&variable.0, key.name));
            }
        }
        if has_option {
            let without = Overrides { kafka: None, ..self.overrides.clone() };
            let without = self.resolve(edited, None, &without);
            if without.is_none_or(|without| !is_same(edit, edited, &with, &without)) {
                return Some(said(KAFKA_OPTION, "bootstrap"));
            }
        }
        None
    }

    /// The configuration of a text. `None`: the text has errors, which are reported elsewhere.
    fn resolve(&self, text: &Text, without: Option<&str>, overrides: &Overrides) -> Option<Config> {
        let variables: Vec<_> =
            self.variables.iter().filter(|(name, _)| Some(name.as_str()) != without).cloned().collect();
        parse_all(&text.text, &text.name, &variables, Some(&self.bindings), overrides, cores()).ok()
    }
}

/// Names of the clusters, or bridges, in a text.
fn names(text: &Text, of: Part) -> Vec<String> {
    let (tree, _) = DeTable::parse_recoverable(&text.text);
    environment::names(tree.get_ref(), of.table())
}

/// Whether a body has this key, with a value.
fn has(keys: &Map<String, Value>, key: &Key) -> bool {
    let table = match key.section.parent() {
        Some((_, part)) => keys.get(part).and_then(Value::as_object),
        None => Some(keys),
    };
    table.and_then(|table| table.get(key.name)).is_some_and(|value| !value.is_null())
}

/// Whether the edited part is the same in both configurations.
fn is_same(edit: &Edit, text: &Text, one: &Config, other: &Config) -> bool {
    if edit.part == Part::Cluster {
        let of = |config: &Config| config.clusters.iter().find(|cluster| cluster.name == edit.name).cloned();
        return of(one) == of(other);
    }
    if edit.part == Part::Bridge {
        let of = |config: &Config| config.bridges.iter().find(|bridge| bridge.name == edit.name).cloned();
        return of(one) == of(other);
    }
    let Some(at) = text.bindings().position(edit.part, &edit.name) else { return true };
    match edit.part {
        Part::Sink => one.sinks.get(at) == other.sinks.get(at),
        Part::Source => one.sources.get(at) == other.sources.get(at),
        Part::Rule => one.rules.get(at) == other.rules.get(at),
        _ => {
            let of = |config: &Config| {
                config.listeners.get(at).cloned().map(|mut listener| {
                    listener.moved_by.clear();
                    listener
                })
            };
            of(one) == of(other)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Text {
        Text { name: "test".to_owned(), text: text.to_owned() }
    }

    fn beside(text: &Text, variables: &[(&str, &str)], kafka: Option<&str>) -> Beside {
        let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()))).collect();
        let overrides = Overrides { kafka: kafka.map(str::to_owned), ..Overrides::default() };
        Beside { variables, overrides, bindings: text.bindings() }
    }

    fn edit(part: Part, name: &str, keys: Value) -> Edit {
        let Value::Object(keys) = keys else { panic!("{keys}") };
        Edit { part, name: name.to_owned(), to: To::Entry(keys) }
    }

    fn said(start: &str, variables: &[(&str, &str)], kafka: Option<&str>, edit: &Edit) -> Option<String> {
        let start = text(start);
        let beside = beside(&start, variables, kafka);
        let (edited, _) = start.edited(std::slice::from_ref(edit), &beside).expect("edited");
        beside.contradicts(edit, &edited)
    }

    const FILE: &str = "[kafka.main]\nbootstrap = \"a:1\"\n[[listener]]\nbind = \"127.0.0.1:1\"\n[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n";

    /// A request does not change a value that a variable has set, and the answer says so; the same value is no contradiction.
    #[test]
    fn finding_f2_a_key_that_a_variable_sets_is_named() {
        let sink = |linger: &str| edit(Part::Sink, "s", json!({ "filters": "#", "topic": "t", "linger": linger }));
        let linger = [("FOREBAY_SINK_0_LINGER", "9ms")];
        let why = said(FILE, &linger, None, &sink("8ms")).expect("a contradiction");
        assert!(why.contains("sink s: linger is set by FOREBAY_SINK_0_LINGER"), "{why}");
        assert_eq!(said(FILE, &linger, None, &sink("9000us")), None);
        assert_eq!(said(FILE, &[], None, &sink("8ms")), None);
        assert_eq!(said(FILE, &linger, None, &edit(Part::Sink, "s", json!({ "filters": "a", "topic": "t" }))), None);
        let other = edit(Part::Sink, "o", json!({ "filters": "#", "topic": "t", "linger": "8ms" }));
        assert_eq!(said(FILE, &linger, None, &other), None, "another sink's");

        let cluster = |bootstrap: &str| edit(Part::Cluster, "main", json!({ "bootstrap": [bootstrap] }));
        let brokers = [("FOREBAY_KAFKA_MAIN_BOOTSTRAP", "b:1")];
        let why = said(FILE, &brokers, None, &cluster("c:1")).expect("a contradiction");
        assert!(why.contains("FOREBAY_KAFKA_MAIN_BOOTSTRAP"), "{why}");
        assert_eq!(said(FILE, &brokers, None, &cluster("b:1")), None);
        let why = said(FILE, &[], Some("b:1"), &cluster("c:1")).expect("a contradiction");
        assert!(why.contains("bootstrap is set by --kafka"), "{why}");
        assert_eq!(said(FILE, &[], Some("b:1"), &cluster("b:1")), None);

        let listener = edit(Part::Listener, "127.0.0.1:1", json!({ "receipts": true }));
        let why = said(FILE, &[("FOREBAY_LISTENER_0_RECEIPTS", "false")], None, &listener).expect("a contradiction");
        assert!(why.contains("receipts is set by FOREBAY_LISTENER_0_RECEIPTS"), "{why}");
    }

    /// A part that only the environment or an option names is reported as theirs.
    #[test]
    fn finding_f2_what_is_in_no_file_says_where_it_comes_from() {
        let start = text("");
        let variables = [
            ("FOREBAY_SINK_0_NAME", "all"),
            ("FOREBAY_KAFKA_EU_BOOTSTRAP", "b:1"),
            ("FOREBAY_LISTENER_0_BIND", "127.0.0.1:7"),
        ];
        let of = beside(&start, &variables, None);
        for (part, name, words) in [
            (Part::Sink, "all", "FOREBAY_SINK_0_NAME"),
            (Part::Cluster, "eu", "FOREBAY_KAFKA_EU_BOOTSTRAP"),
            (Part::Listener, "127.0.0.1:7", "FOREBAY_LISTENER_0_BIND"),
            (Part::Cluster, EMBEDDED, "[embedded]"),
        ] {
            assert!(of.origin(part, name).is_some_and(|said| said.contains(words)), "{name}");
        }
        assert_eq!(of.origin(Part::Sink, "other"), None);
        assert!(
            beside(&start, &[], Some("b:1")).origin(Part::Cluster, "main").is_some_and(|said| said.contains("--kafka"))
        );
    }

    /// A default that is not in force is not written down.
    #[test]
    fn finding_f2_no_phantom_is_written() {
        let sink = edit(Part::Sink, "two", json!({ "filters": "2", "topic": "t" }));
        let cluster = edit(Part::Cluster, "other", json!({ "bootstrap": "o:1" }));
        let written = |variables: &[(&str, &str)], kafka, edit: &Edit| {
            let beside = beside(&text(""), variables, kafka);
            text("").edited(std::slice::from_ref(edit), &beside).expect("edited").0.text
        };
        let sinks = [("FOREBAY_SINK_0_NAME", "all"), ("FOREBAY_SINK_0_FILTERS", "#"), ("FOREBAY_SINK_0_TOPIC", "t")];
        let text = written(&sinks, None, &sink);
        assert!(!text.contains("default") && text.contains("two"), "{text}");
        let text = written(&[sinks.as_slice(), &[("FOREBAY_KAFKA_MAIN_BOOTSTRAP", "k:1")]].concat(), None, &cluster);
        assert_eq!(text.trim(), "[kafka.other]\nbootstrap = \"o:1\"");
        let text = written(&[], None, &sink);
        assert!(text.contains("default"), "in force: {text}");
    }
}

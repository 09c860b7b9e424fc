//! The meaning of the index in a variable's name while the service runs. `FOREBAY_LISTENER_0_AUTH` is read for the listener that is the
//! first in the file when the process begins, and stays with that one: a removed item must not hand its settings on to the next item.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{self, Variable};
use super::keys::Section;
use super::problem::Fault;
use super::{Part, Text};

/// The items of the file's lists when the process begins, by which the indexes of variables are understood from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    listeners: Vec<Name>,
    sinks: Vec<Name>,
    sources: Vec<Name>,
    rules: Vec<Name>,
}

/// The name of an item in the file: a sink's name, a listener's address. `None`: the file gives it none.
type Name = Option<String>;

/// The meaning of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning<'n> {
    /// An item of the file, the nth of that name: several listeners may have port 0.
    Own(&'n Name, usize),
    /// The nth item that the environment adds after those of the file.
    Added(usize),
}

/// A variable that refers to another item in the next process than in this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    variable: String,
    was: String,
    next: String,
    /// Whether the item is gone, and another one that did not exist then is in its place: possibly the same item under another
    /// name.
    pub is_replaced: bool,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, was, next, .. } = self;
        write!(f, "environment: {variable}: is for {was}; at the next start it would be for {next}")
    }
}

impl Bindings {
    pub(super) fn of(root: &DeTable<'_>) -> Self {
        Self {
            listeners: names(root, Section::Listener),
            sinks: names(root, Section::Sink),
            sources: names(root, Section::Source),
            rules: names(root, Section::Rule),
        }
    }

    fn list(&self, section: Section) -> &[Name] {
        match section {
            Section::Listener => &self.listeners,
            Section::Source => &self.sources,
            Section::Rule => &self.rules,
            _ => &self.sinks,
        }
    }

    fn meaning(&self, section: Section, at: usize) -> Meaning<'_> {
        let list = self.list(section);
        match list.get(at) {
            Some(name) => Meaning::Own(name, list[..at].iter().filter(|other| *other == name).count()),
            None => Meaning::Added(at - list.len()),
        }
    }

    /// The place in `now` of the item that index `at` meant when the process began; `None`: the item is gone.
    pub(super) fn place(&self, now: &Self, section: Section, at: usize) -> Result<Option<usize>, Fault> {
        let list = now.list(section);
        let (name, nth) = match self.meaning(section, at) {
            Meaning::Added(nth) => return Ok(Some(list.len() + nth)),
            Meaning::Own(name, nth) => (name, nth),
        };
        let count = |list: &[Name]| list.iter().filter(|other| *other == name).count();
        let (then, now) = (count(self.list(section)), count(list));
        if now == 0 {
            return Ok(None);
        }
        if then != now {
            let what = format!("is for one of {then} at the start that are called alike, and there are {now} now");
            return Err(Fault::new(what).hint("restart the service, or give each its own address"));
        }
        Ok(list.iter().enumerate().filter(|(_, other)| *other == name).nth(nth).map(|(place, _)| place))
    }

    /// The name in the text of the item that index `at` meant when the process began.
    pub(super) fn name(&self, part: Part, at: usize) -> Option<&String> {
        self.list(part.table()).get(at)?.as_ref()
    }

    /// The place of an item with this name.
    pub(super) fn position(&self, part: Part, name: &str) -> Option<usize> {
        self.list(part.table()).iter().position(|known| known.as_deref() == Some(name))
    }

    /// The meaning of index `at`, in words.
    pub(super) fn said(&self, section: Section, at: usize) -> String {
        match self.meaning(section, at) {
            Meaning::Own(Some(name), _) => format!("{} {name}", section.name()),
            Meaning::Own(None, _) => format!("{}[{at}]", section.name()),
            Meaning::Added(_) => format!("a {} of the environment", section.name()),
        }
    }

    /// The variables that would refer to other items if a process started with `text`.
    #[must_use]
    pub fn moved(&self, text: &Text) -> Vec<Moved> {
        self.moved_of(&environment::read(), text)
    }

    pub(super) fn moved_of(&self, variables: &[Variable], text: &Text) -> Vec<Moved> {
        let next = text.bindings();
        let moved = variables.iter().filter_map(|(variable, _)| {
            let (section, at) = environment::index(variable)?;
            let is_same = self.meaning(section, at) == next.meaning(section, at);
            let is_gone = matches!(self.place(&next, section, at), Ok(None));
            let there = next.list(section).get(at);
            let is_replaced = is_gone && there.is_some_and(|name| !self.list(section).contains(name));
            let (was, next) = (self.said(section, at), next.said(section, at));
            (!is_same).then(|| Moved { variable: variable.clone(), was, next, is_replaced })
        });
        moved.collect()
    }
}

impl Text {
    /// The meaning of the indexes of variables for a process that starts with this text; empty if the text is not TOML.
    #[must_use]
    pub fn bindings(&self) -> Bindings {
        let (tree, _) = DeTable::parse_recoverable(&self.text);
        Bindings::of(tree.get_ref())
    }
}

fn names(root: &DeTable<'_>, section: Section) -> Vec<Name> {
    let key = if section == Section::Listener { Part::Listener.name_key() } else { Part::Sink.name_key() };
    let name = |item: &Spanned<DeValue<'_>>| Some(item.get_ref().as_table()?.get(key)?.get_ref().as_str()?.to_owned());
    let list = root.get(section.name()).and_then(|list| list.get_ref().as_array());
    list.map_or_else(Vec::new, |list| list.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Overrides, parse_all};
    use super::*;

    const AB: &str = "[[listener]]\nbind = \"127.0.0.1:1\"\n[[listener]]\nbind = \"127.0.0.1:2\"\nreceipts = true\n";

    fn text(text: &str) -> Text {
        Text { name: "test".to_owned(), text: text.to_owned() }
    }

    fn read(start: &str, now: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()))).collect();
        let bindings = text(start).bindings();
        parse_all(now, "test", &variables, Some(&bindings), &Overrides::default(), 2)
            .map_err(|problems| problems.to_string())
    }

    fn receipts(config: &Config) -> Vec<(u16, bool)> {
        let port = |listener: &super::super::Listener| listener.bind.tcp().map_or(0, |addr| addr.port());
        config.listeners.iter().map(|listener| (port(listener), listener.receipts)).collect()
    }

    /// A removed item's variables apply to no other item, and an item added before others does not get theirs.
    #[test]
    fn finding_f1_a_variable_stays_with_its_listener() {
        let variable = [("FOREBAY_LISTENER_0_RECEIPTS", "false")];
        let without_a = "[[listener]]\nbind = \"127.0.0.1:2\"\nreceipts = true\n";
        let config = read(AB, without_a, &variable).unwrap();
        assert_eq!(receipts(&config), [(2, true)]);
        let said = config.warnings.to_string();
        assert!(said.contains("FOREBAY_LISTENER_0_RECEIPTS: has no effect: listener 127.0.0.1:1"), "{said}");
        let third = format!("[[listener]]\nbind = \"127.0.0.1:3\"\nreceipts = true\n{AB}");
        let config = read(AB, &third, &variable).unwrap();
        assert_eq!(receipts(&config), [(3, true), (1, false), (2, true)]);
        // A problem still names the variable.
        let said = read(AB, &third, &[("FOREBAY_LISTENER_0_RECEIPTS", "perhaps")]).unwrap_err();
        assert!(said.contains("environment: FOREBAY_LISTENER_0_RECEIPTS: "), "{said}");
    }

    #[test]
    fn finding_f1_a_variable_stays_with_its_sink() {
        let sink = |name: &str| format!("[[sink]]\nname = \"{name}\"\nfilters = \"{name}/#\"\ntopic = \"{name}\"\n");
        let variables = [("FOREBAY_SINK_0_TOPIC", "of-a"), ("FOREBAY_SINK_2_NAME", "c")];
        let more = [("FOREBAY_SINK_2_FILTERS", "c/#"), ("FOREBAY_SINK_2_TOPIC", "of-c")];
        let variables = [variables, more].concat();
        let start = format!("{}{}", sink("a"), sink("b"));
        let topics = |now: &str| -> Vec<String> {
            let config = read(&start, now, &variables).unwrap_or_else(|why| panic!("{why}"));
            config.sinks.iter().map(|sink| format!("{} {:?}", sink.name, sink.topic)).collect()
        };
        let known = topics(&start);
        assert!(known[0].contains("of-a") && known[1].contains("\"b\"") && known[2].contains("of-c"), "{known:?}");
        assert_eq!(topics(&sink("b")), known[1..]);
        // An item that the environment adds stays itself, and takes nothing of items that are added beside it.
        let with_d = topics(&format!("{start}{}", sink("d")));
        assert_eq!((&with_d[..2], &with_d[3]), (&known[..2], &known[2]));
        assert!(with_d[2].contains("\"d\""), "{with_d:?}");
    }

    /// An index is refused if its item cannot be distinguished from others of the same name.
    #[test]
    fn finding_f1_of_several_that_are_called_alike_none_is_guessed() {
        let two = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"127.0.0.1:0\"\nreceipts = true\n";
        let variable = [("FOREBAY_LISTENER_0_RECEIPTS", "false")];
        assert_eq!(receipts(&read(two, two, &variable).unwrap()), [(0, false), (0, true)]);
        let one = "[[listener]]\nbind = \"127.0.0.1:0\"\nreceipts = true\n";
        let said = read(two, one, &variable).unwrap_err();
        assert!(said.contains("FOREBAY_LISTENER_0_RECEIPTS: is for one of 2"), "{said}");
    }

    /// The meaning of the file to the next process is reported before it is written.
    #[test]
    fn finding_f1_what_the_next_start_makes_of_it_is_told() {
        let variables = [("FOREBAY_LISTENER_0_AUTH".to_owned(), Some("none".to_owned()))];
        let bindings = text(AB).bindings();
        let moved = |now: &str| bindings.moved_of(&variables, &text(now));
        assert_eq!(moved(AB), []);
        let b = "[[listener]]\nbind = \"127.0.0.1:2\"\n";
        let said = moved(b);
        assert_eq!(said.len(), 1);
        assert!(!said[0].is_replaced);
        assert_eq!(
            said[0].to_string(),
            "environment: FOREBAY_LISTENER_0_AUTH: is for listener 127.0.0.1:1; at the next start it would be for listener 127.0.0.1:2"
        );
        assert!(moved(&AB.replace(":1\"", ":3\""))[0].is_replaced);
    }
}

//! YAML as a tree of texts with their lines. A value keeps its text; the meaning is left to its reader.

use std::collections::HashSet;

use granit_parser::{Event, Parser, ScalarStyle};

/// The longest file, in bytes.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// `Node` is a value, with its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its contents.
    pub value: Value,
}

/// A node's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value: an empty one, or `null`.
    Null,
    /// A text, number or flag, verbatim.
    Text(String),
    /// Values in their order.
    List(Vec<Node>),
    /// Names in their order, each once.
    Map(Vec<(String, Node)>),
}

/// A problem in words, and its line.
pub(crate) type Wrong = (usize, String);

impl Node {
    /// The value of a name, if the node is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(known, _)| known == name).map(|(_, node)| node)
    }

    /// The text of a name, if it has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list; empty if the node is no list.
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }
}

/// The documents of a text, without those that are empty.
///
/// # Errors
/// The text is not YAML, or has aliases, or names that are no texts.
pub fn documents(text: &str) -> Result<Vec<Node>, Wrong> {
    let mut events = Events(Parser::new_from_str(text));
    let mut documents = Vec::new();
    while let Some((event, line)) = events.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => {
                let node = events.node(event, line)?;
                if node.value != Value::Null {
                    documents.push(node);
                }
            }
        }
    }
    Ok(documents)
}

struct Events<'t>(Parser<'t, granit_parser::StrInput<'t>>);

impl<'t> Events<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, usize)>, Wrong> {
        match self.0.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, span.start.line()))),
            Some(Err(error)) => Err((error.marker().line(), format!("is not YAML: {}", error.info()))),
        }
    }

    fn inner(&mut self, line: usize) -> Result<(Event<'t>, usize), Wrong> {
        self.next()?.ok_or_else(|| (line, "is not YAML: it ends too early".to_owned()))
    }

    /// The node that begins with an event.
    fn node(&mut self, event: Event<'t>, line: usize) -> Result<Node, Wrong> {
        let value = match event {
            Event::Scalar(text, style, ..) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                if is_null { Value::Null } else { Value::Text(text.into_owned()) }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.inner(line)? {
                        (Event::SequenceEnd, _) => break Value::List(items),
                        (event, line) => items.push(self.node(event, line)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries: Vec<(String, Node)> = Vec::new();
                let mut names = HashSet::new();
                loop {
                    let (key, line) = match self.inner(line)? {
                        (Event::MappingEnd, _) => break Value::Map(entries),
                        (event, line) => (self.node(event, line)?, line),
                    };
                    let Value::Text(name) = key.value else { return Err((line, "a name must be a text".to_owned())) };
                    if !names.insert(name.clone()) {
                        return Err((line, format!("{name:?} is given twice")));
                    }
                    let (event, line) = self.inner(line)?;
                    entries.push((name, self.node(event, line)?));
                }
            }
            Event::Alias(..) => {
                return Err((line, "aliases (`*NAME`) are not supported: write the value itself".into()));
            }
            _ => return Err((line, "is not YAML".to_owned())),
        };
        Ok(Node { line, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_keep_their_text() {
        let all = documents(
            "a: 0010\nb: [yes, 'no', 12345678901234567890123]\nc: |\n  one\n  two\nd: ~\n---\n---\nx: 1 # y\n",
        );
        let all = all.expect("YAML");
        assert_eq!(all.len(), 2, "an empty document is none");
        assert_eq!((all[0].text("a"), all[0].text("c"), all[0].text("d")), (Some("0010"), Some("one\ntwo\n"), None));
        let items: Vec<_> = all[0].get("b").expect("it").items().iter().map(|item| item.value.clone()).collect();
        assert_eq!(items, ["yes", "no", "12345678901234567890123"].map(|text| Value::Text(text.to_owned())));
        assert_eq!(
            (all[0].get("c").expect("it").line, all[1].get("x").expect("it").line),
            (4, 9),
            "the first line of a text"
        );
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, line, what) in [
            ("a: 1\n  b: 2\n", 2, "is not YAML"),
            ("a: 1\nb: 2\na: 3\n", 3, "\"a\" is given twice"),
            ("a: &x 1\nb: *x\n", 2, "aliases"),
            ("[a]: 1\n", 1, "a name must be a text"),
            ("a: [1, 2\n", 1, "is not YAML"),
        ] {
            let (at, said) = documents(text).expect_err(text);
            assert!(at == line && said.contains(what), "{text}: {at}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a: \\-\\[\\]{}*&!|>'\"#\n,?%~0]{0,60}") {
            let _ = documents(&text);
        }
    }

    /// Finding Q24: what many names cost grows with their number.
    #[test]
    fn finding_q24_many_names_are_read_in_time() {
        let many = |count: usize| (0..count).map(|n| format!("k{n}: v\n")).collect::<String>();
        let begun = std::time::Instant::now();
        let all = documents(&many(60_000)).expect("YAML");
        assert!(matches!(&all[0].value, Value::Map(entries) if entries.len() == 60_000));
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        let twice = many(10) + "k3: w\n";
        assert_eq!(documents(&twice), Err((11, "\"k3\" is given twice".to_owned())));
    }
}

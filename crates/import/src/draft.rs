//! The configuration under construction. Parts that Forebay refuses stay in it as comments: [`Draft::settle`].

use std::fmt::Write as _;

use toml_edit::{Key, Value};

use super::notes::{Notes, printable};
use forebay_config::{self as config, Problem};

/// The configuration's name in problems.
const NAME: &str = "configuration";
/// Keys without which a block would mean something else: a block without one is turned off.
const ESSENTIAL: [&str; 12] = [
    "name",
    "kafka",
    "topic",
    "mqtt_topic",
    "value",
    "payload",
    "sql",
    "bootstrap",
    "mechanism",
    "username",
    "token_url",
    "client_id",
];
/// Keys that name files which the operator has yet to write.
const AWAITED: [&str; 2] = ["password_file", "client_secret_file"];

/// A key and its value.
#[derive(Debug)]
struct Entry {
    key: String,
    value: Value,
    is_off: bool,
}

/// A table of the configuration.
#[derive(Debug)]
pub(super) struct Block {
    header: String,
    /// The imported object, for notes and the comment above the block.
    about: String,
    entries: Vec<Entry>,
    /// Whether the block is a part of the block before it.
    is_part: bool,
    is_off: bool,
}

impl Block {
    /// A block `[[KIND]]`.
    pub(super) fn listed(kind: &str, about: &str) -> Self {
        Self {
            header: format!("[[{kind}]]"),
            about: about.to_owned(),
            entries: Vec::new(),
            is_part: false,
            is_off: false,
        }
    }

    /// A block `[A.B]`.
    pub(super) fn named(path: &[&str], about: &str) -> Self {
        let path: Vec<String> = path.iter().map(|part| Key::new(*part).to_string()).collect();
        Self { header: format!("[{}]", path.join(".")), ..Self::listed("", about) }
    }

    /// Makes the block a part of the one before it.
    pub(super) fn part(self) -> Self {
        Self { is_part: true, ..self }
    }

    /// Makes a comment of the block.
    pub(super) fn turn_off(&mut self) {
        self.is_off = true;
    }

    pub(super) fn off(self) -> Self {
        Self { is_off: true, ..self }
    }

    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }

    /// Whether the block is a `[kafka.NAME]`, and none of its parts.
    fn is_cluster(&self) -> bool {
        !self.is_part && self.header.starts_with("[kafka.")
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.entries.push(Entry { key: key.to_owned(), value: value.into(), is_off: false });
    }

    /// Sets a text of several lines, unchanged.
    pub(super) fn set_lines(&mut self, key: &str, text: &str) {
        let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
        let literal = text.contains('\n') && text.chars().all(is_plain);
        let value = literal.then(|| format!("'''\n{text}'''").parse::<Value>().ok()).flatten();
        self.set(key, value.filter(|value| value.as_str() == Some(text)).unwrap_or_else(|| text.into()));
    }

    /// Sets the key, if there is a value.
    pub(super) fn set_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key && !entry.is_off)?.value.as_str()
    }

    /// Takes a sink out of the list of a rule.
    fn forget_sink(&mut self, name: &str) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key == "sinks") {
            if let Some(sinks) = entry.value.as_array_mut() {
                sinks.retain(|sink| sink.as_str() != Some(name));
                entry.is_off |= sinks.is_empty();
            }
        }
    }
}

impl Entry {
    fn line(&self) -> String {
        let key = Key::new(self.key.as_str());
        format!("{key} = {}", self.value.to_string().trim())
    }
}

/// The block and the entry that a line of the text belongs to.
type Place = (usize, Option<usize>);

/// The configuration under construction.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) blocks: Vec<Block>,
}

impl Draft {
    /// The text, if Forebay takes all of it.
    ///
    /// # Errors
    /// Refusals of Forebay, one in each line.
    pub(super) fn whole(self) -> Result<String, String> {
        let (text, places) = self.render();
        let Err(problems) = config::parse(&text, NAME) else { return Ok(text) };
        let line = |problem: &Problem| {
            let place = problem.line.checked_sub(1).and_then(|line| places.get(line)).copied().flatten();
            let about = place.and_then(|(at, _)| self.blocks.get(at)).map_or(NAME, |block| &*block.about);
            format!("{about}: {}: {}", problem.key, problem.what)
        };
        let refused: Vec<String> = problems.0.iter().filter(|problem| !is_awaited(problem)).map(line).collect();
        if refused.is_empty() { Ok(text) } else { Err(refused.join("\n")) }
    }

    /// The text. Parts that Forebay would refuse are comments in it, with notes.
    pub(super) fn settle(mut self, notes: &Notes) -> String {
        let text = self.settled(notes);
        let mut clusters = self.blocks.iter().filter(|block| block.is_cluster()).peekable();
        if clusters.peek().is_some() && clusters.all(Block::is_off) {
            notes.add(NAME, "no cluster is left: as it is, the embedded log would take the messages");
        }
        text
    }

    fn settled(&mut self, notes: &Notes) -> String {
        loop {
            let (text, places) = self.render();
            let Err(problems) = config::parse(&text, NAME) else { return text };
            let mut refused = problems.0.iter().filter(|problem| !is_awaited(problem)).peekable();
            if refused.peek().is_none() {
                return text;
            }
            let mut is_less = false;
            for problem in refused {
                let place = problem.line.checked_sub(1).and_then(|line| places.get(line)).copied().flatten();
                is_less |= place.is_some_and(|place| self.turn_off(place, problem, notes));
            }
            // A problem of the whole configuration.
            if !is_less {
                notes.add(NAME, format_args!("all of it is a comment: {problems}"));
                self.blocks.iter_mut().for_each(Block::turn_off);
                return self.render().0;
            }
        }
    }

    /// Makes a comment of the part with a problem. Returns whether anything has changed.
    fn turn_off(&mut self, (at, entry): Place, problem: &Problem, notes: &Notes) -> bool {
        let Some(block) = self.blocks.get_mut(at).filter(|block| !block.is_off) else { return false };
        let why = match &problem.hint {
            Some(hint) => format!("{}; {hint}", problem.what),
            None => problem.what.clone(),
        };
        let optional = entry.and_then(|entry| block.entries.get_mut(entry));
        if let Some(entry) = optional.filter(|entry| !ESSENTIAL.contains(&entry.key.as_str())) {
            let is_less = !std::mem::replace(&mut entry.is_off, true);
            if is_less {
                notes.add(&block.about, format_args!("`{}` is a comment: {why}", entry.line()));
            }
            return is_less;
        }
        notes.add(&block.about, format_args!("{} is a comment: {}: {why}", block.header, problem.key));
        self.turn_off_block(at);
        true
    }

    /// Makes a comment of a block and of its parts. A cluster must not stand without its parts: its login and its TLS.
    fn turn_off_block(&mut self, at: usize) {
        let is_of_cluster = |block: &Block| block.is_part && block.header.starts_with("[kafka.");
        let first =
            (0..=at).rev().find(|at| self.blocks.get(*at).is_some_and(|block| !is_of_cluster(block))).unwrap_or(at);
        let Some((block, rest)) = self.blocks.get_mut(first..).and_then(<[Block]>::split_first_mut) else { return };
        block.turn_off();
        let sink = block.text("name").filter(|_| block.header == "[[sink]]").map(str::to_owned);
        if !block.is_part || first != at {
            rest.iter_mut().take_while(|block| block.is_part).for_each(Block::turn_off);
        }
        if let Some(sink) = sink {
            self.blocks.iter_mut().filter(|block| block.header == "[[rule]]").for_each(|rule| rule.forget_sink(&sink));
        }
    }

    /// The text, and the place of each of its lines.
    fn render(&self) -> (String, Vec<Option<Place>>) {
        let (mut text, mut places) = (String::new(), Vec::new());
        let mut write = |part: &str, is_off: bool, place: Option<Place>| {
            for line in part.split('\n') {
                let _ = writeln!(text, "{}{line}", if is_off { "# " } else { "" });
                places.push(place);
            }
        };
        for (at, block) in self.blocks.iter().enumerate() {
            if at > 0 {
                write("", false, None);
            }
            let about = printable(&block.about).replace('\n', " ");
            write(&format!("# {about}{}", if block.is_off { ": not used" } else { "" }), false, None);
            write(&block.header, block.is_off, Some((at, None)));
            for (number, entry) in block.entries.iter().enumerate() {
                write(&entry.line(), block.is_off || entry.is_off, Some((at, Some(number))));
            }
        }
        (text, places)
    }
}

/// Whether a problem is only that a file with a secret has yet to be written.
fn is_awaited(problem: &Problem) -> bool {
    let key = problem.key.rsplit('.').next().unwrap_or_default();
    problem.key.starts_with("kafka.") && AWAITED.contains(&key)
}

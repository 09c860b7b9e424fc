//! Templates: text with `${variable}` in it, compiled once when the configuration is read, rendered per message.
//!
//! The rules, all of them:
//! - `${topic}`, `${topic[n]}`, `${clientid}`, `${username}`, `${qos}`, `${retain}`, `${payload}`, `${timestamp}`;
//! - what a message does not have (a level beyond its topic's last, a user name that was not given) is the empty string;
//! - `$$` is one `$`, so `$${topic}` is the text `${topic}`; a `$` before anything else stands for itself.
//!
//! The templates that nearly everyone has are `${payload}`, `${topic}` and plain text. For these [`Template::value`]
//! lends the bytes that are already there: nothing is copied and nothing is allocated.

use std::io::Write as _;

/// The highest level that `${topic[n]}` may name: a topic has at most 65,535 bytes [MQTT-1.5.4], so 65,536 levels.
pub const TOPIC_LEVEL_MAX: u32 = 65_535;

/// Names as they stand between `${` and `}`, with what they mean. The documents are made from this table.
pub const VARIABLES: [(&str, &str); 8] = [
    ("topic", "the MQTT topic"),
    ("topic[n]", "level n of the MQTT topic, from 0; empty where the topic has no such level"),
    ("clientid", "the client id, also where the server has given it"),
    ("username", "the user name; empty where none was given"),
    ("qos", "the QoS of the PUBLISH: `0`, `1` or `2`"),
    ("retain", "the RETAIN flag: `true` or `false`"),
    ("payload", "the payload, byte for byte"),
    ("timestamp", "the time of receipt in milliseconds since 1970-01-01 UTC"),
];

/// What a template may say about a message. Everything is borrowed; making one costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct MessageContext<'a> {
    /// Topic name, aliases resolved.
    pub topic: &'a str,
    /// Client id.
    pub client_id: &'a str,
    /// User name of CONNECT, if there was one.
    pub username: Option<&'a str>,
    /// QoS of the PUBLISH: 0, 1, 2.
    pub qos: u8,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// Application message.
    pub payload: &'a [u8],
    /// Time of receipt, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// One thing that a template can put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `${topic}`
    Topic,
    /// `${topic[n]}`
    TopicLevel(u32),
    /// `${clientid}`
    ClientId,
    /// `${username}`
    Username,
    /// `${qos}`
    Qos,
    /// `${retain}`
    Retain,
    /// `${payload}`
    Payload,
    /// `${timestamp}`
    Timestamp,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset in the template's text: where the offending `${` starts.
    pub position: usize,
    /// What is wrong.
    pub what: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// No two texts stand side by side, and none is empty; so literal is "no part, or one text".
    parts: Box<[Part]>,
}

impl Template {
    /// Compiles `text`.
    ///
    /// # Errors
    /// The first thing in it that cannot be understood, with its place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find('$') {
            let dollar = at + found;
            literal.push_str(&text[at..dollar]);
            let rest = &text[dollar + 1..];
            if let Some(body) = rest.strip_prefix('{') {
                let (variable, len) = variable(body, dollar)?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Variable(variable));
                at = dollar + "${".len() + len + "}".len();
            } else {
                literal.push('$');
                at = dollar + if rest.starts_with('$') { "$$".len() } else { "$".len() };
            }
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self { parts: parts.into() })
    }

    /// The text, if there is no variable in it.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The variable, if it is all that there is.
    #[must_use]
    pub fn as_single(&self) -> Option<Variable> {
        match &*self.parts {
            [Part::Variable(variable)] => Some(*variable),
            _ => None,
        }
    }

    /// The texts between the variables, in order; `$$` is already one `$`.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Variable(_) => None,
        })
    }

    /// The bytes for this message: lent where they exist already (plain text, one variable other than `${timestamp}`),
    /// else rendered into `scratch`, which is cleared first.
    pub fn value<'a>(&'a self, message: &MessageContext<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match &*self.parts {
            [] => b"",
            [Part::Text(text)] => text.as_bytes(),
            [Part::Variable(variable)] if *variable != Variable::Timestamp => variable.lent(message),
            _ => {
                scratch.clear();
                self.render(message, scratch);
                scratch
            }
        }
    }

    /// An upper bound of the bytes for this message, without rendering them.
    #[must_use]
    pub fn bytes_max(&self, message: &MessageContext<'_>) -> usize {
        const I64_DIGITS: usize = 20;
        let part = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Variable(Variable::Timestamp) => I64_DIGITS,
            Part::Variable(Variable::TopicLevel(_)) => message.topic.len(),
            Part::Variable(variable) => variable.lent(message).len(),
        };
        self.parts.iter().map(part).sum()
    }

    /// Appends the bytes for this message to `out`.
    pub fn render(&self, message: &MessageContext<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(Variable::Timestamp) => {
                    // A Vec takes whatever it is given: this cannot fail.
                    let _ = write!(out, "{}", message.timestamp_ms);
                }
                Part::Variable(variable) => out.extend_from_slice(variable.lent(message)),
            }
        }
    }
}

impl Variable {
    /// The bytes of every variable that needs no rendering; the timestamp alone does.
    fn lent<'a>(self, message: &MessageContext<'a>) -> &'a [u8] {
        match self {
            Self::Topic => message.topic.as_bytes(),
            Self::TopicLevel(level) => message.topic.split('/').nth(level as usize).unwrap_or_default().as_bytes(),
            Self::ClientId => message.client_id.as_bytes(),
            Self::Username => message.username.unwrap_or_default().as_bytes(),
            Self::Qos => match message.qos {
                0 => b"0",
                1 => b"1",
                _ => b"2",
            },
            Self::Retain => {
                if message.retain {
                    b"true"
                } else {
                    b"false"
                }
            }
            Self::Payload => message.payload,
            Self::Timestamp => b"",
        }
    }
}

/// Reads the variable that stands at the start of `body`, the text behind a `${` at byte `dollar`. Also says how many
/// bytes it took, without the closing brace.
fn variable(body: &str, dollar: usize) -> Result<(Variable, usize), TemplateError> {
    let error = |what: String, hint: Option<String>| TemplateError { position: dollar, what, hint };
    let Some(len) = body.find('}') else {
        let hint = "write `$${` if the text itself is meant".to_owned();
        return Err(error("`${` without a closing `}`".to_owned(), Some(hint)));
    };
    let name = &body[..len];
    let variable = match name {
        "topic" => Variable::Topic,
        "clientid" => Variable::ClientId,
        "username" => Variable::Username,
        "qos" => Variable::Qos,
        "retain" => Variable::Retain,
        "payload" => Variable::Payload,
        "timestamp" => Variable::Timestamp,
        _ => match name.strip_prefix("topic[").and_then(|rest| rest.strip_suffix(']')) {
            Some(index) => topic_level(index).map_err(|what| {
                error(what, Some(format!("levels count from 0 and go to {TOPIC_LEVEL_MAX}, as in `${{topic[1]}}`")))
            })?,
            None => return Err(error(format!("unknown variable `${{{name}}}`"), Some(suggestion(name)))),
        },
    };
    Ok((variable, len))
}

fn topic_level(index: &str) -> Result<Variable, String> {
    if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{index}` is not a topic level"));
    }
    match index.parse() {
        Ok(level) if level <= TOPIC_LEVEL_MAX => Ok(Variable::TopicLevel(level)),
        _ => Err(format!("topic level {index} lies beyond what a topic can have")),
    }
}

/// "did you mean", else the list. Case, `_`, `-` and a path before the name are what people get wrong.
fn suggestion(name: &str) -> String {
    let plain: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let near = VARIABLES
        .iter()
        .map(|(known, _)| (strsim::damerau_levenshtein(&plain, known), *known))
        .filter(|(distance, known)| {
            *distance <= known.len() / 3 || (plain.len() >= 3 && (known.starts_with(&plain) || plain.ends_with(known)))
        })
        .min();
    match near {
        Some((_, known)) => format!("did you mean `${{{known}}}`?"),
        None => {
            let known: Vec<String> = VARIABLES.iter().map(|(known, _)| format!("${{{known}}}")).collect();
            format!("there are {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MESSAGE: MessageContext<'static> = MessageContext {
        topic: "plant/7/temp",
        client_id: "dev-1",
        username: Some("ann"),
        qos: 1,
        retain: true,
        payload: b"\x00\xffraw",
        timestamp_ms: 1_700_000_000_123,
    };

    fn render(template: &str, message: &MessageContext<'_>) -> Vec<u8> {
        let mut out = b"kept:".to_vec();
        Template::parse(template).expect("a template").render(message, &mut out);
        out.split_off(b"kept:".len())
    }

    #[test]
    fn every_variable_renders() {
        for (template, want) in [
            ("", &b""[..]),
            ("plain", b"plain"),
            ("${topic}", b"plant/7/temp"),
            ("${topic[0]}.${topic[1]}.${topic[2]}", b"plant.7.temp"),
            ("${topic[3]}|${topic[65535]}", b"|"),
            ("${clientid}", b"dev-1"),
            ("${username}", b"ann"),
            ("${qos} ${retain}", b"1 true"),
            ("<${payload}>", b"<\x00\xffraw>"),
            ("${timestamp}", b"1700000000123"),
        ] {
            assert_eq!(render(template, &MESSAGE), want, "{template}");
        }
    }

    #[test]
    fn what_is_absent_is_empty() {
        let bare = MessageContext { topic: "a//", username: None, retain: false, qos: 2, ..MESSAGE };
        assert_eq!(render("${username}${retain}${qos}", &bare), b"false2");
        assert_eq!(render("[${topic[0]}][${topic[1]}][${topic[2]}][${topic[3]}]", &bare), b"[a][][][]");
    }

    #[test]
    fn dollars() {
        for (template, want) in [
            ("$SYS/$", &b"$SYS/$"[..]),
            ("$$", b"$"),
            ("$$$", b"$$"),
            ("$${topic}", b"${topic}"),
            ("$$${qos}", b"$1"),
            ("a}b{c", b"a}b{c"),
            ("é${qos}é", "é1é".as_bytes()),
        ] {
            assert_eq!(render(template, &MESSAGE), want, "{template}");
        }
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        for (template, position, what, hint) in [
            ("a${topic", 1, "without a closing", "$${"),
            ("${clientId}", 0, "unknown variable `${clientId}`", "did you mean `${clientid}`?"),
            ("${client_id}", 0, "unknown", "${clientid}"),
            ("é-${key}", 3, "unknown", "there are ${topic}, ${topic[n]}"),
            ("${user}", 0, "unknown", "did you mean `${username}`?"),
            ("${message.payload}", 0, "unknown", "did you mean `${payload}`?"),
            ("${topics}", 0, "unknown", "did you mean `${topic}`?"),
            ("${}", 0, "unknown variable `${}`", "there are"),
            ("${topic[-1]}", 0, "`-1` is not a topic level", "from 0"),
            ("${topic[]}", 0, "`` is not a topic level", "from 0"),
            ("${topic[+1]}", 0, "`+1` is not a topic level", "from 0"),
            ("${topic[65536]}", 0, "topic level 65536 lies beyond", "65535"),
            ("${topic[99999999999999999999]}", 0, "lies beyond", "65535"),
        ] {
            let error = Template::parse(template).expect_err(template);
            assert_eq!(error.position, position, "{template}");
            assert!(error.what.contains(what), "{template}: {}", error.what);
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{template}: {:?}", error.hint);
        }
    }

    #[test]
    fn literal_and_single_lend_without_copying() {
        let mut scratch = Vec::new();
        for (template, lent) in [("${payload}", MESSAGE.payload), ("${topic}", MESSAGE.topic.as_bytes())] {
            let template = Template::parse(template).unwrap();
            assert!(template.as_single().is_some() && template.as_literal().is_none());
            assert!(std::ptr::eq(template.value(&MESSAGE, &mut scratch), lent));
        }
        let literal = Template::parse("fixed$$").unwrap();
        assert_eq!(literal.as_literal(), Some("fixed$"));
        assert!(std::ptr::eq(literal.value(&MESSAGE, &mut scratch), literal.as_literal().unwrap().as_bytes()));
        assert_eq!(Template::parse("").unwrap().as_literal(), Some(""));
        assert_eq!(scratch.capacity(), 0, "nothing of this needs the scratch");
        let mixed = Template::parse("${qos}/${topic}").unwrap();
        assert!(mixed.as_literal().is_none() && mixed.as_single().is_none());
    }

    proptest! {
        /// `value` and `render` agree, whatever the template; what is in the scratch before does not matter.
        #[test]
        fn value_is_render(pieces in proptest::collection::vec(
            prop_oneof![
                Just("${topic}"), Just("${topic[1]}"), Just("${timestamp}"), Just("${payload}"), Just("$$"),
                Just("$"), Just("}"), Just("text"), Just("${qos}"),
            ], 0..6)) {
            let text = pieces.concat();
            // A lone `$` may meet a `{` that a neighbour does not start: then it is an error, and that is fine.
            if let Ok(template) = Template::parse(&text) {
                let mut scratch = b"old".to_vec();
                let mut rendered = Vec::new();
                template.render(&MESSAGE, &mut rendered);
                prop_assert_eq!(template.value(&MESSAGE, &mut scratch), &rendered[..]);
            }
        }

        /// Any text either compiles or says where it does not; never a panic, never a place inside a character.
        #[test]
        fn any_text_is_answered(text in r"[a${}\[\]0-9topicé]{0,24}") {
            if let Err(error) = Template::parse(&text) {
                let there = &text[error.position..];
                prop_assert!(there.starts_with("${"), "{}", there);
            }
        }
    }
}

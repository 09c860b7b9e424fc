//! Templates: text with `${variable}` in it, compiled once when the configuration is read, rendered per message.
//!
//! The rules, all of them:
//! - the variables are in [`VARIABLES`]; `${metadata.name}` and `${env.NAME}` become text when the template is compiled;
//! - a level beyond the topic's last, a user name that was not given and the packet id of QoS 0 are the empty string;
//! - a user property that the message does not have, and a path that leads nowhere in its payload, make rendering fail with
//!   [`Absent`];
//! - a name in a path may be quoted, `${payload.'@iot.id'}`, and may then contain any character, `}` included;
//! - `$$` is one `$`, so `$${topic}` is the text `${topic}`; a `$` before anything else is a literal `$`.
//!
//! The most common templates are `${payload}`, `${topic}` and plain text. For these [`Template::value`] lends existing bytes:
//! nothing is copied and nothing is allocated.

use std::fmt;

use super::json::quoted_len;
use super::variable::Rendered;
pub use super::variable::{Absent, ENVIRONMENT_PREFIX, Fixed, MessageContext, TOPIC_LEVEL_MAX, VARIABLES, Variable};
pub use super::vocabulary::{Named, Vocabulary, Wrong};

/// The reason why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset in the template's text: where the offending `${` starts.
    pub position: usize,
    /// The error.
    pub what: String,
    /// The remedy, if known.
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<V> {
    Text(Box<str>),
    Variable(V),
}

/// A compiled template, over the variables of `V`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateOf<V> {
    /// No two texts are adjacent, and none is empty; so literal is "no part, or one text".
    parts: Box<[Part<V>]>,
}

/// A template over an MQTT message: those of sinks.
pub type Template = TemplateOf<Variable>;

impl<V> Default for TemplateOf<V> {
    fn default() -> Self {
        Self { parts: Box::default() }
    }
}

/// A template of one variable.
impl<V> From<V> for TemplateOf<V> {
    fn from(variable: V) -> Self {
        Self { parts: Box::new([Part::Variable(variable)]) }
    }
}

impl<V: Vocabulary> fmt::Display for TemplateOf<V> {
    /// Writes the template as in the configuration, with text in the place of variables that were fixed when it was compiled.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('$', "$$")),
            Part::Variable(variable) => write!(f, "${{{variable}}}"),
        })
    }
}

impl<V: Vocabulary> TemplateOf<V> {
    /// Compiles `text` without fixed variables.
    ///
    /// # Errors
    /// The first part that cannot be understood, with its place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, &Fixed::NONE)
    }

    /// Compiles `text`; the variables in `fixed` become text.
    ///
    /// # Errors
    /// The first part that cannot be understood, with its place.
    pub fn parse_with(text: &str, fixed: &Fixed<'_>) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find('$') {
            let dollar = at + found;
            literal.push_str(&text[at..dollar]);
            let rest = &text[dollar + 1..];
            if let Some(body) = rest.strip_prefix('{') {
                let name = name::<V>(body, dollar)?;
                match V::named(name, fixed) {
                    Ok(Named::Text(text)) => literal.push_str(&text),
                    Ok(Named::Variable(variable)) => {
                        if !literal.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut literal).into()));
                        }
                        parts.push(Part::Variable(variable));
                    }
                    Err((what, hint)) => return Err(TemplateError { position: dollar, what, hint: Some(hint) }),
                }
                at = dollar + "${".len() + name.len() + "}".len();
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

    /// The text, if the template has no variable.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The template over other variables.
    pub(super) fn map<W>(self, with: impl Fn(V) -> W) -> TemplateOf<W> {
        let part = |part| match part {
            Part::Text(text) => Part::Text(text),
            Part::Variable(variable) => Part::Variable(with(variable)),
        };
        TemplateOf { parts: self.parts.into_iter().map(part).collect() }
    }

    /// Whether every result begins with this text, for any message.
    #[must_use]
    pub fn begins_with(&self, text: &str) -> bool {
        matches!(self.parts.first(), Some(Part::Text(first)) if first.starts_with(text))
    }

    /// The variable, if the template has no other part.
    #[must_use]
    pub fn as_single(&self) -> Option<&V> {
        match &*self.parts {
            [Part::Variable(variable)] => Some(variable),
            _ => None,
        }
    }

    /// The variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(variable) => Some(variable),
        })
    }

    /// The parts of the template in order: `Ok` for a text, `Err` for a variable.
    pub fn shape(&self) -> impl Iterator<Item = Result<&str, &V>> {
        self.parts.iter().map(|part| match part {
            Part::Text(text) => Ok(&**text),
            Part::Variable(variable) => Err(variable),
        })
    }

    /// The texts between the variables, in order; `$$` is already one `$`.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Variable(_) => None,
        })
    }

    /// Appends the bytes for this message, or record, to `out`.
    ///
    /// # Errors
    /// The part that it lacks; `out` is unchanged then.
    pub fn render(&self, context: &V::Context<'_>, out: &mut Vec<u8>) -> Result<(), V::Absent> {
        let start = out.len();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => {
                    if let Err(absent) = variable.write(context, out) {
                        out.truncate(start);
                        return Err(absent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends the bytes for this message, or record; a variable that it lacks is empty.
    pub fn render_all(&self, context: &V::Context<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => drop(variable.write(context, out)),
            }
        }
    }
}

impl Template {
    /// Whether the result may differ between messages of the same client, topic, QoS and flags.
    #[must_use]
    pub fn differs_within_topic(&self) -> bool {
        self.variables().any(Variable::differs_within_topic)
    }

    /// Whether the result depends on the payload.
    #[must_use]
    pub fn reads_payload(&self) -> bool {
        self.variables().any(|variable| matches!(variable, Variable::Payload | Variable::PayloadPath(_)))
    }

    /// Whether the result contains the whole MQTT topic.
    #[must_use]
    pub fn has_whole_topic(&self) -> bool {
        self.variables().any(|variable| matches!(variable, Variable::Topic))
    }

    /// The bytes, if they exist already in the template or the message: plain text, and the variables of the default templates.
    #[must_use]
    #[inline]
    pub fn at_hand<'a>(&'a self, message: &MessageContext<'a>) -> Option<&'a [u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text.as_bytes()),
            [Part::Variable(Variable::Topic)] => Some(message.topic.as_bytes()),
            [Part::Variable(Variable::Payload)] => Some(message.payload),
            _ => None,
        }
    }

    /// The bytes for this message: lent if they exist already (plain text, one variable that is no number), else rendered into
    /// `scratch`, which is cleared first.
    ///
    /// # Errors
    /// The part that the message lacks.
    #[inline]
    pub fn value<'a>(&'a self, message: &MessageContext<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Absent> {
        match self.at_hand(message) {
            Some(bytes) => Ok(bytes),
            None => self.made(message, scratch),
        }
    }

    fn made<'a>(&self, message: &MessageContext<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Absent> {
        scratch.clear();
        if let [Part::Variable(variable)] = &*self.parts {
            match variable.of(message) {
                Ok(Rendered::Lent(bytes)) => return Ok(bytes),
                Ok(rendered) => rendered.write(scratch),
                Err(why) => variable.column(why)?.write(message, scratch)?,
            }
        } else {
            self.render(message, scratch)?;
        }
        Ok(scratch)
    }

    /// An upper bound of the bytes for this message, without rendering them.
    ///
    /// # Errors
    /// The part that the message lacks: the template cannot be rendered.
    #[inline]
    pub fn bytes_max(&self, message: &MessageContext<'_>) -> Result<usize, Absent> {
        self.at_hand(message).map_or_else(|| self.bytes_max_of_parts(message), |bytes| Ok(bytes.len()))
    }

    fn bytes_max_of_parts(&self, message: &MessageContext<'_>) -> Result<usize, Absent> {
        let part = |part: &Part<Variable>| match part {
            Part::Text(text) => Ok(text.len()),
            Part::Variable(variable) => variable.of(message).map(|rendered| rendered.bytes_max()),
        };
        self.parts.iter().map(part).sum()
    }
}

/// The name at the start of `body`, the text after a `${` at byte `dollar`.
fn name<V: Vocabulary>(body: &str, dollar: usize) -> Result<&str, TemplateError> {
    let hint = "write `$${` if the text itself is meant";
    end::<V>(body).map(|end| &body[..end]).ok_or_else(|| TemplateError {
        position: dollar,
        what: "`${` without a closing `}`".to_owned(),
        hint: Some(hint.to_owned()),
    })
}

/// The position of the `}` that closes the name at the start of `body`: not one in a quoted name of a path.
fn end<V: Vocabulary>(body: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let brace = at + body[at..].find('}')?;
        let quote = body[at..brace].find(".'").filter(|_| V::has_path(body));
        let Some(quote) = quote else { return Some(brace) };
        at += quote + ".".len();
        match quoted_len(&body[at..]) {
            Some(len) => at += len,
            // The reader of the path reports the error.
            None => return Some(brace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_mqtt::property::{Properties, Property, PropertyBuf};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MESSAGE: MessageContext<'static> = MessageContext {
        topic: "plant/7/temp",
        client_id: "dev-1",
        username: Some("ann"),
        qos: 1,
        retain: true,
        dup: true,
        packet_id: 65_535,
        payload: b"\x00\xffraw",
        timestamp_ms: 1_700_000_000_123,
        properties: Properties::EMPTY,
        hops: 0,
        copy_of: None,
        output: None,
    };

    fn render(template: &str, message: &MessageContext<'_>) -> Vec<u8> {
        let mut out = b"kept:".to_vec();
        Template::parse(template).expect("a template").render(message, &mut out).expect("nothing is absent");
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
            ("${topic[0..]}|${topic[1..]}|${topic[2..]}", b"plant/7/temp|7/temp|temp"),
            ("${topic[3..]}|${topic[65535..]}", b"|"),
            ("${clientid}", b"dev-1"),
            ("${username}", b"ann"),
            ("${qos} ${retain}", b"1 true"),
            ("<${payload}>", b"<\x00\xffraw>"),
            ("${timestamp}", b"1700000000123"),
            ("${dup} ${packet_id}", b"true 65535"),
            ("${packet_id}", b"65535"),
        ] {
            assert_eq!(render(template, &MESSAGE), want, "{template}");
        }
    }

    #[test]
    fn what_is_absent_is_empty() {
        let bare = MessageContext { topic: "a//", username: None, retain: false, qos: 2, ..MESSAGE };
        assert_eq!(render("${username}${retain}${qos}", &bare), b"false2");
        let qos0 = MessageContext { packet_id: 0, dup: false, ..bare };
        assert_eq!(render("<${packet_id}>${dup}", &qos0), b"<>false");
        assert_eq!(render("[${topic[0]}][${topic[1]}][${topic[2]}][${topic[3]}]", &bare), b"[a][][][]");
    }

    #[test]
    fn user_properties_by_their_first_name_or_not_at_all() {
        let mut properties = PropertyBuf::new();
        properties.extend([
            Property::ContentType("unit"),
            Property::UserProperty("unit", "C"),
            Property::UserProperty("unit", "K"),
            Property::UserProperty("a.b", ""),
        ]);
        let message = MessageContext { properties: properties.as_properties(), ..MESSAGE };
        assert_eq!(render("<${user_properties.unit}${user_properties.a.b}>", &message), b"<C>");
        for text in ["${user_properties.Unit}", "${user_properties.site}", "x${user_properties.a}"] {
            let template = Template::parse(text).unwrap();
            let mut out = b"kept".to_vec();
            assert_eq!(template.render(&message, &mut out), Err(Absent::UserProperty), "{text}");
            assert_eq!(out, b"kept", "{text}");
            assert_eq!(template.bytes_max(&message), Err(Absent::UserProperty), "{text}");
            assert_eq!(template.value(&message, &mut out), Err(Absent::UserProperty), "{text}");
        }
    }

    #[test]
    fn values_out_of_the_payload() {
        let message = MessageContext { payload: br#"{"device":1,"s":"a\"b","o":{"x":[2.50]}}"#, ..MESSAGE };
        assert_eq!(render("device-${payload.device}", &message), b"device-1");
        assert_eq!(render("${payload.s}", &message), b"a\"b");
        assert_eq!(render("${payload.o.x[0]} ${payload.o}", &message), br#"2.50 {"x":[2.50]}"#);
        let mut scratch = b"old".to_vec();
        let string = Template::parse("${payload.s}").unwrap();
        assert_eq!(string.value(&message, &mut scratch), Ok(&b"a\"b"[..]));
        assert!(string.bytes_max(&message).unwrap() >= 3);
        for text in ["${payload.x}", "x${payload.device.y}", "${payload[0]}"] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.bytes_max(&message), Err(Absent::PayloadPath), "{text}");
            assert_eq!(template.value(&message, &mut scratch), Err(Absent::PayloadPath), "{text}");
        }
        assert_eq!(Template::parse("${payload.a}").unwrap().bytes_max(&MESSAGE), Err(Absent::PayloadPath), "not JSON");
    }

    #[test]
    fn finding_k15_names_with_any_character() {
        let message = MessageContext { payload: br#"{"@iot.id":7,"a}b":{"c.'d":8}}"#, ..MESSAGE };
        assert_eq!(render("<${payload.'@iot.id'}>", &message), b"<7>");
        assert_eq!(render("${payload.'a}b'.'c.''d'}${payload.'@iot.id'}}", &message), b"87}");
        for (template, what) in [
            ("x${payload.'a}", "`'a` has no closing quote"),
            ("x${payload.'a'b}", "`b` is no step of a path"),
            ("x${payload.'a", "without a closing"),
        ] {
            let error = Template::parse(template).expect_err(template);
            assert!(error.position == 1 && error.what.contains(what), "{error:?}");
        }
        assert!(Template::parse("${user_properties.it.'s}").is_ok(), "its names are not paths");
    }

    #[test]
    fn what_is_fixed_becomes_text() {
        let environment = BTreeMap::from([("SITE".to_owned(), "${topic}$".to_owned())]);
        let metadata = [("line".to_owned(), "3".to_owned()), ("a.b".to_owned(), String::new())];
        let fixed = Fixed { metadata: &metadata, environment: &environment };
        let parse = |text| Template::parse_with(text, &fixed);
        let literal = parse("<${env.SITE}-${env.FOREBAY_VAR_SITE}-${metadata.line}${metadata.a.b}>").unwrap();
        assert_eq!(literal.as_literal(), Some("<${topic}$-${topic}$-3>"), "taken as it is, not read again");
        assert_eq!(parse("${metadata.line}${qos}").unwrap().texts().collect::<Vec<_>>(), ["3"]);
        for (text, what, hint) in [
            ("é${env.HOME}", "the environment has no FOREBAY_VAR_HOME", "set it before the start"),
            ("é${metadata.x}", "the sink has no metadata `x`", "metadata has line, a.b"),
            ("é${env.}", "no name behind the dot", "`${env.NAME}`"),
            ("é${metadata.}", "no name behind the dot", "`${metadata.NAME}`"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.position == 2 && error.what.contains(what), "{error:?}");
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error:?}");
        }
        let error = Template::parse("${metadata.x}").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("give the sink `metadata = { x = \"...\" }`"));
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
            ("${packetid}", 0, "unknown", "did you mean `${packet_id}`?"),
            ("${user_property.a}", 0, "unknown", "${user_properties.name}"),
            ("${user_properties.}", 0, "has no name behind the dot", "${user_properties.NAME}"),
            ("${payload.}", 0, "`.` does not start with a name", "`${payload.a.b[0]}`"),
            ("${payload[x]}", 0, "`x` is no place in an array", "`${payload.a.b[0]}`"),
            ("${payloads.a}", 0, "unknown", "did you mean `${payload"),
            ("${}", 0, "unknown variable `${}`", "there are"),
            ("${topic[-1]}", 0, "`-1` is not a topic level", "from 0"),
            ("${topic[]}", 0, "`` is not a topic level", "from 0"),
            ("${topic[+1]}", 0, "`+1` is not a topic level", "from 0"),
            ("${topic[..]}", 0, "`` is not a topic level", "`${topic[1..]}`"),
            ("${topic[1...]}", 0, "`1.` is not a topic level", "from 0"),
            ("${topic[65536..]}", 0, "topic level 65536 lies beyond", "65535"),
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
            assert!(std::ptr::eq(template.value(&MESSAGE, &mut scratch).unwrap(), lent));
        }
        let literal = Template::parse("fixed$$").unwrap();
        assert_eq!(literal.as_literal(), Some("fixed$"));
        let lent = literal.value(&MESSAGE, &mut scratch).unwrap();
        assert!(std::ptr::eq(lent, literal.as_literal().unwrap().as_bytes()));
        assert_eq!(Template::parse("").unwrap().as_literal(), Some(""));
        assert_eq!(scratch.capacity(), 0, "nothing of this needs the scratch");
        let mixed = Template::parse("${qos}/${topic}").unwrap();
        assert!(mixed.as_literal().is_none() && mixed.as_single().is_none());
    }

    proptest! {
        /// `value` and `render` agree for every template; earlier contents of the scratch do not matter.
        #[test]
        fn value_is_render(pieces in proptest::collection::vec(
            prop_oneof![
                Just("${topic}"), Just("${topic[1]}"), Just("${topic[1..]}"), Just("${timestamp}"), Just("${payload}"), Just("$$"),
                Just("$"), Just("}"), Just("text"), Just("${qos}"), Just("${dup}"), Just("${packet_id}"),
            ], 0..6)) {
            let text = pieces.concat();
            // A lone `$` may meet a `{` of the next piece: an error is correct then.
            if let Ok(template) = Template::parse(&text) {
                let mut scratch = b"old".to_vec();
                let mut rendered = Vec::new();
                template.render(&MESSAGE, &mut rendered).unwrap();
                prop_assert!(rendered.len() <= template.bytes_max(&MESSAGE).unwrap());
                prop_assert_eq!(template.value(&MESSAGE, &mut scratch).unwrap(), &rendered[..]);
            }
        }

        /// Any text either compiles or gives an error with its place; never a panic, never a place inside a character.
        #[test]
        fn any_text_is_answered(text in r"[a${}\[\]0-9topicé]{0,24}") {
            if let Err(error) = Template::parse(&text) {
                let there = &text[error.position..];
                prop_assert!(there.starts_with("${"), "{}", there);
            }
        }
    }
}

//! Circles: a message that a source publishes, and that a sink writes to a topic of the source, would come back without end. The
//! service at its start, `forebay check` and the API refuse a configuration in which that is possible; a text that a template can
//! yield counts as one that it yields.

use std::collections::VecDeque;

use super::keys::Section;
use super::problem::Fault;
use super::resolve::Document;
use super::resolved::{Bridge, BridgeIn, Feed, Rule, Sink, Source};
use forebay_mqtt::route::filter;
use forebay_rule::around::Environment;
use forebay_rule::column::Column;
use forebay_rule::record::{Field, RecordTemplate};
use forebay_rule::template::{Template, Variable};

/// The most steps of a comparison of two patterns: past the limit they are assumed to have a text in common.
const STEPS_MAX: usize = 1 << 22;

/// The key of a way that dead letters of a bridge open.
const LETTERS: &str = "bridge.dead_letters_topic";

/// A piece of a pattern of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// A wildcard for any text without a slash.
    Level,
    /// A wildcard for any text.
    Any,
}

type Pattern = Vec<Piece>;

/// A way from one source to another, or back to itself.
#[derive(Clone, Debug)]
struct Way {
    to: usize,
    /// The key that opens the way.
    key: &'static str,
    /// The way in words.
    words: String,
}

/// The destinations of sources' messages, other subscribers aside.
#[derive(Clone, Copy)]
pub(super) struct Destinations<'c> {
    pub(super) sinks: &'c [Sink],
    pub(super) rules: &'c [Rule],
    pub(super) bridges: &'c [Bridge],
    /// The variables that rules read by `getenv`.
    pub(super) variables: &'c Environment,
}

/// Reports each circle once, at its first source. `places` are those of the sources in the file.
pub(super) fn check(document: &Document<'_>, sources: &[Source], places: &[usize], to: Destinations<'_>) {
    let ways: Vec<Vec<Way>> = sources.iter().map(|source| ways(source, sources, to)).collect();
    for (at, source) in sources.iter().enumerate() {
        let Some(circle) = circle(&ways, at) else { continue };
        let steps: Vec<&str> = circle.iter().map(|way| way.words.as_str()).collect();
        let what = format!("records of source {} would come back without end: {}", source.name, steps.join("; "));
        let hint = match circle[0].key {
            "feeds" => {
                "let the sink exclude these messages (exclude), write another Kafka topic, or leave \"sinks\" and \"rules\" out of feeds"
            }
            LETTERS => "write the bridge's dead letters to another Kafka topic, one that no source reads",
            "sql" => "let the sink write another Kafka topic, one that no source reads",
            _ => "use a Kafka topic that no source reads",
        };
        // For a topic that a rule reads by name, the rule is decisive.
        let key = match circle[0].key {
            "sql" => "name",
            LETTERS => "feeds",
            key => key,
        };
        let spot = document.spot_in(Section::Source, places[at], key);
        document.source.report(&spot, Fault::new(what).hint(hint));
    }
}

/// The shortest way from a source back to itself, over sources after it in the list.
fn circle(ways: &[Vec<Way>], start: usize) -> Option<Vec<&Way>> {
    let mut from: Vec<Option<(usize, &Way)>> = vec![None; ways.len()];
    let mut next = VecDeque::from([start]);
    while let Some(at) = next.pop_front() {
        for way in ways[at].iter().filter(|way| way.to >= start && from[way.to].is_none()).collect::<Vec<_>>() {
            from[way.to] = Some((at, way));
            next.push_back(way.to);
        }
    }
    let (mut at, last) = from[start]?;
    let mut circle = vec![last];
    while at != start {
        let (before, way) = from[at]?;
        circle.push(way);
        at = before;
    }
    circle.reverse();
    Some(circle)
}

/// The ways of messages from a source.
fn ways(source: &Source, sources: &[Source], to: Destinations<'_>) -> Vec<Way> {
    let mut ways = Vec::new();
    // A source that reads its own dead letters is reported where they are configured.
    if let Some(letters) = &source.dead_letters_topic {
        let readers = read(sources).filter(|(to, cluster, topic)| {
            *cluster == source.cluster && topic == letters && sources[*to].name != source.name
        });
        ways.extend(readers.map(|(to, ..)| {
            let reader = &sources[to].name;
            let words = format!(
                "source {} writes dead letters to Kafka topic {letters}, which source {reader} reads",
                source.name
            );
            Way { to, key: "dead_letters_topic", words }
        }));
    }
    let mut walk = Walk { sources, to, key: "sql", ways, seen: Vec::new() };
    for rule in to.rules.iter().filter(|rule| rule.enabled && rule.names(&source.name)) {
        walk.seen.clear();
        walk.follow_rule(rule, &format!("records of source {}", source.name));
    }
    walk.key = "feeds";
    for (kafka, mqtt) in source.routes().filter_map(|(kafka, mqtt)| Some((kafka, mqtt?))) {
        walk.seen.clear();
        let published = of_record(mqtt, kafka);
        walk.follow(&published, |feed| source.feeds(feed), &format!("messages of {mqtt}"));
    }
    walk.ways
}

/// Each Kafka topic that a source reads: the index of the source, the cluster, the topic.
fn read(sources: &[Source]) -> impl Iterator<Item = (usize, usize, String)> {
    let each = |(to, other): (usize, &Source)| {
        other.routes().map(|(topic, _)| (to, other.cluster, topic.to_owned())).collect::<Vec<_>>()
    };
    sources.iter().enumerate().flat_map(each)
}

/// A walk from the messages of a source to the Kafka topics of sources, through sinks and rules.
struct Walk<'c> {
    sources: &'c [Source],
    to: Destinations<'c>,
    /// The key of the configuration that opens the ways.
    key: &'static str,
    ways: Vec<Way>,
    /// Rules that were followed: a rule is not evaluated for messages of its own.
    seen: Vec<&'c str>,
}

impl<'c> Walk<'c> {
    /// Follows messages with topics of this pattern, wherever they are fed.
    fn follow(&mut self, published: &[Piece], feeds: impl Fn(Feed) -> bool, what: &str) {
        let Destinations { sinks, rules, bridges, .. } = self.to;
        let literal = literal(published);
        let taking = sinks.iter().filter(|sink| takes(sink, published, literal.as_deref()));
        for sink in taking.filter(|_| feeds(Feed::Sinks)) {
            self.lead(sink, &of_message(&sink.topic, literal.as_deref()), what);
        }
        let evaluated = rules.iter().filter(|rule| rule.enabled && reads(rule, published));
        for rule in evaluated.filter(|_| feeds(Feed::Rules)) {
            self.follow_rule(rule, what);
        }
        let goes_out = |bridge: &&Bridge| {
            let mut filters = bridge.outs.iter().flat_map(|out| &out.filters);
            filters.any(|filter| can_match(filter, published))
        };
        for bridge in bridges.iter().filter(goes_out).filter(|_| feeds(Feed::Subscribers)) {
            self.lead_letters(bridge, what);
        }
    }

    /// Adds the ways that a bridge opens by its dead letters: outgoing messages may be refused.
    fn lead_letters(&mut self, bridge: &Bridge, what: &str) {
        let Some(letters) = bridge.dead_letters.as_ref().and_then(|dead| dead.topic.as_deref()) else { return };
        for (to, _, topic) in
            read(self.sources).filter(|(_, cluster, topic)| *cluster == bridge.cluster && topic == letters)
        {
            let words = format!(
                "bridge {} writes {what} that its remote refuses to Kafka topic {topic}, which source {} reads",
                bridge.name, self.sources[to].name
            );
            self.ways.push(Way { to, key: LETTERS, words });
        }
    }

    /// Follows the outputs of a rule for these messages or records.
    fn follow_rule(&mut self, rule: &'c Rule, what: &str) {
        let what = format!("what rule {} makes of {what}", rule.name);
        let fed = self.to.sinks.iter().filter(|sink| rule.sinks.contains(&sink.name));
        for (sink, row) in fed.filter_map(|sink| Some((sink, sink.fed.as_deref()?))) {
            self.lead(sink, &of_output(&row.topic, rule, self.to.variables), &what);
        }
        if self.seen.contains(&rule.name.as_str()) {
            return;
        }
        self.seen.push(&rule.name);
        for made in rule.republish.iter().filter(|made| !made.is_direct) {
            self.follow(&of_output(&made.topic, rule, self.to.variables), |_| true, &what);
        }
    }

    /// Adds the ways that a sink opens by its writes to Kafka topics of this pattern.
    fn lead(&mut self, sink: &Sink, written: &[Piece], what: &str) {
        let sources = self.sources;
        let letters = sink.dead_letters.as_ref().and_then(|dead| dead.topic.as_deref());
        for (to, _, topic) in read(sources).filter(|(_, cluster, _)| *cluster == sink.cluster) {
            if letters == Some(topic.as_str()) || meet(written, &bytes(&topic)) {
                let words = format!(
                    "sink {} can write {what} to Kafka topic {topic}, which source {} reads",
                    sink.name, sources[to].name
                );
                self.ways.push(Way { to, key: self.key, words });
            }
        }
    }
}

/// Whether a rule can get a message with a topic of this pattern.
fn reads(rule: &Rule, published: &[Piece]) -> bool {
    rule.program.as_ref().is_some_and(|program| program.filters().any(|filter| can_match(filter, published)))
}

/// Whether a sink can get a message with a topic of this pattern; `literal`: the topic, if it is known.
fn takes(sink: &Sink, published: &[Piece], literal: Option<&str>) -> bool {
    let is_excluded = |excluded: &String| match literal {
        Some(topic) => filter::matches(excluded, topic),
        None => filter::covers(excluded, &all_below(published)),
    };
    sink.filters.iter().any(|filter| can_match(filter, published)) && !sink.exclude.iter().any(is_excluded)
}

/// A filter that matches all topics of a pattern, and maybe more.
fn all_below(published: &[Piece]) -> String {
    let fixed: Vec<u8> = published.iter().map_while(|piece| piece.byte()).collect();
    let text = String::from_utf8_lossy(&fixed);
    let levels = text.rsplit_once('/').map_or("", |(levels, _)| levels);
    if text.contains('/') { format!("{levels}/#") } else { "#".to_owned() }
}

/// Whether a filter matches a topic of this pattern.
fn can_match(filter: &str, published: &[Piece]) -> bool {
    // A template begins a topic with `$` only in its own text, and a leading wildcard matches no such topic.
    if (published.first() == Some(&Piece::Byte(b'$'))) != filter.starts_with('$') {
        return false;
    }
    // `a/#` also matches `a`.
    let above = filter.strip_suffix("/#").is_some_and(|above| meet(&levels(above), published));
    above || meet(&levels(filter), published)
}

/// The topics that a filter matches, level by level.
fn levels(filter: &str) -> Pattern {
    let mut pattern = Vec::new();
    for (at, level) in filter.split('/').enumerate() {
        pattern.extend((at > 0).then_some(Piece::Byte(b'/')));
        pattern.extend(of_level(level));
    }
    pattern
}

fn of_level(level: &str) -> Pattern {
    match level {
        "+" => vec![Piece::Level],
        "#" => vec![Piece::Any],
        text => bytes(text),
    }
}

/// Whether some sink or rule can get messages of an `in` of a bridge.
pub(super) fn is_taken(of: &BridgeIn, to: Destinations<'_>) -> bool {
    of.takes.filters.iter().any(|filter| {
        let published = of_filter(&of.takes.topic, filter);
        let of_sinks = || to.sinks.iter().any(|sink| takes(sink, &published, None));
        let of_rules = || to.rules.iter().any(|rule| rule.enabled && reads(rule, &published));
        of.feeds(Feed::Sinks) && of_sinks() || of.feeds(Feed::Rules) && of_rules()
    })
}

impl Bridge {
    /// A filter of an `in` and one of an `out`, if the remote sends back by the one what it may get by the other.
    #[must_use]
    pub fn overlap(&self) -> Option<(&str, &str)> {
        let takes = || self.ins.iter().flat_map(|of| &of.takes.filters).map(|filter| &**filter);
        self.outs.iter().find_map(|out| {
            out.filters.iter().find_map(|filter| {
                let sent = of_filter(&out.gives.topic, filter);
                takes().find(|takes| can_match(takes, &sent)).map(|takes| (takes, &**filter))
            })
        })
    }
}

impl Piece {
    const fn byte(self) -> Option<u8> {
        match self {
            Self::Byte(byte) => Some(byte),
            Self::Level | Self::Any => None,
        }
    }

    /// Whether the piece can contain the byte and go on.
    const fn goes_over(self, byte: u8) -> bool {
        match self {
            Self::Byte(_) => false,
            Self::Level => byte != b'/',
            Self::Any => true,
        }
    }
}

fn bytes(text: &str) -> Pattern {
    text.bytes().map(Piece::Byte).collect()
}

/// The only text of a pattern, if it has just one.
fn literal(pattern: &[Piece]) -> Option<String> {
    let bytes: Option<Vec<u8>> = pattern.iter().map(|piece| piece.byte()).collect();
    String::from_utf8(bytes?).ok()
}

/// The texts that a template can render from the records of a Kafka topic.
fn of_record(template: &RecordTemplate, topic: &str) -> Pattern {
    let piece = |part: Result<&str, &Field>| match part {
        Ok(text) => bytes(text),
        Err(Field::Topic) => bytes(topic),
        Err(Field::Partition | Field::Offset | Field::Timestamp | Field::TimestampType) => vec![Piece::Level],
        Err(_) => vec![Piece::Any],
    };
    template.shape().flat_map(piece).collect()
}

/// The texts that a template can render from messages; `topic`: the topic of all of them, if it is known.
fn of_message(template: &Template, topic: Option<&str>) -> Pattern {
    let piece = |part: Result<&str, &Variable>| match (part, topic) {
        (Ok(text), _) => bytes(text),
        (Err(Variable::Topic), Some(topic)) => bytes(topic),
        (Err(Variable::TopicLevel(level)), Some(topic)) => {
            bytes(topic.split('/').nth(*level as usize).unwrap_or_default())
        }
        (Err(Variable::TopicFrom(level)), Some(topic)) => {
            bytes(topic.splitn(*level as usize + 1, '/').nth(*level as usize).unwrap_or_default())
        }
        (Err(_), _) => vec![Piece::Any],
    };
    template.shape().flat_map(piece).collect()
}

/// The texts that a template can render from the outputs of a rule. What the environment says is known.
fn of_output(template: &Template, rule: &Rule, variables: &Environment) -> Pattern {
    let fixed = |column: &Column| rule.program.as_ref()?.fixed(column.plain()?, variables);
    let piece = |part: Result<&str, &Variable>| match part {
        Ok(text) => bytes(text),
        Err(Variable::Column(column)) => fixed(column).map_or(vec![Piece::Any], |text| bytes(&text)),
        Err(_) => vec![Piece::Any],
    };
    template.shape().flat_map(piece).collect()
}

/// The topics that a template can render from messages that a filter matches.
fn of_filter(template: &Template, filter: &str) -> Pattern {
    let piece = |part: Result<&str, &Variable>| match part {
        Ok(text) => bytes(text),
        Err(Variable::Topic) => levels(filter),
        Err(Variable::TopicLevel(level)) => filter.split('/').nth(*level as usize).map_or(vec![Piece::Any], of_level),
        Err(_) => vec![Piece::Any],
    };
    template.shape().flat_map(piece).collect()
}

/// Whether two patterns have a text in common.
fn meet(one: &[Piece], other: &[Piece]) -> bool {
    let width = other.len() + 1;
    if (one.len() + 1).saturating_mul(width) > STEPS_MAX {
        return true;
    }
    let mut seen = vec![false; (one.len() + 1) * width];
    let mut next = vec![(0, 0)];
    while let Some((a, b)) = next.pop() {
        if std::mem::replace(&mut seen[a * width + b], true) {
            continue;
        }
        match (one.get(a).copied(), other.get(b).copied()) {
            (None, None) => return true,
            (Some(Piece::Byte(x)), Some(Piece::Byte(y))) => next.extend((x == y).then_some((a + 1, b + 1))),
            (left, right) => {
                // The overlap of two wildcards may be empty, so each byte belongs to one of the texts.
                for (wild, byte, past, over) in
                    [(left, right, (a + 1, b), (a, b + 1)), (right, left, (a, b + 1), (a + 1, b))]
                {
                    let Some(wild) = wild.filter(|piece| piece.byte().is_none()) else { continue };
                    next.push(past);
                    next.extend(byte.and_then(Piece::byte).filter(|byte| wild.goes_over(*byte)).map(|_| over));
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_rule::record::{Encoded, Encoding, Record, TimestampType};
    use proptest::prelude::*;

    /// The text that a template renders from a record of topic `k` with this key.
    fn made(template: &RecordTemplate, key: &str) -> String {
        let record = Record {
            topic: "k",
            partition: 7,
            offset: 0,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key: Some(key.as_bytes()),
            value: None,
            headers: forebay_record::Headers::default(),
        };
        let mut out = Vec::new();
        template.render_all(&Encoded { record: &record, key: Encoding::None, value: Encoding::None }, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn long_patterns_are_taken_to_meet() {
        let long = bytes(&"a".repeat(4_096));
        assert!(meet(&long, &bytes(&"b".repeat(4_096))));
        assert!(!meet(&long[..1_000], &bytes(&"b".repeat(1_000))));
    }

    proptest! {
        /// A filter that matches a rendered text can match the template, whatever the record; one that excludes all texts below it
        /// matches it; and two patterns meet in any text that both have.
        #[test]
        fn what_is_made_is_matched(
            pieces in proptest::collection::vec(prop::sample::select(vec!["a", "b", "/", "${key}", "${topic}", "${partition}", "$$"]), 1..6),
            filter in "(a|b|k|7|\\+|\\$)(/(a|b|k|7|\\+)){0,3}(/#)?",
            key in "[abk7/]{0,5}",
        ) {
            let template = RecordTemplate::parse(&pieces.concat()).expect("a template");
            let topic = made(&template, &key);
            let pattern = of_record(&template, "k");
            prop_assert!(meet(&pattern, &bytes(&topic)), "{} {}", template, topic);
            // A record's own `$` at the start makes no topic.
            prop_assume!(!topic.is_empty() && (!topic.starts_with('$') || template.begins_with("$")));
            if filter::matches(&filter, &topic) {
                prop_assert!(can_match(&filter, &pattern), "{} {} {}", filter, template, topic);
            }
            if !topic.starts_with('$') {
                prop_assert!(filter::matches(&all_below(&pattern), &topic), "{} {}", all_below(&pattern), topic);
            }
        }

        /// Two patterns meet if and only if some short text fits both.
        #[test]
        fn patterns_meet_where_a_text_fits_both(one in pattern(), other in pattern()) {
            let texts = texts(6);
            let fits = |pattern: &[Piece], text: &str| meet(pattern, &bytes(text));
            let found = texts.iter().any(|text| fits(&one, text) && fits(&other, text));
            // Two patterns of three pieces that meet do so in a text of at most six bytes.
            prop_assert_eq!(meet(&one, &other), found, "{:?} {:?}", one, other);
        }
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let piece = prop::sample::select(vec![Piece::Byte(b'a'), Piece::Byte(b'/'), Piece::Level, Piece::Any]);
        proptest::collection::vec(piece, 0..4)
    }

    /// All texts of `a` and `/` of at most this many bytes.
    fn texts(most: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut longest = all.clone();
        for _ in 0..most {
            longest = longest.iter().flat_map(|text| ["a", "/"].map(|more| format!("{text}{more}"))).collect();
            all.extend(longest.clone());
        }
        all
    }
}

//! The filters of all sinks as one trie over topic levels, with one lookup for each PUBLISH.
//!
//! The walk goes down by literal and `+` edges, and if an edge leads nowhere it climbs by the parent link and takes the next one.
//! The node has the edge that led to it, and the start of a level follows from the topic itself, so the walk needs no stack: no
//! recursion, no allocation, for any number of levels. A node is entered at most once for a topic, so the cost is bounded by the
//! trie and not by two to the number of wildcards.

use smallvec::SmallVec;

use super::filter::{self, FilterError};

/// Index into [`SinkRouter::nodes`].
type NodeId = u32;

const ROOT: NodeId = 0;
const NONE: NodeId = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    parent: NodeId,
    /// Whether the edge from the parent is `+`.
    by_plus: bool,
    /// Child for `+`, or [`NONE`].
    plus: NodeId,
    /// Children for literal levels, sorted.
    literal: Vec<(Box<str>, NodeId)>,
    /// Sinks with a filter that ends here, sorted.
    here: SmallVec<[u16; 4]>,
    /// Sinks with a filter that ends here in `#`, sorted.
    hash: SmallVec<[u16; 4]>,
}

/// Answers which sinks take a topic.
#[derive(Clone, Debug)]
pub struct SinkRouter {
    nodes: Vec<Node>,
    /// The choice between sinks, if some sink does not take all that its filters match.
    choice: Option<Box<Choice>>,
}

/// An invalid filter, and the sink that it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter `{filter}`: {error}")]
pub struct RouteError {
    /// The sink's number, as given to [`SinkRouter::build`].
    pub sink: u16,
    /// The text.
    pub filter: String,
    /// The error of the filter.
    pub error: FilterError,
}

impl SinkRouter {
    /// Builds the trie: for each sink its filters and its number, which is its place in the configuration.
    ///
    /// # Errors
    /// The first text that is not a topic filter.
    pub fn build<F: AsRef<str>>(sinks: &[(Vec<F>, u16)]) -> Result<Self, RouteError> {
        let mut router = Self { nodes: vec![Node::new(NONE, false)], choice: None };
        for (filters, sink) in sinks {
            for filter in filters {
                let filter = filter.as_ref();
                filter::validate(filter).map_err(|error| RouteError {
                    sink: *sink,
                    filter: filter.to_owned(),
                    error,
                })?;
                router.insert(filter, *sink);
            }
        }
        Ok(router)
    }

    /// Takes topics away from sinks even though their filters match: those that a filter in `exclude` matches, and from the sinks
    /// in `fallback` those that any other sink takes.
    ///
    /// # Errors
    /// The first text that is not a topic filter.
    pub fn choosing<F: AsRef<str>>(
        mut self,
        exclude: &[(Vec<F>, u16)],
        mut fallback: Vec<u16>,
    ) -> Result<Self, RouteError> {
        let exclude =
            exclude.iter().any(|(filters, _)| !filters.is_empty()).then(|| Self::build(exclude)).transpose()?;
        fallback.sort_unstable();
        self.choice = (exclude.is_some() || !fallback.is_empty())
            .then(|| Box::new(Choice { exclude, fallback: fallback.into() }));
        Ok(self)
    }

    /// Puts the sinks that take `topic` into `out` (cleared first): each once, in the order of the configuration.
    #[inline]
    pub fn matches(&self, topic: &str, out: &mut SmallVec<[u16; 4]>) {
        self.find(topic, out);
        if let Some(choice) = &self.choice {
            choice.apply(topic, out);
        }
    }

    /// Adds the sinks with a filter that matches to `out`.
    fn find(&self, topic: &str, out: &mut SmallVec<[u16; 4]>) {
        out.clear();
        let mut walk = Walk { topic, start: 0 };
        let mut at = ROOT;
        loop {
            at = match self.descend(at, &mut walk, out) {
                Some(child) => child,
                None => match self.climb(at, &mut walk) {
                    Some(next) => next,
                    None => return,
                },
            };
        }
    }

    /// Enters a node for the first time: takes its sinks, and returns the first child that the next level leads to.
    fn descend(&self, at: NodeId, walk: &mut Walk<'_>, out: &mut SmallVec<[u16; 4]>) -> Option<NodeId> {
        let node = &self.nodes[at as usize];
        // A leading wildcard does not reach the server's own topics [MQTT-4.7.2-1].
        let wildcards = at != ROOT || !walk.topic.starts_with('$');
        if wildcards {
            merge(out, &node.hash);
        }
        let Some(level) = walk.level() else {
            merge(out, &node.here);
            return None;
        };
        let child = match node.child(level) {
            Some(child) => child,
            None if wildcards && node.plus != NONE => node.plus,
            None => return None,
        };
        walk.down(level);
        Some(child)
    }

    /// Goes up to the next `+` edge that has not been taken, and takes it.
    fn climb(&self, mut at: NodeId, walk: &mut Walk<'_>) -> Option<NodeId> {
        while at != ROOT {
            let node = &self.nodes[at as usize];
            let parent = &self.nodes[node.parent as usize];
            let level = walk.up();
            let wildcards = node.parent != ROOT || !walk.topic.starts_with('$');
            if !node.by_plus && wildcards && parent.plus != NONE {
                walk.down(level);
                return Some(parent.plus);
            }
            at = node.parent;
        }
        None
    }

    fn insert(&mut self, filter: &str, sink: u16) {
        let mut at = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                return merge(&mut self.nodes[at as usize].hash, &[sink]);
            }
            at = self.child_or_new(at, level);
        }
        merge(&mut self.nodes[at as usize].here, &[sink]);
    }

    fn child_or_new(&mut self, at: NodeId, level: &str) -> NodeId {
        let new = NodeId::try_from(self.nodes.len()).expect("fewer than 2^32 levels in a configuration");
        let node = &mut self.nodes[at as usize];
        let plus = level == "+";
        if plus {
            if node.plus != NONE {
                return node.plus;
            }
            node.plus = new;
        } else {
            match node.literal.binary_search_by(|(name, _)| (**name).cmp(level)) {
                Ok(found) => return node.literal[found].1,
                Err(place) => node.literal.insert(place, (level.into(), new)),
            }
        }
        self.nodes.push(Node::new(at, plus));
        new
    }
}

/// The bit that the number of a rule has and those of sinks have not. A rule has filters; `exclude` and `fallback` are for sinks.
pub const RULE: u16 = 1 << 15;

/// The selection of the sinks that take a topic among those with a matching filter.
#[derive(Clone, Debug)]
struct Choice {
    /// Filters of topics that a sink does not take.
    exclude: Option<SinkRouter>,
    /// Sinks that take topics of no other sink, sorted.
    fallback: Box<[u16]>,
}

impl Choice {
    #[inline(never)]
    fn apply(&self, topic: &str, out: &mut SmallVec<[u16; 4]>) {
        if let Some(exclude) = self.exclude.as_ref().filter(|_| !out.is_empty()) {
            let mut excluded = SmallVec::new();
            exclude.find(topic, &mut excluded);
            out.retain(|sink| excluded.binary_search(sink).is_err());
        }
        let is_fallback = |sink: &u16| self.fallback.binary_search(sink).is_ok();
        // A rule takes nothing away from a sink.
        if out.iter().any(|sink| *sink & RULE == 0 && !is_fallback(sink)) {
            out.retain(|sink| !is_fallback(sink));
        }
    }
}

impl Node {
    fn new(parent: NodeId, by_plus: bool) -> Self {
        Self { parent, by_plus, plus: NONE, literal: Vec::new(), here: SmallVec::new(), hash: SmallVec::new() }
    }

    fn child(&self, level: &str) -> Option<NodeId> {
        match &*self.literal {
            [] => None,
            [(name, child)] => (**name == *level).then_some(*child),
            many => many.binary_search_by(|(name, _)| (**name).cmp(level)).ok().map(|found| many[found].1),
        }
    }
}

/// The position of the walk in the topic: the byte at which the next level starts. One past the length plus one slash when all
/// levels are used up, so that going up is the exact reverse of going down.
struct Walk<'a> {
    topic: &'a str,
    start: usize,
}

impl<'a> Walk<'a> {
    /// The next level, if there is one. An empty one counts: `a/` has two.
    fn level(&self) -> Option<&'a str> {
        let rest = self.topic.get(self.start..)?;
        Some(&rest[..rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len())])
    }

    /// Passes `level`, and its slash.
    fn down(&mut self, level: &str) {
        self.start += level.len() + 1;
    }

    /// Back to the start of the level that was left last; gives that level.
    fn up(&mut self) -> &'a str {
        let used = &self.topic[..self.start - 1];
        self.start = used.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1);
        &used[self.start..]
    }
}

/// Inserts each of `more` into the sorted `out`, unless it is there.
fn merge(out: &mut SmallVec<[u16; 4]>, more: &[u16]) {
    for sink in more {
        match out.last() {
            Some(last) if last >= sink => {
                if let Err(place) = out.binary_search(sink) {
                    out.insert(place, *sink);
                }
            }
            _ => out.push(*sink),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn router(sinks: &[&[&str]]) -> SinkRouter {
        let sinks: Vec<_> = sinks.iter().zip(0..).map(|(filters, number)| (filters.to_vec(), number)).collect();
        SinkRouter::build(&sinks).expect("valid filters")
    }

    fn ask(router: &SinkRouter, topic: &str) -> Vec<u16> {
        let mut out = SmallVec::from_slice(&[77]);
        router.matches(topic, &mut out);
        out.to_vec()
    }

    #[test]
    fn each_sink_once_in_order() {
        let router = router(&[&["+/b", "a/+", "#"], &["x"], &["a/#", "a/b"], &["a/b/#"], &["$SYS/#", "+/+/c"]]);
        assert_eq!(ask(&router, "a/b"), [0, 2, 3]);
        assert_eq!(ask(&router, "a"), [0, 2]);
        assert_eq!(ask(&router, "x"), [0, 1]);
        assert_eq!(ask(&router, "a/b/c"), [0, 2, 3, 4]);
        assert_eq!(ask(&router, "$SYS"), [4]);
        assert_eq!(ask(&router, "$SYS/b"), [4]);
        assert_eq!(ask(&router, "$SYS/b/c"), [4]);
        assert!(ask(&router, "$other/b").is_empty());
        assert!(ask(&SinkRouter::build::<&str>(&[]).unwrap(), "a").is_empty());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = SinkRouter::build(&[(vec!["a"], 0), (vec!["b", "c#"], 1)]).unwrap_err();
        assert_eq!(error, RouteError { sink: 1, filter: "c#".to_owned(), error: FilterError::HashNotAlone });
        assert_eq!(error.to_string(), "filter `c#`: `#` must stand alone in its level: `a/#`");
    }

    #[test]
    fn finding_k15_excluded_topics_and_what_no_other_sink_takes() {
        let router = router(&[&["plant/#"], &["plant/+/alarm", "x"], &["#"], &["plant/#"]]);
        let exclude = [(vec!["plant/+/debug", "plant/9/#"], 0), (vec![], 1)];
        let router = router.choosing(&exclude, vec![3, 2]).unwrap();
        assert_eq!(ask(&router, "plant/1/temp"), [0]);
        assert_eq!(ask(&router, "plant/1/alarm"), [0, 1]);
        assert_eq!(ask(&router, "plant/1/debug"), [2, 3], "what is excluded is not taken");
        assert_eq!(ask(&router, "plant/9/alarm"), [1]);
        assert_eq!(ask(&router, "plant/9/temp"), [2, 3]);
        assert_eq!(ask(&router, "x"), [1]);
        assert_eq!(ask(&router, "y"), [2]);
        assert!(ask(&router, "$SYS/a").is_empty());
        let error = router.choosing(&[(vec!["a#"], 7)], Vec::new()).unwrap_err();
        assert_eq!((error.sink, error.filter.as_str()), (7, "a#"));
    }

    /// The longest possible topic, and filters that make the walk turn back from its very end: this would take minutes if
    /// backtracking were exponential, and overflow the stack if it were recursive.
    #[test]
    fn sixty_five_thousand_levels() {
        let slashes = "/".repeat(65_535);
        let pluses = vec!["+"; 32_768].join("/");
        let near_miss = format!("{}x", "/".repeat(65_534));
        let router = router(&[&[&slashes], &[&pluses], &[&near_miss], &["/+/#"]]);
        assert_eq!(ask(&router, &slashes), [0, 3]);
        assert_eq!(ask(&router, &"/".repeat(32_767)), [1, 3]);
        assert_eq!(ask(&router, &near_miss), [2, 3]);
    }

    /// Every level both ways: all 1,024 filters match, each through a path of its own.
    #[test]
    fn wildcards_and_literals_side_by_side() {
        let filters: Vec<String> = (0..1u32 << 10)
            .map(|bits| (0..10).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect::<Vec<_>>().join("/"))
            .collect();
        let sinks: Vec<_> = filters.iter().zip(0..).map(|(filter, number)| (vec![filter.as_str()], number)).collect();
        let router = SinkRouter::build(&sinks).unwrap();
        assert_eq!(ask(&router, "a/a/a/a/a/a/a/a/a/a").len(), 1 << 10);
        assert_eq!(ask(&router, "a/a/a/a/a/a/a/a/a/b").len(), 1 << 9);
        assert!(ask(&router, "a/a/a/a/a/a/a/a/a").is_empty());
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("aa"), Just(""), Just("$a"), Just("é")]
    }

    fn filter() -> impl Strategy<Value = String> {
        let body = proptest::collection::vec(prop_oneof![3 => level(), 2 => Just("+")], 0..5);
        (body, any::<bool>()).prop_filter_map("a filter", |(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            let filter = levels.join("/");
            filter::validate(&filter).is_ok().then_some(filter)
        })
    }

    fn topic() -> impl Strategy<Value = String> {
        proptest::collection::vec(level(), 1..6).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn agrees_with_the_plain_rule(
            sinks in proptest::collection::vec(proptest::collection::vec(filter(), 0..4), 0..12),
            exclude in proptest::collection::vec(proptest::collection::vec(filter(), 0..3), 12),
            fallback in proptest::collection::vec(proptest::bool::weighted(0.3), 12),
            topics in proptest::collection::vec(topic(), 1..8),
        ) {
            let sinks: Vec<_> = sinks.into_iter().zip(0..).collect();
            let exclude: Vec<_> = exclude.into_iter().zip(0..).take(sinks.len()).collect();
            let is_fallback = |sink: u16| fallback[usize::from(sink)];
            let router = SinkRouter::build(&sinks).unwrap();
            let last: Vec<u16> = sinks.iter().map(|(_, number)| *number).filter(|sink| is_fallback(*sink)).collect();
            let choosing = router.clone().choosing(&exclude, last).unwrap();
            for topic in topics {
                let matches = |(filters, _): &&(Vec<String>, u16)| filters.iter().any(|filter| filter::matches(filter, &topic));
                let plain: Vec<u16> = sinks.iter().filter(matches).map(|(_, number)| *number).collect();
                prop_assert_eq!(&ask(&router, &topic), &plain, "{}", topic);
                let not: Vec<u16> = exclude.iter().filter(matches).map(|(_, number)| *number).collect();
                let taken: Vec<u16> = plain.into_iter().filter(|sink| !not.contains(sink)).collect();
                let others: Vec<u16> = taken.iter().copied().filter(|sink| !is_fallback(*sink)).collect();
                let chosen = if others.is_empty() { taken } else { others };
                prop_assert_eq!(ask(&choosing, &topic), chosen, "{}", topic);
            }
        }
    }
}

//! The rules of a shard: the rules evaluated for a message, the sinks that each rule feeds, and the outcomes.

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use forebay_base::rules::Rules as Guarantees;
use forebay_broker::here::Here;
use forebay_broker::words::{DROPPED, REJECTED, clipped, of_client, second};
use forebay_config::{Config, OnError, Republish, Rule, Source};
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::RuleMetric as M;
pub(super) use forebay_mqtt::route::trie::RULE;
use forebay_rule::arena::Arena;
use forebay_rule::around::Machine;
use forebay_rule::event::{Event, EventSet};
use forebay_rule::failure::{Code, Failure};
use forebay_rule::program::{Program, from_text};
use forebay_runtime::seam::Monotonic;
use forebay_session::ClientKey;

use super::console::Console;
use super::members::Members;
use super::outlets::Outlets;
use super::sinks::{self, Plan};

/// The fate of a message that becomes a dead letter.
const DEAD_LETTER: &str = "dead_letter";

/// The reason why a message that a rule makes is dropped.
const LOOP: &str = "loop: it comes from eight rules already, one after the other";

/// All rules of a configuration, and the memory in which they are evaluated.
#[derive(Debug)]
pub(super) struct Rules {
    /// The plans, by the rule's index in the configuration. `None`: the statement does not compile, which no configuration has.
    pub(super) plans: Vec<Option<RulePlan>>,
    /// The plan of each sink for rows that rules feed, by the sink's index in the configuration.
    pub(super) fed: Vec<Option<Plan>>,
    /// Whether some rule publishes messages.
    pub(super) republish: bool,
    /// The rules that name each source, by the source's place in the configuration.
    pub(super) sources: Vec<Option<Arc<OfSource>>>,
    /// The rules that name each event, by the event's number.
    pub(super) events: Vec<SmallVec<[u16; 2]>>,
    pub(super) arena: Arena,
    pub(super) machine: Arc<Machine>,
    pub(super) console: Console,
    pub(super) guarantees: &'static dyn Guarantees,
    /// The generator of message numbers, and of the seed of `random`.
    pub(super) random: fastrand::Rng,
    /// The most memory that the rows of one message may take, by cluster: more would hold up all others, or never find room.
    pub(super) memory_max: Vec<usize>,
    /// The most bytes that these rows may take in the disk buffer.
    pub(super) spool_max: usize,
}

/// A rule, ready for messages.
#[derive(Debug)]
pub(super) struct RulePlan {
    pub(super) program: Arc<Program>,
    /// Indexes of its sinks in the configuration. [`u16::MAX`]: the sink does not exist.
    pub(super) sinks: SmallVec<[u16; 2]>,
    pub(super) republish: Vec<Republish>,
    pub(super) on_error: OnError,
    /// The first of its sinks that has dead letters.
    pub(super) letters: Option<u16>,
    /// Whether its outputs are printed.
    pub(super) console: bool,
}

/// The rules that name a source.
#[derive(Debug)]
pub(super) struct OfSource {
    /// Their numbers for the router.
    pub(super) rules: SmallVec<[u16; 2]>,
    /// `event` of the source's records.
    pub(super) event: String,
}

/// The outcome of a rule for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed(u32),
    Filtered,
    Failed(Failure),
}

/// The outcomes of one message, by the rules' places in the configuration, and comparisons of different types in each.
pub(super) type Outcomes = SmallVec<[(u16, Outcome, u32); 2]>;

impl Rules {
    /// The rules of a configuration. `None`: it has none. A rule that is not enabled, or was removed, has an index and matches nothing.
    pub(super) fn of<'a>(
        config: &Config,
        members: impl Fn(usize) -> &'a Members,
        (machine, guarantees): (&Arc<Machine>, &'static dyn Guarantees),
        seed: impl FnOnce() -> u64,
    ) -> Option<Box<Self>> {
        if config.rules.is_empty() {
            return None;
        }
        let place = |name: &String| {
            let found = config.sinks.iter().position(|sink| sink.name == *name && !sink.is_removed);
            found.and_then(|place| u16::try_from(place).ok())
        };
        let plan = |rule: &forebay_config::Rule| {
            let sinks: SmallVec<[u16; 2]> = rule.sinks.iter().map(|name| place(name).unwrap_or(u16::MAX)).collect();
            let sink = |sink: &u16| config.sinks.get(usize::from(*sink));
            let has_letters = |place: &u16| sink(place).is_some_and(|sink| sink.dead_letters.is_some());
            let letters = sinks.iter().copied().find(has_letters);
            let program = rule.program.clone()?;
            Some(RulePlan {
                program,
                sinks,
                republish: rule.republish.clone(),
                on_error: rule.on_error,
                letters,
                console: rule.console && config.log.payloads,
            })
        };
        let shards = config.service.shards.max(1) as u64;
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let spool_max = config.spool.map_or(u64::MAX, |spool| (spool.segment_bytes / 8).min(spool.sink_bytes_max));
        Some(Box::new(Self {
            plans: config.rules.iter().map(plan).collect(),
            fed: sinks::fed_plans(config, members),
            republish: config.rules.iter().any(|rule| !rule.republish.is_empty()),
            sources: config.sources.iter().map(|source| of_source(config, source)).collect(),
            events: Event::ALL.iter().map(|event| of_event(config, *event)).collect(),
            arena: Arena::new(),
            machine: Arc::clone(machine),
            console: Console::default(),
            guarantees,
            random: fastrand::Rng::with_seed(seed()),
            memory_max: config.clusters.iter().map(|cluster| bytes(cluster.buffer_bytes / shards / 4)).collect(),
            spool_max: bytes(spool_max),
        }))
    }

    /// The filters of each rule that is evaluated, with its number for the router.
    pub(super) fn filters(config: &Config) -> impl Iterator<Item = (Vec<&str>, u16)> {
        let in_force = |rule: &forebay_config::Rule| rule.enabled && !rule.is_removed;
        (RULE..).zip(&config.rules).filter(move |(_, rule)| in_force(rule)).map(|(number, rule)| {
            let filters = rule.program.as_ref().map(|program| program.filters().collect());
            (filters.unwrap_or_default(), number)
        })
    }

    /// Events that some rule names.
    pub(super) fn wanted_events(&self) -> EventSet {
        let mut wanted = EventSet::default();
        let named = Event::ALL.iter().zip(&self.events).filter(|(_, rules)| !rules.is_empty());
        named.for_each(|(event, _)| wanted.add(*event));
        wanted
    }

    /// A rule by its place in the configuration.
    pub(super) fn plan(&self, rule: u16) -> Option<&RulePlan> {
        self.plans.get(usize::from(rule))?.as_ref()
    }

    /// Whether rules feed a sink.
    pub(super) fn feed(&self, sink: u16) -> bool {
        matches!(self.fed.get(usize::from(sink)), Some(Some(_)))
    }

    /// The name of a rule.
    pub(super) fn name(&self, rule: u16) -> Option<&str> {
        self.plan(rule).map(|plan| plan.program.name())
    }
}

/// Numbers for the router of the rules that name an event.
fn of_event(config: &Config, event: Event) -> SmallVec<[u16; 2]> {
    let names_it = |rule: &Rule| rule.program.as_ref().is_some_and(|program| program.events().contains(&event));
    let in_force = |rule: &Rule| rule.enabled && !rule.is_removed;
    let rules = (RULE..).zip(&config.rules).filter(|(_, rule)| in_force(rule) && names_it(rule));
    rules.map(|(number, _)| number).collect()
}

fn of_source(config: &Config, source: &Source) -> Option<Arc<OfSource>> {
    let numbers = config.rules_of(source).filter_map(|(place, _)| u16::try_from(place).ok());
    let rules: SmallVec<[u16; 2]> = numbers.map(|number| number | RULE).collect();
    (!rules.is_empty()).then(|| Arc::new(OfSource { rules, event: from_text(&source.name) }))
}

/// An address for rules, with its port and without.
pub(super) struct Address {
    text: [u8; 64],
    host: usize,
    len: usize,
}

impl Address {
    pub(super) fn of(address: SocketAddr) -> Self {
        use std::io::Write as _;
        let mut made = Self { text: [0; 64], host: 0, len: 0 };
        let mut rest = &mut made.text[..];
        // No address is longer.
        let _ = write!(rest, "{address}");
        made.len = 64 - rest.len();
        let port = made.text[..made.len].iter().rposition(|byte| *byte == b':').unwrap_or(made.len);
        made.host = port;
        made
    }

    pub(super) fn host(&self) -> &str {
        std::str::from_utf8(&self.text[..self.host]).unwrap_or_default().trim_matches(['[', ']'])
    }

    pub(super) fn whole(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }
}

impl Outlets {
    /// Drops the outcomes of rules for a message that was not taken.
    #[cold]
    pub(super) fn forget_outcomes(&mut self) {
        self.workspace.outcomes.clear();
        self.workspace.republished.clear();
        self.workspace.looped.clear();
        if let Some(rules) = &mut self.rules {
            rules.console.forget();
        }
    }

    /// Counts the outcomes of rules for the last message, and reports failures.
    #[cold]
    pub(super) fn count_rules(&mut self, here: &mut Here, of: Option<(ClientKey<'_>, &str)>, now: Monotonic) {
        let Here { numbers, teller, .. } = here;
        if let Some(rules) = &mut self.rules {
            let Rules { console, plans, .. } = &mut **rules;
            console.print(|rule| plans.get(usize::from(rule))?.as_ref().map(|plan| plan.program.name()));
        }
        for made in &self.workspace.republished {
            let result = match made {
                made if made.is_refused => M::RepublishRefused,
                made if made.is_matched => M::Republished,
                _ => M::RepublishUnmatched,
            };
            numbers.count_rule(usize::from(made.rule()), result, 1);
        }
        for number in self.workspace.looped.drain(..) {
            numbers.count_rule(usize::from(number), M::RepublishLooped, 1);
            let Some(plan) = self.rules.as_ref().and_then(|rules| rules.plan(number)) else { continue };
            teller.tell_of(Kind::RepublishDropped, second(now), usize::from(number), |event| {
                let event = of_client(event, of.map(|(client, _)| client));
                let event = event.with(Field::SqlRule, plan.program.name());
                event.maybe(Field::MqttTopic, of.map(|(_, topic)| clipped(topic))).with(Field::Reason, LOOP)
            });
        }
        for (number, outcome, mixed) in self.workspace.outcomes.drain(..) {
            let rule = usize::from(number);
            numbers.count_rule(rule, M::MixedComparisons, mixed.into());
            match outcome {
                Outcome::Passed(outputs) => {
                    numbers.count_rule(rule, M::Passed, 1);
                    numbers.count_rule(rule, M::Outputs, outputs.into());
                }
                Outcome::Filtered => numbers.count_rule(rule, M::Filtered, 1),
                Outcome::Failed(failure) => {
                    numbers.count_rule(rule, M::Failed, 1);
                    let reason = match failure.reason.code {
                        Code::Type => M::FailedType,
                        Code::Decode => M::FailedDecode,
                        Code::Domain => M::FailedDomain,
                        Code::Limit => M::FailedLimit,
                    };
                    numbers.count_rule(rule, reason, 1);
                    let Some(plan) = self.rules.as_ref().and_then(|rules| rules.plan(number)) else { continue };
                    teller.tell_of(Kind::RuleFailed, second(now), rule, |event| {
                        let event = of_client(event, of.map(|(client, _)| client));
                        let event = event.with(Field::SqlRule, plan.program.name());
                        let event = event.maybe(Field::MqttTopic, of.map(|(_, topic)| clipped(topic)));
                        let event = event.with(Field::Reason, failure.describe(plan.program.sql()));
                        event.with(
                            Field::Fate,
                            match plan.on_error {
                                OnError::Skip => DROPPED,
                                OnError::DeadLetter => DEAD_LETTER,
                                OnError::Reject => REJECTED,
                            },
                        )
                    });
                }
            }
        }
    }
}

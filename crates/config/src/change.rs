//! A change from the running service's configuration to another one: the keys that can be applied at once, and those that need a
//! restart.
//!
//! Sinks and clusters are identified by name in the file, in the log and to people, and by their index in the lists everywhere
//! else. An index is assigned once in the life of the process: new items come after the existing ones, and a removed one keeps its
//! index.

use super::resolved::{Bridge, Buffer, Cluster, Config, Listener, Rule, Sink, Source};
use super::setting::{Difference, Settings as _};
use super::{BRIDGES_MAX, EMBEDDED, LISTENERS_MAX, RULES_MAX, SINKS_MAX, SOURCES_MAX};

/// Listeners that a process may have had: each has its numbers on every board.
pub const LISTENER_PLACES_MAX: usize = 16 * LISTENERS_MAX;

/// A configuration with which a running service continues.
#[derive(Clone, Debug)]
pub struct Change {
    /// The configuration that is in force with the change.
    pub config: Config,
    /// Settings that the change applies, in the words of the file: `sink telemetry (changed: filters, linger)`.
    pub applied: Vec<String>,
    /// Settings that differ and need a restart. The running ones stay in force.
    pub waiting: Vec<String>,
    /// Connections that the change closes, in words: `clients of listener 127.0.0.1:1883`.
    pub closes: Vec<String>,
}

impl Change {
    /// The change from `running` to `wanted`. Both are as the program has them when it runs, with
    /// [`Config::share_dead_letters_file`].
    #[must_use]
    pub fn between(running: &Config, wanted: &Config) -> Self {
        let mut change = Self { config: running.clone(), applied: Vec::new(), waiting: Vec::new(), closes: Vec::new() };
        let with_broker = (running.broker != wanted.broker).then(|| with_broker_of(running, wanted.clone()));
        change.waiting.extend(with_broker.is_some().then(|| "broker".to_owned()));
        let wanted = with_broker.as_ref().unwrap_or(wanted);
        change.service(wanted);
        change.listeners(wanted);
        change.auth(wanted);
        change.clusters(wanted);
        change.sinks(wanted);
        change.sources(wanted);
        change.rules(running, wanted);
        change.bridges(wanted);
        change
    }

    /// The change for the process that has `running`, with real addresses; the caller knows its listeners and the room of its spool.
    #[must_use]
    pub fn in_process(&self, running: &Config) -> Config {
        let (mut config, wanted) = (running.clone(), &self.config);
        take_sections(&mut config, wanted);
        config.control.tls.clone_from(&wanted.control.tls);
        config.auth.clone_from(&wanted.auth);
        config.sinks.clone_from(&wanted.sinks);
        config.sources.clone_from(&wanted.sources);
        config.rules.clone_from(&wanted.rules);
        config.bridges.clone_from(&wanted.bridges);
        config.dapr.clone_from(&wanted.dapr);
        config.name_instances();
        // The embedded log's address is the real one.
        for (known, wanted) in
            config.clusters.iter_mut().zip(&wanted.clusters).filter(|(known, _)| known.name != EMBEDDED)
        {
            known.clone_from(wanted);
        }
        config.clusters.extend(wanted.clusters.iter().skip(running.clusters.len()).cloned());
        config
    }

    /// Whether the two configurations are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.waiting.is_empty()
    }

    fn service(&mut self, wanted: &Config) {
        for (section, different) in take_sections(&mut self.config, wanted) {
            self.applied.extend(different.applied.iter().map(|key| format!("{section}.{key}")));
            self.waiting.extend(different.waiting.iter().map(|key| format!("{section}.{key}")));
        }
        if wanted.service.data_dir_id.is_some() && self.config.service.data_dir_id != wanted.service.data_dir_id {
            self.waiting.push("service.data_dir_id".to_owned());
        }
        if self.config.telemetry != wanted.telemetry {
            self.waiting.push("telemetry".to_owned());
        }
        match (&mut self.config.dapr, &wanted.dapr) {
            (Some(known), Some(wanted)) => {
                let Difference { applied, waiting } = known.take(wanted);
                self.applied.extend(applied.iter().map(|key| format!("dapr.{key}")));
                self.waiting.extend(waiting.iter().map(|key| format!("dapr.{key}")));
            }
            (known, wanted) if known.is_some() != wanted.is_some() => self.waiting.push("dapr".to_owned()),
            _ => {}
        }
        self.spool(wanted);
        // Otherwise the value follows from the existence of a log.
        let is_asked = self.config.kept_log().is_some() == wanted.kept_log().is_some();
        if is_asked && self.config.delivery.waits_for_disk != wanted.delivery.waits_for_disk {
            self.waiting.push("delivery.acknowledge".to_owned());
        }
        let memory = |config: &Config| {
            let embedded = config.clusters.iter().find(|cluster| cluster.name == EMBEDDED);
            embedded.map(|embedded| (embedded.buffer_bytes, embedded.topics_max))
        };
        if self.config.embedded != wanted.embedded || memory(&self.config) != memory(wanted) {
            self.waiting.push("embedded".to_owned());
        }
        if self.config.control.tls.is_some() == wanted.control.tls.is_some() {
            if self.config.control.tls != wanted.control.tls {
                self.config.control.tls.clone_from(&wanted.control.tls);
                self.applied.push("control.tls".to_owned());
            }
        } else {
            self.waiting.push("control.tls".to_owned());
        }
    }

    fn spool(&mut self, wanted: &Config) {
        let (Some(known), Some(wanted)) = (&mut self.config.spool, wanted.spool) else {
            if self.config.spool != wanted.spool {
                self.waiting.push("spool".to_owned());
            }
            return;
        };
        // The share may follow from the number of sinks.
        if known.share != wanted.share {
            self.applied.push("spool.spool_share".to_owned());
        }
        self.applied.extend(known.take(&wanted).applied.iter().map(|key| format!("spool.{key}")));
        *known = known.reloaded(wanted);
        if *known != wanted {
            self.waiting.push("spool".to_owned());
        }
    }

    /// Takes over auths, which are identified by name. They apply from the next CONNECT on, their files at once.
    fn auth(&mut self, wanted: &Config) {
        for auth in wanted.auth.iter().filter(|auth| !self.config.auth.contains(auth)) {
            let is_known = self.config.auth.iter().any(|known| known.name == auth.name);
            self.applied.push(format!("auth {} ({})", auth.name, if is_known { "changed" } else { "added" }));
        }
        for known in &self.config.auth {
            if !wanted.auth.iter().any(|auth| auth.name == known.name) {
                self.applied.push(format!("auth {} (removed)", known.name));
            }
        }
        self.config.auth.clone_from(&wanted.auth);
    }

    /// Takes over listeners, which are known by their addresses; of several with port 0, the first is the first.
    fn listeners(&mut self, wanted: &Config) {
        let mut wanted: Vec<Option<&Listener>> = wanted.listeners.iter().map(Some).collect();
        let gone: Vec<_> = self.config.listeners.iter().map(|known| known.is_removed).collect();
        for known in &mut self.config.listeners {
            let same = wanted.iter_mut().find(|other| other.is_some_and(|other| other.bind == known.bind));
            let Some(other) = same.and_then(Option::take) else {
                if !std::mem::replace(&mut known.is_removed, true) {
                    self.applied.push(format!("listener {} (removed)", known.bind));
                    self.closes.push(format!("clients of listener {}", known.bind));
                }
                continue;
            };
            let mut changed = known.take(other).applied;
            take(&mut changed, "tls", &mut known.tls, &other.tls);
            take(&mut changed, "ws", &mut known.ws, &other.ws);
            if known.is_removed {
                self.applied.push(format!("listener {} (added)", known.bind));
            } else if !changed.is_empty() {
                self.applied.push(format!("listener {} (changed: {})", known.bind, changed.join(", ")));
            }
            *known = other.clone();
        }
        for other in wanted.into_iter().flatten() {
            if self.config.listeners.len() < LISTENER_PLACES_MAX {
                self.config.listeners.push(other.clone());
            } else if let Some((place, _)) =
                self.config.listeners.iter_mut().zip(&gone).find(|(known, was_gone)| known.is_removed && **was_gone)
            {
                // No place is free: that of a listener removed earlier, with its connections, is used again.
                *place = other.clone();
            } else {
                self.waiting
                    .push(format!("listener {} (added: remove others first, by a change of their own)", other.bind));
                continue;
            }
            self.applied.push(format!("listener {} (added)", other.bind));
        }
    }

    fn clusters(&mut self, wanted: &Config) {
        // The embedded log is a table of its own, and its address is known once it runs.
        for known in self.config.clusters.iter_mut().filter(|cluster| cluster.name != EMBEDDED) {
            let was_removed = std::mem::take(&mut known.is_removed);
            match wanted.clusters.iter().find(|cluster| cluster.name == known.name) {
                Some(cluster) => {
                    let mut changed = known.take(cluster).applied;
                    take(&mut changed, "tls", &mut known.tls, &cluster.tls);
                    take(&mut changed, "sasl", &mut known.sasl, &cluster.sasl);
                    // Memory in use cannot be taken away.
                    if known.buffer_bytes > cluster.buffer_bytes {
                        self.waiting.push(format!("kafka {} (changed: buffer_bytes, which is lowered)", known.name));
                    } else if known.buffer_bytes < cluster.buffer_bytes {
                        changed.push("buffer_bytes");
                        known.buffer_bytes = cluster.buffer_bytes;
                    }
                    // These connections were made with the old settings.
                    if !was_removed && changed.iter().any(|key| ["tls", "sasl"].contains(key)) {
                        self.closes.push(format!("kafka {} to its brokers, within a minute", known.name));
                    }
                    if was_removed {
                        self.applied.push(format!("kafka {} (added)", known.name));
                    } else if !changed.is_empty() {
                        self.applied.push(format!("kafka {} (changed: {})", known.name, changed.join(", ")));
                    }
                }
                // No sink uses the cluster any more.
                None => {
                    known.is_removed = true;
                    if !was_removed {
                        self.applied.push(format!("kafka {} (removed)", known.name));
                    }
                }
            }
        }
        for cluster in &wanted.clusters {
            let is_known = self.config.clusters.iter().any(|known| known.name == cluster.name);
            if cluster.name != EMBEDDED && !is_known {
                self.config.clusters.push(cluster.clone());
                self.applied.push(format!("kafka {} (added)", cluster.name));
            }
        }
    }

    fn sinks(&mut self, wanted: &Config) {
        for known in &mut self.config.sinks {
            if !known.is_removed && !wanted.sinks.iter().any(|sink| sink.name == known.name) {
                known.filters.clear();
                known.is_removed = true;
                self.applied.push(format!("sink {} (removed)", known.name));
            }
        }
        for sink in &wanted.sinks {
            // The cluster may have another index now.
            let cluster = &wanted.clusters[sink.cluster].name;
            let is_it = |known: &Cluster| known.name == *cluster && !known.is_removed;
            let Some(cluster) = self.config.clusters.iter().position(is_it) else {
                self.waiting.push(format!("sink {} (added: kafka)", sink.name));
                continue;
            };
            let sink = Sink { cluster, ..sink.clone() };
            // The sink's sizes were checked against a spool that takes effect with the restart.
            let fits = sink.buffer == Buffer::Memory || self.config.spool == wanted.spool;
            match self.config.sinks.iter().position(|known| known.name == sink.name) {
                Some(place) => self.sink(place, sink, fits),
                None => self.add_sink(sink, fits),
            }
        }
    }

    fn add_sink(&mut self, sink: Sink, fits: bool) {
        if !fits || self.config.sinks.len() >= SINKS_MAX {
            let why = if fits { "too many sinks since the start" } else { "spool" };
            self.waiting.push(format!("sink {} (added: {why})", sink.name));
            return;
        }
        self.applied.push(format!("sink {} (added)", sink.name));
        self.config.sinks.push(sink);
    }

    /// Takes over a sink. Keys that shape a new message can be changed at any time; those that held rows depend on cannot.
    fn sink(&mut self, place: usize, wanted: Sink, fits: bool) {
        let known = &mut self.config.sinks[place];
        let Difference { mut applied, mut waiting } = known.take(&wanted);
        macro_rules! keys {
            ($fits:expr, $($name:literal $key:ident),*) => {
                $(if known.$key != wanted.$key && $fits {
                    applied.push($name);
                    known.$key = wanted.$key;
                } else if known.$key != wanted.$key {
                    waiting.push($name);
                })*
            };
        }
        // The default of `on_refuse` depends on dead letters and level, so a change of it waits for a restart with them.
        let is_settled = known.dead_letters == wanted.dead_letters && known.acknowledge == wanted.acknowledge;
        keys!(is_settled, "on_refuse" on_refuse);
        keys!(fits, "batch_bytes" batch_bytes, "record_bytes_max" record_bytes_max, "spill_after" spill_after);
        keys!(false, "kafka" cluster, "dead_letters" dead_letters);
        // `fed` follows from the keys, and from the rules.
        known.fed = wanted.fed;
        let again = std::mem::take(&mut known.is_removed);
        if again {
            self.applied.push(format!("sink {} (added)", known.name));
        } else if !applied.is_empty() {
            self.applied.push(format!("sink {} (changed: {})", known.name, applied.join(", ")));
        }
        if !waiting.is_empty() {
            self.waiting.push(format!("sink {} (changed: {})", known.name, waiting.join(", ")));
        }
    }
}

impl Change {
    /// A bridge with the index of its cluster here; `None`: the cluster does not exist yet.
    fn placed(&mut self, bridge: &Bridge, wanted: &Config) -> Option<Bridge> {
        let has_topic = bridge.dead_letters.as_ref().is_some_and(|dead| dead.topic.is_some());
        let is_it = |known: &Cluster| !known.is_removed && known.name == wanted.clusters[bridge.cluster].name;
        let cluster = if has_topic { self.config.clusters.iter().position(is_it) } else { Some(0) };
        if cluster.is_none() {
            self.waiting.push(format!("bridge {} (kafka)", bridge.name));
        }
        Some(Bridge { cluster: cluster?, ..bridge.clone() })
    }

    /// Takes over sources, which are identified by name. All keys of a source apply at once: the source leaves its group, and
    /// resumes at the group's offsets.
    fn sources(&mut self, wanted: &Config) {
        for known in self.config.sources.iter_mut().filter(|known| !known.is_removed) {
            if !wanted.sources.iter().any(|source| source.name == known.name) {
                known.is_removed = true;
                self.applied.push(format!("source {} (removed)", known.name));
            }
        }
        for source in &wanted.sources {
            // The cluster may have another index now.
            let cluster = &wanted.clusters[source.cluster].name;
            let is_it = |known: &Cluster| known.name == *cluster && !known.is_removed;
            let Some(cluster) = self.config.clusters.iter().position(is_it) else {
                self.waiting.push(format!("source {} (added: kafka)", source.name));
                continue;
            };
            let source = Source { cluster, ..source.clone() };
            let Some(known) = self.config.sources.iter_mut().find(|known| known.name == source.name) else {
                if self.config.sources.len() < SOURCES_MAX {
                    self.applied.push(format!("source {} (added)", source.name));
                    self.config.sources.push(source);
                } else {
                    self.waiting.push(format!("source {} (added: too many sources since the start)", source.name));
                }
                continue;
            };
            let mut changed = known.take(&source).applied;
            take(&mut changed, "kafka", &mut known.cluster, &source.cluster);
            if std::mem::take(&mut known.is_removed) {
                self.applied.push(format!("source {} (added)", known.name));
            } else if !changed.is_empty() {
                self.applied.push(format!("source {} (changed: {})", known.name, changed.join(", ")));
            }
        }
    }
}

impl Change {
    /// Takes over rules, which are known by name. A rule with a sink that needs a restart waits for the restart, too: its outputs would be lost.
    fn rules(&mut self, running: &Config, wanted: &Config) {
        for known in self.config.rules.iter_mut().filter(|known| !known.is_removed) {
            if !wanted.rules.iter().any(|rule| rule.name == known.name) {
                known.is_removed = true;
                self.applied.push(format!("rule {} (removed)", known.name));
            }
        }
        for rule in &wanted.rules {
            // The sinks have the templates that the rule was checked with.
            let is_there = |name: &String| {
                let fed = wanted.sinks.iter().find(|sink| sink.name == *name).map(|sink| &sink.fed);
                self.config.sinks.iter().any(|sink| sink.name == *name && !sink.is_removed && Some(&sink.fed) == fed)
            };
            let place = self.config.rules.iter().position(|known| known.name == rule.name);
            let is_new = place.is_none_or(|place| self.config.rules[place].is_removed);
            let word = if is_new { "added" } else { "changed" };
            if !rule.sinks.iter().all(is_there) {
                self.waiting.push(format!("rule {} ({word}: sinks)", rule.name));
                if !is_new {
                    self.keep_sinks_of(&rule.name, running);
                }
                continue;
            }
            match place {
                Some(place) => self.rule(place, rule, wanted),
                None if self.config.rules.len() < RULES_MAX => {
                    self.applied.push(format!("rule {} (added)", rule.name));
                    self.config.rules.push(rule.clone());
                }
                None => self.waiting.push(format!("rule {} (added: too many rules since the start)", rule.name)),
            }
        }
    }

    /// Keeps a rule that waits for a restart, and its sinks, as they are: its outputs would be lost otherwise.
    fn keep_sinks_of(&mut self, rule: &str, running: &Config) {
        let Some(rule) = running.rules.iter().find(|known| known.name == rule && !known.is_removed) else { return };
        for (known, before) in self.config.sinks.iter_mut().zip(&running.sinks) {
            if known == before || !rule.sinks.contains(&known.name) {
                continue;
            }
            let name = format!("sink {} (", known.name);
            self.applied.retain(|line| !line.starts_with(&name));
            self.waiting.retain(|line| !line.starts_with(&name));
            self.waiting.push(format!("sink {} (changed: rule {} waits)", known.name, rule.name));
            known.clone_from(before);
        }
    }

    fn rule(&mut self, place: usize, rule: &Rule, wanted: &Config) {
        // The default of `on_error` follows from dead letters, a change of which waits for a restart.
        let letters = |config: &Config, name: &String| {
            let sink = config.sinks.iter().find(|sink| sink.name == *name && !sink.is_removed);
            sink.map(|sink| (sink.dead_letters.clone(), sink.no_dead_letters))
        };
        let is_settled = rule.sinks.iter().all(|name| letters(&self.config, name) == letters(wanted, name));
        let known = &mut self.config.rules[place];
        let mut changed = known.take(rule).applied;
        if is_settled {
            take(&mut changed, "on_error", &mut known.on_error, &rule.on_error);
        } else if known.on_error != rule.on_error {
            self.waiting.push(format!("rule {} (changed: on_error)", known.name));
        }
        take(&mut changed, "republish", &mut known.republish, &rule.republish);
        known.program.clone_from(&rule.program);
        if std::mem::take(&mut known.is_removed) {
            self.applied.push(format!("rule {} (added)", known.name));
        } else if !changed.is_empty() {
            self.applied.push(format!("rule {} (changed: {})", known.name, changed.join(", ")));
        }
    }
}

impl Change {
    /// Takes over bridges, which are identified by name. All keys of a bridge apply at once: the bridge reconnects.
    fn bridges(&mut self, wanted: &Config) {
        for known in self.config.bridges.iter_mut().filter(|known| !known.is_removed) {
            if !wanted.bridges.iter().any(|bridge| bridge.name == known.name) {
                known.is_removed = true;
                self.applied.push(format!("bridge {} (removed)", known.name));
                self.closes.push(format!("bridge {} to its remote", known.name));
            }
        }
        for bridge in &wanted.bridges {
            // The thread of bindings starts with the restart.
            if bridge.binding.is_some() && self.config.dapr.is_none() {
                self.waiting.push(format!("bridge {} (added: dapr)", bridge.name));
                continue;
            }
            let Some(bridge) = self.placed(bridge, wanted) else { continue };
            let bridge = &bridge;
            let has_room = self.config.bridges.len() < BRIDGES_MAX;
            match self.config.bridges.iter_mut().find(|known| known.name == bridge.name) {
                Some(known) => {
                    let had_one = !known.is_removed;
                    let said = take_bridge(known, bridge);
                    if said.is_some() && had_one {
                        self.closes.push(format!("bridge {} to its remote, which it connects to anew", known.name));
                    }
                    self.applied.extend(said);
                }
                None if has_room => {
                    self.applied.push(format!("bridge {} (added)", bridge.name));
                    self.config.bridges.push(bridge.clone());
                }
                None => self.waiting.push(format!("bridge {} (added: too many bridges since the start)", bridge.name)),
            }
        }
    }
}

/// The wanted configuration with the `[broker]` that runs, which is its sinks and its source, too.
fn with_broker_of(running: &Config, mut wanted: Config) -> Config {
    if running.kept_log().is_some() != wanted.kept_log().is_some() {
        // `waits_for_disk` follows from whether there is a log.
        wanted.delivery.waits_for_disk = running.delivery.waits_for_disk;
    }
    wanted.broker.clone_from(&running.broker);
    wanted.sinks.retain(|sink| sink.of_broker.is_none());
    wanted.sources.retain(|source| !source.is_of_broker);
    let Some(broker) = &running.broker else { return wanted };
    let known = &running.clusters[broker.cluster];
    let cluster = wanted.clusters.iter().position(|cluster| cluster.name == known.name).unwrap_or_else(|| {
        wanted.clusters.push(known.clone());
        wanted.clusters.len() - 1
    });
    let sinks = running.sinks.iter().filter(|sink| sink.of_broker.is_some());
    wanted.sinks.extend(sinks.map(|sink| Sink { cluster, ..sink.clone() }));
    let sources = running.sources.iter().filter(|source| source.is_of_broker);
    wanted.sources.extend(sources.map(|source| Source { cluster, ..source.clone() }));
    wanted
}

/// Takes over a bridge, and names a key that differs.
fn take_bridge(known: &mut Bridge, wanted: &Bridge) -> Option<String> {
    let mut changed = known.take(wanted).applied;
    take(&mut changed, "kafka", &mut known.cluster, &wanted.cluster);
    take(&mut changed, "dead_letters", &mut known.dead_letters, &wanted.dead_letters);
    take(&mut changed, "tls", &mut known.tls, &wanted.tls);
    take(&mut changed, "in", &mut known.ins, &wanted.ins);
    take(&mut changed, "out", &mut known.outs, &wanted.outs);
    take(&mut changed, "binding", &mut known.binding, &wanted.binding);
    if std::mem::take(&mut known.is_removed) {
        return Some(format!("bridge {} (added)", known.name));
    }
    (!changed.is_empty()).then(|| format!("bridge {} (changed: {})", known.name, changed.join(", ")))
}

/// Takes over the keys that apply at once of sections that are one table each. Terms of a session hold from its next CONNECT on.
fn take_sections(config: &mut Config, wanted: &Config) -> [(&'static str, Difference); 6] {
    macro_rules! take {
        ($($section:ident),*) => {
            [$((stringify!($section), config.$section.take(&wanted.$section))),*]
        };
    }
    take!(service, control, log, delivery, retained, mqtt)
}

/// Takes over a value that differs, and notes the key's name.
fn take<T: Clone + PartialEq>(changed: &mut Vec<&'static str>, name: &'static str, known: &mut T, wanted: &T) {
    if known != wanted {
        changed.push(name);
        known.clone_from(wanted);
    }
}

//! From the configuration that a running service has to another one: what can be applied at once, and what needs a restart.
//!
//! Sinks and clusters are known by name in the file, in the log and to people, and by their place in the lists everywhere
//! else. A place is given once for as long as the process runs: what is added comes behind what there is, and what is
//! removed stays in its place.

use super::resolved::{Buffer, Cluster, Config, Listener, Sink};
use super::{EMBEDDED, LISTENERS_MAX, SINKS_MAX};

/// Listeners that a process may have had: each has its numbers on every board.
pub const LISTENER_PLACES_MAX: usize = 16 * LISTENERS_MAX;

/// A configuration to go on with.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is in force with it.
    pub config: Config,
    /// Settings that it applies, in the words of the file: `sink telemetry (changed: filters, linger)`.
    pub applied: Vec<String>,
    /// Settings that differ and need a restart. They are left as they are.
    pub waiting: Vec<String>,
}

impl Change {
    /// From `running` to what `wanted` says. Both as the program has them at its start, with
    /// [`Config::share_dead_letters_file`].
    #[must_use]
    pub fn between(running: &Config, wanted: &Config) -> Self {
        let mut change = Self { config: running.clone(), applied: Vec::new(), waiting: Vec::new() };
        change.service(wanted);
        change.mqtt(wanted);
        change.listeners(wanted);
        change.auth(wanted);
        change.clusters(wanted);
        change.sinks(wanted);
        change
    }

    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.waiting.is_empty()
    }

    fn service(&mut self, wanted: &Config) {
        macro_rules! waiting {
            ($($section:ident . $key:ident),* $(,)?) => {
                $(if self.config.$section.$key != wanted.$section.$key {
                    self.waiting.push(format!("{}.{}", stringify!($section), stringify!($key)));
                })*
            };
        }
        waiting!(
            service.shards,
            service.data_dir,
            service.pin,
            service.verifiers,
            service.sandbox,
            control.bind,
            log.format
        );
        if wanted.service.data_dir_id.is_some() && self.config.service.data_dir_id != wanted.service.data_dir_id {
            self.waiting.push("service.data_dir_id".to_owned());
        }
        if self.config.telemetry != wanted.telemetry {
            self.waiting.push("telemetry".to_owned());
        }
        self.spool(wanted);
        self.delivery(wanted);
        if self.config.embedded != wanted.embedded {
            self.waiting.push("embedded".to_owned());
        }
        self.apply("service.drain_grace", |config| &mut config.service.drain_grace, wanted.service.drain_grace);
        if self.config.control.tls.is_some() == wanted.control.tls.is_some() {
            self.apply("control.tls", |config| &mut config.control.tls, wanted.control.tls.clone());
        } else {
            self.waiting.push("control.tls".to_owned());
        }
        let access = wanted.control.access.clone();
        self.apply("control.tokens_file", |config| &mut config.control.access, access);
        let dirs = wanted.control.file_dirs.clone();
        self.apply("control.file_dirs", |config| &mut config.control.file_dirs, dirs);
        self.apply("log.level", |config| &mut config.log.level, wanted.log.level);
    }

    fn spool(&mut self, wanted: &Config) {
        let (Some(known), Some(wanted)) = (&mut self.config.spool, wanted.spool) else {
            if self.config.spool != wanted.spool {
                self.waiting.push("spool".to_owned());
            }
            return;
        };
        // The share may follow from the number of sinks.
        for (name, is_other) in [
            ("spool.spool_share", known.share != wanted.share),
            ("spool.sync_interval", known.sync_interval != wanted.sync_interval),
            ("spool.when_full", known.when_full != wanted.when_full),
        ] {
            if is_other {
                self.applied.push(name.to_owned());
            }
        }
        *known = known.reloaded(wanted);
        if *known != wanted {
            self.waiting.push("spool".to_owned());
        }
    }

    fn delivery(&mut self, wanted: &Config) {
        let (delivery, retained) = (wanted.delivery, wanted.retained);
        // Else it follows from the spool.
        let is_asked = self.config.spool.is_some() == wanted.spool.is_some();
        if is_asked && self.config.delivery.waits_for_disk != delivery.waits_for_disk {
            self.waiting.push("delivery.acknowledge".to_owned());
        }
        self.apply("delivery.queue_messages_max", |c| &mut c.delivery.queue_messages_max, delivery.queue_messages_max);
        self.apply("delivery.queue_bytes_max", |c| &mut c.delivery.queue_bytes_max, delivery.queue_bytes_max);
        self.apply("delivery.when_full", |c| &mut c.delivery.drops_newest, delivery.drops_newest);
        self.apply("delivery.unread_bytes_max", |c| &mut c.delivery.unread_bytes_max, delivery.unread_bytes_max);
        self.apply("delivery.share_strategy", |c| &mut c.delivery.share_strategy, delivery.share_strategy);
        self.apply("delivery.share_ack_timeout", |c| &mut c.delivery.share_ack_timeout, delivery.share_ack_timeout);
        self.apply("retained.messages_max", |c| &mut c.retained.messages_max, retained.messages_max);
        self.apply("retained.bytes_max", |c| &mut c.retained.bytes_max, retained.bytes_max);
        self.apply("retained.expire_after", |c| &mut c.retained.expire_after_s, retained.expire_after_s);
    }

    fn apply<T: PartialEq>(&mut self, name: &str, place: impl Fn(&mut Config) -> &mut T, wanted: T) {
        let place = place(&mut self.config);
        if *place != wanted {
            *place = wanted;
            self.applied.push(name.to_owned());
        }
    }

    /// Terms of a session: they hold from its next CONNECT on. What an open connection was told keeps the packet size.
    fn mqtt(&mut self, wanted: &Config) {
        macro_rules! mqtt {
            ($($key:ident),* $(,)?) => {
                $(self.apply(concat!("mqtt.", stringify!($key)), |config| &mut config.mqtt.$key, wanted.mqtt.$key);)*
            };
        }
        mqtt!(
            receive_maximum,
            qos2_inflight_3x,
            topic_alias_maximum,
            connect_timeout,
            keep_alive_max_s,
            session_expiry_max_s,
            session_expiry_3x_s,
            sessions_max,
            evict_sessions,
            unauthenticated_max,
            takeovers_max,
            connections_per_address,
            failures_per_address,
        );
        if self.config.mqtt.packet_bytes_max != wanted.mqtt.packet_bytes_max {
            self.waiting.push("mqtt.packet_bytes_max".to_owned());
        }
    }

    /// Known by name. They hold from the next CONNECT on, their files at once.
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

    /// Known by their addresses; of several with port 0, the first is the first.
    fn listeners(&mut self, wanted: &Config) {
        let mut wanted: Vec<Option<&Listener>> = wanted.listeners.iter().map(Some).collect();
        let gone: Vec<_> = self.config.listeners.iter().map(|known| known.is_removed).collect();
        for known in &mut self.config.listeners {
            let same = wanted.iter_mut().find(|other| other.is_some_and(|other| other.bind == known.bind));
            let Some(other) = same.and_then(Option::take) else {
                if !std::mem::replace(&mut known.is_removed, true) {
                    self.applied.push(format!("listener {} (removed)", known.bind));
                }
                continue;
            };
            let mut changed = Vec::new();
            macro_rules! keys {
                ($($key:ident),*) => {
                    $(if known.$key != other.$key {
                        changed.push(stringify!($key));
                    })*
                };
            }
            keys!(
                socket_mode,
                transport,
                tls,
                ws,
                auth,
                connections_max,
                connect_rate,
                proxy_protocol,
                proxy_from,
                answer_timeout,
                receipts
            );
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
                // All places have been given: the place of a listener that an earlier change removed, with its connections, is used again.
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
        // The embedded log is a table of its own, and its address is known when it runs.
        for known in self.config.clusters.iter_mut().filter(|cluster| cluster.name != EMBEDDED) {
            let was_removed = std::mem::take(&mut known.is_removed);
            match wanted.clusters.iter().find(|cluster| cluster.name == known.name) {
                Some(cluster) => {
                    let mut changed = Vec::new();
                    macro_rules! keys {
                        ($($key:ident),*) => {
                            $(if known.$key != cluster.$key {
                                changed.push(stringify!($key));
                                known.$key.clone_from(&cluster.$key);
                            })*
                        };
                    }
                    keys!(bootstrap, client_id, connect_timeout, request_timeout, metadata_max_age, topics_max);
                    keys!(reconnect_backoff_min, reconnect_backoff_max, tls, sasl);
                    // Memory that was given may be in use.
                    if known.buffer_bytes > cluster.buffer_bytes {
                        self.waiting.push(format!("kafka {} (changed: buffer_bytes, which is lowered)", known.name));
                    } else if known.buffer_bytes < cluster.buffer_bytes {
                        changed.push("buffer_bytes");
                        known.buffer_bytes = cluster.buffer_bytes;
                    }
                    if was_removed {
                        self.applied.push(format!("kafka {} (added)", known.name));
                    } else if !changed.is_empty() {
                        self.applied.push(format!("kafka {} (changed: {})", known.name, changed.join(", ")));
                    }
                }
                // No sink goes there any more.
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
            // The same cluster may have another place.
            let cluster = &wanted.clusters[sink.cluster].name;
            let is_it = |known: &Cluster| known.name == *cluster && !known.is_removed;
            let Some(cluster) = self.config.clusters.iter().position(is_it) else {
                self.waiting.push(format!("sink {} (added: kafka)", sink.name));
                continue;
            };
            let sink = Sink { cluster, ..sink.clone() };
            // Its sizes were checked against a spool that comes with the restart.
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

    /// What a new message becomes can be changed at any time. What rows that are held depend on cannot.
    fn sink(&mut self, place: usize, wanted: Sink, fits: bool) {
        let known = &mut self.config.sinks[place];
        let (mut applied, mut waiting) = (Vec::new(), Vec::new());
        macro_rules! keys {
            ($list:ident, $assign:expr, $($key:ident),*) => {
                $(if known.$key != wanted.$key {
                    $list.push(stringify!($key));
                    if $assign {
                        known.$key = wanted.$key;
                    }
                })*
            };
        }
        keys!(waiting, false, cluster, buffer, acknowledge, acks, partitioner, dead_letters);
        keys!(applied, true, filters, topic, key, value, value_format, headers, properties, metadata);
        keys!(applied, true, user_property_prefix);
        keys!(applied, true, compression, compression_level, linger, max_inflight, expire_after, paused);
        keys!(applied, true, unknown_topic_timeout);
        if fits {
            keys!(applied, true, batch_bytes, record_bytes_max, spill_after);
        } else {
            keys!(waiting, false, batch_bytes, record_bytes_max, spill_after);
        }
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

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn config(text: &str) -> Config {
        parse(text, "test").unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn sink(name: &str, more: &str) -> String {
        format!(
            "[[sink]]\nname='{name}'\nfilters='#'\ntopic='t'\nkafka='b'\nbuffer='memory'\nacknowledge='replicated'\n{more}\n"
        )
    }

    const B: &str = "[kafka.b]\nbootstrap='b:1'\n";

    #[test]
    fn the_same_configuration_is_no_change() {
        let one = config(&format!("{B}{}{}", sink("one", ""), sink("two", "")));
        let change = Change::between(&one, &one);
        assert!(change.is_empty(), "{change:?}");
        assert_eq!(change.config, one);
    }

    /// In whatever order the file has them.
    #[test]
    fn what_there_is_keeps_its_place() {
        let old = config(&format!("{B}{}{}", sink("one", ""), sink("two", "")));
        let a = "[kafka.a]\nbootstrap='a:1'\n";
        let new = config(&format!("{a}{B}{}{}", sink("three", ""), sink("two", "linger='9ms'\nkey='x'")));
        let change = Change::between(&old, &new);
        assert_eq!(
            change.applied,
            ["kafka a (added)", "sink one (removed)", "sink three (added)", "sink two (changed: key, linger)"]
        );
        assert!(change.waiting.is_empty(), "{:?}", change.waiting);
        let names: Vec<_> = change.config.sinks.iter().map(|sink| (sink.name.as_str(), sink.is_removed)).collect();
        assert_eq!(names, [("one", true), ("two", false), ("three", false)]);
        assert!(change.config.sinks[0].filters.is_empty());
        let clusters: Vec<_> = change.config.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        assert_eq!(clusters, ["b", "a"]);
        assert!(change.config.sinks.iter().all(|sink| sink.cluster == 0), "all of them use b");
        // And back again: it comes to where it was.
        let back = Change::between(&change.config, &old);
        assert_eq!(
            back.applied,
            ["kafka a (removed)", "sink three (removed)", "sink one (added)", "sink two (changed: key, linger)"]
        );
        assert!(back.waiting.is_empty(), "{:?}", back.waiting);
        assert_eq!(back.config.sinks[0], old.sinks[0]);
        assert!(back.config.clusters[1].is_removed);
        // The cluster, too, if it is the same.
        let again = Change::between(&back.config, &new);
        assert!(again.applied.contains(&"kafka a (added)".to_owned()), "{:?}", again.applied);
        assert!(!again.config.clusters[1].is_removed);
        let other = config(&format!("{}{B}{}", a.replace("a:1", "a:2"), sink("one", "")));
        let moved = Change::between(&back.config, &other);
        assert!(moved.waiting.is_empty(), "{:?}", moved.waiting);
        assert_eq!(moved.config.clusters[1].bootstrap, ["a:2"]);
    }

    #[test]
    fn what_subscribers_get_changes_while_it_runs() {
        let old = config(&format!("{B}{}[spool]\n", sink("one", "")));
        let new = config(&format!(
            "{B}{}[spool]\n[delivery]\nacknowledge='received'\nqueue_messages_max=7\nqueue_bytes_max='7KiB'\nwhen_full='drop-newest'\n\
             unread_bytes_max='77KiB'\nshare_strategy='hash-topic'\nshare_ack_timeout='7s'\n\
             [retained]\nmessages_max=7\nbytes_max='7MiB'\nexpire_after='7s'\n",
            sink("one", "")
        ));
        let change = Change::between(&old, &new);
        assert_eq!(
            change.applied,
            [
                "delivery.queue_messages_max",
                "delivery.queue_bytes_max",
                "delivery.when_full",
                "delivery.unread_bytes_max",
                "delivery.share_strategy",
                "delivery.share_ack_timeout",
                "retained.messages_max",
                "retained.bytes_max",
                "retained.expire_after"
            ]
        );
        assert_eq!(change.waiting, ["delivery.acknowledge"]);
        assert_eq!(change.config.retained, new.retained);
    }

    #[test]
    fn the_spool_changes_but_for_its_sizes() {
        let old = config(&format!("{B}{}[spool]\n", sink("one", "")));
        let new = "[spool]\nsync_interval='7ms'\nwhen_full='refuse'\nspool_share=0.3\n";
        let change = Change::between(&old, &config(&format!("{B}{}{new}", sink("one", ""))));
        assert_eq!(change.applied, ["spool.spool_share", "spool.sync_interval", "spool.when_full"]);
        assert!(change.waiting.is_empty());
        let change = Change::between(&old, &config(&format!("{B}{}{new}bytes_max='1GiB'\n", sink("one", ""))));
        assert_eq!((change.applied.len(), &change.waiting[..]), (3, &["spool".to_owned()][..]));
        assert_eq!(change.config.spool.map(|spool| spool.bytes_max), old.spool.map(|spool| spool.bytes_max));
    }

    #[test]
    fn what_held_rows_depend_on_waits_for_a_restart() {
        let old = config(&format!("[service]\nshards=1\npin=false\n{B}{}", sink("one", "")));
        let new = config(&format!(
            "[service]\nshards=2\npin=false\ndrain_grace='1s'\n[log]\nlevel='debug'\n[mqtt]\nreceive_maximum=7\n\
             {B}client_id='x'\nbuffer_bytes='64MiB'\n{}[spool]\n",
            sink("one", "partitioner='random'\nexpire_after='1h'").replace("replicated", "leader")
        ));
        let change = Change::between(&old, &new);
        assert_eq!(
            change.applied,
            [
                "service.drain_grace",
                "log.level",
                "mqtt.receive_maximum",
                "kafka b (changed: client_id)",
                "sink one (changed: expire_after)"
            ]
        );
        assert_eq!(
            change.waiting,
            [
                "service.shards",
                "spool",
                "kafka b (changed: buffer_bytes, which is lowered)",
                "sink one (changed: acknowledge, acks, partitioner)"
            ]
        );
        let (was, is) = (&old.sinks[0], &change.config.sinks[0]);
        assert_eq!((is.acknowledge, is.acks, is.partitioner), (was.acknowledge, was.acks, was.partitioner));
        assert_eq!(change.config.service.shards, 1);
        assert_eq!(change.config.clusters[0].buffer_bytes, old.clusters[0].buffer_bytes);
    }

    /// What a sink on disk may keep in memory follows from the cluster's memory, if nothing else is said.
    #[test]
    fn more_memory_for_a_cluster_is_more_for_its_sinks_at_once() {
        let text = |mib: u32| {
            let sink = "[[sink]]\nname='one'\nfilters='#'\ntopic='t'\nkafka='b'\n";
            config(&format!("[kafka.b]\nbootstrap='b:1'\nbuffer_bytes='{mib}MiB'\n{sink}[spool]\n"))
        };
        let (old, new) = (text(64), text(128));
        assert!(old.sinks[0].spill_after < new.sinks[0].spill_after);
        let change = Change::between(&old, &new);
        assert_eq!(change.applied, ["kafka b (changed: buffer_bytes)", "sink one (changed: spill_after)"]);
        assert!(change.waiting.is_empty(), "{:?}", change.waiting);
        assert_eq!(change.config.sinks, new.sinks);
    }

    #[test]
    fn a_cluster_changes_in_place() {
        let old = config(&format!("{B}buffer_bytes='64MiB'\n{}", sink("one", "")));
        let keys = [
            "bootstrap='b:1,c:1'",
            "client_id='x'",
            "connect_timeout='9s'",
            "request_timeout='9s'",
            "metadata_max_age='9s'",
            "topics_max=99",
            "reconnect_backoff_min='99ms'",
            "reconnect_backoff_max='9s'",
            "buffer_bytes='65MiB'",
        ];
        for key in keys {
            let name = key.split('=').next().unwrap_or_default();
            let bootstrap = if name == "bootstrap" { "" } else { "bootstrap='b:1'\n" };
            let buffer = if name == "buffer_bytes" { "" } else { "buffer_bytes='64MiB'\n" };
            let new = config(&format!("[kafka.b]\n{bootstrap}{buffer}{key}\n{}", sink("one", "")));
            let change = Change::between(&old, &new);
            assert_eq!(change.applied, [format!("kafka b (changed: {name})")]);
            assert!(change.waiting.is_empty(), "{:?}", change.waiting);
            assert_eq!(change.config.clusters, new.clusters);
        }
    }

    #[test]
    fn a_sink_for_a_spool_that_is_not_there_waits() {
        let old = config(&format!("{B}{}", sink("one", "")));
        let new = config(&format!("{B}{}{}[spool]\n", sink("one", ""), sink("two", "").replace("'memory'", "'disk'")));
        let change = Change::between(&old, &new);
        assert_eq!(change.waiting, ["spool", "sink two (added: spool)"]);
        assert_eq!(change.config.sinks.len(), 1);
    }

    #[test]
    fn finding_u7_places_of_listeners_are_used_again_when_all_have_been_given() {
        let with = |port: usize| config(&format!("[[listener]]\nbind='127.0.0.1:{port}'\n{B}{}", sink("one", "")));
        let mut known = with(1);
        for port in 2..LISTENER_PLACES_MAX + 100 {
            let change = Change::between(&known, &with(port));
            assert!(change.waiting.is_empty(), "{port}: {:?}", change.waiting);
            known = change.config;
            let live: Vec<_> = known.listeners.iter().filter(|listener| !listener.is_removed).collect();
            assert!(live.len() <= 1 && known.listeners.len() <= LISTENER_PLACES_MAX);
        }
        let last = (LISTENER_PLACES_MAX + 99).to_string();
        assert!(known.listeners.iter().any(|of| !of.is_removed && of.bind.to_string().ends_with(&last)));
    }

    #[test]
    fn listeners_are_named_by_their_address() {
        let listener = |port: u16, more: &str| format!("[[listener]]\nbind='127.0.0.1:{port}'\n{more}\n");
        let old = config(&format!("{}{}{B}{}", listener(1, ""), listener(2, ""), sink("one", "")));
        let new = config(&format!("{}{}{B}{}", listener(2, "receipts=true"), listener(3, ""), sink("one", "")));
        let change = Change::between(&old, &new);
        let expected = [
            "listener 127.0.0.1:1 (removed)",
            "listener 127.0.0.1:2 (changed: receipts)",
            "listener 127.0.0.1:3 (added)",
        ];
        assert_eq!(change.applied, expected);
        let ports = |config: &Config| -> Vec<_> {
            config
                .listeners
                .iter()
                .map(|listener| (listener.bind.tcp().map_or(0, |addr| addr.port()), listener.is_removed))
                .collect()
        };
        assert_eq!(ports(&change.config), [(1, true), (2, false), (3, false)]);
        assert!(change.config.listeners[1].receipts);
        let back = Change::between(&change.config, &old);
        let expected = [
            "listener 127.0.0.1:1 (added)",
            "listener 127.0.0.1:2 (changed: receipts)",
            "listener 127.0.0.1:3 (removed)",
        ];
        assert_eq!(back.applied, expected);
        assert_eq!(ports(&back.config), [(1, false), (2, false), (3, true)]);
        // Each port 0 is one of its own.
        let old = config(&format!("{}{}{B}{}", listener(0, ""), listener(0, "receipts=true"), sink("one", "")));
        assert!(Change::between(&old, &old).is_empty());
        let new = config(&format!("{}{B}{}", listener(0, ""), sink("one", "")));
        assert_eq!(Change::between(&old, &new).applied, ["listener 127.0.0.1:0 (removed)"]);
    }
}

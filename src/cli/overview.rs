//! Descriptions of sinks, sources, clusters and listeners for the control plane, from the configuration.

use std::sync::Arc;

use crate::config::Config;
use crate::control::{Bridge, Cluster, Dashboard, DeadLetters, Described, Listener, Rule, Sink, Source};
use crate::metrics::board::Board;
use crate::metrics::collector::{Boards, Item};
use crate::rule::program::from_text;
use crate::shard::layout;

use super::{auth_files, in_force, letter_topics};

/// Empty boards for a configuration.
pub(super) fn boards(config: &Config) -> Arc<Boards> {
    let item = |name, is_removed| Item { name, is_removed };
    Arc::new(Boards {
        shards: (0..config.service.shards).map(|_| Arc::new(Board::new(layout(config)))).collect(),
        sinks: config.sinks.iter().map(|sink| item(sink.name.clone(), sink.is_removed)).collect(),
        clusters: config.clusters.iter().map(|cluster| item(cluster.name.clone(), cluster.is_removed)).collect(),
        listeners: config
            .listeners
            .iter()
            .map(|listener| item(listener.bind.to_string(), listener.is_removed))
            .collect(),
        sources: config.sources.iter().map(|source| item(source.name.clone(), source.is_removed)).collect(),
        bridges: config.bridges.iter().map(|bridge| item(bridge.name.clone(), bridge.is_removed)).collect(),
        rules: config.rules.iter().map(|rule| item(rule.name.clone(), rule.is_removed)).collect(),
    })
}

/// The facts of a configuration in which addresses are the real ones.
pub(super) fn of(config: &Config) -> Described {
    let sinks = config.sinks.iter().map(|sink| Sink {
        name: sink.name.clone(),
        description: sink.description.clone(),
        cluster: sink.cluster,
        filters: sink.filters.clone(),
        topic: sink.topic.as_literal().map(str::to_owned),
        acknowledge: sink.acknowledge.as_str(),
        dead_letters: sink.dead_letters.as_ref().map(|dead| DeadLetters {
            topic: dead.topic.clone(),
            file: dead.file.as_ref().map(|file| file.path.display().to_string()),
        }),
        is_removed: sink.is_removed,
        is_paused: sink.paused,
    });
    let clusters = config.clusters.iter().map(|cluster| Cluster {
        name: cluster.name.clone(),
        description: cluster.description.clone(),
        bootstrap: cluster.bootstrap.clone(),
        is_removed: cluster.is_removed,
    });
    let listeners = config.listeners.iter().map(|listener| Listener {
        address: listener.bind.to_string(),
        transport: listener.transport.as_str(),
        is_removed: listener.is_removed,
    });
    let sources = config.sources.iter().map(|source| Source {
        name: source.name.clone(),
        description: source.description.clone(),
        cluster: source.cluster,
        topics: source.routes().map(|(kafka, _)| kafka.to_owned()).collect(),
        group: Some(source.group.clone()).filter(|group| !group.is_empty()),
        is_removed: source.is_removed,
        is_paused: source.paused,
        from: from_text(&source.name),
        rules: config.rules_of(source).map(|(_, rule)| rule.name.clone()).collect(),
        is_unused: !config.has_use_for(source),
        is_of_broker: source.is_of_broker,
    });
    let bridges = config.bridges.iter().map(|bridge| Bridge {
        name: bridge.name.clone(),
        description: bridge.description.clone(),
        remote: bridge.url.shown(),
        ins: bridge.ins.iter().map(|of| (of.name.clone(), of.asked().collect())).collect(),
        outs: bridge.outs.iter().map(|of| (of.name.clone(), of.filters.clone())).collect(),
        is_removed: bridge.is_removed,
    });
    let environment = crate::config::environment();
    let rules = config.rules.iter().map(|rule| Rule {
        name: rule.name.clone(),
        description: rule.description.clone(),
        sql: rule.sql.clone(),
        from: rule.program.iter().flat_map(|program| program.from()).collect(),
        sinks: rule.sinks.clone(),
        republish: rule.republish.iter().map(|of| in_force::republish(of, &environment)).collect(),
        on_error: rule.on_error.as_str(),
        is_enabled: rule.enabled,
        is_removed: rule.is_removed,
    });
    Described {
        sinks: sinks.collect(),
        rules: rules.collect(),
        sources: sources.collect(),
        bridges: bridges.collect(),
        clusters: clusters.collect(),
        listeners: listeners.collect(),
        auth: auth_files::described(config),
        letters: letter_topics::places(config),
        memory_high_watermark: config
            .sinks
            .iter()
            .any(|sink| sink.memory_overload_protection && !sink.is_removed)
            .then_some(config.service.memory_high_watermark as f64 / 1e6),
        has_spool: config.spool.is_some(),
        dashboard: Dashboard {
            is_served: config.control.dashboard,
            origins: config.control.origins.clone(),
            base_path: config.control.base_path.clone().unwrap_or_default(),
            grafana_url: config.control.grafana_url.clone(),
        },
        config: in_force::of(config),
    }
}

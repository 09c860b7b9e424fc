//! Lines of the log about the configuration when the service starts.

use std::path::Path;

use crate::config::Config;

use super::args::VERSION;

/// The most sinks and clusters with a line of their own; the others are counted.
const LINES_MAX: usize = 20;

/// Logs version, file, data directory, clusters and sinks, before anything is opened.
pub(super) fn starting(config: &Config, file: Option<&Path>) {
    let file = file.map_or_else(|| "none: defaults".to_owned(), |file| file.display().to_string());
    let data_dir = std::path::absolute(&config.service.data_dir).unwrap_or_else(|_| config.service.data_dir.clone());
    tracing::info!(
        version = VERSION,
        config = %file,
        data_dir = %data_dir.display(),
        shards = config.service.shards,
        "Forebay is starting"
    );
    for warning in &config.warnings.0 {
        tracing::warn!("{warning}");
    }
    if let Some(spool) = &config.spool {
        tracing::info!(dir = %config.spool_dir().display(), bytes_max = spool.bytes_max, "spool");
    }
    for cluster in config.clusters.iter().take(LINES_MAX) {
        tracing::info!(kafka = cluster.name, bootstrap = cluster.bootstrap.join(","), "Kafka cluster");
    }
    for sink in config.sinks.iter().take(LINES_MAX) {
        let topic = sink.topic.as_literal().unwrap_or("(depends on the message)");
        tracing::info!(
            sink = sink.name,
            filters = sink.filters.join(","),
            kafka = config.clusters[sink.cluster].name,
            topic,
            acknowledge = sink.acknowledge.as_str(),
            buffer = sink.buffer.as_str(),
            "sink"
        );
    }
    for rule in config.rules.iter().take(LINES_MAX) {
        let from: Vec<String> = rule.program.iter().flat_map(|program| program.from()).collect();
        tracing::info!(
            rule = rule.name,
            from = from.join(","),
            sinks = rule.sinks.join(","),
            on_error = rule.on_error.as_str(),
            enabled = rule.enabled,
            "rule"
        );
    }
    let more = config.sinks.len().saturating_sub(LINES_MAX);
    if more > 0 {
        tracing::info!(sinks = more, "and more sinks");
    }
    let more = config.rules.len().saturating_sub(LINES_MAX);
    if more > 0 {
        tracing::info!(rules = more, "and more rules");
    }
}

//! Lines about sources for `forebay check`. Templates, topics in two sources and circles are checked with the configuration,
//! without Kafka.

use super::check::{Line, Verdict};
use crate::config::Config;
use crate::rule::record::RecordTemplate;

/// The most topics of a source that are named.
const NAMED_MAX: usize = 8;

/// Adds a line for each source: its topics, and the destinations of its messages.
pub(super) fn of_sources(config: &Config, lines: &mut Vec<Line>) {
    for source in &config.sources {
        let mut routes: Vec<String> = source.routes().take(NAMED_MAX).map(|(kafka, mqtt)| route(kafka, mqtt)).collect();
        let more = source.routes().count() - routes.len();
        routes.extend((more > 0).then(|| format!("{more} more")));
        let group = if source.group.is_empty() { "no group".to_owned() } else { format!("group {}", source.group) };
        let text = format!("{}; {group}", routes.join(", "));
        lines.push(Line { verdict: Verdict::Ok, about: format!("source {}", source.name), text });
    }
}

fn route(kafka: &str, mqtt: Option<&RecordTemplate>) -> String {
    mqtt.map_or_else(|| format!("{kafka} to rules"), |mqtt| format!("{kafka} to {mqtt}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_line_for_each_source() {
        let topics: Vec<String> = (0..10).map(|at| format!("'t{at}'")).collect();
        let text = format!(
            "[kafka.main]\nbootstrap='k:1'\n[[source]]\nname='one'\ntopic='a'\nmqtt_topic='x/${{.key}}'\n\
             [[source]]\nname='many'\ngroup=''\ntopic=[{}]\nmqtt_topic='y'\n",
            topics.join(",")
        );
        let config = config::parse(&text, "f").unwrap_or_else(|problems| panic!("{problems}"));
        let mut lines = Vec::new();
        of_sources(&config, &mut lines);
        let said: Vec<_> = lines.iter().map(|line| (line.about.as_str(), line.text.as_str())).collect();
        let many = "t0 to y, t1 to y, t2 to y, t3 to y, t4 to y, t5 to y, t6 to y, t7 to y, 2 more; no group";
        assert_eq!(said, [("source one", "a to x/${key}; group forebay-one"), ("source many", many)]);
    }
}

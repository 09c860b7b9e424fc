//! What `deploy/` has for Grafana and Prometheus covers each part of the service. `tests/service/dashboard.rs` runs both against a service.

use super::read;

/// A metric of each part that can fail on its own, by the beginning of its name.
const PARTS: &[&str] = &[
    "forebay_authentications_total",
    "forebay_bridge_",
    "forebay_broker_slots",
    "forebay_deliver",
    "forebay_kafka_logins_total",
    "forebay_kafka_reachable",
    "forebay_publish_ack_seconds",
    "forebay_retained_",
    "forebay_rule_",
    "forebay_session_log_waiting_seconds",
    "forebay_sink_",
    "forebay_source_",
    "forebay_spool_",
];

/// The sections of METRICS.md that describe a kind of part which the configuration names.
const SECTIONS: &[&str] = &["Sinks", "Sources", "Bridges", "Rules", "Kafka clusters"];

#[test]
fn finding_q35_the_board_and_the_alerts_have_each_part() {
    let board: serde_json::Value = serde_json::from_str(&read("deploy/grafana/forebay.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let shown: Vec<&str> = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .filter_map(|target| target["expr"].as_str())
        .collect();
    let alerts = read("deploy/prometheus/alerts.yml");
    let metrics = read("docs/METRICS.md");
    let mut missing = Vec::new();
    for part in PARTS {
        assert!(metrics.contains(&format!("| `{part}")), "{part} is no metric");
        if !shown.iter().any(|expression| expression.contains(part)) {
            missing.push(format!("no panel has {part}"));
        }
        if !alerts.contains(part) {
            missing.push(format!("no alert has {part}"));
        }
    }
    for section in SECTIONS {
        let (_, text) = metrics.split_once(&format!("\n### {section}\n")).expect("the section");
        let text = text.split("\n### ").next().unwrap_or_default();
        let names: Vec<&str> = text.split("| `").skip(1).filter_map(|rest| rest.split(['`', '{']).next()).collect();
        for (what, text) in [("panel", shown.join("\n")), ("alert", alerts.clone())] {
            if !names.iter().any(|name| text.contains(name.trim_end_matches("_total"))) {
                missing.push(format!("no {what} has a metric of {section}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Panels lie side by side: none covers another, and each has an identifier and a sentence of its own.
#[test]
fn panels_do_not_overlap() {
    let board: serde_json::Value = serde_json::from_str(&read("deploy/grafana/forebay.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let at = |panel: &serde_json::Value, key: &str| panel["gridPos"][key].as_u64().expect("a number");
    let mut cells = std::collections::HashMap::new();
    let mut ids = std::collections::HashSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}: its id is another panel's");
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        for x in at(panel, "x")..at(panel, "x") + at(panel, "w") {
            for y in at(panel, "y")..at(panel, "y") + at(panel, "h") {
                assert!(x < 24, "{title} is too wide");
                if let Some(other) = cells.insert((x, y), title) {
                    panic!("{title} covers {other}");
                }
            }
        }
    }
}

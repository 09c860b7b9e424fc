//! COMBINATIONS.md: each of twelve features under each of five events has a promise, and tests that exist.

use super::edge::is_test;
use super::read;

const FEATURES: [&str; 12] = [
    "source",
    "rule",
    "republish",
    "sink",
    "share",
    "kept session",
    "clean session",
    "retained",
    "will",
    "QoS 2",
    "bridge",
    "replay",
];

#[test]
fn each_pair_of_feature_and_event_has_a_promise_and_a_test() {
    let text = read("docs/COMBINATIONS.md");
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), 5, "events");
    for section in sections {
        let (event, rest) = section.split_once('\n').expect("a heading");
        let rows = rest.lines().filter(|line| line.starts_with('|')).skip(2);
        let mut features = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [feature, promise, shown] = cells[..] else { panic!("{event}: {row}") };
            features.extend(feature.split(", "));
            assert!(!promise.is_empty(), "{event}: {feature} has no promise");
            // A cell without a test says why there is none, or names the row above that has it.
            let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty() || shown.starts_with("none: ") || shown.starts_with("as for "), "{event}: {row}");
            for name in named.iter().filter(|name| name.contains(".rs")) {
                let (path, function) = name.split_once(".rs::").expect("a path and a function");
                assert!(is_test(&read(&format!("{path}.rs")), function), "{event}: {name} is no test");
            }
        }
        features.sort_unstable_by_key(|feature| FEATURES.iter().position(|known| known == feature));
        assert_eq!(features, FEATURES, "{event}");
    }
}

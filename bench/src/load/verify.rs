//! The publisher of a delivery, and the deliveries that are due.

use super::scenario::{Contents, Role, Scenario};

/// The publishers of a run: each has a number across all groups.
#[derive(Debug)]
pub(crate) struct Publishers {
    /// The number of the first publisher of each group. Run marks of groups are consecutive.
    bases: Vec<Option<usize>>,
    first_run: u32,
    pub(crate) count: usize,
}

impl Publishers {
    pub(crate) fn new(scenario: &Scenario, first_run: u32) -> Self {
        let mut count = 0;
        let mut bases = Vec::new();
        for group in &scenario.groups {
            let publishes = group.role == Role::Publish && group.contents == Contents::Numbered;
            bases.push(publishes.then_some(count));
            if publishes {
                count += group.clients as usize;
            }
        }
        Self { bases, first_run, count }
    }

    /// Marks the payloads of a group.
    pub(crate) fn run_of(&self, group: usize) -> u32 {
        self.first_run.wrapping_add(group as u32)
    }

    /// A publisher's number and group by its run mark and client number.
    pub(crate) fn find(&self, run: u32, client: u32) -> Option<(u32, usize)> {
        let group = run.wrapping_sub(self.first_run) as usize;
        let base = (*self.bases.get(group)?)?;
        Some((base as u32 + client, group))
    }

    pub(crate) fn base(&self, group: usize) -> Option<usize> {
        self.bases.get(group).copied().flatten()
    }
}

/// Whether a filter matches a topic (5.0 §4.7); a shared subscription's prefix is ignored.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let filter = shared(filter).map_or(filter, |(_, filter)| filter);
    let mut levels = topic.split('/');
    let mut first = true;
    for part in filter.split('/') {
        let wild = part == "#" || part == "+";
        if first && wild && topic.starts_with('$') {
            return false;
        }
        first = false;
        match (part, levels.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Group and filter of a shared subscription.
pub(crate) fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_has_it() {
        for (filter, topic, yes) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$share/g/a/+", "a/b", true),
            ("a/b/c", "a/b", false),
            ("+", "", true),
        ] {
            assert_eq!(matches(filter, topic), yes, "{filter} {topic}");
        }
    }
}

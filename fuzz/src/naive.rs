//! An access control list, read and asked in the simplest way there is: what a topic may is found by trying every way in which
//! a rule can use up its levels.

/// A rule as written in the file.
struct Rule<'a> {
    user: Option<&'a str>,
    is_pattern: bool,
    access: &'a str,
    filter: &'a str,
}

/// The rules of a file that the real reader accepts.
fn rules(file: &str) -> Vec<Rule<'_>> {
    let mut user = None;
    let mut rules = Vec::new();
    for line in file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        if word == "user" {
            user = Some(rest);
            continue;
        }
        let (access, filter) = rest.split_once(' ').map_or(("readwrite", rest), |(first, rest)| (first, rest.trim()));
        rules.push(Rule { user, is_pattern: word == "pattern", access, filter });
    }
    rules
}

fn fits(filter: &[String], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([rest], _) if rest == "#" => true,
        ([], []) => true,
        ([level, filter @ ..], [name, topic @ ..]) => (level == "+" || level == name) && fits(filter, topic),
        _ => false,
    }
}

/// Whether a topic may be published to (`write`), or got (`read`).
pub fn is_granted(file: &str, identity: Option<&str>, client_id: &str, access: &str, topic: &str) -> bool {
    /// No name of a topic has this level.
    const NOTHING: &str = "\0";
    let is_wild = |name: &str| name.contains('+') || name.contains('#');
    let counts_patterns = !is_wild(client_id) && !identity.is_some_and(is_wild);
    let rules = rules(file);
    for of_patterns in [false, true] {
        let asked = rules.iter().filter(|rule| rule.is_pattern == of_patterns);
        let asked = asked.filter(|rule| if of_patterns { counts_patterns } else { rule.user == identity });
        let fitting = asked.filter(|rule| {
            let named = |level: &str| match level {
                "%c" if of_patterns => client_id.to_owned(),
                "%u" if of_patterns => identity.unwrap_or(NOTHING).to_owned(),
                level => level.to_owned(),
            };
            let filter: Vec<String> = rule.filter.split('/').map(named).collect();
            let topic_levels: Vec<&str> = topic.split('/').collect();
            rule.filter.starts_with('$') == topic.starts_with('$') && fits(&filter, &topic_levels)
        });
        let fitting: Vec<&str> = fitting.map(|rule| rule.access).collect();
        if fitting.contains(&"deny") {
            return false;
        }
        if fitting.iter().any(|granted| *granted == access || *granted == "readwrite") {
            return true;
        }
    }
    false
}

//! What an access control list says to a topic, beside a matcher that tries everything; and what a subscription gets, beside
//! what its topics get.
#![no_main]

use forebay_fuzz::auth::acl::{Acl, Action, Client, Subscription};
use forebay_fuzz::naive::is_granted;
use libfuzzer_sys::fuzz_target;

const WORDS: &[&str] = &["a", "b", "+", "#", "%c", "%u", "", "$SYS", "cc", "$"];
const ACCESS: &[&str] = &["", "read ", "write ", "readwrite ", "deny "];
const NAMES: &[&str] = &["a", "b", "cc", "a+", "#", "%c", "u"];

/// Levels out of bytes.
fn path(bytes: &[u8], words: &[&str]) -> String {
    let levels: Vec<&str> = bytes.iter().map(|byte| words[usize::from(*byte) % words.len()]).collect();
    levels.join("/")
}

/// A file out of lines of five bytes.
fn file(bytes: &[u8]) -> String {
    let mut file = String::new();
    for line in bytes.chunks_exact(5).take(16) {
        let access = ACCESS[usize::from(line[1]) % ACCESS.len()];
        let filter = path(&line[2..3 + usize::from(line[0] >> 4) % 3], WORDS);
        file += &match line[0] % 4 {
            0 => format!("user {}\n", NAMES[usize::from(line[1]) % NAMES.len()]),
            1 | 2 => format!("topic {access}{filter}\n"),
            _ => format!("pattern {access}{filter}\n"),
        };
    }
    file
}

fuzz_target!(|input: (&[u8], [u8; 2], &[u8], &[u8])| {
    let (lines, names, topic, filter) = input;
    let file = file(lines);
    let Ok(acl) = Acl::parse(&file) else { return };
    let [identity, client_id] = names.map(|name| NAMES[usize::from(name) % NAMES.len()]);
    let topic = path(&topic[..topic.len().min(5)], &["a", "b", "cc", "", "u", "$SYS", "x"]);
    let filter = path(&filter[..filter.len().min(5)], WORDS);
    for identity in [None, Some(identity)] {
        let client = Client { identity, client_id };
        for (action, access) in [(Action::Publish, "write"), (Action::Receive, "read")] {
            let granted = acl.decide(client, action, &topic).is_granted;
            let naive = is_granted(&file, identity, client_id, access, &topic);
            assert_eq!(granted, naive, "{file}{client:?} {access} {topic:?}");
        }
        // A filter that is this topic: granted is granted, refused is refused.
        let may_read = is_granted(&file, identity, client_id, "read", &topic);
        if !topic.is_empty() {
            match acl.subscription(client, (Action::Receive, &topic)) {
                Subscription::Granted => assert!(may_read, "{file}{client:?} subscribes to {topic:?}"),
                Subscription::Refused => assert!(!may_read, "{file}{client:?} subscribes to {topic:?}"),
                Subscription::Checked => {}
            }
        }
        // One that matches it: what is granted without a check is granted for each of its topics.
        if forebay_fuzz::mqtt::topic::valid_filter(&filter) && matches(&filter, &topic) {
            match acl.subscription(client, (Action::Receive, &filter)) {
                Subscription::Granted => assert!(may_read, "{file}{client:?} {filter:?} has {topic:?}"),
                Subscription::Refused => assert!(!may_read, "{file}{client:?} {filter:?} has {topic:?}"),
                Subscription::Checked => {}
            }
        }
    }
});

/// Whether a filter matches a topic, `$` as it is in a subscription [MQTT-4.7.2-1].
fn matches(filter: &str, topic: &str) -> bool {
    fn fits(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([level, filter @ ..], [name, topic @ ..]) => (*level == "+" || level == name) && fits(filter, topic),
            _ => false,
        }
    }
    let (levels, names): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    !topic.is_empty() && filter.starts_with('$') == topic.starts_with('$') && fits(&levels, &names)
}

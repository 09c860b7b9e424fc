//! An access control list, and what it says to a topic: the same each time, and nothing where there is nothing.
#![no_main]

use forebay_fuzz::auth::acl::{Acl, Action, Client};
use forebay_fuzz::mqtt::topic::valid_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, &str)| {
    let (file, user, client_id, topic) = input;
    let Ok(acl) = Acl::parse(file) else { return };
    if !valid_name(topic) {
        return;
    }
    for identity in [None, Some(user)] {
        let client = Client { identity, client_id };
        for action in [Action::Publish, Action::Receive] {
            let decision = acl.decide(client, action, topic);
            assert!(!decision.is_granted || decision.by.is_some(), "what is granted, a rule grants");
            assert!(acl.len() > 0 || !decision.is_granted);
            // A name of wildcards gets nothing by a pattern.
            if decision.is_granted && (client_id.contains(['+', '#']) || user.contains(['+', '#'])) {
                let line = decision.by.map(|rule| rule.text.trim_start().to_owned()).unwrap_or_default();
                assert!(identity.is_none() || !line.starts_with("pattern"), "{line}");
            }
        }
    }
});

//! The time for which an instance is silent (C4).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::*;

/// An answer to a request that was sent before the process stood still does not say what the group did meanwhile.
#[test]
fn a_process_that_stood_still_is_silent_until_a_later_request_is_answered() {
    let instance = Instance {
        name: Arc::from("a"),
        incarnation: 1,
        link: Arc::from("a:1885"),
        server: Arc::from(""),
        member_id: Arc::from(""),
    };
    let settings = Settings {
        number: 1,
        group: Rc::from("g"),
        instance,
        shards: 1,
        terms: Terms { slots: 64, routes: 7 },
        session_timeout: Duration::from_secs(10),
    };
    let [before, after] = [20, 25].map(|s| Monotonic(0).after(Duration::from_secs(s)));
    let mut own = Membership::new(settings, 1, before);
    let alive = |token| Answer { member: 1, token, says: Says::Alive };
    [77, 78].iter().for_each(|token| _ = own.silence.sent.insert(*token, before));
    own.on_answer(&alive(77), before);
    assert!(!own.is_silent() && own.speaks_until() > after);
    own.stood_still(after);
    own.on_time(after);
    assert!(own.is_silent() && own.speaks_until() <= after);
    own.on_answer(&alive(78), after);
    assert!(own.is_silent());
    own.silence.sent.insert(79, after);
    own.on_answer(&alive(79), after);
    assert!(!own.is_silent() && own.speaks_until() > after);
}

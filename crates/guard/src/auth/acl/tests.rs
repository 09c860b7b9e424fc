use super::matching::covers;
use proptest::prelude::*;

use super::*;

fn client<'a>(identity: Option<&'a str>, client_id: &'a str) -> Client<'a> {
    Client { identity, client_id }
}

const FILE: &str = "\
# anonymous
topic read public/#
topic $SYS/broker/version

user alice
topic write plant/+/in
topic readwrite plant/1/#
topic deny plant/1/secret/#
topic with spaces/in it

pattern write dev/%c/up
pattern read dev/%c/down/#
pattern deny dev/%c/up/locked
pattern home/%u/#
";

/// X38: mosquitto's file as it is.
#[test]
fn a_file_is_read_as_mosquitto_reads_it() {
    use Action::{Publish, Receive};
    let wrong = Acl::parse(FILE).expect_err("`with` is no access");
    assert_eq!(wrong, ["line 9 has the access \"with\": read, write, readwrite, deny and replay are known"]);
    let acl = Acl::parse(&FILE.replace("topic with spaces/in it", "topic read with spaces/in it")).expect("good");
    let (alice, anonymous) = (client(Some("alice"), "d1"), client(None, "d1"));
    for (who, action, topic, granted) in [
        (anonymous, Receive, "public", true),
        (anonymous, Receive, "public/a", true),
        (anonymous, Publish, "public/a", false),
        (anonymous, Receive, "$SYS/broker/version", true),
        (anonymous, Receive, "$SYS/broker/uptime", false),
        (alice, Receive, "public/a", false),
        (alice, Publish, "plant/7/in", true),
        (alice, Receive, "plant/7/in", false),
        (alice, Receive, "plant/1/in", true),
        (alice, Publish, "plant/1/secret", false),
        (alice, Publish, "plant/1/secret/x", false),
        (alice, Receive, "with spaces/in it", true),
        (alice, Publish, "dev/d1/up", true),
        (anonymous, Publish, "dev/d1/up", true),
        (anonymous, Publish, "dev/d2/up", false),
        (anonymous, Receive, "dev/d1/down", true),
        (anonymous, Publish, "dev/d1/up/locked", false),
        (alice, Publish, "home/alice/x", true),
        (alice, Publish, "home/bob/x", false),
        // Without an identity `%u` matches nothing.
        (anonymous, Publish, "home//x", false),
    ] {
        assert_eq!(acl.decide(who, action, topic).is_granted, granted, "{who:?} {action:?} {topic}");
    }
}

/// X38: what no rule matches is denied.
#[test]
fn an_empty_file_refuses_everything() {
    let acl = Acl::parse("").expect("good");
    assert!(!acl.decide(client(Some("alice"), "d1"), Action::Publish, "a").is_granted);
    assert_eq!(acl.subscription(client(None, "d1"), (Action::Receive, "#")), Subscription::Refused);
}

/// X38: the order of the rules.
#[test]
fn denials_come_first_and_a_users_own_rules_before_the_patterns() {
    let acl = Acl::parse("user a\ntopic x/#\ntopic deny x/1\npattern deny x/2\npattern y/#\n").expect("good");
    let decide = |topic| acl.decide(client(Some("a"), "c"), Action::Publish, topic);
    assert!(!decide("x/1").is_granted, "though the grant is before it");
    assert!(decide("x/2").is_granted, "the user's grant is asked before the patterns' denial");
    assert!(decide("y/1").is_granted);
    assert_eq!(decide("x/1").by.map(|rule| (rule.line, &*rule.text)), Some((3, "topic deny x/1")));
}

/// X39: nothing is built by substitution (CVE-2017-7650).
#[test]
fn a_name_with_a_wildcard_gets_nothing_by_a_pattern() {
    let acl = Acl::parse("pattern dev/%c/#\npattern home/%u/#\npattern all\nuser +\ntopic own\n").expect("good");
    for (identity, id) in [(Some("+"), "d"), (Some("a"), "#"), (Some("a"), "x/+")] {
        for topic in ["dev/d/x", "home/a/x", "dev/#/x", "all"] {
            assert!(!acl.decide(client(identity, id), Action::Publish, topic).is_granted, "{identity:?} {id} {topic}");
        }
    }
    assert!(acl.decide(client(Some("+"), "d"), Action::Publish, "own").is_granted, "its own rules hold");
    // Names with a slash are no level.
    assert!(!acl.decide(client(None, "a/b"), Action::Publish, "dev/a/b/x").is_granted);
}

/// X42: granted, refused, or checked at delivery.
#[test]
fn subscriptions_have_three_outcomes() {
    use Subscription::{Checked, Granted, Refused};
    let acl =
        Acl::parse("user a\ntopic read x/#\ntopic read y/1\ntopic deny x/9/#\ntopic write w/#\npattern read d/%c/#\n");
    let acl = acl.expect("good");
    for (filter, outcome) in [
        ("x/1", Granted),
        ("x/1/#", Granted),
        ("x/+", Checked),
        ("x/#", Checked),
        ("x/9/1", Refused),
        ("x/9/+", Refused),
        ("x/+/1", Checked),
        ("y/1", Granted),
        ("y/+", Checked),
        ("y/2", Refused),
        ("#", Checked),
        ("w/1", Refused),
        ("d/c/#", Granted),
        ("d/e/#", Refused),
        ("$SYS/#", Refused),
    ] {
        assert_eq!(acl.subscription(client(Some("a"), "c"), (Action::Receive, filter)), outcome, "{filter}");
    }
}

#[test]
fn what_is_wrong_is_named_by_its_line() {
    for (text, why) in [
        ("user", "line 1 has no user name"),
        ("user a\ntopic", "line 2 has no topic"),
        ("topic read ", "line 1"),
        ("topic all a/b", "line 1 has the access \"all\""),
        ("topic read a/#/b", "line 1 has \"a/#/b\", which is no valid topic filter"),
        ("topics a", "line 1 begins with \"topics\""),
        ("pattern read dev-%c/x", "line 1 has a %c or %u that is only a part"),
    ] {
        match Acl::parse(text) {
            Err(refused) => assert!(refused[0].starts_with(why), "{text}: {refused:?}"),
            // As in mosquitto: a topic with the name of an access.
            Ok(_) => assert_eq!(text, "topic read "),
        }
    }
}

#[test]
fn finding_f14_all_wrong_lines_are_named() {
    let refused = Acl::parse("user\ntopic a\ntopics b\npattern read dev-%c/x\n").expect_err("three are wrong");
    let lines: Vec<_> = refused.iter().map(|why| why.split(' ').nth(1).expect("a number")).collect();
    assert_eq!(lines, ["1", "3", "4"], "{refused:?}");
}

/// A level, mostly one of a few, so that filters and topics meet.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "me", "id"])
}

fn topic() -> impl Strategy<Value = String> {
    (prop::bool::weighted(0.1), prop::collection::vec(level(), 1..4))
        .prop_map(|(system, levels)| format!("{}{}", if system { "$" } else { "" }, levels.join("/")))
        .prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter(own: &'static [&'static str]) -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 1 => Just("+"), 1 => prop::sample::select(own.to_vec())];
    let parts = (prop::bool::weighted(0.1), prop::collection::vec(level, 1..4), prop::bool::weighted(0.3));
    parts
        .prop_map(|(system, mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            // A name that is only a part of a level is in no file.
            let takes_system = system && !matches!(levels[0], "+" | "%c" | "%u");
            format!("{}{}", if takes_system { "$" } else { "" }, levels.join("/"))
        })
        .prop_filter("valid", |filter| forebay_mqtt::topic::valid_filter(filter))
}

/// A second implementation of the match: recursive, with the names substituted.
fn naive(filter: &str, topic: &str) -> bool {
    fn walk(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => walk(filter, topic),
            ([level, filter @ ..], [name, topic @ ..]) => level == name && walk(filter, topic),
            _ => false,
        }
    }
    let split = |text: &'static str| -> Vec<&str> { text.split('/').collect() };
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    filter.starts_with('$') == topic.starts_with('$') && walk(&split(leak(filter)), &split(leak(topic)))
}

fn rule(filter: &str) -> Rule {
    Rule { grant: Grant::ReadWrite, filter: filter.into(), is_pattern: true, line: 1, text: "".into() }
}

const NAMES: Names<'static> = Names { identity: Some("me"), client_id: "id" };

proptest! {
    #[test]
    fn a_rule_matches_as_a_filter_with_the_names_put_in(of in filter(&["%c", "%u"]), topic in topic()) {
        let put_in = of.replace("%c", "id").replace("%u", "me");
        prop_assert_eq!(matches(&rule(&of), NAMES, &topic), naive(&put_in, &topic), "{} {}", of, topic);
    }

    #[test]
    fn who_covers_and_who_overlaps(of in filter(&["%c", "%u"]), asked in filter(&["a"]), topic in topic()) {
        let rule = rule(&of);
        let (is_for, is_asked) = (matches(&rule, NAMES, &topic), naive(&asked, &topic));
        if covers(&rule, NAMES, &asked) {
            prop_assert!(is_for || !is_asked, "{} does not cover {}: {}", of, asked, topic);
        }
        if is_for && is_asked {
            prop_assert!(overlaps(&rule, NAMES, &asked), "{} overlaps {}: {}", of, asked, topic);
        }
    }
}

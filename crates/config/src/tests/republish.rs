//! `[[rule.republish]]`: its meaning, its errors and warnings.

use super::*;
use forebay_rule::template::Template;

fn rule(sql: &str, keys: &str) -> String {
    format!("[[rule]]\nname = 'r'\nsql = \"\"\"{sql}\"\"\"\n[[rule.republish]]\n{keys}\n")
}

fn said(sql: &str, keys: &str) -> String {
    match read(&rule(sql, keys)) {
        Ok(config) => config.warnings.to_string(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn its_keys_are_templates_over_the_output() {
    let text = rule("SELECT payload, clientid FROM 't/#'", "topic = 'u/${clientid}'")
        + "[[rule.republish]]\ntopic = 'v'\npayload = ''\nqos = 2\nretain = true\ndirect = true\n\
           user_properties = \"${pub_props.'User-Property'}\"\n\
           properties = { 'Message-Expiry-Interval' = 60, content_type = '${clientid}' }\n";
    let config = good(&text);
    let [first, second] = &config.rules[0].republish[..] else { panic!("two") };
    let shown = |template: &Template| template.to_string();
    let of = |made: &Republish| [&made.topic, &made.payload, &made.qos, &made.retain].map(shown);
    assert_eq!(of(first), ["u/${clientid}", "${payload}", "${qos}", "${retain}"]);
    assert_eq!(first.user_properties.as_ref().map(|from| shown(&from.template)), Some("${user_properties}".to_owned()));
    assert!(!first.is_direct && first.properties.is_empty());
    assert_eq!(of(second), ["v", "${.}", "2", "true"]);
    assert!(second.user_properties.is_none() && second.is_direct, "those of the message");
    let properties: Vec<_> = second.properties.iter().map(|(name, of)| (name.as_str(), shown(of))).collect();
    let expected = [("message_expiry_interval", "60".to_owned()), ("content_type", "${clientid}".to_owned())];
    assert_eq!(properties, expected);
    assert_eq!(config.warnings, Problems::default(), "a rule that only publishes has an effect");
}

/// The example of docs/SQL.md.
#[test]
fn the_documents_example_is_a_configuration() {
    let document = include_str!("../../../../docs/SQL.md");
    let section = document.split("## Republishing\n").nth(1).expect("its section");
    let example = section.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its example");
    let config = good(example);
    assert_eq!((config.rules[0].republish.len(), config.warnings), (1, Problems::default()));
}

/// A dropped copy may be one of a message that the rule has published.
#[test]
fn a_rule_on_dropped_copies_feeds_sinks_only() {
    let keys = "topic = 'dropped/${clientid}'\npayload = '${.}'";
    let of = |event: &str| said(&format!("SELECT * FROM '$events/{event}'"), keys);
    let refused = "rule \"r\" has `$events/message/delivery_dropped` in FROM, and what it publishes can be dropped, too; feed a sink";
    for name in ["delivery_dropped", "message/delivery_dropped"] {
        assert!(of(name).contains(refused), "{}", of(name));
    }
    for name in ["message/dropped", "client/ping", "client/connected"] {
        assert!(!of(name).contains("feed a sink"), "{}", of(name));
    }
}

#[test]
fn mistakes_are_found_when_it_is_configured() {
    let sql = "SELECT payload, clientid FROM 't/#'";
    for (keys, expected) in [
        ("payload = 'a'", "republish[0].topic: is required"),
        ("topic = 'a/+'", "republish[0].topic: \"a/+\" is not a valid MQTT topic"),
        ("topic = '$SYS/a'", "topics below `$SYS/` are the service's own"),
        ("topic = '$SYS/${clientid}'", "topics below `$SYS/` are the service's own"),
        (
            "topic = '${client}'",
            "asks for `client`, and rule \"r\" has no column of that name; did you mean `clientid`?",
        ),
        ("topic = 'a'\nqos = 3", "republish[0].qos: \"3\" is not 0, 1, 2 or a template; must be 0, 1, 2 or a template"),
        ("topic = 'a'\nqos = '${q}'", "asks for `q`"),
        ("topic = 'a'\nretain = 'yes'", "\"yes\" is not true, false or a template"),
        ("topic = 'a'\nproperties = { content = 'a' }", "\"content\" is no property of a message"),
        ("topic = 'a'\nproperties = { 'Topic-Alias' = '1' }", "\"Topic-Alias\" is no property of a message"),
        ("topic = 'a'\nproperties = { message_expiry_interval = 'soon' }", "\"soon\" is no message_expiry_interval"),
        ("topic = 'a'\nproperties = { content_type = 'a', Content-Type = 'b' }", "\"content_type\" is there already"),
        ("topic = 'a'\ntopik = 'a'", "unknown key; did you mean \"topic\"?"),
    ] {
        let said = said(sql, keys);
        assert!(said.contains(expected), "{keys}\n{said}");
    }
    let said = said("SELECT clientid FROM 't/#'", "topic = 'a'");
    assert!(
        said.contains("republish[0].payload: asks for `payload`") && said.contains("write payload = \"${.}\""),
        "{said}"
    );
    let single = read("[[rule]]\nname = 'r'\nsql = 'SELECT * FROM t'\n[rule.republish]\ntopic = 'a'");
    let said = single.expect_err("one table").to_string();
    assert!(
        said.contains("expected a list of tables") && said.contains("write [[rule.republish]] above its keys"),
        "{said}"
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let chosen = "publishers can choose any topic by what they send";
    let own = "rule \"r\" reads this topic itself, and is not evaluated for what it has published";
    for (sql, topic, warned) in [
        ("SELECT * FROM 't/#'", "t/1", Some(own)),
        ("SELECT * FROM 't/#'", "u/1", None),
        ("SELECT * FROM 't/#'", "${topic}/x", None),
        ("SELECT * FROM 't/#'", "${payload.to}", Some(chosen)),
        ("SELECT payload, payload.to AS to FROM 't/#'", "${to}", Some(chosen)),
        ("SELECT payload, upper(payload.to) AS a, concat('x/', a) AS to FROM 't/#'", "${to}/y", Some(chosen)),
        ("SELECT payload, pub_props.'Response-Topic' AS to FROM 't/#'", "${to}", Some(chosen)),
        ("FOREACH payload.l AS to DO to, payload FROM 't/#'", "${to}", Some(chosen)),
        ("SELECT payload, payload.to AS to FROM 't/#'", "u/${to}", None),
        ("SELECT payload, concat('x/', clientid) AS to FROM 't/#'", "${to}", None),
    ] {
        let said = said(sql, &format!("topic = '{topic}'"));
        match warned {
            Some(expected) => assert!(said.contains(expected), "{sql} {topic}\n{said}"),
            None => assert_eq!(said, "", "{sql} {topic}"),
        }
    }
}

/// F9: a circle over a source and republished messages is refused, as any circle over a source is.
#[test]
fn circles_over_sources_go_through_republished_messages() {
    let text = |topic: &str, more: &str| {
        format!(
            "[[source]]\nname='s'\ntopic='back'\nmqtt_topic='a/1'\n\
             [[rule]]\nname='one'\nsql='SELECT * FROM \"a/#\"'\n[[rule.republish]]\ntopic='{topic}'\n{more}\n\
             [[rule]]\nname='two'\nsql='SELECT * FROM \"c/#\"'\nsinks='fed'\n\
             [[sink]]\nname='filters'\nfilters='b/#'\ntopic='back'\n[[sink]]\nname='fed'\ntopic='back'\n"
        )
    };
    for (topic, sink) in [
        ("b/1", "sink filters can write what rule one makes of messages of a/1"),
        ("b/${clientid}", "sink filters can write what rule one makes of messages of a/1"),
        ("c/1", "sink fed can write what rule two makes of what rule one makes of messages of a/1"),
    ] {
        let said = read(&text(topic, "")).expect_err(topic).to_string();
        assert!(said.contains("records of source s would come back without end") && said.contains(sink), "{said}");
    }
    good(&text("d/1", ""));
    good(&text("b/1", "direct = true"));
    // A rule is not evaluated for its own messages, so the circle ends there.
    good(&text("a/2", ""));
}

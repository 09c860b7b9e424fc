//! `[[source]]`: its meaning, its problems, circles, and changes of it.

use std::time::Duration;

use super::*;

const MAIN: &str = "[kafka.main]\nbootstrap='k:1'\n";

fn source(keys: &str) -> String {
    format!("[[source]]\nname='s'\n{keys}\n")
}

fn one(keys: &str) -> Source {
    let mut config = good(&format!("{MAIN}{}", source(keys)));
    assert_eq!(config.sources.len(), 1);
    config.sources.remove(0)
}

/// The problems of a file, without its name.
fn said(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

fn routes(source: &Source) -> Vec<(String, String)> {
    source.routes().map(|(kafka, mqtt)| (kafka.to_owned(), mqtt.map(ToString::to_string).unwrap_or_default())).collect()
}

/// E66 to E68, E74, E78, E91: the defaults of a source that names only topics.
#[test]
fn the_defaults_of_a_source() {
    let source = one("topic='testtopic-out'\nmqtt_topic='t/1'");
    assert_eq!((source.name.as_str(), source.cluster, source.group.as_str()), ("s", 0, "forebay-s"));
    assert_eq!(routes(&source), [("testtopic-out".to_owned(), "t/1".to_owned())]);
    assert_eq!(
        (source.payload.to_string().as_str(), &source.qos, &source.retain),
        ("${.}", &Choice::Fixed(1), &Choice::Fixed(false))
    );
    assert_eq!((source.offset_reset, source.isolation), (OffsetReset::Latest, Isolation::Committed));
    assert_eq!((source.no_subscriber, source.start_grace), (NoSubscriber::Drop, Duration::from_secs(30)));
    assert_eq!(
        (source.commit_interval, source.window_messages, source.window_bytes),
        (Duration::from_secs(5), 10_000, 8 << 20)
    );
    assert_eq!((source.fetch_bytes, source.release_after, source.paused), (1 << 20, None, false));
    assert_eq!((source.on_bad_record, source.on_bad_batch), (OnBadRecord::Skip, OnBadBatch::Stop));
    assert_eq!(
        (&source.feeds[..], source.properties, source.group_instance),
        (&[Feed::Subscribers, Feed::Rules][..], true, None)
    );
    let config = good(&source_file());
    assert_eq!((config.delivery.fetch_memory, config.sinks.len()), (64 << 20, 0));
    assert_eq!(config.warnings, Problems::default());
}

fn source_file() -> String {
    format!("{MAIN}{}", source("topic='t'\nmqtt_topic='m'"))
}

/// E70: a list of Kafka topics, each with its MQTT topic.
#[test]
fn topics_as_a_text_a_list_or_a_table() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(kafka, mqtt)| ((*kafka).to_owned(), (*mqtt).to_owned())).collect()
    };
    let source = one("topic=['a','b']\nmqtt_topic='t/${.key}'");
    assert_eq!(routes(&source), pairs(&[("a", "t/${key}"), ("b", "t/${key}")]));
    let source = one("topic={ testtopic-out = 't/1', 'a.b' = 'x/${topic}' }");
    assert_eq!(routes(&source), pairs(&[("testtopic-out", "t/1"), ("a.b", "x/${topic}")]));
}

#[test]
fn values_of_keys() {
    for (keys, want) in [
        ("qos=2", Choice::Fixed(2)),
        ("qos='0'", Choice::Fixed(0)),
        (
            "qos='${headers.mqtt-qos}'",
            Choice::Of(forebay_rule::record::RecordTemplate::parse("${headers.mqtt-qos}").unwrap()),
        ),
    ] {
        assert_eq!(one(&format!("topic='t'\nmqtt_topic='m'\n{keys}")).qos, want, "{keys}");
    }
    assert_eq!(one("topic='t'\nmqtt_topic='m'\nretain='true'").retain, Choice::Fixed(true));
    for (given, want) in [
        ("'earliest'", OffsetReset::Earliest),
        ("'-1h'", OffsetReset::Ago(Duration::from_secs(3_600))),
        ("'2026-11-26T10:00:00Z'", OffsetReset::At(1_795_687_200_000)),
        ("'2026-11-26T11:00:00+01:00'", OffsetReset::At(1_795_687_200_000)),
        ("2026-11-26T10:00:00Z", OffsetReset::At(1_795_687_200_000)),
    ] {
        assert_eq!(one(&format!("topic='t'\nmqtt_topic='m'\noffset_reset={given}")).offset_reset, want, "{given}");
    }
    assert_eq!(one("topic='t'\nmqtt_topic='m'\non_bad_record='stop'").on_bad_record, OnBadRecord::Stop);
    let letters = one("topic='t'\nmqtt_topic='m'\non_bad_record='dead-letter'\ndead_letters_topic='d'");
    assert_eq!((letters.on_bad_record, letters.dead_letters_topic.as_deref()), (OnBadRecord::DeadLetter, Some("d")));
    let all = one("topic='t'\nmqtt_topic='m'\ngroup=''\nfeeds=['sinks', 'subscribers']");
    assert!(all.group.is_empty() && all.feeds(Feed::Sinks) && all.feeds(Feed::Subscribers));
}

/// Bad records have one topic, which nothing else needs, and which the source does not read.
#[test]
fn dead_letters_need_a_topic_of_their_own() {
    for (keys, what) in [
        (
            "on_bad_record='dead-letter'",
            "on_bad_record: \"dead-letter\" needs a topic to write them to; set dead_letters_topic",
        ),
        (
            "on_bad_record='dead-letter'\ndead_letters_topic='t'",
            "dead_letters_topic: \"t\" is a topic that the source reads",
        ),
        (
            "on_bad_record='dead-letter'\ndead_letters_topic='a b'",
            "dead_letters_topic: \"a b\" is not a valid Kafka topic",
        ),
        ("on_bad_record='dead-letter'\ndead_letters_topic=''", "dead_letters_topic: must not be empty"),
    ] {
        let said = said(&format!("{MAIN}{}", source(&format!("topic='t'\nmqtt_topic='m'\n{keys}"))));
        assert!(said.contains(what) && !said.contains('\n'), "{said}");
    }
    let feeds = source("topic='t'\nmqtt_topic='m'\nfeeds=['subscribers','sinks']");
    let warned = good(&format!("{MAIN}{feeds}")).warnings.to_string();
    assert!(warned.contains("source[0].feeds: \"sinks\" has no effect: there is no sink"), "{warned}");
    let sink = "[[sink]]\nname='x'\nfilters='x'\ntopic='x'\n";
    assert_eq!(good(&format!("{MAIN}{sink}{feeds}")).warnings, Problems::default());
    let warned = good(&format!("{MAIN}{}", source("topic='t'\nmqtt_topic='m'\ndead_letters_topic='d'"))).warnings;
    assert!(warned.to_string().contains("dead_letters_topic: has no effect without on_bad_record"), "{warned}");
}

/// The API's output for a source can be written into the file, and means the same.
#[test]
fn what_is_shown_reads_back() {
    let keys = "topic={ 'a.b' = 't/${key}' }\nqos='${headers.q}'\nretain=true\nuser_properties={ p = '${partition}' }\noffset_reset='-90m'\n\
                feeds=['subscribers','sinks']\npayload='${value}'\nkey_encoding='base64'\nrelease_after='1h'";
    let source = one(keys);
    let shown = source.shown();
    assert_eq!(shown["topic"], serde_json::json!({ "a.b": "t/${key}" }));
    assert_eq!((&shown["qos"], &shown["retain"]), (&"${headers.q}".into(), &true.into()));
    assert_eq!(shown["offset_reset"], "-5400s");
    let given = shown.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let file = Text { name: "t".to_owned(), text: MAIN.to_owned() };
    let edit = Edit { part: Part::Source, name: "s".to_owned(), to: To::Entry(given) };
    let (text, _) = file.edited(&[edit], &Beside::default()).expect("it can be written");
    assert_eq!(good(&text.text).sources, [source]);
}

/// E77, and every other impossible configuration: each with its position and a remedy.
#[test]
fn what_cannot_work_is_said() {
    for (keys, want) in [
        ("mqtt_topic='m'", "source[0].topic: is required"),
        ("topic={ t = 'm' }\nmqtt_topic='m'", "6:12: source[0].mqtt_topic: cannot be combined with a table of topics"),
        ("topic=['t','t']\nmqtt_topic='m'", "5:12: source[0].topic[1]: \"t\" is in the list already"),
        ("topic=['a b']\nmqtt_topic='m'", "\"a b\" is not a valid Kafka topic: it has ` ` at byte 1"),
        ("topic={}", "source[0].topic: is an empty table; name at least one topic"),
        ("topic=[]\nmqtt_topic='m'", "source[0].topic: is an empty list"),
        ("topic={ a.b = 'm' }", "quote a Kafka topic that contains dots"),
        ("topic='t'\nmqtt_topic='a/#'", "\"a/#\" is not a valid MQTT topic"),
        ("topic='t'\nmqtt_topic=''", "\"\" is not a valid MQTT topic"),
        ("topic='t'\nmqtt_topic='+/${key}'", "`+` cannot be in an MQTT topic"),
        (
            "topic='t'\nmqtt_topic='m/${kye}'",
            "6:15: source[0].mqtt_topic: unknown variable `${kye}`; did you mean `${key}`?",
        ),
        ("topic='t'\nmqtt_topic='m/${payload.id}'", "did you mean `${value.id}`?"),
        ("topic='t'\nmqtt_topic='m'\npayload='${timestamp}'", "did you mean `${ts}`?"),
        ("topic='t'\nmqtt_topic='m'\nqos=3", "source[0].qos: 3 is not a QoS; must be 0, 1, 2 or a template"),
        ("topic='t'\nmqtt_topic='m'\nretain='yes'", "source[0].retain: expected true, false or a template"),
        ("topic='t'\nmqtt_topic='m'\nfeeds='subscriber'", "did you mean \"subscribers\"?"),
        (
            "topic='t'\nmqtt_topic='m'\noffset_reset='latst'",
            "source[0].offset_reset: \"latst\" is not a valid value; did you mean \"latest\"?",
        ),
        ("topic='t'\nmqtt_topic='m'\noffset_reset='2026-11-26'", "a time as in \"2026-11-26T10:00:00Z\""),
        ("topic='t'\nmqtt_topic='m'\noffset_reset='-1 hour'", "source[0].offset_reset: "),
        (
            "topic='t'\nmqtt_topic='m'\ngroup=''\ngroup_instance='i'",
            "source[0].group_instance: has no effect without a group",
        ),
        (
            "topic='t'\nmqtt_topic='m'\nfetch_bytes='64MiB'\n[delivery]\nfetch_memory='32MiB'",
            "fetch_bytes: is more than fetch_memory in [delivery], 32MiB",
        ),
        ("topic='t'\nmqtt_topic='m'\nuser_properties={ '' = 'x' }", "a user property needs a name"),
        ("topic='t'\nmqtt_topic='m'\n'auto.offset.reset'='latest'", "it is offset_reset in [[source]]"),
        ("topic='t'\nmqtt_topic='m'\nkey_encoding_mode='none'", "it is key_encoding in [[source]]"),
        ("topic='t'\nmqtt_topic='m'\nkafka='mian'", "there is no cluster \"mian\"; did you mean \"main\"?"),
        ("topic='t'\nmqtt_topic='m'\nwindow_mesages=1", "did you mean \"window_messages\"?"),
        (
            "topic='t'\nmqtt_topic='m'\n[[source]]\nname='s'\ntopic='u'\nmqtt_topic='m'",
            "\"s\" is already the name of another source, on line 4",
        ),
        (
            "topic='t'\nmqtt_topic='m'\n[[source]]\nname='o'\ntopic=['u','t']\nmqtt_topic='m'",
            "9:12: source[1].topic[1]: \"t\" is read by another source too, on line 5",
        ),
        (
            "topic='t'\nmqtt_topic='m'\ngroup='g'\n[[source]]\nname='o'\ntopic='u'\nmqtt_topic='m'\ngroup='g'",
            "\"g\" is the group of another source too, on line 7",
        ),
    ] {
        let said = said(&format!("{MAIN}{}", source(keys)));
        assert!(said.contains(want), "{keys}\n{said}");
    }
}

/// Topics of the same name in two clusters are two topics.
#[test]
fn a_topic_is_of_its_cluster() {
    let other = "[kafka.b]\nbootstrap='b:1'\n";
    let of =
        |name: &str, kafka: &str| format!("[[source]]\nname='{name}'\nkafka='{kafka}'\ntopic='t'\nmqtt_topic='m'\n");
    let config = good(&format!("{MAIN}{other}{}{}", of("one", "main"), of("two", "b")));
    assert_eq!(config.sources.iter().map(|source| source.cluster).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn variables_of_the_environment_set_keys_of_a_source() {
    let given = [
        ("FOREBAY_SOURCE_0_NAME", "s"),
        ("FOREBAY_SOURCE_0_TOPIC", "{ out = \"t/${key}\" }"),
        ("FOREBAY_SOURCE_0_QOS", "2"),
        ("FOREBAY_SOURCE_0_RETAIN", "${headers.r}"),
        ("FOREBAY_SOURCE_0_FEEDS", "[\"subscribers\"]"),
        ("FOREBAY_SOURCE_0_GROUP_INSTANCE", "pod-1"),
    ];
    let variables = given.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let config = parse_all(MAIN, "t", &variables, None, &Overrides::default(), 2)
        .unwrap_or_else(|problems| panic!("{problems}"));
    let source = &config.sources[0];
    assert_eq!(routes(source), [("out".to_owned(), "t/${key}".to_owned())]);
    assert_eq!((&source.qos, source.group_instance.as_deref()), (&Choice::Fixed(2), Some("pod-1")));
    assert!(matches!(source.retain, Choice::Of(_)));
}

#[test]
fn a_reload_names_what_changes_and_a_source_keeps_its_place() {
    let of = |name: &str, keys: &str| {
        format!("[[source]]\nname='{name}'\nkafka='main'\ntopic='{name}'\nmqtt_topic='m'\n{keys}\n")
    };
    let old = good(&format!("{MAIN}{}{}", of("one", ""), of("two", "")));
    let other = "[kafka.b]\nbootstrap='b:1'\n";
    let new = good(&format!(
        "{other}{MAIN}{}{}",
        of("three", ""),
        of("two", "qos=2\ngroup='g'").replace("kafka='main'", "kafka='b'")
    ));
    let change = Change::between(&old, &new);
    assert_eq!(change.waiting, [""; 0]);
    assert_eq!(
        change.applied,
        ["kafka b (added)", "source one (removed)", "source three (added)", "source two (changed: qos, group, kafka)"]
    );
    let places: Vec<_> =
        change.config.sources.iter().map(|source| (source.name.as_str(), source.is_removed, source.cluster)).collect();
    assert_eq!(places, [("one", true, 0), ("two", false, 1), ("three", false, 0)]);
    let back = Change::between(&change.config, &old);
    assert_eq!(
        back.applied[1..],
        ["source three (removed)", "source one (added)", "source two (changed: qos, group, kafka)"]
    );
    assert_eq!(back.config.sources[..2], old.sources[..]);
    assert!(Change::between(&back.config, &old).is_empty());
}

/// A2: without an MQTT topic records are for the rules that name the source; those must name an existing one.
mod for_rules {
    use super::*;

    fn rule(from: &str) -> String {
        format!(
            "[[rule]]\nname='r'\nsinks=['k']\nsql='SELECT * FROM \"{from}\"'\n[[sink]]\nname='k'\ntopic='${{topic}}-${{key}}'\n"
        )
    }

    #[test]
    fn a_rule_names_a_source() {
        for from in ["$bridges/kafka_consumer:s", "$sources/kafka_consumer:s"] {
            let config = good(&format!("{MAIN}{}{}", source("topic='t'"), rule(from).replace("${topic}", "a")));
            assert_eq!(config.warnings.to_string(), "", "{from}");
            let (source, rules) = (&config.sources[0], config.rules_of(&config.sources[0]).count());
            assert!(!source.has_mqtt_topic() && config.has_use_for(source) && config.is_fed_back(source));
            assert_eq!((rules, routes(source)), (1, vec![("t".to_owned(), String::new())]));
        }
        let said = said(&format!("{MAIN}{}{}", source("topic='t'"), rule("$bridges/kafka_consumer:s2")));
        assert!(said.contains("rule[0].sql: there is no source \"s2\"; did you mean \"s\"?"), "{said}");
        for (from, want) in [
            ("$bridges/mqtt:s", "`$bridges/mqtt:s` is not supported yet; there is $bridges/kafka_consumer:NAME"),
            ("$bridges/kafka_consumer:", "a source has a name"),
        ] {
            let said = super::said(&format!("{MAIN}{}", rule(from)));
            assert!(said.contains(want), "{said}");
        }
    }

    /// Publications that a rule makes of a record wait for subscribers, too.
    #[test]
    fn finding_q40_waiting_has_an_effect_where_a_rule_publishes_the_records() {
        let source = source("topic='t'\nno_subscriber='wait'\nstart_grace='5s'");
        let rule = rule("$bridges/kafka_consumer:s").replace("${topic}", "a");
        let republishes = rule.replace("[[sink]]", "[[rule.republish]]\ntopic='made/1'\npayload='${value}'\n[[sink]]");
        let said = |rule: &str| good(&format!("{MAIN}{source}{rule}")).warnings.to_string();
        assert_eq!(said(&republishes), "");
        assert!(said(&rule).contains("source[0].start_grace: has no effect without mqtt_topic"));
    }

    #[test]
    fn what_is_of_no_use_is_warned_of() {
        let alone = good(&format!("{MAIN}{}", source("topic='t'\nqos=2\nno_subscriber='wait'")));
        let said = alone.warnings.to_string();
        for want in [
            "source[0].mqtt_topic: is missing, and no rule names the source: nothing is read; name an MQTT topic, as in",
            "or write a rule FROM \"$bridges/kafka_consumer:s\"",
            "source[0].qos: has no effect without mqtt_topic",
            "source[0].no_subscriber: has no effect without mqtt_topic",
        ] {
            assert!(said.contains(want), "{said}");
        }
        assert!(!alone.has_use_for(&alone.sources[0]));
        let off = format!(
            "{MAIN}{}{}",
            source("topic='t'"),
            rule("$bridges/kafka_consumer:s").replace("name='r'", "name='r'\nenabled=false")
        );
        assert!(!good(&off.replace("${topic}", "a")).has_use_for(&alone.sources[0]));
    }

    /// A circle from a source over a rule to the source's own topic.
    #[test]
    fn a_rule_makes_a_circle_too() {
        let text =
            format!("{MAIN}{}{}", source("topic='t-1'"), rule("$bridges/kafka_consumer:s").replace("${topic}", "t"));
        let said = said(&text);
        let want = "source[0].name: records of source s would come back without end: sink k can write what rule r makes of records of source \
                    s to Kafka topic t-1, which source s reads; let the sink write another Kafka topic";
        assert!(said.contains(want), "{said}");
        good(&text.replace("'t-1'", "'u'"));
    }
}

/// F9: a sink that can write to a topic of the source is refused if the source feeds it.
mod circles {
    use super::*;

    /// The result of a check with one source, from Kafka topic `back`, and one sink.
    fn of(source: &str, sink: &str) -> Result<Config, String> {
        let text = format!(
            "{MAIN}[[source]]\nname='s'\ntopic='back'\nfeeds=['subscribers','sinks']\n{source}\n[[sink]]\nname='k'\n{sink}\n"
        );
        read(&text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_sink_that_takes_the_message_and_writes_the_topic() {
        for (source, sink) in [
            ("mqtt_topic='a/b'", "filters='#'\ntopic='back'"),
            ("mqtt_topic='a/ba'", "filters='a/+'\ntopic='${topic[1]}ck'"),
            ("mqtt_topic='back'", "filters='+'\ntopic='${topic}'"),
            ("mqtt_topic='a'", "filters='a/#'\ntopic='back'"),
            ("mqtt_topic='a/${key}'", "filters='a/x/y'\ntopic='back'"),
            ("mqtt_topic='a/${key}/cmd'", "filters='+/+/cmd'\ntopic='b${payload}'"),
            ("mqtt_topic='${key}'", "filters='z/#'\ntopic='${clientid}'"),
            ("mqtt_topic='${topic}/x'", "filters='back/#'\ntopic='back'"),
            ("mqtt_topic='a/${key}'", "filters='#'\nexclude='a/x/#'\ntopic='back'"),
            ("mqtt_topic='a/b'", "filters='#'\ntopic='t'\ndead_letters_topic='back'"),
            ("mqtt_topic='$a/b'", "filters='$a/#'\ntopic='back'"),
        ] {
            let said = of(source, sink).expect_err(sink);
            let want = "source[0].feeds: records of source s would come back without end: sink k can write messages of";
            assert!(
                said.contains(want) && said.contains("which source s reads; let the sink exclude"),
                "{source} {sink}\n{said}"
            );
        }
    }

    /// The environment is known at the start: a topic out of it is no topic of the source. Without the variable, or with that of the source, it may be.
    #[test]
    fn finding_q51_a_topic_out_of_the_environment_is_known() {
        let text = format!(
            "{MAIN}[[source]]\nname='s'\ntopic='testtopic-out'\nmqtt_topic='t/1'\n\
             [[rule]]\nname='r'\nsinks=['k']\nsql='SELECT getenv(`EMQXVAR_KAFKA_TOPIC`) as kafka_topic, payload FROM \"t/#\"'\n\
             [[sink]]\nname='k'\ntopic='${{kafka_topic}}'\n"
        );
        let of = |value: &str| {
            let variables = Environment::of([("EMQXVAR_KAFKA_TOPIC".to_owned(), value.to_owned())]);
            let overrides = Overrides { variables, ..Overrides::default() };
            parse_with(&text, "forebay.toml", &overrides, 2).map_err(|problems| problems.to_string())
        };
        assert!(of("testtopic-in").is_ok());
        assert!(of("testtopic-out").is_err_and(|said| said.contains("would come back without end")));
        let other = text.replace("getenv(`EMQXVAR_KAFKA_TOPIC`)", "payload.topic");
        assert!(said(&other).contains("would come back without end"));
    }

    #[test]
    fn what_cannot_come_back_is_no_circle() {
        for (source, sink) in [
            ("mqtt_topic='a/b'", "filters='b/#'\ntopic='back'"),
            ("mqtt_topic='a/b'", "filters='#'\ntopic='other'"),
            ("mqtt_topic='a/b'", "filters='#'\nexclude='a/#'\ntopic='back'"),
            ("mqtt_topic='a/${key}'", "filters='#'\nexclude='a/#'\ntopic='back'"),
            ("mqtt_topic='a/${key}'", "filters='b/#'\ntopic='back'"),
            ("mqtt_topic='a/${key}/cmd'", "filters='a/+/state'\ntopic='back'"),
            ("mqtt_topic='a/${partition}'", "filters='a/+/x'\ntopic='back'"),
            ("mqtt_topic='${topic}/x'", "filters='a/#'\ntopic='back'"),
            ("mqtt_topic='a/b'", "filters='#'\ntopic='${topic[0]}-x'"),
            ("mqtt_topic='${key}'", "filters='$SYS/#'\ntopic='back'"),
            ("mqtt_topic='$a/b'", "filters='#'\ntopic='back'"),
        ] {
            of(source, sink).unwrap_or_else(|said| panic!("{source} {sink}\n{said}"));
        }
        // Subscribers write to no Kafka topic.
        let sink = "[[sink]]\nname='k'\nfilters='#'\ntopic='t'\n";
        good(&format!("{MAIN}{}{sink}", source("topic='t'\nmqtt_topic='a/b'")));
        // Topics of another cluster are different topics.
        let b = "[kafka.b]\nbootstrap='b:1'\n";
        let source = "[[source]]\nname='s'\nkafka='main'\ntopic='t'\nmqtt_topic='m'\nfeeds='sinks'\n";
        good(&format!("{MAIN}{b}{source}[[sink]]\nname='k'\nkafka='b'\nfilters='#'\ntopic='t'\n"));
    }

    /// A message that goes out by a bridge may be refused, and its dead letter is a record.
    #[test]
    fn dead_letters_of_a_bridge_are_a_way_back() {
        let of = |keys: &str, filter: &str, letters: &str| {
            let source = format!("[[source]]\nname='s'\ntopic='t'\nmqtt_topic='m/${{key}}'\n{keys}\n");
            let sink = "[[sink]]\nname='k'\nfilters='x'\ntopic='y'\n";
            let bridge = format!(
                "[bridge.b]\nurl='mqtt://a'\ndead_letters_topic='{letters}'\n[[bridge.b.out]]\nfilters='{filter}'\n"
            );
            read(&format!("{MAIN}{source}{sink}{bridge}")).map_err(|problems| problems.to_string())
        };
        let said = of("", "m/#", "t").expect_err("a circle");
        let want = "source[0].feeds: records of source s would come back without end: bridge b writes messages of m/${key} that its remote refuses to \
                    Kafka topic t, which source s reads; write the bridge's dead letters to another Kafka topic";
        assert!(said.contains(want), "{said}");
        for (keys, filter, letters) in [("", "n/#", "t"), ("", "m/#", "u"), ("feeds='sinks'", "m/#", "t")] {
            of(keys, filter, letters).unwrap_or_else(|said| panic!("{keys} {filter} {letters}\n{said}"));
        }
    }

    /// The message of the default sink of a configuration without any.
    #[test]
    fn the_default_sink_is_one() {
        let said = said("[[source]]\nname='s'\ntopic='mqtt-messages'\nmqtt_topic='m'\nfeeds=['subscribers','sinks']\n");
        assert!(said.contains("sink default can write messages of m to Kafka topic mqtt-messages"), "{said}");
    }

    #[test]
    fn a_circle_of_several_sources_is_said_once_with_its_way() {
        let source = |name: &str, topic: &str| {
            format!("[[source]]\nname='{name}'\ntopic='{topic}'\nmqtt_topic='m/{name}'\nfeeds='sinks'\n")
        };
        let sink =
            |name: &str, of: &str, topic: &str| format!("[[sink]]\nname='{name}'\nfilters='m/{of}'\ntopic='{topic}'\n");
        let text = format!(
            "{MAIN}{}{}{}{}{}{}",
            source("a", "ta"),
            source("b", "tb"),
            source("c", "tc"),
            sink("ka", "a", "tb"),
            sink("kb", "b", "tc"),
            sink("kc", "c", "tb")
        );
        let said = said(&text);
        assert!(
            said.contains(
                "source[1].feeds: records of source b would come back without end: sink kb can write messages of m/b to Kafka topic tc, which source c \
                 reads; sink kc can write messages of m/c to Kafka topic tb, which source b reads"
            ),
            "{said}"
        );
        assert_eq!(said.matches("without end").count(), 1, "{said}");
    }

    /// The page shows this very sentence.
    #[test]
    fn the_documents_circle() {
        let document = include_str!("../../../../docs/SOURCES.md");
        let shown = document.split("```text\n").nth(1).and_then(|rest| rest.lines().next()).expect("the example");
        let text = format!(
            "{MAIN}[[source]]\nname = \"s\"\ntopic = \"testtopic-out\"\nmqtt_topic = \"t/1\"\n\nfeeds = [\"subscribers\", \"sinks\"]\n\
             [[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"testtopic-out\"\n"
        );
        assert_eq!(said(&text), shown);
    }
}

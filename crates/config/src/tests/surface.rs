//! Tests of the surface beside the file: variables of the environment, the commented example, the schema.

use super::*;

fn read_env(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()))).collect();
    parse_all(text, "forebay.toml", &variables, None, &Overrides::default(), 2)
}

fn said(text: &str, name: &str, value: &str) -> String {
    read_env(text, &[(name, value)]).expect_err(name).to_string()
}

const FILE: &str = "[service]\nshards = 2\n[[listener]]\nbind = \"127.0.0.1:1\"\n[kafka.eu-west]\nbootstrap = \"a:1\"\n\
                    [[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\nheaders = { z = \"1\" }\n";

#[test]
fn variables_mean_what_the_file_would() {
    let by_env = read_env(
        FILE,
        &[
            ("FOREBAY_SERVICE_SHARDS", "1"),
            ("FOREBAY_SERVICE_PIN", "false"),
            ("FOREBAY_LOG_LEVEL", "debug"),
            ("FOREBAY_LISTENER_1_BIND", "127.0.0.1:2"),
            ("FOREBAY_KAFKA_EU_WEST_BOOTSTRAP", "b:1,c:2"),
            ("FOREBAY_KAFKA_EU_WEST_RECONNECT_BACKOFF_MAX", "2s"),
            ("FOREBAY_KAFKA_EU_WEST_BUFFER_BYTES", "67108864"),
            ("FOREBAY_SINK_0_FILTERS", "[\"a/#\", \"b\"]"),
            ("FOREBAY_SINK_0_HEADERS", "{ b = \"1\", a = \"${clientid}\" }"),
            ("FOREBAY_SINK_0_KEY", ""),
            ("FOREBAY_SPOOL_BYTES_MAX", "1GiB"),
            ("FOREBAY_SPOOL_SPOOL_SHARE", "0.25"),
            ("FOREBAY_SINK_0_BUFFER", "hybrid"),
            ("FOREBAY_LISTENER_0_RECEIPTS", "true"),
        ],
    )
    .unwrap();
    let by_file = good(
        "[service]\nshards = 1\npin = false\n[log]\nlevel = \"debug\"\n[[listener]]\nbind = \"127.0.0.1:1\"\nreceipts = true\n\
         [spool]\nbytes_max = \"1GiB\"\nspool_share = 0.25\n[[listener]]\nbind = \"127.0.0.1:2\"\n[kafka.eu-west]\nbootstrap = [\"b:1\", \"c:2\"]\n\
         reconnect_backoff_max = \"2s\"\nbuffer_bytes = \"64MiB\"\n[[sink]]\nname = \"s\"\nfilters = [\"a/#\", \"b\"]\n\
         topic = \"t\"\nkey = \"\"\nbuffer = \"hybrid\"\nheaders = { b = \"1\", a = \"${clientid}\" }\n",
    );
    assert_eq!(by_env.listeners[1].moved_by, "FOREBAY_LISTENER_1_BIND");
    let same = |mut config: Config| {
        config.listeners.iter_mut().for_each(|listener| listener.moved_by.clear());
        config
    };
    assert_eq!(same(by_env), same(by_file));
}

/// A container may have no file at all.
#[test]
fn variables_alone_are_a_configuration() {
    let config = read_env(
        "",
        &[
            ("FOREBAY_KAFKA_MAIN_BOOTSTRAP", "k:9092"),
            ("FOREBAY_SINK_0_NAME", "all"),
            ("FOREBAY_SINK_0_FILTERS", "#"),
            ("FOREBAY_SINK_0_TOPIC", "t"),
            ("FOREBAY_SINK_1_NAME", "more"),
            ("FOREBAY_SINK_1_FILTERS", "x"),
            ("FOREBAY_SINK_1_TOPIC", "u"),
        ],
    )
    .unwrap();
    assert_eq!(config.clusters[0].name, "main");
    assert_eq!(config.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>(), ["all", "more"]);
}

#[test]
fn a_problem_names_the_variable() {
    for (name, value, want) in [
        ("FOREBAY_SERVICE_SHARDS", "four", r#"expected an integer, found the string "four""#),
        ("FOREBAY_SERVICE_SHARD", "4", "is not a setting of Forebay; did you mean FOREBAY_SERVICE_SHARDS?"),
        ("FOREBAY_SINK_0_LINGR", "2ms", "is not a setting of Forebay; did you mean FOREBAY_SINK_0_LINGER?"),
        ("FOREBAY_KAFKA_EU_WEST_CLIENT", "x", "did you mean FOREBAY_KAFKA_EU_WEST_CLIENT_ID?"),
        ("FOREBAY_SINK_0_LINGER", "2", "write a whole number and one of us, ms, s, m, h, d"),
        ("FOREBAY_SINK_2_NAME", "x", "[[sink]] has 1 before it; indexes start at 0: the next one is 1"),
        ("FOREBAY_SINK_0_FILTERS", "[\"a/#/b\"]", "\"a/#/b\" is not a valid topic filter"),
        ("FOREBAY_SINK_0_FILTERS", "[\"a", "not TOML: "),
        ("FOREBAY_SINK_0_ACKNOWLEDGE", "stored", "needs a disk buffer, and there is none"),
        ("FOREBAY_CONTROL_BIND", "127.0.0.1:1", "127.0.0.1:1 is already used by listener[0].bind"),
    ] {
        let said = said(FILE, name, value);
        assert!(said.starts_with(&format!("environment: {name}: ")) && said.contains(want), "{said}");
    }
    let lonely = said("", "FOREBAY_SINK_0_NAME", "x");
    assert!(lonely.contains("environment: sink[0].topic: is required"), "{lonely}");
    let far = said("", "FOREBAY_SINK_QQQQQQQQ", "x");
    assert!(far.contains("names that begin with FOREBAY_VAR_ are for templates"), "{far}");
}

#[test]
fn other_variables_are_left_alone() {
    for name in [
        "FOREBAY_CONFIG",
        // cargo sets this variable for programs that it runs: the first command must not warn of it.
        "FOREBAY_BUILD",
        "FOREBAY_LOG",
        "FOREBAY_VAR_SITE",
        "FOREBAY_TEST_KAFKA",
        "FOREBAY_KAFKA_SCRIPT",
        "FOREBAY_SERVICE_HOST",
        "FOREBAY_SERVICE_PORT",
        "FOREBAY_SERVICE_PORT_MQTT",
        "FOREBAY_PORT",
        "FOREBAY_MQTT_PORT_1883_TCP_ADDR",
        "PATH",
    ] {
        assert!(!environment::is_ours(name), "{name}");
    }
    for key in keys::all() {
        let name = format!("FOREBAY_{}_{}", key.section.name(), key.name).to_uppercase();
        assert!(environment::is_ours(&name), "{name}");
    }
}

#[test]
fn the_example_means_the_defaults_and_its_keys_hold() {
    let example = example();
    assert_eq!(good(&example), good(""));
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = good(&uncommented);
    assert_eq!(config.service, good("").service);
    // One of the listeners can be reached from other machines.
    let mqtt = Mqtt { failures_per_address: 1_000, ..good("").mqtt };
    assert_eq!((config.mqtt, config.log), (mqtt, good("").log));
    for key in keys::all() {
        let line = format!("{} = ", key.name);
        let shown = uncommented.lines().any(|found| found.starts_with(&line));
        // A key that is required, or has a default to write down, is shown with a value that holds.
        let worked_out = matches!(key.default, keys::Absent::From(_)) && example.contains(&format!("# {line}…"));
        assert!(shown || worked_out, "{}", key.name);
    }
}

/// The set-ups are valid as they are printed, and with every comment made a key.
#[test]
fn the_set_ups_of_other_guides_read_without_a_warning() {
    for text in [AS_IN_TBMQ, AS_IN_EMQX] {
        let is_key = |rest: &str| rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
        let shown = |line: &str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line).to_owned() + "\n";
        let uncommented: String = text.lines().map(shown).collect();
        assert!(uncommented.lines().count() == text.lines().count() && uncommented != text);
        for text in [text, &uncommented] {
            assert_eq!(good(text).warnings, Problems::default());
        }
    }
}

#[test]
fn the_schema_has_every_key() {
    let schema = schema();
    for key in keys::all() {
        let section = &schema["properties"][key.section.name()];
        let table = match key.section {
            keys::Section::ControlTls => &schema["properties"]["control"]["properties"]["tls"],
            keys::Section::KafkaSasl => &schema["properties"]["kafka"]["additionalProperties"]["properties"]["sasl"],
            keys::Section::AuthJwt => &schema["properties"]["auth"]["additionalProperties"]["properties"]["jwt"],
            keys::Section::AuthRole => {
                &schema["properties"]["auth"]["additionalProperties"]["properties"]["role"]["additionalProperties"]
            }
            keys::Section::ListenerWs => &schema["properties"]["listener"]["items"]["properties"]["ws"],
            keys::Section::RuleRepublish => &schema["properties"]["rule"]["items"]["properties"]["republish"]["items"],
            keys::Section::AuthLimits => &schema["properties"]["auth"]["additionalProperties"]["properties"]["limits"],
            keys::Section::KafkaTls => &schema["properties"]["kafka"]["additionalProperties"]["properties"]["tls"],
            keys::Section::Kafka | keys::Section::Auth | keys::Section::Bridge => &section["additionalProperties"],
            keys::Section::BridgeTls => &schema["properties"]["bridge"]["additionalProperties"]["properties"]["tls"],
            keys::Section::BridgeIn => {
                &schema["properties"]["bridge"]["additionalProperties"]["properties"]["in"]["items"]
            }
            keys::Section::BridgeOut => {
                &schema["properties"]["bridge"]["additionalProperties"]["properties"]["out"]["items"]
            }
            keys::Section::BrokerLink => &schema["properties"]["broker"]["properties"]["link"],
            keys::Section::BrokerRoute => &schema["properties"]["broker"]["properties"]["route"]["items"],
            keys::Section::ListenerTls => &schema["properties"]["listener"]["items"]["properties"]["tls"],
            keys::Section::Listener | keys::Section::Sink | keys::Section::Source | keys::Section::Rule => {
                &section["items"]
            }
            _ => section,
        };
        assert!(table["properties"][key.name].is_object(), "{}", key.name);
    }
}

#[test]
fn a_variable_that_is_no_setting_is_a_warning_and_one_that_looks_like_one_a_problem() {
    let with = |name: &str| {
        let variables = [(name.to_owned(), Some("1".to_owned()))];
        parse_all("", "test", &variables, None, &Overrides::default(), 1)
    };
    for name in ["FOREBAY_VERSION", "FOREBAY_IMAGE_TAG", "FOREBAY_RELEASE_NAME"] {
        let config = with(name).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.to_string().contains(&format!("{name}: has no effect")), "{}", config.warnings);
    }
    for name in ["FOREBAY_SINK_0_LINGR", "FOREBAY_SERVICE_SHARD", "FOREBAY_SERVCE_SHARDS", "FOREBAY_SOURCE_0_TOPIK"] {
        let problems = with(name).expect_err(name).to_string();
        assert!(problems.contains(name), "{problems}");
    }
}

/// The embedded log has neither TLS nor passwords (X66), among other conflicts.
#[test]
fn what_is_legal_and_not_meant_is_a_warning() {
    let sink = |more: &str| format!("[kafka.main]\nbootstrap='k:1'\n[[sink]]\nname='a'\nfilters='#'\n{more}\n");
    for (text, want) in [
        (
            "[service]\ndata_dir = '~/forebay'".to_owned(),
            "2:12: service.data_dir: \"~/forebay\" is a directory named `~`",
        ),
        (sink("topic = '${topic}'"), "6:9: sink[0].topic: the MQTT topic in the name of a Kafka topic"),
        (sink("topic = 'x-${topic}'"), "this version cannot write another character in the place of `/`"),
        // Finding K15.
        (
            sink("topic = 't'\nempty_payload = 'null'\nkey = '${payload.id}'"),
            "7:17: sink[0].empty_payload: deletes nothing",
        ),
        (sink("topic = 't'\nempty_payload = 'null'\nkey = ''"), "7:17: sink[0].empty_payload: deletes nothing"),
        (sink("topic = 't'\nexclude = '#'"), "7:11: sink[0].exclude: leaves nothing of `filters`"),
        (sink("topic = 't'\nexclude = ['a/+', '$SYS/#']"), "7:11: sink[0].exclude: \"$SYS/#\" has no effect"),
        (sink("topic = 't'\nfallback = true"), "7:12: sink[0].fallback: has no effect"),
        (sink("topic = 't'\ntimestamp_unit = 's'"), "7:18: sink[0].timestamp_unit: has no effect without `timestamp`"),
        (sink("topic = 't'\ntimestamp = '${payload.ts}{qos}'"), "7:13: sink[0].timestamp: `{qos}` is plain text"),
        (sink("topic = 't'\nkey = '{clientid}'"), "7:7: sink[0].key: `{clientid}` is plain text"),
        (sink("topic = 't'\nheaders = { a = 'x{topic}' }"), "7:11: sink[0].headers: `{topic}` is plain text"),
        (sink("topic = 't'\ndead_letters_file = '~/dead'"), "7:21: sink[0].dead_letters_file: \"~/dead\""),
        (sink("topic = 't'\nmetadata = { a = 'bcd' }"), "7:12: sink[0].metadata: has no effect"),
        (
            sink("topic = 't'\n[kafka.other]\nbootstrap='k:2'").replace("name=", "kafka='main'\nname="),
            "kafka.other: has no effect",
        ),
        (
            sink("topic = 't'\nacknowledge = 'received'\n[[listener]]\nbind='127.0.0.1:1'\nreceipts=true"),
            "10:10: listener[0].receipts: has no effect",
        ),
        (sink("topic = 't'\n[[sink]]\nname='b'\nfilters='#'\ntopic='t'"), "written twice"),
        ("[telemetry]\nservice_name = 'edge'".to_owned(), "1:2: telemetry: has no effect"),
        ("[embedded]\nbind = '0.0.0.0:9092'".to_owned(), "2:8: embedded.bind: anyone who reaches 0.0.0.0:9092"),
    ] {
        let config = good(&text);
        assert!(config.warnings.to_string().contains(want), "{text}\n{}", config.warnings);
        assert_eq!(config.warnings.0.len(), 1, "{}", config.warnings);
    }
    let fine = sink(
        "topic = 'x-${topic[0]}'\nkey = '${clientid}'\nvalue = '{\"p\":${payload}}'\nmetadata={a='bcd'}\nheaders={b='${metadata.a}'}",
    );
    assert_eq!(good(&fine).warnings, Problems::default());
    let chosen = sink(
        "topic='t'\nexclude='a/#'\nempty_payload='null'\ntimestamp='${payload.ts}'\ntimestamp_unit='ns'\n[[sink]]\nname='b'\nfilters='#'\n\
         topic='t'\nfallback=true\n[[sink]]\nname='c'\nfilters='+'\ntopic='${topic}'",
    );
    assert_eq!(good(&chosen).warnings, Problems::default());
    assert_eq!(good("").warnings, Problems::default());
}

#[test]
fn finding_k13_a_topic_of_many_levels_in_a_name_is_a_warning() {
    let warned = |filters: &str, topic: &str| {
        let text = format!("[kafka.main]\nbootstrap='k:1'\n[[sink]]\nname='a'\nfilters={filters}\ntopic='{topic}'\n");
        good(&text).warnings.to_string().contains("messages whose topic has more than one level are refused")
    };
    for filters in ["'#'", "'a/b'", "['x', 'a/+']", "'+/#'"] {
        assert!(warned(filters, "x-${topic}") && warned(filters, "${topic}"), "{filters}");
        assert!(!warned(filters, "x-${topic[0]}-${clientid}"), "{filters}");
    }
    assert!(!warned("['x', '+']", "x-${topic}"), "one level");
}

#[test]
fn acks_of_kafka_are_understood() {
    for (given, want) in [("'-1'", -1), ("-1", -1), ("'all'", -1), ("0", 0), ("1", 1), ("'0'", 0)] {
        let text = format!("[[sink]]\nname='a'\nfilters='#'\ntopic='t'\nacknowledge='received'\nacks={given}");
        assert_eq!(good(&text).sinks[0].acks, want, "{given}");
    }
}

#[test]
fn mistakes_of_habit_have_their_hint() {
    for (text, want) in [
        ("[log]\nlevel = info", "strings need quotes: level = \"info\""),
        ("[[sink]]\nlinger.ms = 5", "it is linger in [[sink]]"),
        ("[[sink]]\nbatch.size = 5", "it is batch_bytes in [[sink]]"),
        ("[kafka.main]\nsasl_mechanism = 'PLAIN'", "kafka.main.sasl.username: is required"),
        ("[[sink]]\nsasl_mechanism = 'PLAIN'", "it is mechanism in [kafka.NAME.sasl]"),
        // The table's key in TOML's other spelling.
        ("[kafka.main]\nsasl.mechanism = 'PLAIN'", "kafka.main.sasl.username: is required"),
        ("[kafka.main]\n'sasl.jaas.config' = 'x'", "name that as password_file"),
        ("[[sink]]\n'security.protocol' = 'SSL'", "it belongs to [kafka.NAME]"),
        ("[log]\nlevel = 'info'\nlevel = 'warn'", "\"level\" is set twice"),
    ] {
        let problems = parse(text, "test").expect_err(text).to_string();
        assert!(problems.contains(want), "{problems}");
    }
}

const ONE_SINK: &str = "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n";

/// Finding K12: a line that a hint proposes is taken.
#[test]
fn finding_k12_hints_for_brokers_are_right() {
    let parsed = |bootstrap: &str| parse(&format!("{ONE_SINK}[kafka.main]\nbootstrap = {bootstrap}\n"), "f");
    for (given, write) in [
        ("::1", "[::1]:9092"),
        ("[::1]", "[::1]:9092"),
        ("fe80::1:9092", "[fe80::1]:9092"),
        ("2001:db8::7", "[2001:db8::7]:9092"),
        ("kafka", "kafka:9092"),
    ] {
        let said = parsed(&format!("\"{given}\"")).expect_err(given).to_string();
        assert!(said.contains(&format!("write \"{write}\"")), "{said}");
        assert!(parsed(&format!("\"{write}\"")).is_ok(), "{write}");
    }
    for given in ["\"h1:9092,\"", "\"h1:9092, ,h2:9092\"", "[\"h1:9092,\"]"] {
        let config = parsed(given).expect(given);
        assert!(config.clusters[0].bootstrap.iter().all(|broker| broker.starts_with('h')), "{given}");
    }
    for given in ["\"\"", "\",\"", "[\"h1:9092\", \"\"]"] {
        assert!(parsed(given).is_err(), "{given}");
    }
}

/// Finding K12: a `producer.properties` that is copied, with quotes and without.
#[test]
fn finding_k12_properties_without_meaning_are_taken_and_named() {
    let text = "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n[kafka.main]\nbootstrap = \"h:1\"\nclient.dns.lookup = \"use_all_dns_ips\"\n\
                \"session.timeout.ms\" = 45000\nconnections.max.idle.ms = 131072\n";
    let config = parse(text, "f").expect("a configuration");
    let mut named: Vec<_> = config.warnings.0.iter().map(|warning| warning.key.clone()).collect();
    named.sort_unstable();
    named.retain(|key| key.contains("main."));
    let all = ["kafka.main.client.dns.lookup", "kafka.main.connections.max.idle.ms", "kafka.main.session.timeout.ms"];
    assert_eq!(named, all, "{}", config.warnings);
    let said =
        parse("[kafka.main]\nbootstrap = \"h:1\"\nclient.dns.lookup2 = \"x\"\n", "f").expect_err("no name of Java's");
    assert!(said.to_string().contains("unknown key"), "{said}");
    let topics = "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\ntopics = [\"a\"]\n";
    let said = parse(topics, "f").expect_err("topics").to_string();
    assert!(said.contains("filters in [[sink]]"), "{said}");
}

/// Finding K12: a variable copied from the documents, with NAME in it.
#[test]
fn finding_k12_a_placeholder_is_no_name() {
    let said = said(FILE, "FOREBAY_KAFKA_NAME_BOOTSTRAP", "h:1");
    assert!(said.contains("write FOREBAY_KAFKA_MAIN_BOOTSTRAP"), "{said}");
    let named =
        read_env(&format!("{ONE_SINK}[kafka.name]\nbootstrap = \"a:1\"\n"), &[("FOREBAY_KAFKA_NAME_BOOTSTRAP", "b:1")]);
    assert_eq!(named.expect("a cluster of that name").clusters[0].bootstrap, ["b:1"]);
}

//! Tests of the problems of a wrong configuration: every word of their messages.

use proptest::prelude::*;

use super::*;

/// The messages, one a line, as an operator sees them.
fn said(text: &str) -> Vec<String> {
    read(text).expect_err("a wrong configuration").0.iter().map(ToString::to_string).collect()
}

/// The only message, without the file's name.
fn only(text: &str) -> String {
    let said = said(text);
    assert_eq!(said.len(), 1, "{said:#?}");
    said[0].strip_prefix("forebay.toml:").unwrap_or(&said[0]).to_owned()
}

const WRONG: &str = r##"
[service]
shards = "four"
data_dir = ""
drain_grace = 10

[control]
bind = "gateway:8080"

[mqtt]
recieve_maximum = 10
packet_bytes_max = "300MiB"
bind = "0.0.0.0:1883"

[[listener]]
bind = "0.0.0.0:1883"

[[listener]]
bind = "127.0.0.1:1883"
transport = "wss"

[kafka.main]
bootstrap = ["k1:9092", "k2"]
reconnect_backoff_min = "5s"
buffer_bytes = "2MiB"

[[sink]]
name = "a"
kafka = "mian"
filters = ["x/#/y", "ok/#"]
topic = "bad/topic"
acknowlege = "replicated"
linger = "2 ms"

[[sink]]
name = "a"
kafka = "main"
filters = []
topic = "t-${topik}"
acknowledge = "stored"
compression = "lzma"
headers = { site = 7, who = "é${user}" }
batch_bytes = "2MiB"

[[sink]]
filters = "$share/g/#"

[spool]
bytes_max = "8GB"
bytes = 7
spool_share = 2

[unheard]
of = true
"##;

#[test]
fn every_mistake_is_found_once_and_in_its_place() {
    let want = [
        r#"3:10: service.shards: expected an integer, found the string "four""#,
        r#"4:12: service.data_dir: must not be empty"#,
        r#"5:15: service.drain_grace: expected a duration, found the integer 10; add a unit, as in "10ms" or "10s""#,
        r#"8:8: control.bind: "gateway:8080" has a host name; an IP address is needed; write an IP address and a port, as in "127.0.0.1:1883""#,
        r#"11:1: mqtt.recieve_maximum: unknown key; did you mean "receive_maximum"?"#,
        r#"12:20: mqtt.packet_bytes_max: "300MiB" is out of range; must be from "1KiB" to "256MiB""#,
        r#"13:1: mqtt.bind: unknown key; it belongs to [control], [[listener]], [embedded] or [broker.link]"#,
        r#"16:8: listener[0].bind: 0.0.0.0:1883 can be reached from other machines, and anyone there could publish; auth = "NAME" asks for passwords, see [auth.NAME]; open = true (--open) accepts everyone"#,
        r#"19:8: listener[1].bind: 127.0.0.1:1883 is already used by listener[0].bind, which has 0.0.0.0:1883; use a different port for each"#,
        r#"20:13: listener[1].transport: transport is "wss", and there is no [listener.tls]; write [listener.tls] below this [[listener]], with cert_file and key_file"#,
        r#"23:25: kafka.main.bootstrap[1]: "k2" has no port; write "k2:9092" if that is its port"#,
        r#"24:25: kafka.main.reconnect_backoff_min: reconnect_backoff_min is longer than reconnect_backoff_max; make max at least min"#,
        r#"25:16: kafka.main.buffer_bytes: a shard's share (1MiB for 2 shards) cannot hold batch_bytes and record_bytes_max of sink[1] (3048KiB); set it to at least "6096KiB", or lower batch_bytes and record_bytes_max"#,
        r#"29:9: sink[0].kafka: there is no cluster "mian"; did you mean "main"?"#,
        r#"30:12: sink[0].filters[0]: "x/#/y" is not a valid topic filter: `#` must be the last level"#,
        r#"31:9: sink[0].topic: "bad/topic" is not a valid Kafka topic: it has `/` at byte 3; Kafka allows letters, digits, `.`, `_` and `-`"#,
        r#"32:1: sink[0].acknowlege: unknown key; did you mean "acknowledge"?"#,
        r#"33:10: sink[0].linger: "2 ms" is not a duration; write a whole number and one of us, ms, s, m, h, d, as in "2ms""#,
        r#"36:8: sink[1].name: "a" is already the name of another sink, on line 28; each sink needs a unique name"#,
        r#"38:11: sink[1].filters: is an empty list; list at least one, or remove the key"#,
        r#"39:12: sink[1].topic: unknown variable `${topik}`; did you mean `${topic}`?"#,
        r#"41:15: sink[1].compression: "lzma" is not a valid value; must be one of "none", "gzip", "snappy", "lz4", "zstd""#,
        r#"42:20: sink[1].headers.site: expected a template, found the integer 7"#,
        r#"42:31: sink[1].headers.who: unknown variable `${user}`; did you mean `${username}`?"#,
        r#"45:1: sink[2].name: is required; unique name, used in metrics and events: letters, digits, `.`, `_`, `-`; at most 100 characters"#,
        r#"45:1: sink[2].topic: is required; Kafka topic"#,
        r#"46:11: sink[2].filters: "$share/g/#" is a shared subscription; a sink gets each message exactly once anyway: remove $share and the group"#,
        r#"50:1: spool.bytes: unknown key; [spool] has bytes_max, segment_bytes, append, sync_interval, when_full, spool_share"#,
        r#"51:15: spool.spool_share: 2 is out of range; must be from 0.01 to 1"#,
        r#"53:2: unheard: unknown key; the file has [service], [control], [control.tls], [log], [telemetry], [mqtt], [[listener]], [listener.tls], [listener.ws], [auth.NAME], [auth.NAME.jwt], [auth.NAME.role.ROLE], [auth.NAME.limits], [kafka.NAME], [kafka.NAME.tls], [kafka.NAME.sasl], [embedded], [spool], [delivery], [retained], [[sink]], [[source]], [[rule]], [[rule.republish]], [bridge.NAME], [bridge.NAME.tls], [[bridge.NAME.in]], [[bridge.NAME.out]], [dapr], [broker], [[broker.route]], [broker.link]"#,
    ];
    let said = said(WRONG);
    let want: Vec<_> = want.iter().map(|line| format!("forebay.toml:{line}")).collect();
    for (said, want) in said.iter().zip(&want) {
        assert_eq!(said, want);
    }
    assert_eq!(said.len(), want.len(), "{said:#?}");
}

#[test]
fn broken_toml_is_told_with_its_lines() {
    let said = said("[service]\nshards = \nshards = 2\n[log\nlevel = 'info'\n");
    assert!(said.len() >= 2, "{said:#?}");
    assert!(said[0].starts_with("forebay.toml:2:"), "{said:#?}");
    assert!(said.iter().any(|line| line.starts_with("forebay.toml:4:")), "{said:#?}");
    assert!(said.iter().all(|line| line.contains("not TOML: ")), "{said:#?}");
    assert_eq!(
        only("[log]\nlevel = 'info'\nlevel = 'warn'"),
        "3:1: not TOML: \"level\" is set twice; remove one of the two"
    );
}

#[test]
fn shapes_that_are_easily_mistaken() {
    for (text, want) in [
        ("[sink]\nname = 'a'", "1:2: sink: expected a list of tables, found a table; write [[sink]]"),
        ("[[service]]\npin = true", "1:3: service: expected a table, found a list; write [service] above its keys"),
        (
            "[kafka]\nbootstrap = 'a:1'\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'",
            "2:13: kafka.bootstrap: is outside of a [kafka.NAME]; give it a name, as in [kafka.main]",
        ),
        (
            "[kafka.embedded]\nbootstrap = 'a:1'\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'",
            "1:1: kafka.embedded: this name is reserved for the embedded log; choose another name; [embedded] configures the embedded log",
        ),
        (
            "[kafka.'a b']\nbootstrap = 'a:1'\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'",
            "1:1: kafka.a b: \"a b\" is not a valid name; use letters, digits, `.`, `_` and `-`, at most 100",
        ),
        (
            "[kafka]\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'",
            "1:2: kafka: has nothing in it; give it a name, as in [kafka.main]",
        ),
        ("shards = 2", "1:1: shards: unknown key; it belongs to [service]"),
        ("[lgo]\nlevel = 'info'", "1:2: lgo: unknown key; did you mean \"log\"?"),
        (
            "[kafka.main]\nbootstrap = 'PLAINTEXT://k:9092'\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'",
            "2:13: kafka.main.bootstrap: \"PLAINTEXT://k:9092\" has a scheme; write \"k:9092\" without PLAINTEXT://",
        ),
        (
            "[kafka.main]\nbootstrap = 'k:9092'",
            "1:2: kafka: there is no [[sink]]: nothing would be written to Kafka; add one with name, filters and topic",
        ),
        (
            "[kafka.a]\nbootstrap = 'k:1'\n[kafka.b]\nbootstrap = 'k:2'\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'",
            "5:1: sink[0].kafka: is required because there are several clusters; must be one of \"a\", \"b\"",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nheaders.a.b = 'x'",
            "5:9: sink[0].headers.a: expected a template, found a table; quote a name that contains dots",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 'x/${topic[0]}'",
            "4:9: sink[0].topic: `/` cannot be in a Kafka topic; Kafka allows letters, digits, `.`, `_` and `-`",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nbatch_bytes = '4MiB'",
            "5:15: sink[0].batch_bytes: a batch of 4194304 bytes is more than embedded.message_bytes_max, 1048588; lower \
             one or raise the other",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\ncompression = 'lz4'\ncompression_level = 3",
            "6:21: sink[0].compression_level: this codec has no levels; leave it out, or set compression to \"gzip\" or \"zstd\"",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\ncompression = 'gzip'\ncompression_level = 12",
            "6:21: sink[0].compression_level: 12 is out of range; with this compression it must be from 1 to 9",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nacks = '0'",
            "5:8: sink[0].acks: acknowledge = \"replicated\" means acks = \"all\"; leave acks out, or set acknowledge to \"received\"",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nacknowledge = 'leader'\nacks = 'all'",
            "6:8: sink[0].acks: acknowledge = \"leader\" means acks = \"1\"; leave acks out, or set acknowledge to \"received\"",
        ),
        (
            "[embedded]\nbuffer_bytes = '1MiB'",
            "2:16: embedded.buffer_bytes: a shard's share (512KiB for 2 shards) cannot hold batch_bytes and record_bytes_max \
             of default sink (1256KiB); set it to at least \"2512KiB\", or lower batch_bytes and record_bytes_max",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nacknowledge = 'stored'",
            "5:15: sink[0].acknowledge: \"stored\" needs a disk buffer, and there is none; add [spool] to the file, or use \
             \"replicated\"",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nbuffer = 'hybrid'",
            "5:10: sink[0].buffer: \"hybrid\" needs a disk buffer, and there is none; add [spool] to the file, or use \"memory\"",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nbuffer = 'disk'\nacknowledge = 'stored'",
            "5:10: sink[0].buffer: \"disk\" needs a disk buffer, and there is none; add [spool] to the file, or use \"memory\"",
        ),
        (
            "[spool]\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nbuffer = 'hybrid-saved'\nacknowledge = 'stored'",
            "7:15: sink[0].acknowledge: \"stored\" cannot be combined with buffer = \"hybrid-saved\", which keeps records in memory first; \
             set buffer to \"disk\" or leave it out, or use \"replicated\"",
        ),
        (
            "[spool]\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nbuffer = 'disk'\nacknowledge = 'received'\nacks = '0'",
            "6:10: sink[0].buffer: \"disk\" requires acknowledge = \"stored\" or \"replicated\"; use one of these, or set \
             buffer to \"hybrid\" or \"memory\"",
        ),
        (
            "[spool]\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nacks = '1'",
            "6:8: sink[0].acks: acknowledge = \"stored\" means acks = \"all\"; leave acks out, or set acknowledge to \"received\"",
        ),
        (
            "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nspill_after = '8MiB'",
            "5:15: sink[0].spill_after: cannot be combined with buffer = \"memory\", which keeps no records on disk; leave it out, or \
             set buffer to \"disk\" or \"hybrid\"",
        ),
        (
            "[spool]\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nspill_after = '2MiB'",
            "6:15: sink[0].spill_after: a shard's share (1MiB for 2 shards) cannot hold batch_bytes and record_bytes_max \
             (1256KiB); set it to at least \"2512KiB\", or lower batch_bytes and record_bytes_max",
        ),
        (
            "[spool]\n[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\nspill_after = '1GiB'",
            "6:15: sink[0].spill_after: is more than buffer_bytes of the cluster, 256MiB; lower one or raise the other",
        ),
        (
            "[spool]\nbytes_max = '1GiB'\nsegment_bytes = '128MiB'",
            "2:13: spool.bytes_max: a shard's share (512MiB for 2 shards) holds fewer than 8 segments of 128MiB; set it to at \
             least \"2GiB\", or use smaller segments, or fewer shards",
        ),
        (
            "[spool]\nbytes_max = '64MiB'",
            "2:13: spool.bytes_max: a shard's share (32MiB for 2 shards) holds fewer than 8 segments of 9MiB; set it to at \
             least \"144MiB\", or use smaller batches and records, or fewer shards",
        ),
        (
            "[spool]\nsegment_bytes = '4MiB'",
            "2:17: spool.segment_bytes: a segment of 4MiB cannot hold batch_bytes and record_bytes_max of sink default, which \
             take an eighth of one at most; set it to at least \"9MiB\", or lower batch_bytes and record_bytes_max",
        ),
        (
            "[spool]\nbytes_max = '512MiB'\nspool_share = 0.0625",
            "3:15: spool.spool_share: one sink's share of a shard's spool (12MiB) is less than a segment; raise it or \
             bytes_max, or lower segment_bytes",
        ),
        (
            "[spool]\nspool_share = 'half'",
            "2:15: spool.spool_share: expected a number, found the string \"half\"; must be from 0.01 to 1, as in 0.5",
        ),
        (
            "[service]\nshards = 3",
            "2:10: service.shards: 3 pinned shards, but only 2 cores are available; 0 means one per core; with pin = false \
             shards can share cores",
        ),
        (
            "[delivery]\nacknowledge = 'stored'",
            "2:15: delivery.acknowledge: nothing is stored without a [spool]; add [spool], or leave it out",
        ),
        (
            "[retained]\nexpire_after = '1500ms'",
            "2:16: retained.expire_after: must be in whole seconds; write it in s, m, h or d",
        ),
        (
            "[mqtt]\nsession_expiry_max = '1500ms'",
            "2:22: mqtt.session_expiry_max: must be in whole seconds; write it in s, m, h or d",
        ),
        (
            "[[listener]]\nbind = '127.0.0.1:9092'",
            " embedded.bind: 127.0.0.1:9092 is already used by listener[0].bind; use a different port for each",
        ),
    ] {
        assert_eq!(only(text), want);
    }
}

#[test]
fn options_that_do_not_go_together() {
    let text = "[kafka.a]\nbootstrap = 'k:1'\n[kafka.b]\nbootstrap = 'k:2'";
    let said = |text: &str, overrides: Overrides| {
        parse_with(text, "forebay.toml", &overrides, 2)
            .unwrap_err()
            .0
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let kafka = Overrides { kafka: Some("k1:1, nope".to_owned()), ..Overrides::default() };
    assert_eq!(
        said("", kafka.clone()),
        [r#"command line: --kafka: "nope" has no port; write "nope:9092" if that is its port"#]
    );
    assert_eq!(
        said(text, Overrides { kafka: Some("k1:1".to_owned()), ..Overrides::default() })[0],
        "command line: --kafka: the file has several clusters: a, b; set bootstrap in the file"
    );
    let address = Some("127.0.0.1:8080".parse().unwrap());
    assert_eq!(
        said("", Overrides { listen: address.into_iter().collect(), ..Overrides::default() }),
        ["forebay.toml: control.bind: 127.0.0.1:8080 is already used by --listen; use a different port for each"]
    );
}

proptest! {
    /// Any file gives a configuration, or problems with existing positions. Lines are moved, doubled and left out, and values
    /// replaced by others.
    #[test]
    fn any_text_is_answered(picks in proptest::collection::vec((0usize..200, 0usize..12), 0..30)) {
        let values = ["''", "7", "-1", "true", "[]", "{}", "'off'", "'1s'", "'1KiB'", "'é${'", "1979-05-27", ""];
        let lines: Vec<&str> = WRONG.lines().collect();
        let mut text = String::new();
        for (line, value) in picks {
            let line = lines[line % lines.len()];
            match line.split_once(" = ") {
                Some((key, _)) if value % 2 == 0 => text.push_str(&format!("{key} = {}\n", values[value])),
                _ => text.push_str(&format!("{line}\n")),
            }
        }
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.0.is_empty());
            for problem in problems.0 {
                prop_assert!(problem.line <= text.lines().count() + 1, "{}", problem);
            }
        }
    }
}

#[test]
fn kafkas_names_are_told_what_is_ours() {
    let sink = "[kafka.main]\nbootstrap = \"k:9092\"\n[[sink]]\nname = \"a\"\nfilters = \"#\"\ntopic = \"t\"\n";
    for (line, cure) in [
        ("max_retries = 3", "it is retries in [[sink]]"),
        ("\"delivery.timeout.ms\" = 120000", "set expire_after in [[sink]]"),
        ("max-in-flight = 10", "it is max_inflight in [[sink]]"),
        ("answer_timeout = \"30s\"", "it belongs to [[listener]]"),
    ] {
        let said = only(&format!("{sink}{line}\n"));
        assert!(said.contains("unknown key") && said.contains(cure), "{said}");
    }
    let said = only(
        "[kafka.main]\nbootstrap = \"k:9092\"\nretries = 3\n[[sink]]\nname = \"a\"\nfilters = \"#\"\ntopic = \"t\"",
    );
    assert!(said.contains("it is retries in [[sink]]"), "{said}");
    assert!(only(&format!("{sink}max_inflight = 10_000")).contains("1000"));
}

/// A mistake in a rule is reported once, though rules are read before the sinks that they feed, and after them.
#[test]
fn a_mistake_is_reported_once() {
    let text = "[[sink]]\nname = \"s\"\ntopic = \"t\"\n[[rule]]\nname = \"r\"\nsql = 'SELECT * FROM \"a\"'\nsinks = \"s\"\nenabld = true\n";
    let Err(problems) = crate::parse(text, "test") else { panic!("a mistake") };
    assert_eq!(problems.0.iter().filter(|problem| problem.key == "rule[0].enabld").count(), 1, "{problems}");
}

/// A mistake within a string is at its own line and column, however the string is written.
#[test]
fn finding_q34_mistakes_in_sql_have_their_own_place() {
    let rest = "\n[[rule]]\nname = 'r'\nsinks = ['k']\nsql = SQL\n[[sink]]\nname = 'k'\ntopic = 't'\n";
    let long = "\nSELECT 'é' AS x,\n  nosuch(1) AS y\nFROM \"t/#\"";
    for sql in [
        format!("'''{long}'''"),
        format!("\"\"\"{}\"\"\"", long.replace("\"t/#\"", "\\\"t/#\\\"")),
        format!("\"\"\"{}\"\"\"", long.replace("'é'", "'\\\n     \\u00e9'")),
        "\"SELECT '\\u00e9\\t' AS x, nosuch(1) AS y FROM \\\"t/#\\\"\"".to_owned(),
        "'SELECT nosuch(1) AS y FROM \"t/#\"'".to_owned(),
    ] {
        let text = rest.replace("SQL", &sql);
        let at = text.find("nosuch").expect("it is there");
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let said = said(&text).join("\n");
        assert!(
            said.contains(&format!(":{line}:{column}: rule[0].sql: there is no function `nosuch`")),
            "{sql}\n{said}"
        );
    }
    let said = only("[[sink]]\nname = 'k'\nfilters = '#'\ntopic = '''\na-${nosuch}'''\n");
    assert!(said.starts_with("5:3: sink[0].topic: unknown variable"), "{said}");
}

/// A payload between quotes is not escaped there.
#[test]
fn finding_q47_a_payload_between_quotes_is_warned_of() {
    let of = |value: &str| {
        let text = format!(
            "[[rule]]\nname = 'r'\nsql = 'SELECT payload, clientid FROM \"t/#\"'\nsinks = ['fed']\n\
             [[rule.republish]]\ntopic = 'made'\npayload = '{value}'\n[[sink]]\nname = 'fed'\ntopic = 'a'\nvalue = '{value}'\n\
             [[sink]]\nname = 'k'\ntopic = 'b'\nfilters = '#'\nvalue = '{value}'\n"
        );
        let warnings = good(&text).warnings.to_string();
        warnings.matches("json_encode(payload)").count()
    };
    assert_eq!(of(r#"{"c":"${clientid}","p":"${payload}"}"#), 3);
    assert_eq!(of(r#"{"c":"${clientid}","p":${payload}}"#), 0);
}

/// A text with very many mistakes costs little more than reading it: a thousand of them are reported.
#[test]
fn finding_q24_many_mistakes_are_told_in_time() {
    let keys: String = (0..40_000).map(|n| format!("k{n} = 1\n")).collect();
    let Err(problems) = crate::parse(&format!("[log]\n{keys}"), "test") else { panic!("mistakes") };
    assert!((2..=1_001).contains(&problems.0.len()), "{}", problems.0.len());
    assert!(problems.0[0].what.contains("maybe more"), "{}", problems.0[0]);
    assert!(problems.0.iter().any(|problem| (problem.line, problem.column) == (2, 1)), "the first of them");
}

/// Tables have a bound, as what follows compares them with each other; names that are very long are compared with none.
#[test]
fn finding_q24_tables_have_a_bound() {
    let clusters: String = (0..20_000).map(|n| format!("[kafka.k{n}]\nbootstrap='h:1'\n")).collect();
    let said = said(&format!("{clusters}[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\nkafka = 'k20000'\n"));
    assert!(said.iter().any(|line| line.contains("kafka.k1024: at most 1024 clusters")), "{}", said.len());
    let auths: String = (0..2_000).map(|n| format!("[auth.a{n}]\nchain = ['anonymous']\n")).collect();
    assert!(read(&auths).expect_err("too many").to_string().contains("at most 1024 [auth.NAME]"));
    let long = "x".repeat(100_000);
    assert_eq!(crate::problem::nearest(&long, [&*long]), None);
    assert_eq!(crate::problem::nearest("levle", ["format", "level"]), Some("level"));
}

/// Names that other brokers have for settings of bridges, rules and listeners get a hint, as those of Kafka's clients do.
#[test]
fn finding_q37_names_of_other_brokers_are_told_what_is_ours() {
    let bridge = "[bridge.p]\nurl = 'mqtt://h:1'\n";
    let rule = "[[sink]]\nname = 's'\ntopic = 't'\n[[rule]]\nname = 'r'\nsql = 'SELECT * FROM \"a\"'\nsinks = 's'\n";
    for (text, line, cure) in [
        (bridge, "address = 'h:1883'", "it is url in [bridge.NAME]"),
        (bridge, "remote_clientid = 'x'", "it is client_id in [bridge.NAME]"),
        (bridge, "topic = 'plant/# both 1'", "it is filters in [[bridge.NAME.in]]"),
        (bridge, "topics = ['a']", "it is filters in [[bridge.NAME.in]]"),
        (bridge, "keepAliveSec = 60", "it is keep_alive in [bridge.NAME]"),
        (rule, "actions = ['x']", "it is sinks in [[rule]]"),
        ("", "listeners.tcp.default.bind = '0.0.0.0:1883'", "it is [[listener]]"),
        ("", "allow_anonymous = true", "it is open in [[listener]]"),
    ] {
        let said = only(&format!("{text}{line}\n"));
        assert!(said.contains("unknown key") && said.contains(cure), "{line}: {said}");
    }
}

#[test]
fn finding_q37_other_forms_of_configuration_are_known_by_name() {
    let said = only("# plant\nconnection plant\naddress broker.example:8883\ntopic set/# both 1 local/ site-7/\n");
    assert!(said.starts_with("2:") && said.contains("this is a mosquitto.conf; a configuration is TOML"), "{said}");
    let said = only(
        "node {\n  name = \"emqx@127.0.0.1\"\n  cookie = \"x\"\n}\ndashboard {\n  listeners.http.bind = 18083\n}\n",
    );
    assert!(said.contains("this is HOCON, as emqx.conf; a configuration is TOML"), "{said}");
}

#[test]
fn finding_q37_parts_without_their_whole_are_warned_of() {
    let warned = |text: &str, what: &str| good(text).warnings.to_string().contains(what);
    assert!(warned("[dapr]\n", "dapr: has no bindings"));
    assert!(!warned("[dapr]\napp = 'http://127.0.0.1:8000'\n", "dapr: has no bindings"));
    if forebay_dapr::HAS_GRPC {
        assert!(!warned("[dapr]\nsockets = '/tmp/x'\n", "dapr: has no bindings"));
    }
    let kafka = "[kafka.main]\nbootstrap = 'k:1'\n";
    let route = "[[broker.route]]\nfilters = 'a/#'\ntopic = 'a'\n";
    let what = "broker: is on by a table within it";
    assert!(warned(&format!("{kafka}{route}"), what));
    assert!(!warned(&format!("{kafka}[broker]\n{route}"), what));
    assert!(!warned(&format!("{kafka}{route}[ broker ] # on\n"), what));
    assert!(!warned(&format!("{kafka}[broker]\nname = 'a'\n{route}"), what));
}

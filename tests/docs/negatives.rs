//! What `MIGRATING.md` says is not there. Each such line stands here with what shows it, so that a line that stops being true fails a test.

use std::collections::BTreeSet;

use forebay::rule::functions;
use regex::Regex;

use super::{prose, read};

/// What shows that something is not there.
enum Shown {
    /// The configuration refuses these lines, or warns that they have no effect, with this in the message.
    Refused(&'static str, &'static str),
    /// SQL has none of these functions.
    NoFunctions(&'static [&'static str]),
    /// No part of the program could have it.
    ByNature,
}

use Shown::{ByNature, NoFunctions, Refused};

/// How negative statements are written: in prose, and as what a row has in the place of another product's setting.
const NEGATIVE: &str = r"\b(not possible|not yet|yet|nobody could|cannot name|no schemas)\b|^\| [^|]+ \| none\b";

/// Negative statements: what only the line has, and what shows it.
const STATEMENTS: &[(&str, Shown)] = &[
    ("HTTP, LDAP, databases: not possible", Refused("[auth.a]\nchain = [\"http\"]\n", "chain")),
    ("HTTP, LDAP, databases: not possible", Refused("[auth.a]\nchain = [\"ldap\"]\n", "chain")),
    (
        "a topic that is made of it (`with.messages",
        Refused("[broker]\n[[broker.route]]\nfilters = \"a/+\"\ntopic = \"${topic[1]}\"\n", "topic"),
    ),
    ("| `mqtt.server.uri`, `mqtt.username`", ByNature),
    (
        "schemas (Avro, Protobuf) are not possible",
        Refused("[[sink]]\nname = \"a\"\nfilters = \"a\"\ntopic = \"a\"\nvalue_format = \"avro\"\n", "value_format"),
    ),
    ("| `WITHCONVERTER`, `WITHTAG`", NoFunctions(&["schema_decode", "schema_encode", "avro_decode", "avro_encode"])),
    ("code in Java is not possible", ByNature),
    ("| `servers` of the input", ByNature),
    ("| aggregators, line protocol", NoFunctions(&["avg", "sum", "count", "line_protocol"])),
    (
        "| aggregators, line protocol",
        Refused("[[rule]]\nname = \"r\"\nsql = 'SELECT payload.x AS x FROM \"t\" GROUP BY x'\n", "sql"),
    ),
    ("| input `mqtt`", ByNature),
    ("a cache, or a request to another system", NoFunctions(&["cache", "kv_store_get", "http", "http_get"])),
    ("| `connect.mqtt.hosts`", ByNature),
    (
        "| `bridge_alpn`, `bridge_psk`",
        Refused("[bridge.b]\nurl = \"mqtts://b.example\"\n[bridge.b.tls]\nalpn = [\"x\"]\n", "alpn"),
    ),
    (
        "| `bridge_alpn`, `bridge_psk`",
        Refused("[bridge.b]\nurl = \"mqtts://b.example\"\n[bridge.b.tls]\npsk = \"x\"\n", "psk"),
    ),
    (
        "| `notifications`, `notification_topic`",
        Refused("[bridge.b]\nurl = \"mqtt://b.example\"\nnotifications = true\n", "notifications"),
    ),
    (
        "| `start_type`, `idle_timeout`",
        Refused("[bridge.b]\nurl = \"mqtt://b.example\"\nidle_timeout = \"60s\"\n", "idle_timeout"),
    ),
    (
        "a rule cannot name a bridge in FROM",
        Refused("[[rule]]\nname = \"r\"\nsql = 'SELECT * FROM \"$bridges/mqtt:b\"'\n", "$bridges"),
    ),
    (
        "Serializers, interceptors, partitioner classes and transactions",
        Refused(
            "[kafka.m]\nbootstrap = \"k:1\"\nother_properties = { \"transactional.id\" = \"x\" }\n",
            "transactional.id",
        ),
    ),
    (
        "Serializers, interceptors, partitioner classes and transactions",
        Refused(
            "[kafka.m]\nbootstrap = \"k:1\"\nother_properties = { \"interceptor.classes\" = \"x\" }\n",
            "interceptor.classes",
        ),
    ),
];

/// The negative lines of the document. "Defaults that differ" has values in its second column.
fn negative(text: &str) -> Vec<(usize, &str)> {
    let pattern = Regex::new(NEGATIVE).expect("a pattern");
    let lines = prose(text).take_while(|(_, line)| *line != "## Defaults that differ");
    lines.filter(|(_, line)| pattern.is_match(line)).collect()
}

/// A part that is described as missing is in [`STATEMENTS`], and nothing else is.
#[test]
fn finding_q32_each_negative_statement_of_migrating_is_shown() {
    let text = read("docs/MIGRATING.md");
    let lines = negative(&text);
    let is_known = |line: &str| STATEMENTS.iter().any(|(words, _)| line.contains(words));
    let unknown: Vec<_> = lines.iter().filter(|(_, line)| !is_known(line)).collect();
    assert!(unknown.is_empty(), "negative statements that nothing shows: {unknown:#?}");
    let words: BTreeSet<&str> = STATEMENTS.iter().map(|(words, _)| *words).collect();
    for words in words {
        let number = lines.iter().filter(|(_, line)| line.contains(words)).count();
        assert_eq!(number, 1, "{words:?} is in so many negative lines");
    }
}

/// Features that MIGRATING denies are refused in a configuration that is right without them.
#[test]
fn finding_q32_what_migrating_denies_is_not_there() {
    let mut wrong = Vec::new();
    for (words, shown) in STATEMENTS {
        match shown {
            Refused(lines, why) => {
                let said =
                    forebay::config::parse(&around(lines), "forebay.toml").map_or_else(|no| no, |yes| yes.warnings);
                if said.0.len() != 1 || !said.to_string().contains(why) {
                    wrong.push(format!("{words}: {said}\n{lines}"));
                }
            }
            NoFunctions(names) => {
                let found = functions::all().find(|(_, function)| names.contains(&function.name));
                wrong.extend(found.map(|(_, function)| format!("{words}: {} is a function", function.name)));
            }
            ByNature => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A configuration with these lines, and what they need.
fn around(lines: &str) -> String {
    let without = |part: &str| !lines.contains(part);
    let cluster = if without("[kafka.") { "[kafka.m]\nbootstrap = \"k:1\"\n" } else { "" };
    let sink = if without("[[sink]]") && without("[broker]") {
        "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\n"
    } else {
        ""
    };
    let inward = if without("[bridge.") { "" } else { "[[bridge.b.in]]\nfilters = \"a/#\"\n" };
    let rule = if without("[[rule]]") { "" } else { "console = true\n" };
    format!("{cluster}{lines}{rule}{inward}{sink}")
}

//! Any text and any payload as a rule: any text is answered; what parses is printed as what parses to the same tree; what compiles is
//! evaluated within its bounds, and its outputs are JSON. The index of a payload takes what `serde_json` takes. The fuzz target `rule` checks it, and
//! so do the tests of `rule`, with fewer inputs.

use std::cell::RefCell;

use crate::arena::Arena;
use crate::around::{Around, Environment};
use crate::message::{Given, Id, Message};
use crate::program::{Input, Program};
use crate::sql;
use crate::template::MessageContext;
use forebay_mqtt::property::PropertyBuf;

/// Parts of rules, so that more than noise is made of bytes.
const WORDS: &[&str] = &[
    "SELECT ",
    "FOREACH ",
    " FROM \"t/#\"",
    " WHERE ",
    " DO ",
    " INCASE ",
    " AS ",
    ", ",
    "*",
    "payload",
    "payload.a",
    ".b",
    "[1]",
    "[-1]",
    "[1..2]",
    "[0]",
    "item",
    "(",
    ")",
    "[",
    "]",
    " + ",
    " - ",
    " / ",
    " * ",
    " div ",
    " mod ",
    " = ",
    " > ",
    " =~ ",
    " IN (",
    " NOT ",
    " AND ",
    " OR ",
    "1",
    "'a'",
    "2.5",
    "-1",
    "true",
    "nosuch",
    "CASE ",
    " WHEN ",
    " THEN ",
    " ELSE ",
    " END",
    "str(",
    "upper(",
    "split(",
    "map_get('a', ",
    "map_put('a.b', 1, ",
    "json_decode(",
    "json_encode(",
    "concat(",
    "sublist(",
    "nth(",
    "subbits(",
    "pad(",
    "substr(",
    "reverse(",
    "unescape(",
    "format_date('second', ",
    "date_to_unix_ts('second', ",
    "sprintf('~p', ",
    "regex_replace(payload, 'a', ",
    "gunzip(",
    "gzip(",
    "hexstr2bin(",
    "base64_decode(",
    "int(",
    "float(",
    "bitsl(",
    "find(",
    "tokens(",
    "topic(",
    "99999999",
    "9223372036854775807",
    "a",
    "b",
];

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::default();
}

fn evaluate(program: &Program, payload: &[u8]) -> Option<Vec<u8>> {
    let (properties, environment, zone) = (PropertyBuf::new(), Environment::default(), jiff::tz::TimeZone::UTC);
    let context = MessageContext {
        topic: "t/1",
        client_id: "c1",
        username: None,
        qos: 1,
        retain: false,
        dup: false,
        packet_id: 1,
        payload,
        timestamp_ms: 1,
        properties: properties.as_properties(),
        hops: 0,
        copy_of: None,
        output: None,
    };
    let message =
        Message { context, id: Id::Number(1), peerhost: None, peername: None, node: "n", given: Given::default() };
    let around = Around { now_ns: 1_700_000_000_000_000_000, zone: &zone, environment: &environment, seed: 1 };
    let mut written = Vec::new();
    ARENA.with_borrow_mut(|arena| {
        let outcome = program.evaluate(&mut Input::new(&message, &around, arena), |output| {
            let from = written.len();
            output.write(&mut written)?;
            let json: serde_json::Value = serde_json::from_slice(&written[from..]).expect("an output is JSON");
            assert!(json.is_object());
            Ok(())
        });
        assert!(written.len() <= 4 << 20);
        outcome.ok().map(|_| written)
    })
}

/// Checks one input: `text` is a rule, or (`is_text` false) each byte of it is one of [`WORDS`].
pub fn check(is_text: bool, text: &[u8], payload: &[u8]) {
    let text = if is_text {
        String::from_utf8_lossy(text).into_owned()
    } else {
        let words = text.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]);
        let made: String = words.collect();
        if made.starts_with("FOREACH") || made.starts_with("SELECT") {
            made
        } else {
            format!("SELECT {made} FROM \"t/#\"")
        }
    };
    if let Ok(tree) = sql::parse(&text) {
        let printed = tree.to_string();
        // Brackets that the printer writes may nest deeper than a rule may.
        match sql::parse(&printed) {
            Ok(again) => assert_eq!(again.to_string(), printed),
            Err(error) => assert!(error.what.contains("at most"), "{printed}: {error}"),
        }
    }
    match Program::compile(&text, "r") {
        Ok(program) => {
            let _ = program.explain();
            evaluate(&program, payload);
        }
        Err(error) => {
            let _ = error.show(&text);
        }
    }
    // The index takes the JSON that serde_json takes, but for depth.
    let program = Program::compile("SELECT json_decode(payload) AS x FROM \"t/#\"", "r").expect("a rule");
    let ours = evaluate(&program, payload)
        .map(|written| serde_json::from_slice::<serde_json::Value>(&written).expect("JSON")["x"].clone());
    let theirs: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
    match (ours, theirs) {
        // `-0` is an integer here.
        (Some(ours), Some(theirs)) => {
            assert!(ours == theirs || payload.windows(2).any(|two| two == b"-0"), "{ours} {theirs}")
        }
        (None, Some(_)) => assert!(payload.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 64),
        (Some(_), None) => panic!("not JSON for serde_json"),
        (None, None) => {}
    }
}

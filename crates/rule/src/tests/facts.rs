//! Rules for records of sources and for events.

use jiff::tz::TimeZone;

use crate::arena::Arena;
use crate::around::{Around, Environment};
use crate::event::{Event, PREFIX};
use crate::facts::{Facts, Subject};
use crate::field::Field;
use crate::program::{Input, Program};
use crate::record::{Encoded, Encoding, Record, TimestampType};
use crate::record_fields::{self, Scratch};
use crate::value::{Member, Value};
use forebay_record::Headers;

/// The outputs of a rule; the error is the code of the failure.
fn outputs(sql: &str, facts: &Facts<'_>) -> Result<Vec<String>, String> {
    let program = Program::compile(sql, "r").unwrap_or_else(|error| panic!("{}", error.show(sql)));
    let environment = Environment::default();
    let around = Around { now_ns: 0, zone: &TimeZone::UTC, environment: &environment, seed: 7 };
    let (mut arena, mut outputs) = (Arena::new(), Vec::new());
    let outcome = program.evaluate(&mut Input::of(Subject::Facts(facts), &around, &mut arena), |output| {
        let mut text = Vec::new();
        output.write(&mut text)?;
        outputs.push(String::from_utf8(text).expect("JSON is UTF-8"));
        Ok(())
    });
    outcome.map(|_| outputs).map_err(|failure| failure.reason.code.as_str().to_owned())
}

fn of_record(
    sql: &str,
    (key, value): (Option<&[u8]>, Option<&[u8]>),
    encoding: Encoding,
) -> Result<Vec<String>, String> {
    let record = Record {
        topic: "out",
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_000,
        timestamp_type: TimestampType::Append,
        key,
        value,
        headers: Headers::default(),
    };
    let around = record_fields::Around { event: "$bridges/kafka_consumer:s", node: "n", now_ms: 1_700_000_000_001 };
    let of = Encoded { record: &record, key: encoding, value: encoding };
    record_fields::with_fields(&of, around, &mut Scratch::default(), |facts| outputs(sql, facts))
}

/// E71: names and values.
#[test]
fn a_record_has_emqxs_fields_and_the_partition() {
    let all = "SELECT * FROM \"$bridges/kafka_consumer:s\"";
    let record = (Some(&b"k"[..]), Some(&b"{\"a\":[1,{\"b\":2.50}]}"[..]));
    assert_eq!(
        of_record(all, record, Encoding::None).expect("an output"),
        [r#"{"value":"{\"a\":[1,{\"b\":2.50}]}","ts_type":"append","ts":1700000000000,"topic":"out","timestamp":1700000000001,"#.to_owned()
            + r#""partition":3,"offset":42,"node":"n","metadata":{"rule_id":"r","namespace":"global"},"key":"k","headers":{},"#
            + r#""event":"$bridges/kafka_consumer:s"}"#]
    );
    let paths =
        "SELECT value.a[2].b AS b, value.none AS none, topic() AS t, payload FROM \"$sources/kafka_consumer:s\"";
    assert_eq!(
        of_record(paths, record, Encoding::None).expect("an output"),
        [r#"{"t":"out","payload":null,"none":null,"b":2.50}"#]
    );
    let parts = "SELECT key, value FROM \"$bridges/kafka_consumer:s\"";
    assert_eq!(of_record(parts, (None, None), Encoding::None).expect("an output"), [r#"{"value":"","key":""}"#]);
    assert_eq!(
        of_record(parts, (Some(b"k"), Some(b"\xff")), Encoding::Base64).expect("an output"),
        [r#"{"value":"/w==","key":"aw=="}"#]
    );
    assert_eq!(of_record(parts, (None, Some(b"\xff")), Encoding::None), Err("decode".to_owned()), "no text");
}

/// A field that a subject does not have is no column of `*`, and absent elsewhere; a name that no subject in FROM has causes a
/// warning.
#[test]
fn fields_are_those_of_what_from_names() {
    let both = "SELECT *, reason AS why FROM \"t/#\", \"$events/client_connected\", \"$events/client/disconnected\"";
    let program = Program::compile(both, "r").expect("a rule");
    assert_eq!(program.warnings(), []);
    assert!(program.has_column("payload").is_ok() && program.has_column("connected_at").is_ok());
    assert_eq!(program.from().collect::<Vec<_>>(), ["t/#", "$events/client/connected", "$events/client/disconnected"]);
    let props = [Member { name: "User-Property", value: Value::Object(&[]) }];
    let fields = [
        (Field::Clientid, Value::text("c")),
        (Field::ConnProps, Value::Object(&props)),
        (Field::Username, Value::Absent),
    ];
    let facts = Facts { fields: &fields, text: &[] };
    assert_eq!(
        outputs(both, &facts).expect("an output"),
        [
            r#"{"why":null,"username":null,"metadata":{"rule_id":"r","namespace":"global"},"conn_props":{"User-Property":{}},"clientid":"c"}"#
        ]
    );
    for (sql, want) in [
        (
            "SELECT mountpoint FROM \"$events/client_connected\"",
            "`mountpoint` is always absent (it is neither a column nor a field of its events)",
        ),
        ("SELECT valu FROM \"$bridges/kafka_consumer:s\"", "`valu` is always absent (did you mean `value`?)"),
        ("SELECT value FROM \"t/#\"", "`value` is always absent (it is neither a column nor a field of messages)"),
    ] {
        let program = Program::compile(sql, "r").expect("a rule");
        let said: Vec<String> = program.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(said, [want], "{sql}");
    }
}

#[test]
fn events_have_two_names_and_those_that_are_missing_say_so() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SQL.md")).expect("the document");
    for event in Event::ALL {
        let [new, old] = event.names();
        assert!(page.contains(&format!("| `{PREFIX}{new}` | `{PREFIX}{old}` |")), "{new} is not on the page");
        for name in [new, old] {
            let program = Program::compile(&format!("SELECT * FROM \"{PREFIX}{name}\""), "r").expect("a rule");
            assert_eq!((program.events(), program.filters().count()), (&[*event][..], 0));
        }
    }
    for (from, want) in [
        ("$events/message_acked", "`$events/message_acked` is not supported yet (there are $events/client/connected, "),
        ("$events/client/conected", "`$events/client/conected` is no event (did you mean `$events/client/connected`?)"),
        ("$events/x", "`$events/x` is no event (there are $events/client/connected, "),
        ("$bridges/mqtt:x", "`$bridges/mqtt:x` is not supported yet (there is $bridges/kafka_consumer:NAME, "),
    ] {
        let error = Program::compile(&format!("SELECT * FROM \"{from}\""), "r").expect_err(from);
        assert!(error.to_string().starts_with(want), "{error}");
    }
}

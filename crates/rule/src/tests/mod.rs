//! Whole rules on whole messages.

mod docs;
mod facts;
mod golden;
mod made;
mod pins;
mod twin;

use jiff::tz::TimeZone;
use proptest::collection::vec;
use proptest::prelude::*;

use super::arena::Arena;
use super::around::{Around, Environment};
use super::message::{Given, Id, Message};
use super::program::{Input, Outcome, Program};
use super::template::MessageContext;
use forebay_mqtt::property::PropertyBuf;

/// A message with this payload.
pub(super) fn message<'m>(payload: &'m [u8], properties: &'m PropertyBuf) -> Message<'m> {
    let context = MessageContext {
        topic: "t/a/b",
        client_id: "c1",
        username: Some("u1"),
        qos: 1,
        retain: false,
        dup: false,
        packet_id: 1,
        payload,
        timestamp_ms: 1_700_000_000_000,
        properties: properties.as_properties(),
        hops: 0,
        copy_of: None,
        output: None,
    };
    Message {
        context,
        id: Id::Text("0006"),
        peerhost: Some("127.0.0.1"),
        peername: None,
        node: "emqx@127.0.0.1",
        given: Given {
            pub_props: Some(r#"{"User-Property":{"k":"v"}}"#),
            metadata: Some(r#"{"rule_id":"r"}"#),
            client_attrs: None,
        },
    }
}

/// The outputs of a rule for a message with this payload; the error is the code of the failure, or `sql` and the error of the rule.
pub(super) fn outputs(sql: &str, payload: &str) -> Result<Vec<String>, String> {
    let program = Program::compile(sql, "r").map_err(|error| format!("sql: {}", error.show(sql)))?;
    evaluated(&program, payload, &mut Arena::new())
}

pub(super) fn evaluated(program: &Program, payload: &str, arena: &mut Arena) -> Result<Vec<String>, String> {
    let properties = PropertyBuf::new();
    let message = message(payload.as_bytes(), &properties);
    let environment = Environment::of([("EMQXVAR_KAFKA_TOPIC".to_owned(), "testtopic-in".to_owned())]);
    let around = Around { now_ns: 1_700_000_000_123_456_789, zone: &TimeZone::UTC, environment: &environment, seed: 7 };
    let mut outputs = Vec::new();
    let outcome = program.evaluate(&mut Input::new(&message, &around, arena), |output| {
        let mut text = Vec::new();
        output.write(&mut text)?;
        outputs.push(String::from_utf8(text).expect("JSON is UTF-8"));
        Ok(())
    });
    match outcome {
        Ok(Outcome::Filtered) => assert!(outputs.is_empty(), "{outputs:?}"),
        Ok(Outcome::Passed(count)) => assert_eq!(count as usize, outputs.len()),
        Err(failure) => return Err(failure.reason.code.as_str().to_owned()),
    }
    Ok(outputs)
}

/// The one output.
pub(super) fn first_output(sql: &str, payload: &str) -> Result<String, String> {
    outputs(sql, payload).map(|mut outputs| outputs.pop().unwrap_or_default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The fuzz target in short form.
    #[test]
    fn any_input_is_answered(
        is_text in any::<bool>(), text in vec(any::<u8>(), 0..120), payload in prop_oneof![vec(any::<u8>(), 0..60), r#"[\[\]{}",:0-9.eE\-a-c truefalsn\\u]{0,60}"#.prop_map(String::into_bytes)],
    ) {
        crate::any_input::check(is_text, &text, &payload);
    }
}

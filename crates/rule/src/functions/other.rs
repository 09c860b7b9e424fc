//! Functions of no other family.

use super::{Called, Context, argument, functions};
use crate::value::Value;

functions! {
    "coalesce" "(a[, b …])" 1 8 Pure(|c, a| first(c, a, |value| !value.is_absent())), "The first that is not absent; of a list alone its first item that is not.", "coalesce(null(), 'b')" => "\"b\"";
    "coalesce_ne" "(a[, b …])" 1 8 Pure(|c, a| first(c, a, |value| !matches!(value, Value::Absent | Value::Null | Value::Text(b"")))), "The first that is not absent, null or an empty text.", "coalesce_ne('', 'b')" => "\"b\"";
    "getenv" "(name)" 1 1 Around(|c, a| Ok(Value::text(c.around.environment.get(argument(a, 0).as_str()?).unwrap_or_default()))), "The variable `FOREBAY_VAR_name`, else `EMQXVAR_name`, of the environment at the start of the service; an empty text if there is none.", "getenv('NOT_THERE')" => "\"\"";
    "null" "()" 0 0 Pure(|_, _| Ok(Value::Absent)), "What is absent.", "null()" => "null";
    "uuid_v4" "()" 0 0 Around(|c, _| { let id = uuid(c); c.arena.format(format_args!("{}", id.hyphenated())) }), "A random UUID.", "strlen(uuid_v4())" => "36";
    "uuid_v4_no_hyphen" "()" 0 0 Around(|c, _| { let id = uuid(c); c.arena.format(format_args!("{}", id.simple())) }), "A random UUID without hyphens.", "strlen(uuid_v4_no_hyphen())" => "32";
}

fn first<'a>(context: &Context<'a>, arguments: &[Value<'a>], is: fn(Value<'a>) -> bool) -> Called<'a> {
    let values = match arguments {
        [list @ (Value::Array(_) | Value::Raw(_))] => match context.arena.open(*list)? {
            Value::Array(items) => items,
            _ => arguments,
        },
        _ => arguments,
    };
    Ok(values.iter().copied().find(|value| is(*value)).unwrap_or(Value::Absent))
}

fn uuid(context: &Context<'_>) -> uuid::Uuid {
    let random = u128::from(context.arena.random()) << 64 | u128::from(context.arena.random());
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}

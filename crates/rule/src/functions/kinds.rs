//! Tests of a value's type.

use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::value::{Kind, Value};

functions! {
    "is_array" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Array])), "Whether it is an array.", "is_array([1])" => "true";
    "is_bool" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Bool])), "Whether it is a boolean.", "is_bool(false)" => "true";
    "is_empty" "(x)" 1 1 Pure(is_empty), "Whether a text, an array or an object is empty; JSON text of an object counts as one.", "is_empty([])" => "true";
    "is_float" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Float])), "Whether it is a number with a point.", "is_float(1.0)" => "true";
    "is_int" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Int])), "Whether it is an integer.", "is_int(1.0)" => "false";
    "is_map" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Object])), "Whether it is an object; a payload that is JSON text is a text.", "is_map(map_new())" => "true";
    "is_not_null" "(x)" 1 1 Pure(|_, a| Ok(Value::Bool(!argument(a, 0).is_absent()))), "Whether it is there; JSON `null` is.", "is_not_null(1)" => "true";
    "is_not_null_var" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Bool, Kind::Int, Kind::Float, Kind::Text, Kind::Array, Kind::Object])), "Whether it is there and not `null`.", "is_not_null_var(null())" => "false";
    "is_null" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Absent])), "Whether it is absent; JSON `null` is not.", "is_null(map_get('a', '{\"a\":null}'))" => "false";
    "is_null_var" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Absent, Kind::Null])), "Whether it is absent or `null`.", "is_null_var(map_get('a', '{\"a\":null}'))" => "true";
    "is_num" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Int, Kind::Float])), "Whether it is a number.", "is_num('1')" => "false";
    "is_str" "(x)" 1 1 Pure(|_, a| is(a, &[Kind::Text])), "Whether it is a text.", "is_str('a')" => "true";
}

fn is<'a>(arguments: &[Value<'a>], kinds: &[Kind]) -> Called<'a> {
    Ok(Value::Bool(kinds.contains(&argument(arguments, 0).kind())))
}

fn is_empty<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let value = argument(arguments, 0);
    let is_empty = match context.arena.open(value)? {
        Value::Array(items) => items.is_empty(),
        Value::Text(b"") => true,
        Value::Object(members) => members.is_empty(),
        Value::Text(_) => value.as_object(context.arena)?.is_empty(),
        other => return Err(Reason::wanted("a text, an array or an object", other.kind())),
    };
    Ok(Value::Bool(is_empty))
}

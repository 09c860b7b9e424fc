//! Functions of objects. JSON text of an object counts as one.

use super::{Called, Context, argument, functions};
use crate::arena::{Arena, NOT_JSON};
use crate::failure::Reason;
use crate::program::{put_member, read_names};
use crate::value::{Member, Value, member};

functions! {
    "map_get" "(path, object[, default])" 2 3 Pure(map_get), "The member at a path with dots; where there is none the default, or absent.", "map_get('a.b', '{\"a\":{\"b\":2}}')" => "2";
    "map_keys" "(object)" 1 1 Pure(|c, a| list(c, a, |_, member| Ok(Value::text(member.name)))), "The names of its members, in ascending order.", "map_keys('{\"b\":1,\"a\":2}')" => "[\"a\",\"b\"]";
    "map_new" "()" 0 0 Pure(|_, _| Ok(Value::Object(&[]))), "An empty object.", "map_new()" => "{}";
    "map_put" "(path, value, object)" 3 3 Pure(map_put), "The object with a value at a path with dots; what is missing is made, the object too.", "map_put('a.b', 1, map_new())" => "{\"a\":{\"b\":1}}";
    "map_size" "(object)" 1 1 Pure(|c, a| argument(a, 0).as_object(c.arena).map(|members| Value::Int(members.len() as i64))), "How many members it has.", "map_size('{\"a\":1}')" => "1";
    "map_to_entries" "(object)" 1 1 Pure(|c, a| list(c, a, entry)), "Its members as a list of `key` and `value`, in ascending order of the names.", "map_to_entries('{\"a\":1}')" => "[{\"value\":1,\"key\":\"a\"}]";
    "map_values" "(object)" 1 1 Pure(|c, a| list(c, a, |_, member| Ok(member.value))), "The values of its members, in ascending order of the names.", "map_values('{\"b\":1,\"a\":2}')" => "[2,1]";
    "mget" "(name, object[, default])" 2 3 Pure(mget), "The member of this name as it is, dots included; where there is none the default, or absent.", "mget('a.b', '{\"a.b\":3}')" => "3";
    "mput" "(name, value, object)" 3 3 Pure(|c, a| put(c.arena, argument(a, 2), std::iter::once(argument(a, 0).as_str()?), argument(a, 1))), "The object with a member of this name as it is, dots included; one that is missing is made.", "mput('a.b', 1, map_new())" => "{\"a.b\":1}";
}

pub(super) fn map_get<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let path = argument(arguments, 0).as_str()?;
    let found = read_names(argument(arguments, 1), path.split('.'), context.arena)?;
    Ok(if found.is_absent() { argument(arguments, 2) } else { found })
}

fn mget<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let name = argument(arguments, 0).as_str()?;
    let members = argument(arguments, 1).as_object(context.arena)?;
    Ok(member(members, name).unwrap_or(argument(arguments, 2)))
}

fn map_put<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let path = argument(arguments, 0).as_str()?;
    if path.split('.').count() > 64 {
        return Err(Reason::limit("a path has at most 64 steps"));
    }
    put(context.arena, argument(arguments, 2), path.split('.'), argument(arguments, 1))
}

/// An object with a value at the end of a way; parts of the way that are missing, or are no object, are created.
fn put<'a>(
    arena: &'a Arena,
    object: Value<'a>,
    mut way: impl Iterator<Item = &'a str>,
    value: Value<'a>,
) -> Called<'a> {
    let Some(name) = way.next() else { return Ok(value) };
    arena.spend(1)?;
    let members: &[Member<'a>] = match object {
        Value::Absent | Value::Null => &[],
        object => object.as_object(arena)?,
    };
    let inner = member(members, name).unwrap_or(Value::Absent);
    let inner = match arena.open(inner)? {
        inner @ Value::Object(_) => inner,
        _ => Value::Object(&[]),
    };
    let mut rest = way.peekable();
    let inner = if rest.peek().is_some() { put_rest(arena, inner, &mut rest, value)? } else { value };
    put_member(members, name, inner, arena).map(Value::Object)
}

/// [`put`] without another type of iterator for each step.
fn put_rest<'a>(
    arena: &'a Arena,
    object: Value<'a>,
    way: &mut dyn Iterator<Item = &'a str>,
    value: Value<'a>,
) -> Called<'a> {
    let Some(name) = way.next() else { return Ok(value) };
    arena.spend(1)?;
    let members = match arena.open(object)? {
        Value::Object(members) => members,
        _ => &[],
    };
    let inner = put_rest(arena, member(members, name).unwrap_or(Value::Absent), way, value)?;
    put_member(members, name, inner, arena).map(Value::Object)
}

fn list<'a>(
    context: &Context<'a>,
    arguments: &[Value<'a>],
    item: fn(&'a Arena, &Member<'a>) -> Called<'a>,
) -> Called<'a> {
    let members = argument(arguments, 0).as_object(context.arena)?;
    let mut list = context.arena.list_of(members.len())?;
    for member in members {
        context.arena.spend(1)?;
        list.push(item(context.arena, member)?)?;
    }
    Ok(Value::Array(list.finish()))
}

fn entry<'a>(arena: &'a Arena, member: &Member<'a>) -> Called<'a> {
    let pair = [Member { name: "key", value: Value::text(member.name) }, Member { name: "value", value: member.value }];
    arena.slice(&pair).map(Value::Object)
}

/// `payload('a.b')`: the payload has to be JSON.
pub(super) fn of_json<'a>(context: &Context<'a>, text: Value<'a>, path: Value<'a>) -> Called<'a> {
    let path = path.as_str()?;
    context.arena.find(text.as_bytes()?, [], NOT_JSON)?;
    read_names(text, path.split('.'), context.arena)
}

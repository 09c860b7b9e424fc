//! Ways into values: reading the value at the end of a way, and putting one there.

use crate::arena::{Arena, NOT_JSON, Way};
use crate::failure::Reason;
use crate::sql::ast::Step;
use crate::value::{Member, Value, member, place};

/// A path into the payload, which is not JSON.
const PAYLOAD_NOT_JSON: Reason = Reason::decode("the payload is not JSON");

const fn way(step: &Step) -> Way<'_> {
    match step {
        Step::Name(name) => Way::Name(name.as_str()),
        Step::Index(index) => Way::Index(*index),
        Step::Behind => Way::Index(0),
        Step::Slice(..) => Way::Slice,
    }
}

/// The value at the end of a way; absent if the way leads nowhere. Texts on the way are read as JSON; `is_payload`: the first one
/// has to be JSON.
pub(super) fn read<'a>(
    base: Value<'a>,
    steps: &[Step],
    is_payload: bool,
    arena: &'a Arena,
) -> Result<Value<'a>, Reason> {
    let fault = if is_payload { PAYLOAD_NOT_JSON } else { NOT_JSON };
    walk(base, steps.iter().map(way), steps, fault, arena)
}

/// [`read`] along names.
pub(crate) fn read_names<'a, 's>(
    base: Value<'a>,
    names: impl Iterator<Item = &'s str> + Clone,
    arena: &'a Arena,
) -> Result<Value<'a>, Reason> {
    walk(base, names.map(Way::Name), &[], NOT_JSON, arena)
}

/// Walks along a way. `slices`: the same steps, for those that are slices.
fn walk<'a, 's>(
    base: Value<'a>,
    ways: impl Iterator<Item = Way<'s>> + Clone,
    slices: &[Step],
    fault: Reason,
    arena: &'a Arena,
) -> Result<Value<'a>, Reason> {
    let mut value = base;
    let (mut gone, mut fault) = (0, fault);
    loop {
        let mut rest = ways.clone().skip(gone);
        let Some(step) = rest.clone().next() else { return Ok(value) };
        arena.spend(1)?;
        value = match (value, step) {
            (Value::Text(bytes), _) => match arena.find(bytes, rest, fault) {
                // A slice of a text, or a text in a text.
                Ok((found, 0)) => {
                    fault = NOT_JSON;
                    if let Value::Text(_) = found {
                        return Ok(Value::Absent);
                    }
                    found
                }
                Ok((found, steps)) => {
                    gone = gone.saturating_add(steps);
                    // A text within the payload need not be JSON.
                    fault = NOT_JSON;
                    found
                }
                Err(error) if error == NOT_JSON => return Ok(Value::Absent),
                Err(error) => return Err(error),
            },
            (Value::Raw(_) | Value::Array(_), Way::Slice) => {
                let Some(Step::Slice(from, to)) = slices.get(gone) else { return Ok(Value::Absent) };
                gone += 1;
                match arena.open(value)? {
                    Value::Array(items) => Value::Array(slice(items, *from, *to)),
                    _ => Value::Absent,
                }
            }
            (Value::Raw(text), _) => {
                let (found, steps) = arena.find(text.as_bytes(), rest, NOT_JSON)?;
                gone = gone.saturating_add(steps.max(1));
                found
            }
            (Value::Array(items), Way::Index(index)) => {
                gone += 1;
                place(index, items.len()).and_then(|at| items.get(at)).copied().unwrap_or(Value::Absent)
            }
            (Value::Object(members), Way::Name(name)) => {
                gone += 1;
                let _ = rest.next();
                member(members, name).unwrap_or(Value::Absent)
            }
            _ => return Ok(Value::Absent),
        };
    }
}

/// The items from one index to another, both included; indexes beyond the items are left out.
pub(super) fn slice<'a>(items: &'a [Value<'a>], from: i64, to: i64) -> &'a [Value<'a>] {
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let forth = |index: i64| if index < 0 { index.saturating_add(len).saturating_add(1) } else { index };
    let (from, to) = (forth(from).max(1), forth(to).min(len));
    let start = usize::try_from(from - 1).unwrap_or(usize::MAX);
    let end = usize::try_from(to).unwrap_or_default();
    items.get(start..end).unwrap_or_default()
}

/// A value with another one put into it: missing parts of the way are created, and parts that are no object or array are replaced.
/// An index that an array does not have changes nothing.
/// `decodes`: a text is read as JSON first, and has to be valid.
pub(super) fn put<'a>(
    base: Value<'a>,
    steps: &'a [Step],
    new: Value<'a>,
    decodes: bool,
    arena: &'a Arena,
) -> Result<Value<'a>, Reason> {
    let Some((step, rest)) = steps.split_first() else { return Ok(new) };
    arena.spend(1)?;
    let base = match base {
        Value::Text(bytes) if decodes => arena.find(bytes, [], PAYLOAD_NOT_JSON)?.0,
        other => other,
    };
    match step {
        Step::Name(name) => {
            let members = match arena.open(base)? {
                Value::Object(members) => members,
                _ => &[],
            };
            let inner = put(member(members, name).unwrap_or(Value::Absent), rest, new, false, arena)?;
            put_member(members, name, inner, arena).map(Value::Object)
        }
        Step::Index(_) | Step::Behind | Step::Slice(..) => {
            // Whatever the index, an array that does not exist yet gets its first element, as in EMQX.
            let (items, step): (&[Value<'a>], _) = match arena.open(base)? {
                Value::Array(items) => (items, step),
                _ => (&[], &Step::Behind),
            };
            let mut list = arena.list_of(items.len().saturating_add(1))?;
            let at = match step {
                Step::Index(0) => {
                    list.push(put(Value::Absent, rest, new, false, arena)?)?;
                    None
                }
                Step::Index(index) => place(*index, items.len()),
                _ => None,
            };
            for (n, item) in items.iter().enumerate() {
                list.push(if at == Some(n) { put(*item, rest, new, false, arena)? } else { *item })?;
            }
            if *step == Step::Behind {
                list.push(put(Value::Absent, rest, new, false, arena)?)?;
            }
            Ok(Value::Array(list.finish()))
        }
    }
}

/// Members with one more, or with another value of one.
pub(crate) fn put_member<'a>(
    members: &[Member<'a>],
    name: &'a str,
    value: Value<'a>,
    arena: &'a Arena,
) -> Result<&'a [Member<'a>], Reason> {
    let mut list = arena.list_of(members.len().saturating_add(1))?;
    let at = members.partition_point(|member| member.name < name);
    let (before, after) = members.split_at_checked(at).unwrap_or((members, &[]));
    list.extend(before)?;
    list.push(Member { name, value })?;
    let is_there = after.first().is_some_and(|member| member.name == name);
    list.extend(after.get(usize::from(is_there)..).unwrap_or_default())?;
    Ok(list.finish())
}

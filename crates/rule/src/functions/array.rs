//! Functions of arrays.

use super::{Called, Context, argument, functions};
use crate::compare::is_same;
use crate::failure::Reason;
use crate::value::{Value, place};

functions! {
    "contains" "(item, array)" 2 2 Pure(contains), "Whether the array has this item; 1 is neither `'1'` nor 1.0.", "contains(2, [1, 2])" => "true";
    "first" "(array)" 1 1 Pure(|c, a| argument(a, 0).as_array(c.arena)?.first().copied().ok_or(EMPTY)), "The first item; of an empty array an error.", "first([1, 2])" => "1";
    "last" "(array)" 1 1 Pure(|c, a| argument(a, 0).as_array(c.arena)?.last().copied().ok_or(EMPTY)), "The last item; of an empty array an error.", "last([1, 2])" => "2";
    "length" "(array)" 1 1 Pure(|c, a| argument(a, 0).as_array(c.arena).map(|items| Value::Int(items.len() as i64))), "How many items it has.", "length([1, 2])" => "2";
    "nth" "(n, array)" 2 2 Pure(nth), "Item n, from 1; beyond the end an error.", "nth(2, [10, 20])" => "20";
    "sublist" "([from, ]count, array)" 2 3 Pure(sublist), "So many items, from the first or from another one on; beyond the end none.", "sublist(2, 2, [1, 2, 3])" => "[2,3]";
}

const EMPTY: Reason = Reason::domain("an empty array where an item is needed");
const BEYOND: Reason = Reason::domain("an item beyond the array");

fn contains<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    for item in argument(arguments, 1).as_array(context.arena)? {
        if is_same(argument(arguments, 0), *item, context.arena)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn nth<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let n = argument(arguments, 0).as_int()?;
    let items = argument(arguments, 1).as_array(context.arena)?;
    let at = if n < 1 { None } else { place(n, items.len()) };
    at.and_then(|at| items.get(at)).copied().ok_or(BEYOND)
}

fn sublist<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (from, count, array) = match arguments {
        [from, count, array] => (from.as_int()?, count.as_int()?, *array),
        _ => (1, argument(arguments, 0).as_int()?, argument(arguments, 1)),
    };
    let items = array.as_array(context.arena)?;
    let (Some(skipped), Ok(count)) =
        (from.checked_sub(1).and_then(|from| usize::try_from(from).ok()), usize::try_from(count))
    else {
        return Err(Reason::domain("a place below 1, or a negative count"));
    };
    let rest = items.get(skipped..).unwrap_or_default();
    Ok(Value::Array(rest.get(..count).unwrap_or(rest)))
}

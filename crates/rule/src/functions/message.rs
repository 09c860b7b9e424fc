//! Functions for fields of the message, where the names of fields have other meanings.

use super::map::{map_get, of_json};
use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::field::Field;
use crate::value::{Value, member};
use forebay_mqtt::topic;

functions! {
    "clientid" "()" 0 0 OfField(Field::Clientid, |_, a| Ok(argument(a, 0))), "The client ID.", "clientid()" => "\"c1\"";
    "clientip" "()" 0 0 OfField(Field::Peerhost, |_, a| Ok(argument(a, 0))), "The address of the client.", "clientip()" => "\"127.0.0.1\"";
    "contains_topic" "(filters, filter[, qos])" 2 3 Pure(|c, a| contains(c, a, |one, other| one == other)), "Whether a list of filters (texts, or objects with `topic` and `qos`) has this one.", "contains_topic(['a/#'], 'a/#')" => "true";
    "contains_topic_match" "(filters, topic[, qos])" 2 3 Pure(|c, a| contains(c, a, |filter, name| topic::valid_filter(filter) && topic::matches(filter, name))), "Whether one of the filters matches the topic.", "contains_topic_match(['a/#'], 'a/b')" => "true";
    "flag" "(name)" 1 1 OfField(Field::Flags, |c, a| map_get(c, &[argument(a, 1), argument(a, 0)])), "A flag of the message: `'retain'` or `'dup'`.", "flag('retain')" => "false";
    "flags" "()" 0 0 OfField(Field::Flags, |_, a| Ok(argument(a, 0))), "The flags of the message.", "flags()" => "{\"retain\":false,\"dup\":false}";
    "msgid" "()" 0 0 OfField(Field::Id, |_, a| Ok(argument(a, 0))), "The number of the message.", "msgid()" => "\"0006\"";
    "payload" "([path])" 0 1 OfField(Field::Payload, payload), "The payload, or what a path with dots leads to in it.", "payload('a.b')" => "3";
    "peerhost" "()" 0 0 OfField(Field::Peerhost, |_, a| Ok(argument(a, 0))), "The address of the client.", "peerhost()" => "\"127.0.0.1\"";
    "qos" "()" 0 0 OfField(Field::Qos, |_, a| Ok(argument(a, 0))), "The QoS of the message.", "qos()" => "1";
    "topic" "([n])" 0 1 OfField(Field::Topic, level), "The topic, or its level n, from 1; beyond the last an error.", "topic(2)" => "\"a\"";
    "username" "()" 0 0 OfField(Field::Username, |_, a| Ok(argument(a, 0))), "The user name.", "username()" => "\"u1\"";
}

fn payload<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    match arguments {
        [payload, path] => of_json(context, *payload, *path),
        _ => Ok(argument(arguments, 0)),
    }
}

fn level<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let [name, n] = arguments else { return Ok(argument(arguments, 0)) };
    let name = name.as_str()?;
    context.arena.work(name.len())?;
    let n = usize::try_from(n.as_int()?).ok().and_then(|n| n.checked_sub(1));
    n.and_then(|n| topic::levels(name).nth(n))
        .map(Value::text)
        .ok_or(Reason::domain("a level that the topic does not have"))
}

fn contains<'a>(context: &Context<'a>, arguments: &[Value<'a>], is: fn(&str, &str) -> bool) -> Called<'a> {
    let wanted = argument(arguments, 1).as_str()?;
    for item in argument(arguments, 0).as_array(context.arena)? {
        context.arena.spend(1)?;
        let (filter, qos) = match context.arena.open(*item)? {
            Value::Object(members) => (member(members, "topic").unwrap_or(Value::Absent), member(members, "qos")),
            other => (other, None),
        };
        let is_qos = match (arguments.get(2), qos) {
            (Some(wanted), Some(qos)) => wanted.as_int()? == qos.as_int()?,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if is_qos && is(filter.as_str()?, wanted) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

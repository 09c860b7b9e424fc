//! Rules that name a source apply to the record itself, whatever message it becomes.

use std::sync::Arc;

use super::super::here::Here;
use crate::broker::Broker;
use crate::outlets::Outlets;
use crate::reservation::Beside;
use forebay_rule::column::Defaults;
use forebay_rule::record::Encoded;
use forebay_rule::record_fields::{Around, Scratch, with_fields};
use forebay_runtime::seam::WallMs;

/// Passes the rules that name a source to `each`, with a record of it; nothing, if there are none.
pub(super) fn with_rules<R>(
    broker: &mut Broker,
    here: &mut Here,
    outlets: &mut Outlets,
    source: usize,
    of: &Encoded<'_>,
    (wall, scratch): (WallMs, &mut Scratch),
    each: impl FnOnce(&mut Broker, &mut Here, &mut Outlets, Option<&Beside<'_>>) -> R,
) -> R {
    let known = outlets.rules.as_ref().and_then(|rules| rules.sources.get(source)?.clone());
    let Some(known) = known else { return each(broker, here, outlets, None) };
    let machine = Arc::clone(&here.machine);
    let around = Around { event: &known.event, node: &machine.node, now_ms: wall.0 };
    let record = of.record;
    let defaults = Defaults { key: record.key, time_ms: Some(record.timestamp).filter(|timestamp| *timestamp >= 0) };
    with_fields(of, around, scratch, |facts| {
        each(broker, here, outlets, Some(&Beside { rules: &known.rules, facts, defaults }))
    })
}

//! Rules that name a source apply to the record itself, whatever message it becomes.

use std::sync::Arc;

use crate::publishing::Publishing;
use crate::reservation::Beside;
use forebay_rule::column::Defaults;
use forebay_rule::record::Encoded;
use forebay_rule::record_fields::{Around, Scratch, with_fields};
use forebay_runtime::seam::WallMs;

/// Passes the rules that name a source to `each`, with a record of it; nothing, if there are none.
pub(super) fn with_rules<R>(
    to: &mut Publishing<'_>,
    source: usize,
    of: &Encoded<'_>,
    (wall, scratch): (WallMs, &mut Scratch),
    each: impl FnOnce(&mut Publishing<'_>, Option<&Beside<'_>>) -> R,
) -> R {
    let known = to.outlets.rules.as_ref().and_then(|rules| rules.sources.get(source)?.clone());
    let Some(known) = known else { return each(to, None) };
    let machine = Arc::clone(&to.here.machine);
    let around = Around { event: &known.event, node: &machine.node, now_ms: wall.0 };
    let record = of.record;
    let defaults = Defaults { key: record.key, time_ms: Some(record.timestamp).filter(|timestamp| *timestamp >= 0) };
    with_fields(of, around, scratch, |facts| each(to, Some(&Beside { rules: &known.rules, facts, defaults })))
}

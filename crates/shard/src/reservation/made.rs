//! A row of a rule, rendered into the reservation's memory.

use forebay_rule::column::Defaults;
use forebay_runtime::seam::WallMs;

use super::super::sinks::{Message, Plan, header_bytes};
use super::super::words::Objection;
use super::{Text, Workspace};

/// A place in [`Workspace::rendered`].
type Span = (u32, u32);

/// A row of a rule, rendered.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) key: Option<Span>,
    /// `None` is Kafka's null.
    pub(super) value: Option<Span>,
    /// Its headers in [`Workspace::made_headers`].
    pub(super) headers: Span,
    pub(super) time: Option<WallMs>,
    /// Values of `headers_from` that cannot be a header.
    pub(super) left_out: u64,
}

/// Renders a row: the memory that it takes, its topic, and the rest.
pub(super) fn render(
    plan: &Plan,
    of: &Message<'_>,
    defaults: Option<Defaults<'_>>,
    work: &mut Workspace,
) -> Result<(usize, Text, Made), Objection> {
    // [`RENDERED_MAX`] and a row more.
    let end = |rendered: &Vec<u8>| rendered.len() as u32;
    let time = plan.time(of).map_err(Objection::Absent)?;
    let time = time.or_else(|| defaults?.time_ms.map(WallMs));
    if let Some(from) = &plan.headers_from {
        from.bound(of).map_err(Objection::Absent)?;
    }
    let topic = Text::of(&plan.topic, of, &mut work.rendered).map_err(Objection::Absent)?;
    let start = end(&work.rendered);
    let key = match defaults.filter(|_| plan.has_default_key()) {
        Some(Defaults { key, .. }) => {
            work.rendered.extend_from_slice(key.unwrap_or_default());
            key.is_some()
        }
        None => plan.key.as_ref().is_some_and(|key| key.render(of, &mut work.rendered).is_ok()),
    };
    let middle = end(&work.rendered);
    let has_value = plan.write_value(of, &mut work.rendered).map_err(Objection::Absent)?;
    let value = (middle, end(&work.rendered));
    let first = work.made_headers.len() as u32;
    let (mut headers_bytes, mut left_out) = (0, 0);
    if !plan.is_bare(of) {
        work.headers.clear();
        let ranges = plan.render_headers(of, &mut work.headers);
        for (name, value) in plan.headers(of, &work.headers, &ranges) {
            let start = end(&work.rendered);
            work.rendered.extend_from_slice(name);
            let middle = end(&work.rendered);
            work.rendered.extend_from_slice(value);
            work.made_headers.push((start, middle, end(&work.rendered)));
            headers_bytes += header_bytes(name.len(), value.len());
        }
        left_out = ranges.left_out;
    }
    let made = Made {
        key: key.then_some((start, middle)),
        value: has_value.then_some(value),
        headers: (first, work.made_headers.len() as u32),
        time,
        left_out,
    };
    let (key, value) = (middle - start, if has_value { value.1 - value.0 } else { 0 });
    let bytes = forebay_kafka::producer::row_bytes_max(key as usize, value as usize, headers_bytes, 0);
    Ok((bytes, topic, made))
}

/// The bytes of a place in what was rendered.
pub(super) fn span(rendered: &[u8], (from, to): Span) -> &[u8] {
    rendered.get(from as usize..to as usize).unwrap_or_default()
}

impl Made {
    /// Name and value of each header, out of all headers and what was rendered.
    pub(super) fn headers<'a>(
        &self,
        all: &'a [(u32, u32, u32)],
        rendered: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let headers = all.get(self.headers.0 as usize..self.headers.1 as usize).unwrap_or_default();
        headers.iter().map(|(start, middle, end)| (span(rendered, (*start, *middle)), span(rendered, (*middle, *end))))
    }
}

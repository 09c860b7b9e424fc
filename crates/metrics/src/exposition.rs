//! The two text formats of metrics: Prometheus 0.0.4, and OpenMetrics 1.0 for scrapers that ask for it.

use std::fmt::{Display, Write as _};

/// Label names with their values.
pub type Labels = Vec<(&'static str, String)>;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Text,
    /// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers (RFC 9110, 12.5.1). OpenMetrics has to be named there.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let quality = |wanted: &[&str]| {
            let ranges = accept.unwrap_or_default().split(',');
            let of = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                wanted.contains(&parts.next()?).then_some(())?;
                let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
                Some(quality.unwrap_or(1.0))
            };
            ranges.filter_map(of).fold(0.0, f32::max)
        };
        let open = quality(&["application/openmetrics-text"]);
        if open > 0.0 && open >= quality(&["text/plain", "text/*"]) { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number that only grows; samples have the suffix `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// A histogram's state, counts cumulative.
#[derive(Clone, Copy, Debug)]
pub struct Buckets<'a> {
    /// Upper bounds, inclusive, ascending.
    pub bounds: &'a [f64],
    /// The number of values up to each bound, and of all values at the end.
    pub cumulative: &'a [u64],
    /// Sum of the values.
    pub sum: f64,
}

impl Buckets<'_> {
    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cumulative.last().copied().unwrap_or_default()
    }
}

/// A writer of metrics, family by family.
pub trait Exposition {
    /// Begins a family; `name` is without `_total`.
    fn family(&mut self, name: &str, help: &str, of: Type);
    /// Writes one sample of the family that was begun last.
    fn sample(&mut self, name: &str, labels: &Labels, extra: Option<(&str, &str)>, value: Amount);
    /// Writes one histogram of the family that was begun last.
    fn histogram(&mut self, name: &str, labels: &Labels, buckets: Buckets<'_>);
}

/// A sample's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A count, exact.
    Whole(u64),
    /// Any other number.
    Real(f64),
}

impl From<u64> for Amount {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Amount {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
        }
    }
}

/// A page that is being written, family by family.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
    /// The type of the family that was begun last.
    of: Type,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { text: String::with_capacity(64 << 10), format, of: Type::Gauge }
    }

    /// Ends the page and returns it.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &Labels, extra: Option<(&str, &str)>, value: impl Display) {
        let _ = write!(self.text, "{name}{suffix}");
        let all = labels.iter().map(|(key, value)| (*key, value.as_str())).chain(extra);
        for (index, (key, value)) in all.enumerate() {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let _ = write!(self.text, "{}{key}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() && extra.is_none() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

impl Exposition for Page {
    fn family(&mut self, name: &str, help: &str, of: Type) {
        self.of = of;
        // OpenMetrics names a counter's family without the suffix, the older format with it.
        let total = if of == Type::Counter && self.format == Format::Text { "_total" } else { "" };
        let word = match of {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let help = if self.format == Format::OpenMetrics { help.replace('"', r#"\""#) } else { help };
        let _ = writeln!(self.text, "# HELP {name}{total} {help}\n# TYPE {name}{total} {word}");
    }

    fn sample(&mut self, name: &str, labels: &Labels, extra: Option<(&str, &str)>, value: Amount) {
        let suffix = if self.of == Type::Counter { "_total" } else { "" };
        self.line(name, suffix, labels, extra, value);
    }

    fn histogram(&mut self, name: &str, labels: &Labels, buckets: Buckets<'_>) {
        for (bound, count) in buckets.bounds.iter().zip(buckets.cumulative) {
            // OpenMetrics requires a float here, and both formats accept one.
            self.line(name, "_bucket", labels, Some(("le", &format!("{bound:?}"))), count);
        }
        self.line(name, "_bucket", labels, Some(("le", "+Inf")), buckets.count());
        self.line(name, "_sum", labels, None, buckets.sum);
        self.line(name, "_count", labels, None, buckets.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_only_for_who_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (Some(prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.2, text/plain"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("*/*"), Format::Text),
            (None, Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn counters_are_named_as_each_format_wants_and_labels_are_escaped() {
        let page = |format| {
            let mut page = Page::new(format);
            page.family("a", "Say \"a\".", Type::Counter);
            page.sample("a", &vec![("k", "x\"y\\z\n".to_owned())], Some(("l", "m")), Amount::Whole(3));
            page.family("b", "B.", Type::Gauge);
            page.sample("b", &Labels::new(), None, Amount::Real(0.5));
            page.finish()
        };
        let sample = "a_total{k=\"x\\\"y\\\\z\\n\",l=\"m\"} 3\n# HELP b B.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(page(Format::Text), format!("# HELP a_total Say \"a\".\n# TYPE a_total counter\n{sample}"));
        assert_eq!(page(Format::OpenMetrics), format!("# HELP a Say \\\"a\\\".\n# TYPE a counter\n{sample}# EOF\n"));
    }
}

//! OTLP requests in the JSON encoding of the protocol: names in camel case, 64-bit integers as strings, ids in hexadecimal.

use serde_json::{Value as Json, json};

use super::span::{Span, Value};
use forebay_metrics::exposition::{Amount, Buckets, Exposition, Labels, Type};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u8 = 2;

/// The resource that sends the telemetry.
pub(super) fn resource(service_name: &str, instance: &str) -> Json {
    let attribute = |(key, value): (&str, &str)| json!({ "key": key, "value": { "stringValue": value } });
    let all = [
        ("service.name", service_name),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
    ];
    json!({ "attributes": all.map(attribute) })
}

fn scope() -> Json {
    json!({ "name": "forebay", "version": env!("CARGO_PKG_VERSION") })
}

/// An `ExportTraceServiceRequest`.
pub(super) fn traces(resource: &Json, spans: &[Span]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": scope(), "spans": spans }] }] })
}

fn span(of: &Span) -> Json {
    let mut span = json!({
        "traceId": format!("{:032x}", of.context.trace),
        "spanId": format!("{:016x}", of.context.span),
        "name": of.name,
        "kind": of.kind(),
        "startTimeUnixNano": of.began_ns.to_string(),
        "endTimeUnixNano": of.ended_ns.to_string(),
        "attributes": of.attributes.iter().map(|(key, value)| attribute(key, value)).collect::<Vec<_>>(),
    });
    if let Some(parent) = of.parent {
        span["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(why) = &of.failed {
        // STATUS_CODE_ERROR
        span["status"] = json!({ "code": 2, "message": why });
    }
    span
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Flag(flag) => json!({ "boolValue": flag }),
    };
    json!({ "key": key, "value": value })
}

/// Metrics being assembled into an `ExportMetricsServiceRequest`.
#[derive(Debug)]
pub(super) struct Metrics {
    all: Vec<Metric>,
    started_ns: String,
    now_ns: String,
}

#[derive(Debug)]
struct Metric {
    name: String,
    help: String,
    of: Type,
    points: Vec<Json>,
}

impl Metrics {
    pub(super) fn new(started_ns: u64, now_ns: u64) -> Self {
        Self { all: Vec::new(), started_ns: started_ns.to_string(), now_ns: now_ns.to_string() }
    }

    /// The complete request.
    pub(super) fn finish(self, resource: &Json) -> Json {
        let metrics = self.all.into_iter().map(|Metric { name, help, of, points }| {
            let unit = match name.rsplit('_').next() {
                Some("seconds") => "s",
                Some("bytes") => "By",
                _ => "",
            };
            let mut metric = json!({ "name": name, "description": help, "unit": unit });
            let (kind, data) = match of {
                Type::Counter => {
                    ("sum", json!({ "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points }))
                }
                Type::Gauge => ("gauge", json!({ "dataPoints": points })),
                Type::Histogram => ("histogram", json!({ "aggregationTemporality": CUMULATIVE, "dataPoints": points })),
            };
            metric[kind] = data;
            metric
        });
        let metrics: Vec<Json> = metrics.collect();
        json!({ "resourceMetrics": [{ "resource": resource, "scopeMetrics": [{ "scope": scope(), "metrics": metrics }] }] })
    }

    fn point(&mut self, labels: &Labels, extra: Option<(&str, &str)>, value: Json) {
        let Some(metric) = self.all.last_mut() else { return };
        let all = labels.iter().map(|(key, value)| (*key, value.as_str())).chain(extra);
        let attributes = all.map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } }));
        let mut point = json!({ "attributes": attributes.collect::<Vec<_>>(), "timeUnixNano": self.now_ns });
        if metric.of != Type::Gauge {
            point["startTimeUnixNano"] = self.started_ns.clone().into();
        }
        if let (Json::Object(point), Json::Object(value)) = (&mut point, value) {
            point.extend(value);
        }
        metric.points.push(point);
    }
}

impl Exposition for Metrics {
    fn family(&mut self, name: &str, help: &str, of: Type) {
        self.all.push(Metric { name: name.to_owned(), help: help.to_owned(), of, points: Vec::new() });
    }

    fn sample(&mut self, _name: &str, labels: &Labels, extra: Option<(&str, &str)>, value: Amount) {
        let value = match value {
            Amount::Whole(value) => json!({ "asInt": value.to_string() }),
            Amount::Real(value) => json!({ "asDouble": value }),
        };
        self.point(labels, extra, value);
    }

    fn histogram(&mut self, _name: &str, labels: &Labels, buckets: Buckets<'_>) {
        let mut before = 0;
        let each = buckets.cumulative.iter().map(|up_to| up_to.saturating_sub(std::mem::replace(&mut before, *up_to)));
        let each: Vec<String> = each.map(|count| count.to_string()).collect();
        let value = json!({
            "count": buckets.count().to_string(),
            "sum": buckets.sum,
            "bucketCounts": each,
            "explicitBounds": buckets.bounds,
        });
        self.point(labels, None, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_in_otlp() {
        let mut metrics = Metrics::new(1, 2);
        metrics.family("a_bytes", "A.", Type::Counter);
        metrics.sample("a_bytes", &vec![("k", "v".to_owned())], Some(("l", "m")), Amount::Whole(3));
        metrics.family("b", "B.", Type::Gauge);
        metrics.sample("b", &Labels::new(), None, Amount::Real(0.5));
        metrics.family("c_seconds", "C.", Type::Histogram);
        let buckets = Buckets { bounds: &[0.1, 1.0], cumulative: &[2, 5, 6], sum: 3.5 };
        metrics.histogram("c_seconds", &Labels::new(), buckets);
        let request = metrics.finish(&resource("edge", "i"));
        let all = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        let text = |value: &str| json!({ "stringValue": value });
        let attributes = json!([{ "key": "k", "value": text("v") }, { "key": "l", "value": text("m") }]);
        let point = json!({ "attributes": attributes, "startTimeUnixNano": "1", "timeUnixNano": "2", "asInt": "3" });
        let sum = json!({ "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point] });
        assert_eq!(all[0], json!({ "name": "a_bytes", "description": "A.", "unit": "By", "sum": sum }));
        let point = json!({ "attributes": [], "timeUnixNano": "2", "asDouble": 0.5 });
        assert_eq!(all[1]["gauge"], json!({ "dataPoints": [point] }));
        let point = &all[2]["histogram"]["dataPoints"][0];
        assert_eq!((&point["count"], &point["sum"]), (&json!("6"), &json!(3.5)));
        assert_eq!((&point["bucketCounts"], &point["explicitBounds"]), (&json!(["2", "3", "1"]), &json!([0.1, 1.0])));
        assert_eq!(all[2]["unit"], "s");
        assert_eq!(request["resourceMetrics"][0]["resource"]["attributes"][0]["value"], text("edge"));
    }
}

//! `[telemetry]`: export of metrics and traces.

use toml::de::DeValue;

use super::problem::Fault;
use super::reader::Table;
use super::values;
use forebay_service::telemetry::{Endpoint, Settings};

/// Reads the section. `None`: nothing is exported.
pub(super) fn resolve(table: &Table<'_>) -> Option<Settings> {
    let endpoint = table.find("otlp", |key, value| {
        let url = values::non_empty(key, value)?;
        Endpoint::parse(&url).map_err(|why| Fault::new(format!("{url:?} {why}")))
    });
    let interval = table.read("interval", values::duration);
    let service_name = table.read("service_name", values::non_empty);
    let headers = headers(table);
    Some(Settings { endpoint: endpoint?, interval, headers, service_name })
}

fn headers(table: &Table<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value, spot) in table.entries("headers") {
        let DeValue::String(text) = value else {
            table.source.report(&spot, values::wrong_type("a string", value));
            continue;
        };
        if !is_name(name) {
            table.source.report(&spot, Fault::new(format!("{name:?} is not the name of an HTTP header")));
        } else if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            table.source.report(&spot, Fault::new("the value of an HTTP header must be printable ASCII"));
        } else {
            headers.push((name.to_owned(), text.clone().into_owned()));
        }
    }
    headers
}

/// A token of RFC 9110, 5.6.2, that the exporter does not write itself.
fn is_name(name: &str) -> bool {
    const OWN: [&str; 5] = ["host", "content-type", "content-length", "connection", "transfer-encoding"];
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token) && !OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn off_unless_an_address_is_given() {
        assert!(parse("[telemetry]\nservice_name = 'edge'\n", "test").expect("valid").telemetry.is_none());
        let text = "[telemetry]\notlp = 'http://collector'\nheaders = { x-key = 'secret' }\n";
        let settings = parse(text, "test").expect("valid").telemetry.expect("it is on");
        assert_eq!(settings.endpoint.to_string(), "http://collector:4318");
        assert_eq!(settings.headers, [("x-key".to_owned(), "secret".to_owned())]);
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn mistakes() {
        for (text, word) in [
            ("otlp = 'https://collector'", "https is not supported"),
            ("otlp = 'collector:4317'", "http://"),
            ("headers = { 'a b' = 'x' }", "not the name"),
            ("headers = { Host = 'x' }", "not the name"),
            ("headers = { a = \"x\\ny\" }", "printable"),
            ("headers = { a = 1 }", "string"),
            ("interval = '0s'", "out of range"),
        ] {
            let problems = parse(&format!("[telemetry]\n{text}\n"), "test").expect_err(text).to_string();
            assert!(problems.contains(word), "{text}: {problems}");
        }
    }
}

//! `forebay broker slots`: the instance that serves each slot of a broker.

use std::fmt::Write as _;

use serde_json::Value;

use super::args::AskArgs;
use super::ask::{get, shown, table, text};

/// The instances of the broker, a line each, with their slots.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn slots(from: &AskArgs) -> Result<String, String> {
    const HEAD: [&str; 5] = ["INSTANCE", "LINK", "SERVER", "SLOTS", "WHICH"];
    let answer = get(from, "/api/v1/broker/slots")?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let row = |of: &Value| {
        let slots = numbers(&of["slots"]);
        let is_own = of["name"] == answer["name"];
        let name = format!("{}{}", text(&of["name"]), if is_own { " (this one)" } else { "" });
        [name, shown(&of["link"]), shown(&of["server"]), slots.len().to_string(), ranges(&slots)]
    };
    let instances = answer["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = [HEAD.map(str::to_owned)].into_iter().chain(instances.iter().map(row)).collect();
    let mut out = table(&rows);
    let nobody = numbers(&answer["nobody"]);
    if !nobody.is_empty() {
        let _ = writeln!(out, "\nnobody serves {} for now: their clients wait", ranges(&nobody));
    }
    let not_taken = answer["not_taken"].as_array().map(Vec::as_slice).unwrap_or_default();
    for of in not_taken {
        let _ = writeln!(out, "\nslot {} cannot be taken up: {}", of["slot"], text(&of["reason"]));
    }
    if answer["silent"] == true {
        out.push_str("\nthis instance has heard nothing of the group for too long, and welcomes no clients\n");
    }
    if answer["drained"] == true {
        out.push_str("\nthis instance is drained: it gives its slots to the others; `forebay drain --end` ends that\n");
    }
    Ok(out)
}

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(Value::as_u64).collect()
}

/// Ascending numbers, as in `0-7 9`.
fn ranges(all: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for number in all {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let part = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_a_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2 5 7-8");
    }
}

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
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use serde_json::json;

    use super::super::args::ControlBind;
    use super::*;

    /// The text that the command prints for an answer of the API.
    fn printed(answer: &Value) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut socket, _) = listener.accept().expect("a connection");
                let asked = BufReader::new(socket.try_clone().expect("a second handle"));
                let asked: Vec<String> =
                    asked.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                assert!(asked[0].starts_with("GET /api/v1/broker/slots "), "{asked:?}");
                write!(socket, "HTTP/1.0 200 OK\r\n\r\n{answer}").expect("it reads");
            });
            let from = AskArgs { control: Some(ControlBind::At(address)), ..AskArgs::default() };
            slots(&from).expect("an answer")
        })
    }

    /// A slot that cannot be taken up is named with the reason.
    #[test]
    fn finding_q59_a_slot_that_cannot_be_taken_up_has_its_reason() {
        let mut answer = json!({
            "name": "a", "silent": false, "drained": false, "nobody": [7],
            "instances": [{ "name": "a", "link": null, "server": null, "slots": [0, 1, 2] }],
            "not_taken": [{ "slot": 7, "reason": "topic mqtt-sessions, partition 7: its format is version\u{1b}9" }],
        });
        let text = printed(&answer);
        assert!(text.contains("a (this one)") && text.contains("0-2"), "{text}");
        let why = "slot 7 cannot be taken up: topic mqtt-sessions, partition 7: its format is version\u{FFFD}9\n";
        assert!(text.contains("nobody serves 7 for now") && text.ends_with(why), "{text}");
        answer["not_taken"] = json!([]);
        assert!(!printed(&answer).contains("cannot be taken up"));
    }

    #[test]
    fn numbers_in_a_row_are_a_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2 5 7-8");
    }
}

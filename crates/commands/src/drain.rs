//! `forebay drain`: an instance of `[broker]` gives its slots to the others, and gets none until the drain is ended.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::DrainArgs;
use super::ask::{change, get};
use super::out::complain;

const PATH: &str = "/api/v1/broker/drain";

/// Interval at which the progress is polled.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// Drains an instance, or ends its drain. Returns the last line, and whether the others have all clients.
///
/// # Errors
/// Why the request is refused, or why there is no answer, with the address.
pub fn drain(options: &DrainArgs) -> Result<(String, bool), String> {
    let DrainArgs { from, end, wait } = options;
    let shown = |answer: &Value, text: String| if from.json { format!("{answer:#}\n") } else { format!("{text}\n") };
    if *end {
        let answer = change(from, "DELETE", PATH, None)?;
        return Ok((shown(&answer, "the instance takes part again: it gets slots, eight at a time".into()), true));
    }
    let until = Instant::now() + Duration::from_secs(u64::from(*wait));
    let (mut answer, mut told) = (change(from, "POST", PATH, None)?, String::new());
    loop {
        let left = left(&answer);
        if answer["drained"] != true {
            return Err("the drain has ended: somebody has ended it, or this instance is the only one by now".into());
        }
        if slots(&answer) == 0 {
            return Ok((shown(&answer, drained(&answer)), true));
        }
        if Instant::now() >= until {
            return Ok((
                shown(&answer, format!("{left} after {wait} s; the instance goes on giving them away")),
                false,
            ));
        }
        if left != told {
            complain(format_args!("{left}"));
            told = left;
        }
        thread::sleep(ASKED_EVERY);
        answer = get(from, "/api/v1/broker/slots")?;
    }
}

/// The number of slots of the instance that was asked.
fn slots(answer: &Value) -> usize {
    let instances = answer["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = instances.iter().find(|of| of["name"] == answer["name"]);
    own.and_then(|of| of["slots"].as_array()).map_or(0, Vec::len)
}

fn left(answer: &Value) -> String {
    format!("{}, {} left", counted(slots(answer) as u64, "slot"), clients(answer, "clients"))
}

fn drained(answer: &Value) -> String {
    match answer["relayed"].as_u64().unwrap_or_default() {
        0 => "drained: other instances have all slots".to_owned(),
        _ => format!(
            "drained: other instances have all slots; {} connected here are relayed to them until this process ends",
            clients(answer, "relayed")
        ),
    }
}

fn clients(answer: &Value, key: &str) -> String {
    counted(answer[key].as_u64().unwrap_or_default(), "client")
}

/// A number and its noun, with thousands separated, as in `12,034 clients`.
fn counted(number: u64, thing: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_is_said_in_words() {
        let of = |slots: &[u16], clients, relayed| {
            let instances = json!([{ "name": "b", "slots": [9] }, { "name": "a", "slots": slots }]);
            json!({ "name": "a", "clients": clients, "relayed": relayed, "instances": instances })
        };
        assert_eq!(left(&of(&[1, 2], 12_034, 0)), "2 slots, 12,034 clients left");
        assert_eq!(left(&of(&[1], 1, 0)), "1 slot, 1 client left");
        assert_eq!(drained(&of(&[], 0, 0)), "drained: other instances have all slots");
        assert!(drained(&of(&[], 0, 1_234_567)).contains("1,234,567 clients connected here are relayed"));
    }
}

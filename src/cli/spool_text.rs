//! The findings of `forebay spool inspect`, in an operator's words.

use std::fmt::Write as _;

use serde_json::Value;

use super::ask::{said, table, text};

/// The report of one shard, or of a partition of the embedded log.
pub(super) fn human(report: &Value) -> String {
    let head = ["SEGMENT", "SHARD", "CREATED", "BYTES", "SYNCED", "UNSYNCED", "RECORDS", "BATCHES IN DOUBT", "DAMAGE"];
    let mut rows = vec![head.map(str::to_owned)];
    let mut details = String::new();
    for segment in list(&report["segments"]) {
        let field = |name: &str| if segment[name].is_null() { "-".to_owned() } else { text(&segment[name]) };
        let count = |name: &str| list(&segment[name]).len().to_string();
        let records: u64 = list(&segment["rows"]).iter().filter_map(|rows| rows["rows"].as_u64()).sum();
        rows.push([
            field("segment"),
            field("shard"),
            field("created"),
            field("bytes"),
            field("synced"),
            field("torn_bytes"),
            records.to_string(),
            count("cuts_open"),
            count("damage"),
        ]);
        let damage: Vec<String> = list(&segment["damage"]).iter().map(damaged).collect();
        let entries = list(&segment["entries"]);
        let error = said(&segment["error"]);
        if damage.is_empty() && entries.is_empty() && error.is_none() {
            continue;
        }
        let _ = writeln!(details, "\nSegment {}:", text(&segment["segment"]));
        error.into_iter().for_each(|error| details += &format!("  {error}\n"));
        damage.iter().for_each(|line| details += &format!("  {line}\n"));
        entries.iter().for_each(|line| details += &format!("  {}\n", text(line)));
    }
    let mut out = if rows.len() > 1 { table(&rows) } else { "There are no segments.\n".to_owned() };
    out += &details;
    for name in list(&report["not_files"]) {
        let _ = writeln!(out, "  {} is no file, and is left alone", text(name));
    }
    start(&report["start"], &mut out);
    out + if report["sound"].as_bool() == Some(true) { "\nNo damage found.\n" } else { "\nDAMAGED.\n" }
}

/// Appends the rows that the service would find when it starts.
fn start(start: &Value, out: &mut String) {
    let mut line = |text: String| *out += &format!("  {text}\n");
    if let Some(error) = said(&start["error"]) {
        line(format!("The next start would fail: {error}"));
        return;
    }
    if start["next_offset"].is_i64() {
        let [batches, records, first, next] =
            ["batches", "records", "first_offset", "next_offset"].map(|name| text(&start[name]));
        line(format!("{records} records in {batches} batches, from offset {first}; the next offset is {next}"));
        return;
    }
    let lanes = list(&start["lanes"]);
    let total: u64 = lanes.iter().filter_map(|lane| lane["rows"].as_u64()).sum();
    let (records, kept) = (counted(total, "record"), text(&start["kept_words"]));
    line(format!("The next start would find {records} not known to be in Kafka, and {kept}."));
    for lane in lanes {
        let partition = match lane["partition"].as_i64() {
            Some(number) if number >= 0 => format!("partition {number}"),
            _ => "partition not chosen yet".to_owned(),
        };
        let [sink, topic, unsent] = ["sink", "topic", "uncut"].map(|name| text(&lane[name]));
        let rows = counted(lane["rows"].as_u64().unwrap_or_default(), "record");
        line(format!("- sink {sink}, topic {topic}, {partition}: {rows}, {unsent} of them never sent"));
    }
    for batch in list(&start["cuts_uncertain"]) {
        let names = ["partition", "producer_id", "epoch", "sequence"];
        let [partition, id, epoch, sequence] = names.map(|name| text(&batch[name]));
        let rows = counted(batch["rows"].as_u64().unwrap_or_default(), "record");
        line(format!(
            "- a batch of {rows} for partition {partition} may already be in Kafka; it would be sent again first, \
             unchanged (producer ID {id}, epoch {epoch}, sequence {sequence})"
        ));
    }
    for damage in list(&start["damage"]) {
        line(text(&damage["text"]));
    }
    let unread = list(&start["unread"]);
    for one in unread.iter().take(UNREAD_SHOWN_MAX) {
        let [number, kind, why] = ["number", "kind", "why"].map(|name| text(&one[name]));
        let place = match one["segment"].as_u64() {
            Some(segment) => format!("segment {segment}, position {}: ", text(&one["position"])),
            None => String::new(),
        };
        line(format!("{place}record {number} ({kind}) is not taken up: {why}"));
    }
    if unread.len() > UNREAD_SHOWN_MAX {
        line(format!("and {} more (--json has all)", unread.len() - UNREAD_SHOWN_MAX));
    }
    let lost = text(&start["lost_words"]);
    if !lost.is_empty() {
        line(format!("Lost: {lost}. The next start goes on without, and counts them in forebay_spool_lost_total."));
    }
    if start["fate_open"].as_bool() == Some(true) {
        line("Records may be sent twice, and sessions or messages that had ended may be back: what ended them may be in the damaged part.".to_owned());
    }
    if let Some(bytes) = start["torn_bytes"].as_u64().filter(|bytes| *bytes > 0) {
        line(format!(
            "{bytes} bytes at the end were not synced when the process ended; nothing in them was acknowledged"
        ));
    }
}

/// Records that are named one by one.
const UNREAD_SHOWN_MAX: usize = 20;

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn damaged(damage: &Value) -> String {
    let [segment, position, bytes, what] = ["segment", "position", "bytes", "what"].map(|name| text(&damage[name]));
    format!("damaged: segment {segment}, position {position}, {bytes} bytes ({what})")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

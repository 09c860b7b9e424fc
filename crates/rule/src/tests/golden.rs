//! `tests/rules/emqx.jsonl`: statements, payloads, and the answers of EMQX's rule engine. A row with a different answer of ours has
//! that in `ours` and the reason in `differs`.

use serde_json::Value;

use super::outputs;

#[test]
fn emqx_rows_yield_what_emqx_yields() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/rules/emqx.jsonl");
    let text = std::fs::read_to_string(file).expect("the table");
    let mut wrong = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("a row is JSON");
        let (sql, payload) = (row["sql"].as_str().expect("sql"), row["payload"].as_str().expect("payload"));
        let found = outputs(sql, payload);
        let found_json = match &found {
            Ok(outputs) => {
                outputs.iter().map(|output| serde_json::from_str::<Value>(output).expect("an output is JSON")).collect()
            }
            Err(_) => Value::from("error"),
        };
        assert_eq!(row.get("ours").is_some(), row.get("differs").is_some(), "{line}");
        let want = row.get("ours").unwrap_or(&row["emqx"]);
        if found_json != *want {
            wrong.push(format!("{sql}\n  {payload}\n  want {want}\n  have {found:?}"));
        }
        assert!(row.get("ours") != row.get("emqx"), "no difference: {line}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

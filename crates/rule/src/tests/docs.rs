//! The examples of `docs/SQL.md`: a rule, payloads as comments below it, and the outputs for each.

use super::outputs;

#[test]
fn examples_of_the_document_do_what_it_says() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SQL.md")).expect("the document");
    let mut examples = 0;
    for block in text.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let (lines, comments): (Vec<_>, Vec<_>) = block.lines().partition(|line| !line.starts_with("-- "));
        let sql = lines.join("\n");
        let mut messages: Vec<(&str, Vec<&str>)> = Vec::new();
        for comment in comments {
            let comment = comment.trim_start_matches("-- ");
            match (comment.strip_prefix("=> "), messages.last_mut()) {
                (Some(output), Some((_, outputs))) => outputs.push(output),
                _ => messages.push((comment, Vec::new())),
            }
        }
        assert!(!messages.is_empty(), "{sql}");
        for (payload, want) in messages {
            let found = match outputs(&sql, payload) {
                Ok(outputs) if outputs.is_empty() => vec!["nothing".to_owned()],
                Ok(outputs) => outputs,
                Err(code) => vec![format!("error {code}")],
            };
            assert_eq!(found, want, "{sql}\n{payload}");
            examples += 1;
        }
    }
    assert!(examples >= 15, "{examples}");
}

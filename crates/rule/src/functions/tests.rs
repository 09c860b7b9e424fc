//! The examples of the table of functions.

use crate::tests::first_output;

#[test]
fn every_example_yields_what_the_table_says() {
    for (_, function) in super::all() {
        let sql = format!("SELECT {} AS x FROM \"t/#\"", function.example);
        let found = first_output(&sql, r#"{"a":{"b":3}}"#);
        let want = if function.result == "error" {
            Err("decode".to_owned())
        } else {
            Ok(format!("{{\"x\":{}}}", function.result))
        };
        assert_eq!(found, want, "{sql}");
    }
}

#[test]
fn names_are_there_once_and_in_order() {
    let mut seen = Vec::new();
    for (family, functions) in super::FAMILIES {
        assert!(functions.is_sorted_by_key(|function| function.name), "{family:?}");
        for function in functions {
            assert!(!seen.contains(&function.name), "{}", function.name);
            assert!(
                function.name.to_ascii_lowercase() == function.name && function.least <= function.most,
                "{}",
                function.name
            );
            assert!(super::left_out(function.name).is_none(), "{}", function.name);
            seen.push(function.name);
        }
    }
    assert!(seen.len() > 120, "{}", seen.len());
}

//! Selects the keys of a part that have to be written: those that change, and those that are written already.

use serde_json::{Map, Value};

/// The keys of `given` that change `shown`, and the unchanged keys that are in the text already, as written there.
pub(super) fn keys(
    given: &Map<String, Value>,
    standing: &Map<String, Value>,
    shown: &Map<String, Value>,
) -> Map<String, Value> {
    let key = |(key, given): (&String, &Value)| {
        let value = value(given, standing.get(key), shown.get(key)?)?;
        Some((key.clone(), value))
    };
    let unknown = given.iter().filter(|(key, given)| !shown.contains_key(*key) && !given.is_null());
    let unknown = unknown.map(|(key, given)| (key.clone(), given.clone()));
    given.iter().filter(|(_, given)| !given.is_null()).filter_map(key).chain(unknown).collect()
}

fn value(given: &Value, standing: Option<&Value>, shown: &Value) -> Option<Value> {
    if is_same(given, shown) {
        return standing.cloned();
    }
    let empty = Map::new();
    let object = |of: Option<&Value>| of.and_then(Value::as_object).unwrap_or(&empty).clone();
    Some(match (given, shown) {
        (Value::Object(given), Value::Object(shown)) => Value::Object(keys(given, &object(standing), shown)),
        (Value::Array(given), Value::Array(shown)) => {
            let standing = standing.and_then(Value::as_array).filter(|all| all.len() == shown.len());
            let item = |(place, given): (usize, &Value)| {
                // Items move when one before them is removed.
                let equal = shown.iter().position(|shown| is_same(given, shown));
                let place = equal.unwrap_or(place);
                let of_place = standing.and_then(|all| all.get(place));
                match (given, shown.get(place)) {
                    (Value::Object(given), Some(Value::Object(shown))) => {
                        Value::Object(keys(given, &object(of_place), shown))
                    }
                    (given, _) => given.clone(),
                }
            };
            given.iter().enumerate().map(item).collect()
        }
        (given, _) => given.clone(),
    })
}

/// Whether two values mean the same: null is an absent key, and one item is a list of it.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    let given = |of: &Map<String, Value>| of.iter().filter(|(_, value)| !value.is_null()).count();
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let is_in = |(key, a): (&String, &Value)| a.is_null() || b.get(key).is_some_and(|b| is_same(a, b));
            given(a) == given(b) && a.iter().all(is_in)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Array(all), one @ Value::String(_)) | (one @ Value::String(_), Value::Array(all)) => {
            all.len() == 1 && all[0] == *one
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(given: Value, standing: Value, shown: Value) -> Value {
        let map = |value: Value| value.as_object().cloned().expect("keys");
        Value::Object(keys(&map(given), &map(standing), &map(shown)))
    }

    #[test]
    fn what_changes_and_what_stands_is_written() {
        let shown = json!({ "filters": ["a"], "topic": "t", "linger": "5ms", "acks": 1, "key": null, "tls": null });
        let standing = json!({ "filters": "a", "topic": "t", "acks": 1.0 });
        let mut given = shown.clone();
        given["linger"] = "9ms".into();
        assert_eq!(
            of(given, standing.clone(), shown.clone()),
            json!({ "filters": "a", "topic": "t", "acks": 1.0, "linger": "9ms" })
        );
        // Absent keys have their defaults, shown or not; unknown keys are kept.
        let given = json!({ "topic": "u", "tls": {}, "lingr": 1 });
        assert_eq!(of(given, standing, shown), json!({ "topic": "u", "tls": {}, "lingr": 1 }));
    }

    #[test]
    fn so_it_is_within_tables_and_lists_of_them() {
        let shown = json!({ "sasl": { "mechanism": "PLAIN", "username": "u", "scope": null, "insecure": false } });
        let standing = json!({ "sasl": { "mechanism": "PLAIN", "username": "u" } });
        let given = json!({ "sasl": { "mechanism": "PLAIN", "username": "v", "insecure": false } });
        assert_eq!(of(given, standing, shown), json!({ "sasl": { "mechanism": "PLAIN", "username": "v" } }));
        let shown = json!({ "out": [{ "filters": ["a"], "qos": "1" }, { "filters": ["b"], "qos": "1" }] });
        let standing = json!({ "out": [{ "filters": "a" }, { "filters": "b", "qos": 1 }] });
        let given = json!({ "out": [{ "filters": ["b"], "qos": "1" }] });
        assert_eq!(of(given, standing.clone(), shown.clone()), json!({ "out": [{ "filters": "b", "qos": 1 }] }));
        let given =
            json!({ "out": [{ "filters": ["a"], "qos": "2" }, { "filters": ["b"], "qos": "1" }, { "filters": "c" }] });
        assert_eq!(
            of(given, standing, shown),
            json!({ "out": [{ "filters": "a", "qos": "2" }, { "filters": "b", "qos": 1 }, { "filters": "c" }] })
        );
    }
}

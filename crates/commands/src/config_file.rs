//! `forebay config file`, `forebay config put` and `forebay config part`: the configuration file of a running service, and the
//! written keys of one part.

use serde_json::Value;

use super::args::{ConfigFileArgs, ConfigPartArgs, ConfigPutArgs};
use super::ask::{change, changed, escaped, get, said, text};
use super::part::read;
use forebay_config::keys_as_text;

/// The type of a body.
const TOML: &str = "application/toml";

/// The content of the file, and a note with its tag.
///
/// # Errors
/// Why there is no answer, with the address; there is no file, or no previous content.
pub fn file(options: &ConfigFileArgs) -> Result<(String, String), String> {
    let answer = get(&options.from, "/api/v1/config/file")?;
    if let Some(why) = answer["missing"].as_str() {
        return Err(why.to_owned());
    }
    file_text(&answer, options.from.json, options.previous)
}

/// The text of a file in an answer, and a note with its tag; with `previous` the text before the last change.
///
/// # Errors
/// There is no previous text.
pub(super) fn file_text(answer: &Value, as_json: bool, previous: bool) -> Result<(String, String), String> {
    if as_json {
        return Ok((format!("{answer:#}\n"), String::new()));
    }
    let name = text(&answer["file"]);
    if previous {
        let previous = answer["previous"].as_str().ok_or(format!("{name}: nothing is kept of what it held before"))?;
        return Ok((previous.to_owned(), String::new()));
    }
    let content = answer["text"].as_str().unwrap_or_default().to_owned();
    Ok((content, format!("{name}: its tag is {}", text(&answer["etag"]))))
}

/// The written keys of a part, as they stand below its header.
///
/// # Errors
/// Why there is no answer, with the address; there is no such part.
pub fn part(options: &ConfigPartArgs) -> Result<String, String> {
    let ConfigPartArgs { from, section, name } = options;
    let answer = get(from, &format!("/api/v1/config/part?of={}", escaped(&format!("{section} {name}"))))?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let keys =
        answer["keys"].as_object().ok_or_else(|| format!("there is no {section} {name:?} in the configuration"))?;
    keys_as_text(section, keys)
}

/// Replaces the file, or returns the effects of that.
///
/// # Errors
/// As [`file`]; all mistakes in the new content, a line each.
pub fn put(options: &ConfigPutArgs) -> Result<String, String> {
    let content = read(&options.file)?;
    let body = Some((TOML, content.as_str()));
    let answer = if options.dry_run {
        change(&options.from, "POST", "/api/v1/config/check", body)?
    } else {
        let etag = escaped(options.etag.as_deref().unwrap_or_default());
        change(&options.from, "PUT", &format!("/api/v1/config/file?etag={etag}"), body)?
    };
    if options.from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let mistakes: Vec<String> = answer["mistakes"].as_array().into_iter().flatten().map(mistake).collect();
    if !mistakes.is_empty() {
        return Err(mistakes.join("\n"));
    }
    Ok(changed(if options.dry_run { &answer["would"] } else { &answer }, options.dry_run))
}

/// A mistake, as `forebay check` prints it.
pub(super) fn mistake(of: &Value) -> String {
    let place = |name: &str| of[name].as_u64().filter(|place| *place > 0).map(|place| format!(":{place}"));
    let mut line = text(&of["file"]);
    line.extend([place("line"), place("column")].into_iter().flatten());
    let parts = [text(&of["key"]), text(&of["what"])];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        line += &if line.is_empty() { part.clone() } else { format!(": {part}") };
    }
    line + &said(&of["hint"]).map(|hint| format!("; {hint}")).unwrap_or_default()
}

//! `forebay users` and `forebay permissions`: the files of `[auth.NAME]` of a running service.

use serde_json::{Value, json};

use super::args::{
    PermissionsCommand, PermissionsPutArgs, PermissionsShowArgs, UsersCommand, UsersListArgs, UsersPutArgs,
};
use super::ask::{change, changed, escaped, get, said, segment, shown, table, text};
use super::config_file::{file_text, mistake};
use super::part::read;
use super::passwd;
use forebay_guard::auth::password::generated;

/// Lists users, or adds, changes or removes one.
///
/// # Errors
/// Why there is no answer, with the address, or why the request is refused.
pub fn users(command: &UsersCommand) -> Result<String, String> {
    match command {
        UsersCommand::List(options) => list(options),
        UsersCommand::Put(options) => put(options),
        UsersCommand::Remove(options) => {
            let path = path(&options.auth, &options.user) + &tag(options.etag.as_deref());
            let answer = change(&options.from, "DELETE", &path, None)?;
            Ok(if options.from.json { format!("{answer:#}\n") } else { format!("removed\n{}", done(&answer)) })
        }
    }
}

fn path(auth: &str, user: &str) -> String {
    format!("/api/v1/auth/{}/users/{}", segment(auth), segment(user))
}

fn tag(etag: Option<&str>) -> String {
    etag.map(|etag| format!("?etag={}", escaped(etag))).unwrap_or_default()
}

fn list(options: &UsersListArgs) -> Result<String, String> {
    let UsersListArgs { from, auth, search } = options;
    let Some(auth) = auth else {
        let answer = get(from, "/api/v1/auth")?;
        return Ok(if from.json { format!("{answer:#}\n") } else { auths(&answer) });
    };
    let search = search.as_ref().map(|text| format!("&search={}", escaped(text))).unwrap_or_default();
    let path = format!("/api/v1/auth/{}/users?limit=1000{search}", segment(auth));
    let mut answer = get(from, &path)?;
    let mut users = answer["users"].as_array().cloned().unwrap_or_default();
    while let Some(next) = answer["next"].as_str() {
        answer = get(from, &format!("{path}&cursor={}", escaped(next)))?;
        users.extend(answer["users"].as_array().into_iter().flatten().cloned());
    }
    answer["users"] = Value::Array(users);
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let row = |user: &Value| [shown(&user["name"]), shown(&user["hash"])];
    let users = answer["users"].as_array().into_iter().flatten().map(row);
    let mut out = table(&[["USER", "HASH"].map(str::to_owned)].into_iter().chain(users).collect::<Vec<_>>());
    for wrong in answer["mistakes"].as_array().into_iter().flatten() {
        out += &format!("{}: {}\n", shown(&answer["file"]), shown(wrong));
    }
    Ok(out)
}

fn auths(answer: &Value) -> String {
    let row = |auth: &Value| {
        let listeners: Vec<String> = auth["listeners"].as_array().into_iter().flatten().map(text).collect();
        [shown(&auth["name"]), listeners.join(", "), shown(&auth["password_file"]), shown(&auth["acl_file"])]
    };
    let rows = answer["auth"].as_array().into_iter().flatten().map(row);
    let head = [["AUTH", "LISTENERS", "PASSWORD FILE", "ACL FILE"].map(str::to_owned)];
    table(&head.into_iter().chain(rows).collect::<Vec<_>>())
}

fn put(options: &UsersPutArgs) -> Result<String, String> {
    let UsersPutArgs { from, auth, user, generate, hash, etag } = options;
    let password = if *generate { generated()?.into() } else { passwd::ask()? };
    // A random password is one that a quick hash is enough for.
    let hash = hash.as_deref().or(generate.then_some("sha512"));
    let mut body = json!({ "password": *password });
    if let Some(hash) = hash {
        body["hash"] = hash.into();
    }
    let body = zeroize::Zeroizing::new(body.to_string());
    let path = path(auth, user) + &tag(etag.as_deref());
    let answer = change(from, "PUT", &path, Some(("application/json", &body)))?;
    if from.json {
        let mut answer = answer;
        if *generate {
            answer["password"] = password.as_str().into();
        }
        return Ok(format!("{answer:#}\n"));
    }
    let said = if *generate { format!("password: {}\n", *password) } else { String::new() };
    Ok(format!("{said}stored as {}\n{}", text(&answer["hash"]), done(&answer)))
}

/// The outcome of a changed file.
fn done(answer: &Value) -> String {
    match said(&answer["not_in_force"]) {
        Some(why) => format!("it is written and not in force yet: {why}\n"),
        None => changed(&answer["reloaded"], false),
    }
}

/// Shows the file of permissions, with a note, or replaces it.
///
/// # Errors
/// As [`users`]; all mistakes in the text, a line each.
pub fn permissions(command: &PermissionsCommand) -> Result<(String, String), String> {
    match command {
        PermissionsCommand::Show(options) => show(options),
        PermissionsCommand::Put(options) => put_permissions(options).map(|text| (text, String::new())),
    }
}

fn show(options: &PermissionsShowArgs) -> Result<(String, String), String> {
    let answer = get(&options.from, &format!("/api/v1/auth/{}/permissions", segment(&options.auth)))?;
    file_text(&answer, options.from.json, options.previous)
}

fn put_permissions(options: &PermissionsPutArgs) -> Result<String, String> {
    let PermissionsPutArgs { from, auth, file, etag, dry_run, publish, subscribe, replay, user, client } = options;
    let content = read(file)?;
    let body = Some(("text/plain", content.as_str()));
    let path = format!("/api/v1/auth/{}/permissions", segment(auth));
    if !dry_run {
        let answer = change(from, "PUT", &(path + &tag(etag.as_deref())), body)?;
        return Ok(if from.json { format!("{answer:#}\n") } else { done(&answer) });
    }
    let tried = [("publish", publish), ("subscribe", subscribe), ("replay", replay)];
    let tried = tried.into_iter().find_map(|(action, topic)| Some((action, topic.as_ref()?)));
    let mut query = String::new();
    if let Some((action, topic)) = tried {
        query = format!("?action={action}&topic={}", escaped(topic));
        for (name, value) in [("user", user), ("client_id", client)] {
            query += &value.as_ref().map(|value| format!("&{name}={}", escaped(value))).unwrap_or_default();
        }
    }
    let answer = change(from, "POST", &format!("{path}/check{query}"), body)?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let mistakes: Vec<String> = answer["mistakes"].as_array().into_iter().flatten().map(mistake).collect();
    if !mistakes.is_empty() {
        return Err(mistakes.join("\n"));
    }
    Ok(checked(&answer))
}

/// The effects of a new text.
fn checked(answer: &Value) -> String {
    let rules = answer["rules"].as_u64().unwrap_or_default();
    let mut out = format!("{rules} rule{}\n", if rules == 1 { "" } else { "s" });
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        out += &format!("warning: {}\n", text(warning));
    }
    if let (Some(now), Some(then)) = (said(&answer["says_now"]), said(&answer["would_say"])) {
        out += &format!("now: {now}\nwith this text: {then}\n");
    }
    match answer["difference"].as_str() {
        Some("") | None => out + "the file is the same\n",
        Some(difference) => out + difference + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_text_says_what_it_would_do() {
        let answer = json!({ "rules": 1, "warnings": ["w"], "says_now": "denied", "would_say": "granted", "difference": "line 1:\n+ a" });
        assert_eq!(checked(&answer), "1 rule\nwarning: w\nnow: denied\nwith this text: granted\nline 1:\n+ a\n");
        assert_eq!(checked(&json!({ "rules": 2, "difference": "" })), "2 rules\nthe file is the same\n");
    }

    #[test]
    fn a_file_that_is_not_in_force_says_so() {
        let text = done(&json!({ "not_in_force": "another reload is under way", "reloaded": null }));
        assert_eq!(text, "it is written and not in force yet: another reload is under way\n");
    }
}

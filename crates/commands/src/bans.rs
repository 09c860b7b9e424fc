//! `forebay bans`: clients, users and addresses that may not connect to a running service.

use serde_json::{Value, json};

use super::args::BansArgs;
use super::ask::{change, get, post, shown, table, text};

/// Lists bans, or creates or ends one.
///
/// # Errors
/// Why the request is refused, or why there is no answer, with the address.
pub fn bans(options: &BansArgs) -> Result<String, String> {
    let BansArgs { from, client, user, address, seconds, reason, remove } = options;
    if let Some(id) = remove {
        return change(from, "DELETE", &format!("/api/v1/bans/{id}"), None).map(|_| "removed\n".to_owned());
    }
    if client.is_none() && user.is_none() && address.is_none() {
        let answer = get(from, "/api/v1/bans")?;
        return Ok(if from.json { format!("{answer:#}\n") } else { list(&answer) });
    }
    let wanted = json!({
        "client_id": client, "username": user, "address": address, "seconds": seconds, "reason": reason,
    });
    let answer = post(from, "/api/v1/bans", &wanted)?;
    if from.json {
        return Ok(format!("{answer:#}\n"));
    }
    let disconnected = match answer["disconnected"].as_u64() {
        Some(1) => "1 client was disconnected".to_owned(),
        count => format!("{} clients were disconnected", count.unwrap_or_default()),
    };
    Ok(format!("banned, as number {}; {disconnected}\n", text(&answer["ban"]["id"])))
}

/// Bans, a line each.
fn list(answer: &Value) -> String {
    const HEAD: [&str; 7] = ["BAN", "CLIENT", "USER", "ADDRESS", "UNTIL", "BY", "REASON"];
    let row =
        |ban: &Value| ["id", "client_id", "username", "address", "until", "by", "reason"].map(|key| shown(&ban[key]));
    let rows = answer["bans"].as_array().map(Vec::as_slice).unwrap_or_default();
    table(&[HEAD.map(str::to_owned)].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>())
}

//! `forebay clients`, `subscriptions`, `shares` and `retained`: clients and their queued messages, subscriptions, shared
//! subscriptions and retained messages.

use serde_json::{Value, json};

use super::args::{ClientAction, ClientsArgs, ListArgs, RetainedAction, RetainedArgs, SharesArgs, SubscriptionsArgs};
use super::ask::{change, escaped, get, said, segment, shown, table, text};

/// The rows of one request: the most of a page.
const PAGE_ROWS: usize = 1_000;

/// Clients, a line each; or one, with its subscriptions.
///
/// # Errors
/// Why there is no answer, with the address.
pub fn clients(options: &ClientsArgs) -> Result<String, String> {
    if let Some(client_id) = &options.client_id {
        return match options.action {
            None => client(options, client_id),
            Some(action) => end(options, client_id, action),
        };
    }
    let query = [
        ("search", options.search.as_deref()),
        ("listener", options.listener.as_deref()),
        ("connected", options.connected.map(|connected| if connected { "true" } else { "false" })),
    ];
    let list = List::get(&options.list, "clients", &query)?;
    list.print(&options.list, CLIENTS, |client| {
        [
            short(shown(&client["client_id"])),
            yes_or_no(&client["connected"]).to_owned(),
            text(&client["protocol"]),
            shown(&client["listener"]),
            shown(&client["address"]),
            text(&client["subscriptions"]),
            text(&client["queued_messages"]),
            text(&client["unacknowledged_messages"]),
            oldest(client),
        ]
    })
}

const CLIENTS: [&str; 9] =
    ["CLIENT", "CONNECTED", "PROTOCOL", "LISTENER", "ADDRESS", "SUBSCRIPTIONS", "QUEUED", "UNACKNOWLEDGED", "OLDEST"];
const SHARES: [&str; 9] =
    ["SHARE", "FILTER", "STRATEGY", "MEMBERS", "ONLINE", "KEPT", "QUEUED", "QUEUED BYTES", "OLDEST"];
const RETAINED: [&str; 5] = ["TOPIC", "BYTES", "QOS", "AGE", "EXPIRES IN"];
const SUBSCRIPTIONS_OF: [&str; 6] = ["FILTER", "CLIENT", "AUTH", "CONNECTED", "QOS", "MAY READ"];
const SUBSCRIPTIONS: [&str; 6] = ["FILTER", "QOS", "NO LOCAL", "RETAIN AS PUBLISHED", "IDENTIFIER", "REPLAY"];

/// The query that selects one of several clients with an identifier.
fn which(options: &ClientsArgs) -> String {
    options.auth.as_ref().map(|auth| format!("?auth={}", escaped(auth))).unwrap_or_default()
}

/// Ends a client's connection, or its session.
fn end(options: &ClientsArgs, client_id: &str, action: ClientAction) -> Result<String, String> {
    let path = format!("/api/v1/clients/{}", segment(client_id));
    let (method, verb, said) = match action {
        ClientAction::Disconnect => ("POST", "/disconnect", "disconnected"),
        ClientAction::Forget => ("DELETE", "", "forgotten"),
    };
    change(&options.list.from, method, &format!("{path}{verb}{}", which(options)), None)?;
    Ok(format!("{said}\n"))
}

fn client(options: &ClientsArgs, client_id: &str) -> Result<String, String> {
    let path = format!("/api/v1/clients/{}{}", segment(client_id), which(options));
    let client = get(&options.list.from, &path)?;
    if options.list.from.json {
        return Ok(format!("{client:#}\n"));
    }
    let of = |name: &str| shown(&client[name]);
    let with_max = |name: &str| format!("{} (at most {})", of(name), of(&format!("{name}_max")));
    let expiry = match client["session_expiry_seconds"].as_u64() {
        None => "never".to_owned(),
        Some(0) => "with its connection".to_owned(),
        Some(seconds) => format!("{} after its connection", span(seconds)),
    };
    let rows = [
        ("client", of("client_id")),
        ("auth", of("auth")),
        ("user", of("username")),
        ("connected", yes_or_no(&client["connected"]).to_owned()),
        ("address", of("address")),
        ("listener", of("listener")),
        ("came in at instance", of("front")),
        ("protocol", of("protocol")),
        ("not read (backpressure)", yes_or_no(&client["paused"]).to_owned()),
        ("session ends", expiry),
        ("session stored", yes_or_no(&client["stored"]).to_owned()),
        ("publishes without answer", of("unanswered_publishes")),
        ("queued messages", with_max("queued_messages")),
        ("queued bytes", with_max("queued_bytes")),
        ("oldest queued", age(&client["oldest_queued_seconds"])),
        ("unacknowledged messages", with_max("unacknowledged_messages")),
        ("oldest unacknowledged", age(&client["oldest_unacknowledged_seconds"])),
        ("shard", of("shard")),
    ];
    let mut out = table(&rows.map(|(name, value)| [name.to_owned(), value]));
    let filters = client["filters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |filter: &Value| {
        let yes_or_no = |name: &str| yes_or_no(&filter[name]).to_owned();
        let (identifier, qos) = (shown(&filter["identifier"]), text(&filter["qos"]));
        let (no_local, as_published) = (yes_or_no("no_local"), yes_or_no("retain_as_published"));
        [shown(&filter["filter"]), qos, no_local, as_published, identifier, replay(&filter["replay"])]
    };
    if !filters.is_empty() {
        let head = [SUBSCRIPTIONS.map(str::to_owned)];
        out += &format!("\n{}", table(&head.into_iter().chain(filters.iter().map(row)).collect::<Vec<_>>()));
    }
    Ok(out)
}

/// The progress of a replay.
fn replay(of: &Value) -> String {
    match said(&of["state"]) {
        Some(state) => format!("{state}, {} of {} partitions live", of["partitions_live"], of["partitions"]),
        None => "-".to_owned(),
    }
}

/// Subscriptions with their clients, a line each.
///
/// # Errors
/// As [`clients`].
pub fn subscriptions(options: &SubscriptionsArgs) -> Result<String, String> {
    let SubscriptionsArgs { list, topic, filter } = options;
    let list = List::get(list, "subscriptions", &[("topic", topic.as_deref()), ("filter", filter.as_deref())])?;
    list.print(&options.list, SUBSCRIPTIONS_OF, |row| {
        let may_read = row.get("may_read").map_or_else(|| "-".to_owned(), |may| yes_or_no(may).to_owned());
        [
            shown(&row["filter"]),
            short(shown(&row["client_id"])),
            shown(&row["auth"]),
            yes_or_no(&row["connected"]).to_owned(),
            text(&row["qos"]),
            may_read,
        ]
    })
}

/// Shared subscriptions, a line each.
///
/// # Errors
/// As [`clients`].
pub fn shares(options: &SharesArgs) -> Result<String, String> {
    let list = List::get(&options.list, "shares", &[("search", options.search.as_deref())])?;
    list.print(&options.list, SHARES, |share| {
        let of = |name: &str| text(&share[name]);
        [
            shown(&share["name"]),
            shown(&share["filter"]),
            of("strategy"),
            of("members"),
            of("online"),
            of("kept"),
            of("queued_messages"),
            of("queued_bytes"),
            age(&share["oldest_queued_seconds"]),
        ]
    })
}

/// Retained messages, a line each.
///
/// # Errors
/// As [`clients`].
pub fn retained(options: &RetainedArgs) -> Result<String, String> {
    let path = format!("/api/v1/retained/{}", segment(&options.filter));
    match options.action {
        None => {}
        Some(RetainedAction::Show) => return get(&options.list.from, &path).map(|answer| format!("{answer:#}\n")),
        Some(RetainedAction::Delete) => {
            return change(&options.list.from, "DELETE", &path, None).map(|_| "deleted\n".to_owned());
        }
    }
    let list = List::get(&options.list, "retained", &[("filter", Some(&options.filter))])?;
    list.print(&options.list, RETAINED, |message| {
        [
            shown(&message["topic"]),
            text(&message["payload_bytes"]),
            text(&message["qos"]),
            age(&message["age_seconds"]),
            age(&message["expires_in_seconds"]),
        ]
    })
}

/// A list of the service, up to the wanted number of rows.
struct List {
    name: &'static str,
    rows: Vec<Value>,
    /// The cursor of the next page, if there is one.
    next: Value,
}

impl List {
    /// Asks for page after page of `/api/v1/NAME`.
    fn get(options: &ListArgs, name: &'static str, query: &[(&str, Option<&str>)]) -> Result<Self, String> {
        let limit = options.limit as usize;
        let mut list = Self { name, rows: Vec::new(), next: Value::Null };
        loop {
            let mut path = format!("/api/v1/{name}?limit={}", (limit - list.rows.len()).min(PAGE_ROWS));
            let cursor = list.next.as_str().map(|next| ("cursor", next));
            let query = query.iter().filter_map(|(key, value)| Some((*key, (*value)?)));
            for (key, value) in query.chain(cursor) {
                path += &format!("&{key}={}", escaped(value));
            }
            let mut page = get(&options.from, &path)?;
            if let Value::Array(rows) = page[name].take() {
                list.rows.extend(rows);
            }
            list.next = page["next"].take();
            if list.next.is_null() || list.rows.len() >= limit {
                return Ok(list);
            }
        }
    }

    fn print<const N: usize>(
        self,
        options: &ListArgs,
        head: [&str; N],
        row: impl Fn(&Value) -> [String; N],
    ) -> Result<String, String> {
        if options.from.json {
            return Ok(format!("{:#}\n", json!({ self.name: self.rows, "next": self.next })));
        }
        let head = [head.map(str::to_owned)];
        let mut out = table(&head.into_iter().chain(self.rows.iter().map(row)).collect::<Vec<_>>());
        if !self.next.is_null() {
            out += &format!("there are more than {}: see --limit\n", self.rows.len());
        }
        Ok(out)
    }
}

/// Identifiers may have thousands of characters: a line of a table shows the beginning, and `--json` the whole.
fn short(text: String) -> String {
    const CHARACTERS_MAX: usize = 40;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some(_) => text.chars().take(CHARACTERS_MAX - 1).chain(['…']).collect(),
        None => text,
    }
}

pub(super) fn yes_or_no(value: &Value) -> &'static str {
    if value == true { "yes" } else { "no" }
}

/// The age of the oldest message that waits for a client or that it has not acknowledged.
pub(super) fn oldest(client: &Value) -> String {
    let ages = ["oldest_queued_seconds", "oldest_unacknowledged_seconds"].map(|name| client[name].as_u64());
    ages.into_iter().flatten().max().map_or_else(|| "-".to_owned(), span)
}

pub(super) fn age(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), span)
}

/// A time in its two largest units.
fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = UNITS.iter().position(|(length, _)| seconds >= *length) else { return "0 s".to_owned() };
    let mut left = seconds;
    let parts = UNITS[first..].iter().take(2).filter_map(|(length, unit)| {
        let count = left / length;
        left %= length;
        (count > 0).then(|| format!("{count} {unit}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_two_units_at_most() {
        let spans = [0, 59, 60, 200, 3_600, 90_061, 86_400 * 40].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "3 min 20 s", "1 h", "1 d 1 h", "40 d"]);
    }

    #[test]
    fn finding_f14_a_table_is_not_as_wide_as_the_longest_identifier() {
        assert_eq!(short("m".repeat(40)), "m".repeat(40));
        assert_eq!(short("ü".repeat(1_000)), format!("{}…", "ü".repeat(39)));
    }
}

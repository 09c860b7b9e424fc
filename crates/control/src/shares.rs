//! Shared subscriptions: each shard is asked for its parts, and the parts of each share are combined.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use super::pages::{ask, not_a_cursor, not_an_answer, rows_of_page};
use super::problem::{Asked, Problem};
use forebay_metrics::inspect::{self, Ask, Part, Told};

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new().routes(routes!(shares))
}

/// A shared subscription, on all shards.
#[derive(Debug, Serialize, ToSchema)]
struct Share {
    /// Share name. Members subscribe to `$share/NAME/FILTER`.
    name: String,
    /// Topic filter.
    filter: String,
    /// Strategy that chooses a member: `share_strategy` of `[delivery]`.
    strategy: &'static str,
    #[serde(flatten)]
    sum: Numbers,
    /// Numbers by shard.
    shards: Vec<OnShard>,
}

/// Numbers of a shared subscription on one shard.
#[derive(Debug, Serialize, ToSchema)]
struct OnShard {
    shard: usize,
    #[serde(flatten)]
    numbers: Numbers,
}

/// Numbers of a shared subscription.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
struct Numbers {
    /// Sessions that are members.
    members: usize,
    /// Members that are connected.
    online: usize,
    /// Members with messages that are on disk and survive a restart.
    kept: usize,
    /// Messages queued until a member has room; messages that a member was sent are counted at its client.
    queued_messages: usize,
    /// Bytes of the queued messages.
    queued_bytes: usize,
    /// Age of the oldest queued message; null: none.
    oldest_queued_seconds: Option<u64>,
}

impl Numbers {
    fn new(of: &inspect::Share) -> Self {
        Self {
            members: of.members,
            online: of.online,
            kept: of.kept,
            queued_messages: of.queued.0,
            queued_bytes: of.queued.1,
            oldest_queued_seconds: of.oldest_s,
        }
    }

    fn add(&mut self, other: Self) {
        self.members += other.members;
        self.online += other.online;
        self.kept += other.kept;
        self.queued_messages += other.queued_messages;
        self.queued_bytes += other.queued_bytes;
        self.oldest_queued_seconds = self.oldest_queued_seconds.max(other.oldest_queued_seconds);
    }
}

impl Share {
    /// Combines the parts of one share, at least one, each with its shard.
    fn new(parts: Vec<(usize, inspect::Share)>) -> Option<Self> {
        let mut sum = Numbers::default();
        let on_shard = |(shard, of): &(usize, inspect::Share)| {
            let numbers = Numbers::new(of);
            sum.add(numbers);
            OnShard { shard: *shard, numbers }
        };
        let shards = parts.iter().map(on_shard).collect();
        let (_, inspect::Share { name, filter, strategy, .. }) = parts.into_iter().next()?;
        Some(Self { name, filter, strategy, sum, shards })
    }
}

/// A page of shared subscriptions.
#[derive(Debug, Serialize, ToSchema)]
struct Shares {
    shares: Vec<Share>,
    /// Cursor of the next page; null: this is the last page. A page may be shorter than its limit.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Only shares with this text in their name or topic filter.
    search: Option<String>,
    /// The most entries to return.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Shared subscriptions, the oldest first.
#[utoipa::path(get, path = "/api/v1/shares", tag = "clients", params(Query), responses(
    (status = 200, body = Shares),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "A shard did not answer")))]
async fn shares(
    State(view): State<Arc<View>>,
    Asked(Query { search, limit, cursor }): Asked<Query>,
) -> Result<Json<Shares>, Problem> {
    let limit = rows_of_page(limit)?;
    let from = cursor.map_or(Ok(0), |cursor| cursor.parse()).map_err(|_| not_a_cursor())?;
    let mut told = Vec::new();
    for shard in 0..view.shards.count() {
        match ask(&view, shard, Ask::Shares { from, limit, search: search.clone() }).await? {
            Told::Shares(part) => told.push(part),
            _ => return Err(not_an_answer()),
        }
    }
    let (found, next) = together(told, limit);
    let shares = found.into_iter().filter_map(Share::new).collect();
    Ok(Json(Shares { shares, next: next.map(|next| next.to_string()) }))
}

/// Returns at most `limit` shares with all their parts, and the number to go on with. A shard may have reported only
/// a part of its shares, so shares after that part may be incomplete and are left for the next page.
fn together(told: Vec<Part<inspect::Share>>, limit: usize) -> (Vec<Vec<(usize, inspect::Share)>>, Option<u32>) {
    let mut end = told.iter().filter_map(|part| part.next).min();
    let mut found = BTreeMap::<u32, Vec<_>>::new();
    for (shard, part) in told.into_iter().enumerate() {
        for of in part.rows.into_iter().filter(|of| end.is_none_or(|end| of.number < end)) {
            found.entry(of.number).or_default().push((shard, of));
        }
    }
    if let Some(first_left) = found.keys().nth(limit).copied() {
        found.split_off(&first_left);
        end = Some(first_left);
    }
    (found.into_values().collect(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(numbers: &[u32], next: Option<u32>) -> Part<inspect::Share> {
        let row = |number: &u32| inspect::Share {
            number: *number,
            name: "workers".into(),
            filter: format!("{number}"),
            strategy: "round-robin",
            members: 2,
            online: 1,
            kept: 1,
            queued: (3, 30),
            oldest_s: Some(u64::from(*number)),
        };
        Part { rows: numbers.iter().map(row).collect(), next }
    }

    fn numbers(found: &[Vec<(usize, inspect::Share)>]) -> Vec<(u32, Vec<usize>)> {
        found.iter().map(|parts| (parts[0].1.number, parts.iter().map(|(shard, _)| *shard).collect())).collect()
    }

    #[test]
    fn a_share_is_shown_once_with_the_parts_of_all_shards() {
        let (found, next) = together(vec![part(&[1, 4], None), part(&[2, 4], None)], 10);
        assert_eq!((numbers(&found), next), (vec![(1, vec![0]), (2, vec![1]), (4, vec![0, 1])], None));
        let whole = Share::new(found.into_iter().next_back().expect("three")).expect("of two shards");
        assert_eq!((whole.sum.members, whole.sum.queued_messages, whole.shards.len()), (4, 6, 2));
        assert_eq!(whole.sum.oldest_queued_seconds, Some(4));
    }

    #[test]
    fn a_page_ends_where_a_shard_may_know_more() {
        // The first has reported two of its shares, and has 5 next: the part of 7 that the second knows may not be
        // all of it.
        let told = || vec![part(&[1, 4], Some(5)), part(&[2, 7], Some(9))];
        let (found, next) = together(told(), 10);
        assert_eq!((numbers(&found).len(), next), (3, Some(5)));
        let (found, next) = together(told(), 2);
        assert_eq!((numbers(&found), next), (vec![(1, vec![0]), (2, vec![1])], Some(4)));
    }
}

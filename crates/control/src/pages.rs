//! Requests to shards, and lists that are assembled from their answers, page by page.

use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::View;
use super::problem::Problem;
use forebay_metrics::inspect::{Ask, Part, Told};

/// Time that a shard may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rows of a page, by default and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Requests to shards for one page, and the time that they may take: a search with few matches among very many rows ends with a cursor after that.
const QUESTIONS_MAX: usize = 256;
const TIME_MAX: Duration = Duration::from_millis(300);

/// A shard's answer does not match the request.
pub(super) fn not_an_answer() -> Problem {
    Problem::unavailable("a shard gave another answer")
}

/// A page of rows with their shards, and the cursor of the next page: `SHARD-POSITION`.
pub(super) async fn page<T, At: Default + Display + FromStr>(
    view: &View,
    limit: Option<usize>,
    cursor: Option<&str>,
    question: impl Fn(At, usize) -> Ask,
    part: impl Fn(Told) -> Result<Part<T, At>, Problem>,
) -> Result<(Vec<(usize, T)>, Option<String>), Problem> {
    let limit = rows_of_page(limit)?;
    let (mut shard, mut from) = match cursor {
        None => (0, At::default()),
        Some(cursor) => {
            let parsed =
                cursor.split_once('-').and_then(|(shard, from)| Some((shard.parse().ok()?, from.parse().ok()?)));
            parsed.ok_or_else(not_a_cursor)?
        }
    };
    let (mut found, began) = (Vec::new(), Instant::now());
    for asked in 0..QUESTIONS_MAX {
        if shard >= view.shards.count() {
            return Ok((found, None));
        }
        if found.len() == limit || (asked > 0 && began.elapsed() >= TIME_MAX) {
            break;
        }
        let Part { rows, next } = part(ask(view, shard, question(from, limit - found.len())).await?)?;
        found.extend(rows.into_iter().map(|row| (shard, row)));
        (shard, from) = next.map_or_else(|| (shard + 1, At::default()), |next| (shard, next));
    }
    Ok((found, Some(format!("{shard}-{from}"))))
}

/// Number of rows of the requested page.
pub(super) fn rows_of_page(limit: Option<usize>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(LIMIT);
    let is_valid = (1..=LIMIT_MAX).contains(&limit);
    is_valid.then_some(limit).ok_or_else(|| Problem::bad_request(format!("limit must be 1 to {LIMIT_MAX}")))
}

pub(super) fn not_a_cursor() -> Problem {
    Problem::bad_request("cursor must be `next` of the page before")
}

/// Sends a request to a shard and waits for its answer.
pub(super) async fn ask(view: &View, shard: usize, ask: Ask) -> Result<Told, Problem> {
    let (answer, told) = oneshot::channel();
    // The caller may have disconnected.
    let answer = Box::new(move |told| drop(answer.send(told)));
    if !view.shards.ask(shard, ask, answer) {
        return Err(Problem::unavailable(format!("shard {shard} is busy: its mailbox is full; try again")));
    }
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(told)) => Ok(told),
        _ => Err(Problem::unavailable(format!("shard {shard} did not answer within {} s", PATIENCE.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::Described;
    use forebay_metrics::collector::Boards;
    use forebay_metrics::inspect::{Answer, SeekTo, Shards, WantedClients};

    /// A shard with many clients, none of which match, that takes its time.
    #[derive(Default)]
    struct Slow(AtomicU32);

    impl Shards for Slow {
        fn count(&self) -> usize {
            1
        }

        fn shared_subscriptions(&self) -> usize {
            0
        }

        fn owner(&self, _: &str) -> usize {
            0
        }

        fn place(&self, text: &str) -> Result<SeekTo, String> {
            Err(text.to_owned())
        }

        fn ask(&self, _: usize, _: Ask, answer: Answer) -> bool {
            std::thread::sleep(Duration::from_millis(10));
            let next = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            answer(Told::Clients(Part { rows: Vec::new(), next: Some(next) }));
            true
        }
    }

    /// A page is answered in a bounded time, whatever is searched for, and among any number of rows.
    #[tokio::test]
    async fn a_search_that_takes_long_ends_with_a_cursor() {
        let boards = Boards::default();
        let shards = Arc::new(Slow::default());
        let view = View { shards: Arc::clone(&shards) as Arc<dyn Shards>, ..View::idle(boards, Described::default()) };
        let wanted = WantedClients { search: Some("nobody".into()), ..WantedClients::default() };
        let question = |from, limit| Ask::Clients { from, limit, wanted: wanted.clone() };
        let part = |told| match told {
            Told::Clients(part) => Ok(part),
            _ => Err(not_an_answer()),
        };
        let Ok((rows, next)) = page(&view, None, None, question, part).await else { panic!("no page") };
        let asked = shards.0.load(Ordering::Relaxed);
        assert!(rows.is_empty() && (1..=30).contains(&asked), "{asked}");
        assert_eq!(next, Some(format!("0-{asked}")));
    }
}

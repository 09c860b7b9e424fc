//! Tokens for logins to Kafka, from identity providers. An ordinary thread has one token for each endpoint, for all shards: it is
//! fetched when a login first needs it, again at 80 % of its life while logins use it, and when a broker has refused it. Each
//! fetch is a thread of its own, so a slow provider does not delay other logins.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::sasl::Answer;
use forebay_guard::secure::sasl::Prepared;
use forebay_guard::secure::token_endpoint::{Granted, TokenEndpoint};

/// The share of its life after which a token is renewed.
const RENEW_AT: f64 = 0.8;
/// The earliest renewal of a token.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// The longest wait after failures; and the shortest time before a token that a broker refuses is replaced.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The time after which a token without logins is forgotten, unless it is still in use.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// A login's request for a token.
pub(super) struct Asked {
    pub(super) endpoint: Arc<TokenEndpoint>,
    /// Whether the last login was refused.
    pub(super) is_refused: bool,
    pub(super) answer: Answer,
}

/// The outcome of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The token is fetched.
    Fetched,
    /// There is no token, or no new one: why. `is_first`: whether it is the first failure in a row.
    Failed {
        /// The reason, in words that name the endpoint.
        why: String,
        /// Whether it is the first failure in a row.
        is_first: bool,
    },
}

enum News {
    Asked(Asked),
    Fetched(Arc<TokenEndpoint>, Result<Granted, String>),
}

/// The channel to the thread.
pub(super) struct Tokens(Sender<News>);

impl Tokens {
    pub(super) fn ask(&self, asked: Asked) {
        // The thread ends with the process only.
        let _ = self.0.send(News::Asked(asked));
    }
}

/// Starts the thread. `tell` is called there, after each fetch.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn start(tell: impl FnMut(Told) + Send + 'static) -> io::Result<Tokens> {
    start_with(tell, TokenEndpoint::fetch)
}

fn start_with(
    tell: impl FnMut(Told) + Send + 'static,
    fetch: impl Fn(&TokenEndpoint) -> Result<Granted, String> + Clone + Send + 'static,
) -> io::Result<Tokens> {
    let (news, heard) = channel();
    let fetched = news.clone();
    let start = move |endpoint: &Arc<TokenEndpoint>| {
        let (endpoint, fetch, fetched) = (Arc::clone(endpoint), fetch.clone(), fetched.clone());
        let run = move || {
            let granted = fetch(&endpoint);
            let _ = fetched.send(News::Fetched(endpoint, granted));
        };
        std::thread::Builder::new().name("kafka-token".into()).spawn(run).map(drop)
    };
    let keeper = Keeper { held: Vec::new(), tell, start };
    std::thread::Builder::new().name("kafka-tokens".into()).spawn(move || keeper.run(&heard))?;
    Ok(Tokens(news))
}

/// The state of an endpoint.
struct Held {
    endpoint: Arc<TokenEndpoint>,
    token: Option<Token>,
    /// When the fetch in progress was begun.
    fetching: Option<Instant>,
    /// The number of failures in a row, and the reason of the last one.
    failures: u32,
    why: String,
    /// The earliest time of the next fetch.
    next: Instant,
    asked: Instant,
    waiting: Vec<Answer>,
}

struct Token {
    granted: Granted,
    /// When it was requested.
    since: Instant,
    /// Whether a login has used it.
    is_used: bool,
}

impl Token {
    fn is_valid(&self, now: Instant) -> bool {
        now < self.since + self.granted.life
    }
}

struct Keeper<T, S> {
    held: Vec<Held>,
    tell: T,
    /// Starts a fetch.
    start: S,
}

impl<T: FnMut(Told), S: Fn(&Arc<TokenEndpoint>) -> io::Result<()>> Keeper<T, S> {
    fn run(mut self, heard: &Receiver<News>) {
        loop {
            let now = Instant::now();
            let next = self.held.iter().filter_map(|held| held.due_at(now)).min().unwrap_or(now + FORGET_AFTER);
            match heard.recv_timeout(next.saturating_duration_since(now)) {
                Ok(News::Asked(asked)) => self.asked(asked, Instant::now()),
                Ok(News::Fetched(endpoint, granted)) => self.fetched(&endpoint, granted, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.keep(Instant::now());
        }
    }

    fn asked(&mut self, asked: Asked, now: Instant) {
        let place = self.held.iter().position(|held| held.endpoint == asked.endpoint).unwrap_or_else(|| {
            self.held.push(Held::new(asked.endpoint, now));
            self.held.len() - 1
        });
        let held = &mut self.held[place];
        held.asked = now;
        // A broker that refuses every token must not cause requests all the time.
        let is_old = |token: &Token| now >= token.since + AGAIN_AFTER;
        let may_fetch = held.fetching.is_some() || held.failures == 0;
        if asked.is_refused && may_fetch && held.token.as_ref().is_some_and(is_old) {
            held.next = held.next.min(now);
            return held.waiting.push(asked.answer);
        }
        let is_valid = held.token.as_ref().is_some_and(|token| token.is_valid(now));
        if is_valid || (held.fetching.is_none() && held.next > now) {
            (asked.answer)(held.answer(now));
        } else {
            held.waiting.push(asked.answer);
        }
    }

    fn fetched(&mut self, endpoint: &Arc<TokenEndpoint>, granted: Result<Granted, String>, now: Instant) {
        let Some(held) = self.held.iter_mut().find(|held| held.endpoint == *endpoint) else { return };
        let since = held.fetching.take().unwrap_or(now);
        (self.tell)(held.take(granted, since, now));
    }

    /// Starts the fetches that are due, and forgets unused tokens.
    fn keep(&mut self, now: Instant) {
        self.held.retain(|held| !held.is_idle(now));
        for held in self.held.iter_mut().filter(|held| held.due_at(now).is_some_and(|due| due <= now)) {
            if !held.wants_fetch(now) {
                continue;
            }
            match (self.start)(&held.endpoint) {
                Ok(()) => held.fetching = Some(now),
                Err(error) => (self.tell)(held.take(Err(format!("no thread: {error}")), now, now)),
            }
        }
    }
}

impl Held {
    fn new(endpoint: Arc<TokenEndpoint>, now: Instant) -> Self {
        let why = String::new();
        Self { endpoint, token: None, fetching: None, failures: 0, why, next: now, asked: now, waiting: Vec::new() }
    }

    /// The answer to a login.
    fn answer(&mut self, now: Instant) -> Result<Prepared, String> {
        let token = self.token.as_mut().filter(|token| token.is_valid(now)).ok_or_else(|| self.why.clone())?;
        token.is_used = true;
        Ok(Prepared::Token(token.granted.token.clone()))
    }

    /// Takes the outcome of a fetch, and answers the waiting logins.
    fn take(&mut self, granted: Result<Granted, String>, since: Instant, now: Instant) -> Told {
        let told = match granted {
            Ok(granted) => {
                self.next = now + granted.life.mul_f64(RENEW_AT).max(RENEW_MIN);
                self.failures = 0;
                self.token = Some(Token { granted, since, is_used: false });
                Told::Fetched
            }
            Err(why) => {
                // The wait is 1 s, 2 s, 4 s, … half a minute.
                self.next = now + AGAIN_AFTER.min(Duration::from_secs(1 << self.failures.min(5)));
                self.failures += 1;
                self.why.clone_from(&why);
                Told::Failed { why, is_first: self.failures == 1 }
            }
        };
        for answer in std::mem::take(&mut self.waiting) {
            answer(self.answer(now));
        }
        told
    }

    fn wants_fetch(&self, now: Instant) -> bool {
        let is_in_use = |token: &Token| token.is_used && token.is_valid(now);
        self.fetching.is_none() && (!self.waiting.is_empty() || self.token.as_ref().is_some_and(is_in_use))
    }

    /// The time of the endpoint's next action; `None`: its fetch is awaited.
    fn due_at(&self, now: Instant) -> Option<Instant> {
        match self.fetching {
            Some(_) => None,
            None if self.wants_fetch(now) => Some(self.next),
            None => Some(self.idle_at()),
        }
    }

    /// The time at which it is forgotten, if no login asks.
    fn idle_at(&self) -> Instant {
        let end = self.token.as_ref().map(|token| token.since + token.granted.life);
        end.unwrap_or(self.asked).max(self.asked + FORGET_AFTER)
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.fetching.is_none() && self.waiting.is_empty() && now >= self.idle_at()
    }
}

#[cfg(test)]
#[path = "kafka_tokens_tests.rs"]
mod tests;

//! Addresses that have sent wrong tokens. Another token from such an address is checked only after a wait: 1 s after the first wrong token, 2 s after the
//! second, then 4 s, up to 30 s. Tokens that are recognized at once, and logins, are exempt: guessing cannot lock them out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::problem::Problem;
use forebay_base::address::Address;
use forebay_base::limits::{GUESS_FORGOTTEN_AFTER, GUESS_WAIT_MAX, GUESSING_ADDRESSES_MAX};

/// Addresses that are tracked now, and wrong tokens that were not checked since the process began.
static NUMBERS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// See [`NUMBERS`].
pub(super) fn numbers() -> [u64; 2] {
    std::array::from_fn(|index| NUMBERS[index].load(Ordering::Relaxed))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<Address, Guess>>);

#[derive(Clone, Copy, Debug)]
struct Guess {
    /// Wrong tokens that were checked.
    count: u32,
    last: Instant,
}

impl Guess {
    fn wait(self) -> Duration {
        let seconds = 1_u64.checked_shl(self.count.saturating_sub(1)).unwrap_or(u64::MAX);
        GUESS_WAIT_MAX.min(Duration::from_secs(seconds.max(1)))
    }

    fn left(self, now: Instant) -> Duration {
        (self.last + self.wait()).saturating_duration_since(now)
    }
}

impl Guesses {
    fn kept(&self) -> MutexGuard<'_, HashMap<Address, Guess>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a token that is not recognized at once while its address has to wait.
    pub(super) fn look(&self, address: Address, now: Instant) -> Result<(), Problem> {
        let left = self.kept().get(&address).map_or(Duration::ZERO, |guess| guess.left(now));
        if left.is_zero() {
            return Ok(());
        }
        NUMBERS[1].fetch_add(1, Ordering::Relaxed);
        let seconds = left.as_secs_f64().ceil() as u64;
        let detail = format!("wrong tokens came from this address: the next one is looked at in {seconds} s");
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).after(seconds))
    }

    /// Counts a wrong token. If the table is full, the address with the oldest wrong token is dropped.
    pub(super) fn wrong(&self, address: Address, now: Instant) {
        let mut kept = self.kept();
        let is_old = |guess: &Guess| now.duration_since(guess.last) >= GUESS_FORGOTTEN_AFTER;
        if kept.get(&address).is_some_and(is_old) {
            kept.remove(&address);
        }
        if kept.len() >= GUESSING_ADDRESSES_MAX && !kept.contains_key(&address) {
            kept.retain(|_, guess| !is_old(guess));
            let oldest = kept.iter().min_by_key(|(_, guess)| guess.last).map(|(address, _)| *address);
            oldest.filter(|_| kept.len() >= GUESSING_ADDRESSES_MAX).map(|oldest| kept.remove(&oldest));
        }
        let guess = kept.entry(address).or_insert(Guess { count: 0, last: now });
        *guess = Guess { count: guess.count.saturating_add(1), last: now };
        NUMBERS[0].store(kept.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(of: u32) -> Address {
        Address::of(std::net::Ipv4Addr::from_bits(of).into())
    }

    #[test]
    fn the_wait_doubles_to_half_a_minute_and_is_forgotten() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        let mut now = begin;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(guesses.look(address(1), now).is_ok());
            guesses.wrong(address(1), now);
            let end = now + Duration::from_secs(seconds);
            let early = guesses.look(address(1), end.checked_sub(Duration::from_millis(1)).expect("a time"));
            assert!(early.is_err_and(|problem| problem.is(StatusCode::TOO_MANY_REQUESTS)), "{seconds}");
            assert!(guesses.look(address(2), now).is_ok(), "another address does not wait");
            now = end;
        }
        now += GUESS_FORGOTTEN_AFTER;
        guesses.wrong(address(1), now);
        assert!(guesses.look(address(1), now + Duration::from_secs(1)).is_ok(), "the first one again");
    }

    #[test]
    fn many_wrong_tokens_are_no_overflow() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        (0..200).for_each(|_| guesses.wrong(address(1), now));
        assert!(guesses.look(address(1), now + GUESS_WAIT_MAX).is_ok());
        assert!(guesses.look(address(1), now).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_makes_room() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        let many = u32::try_from(GUESSING_ADDRESSES_MAX).expect("a small number");
        for of in 0..=many {
            guesses.wrong(address(of), begin + Duration::from_micros(of.into()));
        }
        assert_eq!(guesses.kept().len(), GUESSING_ADDRESSES_MAX);
        assert!(guesses.look(address(0), begin).is_ok() && guesses.look(address(1), begin).is_err());
        guesses.wrong(address(many + 1), begin + GUESS_FORGOTTEN_AFTER * 2);
        assert_eq!(guesses.kept().len(), 1, "those that are old have gone");
    }
}

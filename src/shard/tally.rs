//! How many connections there are at a listener and from an address, on all shards together: touched when a connection
//! is accepted and when it ends, not when it moves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::config::LISTENER_PLACES_MAX;
use crate::runtime::seam::ListenerId;

/// Each has a lock of its own.
const STRIPES: usize = 64;

/// Where connections come from: an IPv4 address, or the network of an IPv6 address, of which one machine has 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address(u64, bool);

impl Address {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits()), true),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64, false),
        }
    }

    fn stripe(self) -> usize {
        // Neighbours in different stripes.
        (self.0 % STRIPES as u64) as usize
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tally {
    listeners: Box<[AtomicU32]>,
    addresses: [Mutex<HashMap<Address, u32>>; STRIPES],
}

impl Default for Tally {
    fn default() -> Self {
        let listeners = (0..LISTENER_PLACES_MAX).map(|_| AtomicU32::new(0)).collect();
        Self { listeners, addresses: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Tally {
    /// One more at a listener. False, and not counted: there are `max`. 0: there is no bound.
    pub(super) fn enter(&self, listener: ListenerId, max: u32) -> bool {
        let Some(count) = self.listeners.get(usize::from(listener.0)) else { return true };
        let before = count.fetch_add(1, Ordering::Relaxed);
        let is_full = max > 0 && before >= max;
        if is_full {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        !is_full
    }

    /// One less at a listener, and of an address if it was counted.
    pub(super) fn leave(&self, listener: ListenerId, address: Option<Address>) {
        if let Some(count) = self.listeners.get(usize::from(listener.0)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(address) = address {
            self.leave_address(address);
        }
    }

    /// One more of an address. False, and not counted: there are `max`.
    pub(super) fn enter_address(&self, address: Address, max: u32) -> bool {
        let mut stripe = self.addresses[address.stripe()].lock().unwrap_or_else(PoisonError::into_inner);
        let count = stripe.entry(address).or_default();
        let is_full = *count >= max;
        *count += u32::from(!is_full);
        if *count == 0 {
            stripe.remove(&address);
        }
        !is_full
    }

    fn leave_address(&self, address: Address) {
        let mut stripe = self.addresses[address.stripe()].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = stripe.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                stripe.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_and_addresses_are_counted_to_their_bounds() {
        let tally = Tally::default();
        let (first, second) = (ListenerId(0), ListenerId(1));
        assert!(tally.enter(first, 2) && tally.enter(first, 2) && !tally.enter(first, 2));
        assert!(tally.enter(second, 2) && tally.enter(first, 0));
        tally.leave(first, None);
        tally.leave(first, None);
        assert!(tally.enter(first, 2) && !tally.enter(first, 2));
        let address = Address::of([192, 0, 2, 1].into());
        assert!(tally.enter_address(address, 1) && !tally.enter_address(address, 1));
        tally.leave_address(address);
        assert!(tally.enter_address(address, 1));
        tally.leave_address(address);
        assert!(
            tally.addresses.iter().all(|stripe| stripe.lock().unwrap().is_empty()),
            "nothing is kept of an address without connections"
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}

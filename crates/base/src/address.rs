//! The origin of a connection as limits count it: an IPv4 address, or the network of an IPv6 address, since one machine has 2^64 of
//! those. And networks of addresses as the configuration names them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address as limits count it: IPv4, or the network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(u64, bool);

impl Address {
    /// The origin of a peer's address. A mapped IPv4 address is an IPv4 address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_bits() as u64, true),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64, false),
        }
    }

    /// A number that neighbours do not share: to spread addresses.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// An address as it is compared and shown everywhere: a mapped IPv4 address (`::ffff:192.0.2.1`), which sockets of `[::]` have, is an IPv4
/// address.
#[must_use]
pub const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`; without a length a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

impl Network {
    /// Whether the network contains an address. A mapped IPv4 address is an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(other)) => {
                (first.to_bits() ^ other.to_bits()).checked_shr(u32::BITS - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(other)) => {
                (first.to_bits() ^ other.to_bits()).checked_shr(u128::BITS - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = if self.first.is_ipv4() { u32::BITS } else { u128::BITS };
        if self.bits == max { write!(f, "{}", self.first) } else { write!(f, "{}/{}", self.first, self.bits) }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().map_err(|_| "is no IP address")?;
        let max = if first.is_ipv4() { u32::BITS } else { u128::BITS };
        let bits =
            bits.map_or(Ok(max), |bits| bits.parse::<u32>().map_err(|_| "has no number of bits behind the /"))?;
        if bits > max {
            return Err("has more bits than an address");
        }
        // A network of mapped IPv4 addresses is one of IPv4 addresses: no address that is compared with it is mapped.
        let mapped = u128::BITS - u32::BITS;
        let network = match first.to_canonical() {
            v4 @ IpAddr::V4(_) if first.is_ipv6() && bits >= mapped => Self { first: v4, bits: bits - mapped },
            _ => Self { first, bits },
        };
        // `10.1.2.3/8` may be meant as the one address or as the whole network.
        let rest = match first {
            IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shl(bits).unwrap_or(0)),
            IpAddr::V6(v6) => v6.to_bits().checked_shl(bits).unwrap_or(0),
        };
        if rest == 0 { Ok(network) } else { Err("has bits behind the network's") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X50: a /64 is one address.
    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    /// Finding Q22: a mapped IPv4 address, and a network of them, are those of IPv4, and are shown so.
    #[test]
    fn finding_q22_mapped_addresses_are_ipv4() {
        for (network, shown) in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/128", "192.0.2.1"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            let of: Network = network.parse().unwrap();
            assert!(of.contains("192.0.2.1".parse().unwrap()), "{network}");
            assert!(of.contains("::ffff:192.0.2.1".parse().unwrap()), "{network}");
            assert!(!of.contains("2001:db8::1".parse().unwrap()), "{network}");
            assert_eq!(of.to_string(), shown);
        }
        assert_eq!(canonical("[::ffff:192.0.2.1]:7".parse().unwrap()).to_string(), "192.0.2.1:7");
        assert_eq!(canonical("[2001:db8::1]:7".parse().unwrap()).to_string(), "[2001:db8::1]:7");
    }

    /// The networks that may name the address of a device.
    #[test]
    fn finding_w4_networks() {
        let is_in = |network: &str, address: &str| {
            let network: Network = network.parse().unwrap_or_else(|why| panic!("{network} {why}"));
            network.contains(address.parse().unwrap())
        };
        for (network, address, wanted) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1/128", "::1", true),
        ] {
            assert_eq!(is_in(network, address), wanted, "{network} {address}");
        }
        for wrong in [
            "::ffff:10.0.0.1/104",
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "proxy.example/8",
            "2001:db8::1/32",
            "::/129",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}

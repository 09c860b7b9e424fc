//! Addresses that the process listens on: no two of them may need the same port.

use std::net::SocketAddr;

use super::problem::Fault;
use super::reader::{Source, Spot};
use forebay_runtime::Bind;

/// The owner of an address.
enum By {
    File(Spot),
    Option(&'static str),
}

/// The addresses of a configuration, in the order in which they were found.
#[derive(Default)]
pub(super) struct Binds(Vec<(Bind, By)>);

impl Binds {
    /// Adds an address of the file, or a default.
    pub(super) fn take(&mut self, address: impl Into<Bind>, spot: Spot) {
        self.0.push((address.into(), By::File(spot)));
    }

    /// Takes an address of the command line.
    pub(super) fn take_option(&mut self, address: impl Into<Bind>, option: &'static str) {
        self.0.push((address.into(), By::Option(option)));
    }

    /// Reports each address that collides with an earlier one.
    pub(super) fn check(&self, source: &Source<'_>) {
        for (at, (address, by)) in self.0.iter().enumerate() {
            let Some((other, earlier)) = self.0[..at].iter().find(|(other, _)| collide(other, address)) else {
                continue;
            };
            let earlier = match earlier {
                By::File(spot) => spot.path.clone(),
                By::Option(option) => (*option).to_owned(),
            };
            let what = if other == address {
                format!("{address} is already used by {earlier}")
            } else {
                format!("{address} is already used by {earlier}, which has {other}")
            };
            let fault = Fault::new(what).hint(if address.tcp().is_some() {
                "use a different port for each"
            } else {
                "use a different path for each"
            });
            match by {
                By::File(spot) => source.report(spot, fault),
                By::Option(option) => source.report_option(option, fault),
            }
        }
    }
}

/// Whether the kernel would refuse the second of two addresses: the same port, and the same address or a wildcard address. Port 0
/// is a new port each time.
fn collide(a: &Bind, b: &Bind) -> bool {
    let (Bind::Tcp(a), Bind::Tcp(b)) = (a, b) else { return a == b };
    // `[::]` takes the port for IPv4 as well.
    let covers = |all: &SocketAddr, one: &SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_collides() {
        for (a, b, want) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
        ] {
            let [a, b] = [a, b].map(|text| Bind::Tcp(text.parse().unwrap()));
            assert_eq!((collide(&a, &b), collide(&b, &a)), (want, want), "{a} {b}");
        }
        let [a, b] = ["/a", "/b"].map(|path| Bind::Unix(path.into()));
        assert!(collide(&a, &a) && !collide(&a, &b) && !collide(&a, &Bind::Tcp(([127, 0, 0, 1], 1).into())));
    }
}

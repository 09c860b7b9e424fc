//! Orders from outside, a line each on standard input: the script that injects faults reports them.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, bail};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The service was restarted, and is or will be at this address.
    Target(SocketAddr),
    /// A fault is about to be injected.
    Hurt(String),
    /// The fault has ended.
    Well,
    /// Another member of the group of the source of this name has ended; its output is in this file.
    Member(String, PathBuf),
    /// No more records are written.
    End,
}

pub(crate) fn parse(line: &str) -> anyhow::Result<Order> {
    let line = line.trim();
    Ok(match line.split_once(' ').unwrap_or((line, "")) {
        ("target", address) => Order::Target(address.parse().with_context(|| line.to_owned())?),
        ("hurt", name) if !name.is_empty() => Order::Hurt(name.to_owned()),
        ("well", "") => Order::Well,
        ("member", rest) => {
            let (source, file) = rest.split_once(' ').with_context(|| line.to_owned())?;
            Order::Member(source.to_owned(), file.into())
        }
        ("end", "") => Order::End,
        _ => bail!("{line:?} is no order"),
    })
}

/// Reads orders in a thread of its own; the end of the input without `end` counts as one.
pub(crate) fn listen() -> anyhow::Result<Receiver<anyhow::Result<Order>>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.map_err(anyhow::Error::from).and_then(|line| parse(&line));
            let is_last = order.is_err();
            if sender.send(order).is_err() || is_last {
                return;
            }
        }
        let _ = sender.send(Ok(Order::End));
    })?;
    Ok(receiver)
}

/// Partitions and offsets in the output of a console consumer with `print.partition` and `print.offset`. An unfinished last line
/// is left out.
pub(crate) fn printed(text: &str) -> Vec<(u32, i64)> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let found = whole.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let partition = fields.next()?.strip_prefix("Partition:")?.parse().ok()?;
        Some((partition, fields.next()?.strip_prefix("Offset:")?.parse().ok()?))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_lines() {
        assert_eq!(parse("target 127.0.0.1:1883\n").unwrap(), Order::Target("127.0.0.1:1883".parse().unwrap()));
        assert_eq!(parse("hurt kill -9").unwrap(), Order::Hurt("kill -9".into()));
        assert_eq!(parse("member kept /tmp/a b").unwrap(), Order::Member("kept".into(), "/tmp/a b".into()));
        for bad in ["", "hurt", "well now", "member kept", "target here", "end now"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_that_is_cut_off_says_nothing() {
        let text = "Partition:0\tOffset:12\tk1/3\nProcessed a total of 2 messages\nPartition:3\tOffset:4\tk1/1\nPartition:3\tOffset:1";
        assert_eq!(printed(text), [(0, 12), (3, 4)]);
        assert_eq!(printed("Partition:3"), []);
    }
}

//! Orders from outside, a line each on standard input: the script that injects faults gives the clients the service's address.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, bail};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The service was restarted, and is or will be at this address.
    Target(SocketAddr),
    /// The service's instances that can be reached now. None was restarted.
    Targets(Vec<SocketAddr>),
    /// Answers are counted from here, under this name.
    Mark(String),
    /// Nothing new is sent; the run ends when all messages are answered.
    End,
}

/// Takes lines apart.
#[derive(Debug)]
pub(crate) struct Control {
    input: File,
    line: Vec<u8>,
    ended: bool,
}

impl Control {
    /// Reads orders from standard input.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self::on(File::from(std::io::stdin().as_fd().try_clone_to_owned()?)))
    }

    fn on(input: File) -> Self {
        Self { input, line: Vec::new(), ended: false }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// Whether `end` was ordered.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits until the input is closed: then all messages on their way are in Kafka.
    ///
    /// # Errors
    /// The errors of the input.
    pub(crate) fn wait_closed(mut self) -> anyhow::Result<()> {
        let mut bytes = [0; 64];
        while self.input.read(&mut bytes).context("standard input")? > 0 {}
        Ok(())
    }

    /// The orders that have arrived, without waiting.
    ///
    /// # Errors
    /// An invalid order, or the end of the input without `end`.
    pub(crate) fn read(&mut self) -> anyhow::Result<Vec<Order>> {
        let mut bytes = [0; 4096];
        let count = self.input.read(&mut bytes).context("standard input")?;
        self.take(&bytes[..count])
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<Order>> {
        if bytes.is_empty() && !self.ended {
            bail!("standard input has ended without `end`");
        }
        let mut orders = Vec::new();
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let line = std::str::from_utf8(&line)?.trim();
            let order = match line.split_once(' ').unwrap_or((line, "")) {
                ("target", address) => Order::Target(address.parse().with_context(|| line.to_owned())?),
                ("targets", all) if !all.is_empty() => {
                    let all = all.split(' ').map(str::parse).collect::<Result<_, _>>();
                    Order::Targets(all.with_context(|| line.to_owned())?)
                }
                ("mark", name) => Order::Mark(name.to_owned()),
                ("end", "") => Order::End,
                _ => bail!("{line:?} is no order"),
            };
            self.ended |= order == Order::End;
            orders.push(order);
        }
        Ok(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        Control::on(File::open("/dev/null").unwrap())
    }

    #[test]
    fn orders_come_in_any_pieces() {
        let mut control = control();
        assert_eq!(control.take(b"target 127.0.0.1:18").unwrap(), []);
        let orders = control.take(b"83\nmark up 3\nend\n").unwrap();
        let target = Order::Target("127.0.0.1:1883".parse().unwrap());
        assert_eq!(orders, [target, Order::Mark("up 3".into()), Order::End]);
        assert_eq!(control.take(b"").unwrap(), [], "that was all");
        let orders = control.take(b"targets 127.0.0.1:1 127.0.0.1:2\n").unwrap();
        let targets = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
        assert_eq!(orders, [Order::Targets(targets.to_vec())]);
    }

    #[test]
    fn what_is_no_order_is_an_error_and_so_is_a_sudden_end() {
        for bad in
            ["", "tagret 127.0.0.1:1\n", "target here\n", "targets\n", "targets 127.0.0.1:1 there\n", "end now\n"]
        {
            assert!(control().take(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}

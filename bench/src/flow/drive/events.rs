//! Events of the sockets: waiting for them, and reading.

use std::cmp::Reverse;

use rustix::event::epoll;

use super::{CONNECTING_MAX, CONTROL, Driver};
use crate::flow::client::State;
use crate::flow::link::Io;

const EVENTS: usize = 512;

impl Driver<'_> {
    /// Waits until a socket has something, or something is due.
    pub(super) fn wait(&mut self, now_ns: u64) -> anyhow::Result<()> {
        let mut wait_ns = if !self.ready.is_empty() || (self.connecting < CONNECTING_MAX && !self.to_connect.is_empty())
        {
            0
        } else {
            self.pace.wait_ns().min(100_000_000)
        };
        if let Some(&Reverse((when_ns, _))) = self.later.peek() {
            wait_ns = wait_ns.min(when_ns.saturating_sub(now_ns));
        }
        let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: wait_ns as i64 };
        let nothing = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [nothing; EVENTS];
        let count = match epoll::wait(&self.poll, &mut events, Some(&wait)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let now_ns = self.now_ns();
        for event in &events[..count] {
            let data = event.data.u64();
            if data == CONTROL {
                self.ordered()?;
                continue;
            }
            let index = data as u32;
            let link = &self.links[index as usize];
            if link.socket.is_some() && link.generation == (data >> 32) as u32 {
                self.event(index, event.flags, now_ns);
            }
        }
        Ok(())
    }

    fn event(&mut self, index: u32, flags: epoll::EventFlags, now_ns: u64) {
        let ended = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP | epoll::EventFlags::RDHUP);
        let link = &mut self.links[index as usize];
        if link.connecting && (ended || flags.contains(epoll::EventFlags::OUT)) {
            if !link.stands() {
                return self.lost(index, now_ns);
            }
            link.client.greet(self.plan, now_ns);
        }
        if flags.contains(epoll::EventFlags::OUT) {
            link.writable();
        }
        if (ended || flags.contains(epoll::EventFlags::IN)) && !self.read(index, ended, now_ns) {
            return self.lost(index, now_ns);
        }
        self.queue(index);
    }

    /// Reads all bytes that are there. `false`: the connection has ended.
    fn read(&mut self, index: u32, ended: bool, now_ns: u64) -> bool {
        loop {
            let link = &mut self.links[index as usize];
            let count = match link.read(&mut self.scratch) {
                Io::Done(count) => count,
                Io::Blocked => return true,
                Io::Closed => return false,
            };
            link.heard_ns = now_ns;
            let before = link.client.state;
            if let Err(error) = link.client.hear(&self.scratch[..count], now_ns, self.plan, &mut self.tally) {
                self.tally.violation(format!("client {index}: {error:#}"));
                return false;
            }
            if before == State::Greeting && link.client.state != State::Greeting {
                self.connecting -= 1;
                link.backoff_ms = 0;
            }
            if count < self.scratch.len() && !ended {
                return true;
            }
        }
    }
}

//! The subscribers' sockets: a thread each, which connects again and again until the run ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::ledger::Heard;
use super::subscriber::{Manner, State, Subscriber};

/// State that all threads of a run share.
pub(crate) struct Shared {
    pub(crate) start: Instant,
    /// The current address of the service.
    pub(crate) target: Mutex<SocketAddr>,
    /// Subscribers connect, stay connected, and acknowledge at once.
    pub(crate) calm: AtomicBool,
    /// The run has ended.
    pub(crate) over: AtomicBool,
    /// Subscribers that have had a SUBACK.
    pub(crate) subscribed: AtomicUsize,
    /// Copies, and acknowledgements of them, of all subscribers.
    pub(crate) copies: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
}

impl Shared {
    pub(crate) fn new(target: SocketAddr) -> Self {
        Self {
            start: Instant::now(),
            target: Mutex::new(target),
            calm: AtomicBool::new(false),
            over: AtomicBool::new(false),
            subscribed: AtomicUsize::new(0),
            copies: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn target(&self) -> SocketAddr {
        *self.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The time between two looks for work of a thread.
const TICK: Duration = Duration::from_millis(15);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// The life of one subscriber.
pub(crate) fn live(manner: Manner, seed: u64, shared: &Shared) -> Heard {
    let mut subscriber = Subscriber::new(manner, seed);
    while !shared.is_over() {
        match TcpStream::connect_timeout(&shared.target(), CONNECT_PATIENCE) {
            Ok(stream) => {
                let _ = stay(&mut subscriber, stream, shared);
                subscriber.down(shared.now_ns());
            }
            Err(_) => subscriber.heard.connects_failed += 1,
        }
        let away_ms = if shared.calm.load(Ordering::Relaxed) { 0 } else { subscriber.manner.away_ms };
        let until = Instant::now() + Duration::from_millis(20 + subscriber.draw(80) + subscriber.draw(away_ms));
        while Instant::now() < until && !shared.is_over() {
            std::thread::sleep(TICK);
        }
    }
    subscriber.heard
}

/// Runs one connection until either side ends it. Violations of the protocol by the server are noted.
fn stay(subscriber: &mut Subscriber, mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(Duration::from_secs(120)))?;
    subscriber.greet();
    let breaks_ms = subscriber.manner.breaks_ms;
    // Drawn evenly up to twice the mean.
    let breaks_ns = shared.now_ns() + 1_000_000 * (1 + subscriber.draw(2 * breaks_ms));
    let (slow_ms, mut bytes) = (subscriber.manner.slow_ms, [0; 64 << 10]);
    loop {
        let now_ns = shared.now_ns();
        let is_calm = shared.calm.load(Ordering::Relaxed);
        subscriber.manner.slow_ms = if is_calm { 0 } else { slow_ms };
        let acknowledged = subscriber.acknowledge(now_ns);
        shared.acknowledged.fetch_add(acknowledged, Ordering::Relaxed);
        stream.write_all(&subscriber.out)?;
        subscriber.out.clear();
        let is_due = breaks_ms > 0 && !is_calm && now_ns > breaks_ns && subscriber.state == State::Open;
        if is_due || shared.is_over() {
            subscriber.heard.broken += u64::from(is_due);
            if subscriber.draw(2) == 0 {
                stream.write_all(&crate::flow::wire::DISCONNECT)?;
            }
            return Ok(());
        }
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        let (before, was_subscribed) = (subscriber.heard.copies.len(), subscriber.subscribed);
        if let Err(error) = subscriber.hear(&bytes[..count], shared.now_ns()) {
            // DISCONNECT is from a stopping server; any other error is a violation.
            if !error.to_string().starts_with("DISCONNECT") {
                subscriber.heard.violations.push(format!("{error:#}"));
            }
            return Ok(());
        }
        shared.copies.fetch_add((subscriber.heard.copies.len() - before) as u64, Ordering::Relaxed);
        shared.subscribed.fetch_add(usize::from(subscriber.subscribed && !was_subscribed), Ordering::Relaxed);
    }
}

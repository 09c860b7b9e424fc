//! The generator: a scenario against one target.
//!
//! scenario → shared → worker (a thread each: connect, send, receive) → stats, merged here → outcome. `watch` reads the
//! processes meanwhile. Payloads are those of `flow`, so the same judge can read what arrived in Kafka.

mod client;
pub(crate) mod endpoint;
mod packet;
pub(crate) mod scenario;
mod schedule;
mod shared;
pub(crate) mod span;
mod stats;
mod streams;
mod transport;
mod verdict;
pub(crate) mod verify;
mod watch;
mod worker;

use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};

pub(crate) use client::Client;
use endpoint::Endpoints;
use scenario::{Role, Scenario};
use shared::Shared;
use stats::Stats;
pub(crate) use transport::Transport;
use watch::Watch;
use worker::{Worked, Worker};

use crate::outcome::{Latency, Outcome, SCHEMA, Totals};

/// The terms of a run beside its scenario.
pub(crate) struct Terms {
    pub(crate) endpoints: Endpoints,
    pub(crate) target_name: String,
    pub(crate) threads: usize,
    /// CPUs for the generator's threads; empty: any.
    pub(crate) cpus: Vec<usize>,
    /// Processes to watch: name and id.
    pub(crate) watched: Vec<(String, u32)>,
    pub(crate) system_calls: bool,
    pub(crate) progress: bool,
    /// Whether the fate of each message is stored, for a judge.
    pub(crate) told: bool,
    /// Marks payloads and client ids.
    pub(crate) run: u32,
    /// The receiver of the payloads' epoch, once that is known.
    pub(crate) epoch: Option<mpsc::Sender<(Instant, u64)>>,
}

/// A run's outcome and its clients, for the judge.
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) clients: Vec<Client>,
}

/// A mark that differs from run to run.
pub(crate) fn new_run() -> u32 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    crate::flow::plan::mix(time.as_nanos() as u64) as u32
}

/// Runs a scenario.
///
/// # Errors
/// Connections that cannot be made, or the system's errors.
pub(crate) fn run(scenario: &Scenario, terms: Terms) -> anyhow::Result<Finished> {
    raise_descriptor_limit(scenario)?;
    let machine = crate::machine::describe();
    let threads = terms.threads.max(1);
    let shared = Shared::new(scenario.clone(), &terms.endpoints, threads, terms.run, terms.told)?;
    let mut watch = Watch::new(&terms)?;
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let (sender, lately) = mpsc::channel();
    let (times, worked) = std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for thread in 0..threads {
            let (shared, sender, cpu) = (&shared, sender.clone(), terms.cpus.get(thread).copied());
            let builder = std::thread::Builder::new().name(format!("generator-{thread}"));
            handles.push(builder.spawn_scoped(scope, move || {
                prepare_thread(cpu);
                let result = Worker::new(shared, thread, sender).and_then(Worker::run);
                // Without this thread the others would wait for ever.
                result.inspect_err(|_| shared.stop())
            })?);
        }
        let times = conduct(&shared, &terms, &mut watch, &lately);
        shared.stop();
        let worked = handles
            .into_iter()
            .map(|handle| handle.join().map_err(|_| anyhow::anyhow!("a generator thread panicked"))?);
        let worked: anyhow::Result<Vec<Worked>> = worked.collect();
        Ok::<_, anyhow::Error>((times?, worked?))
    })?;
    let mut stats = Stats::new()?;
    for part in &worked {
        stats.merge(&part.stats)?;
    }
    let clients: Vec<&Client> = worked.iter().flat_map(|part| &part.clients).collect();
    let mut verdict = verdict::of(&shared, &stats, &clients);
    let expected = verdict::expected(&shared, &clients);
    let wall_s = times.wall_s.max(1e-9);
    let busiest = worked.iter().map(|part| part.cpu_s).fold(0.0, f64::max) / times.whole_s.max(1e-9);
    if busiest > 0.95 {
        let note =
            format!("the generator was busy for {:.0} % of its time: it may have been the limit", busiest * 100.0);
        verdict.notes.push(note);
    }
    let waited = worked.iter().map(|part| part.waited_s).fold(0.0, f64::max) / times.whole_s.max(1e-9);
    if waited > 0.1 {
        let note =
            format!("the generator waited for a CPU for {:.0} % of its time: others use this machine", waited * 100.0);
        verdict.notes.push(note);
    }
    let totals = Totals {
        connections: shared.groups.iter().map(|prepared| u64::from(prepared.group.clients)).sum(),
        connects: stats.connects,
        sent_qos0: stats.sent[0],
        sent_qos1: stats.sent[1],
        sent_qos2: stats.sent[2],
        sent: stats.sent_all(),
        answered: stats.answered,
        received: stats.received,
        expected,
        wall_s,
        sent_per_s: stats.sent_all() as f64 / wall_s,
        received_per_s: stats.received as f64 / wall_s,
        connects_per_s: times.connects as f64 / wall_s,
        generator_cpu_s: worked.iter().map(|part| part.cpu_s).sum(),
        generator_busy: busiest,
    };
    let histograms = &stats.latencies;
    let latency = [
        ("connect", &histograms.connect),
        ("puback", &histograms.puback),
        ("pubcomp", &histograms.pubcomp),
        ("delivery", &histograms.delivery),
    ];
    let latency = latency.into_iter().filter_map(|(name, h)| Some((name.to_owned(), Latency::of(h)?))).collect();
    let per = if totals.sent + totals.received > 0 { totals.sent + totals.received } else { times.connects };
    let processes = watch.processes(per);
    let outcome = Outcome {
        schema: SCHEMA,
        generator: format!("forebay-bench {}", env!("CARGO_PKG_VERSION")),
        target: terms.target_name,
        started,
        scenario: serde_json::to_value(scenario)?,
        name: scenario.name.clone(),
        description: scenario.description.clone(),
        machine,
        verdict,
        totals,
        latency,
        processes,
        timeline: watch.into_samples(),
    };
    Ok(Finished { outcome, clients: worked.into_iter().flat_map(|part| part.clients).collect() })
}

/// Durations of a run.
struct Times {
    /// The time from the first message to the last answer or delivery.
    wall_s: f64,
    whole_s: f64,
    /// Connects while the load ran.
    connects: u64,
}

/// Waits for connections, starts the load, and waits for its end.
fn conduct(
    shared: &Shared,
    terms: &Terms,
    watch: &mut Watch,
    lately: &mpsc::Receiver<hdrhistogram::Histogram<u64>>,
) -> anyhow::Result<Times> {
    let lasting = |prepared: &&shared::Prepared| prepared.group.role != Role::Connect;
    let wanted: u64 = shared.groups.iter().filter(lasting).map(|prepared| u64::from(prepared.group.clients)).sum();
    let slowest = shared.groups.iter().filter(|p| p.group.connect_rate > 0.0);
    let slowest = slowest.map(|p| f64::from(p.group.clients) / p.group.connect_rate).fold(0.0, f64::max);
    let patience = Duration::from_secs_f64(60.0 + slowest + wanted as f64 / 500.0);
    let begun = Instant::now();
    while shared.sum(|c| &c.connected) < wanted {
        std::thread::sleep(Duration::from_millis(2));
        watch.sample(shared, lately);
        if shared.phase() == shared::Phase::Stopped {
            bail!("a generator thread failed");
        }
        if begun.elapsed() > patience {
            bail!("{} of {wanted} connections after {} s", shared.sum(|c| &c.connected), patience.as_secs());
        }
        let (failures, connected) = (shared.sum(|c| &c.failures), shared.sum(|c| &c.connected));
        let refused = connected == 0 && failures >= wanted && begun.elapsed() > Duration::from_secs(3);
        if refused || failures > 2 * wanted + 100 {
            bail!("cannot connect to {}: {connected} of {wanted} connections, {failures} failures", shared.addresses());
        }
    }
    watch.connected()?;
    let connects = shared.sum(|c| &c.connects);
    let start_ns = shared.now_ns() + 2_000_000;
    if let Some(epoch) = &terms.epoch {
        let _ = epoch.send((shared.epoch, start_ns));
    }
    watch.begin(shared, start_ns);
    shared.start(start_ns);
    let has_others = shared.groups.iter().any(|p| p.group.role != Role::Publish && p.group.role != Role::Subscribe);
    let awaited: u64 = shared.groups.iter().filter(|p| p.group.role == Role::Subscribe).map(|p| p.group.messages).sum();
    let has_publishers = shared.groups.iter().any(|p| p.group.role == Role::Publish);
    let drain_ns = shared.end_ns().saturating_add(shared.scenario.drain.ns());
    loop {
        std::thread::sleep(Duration::from_millis(1));
        watch.sample(shared, lately);
        let now_ns = shared.now_ns();
        let over = now_ns >= shared.end_ns();
        let finished = if has_publishers {
            shared.sum(|c| &c.unfinished) == 0
        } else {
            awaited > 0 && shared.sum(|c| &c.received) >= awaited
        };
        if (over || !has_others) && (finished || now_ns >= drain_ns || (over && !has_publishers)) {
            break;
        }
        if shared.phase() == shared::Phase::Stopped {
            bail!("a generator thread failed");
        }
    }
    let mut end_ns = shared.now_ns();
    // Deliveries: until all expected ones have come, or none comes for a while.
    let (mut received, mut quiet) = (shared.sum(|c| &c.received), Instant::now());
    let owed = verdict::deliveries_at_most(shared);
    while owed > 0 && received < owed && quiet.elapsed() < Duration::from_secs(1).max(shared.scenario.drain.0 / 5) {
        std::thread::sleep(Duration::from_millis(2));
        watch.sample(shared, lately);
        let now = shared.sum(|c| &c.received);
        if now != received {
            (received, quiet) = (now, Instant::now());
            end_ns = shared.now_ns();
        }
    }
    watch.end(shared, lately);
    Ok(Times {
        wall_s: (end_ns - start_ns) as f64 / 1e9,
        whole_s: begun.elapsed().as_secs_f64(),
        connects: shared.sum(|c| &c.connects) - connects,
    })
}

/// Pins the thread, and makes its timers exact.
fn prepare_thread(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

fn raise_descriptor_limit(scenario: &Scenario) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = scenario.groups.iter().map(|group| u64::from(group.clients)).sum::<u64>() + 64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
            .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }))
            .with_context(|| format!("{wanted} open files are needed (ulimit -n)"))?;
    }
    Ok(())
}

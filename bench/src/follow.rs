//! `follow`: records written into Kafka at a rate, and the time from each one's acknowledgement until a consumer has it: a subscriber of a
//! source, or a program that reads Kafka itself.
//!
//! All times are of CLOCK_MONOTONIC, which is Java's `System.nanoTime()` on Linux, so that times of another process compare.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::compare::servers::Started;
use crate::flow::wire;
use crate::kafka::producer::Producer;
use crate::{load, process};

/// See the module.
#[derive(Args, Clone, Debug)]
#[group(id = "follow")]
pub(crate) struct Settings {
    /// Kafka's bootstrap server.
    #[arg(long)]
    kafka: String,
    /// Kafka topic to write to.
    #[arg(long)]
    topic: String,
    /// Records a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before them.
    #[arg(long, default_value_t = 5)]
    warmup: u64,
    /// Bytes of a record's value, 8 at least; a source has to publish them as they are.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(8..=100_000))]
    payload: u64,
    /// The server with a source that reads the topic.
    #[arg(long, conflicts_with = "consumer", required_unless_present = "consumer")]
    target: Option<SocketAddr>,
    /// What to subscribe to there.
    #[arg(long, default_value = "from/kafka")]
    filter: String,
    /// QoS of the subscription.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// A program that reads the topic from its end instead: it says `ready`, and at the end of its standard input a line
    /// `NUMBER NANOSECONDS` for each record, the number being the value's first eight bytes (big-endian).
    #[arg(long)]
    consumer: Option<String>,
    /// Process to take the CPU of in the measured time.
    #[arg(long)]
    pid: Option<u32>,
}

/// A record's number, and when a consumer received it.
type Had = (u64, u64);
/// The number in a PUBLISH's payload, its packet identifier, its length.
type Message = (u64, Option<[u8; 2]>, usize);

/// # Errors
/// The errors of Kafka or the consumer; missing records.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Value> {
    let mut producer = Producer::new(&settings.kafka, &settings.topic)?;
    let run = u64::from(load::new_run() >> 1) << 32;
    let count = settings.rate * (settings.warmup + settings.seconds);
    let (Written { acknowledged, cpu_s }, had) = match (&settings.consumer, settings.target) {
        (Some(command), _) => {
            let mut reader = Program::start(command)?;
            let written = write(settings, &mut producer, run, count)?;
            std::thread::sleep(Duration::from_millis(500));
            (written, reader.end()?)
        }
        (None, Some(target)) => {
            let stream = subscribe(target, &settings.filter, settings.qos)?;
            let seen = AtomicU64::new(0);
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| receive(stream, run, count, &seen));
                let written = write(settings, &mut producer, run, count)?;
                let begin = Instant::now();
                while seen.load(Ordering::Relaxed) < count && begin.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                seen.store(u64::MAX, Ordering::Relaxed);
                let had = reader.join().map_err(|_| anyhow::anyhow!("the subscriber panicked"))??;
                Ok::<_, anyhow::Error>((written, had))
            })?
        }
        (None, None) => bail!("--target or --consumer"),
    };
    let ours = had.iter().filter(|(number, _)| number & !u64::from(u32::MAX) == run);
    let mut report = report(settings, &acknowledged, ours)?;
    let measured = (settings.rate * settings.seconds) as f64;
    report["cpu_us_per_record"] = cpu_s.map(|cpu_s| cpu_s * 1e6 / measured).into();
    Ok(report)
}

fn report<'a>(settings: &Settings, acknowledged: &[u64], had: impl Iterator<Item = &'a Had>) -> anyhow::Result<Value> {
    let mut first: Vec<Option<u64>> = vec![None; acknowledged.len()];
    let mut again = 0;
    for (number, at_ns) in had {
        let slot = first.get_mut(*number as u32 as usize).context("a record that was not written")?;
        again += u64::from(slot.is_some());
        slot.get_or_insert(*at_ns);
    }
    let missing = first.iter().filter(|at| at.is_none()).count();
    ensure!(missing == 0 && again == 0, "{missing} of {} records did not come, {again} came again", acknowledged.len());
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let (mut sooner, skip) = (0_u64, (settings.rate * settings.warmup) as usize);
    for (acknowledged_ns, at_ns) in acknowledged.iter().zip(&first).skip(skip) {
        let at_ns = at_ns.unwrap_or_default();
        sooner += u64::from(at_ns < *acknowledged_ns);
        histogram.saturating_record(at_ns.saturating_sub(*acknowledged_ns) / 1_000);
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    Ok(json!({
        "job": "follow", "records": histogram.len(), "rate": settings.rate, "sooner_than_acknowledged": sooner,
        "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": histogram.max(),
    }))
}

/// The records that were written.
struct Written {
    /// When each record was acknowledged.
    acknowledged: Vec<u64>,
    /// CPU of the watched process, from the first measured record to half a second after the last one.
    cpu_s: Option<f64>,
}

/// Writes all records when they are due.
fn write(settings: &Settings, producer: &mut Producer, run: u64, count: u64) -> anyhow::Result<Written> {
    let mut acknowledged: Vec<u64> = Vec::with_capacity(count as usize);
    let cpu_s = || settings.pid.map(process::read).transpose().map(|reading| reading.map(|reading| reading.cpu_s));
    let mut before_s = None;
    let begin = Instant::now();
    let mut values = Vec::new();
    while (acknowledged.len() as u64) < count {
        let written = acknowledged.len() as u64;
        if before_s.is_none() && written >= settings.rate * settings.warmup {
            before_s = cpu_s()?;
        }
        let due = ((begin.elapsed().as_micros() as u64 * settings.rate / 1_000_000).min(count)).max(written);
        if due == written {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        values.clear();
        for number in written..due {
            let mut value = vec![b'x'; settings.payload as usize];
            value[..8].copy_from_slice(&(run | number).to_be_bytes());
            values.push(Bytes::from(value));
        }
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        producer.write(&values, time.as_millis() as i64)?;
        acknowledged.resize(due as usize, now_ns());
    }
    std::thread::sleep(Duration::from_millis(500));
    let cpu_s = cpu_s()?.zip(before_s).map(|(after_s, before_s)| after_s - before_s);
    Ok(Written { acknowledged, cpu_s })
}

/// Makes a connection with a subscription.
fn subscribe(target: SocketAddr, filter: &str, qos: u8) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut out = Vec::new();
    wire::connect(&mut out, false, &format!("follow-{}", std::process::id()), false, true, 0);
    stream.write_all(&out)?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).context("CONNACK")?;
    ensure!(connack == [0x20, 2, 0, 0], "CONNACK {connack:02x?}");
    let length = filter.len() as u16;
    out.clear();
    out.push(0x82);
    wire::variable(&mut out, 5 + filter.len());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(filter.as_bytes());
    out.push(qos);
    stream.write_all(&out)?;
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).context("SUBACK")?;
    ensure!(suback == [0x90, 3, 0, 1, qos], "SUBACK {suback:02x?}");
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(stream)
}

/// Notes each message as it comes, and acknowledges messages of one read at once; until `seen` is set to the end of numbers.
fn receive(mut stream: TcpStream, run: u64, count: u64, seen: &AtomicU64) -> anyhow::Result<Vec<Had>> {
    let mut had: Vec<Had> = Vec::with_capacity(count as usize);
    let (mut input, mut out, mut end) = (vec![0; 1 << 20], Vec::new(), 0);
    let mut ours = 0;
    loop {
        match stream.read(&mut input[end..]) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(count) => end += count,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        let at_ns = now_ns();
        let mut begin = 0;
        while let Some((number, id, length)) = message(&input[begin..end])? {
            had.push((number, at_ns));
            ours += u64::from(number & !u64::from(u32::MAX) == run);
            if let Some([high, low]) = id {
                out.extend_from_slice(&[0x40, 2, high, low]);
            }
            begin += length;
        }
        input.copy_within(begin..end, 0);
        end -= begin;
        stream.write_all(&out)?;
        out.clear();
        // The waiting thread ends this one with the highest number.
        if seen.fetch_max(ours, Ordering::Relaxed) == u64::MAX {
            return Ok(had);
        }
    }
}

/// The first PUBLISH (3.1.1). `None`: the packet is not whole.
fn message(bytes: &[u8]) -> anyhow::Result<Option<Message>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, used)) = wire::read_variable(rest)? else { return Ok(None) };
    let Some(body) = rest.get(used..used + length) else { return Ok(None) };
    ensure!(first >> 4 == 3, "unexpected packet {first:#04x}");
    let topic = body.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
    let rest = body.get(2 + topic..).context("a PUBLISH that is cut off")?;
    let (id, payload) =
        if first & 6 == 0 { (None, rest) } else { (rest.first_chunk().copied(), rest.get(2..).unwrap_or_default()) };
    let number = payload.first_chunk().context("a message without a number")?;
    Ok(Some((u64::from_be_bytes(*number), id, 1 + used + length)))
}

/// A program that reads Kafka.
struct Program {
    process: Started,
    output: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(command: &str) -> anyhow::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Started(shell.spawn().with_context(|| command.to_owned())?);
        let mut output = BufReader::new(process.0.stdout.take().context("standard output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "{command}: said {line:?}, not ready");
        Ok(Self { process, output })
    }

    /// Ends the program, and takes its records.
    fn end(&mut self) -> anyhow::Result<Vec<Had>> {
        self.process.0.stdin = None;
        let mut had = Vec::new();
        for line in (&mut self.output).lines() {
            let line = line?;
            let (number, at_ns) = line.split_once(' ').with_context(|| line.clone())?;
            had.push((number.parse()?, at_ns.parse()?));
        }
        Ok(had)
    }
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_apart_whole_or_not_at_all() {
        for (qos, id) in [(0, None), (1, Some([0, 9]))] {
            let mut bytes = Vec::new();
            wire::publish(&mut bytes, false, false, qos, "from/kafka", 9, 10);
            bytes.extend_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
            bytes.extend_from_slice(b"xy");
            assert_eq!(message(&bytes).unwrap(), Some((0x0102_0304_0506_0708, id, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(message(&bytes[..cut]).unwrap(), None);
            }
        }
        assert!(message(&[0xd0, 0]).is_err());
    }

    #[test]
    fn what_is_missing_or_comes_again_is_an_error() {
        let settings = Settings {
            kafka: String::new(),
            topic: String::new(),
            rate: 2,
            seconds: 1,
            warmup: 1,
            payload: 100,
            target: None,
            filter: String::new(),
            qos: 1,
            consumer: None,
            pid: None,
        };
        let acknowledged = [1_000, 2_000, 3_000, 90_000];
        let had = [(0, 9_000), (1, 9_000), (2, 13_000), (3, 80_000)];
        let found = report(&settings, &acknowledged, had.iter()).unwrap();
        assert_eq!(
            (&found["records"], &found["max_us"], &found["sooner_than_acknowledged"]),
            (&json!(2), &json!(10), &json!(1))
        );
        assert!(report(&settings, &acknowledged, had[1..].iter()).is_err());
        assert!(report(&settings, &acknowledged, had.iter().chain(&had[..1])).is_err());
        assert!(report(&settings, &acknowledged, had.iter().chain(&[(4, 1)])).is_err());
    }
}

//! `publish`: so many connections, so many messages a write, a window of unanswered ones.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use forebay::mqtt::packet::QoS;
use hdrhistogram::Histogram;
use rustix::event::epoll;
use serde_json::{Value, json};

use crate::device::{Device, connect};
use crate::process;

/// The load.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    target: SocketAddr,
    /// Process whose CPU and memory are read.
    #[arg(long)]
    pid: Option<u32>,
    /// Device connections.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Quality of service.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Messages in each write.
    #[arg(long, default_value_t = 16)]
    per_write: usize,
    /// Most messages unanswered on a connection.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Payload in bytes (at least 20: the message's number).
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Topic; `{}` is the connection's number.
    #[arg(long, default_value = "dev/{}/telemetry")]
    topic: String,
}

/// Runs it.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Value> {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(settings.qos)];
    if settings.per_write == 0 || settings.window < settings.per_write {
        bail!("the window must hold at least one write");
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut devices = Vec::with_capacity(settings.connections);
    for number in 0..settings.connections {
        let socket = connect(settings.target, &format!("bench-{}-{number}", std::process::id()), 0)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(
            &poll,
            socket.as_fd(),
            data,
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET,
        )?;
        let topic = settings.topic.replace("{}", &number.to_string());
        devices.push(Device::new(socket, topic, qos, settings.payload));
    }
    let before = settings.pid.map(process::read).transpose()?;
    let start = Instant::now();
    let total = settings.messages;
    let (mut sent, mut done) = (0u64, 0u64);
    let mut scratch = vec![0; 64 << 10];
    let mut waited = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
    let mut writable = vec![true; devices.len()];
    let mut ready: Vec<usize> = (0..devices.len()).collect();
    loop {
        for index in ready.drain(..) {
            let device = &mut devices[index];
            while writable[index] && sent < total && device.open + settings.per_write <= settings.window {
                let count = (settings.per_write as u64).min(total - sent) as usize;
                writable[index] = device.publish(count)?;
                sent += count as u64;
                if qos == QoS::AtMostOnce {
                    done += count as u64;
                    if sent % (settings.per_write as u64 * 64) == 0 {
                        break;
                    }
                }
            }
        }
        if done >= total {
            break;
        }
        let mut events: [epoll::Event; 256] = std::array::from_fn(|_| epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        });
        let wait = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        let count = epoll::wait(&poll, &mut events, Some(&wait))?;
        if count == 0 {
            bail!("nothing came back for 60 s: {done} of {sent} messages answered");
        }
        for event in &events[..count] {
            let index = usize::try_from(event.data.u64())?;
            let (flags, device) = (event.flags, &mut devices[index]);
            if flags.contains(epoll::EventFlags::OUT) {
                writable[index] = device.flush()?;
            }
            if flags.contains(epoll::EventFlags::IN) {
                loop {
                    let (finished, _) = device.receive(&mut scratch)?;
                    if finished == 0 {
                        break;
                    }
                    done += finished as u64;
                    device.waited_us(|us| waited.saturating_record(us));
                }
            }
            ready.push(index);
        }
    }
    let parsed = everything_parsed(&mut devices, &mut scratch)?;
    let wall_s = start.elapsed().as_secs_f64();
    let after = settings.pid.map(process::read).transpose()?;
    let cpu = before.zip(after).map(|(b, a)| (a.cpu_s - b.cpu_s, a.rss_bytes));
    Ok(json!({
        "job": "publish", "connections": settings.connections, "qos": settings.qos, "per_write": settings.per_write,
        "window": settings.window, "payload_bytes": settings.payload.max(20), "messages": total, "wall_s": wall_s,
        "messages_per_s": total as f64 / wall_s, "answer_p50_us": waited.value_at_quantile(0.5),
        "answer_p99_us": waited.value_at_quantile(0.99), "answer_max_us": waited.max(), "parsed_confirmed_by_pingresp": parsed,
        "server_cpu_s": cpu.map(|c| c.0), "server_cpu_us_per_message": cpu.map(|c| c.0 * 1e6 / total as f64),
        "server_rss_bytes": cpu.map(|c| c.1),
    }))
}

/// A PINGREQ on each connection, and its answer: the end of a run that QoS 0 has none of by itself.
fn everything_parsed(devices: &mut [Device], scratch: &mut [u8]) -> anyhow::Result<usize> {
    for device in devices.iter_mut() {
        device.socket.set_nonblocking(false)?;
        device.ping()?;
    }
    let mut pongs = 0;
    for device in devices.iter_mut() {
        while device.receive(scratch)?.1 == 0 {}
        pongs += 1;
    }
    Ok(pongs)
}

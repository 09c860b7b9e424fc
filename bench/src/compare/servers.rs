//! The servers of a comparison: running ones, and ones that are started and stopped here.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::load::Transport;
use crate::load::endpoint::Endpoint;
use crate::transport;

const START_PATIENCE: Duration = Duration::from_secs(30);

/// One server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// The transport of clients.
    pub(crate) transport: Transport,
    pub(crate) pid: u32,
    /// Processes that are stopped on drop.
    _started: Vec<Started>,
    /// A folder that is removed on drop.
    _folder: Option<Folder>,
}

/// Destinations of Forebay's messages besides subscribers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind<'a> {
    /// A sink for all messages, with this acknowledgement level.
    Sink(&'a str),
    /// Nowhere.
    Nothing,
    /// The disk, for messages to kept sessions.
    Spool,
}

/// The listener of a Forebay that is started here.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) transport: &'a transport::Settings,
    /// Certificate and key, with TLS.
    pub(crate) certificate: Option<(&'a Path, &'a Path)>,
}

impl Entry<'_> {
    /// The rest of the `[[listener]]`.
    fn listener(&self) -> anyhow::Result<String> {
        let kind = self.transport.kind();
        let mut keys = format!("transport = {:?}\n", kind.name());
        if kind.has_tls() {
            let (certificate, key) =
                self.certificate.context("--tls: name Forebay's own with --forebay-certificate and --forebay-key")?;
            let _ = writeln!(keys, "[listener.tls]\ncert_file = {certificate:?}\nkey_file = {key:?}");
        }
        if kind.has_websocket() {
            let _ = writeln!(keys, "[listener.ws]\npath = {:?}", self.transport.path());
        }
        Ok(keys)
    }
}

/// A folder that is removed when this is dropped.
pub(crate) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Started(pub(crate) Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Parses `NAME=HOST:PORT@PID`.
    pub(super) fn running(text: &str, transport: &transport::Settings) -> anyhow::Result<Self> {
        let parts = || {
            let (name, rest) = text.split_once('=')?;
            let (address, pid) = rest.rsplit_once('@')?;
            Some((name, address, pid.parse().ok()?))
        };
        let (name, address, pid) = parts().with_context(|| format!("--server {text}: expected NAME=HOST:PORT@PID"))?;
        let Endpoint { address, transport } = transport.endpoint(transport.kind(), address, transport.path())?;
        Ok(Self { name: name.to_owned(), address, transport, pid, _started: Vec::new(), _folder: None })
    }

    /// Parses `NAME=HOST:PORT=COMMAND`, and starts the command.
    pub(super) fn start(text: &str, transport: &transport::Settings, cpu: Option<usize>) -> anyhow::Result<Self> {
        let parts = || {
            let (name, rest) = text.split_once('=')?;
            let (address, command) = rest.split_once('=')?;
            Some((name, address, command))
        };
        let (name, address, command) =
            parts().with_context(|| format!("--start {text}: expected NAME=HOST:PORT=COMMAND"))?;
        let Endpoint { address, transport } = transport.endpoint(transport.kind(), address, transport.path())?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command}")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut started = Started(pinned(shell, cpu).spawn().with_context(|| command.to_owned())?);
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = started.0.try_wait()? {
                bail!("{name} ended at its start: {status}");
            }
            if begun.elapsed() > START_PATIENCE {
                bail!("{name} does not listen on {address} after {} s", START_PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let pid = started.0.id();
        Ok(Self { name: name.to_owned(), address, transport, pid, _started: vec![started], _folder: None })
    }

    /// Starts Forebay with one shard, and a Kafka that answers and discards.
    pub(crate) fn forebay(
        name: &str,
        program: &Path,
        behind: Behind<'_>,
        entry: Entry<'_>,
        cpu: Option<usize>,
    ) -> anyhow::Result<Self> {
        let (sink, kafka) = sink("kafka-sink listening on ")?;
        let folder = Folder(std::env::temp_dir().join(format!("forebay-bench-{}-{name}", std::process::id())));
        std::fs::create_dir_all(&folder.0)?;
        let config = folder.0.join("forebay.toml");
        // A cluster must have a sink.
        let (filter, acknowledge, spool) = match behind {
            Behind::Sink(acknowledge) => ("#", acknowledge, ""),
            Behind::Nothing => ("unused", "replicated", ""),
            Behind::Spool => ("unused", "replicated", "[spool]\nbytes_max = \"4GiB\"\n"),
        };
        let text = format!(
            "[service]\nshards = 1\npin = {}\ndata_dir = {:?}\n[control]\nbind = \"off\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n{}\
             [kafka.main]\nbootstrap = \"{kafka}\"\n[[sink]]\nname = \"all\"\nkafka = \"main\"\nfilters = [{filter:?}]\n\
             topic = \"bench\"\nacknowledge = {acknowledge:?}\n{spool}",
            cpu.is_some(),
            folder.0.join("data"),
            entry.listener()?,
        );
        std::fs::write(&config, text)?;
        let mut forebay = Command::new(program);
        forebay.arg("--config").arg(&config).stderr(Stdio::null());
        let started = listening(forebay, "mqtt listening on ", cpu);
        let (forebay, address) = started.with_context(|| program.display().to_string())?;
        let (pid, transport) = (forebay.0.id(), entry.transport.to(&address.to_string())?);
        Ok(Self {
            name: name.to_owned(),
            address,
            transport,
            pid,
            _started: vec![forebay, sink],
            _folder: Some(folder),
        })
    }

    /// Starts the floor, and a sink for its batches. It speaks plain TCP, whatever the others do.
    pub(crate) fn floor(cpu: Option<usize>) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let (sink, discard) = sink("discard listening on ")?;
        let mut floor = Command::new(&program);
        floor.args(["floor", "--bind", "127.0.0.1:0", "--sink", &discard.to_string()]);
        let (floor, address) = listening(floor, "floor listening on ", cpu)?;
        Ok(Self {
            name: super::FLOOR.to_owned(),
            address,
            transport: Transport::plain(),
            pid: floor.0.id(),
            _started: vec![floor, sink],
            _folder: None,
        })
    }
}

/// Starts a Kafka that discards. Returns the address after these words of its output.
fn sink(words: &str) -> anyhow::Result<(Started, SocketAddr)> {
    let mut sink = Command::new(std::env::current_exe()?);
    sink.args(["kafka-sink", "--bind", "127.0.0.1:0", "--discard", "127.0.0.1:0"]);
    listening(sink, words, None)
}

/// Starts a program of ours and reads its address from its output.
pub(crate) fn listening(
    mut command: Command,
    words: &str,
    cpu: Option<usize>,
) -> anyhow::Result<(Started, SocketAddr)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut started = Started(pinned(command, cpu).spawn()?);
    let output = started.0.stdout.take().context("standard output")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next().transpose()? {
        if let Some(address) = line.strip_prefix(words) {
            let address = address.parse()?;
            // The rest of its output must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((started, address));
        }
    }
    bail!("a program of ours ended at its start");
}

fn pinned(mut command: Command, cpu: Option<usize>) -> Command {
    if let Some(cpu) = cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe { command.pre_exec(move || Ok(rustix::thread::sched_setaffinity(None, &set)?)) };
    }
    command
}

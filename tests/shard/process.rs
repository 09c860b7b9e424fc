//! All shards of a process in one thread, each with a disk of its own, and the letters between them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::config::{self, Wide};
use forebay::metrics::board::Board;
use forebay::metrics::spec::{ShardMetric, SinkMetric};
use forebay::mqtt::packet::{Packet, Sender, Version};
use forebay::mqtt::{decode, frame};
use forebay::rules::Rules;
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Shard as _};
use forebay::shard::mail::{Mail, ToShard};
use forebay::shard::{Core, Surroundings};

use super::folder::Folder;
use super::ring::Table;
use super::segments::Disk;
use super::world::{edge, judge_copies, layout, surroundings};

/// A shard.
pub(crate) struct Of {
    pub(crate) core: Core,
    pub(crate) table: Table,
    board: Arc<Board>,
    /// Letters on their way to it: a mailbox keeps the order across all that send to it.
    mail: VecDeque<Mail>,
}

/// A message with more than one recipient on a shard has many, and a turn makes one copy of such.
pub(crate) const ONE_OF_MANY: Wide = Wide { recipients: 1, copies: 1, copies_alone: 1 };

/// One sink at `stored`, little memory, little room; more for the spool, more for the sink and behind it.
pub(crate) fn spooled(spool: &str, sink: &str) -> String {
    format!(
        r##"
[service]
shards = 1
[kafka.main]
bootstrap = "127.0.0.1:9092"
buffer_bytes = "16MiB"
[spool]
bytes_max = "16MiB"
segment_bytes = "1MiB"
sync_interval = "0ms"
{spool}
[[sink]]
name = "all"
kafka = "main"
filters = ["#"]
topic = "all"
batch_bytes = "64KiB"
record_bytes_max = "64KiB"
spill_after = "1MiB"
{sink}
"##
    )
}

/// See the module.
pub(crate) struct Process {
    config: Arc<config::Config>,
    rules: &'static dyn Rules,
    pub(crate) shards: Vec<Of>,
}

fn start(config: &Arc<config::Config>, rules: &'static dyn Rules, tables: Vec<Table>) -> Vec<Of> {
    start_in(Surroundings { rules, edge: edge(config), ..surroundings(config) }, tables)
}

fn start_in(around: Surroundings, tables: Vec<Table>) -> Vec<Of> {
    let config = Arc::clone(&around.config);
    let config = &config;
    let layout = layout(config);
    let start = |(index, mut table): (usize, Table)| {
        let board = Arc::new(Board::new(layout));
        let mut core = Core::new(index, around.clone(), Arc::clone(&board));
        (table.posted, table.mailbox) = (Some(Vec::new()), 16);
        core.on_start(&mut table);
        Of { core, table, board, mail: VecDeque::new() }
    };
    tables.into_iter().enumerate().map(start).collect()
}

impl Process {
    /// With a disk buffer, and a sink of other topics than `t`.
    pub(crate) fn spooled(rules: &'static dyn Rules, shards: usize) -> Self {
        Self::gathering("0ms", rules, shards)
    }

    /// The same where a message with more than one recipient on a shard has many, and a turn makes one copy of such.
    pub(crate) fn of_many(rules: &'static dyn Rules, shards: usize) -> Self {
        let text = Self::text("0ms");
        let mut process = Self::start_as(rules, &text, shards, ONE_OF_MANY);
        process.settle();
        process
    }

    fn text(interval: &str) -> String {
        let text = spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\"");
        let text = text.replace("\"0ms\"", &format!("\"{interval}\""));
        text.replace("bytes_max = \"16MiB\"", "bytes_max = \"64MiB\"")
    }

    /// The same with this `sync_interval`.
    pub(crate) fn gathering(interval: &str, rules: &'static dyn Rules, shards: usize) -> Self {
        Self::spooled_as(interval, "", rules, shards)
    }

    /// The same with more of a configuration.
    pub(crate) fn spooled_as(interval: &str, more: &str, rules: &'static dyn Rules, shards: usize) -> Self {
        let mut process = Self::start(rules, &format!("{}\n{more}", Self::text(interval)), shards);
        process.settle();
        process
    }

    /// With this configuration, under these rules; the shards have started, and done nothing else.
    pub(crate) fn start(rules: &'static dyn Rules, text: &str, shards: usize) -> Self {
        Self::start_as(rules, text, shards, Wide::default())
    }

    /// The same where so many recipients are many.
    pub(crate) fn start_as(rules: &'static dyn Rules, text: &str, shards: usize, wide: Wide) -> Self {
        let mut config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        config.service.shards = shards;
        config.delivery.wide = wide;
        let config = Arc::new(config);
        let shards = start(&config, rules, (0..shards).map(|_| Table::new()).collect());
        Self { config, rules, shards }
    }

    /// Shards whose segments are in the folders of this configuration's spool, with what they have around them.
    pub(crate) fn on_files(around: Surroundings) -> io::Result<Self> {
        let (config, rules) = (Arc::clone(&around.config), around.rules);
        let folder = |shard: usize| Folder::open(&config.spool_dir().join(shard.to_string()));
        let table = |shard| {
            let mut table = Table::new();
            table.disk = Disk::of_folder(folder(shard)?);
            Ok(table)
        };
        let tables = (0..config.service.shards).map(table).collect::<io::Result<_>>()?;
        Ok(Self { config, rules, shards: start_in(around, tables) })
    }

    /// A shard does what time has made due, and what its disk has done; not if that is slow.
    pub(crate) fn turn(&mut self, shard: usize, later: Duration) {
        let Of { core, table, board, .. } = &mut self.shards[shard];
        table.now = table.now.after(later);
        let now = table.now;
        while let Some(token) = table.next_timer(now) {
            core.on_timer(table, token);
        }
        core.on_turn_end(table);
        judge_copies(board);
        while let Some(event) = table.disk.event() {
            core.on_segment(table, event);
            core.on_turn_end(table);
            judge_copies(board);
        }
        for (to, letter) in table.posted.as_mut().expect("it has mail").split_off(0) {
            self.shards[to].mail.push_back(letter);
        }
    }

    /// A shard reads so many letters.
    pub(crate) fn read_mail(&mut self, shard: usize, letters: usize) {
        let Of { core, table, mail, .. } = &mut self.shards[shard];
        for letter in mail.drain(..letters.min(mail.len())) {
            core.on_mail(table, letter);
        }
    }

    /// Whether no letter is on its way.
    pub(crate) fn has_read_all(&self) -> bool {
        self.shards.iter().all(|of| of.mail.is_empty())
    }

    /// SIGTERM: until all shards have stopped. What is sent to one that has stopped is gone.
    pub(crate) fn stop(&mut self) {
        for of in &mut self.shards {
            of.core.on_mail(&mut of.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(60) }));
        }
        for _ in 0..200 {
            for shard in 0..self.shards.len() {
                if self.shards[shard].table.stopped {
                    self.shards[shard].mail.clear();
                    continue;
                }
                self.read_mail(shard, usize::MAX);
                self.turn(shard, Duration::from_millis(10));
                let Of { core, table, .. } = &mut self.shards[shard];
                for conn in table.closed() {
                    core.on_close(table, conn, Closed::Local);
                    table.release(conn);
                }
            }
        }
        assert!(self.shards.iter().all(|of| of.table.stopped), "it stops");
    }

    /// Until nothing more happens.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            for shard in 0..self.shards.len() {
                self.read_mail(shard, usize::MAX);
                self.turn(shard, Duration::from_millis(10));
            }
        }
    }

    /// The power fails; letters that are on their way are gone. The shards of the new process have started. Those in `late`, as bits, have
    /// read what the others had to say in their first two turns before they had read their logs; the others have read no letters yet.
    pub(crate) fn power_cut(&mut self, late: u64) {
        self.crash(late, Disk::power_cut);
    }

    /// The same where the process is killed, and what it had written is there.
    pub(crate) fn kill(&mut self, late: u64) {
        self.crash(late, Disk::kill);
    }

    fn crash(&mut self, late: u64, disk: fn(&mut Disk)) {
        let is_late = |shard: usize| late >> shard & 1 == 1;
        let tables = std::mem::take(&mut self.shards).into_iter().enumerate().map(|(shard, Of { mut table, .. })| {
            table.disk.slow = false;
            disk(&mut table.disk);
            table.restart();
            table.disk.slow = is_late(shard);
            table
        });
        self.shards = start(&self.config, self.rules, tables.collect());
        (0..self.shards.len()).for_each(|shard| self.turn(shard, Duration::ZERO));
        if late != 0 {
            (0..self.shards.len()).filter(|shard| !is_late(*shard)).for_each(|shard| self.turn(shard, Duration::ZERO));
        }
        for shard in (0..self.shards.len()).filter(|shard| is_late(*shard)) {
            self.read_mail(shard, usize::MAX);
            self.shards[shard].table.disk.slow = false;
            self.turn(shard, Duration::ZERO);
        }
    }

    /// A client sends CONNECT for a session that is kept for an hour; Clean Start if it is `new`.
    pub(crate) fn open(&mut self, client: &str, new: bool) -> (usize, ConnId) {
        let flags = if new { 2 } else { 0 };
        let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10];
        connect.extend_from_slice(&u16::try_from(client.len()).expect("short").to_be_bytes());
        connect.extend_from_slice(client.as_bytes());
        connect[1] = u8::try_from(connect.len() - 2).expect("short");
        self.open_with(client, &connect)
    }

    /// A client sends this CONNECT.
    pub(crate) fn open_with(&mut self, client: &str, connect: &[u8]) -> (usize, ConnId) {
        let shard = owner(client, self.shards.len());
        let Of { core, table, .. } = &mut self.shards[shard];
        let conn = table.open(None);
        core.on_accept(table, conn, ListenerId(0));
        core.on_bytes(table, conn, connect);
        (shard, conn)
    }

    /// The same, and what came with the CONNACK.
    pub(crate) fn connect(&mut self, client: &str) -> (usize, ConnId, Vec<u8>) {
        let (shard, conn) = self.open(client, false);
        self.settle();
        let mut connack = self.heard(shard, conn);
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK");
        let behind = connack.split_off(2 + usize::from(connack[1]));
        (shard, conn, behind)
    }

    pub(crate) fn bytes(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        let Of { core, table, .. } = &mut self.shards[shard];
        core.on_bytes(table, conn, bytes);
    }

    pub(crate) fn say(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        self.bytes(shard, conn, bytes);
        self.settle();
    }

    pub(crate) fn lose(&mut self, shard: usize, conn: ConnId) {
        let Of { core, table, .. } = &mut self.shards[shard];
        core.on_close(table, conn, Closed::Peer);
        core.on_turn_end(table);
        table.release(conn);
    }

    pub(crate) fn heard(&mut self, shard: usize, conn: ConnId) -> Vec<u8> {
        let Of { core, table, .. } = &mut self.shards[shard];
        let out = std::mem::take(&mut table.wire(conn).out);
        if !out.is_empty() && table.wire(conn).has_room_again() {
            core.on_writable(table, conn);
        }
        out
    }

    /// A number of all shards together, as of their last turns.
    pub(crate) fn number(&self, metric: ShardMetric) -> u64 {
        self.shards.iter().map(|of| of.board.read()[metric as usize]).sum()
    }

    /// A number of a sink, of all shards together.
    pub(crate) fn sink_number(&self, sink: usize, metric: SinkMetric) -> u64 {
        let place = layout(&self.config).sink(sink, metric);
        self.shards.iter().map(|of| of.board.read()[place]).sum()
    }
}

/// The packets that a client has been sent.
pub(crate) fn packets(mut bytes: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    std::iter::from_fn(move || {
        let frame = frame::next(bytes, u32::MAX).expect("well formed")?;
        bytes = &bytes[frame.len..];
        Some(decode::decode(Version::V5, Sender::Server, frame).expect("well formed"))
    })
}

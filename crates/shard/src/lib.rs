//! The shard: everything one core owns, in one struct, and the order in which it works.
//!
//! | file | step |
//! |---|---|
//! | `arrivals` | an accepted or handed-over socket becomes a device with a session |
//! | `moves` | connections for a shard with a full mailbox |
//! | `relay` | connections of clients that other instances serve, and those of their clients |
//! | `door`, [`tally`] | how many connections may wait there, and come from one address |
//! | `admission`, `exchange` | whether a client is admitted |
//! | `banned` | clients that may not connect |
//! | `device` | bytes of a device: packets, session, answers |
//! | `publishing` | a message to sinks and subscribers, all or none |
//! | `outlets`, `reservation` | a message to the rows of its sinks, all or none |
//! | `sinks` | a sink's templates, compiled |
//! | `rules`, `rule_events`, `rule_hooks` | rules in SQL, and events for them |
//! | `subscribe` | subscriptions |
//! | `dead_letters` | what Kafka will never take, on its way to a topic or a file |
//! | `stalls` | connections left unread, and read again |
//! | `spool`, `disks` | segments and buffer of the shard |
//! | `fullness` | messages that find no room in the buffer |
//! | `session_log`, `kafka_disk` | what the shard writes down: with `[broker]` sessions have a log of their own, in Kafka |
//! | `slots` | slots of `[broker]` that come and leave |
//! | `instances` | this instance of `[broker]` in the group of all of them |
//! | `bridges` | other MQTT brokers, of which Forebay is a client |
//! | `sources` | records of Kafka become messages of subscribers |
//! | `upstream` | producers and Kafka connections: rows out, results in |
//! | `ring` | what the runtime can do, with streams of other instances beside its connections |
//! | `turn` | what the runtime calls: each event, and the order of work at the end of a turn |
//! | `reconfigure`, `members` | sinks and clusters that come, change and go while the shard runs |
//! | `drain` | the end of the service, without loss |
//! | `ordered` | messages of the control plane |
//! | `traces` | packets of clients and topics that people look at |
//! | `events` | events for an operator |
//! | `inspect` | questions of the control plane |
//! | `words` | words that the others have in common |
//! | [`trial`] | the record that a sink would make of a message |
//!
//! A shard never waits and never locks. Work that a core cannot do now is written down (a tail, a row, a timer).

#![forbid(unsafe_code)]

mod admission;
mod answer_timeout;
mod arrivals;
mod banned;
mod bridges;
mod carrier;
mod connection;
mod console;
pub mod dead_letters;
mod device;
mod disks;
mod door;
mod drain;
mod events;
mod exchange;
mod fullness;
mod given_up;
mod inspect;
pub mod instances;
pub mod kafka_disk;
mod log_trouble;
pub mod mail;
mod members;
mod moves;
mod ordered;
mod outlets;
mod publishing;
mod reconfigure;
mod relay;
mod reservation;
mod ring;
mod rule_events;
mod rule_hooks;
mod rules;
pub mod session_log;
mod settings;
mod sinks;
mod slot_rows;
mod slots;
pub mod sources;
mod spool;
mod stalls;
mod subscribe;
mod tails;
pub mod tally;
mod traces;
pub mod trial;
mod turn;
mod upstream;
mod words;

pub use self::bridges::{layer as layer_of_bridge, session_name as session_of_bridge};
pub use self::dead_letters::rfc3339;
pub use self::settings::memory_of_shard;
pub use self::spool::{damaged, refusal};

use std::sync::Arc;
use std::sync::mpsc::Sender;

use forebay_base::rules::Rules;
use forebay_broker::Broker;
use forebay_broker::here::Here;
use forebay_broker::numbers::Numbers;
use forebay_broker::raised::RuleEvents;
use forebay_broker::router::Slots;
use forebay_broker::words::Feeds;
use forebay_buffer::Counts;
use forebay_config::{Config, Sink};
use forebay_dapr::App;
use forebay_fleet::link::Peers;
use forebay_guard::auth::Shares;
use forebay_guard::bans::Bans;
use forebay_guard::edge::Edge;
use forebay_metrics::board::Board;
use forebay_metrics::journal::{Journal, Teller};
use forebay_metrics::spec::Layout;
use forebay_mqtt::route::interest::Interest;
use forebay_mqtt::route::trie::SinkRouter;
use forebay_rule::around::Machine;
use forebay_runtime::Post;
use forebay_runtime::seam::{Monotonic, TimerId};
use forebay_service::service::dead_letters::Ways;
use forebay_service::service::resolver::Question;
use forebay_service::service::sasl;
use forebay_service::service::verifier::Verifiers;

use self::bridges::Bridges;
use self::connection::Connections;
use self::dead_letters::{Announced, DeadLetterQueue};
use self::door::Doors;
use self::mail::{Letters, Mail, Notice};
use self::outlets::Outlets;
use self::sources::Sources;
use self::stalls::Stalls;
use self::tally::Tally;
use self::upstream::Upstream;

/// State shared by all shards of a process: read-only, or a way to send.
#[derive(Clone)]
pub struct Surroundings {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// Mail to any shard.
    pub post: Post<Mail>,
    /// Questions to the resolver's thread.
    pub resolver: Sender<Question>,
    /// The threads that compare passwords with their hashes. `None`: no auth needs them.
    pub verifiers: Option<Verifiers>,
    /// The thread that prepares logins.
    pub sasl: Sender<sasl::Question>,
    /// The journal of events.
    pub journal: Arc<Journal>,
    /// The way to the thread that started the shards.
    pub notices: Sender<Notice>,
    /// The ways to the dead-letter files.
    pub dead_letters: Ways,
    /// The contents of the configuration's files.
    pub edge: Edge,
    /// Connections of all shards.
    pub tally: Arc<Tally>,
    /// Shares of users with bounds.
    pub shares: Arc<Shares>,
    /// The filters for which each shard has subscribers.
    pub interest: Arc<Interest>,
    /// Shared subscriptions.
    pub shared_subscriptions: Arc<forebay_mqtt::route::shares::Shares>,
    /// Counts of records that could not be read when the spool was moved to this number of shards: the first shard counts them.
    pub lost_before: Counts,
    /// The rules that the shards keep: [`forebay_base::rules::KEPT`], but for tests.
    pub rules: &'static dyn Rules,
    /// The way to the application of bindings, if there are any.
    pub app: Option<App>,
    /// The machine's properties for rules in SQL.
    pub machine: Arc<Machine>,
    /// The bans.
    pub bans: Arc<Bans>,
    /// The owner of each client.
    pub slots: Arc<Slots>,
    /// The other instances.
    pub peers: Arc<Peers>,
}

/// `Around` is the rest of [`Surroundings`], which only the shard itself has: ways to other threads, and state that the shards of a process share.
struct Around {
    post: Post<Mail>,
    resolver: Sender<Question>,
    verifiers: Option<Verifiers>,
    sasl: Sender<sasl::Question>,
    notices: Sender<Notice>,
    dead_letters: Ways,
    tally: Arc<Tally>,
    bans: Arc<Bans>,
    peers: Arc<Peers>,
    app: Option<App>,
    lost_before: Counts,
    /// Letters to other shards, sent at the end of the turn.
    letters: Letters,
}

impl Around {
    /// The letters to other shards, with those of the broker until now: each shard gets them in the order in which they were written.
    fn letters(&mut self, broker: &mut Broker) -> &mut Letters {
        self.letters.extend(broker.take_letters().map(|(to, letter)| (to, letter.into())));
        &mut self.letters
    }
}

impl Surroundings {
    /// Parts for rooms, which are lent them, and for the shard alone.
    fn apart(self, index: usize, numbers: Numbers) -> (Here, Around) {
        let here = Here {
            index,
            config: self.config,
            edge: self.edge,
            rules: self.rules,
            slots: self.slots,
            shares: self.shares,
            machine: self.machine,
            numbers,
            teller: Teller::new(self.journal, index),
            events: RuleEvents::default(),
        };
        let around = Around {
            post: self.post,
            resolver: self.resolver,
            verifiers: self.verifiers,
            sasl: self.sasl,
            notices: self.notices,
            dead_letters: self.dead_letters,
            tally: self.tally,
            bans: self.bans,
            peers: self.peers,
            app: self.app,
            lost_before: self.lost_before,
            letters: Letters::new(),
        };
        (here, around)
    }
}

/// Timers of a shard that are set.
#[derive(Debug, Default)]
struct Timers {
    /// The timer for the next session that expires or the next due will.
    sessions: Option<(Monotonic, TimerId)>,
    /// The timer for the next check of a failing disk.
    spool: Option<TimerId>,
    group: Option<TimerId>,
    note: Option<TimerId>,
}

/// Everything one core owns.
pub struct Core {
    here: Here,
    around: Around,
    broker: Broker,
    outlets: Outlets,
    connections: Connections,
    stalls: Stalls,
    doors: Doors,
    timers: Timers,
    log: spool::Log,
    announced: Announced,
    drain: drain::Drains,
    random: fastrand::Rng,
    sources: Sources,
    bridges: Bridges,
}

impl Core {
    /// A new shard. `index` is its place among the configuration's shards.
    #[must_use]
    pub fn new(index: usize, around: Surroundings, board: Arc<Board>) -> Self {
        let config = Arc::clone(&around.config);
        let mut random = fastrand::Rng::new();
        let upstreams =
            (0..config.clusters.len()).map(|c| Upstream::new(&config, c, &around.edge, around.rules, random.u64(..)));
        let upstreams: Vec<Upstream> = upstreams.collect();
        let layout = layout(&config);
        let routes = dead_letters::routes(&config, upstreams.iter().map(|upstream: &Upstream| &upstream.members));
        let letters = DeadLetterQueue::new(index, routes, around.dead_letters.sinks.clone());
        let when_full = config.spool.map(|spool| spool.when_full).unwrap_or_default();
        let plans = sinks::plans(&config, |cluster| &upstreams[cluster].members);
        let sql_rules = rules::Rules::of(
            &config,
            |cluster| &upstreams[cluster].members,
            (&around.machine, around.rules),
            || random.u64(..),
        );
        let mut outlets = Outlets::new(router(&config), plans, upstreams, letters, when_full);
        outlets.rules = sql_rules;
        let shared = (Arc::clone(&around.interest), Arc::clone(&around.shared_subscriptions));
        let broker = Broker::new(index, &config, Arc::clone(&around.shares), shared);
        outlets.feeds = broker.feeds(Feeds::ALL);
        let sources = Sources::new(&config, &mut random);
        let (here, around) = around.apart(index, Numbers::new(board, layout));
        let mut core = Self {
            here,
            around,
            broker,
            outlets,
            connections: Connections::default(),
            stalls: Stalls::default(),
            doors: Doors::default(),
            timers: Timers::default(),
            log: spool::Log::default(),
            announced: Announced::new(config.sinks.len()),
            drain: drain::Drains::default(),
            random,
            sources,
            bridges: Bridges::default(),
        };
        core.want_events();
        core
    }
}

/// The places of a board.
pub fn layout(config: &Config) -> Layout {
    Layout {
        sinks: config.sinks.len(),
        clusters: config.clusters.len(),
        listeners: config.listeners.len(),
        sources: config.sources.len(),
        rules: config.rules.len(),
        bridges: config.bridges.len(),
    }
}

/// The filters of all sinks and rules, with the sinks that take messages that no other takes.
fn router(config: &Config) -> SinkRouter {
    let filters = |of: fn(&Sink) -> &[String]| -> Vec<(Vec<&str>, u16)> {
        (0u16..).zip(&config.sinks).map(|(i, s)| (of(s).iter().map(String::as_str).collect(), i)).collect()
    };
    let fallback = (0u16..).zip(&config.sinks).filter(|(_, sink)| sink.fallback).map(|(i, _)| i).collect();
    let mut takers = filters(|sink| &sink.filters);
    takers.extend(rules::Rules::filters(config));
    let router = SinkRouter::build(&takers);
    // The configuration has refused every text that is no filter.
    router
        .and_then(|router| router.choosing(&filters(|sink| &sink.exclude), fallback))
        .unwrap_or_else(|error| unreachable!("a checked filter: {error}"))
}

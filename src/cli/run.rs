//! `forebay run`: from a configuration to a running service, and to its end.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;

use crate::bans::Bans;
use crate::broker::router::Slots;
use crate::config::{Config, LogFormat, Text};
use crate::control::{Connections, Control, Obstacles, STREAMS_MAX, Shown, View};
use crate::data_dir::{self, DataDir};
use crate::embedded::EmbeddedLog;
use crate::files;
use crate::limits::MAILBOX_LETTERS_MAX;
use crate::link::Peers;
use crate::metrics::collector::Extra;
use crate::metrics::journal::Journal;
use crate::metrics::lag::Lag;
use crate::metrics::process::Process;
use crate::metrics::samples::Samples;
use crate::metrics::source_lag::SourceLag;
use crate::rules::{KEPT, Rules};
use crate::runtime::seam::Monotonic;
use crate::runtime::{self, Bind, Listeners, Post, ShardThread};
use crate::service::preflight::shard_failed;
use crate::service::signals::Signal;
use crate::service::verifier::Verifiers;
use crate::service::{log, resolver, sasl, signals};
use crate::shard::mail::{Mail, Notice, TakenLog, ToShard, ToSlots};
use crate::shard::{Core, Surroundings};
use crate::telemetry::{Exporter, Running, Span, Tracer};

mod accepting;
mod greeting;
mod instances;
mod reloading;
mod starting;
mod stopping;
mod sys_topics;
mod trials;

use self::instances::Part;
use self::reloading::{AfterReload, ByMainThread, Wish, bring};
pub(super) use self::starting::tokens;
use self::starting::{
    ServiceLog, bind_link, bind_listeners, machine, preflight, restrict_files, runtime_settings, start_control,
    start_embedded, start_exporter,
};
use self::sys_topics::SysTopics;
use self::trials::WouldBe;
use super::accept_numbers::AcceptNumbers;
use super::args::RunArgs;
use super::bindings::Bindings;
use super::broker;
use super::certificates::Expiries;
use super::control_token;
use super::dead_letter_files::DeadLetterFiles;
use super::decoy_key;
use super::edge::{self, EdgeFiles};
use super::embedded_numbers::EmbeddedNumbers;
use super::health::{self, Watch};
use super::instance_name;
use super::kafka_tokens::Fetches;
use super::key_sets::{Ages, KeySets};
use super::log_numbers::LogNumbers;
use super::observer::Observer;
use super::out::complain;
use super::overview;
use super::reconfigure::Reconfiguring;
use super::reload::Reload;
use super::session_logs::Takers;
use super::shards::ByMail;
use super::start_log;
use super::verifier_numbers::VerifierNumbers;

/// Why the service did not start or did not end well, as text for the user.
type Failure = String;

/// The longest stop of sources, within the grace of the drain: open messages are awaited, then committed, and each group is left.
const SOURCES_END_WITHIN: Duration = Duration::from_secs(12);

/// The time between two checks that every shard is still alive.
const SHARDS_LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// An event for the main thread.
enum Event {
    Shard(Notice),
    Signal(Signal),
    KeySet,
    Reload(Wish),
    WouldBe(WouldBe),
    /// A request to inspect the configuration in force and its origin.
    Look(Box<dyn FnOnce(&Reload) + Send>),
    /// The preparations of `[broker]` in Kafka are done.
    Prepared(broker::Prepared),
    /// The log of a slot that was taken over, or that was not wanted any more.
    Taken(u16, Option<TakenLog>),
}

/// Runs the service until a signal ends it.
#[must_use]
pub fn run(args: &RunArgs, loaded: (Config, Text)) -> ExitCode {
    run_with(args, loaded, &KEPT)
}

/// Runs the service under other rules, for tests of the tests (`tests/broken/`).
#[must_use]
pub fn run_with(args: &RunArgs, loaded: (Config, Text), rules: &'static dyn Rules) -> ExitCode {
    let (config, text) = loaded;
    let json = config.log.format == LogFormat::Json;
    let format = if json { log::Format::Json } else { log::Format::Text };
    files::keep_private();
    // This comes before the log's thread, the first one.
    if let Err(error) = restrict_files(args, &config) {
        return failed(&error);
    }
    let logging = match log::start(format, config.log.level.as_str()) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let outcome = logged(args, config, text, rules);
    if let (Err(error), true) = (&outcome, json) {
        tracing::error!("{error}");
    }
    // Queued lines are written before the last one.
    drop(logging);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if json => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn logged(args: &RunArgs, config: Config, text: Text, rules: &'static dyn Rules) -> Result<(), Failure> {
    signals::survive_hangup().map_err(|e| format!("signals: {e}"))?;
    abort_on_panic();
    start_log::starting(&config, args.file().as_deref());
    let reload = Reload::new(args, &config, text);
    Service::start(config, rules, reload)?.serve()
}

/// Aborts the process at a panic, in every build profile: a core in a doubtful state must not acknowledge anything, and the
/// supervisor restarts the process.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn failed(error: &str) -> ExitCode {
    complain(format_args!("forebay: {error}"));
    ExitCode::FAILURE
}

struct Service {
    config: Arc<Config>,
    reload: Reload,
    /// A change that some shards do not have yet, and whether another one was requested in between.
    reconfiguring: Option<Reconfiguring>,
    reload_again: bool,
    /// Steps after the change.
    after_reload: Option<AfterReload>,
    dead_letters: DeadLetterFiles,
    edge: EdgeFiles,
    shown: Shown,
    embedded: Option<EmbeddedLog>,
    /// The data directory, held until the shards have ended.
    data_dir: DataDir,
    control: Option<Control>,
    bindings: Option<Bindings>,
    observer: Observer,
    #[allow(dead_code, reason = "held, not read: the watchdog's thread ends with it")]
    watch: Watch,
    tracer: Tracer,
    exporter: Option<Running>,
    /// The span of the process's beginning, until clients are accepted.
    starting: Option<Span>,
    journal: Arc<Journal>,
    shards: Vec<ShardThread>,
    slots: Arc<Slots>,
    peers: Arc<Peers>,
    /// The membership of an instance among others.
    part: Option<Part>,
    heard: Receiver<Event>,
    tell: Sender<Event>,
    post: Post<Mail>,
    ready: Arc<AtomicBool>,
    obstacles: Arc<Obstacles>,
    mqtt: Vec<Bind>,
}

impl Service {
    fn start(mut config: Config, rules: &'static dyn Rules, reload: Reload) -> Result<Self, Failure> {
        let began = SystemTime::now();
        runtime::configure_heap();
        let (io, device_descriptors_max, control_descriptors) = preflight(&config)?;
        config.share_dead_letters_file();
        let data_dir = config.service.data_dir.display();
        files::make_dirs(&config.service.data_dir)
            .map_err(|e| format!("data directory {data_dir}: {e}; `service.data_dir` (or --data-dir) sets it"))?;
        let mut prepared = data_dir::prepare(&mut config)?;
        config.name_instances();
        decoy_key::make(&config)?;
        config.service.instance_name = Some(instance_name::keep(&config)?);
        let (tell, heard) = channel();
        let journal = Arc::new(Journal::default());
        let to_main = tell.clone();
        // The service may have ended by then.
        let key_set_changed = move || drop(to_main.send(Event::KeySet));
        let key_sets = KeySets::start(&config, Arc::clone(&journal), key_set_changed)?;
        let edge = edge::load(&config).map_err(|problems| problems.join("\nforebay: "))?;
        let embedded = start_embedded(&mut config, &journal)?;
        let listeners = bind_listeners(&config)?;
        let links = bind_link(&mut config)?;
        let mqtt = listeners.binds();
        // The kernel has chosen a port instead of 0: the listener is shown with it everywhere.
        config.listeners.iter_mut().zip(&mqtt).for_each(|(listener, addr)| listener.bind = addr.clone());
        let config = Arc::new(config);
        signals::watch(tell.clone(), Event::Signal).map_err(|e| format!("signals: {e}"))?;
        let (post, mailboxes) = runtime::mailboxes(config.service.shards, MAILBOX_LETTERS_MAX)
            .map_err(|e| format!("mailboxes between shards: {e}"))?;
        let boards = overview::boards(&config);
        prepared.said.drain(..).for_each(|said| journal.say(said));
        let mut dead_letters = DeadLetterFiles::new(post.clone());
        let threads =
            if config.service.verifiers == 0 { config.service.shards.div_ceil(4) } else { config.service.verifiers };
        let verifiers = Verifiers::start(threads).map_err(|e| format!("threads for passwords: {e}"))?;
        let questions = VerifierNumbers(verifiers.clone());
        let tokens_fetched = Arc::new(Fetches::default());
        let slots = Arc::new(Slots::of(&config));
        let (name, redirects) = config.broker.as_ref().map_or(("", false), |broker| (&*broker.name, broker.redirects));
        let peers = Arc::new(Peers::new(name, redirects));
        let part = links.as_ref().map(|_| {
            // The instance welcomes no client before the group has answered.
            peers.speak_until(Monotonic(0));
            slots.set_given_out();
            let tell = tell.clone();
            // The service may have ended by then.
            let done = move |slot, log| drop(tell.send(Event::Taken(slot, log)));
            Part::new(Takers::new(Arc::clone(&journal), done), config.service.shards)
        });
        let bindings = Bindings::start(&config, (&post, &slots), &journal, bring(&tell))?;
        let bans = Arc::new(Bans::of(&config.service.data_dir)?);
        let around = Surroundings {
            config: Arc::clone(&config),
            post: post.clone(),
            resolver: resolver::start().map_err(|e| format!("resolver: {e}"))?,
            verifiers: Some(verifiers),
            sasl: sasl::start(tokens_fetched.teller(Arc::clone(&journal)))
                .map_err(|e| format!("thread for SASL: {e}"))?,
            journal: Arc::clone(&journal),
            notices: notices(tell.clone()),
            dead_letters: dead_letters.of(&config)?,
            tally: Arc::default(),
            shares: Arc::default(),
            edge: edge.clone(),
            interest: Arc::default(),
            shared_subscriptions: Arc::default(),
            lost_before: prepared.lost,
            rules,
            app: bindings.as_ref().map(Bindings::app),
            machine: Arc::new(machine(&config)?),
            bans: Arc::clone(&bans),
            slots: Arc::clone(&slots),
            peers: Arc::clone(&peers),
        };
        let shared_subscriptions = Arc::clone(&around.shared_subscriptions);
        let settings = runtime::Settings { io, device_descriptors_max, ..runtime_settings(&config) };
        let mut shards = Vec::new();
        let links =
            links.map_or_else(Vec::new, Listeners::into_shards).into_iter().chain(std::iter::repeat_with(Vec::new));
        let sockets = listeners.into_shards().into_iter().zip(links);
        let sockets = sockets.map(|(own, link)| own.into_iter().chain(link).collect::<Vec<_>>());
        for (mailbox, sockets) in mailboxes.into_iter().zip(sockets) {
            let index = shards.len();
            let (around, board) = (around.clone(), Arc::clone(&boards.shards[index]));
            let make = move |index| Core::new(index, around, board);
            let shard = runtime::spawn(index, &settings, sockets, mailbox, make);
            shards.push(shard.map_err(|e| shard_failed(index, config.service.shards, &e))?);
        }
        let (ready, obstacles) = (Arc::new(AtomicBool::new(false)), Arc::<Obstacles>::default());
        let hearts: Vec<_> = shards.iter().map(ShardThread::heartbeat).collect();
        let accepts = AcceptNumbers(hearts.clone());
        let watch = health::watch(post.clone(), hearts, Arc::clone(&journal)).map_err(|e| format!("watchdog: {e}"))?;
        let mut extra: Vec<Arc<dyn Extra>> = vec![
            Arc::new(Process::start(io.as_str())),
            Arc::new(accepts),
            Arc::<Journal>::clone(&journal),
            Arc::new(LogNumbers),
        ];
        extra.extend(bindings.as_ref().map(|bindings| bindings.numbers() as Arc<dyn Extra>));
        extra.extend([tokens_fetched as Arc<dyn Extra>, Arc::new(questions)]);
        let connections = Arc::new(Connections::new(control_descriptors));
        extra.push(Arc::<Connections>::clone(&connections));
        extra.extend(embedded.iter().map(|log| Arc::new(EmbeddedNumbers(log.counters())) as Arc<dyn Extra>));
        let tls = edge.control.as_ref().map(|server| server.config());
        let edge = EdgeFiles::new(edge, Arc::clone(&journal), key_sets);
        extra.push(Arc::<Expiries>::clone(&edge.expiries));
        extra.push(Arc::<Ages>::clone(&edge.key_sets.ages));
        let (samples, lag) = (Arc::new(Samples::default()), Arc::new(Lag::default()));
        extra.push(Arc::<Lag>::clone(&lag));
        let source_lag = Arc::new(SourceLag::default());
        extra.push(Arc::<SourceLag>::clone(&source_lag));
        let exporter = config.telemetry.clone().map(|settings| Exporter::new(settings, began));
        extra.extend(exporter.as_ref().map(Exporter::numbers));
        let tracer = exporter.as_ref().map_or_else(Tracer::off, Exporter::tracer);
        let starting = tracer.span_since("start", None, began).with("forebay.shards", config.service.shards as u64);
        let described = Arc::new(overview::of(&config));
        let by_mail = ByMail {
            post: post.clone(),
            shards: config.service.shards,
            slots: Arc::clone(&slots),
            peers: Arc::clone(&peers),
            shared_subscriptions,
        };
        let view = View {
            shards: Arc::new(by_mail),
            log: Arc::new(ServiceLog),
            reloads: Arc::new(ByMainThread(tell.clone())),
            trials: Arc::new(ByMainThread(tell.clone())),
            tokens: tokens(&config)?,
            own_token: control_token::make(&config)?,
            tls,
            started: began,
            io: io.as_str(),
            tracer: tracer.clone(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            logins: Arc::default(),
            live: Arc::default(),
            traces: Arc::default(),
            bans,
            boards,
            extra,
            ready: Arc::clone(&ready),
            obstacles: Arc::clone(&obstacles),
            health: watch.health().into(),
            journal: Arc::clone(&journal),
            samples,
            lag,
            source_lag,
            described,
        };
        let shown = Shown::new(view);
        let exporter = start_exporter(exporter, shown.clone())?;
        let observer = Observer::start(shown.clone()).map_err(|e| format!("observer: {e}"))?;
        let control = start_control(&config, shown.clone(), connections)?;
        control.iter().try_for_each(|control| control_token::serves_at(&config, control.addr()))?;
        Ok(Self {
            config,
            reload,
            reconfiguring: None,
            reload_again: false,
            after_reload: None,
            dead_letters,
            edge,
            shown,
            embedded,
            data_dir: prepared,
            control,
            bindings,
            observer,
            watch,
            tracer,
            exporter,
            starting: Some(starting),
            journal,
            shards,
            slots,
            peers,
            part,
            heard,
            tell,
            post,
            ready,
            obstacles,
            mqtt,
        })
    }

    fn serve(mut self) -> Result<(), Failure> {
        let (mut waiting, mut started, mut retained) = (0, 0, Vec::new());
        let mut sys_topics = None;
        let signal = loop {
            self.renew_files()?;
            let mut wait = SHARDS_LOOKED_AT_EVERY.min(self.edge.next_look());
            if let Some(topics) = &mut sys_topics {
                self.publish_sys_topics(topics);
                wait = wait.min(topics.next().saturating_duration_since(Instant::now()));
            }
            match self.heard.recv_timeout(wait) {
                // A shard with a failed ring is silent, and its clients have nowhere else to go.
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(shard) = self.shards.iter().position(ShardThread::is_finished) {
                        return Err(format!("shard {shard} ended unexpectedly"));
                    }
                }
                Ok(Event::Shard(Notice::Started(_))) => {
                    started += 1;
                    if started == self.shards.len() {
                        if self.config.broker.is_none() {
                            self.sandbox();
                        }
                        for (shard, of_shard) in std::mem::take(&mut retained).into_iter().enumerate() {
                            self.tell(shard, Mail::Shard(ToShard::TakeRetained(of_shard)))?;
                        }
                    }
                }
                Ok(Event::Shard(Notice::Waiting(_))) => {
                    waiting += 1;
                    if waiting == self.shards.len() {
                        self.sandbox();
                        self.prepare_broker();
                    }
                }
                Ok(Event::Shard(Notice::LogLost { shard, why })) => {
                    return Err(format!("shard {shard} has lost the log of sessions: {why}"));
                }
                Ok(Event::Shard(Notice::LogTrouble { shard, why })) => self.obstacles.set(Some(shard), why),
                Ok(Event::Shard(Notice::Failed { shard, why })) => {
                    return Err(format!("shard {shard} cannot start: {why}"));
                }
                Ok(Event::Shard(Notice::Drained { shard, .. })) => {
                    return Err(format!("shard {shard} ended unexpectedly"));
                }
                Ok(Event::Shard(
                    notice @ (Notice::Group(_)
                    | Notice::SlotTaken(_)
                    | Notice::SlotUnreadable(_)
                    | Notice::SlotReleased(_)
                    | Notice::SlotLost(_)),
                )) => self.hear_of_slots(notice)?,
                Ok(Event::Taken(slot, log)) => self.take_log(slot, log)?,
                Ok(Event::Signal(Signal::Stop(signal))) => break signal,
                Ok(Event::Signal(Signal::Reload)) => self.reload(None)?,
                Ok(Event::KeySet) => self.edge.look_soon(),
                Ok(Event::Prepared(prepared)) => {
                    retained = prepared.retained;
                    for shard in 0..self.shards.len() {
                        self.tell(shard, Mail::Slots(ToSlots::RoutesBegin(Arc::clone(&prepared.begins))))?;
                    }
                    for (slot, why) in prepared.logs.unreadable {
                        self.slots.cannot_take(slot, &why);
                    }
                    self.give_out(prepared.logs.taken)?;
                }
                Ok(Event::Reload(wish)) => self.reload(Some(wish))?,
                Ok(Event::Look(look)) => look(&self.reload),
                Ok(Event::WouldBe(WouldBe { edit, answer })) => answer(self.reload.would_be(edit, &self.config)),
                Ok(Event::Shard(Notice::Reconfigured(_))) => self.reconfigured()?,
                // Only a drain asks for it.
                Ok(Event::Shard(Notice::SourcesOver(_))) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("all shards ended".into()),
            }
            let has_slots = self.part.as_ref().is_none_or(Part::is_ready);
            if sys_topics.is_none() && started == self.shards.len() && has_slots {
                self.accept(&mut sys_topics)?;
            }
        };
        let span = self.tracer.span("drain", None).with("forebay.signal", signal);
        let (tracer, exporter) = (self.tracer.clone(), self.exporter.take());
        let drained = self.drain(signal);
        tracer.end(match &drained {
            Ok(()) => span,
            Err(why) => span.failed(why.as_str()),
        });
        exporter.into_iter().for_each(Running::stop);
        drained
    }

    /// Has the first shard publish the topics that have changed. If its mailbox is full, the next update is published.
    fn publish_sys_topics(&self, topics: &mut SysTopics) {
        let changed = topics.changed(&self.shown.view().boards, Instant::now());
        if !changed.is_empty() {
            let _ = self.post.send(0, Mail::Shard(ToShard::SysTopics(changed)));
        }
    }

    /// Sends the same letter to every shard, even if its mailbox is full.
    fn tell_all(&self, letter: impl Fn() -> Mail) -> Result<(), Failure> {
        self.tell_each(|_| letter())
    }

    /// Sends each shard a letter of its own.
    fn tell_each(&self, mut letter: impl FnMut(usize) -> Mail) -> Result<(), Failure> {
        (0..self.shards.len()).try_for_each(|shard| self.tell(shard, letter(shard)))
    }

    fn tell(&self, shard: usize, mut letter: Mail) -> Result<(), Failure> {
        while let Err(back) = self.post.send(shard, letter) {
            if self.shards[shard].is_finished() {
                return Err(format!("shard {shard} ended unexpectedly"));
            }
            letter = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A sender of notices from shards into the main thread's events.
fn notices(tell: Sender<Event>) -> Sender<Notice> {
    let (notices, heard) = channel();
    std::thread::spawn(move || heard.iter().try_for_each(|notice| tell.send(Event::Shard(notice)).ok()));
    notices
}

//! Reloads: from one configuration to the next, which is the file's current content, or the result of a change by the API. Keys
//! that can change while the service runs are applied, the others are reported.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Beside, Change, Config, Edit, Met, Named, Overrides, Problem, Problems, Text};
use crate::control::{ConfigFile, Mistake, ReloadRefused, difference, etag};
use crate::dapr::Brought;
use crate::files::{self, Original};
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::service::log;

use super::args::RunArgs;

mod edits;

/// The configuration in force, and its origin.
#[derive(Clone)]
pub(super) struct Reload {
    args: RunArgs,
    /// The configuration as it was read, with the changes of reloads.
    config: Config,
    /// The text that it was read from.
    text: Text,
    /// The parts of the configuration beside the text; and the meaning of variables' indexes since the process began.
    beside: Beside,
    /// Changes by the API that are not in the file, in their order.
    edits: Vec<Edit>,
    /// Components that a sidecar has brought. They are stored nowhere: after a restart the sidecar brings them again.
    brought: Vec<Brought>,
    /// Files and logins of the configurations that no client of the API has made.
    of_machine: Named,
}

/// A new configuration that has been checked.
pub(super) struct Proposal {
    pub(super) change: Change,
    pub(super) warnings: Vec<String>,
    /// Other parts that are written with an edit, so that they stay unchanged.
    pub(super) also: Vec<String>,
    /// Whether an edit has added a part.
    pub(super) is_new: bool,
    text: Text,
    edits: Vec<Edit>,
    brought: Vec<Brought>,
    write: Option<Write>,
    by: By,
}

/// The file that a change writes.
struct Write {
    path: PathBuf,
    /// The content as it was read.
    before: String,
    after: String,
}

/// The origin of a proposal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// An operator who may write the file, or a sidecar on this machine.
    Machine,
    /// A client of the API with a token.
    Api,
}

/// The longest file that is shown by the API, in bytes.
const SHOWN_BYTES_MAX: usize = 1 << 20;

impl Proposal {
    /// Changes by the API that are not in the file, in words.
    pub(super) fn not_in_file(&self) -> Vec<String> {
        self.edits.iter().map(ToString::to_string).collect()
    }

    /// Writes the file, if it has new contents, and stores the old ones beside it.
    pub(super) fn write(&self) -> Result<(), ReloadRefused> {
        let Some(Write { path, before, after }) = self.write.as_ref().filter(|write| write.before != write.after)
        else {
            return Ok(());
        };
        let failed = |error: io::Error| cannot_be_written(path, &error);
        let original = Original::read(path).map_err(failed)?;
        if original.text() != before {
            return Err(changed(path, original.text(), after));
        }
        original.keep().and_then(|()| original.replace(after)).map_err(failed)
    }
}

/// Why a file that the API changes cannot be written, with the cure.
pub(super) fn cannot_be_written(path: &Path, error: &io::Error) -> ReloadRefused {
    let cure = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => " (under systemd, ReadWritePaths= of the unit must name its directory)",
        io::ErrorKind::PermissionDenied => {
            " (the service's user must own the file, and have write permission on its directory)"
        }
        _ => "",
    };
    ReloadRefused::NotNow(format!("{} cannot be written: {error}{cure}; nothing changed", path.display()))
}

impl Reload {
    /// The initial state. `config` and `text`: as they were read with `args`, before the service filled in real addresses.
    pub(super) fn new(args: &RunArgs, config: &Config, text: Text) -> Self {
        let mut config = config.clone();
        config.share_dead_letters_file();
        let beside = Beside::of(&text, args.overrides());
        let mut of_machine = Named::default();
        of_machine.add(&config);
        Self { args: args.clone(), config, text, beside, edits: Vec::new(), brought: Vec::new(), of_machine }
    }

    /// Reads the file again. Changes by the API that are not in it stay.
    pub(super) fn propose_file(&self) -> Result<Proposal, ReloadRefused> {
        let file = self.file()?;
        self.propose_content(config::read(Some(&file)).map_err(mistakes)?, By::Machine)
    }

    /// Proposes a content of the file.
    fn propose_content(&self, text: Text, by: By) -> Result<Proposal, ReloadRefused> {
        // The file is resolved alone first, for the places of its mistakes.
        let alone = self.resolve(&text, &[])?;
        if by == By::Api {
            self.refuse_exposure(&alone, &self.of_machine)?;
        }
        let moved = self.beside.bindings().moved(&text);
        let replaced = moved.iter().filter(|moved| moved.is_replaced);
        let replaced: Vec<_> = replaced.map(|moved| format!("{moved}; restart the service")).collect();
        if !replaced.is_empty() {
            return Err(ReloadRefused::Mistakes(replaced.into_iter().map(Mistake::from).collect()));
        }
        let edits = self.standing(&text, &self.edits)?;
        // Without changes by the API that is the result: a large file takes long to resolve.
        let wanted = if edits.is_empty() { alone } else { self.resolve(&text, &edits)? };
        let mut proposal = self.proposal(wanted, (text, edits), None, by)?;
        proposal.warnings.extend(moved.iter().map(ToString::to_string));
        Ok(proposal)
    }

    /// Proposes a text in the place of the file. `tag`: the tag of the content that it replaces; `None`: the text is only
    /// checked. Changes by the API that are not in it stay.
    pub(super) fn propose_text(&self, text: String, tag: Option<&str>) -> Result<Proposal, ReloadRefused> {
        let path = self.file()?;
        let now = config::read(Some(&path)).map_err(|problems| ReloadRefused::NotNow(problems.to_string()))?;
        if tag.is_some_and(|tag| tag != etag(&now.text)) {
            return Err(changed(&path, &now.text, &text));
        }
        let wanted = Text { name: now.name.clone(), text };
        // The check is done before any file that the text names is opened.
        let standard = if is_toml(&now) { &now } else { &self.text };
        if let Some(section) = config::of_machine(standard, &wanted) {
            let file = path.display();
            let why = format!(
                "[{section}] differs: its keys are changed on the machine only; there, edit {file}, then `forebay reload --config {file}`"
            );
            return Err(ReloadRefused::NotNow(why));
        }
        let of_machine = self.and_named_in(&now);
        let refused = config::not_allowed_in(standard, &wanted, &self.config, &of_machine);
        if !refused.is_empty() {
            let place = |(line, what)| {
                let column = usize::from(line > 0);
                Mistake { file: wanted.name.clone(), line, column, what, ..Mistake::default() }
            };
            return Err(ReloadRefused::Mistakes(refused.into_iter().map(place).collect()));
        }
        let with = Self { of_machine, ..self.clone() };
        let mut proposal = with.propose_content(wanted.clone(), By::Api)?;
        proposal.write = Some(Write { path, before: now.text, after: wanted.text });
        Ok(proposal)
    }

    /// The current content of the file.
    pub(super) fn shown_file(&self) -> Result<ConfigFile, ReloadRefused> {
        let path = match self.file() {
            Ok(path) => path,
            Err(why) => return Ok(ConfigFile { missing: Some(why.to_string()), ..ConfigFile::default() }),
        };
        let read = |path: &Path| {
            let text = config::read(Some(path)).map_err(|problems| ReloadRefused::NotNow(problems.to_string()))?.text;
            if text.len() > SHOWN_BYTES_MAX {
                let why = format!("{} has {} bytes, and the API shows {SHOWN_BYTES_MAX}", path.display(), text.len());
                return Err(ReloadRefused::NotNow(why));
            }
            Ok(text)
        };
        let text = read(&path)?;
        let previous = read(&files::kept(&path)).ok();
        Ok(ConfigFile { file: path.display().to_string(), etag: etag(&text), text, previous, missing: None })
    }

    /// Proposes the configuration in force, for changed files that it names.
    pub(super) fn propose_running(&self) -> Result<Proposal, ReloadRefused> {
        let wanted = self.resolve(&self.text, &self.edits)?;
        self.proposal(wanted, (self.text.clone(), self.edits.clone()), None, By::Machine)
    }

    /// Proposes the configuration in force with a component of a sidecar, which replaces an earlier one of that name.
    pub(super) fn propose_brought(&self, brought: &Brought) -> Result<Proposal, ReloadRefused> {
        let mut with = self.clone();
        with.brought.retain(|known| known.component != brought.component);
        with.brought.push(brought.clone());
        let proposal = with.propose_running()?;
        let mut bindings = proposal.change.config.bridges.iter().filter(|bridge| !bridge.is_removed);
        let is_it =
            |bridge: &config::Bridge| bridge.binding.as_ref().is_some_and(|of| of.component == brought.component);
        // Why the binding is missing is among these.
        if bindings.any(is_it) { Ok(proposal) } else { Err(several(proposal.change.waiting.clone())) }
    }

    /// The options, and the components of sidecars.
    fn overrides(&self) -> Overrides {
        Overrides { brought: self.brought.clone(), ..self.args.overrides() }
    }

    /// Files that the machine has named, in the configuration file as well, which may not have been read again yet.
    fn and_named_in(&self, file: &Text) -> Named {
        let mut named = self.of_machine.clone();
        if *file != self.text
            && let Ok(config) = self.resolve(file, &[])
        {
            named.add(&config);
        }
        named
    }

    fn refuse_exposure(&self, wanted: &Config, of_machine: &Named) -> Result<(), ReloadRefused> {
        of_machine.exposed(&self.config, wanted).map_or(Ok(()), |why| Err(mistake(why)))
    }

    /// Proposes a configuration, which is the result of a text with edits. The API may not send a login to another host.
    fn proposal(
        &self,
        wanted: Config,
        (text, edits): (Text, Vec<Edit>),
        write: Option<Write>,
        by: By,
    ) -> Result<Proposal, ReloadRefused> {
        if by == By::Api {
            self.refuse_exposure(&wanted, &self.of_machine)?;
        }
        let warnings = wanted.warnings.0.iter().map(ToString::to_string).collect();
        let change = Change::between(&self.config, &wanted);
        let (also, brought) = (Vec::new(), self.brought.clone());
        Ok(Proposal { change, warnings, also, is_new: false, text, edits, brought, write, by })
    }

    fn edited(&self, text: &Text, edits: &[Edit]) -> Result<(Text, Met), ReloadRefused> {
        text.edited(edits, &self.beside).map_err(mistake)
    }

    /// The configuration of a text with these edits.
    fn resolve(&self, text: &Text, edits: &[Edit]) -> Result<Config, ReloadRefused> {
        let resolved = |text: &Text| text.resolve_since(&self.overrides(), self.beside.bindings());
        let mut config = if edits.is_empty() {
            resolved(text).map_err(mistakes)?
        } else {
            let (edited, _) = self.edited(text, edits)?;
            let mut config = resolved(&edited).map_err(|problems| mistakes(placeless(problems)))?;
            config.warnings = placeless(config.warnings);
            config
        };
        config.share_dead_letters_file();
        Ok(config)
    }

    /// The file that is read again, and written.
    fn file(&self) -> Result<PathBuf, ReloadRefused> {
        let none = || {
            let why = "the service has no configuration file: `forebay config default > forebay.toml` makes one, and `forebay run --config forebay.toml` uses it";
            ReloadRefused::NotNow(why.to_owned())
        };
        if self.args.reads_standard_input() {
            return Err(ReloadRefused::NotNow("the configuration came from standard input".to_owned()));
        }
        self.args.file().ok_or_else(none)
    }

    /// Records why nothing changed.
    pub(super) fn refused(why: &ReloadRefused, journal: &Journal) {
        match why {
            ReloadRefused::NotNow(why) | ReloadRefused::Changed(why) | ReloadRefused::Unknown(why) => {
                tracing::warn!("reload: {why}; nothing changed");
            }
            ReloadRefused::Mistakes(all) => {
                for mistake in all {
                    tracing::error!("reload: {mistake}");
                }
                let more = if all.len() > 1 { format!(" (and {} more)", all.len() - 1) } else { String::new() };
                let first = all.first().map(Mistake::to_string).unwrap_or_default();
                journal.say(Event::now(Kind::ReloadFailed).with(Field::Reason, format!("{first}{more}")));
            }
        }
    }

    /// Records why a change of the API is refused: the client gets the reason, and the service has no fault.
    pub(super) fn change_refused(why: &ReloadRefused, journal: &Journal) {
        journal.say(Event::now(Kind::ChangeRefused).with(Field::Reason, why.to_string()));
    }

    /// Notes a change that the shards have, or need not have.
    pub(super) fn applied(&mut self, proposal: Proposal, journal: &Journal) {
        let Proposal { change, text, edits, brought, by, .. } = proposal;
        // The event is logged at the more verbose of the two levels.
        let quieter = change.config.log.level < self.config.log.level;
        if !quieter {
            self.apply_level(&change.config);
        }
        let applied = if change.applied.is_empty() { "none".to_owned() } else { change.applied.join(", ") };
        journal.say(if change.waiting.is_empty() {
            Event::now(Kind::Reloaded).with(Field::Applied, applied)
        } else {
            let event = Event::now(Kind::ReloadedInPart).with(Field::Applied, applied);
            event.with(Field::Waiting, change.waiting.join(", "))
        });
        if quieter {
            self.apply_level(&change.config);
        }
        (self.config, self.text, self.edits, self.brought) = (change.config, text, edits, brought);
        if by == By::Machine {
            self.of_machine.add(&self.config);
        }
    }

    fn apply_level(&self, new: &Config) {
        if new.log.level == self.config.log.level {
            return;
        }
        if log::is_overridden() {
            tracing::warn!("reload: {} overrides log.level", log::FILTER_VARIABLE);
        }
        if let Err(why) = log::set_level(new.log.level.as_str()) {
            tracing::error!("reload: {why}");
        }
    }
}

/// Removes the places of problems in a text that does not come from a file.
fn placeless(mut problems: Problems) -> Problems {
    for problem in problems.0.iter_mut().filter(|problem| problem.line > 0) {
        *problem = Problem { file: "configuration".to_owned(), line: 0, column: 0, ..problem.clone() };
    }
    problems
}

fn mistakes(problems: Problems) -> ReloadRefused {
    let place = |Problem { file, line, column, key, what, hint }| Mistake { file, line, column, key, what, hint };
    ReloadRefused::Mistakes(problems.0.into_iter().map(place).collect())
}

fn mistake(what: String) -> ReloadRefused {
    several(vec![what])
}

/// Mistakes without a place.
pub(super) fn several(whats: Vec<String>) -> ReloadRefused {
    ReloadRefused::Mistakes(whats.into_iter().map(Mistake::from).collect())
}

/// The file is not the one that the change replaces.
pub(super) fn changed(path: &Path, now: &str, wanted: &str) -> ReloadRefused {
    let difference = difference(now, wanted);
    ReloadRefused::Changed(format!(
        "{} has changed since it was read; it differs from the text, {difference}",
        path.display()
    ))
}

fn is_toml(text: &Text) -> bool {
    toml::from_str::<toml::Table>(&text.text).is_ok()
}

//! Reload: reads the configuration again, applies what can be changed while the service runs, and names the rest.

use crate::config::{Change, Config};
use crate::control::ReloadRefused;
use crate::service::log;

use super::args::RunArgs;

/// The configuration in force, and where it came from.
pub(super) struct Reload {
    args: RunArgs,
    /// As it was read, with what reloads have changed.
    config: Config,
}

impl Reload {
    /// `config`: as it was read with `args`, before the service put real addresses into it.
    pub(super) fn new(args: &RunArgs, config: &Config) -> Self {
        let mut config = config.clone();
        config.share_dead_letters_file();
        Self { args: args.clone(), config }
    }

    /// Reads the configuration again: what it changes, and the warnings of what was read.
    pub(super) fn read(&self) -> Result<(Change, Vec<String>), ReloadRefused> {
        if self.args.file().is_none() {
            return Err(ReloadRefused::NotNow("the service has no configuration file".to_owned()));
        }
        if self.args.reads_standard_input() {
            return Err(ReloadRefused::NotNow("the configuration came from standard input".to_owned()));
        }
        let mut wanted = match self.args.load() {
            Ok(wanted) => wanted,
            Err(problems) => return Err(ReloadRefused::Mistakes(problems.0.iter().map(ToString::to_string).collect())),
        };
        let warnings = wanted.warnings.0.iter().map(ToString::to_string).collect();
        wanted.share_dead_letters_file();
        Ok((Change::between(&self.config, &wanted), warnings))
    }

    /// Says in the log why nothing changed.
    pub(super) fn refused(&self, why: &ReloadRefused) {
        match why {
            ReloadRefused::NotNow(why) => tracing::warn!("reload: {why}; nothing changed"),
            ReloadRefused::Mistakes(all) => {
                for mistake in all {
                    tracing::error!("reload: {mistake}");
                }
                let file = self.args.file().unwrap_or_default();
                let file = file.display();
                tracing::error!(%file, "reload failed: the configuration has problems; nothing changed");
            }
        }
    }

    /// The shards have it, or need not be told.
    pub(super) fn applied(&mut self, change: Change) {
        let file = self.args.file().unwrap_or_default();
        let file = file.display();
        // At the more talkative of the two levels.
        let quieter = change.config.log.level < self.config.log.level;
        if !quieter {
            self.apply_level(&change.config);
        }
        let applied = if change.applied.is_empty() { "none".to_owned() } else { change.applied.join(", ") };
        if change.waiting.is_empty() {
            tracing::info!(%file, %applied, "configuration reloaded");
        } else {
            let waiting = change.waiting.join(", ");
            tracing::warn!(%file, %applied, %waiting, "configuration reloaded; some changes need a restart");
        }
        if quieter {
            self.apply_level(&change.config);
        }
        self.config = change.config;
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

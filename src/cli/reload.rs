//! SIGHUP: reads the configuration again, applies what can be changed while the service runs, and names the rest.

use crate::config::{Config, differences};
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
        Self { args: args.clone(), config: config.clone() }
    }

    /// Reads the configuration again. One with a problem changes nothing.
    pub(super) fn now(&mut self) {
        let Some(file) = self.args.file() else {
            tracing::warn!("reload: there is no configuration file; nothing changed");
            return;
        };
        let file = file.display();
        if self.args.reads_standard_input() {
            tracing::warn!("reload: the configuration came from standard input; nothing changed");
            return;
        }
        let new = match self.args.load() {
            Ok(new) => new,
            Err(problems) => {
                for problem in &problems.0 {
                    tracing::error!("reload: {problem}");
                }
                tracing::error!(%file, "reload failed: the configuration has problems; nothing changed");
                return;
            }
        };
        for warning in &new.warnings.0 {
            tracing::warn!("{warning}");
        }
        self.apply_level(&new);
        let waiting = differences(&self.config, &new);
        if waiting.is_empty() {
            tracing::info!(%file, log_level = self.config.log.level.as_str(), "configuration reloaded");
        } else {
            let changes = waiting.join(", ");
            tracing::warn!(%file, %changes, "configuration reloaded; these changes need a restart");
        }
    }

    fn apply_level(&mut self, new: &Config) {
        if new.log.level == self.config.log.level {
            return;
        }
        if log::is_overridden() {
            tracing::warn!("reload: {} overrides log.level", log::FILTER_VARIABLE);
        }
        match log::set_level(new.log.level.as_str()) {
            Ok(()) => self.config.log.level = new.log.level,
            Err(why) => tracing::error!("reload: {why}"),
        }
    }
}

//! Shell completions and man pages, generated from the definition of the command line.

use std::fs::File;
use std::io;
use std::path::Path;

use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::args::definition;
use forebay_base::files::Fresh;

/// Permissions of a page, less the umask.
const PAGE_MODE: u32 = 0o666;

/// The completion script of a shell.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut definition(), "forebay", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `forebay.1` and a page for each command (`forebay-check.1`, `forebay-spool-inspect.1`) into a directory.
///
/// # Errors
/// A page cannot be written.
pub fn write(dir: &Path) -> io::Result<()> {
    let mut whole = definition().disable_help_subcommand(true);
    whole.build();
    page(dir, &whole)
}

fn page(dir: &Path, command: &clap::Command) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    Man::new(command.clone()).title(name.to_uppercase()).render(&mut text)?;
    let (folder, file) = (File::open(dir)?, format!("{name}.1"));
    let fresh = Fresh::make(&folder, file.as_ref(), PAGE_MODE)?;
    fresh.fill(&text)?;
    fresh.place()?;
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| page(dir, command))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_shell_completes_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for word in ["forebay", "inspect", "offline", "data-dir"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn each_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let read =
            |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read("forebay.1").contains("SIGTERM") && read("forebay.1").contains("FOREBAY_CONFIG"));
        assert!(read("forebay-check.1").contains("\\-\\-offline"));
        assert!(read("forebay-spool-inspect.1").contains("\\-\\-entries"));
        assert!(!dir.path().join("forebay-man.1").exists());
    }
}

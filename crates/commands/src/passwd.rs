//! `forebay passwd`: a line of a password file, written or deleted.

use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use forebay_base::files::{self, Original};
use forebay_guard::auth::password::{argon2id_of, generated, scram_of, sha512_of};
use forebay_guard::auth::users;

use super::args::PasswdArgs;
use super::out::{self, complain};

/// Changes the file; returns a message about it.
///
/// # Errors
/// The user has no name, the passwords differ, or the file cannot be read or written.
pub fn passwd(options: &PasswdArgs) -> Result<String, String> {
    let (file, user) = (&options.file, &options.user);
    users::check_name(user)?;
    let shown = file.display();
    let before = match Original::read(file) {
        Ok(original) => Some(original),
        Err(error) if error.kind() == ErrorKind::NotFound && !options.delete => None,
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    let is_known = before.as_ref().is_some_and(|original| users::has(original.text(), user));
    if options.delete {
        if !is_known {
            return Err(format!("{shown}: there is no user {user:?}"));
        }
        write((file, before.as_ref()), user, None)?;
        return Ok(format!("{shown}: {user} deleted; a running service disconnects its clients within a minute\n"));
    }
    let (password, said) = if options.generate {
        let password = generated()?;
        let said = format!("password: {password}\n");
        (Zeroizing::new(password), said)
    } else {
        (ask()?, String::new())
    };
    let hash = match (options.scram, options.generate) {
        (true, _) => scram_of,
        (false, true) => sha512_of,
        (false, false) => argon2id_of,
    };
    let line = format!("{user}:{}", hash(password.as_bytes())?);
    write((file, before.as_ref()), user, Some(&line))?;
    Ok(format!("{said}{shown}: {user} {}\n", if is_known { "changed" } else { "added" }))
}

/// Writes the file with the user's line replaced, or appended if there is none.
fn write((file, before): (&Path, Option<&Original>), user: &str, line: Option<&str>) -> Result<(), String> {
    let text = users::with_line(before.map(Original::text).unwrap_or_default(), user, line);
    let written = before.map_or_else(|| files::make(file, text.as_bytes()), |original| original.replace(&text));
    written.map_err(|error| format!("{}: {error}", file.display()))
}

/// Asks for a password: twice on a terminal, without echo; else the first line of standard input.
pub(super) fn ask() -> Result<Zeroizing<String>, String> {
    let input = io::stdin();
    if !input.is_terminal() {
        return checked(read_line()?);
    }
    let shown = tcgetattr(&input).map_err(|error| format!("the terminal: {error}"))?;
    let mut hidden = shown.clone();
    hidden.local_modes -= LocalModes::ECHO;
    tcsetattr(&input, OptionalActions::Flush, &hidden).map_err(|error| format!("the terminal: {error}"))?;
    let asked = (|| {
        let mut asked = Vec::new();
        for prompt in ["Password: ", "The same again: "] {
            out::prompt(format_args!("{prompt}"));
            asked.push(read_line()?);
            complain(format_args!(""));
        }
        Ok::<_, String>(asked)
    })();
    tcsetattr(&input, OptionalActions::Flush, &shown).map_err(|error| format!("the terminal: {error}"))?;
    let mut asked = asked?;
    let (second, first) = (asked.pop().unwrap_or_default(), asked.pop().unwrap_or_default());
    if first == second { checked(first) } else { Err("the two passwords differ; nothing changed".to_owned()) }
}

fn read_line() -> Result<Zeroizing<String>, String> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line).map_err(|error| format!("standard input: {error}"))?;
    let kept = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(kept);
    Ok(line)
}

fn checked(password: Zeroizing<String>) -> Result<Zeroizing<String>, String> {
    if password.is_empty() { Err("an empty password; nothing changed".to_owned()) } else { Ok(password) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use super::*;

    fn options(file: &Path, user: &str) -> PasswdArgs {
        PasswdArgs { file: file.to_owned(), user: user.to_owned(), generate: true, scram: false, delete: false }
    }

    /// X29: `forebay passwd`.
    #[test]
    fn a_file_is_made_changed_and_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passwords");
        let said = passwd(&options(&file, "ada")).unwrap();
        assert!(said.contains("ada added"), "{said}");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        passwd(&options(&file, "bob")).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("# devices\n{text}")).unwrap();
        assert!(passwd(&options(&file, "ada")).unwrap().contains("ada changed"));
        let now = fs::read_to_string(&file).unwrap();
        let names: Vec<_> = now.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(names, ["# devices", "ada", "bob"], "each stays where it is");
        assert_ne!(now.lines().nth(1), text.lines().next(), "another hash");
        assert_eq!(now.lines().nth(2), text.lines().nth(1));
        let delete = |user| passwd(&PasswdArgs { generate: false, delete: true, ..options(&file, user) });
        assert!(delete("ada").is_ok() && delete("ada").is_err_and(|why| why.contains("no user")));
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
    }

    /// X29: `--generate`.
    #[test]
    fn a_generated_password_fits_its_line() {
        for scram in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("passwords");
            let said = passwd(&PasswdArgs { scram, ..options(&file, "ada") }).unwrap();
            let password = said.lines().next().and_then(|line| line.strip_prefix("password: ")).unwrap();
            assert_eq!(password.len(), 40);
            let text = fs::read_to_string(&file).unwrap();
            let (_, hash) = text.trim().split_once(':').unwrap();
            let stored = forebay_guard::auth::password::Stored::parse(hash).unwrap();
            assert!(stored.matches(password.as_bytes()) && stored.scram().is_some() == scram);
        }
    }

    /// Finding S1: a planted link beside the file, or in its place, is not followed.
    #[test]
    fn finding_s1_a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, target) = (dir.path().join("passwords"), dir.path().join("target"));
        fs::write(&target, "kept").unwrap();
        passwd(&options(&file, "ada")).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join(".passwords.new")).unwrap();
        passwd(&options(&file, "bob")).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
        // The link replaces the file itself, and leads to a file or to nothing.
        for leads_to in [target.clone(), dir.path().join("nothing")] {
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(&leads_to, &file).unwrap();
            let why = passwd(&options(&file, "ada")).unwrap_err();
            assert!(why.contains("symbolic link"), "{why}");
            assert!(!dir.path().join("nothing").exists());
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }

    #[test]
    fn a_name_that_the_file_could_not_hold_is_refused() {
        for name in ["", "a:b", "#a", "a\nb"] {
            assert!(passwd(&options(&PathBuf::from("/nowhere"), name)).is_err(), "{name:?}");
        }
    }
}

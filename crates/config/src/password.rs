//! Passwords of outgoing logins. They are in files or in the environment, never in the configuration file, which is shown, copied
//! and kept in repositories.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::environment;
use super::problem::Fault;
use super::reader::{Spot, Table};
use super::values;
use forebay_guard::secure::Secret;

/// The longest password, in bytes.
const BYTES_MAX: u64 = 64 << 10;
/// Permission bits of users that are neither the owner nor in the group.
const OTHERS_READ: u32 = 0o004;

/// A password that is wrong, which has been reported.
pub(super) struct Reported;

/// A password, and its file; `None`: the password is from the environment.
pub(super) struct Given {
    pub(super) password: Secret,
    pub(super) file: Option<PathBuf>,
}

/// Where a password may be: a file, or a variable of the environment.
pub(super) fn elsewhere(table: &Table<'_>) -> String {
    let variable = environment::variable(&table.spot("password").path);
    format!(
        "write it into a file of its own and name that as password_file, or set the environment variable {variable}"
    )
}

/// Reads `password` and `password_file` of a table.
pub(super) fn read(table: &Table<'_>) -> Result<Option<Given>, Reported> {
    if table.has("password") && !table.source.is_of_environment(&table.spot("password")) {
        let fault = Fault::new("a password does not belong in this file");
        return reported(table, "password", fault.hint(elsewhere(table)));
    }
    let (given, key) = match (table.text("password"), table.has("password_file")) {
        (Some(_), true) => {
            return reported(table, "password", Fault::new("and password_file are both set").hint("leave one out"));
        }
        (Some(password), false) => {
            (Given { password: Secret::new(password.as_bytes().to_vec()), file: None }, "password")
        }
        (None, true) => {
            let path = path(table, "password_file").ok_or(Reported)?;
            let password = of_file(table, "password_file", &path).ok_or(Reported)?;
            (Given { password, file: Some(path) }, "password_file")
        }
        (None, false) => return Ok(None),
    };
    if given.password.expose().is_empty() || given.password.expose().contains(&0) {
        return reported(table, key, Fault::new("the password is empty or has a NUL in it"));
    }
    Ok(Some(given))
}

fn reported<T>(table: &Table<'_>, key: &str, fault: Fault) -> Result<T, Reported> {
    table.source.report(&table.spot(key), fault);
    Err(Reported)
}

/// Reads the path of a file with a secret, and warns if others may read it.
pub(super) fn path(table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
    let path = PathBuf::from(table.find(key, values::non_empty)?);
    warn_of_readers(table, &table.spot(key), &path);
    Some(path)
}

/// Warns of a file with a secret that others than its owner may read.
pub(super) fn warn_of_readers(table: &Table<'_>, spot: &Spot, path: &Path) {
    if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0) {
        let fault = Fault::new(format!("every user of this machine may read {}", path.display()));
        table.source.warn(spot, fault.hint("chmod o-r"));
    }
}

/// Reads a file with a secret.
pub(super) fn of_file(table: &Table<'_>, key: &str, path: &Path) -> Option<Secret> {
    let read = match std::fs::metadata(path) {
        Ok(file) if file.len() > BYTES_MAX => Err("it is longer than 64 KiB".to_owned()),
        Ok(_) => std::fs::read(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match read {
        Ok(bytes) => Some(Secret::of_file(bytes)),
        Err(why) => {
            table.source.report(&table.spot(key), Fault::new(format!("{} cannot be read: {why}", path.display())));
            None
        }
    }
}

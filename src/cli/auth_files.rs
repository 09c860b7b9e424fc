//! The files of `[auth.NAME]`, read and changed for the control plane: users of the password file, and permissions.
//!
//! One change at a time. A file is read, changed, read again before it is replaced, and keeps its owner and permissions; the new
//! content is checked first, as a file with a wrong line is refused.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::edge;
use super::reload::{cannot_be_written, changed};
use crate::auth::acl::{Acl, Action, Client, Subscription};
use crate::auth::password::{self, Hashing};
use crate::auth::users::{self, Listed};
use crate::auth::{Settings, Users};
use crate::config::Config;
use crate::control::{
    AccessTried, Auth, AuthAsk, AuthTold, Mistake, PermissionsChecked, PermissionsFile, ReloadRefused, TriedAction,
    UserOfFile, UsersFound, difference, etag,
};
use crate::files::{self, Original};
use crate::mqtt::topic;

/// The largest password file that is changed, and the longest text of permissions that is shown, in bytes.
const USERS_BYTES_MAX: usize = 64 << 20;
const TEXT_BYTES_MAX: usize = 1 << 20;
/// The fewest characters of a password with a hash that is quick to check: it cannot be guessed.
const QUICK_CHARS_MIN: usize = 32;

/// The lock of all changes of these files.
static WRITES: Mutex<()> = Mutex::new(());

/// Every `[auth.NAME]`, for the control plane.
pub(super) fn described(config: &Config) -> Vec<Auth> {
    let listeners = |name: &str| {
        let used =
            config.listeners.iter().filter(|listener| !listener.is_removed && listener.auth.as_deref() == Some(name));
        used.map(|listener| listener.bind.to_string()).collect()
    };
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let auth = config.auth.iter().map(|auth| Auth {
        name: auth.name.clone(),
        listeners: listeners(&auth.name),
        password_file: shown(&auth.password_file),
        acl_file: shown(&auth.acl_file),
    });
    auth.collect()
}

/// Folders of files that the control plane writes.
pub(super) fn folders(config: &Config) -> impl Iterator<Item = PathBuf> + '_ {
    let files = config.auth.iter().flat_map(|auth| [&auth.password_file, &auth.acl_file]).flatten();
    let files = files.filter(|_| config.control.bind.is_some()).filter_map(|file| std::fs::canonicalize(file).ok());
    files.filter_map(|file| file.parent().map(Path::to_owned))
}

/// Answers a question about the files of an auth, or changes them.
///
/// # Errors
/// Why the request is refused.
pub(super) fn answer(config: &Config, name: &str, ask: AuthAsk) -> Result<AuthTold, ReloadRefused> {
    let unknown = || ReloadRefused::Unknown(format!("there is no [auth.{name}] in the configuration"));
    let settings = config.auth.iter().find(|auth| auth.name == name).ok_or_else(unknown)?;
    match ask {
        AuthAsk::Users { search, from, limit } => list(settings, search.as_deref(), (from, limit)).map(AuthTold::Users),
        AuthAsk::PutUser { user, password, hash, etag } => {
            put_user(settings, &user, password.as_str(), (hash.as_deref(), etag.as_deref()))
        }
        AuthAsk::RemoveUser { user, etag } => remove_user(settings, &user, etag.as_deref()),
        AuthAsk::Permissions => {
            let (path, original) = permissions_file(settings)?;
            let kept = Original::read(&files::kept(path)).ok().filter(|kept| kept.text().len() <= TEXT_BYTES_MAX);
            Ok(AuthTold::Permissions(PermissionsFile {
                file: path.display().to_string(),
                etag: etag(original.text()),
                text: original.text().to_owned(),
                previous: kept.map(|kept| kept.text().to_owned()),
            }))
        }
        AuthAsk::CheckPermissions { text, tried } => check(settings, &text, tried.as_ref()).map(AuthTold::Checked),
        AuthAsk::PutPermissions { text, etag: tag } => {
            let (path, _) = permissions_file(settings)?;
            Acl::parse(&text).map_err(|all| mistakes(path, all))?;
            let _only = WRITES.lock().unwrap_or_else(PoisonError::into_inner);
            let original = read(path)?;
            if tag != etag(original.text()) {
                return Err(changed(path, original.text(), &text));
            }
            original.keep().and_then(|()| replace(path, &original, &text)).map_err(|error| failed(path, &error))?;
            Ok(AuthTold::Written { etag: etag(&text), is_new: false, hash: None })
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> ReloadRefused {
    cannot_be_written(path, error)
}

/// Reads a file's current content.
fn read(path: &Path) -> Result<Original, ReloadRefused> {
    let said = |error: std::io::Error| ReloadRefused::NotNow(format!("{} cannot be read: {error}", path.display()));
    let bytes = std::fs::metadata(path).map_err(said)?.len();
    if bytes > USERS_BYTES_MAX as u64 {
        let why = format!("{} has {bytes} bytes, and is changed here up to {USERS_BYTES_MAX}", path.display());
        return Err(ReloadRefused::NotNow(why));
    }
    Original::read(path).map_err(said)
}

/// Replaces a file, unless it was changed meanwhile.
fn replace(path: &Path, original: &Original, text: &str) -> std::io::Result<()> {
    if Original::read(path)?.text() != original.text() {
        return Err(std::io::Error::other("somebody else has changed it at the same time"));
    }
    original.replace(text)
}

fn password_file(settings: &Settings) -> Result<&Path, ReloadRefused> {
    let none = || ReloadRefused::Unknown(format!("[auth.{}] has no password_file", settings.name));
    settings.password_file.as_deref().ok_or_else(none)
}

fn permissions_file(settings: &Settings) -> Result<(&Path, Original), ReloadRefused> {
    let none =
        || ReloadRefused::Unknown(format!("[auth.{}] has no acl_file: everything may be touched", settings.name));
    let path = settings.acl_file.as_deref().ok_or_else(none)?;
    let original = read(path)?;
    if original.text().len() > TEXT_BYTES_MAX {
        let why = format!("{} has {} bytes, and the API shows {TEXT_BYTES_MAX}", path.display(), original.text().len());
        return Err(ReloadRefused::NotNow(why));
    }
    Ok((path, original))
}

/// The mistakes in a file: `line N …`.
fn mistakes(path: &Path, all: Vec<String>) -> ReloadRefused {
    ReloadRefused::Mistakes(all.into_iter().map(|what| mistake(path, what)).collect())
}

fn mistake(path: &Path, what: String) -> Mistake {
    let placed = what.strip_prefix("line ").and_then(|rest| rest.split_once(' '));
    let placed = placed.and_then(|(line, rest)| Some((line.parse::<usize>().ok()?, rest.to_owned())));
    let (line, what) = placed.unwrap_or((0, what));
    Mistake { file: path.display().to_string(), line, column: usize::from(line > 0), what, ..Mistake::default() }
}

fn wrong(what: impl Into<String>) -> ReloadRefused {
    ReloadRefused::Mistakes(vec![Mistake::from(what.into())])
}

fn list(settings: &Settings, search: Option<&str>, (from, limit): (usize, usize)) -> Result<UsersFound, ReloadRefused> {
    let path = password_file(settings)?;
    let original = read(path)?;
    let Listed { users, problems } = users::listed(original.text());
    let is_wanted = |(_, (name, _)): &(usize, &(String, Hashing))| search.is_none_or(|text| name.contains(text));
    let mut found = users.iter().enumerate().skip(from).filter(is_wanted);
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let next = found.next().map(|(place, _)| place.to_string());
    let user = |(_, (name, hash)): (usize, &(String, Hashing))| UserOfFile { name: name.clone(), hash: hash.word() };
    Ok(UsersFound {
        file: path.display().to_string(),
        etag: etag(original.text()),
        total: users.len(),
        mistakes: problems,
        users: page.into_iter().map(user).collect(),
        next,
    })
}

/// Writes a password file after checking its new content.
fn write(path: &Path, original: &Original, text: &str) -> Result<String, ReloadRefused> {
    Users::parse_alone(text).map_err(|all| mistakes(path, all))?;
    replace(path, original, text).map_err(|error| failed(path, &error))?;
    Ok(etag(text))
}

/// Reads the file, if its content has the tag.
fn original(path: &Path, tag: Option<&str>) -> Result<Original, ReloadRefused> {
    let original = read(path)?;
    if tag.is_some_and(|tag| tag != etag(original.text())) {
        // The lines have hashes, which are shown to no client.
        let why = format!("{} has changed since it was read; read it again", path.display());
        return Err(ReloadRefused::Changed(why));
    }
    Ok(original)
}

fn put_user(
    settings: &Settings,
    user: &str,
    password: &str,
    (hash, tag): (Option<&str>, Option<&str>),
) -> Result<AuthTold, ReloadRefused> {
    let path = password_file(settings)?;
    users::check_name(user).map_err(wrong)?;
    if password.is_empty() {
        return Err(wrong("the password is empty"));
    }
    if password.len() > settings.password_bytes_max {
        let most = settings.password_bytes_max;
        return Err(wrong(format!(
            "the password has more than {most} bytes, password_bytes_max of [auth.{}]",
            settings.name
        )));
    }
    let hash = hash.map(|word| Hashing::of_word(word).ok_or_else(|| wrong("hash: argon2id, sha512, pbkdf2 or scram")));
    let hash = hash.transpose()?;
    let is_long = password.chars().count() >= QUICK_CHARS_MIN;
    if hash == Some(Hashing::Sha512) && !is_long {
        let why = "its hash is quick to check, so a password that is not random can be guessed";
        return Err(wrong(format!("sha512 is for passwords of {QUICK_CHARS_MIN} characters and more: {why}")));
    }
    let _only = WRITES.lock().unwrap_or_else(PoisonError::into_inner);
    let original = original(path, tag)?;
    let hash = hash.unwrap_or_else(|| match users::hashing_for(original.text(), user) {
        Some(Hashing::Sha512) if !is_long => Hashing::Argon2id,
        of_file => of_file.unwrap_or(Hashing::Argon2id),
    });
    let line = format!("{user}:{}", password::hashed(hash, password.as_bytes()).map_err(wrong)?);
    let is_new = !users::has(original.text(), user);
    let etag = write(path, &original, &users::with_line(original.text(), user, Some(&line)))?;
    Ok(AuthTold::Written { etag, is_new, hash: Some(hash.word()) })
}

fn remove_user(settings: &Settings, user: &str, tag: Option<&str>) -> Result<AuthTold, ReloadRefused> {
    let path = password_file(settings)?;
    let _only = WRITES.lock().unwrap_or_else(PoisonError::into_inner);
    let original = original(path, tag)?;
    if !users::has(original.text(), user) {
        return Err(ReloadRefused::Unknown(format!("{} has no user {user:?}", path.display())));
    }
    let etag = write(path, &original, &users::with_line(original.text(), user, None))?;
    Ok(AuthTold::Written { etag, is_new: false, hash: None })
}

fn check(settings: &Settings, text: &str, tried: Option<&AccessTried>) -> Result<PermissionsChecked, ReloadRefused> {
    let (path, original) = permissions_file(settings)?;
    if let Some(tried) = tried {
        let is_filter = tried.action != TriedAction::Publish;
        let is_valid = if is_filter { topic::valid_filter } else { topic::valid_name };
        if !is_valid(&tried.topic) {
            let what = if is_filter { "topic filter" } else { "topic" };
            return Err(wrong(format!("{:?} is no {what}", tried.topic)));
        }
    }
    let says = |acl: &Acl| tried.map(|tried| said(acl, tried));
    let differs = original.text() != text;
    let difference = if differs { difference(original.text(), text) } else { String::new() };
    let says_now = Acl::parse(original.text()).ok().as_ref().and_then(says);
    let checked = PermissionsChecked { difference, says_now, ..PermissionsChecked::default() };
    Ok(match Acl::parse(text) {
        Err(all) => {
            PermissionsChecked { mistakes: all.into_iter().map(|what| mistake(path, what)).collect(), ..checked }
        }
        Ok(acl) => {
            let mut warnings: Vec<String> = unknown_users(settings, &acl).into_iter().collect();
            if acl.is_empty() {
                warnings.push("without a rule nobody may publish or subscribe".to_owned());
            }
            PermissionsChecked { rules: acl.len(), warnings, would_say: says(&acl), ..checked }
        }
    })
}

/// Users of a list that the password file does not have.
fn unknown_users(settings: &Settings, acl: &Acl) -> Option<String> {
    let users = users::listed(read(settings.password_file.as_deref()?).ok()?.text()).users;
    let known: HashSet<String> = users.into_iter().map(|(name, _)| name).collect();
    edge::unknown_users(settings, |name| known.contains(name), acl)
}

/// The decisions of an access control list about a client.
fn said(acl: &Acl, tried: &AccessTried) -> String {
    let client = Client { identity: tried.user.as_deref(), client_id: &tried.client_id };
    let of_filter = match tried.action {
        TriedAction::Publish => None,
        TriedAction::Subscribe => Some(Action::Receive),
        TriedAction::Replay => Some(Action::Replay),
    };
    if let Some(action) = of_filter {
        let said = match acl.subscription(client, (action, &tried.topic)) {
            Subscription::Granted => "granted",
            Subscription::Checked => "granted in part: each message is looked at",
            Subscription::Refused => "denied",
        };
        return said.to_owned();
    }
    let decision = acl.decide(client, Action::Publish, &tried.topic);
    let verdict = if decision.is_granted { "granted" } else { "denied" };
    match decision.by {
        Some(rule) => format!("{verdict} by line {}: {}", rule.line, rule.text),
        None => format!("{verdict}: no rule grants it"),
    }
}

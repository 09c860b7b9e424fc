//! Options of `forebay users` and `forebay permissions`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::AskArgs;

/// `forebay users`
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum UsersCommand {
    /// List every `[auth.NAME]` with its files; or the users of one
    List(UsersListArgs),
    /// Add a user, or give it another password, which is read from the terminal or standard input
    Put(UsersPutArgs),
    /// Remove a user: its clients are disconnected, and its sessions end
    Remove(UsersRemoveArgs),
}

/// Options of `forebay users list`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersListArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// NAME of the `[auth.NAME]`
    #[arg(value_name = "AUTH")]
    pub auth: Option<String>,

    /// Only users with this text in their name
    #[arg(long, value_name = "TEXT", requires = "auth")]
    pub search: Option<String>,
}

/// Options of `forebay users put`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersPutArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// NAME of the `[auth.NAME]`
    #[arg(value_name = "AUTH")]
    pub auth: String,

    /// User name
    #[arg(value_name = "USER")]
    pub user: String,

    /// Choose a random password here and print it
    #[arg(long)]
    pub generate: bool,

    /// Form of the hash, instead of the one that the file uses
    #[arg(long, value_name = "FORM", value_parser = ["argon2id", "sha512", "pbkdf2", "scram"])]
    pub hash: Option<String>,

    /// Only if the file has this content, by its tag from `forebay users list AUTH --json`
    #[arg(long, value_name = "TAG")]
    pub etag: Option<String>,
}

/// Options of `forebay users remove`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersRemoveArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// NAME of the `[auth.NAME]`
    #[arg(value_name = "AUTH")]
    pub auth: String,

    /// User name
    #[arg(value_name = "USER")]
    pub user: String,

    /// Only if the file has this content, by its tag
    #[arg(long, value_name = "TAG")]
    pub etag: Option<String>,
}

/// `forebay permissions`
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum PermissionsCommand {
    /// Print the file that says what may be touched; its tag is on standard error
    Show(PermissionsShowArgs),
    /// Replace that file, or say what that would do
    Put(PermissionsPutArgs),
}

/// Options of `forebay permissions show`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionsShowArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// NAME of the `[auth.NAME]`
    #[arg(value_name = "AUTH")]
    pub auth: String,

    /// What it held before the last change by the API
    #[arg(long)]
    pub previous: bool,
}

/// Options of `forebay permissions put`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionsPutArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// NAME of the `[auth.NAME]`
    #[arg(value_name = "AUTH")]
    pub auth: String,

    /// File with the text; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The tag of the content that is replaced, from `forebay permissions show`
    #[arg(long, value_name = "TAG", required_unless_present = "dry_run")]
    pub etag: Option<String>,

    /// Only say what is wrong with the text, or what would change
    #[arg(long)]
    pub dry_run: bool,

    /// With --dry-run: topic that a client publishes to, to see what it may do before and after
    #[arg(long, value_name = "TOPIC", requires = "dry_run")]
    pub publish: Option<String>,

    /// With --dry-run: topic filter that it subscribes to, likewise
    #[arg(long, value_name = "FILTER", requires = "dry_run", conflicts_with = "publish")]
    pub subscribe: Option<String>,

    /// With --dry-run: topic filter that it asks to have replayed, likewise
    #[arg(long, value_name = "FILTER", requires = "dry_run", conflicts_with_all = ["publish", "subscribe"])]
    pub replay: Option<String>,

    /// With --publish, --subscribe or --replay: the user; without it the client is anonymous
    #[arg(long, value_name = "NAME", requires = "dry_run")]
    pub user: Option<String>,

    /// With --publish, --subscribe or --replay: the client ID
    #[arg(long, value_name = "ID", requires = "dry_run")]
    pub client: Option<String>,
}

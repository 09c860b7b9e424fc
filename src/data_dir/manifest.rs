//! What the spool says of itself: `spool/manifest.json`, and `shard.json` in the folder of each shard. They are written
//! before any segment, and change with the folders. With them a start knows a folder that is missing, one too many, a
//! volume that is not mounted, and folders that belong to another data directory.

use std::fs;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::DataDirId;
use crate::runtime::segments_in;

/// In the folder of the spool.
pub(crate) const MANIFEST: &str = "manifest.json";
/// In the folder of a shard.
const SHARD: &str = "shard.json";
/// The format of both.
const FORMAT: u64 = 1;
/// What `mkfs` puts at the root of a volume.
const LOST_AND_FOUND: &str = "lost+found";

/// `manifest.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Made at random with the first spool of a data directory, and kept from then on.
    pub(crate) directory: DataDirId,
    /// Folders, from 0 on.
    pub(crate) shards: usize,
}

/// `shard.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    directory: DataDirId,
    shard: usize,
}

impl Manifest {
    pub(super) const fn new(directory: DataDirId, shards: usize) -> Self {
        Self { directory, shards }
    }

    /// Writes it into the folder of a spool. The folder itself is synced by the caller.
    pub(super) fn write(self, root: &Path) -> io::Result<()> {
        let directory = self.directory.to_string();
        write(&root.join(MANIFEST), &json!({ "format": FORMAT, "directory": directory, "shards": self.shards }))
    }

    /// Writes what the folder of a shard says.
    pub(super) fn write_shard(self, shard: usize, folder: &Path) -> io::Result<()> {
        write(&folder.join(SHARD), &Shard { directory: self.directory, shard }.json())
    }

    /// Reads it, and compares the folders with it. `None`: there is no spool, or one in which nothing was ever stored.
    ///
    /// # Errors
    /// What does not fit, and the cure, for an operator.
    pub(super) fn read(root: &Path) -> Result<Option<Self>, String> {
        let shown = root.display();
        let failed = |error: io::Error| format!("spool in {shown}: {error}");
        let Some((folders, others)) = listed(root).map_err(failed)? else { return Ok(None) };
        let parse = |json: &Value| Some(Self { directory: directory(json)?, shards: number(json, "shards")? });
        let Some(manifest) = read(&root.join(MANIFEST), parse)? else {
            return without(root, &folders, &others).map(|()| None);
        };
        if let Some(number) = folders.iter().find(|number| **number >= manifest.shards) {
            return Err(format!(
                "spool in {shown}: the folder {number} is one too many: {MANIFEST} names {} shards. If it holds messages, it \
                 belongs to another spool; move it there, or away",
                manifest.shards
            ));
        }
        for shard in 0..manifest.shards {
            manifest.check_shard(root, shard, folders.contains(&shard))?;
        }
        Ok(Some(manifest))
    }

    fn check_shard(self, root: &Path, shard: usize, there: bool) -> Result<(), String> {
        let folder = root.join(shard.to_string());
        let shown = folder.display();
        let expected = Shard { directory: self.directory, shard };
        let lost = format!(
            "mount the volume or restore the folder. If what it held is lost for good, and only then, write the file \
             {shown}/{SHARD} with the text {}",
            expected.json()
        );
        if !there {
            return Err(format!("the folder of shard {shard} is missing: {shown}; {lost}"));
        }
        let parse = |json: &Value| Some(Shard { directory: directory(json)?, shard: number(json, "shard")? });
        match read(&folder.join(SHARD), parse)? {
            None => Err(format!("the folder of shard {shard} has no {SHARD}: {shown}; {lost}")),
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(format!(
                "{shown} is the folder of shard {} of the data directory {}, not of shard {shard} of {}: put each folder \
                 back to its own place",
                found.shard, found.directory, self.directory
            )),
        }
    }
}

impl Shard {
    fn json(self) -> Value {
        json!({ "format": FORMAT, "directory": self.directory.to_string(), "shard": self.shard })
    }
}

fn directory(json: &Value) -> Option<DataDirId> {
    json.get("directory")?.as_str()?.parse().ok()
}

fn number(json: &Value, name: &str) -> Option<usize> {
    json.get(name)?.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// The folders of shards by number, and the names of all else; `None`: no such folder.
type Listed = Option<(Vec<usize>, Vec<String>)>;

fn listed(root: &Path) -> io::Result<Listed> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let (mut folders, mut others) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.parse::<usize>().ok().filter(|number| number.to_string() == name && path.is_dir()) {
            Some(number) => folders.push(number),
            None => others.push(name),
        }
    }
    folders.sort_unstable();
    Ok(Some((folders, others)))
}

/// Without a manifest only folders in which nothing ever was may be there.
fn without(root: &Path, folders: &[usize], others: &[String]) -> Result<(), String> {
    let shown = root.display();
    for number in folders {
        let folder = root.join(number.to_string());
        let segments = segments_in(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if !segments.is_empty() || folder.join(SHARD).exists() {
            return Err(format!(
                "spool in {shown}: the folder {number} has segments, but there is no {MANIFEST}. If the spool was copied or \
                 restored, copy {MANIFEST} too. If it was written by a build that had none, run that build until all is in \
                 Kafka. If nothing in it is needed, move {shown} away"
            ));
        }
        let foreign = fs::read_dir(&folder).ok().and_then(|mut entries| entries.next());
        if let Some(Ok(foreign)) = foreign {
            return Err(foreign_file(&foreign.path(), root));
        }
    }
    match others.iter().find(|name| *name != LOST_AND_FOUND) {
        Some(name) => Err(foreign_file(&root.join(name), root)),
        None => Ok(()),
    }
}

fn foreign_file(path: &Path, root: &Path) -> String {
    format!(
        "{}: not part of a spool, but it is in {}, the directory of one; move it elsewhere",
        path.display(),
        root.display()
    )
}

/// `None`: no such file.
fn read<T>(path: &Path, parse: impl FnOnce(&Value) -> Option<T>) -> Result<Option<T>, String> {
    let shown = path.display();
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| format!("{shown}: {error}"))?,
    };
    let json: Option<Value> = serde_json::from_slice(&text).ok();
    let format = json.as_ref().and_then(|json| json.get("format")?.as_u64());
    if let Some(later) = format.filter(|format| *format > FORMAT) {
        return Err(format!("{shown}: format {later} belongs to a later version of Forebay; nothing was changed"));
    }
    let parsed = json.as_ref().filter(|_| format.is_some()).and_then(parse);
    let damaged = || format!("{shown} is damaged: restore it from a backup; nothing was changed");
    parsed.map(Some).ok_or_else(damaged)
}

fn write(path: &Path, json: &Value) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    writeln!(file, "{json}")?;
    file.sync_all()
}

/// The folders of shards, by number. Empty: there is no spool.
///
/// # Errors
/// Those of [`Manifest::read`].
pub(crate) fn of_shards(root: &Path) -> Result<Vec<PathBuf>, String> {
    let shards = Manifest::read(root)?.map_or(0, |manifest| manifest.shards);
    Ok((0..shards).map(|shard| root.join(shard.to_string())).collect())
}

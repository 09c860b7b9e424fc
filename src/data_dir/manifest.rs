//! The spool's description files: `spool/manifest.json`, and `shard.json` in the folder of each shard. They are written before any
//! segment, and change with the folders. By them startup detects a folder that is missing, one too many, a volume that is not mounted, and
//! folders that belong to another data directory. A damaged file is written again: the other files and the headers of the segments contain
//! the same data.

use std::fs;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::DataDirId;
use crate::files;
use crate::runtime::{segments_in, sync_folder};

/// File name in the folder of the spool.
pub(crate) const MANIFEST: &str = "manifest.json";
/// File name in the folder of a shard.
const SHARD: &str = "shard.json";
/// The format of both files.
const FORMAT: u64 = 1;
/// The key of the CRC32C of the file's other keys.
const CHECKSUM: &str = "crc32c";
/// The largest size of such a file.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The folder that `mkfs` creates at the root of a volume.
const LOST_AND_FOUND: &str = "lost+found";

/// The contents of `manifest.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// A random id, chosen with the first spool of a data directory and kept from then on. `None`: no file has it.
    pub(crate) directory: Option<DataDirId>,
    /// Number of folders; they are numbered from 0.
    pub(crate) shards: usize,
}

/// The contents of `shard.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    directory: DataDirId,
    shard: usize,
    /// Number of shards; `None`: an earlier version wrote the file.
    shards: Option<usize>,
}

/// Files to write again: they are damaged and other files have the same data, or an earlier version wrote them without a checksum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Path, shard of the file (`None`: the manifest), and whether the file is damaged.
    files: Vec<(PathBuf, Option<usize>, bool)>,
}

impl Mended {
    /// The paths of the damaged files.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter(|(.., is_damaged)| *is_damaged).map(|(path, ..)| path.as_path())
    }

    /// The data directory that the segments of these folders name; 0: none.
    ///
    /// # Errors
    /// The segments name different data directories.
    pub(super) fn settle<'a>(
        &mut self,
        root: &Path,
        said: Option<DataDirId>,
        named: impl Iterator<Item = (&'a Path, u128)>,
    ) -> Result<DataDirId, String> {
        let mut directory = said;
        for (folder, id) in named.filter(|(_, id)| *id != 0) {
            let known = *directory.get_or_insert(DataDirId::from_number(id));
            if known.number() != id {
                return Err(format!(
                    "{}: its segments belong to another data directory than {} names; nothing was changed. Put each folder back to \
                     its own place",
                    folder.display(),
                    root.join(MANIFEST).display()
                ));
            }
        }
        // Nothing was ever stored in the spool.
        Ok(directory.unwrap_or_else(DataDirId::random))
    }

    /// Writes the files again. A file that cannot be written stays as it is: the next process finds it the same way, and continues too.
    pub(super) fn write(&self, directory: DataDirId, shards: usize) -> Vec<Written<'_>> {
        let manifest = Manifest::new(directory, shards);
        let again = |path: &Path, shard: &Option<usize>| {
            let json = match shard {
                Some(shard) => manifest.shard(directory, *shard).json(),
                None => manifest.json(directory),
            };
            let next = path.with_extension("new");
            fill(&files::make_anew(&next)?, &json)?;
            fs::rename(&next, path)?;
            sync_folder(path.parent().unwrap_or(Path::new(".")))
        };
        let each = self.files.iter();
        each.map(|(path, shard, is_damaged)| Written { path, is_damaged: *is_damaged, result: again(path, shard) })
            .collect()
    }
}

/// A file that was written again, with the result.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) path: &'a Path,
    /// Whether the file is damaged, and does not only lack the checksum, as in an earlier version.
    pub(super) is_damaged: bool,
    pub(super) result: io::Result<()>,
}

impl Manifest {
    pub(super) const fn new(directory: DataDirId, shards: usize) -> Self {
        Self { directory: Some(directory), shards }
    }

    fn json(self, directory: DataDirId) -> Value {
        json!({ "format": FORMAT, "directory": directory.to_string(), "shards": self.shards })
    }

    const fn shard(self, directory: DataDirId, shard: usize) -> Shard {
        Shard { directory, shard, shards: Some(self.shards) }
    }

    /// Writes the manifest of a spool. The caller syncs the folder.
    pub(super) fn write(root: &Path, directory: DataDirId, shards: usize) -> io::Result<()> {
        write(&root.join(MANIFEST), &Self::new(directory, shards).json(directory))
    }

    /// Writes the description file of a shard's folder.
    pub(super) fn write_shard(folder: &Path, directory: DataDirId, (shard, shards): (usize, usize)) -> io::Result<()> {
        write(&folder.join(SHARD), &Self::new(directory, shards).shard(directory, shard).json())
    }

    /// Reads the manifest, and compares the folders with it. `None`: there is no spool, or one in which nothing was ever stored. The
    /// second part has the damaged files with data that is available elsewhere.
    ///
    /// # Errors
    /// The inconsistency, and the cure, for an operator.
    pub(super) fn read(root: &Path) -> Result<Option<(Self, Mended)>, String> {
        let shown = root.display();
        let failed = |error: io::Error| format!("spool in {shown}: {error}");
        let Some((folders, others)) = listed(root).map_err(failed)? else { return Ok(None) };
        let path = root.join(MANIFEST);
        let parse = |json: &Value| Some(Self { directory: Some(directory(json)?), shards: number(json, "shards")? });
        let mut mended = Mended::default();
        let manifest = match read(&path, parse)? {
            Read::Missing => return without(root, &folders, &others).map(|()| None),
            Read::Is(manifest, is_sealed) => {
                mended.files.extend((!is_sealed).then_some((path, None, false)));
                manifest
            }
            Read::Damaged => {
                mended.files.push((path, None, true));
                Self::of_folders(root, &folders)?
            }
        };
        if let Some(number) = folders.iter().find(|number| **number >= manifest.shards) {
            return Err(format!(
                "spool in {shown}: the folder {number} is one too many: {MANIFEST} names {} shards. If it holds messages, it \
                 belongs to another spool; move it there, or away",
                manifest.shards
            ));
        }
        for shard in 0..manifest.shards {
            manifest.check_shard(root, shard, folders.contains(&shard), &mut mended)?;
        }
        Ok(Some((manifest, mended)))
    }

    /// The manifest from the shards' folders, if the file is damaged.
    fn of_folders(root: &Path, folders: &[usize]) -> Result<Self, String> {
        let mut manifest = Self { directory: None, shards: folders.len() };
        for number in folders {
            if let Read::Is(shard, _) = read(&root.join(number.to_string()).join(SHARD), Shard::parse)? {
                manifest.directory.get_or_insert(shard.directory);
                manifest.shards = shard.shards.unwrap_or(manifest.shards);
            }
        }
        Ok(manifest)
    }

    fn check_shard(self, root: &Path, shard: usize, there: bool, mended: &mut Mended) -> Result<(), String> {
        let folder = root.join(shard.to_string());
        let shown = folder.display();
        let lost = || {
            let text = self.directory.map(|directory| self.shard(directory, shard).json().to_string());
            format!(
                "mount the volume or restore the folder. If what it held is lost for good, and only then, write the file \
                 {shown}/{SHARD} with the text {}",
                text.as_deref().unwrap_or("of the others, and this shard's number")
            )
        };
        if !there {
            return Err(format!("the folder of shard {shard} is missing: {shown}; {}", lost()));
        }
        let path = folder.join(SHARD);
        match read(&path, Shard::parse)? {
            Read::Missing => Err(format!("the folder of shard {shard} has no {SHARD}: {shown}; {}", lost())),
            Read::Damaged => {
                mended.files.push((path, Some(shard), true));
                Ok(())
            }
            Read::Is(found, is_sealed)
                if found.shard == shard && self.directory.is_none_or(|of| of == found.directory) =>
            {
                mended.files.extend((!is_sealed).then_some((path, Some(shard), false)));
                Ok(())
            }
            Read::Is(found, _) => Err(format!(
                "{shown} is the folder of shard {} of the data directory {}, not of shard {shard}{}: put each folder \
                 back to its own place",
                found.shard,
                found.directory,
                self.directory.map(|directory| format!(" of {directory}")).unwrap_or_default()
            )),
        }
    }
}

impl Shard {
    fn json(self) -> Value {
        let directory = self.directory.to_string();
        json!({ "format": FORMAT, "directory": directory, "shard": self.shard, "shards": self.shards })
    }

    fn parse(json: &Value) -> Option<Self> {
        Some(Self { directory: directory(json)?, shard: number(json, "shard")?, shards: number(json, "shards") })
    }
}

fn directory(json: &Value) -> Option<DataDirId> {
    json.get("directory")?.as_str()?.parse().ok()
}

fn number(json: &Value, name: &str) -> Option<usize> {
    json.get(name)?.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// The folders of shards by number, and the names of everything else; `None`: there is no spool folder.
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

/// Checks the folders if there is no manifest: only folders in which nothing was ever stored are allowed.
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

/// The result of reading a file.
enum Read<T> {
    Missing,
    Damaged,
    /// The contents, and whether the file has a checksum, which is correct.
    Is(T, bool),
}

fn read<T>(path: &Path, parse: impl FnOnce(&Value) -> Option<T>) -> Result<Read<T>, String> {
    let shown = path.display();
    let text = match small_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) => return Err(format!("{shown}: {error}; nothing was changed")),
        Ok(text) => text,
    };
    let json: Option<Value> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(json) = json.filter(|json| checksum(json).is_none_or(|(said, is)| said == is)) else {
        return Ok(Read::Damaged);
    };
    let format = json.get("format").and_then(Value::as_u64);
    if let Some(later) = format.filter(|format| *format > FORMAT) {
        return Err(format!("{shown}: format {later} belongs to a later version of Forebay; nothing was changed"));
    }
    let parsed = format.and_then(|_| parse(&json));
    Ok(parsed.map_or(Read::Damaged, |parsed| Read::Is(parsed, json.get(CHECKSUM).is_some())))
}

/// The checksum in a file, if there is one, and the correct one for its other keys.
fn checksum(json: &Value) -> Option<(u64, u64)> {
    let said = json.get(CHECKSUM)?.as_u64().unwrap_or(u64::MAX);
    let mut rest = json.clone();
    rest.as_object_mut()?.remove(CHECKSUM);
    Some((said, crc32c::crc32c(rest.to_string().as_bytes()).into()))
}

/// A file's bytes; `None`: it is no regular file, or larger than any description file.
fn small_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = fs::metadata(path)?;
    if file.is_file() && file.len() <= FILE_BYTES_MAX { fs::read(path).map(Some) } else { Ok(None) }
}

fn write(path: &Path, json: &Value) -> io::Result<()> {
    fill(&File::create_new(path)?, json)
}

fn fill(mut file: &File, json: &Value) -> io::Result<()> {
    let mut json = json.clone();
    json[CHECKSUM] = crc32c::crc32c(json.to_string().as_bytes()).into();
    writeln!(file, "{json}")?;
    file.sync_all()
}

/// The folders of shards, by number. Empty: there is no spool.
///
/// # Errors
/// Those of [`Manifest::read`].
pub(crate) fn of_shards(root: &Path) -> Result<Vec<PathBuf>, String> {
    let shards = Manifest::read(root)?.map_or(0, |(manifest, _)| manifest.shards);
    Ok((0..shards).map(|shard| root.join(shard.to_string())).collect())
}

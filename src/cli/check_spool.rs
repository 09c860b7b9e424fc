//! Checks of the disk buffer for `forebay check`: whether its folder is writable, whether its file system syncs for real, whether
//! it has room, whether its segments belong to a shard; and where each sink's rows are stored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::check::{Line, Verdict};
use crate::buffer::{Counts, Report};
use crate::config::{Acknowledge, Buffer, Config, Sink, Spool};
use crate::data_dir::{Found, FoundShard, of_shards};
use crate::runtime::{FolderLock, file_system_advice, segments_in};

/// Adds the lines of the disk buffer. Nothing is created: a folder that does not exist is judged by the one that it would be in.
pub(super) fn of_spool(config: &Config, lines: &mut Vec<Line>) {
    let root = config.spool_dir();
    let mut push = |verdict, text: String| lines.push(Line { verdict, about: "spool".to_owned(), text });
    if config.spool.is_some() || root.exists() || config.service.data_dir_id.is_some() {
        left(config, &root).into_iter().for_each(|(verdict, text)| push(verdict, text));
    }
    let Some(spool) = &config.spool else { return };
    let there = nearest(&root);
    let (verdict, text) = match access(&there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => (Verdict::Ok, format!("{} is writable", there.display())),
        Err(error) => (
            Verdict::Problem,
            format!("{} is not writable: {error}; `service.data_dir` sets the directory", there.display()),
        ),
    };
    push(verdict, text);
    match file_system_advice(&there) {
        Ok(Some(advice)) => push(Verdict::Warning, format!("{}: {advice}", there.display())),
        Ok(None) => {}
        Err(error) => {
            push(Verdict::Warning, format!("{}: the file system cannot be determined: {error}", there.display()))
        }
    }
    let (verdict, text) = match room(&there, &root) {
        Ok(free) => enough(spool, free, &there),
        Err(error) => (Verdict::Warning, format!("{}: the free space cannot be determined: {error}", there.display())),
    };
    push(verdict, text);
    for sink in &config.sinks {
        lines.push(Line { verdict: Verdict::Ok, about: format!("sink {}", sink.name), text: keeps(sink) });
    }
}

/// Checks the rows of an earlier process, whether they belong to a shard, and their damage.
fn left(config: &Config, root: &Path) -> Vec<(Verdict, String)> {
    let shown = root.display();
    // A running service writes there: a scan would find unfinished groups.
    let lock = FolderLock::share(&config.service.data_dir);
    match &lock {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let text = format!("{shown} is in use, by this service if it is running; its contents were not checked");
            return vec![(Verdict::Ok, text)];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return vec![(Verdict::Problem, format!("data directory of {shown}: {error}"))],
        Ok(_) => {}
    }
    let looked = Found::look(root).and_then(|found| {
        found.refuse_other_directory(config)?;
        found.refuse_homeless(config, root)?;
        if !root.exists() {
            return Ok(vec![(Verdict::Ok, format!("{shown} does not exist yet; the service creates it"))]);
        }
        let reports = found.reports()?;
        Ok(std::iter::once(of_start(config, root, &found, &reports)).chain(damaged(&found, &reports)).collect())
    });
    looked.unwrap_or_else(|why| vec![(Verdict::Problem, why)])
}

/// The line about the rows that the service would find when it starts.
fn of_start(config: &Config, root: &Path, found: &Found, reports: &[(&FoundShard, Report)]) -> (Verdict, String) {
    let (shown, rows, shards) = (root.display(), found.live_rows(), found.shards.len());
    if shards > 0 && shards != config.service.shards && rows > 0 && config.spool.is_some() {
        let text = format!(
            "{shown} holds {rows} records of {shards} shards: the service runs with {shards} shards instead of {} until they are in Kafka",
            config.service.shards
        );
        return (Verdict::Warning, text);
    }
    let id = found.directory().map(|id| format!(" (data_dir_id {id})")).unwrap_or_default();
    let mut kept = Counts::default();
    reports.iter().for_each(|(_, report)| kept.add_all(&report.kept));
    let records = format!("{rows} record{}", if rows == 1 { "" } else { "s" });
    (Verdict::Ok, format!("{shown}{id} holds {records} and {kept} for the next start"))
}

/// The damage that the service would find and skip, folder by folder.
fn damaged(found: &Found, reports: &[(&FoundShard, Report)]) -> Vec<(Verdict, String)> {
    let files = found.mended.damaged().map(|path| format!("{} is damaged; the start writes it again", path.display()));
    let mut said: Vec<String> = files.collect();
    for (shard, report) in reports {
        let folder = shard.folder.display();
        said.extend(shard.others.iter().map(|name| format!("{folder}/{name} is no file, and is left alone")));
        if report.is_damaged() {
            said.push(format!("{folder} is damaged, and the start goes on without what cannot be read: {report}"));
        }
    }
    said.into_iter().map(|text| (Verdict::Warning, text)).collect()
}

/// The folder itself, or its nearest ancestor that exists.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|folder| folder.is_dir());
    there.filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")).to_owned()
}

/// The bytes that the spool may use there: free ones, and those of its own segments.
fn room(there: &Path, root: &Path) -> io::Result<u64> {
    let told = statvfs(there)?;
    let mut own = 0;
    for folder in of_shards(root).unwrap_or_default() {
        if fs::metadata(&folder).is_ok() {
            own += segments_in(&folder)?.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
    }
    Ok((told.f_bavail * told.f_frsize).saturating_add(own))
}

fn enough(spool: &Spool, free: u64, there: &Path) -> (Verdict, String) {
    let (there, wanted) = (there.display(), spool.bytes_max);
    let mib = |bytes: u64| bytes >> 20;
    if free >= wanted {
        return (
            Verdict::Ok,
            format!("bytes_max {} MiB, the file system of {there} has {} MiB", mib(wanted), mib(free)),
        );
    }
    let text = format!(
        "bytes_max {} MiB exceeds the file system of {there} ({} MiB): the disk would be full before the spool is; lower bytes_max or free space",
        mib(wanted),
        mib(free)
    );
    (Verdict::Warning, text)
}

/// The place of a sink's rows, and the meaning of its acknowledgements there.
fn keeps(sink: &Sink) -> String {
    let spill = sink.spill_after >> 10;
    let kept = match sink.buffer {
        Buffer::Memory => "records are kept in memory".to_owned(),
        Buffer::Disk => format!("records are kept on disk, and up to {spill} KiB also in memory"),
        Buffer::Hybrid => {
            format!(
                "records are kept in memory up to {spill} KiB, beyond it on disk; both are lost when the process ends"
            )
        }
        Buffer::HybridSaved => {
            format!("records are kept in memory up to {spill} KiB, beyond it on disk; a clean stop saves them")
        }
    };
    let answered = match sink.acknowledge {
        Acknowledge::Stored => "acknowledged when synced to disk",
        Acknowledge::Replicated => "acknowledged when all in-sync replicas have them",
        Acknowledge::Leader => "acknowledged when the leader has them",
        Acknowledge::Received => "acknowledged when received",
    };
    format!("{kept}; {answered}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let config = crate::config::parse(text, "test").unwrap_or_else(|problems| panic!("{problems}"));
        let mut lines = Vec::new();
        of_spool(&config, &mut lines);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_folder_its_file_system_and_its_room() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let service = format!("[service]\nshards = 1\npin = false\ndata_dir = '{}'\n", data.display());
        assert_eq!(said(&service), "");
        let text = said(&format!("{service}[spool]\nbytes_max = '1PiB'").replace("1PiB", "1024TiB"));
        assert!(text.contains("warning  spool: bytes_max 1073741824 MiB exceeds the file system"), "{text}");
        assert!(text.contains("does not exist yet") && text.contains("is writable"), "{text}");
        assert!(text.contains(
            "sink default: records are kept on disk, and up to 65536 KiB also in memory; acknowledged when synced"
        ));
        assert!(!data.exists(), "nothing is made");
        let small = format!(
            "{service}[spool]\nbytes_max = '64MiB'\n[[sink]]\nname = 'm'\nfilters = '#'\ntopic = 't'\nbuffer = 'memory'"
        );
        let text = said(&small);
        assert!(text.contains("ok       spool: bytes_max 64 MiB"), "{text}");
        assert!(text.contains("sink m: records are kept in memory; acknowledged when all in-sync"), "{text}");
        let memory = said("[service]\nshards = 1\npin = false\ndata_dir = '/dev/shm/forebay-not-there'\n[spool]");
        if fs::read_to_string("/proc/mounts").unwrap().contains(" /dev/shm tmpfs ") {
            assert!(memory.contains("warning  spool: /dev/shm: this file system is in memory"), "{memory}");
        }
    }

    #[test]
    fn a_folder_in_use_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("spool/0")).unwrap();
        let service = format!("[service]\nshards = 1\npin = false\ndata_dir = '{}'\n", dir.path().display());
        let held = FolderLock::take(dir.path()).unwrap();
        assert!(said(&format!("{service}[spool]")).contains("is in use"));
        drop(held);
        assert!(said(&format!("{service}[spool]")).contains("holds 0 records and nothing for the next start"));
        assert!(said(&service).contains("ok       spool"));
        fs::write(crate::runtime::segment_path(&dir.path().join("spool/0"), 0), b"x").unwrap();
        assert!(said(&format!("{service}[spool]")).contains("PROBLEM  spool: "));
    }
}

//! Starts with another number of shards. The program's steps before its shards have their folders (`forebay::data_dir`) are
//! not modelled: they run, on a real directory with the contents of the disks.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use forebay::config::{Config, DataDirId};
use forebay::data_dir::prepare;
use forebay::runtime::seam::Segments as _;
use forebay::runtime::{note_path, read_note, segment_path, segments_in, write_note};
use tempfile::TempDir;

use crate::disk::{Disk, Folder};
use crate::time::stream;
use crate::world::World;

/// The directory, with a manifest. The next field: the id in the manifest.
#[derive(Debug)]
pub(crate) struct DataDir {
    dir: TempDir,
    id: DataDirId,
}

impl DataDir {
    fn new(mut config: Config) -> Self {
        // The directory need not survive a power cut: it is created in memory where possible.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a directory");
        config.service.data_dir = dir.path().to_owned();
        prepare(&mut config).expect("a new data directory");
        Self { dir, id: config.service.data_dir_id.expect("it has one now") }
    }

    fn folder(&self, shard: usize) -> PathBuf {
        self.dir.path().join("spool").join(shard.to_string())
    }

    fn write(&self, disks: &[Disk]) {
        for (shard, disk) in disks.iter().enumerate() {
            for (segment, bytes) in disk.lengths() {
                let file = File::create(segment_path(&self.folder(shard), segment)).expect("a segment");
                file.set_len(bytes).and_then(|()| file.write_all_at(&disk.bytes(segment), 0)).expect("written");
            }
            if let Some(note) = disk.read_note() {
                write_note(&self.folder(shard), &note).expect("written");
            }
        }
    }

    /// The segments of a shard, number and bytes, and the note beside them.
    fn read(&self, shard: usize) -> Folder {
        let folder = self.folder(shard);
        let found = segments_in(&folder).expect("a folder for each shard");
        let read = |(number, _)| (number, fs::read(segment_path(&folder, number)).expect("read"));
        (found.into_iter().map(read).collect(), read_note(&folder))
    }

    fn clear(&self, shards: usize) {
        for folder in (0..shards).map(|shard| self.folder(shard)) {
            for (number, _) in segments_in(&folder).expect("a folder for each shard") {
                fs::remove_file(segment_path(&folder, number)).expect("removed");
            }
            let _ = fs::remove_file(note_path(&folder));
        }
    }
}

impl World {
    /// Draws the number of shards of this process, and has the disks made as that needs them.
    ///
    /// # Errors
    /// The reason why the start was refused.
    pub(crate) fn configured(&mut self) -> Result<Config, String> {
        let has = self.disks.len();
        let mut rng = stream(self.plan.seed, &format!("shards {}", self.life));
        let wanted = rng.usize(1..4);
        let stays = !self.plan.hostile.shards || self.storm_over || has == 0 || wanted == has || rng.bool();
        if stays || self.settings.spool.is_none() || self.disks.iter().any(|disk| disk.health.reads_fail) {
            let mut config = self.settings.config();
            config.service.data_dir_id = self.data_dir.as_ref().map(|data_dir| data_dir.id);
            return Ok(config);
        }
        fastrand::seed(self.plan.seed ^ u64::from(self.life) << 40);
        let before = self.settings.config();
        let data_dir = self.data_dir.take().unwrap_or_else(|| DataDir::new(before));
        data_dir.write(&self.disks);
        self.settings.shards = wanted;
        let mut result = self.prepared(&data_dir);
        if result.as_ref().is_err_and(|why| why.contains("its buffer is now \"memory\"")) {
            // The operator reads the reason, and puts the buffers back.
            self.put_buffers_back();
            result = self.prepared(&data_dir);
        }
        let shards = result.as_ref().map_or(has, |config| config.service.shards);
        self.note(|| format!("{has} shards, {wanted} are configured: {shards}, {:?}", result.as_ref().err()));
        if shards != has {
            let plan = &self.plan;
            let disk = |shard| {
                let rng = stream(plan.seed, &format!("disk {shard} of life {}", self.life));
                let mut disk = Disk::with(data_dir.read(shard), rng);
                disk.health.slowest = plan.sync;
                disk.health.reads_later = self.disks[0].health.reads_later;
                disk
            };
            self.disks = (0..shards).map(disk).collect();
            self.judge.moved += 1;
        }
        data_dir.clear(shards);
        self.settings.shards = shards;
        self.data_dir = Some(data_dir);
        // The values for each shard were calculated for the configured number of shards.
        result.map(|config| Config { service: config.service, ..self.settings.config() })
    }

    fn prepared(&self, data_dir: &DataDir) -> Result<Config, String> {
        let mut config = self.settings.config();
        config.service.data_dir = data_dir.dir.path().to_owned();
        prepare(&mut config).map(|_| config)
    }
}

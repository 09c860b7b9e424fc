//! Requirements on the host, checked before anything is opened, each finding with its cure.

use std::{fmt, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Oldest kernel of the ring: multishot receive came with 6.0, `DEFER_TASKRUN` with 6.1.
const RING_KERNEL_MIN: (u32, u32) = (6, 1);
/// Oldest kernel that Forebay supports: RHEL 8's, the oldest that is still maintained. An older one causes a warning, not a
/// refusal: gVisor reports 4.4 and has all that is needed.
const KERNEL_MIN: (u32, u32) = (4, 18);
/// The memory that an executor's rings must be able to lock.
const MEMLOCK_BYTES_PER_SHARD: u64 = 512 << 10;
/// Descriptors that the service itself needs, beside one a device.
const OPEN_FILES_MIN: u64 = 1_024;

/// The value of `service.io`: the I/O driver of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// Use io_uring, or epoll where this host has no ring for shards.
    #[default]
    Auto,
    /// Use io_uring.
    Ring,
    /// Use epoll.
    Epoll,
}

/// The result of [`Host::examine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether shards use io_uring; otherwise epoll.
    pub uses_ring: bool,
    /// All findings, fatal ones first.
    pub findings: Vec<Finding>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the service cannot start with this.
    pub fatal: bool,
    /// The problem.
    pub what: String,
    /// The cure.
    pub advice: String,
}

impl Finding {
    /// Makes a finding the warning with which shards use epoll.
    fn falls_back(&mut self) {
        self.fatal = false;
        self.what += ". Shards use epoll instead, which takes more CPU for each message";
        self.advice += "; `service.io = \"epoll\"` starts without this warning";
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.advice)
    }
}

/// The facts of the host, apart from reading them, so that every verdict can be tested.
#[derive(Clone, Debug)]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub release: String,
    /// `kernel.io_uring_disabled`; absent on kernels without it.
    pub io_uring_disabled: Option<String>,
    /// The error of a ring with the flags that shards need; `Ok` also where `service.io` wants none.
    pub ring: Result<(), String>,
    /// Memory that may be locked; `None`: without limit.
    pub memlock_bytes: Option<u64>,
    /// Files that may be open; `None`: without limit.
    pub open_files: Option<u64>,
}

impl Host {
    /// Reads the host, after raising the soft limits of open files and locked memory to the hard ones.
    #[must_use]
    pub fn read(ring: Result<(), String>) -> Self {
        Self {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring_disabled: std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .map(|text| text.trim().to_owned()),
            ring,
            memlock_bytes: raised(Resource::Memlock),
            open_files: raised(Resource::Nofile),
        }
    }

    /// The most descriptors in use at which a device is accepted: an eighth of all, 64 to 4,096, and eight for each shard, are
    /// reserved for connections to Kafka, segments and the control plane.
    #[must_use]
    pub fn device_descriptors(&self, shards: usize) -> u32 {
        let Some(has) = self.open_files else { return u32::MAX };
        u32::try_from(has.saturating_sub(kept(has, shards)).max(has / 2)).unwrap_or(u32::MAX)
    }

    /// The reserved descriptors that the control plane may use: a half, so that connections to Kafka and segments have the other.
    #[must_use]
    pub fn control_descriptors(&self, shards: usize) -> usize {
        self.open_files.map_or(usize::MAX, |has| usize::try_from(kept(has, shards) / 2).unwrap_or(usize::MAX))
    }

    /// Decides the shards' I/O driver, and lists the findings.
    #[must_use]
    pub fn examine(&self, shards: usize, choice: IoChoice) -> Verdict {
        let mut findings = if choice == IoChoice::Epoll { Vec::new() } else { self.lacks_of_ring(shards) };
        let uses_ring = choice == IoChoice::Ring || (choice == IoChoice::Auto && findings.is_empty());
        if !uses_ring {
            // One warning names the most general reason.
            findings.truncate(1);
            findings.iter_mut().for_each(Finding::falls_back);
            findings.extend(self.kernel(KERNEL_MIN));
        }
        findings.extend(self.files(shards));
        findings.sort_by_key(|finding| !finding.fatal);
        Verdict { uses_ring, findings }
    }

    /// The reasons why shards cannot have rings, the most general one first.
    fn lacks_of_ring(&self, shards: usize) -> Vec<Finding> {
        [self.kernel(RING_KERNEL_MIN), self.io_uring(), self.memlock(shards as u64)].into_iter().flatten().collect()
    }

    fn kernel(&self, min: (u32, u32)) -> Option<Finding> {
        let mut parts = self.release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        let version = (parts.next()?, parts.next()?);
        (version < min).then(|| match min {
            RING_KERNEL_MIN => Finding {
                fatal: true,
                what: format!("this kernel is {}, and a ring needs io_uring features of 6.1", self.release),
                advice: "Run on Linux 6.1 or later (Debian 12, Ubuntu 24.04, RHEL 10 and newer have it)".into(),
            },
            (major, minor) => Finding {
                fatal: false,
                what: format!("this kernel is {}, and Forebay is made for {major}.{minor} and later", self.release),
                advice: format!("Run on Linux {major}.{minor} or later, better 6.1 or later; under gVisor, whose kernel says 4.4, nothing needs to be done"),
            },
        })
    }

    fn io_uring(&self) -> Option<Finding> {
        let error = self.ring.as_ref().err()?;
        let disabled = self.io_uring_disabled.as_deref().is_some_and(|value| value != "0");
        let advice = if disabled {
            "Allow it: `sysctl kernel.io_uring_disabled=0`"
        } else {
            "In a container, the default seccomp profiles of Docker and Kubernetes block io_uring: allow io_uring_setup, \
             io_uring_enter and io_uring_register in a profile of your own (deploy/container/seccomp.json is one)"
        };
        Some(Finding { fatal: true, what: format!("io_uring is not available: {error}"), advice: advice.into() })
    }

    fn memlock(&self, shards: u64) -> Option<Finding> {
        let (has, needs) = (self.memlock_bytes?, MEMLOCK_BYTES_PER_SHARD * shards);
        (has < needs).then(|| Finding {
            fatal: true,
            what: format!("{} KiB of locked memory are allowed, {shards} shards need {} KiB", has >> 10, needs >> 10),
            advice: "Set LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l unlimited`, or fewer service.shards"
                .into(),
        })
    }

    fn files(&self, shards: usize) -> Option<Finding> {
        let has = self.open_files?;
        (has < OPEN_FILES_MIN * 16).then(|| Finding {
            fatal: has < OPEN_FILES_MIN,
            what: format!("{has} open files are allowed, enough for {} devices", self.device_descriptors(shards)),
            advice: "Set LimitNOFILE=1048576 in the systemd unit, or raise the hard limit (`ulimit -Hn`)".into(),
        })
    }
}

/// Why a shard cannot start, with the cure. The limit of locked memory is for a user, not a process: the amount that the user's
/// other processes have locked is not known beforehand.
#[must_use]
pub fn shard_failed(index: usize, shards: usize, error: &io::Error) -> String {
    let limit = getrlimit(Resource::Memlock).current;
    let is_out_of_memory = error.raw_os_error() == Some(libc::ENOMEM) || error.kind() == io::ErrorKind::OutOfMemory;
    // glommio wraps the kernel's words in its own.
    let is_out_of_memory = is_out_of_memory || error.to_string().contains("Cannot allocate memory");
    match limit {
        Some(bytes) if is_out_of_memory => format!(
            "shard {index} cannot start: {error}. Its rings need locked memory, of which {} KiB are allowed for all processes of this user together, \
             and the others have some of it: set LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l unlimited`, fewer service.shards ({shards}), or `service.io = \"epoll\"`",
            bytes >> 10
        ),
        _ => format!("shard {index} cannot start: {error}"),
    }
}

/// The descriptors, of `has`, that devices do not get.
fn kept(has: u64, shards: usize) -> u64 {
    (has / 8).clamp(64, 4_096) + 8 * shards as u64
}

fn raised(resource: Resource) -> Option<u64> {
    let now = getrlimit(resource);
    if now.current != now.maximum {
        // Missing permission is no error: the soft limit stays in force then.
        let _ = setrlimit(resource, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(resource).current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Host {
        Host {
            release: "6.18.44-cloud".into(),
            io_uring_disabled: Some("0".into()),
            ring: Ok(()),
            memlock_bytes: Some(8 << 20),
            open_files: Some(20_000),
        }
    }

    /// The one finding where a ring is asked for.
    fn only(host: &Host) -> Finding {
        let found = host.examine(2, IoChoice::Ring).findings;
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    #[test]
    fn a_good_host_has_no_findings() {
        for choice in [IoChoice::Auto, IoChoice::Ring] {
            assert_eq!(good().examine(2, choice), Verdict { uses_ring: true, findings: Vec::new() });
        }
        let unlimited = Host { memlock_bytes: None, open_files: None, ..good() };
        assert_eq!(unlimited.examine(64, IoChoice::Auto).findings, []);
    }

    /// Without a usable ring, shards use epoll; one warning has the reason, the cost and the cure. With `ring` the service is
    /// refused, with `epoll` there is no warning.
    #[test]
    fn without_a_ring_there_is_epoll() {
        let lacks = [
            (
                Host { release: "5.15.0-91-generic".into(), ring: Err("no".into()), ..good() },
                "5.15.0-91",
                "6.1 or later",
            ),
            (Host { ring: Err("Operation not permitted".into()), ..good() }, "Operation not permitted", "seccomp"),
            (
                Host { ring: Err("no".into()), io_uring_disabled: Some("2".into()), ..good() },
                "no",
                "io_uring_disabled=0",
            ),
            (Host { memlock_bytes: Some(512 << 10), ..good() }, "512 KiB", "LimitMEMLOCK"),
        ];
        for (host, why, cure) in lacks {
            let Verdict { uses_ring, findings } = host.examine(2, IoChoice::Auto);
            let [warning] = &findings[..] else { panic!("{findings:?}") };
            assert!(
                !uses_ring && !warning.fatal && warning.what.contains(why) && warning.what.contains("CPU"),
                "{warning}"
            );
            assert!(warning.advice.contains(cure) && warning.advice.contains("service.io"), "{warning}");
            let asked = host.examine(2, IoChoice::Ring);
            assert!(asked.uses_ring && asked.findings[0].fatal, "{asked:?}");
            assert_eq!(host.examine(2, IoChoice::Epoll), Verdict { uses_ring: false, findings: Vec::new() });
        }
        let ancient = Host { release: "4.4.0".into(), ..good() };
        for choice in [IoChoice::Auto, IoChoice::Epoll] {
            let found = ancient.examine(2, choice).findings;
            let old = found.last().expect("a finding");
            assert!(!old.fatal && old.what.contains("4.18") && old.advice.contains("gVisor"), "{found:?}");
        }
    }

    #[test]
    fn each_lack_is_named_with_its_cure() {
        let old = only(&Host { release: "5.15.0-91-generic".into(), ..good() });
        assert!(old.fatal && old.what.contains("5.15.0-91") && old.advice.contains("6.1"));
        let blocked = only(&Host { ring: Err("Operation not permitted".into()), ..good() });
        assert!(blocked.fatal && blocked.advice.contains("seccomp"));
        let disabled = Host { ring: Err("no".into()), io_uring_disabled: Some("2".into()), ..good() };
        assert!(only(&disabled).advice.contains("kernel.io_uring_disabled=0"));
        let locked = only(&Host { memlock_bytes: Some(512 << 10), ..good() });
        assert!(locked.fatal && locked.advice.contains("LimitMEMLOCK"));
        let few = only(&Host { open_files: Some(4_096), ..good() });
        assert!(!few.fatal && few.advice.contains("LimitNOFILE"));
        assert!(only(&Host { open_files: Some(256), ..good() }).fatal);
    }

    /// X48: a sixteenth, and at least 512.
    #[test]
    fn some_descriptors_are_kept_from_devices() {
        let of = |open_files| Host { open_files, ..good() }.device_descriptors(2);
        assert_eq!([of(Some(1_024)), of(Some(1 << 20))], [1_024 - 128 - 16, (1 << 20) - 4_096 - 16]);
        assert_eq!([of(Some(100)), of(None)], [50, u32::MAX]);
        let of = |open_files| Host { open_files, ..good() }.control_descriptors(2);
        assert_eq!([of(Some(1_024)), of(Some(1 << 20)), of(None)], [72, 2_056, usize::MAX]);
    }

    #[test]
    fn finding_f12_memory_that_other_processes_have_locked_is_named() {
        let limit = getrlimit(Resource::Memlock);
        let of = |error: io::Error| shard_failed(7, 8, &error);
        let (none, other) =
            (of(io::Error::from_raw_os_error(libc::ENOMEM)), of(io::Error::from_raw_os_error(libc::EPERM)));
        let wrapped = of(io::Error::other("failed to make a ring: Cannot allocate memory (os error 12)"));
        for said in [none, wrapped] {
            assert!(said.starts_with("shard 7 cannot start: ") && said.contains("Cannot allocate memory"), "{said}");
            assert_eq!(said.contains("LimitMEMLOCK"), limit.current.is_some(), "{said}");
        }
        assert!(!other.contains("LimitMEMLOCK"), "{other}");
    }

    #[test]
    fn fatal_findings_come_first() {
        let host = Host { open_files: Some(4_096), ring: Err("no".into()), ..good() };
        let found = host.examine(1, IoChoice::Ring).findings;
        assert!(found[0].fatal && !found[1].fatal);
    }
}

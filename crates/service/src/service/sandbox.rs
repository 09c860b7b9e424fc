//! The sandbox takes privileges from a serving process that it does not need: writing anywhere but to its own folders, and
//! starting programs (Landlock); system calls that an intruder would use (seccomp). Restrictions that the kernel does not support
//! are left out, and reported.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, AccessFs, BitFlags, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus,
};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter_all_threads};

/// The first version of Landlock with all restrictions that are wanted; an older one has some of them.
const LANDLOCK: ABI = ABI::V5;

/// Calls that a serving process does not make. Rings are created when it starts.
const DENIED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
];

/// The restriction of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// All restrictions are in force.
    Restricted,
    /// This kernel supports only some of them.
    InPart,
    /// None: this kernel has no Landlock, or does not let this process use it.
    Free,
}

impl Files {
    /// The word in logs and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restricted => "full",
            Self::InPart => "partial",
            Self::Free => "unavailable",
        }
    }
}

/// The restriction in force.
static FILES: OnceLock<Files> = OnceLock::new();

/// The restriction of this process; `None`: none was wanted.
#[must_use]
pub fn files() -> Option<Files> {
    FILES.get().copied()
}

/// A hint, for an error of a file, that the sandbox may be the cause; empty if it cannot.
#[must_use]
pub fn hint(error: &io::Error) -> &'static str {
    let is_restricted = files().is_some_and(|files| files != Files::Free);
    if is_restricted && error.kind() == io::ErrorKind::PermissionDenied {
        "; the sandbox allows writing only to folders that the configuration named at the start: restart the service for others"
    } else {
        ""
    }
}

/// Restricts this thread, and the threads that it starts: they write and create files only below `folders` and start no programs.
/// Reading stays free: names of hosts and renewed certificates are read from anywhere. Folders that do not exist are skipped.
///
/// Linux 6.18 cannot restrict running threads, so this comes before the first of them.
///
/// # Errors
/// The kernel refuses a restriction that it claims to support.
pub fn restrict_files(folders: &[PathBuf]) -> Result<(), String> {
    let files =
        restrict(folders).map_err(|error| format!("sandbox: {error}; `service.sandbox = false` starts without it"))?;
    let _ = FILES.set(files);
    Ok(())
}

fn restrict(folders: &[PathBuf]) -> Result<Files, RulesetError> {
    let denied = AccessFs::from_write(LANDLOCK) | AccessFs::Execute;
    let devices = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let own = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let mut rules = Ruleset::default().handle_access(denied)?.create()?;
    let granted = folders.iter().map(|folder| (folder.as_path(), own)).chain([(Path::new("/dev"), devices)]);
    for (folder, access) in granted {
        // A missing folder cannot be named to the kernel.
        let Ok(folder) = PathFd::new(folder) else { continue };
        rules = rules.add_rule(beneath(folder, access))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Files::Restricted,
        RulesetStatus::PartiallyEnforced => Files::InPart,
        RulesetStatus::NotEnforced => Files::Free,
    })
}

fn beneath(folder: PathFd, access: BitFlags<AccessFs>) -> PathBeneath<PathFd> {
    PathBeneath::new(folder, access).set_compatibility(landlock::CompatLevel::BestEffort)
}

/// Denies all threads of this process the calls that a serving process does not need: EPERM.
///
/// # Errors
/// The kernel has no seccomp filters, or does not let this process use them.
pub fn deny_calls() -> Result<(), String> {
    let rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().map_err(|_| format!("unknown for {}", std::env::consts::ARCH))?;
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch).map_err(|error| error.to_string())?;
    let program: seccompiler::BpfProgram =
        filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::fd::AsFd as _;
    use std::process::Command;

    use super::*;

    /// Names the folder for [`inside`].
    const FOLDER: &str = "FOREBAY_TEST_SANDBOX";

    /// X72: what a process in the sandbox cannot do.
    #[test]
    fn what_is_denied_is_denied_to_every_thread() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("own")).unwrap();
        fs::write(dir.path().join("foreign"), "").unwrap();
        // A child process is used: there is no way out of the sandbox.
        let test = "service::sandbox::tests::inside";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", "--ignored", test]).env(FOLDER, dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by what_is_denied_is_denied_to_every_thread, in a process of its own"]
    fn inside() {
        let Some(dir) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
        let own = dir.join("own");
        restrict_files(&[own.clone(), dir.join("not there")]).unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            wait.recv().unwrap();
            denied_calls()
        });
        deny_calls().unwrap();
        go.send(()).unwrap();
        assert_eq!(other.join().unwrap(), denied_calls());
        assert_eq!(denied_calls(), [libc::EPERM, libc::EPERM]);

        if files() == Some(Files::Free) {
            return;
        }
        fs::write(own.join("a"), "x").unwrap();
        fs::create_dir(own.join("below")).unwrap();
        fs::rename(own.join("a"), own.join("below/a")).unwrap();
        fs::write(own.join("below/a"), "shorter").unwrap();
        fs::remove_dir_all(own.join("below")).unwrap();
        fs::write("/dev/null", "x").unwrap();
        assert_eq!(fs::read(dir.join("foreign")).unwrap(), b"", "reading is free");
        let denied = |outcome: std::io::Result<()>| outcome.unwrap_err().kind();
        assert_eq!(denied(fs::write(dir.join("foreign"), "x")), ErrorKind::PermissionDenied);
        assert_eq!(denied(fs::write(dir.join("new"), "x")), ErrorKind::PermissionDenied);
        assert_eq!(denied(fs::create_dir(dir.join("folder"))), ErrorKind::PermissionDenied);
        assert_eq!(denied(fs::remove_file(dir.join("foreign"))), ErrorKind::PermissionDenied);
        assert_eq!(
            denied(fs::File::options().append(true).open(dir.join("foreign")).map(drop)),
            ErrorKind::PermissionDenied
        );
        assert!(hint(&ErrorKind::PermissionDenied.into()).contains("sandbox"));
    }

    /// The kernel's errors for an invalid namespace (otherwise EINVAL), and for a program.
    fn denied_calls() -> [i32; 2] {
        let null = fs::File::open("/dev/null").unwrap();
        let space = rustix::thread::move_into_link_name_space(null.as_fd(), None).expect_err("a namespace");
        let program = Command::new("/bin/true").status().expect_err("a program");
        [space.raw_os_error(), program.raw_os_error().unwrap()]
    }
}

//! systemd's notify protocol. Without `NOTIFY_SOCKET` in the environment the calls do nothing.

use sd_notify::NotifyState;

/// Reports that the service accepts devices.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the service drains; `grace_s` more seconds may be needed.
pub fn stopping(grace_s: u32) {
    let more_us = grace_s.saturating_add(5).saturating_mul(1_000_000);
    send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(more_us)]);
}

/// Whether systemd expects [`alive`] from time to time (`WatchdogSec=` of the unit).
#[must_use]
pub fn watchdog_is_on() -> bool {
    sd_notify::watchdog_enabled().is_some()
}

/// Reports that the service works: systemd restarts one without such a report for `WatchdogSec=`.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn ready_reaches_the_notify_socket() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        // A child process, because the environment of this one is shared with all other tests.
        let status = std::process::Command::new(std::env::current_exe().expect("exe"))
            .args(["--exact", "service::notify::tests::child", "--ignored"])
            .env("NOTIFY_SOCKET", &path)
            .stdout(std::process::Stdio::null())
            .status()
            .expect("child");
        assert!(status.success());
        let mut letter = [0; 256];
        socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("timeout");
        let len = socket.recv(&mut letter).expect("letter");
        let text = String::from_utf8_lossy(&letter[..len]).into_owned();
        assert!(text.contains("READY=1") && text.contains("STATUS=accepting"), "{text}");
    }

    #[test]
    #[ignore = "run by ready_reaches_the_notify_socket, in a process with a NOTIFY_SOCKET of its own"]
    fn child() {
        super::ready("accepting");
    }
}

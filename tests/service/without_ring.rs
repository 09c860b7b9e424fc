//! A service that may not use io_uring: where a container's default seccomp profile refuses it.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::crash;
use crate::support::service::{Service, config, program};

/// EPERM for these calls, as the default profiles of Docker and Kubernetes answer them; for this thread, and for the programs that it starts.
fn forbid(calls: &[i64]) {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().expect("a known processor");
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    apply_filter(&program).expect("seccomp");
}

/// Runs a test where these calls are forbidden.
fn without<T: Send>(calls: &[i64], test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            forbid(calls);
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const RING: [i64; 3] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// What the log, the metrics and the API say of how the kernel is asked.
fn asks_by(service: &Service, io: &str) {
    assert_eq!(service.metric(&format!("forebay_runtime_info{{io=\"{io}\"}}")), Some(1.0));
    let (_, status) = service.get("/api/v1/status").expect("an answer");
    assert!(status.contains(&format!("\"io\":\"{io}\"")), "{status}");
}

/// Devices, the embedded log, the spool and kills, two shards; and the one warning that says why and what would help. What was
/// acknowledged is there afterwards.
#[test]
fn all_works_where_io_uring_is_refused() {
    without(&RING, || {
        let service = crash::stored_and_killed(2);
        let log = service.log();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN") && line.contains("io_uring")).collect();
        let [warning] = &warnings[..] else { panic!("{log}") };
        for words in ["Operation not permitted", "epoll", "CPU", "seccomp", "service.io"] {
            assert!(warning.contains(words), "{words}: {warning}");
        }
        assert!(log.contains("calls=\"full\""), "its own sandbox is on: {log}");
        asks_by(&service, "epoll");
    });
}

/// One call is refused at a time: a filter may allow the setup of a ring and refuse later calls.
#[test]
fn a_ring_that_cannot_be_used_is_none() {
    for call in RING {
        without(&[call], || asks_by(&Service::start(&config(SINK)), "epoll"));
    }
}

/// Who asks for one of the two gets it, or is refused; `forebay check` says the same.
#[test]
fn what_is_asked_for_is_done_or_refused() {
    let variable = |io: &'static str| [("FOREBAY_SERVICE_IO", io)];
    let epoll = Service::start_with(&config(SINK), &[], &variable("epoll"));
    asks_by(&epoll, "epoll");
    assert!(!epoll.log().contains("io_uring"), "{}", epoll.log());
    let file = epoll.dir().join("forebay.toml");
    let check = |io: &'static str| {
        let mut command = program();
        let output = command.arg("check").arg(&file).envs(variable(io)).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (by_ring, by_epoll) = (check("ring"), check("epoll"));
    assert!(
        by_ring.contains("io_uring, locked memory") && by_epoll.contains("epoll (`service.io`)"),
        "{by_ring}\n{by_epoll}"
    );
    without(&RING, || {
        let mut command = program();
        let output = command.args(["run", "--config"]).arg(&file).envs(variable("ring")).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("io_uring is not available"), "{said}");
        let (by_ring, by_itself) = (check("ring"), check("auto"));
        assert!(
            by_ring.contains("io_uring is not available") && by_itself.contains("Shards use epoll"),
            "{by_ring}\n{by_itself}"
        );
    });
}

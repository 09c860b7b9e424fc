//! What the service makes is its own: nobody else may read or enter it, whatever umask it was started with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use forebay::mqtt::packet::Version;

use crate::device::Device;
use crate::support::service::{Service, config, program};

/// Every file and directory below a directory whose permissions let others in, each with its mode.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").flatten() {
            let file = entry.metadata().expect("its mode");
            if file.permissions().mode() & 0o077 != 0 {
                found.push(format!("{} {:o}", entry.path().display(), file.permissions().mode()));
            }
            if file.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// Finding S9: the data directory and all that is in it belong to the service alone; `forebay check` warns of an older one.
#[test]
fn finding_s9_what_the_service_makes_is_its_own() {
    let sink =
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"t\"\ndead_letters_file = \"$DIR/dead/letters.jsonl\"\n";
    let mut service = Service::start(&config(&format!("[spool]\nbytes_max = \"128MiB\"\n{sink}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "secret", b"payload");
    let data = service.dir().join("data");
    for made in ["spool/0", "log/partitions", "lock", "../dead/letters.jsonl"] {
        assert!(data.join(made).exists(), "{made}");
    }
    assert_eq!(fs::metadata(&data).expect("its mode").permissions().mode() & 0o777, 0o700);
    assert_eq!(open_to_others(&data), [""; 0]);
    assert_eq!(open_to_others(&service.dir().join("dead")), [""; 0]);
    service.terminate();
    let check = || {
        let config = service.dir().join("forebay.toml");
        let output = program().args(["check", "--config"]).arg(config).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!check().contains("chmod"), "{}", check());
    // As an earlier version left it.
    for (path, mode) in [("", 0o755), ("spool", 0o755), ("spool/manifest.json", 0o644)] {
        fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).expect("changed");
    }
    let said = check();
    assert!(said.contains("manifest.json") && said.contains("chmod -R o-rwx"), "{said}");
}

//! A listener on a Unix socket: mosquitto's clients, other listeners beside it, TLS, kill -9.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::process::{metric, until};
use crate::records::texts;
use crate::support::service::{Service, config, config_with, program};
use crate::support::{temp_dir, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n";

fn listener(more: &str) -> String {
    format!("[[listener]]\nbind = \"unix:$DIR/mqtt.sock\"\n{more}\n")
}

fn publish(socket: &Path, message: &str) -> bool {
    let mut client = tool("mosquitto_pub");
    client.arg("--unix").arg(socket).args(["-q", "1", "-t", "t", "-i", message, "-m", message]);
    client.output().expect("it runs").status.success()
}

#[test]
fn mosquittos_clients_publish_through_it() {
    let rest = format!("{}{SINK}", listener("socket_mode = \"0600\""));
    // Two shards: who is accepted by one may belong to the other.
    let mut service = Service::start(&config_with("shards = 2", &rest));
    let socket = service.dir().join("mqtt.sock");
    assert_eq!(fs::metadata(&socket).expect("the socket").mode() & 0o777, 0o600);
    let named = format!("listening for clients event=\"listening\" listener=\"unix:{}\"", socket.display());
    until("the log to name it", || service.log().contains(&named));
    let mut messages: Vec<_> = (0..8).map(|number| format!("device-{number}")).collect();
    for message in &messages {
        assert!(publish(&socket, message), "{message}");
    }
    until("all to be in Kafka", || {
        let mut found = texts(service.embedded(), "all");
        found.sort();
        found == messages
    });
    assert_eq!(metric(&service, "connections_accepted_total"), 8);
    let listeners = service.get("/api/v1/listeners").expect("listeners").1;
    assert!(listeners.contains(&format!("unix:{}", socket.display())), "{listeners}");
    let file = service.dir().join("forebay.toml");
    let check = || {
        let output = program().arg("check").arg(&file).output().expect("it runs");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().filter(|line| line.contains("mqtt.sock")).map(str::to_owned).collect::<Vec<_>>()
    };
    let [in_use] = &check()[..] else { panic!("one line about the socket: {:?}", check()) };
    assert!(in_use.starts_with("warning") && in_use.contains("is in use"), "{in_use}");

    // What a killed process leaves is replaced.
    service.kill9();
    assert!(socket.exists());
    until("the kernel to let go of the socket", || check().is_empty());
    service.start_again();
    assert!(publish(&socket, "device-8"));
    messages.push("device-8".to_owned());

    // It comes and goes with a reload.
    let without = config_with("shards = 2", SINK).replace("$DIR", &service.dir().display().to_string());
    let with = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, without).expect("written");
    service.signal("HUP");
    until("the socket to go", || !socket.exists());
    fs::write(&file, with).expect("written");
    service.signal("HUP");
    until("the socket to come back", || socket.exists());
    until("it to be listened on", || publish(&socket, "device-9"));
    service.terminate();
    assert!(!socket.exists(), "it goes with the service");
}

#[test]
fn a_path_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let try_out = |listener: &str| {
        let text = config(&format!("{listener}{SINK}")).replace("$DIR", &dir.path().display().to_string());
        let file = dir.path().join("forebay.toml");
        fs::write(&file, text).expect("written");
        let output = program().args(["run", "--config"]).arg(&file).output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let relative = try_out("[[listener]]\nbind = \"unix:mqtt.sock\"\n");
    assert!(relative.contains("is not an absolute path"), "{relative}");
    let long = try_out(&format!("[[listener]]\nbind = \"unix:/{}\"\n", "x".repeat(107)));
    assert!(long.contains("at most 107 bytes"), "{long}");
    let twice = try_out(&format!("{}{}", listener(""), listener("")));
    assert!(twice.contains("is already used by listener[1].bind"), "{twice}");
    let mode = try_out(&listener("socket_mode = \"rw\""));
    assert!(mode.contains("write it in octal"), "{mode}");
    fs::write(dir.path().join("mqtt.sock"), "mine").expect("written");
    let file = try_out(&listener(""));
    assert!(file.contains("there is a file that is not a socket"), "{file}");
    assert_eq!(fs::read(dir.path().join("mqtt.sock")).expect("it is still there"), b"mine");
}

/// Finding F14: a directory that is not there is a mistake in the path, not a wish.
#[test]
fn finding_f14_no_directory_is_made_for_a_socket() {
    let dir = temp_dir();
    let nowhere = dir.path().join("nosuch/dir");
    let file = dir.path().join("forebay.toml");
    let data = dir.path().join("data");
    let text = format!(
        "[service]\nshards = 1\npin = false\ndata_dir = \"{}\"\n[control]\nbind = \"off\"\n[embedded]\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nbind = \"unix:{}/x\"\n",
        data.display(),
        nowhere.display()
    );
    std::fs::write(&file, text).expect("written");
    // One that starts does not end by itself.
    let mut bounded = tool("timeout");
    let output =
        bounded.args(["--signal=KILL", "30"]).arg(program().get_program()).args(["run", "--config"]).arg(&file);
    let output = output.output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("nosuch/dir/x"), "{said}");
    assert!(!dir.path().join("nosuch").exists());
}

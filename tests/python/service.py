"""The service under test as a child process: started with a configuration, its addresses read from its log, ended by its pid."""

import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("FOREBAY_CACHE", ROOT / ".cache"))  # what scripts/test install has fetched
START_TIMEOUT_S = 30
# What the service says once each for its listeners; with port 0 this is the only way to learn the port.
ADDRESSES = {
    "mqtt": re.compile(r"mqtt listening on (127\.0\.0\.1:\d+)"),
    "control": re.compile(r"control listening on (http://127\.0\.0\.1:\d+)"),
    "embedded": re.compile(r"embedded log listening on (127\.0\.0\.1:\d+)"),
}
# How the configuration of a run begins; its sinks follow.
PREAMBLE = """\
[service]
shards = {shards}
data_dir = "{folder}/data"

[control]
bind = "127.0.0.1:0"

[[listener]]
bind = "127.0.0.1:0"
transport = "tcp"

"""
# A Kafka that is not there, and a sink that gets nothing of what the clients of a measurement publish.
NO_KAFKA = """\
[kafka.none]
bootstrap = "127.0.0.1:1"
[[sink]]
name = "none"
filters = "to/kafka"
topic = "none"
"""


def binary() -> Path:
    """FOREBAY_BINARY, else the newest of the builds that are there."""
    if given := os.environ.get("FOREBAY_BINARY"):
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    builds = [p for profile in ("debug", "fast", "release") if (p := target / profile / "forebay").exists()]
    if not builds:
        raise SystemExit("there is no build of forebay: run cargo build, or name one in FOREBAY_BINARY")
    return max(builds, key=lambda p: p.stat().st_mtime)


class Service:
    """`folder` takes the configuration, the log and the data."""

    def __init__(self, folder: Path, config: str, program: Path | None = None):
        self.folder, self.program = folder, program or binary()
        self.config_file = folder / "forebay.toml"
        self.log_file = folder / "forebay.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(config)
        self.process: subprocess.Popen | None = None
        self.addresses: dict[str, str] = {}

    def start(self) -> None:
        begin = self.log_file.stat().st_size if self.log_file.exists() else 0
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "run", "--config", self.config_file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"NO_COLOR": "1"},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.ready(begin):
            if (status := self.process.poll()) is not None:
                raise RuntimeError(f"the service ended at its start with status {status}; its log:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the service was not ready after {START_TIMEOUT_S} s; its log:\n{self.tail()}")
            time.sleep(0.02)

    def ready(self, begin: int) -> bool:
        log = self.log_file.read_bytes()[begin:].decode(errors="replace")
        self.addresses = {name: found[1] for name, pattern in ADDRESSES.items() if (found := pattern.search(log))}
        if not {"mqtt", "control"} <= self.addresses.keys():
            return False
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the control address."""
        try:
            with urllib.request.urlopen(self.addresses["control"] + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @property
    def mqtt_port(self) -> int:
        return int(self.addresses["mqtt"].rpartition(":")[2])

    def stop(self, patience_s: float = 60) -> int:
        """SIGTERM, as systemd does it; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the service did not end within {patience_s} s of SIGTERM; its log:\n{self.tail()}") from None

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def figures(self) -> str:
        """CPU time and peak memory so far, for the report."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            peak_kib = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            return f"service: {cpu_s:.1f} s of CPU, {peak_kib / 1024:.0f} MiB at most"
        except (OSError, TypeError):
            return "service: gone"

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

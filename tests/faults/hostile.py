"""Hostile clients beside honest ones: docs/internals/FAULTS.md has the table of scenarios, attacks.py what the hostile ones do."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import readers
from attacks import Attacker
from scenarios import Scenario
from stand import Failed, free_ports, quantiles

HERE = Path(__file__).resolve().parent
LISTENER = """
[[listener]]
bind = "127.0.0.1:{port}"
transport = "{transport}"
{more}
"""
TLS = """
[listener.tls]
cert_file = "{work}/server.pem"
key_file = "{work}/server.key"
"""
REST = """
[auth.users]
chain = ["password", "anonymous"]
password_file = "{work}/passwords"
acl_file = "{work}/acl"

[mqtt]
connect_timeout = "5s"

[[sink]]
name = "attacked"
filters = "attack/#"
topic = "faults-attacked"
kafka = "main"
buffer = "memory"
acknowledge = "received"
"""


def through_all(transports: Iterable[str]) -> set[tuple[str, str]]:
    """Every kind of attack with every transport that it is for."""
    pairs = {(kind.__name__, transport) for kind in Attacker.KINDS for transport in transports}
    return {(kind, transport) for kind, transport in pairs if kind not in Attacker.WEB or transport in ("ws", "wss")}


class Hostile(Scenario):
    """Attackers through tcp, tls, ws and wss, and honest clients at a listener of their own: first alone, then beside them, --away s each time."""

    name = "hostile"
    short = {"cycles": 2, "round": 1, "away": 12.0, "rate": 2_000, "clients": 20, "window": 20, "reconnect_every": 0}
    long = {"cycles": 61, "round": 1, "away": 60.0, "rate": 5_000, "clients": 50, "window": 20, "reconnect_every": 0}
    ATTACKERS = 3
    # Of a process that has seen every attack: bounds of two shards (half-received packets, TLS records, names) and allocator slack.
    GROWTH_MIB_MAX = 400

    def prepare(self) -> None:
        self.make_files()
        self.ports = dict(zip(("tcp", "tls", "ws", "wss"), free_ports(4), strict=True))
        listeners = ""
        for transport, port in self.ports.items():
            more = TLS.format(work=self.work) if transport in ("tls", "wss") else ""
            listeners += LISTENER.format(port=port, transport=transport, more=f'auth = "users"\n{more}')
        self.start_kafka()
        readers.create_topic(self.bootstrap, "faults-attacked", 1)
        self.start_service(cluster=listeners + REST.format(work=self.work))
        self.tried: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.calm: dict[str, float] = {}
        self.attacked: dict[str, list[float]] = {}

    def make_files(self) -> None:
        made = lambda *command: subprocess.run(command, cwd=self.work, check=True, capture_output=True)
        made(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "server.key", "-out", "server.pem",
        )  # fmt: skip
        made(str(self.program), "passwd", "--generate", "passwords", "device-1")
        subprocess.run([str(self.program), "passwd", "passwords", "ada"], cwd=self.work, check=True, capture_output=True, input=b"slow\n")
        (self.work / "acl").write_text("topic readwrite attack/#\npattern write attack/%u/#\n")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.service.process.pid}/fd"))

    def hurt(self) -> None:
        if self.cycle == 1:
            self.flow(self.options.away)
            self.rss_calm_kib, self.descriptors_calm = self.service.status("VmRSS"), self.descriptors()
            return
        attackers = [
            subprocess.Popen(
                ["nice", "-n", "10", sys.executable, str(HERE / "attacks.py"), *(f"{name}={port}" for name, port in self.ports.items()),
                 "--seconds", str(self.options.away), "--seed", str(self.options.seed * 1_000 + self.cycle * 10 + number),
                 "--part", str(number), "--parts", str(self.ATTACKERS)],
                stdout=subprocess.PIPE, text=True,
            )
            for number in range(self.ATTACKERS)
        ]  # fmt: skip
        try:
            self.flow(self.options.away)
            for attacker in attackers:
                said, _ = attacker.communicate(timeout=180)
                if attacker.returncode:
                    raise Failed(f"an attacker ended with status {attacker.returncode}")
                told = json.loads(said)
                self.tried.update(told["tried"])
                self.wrong += told["wrong"]
        finally:
            [attacker.kill() for attacker in attackers if attacker.poll() is None]

    def end_round(self) -> dict:
        report = super().end_round()
        for kind, found in report["latency_us"].items():
            if self.cycle == 1:
                self.calm[kind] = found["p99"]
            else:
                self.attacked.setdefault(kind, []).append(found["p99"])
        return report

    def judge(self) -> None:
        # All of them have gone: what they held goes with them.
        self.flow(8)
        left = self.descriptors() - self.descriptors_calm
        super().judge()
        grown = (self.service.status("VmHWM") - self.rss_calm_kib) / 1024
        self.facts |= {
            "attacks": sum(self.tried.values()), "by kind": dict(sorted(self.tried.items())), "MiB more than before, at most": round(grown, 1),
            "descriptors more than before": left, "p99 in us without attackers": self.calm,
            "p99 in us beside attackers": {kind: quantiles(values) for kind, values in self.attacked.items()},
        }  # fmt: skip
        tried = {tuple(name.split(" over ")) for name in self.tried if " over " in name}
        self.checks["every kind of attack was tried"] = {kind for kind, _ in tried} == {kind.__name__ for kind in Attacker.KINDS}
        missing = through_all(self.ports) - tried
        self.facts["kinds and transports not tried"] = sorted(missing)
        # Each cycle begins with another transport.
        if self.options.cycles > len(self.ports):
            self.checks["every kind was tried through every transport"] = not missing
        self.checks["what had to be closed was closed"] = not self.wrong
        if self.wrong:
            self.facts["not closed"] = self.wrong[:20]
        self.checks["one process throughout"] = self.service.starts == 1 and self.service.alive()
        self.checks["no honest client lost its connection"] = self.counts["connections: lost"] == 0
        self.checks[f"memory grew by less than {self.GROWTH_MIB_MAX} MiB"] = grown < self.GROWTH_MIB_MAX
        self.checks["their descriptors are free again"] = left <= 8

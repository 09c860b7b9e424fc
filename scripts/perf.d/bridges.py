#!/usr/bin/env python3
"""What bridges cost, in turn, round by round, with a mosquitto as the remote. `scripts/perf bridges` runs it.

    bridges.py BENCH ROUNDS SCALE

  idle   CPU of a message of patterns A and B with a bridge whose `in` and `out` match nothing, and with one subscriber whose filter matches nothing
  out    5,000 messages a second at QoS 0 and 1 from a publisher here to a subscriber at the remote: CPU of each in the process that has the bridge, Forebay
         beside a mosquitto with a bridge of its own, and p99 from when it is due until the subscriber has it
  in     the same from a publisher at the remote to a subscriber here

Publishers are at the one broker over TCP, subscribers at the other one over WebSocket. Nothing goes to Kafka but the messages of `idle`, which a sink that answers
throws away. The lines with `aim` at the end say what came of it, as does a table for perf/README.md on standard error."""

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from runs import PREAMBLE, Rounds, Service, figures, folder, load, number, say, sink, turns, wait

RATE = 5_000
SECONDS = 10
BRIDGE = """\
[bridge.remote]
url = "mqtt://127.0.0.1:{port}"
client_id = "forebay"
version = "3.1.1"
inflight_max = 1024
"""
IN = '[[bridge.remote.in]]\nfilters = "{filter}"\nqos = 1\n'
OUT = '[[bridge.remote.out]]\nfilters = "{filter}"\n'
WS = '[[listener]]\nbind = "127.0.0.1:{port}"\ntransport = "ws"\nopen = true\n'
SINK = '[kafka.sink]\nbootstrap = "{address}"\n[[sink]]\nname = "all"\nkafka = "sink"\nfilters = "dev/#"\ntopic = "ingest"\n'
MOSQUITTO = """\
user root
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
listener {tcp} 127.0.0.1
listener {ws} 127.0.0.1
protocol websockets
"""
# What Forebay's bridge does as well: 3.1.1 (mosquitto 2.0 refuses its own 5.0 with these settings), a session that stays, more than 20 messages on their way.
ITS_BRIDGE = """\
connection remote
address 127.0.0.1:{port}
remote_clientid mosquitto
bridge_protocol_version mqttv311
cleansession false
restart_timeout 1
notifications false
topic one/# {way} 1
"""
PAIR = """\
name = "bridged"
duration = "{seconds}s"
warmup = "2s"
[[group]]
name = "subscriber"
role = "subscribe"
transport = "ws"
topic = "one/out"
qos = {qos}
[[group]]
name = "publisher"
topic = "one/out"
qos = {qos}
rate = {rate}
per_write = 1
window = 256
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    """One with a listener for TCP and one for WebSocket."""

    def __init__(self, work: Path, name: str, more: str = ""):
        self.tcp, self.ws, folder = free_port(), free_port(), work / name
        folder.mkdir()
        (folder / "mosquitto.conf").write_text(MOSQUITTO.format(tcp=self.tcp, ws=self.ws) + more)
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "mosquitto"
        with open(folder / "log", "w") as log:
            self.process = subprocess.Popen([program, "-c", folder / "mosquitto.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait("mosquitto listens", lambda: listens(self.tcp) and listens(self.ws))
        self.addresses, self.pid = {"mqtt": f"127.0.0.1:{self.tcp}"}, self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def forebay(work: Path, name: str, config: str):
    made = Service(work / name, PREAMBLE.format(shards=1, folder=work / name) + config)
    made.start()
    try:
        yield made
    finally:
        made.kill()


def connected(of: Service) -> None:
    wait("the bridge is connected", lambda: number(of, "forebay_bridge_connected") == 1)


def idle(bench: str, rounds: int, scale: float, work: Path, address: str) -> None:
    remote = Mosquitto(work, "remote-idle")
    bridge = BRIDGE.format(port=remote.tcp) + IN.format(filter="nothing/in/#") + OUT.format(filter="nothing/out/#")
    found = Rounds()
    for round_number in range(1, rounds + 1):
        for side in turns(round_number, ["bridge_us", "subscriber_us"]):
            with forebay(work, f"{side}-{round_number}", SINK.format(address=address) + (bridge if side == "bridge_us" else "")) as made:
                # It stays connected, and hears nothing.
                port = made.addresses["mqtt"].rpartition(":")[2]
                listener = None
                if side == "bridge_us":
                    connected(made)
                else:
                    listener = subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "nothing/out/#"], stdin=subprocess.DEVNULL)
                    wait("the subscriber is there", lambda made=made: number(made, "forebay_subscriptions") == 1)
                for pattern in ("A", "B"):
                    load(bench, made, work, "run", "--pattern", pattern, "--scale", "0.1")  # warm
                    line = figures(load(bench, made, work, "run", "--pattern", pattern, "--scale", str(3 * scale)))
                    say(kind="idle", pattern=pattern, round=round_number, side=side, **line)
                    found.note(f"{pattern}_{side}", line["cpu_us_per_message"])
                if listener:
                    listener.kill()
                    listener.wait()
    remote.kill()
    for pattern in ("A", "B"):
        found.say(f"idle, {pattern}", f"{pattern}_bridge_us", f"{pattern}_subscriber_us", 1.02)


def passed(bench: str, work: Path, qos: int, scale: float, publishes_at: str, listens_at: int, pid: int) -> dict:
    """Messages from a publisher at the one broker to a subscriber at the other one; `pid`: of the process that has the bridge."""
    file, report = work / "pair.toml", work / "report.json"
    file.write_text(PAIR.format(qos=qos, rate=RATE, seconds=max(1, round(SECONDS * scale))))
    command = [bench, "run", str(file), "--target", publishes_at, "--listener", f"ws=127.0.0.1:{listens_at}/mqtt", "--pid", str(pid), "--quiet", "--json", str(report)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    found = json.loads(report.read_text())
    # The process counts each message once: what comes in goes out.
    process, totals, late = found["processes"][0], found["totals"], found["latency"]["delivery"]
    return {"messages": totals["received"], "cpu_us": round(process["cpu_s"] * 1e6 / totals["received"], 3), "p50_us": late["p50_us"], "p99_us": late["p99_us"]}


def ways(bench: str, rounds: int, scale: float, work: Path) -> None:
    for way in ("out", "in"):
        found = Rounds()
        remotes = [Mosquitto(work, f"remote-{way}-{side}") for side in ("ours", "theirs")]
        theirs = Mosquitto(work, f"mosquitto-{way}", ITS_BRIDGE.format(port=remotes[1].tcp, way=way))
        ws = free_port()
        config = BRIDGE.format(port=remotes[0].tcp) + (OUT if way == "out" else IN).format(filter="one/#") + WS.format(port=ws)
        with forebay(work, f"forebay-{way}", SINK.format(address="127.0.0.1:1") + config) as ours:
            connected(ours)
            time.sleep(2)  # mosquitto's bridge has connected and subscribed

            def run(side: str, qos: int, scale: float, way=way, ours=ours, theirs=theirs, remotes=remotes, ws=ws) -> dict:
                is_ours = side == "forebay"
                here, remote = (ours, remotes[0]) if is_ours else (theirs, remotes[1])
                pid, ws_here = (ours.process.pid, ws) if is_ours else (theirs.pid, theirs.ws)
                publishes_at, listens_at = (here.addresses["mqtt"], remote.ws) if way == "out" else (remote.addresses["mqtt"], ws_here)
                return passed(bench, work, qos, scale, publishes_at, listens_at, pid)

            for qos in (0, 1):
                for side in ("forebay", "mosquitto"):
                    run(side, qos, 0.1)  # warm
                for round_number in range(1, rounds + 1):
                    for side in turns(round_number, ["forebay", "mosquitto"]):
                        line = run(side, qos, scale)
                        say(kind=way, qos=qos, round=round_number, side=side, **line)
                        for figure in ("cpu_us", "p99_us"):
                            found.note(f"{side}_{qos}_{figure}", line[figure])
        for broker in (*remotes, theirs):
            broker.kill()
        for qos in (0, 1):
            for figure, what in (("cpu_us", "CPU"), ("p99_us", "p99")):
                found.say(f"{way}, QoS {qos}, {what}", f"forebay_{qos}_{figure}", f"mosquitto_{qos}_{figure}", 1)


def main() -> None:
    bench, rounds, scale = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with folder() as work, sink(bench) as (address, _):
        ways(bench, rounds, scale, work)
        # Half of them again: two per cent are to be seen.
        idle(bench, rounds + rounds // 2, scale, work, address)
    Rounds.show()


main()

#!/usr/bin/env python3
"""System calls of an idle service with two shards, counted by strace: of its shards, then of the whole process. `scripts/perf wakeups` runs it.

    wakeups.py BENCH SECONDS CONNECTIONS

It is in front of a sink that answers, and holds CONNECTIONS connections that say nothing (0: none)."""

import re
import subprocess
import sys
import time
from pathlib import Path

from runs import folder, forebay, resident_bytes, say, sink

# Until what a start and the connections have left behind is done: buffers given back, metadata known.
SETTLE_S = 30


def counted(seconds: float, work: Path, *options: str) -> dict:
    """What strace counts in this time."""
    table = work / "strace.txt"
    subprocess.run(["timeout", "--signal=INT", str(seconds), "strace", "-c", "-o", str(table), *options], capture_output=True, check=False)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", table.read_text(), re.MULTILINE)
    calls = {name: int(count) for count, name in rows if name != "total"}
    return {"seconds": seconds, "calls": sum(calls.values()), "calls_per_s": round(sum(calls.values()) / seconds, 2), "by_name": calls}


def main() -> None:
    bench, seconds, connections = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    with folder() as work, sink(bench) as (address, _), forebay(work, address, 2) as service:
        pid, fleet = service.process.pid, None
        if connections:
            scenario = work / "idle.toml"
            scenario.write_text(f"name = 'idle'\nduration = '{SETTLE_S + 3 * seconds + 60:.0f}s'\n[[group]]\nrole = 'idle'\nclients = {connections}\nkeep_alive = 0\n")
            fleet = subprocess.Popen([bench, "run", str(scenario), "--target", service.addresses["mqtt"], "--quiet"], stdout=subprocess.DEVNULL)
        time.sleep(SETTLE_S)
        threads = {task.name: (task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}
        shards = [part for thread, name in threads.items() if name.startswith("shard-") for part in ("-p", thread)]
        of = {"shards": 2, "connections": connections, "resident_bytes": resident_bytes(pid)}
        say(threads="shards", **of, **counted(seconds, work, *shards))
        say(threads="all", **of, **counted(seconds, work, "-f", "-p", str(pid)))
        if fleet:
            fleet.terminate()
            fleet.wait()


main()

#!/usr/bin/env python3
"""What the dashboard costs: the threads of the control plane without and with eight viewers, shards at patterns A and B likewise (in turn), the time until a page
shows live numbers with 50 ms of latency, and the heap of each page with plots after ten minutes. In real Chromium. `scripts/perf dashboard` runs it.

    dashboard.py BENCH ROUNDS SCALE SECONDS

FOREBAY_BINARY names the service. SECONDS is how long the heap is looked at; the threads are for a tenth of that. Prints one line of JSON; exit status 1: a bound is not kept."""

import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median

from chromium import answer, chromium, note
from runs import figures, folder, forebay, load, say, sink, threads_cpu_s, turns

VIEWERS = 8
# What an open page asks for beside the stream, and how often, in seconds.
POLLED = (("status", 5), ("sinks/all", 2), ("sinks/all/partitions", 2), ("clusters", 2), ("listeners", 2), ("clients?limit=100", 2))
PAGES = ("overview", "sinks/all", "clusters/main", "sources/back", "rules/hot", "bridges/far", "spool")
# A thousand messages a second all the while, so that numbers change.
SLOWLY = '[[group]]\ntopic = "plant/{client}"\nqos = 1\nclients = 10\nrate = 1000\npayload = 100\n'
# What pages with plots are of. Nothing listens for the bridge, which is looked at all the same.
PARTS = """\
[spool]
bytes_max = "256MiB"
[[source]]
name = "back"
kafka = "main"
topic = "ingest"
mqtt_topic = "back/${key}"
paused = true
[[rule]]
name = "hot"
sinks = ["ruled"]
sql = 'SELECT topic FROM "plant/#"'
[[sink]]
name = "ruled"
topic = "ruled"
kafka = "main"
[bridge.far]
url = "mqtt://127.0.0.1:1"
[[bridge.far.out]]
filters = "plant/#"
"""
# The bounds of issue 46.
CONTROL_PERCENT, INTERACTIVE_MS, HEAP_BYTES, NOISE = 1.0, 1000, 5 << 20, 1.02


def threads_for(service, seconds: float) -> dict[str, float]:
    """Percent of a core that the threads of the control plane take."""
    before = threads_cpu_s(service.process.pid)
    time.sleep(seconds)
    after = threads_cpu_s(service.process.pid)
    return {name: round(100 * (after.get(name, 0) - before.get(name, 0)) / seconds, 3) for name in ("control", "observer")}


def control_plane(service, seconds: float) -> dict:
    without = threads_for(service, seconds)
    viewers = chromium(service, "viewers", VIEWERS, seconds + 3)
    for line in viewers.stdout:
        if line.startswith("{"):
            break
    with_them = threads_for(service, seconds)
    viewers.communicate()
    if viewers.returncode:
        raise SystemExit(f"Chromium: exit status {viewers.returncode}")
    added = {name: round(with_them[name] - without[name], 3) for name in without}
    return {"seconds": seconds, "viewers": VIEWERS, "percent_without": without, "percent_with": with_them, "percent_added": round(sum(added.values()), 3)}


@contextmanager
def lookers_on(service, count: int):
    """Streams that are read, and what pages ask for beside them: as browsers do it, without the CPU that these take from the service."""
    base, over = f"{service.addresses['control']}/api/v1/", threading.Event()

    def stream() -> None:
        with urllib.request.urlopen(base + "live") as live:
            while not over.is_set():
                live.readline()

    def poll(path: str, every: float) -> None:
        while not over.wait(every):
            with urllib.request.urlopen(base + path) as found:
                found.read()

    lookers = [threading.Thread(target=stream, daemon=True) for _ in range(count)]
    lookers += [threading.Thread(target=poll, args=one, daemon=True) for one in POLLED for _ in range(count)]
    for one in lookers:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in lookers:
            one.join()


def of_shards(bench: str, service, work: Path, pattern: str, scale: str) -> float:
    """CPU of the shards for a message, in microseconds."""
    before = threads_cpu_s(service.process.pid)["shard"]
    messages = figures(load(bench, service, work, "run", "--pattern", pattern, "--scale", scale))["messages"]
    return (threads_cpu_s(service.process.pid)["shard"] - before) / messages * 1e6


def shards(bench: str, service, work: Path, rounds: int, scale: str) -> dict:
    found = {}
    for pattern in ("A", "B"):
        of_shards(bench, service, work, pattern, "0.1")  # warm
        sides: dict[int, list[float]] = {0: [], VIEWERS: []}
        for number in range(1, rounds + 1):
            for count in turns(number, [0, VIEWERS]):
                with lookers_on(service, count):
                    sides[count].append(round(of_shards(bench, service, work, pattern, scale), 4))
        ratios = [there / none for there, none in zip(sides[VIEWERS], sides[0], strict=True)]
        found[pattern] = {
            "us_without": median(sides[0]), "us_with": median(sides[VIEWERS]), "ratio": round(median(ratios), 4), "ratios": [round(one, 4) for one in ratios],
        }  # fmt: skip
        note(f"shards, {pattern}: {found[pattern]}")
    return found


def main() -> None:
    bench, rounds, scale, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    with folder() as work, sink(bench) as (address, _):
        with forebay(work / "shards", address) as plain:
            of_the_shards = shards(bench, plain, work, rounds, scale)
        with forebay(work / "pages", address, more=PARTS) as service:
            slowly = work / "slowly.toml"
            slowly.write_text(f'name = "slowly"\nduration = "{int(seconds + 2 * seconds / 10 + 600)}s"\n{SLOWLY}')
            load_of = subprocess.Popen(
                [bench, "run", str(slowly), "--target", service.addresses["mqtt"], "--quiet"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                time.sleep(5)
                of_the_control_plane = control_plane(service, seconds / 10)
                note(f"control plane: {of_the_control_plane}")
                interactive = answer(chromium(service, "interactive", max(3, rounds)))
                note(f"interactive: {interactive}")
                heap = answer(chromium(service, "heap", seconds, *PAGES))
            finally:
                load_of.kill()
                load_of.wait()
    bounds = {
        "control_percent": (of_the_control_plane["percent_added"], CONTROL_PERCENT),
        "shards_a": (of_the_shards["A"]["ratio"], NOISE),
        "shards_b": (of_the_shards["B"]["ratio"], NOISE),
        "interactive_ms": (interactive["live_ms"], INTERACTIVE_MS),
        "heap_grown_bytes": (max(page["grown_bytes"] for page in heap["pages"]), HEAP_BYTES),
    }
    over = [name for name, (is_now, most) in bounds.items() if is_now > most]
    say(kind="dashboard", date=str(date.today()), control_plane=of_the_control_plane, shards=of_the_shards, interactive=interactive, heap=heap, bounds=bounds, over=over)
    sys.exit(1 if over else 0)


main()

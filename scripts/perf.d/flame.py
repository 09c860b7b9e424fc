#!/usr/bin/env python3
"""Flame graphs of the serving thread at patterns A, B and C, in front of a sink that answers. `scripts/perf flame` runs it.

    flame.py BENCH INFERNO FOLDER

FOREBAY_BINARY names the service, built with frame pointers; INFERNO is the folder of inferno's programs. Writes FOLDER/flame-A.svg and so on. The
server runs on the first CPU, the generator and the sink on the last."""

import os
import subprocess
import sys
import time
from pathlib import Path

from runs import figures, folder, forebay, load, say, sink

SCALES = {"A": "10", "B": "10", "C": "5"}  # seconds of work each
SAMPLES_A_SECOND = 4999


def shard_thread(pid: int) -> int:
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "shard-0":
            return int(task.name)
    raise SystemExit("no thread shard-0")


def main() -> None:
    bench, inferno, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[-1]})  # and with it what is started from here
    with folder() as work, sink(bench) as (address, _), forebay(work, address) as service:
        thread = shard_thread(service.process.pid)
        os.sched_setaffinity(thread, {cpus[0]})
        for pattern, scale in SCALES.items():
            load(bench, service, work, "run", "--pattern", pattern, "--scale", "0.2")  # warm
            data = work / "perf.data"
            recorder = subprocess.Popen(
                ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_A_SECOND), "--call-graph", "fp", "-t", str(thread), "-o", data], stderr=subprocess.DEVNULL
            )  # fmt: skip
            time.sleep(0.5)  # perf is attached
            line = figures(load(bench, service, work, "run", "--pattern", pattern, "--scale", scale))
            recorder.terminate()
            recorder.wait()
            script = subprocess.run(["perf", "script", "-i", data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
            stacks = subprocess.run([inferno / "inferno-collapse-perf"], input=script, capture_output=True, check=True).stdout
            title = f"Pattern {pattern}: {line['cpu_us_per_message']:.3g} us of CPU a message"
            flags = ["--title", title, "--hash", "--minwidth", "0.2", "--countname", "ns"]
            picture = subprocess.run([inferno / "inferno-flamegraph", *flags], input=stacks, capture_output=True, check=True).stdout
            path = out / f"flame-{pattern}.svg"
            path.write_bytes(picture)
            cpu_ns = sum(int(row.rsplit(b" ", 1)[1]) for row in stacks.splitlines())
            say(pattern=pattern, sampled_cpu_s=round(cpu_ns / 1e9, 3), written=path.name, **line)


main()

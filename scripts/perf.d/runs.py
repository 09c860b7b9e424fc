"""What the measurements of this folder share: the service in front of a Kafka, the sink that answers, runs of the generator."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/python"))

from service import CACHE, PREAMBLE, Service  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


@contextmanager
def folder() -> Iterator[Path]:
    """A place that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="forebay-perf-") as path:
        yield Path(path)


@contextmanager
def sink(bench: str, bind: str = "127.0.0.1:0", partitions: int = 4) -> Iterator[tuple[str, subprocess.Popen]]:
    """A Kafka that answers and throws the records away: its address and its process."""
    process = subprocess.Popen([bench, "kafka-sink", "--bind", bind, "--partitions", str(partitions)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip().removeprefix("kafka-sink listening on "), process
    finally:
        process.kill()
        process.wait()


@contextmanager
def forebay(work: Path, bootstrap: str, shards: int = 1, cluster: str = "", more: str = "") -> Iterator[Service]:
    """At "replicated", without a spool; everything goes to one topic. `cluster`: further keys of the cluster; `more`: of the configuration, at its end."""
    config = PREAMBLE.format(shards=shards, folder=work / f"forebay-{shards}")
    config += f'[kafka.main]\nbootstrap = "{bootstrap}"\n{cluster}\n[[sink]]\nname = "all"\nfilters = "#"\ntopic = "ingest"\n'
    service = Service(work / f"forebay-{shards}", config + more)
    service.start()
    try:
        yield service
    finally:
        service.kill()


def load(bench: str, service: Service, work: Path, *job: str) -> dict:
    """One run of the generator, which has to pass."""
    report = work / "report.json"
    where = ["--target", service.addresses["mqtt"], "--pid", str(service.process.pid), "--quiet", "--json", str(report)]
    done = subprocess.run([bench, *job, *where], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(job)}: {done.stdout}{done.stderr}")
    return json.loads(report.read_text())


def figures(report: dict) -> dict:
    """What lines say of a run."""
    process, answers = report["processes"][0], report["latency"].get("puback", {})
    return {
        "messages": report["totals"]["sent"], "wall_s": round(report["totals"]["wall_s"], 3), "cpu_us_per_message": round(process["cpu_us_per_message"], 4),
        "puback_p50_us": answers.get("p50_us"), "puback_p99_us": answers.get("p99_us"),
    }  # fmt: skip


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10


def threads_cpu_s(pid: int) -> dict[str, float]:
    """CPU of the threads of a process so far, by name, in seconds."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, ran = (task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # It has ended.
        name = "shard" if name.startswith("shard-") else name
        found[name] = found.get(name, 0.0) + ran / 1e9
    return found


def turns(round_number: int, sides: list) -> list:
    """The sides in the order of a round: each begins one in its turn."""
    first = round_number % len(sides)
    return sides[first:] + sides[:first]


def python_of_tests() -> str:
    """One with confluent-kafka, which has librdkafka in it."""
    return os.environ.get("FOREBAY_PYTHON") or str(CACHE / "venv/bin/python")


class Rounds:
    """Figures by what they are of, a list with one for each round."""

    TABLE: list[str] = []

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = defaultdict(list)

    def note(self, name: str, figure: float) -> None:
        self.found[name].append(figure)

    def say(self, kind: str, ours: str, theirs: str, aim: float) -> None:
        ratios = [a / b for a, b in zip(self.found[ours], self.found[theirs], strict=True)]
        figures = {ours: round(median(self.found[ours]), 4), theirs: round(median(self.found[theirs]), 4)}
        say(kind=kind, **figures, ratio=round(median(ratios), 3), ratios=[round(ratio, 3) for ratio in ratios], aim=aim)
        of = [f"{figure:,.3g}" if figure < 100 else f"{figure:,.0f}" for figure in figures.values()]
        self.TABLE.append(f"| `{kind}` | {of[0]} | {of[1]} | **{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | {aim} |")

    @classmethod
    def show(cls) -> None:
        """A table for perf/README.md."""
        print("\n| `kind` | ours, us | the other, us | ratio: median (all rounds) | aim |\n|---|---|---|---|---|", *cls.TABLE, sep="\n", file=sys.stderr)


def number(of: Service, name: str) -> float:
    lines = of.get("/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def wait(what: str, until) -> None:
    deadline = time.monotonic() + 60
    while not until():
        if time.monotonic() > deadline:
            raise SystemExit(f"not after 60 s: {what}")
        time.sleep(0.02)

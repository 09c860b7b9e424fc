"""What the measurements of this folder share: the service in front of a Kafka, the sink that answers, runs of the generator."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def forebay(work: Path, bootstrap: str, shards: int = 1, cluster: str = "") -> Iterator[Service]:
    """At "replicated", without a spool; everything goes to one topic. `cluster`: further keys of the cluster."""
    config = PREAMBLE.format(shards=shards, folder=work / f"forebay-{shards}")
    config += f'[kafka.main]\nbootstrap = "{bootstrap}"\n{cluster}\n[[sink]]\nname = "all"\nfilters = "#"\ntopic = "ingest"\n'
    service = Service(work / f"forebay-{shards}", config)
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


def resident_bytes(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10


def turns(round_number: int, sides: list) -> list:
    """The sides in the order of a round: each begins one in its turn."""
    first = round_number % len(sides)
    return sides[first:] + sides[:first]


def python_of_tests() -> str:
    """One with confluent-kafka, which has librdkafka in it."""
    return os.environ.get("FOREBAY_PYTHON") or str(CACHE / "venv/bin/python")

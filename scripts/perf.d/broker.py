#!/usr/bin/env python3
"""What `[broker]` costs: an instance whose messages go through topics of Apache Kafka to subscribers and whose kept sessions are there, beside one that gives them to
subscribers itself and writes them to the same Kafka through a sink. Both acknowledge when Kafka has a message. In turn, round by round. `scripts/perf broker` runs it.

    broker.py BENCH ROUNDS SCALE BOOTSTRAP

  A, B, T1 to T5   CPU of a message, sent or delivered, until all of them are read back, too
  pairs            p50 and p99 from PUBLISH until the subscriber has the message: 200 pairs of clients, 5,000 messages a second together, QoS 1

Both run throughout, so each has what the other costs while it is idle. `scripts/perf builds` is for what `[broker]` costs those that do not have it."""

import sys
from pathlib import Path
from statistics import median

from runs import PREAMBLE, Rounds, Service, cpu_s, figures, folder, load, number, say, turns, wait

PATTERNS = ("A", "B", "T1", "T2", "T3", "T4", "T5")
# How long a round has to be, beside the others', so that neither a tick of CPU time nor what comes after the last answer is seen.
LONGER = {"T3": 2, "T5": 2}
PARTITIONS = 4
# Nothing may be dropped: a subscriber that does not read is the generator's.
DELIVERY = '[delivery]\nqueue_messages_max = 1000000\nqueue_bytes_max = "1GiB"\n'
CONFIG = {
    "broker": f'[broker]\nmessages = "perf-messages"\nretained = "perf-retained"\nsessions = "perf-sessions"\npartitions = {PARTITIONS}\n',
    "sink": '[[sink]]\nname = "all"\nfilters = "#"\ntopic = "perf-all"\n',
}
PAIRS = """\
name = "pairs"
duration = "{seconds}s"
warmup = "2s"
[[group]]
name = "subscribers"
role = "subscribe"
clients = 200
topic = "pair/{{client}}"
qos = 1
[[group]]
name = "publishers"
clients = 200
topic = "pair/{{client}}"
qos = 1
rate = 5000
window = 16
"""


def service(work: Path, name: str, bootstrap: str) -> Service:
    text = PREAMBLE.format(shards=1, folder=work / name) + f'[kafka.main]\nbootstrap = "{bootstrap}"\n' + DELIVERY + CONFIG[name]
    made = Service(work / name, text)
    made.start()
    return made


def settled(of: Service, name: str) -> None:
    """Nothing of the last run is on its way: the next one's subscribers would get it."""
    if name == "broker":
        wait("all of the topics is read and over", lambda: number(of, "forebay_source_lag_records") + number(of, "forebay_source_open_messages") == 0)
    wait("all is in Kafka", lambda: number(of, "forebay_sink_buffered_records") == 0)


def main() -> None:
    bench, rounds, scale, bootstrap = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    found = Rounds()
    with folder() as work:
        services = {}
        try:
            for name in CONFIG:
                services[name] = service(work, name, bootstrap)
            wait("its topics are read", lambda: number(services["broker"], "forebay_source_partitions") == PARTITIONS)
            for pattern in PATTERNS:
                for name, of in services.items():
                    load(bench, of, work, "run", "--pattern", pattern, "--scale", "0.05")  # warm: topics are known
                    settled(of, name)
                for round_number in range(1, rounds + 1):
                    for name, of in turns(round_number, list(services.items())):
                        before = cpu_s(of.process.pid)
                        report = load(bench, of, work, "run", "--pattern", pattern, "--scale", str(scale * LONGER.get(pattern, 1)))
                        settled(of, name)
                        line, totals = figures(report), report["totals"]
                        line["cpu_us_per_message"] = round((cpu_s(of.process.pid) - before) / (totals["sent"] + totals["received"]) * 1e6, 4)
                        say(kind=pattern, round=round_number, side=name, **line)
                        found.note(f"{pattern}_{name}_us", line["cpu_us_per_message"])
            pairs = work / "pairs.toml"
            pairs.write_text(PAIRS.format(seconds=max(2, round(10 * scale))))
            for round_number in range(1, rounds + 1):
                for name, of in turns(round_number, list(services.items())):
                    report = load(bench, of, work, "run", str(pairs))
                    settled(of, name)
                    delivery = report["latency"]["delivery"]
                    say(kind="pairs", round=round_number, side=name, **{key: delivery[key] for key in ("p50_us", "p99_us", "max_us")}, **figures(report))
                    for key in ("p50_us", "p99_us"):
                        found.note(f"pairs_{name}_{key}", delivery[key])
        finally:
            for of in services.values():
                of.kill()
    for pattern in PATTERNS:
        result(found, pattern, f"{pattern}_broker_us", f"{pattern}_sink_us")
    for key in ("p50_us", "p99_us"):
        result(found, f"pairs, {key}", f"pairs_broker_{key}", f"pairs_sink_{key}")


def result(found: Rounds, kind: str, ours: str, theirs: str) -> None:
    # A round of a trial may take less than a tick of CPU time.
    ratios = [a / max(b, 1e-6) for a, b in zip(found.found[ours], found.found[theirs], strict=True)]
    say(kind=kind, broker=round(median(found.found[ours]), 4), sink=round(median(found.found[theirs]), 4), ratio=round(median(ratios), 3), ratios=[round(ratio, 3) for ratio in ratios])


main()

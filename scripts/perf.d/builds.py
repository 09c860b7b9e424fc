#!/usr/bin/env python3
"""Two builds of the service in turn, in front of a sink that answers: CPU a message as a multiple of the first one's. `scripts/perf builds` runs it.

    builds.py BENCH ROUNDS SCALE BEFORE NOW

Each round starts both again, with a configuration that both accept. The CPU is that of the whole process until a second after the last answer: what
is on the disk then has reached the sink."""

import os
import sys
import time
from pathlib import Path
from statistics import median

from runs import cpu_s, figures, folder, load, say, sink, turns
from service import Service

CONFIG = """\
[service]
shards = 1
data_dir = "{folder}/data"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:0"
[kafka.main]
bootstrap = "{kafka}"
[[sink]]
name = "all"
filters = ["#"]
"""
SPOOL = '[spool]\nbytes_max = "4GiB"\n'
# One message in flight each: CLIENTS MQTT topics, so as many keys.
SCENARIO = """\
name = "keys"
duration = "{seconds}s"
[[group]]
name = "all"
clients = {clients}
qos = 1
topic = "keys/{{client}}"
payload = 100
window = 1
{rate}
"""
ONE_TOPIC = 'topic = "ingest"\n'
# Name: what the sink's configuration says, what is behind the sinks, the load, how many partitions a topic has.
KINDS = {
    "A": (ONE_TOPIC, "", ("--pattern", "A"), 4),
    "B": (ONE_TOPIC, "", ("--pattern", "B"), 4),
    "C": (ONE_TOPIC, "", ("--pattern", "C"), 4),
    "D2": (ONE_TOPIC, "", ("--pattern", "D2"), 4),
    "stored": (ONE_TOPIC + 'acknowledge = "stored"\n', SPOOL, ("--pattern", "B"), 4),
    "hybrid": (ONE_TOPIC + 'buffer = "hybrid"\nspill_after = "8MiB"\n', SPOOL, ("--pattern", "B"), 4),
    "1,000 partitions": (ONE_TOPIC, "", (1_000, "rate = 50_000"), 1_000),
    **{name: (ONE_TOPIC, "", ("--pattern", name), 4) for name in ("T1", "T2", "T3", "T4", "T5")},
    "10,000 topics": ('topic = "t-${topic[2]}"\n', "", (10_000, "rate = 20_000"), 1),
}  # fmt: skip


def job_of(of: tuple, work: Path, scale: float) -> tuple[str, ...]:
    if of[0] == "--pattern":
        return ("run", *of, "--scale", str(scale))
    clients, rate = of
    file = work / "keys.toml"
    file.write_text(SCENARIO.format(clients=clients, rate=rate, seconds=max(2, round(4 * scale))))
    return ("run", str(file))


def main() -> None:
    kinds = os.environ.get("FOREBAY_KINDS", ",".join(KINDS)).split(",")
    # An older build refuses variables that it does not know.
    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        del os.environ[name]
    bench, rounds, scale = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    sides = [("before", Path(sys.argv[4])), ("now", Path(sys.argv[5]))]
    for kind in kinds:
        of_sink, behind, of_load, partitions = KINDS[kind]
        found: dict[str, list[float]] = {name: [] for name, _ in sides}
        for number in range(1, rounds + 1):
            for name, program in turns(number, sides):
                with folder() as work, sink(bench, partitions=partitions) as (address, _):
                    service = Service(work, CONFIG.format(folder=work, kafka=address) + of_sink + behind, program)
                    service.start()
                    try:
                        load(bench, service, work, *job_of(of_load, work, 0.1))  # warm: topics are known
                        before = cpu_s(service.process.pid)
                        line = figures(load(bench, service, work, *job_of(of_load, work, scale)))
                        time.sleep(1)
                        line["cpu_us_per_message"] = round((cpu_s(service.process.pid) - before) / line["messages"] * 1e6, 4)
                    finally:
                        service.kill()
                say(kind=kind, round=number, build=name, **line)
                found[name].append(line["cpu_us_per_message"])
        ratios = [now / before for now, before in zip(found["now"], found["before"], strict=True)]
        say(kind=kind, before_us=median(found["before"]), now_us=median(found["now"]), ratio=round(median(ratios), 3), ratios=[round(ratio, 3) for ratio in ratios])


main()

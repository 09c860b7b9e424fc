#!/usr/bin/env python3
"""What sinks that are idle cost a message: CPU of one sink, and with 1,000 beside it that get nothing, in turn, as a multiple. `scripts/perf sinks` runs it.

    sinks.py BENCH ROUNDS PROGRAM

Pattern L (5,000 messages a second) has a message or two in a turn: what a turn costs however little comes in it shows there."""

import os
import sys
from pathlib import Path
from statistics import median

from runs import PREAMBLE, figures, folder, load, say, sink, turns
from service import Service

IDLE = 1_000
ONE = '[[sink]]\nname = "all"\nfilters = "#"\ntopic = "ingest"\nbatch_bytes = "64KiB"\n'


def config(work: Path, bootstrap: str, idle: int) -> str:
    # A sink has a promise of some memory.
    clusters = f'[kafka.main]\nbootstrap = "{bootstrap}"\nbuffer_bytes = "{1 + idle // 500}GiB"\n'
    others = (f'[[sink]]\nname = "idle-{number}"\nfilters = "idle/{number}/#"\ntopic = "idle-{number}"\nbatch_bytes = "64KiB"\n' for number in range(idle))
    return PREAMBLE.format(shards=1, folder=work) + clusters + ONE + "".join(others)


def main() -> None:
    for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
        del os.environ[name]
    bench, rounds, program = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    found: dict[int, list[float]] = {0: [], IDLE: []}
    for number in range(1, rounds + 1):
        for idle in turns(number, [0, IDLE]):
            with folder() as work, sink(bench) as (address, _):
                service = Service(work, config(work, address, idle), program)
                service.start()
                try:
                    load(bench, service, work, "run", "--pattern", "L", "--scale", "0.1")  # warm
                    line = figures(load(bench, service, work, "run", "--pattern", "L", "--duration", "20s"))
                finally:
                    service.kill()
            say(pattern="L", round=number, idle_sinks=idle, **line)
            found[idle].append(line["cpu_us_per_message"])
    ratios = [many / one for many, one in zip(found[IDLE], found[0], strict=True)]
    say(pattern="L", one_us=median(found[0]), idle_us=median(found[IDLE]), ratio=round(median(ratios), 3), ratios=[round(ratio, 3) for ratio in ratios])


main()

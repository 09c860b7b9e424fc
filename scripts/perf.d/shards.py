#!/usr/bin/env python3
"""Two shards beside one: CPU a message at patterns B and C, in turn, in front of a sink that answers. `scripts/perf shards` runs it.

    shards.py BENCH ROUNDS SCALE

FOREBAY_BINARY names the service. The generator has one thread and runs where there is room."""

import sys
from statistics import median

from runs import figures, folder, forebay, load, say, sink, turns


def main() -> None:
    bench, rounds, scale = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with folder() as work, sink(bench) as (address, _), forebay(work, address, 1) as one, forebay(work, address, 2) as two:
        sides = [(1, one), (2, two)]
        for pattern in ("B", "C"):
            found: dict[int, list[float]] = {1: [], 2: []}
            job = ("run", "--pattern", pattern, "--scale", scale)
            [load(bench, service, work, "run", "--pattern", pattern, "--scale", "0.1") for _, service in sides]  # warm
            for number in range(1, rounds + 1):
                for shards, service in turns(number, sides):
                    line = figures(load(bench, service, work, *job))
                    say(round=number, pattern=pattern, shards=shards, **line)
                    found[shards].append(line["cpu_us_per_message"])
            ratios = [both / single for both, single in zip(found[2], found[1], strict=True)]
            say(pattern=pattern, one_us=median(found[1]), two_us=median(found[2]), ratio=round(median(ratios), 3), ratios=[round(ratio, 3) for ratio in ratios])


main()

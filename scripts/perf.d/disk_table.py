#!/usr/bin/env python3
"""The lines of `scripts/perf disk` (a file, or standard input) as the table of decision 0026: medians over the rounds,
ratios taken round by round."""

import json
import sys
from statistics import median

WAYS = ("mapped", "written", "written-zeroed")


def main() -> None:
    source = open(sys.argv[1], encoding="utf-8") if len(sys.argv) > 1 else sys.stdin
    loads: dict[tuple[int, int], dict[int, dict[str, dict]]] = {}
    for line in source:
        result = json.loads(line)
        if "append" not in result:
            print("".join(f"{key}: {value}. " for key, value in result.items()).rstrip() + "\n")
            continue
        rounds = loads.setdefault((result["pause_ms"], result["group_bytes"]), {})
        rounds.setdefault(result["round"], {})[result["append"]] = result
    print("| group | rounds | mapped: ns a message, shard / process | written : mapped | zeroed : mapped "
          "| page faults, mapped / written / zeroed | sync p50 (p99), ms, mapped / written / zeroed |")
    print("|---|---|---|---|---|---|---|")
    for (pause, group), rounds in sorted(loads.items()):
        # A round that was not over compares nothing.
        whole = [ways for ways in rounds.values() if set(ways) == set(WAYS)]
        if whole:
            print(row(pause, group, whole))


def row(pause: int, group: int, rounds: list[dict[str, dict]]) -> str:
    fields = ("shard_ns_per_message", "process_ns_per_message")

    def ratio(way: str) -> str:
        return " / ".join(f"{median(ways[way][field] / ways['mapped'][field] for ways in rounds):.2f}" for field in fields)

    def of(way: str, field: str) -> float:
        return median(ways[way][field] for ways in rounds)

    name = f"{group >> 10} KiB" + (f", light load (a group each {pause} ms and a sync)" if pause else "")
    mapped = " / ".join(f"{of('mapped', field):.0f}" for field in fields)
    faults = " / ".join(f"{of(way, 'page_faults'):.0f}" for way in WAYS)
    syncs = " / ".join(f"{of(way, 'sync_p50_us') / 1000:.1f} ({of(way, 'sync_p99_us') / 1000:.0f})" for way in WAYS)
    cells = (name, str(len(rounds)), mapped, ratio("written"), ratio("written-zeroed"), faults, syncs)
    return f"| {' | '.join(cells)} |"


main()

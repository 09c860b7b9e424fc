#!/usr/bin/env python3
"""The lines of `scripts/perf spool` (a file, or standard input) as a table: medians over the rounds, ratios to memory with the same window, taken round by round."""

import json
import sys
from statistics import median


def main() -> None:
    source = open(sys.argv[1], encoding="utf-8") if len(sys.argv) > 1 else sys.stdin
    rounds: dict[int, dict[tuple[int, str, int], dict]] = {}
    for line in source:
        result = json.loads(line)
        if "mode" not in result:
            print("".join(f"{key}: {value}. " for key, value in result.items()).rstrip() + "\n")
            continue
        rounds.setdefault(result["round"], {})[result["window"], result["mode"], result["delay_ms"]] = result
    runs = sorted({run for of in rounds.values() for run in of})
    whole = [of for of in rounds.values() if set(of) == set(runs)]
    print("| | rounds | answered a second, of memory | in Kafka a second, of memory | CPU µs a message, of memory | answers p50, p99, ms | a sync, ms | rows a group | records a batch |")
    print("|---|---|---|---|---|---|---|---|---|")
    for run in runs if whole else ():
        window, mode, delay_ms = run
        of = lambda field: median(found[run][field] for found in whole)
        ratio = lambda field: median(found[run][field] / found[window, "memory", 0][field] for found in whole)
        beside = lambda field, text: text if mode == "memory" else f"{text}, **{ratio(field):.2f}**"
        name = ("memory, `replicated`" if mode == "memory" else f"`stored`{f', {delay_ms} ms added to a sync' if delay_ms else ''}") + f"; window {window}"
        spooled = ("", "") if mode == "memory" else (f"{of('sync_us') / 1000:.2f}", f"{of('rows_per_group'):.0f}")
        cells = (
            name, str(len(whole)), beside("messages_per_s", f"{of('messages_per_s'):,.0f}"), beside("in_kafka_per_s", f"{of('in_kafka_per_s'):,.0f}"),
            beside("cpu_us_per_message", f"{of('cpu_us_per_message'):.2f}"), f"{of('answer_p50_us') / 1000:.2f}, {of('answer_p99_us') / 1000:.2f}",
            *spooled, f"{of('records_per_batch'):.0f}",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |")


main()

#!/usr/bin/env python3
"""What `scripts/perf spool` does once Kafka and both services stand: pattern B against each in turn, round by round, a JSON line each.

    spool.py BENCH ROUNDS MESSAGES FAULTS_FILE memory=MQTT,CONTROL,PID stored=MQTT,CONTROL,PID

A run is over for the generator when all is answered, and here when all of it is in Kafka: CPU and syncs are counted until then."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/python"))

import watch  # noqa: E402

# Mode, milliseconds added to each sync, and messages that a client has unanswered at most: with 64 of them a slow sync leaves nothing to do until
# it is over; with many it shows what is left of the rate.
WINDOWS = (64, 1024)
RUNS = [(mode, delay_ms, window) for window in WINDOWS for mode, delay_ms in (("memory", 0), ("stored", 0), ("stored", 2), ("stored", 10))]
PATIENCE_S = 600


class Side:
    """One service."""

    def __init__(self, text: str):
        self.mqtt, self.control, self.pid = text.split(",")

    def numbers(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.control}/metrics", timeout=30) as answer:
            return watch.read(answer.read().decode())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(bench: str, side: Side, messages: int, window: int) -> dict:
    before, cpu_s, began = side.numbers(), side.cpu_s(), time.monotonic()
    done = subprocess.run(
        [bench, "publish", "--target", side.mqtt, "--messages", str(messages), "--window", str(window)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    while (after := side.numbers())["sink_buffered_records"]:
        if time.monotonic() > began + PATIENCE_S:
            raise SystemExit(f"{after['sink_buffered_records']} messages are not in Kafka after {PATIENCE_S} s")
        time.sleep(0.02)
    whole_s = time.monotonic() - began
    told = {name: after[name] - before[name] for name in ("sink_records_out_delivered", "sink_batches", "spool_sync_seconds_count", "spool_sync_seconds_sum", "spool_group_bytes_count", "spool_records_written", "spool_written_bytes")}
    if told["sink_records_out_delivered"] != messages:
        raise SystemExit(f"{told['sink_records_out_delivered']} of {messages} messages were delivered")
    return {
        "messages": messages, "wall_s": round(result["wall_s"], 3), "messages_per_s": round(result["messages_per_s"]),
        "in_kafka_per_s": round(messages / whole_s), "cpu_us_per_message": round((side.cpu_s() - cpu_s) * 1e6 / messages, 4),
        "answer_p50_us": result["answer_p50_us"], "answer_p99_us": result["answer_p99_us"], "answer_max_us": result["answer_max_us"],
        "records_per_batch": round(messages / max(told["sink_batches"], 1), 1), "syncs": told["spool_sync_seconds_count"],
        "sync_us": round(told["spool_sync_seconds_sum"] * 1e6 / told["spool_sync_seconds_count"]) if told["spool_sync_seconds_count"] else None,
        "rows_per_group": round(told["spool_records_written"] / told["spool_group_bytes_count"], 1) if told["spool_group_bytes_count"] else None,
        "spool_bytes_per_message": round(told["spool_written_bytes"] / messages, 1) if told["spool_group_bytes_count"] else None,
    }  # fmt: skip


def main() -> None:
    bench, rounds, messages, faults = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    sides = {name: Side(rest) for name, _, rest in (text.partition("=") for text in sys.argv[5:])}
    for side in sides.values():  # warm: topic made, Kafka's compiler at work
        run(bench, side, min(messages, 100_000), 64)
    for number in range(1, rounds + 1):
        # Each begins a round in its turn.
        turn = number % len(RUNS)
        for mode, delay_ms, window in RUNS[turn:] + RUNS[:turn]:
            faults.write_text(f"sync_delay_ms = {delay_ms}\n" if delay_ms else "")
            time.sleep(0.1)  # it is read again every 10 ms
            print(json.dumps({"round": number, "mode": mode, "delay_ms": delay_ms, "window": window} | run(bench, sides[mode], messages, window)), flush=True)


main()

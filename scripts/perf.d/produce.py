#!/usr/bin/env python3
"""The way to Kafka beside librdkafka's and Java's: CPU a message at pattern B, in turn, all in front of a sink that answers. `scripts/perf produce` runs it.

    produce.py BENCH FOREBAY ROUNDS MESSAGES

  forebay           100 connections, QoS 1, sixteen messages a write, "replicated": MQTT and the way to Kafka
  forebay, no sink  the same messages, which match no sink: MQTT alone. The difference is what the way to Kafka costs
  librdkafka        kcat sends as many messages of 100 bytes out of a file: acks=all, idempotent, linger and batch size as Forebay's
  java              Kafka's own ProducerPerformance, with the same settings. A run of three times as many messages less a run of as many, divided by the
                    difference: the start of the virtual machine and most of its compiling are not in it"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from runs import CACHE, folder, say, sink, turns

PAYLOAD = 100
SETTINGS = ("acks=all", "enable.idempotence=true", "linger.ms=5", "batch.size=262144", "queue.buffering.max.messages=1000000")


def forebay(bench: str, program: str, work: Path, messages: int) -> list[dict]:
    """A round of both; `compare` starts them and stops them."""
    report = work / "compare.json"
    job = [bench, "compare", "--patterns", "B", "--rounds", "1", "--no-floor", "--scale", str(messages / 1e6), "--forebay", program, "--broker", "--json", str(report)]
    done = subprocess.run(job, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    targets = json.loads(report.read_text())["patterns"][0]["targets"]
    return [{"side": of["name"], "messages": messages, "cpu_us_per_message": round(of["cpu_us"], 4), "messages_per_s": round(of["messages_per_s"])} for of in targets]


def librdkafka(work: Path, address: str, messages: int) -> list[dict]:
    lines = work / "lines"
    if not lines.exists():
        lines.write_text((("x" * PAYLOAD) + "\n") * messages)
    settings = [part for setting in SETTINGS for part in ("-X", setting)]
    before = os.times()
    subprocess.run(["kcat", "-P", "-q", "-b", address, "-t", "ingest", "-l", str(lines), *settings], check=True, stdin=subprocess.DEVNULL)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return [{"side": "librdkafka", "messages": messages, "cpu_us_per_message": round(cpu_s * 1e6 / messages, 4), "messages_per_s": round(messages / (after.elapsed - before.elapsed))}]


def java(address: str, messages: int) -> list[dict]:
    jars = CACHE / "kafka" / os.environ.get("KAFKA_VERSION", "4.3.1") / "lib"

    def run(count: int) -> tuple[float, float]:
        settings = [f"bootstrap.servers={address}", *SETTINGS[:4]]
        job = ["java", "-cp", f"{jars}/*", "org.apache.kafka.tools.ProducerPerformance", "--topic", "ingest", "--num-records", str(count)]
        before = os.times()
        subprocess.run([*job, "--record-size", str(PAYLOAD), "--throughput", "-1", "--producer-props", *settings], check=True, stdin=subprocess.DEVNULL, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system, after.elapsed - before.elapsed

    (few, few_s), (many, many_s) = run(messages), run(3 * messages)
    return [{"side": "java", "messages": messages, "cpu_us_per_message": round((many - few) * 1e6 / messages / 2, 4), "with_start_us": round(many * 1e6 / messages / 3, 4), "messages_per_s": round(2 * messages / (many_s - few_s))}]


def main() -> None:
    bench, program, rounds, messages = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    found: dict[str, list[float]] = {}
    with folder() as work, sink(bench) as (address, _):
        sides = [lambda: forebay(bench, program, work, messages), lambda: librdkafka(work, address, messages), lambda: java(address, messages)]
        for number in range(1, rounds + 1):
            for side in turns(number, sides):
                for line in side():
                    say(round=number, **line)
                    found.setdefault(line["side"], []).append(line["cpu_us_per_message"])
    way = median(whole - mqtt for whole, mqtt in zip(found["forebay"], found["forebay, no sink"], strict=True))
    librdkafka_us, java_us = median(found["librdkafka"]), median(found["java"])
    say(way_to_kafka_us=round(way, 4), librdkafka_us=librdkafka_us, ratio=round(way / librdkafka_us, 3), ratio_with_mqtt=round(median(found["forebay"]) / librdkafka_us, 3), java_us=java_us, ratio_to_java=round(way / java_us, 3))


main()

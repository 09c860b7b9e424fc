#!/usr/bin/env python3
"""Time from PUBLISH until Kafka has acknowledged, beside a producer that sends to Kafka itself: 5,000 messages a second of 100 bytes, in turn,
into the same Apache Kafka. `scripts/perf latency` runs it.

    latency.py BENCH ROUNDS SECONDS BOOTSTRAP
    latency.py --direct BOOTSTRAP SECONDS LINGER_MS     librdkafka alone, by confluent-kafka; a line of JSON

  forebay           pattern L: 200 connections, QoS 1, "replicated"; from when a message is due to its PUBACK
  librdkafka, N ms  one producer, 200 keys, acks=all, idempotent, linger.ms N; from when a message is due to its delivery report

Both count from when a message is due, so a pause shows in all messages that it delays."""

import json
import subprocess
import sys
import time
from statistics import median

from runs import figures, folder, forebay, load, python_of_tests, say, turns

RATE = 5_000
CLIENTS = 200
LINGERS_MS = (0, 5)


def direct(bootstrap: str, seconds: float, linger_ms: int) -> None:
    from confluent_kafka import Producer  # of the tests' environment

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": linger_ms})
    waits: list[float] = []
    payload, keys = b"x" * 100, [f"dev/{number}/telemetry".encode() for number in range(CLIENTS)]

    def send(count: int, noted: list[float]) -> None:
        begin = time.perf_counter()
        for number in range(count):
            due = begin + number / RATE
            while (left := due - time.perf_counter()) > 0:
                producer.poll(min(left, 0.001))
            report = lambda error, _, due=due: noted.append(float("inf") if error else time.perf_counter() - due)
            producer.produce("ingest", payload, keys[number % CLIENTS], on_delivery=report)
            producer.poll(0)
        producer.flush(30)

    send(RATE, [])  # warm: metadata, connections, a producer id
    cpu_s, began = time.process_time(), time.perf_counter()
    send(int(RATE * seconds), waits)
    waits.sort()
    at = lambda share: round(waits[min(int(len(waits) * share), len(waits) - 1)] * 1e6)
    print(json.dumps({"messages": len(waits), "wall_s": round(time.perf_counter() - began, 3), "cpu_us_per_message": round((time.process_time() - cpu_s) * 1e6 / len(waits), 2), "p50_us": at(0.5), "p99_us": at(0.99)}))


def main() -> None:
    bench, rounds, seconds, bootstrap = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    found: dict[str, list[float]] = {}
    with folder() as work, forebay(work, bootstrap) as service:
        job = ("run", "--pattern", "L", "--scale", str(seconds / 4))

        def through_forebay() -> dict:
            line = figures(load(bench, service, work, *job))
            return {"side": "forebay", "p50_us": line.pop("puback_p50_us"), "p99_us": line.pop("puback_p99_us"), **line}

        def of_librdkafka(linger_ms: int) -> dict:
            command = [python_of_tests(), __file__, "--direct", bootstrap, str(seconds), str(linger_ms)]
            return {"side": f"librdkafka, {linger_ms} ms", **json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)}

        sides = [through_forebay, *(lambda linger_ms=linger_ms: of_librdkafka(linger_ms) for linger_ms in LINGERS_MS)]
        load(bench, service, work, "run", "--pattern", "L", "--scale", "0.5")  # warm: topic made, Kafka's compiler at work
        for number in range(1, rounds + 1):
            for side in turns(number, sides):
                line = side()
                say(round=number, **line)
                found.setdefault(line["side"], []).append(line["p99_us"])
    ours = found.pop("forebay")
    for name, theirs in found.items():
        say(beside=name, forebay_p99_us=median(ours), p99_us=median(theirs), ratio=round(median(a / b for a, b in zip(ours, theirs, strict=True)), 3))


if sys.argv[1] == "--direct":
    direct(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
else:
    main()

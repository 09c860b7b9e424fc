#!/usr/bin/env python3
"""Kafka's own Java tools against the embedded log: java_tools.py [--only TEXT] [--show]

A service with nothing but its embedded log is started; each tool runs once and what it says is checked. KAFKA_VERSION says whose jars
(scripts/kafka install). One line a tool; exit status 0 if all did what they should. What each did stands in docs/EMBEDDED_LOG.md.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service import ROOT, Service

CONFIG = """\
[service]
shards = 1
pin = false
data_dir = "{folder}/data"
[control]
bind = "127.0.0.1:0"
[[listener]]
bind = "127.0.0.1:0"
[embedded]
bind = "127.0.0.1:0"
[[sink]]
name = "all"
filters = ["#"]
topic = "mqtt"
"""
TIMEOUT_S = 60
RECORDS = 20_000
COUNT = 10  # of the console producer
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONFIGS = "kafka.admin.ConfigCommand"
TOPICS = "org.apache.kafka.tools.TopicCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
PRODUCER_PERF = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER_PERF = "org.apache.kafka.tools.ConsumerPerformance"
LINES = "".join(f"key {n}:value {n}\n" for n in range(COUNT))


def cases(version: str):
    """(what, class, arguments behind --bootstrap-server, pattern that must be found in what it says, its standard input)."""
    old = version.startswith("3.")
    console_producer = "kafka.tools.ConsoleProducer" if old else "org.apache.kafka.tools.ConsoleProducer"
    reader = "--property" if old else "--reader-property"
    printer = "--property" if old else "--formatter-property"
    perf_count = "--messages" if old else "--num-records"
    yield "topics --create", TOPICS, ["--create", "--topic", "tools", "--partitions", 2], r"Created topic tools\.", None
    yield "topics --alter", TOPICS, ["--alter", "--topic", "tools", "--partitions", 3], r"^$", None
    yield "topics --list", TOPICS, ["--list"], r"(?m)^tools$", None
    yield "topics --describe", TOPICS, ["--describe", "--topic", "tools"], r"PartitionCount: 3[\s\S]*Partition: 2\s+Leader: 1", None
    yield "configs --alter of a topic", CONFIGS, ["--alter", "--entity-type", "topics", "--entity-name", "tools", "--add-config", "retention.ms=86400000"], r"Completed updating", None
    yield "configs --describe of a topic", CONFIGS, ["--describe", "--entity-type", "topics", "--entity-name", "tools"], r"retention\.ms=86400000", None
    yield "configs --alter --delete-config", CONFIGS, ["--alter", "--entity-type", "topics", "--entity-name", "tools", "--delete-config", "retention.ms"], r"Completed updating", None
    yield "configs --describe --all of the broker", CONFIGS, ["--describe", "--all", "--entity-type", "brokers", "--entity-name", "{node}"], r"log\.retention\.ms=", None
    yield "console producer", console_producer, ["--topic", "tools", reader, "parse.key=true", reader, "key.separator=:"], r"^>*\s*$", LINES
    yield "console consumer, as a group", "org.apache.kafka.tools.consumer.ConsoleConsumer", ["--topic", "tools", "--from-beginning", "--group", "readers", "--max-messages", COUNT, "--timeout-ms", 20_000, printer, "print.key=true"], r"(?m)^key 7\tvalue 7$", None
    yield "groups --list", GROUPS, ["--list"], r"(?m)^readers$", None
    yield "groups --describe", GROUPS, ["--describe", "--group", "readers"], r"(?m)^readers\s+tools\s+[0-2]\s+\d+\s+\d+\s+0\s", None
    yield "groups --describe --state", GROUPS, ["--describe", "--group", "readers", "--state"], r"readers[\s\S]*Empty", None
    yield "groups --reset-offsets", GROUPS, ["--reset-offsets", "--group", "readers", "--topic", "tools", "--to-earliest", "--execute"], r"readers\s+tools\s+[0-2]\s+0\b", None
    yield "groups --describe, after", GROUPS, ["--describe", "--group", "readers"], r"(?m)^readers\s+tools\s+[0-2]\s+0\s+(\d+)\s+\1\s", None
    yield "groups --delete", GROUPS, ["--delete", "--group", "readers"], r"\('readers'\) was successful", None
    yield "offsets (GetOffsetShell)", OFFSETS, ["--topic", "tools"], rf"^(?=[\s\S]*tools:2:\d+)(?:tools:\d:\d+\s*){{3}}$", None
    yield "offsets --time earliest", OFFSETS, ["--topic", "tools", "--time", "earliest"], r"tools:0:0\s+tools:1:0\s+tools:2:0", None
    produce = ["--topic", "tools", "--num-records", RECORDS, "--record-size", 100, "--throughput", -1]
    for acks in ("all", "1", "0"):
        yield f"producer performance test, acks={acks}", PRODUCER_PERF, [*produce, "--producer-props", "bootstrap.servers={address}", f"acks={acks}"] + (["enable.idempotence=false"] if acks != "all" else []), rf"(?m)^{RECORDS} records sent", None
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        yield f"producer performance test, {codec}", PRODUCER_PERF, [*produce, "--producer-props", "bootstrap.servers={address}", f"compression.type={codec}"], rf"(?m)^{RECORDS} records sent", None
    yield "consumer performance test", CONSUMER_PERF, ["--topic", "tools", perf_count, 7 * RECORDS, "--timeout", 30_000], rf", 1400\d\d, ", None
    yield "transactions describe-producers", "org.apache.kafka.tools.TransactionsCommand", ["describe-producers", "--topic", "tools", "--partition", 0], r"(?m)^\d+\s+\d+", None
    yield "cluster-id", "org.apache.kafka.tools.ClusterTool", ["cluster-id", "--bootstrap-server", "{address}"], r"Cluster ID: \S+", None
    yield "topics --delete", TOPICS, ["--delete", "--topic", "tools"], r"^$", None
    yield "topics --list, after", TOPICS, ["--list"], r"(?m)\A(?![\s\S]*^tools$)", None


def command(name: str, arguments: list, address: str) -> list[str]:
    words = [str(word).format(address=address, node=1) for word in arguments]
    if "--bootstrap-server" not in words and name != PRODUCER_PERF:
        words = ["--bootstrap-server", address, *words]
    return [str(ROOT / "scripts/kafka"), "tool", name, *words]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", help="tools whose line has it")
    parser.add_argument("--show", action="store_true", help="what each tool says")
    options = parser.parse_args()
    version = os.environ.get("KAFKA_VERSION", "4.3.1")
    failed = count = 0
    with tempfile.TemporaryDirectory(prefix="forebay-tools-") as folder:
        service = Service(Path(folder), CONFIG.format(folder=folder))
        service.start()
        try:
            for what, name, arguments, pattern, given in cases(version):
                if options.only and options.only not in what:
                    continue
                began = time.monotonic()
                try:
                    done = subprocess.run(command(name, arguments, service.addresses["embedded"]), input=given or "", capture_output=True, text=True, timeout=TIMEOUT_S)
                    said, status = done.stdout, done.returncode
                    more = done.stderr
                except subprocess.TimeoutExpired as late:
                    said, more, status = str(late.stdout), f"not done after {TIMEOUT_S} s", -1
                fine = status == 0 and re.search(pattern, said.strip()) is not None
                count, failed = count + 1, failed + (not fine)
                print(f"{'ok    ' if fine else 'FAILED'} {time.monotonic() - began:5.1f} s  {what}", flush=True)
                if not fine or options.show:
                    print(f"  status {status}; expected {pattern}\n  {said.strip()[-1500:]}\n  {more.strip()[-1500:]}", flush=True)
        finally:
            service.stop()
    print(f"Kafka {version}: {count - failed} of {count} tools did what they should")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that an end from outside cleans up too
    sys.exit(main())

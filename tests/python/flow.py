#!/usr/bin/env python3
"""The flow test: many real clients publish numbered messages through one Forebay while Kafka goes away and comes back; then Kafka's own
consumer reads everything and `checker.py` judges it.

    flow.py --messages 20000 --clients 24 --outage 4          what scripts/test runs
    flow.py --messages 1000000 --clients 200 --outage 20      the acceptance run
    flow.py --embedded --messages 20000 --clients 24          the embedded log instead, read by kcat
    flow.py --late 5                                          Kafka is away when the service starts

What happens, in order:
  1. a Kafka of its own is started (scripts/kafka) and a topic is made;
  2. the service is started with two shards, on free ports;
  3. the publishers are started: paho, mqtt.js, rumqttc, mosquitto_pub; MQTT 3.1, 3.1.1, 5.0; QoS 0, 1, 2;
  4. when a third of the messages is in Kafka, Kafka is stopped for --outage seconds;
  5. the publishers end by themselves when all they sent is acknowledged; the service gets SIGTERM and must end in order;
  6. the topic is read and judged.

Exit status 0: every promise held. Everything is kept in the run's directory if not, or with --keep; `checker.py DIRECTORY` judges it again.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import checker
import publishers
import readers
from service import ROOT, Service

TOPIC = "flow"
HEADER = "client"

CONFIG = """\
[service]
shards = {shards}
data_dir = "{folder}/data"

[control]
bind = "127.0.0.1:0"

[[listener]]
bind = "127.0.0.1:0"
transport = "tcp"

{cluster}
[[sink]]
name = "flow"
{kafka}filters = ["flow/#"]
topic = "{topic}"
headers = {{ {header} = "${{clientid}}" }}
acknowledge = "{acknowledge}"
compression = "{compression}"
"""

KAFKA = """\
[kafka.main]
bootstrap = "{}"
"""
EMBEDDED = """\
[embedded]
bind = "127.0.0.1:0"
partitions = {}
"""


class Run:
    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.began = time.monotonic()
        self.kafka_dir = folder / "kafka"
        self.bootstrap = ""
        self.service: Service | None = None
        self.publishers: publishers.Publishers | None = None
        self.faults: list[str] = []

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    # ---- the steps -------------------------------------------------------------------------------------------------------------

    def start_kafka(self) -> None:
        options = self.options
        self.bootstrap = readers.kafka("start", "--dir", self.kafka_dir, "--brokers", options.brokers, "--auto-create", "false")
        readers.create_topic(self.bootstrap, TOPIC, options.partitions)
        self.say(f"Apache Kafka at {self.bootstrap}, topic {TOPIC} with {options.partitions} partitions")
        if options.late:
            readers.kafka("stop", "--dir", self.kafka_dir)
            self.say("and stopped again: the service comes first")

    def start_service(self) -> None:
        options = self.options
        config = CONFIG.format(
            folder=self.folder,
            shards=options.shards,
            topic=TOPIC,
            header=HEADER,
            acknowledge=options.acknowledge,
            compression=options.compression,
            cluster=EMBEDDED.format(options.partitions) if options.embedded else KAFKA.format(self.bootstrap),
            kafka="" if options.embedded else 'kafka = "main"\n',
        )
        self.service = Service(self.folder, config)
        self.service.start()
        if options.embedded:
            self.bootstrap = self.service.addresses["embedded"]
        self.say(f"{self.service.program} ready: {self.service.addresses}")

    def start_publishers(self) -> None:
        specs = publishers.plan(self.options.clients, self.options.messages)
        reader = self.options.reader or ("kcat" if self.options.embedded else "java")
        (self.folder / "plan.json").write_text(json.dumps({"clients": specs, "reader": reader, "header": HEADER}))
        self.publishers = publishers.Publishers(self.folder, self.service.mqtt_port, specs)
        self.say(f"{len(specs)} clients publish {self.options.messages:,} messages")

    def late_kafka(self) -> None:
        time.sleep(self.options.late)
        for client, told in self.clients().items():
            if told.acknowledged:
                self.faults.append(f"{client} got {len(told.acknowledged)} acknowledgements while Kafka had never been there")
        readers.kafka("start", "--dir", self.kafka_dir)
        self.say("Kafka is there now")

    def outage(self) -> None:
        wanted = self.options.messages // 3
        while (stored := self.stored()) < wanted:
            if not self.publishers.running():
                self.faults.append(f"the publishers ended with {stored:,} messages in Kafka, before the outage")
                return
            time.sleep(0.1)
        readers.kafka("stop", "--dir", self.kafka_dir)
        self.say(f"Kafka stopped with {stored:,} messages in it")
        time.sleep(self.options.outage)
        if not self.publishers.running() and self.options.acknowledge != "received":
            self.faults.append("the publishers ended while Kafka was away: answers came too early, or the outage too late")
        readers.kafka("start", "--dir", self.kafka_dir)
        self.say("Kafka started again")

    def finish(self) -> None:
        self.faults += self.publishers.wait(self.options.timeout)
        self.say(f"publishers done; {self.service.figures()}")
        if not self.options.embedded:
            self.stop_service()

    def stop_service(self) -> None:
        status = self.service.stop()
        self.say(f"service ended with status {status}")
        if status != 0:
            self.faults.append(f"the service ended with status {status} after SIGTERM; its log:\n{self.service.tail()}")

    def read(self) -> None:
        reader = json.loads((self.folder / "plan.json").read_text())["reader"]
        ends = readers.ends(self.bootstrap, TOPIC)
        if self.options.embedded:
            # A message of QoS 0 has no answer that tells when it is there: wait until the log no longer grows.
            while (later := readers.ends(self.bootstrap, TOPIC)) != ends or time.sleep(0.5):
                ends = later
                time.sleep(0.5)
        (self.folder / "ends.json").write_text(json.dumps(ends))
        readers.dump(reader, self.bootstrap, TOPIC, sum(ends.values()), self.folder / "records.txt", self.kafka_dir)
        self.say(f"{sum(ends.values()):,} records read by {reader}")
        if self.options.embedded:
            self.stop_service()

    def judge(self) -> bool:
        plan = json.loads((self.folder / "plan.json").read_text())
        ends = {int(p): end for p, end in json.loads((self.folder / "ends.json").read_text()).items()}
        verdict = checker.judge(self.clients(), readers.parse(plan["reader"], self.folder / "records.txt"), ends, header=HEADER)
        for text in self.faults:
            verdict.fault("run", text)
        print(verdict.text())
        self.say("PASSED: every promise held" if verdict.passed else f"FAILED: see {self.folder}")
        return verdict.passed

    # ---- helpers ---------------------------------------------------------------------------------------------------------------

    def clients(self) -> dict[str, checker.Told]:
        return checker.read_clients(self.folder)

    def stored(self) -> int:
        return sum(readers.ends(self.bootstrap, TOPIC).values())

    def clean_up(self) -> None:
        if self.publishers:
            self.publishers.kill()
        if self.service:
            self.service.kill()
        if self.kafka_dir.exists():
            readers.kafka("stop", "--dir", self.kafka_dir)

    def go(self) -> bool:
        if not self.options.embedded:
            self.start_kafka()
        self.start_service()
        self.start_publishers()
        if self.options.late:
            self.late_kafka()
        if self.options.outage:
            self.outage()
        self.finish()
        self.read()
        return self.judge()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--outage", type=float, default=0, metavar="SECONDS", help="stop Kafka for so long in the middle")
    parser.add_argument("--late", type=float, default=0, metavar="SECONDS", help="start Kafka so long after service and clients")
    parser.add_argument("--embedded", action="store_true", help="the embedded log instead of a Kafka")
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--acknowledge", default="replicated", choices=["received", "leader", "replicated"])
    parser.add_argument("--compression", default="none")
    parser.add_argument("--reader", choices=["java", "kcat", "confluent"], help="default: java, or kcat with --embedded")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for the publishers to end, default 600")
    parser.add_argument("--folder", type=Path, help="the run's directory (default: a new one below FOREBAY_TEST_DIR or .cache/runs)")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory also if all is well")
    options = parser.parse_args()
    if options.embedded and (options.outage or options.late or options.reader == "java"):
        parser.error("the embedded log lives in the service: it cannot be stopped or late, nor can Kafka's group consumer read it")

    runs = Path(os.environ.get("FOREBAY_TEST_DIR", ROOT / ".cache/runs"))
    runs.mkdir(parents=True, exist_ok=True)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="flow.", dir=runs))
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(options, folder.resolve())
    passed = False
    try:
        passed = run.go()
    finally:
        run.clean_up()
        if passed and not options.keep:
            shutil.rmtree(folder)
    return 0 if passed else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that an end from outside cleans up too
    sys.exit(main())

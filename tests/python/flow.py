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
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Sequence

import checker
import message
import publishers
import readers
import watch
from service import CACHE, PREAMBLE, Service

HEADER = "client"
SOCKET = re.compile(r"\S+:(\d+) +\S+:(\d+) .*pid=(\d+),")

CONFIG = PREAMBLE + """\
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
bootstrap = "{bootstrap}"
"""
EMBEDDED = """\
[embedded]
bind = "127.0.0.1:0"
partitions = {partitions}
"""


class Run:
    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.began = time.monotonic()
        self.topics = message.kafka_topics(options.by_level)
        self.kafka_dir = folder / "kafka"
        self.bootstrap = ""
        self.service: Service | None = None
        self.publishers: publishers.Publishers | None = None
        self.watch: watch.Watch | None = None
        self.marks: dict[str, float] = {}  # what happened → seconds since the start of the run
        self.faults: list[str] = []
        self.cuts = 0

    def mark(self, what: str) -> None:
        self.marks[what] = round(time.monotonic() - self.began, 1)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    # ---- the steps -------------------------------------------------------------------------------------------------------------

    def start_kafka(self) -> None:
        options = self.options
        self.bootstrap = readers.kafka("start", "--dir", self.kafka_dir, "--brokers", options.brokers, "--auto-create", "false")
        for topic in self.topics:
            readers.create_topic(self.bootstrap, topic, options.partitions, 3 if options.brokers >= 3 else 1)
        self.say(f"Apache Kafka at {self.bootstrap}, topics {', '.join(self.topics)} with {options.partitions} partitions each")
        if options.late:
            readers.kafka("stop", "--dir", self.kafka_dir)
            self.say("and stopped again: the service comes first")

    def start_service(self) -> None:
        options = self.options
        cluster = EMBEDDED if options.embedded else KAFKA
        if options.buffer:
            cluster += f'buffer_bytes = "{options.buffer}"\n'
        config = CONFIG.format(
            folder=self.folder,
            shards=options.shards,
            topic=message.KAFKA_TOPIC + ("-${topic[2]}" if options.by_level else ""),
            header=HEADER,
            acknowledge=options.acknowledge,
            compression=options.compression,
            cluster=cluster.format(bootstrap=self.bootstrap, partitions=options.partitions),
            kafka="" if options.embedded else 'kafka = "main"\n',
        )
        self.service = Service(self.folder, config)
        self.service.start()
        if options.embedded:
            self.bootstrap = self.service.addresses["embedded"]
        self.watch = watch.Watch(self.service, options.scrape_every)
        self.watch.start()
        self.say(f"{self.service.program} ready: {self.service.addresses}")

    def start_publishers(self) -> None:
        specs = publishers.plan(self.options.clients, self.options.messages)
        reader = self.options.reader or ("kcat" if self.options.embedded else "java")
        (self.folder / "plan.json").write_text(json.dumps({"clients": specs, "reader": reader, "header": HEADER, "by_level": self.options.by_level, "cut": bool(self.options.cut)}))
        self.mark("publishers started")
        self.publishers = publishers.Publishers(self.folder, self.service.mqtt_port, specs)
        self.say(f"{len(specs)} clients publish {self.options.messages:,} messages")

    def cut_connections(self) -> None:
        """Resets a random connection of Paho again and again, until all is sent. Paho alone comes back by itself, sends again what is open
        and says which message each answer is for: rumqttc drops messages and mqtt.js reports them as failed when a connection is lost."""
        while True:
            time.sleep(self.options.cut)
            running = [(name, process) for name, process in self.publishers.processes if process.poll() is None]
            mine = {str(process.pid) for name, process in running if name.startswith("paho")}
            if not mine:
                return
            listing = subprocess.run(["ss", "-Htnp", "dport", "=", f":{self.service.mqtt_port}"], capture_output=True, text=True).stdout
            ports = [found[1] for line in listing.splitlines() if (found := SOCKET.search(line)) and found[3] in mine]
            if ports:
                port = random.choice(ports)
                subprocess.run(["ss", "-K", "sport", "=", f":{port}", "dport", "=", f":{self.service.mqtt_port}"], capture_output=True)
                self.cuts += 1

    def late_kafka(self) -> None:
        time.sleep(self.options.late)
        for client, told in self.clients().items():
            if told.acknowledged:
                self.faults.append(f"{client} got {len(told.acknowledged)} acknowledgements while Kafka had never been there")
        readers.kafka("start", "--dir", self.kafka_dir)
        self.mark("Kafka started")
        self.say("Kafka is there now")

    def outage(self) -> None:
        wanted = self.options.messages // 3
        while (stored := self.stored()) < wanted:
            if not self.publishers.running():
                self.faults.append(f"the publishers ended with {stored:,} messages in Kafka, before the outage")
                return
            time.sleep(0.1)
        who = [readers.leader(self.bootstrap, self.topics[0])] if self.options.one_broker else range(1, self.options.brokers + 1)
        self.hurt(who)
        self.mark("Kafka stopped")
        self.say(f"Kafka: {self.options.how} of {len(who)} of {self.options.brokers} brokers with {stored:,} messages in it")
        time.sleep(self.options.outage)
        if not self.options.one_broker and not self.publishers.running() and self.options.acknowledge != "received":
            self.faults.append("the publishers ended while Kafka was away: answers came too early, or the outage too late")
        self.heal(who)
        self.mark("Kafka started again")
        self.say("Kafka started again")

    def hurt(self, brokers: Sequence[int]) -> None:
        if self.options.how == "stop" and len(brokers) == self.options.brokers:
            return readers.kafka("stop", "--dir", self.kafka_dir)  # all at once: the last two of a quorum cannot stop one by one
        for broker in brokers:
            command = ("stop", "--broker", broker) if self.options.how == "stop" else (self.options.how, broker)
            readers.kafka(*command, "--dir", self.kafka_dir)

    def heal(self, brokers: Sequence[int]) -> None:
        if self.options.how != "freeze" and len(brokers) == self.options.brokers:
            return readers.kafka("start", "--dir", self.kafka_dir)
        for broker in brokers:
            command = ("thaw", broker) if self.options.how == "freeze" else ("start", "--broker", broker)
            readers.kafka(*command, "--dir", self.kafka_dir)

    def finish(self) -> None:
        self.faults += self.publishers.wait(self.options.timeout)
        self.mark("publishers done")
        self.figures = self.service.figures()
        self.say(f"publishers done; {self.figures}" + (f"; {self.cuts} connections cut" if self.cuts else ""))
        if not self.options.embedded:
            self.stop_service()

    def stop_service(self) -> None:
        self.settle()
        status = self.service.stop()
        self.say(f"service ended with status {status}")
        if status != 0:
            self.faults.append(f"the service ended with status {status} after SIGTERM; its log:\n{self.service.tail()}")

    def settle(self) -> None:
        """QoS 0 has no answer: what is still on its way is waited for."""
        for _ in range(60):
            self.watch.look()
            if self.watch.last["sink_buffered_records"] == 0 and self.watch.last["connections"] == 0:
                break
            time.sleep(0.5)
        self.watch.settled()

    def read(self) -> None:
        reader = json.loads((self.folder / "plan.json").read_text())["reader"]
        ends = self.ends()
        if self.options.embedded:
            # A message of QoS 0 has no answer that tells when it is there: wait until the log no longer grows.
            while (later := self.ends()) != ends or time.sleep(0.5):
                ends = later
                time.sleep(0.5)
        (self.folder / "ends.json").write_text(json.dumps(ends))
        for topic in self.topics:
            count = sum(ends[topic].values())
            readers.dump(reader, self.bootstrap, topic, count, self.folder / f"{topic}.records", self.kafka_dir)
            self.say(f"{count:,} records of {topic} read by {reader}")
        self.mark("read")
        if self.options.embedded:
            self.stop_service()

    def judge(self) -> bool:
        verdict = checker.judge_run(self.folder)
        for text in self.faults + watch.ledger(self.watch.last) + self.watch.faults:
            verdict.fault("run", text)
        if (delivered := self.watch.last["sink_records_out_delivered"]) != verdict.counts["records"] and not self.watch.last["sink_possible_duplicates"]:
            verdict.fault("run", f"the service counted {delivered:,} messages delivered, {verdict.counts['records']:,} are there")
        self.summarise(verdict)
        print(verdict.text())
        self.say(f"ledgers: {self.watch.scrapes}")
        self.say("PASSED: every promise held" if verdict.passed else f"FAILED: see {self.folder}")
        return verdict.passed

    # ---- helpers ---------------------------------------------------------------------------------------------------------------

    def clients(self) -> dict[str, checker.Told]:
        return checker.read_clients(self.folder)

    def ends(self) -> dict[str, dict[int, int]]:
        return {topic: readers.ends(self.bootstrap, topic) for topic in self.topics}

    def stored(self) -> int:
        return sum(sum(partitions.values()) for partitions in self.ends().values())

    def summarise(self, verdict: checker.Verdict) -> None:
        """`summary.json` in the run's directory, and where --summary says."""
        options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self.options).items()}
        summary = {
            "passed": verdict.passed,
            "options": options,
            "seconds": self.marks,
            "service": self.figures,
            "counts": dict(sorted(verdict.counts.items())),
            "faults": verdict.faults,
            "metrics": self.watch.summary(),
        }
        for file in (self.folder / "summary.json", self.options.summary):
            if file:
                file.write_text(json.dumps(summary, indent=1) + "\n")

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
        if self.options.cut:
            threading.Thread(target=self.cut_connections, daemon=True).start()
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
    parser.add_argument("--cut", type=float, default=0, metavar="SECONDS", help="reset a connection of Paho so often (as root)")
    parser.add_argument("--one-broker", action="store_true", help="the outage is that of one leader, not of the whole cluster")
    parser.add_argument("--how", default="stop", choices=["stop", "kill9", "freeze"], help="what the outage is, default stop")
    parser.add_argument("--buffer", metavar="SIZE", help="memory for messages on their way, such as 8MiB")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--acknowledge", default="replicated", choices=["received", "leader", "replicated"])
    parser.add_argument("--compression", default="none")
    parser.add_argument("--reader", choices=["java", "kcat", "confluent"], help="default: java, or kcat with --embedded")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for the publishers to end, default 600")
    parser.add_argument("--folder", type=Path, help="the run's directory (default: a new one below FOREBAY_TEST_DIR or .cache/runs)")
    parser.add_argument("--by-level", action="store_true", help="three Kafka topics by a template instead of one")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the run's figures there as JSON")
    parser.add_argument("--scrape-every", type=float, default=watch.EVERY_S, metavar="S", help=f"how often /metrics is read and its ledgers checked (default {watch.EVERY_S})")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory also if all is well")
    options = parser.parse_args()
    if options.embedded and (options.outage or options.late or options.reader == "java"):
        parser.error("the embedded log lives in the service: it cannot be stopped or late, nor can Kafka's group consumer read it")

    runs = Path(os.environ.get("FOREBAY_TEST_DIR", CACHE / "runs"))
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
